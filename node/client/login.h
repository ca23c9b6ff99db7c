/* login.h — who a client is, found out from its CONNECT: methods in an order, each of which says yes, no, or not mine.
 *
 *   what the client brings, methods of its listener ──login_new──▶ login ─┬─ settled: no secret has to be looked at
 *                                                                         └─ login_run, on another thread ──▶ settled
 *
 *   certificate     the transport has verified a certificate: its name
 *   psk             TLS with a key known beforehand: its identity
 *   users           user name and password, of the replicated state or of authentication.users
 *   password_file   the same, of the password file
 *   token           the password is a JSON Web Token: the name is in it
 *   scram           AUTH with SCRAM-SHA-256; see auth.h. No part of a login
 *
 * A method that does not know the client passes on to the next. One that knows it and finds its password wrong is the
 * end, unless fall-through is configured. Who says nothing of who it is, is anonymous, if the listener allows that by
 * an explicit word; so is who gives a user name where nobody at all could know it. To add a method: a row in the
 * table of login.c, and what it tries.
 *
 * Every method with hashes costs one of them for every login, known name or not: neither the answer nor the time tells
 * whether there is such a user. What was found right once is remembered for as long as this node lives, as a keyed
 * hash of password and credential together: a reconnect storm does not cost hashes again.
 *
 * Nothing here knows packets or sockets. login_run touches its login alone. */
#ifndef COTERIE_LOGIN_H
#define COTERIE_LOGIN_H

#include "base/bytes.h"
#include "base/status.h"

struct auth;
struct login;
struct password_file;
struct security;
struct token_keys;

#define LOGIN_METHODS_DEFAULT "certificate,psk,scram,users,password_file,token"

enum login_method {
    LOGIN_CERTIFICATE,
    LOGIN_PSK,
    LOGIN_SCRAM,
    LOGIN_USERS,
    LOGIN_PASSWORD_FILE,
    LOGIN_TOKEN,
    LOGIN_METHODS,
    LOGIN_ANONYMOUS = LOGIN_METHODS,   /* not a method: the listener's word */
};

/* The methods of a list with commas, as bits (1 << method); false: one is none, *unknown is it. Empty: the default. */
bool login_methods(const char *list, unsigned *methods, struct bytes *unknown);
/* Those of the list that are also in `methods`, in its order, with commas; "": there are none. */
void login_methods_among(const char *list, unsigned methods, char *out, size_t size);

/* ---- of a node ---- */

struct logins_settings {
    const char *methods;          /* of listeners that do not say; "" or NULL: LOGIN_METHODS_DEFAULT */
    bool fall_through;            /* a wrong password is not the end */
    uint32_t remembered_max;      /* right passwords that are remembered; 0 = none */
};

struct logins;

/* `auth` knows the users of the configuration; borrowed. */
struct logins *logins_new(struct bytes entropy, const struct logins_settings *settings, const struct auth *auth);
void logins_free(struct logins *logins);
/* Replace what there is; both are taken over, and may be NULL. */
void logins_set_password_file(struct logins *logins, struct password_file *file);
void logins_set_token_keys(struct logins *logins, struct token_keys *keys);

/* ---- one login ---- */

struct login_facts {
    const char *methods;                        /* of the listener; "" or NULL: the node's */
    bool anonymous;                             /* the listener allows it */
    const char *certificate_user, *psk_identity;   /* NULL: none */
    bool has_user_name, has_password;
    struct bytes user_name, password;
};

/* Everything is copied. `number` is for whoever asks. */
struct login *login_new(struct logins *logins, const struct security *security, const struct login_facts *facts,
                        uint64_t number);
void login_free(struct login *login);          /* NULL is allowed; wipes the password */
bool login_settled(const struct login *login);
void login_run(struct login *login, uint64_t wall_s);
/* Back on the thread of `logins`, after login_run(): remembers what was right. */
void login_learn(struct logins *logins, const struct login *login);

uint64_t login_number(const struct login *login);
struct bytes login_user_name(const struct login *login);   /* as the client gave it */

struct login_result {
    bool granted;
    bool secret;                  /* refused for a wrong password or token, or an unknown user; else for want of any */
    enum login_method method;     /* granted */
    struct bytes user;            /* granted; empty: anonymous. Borrowed from the login */
    uint64_t credential_epoch;    /* granted: as which user of the replicated state, by which credential; 0: none */
    uint64_t valid_s;             /* from login_run() on; UINT64_MAX: for ever */
};
struct login_result login_result(const struct login *login);

/* ---- for a table at start, and for listeners that nobody could use ---- */

/* Whether the method could know anybody now. */
bool logins_method_ready(const struct logins *logins, enum login_method method, const struct security *security);

/* Whether AUTH with SCRAM is offered where these methods are. */
bool logins_offer_scram(const struct logins *logins, const char *methods);

#endif
