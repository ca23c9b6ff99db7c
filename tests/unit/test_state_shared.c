/* Shared subscriptions: who gets what, what waits, and what is handed on. */
#include "state_world.h"

#include <stdio.h>
#include <string.h>

#define QOS1 (struct publish_options){.qos = 1}

static void publish(struct world *w, const char *topic, const char *payload, uint8_t qos)
{
    static uint16_t packet_id;
    packet_id = (uint16_t)(packet_id % 60000 + 1);
    assert_int_equal(world_publish(w, "publisher", topic, payload,
                                   (struct publish_options){.qos = qos, .packet_id = packet_id}),
                     OUTCOME_DONE);
}

/* With QoS 2, in the batch under construction. */
static void publish_in_batch(struct world *w, const char *topic, const char *payload, uint16_t packet_id)
{
    struct command command = {
        .type = COMMAND_PUBLISH,
        .publish = {.owner = world_client(w, "publisher")->owner,
                    .packet_id = packet_id,
                    .message_expiry_s = UINT32_MAX,
                    .message = {.topic = bytes_text(topic), .payload = bytes_text(payload), .qos = 2}},
    };
    world_add(w, &command);
}

static void given_publisher(struct world *w)
{
    world_connect(w, "publisher", (struct connect_options){0});
}

/* A persistent member of group g on t. */
static void given_member(struct world *w, const char *name, uint32_t node, uint8_t qos)
{
    world_connect(w, name, (struct connect_options){.node = node, .expiry_s = NEVER});
    assert_int_equal(world_subscribe(w, name, "$share/g/t", qos), qos);
}

static void given_clean_member(struct world *w, const char *name, uint32_t node, uint8_t qos)
{
    world_connect(w, name, (struct connect_options){.node = node});
    assert_int_equal(world_subscribe(w, name, "$share/g/t", qos), qos);
}

static void acknowledge_first(struct world *w, const char *name)
{
    struct queued queued = world_delivery(w, name, 0);
    world_complete(w, name, &queued);
}

static void each_message_goes_to_one_member_in_turn(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 1);
    publish(w, "t", "1", 1);
    publish(w, "t", "2", 1);
    publish(w, "t", "3", 1);
    assert_string_equal(world_queue(w, "a"), "1@1 3@1");
    assert_string_equal(world_queue(w, "b"), "2@1");
}

static void idle_members_take_turns_too(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 1);
    publish(w, "t", "1", 1);
    acknowledge_first(w, "a");
    publish(w, "t", "2", 1);
    assert_string_equal(world_queue(w, "a"), "");
    assert_string_equal(world_queue(w, "b"), "2@1");
}

static void the_one_with_the_fewest_unacknowledged_gets_the_next(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 1);
    for (int i = 0; i < 4; i++)
        publish(w, "t", "x", 1);
    acknowledge_first(w, "b");
    acknowledge_first(w, "b");
    publish(w, "t", "y", 1);
    publish(w, "t", "z", 1);
    assert_string_equal(world_queue(w, "b"), "y@1 z@1");
}

static void what_a_member_here_is_given_comes_with_the_message(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    world_subscribe(w, "a", "$share/g/t", 2);
    publish(w, "t", "1", 1);
    assert_string_equal(world_targets(w, 1), "a:1@1");
    assert_string_equal(world_targets(w, 2), "");
    publish(w, "t", "2", 2);
    assert_string_equal(world_targets(w, 1), "a:2@2*");
}

static void nobody_is_given_more_than_its_receive_maximum(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER, .receive_maximum = 2});
    world_subscribe(w, "a", "$share/g/t", 2);
    publish(w, "t", "1", 2);
    publish(w, "t", "2", 1);
    publish(w, "t", "3", 1);
    publish(w, "t", "4", 2);
    assert_string_equal(world_queue(w, "a"), "1@2* 2@1");
    uint64_t order = world_delivery(w, "a", 0).target.order;
    world_pubrec(w, "a", order); /* that does not make room yet */
    assert_string_equal(world_queue(w, "a"), "@2*. 2@1");
    world_pubcomp(w, "a", order);
    assert_string_equal(world_queue(w, "a"), "2@1 3@1");
    acknowledge_first(w, "a");
    assert_int_equal(world_effect_count(w, 1, EFFECT_QUEUED), 1);
    assert_string_equal(world_queue(w, "a"), "3@1 4@2*");
}

