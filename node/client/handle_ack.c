/* handle_ack.c — PUBACK, PUBREC and PUBCOMP: a client as subscriber. The life of a delivery is drawn in inflight.h.
 *
 * PUBACK, and PUBREC that refuses, end a delivery; the core collects those into ACK commands. A refusal (>= 0x80) is
 * proposed in the same turn, and what has been collected goes into the log right before the END of the connection, or the
 * CONNECT that takes it over at this node: so a message that was refused is not sent again (4.4.0-2), unless the client's
 * next CONNECT, at another node, comes into the log before what this node knew; then its PUBACK is as lost as if it had
 * not arrived. PUBREC is committed before PUBREL goes out, PUBCOMP before its packet id is used again. An answer that fits
 * nothing is ignored, but for PUBREC, where 5.0 has a code for it. */
#include "client_private.h"

#include "base/bug.h"

static struct delivery *find(struct client *client, uint16_t packet_id)
{
    return inflight_find_id(&client->inflight, packet_id_from(client->node->node, packet_id));
}

static void propose_delivery(struct client *client, enum command_type type, uint64_t order, struct actions *out)
{
    struct command *command = actions_propose(out, type, 0);

    command->delivery.owner = client_owner(client);
    command->delivery.order = order;
}

void handle_puback(struct client *client, const struct mqtt_ack *puback, struct actions *out)
{
    struct delivery *delivery = find(client, puback->packet_id);

    if (delivery == NULL || delivery->qos != 1 || delivery->phase != DELIVERY_SENT)
        return;
    inflight_acked(&client->inflight, delivery);
    out->delivered = true;
    out->refused = puback->reason >= REASON_FAILURE;
}

void handle_pubrec(struct client *client, const struct mqtt_ack *pubrec, struct actions *out)
{
    struct delivery *delivery = find(client, pubrec->packet_id);

    if (delivery == NULL) {
        if (client->peer.level >= MQTT_LEVEL_5 && pubrec->reason < REASON_FAILURE)
            client_send_ack(client, MQTT_PUBREL, pubrec->packet_id, REASON_PACKET_ID_NOT_FOUND, out);
        return;
    }
    if (delivery->qos != 2)
        return;
    if (delivery->phase == DELIVERY_RELEASED) {
        client_send_ack(client, MQTT_PUBREL, pubrec->packet_id, REASON_SUCCESS, out);
    } else if (delivery->phase == DELIVERY_SENT && pubrec->reason >= REASON_FAILURE) {
        inflight_acked(&client->inflight, delivery);
        out->delivered = out->refused = true;
    } else if (delivery->phase == DELIVERY_SENT) {
        delivery->phase = DELIVERY_RELEASING;
        propose_delivery(client, COMMAND_PUBREC, delivery->order, out);
        if (bug(BUG_V11_PUBREL_BEFORE_COMMIT)) {
            delivery->phase = DELIVERY_RELEASED;
            client_send_ack(client, MQTT_PUBREL, pubrec->packet_id, REASON_SUCCESS, out);
        }
    }
}

void handle_delivery_released(struct client *client, const struct effect *effect, struct actions *out)
{
    struct delivery *delivery = inflight_find_order(&client->inflight, effect->delivery.order);

    if (delivery == NULL || delivery->phase != DELIVERY_RELEASING)
        return;
    delivery->phase = DELIVERY_RELEASED;
    client_send_ack(client, MQTT_PUBREL, packet_id_at(client->node->node, packet_id_of(delivery->order)), REASON_SUCCESS, out);
}

void handle_pubcomp(struct client *client, const struct mqtt_ack *pubcomp, struct actions *out)
{
    struct delivery *delivery = find(client, pubcomp->packet_id);

    if (delivery == NULL || delivery->phase != DELIVERY_RELEASED)
        return;
    inflight_completing(&client->inflight, delivery);
    propose_delivery(client, COMMAND_PUBCOMP, delivery->order, out);
    out->delivered = true;
}

void handle_delivery_done(struct client *client, const struct effect *effect, struct actions *out)
{
    struct delivery *delivery;

    out->delivered = true;
    if (effect->delivery.order == 0) {
        inflight_acks_done(&client->inflight);
        return;
    }
    delivery = inflight_find_order(&client->inflight, effect->delivery.order);
    if (delivery != NULL && delivery->phase == DELIVERY_COMPLETING)
        inflight_done(&client->inflight, delivery);
}
