/* Broadcast queues: one row for many members, read with cursors. */
#include "state_world.h"

#include <stdio.h>

#define PERSISTENT ((struct connect_options){.expiry_s = NEVER})
#define QOS_1 ((struct publish_options){.qos = 1})
#define MEMBERS 9

static void given_members(struct world *w, uint8_t options)
{
    world_connect(w, "bob", PERSISTENT);
    for (unsigned i = 0; i < MEMBERS; i++) {
        world_connect(w, world_member(i), PERSISTENT);
        world_subscribe(w, world_member(i), "all", options);
    }
}

static uint64_t filter_of(struct world *w, const char *name)
{
    struct queued queued = world_delivery(w, name, 0);
    assert_int_equal(queued.target.broadcast_count, 1);
    return queued.target.broadcast_filters[0];
}

static void many_members_cost_one_row(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_publish(w, "bob", "all", "m", QOS_1);
    assert_int_equal(world_counts(w).queued, 1);
    assert_int_equal(world_counts(w).messages, 1);
    for (unsigned i = 0; i < MEMBERS; i++)
        assert_string_equal(world_queue(w, world_member(i)), "m@1");
    const struct effect *effect = world_effect(w, 1, EFFECT_MESSAGE, 0);
    assert_int_equal(effect->message.count, MEMBERS);
    assert_false(effect->message.targets[0].own);
    assert_int_equal(effect->message.targets[0].broadcast_count, 1);
}

static void the_last_acknowledgement_deletes_it(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_publish(w, "bob", "all", "m", QOS_1);
    for (unsigned i = 0; i < MEMBERS; i++) {
        assert_int_equal(world_counts(w).messages, 1);
        world_drain(w, world_member(i));
        assert_string_equal(world_queue(w, world_member(i)), "");
    }
    assert_int_equal(world_counts(w).messages, 0);
    assert_int_equal(world_counts(w).queued, 0);
}

static void exceptions_stay_until_they_are_acknowledged(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_publish(w, "bob", "all", "a", QOS_1);
    uint64_t filter = filter_of(w, "m0"), first = world_delivery(w, "m0", 0).target.order;
    world_publish(w, "bob", "all", "b", QOS_1);
    world_publish(w, "bob", "all", "c", QOS_1);
    uint64_t except[] = {first, first + 1};
    world_ack_broadcast(w, "m0", filter, first + 2, except, 2);
    assert_string_equal(world_queue(w, "m0"), "a@1 b@1");
    world_ack_broadcast(w, "m0", filter, first + 2, except + 1, 1);
    assert_string_equal(world_queue(w, "m0"), "b@1");
    world_ack_broadcast(w, "m0", filter, first + 2, except, 2); /* a stays done */
    assert_string_equal(world_queue(w, "m0"), "b@1");
    world_ack_broadcast(w, "m0", filter, first + 1, NULL, 0);
    assert_string_equal(world_queue(w, "m0"), "");
    assert_string_equal(world_queue(w, "m1"), "a@1 b@1 c@1");
}

static void an_acknowledgement_of_the_future_is_cut_at_the_present(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_publish(w, "bob", "all", "a", QOS_1);
    world_ack_broadcast(w, "m0", filter_of(w, "m0"), UINT64_MAX, NULL, 0);
    world_publish(w, "bob", "all", "b", QOS_1);
    assert_string_equal(world_queue(w, "m0"), "b@1");
}

static void a_member_that_joins_gets_only_what_comes_then(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_publish(w, "bob", "all", "a", QOS_1);
    world_connect(w, "late", PERSISTENT);
    world_subscribe(w, "late", "all", 1);
    world_publish(w, "bob", "all", "b", QOS_1);
    assert_string_equal(world_queue(w, "late"), "b@1");
}

