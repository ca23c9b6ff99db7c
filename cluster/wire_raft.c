/* wire_raft.c — raft's messages as bodies of link frames. See wire_raft.h. */
#include "wire_raft.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"


enum wire_type wire_raft_type(const struct raft_message *message)
{
    switch (message->type) {
    case RAFT_APPEND_ENTRIES: return WIRE_APPEND;
    case RAFT_APPEND_ENTRIES_RESULT: return WIRE_APPEND_RESULT;
    case RAFT_REQUEST_VOTE: return WIRE_VOTE;
    case RAFT_REQUEST_VOTE_RESULT: return WIRE_VOTE_RESULT;
    case RAFT_INSTALL_SNAPSHOT: return WIRE_SNAPSHOT_READY;
    case RAFT_TIMEOUT_NOW: return WIRE_TIMEOUT_NOW;
    }
    assert(!"a message type that the library does not have");
    abort();
}

enum link_kind wire_kind(enum wire_type type)
{
    return type < WIRE_FORWARD ? LINK_RAFT : LINK_BULK;
}

/* ---- AppendEntries ---- */

static size_t varint_size(uint64_t value)
{
    size_t size = 1;
    for (; value >= 0x80; value >>= 7)
        size++;
    return size;
}

size_t wire_append_entry_size(const struct log_entry *entry)
{
    return varint_size(entry->term) + 1 + varint_size(entry->size) + entry->size;
}

void wire_append_put(struct buffer *out, const struct raft_append_entries *message, struct log_entry *const *entries,
                     uint32_t count)
{
    assert(count <= WIRE_APPEND_ENTRIES_MAX);
    buffer_put_u8(out, message->version);
    buffer_put_u64(out, message->term);
    buffer_put_u64(out, message->prev_log_index);
    buffer_put_u64(out, message->prev_log_term);
    buffer_put_u64(out, message->leader_commit);
    buffer_put_u32(out, count);
    for (uint32_t i = 0; i < count; i++) {
        buffer_put_varint(out, entries[i]->term);
        buffer_put_u8(out, (uint8_t)entries[i]->type);
        buffer_put_block(out, log_entry_bytes(entries[i]));
    }
}

static bool entry_type_is_known(uint8_t type)
{
    return type >= LOG_COMMAND && type <= LOG_CHANGE;
}

/* Reads the header, then only looks at the entries: nothing is allocated before all of them are known to be sound. */
static enum status append_check(struct bytes body, struct raft_append_entries *message, uint32_t *count,
                                struct reader *first)
{
    struct reader reader = reader_of(body);
    memset(message, 0, sizeof *message);
    message->version = reader_u8(&reader);
    message->term = reader_u64(&reader);
    message->prev_log_index = reader_u64(&reader);
    message->prev_log_term = reader_u64(&reader);
    message->leader_commit = reader_u64(&reader);
    *count = reader_u32(&reader);
    *first = reader;
    if (reader.failed || message->term == 0 || message->prev_log_term > message->term)
        return STATUS_MALFORMED;
    if ((message->prev_log_index == 0) != (message->prev_log_term == 0))
        return STATUS_MALFORMED;
    if (*count > WIRE_APPEND_ENTRIES_MAX || message->prev_log_index > UINT64_MAX / 2)
        return STATUS_MALFORMED;

    uint64_t term = message->prev_log_term;
    for (uint32_t i = 0; i < *count; i++) {
        uint64_t next = reader_varint(&reader);
        uint8_t type = reader_u8(&reader);
        struct bytes data = reader_block(&reader);
        if (reader.failed || next == 0 || next < term || next > message->term || !entry_type_is_known(type) ||
            data.size > WIRE_ENTRY_BYTES_MAX)
            return STATUS_MALFORMED;
        term = next;
    }
    return reader_done(&reader) ? STATUS_OK : STATUS_MALFORMED;
}

enum status wire_append_get(struct bytes body, struct raft_append_entries *message, struct log_entry ***entries,
                            uint32_t *count)
{
    struct reader reader;
    enum status status = append_check(body, message, count, &reader);
    if (status != STATUS_OK)
        return status;
    *entries = memory_allocate((*count + 1) * sizeof **entries);
    for (uint32_t i = 0; i < *count; i++) {
        uint64_t term = reader_varint(&reader);
        enum log_entry_type type = (enum log_entry_type)reader_u8(&reader);
        struct bytes data = reader_block(&reader);
        (*entries)[i] = log_entry_new(term, type, data.data, data.size);
    }
    assert(reader_done(&reader)); /* append_check has read the same bytes */
    return STATUS_OK;
}

/* ---- the other five ---- */

static void append_result_put(struct buffer *out, const struct raft_append_entries_result *result)
{
    buffer_put_u8(out, result->version);
    buffer_put_u64(out, result->term);
    buffer_put_u64(out, result->rejected);
    buffer_put_u64(out, result->last_log_index);
    buffer_put_u16(out, result->features);
    buffer_put_u16(out, result->capacity);
}

static bool append_result_get(struct reader *reader, struct raft_append_entries_result *result)
{
    result->version = reader_u8(reader);
    result->term = reader_u64(reader);
    result->rejected = reader_u64(reader);
    result->last_log_index = reader_u64(reader);
    result->features = reader_u16(reader);
    result->capacity = reader_u16(reader);
    return result->term != 0;
}

#define VOTE_DISRUPT 0x01
#define VOTE_PRE 0x02
#define VOTE_GRANTED 0x04

