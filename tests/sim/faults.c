/* faults.c — what goes wrong in a run: one fault after another, of the kinds that the seed has drawn, each with an end of
 * its own. To add a kind: a name in config.h and config.c, a function here, and its row in the table.
 *
 * One draw to an expression: in which order the arguments of a call are computed is up to the compiler.
 *
 * What is never done, because nobody promises to survive it: losing what a majority has on its disks. Rot, misdirected
 * writes and wipes therefore wait until every other node is whole. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "sim.h"
#include "world/disk_sim.h"

struct sim_faults {
    bool down[SIM_NODES_MAX + 1];        /* stays down until faults_heal() */
    bool bad_disk[SIM_NODES_MAX + 1];    /* has met a fault of its disk since it was started last */
    bool begun;
    uint32_t target;                     /* the next fault is for this node; 0: for any */
    uint32_t rotten;                     /* the one node on whose disk something may have rotted; 0: none */
    unsigned rots;                       /* so many times */
    uint64_t rotten_generation;          /* a later start has read, and repaired, everything */
};

static struct random *chance(struct sim *sim)
{
    return &sim->schedule_random;
}

static uint32_t any_node(struct sim *sim)
{
    uint32_t target = sim->faults->target;
    sim->faults->target = 0;
    return target != 0 ? target : (uint32_t)random_between(chance(sim), 1, sim->config.nodes);
}

/* Mostly up to `usual_ms`, now and then up to `long_ms`. */
static uint64_t a_while(struct sim *sim, uint64_t usual_ms, uint64_t long_ms)
{
    uint64_t most = random_chance(chance(sim), 700) ? usual_ms : long_ms;
    return random_between(chance(sim), SIM_MS, most * SIM_MS);
}

static void later(struct sim *sim, uint64_t delay_us, schedule_action *action, uint64_t key)
{
    schedule_add(sim->schedule, sim_now_us(sim) + delay_us, action, key, NULL);
}

/* Counts a fault that strikes `node`, with what it meets there. */
static void strikes(struct sim *sim, enum fault fault, uint32_t node)
{
    unsigned phases = node_phases(sim->node[node]);
    for (uint32_t i = 0; i < sim->config.clients; i++)
        if (client_model_node(sim->client[i]) == node)
            phases |= client_model_phases(sim->client[i]);
    coverage_met(sim->coverage, fault, phases);
    sim->counts.faults++;
    sim_note(sim, "%s: node %u", fault_name(fault), node);
}

/* ---- nodes that die ---- */

static void restart(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    if (node_running(sim->node[key]) || sim->faults->down[key])
        return;
    sim_note(sim, "node %llu starts", (unsigned long long)key);
    node_start(sim->node[key]);
}

static void crash(struct sim *sim, uint32_t id, bool power_loss)
{
    power_loss ? sim->counts.power_losses++ : sim->counts.kills++;
    node_crash(sim->node[id], power_loss);
    later(sim, random_chance(chance(sim), 900) ? a_while(sim, 500, 10000) : a_while(sim, 60000, 60000), restart, id);
}

static void fault_kill(struct sim *sim)
{
    uint32_t id = any_node(sim);
    strikes(sim, FAULT_KILL, id);
    crash(sim, id, false);
}

static void fault_kill_mid_step(struct sim *sim)
{
    uint32_t id = any_node(sim);
    node_doom(sim->node[id], (uint32_t)random_between(chance(sim), 1, 12));
}

void faults_node_died(struct sim *sim, uint32_t node)
{
    strikes(sim, FAULT_KILL_MID_STEP, node);
    crash(sim, node, false);
}

static void fault_power(struct sim *sim)
{
    uint32_t id = any_node(sim);
    strikes(sim, FAULT_POWER, id);
    crash(sim, id, true);
}

static void fault_all_down(struct sim *sim)
{
    uint64_t power_permille = random_below(chance(sim), 3) * 500;
    for (uint32_t id = 1; id <= sim->config.nodes; id++) {
        strikes(sim, FAULT_ALL_DOWN, id);
        crash(sim, id, random_chance(chance(sim), power_permille));
    }
}

