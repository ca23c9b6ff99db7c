/* admin.h — the HTTP interface for operators and their tools, on the loop of the node.
 *
 * libmicrohttpd does the protocol; its epoll descriptor is one more thing that our loop polls, so a request is
 * answered between two turns, from the truth of that moment, and without a lock. A loop that stands still answers
 * nothing, which is what /livez is for. Paths are two tables: what is asked, admin_commands.c; and users, roles and bans,
 * admin_security.c, which are changed by commands in the log: such a request waits until its command has been applied.
 *
 * Who asks has a role (admin_access.h), by the token of the request, by the certificate of the connection, or, where there are
 * neither, by being on this machine. What is asked takes at least the role read, or on this machine none; lists of users, roles
 * and bans the role read; changes the role write. A change is a POST of JSON; one that comes from a web page (it has an Origin, or
 * is no JSON) is refused, and so is whatever asks a name that somebody else made point to this machine (Host).
 *
 * Beyond this machine there is TLS before it (admin_door.h), and nobody is answered without a token or certificate. */
#ifndef COTERIE_ADMIN_H
#define COTERIE_ADMIN_H

#include <uv.h>

#include "admin_access.h"
#include "base/bytes.h"
#include "base/status.h"
#include "cluster/tls.h"

struct admin;
struct broker;

struct admin_settings {
    const char *address;
    uint32_t port;           /* 0: no admin HTTP, *admin is NULL */
    uint32_t patience_ms;    /* with TLS: time for it, and then for a first request that is granted */
    struct tls_context *tls; /* NULL: plain */
};

/* Listens. Not STATUS_OK: `error` is a sentence; close *admin, if there is one. */
enum status admin_open(uv_loop_t *loop, struct broker *broker, const struct admin_settings *settings, struct admin **admin,
                       char *error, size_t error_size);
void admin_close(struct admin *admin);    /* memory is freed by the loop */
/* For requests from now on; taken over. Before the loop runs, or a stranger on this machine may be an operator. */
void admin_set_tokens(struct admin *admin, struct admin_tokens *tokens);
/* For connections from now on; retained. Older ones stay, but their certificates no longer count. */
void admin_set_tls(struct admin *admin, struct tls_context *tls);
uint64_t admin_refused(const struct admin *admin);    /* requests without the right to what they asked */

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

/* "token:NAME" or "certificate:NAME", of who asks; "": somebody on this machine. */
const char *admin_request_name(const struct admin_request *request);
/* Exactly once per request, on the loop's thread; takes what is in `body` over. The client may be gone. */
void admin_answer(struct admin_request *request, unsigned status, struct buffer *body);

#endif
