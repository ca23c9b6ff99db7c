/* consensus_frames.c — what passes between this node and its peers: frames out, frames in, links up and down. Part of
 * consensus.
 *
 *   consensus_receive: decoded -> of this connection, the next one (S7) -> replica (raft link)
 *                                                                       -> batches, transfer, hashes, core (bulk link)
 *
 * Who breaks the rules of a link is disconnected; what cannot be sent is dropped, and whoever wanted it sends again. */
#include <assert.h>
#include <stdlib.h>

#include "base/bug.h"
#include "base/buggify.h"
#include "command.h"
#include "consensus_private.h"

/* ---- out ---- */

void consensus_break(struct consensus *consensus, uint32_t peer, enum link_kind kind, const char *reason)
{
    struct peer_link *link = &consensus->peers[peer].links[kind];
    if (!link->up || link->broken)
        return;
    link->broken = true;
    consensus->counts.frames_dropped++;
    consensus->calls.disconnect(consensus->context, peer, kind, link->in, reason);
}

bool consensus_reaches(const struct consensus *consensus, uint32_t peer, enum link_kind kind)
{
    const struct peer_link *link = &consensus->peers[peer].links[kind];
    return link->up && !link->broken;
}

struct buffer *consensus_frame(struct consensus *consensus, uint32_t peer, enum wire_type type)
{
    struct peer_link *link = &consensus->peers[peer].links[wire_kind(type)];
    if (!consensus_reaches(consensus, peer, wire_kind(type)))
        return NULL;
    assert(consensus->frame.size == 0);
    wire_frame_begin(&consensus->frame, type, link->out, ++link->sent);
    return &consensus->frame;
}

void consensus_frame_send(struct consensus *consensus, uint32_t peer, enum wire_type type)
{
    struct buffer frame = consensus->frame;
    consensus->frame = (struct buffer){0};
    wire_frame_end(&frame, 0);
    consensus->counts.frames_out++;
    consensus->counts.bytes_out += frame.size;
    consensus->calls.send(consensus->context, peer, wire_kind(type), frame.data, frame.size);
}

void frames_send_raft(struct consensus *consensus, enum wire_type type, const struct raft_message *message,
                      struct log_entry *const *entries, uint32_t count)
{
    uint32_t peer = (uint32_t)message->server_id;
    struct buffer *frame = consensus_frame(consensus, peer, type);
    if (frame == NULL)
        return; /* raft sends again */
    if (message->type == RAFT_APPEND_ENTRIES) {
        size_t size = 64;
        for (uint32_t i = 0; i < count; i++)
            size += wire_append_entry_size(entries[i]);
        buffer_reserve(frame, size);
        wire_append_put(frame, &message->append_entries, entries, count);
    } else {
        wire_raft_put(frame, message, bytes_of(NULL, 0));
    }
    consensus_frame_send(consensus, peer, type);
}

bool consensus_messages(struct consensus *consensus, uint32_t peer, struct bytes messages)
{
    struct buffer *frame = NULL;
    if (!consensus->failed && messages.size <= WIRE_FRAME_BYTES_MAX - WIRE_HEADER_SIZE)
        frame = consensus_frame(consensus, peer, WIRE_MESSAGES);
    if (frame == NULL)
        return false;
    buffer_put_bytes(frame, messages);
    consensus_frame_send(consensus, peer, WIRE_MESSAGES);
    return true;
}

/* Each APPLIED wakes its receiver: a frame per entry and pair of nodes would cost more than the entry itself. */
static bool applied_is_due(const struct consensus *consensus, const struct peer *peer)
{
    if (peer->told_applied == consensus->applied || !peer->links[LINK_BULK].up)
        return false;
    return consensus->applied_awaited || peer->told_applied == UINT64_MAX ||
           consensus->now - peer->told_applied_ms >= consensus->settings.heartbeat_ms;
}

void frames_tell_applied(struct consensus *consensus)
{
    uint64_t clock = consensus->clock_live ? clock_reckon(consensus) : 0;
    for (uint32_t id = 1; id < consensus->peers_end; id++) {
        struct peer *peer = &consensus->peers[id];
        struct buffer *frame = applied_is_due(consensus, peer) ? consensus_frame(consensus, id, WIRE_APPLIED) : NULL;
        if (frame == NULL)
            continue;
        wire_applied_put(frame, &(struct wire_applied){consensus->applied, clock});
        consensus_frame_send(consensus, id, WIRE_APPLIED);
        peer->told_applied = consensus->applied;
        peer->told_applied_ms = consensus->now;
    }
    consensus->applied_awaited = false;
}

/* ---- in: raft ---- */

