/* ledger.c — what an all-knowing observer writes down: the one log that all nodes together have committed, who led in which
 * term, the state hash at each index, and the clock of the cluster. Every node is measured by it, at every event. */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/memory.h"
#include "command.h"
#include "sim.h"

#define CLOCK_SLACK_MS 500
#define CLIENTS_MAX 64
#define EPOCHS 8   /* of a client, that are remembered: a batch may be in the log twice */
#define BRIDGING_US (5 * SIM_S)   /* in which the first leader after a time without nodes may go by its wall clock */

struct committed_entry {
    uint64_t term, hash;         /* term 0: not committed anywhere yet */
};

struct hash_at {
    bool known;
    uint64_t hash[2];
};

/* The epoch of a connection is the place of its CONNECT: index of the entry, and number in it. */
struct goodbyes {
    uint64_t epochs[EPOCHS];
    uint32_t next, count;
};

/* Of a node, as the log tells it: batches of one life count in the order of their numbers, each once. */
struct life {
    uint64_t epoch, taken;       /* the place of its NODE_UP; number of the last batch that counted */
    uint8_t nonce[16];
    bool up;
};

struct sim_ledger {
    struct life lives[SIM_NODES_MAX + 1];
    struct goodbyes goodbyes[CLIENTS_MAX];   /* by model client */
    struct committed_entry *entries;   /* by index */
    struct hash_at *hashes;
    size_t capacity;
    uint64_t last;
    struct { uint64_t term; uint32_t node; } *leaders;
    size_t leader_count, leader_capacity;
    uint64_t stamp_ms;           /* of the last batch */
    uint64_t ahead_ms;           /* cluster time less true time, as the furthest leader has had it */
    uint64_t bridged_us;         /* until then the clock may jump */
    uint64_t reckoners[SIM_NODES_MAX + 1];   /* at the last commit, nodes that knew the time: their generation, or 0 */
};

struct sim_ledger *ledger_new(void)
{
    return memory_zeroed(1, sizeof(struct sim_ledger));
}

void ledger_free(struct sim_ledger *ledger)
{
    free(ledger->entries);
    free(ledger->hashes);
    free(ledger->leaders);
    free(ledger);
}

uint64_t ledger_last(const struct sim_ledger *ledger)
{
    return ledger->last;
}

static void reserve(struct sim_ledger *ledger, uint64_t index)
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

/* ---- what is in an entry ---- */

/* Whether the leader must have heard the time from one of those that knew it at the last commit and still run: of a
 * majority. If it cannot hear one, it must take it that none runs, and ask the wall clock. */
static bool the_time_is_known(const struct sim *sim)
{
    uint32_t count = 0;
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        count += node_running(sim->node[id]) && sim->ledger->reckoners[id] == node_generation(sim->node[id]);
    return count > sim->config.nodes / 2;
}

/* The leader may have gone by its wall clock, now or a little later. */
static void excuse_bridging(struct sim *sim)
{
    if (!the_time_is_known(sim))
        sim->ledger->bridged_us = sim_now_us(sim) + BRIDGING_US;
}

static void remember_who_knows_the_time(struct sim *sim)
{
    excuse_bridging(sim); /* its first batch may be committed in the turn in which it takes over */
    for (uint32_t id = 1; id <= sim->config.nodes; id++)
        sim->ledger->reckoners[id] = node_knows_time(sim->node[id]) ? node_generation(sim->node[id]) : 0;
}

/* Stamps never fall. */
static void judge_stamp(struct sim *sim, uint32_t node, uint64_t stamp_ms)
{
    if (stamp_ms < sim->ledger->stamp_ms)
        sim_violation(sim, "node %u: cluster time goes back from %" PRIu64 " to %" PRIu64, node, sim->ledger->stamp_ms,
                      stamp_ms);
    sim->ledger->stamp_ms = stamp_ms;
}

