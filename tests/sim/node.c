/* node.c — one simulated node: the parts that node/broker.c puts together for a real one, on a simulated disk.
 *
 *   network ──▶ inbox ──▶ turn: disk jobs, consensus_advance, inbox, committed entries, core_turn, consensus_flush
 *
 * Everything that arrives waits in the inbox until the node's next turn, which takes some time of its own; a paused
 * node has no turns. A crash forgets all but the disk, the store's last commit (not even that at a power loss) and
 * the snapshot files. A wipe leaves nothing, and the node comes back as a replacement of itself. It may also be
 * doomed: then it dies between two outputs of one turn, and what it would still have said is never heard. */

#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "cluster/consensus.h"
#include "node/client/core.h"
#include "sim.h"
#include "snapshot.h"
#include "state.h"
#include "state_check.h"
#include "store.h"
#include "world/disk_sim.h"

#define SNAPSHOTS_OPEN 8
#define WRITTEN_US 1000           /* progress of sockets is reported together */
#define WALL_START_MS 1700000000000ll
#define HASH_EVERY 16             /* entries */

enum item_kind { ITEM_LINK, ITEM_FRAME, ITEM_OPEN, ITEM_BYTES, ITEM_CLOSED, ITEM_WRITTEN, ITEM_SNAPSHOT_TAKEN,
                 ITEM_RECEIVED, ITEM_INSTALL };

struct item {
    struct item *next;
    enum item_kind kind;
    uint32_t peer;
    int link_kind;
    bool up;
    uint64_t in, out;            /* generations; for clients: connection; for snapshots: index and term */
    struct node_life life;
    size_t size;
    uint8_t data[];
};

struct committed {
    struct committed *next;
    uint64_t index;
    struct log_entry *entry;
};

struct client_conn {
    uint64_t connection;         /* the network's number */
    uint64_t core_connection;
    bool closed;                 /* core has been told, or has closed it */
    bool held;                   /* core does not want to read now */
    struct buffer kept;          /* what arrived meanwhile */
};

struct sim_node {
    struct sim *sim;
    uint32_t id;
    bool running, ever_started;
    struct node_life life;
    bool member;                 /* in this life, by a committed configuration */
    uint64_t generation, paused_until_us, turn_at_us, turn_us;
    uint32_t doom;               /* outputs until it dies; 0: it does not */
    bool dead;                   /* has died in the middle of this step: nothing leaves it any more */
    bool failed;                 /* has said that it cannot go on */
    bool beyond_repair;          /* and that an operator must replace it */
    enum phase_met died_before;
    int64_t wall_skew_ms, wall_drift_permille;
    uint64_t drifts_since_us;
    uint64_t last_committed;
    struct { uint64_t index, term; } promised;   /* the last committed entry that it had on its disk */
    uint64_t clock_offset_ms;    /* monotonic clocks of two machines have nothing in common */
    struct disk_sim *disk;
    struct store *store;
    char snapshot_directory[96];

    struct log *log;
    struct consensus *consensus;
    struct state *state;
    struct core *core;
    struct item *inbox, **inbox_end;
    struct committed *committed, **committed_end;
    struct log_entry *applying;  /* core may need it for several turns */
    uint64_t hashed;             /* index at which the state hash was compared last */
    struct client_conn **conns;
    size_t conn_count, conn_capacity;
    struct snapshot *reading[SNAPSHOTS_OPEN];
    uint64_t reading_index[SNAPSHOTS_OPEN];
    struct snapshot_incoming *incoming;
    bool taking_snapshot, verifying, installing;
};

static const uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE] = {'s', 'i', 'm'};

static void want_turn(struct sim_node *node, uint64_t at_us);
static void remember_promises(struct sim_node *node);

static uint64_t now_ms(const struct sim_node *node)
{
    return sim_now_us(node->sim) / SIM_MS + node->clock_offset_ms;
}

static uint64_t wall_ms(const struct sim_node *node)
{
    int64_t drifted_ms = (int64_t)((sim_now_us(node->sim) - node->drifts_since_us) / SIM_MS) * node->wall_drift_permille / 1000;
    return (uint64_t)((int64_t)(sim_now_us(node->sim) / SIM_MS) + WALL_START_MS + node->wall_skew_ms + drifted_ms);
}

