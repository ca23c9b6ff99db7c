/* consensus.c — one node's part in agreeing on the log: its start, its turn, its snapshots. See consensus.h.
 *
 * The rest is in files of its own, which share consensus_private.h: consensus_batches.c (batches in, committed entries
 * out), consensus_clock.c (cluster time), consensus_frames.c (peers), consensus_health.c (who leads, who is silent),
 * transfer.c (snapshots between nodes). */
#include "consensus.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bug.h"
#include "base/buggify.h"
#include "base/memory.h"
#include "consensus_private.h"

#define ELECTION_MS 300
#define HEARTBEAT_MS 50
#define NODE_TIMEOUT_MS 2000
#define LOG_BYTES_MAX (1024ull * 1024 * 1024)
#define IN_FLIGHT_ENTRIES 4096                     /* raft's limit of unacknowledged entries per peer */
#define SPACE_ASK_MS 500                           /* a full disk: how often the log looks whether there is space */
#define RESIGNED_PAUSE_MS 1000                     /* until leadership that came back is handed over again, at first */
#define RESIGNED_PAUSE_MAX_MS 4000
#define QUIET_MS 1000                              /* nothing appended: then the log's durable mark is written */

void consensus_fail(struct consensus *consensus, enum status status, const char *reason)
{
    if (consensus->failed)
        return;
    consensus->failed = true;
    consensus->calls.fatal(consensus->context, status, reason);
}

void consensus_note(struct consensus *consensus, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    consensus->calls.note(consensus->context, text);
}

/* ---- the replica's callbacks ---- */

static void replica_sends(void *context, const struct raft_message *message, struct log_entry *const *entries,
                          uint32_t count)
{
    frames_send_raft(context, wire_raft_type(message), message, entries, count);
}

static void replica_pushes_commit(void *context, const struct raft_message *message)
{
    frames_send_raft(context, WIRE_COMMIT, message, NULL, 0);
}

static void replica_needs_snapshot(void *context, uint32_t peer)
{
    transfer_wanted(context, peer);
}

static void replica_installs(void *context, const struct replica_snapshot *snapshot)
{
    struct consensus *consensus = context;
    buffer_clear(&consensus->installing_configuration);
    buffer_put_bytes(&consensus->installing_configuration, snapshot->configuration);
    consensus->installing = (struct consensus_snapshot){snapshot->index, snapshot->term,
                                                        snapshot->configuration_index,
                                                        buffer_bytes(&consensus->installing_configuration)};
    transfer_install(consensus, snapshot);
}

static void replica_fails(void *context, enum status status, const char *reason)
{
    consensus_fail(context, status, reason);
}

/* ---- construction and start ---- */

static void keep_snapshot(struct consensus *consensus, const struct consensus_snapshot *snapshot)
{
    buffer_release(&consensus->older_configuration);
    consensus->older = consensus->newest;
    consensus->older_configuration = consensus->newest_configuration;
    consensus->newest_configuration = (struct buffer){0};
    buffer_put_bytes(&consensus->newest_configuration, snapshot->configuration);
    consensus->newest = *snapshot;
    consensus->newest.configuration = buffer_bytes(&consensus->newest_configuration);
    consensus->older.configuration = buffer_bytes(&consensus->older_configuration);
}

