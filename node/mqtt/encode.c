/* encode.c — see encode.h.
 *
 * Each packet is laid out before a byte is written: fit() settles which properties it carries within the peer's limit
 * and what its remaining length is, put_header() writes the fixed header, and the rest can no longer fail. */
#include "encode.h"

#include "fields.h"
#include "property.h"
#include "reason.h"

#include <assert.h>

#define FLAG_RETAIN 0x01
#define FLAG_DUPLICATE 0x08
#define PUBREL_FLAGS 0x02
#define SUBACK_FAILURE_3 0x80

#define EXPIRY_SIZE (1 + 4)
#define ALIAS_SIZE (1 + 2)

struct mqtt_peer mqtt_peer_of(const struct mqtt_connect *connect)
{
    return (struct mqtt_peer){
        .level = connect->level,
        .problem_information = connect->properties.request_problem_information != 0,
        .packet_size_max = connect->properties.packet_size_max,
    };
}

static size_t packet_size(size_t remaining)
{
    return 1 + field_varint_size((uint32_t)remaining) + remaining;
}

static bool fits(const struct mqtt_peer *peer, size_t remaining)
{
    return remaining <= MQTT_REMAINING_MAX && packet_size(remaining) <= peer->packet_size_max;
}

static void put_header(uint8_t first, size_t remaining, struct buffer *out)
{
    buffer_reserve(out, packet_size(remaining));
    buffer_put_u8(out, first);
    field_put_varint(out, (uint32_t)remaining);
}

/* ---- packets with properties ---- */

static bool is_empty(const struct mqtt_properties *properties)
{
    return properties->present == 0 && properties->block.size == 0;
}

/* The length of the properties, and the properties. */
static size_t properties_field_size(const struct mqtt_properties *properties)
{
    size_t size = mqtt_properties_size(properties);
    return field_varint_size((uint32_t)size) + size;
}

static void put_properties_field(const struct mqtt_properties *properties, struct buffer *out)
{
    field_put_varint(out, (uint32_t)mqtt_properties_size(properties));
    mqtt_properties_encode(properties, out);
}

static void drop_user_properties(struct mqtt_properties *properties)
{
    properties->block = (struct bytes){0};
    properties->present &= ~MQTT_HAS(PROPERTY_USER);
}

static void drop_reason_string(struct mqtt_properties *properties)
{
    properties->present &= ~MQTT_HAS(PROPERTY_REASON_STRING);
}

/* Decides what `properties` the peer gets in a 5.0 packet with `rest` more bytes of body, and the remaining length.
 * What only explains is given up first: user properties, then the reason string. False: too large even so. */
static bool fit(const struct mqtt_peer *peer, enum mqtt_type type, size_t rest, struct mqtt_properties *properties,
                size_t *remaining)
{
    assert(mqtt_properties_from_server(properties, MQTT_IN(type)));
    if (!peer->problem_information && type != MQTT_CONNACK && type != MQTT_DISCONNECT) {
        drop_user_properties(properties);
        drop_reason_string(properties);
    }
    *remaining = rest + properties_field_size(properties);
    if (!fits(peer, *remaining)) {
        drop_user_properties(properties);
        *remaining = rest + properties_field_size(properties);
    }
    if (!fits(peer, *remaining)) {
        drop_reason_string(properties);
        *remaining = rest + properties_field_size(properties);
    }
    return fits(peer, *remaining);
}

/* A packet of `first`, `body` and, for 5.0, `properties` (NULL: none, not even their length). */
static bool put_packet(const struct mqtt_peer *peer, uint8_t first, struct bytes body,
                       const struct mqtt_properties *properties, struct buffer *out)
{
    size_t remaining = body.size;
    struct mqtt_properties fitting;
    bool with_properties = peer->level == MQTT_LEVEL_5 && properties != NULL;
    if (with_properties) {
        fitting = *properties;
        if (!fit(peer, first >> 4, body.size, &fitting, &remaining))
            return false;
    } else if (!fits(peer, remaining)) {
        return false;
    }
    put_header(first, remaining, out);
    buffer_put_bytes(out, body);
    if (with_properties)
        put_properties_field(&fitting, out);
    return true;
}

