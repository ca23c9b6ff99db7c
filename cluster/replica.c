/* replica.c — drives raft_step(). See replica.h.
 *
 * Every event goes through step(): the library changes its mind in memory, then step() carries out what it asks for, in
 * this order: term and vote to disk; entries to the log (in memory, flushed at the end of the turn); messages; commits.
 * Nothing here calls raft_step from inside step() but for committed configurations, at its very end.
 *
 * Always true, while no snapshot is being installed: the library's list of terms (its "trail") and the log end at the
 * same index with the same terms, because both change in step() only.
 *
 * Buffers: the library wants entries[0].batch to be memory that it can free when it refuses entries, and looks into no
 * entry but configurations. So each event gets a batch of one byte (taken back if the entries were accepted) while the
 * contents stay in our reference-counted log entries. */
#include "replica.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buggify.h"
#include "base/memory.h"
#include "pacer.h"
#include "trust.h"

#define MESSAGE_ENTRIES_MAX 1024     /* in one AppendEntries */
#define CHANGE_DISTANCE_MAX 1000     /* S5: "near the end of the log" */
#define FORGOTTEN_MS 1000            /* a peer denies what it had acknowledged: not a stale message any more */
#define DIFFERS "the leader's log and this one differ in a committed entry"
#define NODE_BIT(node) ((uint64_t)1 << (node))

/* A configuration in the log, or in the snapshot below it. */
struct change {
    uint64_t index;
    struct buffer configuration;
};

struct replica {
    struct raft raft;
    struct replica_settings settings;
    struct replica_calls calls;
    void *context;
    struct log *log;
    uint64_t now;
    bool started;
    bool failed;
    char addresses[REPLICA_NODES_MAX][4];
    struct node_life lives[REPLICA_NODES_MAX];   /* as the peers' HELLOs say */
    struct pacer pacers[REPLICA_NODES_MAX];
    uint64_t forgot_ms[REPLICA_NODES_MAX];   /* since when a peer denies what it had acknowledged to us; 0 = it does not */

    uint64_t commit;
    uint64_t trusted;                  /* entries of the log up to here were committed before we started (S1) */
    uint64_t seen_term;                /* with seen_role: a change of either empties the pacers */
    int seen_role;
    bool stale;                        /* the message at hand is of an old term: its answer is uninitialised (R8) */
    bool pushed;                       /* it is a pushed commit */

    struct change *changes;            /* ascending */
    size_t change_count;
    uint64_t configured;               /* the library knows which are committed up to here */

    bool installing;                   /* S8 */
    struct raft_snapshot_metadata install;

    uint64_t flush_since, flush_durable;   /* S11 */
    uint64_t handed_over_ms;
    uint64_t pushes;
};

static void fail(struct replica *replica, enum status status, const char *reason)
{
    if (replica->failed)
        return;
    replica->failed = true;
    replica->calls.fatal(replica->context, status, reason);
}