/* ---- inbox ---- */

static struct item *item_for(struct sim_node *node, enum item_kind kind, size_t size, uint64_t turn_at_us)
{
    struct item *item = memory_allocate(sizeof *item + size);
    memset(item, 0, sizeof *item);
    item->kind = kind;
    item->size = size;
    *node->inbox_end = item;
    node->inbox_end = &item->next;
    want_turn(node, turn_at_us);
    return item;
}

static struct item *item_new(struct sim_node *node, enum item_kind kind, size_t size)
{
    return item_for(node, kind, size, sim_now_us(node->sim));
}

static struct client_conn *conn_of(struct sim_node *node, uint64_t connection)
{
    for (size_t i = 0; i < node->conn_count; i++)
        if (node->conns[i]->connection == connection)
            return node->conns[i];
    return NULL;
}

void node_link(struct sim_node *node, uint32_t peer, int kind, bool up, uint64_t in, uint64_t out,
               struct node_life life)
{
    struct item *item = item_new(node, ITEM_LINK, 0);
    item->peer = peer;
    item->link_kind = kind;
    item->up = up;
    item->in = in;
    item->out = out;
    item->life = life;
}

void node_frame(struct sim_node *node, uint32_t peer, int kind, const uint8_t *frame, size_t size)
{
    if (!node->running)
        return;
    struct item *item = item_new(node, ITEM_FRAME, size);
    item->peer = peer;
    item->link_kind = kind;
    memcpy(item->data, frame, size);
}

void node_client_open(struct sim_node *node, uint64_t connection)
{
    item_new(node, ITEM_OPEN, 0)->in = connection;
}

void node_client_bytes(struct sim_node *node, uint64_t connection, const uint8_t *data, size_t size)
{
    struct item *item = item_new(node, ITEM_BYTES, size);
    item->in = connection;
    memcpy(item->data, data, size);
}

void node_client_written(struct sim_node *node, uint64_t connection, size_t size)
{
    struct item *item = item_for(node, ITEM_WRITTEN, 0, sim_now_us(node->sim) + WRITTEN_US);
    item->in = connection;
    item->out = size;
}

void node_client_closed(struct sim_node *node, uint64_t connection)
{
    item_new(node, ITEM_CLOSED, 0)->in = connection;
}

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
    struct item *item = item_new(node, errand->kind, 0);
    item->in = errand->in;
    item->out = errand->out;
}

static void send_on_errand(struct sim_node *node, enum item_kind kind, uint64_t in, uint64_t out)
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
    enum status status = snapshot_incoming_finish(node->incoming, cluster_id, NULL, NULL);
    snapshot_incoming_close(node->incoming);
    node->incoming = NULL;
    node->verifying = true;
    send_on_errand(node, ITEM_RECEIVED, (uint64_t)status, 0);
}

static void on_install(void *context, uint64_t index, uint64_t term)
{
    struct sim_node *node = context;
    node->installing = true;
    send_on_errand(node, ITEM_INSTALL, index, term);
}

static void on_messages(void *context, uint32_t peer, struct bytes messages)
{
    struct sim_node *node = context;
    core_peer_messages(node->core, peer, messages, now_ms(node));
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
    item_new(node, ITEM_CLOSED, 0)->in = client->connection;
}

