/* duties.h — the commands that the leader adds by itself, on top of what clients cause.
 *
 *   consensus_status + state --duties_propose--> commands in this node's own proposer
 *
 *   NODE_DOWN    a node has been silent for node_timeout
 *   TICK         something is due by cluster time
 *   CONTINUE     long work is pending: one step at a time
 *   CHECKPOINT   every second, or 1,000 entries, whichever comes first
 *   SETTINGS     its configuration differs from the limits in the state
 *
 * At most one of each kind (and of NODE_DOWN per node) is on its way. A node that believes itself leader and is not does
 * no harm: these commands say what is to be looked at, and `apply` decides. Pure; belongs to core. */
#ifndef COTERIE_DUTIES_H
#define COTERIE_DUTIES_H

#include "consensus.h"
#include "proposer.h"
#include "state.h"

/* Cookies of duties in the proposer: the top byte is 0xFF. Core must not use such cookies for clients. */
#define DUTY_COOKIE_MASK ((uint64_t)0xFF << 56)
#define COOKIE_IS_DUTY(cookie) (((cookie)&DUTY_COOKIE_MASK) == DUTY_COOKIE_MASK)

struct duties {
    uint32_t self;
    bool has_settings;
    struct command_settings settings;      /* as this node's configuration wants them */
    uint64_t pending;                      /* bit per kind: on its way */
    uint64_t down_pending;                 /* bit per node: its NODE_DOWN is on its way */
    uint64_t checkpoint_ms, checkpoint_index;   /* of the last CHECKPOINT proposed */
};

/* `settings` may be NULL: leave the limits as they are. */
void duties_init(struct duties *duties, uint32_t self, const struct command_settings *settings);
/* Once per turn of core, after effects have been carried out, before proposer_next. */
void duties_propose(struct duties *duties, const struct consensus_status *status, const struct state *state,
                    struct proposer *proposer, uint64_t now_ms);
/* A cookie with COOKIE_IS_DUTY came back from proposer_applied. */
void duties_done(struct duties *duties, uint64_t cookie);
/* The proposer was reset. */
void duties_reset(struct duties *duties);
/* When duties_propose wants to be called again although nothing has happened. */
uint64_t duties_deadline(const struct duties *duties, const struct consensus_status *status, const struct state *state,
                         const struct proposer *proposer, uint64_t now_ms);

#endif
