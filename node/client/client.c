/* client.c — see client.h: dispatch, and everything that ends a connection.
 *
 * How a connection ends:
 *   - the client says DISCONNECT: END is proposed, the socket stays until it is applied (G7: from then on no will)
 *   - anything else: END with the will is proposed and the socket closed at once, after a DISCONNECT for 5.0
 *   - before CONNECTED there is no session to end. If CONNECT is on its way, its outcome proposes the END. */
#include "client_private.h"

#include "login.h"
#include "usages.h"

#include "base/bug.h"
#include "base/memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAULT_TEXT_MAX 128

struct client *client_new(struct client_node *node, uint64_t number, void *conn, const struct core_origin *origin,
                          uint64_t now_ms)
{
    struct client *client = memory_zeroed(1, sizeof(*client));

    client->number = number;
    client->conn = conn;
    client->node = node;
    client->listener = origin->listener;
    if (origin->certificate_user != NULL)
        client_extras(client)->certificate_user = memory_text(origin->certificate_user);
    if (origin->psk_identity != NULL)
        client_extras(client)->psk_identity = memory_text(origin->psk_identity);
    client->opened_ms = now_ms;
    client->packet_ms = now_ms;
    client->phase = CLIENT_NEW;
    client->socket_open = true;
    client->peer.packet_size_max = MQTT_PACKET_SIZE_MAX;
    return client;
}

struct client_extras *client_extras(struct client *client)
{
    if (client->extras == NULL)
        client->extras = memory_zeroed(1, sizeof(*client->extras));
    return client->extras;
}

static void extras_free(struct client *client)
{
    struct client_extras *extras = client->extras;

    if (extras == NULL)
        return;
    client->node->alias_bytes -= aliases_bytes(extras->aliases_received) + aliases_bytes(extras->aliases_sent);
    aliases_free(extras->aliases_received);
    aliases_free(extras->aliases_sent);
    authentication_free(extras->authentication);
    client->node->extras_bytes -= extras->connect.size;
    buffer_release(&extras->connect);
    free(extras->certificate_user);
    free(extras->psk_identity);
    if (!extras->login_running)
        login_free(extras->login);
    client_rights_free(extras->rights);
    usage_end(client);
    free(extras);
}

void client_free(struct client *client, struct outbox_pool *pool)
{
    assert(client->timer.link == NULL);
    while (client->codes != NULL) {
        struct pending_codes *codes = client->codes;

        client->codes = codes->next;
        pending_codes_free(codes);
    }
    extras_free(client);
    inflight_release(&client->inflight);
    received_release(&client->received);
    buffer_release(&client->input);
    outbox_release(pool, &client->outbox);
    free(client->client_id);
    free(client);
}

void client_sent(struct client *client, bool appended, struct actions *out)
{
    (void)client;
    if (appended)
        out->packets_out++;
}

void client_send_ack(struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                     struct actions *out)
{
    client_sent(client, mqtt_encode_ack(&client->peer, type, packet_id, reason, &out->out), out);
}

/* ---- endings ---- */

/* Whether the ACL file, which other nodes do not know, lets the will be published now. Roles are the state machine's. */
static bool will_permitted(const struct client *client)
{
    const struct client_node *node = client->node;
    struct names names;
    struct bytes topic;

    return node->acl == NULL ||
           !state_will_topic(node->state, client->session_id, client->client_epoch, &topic, &names) ||
           access_will_by_file(node, &names, topic);
}

void client_propose_end(struct client *client, enum end_cause cause, struct actions *out)
{
    struct command *command;

    if (client->no_end || client->client_epoch == 0)
        return;
    client->no_end = true;
    command = actions_propose(out, COMMAND_END, 0);
    command->end.owner = client_owner(client);
    command->end.cause = (uint8_t)(cause == END_WITH_WILL && !will_permitted(client) ? END_CLEAN : cause);
}

void client_close(struct client *client, enum close_how how, struct actions *out)
{
    client->node->stats.clients -= client->phase == CLIENT_CONNECTED;
    client->phase = CLIENT_CLOSED;
    out->close = how;
}

void client_explain(const struct client *client, const char *why, struct mqtt_properties *properties)
{
    if (why == NULL || client->peer.level < MQTT_LEVEL_5 || !client->peer.problem_information)
        return;
    properties->reason_string = bytes_text(why);
    properties->present |= MQTT_HAS(PROPERTY_REASON_STRING);
}

