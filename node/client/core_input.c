/* core_input.c — bytes of one connection -> packets -> what they lead to.
 *
 * Packets are decoded where the bytes lie, in the driver's read buffer; only what is incomplete, or has to wait, is
 * copied to client->input. A client has to wait (is not looked at)
 *   - from CONNECT to its outcome: everything behind CONNECT comes after CONNACK, in order
 *   - before CONNECT, while nothing can be committed (G8): it is refused after `hold`, or once the node knows that it is
 *     cut off
 *   - between AUTH and AUTH, if somebody guesses at its user's password
 *   - while it, or all together, have too many commands on the way: then it is not read either (back-pressure)
 *   - while it does not take what we answer
 *   - until the next turn, if this one has done enough. */
#include "core_private.h"

#include "node/mqtt/property.h"

#include <string.h>

#define READ_AHEAD_MAX (8 * 1024) /* input that may pile up for a client that has to wait, before reading stops */

bool core_pressed(const struct core *core)
{
    return proposer_full(core->proposer) ||
           proposer_pending_bytes(core->proposer) > core->node.limits.commands_bytes_max;
}

/* Whether the next packet of this client may be decoded and carried out. */
static bool may_take(const struct core *core, const struct client *client)
{
    switch ((enum client_phase)client->phase) {
    case CLIENT_NEW: return core_takes_input(core);
    case CLIENT_AUTHENTICATING: return core_takes_input(core) && !core_holds_proof(core, client);
    case CLIENT_CONNECTED:
        return core_takes_input(core) && client->commands_pending < core->node.limits.client_commands_max && !core_pressed(core) &&
               client_output(client) <= core->node.limits.output_bytes_max;
    case CLIENT_CHECKING:
    case CLIENT_CONNECTING:
    case CLIENT_ENDING:
    case CLIENT_CLOSED: break;
    }
    return false;
}

static void stall(struct core *core, struct client *client)
{
    if (!client->stalled && client->phase == CLIENT_NEW)
        client->packet_ms = core->now_ms; /* `hold` starts */
    client->stalled = true;
    if (client->phase == CLIENT_CONNECTED && !core_pressed(core))
        return; /* its own outcomes, or its socket, will wake it */
    if (!client->in_stalled) {
        client->in_stalled = true;
        work_list_add(&core->stalled, client);
    }
}

/* This turn has done enough, or something long is under way: on with it in the next one. */
static void postpone(struct core *core, struct client *client)
{
    client->postponed = true;
    core_want_work(core, client);
}

/* Whether CONNECTs, and those from where this one comes, are not too many. */
static bool rate_allows(struct core *core, const struct client *client)
{
    char text[CORE_ADDRESS_MAX];

    return core->rates == NULL || rates_take(core->rates, core_address(core, client, text), core->now_ms);
}

/* A CONNECT with an authentication method that comes too soon after wrong ones from there. */
static bool guesses_too_soon(struct core *core, const struct client *client, const struct mqtt_connect *connect)
{
    return (connect->properties.present & MQTT_HAS(PROPERTY_AUTHENTICATION_METHOD)) != 0 &&
           core_guesses_too_soon(core, client);
}

/* Takes one packet off `in`. False: stop here. */
static bool take_packet(struct core *core, struct client *client, struct bytes *in)
{
    const struct core_limits *limits = &core->node.limits;
    bool fresh = client->phase == CLIENT_NEW;
    struct mqtt_decode_options options = {
        .level = fresh ? 0 : client->peer.level,
        .topic_alias_max = (uint16_t)core->node.capabilities.topic_alias_max,
        .packet_size_max =
            client->phase <= CLIENT_AUTHENTICATING ? limits->connect_bytes_max : client_packet_bytes_max(client),
    };
    struct mqtt_packet packet;
    struct mqtt_fault fault;
    size_t size;
    enum status status = mqtt_decode(*in, &options, &packet, &size, &fault);

    core->input_looks += PACKET_LOOKS;
    if (status == STATUS_NEED_MORE)
        return false;
    core->input_looks += size / BYTES_PER_LOOK;
    actions_clear(&core->actions);
    if (status != STATUS_OK) {
        client_receive_bad(client, &fault, &core->actions);
        size = in->size;
    } else if (fresh && packet.type == MQTT_CONNECT && core_turns_away(core)) {
        client_refuse(client, &packet, &core->actions);
    } else if (fresh && packet.type == MQTT_CONNECT && (!core->node.available || core_pressed(core))) {
        stall(core, client);
        return false;
    } else if (fresh && packet.type == MQTT_CONNECT &&
               (!rate_allows(core, client) || guesses_too_soon(core, client, &packet.connect))) {
        client_refuse_rate(client, &packet, &core->actions);
    } else if (fresh && packet.type == MQTT_CONNECT && core_bans_address(core, client)) {
        client_refuse_banned(client, &packet, &core->actions);
    } else {
        core->node.stats.packets_in++;
        core->node.stats.publish_bytes_in += packet.type == MQTT_PUBLISH ? size : 0;
        client_receive(client, &packet, core->now_ms, &core->actions);
    }
    in->data += size;
    in->size -= size;
    return true;
}

