/* node_calls.c — what consensus and core ask of a simulated node: frames and bytes go to the network, work for other
 * threads goes on an errand and comes back as an item of the inbox. Part of node.c.
 *
 * Each output can be the last one of a node that is doomed; who is dead says nothing. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "node_private.h"

/* ---- what consensus asks for ---- */

/* Whether this output still leaves the node. */
static bool lives_on(struct sim_node *node, enum phase_met output)
{
    if (node->dead || node->doom == 0)
        return !node->dead;
    node->dead = --node->doom == 0;
    node->died_before = output;
    return !node->dead;
}

static void on_send(void *context, uint32_t peer, enum link_kind kind, uint8_t *frame, size_t size)
{
    struct sim_node *node = context;
    if (lives_on(node, PHASE_BEFORE_FRAME))
        network_send(node->sim, node->id, peer, kind, frame, size);
    else
        free(frame);
}

static void on_disconnect(void *context, uint32_t peer, enum link_kind kind, uint64_t generation, const char *reason)
{
    struct sim_node *node = context;
    (void)generation;
    sim_note(node->sim, "node %u disconnects from %u: %s", node->id, peer, reason);
    network_disconnect(node->sim, node->id, peer, kind);
}

static void on_commit(void *context, uint64_t index, struct log_entry *entry)
{
    struct sim_node *node = context;
    ledger_committed(node->sim, node->id, index, entry->term, log_entry_bytes(entry), consensus_entry_batch(entry));
    struct committed *committed = memory_zeroed(1, sizeof *committed);
    node->last_committed = index;
    committed->index = index;
    committed->entry = entry;
    *node->committed_end = committed;
    node->committed_end = &committed->next;
}

static void on_changed(void *context, const struct consensus_status *status)
{
    struct sim_node *node = context;
    if (status->role == CONSENSUS_LEADER)
        ledger_leader(node->sim, node->id, status->term);
    if (!node->member && !status->outside)
        sim_note(node->sim, "node %u is a voting member", node->id);
    node->member = node->member || !status->outside;
}

static enum status on_snapshot_open(void *context, uint64_t index, uint64_t *size)
{
    struct sim_node *node = context;
    for (int i = 0; i < SNAPSHOTS_OPEN; i++) {
        if (node->reading[i] != NULL)
            continue;
        enum status status = snapshot_open(node->snapshot_directory, index, &node->reading[i]);
        if (status != STATUS_OK) {
            node->reading[i] = NULL;
            return status;
        }
        node->reading_index[i] = index;
        faults_opportunity(node->sim, node->id, 5 * SIM_MS);
        *size = snapshot_size(node->reading[i]);
        return STATUS_OK;
    }
    return STATUS_BUSY;
}

static enum status on_snapshot_read(void *context, uint64_t index, uint64_t offset, void *data, size_t size)
{
    struct sim_node *node = context;
    for (int i = 0; i < SNAPSHOTS_OPEN; i++) {
        if (node->reading[i] == NULL || node->reading_index[i] != index)
            continue;
        size_t got = 0;
        enum status status = snapshot_read(node->reading[i], offset, data, size, &got);
        return status == STATUS_OK && got != size ? STATUS_IO_ERROR : status;
    }
    return STATUS_NOT_FOUND;
}

static void on_snapshot_close(void *context, uint64_t index)
{
    struct sim_node *node = context;
    for (int i = 0; i < SNAPSHOTS_OPEN; i++) {
        if (node->reading[i] != NULL && node->reading_index[i] == index) {
            snapshot_close(node->reading[i]);
            node->reading[i] = NULL;
            return;
        }
    }
}

static enum status on_incoming_open(void *context)
{
    struct sim_node *node = context;
    if (node->incoming != NULL)
        snapshot_incoming_close(node->incoming);
    node->incoming = NULL;
    faults_opportunity(node->sim, node->id, 5 * SIM_MS);
    return snapshot_incoming_open(node->snapshot_directory, &node->incoming);
}

