/* test_core_rights.c — who may connect and what they may do, over nodes: every path that a message takes, with every kind of
 * rule; and what a change does to clients that are connected. */
#include "core_world.h"

#include "base/topic.h"
#include "cluster/wire.h"
#include "node/client/acl_file.h"
#include "node/client/credential.h"
#include "rights.h"
#include "security.h"

static int three_nodes(void **state)
{
    struct core_options options = {.security = {.remembered_max = 64}};

    *state = cores_new_with(3, &options);
    return 0;
}

/* ---- given ---- */

static void note_outcome(void *context, enum outcome outcome)
{
    *(enum outcome *)context = outcome;
}

/* At node 2, so that it comes to others through the log. */
static enum outcome administer(struct cores *cores, const struct command *command)
{
    enum outcome outcome = OUTCOME_FENCED;

    assert_int_equal(core_administer(cores_core(cores, 2), command, note_outcome, &outcome), STATUS_OK);
    cores_settle(cores);
    return outcome;
}

static void given_user(struct cores *cores, const char *name)
{
    static struct buffer credential;
    struct command command = {.type = COMMAND_USER_ADD, .user = {.name = bytes_text(name)}};

    if (credential.size == 0) /* made once: it costs what it should */
        credential_make(CREDENTIAL_SCRAM, bytes_text("pencil"), (const uint8_t *)"0123456789abcdef", &credential);
    command.user.credential = buffer_bytes(&credential);
    assert_int_equal(administer(cores, &command), OUTCOME_DONE);
}

static void when_enabled(struct cores *cores, const char *name, bool enabled)
{
    struct command command = {.type = COMMAND_USER_ENABLE, .user = {.name = bytes_text(name), .enabled = enabled}};

    assert_int_equal(administer(cores, &command), OUTCOME_DONE);
}

static void given_role(struct cores *cores, const char *role)
{
    struct command command = {.type = COMMAND_ROLE_ADD, .role = {.name = bytes_text(role)}};

    assert_int_equal(administer(cores, &command), OUTCOME_DONE);
}

static void given_rule(struct cores *cores, const char *role, enum rule_change change, uint8_t rights,
                       const char *filter, int32_t priority)
{
    struct command command = {.type = COMMAND_ROLE_RULE,
                              .role = {.name = bytes_text(role),
                                       .change = (uint8_t)change,
                                       .rights = rights,
                                       .filter = bytes_text(filter),
                                       .priority = priority}};

    assert_int_equal(administer(cores, &command), OUTCOME_DONE);
}

static void when_granted(struct cores *cores, const char *role, const char *user, bool granted)
{
    struct command command = {
        .type = COMMAND_ROLE_GRANT,
        .role = {.name = bytes_text(role), .user = bytes_text(user), .granted = granted}};

    assert_int_equal(administer(cores, &command), OUTCOME_DONE);
}

static void given_acl_file(struct cores *cores, const char *text)
{
    for (uint32_t node = 1; node <= 3; node++) {
        struct acl_file *file;
        char error[128];

        assert_int_equal(acl_file_parse(bytes_text(text), &file, error, sizeof(error)), STATUS_OK);
        core_set_acl_file(cores_core(cores, node), file);
    }
    cores_settle(cores);
}

/* Everybody may do everything, but for what is said next. */
static void given_freedom(struct cores *cores)
{
    given_role(cores, "all");
    given_rule(cores, "all", RULE_ALLOW, RIGHTS_ALL, "#", -100);
    when_granted(cores, "all", SECURITY_EVERYONE, true);
}

/* ---- connecting ---- */

static struct device when_logs_in(struct cores *cores, uint32_t node, const char *user, const char *password,
                                  const char *client_id, uint32_t expiry_s)
{
    struct device device = when_dials(cores, node);
    char notation[200];

    snprintf(notation, sizeof(notation), "10 'MQTT' 05 c0 0000 (11 %08x) '%s' '%s' '%s'", (unsigned)expiry_s, client_id,
             user, password);
    when_sends(device, notation);
    cores_settle(cores);
    return device;
}

static struct device given_logged_in(struct cores *cores, uint32_t node, const char *user, const char *client_id)
{
    struct device device = when_logs_in(cores, node, user, "pencil", client_id, UINT32_MAX);

    then_connack(device, false, 0);
    return device;
}

static struct device when_resumes_as(struct cores *cores, uint32_t node, const char *user, const char *client_id)
{
    struct device device = when_logs_in(cores, node, user, "pencil", client_id, UINT32_MAX);

    then_connack(device, true, 0);
    return device;
}

/* ---- who may connect ---- */

static void passwords_are_checked_without_a_method_of_mqtt_5(void **state)
{
    given_user(*state, "ann");
    given_logged_in(*state, 1, "ann", "one");
    then_connack(when_logs_in(*state, 3, "ann", "wrong", "two", 0), false, 0x86);
    then_connack(when_logs_in(*state, 3, "zoe", "pencil", "two", 0), false, 0x86);
}

