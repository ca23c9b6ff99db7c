/* cluster.c — a run, in phases:
 *
 *   warm-up    2 s without faults
 *   safety     faults of the kinds that the seed has drawn; nothing needs to make progress
 *   liveness   a majority that is whole is healed, the others stay as they are: what clients of the majority have on
 *              their way must be answered within seconds
 *   calm       all is healed: within a minute everything is done, and all that was owed has been delivered
 *
 * Checked at every event: what ledger.c, history.c, client.c and node.c say. At the end: nothing acknowledged is lost, wills
 * came as often as they should, registers are linearizable, the rows of each state fit together, all replicas are equal, and
 * no session is taken for connected whose connection is gone. */

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

#include "base/buggify.h"
#include "base/memory.h"
#include "node/client/inflight.h"
#include "sim.h"

#define WARM_UP_US (2 * SIM_S)
#define LIVE_US (10 * SIM_S)          /* and some election timeouts: for what was on its way when the majority was healed */
#define CALM_US (60 * SIM_S)          /* from the end of all faults until every client is done */
#define DRAIN_US (8 * SIM_S)          /* without a delivery: all have arrived, delayed wills too */

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

static void note_nodes(struct sim *sim)
{
    char text[300];
    for (uint32_t id = 1; id <= sim->config.nodes && sim->verbose; id++) {
        node_describe(sim->node[id], text, sizeof text);
        sim_note(sim, "%s", text);
    }
}

void sim_trace(struct sim *sim, uint64_t what, uint64_t value)
{
    uint64_t words[4] = {sim->trace, what, value, sim_now_us(sim)};
    sim->trace = XXH3_64bits(words, sizeof words);
}

/* ---- life ---- */

static void make_directory(struct sim *sim)
{
    snprintf(sim->directory, sizeof sim->directory, "%s/coterie-sim-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(sim->directory) == NULL) {
        perror(sim->directory);
        exit(2);
    }
}

/* Some of the points, drawn for the run, are taken with the chance that the run has drawn. */
#ifdef COTERIE_BUGGIFY
static struct sim *buggified;

static bool is_taken(enum buggify_point point)
{
    struct random *random = &buggified->buggify_random;
    return !buggified->calm && ((buggified->buggify_points >> point) & 1) != 0 &&
           random_chance(random, buggified->config.buggify_permille);
}

static void draw_buggify(struct sim *sim)
{
    sim->buggify_random = random_stream(sim->seed, 5);
    sim->buggify_points = random_next(&sim->buggify_random);
    buggified = sim;
    buggify_hook = sim->config.buggify_permille > 0 ? is_taken : NULL;
    inflight_packet_ids = sim->config.packet_ids > 0 ? (uint32_t)sim->config.packet_ids : 65535;
}
#else
static void draw_buggify(struct sim *sim)
{
    (void)sim;
}
#endif

struct sim *sim_new(uint64_t seed, const struct sim_config *config, struct coverage *coverage, bool verbose)
{
    struct sim *sim = memory_zeroed(1, sizeof *sim);
    sim->seed = seed;
    sim->config = *config;
    sim->verbose = verbose;
    sim->coverage = coverage;
    sim->schedule = schedule_new();
    sim->schedule_random = random_stream(seed, 1);
    sim->network_random = random_stream(seed, 2);
    sim->disk_random = random_stream(seed, 3);
    sim->workload_random = random_stream(seed, 4);
    draw_buggify(sim);
    sim->history = history_new((uint32_t)config->clients, SIM_GROUPS);
    if (config->queue_messages_max > 0)
        history_queues_are_limited(sim->history);
    sim->ledger = ledger_new();
    sim->core = ((UINT64_C(1) << config->nodes) - 1) << 1;
    make_directory(sim);
    for (uint32_t id = 1; id <= config->nodes; id++)
        sim->node[id] = node_new(sim, id);
    sim->faults = faults_new(sim);
    sim->network = network_new(sim);
    sim->client = memory_zeroed(config->clients, sizeof(struct sim_client *));
    for (uint32_t i = 0; i < config->clients; i++)
        sim->client[i] = client_model_new(sim, i);
    sim->registers = register_new(sim);
    sim->visitor = visitor_new(sim, (uint32_t)config->clients + SIM_REGISTER_CLIENTS);
    return sim;
}

void sim_free(struct sim *sim)
{
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        node_free(sim->node[id]);
    for (uint32_t i = 0; i < sim->config.clients; i++)
        client_model_free(sim->client[i]);
    register_free(sim->registers);
    visitor_free(sim->visitor);
    network_free(sim->network);
    faults_free(sim->faults);
    schedule_free(sim->schedule);
    history_free(sim->history);
    ledger_free(sim->ledger);
    free(sim->client);
    rmdir(sim->directory);
    free(sim);
}

/* ---- phases ---- */

static void run_until(struct sim *sim, uint64_t until_us)
{
    while (sim->violation == NULL && schedule_run_next(sim->schedule, sim, until_us))
        continue;
}

static uint64_t everybody(const struct sim *sim)
{
    return ((UINT64_C(1) << sim->config.nodes) - 1) << 1;
}