static enum status on_incoming_write(void *context, uint64_t offset, struct bytes chunk)
{
    struct sim_node *node = context;
    return snapshot_incoming_write(node->incoming, offset, chunk);
}

/* What a worker does takes a while: then the result goes into the inbox, if this is still the same life of the node. */
struct errand {
    uint64_t generation;
    enum item_kind kind;
    uint64_t in, out;
};

static void on_errand_done(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_node *node = sim->node[key];
    const struct errand *errand = data;
    if (!node->running || node->generation != errand->generation)
        return;
    struct item *item = node_item_new(node, errand->kind, 0);
    item->in = errand->in;
    item->out = errand->out;
}

void node_send_on_errand(struct sim_node *node, enum item_kind kind, uint64_t in, uint64_t out)
{
    struct errand *errand = memory_allocate(sizeof *errand);
    *errand = (struct errand){node->generation, kind, in, out};
    uint64_t takes_us = random_between(&node->sim->disk_random, SIM_MS, 300 * SIM_MS);
    schedule_add(node->sim->schedule, sim_now_us(node->sim) + takes_us, on_errand_done, node->id, errand);
    faults_opportunity(node->sim, node->id, takes_us);
}

static void on_incoming_finish(void *context)
{
    struct sim_node *node = context;
    enum status status = snapshot_incoming_finish(node->incoming, sim_cluster_id, NULL, NULL);
    snapshot_incoming_close(node->incoming);
    node->incoming = NULL;
    node->verifying = true;
    node_send_on_errand(node, ITEM_RECEIVED, (uint64_t)status, 0);
}

static void on_install(void *context, uint64_t index, uint64_t term)
{
    struct sim_node *node = context;
    node->installing = true;
    node_send_on_errand(node, ITEM_INSTALL, index, term);
}

static void on_messages(void *context, uint32_t peer, struct bytes messages)
{
    struct sim_node *node = context;
    core_peer_messages(node->core, peer, messages, node_now_ms(node));
}

static void on_peer_applied(void *context, uint32_t peer, uint64_t index)
{
    struct sim_node *node = context;
    core_peer_applied(node->core, peer, index);
}

static void on_fatal(void *context, enum status status, const char *reason)
{
    struct sim_node *node = context;
    bool disk = status == STATUS_IO_ERROR || status == STATUS_NO_SPACE ||
                (node->log != NULL && log_status(node->log) != STATUS_OK);
    if (!disk || !faults_disk_is_bad(node->sim, node->id))
        sim_violation(node->sim, "node %u cannot go on: %s (%s)", node->id, reason, status_text(status));
    sim_note(node->sim, "node %u cannot go on: %s (%s)", node->id, reason, status_text(status));
    node->failed = true;
}

static void on_note(void *context, const char *text)
{
    struct sim_node *node = context;
    sim_note(node->sim, "node %u: %s", node->id, text);
}

/* ---- what core asks for ---- */

static void on_write(void *context, void *conn, struct frame *const *frames, size_t count)
{
    struct sim_node *node = context;
    struct client_conn *client = conn;
    struct buffer out = {0};
    for (size_t i = 0; i < count; i++) {
        buffer_put(&out, frames[i]->data, frames[i]->size);
        frame_release(frames[i]);
    }
    if (!client->closed && lives_on(node, PHASE_BEFORE_WRITE))
        network_node_write(node->sim, client->connection, out.data, out.size);
    buffer_release(&out);
}

static void on_close(void *context, void *conn, bool flush)
{
    struct sim_node *node = context;
    struct client_conn *client = conn;
    (void)flush;
    if (lives_on(node, PHASE_BEFORE_WRITE))
        network_node_close(node->sim, client->connection);
    node_item_new(node, ITEM_CLOSED, 0)->in = client->connection;
}

static void on_reading(void *context, void *conn, bool on)
{
    struct sim_node *node = context;
    struct client_conn *client = conn;
    client->held = !on;
    if (on && client->kept.size > 0) {
        struct item *item = node_item_new(node, ITEM_BYTES, client->kept.size);
        item->in = client->connection;
        memcpy(item->data, client->kept.data, client->kept.size);
        buffer_clear(&client->kept);
    }
}

