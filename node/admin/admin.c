/* admin.c — libmicrohttpd on our loop; see admin.h. GET and HEAD of the paths in admin_commands.c and
 * admin_security.c; a POST waits, suspended, until its handler answers. */
#include "admin.h"

#include "base/memory.h"
#include "node/broker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX  32
#define IDLE_S           10
#define CONNECTION_BYTES (16 * 1024)
#define TIMEOUT_CHECK_MS 1000
#define BODY_BYTES_MAX   (64 * 1024)
#define NOT_AN_OPERATOR  "from another machine, or where admin.token is set, only with the token\n"

struct admin {
    struct broker *broker;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    int handles; /* not closed yet */
    struct admin_request *waiting;
};

/* One POST, until it is answered and its connection is done with it. */
struct admin_request {
    struct admin *admin;               /* NULL: closed */
    struct MHD_Connection *connection; /* NULL: the client has gone */
    struct buffer body;                /* what came; then the answer */
    bool too_large, handed_over, answered;
    unsigned status;
    struct admin_request *next; /* of those that are handed over and not answered */
};

static void check_timeouts(uv_timer_t *timer)
{
    MHD_run(((struct admin *)timer->data)->daemon);
}

static enum MHD_Result reply(struct MHD_Connection *connection, unsigned status, const char *type, struct buffer *body)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(body->size, body->size > 0 ? body->data : (void *)"", MHD_RESPMEM_MUST_COPY);
    buffer_release(body);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result reply_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
    struct buffer body = {0};
    buffer_put(&body, text, strlen(text));
    return reply(connection, status, "text/plain", &body);
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

/* "Bearer TOKEN"; takes the same time for every wrong one of a length. */
static bool is_token(const char *header, const char *token)
{
    size_t size = strlen(token);
    return header != NULL && strncmp(header, "Bearer ", 7) == 0 && strlen(header + 7) == size &&
           CRYPTO_memcmp(header + 7, token, size) == 0;
}

/* Whether this may be an operator. */
static bool is_operator(const struct admin *admin, struct MHD_Connection *connection)
{
    const char *token = broker_config(admin->broker)->admin.token;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (token[0] != '\0')
        return is_token(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION), token);
    return info != NULL && is_loopback(info->client_addr);
}

static enum MHD_Result answer_read(struct admin *admin, struct MHD_Connection *connection, const char *url)
{
    const struct admin_command *command = admin_command_at(url);
    const struct admin_action *action = admin_action_at(url);
    const char *after = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "after");
    struct buffer body = {0};
    if (command != NULL) {
        unsigned status = command->handle(admin->broker, &body);
        return reply(connection, status, command->content_type, &body);
    }
    if (action == NULL || action->get == NULL)
        return reply_text(connection, action == NULL ? MHD_HTTP_NOT_FOUND : MHD_HTTP_METHOD_NOT_ALLOWED, "no such path\n");
    if (!is_operator(admin, connection))
        return reply_text(connection, MHD_HTTP_UNAUTHORIZED, NOT_AN_OPERATOR);
    if (broker_core(admin->broker) == NULL)
        return reply_text(connection, MHD_HTTP_SERVICE_UNAVAILABLE, "this node has failed\n");
    action->get(admin->broker, after != NULL ? after : "", &body);
    return reply(connection, MHD_HTTP_OK, "application/json", &body);
}

/* ---- changes ---- */

/* Why this is no operator's: NULL, it may be. */
static const char *foreign(struct MHD_Connection *connection)
{
    const char *type = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_TYPE);
    if (MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Origin") != NULL)
        return "not from a web page\n";
    return type == NULL || strncmp(type, "application/json", 16) != 0 ? "expected application/json\n" : NULL;
}

static void request_free(struct admin_request *request)
{
    if (request->body.size > 0)
        explicit_bzero(request->body.data, request->body.size); /* it may have been a password */
    buffer_release(&request->body);
    free(request);
}

static enum MHD_Result take_body(struct admin_request *request, const char *upload, size_t *size)
{
    request->too_large = request->too_large || request->body.size + *size > BODY_BYTES_MAX;
    if (!request->too_large)
        buffer_put(&request->body, upload, *size);
    *size = 0;
    return MHD_YES;
}

