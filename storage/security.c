/* security.c — see security.h: what is in memory, and its rows. What operators may do with it is in apply_security.c.
 *
 * Rows are written where they change: operators are slow. Keys hold names as they are; those of grants and rules are
 * parted by NUL, which no name holds. */
#include "security_private.h"

#include "base/memory.h"

#include <stdlib.h>

static struct bytes own_copy(struct bytes text)
{
    return bytes_of(memory_copy(text.data, text.size), text.size);
}

static void free_text(struct bytes text)
{
    free((void *)text.data);
}

/* ---- finding ---- */

struct user *user_find(const struct security *security, struct bytes name)
{
    struct user *user = NULL;

    HASH_FIND(hh, security->users, name.data, name.size, user);
    return user;
}

struct role *role_find(const struct security *security, struct bytes name)
{
    struct role *role = NULL;

    HASH_FIND(hh, security->roles, name.data, name.size, role);
    return role;
}

struct grants *grants_find(const struct security *security, struct bytes user)
{
    struct grants *grants = NULL;

    HASH_FIND(hh, security->grants, user.data, user.size, grants);
    return grants;
}

static void put_ban_key(struct buffer *key, enum ban_kind kind, struct bytes subject)
{
    buffer_put_u8(key, (uint8_t)kind);
    buffer_put_bytes(key, subject);
}

struct ban *ban_find(const struct security *security, enum ban_kind kind, struct bytes subject)
{
    struct buffer key = {0};
    struct ban *ban = NULL;

    if (security->bans == NULL)
        return NULL;
    put_ban_key(&key, kind, subject);
    HASH_FIND(hh, security->bans, key.data, key.size, ban);
    buffer_release(&key);
    return ban;
}

/* ---- users ---- */

void user_write(struct state *state, const struct user *user)
{
    struct buffer *row = &state->row;

    buffer_clear(row);
    buffer_put_block(row, user->credential);
    buffer_put_varint(row, user->credential_epoch);
    buffer_put_u8(row, user->enabled);
    buffer_put_varint(row, user->quota.connections);
    buffer_put_varint(row, user->quota.messages_per_s);
    buffer_put_varint(row, user->quota.bytes_per_s);
    buffer_put_varint(row, user->quota.subscriptions);
    buffer_put_varint(row, user->quota.queued_bytes);
    store_put(state->store, TABLE_USERS, user->name, buffer_bytes(row));
}

static struct user *user_new(struct security *security, struct bytes name)
{
    struct user *user = memory_zeroed(1, sizeof *user);

    user->name = own_copy(name);
    user->enabled = true;
    HASH_ADD_KEYPTR(hh, security->users, user->name.data, user->name.size, user);
    return user;
}

static void user_free(struct security *security, struct user *user)
{
    security->queue_quotas -= user->quota.queued_bytes != 0;
    HASH_DEL(security->users, user);
    free_text(user->name);
    free_text(user->credential);
    free(user);
}

void user_set_quota(struct state *state, struct user *user, const struct quota *quota)
{
    state->security->queue_quotas -= user->quota.queued_bytes != 0;
    user->quota = *quota;
    state->security->queue_quotas += quota->queued_bytes != 0;
    user_write(state, user);
}

static uint64_t lower(uint64_t max, uint64_t quota)
{
    return quota != 0 && quota < max ? quota : max;
}

uint64_t subscriptions_max_of(const struct state *state, const struct session *session)
{
    const struct user *user = user_find(state->security, session_user_name(session));

    return lower(state->settings.subscriptions_max, user != NULL ? user->quota.subscriptions : 0);
}

uint64_t queue_bytes_max_of(const struct state *state, const struct session *session)
{
    const struct user *user =
        state->security->queue_quotas > 0 ? user_find(state->security, session_user_name(session)) : NULL;

    return lower(state->settings.queue_bytes_max, user != NULL ? user->quota.queued_bytes : 0);
}

