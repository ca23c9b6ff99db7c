/* fuzz_mqtt_encode.c — packets of a server with any fields, encoded, and read back by a plain reader that follows the words
 * of the standard; those that a client may send as well are also read by mqtt_decode(). What comes back is what went in,
 * but for what the encoder may leave out (reason string, user properties) where it may, and nothing exceeds the limit. */
#include "input.h"
#include "node/mqtt/decode.h"
#include "node/mqtt/encode.h"
#include "node/mqtt/fields.h"
#include "node/mqtt/property.h"
#include "node/mqtt/reason.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PACKETS_MAX 32

/* ---- properties, as table 2-4 of the standard has them ---- */

enum kind { BYTE, TWO_BYTES, FOUR_BYTES, TEXT };

static const struct property {
    uint8_t id;
    enum kind kind;
    size_t field;
} table[] = {
    {0x11, FOUR_BYTES, offsetof(struct mqtt_properties, session_expiry_s)},
    {0x12, TEXT, offsetof(struct mqtt_properties, assigned_client_id)},
    {0x13, TWO_BYTES, offsetof(struct mqtt_properties, server_keep_alive_s)},
    {0x15, TEXT, offsetof(struct mqtt_properties, authentication_method)},
    {0x16, TEXT, offsetof(struct mqtt_properties, authentication_data)},
    {0x1a, TEXT, offsetof(struct mqtt_properties, response_information)},
    {0x1c, TEXT, offsetof(struct mqtt_properties, server_reference)},
    {0x1f, TEXT, offsetof(struct mqtt_properties, reason_string)},
    {0x21, TWO_BYTES, offsetof(struct mqtt_properties, receive_maximum)},
    {0x22, TWO_BYTES, offsetof(struct mqtt_properties, topic_alias_max)},
    {0x24, BYTE, offsetof(struct mqtt_properties, maximum_qos)},
    {0x25, BYTE, offsetof(struct mqtt_properties, retain_available)},
    {0x27, FOUR_BYTES, offsetof(struct mqtt_properties, packet_size_max)},
    {0x28, BYTE, offsetof(struct mqtt_properties, wildcards_available)},
    {0x29, BYTE, offsetof(struct mqtt_properties, subscription_ids_available)},
    {0x2a, BYTE, offsetof(struct mqtt_properties, shared_available)},
};
#define TABLE_SIZE (sizeof table / sizeof table[0])
#define DROPPED_IN_NEED (MQTT_HAS(PROPERTY_REASON_STRING) | MQTT_HAS(PROPERTY_USER))

static uint64_t field_number(const struct mqtt_properties *properties, const struct property *property)
{
    const char *field = (const char *)properties + property->field;
    uint32_t number = 0;
    memcpy(&number, field, property->kind == BYTE ? 1 : property->kind == TWO_BYTES ? 2 : 4);
    return number;
}

static struct bytes field_text(const struct mqtt_properties *properties, const struct property *property)
{
    struct bytes text;
    memcpy(&text, (const char *)properties + property->field, sizeof text);
    return text;
}

static struct bytes draw_text(struct input *in)
{
    static uint8_t letters[UINT8_MAX];
    if (letters[0] == 0)
        memset(letters, 'x', sizeof letters);
    return bytes_of(letters, input_u8(in));
}

static void draw_value(struct input *in, const struct property *property, struct mqtt_properties *properties)
{
    char *field = (char *)properties + property->field;
    uint32_t number = (uint32_t)input_u16(in) | 1; /* not 0, which some do not allow */
    if (property->kind == TEXT) {
        struct bytes text = draw_text(in);
        memcpy(field, &text, sizeof text);
    } else {
        number = property->kind == BYTE ? number >> 1 & 1 : number;
        memcpy(field, &number, property->kind == BYTE ? 1 : property->kind == TWO_BYTES ? 2 : 4);
    }
}

static void put_user_property(struct buffer *block, struct bytes name, struct bytes value)
{
    buffer_put_u8(block, PROPERTY_USER);
    field_put_block(block, name);
    field_put_block(block, value);
}

