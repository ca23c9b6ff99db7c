/* decode.c — see decode.h.
 *
 *   bytes --header (first byte, remaining length)--> whole body there? --decode_<packet>--> struct
 *
 * Judged in this order: the first byte (type, flags), the remaining length, the packet's size, and when the body is
 * complete its fields from left to right. A body is read through `struct reader`, which cannot read past its end and
 * remembers that it was asked to: decode_<packet> looks at `failed` where a value decides what comes next, and
 * mqtt_decode looks once more at the end. */
#include "decode.h"

#include "base/utf8.h"
#include "command.h" /* the octet of subscription options */
#include "fields.h"
#include "property.h"
#include "reason.h"

#include <assert.h>

/* What a packet of each type is like when a client sends it. */
struct type_rule {
    bool from_client;
    uint8_t flags;         /* the lower half of the first byte; PUBLISH has its own check */
    uint8_t flags_ignored; /* with 3.1, which sets DUP on these when they are sent again */
};

static const struct type_rule types[16] = {
    [MQTT_CONNECT] = {true, 0x0, 0x0},
    [MQTT_PUBLISH] = {true, 0x0, 0x0},
    [MQTT_PUBACK] = {true, 0x0, 0x0},
    [MQTT_PUBREC] = {true, 0x0, 0x0},
    [MQTT_PUBREL] = {true, 0x2, 0x8},
    [MQTT_PUBCOMP] = {true, 0x0, 0x0},
    [MQTT_SUBSCRIBE] = {true, 0x2, 0x8},
    [MQTT_UNSUBSCRIBE] = {true, 0x2, 0x8},
    [MQTT_PINGREQ] = {true, 0x0, 0x0},
    [MQTT_DISCONNECT] = {true, 0x0, 0x0},
    [MQTT_AUTH] = {true, 0x0, 0x0},
};

/* The flags of PUBLISH. */
#define FLAG_RETAIN 0x01
#define FLAG_DUPLICATE 0x08
#define FLAGS_QOS(flags) (((flags) >> 1) & 0x03)

/* The flags in CONNECT. */
#define CONNECT_RESERVED 0x01
#define CONNECT_CLEAN 0x02
#define CONNECT_WILL 0x04
#define CONNECT_WILL_QOS(flags) (((flags) >> 3) & 0x03)
#define CONNECT_WILL_RETAIN 0x20
#define CONNECT_PASSWORD 0x40
#define CONNECT_USER_NAME 0x80

/* One packet while it is being decoded. */
struct decoding {
    const struct mqtt_decode_options *options;
    uint8_t level;          /* from the options, or from the CONNECT as soon as it is known */
    uint8_t flags;
    bool shortest_length;   /* the remaining length is in shortest form */
    size_t header_size;
    size_t remaining;
    struct reader body;
    struct mqtt_fault *fault;
};

static enum status refuse(struct decoding *d, enum status status, uint8_t reason, const char *text)
{
    d->fault->reason = reason;
    d->fault->text = text;
    return status;
}

static enum status refuse_malformed(struct decoding *d, const char *text)
{
    return refuse(d, STATUS_MALFORMED, REASON_MALFORMED_PACKET, text);
}

static enum status refuse_protocol(struct decoding *d, const char *text)
{
    return refuse(d, STATUS_PROTOCOL_ERROR, REASON_PROTOCOL_ERROR, text);
}

static enum status refuse_cut_off(struct decoding *d)
{
    return refuse_malformed(d, "packet ends in the middle of a field");
}

/* ---- header ---- */

static enum status check_publish_flags(struct decoding *d)
{
    unsigned qos = FLAGS_QOS(d->flags);
    if (qos == 3)
        return refuse_malformed(d, "QoS 3");
    if (qos == 0 && (d->flags & FLAG_DUPLICATE) != 0)
        return refuse_malformed(d, "DUP with QoS 0");
    return STATUS_OK;
}

static enum status check_first_byte(struct decoding *d, enum mqtt_type type)
{
    const struct type_rule *rule = &types[type];
    if (d->level == 0 && type != MQTT_CONNECT)
        return refuse_protocol(d, "first packet is not CONNECT");
    if (d->level != 0 && type == MQTT_CONNECT)
        return refuse_protocol(d, "second CONNECT");
    if (type == 0 || (type == MQTT_AUTH && d->level < MQTT_LEVEL_5))
        return refuse_malformed(d, "reserved packet type");
    if (!rule->from_client)
        return refuse_protocol(d, "packet type that only a server may send");
    if (type == MQTT_PUBLISH)
        return check_publish_flags(d);
    uint8_t ignored = d->level == MQTT_LEVEL_3_1 ? rule->flags_ignored : 0;
    if ((d->flags & ~ignored) != rule->flags)
        return refuse_malformed(d, "reserved header flags");
    return STATUS_OK;
}