static void on_reading(void *context, void *conn, bool on)
{
    struct sim_node *node = context;
    struct client_conn *client = conn;
    client->held = !on;
    if (on && client->kept.size > 0) {
        struct item *item = item_new(node, ITEM_BYTES, client->kept.size);
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

/* ---- snapshots ---- */

static void take_snapshot(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct snapshot_facts facts = {.index = state_applied(node->state), .term = state_applied_term(node->state)};
    memcpy(facts.cluster_id, cluster_id, sizeof cluster_id);
    facts.configuration = consensus_configuration(node->consensus, facts.index, &facts.configuration_index);
    struct store_view *view;
    if (state_commit(node->state) != STATUS_OK || store_view_open(node->store, &view) != STATUS_OK) {
        sim_violation(sim, "node %u cannot take a snapshot", node->id);
        return;
    }
    enum status status = snapshot_write(node->snapshot_directory, &facts, view, NULL);
    store_view_close(view);
    if (status != STATUS_OK) {
        sim_violation(sim, "node %u: snapshot at %llu: %s", node->id, (unsigned long long)facts.index, status_text(status));
        return;
    }
    node->taking_snapshot = true;
    send_on_errand(node, ITEM_SNAPSHOT_TAKEN, facts.index, 0);
}

static void snapshot_taken(struct sim_node *node, uint64_t index)
{
    node->taking_snapshot = false;
    struct snapshot *snapshot;
    if (snapshot_open(node->snapshot_directory, index, &snapshot) != STATUS_OK)
        return;   /* one from the leader took its place meanwhile */
    const struct snapshot_facts *facts = snapshot_facts(snapshot);
    struct consensus_snapshot taken = {facts->index, facts->term, facts->configuration_index, facts->configuration};
    consensus_snapshot_taken(node->consensus, &taken);
    snapshot_close(snapshot);
}

/* Makes a store of the newest snapshot, or an empty one. */
static void load_store(struct sim_node *node, uint64_t index)
{
    struct store_options options = {0};
    if (node->store != NULL)
        store_close(node->store);
    if (store_open(&options, &node->store) != STATUS_OK)
        sim_violation(node->sim, "node %u: no store", node->id);
    struct snapshot *snapshot;
    if (snapshot_open(node->snapshot_directory, index, &snapshot) != STATUS_OK)
        return;
    if (snapshot_load(snapshot, node->store, NULL) != STATUS_OK)
        sim_violation(node->sim, "node %u: the snapshot does not load", node->id);
    snapshot_close(snapshot);
}

static void install(struct sim_node *node, uint64_t index)
{
    node->sim->counts.installs++;
    node->installing = false;
    sim_note(node->sim, "node %u installs the snapshot at %llu", node->id, (unsigned long long)index);
    state_close(node->state);
    load_store(node, index);
    if (state_open(node->store, node->id, &node->state) != STATUS_OK) {
        sim_violation(node->sim, "node %u: the state of a snapshot does not open", node->id);
        return;
    }
    core_state_replaced(node->core, node->state, now_ms(node));
    consensus_installed(node->consensus, STATUS_OK, index, state_clock_ms(node->state));
}

/* With --verbose: all rows of a state whose hash is checked, so that two nodes can be compared by eye. */
static void show_rows(struct sim_node *node, uint64_t index)
{
    if (!node->sim->verbose || index > 64)
        return;
    for (int table = 0; table < TABLE_COUNT; table++) {
        struct row row;
        for (bool more = store_first_at(node->store, (enum table)table, bytes_of("", 0), &row); more;) {
            fprintf(stderr, "@%u %llu %s ", node->id, (unsigned long long)index, store_table_name((enum table)table));
            for (size_t i = 0; i < row.key.size; i++)
                fprintf(stderr, "%02x", row.key.data[i]);
            fputc('=', stderr);
            for (size_t i = 0; i < row.value.size; i++)
                fprintf(stderr, "%02x", row.value.data[i]);
            fputc('\n', stderr);
            uint8_t key[STORE_KEY_MAX];
            memcpy(key, row.key.data, row.key.size);
            more = store_first_after(node->store, (enum table)table, bytes_of(key, row.key.size), &row);
        }
    }
}

/* ---- turns ---- */

static void handle_bytes(struct sim_node *node, struct item *item)
{
    struct client_conn *conn = conn_of(node, item->in);
    if (conn == NULL || conn->closed)
        return;
    if (conn->held)
        buffer_put(&conn->kept, item->data, item->size);
    else
        core_received(node->core, conn->core_connection, bytes_of(item->data, item->size), now_ms(node));
}

static void handle_open(struct sim_node *node, struct item *item)
{
    struct client_conn *conn = memory_zeroed(1, sizeof *conn);
    conn->connection = item->in;
    if (node->conn_count == node->conn_capacity) {
        node->conn_capacity = node->conn_capacity > 0 ? 2 * node->conn_capacity : 16;
        node->conns = memory_resize(node->conns, node->conn_capacity * sizeof(struct client_conn *));
    }
    node->conns[node->conn_count++] = conn;
    static const struct core_listener listener = {.name = "sim", .anonymous = true};
    struct core_origin origin = {.listener = &listener, .transport = "tcp"};
    conn->core_connection = core_open(node->core, conn, &origin, now_ms(node));
}

static void handle_closed(struct sim_node *node, struct item *item)
{
    struct client_conn *conn = conn_of(node, item->in);
    if (conn == NULL || conn->closed)
        return;
    conn->closed = true;
    core_closed(node->core, conn->core_connection, now_ms(node));
}

static void handle(struct sim_node *node, struct item *item)
{
    struct client_conn *conn;
    switch (item->kind) {
    case ITEM_LINK:
        if (item->up)
            consensus_peer_life(node->consensus, item->peer, item->life);
        if (item->up)
            consensus_link_up(node->consensus, item->peer, (enum link_kind)item->link_kind, item->in, item->out);
        else
            consensus_link_down(node->consensus, item->peer, (enum link_kind)item->link_kind, item->in);
        break;
    case ITEM_FRAME:
        consensus_receive(node->consensus, item->peer, (enum link_kind)item->link_kind,
                          bytes_of(item->data, item->size));
        break;
    case ITEM_OPEN: handle_open(node, item); break;
    case ITEM_BYTES: handle_bytes(node, item); break;
    case ITEM_CLOSED: handle_closed(node, item); break;
    case ITEM_WRITTEN:
        conn = conn_of(node, item->in);
        if (conn != NULL && !conn->closed)
            core_written(node->core, conn->core_connection, item->out, now_ms(node));
        break;
    case ITEM_SNAPSHOT_TAKEN: snapshot_taken(node, item->in); break;
    case ITEM_RECEIVED:
        node->verifying = false;
        consensus_received(node->consensus, (enum status)item->in);
        break;
    case ITEM_INSTALL: install(node, item->in); break;
    }
}

/* Between two entries. */
static void compare_state(struct sim_node *node)
{
    uint64_t index = state_applied(node->state), hash[2];
    if (index == node->hashed || index % HASH_EVERY != 0 || !core_takes_entries(node->core))
        return;
    node->hashed = index;
    state_hash(node->state, hash);
    show_rows(node, index);
    ledger_hash(node->sim, node->id, index, hash);
}

static void apply_committed(struct sim_node *node)
{
    compare_state(node);
    while (node->committed != NULL && node->sim->violation == NULL && core_takes_entries(node->core)) {
        struct committed *committed = node->committed;
        node->committed = committed->next;
        if (node->committed == NULL)
            node->committed_end = &node->committed;
        uint64_t index = committed->index, applied = state_applied(node->state);
        log_entry_release(node->applying);
        node->applying = committed->entry;
        free(committed);
        if (index == applied + 1)
            core_take_entry(node->core, index, node->applying->term, consensus_entry_batch(node->applying), now_ms(node));
        else if (index > applied)
            sim_violation(node->sim, "node %u is to apply %llu after %llu", node->id, (unsigned long long)index,
                          (unsigned long long)applied);
        compare_state(node);
    }
}

static void forget_closed_conns(struct sim_node *node)
{
    size_t kept = 0;
    for (size_t i = 0; i < node->conn_count; i++) {
        if (node->conns[i]->closed) {
            buffer_release(&node->conns[i]->kept);
            free(node->conns[i]);
        } else {
            node->conns[kept++] = node->conns[i];
        }
    }
    node->conn_count = kept;
}

static void turn(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct consensus_status status;
    consensus_advance(node->consensus, now_ms(node), wall_ms(node));
    disk_sim_run(node->disk, sim_now_us(sim));
    consensus_status(node->consensus, &status);
    core_health(node->core, &status, now_ms(node));
    struct item *items = node->inbox;
    node->inbox = NULL;
    node->inbox_end = &node->inbox;
    while (items != NULL && sim->violation == NULL) {
        struct item *item = items;
        items = item->next;
        handle(node, item);
        free(item);
    }
    while (items != NULL) {
        struct item *item = items;
        items = item->next;
        free(item);
    }
    consensus_deliver(node->consensus);
    apply_committed(node);
    if (sim->violation != NULL)
        return;
    consensus_status(node->consensus, &status);
    if (status.role == CONSENSUS_LEADER && status.majority && status.cluster_ms != 0)
        ledger_clock(sim, node->id, status.cluster_ms);
    core_health(node->core, &status, now_ms(node));
    core_turn(node->core, now_ms(node));
    consensus_flush(node->consensus);
    forget_closed_conns(node);
    if (!node->taking_snapshot && !node->dead && !core_applying(node->core) && consensus_wants_snapshot(node->consensus))
        take_snapshot(node);
}

static uint64_t deadline_us(const struct sim_node *node)
{
    uint64_t deadline_ms = consensus_deadline(node->consensus);
    if (core_deadline(node->core) < deadline_ms)
        deadline_ms = core_deadline(node->core);
    uint64_t at = UINT64_MAX;
    if (deadline_ms != UINT64_MAX)
        at = deadline_ms <= node->clock_offset_ms ? 0 : (deadline_ms - node->clock_offset_ms) * SIM_MS;
    if (disk_sim_next_us(node->disk) < at)
        at = disk_sim_next_us(node->disk);
    if (node->inbox != NULL || node->committed != NULL)
        at = 0;
    return at;
}

static void on_turn(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_node *node = sim->node[key];
    uint64_t *planned = data;
    if (!node->running || planned[0] != node->generation || planned[1] != node->turn_at_us)
        return;
    node->turn_at_us = UINT64_MAX;
    if (node->paused_until_us > sim_now_us(sim)) {
        want_turn(node, node->paused_until_us);
        return;
    }
    turn(node);
    if (sim->violation != NULL)
        return;
    if (node->dead || node->failed) {
        node->dead ? faults_node_died(sim, node->id) : faults_node_stopped(sim, node->id);
        return;
    }
    remember_promises(node);
    uint64_t next = deadline_us(node);
    if (next != UINT64_MAX)
        want_turn(node, next);
}

static void want_turn(struct sim_node *node, uint64_t at_us)
{
    if (!node->running || node->turn_at_us <= at_us)
        return;
    uint64_t soonest = sim_now_us(node->sim) + node->turn_us;
    node->turn_at_us = at_us < soonest ? soonest : at_us;
    uint64_t *planned = memory_allocate(2 * sizeof *planned);
    planned[0] = node->generation;
    planned[1] = node->turn_at_us;
    schedule_add(node->sim->schedule, node->turn_at_us, on_turn, node->id, planned);
}

/* ---- life ---- */

static void on_flushed(void *context, enum status status, uint64_t durable)
{
    struct sim_node *node = context;
    if (node->consensus != NULL)
        consensus_flushed(node->consensus, status, durable);
}

static struct log_options log_options_of(struct sim_node *node, uint64_t covered)
{
    return (struct log_options){
        .disk = disk_sim_disk(node->disk),
        .directory = "log",
        .queue = disk_sim_queue(node->disk),
        .flushed = on_flushed,
        .context = node,
        .create = !node->ever_started,
        .covered = covered,
        .segment_bytes = node->sim->config.segment_bytes,
        .cache_bytes = node->sim->config.cache_bytes,
    };
}

/* As node/data.c does it: a log that is not what it was is repaired, as far as that goes, by its peers. */
static bool open_log(struct sim_node *node, uint64_t covered)
{
    struct log_options options = log_options_of(node, covered);
    struct log_fault fault = {{0}, 0};
    disk_make_directory(options.disk, "log");
    enum status status = log_open(&options, &node->log, &fault);
    if ((status == STATUS_CORRUPT || status == STATUS_DAMAGED) && faults_disk_is_bad(node->sim, node->id)) {
        sim_note(node->sim, "node %u has a damaged log: %s", node->id, fault.text);
        options.repair = true;
        status = log_open(&options, &node->log, &fault);
    }
    if (status == STATUS_OK)
        return true;
    node->log = NULL;
    node->failed = true;
    node->beyond_repair = status == STATUS_CORRUPT || status == STATUS_DAMAGED;
    sim_note(node->sim, "node %u: its log does not open: %s (%s)", node->id, fault.text, status_text(status));
    if (!faults_disk_is_bad(node->sim, node->id))
        sim_violation(node->sim, "node %u: its log does not open: %s (%s)", node->id, fault.text, status_text(status));
    return false;
}

static void make_consensus(struct sim_node *node, const struct consensus_snapshot *snapshot)
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

static void make_core(struct sim_node *node)
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
    node->core = core_new(&options, &callbacks, node->state, now_ms(node));
}

/* What a node has acknowledged is there after any restart, or it knows that it is not. */
static void remember_promises(struct sim_node *node)
{
    uint64_t durable = log_durable(node->log), index = durable < node->last_committed ? durable : node->last_committed;
    if (index <= node->promised.index)
        return;
    node->promised.index = index;
    node->promised.term = log_term_of(node->log, index);
}

/* Rot that makes the last flush look as if it had never been made cannot be told from that (log_format.h): no more can be
 * asked of the log, and the operator replaces the node. */
static void check_promises(struct sim_node *node, uint64_t covered)
{
    uint64_t index = node->promised.index;
    if (log_owed(node->log) != 0 || index <= covered)
        return;
    if (log_last(node->log) < index && faults_rotten(node->sim) == node->id) {
        sim_note(node->sim, "node %u has lost its last flush to rot", node->id);
        node->failed = node->beyond_repair = true;
        return;
    }
    if (log_last(node->log) < index)
        sim_violation(node->sim, "node %u: its log ends at %llu, it had %llu and says nothing of it", node->id,
                      (unsigned long long)log_last(node->log), (unsigned long long)index);
    else if (index >= log_first(node->log) && node->promised.term != 0 &&
             log_term_of(node->log, index) != node->promised.term)
        sim_violation(node->sim, "node %u: its entry at %llu is of another term than before", node->id,
                      (unsigned long long)index);
}

static void start_parts(struct sim_node *node, const struct consensus_snapshot *newest)
{
    node->generation++;
    node->running = true;
    node->last_committed = 0;    /* what it knew to be committed need not be what its log has there now */
    node->turn_at_us = UINT64_MAX;
    make_core(node);
    make_consensus(node, newest);
    enum status status = consensus_start(node->consensus, now_ms(node), wall_ms(node));
    if (status != STATUS_OK && !faults_disk_is_bad(node->sim, node->id))
        sim_violation(node->sim, "node %u does not start: %s", node->id, status_text(status));
    node->failed = node->failed || status != STATUS_OK;
    node->ever_started = true;
    want_turn(node, sim_now_us(node->sim));
}

/* A store that the log does not go on from is made anew from the snapshot (node/data.c). */
static bool open_state(struct sim_node *node, const struct consensus_snapshot *newest)
{
    uint64_t snapshot = newest->index;
    bool replaces = snapshot > 0 && log_term_of(node->log, snapshot) != newest->term;
    uint64_t first = replaces ? snapshot + 1 : log_first(node->log);
    if (node->store == NULL)
        load_store(node, snapshot);
    bool open = state_open(node->store, node->id, &node->state) == STATUS_OK;
    if (open && state_applied(node->state) + 1 < first) {
        sim_note(node->sim, "node %u: its store is older than its log", node->id);
        state_close(node->state);
        load_store(node, snapshot);
        open = state_open(node->store, node->id, &node->state) == STATUS_OK;
    }
    if (!open)
        sim_violation(node->sim, "node %u: its state does not open", node->id);
    return open;
}

void node_start(struct sim_node *node)
{
    if (node->running || node->sim->violation != NULL)
        return;
    struct consensus_snapshot newest = {0};
    struct snapshot *snapshot = NULL;
    unsigned refused = 0;
    if (snapshot_open_verified(node->snapshot_directory, NULL, &snapshot, &refused) == STATUS_OK) {
        const struct snapshot_facts *facts = snapshot_facts(snapshot);
        newest = (struct consensus_snapshot){facts->index, facts->term, facts->configuration_index,
                                             facts->configuration};
    }
    node->dead = node->failed = false;
    node->doom = 0;
    if (open_log(node, newest.index) && open_state(node, &newest)) {
        check_promises(node, newest.index);
        if (!node->failed)
            start_parts(node, &newest);
    }
    if (snapshot != NULL)
        snapshot_close(snapshot);
    if (node->failed && node->sim->violation == NULL) {
        node->running = true; /* for a moment */
        faults_node_stopped(node->sim, node->id);
    }
}

static void free_parts(struct sim_node *node)
{
    while (node->inbox != NULL) {
        struct item *item = node->inbox;
        node->inbox = item->next;
        free(item);
    }
    node->inbox_end = &node->inbox;
    while (node->committed != NULL) {
        struct committed *committed = node->committed;
        node->committed = committed->next;
        log_entry_release(committed->entry);
        free(committed);
    }
    node->committed_end = &node->committed;
    log_entry_release(node->applying);
    node->applying = NULL;
    for (size_t i = 0; i < node->conn_count; i++)
        node->conns[i]->closed = true;
    if (node->core != NULL)
        core_free(node->core);
    if (node->consensus != NULL)
        consensus_free(node->consensus);
    for (int i = 0; i < SNAPSHOTS_OPEN; i++)
        if (node->reading[i] != NULL)
            snapshot_close(node->reading[i]);
    memset(node->reading, 0, sizeof node->reading);
    if (node->incoming != NULL)
        snapshot_incoming_close(node->incoming);
    node->incoming = NULL;
    if (node->log != NULL)
        log_close(node->log);
    if (node->state != NULL)
        state_close(node->state);
    node->core = NULL;
    node->consensus = NULL;
    node->log = NULL;
    node->state = NULL;
    node->taking_snapshot = node->verifying = node->installing = false;
    forget_closed_conns(node);
}

void node_crash(struct sim_node *node, bool power_loss)
{
    if (!node->running)
        return;
    node->running = false;
    network_node_gone(node->sim, node->id);
    if (power_loss)
        disk_sim_crash(node->disk);
    else
        disk_sim_kill(node->disk);
    free_parts(node);
    node->doom = 0;
    node->dead = false;
    if (node->store != NULL && !power_loss) {
        store_crash(node->store);
    } else if (node->store != NULL) {
        store_close(node->store);
        node->store = NULL;
    }
}

void node_doom(struct sim_node *node, uint32_t outputs)
{
    node->doom = node->running ? outputs : 0;
}

static void empty_disk(struct sim_node *node)
{
    struct disk_sim_options options = {
        .seed = random_next(&node->sim->disk_random),
        .tail_permille = (unsigned)node->sim->config.disk_tail_permille,
        .job_us_min = node->sim->config.disk_us / 2,
        .job_us_max = node->sim->config.disk_us * 2,
    };
    if (node->disk != NULL)
        disk_sim_free(node->disk);
    node->disk = disk_sim_new(&options);
    mkdir(node->snapshot_directory, 0700);
}

static void remove_snapshots(const struct sim_node *node)
{
    DIR *directory = opendir(node->snapshot_directory);
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;)
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory != NULL)
        closedir(directory);
    if (rmdir(node->snapshot_directory) != 0)
        fprintf(stderr, "sim: %s stays behind\n", node->snapshot_directory);
}

