/* fuzz_consensus.c — a node among hostile peers: they hold valid certificates, and send whatever they like.
 *
 *   input ──frames (well formed and not), links, time, answers of core and disk──▶ consensus, raft, log on a simulated disk
 *
 * Most frames are drawn near the truth: terms and indexes about those of the node, its own frames sent back to it, the
 * answers that it waits for; so that it is elected, follows, loses entries, gets snapshots and new members. What must
 * hold: nothing aborts, in our code or in the library; committed entries come once and in order, and term and commit never
 * fall; only what was stored and found good is installed; nothing happens after `fatal`, which may only say that the disk
 * hangs (it does, here), or that others contradict what is committed here: one who may write the log can do that, and no
 * node can tell who is right. */
#include "cluster/consensus.h"
#include "cluster/replica.h"
#include "cluster/wire_raft.h"
#include "command.h"
#include "input.h"
#include "tests/sim/world/disk_sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SELF 1
#define PEERS 5             /* 2 and 3 are members, 4 to 6 could become it */
#define PEER_MAX (SELF + PEERS)
#define STEPS_MAX 400
#define SNAPSHOT_SIZE 700
#define WALL_MS 1700000000000ull

struct peer_end {
    bool up, broken;
    uint64_t in, out, sequence;
};

struct node {
    struct disk_sim *disk;
    struct log *log;
    struct consensus *consensus;
    struct peer_end ends[PEER_MAX + 1][LINK_KINDS];
    uint64_t generations;
    uint64_t now_ms;
    uint64_t delivered, applied, clock_ms; /* entries given to core; what it says it has applied */
    uint64_t term, commit;                 /* never fall */
    struct consensus_snapshot snapshot;
    struct buffer configuration;
    struct wire_snapshot_offer offer;      /* the last one that was sent to it */
    uint64_t incoming_size;
    bool finishing, good, failed;
    uint64_t install;
    struct buffer last_sent[LINK_KINDS]; /* the last frame's type and body */
    uint32_t last_peer[LINK_KINDS];
    struct buffer body, lists;
};

/* ---- what consensus asks for ---- */

static void on_send(void *context, uint32_t peer, enum link_kind kind, uint8_t *frame, size_t size)
{
    struct node *node = context;
    struct wire_frame decoded;
    assert(!node->failed && node->ends[peer][kind].up);
    if (wire_frame_decode(bytes_of(frame, size), &decoded) != STATUS_OK)
        abort();
    buffer_clear(&node->last_sent[kind]);
    buffer_put_u8(&node->last_sent[kind], (uint8_t)decoded.type);
    buffer_put_bytes(&node->last_sent[kind], decoded.body);
    node->last_peer[kind] = peer;
    free(frame);
}

static void on_disconnect(void *context, uint32_t peer, enum link_kind kind, uint64_t generation, const char *reason)
{
    struct node *node = context;
    assert(node->ends[peer][kind].up && node->ends[peer][kind].in == generation && reason[0] != '\0');
    node->ends[peer][kind].broken = true;
}

static void on_commit(void *context, uint64_t index, struct log_entry *entry)
{
    struct node *node = context;
    assert(!node->failed && index == node->delivered + 1 && log_term_of(node->log, index) == entry->term);
    node->delivered = index;
    log_entry_release(entry);
}

static void on_changed(void *context, const struct consensus_status *status)
{
    assert(!((struct node *)context)->failed && status->term >= ((struct node *)context)->term);
}

static enum status on_snapshot_open(void *context, uint64_t index, uint64_t *size)
{
    *size = SNAPSHOT_SIZE;
    return index == ((struct node *)context)->snapshot.index ? STATUS_OK : STATUS_NOT_FOUND;
}

static enum status on_snapshot_read(void *context, uint64_t index, uint64_t offset, void *data, size_t size)
{
    (void)context, (void)index;
    assert(offset + size <= SNAPSHOT_SIZE && size > 0);
    memset(data, (int)index, size);
    return STATUS_OK;
}

static void on_snapshot_close(void *context, uint64_t index)
{
    (void)context, (void)index;
}

static enum status on_incoming_open(void *context)
{
    struct node *node = context;
    assert(!node->finishing);
    node->incoming_size = 0;
    return STATUS_OK;
}

