/* listener.h — the sockets that accept clients.
 *
 * A kind of listener is a row in the table of listener.c: a name, its usual port, and what stands between the wire and
 * MQTT (TLS, WebSocket, PROXY). A burst of clients is taken in parts, one each turn of the loop. Accepting pauses
 * while file descriptors are short: RESERVED of them are kept for the log, the links and the admin HTTP; waiting clients
 * stay in the kernel's queue and are taken when others leave. */
#ifndef COTERIE_LISTENER_H
#define COTERIE_LISTENER_H

#include "conn.h"

#define LISTENER_DESCRIPTORS_RESERVED 64

struct listener;

struct listener_calls {
    void *context;
    /* A client has connected; `name` is the listener's, for logs. */
    void (*accepted)(void *context, struct conn *conn, const char *name);
    /* Descriptors ran out (true), or there are some again. */
    void (*paused)(void *context, const char *name, bool paused);
};

/* What a kind of listener makes use of, and so which options it has. */
enum {
    LISTENER_IP = 1,        /* address and port */
    LISTENER_LOCAL = 2,     /* a path */
    LISTENER_TLS = 4,
    LISTENER_WEBSOCKET = 8,
};
#define LISTENER_PATH_MAX 108   /* of a unix socket, with its NUL */

struct listener_kind {
    const char *name;
    uint16_t default_port;
    unsigned uses;
};

const struct listener_kind *listener_kind(const char *name);   /* NULL: there is none */
const char *listener_kind_names(void);                         /* "tcp, tls or ws" */

/* Binds and listens. 0, or a (negative) libuv error: UV_EADDRINUSE, UV_EACCES ... */
int listener_open(uv_loop_t *loop, struct conns *conns, const char *kind, const char *address, uint32_t port,
                  const struct listener_calls *calls, struct listener **listener);
/* Stops accepting; freed by the loop. */
void listener_close(struct listener *listener);

/* How many connections there may be at once, given the descriptors that this process may open. Starts with no limit. */
void listener_limit(struct listener *listener, uint32_t connections_max);
/* A connection has closed: goes on accepting if it had paused. */
void listener_resume(struct listener *listener);
/* A turn of the loop ends: goes on with the clients that were too many for it. */
void listener_turn(struct listener *listener);

const char *listener_name(const struct listener *listener);      /* "tcp:0.0.0.0:1883" */
uint32_t listener_port(const struct listener *listener);         /* the real one, if 0 was asked for */

#endif
