/* listener.c — see listener.h.
 *
 * To add a kind: a row in `kinds`, and in make_chain() what stands between the wire and MQTT, outermost first.
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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG              4096 /* the kernel lowers it to somaxconn */
#define ACCEPTS_PER_TURN     64   /* some 20 us each: a burst of clients does not delay a heartbeat */
#define KEEPALIVE_IDLE_S     60   /* finds dead peers whose MQTT keep-alive is 0 or hours */
#define KEEPALIVE_INTERVAL_S 15
#define MODE_DEFAULT         0660

static const struct listener_kind kinds[] = {
    {"tcp", 1883, LISTENER_IP, NULL},
    {"tls", 8883, LISTENER_IP | LISTENER_TLS, "mqtt"},
    {"ws", 8083, LISTENER_IP | LISTENER_WEBSOCKET, NULL},
    {"wss", 8084, LISTENER_IP | LISTENER_TLS | LISTENER_WEBSOCKET, "http/1.1"},
    {"unix", 0, LISTENER_LOCAL, NULL},
};

struct listener {
    union stream_socket socket;
    uv_timer_t timer; /* the next connection that connect_rate_max allows */
    unsigned handles; /* of both, those that are not closed */
    const struct listener_kind *kind;
    struct listener_settings settings;
    struct conns *conns;
    struct listener_calls calls;
    struct proxy_range *proxies;
    size_t proxy_count;
    uint32_t connections, descriptors_max;
    uint32_t port;
    uint32_t accepted; /* in this turn */
    uint64_t rate_us;  /* of connect_rate_max: when the next one may come, in microseconds */
    enum {
        NOTHING_WAITS,
        WAITS_FOR_TURN,
        WAITS_FOR_RATE,
        WAITS_FOR_DESCRIPTORS
    } waiting; /* what the connection that libuv holds for us waits for */
    char name[LISTENER_PATH_MAX + 8];
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
    return "tcp, tls, ws, wss or unix";
}

/* ---- accepting ---- */

static void make_chain(const struct listener *listener, struct chain *chain)
{
    if (listener->proxy_count > 0)
        chain_add(chain, filter_proxy_new());
    if ((listener->kind->uses & LISTENER_TLS) != 0)
        chain_add(chain, filter_tls_new(listener->settings.tls));
    if ((listener->kind->uses & LISTENER_WEBSOCKET) != 0)
        chain_add(chain, filter_websocket_new(&listener->settings.websocket));
}

/* NULL, or why this connection is not wanted. */
static const char *refusal(const struct listener *listener, struct conn *conn)
{
    struct sockaddr_storage address;
    if (listener->settings.connections_max > 0 && listener->connections > listener->settings.connections_max)
        return "this listener's connections_max is reached";
    if (listener->proxy_count > 0 &&
        (!conn_socket_address(conn, &address) ||
         !proxy_ranges_contain(listener->proxies, listener->proxy_count, (const struct sockaddr *)&address)))
        return "not one of the proxies that may connect (proxy_from)";
    return listener->calls.judge != NULL ? listener->calls.judge(listener->calls.context, conn) : NULL;
}

static void take(struct listener *listener)
{
    struct conn *conn = conn_accept(listener->conns, &listener->socket.stream, listener->settings.door);
    listener->accepted++;
    listener->connections++; /* also if it has gone: its closing counts it down */
    if (conn == NULL)
        return;
    const char *why = refusal(listener, conn);
    if (why != NULL) {
        listener->calls.turned_away(listener->calls.context, conn, why);
        conn_close(conn, false);
        return;
    }
    struct chain chain = {0};
    make_chain(listener, &chain);
    conn_start(conn, &chain);
}

/* Milliseconds until connect_rate_max allows one more; 0: now, and it is counted. A second's worth may come at once. */
static uint64_t rate_wait(struct listener *listener)
{
    uint64_t rate = listener->settings.connect_rate_max, now = uv_now(listener->timer.loop) * 1000;
    if (rate == 0)
        return 0;
    if (listener->rate_us > now)
        return (listener->rate_us - now) / 1000 + 1;
    uint64_t step = 1000000 / rate, earliest = now > 1000000 ? now - 1000000 : 0;
    listener->rate_us = (listener->rate_us > earliest ? listener->rate_us : earliest) + step;
    return 0;
}

static void rate_allows(uv_timer_t *timer);

/* One connection is there: takes it, or says what it waits for. */
static void take_or_wait(struct listener *listener)
{
    uint64_t wait_ms;
    if (conns_count(listener->conns) >= listener->descriptors_max) {
        listener->waiting = WAITS_FOR_DESCRIPTORS;
        listener->calls.paused(listener->calls.context, listener->name, true);
    } else if (listener->accepted >= ACCEPTS_PER_TURN) {
        listener->waiting = WAITS_FOR_TURN;
    } else if ((wait_ms = rate_wait(listener)) > 0) {
        listener->waiting = WAITS_FOR_RATE;
        uv_timer_start(&listener->timer, rate_allows, wait_ms, 0);
    } else {
        listener->waiting = NOTHING_WAITS;
        take(listener);
    }
}

