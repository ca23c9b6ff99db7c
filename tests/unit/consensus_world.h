/* consensus_world.h — three nodes in one process: real consensus, real log, a simulated disk, virtual time.
 *
 * The world is as simple as can be: frames take 200 µs and arrive in order unless the link is cut; core applies whatever
 * is committed at the end of the turn. Everything else is the code under test. That all nodes are told the same of each
 * index is asserted at every commit. */
#ifndef COTERIE_CONSENSUS_WORLD_H
#define COTERIE_CONSENSUS_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cluster/consensus.h"
#include "log.h"
#include "tests/sim/world/disk_sim.h"

#define SEGMENT_BYTES (64 * 1024)
#define NODES 4 /* 1 to 3 */
#define ENTRIES 16384
#define SNAPSHOT_BYTES (3 * 1024 * 1024)
#define WALL_START 1700000000000ull

struct world;

struct node {
    struct world *world;
    uint32_t id;
    struct node_life life;
    bool running;
    bool paused;
    uint64_t turn_began_ms;     /* its turn goes on since then: it reads what was sent meanwhile; 0: turns take no time */
    struct disk_sim *disk;
    struct log *log;
    struct consensus *consensus;
    uint64_t batches;                       /* numbers given out */
    uint64_t applied;                       /* what its core has, and believes durable */
    uint64_t clock;
    struct log_entry *committed[ENTRIES];   /* by index */
    uint64_t committed_us[ENTRIES];
    struct consensus_snapshot snapshot;
    struct buffer snapshot_file, snapshot_configuration, incoming;
    uint64_t snapshot_stored;
    bool snapshot_unreadable;
    bool finish_incoming;
    uint64_t install;
    unsigned fatals, disconnects, installs;
    enum status fatal;
    uint64_t silent;                        /* as last told */
    struct buffer messages;
};

struct flight {
    uint64_t at_us;
    uint32_t from, to;
    enum link_kind kind;
    uint64_t generation;                    /* the sender's, of the connection it left on */
    uint8_t *data;
    size_t size;
};

struct world {
    uint64_t now_us;
    int64_t wall_offset_ms;
    struct node nodes[NODES];
    struct flight *flights;
    size_t count, capacity;
    bool linked[NODES][NODES];
    uint64_t generation[NODES][NODES][LINK_KINDS];
    uint64_t generations;
    size_t log_bytes_max;
    struct log_entry *truth[ENTRIES];       /* what any node was told is committed at an index: never another */
    unsigned offers;                        /* of snapshots */
};

/* A cluster of three that has elected its leader. */
int setup(void **state);
/* The same, as if a log of one byte were too long: trimmed at every snapshot, up to the one before it. */
int setup_small_log(void **state);
int teardown(void **state);

/* ---- time ---- */
uint64_t now_ms(const struct world *world);
void run_ms(struct world *world, uint64_t ms);

/* ---- nodes and links ---- */
void start_node(struct world *world, uint32_t id, bool bootstrap);   /* from its disk; without links */
void stop_node(struct world *world, uint32_t id, bool power_loss);
void set_link(struct world *world, uint32_t a, uint32_t b, bool up);   /* both connections; up: anew */
void connect_all(struct world *world);   /* running nodes, where there is no link */
void given_an_empty_disk(struct world *world, uint32_t id);   /* of a stopped node: all that it had is gone */
void set_log_bytes_max(struct world *world, size_t bytes);   /* of all nodes, which are started again */
void take_snapshot(struct world *world, uint32_t id);   /* of what it has applied */

/* ---- who leads ---- */
uint32_t leader_of(struct world *world);   /* 0: nobody with a majority */
uint32_t follower_of(struct world *world);   /* one of them */

/* ---- batches ---- */
void submit(struct world *world, uint32_t id);   /* one to this node's consensus */
void submit_size(struct world *world, uint32_t id, size_t size);   /* with a payload of so many bytes */
uint64_t last_applied(struct world *world);   /* by any node */
void then_all_agree_up_to(struct world *world, uint64_t index);

#endif
