/* test_core_limits.c — each limit that a packet or a connection meets: at its edge, beyond it, counted and told. */
#include "core_world.h"

#include "node/client/doorstep.h"
#include "node/client/rates.h"

static struct core_capabilities offered;
static struct cores *cores;

static int defaults(void **state)
{
    (void)state;
    offered = CORE_CAPABILITIES_DEFAULT;
    return 0;
}

static void given_node(void)
{
    struct core_options options = {.capabilities = &offered};

    cores = cores_new_with(1, &options);
}

static int free_node(void **state)
{
    (void)state;
    if (cores != NULL)
        cores_free(cores);
    cores = NULL;
    return 0;
}

static uint64_t times(enum core_limit limit)
{
    struct core_stats stats;

    core_stats(cores_core(cores, 1), &stats);
    return stats.limits[limit];
}

static void a_packet_may_have_so_many_user_properties(void **state)
{
    struct device device, refused;

    (void)state;
    offered.user_properties_max = 2;
    given_node();
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 05 02 0000 (26 'a' 'b' 26 'a' 'b') 'id'");
    then_connack(device, false, 0);
    when_sends(device, "32 't' 0001 (26 'a' 'b' 26 'a' 'b') <x>");
    then_receives(device, "40 0001 10");
    when_sends(device, "32 't' 0001 (26 'a' 'b' 26 'a' 'b' 26 'c' 'd') <x>");
    then_disconnected(device, 0x97);
    refused = when_dials(cores, 1);
    when_sends(refused, "10 'MQTT' 05 06 0000 (26 'a' 'b') 'id' (26 'a' 'b' 26 'a' 'b') 'will' 'gone'");
    then_connack(refused, false, 0x97);
    then_closed(refused);
    assert_int_equal(times(LIMIT_USER_PROPERTIES), 2);
}

static void a_topic_may_have_so_many_levels(void **state)
{
    struct device device;

    (void)state;
    offered.topic_levels_max = 3;
    given_node();
    device = given_client(cores, 1, 5, "id");
    when_sends(device, "82 0001 () 'a/b/#' 00 'a/b/c/#' 00");
    then_receives(device, "90 0001 () 00 8f");
    when_sends(device, "32 'x/b/c' 0001 () <x>");
    then_receives(device, "40 0001 10");
    when_sends(device, "32 'x/b/c/d' 0001 () <x>");
    then_disconnected(device, 0x90);
    assert_int_equal(times(LIMIT_TOPIC_LEVELS), 2);
}

static void a_request_may_have_so_many_filters(void **state)
{
    struct device device, old;

    (void)state;
    offered.filters_max = 2;
    given_node();
    device = given_client(cores, 1, 5, "id");
    old = given_client(cores, 1, 4, "old");
    when_sends(device, "82 0001 () 'a' 00 'b' 00");
    then_receives(device, "90 0001 () 00 00");
    when_sends(device, "82 0001 () 'a' 00 'b' 00 'c' 00");
    then_receives(device, "90 0001 () 97 97 97");
    when_sends(old, "82 0001 'a' 00 'b' 00 'c' 00");
    then_receives(old, "90 0001 80 80 80");
    when_sends(device, "a2 0001 () 'a' 'b' 'c'");
    then_disconnected(device, 0x97);
    assert_int_equal(times(LIMIT_FILTERS), 3);
}

static void so_many_clients_may_connect_in_a_second(void **state)
{
    struct device device, old;

    (void)state;
    offered.connect_rate_max = 2;
    given_node();
    given_client(cores, 1, 5, "a");
    given_client(cores, 1, 5, "b");
    device = when_connects(cores, 1, 5, "c", true, 0);
    then_connack(device, false, 0x9f);
    then_closed(device);
    old = when_connects(cores, 1, 4, "d", true, 0);
    then_connack(old, false, 3); /* server unavailable is the nearest that 3.1.1 has */
    then_closed(old);
    cores_pass(cores, 500);
    given_client(cores, 1, 5, "c");
    device = when_connects(cores, 1, 5, "d", true, 0);
    then_connack(device, false, 0x9f);
    assert_int_equal(times(LIMIT_CONNECT_RATE), 3);
}

static void addresses_have_rates_of_their_own(void **state)
{
    struct rates *rates = rates_new(3, 1, 4711, 1000);
    struct bytes here = bytes_text("192.0.2.1"), there = bytes_text("192.0.2.2"), unknown = bytes_text("");

    (void)state;
    assert_true(rates_take(rates, here, 1000));
    assert_false(rates_take(rates, here, 1000));
    assert_true(rates_take(rates, there, 1000));
    assert_false(rates_take(rates, here, 1999));
    assert_true(rates_take(rates, here, 2000));
    assert_true(rates_take(rates, unknown, 2000));
    assert_true(rates_take(rates, unknown, 2000));
    assert_false(rates_take(rates, unknown, 2000)); /* of all */
    rates_free(rates);
    assert_null(rates_new(0, 0, 1, 1000));
    assert_true(rates_take(NULL, here, 1000));
}