static void receive_append(struct consensus *consensus, uint32_t peer, const struct wire_frame *frame)
{
    struct raft_message message = {.type = RAFT_APPEND_ENTRIES};
    struct log_entry **entries = NULL;
    uint32_t count = 0;
    if (wire_append_get(frame->body, &message.append_entries, &entries, &count) != STATUS_OK) {
        consensus_break(consensus, peer, LINK_RAFT, "malformed AppendEntries");
        return;
    }
    uint64_t term = message.append_entries.term, commit = message.append_entries.leader_commit;
    const char *refused =
        frame->type == WIRE_COMMIT && count == 0
            ? replica_receive_push(consensus->replica, peer, &message)
            : replica_receive(consensus->replica, peer, &message, entries, count, bytes_of(NULL, 0));
    if (refused != NULL)
        consensus_break(consensus, peer, LINK_RAFT, refused);
    else if (term >= replica_term(consensus->replica))
        clock_raise_floor(consensus, entries, count);
    health_heard_leader(consensus, peer, term, commit);
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
    free(entries);
}

static void receive_raft(struct consensus *consensus, uint32_t peer, const struct wire_frame *frame)
{
    struct raft_message message;
    struct bytes configuration = {NULL, 0};
    if (frame->type == WIRE_APPEND || frame->type == WIRE_COMMIT) {
        receive_append(consensus, peer, frame);
        return;
    }
    if (wire_raft_get(frame->type, frame->body, &message, &configuration) != STATUS_OK) {
        consensus_break(consensus, peer, LINK_RAFT, "malformed raft message");
        return;
    }
    if (message.type == RAFT_INSTALL_SNAPSHOT &&
        !transfer_is_stored(consensus, message.install_snapshot.last_index, message.install_snapshot.last_term))
        return; /* of an earlier attempt */
    const char *refused = replica_receive(consensus->replica, peer, &message, NULL, 0, configuration);
    if (refused != NULL)
        consensus_break(consensus, peer, LINK_RAFT, refused);
}

/* ---- in: bulk ---- */

static void receive_forward(struct consensus *consensus, uint32_t peer, struct bytes batch)
{
    struct batch_header header;
    struct bytes commands;
    if (batch_decode(batch, &header, &commands) != STATUS_OK || header.origin_node != peer ||
        batch.size > WIRE_ENTRY_BYTES_MAX) {
        consensus_break(consensus, peer, LINK_BULK, "forwards something that is not a batch of its own");
        return;
    }
    if (replica_role(consensus->replica) != RAFT_LEADER || buggify(BUGGIFY_FORWARD_IS_LOST))
        consensus->counts.batches_dropped++; /* it will hear who leads, and send again */
    else
        batches_append(consensus, batch);
}

static void check_hash(struct consensus *consensus, uint32_t node, uint64_t index, const uint64_t hash[2])
{
    uint64_t differing = 0;
    switch (hashes_add(&consensus->hashes, index, node, hash, consensus->settings.self,
                       replica_voters(consensus->replica), &differing)) {
    case HASHES_OPEN:
        return;
    case HASHES_OTHER:
        consensus_note(consensus, "state differs at index %llu on node(s) with mask %llx", (unsigned long long)index,
                       (unsigned long long)differing);
        return;
    case HASHES_SELF:
        consensus_fail(consensus, STATUS_CORRUPT, "the state of this node differs from that of the majority");
        return;
    }
}

void consensus_hash(struct consensus *consensus, uint64_t index, const uint64_t hash[2])
{
    for (uint32_t peer = 1; peer < consensus->peers_end && !consensus->failed; peer++) {
        struct buffer *frame = consensus_frame(consensus, peer, WIRE_HASH);
        if (frame == NULL)
            continue;
        wire_hash_put(frame, &(struct wire_hash){index, {hash[0], hash[1]}});
        consensus_frame_send(consensus, peer, WIRE_HASH);
    }
    if (!consensus->failed)
        check_hash(consensus, consensus->settings.self, index, hash);
}

static void receive_applied(struct consensus *consensus, uint32_t node, const struct wire_applied *applied)
{
    struct peer *peer = &consensus->peers[node];
    peer->applied = applied->index;
    peer->clock_ms = applied->clock_ms;
    peer->clock_at_ms = consensus->heard_ms;
    peer->told_clock = true;
    consensus->calls.peer_applied(consensus->context, node, applied->index);
}

