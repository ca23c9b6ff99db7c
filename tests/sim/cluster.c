/* cluster.c — a run: a configuration drawn from the seed, a time of faults, then calm in which everything must come right.
 *
 * Checked after every event: one leader per term; a committed entry never changes and is the same everywhere; equal
 * state hash at equal index; what clients are told (history.c, client.c). Checked at the end: all that was pending is
 * done within a bound, nothing acknowledged is lost, all replicas are equal. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/memory.h"
#include "sim.h"

#define CALM_LIMIT_US (180 * SIM_S)   /* from the end of all faults until every client is done */
#define DRAIN_US (5 * SIM_S)           /* without a delivery: all have arrived */

struct committed_entry {
    uint64_t term, hash;         /* term 0: not committed anywhere yet */
};

struct hash_at {
    bool known;
    uint64_t hash[2];
};

struct sim_ledger {
    struct committed_entry *entries;   /* by index */
    struct hash_at *hashes;
    size_t capacity;
    struct { uint64_t term; uint32_t node; } *leaders;
    size_t leader_count, leader_capacity;
};

void sim_violation(struct sim *sim, const char *format, ...)
{
    if (sim->violation != NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    int used = snprintf(sim->violation_text, sizeof sim->violation_text, "at %.6f s: ", (double)sim_now_us(sim) / 1e6);
    vsnprintf(sim->violation_text + used, sizeof sim->violation_text - (size_t)used, format, arguments);
    va_end(arguments);
    sim->violation = sim->violation_text;
}

void sim_note(struct sim *sim, const char *format, ...)
{
    if (!sim->verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "# %12.6f ", (double)sim_now_us(sim) / 1e6);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

void sim_trace(struct sim *sim, uint64_t what, uint64_t value)
{
    uint64_t words[4] = {sim->trace, what, value, sim_now_us(sim)};
    sim->trace = XXH3_64bits(words, sizeof words);
}

/* ---- checks ---- */

static void ledger_reserve(struct sim_ledger *ledger, uint64_t index)
{
    if (index < ledger->capacity)
        return;
    size_t capacity = ledger->capacity > 0 ? ledger->capacity : 1024;
    while (capacity <= index)
        capacity *= 2;
    ledger->entries = memory_resize(ledger->entries, capacity * sizeof *ledger->entries);
    ledger->hashes = memory_resize(ledger->hashes, capacity * sizeof *ledger->hashes);
    memset(ledger->entries + ledger->capacity, 0, (capacity - ledger->capacity) * sizeof *ledger->entries);
    memset(ledger->hashes + ledger->capacity, 0, (capacity - ledger->capacity) * sizeof *ledger->hashes);
    ledger->capacity = capacity;
}

void sim_check_commit(struct sim *sim, uint32_t node, uint64_t index, uint64_t term, struct bytes entry)
{
    struct sim_ledger *ledger = sim->ledger;
    ledger_reserve(ledger, index);
    uint64_t hash = XXH3_64bits(entry.data, entry.size);
    struct committed_entry *known = &ledger->entries[index];
    if (known->term == 0) {
        *known = (struct committed_entry){term, hash};
        sim_trace(sim, 'e', index ^ hash);
    } else if (known->term != term || known->hash != hash) {
        sim_violation(sim, "node %u commits another entry at %" PRIu64 " (term %" PRIu64 ", was %" PRIu64 ")", node, index,
                      term, known->term);
    }
}

void sim_check_hash(struct sim *sim, uint32_t node, uint64_t index, const uint64_t hash[2])
{
    ledger_reserve(sim->ledger, index);
    struct hash_at *known = &sim->ledger->hashes[index];
    if (!known->known) {
        known->known = true;
        memcpy(known->hash, hash, sizeof known->hash);
    } else if (memcmp(known->hash, hash, sizeof known->hash) != 0) {
        sim_violation(sim, "node %u has another state hash at %" PRIu64, node, index);
    }
}

void sim_check_leader(struct sim *sim, uint32_t node, uint64_t term)
{
    struct sim_ledger *ledger = sim->ledger;
    for (size_t i = 0; i < ledger->leader_count; i++) {
        if (ledger->leaders[i].term != term)
            continue;
        if (ledger->leaders[i].node != node)
            sim_violation(sim, "nodes %u and %u both lead in term %" PRIu64, ledger->leaders[i].node, node, term);
        return;
    }
    if (ledger->leader_count == ledger->leader_capacity) {
        ledger->leader_capacity = ledger->leader_capacity > 0 ? 2 * ledger->leader_capacity : 64;
        ledger->leaders = memory_resize(ledger->leaders, ledger->leader_capacity * sizeof *ledger->leaders);
    }
    ledger->leaders[ledger->leader_count].term = term;
    ledger->leaders[ledger->leader_count++].node = node;
    sim->elections++;
    sim_note(sim, "node %u leads in term %" PRIu64, node, term);
}

/* ---- faults ---- */

static uint32_t any_node(struct sim *sim)
{
    return (uint32_t)random_between(&sim->schedule_random, 1, sim->config.nodes);
}

static void restart(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    if (!node_running(sim->node[key]))
        sim_note(sim, "node %" PRIu64 " starts", key);
    node_start(sim->node[key]);
}

static void crash(struct sim *sim, uint32_t id, bool power_loss)
{
    sim_note(sim, "node %u %s", id, power_loss ? "loses power" : "is killed");
    power_loss ? sim->power_losses++ : sim->crashes++;
    node_crash(sim->node[id], power_loss);
    uint64_t gap = random_chance(&sim->schedule_random, 700) ? 500 * SIM_MS : 10 * SIM_S;
    schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->schedule_random, SIM_MS, gap), restart, id, NULL);
}

