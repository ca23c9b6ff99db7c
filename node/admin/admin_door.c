/* admin_door.c — see admin_door.h.
 *
 *   listener -> judge(): a visit -> TLS -> opened(): a pair of sockets: `pipe` is ours, the other end libmicrohttpd's
 *   received() -> pipe      beyond BYTES_MAX that libmicrohttpd has not read, the conn is not read
 *   pipe -> conn_write()    beyond BYTES_MAX that the kernel has not taken, the pipe is not read
 *
 * Whoever ends first takes the other along: a conn that is closed closes the pipe, and a pipe whose other end is closed
 * has the conn say what is left, and close. A visit is freed when both are. Which stranger gives way: the one that has
 * the least time left, so that who has come through TLS stays longer than who only connects. */
#include "admin_door.h"

#include "base/logger.h"
#include "base/memory.h"
#include "node/net/listener.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES_MAX       (256 * 1024) /* of a connection, in each direction */
#define CLOSE_MS        2000
#define CHECK_MS        500
#define READ_BYTES      (16 * 1024)

/* One connection. */
struct visit {
    struct admin_door *door;
    struct conn *conn; /* NULL: closed */
    struct sockaddr_storage address;
    uv_pipe_t pipe;
    bool pipe_closing, pipe_closed, pipe_reading; /* the first two also before there is one */
    bool deaf;          /* libmicrohttpd takes no more */
    bool leaving;       /* told to give way */
    int fd;             /* the other end; libmicrohttpd's. -1: TLS goes on */
    size_t outstanding; /* bytes handed to the conn and not taken by the kernel */
    size_t queued;      /* bytes handed to the pipe and not taken by libmicrohttpd */
    uint64_t deadline_ms; /* 0: it has asked something that it may */
    struct tls_peer peer;
    struct visit *next, *previous;
};

struct admin_door {
    uv_loop_t *loop;
    struct admin_door_calls calls;
    struct conns *conns;
    struct listener *listener;
    uint32_t patience_ms;
    uv_prepare_t prepare;
    uv_timer_t timer;
    struct visit *visits; /* the last one opened first: a descriptor that is used again is found where it is */
    bool closing;
    int handles; /* of prepare and timer, those that are not closed */
    struct log_limit refused;
    char buffer[READ_BYTES];
};

static struct visit *visit_of(struct admin_door *door, const struct conn *conn)
{
    struct visit *visit = door->visits;
    while (visit != NULL && visit->conn != conn)
        visit = visit->next;
    return visit;
}

/* ---- a visit ends ---- */

static void visit_link(struct visit *visit)
{
    struct admin_door *door = visit->door;
    visit->previous = NULL;
    visit->next = door->visits;
    if (door->visits != NULL)
        door->visits->previous = visit;
    door->visits = visit;
}

static void visit_unlink(struct visit *visit)
{
    if (visit->previous != NULL)
        visit->previous->next = visit->next;
    else
        visit->door->visits = visit->next;
    if (visit->next != NULL)
        visit->next->previous = visit->previous;
}

static void visit_free_if_over(struct visit *visit)
{
    if (visit->conn != NULL || !visit->pipe_closed)
        return;
    visit_unlink(visit);
    free(visit);
}

static void pipe_closed(uv_handle_t *handle)
{
    struct visit *visit = handle->data;
    visit->pipe_closed = true;
    visit_free_if_over(visit);
}

static void close_pipe(struct visit *visit)
{
    if (visit->pipe_closing)
        return;
    visit->pipe_closing = true;
    uv_close((uv_handle_t *)&visit->pipe, pipe_closed);
}

static void conn_is_closed(void *context, struct conn *conn)
{
    struct admin_door *door = context;
    struct visit *visit = visit_of(door, conn);
    if (visit != NULL) {
        visit->conn = NULL;
        close_pipe(visit);
        visit_free_if_over(visit);
    }
    if (door->listener != NULL)
        listener_left(door->listener);
}

/* ---- from libmicrohttpd to the conn ---- */

