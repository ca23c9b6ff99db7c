/* core_qos0.c — QoS 0: matched here, delivered here, and one copy to each other node that has a match, or the member
 * of a group whose turn it is.
 *
 * It never waits for the log, nor for a peer: what cannot go out in this turn is dropped and counted. A message that
 * matches much is delivered in parts, one each turn; others come behind it, so that their order is kept. */
#include "core_private.h"

#include "base/topic.h"

#define PEER_BYTES_MAX    (4 * 1024 * 1024)  /* QoS 0 for one node in one turn */
#define ARRIVED_BYTES_MAX (16 * 1024 * 1024) /* QoS 0 from one node that waits for its turn */
#define LIVE_BYTES_KEPT   (64 * 1024)        /* of the message under way, for the next one */

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

/* ---- the message under way ---- */

static struct bytes keep(struct buffer *text, struct bytes bytes)
{
    size_t at = text->size;

    buffer_put_bytes(text, bytes);
    return bytes_of(text->data + at, bytes.size);
}

/* The message, which is borrowed, as one that lasts. */
static void live_begin(struct core *core, const struct message *message)
{
    struct live_message *live = &core->live;

    buffer_clear(&live->text);
    buffer_reserve(&live->text, message->topic.size + message->payload.size + message->properties.size);
    live->open = true;
    live->message = *message;
    live->message.topic = keep(&live->text, message->topic);
    live->message.payload = keep(&live->text, message->payload);
    live->message.properties = keep(&live->text, message->properties);
    live->number = (live->number + 1) | UINT64_C(1) << 63;
}

static uint64_t looks_left(const struct core *core)
{
    return core->input_looks < INPUT_LOOKS ? INPUT_LOOKS - core->input_looks : 1;
}

/* Of the looks that are left, those for so few targets that a copy for each of them is no long work. */
static uint64_t a_piece(const struct message *message, uint64_t looks)
{
    uint64_t most = 1 + INPUT_LOOKS / 4 * BYTES_PER_LOOK / (message->payload.size + 1);

    return looks < most ? looks : most;
}

void core_live_more(struct core *core, uint64_t looks)
{
    struct live_message *live = &core->live;
    uint64_t before = state_worked(core->state), copies = core->copies_looks, given = 0, done = 0;
    bool more = true;

    while (more && done <= looks) {
        struct match match;

        effects_clear(core->arena);
        more = state_match_more(core->state, core->arena, a_piece(&live->message, looks - done), &match);
        if (match.count > 0)
            deliver_message(core, live->number, &live->message, match.targets, match.count);
        given += TARGET_LOOKS * match.count + (core->copies_looks - copies);
        core->copies_looks = copies;
        done = state_worked(core->state) - before + given;
        if (!more && match.nodes != 0 && !live->copied)
            send_to_peers(core, &match, &live->message);
    }
    core->input_looks += done;
    live->open = more;
    if (more)
        core->breather = true;
    else if (live->text.capacity > LIVE_BYTES_KEPT)
        buffer_release(&live->text);
}

void core_deliver_here(struct core *core, const struct message *message)
{
    live_begin(core, message);
    core->live.copied = true;
    state_match_begin(core->state, &core->live.message, 0);
    core_live_more(core, looks_left(core));
}

void core_route_qos0(struct core *core, struct message *message, uint32_t expiry_s)
{
    message->created_ms = core_clock_ms(core);
    message->expires_ms = expiry_s == UINT32_MAX ? 0 : message->created_ms + (uint64_t)expiry_s * 1000;
    live_begin(core, message);
    core->live.copied = false;
    state_match_begin(core->state, &core->live.message, core->health.linked);
    core_live_more(core, looks_left(core));
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
    struct live_message *live = &core->live;
    struct reader reader = reader_of(groups);
    uint32_t count = 0;

    live_begin(core, message);
    live->copied = true;
    buffer_clear(&live->groups);
    for (; reader.rest.size > 0 && !reader.failed; count++) {
        uint64_t group = reader_varint(&reader);

        buffer_put(&live->groups, &group, sizeof(group));
    }
    state_match_copy_begin(core->state, &live->message, (const uint64_t *)live->groups.data, count);
    core_live_more(core, looks_left(core));
}

/* Whether a client can have published it. The node that it was published at has asked that, too, and who may publish there;
 * who may receive it is asked here, at each delivery. */
static bool is_publishable(struct core *core, const struct message *message)
{
    bool publishable = topic_name_check(message->topic) == STATUS_OK && !topic_is_reserved(message->topic);

    core->node.stats.reserved_topics += !publishable;
    return publishable;
}

/* Takes what a node has sent, as far as this turn may; what has been taken is forgotten when it is much. */
static void take_from(struct core *core, struct peer_node *peer)
{
    struct reader reader = reader_of(bytes_of(peer->arrived.data + peer->taken, peer->arrived.size - peer->taken));
    struct message message;
    struct bytes groups;

    while (core_takes_input(core) && wire_message_next(&reader, &message, &groups)) {
        core->node.stats.qos0_from_peers++;
        core->input_looks += PACKET_LOOKS;
        if (is_publishable(core, &message))
            deliver_copy(core, &message, groups);
    }
    peer->taken = peer->arrived.size - reader.rest.size;
    if (reader.rest.size == 0 || reader.failed) {
        buffer_release(&peer->arrived);
        peer->taken = 0;
    } else if (peer->taken > peer->arrived.size / 2) {
        buffer_consume(&peer->arrived, peer->taken);
        peer->taken = 0;
    }
}

void core_take_arrived(struct core *core)
{
    for (uint32_t node = 1; node < NODES_MAX; node++) {
        if (core->peers[node].arrived.size > 0)
            take_from(core, &core->peers[node]);
    }
}

void core_peer_messages(struct core *core, uint32_t node, struct bytes messages, uint64_t now_ms)
{
    struct buffer *arrived;

    core->now_ms = now_ms;
    if (node >= NODES_MAX)
        return;
    arrived = &core->peers[node].arrived;
    if (arrived->size > 0 && arrived->size + messages.size > ARRIVED_BYTES_MAX) {
        core->node.stats.drops[DROP_BEHIND]++;
        return;
    }
    buffer_put_bytes(arrived, messages);
    take_from(core, &core->peers[node]);
}