static void the_others_go_on_while_one_is_full(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "full", (struct connect_options){.expiry_s = NEVER, .receive_maximum = 1});
    world_subscribe(w, "full", "$share/g/t", 1);
    given_member(w, "b", 2, 1);
    for (int i = 0; i < 4; i++)
        publish(w, "t", (const char *[]){"1", "2", "3", "4"}[i], 1);
    assert_string_equal(world_queue(w, "full"), "1@1");
    assert_string_equal(world_queue(w, "b"), "2@1 3@1 4@1");
}

static void messages_wait_for_members_that_are_all_offline(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 2);
    world_end(w, "a", END_CLEAN);
    world_end(w, "b", END_CLEAN);
    publish(w, "t", "1", 1);
    publish(w, "t", "2", 2);
    assert_string_equal(world_queue(w, "a"), "");
    assert_int_equal(world_counts(w).queued, 2);
    world_connect(w, "b", (struct connect_options){.node = 1, .expiry_s = NEVER});
    assert_string_equal(world_queue(w, "b"), "1@1 2@2*");
}

static void a_clean_member_that_goes_hands_on_what_it_has_not_acknowledged(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_clean_member(w, "a", 1, 2);
    publish(w, "t", "1", 1);
    publish(w, "t", "2", 1);
    publish(w, "t", "begun", 2);
    given_member(w, "b", 2, 2);
    world_end(w, "a", END_WITH_WILL);
    world_finish_work(w);
    assert_string_equal(world_queue(w, "b"), "1@1 2@1");
    assert_int_equal(world_counts(w).dropped_session_ended, 1); /* 4.8.2-5 */
    assert_int_equal(world_counts(w).messages, 2);
}

static void qos_2_that_was_not_admitted_is_handed_on(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    for (int i = 0; i < 9; i++) { /* a broadcast filter: what it holds for "a" is admitted in order */
        char name[8];
        snprintf(name, sizeof name, "x%d", i);
        world_connect(w, name, (struct connect_options){0});
        world_subscribe(w, name, "all", 2);
    }
    world_connect(w, "a", (struct connect_options){.receive_maximum = 3});
    world_subscribe(w, "a", "all", 2);
    world_subscribe(w, "a", "$share/g/t", 2);
    publish(w, "all", "1", 2);
    publish(w, "all", "2", 2);
    world_begin(w, 1); /* the one takes the last place in the window, before which the other was given */
    publish_in_batch(w, "all", "3", 60001);
    publish_in_batch(w, "t", "c", 60002);
    world_apply(w);
    assert_string_equal(world_queue(w, "a"), "1@2* 2@2* 3@2* c@2");
    given_member(w, "b", 2, 2);
    world_end(w, "a", END_CLEAN);
    world_finish_work(w);
    assert_string_equal(world_queue(w, "b"), "c@2*");
}

static void qos_1_of_a_member_that_is_away_goes_to_another(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 2);
    publish(w, "t", "1", 1);
    publish(w, "t", "2", 2);
    publish(w, "t", "3", 1);
    given_member(w, "b", 2, 2);
    world_end(w, "a", END_WITH_WILL);
    world_finish_work(w);
    assert_string_equal(world_queue(w, "a"), "2@2*"); /* 4.8.2-4 */
    assert_string_equal(world_queue(w, "b"), "1@1 3@1");
}

static void what_nobody_else_takes_waits_for_its_member_under_its_number(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    publish(w, "t", "1", 1);
    publish(w, "t", "2", 1);
    uint64_t order = world_delivery(w, "a", 0).target.order;
    world_end(w, "a", END_WITH_WILL);
    world_finish_work(w);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    assert_string_equal(world_queue(w, "a"), "1@1 2@1");
    assert_int_equal(world_delivery(w, "a", 0).target.order, order);
    acknowledge_first(w, "a");
    given_member(w, "b", 2, 1);
    assert_string_equal(world_queue(w, "b"), "");
    acknowledge_first(w, "a");
    assert_int_equal(world_counts(w).queued, 0);
    assert_int_equal(world_counts(w).messages, 0);
}

static void another_that_comes_first_has_it(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    publish(w, "t", "1", 1);
    world_end(w, "a", END_WITH_WILL);
    given_member(w, "b", 2, 1);
    assert_string_equal(world_queue(w, "b"), "1@1");
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    assert_string_equal(world_queue(w, "a"), "");
}