struct consensus *consensus_new(const struct consensus_settings *settings, const struct consensus_calls *calls,
                                void *context, struct log *log, const struct consensus_snapshot *snapshot,
                                uint64_t applied_index, uint64_t applied_term, uint64_t clock_ms)
{
    static const struct replica_calls replica_calls = {replica_sends, replica_needs_snapshot, replica_installs,
                                                       replica_fails, replica_pushes_commit};
    struct consensus *consensus = memory_zeroed(1, sizeof *consensus);
    struct consensus_settings *own = &consensus->settings;
    *own = *settings;
    own->election_ms = own->election_ms != 0 ? own->election_ms : ELECTION_MS;
    own->heartbeat_ms = own->heartbeat_ms != 0 ? own->heartbeat_ms : HEARTBEAT_MS;
    own->node_timeout_ms = own->node_timeout_ms != 0 ? own->node_timeout_ms : NODE_TIMEOUT_MS;
    own->log_bytes_max = own->log_bytes_max != 0 ? own->log_bytes_max : LOG_BYTES_MAX;
    own->bootstrap = NULL; /* encoded below */
    if (settings->bootstrap != NULL)
        replica_bootstrap_configuration(settings->bootstrap, settings->bootstrap_count, &consensus->bootstrap);

    consensus->calls = *calls;
    consensus->context = context;
    consensus->log = log;
    consensus->start_applied = consensus->applied = applied_index;
    consensus->start_applied_term = applied_term;
    consensus->next = applied_index + 1;
    consensus->clock_ms = clock_ms;
    if (snapshot->index != 0)
        keep_snapshot(consensus, snapshot);

    struct replica_settings replica = {
        .self = own->self,
        .life = own->life,
        .election_ms = own->election_ms,
        .heartbeat_ms = own->heartbeat_ms,
        .in_flight_max = settings->in_flight_entries != 0 ? settings->in_flight_entries : IN_FLIGHT_ENTRIES,
        .seed = (unsigned)(own->seed ^ own->seed >> 32) | 1,
    };
    consensus->replica = replica_new(&replica, &replica_calls, consensus, log);
    return consensus;
}

void consensus_free(struct consensus *consensus)
{
    if (consensus == NULL)
        return;
    transfer_free(consensus);
    batches_drop(consensus);
    free(consensus->pending);
    replica_free(consensus->replica);
    buffer_release(&consensus->bootstrap);
    buffer_release(&consensus->newest_configuration);
    buffer_release(&consensus->older_configuration);
    buffer_release(&consensus->installing_configuration);
    buffer_release(&consensus->frame);
    free(consensus);
}

static enum status start_replica(struct consensus *consensus)
{
    const struct consensus_snapshot *newest = &consensus->newest;
    struct replica_snapshot snapshot = {newest->index, newest->term, newest->configuration_index,
                                        newest->configuration};
    enum status status = clock_raise_floor_from_log(consensus);
    if (status != STATUS_OK)
        return status;
    consensus->start_last = log_last(consensus->log);
    consensus->bytes_since_snapshot = log_bytes_between(consensus->log, newest->index, consensus->start_applied);
    status = replica_start(consensus->replica, consensus->now, &snapshot, consensus->start_applied,
                           consensus->start_applied_term);
    if (status == STATUS_OK && consensus->next < log_first(consensus->log))
        status = STATUS_DAMAGED;
    if (bug(BUG_V21_STORE_BEHIND_LOG) && consensus->start_applied > consensus->start_last)
        status = STATUS_DAMAGED;
    for (uint32_t node = 1; node < NODES; node++)
        consensus->peers[node].known |=
            ((replica_members(consensus->replica) | replica_removed(consensus->replica)) & NODE_BIT(node)) != 0;
    if (status != STATUS_OK)
        consensus_note(consensus, "log (%llu to %llu), snapshot (%llu) and store (%llu) do not belong together: %s",
                       (unsigned long long)log_first(consensus->log), (unsigned long long)log_last(consensus->log),
                       (unsigned long long)newest->index, (unsigned long long)consensus->start_applied,
                       status_text(status));
    return status;
}

enum status consensus_start(struct consensus *consensus, uint64_t now_ms, uint64_t wall_ms)
{
    struct log *log = consensus->log;
    consensus->now = now_ms;
    consensus->wall = wall_ms;
    consensus->heard_ms = consensus->clock_at_ms = consensus->leader_heard_ms = consensus->silence_from_ms = now_ms;
    bool empty = log_last(log) == 0 && consensus->newest.index == 0 && consensus->applied == 0;
    if (!empty || consensus->bootstrap.size == 0)
        return start_replica(consensus);