static void crash_again(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    uint32_t id = (uint32_t)(key & 0xff), left = (uint32_t)(key >> 8);
    if (sim->calm || sim->faults->down[id])
        return;
    if (node_running(sim->node[id])) {
        strikes(sim, FAULT_CRASH_LOOP, id);
        crash(sim, id, random_chance(chance(sim), 200));
    }
    if (left > 0)
        later(sim, a_while(sim, 800, 800), crash_again, id | ((uint64_t)(left - 1) << 8));
}

static void fault_crash_loop(struct sim *sim)
{
    uint32_t id = any_node(sim);
    crash_again(sim, id | (random_between(chance(sim), 2, 8) << 8), NULL);
}

static void forget_rot(struct sim_faults *faults)
{
    faults->rotten = 0;
    faults->rots = 0;
}

/* One at a time: the next one only when this one is whole again. That much a cluster must be able to lose. */
static bool others_are_whole(struct sim *sim, uint32_t id)
{
    struct sim_faults *faults = sim->faults;
    if (faults->rotten != 0 && node_is_whole(sim->node[faults->rotten]) &&
        node_generation(sim->node[faults->rotten]) > faults->rotten_generation)
        forget_rot(faults);
    for (uint32_t other = 1; other <= sim->config.nodes; other++)
        if (other != id && (!node_is_whole(sim->node[other]) || other == faults->rotten))
            return false;
    return true;
}

/* That much a cluster must be able to lose: all of one member. */
static bool can_lose(struct sim *sim, uint32_t id)
{
    return others_are_whole(sim, id) && node_is_member(sim->node[id]);
}

static void wipe(struct sim *sim, uint32_t id)
{
    sim->counts.wipes++;
    node_crash(sim->node[id], true);
    node_wipe(sim->node[id]);
    if (sim->faults->rotten == id)
        forget_rot(sim->faults);
}

static void fault_wipe(struct sim *sim)
{
    uint32_t id = any_node(sim);
    if (!can_lose(sim, id))
        return;
    strikes(sim, FAULT_WIPE, id);
    wipe(sim, id);
    later(sim, a_while(sim, 3000, 30000), restart, id);
}

/* All are asked, again and again, until it is started. */
static void take_out(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    uint32_t leaving = (uint32_t)(key & 0xff);
    uint64_t ignored, generation = key >> 8;
    if (sim->calm || node_generation(sim->node[leaving]) != generation)
        return;
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        if (node_running(sim->node[id]) && node_awake(sim->node[id], &ignored))
            node_remove_member(sim->node[id], leaving);
    later(sim, 500 * SIM_MS, take_out, key);
}

static bool was_taken_out(struct sim *sim, uint32_t id)
{
    for (uint32_t other = 1; other <= sim->config.nodes; other++)
        if (node_has_removed(sim->node[other], id))
            return true;
    return false;
}

/* It was started with what it had, and takes no part: until its operator makes it a replacement. */
static void join_again(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    uint32_t id = (uint32_t)(key & 0xff);
    if (node_life(sim->node[id]).number != key >> 8)
        return;
    if (!was_taken_out(sim, id) || sim->faults->down[id]) {
        later(sim, 3 * SIM_S, join_again, key); /* it may be yet: what a leader has begun, the next one may go on with */
        return;
    }
    wipe(sim, id);
    restart(sim, id, NULL);
}

static void fault_remove(struct sim *sim)
{
    uint32_t id = any_node(sim);
    if (!can_lose(sim, id))
        return;
    strikes(sim, FAULT_REMOVE, id);
    if (random_chance(chance(sim), 500)) {
        wipe(sim, id);
    } else {
        node_crash(sim->node[id], random_chance(chance(sim), 500));
        later(sim, 30 * SIM_S, join_again, id | node_life(sim->node[id]).number << 8);
    }
    later(sim, SIM_S, take_out, id | node_generation(sim->node[id]) << 8);
    later(sim, a_while(sim, 6000, 30000), restart, id);
}

/* ---- nodes that are slow, or out of time ---- */