static void fail_log(struct replica *replica)
{
    fail(replica, log_status(replica->log) == STATUS_OK ? STATUS_CORRUPT : log_status(replica->log),
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
    raft_set_install_snapshot_timeout(&replica->raft, 600 * 1000); /* its own retry is ours: see consensus.c */
    raft_set_pre_vote(&replica->raft, true);
    raft_set_max_inflight_entries(&replica->raft, settings->in_flight_max);
    raft_set_capacity_threshold(&replica->raft, 0); /* S8 */
    return replica;
}

static void drop_changes(struct replica *replica, size_t from, size_t count)
{
    if (count == 0)
        return;
    for (size_t i = from; i < from + count; i++)
        buffer_release(&replica->changes[i].configuration);
    memmove(replica->changes + from, replica->changes + from + count,
            (replica->change_count - from - count) * sizeof *replica->changes);
    replica->change_count -= count;
}

void replica_free(struct replica *replica)
{
    if (replica == NULL)
        return;
    if (replica->installing)
        raft_configuration_close(&replica->install.configuration);
    drop_changes(replica, 0, replica->change_count);
    free(replica->changes);
    raft_close(&replica->raft, NULL);
    free(replica);
}

static void add_change(struct replica *replica, uint64_t index, struct bytes configuration)
{
    replica->changes = memory_resize(replica->changes, (replica->change_count + 1) * sizeof *replica->changes);
    struct change *change = &replica->changes[replica->change_count++];
    *change = (struct change){.index = index};
    buffer_put_bytes(&change->configuration, configuration);
}

static void truncate_changes(struct replica *replica, uint64_t from)
{
    while (replica->change_count > 0 && replica->changes[replica->change_count - 1].index >= from)
        drop_changes(replica, replica->change_count - 1, 1);
    if (replica->configured >= from)
        replica->configured = from - 1;
}

/* The library wants configurations as structs, 8-byte aligned; false: it is not one. */
static bool configuration_decode(struct bytes bytes, struct raft_configuration *configuration)
{
    struct raft_buffer buffer = {.len = bytes.size};
    if (!members_valid(bytes))
        return false;
    buffer.base = memory_copy(bytes.data, bytes.size);
    int error = raft_configuration_decode(&buffer, configuration);
    assert(error == 0); /* only for want of memory: it is valid */
    free(buffer.base);
    return true;
}

void replica_bootstrap_configuration(const uint32_t *nodes, uint32_t count, struct buffer *out)
{
    struct raft_configuration configuration;
    struct raft_buffer encoded;
    int error = 0;
    raft_configuration_init(&configuration);
    for (uint32_t i = 0; i < count; i++) {
        char address[16];
        assert(nodes[i] > 0 && nodes[i] < REPLICA_NODES_MAX);
        snprintf(address, sizeof address, "%u", nodes[i]);
        error |= raft_configuration_add(&configuration, nodes[i], address, RAFT_VOTER);
    }
    error |= raft_configuration_encode(&configuration, &encoded);
    assert(error == 0); /* ids are different: the configuration file was checked */
    buffer_put(out, encoded.base, encoded.len);
    raft_free(encoded.base);
    raft_configuration_close(&configuration);
}

/* ---- what the library asks for ---- */

static void send(struct replica *replica, const struct raft_message *message)
{
    replica->calls.send(replica->context, message, NULL, 0);
}

/* An AppendEntries of our own making; legal at any time in our term. false: `previous` is not in our log any more. */
static bool append_message(struct replica *replica, uint32_t peer, uint64_t previous, struct raft_message *message)
{
    uint64_t previous_term = previous == 0 ? 0 : log_term_of(replica->log, previous);
    if (previous != 0 && previous_term == 0)
        return false;
    *message = (struct raft_message){
        .type = RAFT_APPEND_ENTRIES,
        .server_id = peer,
        .server_address = replica->addresses[peer],
        .append_entries = {.term = raft_current_term(&replica->raft),
                           .prev_log_index = previous,
                           .prev_log_term = previous_term,
                           .leader_commit = raft_commit_index(&replica->raft)},
    };
    return true;
}

/* Whatever the message says: once it arrives, the peer knows of commits up to min(commit, what it then has). */
static void remember_told(struct replica *replica, uint32_t peer, uint64_t up_to)
{
    struct pacer *pacer = &replica->pacers[peer];
    uint64_t commit = raft_commit_index(&replica->raft);
    uint64_t told = up_to < commit ? up_to : commit;
    if (told > pacer->told)
        pacer->told = told;
}

static void send_append(struct replica *replica, struct raft_message *message)
{
    struct raft_append_entries *append = &message->append_entries;
    uint32_t peer = (uint32_t)message->server_id;
    struct pacer *pacer = &replica->pacers[peer];

    if (append->n_entries > 0) {
        if (pacer_request(pacer, append->prev_log_index, append->n_entries, replica->now))
            return; /* goes out at the end of the turn, as the window allows */
        append->n_entries = 0;
    } else if (pacer_waits(pacer) && append->prev_log_index >= pacer->next) {
        /* Raft believes sent what still waits here: the heartbeat goes where the peer really is. */
        append->prev_log_index = pacer->next - 1;
        append->prev_log_term = append->prev_log_index == 0 ? 0 : log_term_of(replica->log, append->prev_log_index);
        if (append->prev_log_index != 0 && append->prev_log_term == 0)
            return;
    }
    append->entries = NULL;
    remember_told(replica, peer, append->prev_log_index);
    send(replica, message);
}

/* R1 of members.h: only what the newest configuration names, in this very life, is asked and counted. */
static bool is_member(const struct replica *replica, uint32_t peer)
{
    switch (members_role(&replica->raft.configuration, peer, replica->lives[peer])) {
    case MEMBER_NONE:
    case MEMBER_OTHER: return false;
    case MEMBER_LEARNING:
    case MEMBER_VOTING: return true;
    }
    return false;
}

static bool is_answer(const struct raft_message *message)
{
    return message->type == RAFT_APPEND_ENTRIES_RESULT || message->type == RAFT_REQUEST_VOTE_RESULT;
}

static void send_message(struct replica *replica, struct raft_message *message)
{
    assert(message->server_id > 0 && message->server_id < REPLICA_NODES_MAX);
    if (!is_answer(message) && !is_member(replica, (uint32_t)message->server_id))
        return;
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        send_append(replica, message);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        if (replica->stale)
            message->append_entries_result.last_log_index = 0; /* R8: the library sends bytes of its stack */
        else if (replica->pushed && message->append_entries_result.rejected == 0)
            return;
        break;
    case RAFT_REQUEST_VOTE_RESULT: {
        /* S3: a rejected pre-vote repeats the candidate's term, so that it never learns of ours. */
        struct raft_request_vote_result *result = &message->request_vote_result;
        uint64_t term = raft_current_term(&replica->raft);
        if (result->pre_vote && !result->vote_granted && result->term < term)
            result->term = term;
        break;
    }
    case RAFT_INSTALL_SNAPSHOT: /* S6: its owner sends the file first, once */
        replica->calls.snapshot_needed(replica->context, (uint32_t)message->server_id);
        return;
    case RAFT_REQUEST_VOTE:
    case RAFT_TIMEOUT_NOW:
        break;
    }
    send(replica, message);
}

