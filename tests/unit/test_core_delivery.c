/* test_core_delivery.c — subscriptions, and what a subscriber gets: windows, slow readers, sizes, expiry, retained. */
#include "core_world.h"

/* CONNECT of 5.0 with these properties. */
static struct device given_client_with(struct cores *cores, uint32_t node, const char *client_id,
                                       const char *properties)
{
    struct device device = when_dials(cores, node);
    char notation[200];

    snprintf(notation, sizeof(notation), "10 'MQTT' 05 02 0000 (%s) '%s'", properties, client_id);
    when_sends(device, notation);
    then_connack(device, false, 0);
    return device;
}

/* ---- SUBSCRIBE and UNSUBSCRIBE ---- */

static void suback_has_a_code_per_filter_in_order(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), old = given_client(*state, 1, 4, "old");

    when_sends(bob, "82 0001 00 'a' 01 'a#' 00 '$share/g/t' 01 '$share//t' 01 'b' 02");
    then_receives(bob, "90 0001 00 01 8f 01 8f 02");
    when_sends(bob, "82 0002 00 'a+' 01");
    then_receives(bob, "90 0002 00 8f");
    when_sends(old, "82 0003 'a' 01 '#/a' 00 'b' 02");
    then_receives(old, "90 0003 01 80 02");
}

static void unsuback_says_what_there_was(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), old = given_client(*state, 1, 4, "old");

    when_subscribes(*state, bob, "a", 1);
    when_sends(bob, "a2 0002 00 'a' 'a' 'b#' '$share/g/t'");
    then_receives(bob, "b0 0002 00 00 11 8f 11");
    when_sends(old, "a2 0003 'nothing'");
    then_receives(old, "b0 0003");
}

static void after_unsuback_nothing_new_comes(void **state)
{
    struct device bob = given_client(*state, 1, 4, "bob"), alice = given_client(*state, 1, 4, "alice");

    when_subscribes(*state, bob, "a", 1);
    when_sends(bob, "a2 0002 'a'");
    then_receives(bob, "b0 0002");
    when_published(alice, "a", "x", 1);
    when_publishes(alice, "a", "x", 0, 0);
    then_receives_nothing(bob);
}

static void suback_waits_for_the_other_nodes_but_not_for_long(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 1, 4, "bob");

    cores_lag(cores, 3, true);
    when_sends(bob, "82 0001 'a' 00");
    then_receives_nothing(bob);
    cores_lag(cores, 3, false);
    then_receives(bob, "90 0001 00");
    cores_lag(cores, 3, true);
    when_sends(bob, "82 0002 'b' 00");
    cores_pass(cores, 15);
    then_receives_nothing(bob);
    cores_pass(cores, 10);
    then_receives(bob, "90 0002 00");
}

static void a_qos0_publish_after_suback_is_seen_whatever_node_it_enters(void **state)
{
    struct cores *cores = *state;

    for (uint32_t node = 1; node <= 3; node++) {
        char id[8];
        struct device bob, alice;

        snprintf(id, sizeof(id), "bob%u", (unsigned)node);
        bob = given_client(cores, 1, 4, id);
        alice = given_client(cores, node, 4, "alice");
        when_subscribes(cores, bob, id, 0);
        when_publishes(alice, id, "x", 0, 0);
        then_message(bob, id, "x", 0, 0);
    }
}

static void subscription_ids_go_with_the_messages(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), alice = given_client(*state, 1, 4, "alice");

    when_sends(bob, "82 0001 (0b 07) 'a' 00");
    then_receives(bob, "90 0001 00 00");
    when_publishes(alice, "a", "x", 0, 0);
    then_receives(bob, "30 'a' (0b 07) <x>");
}

static void no_local_and_retain_as_published_are_respected(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), alice = given_client(*state, 1, 4, "alice");

    when_sends(bob, "82 0001 00 'a' 0d");
    then_receives(bob, "90 0001 00 01");
    when_publishes(bob, "a", "mine", 0, 0);
    when_publishes(bob, "a", "mine", 1, 1);
    then_receives(bob, "40 0001 10");
    then_receives_nothing(bob);
    when_sends(alice, "33 'a' 0001 <kept>");
    then_message(bob, "a", "kept", 1, RETAINED);
}

/* ---- windows ---- */

