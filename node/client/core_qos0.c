/* core_qos0.c — QoS 0: matched here, delivered here, and one copy to each other node that has a match.
 *
 * It never waits: neither for the log nor for a peer. What cannot go out in this turn is dropped and counted. */
#include "core_private.h"

#define PEER_BYTES_MAX (4 * 1024 * 1024) /* QoS 0 for one node in one turn */

static void send_to_peers(struct core *core, uint64_t nodes, const struct message *message)
{
    for (uint32_t node = 1; nodes >> node != 0; node++) {
        struct buffer *out = &core->peers[node].messages;

        if ((nodes & (UINT64_C(1) << node)) == 0)
            continue;
        if ((core->health.linked & (UINT64_C(1) << node)) == 0 || out->size > PEER_BYTES_MAX) {
            core->node.stats.drops[DROP_NO_LINK]++;
            continue;
        }
        wire_message_put(out, message);
        core->node.stats.qos0_to_peers++;
    }
}

uint64_t core_deliver_here(struct core *core, const struct message *message)
{
    const struct target *targets = NULL;
    uint32_t count = 0;
    uint64_t nodes = 0;

    effects_clear(core->arena);
    state_match(core->state, message, core->arena, &targets, &count, &nodes);
    if (count > 0)
        deliver_message(core, message, targets, count);
    return nodes;
}

void core_route_qos0(struct core *core, struct message *message, uint32_t expiry_s)
{
    uint64_t nodes;

    message->created_ms = core_clock_ms(core);
    message->expires_ms = expiry_s == UINT32_MAX ? 0 : message->created_ms + (uint64_t)expiry_s * 1000;
    nodes = core_deliver_here(core, message) & ~(UINT64_C(1) << core->node.node);
    if (nodes != 0)
        send_to_peers(core, nodes, message);
}

void core_flush_qos0(struct core *core)
{
    for (uint32_t node = 1; node < NODES_MAX; node++) {
        struct buffer *out = &core->peers[node].messages;

        if (out->size == 0)
            continue;
        core->out.messages(core->out.context, node, buffer_bytes(out));
        buffer_clear(out);
    }
}

void core_peer_messages(struct core *core, uint32_t node, struct bytes messages, uint64_t now_ms)
{
    struct reader reader = reader_of(messages);
    struct message message;

    (void)node;
    core->now_ms = now_ms;
    while (wire_message_next(&reader, &message)) {
        core->node.stats.qos0_from_peers++;
        core_deliver_here(core, &message);
    }
}
