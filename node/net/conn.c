/* conn.c — see conn.h for the flow.
 *
 *   OPEN --conn_close(flush)--> FLUSHING --queue empty--> LINGERING (FIN sent) --peer's FIN--> CLOSING --> freed
 *     └── error, peer's FIN, conn_close(at once) ────────────┴──── close_ms ──────────────────────┘
 *
 * LINGERING exists because closing a socket with unread input resets it, and a reset can overtake the last packet we
 * sent: the client would never read why we closed.
 *
 * Writing: uv_try_write() needs no memory. What the kernel does not take goes into `queue`, and follows when there is room again.
 *
 * Who is readable, and who of those with a queue is writable, come out of sets of their own (conn_ready.h): no more of them in a
 * turn than it has time for.
 *
 * A conn with filters has a `wrapping`. What the filters make of the frames of a turn is one range of bytes, tried at
 * once; what is left of it becomes a frame of the queue. The core counts plain bytes: of what the kernel has taken, the
 * same part of them is reported, and all when nothing is left. */
#include "conn_private.h"

#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define WRITE_FRAMES 512          /* in one writev; IOV_MAX is 1,024 */
#define WRITE_BYTES  (256 * 1024) /* of a queue in one turn */
#define LINGER_MS    1000         /* for the peer's FIN after ours */
#define CHECK_MS     50

/* Reading and closing, and writing what was queued, each in looks as the core counts them (some 100 ns). Whoever is outside can
 * make many sockets readable or writable at once: beyond this, they are so in the next turn. */
#define TURN_LOOKS     30000
#define READ_LOOKS     30
#define WRITE_LOOKS    30
#define BYTES_PER_LOOK 256
#define WRITTEN_BYTES_PER_LOOK 50
#define CLOSE_LOOKS    200

#define CLOSES_PER_TURN 100 /* of those whose time is over */

/* What waits for the kernel: frames[first .. count), the first of them written up to `offset`. */
struct queue {
    size_t first, count, capacity;
    size_t offset;
    struct frame **frames;
};

/* A conn that is given time to end; in conns->closing, which is short and in no order. */
struct closing {
    uv_shutdown_t request;
    struct conn *conn;
    struct closing *next, *previous;
    uint64_t deadline_ms;
};

static bool takes_readable(void *context);
static bool takes_writable(void *context);
static void conn_readable(void *context, void *item);
static void conn_writable(void *context, void *item);

/* ---- the set ---- */