void node_wipe(struct sim_node *node)
{
    assert(!node->running);
    if (node->store != NULL)
        store_close(node->store);
    node->store = NULL;
    remove_snapshots(node);
    empty_disk(node);
    node->ever_started = node->member = node->beyond_repair = false;
    node->last_committed = node->promised.index = 0;
    node->life = (struct node_life){node->life.number + 1, random_next(&node->sim->schedule_random) | 1};
}

bool node_is_beyond_repair(const struct sim_node *node)
{
    return node->beyond_repair;
}

bool node_is_member(const struct sim_node *node)
{
    return node->member || node_life_is_first(node->life);
}

bool node_is_whole(const struct sim_node *node)
{
    struct consensus_status status;
    if (!node->running || node->failed || node->consensus == NULL || !node_is_member(node))
        return false;
    consensus_status(node->consensus, &status);
    return !status.damaged && status.caught_up;
}

struct node_life node_life(const struct sim_node *node)
{
    return node->life;
}

void node_pause(struct sim_node *node, uint64_t until_us)
{
    node->paused_until_us = until_us;
    if (until_us <= sim_now_us(node->sim))
        node_wake(node);
}

bool node_running(const struct sim_node *node)
{
    return node->running;
}

bool node_awake(const struct sim_node *node, uint64_t *later_us)
{
    *later_us = node->paused_until_us;
    return node->paused_until_us <= sim_now_us(node->sim);
}

