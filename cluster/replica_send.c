/* replica_send.c — what leaves: the library's messages, entries at the pace of each peer, pushed commits. Part of
 * replica.
 *
 *   library: "entries p+1 to p+n"  -> the peer's pacer -> replica_flush: from the log, in pieces, as the window allows
 *   library: any other message     -> replica_send: corrected where it has to be, and sent at once
 *   commit has moved on            -> replica_flush: pushed to those who can take it (S9) */
#include <assert.h>

#include "base/buggify.h"
#include "replica_private.h"

#define MESSAGE_ENTRIES_MAX 1024     /* in one AppendEntries */

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

bool replica_is_answer(const struct raft_message *message)
{
    return message->type == RAFT_APPEND_ENTRIES_RESULT || message->type == RAFT_REQUEST_VOTE_RESULT;
}

void replica_send(struct replica *replica, struct raft_message *message)
{
    assert(message->server_id > 0 && message->server_id < REPLICA_NODES_MAX);
    if (!replica_is_answer(message) && !replica_is_member(replica, (uint32_t)message->server_id))
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

/* ---- at the end of a turn ---- */

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
            replica_fail_log(replica);
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
            if (peer == replica->settings.self || peer >= REPLICA_NODES_MAX || !replica_is_member(replica, peer))
                continue;
            send_pieces(replica, peer);
            push_commit(replica, peer);
        }
    }
    if (!replica->failed && log_flush(replica->log) != STATUS_OK)
        replica_fail_log(replica);
}

void replica_peer_reset(struct replica *replica, uint32_t peer)
{
    pacer_reset(&replica->pacers[peer]);
}
