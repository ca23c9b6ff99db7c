/* property.c — the table of properties (MQTT 5.0, table 2-4) and the code that follows it.
 *
 * To add a property: its identifier and field in packet.h, its default in MQTT_PROPERTIES_NONE, and a row here: name,
 * kind of value, least and greatest value of a number, in which packets a client may send it, in which a server may,
 * and the field. Decoding, encoding, sizes, duplicates and ranges follow from the row. If it belongs to PUBLISH, ask
 * whether it travels with the message; if not, it goes into LEFT_BEHIND too. */
#include "property.h"

#include "base/topic.h"
#include "base/utf8.h"
#include "fields.h"
#include "reason.h"

#include <assert.h>
#include <string.h>

#define SUBSCRIPTION_ID_MAX 268435455u

const struct mqtt_properties MQTT_PROPERTIES_NONE = {
    .message_expiry_s = UINT32_MAX,
    .packet_size_max = MQTT_PACKET_SIZE_MAX,
    .receive_maximum = UINT16_MAX,
    .request_problem_information = 1,
    .retain_available = 1,
    .wildcards_available = 1,
    .subscription_ids_available = 1,
    .shared_available = 1,
};

enum value_kind {
    VALUE_NONE = 0, /* no such property */
    VALUE_U8,
    VALUE_U16,
    VALUE_U32,
    VALUE_VARINT,
    VALUE_TEXT,
    VALUE_BINARY,
    VALUE_PAIR,     /* two texts; the only kind that may repeat; has no field, see mqtt_next_user_property */
};

struct rule {
    const char *name;
    enum value_kind value;
    uint32_t min, max;
    uint32_t from_client, from_server; /* bits of MQTT_IN */
    size_t field;                      /* offset in struct mqtt_properties */
};

#define FIELD(name) offsetof(struct mqtt_properties, name)
#define CONNECT MQTT_IN(MQTT_CONNECT)
#define CONNACK MQTT_IN(MQTT_CONNACK)
#define PUBLISH MQTT_IN(MQTT_PUBLISH)
#define WILL MQTT_IN_WILL
#define SUBSCRIBE MQTT_IN(MQTT_SUBSCRIBE)
#define UNSUBSCRIBE MQTT_IN(MQTT_UNSUBSCRIBE)
#define SUBACKS (MQTT_IN(MQTT_SUBACK) | MQTT_IN(MQTT_UNSUBACK))
#define DISCONNECT MQTT_IN(MQTT_DISCONNECT)
#define AUTH MQTT_IN(MQTT_AUTH)
#define ACKS (MQTT_IN(MQTT_PUBACK) | MQTT_IN(MQTT_PUBREC) | MQTT_IN(MQTT_PUBREL) | MQTT_IN(MQTT_PUBCOMP))

#define U8_MAX UINT8_MAX
#define U16_MAX UINT16_MAX
#define U32_MAX UINT32_MAX

