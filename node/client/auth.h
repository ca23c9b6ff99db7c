/* auth.h — who a client is: the methods of enhanced authentication (MQTT 5.0, 4.12), and the users they know.
 *
 *   handle_auth.c ──name of a method──▶ auth_begin ──▶ exchange
 *                 ──data of CONNECT or AUTH──▶ auth_continue ──▶ a challenge, done, or refused
 *
 * The front-end knows packets and no secrets; a method knows secrets and no packets. To add a method: its file, and a
 * row in the table of auth.c. Users come from the replicated state, those whose credential serves, and from the
 * configuration; what a method asks of them is in auth_private.h.
 *
 * Pure: randomness comes from the entropy given. Secrets are compared in constant time, and never logged. */
#ifndef COTERIE_AUTH_H
#define COTERIE_AUTH_H

#include "base/bytes.h"

struct auth;
struct auth_exchange;
struct security;

/* `users`: entries separated by commas or line ends, empty ones and those that begin with '#' left out. An entry is
 * `name:password`, or `name:SCRAM-SHA-256$iterations:salt$stored-key:server-key` (as PostgreSQL stores it), from which
 * the password cannot be had. Nobody: no method is offered. A bad entry counts for nothing; see auth_check_users(). */
struct auth *auth_new(struct bytes entropy, const char *users);
void auth_free(struct auth *auth);
/* Where the users of the replicated state are found, when they are asked for. */
void auth_set_security(struct auth *auth, const struct security *const *security);

/* The number of the first entry that is none, from 1; 0: all are good. */
unsigned auth_check_users(const char *users);

enum auth_step {
    AUTH_CHALLENGE, /* send `out`, and go on with the answer */
    AUTH_DONE,      /* it is auth_user(); send `out` with the good news */
    AUTH_REFUSED,   /* not who it says, or nobody we know: the same to the client */
    AUTH_MALFORMED, /* not a message of this method */
};

/* NULL: there is no such method. */
struct auth_exchange *auth_begin(struct auth *auth, struct bytes method);
/* Takes what the client said (may be empty at first); writes the answer to `out`. Not to be called after the last step.
 */
enum auth_step auth_continue(struct auth_exchange *exchange, struct bytes in, struct buffer *out);
/* As it has said, and after AUTH_DONE proved; empty: not yet. Borrowed from the exchange. */
struct bytes auth_user(const struct auth_exchange *exchange);
/* Which credential of the replicated state it has proved to know; 0: none of that. */
uint64_t auth_credential_epoch(const struct auth_exchange *exchange);
void auth_end(struct auth_exchange *exchange); /* NULL is allowed */

#endif
