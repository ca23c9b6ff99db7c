/* fuzz_client.c — clients that send anything, at any time, to the nodes of a cluster: what the nodes answer must be what
 * the standard allows a server to say then.
 *
 *   input ──packets, bytes, time, faults──▶ cores (tests/sim/world) ──bytes──▶ watch: one per connection
 *
 * A watch reads both directions of its connection. A server begins with CONNACK (or AUTH), answers each packet at most
 * once and nothing that was not asked, sends no packet id twice while it is in flight nor more than Receive Maximum,
 * nothing larger than Maximum Packet Size, and nothing behind DISCONNECT or a CONNACK that refuses, whatever QoS 0
 * messages a node that lies sends to the others. In the end, a client
 * that broke the rules has been closed, and a new one is served. */
#include "base/memory.h"
#include "base/topic.h"
#include "cluster/wire.h"
#include "input.h"
#include "node/mqtt/decode.h"
#include "node/mqtt/reason.h"
#include "tests/sim/world/cores.h"
#include "tests/unit/mqtt_notation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NODES 2
#define LINES 6
#define STEPS_MAX 300
#define HOLD_MS 40
#define REST_MS_MAX 20000 /* a client id that several clients contend for rests for 16 s at most (takeovers.h) */

/* ---- what clients may send ---- */

static const char *const connects[] = {
    "10 'MQTT' 05 02 0000 () 'a'",
    "10 'MQTT' 05 00 0000 (11 ffffffff 21 0002) 'a'",
    "10 'MQTT' 05 00 0001 (11 00000005 21 0001 22 0003 27 00000040) 'b'",
    "10 'MQTT' 04 00 0000 'b'",
    "10 'MQTT' 04 02 0000 'c'",
    "10 'MQTT' 04 00 0000 'c'",
    "10 'MQIsdp' 03 02 0001 'd'",
    "10 'MQTT' 04 06 0001 'd' 't/1' 'will'",
    "10 'MQTT' 05 0c 0000 (11 00000002 27 00000028 17 00) 'e' (18 00000001) 't/2' 'will'",
    "10 'MQTT' 05 36 0000 () 'a' (02 00000001 26 'k' 'v') 't/1' 'will'",
    "10 'MQTT' 05 02 0000 () ''",
    "10 'MQTT' 05 02 0000 (15 'SCRAM-SHA-256' 16 'x') 'f'",
};

static const char *const packets[] = {
    "30 't/1' <qos 0>",
    "30 't/2' 00 <qos 0>",
    "30 't/1' (23 0001) <alias>",
    "30 '' (23 0001) <alias>",
    "31 't/3' <kept>",
    "31 't/3' 00",
    "32 't/1' 0001 <qos 1>",
    "32 't/2' 0002 (02 00000001 26 'k' 'v') <short>",
    "32 't/2' 0002 (01 01 03 'c' 08 'r' 09 'd') <short>",
    "33 't/2' 0003 00 <kept 1>",
    "33 't/2' 0003 <kept 1>",
    "33 't/2' 0003 00",
    "34 't/1' 0004 <qos 2>",
    "34 't/1' 0004 00 <qos 2>",
    "3c 't/1' 0005 <qos 2>",
    "3c 't/1' 0005 00 <qos 2>",
    "62 0004",
    "62 0005",
    "62 0005 92",
    "82 0006 't/+' 02",
    "82 0006 00 't/+' 02",
    "82 0007 (0b 05) 't/1' 01 '#' 00 '$share/g/t' 01",
    "82 0007 00 '$share/g/t/+' 02 't/#' 1d",
    "82 0008 't/2' 00 't/3' 01 't/3' 02",
    "82 0008 00 't/2' 2c '+/3' 21",
    "a2 0009 't/+'",
    "a2 000a 00 't/+' 't/1' '$share/g/t/+'",
    "c0",
    "e0",
    "e0 04",
    "e0 00 (11 00000003)",
    "f0 18 (15 'x')",
};
#define CONNECT_COUNT (sizeof connects / sizeof connects[0])
#define PACKET_COUNT (sizeof packets / sizeof packets[0])

static struct buffer connect_bytes[CONNECT_COUNT], packet_bytes[PACKET_COUNT];

