/* security_read.c — what nodes ask of users, roles and bans; see security.h. */
#include "security_private.h"

#include "base/memory.h"

#include <stdlib.h>

const struct security *state_security(const struct state *state)
{
    return state->security;
}

uint64_t security_revision(const struct security *security)
{
    return security->revision;
}

/* ---- users ---- */

uint32_t security_user_count(const struct security *security)
{
    return HASH_COUNT(security->users);
}

static void fill_user(const struct user *user, struct security_user *facts)
{
    *facts = (struct security_user){.name = user->name,
                                    .credential = user->credential,
                                    .credential_epoch = user->credential_epoch,
                                    .enabled = user->enabled,
                                    .quota = user->quota};
}

bool security_user(const struct security *security, struct bytes name, struct security_user *facts)
{
    const struct user *user = user_find(security, name);

    if (user != NULL)
        fill_user(user, facts);
    return user != NULL;
}

bool security_next_user(const struct state *state, struct bytes after, struct security_user *facts)
{
    static const uint8_t smallest[] = {0};
    struct row row;
    const struct user *user;
    bool found = after.size == 0 ? store_first_at(state->store, TABLE_USERS, bytes_of(smallest, 1), &row)
                                 : store_first_after(state->store, TABLE_USERS, after, &row);

    user = found ? user_find(state->security, row.key) : NULL;
    if (user != NULL)
        fill_user(user, facts);
    return user != NULL;
}

bool security_credential_is(const struct security *security, struct bytes name, uint64_t credential_epoch)
{
    const struct user *user = user_find(security, name);

    return user != NULL && user->credential_epoch == credential_epoch;
}

enum outcome security_admits(const struct security *security, const struct names *names, uint64_t clock_ms)
{
    const struct user *user = names->user.size > 0 ? user_find(security, names->user) : NULL;

    if (user != NULL && !user->enabled)
        return OUTCOME_NOT_AUTHORIZED;
    if ((names->user.size > 0 && security_ban(security, BAN_USER, names->user, clock_ms)) ||
        (names->client_id.size > 0 && security_ban(security, BAN_CLIENT_ID, names->client_id, clock_ms)))
        return OUTCOME_BANNED;
    return OUTCOME_DONE;
}

/* ---- roles ---- */

bool security_has_roles(const struct security *security)
{
    return security->roles != NULL;
}

void rule_list_add(struct rule_list *list, const struct rule *rule)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        list->rules = memory_resize(list->rules, list->capacity * sizeof *list->rules);
    }
    list->rules[list->count++] = rule;
}

void rule_list_release(struct rule_list *list)
{
    free(list->rules);
    *list = (struct rule_list){0};
}

static void add_rules(const struct security *security, struct bytes user, struct rule_list *list)
{
    const struct grants *grants = grants_find(security, user);

    for (uint32_t i = 0; grants != NULL && i < grants->count; i++) {
        const struct role *role = grants->roles[i];

        for (uint32_t k = 0; k < role->rule_count; k++)
            rule_list_add(list, &role->rules[k]);
    }
}

static int compare(const void *a, const void *b)
{
    return rule_compare(*(const struct rule *const *)a, *(const struct rule *const *)b);
}

void security_rules(const struct security *security, struct bytes user, struct rule_list *list)
{
    uint32_t first = list->count;

    add_rules(security, user.size > 0 ? user : bytes_text(SECURITY_ANONYMOUS), list);
    add_rules(security, bytes_text(SECURITY_EVERYONE), list);
    if (list->count > first + 1)
        qsort(list->rules + first, list->count - first, sizeof *list->rules, compare);
}

void security_each_role(const struct security *security, bool (*each)(void *context, struct bytes role), void *context)
{
    const struct role *role, *next;

    HASH_ITER(hh, security->roles, role, next)
    {
        if (!each(context, role->name))
            return;
    }
}

void security_each_rule(const struct security *security, struct bytes name,
                        bool (*each)(void *context, const struct rule *rule), void *context)
{
    const struct role *role = role_find(security, name);

    for (uint32_t i = 0; role != NULL && i < role->rule_count; i++) {
        if (!each(context, &role->rules[i]))
            return;
    }
}

void security_each_grant(const struct security *security,
                         bool (*each)(void *context, struct bytes user, struct bytes role), void *context)
{
    const struct grants *grants, *next;

    HASH_ITER(hh, security->grants, grants, next)
    {
        for (uint32_t i = 0; i < grants->count; i++) {
            if (!each(context, grants->user, grants->roles[i]->name))
                return;
        }
    }
}

/* ---- bans ---- */

bool security_ban(const struct security *security, enum ban_kind kind, struct bytes subject, uint64_t clock_ms)
{
    const struct ban *ban = ban_find(security, kind, subject);

    return ban != NULL && ban->until_ms > clock_ms;
}

bool security_bans_addresses(const struct security *security)
{
    return security->address_bans > 0;
}

void security_each_ban(const struct security *security, uint64_t clock_ms,
                       bool (*each)(void *context, const struct security_ban *ban), void *context)
{
    const struct ban *ban, *next;

    HASH_ITER(hh, security->bans, ban, next)
    {
        struct security_ban facts = {.kind = (enum ban_kind)ban->key.data[0],
                                     .subject = bytes_of(ban->key.data + 1, ban->key.size - 1),
                                     .reason = ban->reason,
                                     .actor = ban->actor,
                                     .until_ms = ban->until_ms};

        if (ban->until_ms > clock_ms && !each(context, &facts))
            return;
    }
}

/* ---- the audit log ---- */

bool security_next_change(const struct state *state, uint64_t position, struct security_change *change)
{
    struct key key = key_of(position);
    struct reader in;
    struct row row;

    if (!store_first_after(state->store, TABLE_AUDIT, key_bytes(&key), &row))
        return false;
    in = reader_of(row.value);
    change->position = key_number(row.key, 0);
    change->clock_ms = reader_varint(&in);
    change->actor = reader_block(&in);
    change->what = in.rest;
    return true;
}
