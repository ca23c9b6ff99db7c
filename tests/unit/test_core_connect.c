/* test_core_connect.c — from the first byte to CONNACK, and the ends of connections that the protocol knows. */
#include "core_world.h"

/* ---- CONNACK ---- */

static void connack_of_5_0_tells_our_limits(void **state)
{
    struct device device = when_dials(*state, 1);

    when_sends(device, "10 'MQTT' 05 02 0000 () 'id'");
    then_receives(device, "20 00 00 (21 03e8 22 0020 27 00100400)");
    assert_int_equal(node_stats(*state, 1).clients, 1);
    assert_int_equal(node_stats(*state, 1).connects[CONNECT_ACCEPTED], 1);
}

static void connack_of_3_1_1_and_3_1_is_two_bytes(void **state)
{
    struct device device = when_dials(*state, 1), older = when_dials(*state, 1);

    when_sends(device, "10 'MQTT' 04 02 0000 'id'");
    then_receives(device, "20 00 00");
    when_sends(older, "10 'MQIsdp' 03 02 0000 'older'");
    then_receives(older, "20 00 00");
}

static void an_empty_client_id_is_replaced_by_one_of_its_own(void **state)
{
    struct device first = when_dials(*state, 1), second = when_dials(*state, 1), third = when_dials(*state, 1);
    uint8_t id[29];

    when_sends(first, "10 'MQTT' 05 00 0000 () ''");
    assert_int_equal(line_received(first.line).data[5], 0x12);
    memcpy(id, line_received(first.line).data + 8, sizeof(id));
    assert_memory_equal(id, "auto-", 5);
    then_connack(first, false, 0);
    when_sends(second, "10 'MQTT' 05 02 0000 () ''");
    assert_memory_not_equal(line_received(second.line).data + 8, id, sizeof(id));
    then_connack(second, false, 0);
    when_sends(third, "10 'MQTT' 04 02 0000 ''");
    then_connack(third, false, 0);
    then_open(first);
    then_open(second);
    then_open(third);
}

static void an_empty_client_id_of_3_1_1_with_a_session_is_refused(void **state)
{
    struct device device = when_dials(*state, 1);

    when_sends(device, "10 'MQTT' 04 00 0000 ''");
    then_receives(device, "20 00 02");
    then_closed(device);
    assert_int_equal(node_stats(*state, 1).connects[CONNECT_REFUSED_IDENTIFIER], 1);
}

static void other_versions_are_told_so(void **state)
{
    struct device device = when_dials(*state, 1);

    when_sends(device, "10 'MQTT' 06 02 0000 () 'id'");
    assert_true(line_closed(device.line));
    assert_int_equal(node_stats(*state, 1).connects[CONNECT_REFUSED_VERSION], 1);
}

static void enhanced_authentication_is_refused_and_leaves_no_session_and_no_will(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 1, 4, "bob");
    struct device device = when_dials(cores, 1);
    const char *packets[] = {"10 'MQTT' 05 0e 0000 (15 'SCRAM') 'id' () 'will' 'gone'", "31 'will' () <behind>"};

    when_subscribes(cores, bob, "#", 1);
    when_sends_at_once(device, packets, 2);
    then_receives(device, "20 00 8c ()");
    then_closed(device);
    then_receives_nothing(bob);
}

static void what_follows_connect_is_answered_after_connack_in_order(void **state)
{
    struct device device = when_dials(*state, 1);
    const char *packets[] = {"10 'MQTT' 04 02 0000 'id'", "82 0001 'a' 00", "30 'a' <x>", "c0"};

    device.level = 4;
    when_sends_at_once(device, packets, 4);
    then_receives(device, "20 00 00");
    then_receives(device, "d0");
    then_receives(device, "90 0001 00");
}

static void packets_may_be_cut_at_every_byte(void **state)
{
    struct device device = when_dials(*state, 1);
    struct buffer connect = packet("10 'MQTT' 04 02 0000 'id'"), ping = packet("c0");

    for (size_t i = 0; i < connect.size; i++) {
        then_receives_nothing(device);
        line_send(device.line, bytes_of(connect.data + i, 1));
    }
    then_receives(device, "20 00 00");
    for (size_t i = 0; i < ping.size; i++)
        line_send(device.line, bytes_of(ping.data + i, 1));
    then_receives(device, "d0");
    assert_int_equal(node_stats(*state, 1).input_bytes, 0);
    buffer_release(&connect);
    buffer_release(&ping);
}

/* ---- what is no CONNECT ---- */

static void another_first_packet_closes_without_a_word(void **state)
{
    const char *firsts[] = {"c0", "30 'a' <x>", "e0", "20 00 00"};

    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
        struct device device = when_dials(*state, 1);

        when_sends(device, firsts[i]);
        then_closed(device);
    }
}

