/* register.c — retained topics as registers (G6): some clients write them with QoS 1 and read them by subscribing, and in
 * the end each topic's history must be linearizable.
 *
 *   write   PUBLISH with retain … PUBACK             its outcome is unknown if the connection ends before the PUBACK
 *   read    SUBSCRIBE … the retained PUBLISH         or none, if nothing has come for a while after the SUBACK, nor before
 *                                                    the answer to a PINGREQ then; unless limits may have dropped it
 *
 * Values are unique and topics never cleared. A client does one thing at a time, with a clean session, and forgets all
 * when its connection ends. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "packets.h"
#include "sim.h"

#define TOPICS_MAX 4
#define PUBLISHER 0x80000000u        /* and the number of the topic: not among those of the history */
#define NOTHING_AFTER_US (2 * SIM_S)
#define NEVER UINT64_MAX

/* Everything known about one value of one topic. Value 0 is that there is none: it was "written" before everything. */
struct value {
    uint64_t written_from_us, written_to_us;   /* the PUBLISH was sent; its PUBACK came, or NEVER */
    uint64_t first_end_us, last_start_us;      /* over its write and its reads */
    uint32_t reads;
};

struct topic {
    struct value *values;
    uint32_t count, capacity;
};

enum doing { AWAY, DIALING, CONNECTING, RESTING, WRITING, SUBSCRIBING, AWAITING, PINGING, UNSUBSCRIBING };

struct line {                /* a client */
    uint32_t client;
    enum doing doing;
    uint32_t node, topic, value;
    uint64_t connection, since_us;
    uint64_t timer;
    bool got;                /* the retained message has come */
    struct buffer input;
};

struct sim_register {
    struct sim *sim;
    struct topic topics[TOPICS_MAX];
    struct line lines[SIM_REGISTER_CLIENTS];
    char text[256];
};

static void act_later(struct sim_register *registers, struct line *line, uint64_t delay_us);

/* ---- what was written and read ---- */

static struct value *add_value(struct topic *topic, uint64_t from_us, uint64_t to_us)
{
    if (topic->count == topic->capacity) {
        topic->capacity = topic->capacity > 0 ? 2 * topic->capacity : 16;
        topic->values = memory_resize(topic->values, topic->capacity * sizeof *topic->values);
    }
    topic->values[topic->count] = (struct value){from_us, to_us, to_us, from_us, 0};
    return &topic->values[topic->count++];
}

static void record_read(struct sim_register *registers, const struct line *line, uint32_t number)
{
    struct topic *topic = &registers->topics[line->topic];
    uint64_t now = sim_now_us(registers->sim);
    if (number >= topic->count) {
        sim_violation(registers->sim, "register %u has value %u, which nobody wrote", line->topic, number);
        return;
    }
    struct value *value = &topic->values[number];
    sim_note(registers->sim, "register %u: client %u read %u at node %u since %.6f", line->topic, line->client, number,
             line->node, (double)line->since_us / 1e6);
    value->reads++;
    if (now < value->first_end_us)
        value->first_end_us = now;
    if (line->since_us > value->last_start_us)
        value->last_start_us = line->since_us;
}

/* A value's operations must happen one after the other somewhere between the first end and the last start, if that is how
 * they lie (a forward zone): nothing else may be there then. */
static bool is_forward(const struct value *value)
{
    return value->first_end_us < value->last_start_us;
}

static bool is_counted(const struct value *value)
{
    return value->reads > 0 || value->written_to_us != NEVER;
}

/* Two forward zones must not overlap; a backward one (all of its operations overlap) must not lie inside a forward one. */
static bool clash(const struct value *a, const struct value *b)
{
    return (is_forward(a) || is_forward(b)) && a->first_end_us < b->last_start_us && b->first_end_us < a->last_start_us;
}

static const char *check_topic(struct sim_register *registers, uint32_t number)
{
    const struct topic *topic = &registers->topics[number];
    for (uint32_t i = 0; i < topic->count; i++) {
        const struct value *one = &topic->values[i];
        if (is_counted(one) && one->first_end_us < one->written_from_us) {
            snprintf(registers->text, sizeof registers->text, "register %u: value %u was read before it was written",
                     number, i);
            return registers->text;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (!is_counted(one) || !is_counted(&topic->values[j]) || !clash(one, &topic->values[j]))
                continue;
            snprintf(registers->text, sizeof registers->text,
                     "register %u is not linearizable: no order of its operations explains both value %u and value %u",
                     number, j, i);
            return registers->text;
        }
    }
    return NULL;
}

