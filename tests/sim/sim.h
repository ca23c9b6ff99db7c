/* sim.h — a whole cluster in one process: real consensus, log, state machine and front-end; simulated time, network,
 * disks and clients; everything that happens is drawn from one seed.
 *
 *   main.c      seeds, command line, verdicts           config.c    what a seed draws first; its names
 *   cluster.c   a run: its phases                       schedule.c  virtual time
 *   faults.c    what goes wrong, and when it ends       coverage.c  which faults met which phases of the protocol
 *   node.c      one node: the parts that node/broker.c puts together, on a simulated disk
 *   network.c   links between nodes and connections of clients
 *   client.c    a model MQTT client that keeps its state and never gives up; client_messages.c: what it publishes and gets
 *   register.c  a client that writes and reads retained topics, and the check that they are linearizable
 *   visitor.c   a client that asks for its session wherever it may be known or not
 *   history.c   what clients saw, and whether the guarantees held
 *   ledger.c    what nodes committed, and whether it was the same everywhere */
#ifndef COTERIE_SIM_H
#define COTERIE_SIM_H

#include "base/bytes.h"
#include "cluster/wire.h"
#include "config.h"
#include "coverage.h"
#include "history.h"
#include "random.h"
#include "schedule.h"

#define SIM_NODES_MAX 5
#define SIM_GROUPS 2   /* of shared subscriptions, if there are any */
#define SIM_MS 1000ull
#define SIM_S (1000 * SIM_MS)
#define SIM_REGISTER_CLIENTS 3

struct sim_node;
struct sim_client;
struct sim_register;
struct sim_visitor;
struct sim_network;
struct sim_faults;
struct sim_ledger;
struct disk_sim;

struct sim_counts {
    uint64_t faults, kills, power_losses, wipes, partitions, pauses, disk_faults, elections, installs;
};

struct sim {
    uint64_t seed;
    struct sim_config config;
    struct schedule *schedule;
    struct random schedule_random, network_random, disk_random, workload_random;
    struct random buggify_random;
    uint64_t buggify_points;     /* a bit for each point of buggify.h that is taken in this run */
    struct sim_network *network;
    struct sim_node *node[SIM_NODES_MAX + 1];   /* 1 to config.nodes */
    struct sim_client **client;
    struct sim_register *registers;
    struct sim_visitor *visitor;
    struct history *history;
    struct sim_faults *faults;
    struct sim_ledger *ledger;
    struct coverage *coverage;
    char directory[64];          /* for snapshot files; removed at the end */
    bool verbose;
    bool calm;                   /* no new faults, no new publishes: heal and drain */
    uint64_t core;               /* a bit for each node to which clients go */
    const char *violation;       /* the first one; the run ends */
    char violation_text[640];
    uint64_t trace;              /* hash over everything that happened: equal seeds give equal traces */
    struct sim_counts counts;
};

static inline uint64_t sim_now_us(const struct sim *sim)
{
    return schedule_now_us(sim->schedule);
}

void sim_violation(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_note(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));   /* with --verbose */
void sim_trace(struct sim *sim, uint64_t what, uint64_t value);

/* ---- cluster.c ---- */
struct sim *sim_new(uint64_t seed, const struct sim_config *config, struct coverage *coverage, bool verbose);
void sim_run(struct sim *sim);
void sim_free(struct sim *sim);

/* ---- ledger.c ---- */
struct sim_ledger *ledger_new(void);
void ledger_free(struct sim_ledger *ledger);
/* Every node commits the same entry at an index; the stamps of batches do not fall. */
void ledger_committed(struct sim *sim, uint32_t node, uint64_t index, uint64_t term, struct bytes entry, struct bytes batch);
/* What a leader takes for cluster time: it does not outrun the time that passes, whatever the wall clocks say. */
void ledger_clock(struct sim *sim, uint32_t node, uint64_t cluster_ms);
/* Equal state at equal index. */
void ledger_hash(struct sim *sim, uint32_t node, uint64_t index, const uint64_t hash[2]);
/* One leader per term. */
void ledger_leader(struct sim *sim, uint32_t node, uint64_t term);
/* How many connections of this model client have had a clean end committed. */
uint32_t ledger_goodbyes(const struct sim_ledger *ledger, uint32_t client);
uint64_t ledger_last(const struct sim_ledger *ledger);    /* the highest index that any node has committed */