/* Any of those that a server may send in a packet of this type. `block` holds the user properties. */
static struct mqtt_properties draw_properties(struct input *in, enum mqtt_type type, struct buffer *block)
{
    struct mqtt_properties properties = MQTT_PROPERTIES_NONE;
    uint32_t wanted = input_u16(in);
    for (size_t i = 0; i < TABLE_SIZE; i++) {
        struct mqtt_properties more = properties;
        more.present |= MQTT_HAS(table[i].id);
        if ((wanted >> i & 1) == 0 || !mqtt_properties_from_server(&more, MQTT_IN(type)))
            continue;
        draw_value(in, &table[i], &more);
        properties = more;
    }
    for (uint32_t count = input_below(in, 8) == 7 ? input_below(in, 4) : 0; count > 0; count--)
        put_user_property(block, draw_text(in), draw_text(in));
    properties.block = buffer_bytes(block);
    return properties;
}

/* ---- a plain reader ---- */

static struct bytes take(struct bytes *rest, size_t size)
{
    assert(size <= rest->size);
    struct bytes taken = bytes_of(rest->data, size);
    *rest = bytes_of(rest->size > 0 ? rest->data + size : rest->data, rest->size - size);
    return taken;
}

static uint64_t take_number(struct bytes *rest, size_t width)
{
    uint64_t number = 0;
    struct bytes bytes = take(rest, width);
    for (size_t i = 0; i < width; i++)
        number = number << 8 | bytes.data[i];
    return number;
}

static size_t take_varint(struct bytes *rest)
{
    size_t value = 0;
    for (int i = 0;; i++) {
        uint8_t byte = take(rest, 1).data[0];
        assert(i < 4 && (byte != 0 || i == 0)); /* four bytes at most, and none to spare */
        value |= (size_t)(byte & 0x7f) << 7 * i;
        if (byte < 0x80)
            return value;
    }
}

static struct bytes take_text(struct bytes *rest)
{
    return take(rest, take_number(rest, 2));
}

/* Everything of `expected` is there once, and no more; reason string and user properties may be missing. */
static void check_properties(struct bytes block, const struct mqtt_properties *expected)
{
    uint64_t seen = 0;
    struct bytes users = expected->block;
    while (block.size > 0) {
        size_t id = take_varint(&block), i;
        if (id == PROPERTY_USER) {
            struct mqtt_user_property user;
            assert(mqtt_next_user_property(&users, &user));
            assert(bytes_equal(take_text(&block), user.name) && bytes_equal(take_text(&block), user.value));
            continue;
        }
        for (i = 0; i < TABLE_SIZE && table[i].id != id; i++)
            continue;
        assert(i < TABLE_SIZE && (seen & MQTT_HAS(id)) == 0 && (expected->present & MQTT_HAS(id)) != 0);
        seen |= MQTT_HAS(id);
        if (table[i].kind == TEXT)
            assert(bytes_equal(take_text(&block), field_text(expected, &table[i])));
        else
            assert(take_number(&block, (size_t)1 << table[i].kind) == field_number(expected, &table[i]));
    }
    assert(((seen ^ expected->present) & ~DROPPED_IN_NEED) == 0);
    assert(users.size == 0 || users.size == expected->block.size); /* all, or none */
}

/* The body of the one packet in `out`. */
static struct bytes open_packet(const struct mqtt_peer *peer, enum mqtt_type type, const struct buffer *out)
{
    struct bytes rest = buffer_bytes(out);
    assert(rest.size <= peer->packet_size_max);
    assert(take(&rest, 1).data[0] == (type << 4 | (type == MQTT_PUBREL ? 2 : 0)));
    size_t remaining = take_varint(&rest);
    assert(remaining == rest.size);
    return rest;
}

static void check_properties_field(const struct mqtt_peer *peer, struct bytes *rest,
                                   const struct mqtt_properties *expected)
{
    if (peer->level == MQTT_LEVEL_5)
        check_properties(take(rest, take_varint(rest)), expected);
}

/* ---- each packet ---- */

/* A code that a server may send in this packet. */
static uint8_t draw_reason(struct input *in, enum mqtt_type type)
{
    uint8_t reason = input_u8(in);
    while (!mqtt_reason_from_server(type, reason))
        reason++;
    return reason;
}

