/* replica_changes.c — who the members are: configurations in the log, and how the next one comes about. Part of
 * replica.
 *
 * replica->changes holds the configuration of the newest snapshot and all those in the log above it. The library is
 * told of each when it is in the log, and again when it is committed (changes_settle); until then it can be taken back.
 * members.h says which steps are taken, and why they are safe. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "replica_private.h"

#define CHANGE_DISTANCE_MAX 1000     /* S5: "near the end of the log" */

void changes_drop(struct replica *replica, size_t from, size_t count)
{
    if (count == 0)
        return;
    for (size_t i = from; i < from + count; i++)
        buffer_release(&replica->changes[i].configuration);
    memmove(replica->changes + from, replica->changes + from + count,
            (replica->change_count - from - count) * sizeof *replica->changes);
    replica->change_count -= count;
}

void changes_add(struct replica *replica, uint64_t index, struct bytes configuration)
{
    replica->changes = memory_resize(replica->changes, (replica->change_count + 1) * sizeof *replica->changes);
    struct change *change = &replica->changes[replica->change_count++];
    *change = (struct change){.index = index};
    buffer_put_bytes(&change->configuration, configuration);
}

void changes_truncate(struct replica *replica, uint64_t from)
{
    while (replica->change_count > 0 && replica->changes[replica->change_count - 1].index >= from)
        changes_drop(replica, replica->change_count - 1, 1);
    if (replica->configured >= from)
        replica->configured = from - 1;
}

bool changes_decode(struct bytes bytes, struct raft_configuration *configuration)
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

void changes_settle(struct replica *replica, uint64_t index)
{
    for (size_t i = 0; i < replica->change_count && !replica->failed; i++) {
        struct change *change = &replica->changes[i];
        if (change->index <= replica->configured || change->index > index)
            continue;
        struct raft_event event = {.type = RAFT_CONFIGURATION, .configuration = {.index = change->index}};
        if (!changes_decode(buffer_bytes(&change->configuration), &event.configuration.conf)) {
            replica_fail(replica, STATUS_CORRUPT, "a configuration in the log cannot be decoded");
            return;
        }
        replica->configured = change->index;
        replica_step(replica, &event, NULL, 0);
    }
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

/* ---- members ---- */

bool replica_is_member(const struct replica *replica, uint32_t peer)
{
    switch (members_role(&replica->raft.configuration, peer, replica->lives[peer])) {
    case MEMBER_NONE:
    case MEMBER_OTHER:
    case MEMBER_REMOVED: return false;
    case MEMBER_LEARNING:
    case MEMBER_VOTING: return true;
    }
    return false;
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

bool replica_may_vote(const struct replica *replica)
{
    bool committed;
    return !replica_damaged(replica) && replica_member(replica, &committed) == MEMBER_VOTING;
}

uint64_t replica_voters(const struct replica *replica)
{
    uint64_t voters = 0;
    for (unsigned i = 0; i < replica->raft.configuration.n; i++)
        if (replica->raft.configuration.servers[i].role == RAFT_VOTER)
            voters |= NODE_BIT(replica->raft.configuration.servers[i].id);
    return voters;
}

static uint64_t servers_that_are(const struct replica *replica, bool removed)
{
    uint64_t nodes = 0;
    for (unsigned i = 0; i < replica->raft.configuration.n; i++)
        if (members_is_removed(&replica->raft.configuration.servers[i]) == removed)
            nodes |= NODE_BIT(replica->raft.configuration.servers[i].id);
    return nodes;
}

uint64_t replica_members(const struct replica *replica)
{
    return servers_that_are(replica, false);
}

uint64_t replica_removed(const struct replica *replica)
{
    return servers_that_are(replica, true);
}

bool replica_has_removed(const struct replica *replica, uint32_t node, struct node_life life)
{
    return members_role(&replica->raft.configuration, node, life) == MEMBER_REMOVED;
}

void replica_peer_life(struct replica *replica, uint32_t peer, struct node_life life)
{
    replica->lives[peer] = life;
}

/* ---- changing them ---- */

static bool is_near(const struct replica *replica, raft_id node)
{
    raft_index match = 0;
    if (node == replica->settings.self)
        return true;
    return raft_match_index(&replica->raft, node, &match) == 0 && match + CHANGE_DISTANCE_MAX >= log_last(replica->log);
}

/* Who is made a voter has caught up, and with the others that have there is a majority: so what comes next is committed soon.
 * (Of all of them it cannot be asked: of five nodes two may be gone, and are taken out one after the other.) */
static bool voters_are_near(const struct replica *replica, const struct raft_configuration *next)
{
    uint64_t voters_now = replica_voters(replica);
    unsigned count = 0, near = 0;
    for (unsigned i = 0; i < next->n; i++) {
        const struct raft_server *server = &next->servers[i];
        if (server->role != RAFT_VOTER)
            continue;
        bool close = is_near(replica, server->id);
        if (!close && !(voters_now & NODE_BIT(server->id)))
            return false;
        count++;
        near += close;
    }
    return near > count / 2;
}

enum status replica_change(struct replica *replica, struct bytes configuration)
{
    struct raft_configuration decoded;
    if (!replica->started || replica->failed || raft_state(&replica->raft) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    if (!changes_decode(configuration, &decoded))
        return STATUS_INVALID;
    bool near = voters_are_near(replica, &decoded);
    raft_configuration_close(&decoded);
    uint64_t commit = raft_commit_index(&replica->raft);
    uint64_t term = raft_current_term(&replica->raft);
    if (!near || replica_transferring(replica) || replica->raft.configuration_uncommitted_index != 0 || commit == 0 ||
        log_term_of(replica->log, commit) != term)
        return STATUS_BUSY; /* S5 */
    struct log_entry *entry = log_entry_new(term, LOG_CHANGE, configuration.data, configuration.size);
    enum status status = replica_append(replica, &entry, 1);
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
    replica_append(replica, &barrier, 1);
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

enum status replica_remove(struct replica *replica, uint32_t node)
{
    struct buffer next = {0};
    if (!replica->started || replica->failed || raft_state(&replica->raft) != RAFT_LEADER)
        return STATUS_NOT_LEADER;
    enum status status = members_remove(&replica->raft.configuration, node, &next);
    if (status == STATUS_OK)
        status = replica_change(replica, buffer_bytes(&next));
    buffer_release(&next);
    if (status == STATUS_BUSY)
        begin_term(replica);
    return status;
}