uint64_t node_generation(const struct sim_node *node)
{
    return node->generation;
}

uint64_t node_applied(const struct sim_node *node)
{
    return node->state != NULL ? state_applied(node->state) : 0;
}

void node_slow(struct sim_node *node, uint64_t turn_us)
{
    node->turn_us = turn_us > 0 ? turn_us : node->sim->config.turn_us;
}

void node_step_clock(struct sim_node *node, int64_t ms)
{
    node->wall_skew_ms += ms;
}

void node_drift_clock(struct sim_node *node, int64_t permille)
{
    node->wall_skew_ms = (int64_t)wall_ms(node) - (int64_t)(sim_now_us(node->sim) / SIM_MS) - WALL_START_MS;
    node->wall_drift_permille = permille;
    node->drifts_since_us = sim_now_us(node->sim);
}

struct disk_sim *node_disk(const struct sim_node *node)
{
    return node->disk;
}

void node_wake(struct sim_node *node)
{
    want_turn(node, sim_now_us(node->sim));
}

unsigned node_phases(const struct sim_node *node)
{
    unsigned phases = 0;
    if (!node->running || node->consensus == NULL)
        return node->dead ? 1u << node->died_before : 0;
    struct consensus_status status;
    consensus_status(node->consensus, &status);
    bool sending = false;
    for (int i = 0; i < SNAPSHOTS_OPEN; i++)
        sending = sending || node->reading[i] != NULL;
    phases |= (status.leader == 0) << PHASE_ELECTION | !status.caught_up << PHASE_REPLAY |
              (status.durable < status.last) << PHASE_UNFLUSHED | node->taking_snapshot << PHASE_SNAPSHOT |
              sending << PHASE_SENDING | (node->incoming != NULL || node->verifying) << PHASE_RECEIVING |
              node->installing << PHASE_INSTALLING | !node_is_member(node) << PHASE_REPLACEMENT |
              status.damaged << PHASE_DAMAGED;
    return node->dead ? phases | 1u << node->died_before : phases;
}