static enum status on_incoming_write(void *context, uint64_t offset, struct bytes chunk)
{
    struct node *node = context;
    assert(!node->finishing && offset == node->incoming_size && chunk.size > 0);
    node->incoming_size += chunk.size;
    node->good = false;
    return STATUS_OK;
}

static void on_incoming_finish(void *context)
{
    ((struct node *)context)->finishing = true;
}

static void on_install(void *context, uint64_t index, uint64_t term)
{
    struct node *node = context;
    assert(node->good && node->install == 0 && term != 0);
    assert(index > node->commit); /* it would take back what is committed here */
    node->install = index;
    node->snapshot.term = term;
}

static void on_messages(void *context, uint32_t peer, struct bytes messages)
{
    (void)context, (void)peer, (void)messages;
}

static void on_peer_applied(void *context, uint32_t peer, uint64_t index)
{
    (void)context, (void)peer, (void)index;
}

static void on_fatal(void *context, enum status status, const char *reason)
{
    struct node *node = context;
    bool hangs = status == STATUS_IO_ERROR && strstr(reason, "has not finished a flush") != NULL;
    assert(!node->failed && (hangs || (status == STATUS_CORRUPT && strstr(reason, "differ") != NULL)));
    node->failed = true;
}

static void on_note(void *context, const char *text)
{
    (void)context, (void)text;
}

static void on_flushed(void *context, enum status status, uint64_t durable)
{
    struct node *node = context;
    if (node->consensus != NULL)
        consensus_flushed(node->consensus, status, durable);
}

static const struct consensus_calls calls = {
    .send = on_send,
    .disconnect = on_disconnect,
    .commit = on_commit,
    .changed = on_changed,
    .snapshot_open = on_snapshot_open,
    .snapshot_read = on_snapshot_read,
    .snapshot_close = on_snapshot_close,
    .incoming_open = on_incoming_open,
    .incoming_write = on_incoming_write,
    .incoming_finish = on_incoming_finish,
    .install = on_install,
    .messages = on_messages,
    .peer_applied = on_peer_applied,
    .fatal = on_fatal,
    .note = on_note,
};

/* ---- the node ---- */

enum beginning {
    AS_MEMBER,          /* one of the first three */
    AFTER_SNAPSHOT,     /* the same, with nothing but a snapshot */
    AS_REPLACEMENT,     /* of one, with an empty log */
};

static void put_snapshot(struct node *node, const uint32_t *members)
{
    replica_bootstrap_configuration(members, 3, &node->configuration);
    node->snapshot = (struct consensus_snapshot){20, 1, 1, buffer_bytes(&node->configuration)};
    node->delivered = node->applied = node->commit = 20;
    if (log_set_term(node->log, 1, 0) != STATUS_OK)
        abort();
}

static void node_start(struct node *node, enum beginning beginning)
{
    static const uint32_t members[] = {1, 2, 3};
    struct log_options options = {.disk = disk_sim_disk(node->disk), .directory = "log",
                                  .queue = disk_sim_queue(node->disk), .flushed = on_flushed, .context = node,
                                  .create = true, .segment_bytes = 4096};
    struct consensus_settings settings = {.self = SELF, .bootstrap = beginning == AS_MEMBER ? members : NULL,
                                          .bootstrap_count = 3, .seed = 1, .log_bytes_max = 4096,
                                          .in_flight_entries = 1024};
    struct log_fault fault;
    if (beginning == AS_REPLACEMENT)
        settings.life = (struct node_life){7, 77};
    if (log_open(&options, &node->log, &fault) != STATUS_OK)
        abort();
    if (beginning == AFTER_SNAPSHOT)
        put_snapshot(node, members);
    node->now_ms = 1000;
    node->consensus = consensus_new(&settings, &calls, node, node->log, &node->snapshot, node->applied,
                                    node->snapshot.term, 0);
    if (consensus_start(node->consensus, node->now_ms, WALL_MS) != STATUS_OK)
        abort();
    disk_sim_run_all(node->disk);
}

