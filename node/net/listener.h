/* listener.h — the sockets that accept clients.
 *
 *   kernel --accept--> limits of this listener, proxies --> conn with the filters of its kind --> conns' opened()
 *
 * A kind of listener is a row in the table of listener.c: a name, its usual port, and what stands between the wire and
 * MQTT (PROXY, TLS, WebSocket). A burst of clients is taken in parts, one each turn of the loop. Accepting pauses
 * while file descriptors are short: RESERVED of them are kept for the log, the links and the admin HTTP; waiting clients
 * stay in the kernel's queue and are taken when others leave. So do those that come faster than connect_rate_max. */
#ifndef COTERIE_LISTENER_H
#define COTERIE_LISTENER_H

#include "conn.h"

#define LISTENER_DESCRIPTORS_RESERVED 64

struct listener;

struct listener_calls {
    void *context;
    /* Descriptors ran out (true), or there are some again. */
    void (*paused)(void *context, const char *name, bool paused);
    /* A connection is there, and within the limits of the listener. NULL: it is taken; else why not, in one sentence.
     * May be NULL itself. */
    const char *(*judge)(void *context, struct conn *conn);
    /* A connection was closed before its first byte; `why`: one sentence. */
    void (*turned_away)(void *context, struct conn *conn, const char *why);
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
    const char *protocol;   /* of TLS: ALPN */
};

const struct listener_kind *listener_kind(const char *name);   /* NULL: there is none */
const char *listener_kind_names(void);                         /* "tcp, tls ... or unix" */

#define LISTENER_PROXIES_MAX 256

/* Texts are borrowed for the life of the listener and of its connections. */
struct listener_settings {
    const char *kind, *address;
    uint32_t port;                       /* 0: the kernel's choice */
    uint32_t mode;                       /* unix: permissions */
    uint8_t door;                        /* conn_door() of its connections */
    uint32_t connections_max;            /* beyond: closed at once; 0: no limit */
    uint32_t connect_rate_max;           /* per second; 0: no limit */
    const char *proxies;                 /* as proxy_ranges_parse() takes it; "" = no PROXY header */
    struct websocket_settings websocket;
    struct tls_context *tls;             /* of a kind with LISTENER_TLS; retained */
};

/* Binds and listens. 0, or a (negative) libuv error: UV_EADDRINUSE, UV_EACCES ... */
int listener_open(uv_loop_t *loop, struct conns *conns, const struct listener_settings *settings,
                  const struct listener_calls *calls, struct listener **listener);
/* Stops accepting; freed by the loop. A unix socket is removed. */
void listener_close(struct listener *listener);
/* For connections from now on. */
void listener_set_tls(struct listener *listener, struct tls_context *tls);

/* How many connections there may be at once, given the descriptors that this process may open. Starts with no limit. */
void listener_limit(struct listener *listener, uint32_t connections_max);
/* One of its connections has closed. */
void listener_left(struct listener *listener);
/* A connection of any listener has closed: goes on accepting if it had paused. */
void listener_resume(struct listener *listener);
/* A turn of the loop ends: goes on with the clients that were too many for it. */
void listener_turn(struct listener *listener);

const char *listener_name(const struct listener *listener);      /* "tcp:0.0.0.0:1883" */
uint32_t listener_port(const struct listener *listener);         /* the real one, if 0 was asked for */
uint32_t listener_connections(const struct listener *listener);

#endif