static void fault_pause(struct sim *sim)
{
    uint32_t id = any_node(sim);
    uint64_t length = random_between(chance(sim), 10 * SIM_MS, a_while(sim, 400, 30000) + 10 * SIM_MS);
    strikes(sim, FAULT_PAUSE, id);
    sim->counts.pauses++;
    node_pause(sim->node[id], sim_now_us(sim) + length);
}

static void fast_again(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    node_slow(sim->node[key], 0);
}

static void fault_slow_cpu(struct sim *sim)
{
    uint32_t id = any_node(sim);
    strikes(sim, FAULT_SLOW_CPU, id);
    node_slow(sim->node[id], SIM_MS << random_below(chance(sim), 6));
    later(sim, a_while(sim, 2000, 20000), fast_again, id);
}

static void fault_clock_step(struct sim *sim)
{
    uint32_t id = any_node(sim);
    strikes(sim, FAULT_CLOCK_STEP, id);
    node_step_clock(sim->node[id], (int64_t)random_below(chance(sim), 7200000) - 3600000);
}

static void fault_clock_drift(struct sim *sim)
{
    uint32_t id = any_node(sim);
    strikes(sim, FAULT_CLOCK_DRIFT, id);
    node_drift_clock(sim->node[id], (int64_t)random_below(chance(sim), 101) - 50);
}

/* ---- networks ---- */

static uint64_t everybody(const struct sim *sim)
{
    return ((UINT64_C(1) << sim->config.nodes) - 1) << 1;
}

static void heal_network(void *world, uint64_t key, void *data)
{
    (void)key;
    (void)data;
    struct sim *sim = world;
    if (sim->calm)
        return;
    sim_note(sim, "the network heals");
    network_heal(sim, everybody(sim));
}

static void begin_partition(struct sim *sim, enum fault fault)
{
    sim->counts.partitions++;
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        strikes(sim, fault, id);
    later(sim, a_while(sim, 2000, 20000), heal_network, 0);
}

static void cut_both(struct sim *sim, uint32_t a, uint32_t b)
{
    network_cut(sim, a, b, true);
    network_cut(sim, b, a, true);
}

static void fault_isolate(struct sim *sim)
{
    begin_partition(sim, FAULT_ISOLATE);
    network_isolate(sim, any_node(sim), true);
}

/* Neighbours see each other. Of three nodes two do not. */
static void fault_ring(struct sim *sim)
{
    begin_partition(sim, FAULT_RING);
    uint32_t nodes = (uint32_t)sim->config.nodes, first = any_node(sim) - 1;
    for (uint32_t i = 0; i < nodes; i++)
        for (uint32_t j = i + 2; j < nodes && j - i < nodes - 1 + (nodes == 3); j++)
            cut_both(sim, (first + i) % nodes + 1, (first + j) % nodes + 1);
}

static void fault_bridge(struct sim *sim)
{
    begin_partition(sim, FAULT_BRIDGE);
    uint32_t nodes = (uint32_t)sim->config.nodes, bridge = any_node(sim);
    for (uint32_t i = 1; i < nodes; i++)
        for (uint32_t j = i + 1; j < nodes; j++)
            if (i <= nodes / 2 && j > nodes / 2)
                cut_both(sim, (bridge - 1 + i) % nodes + 1, (bridge - 1 + j) % nodes + 1);
}

static void fault_split(struct sim *sim)
{
    begin_partition(sim, FAULT_SPLIT);
    uint64_t side = random_next(chance(sim));
    for (uint32_t a = 1; a <= sim->config.nodes; a++)
        for (uint32_t b = a + 1; b <= sim->config.nodes; b++)
            if (((side >> a) & 1) != ((side >> b) & 1))
                cut_both(sim, a, b);
}

static void fault_one_way(struct sim *sim)
{
    begin_partition(sim, FAULT_ONE_WAY);
    uint32_t one = any_node(sim), only = random_chance(chance(sim), 300) ? any_node(sim) : 0;
    bool out = random_chance(chance(sim), 500);
    for (uint32_t peer = 1; peer <= sim->config.nodes; peer++)
        if (peer != one && (only == 0 || peer == only))
            network_cut(sim, out ? one : peer, out ? peer : one, true);
}

struct flapping {
    uint32_t node;
    unsigned left;
};

