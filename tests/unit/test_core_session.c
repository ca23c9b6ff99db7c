/* test_core_session.c — sessions that outlive connections: queues, redelivery, take-over, wills, expiry. */
#include "core_world.h"

/* ---- queues ---- */

static void messages_for_an_offline_session_wait_and_come_in_order(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device bob = given_session(cores, 2, 4, "bob");
    uint16_t id;

    when_subscribes(cores, bob, "a", 1);
    when_sends(bob, "e0");
    then_closed(bob);
    when_published(alice, "a", "1", 1);
    when_publishes(alice, "a", "lost: QoS 0 is not queued", 0, 0);
    when_published(alice, "a", "2", 1);
    bob = when_resumes(cores, 3, 4, "bob");
    id = then_message(bob, "a", "1", 1, 0);
    when_answers(bob, 0x40, id);
    id = then_message(bob, "a", "2", 1, 0);
    when_answers(bob, 0x40, id);
    then_receives_nothing(bob);
    when_published(alice, "a", "3", 1);
    then_message(bob, "a", "3", 1, 0);
}

/* "bob" at node 2, just now: the acknowledgement is still being collected. *first: the packet id of the other one. */
static struct device given_who_acknowledged_the_second_of_two(struct cores *cores, uint16_t *first)
{
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device bob = given_session(cores, 2, 4, "bob");

    when_subscribes(cores, bob, "a", 1);
    when_published(alice, "a", "1", 1);
    when_published(alice, "a", "2", 2);
    *first = then_message(bob, "a", "1", 1, 0);
    when_answers(bob, 0x40, then_message(bob, "a", "2", 1, 0));
    return bob;
}

static void what_was_acknowledged_is_not_delivered_again(void **state)
{
    struct cores *cores = *state;
    uint16_t first;
    struct device bob = given_who_acknowledged_the_second_of_two(cores, &first);

    line_drop(bob.line);
    bob = when_resumes(cores, 1, 4, "bob");
    assert_int_equal(then_message(bob, "a", "1", 1, DUPLICATE), first);
    then_receives_nothing(bob);
}

/* Found by tests/conformance/differential: who came back before its old connection was given up got all of it again. */
static void what_was_acknowledged_is_not_delivered_again_to_who_takes_over(void **state)
{
    struct cores *cores = *state;
    uint16_t first;
    struct device bob = given_who_acknowledged_the_second_of_two(cores, &first), again;

    again = when_resumes(cores, 2, 4, "bob");
    then_closed(bob);
    assert_int_equal(then_message(again, "a", "1", 1, DUPLICATE), first);
    then_receives_nothing(again);
}

static void unacknowledged_messages_come_again_with_dup_and_the_same_ids_in_order(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device bob = given_session(cores, 2, 5, "bob");
    uint16_t ids[3];

    when_subscribes(cores, bob, "a", 2);
    when_published(alice, "a", "1", 1);
    when_publishes(alice, "a", "2", 2, 2);
    then_answered(alice, 0x50, 2);
    when_published(alice, "a", "3", 3);
    ids[0] = then_message(bob, "a", "1", 1, 0);
    ids[1] = then_message(bob, "a", "2", 2, 0);
    ids[2] = then_message(bob, "a", "3", 1, 0);
    line_drop(bob.line);
    when_published(alice, "a", "4", 4);
    bob = when_resumes(cores, 3, 5, "bob");
    assert_int_equal(then_message(bob, "a", "1", 1, DUPLICATE), ids[0]);
    assert_int_equal(then_message(bob, "a", "2", 2, DUPLICATE), ids[1]);
    assert_int_equal(then_message(bob, "a", "3", 1, DUPLICATE), ids[2]);
    then_message(bob, "a", "4", 1, 0);
    then_receives_nothing(bob);
}

