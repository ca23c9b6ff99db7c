/* test_core_aliases.c — topic aliases: those that clients give, and those that we give them. */
#include "core_world.h"

/* A 5.0 client that takes so many aliases from us. */
static struct device given_alias_client(struct cores *cores, const char *client_id, bool clean, unsigned max)
{
    struct device device = when_dials(cores, 1);
    char notation[200];

    snprintf(notation, sizeof(notation), "10 'MQTT' 05 %02x 0000 (11 ffffffff 22 %04x) '%s'", clean ? 2 : 0, max,
             client_id);
    when_sends(device, notation);
    then_connack(device, !clean, 0);
    return device;
}

/* ---- given by clients ---- */

static void an_alias_names_the_topic_it_was_given_with(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 1);
    when_sends(alice, "30 'home/attic' (23 0001) <21>");
    when_sends(alice, "30 'home/cellar' (23 0020) <12>");
    when_sends(alice, "30 '' (23 0001) <22>");
    when_sends(alice, "32 '' 0001 (23 0020) <13>");
    then_receives(alice, "40 0001");
    then_message(bob, "home/attic", "21", 0, 0);
    then_message(bob, "home/cellar", "12", 0, 0);
    then_message(bob, "home/attic", "22", 0, 0);
    then_message(bob, "home/cellar", "13", 1, 0);
}

static void an_alias_may_be_given_to_another_topic(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 2);
    when_sends(alice, "32 'first' 0001 (23 0005) <1>");
    then_receives(alice, "40 0001");
    when_sends(alice, "30 'second' (23 0005) <2>");
    when_sends(alice, "30 '' (23 0005) <3>");
    then_message(bob, "first", "1", 1, 0);
    then_message(bob, "second", "2", 0, 0);
    then_message(bob, "second", "3", 0, 0);
}

static void an_alias_goes_through_the_log_and_into_the_register_as_its_topic(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), alice = given_client(*state, 1, 5, "alice");

    when_sends(alice, "30 'home/attic' (23 0001) <21>");
    when_sends(alice, "31 '' (23 0001) <kept>");
    when_sends(bob, "82 0001 () 'home/+' 00");
    then_receives(bob, "90 0001 () 00");
    then_message(bob, "home/attic", "kept", 0, RETAINED);
}

static void an_alias_above_the_maximum_or_0_is_invalid(void **state)
{
    struct device first = given_client(*state, 1, 5, "a"), second = given_client(*state, 1, 5, "b");
    size_t at;

    when_sends(first, "30 'a' (23 0021) <x>");
    first_packet(first, &at);
    assert_int_equal(line_received(first.line).data[at], 0x94);
    assert_true(line_closed(first.line));
    when_sends(second, "30 'a' (23 0000) <x>");
    first_packet(second, &at);
    assert_int_equal(line_received(second.line).data[at], 0x94);
    assert_true(line_closed(second.line));
}

static void an_alias_that_was_never_given_is_a_protocol_error(void **state)
{
    struct device alice = given_client(*state, 1, 5, "alice"), other = given_client(*state, 1, 5, "other");
    size_t at;

    when_sends(other, "30 'home' (23 0002) <x>");
    when_sends(alice, "30 'home' (23 0001) <x>");
    when_sends(alice, "30 '' (23 0002) <x>");
    first_packet(alice, &at);
    assert_int_equal(line_received(alice.line).data[at], 0x82);
    assert_true(line_closed(alice.line));
    then_open(other);
}

static void an_alias_dies_with_its_connection(void **state)
{
    struct device alice = given_session(*state, 1, 5, "alice");
    size_t at;

    when_sends(alice, "30 'home' (23 0001) <x>");
    line_drop(alice.line);
    alice = when_resumes(*state, 1, 5, "alice");
    when_sends(alice, "30 '' (23 0001) <x>");
    first_packet(alice, &at);
    assert_int_equal(line_received(alice.line).data[at], 0x82);
}

static void a_server_without_aliases_announces_none(void **state)
{
    static const struct core_capabilities none = {0};
    struct core_options options = {.capabilities = &none};
    struct cores *cores = cores_new_with(1, &options);
    struct device alice = given_client(cores, 1, 5, "alice");
    size_t at;

    (void)state;
    when_sends(alice, "30 'a' (23 0001) <x>");
    first_packet(alice, &at);
    assert_int_equal(line_received(alice.line).data[at], 0x94);
    cores_free(cores);
}

static void topics_of_aliases_cannot_fill_the_memory(void **state)
{
    struct core_options options = {.limits = {.memory_bytes_max = 8 * 1000}};
    struct cores *cores = cores_new_with(1, &options);
    struct device alice = given_client(cores, 1, 5, "alice"), bob;
    char notation[800], topic[301];
    size_t at;

    (void)state;
    memset(topic, 't', 300);
    topic[300] = 0;
    snprintf(notation, sizeof(notation), "30 '%s' (23 0001) <x>", topic);
    when_sends(alice, notation);
    then_open(alice);
    bob = given_client(cores, 1, 5, "bob");
    when_sends(bob, notation); /* too much together, but it is little for each */
    then_open(bob);
    snprintf(notation, sizeof(notation), "30 '%s' (23 0002) <x>", topic);
    when_sends(alice, notation);
    first_packet(alice, &at);
    assert_int_equal(line_received(alice.line).data[at], 0x97);
    then_open(bob);
    line_drop(bob.line);
    bob = given_client(cores, 1, 5, "carol"); /* what they held is free again */
    snprintf(notation, sizeof(notation), "30 '%s' (23 0001) <x>", topic);
    when_sends(bob, notation);
    then_open(bob);
    cores_free(cores);
}

/* ---- given by us ---- */

