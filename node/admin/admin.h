/* admin.h — the HTTP interface for operators and their tools, on the loop of the node.
 *
 * libmicrohttpd does the protocol; its epoll descriptor is one more thing that our loop polls, so a request is
 * answered between two turns, from the truth of that moment, and without a lock. A loop that stands still answers
 * nothing, which is what /livez is for. Paths are two tables: what is asked, admin_commands.c; and users, roles and bans,
 * admin_security.c, which are changed by commands in the log: such a request waits until its command has been applied.
 *
 * A change is a POST of JSON. One that comes from a web page (it has an Origin, or is no JSON) is refused. Changes, and lists
 * of users, roles and bans, need the token of the configuration; without one they have to come from this machine. */
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

/* ---- what operators change ---- */

struct admin_request;

/* A path with lists that go on behind a name, and changes. */
struct admin_action {
    const char *path;
    const char *meaning;
    /* Appends JSON. `after`: "" for the beginning. NULL: only changes. */
    void (*get)(struct broker *broker, const char *after, struct buffer *body);
    /* Answers with admin_answer(), now or later; `body` is borrowed for the call. NULL: read only. */
    void (*post)(struct admin_request *request, struct broker *broker, struct bytes body);
};
const struct admin_action *admin_action_at(const char *path);      /* NULL: no such path */
const struct admin_action *admin_action_number(unsigned number);   /* from 0; NULL: there are no more */

/* Exactly once per request, on the loop's thread; takes what is in `body` over. The client may be gone. */
void admin_answer(struct admin_request *request, unsigned status, struct buffer *body);

#endif
