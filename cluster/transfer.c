/* transfer.c — snapshots on their way between nodes, beside raft. Part of consensus.
 *
 *   leader                                            follower
 *   raft: "it needs a snapshot"  --OFFER-->           opens a file (or refuses)
 *          <--ACK wanted, offset--
 *          --CHUNK, CHUNK ...-->   at most WINDOW     appends
 *          <--ACK wanted, offset--  ahead             ...
 *                                                     all here: a worker flushes and verifies
 *          <--ACK stored--
 *   raft's InstallSnapshot  ------------------------> raft accepts; core replaces its state; raft answers
 *
 * A peer that finds it damaged refuses it, and the leader takes another: bits rot on its disk, too.
 *
 * Raft asks again every heartbeat; while a transfer to that peer is under way it is ignored (S6). An interrupted one goes
 * on at its offset, if the offer is of the same snapshot. What comes meanwhile stays in the log until the peer has it, or
 * under load it would need a snapshot again and again. */
#include <assert.h>
#include <stdlib.h>

#include "base/memory.h"
#include "consensus_private.h"

#define WINDOW_BYTES (4u * WIRE_CHUNK_BYTES_MAX)
#define STALLED_MS 30000     /* without an acknowledgement: begin anew when raft asks */
#define INSTALL_MS 120000    /* the peer has it all, and its raft has not answered */

/* ---- sending ---- */

static void end_outgoing(struct consensus *consensus, uint32_t peer)
{
    struct outgoing *outgoing = &consensus->peers[peer].outgoing;
    if (!outgoing->active)
        return;
    consensus->calls.snapshot_close(consensus->context, outgoing->index);
    buffer_release(&outgoing->configuration);
    *outgoing = (struct outgoing){0};
}

void transfer_wanted(struct consensus *consensus, uint32_t peer)
{
    struct outgoing *outgoing = &consensus->peers[peer].outgoing;
    const struct consensus_snapshot *snapshot = &consensus->newest;
    uint64_t size = 0;
    if (outgoing->active || snapshot->index == 0 || !consensus_reaches(consensus, peer, LINK_BULK))
        return;
    enum status status = consensus->calls.snapshot_open(consensus->context, snapshot->index, &size);
    if (status != STATUS_OK) {
        consensus_note(consensus, "cannot read snapshot %llu for node %u: %s", (unsigned long long)snapshot->index, peer,
                       status_text(status));
        return;
    }
    *outgoing = (struct outgoing){.active = true,
                                  .index = snapshot->index,
                                  .term = snapshot->term,
                                  .size = size,
                                  .moved_ms = consensus->now,
                                  .configuration_index = snapshot->configuration_index};
    buffer_put_bytes(&outgoing->configuration, snapshot->configuration);
    struct buffer *frame = consensus_frame(consensus, peer, WIRE_SNAPSHOT_OFFER);
    wire_snapshot_offer_put(frame, &(struct wire_snapshot_offer){outgoing->index, outgoing->term, outgoing->size,
                                                                 outgoing->configuration_index,
                                                                 buffer_bytes(&outgoing->configuration)});
    consensus_frame_send(consensus, peer, WIRE_SNAPSHOT_OFFER);
    consensus_note(consensus, "sending snapshot %llu (%llu bytes) to node %u", (unsigned long long)outgoing->index,
                   (unsigned long long)size, peer);
}

static void send_chunks(struct consensus *consensus, uint32_t peer)
{
    struct outgoing *outgoing = &consensus->peers[peer].outgoing;
    while (outgoing->sent < outgoing->size && outgoing->sent - outgoing->acknowledged < WINDOW_BYTES) {
        uint64_t rest = outgoing->size - outgoing->sent;
        size_t size = rest < WIRE_CHUNK_BYTES_MAX ? (size_t)rest : WIRE_CHUNK_BYTES_MAX;
        uint8_t *data = memory_allocate(size);
        enum status status =
            consensus->calls.snapshot_read(consensus->context, outgoing->index, outgoing->sent, data, size);
        if (status != STATUS_OK) {
            consensus_note(consensus, "cannot read snapshot %llu: %s", (unsigned long long)outgoing->index,
                           status_text(status));
            free(data);
            end_outgoing(consensus, peer);
            return;
        }
        struct buffer *frame = consensus_frame(consensus, peer, WIRE_SNAPSHOT_CHUNK);
        if (frame != NULL) {
            wire_snapshot_chunk_put(
                frame, &(struct wire_snapshot_chunk){outgoing->index, outgoing->sent, bytes_of(data, size)});
            consensus_frame_send(consensus, peer, WIRE_SNAPSHOT_CHUNK);
        }
        free(data);
        outgoing->sent += size;
    }
}

