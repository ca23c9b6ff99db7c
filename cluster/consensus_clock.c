/* consensus_clock.c — cluster time: what the leader stamps batches with. Part of consensus.
 *
 * clock_ms was true at clock_at_ms, and time goes on at rate 1 from there. Every applied batch says again what time it
 * is; peers tell each other with APPLIED. What they say is taken for true when this turn had heard it all (heard_ms): a turn
 * that stood still, and then read what was sent meanwhile, would else be ahead by so long, and for ever.
 *
 * Always true: no stamp is below one that the log already holds (stamp_floor), and the wall clock comes in at one place
 * only, clock_take_over(). */
#include "base/bug.h"
#include "command.h"
#include "consensus_private.h"

#define CLOCK_PATIENCE_MS 1000   /* a leader waits so long for peers to say what time it is */

static bool batch_stamp(const struct log_entry *entry, uint64_t *stamp_ms)
{
    struct batch_header header;
    struct bytes commands;
    if (entry->type != LOG_COMMAND || batch_decode(log_entry_bytes(entry), &header, &commands) != STATUS_OK)
        return false;
    *stamp_ms = header.stamp_ms;
    return true;
}

void clock_raise_floor(struct consensus *consensus, struct log_entry *const *entries, uint32_t count)
{
    uint64_t stamp = 0;
    while (count > 0 && !batch_stamp(entries[count - 1], &stamp))
        count--;
    if (stamp > consensus->stamp_floor)
        consensus->stamp_floor = stamp;
}

enum status clock_raise_floor_from_log(struct consensus *consensus)
{
    uint64_t index = log_last(consensus->log);
    consensus->stamp_floor = consensus->clock_ms;
    for (int tries = 0; tries < 64 && index >= log_first(consensus->log) && index > 0; tries++, index--) {
        struct log_entry *entry = NULL;
        enum status status = log_get(consensus->log, index, &entry);
        if (status != STATUS_OK)
            return status;
        bool found = entry->type == LOG_COMMAND;
        clock_raise_floor(consensus, &entry, 1);
        log_entry_release(entry);
        if (found)
            break;
    }
    return STATUS_OK;
}

/* What clock_ms has become by now. May be below the floor: that only says what time it was when an entry was made. */
static uint64_t clock_now(const struct consensus *consensus)
{
    return consensus->clock_ms + (consensus->heard_ms - consensus->clock_at_ms);
}

uint64_t clock_reckon(const struct consensus *consensus)
{
    uint64_t reckoned = clock_now(consensus);
    return reckoned > consensus->stamp_floor ? reckoned : consensus->stamp_floor;
}

void clock_set(struct consensus *consensus, uint64_t clock_ms)
{
    consensus->clock_ms = clock_ms;
    consensus->clock_at_ms = consensus->heard_ms;
}

/* What was stamped long ago and is applied only now does not set back who has gone on reckoning. */
void clock_applied(struct consensus *consensus, uint64_t stamp_ms, bool of_this_run)
{
    bool reckons = consensus->clock_live || replica_role(consensus->replica) == RAFT_LEADER;
    if (stamp_ms == 0 || (reckons && stamp_ms <= clock_now(consensus)))
        return;
    clock_set(consensus, stamp_ms);
    consensus->clock_live = consensus->clock_live || of_this_run;
}

/* The latest time that a peer has told; 0: none knows. */
static uint64_t time_of_peers(const struct consensus *consensus)
{
    uint64_t best = 0;
    for (uint32_t node = 1; node < consensus->peers_end; node++) {
        const struct peer *peer = &consensus->peers[node];
        if (peer->clock_ms != 0 && peer->clock_ms + (consensus->heard_ms - peer->clock_at_ms) > best)
            best = peer->clock_ms + (consensus->heard_ms - peer->clock_at_ms);
    }
    return best;
}

/* Whether so many have said what they know of the time that, with this node, they are a majority. */
static bool majority_told_time(const struct consensus *consensus)
{
    uint64_t voters = replica_voters(consensus->replica);
    unsigned count = 0, told = 0;
    for (uint32_t node = 1; voters >> node != 0; node++) {
        if ((voters & NODE_BIT(node)) == 0)
            continue;
        count++;
        told += node == consensus->settings.self || consensus->peers[node].told_clock;
    }
    return told > count / 2;
}

/* A new leader that has applied entries of this run goes on from them. One that has not does not know how long nothing
 * was committed: peers that were there know. If of a majority nobody does, no node ran, and the wall clock bridges the
 * gap. Until it has heard them (on other connections than their votes came on) it stamps nothing, but not for ever. */
void clock_take_over(struct consensus *consensus)
{
    uint64_t best = time_of_peers(consensus);
    if (consensus->clock_live) {
        clock_set(consensus, clock_reckon(consensus));
        return;
    }
    if (best == 0 && !majority_told_time(consensus) && consensus->now - consensus->leads_since_ms < CLOCK_PATIENCE_MS)
        return;
    if (best == 0)
        best = consensus->wall;
    clock_set(consensus, best > consensus->stamp_floor ? best : consensus->stamp_floor);
    consensus->clock_live = true;
}

uint64_t clock_next_stamp(struct consensus *consensus)
{
    if (bug(BUG_V14_WALL_CLOCK_STAMPS))
        return consensus->stamp_floor = consensus->wall > consensus->stamp_floor ? consensus->wall : consensus->stamp_floor;
    consensus->stamp_floor = clock_reckon(consensus);
    return consensus->stamp_floor;
}
