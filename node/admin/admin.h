/* admin.h — the HTTP interface for operators and their tools, on the loop of the node.
 *
 * libmicrohttpd does the protocol; its epoll descriptor is one more thing that our loop polls, so a request is
 * answered between two turns, from the truth of that moment, and without a lock. A loop that stands still answers
 * nothing, which is what /livez is for. Paths are a table: admin_commands.c. */
#ifndef COTERIE_ADMIN_H
#define COTERIE_ADMIN_H

#include <uv.h>

#include "base/bytes.h"
#include "base/status.h"

struct admin;
struct broker;

/* Listens; port 0: no admin HTTP, *admin is NULL. Not STATUS_OK: `error` is a sentence. */
enum status admin_open(uv_loop_t *loop, struct broker *broker, const char *address, uint32_t port, struct admin **admin,
                       char *error, size_t error_size);
void admin_close(struct admin *admin);    /* memory is freed by the loop */

/* One path. The handler appends a body and returns the HTTP status. */
struct admin_command {
    const char *path;
    const char *content_type;
    const char *meaning;
    unsigned (*handle)(struct broker *broker, struct buffer *body);
};
const struct admin_command *admin_command_at(const char *path);    /* NULL: no such path */

#endif
