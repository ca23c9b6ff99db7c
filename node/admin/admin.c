/* admin.c — libmicrohttpd on our loop; see admin.h. GET and HEAD of the paths in admin_commands.c and
 * admin_security.c; a POST waits, suspended, until its handler answers.
 *
 *   headers --judge--> a refusal, or what is to be done --(POST: the body)--> answer
 *
 * Everything is judged when the headers are there, in this order: whom the browser believes to talk to (Host), who asks, the
 * path, the method, the role, where a change comes from (Origin, Content-Type), its size. The body of what is refused is
 * heard and thrown away, so that the answer is not lost; one of more than LISTENED_BYTES_MAX is not waited for. */
#include "admin.h"

#include "admin_access.h"
#include "admin_door.h"
#include "base/logger.h"
#include "base/memory.h"
#include "node/broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX    32
#define IDLE_S             10
#define CONNECTION_BYTES   (16 * 1024) /* of which the headers of a request have to take less */
#define TIMEOUT_CHECK_MS   1000
#define BODY_BYTES_MAX     (64 * 1024)
#define LISTENED_BYTES_MAX (1024 * 1024) /* of a body that is thrown away */

struct admin {
    struct broker *broker;
    struct MHD_Daemon *daemon;
    struct admin_door *door; /* NULL: plain, on this machine */
    struct admin_tokens *tokens;
    uv_poll_t poll;
    uv_timer_t timer;
    int handles; /* not closed yet, and the door */
    struct admin_request *waiting;
    bool resumed; /* a connection is to go on, which libmicrohttpd does not count as something to do */
    uint64_t refused; /* for want of a right */
    struct log_limit refused_limit;
};

/* Why a request is not granted. */
struct refusal {
    unsigned status; /* 0: it is granted */
    const char *why;
    const char *allow; /* the methods, where it was another; else NULL */
};

/* One request, until it is answered and its connection is done with it. */
struct admin_request {
    struct admin *admin;               /* NULL: closed */
    struct MHD_Connection *connection; /* NULL: the client has gone */
    const struct admin_command *command;
    const struct admin_action *action; /* one of both, if it is granted */
    bool change;                       /* a POST */
    size_t received;                   /* of its body */
    struct admin_asker asker;
    struct refusal refusal;
    struct buffer body; /* what came; then the answer */
    bool handed_over, answered;
    unsigned status;
    struct admin_request *next; /* of those that are handed over and not answered */
};

static void run_again(uv_timer_t *timer);

/* A step of each connection that has something. It polls edges: what it has not read to the end does not wake us again. */
static void run(struct admin *admin)
{
    MHD_UNSIGNED_LONG_LONG wait_ms = TIMEOUT_CHECK_MS;
    admin->resumed = false;
    MHD_run(admin->daemon);
    if (MHD_get_timeout(admin->daemon, &wait_ms) != MHD_YES || wait_ms > TIMEOUT_CHECK_MS)
        wait_ms = TIMEOUT_CHECK_MS;
    uv_timer_start(&admin->timer, run_again, admin->resumed ? 0 : wait_ms, 0);
}

static void run_again(uv_timer_t *timer)
{
    run(timer->data);
}

/* Takes `body` over. */
static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type, const char *allow,
                             struct buffer *body)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body->size, body->size > 0 ? body->data : (void *)"", MHD_RESPMEM_MUST_COPY);
    buffer_release(body);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (allow != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result reply_refusal(struct MHD_Connection *connection, const struct refusal *refusal)
{
    struct buffer body = {0};
    buffer_put(&body, refusal->why, strlen(refusal->why));
    buffer_put(&body, "\n", 1);
    return reply(connection, refusal->status, "text/plain", refusal->allow, &body);
}

static const char *header_of(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

/* ---- who asks ---- */

static bool is_loopback(const struct sockaddr *address)
{
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
    if (address->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return address->sa_family == AF_INET6 &&
           (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) || (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == 127));
}

static const struct sockaddr *address_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info != NULL ? info->client_addr : NULL;
}

static int descriptor_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info != NULL ? info->connect_fd : -1;
}