struct conns *conns_new(uv_loop_t *loop, const struct conn_calls *calls, uint32_t open_ms, uint32_t close_ms)
{
    struct conns *conns = memory_zeroed(1, sizeof(*conns));
    conns->loop = loop;
    conns->calls = *calls;
    conns->open_ms = open_ms;
    conns->close_ms = close_ms;
    openings_start(conns);
    conns->timer = memory_zeroed(1, sizeof(*conns->timer));
    uv_timer_init(loop, conns->timer);
    conns->timer->data = conns;
    conns->readable = ready_new(loop, EPOLLIN, &(struct ready_calls){conns, takes_readable, conn_readable});
    conns->writable = ready_new(loop, EPOLLOUT, &(struct ready_calls){conns, takes_writable, conn_writable});
    return conns;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void conns_free(struct conns *conns)
{
    assert(conns->count == 0);
    uv_close((uv_handle_t *)conns->timer, free_handle);
    ready_free(conns->readable);
    ready_free(conns->writable);
    chain_scratch_release(&conns->scratch);
    buffer_release(&conns->plain);
    buffer_release(&conns->wire);
    buffer_release(&conns->gathered);
    free(conns);
}

uint32_t conns_count(const struct conns *conns)
{
    return conns->count;
}

void conns_counts(const struct conns *conns, struct conns_counts *counts)
{
    *counts = conns->counts;
}

void conns_report(struct conns *conns)
{
    if (conns->looks + conns->written_looks > conns->counts.looks_max)
        conns->counts.looks_max = conns->looks + conns->written_looks;
    conns->looks = conns->written_looks = 0;
    while (conns->reports != NULL) {
        struct conn *conn = conns->reports;
        size_t written = conn->written;
        conns->reports = conn->next_report;
        conn->reporting = false;
        conn->written = 0;
        if (conn->phase != CONN_CLOSING)
            conns->calls.written(conns->calls.context, conn, written);
    }
}

void conns_close_all(struct conns *conns)
{
    for (struct conn *conn = conns->all; conn != NULL; conn = conn->next)
        conn_close(conn, false);
}

/* ---- closing ---- */

static void forget_report(struct conn *conn)
{
    struct conn **place = &conn->conns->reports;
    while (*place != NULL && *place != conn)
        place = &(*place)->next_report;
    if (*place == conn)
        *place = conn->next_report;
}

static void closing_free(struct conn *conn)
{
    struct conns *conns = conn->conns;
    struct closing *closing = conn->closing;
    if (closing == NULL)
        return;
    if (closing->previous != NULL)
        closing->previous->next = closing->next;
    else
        conns->closing = closing->next;
    if (closing->next != NULL)
        closing->next->previous = closing->previous;
    free(closing);
    conn->closing = NULL;
}

/* Puts the conn into a set, or takes it out; `in` says where it is. false: the kernel has no memory for it. */
static bool watch(struct conn *conn, struct ready_set *set, bool *in, bool on)
{
    if (on && !*in)
        return *in = ready_add(set, conn->fd, conn);
    if (!on && *in) {
        ready_remove(set, conn->fd, conn);
        *in = false;
    }
    return true;
}

static void queue_free(struct conn *conn)
{
    struct queue *queue = conn->queue;
    if (queue == NULL)
        return;
    for (size_t i = queue->first; i < queue->count; i++)
        frame_release(queue->frames[i]);
    free(queue->frames);
    free(queue);
    conn->queue = NULL;
}

void conn_free(struct conn *conn)
{
    struct conns *conns = conn->conns;
    if (conn->reporting)
        forget_report(conn);
    queue_free(conn);
    closing_free(conn);
    if (conn->previous != NULL)
        conn->previous->next = conn->next;
    else
        conns->all = conn->next;
    if (conn->next != NULL)
        conn->next->previous = conn->previous;
    conns->count--;
    conns->calls.closed(conns->calls.context, conn);
    if (conn->wrapping != NULL)
        chain_release(&conn->wrapping->chain);
    free(conn->wrapping);
    free(conn);
}

static void conn_closed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    if (conn->wrapping == NULL || conn->wrapping->opening == NULL || opening_socket_closed(conn))
        conn_free(conn);
}

void conn_close_now(struct conn *conn)
{
    if (conn->phase == CONN_CLOSING)
        return;
    conn->phase = CONN_CLOSING;
    conn->conns->looks += CLOSE_LOOKS;
    watch(conn, conn->conns->readable, &conn->in_readable, false);
    watch(conn, conn->conns->writable, &conn->in_writable, false);
    uv_close(&conn->socket.handle, conn_closed);
}

static void check_deadlines(uv_timer_t *timer)
{
    struct conns *conns = timer->data;
    uint64_t now = uv_now(conns->loop);
    unsigned left = openings_check(conns, now, CLOSES_PER_TURN);
    for (struct closing *closing = conns->closing; closing != NULL && left > 0; closing = closing->next) {
        if (now < closing->deadline_ms || closing->conn->phase == CONN_CLOSING)
            continue;
        conn_close_now(closing->conn);
        left--;
    }
    if (left == 0)
        uv_timer_start(timer, check_deadlines, 0, CHECK_MS); /* the rest in the next turn */
    if (conns->closing == NULL && conns->first_opening == NULL)
        uv_timer_stop(conns->timer);
}

void conns_watch(struct conns *conns)
{
    if (!uv_is_active((uv_handle_t *)conns->timer))
        uv_timer_start(conns->timer, check_deadlines, CHECK_MS, CHECK_MS);
}

static void closing_add(struct conn *conn, uint32_t patience_ms)
{
    struct conns *conns = conn->conns;
    struct closing *closing = conn->closing;
    if (closing == NULL) {
        closing = conn->closing = memory_zeroed(1, sizeof(*closing));
        closing->conn = conn;
        closing->next = conns->closing;
        if (conns->closing != NULL)
            conns->closing->previous = closing;
        conns->closing = closing;
    }
    closing->deadline_ms = uv_now(conns->loop) + patience_ms;
    conns_watch(conns);
}

static void conn_shut_down(uv_shutdown_t *request, int status)
{
    (void)request;
    (void)status; /* the peer has gone: reading will say so */
}

