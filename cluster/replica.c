/* replica.c — drives raft_step(). See replica.h.
 *
 * Every event goes through replica_step(): the library changes its mind in memory, then what it asks for is carried
 * out, in this order: term and vote to disk; entries to the log (in memory, flushed at the end of the turn); messages;
 * commits. Nothing calls it from inside itself but committed configurations, at its very end.
 *
 * Always true, while no snapshot is being installed: the library's list of terms (its "trail") and the log end at the
 * same index with the same terms, because both change there only.
 *
 * In files of their own: replica_send.c (messages and entries to peers), replica_receive.c (messages of peers),
 * replica_changes.c (configurations, members).
 *
 * Buffers: the library wants entries[0].batch to be memory that it can free when it refuses entries, and looks into no
 * entry but configurations. So each event gets a batch of one byte (taken back if the entries were accepted) while the
 * contents stay in our reference-counted log entries. */
#include "replica.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "replica_private.h"

/* Raft believes of a snapshot that it asked for that it is on its way, and asks again when a heartbeat is refused; but not if the
 * leader has taken another meanwhile, as the heartbeats then name that one. If the first never arrives, only this gets the peer
 * out of waiting. While a transfer goes on, to be asked again costs nothing (transfer.c). */
#define SNAPSHOT_ASK_MS 1000

void replica_fail(struct replica *replica, enum status status, const char *reason)
{
    if (replica->failed)
        return;
    replica->failed = true;
    replica->calls.fatal(replica->context, status, reason);
}

void replica_fail_log(struct replica *replica)
{
    replica_fail(replica, log_status(replica->log) == STATUS_OK ? STATUS_CORRUPT : log_status(replica->log),
         log_trouble(replica->log));
}

/* ---- construction ---- */

struct replica *replica_new(const struct replica_settings *settings, const struct replica_calls *calls, void *context,
                            struct log *log)
{
    struct replica *replica = memory_zeroed(1, sizeof *replica);
    assert(settings->self > 0 && settings->self < REPLICA_NODES_MAX);
    replica->settings = *settings;
    replica->calls = *calls;
    replica->context = context;
    replica->log = log;
    for (unsigned node = 0; node < REPLICA_NODES_MAX; node++) {
        snprintf(replica->addresses[node], sizeof replica->addresses[node], "%u", node);
        pacer_reset(&replica->pacers[node]);
    }

    int error = raft_init(&replica->raft, NULL, NULL, settings->self, replica->addresses[settings->self]);
    if (error != 0)
        abort(); /* only for want of memory */
    replica->raft.tracer = NULL; /* it puts every event into words before it asks whether anybody listens */
    raft_seed(&replica->raft, settings->seed);
    raft_set_election_timeout(&replica->raft, settings->election_ms);
    raft_set_heartbeat_timeout(&replica->raft, settings->heartbeat_ms);
    raft_set_install_snapshot_timeout(&replica->raft, SNAPSHOT_ASK_MS);
    raft_set_pre_vote(&replica->raft, true);
    raft_set_max_inflight_entries(&replica->raft, settings->in_flight_max);
    raft_set_capacity_threshold(&replica->raft, 0); /* S8 */
    return replica;
}

void replica_free(struct replica *replica)
{
    if (replica == NULL)
        return;
    if (replica->installing)
        raft_configuration_close(&replica->install.configuration);
    changes_drop(replica, 0, replica->change_count);
    free(replica->changes);
    raft_close(&replica->raft, NULL);
    free(replica);
}

/* ---- what the library asks for ---- */

/* `entries` are what the event brought, the first of them at `first`; NULL: the library made its own (a barrier). */
static bool store_entries(struct replica *replica, const struct raft_update *update, struct log_entry *const *entries,
                          uint64_t first)
{
    uint64_t index = update->entries.index;
    if (index <= log_last(replica->log)) {
        if (log_truncate(replica->log, index) != STATUS_OK)
            return false;
        changes_truncate(replica, index);
    }
    assert(index == log_last(replica->log) + 1);

    enum status status = STATUS_OK;
    if (entries == NULL) {
        assert(update->entries.n == 1 && update->entries.batch[0].type == RAFT_BARRIER);
        struct log_entry *barrier = log_entry_new(update->entries.batch[0].term, LOG_BARRIER, NULL, 0);
        status = log_append(replica->log, &barrier, 1);
        log_entry_release(barrier);
    } else {
        entries += index - first;
        status = log_append(replica->log, entries, update->entries.n);
        for (unsigned i = 0; i < update->entries.n; i++)
            if (entries[i]->type == LOG_CHANGE)
                changes_add(replica, index + i, log_entry_bytes(entries[i]));
    }
    raft_free(update->entries.batch[0].batch);
    return status == STATUS_OK;
}