/* Whether there are to be tokens. A file that has none lets nobody in, rather than everybody. */
static bool wants_tokens(const struct admin *admin)
{
    const struct config *config = broker_config(admin->broker);
    return config->admin.token[0] != '\0' || config->admin.token_file[0] != '\0';
}

/* Without a token: by the certificate, or because it comes from this machine. */
static struct admin_asker asker_without_token(const struct admin *admin, struct MHD_Connection *connection)
{
    const struct config *config = broker_config(admin->broker);
    const struct sockaddr *address = address_of(connection);
    struct admin_asker asker = {.role = ADMIN_NOBODY};
    if (admin->door == NULL && address != NULL && is_loopback(address))
        asker.role = wants_tokens(admin) ? ADMIN_LOCAL : ADMIN_WRITE;
    if (admin->door == NULL)
        return asker;
    const struct tls_peer *peer = admin_door_peer(admin->door, descriptor_of(connection));
    if (peer == NULL)
        return asker;
    return admin_certificate_asker(config->admin.user_from == ADMIN_USER_FROM_CN ? peer->common_name : peer->alternative_name,
                                   config->admin.readers, config->admin.writers);
}

static struct admin_asker asker_of(const struct admin *admin, struct MHD_Connection *connection)
{
    const char *authorization = header_of(connection, MHD_HTTP_HEADER_AUTHORIZATION);
    if (authorization != NULL && (admin->door != NULL || wants_tokens(admin)))
        return admin_token_asker(admin->tokens, authorization); /* one that is wrong is no better than none */
    return asker_without_token(admin, connection);
}

/* ---- what may be done ---- */

static struct refusal refuse(unsigned status, const char *why)
{
    return (struct refusal){.status = status, .why = why};
}

static struct refusal judge_role(const struct admin_request *request, enum admin_role wanted)
{
    if (request->asker.role >= wanted)
        return (struct refusal){0};
    if (request->asker.role == ADMIN_NOBODY || request->asker.name[0] == '\0')
        return refuse(MHD_HTTP_UNAUTHORIZED, "this needs a token, or a certificate, of the role");
    return refuse(MHD_HTTP_FORBIDDEN, "this needs the role write");
}

/* The path, and what is done with it. */
static struct refusal judge_route(struct admin_request *request, const char *url, const char *method)
{
    const struct admin_command *command = admin_command_at(url);
    const struct admin_action *action = admin_action_at(url);
    bool get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    bool gets = command != NULL || (action != NULL && action->get != NULL), posts = action != NULL && action->post != NULL;
    if (command == NULL && action == NULL)
        return refuse(MHD_HTTP_NOT_FOUND, "no such path");
    if (!(get && gets) && !(request->change && posts))
        return (struct refusal){.status = MHD_HTTP_METHOD_NOT_ALLOWED,
                                .why = "not with this method",
                                .allow = !posts ? "GET, HEAD" : gets ? "GET, HEAD, POST" : "POST"};
    request->command = command;
    request->action = action;
    return judge_role(request, request->change ? ADMIN_WRITE : action != NULL ? ADMIN_READ : ADMIN_LOCAL);
}

