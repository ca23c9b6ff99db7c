/* state.h — the replicated state machine: sessions, subscriptions, queues, retained messages and wills.
 *
 *   committed entry --state_apply--> rows in the store + effects
 *
 * Deterministic: the same entries give the same rows, the same state hash and the same effects on every node (but for
 * which clients are "held here"). It reads no clock, draws no random number, and never asks whether this node leads.
 * Single-threaded; the owner calls it from one thread.
 *
 * Words: `order` is the place of a delivery in one session's sequence. It comes from the one counter that also numbers
 * messages (message_id): a live message is delivered with order = message_id, a retained message that a SUBSCRIBE
 * found gets fresh numbers, so that its place is the SUBSCRIBE's. packet id = 1 + order mod 65,535 on every node. */
#ifndef COTERIE_STATE_H
#define COTERIE_STATE_H

#include "command.h"
#include "effects.h"

struct names;
struct state;
struct store;

#define NODES_MAX 64   /* node ids are 1 to NODES_MAX - 1 */

/* Builds the in-memory indexes from `store` (borrowed until state_close). `self` is this node's id: only effects for
 * sessions that it holds carry targets. STATUS_CORRUPT names the table in the log. */
enum status state_open(struct store *store, uint32_t self, struct state **state);
void state_close(struct state *state);

/* Applies the entry at `index` (the next one: state_applied() + 1), of `term`. `entry` holds a batch, or is empty for
 * an entry without a command (a raft configuration or barrier). Its effects are appended to `effects`.
 *
 * A batch or command that cannot be decoded is skipped with no effect but the advance of the index, identically on
 * every node, and counted. Any status but STATUS_OK means that this node cannot go on (the store has failed). */
enum status state_apply(struct state *state, uint64_t index, uint64_t term, struct bytes entry, struct effects *effects);

/* The same in steps, so that no entry holds up a loop for long: state_apply_begin(), then state_apply_more() until it is no
 * longer state_applying(). `entry` is borrowed until then. A step does some `looks` of work (state_worked) and appends the
 * effects of that; the first is EFFECT_BATCH as above. Effects are carried out after each step, and cleared, as they may be
 * many. Between steps the state may be read, unless it is amid a command; it is not committed. */
void state_apply_begin(struct state *state, uint64_t index, uint64_t term, struct bytes entry);
enum status state_apply_more(struct state *state, struct effects *effects, uint64_t looks);
bool state_applying(const struct state *state);
bool state_amid_command(const struct state *state);

/* Work done since state_open(), in looks: at a thing in memory 1, at a row of the store 10, at a page of it that has to be
 * written out for it 25 more; some 100 ns each. */
uint64_t state_worked(const struct state *state);

uint64_t state_applied(const struct state *state);       /* index of the last applied entry; 0 = none */
uint64_t state_applied_term(const struct state *state);
uint64_t state_clock_ms(const struct state *state);      /* cluster time: stamp of the last applied batch */
uint64_t state_due_ms(const struct state *state);        /* cluster time at which a TICK is due; UINT64_MAX = none */
bool state_work_pending(const struct state *state);      /* long work wants a CONTINUE */
const struct command_settings *state_settings(const struct state *state);

/* The 128-bit hash over all rows as of state_applied(). Writes back what is held in memory first. */
void state_hash(struct state *state, uint64_t hash[2]);

/* Writes back what is held in memory, then commits the store's transaction. Call at 1,000 commands, after 5 to 10 ms,
 * when idle, and before a snapshot. STATUS_IO_ERROR, STATUS_NO_SPACE: the node cannot go on. STATUS_BUSY: amid an entry. */
enum status state_commit(struct state *state);
/* How much that would write: pages of the store, up to twice as many as there are. It takes some 2 us for each. */
uint64_t state_unwritten(const struct state *state);
/* Amid an entry that is too much for one commit: store_spill(). */
enum status state_spill(struct state *state);

/* ---- what the delivery of this node reads ---- */