/* What is left of `in` becomes the client's input; `in` may be a part of it. */
static void keep_input(struct core *core, struct client *client, struct bytes in)
{
    struct buffer *input = &client->input;

    core->node.stats.input_bytes -= input->size;
    if (in.size == 0) {
        buffer_release(input);
    } else if (input->size > 0) {
        buffer_consume(input, input->size - in.size);
    } else {
        buffer_put_bytes(input, in);
    }
    core->node.stats.input_bytes += input->size;
}

void core_decide_reading(struct core *core, struct client *client)
{
    bool waits = client->stalled || client->postponed || client->phase == CLIENT_CHECKING ||
                 client->phase == CLIENT_CONNECTING;
    bool off = waits &&
               client->input.size > (client->phase == CLIENT_CONNECTED || client->postponed ? 0 : READ_AHEAD_MAX);

    if (off == client->reading_off || client->phase == CLIENT_CLOSED)
        return;
    client->reading_off = off;
    if (off)
        core->node.stats.paused_clients++;
    else
        core->node.stats.paused_clients--;
    client->reading_changed = true;
    core_want_flush(core, client);
}

void core_take_input(struct core *core, struct client *client, struct bytes fresh)
{
    uint64_t number = client->number;
    struct bytes in = fresh;

    if (client->input.size > 0) {
        buffer_put_bytes(&client->input, fresh);
        core->node.stats.input_bytes += fresh.size;
        in = buffer_bytes(&client->input);
    }
    client->stalled = client->postponed = false;
    while (in.size > 0 && may_take(core, client) && take_packet(core, client, &in)) {
        client->partial_ms = 0;
        core_carry_out(core, client);
        client = registry_find(&core->registry, number);
        if (client == NULL)
            return;
    }
    if (client->phase == CLIENT_ENDING || client->phase == CLIENT_CLOSED)
        in.size = 0; /* nothing behind the end is looked at */
    else if (in.size > 0 && client->phase != CLIENT_CONNECTING && !core_takes_input(core))
        postpone(core, client);
    else if (in.size > 0 && client->phase == CLIENT_CONNECTED && !may_take(core, client))
        stall(core, client);
    if (in.size == 0 || client->stalled || client->postponed)
        client->partial_ms = 0; /* nothing has begun, or it is not the client that is slow */
    else if (client->partial_ms == 0)
        client->partial_ms = core->now_ms;
    keep_input(core, client, in);
    core_decide_reading(core, client);
    core_arm(core, client);
    if (core->node.stats.input_bytes > core->node.limits.memory_bytes_max && client->input.size > READ_AHEAD_MAX)
        core_end(core, client, CLIENT_END_QUOTA);
}

void core_refuse_stalled(struct core *core, struct client *client)
{
    struct mqtt_decode_options options = {.packet_size_max = core->node.limits.connect_bytes_max};
    struct mqtt_packet packet;
    struct mqtt_fault fault;
    size_t size;

    if (mqtt_decode(buffer_bytes(&client->input), &options, &packet, &size, &fault) != STATUS_OK)
        return;
    actions_clear(&core->actions);
    client_refuse(client, &packet, &core->actions);
    core_carry_out(core, client);
}
