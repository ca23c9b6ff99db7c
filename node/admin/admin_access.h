/* admin_access.h — who asks the admin HTTP, and how much that one may do. Pure: no sockets, no files.
 *
 *   token of the request, certificate of the connection, this machine --> struct admin_asker --> a role, and a name for the audit
 *
 * Roles are levels: each may do what those below it may. */
#ifndef COTERIE_ADMIN_ACCESS_H
#define COTERIE_ADMIN_ACCESS_H

#include "base/bytes.h"
#include "base/status.h"

#define ADMIN_TOKENS_FILE_BYTES_MAX (64 * 1024)
#define ADMIN_TOKEN_BYTES_MIN       16
#define ADMIN_NAME_BYTES_MAX        100 /* of a token or a certificate */

enum admin_role {
    ADMIN_NOBODY,
    ADMIN_LOCAL, /* asks from this machine without a token, where tokens are configured: health, status, metrics */
    ADMIN_READ,  /* and lists of users, roles, bans and changes */
    ADMIN_WRITE, /* and changes */
};

/* ---- tokens ---- */

/* Those that there are, as SHA-256: what is kept is no token. */
struct admin_tokens;

struct admin_tokens *admin_tokens_new(void);
void admin_tokens_free(struct admin_tokens *tokens); /* NULL is allowed */
void admin_tokens_add(struct admin_tokens *tokens, enum admin_role role, const char *name, struct bytes token);
/* Adds those of a file: lines of `read NAME TOKEN` or `write NAME TOKEN`; empty ones, and those that begin with `#`, are none.
 * STATUS_INVALID: `error` is "line N: ..." and shows nothing of the line. */
enum status admin_tokens_parse(struct admin_tokens *tokens, struct bytes text, char *error, size_t error_size);

/* ---- who asks ---- */

struct admin_asker {
    enum admin_role role;
    char name[ADMIN_NAME_BYTES_MAX + 16]; /* "token:NAME", "certificate:NAME"; "": a request from this machine, without either */
};

/* `authorization`: the header's value, "Bearer TOKEN". Takes as long for a wrong token as for a right one. */
struct admin_asker admin_token_asker(const struct admin_tokens *tokens, const char *authorization);
/* `name`: what the certificate was asked for, "" = there is none. `readers`, `writers`: names with commas; "*" is all. */
struct admin_asker admin_certificate_asker(const char *name, const char *readers, const char *writers);
/* Whether this is how an asker without a token might call itself: not like one with. */
bool admin_actor_allowed(struct bytes actor);

/* ---- web pages ---- */

/* Whether a browser that says `host` (NULL: it says none) can have been told so by this machine's user: addresses and
 * localhost, with a port or without. A page of another site, whose name somebody makes point to this machine, says that name. */
bool admin_host_is_local(const char *host);
/* "application/json", with parameters or without: what no form of a web page can send. */
bool admin_type_is_json(const char *type);

#endif
