/* core_world.h — given / when / then for the tests of the core: devices that speak MQTT with nodes, as bytes.
 *
 * Packets are written in mqtt_notation.h. A device remembers its protocol level, to read what it gets. */
#ifndef COTERIE_TEST_CORE_WORLD_H
#define COTERIE_TEST_CORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/memory.h"
#include "mqtt_notation.h"
#include "node/mqtt/packet.h"
#include "tests/sim/world/cores.h"

struct device {
    struct line *line;
    uint8_t level;
};

/* ---- nodes: set-up and tear-down of a test ---- */

static inline int world_of_one(void **state)
{
    *state = cores_new(1, NULL, NULL);
    return 0;
}

static inline int world_of_three(void **state)
{
    *state = cores_new(3, NULL, NULL);
    return 0;
}

static inline int world_free(void **state)
{
    cores_free(*state);
    return 0;
}

static inline struct core_stats node_stats(struct cores *cores, uint32_t node)
{
    struct core_stats stats;

    core_stats(cores_core(cores, node), &stats);
    return stats;
}

/* ---- bytes ---- */

static inline void when_sends_bytes(struct device device, struct buffer bytes)
{
    line_send(device.line, buffer_bytes(&bytes));
    buffer_release(&bytes);
}

static inline void when_sends(struct device device, const char *notation)
{
    when_sends_bytes(device, packet(notation));
}

/* Without a turn of the node in between. */
static inline void when_sends_at_once(struct device device, const char *const *notations, size_t count)
{
    struct buffer all = {0};

    for (size_t i = 0; i < count; i++) {
        struct buffer one = packet(notations[i]);

        buffer_put_bytes(&all, buffer_bytes(&one));
        buffer_release(&one);
    }
    when_sends_bytes(device, all);
}

/* Size of the first whole packet that the device has received; *header is where its body starts. */
static inline size_t first_packet(struct device device, size_t *header)
{
    struct bytes in = line_received(device.line);
    size_t length = 0;

    *header = 0;
    for (size_t i = 1; i < in.size && i < 5; i++) {
        length |= (size_t)(in.data[i] & 0x7f) << 7 * (i - 1);
        if (in.data[i] < 0x80) {
            *header = i + 1;
            assert_true(in.size >= i + 1 + length);
            return i + 1 + length;
        }
    }
    fail_msg("no packet was received");
    return 0;
}

static inline void print_bytes(const char *what, struct bytes bytes)
{
    fprintf(stderr, "%s:", what);
    for (size_t i = 0; i < bytes.size && i < 200; i++)
        fprintf(stderr, " %02x", bytes.data[i]);
    fprintf(stderr, "\n");
}

static inline void then_receives(struct device device, const char *notation)
{
    struct buffer wanted = packet(notation);
    struct bytes in = line_received(device.line);

    if (in.size < wanted.size || memcmp(in.data, wanted.data, wanted.size) != 0) {
        print_bytes("wanted", buffer_bytes(&wanted));
        print_bytes("received", in);
        fail();
    }
    line_take(device.line, wanted.size);
    buffer_release(&wanted);
}

static inline void then_receives_nothing(struct device device)
{
    if (line_received(device.line).size > 0) {
        print_bytes("received", line_received(device.line));
        fail();
    }
}

static inline void then_closed(struct device device)
{
    then_receives_nothing(device);
    assert_true(line_closed(device.line));
}

static inline void then_open(struct device device)
{
    assert_false(line_closed(device.line));
}

/* ---- connecting ---- */

static inline struct device when_dials(struct cores *cores, uint32_t node)
{
    return (struct device){line_open(cores, node), MQTT_LEVEL_5};
}

static inline void then_connack(struct device device, bool session_present, uint8_t reason)
{
    size_t header = 0, size = first_packet(device, &header);
    const uint8_t *in = line_received(device.line).data;

    assert_int_equal(in[0], 0x20);
    assert_int_equal(in[header], session_present);
    assert_int_equal(in[header + 1], reason);
    line_take(device.line, size);
}

static inline void then_turned_away(struct device device, uint8_t reason)
{
    then_connack(device, false, reason);
    then_closed(device);
}

/* DISCONNECT is the first packet that waits, and the end. */
static inline void then_disconnected(struct device device, uint8_t reason)
{
    size_t at = 0;

    first_packet(device, &at);
    assert_int_equal(line_received(device.line).data[0], 0xe0);
    assert_int_equal(line_received(device.line).data[at], reason);
    assert_true(line_closed(device.line));
}