/* One at a time: the next one only when this one is whole again. That much a cluster must be able to lose. */
static void wipe(struct sim *sim)
{
    uint32_t id = any_node(sim);
    for (uint32_t other = 1; other <= sim->config.nodes; other++)
        if (!node_is_member(sim->node[other]))
            return;
    sim_note(sim, "node %u loses its data", id);
    sim->wipes++;
    node_crash(sim->node[id], true);
    node_wipe(sim->node[id]);
    schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->schedule_random, SIM_MS, 3 * SIM_S), restart, id,
                 NULL);
}

static void heal_network(void *world, uint64_t key, void *data)
{
    (void)key;
    (void)data;
    sim_note(world, "the network heals");
    network_heal(world);
}

static void partition(struct sim *sim)
{
    sim->partitions++;
    uint32_t one = any_node(sim), other = any_node(sim);
    uint64_t kind = random_below(&sim->schedule_random, 5);
    for (uint32_t peer = 1; peer <= sim->config.nodes; peer++) {
        if (peer == one)
            continue;
        bool cut_out = kind == 0 || kind == 1 || (kind == 3 && random_chance(&sim->schedule_random, 500)) ||
                       (kind == 4 && peer == other);
        bool cut_in = kind == 0 || kind == 2 || (kind == 3 && random_chance(&sim->schedule_random, 500));
        network_cut(sim, one, peer, cut_out);
        network_cut(sim, peer, one, cut_in);
    }
    sim_note(sim, "partition of kind %" PRIu64 " around node %u", kind, one);
    uint64_t length = random_chance(&sim->schedule_random, 500) ? 400 * SIM_MS : 8 * SIM_S;
    schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->schedule_random, 10 * SIM_MS, length),
                 heal_network, 0, NULL);
}

static void pause_node(struct sim *sim)
{
    uint32_t id = any_node(sim);
    uint64_t length = random_chance(&sim->schedule_random, 700) ? 300 * SIM_MS : 6 * SIM_S;
    length = random_between(&sim->schedule_random, 10 * SIM_MS, length);
    sim_note(sim, "node %u is paused for %.3f s", id, (double)length / 1e6);
    sim->pauses++;
    node_pause(sim->node[id], sim_now_us(sim) + length);
}