static void a_client_that_allows_aliases_gets_a_topic_once(void **state)
{
    struct device bob = given_alias_client(*state, "bob", true, 1), alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 1);
    when_publishes(alice, "home/attic/temperature", "21", 0, 0);
    when_publishes(alice, "home/attic/temperature", "22", 0, 0);
    when_published(alice, "home/attic/temperature", "23", 1);
    then_receives(bob, "30 'home/attic/temperature' (23 0001) <21>");
    then_receives(bob, "30 '' (23 0001) <22>");
    assert_int_equal(line_received(bob.line).data[1], 2 + 2 + 1 + 3 + 2);
}

static void a_client_that_allows_no_alias_gets_none(void **state)
{
    struct device bob = given_client(*state, 1, 5, "bob"), alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 0);
    when_publishes(alice, "home/attic/temperature", "21", 0, 0);
    when_publishes(alice, "home/attic/temperature", "22", 0, 0);
    then_message(bob, "home/attic/temperature", "21", 0, 0);
    then_message(bob, "home/attic/temperature", "22", 0, 0);
}

static void short_topics_get_no_alias(void **state)
{
    struct device bob = given_alias_client(*state, "bob", true, 1), alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 0);
    when_publishes(alice, "short", "21", 0, 0);
    then_message(bob, "short", "21", 0, 0);
}

static void what_several_get_is_shared_and_has_no_alias(void **state)
{
    struct device bob = given_alias_client(*state, "bob", true, 1), carol = given_client(*state, 1, 5, "carol");
    struct device alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 0);
    when_subscribes(*state, carol, "#", 0);
    when_publishes(alice, "home/attic/temperature", "21", 0, 0);
    then_message(bob, "home/attic/temperature", "21", 0, 0);
    then_message(carol, "home/attic/temperature", "21", 0, 0);
}

static void no_alias_is_above_what_the_client_allows(void **state)
{
    struct device bob = given_alias_client(*state, "bob", true, 1), alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 0);
    when_publishes(alice, "topic/number/1", "x", 0, 0);
    when_publishes(alice, "topic/number/2", "x", 0, 0); /* the place is taken */
    when_publishes(alice, "topic/number/2", "x", 0, 0);
    when_publishes(alice, "topic/number/2", "x", 0, 0);
    then_receives(bob, "30 'topic/number/1' (23 0001) <x>");
    then_receives(bob, "30 'topic/number/2' () <x>");
    then_receives(bob, "30 'topic/number/2' (23 0001) <x>");
    then_receives(bob, "30 '' (23 0001) <x>");
}

static void messages_that_wait_carry_their_topic_and_may_be_overtaken(void **state)
{
    struct device bob = when_dials(*state, 1), alice = given_client(*state, 1, 5, "alice");
    const uint8_t *first;
    uint16_t id;

    when_sends(bob, "10 'MQTT' 05 02 0000 (21 0001 22 0001) 'bob'"); /* one in flight */
    then_connack(bob, false, 0);
    when_subscribes(*state, bob, "#", 1);
    when_published(alice, "first", "1", 1);
    when_published(alice, "topic/of/two", "2", 2);
    when_publishes(alice, "topic/of/two", "3", 0, 0);
    first = line_received(bob.line).data + 2 + 2 + strlen("first");
    id = (uint16_t)(first[0] << 8 | first[1]);
    line_take(bob.line, first_packet(bob, &(size_t){0}));
    then_receives(bob, "30 'topic/of/two' (23 0001) <3>");
    then_receives_nothing(bob);
    when_answers(bob, 0x40, id);
    then_message(bob, "topic/of/two", "2", 1, 0);
}

static void resumed_sessions_start_without_aliases(void **state)
{
    struct device bob = given_alias_client(*state, "bob", true, 1), alice = given_client(*state, 1, 5, "alice");

    when_subscribes(*state, bob, "#", 1);
    when_publishes(alice, "home/attic/temperature", "21", 0, 0);
    then_receives(bob, "30 'home/attic/temperature' (23 0001) <21>");
    line_drop(bob.line);
    when_publishes(alice, "home/attic/temperature", "22", 1, 1);
    bob = given_alias_client(*state, "bob", false, 1);
    when_publishes(alice, "home/attic/temperature", "23", 0, 0);
    assert_int_equal(line_received(bob.line).data[1], 2 + 22 + 2 + 1 + 3 + 2);
    line_take(bob.line, first_packet(bob, &(size_t){0}));
    then_receives(bob, "30 '' (23 0001) <23>");
}

#define ON_ONE_NODE(test) cmocka_unit_test_setup_teardown(test, world_of_one, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ONE_NODE(an_alias_names_the_topic_it_was_given_with),
        ON_ONE_NODE(an_alias_may_be_given_to_another_topic),
        ON_ONE_NODE(an_alias_goes_through_the_log_and_into_the_register_as_its_topic),
        ON_ONE_NODE(an_alias_above_the_maximum_or_0_is_invalid),
        ON_ONE_NODE(an_alias_that_was_never_given_is_a_protocol_error),
        ON_ONE_NODE(an_alias_dies_with_its_connection),
        cmocka_unit_test(a_server_without_aliases_announces_none),
        cmocka_unit_test(topics_of_aliases_cannot_fill_the_memory),
        ON_ONE_NODE(a_client_that_allows_aliases_gets_a_topic_once),
        ON_ONE_NODE(a_client_that_allows_no_alias_gets_none),
        ON_ONE_NODE(short_topics_get_no_alias),
        ON_ONE_NODE(what_several_get_is_shared_and_has_no_alias),
        ON_ONE_NODE(no_alias_is_above_what_the_client_allows),
        ON_ONE_NODE(messages_that_wait_carry_their_topic_and_may_be_overtaken),
        ON_ONE_NODE(resumed_sessions_start_without_aliases),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