static void try_connack(struct input *in, const struct mqtt_peer *peer, struct buffer *block, struct buffer *out)
{
    uint8_t flags = input_u8(in);
    struct mqtt_connack connack = {(flags & 1) != 0, draw_reason(in, MQTT_CONNACK),
                                   draw_properties(in, MQTT_CONNACK, block)};
    if (flags < 128)
        connack.reason = REASON_SUCCESS;
    if (!mqtt_encode_connack(peer, &connack, out))
        return;
    struct bytes rest = open_packet(peer, MQTT_CONNACK, out);
    uint64_t present = take_number(&rest, 1), code = take_number(&rest, 1);
    assert(present <= (connack.session_present && connack.reason == 0 && peer->level > MQTT_LEVEL_3_1));
    assert(peer->level == MQTT_LEVEL_5 ? code == connack.reason : code <= 5 && (code == 0) == (connack.reason == 0));
    check_properties_field(peer, &rest, &connack.properties);
    assert(rest.size == 0);
}

static void try_ack(struct input *in, const struct mqtt_peer *peer, struct buffer *out)
{
    enum mqtt_type type = MQTT_PUBACK + input_below(in, 4);
    struct mqtt_ack ack = {.packet_id = (uint16_t)(input_u16(in) | 1), .reason = draw_reason(in, type)};
    if (!mqtt_encode_ack(peer, type, ack.packet_id, ack.reason, out))
        return;
    struct bytes rest = open_packet(peer, type, out);
    assert(take_number(&rest, 2) == ack.packet_id);
    struct mqtt_decode_options options = {peer->level, 0, MQTT_PACKET_SIZE_MAX};
    struct mqtt_packet packet;
    struct mqtt_fault fault;
    size_t used;
    if (!mqtt_reason_from_client(type, ack.reason))
        return;
    enum status status = mqtt_decode(buffer_bytes(out), &options, &packet, &used, &fault);
    assert(status == STATUS_OK && used == out->size && packet.type == type && packet.ack.packet_id == ack.packet_id);
    assert(packet.ack.reason == (peer->level == MQTT_LEVEL_5 ? ack.reason : 0));
    assert(packet.ack.properties.block.size == 0);
}

static void try_suback(struct input *in, const struct mqtt_peer *peer, struct buffer *block, struct buffer *out)
{
    enum mqtt_type type = input_below(in, 2) == 0 ? MQTT_SUBACK : MQTT_UNSUBACK;
    uint8_t codes[200];
    uint32_t count = 1 + input_below(in, sizeof codes);
    uint8_t code = draw_reason(in, type), other = draw_reason(in, type);
    for (uint32_t i = 0; i < count; i++)
        codes[i] = i % 3 == 0 ? code : other;
    struct mqtt_suback suback = {(uint16_t)(input_u16(in) | 1), codes, count, draw_properties(in, type, block)};
    if (!mqtt_encode_suback(peer, type, &suback, out))
        return;
    struct bytes rest = open_packet(peer, type, out);
    assert(take_number(&rest, 2) == suback.packet_id);
    check_properties_field(peer, &rest, &suback.properties);
    assert(rest.size == (type == MQTT_SUBACK || peer->level == MQTT_LEVEL_5 ? count : 0));
    for (size_t i = 0; i < rest.size; i++)
        assert(rest.data[i] == codes[i] || (peer->level < MQTT_LEVEL_5 && codes[i] >= 0x80 && rest.data[i] == 0x80));
}

static void try_end(struct input *in, const struct mqtt_peer *peer, struct buffer *block, struct buffer *out)
{
    enum mqtt_type type = input_below(in, 2) == 0 ? MQTT_DISCONNECT : MQTT_AUTH;
    struct mqtt_disconnect end = {draw_reason(in, type), draw_properties(in, type, block)};
    struct mqtt_auth auth = {end.reason, end.properties};
    if (peer->level < MQTT_LEVEL_5 && type == MQTT_AUTH)
        return;
    if (!(type == MQTT_AUTH ? mqtt_encode_auth(peer, &auth, out) : mqtt_encode_disconnect(peer, &end, out)))
        return;
    struct bytes rest = open_packet(peer, type, out);
    assert(peer->level == MQTT_LEVEL_5 && take_number(&rest, 1) == end.reason);
    if (rest.size > 0)
        check_properties_field(peer, &rest, &end.properties);
    else
        assert((end.properties.present & ~DROPPED_IN_NEED) == 0);
    assert(rest.size == 0);
}

