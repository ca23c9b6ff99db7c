/* Users, roles, bans and whose a session is, in the replicated state. */
#include "state_world.h"

#include "security.h"

#include <stdio.h>
#include <string.h>

#define OPERATOR bytes_text("operator")
#define PERSISTENT_OF(name) ((struct connect_options){.expiry_s = NEVER, .user = (name)})

/* ---- given, when, then ---- */

static enum outcome administer(struct world *w, const struct command *command)
{
    world_apply_one(w, 2, command);
    const struct effect *effect = world_effect(w, 1, EFFECT_ADMINISTERED, 0);
    assert_non_null(effect);
    bool told = world_effect_count(w, 1, EFFECT_SECURITY) == 1;
    assert_int_equal(told, effect->outcome == OUTCOME_DONE);
    return effect->outcome;
}

static enum outcome when_user(struct world *w, enum command_type type, const char *name)
{
    struct command command = {.type = type, .user = {.actor = OPERATOR, .name = bytes_text(name)}};
    if (type == COMMAND_USER_ADD || type == COMMAND_USER_PASSWORD)
        command.user.credential = bytes_text("$argon2id$of-something");
    return administer(w, &command);
}

static enum outcome when_enabled(struct world *w, const char *name, bool enabled)
{
    struct command command = {.type = COMMAND_USER_ENABLE,
                              .user = {.actor = OPERATOR, .name = bytes_text(name), .enabled = enabled}};
    return administer(w, &command);
}

static enum outcome when_role(struct world *w, enum command_type type, const char *name)
{
    struct command command = {.type = type, .role = {.actor = OPERATOR, .name = bytes_text(name)}};
    return administer(w, &command);
}

static enum outcome when_rule(struct world *w, const char *role, enum rule_change change, uint8_t rights,
                              const char *filter, int32_t priority)
{
    struct command command = {.type = COMMAND_ROLE_RULE,
                              .role = {.actor = OPERATOR,
                                       .name = bytes_text(role),
                                       .change = (uint8_t)change,
                                       .rights = rights,
                                       .priority = priority,
                                       .filter = bytes_text(filter)}};
    return administer(w, &command);
}

static enum outcome when_granted(struct world *w, const char *role, const char *user, bool granted)
{
    struct command command = {.type = COMMAND_ROLE_GRANT,
                              .role = {.actor = OPERATOR,
                                       .name = bytes_text(role),
                                       .user = bytes_text(user),
                                       .granted = granted}};
    return administer(w, &command);
}

static enum outcome when_banned(struct world *w, enum ban_kind kind, const char *subject, uint32_t seconds)
{
    struct command command = {
        .type = COMMAND_BAN,
        .ban = {.actor = OPERATOR, .kind = (uint8_t)kind, .subject = bytes_text(subject), .seconds = seconds}};
    return administer(w, &command);
}

/* What the rules of a user say, on both replicas. */
static enum verdict verdict_of(struct world *w, const char *user, enum right right, const char *topic)
{
    enum verdict verdicts[WORLD_REPLICAS];
    const struct names names = {.user = bytes_text(user), .client_id = bytes_text("id")};
    for (int i = 0; i < WORLD_REPLICAS; i++) {
        struct rule_list rules = {0};
        security_rules(state_security(w->states[i]), names.user, &rules);
        verdicts[i] = rules_judge(rules.rules, rules.count, &names, right, bytes_text(topic));
        rule_list_release(&rules);
    }
    assert_int_equal(verdicts[0], verdicts[1]);
    return verdicts[0];
}

static void given_role(struct world *w, const char *role, enum rule_change change, const char *filter,
                       int32_t priority, const char *user)
{
    when_role(w, COMMAND_ROLE_ADD, role);
    assert_int_equal(when_rule(w, role, change, RIGHTS_ALL, filter, priority), OUTCOME_DONE);
    assert_int_equal(when_granted(w, role, user, true), OUTCOME_DONE);
}