static void messages_come_back_to_their_place(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.receive_maximum = 2});
    world_subscribe(w, "a", "$share/g/t", 1);
    for (int i = 0; i < 4; i++)
        publish(w, "t", (const char *[]){"1", "2", "3", "4"}[i], 1);
    world_connect(w, "b", (struct connect_options){.expiry_s = NEVER, .receive_maximum = 1});
    world_subscribe(w, "b", "$share/g/t", 1);
    assert_string_equal(world_queue(w, "b"), "3@1");
    world_end(w, "a", END_CLEAN);
    world_finish_work(w);
    acknowledge_first(w, "b");
    assert_string_equal(world_queue(w, "b"), "1@1");
    acknowledge_first(w, "b");
    assert_string_equal(world_queue(w, "b"), "2@1");
    acknowledge_first(w, "b");
    assert_string_equal(world_queue(w, "b"), "4@1");
}

static void a_refused_message_goes_to_nobody_else(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 2);
    publish(w, "t", "1", 2);
    given_member(w, "b", 2, 2);
    world_ack_own(w, "a", world_delivery(w, "a", 0).target.order); /* PUBREC 0x80: 4.8.2-6 */
    world_end(w, "a", END_CLEAN);
    world_finish_work(w);
    assert_string_equal(world_queue(w, "b"), "");
    assert_int_equal(world_counts(w).messages, 0);
}

static void unsubscribing_leaves_begun_deliveries_to_the_member(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    publish(w, "t", "1", 1);
    given_member(w, "b", 2, 1);
    assert_int_equal(world_unsubscribe(w, "a", "$share/g/t"), 0);
    publish(w, "t", "2", 1);
    assert_string_equal(world_queue(w, "a"), "1@1");
    assert_string_equal(world_queue(w, "b"), "2@1");
    world_end(w, "a", END_WITH_WILL);
    world_finish_work(w);
    assert_string_equal(world_queue(w, "b"), "2@1 1@1");
}

static void the_group_ends_with_its_last_member_and_its_queue_is_counted(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.receive_maximum = 1});
    world_subscribe(w, "a", "$share/g/t", 1);
    for (int i = 0; i < 5; i++)
        publish(w, "t", "x", 1);
    assert_int_equal(world_counts(w).groups, 1);
    world_end(w, "a", END_WITH_WILL);
    world_finish_work(w);
    struct state_counts counts = world_counts(w);
    assert_int_equal(counts.groups, 0);
    assert_int_equal(counts.filters, 0);
    assert_int_equal(counts.queued, 0);
    assert_int_equal(counts.messages, 0);
    assert_int_equal(counts.dropped_session_ended, 5);
    assert_int_equal(world_publish(w, "publisher", "t", "y", QOS1), OUTCOME_NO_SUBSCRIBERS);
}

static void a_long_queue_is_cleared_in_steps(void **state)
{
    struct world *w = *state;
    w->reopen = false;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    world_end(w, "a", END_CLEAN);
    for (int i = 0; i < 2500; i++)
        publish(w, "t", "x", 1);
    world_connect(w, "a", (struct connect_options){.clean_start = true});
    assert_true(state_work_pending(w->states[0]));
    w->reopen = true;
    world_finish_work(w);
    assert_int_equal(world_counts(w).queued, 0);
    assert_int_equal(world_counts(w).messages, 0);
}

static void a_full_queue_drops_its_oldest(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.queue_messages_max = 2;
    world_settings(w, &settings);
    given_publisher(w);
    given_member(w, "a", 1, 1);
    world_end(w, "a", END_CLEAN);
    for (int i = 0; i < 4; i++)
        publish(w, "t", (const char *[]){"1", "2", "3", "4"}[i], 1);
    assert_int_equal(world_counts(w).dropped_queue_full, 2);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    assert_string_equal(world_queue(w, "a"), "3@1 4@1");
}

static void what_expires_while_it_waits_is_dropped(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    world_end(w, "a", END_CLEAN);
    world_publish(w, "publisher", "t", "1", (struct publish_options){.qos = 1, .expiry_s = 5});
    publish(w, "t", "2", 1);
    world_tick(w, 6000);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    assert_string_equal(world_queue(w, "a"), "2@1");
    assert_int_equal(world_counts(w).dropped_expired, 1);
}