static const struct rule rules[PROPERTIES_END] = {
    [PROPERTY_PAYLOAD_FORMAT] =
        {"payload-format-indicator", VALUE_U8, 0, 1, PUBLISH | WILL, PUBLISH, FIELD(payload_format)},
    [PROPERTY_MESSAGE_EXPIRY] =
        {"message-expiry-interval", VALUE_U32, 0, U32_MAX, PUBLISH | WILL, PUBLISH, FIELD(message_expiry_s)},
    [PROPERTY_CONTENT_TYPE] =
        {"content-type", VALUE_TEXT, 0, 0, PUBLISH | WILL, PUBLISH, FIELD(content_type)},
    [PROPERTY_RESPONSE_TOPIC] =
        {"response-topic", VALUE_TEXT, 0, 0, PUBLISH | WILL, PUBLISH, FIELD(response_topic)},
    [PROPERTY_CORRELATION_DATA] =
        {"correlation-data", VALUE_BINARY, 0, 0, PUBLISH | WILL, PUBLISH, FIELD(correlation_data)},
    [PROPERTY_SUBSCRIPTION_ID] =
        {"subscription-identifier", VALUE_VARINT, 1, SUBSCRIPTION_ID_MAX, SUBSCRIBE, PUBLISH, FIELD(subscription_id)},
    [PROPERTY_SESSION_EXPIRY] =
        {"session-expiry-interval", VALUE_U32, 0, U32_MAX, CONNECT | DISCONNECT, CONNACK, FIELD(session_expiry_s)},
    [PROPERTY_ASSIGNED_CLIENT_ID] =
        {"assigned-client-identifier", VALUE_TEXT, 0, 0, 0, CONNACK, FIELD(assigned_client_id)},
    [PROPERTY_SERVER_KEEP_ALIVE] =
        {"server-keep-alive", VALUE_U16, 0, U16_MAX, 0, CONNACK, FIELD(server_keep_alive_s)},
    [PROPERTY_AUTHENTICATION_METHOD] =
        {"authentication-method", VALUE_TEXT, 0, 0, CONNECT | AUTH, CONNACK | AUTH, FIELD(authentication_method)},
    [PROPERTY_AUTHENTICATION_DATA] =
        {"authentication-data", VALUE_BINARY, 0, 0, CONNECT | AUTH, CONNACK | AUTH, FIELD(authentication_data)},
    [PROPERTY_REQUEST_PROBLEM_INFORMATION] =
        {"request-problem-information", VALUE_U8, 0, 1, CONNECT, 0, FIELD(request_problem_information)},
    [PROPERTY_WILL_DELAY] =
        {"will-delay-interval", VALUE_U32, 0, U32_MAX, WILL, 0, FIELD(will_delay_s)},
    [PROPERTY_REQUEST_RESPONSE_INFORMATION] =
        {"request-response-information", VALUE_U8, 0, 1, CONNECT, 0, FIELD(request_response_information)},
    [PROPERTY_RESPONSE_INFORMATION] =
        {"response-information", VALUE_TEXT, 0, 0, 0, CONNACK, FIELD(response_information)},
    [PROPERTY_SERVER_REFERENCE] =
        {"server-reference", VALUE_TEXT, 0, 0, 0, CONNACK | DISCONNECT, FIELD(server_reference)},
    [PROPERTY_REASON_STRING] =
        {"reason-string", VALUE_TEXT, 0, 0, ACKS | DISCONNECT | AUTH,
         CONNACK | ACKS | SUBACKS | DISCONNECT | AUTH, FIELD(reason_string)},
    [PROPERTY_RECEIVE_MAXIMUM] =
        {"receive-maximum", VALUE_U16, 1, U16_MAX, CONNECT, CONNACK, FIELD(receive_maximum)},
    [PROPERTY_TOPIC_ALIAS_MAXIMUM] =
        {"topic-alias-maximum", VALUE_U16, 0, U16_MAX, CONNECT, CONNACK, FIELD(topic_alias_max)},
    [PROPERTY_TOPIC_ALIAS] =
        {"topic-alias", VALUE_U16, 0, U16_MAX, PUBLISH, PUBLISH, FIELD(topic_alias)}, /* decode.c refuses 0 */
    [PROPERTY_MAXIMUM_QOS] =
        {"maximum-qos", VALUE_U8, 0, 1, 0, CONNACK, FIELD(maximum_qos)},
    [PROPERTY_RETAIN_AVAILABLE] =
        {"retain-available", VALUE_U8, 0, 1, 0, CONNACK, FIELD(retain_available)},
    [PROPERTY_USER] =
        {"user-property", VALUE_PAIR, 0, 0,
         CONNECT | WILL | PUBLISH | ACKS | SUBSCRIBE | UNSUBSCRIBE | DISCONNECT | AUTH,
         CONNACK | PUBLISH | ACKS | SUBACKS | DISCONNECT | AUTH, 0},
    [PROPERTY_PACKET_SIZE_MAX] =
        {"maximum-packet-size", VALUE_U32, 1, U32_MAX, CONNECT, CONNACK, FIELD(packet_size_max)},
    [PROPERTY_WILDCARDS_AVAILABLE] =
        {"wildcard-subscription-available", VALUE_U8, 0, 1, 0, CONNACK, FIELD(wildcards_available)},
    [PROPERTY_SUBSCRIPTION_IDS_AVAILABLE] =
        {"subscription-identifiers-available", VALUE_U8, 0, 1, 0, CONNACK, FIELD(subscription_ids_available)},
    [PROPERTY_SHARED_AVAILABLE] =
        {"shared-subscription-available", VALUE_U8, 0, 1, 0, CONNACK, FIELD(shared_available)},
};