/* ---- users ---- */

static void a_user_is_added_once_and_removed_once(void **state)
{
    struct world *w = *state;
    struct security_user user;
    assert_int_equal(when_user(w, COMMAND_USER_ADD, "ann"), OUTCOME_DONE);
    assert_int_equal(when_user(w, COMMAND_USER_ADD, "ann"), OUTCOME_EXISTS);
    assert_true(security_user(state_security(w->states[1]), bytes_text("ann"), &user));
    assert_true(user.enabled && user.credential.size > 0);
    assert_int_equal(when_user(w, COMMAND_USER_REMOVE, "ann"), OUTCOME_DONE);
    assert_int_equal(when_user(w, COMMAND_USER_REMOVE, "ann"), OUTCOME_NOT_FOUND);
    assert_int_equal(when_user(w, COMMAND_USER_PASSWORD, "ann"), OUTCOME_NOT_FOUND);
    assert_false(security_user(state_security(w->states[1]), bytes_text("ann"), &user));
}

static void names_of_ours_cannot_be_users(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_user(w, COMMAND_USER_ADD, SECURITY_EVERYONE), OUTCOME_QUOTA);
}

static void users_are_listed_by_name(void **state)
{
    struct world *w = *state;
    struct security_user user;
    when_user(w, COMMAND_USER_ADD, "bob");
    when_user(w, COMMAND_USER_ADD, "ann");
    assert_true(security_next_user(w->states[0], bytes_of(NULL, 0), &user));
    assert_true(bytes_equal(user.name, bytes_text("ann")));
    assert_true(security_next_user(w->states[0], user.name, &user));
    assert_true(bytes_equal(user.name, bytes_text("bob")));
    assert_false(security_next_user(w->states[0], user.name, &user));
}

static void a_disabled_user_does_not_connect_from_that_place_in_the_log(void **state)
{
    struct world *w = *state;
    when_user(w, COMMAND_USER_ADD, "ann");
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("ann")), OUTCOME_DONE);
    uint64_t epoch = world_client(w, "c")->owner.client_epoch;
    when_enabled(w, "ann", false);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("ann")), OUTCOME_NOT_AUTHORIZED);
    assert_int_equal(world_effect_count(w, 1, EFFECT_TAKEN_OVER), 0);
    struct session_facts facts;
    assert_true(state_session_by_client_id(w->states[0], bytes_text("c"), &facts));
    assert_int_equal(facts.client_epoch, epoch);
    when_enabled(w, "ann", true);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("ann")), OUTCOME_DONE);
}

/* A node that had not applied the change yet has checked the old password: the log decides. */
static void a_password_counts_until_it_is_changed_in_the_log(void **state)
{
    struct world *w = *state;
    struct security_user user;
    when_user(w, COMMAND_USER_ADD, "ann");
    security_user(state_security(w->states[0]), bytes_text("ann"), &user);
    struct connect_options options = {.user = "ann", .credential_epoch = user.credential_epoch};
    assert_int_equal(world_connect(w, "c", options), OUTCOME_DONE);
    when_user(w, COMMAND_USER_PASSWORD, "ann");
    assert_int_equal(world_connect(w, "d", options), OUTCOME_NOT_AUTHORIZED);
    security_user(state_security(w->states[1]), bytes_text("ann"), &user);
    options.credential_epoch = user.credential_epoch;
    assert_int_equal(world_connect(w, "d", options), OUTCOME_DONE);
    when_user(w, COMMAND_USER_REMOVE, "ann");
    assert_int_equal(world_connect(w, "e", options), OUTCOME_NOT_AUTHORIZED);
    when_user(w, COMMAND_USER_ADD, "ann");
    assert_int_equal(world_connect(w, "e", options), OUTCOME_NOT_AUTHORIZED);
}

/* ---- whose a session is ---- */