/* `entries` are what the event brought, the first of them at `first`; NULL: the library made its own (a barrier). */
static bool store_entries(struct replica *replica, const struct raft_update *update, struct log_entry *const *entries,
                          uint64_t first)
{
    uint64_t index = update->entries.index;
    if (index <= log_last(replica->log)) {
        if (log_truncate(replica->log, index) != STATUS_OK)
            return false;
        truncate_changes(replica, index);
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
                add_change(replica, index + i, log_entry_bytes(entries[i]));
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
    }
}

static void step(struct replica *replica, struct raft_event *event, struct log_entry *const *entries, uint64_t first);

/* Configurations up to `index`, which are committed, become final for the library too. */
static void settle_changes(struct replica *replica, uint64_t index)
{
    for (size_t i = 0; i < replica->change_count && !replica->failed; i++) {
        struct change *change = &replica->changes[i];
        if (change->index <= replica->configured || change->index > index)
            continue;
        struct raft_event event = {.type = RAFT_CONFIGURATION, .configuration = {.index = change->index}};
        if (!configuration_decode(buffer_bytes(&change->configuration), &event.configuration.conf)) {
            fail(replica, STATUS_CORRUPT, "a configuration in the log cannot be decoded");
            return;
        }
        replica->configured = change->index;
        step(replica, &event, NULL, 0);
    }
}

static void take_commit(struct replica *replica)
{
    uint64_t commit = raft_commit_index(&replica->raft);
    if (replica->installing || commit <= replica->commit) /* S8: not before the snapshot is there */
        return;
    replica->commit = commit;
    settle_changes(replica, commit);
}

