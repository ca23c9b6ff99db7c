/* replica_receive.c — messages of peers, made such that the library can take them. Part of replica.
 *
 *   replica_receive: refused, if no honest peer says it (trust.h, S12); of no member: ignored
 *     AppendEntries         what is committed here is skipped (S1); a configuration comes first in its part (S2)
 *     its answer            what is stale does not take progress back (S4); one who forgot is noticed; where the logs parted
 *                           is found in a few steps
 *     InstallSnapshot       one at a time (S6)
 *     votes                 neither given nor counted by who may not vote */
#include <assert.h>
#include <stdlib.h>

#include "base/memory.h"
#include "replica_private.h"
#include "trust.h"

#define FORGOTTEN_MS 1000            /* a peer denies what it had acknowledged: not a stale message any more */

/* ---- AppendEntries ---- */

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
    replica_step(replica, &event, entries, append->prev_log_index + 1);
    free(described);
}

/* Whether the term of an entry is another than that of ours, which is committed. */
static bool contradicts(const struct replica *replica, uint64_t index, uint64_t term)
{
    uint64_t ours = log_term_of(replica->log, index);
    return ours != 0 && ours != term;
}

/* The last index that no honest leader takes back. A settled change of members is one, even above our commit index:
 * the library counts on it. */
static uint64_t committed_floor(const struct replica *replica)
{
    uint64_t floor = replica->commit > replica->trusted ? replica->commit : replica->trusted;
    if (floor < replica->configured)
        floor = replica->configured;
    return floor < log_last(replica->log) ? floor : log_last(replica->log);
}

/* S1: what is committed here is not looked at again; the library could take an entry below its trail for a new one. */
static uint32_t skip_committed(struct replica *replica, struct raft_append_entries *append,
                               struct log_entry *const *entries, uint32_t count)
{
    uint64_t floor = committed_floor(replica);
    if (replica->installing || append->prev_log_index >= floor)
        return 0;
    bool differs = append->prev_log_index != 0 && contradicts(replica, append->prev_log_index, append->prev_log_term);
    for (uint32_t i = 0; i < count && append->prev_log_index + 1 + i <= floor; i++)
        differs = differs || contradicts(replica, append->prev_log_index + 1 + i, entries[i]->term);
    if (differs)
        replica_fail(replica, STATUS_CORRUPT, REPLICA_DIFFERS);
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
        changes_settle(replica, before);
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

/* The peer has another entry where we asked. The library would ask for the one before it, and so on: a round trip for each
 * of the thousands of entries that two leaders may have made, neither of which could commit them (Raft, 5.3). Each step back is
 * twice as long as the last; what is sent once more for that, the peer has already and passes over. */
static void step_back(struct replica *replica, uint32_t peer, uint64_t match, struct raft_append_entries_result *result)
{
    uint64_t *step = &replica->steps_back[peer];
    uint64_t least = log_first(replica->log) > match ? log_first(replica->log) : match;
    if (result->last_log_index + 1 != result->rejected || result->rejected <= least)
        return; /* its log ends before; or it needs a snapshot */
    uint64_t next = result->rejected > least + *step ? result->rejected - *step : least;
    if (next < result->last_log_index)
        result->last_log_index = next;
    *step *= 2;
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
            } else {
                step_back(replica, peer, match, result);
            }
            watch_memory(replica, peer, forgot);
        } else {
            pacer_acknowledged(pacer, result->last_log_index);
            replica->steps_back[peer] = 1;
            if (result->last_log_index >= match)
                watch_memory(replica, peer, false);
        }
    }
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = message}};
    replica_step(replica, &event, NULL, 0);
}

/* ---- all of them ---- */

static void receive_install(struct replica *replica, struct raft_message *message, struct bytes configuration)
{
    if (replica->installing) /* S6; the library would leak it */
        return;
    if (!changes_decode(configuration, &message->install_snapshot.conf))
        return;
    replica->stale = message->install_snapshot.term < raft_current_term(&replica->raft);
    message->install_snapshot.data = (struct raft_buffer){.base = raft_malloc(1), .len = 1};
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = message}};
    replica_step(replica, &event, NULL, 0);
    replica->stale = false;
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
        if (!replica_may_vote(replica))
            return; /* who has forgotten what it acknowledged must not help to elect */
        break;
    }
    replica_step(replica, &event, NULL, 0);
}

const char *replica_receive(struct replica *replica, uint32_t peer, struct raft_message *message,
                            struct log_entry *const *entries, uint32_t count, struct bytes configuration)
{
    if (!replica->started || replica->failed || peer == 0 || peer >= REPLICA_NODES_MAX ||
        peer == replica->settings.self)
        return NULL;
    message->server_id = peer;
    message->server_address = replica->addresses[peer];
    if (replica_is_answer(message) && !replica_is_member(replica, peer))
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
