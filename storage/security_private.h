/* security_private.h — what is in memory of users, roles and bans; for security.c and apply_security.c. */
#ifndef COTERIE_SECURITY_PRIVATE_H
#define COTERIE_SECURITY_PRIVATE_H

#include "security.h"
#include "state_private.h"

struct user {
    struct bytes name;               /* ours, like all texts below */
    struct bytes credential;
    uint64_t credential_epoch;
    bool enabled;
    struct quota quota;
    UT_hash_handle hh;               /* by name */
};

struct role {
    struct bytes name;
    struct rule *rules;              /* sorted; those of one filter are one for each right */
    uint32_t rule_count;
    uint32_t grant_count;
    UT_hash_handle hh;
};

/* The roles of one user. */
struct grants {
    struct bytes user;
    struct role *roles[SECURITY_ROLES_OF_USER_MAX];
    uint32_t count;
    UT_hash_handle hh;
};

struct ban {
    struct bytes key;                /* kind, subject */
    struct bytes reason, actor;
    uint64_t until_ms;
    UT_hash_handle hh;
};

struct security {
    struct user *users;
    struct role *roles;
    struct grants *grants;
    struct ban *bans;
    uint32_t audit_count;
    uint32_t address_bans;           /* of the bans */
    uint32_t queue_quotas;           /* users who have one on queued bytes */
    uint64_t revision;
};

/* The limits of a session: those of the state, or its user's if those are lower. */
uint64_t subscriptions_max_of(const struct state *state, const struct session *session);
uint64_t queue_bytes_max_of(const struct state *state, const struct session *session);

struct user *user_find(const struct security *security, struct bytes name);
struct role *role_find(const struct security *security, struct bytes name);
struct grants *grants_find(const struct security *security, struct bytes user);
struct ban *ban_find(const struct security *security, enum ban_kind kind, struct bytes subject);

/* Change memory and rows; what is given is copied. The caller has checked that there is room, and what is there. */
struct user *user_put(struct state *state, struct bytes name, struct bytes credential);
void user_set_quota(struct state *state, struct user *user, const struct quota *quota);
void user_write(struct state *state, const struct user *user);
void user_remove(struct state *state, struct user *user);
struct role *role_put(struct state *state, struct bytes name);
void role_remove(struct state *state, struct role *role);       /* granted to nobody */
/* The number of this rule in its role; UINT32_MAX: there is none. */
uint32_t rule_find(const struct role *role, enum right right, struct bytes filter);
void rule_put(struct state *state, struct role *role, const struct rule *rule);
void rule_remove(struct state *state, struct role *role, uint32_t number);
bool grant_exists(const struct grants *grants, const struct role *role);
void grant_put(struct state *state, struct bytes user, struct role *role);
void grant_remove(struct state *state, struct grants *grants, struct role *role);
void ban_put(struct state *state, enum ban_kind kind, struct bytes subject, const struct ban *facts);
void ban_remove(struct state *state, struct ban *ban);

bool security_load(struct state *state);
void security_free(struct security *security);

#endif
