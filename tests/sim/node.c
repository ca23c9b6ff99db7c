/* node.c — one simulated node: the parts that node/broker.c puts together for a real one, on a simulated disk.
 *
 *   network ──▶ inbox ──▶ turn: disk jobs, consensus_advance, inbox, committed entries, core_turn, consensus_flush
 *
 * Everything that arrives waits in the inbox until the node's next turn, which takes some time of its own; a paused
 * node has no turns. A crash forgets all but the disk, the store's last commit (not even that at a power loss) and
 * the snapshot files. A wipe leaves nothing, and the node comes back as a replacement of itself. It may also be
 * doomed: then it dies between two outputs of one turn, and what it would still have said is never heard.
 *
 * What the parts ask for is in node_calls.c; starts, crashes and wipes are in node_life.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "node_private.h"
#include "state_check.h"

#define WRITTEN_US 1000           /* progress of sockets is reported together */
#define HASH_EVERY 16             /* entries */

uint64_t node_now_ms(const struct sim_node *node)
{
    return sim_now_us(node->sim) / SIM_MS + node->clock_offset_ms;
}

uint64_t node_wall_ms(const struct sim_node *node)
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
    node_want_turn(node, turn_at_us);
    return item;
}

struct item *node_item_new(struct sim_node *node, enum item_kind kind, size_t size)
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
    struct item *item = node_item_new(node, ITEM_LINK, 0);
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
    struct item *item = node_item_new(node, ITEM_FRAME, size);
    item->peer = peer;
    item->link_kind = kind;
    memcpy(item->data, frame, size);
}

void node_client_open(struct sim_node *node, uint64_t connection)
{
    node_item_new(node, ITEM_OPEN, 0)->in = connection;
}

void node_client_bytes(struct sim_node *node, uint64_t connection, const uint8_t *data, size_t size)
{
    struct item *item = node_item_new(node, ITEM_BYTES, size);
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
    node_item_new(node, ITEM_CLOSED, 0)->in = connection;
}

/* ---- snapshots ---- */

static void take_snapshot(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct snapshot_facts facts = {.index = state_applied(node->state), .term = state_applied_term(node->state)};
    memcpy(facts.cluster_id, sim_cluster_id, sizeof sim_cluster_id);
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
    node_send_on_errand(node, ITEM_SNAPSHOT_TAKEN, facts.index, 0);
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

static void install(struct sim_node *node, uint64_t index)
{
    node->sim->counts.installs++;
    node->installing = false;
    sim_note(node->sim, "node %u installs the snapshot at %llu", node->id, (unsigned long long)index);
    state_close(node->state);
    node_load_store(node, index);
    if (state_open(node->store, node->id, &node->state) != STATUS_OK) {
        sim_violation(node->sim, "node %u: the state of a snapshot does not open", node->id);
        return;
    }
    core_state_replaced(node->core, node->state, node_now_ms(node));
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
        core_received(node->core, conn->core_connection, bytes_of(item->data, item->size), node_now_ms(node));
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
    conn->core_connection = core_open(node->core, conn, &origin, node_now_ms(node));
}

static void handle_closed(struct sim_node *node, struct item *item)
{
    struct client_conn *conn = conn_of(node, item->in);
    if (conn == NULL || conn->closed)
        return;
    conn->closed = true;
    core_closed(node->core, conn->core_connection, node_now_ms(node));
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
            core_written(node->core, conn->core_connection, item->out, node_now_ms(node));
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
            core_take_entry(node->core, index, node->applying->term, consensus_entry_batch(node->applying), node_now_ms(node));
        else if (index > applied)
            sim_violation(node->sim, "node %u is to apply %llu after %llu", node->id, (unsigned long long)index,
                          (unsigned long long)applied);
        compare_state(node);
    }
}

void node_forget_closed_conns(struct sim_node *node)
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

/* As the operator's command does, in a turn. */
static void remove_member(struct sim_node *node)
{
    uint32_t leaving = node->leaving;
    node->leaving = 0;
    if (leaving != 0 && !node->failed)
        consensus_remove(node->consensus, leaving);
}

void node_remove_member(struct sim_node *node, uint32_t id)
{
    node->leaving = id;
    node_wake(node);
}

static void turn(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct consensus_status status;
    consensus_advance(node->consensus, node_now_ms(node), node_wall_ms(node));
    remove_member(node);
    disk_sim_run(node->disk, sim_now_us(sim));
    consensus_status(node->consensus, &status);
    core_health(node->core, &status, node_now_ms(node));
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
    core_health(node->core, &status, node_now_ms(node));
    core_turn(node->core, node_now_ms(node));
    consensus_flush(node->consensus);
    node_forget_closed_conns(node);
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
        node_want_turn(node, node->paused_until_us);
        return;
    }
    turn(node);
    if (sim->violation != NULL)
        return;
    if (node->dead || node->failed) {
        node->dead ? faults_node_died(sim, node->id) : faults_node_stopped(sim, node->id);
        return;
    }
    node_remember_promises(node);
    uint64_t next = deadline_us(node);
    if (next != UINT64_MAX)
        node_want_turn(node, next);
}

void node_want_turn(struct sim_node *node, uint64_t at_us)
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

bool node_has_removed(const struct sim_node *node, uint32_t id)
{
    struct consensus_status status;
    if (!node_is_whole(node))
        return false; /* what it knows may have been long ago */
    consensus_status(node->consensus, &status);
    return (status.removed >> id & 1) != 0;
}

bool node_knows_time(const struct sim_node *node)
{
    struct consensus_status status;
    if (!node_is_whole(node))
        return false;
    consensus_status(node->consensus, &status);
    return status.cluster_ms != 0;
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
    node->wall_skew_ms = (int64_t)node_wall_ms(node) - (int64_t)(sim_now_us(node->sim) / SIM_MS) - WALL_START_MS;
    node->wall_drift_permille = permille;
    node->drifts_since_us = sim_now_us(node->sim);
}

struct disk_sim *node_disk(const struct sim_node *node)
{
    return node->disk;
}

void node_wake(struct sim_node *node)
{
    node_want_turn(node, sim_now_us(node->sim));
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

uint64_t node_connections(const struct sim_node *node)
{
    struct core_stats stats = {0};
    if (node->running)
        core_stats(node->core, &stats);
    return stats.connections;
}

uint64_t node_connected(const struct sim_node *node)
{
    struct state_counts counts = {0};
    if (node->running)
        state_counts(node->state, &counts);
    return counts.connected;
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