static void fault(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    const struct sim_config *config = &sim->config;
    if (sim->calm)
        return;
    switch (random_below(&sim->schedule_random, 9)) {
    case 0:
        if (config->crashes)
            crash(sim, any_node(sim), false);
        break;
    case 1:
        if (config->crashes && random_chance(&sim->schedule_random, 250))
            for (uint32_t id = 1; id <= config->nodes; id++)
                crash(sim, id, config->power_losses && random_chance(&sim->schedule_random, 500));
        break;
    case 2:
        if (config->power_losses)
            crash(sim, any_node(sim), true);
        break;
    case 3:
        if (config->partitions)
            partition(sim);
        break;
    case 4:
        if (config->pauses)
            pause_node(sim);
        break;
    case 5:
        if (config->clock_steps)
            node_step_clock(sim->node[any_node(sim)],
                            (int64_t)random_below(&sim->schedule_random, 7200000) - 3600000);
        break;
    case 6:
        if (config->breaks) {
            uint32_t a = any_node(sim), b = any_node(sim);
            if (a != b)
                network_disconnect(sim, a, b, (int)random_below(&sim->schedule_random, 2));
        }
        break;
    case 7:
        if (config->client_cuts)
            for (uint32_t i = 0; i < config->clients; i++)
                if (random_chance(&sim->schedule_random, 300))
                    client_model_cut(sim->client[i]);
        break;
    case 8:
        if (config->wipes)
            wipe(sim);
        break;
    }
    uint64_t gap = random_between(&sim->schedule_random, 1, 2 * config->fault_gap_us);
    schedule_add(sim->schedule, sim_now_us(sim) + gap, fault, key, NULL);
}

/* ---- a run ---- */

static void draw_config(struct sim *sim)
{
    struct random draw = random_stream(sim->seed, 99);
    struct sim_config *config = &sim->config;
    config->nodes = random_chance(&draw, 800) ? 3 : 5;
    config->clients = (uint32_t)random_between(&draw, 2, 12);
    config->broadcast = random_chance(&draw, 300);
    if (config->broadcast)
        config->clients += 10;
    config->topics = (uint32_t)random_between(&draw, 3, 8);
    config->safety_us = random_between(&draw, 10, 60) * SIM_S;
    static const uint64_t gaps_ms[] = {100, 300, 1000, 3000, 10000};
    config->fault_gap_us = gaps_ms[random_below(&draw, 5)] * SIM_MS;
    config->latency_us = (uint32_t)random_between(&draw, 30, 2000);
    config->jitter_us = (uint32_t)random_between(&draw, 10, 5000);
    config->spike_permille = random_chance(&draw, 300) ? (uint32_t)random_between(&draw, 1, 20) : 0;
    config->disk_us = (uint32_t)random_between(&draw, 100, 5000);
    config->crashes = random_chance(&draw, 700);
    config->power_losses = random_chance(&draw, 500);
    config->partitions = random_chance(&draw, 600);
    config->pauses = random_chance(&draw, 400);
    config->clock_steps = random_chance(&draw, 300);
    config->breaks = random_chance(&draw, 500);
    config->client_cuts = random_chance(&draw, 700);
    config->publish_gap_us = (uint32_t)random_between(&draw, 2, 200) * 1000;
    config->payload_bytes = random_chance(&draw, 900) ? (uint32_t)random_between(&draw, 8, 100)
                                                      : (uint32_t)random_between(&draw, 2000, 20000);
    config->window = (uint32_t)random_between(&draw, 1, 40);
    config->receive_maximum = random_chance(&draw, 500) ? 65535 : (uint32_t)random_between(&draw, 1, 20);
    config->log_bytes_max = random_chance(&draw, 500) ? (uint32_t)random_between(&draw, 100, 2000) * 1024 : 0;
    config->resubscribe = random_chance(&draw, 400);
    config->shared = random_chance(&draw, 400);
    config->wipes = random_chance(&draw, 400);
}

struct sim *sim_new(uint64_t seed, bool verbose)
{
    struct sim *sim = memory_zeroed(1, sizeof *sim);
    sim->seed = seed;
    sim->verbose = verbose;
    draw_config(sim);
    sim->schedule = schedule_new();
    sim->schedule_random = random_stream(seed, 1);
    sim->network_random = random_stream(seed, 2);
    sim->disk_random = random_stream(seed, 3);
    sim->workload_random = random_stream(seed, 4);
    sim->history = history_new(sim->config.clients, SIM_GROUPS);
    sim->ledger = memory_zeroed(1, sizeof *sim->ledger);
    snprintf(sim->directory, sizeof sim->directory, "%s/coterie-sim-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(sim->directory) == NULL) {
        perror(sim->directory);
        exit(2);
    }
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        sim->node[id] = node_new(sim, id);
    sim->network = network_new(sim);
    sim->client = memory_zeroed(sim->config.clients, sizeof(struct sim_client *));
    for (uint32_t i = 0; i < sim->config.clients; i++)
        sim->client[i] = client_model_new(sim, i);
    return sim;
}

