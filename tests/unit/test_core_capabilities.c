/* test_core_capabilities.c — what this server does not offer is told in CONNACK, and refused with the code for it; and
 * what it tells clients who ask. */
#include "core_world.h"

static struct core_capabilities offered;
static struct cores *cores;

/* One node with `offered`, which starts as the default. */
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
    cores_free(cores);
    return 0;
}

/* A 5.0 client; its CONNACK has these properties among the usual ones, in front (`before`) and behind. */
static struct device given_told(const char *before, const char *behind)
{
    struct device device = when_dials(cores, 1);
    char notation[200];

    when_sends(device, "10 'MQTT' 05 02 0000 () 'id'");
    snprintf(notation, sizeof(notation), "20 00 00 (21 03e8 22 0020 %s 27 00100400 %s)", before, behind);
    then_receives(device, notation);
    return device;
}

/* ---- maximum QoS ---- */

static void a_publish_above_the_maximum_qos_ends_the_connection(void **state)
{
    struct device device, old;

    (void)state;
    offered.maximum_qos = 1;
    given_node();
    device = given_told("24 01", "");
    when_sends(device, "32 'a' 0001 () <fine>");
    then_receives(device, "40 0001 10");
    when_sends(device, "34 'a' 0001 () <too much>");
    then_disconnected(device, 0x9b);
    old = given_client(cores, 1, 4, "old");
    when_sends(old, "34 'a' 0001 <too much>");
    then_closed(old);
}

static void subscriptions_are_granted_the_maximum_qos(void **state)
{
    struct device device;

    (void)state;
    offered.maximum_qos = 0;
    given_node();
    device = given_told("24 00", "");
    when_sends(device, "82 0001 () 'a' 02 'b' 01 'c' 00");
    then_receives(device, "90 0001 () 00 00 00");
}

static void a_will_above_the_maximum_qos_is_refused(void **state)
{
    struct device device;

    (void)state;
    offered.maximum_qos = 1;
    given_node();
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 05 16 0000 () 'id' () 'will' 'gone'");
    then_turned_away(device, 0x9b);
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 04 16 0000 'id' 'will' 'gone'");
    then_closed(device); /* 3.1.1 has no word for it */
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 05 0e 0000 () 'id' () 'will' 'gone'");
    then_connack(device, false, 0);
}

/* ---- retained messages ---- */

static void what_is_to_be_retained_is_refused_where_nothing_is(void **state)
{
    struct device device;

    (void)state;
    offered.retain_available = false;
    given_node();
    device = given_told("25 00", "");
    when_sends(device, "31 'a' () <kept>");
    then_disconnected(device, 0x9a);
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 05 26 0000 () 'id' () 'will' 'gone'");
    then_turned_away(device, 0x9a);
}

/* ---- subscriptions ---- */

static void wildcards_are_refused_where_they_are_not_offered(void **state)
{
    struct device device, old;

    (void)state;
    offered.wildcards_available = false;
    given_node();
    device = given_told("", "28 00");
    when_subscribes(cores, device, "a/b", 0);
    when_sends(device, "82 0002 () 'c' 00 'a/+' 00");
    then_disconnected(device, 0xa2);
    old = given_client(cores, 1, 4, "old");
    when_sends(old, "82 0002 'c' 00 'a/+' 00");
    then_receives(old, "90 0002 00 80");
}

static void subscription_ids_are_refused_where_they_are_not_offered(void **state)
{
    struct device device;

    (void)state;
    offered.subscription_ids_available = false;
    given_node();
    device = given_told("", "29 00");
    when_sends(device, "82 0002 (0b 01) 'a' 00");
    then_disconnected(device, 0xa1);
}

static void a_packet_id_in_use_is_not_taken_for_another_request(void **state)
{
    struct device device;

    (void)state;
    given_node();
    device = given_client(cores, 1, 5, "id");
    when_sends(device, "34 'a' 0007 () <open>");
    then_receives(device, "50 0007 10");
    when_sends(device, "82 0007 () 'a' 00 'b' 00");
    then_receives(device, "90 0007 () 91 91");
    when_sends(device, "a2 0007 () 'a'");
    then_receives(device, "b0 0007 () 91");
    when_sends(device, "62 0007");
    then_receives(device, "70 0007");
    when_sends(device, "82 0007 () 'a' 00");
    then_receives(device, "90 0007 () 00");
}

