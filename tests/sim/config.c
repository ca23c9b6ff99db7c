/* config.c — see config.h.
 *
 * The load of a run, and with it what a simulated second costs, is drawn over three decades; its length is drawn the other
 * way round. So a storm lasts some seconds and a quiet run up to an hour, and both cost about the same. */
#include "config.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

static const struct field {
    const char *name;
    size_t offset;
} fields[] = {
    {"nodes", offsetof(struct sim_config, nodes)},
    {"safety-ms", offsetof(struct sim_config, safety_ms)},
    {"fault-gap-ms", offsetof(struct sim_config, fault_gap_ms)},
    {"fault-kill", offsetof(struct sim_config, fault[FAULT_KILL])},
    {"fault-kill-mid-step", offsetof(struct sim_config, fault[FAULT_KILL_MID_STEP])},
    {"fault-power", offsetof(struct sim_config, fault[FAULT_POWER])},
    {"fault-all-down", offsetof(struct sim_config, fault[FAULT_ALL_DOWN])},
    {"fault-crash-loop", offsetof(struct sim_config, fault[FAULT_CRASH_LOOP])},
    {"fault-isolate", offsetof(struct sim_config, fault[FAULT_ISOLATE])},
    {"fault-ring", offsetof(struct sim_config, fault[FAULT_RING])},
    {"fault-bridge", offsetof(struct sim_config, fault[FAULT_BRIDGE])},
    {"fault-split", offsetof(struct sim_config, fault[FAULT_SPLIT])},
    {"fault-one-way", offsetof(struct sim_config, fault[FAULT_ONE_WAY])},
    {"fault-flap", offsetof(struct sim_config, fault[FAULT_FLAP])},
    {"fault-swizzle", offsetof(struct sim_config, fault[FAULT_SWIZZLE])},
    {"fault-clog", offsetof(struct sim_config, fault[FAULT_CLOG])},
    {"fault-break", offsetof(struct sim_config, fault[FAULT_BREAK])},
    {"fault-pause", offsetof(struct sim_config, fault[FAULT_PAUSE])},
    {"fault-slow-cpu", offsetof(struct sim_config, fault[FAULT_SLOW_CPU])},
    {"fault-clock-step", offsetof(struct sim_config, fault[FAULT_CLOCK_STEP])},
    {"fault-clock-drift", offsetof(struct sim_config, fault[FAULT_CLOCK_DRIFT])},
    {"fault-wipe", offsetof(struct sim_config, fault[FAULT_WIPE])},
    {"fault-remove", offsetof(struct sim_config, fault[FAULT_REMOVE])},
    {"fault-disk-slow", offsetof(struct sim_config, fault[FAULT_DISK_SLOW])},
    {"fault-disk-hang", offsetof(struct sim_config, fault[FAULT_DISK_HANG])},
    {"fault-disk-write", offsetof(struct sim_config, fault[FAULT_DISK_WRITE])},
    {"fault-disk-sync", offsetof(struct sim_config, fault[FAULT_DISK_SYNC])},
    {"fault-disk-read", offsetof(struct sim_config, fault[FAULT_DISK_READ])},
    {"fault-disk-full", offsetof(struct sim_config, fault[FAULT_DISK_FULL])},
    {"fault-disk-flip", offsetof(struct sim_config, fault[FAULT_DISK_FLIP])},
    {"fault-disk-misdirect", offsetof(struct sim_config, fault[FAULT_DISK_MISDIRECT])},
    {"fault-client-cut", offsetof(struct sim_config, fault[FAULT_CLIENT_CUT])},
    {"fault-client-stall", offsetof(struct sim_config, fault[FAULT_CLIENT_STALL])},
    {"latency-us", offsetof(struct sim_config, latency_us)},
    {"jitter-us", offsetof(struct sim_config, jitter_us)},
    {"spike-permille", offsetof(struct sim_config, spike_permille)},
    {"loss-permille", offsetof(struct sim_config, loss_permille)},
    {"misorder-permille", offsetof(struct sim_config, misorder_permille)},
    {"heartbeat-ms", offsetof(struct sim_config, heartbeat_ms)},
    {"election-ms", offsetof(struct sim_config, election_ms)},
    {"turn-us", offsetof(struct sim_config, turn_us)},
    {"disk-us", offsetof(struct sim_config, disk_us)},
    {"disk-tail-permille", offsetof(struct sim_config, disk_tail_permille)},
    {"log-bytes-max", offsetof(struct sim_config, log_bytes_max)},
    {"segment-bytes", offsetof(struct sim_config, segment_bytes)},
    {"cache-bytes", offsetof(struct sim_config, cache_bytes)},
    {"in-flight-entries", offsetof(struct sim_config, in_flight_entries)},
    {"clients", offsetof(struct sim_config, clients)},
    {"topics", offsetof(struct sim_config, topics)},
    {"publish-gap-ms", offsetof(struct sim_config, publish_gap_ms)},
    {"payload-bytes", offsetof(struct sim_config, payload_bytes)},
    {"window", offsetof(struct sim_config, window)},
    {"receive-maximum", offsetof(struct sim_config, receive_maximum)},
    {"queue-messages-max", offsetof(struct sim_config, queue_messages_max)},
    {"output-bytes-max", offsetof(struct sim_config, output_bytes_max)},
    {"broadcast", offsetof(struct sim_config, broadcast)},
    {"shared", offsetof(struct sim_config, shared)},
    {"resubscribe", offsetof(struct sim_config, resubscribe)},
    {"clean-permille", offsetof(struct sim_config, clean_permille)},
    {"brief-permille", offsetof(struct sim_config, brief_permille)},
    {"will-permille", offsetof(struct sim_config, will_permille)},
    {"expiry-permille", offsetof(struct sim_config, expiry_permille)},
    {"late-ack-permille", offsetof(struct sim_config, late_ack_permille)},
    {"roam-permille", offsetof(struct sim_config, roam_permille)},
    {"registers", offsetof(struct sim_config, registers)},
    {"visitor-gap-ms", offsetof(struct sim_config, visitor_gap_ms)},
    {"packet-ids", offsetof(struct sim_config, packet_ids)},
    {"buggify-permille", offsetof(struct sim_config, buggify_permille)},
};