/* How long the body is to be, as far as that is said. */
static unsigned long long said_length(struct MHD_Connection *connection)
{
    const char *length = header_of(connection, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return length != NULL ? strtoull(length, NULL, 10) : 0;
}

/* A change must not be what a web page, which the operator has open, makes the browser send. */
static struct refusal judge_change(struct MHD_Connection *connection)
{
    if (header_of(connection, MHD_HTTP_HEADER_ORIGIN) != NULL)
        return refuse(MHD_HTTP_FORBIDDEN, "not from a web page");
    if (!admin_type_is_json(header_of(connection, MHD_HTTP_HEADER_CONTENT_TYPE)))
        return refuse(MHD_HTTP_FORBIDDEN, "expected application/json");
    if (said_length(connection) > BODY_BYTES_MAX)
        return refuse(MHD_HTTP_CONTENT_TOO_LARGE, "too large");
    return (struct refusal){0};
}

static struct refusal judge(struct admin_request *request, const char *url, const char *method)
{
    struct admin *admin = request->admin;
    if (admin->door == NULL && !admin_host_is_local(header_of(request->connection, MHD_HTTP_HEADER_HOST)))
        return refuse(MHD_HTTP_MISDIRECTED_REQUEST, "expected a Host of this machine: an address, or localhost");
    request->asker = asker_of(admin, request->connection);
    if (request->asker.role == ADMIN_NOBODY)
        return judge_role(request, ADMIN_LOCAL);
    struct refusal refusal = judge_route(request, url, method);
    if (refusal.status == 0 && request->change)
        refusal = judge_change(request->connection);
    if (refusal.status == 0 && request->action != NULL && broker_core(admin->broker) == NULL)
        refusal = refuse(MHD_HTTP_SERVICE_UNAVAILABLE, "this node has failed");
    return refusal;
}

/* In the log once a minute, and counted: somebody may be trying. Of what was sent nothing is repeated. */
static void note_refusal(struct admin *admin, const struct admin_request *request)
{
    const struct sockaddr *from = address_of(request->connection);
    char address[INET6_ADDRSTRLEN] = "";
    uint64_t suppressed;
    unsigned status = request->refusal.status;
    if (status != MHD_HTTP_UNAUTHORIZED && status != MHD_HTTP_FORBIDDEN && status != MHD_HTTP_MISDIRECTED_REQUEST)
        return;
    admin->refused++;
    if (!log_allowed(&admin->refused_limit, uv_now(admin->timer.loop), &suppressed))
        return;
    if (from != NULL && from->sa_family == AF_INET)
        uv_ip4_name((const struct sockaddr_in *)from, address, sizeof(address));
    else if (from != NULL && from->sa_family == AF_INET6)
        uv_ip6_name((const struct sockaddr_in6 *)from, address, sizeof(address));
    log_event(LOG_WARNING, "admin-refused", log_text("address", address), log_text("by", request->asker.name),
              log_text("why", request->refusal.why), log_u64("suppressed", suppressed));
}

static enum MHD_Result answer_read(const struct admin_request *request)
{
    struct broker *broker = request->admin->broker;
    struct MHD_Connection *connection = request->connection;
    const char *after = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "after");
    struct buffer body = {0};
    if (request->command != NULL) {
        unsigned status = request->command->handle(broker, &body);
        return reply(connection, status, request->command->content_type, NULL, &body);
    }
    request->action->get(broker, after != NULL ? after : "", &body);
    return reply(connection, MHD_HTTP_OK, "application/json", NULL, &body);
}

/* ---- changes ---- */

static void request_free(struct admin_request *request)
{
    if (request->body.size > 0)
        explicit_bzero(request->body.data, request->body.size); /* it may have been a password */
    buffer_release(&request->body);
    free(request);
}

static enum MHD_Result take_body(struct admin_request *request, const char *upload, size_t *size)
{
    request->received += *size;
    if (request->received > BODY_BYTES_MAX && request->refusal.status == 0)
        request->refusal = refuse(MHD_HTTP_CONTENT_TOO_LARGE, "too large"); /* it had not said so */
    if (request->change && request->refusal.status == 0)
        buffer_put(&request->body, upload, *size);
    *size = 0;
    return request->received <= LISTENED_BYTES_MAX ? MHD_YES : MHD_NO; /* MHD_NO: the connection ends */
}

/* The connection is suspended first: the answer may come within the call. */
static enum MHD_Result hand_over(struct admin_request *request)
{
    struct admin *admin = request->admin;
    struct buffer body = request->body;
    request->body = (struct buffer){0};
    request->handed_over = true;
    request->next = admin->waiting;
    admin->waiting = request;
    MHD_suspend_connection(request->connection);
    request->action->post(request, admin->broker, buffer_bytes(&body));
    if (body.size > 0)
        explicit_bzero(body.data, body.size);
    buffer_release(&body);
    return MHD_YES;
}