static void what_follows_connect_waits_for_the_password(void **state)
{
    struct device device = when_dials(*state, 1);
    static const char *const packets[] = {"10 'MQTT' 05 c2 0000 () 'id' 'ann' 'pencil'", "82 0001 00 'a' 01", "c0"};

    given_user(*state, "ann");
    when_sends_at_once(device, packets, 3);
    cores_settle(*state);
    then_connack(device, false, 0);
    then_receives(device, "d0"); /* SUBACK waits for the other nodes */
    cores_pass(*state, 30);
    then_receives(device, "90 0001 00 01");
}

static void clients_of_3_1_1_are_told_in_their_words(void **state)
{
    struct device device = when_dials(*state, 1);

    given_user(*state, "ann");
    device.level = 4;
    when_sends(device, "10 'MQTT' 04 c2 0000 'id' 'ann' 'wrong'");
    cores_settle(*state);
    then_receives(device, "20 00 04");
}

static void guessing_gets_slower(void **state)
{
    given_user(*state, "ann");
    for (int i = 0; i < 4; i++)
        then_connack(when_logs_in(*state, 1, "ann", "wrong", "id", 0), false, 0x86);
    struct device device = when_logs_in(*state, 1, "ann", "pencil", "id", 0);
    then_receives_nothing(device);
    cores_pass(*state, 200);
    then_receives_nothing(device);
    cores_pass(*state, 100);
    then_connack(device, false, 0);
    assert_int_equal(node_stats(*state, 1).logins_slowed, 1);
}

/* Whoever waits costs memory; and a queue that is long is of no use to those at its end. */
static void only_so_many_wait_for_their_password_to_be_checked(void **state)
{
    struct core_options options = {.limits = {.logins_max = 2}, .users = "ann:pencil"};
    struct cores *cores = cores_new_with(1, &options);
    struct device waiting[2];

    (void)state;
    for (int i = 0; i < 4; i++)
        then_connack(when_logs_in(cores, 1, "ann", "wrong", "id", 0), false, 0x86);
    waiting[0] = when_logs_in(cores, 1, "ann", "pencil", "a", 0);
    waiting[1] = when_logs_in(cores, 1, "ann", "pencil", "b", 0);
    then_connack(when_logs_in(cores, 1, "ann", "pencil", "c", 0), false, 0x89);
    line_drop(waiting[0].line); /* makes room */
    cores_settle(cores);
    then_receives_nothing(when_logs_in(cores, 1, "ann", "pencil", "d", 0));
    cores_pass(cores, 300);
    then_connack(waiting[1], false, 0);
    cores_free(cores);
}

static void a_session_is_not_given_to_another_user(void **state)
{
    struct device owner;

    given_user(*state, "ann");
    given_user(*state, "bob");
    owner = given_logged_in(*state, 1, "ann", "shared-id");
    then_connack(when_logs_in(*state, 2, "bob", "pencil", "shared-id", 0), false, 0x87);
    then_connack(when_connects(*state, 2, 5, "shared-id", true, 0), false, 0x87);
    then_open(owner);
    when_sends(owner, "c0");
    then_receives(owner, "d0");
    line_drop(owner.line);
    then_connack(when_logs_in(*state, 3, "bob", "pencil", "shared-id", 0), false, 0x87);
    when_resumes_as(*state, 3, "ann", "shared-id");
}

/* Node 3 lags: it knows the old password only, and takes it; the log does not. */
static void a_node_that_lags_lets_nobody_in_with_an_old_password(void **state)
{
    struct command command = {.type = COMMAND_USER_PASSWORD,
                              .user = {.name = bytes_text("ann"), .credential = bytes_text("SCRAM-SHA-256$1:other")}};
    struct device device;

    given_user(*state, "ann");
    cores_lag(*state, 3, true);
    assert_int_equal(administer(*state, &command), OUTCOME_DONE);
    device = when_logs_in(*state, 3, "ann", "pencil", "one", 0);
    then_receives_nothing(device);
    cores_lag(*state, 3, false);
    cores_settle(*state);
    then_connack(device, false, 0x87);
}

static void who_is_disabled_or_removed_is_disconnected_everywhere(void **state)
{
    struct device one, two;
    struct command removal = {.type = COMMAND_USER_REMOVE, .user = {.name = bytes_text("ann")}};

    given_user(*state, "ann");
    one = given_logged_in(*state, 1, "ann", "one");
    when_enabled(*state, "ann", false);
    then_receives(one, "e0 87");
    then_closed(one);
    then_connack(when_logs_in(*state, 3, "ann", "pencil", "one", 0), false, 0x87);
    when_enabled(*state, "ann", true);
    two = given_logged_in(*state, 3, "ann", "two");
    assert_int_equal(administer(*state, &removal), OUTCOME_DONE);
    then_receives(two, "e0 87");
    then_closed(two);
}

