/* handle_publish.c — PUBLISH and PUBREL: a client as publisher.
 *
 *   QoS 0      routed at once; retained: a command besides, which only sets the register
 *   QoS 1, 2   a command; its outcome is PUBACK, or PUBREC. Outcomes come in the order of proposing, so answers do too
 *   PUBREL     a command; its outcome is PUBCOMP
 *
 * A topic alias is resolved before anything else looks at the packet; that it is within our maximum, the codec has
 * checked. */
#include "client_private.h"

#include "base/bug.h"

#include "usages.h"

#include "node/mqtt/property.h"

#include <assert.h>


/* False: the client has more unanswered than it was allowed. Clients of 3.x were told no limit and are not counted. */
static bool receive_quota(struct client *client, const struct mqtt_publish *publish)
{
    if (publish->qos == 0 || client->peer.level < MQTT_LEVEL_5)
        return true;
    if (publish->qos == 1)
        client->received.unanswered++;
    else
        received_open(&client->received, publish->packet_id); /* sent again while it is open: counted once */
    return received_count(&client->received) <= client->node->limits.receive_maximum;
}

/* The topic that is meant, *topic. A new alias is noted. False: the connection is being closed. */
static bool resolve_alias(struct client *client, const struct mqtt_publish *publish, struct bytes *topic,
                          struct actions *out)
{
    struct client_node *node = client->node;
    uint16_t alias = publish->properties.topic_alias;
    struct client_extras *extras;

    *topic = publish->topic;
    if (publish->topic.size == 0) {
        if (client->extras != NULL)
            *topic = aliases_topic(client->extras->aliases_received, alias);
        if (topic->size == 0)
            client_fail_because(client, REASON_PROTOCOL_ERROR, "topic alias that was never given a topic", out);
        return topic->size > 0;
    }
    extras = client_extras(client);
    node->alias_bytes -= aliases_bytes(extras->aliases_received);
    if (extras->aliases_received == NULL)
        extras->aliases_received = aliases_new((uint16_t)node->capabilities.topic_alias_max);
    aliases_set(extras->aliases_received, alias, publish->topic);
    node->alias_bytes += aliases_bytes(extras->aliases_received);
    if (node->alias_bytes <= node->limits.memory_bytes_max / ALIASES_MEMORY_PART ||
        aliases_bytes(extras->aliases_received) <= ALIASES_BYTES_FREE)
        return true;
    client_end(client, CLIENT_END_QUOTA, out);
    return false;
}

static void fill_message(const struct client *client, const struct mqtt_publish *publish, struct bytes topic,
                         struct bytes properties, struct message *message)
{
    *message = (struct message){
        .topic = topic,
        .payload = publish->payload,
        .properties = properties,
        .origin_session = client->session_id,
        .qos = publish->qos,
        .retain = publish->retain,
    };
}

/* Topics that are not for clients to write: who publishes there is told no, or 3.x yes, and nothing happens (4.7.2,
 * 3.3.5-2). */
bool topic_is_reserved(struct bytes topic)
{
    return topic.data[0] == '$';
}

static void answer_no(struct client *client, const struct mqtt_publish *publish, uint8_t reason, struct actions *out)
{
    if (publish->qos > 0)
        client_send_ack(client, publish->qos == 1 ? MQTT_PUBACK : MQTT_PUBREC, publish->packet_id, reason, out);
}

/* The client may not publish this. 3.x has no word for that: it is told yes, as other servers do, or disconnected. */
static void refuse_topic(struct client *client, const struct mqtt_publish *publish, bool reserved, struct actions *out)
{
    if (reserved)
        client->node->stats.reserved_topics++;
    else
        client->node->stats.publishes_denied++;
    if (client->node->close_on_denied && !reserved)
        client_fail(client, REASON_NOT_AUTHORIZED, out);
    else
        answer_no(client, publish, client->peer.level >= MQTT_LEVEL_5 ? REASON_NOT_AUTHORIZED : REASON_SUCCESS, out);
}

/* A QoS 2 PUBLISH that was published when it came first, and is sent again: only its handshake goes on. */
static bool is_begun(const struct client *client, const struct mqtt_publish *publish)
{
    return publish->qos == 2 && state_inbound_open(client->node->state, client->session_id, publish->packet_id);
}

/* Its user, or all clients of its listener, publish more than they may. */
static void refuse_rate(struct client *client, const struct mqtt_publish *publish, struct actions *out)
{
    if (publish->qos > 0 && client->peer.level < MQTT_LEVEL_5)
        client_fail(client, REASON_QUOTA_EXCEEDED, out); /* yes would be a lie */
    else
        answer_no(client, publish, REASON_QUOTA_EXCEEDED, out);
}