static void receive_bulk(struct consensus *consensus, uint32_t peer, const struct wire_frame *frame)
{
    struct wire_applied applied;
    struct wire_hash hash;
    struct wire_snapshot_offer offer;
    struct wire_snapshot_chunk chunk;
    struct wire_snapshot_ack ack;
    enum status status = STATUS_OK;
    switch ((int)frame->type) {
    case WIRE_FORWARD:
        receive_forward(consensus, peer, frame->body);
        break;
    case WIRE_APPLIED:
        if ((status = wire_applied_get(frame->body, &applied)) == STATUS_OK)
            receive_applied(consensus, peer, &applied);
        break;
    case WIRE_MESSAGES:
        consensus->calls.messages(consensus->context, peer, frame->body);
        break;
    case WIRE_HASH:
        if ((status = wire_hash_get(frame->body, &hash)) == STATUS_OK)
            check_hash(consensus, peer, hash.index, hash.hash);
        break;
    case WIRE_SNAPSHOT_OFFER:
        if ((status = wire_snapshot_offer_get(frame->body, &offer)) == STATUS_OK)
            transfer_receive_offer(consensus, peer, &offer);
        break;
    case WIRE_SNAPSHOT_CHUNK:
        if ((status = wire_snapshot_chunk_get(frame->body, &chunk)) == STATUS_OK)
            transfer_receive_chunk(consensus, peer, &chunk);
        break;
    case WIRE_SNAPSHOT_ACK:
        if ((status = wire_snapshot_ack_get(frame->body, &ack)) == STATUS_OK)
            transfer_receive_ack(consensus, peer, &ack);
        break;
    default:
        status = STATUS_MALFORMED;
    }
    if (status != STATUS_OK)
        consensus_break(consensus, peer, LINK_BULK, "malformed frame");
}

/* ---- in ---- */

/* S7: only frames of this connection, and each of them once and in order. false: dropped. */
static bool frame_is_next(struct consensus *consensus, uint32_t peer, enum link_kind kind,
                          const struct wire_frame *frame)
{
    struct peer_link *link = &consensus->peers[peer].links[kind];
    if (bug(BUG_V29_OLD_CONNECTIONS))
        return true;
    if (!link->up || link->broken || frame->generation != link->in || frame->sequence <= link->received) {
        consensus->counts.frames_dropped++;
        return false;
    }
    if (frame->sequence != link->received + 1) {
        consensus_break(consensus, peer, kind, "a frame is missing");
        return false;
    }
    link->received++;
    return true;
}

void consensus_receive(struct consensus *consensus, uint32_t peer, enum link_kind kind, struct bytes bytes)
{
    struct wire_frame frame;
    if (consensus->failed || peer == 0 || peer >= NODES || peer == consensus->settings.self)
        return;
    enum status status = wire_frame_decode(bytes, &frame);
    if (status != STATUS_OK && status != STATUS_UNSUPPORTED) {
        consensus_break(consensus, peer, kind, "malformed frame");
        return;
    }
    if (!frame_is_next(consensus, peer, kind, &frame))
        return;
    consensus->counts.frames_in++;
    consensus->counts.bytes_in += bytes.size;
    consensus->peers[peer].heard_ms = consensus->now;
    if (status == STATUS_UNSUPPORTED || !replica_started(consensus->replica))
        return; /* a newer version's, or we are not ready: raft and proposers send again */
    if (frame.type == WIRE_HELLO || wire_kind(frame.type) != kind)
        consensus_break(consensus, peer, kind, "a frame on the wrong link");
    else if (kind == LINK_RAFT)
        receive_raft(consensus, peer, &frame);
    else
        receive_bulk(consensus, peer, &frame);
}

/* ---- links ---- */

static void link_reset(struct consensus *consensus, uint32_t peer, enum link_kind kind)
{
    if (kind == LINK_RAFT) {
        replica_peer_reset(consensus->replica, peer);
    } else {
        transfer_link_down(consensus, peer);
        consensus->peers[peer].told_applied = UINT64_MAX;
    }
}

void consensus_link_up(struct consensus *consensus, uint32_t peer, enum link_kind kind, uint64_t in, uint64_t out)
{
    assert(peer > 0 && peer < NODES && peer != consensus->settings.self && in != 0 && out != 0);
    consensus->peers[peer].links[kind] = (struct peer_link){.up = true, .in = in, .out = out};
    consensus->peers[peer].heard_ms = consensus->now;
    consensus->peers[peer].known = true;
    if (peer >= consensus->peers_end)
        consensus->peers_end = peer + 1;
    link_reset(consensus, peer, kind);
    if (kind == LINK_BULK && peer == replica_leader(consensus->replica))
        consensus->route++;
}

void consensus_link_down(struct consensus *consensus, uint32_t peer, enum link_kind kind, uint64_t in)
{
    assert(peer > 0 && peer < NODES);
    struct peer_link *link = &consensus->peers[peer].links[kind];
    if (!link->up || link->in != in)
        return; /* replaced by a newer one */
    *link = (struct peer_link){0};
    link_reset(consensus, peer, kind);
}
