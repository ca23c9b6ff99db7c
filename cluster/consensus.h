/* consensus.h — one node's part in agreeing on the log: a pure object that the runtime and the simulator drive.
 *
 *   links ----frames---> +-----------+ ----frames----------> links
 *   core  ----batches--> | consensus | ----committed entries, in order----> core
 *   log   ----flushed--> +-----------+ ----writes----------> log
 *
 * Inside: replica (raft, its log), forwarding of batches to the leader, cluster time, snapshots to peers, comparison of
 * state hashes, and what this node knows of its own health.
 *
 * A turn of the loop: consensus_advance(now) first, then any events, then consensus_flush() last. Callbacks come from
 * inside any of these calls; they must not call back into this object (put what they bring into a queue). No clock, no
 * socket, no random source: time comes with consensus_advance, chance with the seed.
 *
 * Nothing here blocks but reads of old entries and of snapshot chunks from disk, a bounded number per turn. */
#ifndef COTERIE_CONSENSUS_H
#define COTERIE_CONSENSUS_H

#include "base/status.h"
#include "log.h"
#include "wire.h"

struct consensus;

enum consensus_role {
    CONSENSUS_STARTING,
    CONSENSUS_FOLLOWER,
    CONSENSUS_CANDIDATE,
    CONSENSUS_LEADER,
};

/* What this node believes. Beliefs, not proof: two nodes can think that they lead, so nothing is answered on it (S10). */
struct consensus_status {
    enum consensus_role role;
    uint32_t leader;             /* 0 = none known */
    uint64_t term;
    uint64_t route;              /* grows with each change of leader, term or bulk connection to the leader:
                                  * feed leader, term and this to proposer_route() */
    uint64_t last, durable, commit, applied;   /* log indexes */
    bool majority;               /* leader: a majority answers; follower: it hears a leader */
    bool caught_up;              /* has applied, since its start, all that was committed when it first heard a leader;
                                  * cleared while it lags far behind */
    uint64_t leader_heard_ms;    /* now_ms when it last heard a leader; as leader: when it last heard a majority. For G8 */
    uint64_t cluster_ms;         /* cluster time by its own reckoning; 0 = unknown yet */
    uint64_t linked;             /* bit per node: the bulk link to it is up */
    uint64_t silent;             /* as leader, bit per node: not heard for node_timeout */
    uint64_t removed;            /* bit per node: taken out of the cluster for good, as of the last committed change that
                                  * this node knows */
    bool damaged;                /* log_owed(): does not vote until it has been rebuilt from its peers */
    bool outside;                /* in this life it is no voting member (yet): see members.h */
    bool flush_slow;             /* its disk has not flushed for 2 s */
    bool full;                   /* its disk has no space for more of the log: it goes on while its file lasts, but does
                                  * not want to lead, and as leader accepts nothing */
    bool transferring;           /* it is handing leadership over */
    uint64_t silence_count_ms;   /* since when silence is counted (a paused leader starts anew) */
};

struct consensus_snapshot {
    uint64_t index, term;        /* of the last entry that it contains; index 0 = none */
    uint64_t configuration_index;
    struct bytes configuration;  /* members as of `index`, in raft's encoding; see consensus_configuration() */
};

/* What consensus asks of its surroundings. Each gets the `context` of consensus_new. */
struct consensus_calls {
    /* Send a frame (malloc'd; the callee owns it) on that link. Frames of one link go out in the order of the calls. */
    void (*send)(void *context, uint32_t peer, enum link_kind kind, uint8_t *frame, size_t size);
    /* This connection has broken its rules: close it (then consensus_link_down). */
    void (*disconnect)(void *context, uint32_t peer, enum link_kind kind, uint64_t generation, const char *reason);
    /* The next committed entry; the callee owns the reference. Answer with consensus_applied(). */
    void (*commit)(void *context, uint64_t index, struct log_entry *entry);
    /* Anything in the status but its counters has changed. */
    void (*changed)(void *context, const struct consensus_status *status);