void handle_publish(struct client *client, const struct mqtt_publish *publish, struct actions *out)
{
    struct bytes properties, topic = publish->topic;
    uint8_t refused = capabilities_check_publish(client, publish);

    client->node->stats.messages_in[publish->qos]++;
    if (refused != REASON_SUCCESS) {
        client_fail(client, refused, out);
        return;
    }
    if (publish->properties.topic_alias != 0 && !resolve_alias(client, publish, &topic, out))
        return;
    if (topic_is_reserved(topic)) {
        refuse_topic(client, publish, true, out);
        return;
    }
    if (access_on(client->node) && !client_may(client, RIGHT_PUBLISH, topic) && !is_begun(client, publish)) {
        refuse_topic(client, publish, false, out);
        return;
    }
    if (!usage_publish(client, publish->payload.size, client->packet_ms)) {
        refuse_rate(client, publish, out);
        return;
    }
    if (!receive_quota(client, publish)) {
        client_count_limit(client->node, LIMIT_RECEIVE_MAXIMUM);
        client_fail(client, REASON_RECEIVE_MAXIMUM_EXCEEDED, out);
        return;
    }
    properties = mqtt_properties_passed_on(&publish->properties, &out->text);
    if (publish->qos == 0) {
        fill_message(client, publish, topic, properties, &out->message);
        out->message_expiry_s = publish->properties.message_expiry_s;
        out->publish = true;
    }
    if (publish->qos > 0 || publish->retain) {
        uint32_t tag = publish->packet_id | (publish->qos == 2 ? TAG_QOS_2 : 0);
        struct command_publish *command = &actions_propose(out, COMMAND_PUBLISH, tag)->publish;

        command->owner = client_owner(client);
        command->packet_id = publish->qos == 2 ? publish->packet_id : 0;
        command->register_only = publish->qos == 0;
        command->message_expiry_s = publish->properties.message_expiry_s;
        fill_message(client, publish, topic, properties, &command->message);
        if (bug(BUG_V01_ACK_BEFORE_COMMIT))
            handle_published(client, &(struct effect){.outcome = OUTCOME_DONE}, tag, out);
    }
}

static void answer_qos1(struct client *client, uint16_t packet_id, uint8_t reason, struct actions *out)
{
    if (client->peer.level >= MQTT_LEVEL_5) {
        assert(client->received.unanswered > 0);
        client->received.unanswered--;
    }
    client_send_ack(client, MQTT_PUBACK, packet_id, reason, out);
}

void handle_published(struct client *client, const struct effect *effect, uint32_t tag, struct actions *out)
{
    uint16_t packet_id = TAG_PACKET_ID(tag);
    bool qos2 = (tag & TAG_QOS_2) != 0;
    uint8_t reason = REASON_SUCCESS;

    if (packet_id == 0)
        return; /* a retained QoS 0 */
    if (effect->outcome == OUTCOME_NO_SUBSCRIBERS)
        reason = REASON_NO_MATCHING_SUBSCRIBERS;
    if (effect->outcome == OUTCOME_QUOTA) {
        client_count_limit(client->node, LIMIT_PUBLISH_QUOTA);
        if (client->peer.level < MQTT_LEVEL_5) { /* 3.x has no word for no; and yes would be a lie */
            client_fail(client, REASON_QUOTA_EXCEEDED, out);
            return;
        }
        reason = REASON_QUOTA_EXCEEDED;
        if (qos2)
            received_close(&client->received, packet_id);
    }
    if (qos2)
        client_send_ack(client, MQTT_PUBREC, packet_id, reason, out);
    else
        answer_qos1(client, packet_id, reason, out);
}

void handle_pubrel(struct client *client, const struct mqtt_ack *pubrel, struct actions *out)
{
    struct command_pubrel *command = &actions_propose(out, COMMAND_PUBREL, pubrel->packet_id)->pubrel;

    command->owner = client_owner(client);
    command->packet_id = pubrel->packet_id;
}

void handle_released(struct client *client, const struct effect *effect, uint32_t tag, struct actions *out)
{
    uint16_t packet_id = TAG_PACKET_ID(tag);
    uint8_t reason = effect->outcome == OUTCOME_DUPLICATE ? REASON_PACKET_ID_NOT_FOUND : REASON_SUCCESS;

    received_close(&client->received, packet_id);
    client_send_ack(client, MQTT_PUBCOMP, packet_id, reason, out);
}
