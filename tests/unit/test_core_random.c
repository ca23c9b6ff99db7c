/* test_core_random.c — the core under clients that do anything: valid packets in any order, and broken ones.
 *
 * What is checked: nothing asserts, leaks or reads astray (sanitizers), all nodes hold the same state (the world
 * compares hashes), no client is answered twice, and in the end a well-behaved client is served. */
#include "core_world.h"

#define NODES 3
#define LINES 12

static uint64_t seed;

static uint32_t random_below(uint32_t limit)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % limit);
}

static const char *const connects[] = {
    "10 'MQTT' 05 02 0000 () 'a'",
    "10 'MQTT' 05 00 0001 (11 00000005 21 0002) 'b'",
    "10 'MQTT' 04 00 0000 'c'",
    "10 'MQTT' 04 06 0001 'd' 't/1' 'will'",
    "10 'MQTT' 05 0c 0000 (11 00000002 27 00000028) 'e' (18 00000001) 't/2' 'will'",
    "10 'MQTT' 05 00 0000 () ''",
};

static const char *const packets[] = {
    "30 't/1' <qos 0>",
    "30 't/2' 00 <qos 0>",
    "31 't/3' <kept>",
    "32 't/1' 0001 <qos 1>",
    "32 't/2' 0002 (02 00000001) <short>",
    "33 't/2' 0003 00 <kept 1>",
    "33 't/2' 0003 00",
    "34 't/1' 0004 <qos 2>",
    "34 't/1' 0004 00 <qos 2>",
    "3c 't/1' 0005 <qos 2>",
    "62 0004",
    "62 0005",
    "82 0006 't/+' 02",
    "82 0006 00 't/+' 02",
    "82 0007 (0b 05) 't/1' 01 '#' 00 '$share/g/t' 00",
    "82 0008 't/2' 00",
    "a2 0009 't/+'",
    "a2 000a 00 't/+' 't/1'",
    "c0",
    "e0",
    "e0 04",
    "f0 18 (15 'x')",
};

static struct buffer random_packet(bool first)
{
    const char *text = first ? connects[random_below(sizeof(connects) / sizeof(connects[0]))]
                             : packets[random_below(sizeof(packets) / sizeof(packets[0]))];
    struct buffer bytes = packet(text);

    if (random_below(40) == 0)
        bytes.data[random_below((uint32_t)bytes.size)] ^= (uint8_t)(1 << random_below(8));
    if (random_below(100) == 0)
        bytes.size -= random_below((uint32_t)bytes.size);
    return bytes;
}

/* Answers some of what the device got, and forgets it. */
static void answer(struct device device)
{
    while (line_received(device.line).size > 0) {
        struct bytes in = line_received(device.line);
        size_t header = 0, size = first_packet(device, &header);
        uint8_t reply[4] = {0, 2, 0, 0};

        if ((in.data[0] & 0xf6) == 0x32 || (in.data[0] & 0xf6) == 0x34) {
            size_t id = header + 2 + in.data[header + 1];

            reply[0] = (in.data[0] & 6) == 2 ? 0x40 : 0x50;
            memcpy(reply + 2, in.data + id, 2);
        } else if (in.data[0] == 0x62) {
            reply[0] = 0x70;
            memcpy(reply + 2, in.data + header, 2);
        }
        line_take(device.line, size);
        if (reply[0] != 0 && random_below(4) != 0)
            line_send_quietly(device.line, bytes_of(reply, sizeof(reply)));
    }
}

static void step(struct cores *cores, struct device *devices)
{
    struct device *device = &devices[random_below(LINES)];
    struct buffer bytes;

    if (device->line == NULL || line_closed(device->line)) {
        *device = when_dials(cores, 1 + random_below(NODES));
        bytes = random_packet(random_below(50) != 0);
    } else {
        bytes = random_packet(false);
    }
    line_send_quietly(device->line, buffer_bytes(&bytes));
    buffer_release(&bytes);
    if (random_below(3) == 0)
        cores_settle(cores);
    if (random_below(60) == 0)
        line_drop(device->line);
    if (random_below(30) == 0)
        cores_pass(cores, random_below(400));
    if (random_below(200) == 0)
        cores_lag(cores, 1 + random_below(NODES), random_below(2) == 0);
    if (random_below(300) == 0)
        cores_cut(cores, 2 + random_below(NODES - 1), random_below(3) == 0);
    if (random_below(5) == 0)
        answer(*device);
    if (random_below(50) == 0)
        line_stop(device->line, random_below(2) == 0);
}

static void whatever_clients_do_the_nodes_go_on(void **state)
{
    struct core_limits limits = {.hold_ms = 600, .receive_maximum = 5, .output_bytes_max = 4000};

    (void)state;
    for (uint64_t run = 1; run <= 8; run++) {
        struct cores *cores = cores_new(NODES, &limits, NULL);
        struct device devices[LINES] = {{NULL, 0}}, probe, echo;

        seed = run;
        for (uint32_t i = 0; i < 1500; i++)
            step(cores, devices);
        for (uint32_t node = 1; node <= NODES; node++) {
            cores_cut(cores, node, false);
            cores_lag(cores, node, false);
        }
        cores_pass(cores, 3000);
        probe = given_client(cores, 1, 4, "probe");
        echo = given_client(cores, NODES, 4, "echo");
        when_subscribes(cores, echo, "probe/+", 1);
        when_published(probe, "probe/x", "alive", 1);
        then_message(echo, "probe/x", "alive", 1, 0);
        cores_free(cores);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_clients_do_the_nodes_go_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