static void lend_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct visit *visit = handle->data;
    (void)suggested;
    *buffer = uv_buf_init(visit->door->buffer, READ_BYTES);
}

static void answered(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct visit *visit = stream->data;
    if (size > 0 && visit->conn != NULL) {
        struct frame *frame = frame_of(bytes_of(buffer->base, (size_t)size));
        visit->outstanding += (size_t)size;
        if (visit->outstanding > BYTES_MAX) {
            uv_read_stop(stream);
            visit->pipe_reading = false;
        }
        conn_write(visit->conn, &frame, 1);
    }
    if (size < 0) {
        if (visit->conn != NULL)
            conn_close(visit->conn, true);
        close_pipe(visit);
    }
}

static void read_pipe(struct visit *visit)
{
    if (visit->pipe_reading || visit->pipe_closing)
        return;
    visit->pipe_reading = uv_read_start((uv_stream_t *)&visit->pipe, lend_buffer, answered) == 0;
    assert(visit->pipe_reading); /* open, and with a callback */
}

static void written(void *context, struct conn *conn, size_t bytes)
{
    struct visit *visit = visit_of(context, conn);
    if (visit == NULL)
        return;
    visit->outstanding -= bytes < visit->outstanding ? bytes : visit->outstanding;
    if (visit->outstanding <= BYTES_MAX)
        read_pipe(visit);
}

/* ---- from the conn to libmicrohttpd ---- */

struct delivery {
    uv_write_t request;
    struct visit *visit;
    size_t size;
    char data[];
};

static void delivered(uv_write_t *request, int status)
{
    struct delivery *delivery = (struct delivery *)request;
    struct visit *visit = delivery->visit;
    visit->queued -= delivery->size;
    visit->deaf = visit->deaf || status != 0; /* its end is closed; what it said before is still to be read */
    free(delivery);
    if (visit->conn != NULL && visit->queued <= BYTES_MAX)
        conn_read(visit->conn, true);
}

static void received(void *context, struct conn *conn, struct bytes bytes)
{
    struct visit *visit = visit_of(context, conn);
    if (visit == NULL || visit->pipe_closing || visit->deaf)
        return;
    struct delivery *delivery = memory_allocate(sizeof(*delivery) + bytes.size);
    uv_buf_t buffer = uv_buf_init(delivery->data, (unsigned)bytes.size);
    delivery->visit = visit;
    delivery->size = bytes.size;
    memcpy(delivery->data, bytes.data, bytes.size);
    if (uv_write(&delivery->request, (uv_stream_t *)&visit->pipe, &buffer, 1, delivered) != 0) {
        free(delivery);
        visit->deaf = true;
        return;
    }
    visit->queued += bytes.size;
    if (visit->queued > BYTES_MAX)
        conn_read(conn, false);
}

static void refused(void *context, struct conn *conn, const char *why)
{
    struct admin_door *door = context;
    char address[CONN_ADDRESS_MAX];
    uint64_t suppressed;
    if (!log_allowed(&door->refused, uv_now(door->loop), &suppressed))
        return;
    conn_peer(conn, address);
    log_event(LOG_INFO, "connection-refused", log_text("listener", "admin"), log_text("address", address),
              log_text("why", why), log_u64("suppressed", suppressed));
}

/* ---- who gives way ---- */

/* The strangers of one address. */
struct crowd {
    unsigned count;
    struct visit *first_to_go; /* NULL: there are none */
};

/* Of an IPv6 address the network: who has one address there has all of them. */
static struct bytes origin_of(const struct sockaddr_storage *address)
{
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    if (address->ss_family != AF_INET6)
        return bytes_of(&((const struct sockaddr_in *)address)->sin_addr, sizeof(struct in_addr));
    return IN6_IS_ADDR_V4MAPPED(v6) ? bytes_of(&v6->s6_addr[12], 4) : bytes_of(v6->s6_addr, 8);
}

static bool is_stranger(const struct visit *visit)
{
    return visit->conn != NULL && !visit->leaving && visit->deadline_ms != 0;
}

