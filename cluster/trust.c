/* trust.c — see trust.h. */
#include "trust.h"

#include "members.h"

static uint64_t term_of(const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_APPEND_ENTRIES: return message->append_entries.term;
    case RAFT_APPEND_ENTRIES_RESULT: return message->append_entries_result.term;
    case RAFT_REQUEST_VOTE: return message->request_vote.term;
    case RAFT_REQUEST_VOTE_RESULT: return message->request_vote_result.term;
    case RAFT_INSTALL_SNAPSHOT: return message->install_snapshot.term;
    case RAFT_TIMEOUT_NOW: return message->timeout_now.term;
    }
    return 0;
}

/* The first entry of a cluster names its members, is the same everywhere, and counts as committed from the beginning. */
static const char *refuses_first(const struct log *log, const struct log_entry *entry)
{
    uint64_t term = log_term_of(log, 1);
    if (log_first(log) > 1)
        return NULL; /* it is behind a snapshot */
    if (entry->type != LOG_CHANGE)
        return "sends a log that does not begin with its members";
    if (term != 0 && term != entry->term)
        return "sends a log that begins differently";
    return NULL;
}

static const char *refuses_append(const struct raft *raft, const struct log *log,
                                  const struct raft_append_entries *append, struct log_entry *const *entries,
                                  uint32_t count)
{
    if (raft->state == RAFT_LEADER && append->term == raft->current_term)
        return "claims to lead in our own term";
    for (uint32_t i = 0; i < count; i++)
        if (entries[i]->type == LOG_CHANGE && !members_valid(log_entry_bytes(entries[i])))
            return "sends members that cannot be";
    return append->prev_log_index == 0 && count > 0 ? refuses_first(log, entries[0]) : NULL;
}

static const char *refuses_install(const struct raft *raft, const struct log *log, uint64_t commit,
                                   const struct raft_install_snapshot *install, struct bytes configuration)
{
    uint64_t term = install->last_index <= commit ? log_term_of(log, install->last_index) : 0;
    if (raft->state == RAFT_LEADER && install->term == raft->current_term)
        return "claims to lead in our own term";
    if (!members_valid(configuration))
        return "sends members that cannot be";
    if (term != 0 && term != install->last_term)
        return "sends a snapshot that contradicts a committed entry";
    return NULL;
}

static const char *refuses_vote_result(const struct raft *raft, const struct raft_request_vote_result *result)
{
    if (raft->state == RAFT_CANDIDATE && raft->candidate_state.in_pre_vote && result->vote_granted &&
        result->term > raft->current_term + 1)
        return "grants a vote of a term that we do not ask for";
    return NULL;
}

const char *trust_refuses(const struct raft *raft, const struct log *log, uint64_t commit, uint32_t peer,
                          const struct raft_message *message, struct log_entry *const *entries, uint32_t count,
                          struct bytes configuration)
{
    uint64_t term = term_of(message);
    if (term > raft->current_term && term - raft->current_term > TRUST_TERMS_AHEAD_MAX)
        return "speaks of a term that cannot have come";
    switch (message->type) {
    case RAFT_APPEND_ENTRIES: return refuses_append(raft, log, &message->append_entries, entries, count);
    case RAFT_INSTALL_SNAPSHOT:
        return refuses_install(raft, log, commit, &message->install_snapshot, configuration);
    case RAFT_REQUEST_VOTE_RESULT: return refuses_vote_result(raft, &message->request_vote_result);
    case RAFT_REQUEST_VOTE:
        return message->request_vote.candidate_id != peer ? "asks for a vote for another node" : NULL;
    case RAFT_APPEND_ENTRIES_RESULT:
    case RAFT_TIMEOUT_NOW: return NULL;
    }
    return NULL;
}