/* One event in, all its consequences out. `entries` and `first`: what the event brings, see store_entries. */
static void step(struct replica *replica, struct raft_event *event, struct log_entry *const *entries, uint64_t first)
{
    struct raft_update update;
    if (replica->failed)
        return;
    event->time = replica->now;
    event->capacity = 0;
    int error = raft_step(&replica->raft, event, &update);
    if (error != 0) {
        fail(replica, STATUS_CORRUPT, error == RAFT_SHUTDOWN ? DIFFERS : raft_strerror(error));
        return;
    }
    if (update.flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        /* On disk, before any message of that term leaves. */
        if (log_set_term(replica->log, raft_current_term(&replica->raft), raft_voted_for(&replica->raft)) != STATUS_OK) {
            fail_log(replica);
            return;
        }
    }
    forget_old_role(replica);
    if ((update.flags & RAFT_UPDATE_ENTRIES) && !store_entries(replica, &update, entries, first)) {
        fail_log(replica);
        return;
    }
    if (update.flags & RAFT_UPDATE_SNAPSHOT)
        begin_install(replica, &update);
    if (update.flags & RAFT_UPDATE_MESSAGES)
        for (unsigned i = 0; i < update.messages.n; i++)
            send_message(replica, &update.messages.batch[i]);
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
                add_change(replica, index, log_entry_bytes(entries[i]));
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
        if (!configuration_decode(snapshot->configuration, &metadata.configuration))
            return STATUS_CORRUPT;
        metadata.configuration_index = snapshot->configuration_index;
        event.start.metadata = &metadata;
        add_change(replica, snapshot->configuration_index, snapshot->configuration);
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
        step(replica, &event, NULL, 0);
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

/* ---- messages ---- */

/* Feeds an AppendEntries whose entries are as the library can take them. */
static void feed_append(struct replica *replica, struct raft_message *message, struct log_entry *const *entries,
                        uint32_t count)
{
    struct raft_append_entries *append = &message->append_entries;
    if (replica->failed)
        return;
    struct raft_entry *described = memory_zeroed(count + 1, sizeof *described);
    void *batch = count == 0 ? NULL : raft_malloc(1);
    for (uint32_t i = 0; i < count; i++) {
        described[i].term = entries[i]->term;
        described[i].type = entries[i]->type == LOG_CHANGE    ? RAFT_CHANGE
                            : entries[i]->type == LOG_BARRIER ? RAFT_BARRIER
                                                              : RAFT_COMMAND;
        described[i].buf = (struct raft_buffer){.base = entries[i]->data, .len = entries[i]->size};
        described[i].batch = batch;
    }
    append->entries = described;
    append->n_entries = count;
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = message}};
    step(replica, &event, entries, append->prev_log_index + 1);
    free(described);
}

/* Whether the term of an entry is another than that of ours, which is committed. */
static bool contradicts(const struct replica *replica, uint64_t index, uint64_t term)
{
    uint64_t ours = log_term_of(replica->log, index);
    return ours != 0 && ours != term;
}

/* S1: what is committed here is not looked at again; the library could take an entry below its trail for a new one. */
static uint32_t skip_committed(struct replica *replica, struct raft_append_entries *append,
                               struct log_entry *const *entries, uint32_t count)
{
    uint64_t floor = replica->commit > replica->trusted ? replica->commit : replica->trusted;
    if (floor > log_last(replica->log))
        floor = log_last(replica->log);
    if (replica->installing || append->prev_log_index >= floor)
        return 0;
    bool differs = append->prev_log_index != 0 && contradicts(replica, append->prev_log_index, append->prev_log_term);
    for (uint32_t i = 0; i < count && append->prev_log_index + 1 + i <= floor; i++)
        differs = differs || contradicts(replica, append->prev_log_index + 1 + i, entries[i]->term);
    if (differs)
        fail(replica, STATUS_CORRUPT, DIFFERS);
    uint64_t skip = floor - append->prev_log_index;
    append->prev_log_index = floor;
    append->prev_log_term = log_term_of(replica->log, floor);
    return skip < count ? (uint32_t)skip : count;
}

/* S13: a change is proposed when the one before it is committed, so a leader's change settles all that precede it here,
 * once it is known that it continues our log. The library keeps one change that is not final, and would forget the
 * earlier one: should this one be taken back, it would return to the members before both, or abort if there are none. */
