/* admin_door.h — TLS before the admin HTTP, with the listeners, connections and filters that clients have (node/net).
 *
 *   kernel <--wire--> conn, TLS filter <--plain--> a pair of sockets <--> libmicrohttpd
 *
 * What the certificate of the other side has said belongs to the pair; libmicrohttpd knows its end of that by the
 * descriptor. Bounded: connections, bytes on their way in each direction, and the time within which a connection has to
 * ask something that it may.
 *
 * Until then it is a stranger's, and strangers keep nobody out: beyond what one address may have, and where all places
 * are taken, a stranger of the address that has most gives way to the newcomer. Who may ask has its place until it ends. */
#ifndef COTERIE_ADMIN_DOOR_H
#define COTERIE_ADMIN_DOOR_H

#include <uv.h>

#include "base/status.h"
#include "cluster/tls.h"

#define ADMIN_DOOR_CONNECTIONS_MAX 32
#define ADMIN_DOOR_STRANGERS_MAX   8 /* of one address; of IPv6, one network of 64 bits */
#define ADMIN_DOOR_DESCRIPTORS     (4 * ADMIN_DOOR_CONNECTIONS_MAX) /* socket and pair; and those that are about to close */

struct admin_door;

struct admin_door_settings {
    const char *address;
    uint32_t port;
    uint32_t patience_ms; /* time for TLS, and then for a first request that is granted */
    struct tls_context *tls;
};

struct admin_door_calls {
    void *context;
    /* A connection is there: `fd`, one end of a pair of sockets, is the callee's, who closes it to end the connection. */
    void (*connected)(void *context, int fd, const struct sockaddr *address, socklen_t size);
    /* After admin_door_close(): nothing of the door is left. */
    void (*closed)(void *context);
};

/* Listens. Not STATUS_OK: `error` is a sentence. */
enum status admin_door_open(uv_loop_t *loop, const struct admin_door_settings *settings, const struct admin_door_calls *calls,
                            struct admin_door **door, char *error, size_t error_size);
/* Closes everything at once; closed() follows. */
void admin_door_close(struct admin_door *door);
/* For connections from now on. Those that there are stay, but their certificates, which may be revoked, no longer count;
 * one that is in its handshake goes on with what it began with. */
void admin_door_set_tls(struct admin_door *door, struct tls_context *tls);

/* Of the connection whose end of a pair is `fd`; NULL: it has gone. Borrowed until the loop goes on. */
const struct tls_peer *admin_door_peer(const struct admin_door *door, int fd);
/* It has asked something that it may: it may stay. */
void admin_door_welcome(struct admin_door *door, int fd);

#endif