/* Tells the peer's raft, which answers through its own messages once core has made the snapshot its state. */
static void send_ready(struct consensus *consensus, uint32_t peer)
{
    struct outgoing *outgoing = &consensus->peers[peer].outgoing;
    struct raft_message message = {.type = RAFT_INSTALL_SNAPSHOT,
                                   .install_snapshot = {.term = replica_term(consensus->replica),
                                                        .last_index = outgoing->index,
                                                        .last_term = outgoing->term,
                                                        .conf_index = outgoing->configuration_index}};
    struct buffer *frame = NULL;
    if (replica_role(consensus->replica) == RAFT_LEADER)
        frame = consensus_frame(consensus, peer, WIRE_SNAPSHOT_READY);
    if (frame == NULL) {
        end_outgoing(consensus, peer);
        return;
    }
    wire_raft_put(frame, &message, buffer_bytes(&outgoing->configuration));
    consensus_frame_send(consensus, peer, WIRE_SNAPSHOT_READY);
    outgoing->stored = true;
    outgoing->ready_ms = consensus->now;
    consensus->counts.snapshots_sent++;
}

void transfer_receive_ack(struct consensus *consensus, uint32_t peer, const struct wire_snapshot_ack *ack)
{
    struct outgoing *outgoing = &consensus->peers[peer].outgoing;
    if (!outgoing->active || outgoing->index != ack->index || outgoing->stored)
        return;
    outgoing->moved_ms = consensus->now;
    switch ((enum snapshot_progress)ack->progress) {
    case SNAPSHOT_WANTED:
        if (ack->offset > outgoing->size) {
            consensus_break(consensus, peer, LINK_BULK, "asks for a snapshot beyond its end");
            return;
        }
        outgoing->acknowledged = ack->offset;
        if (outgoing->sent < ack->offset)
            outgoing->sent = ack->offset; /* it has a part from before */
        send_chunks(consensus, peer);
        return;
    case SNAPSHOT_STORED:
        send_ready(consensus, peer);
        return;
    case SNAPSHOT_REFUSED:
        if (ack->offset == outgoing->size)
            consensus->doubted_snapshot = outgoing->index; /* all of it came, and was not right: take another */
        end_outgoing(consensus, peer);
        return;
    }
}

static void advance_outgoing(struct consensus *consensus, uint32_t peer)
{
    const struct outgoing *outgoing = &consensus->peers[peer].outgoing;
    if (!outgoing->active)
        return;
    if (outgoing->stored && replica_match(consensus->replica, peer) >= outgoing->index) {
        end_outgoing(consensus, peer);
        consensus->peers[peer].following =
            (struct following){.active = true, .moved_ms = consensus->now, .behind = UINT64_MAX};
    } else if (outgoing->stored ? consensus->now - outgoing->ready_ms > INSTALL_MS
                                : consensus->now - outgoing->moved_ms > STALLED_MS) {
        end_outgoing(consensus, peer);
    }
}

/* It is followed from one end of the log to the next, until it is near, stands still, or falls back. */
static void advance_following(struct consensus *consensus, uint32_t peer)
{
    struct following *following = &consensus->peers[peer].following;
    uint64_t match = replica_match(consensus->replica, peer);
    if (!following->active)
        return;
    if (match > following->match) {
        following->match = match;
        following->moved_ms = consensus->now;
    }
    if (match >= following->target) {
        following->target = log_last(consensus->log);
        uint64_t behind = log_bytes_between(consensus->log, match, following->target);
        following->active = behind > consensus->settings.log_bytes_max / 4 && behind < following->behind;
        following->behind = behind;
    }
    if (consensus->now - following->moved_ms > STALLED_MS)
        following->active = false;
}

void transfer_advance(struct consensus *consensus)
{
    bool leads = replica_role(consensus->replica) == RAFT_LEADER;
    for (uint32_t peer = 1; peer < consensus->peers_end; peer++) {
        if (!leads)
            transfer_link_down(consensus, peer);
        advance_outgoing(consensus, peer);
        advance_following(consensus, peer);
    }
}

uint64_t transfer_keep_from(const struct consensus *consensus)
{
    uint64_t keep_from = UINT64_MAX;
    for (uint32_t peer = 1; peer < consensus->peers_end; peer++) {
        const struct outgoing *outgoing = &consensus->peers[peer].outgoing;
        const struct following *following = &consensus->peers[peer].following;
        if (outgoing->active && outgoing->index < keep_from)
            keep_from = outgoing->index;
        if (following->active && following->match < keep_from)
            keep_from = following->match;
    }
    return keep_from;
}

void transfer_link_down(struct consensus *consensus, uint32_t peer)
{
    end_outgoing(consensus, peer);
    consensus->peers[peer].following.active = false;
}

