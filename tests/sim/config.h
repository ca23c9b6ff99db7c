/* config.h — what a seed draws before anything else: the world, the clients, and which faults there are (swarm testing:
 * a run with few kinds of faults goes deeper into each than one with all of them).
 *
 * Every field is a row of the table in config.c, with its name: so a run can be repeated with one of them changed
 * (`--set fault-kill=0`), which is how a failing seed is reduced. To add a field: here, and a row there. */
#ifndef COTERIE_SIM_CONFIG_H
#define COTERIE_SIM_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

/* One bit of chance for each kind; what they do is in faults.c, in this order. */
enum fault {
    FAULT_KILL,            /* a process dies; its disk keeps all that was written */
    FAULT_KILL_MID_STEP,   /* it dies between two outputs of one turn */
    FAULT_POWER,           /* a machine dies: unsynced sectors are lost, in any order */
    FAULT_ALL_DOWN,        /* all nodes at once */
    FAULT_CRASH_LOOP,      /* the same node again and again, soon after its start */
    FAULT_ISOLATE,         /* partitions: one node is alone */
    FAULT_RING,            /* every node sees a majority, no two the same one */
    FAULT_BRIDGE,          /* two halves that see each other through one node only */
    FAULT_SPLIT,           /* any two groups */
    FAULT_ONE_WAY,         /* one node is heard, but does not hear, or the reverse */
    FAULT_FLAP,            /* a partition that comes and goes at about the election timeout */
    FAULT_SWIZZLE,         /* nodes are cut off one by one, and come back in another order */
    FAULT_CLOG,            /* one direction is held, then everything arrives at once */
    FAULT_BREAK,           /* a connection between two nodes ends; one of them may notice late */
    FAULT_PAUSE,           /* a process is stopped for 10 ms to 30 s */
    FAULT_SLOW_CPU,        /* each turn of a node takes long */
    FAULT_CLOCK_STEP,      /* a wall clock jumps by up to an hour */
    FAULT_CLOCK_DRIFT,     /* a wall clock runs up to 5 % fast or slow */
    FAULT_WIPE,            /* a node loses its data and comes back as a replacement */
    FAULT_REMOVE,          /* a node is taken out of the cluster, and joins again as a replacement */
    FAULT_DISK_SLOW,
    FAULT_DISK_HANG,
    FAULT_DISK_WRITE,      /* a write fails, in part */
    FAULT_DISK_SYNC,       /* a sync fails, and drops what was to be synced */
    FAULT_DISK_READ,
    FAULT_DISK_FULL,
    FAULT_DISK_FLIP,       /* a bit of the log rots, on one node at a time */
    FAULT_DISK_MISDIRECT,  /* a sector of the log is written to another place, on one node at a time */
    FAULT_CLIENT_CUT,      /* many clients lose their connection at once, some in the middle of a packet */
    FAULT_CLIENT_STALL,    /* some clients do not read for a while */
    FAULT_KINDS,
};

struct sim_config {
    uint64_t nodes;
    uint64_t safety_ms;              /* how long faults go on */
    uint64_t fault_gap_ms;           /* mean time between two faults */
    uint64_t fault[FAULT_KINDS];     /* 1: happens in this run */

    uint64_t latency_us, jitter_us;  /* between nodes */
    uint64_t spike_permille;         /* of frames are late by up to 200 ms */
    uint64_t loss_permille;          /* of segments are lost and sent again by TCP, which holds up what follows */
    uint64_t misorder_permille;      /* of frames come twice or out of order, which TCP never does: the link must end */
    uint64_t heartbeat_ms, election_ms;
    uint64_t turn_us;                /* what a turn of a node costs */
    uint64_t disk_us;                /* mean time of a flush */
    uint64_t disk_tail_permille;     /* of flushes take fifty times as long */
    uint64_t log_bytes_max;          /* small: snapshots and trimming happen often */
    uint64_t segment_bytes;
    uint64_t cache_bytes;
    uint64_t in_flight_entries;

    uint64_t clients, topics;
    uint64_t publish_gap_ms;         /* mean, per client */
    uint64_t payload_bytes;
    uint64_t window;                 /* of publishers */
    uint64_t receive_maximum;
    uint64_t queue_messages_max;     /* of the cluster's limits; 0: none that is met */
    uint64_t output_bytes_max;       /* waiting for one socket; 0: the default */
    uint64_t broadcast;              /* many clients share filters, beyond 8 members */
    uint64_t shared;                 /* some clients are members of groups */
    uint64_t resubscribe;            /* clients unsubscribe and subscribe again while it runs */
    uint64_t clean_permille;         /* of clients have sessions that end with their connection */
    uint64_t brief_permille;         /* of clients have sessions that expire a few seconds after it */
    uint64_t will_permille;          /* of clients have a will */
    uint64_t expiry_permille;        /* of messages expire after 1 to 5 s */
    uint64_t late_ack_permille;      /* of deliveries are acknowledged up to half a second late, in any order */
    uint64_t roam_permille;          /* of reconnects leave the old connection open: a take-over, and two with one id */
    uint64_t registers;              /* retained topics that are written and read */
    uint64_t visitor_gap_ms;         /* mean, between two visits of the client that makes sessions and ends them; 0: none */
    uint64_t packet_ids;             /* so many for each client, if buggify.h is built in; 0: all */
    uint64_t buggify_permille;       /* how often a branch of buggify.h is taken, if they are built in */
};

void config_draw(struct sim_config *config, uint64_t seed);
/* "name=value"; false: no such field, or no number. */
bool config_set(struct sim_config *config, const char *assignment);
/* Calls `each` for every field, in the order of the table. */
void config_each(const struct sim_config *config, void (*each)(void *context, const char *name, uint64_t value),
                 void *context);
const char *fault_name(enum fault fault);

#endif
