/* test_core_turns.c — what is long goes on over several turns, and nothing comes out of order for it. */
#include "core_world.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILTERS    8192 /* over {t, +}, 13 levels: all match TOPIC */
#define AT_ONCE    4096
#define TOPIC      "t/t/t/t/t/t/t/t/t/t/t/t/t"
#define CLIENTS    3000
#define LOOKS_MAX  70000  /* the shares of a turn together, and one thing more that is done whole */

#define READERS    300
#define LARGE      100000 /* bytes: for all of them too many for a turn */

#define TOPICS     4000
#define PAYLOAD_SIZE 1800
#define PAGES_MAX  2700   /* in one commit: what makes one due, and what is applied in one turn */
#define COMMIT_LOOKS (PAGES_MAX * 20)

/* Adds filter `number`, with its length in front and QoS 0 behind. */
static void put_filter(struct buffer *out, uint32_t number)
{
    buffer_put_u8(out, 0);
    buffer_put_u8(out, sizeof(TOPIC) - 1);
    for (uint32_t level = 0; level < 13; level++) {
        buffer_put_u8(out, (number >> level & 1) != 0 ? '+' : 't');
        if (level < 12)
            buffer_put_u8(out, '/');
    }
    buffer_put_u8(out, 0);
}

static void put_subscribe(struct buffer *out, uint32_t first, uint32_t count)
{
    uint32_t size = 2 + count * (uint32_t)(sizeof(TOPIC) - 1 + 3);

    buffer_put_u8(out, 0x82);
    for (; size >= 128; size /= 128)
        buffer_put_u8(out, (uint8_t)(size % 128 | 128));
    buffer_put_u8(out, (uint8_t)size);
    buffer_put_u8(out, 0);
    buffer_put_u8(out, 1);
    for (uint32_t i = 0; i < count; i++)
        put_filter(out, first + i);
}

static void given_filters(struct device device)
{
    struct buffer packet = {0};

    for (uint32_t first = 0; first < FILTERS; first += AT_ONCE) {
        buffer_clear(&packet);
        put_subscribe(&packet, first, AT_ONCE);
        line_send(device.line, buffer_bytes(&packet));
        assert_int_equal(line_received(device.line).data[0], 0x90);
        line_take(device.line, line_received(device.line).size);
    }
    buffer_release(&packet);
}

static uint64_t longest_turn(struct cores *cores)
{
    struct core_stats stats;

    core_stats(cores_core(cores, 1), &stats);
    return stats.turn_looks_max;
}

static void messages_that_match_much_come_in_order(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, MQTT_LEVEL_3_1_1, "alice");
    struct device bob = given_client(cores, 1, MQTT_LEVEL_3_1_1, "bob");
    struct device carol = given_client(cores, 1, MQTT_LEVEL_3_1_1, "carol");
    static const char *const publishes[] = {"30 '" TOPIC "' <1>", "30 '" TOPIC "' <2>", "30 'other' <x>", "30 '" TOPIC "' <3>",
                                            "c0"};

    given_filters(alice);
    when_subscribes(cores, carol, "other", 0);
    when_sends_at_once(bob, publishes, 5);
    then_message(alice, TOPIC, "1", 0, 0);
    then_message(alice, TOPIC, "2", 0, 0);
    then_message(alice, TOPIC, "3", 0, 0);
    then_message(carol, "other", "x", 0, 0);
    then_receives(bob, "d0");
    then_receives_nothing(alice);
    assert_in_range(longest_turn(cores), 1, LOOKS_MAX);
}

static void subscribing_to_all_again_and_leaving_is_no_long_turn(void **state)
{
    struct cores *cores = *state;
    struct device alice = given_client(cores, 1, MQTT_LEVEL_3_1_1, "alice");

    given_filters(alice);
    given_filters(alice);
    line_drop(alice.line);
    cores_pass(cores, 1000);
    assert_in_range(longest_turn(cores), 1, LOOKS_MAX);
}

/* By counted work: ending one costs END_LOOKS, and writing to it and closing it WRITE_LOOKS, for so many in each turn. */
static void all_clients_are_ended_over_several_turns(void **state)
{
    struct cores *cores = *state;
    struct device devices[CLIENTS];
    char name[16];

    for (uint32_t i = 0; i < CLIENTS; i++) {
        snprintf(name, sizeof(name), "c%u", i);
        devices[i] = given_client(cores, 1, MQTT_LEVEL_5, name);
    }
    cores_cut(cores, 1, true);
    cores_pass(cores, 1600);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        then_receives(devices[i], "e0 89");
        then_closed(devices[i]);
    }
    assert_in_range(longest_turn(cores), 1, LOOKS_MAX);
}

/* ---- bytes ---- */

/* `subscribe`: of each of them. */
static void given_readers(struct cores *cores, struct device *readers, const char *subscribe)
{
    char name[16];

    for (uint32_t i = 0; i < READERS; i++) {
        snprintf(name, sizeof(name), "c%u", i);
        readers[i] = given_client(cores, 1, MQTT_LEVEL_5, name);
        when_sends(readers[i], subscribe);
        cores_pass(cores, 10);
        assert_int_equal(line_received(readers[i].line).data[0], 0x90);
        line_take(readers[i].line, line_received(readers[i].line).size);
    }
}