void transfer_free(struct consensus *consensus)
{
    for (uint32_t peer = 1; peer < NODES; peer++)
        end_outgoing(consensus, peer);
}

/* ---- receiving ---- */

static void acknowledge(struct consensus *consensus, uint32_t peer, uint64_t index, uint64_t offset,
                        enum snapshot_progress progress)
{
    struct buffer *frame = consensus_frame(consensus, peer, WIRE_SNAPSHOT_ACK);
    if (frame == NULL)
        return;
    wire_snapshot_ack_put(frame, &(struct wire_snapshot_ack){index, offset, (uint8_t)progress});
    consensus_frame_send(consensus, peer, WIRE_SNAPSHOT_ACK);
}

void transfer_receive_offer(struct consensus *consensus, uint32_t peer, const struct wire_snapshot_offer *offer)
{
    struct incoming *incoming = &consensus->incoming;
    bool same = incoming->index == offer->index && incoming->term == offer->term && incoming->size == offer->size;
    if (incoming->stored && same) {
        incoming->from = peer;
        acknowledge(consensus, peer, offer->index, offer->size, SNAPSHOT_STORED);
        return;
    }
    if (incoming->finishing && same) {
        incoming->from = peer; /* hears of it when it is done */
        return;
    }
    bool have = log_term_of(consensus->log, offer->index) == offer->term;
    if (incoming->finishing || replica_installing(consensus->replica) || have) {
        acknowledge(consensus, peer, offer->index, 0, SNAPSHOT_REFUSED);
        return;
    }
    if (!incoming->open || !same) {
        enum status status = consensus->calls.incoming_open(consensus->context);
        if (status != STATUS_OK) {
            consensus_note(consensus, "cannot begin to store a snapshot: %s", status_text(status));
            *incoming = (struct incoming){0};
            acknowledge(consensus, peer, offer->index, 0, SNAPSHOT_REFUSED);
            return;
        }
        *incoming = (struct incoming){.open = true, .index = offer->index, .term = offer->term, .size = offer->size};
    }
    incoming->from = peer;
    acknowledge(consensus, peer, offer->index, incoming->offset, SNAPSHOT_WANTED);
}

void transfer_receive_chunk(struct consensus *consensus, uint32_t peer, const struct wire_snapshot_chunk *chunk)
{
    struct incoming *incoming = &consensus->incoming;
    if (!incoming->open || incoming->from != peer || chunk->index != incoming->index ||
        chunk->offset != incoming->offset)
        return; /* of an earlier attempt */
    if (chunk->data.size > incoming->size - incoming->offset) {
        consensus_break(consensus, peer, LINK_BULK, "sends more of a snapshot than it offered");
        return;
    }
    enum status status = consensus->calls.incoming_write(consensus->context, chunk->offset, chunk->data);
    if (status != STATUS_OK) {
        consensus_note(consensus, "cannot store a snapshot: %s", status_text(status));
        *incoming = (struct incoming){0};
        acknowledge(consensus, peer, chunk->index, 0, SNAPSHOT_REFUSED);
        return;
    }
    incoming->offset += chunk->data.size;
    if (incoming->offset < incoming->size) {
        acknowledge(consensus, peer, incoming->index, incoming->offset, SNAPSHOT_WANTED);
        return;
    }
    incoming->open = false;
    incoming->finishing = true;
    consensus->calls.incoming_finish(consensus->context);
}

void transfer_received(struct consensus *consensus, enum status status)
{
    struct incoming *incoming = &consensus->incoming;
    assert(incoming->finishing);
    incoming->finishing = false;
    if (status != STATUS_OK) {
        consensus_note(consensus, "snapshot %llu of node %u is not usable: %s", (unsigned long long)incoming->index,
                       incoming->from, status_text(status));
        acknowledge(consensus, incoming->from, incoming->index, status == STATUS_CORRUPT ? incoming->size : 0,
                    SNAPSHOT_REFUSED);
        *incoming = (struct incoming){0};
        return;
    }
    incoming->stored = true;
    consensus->counts.snapshots_received++;
    acknowledge(consensus, incoming->from, incoming->index, incoming->size, SNAPSHOT_STORED);
}

bool transfer_is_stored(const struct consensus *consensus, uint64_t index, uint64_t term)
{
    const struct incoming *incoming = &consensus->incoming;
    return incoming->stored && incoming->index == index && incoming->term == term;
}

void transfer_install(struct consensus *consensus, const struct replica_snapshot *snapshot)
{
    consensus->calls.install(consensus->context, snapshot->index, snapshot->term);
}

void transfer_installed(struct consensus *consensus)
{
    consensus->incoming = (struct incoming){0};
}