static void send_disconnect(struct client *client, uint8_t reason, bool with_reference, const char *why,
                            struct actions *out)
{
    struct mqtt_disconnect disconnect = {.reason = reason, .properties = MQTT_PROPERTIES_NONE};

    if (client->phase != CLIENT_CONNECTED || client->peer.level < MQTT_LEVEL_5)
        return;
    if (with_reference) {
        disconnect.properties.server_reference = buffer_bytes(&client->node->server_reference);
        disconnect.properties.present = MQTT_HAS(PROPERTY_SERVER_REFERENCE);
    }
    client_explain(client, why, &disconnect.properties);
    client_sent(client, mqtt_encode_disconnect(&client->peer, &disconnect, &out->out), out);
}

void client_fail_because(struct client *client, uint8_t reason, const char *why, struct actions *out)
{
    client->node->stats.protocol_errors++;
    send_disconnect(client, reason, false, why, out);
    client_propose_end(client, END_WITH_WILL, out);
    client_close(client, CLOSE_FLUSH, out);
}

void client_fail(struct client *client, uint8_t reason, struct actions *out)
{
    client_fail_because(client, reason, NULL, out);
}

/* The reason of a DISCONNECT for an ending of ours. */
static uint8_t end_reason(const struct client *client, enum client_end why)
{
    switch (why) {
    case CLIENT_END_TAKEN_OVER: return REASON_SESSION_TAKEN_OVER;
    case CLIENT_END_KEEP_ALIVE: return REASON_KEEP_ALIVE_TIMEOUT;
    case CLIENT_END_SHUTTING_DOWN: return REASON_SERVER_SHUTTING_DOWN;
    case CLIENT_END_UNAVAILABLE:
        return client->node->server_reference.size > 0 ? REASON_USE_ANOTHER_SERVER : REASON_SERVER_BUSY;
    case CLIENT_END_QUOTA: return REASON_QUOTA_EXCEEDED;
    case CLIENT_END_NOT_AUTHORIZED: return REASON_NOT_AUTHORIZED;
    case CLIENT_END_EXPIRED: return REASON_MAXIMUM_CONNECT_TIME;
    case CLIENT_END_NO_PACKET_ID:
    case CLIENT_END_GONE: return REASON_UNSPECIFIED_ERROR;
    }
    return REASON_UNSPECIFIED_ERROR;
}

/* The reason of a CONNACK for it: the client is not connected yet, and CONNACK does not know all codes. */
static uint8_t refusal_reason(const struct client *client, enum client_end why)
{
    switch (why) {
    case CLIENT_END_QUOTA: return REASON_QUOTA_EXCEEDED;
    case CLIENT_END_NOT_AUTHORIZED:
    case CLIENT_END_EXPIRED: return REASON_NOT_AUTHORIZED;
    case CLIENT_END_UNAVAILABLE:
    case CLIENT_END_SHUTTING_DOWN:
        return client->node->server_reference.size > 0 ? REASON_USE_ANOTHER_SERVER : REASON_SERVER_UNAVAILABLE;
    case CLIENT_END_TAKEN_OVER:
    case CLIENT_END_KEEP_ALIVE:
    case CLIENT_END_NO_PACKET_ID:
    case CLIENT_END_GONE: return REASON_UNSPECIFIED_ERROR;
    }
    return REASON_UNSPECIFIED_ERROR;
}

/* Its CONNECT is on the way: it may still become the owner, and with Clean Start end the session that there is. So it is not told
 * no, which would say that nothing has happened; nor has it been told yes, so that it leaves no will. */
static void give_up_connect(struct client *client, struct actions *out)
{
    client->node->stats.connects[CONNECT_REFUSED_UNAVAILABLE]++;
    client->refused = true;
    client_close(client, CLOSE_NOW, out);
}

void client_end(struct client *client, enum client_end why, struct actions *out)
{
    uint8_t reason = end_reason(client, why);

    if (client->phase == CLIENT_CLOSED)
        return;
    if (why == CLIENT_END_QUOTA)
        client_count_limit(client->node, client->phase == CLIENT_NEW ? LIMIT_CONNECTIONS : LIMIT_MEMORY);
    if (why == CLIENT_END_GONE) {
        client_propose_end(client, END_WITH_WILL, out);
        client_close(client, CLOSE_NOW, out);
        return;
    }
    if (client->phase == CLIENT_CONNECTING) {
        give_up_connect(client, out);
        return;
    }
    if (client->phase == CLIENT_CHECKING) {
        connect_refuse(client, refusal_reason(client, why), out);
        return;
    }
    send_disconnect(client, reason, reason == REASON_USE_ANOTHER_SERVER, NULL, out);
    client_propose_end(client, END_WITH_WILL, out);
    client_close(client, client->phase == CLIENT_NEW ? CLOSE_NOW : CLOSE_FLUSH, out);
}

