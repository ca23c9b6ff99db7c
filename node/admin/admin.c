/* admin.c — libmicrohttpd on our loop; see admin.h. Answers GET and HEAD of the paths in admin_commands.c. */
#include "admin.h"

#include "base/memory.h"

#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX  32
#define IDLE_S           10
#define CONNECTION_BYTES (16 * 1024)
#define TIMEOUT_CHECK_MS 1000

struct admin {
    struct broker *broker;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    int handles; /* not closed yet */
};

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
    enum MHD_Result result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *upload, size_t *upload_size, void **state)
{
    struct admin *admin = context;
    struct buffer body = {0};
    (void)version, (void)upload, (void)state;
    if (*upload_size > 0) {
        *upload_size = 0; /* thrown away */
        return MHD_YES;
    }
    const struct admin_command *command = admin_command_at(url);
    if (command == NULL) {
        static const char text[] = "no such path\n";
        buffer_put(&body, text, sizeof(text) - 1);
        return reply(connection, MHD_HTTP_NOT_FOUND, "text/plain", &body);
    }
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return reply(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", &body);
    unsigned status = command->handle(admin->broker, &body);
    return reply(connection, status, command->content_type, &body);
}

static void requests_ready(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    MHD_run(((struct admin *)poll->data)->daemon);
}

static void check_timeouts(uv_timer_t *timer)
{
    MHD_run(((struct admin *)timer->data)->daemon);
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
    admin->daemon = MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, answer, admin, MHD_OPTION_LISTEN_SOCKET, fd,
                                     MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
                                     MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                                     MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_END);
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

void admin_close(struct admin *admin)
{
    uv_poll_stop(&admin->poll);
    MHD_stop_daemon(admin->daemon);
    uv_close((uv_handle_t *)&admin->poll, handle_closed);
    uv_close((uv_handle_t *)&admin->timer, handle_closed);
}
