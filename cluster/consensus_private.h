/* consensus_private.h — the insides of consensus, shared by consensus.c, consensus_*.c and transfer.c only. */
#ifndef COTERIE_CONSENSUS_PRIVATE_H
#define COTERIE_CONSENSUS_PRIVATE_H

#include "consensus.h"
#include "hashes.h"
#include "replica.h"
#include "wire_raft.h"

#define NODES REPLICA_NODES_MAX
#define AHEAD_ENTRIES 1024                    /* committed entries handed to core and not applied yet */
#define AHEAD_BYTES (32u * 1024 * 1024)

struct peer_link {
    bool up;
    bool broken;                              /* told to disconnect: nothing more is taken */
    uint64_t in, out;                         /* generations */
    uint64_t received, sent;                  /* sequence numbers */
};

/* A snapshot on its way to a peer. */
struct outgoing {
    bool active;
    bool stored;                              /* the peer has all of it, its raft has been told at ready_ms */
    uint64_t ready_ms;
    uint64_t index, term, size;
    uint64_t sent, acknowledged;              /* offsets */
    uint64_t moved_ms;                        /* of the last acknowledgement */
    uint64_t configuration_index;
    struct buffer configuration;
};

/* A peer that has got a snapshot comes nearer to the end of the log. */
struct following {
    bool active;
    uint64_t match, moved_ms;                 /* what it has, and since when */
    uint64_t target, behind;                  /* the end of the log when it was last looked at, and the bytes up to there */
};

/* One on its way to us. */
struct incoming {
    bool open;                                /* chunks are being written */
    bool finishing;                           /* a worker flushes and verifies */
    bool stored;                              /* verified: waits for the leader's raft, or is being installed */
    uint32_t from;
    uint64_t index, term, size, offset;
};

struct peer {
    struct peer_link links[LINK_KINDS];
    struct node_life life;
    bool known;                               /* it was a member, or its link was up, since this node started */
    uint64_t heard_ms;                        /* last frame on any link; 0 = never */
    uint64_t applied;                         /* as it told us */
    uint64_t clock_ms, clock_at_ms;           /* its cluster time, and when it said so; 0 = it knows none */
    bool told_clock;                          /* has said so, or that it knows none, since this node started */
    uint64_t told_applied;                    /* as we told it; UINT64_MAX = nothing on this link */
    uint64_t told_applied_ms;
    struct outgoing outgoing;
    struct following following;
};

struct consensus {
    struct consensus_settings settings;
    struct buffer bootstrap;                  /* the first configuration, until it has been written */
    struct consensus_calls calls;
    void *context;
    struct log *log;
    struct replica *replica;
    uint64_t now, wall;
    bool bootstrapping;                       /* the first entry is not durable yet */
    bool failed;
    bool resigned;                            /* its disk is full: it leads only if nobody else will, and appends nothing */
    uint64_t resigned_ms, resigned_pause_ms;  /* of the last attempt to hand over, and until the next one */
    uint64_t space_asked_ms;                  /* when the log was last asked to look for space */

    struct consensus_snapshot newest, older;  /* verified here; configurations owned */
    struct buffer newest_configuration, older_configuration;
    struct consensus_snapshot installing;     /* what core is making its state */
    struct buffer installing_configuration;
    uint64_t start_applied, start_applied_term;
    uint64_t start_last;                      /* end of the log at start */
    uint64_t quiet_last, quiet_ms;            /* end of the log, and since when; quiet_ms 0: already marked durable */

    uint64_t next;                            /* next entry for core */
    uint64_t applied;
    bool applied_awaited;                     /* a peer waits to hear of it */
    uint32_t ahead_sizes[AHEAD_ENTRIES];      /* by index modulo */
    size_t ahead_bytes;
    uint64_t bytes_since_snapshot;            /* of the newest one's index: given to core */
    uint64_t bytes_between_snapshots;         /* in the log, from the older to the newest, as that was taken */

    struct log_entry **pending;               /* as leader: batches to append, of the present term */
    size_t pending_count, pending_capacity, pending_bytes;

    uint64_t doubted_snapshot;                /* of ours, that a peer found damaged; 0: none */

    uint64_t heard_ms;                        /* by then all was received that this turn looks at; not before now */
    uint64_t clock_ms, clock_at_ms;           /* cluster time, and when it was that */
    bool clock_live;                          /* reckoned from an entry of this run, not from before the start */
    uint64_t leads_since_ms;
    uint64_t stamp_floor;                     /* no stamp in the log is beyond */

    uint64_t adopted_ms;                      /* when replacements were last looked after */
    bool inside;                              /* this life is a voting member, by a committed configuration, stored here */
    uint64_t removed;                         /* as of the last committed change of members */
    uint64_t leader_heard_ms;
    uint64_t silence_from_ms;                 /* V24 */
    uint64_t known_commit;                    /* as told by leaders; can be beyond our log */
    uint64_t caught_up_target;                /* 0 = no leader heard yet */
    bool caught_up;
    uint64_t route;
    uint32_t route_leader;
    uint64_t route_term;
    enum raft_state last_role;
    struct consensus_status last_status;

