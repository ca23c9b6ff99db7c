/* replica_private.h — the insides of replica, shared by replica.c and replica_*.c only. */
#ifndef COTERIE_REPLICA_PRIVATE_H
#define COTERIE_REPLICA_PRIVATE_H

#include "pacer.h"
#include "replica.h"

#define REPLICA_DIFFERS "the leader's log and this one differ in a committed entry"

/* A configuration in the log, or in the snapshot below it. */
struct change {
    uint64_t index;
    struct buffer configuration;
};

struct replica {
    struct raft raft;
    struct replica_settings settings;
    struct replica_calls calls;
    void *context;
    struct log *log;
    uint64_t now;
    bool started;
    bool failed;
    char addresses[REPLICA_NODES_MAX][4];
    struct node_life lives[REPLICA_NODES_MAX];   /* as the peers' HELLOs say */
    struct pacer pacers[REPLICA_NODES_MAX];
    uint64_t forgot_ms[REPLICA_NODES_MAX];   /* since when a peer denies what it had acknowledged to us; 0 = it does not */
    uint64_t steps_back[REPLICA_NODES_MAX];  /* how far the next one goes, in search of where a peer's log parts from ours */

    uint64_t commit;
    uint64_t trusted;                  /* entries of the log up to here were committed before we started (S1) */
    uint64_t seen_term;                /* with seen_role: a change of either empties the pacers */
    int seen_role;
    bool stale;                        /* the message at hand is of an old term: its answer is uninitialised (R8) */
    bool pushed;                       /* it is a pushed commit */

    struct change *changes;            /* ascending */
    size_t change_count;
    uint64_t configured;               /* the library knows which are committed up to here */

    bool installing;                   /* S8 */
    struct raft_snapshot_metadata install;

    uint64_t flush_since, flush_durable;   /* S11 */
    uint64_t handed_over_ms;
    uint64_t pushes;
};

/* ---- replica.c ---- */

/* This node cannot go on; says so once. Every entry point does nothing from then on. */
void replica_fail(struct replica *replica, enum status status, const char *reason);
void replica_fail_log(struct replica *replica);   /* because of what the log says of itself */
/* One event in, all its consequences out. `entries`, of which the first belongs at index `first`: what the event
 * brings; NULL: none, or the library makes its own (a barrier). */
void replica_step(struct replica *replica, struct raft_event *event, struct log_entry *const *entries, uint64_t first);
/* As leader, not handing over: appends these entries, of the present term. STATUS_CLOSED: failed. */
enum status replica_append(struct replica *replica, struct log_entry *const *entries, uint32_t count);

/* ---- replica_changes.c ---- */

void changes_add(struct replica *replica, uint64_t index, struct bytes configuration);   /* copied; behind all others */
void changes_drop(struct replica *replica, size_t from, size_t count);
void changes_truncate(struct replica *replica, uint64_t from);   /* those of log indexes from here on */
/* Those up to `index`, which are committed, become final for the library too. */
void changes_settle(struct replica *replica, uint64_t index);
/* The library wants configurations as structs, 8-byte aligned. false: it is not one; else raft_configuration_close() it. */
bool changes_decode(struct bytes bytes, struct raft_configuration *configuration);
/* R1 of members.h: only what the newest configuration names, in this very life, is asked and counted. */
bool replica_is_member(const struct replica *replica, uint32_t peer);
/* R2 of members.h, and damage: it helps nobody to be elected. */
bool replica_may_vote(const struct replica *replica);

/* ---- replica_send.c ---- */

/* What the library wants sent: as it is, corrected, in pieces, or not at all. */
void replica_send(struct replica *replica, struct raft_message *message);
bool replica_is_answer(const struct raft_message *message);

#endif
