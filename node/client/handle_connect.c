/* handle_connect.c — CONNECT: from the packet to the command, and from its outcome to CONNACK.
 *
 *   CONNECT ─┬─ with an authentication method ──▶ handle_auth.c ──▶ a user ──┐
 *            └─ without ──▶ login.h ──(hashed on another thread)──▶ a user ──┴▶ may this user ...? ──▶ the command
 *
 * The codec has checked the form. While it is being found out who the client is, its CONNECT waits as the command that it
 * is going to be. What is refused here: a will that this server does not offer (0x9A, 0x9B) or that the user may not
 * publish (0x87), a wrong password (0x86), nobody (0x87), and what the state machine cannot take (0x97). A session is
 * opened, resumed or taken over by `apply` alone. */
#include "client_private.h"

#include "login.h"
#include "security.h"
#include "takeovers.h"
#include "usages.h"

#include "base/memory.h"
#include "node/mqtt/property.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define EXTRAS_MEMORY_PART 8 /* of memory_bytes_max */

/* ---- the client id ---- */

uint64_t client_node_random(struct client_node *node) /* splitmix64 */
{
    uint64_t x = node->random += UINT64_C(0x9E3779B97F4A7C15);

    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

/* "auto-" and 120 random bits: unique without asking anybody. */
static void assign_client_id(struct client *client)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuv";
    static const char prefix[] = "auto-";
    const size_t prefix_size = sizeof(prefix) - 1, random_size = 24;
    uint8_t *id = memory_allocate(prefix_size + random_size);

    memcpy(id, prefix, prefix_size);
    for (size_t i = 0; i < random_size; i += 12) {
        uint64_t bits = client_node_random(client->node);

        for (size_t k = 0; k < 12; k++, bits >>= 5)
            id[prefix_size + i + k] = (uint8_t)digits[bits & 31];
    }
    client->client_id = id;
    client->client_id_size = (uint16_t)(prefix_size + random_size);
    client->assigned_id = true;
}

/* ---- the packet ---- */

void connect_refuse(struct client *client, uint8_t reason, struct actions *out)
{
    struct mqtt_connack connack = {.reason = reason, .properties = MQTT_PROPERTIES_NONE};
    enum core_connect result = CONNECT_REFUSED_UNAVAILABLE;
    bool said;

    if (reason == REASON_QUOTA_EXCEEDED || reason == REASON_CONNECTION_RATE_EXCEEDED || reason == REASON_SERVER_BUSY)
        result = CONNECT_REFUSED_QUOTA;
    else if (reason == REASON_CLIENT_ID_INVALID)
        result = CONNECT_REFUSED_IDENTIFIER;
    else if (reason == REASON_BAD_AUTHENTICATION_METHOD || reason == REASON_NOT_AUTHORIZED ||
             reason == REASON_BANNED || reason == REASON_BAD_USER_OR_PASSWORD)
        result = CONNECT_REFUSED_AUTHENTICATION;
    else if (reason < REASON_UNSUPPORTED_VERSION)
        result = CONNECT_MALFORMED;
    client->node->stats.connects[result]++;
    if (reason == REASON_USE_ANOTHER_SERVER) {
        if (client->peer.level < MQTT_LEVEL_5)
            connack.reason = REASON_SERVER_UNAVAILABLE; /* the nearest that 3.1.1 can say: return code 3 */
        connack.properties.server_reference = buffer_bytes(&client->node->server_reference);
        connack.properties.present = MQTT_HAS(PROPERTY_SERVER_REFERENCE);
    }
    client->refused = true;
    said = mqtt_encode_connack(&client->peer, &connack, &out->out);
    client_sent(client, said, out);
    client_close(client, said ? CLOSE_FLUSH : CLOSE_NOW, out);
}

static uint16_t granted_keep_alive(const struct client *client, uint16_t requested_s)
{
    uint16_t max_s = client->node->limits.keep_alive_max_s;

    if (client->peer.level < MQTT_LEVEL_5 || max_s == 0) /* a client of 3.x cannot be told of another value */
        return requested_s;
    return requested_s == 0 || requested_s > max_s ? max_s : requested_s;
}

static void fill_will(const struct mqtt_will *will, struct command_connect *command, struct actions *out)
{
    command->has_will = true;
    command->will.message.topic = will->topic;
    command->will.message.payload = will->payload;
    command->will.message.properties = mqtt_properties_passed_on(&will->properties, &out->text);
    command->will.message.qos = will->qos;
    command->will.message.retain = will->retain;
    command->will.delay_s = will->properties.will_delay_s;
    command->will.message_expiry_s = will->properties.message_expiry_s;
}