/* All is written: say that nothing follows, and wait a moment for the peer to do the same. */
static void conn_linger(struct conn *conn)
{
    conn->phase = CONN_LINGERING;
    closing_add(conn, conn->conns->close_ms < LINGER_MS ? conn->conns->close_ms : LINGER_MS);
    if (uv_shutdown(&conn->closing->request, &conn->socket.stream, conn_shut_down) != 0) {
        conn_close_now(conn);
        return;
    }
    conn_read(conn, true);
}

void conn_end(struct conn *conn)
{
    if (conn->wrapping != NULL && conn->wrapping->opening != NULL)
        opening_over(conn);
    conn->phase = CONN_FLUSHING;
    if (conn->queue == NULL)
        conn_linger(conn);
    else
        closing_add(conn, conn->conns->close_ms);
}

void conn_close(struct conn *conn, bool flush)
{
    if (conn->phase == CONN_CLOSING)
        return;
    bool opening = conn->wrapping != NULL && conn->wrapping->opening != NULL;
    if (!flush || opening) {
        conn_close_now(conn);
    } else if (conn->phase == CONN_OPEN) {
        if (conn->wrapping != NULL)
            wrapping_finish(conn);
        if (conn->phase == CONN_OPEN)
            conn_end(conn);
    }
}

/* ---- reading ---- */

static bool takes_readable(void *context)
{
    const struct conns *conns = context;
    return conns->looks < TURN_LOOKS && conns->calls.takes(conns->calls.context);
}

static void conn_receive(struct conn *conn)
{
    struct conns *conns = conn->conns;
    ssize_t size;
    conns->looks += READ_LOOKS;
    do
        size = read(conn->fd, conns->buffer, CONN_READ_BYTES);
    while (size < 0 && errno == EINTR);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (size <= 0) {
        conn_close_now(conn);
        return;
    }
    conns->looks += (size_t)size / BYTES_PER_LOOK;
    if (conn->phase == CONN_OPEN && conn->wrapping != NULL)
        wrapping_receive(conn, bytes_of(conns->buffer, (size_t)size));
    else if (conn->phase == CONN_OPEN)
        conns->calls.received(conns->calls.context, conn, bytes_of(conns->buffer, (size_t)size));
}

static void conn_readable(void *context, void *item)
{
    struct conns *conns = context;
    struct conn *conn = item;
    if (conn->reading)
        conn_receive(conn);
    else
        watch(conn, conns->readable, &conn->in_readable, false);
}

void conn_read(struct conn *conn, bool on)
{
    if (conn->phase == CONN_CLOSING)
        return;
    conn->reading = on;
    if (on && !watch(conn, conn->conns->readable, &conn->in_readable, true))
        conn_close_now(conn);
}

/* ---- writing ---- */

static void note_written(struct conn *conn, size_t size)
{
    if (conn->wrapping != NULL)
        size = wrapping_written(conn->wrapping, size);
    conn->written += (uint32_t)size;
    if (!conn->reporting && size > 0) {
        conn->reporting = true;
        conn->next_report = conn->conns->reports;
        conn->conns->reports = conn;
    }
}

/* Drops `size` bytes from the front of the queue. */
static void queue_advance(struct queue *queue, size_t size)
{
    while (size > 0) {
        struct frame *frame = queue->frames[queue->first];
        size_t left = frame->size - queue->offset;
        if (size < left) {
            queue->offset += size;
            return;
        }
        size -= left;
        queue->offset = 0;
        queue->first++;
        frame_release(frame);
    }
}

static size_t queue_buffers(const struct queue *queue, uv_buf_t *buffers, size_t count_max)
{
    size_t count = 0, bytes = 0;
    for (size_t i = queue->first; i < queue->count && count < count_max && bytes < WRITE_BYTES; i++) {
        size_t skip = i == queue->first ? queue->offset : 0;
        buffers[count++] = uv_buf_init((char *)queue->frames[i]->data + skip, queue->frames[i]->size - (unsigned)skip);
        bytes += queue->frames[i]->size - skip;
    }
    return count;
}

