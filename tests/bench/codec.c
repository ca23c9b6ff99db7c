/* codec.c — see codec.h. */
#include "codec.h"

#include "buffer.h"

#include <assert.h>
#include <string.h>

enum {
    PROPERTY_SESSION_EXPIRY = 0x11,
    PROPERTY_RECEIVE_MAXIMUM = 0x21,
};

static uint8_t *put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static uint8_t *put_text(uint8_t *at, const char *text)
{
    size_t size = strlen(text);
    assert(size <= CODEC_TEXT_MAX);
    at = put_u16(at, (unsigned)size);
    memcpy(at, text, size);
    return at + size;
}

static uint8_t *put_length(uint8_t *at, size_t value)
{
    do {
        uint8_t byte = value % 128;
        value /= 128;
        *at++ = value > 0 ? byte | 0x80 : byte;
    } while (value > 0);
    return at;
}

/* Puts the fixed header in front of a body; returns the size of both. */
static size_t finish(uint8_t *out, uint8_t first, const uint8_t *body, size_t size)
{
    uint8_t *at = out;
    *at++ = first;
    at = put_length(at, size);
    memcpy(at, body, size);
    return (size_t)(at - out) + size;
}

static uint8_t *put_connect_properties(uint8_t *at, const struct connect *connect)
{
    uint8_t *length = at++;
    if (connect->expiry_s > 0) {
        *at++ = PROPERTY_SESSION_EXPIRY;
        at = put_u16(at, connect->expiry_s >> 16);
        at = put_u16(at, connect->expiry_s & 0xffff);
    }
    if (connect->receive_maximum > 0) {
        *at++ = PROPERTY_RECEIVE_MAXIMUM;
        at = put_u16(at, connect->receive_maximum);
    }
    *length = (uint8_t)(at - length - 1);
    return at;
}

size_t encode_connect(uint8_t *out, const struct connect *connect)
{
    uint8_t body[CODEC_SMALL_MAX];
    uint8_t *at = put_text(body, "MQTT");
    *at++ = (uint8_t)connect->protocol;
    *at++ = (uint8_t)((connect->clean ? 0x02 : 0) | (connect->username != NULL ? 0x80 : 0) |
                      (connect->password != NULL ? 0x40 : 0));
    at = put_u16(at, connect->keepalive_s);
    if (connect->protocol == PROTOCOL_5)
        at = put_connect_properties(at, connect);
    at = put_text(at, connect->client_id);
    if (connect->username != NULL)
        at = put_text(at, connect->username);
    if (connect->password != NULL)
        at = put_text(at, connect->password);
    return finish(out, PACKET_CONNECT << 4, body, (size_t)(at - body));
}

size_t encode_subscribe(uint8_t *out, enum protocol protocol, uint16_t packet_id, const char *filter, unsigned qos)
{
    uint8_t body[CODEC_SMALL_MAX];
    uint8_t *at = put_u16(body, packet_id);
    if (protocol == PROTOCOL_5)
        *at++ = 0;
    at = put_text(at, filter);
    *at++ = (uint8_t)qos;
    return finish(out, PACKET_SUBSCRIBE << 4 | 0x02, body, (size_t)(at - body));
}

size_t encode_disconnect(uint8_t *out)
{
    out[0] = PACKET_DISCONNECT << 4;
    out[1] = 0;
    return 2;
}

size_t encode_ack(uint8_t *out, enum packet_type type, uint16_t packet_id)
{
    out[0] = (uint8_t)(type << 4 | (type == PACKET_PUBREL ? 0x02 : 0));
    out[1] = 2;
    put_u16(out + 2, packet_id);
    return 4;
}

struct publish_template publish_template_new(enum protocol protocol, unsigned qos, size_t topic_size,
                                             size_t payload_size)
{
    struct publish_template t = {0};
    size_t body = 2 + topic_size + (qos > 0 ? 2 : 0) + (protocol == PROTOCOL_5 ? 1 : 0) + payload_size;
    t.bytes = memory_array(5 + body, 1);
    uint8_t *at = t.bytes;
    *at++ = (uint8_t)(PACKET_PUBLISH << 4 | qos << 1);
    at = put_length(at, body);
    at = put_u16(at, (unsigned)topic_size);
    t.topic_at = (size_t)(at - t.bytes);
    at += topic_size;
    if (qos > 0) {
        t.packet_id_at = (size_t)(at - t.bytes);
        at += 2;
    }
    if (protocol == PROTOCOL_5)
        *at++ = 0;
    t.payload_at = (size_t)(at - t.bytes);
    t.size = t.payload_at + payload_size;
    return t;
}

/* Reads a variable-length number; returns its size, 0 if bytes are missing, -1 if it is too long. */
static int length_read(const uint8_t *data, size_t size, uint32_t *value)
{
    *value = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (i >= size)
            return 0;
        *value |= (uint32_t)(data[i] & 0x7f) << (7 * i);
        if ((data[i] & 0x80) == 0)
            return (int)i + 1;
    }
    return -1;
}