static void make_packets(void)
{
    if (packet_bytes[0].size > 0)
        return;
    for (size_t i = 0; i < CONNECT_COUNT; i++)
        connect_bytes[i] = packet(connects[i]);
    for (size_t i = 0; i < PACKET_COUNT; i++)
        packet_bytes[i] = packet(packets[i]);
}

static bool a_peer_lies; /* a node has sent topics that no client has */

/* ---- one connection, both directions ---- */

/* An answer that the server owes: it may give it once, or close. */
struct owed {
    uint8_t type;
    uint16_t packet_id;
    uint32_t count; /* SUBACK, UNSUBACK of 5.0: codes */
};

/* A QoS 1 or 2 message on its way to the client. */
struct flight {
    uint16_t packet_id;
    uint8_t qos;
    bool released; /* PUBREL was seen */
};

struct watch {
    struct line *line;
    struct buffer sent;
    size_t sent_read;
    uint8_t level;          /* 0: no CONNECT yet */
    bool broke_rules;       /* must be closed in the end */
    bool left;              /* sent DISCONNECT */
    bool accepted, resumed; /* as CONNACK said */
    bool ended;             /* the server has said its last */
    bool unsure;            /* what is in flight cannot be told from outside */
    uint32_t receive_maximum, packet_size_max;
    struct owed *owed;
    size_t owed_count;
    struct flight *flights;
    size_t flight_count;
    size_t sent_packets, received_packets;
};

static void owe(struct watch *watch, enum mqtt_type type, uint16_t packet_id, uint32_t count)
{
    watch->owed = memory_resize(watch->owed, (watch->owed_count + 1) * sizeof *watch->owed);
    watch->owed[watch->owed_count++] = (struct owed){(uint8_t)type, packet_id, count};
}

/* Takes one owed answer away; false: it was not owed. `count` as owed; 0 = any. */
static bool owed_take(struct watch *watch, enum mqtt_type type, uint16_t packet_id, uint32_t count)
{
    for (size_t i = 0; i < watch->owed_count; i++) {
        struct owed *owed = &watch->owed[i];
        if (owed->type != type || owed->packet_id != packet_id || (count != 0 && owed->count != count))
            continue;
        watch->owed_count--;
        memmove(owed, owed + 1, (watch->owed_count - i) * sizeof *owed);
        return true;
    }
    return false;
}

static struct flight *flight_find(struct watch *watch, uint16_t packet_id)
{
    for (size_t i = 0; i < watch->flight_count; i++) {
        if (watch->flights[i].packet_id == packet_id)
            return &watch->flights[i];
    }
    return NULL;
}

static void flight_add(struct watch *watch, uint16_t packet_id, uint8_t qos, bool released)
{
    watch->flights = memory_resize(watch->flights, (watch->flight_count + 1) * sizeof *watch->flights);
    watch->flights[watch->flight_count++] = (struct flight){packet_id, qos, released};
}

static void flight_land(struct watch *watch, struct flight *flight)
{
    *flight = watch->flights[--watch->flight_count];
}

/* ---- client to server ---- */

static void note_connect(struct watch *watch, const struct mqtt_connect *connect)
{
    watch->level = connect->level;
    watch->receive_maximum = connect->properties.receive_maximum;
    watch->packet_size_max = connect->properties.packet_size_max;
    owe(watch, MQTT_CONNACK, 0, 0);
}

static void note_answer(struct watch *watch, enum mqtt_type type, const struct mqtt_ack *ack)
{
    struct flight *flight = flight_find(watch, ack->packet_id);
    bool done = false;
    if (type == MQTT_PUBREC && ack->reason < REASON_FAILURE)
        owe(watch, MQTT_PUBREL, ack->packet_id, 0);
    if (flight == NULL)
        return;
    if (type == MQTT_PUBACK)
        done = flight->qos == 1;
    else if (type == MQTT_PUBREC)
        done = flight->qos == 2 && !flight->released && ack->reason >= REASON_FAILURE;
    else
        done = flight->released;
    if (done)
        flight_land(watch, flight);
}

