/* state_check.h — what must hold between the rows of a state, whatever was applied. For tests and the simulator: it reads
 * everything. */
#ifndef COTERIE_STATE_CHECK_H
#define COTERIE_STATE_CHECK_H

#include "state.h"

/* NULL, or which promise is broken. Writes back what is held in memory. */
const char *state_check(struct state *state);

#endif
