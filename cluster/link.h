/* link.h — the TCP connections to the other nodes: two per pair, raft's own and bulk (wire.h says what travels where).
 *
 *   consensus --links_send--> queue --links_flush, one writev per turn--> peer
 *   consensus <----frame()--- whole frames, in order <--------------------- peer
 *
 * The node with the greater id dials; the other accepts. Both say HELLO first: version, cluster, who, to whom, which
 * incarnation, which kind, which generation. What does not fit ends the connection with one clear line in the log (once
 * per minute), at the other side too. A connection that is lost is dialled again, soon at first, then every half second; the name is looked
 * up afresh each time, because containers change their addresses.
 *
 * With `tls` both sides show a certificate of the cluster's own CA, whose subject alternative name is the URI
 * coterie://CLUSTER/NODE: the dialling side looks for the node it wants, the accepting one for the node that HELLO names.
 * A peer that speaks without TLS is refused. Without `tls` anybody who reaches the port can be a node.
 *
 * A link that is up delivers every frame or goes down: nothing is dropped in the middle. Callbacks come from the
 * loop, never from inside a call of these functions. */
#ifndef COTERIE_LINK_H
#define COTERIE_LINK_H

#include <uv.h>

#include "tls.h"
#include "wire.h"

#define LINK_ERROR_MAX 256
#define LINK_BACKLOG_BYTES (4u * 1024 * 1024)            /* senders that can wait or drop look at links_backlog() */
#define LINK_QUEUE_BYTES_MAX (2u * WIRE_FRAME_BYTES_MAX) /* unsent bytes beyond which the connection is given up */

struct links;

struct link_peer {
    uint32_t node;
    const char *address;             /* host:port; copied */
};

struct links_settings {
    uint8_t cluster_id[16];
    const char *cluster_name;        /* of the URI in certificates; outlives the links */
    struct tls_context *tls;         /* NULL: plain; retained */
    uint32_t self;
    uint64_t incarnation;
    uint64_t replacement;            /* 0: the first life of this node id */
    uint64_t generation;             /* generations of this process start above: greater than in any former life */
    uint32_t silence_ms;             /* a peer that acknowledges nothing for so long is given up (TCP) */
    const char *listen_host;         /* name or literal address to bind */
    uint32_t listen_port;
    const struct link_peer *peers;   /* all but this node; copied */
    uint32_t peer_count;
};

struct links_calls {
    void *context;
    /* `in`: the generation in the peer's HELLO, `out`: ours. It replaces the link of this peer and kind before. */
    void (*up)(void *context, uint32_t peer, enum link_kind kind, uint64_t in, uint64_t out, struct node_life life);
    void (*down)(void *context, uint32_t peer, enum link_kind kind, uint64_t in);
    /* A whole frame, borrowed for the call. */
    void (*frame)(void *context, uint32_t peer, enum link_kind kind, struct bytes frame);
    /* NULL: `peer` may have this incarnation. Otherwise why not, for both sides' logs; borrowed. */
    const char *(*admit)(void *context, uint32_t peer, uint64_t incarnation, uint64_t replacement);
};

/* Binds, and starts to dial. STATUS_INVALID, STATUS_IO_ERROR: `error` is a sentence. Without peers nothing is bound. */
enum status links_open(uv_loop_t *loop, const struct links_settings *settings, const struct links_calls *calls,
                       struct links **links, char error[LINK_ERROR_MAX]);
/* Closes everything; memory is freed by the loop. No callback comes any more. */
void links_close(struct links *links);

/* For connections from now on; those that there are go on with what they began with. */
void links_set_tls(struct links *links, struct tls_context *tls);

/* Queues a frame (malloc'd, owned from here on). Dropped if that link is down. */
void links_send(struct links *links, uint32_t peer, enum link_kind kind, uint8_t *frame, size_t size);
/* Writes what was queued: once per turn, after all links_send(). */
void links_flush(struct links *links);
/* Bytes that the kernel has not taken yet. */
size_t links_backlog(const struct links *links, uint32_t peer, enum link_kind kind);
/* Ends the connection of that generation (`in`), if it is still the present one. */
void links_disconnect(struct links *links, uint32_t peer, enum link_kind kind, uint64_t in, const char *reason);


#endif