/* What concerns only the packet, and not the message in it. */
#define LEFT_BEHIND (MQTT_HAS(PROPERTY_MESSAGE_EXPIRY) | MQTT_HAS(PROPERTY_TOPIC_ALIAS) \
                     | MQTT_HAS(PROPERTY_SUBSCRIPTION_ID) | MQTT_HAS(PROPERTY_WILL_DELAY))

static const struct rule *find_rule(uint32_t property)
{
    bool known = property < PROPERTIES_END && rules[property].value != VALUE_NONE;
    return known ? &rules[property] : NULL;
}

/* ---- decoding ---- */

/* One property as it stands in a block. */
struct property {
    uint32_t id;
    const struct rule *rule;
    uint32_t number;          /* VALUE_U8 to VALUE_VARINT */
    struct bytes text;        /* VALUE_TEXT to VALUE_PAIR (the name) */
    struct bytes second;      /* VALUE_PAIR: the value */
    struct bytes whole;       /* identifier and value */
};

/* Takes a property off the front; false if it is cut off, too long in its numbers, or unknown (then rule is NULL). */
static bool take_property(struct reader *in, struct property *property)
{
    const uint8_t *start = in->rest.data;
    *property = (struct property){.id = field_varint(in)};
    if (in->failed)
        return false;
    property->rule = find_rule(property->id);
    if (property->rule == NULL)
        return false;
    switch (property->rule->value) {
    case VALUE_NONE: break;
    case VALUE_U8: property->number = reader_u8(in); break;
    case VALUE_U16: property->number = field_u16(in); break;
    case VALUE_U32: property->number = field_u32(in); break;
    case VALUE_VARINT: property->number = field_varint(in); break;
    case VALUE_TEXT:
    case VALUE_BINARY: property->text = field_block(in); break;
    case VALUE_PAIR:
        property->text = field_block(in);
        property->second = field_block(in);
        break;
    }
    property->whole = bytes_of(start, (size_t)(in->rest.data - start));
    return !in->failed;
}

static enum status refuse(struct mqtt_fault *fault, enum status status, uint8_t reason, const char *text)
{
    fault->reason = reason;
    fault->text = text;
    return status;
}

static enum status refuse_malformed(struct mqtt_fault *fault, const char *text)
{
    return refuse(fault, STATUS_MALFORMED, REASON_MALFORMED_PACKET, text);
}

static enum status refuse_protocol(struct mqtt_fault *fault, const char *text)
{
    return refuse(fault, STATUS_PROTOCOL_ERROR, REASON_PROTOCOL_ERROR, text);
}

/* Whether this property may stand here, with this value, given those that were `present` before it. */
static enum status check_property(const struct property *property, uint32_t where, uint64_t present,
                                  struct mqtt_fault *fault)
{
    const struct rule *rule = property->rule;
    if ((rule->from_client & where) == 0) {
        if ((rule->from_server & where) != 0)
            return refuse_protocol(fault, "property that only a server may send");
        return refuse_malformed(fault, "property that does not belong into this packet");
    }
    if (rule->value != VALUE_PAIR && (present & MQTT_HAS(property->id)) != 0)
        return refuse_protocol(fault, "property is there twice");