    /* The first entry is the same on all nodes of a new cluster: its members, of term 1. */
    enum status status = log_set_term(log, 1, 0);
    if (status != STATUS_OK)
        return status;
    struct log_entry *members =
        log_entry_new(1, LOG_CHANGE, consensus->bootstrap.data, consensus->bootstrap.size);
    status = log_append(log, &members, 1);
    log_entry_release(members);
    if (status == STATUS_OK)
        status = log_flush(log);
    consensus->bootstrapping = true;
    return status;
}

/* ---- replacements ---- */

void consensus_peer_life(struct consensus *consensus, uint32_t peer, struct node_life life)
{
    assert(peer > 0 && peer < NODES && peer != consensus->settings.self);
    consensus->peers[peer].life = life;
    replica_peer_life(consensus->replica, peer, life);
}

static void adopt(struct consensus *consensus, uint32_t peer)
{
    static const char *const steps[] = {
        [MEMBER_NONE] = "learns from now on",
        [MEMBER_OTHER] = "takes the place of its former life, which is no member any more",
        [MEMBER_LEARNING] = "has caught up and becomes a voting member",
    };
    enum member_role role;
    if (replica_adopt(consensus->replica, peer, &role) == STATUS_OK)
        consensus_note(consensus, "node %u, replacement %llu: it %s", peer,
                       (unsigned long long)consensus->peers[peer].life.number, steps[role]);
}

/* As leader. A second one waits until the step of the first is committed: replica_change() sees to that. */
static void adopt_replacements(struct consensus *consensus)
{
    if (replica_role(consensus->replica) != RAFT_LEADER || consensus->resigned ||
        consensus->now - consensus->adopted_ms < consensus->settings.heartbeat_ms)
        return;
    consensus->adopted_ms = consensus->now;
    for (uint32_t peer = 1; peer < consensus->peers_end; peer++)
        if (consensus->peers[peer].links[LINK_RAFT].up && !node_life_is_first(consensus->peers[peer].life))
            adopt(consensus, peer);
}

/* ---- the turn ---- */

static void hand_over(struct consensus *consensus)
{
    if (!consensus->resigned || replica_role(consensus->replica) != RAFT_LEADER ||
        consensus->now - consensus->resigned_ms < consensus->resigned_pause_ms)
        return;
    consensus->resigned_ms = consensus->now;
    if (consensus->resigned_pause_ms < RESIGNED_PAUSE_MAX_MS)
        consensus->resigned_pause_ms *= 2;
    replica_transfer(consensus->replica, 0);
}

void consensus_advance(struct consensus *consensus, uint64_t now_ms, uint64_t wall_ms)
{
    assert(now_ms >= consensus->now);
    /* V24: who was paused has not heard anybody, whoever was silent. */
    if (now_ms - consensus->now > 4 * (uint64_t)consensus->settings.heartbeat_ms)
        consensus->silence_from_ms = now_ms;
    consensus->now = now_ms;
    consensus->wall = wall_ms;
    consensus->heard_ms = now_ms;
    if (consensus->failed)
        return;
    replica_advance(consensus->replica, now_ms);
    transfer_advance(consensus);
    hand_over(consensus);
    adopt_replacements(consensus);
    health_update(consensus);
}

void consensus_heard(struct consensus *consensus, uint64_t now_ms)
{
    assert(now_ms >= consensus->heard_ms);
    for (uint32_t node = 1; node < consensus->peers_end; node++)
        if (consensus->peers[node].clock_at_ms >= consensus->now)
            consensus->peers[node].clock_at_ms = now_ms; /* it has said so in this turn */
    consensus->heard_ms = now_ms;
}

uint64_t consensus_deadline(const struct consensus *consensus)
{
    if (consensus->failed)
        return UINT64_MAX;
    if (batches_may_deliver(consensus) || batches_may_submit(consensus))
        return consensus->now;
    uint64_t deadline = replica_deadline(consensus->replica);
    if (replica_started(consensus->replica) && consensus->now + consensus->settings.heartbeat_ms < deadline)
        deadline = consensus->now + consensus->settings.heartbeat_ms; /* or a pause could not be told from quiet */
    return deadline;
}

