/* node_private.h — the insides of a simulated node, shared by node.c, node_calls.c and node_life.c only. */
#ifndef SIM_NODE_PRIVATE_H
#define SIM_NODE_PRIVATE_H

#include "cluster/consensus.h"
#include "node/client/core.h"
#include "sim.h"
#include "snapshot.h"
#include "state.h"
#include "store.h"
#include "world/disk_sim.h"

#define SNAPSHOTS_OPEN 8
#define WALL_START_MS 1700000000000ll

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
    uint32_t leaving;            /* to be taken out of the cluster by this one; 0: none */
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
    uint64_t marked;             /* up to where its disk said that it had */
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

static const uint8_t sim_cluster_id[SNAPSHOT_CLUSTER_ID_SIZE] = {'s', 'i', 'm'};

/* ---- node.c ---- */

/* By the clocks of this node: the one that never goes back, and the other. */
uint64_t node_now_ms(const struct sim_node *node);
uint64_t node_wall_ms(const struct sim_node *node);
/* A turn at that time, or as soon after it as the node can; nothing if one comes before. */
void node_want_turn(struct sim_node *node, uint64_t at_us);
/* Adds to the inbox, whose end is the node's next turn; zeroed but for kind and size. */
struct item *node_item_new(struct sim_node *node, enum item_kind kind, size_t size);
void node_forget_closed_conns(struct sim_node *node);

/* ---- node_calls.c ---- */

/* Both are made from what is open: the log, the state. */
void node_make_consensus(struct sim_node *node, const struct consensus_snapshot *snapshot);
void node_make_core(struct sim_node *node);
/* Work on another thread: the item arrives after a time that is drawn. */
void node_send_on_errand(struct sim_node *node, enum item_kind kind, uint64_t in, uint64_t out);

/* ---- node_life.c ---- */

/* What a node has acknowledged is there after any restart, or it knows that it is not. */
void node_remember_promises(struct sim_node *node);
/* The store anew, from the snapshot at this index; 0: empty. */
void node_load_store(struct sim_node *node, uint64_t index);

#endif
