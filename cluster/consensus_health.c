/* consensus_health.c — what a node believes about itself and the others: who leads, who is silent, whether it has caught
 * up. Part of consensus.
 *
 * Beliefs, not proof (S10): they say when to stop serving, whom to send clients to, and whose clients are given up. */
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "consensus_private.h"

#define FAR_BEHIND 10000   /* entries; not caught up */

void health_heard_leader(struct consensus *consensus, uint32_t peer, uint64_t term, uint64_t commit)
{
    if (replica_leader(consensus->replica) != peer || replica_term(consensus->replica) != term)
        return;
    consensus->leader_heard_ms = consensus->now;
    if (commit > consensus->known_commit)
        consensus->known_commit = commit;
    if (consensus->caught_up_target == 0)
        consensus->caught_up_target = consensus->known_commit;
}

static int compare_descending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* The last moment at which a majority of the voters, this node included, had been heard. */
static uint64_t majority_heard(const struct consensus *consensus)
{
    uint64_t voters = replica_voters(consensus->replica);
    uint64_t heard[NODES];
    size_t count = 0;
    for (uint32_t node = 1; voters >> node != 0; node++)
        if (voters & NODE_BIT(node))
            heard[count++] = node == consensus->settings.self ? consensus->now : consensus->peers[node].heard_ms;
    if (count == 0)
        return 0;
    qsort(heard, count, sizeof heard[0], compare_descending);
    return heard[count / 2];
}

/* A node that is being replaced is no member for a moment, and may never come back: it is missed like the others. So is one
 * that has just been removed. */
uint64_t health_silent_nodes(const struct consensus *consensus)
{
    uint64_t members = replica_members(consensus->replica) | replica_removed(consensus->replica), silent = 0;
    for (uint32_t node = 1; node < consensus->peers_end || members >> node != 0; node++) {
        uint64_t since = consensus->peers[node].heard_ms;
        bool missed = consensus->peers[node].known || (members & NODE_BIT(node)) != 0;
        if (!missed || node == consensus->settings.self)
            continue;
        if (since < consensus->silence_from_ms && !bug(BUG_V24_DOWN_AT_ONCE))
            since = consensus->silence_from_ms;
        if (consensus->now - since >= (bug(BUG_V24_DOWN_AT_ONCE) ? 4 * consensus->settings.heartbeat_ms
                                                                  : consensus->settings.node_timeout_ms))
            silent |= NODE_BIT(node);
    }
    return silent;
}

static enum consensus_role role_of(enum raft_state state)
{
    switch (state) {
    case RAFT_UNAVAILABLE: return CONSENSUS_STARTING;
    case RAFT_FOLLOWER: return CONSENSUS_FOLLOWER;
    case RAFT_CANDIDATE: return CONSENSUS_CANDIDATE;
    case RAFT_LEADER: return CONSENSUS_LEADER;
    }
    return CONSENSUS_STARTING;
}

void consensus_status(const struct consensus *consensus, struct consensus_status *status)
{
    const struct replica *replica = consensus->replica;
    memset(status, 0, sizeof *status); /* compared as bytes */
    status->role = role_of(replica_role(replica));
    status->leader = replica_leader(replica);
    status->term = replica_term(replica);
    status->route = consensus->route;
    status->last = log_last(consensus->log);
    status->durable = log_durable(consensus->log);
    status->commit = replica_commit(replica);
    status->applied = consensus->applied;
    status->leader_heard_ms = consensus->leader_heard_ms;
    status->majority = status->leader != 0 &&
                       consensus->now - consensus->leader_heard_ms < 2 * (uint64_t)consensus->settings.election_ms;
    status->caught_up = consensus->caught_up;
    status->cluster_ms = consensus->clock_live ? clock_reckon(consensus) : 0;
    for (uint32_t peer = 1; peer < consensus->peers_end; peer++)
        if (consensus->peers[peer].links[LINK_BULK].up)
            status->linked |= NODE_BIT(peer);
    if (status->role == CONSENSUS_LEADER && status->majority)
        status->silent = health_silent_nodes(consensus);
    status->removed = consensus->removed;
    status->damaged = replica_damaged(replica);
    status->outside = !consensus->inside;
    status->flush_slow = replica_flush_lag_ms(replica) > REPLICA_FLUSH_SLOW_MS;
    status->full = consensus->resigned;
    status->transferring = replica_transferring(replica);
    status->silence_count_ms = consensus->silence_from_ms;
}

