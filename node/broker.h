/* broker.h — one node: the place where the parts meet. Owns their lives and the turns of the loop; decides nothing.
 *
 *   clients <-> conns <-> core <-> consensus <-> links <-> other nodes
 *                          |           |
 *                        state        log, snapshots  <-> thread pool
 *
 * broker_open() binds everything before it touches the disk, so that a port in use harms nothing; afterwards the loop
 * runs until broker_stop(), a signal, or trouble. */
#ifndef COTERIE_BROKER_H
#define COTERIE_BROKER_H

#include <uv.h>

#include "admin/histogram.h"
#include "cluster/consensus.h"
#include "cluster/link.h"
#include "config.h"
#include "data.h"
#include "node/client/core.h"

struct broker;
struct admin;

enum broker_phase {
    BROKER_RUNNING,
    BROKER_STOPPING,     /* asked to stop: hands over leadership, says goodbye to clients */
    BROKER_FAILED,       /* this node cannot go on; admin HTTP says why until it restarts or ends */
    BROKER_CLOSING,
};

#define BROKER_ERROR_MAX DATA_ERROR_MAX

/* Any status but STATUS_OK: `error` is one sentence; nothing runs. `config` is borrowed until the loop has ended. */
enum status broker_open(uv_loop_t *loop, const struct config *config, struct broker **broker,
                        char error[BROKER_ERROR_MAX]);
/* Stops in order; SIGTERM and SIGINT do the same. The loop ends when all is closed. */
void broker_stop(struct broker *broker);
/* After the loop has ended. What the process should do next. */
enum broker_end { BROKER_END_STOPPED, BROKER_END_FAILED, BROKER_END_RESTART };
enum broker_end broker_free(struct broker *broker);

/* ---- for the admin interface ---- */

enum turn_phase {
    TURN_SOCKETS,   /* what came: clients, peers, finished jobs */
    TURN_ENTRIES,   /* committed entries are applied */
    TURN_CORE,      /* clients, the commit of the store, writing to sockets */
    TURN_REST,      /* snapshots, checks, consensus, links */
    TURN_PHASES,
};

struct broker_numbers {
    uint64_t now_ms, started_ms;
    uint64_t turns, turn_longest_us;     /* longest since the start */
    uint64_t turn_longest_phase_us[TURN_PHASES];
    uint64_t turn_cpu_us;                /* most that a turn took of a processor: the rest is waiting for one, or for a disk */
    uint64_t turn_recent_us;             /* longest of the last full minute */
    uint64_t committed_waiting;          /* entries committed, not applied yet */
    uint64_t qos0_dropped_backlog;       /* batches to peers that take nothing */
    uint64_t reloads;                    /* password, token and ACL files read again, whatever came of it */
    uint64_t pauses;                     /* the process stood still for long (SIGSTOP, suspended machine) */
    struct histogram batch_commands;     /* per committed batch, of whatever node */
    struct histogram turn_us;            /* turns of the loop; waiting for events is not in them */
    struct histogram flush_us;           /* jobs of the log: write and flush */
    struct histogram commit_us;          /* batches of this node: from submit to applied */
};

enum broker_phase broker_phase(const struct broker *broker);
const char *broker_trouble(const struct broker *broker);         /* BROKER_FAILED: why */
const struct config *broker_config(const struct broker *broker);
const struct data *broker_data(const struct broker *broker);
struct core *broker_core(const struct broker *broker);           /* NULL once failed or closing */
struct consensus *broker_consensus(const struct broker *broker); /* likewise */
uint32_t broker_client_port(const struct broker *broker);        /* of the first listener */

struct broker_listener {
    const char *name, *kind;
    uint32_t connections;
    int64_t certificate_seconds;         /* until something that it needs for TLS expires; INT64_MAX: never, or no TLS */
};
/* False: there is no listener of this number, from 0. */
bool broker_listener(const struct broker *broker, uint32_t number, struct broker_listener *facts);
int64_t broker_link_certificate_seconds(const struct broker *broker);   /* likewise of the links */
int64_t broker_admin_certificate_seconds(const struct broker *broker);
/* Of connections with TLS, WebSocket or PROXY headers. */
struct broker_openings {
    uint64_t opened, refused, timed_out, handshakes;   /* they only grow */
    uint64_t looks_max;                                /* conns_counts(): of all connections */
    uint32_t opening, waiting;                         /* now; of them, for the thread pool */
};
const struct admin *broker_admin(const struct broker *broker);          /* NULL: there is none */
void broker_openings(const struct broker *broker, struct broker_openings *openings);
/* Has a job done on the thread pool; its `done` is called on the loop. */
void broker_submit(struct broker *broker, struct disk_job *job);
/* Reads certificates, keys, password and ACL files again, on the thread pool; what cannot be used changes nothing. */
void broker_reload(struct broker *broker);
/* Takes a member out of the cluster: consensus_remove(). STATUS_CLOSED: this node is not running. */
enum status broker_remove_member(struct broker *broker, uint32_t node);
void broker_numbers(const struct broker *broker, struct broker_numbers *numbers);
/* Whether this node serves clients; if not, *why is a text. */
bool broker_ready(const struct broker *broker, const char **why);

#endif