/* A majority of nodes that are whole; 0 if there is none. */
static uint64_t choose_core(struct sim *sim)
{
    uint64_t core = 0;
    uint32_t nodes = (uint32_t)sim->config.nodes, first = (uint32_t)random_below(&sim->schedule_random, nodes), count = 0;
    for (uint32_t i = 0; i < nodes && count <= nodes / 2; i++) {
        uint32_t id = (first + i) % nodes + 1;
        if (!node_is_whole(sim->node[id]))
            continue;
        core |= UINT64_C(1) << id;
        count++;
    }
    return count > nodes / 2 ? core : 0;
}

static const struct sim_client *busy_client(const struct sim *sim, bool of_core_only)
{
    for (uint32_t i = 0; i < sim->config.clients; i++) {
        uint32_t node = client_model_node(sim->client[i]);
        bool counts = !of_core_only || (node != 0 && ((sim->core >> node) & 1) != 0);
        if (counts && !client_model_idle(sim->client[i]))
            return sim->client[i];
    }
    return NULL;
}

/* Outsiders stay what they are: dead, paused, slow, or well; but one that leads, and is heard by a part of the majority only,
 * would be in its way, so all are cut off. Clients may be held by one of them. */
static void liveness(struct sim *sim)
{
    uint64_t core = choose_core(sim);
    sim->calm = true;
    if (core == 0)
        return;
    sim_note(sim, "liveness: the core is %llx", (unsigned long long)core);
    sim->core = core;
    faults_heal(sim, core);
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        network_isolate(sim, id, ((core >> id) & 1) == 0);
    uint64_t limit = sim_now_us(sim) + LIVE_US + 10 * sim->config.election_ms * SIM_MS;
    const struct sim_client *busy;
    do {
        run_until(sim, sim_now_us(sim) + 250 * SIM_MS);
        busy = busy_client(sim, true);
    } while (sim->violation == NULL && busy != NULL && sim_now_us(sim) < limit);
    char who[300];
    if (busy != NULL && sim->violation == NULL) {
        client_model_describe(busy, who, sizeof who);
        note_nodes(sim);
        sim_violation(sim, "a client of the healed majority still waits: %s", who);
    }
}

/* Sessions that are connected without a connection would never end, and their wills never be published. */
static bool has_orphans(const struct sim *sim, const struct sim_node *node)
{
    uint64_t open = 0;
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        open += node_connections(sim->node[id]);
    return node_connected(node) > open;
}

static const char *unfinished_node(const struct sim *sim, char *text, size_t size)
{
    for (uint32_t id = 1; id <= sim->config.nodes; id++) {
        const struct sim_node *node = sim->node[id];
        const char *what = !node_quiet(node)       ? "has work left"
                           : !node_is_whole(node) ? "is not whole"
                           : node_applied(node) + 50 < ledger_last(sim->ledger) ? "lags behind"
                           : has_orphans(sim, node) ? "has sessions that are connected without a connection" : NULL;
        if (what != NULL) {
            snprintf(text, size, "node %u %s", id, what);
            return text;
        }
    }
    return NULL;
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
    sim->core = everybody(sim);
    faults_heal(sim, sim->core);
    uint64_t limit = sim_now_us(sim) + CALM_US;
    const struct sim_client *busy;
    char who[300];
    const char *node;
    do {
        run_until(sim, sim_now_us(sim) + SIM_S);
        busy = busy_client(sim, false);
        node = unfinished_node(sim, who, sizeof who);
        if (sim_now_us(sim) < limit || (busy == NULL && node == NULL) || sim->violation != NULL)
            continue;
        note_nodes(sim);
        if (busy != NULL)
            client_model_describe(busy, who, sizeof who);
        sim_violation(sim, "not everything is done %llu s after the last fault: %s", CALM_US / SIM_S, who);
    } while (sim->violation == NULL && (busy != NULL || node != NULL));
    if (sim->violation == NULL)
        drain(sim);
}

static void check_final_state(struct sim *sim)
{
    uint64_t dropped = 0, ended = 0;
    const char *wrong = NULL;
    for (uint32_t id = 1; id <= sim->config.nodes && sim->violation == NULL; id++) {
        uint64_t index, hash[2];
        node_final_hash(sim->node[id], &index, hash);
        ledger_hash(sim, id, index, hash);
        wrong = node_check(sim->node[id], &dropped, &ended);
        if (wrong != NULL)
            sim_violation(sim, "node %u: %s", id, wrong);
    }
    for (uint32_t i = 0; i < sim->config.clients; i++)
        client_model_rest(sim->client[i]);
    wrong = history_check(sim->history, dropped, ended);
    if (wrong == NULL)
        wrong = register_check(sim->registers);
    if (wrong != NULL)
        sim_violation(sim, "%s", wrong);
}

static void note_field(void *context, const char *name, uint64_t value)
{
    if (value != 0)
        sim_note(context, "  %s=%" PRIu64, name, value);
}

void sim_run(struct sim *sim)
{
    config_each(&sim->config, note_field, sim);
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        node_start(sim->node[id]);
    for (uint32_t i = 0; i < sim->config.clients; i++)
        client_model_start(sim->client[i]);
    register_start(sim->registers);
    visitor_start(sim->visitor);
    run_until(sim, WARM_UP_US);
    faults_start(sim);
    run_until(sim, WARM_UP_US + sim->config.safety_ms * SIM_MS);
    if (sim->violation == NULL)
        liveness(sim);
    if (sim->violation == NULL)
        calm_down(sim);
    if (sim->violation == NULL)
        check_final_state(sim);
}