/* ---- changes ---- */

static void update_caught_up(struct consensus *consensus)
{
    uint64_t commit = replica_commit(consensus->replica);
    if (consensus->known_commit < commit)
        consensus->known_commit = commit;
    if (replica_role(consensus->replica) == RAFT_LEADER && consensus->caught_up_target == 0)
        consensus->caught_up_target = log_last(consensus->log);
    if (consensus->caught_up_target == 0)
        return;
    if (!consensus->caught_up)
        consensus->caught_up = consensus->applied >= consensus->caught_up_target;
    if (consensus->known_commit > consensus->applied + FAR_BEHIND) {
        consensus->caught_up = false;
        consensus->caught_up_target = consensus->known_commit;
    }
}

/* A connection that outlived its peer's membership ends: when the peer comes back it is told why it is refused. */
static void note_removed(struct consensus *consensus)
{
    uint64_t former = consensus->removed;
    consensus->removed = replica_removed(consensus->replica);
    for (uint32_t peer = 1; peer < consensus->peers_end && consensus->removed != former; peer++) {
        if (former & NODE_BIT(peer) || !consensus_has_removed(consensus, peer, consensus->peers[peer].life))
            continue;
        for (int kind = 0; kind < LINK_KINDS; kind++)
            consensus_break(consensus, peer, (enum link_kind)kind, "it was taken out of the cluster");
    }
}

/* In a later change that is not committed yet it stays what it was. Who has not stored the change that made it a voter would
 * have forgotten it if it died now, and not vote (R2 of members.h): whoever counts on this node would do so too soon. */
static void update_membership(struct consensus *consensus)
{
    bool committed;
    uint64_t since;
    bool votes = replica_member(consensus->replica, &committed) == MEMBER_VOTING;
    replica_configuration(consensus->replica, UINT64_MAX, &since);
    consensus->inside = votes && (consensus->inside || (committed && log_durable(consensus->log) >= since));
    if (committed)
        note_removed(consensus);
}

/* A change of leader or term: what proposers had on the way may be lost. */
void health_update(struct consensus *consensus)
{
    enum raft_state role = replica_role(consensus->replica);
    uint32_t leader = replica_leader(consensus->replica);
    uint64_t term = replica_term(consensus->replica);
    if (role == RAFT_LEADER && consensus->last_role != RAFT_LEADER) {
        consensus->leads_since_ms = consensus->now;
        clock_take_over(consensus);
        consensus->silence_from_ms = consensus->now;
        consensus->counts.elections++;
    } else if (role == RAFT_LEADER && !consensus->clock_live) {
        clock_take_over(consensus);
    }
    if (leader != consensus->route_leader || term != consensus->route_term) {
        consensus->route_leader = leader;
        consensus->route_term = term;
        consensus->route++;
    }
    consensus->last_role = role;
    update_membership(consensus);
    if (role == RAFT_LEADER) {
        consensus->leader_heard_ms = majority_heard(consensus);
        if (consensus->now - consensus->leader_heard_ms > 2 * (uint64_t)consensus->settings.election_ms)
            consensus->silence_from_ms = consensus->now; /* the silence may be ours */
    }
    update_caught_up(consensus);
}

void health_tell(struct consensus *consensus)
{
    struct consensus_status status, compared;
    consensus_status(consensus, &status);
    compared = status;
    compared.last = compared.durable = compared.commit = compared.applied = 0;
    compared.leader_heard_ms = compared.cluster_ms = compared.silence_count_ms = 0;
    if (memcmp(&compared, &consensus->last_status, sizeof compared) == 0)
        return;
    consensus->last_status = compared;
    consensus->calls.changed(consensus->context, &status);
}