static void a_released_qos2_delivery_goes_on_with_pubrel_at_another_node(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device bob = given_session(cores, 2, 4, "bob");
    uint16_t id;

    when_subscribes(cores, bob, "a", 2);
    when_publishes(alice, "a", "once", 2, 2);
    id = then_message(bob, "a", "once", 2, 0);
    when_answers(bob, 0x50, id);
    then_answered(bob, 0x62, id);
    line_drop(bob.line);
    bob = when_resumes(cores, 1, 4, "bob");
    then_answered(bob, 0x62, id);
    when_answers(bob, 0x70, id);
    line_drop(bob.line);
    bob = when_resumes(cores, 2, 4, "bob");
    then_receives_nothing(bob);
}

static void pubrec_again_after_pubrel_gets_pubrel_again(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device bob = given_client(cores, 1, 4, "bob");
    uint16_t id;

    when_subscribes(cores, bob, "a", 2);
    when_publishes(alice, "a", "once", 2, 2);
    id = then_message(bob, "a", "once", 2, 0);
    when_answers(bob, 0x50, id);
    then_answered(bob, 0x62, id);
    when_answers(bob, 0x50, id);
    then_answered(bob, 0x62, id);
    when_answers(bob, 0x70, id);
    then_open(bob);
}

static void a_refusing_pubrec_ends_the_delivery(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device bob = given_session(cores, 1, 5, "bob");
    char refusal[20];

    when_subscribes(cores, bob, "a", 2);
    when_publishes(alice, "a", "unwanted", 2, 2);
    snprintf(refusal, sizeof(refusal), "50 %04x 97", then_message(bob, "a", "unwanted", 2, 0));
    when_sends(bob, refusal);
    then_receives_nothing(bob);
    line_drop(bob.line);
    bob = when_resumes(cores, 1, 5, "bob");
    then_receives_nothing(bob);
}

static void clean_start_forgets_subscriptions_and_queue(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device bob = given_session(cores, 1, 5, "bob");

    when_subscribes(cores, bob, "a", 1);
    line_drop(bob.line);
    when_published(alice, "a", "1", 1);
    bob = when_connects(cores, 2, 5, "bob", true, 60);
    then_connack(bob, false, 0);
    when_published(alice, "a", "2", 1);
    then_receives_nothing(bob);
}

static void a_session_ends_when_its_expiry_has_passed(void **state)
{
    struct cores *cores = *state;
    struct device bob = when_connects(cores, 2, 5, "bob", true, 10);

    then_connack(bob, false, 0);
    line_drop(bob.line);
    cores_pass(cores, 9000);
    bob = when_connects(cores, 1, 5, "bob", false, 10);
    then_connack(bob, true, 0);
    line_drop(bob.line);
    cores_pass(cores, 11000);
    bob = when_connects(cores, 1, 5, "bob", false, 10);
    then_connack(bob, false, 0);
}

static void disconnect_may_shorten_the_expiry_but_not_raise_it_from_zero(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_session(cores, 1, 5, "bob");

    when_sends(bob, "e0 00 (11 00000000)");
    then_closed(bob);
    bob = when_connects(cores, 1, 5, "bob", false, 0);
    then_connack(bob, false, 0);
    when_sends(bob, "e0 00 (11 00000001)");
    then_receives(bob, "e0 82 (1f 'a session that was to end cannot be kept')");
    then_closed(bob);
}

/* ---- take-over ---- */

static void a_take_over_from_another_node_closes_the_old_connection(void **state)
{
    struct cores *cores = *state;
    struct device old = given_session(cores, 1, 5, "bob");
    struct device new = when_resumes(cores, 3, 5, "bob");

    then_receives(old, "e0 8e");
    then_closed(old);
    then_open(new);
    when_sends(new, "c0");
    then_receives(new, "d0");
}

