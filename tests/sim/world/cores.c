/* cores.c — see cores.h.
 *
 * Callbacks of a core only queue (it must not be called from inside one); cores_settle() carries on from there. */
#include "cores.h"

#include "base/memory.h"
#include "store.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CORES_MAX        8
#define ROUNDS_MAX       20000
#define CLUSTER_EPOCH_MS UINT64_C(1700000000000)
#define START_MS         1000000

struct line {
    struct line *next;
    struct cores *cores;
    struct node *node;
    uint64_t number;
    struct buffer received;
    size_t unwritten;
    bool stopped, reading;
    bool close_asked, close_flush, closed;
};

struct node {
    struct cores *cores;
    uint32_t id;
    struct core *core;
    struct state *state;
    struct store *store;
    const char *directory;                 /* of the store; NULL: it is in memory */
    bool cut, lag, silent;
    uint64_t heard_ms;
    uint64_t next_entry; /* log index */
    uint64_t told_applied;
    struct buffer batches;                 /* submitted in this round: u64 size, bytes */
    struct buffer messages[CORES_MAX + 1]; /* QoS 0 to each other node */
    bool applied_more;
    char warning[128];
};

struct committed {
    uint8_t *data;
    size_t size;
    uint64_t hash[2];
    bool hashed;
};

struct cores {
    uint32_t count;
    struct node nodes[CORES_MAX + 1];
    struct committed *log; /* index 1 is log[0] */
    uint64_t log_count, log_capacity;
    struct line *lines;
    uint64_t now_ms;
    bool moved;
};

/* ---- callbacks ---- */

static void on_write(void *context, void *conn, struct frame *const *frames, size_t count)
{
    struct node *node = context;
    struct line *line = conn;

    assert(!line->close_asked && !line->closed);
    for (size_t i = 0; i < count; i++) {
        buffer_put(&line->received, frames[i]->data, frames[i]->size);
        line->unwritten += frames[i]->size;
        frame_release(frames[i]);
    }
    node->cores->moved = true;
}

static void on_close(void *context, void *conn, bool flush)
{
    struct node *node = context;
    struct line *line = conn;

    assert(!line->close_asked && !line->closed);
    line->close_asked = true;
    line->close_flush = flush;
    node->cores->moved = true;
}

static void on_reading(void *context, void *conn, bool on)
{
    struct line *line = conn;

    (void)context;
    assert(line->reading != on);
    line->reading = on;
}

static void on_submit(void *context, struct bytes batch)
{
    struct node *node = context;

    buffer_put_u64(&node->batches, batch.size);
    buffer_put_bytes(&node->batches, batch);
    node->cores->moved = true;
}

static void on_applied(void *context, uint64_t index, uint64_t clock_ms, bool awaited)
{
    struct node *node = context;

    (void)clock_ms;
    (void)awaited;
    node->told_applied = index;
    node->applied_more = true;
    node->cores->moved = true;
}

static void on_checkpoint(void *context, uint64_t index, const uint64_t hash[2])
{
    struct node *node = context;
    struct committed *entry = &node->cores->log[index - 1];

    if (entry->hashed)
        assert(memcmp(entry->hash, hash, sizeof(entry->hash)) == 0 && "replicas differ");
    memcpy(entry->hash, hash, sizeof(entry->hash));
    entry->hashed = true;
}

static void on_messages(void *context, uint32_t to, struct bytes messages)
{
    struct node *node = context;

    assert(to >= 1 && to <= node->cores->count && to != node->id);
    buffer_put_bytes(&node->messages[to], messages);
    node->cores->moved = true;
}

static void on_note(void *context, int level, const char *text)
{
    struct node *node = context;

    if (level >= 2)
        snprintf(node->warning, sizeof(node->warning), "%s", text);
}

static void on_fatal(void *context, enum status status, const char *why)
{
    struct node *node = context;

    fprintf(stderr, "node %u: %s: %s\n", node->id, status_text(status), why);
    abort();
}

/* ---- making ---- */

static void node_open(struct cores *cores, uint32_t id, const struct core_options *like)
{
    struct node *node = &cores->nodes[id];
    struct store_options memory = {.path = NULL};
    struct core_callbacks callbacks = {
        .context = node,
        .write = on_write,
        .close = on_close,
        .reading = on_reading,
        .submit = on_submit,
        .applied = on_applied,
        .checkpoint = on_checkpoint,
        .messages = on_messages,
        .fatal = on_fatal,
        .note = on_note,
    };
    char address[32];
    struct core_options options = *like;

    options.node = id;
    options.seed = 4711 + id;
    options.boot_nonce[0] = (uint8_t)id;
    options.client_address = address;
    snprintf(address, sizeof(address), "node%u:1883", id);
    node->cores = cores;
    node->id = id;
    node->heard_ms = cores->now_ms;
    node->next_entry = 1;
    assert(store_open(&memory, &node->store) == STATUS_OK);
    assert(state_open(node->store, id, &node->state) == STATUS_OK);
    node->core = core_new(&options, &callbacks, node->state, cores->now_ms);
}