static void node_stop(struct node *node)
{
    struct consensus *consensus = node->consensus;
    node->consensus = NULL;
    consensus_free(consensus);
    disk_sim_run_all(node->disk);
    log_close(node->log);
    disk_sim_free(node->disk);
    buffer_release(&node->configuration);
    buffer_release(&node->body);
    buffer_release(&node->lists);
    for (int kind = 0; kind < LINK_KINDS; kind++)
        buffer_release(&node->last_sent[kind]);
}

/* Connections that were told to close, do; and what never falls has not fallen. */
static void look(struct node *node)
{
    struct consensus_status status;
    if (node->failed)
        return;
    consensus_status(node->consensus, &status);
    assert(status.term >= node->term && status.commit >= node->commit);
    assert(status.commit <= status.last || node->install != 0);
    node->term = status.term;
    node->commit = status.commit;
    for (uint32_t peer = SELF + 1; peer <= PEER_MAX; peer++) {
        for (int kind = 0; kind < LINK_KINDS; kind++) {
            struct peer_end *end = &node->ends[peer][kind];
            if (end->up && end->broken)
                consensus_link_down(node->consensus, peer, kind, end->in);
            end->up = end->up && !end->broken;
        }
    }
}

static void turn(struct node *node, uint64_t ms)
{
    node->now_ms += ms;
    consensus_advance(node->consensus, node->now_ms, WALL_MS + node->now_ms);
    if (!node->failed)
        consensus_flush(node->consensus);
}

/* ---- numbers near the truth ---- */

static uint64_t draw_near(struct input *in, uint64_t truth)
{
    static const uint64_t far[] = {0, 1, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX / 2, 1ull << 63, 1ull << 32, 5000};
    uint8_t kind = input_u8(in) % 32;
    if (kind < 16)
        return truth;
    if (kind < 20)
        return truth + 1;
    if (kind < 24)
        return truth > 0 ? truth - 1 : 0;
    if (kind < 28)
        return truth + 2 + input_u8(in);
    return kind < 31 ? far[input_below(in, sizeof far / sizeof far[0])] : input_u64(in);
}

static uint64_t draw_term(struct node *node, struct input *in)
{
    return draw_near(in, node->term + (input_u8(in) % 4 == 1));
}

static uint64_t draw_index(struct node *node, struct input *in)
{
    const uint64_t truths[] = {log_last(node->log), node->commit, node->applied, node->snapshot.index,
                               log_first(node->log), log_durable(node->log)};
    return draw_near(in, truths[input_u8(in) % 6]);
}

static uint64_t draw_term_of(struct node *node, struct input *in, uint64_t index)
{
    uint64_t truth = log_term_of(node->log, index);
    return draw_near(in, truth != 0 || index == 0 ? truth : node->term);
}

/* Mostly a configuration that one could meet; else one with numbers that lie, or any bytes. */
static struct bytes draw_configuration(struct node *node, struct input *in)
{
    uint8_t members = input_u8(in), roles = input_u8(in), twist = input_u8(in);
    uint32_t count = 0;
    buffer_clear(&node->lists);
    buffer_put_u8(&node->lists, 1);
    buffer_put_u64(&node->lists, 0);
    for (uint32_t peer = 1; peer <= PEER_MAX; peer++) {
        char name[MEMBERS_NAME_SIZE];
        struct node_life life = {(twist & 1) != 0 ? 7 : 0, (twist & 1) != 0 ? 77 : 0};
        if ((members >> peer & 1) == 0 && twist < 128)
            continue;
        members_name(peer, life, name);
        if ((twist & 16) != 0 && (roles >> peer & 1) != 0)
            strcat(name, "/removed");
        buffer_put_u64(&node->lists, twist == 2 ? peer + 60 : peer);
        buffer_put(&node->lists, name, strlen(name) + 1);
        buffer_put_u8(&node->lists, roles >> peer & 1 ? 0 : 1); /* RAFT_STANDBY, RAFT_VOTER */
        count++;
    }
    if (twist == 4 || twist == 6)
        count += input_u8(in);
    node->lists.data[1] = (uint8_t)count;
    while (node->lists.size % 8 != 0)
        buffer_put_u8(&node->lists, 0);
    if (twist == 8)
        node->lists.data[input_u8(in) % node->lists.size] ^= input_u8(in);
    if (twist == 10 || twist == 12)
        node->lists.size -= input_u8(in) % (node->lists.size + 1);
    return buffer_bytes(&node->lists);
}

