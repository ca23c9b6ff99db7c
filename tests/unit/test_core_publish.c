/* test_core_publish.c — publishing: from PUBLISH on one connection to the answers, and to PUBLISH on others. */
#include "core_world.h"

/* ---- QoS 0 ---- */

static void qos0_publish_reaches_a_subscriber_of_the_same_node(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 1, 5, "bob");
    struct device alice = given_client(cores, 1, 4, "alice");

    when_subscribes(cores, bob, "home/+", 0);
    when_publishes(alice, "home/attic", "21", 0, 0);
    then_message(bob, "home/attic", "21", 0, 0);
    then_receives_nothing(alice);
}

static void qos0_publish_reaches_subscribers_of_other_nodes(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 2, 4, "bob");
    struct device carol = given_client(cores, 3, 5, "carol");
    struct device alice = given_client(cores, 1, 4, "alice");

    when_subscribes(cores, bob, "#", 1);
    when_subscribes(cores, carol, "home/#", 0);
    when_publishes(alice, "home/attic", "21", 0, 0);
    then_message(bob, "home/attic", "21", 0, 0);
    then_message(carol, "home/attic", "21", 0, 0);
}

/* ---- QoS 1 ---- */

static void qos1_publish_is_acknowledged_and_delivered(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 1, 4, "bob");
    struct device alice = given_client(cores, 1, 4, "alice");
    uint16_t id;

    when_subscribes(cores, bob, "a", 1);
    when_publishes(alice, "a", "hello", 1, 7);
    then_answered(alice, 0x40, 7);
    id = then_message(bob, "a", "hello", 1, 0);
    assert_int_not_equal(id, 0);
    when_answers(bob, 0x40, id);
    then_receives_nothing(bob);
}

static void qos1_publish_that_nobody_wants_says_so_to_5_0(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 5, "alice");
    struct device old = given_client(cores, 1, 4, "old");

    when_publishes(alice, "a", "x", 1, 9);
    then_receives(alice, "40 0009 10");
    when_publishes(old, "a", "x", 1, 9);
    then_receives(old, "40 0009");
}

static void answers_come_in_the_order_of_the_publishes(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 2, 4, "alice");
    const char *packets[] = {"32 'a' 0003 <x>", "34 'a' 0001 <y>", "32 'a' 0002 <z>", "c0"};

    when_sends_at_once(alice, packets, 4);
    then_receives(alice, "d0"); /* a PINGREQ waits for nothing */
    then_receives(alice, "40 0003");
    then_receives(alice, "50 0001");
    then_receives(alice, "40 0002");
}

static void messages_of_one_publisher_arrive_in_order_at_every_node(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 3, 5, "bob");
    struct device alice = given_client(cores, 1, 4, "alice");

    when_subscribes(cores, bob, "n", 1);
    for (uint16_t i = 1; i <= 300; i++) {
        char payload[8];
        uint16_t id;

        snprintf(payload, sizeof(payload), "%u", i);
        when_published(alice, "n", payload, i);
        id = then_message(bob, "n", payload, 1, 0);
        when_answers(bob, 0x40, id);
    }
}

/* ---- QoS 2 ---- */

static void qos2_goes_once_through_all_four_packets_on_both_sides(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 2, 4, "bob");
    struct device alice = given_client(cores, 1, 4, "alice");
    uint16_t id;

    when_subscribes(cores, bob, "a", 2);
    when_publishes(alice, "a", "once", 2, 5);
    then_answered(alice, 0x50, 5);
    when_answers(alice, 0x62, 5);
    then_answered(alice, 0x70, 5);
    id = then_message(bob, "a", "once", 2, 0);
    when_answers(bob, 0x50, id);
    then_answered(bob, 0x62, id);
    when_answers(bob, 0x70, id);
    then_receives_nothing(bob);
}

static void qos2_publish_repeated_before_pubrel_is_delivered_once(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 1, 5, "bob");
    struct device alice = given_client(cores, 1, 4, "alice");

    when_subscribes(cores, bob, "a", 2);
    when_publishes(alice, "a", "once", 2, 5);
    then_answered(alice, 0x50, 5);
    when_sends(alice, "3c 'a' 0005 <other>");
    then_answered(alice, 0x50, 5);
    then_message(bob, "a", "once", 2, 0);
    then_receives_nothing(bob);
}

static void pubrel_of_an_unknown_packet_id_is_completed_all_the_same(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 5, "alice");

    when_answers(alice, 0x62, 77);
    then_receives(alice, "70 004d 92");
}