static void then_a_large_message_comes_to_all(struct cores *cores, const struct device *readers, const char *publish)
{
    struct device bob = given_client(cores, 1, MQTT_LEVEL_5, "bob");
    char *notation = malloc(LARGE + 100);
    char payload[LARGE + 1];

    memset(payload, 'x', LARGE);
    payload[LARGE] = '\0';
    snprintf(notation, LARGE + 100, "%s <%s>", publish, payload);
    when_sends(bob, notation);
    cores_pass(cores, 1000);
    for (uint32_t i = 0; i < READERS; i++) {
        assert_in_range(line_received(readers[i].line).size, LARGE, LARGE + 20);
        line_take(readers[i].line, line_received(readers[i].line).size);
    }
    free(notation);
    assert_in_range(longest_turn(cores), LOOKS_MAX / 2, LOOKS_MAX);
}

static void a_large_message_to_many_is_written_over_several_turns(void **state)
{
    struct device readers[READERS];

    given_readers(*state, readers, "82 0001 00 'a' 00");
    then_a_large_message_comes_to_all(*state, readers, "30 'a' 00");
}

static void a_large_message_is_copied_to_many_over_several_turns(void **state)
{
    struct device readers[READERS];

    given_readers(*state, readers, "82 0001 (0b 07) 'a' 00");
    then_a_large_message_comes_to_all(*state, readers, "30 'a' 00");
}

static void a_large_committed_message_is_copied_to_many_over_several_turns(void **state)
{
    struct device readers[READERS];

    given_readers(*state, readers, "82 0001 (0b 07) 'a' 01");
    then_a_large_message_comes_to_all(*state, readers, "32 'a' 0001 00");
}

/* ---- what a commit writes ---- */

static char directory[32];

static int one_node_on_disk(void **state)
{
    struct core_limits limits = {.receive_maximum = UINT16_MAX, .client_commands_max = 100000};
    struct cores *cores = cores_new(1, &limits, NULL);

    strcpy(directory, "/tmp/test_turns.XXXXXX");
    assert_non_null(mkdtemp(directory));
    cores_keep_on_disk(cores, 1, directory);
    *state = cores;
    return 0;
}

static int free_nodes_and_disk(void **state)
{
    static const char *const files[] = {"data.mdb", "lock.mdb", "marker"};
    char path[64];

    (void)world_free(state);
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", directory, files[i]);
        unlink(path);
    }
    return rmdir(directory);
}

/* Retained QoS 1 messages to all topics, in steps of so many, sent as one piece. */
static void when_all_topics_are_published_to(struct device device, uint32_t step, const char *payload)
{
    struct buffer packets = {0};

    for (uint32_t i = 0; i < TOPICS; i++) {
        char notation[PAYLOAD_SIZE + 100];
        struct buffer one;

        snprintf(notation, sizeof(notation), "33 't/%06u' %04x 00 <%s>", i * step % TOPICS, i + 1, payload);
        one = packet(notation);
        buffer_put_bytes(&packets, buffer_bytes(&one));
        buffer_release(&one);
    }
    when_sends_bytes(device, packets);
    for (uint32_t i = 0; i < TOPICS; i++) {
        size_t header, size = first_packet(device, &header);

        assert_int_equal(line_received(device.line).data[0], 0x40);
        line_take(device.line, size);
    }
}

/* A page has two of these messages. All of them are taken away by one entry, now from this page, now from that. */
static void no_commit_writes_very_many_pages(void **state)
{
    struct cores *cores = *state;
    struct device alice;
    struct core_stats stats;
    char payload[PAYLOAD_SIZE + 1];

    memset(payload, 'x', PAYLOAD_SIZE);
    payload[PAYLOAD_SIZE] = '\0';
    cores_pass(cores, 3000); /* its state is new: so is its life */
    alice = given_client(cores, 1, MQTT_LEVEL_5, "alice");
    when_all_topics_are_published_to(alice, 1, payload);
    when_all_topics_are_published_to(alice, 977, "");
    core_stats(cores_core(cores, 1), &stats);
    assert_in_range(stats.commit_pages_max, 1, PAGES_MAX);
    assert_in_range(stats.spills, 1, TOPICS);
    assert_in_range(longest_turn(cores), 1, LOOKS_MAX + COMMIT_LOOKS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(messages_that_match_much_come_in_order, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(all_clients_are_ended_over_several_turns, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(a_large_message_to_many_is_written_over_several_turns, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(a_large_message_is_copied_to_many_over_several_turns, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(a_large_committed_message_is_copied_to_many_over_several_turns, world_of_one, world_free),
        cmocka_unit_test_setup_teardown(no_commit_writes_very_many_pages, one_node_on_disk, free_nodes_and_disk),
        cmocka_unit_test_setup_teardown(subscribing_to_all_again_and_leaving_is_no_long_turn, world_of_one, world_free),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