struct cores *cores_new(uint32_t count, const struct core_limits *limits, const struct command_settings *settings)
{
    struct core_options options = {.settings = settings};

    if (limits != NULL)
        options.limits = *limits;
    return cores_new_with(count, &options);
}

struct cores *cores_new_with(uint32_t count, const struct core_options *options)
{
    struct cores *cores = memory_zeroed(1, sizeof(*cores));

    assert(count >= 1 && count <= CORES_MAX);
    cores->count = count;
    cores->now_ms = START_MS;
    for (uint32_t id = 1; id <= count; id++)
        node_open(cores, id, options);
    cores_settle(cores);
    return cores;
}

void cores_free(struct cores *cores)
{
    for (uint32_t id = 1; id <= cores->count; id++) {
        struct node *node = &cores->nodes[id];

        core_free(node->core);
        state_close(node->state);
        store_close(node->store);
        buffer_release(&node->batches);
        for (uint32_t to = 0; to <= CORES_MAX; to++)
            buffer_release(&node->messages[to]);
    }
    while (cores->lines != NULL) {
        struct line *line = cores->lines;

        cores->lines = line->next;
        buffer_release(&line->received);
        free(line);
    }
    for (uint64_t i = 0; i < cores->log_count; i++)
        free(cores->log[i].data);
    free(cores->log);
    free(cores);
}

struct core *cores_core(const struct cores *cores, uint32_t node)
{
    assert(node >= 1 && node <= cores->count);
    return cores->nodes[node].core;
}

const char *cores_warning(const struct cores *cores, uint32_t node)
{
    return cores->nodes[node].warning;
}

uint64_t cores_now_ms(const struct cores *cores)
{
    return cores->now_ms;
}

/* ---- one round ---- */

static uint32_t leader_of(const struct cores *cores)
{
    for (uint32_t id = 1; id <= cores->count; id++) {
        if (!cores->nodes[id].cut)
            return id;
    }
    return 0;
}

static void tell_health(struct cores *cores, struct node *node)
{
    uint32_t leader = node->cut ? 0 : leader_of(cores);
    struct consensus_status status = {
        .role = leader == node->id ? CONSENSUS_LEADER : CONSENSUS_FOLLOWER,
        .leader = leader,
        .term = leader,
        .route = leader,
        .last = cores->log_count,
        .commit = cores->log_count,
        .applied = state_applied(node->state),
        .majority = leader != 0,
        .caught_up = true,
        .cluster_ms = CLUSTER_EPOCH_MS + cores->now_ms,
    };

    if (leader != 0)
        node->heard_ms = cores->now_ms;
    status.leader_heard_ms = node->heard_ms;
    for (uint32_t id = 1; id <= cores->count; id++) {
        if (id != node->id && !node->cut && !cores->nodes[id].cut)
            status.linked |= UINT64_C(1) << id;
        if (cores->nodes[id].silent && leader == node->id)
            status.silent |= UINT64_C(1) << id;
    }
    core_health(node->core, &status, cores->now_ms);
}

static void serve_lines(struct cores *cores, struct node *node)
{
    for (struct line *line = cores->lines; line != NULL; line = line->next) {
        if (line->node != node || line->closed)
            continue;
        if (line->unwritten > 0 && !line->stopped) {
            size_t written = line->unwritten;

            line->unwritten = 0;
            core_written(node->core, line->number, written, cores->now_ms);
            cores->moved = true;
        }
        if (line->close_asked) {
            line->closed = true;
            core_closed(node->core, line->number, cores->now_ms);
            cores->moved = true;
        }
    }
}

static void cores_append(struct cores *cores, struct bytes batch)
{
    struct committed *entry;

    if (cores->log_count == cores->log_capacity) {
        cores->log_capacity = cores->log_capacity == 0 ? 64 : cores->log_capacity * 2;
        cores->log = memory_resize(cores->log, cores->log_capacity * sizeof(*cores->log));
    }
    entry = &cores->log[cores->log_count++];
    memset(entry, 0, sizeof(*entry));
    entry->data = memory_copy(batch.data, batch.size);
    entry->size = batch.size;
    batch_set_stamp(entry->data, CLUSTER_EPOCH_MS + cores->now_ms);
}

static void commit_batches(struct cores *cores, struct node *node)
{
    struct reader reader = reader_of(buffer_bytes(&node->batches));

    while (reader.rest.size > 0) {
        uint64_t size = reader_u64(&reader);
        struct bytes batch = reader_bytes(&reader, size);

        if (!node->cut)
            cores_append(cores, batch);
    }
    buffer_clear(&node->batches);
}