/* The connection is suspended first: the answer may come within the call. */
static enum MHD_Result hand_over(struct admin_request *request, const struct admin_action *action)
{
    struct admin *admin = request->admin;
    struct buffer body = request->body;
    request->body = (struct buffer){0};
    request->handed_over = true;
    request->next = admin->waiting;
    admin->waiting = request;
    MHD_suspend_connection(request->connection);
    action->post(request, admin->broker, buffer_bytes(&body));
    if (body.size > 0)
        explicit_bzero(body.data, body.size);
    buffer_release(&body);
    return MHD_YES;
}

static enum MHD_Result answer_change(struct admin_request *request, const char *url)
{
    const struct admin_action *action = admin_action_at(url);
    const char *why = foreign(request->connection);
    if (request->answered)
        return reply(request->connection, request->status, "application/json", &request->body);
    if (action == NULL || action->post == NULL)
        return reply_text(request->connection, action == NULL ? MHD_HTTP_NOT_FOUND : MHD_HTTP_METHOD_NOT_ALLOWED, "");
    if (why != NULL)
        return reply_text(request->connection, MHD_HTTP_FORBIDDEN, why);
    if (request->too_large)
        return reply_text(request->connection, MHD_HTTP_CONTENT_TOO_LARGE, "too large\n");
    if (request->admin == NULL || broker_core(request->admin->broker) == NULL)
        return reply_text(request->connection, MHD_HTTP_SERVICE_UNAVAILABLE, "this node has failed\n");
    if (!is_operator(request->admin, request->connection))
        return reply_text(request->connection, MHD_HTTP_UNAUTHORIZED, NOT_AN_OPERATOR);
    return hand_over(request, action);
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
        uv_timer_start(&request->admin->timer, check_timeouts, 0, TIMEOUT_CHECK_MS); /* it goes on in the next turn */
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

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct admin *admin = context;
    struct admin_request *request = *state;
    bool change = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    (void)version;
    if (request == NULL && change) {
        request = memory_zeroed(1, sizeof(*request));
        *request = (struct admin_request){.admin = admin, .connection = connection};
        *state = request;
        return MHD_YES;
    }
    if (*upload_size > 0 && change)
        return take_body(request, upload, upload_size);
    if (*upload_size > 0) {
        *upload_size = 0; /* thrown away */
        return MHD_YES;
    }
    if (change)
        return answer_change(request, url);
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return reply_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "");
    return answer_read(admin, connection, url);
}

static void requests_ready(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    MHD_run(((struct admin *)poll->data)->daemon);
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

enum status admin_open(uv_loop_t *loop, struct broker *broker, const char *address, uint32_t port, struct admin **out,
                       char *error, size_t error_size)
{
    *out = NULL;
    if (port == 0)
        return STATUS_OK;
    int fd = bind_socket(address, port);
    if (fd < 0) {
        snprintf(error, error_size, "cannot listen for admin HTTP at %s port %u: %s", address, port, strerror(errno));
        return STATUS_INVALID;
    }
    struct admin *admin = memory_zeroed(1, sizeof(*admin));
    admin->broker = broker;
    admin->daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, answer, admin, MHD_OPTION_LISTEN_SOCKET, fd,
                                     MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                                     MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
                                     MHD_OPTION_NOTIFY_COMPLETED, request_completed, NULL, MHD_OPTION_END);
    if (admin->daemon == NULL) {
        snprintf(error, error_size, "cannot start admin HTTP at %s port %u", address, port);
        close(fd);
        free(admin);
        return STATUS_IO_ERROR;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    uv_poll_init(loop, &admin->poll, info->epoll_fd);
    uv_timer_init(loop, &admin->timer);
    admin->poll.data = admin->timer.data = admin;
    admin->handles = 2;
    uv_poll_start(&admin->poll, UV_READABLE, requests_ready);
    uv_timer_start(&admin->timer, check_timeouts, TIMEOUT_CHECK_MS, TIMEOUT_CHECK_MS);
    *out = admin;
    return STATUS_OK;
}

static void handle_closed(uv_handle_t *handle)
{
    struct admin *admin = handle->data;
    if (--admin->handles == 0)
        free(admin);
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
    uv_close((uv_handle_t *)&admin->poll, handle_closed);
    uv_close((uv_handle_t *)&admin->timer, handle_closed);
}
