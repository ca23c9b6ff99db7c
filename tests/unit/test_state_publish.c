/* Publishing, subscriptions, own queues, QoS 0. */
#include "state_world.h"

#include <string.h>

#define PERSISTENT ((struct connect_options){.expiry_s = NEVER})
#define QOS_1 ((struct publish_options){.qos = 1})

static void a_message_waits_in_the_queue_of_an_offline_session(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "home/+/temperature", 1);
    world_end(w, "alice", END_CLEAN);
    world_connect(w, "bob", PERSISTENT);
    assert_int_equal(world_publish(w, "bob", "home/attic/temperature", "21", QOS_1), OUTCOME_DONE);
    assert_string_equal(world_queue(w, "alice"), "21@1");
    assert_string_equal(world_targets(w, 1), "");
}

static void only_the_node_that_holds_a_session_gets_a_target(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2});
    world_subscribe(w, "alice", "t", 1);
    world_publish(w, "alice", "t", "m", QOS_1);
    assert_string_equal(world_targets(w, 1), "");
    assert_string_equal(world_targets(w, 2), "alice:m@1");
}

static void an_acknowledged_message_is_gone(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    world_publish(w, "alice", "t", "m", QOS_1);
    world_ack_own(w, "alice", world_delivery(w, "alice", 0).target.order);
    assert_string_equal(world_queue(w, "alice"), "");
    assert_int_equal(world_counts(w).messages, 0);
}

static void the_lower_qos_of_message_and_subscription_holds(void **state)
{
    struct world *w = *state;
    world_connect(w, "one", PERSISTENT);
    world_connect(w, "two", PERSISTENT);
    world_subscribe(w, "one", "t", 1);
    world_subscribe(w, "two", "t", 2);
    world_publish(w, "one", "t", "a", (struct publish_options){.qos = 2, .packet_id = 1});
    world_publish(w, "one", "t", "b", QOS_1);
    assert_string_equal(world_queue(w, "one"), "a@1 b@1");
    assert_string_equal(world_queue(w, "two"), "a@2* b@1");
}

static void a_qos_0_subscription_gets_it_once_and_nothing_is_stored(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 0);
    assert_int_equal(world_publish(w, "alice", "t", "m", QOS_1), OUTCOME_DONE);
    assert_string_equal(world_targets(w, 1), "alice:m@0?");
    assert_string_equal(world_queue(w, "alice"), "");
    assert_int_equal(world_counts(w).messages, 0);
}

static void nobody_matched_is_said(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    assert_int_equal(world_publish(w, "alice", "t", "m", QOS_1), OUTCOME_NO_SUBSCRIBERS);
}

static void no_local_keeps_the_publishers_own_messages_from_it(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_connect(w, "bob", PERSISTENT);
    world_subscribe(w, "alice", "t", 1 | SUBSCRIPTION_NO_LOCAL);
    world_publish(w, "alice", "t", "own", QOS_1);
    world_publish(w, "bob", "t", "other", QOS_1);
    assert_string_equal(world_queue(w, "alice"), "other@1");
}

static void retain_as_published_keeps_the_flag(void **state)
{
    struct world *w = *state;
    world_connect(w, "keeps", PERSISTENT);
    world_connect(w, "clears", PERSISTENT);
    world_subscribe(w, "keeps", "t", 1 | SUBSCRIPTION_RETAIN_AS_PUBLISHED);
    world_subscribe(w, "clears", "t", 1);
    world_publish(w, "keeps", "t", "m", (struct publish_options){.qos = 1, .retain = true});
    assert_string_equal(world_queue(w, "keeps"), "m@1!");
    assert_string_equal(world_queue(w, "clears"), "m@1");
}