    struct peer peers[NODES];
    uint32_t peers_end;                       /* those from here on were never linked since this node started */
    struct incoming incoming;
    struct hashes hashes;
    struct buffer frame;                      /* under construction */
    struct consensus_counts counts;
};

/* ---- consensus.c ---- */
/* This node cannot go on; says so once. Whoever calls this returns, and every entry point does nothing from then on. */
void consensus_fail(struct consensus *consensus, enum status status, const char *reason);
/* A line for the log file, at most 255 bytes. */
void consensus_note(struct consensus *consensus, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- consensus_batches.c ---- */
/* As leader: a batch (copied) waits for the end of the turn. Dropped if too many do, or after resigning. */
void batches_append(struct consensus *consensus, struct bytes batch);
void batches_drop(struct consensus *consensus);                /* all that wait */
bool batches_may_submit(const struct consensus *consensus);
void batches_flush(struct consensus *consensus);               /* stamps and submits what waits, as far as there is room */
bool batches_may_deliver(const struct consensus *consensus);

/* ---- consensus_clock.c ---- */
uint64_t clock_reckon(const struct consensus *consensus);      /* cluster time now, by this node's reckoning */
void clock_set(struct consensus *consensus, uint64_t clock_ms);
/* A batch with this stamp has been applied; `of_this_run`: it was not in the log when this node started. */
void clock_applied(struct consensus *consensus, uint64_t stamp_ms, bool of_this_run);
uint64_t clock_next_stamp(struct consensus *consensus);        /* for the next batch; never falls */
/* As leader: makes the clock live, or waits for peers to tell the time: then call again. */
void clock_take_over(struct consensus *consensus);
/* Stamps never run backwards: what these entries, or the end of the log, hold is the floor. */
void clock_raise_floor(struct consensus *consensus, struct log_entry *const *entries, uint32_t count);
enum status clock_raise_floor_from_log(struct consensus *consensus);

/* ---- consensus_frames.c ---- */
/* Whether its link is up, and we have not ended it in this turn. */
bool consensus_reaches(const struct consensus *consensus, uint32_t peer, enum link_kind kind);
/* Starts a frame to `peer`; NULL: that is not so. Append the body, then consensus_frame_send. */
struct buffer *consensus_frame(struct consensus *consensus, uint32_t peer, enum wire_type type);
void consensus_frame_send(struct consensus *consensus, uint32_t peer, enum wire_type type);
/* The peer has broken the rules of the link: nothing more is taken from it, and it is closed. */
void consensus_break(struct consensus *consensus, uint32_t peer, enum link_kind kind, const char *reason);
/* Sends to message->server_id, or drops it: raft sends again. `entries`: those of an AppendEntries. */
void frames_send_raft(struct consensus *consensus, enum wire_type type, const struct raft_message *message,
                      struct log_entry *const *entries, uint32_t count);
void frames_tell_applied(struct consensus *consensus);         /* to peers that wait for it, or have not heard for long */

/* ---- consensus_health.c ---- */
/* `peer` speaks as leader of `term`, and has committed up to `commit`. */
void health_heard_leader(struct consensus *consensus, uint32_t peer, uint64_t term, uint64_t commit);
void health_update(struct consensus *consensus);               /* role, route, majority, caught up */
uint64_t health_silent_nodes(const struct consensus *consensus);   /* bit per node; as leader */
void health_tell(struct consensus *consensus);                 /* calls `changed` if anything but counters has */

/* ---- transfer.c ---- */
void transfer_wanted(struct consensus *consensus, uint32_t peer);                 /* raft: this peer needs one */
void transfer_link_down(struct consensus *consensus, uint32_t peer);
/* Frames of `peer`, which may be anything that decodes. */
void transfer_receive_offer(struct consensus *consensus, uint32_t peer, const struct wire_snapshot_offer *offer);
void transfer_receive_chunk(struct consensus *consensus, uint32_t peer, const struct wire_snapshot_chunk *chunk);
void transfer_receive_ack(struct consensus *consensus, uint32_t peer, const struct wire_snapshot_ack *ack);
void transfer_received(struct consensus *consensus, enum status status);          /* the answer to incoming_finish */
/* Whether an InstallSnapshot of raft may be shown to the replica: only if its file is here. */
bool transfer_is_stored(const struct consensus *consensus, uint64_t index, uint64_t term);
/* Raft wants the stored one installed: core is asked to; and core has done it. */
void transfer_install(struct consensus *consensus, const struct replica_snapshot *snapshot);
void transfer_installed(struct consensus *consensus);
/* The first entry that stays for the peers which are getting a snapshot, or have got one and need what came meanwhile: the
 * last that they have, because raft asks for its term. UINT64_MAX: there are none. */
uint64_t transfer_keep_from(const struct consensus *consensus);
void transfer_advance(struct consensus *consensus);                                /* ends what has stalled */
void transfer_free(struct consensus *consensus);

#endif