/* A node whose disk is full does not want to lead; if all are full, none is better, so they take turns ever more slowly. */
static void resign(struct consensus *consensus)
{
    consensus_note(consensus, "handing leadership over: the disk of the log is full");
    consensus->resigned = true;
    batches_drop(consensus);
    replica_transfer(consensus->replica, 0);
    consensus->resigned_ms = consensus->space_asked_ms = consensus->now;
    consensus->resigned_pause_ms = RESIGNED_PAUSE_MS;
}

static void tend_space(struct consensus *consensus)
{
    if (!log_space_is_low(consensus->log)) {
        if (consensus->resigned)
            consensus_note(consensus, "the disk of the log has space again");
        consensus->resigned = false;
        return;
    }
    if (!consensus->resigned)
        resign(consensus);
    if (consensus->now - consensus->space_asked_ms >= SPACE_ASK_MS) {
        consensus->space_asked_ms = consensus->now;
        log_retry_space(consensus->log);
    }
}

/* What the log wants of its owner: a mark once it is quiet, and no more work when its disk is nearly full. */
static void tend_log(struct consensus *consensus)
{
    uint64_t last = log_last(consensus->log);
    if (last != consensus->quiet_last || log_durable(consensus->log) != last) {
        consensus->quiet_last = last;
        consensus->quiet_ms = consensus->now;
    } else if (consensus->quiet_ms != 0 && consensus->now - consensus->quiet_ms >= QUIET_MS) {
        consensus->quiet_ms = 0;
        if (log_flush_mark(consensus->log) != STATUS_OK)
            consensus_fail(consensus, log_status(consensus->log), log_trouble(consensus->log));
    }
    tend_space(consensus);
}

/* What is applied here, and what every peer within reach has, is kept on disk only. */
static void forget_entries(struct consensus *consensus)
{
    uint64_t needless = consensus->applied;
    bool leads = replica_role(consensus->replica) == RAFT_LEADER;
    for (uint32_t peer = 1; leads && peer < consensus->peers_end; peer++) {
        bool reached = consensus->peers[peer].links[LINK_RAFT].up && (replica_members(consensus->replica) & NODE_BIT(peer));
        if (reached && replica_match(consensus->replica, peer) < needless)
            needless = replica_match(consensus->replica, peer);
    }
    log_forget(consensus->log, needless);
}

void consensus_flush(struct consensus *consensus)
{
    if (consensus->failed)
        return;
    tend_log(consensus);
    batches_flush(consensus);
    replica_flush(consensus->replica);
    health_update(consensus);
    consensus_deliver(consensus);
    forget_entries(consensus);
    frames_tell_applied(consensus);
    consensus->counts.pushes = replica_pushes(consensus->replica);
    health_tell(consensus);
}

void consensus_flushed(struct consensus *consensus, enum status status, uint64_t durable)
{
    if (consensus->failed)
        return;
    if (status != STATUS_OK) {
        consensus_fail(consensus, status, log_trouble(consensus->log));
        return;
    }
    if (consensus->bootstrapping && durable >= 1) {
        consensus->bootstrapping = false;
        status = start_replica(consensus);
        if (status != STATUS_OK)
            consensus_fail(consensus, status, "cannot start from the log that was just made");
        return;
    }
    replica_flushed(consensus->replica, durable);
}

/* ---- snapshots ---- */

struct bytes consensus_configuration(const struct consensus *consensus, uint64_t index, uint64_t *configuration_index)
{
    return replica_configuration(consensus->replica, index, configuration_index);
}

bool consensus_wants_snapshot(const struct consensus *consensus)
{
    uint64_t most = consensus->settings.log_bytes_max;
    uint64_t since = consensus->bytes_since_snapshot;
    bool due = since > most / 4 || (since > 0 && consensus->bytes_between_snapshots > most / 2) ||
               (since > 0 && buggify(BUGGIFY_SNAPSHOT_IS_DUE));
    bool doubted = consensus->doubted_snapshot != 0 && consensus->doubted_snapshot == consensus->newest.index;
    return (due || doubted) && !replica_installing(consensus->replica);
}