/* Reads the remaining length. Not in shortest form is a fault only in 5.0: check_length_form. */
static enum status take_remaining_length(struct decoding *d, struct bytes in)
{
    for (unsigned i = 0; i < 4; i++) {
        if (in.size < 2u + i)
            return STATUS_NEED_MORE;
        uint8_t byte = in.data[1 + i];
        d->remaining |= (size_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            d->shortest_length = i == 0 || byte != 0;
            d->header_size = 2u + i;
            return STATUS_OK;
        }
    }
    return refuse_malformed(d, "remaining length of more than four bytes");
}

static enum status check_length_form(struct decoding *d)
{
    if (d->level == MQTT_LEVEL_5 && !d->shortest_length)
        return refuse_malformed(d, "remaining length is not in shortest form");
    return STATUS_OK;
}

/* On STATUS_OK d->body is the whole body. */
static enum status decode_header(struct decoding *d, struct bytes in, enum mqtt_type *type, size_t *size)
{
    if (in.size == 0)
        return STATUS_NEED_MORE;
    *type = in.data[0] >> 4;
    d->flags = in.data[0] & 0x0f;
    enum status status = check_first_byte(d, *type);
    if (status == STATUS_OK)
        status = take_remaining_length(d, in);
    if (status == STATUS_OK)
        status = check_length_form(d);
    if (status != STATUS_OK)
        return status;

    size_t whole = d->header_size + d->remaining;
    if (whole > d->options->packet_size_max)
        return refuse(d, STATUS_TOO_LARGE, REASON_PACKET_TOO_LARGE, "packet is larger than allowed");
    *size = whole;
    if (in.size < whole)
        return STATUS_NEED_MORE;
    d->body = reader_of(bytes_of(in.data + d->header_size, d->remaining));
    return STATUS_OK;
}

/* ---- fields that several packets have ---- */

static enum status take_text(struct decoding *d, struct bytes *text)
{
    *text = field_block(&d->body);
    if (d->body.failed)
        return refuse_cut_off(d);
    if (!utf8_valid(*text))
        return refuse_malformed(d, "string is not valid UTF-8");
    return STATUS_OK;
}

static enum status take_packet_id(struct decoding *d, uint16_t *packet_id)
{
    *packet_id = field_u16(&d->body);
    if (d->body.failed)
        return refuse_cut_off(d);
    if (*packet_id == 0)
        return refuse_protocol(d, "packet identifier 0");
    return STATUS_OK;
}

/* 5.0: the properties that stand here; before: none. */
static enum status take_properties(struct decoding *d, uint32_t where, struct mqtt_properties *properties)
{
    *properties = MQTT_PROPERTIES_NONE;
    if (d->level < MQTT_LEVEL_5)
        return STATUS_OK;
    uint32_t size = field_varint(&d->body);
    struct bytes block = reader_bytes(&d->body, size);
    if (d->body.failed)
        return refuse_malformed(d, "length of the properties is missing, malformed or beyond the packet");
    if (size == 0)
        return STATUS_OK;
    return mqtt_properties_decode(block, where, properties, d->fault);
}

/* A topic name that is valid UTF-8: whether it may be published to. */
static enum status check_topic(struct decoding *d, struct bytes topic)
{
    switch (topic_name_check(topic)) {
    case STATUS_OK: return STATUS_OK;
    case STATUS_INVALID: return refuse(d, STATUS_MALFORMED, REASON_TOPIC_INVALID, "wildcard in a topic name");
    case STATUS_TOO_LARGE: return refuse(d, STATUS_TOO_LARGE, REASON_TOPIC_INVALID, "topic name has too many levels");
    default: return refuse(d, STATUS_PROTOCOL_ERROR, REASON_TOPIC_INVALID, "empty topic name");
    }
}

/* ---- CONNECT ---- */

/* Who does not even say "MQTT" gets no answer; who says it in a version that we do not know learns that in the form
 * that every version since 3.1 can read. */