void ledger_clock(struct sim *sim, uint32_t node, uint64_t cluster_ms)
{
    struct sim_ledger *ledger = sim->ledger;
    uint64_t now_ms = sim_now_us(sim) / SIM_MS, ahead_ms = cluster_ms > now_ms ? cluster_ms - now_ms : 0;
    excuse_bridging(sim);
    if (sim_now_us(sim) >= ledger->bridged_us && ahead_ms > ledger->ahead_ms + CLOCK_SLACK_MS)
        sim_violation(sim, "node %u: cluster time has gone on by %" PRIu64 " ms more than passed", node,
                      ahead_ms - ledger->ahead_ms);
    if (ahead_ms > ledger->ahead_ms)
        ledger->ahead_ms = ahead_ms;
}

/* With --verbose: what happened to nodes and sessions, in the order of the log. */
static void note_command(struct sim *sim, uint64_t index, const struct batch_header *header, const struct command *command)
{
    uint64_t stamp_ms = header->stamp_ms;
    if (!sim->verbose)
        return;
    if (command->type == COMMAND_CONNECT)
        sim_note(sim, "@%" PRIu64 " stamp %" PRIu64 ": CONNECT %.*s at node %u%s%s", index, stamp_ms,
                 (int)command->connect.client_id.size, (const char *)command->connect.client_id.data, header->origin_node,
                 command->connect.clean_start ? ", clean" : "", command->connect.has_will ? ", with a will" : "");
    else if (command->type == COMMAND_END)
        sim_note(sim, "@%" PRIu64 " stamp %" PRIu64 ": END of session %" PRIu64 ", epoch %" PRIu64 ", by node %u, cause %u", index,
                 stamp_ms, command->end.owner.session_id, command->end.owner.client_epoch, header->origin_node,
                 command->end.cause);
    else if (command->type == COMMAND_NODE_UP || command->type == COMMAND_NODE_DOWN)
        sim_note(sim, "@%" PRIu64 " stamp %" PRIu64 ": NODE %s %u", index, stamp_ms,
                 command->type == COMMAND_NODE_UP ? "UP" : "DOWN",
                 command->type == COMMAND_NODE_UP ? command->node_up.node : command->node_down.node);
    else if (command->type == COMMAND_TICK)
        sim_note(sim, "@%" PRIu64 " stamp %" PRIu64 ": TICK", index, stamp_ms);
}

static void note_goodbye(struct sim_ledger *ledger, uint64_t epoch, const struct command *command)
{
    unsigned client = 0;
    char name[16] = {0};
    if (command->type == COMMAND_CONNECT && command->connect.client_id.size < sizeof name)
        memcpy(name, command->connect.client_id.data, command->connect.client_id.size);
    if (sscanf(name, "sim-%2u", &client) == 1 && client < CLIENTS_MAX) {
        struct goodbyes *goodbyes = &ledger->goodbyes[client];
        goodbyes->epochs[goodbyes->next++ % EPOCHS] = epoch;
    }
    for (; command->type == COMMAND_END && command->end.cause == END_CLEAN && client < CLIENTS_MAX; client++)
        for (int i = 0; i < EPOCHS; i++)
            ledger->goodbyes[client].count += ledger->goodbyes[client].epochs[i] == command->end.owner.client_epoch;
}

uint32_t ledger_goodbyes(const struct sim_ledger *ledger, uint32_t client)
{
    return client < CLIENTS_MAX ? ledger->goodbyes[client].count : 0;
}

/* A batch that is in the log may yet be one that is skipped: it came twice, before the one it follows, or too late. */
static bool is_skipped(struct sim_ledger *ledger, const struct batch_header *header)
{
    if (header->origin_node == 0 || header->origin_node > SIM_NODES_MAX)
        return true;
    struct life *life = &ledger->lives[header->origin_node];
    if (header->origin_epoch == 0 || header->origin_epoch != life->epoch)
        return false; /* begins a life; or is of an earlier one, of which nothing is asked here */
    if (!life->up || header->number != life->taken + 1)
        return true;
    life->taken = header->number;
    return false;
}

