/* window.h — QoS 2 messages on their way to a session.
 *
 *   TABLE_IN_FLIGHT   session, order → delivery; flag: released (its PUBREC is committed)
 *
 *   queue --admit--> sent --PUBREC--> released --PUBCOMP--> gone
 *
 * A message enters when the state machine admits it, and has then left its queues: no limit, expiry or unsubscribing
 * touches it. At most min(Receive Maximum, in_flight_max) are in the window of a session, and they are admitted in
 * order. The row holds one reference to its message until it is released: from then on only its number matters. */
#ifndef COTERIE_WINDOW_H
#define COTERIE_WINDOW_H

#include "state_private.h"

/* Whether the next QoS 2 message may enter at once, as it has room and none waits before it. */
bool window_is_free(const struct state *state, const struct session *session);
/* Takes over one reference to the message. */
void window_add(struct state *state, struct session *session, const struct delivery *delivery);
/* One piece of what window_admit() would have to do first for a session that returns to very many queues, and which changes
 * nothing that is replicated; false: there is more, for the next call. */
bool window_prepare(struct state *state, struct session *session);
/* Admits what waits in the queues, as far as there is room, if the session is connected. */
void window_admit(struct state *state, struct session *session);

/* The first with order > `after`; false: none. Borrows from the state until its next use. */
bool window_next(struct state *state, struct session *session, uint64_t after, struct delivery *delivery);

/* PUBREC: sent -> released (or released already); PUBCOMP: removes a released one; false: there is no such one. */
bool window_release(struct state *state, struct session *session, uint64_t order);
bool window_complete(struct state *state, struct session *session, uint64_t order);
/* Removes it in whatever phase; false: there is no such one. */
/* Removes a delivery that was not sent, but leaves its reference to the caller. */
bool window_take(struct state *state, struct session *session, uint64_t order, struct delivery *delivery);
bool window_remove(struct state *state, struct session *session, uint64_t order);

#endif
