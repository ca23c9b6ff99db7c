/* core_qos0.c — QoS 0: matched here, delivered here, and one copy to each other node that has a match, or the member
 * of a group whose turn it is.
 *
 * It never waits: neither for the log nor for a peer. What cannot go out in this turn is dropped and counted. */
#include "core_private.h"

#define PEER_BYTES_MAX (4 * 1024 * 1024) /* QoS 0 for one node in one turn */

/* The groups whose turn is a member at `node`, as they go over the wire. */
static struct bytes groups_of(struct core *core, const struct match *match, uint32_t node)
{
    buffer_clear(&core->scratch);
    for (uint32_t i = 0; i < match->choice_count; i++) {
        if (match->choices[i].node == node)
            buffer_put_varint(&core->scratch, match->choices[i].group);
    }
    return buffer_bytes(&core->scratch);
}

static void send_to_peers(struct core *core, const struct match *match, const struct message *message)
{
    for (uint32_t node = 1; node < NODES_MAX && match->nodes >> node != 0; node++) {
        struct buffer *out = &core->peers[node].messages;

        if ((match->nodes & (UINT64_C(1) << node)) == 0)
            continue;
        if ((core->health.linked & (UINT64_C(1) << node)) == 0 || out->size > PEER_BYTES_MAX) {
            core->node.stats.drops[DROP_NO_LINK]++;
            continue;
        }
        wire_message_put(out, message, groups_of(core, match, node));
        core->node.stats.qos0_to_peers++;
    }
}

static void deliver_match(struct core *core, const struct message *message, const struct match *match)
{
    if (match->count > 0)
        deliver_message(core, message, match->targets, match->count);
}

void core_deliver_here(struct core *core, const struct message *message)
{
    struct match match;

    effects_clear(core->arena);
    state_match(core->state, message, 0, core->arena, &match);
    deliver_match(core, message, &match);
}

void core_route_qos0(struct core *core, struct message *message, uint32_t expiry_s)
{
    struct match match;

    message->created_ms = core_clock_ms(core);
    message->expires_ms = expiry_s == UINT32_MAX ? 0 : message->created_ms + (uint64_t)expiry_s * 1000;
    effects_clear(core->arena);
    state_match(core->state, message, core->health.linked, core->arena, &match);
    deliver_match(core, message, &match);
    if (match.nodes != 0)
        send_to_peers(core, &match, message);
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

/* A copy that another node has sent: for the clients here, and for a member here of each of `groups`. */
static void deliver_copy(struct core *core, const struct message *message, struct bytes groups)
{
    struct reader reader = reader_of(groups);
    struct match match;
    uint64_t *numbers;
    uint32_t count = 0;

    effects_clear(core->arena);
    numbers = effects_allocate(core->arena, groups.size * sizeof(*numbers)); /* each takes a byte at least */
    while (reader.rest.size > 0 && !reader.failed)
        numbers[count++] = reader_varint(&reader);
    state_match_copy(core->state, message, numbers, count, core->arena, &match);
    deliver_match(core, message, &match);
}

void core_peer_messages(struct core *core, uint32_t node, struct bytes messages, uint64_t now_ms)
{
    struct reader reader = reader_of(messages);
    struct message message;
    struct bytes groups;

    (void)node;
    core->now_ms = now_ms;
    while (wire_message_next(&reader, &message, &groups)) {
        core->node.stats.qos0_from_peers++;
        deliver_copy(core, &message, groups);
    }
}