static void any_number_of_addresses_fits_into_a_fixed_table(void **state)
{
    struct rates *rates = rates_new(0, 1, 4711, 1000);
    char text[32];

    (void)state;
    for (int i = 0; i < 100000; i++) {
        snprintf(text, sizeof(text), "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        assert_true(rates_take(rates, bytes_text(text), 1000 + (uint64_t)i));
    }
    assert_false(rates_take(rates, bytes_text(text), 1000 + 99999));
    rates_free(rates);
}

static void limits_are_told_once_a_minute(void **state)
{
    struct device device;

    (void)state;
    offered.filters_max = 1;
    given_node();
    device = given_client(cores, 1, 5, "id");
    for (int i = 0; i < 3; i++) {
        when_sends(device, "82 0001 () 'a' 00 'b' 00");
        then_receives(device, "90 0001 () 97 97");
        assert_string_equal(cores_warning(cores, 1), "limit reached: filters, 1 times since it was last told");
    }
    cores_pass(cores, 60000);
    assert_string_equal(cores_warning(cores, 1), "limit reached: filters, 2 times since it was last told");
}

static void limits_that_exist_elsewhere_are_counted_too(void **state)
{
    struct device device;
    static const uint8_t header[] = {0x30, 0xff, 0xff, 0xff, 0x7f};

    (void)state;
    given_node();
    device = given_client(cores, 1, 5, "id");
    line_send(device.line, bytes_of(header, sizeof(header)));
    then_disconnected(device, 0x95);
    assert_int_equal(times(LIMIT_PACKET_BYTES), 1);
    for (int i = 0; i < LIMIT_COUNT; i++)
        assert_non_null(core_limit_name((enum core_limit)i));
}

static void given_node_with(struct core_limits limits)
{
    struct core_options options = {.capabilities = &offered, .limits = limits};

    cores = cores_new_with(1, &options);
}

static void so_many_connections_may_wait_to_be_let_in(void **state)
{
    struct device devices[4];

    (void)state;
    given_node_with((struct core_limits){.pending_max = 3});
    for (int i = 0; i < 4; i++)
        devices[i] = when_dials(cores, 1);
    cores_settle(cores);
    for (int i = 0; i < 3; i++)
        then_open(devices[i]);
    then_closed(devices[3]);
    assert_int_equal(times(LIMIT_PENDING), 1);
    when_sends(devices[0], "10 'MQTT' 04 02 0000 'id'"); /* one is let in, one gives up: there is room for two */
    then_connack(devices[0], false, 0);
    line_drop(devices[1].line);
    for (int i = 0; i < 3; i++)
        devices[i] = when_dials(cores, 1);
    cores_settle(cores);
    then_open(devices[0]);
    then_open(devices[1]);
    then_closed(devices[2]);
    assert_int_equal(times(LIMIT_PENDING), 2);
}

/* The clients of one address do not take the places of others. */
static void each_address_has_so_many_places(void **state)
{
    struct doorstep *doorstep = doorstep_new(4, 2);
    struct doorstep_place *places[4];

    (void)state;
    places[0] = doorstep_enter(doorstep, bytes_text("10.0.0.1"));
    places[1] = doorstep_enter(doorstep, bytes_text("10.0.0.1"));
    assert_null(doorstep_enter(doorstep, bytes_text("10.0.0.1")));
    places[2] = doorstep_enter(doorstep, bytes_text("10.0.0.2"));
    doorstep_leave(doorstep, places[0]);
    places[0] = doorstep_enter(doorstep, bytes_text("10.0.0.1"));
    assert_ptr_equal(places[0], places[1]);
    places[3] = doorstep_enter(doorstep, bytes_text("10.0.0.2"));
    assert_null(doorstep_enter(doorstep, bytes_text("10.0.0.3")));
    for (int i = 0; i < 4; i++)
        doorstep_leave(doorstep, places[i]);
    doorstep_free(doorstep);
}

/* Without keep-alive, a byte now and then is not enough: 10 s, and a second for each 100 bytes. */
static void a_packet_that_has_begun_has_to_go_on(void **state)
{
    struct device slow, steady;
    uint8_t bytes[100] = {0};

    (void)state;
    given_node_with((struct core_limits){.connect_timeout_ms = 10000, .packet_rate_min = 100});
    slow = given_client(cores, 1, MQTT_LEVEL_5, "slow");
    steady = given_client(cores, 1, MQTT_LEVEL_5, "steady");
    line_send(slow.line, bytes_of((const uint8_t *)"\x30\xd0\x0f", 3)); /* a PUBLISH of 2,000 bytes */
    line_send(steady.line, bytes_of((const uint8_t *)"\x30\xd0\x0f", 3));
    for (int i = 0; i < 10; i++) {
        cores_pass(cores, 900);
        line_send(slow.line, bytes_of(bytes, 1));
        line_send(steady.line, bytes_of(bytes, sizeof(bytes)));
    }
    then_open(slow);
    cores_pass(cores, 1200);
    then_disconnected(slow, 0x8d);
    cores_pass(cores, 9000);
    then_open(steady); /* 19.2 s; it has time for 20.03 */
    cores_pass(cores, 1000);
    then_disconnected(steady, 0x8d);
}

#define WITH_A_NODE(test) cmocka_unit_test_setup_teardown(test, defaults, free_node)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_A_NODE(a_packet_may_have_so_many_user_properties),
        WITH_A_NODE(a_topic_may_have_so_many_levels),
        WITH_A_NODE(a_request_may_have_so_many_filters),
        WITH_A_NODE(so_many_clients_may_connect_in_a_second),
        cmocka_unit_test(addresses_have_rates_of_their_own),
        cmocka_unit_test(any_number_of_addresses_fits_into_a_fixed_table),
        WITH_A_NODE(so_many_connections_may_wait_to_be_let_in),
        cmocka_unit_test(each_address_has_so_many_places),
        WITH_A_NODE(a_packet_that_has_begun_has_to_go_on),
        WITH_A_NODE(limits_are_told_once_a_minute),
        WITH_A_NODE(limits_that_exist_elsewhere_are_counted_too),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