    switch (rule->value) {
    case VALUE_NONE:
    case VALUE_BINARY: break;
    case VALUE_U8:
    case VALUE_U16:
    case VALUE_U32:
    case VALUE_VARINT:
        if (property->number < rule->min || property->number > rule->max)
            return refuse_protocol(fault, "value of a property is out of range");
        break;
    case VALUE_TEXT:
    case VALUE_PAIR:
        if (!utf8_valid(property->text) || !utf8_valid(property->second))
            return refuse_malformed(fault, "property is not valid UTF-8");
        break;
    }
    if (property->id == PROPERTY_RESPONSE_TOPIC) {
        enum status status = topic_name_check(property->text);
        if (status == STATUS_MALFORMED || status == STATUS_INVALID) /* too deep for us need not be so for others */
            return refuse_protocol(fault, "response topic is empty or has a wildcard");
    }
    return STATUS_OK;
}

static void store_property(const struct property *property, struct mqtt_properties *properties)
{
    uint8_t *field = (uint8_t *)properties + property->rule->field;
    uint16_t u16 = (uint16_t)property->number;
    switch (property->rule->value) {
    case VALUE_NONE:
    case VALUE_PAIR: break; /* read from the block by those who want them */
    case VALUE_U8: *field = (uint8_t)property->number; break;
    case VALUE_U16: memcpy(field, &u16, sizeof u16); break;
    case VALUE_U32:
    case VALUE_VARINT: memcpy(field, &property->number, sizeof property->number); break;
    case VALUE_TEXT:
    case VALUE_BINARY: memcpy(field, &property->text, sizeof property->text); break;
    }
    properties->present |= MQTT_HAS(property->id);
}

/* Values that mean the same to us but are easier to live with (see packet.h). */
static void tame_values(struct mqtt_properties *properties)
{
    bool expires = (properties->present & MQTT_HAS(PROPERTY_MESSAGE_EXPIRY)) != 0;
    if (expires && properties->message_expiry_s == UINT32_MAX)
        properties->message_expiry_s = UINT32_MAX - 1; /* one second less in 136 years, so that UINT32_MAX is "none" */
    if (properties->packet_size_max > MQTT_PACKET_SIZE_MAX)
        properties->packet_size_max = MQTT_PACKET_SIZE_MAX;
}

enum status mqtt_properties_decode(struct bytes block, uint32_t where, struct mqtt_properties *properties,
                                   struct mqtt_fault *fault)
{
    *properties = MQTT_PROPERTIES_NONE;
    properties->block = block;
    struct reader in = reader_of(block);
    while (in.rest.size > 0) {
        struct property property;
        bool whole = take_property(&in, &property), unknown = !whole && !in.failed;
        fault->property = property.rule != NULL ? property.rule->name : NULL;
        if (!whole)
            return refuse_malformed(fault, unknown ? "unknown property" : "property is cut off or badly encoded");
        enum status status = check_property(&property, where, properties->present, fault);
        if (status != STATUS_OK)
            return status;
        store_property(&property, properties);
    }
    fault->property = NULL;
    bool has_method = (properties->present & MQTT_HAS(PROPERTY_AUTHENTICATION_METHOD)) != 0;
    bool has_data = (properties->present & MQTT_HAS(PROPERTY_AUTHENTICATION_DATA)) != 0;
    if (has_data && !has_method)
        return refuse_protocol(fault, "authentication data without a method");
    tame_values(properties);
    return STATUS_OK;
}

/* ---- what travels with a message ---- */

struct bytes mqtt_properties_passed_on(const struct mqtt_properties *properties, struct buffer *scratch)
{
    if ((properties->present & LEFT_BEHIND) == 0)
        return properties->block;

    /* Neighbours that stay form a span; if there is only one span it can be borrowed. */
    buffer_clear(scratch);
    struct bytes span = {0};
    struct reader in = reader_of(properties->block);
    struct property property;
    while (in.rest.size > 0 && take_property(&in, &property)) {
        if ((LEFT_BEHIND & MQTT_HAS(property.id)) != 0)
            continue;
        if (span.size > 0 && span.data + span.size == property.whole.data) {
            span.size += property.whole.size;
            continue;
        }
        buffer_put_bytes(scratch, span);
        span = property.whole;
    }
    if (scratch->size == 0)
        return span;
    buffer_put_bytes(scratch, span);
    return buffer_bytes(scratch);
}