const char *register_check(struct sim_register *registers)
{
    const char *wrong = NULL;
    for (uint32_t number = 0; number < TOPICS_MAX && wrong == NULL; number++)
        wrong = check_topic(registers, number);
    return wrong;
}

/* ---- packets ---- */

static void send_and_release(struct sim_register *registers, struct line *line, struct buffer *out)
{
    network_client_send(registers->sim, line->connection, out->data, out->size);
    buffer_release(out);
}

static void topic_name(const struct line *line, char name[16])
{
    snprintf(name, 16, "reg/%u", line->topic);
}

static void start_write(struct sim_register *registers, struct line *line)
{
    struct buffer out = {0};
    char name[16];
    topic_name(line, name);
    line->doing = WRITING;
    line->value = registers->topics[line->topic].count;
    add_value(&registers->topics[line->topic], line->since_us, NEVER);
    packet_put_publish(&out, &(struct packet_publish){.topic = name, .level = 5, .qos = 1, .retain = true, .packet_id = 1,
                                                      .publisher = PUBLISHER + line->topic, .number = line->value,
                                                      .payload_bytes = 16});
    send_and_release(registers, line, &out);
}

static void start_read(struct sim_register *registers, struct line *line)
{
    struct buffer out = {0};
    char name[16];
    topic_name(line, name);
    line->doing = SUBSCRIBING;
    line->got = false;
    packet_put_subscribe(&out, 5, 2, name, 1);
    send_and_release(registers, line, &out);
}

static void end_read(struct sim_register *registers, struct line *line)
{
    struct buffer out = {0};
    char name[16];
    topic_name(line, name);
    line->doing = UNSUBSCRIBING;
    packet_put_unsubscribe(&out, 5, 3, name);
    send_and_release(registers, line, &out);
}

static void rest(struct sim_register *registers, struct line *line)
{
    struct sim *sim = registers->sim;
    line->doing = RESTING;
    act_later(registers, line, random_between(&sim->workload_random, 1, 2 * SIM_MS * sim->config.publish_gap_ms));
}

static void written(struct sim_register *registers, struct line *line, bool refused)
{
    struct value *value = &registers->topics[line->topic].values[line->value];
    sim_note(registers->sim, "register %u: client %u wrote %u at node %u since %.6f%s", line->topic, line->client,
             line->value, line->node, (double)line->since_us / 1e6, refused ? ", refused" : "");
    if (!refused) {
        value->written_to_us = sim_now_us(registers->sim);
        if (value->written_to_us < value->first_end_us)
            value->first_end_us = value->written_to_us;
    }
    rest(registers, line);
}

static void received(struct sim_register *registers, struct line *line, uint8_t first, struct bytes content)
{
    struct packet_publish publish;
    struct bytes topic;
    if (!packet_read_publish(first, content, 5, &publish, &topic)) {
        sim_violation(registers->sim, "a reader of registers got a PUBLISH that it cannot read");
        return;
    }
    struct buffer out = {0};
    packet_put_ack(&out, PACKET_PUBACK, publish.packet_id);
    send_and_release(registers, line, &out);
    bool expected = line->doing == SUBSCRIBING || line->doing == AWAITING || line->doing == PINGING;
    if (publish.retain && (!expected || line->got || publish.publisher != PUBLISHER + line->topic))
        sim_violation(registers->sim, "a reader got a retained message of register %u that it did not ask for",
                      publish.publisher - PUBLISHER);
    if (!publish.retain || !expected)
        return;
    line->got = true;
    record_read(registers, line, publish.number);
    if (line->doing != SUBSCRIBING)
        end_read(registers, line);
}

static void handle(struct sim_register *registers, struct line *line, uint8_t first, struct bytes content)
{
    switch (first & 0xF0) {
    case PACKET_CONNACK:
        if (content.size >= 2 && content.data[1] == 0)
            rest(registers, line);
        break;   /* refused: the close follows */
    case PACKET_PUBLISH: received(registers, line, first, content); break;
    case PACKET_PUBACK:
        if (line->doing == WRITING)
            written(registers, line, content.size > 2 && content.data[2] >= 0x80);
        break;
    case PACKET_SUBACK:
        if (line->doing == SUBSCRIBING && line->got) {
            end_read(registers, line);
        } else if (line->doing == SUBSCRIBING) {
            line->doing = AWAITING;
            act_later(registers, line, NOTHING_AFTER_US);
        }
        break;
    case PACKET_PINGRESP:
        if (line->doing != PINGING)
            break;
        if (registers->sim->config.queue_messages_max == 0)
            record_read(registers, line, 0);
        end_read(registers, line);
        break;
    case PACKET_UNSUBACK: rest(registers, line); break;
    }
}

