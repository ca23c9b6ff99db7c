/* worker.h — one thread of the load generator: a libuv loop and the clients on it.
 *
 *   bench.c --waves, start, stop--> worker --goals--> client --packets--> publisher, subscriber --counters--> bench.c
 *
 * The main thread gives orders and reads counters; nothing else crosses threads while the workers run. Histograms and
 * ledgers belong to their worker until worker_join(). A worker allocates nothing per message: it has one read buffer
 * and one write buffer, and for TLS another pair, used by whichever client has the turn. */
#ifndef BENCH_WORKER_H
#define BENCH_WORKER_H

#include "buffer.h"
#include "client.h"
#include "codec.h"
#include "histogram.h"
#include "plan.h"
#include "secure.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* What every worker counts; one thread writes, the main thread reads. */
enum counter {
    COUNTER_SENT, /* messages, each once however often it is sent again */
    COUNTER_RESENT,
    COUNTER_ACKNOWLEDGED, /* PUBACK or PUBREC; at QoS 0: written */
    COUNTER_FINISHED,     /* acknowledged or refused, and no longer in flight */
    COUNTER_REFUSED,      /* reason >= 0x80 in an acknowledgement or SUBACK */
    COUNTER_EXPECTED,     /* deliveries that the acknowledged messages promise */
    COUNTER_DELIVERED,    /* first deliveries */
    COUNTER_DUPLICATED,
    COUNTER_OUT_OF_ORDER,
    COUNTER_FOREIGN,      /* of another run, or of a topic that was not subscribed to */
    COUNTER_DAMAGED,      /* of the wrong size or content */
    COUNTER_STRAY,        /* acknowledgements of nothing that is in flight */
    COUNTER_CONNECTED,    /* CONNACKs with success */
    COUNTER_TURNED_AWAY,  /* CONNACKs without */
    COUNTER_BROKEN,       /* connections that ended without our wish */
    COUNTER_SESSION_LOST, /* Session Present 0 where it should be 1 */
    COUNTER_SESSION_ODD,  /* Session Present 1 where it should be 0 */
    COUNTER_BYTES_IN,
    COUNTER_BYTES_OUT,
    COUNTER_LAST_ACK_NS, /* times */
    COUNTER_LAST_DELIVERY_NS,
    COUNTER_COUNT,
};

enum { GAP_SLOTS_MAX = 4 * 1000 * 1000 };

enum order { ORDER_NONE, ORDER_WAVE, ORDER_START, ORDER_STOP, ORDER_CHURN, ORDER_EXIT };

struct worker {
    const struct plan *plan;
    unsigned number;
    struct worker *all; /* plan->threads of them */

    uv_thread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t tick;
    uv_check_t check;
    uv_prepare_t prepare;
    uint64_t turn_ns; /* when the last turn began */

    /* Orders of the main thread. */
    _Atomic int order;
    _Atomic bool busy;
    atomic_bool recording; /* record latencies */
    enum role wave_role;
    enum goal wave_goal;

    /* A wave: clients from `wave_next` to `wave_end` get the goal, `wave_limit` at a time. Or churn: round and round.
     */
    uint64_t wave_next, wave_begin, wave_end, wave_moving, wave_limit;
    bool wave, churning, launching;
    uint64_t churned, churning_since_ns; /* how many have begun since then */

    bool publishing, exiting;
    uint64_t started_ns; /* the same for all; set before ORDER_START */
    uint64_t stopped_ns;
    uint8_t *ack_slots; /* GAP_SLOTS_MAX: 1 for each millisecond since `started_ns` with an acknowledgement */

    struct client *clients; /* publishers, subscribers, others */
    uint64_t client_count, role_begin[ROLE_COUNT + 1];

    struct buffer input, output;
    struct buffer sealed_input, sealed_output; /* the same inside TLS: what is on the wire */
    struct ssl_ctx_st *tls;                    /* NULL without --tls */
    struct publish_template publish;
    _Atomic uint64_t *delivered_of; /* QoS 0: deliveries per publisher, shared by all workers */
    uint64_t wake_others;           /* bit per worker whose publishers got room */

    _Atomic uint64_t counters[COUNTER_COUNT];
    struct histogram acknowledged, delivered, connected;
    char trouble[160]; /* the first one; read it after worker_join() */
};

/* Starts the thread. `all` is the array that `worker` is in; delivered_of has a number per publisher. */
void worker_start(struct worker *worker, const struct plan *plan, struct worker *all, unsigned number,
                  _Atomic uint64_t *delivered_of);
void worker_join(struct worker *worker);
void worker_release(struct worker *worker); /* after worker_join() */

/* Orders; give the next when worker_busy() is false (ORDER_EXIT: at any time). A wave ends when all its clients have
 * reached the goal; the others at once; churn when it was stopped and the last client is offline. */
void worker_order(struct worker *worker, enum order order);
void worker_order_wave(struct worker *worker, enum role role, enum goal goal);
bool worker_busy(const struct worker *worker);

/* For client.c: a client has reached its goal. */
void worker_client_arrived(struct worker *worker, struct client *client);
void worker_trouble(struct worker *worker, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline uint64_t counter_get(const struct worker *worker, enum counter counter)
{
    return atomic_load_explicit(&worker->counters[counter], memory_order_relaxed);
}

static inline void counter_set(struct worker *worker, enum counter counter, uint64_t value)
{
    atomic_store_explicit(&worker->counters[counter], value, memory_order_relaxed);
}

static inline void counter_add(struct worker *worker, enum counter counter, uint64_t more)
{
    counter_set(worker, counter, counter_get(worker, counter) + more);
}

static inline bool worker_records(const struct worker *worker)
{
    return atomic_load_explicit(&worker->recording, memory_order_relaxed);
}

#endif