static void note_sent(struct watch *watch, const struct mqtt_packet *packet)
{
    watch->sent_packets++;
    if ((packet->type == MQTT_CONNECT) != (watch->level == 0)) {
        watch->broke_rules = true;
        return;
    }
    switch (packet->type) {
    case MQTT_CONNECT: note_connect(watch, &packet->connect); return;
    case MQTT_PUBLISH:
        if (packet->publish.qos > 0)
            owe(watch, packet->publish.qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, packet->publish.packet_id, 0);
        return;
    case MQTT_PUBREL: owe(watch, MQTT_PUBCOMP, packet->ack.packet_id, 0); return;
    case MQTT_SUBSCRIBE: owe(watch, MQTT_SUBACK, packet->subscribe.packet_id, packet->subscribe.count); return;
    case MQTT_UNSUBSCRIBE:
        owe(watch, MQTT_UNSUBACK, packet->unsubscribe.packet_id, packet->unsubscribe.count);
        return;
    case MQTT_PINGREQ: owe(watch, MQTT_PINGRESP, 0, 0); return;
    case MQTT_DISCONNECT: watch->left = true; return;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBCOMP: note_answer(watch, packet->type, &packet->ack); return;
    default: return;
    }
}

/* Sends, and reads along what was sent, as far as it is whole. */
static void send(struct watch *watch, struct bytes bytes)
{
    if (bytes.size == 0)
        return;
    if (!line_read(watch->line))
        watch->unsure = true; /* it will be taken in after what the server says meanwhile */
    buffer_put_bytes(&watch->sent, bytes);
    while (!watch->broke_rules && !watch->left) {
        struct mqtt_decode_options options = {watch->level, UINT16_MAX, MQTT_PACKET_SIZE_MAX};
        struct bytes rest = bytes_of(watch->sent.data + watch->sent_read, watch->sent.size - watch->sent_read);
        struct mqtt_packet packet;
        struct mqtt_fault fault;
        size_t used;
        enum status status = mqtt_decode(rest, &options, &packet, &used, &fault);
        if (status == STATUS_NEED_MORE)
            break;
        if (status == STATUS_OK)
            note_sent(watch, &packet);
        else
            watch->broke_rules = true;
        watch->sent_read += status == STATUS_OK ? used : 0;
    }
    line_send_quietly(watch->line, bytes);
}

/* ---- server to client ---- */

static uint16_t read_u16(struct bytes *rest)
{
    assert(rest->size >= 2);
    uint16_t value = (uint16_t)(rest->data[0] << 8 | rest->data[1]);
    *rest = bytes_of(rest->data + 2, rest->size - 2);
    return value;
}

static void read_skip(struct bytes *rest, size_t size)
{
    assert(rest->size >= size);
    *rest = bytes_of(rest->data + size, rest->size - size);
}

static size_t read_varint(struct bytes *rest)
{
    size_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        assert(rest->size > 0 && shift < 28);
        uint8_t byte = rest->data[0];
        value |= (size_t)(byte & 0x7f) << shift;
        read_skip(rest, 1);
        if (byte < 0x80)
            return value;
    }
}

static void check_connack(struct watch *watch, struct bytes body)
{
    assert(!watch->accepted && owed_take(watch, MQTT_CONNACK, 0, 0));
    uint16_t answer = read_u16(&body);
    assert((answer & 0xfe00) == 0);
    if (watch->level == MQTT_LEVEL_5)
        read_skip(&body, read_varint(&body));
    assert(body.size == 0);
    watch->accepted = (answer & 0xff) == 0;
    watch->resumed = answer >> 8 == 1;
    watch->ended = !watch->accepted;
    assert(watch->accepted || !watch->resumed);
    assert(watch->level == MQTT_LEVEL_5 || (answer & 0xff) <= 5);
}