static void a_huge_announced_first_packet_is_refused_by_its_header(void **state)
{
    struct device device = when_dials(*state, 1);
    static const uint8_t header[] = {0x10, 0xff, 0xff, 0xff, 0x7f};

    line_send(device.line, bytes_of(header, sizeof(header)));
    assert_true(line_closed(device.line));
}

static void a_connection_that_says_nothing_is_closed(void **state)
{
    struct device device = when_dials(*state, 1);

    cores_pass(*state, 9900);
    then_open(device);
    cores_pass(*state, 200);
    then_closed(device);
}

static void a_second_connect_is_a_protocol_error(void **state)
{
    struct device device = given_client(*state, 1, 5, "id"), old = given_client(*state, 1, 4, "old");

    when_sends(device, "10 'MQTT' 05 02 0000 () 'id'");
    then_receives(device, "e0 82 (1f 'second CONNECT')");
    then_closed(device);
    when_sends(old, "10 'MQTT' 04 02 0000 'old'");
    then_closed(old);
}

static void packets_that_only_a_server_sends_close_the_connection(void **state)
{
    const char *packets[] = {"20 00 00 00", "90 0001 00 00", "b0 0001 00 00", "d0"};

    for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
        struct device device = given_client(*state, 1, 5, "id");

        when_sends(device, packets[i]);
        assert_true(line_closed(device.line));
    }
}

static void malformed_packets_are_named_and_nothing_behind_them_is_looked_at(void **state)
{
    struct device bob = given_client(*state, 1, 4, "bob"), alice = given_client(*state, 1, 5, "alice");
    const char *packets[] = {"36 'a' 0001 00 <QoS 3>", "30 'a' 00 <behind>"};

    when_subscribes(*state, bob, "#", 0);
    when_sends_at_once(alice, packets, 2);
    then_receives(alice, "e0 81 (1f 'QoS 3')");
    then_closed(alice);
    then_receives_nothing(bob);
    assert_int_equal(node_stats(*state, 1).protocol_errors, 1);
}

static void a_property_that_is_not_as_it_should_be_is_named(void **state)
{
    struct device known = given_client(*state, 1, 5, "known"), device = when_dials(*state, 1);

    when_sends(known, "30 'a' (01 02)");
    then_receives(known, "e0 82 (1f 'value of a property is out of range: payload-format-indicator')");
    then_closed(known);
    when_sends(device, "10 'MQTT' 05 02 0000 (21 0001 21 0002) 'id'");
    then_receives(device, "20 00 82 (1f 'property is there twice: receive-maximum')");
    then_closed(device);
}

static void a_packet_beyond_our_maximum_is_refused_by_its_header(void **state)
{
    struct device device = given_client(*state, 1, 5, "id");
    static const uint8_t header[] = {0x30, 0xff, 0xff, 0xff, 0x7f};

    line_send(device.line, bytes_of(header, sizeof(header)));
    then_receives(device, "e0 95 (1f 'packet is larger than allowed')");
    then_closed(device);
}

static void auth_without_a_method_is_a_protocol_error(void **state)
{
    struct device device = given_client(*state, 1, 5, "id");

    when_sends(device, "f0 18 (15 'SCRAM')");
    then_receives(device, "e0 82 (1f 'CONNECT had no authentication method')");
    then_closed(device);
}

/* ---- keep alive ---- */

static void silence_of_one_and_a_half_keep_alives_ends_the_connection(void **state)
{
    struct cores *cores = *state;
    struct device device = when_dials(cores, 1);

    when_sends(device, "10 'MQTT' 05 02 0002 () 'id'");
    then_connack(device, false, 0);
    cores_pass(cores, 2900);
    then_open(device);
    when_sends(device, "c0");
    then_receives(device, "d0");
    cores_pass(cores, 2995);
    then_open(device);
    cores_pass(cores, 100);
    then_receives(device, "e0 8d");
    then_closed(device);
    assert_int_equal(node_stats(cores, 1).keep_alive_timeouts, 1);
}

static void bytes_of_an_unfinished_packet_are_no_sign_of_life(void **state)
{
    struct cores *cores = *state;
    struct device device = when_dials(cores, 1);
    static const uint8_t publish[] = {0x30, 0x7f, 0, 1, 'a'};

    when_sends(device, "10 'MQTT' 04 02 0001 'id'");
    then_connack(device, false, 0);
    for (size_t i = 0; i < sizeof(publish); i++) {
        line_send(device.line, bytes_of(publish + i, 1));
        cores_pass(cores, 350);
    }
    then_closed(device);
}