static void of_many_connects_at_once_with_one_client_id_one_survives(void **state)
{
    struct cores *cores = *state;
    struct device devices[60];
    struct buffer connect = packet("10 'MQTT' 05 00 0000 (11 00000e10) 'same'");
    uint32_t open = 0;

    for (uint32_t i = 0; i < 60; i++) {
        devices[i] = when_dials(cores, 1 + i % 3);
        line_send_quietly(devices[i].line, buffer_bytes(&connect));
    }
    buffer_release(&connect);
    cores_settle(cores);
    for (uint32_t i = 0; i < 60; i++)
        open += !line_closed(devices[i].line);
    assert_int_equal(open, 1);
}

static void nothing_of_the_old_connection_counts_after_a_take_over(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol");
    struct device old = given_session(cores, 1, 4, "bob");
    struct device new;

    when_subscribes(cores, carol, "#", 1);
    cores_lag(cores, 1, true); /* the old node does not learn of it yet */
    new = when_resumes(cores, 2, 4, "bob");
    when_publishes(old, "a", "fenced", 1, 1);
    cores_lag(cores, 1, false);
    then_closed(old); /* without PUBACK */
    then_receives_nothing(carol);
    then_open(new);
}

/* ---- wills ---- */

static struct device given_client_with_will(struct cores *cores, uint32_t node, const char *properties)
{
    struct device device = when_dials(cores, node);
    char notation[200];

    snprintf(notation, sizeof(notation), "10 'MQTT' 05 0c 0000 (11 00000064) 'dying' (%s) 'will' 'gone'", properties);
    when_sends(device, notation);
    then_connack(device, false, 0);
    return device;
}

static void a_will_is_published_when_the_connection_breaks(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol");
    struct device dying = given_client_with_will(cores, 1, "");

    when_subscribes(cores, carol, "will", 1);
    line_drop(dying.line);
    then_message(carol, "will", "gone", 1, 0);
    then_receives_nothing(carol);
}

static void no_will_after_disconnect_and_the_socket_closes_only_when_that_is_certain(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol");
    struct device dying = given_client_with_will(cores, 1, "");

    when_subscribes(cores, carol, "will", 1);
    cores_lag(cores, 1, true);
    when_sends(dying, "e0");
    then_open(dying);
    cores_lag(cores, 1, false);
    then_closed(dying);
    cores_pass(cores, 2000);
    then_receives_nothing(carol);
}

static void disconnect_with_will_publishes_it(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol");
    struct device dying = given_client_with_will(cores, 1, "");

    when_subscribes(cores, carol, "will", 1);
    when_sends(dying, "e0 04");
    then_closed(dying);
    then_message(carol, "will", "gone", 1, 0);
}

static void a_delayed_will_waits_and_is_forgotten_if_the_session_resumes(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol");
    struct device dying = given_client_with_will(cores, 1, "18 0000000a");

    when_subscribes(cores, carol, "will", 1);
    line_drop(dying.line);
    cores_pass(cores, 9000);
    then_receives_nothing(carol);
    dying = when_connects(cores, 2, 5, "dying", false, 100);
    then_connack(dying, true, 0);
    cores_pass(cores, 5000);
    then_receives_nothing(carol);
}

static void a_delayed_will_is_published_when_its_time_has_come(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol");
    struct device dying = given_client_with_will(cores, 1, "18 0000000a");

    when_subscribes(cores, carol, "will", 1);
    line_drop(dying.line);
    cores_pass(cores, 10100);
    then_message(carol, "will", "gone", 1, 0);
}

/* ---- nodes ---- */

static void when_a_node_dies_its_wills_are_published_and_its_sessions_go_on_elsewhere(void **state)
{
    struct cores *cores = *state;
    struct device carol = given_client(cores, 3, 4, "carol");
    struct device alice = given_client(cores, 1, 4, "alice");
    struct device dying = given_client_with_will(cores, 2, "");

    when_subscribes(cores, carol, "will", 1);
    when_subscribes(cores, dying, "a", 1);
    cores_cut(cores, 2, true);
    when_published(alice, "a", "meanwhile", 1);
    cores_silent(cores, 2, true);
    then_message(carol, "will", "gone", 1, 0);
    dying = when_connects(cores, 1, 5, "dying", false, 100);
    then_connack(dying, true, 0);
    then_message(dying, "a", "meanwhile", 1, DUPLICATE); /* nobody can know whether node 2 had sent it */
}