static void a_session_is_not_given_to_another_user(void **state)
{
    struct world *w = *state;
    world_connect(w, "c", PERSISTENT_OF("ann"));
    world_subscribe(w, "c", "a", 1);
    const struct connect_options theirs[] = {
        PERSISTENT_OF("bob"), PERSISTENT_OF(NULL), {.clean_start = true, .user = "bob"}, {.node = 2, .user = "an"}};
    for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++) {
        assert_int_equal(world_connect(w, "c", theirs[i]), OUTCOME_NOT_AUTHORIZED);
        assert_int_equal(world_effect_count(w, 1, EFFECT_TAKEN_OVER), 0);
    }
    world_client(w, "c")->node = 1; /* the owner is still where it was, and goes on */
    assert_int_equal(world_publish(w, "c", "a", "m", (struct publish_options){.qos = 1}), OUTCOME_DONE);
    world_end(w, "c", END_CLEAN);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("bob")), OUTCOME_NOT_AUTHORIZED);
    assert_int_equal(world_connect(w, "c", (struct connect_options){.expiry_s = NEVER, .user = "ann", .node = 2}),
                     OUTCOME_DONE);
    assert_true(world_client(w, "c")->session_present);
    assert_string_equal(world_queue(w, "c"), "m@1");
}

static void a_session_that_is_over_is_nobodys(void **state)
{
    struct world *w = *state;
    world_connect(w, "c", (struct connect_options){.user = "ann"});
    world_end(w, "c", END_CLEAN);
    assert_int_equal(world_connect(w, "c", (struct connect_options){.expiry_s = 10, .user = "bob"}), OUTCOME_DONE);
    world_end(w, "c", END_CLEAN);
    w->clock_ms += 10000; /* expired, and no TICK came */
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF(NULL)), OUTCOME_DONE);
    assert_false(world_client(w, "c")->session_present);
}

static void a_session_without_a_name_may_be_adopted_once(void **state)
{
    struct world *w = *state;
    struct connect_options ann = PERSISTENT_OF("ann"), bob = PERSISTENT_OF("bob");
    ann.adopts = bob.adopts = true;
    world_connect(w, "c", PERSISTENT_OF(NULL));
    world_subscribe(w, "c", "a", 1);
    assert_int_equal(world_connect(w, "c", ann), OUTCOME_DONE);
    assert_true(world_client(w, "c")->session_present);
    assert_int_equal(world_connect(w, "c", bob), OUTCOME_NOT_AUTHORIZED);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF(NULL)), OUTCOME_NOT_AUTHORIZED);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("ann")), OUTCOME_DONE);
}

/* ---- roles ---- */

static void the_rules_of_all_roles_of_a_user_count(void **state)
{
    struct world *w = *state;
    given_role(w, "reader", RULE_ALLOW, "a/#", 0, "ann");
    given_role(w, "no-secrets", RULE_DENY, "a/secret", 1, "ann");
    given_role(w, "all", RULE_ALLOW, "public", 0, SECURITY_EVERYONE);
    assert_int_equal(verdict_of(w, "ann", RIGHT_RECEIVE, "a/b"), VERDICT_ALLOW);
    assert_int_equal(verdict_of(w, "ann", RIGHT_RECEIVE, "a/secret"), VERDICT_DENY);
    assert_int_equal(verdict_of(w, "ann", RIGHT_PUBLISH, "public"), VERDICT_ALLOW);
    assert_int_equal(verdict_of(w, "bob", RIGHT_PUBLISH, "public"), VERDICT_ALLOW);
    assert_int_equal(verdict_of(w, "bob", RIGHT_PUBLISH, "a/b"), VERDICT_NONE);
    assert_int_equal(verdict_of(w, "", RIGHT_PUBLISH, "a/b"), VERDICT_NONE);
    when_granted(w, "reader", SECURITY_ANONYMOUS, true);
    assert_int_equal(verdict_of(w, "", RIGHT_PUBLISH, "a/b"), VERDICT_ALLOW);
    assert_int_equal(verdict_of(w, "bob", RIGHT_PUBLISH, "a/b"), VERDICT_NONE);
}

