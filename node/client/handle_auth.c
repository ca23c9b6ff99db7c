/* handle_auth.c — enhanced authentication: CONNECT with a method, AUTH, and authenticating again (5.0, 4.12).
 *
 *   CONNECT, method ──▶ AUTHENTICATING ──AUTH 0x18 ⇄ AUTH 0x18──▶ done: the CONNECT goes its way ──▶ CONNACK
 *                                                          └────▶ refused: CONNACK 0x87, close
 *   CONNECTED ──AUTH 0x19, AUTH 0x18 ⇄ AUTH 0x18──▶ done: AUTH 0x00      └────▶ refused: DISCONNECT 0x87, close
 *
 * Until the first one is done nothing but AUTH and DISCONNECT is taken, and the CONNECT waits as the command that it is
 * going to be. Who says to be a user at whom somebody guesses is challenged at once, but its proof is looked at later
 * (core_logins.c). While a client authenticates again it is served as before; it has to be the same user. */
#include "client_private.h"

#include "auth.h"
#include "login.h"

#include "base/memory.h"

#include <stdlib.h>

struct authentication {
    struct bytes method;            /* own copy */
    struct auth_exchange *exchange; /* NULL: none going on */
    struct buffer user;             /* who it is, since then */
    struct buffer answer;           /* the method's last */
};

void authentication_free(struct authentication *authentication)
{
    if (authentication == NULL)
        return;
    auth_end(authentication->exchange);
    free((void *)authentication->method.data);
    buffer_release(&authentication->user);
    buffer_release(&authentication->answer);
    free(authentication);
}

struct bytes authentication_user(const struct client *client)
{
    const struct authentication *authentication = client->extras == NULL ? NULL : client->extras->authentication;

    if (authentication == NULL)
        return bytes_of(NULL, 0);
    return authentication->exchange != NULL ? auth_user(authentication->exchange)
                                            : buffer_bytes(&authentication->user);
}

static void fail(struct client *client, uint8_t reason, const char *why, struct actions *out)
{
    if (client->phase == CLIENT_AUTHENTICATING)
        connect_refuse(client, reason, out);
    else
        client_fail_because(client, reason, why, out);
}

static void put_properties(const struct authentication *authentication, struct mqtt_properties *properties)
{
    properties->authentication_method = authentication->method;
    properties->present |= MQTT_HAS(PROPERTY_AUTHENTICATION_METHOD);
    if (authentication->answer.size > 0) {
        properties->authentication_data = buffer_bytes(&authentication->answer);
        properties->present |= MQTT_HAS(PROPERTY_AUTHENTICATION_DATA);
    }
}

static void send_auth(struct client *client, const struct authentication *authentication, uint8_t reason,
                      struct actions *out)
{
    struct mqtt_auth auth = {.reason = reason, .properties = MQTT_PROPERTIES_NONE};
    bool sent;

    put_properties(authentication, &auth.properties);
    sent = mqtt_encode_auth(&client->peer, &auth, &out->out);
    client_sent(client, sent, out);
    if (!sent) /* it takes no packet as large as that */
        fail(client, REASON_UNSPECIFIED_ERROR, NULL, out);
}

static void succeed(struct client *client, struct authentication *authentication, uint64_t now_ms, struct actions *out)
{
    struct bytes user = auth_user(authentication->exchange);
    bool first = client->phase == CLIENT_AUTHENTICATING;
    bool same = bytes_equal(user, buffer_bytes(&authentication->user));
    uint64_t credential_epoch = auth_credential_epoch(authentication->exchange);

    out->proof = PROOF_RIGHT;
    if (first)
        buffer_put_bytes(&authentication->user, user);
    auth_end(authentication->exchange);
    authentication->exchange = NULL;
    user = buffer_bytes(&authentication->user);
    if (first)
        connect_go_on(client, user, credential_epoch, UINT64_MAX, now_ms, out);
    else if (same)
        send_auth(client, authentication, REASON_SUCCESS, out);
    else
        fail(client, REASON_NOT_AUTHORIZED, "another user", out);
}

static void step(struct client *client, struct authentication *authentication, const struct mqtt_properties *properties,
                 uint64_t now_ms, struct actions *out)
{
    buffer_clear(&authentication->answer);
    switch (auth_continue(authentication->exchange, properties->authentication_data, &authentication->answer)) {
    case AUTH_CHALLENGE:
        send_auth(client, authentication, REASON_CONTINUE_AUTHENTICATION, out);
        if (client->phase == CLIENT_AUTHENTICATING)
            out->proof = PROOF_ASKED;
        return;
    case AUTH_DONE: succeed(client, authentication, now_ms, out); return;
    case AUTH_REFUSED:
        out->proof = PROOF_WRONG;
        fail(client, REASON_NOT_AUTHORIZED, NULL, out);
        return;
    case AUTH_MALFORMED: fail(client, REASON_PROTOCOL_ERROR, "authentication data is malformed", out); return;
    }
}

void authentication_begin(struct client *client, const struct mqtt_properties *properties, uint64_t now_ms,
                          struct actions *out)
{
    struct client_node *node = client->node;
    bool offered = logins_offer_scram(node->logins, client->listener->authentication);
    struct auth_exchange *exchange = offered ? auth_begin(node->auth, properties->authentication_method) : NULL;
    struct authentication *authentication;

    if (exchange == NULL) {
        connect_refuse(client, REASON_BAD_AUTHENTICATION_METHOD, out);
        return;
    }
    authentication = memory_zeroed(1, sizeof(*authentication));
    client_extras(client)->authentication = authentication;
    authentication->exchange = exchange;
    authentication->method =
        bytes_of(memory_copy(properties->authentication_method.data, properties->authentication_method.size),
                 properties->authentication_method.size);
    client->phase = CLIENT_AUTHENTICATING;
    step(client, authentication, properties, now_ms, out);
}

void authentication_in_connack(struct client *client, struct mqtt_properties *properties)
{
    if (client->extras != NULL && client->extras->authentication != NULL)
        put_properties(client->extras->authentication, properties);
}

void handle_auth(struct client *client, const struct mqtt_auth *auth, uint64_t now_ms, struct actions *out)
{
    struct authentication *authentication = client->extras == NULL ? NULL : client->extras->authentication;
    bool again = client->phase == CLIENT_CONNECTED && auth->reason == REASON_REAUTHENTICATE;

    if (authentication == NULL) {
        fail(client, REASON_PROTOCOL_ERROR, "CONNECT had no authentication method", out);
        return;
    }
    if (!bytes_equal(auth->properties.authentication_method, authentication->method)) {
        fail(client, REASON_PROTOCOL_ERROR, "the authentication method may not change", out);
        return;
    }
    if (again ? authentication->exchange != NULL
              : authentication->exchange == NULL || auth->reason != REASON_CONTINUE_AUTHENTICATION) {
        fail(client, REASON_PROTOCOL_ERROR, "AUTH does not belong here", out);
        return;
    }
    if (again)
        authentication->exchange = auth_begin(client->node->auth, authentication->method);
    step(client, authentication, &auth->properties, now_ms, out);
}

void handle_authenticating(struct client *client, const struct mqtt_packet *packet, uint64_t now_ms,
                           struct actions *out)
{
    if (packet->type == MQTT_AUTH)
        handle_auth(client, &packet->auth, now_ms, out);
    else if (packet->type == MQTT_DISCONNECT)
        client_close(client, CLOSE_NOW, out);
    else
        connect_refuse(client, REASON_PROTOCOL_ERROR, out);
}
