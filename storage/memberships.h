/* memberships.h — one session's place in one broadcast queue: what it has done, and what it is owed.
 *
 *   TABLE_CURSORS   session, filter → cursor, exceptions, taken, intervals      written back
 *   TABLE_MEMBERS   filter, session → nothing, to find the members of a filter
 *
 * A message of the queue is *pending* for the session if it lies in one of the intervals [since, until) in which it
 * subscribed, and is not done: not at or below the cursor (unless listed in `exceptions`), not listed in `taken`.
 * The row of each message counts for how many it is pending. */
#ifndef COTERIE_MEMBERSHIPS_H
#define COTERIE_MEMBERSHIPS_H

#include "state_private.h"

struct membership *membership_find(const struct session *session, uint64_t filter_id);   /* NULL: none */
/* The place of the first one in session->memberships whose filter has this id or a later one. */
uint32_t membership_place(const struct session *session, uint64_t filter_id);

/* false: what it is owed falls into so many intervals that its options may not change again before some is acknowledged. */
bool membership_may_change(const struct membership *membership);

/* From the next message on, the session gets what the filter matches with these options. Ends a former interval. */
void membership_open(struct state *state, struct session *session, struct filter *filter, uint8_t options,
                     uint32_t subscription_id);
/* From the next message on it gets nothing more; what is pending is still owed. May free the membership. */
void membership_close(struct state *state, struct membership *membership);

/* The first pending message > `after`; UINT64_MAX = none. */
uint64_t membership_next(struct state *state, const struct membership *membership, uint64_t after);
/* The options under which it saw `message_id`; NULL = it did not. */
const struct interval *membership_interval(const struct membership *membership, uint64_t message_id);

/* A pending message is done. May free the membership. */
void membership_done(struct state *state, struct membership *membership, uint64_t message_id);
/* The message that is being published does not concern this member (No Local): done before it is there. */
void membership_skip(struct state *state, struct membership *membership, uint64_t message_id);
/* All pending messages up to and including `upto` are done, except those listed. May free the membership. false: they are
 * many, and it goes on with the next call, of the same. */
bool membership_acknowledge(struct state *state, struct membership *membership, uint64_t upto,
                            const struct id_list *except);
/* Gives up one message that is pending; if there is none, the membership, which is freed. For an ended session. */
void membership_clear(struct state *state, struct membership *membership);

bool memberships_load(struct state *state);          /* false: a row is not one of ours */
void memberships_write_back(struct state *state);
void membership_free(struct membership *membership); /* memory only */

#endif