static void who_is_banned_is_disconnected(void **state)
{
    struct device device;
    struct command ban = {.type = COMMAND_BAN,
                          .ban = {.kind = BAN_CLIENT_ID, .subject = bytes_text("one"), .seconds = UINT32_MAX}};

    given_user(*state, "ann");
    device = given_logged_in(*state, 1, "ann", "one");
    assert_int_equal(administer(*state, &ban), OUTCOME_DONE);
    then_receives(device, "e0 87");
    then_closed(device);
    then_connack(when_logs_in(*state, 1, "ann", "pencil", "one", 0), false, 0x8a);
}

static void names_that_rules_cannot_take_do_not_connect(void **state)
{
    given_freedom(*state);
    then_connack(when_connects(*state, 1, 5, "a+b", true, 0), false, 0);
    given_rule(*state, "all", RULE_ALLOW, RIGHT_RECEIVE, "own/%c", 0);
    then_connack(when_connects(*state, 1, 5, "a+c", true, 0), false, 0x85);
    then_connack(when_connects(*state, 1, 5, "a/c", true, 0), false, 0x85);
    then_connack(when_connects(*state, 1, 5, "ac", true, 0), false, 0);
}

static void users_that_rules_cannot_take_do_not_connect(void **state)
{
    given_user(*state, "a/b");
    given_user(*state, "ab");
    given_freedom(*state);
    given_rule(*state, "all", RULE_ALLOW, RIGHT_RECEIVE, "own/%u", 0);
    then_connack(when_logs_in(*state, 1, "a/b", "pencil", "id", 0), false, 0x87);
    then_connack(when_logs_in(*state, 1, "ab", "pencil", "id", 0), false, 0);
}

/* What came as a snapshot counts from there on, not what this node knew. */
static void a_node_that_was_given_a_new_state_knows_its_users_and_rules(void **state)
{
    struct device device;

    given_user(*state, "ann");
    given_role(*state, "none");
    given_rule(*state, "none", RULE_DENY, RIGHTS_ALL, "#", 0);
    when_granted(*state, "none", "ann", true);
    cores_replace_state(*state, 3);
    cores_settle(*state);
    device = given_logged_in(*state, 3, "ann", "one");
    when_publishes(device, "a", "1", 1, 1);
    then_receives(device, "40 0001 87");
}

/* ---- quotas ---- */

static void a_user_has_only_so_many_connections_and_messages(void **state)
{
    struct command quota = {
        .type = COMMAND_USER_QUOTA,
        .user = {.name = bytes_text("ann"), .quota = {.connections = 1, .messages_per_s = 2}}};
    struct device device;

    given_user(*state, "ann");
    assert_int_equal(administer(*state, &quota), OUTCOME_DONE);
    device = given_logged_in(*state, 1, "ann", "one");
    then_connack(when_logs_in(*state, 1, "ann", "pencil", "two", 0), false, 0x97);
    when_published(device, "a", "1", 1);
    when_published(device, "a", "2", 2);
    when_publishes(device, "a", "3", 1, 3);
    then_receives(device, "40 0003 97");
    cores_pass(*state, 1000);
    when_published(device, "a", "3", 3);
    when_resumes_as(*state, 1, "ann", "one"); /* its own session may be taken over */
}

/* ---- publishing ---- */

static void what_may_not_be_published_is_answered_no_and_goes_nowhere(void **state)
{
    struct device watcher, device, old;

    given_user(*state, "ann");
    given_freedom(*state);
    watcher = given_client(*state, 2, 5, "watcher");
    when_subscribes(*state, watcher, "#", 1);
    given_rule(*state, "all", RULE_DENY, RIGHT_PUBLISH, "no/#", 0);
    device = given_logged_in(*state, 1, "ann", "one");
    when_publishes(device, "no/x", "1", 1, 1);
    then_receives(device, "40 0001 87");
    when_publishes(device, "no/x", "1", 2, 2);
    then_receives(device, "50 0002 87");
    when_publishes(device, "no/x", "1", 0, 0);
    when_sends(device, "30 'no/x' (23 0001) <1>"); /* through a topic alias */
    when_sends(device, "30 '' (23 0001) <1>");
    old = given_client(*state, 1, 4, "old");
    when_publishes(old, "no/x", "1", 1, 9);
    then_receives(old, "40 0009");
    then_receives_nothing(watcher);
    assert_int_equal(node_stats(*state, 1).publishes_denied, 6);
    when_published(device, "yes/x", "1", 3);
    then_message(watcher, "yes/x", "1", 1, 0);
}

static void it_may_close_the_connection_instead(void **state)
{
    struct core_options options = {.security = {.close_on_denied = true}};
    struct cores *cores = cores_new_with(1, &options);
    struct acl_file *file;
    char error[128];
    struct device device;

    (void)state;
    acl_file_parse(bytes_text("topic read #\n"), &file, error, sizeof(error));
    core_set_acl_file(cores_core(cores, 1), file);
    device = given_client(cores, 1, 5, "one");
    when_publishes(device, "a", "1", 1, 1);
    then_receives(device, "e0 87");
    then_closed(device);
    cores_free(cores);
}

