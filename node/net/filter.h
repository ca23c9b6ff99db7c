/* filter.h — turns wire bytes into plain bytes and back, without a socket. A listener gives each of its connections
 * a chain of them (chain.h):
 *
 *   kernel --wire--> [PROXY] --> [TLS] --> [WebSocket] --plain--> MQTT
 *   kernel <--wire-- [     ] <-- [   ] <-- [         ] <--plain-- MQTT
 *
 * A filter first opens: it shakes hands with the other side. When all are open, the connection is handed to the core with
 * what they have learnt. To add one: its struct with a `struct filter` in front, its class, and a row or a flag in
 * the table of listener.c. A filter bounds what it keeps, and never blocks; work that takes long it leaves to `work`. */
#ifndef COTERIE_FILTER_H
#define COTERIE_FILTER_H

#include "base/bytes.h"
#include "cluster/tls.h"
#include "proxy_header.h"

struct filter;

enum filter_result {
    FILTER_OK,    /* all taken in */
    FILTER_WORK,  /* call work() on another thread, nothing else meanwhile; then receive() with nothing new */
    FILTER_END,   /* the other side ends the connection in order: send what is in `wire`, then close */
    FILTER_FAULT, /* it has broken the rules: the same, and fault() says why */
};

/* What filters learn about the other side. Texts live as long as the filter. */
struct filter_facts {
    const struct proxy_header *proxy; /* the real addresses; NULL: not behind a proxy */
    bool encrypted;
    struct tls_peer tls; /* if encrypted */
};

struct filter_class {
    const char *name;
    /* Takes all of `in`; appends to `plain` what goes up, to `wire` what goes back down at once. */
    enum filter_result (*receive)(struct filter *filter, struct bytes in, struct buffer *plain, struct buffer *wire);
    /* Turns what comes from above into wire bytes. Only once it is open. */
    enum filter_result (*send)(struct filter *filter, struct bytes plain, struct buffer *wire);
    /* Says goodbye; NULL: there is nothing to say. */
    void (*finish)(struct filter *filter, struct buffer *wire);
    /* On another thread; NULL: never asked for. */
    void (*work)(struct filter *filter);
    /* NULL: it learns nothing. */
    void (*facts)(const struct filter *filter, struct filter_facts *facts);
    /* One sentence for the log after FILTER_FAULT; NULL: none. Never with secrets or control characters in it. */
    const char *(*fault)(const struct filter *filter);
    void (*free)(struct filter *filter);
};

struct filter {
    const struct filter_class *class;
    bool open;
};

/* ---- those that there are ---- */

/* A PROXY header of version 1 or 2 comes first; afterwards bytes pass as they are. */
struct filter *filter_proxy_new(void);

/* The server's side of TLS. The public-key work of handshakes is `work`. Keeps the context alive. */
struct filter *filter_tls_new(struct tls_context *context);

/* Lists with commas; "" = any. Borrowed for the life of the filter. */
struct websocket_settings {
    const char *path, *origins;
    uint64_t message_bytes_max; /* of one message; it may hold several packets of MQTT, or a part of one */
};
struct filter *filter_websocket_new(const struct websocket_settings *settings);

#endif