struct user *user_put(struct state *state, struct bytes name, struct bytes credential)
{
    struct user *user = user_find(state->security, name);

    if (user == NULL)
        user = user_new(state->security, name);
    free_text(user->credential);
    user->credential = own_copy(credential);
    user->credential_epoch = state->position;
    user_write(state, user);
    return user;
}

void user_remove(struct state *state, struct user *user)
{
    struct grants *grants;

    while ((grants = grants_find(state->security, user->name)) != NULL)
        grant_remove(state, grants, grants->roles[grants->count - 1]);
    store_delete(state->store, TABLE_USERS, user->name);
    user_free(state->security, user);
}

static bool load_user(struct state *state, const struct row *row)
{
    struct reader in = reader_of(row->value);
    struct user *user = user_new(state->security, row->key);

    user->credential = own_copy(reader_block(&in));
    user->credential_epoch = reader_varint(&in);
    user->enabled = reader_u8(&in) != 0;
    user->quota.connections = reader_varint(&in);
    user->quota.messages_per_s = reader_varint(&in);
    user->quota.bytes_per_s = reader_varint(&in);
    user->quota.subscriptions = reader_varint(&in);
    user->quota.queued_bytes = reader_varint(&in);
    state->security->queue_quotas += user->quota.queued_bytes != 0;
    return reader_done(&in);
}

/* ---- roles and their rules ---- */

static struct role *role_new(struct security *security, struct bytes name)
{
    struct role *role = memory_zeroed(1, sizeof *role);

    role->name = own_copy(name);
    HASH_ADD_KEYPTR(hh, security->roles, role->name.data, role->name.size, role);
    return role;
}

static void role_free(struct security *security, struct role *role)
{
    for (uint32_t i = 0; i < role->rule_count; i++)
        free_text(role->rules[i].filter);
    HASH_DEL(security->roles, role);
    free_text(role->name);
    free(role->rules);
    free(role);
}

struct role *role_put(struct state *state, struct bytes name)
{
    store_insert(state->store, TABLE_ROLES, name, bytes_of(NULL, 0));
    return role_new(state->security, name);
}

static struct bytes rule_key(struct state *state, const struct role *role, uint8_t right, struct bytes filter)
{
    buffer_clear(&state->text);
    buffer_put_bytes(&state->text, role->name);
    buffer_put_u8(&state->text, 0);
    buffer_put_u8(&state->text, right);
    buffer_put_bytes(&state->text, filter);
    return buffer_bytes(&state->text);
}

uint32_t rule_find(const struct role *role, enum right right, struct bytes filter)
{
    for (uint32_t i = 0; i < role->rule_count; i++) {
        if (role->rules[i].rights == right && bytes_equal(role->rules[i].filter, filter))
            return i;
    }
    return UINT32_MAX;
}

static void rule_delete(struct role *role, uint32_t number)
{
    free_text(role->rules[number].filter);
    role->rule_count--;
    memmove(&role->rules[number], &role->rules[number + 1], (role->rule_count - number) * sizeof *role->rules);
}

/* Behind those that come before it, and those of its kind. */
static void rule_insert(struct role *role, const struct rule *rule)
{
    uint32_t number = role->rule_count++;

    role->rules = memory_resize(role->rules, role->rule_count * sizeof *role->rules);
    for (; number > 0 && rule_compare(&role->rules[number - 1], rule) > 0; number--)
        role->rules[number] = role->rules[number - 1];
    role->rules[number] = *rule;
    role->rules[number].filter = own_copy(rule->filter);
    role->rules[number].substitutes = true;
}

void rule_remove(struct state *state, struct role *role, uint32_t number)
{
    const struct rule *rule = &role->rules[number];

    store_delete(state->store, TABLE_RULES, rule_key(state, role, rule->rights, rule->filter));
    rule_delete(role, number);
}