static void nobody_publishes_below_a_dollar_whatever_the_rules(void **state)
{
    struct device device;

    given_freedom(*state);
    given_rule(*state, "all", RULE_ALLOW, RIGHTS_ALL, "$SYS/#", 9);
    device = given_client(*state, 1, 5, "one");
    when_publishes(device, "$SYS/x", "1", 1, 1);
    then_receives(device, "40 0001 87");
    device = when_dials(*state, 1);
    when_sends(device, "10 'MQTT' 05 06 0000 () 'will' () '$other' 'gone'");
    then_connack(device, false, 0x87);
}

/* What came before the right was lost was published; its handshake ends as it began, and its packet id is free again. */
static void a_qos_2_publish_that_has_begun_goes_on(void **state)
{
    struct device device, watcher;

    given_freedom(*state);
    watcher = given_client(*state, 3, 5, "watcher");
    when_subscribes(*state, watcher, "#", 0);
    device = given_session(*state, 1, 5, "one");
    when_publishes(device, "x", "1", 2, 7);
    then_receives(device, "50 0007");
    then_message(watcher, "x", "1", 0, 0);
    line_drop(device.line);
    given_rule(*state, "all", RULE_DENY, RIGHT_PUBLISH, "x", 0);
    device = when_resumes(*state, 2, 5, "one");
    when_sends(device, "3c 'x' 0007 00 <1>"); /* DUP */
    then_receives(device, "50 0007");
    when_answers(device, 0x62, 7);
    then_receives(device, "70 0007");
    when_publishes(device, "x", "1", 2, 7);
    then_receives(device, "50 0007 87");
    then_receives_nothing(watcher);
}

/* ---- subscribing ---- */

static void then_suback(struct cores *cores, struct device device, const char *filter, uint8_t code)
{
    char notation[200];

    snprintf(notation, sizeof(notation), "82 0007 00 '%s' 01", filter);
    when_sends(device, notation);
    cores_pass(cores, 30);
    snprintf(notation, sizeof(notation), "90 0007 00 %02x", code);
    then_receives(device, notation);
}

static void a_filter_has_to_be_allowed_as_a_whole(void **state)
{
    struct device device;

    given_role(*state, "reader");
    given_rule(*state, "reader", RULE_ALLOW, RIGHT_SUBSCRIBE, "a/#", 0);
    given_rule(*state, "reader", RULE_DENY, RIGHT_SUBSCRIBE, "a/secret", 1);
    when_granted(*state, "reader", SECURITY_ANONYMOUS, true);
    device = given_client(*state, 1, 5, "one");
    then_suback(*state, device, "a/b", 1);
    then_suback(*state, device, "a/b/+", 1);
    then_suback(*state, device, "$share/g/a/c/#", 1);
    then_suback(*state, device, "a/#", 0x87);
    then_suback(*state, device, "a/+", 0x87);
    then_suback(*state, device, "#", 0x87);
    then_suback(*state, device, "$share/g/#", 0x87);
    then_suback(*state, device, "$share/a/secret", 0x87); /* not the filter a/secret, but "secret" of group "a" */
    then_suback(*state, device, "$SYS/#", 0x87);
    assert_int_equal(node_stats(*state, 1).subscribes_denied, 6);
}

/* ---- receiving: every path ---- */

/* The watcher at node 3, as "ann", may lose the right to topics below "x". */
struct paths {
    struct device watcher, publisher;
};

static struct paths given_watcher(struct cores *cores, const char *filter)
{
    struct paths paths;

    given_user(cores, "ann");
    given_freedom(cores);
    paths.watcher = given_logged_in(cores, 3, "ann", "watcher");
    then_suback(cores, paths.watcher, filter, 1);
    paths.publisher = given_client(cores, 1, 5, "publisher");
    return paths;
}

static void when_revoked(struct cores *cores)
{
    given_rule(cores, "all", RULE_DENY, RIGHT_RECEIVE, "x/#", 0);
}

static void then_only_y_comes(struct cores *cores, struct paths paths)
{
    cores_pass(cores, 50);
    then_message(paths.watcher, "y", "2", 1, 0);
    then_receives_nothing(paths.watcher);
}