static void a_request_is_not_answered_twice_at_once(void **state)
{
    struct device device;
    const char *packets[] = {"82 0007 () 'a' 00", "82 0007 () 'b' 00"};

    (void)state;
    given_node();
    device = given_client(cores, 1, 5, "id");
    when_sends_at_once(device, packets, 2);
    then_receives(device, "90 0007 () 91");
    then_receives(device, "90 0007 () 00");
}

/* ---- the rest ---- */

static void payloads_are_checked_only_if_asked_to(void **state)
{
    struct device device;

    (void)state;
    offered.payload_format_checked = true;
    given_node();
    device = given_told("", "");
    when_sends(device, "30 'a' (01 01) c3a4");
    when_sends(device, "30 'a' () c3");
    then_receives_nothing(device);
    when_sends(device, "30 'a' (01 01) c3");
    then_disconnected(device, 0x99);
}

static void response_information_is_for_those_who_ask(void **state)
{
    static char answers[] = "answers/";
    struct device device;

    (void)state;
    offered.response_information = answers;
    given_node();
    given_told("", "");
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 05 02 0000 (19 01) 'asks'");
    then_receives(device, "20 00 00 (1a 'answers/' 21 03e8 22 0020 27 00100400)");
}

static void who_wants_no_problem_information_gets_none(void **state)
{
    struct device device;

    (void)state;
    given_node();
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 05 02 0000 (17 00) 'id'");
    then_connack(device, false, 0);
    when_sends(device, "36 'a' 0001 00 <QoS 3>");
    then_receives(device, "e0 81");
    then_closed(device);
}

static void a_reason_that_does_not_fit_is_left_out(void **state)
{
    struct device device;

    (void)state;
    given_node();
    device = when_dials(cores, 1);
    when_sends(device, "10 'MQTT' 05 02 0000 (27 00000018) 'id'");
    then_connack(device, false, 0);
    when_sends(device, "20");
    then_receives(device, "e0 82 00");
    then_closed(device);
}

/* ---- MQTT 3.1 ---- */

static void clients_of_3_1_are_served_by_its_rules(void **state)
{
    struct device device, empty;
    char notation[300], longer[201];

    (void)state;
    given_node();
    empty = when_dials(cores, 1);
    when_sends(empty, "10 'MQIsdp' 03 02 0000 ''");
    then_receives(empty, "20 00 02");
    then_closed(empty);
    memset(longer, 'i', 200);
    longer[200] = 0;
    snprintf(notation, sizeof(notation), "10 'MQIsdp' 03 00 0000 '%s'", longer); /* longer than its 23 characters */
    for (int i = 0; i < 2; i++) {
        device = when_dials(cores, 1);
        device.level = 3;
        when_sends(device, notation);
        then_receives(device, "20 00 00"); /* Session Present came with 3.1.1 */
    }
    when_sends(device, "8a 0001 'a' 01"); /* with DUP */
    then_receives(device, "90 0001 01");
    when_publishes(device, "a", "x", 1, 1);
    then_message(device, "a", "x", 1, 0);
    then_receives(device, "40 0001");
}

#define WITH_A_NODE(test) cmocka_unit_test_setup_teardown(test, defaults, free_node)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_A_NODE(a_publish_above_the_maximum_qos_ends_the_connection),
        WITH_A_NODE(subscriptions_are_granted_the_maximum_qos),
        WITH_A_NODE(a_will_above_the_maximum_qos_is_refused),
        WITH_A_NODE(what_is_to_be_retained_is_refused_where_nothing_is),
        WITH_A_NODE(wildcards_are_refused_where_they_are_not_offered),
        WITH_A_NODE(subscription_ids_are_refused_where_they_are_not_offered),
        WITH_A_NODE(a_packet_id_in_use_is_not_taken_for_another_request),
        WITH_A_NODE(a_request_is_not_answered_twice_at_once),
        WITH_A_NODE(payloads_are_checked_only_if_asked_to),
        WITH_A_NODE(response_information_is_for_those_who_ask),
        WITH_A_NODE(who_wants_no_problem_information_gets_none),
        WITH_A_NODE(a_reason_that_does_not_fit_is_left_out),
        WITH_A_NODE(clients_of_3_1_are_served_by_its_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