static void unsubscribing_leaves_what_is_owed_with_the_options_it_fell_under(void **state)
{
    struct world *w = *state;
    given_members(w, 2);
    world_subscribe_id(w, "m0", "all", 1, 1);
    world_publish(w, "bob", "all", "a", (struct publish_options){.qos = 1, .retain = true});
    world_subscribe_id(w, "m0", "all", 1 | SUBSCRIPTION_RETAIN_AS_PUBLISHED | 2 << 4, 2);
    world_publish(w, "bob", "all", "b", (struct publish_options){.qos = 1, .retain = true});
    world_unsubscribe(w, "m0", "all");
    world_publish(w, "bob", "all", "c", QOS_1);
    world_subscribe_id(w, "m0", "all", 1 | 2 << 4, 3);
    world_publish(w, "bob", "all", "d", QOS_1);
    world_unsubscribe(w, "m0", "all");
    assert_string_equal(world_queue(w, "m0"), "a@1#1 b@1!#2 d@1#3");
    world_drain(w, "m0");
    assert_string_equal(world_queue(w, "m0"), "");
}

static void a_filter_lives_until_nobody_is_owed_anything(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_publish(w, "bob", "all", "m", QOS_1);
    for (unsigned i = 0; i < MEMBERS; i++)
        world_unsubscribe(w, world_member(i), "all");
    assert_int_equal(world_counts(w).filters, 1);
    for (unsigned i = 0; i < MEMBERS; i++)
        world_drain(w, world_member(i));
    assert_int_equal(world_counts(w).filters, 0);
    assert_int_equal(world_counts(w).messages, 0);
}

static void own_and_broadcast_filters_merge_into_one_delivery(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_subscribe_id(w, "m0", "+", 1, 5);
    world_publish(w, "bob", "all", "m", QOS_1);
    assert_string_equal(world_queue(w, "m0"), "m@1#5");
    struct queued queued = world_delivery(w, "m0", 0);
    assert_true(queued.target.own);
    assert_int_equal(queued.target.broadcast_count, 1);
    world_publish(w, "bob", "x", "n", QOS_1);
    assert_string_equal(world_queue(w, "m0"), "m@1#5 n@1#5");
    world_drain(w, "m0");
    assert_string_equal(world_queue(w, "m0"), "");
}

static void a_full_broadcast_queue_drops_its_oldest_for_those_who_still_hold_it(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.queue_messages_max = 2;
    world_settings(w, &settings);
    given_members(w, 1);
    world_publish(w, "bob", "all", "a", QOS_1);
    world_drain(w, "m0");
    world_publish(w, "bob", "all", "b", QOS_1);
    world_publish(w, "bob", "all", "c", QOS_1);
    assert_int_equal(world_counts(w).dropped_queue_full, MEMBERS - 1);
    assert_string_equal(world_queue(w, "m0"), "b@1 c@1");
    assert_string_equal(world_queue(w, "m1"), "b@1 c@1");
}

static void no_local_is_not_owed_to_the_publisher(void **state)
{
    struct world *w = *state;
    given_members(w, 1 | SUBSCRIPTION_NO_LOCAL);
    world_publish(w, "m0", "all", "a", QOS_1);
    world_publish(w, "m1", "all", "b", QOS_1);
    world_publish(w, "m0", "all", "c", QOS_1);
    assert_string_equal(world_queue(w, "m0"), "b@1");
    assert_string_equal(world_queue(w, "m1"), "a@1 c@1");
    assert_string_equal(world_queue(w, "m2"), "a@1 b@1 c@1");
    for (unsigned i = 0; i < MEMBERS; i++)
        world_drain(w, world_member(i));
    assert_int_equal(world_counts(w).messages, 0);
}

static void qos_2_is_admitted_to_every_member_whose_window_has_room(void **state)
{
    struct world *w = *state;
    given_members(w, 2);
    world_end(w, "m0", END_CLEAN);
    world_publish(w, "bob", "all", "q", QOS_1);
    world_publish(w, "bob", "all", "m", (struct publish_options){.qos = 2, .packet_id = 1});
    assert_int_equal(world_effect_count(w, 1, EFFECT_ADMITTED), MEMBERS - 1);
    assert_false(state_work_pending(w->states[0]));
    assert_string_equal(world_queue(w, "m1"), "q@1 m@2*");
    assert_string_equal(world_queue(w, "m0"), "q@1 m@2");
    world_connect(w, "m0", PERSISTENT);
    assert_string_equal(world_queue(w, "m0"), "q@1 m@2*");
    for (unsigned i = 0; i < MEMBERS; i++)
        world_drain(w, world_member(i));
    assert_int_equal(world_counts(w).messages, 0);
}