static struct crowd crowd_at(const struct admin_door *door, const struct sockaddr_storage *address)
{
    struct crowd crowd = {0};
    for (struct visit *visit = door->visits; visit != NULL; visit = visit->next) {
        if (!is_stranger(visit) || !bytes_equal(origin_of(&visit->address), origin_of(address)))
            continue;
        crowd.count++;
        if (crowd.first_to_go == NULL || visit->deadline_ms <= crowd.first_to_go->deadline_ms)
            crowd.first_to_go = visit;
    }
    return crowd;
}

static struct crowd largest_crowd(const struct admin_door *door)
{
    struct crowd largest = {0};
    for (const struct visit *visit = door->visits; visit != NULL; visit = visit->next) {
        struct crowd crowd = crowd_at(door, &visit->address);
        if (crowd.count > largest.count)
            largest = crowd;
    }
    return largest;
}

static unsigned places_taken(const struct admin_door *door)
{
    unsigned count = 0;
    for (const struct visit *visit = door->visits; visit != NULL; visit = visit->next)
        count += visit->conn != NULL && !visit->leaving;
    return count;
}

/* Whether there is a place now for one more from there. */
static bool make_room(struct admin_door *door, const struct sockaddr_storage *address)
{
    struct crowd crowd = crowd_at(door, address);
    if (crowd.count < ADMIN_DOOR_STRANGERS_MAX) {
        if (places_taken(door) < ADMIN_DOOR_CONNECTIONS_MAX)
            return true;
        crowd = largest_crowd(door);
    }
    if (crowd.first_to_go == NULL)
        return false;
    refused(door, crowd.first_to_go->conn, "others came, and it had not asked anything that it may");
    crowd.first_to_go->leaving = true;
    conn_close(crowd.first_to_go->conn, false);
    return true;
}

/* ---- a visit begins ---- */

static const char *judge(void *context, struct conn *conn)
{
    struct admin_door *door = context;
    struct sockaddr_storage address;
    if (door->closing || !conn_socket_address(conn, &address))
        return "it has gone, or the node is stopping";
    if (!make_room(door, &address))
        return "all connections of the admin HTTP are in use, by those who may";
    struct visit *visit = memory_zeroed(1, sizeof(*visit));
    visit->door = door;
    visit->conn = conn;
    visit->address = address;
    visit->pipe_closing = visit->pipe_closed = true;
    visit->fd = -1;
    visit->deadline_ms = uv_now(door->loop) + door->patience_ms;
    visit_link(visit);
    return NULL;
}

/* Both ends are non-blocking; false: there are no descriptors. */
static bool make_pair(int ends[2])
{
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0;
}

static void open_pipe(struct visit *visit, const int ends[2])
{
    visit_unlink(visit);
    visit_link(visit);
    visit->fd = ends[1];
    uv_pipe_init(visit->door->loop, &visit->pipe, 0);
    visit->pipe.data = visit;
    visit->pipe_closing = visit->pipe_closed = false;
    int error = uv_pipe_open(&visit->pipe, ends[0]);
    assert(error == 0); /* a socket of our own making */
    (void)error;
    read_pipe(visit);
}

static void opened(void *context, struct conn *conn, const struct filter_facts *facts)
{
    struct admin_door *door = context;
    struct visit *visit = visit_of(door, conn);
    int ends[2];
    assert(visit != NULL); /* since judge() */
    if (door->closing || !make_pair(ends)) {
        conn_close(conn, false);
        return;
    }
    visit->peer = facts->tls;
    visit->deadline_ms = uv_now(door->loop) + door->patience_ms;
    open_pipe(visit, ends);
    socklen_t size = visit->address.ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    door->calls.connected(door->calls.context, ends[1], (const struct sockaddr *)&visit->address, size);
}

static bool takes(void *context)
{
    (void)context;
    return true;
}

static void paused(void *context, const char *name, bool is)
{
    (void)context, (void)name, (void)is; /* without a limit of descriptors it never is */
}

/* ---- the door ---- */

static void report(uv_prepare_t *prepare)
{
    struct admin_door *door = prepare->data;
    conns_report(door->conns);
    if (door->listener != NULL)
        listener_turn(door->listener);
}