static void overlapping_filters_give_one_delivery_with_the_highest_qos_and_all_ids(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe_id(w, "alice", "a/#", 1, 7);
    world_subscribe_id(w, "alice", "a/+", 2, 8);
    world_subscribe_id(w, "alice", "a/b", 0, 9);
    world_publish(w, "alice", "a/b", "m", (struct publish_options){.qos = 2, .packet_id = 1});
    const struct effect *effect = world_effect(w, 1, EFFECT_MESSAGE, 0);
    assert_int_equal(effect->message.count, 1);
    assert_int_equal(effect->message.targets[0].qos, 2);
    assert_int_equal(effect->message.targets[0].subscription_id_count, 3);
    world_client(w, "alice");
    const char *queue = world_queue(w, "alice");
    assert_non_null(strstr(queue, "m@2*"));
    assert_non_null(strstr(queue, "#7"));
    assert_non_null(strstr(queue, "#8"));
    assert_non_null(strstr(queue, "#9"));
}

static void the_same_filter_again_replaces_the_subscription(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    for (int i = 0; i < 20; i++)
        world_subscribe_id(w, "alice", "t", 1, (uint32_t)i);
    world_publish(w, "alice", "t", "m", QOS_1);
    assert_string_equal(world_queue(w, "alice"), "m@1#19");
    assert_int_equal(world_counts(w).subscriptions, 1);
}

static void unsubscribing_leaves_what_is_owed(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    world_publish(w, "alice", "t", "before", QOS_1);
    assert_int_equal(world_unsubscribe(w, "alice", "t"), 0x00);
    assert_int_equal(world_unsubscribe(w, "alice", "t"), 0x11);
    world_publish(w, "alice", "t", "after", QOS_1);
    assert_string_equal(world_queue(w, "alice"), "before@1");
    assert_int_equal(world_counts(w).filters, 0);
}

static void a_message_says_when_it_expires(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    world_publish(w, "alice", "t", "m", (struct publish_options){.qos = 1, .expiry_s = 10});
    struct queued queued = world_delivery(w, "alice", 0);
    assert_int_equal(queued.message.created_ms, w->clock_ms);
    assert_int_equal(queued.message.expires_ms, w->clock_ms + 10000);
}

static void qos_0_is_matched_to_the_sessions_here_and_the_nodes_elsewhere(void **state)
{
    struct world *w = *state;
    world_connect(w, "here", (struct connect_options){.expiry_s = NEVER, .node = 1});
    world_connect(w, "there", (struct connect_options){.expiry_s = NEVER, .node = 2});
    world_connect(w, "gone", (struct connect_options){.expiry_s = NEVER, .node = 2});
    world_subscribe_id(w, "here", "t/#", 2, 5);
    world_subscribe(w, "here", "t/+", 0);
    world_subscribe(w, "there", "t/a", 1);
    world_subscribe(w, "gone", "u", 1);
    world_end(w, "gone", END_CLEAN);
    struct message message = {.topic = bytes_text("t/a")};
    struct match match;
    world_match(w, 0, &message, UINT64_MAX, &match);
    assert_int_equal(match.count, 1);
    assert_int_equal(match.targets[0].qos, 0);
    assert_int_equal(match.targets[0].order, 0);
    assert_int_equal(match.targets[0].subscription_id_count, 1);
    assert_int_equal(match.nodes, 1 << 2);
    world_match(w, 1, &message, UINT64_MAX, &match);
    assert_int_equal(match.count, 1);
    assert_int_equal(match.nodes, 1 << 1);
    message.topic = bytes_text("u");
    world_match(w, 0, &message, UINT64_MAX, &match);
    assert_int_equal(match.count, 0);
    assert_int_equal(match.nodes, 0);
}

/* ---- limits ---- */

static void a_full_queue_drops_its_oldest_and_counts_it(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.queue_messages_max = 2;
    world_settings(w, &settings);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    world_publish(w, "alice", "t", "1", QOS_1);
    world_publish(w, "alice", "t", "2", QOS_1);
    assert_int_equal(world_counts(w).dropped_queue_full, 0);
    world_publish(w, "alice", "t", "3", QOS_1);
    assert_string_equal(world_queue(w, "alice"), "2@1 3@1");
    assert_int_equal(world_counts(w).dropped_queue_full, 1);
}