static void begin_install(struct replica *replica, const struct raft_update *update)
{
    assert(!replica->installing);
    replica->installing = true;
    replica->install = update->snapshot.metadata;
    raft_free(update->snapshot.chunk.base);

    struct raft_buffer encoded;
    if (raft_configuration_encode(&replica->install.configuration, &encoded) != 0)
        abort();
    struct replica_snapshot snapshot = {
        .index = replica->install.index,
        .term = replica->install.term,
        .configuration_index = replica->install.configuration_index,
        .configuration = bytes_of(encoded.base, encoded.len),
    };
    replica->calls.install(replica->context, &snapshot);
    raft_free(encoded.base);
}

static void forget_old_role(struct replica *replica)
{
    int role = (int)raft_state(&replica->raft);
    uint64_t term = raft_current_term(&replica->raft);
    if (role == replica->seen_role && term == replica->seen_term)
        return;
    replica->seen_role = role;
    replica->seen_term = term;
    for (unsigned node = 0; node < REPLICA_NODES_MAX; node++) {
        pacer_reset(&replica->pacers[node]);
        replica->forgot_ms[node] = 0;
        replica->steps_back[node] = 1;
    }
}

static void take_commit(struct replica *replica)
{
    uint64_t commit = raft_commit_index(&replica->raft);
    if (replica->installing || commit <= replica->commit) /* S8: not before the snapshot is there */
        return;
    replica->commit = commit;
    changes_settle(replica, commit);
}

void replica_step(struct replica *replica, struct raft_event *event, struct log_entry *const *entries, uint64_t first)
{
    struct raft_update update;
    if (replica->failed)
        return;
    event->time = replica->now;
    event->capacity = 0;
    int error = raft_step(&replica->raft, event, &update);
    if (error != 0) {
        replica_fail(replica, STATUS_CORRUPT, error == RAFT_SHUTDOWN ? REPLICA_DIFFERS : raft_strerror(error));
        return;
    }
    if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        /* On disk, before any message of that term leaves. */
        if (log_set_term(replica->log, raft_current_term(&replica->raft), raft_voted_for(&replica->raft)) != STATUS_OK) {
            replica_fail_log(replica);
            return;
        }
    }
    forget_old_role(replica);
    if ((update.flags & RAFT_UPDATE_ENTRIES) && !store_entries(replica, &update, entries, first)) {
        replica_fail_log(replica);
        return;
    }
    if (update.flags & RAFT_UPDATE_SNAPSHOT)
        begin_install(replica, &update);
    if (update.flags & RAFT_UPDATE_MESSAGES)
        for (unsigned i = 0; i < update.messages.n; i++)
            replica_send(replica, &update.messages.batch[i]);
    if (update.flags & RAFT_UPDATE_COMMIT_INDEX)
        take_commit(replica);
}

/* ---- start ---- */

/* Describes the log to the library: terms of all entries, types and contents of configurations above the snapshot's.
 * Contents of other entries are not kept. */
static enum status describe_log(struct replica *replica, uint64_t snapshot_index, struct raft_entry *out)
{
    uint64_t first = log_first(replica->log);
    uint64_t last = log_last(replica->log);
    struct log_entry *entries[64];
    uint64_t index = first;