bool mqtt_next_user_property(struct bytes *block, struct mqtt_user_property *property)
{
    struct reader in = reader_of(*block);
    struct property next;
    bool found = false;
    while (!found && in.rest.size > 0 && take_property(&in, &next)) {
        found = next.id == PROPERTY_USER;
        if (found)
            *property = (struct mqtt_user_property){next.text, next.second};
    }
    *block = in.rest;
    return found;
}

/* ---- encoding ---- */

static uint32_t number_of(const struct mqtt_properties *properties, const struct rule *rule)
{
    const uint8_t *field = (const uint8_t *)properties + rule->field;
    uint32_t u32;
    uint16_t u16;
    if (rule->value == VALUE_U8)
        return *field;
    if (rule->value == VALUE_U16) {
        memcpy(&u16, field, sizeof u16);
        return u16;
    }
    memcpy(&u32, field, sizeof u32);
    return u32;
}

static struct bytes bytes_field(const struct mqtt_properties *properties, const struct rule *rule)
{
    struct bytes bytes;
    memcpy(&bytes, (const uint8_t *)properties + rule->field, sizeof bytes);
    return bytes;
}

static size_t property_size(const struct mqtt_properties *properties, const struct rule *rule)
{
    switch (rule->value) {
    case VALUE_NONE:
    case VALUE_PAIR: return 0;
    case VALUE_U8: return 1 + 1;
    case VALUE_U16: return 1 + 2;
    case VALUE_U32: return 1 + 4;
    case VALUE_VARINT: return 1 + field_varint_size(number_of(properties, rule));
    case VALUE_TEXT:
    case VALUE_BINARY: return 1 + 2 + bytes_field(properties, rule).size;
    }
    return 0;
}

static void put_property(uint8_t id, const struct mqtt_properties *properties, const struct rule *rule,
                         struct buffer *out)
{
    buffer_put_u8(out, id);
    switch (rule->value) {
    case VALUE_NONE:
    case VALUE_PAIR: break;
    case VALUE_U8: buffer_put_u8(out, (uint8_t)number_of(properties, rule)); break;
    case VALUE_U16: field_put_u16(out, (uint16_t)number_of(properties, rule)); break;
    case VALUE_U32: field_put_u32(out, number_of(properties, rule)); break;
    case VALUE_VARINT: field_put_varint(out, number_of(properties, rule)); break;
    case VALUE_TEXT:
    case VALUE_BINARY: field_put_block(out, bytes_field(properties, rule)); break;
    }
}

/* The properties to be encoded from fields, as bits; user properties come from the block. */
static uint64_t fields_present(const struct mqtt_properties *properties)
{
    return properties->present & ~MQTT_HAS(PROPERTY_USER);
}

size_t mqtt_properties_size(const struct mqtt_properties *properties)
{
    size_t size = properties->block.size;
    for (uint64_t left = fields_present(properties); left != 0; left &= left - 1)
        size += property_size(properties, &rules[__builtin_ctzll(left)]);
    return size;
}

void mqtt_properties_encode(const struct mqtt_properties *properties, struct buffer *out)
{
    for (uint64_t left = fields_present(properties); left != 0; left &= left - 1) {
        unsigned id = (unsigned)__builtin_ctzll(left);
        assert(find_rule(id) != NULL);
        put_property((uint8_t)id, properties, &rules[id], out);
    }
    buffer_put_bytes(out, properties->block);
}

bool mqtt_properties_from_server(const struct mqtt_properties *properties, uint32_t where)
{
    for (uint64_t left = fields_present(properties); left != 0; left &= left - 1) {
        const struct rule *rule = find_rule((uint32_t)__builtin_ctzll(left));
        if (rule == NULL || (rule->from_server & where) == 0)
            return false;
    }
    return true;
}
