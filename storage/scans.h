/* scans.h — retained messages: the register of each topic, and the scans that bring them to new subscriptions.
 *
 *   TABLE_SCANS   session, position of the SUBSCRIBE, number of its filter → filter, options, subscription id, before, cursor
 *
 * A SUBSCRIBE puts up to RETAINED_AT_ONCE_MAX matches into the session's own queue, and looks at STEP_ROWS_MAX rows at
 * most, whatever the number of its filters; what is left are open scans, which go on in their order with each
 * RETAINED_MORE of the owner. All of it is as of the SUBSCRIBE: a message published since (its id is
 * not below `before`) is passed over, as it was delivered live; and the value that a topic loses in front of an open scan
 * is first put into the queue of that scan's session, so that it is seen before what replaced it. A subscription with QoS 0
 * needs only the latest: for it nothing is kept, and a retained QoS 0 message, which no queue carried, is not passed over. */
#ifndef COTERIE_SCANS_H
#define COTERIE_SCANS_H

#include "state_private.h"

/* Starts a scan for filter `number` of the SUBSCRIBE being applied, in place of the subscription's former one, and queues
 * up to *room matches, which are taken off it; so are the rows looked at off *rows. */
void scan_start(struct state *state, struct subscription *subscription, uint32_t number, uint32_t *room,
                uint32_t *rows);
/* Goes on with the scans of the SUBSCRIBE at `position`, if it is the session's first. */
void scan_continue(struct state *state, struct session *session, uint64_t position, uint32_t room);
void scan_close_of(struct state *state, struct subscription *subscription);   /* nothing if it has none */
bool scan_close_one(struct state *state, struct session *session);   /* false: it has none */
/* The first open scan of the session; NULL = none. */
const struct scan *scan_first(const struct session *session);

/* Whether the register may hold this message within its limits. */
bool retained_fits(struct state *state, const struct message *message);
/* Before a topic changes, for each open scan of a filter that matches it: its value goes to those that have not passed it. */
void retained_preserve(struct state *state, const struct scan *scan, struct bytes topic,
                       const struct retained_entry *old);
/* The topic's new value, or none if the payload is empty. Takes over a reference; gives up the one to the old value. */
void retained_store(struct state *state, uint64_t message_id, const struct message *message);
/* TICK: this message is not to be retained any longer. */
void retained_expire(struct state *state, uint64_t message_id);

bool scans_load(struct state *state);
void scan_free(struct scan *scan);                   /* memory only */

#endif