static void fill_command(const struct client *client, const struct mqtt_connect *connect,
                         struct command_connect *command, struct actions *out)
{
    command->connection = client->number;
    command->client_id = client_id_of(client);
    command->protocol_level = connect->level;
    command->clean_start = connect->clean_start;
    command->receive_maximum = connect->properties.receive_maximum;
    command->session_expiry_s = connect->properties.session_expiry_s;
    if (connect->has_will)
        fill_will(&connect->will, command, out);
}

/* ---- who it comes from ---- */

/* Whether this user may connect, with this id and this will; a reason code. */
static uint8_t check_user(struct client *client, struct command_connect *connect)
{
    const struct client_node *node = client->node;
    const struct names names = {.user = connect->user_name, .client_id = connect->client_id};
    bool by_file = false;
    uint8_t refused;

    switch (security_admits(state_security(node->state), &names, state_clock_ms(node->state))) {
    case OUTCOME_DONE: break;
    case OUTCOME_BANNED: return REASON_BANNED;
    default: return REASON_NOT_AUTHORIZED;
    }
    refused = access_check_names(node, &names);
    if (refused != REASON_SUCCESS)
        return refused;
    if (connect->has_will && !access_allows_will(node, &names, connect->will.message.topic, &by_file))
        return REASON_NOT_AUTHORIZED;
    connect->will_allowed = connect->has_will && by_file;
    if (connect->user_name.size > 0 && !usage_begin(client, connect->user_name)) {
        client_count_limit(client->node, LIMIT_USER_CONNECTIONS);
        return REASON_QUOTA_EXCEEDED;
    }
    return REASON_SUCCESS;
}

static void propose_now(struct client *client, struct command *connect, uint64_t valid_s, uint64_t now_ms,
                        struct actions *out)
{
    uint8_t refused = check_user(client, &connect->connect);

    if (refused != REASON_SUCCESS) {
        connect_refuse(client, refused, out);
        return;
    }
    *actions_propose(out, COMMAND_CONNECT, 0) = *connect;
    out->commands[out->command_count - 1].connect.adopts =
        client->node->adopt_anonymous && connect->connect.user_name.size > 0;
    client->replicated_user = connect->connect.credential_epoch != 0;
    client->until_ms = valid_s > UINT32_MAX ? 0 : now_ms + valid_s * 1000;
    client->connect_pending = true;
    client->phase = CLIENT_CONNECTING;
    client->waiting_ms = now_ms;
}

/* Whether another connection has the id, and would have to go. */
static bool takes_over(const struct client_node *node, const struct command_connect *connect)
{
    struct session_facts facts;

    return state_session_by_client_id(node->state, connect->client_id, &facts) && facts.connected &&
           (bytes_equal(facts.user_name, connect->user_name) || (node->adopt_anonymous && facts.user_name.size == 0));
}

/* It is known who it comes from. */
static void propose(struct client *client, struct command *connect, uint64_t valid_s, uint64_t now_ms,
                    struct actions *out)
{
    struct client_node *node = client->node;
    bool contends = takes_over(node, &connect->connect);
    uint32_t rest_ms = contends ? takeovers_wait_ms(node->takeovers, connect->connect.client_id, now_ms) : 0;

    if (rest_ms == 0) {
        propose_now(client, connect, valid_s, now_ms, out);
        return;
    }
    client_count_limit(node, LIMIT_TAKE_OVERS);
    connect_wait(client, connect);
    client->extras->rest = (struct client_rest){now_ms, now_ms + rest_ms, valid_s};
    client->phase = CLIENT_CHECKING;
    out->rest_ms = rest_ms;
    if (node->extras_bytes > node->limits.memory_bytes_max / EXTRAS_MEMORY_PART)
        connect_refuse(client, REASON_QUOTA_EXCEEDED, out);
}

/* What the transport found has been used. */
static void forget_facts(struct client_extras *extras)
{
    free(extras->certificate_user);
    free(extras->psk_identity);
    extras->certificate_user = extras->psk_identity = NULL;
}

void connect_wait(struct client *client, const struct command *connect)
{
    struct buffer *waiting = &client_extras(client)->connect;

    command_encode(connect, waiting);
    client->node->extras_bytes += waiting->size;
}

/* The CONNECT that has waited; it borrows from out->text, and is the last that is put there. */
static struct command take_waiting(struct client *client, struct actions *out)
{
    struct buffer *waiting = &client->extras->connect;
    size_t size = waiting->size;
    struct command connect;
    struct reader reader;
    enum status status;

    buffer_put_bytes(&out->text, buffer_bytes(waiting));
    client->node->extras_bytes -= size;
    buffer_release(waiting);
    reader = reader_of(bytes_of(out->text.data + out->text.size - size, size));
    status = command_decode(&reader, &connect);
    assert(status == STATUS_OK);
    (void)status;
    return connect;
}

