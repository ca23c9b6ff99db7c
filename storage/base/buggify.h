/* buggify.h — branches that are right but rare, taken on purpose now and then: only in builds for the simulator
 * (cmake -DCOTERIE_BUGGIFY=ON), where a hook decides by the seed. In every other build the question is the constant false.
 *
 * A point may only do what could happen anyway, at that place, to a node that is slow, short of something, or unlucky. What
 * all nodes must do alike, the state machine, has none. To add one: a line here, and the question where it belongs. */
#ifndef COTERIE_BUGGIFY_H
#define COTERIE_BUGGIFY_H

#include <stdbool.h>
#include <stddef.h>

enum buggify_point {
    BUGGIFY_BATCH_ENDS,        /* a batch takes no more commands */
    BUGGIFY_FORWARD_IS_LOST,   /* the leader does not take a batch of another node */
    BUGGIFY_PUSH_IS_LOST,      /* a follower hears of a commit with the next heartbeat only */
    BUGGIFY_SNAPSHOT_IS_DUE,
    BUGGIFY_FALLS_BEHIND,      /* a client that keeps up gets its next message from the store */
    BUGGIFY_STORE_COMMITS,     /* the store's transaction ends with this turn */
    BUGGIFY_POINTS,
};

#ifdef COTERIE_BUGGIFY
extern bool (*buggify_hook)(enum buggify_point point);   /* NULL: never */

static inline bool buggify(enum buggify_point point)
{
    return buggify_hook != NULL && buggify_hook(point);
}
#else
static inline bool buggify(enum buggify_point point)
{
    (void)point;
    return false;
}
#endif

#endif
