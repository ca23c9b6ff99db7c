/* consensus_batches.c — batches on their way into the log, and committed entries on their way out. Part of consensus.
 *
 *   proposer (ours, or a peer's FORWARD) -> pending -> stamped, submitted to the replica at the end of the turn
 *   replica: committed -> consensus_deliver() -> core, at most AHEAD_ENTRIES before it has applied them
 *
 * Batches that find no leader, or no room, are dropped: their proposer sends them again. */
#include <string.h>

#include "base/memory.h"
#include "command.h"
#include "consensus_private.h"

#define UNCOMMITTED_ENTRIES 2048                   /* as leader, batches wait in `pending` beyond this */
#define SUBMIT_ENTRIES 256                         /* in one turn */
#define PENDING_BYTES_MAX (256u * 1024 * 1024)     /* dropped beyond; their origins send again */
#define DELIVER_ENTRIES 256                        /* to core in one turn */
#define DELIVER_BYTES (8u * 1024 * 1024)

void batches_drop(struct consensus *consensus)
{
    for (size_t i = 0; i < consensus->pending_count; i++)
        log_entry_release(consensus->pending[i]);
    consensus->counts.batches_dropped += consensus->pending_count;
    consensus->pending_count = 0;
    consensus->pending_bytes = 0;
}

void batches_append(struct consensus *consensus, struct bytes batch)
{
    if (consensus->pending_bytes + batch.size > PENDING_BYTES_MAX || consensus->resigned) {
        consensus->counts.batches_dropped++;
        return;
    }
    if (consensus->pending_count == consensus->pending_capacity) {
        consensus->pending_capacity = consensus->pending_capacity == 0 ? 64 : 2 * consensus->pending_capacity;
        consensus->pending =
            memory_resize(consensus->pending, consensus->pending_capacity * sizeof *consensus->pending);
    }
    consensus->pending[consensus->pending_count++] =
        log_entry_new(replica_term(consensus->replica), LOG_COMMAND, batch.data, batch.size);
    consensus->pending_bytes += batch.size;
}

void consensus_submit(struct consensus *consensus, struct bytes batch)
{
    uint32_t leader = replica_leader(consensus->replica);
    if (consensus->failed || batch.size > WIRE_ENTRY_BYTES_MAX) {
        consensus->counts.batches_dropped++;
        return;
    }
    if (leader == consensus->settings.self) {
        batches_append(consensus, batch);
        return;
    }
    struct buffer *frame = leader == 0 ? NULL : consensus_frame(consensus, leader, WIRE_FORWARD);
    if (frame == NULL) {
        consensus->counts.batches_dropped++;
        return;
    }
    buffer_put_bytes(frame, batch);
    consensus_frame_send(consensus, leader, WIRE_FORWARD);
    consensus->counts.batches_forwarded++;
}

bool batches_may_submit(const struct consensus *consensus)
{
    return consensus->pending_count > 0 && consensus->clock_live && !replica_transferring(consensus->replica) &&
           log_last(consensus->log) < replica_commit(consensus->replica) + UNCOMMITTED_ENTRIES;
}

/* One RAFT_SUBMIT for all that came in this turn: the group commit. */
void batches_flush(struct consensus *consensus)
{
    struct replica *replica = consensus->replica;
    if (consensus->pending_count == 0)
        return;
    if (replica_role(replica) != RAFT_LEADER || consensus->pending[0]->term != replica_term(replica) ||
        consensus->resigned) {
        batches_drop(consensus);
        return;
    }
    if (!batches_may_submit(consensus))
        return;
    size_t count = consensus->pending_count < SUBMIT_ENTRIES ? consensus->pending_count : SUBMIT_ENTRIES;
    for (size_t i = 0; i < count; i++)
        batch_set_stamp(consensus->pending[i]->data, clock_next_stamp(consensus));
    if (replica_submit(replica, consensus->pending, (uint32_t)count) != STATUS_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        consensus->pending_bytes -= consensus->pending[i]->size;
        log_entry_release(consensus->pending[i]);
    }
    consensus->counts.batches_appended += count;
    consensus->pending_count -= count;
    memmove(consensus->pending, consensus->pending + count, consensus->pending_count * sizeof *consensus->pending);
}

/* ---- committed entries ---- */

bool batches_may_deliver(const struct consensus *consensus)
{
    return consensus->next <= replica_commit(consensus->replica) && !replica_installing(consensus->replica) &&
           consensus->next - consensus->applied <= AHEAD_ENTRIES && consensus->ahead_bytes < AHEAD_BYTES;
}

void consensus_deliver(struct consensus *consensus)
{
    struct log_entry *entries[DELIVER_ENTRIES];
    if (consensus->failed || !batches_may_deliver(consensus))
        return;
    uint64_t room = consensus->applied + AHEAD_ENTRIES + 1 - consensus->next;
    uint64_t committed = replica_commit(consensus->replica) + 1 - consensus->next;
    uint64_t wanted = committed < room ? committed : room;
    size_t count = 0;
    enum status status = log_get_many(consensus->log, consensus->next, wanted < DELIVER_ENTRIES ? wanted : DELIVER_ENTRIES,
                                      DELIVER_BYTES, entries, &count);
    if (status != STATUS_OK) {
        consensus_fail(consensus, status, log_trouble(consensus->log));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t index = consensus->next++;
        consensus->ahead_sizes[index % AHEAD_ENTRIES] = entries[i]->size;
        consensus->ahead_bytes += entries[i]->size;
        consensus->bytes_since_snapshot += entries[i]->size + 64;
        consensus->calls.commit(consensus->context, index, entries[i]);
    }
}

void consensus_applied(struct consensus *consensus, uint64_t index, uint64_t clock_ms, bool awaited)
{
    if (index <= consensus->applied || index >= consensus->next)
        return;
    for (uint64_t i = consensus->applied + 1; i <= index; i++)
        consensus->ahead_bytes -= consensus->ahead_sizes[i % AHEAD_ENTRIES];
    consensus->applied = index;
    consensus->applied_awaited = consensus->applied_awaited || awaited;
    clock_applied(consensus, clock_ms, index > consensus->start_last);
}
