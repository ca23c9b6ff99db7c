/* consensus.c — one node's part in agreeing on the log. See consensus.h.
 *
 *   proposer (ours, or a peer's FORWARD) -> pending -> stamped, submitted to the replica at the end of the turn
 *   replica: committed -> consensus_deliver() -> core, at most AHEAD_ENTRIES before it has applied them
 *
 * The leader stamps batches with cluster time: clock_ms was true at clock_at_ms, and time goes on at rate 1 from there.
 * The wall clock comes in at one place only, take_over_clock(). */
#include "consensus.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bug.h"
#include "base/buggify.h"
#include "base/memory.h"
#include "command.h"
#include "consensus_private.h"

#define ELECTION_MS 300
#define HEARTBEAT_MS 50
#define NODE_TIMEOUT_MS 2000
#define LOG_BYTES_MAX (1024ull * 1024 * 1024)
#define IN_FLIGHT_ENTRIES 4096                     /* raft's limit of unacknowledged entries per peer */
#define UNCOMMITTED_ENTRIES 2048                   /* as leader, batches wait in `pending` beyond this */
#define SUBMIT_ENTRIES 256                         /* in one turn */
#define PENDING_BYTES_MAX (256u * 1024 * 1024)     /* dropped beyond; their origins send again */
#define DELIVER_ENTRIES 256                        /* to core in one turn */
#define DELIVER_BYTES (8u * 1024 * 1024)
#define FAR_BEHIND 10000                           /* entries; not caught up */
#define SPACE_ASK_MS 500                           /* a full disk: how often the log looks whether there is space */
#define RESIGNED_PAUSE_MS 1000                     /* until leadership that came back is handed over again, at first */
#define RESIGNED_PAUSE_MAX_MS 4000
#define CLOCK_PATIENCE_MS 1000                     /* a leader waits so long for peers to say what time it is */
#define QUIET_MS 1000                              /* nothing appended: then the log's durable mark is written */

/* ---- small things that transfer.c uses as well ---- */

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

void consensus_break(struct consensus *consensus, uint32_t peer, enum link_kind kind, const char *reason)
{
    struct peer_link *link = &consensus->peers[peer].links[kind];
    if (!link->up || link->broken)
        return;
    link->broken = true;
    consensus->counts.frames_dropped++;
    consensus->calls.disconnect(consensus->context, peer, kind, link->in, reason);
}

struct buffer *consensus_frame(struct consensus *consensus, uint32_t peer, enum wire_type type)
{
    struct peer_link *link = &consensus->peers[peer].links[wire_kind(type)];
    if (!link->up || link->broken)
        return NULL;
    assert(consensus->frame.size == 0);
    wire_frame_begin(&consensus->frame, type, link->out, ++link->sent);
    return &consensus->frame;
}

void consensus_frame_send(struct consensus *consensus, uint32_t peer, enum wire_type type)
{
    struct buffer frame = consensus->frame;
    consensus->frame = (struct buffer){0};
    wire_frame_end(&frame, 0);
    consensus->counts.frames_out++;
    consensus->counts.bytes_out += frame.size;
    consensus->calls.send(consensus->context, peer, wire_kind(type), frame.data, frame.size);
}

/* ---- the replica's callbacks ---- */

static void send_raft(struct consensus *consensus, enum wire_type type, const struct raft_message *message,
                      struct log_entry *const *entries, uint32_t count)
{
    uint32_t peer = (uint32_t)message->server_id;
    struct buffer *frame = consensus_frame(consensus, peer, type);
    if (frame == NULL)
        return; /* raft sends again */
    if (message->type == RAFT_APPEND_ENTRIES) {
        size_t size = 64;
        for (uint32_t i = 0; i < count; i++)
            size += wire_append_entry_size(entries[i]);
        buffer_reserve(frame, size);
        wire_append_put(frame, &message->append_entries, entries, count);
    } else {
        wire_raft_put(frame, message, bytes_of(NULL, 0));
    }
    consensus_frame_send(consensus, peer, type);
}