static void vote_put(struct buffer *out, const struct raft_request_vote *vote)
{
    buffer_put_u8(out, vote->version);
    buffer_put_u64(out, vote->term);
    buffer_put_u64(out, vote->candidate_id);
    buffer_put_u64(out, vote->last_log_index);
    buffer_put_u64(out, vote->last_log_term);
    buffer_put_u8(out, (uint8_t)((vote->disrupt_leader ? VOTE_DISRUPT : 0) | (vote->pre_vote ? VOTE_PRE : 0)));
}

static bool vote_get(struct reader *reader, struct raft_request_vote *vote)
{
    vote->version = reader_u8(reader);
    vote->term = reader_u64(reader);
    vote->candidate_id = reader_u64(reader);
    vote->last_log_index = reader_u64(reader);
    vote->last_log_term = reader_u64(reader);
    uint8_t flags = reader_u8(reader);
    vote->disrupt_leader = (flags & VOTE_DISRUPT) != 0;
    vote->pre_vote = (flags & VOTE_PRE) != 0;
    return vote->term != 0 && vote->candidate_id != 0 && (flags & ~(VOTE_DISRUPT | VOTE_PRE)) == 0;
}

static void vote_result_put(struct buffer *out, const struct raft_request_vote_result *result)
{
    buffer_put_u8(out, result->version);
    buffer_put_u64(out, result->term);
    buffer_put_u8(out, (uint8_t)((result->vote_granted ? VOTE_GRANTED : 0) | (result->pre_vote ? VOTE_PRE : 0)));
    buffer_put_u16(out, result->features);
    buffer_put_u16(out, result->capacity);
}

static bool vote_result_get(struct reader *reader, struct raft_request_vote_result *result)
{
    result->version = reader_u8(reader);
    result->term = reader_u64(reader);
    uint8_t flags = reader_u8(reader);
    result->vote_granted = (flags & VOTE_GRANTED) != 0;
    result->pre_vote = (flags & VOTE_PRE) != 0;
    result->features = reader_u16(reader);
    result->capacity = reader_u16(reader);
    return (flags & ~(VOTE_GRANTED | VOTE_PRE)) == 0;
}

static void install_put(struct buffer *out, const struct raft_install_snapshot *install, struct bytes configuration)
{
    assert(configuration.size <= WIRE_CONFIGURATION_BYTES_MAX);
    buffer_put_u8(out, install->version);
    buffer_put_u64(out, install->term);
    buffer_put_u64(out, install->last_index);
    buffer_put_u64(out, install->last_term);
    buffer_put_u64(out, install->conf_index);
    buffer_put_block(out, configuration);
}

static bool install_get(struct reader *reader, struct raft_install_snapshot *install, struct bytes *configuration)
{
    install->version = reader_u8(reader);
    install->term = reader_u64(reader);
    install->last_index = reader_u64(reader);
    install->last_term = reader_u64(reader);
    install->conf_index = reader_u64(reader);
    *configuration = reader_block(reader);
    return install->term != 0 && install->last_index != 0 && install->last_term != 0 &&
           install->last_term <= install->term && install->conf_index != 0 &&
           install->conf_index <= install->last_index && configuration->size <= WIRE_CONFIGURATION_BYTES_MAX;
}

static void timeout_now_put(struct buffer *out, const struct raft_timeout_now *timeout)
{
    buffer_put_u8(out, timeout->version);
    buffer_put_u64(out, timeout->term);
    buffer_put_u64(out, timeout->last_log_index);
    buffer_put_u64(out, timeout->last_log_term);
}

static bool timeout_now_get(struct reader *reader, struct raft_timeout_now *timeout)
{
    timeout->version = reader_u8(reader);
    timeout->term = reader_u64(reader);
    timeout->last_log_index = reader_u64(reader);
    timeout->last_log_term = reader_u64(reader);
    return timeout->term != 0;
}

void wire_raft_put(struct buffer *out, const struct raft_message *message, struct bytes configuration)
{
    switch (message->type) {
    case RAFT_APPEND_ENTRIES_RESULT: append_result_put(out, &message->append_entries_result); return;
    case RAFT_REQUEST_VOTE: vote_put(out, &message->request_vote); return;
    case RAFT_REQUEST_VOTE_RESULT: vote_result_put(out, &message->request_vote_result); return;
    case RAFT_INSTALL_SNAPSHOT: install_put(out, &message->install_snapshot, configuration); return;
    case RAFT_TIMEOUT_NOW: timeout_now_put(out, &message->timeout_now); return;
    case RAFT_APPEND_ENTRIES: break;
    }
    assert(!"AppendEntries goes through wire_append_put");
}

enum status wire_raft_get(enum wire_type type, struct bytes body, struct raft_message *message,
                          struct bytes *configuration)
{
    struct reader reader = reader_of(body);
    bool valid = false;
    memset(message, 0, sizeof *message);
    switch ((int)type) {
    case WIRE_APPEND_RESULT:
        message->type = RAFT_APPEND_ENTRIES_RESULT;
        valid = append_result_get(&reader, &message->append_entries_result);
        break;
    case WIRE_VOTE:
        message->type = RAFT_REQUEST_VOTE;
        valid = vote_get(&reader, &message->request_vote);
        break;
    case WIRE_VOTE_RESULT:
        message->type = RAFT_REQUEST_VOTE_RESULT;
        valid = vote_result_get(&reader, &message->request_vote_result);
        break;
    case WIRE_SNAPSHOT_READY:
        message->type = RAFT_INSTALL_SNAPSHOT;
        valid = install_get(&reader, &message->install_snapshot, configuration);
        break;
    case WIRE_TIMEOUT_NOW:
        message->type = RAFT_TIMEOUT_NOW;
        valid = timeout_now_get(&reader, &message->timeout_now);
        break;
    default:
        return STATUS_UNSUPPORTED;
    }
    return reader_done(&reader) && valid ? STATUS_OK : STATUS_MALFORMED;
}