/* As much as the kernel takes now. UV_EAGAIN: nothing; another error: the connection is broken. */
static int queue_write(struct conn *conn)
{
    uv_buf_t buffers[WRITE_FRAMES];
    size_t count = queue_buffers(conn->queue, buffers, WRITE_FRAMES);
    int result = uv_try_write(&conn->socket.stream, buffers, (unsigned)count);
    conn->conns->written_looks += WRITE_LOOKS;
    if (result > 0) {
        conn->conns->written_looks += (uint64_t)result / WRITTEN_BYTES_PER_LOOK;
        queue_advance(conn->queue, (size_t)result);
        note_written(conn, (size_t)result);
    }
    return result;
}

static bool takes_writable(void *context)
{
    const struct conns *conns = context;
    return conns->written_looks < TURN_LOOKS;
}

static void conn_writable(void *context, void *item)
{
    struct conns *conns = context;
    struct conn *conn = item;
    bool all;
    int result;
    size_t written = 0;
    do {
        result = queue_write(conn);
        written += result > 0 ? (size_t)result : 0;
        all = conn->queue->first == conn->queue->count;
    } while (result > 0 && !all && written < WRITE_BYTES);
    if (result < 0 && result != UV_EAGAIN)
        conn_close_now(conn);
    if (!all || conn->phase == CONN_CLOSING)
        return;
    watch(conn, conns->writable, &conn->in_writable, false);
    queue_free(conn);
    if (conn->phase == CONN_FLUSHING)
        conn_linger(conn);
}

/* Takes over the references. Of the first frame of a new queue, so many bytes are written. */
static void queue_add(struct conn *conn, struct frame *const *frames, size_t count, size_t partial)
{
    struct queue *queue = conn->queue;
    if (queue == NULL) {
        queue = conn->queue = memory_zeroed(1, sizeof(*queue));
        queue->offset = partial;
    }
    if (queue->count + count > queue->capacity && queue->first > queue->capacity / 2) {
        memmove(queue->frames, queue->frames + queue->first, (queue->count - queue->first) * sizeof(*frames));
        queue->count -= queue->first;
        queue->first = 0;
    }
    if (queue->count + count > queue->capacity) {
        queue->capacity = queue->capacity * 2 > queue->count + count ? queue->capacity * 2 : queue->count + count;
        queue->frames = memory_resize(queue->frames, queue->capacity * sizeof(*frames));
    }
    memcpy(queue->frames + queue->count, frames, count * sizeof(*frames));
    queue->count += count;
    if (!watch(conn, conn->conns->writable, &conn->in_writable, true))
        conn_close_now(conn);
}

/* How many of `frames` the kernel took whole; *partial bytes of the next one. -1: the connection is broken. */
static ssize_t try_write(struct conn *conn, struct frame *const *frames, size_t count, size_t *partial)
{
    uv_buf_t buffers[WRITE_FRAMES];
    size_t done = 0;
    *partial = 0;
    while (done < count) {
        size_t batch = count - done < WRITE_FRAMES ? count - done : WRITE_FRAMES, wanted = 0;
        for (size_t i = 0; i < batch; i++) {
            buffers[i] = uv_buf_init((char *)frames[done + i]->data, frames[done + i]->size);
            wanted += frames[done + i]->size;
        }
        int result = uv_try_write(&conn->socket.stream, buffers, (unsigned)batch);
        if (result == UV_EAGAIN)
            return (ssize_t)done;
        if (result < 0)
            return -1;
        note_written(conn, (size_t)result);
        size_t left = (size_t)result;
        size_t end = done + batch;
        while (done < end && left >= frames[done]->size)
            left -= frames[done++]->size;
        if ((size_t)result < wanted) {
            *partial = left;
            return (ssize_t)done;
        }
    }
    return (ssize_t)done;
}

/* As long as it is open: tries at once, and queues the rest. Takes one reference to each. */
static void write_frames(struct conn *conn, struct frame *const *frames, size_t count)
{
    size_t partial = 0;
    ssize_t done = 0;
    bool open = conn->phase == CONN_OPEN;
    if (open && conn->queue == NULL)
        done = try_write(conn, frames, count, &partial);
    if (!open || done < 0) {
        for (size_t i = 0; i < count; i++)
            frame_release(frames[i]);
        if (done < 0)
            conn_close_now(conn);
        return;
    }
    for (ssize_t i = 0; i < done; i++)
        frame_release(frames[i]);
    if ((size_t)done == count)
        return;
    queue_add(conn, frames + done, count - (size_t)done, partial);
}