/* The first entry that is to stay, now that `newest` has been taken. */
static uint64_t keep_from(const struct consensus *consensus)
{
    uint64_t most = consensus->settings.log_bytes_max;
    uint64_t keep = log_first_within(consensus->log, most - most / 4);
    if (keep > consensus->older.index + 1)
        keep = consensus->older.index + 1; /* two verified snapshots, and what follows either */
    if (bug(BUG_V18_TRIMMED_TO_APPLIED))
        keep = consensus->applied;
    return transfer_keep_from(consensus) < keep ? transfer_keep_from(consensus) : keep;
}

void consensus_snapshot_taken(struct consensus *consensus, const struct consensus_snapshot *snapshot)
{
    consensus->doubted_snapshot = 0;
    if (consensus->failed || snapshot->index <= consensus->newest.index)
        return;
    keep_snapshot(consensus, snapshot);
    const struct log *log = consensus->log;
    consensus->bytes_since_snapshot = log_bytes_between(log, snapshot->index, consensus->next - 1);
    consensus->bytes_between_snapshots = log_bytes_between(log, consensus->older.index, snapshot->index);
    struct replica_snapshot taken = {snapshot->index, snapshot->term, snapshot->configuration_index,
                                     consensus->newest.configuration};
    replica_snapshot_taken(consensus->replica, &taken, keep_from(consensus));
}

void consensus_received(struct consensus *consensus, enum status status)
{
    if (!consensus->failed)
        transfer_received(consensus, status);
}

void consensus_installed(struct consensus *consensus, enum status status, uint64_t index, uint64_t clock_ms)
{
    if (consensus->failed)
        return;
    if (status != STATUS_OK) {
        consensus_fail(consensus, status, "the leader's snapshot could not be made this node's state");
        return;
    }
    assert(replica_installing(consensus->replica) && index == consensus->installing.index);
    keep_snapshot(consensus, &consensus->installing);
    consensus->older = (struct consensus_snapshot){0}; /* of another log */
    consensus->applied = index;
    consensus->next = index + 1;
    consensus->ahead_bytes = 0;
    consensus->bytes_since_snapshot = consensus->bytes_between_snapshots = 0;
    if (clock_ms > consensus->stamp_floor)
        consensus->stamp_floor = clock_ms;
    clock_set(consensus, clock_ms);
    consensus->clock_live = true;
    transfer_installed(consensus);
    replica_installed(consensus->replica);
}

/* ---- operation ---- */

enum status consensus_transfer(struct consensus *consensus, uint32_t node)
{
    return consensus->failed ? STATUS_CLOSED : replica_transfer(consensus->replica, node);
}

enum status consensus_remove(struct consensus *consensus, uint32_t node)
{
    if (consensus->failed)
        return STATUS_CLOSED;
    if (replica_role(consensus->replica) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    if (node == 0 || node >= NODES)
        return STATUS_NOT_FOUND;
    if (replica_removed(consensus->replica) & NODE_BIT(node))
        return STATUS_OK;
    if ((replica_members(consensus->replica) & NODE_BIT(node)) && !(health_silent_nodes(consensus) & NODE_BIT(node)))
        return STATUS_BUSY;
    enum status status = replica_remove(consensus->replica, node);
    if (status == STATUS_OK)
        consensus_note(consensus, "node %u is taken out of the cluster", node);
    return status;
}

bool consensus_has_removed(const struct consensus *consensus, uint32_t peer, struct node_life life)
{
    return (consensus->removed & NODE_BIT(peer)) != 0 && replica_has_removed(consensus->replica, peer, life);
}

void consensus_counts(const struct consensus *consensus, struct consensus_counts *counts)
{
    *counts = consensus->counts;
}