static struct line *line_of(struct sim_register *registers, uint64_t connection)
{
    for (int i = 0; i < SIM_REGISTER_CLIENTS; i++)
        if (registers->lines[i].connection == connection)
            return &registers->lines[i];
    return NULL;
}

void register_bytes(struct sim_register *registers, uint64_t connection, const uint8_t *data, size_t size)
{
    struct line *line = line_of(registers, connection);
    uint8_t first;
    struct bytes content;
    size_t used;
    if (line == NULL || line->doing < CONNECTING)
        return;
    buffer_put(&line->input, data, size);
    while (packet_next(&line->input, &first, &content, &used)) {
        handle(registers, line, first, content);
        buffer_consume(&line->input, used);
    }
}

/* ---- coming and going ---- */

static void dial(struct sim_register *registers, struct line *line)
{
    struct sim *sim = registers->sim;
    do {
        line->node = (uint32_t)random_between(&sim->workload_random, 1, sim->config.nodes);
    } while (((sim->core >> line->node) & 1) == 0);
    line->doing = DIALING;
    line->connection = network_dial(sim, line->client, line->node);
}

static void act(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_register *registers = sim->registers;
    struct line *line = &registers->lines[key];
    if (*(uint64_t *)data != line->timer)
        return;
    if (line->doing == AWAY) {
        dial(registers, line);
    } else if (line->doing == AWAITING) {
        struct buffer out = {0};
        line->doing = PINGING;
        packet_put_empty(&out, PACKET_PINGREQ);
        send_and_release(registers, line, &out);
    } else if (line->doing == RESTING && !sim->calm) {
        line->topic = (uint32_t)random_below(&sim->workload_random, sim->config.registers);
        line->since_us = sim_now_us(sim);
        if (random_chance(&sim->workload_random, 20)) {
            network_client_close(sim, line->connection);
            line->doing = AWAY;
            act_later(registers, line, SIM_MS);
        } else if (random_chance(&sim->workload_random, 400)) {
            start_write(registers, line);
        } else {
            start_read(registers, line);
        }
    }
}

static void act_later(struct sim_register *registers, struct line *line, uint64_t delay_us)
{
    uint64_t *number = memory_allocate(sizeof *number);
    *number = ++line->timer;
    schedule_add(registers->sim->schedule, sim_now_us(registers->sim) + delay_us, act,
                 (uint64_t)(line - registers->lines), number);
}

void register_opened(struct sim_register *registers, uint64_t connection, bool ok)
{
    struct line *line = line_of(registers, connection);
    if (line == NULL || line->doing != DIALING)
        return;
    if (!ok) {
        register_closed(registers, connection);
        return;
    }
    char name[24];
    snprintf(name, sizeof name, "register-%u", line->client);
    struct buffer out = {0};
    line->doing = CONNECTING;
    buffer_clear(&line->input);
    packet_put_connect(&out, &(struct packet_connect){.client_id = name, .level = 5, .clean = true, .receive_maximum = 100});
    send_and_release(registers, line, &out);
}

void register_closed(struct sim_register *registers, uint64_t connection)
{
    struct line *line = line_of(registers, connection);
    if (line == NULL || line->doing == AWAY)
        return;
    line->doing = AWAY;
    act_later(registers, line, random_between(&registers->sim->workload_random, SIM_MS, 200 * SIM_MS));
}

void register_start(struct sim_register *registers)
{
    for (int i = 0; i < SIM_REGISTER_CLIENTS && registers->sim->config.registers > 0; i++)
        act_later(registers, &registers->lines[i], SIM_MS);
}

struct sim_register *register_new(struct sim *sim)
{
    struct sim_register *registers = memory_zeroed(1, sizeof *registers);
    registers->sim = sim;
    for (uint32_t i = 0; i < SIM_REGISTER_CLIENTS; i++)
        registers->lines[i].client = (uint32_t)sim->config.clients + i;
    for (int t = 0; t < TOPICS_MAX; t++)
        add_value(&registers->topics[t], 0, 0);
    return registers;
}

void register_free(struct sim_register *registers)
{
    for (int t = 0; t < TOPICS_MAX; t++)
        free(registers->topics[t].values);
    for (int i = 0; i < SIM_REGISTER_CLIENTS; i++)
        buffer_release(&registers->lines[i].input);
    free(registers);
}