static void replica_sends(void *context, const struct raft_message *message, struct log_entry *const *entries,
                          uint32_t count)
{
    send_raft(context, wire_raft_type(message), message, entries, count);
}

static void replica_pushes_commit(void *context, const struct raft_message *message)
{
    send_raft(context, WIRE_COMMIT, message, NULL, 0);
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

static void drop_pending(struct consensus *consensus)
{
    for (size_t i = 0; i < consensus->pending_count; i++)
        log_entry_release(consensus->pending[i]);
    consensus->counts.batches_dropped += consensus->pending_count;
    consensus->pending_count = 0;
    consensus->pending_bytes = 0;
}

void consensus_free(struct consensus *consensus)
{
    if (consensus == NULL)
        return;
    transfer_free(consensus);
    drop_pending(consensus);
    free(consensus->pending);
    replica_free(consensus->replica);
    buffer_release(&consensus->bootstrap);
    buffer_release(&consensus->newest_configuration);
    buffer_release(&consensus->older_configuration);
    buffer_release(&consensus->installing_configuration);
    buffer_release(&consensus->frame);
    free(consensus);
}

static bool batch_stamp(const struct log_entry *entry, uint64_t *stamp_ms)
{
    struct batch_header header;
    struct bytes commands;
    if (entry->type != LOG_COMMAND || batch_decode(log_entry_bytes(entry), &header, &commands) != STATUS_OK)
        return false;
    *stamp_ms = header.stamp_ms;
    return true;
}

/* Stamps never run backwards: what the log already holds is the floor. */
static void raise_floor(struct consensus *consensus, struct log_entry *const *entries, uint32_t count)
{
    uint64_t stamp = 0;
    while (count > 0 && !batch_stamp(entries[count - 1], &stamp))
        count--;
    if (stamp > consensus->stamp_floor)
        consensus->stamp_floor = stamp;
}

static enum status raise_floor_from_log(struct consensus *consensus)
{
    uint64_t index = log_last(consensus->log);
    consensus->stamp_floor = consensus->clock_ms;
    for (int tries = 0; tries < 64 && index >= log_first(consensus->log) && index > 0; tries++, index--) {
        struct log_entry *entry = NULL;
        enum status status = log_get(consensus->log, index, &entry);
        if (status != STATUS_OK)
            return status;
        bool found = entry->type == LOG_COMMAND;
        raise_floor(consensus, &entry, 1);
        log_entry_release(entry);
        if (found)
            break;
    }
    return STATUS_OK;
}

static enum status start_replica(struct consensus *consensus)
{
    const struct consensus_snapshot *newest = &consensus->newest;
    struct replica_snapshot snapshot = {newest->index, newest->term, newest->configuration_index,
                                        newest->configuration};
    enum status status = raise_floor_from_log(consensus);
    if (status != STATUS_OK)
        return status;
    consensus->start_last = log_last(consensus->log);
    status = replica_start(consensus->replica, consensus->now, &snapshot, consensus->start_applied,
                           consensus->start_applied_term);
    if (status == STATUS_OK && consensus->next < log_first(consensus->log))
        status = STATUS_DAMAGED;
    if (bug(BUG_V21_STORE_BEHIND_LOG) && consensus->start_applied > consensus->start_last)
        status = STATUS_DAMAGED;
    for (uint32_t node = 1; node < NODES; node++)
        consensus->peers[node].known |= (replica_members(consensus->replica) & NODE_BIT(node)) != 0;
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
    consensus->clock_at_ms = consensus->leader_heard_ms = consensus->silence_from_ms = now_ms;
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

/* ---- cluster time ---- */

static uint64_t reckon(const struct consensus *consensus)
{
    uint64_t reckoned = consensus->clock_ms + (consensus->now - consensus->clock_at_ms);
    return reckoned > consensus->stamp_floor ? reckoned : consensus->stamp_floor;
}

static void set_clock(struct consensus *consensus, uint64_t clock_ms)
{
    consensus->clock_ms = clock_ms;
    consensus->clock_at_ms = consensus->now;
}

/* The latest time that a peer has told; 0: none knows. */
static uint64_t time_of_peers(const struct consensus *consensus)
{
    uint64_t best = 0;
    for (uint32_t node = 1; node < consensus->peers_end; node++) {
        const struct peer *peer = &consensus->peers[node];
        if (peer->clock_ms != 0 && peer->clock_ms + (consensus->now - peer->clock_at_ms) > best)
            best = peer->clock_ms + (consensus->now - peer->clock_at_ms);
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
static void take_over_clock(struct consensus *consensus)
{
    uint64_t best = time_of_peers(consensus);
    if (consensus->clock_live) {
        set_clock(consensus, reckon(consensus));
        return;
    }
    if (best == 0 && !majority_told_time(consensus) && consensus->now - consensus->leads_since_ms < CLOCK_PATIENCE_MS)
        return;
    if (best == 0)
        best = consensus->wall;
    set_clock(consensus, best > consensus->stamp_floor ? best : consensus->stamp_floor);
    consensus->clock_live = true;
}

static uint64_t next_stamp(struct consensus *consensus)
{
    if (bug(BUG_V14_WALL_CLOCK_STAMPS))
        return consensus->stamp_floor = consensus->wall > consensus->stamp_floor ? consensus->wall : consensus->stamp_floor;
    consensus->stamp_floor = reckon(consensus);
    return consensus->stamp_floor;
}

void consensus_applied(struct consensus *consensus, uint64_t index, uint64_t clock_ms, bool awaited)
{
    if (index <= consensus->applied || index >= consensus->next)
        return;
    for (uint64_t i = consensus->applied + 1; i <= index; i++)
        consensus->ahead_bytes -= consensus->ahead_sizes[i % AHEAD_ENTRIES];
    consensus->applied = index;
    consensus->applied_awaited = consensus->applied_awaited || awaited;
    bool leads = replica_role(consensus->replica) == RAFT_LEADER;
    /* What was stamped long ago and is applied only now does not set back who has gone on reckoning. */
    bool reckons = leads || consensus->clock_live;
    if (clock_ms != 0 && (!reckons || clock_ms > reckon(consensus))) {
        set_clock(consensus, clock_ms);
        consensus->clock_live = consensus->clock_live || index > consensus->start_last;
    }
}

/* ---- batches ---- */

static void append_batch(struct consensus *consensus, struct bytes batch)
{
    if (consensus->pending_bytes + batch.size > PENDING_BYTES_MAX || consensus->resigned) {
        consensus->counts.batches_dropped++;
        return;
    }
    if (consensus->pending_count == consensus->pending_capacity) {
        consensus->pending_capacity = consensus->pending_capacity == 0 ? 64 : 2 * consensus->pending_capacity;
        consensus->pending =
            memory_resize(consensus->pending, consensus->pending_capacity * sizeof *consensus->pending);
    }
    consensus->pending[consensus->pending_count++] =
        log_entry_new(replica_term(consensus->replica), LOG_COMMAND, batch.data, batch.size);
    consensus->pending_bytes += batch.size;
}

void consensus_submit(struct consensus *consensus, struct bytes batch)
{
    uint32_t leader = replica_leader(consensus->replica);
    if (consensus->failed || batch.size > WIRE_ENTRY_BYTES_MAX) {
        consensus->counts.batches_dropped++;
        return;
    }
    if (leader == consensus->settings.self) {
        append_batch(consensus, batch);
        return;
    }
    struct buffer *frame = leader == 0 ? NULL : consensus_frame(consensus, leader, WIRE_FORWARD);
    if (frame == NULL) {
        consensus->counts.batches_dropped++;
        return;
    }
    buffer_put_bytes(frame, batch);
    consensus_frame_send(consensus, leader, WIRE_FORWARD);
    consensus->counts.batches_forwarded++;
}

static void receive_forward(struct consensus *consensus, uint32_t peer, struct bytes batch)
{
    struct batch_header header;
    struct bytes commands;
    if (batch_decode(batch, &header, &commands) != STATUS_OK || header.origin_node != peer ||
        batch.size > WIRE_ENTRY_BYTES_MAX) {
        consensus_break(consensus, peer, LINK_BULK, "forwards something that is not a batch of its own");
        return;
    }
    if (replica_role(consensus->replica) != RAFT_LEADER || buggify(BUGGIFY_FORWARD_IS_LOST))
        consensus->counts.batches_dropped++; /* it will hear who leads, and send again */
    else
        append_batch(consensus, batch);
}

static bool may_submit(const struct consensus *consensus)
{
    return consensus->pending_count > 0 && consensus->clock_live && !replica_transferring(consensus->replica) &&
           log_last(consensus->log) < replica_commit(consensus->replica) + UNCOMMITTED_ENTRIES;
}

/* One RAFT_SUBMIT for all that came in this turn: the group commit. */
static void submit_pending(struct consensus *consensus)
{
    struct replica *replica = consensus->replica;
    if (consensus->pending_count == 0)
        return;
    if (replica_role(replica) != RAFT_LEADER || consensus->pending[0]->term != replica_term(replica) ||
        consensus->resigned) {
        drop_pending(consensus);
        return;
    }
    if (!may_submit(consensus))
        return;
    size_t count = consensus->pending_count < SUBMIT_ENTRIES ? consensus->pending_count : SUBMIT_ENTRIES;
    for (size_t i = 0; i < count; i++)
        batch_set_stamp(consensus->pending[i]->data, next_stamp(consensus));
    if (replica_submit(replica, consensus->pending, (uint32_t)count) != STATUS_OK)
        return;
    for (size_t i = 0; i < count; i++) {
        consensus->pending_bytes -= consensus->pending[i]->size;
        log_entry_release(consensus->pending[i]);
    }
    consensus->counts.batches_appended += count;
    consensus->pending_count -= count;
    memmove(consensus->pending, consensus->pending + count, consensus->pending_count * sizeof *consensus->pending);
}

/* ---- committed entries ---- */

static bool may_deliver(const struct consensus *consensus)
{
    return consensus->next <= replica_commit(consensus->replica) && !replica_installing(consensus->replica) &&
           consensus->next - consensus->applied <= AHEAD_ENTRIES && consensus->ahead_bytes < AHEAD_BYTES;
}

void consensus_deliver(struct consensus *consensus)
{
    struct log_entry *entries[DELIVER_ENTRIES];
    if (consensus->failed || !may_deliver(consensus))
        return;
    uint64_t room = consensus->applied + AHEAD_ENTRIES + 1 - consensus->next;
    uint64_t committed = replica_commit(consensus->replica) + 1 - consensus->next;
    uint64_t wanted = committed < room ? committed : room;
    size_t count = 0;
    enum status status = log_get_many(consensus->log, consensus->next, wanted < DELIVER_ENTRIES ? wanted : DELIVER_ENTRIES,
                                      DELIVER_BYTES, entries, &count);
    if (status != STATUS_OK) {
        consensus_fail(consensus, status, log_trouble(consensus->log));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t index = consensus->next++;
        consensus->ahead_sizes[index % AHEAD_ENTRIES] = entries[i]->size;
        consensus->ahead_bytes += entries[i]->size;
        consensus->bytes_since_snapshot += entries[i]->size + 64;
        consensus->calls.commit(consensus->context, index, entries[i]);
    }
}

/* ---- frames ---- */

/* A leader speaks to us. */
static void heard_leader(struct consensus *consensus, uint32_t peer, uint64_t term, uint64_t commit)
{
    if (replica_leader(consensus->replica) != peer || replica_term(consensus->replica) != term)
        return;
    consensus->leader_heard_ms = consensus->now;
    if (commit > consensus->known_commit)
        consensus->known_commit = commit;
    if (consensus->caught_up_target == 0)
        consensus->caught_up_target = consensus->known_commit;
}

static void receive_append(struct consensus *consensus, uint32_t peer, const struct wire_frame *frame)
{
    struct raft_message message = {.type = RAFT_APPEND_ENTRIES};
    struct log_entry **entries = NULL;
    uint32_t count = 0;
    if (wire_append_get(frame->body, &message.append_entries, &entries, &count) != STATUS_OK) {
        consensus_break(consensus, peer, LINK_RAFT, "malformed AppendEntries");
        return;
    }
    uint64_t term = message.append_entries.term, commit = message.append_entries.leader_commit;
    const char *refused =
        frame->type == WIRE_COMMIT && count == 0
            ? replica_receive_push(consensus->replica, peer, &message)
            : replica_receive(consensus->replica, peer, &message, entries, count, bytes_of(NULL, 0));
    if (refused != NULL)
        consensus_break(consensus, peer, LINK_RAFT, refused);
    else if (term >= replica_term(consensus->replica))
        raise_floor(consensus, entries, count);
    heard_leader(consensus, peer, term, commit);
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
    free(entries);
}

static void receive_raft(struct consensus *consensus, uint32_t peer, const struct wire_frame *frame)
{
    struct raft_message message;
    struct bytes configuration = {NULL, 0};
    if (frame->type == WIRE_APPEND || frame->type == WIRE_COMMIT) {
        receive_append(consensus, peer, frame);
        return;
    }
    if (wire_raft_get(frame->type, frame->body, &message, &configuration) != STATUS_OK) {
        consensus_break(consensus, peer, LINK_RAFT, "malformed raft message");
        return;
    }
    if (message.type == RAFT_INSTALL_SNAPSHOT &&
        !transfer_is_stored(consensus, message.install_snapshot.last_index, message.install_snapshot.last_term))
        return; /* of an earlier attempt */
    const char *refused = replica_receive(consensus->replica, peer, &message, NULL, 0, configuration);
    if (refused != NULL)
        consensus_break(consensus, peer, LINK_RAFT, refused);
}

static void check_hash(struct consensus *consensus, uint32_t node, uint64_t index, const uint64_t hash[2])
{
    uint64_t differing = 0;
    switch (hashes_add(&consensus->hashes, index, node, hash, consensus->settings.self,
                       replica_voters(consensus->replica), &differing)) {
    case HASHES_OPEN:
        return;
    case HASHES_OTHER:
        consensus_note(consensus, "state differs at index %llu on node(s) with mask %llx", (unsigned long long)index,
                       (unsigned long long)differing);
        return;
    case HASHES_SELF:
        consensus_fail(consensus, STATUS_CORRUPT, "the state of this node differs from that of the majority");
        return;
    }
}

static void receive_applied(struct consensus *consensus, uint32_t node, const struct wire_applied *applied)
{
    struct peer *peer = &consensus->peers[node];
    peer->applied = applied->index;
    peer->clock_ms = applied->clock_ms;
    peer->clock_at_ms = consensus->now;
    peer->told_clock = true;
    consensus->calls.peer_applied(consensus->context, node, applied->index);
}

static void receive_bulk(struct consensus *consensus, uint32_t peer, const struct wire_frame *frame)
{
    struct wire_applied applied;
    struct wire_hash hash;
    struct wire_snapshot_offer offer;
    struct wire_snapshot_chunk chunk;
    struct wire_snapshot_ack ack;
    enum status status = STATUS_OK;
    switch ((int)frame->type) {
    case WIRE_FORWARD:
        receive_forward(consensus, peer, frame->body);
        break;
    case WIRE_APPLIED:
        if ((status = wire_applied_get(frame->body, &applied)) == STATUS_OK)
            receive_applied(consensus, peer, &applied);
        break;
    case WIRE_MESSAGES:
        consensus->calls.messages(consensus->context, peer, frame->body);
        break;
    case WIRE_HASH:
        if ((status = wire_hash_get(frame->body, &hash)) == STATUS_OK)
            check_hash(consensus, peer, hash.index, hash.hash);
        break;
    case WIRE_SNAPSHOT_OFFER:
        if ((status = wire_snapshot_offer_get(frame->body, &offer)) == STATUS_OK)
            transfer_receive_offer(consensus, peer, &offer);
        break;
    case WIRE_SNAPSHOT_CHUNK:
        if ((status = wire_snapshot_chunk_get(frame->body, &chunk)) == STATUS_OK)
            transfer_receive_chunk(consensus, peer, &chunk);
        break;
    case WIRE_SNAPSHOT_ACK:
        if ((status = wire_snapshot_ack_get(frame->body, &ack)) == STATUS_OK)
            transfer_receive_ack(consensus, peer, &ack);
        break;
    default:
        status = STATUS_MALFORMED;
    }
    if (status != STATUS_OK)
        consensus_break(consensus, peer, LINK_BULK, "malformed frame");
}

/* S7: only frames of this connection, and each of them once and in order. false: dropped. */
static bool frame_is_next(struct consensus *consensus, uint32_t peer, enum link_kind kind,
                          const struct wire_frame *frame)
{
    struct peer_link *link = &consensus->peers[peer].links[kind];
    if (bug(BUG_V29_OLD_CONNECTIONS))
        return true;
    if (!link->up || link->broken || frame->generation != link->in || frame->sequence <= link->received) {
        consensus->counts.frames_dropped++;
        return false;
    }
    if (frame->sequence != link->received + 1) {
        consensus_break(consensus, peer, kind, "a frame is missing");
        return false;
    }
    link->received++;
    return true;
}

void consensus_receive(struct consensus *consensus, uint32_t peer, enum link_kind kind, struct bytes bytes)
{
    struct wire_frame frame;
    if (consensus->failed || peer == 0 || peer >= NODES || peer == consensus->settings.self)
        return;
    enum status status = wire_frame_decode(bytes, &frame);
    if (status != STATUS_OK && status != STATUS_UNSUPPORTED) {
        consensus_break(consensus, peer, kind, "malformed frame");
        return;
    }
    if (!frame_is_next(consensus, peer, kind, &frame))
        return;
    consensus->counts.frames_in++;
    consensus->counts.bytes_in += bytes.size;
    consensus->peers[peer].heard_ms = consensus->now;
    if (status == STATUS_UNSUPPORTED || !replica_started(consensus->replica))
        return; /* a newer version's, or we are not ready: raft and proposers send again */
    if (frame.type == WIRE_HELLO || wire_kind(frame.type) != kind)
        consensus_break(consensus, peer, kind, "a frame on the wrong link");
    else if (kind == LINK_RAFT)
        receive_raft(consensus, peer, &frame);
    else
        receive_bulk(consensus, peer, &frame);
}

/* ---- links ---- */

static void link_reset(struct consensus *consensus, uint32_t peer, enum link_kind kind)
{
    if (kind == LINK_RAFT) {
        replica_peer_reset(consensus->replica, peer);
    } else {
        transfer_link_down(consensus, peer);
        consensus->peers[peer].told_applied = UINT64_MAX;
    }
}

void consensus_link_up(struct consensus *consensus, uint32_t peer, enum link_kind kind, uint64_t in, uint64_t out)
{
    assert(peer > 0 && peer < NODES && peer != consensus->settings.self && in != 0 && out != 0);
    consensus->peers[peer].links[kind] = (struct peer_link){.up = true, .in = in, .out = out};
    consensus->peers[peer].heard_ms = consensus->now;
    consensus->peers[peer].known = true;
    if (peer >= consensus->peers_end)
        consensus->peers_end = peer + 1;
    link_reset(consensus, peer, kind);
    if (kind == LINK_BULK && peer == replica_leader(consensus->replica))
        consensus->route++;
}

void consensus_link_down(struct consensus *consensus, uint32_t peer, enum link_kind kind, uint64_t in)
{
    assert(peer > 0 && peer < NODES);
    struct peer_link *link = &consensus->peers[peer].links[kind];
    if (!link->up || link->in != in)
        return; /* replaced by a newer one */
    *link = (struct peer_link){0};
    link_reset(consensus, peer, kind);
}

bool consensus_messages(struct consensus *consensus, uint32_t peer, struct bytes messages)
{
    struct buffer *frame = NULL;
    if (!consensus->failed && messages.size <= WIRE_FRAME_BYTES_MAX - WIRE_HEADER_SIZE)
        frame = consensus_frame(consensus, peer, WIRE_MESSAGES);
    if (frame == NULL)
        return false;
    buffer_put_bytes(frame, messages);
    consensus_frame_send(consensus, peer, WIRE_MESSAGES);
    return true;
}

void consensus_hash(struct consensus *consensus, uint64_t index, const uint64_t hash[2])
{
    for (uint32_t peer = 1; peer < consensus->peers_end && !consensus->failed; peer++) {
        struct buffer *frame = consensus_frame(consensus, peer, WIRE_HASH);
        if (frame == NULL)
            continue;
        wire_hash_put(frame, &(struct wire_hash){index, {hash[0], hash[1]}});
        consensus_frame_send(consensus, peer, WIRE_HASH);
    }
    if (!consensus->failed)
        check_hash(consensus, consensus->settings.self, index, hash);
}

/* Each APPLIED wakes its receiver: a frame per entry and pair of nodes would cost more than the entry itself. */
static bool applied_is_due(const struct consensus *consensus, const struct peer *peer)
{
    if (peer->told_applied == consensus->applied || !peer->links[LINK_BULK].up)
        return false;
    return consensus->applied_awaited || peer->told_applied == UINT64_MAX ||
           consensus->now - peer->told_applied_ms >= consensus->settings.heartbeat_ms;
}

static void tell_applied(struct consensus *consensus)
{
    uint64_t clock = consensus->clock_live ? reckon(consensus) : 0;
    for (uint32_t id = 1; id < consensus->peers_end; id++) {
        struct peer *peer = &consensus->peers[id];
        struct buffer *frame = applied_is_due(consensus, peer) ? consensus_frame(consensus, id, WIRE_APPLIED) : NULL;
        if (frame == NULL)
            continue;
        wire_applied_put(frame, &(struct wire_applied){consensus->applied, clock});
        consensus_frame_send(consensus, id, WIRE_APPLIED);
        peer->told_applied = consensus->applied;
        peer->told_applied_ms = consensus->now;
    }
    consensus->applied_awaited = false;
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

/* ---- health ---- */

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

/* A node that is being replaced is no member for a moment, and may never come back: it is missed like the others. */
static uint64_t silent_nodes(const struct consensus *consensus)
{
    uint64_t members = replica_members(consensus->replica), silent = 0;
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
    status->cluster_ms = consensus->clock_live ? reckon(consensus) : 0;
    for (uint32_t peer = 1; peer < consensus->peers_end; peer++)
        if (consensus->peers[peer].links[LINK_BULK].up)
            status->linked |= NODE_BIT(peer);
    if (status->role == CONSENSUS_LEADER && status->majority)
        status->silent = silent_nodes(consensus);
    status->damaged = replica_damaged(replica);
    status->outside = !consensus->inside;
    status->flush_slow = replica_flush_lag_ms(replica) > REPLICA_FLUSH_SLOW_MS;
    status->transferring = replica_transferring(replica);
    status->silence_count_ms = consensus->silence_from_ms;
}

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

/* In a later change that is not committed yet it stays what it was. */
static void update_inside(struct consensus *consensus)
{
    bool committed;
    bool votes = replica_member(consensus->replica, &committed) == MEMBER_VOTING;
    consensus->inside = votes && (committed || consensus->inside);
}

/* A change of leader or term: what proposers had on the way may be lost. */
static void update_role(struct consensus *consensus)
{
    enum raft_state role = replica_role(consensus->replica);
    uint32_t leader = replica_leader(consensus->replica);
    uint64_t term = replica_term(consensus->replica);
    if (role == RAFT_LEADER && consensus->last_role != RAFT_LEADER) {
        consensus->leads_since_ms = consensus->now;
        take_over_clock(consensus);
        consensus->silence_from_ms = consensus->now;
        consensus->counts.elections++;
    } else if (role == RAFT_LEADER && !consensus->clock_live) {
        take_over_clock(consensus);
    }
    if (leader != consensus->route_leader || term != consensus->route_term) {
        consensus->route_leader = leader;
        consensus->route_term = term;
        consensus->route++;
    }
    consensus->last_role = role;
    update_inside(consensus);
    if (role == RAFT_LEADER) {
        consensus->leader_heard_ms = majority_heard(consensus);
        if (consensus->now - consensus->leader_heard_ms > 2 * (uint64_t)consensus->settings.election_ms)
            consensus->silence_from_ms = consensus->now; /* the silence may be ours */
    }
    update_caught_up(consensus);
}

static void tell_changes(struct consensus *consensus)
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
    if (consensus->failed)
        return;
    replica_advance(consensus->replica, now_ms);
    transfer_advance(consensus);
    hand_over(consensus);
    adopt_replacements(consensus);
    update_role(consensus);
}

uint64_t consensus_deadline(const struct consensus *consensus)
{
    if (consensus->failed)
        return UINT64_MAX;
    if (may_deliver(consensus) || may_submit(consensus))
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
    drop_pending(consensus);
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
    submit_pending(consensus);
    replica_flush(consensus->replica);
    update_role(consensus);
    consensus_deliver(consensus);
    forget_entries(consensus);
    tell_applied(consensus);
    consensus->counts.pushes = replica_pushes(consensus->replica);
    tell_changes(consensus);
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
    bool due = consensus->bytes_since_snapshot > consensus->settings.log_bytes_max / 4 ||
               (consensus->bytes_since_snapshot > 0 && buggify(BUGGIFY_SNAPSHOT_IS_DUE));
    return due && !replica_installing(consensus->replica);
}

void consensus_snapshot_taken(struct consensus *consensus, const struct consensus_snapshot *snapshot)
{
    struct log_counts counts;
    if (consensus->failed || snapshot->index <= consensus->newest.index)
        return;
    keep_snapshot(consensus, snapshot);
    consensus->bytes_since_snapshot = 0;

    /* Trimmed by bytes, only below the older of two verified snapshots, and not below one that a peer is getting. */
    log_counts(consensus->log, &counts);
    uint64_t keep_from = counts.disk_bytes > consensus->settings.log_bytes_max ? consensus->older.index + 1 : 1;
    if (bug(BUG_V18_TRIMMED_TO_APPLIED))
        keep_from = consensus->applied;
    if (transfer_keep_from(consensus) < keep_from)
        keep_from = transfer_keep_from(consensus);
    struct replica_snapshot taken = {snapshot->index, snapshot->term, snapshot->configuration_index,
                                     consensus->newest.configuration};
    replica_snapshot_taken(consensus->replica, &taken, keep_from);
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
    consensus->bytes_since_snapshot = 0;
    if (clock_ms > consensus->stamp_floor)
        consensus->stamp_floor = clock_ms;
    set_clock(consensus, clock_ms);
    consensus->clock_live = true;
    transfer_installed(consensus);
    replica_installed(consensus->replica);
}

/* ---- operation ---- */

enum status consensus_transfer(struct consensus *consensus, uint32_t node)
{
    return consensus->failed ? STATUS_CLOSED : replica_transfer(consensus->replica, node);
}

void consensus_counts(const struct consensus *consensus, struct consensus_counts *counts)
{
    *counts = consensus->counts;
}
