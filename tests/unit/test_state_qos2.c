/* QoS 2 in both directions: exactly once, whatever is repeated and wherever the client goes on. */
#include "state_world.h"

#define PERSISTENT ((struct connect_options){.expiry_s = NEVER})
#define ONE_AT_A_TIME ((struct connect_options){.expiry_s = NEVER, .receive_maximum = 1})

static enum outcome publish_2(struct world *w, const char *name, const char *payload, uint16_t packet_id)
{
    return world_publish(w, name, "t", payload, (struct publish_options){.qos = 2, .packet_id = packet_id});
}

static uint64_t order_of(struct world *w, const char *name, uint32_t n)
{
    return world_delivery(w, name, n).target.order;
}

/* ---- from the client ---- */

static void a_repeated_publish_enters_once_until_its_pubrel(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    assert_int_equal(publish_2(w, "alice", "first", 5), OUTCOME_DONE);
    assert_int_equal(publish_2(w, "alice", "other", 5), OUTCOME_DUPLICATE);
    assert_string_equal(world_queue(w, "alice"), "first@1");
    assert_int_equal(world_pubrel(w, "alice", 5), OUTCOME_DONE);
    assert_int_equal(world_pubrel(w, "alice", 5), OUTCOME_DUPLICATE);
    assert_int_equal(publish_2(w, "alice", "second", 5), OUTCOME_DONE);
    assert_string_equal(world_queue(w, "alice"), "first@1 second@1");
}

static void a_packet_id_stays_open_across_nodes(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 1);
    publish_2(w, "alice", "m", 5);
    world_node_up(w, 1);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2});
    assert_int_equal(publish_2(w, "alice", "m", 5), OUTCOME_DUPLICATE);
    assert_string_equal(world_queue(w, "alice"), "m@1");
    assert_int_equal(world_pubrel(w, "alice", 5), OUTCOME_DONE);
}

static void a_new_session_knows_no_packet_ids(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", PERSISTENT);
    publish_2(w, "alice", "m", 5);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .clean_start = true});
    assert_int_equal(publish_2(w, "alice", "m", 5), OUTCOME_NO_SUBSCRIBERS);
}

/* ---- to the client ---- */

static void a_message_is_admitted_at_once_if_the_window_has_room(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", ONE_AT_A_TIME);
    world_subscribe(w, "alice", "t", 2);
    publish_2(w, "alice", "a", 1);
    assert_string_equal(world_targets(w, 1), "alice:a@2*");
    publish_2(w, "alice", "b", 2);
    assert_string_equal(world_targets(w, 1), "alice:b@2");
    assert_string_equal(world_queue(w, "alice"), "a@2* b@2");
}

static void pubrec_releases_and_pubcomp_makes_room(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", ONE_AT_A_TIME);
    world_subscribe(w, "alice", "t", 2);
    publish_2(w, "alice", "a", 1);
    publish_2(w, "alice", "b", 2);
    uint64_t order = order_of(w, "alice", 0);
    assert_int_equal(world_pubcomp(w, "alice", order), OUTCOME_DUPLICATE);
    assert_int_equal(world_pubrec(w, "alice", order), OUTCOME_DONE);
    assert_string_equal(world_queue(w, "alice"), "@2*. b@2");
    assert_int_equal(world_pubrec(w, "alice", order), OUTCOME_DONE);
    assert_int_equal(world_pubcomp(w, "alice", order), OUTCOME_DONE);
    assert_int_equal(world_effect_count(w, 1, EFFECT_ADMITTED), 1);
    assert_int_equal(world_effect_count(w, 2, EFFECT_ADMITTED), 0);
    assert_string_equal(world_queue(w, "alice"), "b@2*");
    assert_int_equal(world_pubrec(w, "alice", order), OUTCOME_DUPLICATE);
}

static void a_refusal_by_the_subscriber_completes_it(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", ONE_AT_A_TIME);
    world_subscribe(w, "alice", "t", 2);
    publish_2(w, "alice", "a", 1);
    publish_2(w, "alice", "b", 2);
    world_ack_own(w, "alice", order_of(w, "alice", 0)); /* PUBREC >= 0x80 */
    assert_string_equal(world_queue(w, "alice"), "b@2*");
}