enum { FIELDS = sizeof fields / sizeof fields[0] };

static uint64_t *field_of(struct sim_config *config, const struct field *field)
{
    return (uint64_t *)((char *)config + field->offset);
}

const char *fault_name(enum fault fault)
{
    for (int i = 0; i < FIELDS; i++)
        if (fields[i].offset == offsetof(struct sim_config, fault) + fault * sizeof(uint64_t))
            return fields[i].name + strlen("fault-");
    return "unknown";
}

bool config_set(struct sim_config *config, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    char *end;
    if (equals == NULL)
        return false;
    uint64_t value = strtoull(equals + 1, &end, 10);
    for (int i = 0; i < FIELDS; i++) {
        if (strlen(fields[i].name) == (size_t)(equals - assignment) &&
            strncmp(fields[i].name, assignment, (size_t)(equals - assignment)) == 0) {
            *field_of(config, &fields[i]) = value;
            return end != equals + 1 && *end == '\0';
        }
    }
    return false;
}

void config_each(const struct sim_config *config, void (*each)(void *context, const char *name, uint64_t value),
                 void *context)
{
    for (int i = 0; i < FIELDS; i++)
        each(context, fields[i].name, *(const uint64_t *)((const char *)config + fields[i].offset));
}

/* ---- drawing ---- */

/* From low to high, each power of two as likely as the next. */
static uint64_t any_size(struct random *draw, uint64_t low, uint64_t high)
{
    unsigned steps = 0;
    while (low << (steps + 1) <= high)
        steps++;
    uint64_t base = low << random_below(draw, steps + 1);
    uint64_t value = base + random_below(draw, base + 1);
    return value < high ? value : high;
}

static uint64_t sometimes(struct random *draw, uint64_t permille, uint64_t low, uint64_t high)
{
    bool now = random_chance(draw, permille);
    uint64_t value = any_size(draw, low, high);
    return now ? value : 0;
}

static void draw_faults(struct sim_config *config, struct random *draw)
{
    /* Some runs with most kinds, more with a few of them. */
    uint64_t density = random_chance(draw, 250) ? 700 : random_chance(draw, 600) ? 300 : 100;
    for (int i = 0; i < FAULT_KINDS; i++)
        config->fault[i] = random_chance(draw, density);
    config->spike_permille = sometimes(draw, 300, 1, 20);
    config->loss_permille = sometimes(draw, 250, 1, 50);
    config->misorder_permille = sometimes(draw, 150, 1, 8);
    config->disk_tail_permille = sometimes(draw, 300, 1, 50);
}