/* Something was due, by the clock of what it has applied, and nothing has come of it yet. */
static bool is_overdue(const struct sim_node *node)
{
    return state_due_ms(node->state) <= state_clock_ms(node->state);
}

bool node_quiet(const struct sim_node *node)
{
    return node->running && node->committed == NULL && core_takes_entries(node->core) &&
           !state_work_pending(node->state) && !is_overdue(node);
}

void node_describe(const struct sim_node *node, char *text, size_t size)
{
    struct consensus_status status;
    if (!node->running || node->consensus == NULL) {
        snprintf(text, size, "node %u does not run", node->id);
        return;
    }
    consensus_status(node->consensus, &status);
    snprintf(text, size,
             "node %u: role %d, leader %u, term %llu, last %llu, durable %llu, commit %llu, applied %llu%s%s%s, linked %llx",
             node->id, (int)status.role, status.leader, (unsigned long long)status.term, (unsigned long long)status.last,
             (unsigned long long)status.durable, (unsigned long long)status.commit, (unsigned long long)status.applied,
             status.majority ? ", majority" : "", status.caught_up ? ", caught up" : "", status.damaged ? ", damaged" : "",
             (unsigned long long)status.linked);
}

const char *node_check(struct sim_node *node, uint64_t *dropped, uint64_t *ended)
{
    struct state_counts counts;
    state_counts(node->state, &counts);
    *dropped = counts.dropped_queue_full;
    *ended = counts.dropped_session_ended;
    return state_check(node->state);
}

void node_final_hash(struct sim_node *node, uint64_t *index, uint64_t hash[2])
{
    *index = state_applied(node->state);
    state_hash(node->state, hash);
}

struct sim_node *node_new(struct sim *sim, uint32_t id)
{
    struct sim_node *node = memory_zeroed(1, sizeof *node);
    node->sim = sim;
    node->id = id;
    node->inbox_end = &node->inbox;
    node->committed_end = &node->committed;
    node->turn_us = sim->config.turn_us;
    node->clock_offset_ms = random_below(&sim->schedule_random, 1000000);
    snprintf(node->snapshot_directory, sizeof node->snapshot_directory, "%s/%u", sim->directory, id);
    empty_disk(node);
    return node;
}

void node_free(struct sim_node *node)
{
    if (node->running) {
        disk_sim_kill(node->disk);
        node->running = false;
        free_parts(node);
    }
    if (node->store != NULL)
        store_close(node->store);
    disk_sim_free(node->disk);
    free(node->conns);
    remove_snapshots(node);
    free(node);
}