static void check_publish(struct watch *watch, uint8_t first, struct bytes body)
{
    uint8_t qos = first >> 1 & 3;
    assert(qos <= 2 && (qos > 0 || (first & 8) == 0));
    size_t topic_size = read_u16(&body);
    assert(topic_size > 0 || watch->level == MQTT_LEVEL_5);
    struct bytes topic = bytes_of(body.data, topic_size);
    read_skip(&body, topic_size);
    assert(topic_size == 0 || topic_name_check(topic) == STATUS_OK || a_peer_lies);
    uint16_t packet_id = qos > 0 ? read_u16(&body) : 0;
    if (watch->level == MQTT_LEVEL_5)
        read_skip(&body, read_varint(&body));
    if (qos == 0)
        return;
    assert(packet_id != 0);
    assert(watch->unsure || flight_find(watch, packet_id) == NULL);
    flight_add(watch, packet_id, qos, false);
    assert(watch->unsure || watch->level < MQTT_LEVEL_5 || watch->flight_count <= watch->receive_maximum);
}

static void check_pubrel(struct watch *watch, uint16_t packet_id)
{
    struct flight *flight = flight_find(watch, packet_id);
    assert(owed_take(watch, MQTT_PUBREL, packet_id, 0) || watch->resumed);
    if (flight != NULL && flight->qos == 2)
        flight->released = true;
    else if (flight == NULL && watch->resumed)
        flight_add(watch, packet_id, 2, true);
}

static void check_ack(struct watch *watch, enum mqtt_type type, struct bytes body)
{
    uint16_t packet_id = read_u16(&body);
    if (watch->level == MQTT_LEVEL_5 && body.size > 0) {
        assert(mqtt_reason_from_server(type, body.data[0]));
        read_skip(&body, 1);
        if (body.size > 0)
            read_skip(&body, read_varint(&body));
    }
    assert(body.size == 0);
    if (type == MQTT_PUBREL)
        check_pubrel(watch, packet_id);
    else
        assert(owed_take(watch, type, packet_id, 0));
}

static void check_suback(struct watch *watch, enum mqtt_type type, struct bytes body)
{
    uint16_t packet_id = read_u16(&body);
    if (watch->level == MQTT_LEVEL_5)
        read_skip(&body, read_varint(&body));
    bool with_codes = type == MQTT_SUBACK || watch->level == MQTT_LEVEL_5;
    assert(with_codes == (body.size > 0));
    assert(owed_take(watch, type, packet_id, (uint32_t)body.size));
    for (size_t i = 0; i < body.size; i++)
        assert(mqtt_reason_from_server(type, body.data[i]));
}

static void check_packet(struct watch *watch, uint8_t first, struct bytes body)
{
    enum mqtt_type type = first >> 4;
    assert(!watch->ended);
    if (watch->level == 0) { /* whatever came was no CONNECT: it may be told so, in a form that we cannot know */
        assert(watch->broke_rules && type == MQTT_CONNACK && body.size >= 2 && body.data[1] != 0);
        watch->ended = true;
        return;
    }
    assert(watch->accepted || type == MQTT_CONNACK || (watch->level == MQTT_LEVEL_5 && type == MQTT_AUTH) ||
           (watch->level == MQTT_LEVEL_5 && type == MQTT_DISCONNECT));
    assert(type == MQTT_PUBLISH || (first & 0x0f) == (type == MQTT_PUBREL ? 2 : 0));
    switch (type) {
    case MQTT_CONNACK: check_connack(watch, body); return;
    case MQTT_PUBLISH: check_publish(watch, first, body); return;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: check_ack(watch, type, body); return;
    case MQTT_SUBACK:
    case MQTT_UNSUBACK: check_suback(watch, type, body); return;
    case MQTT_PINGRESP: assert(body.size == 0 && owed_take(watch, MQTT_PINGRESP, 0, 0)); return;
    case MQTT_AUTH: assert(watch->level == MQTT_LEVEL_5); return;
    case MQTT_DISCONNECT:
        assert(watch->level == MQTT_LEVEL_5);
        assert(body.size == 0 || mqtt_reason_from_server(MQTT_DISCONNECT, body.data[0]));
        watch->ended = true;
        return;
    default: assert(false && "not a packet of a server");
    }
}

