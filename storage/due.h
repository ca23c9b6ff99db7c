/* due.h — what happens by cluster time: rows (time, kind, id), handled by the TICK that the leader proposes.
 *
 *   TABLE_DUE   time, kind, id → nothing */
#ifndef COTERIE_DUE_H
#define COTERIE_DUE_H

#include "state_private.h"

enum due_kind {              /* at the same time, in this order */
    DUE_WILL = 1,            /* id: session */
    DUE_SESSION = 2,         /* id: session */
    DUE_RETAINED = 3,        /* id: message */
};

void due_add(struct state *state, uint64_t time_ms, enum due_kind kind, uint64_t id);
void due_remove(struct state *state, uint64_t time_ms, enum due_kind kind, uint64_t id);
void due_load(struct state *state);
/* One row that is due; true: none is left, or the budget is used up. */
bool apply_tick(struct state *state);

#endif