static void note_life(struct sim_ledger *ledger, uint64_t epoch, const struct batch_header *header,
                      const struct command *command)
{
    struct life *life = &ledger->lives[header->origin_node];
    if (command->type == COMMAND_NODE_UP && header->origin_epoch == 0 &&
        memcmp(life->nonce, command->node_up.boot_nonce, sizeof life->nonce) != 0) {
        *life = (struct life){.epoch = epoch, .up = true};
        memcpy(life->nonce, command->node_up.boot_nonce, sizeof life->nonce);
    }
    if (command->type != COMMAND_NODE_DOWN || command->node_down.node > SIM_NODES_MAX)
        return;
    life = &ledger->lives[command->node_down.node];
    life->up = life->up && life->epoch != command->node_down.node_epoch;
}

/* Who applies a batch, sends it on or writes it can rely on that. */
static void judge_size(struct sim *sim, uint32_t node, uint64_t index, const struct batch_header *header, size_t size)
{
    if (header->count > BATCH_COMMANDS_MAX || (header->count > 1 && size > BATCH_BYTES_MAX))
        sim_violation(sim, "node %u commits a batch of %u commands in %zu bytes at %" PRIu64, node, header->count, size,
                      index);
}

/* The publishes of model clients, by the numbers in their payload: what is not here by then must not be acknowledged. */
static void note_commands(struct sim *sim, uint64_t index, const struct batch_header *header, struct bytes content)
{
    struct command command;
    struct reader commands = reader_of(content);
    if (is_skipped(sim->ledger, header))
        return;
    for (uint32_t i = 0; i < header->count && command_decode(&commands, &command) == STATUS_OK; i++) {
        note_command(sim, index, header, &command);
        note_life(sim->ledger, index << 16 | i, header, &command);
        note_goodbye(sim->ledger, index << 16 | i, &command);
        if (command.type != COMMAND_PUBLISH || command.publish.message.payload.size < HISTORY_PAYLOAD)
            continue;
        struct reader payload = reader_of(command.publish.message.payload);
        uint32_t publisher = reader_u32(&payload), number = reader_u32(&payload);
        history_committed(sim->history, publisher, number);
    }
}

void ledger_committed(struct sim *sim, uint32_t node, uint64_t index, uint64_t term, struct bytes entry,
                      struct bytes batch)
{
    struct sim_ledger *ledger = sim->ledger;
    reserve(ledger, index);
    uint64_t hash = XXH3_64bits(entry.data, entry.size);
    struct committed_entry *known = &ledger->entries[index];
    if (known->term != 0) {
        if (known->term != term || known->hash != hash)
            sim_violation(sim, "node %u commits another entry at %" PRIu64 " (term %" PRIu64 ", was %" PRIu64 ")", node,
                          index, term, known->term);
        return;
    }
    *known = (struct committed_entry){term, hash};
    if (index > ledger->last)
        ledger->last = index;
    sim_trace(sim, 'e', index ^ hash);
    struct batch_header header;
    struct bytes content;
    if (batch.size == 0 || batch_decode(batch, &header, &content) != STATUS_OK)
        return;
    judge_size(sim, node, index, &header, batch.size);
    judge_stamp(sim, node, header.stamp_ms);
    remember_who_knows_the_time(sim);
    note_commands(sim, index, &header, content);
}

/* ---- nodes compared ---- */

void ledger_hash(struct sim *sim, uint32_t node, uint64_t index, const uint64_t hash[2])
{
    reserve(sim->ledger, index);
    struct hash_at *known = &sim->ledger->hashes[index];
    if (!known->known) {
        known->known = true;
        memcpy(known->hash, hash, sizeof known->hash);
    } else if (memcmp(known->hash, hash, sizeof known->hash) != 0) {
        sim_violation(sim, "node %u has another state hash at %" PRIu64, node, index);
    }
}

void ledger_leader(struct sim *sim, uint32_t node, uint64_t term)
{
    struct sim_ledger *ledger = sim->ledger;
    for (size_t i = ledger->leader_count; i-- > 0;) {
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
    sim->counts.elections++;
    sim_note(sim, "node %u leads in term %" PRIu64, node, term);
}
