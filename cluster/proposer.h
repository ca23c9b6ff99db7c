/* proposer.h — the commands of this node on their way into the log, and back as applied.
 *
 *   core --proposer_add--> open batch --seal--> in flight --proposer_next--> consensus ... log ...
 *   core <--cookies------- proposer_applied <--EFFECT_BATCH-- state_apply
 *
 * A batch is numbered within this life of the node (the origin epoch: position of its NODE_UP), kept until it is
 * applied *here*, and sent again, under the same number, whenever it may have been lost: after a change of leader, a
 * reconnect, a gap, a long silence. The state machine skips what it has seen and refuses gaps, so each command enters
 * the replicated state exactly once and in the order it was added.
 *
 * Always true: batches in flight have consecutive numbers, and are handed out in that order. Nothing is handed out
 * before NODE_UP has been applied, but NODE_UP itself. Pure; single-threaded; belongs to core. */
#ifndef COTERIE_PROPOSER_H
#define COTERIE_PROPOSER_H

#include "command.h"
#include "effects.h"

struct proposer;

struct proposer_settings {
    uint32_t node;              /* this node's id */
    uint32_t in_flight_max;     /* batches on their way at once; 0 = 4 */
    size_t bytes_max;           /* encoded commands waiting or in flight; beyond it proposer_full(); 0 = 16 MiB */
    size_t commands_max;        /* the same as a number; 0 = 100,000 */
    size_t batch_bytes_max;     /* sealed before it grows beyond; 0 = BATCH_BYTES_MAX (tests use less) */
    uint64_t resend_ms;         /* silence after which everything is sent again, doubling; 0 = 3,000 */
};

struct proposer *proposer_new(const struct proposer_settings *settings);   /* settings are copied */
void proposer_free(struct proposer *proposer);   /* with what waits; its cookies are forgotten */

/* Starts a life of this node: proposes NODE_UP with `up->boot_nonce`, which must be fresh random bytes each time. Call
 * once at start, again after proposer_reset. Commands may be added at once; they wait for the epoch. */
void proposer_start(struct proposer *proposer, const struct command_node_up *up);

/* Takes a command (copied). `cookie` comes back in proposer_applied. Never fails: whoever lets commands in asks
 * proposer_full() before (and stops reading sockets); commands that finish something (END, ACK) may exceed it. */
void proposer_add(struct proposer *proposer, const struct command *command, uint64_t cookie);

bool proposer_full(const struct proposer *proposer);           /* back-pressure: take nothing new from clients */
size_t proposer_pending_bytes(const struct proposer *proposer);
size_t proposer_pending_commands(const struct proposer *proposer);   /* waiting and in flight */
uint64_t proposer_epoch(const struct proposer *proposer);      /* 0 until NODE_UP has been applied */

/* The next batch to hand to consensus_submit(), in order: call at the end of a loop turn until it returns false. Seals
 * what has been added if fewer than in_flight_max are on their way. *batch is borrowed until the next call of any
 * function here. Returns nothing while there is no leader: batches wait here, not on the way. */
bool proposer_next(struct proposer *proposer, uint64_t now_ms, struct bytes *batch);

/* From consensus: who leads (0 = nobody known), in which term, and a number that grows with each new connection to it.
 * A change of any of them sends everything in flight again. */
void proposer_route(struct proposer *proposer, uint32_t leader, uint64_t term, uint64_t connection);

/* When proposer_next wants to be called although nothing was added (resend after silence); UINT64_MAX = never. */
uint64_t proposer_deadline(const struct proposer *proposer);

enum proposer_event {
    PROPOSER_OTHER,      /* another node's batch, or one we have had before: nothing to answer */
    PROPOSER_STARTED,    /* our NODE_UP: the epoch is known; `cookies` is empty */
    PROPOSER_DONE,       /* one of our batches: answer the clients; cookies[effect->command] */
    PROPOSER_FENCED,     /* this life has ended (NODE_DOWN, or a snapshot came between): close all clients, then
                          * proposer_reset and proposer_start with a new nonce */
};

/* Call for the EFFECT_BATCH of every applied entry: `index` of the entry, the batch itself, the effect. On PROPOSER_DONE
 * *cookies holds one per command of the batch, until the next call of any function here. */
enum proposer_event proposer_applied(struct proposer *proposer, uint64_t index, struct bytes batch,
                                     const struct effect *effect, const uint64_t **cookies, uint32_t *count);

/* Forgets everything, cookies too: the life has ended. After EFFECT_NODE {self, our epoch, down}, PROPOSER_FENCED, and
 * the installation of a snapshot. */
void proposer_reset(struct proposer *proposer);

#endif