static void a_node_that_was_declared_down_closes_its_clients_and_begins_a_new_life(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_session(cores, 2, 5, "bob");

    cores_lag(cores, 2, true);
    cores_silent(cores, 2, true);
    cores_silent(cores, 2, false);
    then_open(bob);
    cores_lag(cores, 2, false);
    assert_true(line_closed(bob.line));
    bob = when_resumes(cores, 2, 5, "bob");
    then_open(bob);
}

static uint64_t queued(struct cores *cores)
{
    struct state_counts counts;

    state_counts(core_state(cores_core(cores, 1)), &counts);
    return counts.queued;
}

/* Acknowledgements are collected for a moment; a refusal is not, as the message must never be sent again. */
static void a_refusing_puback_is_committed_at_once(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_session(cores, 1, MQTT_LEVEL_5, "alice");
    struct device bob = given_client(cores, 2, MQTT_LEVEL_3_1_1, "bob");
    char refusal[20];
    uint16_t packet_id;

    when_subscribes(cores, alice, "a", 1);
    when_published(bob, "a", "one", 1);
    when_answers(alice, 0x40, then_message(alice, "a", "one", 1, 0));
    assert_int_equal(queued(cores), 1);
    when_published(bob, "a", "two", 2);
    packet_id = then_message(alice, "a", "two", 1, 0);
    snprintf(refusal, sizeof(refusal), "40 %04x 83 00", packet_id);
    when_sends(alice, refusal);
    assert_int_equal(queued(cores), 0);
    alice = when_resumes(cores, 3, MQTT_LEVEL_5, "alice");
    then_receives_nothing(alice);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_for_an_offline_session_wait_and_come_in_order, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(what_was_acknowledged_is_not_delivered_again, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(what_was_acknowledged_is_not_delivered_again_to_who_takes_over, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(unacknowledged_messages_come_again_with_dup_and_the_same_ids_in_order,
                                        world_of_three, world_free),
        cmocka_unit_test_setup_teardown(a_released_qos2_delivery_goes_on_with_pubrel_at_another_node, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(pubrec_again_after_pubrel_gets_pubrel_again, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(a_refusing_pubrec_ends_the_delivery, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(a_refusing_puback_is_committed_at_once, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(clean_start_forgets_subscriptions_and_queue, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(a_session_ends_when_its_expiry_has_passed, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(disconnect_may_shorten_the_expiry_but_not_raise_it_from_zero, world_of_one,
                                        world_free),
        cmocka_unit_test_setup_teardown(a_take_over_from_another_node_closes_the_old_connection, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(of_many_connects_at_once_with_one_client_id_one_survives, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(nothing_of_the_old_connection_counts_after_a_take_over, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(a_will_is_published_when_the_connection_breaks, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(no_will_after_disconnect_and_the_socket_closes_only_when_that_is_certain,
                                        world_of_three, world_free),
        cmocka_unit_test_setup_teardown(disconnect_with_will_publishes_it, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(a_delayed_will_waits_and_is_forgotten_if_the_session_resumes, world_of_three,
                                        world_free),
        cmocka_unit_test_setup_teardown(a_delayed_will_is_published_when_its_time_has_come, world_of_three, world_free),
        cmocka_unit_test_setup_teardown(when_a_node_dies_its_wills_are_published_and_its_sessions_go_on_elsewhere,
                                        world_of_three, world_free),
        cmocka_unit_test_setup_teardown(a_node_that_was_declared_down_closes_its_clients_and_begins_a_new_life,
                                        world_of_three, world_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