static void the_members_own_qos_limits_what_it_gets(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    for (uint8_t granted = 0; granted <= 2; granted++) {
        char expected[16];
        assert_int_equal(world_subscribe(w, "a", "$share/g/t", granted), granted);
        for (uint8_t qos = 1; qos <= 2; qos++) {
            publish(w, "t", "x", qos);
            snprintf(expected, sizeof expected, "x@%d%s", granted < qos ? granted : qos,
                     granted == 2 && qos == 2 ? "*" : "");
            assert_string_equal(world_queue(w, "a"), expected);
            world_drain(w, "a");
        }
    }
}

static void a_plain_and_a_shared_subscription_of_one_session_are_two(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    world_subscribe_id(w, "a", "t", 1, 7);
    world_subscribe_id(w, "a", "$share/g/t", 1, 8);
    publish(w, "t", "1", 1);
    assert_string_equal(world_queue(w, "a"), "1@1#7 1@1#8");
    world_drain(w, "a");
    assert_int_equal(world_unsubscribe(w, "a", "t"), 0);
    assert_int_equal(world_unsubscribe(w, "a", "t"), 0x11);
    publish(w, "t", "2", 1);
    assert_string_equal(world_queue(w, "a"), "2@1#8");
    assert_int_equal(world_unsubscribe(w, "a", "$share/g/t"), 0);
    assert_int_equal(world_publish(w, "publisher", "t", "3", QOS1), OUTCOME_NO_SUBSCRIBERS);
}

static void groups_of_one_filter_get_a_copy_each(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    world_subscribe(w, "a", "$share/h/t", 2);
    given_member(w, "b", 2, 1);
    publish(w, "t", "1", 1);
    publish(w, "t", "2", 1);
    assert_int_equal(world_counts(w).groups, 2);
    assert_string_equal(world_queue(w, "a"), "1@1 1@1 2@1");
    assert_string_equal(world_queue(w, "b"), "2@1");
}

static void no_retained_message_comes_at_subscribe(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_publish(w, "publisher", "t", "r", (struct publish_options){.qos = 1, .retain = true});
    given_member(w, "a", 1, 1);
    assert_string_equal(world_queue(w, "a"), "");
    publish(w, "t", "1", 1);
    assert_string_equal(world_queue(w, "a"), "1@1");
}

static void wildcards_of_a_group_do_not_match_dollar_topics(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    world_subscribe(w, "a", "$share/g/#", 1);
    assert_int_equal(world_publish(w, "publisher", "$SYS/x", "1", QOS1), OUTCOME_NO_SUBSCRIBERS);
    publish(w, "t", "2", 1);
    assert_string_equal(world_queue(w, "a"), "2@1");
}

static void malformed_shares_are_no_groups(void **state)
{
    struct world *w = *state;
    static const char *const filters[] = {"$share", "$share/", "$share//t", "$share/g", "$share/g/", "$share/+/t"};
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        world_subscribe(w, "a", filters[i], 1); /* the front-end refuses them: here nothing may break */
    assert_int_equal(world_counts(w).groups, 0);
}

static void when_a_node_dies_its_members_hand_on(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 2, 1);
    given_clean_member(w, "c", 2, 1);
    for (int i = 0; i < 4; i++)
        publish(w, "t", "x", 1);
    given_member(w, "b", 1, 1);
    world_node_down(w, 2);
    world_finish_work(w);
    assert_string_equal(world_queue(w, "b"), "x@1 x@1 x@1 x@1");
}

static void a_will_of_qos_0_goes_to_one_member(void **state)
{
    struct world *w = *state;
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 1);
    for (int i = 0; i < 2; i++) {
        world_connect(w, "dying", (struct connect_options){.will_topic = "t"});
        world_end(w, "dying", END_WITH_WILL);
        assert_int_equal(world_effect_count(w, 1, EFFECT_MESSAGE) + world_effect_count(w, 2, EFFECT_MESSAGE), 1);
    }
}

static void qos_0_goes_to_one_member_of_the_cluster_in_turn(void **state)
{
    struct world *w = *state;
    struct message message = {.topic = bytes_text("t"), .payload = bytes_text("x")};
    struct match match;
    unsigned here = 0, there = 0;
    given_clean_member(w, "a", 1, 0);
    given_clean_member(w, "b", 2, 0);
    for (int i = 0; i < 4; i++) {
        world_match(w, 0, &message, UINT64_MAX, &match);
        here += match.count;
        assert_int_equal(match.choice_count, match.count == 0 ? 1 : 0);
        if (match.choice_count == 0)
            continue;
        there++;
        assert_int_equal(match.choices[0].node, 2);
        assert_int_equal(match.nodes, 1u << 2);
        uint64_t group = match.choices[0].group;
        world_match_copy(w, 1, &message, &group, 1, &match);
        assert_int_equal(match.count, 1);
        assert_int_equal(match.nodes, 0);
    }
    assert_int_equal(here, 2);
    assert_int_equal(there, 2);
    for (int i = 0; i < 3; i++) { /* the other node is not linked */
        world_match(w, 0, &message, 0, &match);
        assert_int_equal(match.count, 1);
    }
    world_match_copy(w, 1, &message, NULL, 0, &match);
    assert_int_equal(match.count, 0); /* a copy for plain subscriptions only */
}