static void a_queue_is_bounded_in_bytes(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.queue_bytes_max = 10;
    world_settings(w, &settings);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    world_publish(w, "alice", "t", "12345", QOS_1);
    world_publish(w, "alice", "t", "67890", QOS_1);
    assert_string_equal(world_queue(w, "alice"), "12345@1 67890@1");
    world_publish(w, "alice", "t", "x", QOS_1);
    assert_string_equal(world_queue(w, "alice"), "67890@1 x@1");
}

static void an_admitted_message_is_never_dropped(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.queue_messages_max = 1;
    world_settings(w, &settings);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .receive_maximum = 1});
    world_subscribe(w, "alice", "t", 2);
    for (uint16_t i = 1; i <= 4; i++)
        world_publish(w, "alice", "t", "m", (struct publish_options){.qos = 2, .packet_id = i});
    assert_string_equal(world_queue(w, "alice"), "m@2* m@2");
    assert_int_equal(world_delivery(w, "alice", 0).target.order + 3, world_delivery(w, "alice", 1).target.order);
}

static void a_full_store_refuses_and_changes_nothing(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.store_bytes_max = 4;
    world_settings(w, &settings);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 2);
    assert_int_equal(world_publish(w, "alice", "t", "12345", (struct publish_options){.qos = 2, .packet_id = 1}),
                     OUTCOME_QUOTA);
    assert_string_equal(world_queue(w, "alice"), "");
    assert_int_equal(world_pubrel(w, "alice", 1), OUTCOME_DUPLICATE);
    assert_int_equal(world_publish(w, "alice", "t", "1234", (struct publish_options){.qos = 2, .packet_id = 1}),
                     OUTCOME_DONE);
}

/* What is in user properties is stored as well. */
static void properties_count_like_payload(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    static const uint8_t properties[101];
    settings.store_bytes_max = 100;
    world_settings(w, &settings);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    for (size_t size = 101; size >= 100; size--) {
        struct command command = {.type = COMMAND_PUBLISH,
                                  .publish = {.owner = world_client(w, "alice")->owner,
                                              .packet_id = 1,
                                              .message_expiry_s = UINT32_MAX,
                                              .message = {.topic = bytes_text("t"),
                                                          .properties = bytes_of(properties, size),
                                                          .qos = 1}}};
        world_apply_one(w, 1, &command);
        assert_int_equal(world_effect(w, 1, EFFECT_PUBLISHED, 0)->outcome, size > 100 ? OUTCOME_QUOTA : OUTCOME_DONE);
    }
    assert_int_equal(world_counts(w).queued_bytes, 100);
}

static void subscriptions_beyond_the_limit_are_refused_one_by_one(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.subscriptions_max = 1;
    world_settings(w, &settings);
    world_connect(w, "alice", PERSISTENT);
    assert_int_equal(world_subscribe(w, "alice", "a", 2), 2);
    assert_int_equal(world_subscribe(w, "alice", "b", 1), 0x97);
    assert_int_equal(world_subscribe(w, "alice", "a", 1), 1);
}

/* ---- long work ---- */

static void a_large_session_ends_in_steps(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    world_begin(w, 1);
    for (int i = 0; i < 2500; i++) {
        struct command publish = {.type = COMMAND_PUBLISH,
                                  .publish = {.owner = world_client(w, "alice")->owner,
                                              .message_expiry_s = UINT32_MAX,
                                              .message = {.topic = bytes_text("t"), .qos = 1}}};
        world_add(w, &publish);
    }
    world_apply(w);
    world_connect(w, "alice", (struct connect_options){.clean_start = true, .expiry_s = NEVER});
    assert_false(world_client(w, "alice")->session_present);
    assert_true(state_work_pending(w->states[0]));
    assert_string_equal(world_queue(w, "alice"), "");
    uint64_t left = world_counts(w).messages;
    assert_in_range(left, 1500, 1510);
    world_finish_work(w);
    assert_int_equal(world_counts(w).messages, 0);
    assert_int_equal(world_counts(w).dropped_session_ended, 2500);
}

