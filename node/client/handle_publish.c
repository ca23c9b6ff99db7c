/* handle_publish.c — PUBLISH and PUBREL: a client as publisher.
 *
 *   QoS 0      routed at once; retained: a command besides, which only sets the register
 *   QoS 1, 2   a command; its outcome is PUBACK, or PUBREC. Outcomes come in the order of proposing, so answers do too
 *   PUBREL     a command; its outcome is PUBCOMP
 *
 * A place for topic aliases: the codec refuses them as long as we announce none. */
#include "client_private.h"

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

static void fill_message(const struct client *client, const struct mqtt_publish *publish, struct bytes properties,
                         struct message *message)
{
    *message = (struct message){
        .topic = publish->topic,
        .payload = publish->payload,
        .properties = properties,
        .origin_session = client->session_id,
        .qos = publish->qos,
        .retain = publish->retain,
    };
}

void handle_publish(struct client *client, const struct mqtt_publish *publish, struct actions *out)
{
    struct bytes properties;

    client->node->stats.messages_in[publish->qos]++;
    if (!receive_quota(client, publish)) {
        client_fail(client, REASON_RECEIVE_MAXIMUM_EXCEEDED, out);
        return;
    }
    properties = mqtt_properties_passed_on(&publish->properties, &out->text);
    if (publish->qos == 0) {
        fill_message(client, publish, properties, &out->message);
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
        fill_message(client, publish, properties, &command->message);
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