static void draw_world(struct sim_config *config, struct random *draw)
{
    config->nodes = random_chance(draw, 800) ? 3 : 5;
    config->latency_us = any_size(draw, 30, 4000);
    config->jitter_us = any_size(draw, 10, 5000);
    config->heartbeat_ms = random_chance(draw, 700) ? 50 : random_between(draw, 10, 200);
    config->election_ms = random_chance(draw, 700) ? 6 * config->heartbeat_ms
                                                   : config->heartbeat_ms * random_between(draw, 4, 12);
    config->turn_us = random_between(draw, 10, 100);
    config->disk_us = any_size(draw, 50, 10000);
    /* From a snapshot every few entries to one that never comes. */
    config->log_bytes_max = random_chance(draw, 600) ? any_size(draw, 20, 2000) * 1024 : 0;
    config->segment_bytes = any_size(draw, 16, 1024) * 1024;
    config->cache_bytes = any_size(draw, 16, 4096) * 1024;
    config->in_flight_entries = config->log_bytes_max != 0 ? any_size(draw, 8, 256) : 0;
}

/* What a client does, and how many of them there are. */
static void draw_clients(struct sim_config *config, struct random *draw)
{
    config->clients = any_size(draw, 1, 16);
    config->broadcast = random_chance(draw, 200);
    if (config->broadcast || random_chance(draw, 50))
        config->clients += random_between(draw, 10, 34);
    config->topics = random_between(draw, 1, 8);
    config->payload_bytes = random_chance(draw, 900) ? random_between(draw, 8, 100) : any_size(draw, 1000, 20000);
    config->window = any_size(draw, 1, 64);
    config->receive_maximum = random_chance(draw, 500) ? 65535 : any_size(draw, 1, 20);
    config->queue_messages_max = sometimes(draw, 100, 3, 100);
    config->output_bytes_max = sometimes(draw, 150, 4096, 1 << 20);
    config->shared = random_chance(draw, 300);
    config->resubscribe = random_chance(draw, 400);
    config->clean_permille = sometimes(draw, 400, 50, 800);
    config->brief_permille = sometimes(draw, 300, 50, 500);
    config->will_permille = sometimes(draw, 500, 100, 1000);
    config->expiry_permille = sometimes(draw, 200, 10, 300);
    config->roam_permille = sometimes(draw, 400, 50, 500);
    config->registers = sometimes(draw, 400, 1, 3);
    config->buggify_permille = sometimes(draw, 500, 1, 200);
    config->visitor_gap_ms = sometimes(draw, 300, 50, 20000);
    config->packet_ids = sometimes(draw, 200, 1, 64);
    config->late_ack_permille = sometimes(draw, 250, 10, 1000);
}

/* How much there is to do for all clients together, and for how long. */
static void draw_load(struct sim_config *config, struct random *draw)
{
    uint64_t gap_ms = any_size(draw, 5, 10000);          /* between two publishes of any client */
    config->publish_gap_ms = gap_ms * config->clients;
    uint64_t seconds = gap_ms * random_between(draw, 1, 4) / (config->nodes == 5 ? 2 : 1) / (config->clients > 12 ? 4 : 1);
    config->safety_ms = (seconds < 10 ? 10 : seconds > 3600 ? 3600 : seconds) * 1000;
    config->fault_gap_ms = any_size(draw, 100, 12800);
    if (config->safety_ms > 300000 && config->fault_gap_ms < 3000)
        config->fault_gap_ms += 3000;
    if (config->safety_ms > 300000 && config->visitor_gap_ms > 0)
        config->visitor_gap_ms += 3000;
}

void config_draw(struct sim_config *config, uint64_t seed)
{
    static void (*const parts[])(struct sim_config *config, struct random *draw) = {draw_world, draw_faults, draw_clients,
                                                                                  draw_load};
    memset(config, 0, sizeof *config);
    for (uint64_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        struct random draw = random_stream(seed, 90 + i); /* a draw more in one does not shift the others */
        parts[i](config, &draw);
    }
}