static void no_more_than_receive_maximum_is_unanswered_and_qos0_passes_by(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client_with(cores, 1, "bob", "21 0002"), alice = given_client(cores, 2, 4, "alice");
    uint16_t first, second;

    when_subscribes(cores, bob, "a", 2);
    when_published(alice, "a", "1", 1);
    when_publishes(alice, "a", "2", 2, 2);
    then_answered(alice, 0x50, 2);
    when_published(alice, "a", "3", 3);
    when_publishes(alice, "a", "4", 2, 4);
    then_answered(alice, 0x50, 4);
    when_publishes(alice, "a", "0", 0, 0);
    first = then_message(bob, "a", "1", 1, 0);
    second = then_message(bob, "a", "2", 2, 0);
    then_message(bob, "a", "0", 0, 0);
    then_receives_nothing(bob);
    when_answers(bob, 0x40, first);
    then_message(bob, "a", "3", 1, 0);
    then_receives_nothing(bob);
    when_answers(bob, 0x50, second); /* keeps its place until PUBCOMP */
    then_answered(bob, 0x62, second);
    then_receives_nothing(bob);
    when_answers(bob, 0x70, second);
    then_message(bob, "a", "4", 2, 0);
}

static void all_messages_pass_a_window_of_one_in_order(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client_with(cores, 3, "bob", "21 0001"), alice = given_client(cores, 1, 4, "alice");

    when_subscribes(cores, bob, "a", 2);
    for (uint16_t i = 1; i <= 60; i++) {
        char payload[8];

        snprintf(payload, sizeof(payload), "%u", i);
        when_publishes(alice, "a", payload, i % 2 == 0 ? 2 : 1, i);
        then_answered(alice, i % 2 == 0 ? 0x50 : 0x40, i);
    }
    for (uint16_t i = 1; i <= 60; i++) {
        char payload[8];
        uint16_t id;

        snprintf(payload, sizeof(payload), "%u", i);
        id = then_message(bob, "a", payload, i % 2 == 0 ? 2 : 1, 0);
        then_receives_nothing(bob);
        if (i % 2 == 0) {
            when_answers(bob, 0x50, id);
            then_answered(bob, 0x62, id);
        }
        when_answers(bob, i % 2 == 0 ? 0x70 : 0x40, id);
        cores_pass(cores, 25);
    }
    then_receives_nothing(bob);
}

static void a_subscriber_that_does_not_answer_gets_all_once_it_does(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 2, 4, "bob"), alice = given_client(cores, 1, 4, "alice");
    uint16_t ids[1500];

    when_subscribes(cores, bob, "a", 1);
    for (uint16_t i = 0; i < 1500; i++)
        when_published(alice, "a", "x", (uint16_t)(i + 1));
    for (uint16_t i = 0; i < 100; i++)
        ids[i] = then_message(bob, "a", "x", 1, 0);
    then_receives_nothing(bob);
    for (uint16_t i = 0; i < 1500; i++) {
        when_answers(bob, 0x40, ids[i]);
        if (i + 100 < 1500)
            ids[i + 100] = then_message(bob, "a", "x", 1, 0);
    }
    then_receives_nothing(bob);
    cores_pass(cores, 50);
    assert_int_equal(node_stats(cores, 2).messages_out[1], 1500);
}

static void only_admitted_qos2_messages_are_sent_and_what_is_behind_them_waits(void **state)
{
    struct command_settings settings = {.queue_messages_max = 100,
                                        .queue_bytes_max = 10000,
                                        .subscriptions_max = 10,
                                        .sessions_max = 10,
                                        .in_flight_max = 1,
                                        .store_bytes_max = 1 << 20};
    struct cores *cores = cores_new(2, NULL, &settings);
    struct device bob = given_client(cores, 2, 4, "bob"), alice = given_client(cores, 1, 4, "alice");

    (void)state;
    when_subscribes(cores, bob, "a", 2);
    for (uint16_t i = 1; i <= 3; i++) {
        when_publishes(alice, "a", "qos2", 2, i);
        then_answered(alice, 0x50, i);
        when_published(alice, "a", "qos1", 10);
    }
    for (uint16_t i = 1; i <= 3; i++) {
        uint16_t id = then_message(bob, "a", "qos2", 2, 0);

        when_answers(bob, 0x40, then_message(bob, "a", "qos1", 1, 0));
        then_receives_nothing(bob);
        when_answers(bob, 0x50, id);
        then_answered(bob, 0x62, id);
        then_receives_nothing(bob);
        when_answers(bob, 0x70, id);
    }
    then_receives_nothing(bob);
    cores_free(cores);
}

static void unknown_and_wrong_answers_are_ignored(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 1, 4, "bob"), alice = given_client(cores, 1, 4, "alice");
    struct device five = given_client(cores, 1, 5, "five");
    uint16_t id;

    when_subscribes(cores, bob, "a", 2);
    when_publishes(alice, "a", "x", 2, 1);
    id = then_message(bob, "a", "x", 2, 0);
    when_answers(bob, 0x40, id);
    when_answers(bob, 0x70, id);
    when_answers(bob, 0x40, 999);
    when_answers(bob, 0x50, 999);
    then_receives_nothing(bob);
    when_answers(bob, 0x50, id);
    then_answered(bob, 0x62, id);
    when_answers(five, 0x50, 999);
    then_receives(five, "62 03e7 92");
}