static struct bytes draw_batch(struct node *node, struct input *in, uint32_t origin)
{
    struct command command = {.type = COMMAND_CHECKPOINT};
    buffer_clear(&node->lists);
    batch_begin(&node->lists, origin, input_u8(in), input_u8(in));
    command_encode(&command, &node->lists);
    batch_finish(&node->lists, 0, 1);
    batch_set_stamp(node->lists.data, input_u8(in) == 255 ? input_u64(in) : 1000);
    return buffer_bytes(&node->lists);
}

static struct log_entry *draw_entry(struct node *node, struct input *in, uint64_t term)
{
    uint8_t kind = input_u8(in) % 8;
    struct bytes data = bytes_of(NULL, 0);
    enum log_entry_type type = kind < 4 ? LOG_COMMAND : kind < 5 ? LOG_BARRIER : LOG_CHANGE;
    if (kind < 3)
        data = draw_batch(node, in, 2);
    else if (kind == 3 || kind == 7)
        data = input_bytes(in, 80);
    else if (kind > 4)
        data = draw_configuration(node, in);
    return log_entry_new(term, type, data.data, data.size);
}

/* ---- frames ---- */

static void draw_append(struct node *node, struct input *in)
{
    struct log_entry *entries[8];
    struct raft_append_entries append = {.term = draw_term(node, in)};
    uint32_t count = input_u8(in) % 8;
    append.prev_log_index = draw_index(node, in);
    append.prev_log_term = draw_term_of(node, in, append.prev_log_index);
    append.leader_commit = draw_index(node, in);
    uint64_t term = input_u8(in) % 4 == 1 ? append.prev_log_term : append.term;
    for (uint32_t i = 0; i < count; i++) {
        entries[i] = draw_entry(node, in, term);
        term = input_u8(in) % 16 == 1 ? draw_term(node, in) : term;
    }
    wire_append_put(&node->body, &append, entries, count);
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
}

static void draw_raft(struct node *node, struct input *in, uint32_t peer, uint8_t type)
{
    struct raft_message message = {.type = RAFT_TIMEOUT_NOW};
    struct bytes configuration = bytes_of(NULL, 0);
    uint64_t term = draw_term(node, in), index = draw_index(node, in), index_term = draw_term_of(node, in, index);
    uint8_t flags = input_u8(in);
    if (type == WIRE_APPEND_RESULT) {
        message.type = RAFT_APPEND_ENTRIES_RESULT;
        message.append_entries_result = (struct raft_append_entries_result){
            .version = 2, .term = term, .rejected = flags % 4 == 1 ? draw_index(node, in) : 0, .last_log_index = index,
            .features = flags & 0x10 ? 0 : 1, .capacity = flags};
    } else if (type == WIRE_VOTE) {
        message.type = RAFT_REQUEST_VOTE;
        message.request_vote = (struct raft_request_vote){
            .version = 2, .term = term, .candidate_id = draw_near(in, peer), .last_log_index = index,
            .last_log_term = index_term, .disrupt_leader = flags & 1, .pre_vote = flags & 2};
    } else if (type == WIRE_VOTE_RESULT) {
        message.type = RAFT_REQUEST_VOTE_RESULT;
        message.request_vote_result = (struct raft_request_vote_result){
            .version = flags & 0x20 ? 1 : 2, .term = term, .vote_granted = !(flags & 1), .pre_vote = flags & 2,
            .features = 1, .capacity = flags};
    } else if (type == WIRE_SNAPSHOT_READY) {
        message.type = RAFT_INSTALL_SNAPSHOT;
        message.install_snapshot = (struct raft_install_snapshot){
            .version = 1, .term = term, .last_index = draw_near(in, node->offer.index),
            .last_term = draw_near(in, node->offer.term), .conf_index = draw_near(in, node->offer.index)};
        configuration = draw_configuration(node, in);
    } else {
        message.timeout_now = (struct raft_timeout_now){
            .version = 1, .term = term, .last_log_index = index, .last_log_term = index_term};
    }
    wire_raft_put(&node->body, &message, configuration);
}