bool mqtt_encode_connack(const struct mqtt_peer *peer, const struct mqtt_connack *connack, struct buffer *out)
{
    assert(mqtt_reason_from_server(MQTT_CONNACK, connack->reason));
    uint8_t code = peer->level == MQTT_LEVEL_5 ? connack->reason : mqtt_reason_connack_3(connack->reason);
    if (peer->level != MQTT_LEVEL_5 && code == MQTT_CONNACK_SILENT)
        return false;
    /* The flags of CONNACK are new in 3.1.1; in 3.1 the byte is reserved. */
    bool present = connack->session_present && connack->reason == REASON_SUCCESS && peer->level > MQTT_LEVEL_3_1;
    const uint8_t body[] = {present, code};
    return put_packet(peer, MQTT_CONNACK << 4, bytes_of(body, sizeof body), &connack->properties, out);
}

bool mqtt_encode_ack(const struct mqtt_peer *peer, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                     struct buffer *out)
{
    assert(type >= MQTT_PUBACK && type <= MQTT_PUBCOMP);
    assert(mqtt_reason_from_server(type, reason));
    assert(packet_id != 0);
    uint8_t flags = type == MQTT_PUBREL ? PUBREL_FLAGS : 0;
    size_t remaining = peer->level == MQTT_LEVEL_5 && reason != REASON_SUCCESS ? 3 : 2;
    if (!fits(peer, remaining))
        return false;
    const uint8_t packet[] = {(uint8_t)(type << 4 | flags), (uint8_t)remaining, (uint8_t)(packet_id >> 8),
                              (uint8_t)packet_id, reason};
    buffer_put(out, packet, 2 + remaining);
    return true;
}

bool mqtt_encode_suback(const struct mqtt_peer *peer, enum mqtt_type type, const struct mqtt_suback *suback,
                        struct buffer *out)
{
    assert(type == MQTT_SUBACK || type == MQTT_UNSUBACK);
    assert(suback->packet_id != 0 && suback->count > 0);
    bool version_5 = peer->level == MQTT_LEVEL_5;
    bool with_codes = version_5 || type == MQTT_SUBACK;
    size_t rest = 2 + (with_codes ? (size_t)suback->count : 0);
    size_t remaining = rest;
    struct mqtt_properties properties = suback->properties;
    if (version_5 ? !fit(peer, type, rest, &properties, &remaining) : !fits(peer, remaining))
        return false;

    put_header((uint8_t)(type << 4), remaining, out);
    field_put_u16(out, suback->packet_id);
    if (version_5)
        put_properties_field(&properties, out);
    for (uint32_t i = 0; with_codes && i < suback->count; i++) {
        uint8_t code = suback->reasons[i];
        assert(mqtt_reason_from_server(type, code));
        buffer_put_u8(out, version_5 || code < REASON_FAILURE ? code : SUBACK_FAILURE_3);
    }
    return true;
}

bool mqtt_encode_pingresp(const struct mqtt_peer *peer, struct buffer *out)
{
    return put_packet(peer, MQTT_PINGRESP << 4, (struct bytes){0}, NULL, out);
}

bool mqtt_encode_disconnect(const struct mqtt_peer *peer, const struct mqtt_disconnect *disconnect, struct buffer *out)
{
    assert(mqtt_reason_from_server(MQTT_DISCONNECT, disconnect->reason));
    if (peer->level != MQTT_LEVEL_5)
        return false;
    const uint8_t body[] = {disconnect->reason};
    bool short_form = is_empty(&disconnect->properties);
    return put_packet(peer, MQTT_DISCONNECT << 4, bytes_of(body, sizeof body),
                      short_form ? NULL : &disconnect->properties, out);
}

