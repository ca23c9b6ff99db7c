/* queues.h — the messages that wait for sessions.
 *
 *   TABLE_OWN_QUEUES         session, order   → delivery: for this session alone, resolved when it was published
 *   TABLE_BROADCAST_QUEUES   filter, message  → for how many members it is pending, payload bytes, flags
 *
 * Each row holds one reference to its message (messages.h). A queue at its limit drops its oldest row, and counts for
 * how many sessions. What is in flight with QoS 2 has left its queues (window.h), so no limit touches it. */
#ifndef COTERIE_QUEUES_H
#define COTERIE_QUEUES_H

#include "readings.h"

/* ---- the form of a delivery in a row ---- */

void delivery_put(const struct delivery *delivery, struct buffer *out);
/* Subscription ids go to `ids`, whose content is replaced; false: not one of ours. */
bool delivery_read(struct bytes value, uint64_t order, struct u32_list *ids, struct delivery *delivery);

/* ---- own queues ---- */

/* Takes over one reference to the message. */
void own_append(struct state *state, struct session *session, const struct delivery *delivery);
/* The first with order > `after`; false: none. */
bool own_next(struct state *state, struct session *session, uint64_t after, struct delivery *delivery);
bool own_get(struct state *state, struct session *session, uint64_t order, struct delivery *delivery);
/* Removes the row but leaves its reference to the caller. `delivery` is what own_get said. */
void own_take(struct state *state, struct session *session, const struct delivery *delivery);

/* ---- broadcast queues ---- */

/* A new message, pending for `needed` sessions (at least 1); takes over one reference. */
void broadcast_append(struct state *state, struct filter *filter, uint64_t message_id, const struct message *message,
                      uint64_t needed);
uint64_t broadcast_next(struct state *state, const struct filter *filter, uint64_t after); /* UINT64_MAX = none */
/* One session needs it no more; the last one deletes it. Nothing if it is not there. */
void broadcast_release(struct state *state, struct filter *filter, uint64_t message_id);

/* ---- a session's view ---- */

/* A delivery as merged from the own queue and the broadcast queues. Borrows from the state until the next call. */
struct merged {
    struct delivery delivery;
    bool own;
    const uint64_t *filters;     /* broadcast queues in which it is pending */
    uint32_t filter_count;
};

/* The first delivery with order > `after` that waits in a queue; false: none. */
bool queues_next(struct state *state, struct session *session, enum reader_kind reader, uint64_t after,
                 struct merged *merged);
/* Takes it out of all its queues, keeping one reference to the message for the caller. */
void queues_take(struct state *state, struct session *session, const struct merged *merged);

#endif