void rule_put(struct state *state, struct role *role, const struct rule *rule)
{
    uint32_t number = rule_find(role, (enum right)rule->rights, rule->filter);
    struct buffer *row = &state->row;

    if (number != UINT32_MAX)
        rule_delete(role, number);
    rule_insert(role, rule);
    buffer_clear(row);
    buffer_put_u8(row, rule->deny);
    buffer_put_u32(row, (uint32_t)rule->priority);
    store_put(state->store, TABLE_RULES, rule_key(state, role, rule->rights, rule->filter), buffer_bytes(row));
}

void role_remove(struct state *state, struct role *role)
{
    while (role->rule_count > 0)
        rule_remove(state, role, role->rule_count - 1);
    store_delete(state->store, TABLE_ROLES, role->name);
    role_free(state->security, role);
}

static bool load_role(struct state *state, const struct row *row)
{
    role_new(state->security, row->key);
    return row->value.size == 0;
}

/* What is before the first NUL, and what is behind it. */
static bool split_key(struct bytes key, struct bytes *before, struct bytes *behind)
{
    const uint8_t *nul = memchr(key.data, '\0', key.size);

    if (nul == NULL)
        return false;
    *before = bytes_of(key.data, (size_t)(nul - key.data));
    *behind = bytes_of(nul + 1, key.size - before->size - 1);
    return true;
}

static bool load_rule(struct state *state, const struct row *row)
{
    struct reader in = reader_of(row->value);
    struct rule rule = {0};
    struct bytes name, rest;
    struct role *role;

    rule.deny = reader_u8(&in) != 0;
    rule.priority = (int32_t)reader_u32(&in);
    if (!split_key(row->key, &name, &rest) || rest.size < 2 || (role = role_find(state->security, name)) == NULL)
        return false;
    rule.rights = rest.data[0];
    rule.filter = bytes_of(rest.data + 1, rest.size - 1);
    rule_insert(role, &rule);
    return reader_done(&in) && rule_filter_valid(rule.filter);
}

/* ---- grants ---- */

static struct bytes grant_key(struct state *state, struct bytes user, const struct role *role)
{
    buffer_clear(&state->text);
    buffer_put_bytes(&state->text, user);
    buffer_put_u8(&state->text, 0);
    buffer_put_bytes(&state->text, role->name);
    return buffer_bytes(&state->text);
}

bool grant_exists(const struct grants *grants, const struct role *role)
{
    for (uint32_t i = 0; grants != NULL && i < grants->count; i++) {
        if (grants->roles[i] == role)
            return true;
    }
    return false;
}

static void grant_add(struct security *security, struct bytes user, struct role *role)
{
    struct grants *grants = grants_find(security, user);

    if (grants == NULL) {
        grants = memory_zeroed(1, sizeof *grants);
        grants->user = own_copy(user);
        HASH_ADD_KEYPTR(hh, security->grants, grants->user.data, grants->user.size, grants);
    }
    grants->roles[grants->count++] = role;
    role->grant_count++;
}

static void grants_free(struct security *security, struct grants *grants)
{
    HASH_DEL(security->grants, grants);
    free_text(grants->user);
    free(grants);
}

void grant_put(struct state *state, struct bytes user, struct role *role)
{
    store_insert(state->store, TABLE_GRANTS, grant_key(state, user, role), bytes_of(NULL, 0));
    grant_add(state->security, user, role);
}

void grant_remove(struct state *state, struct grants *grants, struct role *role)
{
    uint32_t number = 0;

    store_delete(state->store, TABLE_GRANTS, grant_key(state, grants->user, role));
    while (grants->roles[number] != role)
        number++;
    grants->roles[number] = grants->roles[--grants->count];
    role->grant_count--;
    if (grants->count == 0)
        grants_free(state->security, grants);
}

static bool load_grant(struct state *state, const struct row *row)
{
    struct bytes user, name;
    struct role *role = split_key(row->key, &user, &name) ? role_find(state->security, name) : NULL;
    const struct grants *grants = role != NULL ? grants_find(state->security, user) : NULL;

    if (role == NULL || (grants != NULL && grants->count == SECURITY_ROLES_OF_USER_MAX))
        return false;
    grant_add(state->security, user, role);
    return row->value.size == 0;
}