/* It cannot hear of the change; so its clients are gone in time, and come back to rules that are true. */
static void a_right_taken_away_ends_at_a_node_that_is_cut_off_when_it_gives_up_its_clients(void **state)
{
    struct device bob, ann;

    given_freedom(*state);
    given_user(*state, "ann");
    bob = given_client(*state, 3, 5, "bob");
    ann = given_logged_in(*state, 3, "ann", "a");
    when_subscribes(*state, bob, "t", 1);
    cores_cut(*state, 3, true);
    given_role(*state, "no");
    given_rule(*state, "no", RULE_DENY, RIGHT_PUBLISH, "t", 0);
    when_granted(*state, "no", "ann", true);
    when_publishes(ann, "t", "not committed", 1, 1);
    cores_pass(*state, 2000); /* node_timeout: from then on others may take them for gone */
    then_receives(ann, "e0 9c (1c 'node1:1883 node2:1883')");
    then_closed(ann);
    then_receives(bob, "e0 9c (1c 'node1:1883 node2:1883')");
    then_closed(bob);
    cores_cut(*state, 3, false);
    cores_pass(*state, 1000);
    bob = given_client(*state, 3, 5, "bob");
    when_subscribes(*state, bob, "t", 1);
    ann = given_logged_in(*state, 3, "ann", "b");
    when_publishes(ann, "t", "no", 1, 1);
    then_receives(ann, "40 0001 87");
    then_receives_nothing(bob);
}

static void live_messages_are_judged(void **state)
{
    struct paths paths = given_watcher(*state, "#");

    when_revoked(*state);
    when_publishes(paths.publisher, "x/1", "1", 0, 0);
    when_published(paths.publisher, "x/1", "1", 1);
    when_published(paths.publisher, "y", "2", 2);
    then_only_y_comes(*state, paths);
    cores_pass(*state, 50); /* what was skipped is acknowledged: nothing is left for a later connection */
    line_drop(paths.watcher.line);
    paths.watcher = when_resumes_as(*state, 2, "ann", "watcher");
    assert_int_equal(node_stats(*state, 3).drops[DROP_NOT_PERMITTED], 2);
}

static void queued_messages_are_judged_when_they_are_sent(void **state)
{
    struct paths paths = given_watcher(*state, "#");

    line_drop(paths.watcher.line);
    when_published(paths.publisher, "x/1", "1", 1);
    when_publishes(paths.publisher, "x/2", "1", 2, 2);
    then_receives(paths.publisher, "50 0002");
    when_answers(paths.publisher, 0x62, 2);
    then_receives(paths.publisher, "70 0002");
    when_published(paths.publisher, "y", "2", 3);
    when_revoked(*state);
    paths.watcher = when_resumes_as(*state, 2, "ann", "watcher");
    then_only_y_comes(*state, paths);
}

static void messages_that_were_sent_once_are_judged_again(void **state)
{
    struct paths paths = given_watcher(*state, "#");

    when_published(paths.publisher, "x/1", "1", 1);
    then_message(paths.watcher, "x/1", "1", 1, 0);
    line_drop(paths.watcher.line);
    when_revoked(*state);
    paths.watcher = when_resumes_as(*state, 1, "ann", "watcher");
    cores_pass(*state, 50);
    then_receives_nothing(paths.watcher);
}

static void messages_that_wait_for_the_socket_are_judged_again(void **state)
{
    struct paths paths = given_watcher(*state, "#");

    line_stop(paths.watcher.line, true);
    line_drop(paths.watcher.line);
    struct device narrow = when_dials(*state, 3);
    when_sends(narrow, "10 'MQTT' 05 c0 0000 (11 ffffffff 21 0001) 'watcher' 'ann' 'pencil'"); /* Receive Maximum 1 */
    cores_settle(*state);
    then_connack(narrow, true, 0);
    when_published(paths.publisher, "y", "2", 1);
    when_published(paths.publisher, "x/1", "1", 2);
    when_published(paths.publisher, "y", "3", 3);
    uint16_t id = then_message(narrow, "y", "2", 1, 0);
    when_revoked(*state);
    when_answers(narrow, 0x40, id);
    cores_pass(*state, 50);
    then_message(narrow, "y", "3", 1, 0);
    then_receives_nothing(narrow);
}

static void retained_messages_are_judged(void **state)
{
    struct paths paths = given_watcher(*state, "other");

    when_sends(paths.publisher, "33 'x/1' 0001 00 <1>");
    when_sends(paths.publisher, "33 'y' 0002 00 <2>");
    cores_settle(*state);
    when_revoked(*state);
    then_suback(*state, paths.watcher, "#", 1);
    cores_pass(*state, 50);
    then_message(paths.watcher, "y", "2", 1, RETAINED);
    then_receives_nothing(paths.watcher);
}

static void members_of_groups_are_judged(void **state)
{
    struct paths paths = given_watcher(*state, "$share/g/#");

    when_revoked(*state);
    when_published(paths.publisher, "x/1", "1", 1);
    when_publishes(paths.publisher, "x/1", "1", 0, 0);
    when_published(paths.publisher, "y", "2", 2);
    then_only_y_comes(*state, paths);
}

/* As if node 1 had sent a copy of a QoS 0 message to node 3. */
static void when_copied(struct cores *cores, const char *topic, const char *payload)
{
    const struct message message = {.topic = bytes_text(topic), .payload = bytes_text(payload)};
    struct buffer copy = {0};

    wire_message_put(&copy, &message, bytes_of(NULL, 0));
    core_peer_messages(cores_core(cores, 3), 1, buffer_bytes(&copy), cores_now_ms(cores));
    cores_settle(cores);
    buffer_release(&copy);
}