static enum status take_protocol(struct decoding *d)
{
    struct bytes name = field_block(&d->body);
    uint8_t level = reader_u8(&d->body);
    if (d->body.failed)
        return refuse_cut_off(d);
    if (level == MQTT_LEVEL_3_1 && bytes_equal(name, bytes_text("MQIsdp"))) {
        d->level = level;
        return STATUS_OK;
    }
    if (!bytes_equal(name, bytes_text("MQTT")))
        return refuse(d, STATUS_UNSUPPORTED, REASON_UNSUPPORTED_VERSION, "unknown protocol name");
    if (level != MQTT_LEVEL_3_1_1 && level != MQTT_LEVEL_5) {
        d->fault->answer_level = MQTT_LEVEL_3_1_1;
        return refuse(d, STATUS_UNSUPPORTED, REASON_UNSUPPORTED_VERSION, "unknown protocol level");
    }
    d->level = level;
    return check_length_form(d);
}

static enum status check_connect_flags(struct decoding *d, uint8_t flags)
{
    bool will = (flags & CONNECT_WILL) != 0;
    if (CONNECT_WILL_QOS(flags) == 3 && (will || d->level > MQTT_LEVEL_3_1))
        return refuse_malformed(d, "will with QoS 3");
    if (d->level < MQTT_LEVEL_5 && (flags & CONNECT_PASSWORD) != 0 && (flags & CONNECT_USER_NAME) == 0)
        return refuse_malformed(d, "password without user name");
    if (d->level == MQTT_LEVEL_3_1)
        return STATUS_OK; /* it does not say that unused bits are 0 */
    if ((flags & CONNECT_RESERVED) != 0)
        return refuse_malformed(d, "reserved connect flag");
    if (!will && (CONNECT_WILL_QOS(flags) != 0 || (flags & CONNECT_WILL_RETAIN) != 0))
        return refuse_malformed(d, "will QoS or will retain without a will");
    return STATUS_OK;
}

static enum status take_will(struct decoding *d, uint8_t flags, struct mqtt_will *will)
{
    will->qos = CONNECT_WILL_QOS(flags);
    will->retain = (flags & CONNECT_WILL_RETAIN) != 0;
    enum status status = take_properties(d, MQTT_IN_WILL, &will->properties);
    if (status == STATUS_OK)
        status = take_text(d, &will->topic);
    if (status == STATUS_OK)
        status = check_topic(d, will->topic);
    will->payload = field_block(&d->body);
    return status;
}

static enum status take_credentials(struct decoding *d, uint8_t flags, struct mqtt_connect *connect)
{
    connect->has_user_name = (flags & CONNECT_USER_NAME) != 0;
    connect->has_password = (flags & CONNECT_PASSWORD) != 0;
    bool may_be_missing = d->level == MQTT_LEVEL_3_1; /* 3.1: the remaining length wins over the flags */
    if (may_be_missing && d->body.rest.size == 0)
        connect->has_user_name = false;
    if (connect->has_user_name) {
        enum status status = take_text(d, &connect->user_name);
        if (status != STATUS_OK)
            return status;
    }
    if (may_be_missing && d->body.rest.size == 0)
        connect->has_password = false;
    if (connect->has_password)
        connect->password = field_block(&d->body);
    return STATUS_OK;
}

static enum status check_client_id(struct decoding *d, const struct mqtt_connect *connect)
{
    if (connect->client_id.size > 0 || d->level == MQTT_LEVEL_5)
        return STATUS_OK;
    if (d->level == MQTT_LEVEL_3_1_1 && connect->clean_start)
        return STATUS_OK;
    d->fault->answer_level = d->level;
    return refuse(d, STATUS_INVALID, REASON_CLIENT_ID_INVALID, "empty client identifier");
}

static enum status decode_connect(struct decoding *d, struct mqtt_connect *connect)
{
    *connect = (struct mqtt_connect){0};
    enum status status = take_protocol(d);
    if (status != STATUS_OK)
        return status;
    uint8_t flags = reader_u8(&d->body);
    connect->level = d->level;
    connect->keep_alive_s = field_u16(&d->body);
    connect->clean_start = (flags & CONNECT_CLEAN) != 0;
    connect->has_will = (flags & CONNECT_WILL) != 0;
    if (d->body.failed)
        return refuse_cut_off(d);
    status = check_connect_flags(d, flags);
    if (status == STATUS_OK)
        status = take_properties(d, MQTT_IN(MQTT_CONNECT), &connect->properties);
    if (status == STATUS_OK)
        status = take_text(d, &connect->client_id);
    if (status == STATUS_OK && connect->has_will)
        status = take_will(d, flags, &connect->will);
    if (status == STATUS_OK)
        status = take_credentials(d, flags, connect);
    if (status != STATUS_OK || !reader_done(&d->body))
        return status;
    if (d->level < MQTT_LEVEL_5)
        connect->properties.session_expiry_s = connect->clean_start ? 0 : UINT32_MAX;
    return check_client_id(d, connect);
}