void connect_go_on(struct client *client, struct bytes user, uint64_t credential_epoch, uint64_t valid_s,
                   uint64_t now_ms, struct actions *out)
{
    size_t start = out->text.size;
    struct command connect;

    buffer_put_bytes(&out->text, user);
    connect = take_waiting(client, out);
    connect.connect.user_name = bytes_of(out->text.data + start, user.size);
    connect.connect.credential_epoch = credential_epoch;
    forget_facts(client->extras);
    propose(client, &connect, valid_s, now_ms, out);
}

void connect_rested(struct client *client, uint64_t now_ms, struct actions *out)
{
    struct client_rest rest = client->extras->rest;
    struct command connect = take_waiting(client, out);
    uint64_t rested_s = (now_ms - rest.since_ms) / 1000;

    client->extras->rest = (struct client_rest){0};
    if (rest.valid_s != UINT64_MAX)
        rest.valid_s = rest.valid_s > rested_s ? rest.valid_s - rested_s : 0;
    if (takeovers_since(client->node->takeovers, connect.connect.client_id, rest.since_ms))
        connect_refuse(client, REASON_CONNECTION_RATE_EXCEEDED, out); /* another one was faster */
    else
        propose_now(client, &connect, rest.valid_s, now_ms, out);
}

void client_logged_in(struct client *client, uint64_t now_ms, struct actions *out)
{
    struct login *login = client->extras->login;
    struct login_result result = login_result(login);

    client->extras->login = NULL;
    if (result.granted)
        connect_go_on(client, result.user, result.credential_epoch, result.valid_s, now_ms, out);
    else
        connect_refuse(client, result.secret ? REASON_BAD_USER_OR_PASSWORD : REASON_NOT_AUTHORIZED, out);
    login_free(login);
}

/* A CONNECT without an authentication method. */
static void identify(struct client *client, const struct mqtt_connect *connect, struct command *command,
                     uint64_t now_ms, struct actions *out)
{
    struct client_node *node = client->node;
    const struct client_extras *extras = client->extras;
    const struct login_facts facts = {.methods = client->listener->authentication,
                                      .anonymous = client->listener->anonymous,
                                      .certificate_user = extras != NULL ? extras->certificate_user : NULL,
                                      .psk_identity = extras != NULL ? extras->psk_identity : NULL,
                                      .has_user_name = connect->has_user_name,
                                      .has_password = connect->has_password,
                                      .user_name = connect->user_name,
                                      .password = connect->password};
    struct login *login = login_new(node->logins, state_security(node->state), &facts, client->number);

    if (login_settled(login) && login_result(login).granted && login_result(login).user.size == 0) {
        login_free(login);
        propose(client, command, UINT64_MAX, now_ms, out);
        return;
    }
    client_extras(client)->login = login;
    connect_wait(client, command);
    client->phase = CLIENT_CHECKING;
    if (login_settled(login))
        client_logged_in(client, now_ms, out);
    else if (node->extras_bytes > node->limits.memory_bytes_max / EXTRAS_MEMORY_PART)
        connect_refuse(client, REASON_QUOTA_EXCEEDED, out);
    else
        out->login = true;
}

bool client_admitted(const struct client *client)
{
    const struct client_node *node = client->node;
    const struct security *security = state_security(node->state);
    struct session_facts facts;
    struct security_user user;
    struct names names;

    if (!state_session(node->state, client->session_id, &facts))
        return true; /* it ends for other reasons */
    names = (struct names){.user = facts.user_name, .client_id = facts.client_id};
    return security_admits(security, &names, state_clock_ms(node->state)) == OUTCOME_DONE &&
           (!client->replicated_user || security_user(security, facts.user_name, &user));
}

/* ---- the packet, as a whole ---- */