static void flap(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct flapping *flapping = data;
    if (sim->calm)
        return;
    bool isolated = key != 0;
    network_isolate(sim, flapping->node, isolated);
    if (flapping->left == 0)
        return;
    struct flapping *next = memory_allocate(sizeof *next);
    *next = (struct flapping){flapping->node, flapping->left - 1};
    uint64_t period = random_between(chance(sim), sim->config.election_ms / 2, 2 * sim->config.election_ms);
    schedule_add(sim->schedule, sim_now_us(sim) + period * SIM_MS, flap, next->left % 2, next);
}

static void fault_flap(struct sim *sim)
{
    uint32_t id = any_node(sim);
    strikes(sim, FAULT_FLAP, id);
    sim->counts.partitions++;
    struct flapping *first = memory_allocate(sizeof *first);
    *first = (struct flapping){id, 2 * (unsigned)random_between(chance(sim), 2, 10)};
    schedule_add(sim->schedule, sim_now_us(sim), flap, 1, first);
}

static void isolate_one(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    if (!sim->calm)
        network_isolate(sim, (uint32_t)(key >> 1), (key & 1) != 0);
}

static void fault_swizzle(struct sim *sim)
{
    sim->counts.partitions++;
    uint64_t longest = a_while(sim, 2000, 10000) + SIM_MS;
    for (uint32_t id = 1; id <= sim->config.nodes; id++) {
        if (!random_chance(chance(sim), 600))
            continue;
        strikes(sim, FAULT_SWIZZLE, id);
        later(sim, random_below(chance(sim), longest), isolate_one, 2 * (uint64_t)id + 1);
        later(sim, longest + random_below(chance(sim), longest), isolate_one, 2 * (uint64_t)id);
    }
}

static void unclog(void *world, uint64_t key, void *data)
{
    (void)data;
    network_clog(world, (uint32_t)(key & 0xff), (uint32_t)(key >> 8), false);
}

static void fault_clog(struct sim *sim)
{
    uint32_t from = any_node(sim), to = any_node(sim);
    if (from == to)
        return;
    strikes(sim, FAULT_CLOG, from);
    network_clog(sim, from, to, true);
    later(sim, a_while(sim, 500, 8000), unclog, from | ((uint64_t)to << 8));
}

static void fault_break(struct sim *sim)
{
    uint32_t a = any_node(sim), b = any_node(sim);
    if (a == b)
        return;
    strikes(sim, FAULT_BREAK, a);
    network_disconnect(sim, a, b, (int)random_below(chance(sim), 2));
}

/* ---- disks ---- */

static struct disk_sim *disk_of(struct sim *sim, uint32_t id)
{
    return node_disk(sim->node[id]);
}

static void normal_speed(struct sim *sim, uint32_t id)
{
    disk_sim_set_speed(disk_of(sim, id), sim->config.disk_us / 2, sim->config.disk_us * 2);
}

static void heal_disk(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    disk_sim_heal(disk_of(sim, (uint32_t)key));
    disk_sim_set_capacity(disk_of(sim, (uint32_t)key), 0);
    normal_speed(sim, (uint32_t)key);
    node_wake(sim->node[key]);
}

static uint32_t begin_disk_fault(struct sim *sim, enum fault fault)
{
    uint32_t id = any_node(sim);
    strikes(sim, fault, id);
    sim->counts.disk_faults++;
    sim->faults->bad_disk[id] = true;
    later(sim, a_while(sim, 3000, 20000), heal_disk, id);
    return id;
}

static void fault_disk_slow(struct sim *sim)
{
    uint32_t id = begin_disk_fault(sim, FAULT_DISK_SLOW);
    uint64_t factor = UINT64_C(8) << random_below(chance(sim), 6);
    disk_sim_set_speed(disk_of(sim, id), sim->config.disk_us, sim->config.disk_us * factor);
}

static void fault_disk_hang(struct sim *sim)
{
    disk_sim_hang(disk_of(sim, begin_disk_fault(sim, FAULT_DISK_HANG)), true);
}