static void settle_before(struct replica *replica, const struct raft_append_entries *append)
{
    uint64_t before = append->prev_log_index;
    if (!replica->installing && before != 0 && log_term_of(replica->log, before) == append->prev_log_term)
        settle_changes(replica, before);
}

/* S2: the library takes a configuration only as the first entry of a message, and commits what it has not checked if
 * an earlier part carries the commit index. */
static void receive_append(struct replica *replica, struct raft_message *message, struct log_entry *const *entries,
                           uint32_t count)
{
    struct raft_append_entries *append = &message->append_entries;
    uint64_t leader_commit = append->leader_commit;
    replica->stale = append->term < raft_current_term(&replica->raft);
    if (replica->stale) {
        feed_append(replica, message, NULL, 0);
        replica->stale = false;
        return;
    }
    for (uint32_t done = skip_committed(replica, append, entries, count);;) {
        uint32_t part = 0;
        if (done < count && entries[done]->type == LOG_CHANGE)
            part = 1;
        else
            while (done + part < count && entries[done + part]->type != LOG_CHANGE)
                part++;
        append->leader_commit = done + part == count ? leader_commit : 0;
        if (part > 0 && entries[done]->type == LOG_CHANGE)
            settle_before(replica, append);
        struct raft_message copy = *message;
        feed_append(replica, &copy, part > 0 ? entries + done : entries, part);
        done += part;
        if (done == count)
            return;
        append->prev_log_index += part;
        append->prev_log_term = entries[done - 1]->term;
    }
}

/* A peer whose log was repaired or replaced ends below what it had acknowledged in our term. The library knows no way
 * back from that (it aborts, or asks for ever): a new leader does, because it begins without knowledge. */
static void watch_memory(struct replica *replica, uint32_t peer, bool forgot)
{
    uint64_t *since = &replica->forgot_ms[peer];
    if (!forgot) {
        *since = 0;
    } else if (*since == 0) {
        *since = replica->now;
    } else if (replica->now - *since > FORGOTTEN_MS) {
        *since = replica->now;
        replica_transfer(replica, 0);
    }
}

static void receive_append_result(struct replica *replica, uint32_t peer, struct raft_message *message)
{
    struct raft_append_entries_result *result = &message->append_entries_result;
    struct pacer *pacer = &replica->pacers[peer];
    raft_index match = 0;
    bool forgot = false;
    if (raft_state(&replica->raft) == RAFT_LEADER && result->term == raft_current_term(&replica->raft)) {
        if (raft_match_index(&replica->raft, peer, &match) != 0)
            return; /* not a member */
        if (result->rejected > 0) {
            forgot = result->last_log_index < match;
            pacer_rejected(pacer);
            if (result->rejected <= match) {
                result->rejected = 0; /* S4: stale, and would take progress back */
                result->last_log_index = 0;
            } else if (forgot) {
                result->last_log_index = match; /* or the library aborts */
            }
            watch_memory(replica, peer, forgot);
        } else {
            pacer_acknowledged(pacer, result->last_log_index);
            if (result->last_log_index >= match)
                watch_memory(replica, peer, false);
        }
    }
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = message}};
    step(replica, &event, NULL, 0);
}

static void receive_install(struct replica *replica, struct raft_message *message, struct bytes configuration)
{
    if (replica->installing) /* S6; the library would leak it */
        return;
    if (!configuration_decode(configuration, &message->install_snapshot.conf))
        return;
    replica->stale = message->install_snapshot.term < raft_current_term(&replica->raft);
    message->install_snapshot.data = (struct raft_buffer){.base = raft_malloc(1), .len = 1};
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = message}};
    step(replica, &event, NULL, 0);
    replica->stale = false;
}

bool replica_damaged(const struct replica *replica)
{
    return log_owed(replica->log) != 0;
}

enum member_role replica_member(const struct replica *replica, bool *committed)
{
    *committed = replica->raft.configuration_uncommitted_index == 0;
    return members_role(&replica->raft.configuration, replica->settings.self, replica->settings.life);
}

/* R2 of members.h, and damage: it helps nobody to be elected. */
static bool may_vote(const struct replica *replica)
{
    bool committed;
    return !replica_damaged(replica) && replica_member(replica, &committed) == MEMBER_VOTING;
}