static void copies_from_other_nodes_are_judged(void **state)
{
    static const char *const impossible[] = {"y/+", "#", "$SYS/y", "$share/g/y", "y\xff", "y\xed\xa0\x80"};
    struct paths paths = given_watcher(*state, "#");
    char deep[TOPIC_LEVELS_MAX + 1];
    uint64_t before = node_stats(*state, 3).reserved_topics;

    given_rule(*state, "all", RULE_ALLOW, RIGHTS_ALL, "$SYS/#", -100);
    then_suback(*state, paths.watcher, "$SYS/y", 1);
    when_revoked(*state);
    when_copied(*state, "x/1", "1");
    assert_int_equal(node_stats(*state, 3).drops[DROP_NOT_PERMITTED], 1);
    for (size_t i = 0; i < sizeof(impossible) / sizeof(impossible[0]); i++)
        when_copied(*state, impossible[i], "1");
    memset(deep, '/', TOPIC_LEVELS_MAX);
    deep[TOPIC_LEVELS_MAX] = '\0';
    when_copied(*state, deep, "1");
    assert_int_equal(node_stats(*state, 3).reserved_topics - before, 7);
    when_copied(*state, "y", "2");
    then_message(paths.watcher, "y", "2", 0, 0);
    then_receives_nothing(paths.watcher);
}

/* Two members at two nodes; "ann", who would get the first, loses the right to what is below "x". */
struct members {
    struct device ann, bob, publisher;
};

static struct members given_members(struct cores *cores, uint8_t qos)
{
    struct members members;

    given_user(cores, "ann");
    given_user(cores, "bob");
    given_acl_file(cores, "topic readwrite #\nuser ann\ntopic readwrite #\nuser bob\ntopic readwrite #\n");
    members.ann = given_logged_in(cores, 3, "ann", "ann");
    members.bob = given_logged_in(cores, 2, "bob", "bob");
    when_subscribes(cores, members.ann, "$share/g/#", qos);
    when_subscribes(cores, members.bob, "$share/g/#", qos);
    members.publisher = given_client(cores, 1, 5, "publisher");
    return members;
}

static void when_ann_may_not(struct cores *cores)
{
    given_acl_file(cores, "topic readwrite #\nuser ann\ntopic readwrite #\ntopic deny x/#\nuser bob\ntopic readwrite #\n");
}

static void when_nobody_may(struct cores *cores)
{
    given_acl_file(cores, "topic readwrite #\nuser ann\ntopic readwrite y\nuser bob\ntopic readwrite y\n");
}

static uint64_t not_permitted(struct cores *cores)
{
    uint64_t count = 0;

    for (uint32_t node = 1; node <= 3; node++)
        count += node_stats(cores, node).drops[DROP_NOT_PERMITTED];
    return count;
}

static void then_nothing_is_left(struct cores *cores)
{
    struct state_counts counts;

    cores_pass(cores, 50);
    state_counts(core_state(cores_core(cores, 1)), &counts);
    assert_int_equal(counts.messages, 0);
    assert_int_equal(counts.queued + counts.in_flight, 0);
}

static void what_a_member_may_not_have_goes_to_another_that_may(void **state)
{
    struct members members = given_members(*state, 1);

    when_ann_may_not(*state);
    for (uint16_t i = 1; i <= 10; i++) {
        when_published(members.publisher, "x/1", "1", i);
        cores_pass(*state, 50);
        when_answers(members.bob, 0x40, then_message(members.bob, "x/1", "1", 1, 0));
    }
    then_receives_nothing(members.ann);
    assert_int_equal(not_permitted(*state), 0);
    then_nothing_is_left(*state);
}

static void also_with_qos_2(void **state)
{
    struct members members = given_members(*state, 2);

    when_ann_may_not(*state);
    for (uint16_t i = 1; i <= 4; i++) {
        when_publishes(members.publisher, "x/1", "1", 2, i);
        then_answered(members.publisher, 0x50, i);
        when_answers(members.publisher, 0x62, i);
        then_answered(members.publisher, 0x70, i);
        cores_pass(*state, 50);

        uint16_t id = then_message(members.bob, "x/1", "1", 2, 0);
        when_answers(members.bob, 0x50, id);
        then_answered(members.bob, 0x62, id);
        when_answers(members.bob, 0x70, id);
    }
    then_receives_nothing(members.ann);
    assert_int_equal(not_permitted(*state), 0);
    then_nothing_is_left(*state);
}

static void what_no_member_may_have_is_dropped_and_counted_once(void **state)
{
    struct members members = given_members(*state, 2);

    when_nobody_may(*state);
    when_published(members.publisher, "x/1", "1", 1);
    when_publishes(members.publisher, "x/1", "1", 2, 2);
    then_answered(members.publisher, 0x50, 2);
    when_published(members.publisher, "y", "2", 3);
    cores_pass(*state, 50);
    assert_int_equal(not_permitted(*state), 2);
    assert_true((line_received(members.ann.line).size > 0) != (line_received(members.bob.line).size > 0));
}