long packet_next(const uint8_t *data, size_t size, struct packet *packet)
{
    if (size < 2)
        return CODEC_NEED_MORE;
    uint32_t length;
    int used = length_read(data + 1, size - 1, &length);
    if (used < 0)
        return CODEC_MALFORMED;
    if (used == 0 || size - 1 - (size_t)used < length)
        return CODEC_NEED_MORE;
    packet->type = data[0] >> 4;
    packet->flags = data[0] & 0x0f;
    packet->body = data + 1 + used;
    packet->size = length;
    return 1 + used + (long)length;
}

/* Takes the length of the properties off `*at`; *properties is then their bytes. */
static bool properties_take(const uint8_t **at, const uint8_t *end, const uint8_t **properties, uint32_t *size)
{
    int used = length_read(*at, (size_t)(end - *at), size);
    if (used <= 0 || (size_t)(end - *at - used) < *size)
        return false;
    *properties = *at + used;
    *at = *properties + *size;
    return true;
}

/* The size of the value of a property that a CONNACK can carry; 0 if it is none of those. */
static size_t connack_property_size(uint8_t id, const uint8_t *value, size_t left)
{
    switch (id) {
    case 0x24: /* maximum QoS */
    case 0x25: /* retain available */
    case 0x28: /* wildcard subscriptions available */
    case 0x29: /* subscription identifiers available */
    case 0x2a: /* shared subscriptions available */ return 1;
    case 0x13: /* server keep-alive */
    case PROPERTY_RECEIVE_MAXIMUM:
    case 0x22: /* topic alias maximum */ return 2;
    case PROPERTY_SESSION_EXPIRY:
    case 0x27: /* maximum packet size */ return 4;
    case 0x12: /* assigned client id */
    case 0x15: /* authentication method */
    case 0x16: /* authentication data */
    case 0x1a: /* response information */
    case 0x1c: /* server reference */
    case 0x1f: /* reason */ return left < 2 ? 0 : 2 + ((size_t)value[0] << 8 | value[1]);
    case 0x26: { /* user property: two texts */
        if (left < 2)
            return 0;
        size_t name = 2 + ((size_t)value[0] << 8 | value[1]);
        return left < name + 2 ? 0 : name + 2 + ((size_t)value[name] << 8 | value[name + 1]);
    }
    default: return 0;
    }
}

static bool connack_properties(const uint8_t *at, size_t size, struct connack *connack)
{
    while (size > 0) {
        uint8_t id = at[0];
        size_t value_size = connack_property_size(id, at + 1, size - 1);
        if (value_size == 0 || value_size > size - 1)
            return false;
        if (id == PROPERTY_RECEIVE_MAXIMUM)
            connack->receive_maximum = (uint16_t)(at[1] << 8 | at[2]);
        at += 1 + value_size;
        size -= 1 + value_size;
    }
    return connack->receive_maximum > 0;
}

bool connack_parse(const struct packet *packet, enum protocol protocol, struct connack *connack)
{
    if (packet->size < 2)
        return false;
    connack->session_present = (packet->body[0] & 1) != 0;
    connack->reason = packet->body[1];
    connack->receive_maximum = 65535;
    if (protocol != PROTOCOL_5 || packet->size == 2) /* a broker that refuses MQTT 5 answers in the old form */
        return protocol != PROTOCOL_5 || connack->reason != 0;
    const uint8_t *at = packet->body + 2, *properties;
    uint32_t size;
    if (!properties_take(&at, packet->body + packet->size, &properties, &size))
        return false;
    return connack_properties(properties, size, connack);
}

bool ack_parse(const struct packet *packet, enum protocol protocol, struct ack *ack)
{
    if (packet->size < 2)
        return false;
    ack->packet_id = (uint16_t)(packet->body[0] << 8 | packet->body[1]);
    ack->reason = 0;
    const uint8_t *at = packet->body + 2, *end = packet->body + packet->size, *properties;
    uint32_t size;
    if (packet->type == PACKET_SUBACK) {
        if (protocol == PROTOCOL_5 && !properties_take(&at, end, &properties, &size))
            return false;
        if (at == end)
            return false;
    }
    if (at < end)
        ack->reason = *at;
    return ack->packet_id != 0;
}

bool publish_parse(const struct packet *packet, enum protocol protocol, struct publish *publish)
{
    const uint8_t *at = packet->body, *end = packet->body + packet->size, *properties;
    uint32_t size;
    publish->qos = packet->flags >> 1 & 3;
    publish->dup = (packet->flags & PUBLISH_DUP) != 0;
    publish->packet_id = 0;
    if (publish->qos == 3 || end - at < 2)
        return false;
    size_t topic = 2 + ((size_t)at[0] << 8 | at[1]);
    if ((size_t)(end - at) < topic + (publish->qos > 0 ? 2 : 0))
        return false;
    at += topic;
    if (publish->qos > 0) {
        publish->packet_id = (uint16_t)(at[0] << 8 | at[1]);
        at += 2;
        if (publish->packet_id == 0)
            return false;
    }
    if (protocol == PROTOCOL_5 && !properties_take(&at, end, &properties, &size))
        return false;
    publish->payload = at;
    publish->payload_size = (size_t)(end - at);
    return true;
}
