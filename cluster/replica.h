/* replica.h — drives raft_step(): events in, things to do out; pure.
 *
 *   messages, timer, submits, flushes --> replica --> messages to send, committed entries, snapshots to install
 *                                            |
 *                                           log (entries, term, vote)
 *
 * The library decides; everything it leaves to its user is here: entries and votes go to the log before any message
 * that speaks of them; AppendEntries are filled from the log and sent at the pace of the peer (below 4 MiB or one
 * entry unacknowledged); commits are pushed; and what the library mishandles is caught before it gets there. These
 * obligations are numbered S1 to S13; each has its place in replica*.c and its test in test_replica*.c.
 *
 * Internal to cluster/: others see consensus.h. */
#ifndef COTERIE_REPLICA_H
#define COTERIE_REPLICA_H

#include <raft.h>

#include "base/bytes.h"
#include "base/status.h"
#include "log.h"
#include "members.h"

struct replica;

#define REPLICA_NODES_MAX (MEMBERS_NODE_MAX + 1)

struct replica_snapshot {
    uint64_t index, term;              /* index 0 = none */
    uint64_t configuration_index;
    struct bytes configuration;        /* raft's encoding; borrowed */
};

struct replica_calls {
    /* Send to message->server_id. `entries`: for AppendEntries, borrowed. */
    void (*send)(void *context, const struct raft_message *message, struct log_entry *const *entries, uint32_t count);
    /* Raft wants `peer` to get a snapshot. Asked again and again until the peer has one (S6). */
    void (*snapshot_needed)(void *context, uint32_t peer);
    /* Make this snapshot (announced by the leader; borrowed) the state, then replica_installed(). */
    void (*install)(void *context, const struct replica_snapshot *snapshot);
    /* This node cannot go on. Once; from then on nothing here does anything. */
    void (*fatal)(void *context, enum status status, const char *reason);
    /* Send this AppendEntries without entries as a pushed commit: the peer gives it to replica_receive_push(). */
    void (*push)(void *context, const struct raft_message *message);
};

struct replica_settings {
    uint32_t self;
    struct node_life life;             /* of this node */
    uint32_t election_ms, heartbeat_ms;
    unsigned in_flight_max;            /* entries; at least 1,024 */
    unsigned seed;
};

/* Settings and calls are copied; the log is open and recovered, and borrowed. Nothing happens before replica_start().
 * Calls come from inside the functions below, with `context`; they must not call back. */
struct replica *replica_new(const struct replica_settings *settings, const struct replica_calls *calls, void *context,
                            struct log *log);
void replica_free(struct replica *replica);   /* NULL is allowed */

/* Appends to `out` the members of a new cluster, in raft's encoding, the same on all nodes. Ids are all different. */
void replica_bootstrap_configuration(const uint32_t *nodes, uint32_t count, struct buffer *out);

/* Starts from the log, all of which is durable, and the newest snapshot. The store is as of `applied`, of term
 * `applied_term`. STATUS_DAMAGED: log and snapshot leave a gap; STATUS_CORRUPT: no log that we wrote. */
enum status replica_start(struct replica *replica, uint64_t now_ms, const struct replica_snapshot *snapshot,
                          uint64_t applied, uint64_t applied_term);
bool replica_started(const struct replica *replica);

/* Time moves on, never back; fires raft's timers. The deadline is when it is wanted again; UINT64_MAX: never. */
void replica_advance(struct replica *replica, uint64_t now_ms);
uint64_t replica_deadline(const struct replica *replica);

/* A message of `peer`. Entries of an AppendEntries: references taken where needed. `configuration`: of InstallSnapshot.
 * Not NULL: no honest peer says this (S12). Nothing was done; close the connection for that reason. */
const char *replica_receive(struct replica *replica, uint32_t peer, struct raft_message *message,
                            struct log_entry *const *entries, uint32_t count, struct bytes configuration);

/* A pushed commit of `peer`. Answered only if it is refused: the leader knows already what an answer would say. */
const char *replica_receive_push(struct replica *replica, uint32_t peer, struct raft_message *message);