static void qos2_of_a_publisher_that_moves_to_another_node_is_delivered_once(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 3, 4, "bob");
    struct device alice = given_session(cores, 1, 4, "alice");

    when_subscribes(cores, bob, "a", 2);
    when_publishes(alice, "a", "once", 2, 5);
    then_answered(alice, 0x50, 5);
    line_drop(alice.line);
    alice = when_resumes(cores, 2, 4, "alice");
    when_sends(alice, "3c 'a' 0005 <once>");
    then_answered(alice, 0x50, 5);
    when_answers(alice, 0x62, 5);
    then_answered(alice, 0x70, 5);
    then_message(bob, "a", "once", 2, 0);
    then_receives_nothing(bob);
}

/* ---- limits ---- */

static void more_unanswered_publishes_than_receive_maximum_end_the_connection(void **state)
{
    struct core_limits limits = {.receive_maximum = 2};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device alice = given_client(cores, 1, 5, "alice");

    (void)state;
    when_publishes(alice, "a", "1", 2, 1);
    when_publishes(alice, "a", "2", 2, 2);
    then_receives(alice, "50 0001 10");
    then_receives(alice, "50 0002 10");
    when_publishes(alice, "a", "2", 2, 2); /* a repetition is not one more */
    then_receives(alice, "50 0002");
    when_publishes(alice, "a", "3", 2, 3);
    then_receives(alice, "e0 93");
    then_closed(alice);
    cores_free(cores);
}

static void pubcomp_makes_room_for_another_publish(void **state)
{
    struct core_limits limits = {.receive_maximum = 1};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device alice = given_client(cores, 1, 5, "alice");

    (void)state;
    for (int i = 0; i < 5; i++) {
        when_publishes(alice, "a", "1", 2, 1);
        then_receives(alice, "50 0001 10");
        when_answers(alice, 0x62, 1);
        then_answered(alice, 0x70, 1);
    }
    cores_free(cores);
}

static void a_full_store_refuses_5_0_with_quota_and_closes_3_1_1(void **state)
{
    struct command_settings settings = {.queue_messages_max = 10,
                                        .queue_bytes_max = 1000,
                                        .subscriptions_max = 10,
                                        .sessions_max = 10,
                                        .retained_messages_max = 0,
                                        .session_expiry_max_s = UINT32_MAX,
                                        .in_flight_max = 10,
                                        .store_bytes_max = 1 << 20};
    struct cores *cores = cores_new(1, NULL, &settings);
    struct device alice = given_client(cores, 1, 5, "alice");
    struct device old = given_client(cores, 1, 4, "old");

    (void)state;
    when_sends(alice, "33 'a' 0001 00 <kept>");
    then_receives(alice, "40 0001 97");
    when_sends(alice, "35 'a' 0002 00 <kept>");
    then_receives(alice, "50 0002 97");
    when_sends(old, "33 'a' 0001 <kept>");
    then_closed(old);
    cores_free(cores);
}

static void retained_qos0_goes_live_at_once_and_sets_the_register(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 2, 4, "bob");
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device carol = given_client(cores, 3, 4, "carol");

    when_subscribes(cores, bob, "a", 0);
    when_sends(alice, "31 'a' <kept>");
    then_message(bob, "a", "kept", 0, 0);
    then_receives_nothing(bob);
    when_subscribes(cores, carol, "a", 1);
    then_message(carol, "a", "kept", 0, RETAINED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(qos0_publish_reaches_a_subscriber_of_the_same_node, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(qos0_publish_reaches_subscribers_of_other_nodes, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(qos1_publish_is_acknowledged_and_delivered, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(qos1_publish_that_nobody_wants_says_so_to_5_0, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(answers_come_in_the_order_of_the_publishes, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(messages_of_one_publisher_arrive_in_order_at_every_node, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(qos2_goes_once_through_all_four_packets_on_both_sides, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(qos2_publish_repeated_before_pubrel_is_delivered_once, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(pubrel_of_an_unknown_packet_id_is_completed_all_the_same, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(qos2_of_a_publisher_that_moves_to_another_node_is_delivered_once, world_of_three,
                                        world_free),
        cmocka_unit_test(more_unanswered_publishes_than_receive_maximum_end_the_connection),
        cmocka_unit_test(pubcomp_makes_room_for_another_publish),
        cmocka_unit_test(a_full_store_refuses_5_0_with_quota_and_closes_3_1_1),
        cmocka_unit_test_setup_teardown(retained_qos0_goes_live_at_once_and_sets_the_register, world_of_three, world_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
