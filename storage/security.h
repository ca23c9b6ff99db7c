/* security.h — users, roles, rules and bans, as part of the replicated state: the same on every node at one log index.
 *
 *   TABLE_USERS    name                  → credential, enabled, quota
 *   TABLE_ROLES    role                  → nothing
 *   TABLE_RULES    role NUL right filter → allow or deny, priority
 *   TABLE_GRANTS   user NUL role         → nothing
 *   TABLE_BANS     kind subject          → until when, why, by whom
 *   TABLE_AUDIT    log position          → cluster time, who, what: the last SECURITY_AUDIT_MAX changes
 *
 * A grant names a user by its name, whoever it was that found out who it is: users of a password file, of certificates
 * and of tokens have roles like those of TABLE_USERS. What is granted to SECURITY_EVERYONE everybody has, and what to
 * SECURITY_ANONYMOUS those without a name.
 *
 * Everything is in memory as well; readers are given what is there, until the next state_apply. */
#ifndef COTERIE_SECURITY_H
#define COTERIE_SECURITY_H

#include "command.h"
#include "rights.h"

#define SECURITY_EVERYONE "$everyone"
#define SECURITY_ANONYMOUS "$anonymous"

#define SECURITY_USERS_MAX 1000000
#define SECURITY_ROLES_MAX 10000
#define SECURITY_RULES_MAX 1000          /* of one role */
#define SECURITY_ROLES_OF_USER_MAX 32
#define SECURITY_BANS_MAX 100000
#define SECURITY_AUDIT_MAX 1000

struct security;
struct state;

const struct security *state_security(const struct state *state);

/* Grows with each change: what was found out under another number is to be found out anew. */
uint64_t security_revision(const struct security *security);

/* ---- users ---- */

struct security_user {
    struct bytes name;
    struct bytes credential;
    uint64_t credential_epoch;      /* log position at which it became that */
    bool enabled;
    struct quota quota;
};

uint32_t security_user_count(const struct security *security);
bool security_user(const struct security *security, struct bytes name, struct security_user *user);
/* The first user behind the name `after` (empty: of all); false: none. Borrowed until the next call on the state. */
bool security_next_user(const struct state *state, struct bytes after, struct security_user *user);

/* Whether this is (still) the credential of the user. */
bool security_credential_is(const struct security *security, struct bytes name, uint64_t credential_epoch);

/* Why this identity may not connect at all, as of cluster time: OUTCOME_DONE, OUTCOME_NOT_AUTHORIZED (disabled), or
 * OUTCOME_BANNED. */
enum outcome security_admits(const struct security *security, const struct names *names, uint64_t clock_ms);

/* ---- roles ---- */

/* Whether there is any role: then what no rule allows is denied. */
bool security_has_roles(const struct security *security);

struct rule_list {
    const struct rule **rules;      /* ours to free: rule_list_release */
    uint32_t count, capacity;
};
/* Appends the rules of all roles of this user (empty: anonymous), sorted. */
void security_rules(const struct security *security, struct bytes user, struct rule_list *list);
void rule_list_add(struct rule_list *list, const struct rule *rule);
void rule_list_release(struct rule_list *list);

/* For lists: calls `each`, in any order; false from it ends the walk. */
void security_each_role(const struct security *security, bool (*each)(void *context, struct bytes role), void *context);
void security_each_rule(const struct security *security, struct bytes role,
                        bool (*each)(void *context, const struct rule *rule), void *context);
void security_each_grant(const struct security *security,
                         bool (*each)(void *context, struct bytes user, struct bytes role), void *context);

/* ---- bans ---- */

struct security_ban {
    enum ban_kind kind;
    struct bytes subject, reason, actor;
    uint64_t until_ms;              /* cluster time; UINT64_MAX: for ever */
};
/* Those whose time is not over. */
void security_each_ban(const struct security *security, uint64_t clock_ms,
                       bool (*each)(void *context, const struct security_ban *ban), void *context);
bool security_bans_addresses(const struct security *security);
bool security_ban(const struct security *security, enum ban_kind kind, struct bytes subject, uint64_t clock_ms);

/* ---- the audit log ---- */

struct security_change {
    uint64_t position, clock_ms;
    struct bytes actor, what;       /* borrowed until the next call on the state */
};
/* The first change behind `position`; false: none. */
bool security_next_change(const struct state *state, uint64_t position, struct security_change *change);

#endif