static void a_broadcast_shares_the_message_and_is_acknowledged_by_each(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice"), devices[40];
    struct state_counts counts;
    char id[8];

    for (uint32_t i = 0; i < 40; i++) {
        snprintf(id, sizeof(id), "d%u", (unsigned)i);
        devices[i] = given_session(cores, 1 + i % 3, 4 + i % 2, id);
        when_subscribes(cores, devices[i], "all", 1);
    }
    for (uint16_t n = 1; n <= 10; n++)
        when_published(alice, "all", "x", n);
    for (uint32_t i = 0; i < 40; i++) {
        uint16_t ids[10];

        for (uint32_t n = 0; n < 10; n++)
            ids[n] = then_message(devices[i], "all", "x", 1, 0);
        for (uint32_t n = 10; n > 0; n--) {
            if (i != 7 || n != 3) /* one message of one device stays open */
                when_answers(devices[i], 0x40, ids[n - 1]);
        }
    }
    cores_pass(cores, 50);
    state_counts(core_state(cores_core(cores, 2)), &counts);
    assert_int_equal(counts.messages, 1);
    line_drop(devices[7].line);
    snprintf(id, sizeof(id), "d7");
    devices[7] = when_resumes(cores, 3, 4, id);
    then_message(devices[7], "all", "x", 1, DUPLICATE);
    then_receives_nothing(devices[7]);
}

/* ---- slow readers ---- */

static void a_reader_that_stands_still_loses_qos0_and_keeps_the_rest(void **state)
{
    struct core_limits limits = {.output_bytes_max = 20000};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device bob = given_client(cores, 1, 4, "bob"), alice = given_client(cores, 1, 4, "alice");
    char payload[301];
    uint32_t got = 0;

    (void)state;
    memset(payload, 'x', 300);
    payload[300] = 0;
    when_subscribes(cores, bob, "a", 1);
    line_stop(bob.line, true);
    for (uint16_t i = 1; i <= 200; i++) {
        when_publishes(alice, "a", payload, 0, 0);
        if (i <= 50)
            when_published(alice, "a", payload, i);
    }
    assert_true(node_stats(cores, 1).drops[DROP_SLOW_CONSUMER] > 100);
    assert_true(node_stats(cores, 1).output_bytes < 21000);
    line_stop(bob.line, false);
    while (line_received(bob.line).size > 0) {
        uint8_t qos = line_received(bob.line).data[0] >> 1 & 3;
        uint16_t id = then_message(bob, "a", payload, qos, 0);

        if (qos == 1) {
            got++;
            when_answers(bob, 0x40, id);
        }
    }
    assert_int_equal(got, 50);
    assert_int_equal(node_stats(cores, 1).output_bytes, 0);
    cores_free(cores);
}

/* ---- sizes and expiry ---- */

static void a_message_beyond_the_clients_maximum_is_skipped_and_done(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client_with(cores, 1, "bob", "27 00000014"), alice = given_client(cores, 1, 4, "alice");
    struct state_counts counts;

    when_subscribes(cores, bob, "a", 1);
    when_published(alice, "a", "123456789012", 1);       /* 20 bytes with header: fits */
    when_published(alice, "a", "1234567890123", 2);      /* 21: does not */
    when_publishes(alice, "a", "123456789012345", 0, 0); /* 21 */
    when_published(alice, "a", "small", 3);
    when_answers(bob, 0x40, then_message(bob, "a", "123456789012", 1, 0));
    when_answers(bob, 0x40, then_message(bob, "a", "small", 1, 0));
    then_receives_nothing(bob);
    cores_pass(cores, 50);
    state_counts(core_state(cores_core(cores, 1)), &counts);
    assert_int_equal(counts.messages, 0);
    assert_int_equal(node_stats(cores, 1).drops[DROP_TOO_LARGE], 2);
}

static void expiry_counts_down_while_a_message_waits_and_then_drops_it(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_session(cores, 1, 5, "bob"), alice = given_client(cores, 1, 5, "alice");

    when_subscribes(cores, bob, "a", 1);
    when_sends(alice, "32 'a' 0001 (02 0000000a) <live>");
    then_receives(alice, "40 0001");
    then_receives(bob, "32 'a' 0002 (02 0000000a) <live>");
    when_answers(bob, 0x40, 2);
    cores_pass(cores, 30);
    line_drop(bob.line);
    when_sends(alice, "32 'a' 0002 (02 00000005) <short>");
    when_sends(alice, "32 'a' 0003 (02 00000064) <long>");
    cores_pass(cores, 30000);
    bob = when_resumes(cores, 2, 5, "bob");
    then_receives(bob, "32 'a' 0004 (02 00000046) <long>");
    then_receives_nothing(bob);
    assert_int_equal(node_stats(cores, 2).drops[DROP_EXPIRED], 1);
}

