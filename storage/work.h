/* work.h — long work in steps. What a command cannot do within STEP_ROWS_MAX rows is noted here, and done by the
 * CONTINUE commands that the leader proposes while state_work_pending().
 *
 *   TABLE_GARBAGE   kind, a, b → progress
 *
 * Work is done in the order of its key. A batch has one budget of rows for all its long work, so that no entry takes
 * longer than a few milliseconds to apply. */
#ifndef COTERIE_WORK_H
#define COTERIE_WORK_H

#include "state_private.h"

enum work_kind {
    WORK_NODE = 1,           /* a: node, b: its epoch that ended. Its connections are disconnected */
    WORK_ADMIT_FILTER = 2,   /* a: filter. A QoS 2 message in its queue is admitted to members whose window has room.
                              * Progress: last session visited, whether to start again */
    WORK_ADMIT_SESSION = 3,  /* a: session. Looking for QoS 2 messages to admit goes on */
    WORK_SESSION = 4,        /* a: session that has ended. Its rows are cleared */
    WORK_GROUP = 5,          /* a: filter of a group. What came back to its queue is given to members with room */
    WORK_GROUP_CLEAR = 6,    /* a: filter of a group that has ended. Its queue is cleared */
    WORK_GROUP_OFFER = 7,    /* a: session that has disconnected. What groups gave it is offered to others.
                              * Progress: last row visited */
};

void work_add(struct state *state, enum work_kind kind, uint64_t a, uint64_t b);
void work_remove(struct state *state, enum work_kind kind, uint64_t a, uint64_t b);
void work_load(struct state *state);

/* A QoS 2 message was added to the broadcast queue of `filter`. */
void work_admit_filter(struct state *state, uint64_t filter_id);

/* One piece of what clients wait for, so that it need not wait for a CONTINUE: admissions to members of filters, and what
 * groups hand on. true: nothing is left, or the budget is used up. */
bool work_at_once(struct state *state);

/* One piece of any work; true: nothing is left, or the budget is used up. */
bool work_step(struct state *state);

#endif