static void run_until(struct sim *sim, uint64_t until_us)
{
    while (sim->violation == NULL && schedule_run_next(sim->schedule, sim, until_us))
        continue;
}

static bool all_done(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config.clients; i++)
        if (!client_model_idle(sim->client[i]))
            return false;
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        if (!node_quiet(sim->node[id]) || !node_is_member(sim->node[id]) || node_applied(sim->node[id]) + 50 < node_applied(sim->node[1]))
            return false;
    return true;
}

/* Until nothing has been delivered for a while: a client with a receive maximum of 1 takes its time. */
static void drain(struct sim *sim)
{
    struct history_counts before, after;
    do {
        history_counts(sim->history, &before);
        run_until(sim, sim_now_us(sim) + DRAIN_US);
        history_counts(sim->history, &after);
    } while (sim->violation == NULL && after.delivered > before.delivered);
}

static void calm_down(struct sim *sim)
{
    sim_note(sim, "calm");
    sim->calm = true;
    network_heal(sim);
    for (uint32_t id = 1; id <= sim->config.nodes; id++) {
        node_pause(sim->node[id], 0);
        node_start(sim->node[id]);
    }
    uint64_t limit = sim_now_us(sim) + CALM_LIMIT_US;
    do {
        run_until(sim, sim_now_us(sim) + SIM_S);
        if (sim_now_us(sim) > limit) {
            char who[300] = "every client is done, but not every node";
            for (uint32_t i = sim->config.clients; i-- > 0;)
                if (!client_model_idle(sim->client[i]))
                    client_model_describe(sim->client[i], who, sizeof who);
            sim_violation(sim, "not everything is done %llu s after the last fault: %s", CALM_LIMIT_US / SIM_S, who);
        }
    } while (sim->violation == NULL && !all_done(sim));
    drain(sim);
}

static void check_final_state(struct sim *sim)
{
    for (uint32_t id = 1; id <= sim->config.nodes && sim->violation == NULL; id++) {
        uint64_t index, hash[2];
        node_final_hash(sim->node[id], &index, hash);
        sim_check_hash(sim, id, index, hash);
    }
    const char *lost = history_check(sim->history);
    if (lost != NULL)
        sim_violation(sim, "%s", lost);
}

static void note_config(struct sim *sim)
{
    const struct sim_config *config = &sim->config;
    sim_note(sim, "%u nodes, %u clients, %u topics, window %u, receive maximum %u, payload %u, log %u%s%s%s", config->nodes,
             config->clients, config->topics, config->window, config->receive_maximum, config->payload_bytes,
             config->log_bytes_max, config->broadcast ? ", broadcast" : "", config->shared ? ", shared" : "",
             config->resubscribe ? ", resubscribing" : "");
}

void sim_run(struct sim *sim)
{
    note_config(sim);
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        node_start(sim->node[id]);
    for (uint32_t i = 0; i < sim->config.clients; i++)
        client_model_start(sim->client[i]);
    schedule_add(sim->schedule, 2 * SIM_S, fault, 0, NULL);
    run_until(sim, 2 * SIM_S + sim->config.safety_us);
    if (sim->violation == NULL)
        calm_down(sim);
    if (sim->violation == NULL)
        check_final_state(sim);
}

void sim_free(struct sim *sim)
{
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        node_free(sim->node[id]);
    for (uint32_t i = 0; i < sim->config.clients; i++)
        client_model_free(sim->client[i]);
    network_free(sim->network);
    schedule_free(sim->schedule);
    history_free(sim->history);
    free(sim->ledger->entries);
    free(sim->ledger->hashes);
    free(sim->ledger->leaders);
    free(sim->ledger);
    free(sim->client);
    rmdir(sim->directory);
    free(sim);
}
