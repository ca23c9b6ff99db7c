/* conn_private.h — what conn.c (the socket), conn_filters.c (bytes through filters) and conn_opening.c (until they are
 * open) share. */
#ifndef COTERIE_CONN_PRIVATE_H
#define COTERIE_CONN_PRIVATE_H

#include "conn.h"
#include "conn_ready.h"

#define CONN_READ_BYTES (64 * 1024) /* the shared buffer */

enum conn_phase { CONN_OPEN, CONN_FLUSHING, CONN_LINGERING, CONN_CLOSING };

struct queue;
struct closing;

/* A conn whose filters are not all open; in conns->first_opening, oldest first. */
struct opening {
    struct conn *conn;
    struct opening *next, *previous;
    struct opening *next_waiting; /* for the thread pool, and then in its worker's batch */
    uint64_t deadline_ms;
    struct sockaddr_storage peer; /* the kernel forgets it when the connection is reset; AF_UNSPEC: none */
    enum { NO_WORK, WAITS_FOR_WORKER, AT_WORK } work;
    bool conn_closed; /* meanwhile: to be freed when the work is done */
};

#define OPENING_WORKERS_MAX 4

/* A place on the thread pool. */
struct worker {
    uv_work_t request;
    struct conns *conns;
    struct opening *batch; /* under way; NULL: idle */
};

/* Of a conn with filters. */
struct wrapping {
    struct chain chain;
    struct opening *opening;          /* NULL: all filters are open */
    const struct proxy_header *proxy; /* once open; NULL: not behind a proxy */
    size_t plain, wire;               /* of bytes written: before the filters, and after; not taken by the kernel yet */
    size_t answers;                   /* of `wire`: what filters said by themselves */
};

struct conn {
    union stream_socket socket;
    struct conns *conns;
    struct conn *next, *previous; /* in conns->all */
    struct conn *next_report;     /* in conns->reports, if `reporting` */
    struct queue *queue;          /* NULL: everything is written */
    struct closing *closing;      /* FLUSHING, LINGERING; else NULL */
    struct wrapping *wrapping;    /* NULL: no filters */
    uint64_t number;
    int fd;
    uint32_t written; /* since the last report */
    uint8_t phase;    /* enum conn_phase */
    uint8_t door;
    bool reporting;
    bool reading;     /* what comes is wanted */
    bool in_readable; /* the set: it may be so without `reading`, until something comes */
    bool in_writable; /* while there is a queue */
};

struct conns {
    uv_loop_t *loop;
    struct conn_calls calls;
    uint32_t open_ms, close_ms;
    uint32_t count;
    uint64_t looks;         /* of this turn: reading and closing */
    uint64_t written_looks; /* of this turn: writing what was queued */
    struct conns_counts counts;
    struct conn *all, *reports;
    struct ready_set *readable, *writable;
    struct closing *closing;
    struct opening *first_opening, *last_opening;
    struct opening *first_waiting, *last_waiting;
    struct worker workers[OPENING_WORKERS_MAX];
    unsigned workers_max; /* of them, so many are used */
    uv_timer_t *timer;             /* runs while there are deadlines */
    struct chain_scratch scratch;
    struct buffer plain, wire, gathered;
    char buffer[CONN_READ_BYTES];
};

/* ---- conn.c ---- */

void conn_close_now(struct conn *conn);
/* Nothing more is written to it by anybody: flushes what there is, and closes. */
void conn_end(struct conn *conn);
/* Hands bytes to the kernel, behind all before. */
void conn_write_bytes(struct conn *conn, struct bytes bytes);
/* The socket is closed: ends the conn. */
void conn_free(struct conn *conn);
/* There is a deadline to be watched. */
void conns_watch(struct conns *conns);

/* ---- conn_filters.c ---- */

void wrapping_receive(struct conn *conn, struct bytes bytes);
void wrapping_write(struct conn *conn, struct frame *const *frames, size_t count);
/* Filters say goodbye. */
void wrapping_finish(struct conn *conn);
/* How many plain bytes have left with `size` wire bytes. */
size_t wrapping_written(struct wrapping *wrapping, size_t size);

/* ---- conn_opening.c ---- */

/* Of new conns: makes the workers ready. */
void openings_start(struct conns *conns);
void opening_begin(struct conn *conn);
/* All filters are open, or one has refused. */
void opening_over(struct conn *conn);
/* A filter wants its work done on another thread. */
void opening_work(struct conn *conn);
/* The socket is closed. False: work is under way; conn_free() comes when it is done. */
bool opening_socket_closed(struct conn *conn);
/* Closes those whose time is over, `left` at most. Returns how many more it might have closed. */
unsigned openings_check(struct conns *conns, uint64_t now_ms, unsigned left);

#endif
