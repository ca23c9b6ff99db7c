/* apply_security.c — what operators change: users, roles, rules, grants, bans. Each change is one line of the audit
 * log.
 *
 *   command --apply--> refused: an outcome, nothing changed
 *                  └─> rows, EFFECT_SECURITY (nodes look at their clients again), a row of TABLE_AUDIT */
#include "apply.h"

#include "security_private.h"

#include <stdio.h>

/* ---- the audit log ---- */

static void put_text(struct buffer *out, const char *text)
{
    buffer_put_bytes(out, bytes_text(text));
}

/* "what name detail": quoting is for those who show it. */
static void audit(struct state *state, struct bytes actor, const char *what, struct bytes name, const char *between,
                  struct bytes detail)
{
    struct security *security = state->security;
    struct buffer what_row = {0};
    struct key key = key_of(state->position), zero = key_of(0);
    struct row oldest;

    buffer_put_varint(&what_row, state->clock_ms);
    buffer_put_block(&what_row, actor);
    put_text(&what_row, what);
    buffer_put_u8(&what_row, ' ');
    buffer_put_bytes(&what_row, name);
    if (detail.size > 0) {
        buffer_put_u8(&what_row, ' ');
        put_text(&what_row, between);
        buffer_put_bytes(&what_row, detail);
    }
    store_insert(state->store, TABLE_AUDIT, key_bytes(&key), buffer_bytes(&what_row));
    buffer_release(&what_row);
    if (++security->audit_count <= SECURITY_AUDIT_MAX)
        return;
    if (store_first_at(state->store, TABLE_AUDIT, key_bytes(&zero), &oldest)) {
        struct key first = key_of(key_number(oldest.key, 0));

        store_delete(state->store, TABLE_AUDIT, key_bytes(&first));
        security->audit_count--;
    }
}

static void answer(struct state *state, enum outcome outcome, bool rules, bool admission)
{
    struct effect *effect;

    outcome_add(state, EFFECT_ADMINISTERED, outcome);
    if (outcome == OUTCOME_QUOTA)
        state->counts.refused_quota++;
    if (outcome != OUTCOME_DONE)
        return;
    state->security->revision++;
    effect = effects_add(state->effects, EFFECT_SECURITY);
    effect->security.position = state->position;
    effect->security.rules = rules;
    effect->security.admission = admission;
}

/* ---- users ---- */

static bool name_reserved(struct bytes name)
{
    return name.data[0] == '$';
}

static enum outcome add_user(struct state *state, const struct command_user *command)
{
    if (user_find(state->security, command->name) != NULL)
        return OUTCOME_EXISTS;
    if (HASH_COUNT(state->security->users) >= SECURITY_USERS_MAX || name_reserved(command->name))
        return OUTCOME_QUOTA;
    user_put(state, command->name, command->credential);
    audit(state, command->actor, "user add", command->name, "", bytes_of(NULL, 0));
    return OUTCOME_DONE;
}

static void set_quota(struct state *state, struct user *user, const struct command_user *command)
{
    const struct quota *quota = &command->quota;
    char text[160];

    user_set_quota(state, user, quota);
    snprintf(text, sizeof text,
             "connections %llu, messages %llu/s, bytes %llu/s, subscriptions %llu, queued %llu bytes",
             (unsigned long long)quota->connections, (unsigned long long)quota->messages_per_s,
             (unsigned long long)quota->bytes_per_s, (unsigned long long)quota->subscriptions,
             (unsigned long long)quota->queued_bytes);
    audit(state, command->actor, "user quota", command->name, "", bytes_text(text));
}

static enum outcome change_user(struct state *state, enum command_type type, const struct command_user *command)
{
    struct user *user = user_find(state->security, command->name);

    if (user == NULL)
        return OUTCOME_NOT_FOUND;
    if (type == COMMAND_USER_PASSWORD) {
        user_put(state, command->name, command->credential);
        audit(state, command->actor, "user passwd", command->name, "", bytes_of(NULL, 0));
    } else if (type == COMMAND_USER_ENABLE) {
        user->enabled = command->enabled;
        user_write(state, user);
        audit(state, command->actor, command->enabled ? "user enable" : "user disable", command->name, "",
              bytes_of(NULL, 0));
    } else if (type == COMMAND_USER_QUOTA) {
        set_quota(state, user, command);
    } else {
        user_remove(state, user);
        audit(state, command->actor, "user remove", command->name, "", bytes_of(NULL, 0));
    }
    return OUTCOME_DONE;
}

void apply_user(struct state *state, enum command_type type, const struct command_user *command)
{
    bool removed = type == COMMAND_USER_REMOVE;
    enum outcome outcome = type == COMMAND_USER_ADD ? add_user(state, command) : change_user(state, type, command);

    answer(state, outcome, removed, removed || (type == COMMAND_USER_ENABLE && !command->enabled));
}

/* ---- roles ---- */

static enum outcome add_role(struct state *state, const struct command_role *command)
{
    if (role_find(state->security, command->name) != NULL)
        return OUTCOME_EXISTS;
    if (HASH_COUNT(state->security->roles) >= SECURITY_ROLES_MAX)
        return OUTCOME_QUOTA;
    role_put(state, command->name);
    audit(state, command->actor, "role add", command->name, "", bytes_of(NULL, 0));
    return OUTCOME_DONE;
}

