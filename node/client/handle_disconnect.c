/* handle_disconnect.c — DISCONNECT.
 *
 * The socket stays until END is applied: a client that sees it closed may rely on its will being forgotten. */
#include "client_private.h"

void handle_disconnect(struct client *client, const struct mqtt_disconnect *disconnect, uint64_t now_ms,
                       struct actions *out)
{
    bool has_expiry = (disconnect->properties.present & MQTT_HAS(PROPERTY_SESSION_EXPIRY)) != 0;
    uint32_t before = out->command_count;

    if (has_expiry && client->session_expiry_s == 0 && disconnect->properties.session_expiry_s != 0) {
        client_fail_because(client, REASON_PROTOCOL_ERROR, "a session that was to end cannot be kept", out);
        return;
    }
    client_propose_end(client, disconnect->reason == REASON_SUCCESS ? END_CLEAN : END_WITH_WILL, out);
    if (out->command_count == before) { /* nothing to wait for */
        client_close(client, CLOSE_FLUSH, out);
        return;
    }
    out->commands[before].end.has_session_expiry = has_expiry;
    out->commands[before].end.session_expiry_s = disconnect->properties.session_expiry_s;
    client->node->stats.clients--;
    client->phase = CLIENT_ENDING;
    client->waiting_ms = now_ms;
}