void conn_write(struct conn *conn, struct frame *const *frames, size_t count)
{
    if (conn->wrapping != NULL && conn->phase == CONN_OPEN)
        wrapping_write(conn, frames, count);
    else
        write_frames(conn, frames, count);
}

void conn_write_bytes(struct conn *conn, struct bytes bytes)
{
    if (conn->queue == NULL) {
        uv_buf_t buffer = uv_buf_init((char *)bytes.data, (unsigned)bytes.size);
        int result = uv_try_write(&conn->socket.stream, &buffer, 1);
        if (result < 0 && result != UV_EAGAIN) {
            conn_close_now(conn);
            return;
        }
        size_t size = result > 0 ? (size_t)result : 0;
        note_written(conn, size);
        bytes.data += size;
        bytes.size -= size;
    }
    if (bytes.size == 0)
        return;
    struct frame *frame = frame_of(bytes);
    queue_add(conn, &frame, 1, 0);
}

/* ---- accepting ---- */

struct conn *conn_accept(struct conns *conns, uv_stream_t *server, uint8_t door)
{
    struct conn *conn = memory_zeroed(1, sizeof(*conn));
    if (server->type == UV_NAMED_PIPE)
        uv_pipe_init(conns->loop, &conn->socket.pipe, 0);
    else
        uv_tcp_init(conns->loop, &conn->socket.tcp);
    conn->socket.handle.data = conn;
    conn->conns = conns;
    conn->door = door;
    conn->next = conns->all;
    if (conns->all != NULL)
        conns->all->previous = conn;
    conns->all = conn;
    conns->count++;
    if (uv_accept(server, &conn->socket.stream) != 0) {
        conn_close_now(conn);
        return NULL;
    }
    uv_fileno(&conn->socket.handle, &conn->fd);
    return conn;
}

void conn_start(struct conn *conn, const struct chain *chain)
{
    struct conns *conns = conn->conns;
    if (chain != NULL && chain->count > 0) {
        conn->wrapping = memory_zeroed(1, sizeof(*conn->wrapping));
        conn->wrapping->chain = *chain;
        opening_begin(conn);
    } else {
        const struct filter_facts facts = {0};
        conns->calls.opened(conns->calls.context, conn, &facts);
    }
    conn_read(conn, true);
}

uint8_t conn_door(const struct conn *conn)
{
    return conn->door;
}

void conn_set_number(struct conn *conn, uint64_t number)
{
    conn->number = number;
}

uint64_t conn_number(const struct conn *conn)
{
    return conn->number;
}

bool conn_socket_address(const struct conn *conn, struct sockaddr_storage *address)
{
    int size = sizeof(*address);
    if (conn->socket.handle.type != UV_TCP)
        return false;
    if (conn->wrapping != NULL && conn->wrapping->opening != NULL &&
        conn->wrapping->opening->peer.ss_family != AF_UNSPEC) {
        *address = conn->wrapping->opening->peer;
        return true;
    }
    return uv_tcp_getpeername(&conn->socket.tcp, (struct sockaddr *)address, &size) == 0;
}

static void write_address(sa_family_t family, const void *bytes, unsigned port, char address[CONN_ADDRESS_MAX])
{
    char host[INET6_ADDRSTRLEN];
    if (uv_inet_ntop(family, bytes, host, sizeof(host)) == 0)
        snprintf(address, CONN_ADDRESS_MAX, family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, port);
}

void conn_peer(const struct conn *conn, char address[CONN_ADDRESS_MAX])
{
    struct sockaddr_storage peer;
    const struct proxy_header *proxy = conn->wrapping != NULL ? conn->wrapping->proxy : NULL;
    address[0] = '\0';
    if (conn->socket.handle.type != UV_TCP) {
        snprintf(address, CONN_ADDRESS_MAX, "local");
    } else if (proxy != NULL && proxy->known) {
        write_address(proxy->source.family, proxy->source.address, proxy->source.port, address);
    } else if (!conn_socket_address(conn, &peer)) {
        return;
    } else if (peer.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&peer;
        write_address(AF_INET6, &v6->sin6_addr, ntohs(v6->sin6_port), address);
    } else if (peer.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&peer;
        write_address(AF_INET, &v4->sin_addr, ntohs(v4->sin_port), address);
    }
}