/* 4.8.2: what QoS 2 has begun to send stays with its session. */
static void what_a_member_has_perhaps_got_with_qos_2_goes_to_nobody_else(void **state)
{
    struct members members = given_members(*state, 2);

    when_publishes(members.publisher, "x/1", "1", 2, 1);
    then_answered(members.publisher, 0x50, 1);
    then_message(members.ann, "x/1", "1", 2, 0);
    line_drop(members.ann.line);
    when_ann_may_not(*state);
    members.ann = when_resumes_as(*state, 1, "ann", "ann");
    cores_pass(*state, 50);
    then_receives_nothing(members.ann);
    then_receives_nothing(members.bob);
    assert_int_equal(not_permitted(*state), 1);
    then_nothing_is_left(*state);
}

static void a_member_that_leaves_while_it_declines_loses_nothing(void **state)
{
    struct members members = given_members(*state, 1);

    when_ann_may_not(*state);
    cores_lag(*state, 3, true); /* ann's node does not know of the message yet */
    when_published(members.publisher, "x/1", "1", 1);
    line_drop(members.ann.line);
    cores_lag(*state, 3, false);
    cores_pass(*state, 50);
    when_answers(members.bob, 0x40, then_message(members.bob, "x/1", "1", 1, 0));
    then_nothing_is_left(*state);
}

static void it_is_the_same_with_an_acl_file(void **state)
{
    struct paths paths;

    given_user(*state, "ann");
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic readwrite #\n");
    paths.watcher = given_logged_in(*state, 3, "ann", "watcher");
    then_suback(*state, paths.watcher, "#", 1);
    paths.publisher = given_client(*state, 1, 5, "publisher");
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic readwrite #\ntopic deny x/#\n");
    when_published(paths.publisher, "x/1", "1", 1);
    when_published(paths.publisher, "y", "2", 2);
    then_only_y_comes(*state, paths);
}

/* ---- wills ---- */

static struct device when_connects_with_will(struct cores *cores, uint32_t node, const char *topic)
{
    struct device device = when_dials(cores, node);
    char notation[200];

    snprintf(notation, sizeof(notation), "10 'MQTT' 05 c6 0000 () 'mortal' () '%s' 'gone' 'ann' 'pencil'", topic);
    when_sends(device, notation);
    cores_settle(cores);
    return device;
}

static void a_will_has_to_be_allowed_when_it_is_left(void **state)
{
    given_user(*state, "ann");
    given_freedom(*state);
    given_rule(*state, "all", RULE_DENY, RIGHT_PUBLISH, "x/#", 0);
    then_connack(when_connects_with_will(*state, 1, "x/will"), false, 0x87);
    then_connack(when_connects_with_will(*state, 1, "y"), false, 0);
}

/* At node 2, and gets all. */
static struct device given_witness(struct cores *cores)
{
    struct device watcher = given_client(cores, 2, 5, "watcher");

    when_subscribes(cores, watcher, "#", 0);
    return watcher;
}

static void and_when_it_is_published(void **state)
{
    struct device watcher, mortal;

    given_user(*state, "ann");
    given_freedom(*state);
    watcher = given_witness(*state);
    mortal = when_connects_with_will(*state, 1, "x/will");
    then_connack(mortal, false, 0);
    given_rule(*state, "all", RULE_DENY, RIGHT_PUBLISH, "x/#", 0);
    line_drop(mortal.line);
    cores_pass(*state, 50);
    then_receives_nothing(watcher);
}

static void also_when_its_node_dies(void **state)
{
    struct device watcher;

    given_user(*state, "ann");
    given_freedom(*state);
    watcher = given_witness(*state);
    then_connack(when_connects_with_will(*state, 3, "x/will"), false, 0);
    given_rule(*state, "all", RULE_DENY, RIGHT_PUBLISH, "x/#", 0);
    cores_cut(*state, 3, true);
    cores_silent(*state, 3, true);
    cores_pass(*state, 3000);
    then_receives_nothing(watcher);
}

static void and_with_an_acl_file_that_was_read_again(void **state)
{
    struct device watcher, mortal;

    given_user(*state, "ann");
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic readwrite #\n");
    watcher = given_witness(*state);
    mortal = when_connects_with_will(*state, 1, "x/will");
    then_connack(mortal, false, 0);
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic read #\n");
    line_drop(mortal.line);
    cores_pass(*state, 50);
    then_receives_nothing(watcher);
}