static void draw_offer(struct node *node, struct input *in, uint64_t index)
{
    node->offer = (struct wire_snapshot_offer){
        .index = index, .term = draw_term_of(node, in, index), .size = draw_near(in, 1 + input_u8(in) % 64),
        .configuration_index = draw_near(in, index), .configuration = draw_configuration(node, in)};
    wire_snapshot_offer_put(&node->body, &node->offer);
}

/* Mostly the rest of what was offered. */
static void draw_chunk(struct node *node, struct input *in)
{
    static const uint8_t content[512];
    uint64_t offset = draw_near(in, node->incoming_size), index = draw_near(in, node->offer.index);
    uint64_t size = draw_near(in, node->offer.size - node->incoming_size);
    if (size == 0 || size > sizeof content)
        size = 1;
    wire_snapshot_chunk_put(&node->body, &(struct wire_snapshot_chunk){index, offset, bytes_of(content, size)});
}

static void draw_bulk(struct node *node, struct input *in, uint32_t peer, uint8_t type)
{
    uint64_t index = draw_index(node, in);
    if (type == WIRE_FORWARD)
        buffer_put_bytes(&node->body, draw_batch(node, in, input_u8(in) == 255 ? 3 : peer));
    else if (type == WIRE_APPLIED)
        wire_applied_put(&node->body, &(struct wire_applied){index, draw_near(in, WALL_MS)});
    else if (type == WIRE_HASH)
        wire_hash_put(&node->body, &(struct wire_hash){index, {input_u8(in), 0}});
    else if (type == WIRE_SNAPSHOT_OFFER)
        draw_offer(node, in, index);
    else if (type == WIRE_SNAPSHOT_CHUNK)
        draw_chunk(node, in);
    else if (type == WIRE_SNAPSHOT_ACK)
        wire_snapshot_ack_put(&node->body, &(struct wire_snapshot_ack){draw_near(in, node->snapshot.index),
                                                                       draw_near(in, input_u8(in)), input_u8(in) % 4});
    else
        buffer_put_bytes(&node->body, input_bytes(in, 255));
}

/* Sends what is in node->body; now and then with a header that is not right. */
static void send_body(struct node *node, struct input *in, uint32_t peer, uint8_t type)
{
    enum link_kind kind = wire_kind(type);
    uint8_t twist = input_u8(in);
    if (twist == 255)
        kind = !kind;
    struct peer_end *end = &node->ends[peer][kind];
    struct buffer frame = {0};
    uint64_t sequence = ++end->sequence + (twist == 254) - (twist == 253);
    uint64_t generation = end->up ? end->in + (twist == 252) : 1;
    size_t begin = wire_frame_begin(&frame, type, generation, sequence);
    buffer_put_bytes(&frame, buffer_bytes(&node->body));
    wire_frame_end(&frame, begin);
    if (twist == 251)
        frame.data[input_u8(in) % frame.size] ^= input_u8(in);
    if (twist == 252 || twist == 253)
        end->sequence--;
    consensus_receive(node->consensus, peer, kind, buffer_bytes(&frame));
    buffer_release(&frame);
}

static void send_something(struct node *node, struct input *in, uint32_t peer)
{
    static const uint8_t types[] = {WIRE_APPEND, WIRE_APPEND, WIRE_APPEND, WIRE_APPEND_RESULT, WIRE_APPEND_RESULT,
                                    WIRE_VOTE, WIRE_VOTE_RESULT, WIRE_SNAPSHOT_READY, WIRE_TIMEOUT_NOW, WIRE_COMMIT,
                                    WIRE_FORWARD, WIRE_APPLIED, WIRE_MESSAGES, WIRE_HASH, WIRE_SNAPSHOT_OFFER,
                                    WIRE_SNAPSHOT_CHUNK, WIRE_SNAPSHOT_CHUNK, WIRE_SNAPSHOT_ACK, WIRE_REFUSAL, 99};
    uint8_t type = types[input_u8(in) % sizeof types];
    buffer_clear(&node->body);
    if (input_u8(in) > 250)
        buffer_put_bytes(&node->body, input_bytes(in, 255));
    else if (type == WIRE_APPEND || type == WIRE_COMMIT)
        draw_append(node, in);
    else if (wire_kind(type) == LINK_RAFT)
        draw_raft(node, in, peer, type);
    else
        draw_bulk(node, in, peer, type);
    send_body(node, in, peer, type);
}