/* ---- what a member may not have ---- */

/* How many of its deliveries, which is this one, nobody may have. */
static uint32_t decline(struct world *w, const char *name, uint64_t order)
{
    struct world_client *client = world_client(w, name);
    struct buffer orders = {0};
    uint64_t previous = 0;
    command_ack_put_own(&orders, &previous, order);
    struct command command = {.type = COMMAND_DECLINE,
                              .decline = {.owner = client->owner, .count = 1, .orders = buffer_bytes(&orders)}};
    world_apply_one(w, client->node, &command);
    buffer_release(&orders);
    return world_effect(w, client->node, EFFECT_DELIVERY_DONE, 0)->delivery.dropped;
}

static uint32_t decline_first(struct world *w, const char *name)
{
    return decline(w, name, world_delivery(w, name, 0).target.order);
}

static void what_a_member_declines_goes_on_until_all_have(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 2);
    given_member(w, "c", 1, 0);
    publish(w, "t", "1", 2);
    assert_string_equal(world_queue(w, "a"), "1@1");
    assert_int_equal(decline_first(w, "a"), 0);
    assert_string_equal(world_queue(w, "a"), "");
    assert_string_equal(world_queue(w, "b"), "1@2*"); /* as it was published */
    assert_int_equal(decline_first(w, "b"), 0);
    assert_string_equal(world_queue(w, "b"), "");
    assert_string_equal(world_queue(w, "c"), "1@0");
    assert_int_equal(decline_first(w, "c"), 1);
    assert_int_equal(world_counts(w).messages, 0);
    assert_int_equal(world_counts(w).queued + world_counts(w).in_flight, 0);
}

static void the_round_begins_at_whoever_was_given_it_first(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 1);
    given_member(w, "c", 1, 1);
    publish(w, "t", "1", 1);
    publish(w, "t", "2", 1);
    assert_int_equal(decline_first(w, "b"), 0);
    assert_string_equal(world_queue(w, "c"), "2@1");
    assert_int_equal(decline_first(w, "c"), 0);
    assert_string_equal(world_queue(w, "a"), "1@1 2@1");
    assert_int_equal(decline(w, "a", world_delivery(w, "a", 1).target.order), 1);
    assert_string_equal(world_queue(w, "a"), "1@1");
    assert_string_equal(world_queue(w, "b"), "");
}

static void a_member_that_gets_what_another_declined_is_told(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 2, 1);
    given_member(w, "b", 1, 1);
    publish(w, "t", "1", 1);
    decline_first(w, "a");
    const struct effect *queued = world_effect(w, 1, EFFECT_QUEUED, 0);
    assert_non_null(queued);
    assert_int_equal(queued->connection, world_client(w, "b")->connection);
    assert_true(world_delivery(w, "b", 0).target.shared);
    acknowledge_first(w, "b");
    assert_int_equal(world_counts(w).messages, 0);
}

static void what_was_received_is_not_declined_any_more(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 2);
    given_member(w, "b", 2, 2);
    publish(w, "t", "1", 2);
    uint64_t order = world_delivery(w, "a", 0).target.order;
    world_pubrec(w, "a", order);
    assert_int_equal(decline(w, "a", order), 0);
    assert_string_equal(world_queue(w, "b"), "");
    assert_int_equal(world_pubcomp(w, "a", order), OUTCOME_DONE);
    assert_int_equal(decline(w, "a", order), 0); /* nor what is done */
}

static void what_was_declined_waits_for_its_new_member_and_is_handed_on_when_that_ends(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 1);
    publish(w, "t", "1", 1);
    decline_first(w, "a");
    world_end(w, "b", END_CLEAN);
    world_finish_work(w);
    assert_string_equal(world_queue(w, "a"), ""); /* it has declined */
    assert_string_equal(world_queue(w, "b"), "1@1");
    world_connect(w, "b", (struct connect_options){.clean_start = true});
    world_finish_work(w);
    assert_string_equal(world_queue(w, "a"), "1@1");
    assert_int_equal(decline_first(w, "a"), 1);
    assert_int_equal(world_counts(w).messages, 0);
}

