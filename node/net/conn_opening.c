/* conn_opening.c — connections whose filters are not all open: their deadline, and their turn on the thread pool.
 *
 *   opening_begin -> (bytes -> chain -> opening_work -> [queue] -> worker -> chain)* -> opening_over
 *                                                                          └ deadline -> closed
 *
 * While work is wanted or under way the socket is not read, and nobody touches the chain. Few workers: the pool also flushes
 * the log, and the loop needs a processor. Those that wait are handed over several at a time: a hand-over wakes a thread
 * up and then the loop, and clients that are through together have their CONNECTs committed together. The queue holds no
 * more than there are openings, CONNS_OPENING_MAX. */
#include "conn_private.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>

#define BATCH_MAX 8 /* some milliseconds: the first one of a batch waits for the last */

/* Whoever only connects must not keep others out: the one that has been at it longest gives way. */
static void oldest_gives_way(struct conns *conns)
{
    struct opening *oldest = conns->first_opening;
    while (oldest != NULL && oldest->conn->phase != CONN_OPEN)
        oldest = oldest->next;
    if (oldest == NULL)
        return;
    conns->counts.timed_out++;
    conn_close_now(oldest->conn);
}

void opening_begin(struct conn *conn)
{
    struct conns *conns = conn->conns;
    if (conns->counts.opening >= CONNS_OPENING_MAX)
        oldest_gives_way(conns);
    struct opening *opening = conn->wrapping->opening = memory_zeroed(1, sizeof(*opening));
    opening->conn = conn;
    conn_socket_address(conn, &opening->peer);
    opening->deadline_ms = uv_now(conns->loop) + conns->open_ms;
    opening->previous = conns->last_opening;
    if (conns->last_opening != NULL)
        conns->last_opening->next = opening;
    else
        conns->first_opening = opening;
    conns->last_opening = opening;
    conns->counts.opening++;
    conns_watch(conns);
}

void opening_over(struct conn *conn)
{
    struct conns *conns = conn->conns;
    struct opening *opening = conn->wrapping->opening;
    assert(opening->work == NO_WORK);
    if (opening->previous != NULL)
        opening->previous->next = opening->next;
    else
        conns->first_opening = opening->next;
    if (opening->next != NULL)
        opening->next->previous = opening->previous;
    else
        conns->last_opening = opening->previous;
    conns->counts.opening--;
    conn->wrapping->opening = NULL;
    free(opening);
}

bool opening_socket_closed(struct conn *conn)
{
    struct opening *opening = conn->wrapping->opening;
    if (opening->work != NO_WORK) {
        opening->conn_closed = true;
        return false;
    }
    opening_over(conn);
    return true;
}

unsigned openings_check(struct conns *conns, uint64_t now_ms, unsigned left)
{
    for (struct opening *opening = conns->first_opening;
         opening != NULL && now_ms >= opening->deadline_ms && left > 0; opening = opening->next) {
        if (opening->conn->phase == CONN_CLOSING)
            continue;
        conns->counts.timed_out++;
        conn_close_now(opening->conn);
        left--;
    }
    return left;
}

/* ---- work ---- */

static void work_run(uv_work_t *request)
{
    struct worker *worker = request->data;
    for (struct opening *opening = worker->batch; opening != NULL; opening = opening->next_waiting)
        chain_work(&opening->conn->wrapping->chain);
}

static void opening_go_on(struct opening *opening)
{
    struct conn *conn = opening->conn;
    opening->work = NO_WORK;
    if (opening->conn_closed) {
        opening_over(conn);
        conn_free(conn);
    } else if (conn->phase == CONN_OPEN) {
        conn_read(conn, true);
        wrapping_receive(conn, bytes_of(NULL, 0));
    }
}

static void feed_workers(struct conns *conns);

static void work_done(uv_work_t *request, int status)
{
    struct worker *worker = request->data;
    struct conns *conns = worker->conns;
    struct opening *opening = worker->batch, *next;
    (void)status; /* never cancelled */
    worker->batch = NULL;
    feed_workers(conns);
    for (; opening != NULL; opening = next) {
        next = opening->next_waiting;
        conns->counts.handshakes++;
        opening_go_on(opening);
    }
}

/* The next one in the queue that is still there; NULL: there is none. */
static struct opening *take_waiting(struct conns *conns)
{
    while (conns->first_waiting != NULL) {
        struct opening *opening = conns->first_waiting;
        conns->first_waiting = opening->next_waiting;
        if (conns->first_waiting == NULL)
            conns->last_waiting = NULL;
        conns->counts.waiting--;
        if (opening->conn->phase == CONN_OPEN)
            return opening;
        opening_go_on(opening); /* it has gone while it waited */
    }
    return NULL;
}

static void feed(struct worker *worker, size_t count)
{
    struct conns *conns = worker->conns;
    struct opening **place = &worker->batch;
    while (count-- > 0 && (*place = take_waiting(conns)) != NULL) {
        (*place)->work = AT_WORK;
        place = &(*place)->next_waiting;
    }
    *place = NULL;
    if (worker->batch == NULL)
        return;
    int error = uv_queue_work(conns->loop, &worker->request, work_run, work_done);
    assert(error == 0);
    (void)error;
}

/* Each idle worker gets its share of those that wait. */
static void feed_workers(struct conns *conns)
{
    for (unsigned i = 0; i < conns->workers_max && conns->counts.waiting > 0; i++) {
        size_t share = (conns->counts.waiting + conns->workers_max - 1) / conns->workers_max;
        if (conns->workers[i].batch == NULL)
            feed(&conns->workers[i], share < BATCH_MAX ? share : BATCH_MAX);
    }
}

void openings_start(struct conns *conns)
{
    unsigned half = uv_available_parallelism() / 2;
    conns->workers_max = half < 1 ? 1 : half > OPENING_WORKERS_MAX ? OPENING_WORKERS_MAX : half;
    for (unsigned i = 0; i < conns->workers_max; i++) {
        conns->workers[i].conns = conns;
        conns->workers[i].request.data = &conns->workers[i];
    }
}

void opening_work(struct conn *conn)
{
    struct conns *conns = conn->conns;
    struct opening *opening = conn->wrapping->opening;
    assert(opening != NULL && opening->work == NO_WORK);
    conn_read(conn, false);
    opening->work = WAITS_FOR_WORKER;
    opening->next_waiting = NULL;
    if (conns->last_waiting != NULL)
        conns->last_waiting->next_waiting = opening;
    else
        conns->first_waiting = opening;
    conns->last_waiting = opening;
    conns->counts.waiting++;
    feed_workers(conns);
}