/* ---- retained ---- */

static void retained_messages_come_with_the_subscription_and_then_live(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice"), bob = given_client(cores, 2, 4, "bob");

    when_sends(alice, "33 'r/1' 0001 <one>");
    then_receives(alice, "40 0001");
    when_sends(alice, "33 'r/2' 0002 <two>");
    then_receives(alice, "40 0002");
    when_sends(bob, "82 0001 'r/+' 01");
    then_receives(bob, "90 0001 01");
    then_message(bob, "r/1", "one", 1, RETAINED);
    then_message(bob, "r/2", "two", 1, RETAINED);
    when_sends(alice, "33 'r/1' 0003 <new>");
    then_message(bob, "r/1", "new", 1, 0);
}

static void a_large_retained_set_comes_at_the_readers_pace_and_complete(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, 4, "alice"), bob = given_client(cores, 2, 4, "bob");
    bool seen[1000] = {false};
    uint32_t count = 0;

    for (uint32_t i = 0; i < 1000; i++) {
        char notation[60];

        snprintf(notation, sizeof(notation), "%02x 'r/%u' %s <v>", i % 2 == 0 ? 0x33 : 0x31, (unsigned)i,
                 i % 2 == 0 ? "0001" : "");
        when_sends(alice, notation);
    }
    when_sends(bob, "82 0001 'r/#' 01");
    for (uint32_t idle = 0; idle < 3; idle++) {
        while (line_received(bob.line).size > 0) {
            const uint8_t *in = line_received(bob.line).data;
            size_t size = (size_t)in[1] + 2;

            if (in[0] == 0x90) {
                line_take(bob.line, size);
                continue;
            }
            assert_true(in[0] == 0x33 || in[0] == 0x31);
            size_t topic_size = in[3];
            char topic[16] = "";
            memcpy(topic, in + 4, topic_size);
            uint32_t number = (uint32_t)atoi(topic + 2);
            uint16_t id = (uint16_t)(in[4 + topic_size] << 8 | in[5 + topic_size]);
            uint8_t first = in[0];

            assert_false(seen[number]);
            seen[number] = true;
            count++;
            idle = 0;
            line_take(bob.line, size);
            if (first == 0x33)
                when_answers(bob, 0x40, id);
        }
        cores_pass(cores, 25);
    }
    assert_int_equal(count, 1000);
}

#define ON_ONE_NODE(test)    cmocka_unit_test_setup_teardown(test, world_of_one, world_free)
#define ON_THREE_NODES(test) cmocka_unit_test_setup_teardown(test, world_of_three, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ONE_NODE(suback_has_a_code_per_filter_in_order),
        ON_ONE_NODE(unsuback_says_what_there_was),
        ON_ONE_NODE(after_unsuback_nothing_new_comes),
        ON_THREE_NODES(suback_waits_for_the_other_nodes_but_not_for_long),
        ON_THREE_NODES(a_qos0_publish_after_suback_is_seen_whatever_node_it_enters),
        ON_ONE_NODE(subscription_ids_go_with_the_messages),
        ON_ONE_NODE(no_local_and_retain_as_published_are_respected),
        ON_THREE_NODES(no_more_than_receive_maximum_is_unanswered_and_qos0_passes_by),
        ON_THREE_NODES(all_messages_pass_a_window_of_one_in_order),
        ON_THREE_NODES(a_subscriber_that_does_not_answer_gets_all_once_it_does),
        cmocka_unit_test(only_admitted_qos2_messages_are_sent_and_what_is_behind_them_waits),
        ON_ONE_NODE(unknown_and_wrong_answers_are_ignored),
        ON_THREE_NODES(a_broadcast_shares_the_message_and_is_acknowledged_by_each),
        cmocka_unit_test(a_reader_that_stands_still_loses_qos0_and_keeps_the_rest),
        ON_ONE_NODE(a_message_beyond_the_clients_maximum_is_skipped_and_done),
        ON_THREE_NODES(expiry_counts_down_while_a_message_waits_and_then_drops_it),
        ON_THREE_NODES(retained_messages_come_with_the_subscription_and_then_live),
        ON_THREE_NODES(a_large_retained_set_comes_at_the_readers_pace_and_complete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
