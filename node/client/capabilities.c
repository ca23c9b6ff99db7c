/* capabilities.c — see capabilities.h.
 *
 * A client of 5.0 has been told in CONNACK, so to ask all the same is a protocol error that ends its connection. One of
 * 3.x cannot be told: its connection is closed for a PUBLISH, a filter gets the failure code. */
#include "capabilities.h"

#include "base/utf8.h"
#include "client_private.h"

#include <string.h>

const struct core_capabilities CORE_CAPABILITIES_DEFAULT = {
    .topic_alias_max = 32,
    .maximum_qos = 2,
    .retain_available = true,
    .wildcards_available = true,
    .subscription_ids_available = true,
    .user_properties_max = 1000,
    .topic_levels_max = TOPIC_LEVELS_MAX,
    .filters_max = 5000,
    .sys_interval_s = 10,
};

/* ---- told ---- */

static void announce_limits(const struct client *client, struct mqtt_properties *properties)
{
    const struct client_node *node = client->node;
    if (node->limits.receive_maximum != UINT16_MAX) {
        properties->receive_maximum = node->limits.receive_maximum;
        properties->present |= MQTT_HAS(PROPERTY_RECEIVE_MAXIMUM);
    }
    if (client_packet_bytes_max(client) < MQTT_PACKET_SIZE_MAX) {
        properties->packet_size_max = client_packet_bytes_max(client);
        properties->present |= MQTT_HAS(PROPERTY_PACKET_SIZE_MAX);
    }
    if (node->capabilities.topic_alias_max > 0) {
        properties->topic_alias_max = (uint16_t)node->capabilities.topic_alias_max;
        properties->present |= MQTT_HAS(PROPERTY_TOPIC_ALIAS_MAXIMUM);
    }
}

/* A property that is only there to say no. */
static void announce_missing(bool available, uint8_t *field, enum mqtt_property property,
                             struct mqtt_properties *properties)
{
    if (available)
        return;
    *field = 0;
    properties->present |= MQTT_HAS(property);
}

void capabilities_announce(const struct client *client, struct mqtt_properties *properties)
{
    const struct core_capabilities *offered = &client->node->capabilities;
    bool informs = offered->response_information != NULL && offered->response_information[0] != 0;

    announce_limits(client, properties);
    if (offered->maximum_qos < 2) {
        properties->maximum_qos = (uint8_t)offered->maximum_qos;
        properties->present |= MQTT_HAS(PROPERTY_MAXIMUM_QOS);
    }
    announce_missing(offered->retain_available, &properties->retain_available, PROPERTY_RETAIN_AVAILABLE, properties);
    announce_missing(offered->wildcards_available, &properties->wildcards_available, PROPERTY_WILDCARDS_AVAILABLE,
                     properties);
    announce_missing(offered->subscription_ids_available, &properties->subscription_ids_available,
                     PROPERTY_SUBSCRIPTION_IDS_AVAILABLE, properties);
    if (client->wants_response_information && informs) {
        properties->response_information = bytes_text(offered->response_information);
        properties->present |= MQTT_HAS(PROPERTY_RESPONSE_INFORMATION);
    }
}

/* ---- refused ---- */

uint8_t capabilities_check_connect(const struct client *client, const struct mqtt_connect *connect)
{
    const struct core_capabilities *offered = &client->node->capabilities;

    if (!connect->has_will)
        return REASON_SUCCESS;
    if (connect->will.qos > offered->maximum_qos)
        return REASON_QOS_NOT_SUPPORTED;
    if (connect->will.retain && !offered->retain_available)
        return REASON_RETAIN_NOT_SUPPORTED;
    return REASON_SUCCESS;
}

/* What is deeper than TOPIC_LEVELS_MAX the codec does not let through. */
static bool too_deep(const struct client *client, struct bytes topic)
{
    uint32_t max = client->node->capabilities.topic_levels_max;

    if (max >= TOPIC_LEVELS_MAX || topic_level_count(topic) <= max)
        return false;
    client_count_limit(client->node, LIMIT_TOPIC_LEVELS);
    return true;
}

uint8_t capabilities_check_publish(const struct client *client, const struct mqtt_publish *publish)
{
    const struct core_capabilities *offered = &client->node->capabilities;

    if (publish->qos > offered->maximum_qos)
        return REASON_QOS_NOT_SUPPORTED;
    if (publish->retain && !offered->retain_available)
        return REASON_RETAIN_NOT_SUPPORTED;
    if (offered->payload_format_checked && publish->properties.payload_format == 1 && !utf8_valid(publish->payload))
        return REASON_PAYLOAD_FORMAT_INVALID;
    if (too_deep(client, publish->topic))
        return REASON_TOPIC_INVALID;
    return REASON_SUCCESS;
}

uint8_t capabilities_check_subscribe(const struct client *client, const struct mqtt_subscribe *subscribe)
{
    struct bytes rest = subscribe->filters;
    struct mqtt_subscription subscription;
    uint8_t reason = REASON_SUCCESS;

    if (subscribe->properties.subscription_id != 0 && !client->node->capabilities.subscription_ids_available)
        return REASON_SUBSCRIPTION_IDS_NOT_SUPPORTED;
    if (client->node->capabilities.wildcards_available || client->peer.level < MQTT_LEVEL_5)
        return REASON_SUCCESS;
    while (reason == REASON_SUCCESS && mqtt_next_subscription(&rest, &subscription)) {
        if (subscription.kind != TOPIC_FILTER_INVALID && topic_filter_has_wildcard(subscription.parts.filter))
            reason = REASON_WILDCARDS_NOT_SUPPORTED;
    }
    return reason;
}

uint8_t capabilities_check_filter(const struct client *client, const struct mqtt_subscription *subscription)
{
    bool valid = subscription->kind != TOPIC_FILTER_INVALID;

    if (valid && !client->node->capabilities.wildcards_available &&
        topic_filter_has_wildcard(subscription->parts.filter))
        return REASON_WILDCARDS_NOT_SUPPORTED;
    if (valid && too_deep(client, subscription->parts.filter))
        return REASON_FILTER_INVALID;
    return REASON_SUCCESS;
}
