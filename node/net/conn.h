/* conn.h — one client's socket: bytes in through one shared buffer, frames out with one writev per turn.
 *
 *   kernel --conns' buffer--> received()          conn_write(frames) --writev--> kernel, what is left: queue --> kernel
 *   kernel --conns' buffer--> chain --> received()      conn_write(frames) --> chain --> kernel, ...
 *
 * A conn that is idle owns no buffer: its struct is all there is. Frames are shared by reference count (frame.h); the
 * queue holds references, and exists only while the kernel takes no more. With a chain of filters (chain.h) what is
 * written is one range of bytes per turn.
 *
 * A conn with filters is *opening* until all of them are open: within a time, a number of them at once, and with the
 * public-key work of their handshakes on the thread pool, a few at a time, so that neither the loop nor the flushes of
 * the log wait for it. Only then it is told of, with opened().
 *
 * Callbacks come from the loop or from conns_report(), never from inside conn_write() or conn_close(). */
#ifndef COTERIE_CONN_H
#define COTERIE_CONN_H

#include <uv.h>

#include "node/client/core.h"
#include "node/client/frame.h"
#include "chain.h"

/* A TCP or a local one, listening or connected. */
union stream_socket {
    uv_tcp_t tcp;
    uv_pipe_t pipe;
    uv_stream_t stream;
    uv_handle_t handle;
};

struct conns;
struct conn;

struct conn_calls {
    void *context;
    /* It is ready for MQTT. `facts` are borrowed for the call. */
    void (*opened)(void *context, struct conn *conn, const struct filter_facts *facts);
    /* Whether bytes are welcome in this turn; what is not read waits in the kernel. */
    bool (*takes)(void *context);
    /* Bytes have arrived; borrowed for the call. */
    void (*received)(void *context, struct conn *conn, struct bytes bytes);
    /* So many bytes have left for the kernel; from conns_report(). */
    void (*written)(void *context, struct conn *conn, size_t bytes);
    /* A filter has refused it, or found a fault in what it sent; it is being closed. `why`: one sentence. */
    void (*refused)(void *context, struct conn *conn, const char *why);
    /* The socket is closed, whoever began, also if it was never opened. Exactly once; the conn is freed when it
     * returns. */
    void (*closed)(void *context, struct conn *conn);
};

#define CONNS_OPENING_MAX 8192   /* at once; a further one takes the place of the oldest */

struct conns_counts {
    uint64_t opened, refused, timed_out;   /* of those with filters; they only grow */
    uint64_t handshakes;                   /* steps done on the thread pool */
    uint64_t looks_max;                    /* the most work of a turn: reading and closing, as the core counts */
    uint32_t opening, waiting;             /* now; of them, waiting for the thread pool */
};

/* All connections of one loop. `open_ms`: for the handshakes of filters. `close_ms`: patience of conn_close() with a peer
 * that does not read. */
struct conns *conns_new(uv_loop_t *loop, const struct conn_calls *calls, uint32_t open_ms, uint32_t close_ms);
/* Every conn is closed and the loop has run since. */
void conns_free(struct conns *conns);
uint32_t conns_count(const struct conns *conns);
void conns_counts(const struct conns *conns, struct conns_counts *counts);
/* The turn ends: calls written() for each conn that has written since the last report. The next one has time again. */
void conns_report(struct conns *conns);
/* Closes every conn at once. */
void conns_close_all(struct conns *conns);

/* Takes the connection that `server` (a uv_tcp_t or uv_pipe_t of the same loop) has ready. `door`: the owner's number of
 * the listener. NULL: it has gone. Then either conn_start() or conn_close(). */
struct conn *conn_accept(struct conns *conns, uv_stream_t *server, uint8_t door);
/* Starts reading. The filters of `chain` (NULL: none) are taken over. */
void conn_start(struct conn *conn, const struct chain *chain);

/* Queues these frames, and tries to write at once. Takes one reference to each. Once per conn and turn. */
void conn_write(struct conn *conn, struct frame *const *frames, size_t count);
/* Closes: `flush` = when all has been written and the peer has closed too, or after close_ms. What still arrives is
 * thrown away. A second call without `flush` makes haste. */
void conn_close(struct conn *conn, bool flush);
void conn_read(struct conn *conn, bool on);

uint8_t conn_door(const struct conn *conn);
/* The owner's number for it, 0 at first. */
void conn_set_number(struct conn *conn, uint64_t number);
uint64_t conn_number(const struct conn *conn);
/* Of the other end of the socket, which may be a proxy. False: unknown. */
bool conn_socket_address(const struct conn *conn, struct sockaddr_storage *address);
/* Of the client, behind whatever proxy: "192.0.2.1:49152" or "[2001:db8::1]:49152", "local" of a unix socket, "" if
 * unknown. */
#define CONN_ADDRESS_MAX CORE_ADDRESS_MAX
void conn_peer(const struct conn *conn, char address[CONN_ADDRESS_MAX]);

#endif