    /* Snapshot files (snapshot.h). Open one to read it for a peer (there can be several openings, also of the same);
     * quick reads; close. Its size is for the offer. */
    enum status (*snapshot_open)(void *context, uint64_t index, uint64_t *size);
    enum status (*snapshot_read)(void *context, uint64_t index, uint64_t offset, void *data, size_t size);
    void (*snapshot_close)(void *context, uint64_t index);
    /* A snapshot from the leader arrives: begin a file (the remains of an earlier one go), append, and at the end flush
     * and verify it on a worker: then call consensus_received(). */
    enum status (*incoming_open)(void *context);
    enum status (*incoming_write)(void *context, uint64_t offset, struct bytes chunk);
    void (*incoming_finish)(void *context);
    /* The snapshot at `index`, which was received and verified, becomes this node's state: close all clients, replace
     * the store, then call consensus_installed(). Until then no entry is committed. */
    void (*install)(void *context, uint64_t index, uint64_t term);

    /* QoS 0 messages from a peer: read them with wire_message_next. */
    void (*messages)(void *context, uint32_t peer, struct bytes messages);
    /* `peer` has applied up to `index` (a SUBACK waits for it). */
    void (*peer_applied)(void *context, uint32_t peer, uint64_t index);
    /* This node cannot go on. Say why and exit; call nothing here again but consensus_free. */
    void (*fatal)(void *context, enum status status, const char *reason);
    /* For the log file: something an operator might want to know. */
    void (*note)(void *context, const char *text);
};

struct consensus_settings {
    uint32_t self;
    struct node_life life;       /* of this node's data directory */
    const uint32_t *bootstrap;   /* node ids of a new cluster, the same list on all of them; copied. NULL: not a new one,
                                  * then an empty log waits for a leader. Ignored if the log is not empty */
    uint32_t bootstrap_count;
    uint32_t election_ms;        /* 0 = 300 */
    uint32_t heartbeat_ms;       /* 0 = 50 */
    uint64_t node_timeout_ms;    /* 0 = 2,000 */
    uint64_t seed;               /* random */
    size_t log_bytes_max;        /* what the log takes on disk, as consensus_snapshot_taken() says; 0 = 1 GiB */
    uint32_t in_flight_entries;  /* unacknowledged entries per peer; 0 = 4,096 */
};

/* `log` is open and recovered, and borrowed; its `flushed` leads to consensus_flushed(). `snapshot`: the newest verified
 * one (index 0: none). `applied_index`, `applied_term`: what the store holds; `clock_ms`: state_clock_ms(). */
struct consensus *consensus_new(const struct consensus_settings *settings, const struct consensus_calls *calls,
                                void *context, struct log *log, const struct consensus_snapshot *snapshot,
                                uint64_t applied_index, uint64_t applied_term, uint64_t clock_ms);
void consensus_free(struct consensus *consensus);   /* NULL is allowed */

/* Starts to take part. STATUS_CORRUPT, STATUS_DAMAGED: log, snapshot and store do not belong together (`note` says
 * why); STATUS_IO_ERROR, STATUS_NO_SPACE. */
enum status consensus_start(struct consensus *consensus, uint64_t now_ms, uint64_t wall_ms);

/* First call of each turn. `now_ms`: CLOCK_BOOTTIME, never back. `wall_ms`: used only after a gap in which no node ran. */
void consensus_advance(struct consensus *consensus, uint64_t now_ms, uint64_t wall_ms);
/* All that this turn looks at has been received by `now_ms`. A turn can be long, and what was sent meanwhile be read in it: time
 * that others tell was true then, at the latest, and not when the turn began. Optional: without it a turn takes no time. */
void consensus_heard(struct consensus *consensus, uint64_t now_ms);
uint64_t consensus_deadline(const struct consensus *consensus);   /* now_ms of the next advance that is needed */
/* Makes the `commit` calls for what is committed by now, without waiting for consensus_flush(). */
void consensus_deliver(struct consensus *consensus);
/* Last call of each turn: group commit, forwarding, pushed commits. */
void consensus_flush(struct consensus *consensus);
/* From the log's `flushed`. May be called outside of a turn (then follow it with consensus_flush). */
void consensus_flushed(struct consensus *consensus, enum status status, uint64_t durable);

/* ---- links ---- */
/* `in`: the generation in the peer's HELLO, `out`: ours. A link that comes up replaces the one before. */
void consensus_link_up(struct consensus *consensus, uint32_t peer, enum link_kind kind, uint64_t in, uint64_t out);
/* Which life of the peer its HELLO told: before consensus_link_up, if it is not the first one or differs from before. As
 * leader this node brings a replacement into the cluster. */