/* Gives a message that can be believed to the library. */
static void take_message(struct replica *replica, uint32_t peer, struct raft_message *message,
                         struct log_entry *const *entries, uint32_t count, struct bytes configuration)
{
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = message}};
    switch (message->type) {
    case RAFT_APPEND_ENTRIES:
        receive_append(replica, message, entries, count);
        return;
    case RAFT_APPEND_ENTRIES_RESULT:
        receive_append_result(replica, peer, message);
        return;
    case RAFT_INSTALL_SNAPSHOT:
        receive_install(replica, message, configuration);
        return;
    case RAFT_REQUEST_VOTE_RESULT:
        if (raft_state(&replica->raft) != RAFT_CANDIDATE)
            return; /* the library would read a candidate's fields, which overlie another role's */
        break;
    case RAFT_REQUEST_VOTE:
    case RAFT_TIMEOUT_NOW:
        if (!may_vote(replica))
            return; /* who has forgotten what it acknowledged must not help to elect */
        break;
    }
    step(replica, &event, NULL, 0);
}

const char *replica_receive(struct replica *replica, uint32_t peer, struct raft_message *message,
                            struct log_entry *const *entries, uint32_t count, struct bytes configuration)
{
    if (!replica->started || replica->failed || peer == 0 || peer >= REPLICA_NODES_MAX ||
        peer == replica->settings.self)
        return NULL;
    message->server_id = peer;
    message->server_address = replica->addresses[peer];
    if (is_answer(message) && !is_member(replica, peer))
        return NULL; /* R1 of members.h */
    const char *refused = trust_refuses(&replica->raft, replica->log, replica->commit, peer, message, entries, count,
                                        configuration);
    if (refused == NULL)
        take_message(replica, peer, message, entries, count, configuration);
    return refused;
}

const char *replica_receive_push(struct replica *replica, uint32_t peer, struct raft_message *message)
{
    replica->pushed = true;
    const char *refused = replica_receive(replica, peer, message, NULL, 0, bytes_of(NULL, 0));
    replica->pushed = false;
    return refused;
}

/* ---- appending ---- */

static enum status submit(struct replica *replica, struct log_entry *const *entries, uint32_t count)
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
    step(replica, &event, entries, log_last(replica->log) + 1);
    free(described);
    return replica->failed ? STATUS_CLOSED : STATUS_OK;
}

enum status replica_submit(struct replica *replica, struct log_entry *const *entries, uint32_t count)
{
    if (!replica->started || replica->failed || raft_state(&replica->raft) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    if (replica_transferring(replica))
        return STATUS_BUSY;
    return submit(replica, entries, count);
}

static bool voters_are_near(struct replica *replica, const struct raft_configuration *configuration)
{
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        raft_index match = 0;
        if (server->role != RAFT_VOTER || server->id == replica->settings.self)
            continue;
        if (raft_match_index(&replica->raft, server->id, &match) != 0)
            return false;
        if (match + CHANGE_DISTANCE_MAX < log_last(replica->log))
            return false;
    }
    return true;
}