static void a_rule_replaces_the_one_about_the_same(void **state)
{
    struct world *w = *state;
    given_role(w, "r", RULE_ALLOW, "a", 0, "ann");
    assert_int_equal(when_rule(w, "r", RULE_DENY, RIGHT_PUBLISH, "a", -5), OUTCOME_DONE);
    assert_int_equal(verdict_of(w, "ann", RIGHT_PUBLISH, "a"), VERDICT_DENY);
    assert_int_equal(verdict_of(w, "ann", RIGHT_SUBSCRIBE, "a"), VERDICT_ALLOW);
    assert_int_equal(when_rule(w, "r", RULE_CLEAR, RIGHT_PUBLISH, "a", 0), OUTCOME_DONE);
    assert_int_equal(verdict_of(w, "ann", RIGHT_PUBLISH, "a"), VERDICT_NONE);
    assert_int_equal(when_rule(w, "r", RULE_CLEAR, RIGHT_PUBLISH, "a", 0), OUTCOME_NOT_FOUND);
}

static void a_role_that_somebody_has_stays(void **state)
{
    struct world *w = *state;
    given_role(w, "r", RULE_ALLOW, "a", 0, "ann");
    assert_int_equal(when_role(w, COMMAND_ROLE_ADD, "r"), OUTCOME_EXISTS);
    assert_int_equal(when_role(w, COMMAND_ROLE_REMOVE, "r"), OUTCOME_EXISTS);
    assert_int_equal(when_granted(w, "r", "ann", true), OUTCOME_EXISTS);
    assert_int_equal(when_granted(w, "r", "ann", false), OUTCOME_DONE);
    assert_int_equal(when_granted(w, "r", "ann", false), OUTCOME_NOT_FOUND);
    assert_int_equal(when_role(w, COMMAND_ROLE_REMOVE, "r"), OUTCOME_DONE);
    assert_false(security_has_roles(state_security(w->states[1])));
    assert_int_equal(when_granted(w, "r", "ann", true), OUTCOME_NOT_FOUND);
}

static void a_removed_user_has_no_roles_when_it_comes_back(void **state)
{
    struct world *w = *state;
    when_user(w, COMMAND_USER_ADD, "ann");
    given_role(w, "r", RULE_ALLOW, "a", 0, "ann");
    when_user(w, COMMAND_USER_REMOVE, "ann");
    when_user(w, COMMAND_USER_ADD, "ann");
    assert_int_equal(verdict_of(w, "ann", RIGHT_PUBLISH, "a"), VERDICT_NONE);
    assert_int_equal(when_role(w, COMMAND_ROLE_REMOVE, "r"), OUTCOME_DONE);
}

static void a_user_has_only_so_many_roles(void **state)
{
    struct world *w = *state;
    char name[16];
    for (int i = 0; i < SECURITY_ROLES_OF_USER_MAX; i++) {
        snprintf(name, sizeof name, "r%d", i);
        given_role(w, name, RULE_ALLOW, name, 0, "ann");
    }
    when_role(w, COMMAND_ROLE_ADD, "one more");
    assert_int_equal(when_granted(w, "one more", "ann", true), OUTCOME_QUOTA);
}

static void a_role_has_only_so_many_rules(void **state)
{
    struct world *w = *state;
    char filter[16];
    enum outcome outcome = OUTCOME_DONE;
    uint32_t count = 0;
    when_role(w, COMMAND_ROLE_ADD, "r");
    w->reopen = false;
    for (; outcome == OUTCOME_DONE; count++) {
        snprintf(filter, sizeof filter, "f/%u", count);
        outcome = when_rule(w, "r", RULE_ALLOW, RIGHT_PUBLISH, filter, 0);
    }
    assert_int_equal(outcome, OUTCOME_QUOTA);
    assert_in_range(count, SECURITY_RULES_MAX - 3, SECURITY_RULES_MAX);
}