static void on_submit(void *context, struct bytes batch)
{
    struct sim_node *node = context;
    if (lives_on(node, PHASE_BEFORE_SUBMIT))
        consensus_submit(node->consensus, batch);
}

static void on_applied(void *context, uint64_t index, uint64_t clock_ms, bool awaited)
{
    struct sim_node *node = context;
    consensus_applied(node->consensus, index, clock_ms, awaited);
}

static void on_checkpoint(void *context, uint64_t index, const uint64_t hash[2])
{
    struct sim_node *node = context;
    consensus_hash(node->consensus, index, hash);
}

static void on_qos0(void *context, uint32_t peer, struct bytes messages)
{
    struct sim_node *node = context;
    consensus_messages(node->consensus, peer, messages);
}

static void on_core_note(void *context, int level, const char *text)
{
    (void)level;
    on_note(context, text);
}

void node_make_consensus(struct sim_node *node, const struct consensus_snapshot *snapshot)
{
    static const struct consensus_calls calls = {
        .send = on_send, .disconnect = on_disconnect, .commit = on_commit, .changed = on_changed,
        .snapshot_open = on_snapshot_open, .snapshot_read = on_snapshot_read, .snapshot_close = on_snapshot_close,
        .incoming_open = on_incoming_open, .incoming_write = on_incoming_write, .incoming_finish = on_incoming_finish,
        .install = on_install, .messages = on_messages, .peer_applied = on_peer_applied, .fatal = on_fatal,
        .note = on_note,
    };
    uint32_t members[SIM_NODES_MAX];
    for (uint32_t i = 0; i < node->sim->config.nodes; i++)
        members[i] = i + 1;
    struct consensus_settings settings = {
        .self = node->id,
        .life = node->life,
        .bootstrap = node->ever_started || !node_life_is_first(node->life) ? NULL : members,
        .bootstrap_count = node->sim->config.nodes,
        .seed = random_next(&node->sim->schedule_random),
        .heartbeat_ms = (uint32_t)node->sim->config.heartbeat_ms,
        .election_ms = (uint32_t)node->sim->config.election_ms,
        .log_bytes_max = node->sim->config.log_bytes_max,
        .in_flight_entries = (uint32_t)node->sim->config.in_flight_entries,
    };
    node->consensus = consensus_new(&settings, &calls, node, node->log, snapshot, state_applied(node->state),
                                    state_applied_term(node->state), state_clock_ms(node->state));
}

void node_make_core(struct sim_node *node)
{
    const struct sim_config *config = &node->sim->config;
    const struct command_settings limits = {
        .queue_messages_max = config->queue_messages_max != 0 ? config->queue_messages_max : 1u << 30, .queue_bytes_max = 1ull << 40, .subscriptions_max = 1000,
        .sessions_max = 100000, .retained_messages_max = 1u << 20, .retained_bytes_max = 1ull << 40,
        .store_bytes_max = 1ull << 40, .session_expiry_max_s = UINT32_MAX, .in_flight_max = 100,
    };
    struct core_callbacks callbacks = {
        .context = node, .write = on_write, .close = on_close, .reading = on_reading, .submit = on_submit,
        .applied = on_applied, .checkpoint = on_checkpoint, .messages = on_qos0, .fatal = on_fatal, .note = on_core_note,
    };
    struct core_options options = {
        .node = node->id, .seed = random_next(&node->sim->schedule_random), .client_address = "", .settings = &limits,
        .limits = {.output_bytes_max = (uint32_t)config->output_bytes_max},
    };
    for (size_t i = 0; i < sizeof options.boot_nonce; i++)
        options.boot_nonce[i] = (uint8_t)random_below(&node->sim->schedule_random, 256);
    node->core = core_new(&options, &callbacks, node->state, node_now_ms(node));
}