static void a_server_limit_on_keep_alive_is_told_and_enforced(void **state)
{
    struct core_limits limits = {.keep_alive_max_s = 10};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device device = when_dials(cores, 1), old = when_dials(cores, 1);

    (void)state;
    when_sends(device, "10 'MQTT' 05 02 0000 () 'id'");
    then_receives(device, "20 00 00 (13 000a 21 03e8 22 0020 27 00100400)");
    when_sends(old, "10 'MQTT' 04 02 0000 'old'");
    then_connack(old, false, 0);
    cores_pass(cores, 15100);
    then_receives(device, "e0 8d");
    then_closed(device);
    then_open(old); /* 3.1.1 cannot be told */
    cores_free(cores);
}

/* ---- limits ---- */

static void connections_beyond_the_limit_are_closed(void **state)
{
    struct core_limits limits = {.clients_max = 2};
    struct cores *cores = cores_new(1, &limits, NULL);
    struct device first = given_client(cores, 1, 4, "1"), second = given_client(cores, 1, 4, "2"), third;

    (void)state;
    third = when_dials(cores, 1);
    cores_settle(cores);
    then_closed(third);
    line_drop(first.line);
    first = given_client(cores, 1, 4, "3");
    then_open(second);
    cores_free(cores);
}

static void a_session_too_many_is_refused_with_quota(void **state)
{
    struct command_settings settings = {.queue_messages_max = 10,
                                        .queue_bytes_max = 1000,
                                        .subscriptions_max = 10,
                                        .sessions_max = 1,
                                        .in_flight_max = 10,
                                        .store_bytes_max = 1 << 20,
                                        .session_expiry_max_s = 100};
    struct cores *cores = cores_new(1, NULL, &settings);
    struct device first = when_dials(cores, 1), second, third;

    (void)state;
    when_sends(first, "10 'MQTT' 05 02 0000 (11 000003e8) '1'");
    then_receives(first, "20 00 00 (11 00000064 21 03e8 22 0020 27 00100400)"); /* and the expiry is cut */
    second = when_connects(cores, 1, 5, "2", true, 0);
    then_connack(second, false, 0x97);
    then_closed(second);
    third = when_connects(cores, 1, 4, "3", true, 0);
    assert_true(line_closed(third.line));
    cores_free(cores);
}

static void stopping_says_so_and_publishes_wills(void **state)
{
    struct cores *cores = *state;
    struct device bob = given_client(cores, 1, 5, "bob");

    core_stop(cores_core(cores, 1), cores_now_ms(cores));
    cores_settle(cores);
    then_receives(bob, "e0 8b");
    then_closed(bob);
    assert_true(core_idle(cores_core(cores, 1)));
    bob = when_dials(cores, 1);
    cores_settle(cores);
    then_closed(bob);
}

#define ON_ONE_NODE(test) cmocka_unit_test_setup_teardown(test, world_of_one, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ONE_NODE(connack_of_5_0_tells_our_limits),
        ON_ONE_NODE(connack_of_3_1_1_and_3_1_is_two_bytes),
        ON_ONE_NODE(an_empty_client_id_is_replaced_by_one_of_its_own),
        ON_ONE_NODE(an_empty_client_id_of_3_1_1_with_a_session_is_refused),
        ON_ONE_NODE(other_versions_are_told_so),
        ON_ONE_NODE(enhanced_authentication_is_refused_and_leaves_no_session_and_no_will),
        ON_ONE_NODE(what_follows_connect_is_answered_after_connack_in_order),
        ON_ONE_NODE(packets_may_be_cut_at_every_byte),
        ON_ONE_NODE(another_first_packet_closes_without_a_word),
        ON_ONE_NODE(a_huge_announced_first_packet_is_refused_by_its_header),
        ON_ONE_NODE(a_connection_that_says_nothing_is_closed),
        ON_ONE_NODE(a_second_connect_is_a_protocol_error),
        ON_ONE_NODE(packets_that_only_a_server_sends_close_the_connection),
        ON_ONE_NODE(malformed_packets_are_named_and_nothing_behind_them_is_looked_at),
        ON_ONE_NODE(a_property_that_is_not_as_it_should_be_is_named),
        ON_ONE_NODE(a_packet_beyond_our_maximum_is_refused_by_its_header),
        ON_ONE_NODE(auth_without_a_method_is_a_protocol_error),
        ON_ONE_NODE(silence_of_one_and_a_half_keep_alives_ends_the_connection),
        ON_ONE_NODE(bytes_of_an_unfinished_packet_are_no_sign_of_life),
        cmocka_unit_test(a_server_limit_on_keep_alive_is_told_and_enforced),
        cmocka_unit_test(connections_beyond_the_limit_are_closed),
        cmocka_unit_test(a_session_too_many_is_refused_with_quota),
        ON_ONE_NODE(stopping_says_so_and_publishes_wills),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