/* ---- faults.c ---- */
struct sim_faults *faults_new(struct sim *sim);
void faults_free(struct sim_faults *faults);
void faults_start(struct sim *sim);                       /* from now on, until the end of time or faults_heal() */
/* All is well again on and between the nodes in `nodes`; nothing new happens to the others, who stay as they are. */
void faults_heal(struct sim *sim, uint64_t nodes);
/* From a node: for so long it is in the middle of something rare. */
void faults_opportunity(struct sim *sim, uint32_t node, uint64_t within_us);
/* From a node: it has died in the middle of a step as it was told to, or has stopped because of its disk. */
void faults_node_died(struct sim *sim, uint32_t node);
void faults_node_stopped(struct sim *sim, uint32_t node);
/* Whether this node may say that its disk or what is on it is bad. */
bool faults_disk_is_bad(const struct sim *sim, uint32_t node);
/* How many sectors of its log may have rotted since it was whole. */
unsigned faults_rots(const struct sim *sim, uint32_t node);

/* ---- network.c ---- */
struct sim_network *network_new(struct sim *sim);
void network_free(struct sim_network *network);
void network_send(struct sim *sim, uint32_t from, uint32_t to, int kind, uint8_t *frame, size_t size);
void network_disconnect(struct sim *sim, uint32_t a, uint32_t b, int kind);       /* both ends hear of it, in time */
void network_node_gone(struct sim *sim, uint32_t node);                           /* crashed: its connections end */
/* What may be held up; the connections in it break after a while if it stays. */
void network_cut(struct sim *sim, uint32_t from, uint32_t to, bool cut);          /* one direction */
void network_isolate(struct sim *sim, uint32_t node, bool isolated);
void network_clog(struct sim *sim, uint32_t from, uint32_t to, bool clogged);     /* these do not break */
void network_heal(struct sim *sim, uint64_t nodes);                               /* all between these */
/* Clients: a connection is named by its number; numbers are never used again. */
uint64_t network_dial(struct sim *sim, uint32_t client, uint32_t node);
void network_client_send(struct sim *sim, uint64_t connection, const void *data, size_t size);
void network_client_close(struct sim *sim, uint64_t connection);
/* A client that does not read: what comes for it waits, and its node hears of no progress. */
void network_client_stall(struct sim *sim, uint64_t connection, bool stalled);
void network_node_write(struct sim *sim, uint64_t connection, const void *data, size_t size);
void network_node_close(struct sim *sim, uint64_t connection);

/* ---- node.c ---- */
struct sim_node *node_new(struct sim *sim, uint32_t id);
void node_free(struct sim_node *node);
void node_start(struct sim_node *node);
void node_crash(struct sim_node *node, bool power_loss);
/* It will be gone after so many more outputs, wherever that is in a step. */
void node_doom(struct sim_node *node, uint32_t outputs);
/* Of a node that does not run: all that it had is gone, its next start is that of a replacement. */
void node_wipe(struct sim_node *node);
bool node_is_beyond_repair(const struct sim_node *node); /* it has said that it must be replaced */
bool node_is_member(const struct sim_node *node);        /* since it was wiped last, it has become a voter again */
bool node_is_whole(const struct sim_node *node);         /* running, a voter, and owes nothing that it has lost */
bool node_knows_time(const struct sim_node *node);       /* whole, and has applied something since it started: cluster time goes on in it */
struct node_life node_life(const struct sim_node *node);
void node_pause(struct sim_node *node, uint64_t until_us);
void node_slow(struct sim_node *node, uint64_t turn_us);     /* 0: as fast as configured */
bool node_running(const struct sim_node *node);          /* has started, has not crashed */
void node_step_clock(struct sim_node *node, int64_t ms);   /* the wall clock */
void node_drift_clock(struct sim_node *node, int64_t permille);
struct disk_sim *node_disk(const struct sim_node *node);
void node_wake(struct sim_node *node);                   /* its disk may have more for it than it knows */
bool node_has_removed(const struct sim_node *node, uint32_t id);   /* it is whole, and knows that `id` has been taken out */
void node_remove_member(struct sim_node *node, uint32_t id);   /* in its next turn, if it leads: takes `id` out */
uint64_t node_generation(const struct sim_node *node);   /* grows with each start */
uint64_t node_applied(const struct sim_node *node);
unsigned node_phases(const struct sim_node *node);       /* bits of enum phase_met: what it is in the middle of */
bool node_quiet(const struct sim_node *node);            /* nothing pending: all committed is applied, long work done */
void node_describe(const struct sim_node *node, char *text, size_t size);
uint64_t node_connections(const struct sim_node *node);  /* of clients, open here */
uint64_t node_connected(const struct sim_node *node);    /* sessions that its state takes for connected, anywhere */
/* What must hold inside its state: NULL, or what does not. Also: what its limits have dropped, and what went with the
 * sessions of members of groups. */