const char *admin_request_name(const struct admin_request *request)
{
    return request->asker.name;
}

void admin_answer(struct admin_request *request, unsigned status, struct buffer *body)
{
    struct admin_request **at = request->admin != NULL ? &request->admin->waiting : NULL;
    while (at != NULL && *at != request)
        at = &(*at)->next;
    if (at != NULL)
        *at = request->next;
    request->answered = true;
    request->status = status;
    buffer_release(&request->body);
    request->body = *body;
    *body = (struct buffer){0};
    if (request->connection == NULL) {
        request_free(request);
    } else if (request->admin != NULL) {
        MHD_resume_connection(request->connection);
        request->admin->resumed = true;
        uv_timer_start(&request->admin->timer, run_again, 0, 0); /* in the next turn */
    }
}

static void request_completed(void *context, struct MHD_Connection *connection, void **state,
                              enum MHD_RequestTerminationCode code)
{
    struct admin_request *request = *state;
    (void)context, (void)connection, (void)code;
    *state = NULL;
    if (request == NULL)
        return;
    request->connection = NULL;
    if (!request->handed_over || request->answered)
        request_free(request);
}

/* The headers are there. */
static struct admin_request *request_new(struct admin *admin, struct MHD_Connection *connection, const char *url,
                                         const char *method)
{
    struct admin_request *request = memory_zeroed(1, sizeof(*request));
    request->admin = admin;
    request->connection = connection;
    request->change = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    request->refusal = judge(request, url, method);
    if (request->refusal.status != 0)
        note_refusal(admin, request);
    else if (admin->door != NULL)
        admin_door_welcome(admin->door, descriptor_of(connection));
    return request;
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct admin_request *request = *state;
    (void)version;
    if (request == NULL) {
        *state = request = request_new(context, connection, url, method);
        bool waits = request->refusal.status == 0 || said_length(connection) <= LISTENED_BYTES_MAX;
        return waits ? MHD_YES : reply_refusal(connection, &request->refusal);
    }
    if (*upload_size > 0)
        return take_body(request, upload, upload_size);
    if (request->answered)
        return reply(connection, request->status, "application/json", NULL, &request->body);
    if (request->refusal.status == 0 && (request->admin == NULL || broker_core(request->admin->broker) == NULL) &&
        request->action != NULL)
        request->refusal = refuse(MHD_HTTP_SERVICE_UNAVAILABLE, "this node has failed"); /* meanwhile */
    if (request->refusal.status != 0)
        return reply_refusal(connection, &request->refusal);
    return request->change ? hand_over(request) : answer_read(request);
}

static void requests_ready(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    run(poll->data);
}

static int bind_socket(const char *address, uint32_t port)
{
    struct sockaddr_storage where = {0};
    socklen_t size = sizeof(struct sockaddr_in);
    int one = 1;
    if (uv_ip4_addr(address, (int)port, (struct sockaddr_in *)&where) != 0) {
        if (uv_ip6_addr(address, (int)port, (struct sockaddr_in6 *)&where) != 0) {
            errno = EINVAL;
            return -1;
        }
        size = sizeof(struct sockaddr_in6);
    }
    int fd = socket(where.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&where, size) == 0 && listen(fd, 64) == 0)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static void connected(void *context, int fd, const struct sockaddr *address, socklen_t size)
{
    struct admin *admin = context;
    MHD_add_connection(admin->daemon, fd, address, size); /* or it closes `fd` */
    uv_timer_start(&admin->timer, run_again, 0, 0); /* bytes may be there already */
}

static void part_closed(struct admin *admin)
{
    if (--admin->handles > 0)
        return;
    admin_tokens_free(admin->tokens);
    free(admin);
}

static void handle_closed(uv_handle_t *handle)
{
    part_closed(handle->data);
}

static void door_closed(void *context)
{
    part_closed(context);
}