/* CONNECT without a will; 5.0 with this session expiry, 3.1.1 with Clean Session if it is 0. */
static inline struct device when_connects(struct cores *cores, uint32_t node, uint8_t level, const char *client_id,
                                          bool clean_start, uint32_t expiry_s)
{
    struct device device = {line_open(cores, node), level};
    char notation[200];

    if (level == MQTT_LEVEL_5)
        snprintf(notation, sizeof(notation), "10 'MQTT' 05 %02x 0000 (11 %08x) '%s'", clean_start ? 2 : 0,
                 (unsigned)expiry_s, client_id);
    else
        snprintf(notation, sizeof(notation), "10 'MQTT' 04 %02x 0000 '%s'", expiry_s == 0 ? 2 : 0, client_id);
    when_sends(device, notation);
    return device;
}

static inline struct device given_client(struct cores *cores, uint32_t node, uint8_t level, const char *client_id)
{
    struct device device = when_connects(cores, node, level, client_id, true, 0);

    then_connack(device, false, 0);
    return device;
}

static inline struct device given_session(struct cores *cores, uint32_t node, uint8_t level, const char *client_id)
{
    struct device device = when_connects(cores, node, level, client_id, false, UINT32_MAX);

    then_connack(device, false, 0);
    return device;
}

static inline struct device when_resumes(struct cores *cores, uint32_t node, uint8_t level, const char *client_id)
{
    struct device device = when_connects(cores, node, level, client_id, false, UINT32_MAX);

    then_connack(device, true, 0);
    return device;
}

/* ---- subscribing and publishing ---- */

static inline void when_subscribes(struct cores *cores, struct device device, const char *filter, uint8_t qos)
{
    char notation[200];

    snprintf(notation, sizeof(notation), device.level == MQTT_LEVEL_5 ? "82 0001 00 '%s' %02x" : "82 0001 '%s' %02x",
             filter, qos);
    when_sends(device, notation);
    if (line_received(device.line).size == 0)
        cores_pass(cores, 20); /* for a node that lags, or is away */
    snprintf(notation, sizeof(notation), device.level == MQTT_LEVEL_5 ? "90 0001 00 %02x" : "90 0001 %02x", qos);
    then_receives(device, notation);
}

static inline void when_publishes(struct device device, const char *topic, const char *payload, uint8_t qos,
                                  uint16_t packet_id)
{
    char notation[400], id[8] = "";

    if (qos > 0)
        snprintf(id, sizeof(id), "%04x", packet_id);
    snprintf(notation, sizeof(notation), "%02x '%s' %s %s <%s>", 0x30 | qos << 1, topic, id,
             device.level == MQTT_LEVEL_5 ? "00" : "", payload);
    when_sends(device, notation);
}

static inline void when_published(struct device device, const char *topic, const char *payload, uint16_t packet_id)
{
    char notation[40];

    when_publishes(device, topic, payload, 1, packet_id);
    if (device.level == MQTT_LEVEL_5 && line_received(device.line).data[1] == 3)
        snprintf(notation, sizeof(notation), "40 %04x 10", packet_id);
    else
        snprintf(notation, sizeof(notation), "40 %04x", packet_id);
    then_receives(device, notation);
}

#define DUPLICATE 0x08
#define RETAINED 0x01

/* Takes a PUBLISH without properties; `flags` are DUPLICATE and RETAINED. Returns its packet id. */
static inline uint16_t then_message(struct device device, const char *topic, const char *payload, uint8_t qos,
                                    uint8_t flags)
{
    size_t at = 0, size = first_packet(device, &at);
    const uint8_t *in = line_received(device.line).data;
    uint16_t packet_id = 0;
    size_t topic_size;

    if (in[0] != (0x30 | qos << 1 | flags))
        print_bytes("received", line_received(device.line));
    assert_int_equal(in[0], 0x30 | qos << 1 | flags);
    topic_size = (size_t)in[at] << 8 | in[at + 1];
    assert_int_equal(topic_size, strlen(topic));
    assert_memory_equal(in + at + 2, topic, topic_size);
    at += 2 + topic_size;
    if (qos > 0) {
        packet_id = (uint16_t)(in[at] << 8 | in[at + 1]);
        at += 2;
    }
    if (device.level == MQTT_LEVEL_5)
        assert_int_equal(in[at++], 0);
    assert_int_equal(size - at, strlen(payload));
    assert_memory_equal(in + at, payload, size - at);
    line_take(device.line, size);
    return packet_id;
}

/* Answers with a packet that is only a packet id: PUBACK 40, PUBREC 50, PUBREL 62, PUBCOMP 70. */
static inline void when_answers(struct device device, uint8_t first, uint16_t packet_id)
{
    char notation[20];

    snprintf(notation, sizeof(notation), "%02x %04x", first, packet_id);
    when_sends(device, notation);
}

static inline void then_answered(struct device device, uint8_t first, uint16_t packet_id)
{
    char notation[20];

    snprintf(notation, sizeof(notation), "%02x %04x", first, packet_id);
    then_receives(device, notation);
}

#endif