static void fail_calls(struct sim *sim, enum fault fault, enum disk_sim_call call)
{
    uint32_t id = begin_disk_fault(sim, fault);
    uint64_t skip = random_below(chance(sim), 30);
    disk_sim_fail(disk_of(sim, id), call, skip, STATUS_IO_ERROR, random_chance(chance(sim), 500));
}

static void fault_disk_write(struct sim *sim)
{
    fail_calls(sim, FAULT_DISK_WRITE, DISK_SIM_WRITE);
}

static void fault_disk_sync(struct sim *sim)
{
    fail_calls(sim, FAULT_DISK_SYNC, random_chance(chance(sim), 800) ? DISK_SIM_SYNC : DISK_SIM_SYNC_DIRECTORY);
}

static void fault_disk_read(struct sim *sim)
{
    fail_calls(sim, FAULT_DISK_READ, DISK_SIM_READ);
}

static void fault_disk_full(struct sim *sim)
{
    uint32_t id = begin_disk_fault(sim, FAULT_DISK_FULL);
    disk_sim_fill(disk_of(sim, id), random_below(chance(sim), 2 * sim->config.segment_bytes));
}

/* One node at a time: the next only when this one has found and repaired it. */
static void rot(struct sim *sim, enum fault fault, bool (*damage)(struct disk_sim *disk, const char *prefix))
{
    struct sim_faults *faults = sim->faults;
    uint32_t id = faults->rotten != 0 ? faults->rotten : any_node(sim);
    if (!others_are_whole(sim, id) || !node_is_whole(sim->node[id]) || !damage(disk_of(sim, id), "log/"))
        return;
    strikes(sim, fault, id);
    sim->counts.disk_faults++;
    faults->bad_disk[id] = true;
    faults->rotten = id;
    faults->rots++;
    faults->rotten_generation = node_generation(sim->node[id]);
    if (random_chance(chance(sim), 600))
        crash(sim, id, random_chance(chance(sim), 500));   /* or it is found when it is read for a peer, or later */
}

static void fault_disk_flip(struct sim *sim)
{
    rot(sim, FAULT_DISK_FLIP, disk_sim_flip_random);
}

static void fault_disk_misdirect(struct sim *sim)
{
    rot(sim, FAULT_DISK_MISDIRECT, disk_sim_misdirect_random);
}

unsigned faults_rots(const struct sim *sim, uint32_t node)
{
    return sim->faults->rotten == node ? sim->faults->rots : 0;
}

bool faults_disk_is_bad(const struct sim *sim, uint32_t node)
{
    return sim->faults->bad_disk[node];
}

/* The operator does what the node has asked for. Nothing but rot may make it ask. */
static void replace(struct sim *sim, uint32_t node)
{
    if (sim->faults->rotten != node)
        sim_violation(sim, "node %u wants to be replaced, but nothing on its disk has rotted", node);
    sim_note(sim, "node %u is replaced", node);
    node_wipe(sim->node[node]);
    sim->counts.wipes++;
    forget_rot(sim->faults);
}

void faults_node_stopped(struct sim *sim, uint32_t node)
{
    sim_note(sim, "node %u has stopped because of its disk", node);
    node_crash(sim->node[node], false);
    if (node_is_beyond_repair(sim->node[node]))
        replace(sim, node);
    if (random_chance(chance(sim), 800))
        heal_disk(sim, node, NULL);
    later(sim, a_while(sim, 1000, 10000), restart, node);
}

/* ---- clients ---- */

static void fault_client_cut(struct sim *sim)
{
    sim->counts.faults++;
    for (uint32_t i = 0; i < sim->config.clients; i++) {
        if (!random_chance(chance(sim), 300))
            continue;
        coverage_met(sim->coverage, FAULT_CLIENT_CUT, client_model_phases(sim->client[i]));
        client_model_cut(sim->client[i]);
    }
}

static void read_again(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    client_model_stall(sim->client[key], false);
}

static void fault_client_stall(struct sim *sim)
{
    uint32_t i = (uint32_t)random_below(chance(sim), sim->config.clients);
    coverage_met(sim->coverage, FAULT_CLIENT_STALL, client_model_phases(sim->client[i]));
    sim->counts.faults++;
    client_model_stall(sim->client[i], true);
    later(sim, a_while(sim, 3000, 30000), read_again, i);
}