void handle_connect(struct client *client, const struct mqtt_connect *connect, uint64_t now_ms, struct actions *out)
{
    const struct mqtt_properties *properties = &connect->properties;
    struct command command = {.type = COMMAND_CONNECT};
    uint8_t refused;

    client->peer = mqtt_peer_of(connect);
    refused = capabilities_check_connect(client, connect);
    if (refused == REASON_SUCCESS && connect->has_will && topic_is_reserved(connect->will.topic))
        refused = REASON_NOT_AUTHORIZED;
    if (refused != REASON_SUCCESS) {
        connect_refuse(client, refused, out);
        return;
    }
    if (connect->client_id.size > 0) {
        client->client_id = memory_copy(connect->client_id.data, connect->client_id.size);
        client->client_id_size = (uint16_t)connect->client_id.size;
    } else {
        assign_client_id(client);
    }
    client->requested_keep_alive_s = connect->keep_alive_s;
    client->keep_alive_s = granted_keep_alive(client, connect->keep_alive_s);
    client->receive_maximum = properties->receive_maximum;
    client->aliases_sent_max =
        properties->topic_alias_max < ALIASES_SENT_MAX ? properties->topic_alias_max : ALIASES_SENT_MAX;
    client->wants_response_information = properties->request_response_information != 0;
    client->session_expiry_s = properties->session_expiry_s;
    client->clean_start = connect->clean_start;

    fill_command(client, connect, &command.connect, out);
    if ((properties->present & MQTT_HAS(PROPERTY_AUTHENTICATION_METHOD)) != 0) {
        connect_wait(client, &command);
        if (client->node->extras_bytes > client->node->limits.memory_bytes_max / EXTRAS_MEMORY_PART)
            connect_refuse(client, REASON_QUOTA_EXCEEDED, out);
        else
            authentication_begin(client, properties, now_ms, out);
        return;
    }
    identify(client, connect, &command, now_ms, out);
}

/* ---- the outcome ---- */

static void fill_connack_properties(const struct client *client, uint32_t granted_expiry_s,
                                    struct mqtt_properties *properties)
{
    capabilities_announce(client, properties);
    if (client->assigned_id) {
        properties->assigned_client_id = client_id_of(client);
        properties->present |= MQTT_HAS(PROPERTY_ASSIGNED_CLIENT_ID);
    }
    if (client->keep_alive_s != client->requested_keep_alive_s) {
        properties->server_keep_alive_s = client->keep_alive_s;
        properties->present |= MQTT_HAS(PROPERTY_SERVER_KEEP_ALIVE);
    }
    if (granted_expiry_s != client->session_expiry_s) {
        properties->session_expiry_s = granted_expiry_s;
        properties->present |= MQTT_HAS(PROPERTY_SESSION_EXPIRY);
    }
}

/* From here on the session knows it; each connection counts. */
static void client_forget_id(struct client *client)
{
    free(client->client_id);
    client->client_id = NULL;
    client->client_id_size = 0;
}

/* CONNECT was applied for a connection that is not there any more, or was told no: the session is ended again. */
static void end_unwanted(struct client *client, struct actions *out)
{
    client_propose_end(client, client->refused ? END_CLEAN : END_WITH_WILL, out);
}

void handle_connected(struct client *client, const struct effect *effect, uint64_t now_ms, struct actions *out)
{
    struct mqtt_connack connack = {.reason = REASON_SUCCESS, .properties = MQTT_PROPERTIES_NONE};

    assert(client->connect_pending);
    client->connect_pending = false;
    if (effect->outcome == OUTCOME_DONE) {
        client->session_id = effect->session_id;
        client->client_epoch = effect->connected.client_epoch;
    }
    if (client->phase == CLIENT_CLOSED) {
        end_unwanted(client, out);
        return;
    }
    if (effect->outcome != OUTCOME_DONE) {
        if (effect->outcome == OUTCOME_QUOTA) {
            client_count_limit(client->node, LIMIT_SESSIONS);
            connect_refuse(client, REASON_QUOTA_EXCEEDED, out);
        } else if (effect->outcome == OUTCOME_NOT_AUTHORIZED || effect->outcome == OUTCOME_BANNED) {
            connect_refuse(client, effect->outcome == OUTCOME_BANNED ? REASON_BANNED : REASON_NOT_AUTHORIZED, out);
        } else {
            client_close(client, CLOSE_NOW, out);
        }
        return;
    }
    connack.session_present = effect->connected.session_present;
    if (client->peer.level >= MQTT_LEVEL_5)
        fill_connack_properties(client, effect->connected.session_expiry_s, &connack.properties);
    authentication_in_connack(client, &connack.properties);
    client->session_expiry_s = effect->connected.session_expiry_s;
    if (!mqtt_encode_connack(&client->peer, &connack, &out->out)) { /* it allows no packet as large as that */
        client->refused = true;
        end_unwanted(client, out);
        client_close(client, CLOSE_NOW, out);
        return;
    }
    client_sent(client, true, out);
    client->phase = CLIENT_CONNECTED;
    client->node->stats.clients++;
    client_forget_id(client);
    client->packet_ms = now_ms;
    client->behind = connack.session_present;
    client->sent_before = effect->connected.sent_upto;
    client->node->stats.connects[CONNECT_ACCEPTED]++;
    out->delivered = true;
    if (client->replicated_user && !client_admitted(client)) /* it has changed while CONNECT was on its way */
        client_end(client, CLIENT_END_NOT_AUTHORIZED, out);
}