/* A take-over that begins a new session ends the old one; whose will it was is still known. */
static void and_when_its_session_is_taken_over_and_gone(void **state)
{
    struct device watcher, mortal;

    given_user(*state, "ann");
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic readwrite #\n");
    watcher = given_witness(*state);
    mortal = when_connects_with_will(*state, 1, "x/will");
    then_connack(mortal, false, 0);
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic readwrite y\n");
    mortal = when_connects_with_will(*state, 3, "y");
    then_connack(mortal, false, 0);
    cores_pass(*state, 50);
    then_receives_nothing(watcher);
    then_connack(when_connects_with_will(*state, 1, "y"), false, 0);
    cores_pass(*state, 50);
    then_message(watcher, "y", "gone", 0, 0);
    then_receives_nothing(watcher);
}

/* The new owner leaves one that is not allowed any more; that says nothing about the former one's. */
static void each_connection_has_a_will_of_its_own(void **state)
{
    struct device watcher, former;

    given_user(*state, "ann");
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic readwrite #\n");
    watcher = given_witness(*state);
    former = when_connects_with_will(*state, 1, "y/will");
    then_connack(former, false, 0);
    cores_lag(*state, 1, true);
    then_connack(when_connects_with_will(*state, 3, "x/will"), false, 0);
    given_acl_file(*state, "topic readwrite #\nuser ann\ntopic write y/#\n");
    cores_lag(*state, 1, false);
    cores_pass(*state, 50);
    then_receives(former, "e0 8e");
    then_message(watcher, "y/will", "gone", 0, 0);
}

/* ---- $SYS ---- */

static void sys_may_be_hidden_while_there_are_no_rules(void **state)
{
    struct core_options options = {.security = {.sys_hidden = true}};
    struct cores *cores = cores_new_with(1, &options);
    struct device device = given_client(cores, 1, 5, "one");

    (void)state;
    then_suback(cores, device, "$SYS/#", 0x87);
    then_suback(cores, device, "#", 1);
    cores_free(cores);
}

#define ON_THREE_NODES(test) cmocka_unit_test_setup_teardown(test, three_nodes, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_THREE_NODES(passwords_are_checked_without_a_method_of_mqtt_5),
        ON_THREE_NODES(what_follows_connect_waits_for_the_password),
        ON_THREE_NODES(clients_of_3_1_1_are_told_in_their_words),
        ON_THREE_NODES(guessing_gets_slower),
        cmocka_unit_test(only_so_many_wait_for_their_password_to_be_checked),
        ON_THREE_NODES(a_session_is_not_given_to_another_user),
        ON_THREE_NODES(a_node_that_lags_lets_nobody_in_with_an_old_password),
        ON_THREE_NODES(who_is_disabled_or_removed_is_disconnected_everywhere),
        ON_THREE_NODES(who_is_banned_is_disconnected),
        ON_THREE_NODES(names_that_rules_cannot_take_do_not_connect),
        ON_THREE_NODES(users_that_rules_cannot_take_do_not_connect),
        ON_THREE_NODES(a_node_that_was_given_a_new_state_knows_its_users_and_rules),
        ON_THREE_NODES(a_user_has_only_so_many_connections_and_messages),
        ON_THREE_NODES(what_may_not_be_published_is_answered_no_and_goes_nowhere),
        cmocka_unit_test(it_may_close_the_connection_instead),
        ON_THREE_NODES(nobody_publishes_below_a_dollar_whatever_the_rules),
        ON_THREE_NODES(a_qos_2_publish_that_has_begun_goes_on),
        ON_THREE_NODES(a_filter_has_to_be_allowed_as_a_whole),
        ON_THREE_NODES(a_right_taken_away_ends_at_a_node_that_is_cut_off_when_it_gives_up_its_clients),
        ON_THREE_NODES(live_messages_are_judged),
        ON_THREE_NODES(queued_messages_are_judged_when_they_are_sent),
        ON_THREE_NODES(messages_that_were_sent_once_are_judged_again),
        ON_THREE_NODES(messages_that_wait_for_the_socket_are_judged_again),
        ON_THREE_NODES(retained_messages_are_judged),
        ON_THREE_NODES(members_of_groups_are_judged),
        ON_THREE_NODES(copies_from_other_nodes_are_judged),
        ON_THREE_NODES(what_a_member_may_not_have_goes_to_another_that_may),
        ON_THREE_NODES(also_with_qos_2),
        ON_THREE_NODES(what_no_member_may_have_is_dropped_and_counted_once),
        ON_THREE_NODES(what_a_member_has_perhaps_got_with_qos_2_goes_to_nobody_else),
        ON_THREE_NODES(a_member_that_leaves_while_it_declines_loses_nothing),
        ON_THREE_NODES(it_is_the_same_with_an_acl_file),
        ON_THREE_NODES(a_will_has_to_be_allowed_when_it_is_left),
        ON_THREE_NODES(and_when_it_is_published),
        ON_THREE_NODES(also_when_its_node_dies),
        ON_THREE_NODES(and_with_an_acl_file_that_was_read_again),
        ON_THREE_NODES(and_when_its_session_is_taken_over_and_gone),
        ON_THREE_NODES(each_connection_has_a_will_of_its_own),
        cmocka_unit_test(sys_may_be_hidden_while_there_are_no_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