/* What an honest peer would answer to the last frame, so that the node gets somewhere; or the frame itself, sent back. */
static void answer_last(struct node *node, struct input *in, bool echo)
{
    enum link_kind kind = input_u8(in) & 1;
    struct bytes sent = buffer_bytes(&node->last_sent[kind]), none;
    struct raft_message asked, answer = {.type = RAFT_REQUEST_VOTE_RESULT};
    struct log_entry **entries;
    struct raft_append_entries append;
    uint32_t count;
    if (sent.size == 0 || !node->ends[node->last_peer[kind]][kind].up)
        return;
    uint8_t type = sent.data[0];
    struct bytes body = bytes_of(sent.data + 1, sent.size - 1);
    buffer_clear(&node->body);
    if (echo) {
        buffer_put_bytes(&node->body, body);
    } else if (type == WIRE_VOTE && wire_raft_get(type, body, &asked, &none) == STATUS_OK) {
        answer.request_vote_result = (struct raft_request_vote_result){
            .version = 2, .term = asked.request_vote.term, .vote_granted = true,
            .pre_vote = asked.request_vote.pre_vote, .features = 1, .capacity = 1};
        wire_raft_put(&node->body, &answer, none = bytes_of(NULL, 0));
        type = WIRE_VOTE_RESULT;
    } else if (type == WIRE_APPEND && wire_append_get(body, &append, &entries, &count) == STATUS_OK) {
        answer.type = RAFT_APPEND_ENTRIES_RESULT;
        answer.append_entries_result = (struct raft_append_entries_result){
            .version = 2, .term = append.term, .last_log_index = append.prev_log_index + count, .features = 1,
            .capacity = 1};
        wire_raft_put(&node->body, &answer, bytes_of(NULL, 0));
        type = WIRE_APPEND_RESULT;
        for (uint32_t i = 0; i < count; i++)
            log_entry_release(entries[i]);
        free(entries);
    } else {
        return;
    }
    send_body(node, in, node->last_peer[kind], type);
}

/* ---- steps ---- */

static void change_link(struct node *node, struct input *in, uint32_t peer)
{
    enum link_kind kind = input_u8(in) & 1;
    struct peer_end *end = &node->ends[peer][kind];
    uint8_t life = input_u8(in);
    if (end->up && life % 2 == 1) {
        consensus_link_down(node->consensus, peer, kind, end->in);
        *end = (struct peer_end){0};
        return;
    }
    if (life > 200)
        consensus_peer_life(node->consensus, peer, (struct node_life){life % 8, life % 8 == 0 ? 0 : 77});
    *end = (struct peer_end){.up = true, .in = ++node->generations, .out = ++node->generations};
    consensus_link_up(node->consensus, peer, kind, end->in, end->out);
}

static void apply_delivered(struct node *node, struct input *in)
{
    uint64_t index = node->delivered - (input_u8(in) == 255 && node->delivered > node->applied);
    if (node->install != 0 || index <= node->applied)
        return;
    node->applied = index;
    node->clock_ms += input_u8(in);
    consensus_applied(node->consensus, index, node->clock_ms, input_u8(in) & 1);
}

static void take_snapshot(struct node *node)
{
    if (node->install != 0 || node->applied <= node->snapshot.index)
        return;
    buffer_clear(&node->configuration);
    buffer_put_bytes(&node->configuration, consensus_configuration(node->consensus, node->applied,
                                                                   &node->snapshot.configuration_index));
    if (node->configuration.size == 0)
        return;
    node->snapshot.index = node->applied;
    node->snapshot.term = log_term_of(node->log, node->applied);
    node->snapshot.configuration = buffer_bytes(&node->configuration);
    consensus_snapshot_taken(node->consensus, &node->snapshot);
}

/* The worker has looked at what came, or has made it the state. */
static void finish_work(struct node *node, struct input *in)
{
    if (node->finishing) {
        node->finishing = false;
        node->good = input_u8(in) < 250;
        consensus_received(node->consensus, node->good ? STATUS_OK : STATUS_CORRUPT);
    } else if (node->install != 0) {
        node->delivered = node->applied = node->snapshot.index = node->install;
        node->install = 0;
        consensus_installed(node->consensus, STATUS_OK, node->snapshot.index, node->clock_ms);
    }
}