bool mqtt_encode_auth(const struct mqtt_peer *peer, const struct mqtt_auth *auth, struct buffer *out)
{
    assert(mqtt_reason_from_server(MQTT_AUTH, auth->reason));
    assert(peer->level == MQTT_LEVEL_5);
    const uint8_t body[] = {auth->reason};
    return put_packet(peer, MQTT_AUTH << 4, bytes_of(body, sizeof body), &auth->properties, out);
}

/* ---- PUBLISH ---- */

/* The properties that belong to this packet and not to the message. */
static size_t packet_properties_size(const struct mqtt_publish_options *options)
{
    size_t size = 0;
    if (options->message_expiry_s != UINT32_MAX)
        size += EXPIRY_SIZE;
    if (options->topic_alias != 0)
        size += ALIAS_SIZE;
    for (size_t i = 0; i < options->subscription_id_count; i++)
        size += 1 + field_varint_size(options->subscription_ids[i]);
    return size;
}

static struct bytes topic_to_send(uint8_t level, const struct message *message,
                                  const struct mqtt_publish_options *options)
{
    return level == MQTT_LEVEL_5 && options->topic_by_alias ? (struct bytes){0} : message->topic;
}

static size_t publish_remaining(uint8_t level, const struct message *message,
                                const struct mqtt_publish_options *options)
{
    size_t size = 2 + topic_to_send(level, message, options).size + (options->qos > 0 ? 2 : 0) + message->payload.size;
    if (level != MQTT_LEVEL_5)
        return size;
    size_t properties = packet_properties_size(options) + message->properties.size;
    return size + field_varint_size((uint32_t)properties) + properties;
}

size_t mqtt_publish_size(uint8_t level, const struct message *message, const struct mqtt_publish_options *options)
{
    return packet_size(publish_remaining(level, message, options));
}

uint8_t mqtt_publish_first_byte(const struct mqtt_publish_options *options)
{
    assert(options->qos <= 2);
    assert(options->qos > 0 || !options->duplicate);
    return (uint8_t)(MQTT_PUBLISH << 4 | (options->duplicate ? FLAG_DUPLICATE : 0) | options->qos << 1
                     | (options->retain ? FLAG_RETAIN : 0));
}

static void put_packet_properties(const struct mqtt_publish_options *options, struct buffer *out)
{
    if (options->message_expiry_s != UINT32_MAX) {
        buffer_put_u8(out, PROPERTY_MESSAGE_EXPIRY);
        field_put_u32(out, options->message_expiry_s);
    }
    if (options->topic_alias != 0) {
        buffer_put_u8(out, PROPERTY_TOPIC_ALIAS);
        field_put_u16(out, options->topic_alias);
    }
    for (size_t i = 0; i < options->subscription_id_count; i++) {
        assert(options->subscription_ids[i] != 0);
        buffer_put_u8(out, PROPERTY_SUBSCRIPTION_ID);
        field_put_varint(out, options->subscription_ids[i]);
    }
}

void mqtt_encode_publish_head(uint8_t level, const struct message *message, const struct mqtt_publish_options *options,
                              struct buffer *out)
{
    assert((options->qos > 0) == (options->packet_id != 0));
    assert(!options->topic_by_alias || options->topic_alias != 0);
    size_t remaining = publish_remaining(level, message, options);
    assert(remaining <= MQTT_REMAINING_MAX);

    buffer_put_u8(out, mqtt_publish_first_byte(options));
    field_put_varint(out, (uint32_t)remaining);
    field_put_block(out, topic_to_send(level, message, options));
    if (options->qos > 0)
        field_put_u16(out, options->packet_id);
    if (level == MQTT_LEVEL_5) {
        field_put_varint(out, (uint32_t)(packet_properties_size(options) + message->properties.size));
        put_packet_properties(options, out);
    }
}

void mqtt_encode_publish(uint8_t level, const struct message *message, const struct mqtt_publish_options *options,
                         struct buffer *out)
{
    buffer_reserve(out, mqtt_publish_size(level, message, options));
    mqtt_encode_publish_head(level, message, options, out);
    if (level == MQTT_LEVEL_5)
        buffer_put_bytes(out, message->properties);
    buffer_put_bytes(out, message->payload);
}