/* ---- wills ---- */

static struct connect_options with_will(const char *topic, bool allowed)
{
    return (struct connect_options){.user = "ann", .will_topic = topic, .will_qos = 1, .will_allowed = allowed};
}

static const char *what_arrives(struct world *w)
{
    return world_queue(w, "watcher");
}

static void given_watcher(struct world *w)
{
    world_connect(w, "watcher", (struct connect_options){.expiry_s = NEVER});
    world_subscribe(w, "watcher", "#", 1);
}

static void a_will_fires_if_there_are_no_roles(void **state)
{
    struct world *w = *state;
    given_watcher(w);
    world_connect(w, "c", with_will("w", false));
    world_end(w, "c", END_WITH_WILL);
    assert_string_equal(what_arrives(w), "will@1");
}

static void a_will_fires_with_the_rights_of_that_moment(void **state)
{
    struct world *w = *state;
    given_watcher(w);
    given_role(w, "r", RULE_ALLOW, "w/#", 0, "ann");
    world_connect(w, "kept", with_will("w/1", false));
    world_end(w, "kept", END_WITH_WILL);
    assert_string_equal(what_arrives(w), "will@1");
    world_drain(w, "watcher");
    world_connect(w, "revoked", with_will("w/1", false));
    world_connect(w, "elsewhere", (struct connect_options){.node = 2, .user = "ann", .will_topic = "w/2"});
    world_connect(w, "later", (struct connect_options){.expiry_s = NEVER, .user = "ann", .will_topic = "w/3",
                                                       .will_delay_s = 5});
    world_end(w, "later", END_WITH_WILL);
    when_granted(w, "r", "ann", false);
    world_end(w, "revoked", END_WITH_WILL);
    world_node_down(w, 2);
    world_tick(w, 5000);
    assert_string_equal(what_arrives(w), "");
    assert_int_equal(world_counts(w).wills_refused, 3);
    assert_int_equal(world_counts(w).wills_pending, 0);
}

static void a_node_with_rules_of_its_own_may_allow_what_no_role_denies(void **state)
{
    struct world *w = *state;
    given_watcher(w);
    given_role(w, "r", RULE_DENY, "never", 0, SECURITY_EVERYONE);
    world_connect(w, "one", with_will("w", true));
    world_end(w, "one", END_WITH_WILL);
    assert_string_equal(what_arrives(w), "will@1");
    world_connect(w, "two", with_will("never", true));
    world_end(w, "two", END_WITH_WILL);
    world_connect(w, "three", with_will("w", false));
    world_end(w, "three", END_WITH_WILL);
    assert_string_equal(what_arrives(w), "will@1");
}

/* ---- quotas ---- */

static void the_quota_of_a_user_lowers_the_limits_of_its_sessions(void **state)
{
    struct world *w = *state;
    when_user(w, COMMAND_USER_ADD, "ann");
    struct command command = {.type = COMMAND_USER_QUOTA,
                              .user = {.actor = OPERATOR,
                                       .name = bytes_text("ann"),
                                       .quota = {.subscriptions = 1, .queued_bytes = 2}}};
    assert_int_equal(administer(w, &command), OUTCOME_DONE);
    world_connect(w, "c", PERSISTENT_OF("ann"));
    assert_int_equal(world_subscribe(w, "c", "a", 1), 1);
    assert_int_equal(world_subscribe(w, "c", "b", 1), 0x97);
    world_end(w, "c", END_CLEAN);
    world_connect(w, "other", PERSISTENT_OF(NULL));
    for (const char *payload = "1234"; *payload != '\0'; payload++)
        world_publish(w, "other", "a", (char[]){*payload, '\0'}, (struct publish_options){.qos = 1});
    assert_string_equal(world_queue(w, "c"), "3@1 4@1");
}

/* ---- bans ---- */