static void rate_allows(uv_timer_t *timer)
{
    struct listener *listener = timer->data;
    if (listener->waiting == WAITS_FOR_RATE)
        take_or_wait(listener);
}

static void connection_ready(uv_stream_t *server, int status)
{
    struct listener *listener = server->data;
    if (status == 0) /* else the client left before we came to it, or libuv shed it for want of descriptors */
        take_or_wait(listener);
}

void listener_left(struct listener *listener)
{
    listener->connections--;
}

void listener_resume(struct listener *listener)
{
    if (listener->waiting != WAITS_FOR_DESCRIPTORS || conns_count(listener->conns) >= listener->descriptors_max)
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
    listener->descriptors_max = connections_max;
}

void listener_set_tls(struct listener *listener, struct tls_context *tls)
{
    tls_context_retain(tls);
    tls_context_release(listener->settings.tls);
    listener->settings.tls = tls;
}

/* ---- open and close ---- */

static void listener_closed(uv_handle_t *handle)
{
    struct listener *listener = handle->data;
    if (--listener->handles > 0)
        return;
    tls_context_release(listener->settings.tls);
    free(listener->proxies);
    free(listener);
}

void listener_close(struct listener *listener)
{
    uv_close(&listener->socket.handle, listener_closed);
    uv_close((uv_handle_t *)&listener->timer, listener_closed);
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

/* A socket that a process left behind which was killed: nobody answers there. */
static void remove_stale_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat facts;
    if (lstat(path, &facts) != 0 || !S_ISSOCK(facts.st_mode))
        return;
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    bool answered = connect(probe, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(probe);
    if (!answered)
        unlink(path);
}

static int open_local(struct listener *listener)
{
    const struct listener_settings *settings = &listener->settings;
    remove_stale_socket(settings->address);
    mode_t before = umask(0777); /* nobody comes before the permissions are set */
    int error = uv_pipe_bind(&listener->socket.pipe, settings->address);
    umask(before);
    if (error == 0)
        error = uv_listen(&listener->socket.stream, BACKLOG, connection_ready);
    if (error == 0 && chmod(settings->address, settings->mode != 0 ? settings->mode : MODE_DEFAULT) != 0)
        error = UV_EACCES;
    snprintf(listener->name, sizeof(listener->name), "unix:%s", settings->address);
    return error;
}

static int open_port(struct listener *listener)
{
    const struct listener_settings *settings = &listener->settings;
    int error = bind_to(&listener->socket.tcp, settings->address, settings->port);
    if (error == 0)
        error = uv_listen(&listener->socket.stream, BACKLOG, connection_ready);
    if (error != 0)
        return error;
    inherit_options(&listener->socket.tcp);
    listener->port = bound_port(&listener->socket.tcp);
    snprintf(listener->name, sizeof(listener->name), strchr(settings->address, ':') != NULL ? "%s:[%s]:%u" : "%s:%s:%u",
             settings->kind, settings->address, listener->port);
    return 0;
}

int listener_open(uv_loop_t *loop, struct conns *conns, const struct listener_settings *settings,
                  const struct listener_calls *calls, struct listener **out)
{
    const struct listener_kind *kind = listener_kind(settings->kind);
    bool local = kind != NULL && (kind->uses & LISTENER_LOCAL) != 0;
    if (kind == NULL || ((kind->uses & LISTENER_TLS) != 0) != (settings->tls != NULL))
        return UV_EINVAL;
    struct listener *listener = memory_zeroed(1, sizeof(*listener));
    if (local)
        uv_pipe_init(loop, &listener->socket.pipe, 0);
    else
        uv_tcp_init(loop, &listener->socket.tcp);
    uv_timer_init(loop, &listener->timer);
    listener->socket.handle.data = listener->timer.data = listener;
    listener->handles = 2;
    listener->kind = kind;
    listener->settings = *settings;
    if (settings->tls != NULL)
        tls_context_retain(settings->tls);
    listener->conns = conns;
    listener->calls = *calls;
    listener->descriptors_max = UINT32_MAX;
    listener->proxies = memory_zeroed(LISTENER_PROXIES_MAX, sizeof(*listener->proxies));
    int error = proxy_ranges_parse(settings->proxies, listener->proxies, LISTENER_PROXIES_MAX, &listener->proxy_count)
                    ? 0
                    : UV_EINVAL;
    if (error == 0)
        error = local ? open_local(listener) : open_port(listener);
    if (error != 0) {
        listener_close(listener);
        return error;
    }
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

uint32_t listener_connections(const struct listener *listener)
{
    return listener->connections;
}
