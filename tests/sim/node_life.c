/* node_life.c — a simulated node's lives: it starts from what its disk has, crashes, loses its power, is wiped. Part of
 * node.c; as node/data.c and node/broker_start.c do it for a real one. */
#include <assert.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "log_format.h"
#include "node_private.h"

/* As many records as one bad sector can touch: they begin at multiples of 8, and the first may begin before it. */
#define SECTOR_RECORDS_MAX (DISK_SECTOR / LOG_RECORD_OVERHEAD + 1)

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

/* What a node has acknowledged is there after any restart, or it knows that it is not. */
void node_remember_promises(struct sim_node *node)
{
    uint64_t durable = log_durable(node->log), index = durable < node->last_committed ? durable : node->last_committed;
    node->marked = log_marked(node->log);
    if (index <= node->promised.index)
        return;
    node->promised.index = index;
    node->promised.term = log_term_of(node->log, index);
}

/* Rot that makes the end of the log look as if it had never been written cannot be told from that (log_format.h): no more
 * can be asked of the log, and the operator replaces the node. But one bad sector takes no more along than the last flush,
 * since that one bears a mark for all before it, or than lies in that sector with it. Two bad ones may take more. */
static bool may_have_lost(const struct sim_node *node, uint64_t last)
{
    unsigned rots = faults_rots(node->sim, node->id);
    return rots > 1 || (rots == 1 && (last >= node->marked || node->promised.index - last <= SECTOR_RECORDS_MAX));
}

static void check_promises(struct sim_node *node, uint64_t covered)
{
    uint64_t index = node->promised.index;
    if (log_owed(node->log) != 0 || index <= covered)
        return;
    if (log_last(node->log) < index && may_have_lost(node, log_last(node->log))) {
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
    node_make_core(node);
    node_make_consensus(node, newest);
    enum status status = consensus_start(node->consensus, node_now_ms(node), node_wall_ms(node));
    if (status != STATUS_OK && !faults_disk_is_bad(node->sim, node->id))
        sim_violation(node->sim, "node %u does not start: %s", node->id, status_text(status));
    node->failed = node->failed || status != STATUS_OK;
    node->ever_started = true;
    node_want_turn(node, sim_now_us(node->sim));
}

/* Makes a store of the newest snapshot, or an empty one. */
void node_load_store(struct sim_node *node, uint64_t index)
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

/* A store that the log does not go on from is made anew from the snapshot (node/data.c). */
static bool open_state(struct sim_node *node, const struct consensus_snapshot *newest)
{
    uint64_t snapshot = newest->index;
    bool replaces = snapshot > 0 && log_term_of(node->log, snapshot) != newest->term;
    uint64_t first = replaces ? snapshot + 1 : log_first(node->log);
    if (node->store == NULL)
        node_load_store(node, snapshot);
    bool open = state_open(node->store, node->id, &node->state) == STATUS_OK;
    if (open && state_applied(node->state) + 1 < first) {
        sim_note(node->sim, "node %u: its store is older than its log", node->id);
        state_close(node->state);
        node_load_store(node, snapshot);
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
    node->doom = node->leaving = 0;
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
    node_forget_closed_conns(node);
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
    node->doom = node->leaving = 0;
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
    node->last_committed = node->promised.index = node->marked = 0;
    node->life = (struct node_life){node->life.number + 1, random_next(&node->sim->schedule_random) | 1};
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