    for (; index <= last && index <= snapshot_index; index++)
        out[index - first] = (struct raft_entry){.term = log_term_of(replica->log, index), .type = RAFT_COMMAND};
    while (index <= last) {
        size_t count = 0;
        enum status status = log_get_many(replica->log, index, 64, 4 * 1024 * 1024, entries, &count);
        if (status != STATUS_OK)
            return status;
        for (size_t i = 0; i < count; i++, index++) {
            struct raft_entry *entry = &out[index - first];
            *entry = (struct raft_entry){.term = entries[i]->term, .type = RAFT_COMMAND};
            if (entries[i]->type == LOG_CHANGE) {
                changes_add(replica, index, log_entry_bytes(entries[i]));
                struct buffer *kept = &replica->changes[replica->change_count - 1].configuration;
                entry->type = RAFT_CHANGE;
                entry->buf = (struct raft_buffer){.base = kept->data, .len = kept->size};
            }
            log_entry_release(entries[i]);
        }
    }
    return STATUS_OK;
}

static enum status check_start(struct replica *replica, const struct replica_snapshot *snapshot)
{
    struct log *log = replica->log;
    if (snapshot->index == 0)
        return log_first(log) == 1 ? STATUS_OK : STATUS_DAMAGED;
    if (snapshot->index + 1 < log_first(log))
        return STATUS_DAMAGED;
    /* Beyond the log, or not part of it: a snapshot was installed, and the log's reset did not reach the disk. */
    if (log_term_of(log, snapshot->index) != snapshot->term)
        return log_reset(log, snapshot->index, snapshot->term);
    return STATUS_OK;
}

enum status replica_start(struct replica *replica, uint64_t now_ms, const struct replica_snapshot *snapshot,
                          uint64_t applied, uint64_t applied_term)
{
    struct log *log = replica->log;
    struct raft_snapshot_metadata metadata = {.index = snapshot->index, .term = snapshot->term};
    struct raft_event event = {.type = RAFT_START};

    replica->now = now_ms;
    enum status status = check_start(replica, snapshot);
    if (status != STATUS_OK)
        return status;
    if (log_term(log) == 0 && (log_last(log) > 0 || snapshot->index > 0))
        return STATUS_CORRUPT;

    if (snapshot->index > 0) {
        if (!changes_decode(snapshot->configuration, &metadata.configuration))
            return STATUS_CORRUPT;
        metadata.configuration_index = snapshot->configuration_index;
        event.start.metadata = &metadata;
        changes_add(replica, snapshot->configuration_index, snapshot->configuration);
        replica->configured = snapshot->configuration_index;
    }
    event.start.term = log_term(log);
    event.start.voted_for = log_vote(log);
    event.start.start_index = log_first(log);
    event.start.n_entries = (unsigned)(log_last(log) + 1 - log_first(log));
    event.start.entries = memory_zeroed(event.start.n_entries + 1, sizeof *event.start.entries);
    status = describe_log(replica, snapshot->index, event.start.entries);
    if (status == STATUS_OK && snapshot->index == 0 && event.start.n_entries > 0 &&
        event.start.entries[0].type != RAFT_CHANGE)
        status = STATUS_CORRUPT;
    if (status == STATUS_OK) {
        /* S1. A store ahead of the log, or of another history than its tail, proves nothing about the log. */
        if (applied <= log_last(log) && applied > 0 && log_term_of(log, applied) == applied_term)
            replica->trusted = applied;
        replica->started = true;
        replica->seen_role = -1;
        replica_step(replica, &event, NULL, 0);
        if (replica->failed)
            status = STATUS_CORRUPT;
    } else if (snapshot->index > 0) {
        raft_configuration_close(&metadata.configuration);
    }
    free(event.start.entries);
    return status;
}

bool replica_started(const struct replica *replica)
{
    return replica->started;
}

/* ---- appending ---- */

enum status replica_append(struct replica *replica, struct log_entry *const *entries, uint32_t count)
{
    struct raft_entry *described = memory_zeroed(count, sizeof *described);
    void *batch = raft_malloc(1);
    for (uint32_t i = 0; i < count; i++) {
        assert(entries[i]->term == raft_current_term(&replica->raft));
        described[i].term = entries[i]->term;
        described[i].type = entries[i]->type == LOG_CHANGE ? RAFT_CHANGE : RAFT_COMMAND;
        described[i].buf = (struct raft_buffer){.base = entries[i]->data, .len = entries[i]->size};
        described[i].batch = batch;
    }
    struct raft_event event = {.type = RAFT_SUBMIT, .submit = {.entries = described, .n = count}};
    replica_step(replica, &event, entries, log_last(replica->log) + 1);
    free(described);
    return replica->failed ? STATUS_CLOSED : STATUS_OK;
}