static void try_publish(struct input *in, const struct mqtt_peer *peer, struct buffer *out)
{
    uint8_t flags = input_u8(in), qos = flags % 3;
    uint32_t ids[4] = {1, 127, 128, 268435455};
    struct message message = {.topic = bytes_text("home/attic"), .payload = draw_text(in),
                              .properties = flags & 4 ? bytes_of("\x03\x00\x01t", 4) : bytes_text("")};
    struct mqtt_publish_options options = {.qos = qos, .retain = (flags & 8) != 0, .duplicate = qos > 0 && (flags & 16),
                                           .packet_id = qos > 0 ? (uint16_t)(input_u16(in) | 1) : 0,
                                           .message_expiry_s = flags & 32 ? input_u16(in) : UINT32_MAX,
                                           .topic_alias = flags & 64 ? (uint16_t)(input_u16(in) | 1) : 0,
                                           .subscription_ids = ids,
                                           .subscription_id_count = (uint16_t)input_below(in, 5)};
    options.topic_by_alias = options.topic_alias != 0 && (flags & 128);
    mqtt_encode_publish(peer->level, &message, &options, out);
    assert(out->size == mqtt_publish_size(peer->level, &message, &options));

    struct bytes rest = buffer_bytes(out), ours;
    uint8_t first = take(&rest, 1).data[0];
    assert(first == (0x30 | (options.duplicate ? 8 : 0) | qos << 1 | (options.retain ? 1 : 0)));
    size_t remaining = take_varint(&rest);
    assert(remaining == rest.size);
    bool by_alias = peer->level == MQTT_LEVEL_5 && options.topic_by_alias;
    assert(bytes_equal(take_text(&rest), by_alias ? bytes_text("") : message.topic));
    assert(qos == 0 || take_number(&rest, 2) == options.packet_id);
    if (peer->level == MQTT_LEVEL_5) {
        ours = take(&rest, take_varint(&rest));
        if (options.message_expiry_s != UINT32_MAX)
            assert(take_number(&ours, 1) == 0x02 && take_number(&ours, 4) == options.message_expiry_s);
        if (options.topic_alias != 0)
            assert(take_number(&ours, 1) == 0x23 && take_number(&ours, 2) == options.topic_alias);
        for (size_t i = 0; i < options.subscription_id_count; i++)
            assert(take_number(&ours, 1) == 0x0b && take_varint(&ours) == ids[i]);
        assert(bytes_equal(ours, message.properties));
    }
    assert(bytes_equal(rest, message.payload));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct buffer out = {0}, block = {0};
    for (int packets = 0; !input_done(&in) && packets < PACKETS_MAX; packets++) {
        uint8_t how = input_u8(&in);
        struct mqtt_peer peer = {.level = how % 4 < 2 ? MQTT_LEVEL_5 : how % 4 == 2 ? MQTT_LEVEL_3_1_1 : MQTT_LEVEL_3_1,
                                 .problem_information = (how & 4) == 0,
                                 .packet_size_max = how & 8 ? 2u + input_u16(&in) % 1000 : MQTT_PACKET_SIZE_MAX};
        buffer_clear(&out);
        buffer_clear(&block);
        switch (how >> 4 & 7) {
        case 0:
        case 1: try_connack(&in, &peer, &block, &out); break;
        case 2:
        case 3: try_ack(&in, &peer, &out); break;
        case 4: try_suback(&in, &peer, &block, &out); break;
        case 5: try_end(&in, &peer, &block, &out); break;
        default: try_publish(&in, &peer, &out); break;
        }
    }
    buffer_release(&out);
    buffer_release(&block);
    return 0;
}
