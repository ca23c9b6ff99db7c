/* test_core_sys.c — $SYS: told at an interval, answered at SUBSCRIBE, and not for clients to write. */
#include "core_world.h"

static unsigned count_packets(struct device device)
{
    unsigned count = 0;
    size_t at;

    for (; line_received(device.line).size > 0; count++)
        line_take(device.line, first_packet(device, &at));
    return count;
}

static void when_asks(struct device device, const char *filter, const char *options)
{
    char notation[200];

    snprintf(notation, sizeof(notation), device.level == 5 ? "82 0001 () '%s' %s" : "82 0001 '%s' %s", filter, options);
    when_sends(device, notation);
}

static void a_value_is_answered_as_if_it_were_retained(void **state)
{
    struct device bob = given_client(*state, 2, 5, "bob");

    when_asks(bob, "$SYS/broker/version", "02");
    then_receives(bob, "90 0001 () 02");
    then_message(bob, "$SYS/broker/version", "coterie version " COTERIE_VERSION, 0, RETAINED);
    when_asks(bob, "$SYS/cluster/node", "00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "$SYS/cluster/node", "2", 0, RETAINED); /* of the node he is connected to */
    when_asks(bob, "$SYS/cluster/leader", "00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "$SYS/cluster/leader", "1", 0, RETAINED);
    then_receives_nothing(bob);
}

static void all_values_come_to_who_wants_all(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), old = given_client(*state, 1, 4, "old");

    when_asks(bob, "$SYS/#", "00");
    when_asks(old, "$SYS/+/load/#", "00");
    assert_int_equal(count_packets(bob), 1 + 30 + 27);
    assert_int_equal(count_packets(old), 1 + 27);
}

static void values_carry_the_subscription_id(void **state)
{
    struct device bob = given_client(*state, 3, 5, "bob");

    when_sends(bob, "82 0001 (0b 07) '$SYS/cluster/node' 00");
    then_receives(bob, "90 0001 () 00");
    then_receives(bob, "31 '$SYS/cluster/node' (0b 07) <3>");
}

static void nothing_is_answered_to_who_wants_nothing_retained(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    when_asks(bob, "$SYS/#", "20"); /* retain handling 2 */
    assert_int_equal(count_packets(bob), 1);
}

static void who_wants_it_once_is_answered_when_the_subscription_is_new(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    when_sends(bob, "82 0001 () '$SYS/none/+/#/x' 10 'a' 10 '$SYS/cluster/node' 10"); /* retain handling 1 */
    then_receives(bob, "90 0001 () 8f 00 00");
    then_message(bob, "$SYS/cluster/node", "1", 0, RETAINED);
    when_sends(bob, "82 0002 () 'b' 10 '$SYS/cluster/node' 10 '$SYS/cluster/leader' 10");
    then_receives(bob, "90 0002 () 00 00 00");
    then_message(bob, "$SYS/cluster/leader", "1", 0, RETAINED);
    then_receives_nothing(bob);
    when_sends(bob, "a2 0003 () '$SYS/cluster/node'");
    then_receives(bob, "b0 0003 () 00");
    when_sends(bob, "82 0004 () '$SYS/cluster/node' 10");
    then_receives(bob, "90 0004 () 00");
    then_message(bob, "$SYS/cluster/node", "1", 0, RETAINED);
}

static void wildcards_do_not_reach_sys(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    when_asks(bob, "#", "00");
    when_asks(bob, "+/broker/version", "00");
    assert_int_equal(count_packets(bob), 2);
    cores_pass(*state, 11000);
    then_receives_nothing(bob);
}

static void what_has_changed_is_told_at_the_interval(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    when_asks(bob, "$SYS/broker/uptime", "00");
    count_packets(bob);
    cores_pass(*state, 9000);
    then_receives_nothing(bob);
    cores_pass(*state, 1000);
    then_message(bob, "$SYS/broker/uptime", "10 seconds", 0, 0);
    cores_pass(*state, 10000);
    then_message(bob, "$SYS/broker/uptime", "20 seconds", 0, 0);
    when_asks(bob, "$SYS/cluster/leader", "00");
    count_packets(bob);
    cores_pass(*state, 5000);
    then_receives_nothing(bob);
}

static void clients_and_messages_are_counted(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    given_session(*state, 1, 5, "kept");
    cores_pass(*state, 2000);
    when_asks(bob, "$SYS/broker/clients/connected", "00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "$SYS/broker/clients/connected", "2", 0, RETAINED);
    when_publishes(bob, "a", "x", 0, 0);
    when_asks(bob, "$SYS/broker/publish/messages/received", "00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "$SYS/broker/publish/messages/received", "1", 0, RETAINED);
    when_asks(bob, "$SYS/broker/publish/bytes/received", "00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "$SYS/broker/publish/bytes/received", "7", 0, RETAINED); /* 30 05 0001 'a' 00 'x' */
}

static void connections_have_rates_too(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    cores_pass(*state, 10000);
    when_asks(bob, "$SYS/broker/load/connections/1min", "00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "$SYS/broker/load/connections/1min", "0.85", 0, RETAINED); /* 6 for 10 s of 70 */
}

static void rates_are_averages_of_growth_per_minute(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    for (int i = 0; i < 70; i++)
        when_publishes(bob, "a", "x", 0, 0);
    cores_pass(*state, 10000);
    when_asks(bob, "$SYS/broker/load/publish/received/1min", "00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "$SYS/broker/load/publish/received/1min", "60.00", 0, RETAINED); /* 420 for 10 s of 70 */
}

static void without_an_interval_there_is_no_sys(void **state)
{
    struct core_capabilities offered = CORE_CAPABILITIES_DEFAULT;
    struct core_options options = {.capabilities = &offered};
    struct cores *cores;
    struct device bob;

    (void)state;
    offered.sys_interval_s = 0;
    cores = cores_new_with(1, &options);
    bob = given_client(cores, 1, 5, "bob");
    when_asks(bob, "$SYS/#", "00");
    assert_int_equal(count_packets(bob), 1);
    cores_pass(cores, 11000);
    then_receives_nothing(bob);
    cores_free(cores);
}

static void clients_cannot_write_there(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), alice = given_client(*state, 1, 5, "alice");
    struct device old = given_client(*state, 1, 4, "old");
    struct core_stats stats;

    when_asks(bob, "$SYS/fake", "02");
    then_receives(bob, "90 0001 () 02");
    when_sends(alice, "31 '$SYS/fake' () <x>");
    when_sends(alice, "33 '$SYS/fake' 0001 () <x>");
    then_receives(alice, "40 0001 87");
    when_sends(alice, "34 '$share/g/t' 0002 () <x>");
    then_receives(alice, "50 0002 87");
    when_sends(alice, "30 '' (23 0001) <x>");
    assert_true(line_closed(alice.line)); /* the alias was never given */
    when_sends(old, "34 '$SYS/fake' 0003 <x>");
    then_receives(old, "50 0003");
    when_sends(old, "62 0003");
    then_receives(old, "70 0003");
    then_receives_nothing(bob);
    core_stats(cores_core(*state, 1), &stats);
    assert_int_equal(stats.reserved_topics, 4);
}

static void a_will_cannot_be_written_there(void **state)
{
    struct device device = when_dials(*state, 1);

    when_sends(device, "10 'MQTT' 05 06 0000 () 'id' () '$SYS/fake' 'gone'");
    then_connack(device, false, 0x87);
    then_closed(device);
}

static void other_topics_with_a_dollar_are_nobodys_to_publish(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob");

    when_asks(bob, "$other/#", "00");
    then_receives(bob, "90 0001 () 00");
    when_publishes(bob, "$other/x", "x", 0, 0);
    when_publishes(bob, "$other/x", "x", 1, 1);
    then_receives(bob, "40 0001 87");
}

#define ON_THREE_NODES(test) cmocka_unit_test_setup_teardown(test, world_of_three, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_THREE_NODES(a_value_is_answered_as_if_it_were_retained),
        ON_THREE_NODES(all_values_come_to_who_wants_all),
        ON_THREE_NODES(values_carry_the_subscription_id),
        ON_THREE_NODES(nothing_is_answered_to_who_wants_nothing_retained),
        ON_THREE_NODES(who_wants_it_once_is_answered_when_the_subscription_is_new),
        ON_THREE_NODES(wildcards_do_not_reach_sys),
        ON_THREE_NODES(what_has_changed_is_told_at_the_interval),
        ON_THREE_NODES(clients_and_messages_are_counted),
        ON_THREE_NODES(rates_are_averages_of_growth_per_minute),
        ON_THREE_NODES(connections_have_rates_too),
        cmocka_unit_test(without_an_interval_there_is_no_sys),
        ON_THREE_NODES(clients_cannot_write_there),
        ON_THREE_NODES(a_will_cannot_be_written_there),
        ON_THREE_NODES(other_topics_with_a_dollar_are_nobodys_to_publish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