static void apply_entries(struct cores *cores, struct node *node)
{
    while (!node->cut && !node->lag && node->next_entry <= cores->log_count && core_takes_entries(node->core)) {
        const struct committed *entry = &cores->log[node->next_entry - 1];

        core_take_entry(node->core, node->next_entry++, 1, bytes_of(entry->data, entry->size), cores->now_ms);
        cores->moved = true;
    }
}

static void talk_to_peers(struct cores *cores, struct node *node)
{
    for (uint32_t id = 1; id <= cores->count; id++) {
        struct node *peer = &cores->nodes[id];
        bool linked = id != node->id && !node->cut && !peer->cut;

        if (linked && node->applied_more)
            core_peer_applied(peer->core, node->id, node->told_applied);
        if (linked && node->messages[id].size > 0)
            core_peer_messages(peer->core, node->id, buffer_bytes(&node->messages[id]), cores->now_ms);
        buffer_clear(&node->messages[id]);
    }
    node->applied_more = false;
}

void cores_settle(struct cores *cores)
{
    uint32_t rounds = 0;
    bool again;

    do {
        again = false;
        cores->moved = false;
        for (uint32_t id = 1; id <= cores->count; id++) {
            struct node *node = &cores->nodes[id];

            serve_lines(cores, node);
            tell_health(cores, node);
            apply_entries(cores, node);
            core_turn(node->core, cores->now_ms);
            commit_batches(cores, node);
            talk_to_peers(cores, node);
            again = again || core_deadline(node->core) <= cores->now_ms;
        }
        assert(++rounds < ROUNDS_MAX && "a core asks for turn after turn");
    } while (cores->moved || again);
}

void cores_pass(struct cores *cores, uint64_t ms)
{
    uint64_t until_ms = cores->now_ms + ms;

    while (cores->now_ms < until_ms) {
        cores->now_ms += until_ms - cores->now_ms < 5 ? until_ms - cores->now_ms : 5;
        cores_settle(cores);
    }
}

void cores_cut(struct cores *cores, uint32_t node, bool cut)
{
    cores->nodes[node].cut = cut;
    cores_settle(cores);
}

void cores_lag(struct cores *cores, uint32_t node, bool lag)
{
    cores->nodes[node].lag = lag;
    cores_settle(cores);
}

void cores_silent(struct cores *cores, uint32_t node, bool silent)
{
    cores->nodes[node].silent = silent;
    cores_settle(cores);
}

void cores_replace_state(struct cores *cores, uint32_t id)
{
    struct node *node = &cores->nodes[id];
    struct store_options options = {.path = node->directory};
    struct effects *effects = effects_new();

    state_close(node->state);
    store_close(node->store);
    assert(store_open(&options, &node->store) == STATUS_OK);
    assert(state_open(node->store, id, &node->state) == STATUS_OK);
    for (uint64_t index = 1; index <= cores->log_count; index++) {
        const struct committed *entry = &cores->log[index - 1];

        effects_clear(effects);
        assert(state_apply(node->state, index, 1, bytes_of(entry->data, entry->size), effects) == STATUS_OK);
    }
    effects_free(effects);
    node->next_entry = cores->log_count + 1;
    core_state_replaced(node->core, node->state, cores->now_ms);
    cores_settle(cores);
}

void cores_keep_on_disk(struct cores *cores, uint32_t node, const char *directory)
{
    cores->nodes[node].directory = directory;
    cores_replace_state(cores, node);
}

/* ---- lines ---- */

struct line *line_open(struct cores *cores, uint32_t node)
{
    struct line *line = memory_zeroed(1, sizeof(*line));
    static const struct core_listener listener = {.name = "test", .anonymous = true};
    struct core_origin origin = {.listener = &listener, .transport = "tcp"};

    line->cores = cores;
    line->node = &cores->nodes[node];
    line->reading = true;
    line->next = cores->lines;
    cores->lines = line;
    line->number = core_open(line->node->core, line, &origin, cores->now_ms);
    return line;
}

void line_send_quietly(struct line *line, struct bytes bytes)
{
    if (!line->closed)
        core_received(line->node->core, line->number, bytes, line->cores->now_ms);
}

void line_send(struct line *line, struct bytes bytes)
{
    line_send_quietly(line, bytes);
    cores_settle(line->cores);
}

struct bytes line_received(const struct line *line)
{
    return buffer_bytes(&line->received);
}

void line_take(struct line *line, size_t count)
{
    buffer_consume(&line->received, count);
}

bool line_closed(const struct line *line)
{
    return line->closed;
}

bool line_read(const struct line *line)
{
    return line->reading;
}

void line_drop(struct line *line)
{
    if (!line->closed) {
        line->closed = true;
        core_closed(line->node->core, line->number, line->cores->now_ms);
    }
    cores_settle(line->cores);
}

void line_stop(struct line *line, bool stop)
{
    line->stopped = stop;
    cores_settle(line->cores);
}