/* ---- packets ---- */

static void receive_connected(struct client *client, const struct mqtt_packet *packet, uint64_t now_ms,
                              struct actions *out)
{
    switch (packet->type) {
    case MQTT_PUBLISH: handle_publish(client, &packet->publish, out); return;
    case MQTT_PUBACK: handle_puback(client, &packet->ack, out); return;
    case MQTT_PUBREC: handle_pubrec(client, &packet->ack, out); return;
    case MQTT_PUBREL: handle_pubrel(client, &packet->ack, out); return;
    case MQTT_PUBCOMP: handle_pubcomp(client, &packet->ack, out); return;
    case MQTT_SUBSCRIBE: handle_subscribe(client, &packet->subscribe, out); return;
    case MQTT_UNSUBSCRIBE: handle_unsubscribe(client, &packet->unsubscribe, out); return;
    case MQTT_PINGREQ: client_sent(client, mqtt_encode_pingresp(&client->peer, &out->out), out); return;
    case MQTT_DISCONNECT: handle_disconnect(client, &packet->disconnect, now_ms, out); return;
    case MQTT_AUTH: handle_auth(client, &packet->auth, now_ms, out); return;
    case MQTT_CONNECT: /* a second one */
    case MQTT_CONNACK:
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
    case MQTT_PINGRESP: break;
    }
    client_fail(client, REASON_PROTOCOL_ERROR, out);
}

/* More user properties than a packet may have. */
static void refuse_packet(struct client *client, const struct mqtt_packet *packet, struct actions *out)
{
    client_count_limit(client->node, LIMIT_USER_PROPERTIES);
    if (client->phase == CLIENT_CONNECTED) {
        client_fail_because(client, REASON_QUOTA_EXCEEDED, "too many user properties", out);
        return;
    }
    if (packet->type == MQTT_CONNECT)
        client->peer = mqtt_peer_of(&packet->connect);
    connect_refuse(client, REASON_QUOTA_EXCEEDED, out);
}

void client_receive(struct client *client, const struct mqtt_packet *packet, uint64_t now_ms, struct actions *out)
{
    assert(client->phase <= CLIENT_AUTHENTICATING || client->phase == CLIENT_CONNECTED);
    client->packet_ms = now_ms;
    if (!limits_allow_packet(client->node, packet))
        refuse_packet(client, packet, out);
    else if (client->phase == CLIENT_CONNECTED)
        receive_connected(client, packet, now_ms, out);
    else if (client->phase == CLIENT_AUTHENTICATING)
        handle_authenticating(client, packet, now_ms, out);
    else if (packet->type == MQTT_CONNECT)
        handle_connect(client, &packet->connect, now_ms, out);
    else
        client_close(client, CLOSE_NOW, out);
    if (out->command_count > 0 && client->commands_pending == 0)
        client->waiting_ms = now_ms;
}

/* What was wrong, and with which property. */
static const char *fault_text(const struct mqtt_fault *fault, char text[FAULT_TEXT_MAX])
{
    if (fault->property == NULL)
        return fault->text;
    snprintf(text, FAULT_TEXT_MAX, "%s: %s", fault->text, fault->property);
    return text;
}

/* Before CONNACK the answer to nonsense is a CONNACK of the level that the client seems to speak, or silence. */
static void receive_bad_connect(struct client *client, const struct mqtt_fault *fault, struct actions *out)
{
    struct mqtt_connack connack = {.reason = fault->reason, .properties = MQTT_PROPERTIES_NONE};
    enum core_connect result = CONNECT_MALFORMED;
    char text[FAULT_TEXT_MAX];

    if (fault->reason == REASON_UNSUPPORTED_VERSION)
        result = CONNECT_REFUSED_VERSION;
    else if (fault->reason == REASON_CLIENT_ID_INVALID)
        result = CONNECT_REFUSED_IDENTIFIER;
    client->node->stats.connects[result]++;
    if (fault->answer_level == 0) {
        client_close(client, CLOSE_NOW, out);
        return;
    }
    client->peer.level = fault->answer_level;
    client->peer.problem_information = true; /* the default: what it asked for was perhaps not read */
    client_explain(client, fault_text(fault, text), &connack.properties);
    client_sent(client, mqtt_encode_connack(&client->peer, &connack, &out->out), out);
    client_close(client, CLOSE_FLUSH, out);
}