/* A role goes when nobody has it: so the work is bounded, and no right vanishes unnoticed. */
static enum outcome remove_role(struct state *state, const struct command_role *command, struct role *role)
{
    if (role->grant_count > 0)
        return OUTCOME_EXISTS;
    role_remove(state, role);
    audit(state, command->actor, "role remove", command->name, "", bytes_of(NULL, 0));
    return OUTCOME_DONE;
}

static void audit_rule(struct state *state, const struct command_role *command)
{
    static const char *const changes[] = {"allow", "deny", "clear"};
    char text[80];

    snprintf(text, sizeof text, "%s%s%s%s priority %ld ", changes[command->change],
             (command->rights & RIGHT_PUBLISH) != 0 ? " publish" : "",
             (command->rights & RIGHT_SUBSCRIBE) != 0 ? " subscribe" : "",
             (command->rights & RIGHT_RECEIVE) != 0 ? " receive" : "", (long)command->priority);
    audit(state, command->actor, "role rule", command->name, text, command->filter);
}

static enum outcome change_rules(struct state *state, const struct command_role *command, struct role *role)
{
    bool found = false;

    if (command->change != RULE_CLEAR && role->rule_count + 3 > SECURITY_RULES_MAX)
        return OUTCOME_QUOTA;
    for (uint8_t right = RIGHT_PUBLISH; right <= RIGHT_RECEIVE; right = (uint8_t)(right << 1)) {
        uint32_t number = rule_find(role, (enum right)right, command->filter);
        struct rule rule = {.priority = command->priority,
                            .rights = right,
                            .deny = command->change == RULE_DENY,
                            .filter = command->filter};

        if ((command->rights & right) == 0)
            continue;
        found = found || number != UINT32_MAX;
        if (command->change != RULE_CLEAR)
            rule_put(state, role, &rule);
        else if (number != UINT32_MAX)
            rule_remove(state, role, number);
    }
    if (command->change == RULE_CLEAR && !found)
        return OUTCOME_NOT_FOUND;
    audit_rule(state, command);
    return OUTCOME_DONE;
}

static enum outcome change_grant(struct state *state, const struct command_role *command, struct role *role)
{
    struct grants *grants = grants_find(state->security, command->user);
    bool exists = grant_exists(grants, role);

    if (command->granted && exists)
        return OUTCOME_EXISTS;
    if (!command->granted && !exists)
        return OUTCOME_NOT_FOUND;
    if (command->granted && grants != NULL && grants->count == SECURITY_ROLES_OF_USER_MAX)
        return OUTCOME_QUOTA;
    if (command->granted)
        grant_put(state, command->user, role);
    else
        grant_remove(state, grants, role);
    audit(state, command->actor, command->granted ? "role grant" : "role revoke", command->name,
          command->granted ? "to " : "from ", command->user);
    return OUTCOME_DONE;
}

static enum outcome change_role(struct state *state, enum command_type type, const struct command_role *command)
{
    struct role *role = role_find(state->security, command->name);

    if (role == NULL)
        return OUTCOME_NOT_FOUND;
    if (type == COMMAND_ROLE_REMOVE)
        return remove_role(state, command, role);
    return type == COMMAND_ROLE_RULE ? change_rules(state, command, role) : change_grant(state, command, role);
}

void apply_role(struct state *state, enum command_type type, const struct command_role *command)
{
    answer(state, type == COMMAND_ROLE_ADD ? add_role(state, command) : change_role(state, type, command), true, false);
}

/* ---- bans ---- */

/* Those whose time is over make room. All of them: in memory they have no order that is the same on every node. */
static void forget_expired(struct state *state)
{
    struct ban *ban, *next;

    HASH_ITER(hh, state->security->bans, ban, next)
    {
        if (ban->until_ms <= state->clock_ms)
            ban_remove(state, ban);
    }
}

static enum outcome change_ban(struct state *state, const struct command_ban *command)
{
    static const char *const kinds[] = {"user", "client", "address"};
    struct ban *ban = ban_find(state->security, (enum ban_kind)command->kind, command->subject);
    struct ban facts = {.reason = command->reason, .actor = command->actor, .until_ms = UINT64_MAX};

    if (command->lifted && ban == NULL)
        return OUTCOME_NOT_FOUND;
    if (!command->lifted && ban == NULL && HASH_COUNT(state->security->bans) >= SECURITY_BANS_MAX)
        return OUTCOME_QUOTA;
    if (command->seconds != UINT32_MAX)
        facts.until_ms = seconds_from(state->clock_ms, command->seconds);
    if (command->lifted)
        ban_remove(state, ban);
    else
        ban_put(state, (enum ban_kind)command->kind, command->subject, &facts);
    audit(state, command->actor, command->lifted ? "ban remove" : "ban add", bytes_text(kinds[command->kind]), "",
          command->subject);
    return OUTCOME_DONE;
}

void apply_ban(struct state *state, const struct command_ban *command)
{
    if (HASH_COUNT(state->security->bans) >= SECURITY_BANS_MAX)
        forget_expired(state);
    answer(state, change_ban(state, command), false, !command->lifted);
}