static void the_end_of_a_node_with_many_connections_takes_steps(void **state)
{
    struct world *w = *state;
    w->reopen = false;
    world_begin(w, 2);
    for (uint64_t i = 0; i < 2300; i++) {
        struct command connect = {.type = COMMAND_CONNECT,
                                  .connect = {.connection = i + 1,
                                              .client_id = bytes_of(&i, sizeof i),
                                              .protocol_level = 5,
                                              .receive_maximum = 1,
                                              .session_expiry_s = 60}};
        world_add(w, &connect);
    }
    world_apply(w);
    w->reopen = true;
    world_node_down(w, 2);
    assert_true(state_work_pending(w->states[0]));
    assert_int_equal(world_counts(w).connected, 1300);
    world_finish_work(w);
    assert_int_equal(world_counts(w).connected, 0);
    assert_int_equal(world_counts(w).sessions, 2300);
    w->clock_ms += 60000;
    world_apply_one(w, 1, &(struct command){.type = COMMAND_TICK});
    assert_int_equal(state_due_ms(w->states[0]) <= w->clock_ms, 1);
    world_tick(w, 0);
    world_finish_work(w);
    assert_int_equal(world_counts(w).sessions, 0);
}

static void connections_of_an_earlier_life_are_no_targets_although_their_end_takes_steps(void **state)
{
    struct world *w = *state;
    struct buffer filters = {0};
    command_put_filter(&filters, bytes_text("t"), 1);
    w->reopen = false;
    world_begin(w, 1);
    for (uint64_t i = 0; i < 1200; i++) {
        struct command connect = {.type = COMMAND_CONNECT,
                                  .connect = {.connection = i + 1,
                                              .client_id = bytes_of(&i, sizeof i),
                                              .receive_maximum = 1,
                                              .session_expiry_s = 60}};
        world_add(w, &connect);
    }
    world_apply(w);
    uint64_t index = w->index;
    world_begin(w, 1);
    for (uint64_t i = 0; i < 1200; i++) {
        struct command subscribe = {.type = COMMAND_SUBSCRIBE,
                                    .subscribe = {.owner = {POSITION(index, i), POSITION(index, i)},
                                                  .count = 1,
                                                  .filters = buffer_bytes(&filters)}};
        world_add(w, &subscribe);
    }
    world_apply(w);
    buffer_release(&filters);
    w->reopen = true;
    world_node_up(w, 1);
    assert_int_equal(world_counts(w).connected, 200);
    world_connect(w, "bob", (struct connect_options){.expiry_s = NEVER, .node = 2});
    assert_int_equal(world_publish(w, "bob", "t", "m", QOS_1), OUTCOME_DONE);
    assert_int_equal(world_effect_count(w, 1, EFFECT_MESSAGE), 0);
}

#define SPEC(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPEC(a_message_waits_in_the_queue_of_an_offline_session),
        SPEC(only_the_node_that_holds_a_session_gets_a_target),
        SPEC(an_acknowledged_message_is_gone),
        SPEC(the_lower_qos_of_message_and_subscription_holds),
        SPEC(a_qos_0_subscription_gets_it_once_and_nothing_is_stored),
        SPEC(nobody_matched_is_said),
        SPEC(no_local_keeps_the_publishers_own_messages_from_it),
        SPEC(retain_as_published_keeps_the_flag),
        SPEC(overlapping_filters_give_one_delivery_with_the_highest_qos_and_all_ids),
        SPEC(the_same_filter_again_replaces_the_subscription),
        SPEC(unsubscribing_leaves_what_is_owed),
        SPEC(a_message_says_when_it_expires),
        SPEC(qos_0_is_matched_to_the_sessions_here_and_the_nodes_elsewhere),
        SPEC(a_full_queue_drops_its_oldest_and_counts_it),
        SPEC(a_queue_is_bounded_in_bytes),
        SPEC(an_admitted_message_is_never_dropped),
        SPEC(a_full_store_refuses_and_changes_nothing),
        SPEC(properties_count_like_payload),
        SPEC(subscriptions_beyond_the_limit_are_refused_one_by_one),
        SPEC(a_large_session_ends_in_steps),
        SPEC(the_end_of_a_node_with_many_connections_takes_steps),
        SPEC(connections_of_an_earlier_life_are_no_targets_although_their_end_takes_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
