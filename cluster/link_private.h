/* link_private.h — what link.c (connections, HELLO, frames) and link_tls.c (bytes through TLS) share. */
#ifndef COTERIE_LINK_PRIVATE_H
#define COTERIE_LINK_PRIVATE_H

#include "link.h"

#include "base/logger.h"

#define LINK_READ_BYTES    (64 * 1024)
#define LINK_WRITE_FRAMES  256

enum line_phase { LINE_LOOKING_UP, LINE_CONNECTING, LINE_SHAKING, LINE_GREETING, LINE_UP, LINE_CLOSING };

struct piece {
    uint8_t *data;
    size_t size;
};

struct slot;

struct line {
    uv_tcp_t socket;
    struct links *links;
    struct slot *slot;            /* NULL: accepted, not greeted yet; or replaced */
    struct line *next, *previous; /* in links->lines */
    enum line_phase phase;
    bool dialled;
    bool was_up;
    bool heard; /* a frame came after HELLO: the peer has accepted ours */
    uint32_t peer;
    enum link_kind kind;
    uint64_t in, out;     /* generations */
    uint64_t deadline_ms; /* of CONNECTING, SHAKING and GREETING */
    struct tls_session *tls; /* NULL: plain */
    struct buffer sealed, writing; /* with TLS: wire bytes that the kernel has not taken; those of the uv_write */
    struct buffer input;
    struct piece *queue; /* queue[first .. count), the first of them written up to `offset` */
    size_t first, count, capacity, offset, bytes;
    size_t under_way; /* bytes of the uv_write that is out */
    uv_write_t write;
    uv_connect_t connect;
};

struct slot {
    struct links *links;
    uint32_t peer;
    enum link_kind kind;
    char host[256], port[8];
    struct line *line;
    uv_getaddrinfo_t *looking_up;
    uint64_t dial_ms; /* not before */
    uint64_t backoff_ms;
    unsigned attempt;  /* a name with several addresses: each in turn */
    unsigned failures; /* dials in a row that met nobody */
    struct log_limit limit;
};

struct links {
    uv_loop_t *loop;
    struct links_settings settings;
    struct links_calls calls;
    uv_tcp_t *server;
    uv_timer_t *timer;
    uint64_t generation;
    struct line *lines;
    struct tls_context *tls;       /* NULL: plain */
    struct buffer wire, gathered;  /* with TLS: what comes in, and what goes out, for the moment */
    uint32_t strangers;
    uint32_t accepted;             /* in this tick */
    bool accept_waits;             /* a connection, for the next tick */
    uint32_t look_ups;
    bool closing;
    struct log_limit stranger_limit;
    uint32_t slot_count;
    struct slot slots[];
};

/* ---- link.c ---- */

void line_close(struct line *line);
/* One line per minute and slot (or for all strangers): why a connection was refused or given up. */
void line_complain(struct line *line, const char *event, const char *why);
/* The handshake of TLS has ended well. */
void line_shaken(struct line *line);
/* Drops `size` bytes from the front of the queue. */
void line_drop(struct line *line, size_t size);
unsigned line_buffers(const struct line *line, uv_buf_t buffers[LINK_WRITE_FRAMES], size_t *bytes);
void line_written(uv_write_t *request, int status);

/* ---- link_tls.c ---- */

void line_tls_start(struct line *line);
void line_tls_release(struct line *line);
/* Bytes have come from the wire; what they contain is appended to line->input. */
void line_tls_receive(struct line *line, struct bytes wire);
/* Seals what is queued, and gives it to the kernel as far as that takes it. */
void line_tls_flush(struct line *line);
/* One frame at once, before the line is up. */
void line_tls_send(struct line *line, struct bytes frame);
/* Whether the other side's certificate is that of this node of our cluster. */
bool line_tls_is_node(const struct line *line, uint32_t node);

#endif
