/* listener.c — see listener.h.
 *
 * To add a kind: a row in `kinds`. Its filters, outermost first, turn wire bytes into MQTT bytes and back; there are
 * none for plain TCP. (tls: TLS; ws: WebSocket; wss: TLS, WebSocket. They come with the filters.)
 *
 * Waiting, for descriptors or for the next turn, uses what libuv guarantees: while an accepted connection has not been
 * taken with uv_accept(), the listening socket is not polled. Socket options are set on the listening socket; accepted
 * ones inherit them, which saves four system calls for each client. */
#include "listener.h"

#include "base/memory.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKLOG              4096 /* the kernel lowers it to somaxconn */
#define ACCEPTS_PER_TURN     64   /* some 20 us each: a burst of clients does not delay a heartbeat */
#define KEEPALIVE_IDLE_S     60   /* finds dead peers whose MQTT keep-alive is 0 or hours */
#define KEEPALIVE_INTERVAL_S 15

static const struct listener_kind kinds[] = {
    {"tcp", 1883, LISTENER_IP},
};

struct listener {
    uv_tcp_t socket;
    struct conns *conns;
    struct listener_calls calls;
    uint32_t connections_max;
    uint32_t port;
    uint32_t accepted; /* in this turn */
    enum {
        NOTHING_WAITS,
        WAITS_FOR_TURN,
        WAITS_FOR_DESCRIPTORS
    } waiting; /* what the connection that libuv holds for us waits for */
    char name[96];
};

const struct listener_kind *listener_kind(const char *name)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    return NULL;
}

const char *listener_kind_names(void)
{
    return "tcp";
}

static void take(struct listener *listener)
{
    struct conn *conn = conn_accept(listener->conns, (uv_stream_t *)&listener->socket);
    listener->accepted++;
    if (conn != NULL)
        listener->calls.accepted(listener->calls.context, conn, listener->name);
}

/* One connection is there: takes it, or says what it waits for. */
static void take_or_wait(struct listener *listener)
{
    if (conns_count(listener->conns) >= listener->connections_max) {
        listener->waiting = WAITS_FOR_DESCRIPTORS;
        listener->calls.paused(listener->calls.context, listener->name, true);
    } else if (listener->accepted >= ACCEPTS_PER_TURN) {
        listener->waiting = WAITS_FOR_TURN;
    } else {
        listener->waiting = NOTHING_WAITS;
        take(listener);
    }
}

static void connection_ready(uv_stream_t *server, int status)
{
    struct listener *listener = server->data;
    if (status == 0) /* else the client left before we came to it, or libuv shed it for want of descriptors */
        take_or_wait(listener);
}

void listener_resume(struct listener *listener)
{
    if (listener->waiting != WAITS_FOR_DESCRIPTORS || conns_count(listener->conns) >= listener->connections_max)
        return;
    listener->calls.paused(listener->calls.context, listener->name, false);
    take_or_wait(listener);
}

void listener_turn(struct listener *listener)
{
    listener->accepted = 0;
    if (listener->waiting == WAITS_FOR_TURN)
        take_or_wait(listener);
}

void listener_limit(struct listener *listener, uint32_t connections_max)
{
    listener->connections_max = connections_max;
}

static void listener_closed(uv_handle_t *handle)
{
    free(handle->data);
}

void listener_close(struct listener *listener)
{
    uv_close((uv_handle_t *)&listener->socket, listener_closed);
}

static void inherit_options(const uv_tcp_t *socket)
{
    static const struct {
        int level, option, value;
    } settings[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S},
    };
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)socket, &fd) != 0)
        return;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        setsockopt(fd, settings[i].level, settings[i].option, &settings[i].value, sizeof(settings[i].value));
}

static int bind_to(uv_tcp_t *socket, const char *address, uint32_t port)
{
    struct sockaddr_storage storage;
    if (uv_ip4_addr(address, (int)port, (struct sockaddr_in *)&storage) != 0) {
        int error = uv_ip6_addr(address, (int)port, (struct sockaddr_in6 *)&storage);
        if (error != 0)
            return error;
    }
    return uv_tcp_bind(socket, (struct sockaddr *)&storage, 0);
}

static uint32_t bound_port(const uv_tcp_t *socket)
{
    struct sockaddr_storage storage;
    int size = sizeof(storage);
    if (uv_tcp_getsockname(socket, (struct sockaddr *)&storage, &size) != 0)
        return 0;
    return ntohs(storage.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&storage)->sin6_port
                                               : ((struct sockaddr_in *)&storage)->sin_port);
}

int listener_open(uv_loop_t *loop, struct conns *conns, const char *kind, const char *address, uint32_t port,
                  const struct listener_calls *calls, struct listener **out)
{
    if (listener_kind(kind) == NULL)
        return UV_ENOTSUP;
    struct listener *listener = memory_zeroed(1, sizeof(*listener));
    uv_tcp_init(loop, &listener->socket);
    listener->socket.data = listener;
    listener->conns = conns;
    listener->calls = *calls;
    listener->connections_max = UINT32_MAX;
    int error = bind_to(&listener->socket, address, port);
    if (error == 0)
        error = uv_listen((uv_stream_t *)&listener->socket, BACKLOG, connection_ready);
    if (error != 0) {
        listener_close(listener);
        return error;
    }
    inherit_options(&listener->socket);
    listener->port = bound_port(&listener->socket);
    snprintf(listener->name, sizeof(listener->name), strchr(address, ':') != NULL ? "%s:[%s]:%u" : "%s:%s:%u", kind,
             address, listener->port);
    *out = listener;
    return 0;
}

const char *listener_name(const struct listener *listener)
{
    return listener->name;
}

uint32_t listener_port(const struct listener *listener)
{
    return listener->port;
}