/* CONNACK does not know all codes. */
static uint8_t connack_reason(uint8_t reason)
{
    return mqtt_reason_from_server(MQTT_CONNACK, reason) ? reason : REASON_PROTOCOL_ERROR;
}

void client_receive_bad(struct client *client, const struct mqtt_fault *fault, struct actions *out)
{
    char text[FAULT_TEXT_MAX];

    if (fault->reason == REASON_PACKET_TOO_LARGE)
        client_count_limit(client->node, LIMIT_PACKET_BYTES);
    if (client->phase == CLIENT_NEW)
        receive_bad_connect(client, fault, out);
    else if (client->phase == CLIENT_AUTHENTICATING)
        connect_refuse(client, connack_reason(fault->reason), out);
    else
        client_fail_because(client, fault->reason, fault_text(fault, text), out);
}

void client_refuse(struct client *client, const struct mqtt_packet *packet, struct actions *out)
{
    bool elsewhere = client->node->server_reference.size > 0;

    assert(client->phase == CLIENT_NEW && packet->type == MQTT_CONNECT);
    client->peer = mqtt_peer_of(&packet->connect);
    connect_refuse(client, elsewhere ? REASON_USE_ANOTHER_SERVER : REASON_SERVER_UNAVAILABLE, out);
}

void client_refuse_rate(struct client *client, const struct mqtt_packet *packet, struct actions *out)
{
    assert(client->phase == CLIENT_NEW && packet->type == MQTT_CONNECT);
    client_count_limit(client->node, LIMIT_CONNECT_RATE);
    client->peer = mqtt_peer_of(&packet->connect);
    connect_refuse(client, REASON_CONNECTION_RATE_EXCEEDED, out);
}

void client_refuse_banned(struct client *client, const struct mqtt_packet *packet, struct actions *out)
{
    assert(client->phase == CLIENT_NEW && packet->type == MQTT_CONNECT);
    client->peer = mqtt_peer_of(&packet->connect);
    connect_refuse(client, REASON_BANNED, out);
}

/* ---- outcomes ---- */

/* Not the owner any more: nothing may be acknowledged, the connection goes. */
static bool fenced(struct client *client, const struct effect *effect, struct actions *out)
{
    if (effect->outcome != OUTCOME_FENCED)
        return false;
    if (client->phase == CLIENT_ENDING)
        client_close(client, CLOSE_FLUSH, out);
    else
        client_end(client, CLIENT_END_TAKEN_OVER, out);
    return true;
}

void client_outcome(struct client *client, const struct effect *effect, uint32_t tag, uint64_t now_ms,
                    struct actions *out)
{
    client->waiting_ms = now_ms; /* it moves */
    if (effect->type == EFFECT_PUBLISHED && bug(BUG_V01_ACK_BEFORE_COMMIT))
        return;
    if (effect->type == EFFECT_PUBLISHED && bug(BUG_V02_ACK_WITHOUT_APPLY)) {
        handle_published(client, &(struct effect){.outcome = OUTCOME_DONE}, tag, out);
        return;
    }
    if (effect->type == EFFECT_CONNECTED) {
        struct effect seen = *effect;
        if (tag != 0) /* V03, V04 */
            seen.connected.session_present = tag == 1;
        handle_connected(client, &seen, now_ms, out);
        return;
    }
    if (effect->type == EFFECT_ENDED && client->phase == CLIENT_ENDING) {
        client_close(client, CLOSE_FLUSH, out);
        return;
    }
    if (client->phase == CLIENT_CLOSED || fenced(client, effect, out))
        return;
    switch (effect->type) {
    case EFFECT_PUBLISHED: handle_published(client, effect, tag, out); return;
    case EFFECT_RELEASED: handle_released(client, effect, tag, out); return;
    case EFFECT_DELIVERY_RELEASED: handle_delivery_released(client, effect, out); return;
    case EFFECT_DELIVERY_DONE: handle_delivery_done(client, effect, out); return;
    case EFFECT_SUBSCRIBED:
    case EFFECT_UNSUBSCRIBED: handle_codes(client, effect, tag, out); return;
    case EFFECT_BATCH:
    case EFFECT_CONNECTED:
    case EFFECT_ENDED:
    case EFFECT_TAKEN_OVER:
    case EFFECT_CONTESTED:
    case EFFECT_MESSAGE:
    case EFFECT_QUEUED:
    case EFFECT_ADMITTED:
    case EFFECT_NODE:
    case EFFECT_CHECKPOINT:
    case EFFECT_ADMINISTERED:
    case EFFECT_SECURITY:
    case EFFECT_SETTINGS: return; /* not outcomes, or dealt with above */
    }
}

