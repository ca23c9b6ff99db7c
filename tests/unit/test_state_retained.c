/* Retained messages: each topic is a register; a SUBSCRIBE gets the value of its place in the log, then every change. */
#include "state_world.h"

#include <stdio.h>
#include <string.h>

#define PERSISTENT ((struct connect_options){.expiry_s = NEVER})
#define RETAIN ((struct publish_options){.qos = 1, .retain = true})
#define SEND_IF_NEW (1 << 4)
#define DO_NOT_SEND (2 << 4)

static void a_new_subscription_gets_what_is_retained(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_publish(w, "alice", "a", "old", RETAIN);
    world_publish(w, "alice", "a", "new", RETAIN);
    world_publish(w, "alice", "b", "x", RETAIN);
    world_subscribe_id(w, "alice", "a", 1, 7);
    assert_int_equal(world_effect_count(w, 1, EFFECT_QUEUED), 1);
    assert_int_equal(world_effect_count(w, 2, EFFECT_QUEUED), 0);
    assert_string_equal(world_queue(w, "alice"), "new@1!#7");
    assert_int_equal(world_counts(w).retained, 2);
    assert_int_equal(world_counts(w).messages, 2);
}

static void an_empty_payload_clears_and_is_not_kept(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_publish(w, "alice", "a", "x", RETAIN);
    world_publish(w, "alice", "a", "", RETAIN);
    world_publish(w, "alice", "a", "", RETAIN);
    world_subscribe(w, "alice", "a", 1);
    assert_string_equal(world_queue(w, "alice"), "");
    assert_int_equal(world_counts(w).retained, 0);
    assert_int_equal(world_counts(w).messages, 0);
}

static void retain_handling_decides(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_publish(w, "alice", "a", "x", RETAIN);
    world_subscribe(w, "alice", "a", 1 | DO_NOT_SEND);
    assert_string_equal(world_queue(w, "alice"), "");
    world_subscribe(w, "alice", "a", 1 | SEND_IF_NEW);
    assert_string_equal(world_queue(w, "alice"), "");
    world_unsubscribe(w, "alice", "a");
    world_subscribe(w, "alice", "a", 1 | SEND_IF_NEW);
    assert_string_equal(world_queue(w, "alice"), "x@1!");
    world_subscribe(w, "alice", "a", 1);
    assert_string_equal(world_queue(w, "alice"), "x@1! x@1!");
}

static void a_qos_0_subscription_gets_it_from_its_queue_with_qos_0(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_publish(w, "alice", "a", "x", (struct publish_options){.qos = 2, .retain = true, .packet_id = 1});
    world_subscribe(w, "alice", "a", 0);
    assert_string_equal(world_queue(w, "alice"), "x@0!");
    world_drain(w, "alice");
    assert_string_equal(world_queue(w, "alice"), "");
}

static void a_retained_qos_0_publish_only_sets_the_register(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "a", 1);
    assert_int_equal(
        world_publish(w, "alice", "a", "x", (struct publish_options){.retain = true, .register_only = true}),
        OUTCOME_DONE);
    assert_string_equal(world_targets(w, 1), "");
    assert_string_equal(world_queue(w, "alice"), "");
    world_subscribe(w, "alice", "a", 1);
    assert_string_equal(world_queue(w, "alice"), "x@0!");
}

static void a_retained_message_expires_by_cluster_time(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_publish(w, "alice", "a", "x", (struct publish_options){.qos = 1, .retain = true, .expiry_s = 10});
    world_publish(w, "alice", "b", "y", (struct publish_options){.qos = 1, .retain = true, .expiry_s = 10});
    world_publish(w, "alice", "b", "z", RETAIN);
    w->clock_ms += 10000;
    world_subscribe(w, "alice", "#", 1);
    assert_string_equal(world_queue(w, "alice"), "z@1!");
    world_tick(w, 0);
    assert_int_equal(world_counts(w).retained, 1);
    assert_int_equal(state_due_ms(w->states[0]), UINT64_MAX);
}

static void a_qos_2_retained_message_goes_through_the_window(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_publish(w, "alice", "a", "x", (struct publish_options){.qos = 2, .retain = true, .packet_id = 1});
    world_subscribe(w, "alice", "a", 2);
    assert_string_equal(world_queue(w, "alice"), "x@2!*");
    world_drain(w, "alice");
    assert_string_equal(world_queue(w, "alice"), "");
}

static void the_register_is_bounded(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.retained_messages_max = 1;
    settings.retained_bytes_max = 3;
    world_settings(w, &settings);
    world_connect(w, "alice", PERSISTENT);
    assert_int_equal(world_publish(w, "alice", "a", "1", RETAIN), OUTCOME_NO_SUBSCRIBERS);
    assert_int_equal(world_publish(w, "alice", "b", "2", RETAIN), OUTCOME_QUOTA);
    assert_int_equal(world_publish(w, "alice", "a", "4444", RETAIN), OUTCOME_QUOTA);
    assert_int_equal(world_publish(w, "alice", "a", "333", RETAIN), OUTCOME_NO_SUBSCRIBERS);
    assert_int_equal(world_publish(w, "alice", "a", "", RETAIN), OUTCOME_NO_SUBSCRIBERS);
    assert_int_equal(world_publish(w, "alice", "b", "2", RETAIN), OUTCOME_NO_SUBSCRIBERS);
}