static void the_handshake_goes_on_at_another_node(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", ONE_AT_A_TIME);
    world_subscribe(w, "alice", "t", 2);
    publish_2(w, "alice", "a", 1);
    uint64_t order = order_of(w, "alice", 0);
    world_pubrec(w, "alice", order);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2, .receive_maximum = 1});
    assert_string_equal(world_queue(w, "alice"), "@2*.");
    assert_int_equal(order_of(w, "alice", 0), order);
    assert_int_equal(world_pubcomp(w, "alice", order), OUTCOME_DONE);
    assert_string_equal(world_queue(w, "alice"), "");
}

static void what_came_while_offline_is_admitted_at_connect(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", ONE_AT_A_TIME);
    world_subscribe(w, "alice", "t", 2);
    world_end(w, "alice", END_CLEAN);
    world_connect(w, "bob", PERSISTENT);
    publish_2(w, "bob", "a", 1);
    world_publish(w, "bob", "t", "q", (struct publish_options){.qos = 1});
    publish_2(w, "bob", "b", 2);
    assert_string_equal(world_queue(w, "alice"), "a@2 q@1 b@2");
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .receive_maximum = 2});
    assert_string_equal(world_queue(w, "alice"), "a@2* q@1 b@2*");
}

static void unsubscribing_and_expiry_never_touch_an_admitted_message(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", ONE_AT_A_TIME);
    world_subscribe(w, "alice", "t", 2);
    world_publish(w, "alice", "t", "a", (struct publish_options){.qos = 2, .packet_id = 1, .expiry_s = 1});
    world_publish(w, "alice", "t", "b", (struct publish_options){.qos = 2, .packet_id = 2, .expiry_s = 1});
    world_unsubscribe(w, "alice", "t");
    world_tick(w, 5000);
    assert_string_equal(world_queue(w, "alice"), "a@2* b@2");
    uint64_t order = order_of(w, "alice", 0);
    world_pubrec(w, "alice", order);
    world_pubcomp(w, "alice", order); /* b has expired before it was admitted */
    assert_string_equal(world_queue(w, "alice"), "");
    assert_int_equal(world_counts(w).dropped_expired, 1);
    assert_int_equal(world_counts(w).messages, 0);
}

static void in_flight_max_bounds_every_window(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.in_flight_max = 1;
    world_settings(w, &settings);
    world_connect(w, "alice", PERSISTENT);
    world_subscribe(w, "alice", "t", 2);
    publish_2(w, "alice", "a", 1);
    publish_2(w, "alice", "b", 2);
    assert_string_equal(world_queue(w, "alice"), "a@2* b@2");
}

static void a_fenced_pubrec_changes_nothing(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", ONE_AT_A_TIME);
    world_subscribe(w, "alice", "t", 2);
    publish_2(w, "alice", "a", 1);
    struct command pubrec = {.type = COMMAND_PUBREC,
                             .delivery = {world_client(w, "alice")->owner, order_of(w, "alice", 0)}};
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2, .receive_maximum = 1});
    world_apply_one(w, 1, &pubrec);
    assert_int_equal(world_effect(w, 1, EFFECT_DELIVERY_RELEASED, 0)->outcome, OUTCOME_FENCED);
    assert_string_equal(world_queue(w, "alice"), "a@2*");
}

#define SPEC(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPEC(a_repeated_publish_enters_once_until_its_pubrel),
        SPEC(a_packet_id_stays_open_across_nodes),
        SPEC(a_new_session_knows_no_packet_ids),
        SPEC(a_message_is_admitted_at_once_if_the_window_has_room),
        SPEC(pubrec_releases_and_pubcomp_makes_room),
        SPEC(a_refusal_by_the_subscriber_completes_it),
        SPEC(the_handshake_goes_on_at_another_node),
        SPEC(what_came_while_offline_is_admitted_at_connect),
        SPEC(unsubscribing_and_expiry_never_touch_an_admitted_message),
        SPEC(in_flight_max_bounds_every_window),
        SPEC(a_fenced_pubrec_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