static void check_received(struct watch *watch)
{
    struct bytes in = line_received(watch->line), rest = in;
    while (rest.size > 0) {
        struct bytes packet = rest;
        uint8_t first = rest.data[0];
        read_skip(&rest, 1);
        size_t remaining = read_varint(&rest);
        struct bytes body = bytes_of(rest.data, remaining);
        read_skip(&rest, remaining);
        assert(watch->level < MQTT_LEVEL_5 || packet.size - rest.size <= watch->packet_size_max);
        check_packet(watch, first, body);
        watch->received_packets++;
    }
    line_take(watch->line, in.size);
}

/* ---- steps ---- */

struct game {
    struct cores *cores;
    struct watch watches[LINES]; /* the present connections */
    size_t sent_packets, received_packets;
};

static void forget(struct game *game, struct watch *watch)
{
    if (watch->line == NULL)
        return;
    check_received(watch);
    game->sent_packets += watch->sent_packets;
    game->received_packets += watch->received_packets;
    buffer_release(&watch->sent);
    free(watch->owed);
    free(watch->flights);
    *watch = (struct watch){.line = NULL};
}

static void settle(struct game *game)
{
    cores_settle(game->cores);
    for (size_t i = 0; i < LINES; i++) {
        if (game->watches[i].line != NULL)
            check_received(&game->watches[i]);
    }
}

static void pass(struct game *game, uint64_t ms)
{
    cores_pass(game->cores, ms);
    settle(game);
}

static void dial(struct game *game, struct watch *watch, uint32_t node)
{
    forget(game, watch);
    watch->line = line_open(game->cores, node);
}

/* One of the packets above, at times with a byte changed, the end cut off, or in pieces. */
static void send_packet(struct watch *watch, struct input *in, const struct buffer *from, size_t count)
{
    struct buffer bytes = {0};
    uint8_t how;
    buffer_put_bytes(&bytes, buffer_bytes(&from[input_below(in, (uint32_t)count)]));
    how = input_u8(in);
    if (how >= 240)
        bytes.data[input_u8(in) % bytes.size] ^= input_u8(in);
    else if (how >= 236)
        bytes.size = input_u8(in) % bytes.size;
    if (how >= 200 && how < 220) {
        for (size_t i = 0; i < bytes.size; i++)
            send(watch, bytes_of(bytes.data + i, 1));
    } else {
        send(watch, buffer_bytes(&bytes));
    }
    buffer_release(&bytes);
}

/* A packet whose type and length are right, with any bytes in it. */
static void send_any(struct watch *watch, struct input *in)
{
    uint8_t first = input_u8(in);
    struct buffer bytes = packet_of(first, input_bytes(in, 120));
    send(watch, buffer_bytes(&bytes));
    buffer_release(&bytes);
}

static void answer(struct watch *watch, struct input *in)
{
    uint8_t which = input_u8(in);
    if (watch->flight_count == 0)
        return;
    struct flight flight = watch->flights[which % watch->flight_count];
    uint8_t type = flight.qos == 1 ? MQTT_PUBACK : flight.released ? MQTT_PUBCOMP : MQTT_PUBREC;
    uint8_t id[] = {(uint8_t)(flight.packet_id >> 8), (uint8_t)flight.packet_id, REASON_QUOTA_EXCEEDED};
    bool refused = which >= 240 && watch->level == MQTT_LEVEL_5 && type != MQTT_PUBCOMP;
    struct buffer bytes = packet_of((uint8_t)(type << 4), bytes_of(id, refused ? 3 : 2));
    send(watch, buffer_bytes(&bytes));
    buffer_release(&bytes);
}

/* QoS 0 messages as from another node, one of them perhaps not as any node would write it. */
static void send_as_peer(struct game *game, struct input *in, uint32_t node)
{
    static const char *const topics[] = {"t/1", "t/2", "$SYS/x", "t/+"};
    struct buffer body = {0};
    for (uint8_t count = 1 + input_u8(in) % 3; count > 0; count--) {
        uint8_t topic = input_u8(in);
        struct message message = {.topic = bytes_text(topics[topic % 4]), .payload = input_bytes(in, 40),
                                  .properties = topic < 192 ? bytes_text("") : input_bytes(in, 20),
                                  .origin_session = input_u8(in), .retain = topic & 16};
        message.created_ms = topic & 32 ? input_u64(in) : cores_now_ms(game->cores);
        message.expires_ms = topic & 64 ? message.created_ms + input_u16(in) : 0;
        wire_message_put(&body, &message, topic & 8 ? input_bytes(in, 20) : bytes_text(""));
        a_peer_lies = a_peer_lies || topic % 4 == 3;
    }
    if (input_rarely(in, 8)) {
        body.data[input_u16(in) % body.size] ^= input_u8(in);
        a_peer_lies = true;
    }
    core_peer_messages(cores_core(game->cores, node), NODES + 1 - node, buffer_bytes(&body), cores_now_ms(game->cores));
    buffer_release(&body);
}