static void check(uv_timer_t *timer)
{
    struct admin_door *door = timer->data;
    uint64_t now_ms = uv_now(door->loop);
    for (struct visit *visit = door->visits; visit != NULL; visit = visit->next)
        if (visit->conn != NULL && visit->deadline_ms != 0 && now_ms >= visit->deadline_ms)
            conn_close(visit->conn, false);
}

static void handle_closed(uv_handle_t *handle)
{
    struct admin_door *door = handle->data;
    const struct admin_door_calls calls = door->calls;
    if (--door->handles > 0)
        return;
    conns_free(door->conns);
    free(door);
    calls.closed(calls.context);
}

enum status admin_door_open(uv_loop_t *loop, const struct admin_door_settings *settings, const struct admin_door_calls *calls,
                            struct admin_door **out, char *error, size_t error_size)
{
    struct admin_door *door = memory_zeroed(1, sizeof(*door));
    const struct conn_calls for_conns = {
        .context = door,
        .opened = opened,
        .takes = takes,
        .received = received,
        .written = written,
        .refused = refused,
        .closed = conn_is_closed,
    };
    const struct listener_calls for_listener = {.context = door, .paused = paused, .judge = judge, .turned_away = refused};
    const struct listener_settings for_tls = {
        .kind = "tls",
        .address = settings->address,
        .port = settings->port,
        .proxies = "",
        .tls = settings->tls,
    };
    door->loop = loop;
    door->calls = *calls;
    door->patience_ms = settings->patience_ms;
    door->conns = conns_new(loop, &for_conns, settings->patience_ms, CLOSE_MS);
    uv_prepare_init(loop, &door->prepare);
    uv_timer_init(loop, &door->timer);
    door->prepare.data = door->timer.data = door;
    door->handles = 2;
    uv_prepare_start(&door->prepare, report);
    uv_timer_start(&door->timer, check, CHECK_MS, CHECK_MS);
    int result = listener_open(loop, door->conns, &for_tls, &for_listener, &door->listener);
    *out = door;
    if (result == 0)
        return STATUS_OK;
    snprintf(error, error_size, "cannot listen for admin HTTP at %s port %u: %s", settings->address, settings->port,
             uv_strerror(result));
    return STATUS_INVALID;
}

/* A conn tells that it is closed while it still counts; so this looks again. */
static void end_when_empty(uv_prepare_t *prepare)
{
    struct admin_door *door = prepare->data;
    if (door->visits != NULL || conns_count(door->conns) > 0 || uv_is_closing((uv_handle_t *)prepare))
        return;
    uv_close((uv_handle_t *)&door->prepare, handle_closed);
    uv_close((uv_handle_t *)&door->timer, handle_closed);
}

void admin_door_close(struct admin_door *door)
{
    door->closing = true;
    if (door->listener != NULL)
        listener_close(door->listener);
    door->listener = NULL;
    conns_close_all(door->conns);
    for (struct visit *visit = door->visits; visit != NULL; visit = visit->next)
        close_pipe(visit);
    uv_prepare_stop(&door->prepare);
    uv_prepare_start(&door->prepare, end_when_empty);
}

void admin_door_set_tls(struct admin_door *door, struct tls_context *tls)
{
    if (door->listener != NULL)
        listener_set_tls(door->listener, tls);
    for (struct visit *visit = door->visits; visit != NULL; visit = visit->next)
        visit->peer = (struct tls_peer){0};
}

/* ---- who it is ---- */

static struct visit *visit_at(const struct admin_door *door, int fd)
{
    struct visit *visit = door->visits;
    while (visit != NULL && visit->fd != fd)
        visit = visit->next;
    return visit;
}

const struct tls_peer *admin_door_peer(const struct admin_door *door, int fd)
{
    const struct visit *visit = visit_at(door, fd);
    return visit != NULL ? &visit->peer : NULL;
}

void admin_door_welcome(struct admin_door *door, int fd)
{
    struct visit *visit = visit_at(door, fd);
    if (visit != NULL)
        visit->deadline_ms = 0;
}