static void no_local_holds_for_retained_messages_too(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_publish(w, "alice", "a", "x", RETAIN);
    world_subscribe(w, "alice", "a", 1 | SUBSCRIPTION_NO_LOCAL);
    assert_string_equal(world_queue(w, "alice"), "");
}

/* ---- more than a SUBSCRIBE brings at once ---- */

#define MANY 250

static void given_many_retained(struct world *w)
{
    char topic[8], payload[8];
    w->reopen = false;
    world_connect(w, "bob", PERSISTENT);
    for (int i = 0; i < MANY; i++) {
        snprintf(topic, sizeof topic, "r/%03d", i);
        snprintf(payload, sizeof payload, "%03d", i);
        world_publish(w, "bob", topic, payload, RETAIN);
    }
    w->reopen = true;
}

static uint32_t queue_length(struct world *w, const char *name)
{
    uint32_t count = 0;
    for (const char *at = world_queue(w, name); (at = strchr(at, '@')) != NULL; at++)
        count++;
    return count;
}

static void a_large_match_comes_in_portions(void **state)
{
    struct world *w = *state;
    uint64_t position;
    given_many_retained(w);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "r/#", 1);
    assert_int_equal(queue_length(w, "alice"), 100);
    assert_true(state_retained_scan(w->states[1], world_client(w, "alice")->owner.session_id, &position));
    world_retained_more(w, "alice", 30);
    assert_int_equal(queue_length(w, "alice"), 130);
    world_retained_more(w, "alice", 1000);
    assert_int_equal(queue_length(w, "alice"), MANY);
    assert_false(state_retained_scan(w->states[0], world_client(w, "alice")->owner.session_id, &position));
    assert_int_equal(strncmp(world_queue(w, "alice"), "000@1! 001@1!", 13), 0);
}

static void a_value_overwritten_in_front_of_a_scan_comes_before_the_new_one(void **state)
{
    struct world *w = *state;
    given_many_retained(w);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "r/#", 1);
    world_drain(w, "alice");
    world_publish(w, "bob", "r/200", "new", RETAIN);
    assert_int_equal(world_effect_count(w, 1, EFFECT_QUEUED), 1);
    assert_string_equal(world_queue(w, "alice"), "200@1! new@1");
    world_publish(w, "bob", "r/000", "passed", RETAIN);
    assert_string_equal(world_queue(w, "alice"), "200@1! new@1 passed@1");
    world_publish(w, "bob", "r/201", "", RETAIN);
    assert_string_equal(world_queue(w, "alice"), "200@1! new@1 passed@1 201@1! @1");
    world_drain(w, "alice");
    world_retained_more(w, "alice", 1000);
    assert_int_equal(queue_length(w, "alice"), MANY - 100 - 2);
    assert_null(strstr(world_queue(w, "alice"), "new"));
}

static void unsubscribing_closes_the_scan(void **state)
{
    struct world *w = *state;
    uint64_t position;
    given_many_retained(w);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "r/#", 1);
    world_unsubscribe(w, "alice", "r/#");
    assert_false(state_retained_scan(w->states[0], world_client(w, "alice")->owner.session_id, &position));
}

static void a_scan_survives_a_change_of_nodes(void **state)
{
    struct world *w = *state;
    given_many_retained(w);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "r/#", 1);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2});
    world_retained_more(w, "alice", 1000);
    assert_int_equal(queue_length(w, "alice"), MANY);
}

static void an_old_value_that_waits_is_not_sent_after_a_newer_one_to_a_qos_0_subscription(void **state)
{
    struct world *w = *state;
    world_connect(w, "bob", PERSISTENT);
    world_publish(w, "bob", "a", "old", RETAIN);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "a", 0);
    world_publish(w, "bob", "a", "new", RETAIN);
    assert_string_equal(world_targets(w, 1), "alice:new@0");
    assert_string_equal(world_queue(w, "alice"), "old@0! new@0");
    world_drain(w, "alice");
    world_publish(w, "bob", "a", "newest", RETAIN);
    assert_string_equal(world_targets(w, 1), "alice:newest@0?");
}

#define SPEC(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPEC(a_new_subscription_gets_what_is_retained),
        SPEC(an_empty_payload_clears_and_is_not_kept),
        SPEC(retain_handling_decides),
        SPEC(a_qos_0_subscription_gets_it_from_its_queue_with_qos_0),
        SPEC(a_retained_qos_0_publish_only_sets_the_register),
        SPEC(a_retained_message_expires_by_cluster_time),
        SPEC(a_qos_2_retained_message_goes_through_the_window),
        SPEC(the_register_is_bounded),
        SPEC(no_local_holds_for_retained_messages_too),
        SPEC(a_large_match_comes_in_portions),
        SPEC(a_value_overwritten_in_front_of_a_scan_comes_before_the_new_one),
        SPEC(unsubscribing_closes_the_scan),
        SPEC(a_scan_survives_a_change_of_nodes),
        SPEC(an_old_value_that_waits_is_not_sent_after_a_newer_one_to_a_qos_0_subscription),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