/* ---- PUBLISH and its acknowledgements ---- */

static enum status check_topic_alias(struct decoding *d, const struct mqtt_properties *properties)
{
    if ((properties->present & MQTT_HAS(PROPERTY_TOPIC_ALIAS)) == 0)
        return STATUS_OK;
    if (properties->topic_alias == 0 || properties->topic_alias > d->options->topic_alias_max)
        return refuse(d, STATUS_PROTOCOL_ERROR, REASON_TOPIC_ALIAS_INVALID, "topic alias is 0 or above our maximum");
    return STATUS_OK;
}

static enum status decode_publish(struct decoding *d, struct mqtt_publish *publish)
{
    *publish = (struct mqtt_publish){
        .qos = FLAGS_QOS(d->flags),
        .duplicate = (d->flags & FLAG_DUPLICATE) != 0,
        .retain = (d->flags & FLAG_RETAIN) != 0,
    };
    enum status status = take_text(d, &publish->topic);
    if (status == STATUS_OK && publish->qos > 0)
        status = take_packet_id(d, &publish->packet_id);
    if (status == STATUS_OK)
        status = take_properties(d, MQTT_IN(MQTT_PUBLISH), &publish->properties);
    if (status == STATUS_OK)
        status = check_topic_alias(d, &publish->properties);
    if (status != STATUS_OK)
        return status;
    bool named_by_alias = publish->topic.size == 0 && publish->properties.topic_alias != 0;
    if (publish->topic.size == 0 && !named_by_alias)
        return refuse_protocol(d, "neither topic name nor topic alias");
    if (!named_by_alias)
        status = check_topic(d, publish->topic);
    publish->payload = reader_bytes(&d->body, d->body.rest.size);
    return status;
}

/* Reason and properties at the end of a 5.0 packet, which may leave out both, or the properties. */
static enum status take_reason(struct decoding *d, enum mqtt_type type, uint8_t *reason,
                               struct mqtt_properties *properties)
{
    *reason = REASON_SUCCESS;
    *properties = MQTT_PROPERTIES_NONE;
    if (d->level < MQTT_LEVEL_5)
        return STATUS_OK;
    if (d->body.rest.size > 0)
        *reason = reader_u8(&d->body);
    if (!mqtt_reason_from_client(type, *reason))
        return refuse_protocol(d, "reason code that does not belong into this packet");
    if (d->body.rest.size == 0)
        return STATUS_OK;
    return take_properties(d, MQTT_IN(type), properties);
}