const char *node_check(struct sim_node *node, uint64_t *dropped, uint64_t *ended);
void node_final_hash(struct sim_node *node, uint64_t *index, uint64_t hash[2]);
/* From the network. */
void node_link(struct sim_node *node, uint32_t peer, int kind, bool up, uint64_t in, uint64_t out,
               struct node_life life);
void node_frame(struct sim_node *node, uint32_t peer, int kind, const uint8_t *frame, size_t size);
void node_client_open(struct sim_node *node, uint64_t connection);
void node_client_bytes(struct sim_node *node, uint64_t connection, const uint8_t *data, size_t size);
void node_client_written(struct sim_node *node, uint64_t connection, size_t size);
void node_client_closed(struct sim_node *node, uint64_t connection);
/* Whether an event for the node may be handed in now; if it is paused, *later_us says when to try again. */
bool node_awake(const struct sim_node *node, uint64_t *later_us);

/* ---- client.c ---- */
struct sim_client *client_model_new(struct sim *sim, uint32_t id);
void client_model_free(struct sim_client *client);
void client_model_start(struct sim_client *client);
void client_model_opened(struct sim_client *client, uint64_t connection, bool ok);
void client_model_bytes(struct sim_client *client, uint64_t connection, const uint8_t *data, size_t size);
void client_model_closed(struct sim_client *client, uint64_t connection);
void client_model_cut(struct sim_client *client);        /* a fault: its TCP connection breaks, maybe inside a packet */
void client_model_stall(struct sim_client *client, bool stalled);   /* it does not read */
void client_model_describe(const struct sim_client *client, char *text, size_t size);
uint32_t client_model_node(const struct sim_client *client);        /* to which it is connected; 0: to none */
unsigned client_model_phases(const struct sim_client *client);      /* bits of enum phase_met */
bool client_model_idle(const struct sim_client *client); /* connected, nothing of its own unacknowledged */
void client_model_rest(struct sim_client *client);       /* it will stay connected: its will must not be published */

/* ---- register.c ---- (its clients follow the others: numbers from config.clients on) */
struct sim_register *register_new(struct sim *sim);
void register_free(struct sim_register *registers);
void register_start(struct sim_register *registers);
void register_opened(struct sim_register *registers, uint64_t connection, bool ok);
void register_bytes(struct sim_register *registers, uint64_t connection, const uint8_t *data, size_t size);
void register_closed(struct sim_register *registers, uint64_t connection);
const char *register_check(struct sim_register *registers);

/* ---- visitor.c ---- (the last number of all clients) */
struct sim_visitor *visitor_new(struct sim *sim, uint32_t client);
void visitor_free(struct sim_visitor *visitor);
void visitor_start(struct sim_visitor *visitor);
void visitor_opened(struct sim_visitor *visitor, uint64_t connection, bool ok);
void visitor_bytes(struct sim_visitor *visitor, uint64_t connection, const uint8_t *data, size_t size);
void visitor_closed(struct sim_visitor *visitor, uint64_t connection);

#endif