enum status replica_submit(struct replica *replica, struct log_entry *const *entries, uint32_t count)
{
    if (!replica->started || replica->failed || raft_state(&replica->raft) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    if (replica_transferring(replica))
        return STATUS_BUSY;
    return replica_append(replica, entries, count);
}

/* ---- time, disk ---- */

/* S11: a leader whose disk hangs would lead for ever, because the others make the majority. `passed_ms`: since the turn
 * before this one. A turn that comes late says that the node stood still, and nothing of its disk: the flush may be done,
 * and would be heard of next. */
static void watch_flush(struct replica *replica, uint64_t passed_ms)
{
    uint64_t durable = log_durable(replica->log);
    if (replica->flush_since != 0 && passed_ms > REPLICA_FLUSH_WATCH_MS)
        replica->flush_since += passed_ms - REPLICA_FLUSH_WATCH_MS;
    if (durable >= log_last(replica->log)) {
        replica->flush_since = 0;
        return;
    }
    if (replica->flush_since == 0 || durable != replica->flush_durable) {
        replica->flush_since = replica->now;
        replica->flush_durable = durable;
    }
    uint64_t lag = replica->now - replica->flush_since;
    if (lag > REPLICA_FLUSH_DEAD_MS) {
        replica_fail(replica, STATUS_IO_ERROR, "the disk of the log has not finished a flush for 10 seconds");
    } else if (lag > REPLICA_FLUSH_SLOW_MS && raft_state(&replica->raft) == RAFT_LEADER &&
               replica->now - replica->handed_over_ms > 1000) {
        replica->handed_over_ms = replica->now;
        replica_transfer(replica, 0);
    }
}

uint64_t replica_flush_lag_ms(const struct replica *replica)
{
    return replica->flush_since == 0 ? 0 : replica->now - replica->flush_since;
}

static bool timer_is_off(const struct replica *replica)
{
    return !replica_may_vote(replica) && replica->raft.state != RAFT_LEADER;
}

void replica_advance(struct replica *replica, uint64_t now_ms)
{
    assert(now_ms >= replica->now); /* S8: unsigned arithmetic inside */
    uint64_t passed_ms = now_ms - replica->now;
    replica->now = now_ms;
    if (!replica->started || replica->failed)
        return;
    watch_flush(replica, passed_ms);
    if (now_ms >= raft_timeout(&replica->raft) && !timer_is_off(replica)) {
        struct raft_event event = {.type = RAFT_TIMEOUT};
        replica_step(replica, &event, NULL, 0);
    }
}

uint64_t replica_deadline(const struct replica *replica)
{
    if (!replica->started || replica->failed)
        return UINT64_MAX;
    uint64_t deadline = replica->now + REPLICA_FLUSH_WATCH_MS;
    uint64_t timeout = raft_timeout(&replica->raft);
    if (!timer_is_off(replica) && timeout < deadline)
        deadline = timeout;
    return deadline;
}

void replica_flushed(struct replica *replica, uint64_t durable)
{
    if (!replica->started || replica->failed || replica->installing)
        return; /* S8: the library's trail begins anew at the snapshot */
    if (durable > log_durable(replica->log))
        durable = log_durable(replica->log); /* S8: some of it was truncated since */
    enum raft_state role = raft_state(&replica->raft);
    if (durable <= replica->raft.last_stored || durable > raft_last_index(&replica->raft) ||
        (role != RAFT_LEADER && role != RAFT_FOLLOWER))
        return;
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES, .persisted_entries = {.index = durable}};
    replica_step(replica, &event, NULL, 0);
}

/* ---- snapshots ---- */

