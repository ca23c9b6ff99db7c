/* conn.h — one client's socket: bytes in through one shared buffer, frames out with one writev per turn.
 *
 *   kernel --conns' buffer--> received()          conn_write(frames) --writev--> kernel, what is left: queue --> kernel
 *
 * A conn that is idle owns no buffer: its struct is all there is. Frames are shared by reference count (frame.h); the
 * queue holds references, and exists only while the kernel takes no more.
 *
 * Callbacks come from the loop or from conns_report(), never from inside conn_write() or conn_close(). */
#ifndef COTERIE_CONN_H
#define COTERIE_CONN_H

#include <uv.h>

#include "node/client/core.h"
#include "node/client/frame.h"

struct conns;
struct conn;

struct conn_calls {
    void *context;
    /* Bytes have arrived; borrowed for the call. */
    void (*received)(void *context, struct conn *conn, struct bytes bytes);
    /* So many bytes have left for the kernel; from conns_report(). */
    void (*written)(void *context, struct conn *conn, size_t bytes);
    /* The socket is closed, whoever began. Exactly once; the conn is freed when it returns. */
    void (*closed)(void *context, struct conn *conn);
};

/* All connections of one loop. `close_ms`: patience of conn_close() with a peer that does not read. */
struct conns *conns_new(uv_loop_t *loop, const struct conn_calls *calls, uint32_t close_ms);
/* Every conn is closed and the loop has run since. */
void conns_free(struct conns *conns);
uint32_t conns_count(const struct conns *conns);
/* Calls written() for each conn that has written since the last report. */
void conns_report(struct conns *conns);
/* Closes every conn at once. */
void conns_close_all(struct conns *conns);

/* Takes the connection that `server` (a uv_tcp_t of the same loop) has ready, and starts reading. NULL: it has gone. */
struct conn *conn_accept(struct conns *conns, uv_stream_t *server);

/* Queues these frames, and tries to write at once. Takes one reference to each. Once per conn and turn. */
void conn_write(struct conn *conn, struct frame *const *frames, size_t count);
/* Closes: `flush` = when all has been written and the peer has closed too, or after close_ms. What still arrives is
 * thrown away. A second call without `flush` makes haste. */
void conn_close(struct conn *conn, bool flush);
void conn_read(struct conn *conn, bool on);

/* The owner's number for it, 0 at first. */
void conn_set_number(struct conn *conn, uint64_t number);
uint64_t conn_number(const struct conn *conn);
/* "192.0.2.1:49152" or "[2001:db8::1]:49152"; "" if unknown. */
#define CONN_ADDRESS_MAX CORE_ADDRESS_MAX
void conn_peer(const struct conn *conn, char address[CONN_ADDRESS_MAX]);

#endif