static struct MHD_Daemon *start_daemon(struct admin *admin, int fd)
{
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (fd < 0 ? MHD_USE_NO_LISTEN_SOCKET : 0);
    const struct MHD_OptionItem own_socket[] = {{MHD_OPTION_LISTEN_SOCKET, fd, NULL}, {MHD_OPTION_END, 0, NULL}};
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    /* The door counts its own; that one of them has gone is seen a little later here. */
    unsigned connections = fd < 0 ? 2 * ADMIN_DOOR_CONNECTIONS_MAX : CONNECTIONS_MAX;
    return MHD_start_daemon(flags, 0, NULL, NULL, answer, admin, MHD_OPTION_ARRAY, fd < 0 ? none : own_socket,
                            MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                            MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                            MHD_OPTION_NOTIFY_COMPLETED, request_completed, NULL, MHD_OPTION_END);
}

/* Before the port, so that who connects finds it. */
static enum status open_daemon(struct admin *admin, uv_loop_t *loop, int fd)
{
    admin->daemon = start_daemon(admin, fd);
    if (admin->daemon == NULL)
        return STATUS_IO_ERROR;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(loop, &admin->poll, info->epoll_fd);
    uv_timer_init(loop, &admin->timer);
    admin->poll.data = admin->timer.data = admin;
    admin->handles = 2;
    uv_poll_start(&admin->poll, UV_READABLE, requests_ready);
    uv_timer_start(&admin->timer, run_again, TIMEOUT_CHECK_MS, 0);
    return STATUS_OK;
}

static enum status open_door(struct admin *admin, uv_loop_t *loop, const struct admin_settings *settings, char *error,
                             size_t error_size)
{
    const struct admin_door_calls calls = {.context = admin, .connected = connected, .closed = door_closed};
    const struct admin_door_settings for_door = {
        .address = settings->address,
        .port = settings->port,
        .patience_ms = settings->patience_ms,
        .tls = settings->tls,
    };
    admin->handles++;
    return admin_door_open(loop, &for_door, &calls, &admin->door, error, error_size);
}

enum status admin_open(uv_loop_t *loop, struct broker *broker, const struct admin_settings *settings, struct admin **out,
                       char *error, size_t error_size)
{
    *out = NULL;
    if (settings->port == 0)
        return STATUS_OK;
    int fd = settings->tls == NULL ? bind_socket(settings->address, settings->port) : -1;
    if (settings->tls == NULL && fd < 0) {
        snprintf(error, error_size, "cannot listen for admin HTTP at %s port %u: %s", settings->address, settings->port,
                 strerror(errno));
        return STATUS_INVALID;
    }
    struct admin *admin = memory_zeroed(1, sizeof(*admin));
    admin->broker = broker;
    if (open_daemon(admin, loop, fd) != STATUS_OK) {
        snprintf(error, error_size, "cannot start admin HTTP at %s port %u", settings->address, settings->port);
        if (fd >= 0)
            close(fd);
        free(admin);
        return STATUS_IO_ERROR;
    }
    *out = admin;
    return settings->tls == NULL ? STATUS_OK : open_door(admin, loop, settings, error, error_size);
}

void admin_set_tokens(struct admin *admin, struct admin_tokens *tokens)
{
    admin_tokens_free(admin->tokens);
    admin->tokens = tokens;
}

void admin_set_tls(struct admin *admin, struct tls_context *tls)
{
    if (admin->door != NULL)
        admin_door_set_tls(admin->door, tls);
}

uint64_t admin_refused(const struct admin *admin)
{
    return admin->refused;
}

/* Those that still wait get no answer; who was to give it does so into the void. */
static void abandon(struct admin *admin)
{
    while (admin->waiting != NULL) {
        struct admin_request *request = admin->waiting;
        admin->waiting = request->next;
        request->admin = NULL;
        if (request->connection != NULL)
            MHD_resume_connection(request->connection);
    }
}

void admin_close(struct admin *admin)
{
    abandon(admin);
    uv_poll_stop(&admin->poll);
    MHD_stop_daemon(admin->daemon);
    if (admin->door != NULL)
        admin_door_close(admin->door);
    uv_close((uv_handle_t *)&admin->poll, handle_closed);
    uv_close((uv_handle_t *)&admin->timer, handle_closed);
}