enum status replica_change(struct replica *replica, struct bytes configuration)
{
    struct raft_configuration decoded;
    if (!replica->started || replica->failed || raft_state(&replica->raft) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    if (!configuration_decode(configuration, &decoded))
        return STATUS_INVALID;
    bool near = voters_are_near(replica, &decoded);
    raft_configuration_close(&decoded);
    uint64_t commit = raft_commit_index(&replica->raft);
    uint64_t term = raft_current_term(&replica->raft);
    if (!near || replica_transferring(replica) || replica->raft.configuration_uncommitted_index != 0 || commit == 0 ||
        log_term_of(replica->log, commit) != term)
        return STATUS_BUSY; /* S5 */
    struct log_entry *entry = log_entry_new(term, LOG_CHANGE, configuration.data, configuration.size);
    enum status status = submit(replica, &entry, 1);
    log_entry_release(entry);
    return status;
}

/* S5 wants an entry of our term, and nobody may be there to publish one. */
static void begin_term(struct replica *replica)
{
    uint64_t term = raft_current_term(&replica->raft);
    if (log_term_of(replica->log, log_last(replica->log)) == term || replica_transferring(replica))
        return;
    struct log_entry *barrier = log_entry_new(term, LOG_BARRIER, NULL, 0);
    submit(replica, &barrier, 1);
    log_entry_release(barrier);
}

enum status replica_adopt(struct replica *replica, uint32_t peer, enum member_role *role)
{
    struct buffer next = {0};
    const struct raft_configuration *present = &replica->raft.configuration;
    if (!replica->started || replica->failed || raft_state(&replica->raft) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    *role = members_role(present, peer, replica->lives[peer]);
    enum status status = STATUS_NOT_FOUND;
    if (members_next(present, peer, replica->lives[peer], &next))
        status = replica_change(replica, buffer_bytes(&next));
    buffer_release(&next);
    if (status == STATUS_BUSY)
        begin_term(replica);
    return status;
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
        fail(replica, STATUS_IO_ERROR, "the disk of the log has not finished a flush for 10 seconds");
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
    return !may_vote(replica) && replica->raft.state != RAFT_LEADER;
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
        step(replica, &event, NULL, 0);
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
    step(replica, &event, NULL, 0);
}

/* Sends what waits for `peer`, as far as its window allows. */
static void send_pieces(struct replica *replica, uint32_t peer)
{
    struct pacer *pacer = &replica->pacers[peer];
    struct log_entry *entries[MESSAGE_ENTRIES_MAX];
    while (!replica->failed && pacer_may_send(pacer)) {
        struct raft_message message;
        uint64_t wanted = pacer->want + 1 - pacer->next;
        size_t count = 0, bytes = 0;
        if (pacer->next < log_first(replica->log) || !append_message(replica, peer, pacer->next - 1, &message)) {
            pacer_reset(pacer); /* trimmed meanwhile: raft will find out that the peer needs a snapshot */
            return;
        }
        enum status status = log_get_many(replica->log, pacer->next,
                                          wanted < MESSAGE_ENTRIES_MAX ? (size_t)wanted : MESSAGE_ENTRIES_MAX,
                                          PACER_PIECE_BYTES, entries, &count);
        if (status != STATUS_OK) {
            fail_log(replica);
            return;
        }
        for (size_t i = 0; i < count; i++)
            bytes += entries[i]->size;
        message.append_entries.n_entries = (unsigned)count;
        pacer_sent(pacer, (uint32_t)count, bytes);
        remember_told(replica, peer, pacer->next - 1);
        replica->calls.send(replica->context, &message, entries, (uint32_t)count);
        for (size_t i = 0; i < count; i++)
            log_entry_release(entries[i]);
    }
}

/* S9: without this a follower learns of a commit with the next entries or heartbeat, up to 50 ms later. */
static void push_commit(struct replica *replica, uint32_t peer)
{
    struct raft_message message;
    raft_index match = 0;
    if (raft_match_index(&replica->raft, peer, &match) != 0)
        return;
    uint64_t commit = raft_commit_index(&replica->raft);
    uint64_t target = match < commit ? match : commit;
    if (target <= replica->pacers[peer].told || target + 1 < log_first(replica->log))
        return;
    if (!append_message(replica, peer, target, &message))
        return;
    replica->pushes++;
    remember_told(replica, peer, target);
    if (!buggify(BUGGIFY_PUSH_IS_LOST))
        replica->calls.push(replica->context, &message);
}

void replica_flush(struct replica *replica)
{
    if (!replica->started || replica->failed)
        return;
    if (raft_state(&replica->raft) == RAFT_LEADER) {
        for (unsigned i = 0; i < replica->raft.configuration.n; i++) {
            uint32_t peer = (uint32_t)replica->raft.configuration.servers[i].id;
            if (peer == replica->settings.self || peer >= REPLICA_NODES_MAX || !is_member(replica, peer))
                continue;
            send_pieces(replica, peer);
            push_commit(replica, peer);
        }
    }
    if (!replica->failed && log_flush(replica->log) != STATUS_OK)
        fail_log(replica);
}

void replica_peer_life(struct replica *replica, uint32_t peer, struct node_life life)
{
    replica->lives[peer] = life;
}

void replica_peer_reset(struct replica *replica, uint32_t peer)
{
    pacer_reset(&replica->pacers[peer]);
}

/* ---- snapshots ---- */

void replica_snapshot_taken(struct replica *replica, const struct replica_snapshot *snapshot, uint64_t keep_from)
{
    uint64_t spare = 2 * (uint64_t)replica->settings.in_flight_max;
    struct raft_event event = {.type = RAFT_SNAPSHOT,
                               .snapshot = {.metadata = {.index = snapshot->index,
                                                         .term = snapshot->term,
                                                         .configuration_index = snapshot->configuration_index}}};
    if (!replica->started || replica->failed || replica->installing || snapshot->index > replica->commit ||
        snapshot->index <= replica->raft.trail.snapshot.index || snapshot->index <= replica->raft.trail.offset ||
        log_term_of(replica->log, snapshot->index) != snapshot->term)
        return;
    if (!configuration_decode(snapshot->configuration, &event.snapshot.metadata.configuration))
        return;
    if (keep_from + spare > snapshot->index + 1)
        keep_from = snapshot->index + 1 > spare ? snapshot->index + 1 - spare : 1;
    if (keep_from > replica->raft.last_stored + 1)
        keep_from = replica->raft.last_stored + 1; /* S8: of what our disk has yet to store it asks the terms */
    event.snapshot.trailing = (unsigned)(snapshot->index + 1 - keep_from);
    step(replica, &event, NULL, 0);

    /* The library keeps terms from keep_from on: the log may not have less. */
    if (keep_from > 1)
        log_trim(replica->log, keep_from - 1);
    while (replica->change_count > 1 && replica->changes[1].index <= snapshot->configuration_index)
        drop_changes(replica, 0, 1);
}

void replica_installed(struct replica *replica)
{
    struct raft_event event = {.type = RAFT_PERSISTED_SNAPSHOT,
                               .persisted_snapshot = {.metadata = replica->install, .offset = 0, .last = true}};
    struct raft_buffer encoded;
    assert(replica->installing);
    if (log_reset(replica->log, replica->install.index, replica->install.term) != STATUS_OK) {
        fail_log(replica);
        return;
    }
    if (raft_configuration_encode(&replica->install.configuration, &encoded) != 0)
        abort();
    drop_changes(replica, 0, replica->change_count);
    add_change(replica, replica->install.configuration_index, bytes_of(encoded.base, encoded.len));
    raft_free(encoded.base);
    replica->configured = replica->install.configuration_index;
    replica->trusted = replica->install.index;
    replica->installing = false; /* the library owns the configuration in `event` now */
    step(replica, &event, NULL, 0);
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
            !is_member(replica, (uint32_t)server->id))
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
    step(replica, &event, NULL, 0);
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

uint64_t replica_voters(const struct replica *replica)
{
    uint64_t voters = 0;
    for (unsigned i = 0; i < replica->raft.configuration.n; i++)
        if (replica->raft.configuration.servers[i].role == RAFT_VOTER)
            voters |= NODE_BIT(replica->raft.configuration.servers[i].id);
    return voters;
}

uint64_t replica_members(const struct replica *replica)
{
    uint64_t members = 0;
    for (unsigned i = 0; i < replica->raft.configuration.n; i++)
        members |= NODE_BIT(replica->raft.configuration.servers[i].id);
    return members;
}

uint64_t replica_pushes(const struct replica *replica)
{
    return replica->pushes;
}

struct bytes replica_configuration(const struct replica *replica, uint64_t index, uint64_t *configuration_index)
{
    for (size_t i = replica->change_count; i > 0; i--) {
        if (replica->changes[i - 1].index <= index) {
            *configuration_index = replica->changes[i - 1].index;
            return buffer_bytes(&replica->changes[i - 1].configuration);
        }
    }
    *configuration_index = 0;
    return bytes_of(NULL, 0);
}