/* All of a transfer, each step as honest as the input has it. */
static void send_snapshot(struct node *node, struct input *in, uint32_t peer)
{
    buffer_clear(&node->body);
    draw_offer(node, in, log_last(node->log) + 1 + input_u8(in) % 4);
    send_body(node, in, peer, WIRE_SNAPSHOT_OFFER);
    buffer_clear(&node->body);
    draw_chunk(node, in);
    send_body(node, in, peer, WIRE_SNAPSHOT_CHUNK);
    finish_work(node, in);
    buffer_clear(&node->body);
    draw_raft(node, in, peer, WIRE_SNAPSHOT_READY);
    send_body(node, in, peer, WIRE_SNAPSHOT_READY);
}

/* A peer that lacks what the node believes it has: it will need a snapshot. */
static void reject_last(struct node *node, struct input *in)
{
    struct raft_message answer = {.type = RAFT_APPEND_ENTRIES_RESULT};
    struct bytes sent = buffer_bytes(&node->last_sent[LINK_RAFT]);
    struct log_entry **entries;
    struct raft_append_entries append;
    uint32_t count;
    if (sent.size == 0 || sent.data[0] != WIRE_APPEND ||
        wire_append_get(bytes_of(sent.data + 1, sent.size - 1), &append, &entries, &count) != STATUS_OK)
        return;
    answer.append_entries_result = (struct raft_append_entries_result){
        .version = 2, .term = append.term, .rejected = append.prev_log_index, .last_log_index = input_u8(in) % 4,
        .features = 1, .capacity = 1};
    buffer_clear(&node->body);
    wire_raft_put(&node->body, &answer, bytes_of(NULL, 0));
    send_body(node, in, node->last_peer[LINK_RAFT], WIRE_APPEND_RESULT);
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
    free(entries);
}

static void step(struct node *node, struct input *in)
{
    static const uint16_t pauses_ms[] = {1, 10, 60, 300, 700, 3000};
    uint8_t kind = input_u8(in) % 27;
    uint32_t peer = SELF + 1 + input_u8(in) % (kind % 4 == 3 ? PEERS : 2);
    if (kind < 9)
        send_something(node, in, peer);
    else if (kind < 13)
        answer_last(node, in, input_u8(in) > 200);
    else if (kind < 16)
        turn(node, pauses_ms[input_u8(in) % 6]);
    else if (kind == 16)
        change_link(node, in, peer);
    else if (kind == 17)
        disk_sim_run_all(node->disk);
    else if (kind == 18)
        apply_delivered(node, in);
    else if (kind == 19)
        take_snapshot(node);
    else if (kind == 20)
        finish_work(node, in);
    else if (kind == 21)
        consensus_submit(node->consensus, draw_batch(node, in, SELF));
    else if (kind == 22)
        consensus_transfer(node->consensus, input_u8(in) % (PEER_MAX + 2));
    else if (kind == 23)
        send_snapshot(node, in, peer);
    else if (kind == 24)
        reject_last(node, in);
    else if (kind == 25)
        consensus_remove(node->consensus, input_u8(in) % (PEER_MAX + 2));
    else
        consensus_hash(node->consensus, node->applied + 1, (uint64_t[2]){input_u8(in), 0});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct node fresh;
    struct input in = {data, size};
    struct node node = fresh;
    node.disk = disk_sim_new(&(struct disk_sim_options){.seed = 1});
    uint8_t beginning = input_u8(&in) % 4;
    node_start(&node, beginning == 3 ? AS_REPLACEMENT : beginning == 2 ? AFTER_SNAPSHOT : AS_MEMBER);
    for (uint32_t peer = SELF + 1; peer <= 3; peer++) {
        for (int kind = 0; kind < LINK_KINDS; kind++) {
            node.ends[peer][kind] = (struct peer_end){.up = true, .in = ++node.generations, .out = ++node.generations};
            consensus_link_up(node.consensus, peer, kind, node.ends[peer][kind].in, node.ends[peer][kind].out);
        }
    }
    for (int steps = 0; !input_done(&in) && steps < STEPS_MAX && !node.failed; steps++) {
        step(&node, &in);
        look(&node);
    }
    node_stop(&node);
    return 0;
}