/* ---- time ---- */

static uint64_t keep_alive_deadline(const struct client *client)
{
    bool unread = (client->stalled || client->postponed) && client_output(client) <= client->node->limits.output_bytes_max;

    if (client->keep_alive_s == 0 || unread) /* whom we do not read we cannot blame for silence, unless it began */
        return UINT64_MAX;
    return client->packet_ms + (uint64_t)client->keep_alive_s * 1500;
}

/* A packet that has begun must go on: each byte of it buys time. */
static uint64_t partial_deadline(const struct client *client)
{
    const struct core_limits *limits = &client->node->limits;

    return client->partial_ms == 0 ? UINT64_MAX
                                   : client->partial_ms + limits->connect_timeout_ms +
                                         client->input.size * UINT64_C(1000) / limits->packet_rate_min;
}

static uint64_t hold_deadline(const struct client *client)
{
    return client->commands_pending == 0 ? UINT64_MAX : client->waiting_ms + client->node->limits.hold_ms;
}

static uint64_t collision_deadline(const struct client *client)
{
    return client->collision_ms == 0 ? UINT64_MAX : client->collision_ms + client->node->limits.collision_ms;
}

static uint64_t token_deadline(const struct client *client)
{
    return client->until_ms == 0 ? UINT64_MAX : client->until_ms;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Its CONNECT waits, because its client id is contested. */
static bool rests(const struct client *client)
{
    return client->extras != NULL && client->extras->rest.until_ms != 0;
}

uint64_t client_deadline(const struct client *client)
{
    switch ((enum client_phase)client->phase) {
    case CLIENT_NEW:
        if (client->stalled) /* its CONNECT is here and has to wait */
            return client->packet_ms + client->node->limits.hold_ms;
        return client->opened_ms + client->node->limits.connect_timeout_ms;
    case CLIENT_CHECKING:
        if (rests(client))
            return client->extras->rest.until_ms;
        return client->opened_ms + client->node->limits.connect_timeout_ms;
    case CLIENT_AUTHENTICATING: return client->opened_ms + client->node->limits.connect_timeout_ms;
    case CLIENT_CONNECTING:
    case CLIENT_ENDING: return hold_deadline(client);
    case CLIENT_CONNECTED:
        return earlier(partial_deadline(client), earlier(earlier(keep_alive_deadline(client), token_deadline(client)),
                       earlier(hold_deadline(client), collision_deadline(client))));
    case CLIENT_CLOSED: break;
    }
    return UINT64_MAX;
}

void client_timeout(struct client *client, uint64_t now_ms, struct actions *out)
{
    if (client_deadline(client) > now_ms)
        return;
    if (client->phase == CLIENT_CHECKING && rests(client)) {
        connect_rested(client, now_ms, out);
        return;
    }
    switch ((enum client_phase)client->phase) {
    case CLIENT_AUTHENTICATING:
    case CLIENT_CHECKING:
    case CLIENT_NEW: /* a stalled one is refused by the core, which has its CONNECT */
        client->node->stats.connects[CONNECT_MALFORMED]++;
        client_close(client, CLOSE_NOW, out);
        return;
    case CLIENT_ENDING:
        if (hold_deadline(client) <= now_ms)
            client_close(client, CLOSE_FLUSH, out);
        return;
    case CLIENT_CONNECTING:
    case CLIENT_CONNECTED: break;
    case CLIENT_CLOSED: return;
    }
    if (client->phase == CLIENT_CONNECTED &&
        (keep_alive_deadline(client) <= now_ms || partial_deadline(client) <= now_ms)) {
        client->node->stats.keep_alive_timeouts++;
        client_end(client, CLIENT_END_KEEP_ALIVE, out);
    } else if (client->phase == CLIENT_CONNECTED && token_deadline(client) <= now_ms) {
        client_end(client, CLIENT_END_EXPIRED, out);
    } else if (hold_deadline(client) <= now_ms && client->node->available) {
        client->waiting_ms = now_ms; /* the cluster works, if slowly: wait on */
    } else if (hold_deadline(client) <= now_ms) {
        client_end(client, CLIENT_END_UNAVAILABLE, out);
    } else {
        client_end(client, CLIENT_END_NO_PACKET_ID, out);
    }
}