/* Where a QoS 0 message is to go, or a part of it. All of it lives until effects_clear(). */
struct match {
    const struct target *targets;        /* sessions held here */
    uint32_t count;
    /* With the last part: */
    uint64_t nodes;                      /* a bit (1 << id) for each other node that is to get a copy */
    const struct group_choice *choices;  /* groups whose turn is a member at one of those nodes: it has to be told */
    uint32_t choice_count;
};

struct group_choice {
    uint64_t group;
    uint32_t node;
};

/* Matches a QoS 0 message that was published here against the subscriptions of sessions held here and elsewhere. In each
 * group the turn goes round all members that are connected here or at a node in `reachable` (bits). In steps:
 * state_match_more() gives up to 1,000 targets for some `looks` of work (state_worked); false: that was the last part. What
 * `message` and `groups` point at is borrowed until then; one match is under way at a time, and no entry is amid a command. */
void state_match_begin(struct state *state, const struct message *message, uint64_t reachable);
/* The same for a copy that another node has sent: the sessions held here, and a member of each of `groups`. */
void state_match_copy_begin(struct state *state, const struct message *message, const uint64_t *groups, uint32_t group_count);
bool state_match_more(struct state *state, struct effects *effects, uint64_t looks, struct match *match);

/* The first delivery after `after` that session `session_id` still has to get or to complete: the merge of its own
 * queue and its broadcast queues. The target says how; *message borrows until the next call on `state`. `released`:
 * QoS 2 whose PUBREC is committed, send only PUBREL. STATUS_NOT_FOUND: nothing more now. STATUS_NEED_MORE: its queues are
 * very many, and it goes on with the next call. */
struct queued {
    struct target target;
    struct message message;
    bool released;
};
enum status state_next_queued(struct state *state, uint64_t session_id, uint64_t after, struct effects *arena,
                              struct queued *queued);

/* Whether the session has a retained scan that waits for COMMAND_RETAINED_MORE, and which. */
bool state_retained_scan(const struct state *state, uint64_t session_id, uint64_t *subscribe_position);

/* Facts about a session. false: there is none. */
struct session_facts {
    uint64_t session_id;
    struct bytes client_id;          /* borrowed until the next state_apply */
    struct bytes user_name;          /* likewise; empty: anonymous */
    bool connected;
    uint32_t node;                   /* of the owner, if connected */
    uint64_t client_epoch;
    uint64_t connection;
    uint32_t expiry_s;
};
bool state_session(const struct state *state, uint64_t session_id, struct session_facts *facts);
bool state_session_by_client_id(const struct state *state, struct bytes client_id, struct session_facts *facts);

/* Whether the QoS 2 packet id of a publisher is in use: what came with it has been published. */
bool state_inbound_open(struct state *state, uint64_t session_id, uint16_t packet_id);
/* The topic of the will that this connection (of `client_epoch`) has left, and whose it is, also if its session is gone;
 * borrowed until the next call on `state`. */
bool state_will_topic(struct state *state, uint64_t session_id, uint64_t client_epoch, struct bytes *topic,
                      struct names *names);

/* Which life of `node` the state knows: 0 = never seen, or ended (then *up is false). */
uint64_t state_node_epoch(const struct state *state, uint32_t node, bool *up);
/* Where clients reach `node` (from its NODE_UP); empty if unknown. */
struct bytes state_node_address(const struct state *state, uint32_t node);

/* Numbers for /status and /metrics, kept incrementally. */
struct state_counts {
    uint64_t sessions, connected, subscriptions, filters, retained, retained_bytes;
    uint64_t groups;                               /* of the filters, those of shared subscriptions */
    uint64_t queued, queued_bytes;                 /* rows of queues of every kind; their payload bytes */
    uint64_t messages, in_flight;
    uint64_t dropped_queue_full, dropped_expired, dropped_session_ended;
    uint64_t refused_quota, fenced, undecodable;   /* commands */
    uint64_t wills_pending, commands;
    uint64_t wills_refused;                        /* when they were due, for want of the right to publish */
};
void state_counts(const struct state *state, struct state_counts *counts);

#endif
