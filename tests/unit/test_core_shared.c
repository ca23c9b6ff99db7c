/* test_core_shared.c — shared subscriptions as clients see them: members at several nodes, coming and going. */
#include "core_world.h"

static void qos1_messages_go_round_the_members_at_all_nodes(void **state)
{
    struct cores *cores = *state;
    struct device members[3], alice = given_client(cores, 1, 5, "alice");
    const char *names[] = {"m1", "m2", "m3"}, *payloads[] = {"1", "2", "3"};

    for (uint32_t i = 0; i < 3; i++) {
        members[i] = given_client(cores, i + 1, i == 1 ? 4 : 5, names[i]);
        when_subscribes(cores, members[i], "$share/g/t/+", 1);
    }
    for (uint16_t i = 0; i < 3; i++)
        when_published(alice, "t/x", payloads[i], (uint16_t)(i + 1));
    for (uint32_t i = 0; i < 3; i++) {
        when_answers(members[i], 0x40, then_message(members[i], "t/x", payloads[i], 1, 0));
        then_receives_nothing(members[i]);
    }
}

static void qos0_messages_go_round_the_members_at_all_nodes(void **state)
{
    struct cores *cores = *state;
    struct device members[3], alice = given_client(cores, 2, 5, "alice"), plain = given_client(cores, 3, 5, "plain");
    const char *names[] = {"m1", "m2", "m3"};

    for (uint32_t i = 0; i < 3; i++) {
        members[i] = given_client(cores, i + 1, 5, names[i]);
        when_subscribes(cores, members[i], "$share/g/t", (uint8_t)i);
    }
    when_subscribes(cores, plain, "t", 0);
    for (uint32_t i = 0; i < 6; i++) {
        when_publishes(alice, "t", "x", 0, 0);
        then_message(plain, "t", "x", 0, 0);
    }
    for (uint32_t i = 0; i < 3; i++) {
        then_message(members[i], "t", "x", 0, 0);
        then_message(members[i], "t", "x", 0, 0);
        then_receives_nothing(members[i]);
    }
}

static void qos0_goes_to_the_members_that_can_be_reached(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 5, "alice"), here = given_client(cores, 1, 5, "here"),
                  there = given_client(cores, 3, 5, "there");

    when_subscribes(cores, here, "$share/g/t", 0);
    when_subscribes(cores, there, "$share/g/t", 0);
    cores_cut(cores, 3, true);
    for (int i = 0; i < 4; i++) {
        when_publishes(alice, "t", "x", 0, 0);
        then_message(here, "t", "x", 0, 0);
    }
}

static void a_message_that_nobody_else_took_comes_again_to_its_member_at_another_node(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 5, "alice"), bob = given_session(cores, 2, 5, "bob");
    uint16_t id;

    when_subscribes(cores, bob, "$share/g/t", 1);
    when_published(alice, "t", "x", 1);
    id = then_message(bob, "t", "x", 1, 0);
    line_drop(bob.line);
    bob = when_resumes(cores, 3, 5, "bob");
    assert_int_equal(then_message(bob, "t", "x", 1, DUPLICATE), id);
    when_answers(bob, 0x40, id);
    cores_pass(cores, 25);
    line_drop(bob.line);
    bob = when_resumes(cores, 1, 5, "bob");
    then_receives_nothing(bob);
}

static void what_a_lost_member_did_not_acknowledge_comes_to_another(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 5, "alice"), bob = given_session(cores, 2, 5, "bob"), carol;

    when_subscribes(cores, bob, "$share/g/t", 2);
    when_published(alice, "t", "one", 1);
    when_publishes(alice, "t", "two", 2, 2);
    then_message(bob, "t", "one", 1, 0);
    then_message(bob, "t", "two", 2, 0);
    carol = given_session(cores, 3, 5, "carol");
    when_subscribes(cores, carol, "$share/g/t", 2);
    line_drop(bob.line);
    then_message(carol, "t", "one", 1, 0);
    then_receives_nothing(carol); /* QoS 2 was sent to bob: MQTT-4.8.2-4 */
    bob = when_resumes(cores, 1, 5, "bob");
    then_message(bob, "t", "two", 2, DUPLICATE);
    then_receives_nothing(bob);
}

static void unsubscribing_ends_the_membership_only(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 5, "alice"), bob = given_client(cores, 2, 5, "bob");

    when_subscribes(cores, bob, "t", 1);
    when_subscribes(cores, bob, "$share/g/t", 1);
    when_sends(bob, "a2 0002 00 '$share/g/t' '$share/h/t'");
    then_receives(bob, "b0 0002 00 00 11");
    when_published(alice, "t", "x", 1);
    then_message(bob, "t", "x", 1, 0);
    then_receives_nothing(bob);
}

static void no_local_on_a_shared_subscription_is_a_protocol_error(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    size_t at = 0;

    when_sends(bob, "82 0001 00 '$share/g/t' 05");
    first_packet(bob, &at);
    assert_int_equal(line_received(bob.line).data[0], 0xe0);
    assert_int_equal(line_received(bob.line).data[at], 0x82);
    assert_true(line_closed(bob.line));
}

#define ON_THREE_NODES(test) cmocka_unit_test_setup_teardown(test, world_of_three, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_THREE_NODES(qos1_messages_go_round_the_members_at_all_nodes),
        ON_THREE_NODES(qos0_messages_go_round_the_members_at_all_nodes),
        ON_THREE_NODES(qos0_goes_to_the_members_that_can_be_reached),
        ON_THREE_NODES(a_message_that_nobody_else_took_comes_again_to_its_member_at_another_node),
        ON_THREE_NODES(what_a_lost_member_did_not_acknowledge_comes_to_another),
        ON_THREE_NODES(unsubscribing_ends_the_membership_only),
        ON_THREE_NODES(no_local_on_a_shared_subscription_is_a_protocol_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
