/* sim.h — a whole cluster in one process: real consensus, log, state machine and front-end; simulated time, network,
 * disks and clients; everything that happens is drawn from one seed.
 *
 *   main.c      seeds, command line, verdicts           schedule.c  virtual time
 *   cluster.c   configuration of a seed, phases, faults, checks after every event
 *   node.c      one node: the parts that node/broker.c puts together, on a simulated disk
 *   network.c   links between nodes and connections of clients
 *   client.c    a model MQTT client that keeps its state and never gives up
 *   history.c   what clients saw, and whether the guarantees held */
#ifndef COTERIE_SIM_H
#define COTERIE_SIM_H

#include "base/bytes.h"
#include "cluster/wire.h"
#include "history.h"
#include "random.h"
#include "schedule.h"

#define SIM_NODES_MAX 5
#define SIM_GROUPS 2   /* of shared subscriptions, if there are any */
#define SIM_MS 1000ull
#define SIM_S (1000 * SIM_MS)

struct sim_node;
struct sim_client;
struct sim_network;
struct sim_ledger;

/* Drawn from the seed before anything else: which faults there are in this run, and how the world is. */
struct sim_config {
    uint32_t nodes, clients, topics;
    uint64_t safety_us;              /* how long faults go on */
    uint64_t fault_gap_us;           /* mean time between two faults */
    uint32_t latency_us, jitter_us;  /* between nodes */
    uint32_t spike_permille;         /* of frames are delayed by up to 200 ms */
    uint32_t disk_us;                /* mean time of a flush */
    uint32_t disk_spike_permille;
    bool crashes, power_losses, partitions, pauses, clock_steps, breaks, client_cuts, slow_disks, wipes;
    uint32_t publish_gap_us;         /* mean, per client */
    uint32_t payload_bytes;
    uint32_t window;                 /* of publishers */
    uint32_t receive_maximum;
    uint32_t log_bytes_max;          /* small: snapshots and trimming happen often */
    bool broadcast;                  /* many clients share filters, beyond 8 members */
    bool shared;                     /* some clients are members of groups */
    bool resubscribe;                /* clients unsubscribe and subscribe again while it runs */
};

struct sim {
    uint64_t seed;
    struct sim_config config;
    struct schedule *schedule;
    struct random schedule_random, network_random, disk_random, workload_random;
    struct sim_network *network;
    struct sim_node *node[SIM_NODES_MAX + 1];   /* 1 to config.nodes */
    struct sim_client **client;
    struct history *history;
    struct sim_ledger *ledger;
    char directory[64];          /* for snapshot files; removed at the end */
    bool verbose;
    bool calm;                   /* no new faults, no new publishes: heal and drain */
    const char *violation;       /* the first one; the run ends */
    char violation_text[640];
    uint64_t trace;              /* hash over everything that happened: equal seeds give equal traces */
    uint64_t crashes, power_losses, partitions, pauses, elections, installs, wipes;
};

static inline uint64_t sim_now_us(const struct sim *sim)
{
    return schedule_now_us(sim->schedule);
}

void sim_violation(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_note(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));   /* with --verbose */
void sim_trace(struct sim *sim, uint64_t what, uint64_t value);

/* ---- cluster.c ---- */
struct sim *sim_new(uint64_t seed, bool verbose);
void sim_run(struct sim *sim);
void sim_free(struct sim *sim);
/* From nodes: checks that every node commits the same entry at an index, and one leader per term. */
void sim_check_commit(struct sim *sim, uint32_t node, uint64_t index, uint64_t term, struct bytes entry);
void sim_check_hash(struct sim *sim, uint32_t node, uint64_t index, const uint64_t hash[2]);
void sim_check_leader(struct sim *sim, uint32_t node, uint64_t term);

/* ---- network.c ---- */
struct sim_network *network_new(struct sim *sim);
void network_free(struct sim_network *network);
void network_send(struct sim *sim, uint32_t from, uint32_t to, int kind, uint8_t *frame, size_t size);
void network_disconnect(struct sim *sim, uint32_t a, uint32_t b, int kind);       /* both ends hear of it, in time */
void network_node_gone(struct sim *sim, uint32_t node);                           /* crashed: its connections end */
void network_cut(struct sim *sim, uint32_t from, uint32_t to, bool cut);          /* one direction */
void network_heal(struct sim *sim);
/* Clients: a connection is named by its number; numbers are never used again. */
uint64_t network_dial(struct sim *sim, uint32_t client, uint32_t node);
void network_client_send(struct sim *sim, uint64_t connection, uint32_t node, const void *data, size_t size);
void network_client_close(struct sim *sim, uint64_t connection, uint32_t node);
void network_node_write(struct sim *sim, uint64_t connection, uint32_t client, const void *data, size_t size);
void network_node_close(struct sim *sim, uint64_t connection, uint32_t client);

/* ---- node.c ---- */
struct sim_node *node_new(struct sim *sim, uint32_t id);
void node_free(struct sim_node *node);
void node_start(struct sim_node *node);
void node_crash(struct sim_node *node, bool power_loss);
/* Of a node that does not run: all that it had is gone, its next start is that of a replacement. */
void node_wipe(struct sim_node *node);
bool node_is_member(const struct sim_node *node);        /* since it was wiped last, it has become a voter again */
struct node_life node_life(const struct sim_node *node);
void node_pause(struct sim_node *node, uint64_t until_us);
bool node_running(const struct sim_node *node);          /* has started, has not crashed */
void node_step_clock(struct sim_node *node, int64_t ms);   /* the wall clock */
uint64_t node_generation(const struct sim_node *node);   /* grows with each start */
uint64_t node_applied(const struct sim_node *node);
bool node_quiet(const struct sim_node *node);            /* nothing pending: all committed is applied, long work done */
void node_final_hash(struct sim_node *node, uint64_t *index, uint64_t hash[2]);
/* From the network. */
void node_link(struct sim_node *node, uint32_t peer, int kind, bool up, uint64_t in, uint64_t out,
               struct node_life life);
void node_frame(struct sim_node *node, uint32_t peer, int kind, const uint8_t *frame, size_t size);
void node_client_open(struct sim_node *node, uint64_t connection, uint32_t client);
void node_client_bytes(struct sim_node *node, uint64_t connection, const uint8_t *data, size_t size);
void node_client_closed(struct sim_node *node, uint64_t connection);
/* Whether an event for `generation` of the node may be handed in now; if it is paused, *later_us says when to try again. */
bool node_awake(const struct sim_node *node, uint64_t *later_us);

/* ---- client.c ---- */
struct sim_client *client_model_new(struct sim *sim, uint32_t id);
void client_model_free(struct sim_client *client);
void client_model_start(struct sim_client *client);
void client_model_opened(struct sim_client *client, uint64_t connection, bool ok);
void client_model_bytes(struct sim_client *client, uint64_t connection, const uint8_t *data, size_t size);
void client_model_closed(struct sim_client *client, uint64_t connection);
void client_model_cut(struct sim_client *client);        /* a fault: its TCP connection breaks */
void client_model_describe(const struct sim_client *client, char *text, size_t size);
bool client_model_idle(const struct sim_client *client); /* connected, nothing of its own unacknowledged */

#endif