static void step(struct game *game, struct input *in)
{
    struct watch *watch = &game->watches[input_below(in, LINES)];
    uint32_t kind = input_below(in, 32), node = 1 + input_below(in, NODES);
    if (watch->line == NULL || line_closed(watch->line) || kind == 31) {
        if (watch->line != NULL)
            line_drop(watch->line);
        dial(game, watch, node);
        send_packet(watch, in, connect_bytes, CONNECT_COUNT);
        settle(game);
        return;
    }
    if (kind < 12)
        send_packet(watch, in, packet_bytes, PACKET_COUNT);
    else if (kind < 18)
        answer(watch, in);
    else if (kind < 20)
        send_any(watch, in);
    else if (kind < 23)
        pass(game, 1 + input_below(in, 60));
    else if (kind == 23)
        line_drop(watch->line);
    else if (kind == 24)
        line_stop(watch->line, node == 1);
    else if (kind == 25)
        cores_lag(game->cores, node, input_rarely(in, 2));
    else if (kind == 26)
        cores_cut(game->cores, 2, input_rarely(in, 2));
    else if (kind == 27 && input_rarely(in, 4))
        cores_replace_state(game->cores, node);
    else if (kind == 28)
        send_packet(watch, in, connect_bytes, CONNECT_COUNT);
    else if (kind == 29)
        send_as_peer(game, in, node);
    if (kind % 2 == 0)
        settle(game);
}

static void a_new_client_is_served(struct game *game)
{
    struct watch *watch = &game->watches[0];
    struct buffer connect = packet("10 'MQTT' 04 02 0000 'probe'"), publish = packet("32 't/1' 0001 <alive>");
    dial(game, watch, NODES);
    send(watch, buffer_bytes(&connect));
    pass(game, 10);
    send(watch, buffer_bytes(&publish));
    pass(game, 10);
    assert(watch->accepted && !line_closed(watch->line) && watch->owed_count == 0);
    buffer_release(&connect);
    buffer_release(&publish);
}

static bool all_who_should_are_closed(const struct game *game)
{
    for (size_t i = 0; i < LINES; i++) {
        const struct watch *watch = &game->watches[i];
        if (watch->line != NULL && (watch->broke_rules || watch->left || watch->ended) && !line_closed(watch->line))
            return false;
    }
    return true;
}

static void finish(struct game *game)
{
    for (size_t i = 0; i < LINES; i++) {
        if (game->watches[i].line != NULL)
            line_stop(game->watches[i].line, false);
    }
    for (uint32_t node = 1; node <= NODES; node++) {
        cores_cut(game->cores, node, false);
        cores_lag(game->cores, node, false);
    }
    pass(game, HOLD_MS + 20);
    for (uint64_t waited_ms = 0; !all_who_should_are_closed(game); waited_ms += 500) {
        assert(waited_ms < REST_MS_MAX);
        pass(game, 500);
    }
    a_new_client_is_served(game);
    for (size_t i = 0; i < LINES; i++)
        forget(game, &game->watches[i]);
    assert(game->received_packets <= 8 * (game->sent_packets + 1) * (game->sent_packets + 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct core_limits limits = {.hold_ms = HOLD_MS, .receive_maximum = 5, .output_bytes_max = 2000,
                                 .client_commands_max = 20, .collision_ms = 50};
    struct game game = {.cores = cores_new(NODES, &limits, NULL)};
    make_packets();
    a_peer_lies = false;
    for (int steps = 0; !input_done(&in) && steps < STEPS_MAX; steps++)
        step(&game, &in);
    finish(&game);
    cores_free(game.cores);
    return 0;
}