void consensus_peer_life(struct consensus *consensus, uint32_t peer, struct node_life life);
/* The connection of that generation is gone; nothing if another one has replaced it. */
void consensus_link_down(struct consensus *consensus, uint32_t peer, enum link_kind kind, uint64_t in);
/* A whole frame that is not a HELLO. Frames of another generation than the link's are dropped. */
void consensus_receive(struct consensus *consensus, uint32_t peer, enum link_kind kind, struct bytes frame);

/* ---- core ---- */
/* A batch of this node's proposer (copied), at most WIRE_ENTRY_BYTES_MAX: larger packets must be refused at the door. It
 * is appended, forwarded, or lost: the proposer sends again. */
void consensus_submit(struct consensus *consensus, struct bytes batch);
/* Core has applied the entry at `index`; `clock_ms` is state_clock_ms() after it. Calls may skip indexes. Peers are told
 * at the end of the turn if one of them waits for it (`awaited`), else now and then. */
void consensus_applied(struct consensus *consensus, uint64_t index, uint64_t clock_ms, bool awaited);
/* QoS 0 messages for clients of `peer` (wire_message_put), at most once per turn and peer. false: the link is down. */
bool consensus_messages(struct consensus *consensus, uint32_t peer, struct bytes messages);
/* From EFFECT_CHECKPOINT: this node's hash. Compared with the others'. */
void consensus_hash(struct consensus *consensus, uint64_t index, const uint64_t hash[2]);

/* ---- snapshots ---- */
/* Members as of the applied entry `index`, for the head of a snapshot of it; borrowed until the next call. */
struct bytes consensus_configuration(const struct consensus *consensus, uint64_t index, uint64_t *configuration_index);
/* Whether the log has grown so much since the last snapshot that core should take one; or before it, while that was being
 * written: then another one lets it be trimmed; or a peer has found the last one damaged. */
bool consensus_wants_snapshot(const struct consensus *consensus);
/* A snapshot of the applied state has been written, flushed and verified. Copied. Keep the two newest files.
 *
 * Of the log, as much stays as fits into three quarters of log_bytes_max, so that a peer which is no further behind needs
 * no snapshot; and all that has come since the snapshot before this one, which may turn out to be the only good one; and
 * what a peer needs that is being sent one. The last quarter is what comes until the next snapshot is wanted. So the log
 * takes no more than log_bytes_max, and what comes while snapshots are being written, and parts of segments: it is trimmed
 * by whole files. */
void consensus_snapshot_taken(struct consensus *consensus, const struct consensus_snapshot *snapshot);
/* The answer to `incoming_finish`: STATUS_OK if the file is whole, verified and has its name. */
void consensus_received(struct consensus *consensus, enum status status);
/* The answer to `install`. STATUS_OK: state and store are as of `index`, durably, clock_ms its clock. Else fatal(). */
void consensus_installed(struct consensus *consensus, enum status status, uint64_t index, uint64_t clock_ms);

/* ---- operation ---- */
/* Hands leadership to `node` (0 = whoever is best); also before stopping. STATUS_NOT_LEADER, STATUS_BUSY, STATUS_NOT_FOUND. */
enum status consensus_transfer(struct consensus *consensus, uint32_t node);
/* As leader: takes `node` out of the cluster for good; the status says when it is. Only one that is silent, and so serves
 * nobody: stop it first. STATUS_OK: it is on its way, or done. STATUS_NOT_LEADER; STATUS_NOT_FOUND: it is no member;
 * STATUS_INVALID: fewer than two voters would be left; STATUS_BUSY: it is heard, or a change is under way, or too
 * many of the others are far behind. */
enum status consensus_remove(struct consensus *consensus, uint32_t node);
/* Whether that life of `peer` has been taken out, as far as this node knows. */
bool consensus_has_removed(const struct consensus *consensus, uint32_t peer, struct node_life life);
void consensus_status(const struct consensus *consensus, struct consensus_status *status);   /* as of the last call */

/* Numbers for /metrics, since consensus_new(). */
struct consensus_counts {
    uint64_t batches_appended, batches_forwarded, batches_dropped;
    uint64_t frames_in, frames_out, bytes_in, bytes_out, frames_dropped;
    uint64_t elections, snapshots_sent, snapshots_received, pushes;
};
void consensus_counts(const struct consensus *consensus, struct consensus_counts *counts);

/* What state_apply wants of a committed entry: the batch, or nothing if it holds no command. */
static inline struct bytes consensus_entry_batch(const struct log_entry *entry)
{
    return entry->type == LOG_COMMAND ? log_entry_bytes(entry) : bytes_of(NULL, 0);
}

#endif