static void who_is_banned_does_not_connect_until_it_is_over(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_banned(w, BAN_USER, "ann", 10), OUTCOME_DONE);
    assert_int_equal(when_banned(w, BAN_CLIENT_ID, "c", UINT32_MAX), OUTCOME_DONE);
    assert_int_equal(world_connect(w, "x", PERSISTENT_OF("ann")), OUTCOME_BANNED);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("bob")), OUTCOME_BANNED);
    assert_int_equal(world_connect(w, "x", PERSISTENT_OF("c")), OUTCOME_DONE);
    world_end(w, "x", END_CLEAN);
    w->clock_ms += 10000;
    assert_int_equal(world_connect(w, "y", PERSISTENT_OF("ann")), OUTCOME_DONE);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("bob")), OUTCOME_BANNED);
    struct command lift = {.type = COMMAND_BAN,
                           .ban = {.actor = OPERATOR, .kind = BAN_CLIENT_ID, .lifted = true, .subject = bytes_text("c")}};
    assert_int_equal(administer(w, &lift), OUTCOME_DONE);
    assert_int_equal(administer(w, &lift), OUTCOME_NOT_FOUND);
    assert_int_equal(world_connect(w, "c", PERSISTENT_OF("bob")), OUTCOME_DONE);
}

/* ---- the audit log ---- */

static void each_change_is_written_down_and_no_refusal(void **state)
{
    struct world *w = *state;
    struct security_change change;
    when_user(w, COMMAND_USER_ADD, "ann");
    when_user(w, COMMAND_USER_ADD, "ann");
    given_role(w, "r", RULE_DENY, "a/#", 3, "ann");
    const char *const wanted[] = {
        "user add ann", "role add r", "role rule r deny publish subscribe receive priority 3 a/#", "role grant r to ann"};
    uint64_t position = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        assert_true(security_next_change(w->states[1], position, &change));
        assert_true(bytes_equal(change.actor, OPERATOR));
        assert_true(bytes_equal(change.what, bytes_text(wanted[i])));
        position = change.position;
    }
    assert_false(security_next_change(w->states[1], position, &change));
}

static void the_audit_log_keeps_the_last(void **state)
{
    struct world *w = *state;
    struct security_change change = {0};
    uint32_t count = 0;
    w->reopen = false;
    when_user(w, COMMAND_USER_ADD, "ann");
    for (int i = 0; i < SECURITY_AUDIT_MAX + 5; i++)
        when_enabled(w, "ann", i % 2 == 0);
    while (security_next_change(w->states[0], change.position, &change))
        count++;
    assert_int_equal(count, SECURITY_AUDIT_MAX);
}

#define WORLD(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WORLD(a_user_is_added_once_and_removed_once),
        WORLD(names_of_ours_cannot_be_users),
        WORLD(users_are_listed_by_name),
        WORLD(a_disabled_user_does_not_connect_from_that_place_in_the_log),
        WORLD(a_password_counts_until_it_is_changed_in_the_log),
        WORLD(a_session_is_not_given_to_another_user),
        WORLD(a_session_that_is_over_is_nobodys),
        WORLD(a_session_without_a_name_may_be_adopted_once),
        WORLD(the_rules_of_all_roles_of_a_user_count),
        WORLD(a_rule_replaces_the_one_about_the_same),
        WORLD(a_role_that_somebody_has_stays),
        WORLD(a_removed_user_has_no_roles_when_it_comes_back),
        WORLD(a_user_has_only_so_many_roles),
        WORLD(a_role_has_only_so_many_rules),
        WORLD(a_will_fires_if_there_are_no_roles),
        WORLD(a_will_fires_with_the_rights_of_that_moment),
        WORLD(a_node_with_rules_of_its_own_may_allow_what_no_role_denies),
        WORLD(the_quota_of_a_user_lowers_the_limits_of_its_sessions),
        WORLD(who_is_banned_does_not_connect_until_it_is_over),
        WORLD(each_change_is_written_down_and_no_refusal),
        WORLD(the_audit_log_keeps_the_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
