/* broker_private.h — what the six files of the broker share; nobody else includes it.
 *
 *   broker.c         the turns of the loop: what is applied, snapshotted, checked and sent, and when
 *   broker_seams.c   what one part asks of another: the callbacks between them
 *   broker_doors.c   the listeners: opening, certificates, reloading, and what the core is told of a client
 *   broker_security.c  password file, keys of tokens, ACL file; passwords being checked
 *   broker_start.c   from a configuration to a running node, in this order: ports, data, links, consensus, core
 *   broker_stop.c    endings: asked for, or for trouble; what restarts by itself */
#ifndef COTERIE_BROKER_PRIVATE_H
#define COTERIE_BROKER_PRIVATE_H

#include "broker.h"

#include "admin/admin.h"
#include "admin/admin_door.h"
#include "net/listener.h"
#include "snapshots.h"
#include "store_checks.h"

#define STOP_MS     3000 /* patience with clients and the log when asked to stop */
#define SUBMISSIONS 64   /* more than the proposer has in flight */
#define BROKER_SIGNALS 3

struct committed {
    uint64_t index;
    struct log_entry *entry;
};

/* When a batch of this node was last handed to consensus. */
struct submission {
    uint64_t number;
    uint64_t at_ns;
};

/* A listener, and what the node knows of it. */
struct door {
    struct broker *broker;
    struct listener *listener; /* NULL: closed */
    const struct config_listener *config;
    struct tls_context *tls; /* NULL: a kind without TLS */
    char name[96]; /* this and the facts outlive the listener: core borrows them */
    struct core_listener facts;
    struct log_limit paused_limit, refused_limit;
};

struct broker {
    uv_loop_t *loop;
    const struct config *config;
    enum broker_phase phase;
    enum broker_end end;
    char trouble[256];

    struct data data;
    bool data_open;
    struct core *core;
    struct consensus *consensus;
    struct links *links;
    struct tls_context *links_tls; /* NULL: plain */
    struct tls_context *admin_tls; /* likewise */
    struct snapshots *snapshots;
    uint64_t restored; /* index of the snapshot whose store waits to take the place of ours; 0 = none */
    struct store_checks *checks;
    struct conns *conns;
    struct admin *admin;
    struct door doors[CONFIG_LISTENERS_MAX];
    uint32_t door_count;
    bool reloading;            /* on the thread pool */
    bool reload_again;         /* asked for meanwhile */
    struct security_files *security_files; /* read, and not given to the core yet */
    bool security_reloading, security_reload_again;
    uint64_t certificates_ms;  /* when their expiry is looked at next */

    uv_prepare_t prepare;
    uv_timer_t wake;     /* the next deadline of core or consensus */
    uv_timer_t patience; /* stopping, closing, restarting */
    uv_signal_t signals[BROKER_SIGNALS];

    struct committed *committed; /* a ring: committed[first .. first + waiting) */
    size_t committed_first, committed_waiting, committed_capacity;
    struct log_entry *applying; /* lent to the core; NULL: none was */

    uint64_t now_ms;
    uint64_t turn_ns;     /* when this turn began; 0: it has not */
    uint64_t phase_ns;    /* when its present phase began */
    uint64_t phase_us[TURN_PHASES];
    uint64_t cpu_us;      /* of this thread, when the former turn ended */
    uint64_t stop_ms;     /* patience ends */
    uint64_t snapshot_ms; /* no snapshot before */
    uint64_t minute_ms, minute_longest_us;
    uint64_t jobs; /* on the thread pool */
    struct submission submissions[SUBMISSIONS];
    struct consensus_status told; /* what the log has been told about role and leader */
    struct broker_numbers numbers;
};

/* ---- broker.c ---- */

uint64_t clock_ms(clockid_t clock);

static inline bool broker_alive(const struct broker *broker)
{
    return broker->phase == BROKER_RUNNING || broker->phase == BROKER_STOPPING;
}

/* The first thing after a poll: time, and what a pause means. Once per turn; each callback of the loop calls it first.
 */
void broker_begin(struct broker *broker);
void broker_turn(uv_prepare_t *prepare);
/* Entries that are committed and not applied yet are no longer wanted. */
void forget_committed(struct broker *broker);

/* ---- broker_seams.c: who is called by each part, for its constructor ---- */

struct conn_calls for_conns(struct broker *broker);
struct listener_calls for_listener(struct door *door);
struct core_callbacks for_core(struct broker *broker);
extern const struct consensus_calls for_consensus;
struct links_calls for_links(struct broker *broker);
struct snapshots_calls for_snapshots(struct broker *broker);
struct store_checks_calls for_store_checks(struct broker *broker);
struct data_log for_log(struct broker *broker);
struct disk_queue for_jobs(struct broker *broker);

/* ---- broker_doors.c ---- */

enum status doors_open(struct broker *broker, char *error);
void doors_close(struct broker *broker);
void doors_free(struct broker *broker);
void doors_turn(struct broker *broker);
/* Reads certificates, lists of revoked ones and keys again; a file that cannot be used changes nothing. */
void doors_reload(struct broker *broker);
/* What the core is told of a client; texts of `facts` and of the door. */
struct core_origin door_origin(const struct door *door, const struct filter_facts *facts);

/* ---- broker_security.c ---- */

/* Reads the files; then gives them to the core, before it has a client. */
enum status security_open(struct broker *broker, char *error);
void security_give(struct broker *broker);
void security_close(struct broker *broker);
/* Reads them again; one that cannot be used changes nothing. */
void security_reload(struct broker *broker);
/* Runs a login on the thread pool. */
void security_login(struct broker *broker, struct login *login);

/* ---- broker_stop.c ---- */

/* One line in the log, and the end of all service. May be called from inside core or consensus: nothing of theirs is
 * called from here on, and they are freed by the loop. */
void broker_fail(struct broker *broker, enum status status, const char *why);
/* Closes everything; the loop ends when all is closed. */
void broker_close(struct broker *broker);
void broker_signal(uv_signal_t *signal, int number);

#endif