/* ---- which, and when ---- */

static void (*const kinds[FAULT_KINDS])(struct sim *sim) = {
    [FAULT_KILL] = fault_kill,
    [FAULT_KILL_MID_STEP] = fault_kill_mid_step,
    [FAULT_POWER] = fault_power,
    [FAULT_ALL_DOWN] = fault_all_down,
    [FAULT_CRASH_LOOP] = fault_crash_loop,
    [FAULT_ISOLATE] = fault_isolate,
    [FAULT_RING] = fault_ring,
    [FAULT_BRIDGE] = fault_bridge,
    [FAULT_SPLIT] = fault_split,
    [FAULT_ONE_WAY] = fault_one_way,
    [FAULT_FLAP] = fault_flap,
    [FAULT_SWIZZLE] = fault_swizzle,
    [FAULT_CLOG] = fault_clog,
    [FAULT_BREAK] = fault_break,
    [FAULT_PAUSE] = fault_pause,
    [FAULT_SLOW_CPU] = fault_slow_cpu,
    [FAULT_CLOCK_STEP] = fault_clock_step,
    [FAULT_CLOCK_DRIFT] = fault_clock_drift,
    [FAULT_WIPE] = fault_wipe,
    [FAULT_REMOVE] = fault_remove,
    [FAULT_DISK_SLOW] = fault_disk_slow,
    [FAULT_DISK_HANG] = fault_disk_hang,
    [FAULT_DISK_WRITE] = fault_disk_write,
    [FAULT_DISK_SYNC] = fault_disk_sync,
    [FAULT_DISK_READ] = fault_disk_read,
    [FAULT_DISK_FULL] = fault_disk_full,
    [FAULT_DISK_FLIP] = fault_disk_flip,
    [FAULT_DISK_MISDIRECT] = fault_disk_misdirect,
    [FAULT_CLIENT_CUT] = fault_client_cut,
    [FAULT_CLIENT_STALL] = fault_client_stall,
};

static bool strike(struct sim *sim)
{
    enum fault possible[FAULT_KINDS];
    uint32_t count = 0;
    for (int i = 0; i < FAULT_KINDS; i++)
        if (sim->config.fault[i] != 0)
            possible[count++] = (enum fault)i;
    if (sim->calm || count == 0)
        return false;
    kinds[possible[random_below(chance(sim), count)]](sim);
    return true;
}

static void strike_there(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    sim->faults->target = (uint32_t)key;
    strike(sim);
    sim->faults->target = 0;
}

void faults_opportunity(struct sim *sim, uint32_t node, uint64_t within_us)
{
    if (sim->faults->begun && !sim->calm && random_chance(chance(sim), 100))
        later(sim, random_below(chance(sim), within_us), strike_there, node);
}

static void next_fault(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    if (!strike(sim))
        return;
    later(sim, random_between(chance(sim), 1, 2 * sim->config.fault_gap_ms * SIM_MS), next_fault, key);
}

void faults_start(struct sim *sim)
{
    sim->faults->begun = true;
    later(sim, 0, next_fault, 0);
}

void faults_heal(struct sim *sim, uint64_t nodes)
{
    network_heal(sim, nodes);
    for (uint32_t id = 1; id <= sim->config.nodes; id++) {
        sim->faults->down[id] = ((nodes >> id) & 1) == 0 && !node_running(sim->node[id]);
        if (((nodes >> id) & 1) == 0)
            continue;
        heal_disk(sim, id, NULL);
        node_pause(sim->node[id], 0);
        node_slow(sim->node[id], 0);
        node_doom(sim->node[id], 0);
        node_drift_clock(sim->node[id], 0);
        node_start(sim->node[id]);
    }
    for (uint32_t i = 0; i < sim->config.clients; i++)
        client_model_stall(sim->client[i], false);
}

struct sim_faults *faults_new(struct sim *sim)
{
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        normal_speed(sim, id);
    return memory_zeroed(1, sizeof(struct sim_faults));
}

void faults_free(struct sim_faults *faults)
{
    free(faults);
}