static void an_ended_session_gives_up_its_share(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_publish(w, "bob", "all", "m", QOS_1);
    for (unsigned i = 0; i < MEMBERS; i++)
        world_connect(w, world_member(i), (struct connect_options){.clean_start = true});
    assert_int_equal(world_counts(w).messages, 0);
    assert_int_equal(world_counts(w).filters, 0);
    assert_int_equal(world_counts(w).dropped_session_ended, MEMBERS);
}

static void members_with_qos_0_are_not_in_the_queue(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    world_subscribe(w, "m0", "all", 0);
    world_publish(w, "bob", "all", "m", QOS_1);
    assert_string_equal(world_queue(w, "m0"), "");
    assert_int_equal(world_effect(w, 1, EFFECT_MESSAGE, 0)->message.count, MEMBERS);
}

/* Each change closes an interval, of which there may not be ever more. */
static void a_subscription_may_not_change_for_ever_while_it_is_owed_messages(void **state)
{
    struct world *w = *state;
    uint8_t code = 1;
    uint32_t changes = 0;
    given_members(w, 1);
    for (uint32_t id = 1; id <= 150 && code < 0x80; id++) {
        world_publish(w, "bob", "all", "m", QOS_1);
        code = world_subscribe_id(w, "m0", "all", 1, id);
        changes += code < 0x80;
    }
    assert_int_equal(code, 0x97);
    assert_int_equal(changes, 99); /* with the first one there are 100 intervals */
    world_drain(w, "m0");
    assert_int_equal(world_subscribe_id(w, "m0", "all", 1, 1000), 1);
    for (unsigned i = 0; i < MEMBERS; i++)
        world_drain(w, world_member(i));
    assert_int_equal(world_counts(w).messages, 0);
}

/* More than one batch does; the world's replicas work in steps of different length, and compare their states. */
static void what_a_large_share_leaves_for_the_next_batch_is_the_same_everywhere(void **state)
{
    struct world *w = *state;
    given_members(w, 1);
    for (unsigned i = 0; i < 1500; i++)
        world_publish(w, "bob", "all", "m", QOS_1);
    world_connect(w, "m0", (struct connect_options){.clean_start = true});
    assert_true(world_counts(w).dropped_session_ended < 1500);
    world_finish_work(w);
    assert_int_equal(world_counts(w).dropped_session_ended, 1500);
}

#define SPEC(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPEC(many_members_cost_one_row),
        SPEC(the_last_acknowledgement_deletes_it),
        SPEC(exceptions_stay_until_they_are_acknowledged),
        SPEC(an_acknowledgement_of_the_future_is_cut_at_the_present),
        SPEC(a_member_that_joins_gets_only_what_comes_then),
        SPEC(unsubscribing_leaves_what_is_owed_with_the_options_it_fell_under),
        SPEC(a_filter_lives_until_nobody_is_owed_anything),
        SPEC(own_and_broadcast_filters_merge_into_one_delivery),
        SPEC(a_full_broadcast_queue_drops_its_oldest_for_those_who_still_hold_it),
        SPEC(no_local_is_not_owed_to_the_publisher),
        SPEC(qos_2_is_admitted_to_every_member_whose_window_has_room),
        SPEC(an_ended_session_gives_up_its_share),
        SPEC(what_a_large_share_leaves_for_the_next_batch_is_the_same_everywhere),
        SPEC(a_subscription_may_not_change_for_ever_while_it_is_owed_messages),
        SPEC(members_with_qos_0_are_not_in_the_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
