/* cores.h — nodes without sockets, disks or elections: cores that share one ordered log, and clients as byte streams.
 *
 *   line ──bytes──▶ core 1 ──batch──▶ the log ──▶ core 1, core 2, core 3 ──bytes──▶ lines
 *
 * Whatever a core submits is committed at once, in the order of submitting, unless the node is cut off. Node 1 leads,
 * or the first that is not cut off. Every node applies on a store in memory, and at every checkpoint all hashes must be
 * equal. Time stands still but for cores_pass(). Deterministic. */
#ifndef COTERIE_WORLD_CORES_H
#define COTERIE_WORLD_CORES_H

#include "node/client/core.h"

struct cores;
struct line;

/* `count` nodes, 1 to count. `limits` and `settings` may be NULL. All nodes are up when it returns. */
struct cores *cores_new(uint32_t count, const struct core_limits *limits, const struct command_settings *settings);
/* The same, but for more options: node id, seed, nonce and address are filled in. */
struct cores *cores_new_with(uint32_t count, const struct core_options *options);
void cores_free(struct cores *cores);
struct core *cores_core(const struct cores *cores, uint32_t node);

const char *cores_warning(const struct cores *cores, uint32_t node);   /* the last one it wrote to its log; or "" */

/* Turns until nothing moves any more. */
void cores_settle(struct cores *cores);
/* Time passes, in steps in which everything settles. */
void cores_pass(struct cores *cores, uint64_t ms);
uint64_t cores_now_ms(const struct cores *cores);

/* Cut off: its batches get lost, no entry, peer or leader is heard. Joined again, it catches up. */
void cores_cut(struct cores *cores, uint32_t node, bool cut);
/* Lagging: hears all, but applies nothing until it lags no more. */
void cores_lag(struct cores *cores, uint32_t node, bool lag);
/* The leader notices the silence of a node, and says so until it is heard again. */
void cores_silent(struct cores *cores, uint32_t node, bool silent);

/* The node gets its state anew, as from a snapshot of the newest entry: it has missed effects. */
void cores_replace_state(struct cores *cores, uint32_t node);

/* The same, into a store of LMDB in this empty directory, which outlives the world. */
void cores_keep_on_disk(struct cores *cores, uint32_t node, const char *directory);

/* ---- the client's end of a connection ---- */

struct line *line_open(struct cores *cores, uint32_t node);
/* All lines are freed with the world. */
void line_send(struct line *line, struct bytes bytes);     /* and settles */
void line_send_quietly(struct line *line, struct bytes bytes);   /* without settling */
struct bytes line_received(const struct line *line);       /* what came and was not taken yet */
void line_take(struct line *line, size_t count);           /* forgets the first bytes of that */
bool line_closed(const struct line *line);                 /* by the node */
bool line_read(const struct line *line);                   /* the node reads from it */
void line_drop(struct line *line);                         /* the client is gone without a word; settles */
void line_stop(struct line *line, bool stop);              /* the client does not read: nothing leaves the node */

#endif