void replica_snapshot_taken(struct replica *replica, const struct replica_snapshot *snapshot, uint64_t keep_from)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT,
                               .snapshot = {.metadata = {.index = snapshot->index,
                                                         .term = snapshot->term,
                                                         .configuration_index = snapshot->configuration_index}}};
    if (!replica->started || replica->failed || replica->installing || snapshot->index > replica->commit ||
        snapshot->index <= replica->raft.trail.snapshot.index || snapshot->index <= replica->raft.trail.offset ||
        log_term_of(replica->log, snapshot->index) != snapshot->term)
        return;
    if (!changes_decode(snapshot->configuration, &event.snapshot.metadata.configuration))
        return;
    if (keep_from > snapshot->index)
        keep_from = snapshot->index;
    if (keep_from > replica->raft.last_stored)
        keep_from = replica->raft.last_stored; /* S8: of this, and what our disk has yet to store, it asks the terms */
    event.snapshot.trailing = (unsigned)(snapshot->index + 1 - keep_from);
    replica_step(replica, &event, NULL, 0);

    /* The library keeps terms from keep_from on: the log may not have less. */
    if (keep_from > 1)
        log_trim(replica->log, keep_from - 1);
    while (replica->change_count > 1 && replica->changes[1].index <= snapshot->configuration_index)
        changes_drop(replica, 0, 1);
}

void replica_installed(struct replica *replica)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT,
                               .persisted_snapshot = {.metadata = replica->install, .offset = 0, .last = true}};
    struct raft_buffer encoded;
    assert(replica->installing);
    if (log_reset(replica->log, replica->install.index, replica->install.term) != STATUS_OK) {
        replica_fail_log(replica);
        return;
    }
    if (raft_configuration_encode(&replica->install.configuration, &encoded) != 0)
        abort();
    changes_drop(replica, 0, replica->change_count);
    changes_add(replica, replica->install.configuration_index, bytes_of(encoded.base, encoded.len));
    raft_free(encoded.base);
    replica->configured = replica->install.configuration_index;
    replica->trusted = replica->install.index;
    replica->installing = false; /* the library owns the configuration in `event` now */
    replica_step(replica, &event, NULL, 0);
}

/* ---- leadership, facts ---- */

static uint32_t best_successor(const struct replica *replica)
{
    uint32_t best = 0;
    raft_index best_match = 0;
    for (unsigned i = 0; i < replica->raft.configuration.n; i++) {
        const struct raft_server *server = &replica->raft.configuration.servers[i];
        raft_index match = 0;
        if (server->role != RAFT_VOTER || server->id == replica->settings.self || replica->forgot_ms[server->id] != 0 ||
            !replica_is_member(replica, (uint32_t)server->id))
            continue;
        if (raft_match_index(&replica->raft, server->id, &match) == 0 && (best == 0 || match > best_match)) {
            best = (uint32_t)server->id;
            best_match = match;
        }
    }
    return best;
}

enum status replica_transfer(struct replica *replica, uint32_t node)
{
    if (!replica->started || replica->failed || raft_state(&replica->raft) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    if (replica_transferring(replica))
        return STATUS_BUSY;
    if (node == 0)
        node = best_successor(replica);
    if (node == 0 || node == replica->settings.self || !(replica_voters(replica) & NODE_BIT(node)))
        return STATUS_NOT_FOUND;
    struct raft_event event = {.type = RAFT_TRANSFER, .transfer = {.server_id = node}};
    replica_step(replica, &event, NULL, 0);
    return STATUS_OK;
}

enum raft_state replica_role(const struct replica *replica)
{
    return replica->started ? (enum raft_state)replica->raft.state : RAFT_UNAVAILABLE;
}

uint32_t replica_leader(const struct replica *replica)
{
    switch (replica_role(replica)) {
    case RAFT_LEADER: return replica->settings.self;
    case RAFT_FOLLOWER: return (uint32_t)replica->raft.follower_state.current_leader.id;
    case RAFT_CANDIDATE:
    case RAFT_UNAVAILABLE: return 0;
    }
    return 0;
}

uint64_t replica_term(const struct replica *replica)
{
    return raft_current_term(&replica->raft);
}

uint64_t replica_commit(const struct replica *replica)
{
    return replica->commit;
}

bool replica_transferring(const struct replica *replica)
{
    return replica->raft.state == RAFT_LEADER && raft_transferee(&replica->raft) != 0;
}

bool replica_installing(const struct replica *replica)
{
    return replica->installing;
}

uint64_t replica_match(const struct replica *replica, uint32_t peer)
{
    raft_index match = 0;
    if (raft_match_index(&replica->raft, peer, &match) != 0)
        return 0;
    return match;
}

uint64_t replica_pushes(const struct replica *replica)
{
    return replica->pushes;
}