static void what_was_offered_and_is_declined_by_whoever_held_it_goes_on_once(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    publish(w, "t", "1", 1);
    world_end(w, "a", END_CLEAN);
    world_finish_work(w); /* it is in the group's queue too */
    world_connect(w, "a", (struct connect_options){.node = 1, .expiry_s = NEVER});
    assert_int_equal(decline_first(w, "a"), 1);
    assert_int_equal(world_counts(w).messages, 0);
    assert_int_equal(world_counts(w).queued, 0);
}

static void what_no_group_gave_is_declined_for_good(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    world_connect(w, "a", (struct connect_options){.expiry_s = NEVER});
    world_subscribe(w, "a", "t", 1);
    given_member(w, "b", 2, 1);
    world_unsubscribe(w, "b", "$share/g/t");
    publish(w, "t", "1", 1);
    assert_int_equal(decline_first(w, "a"), 1);
    assert_string_equal(world_queue(w, "a"), "");
    assert_int_equal(world_counts(w).messages, 0);
}

static void a_former_owner_declines_nothing(void **state)
{
    struct world *w = *state;
    given_publisher(w);
    given_member(w, "a", 1, 1);
    given_member(w, "b", 2, 1);
    publish(w, "t", "1", 1);
    struct world_client *a = world_client(w, "a");
    struct command_owner current = a->owner;
    a->owner.client_epoch--;
    assert_int_equal(decline_first(w, "a"), 0);
    assert_int_equal(world_effect(w, 1, EFFECT_DELIVERY_DONE, 0)->outcome, OUTCOME_FENCED);
    a->owner = current;
    assert_string_equal(world_queue(w, "a"), "1@1");
    assert_string_equal(world_queue(w, "b"), "");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_message_goes_to_one_member_in_turn),
        TEST(idle_members_take_turns_too),
        TEST(the_one_with_the_fewest_unacknowledged_gets_the_next),
        TEST(what_a_member_here_is_given_comes_with_the_message),
        TEST(nobody_is_given_more_than_its_receive_maximum),
        TEST(the_others_go_on_while_one_is_full),
        TEST(messages_wait_for_members_that_are_all_offline),
        TEST(a_clean_member_that_goes_hands_on_what_it_has_not_acknowledged),
        TEST(qos_2_that_was_not_admitted_is_handed_on),
        TEST(qos_1_of_a_member_that_is_away_goes_to_another),
        TEST(what_nobody_else_takes_waits_for_its_member_under_its_number),
        TEST(another_that_comes_first_has_it),
        TEST(messages_come_back_to_their_place),
        TEST(a_refused_message_goes_to_nobody_else),
        TEST(unsubscribing_leaves_begun_deliveries_to_the_member),
        TEST(the_group_ends_with_its_last_member_and_its_queue_is_counted),
        TEST(a_long_queue_is_cleared_in_steps),
        TEST(a_full_queue_drops_its_oldest),
        TEST(what_expires_while_it_waits_is_dropped),
        TEST(the_members_own_qos_limits_what_it_gets),
        TEST(a_plain_and_a_shared_subscription_of_one_session_are_two),
        TEST(groups_of_one_filter_get_a_copy_each),
        TEST(no_retained_message_comes_at_subscribe),
        TEST(wildcards_of_a_group_do_not_match_dollar_topics),
        TEST(malformed_shares_are_no_groups),
        TEST(when_a_node_dies_its_members_hand_on),
        TEST(a_will_of_qos_0_goes_to_one_member),
        TEST(qos_0_goes_to_one_member_of_the_cluster_in_turn),
        TEST(what_a_member_declines_goes_on_until_all_have),
        TEST(the_round_begins_at_whoever_was_given_it_first),
        TEST(a_member_that_gets_what_another_declined_is_told),
        TEST(what_was_received_is_not_declined_any_more),
        TEST(what_was_declined_waits_for_its_new_member_and_is_handed_on_when_that_ends),
        TEST(what_was_offered_and_is_declined_by_whoever_held_it_goes_on_once),
        TEST(what_no_group_gave_is_declined_for_good),
        TEST(a_former_owner_declines_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