/* Appends as leader. STATUS_NOT_LEADER, STATUS_BUSY (leadership is being handed over; try again). */
enum status replica_submit(struct replica *replica, struct log_entry *const *entries, uint32_t count);
/* One membership change at a time, after an entry of our own term, with a majority of the new configuration near the end of
 * the log, and whomever it makes a voter (S5): STATUS_BUSY until then. */
enum status replica_change(struct replica *replica, struct bytes configuration);

/* Which life of `peer` is at the other end from here on: only if the newest configuration names that one is it asked for
 * anything, and only then do its answers count (members.h). Before the first call: the first life. */
void replica_peer_life(struct replica *replica, uint32_t peer, struct node_life life);
/* As leader: takes the next step of bringing that life of `peer` into the cluster. STATUS_OK: a step is on its way, its
 * role is what it was before; STATUS_NOT_FOUND: there is nothing to do, or it must wait; else as replica_change(). */
enum status replica_adopt(struct replica *replica, uint32_t peer, enum member_role *role);
/* As leader: takes `node` out for good. STATUS_OK: that is on its way; else as members_remove(), or replica_change(). */
enum status replica_remove(struct replica *replica, uint32_t node);

/* The log has flushed up to `durable`. */
void replica_flushed(struct replica *replica, uint64_t durable);
/* End of a turn: sends what is due to peers, pushes commits, starts the flush. */
void replica_flush(struct replica *replica);

/* The connection to `peer` is new or gone: nothing sent on the old one is believed to have arrived. */
void replica_peer_reset(struct replica *replica, uint32_t peer);

/* A snapshot of this node was verified (its configuration is copied). Entries before `keep_from` may be forgotten, if it
 * covers them. A peer that is further behind needs the snapshot. */
void replica_snapshot_taken(struct replica *replica, const struct replica_snapshot *snapshot, uint64_t keep_from);
/* The answer to `install`: the state is as of the snapshot's index. */
void replica_installed(struct replica *replica);

/* As leader: hands leadership to `node` (0 = whoever is best). STATUS_NOT_LEADER; STATUS_BUSY: it is being handed over;
 * STATUS_NOT_FOUND: nobody, or no voter. STATUS_OK only says that the attempt has begun. */
enum status replica_transfer(struct replica *replica, uint32_t node);

/* ---- facts ---- */
enum raft_state replica_role(const struct replica *replica);
uint32_t replica_leader(const struct replica *replica);       /* 0 = none known */
uint64_t replica_term(const struct replica *replica);
uint64_t replica_commit(const struct replica *replica);       /* committed, and held by the log; never falls */
bool replica_transferring(const struct replica *replica);     /* as leader: it is handing over, and appends nothing */
bool replica_damaged(const struct replica *replica);          /* log_owed(): it neither votes nor leads */
/* What this life of the node is in the newest configuration, and whether that is committed. */
enum member_role replica_member(const struct replica *replica, bool *committed);
bool replica_installing(const struct replica *replica);       /* between `install` and replica_installed() */
uint64_t replica_match(const struct replica *replica, uint32_t peer);   /* as leader: what `peer` has; 0: unknown */
uint64_t replica_voters(const struct replica *replica);       /* bit per node */
uint64_t replica_members(const struct replica *replica);      /* the same, with those that learn */
uint64_t replica_removed(const struct replica *replica);      /* taken out for good */
bool replica_has_removed(const struct replica *replica, uint32_t node, struct node_life life);
uint64_t replica_pushes(const struct replica *replica);       /* commits pushed so far */
/* How long the log has owed us a flush, without the time in which this node stood still. */
uint64_t replica_flush_lag_ms(const struct replica *replica);
/* Members as of `index`: raft's encoding, borrowed until the next call that changes something. */
struct bytes replica_configuration(const struct replica *replica, uint64_t index, uint64_t *configuration_index);

#define REPLICA_FLUSH_WATCH_MS 1000    /* S11: looks at the log's flush at least so often, if it runs */
#define REPLICA_FLUSH_SLOW_MS 2000     /* S11: hand leadership over */
#define REPLICA_FLUSH_DEAD_MS 10000    /* S11: exit */

#endif