static enum status decode_ack(struct decoding *d, enum mqtt_type type, struct mqtt_ack *ack)
{
    enum status status = take_packet_id(d, &ack->packet_id);
    if (status != STATUS_OK)
        return status;
    return take_reason(d, type, &ack->reason, &ack->properties);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

static enum status check_options(struct decoding *d, struct bytes filter, uint8_t options)
{
    if (d->level < MQTT_LEVEL_5) {
        if (options > 2)
            return refuse_malformed(d, "QoS 3, or reserved bits beside it");
        return STATUS_OK;
    }
    if ((options & 0xc0) != 0)
        return refuse_malformed(d, "reserved bits in subscription options");
    if (SUBSCRIPTION_QOS(options) == 3)
        return refuse_protocol(d, "subscription with QoS 3");
    if (SUBSCRIPTION_RETAIN_HANDLING(options) == 3)
        return refuse_protocol(d, "retain handling 3");
    if ((options & SUBSCRIPTION_NO_LOCAL) != 0 && bytes_starts_with(filter, bytes_text("$share/")))
        return refuse_protocol(d, "no local on a shared subscription");
    return STATUS_OK;
}

/* Checks the list up to the end of the packet, so that whoever walks it later can rely on it. */
static enum status take_filters(struct decoding *d, bool with_options, struct bytes *filters, uint32_t *count)
{
    *filters = d->body.rest;
    *count = 0;
    while (d->body.rest.size > 0) {
        struct bytes filter;
        enum status status = take_text(d, &filter);
        if (status != STATUS_OK)
            return status;
        if (filter.size == 0)
            return refuse(d, STATUS_PROTOCOL_ERROR, REASON_FILTER_INVALID, "empty topic filter");
        if (with_options) {
            uint8_t options = reader_u8(&d->body);
            status = d->body.failed ? refuse_cut_off(d) : check_options(d, filter, options);
        }
        if (status != STATUS_OK)
            return status;
        ++*count;
    }
    return *count > 0 ? STATUS_OK : refuse_protocol(d, "no topic filter");
}

static enum status decode_subscribe(struct decoding *d, struct mqtt_subscribe *subscribe)
{
    enum status status = take_packet_id(d, &subscribe->packet_id);
    if (status == STATUS_OK)
        status = take_properties(d, MQTT_IN(MQTT_SUBSCRIBE), &subscribe->properties);
    if (status == STATUS_OK)
        status = take_filters(d, true, &subscribe->filters, &subscribe->count);
    return status;
}

static enum status decode_unsubscribe(struct decoding *d, struct mqtt_unsubscribe *unsubscribe)
{
    enum status status = take_packet_id(d, &unsubscribe->packet_id);
    if (status == STATUS_OK)
        status = take_properties(d, MQTT_IN(MQTT_UNSUBSCRIBE), &unsubscribe->properties);
    if (status == STATUS_OK)
        status = take_filters(d, false, &unsubscribe->filters, &unsubscribe->count);
    return status;
}

bool mqtt_next_subscription(struct bytes *filters, struct mqtt_subscription *subscription)
{
    if (filters->size == 0)
        return false;
    struct reader in = reader_of(*filters);
    subscription->text = field_block(&in);
    subscription->options = reader_u8(&in);
    assert(!in.failed); /* take_filters has walked it */
    subscription->parts = (struct topic_filter){0};
    subscription->kind = topic_filter_parse(subscription->text, &subscription->parts);
    *filters = in.rest;
    return true;
}

bool mqtt_next_filter(struct bytes *filters, struct bytes *text)
{
    if (filters->size == 0)
        return false;
    struct reader in = reader_of(*filters);
    *text = field_block(&in);
    assert(!in.failed);
    *filters = in.rest;
    return true;
}

/* ---- the rest ---- */

static enum status decode_disconnect(struct decoding *d, struct mqtt_disconnect *disconnect)
{
    return take_reason(d, MQTT_DISCONNECT, &disconnect->reason, &disconnect->properties);
}

static enum status decode_auth(struct decoding *d, struct mqtt_auth *auth)
{
    enum status status = take_reason(d, MQTT_AUTH, &auth->reason, &auth->properties);
    if (status != STATUS_OK)
        return status;
    if ((auth->properties.present & MQTT_HAS(PROPERTY_AUTHENTICATION_METHOD)) == 0)
        return refuse_protocol(d, "AUTH without an authentication method");
    return STATUS_OK;
}

static enum status decode_body(struct decoding *d, struct mqtt_packet *packet)
{
    switch (packet->type) {
    case MQTT_CONNECT: return decode_connect(d, &packet->connect);
    case MQTT_PUBLISH: return decode_publish(d, &packet->publish);
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: return decode_ack(d, packet->type, &packet->ack);
    case MQTT_SUBSCRIBE: return decode_subscribe(d, &packet->subscribe);
    case MQTT_UNSUBSCRIBE: return decode_unsubscribe(d, &packet->unsubscribe);
    case MQTT_PINGREQ: return STATUS_OK;
    case MQTT_DISCONNECT: return decode_disconnect(d, &packet->disconnect);
    case MQTT_AUTH: return decode_auth(d, &packet->auth);
    case MQTT_CONNACK:
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
    case MQTT_PINGRESP: break; /* check_first_byte lets none of these through */
    }
    assert(false);
    return STATUS_MALFORMED;
}

static enum status decode_packet(struct decoding *d, struct bytes in, struct mqtt_packet *packet, size_t *size)
{
    enum status status = decode_header(d, in, &packet->type, size);
    if (status == STATUS_OK)
        status = decode_body(d, packet);
    if (status == STATUS_OK && d->body.failed)
        return refuse_cut_off(d);
    if (status == STATUS_OK && d->body.rest.size > 0)
        return refuse_malformed(d, "bytes left over behind the last field");
    return status;
}

enum status mqtt_decode(struct bytes in, const struct mqtt_decode_options *options, struct mqtt_packet *packet,
                        size_t *size, struct mqtt_fault *fault)
{
    *size = 0;
    *fault = (struct mqtt_fault){.reason = REASON_SUCCESS, .text = ""};
    struct decoding d = {.options = options, .level = options->level, .fault = fault};
    enum status status = decode_packet(&d, in, packet, size);
    if (d.level == MQTT_LEVEL_5)
        fault->answer_level = MQTT_LEVEL_5; /* 3.x: silence, but for what CONNECT has set */
    return status;
}