/* ---- bans ---- */

static void ban_new(struct security *security, struct bytes key, const struct ban *facts)
{
    struct ban *ban = memory_zeroed(1, sizeof *ban);

    ban->key = own_copy(key);
    ban->reason = own_copy(facts->reason);
    ban->actor = own_copy(facts->actor);
    ban->until_ms = facts->until_ms;
    security->address_bans += ban->key.data[0] == BAN_ADDRESS;
    HASH_ADD_KEYPTR(hh, security->bans, ban->key.data, ban->key.size, ban);
}

static void ban_free(struct security *security, struct ban *ban)
{
    HASH_DEL(security->bans, ban);
    security->address_bans -= ban->key.data[0] == BAN_ADDRESS;
    free_text(ban->key);
    free_text(ban->reason);
    free_text(ban->actor);
    free(ban);
}

void ban_remove(struct state *state, struct ban *ban)
{
    store_delete(state->store, TABLE_BANS, ban->key);
    ban_free(state->security, ban);
}

void ban_put(struct state *state, enum ban_kind kind, struct bytes subject, const struct ban *facts)
{
    struct ban *former = ban_find(state->security, kind, subject);
    struct buffer *row = &state->row;

    if (former != NULL)
        ban_free(state->security, former);
    buffer_clear(&state->text);
    put_ban_key(&state->text, kind, subject);
    buffer_clear(row);
    buffer_put_varint(row, facts->until_ms);
    buffer_put_block(row, facts->reason);
    buffer_put_block(row, facts->actor);
    store_put(state->store, TABLE_BANS, buffer_bytes(&state->text), buffer_bytes(row));
    ban_new(state->security, buffer_bytes(&state->text), facts);
}

static bool load_ban(struct state *state, const struct row *row)
{
    struct reader in = reader_of(row->value);
    struct ban facts = {0};

    facts.until_ms = reader_varint(&in);
    facts.reason = reader_block(&in);
    facts.actor = reader_block(&in);
    ban_new(state->security, row->key, &facts);
    return reader_done(&in) && row->key.size > 1 && row->key.data[0] <= BAN_ADDRESS;
}

static bool load_change(struct state *state, const struct row *row)
{
    state->security->audit_count++;
    return row->key.size == sizeof(uint64_t);
}

/* ---- opening and closing ---- */

/* Later tables refer to earlier ones. */
static const struct {
    enum table table;
    bool (*load)(struct state *state, const struct row *row);
} loads[] = {
    {TABLE_USERS, load_user},   {TABLE_ROLES, load_role}, {TABLE_RULES, load_rule},
    {TABLE_GRANTS, load_grant}, {TABLE_BANS, load_ban},   {TABLE_AUDIT, load_change},
};

bool security_load(struct state *state)
{
    static const uint8_t smallest[] = {0};
    struct row row;

    state->security = memory_zeroed(1, sizeof *state->security);
    for (size_t i = 0; i < sizeof loads / sizeof loads[0]; i++) {
        for (bool found = store_first_at(state->store, loads[i].table, bytes_of(smallest, 1), &row); found;
             found = store_first_after(state->store, loads[i].table, row.key, &row)) {
            if (!loads[i].load(state, &row))
                return false;
        }
    }
    return true;
}

void security_free(struct security *security)
{
    struct user *user, *next_user;
    struct role *role, *next_role;
    struct grants *grants, *next_grants;
    struct ban *ban, *next_ban;

    if (security == NULL)
        return;
    HASH_ITER(hh, security->users, user, next_user)
    user_free(security, user);
    HASH_ITER(hh, security->grants, grants, next_grants)
    grants_free(security, grants);
    HASH_ITER(hh, security->roles, role, next_role)
    role_free(security, role);
    HASH_ITER(hh, security->bans, ban, next_ban)
    ban_free(security, ban);
    free(security);
}
