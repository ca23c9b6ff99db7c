/* scans.h — retained messages: the register of each topic, and the scans that bring them to new subscriptions.
 *
 *   TABLE_SCANS   session, position of the SUBSCRIBE, number of its filter → filter, options, subscription id, before, cursor
 *
 * A SUBSCRIBE puts up to RETAINED_AT_ONCE_MAX matches into the session's own queue; what is left is an open scan, which
 * goes on with each RETAINED_MORE of the owner. All of it is as of the SUBSCRIBE: a message published since (its id is
 * not below `before`) is passed over, as it was delivered live; and the value that a topic loses in front of an open scan
 * is first put into the queue of that scan's session, so that it is seen before what replaced it. A subscription with QoS 0
 * needs only the latest: for it nothing is kept, and a retained QoS 0 message, which no queue carried, is not passed over. */
#ifndef COTERIE_SCANS_H
#define COTERIE_SCANS_H

#include "state_private.h"

/* Starts a scan of `filter` for the SUBSCRIBE being applied and queues up to *room matches, which are taken off it. */
void scan_start(struct state *state, struct session *session, struct filter *filter, uint32_t number, uint8_t options,
                uint32_t subscription_id, uint32_t *room);
/* Goes on with the scans of the SUBSCRIBE at `position`. */
void scan_continue(struct state *state, struct session *session, uint64_t position, uint32_t room);
void scans_close(struct state *state, struct session *session, const struct filter *filter);
bool scan_close_one(struct state *state, struct session *session);   /* false: it has none */
/* The first open scan of the session; NULL = none. */
const struct scan *scan_first(const struct state *state, const struct session *session);

/* Whether the register may hold this message within its limits. */
bool retained_fits(struct state *state, const struct message *message);
/* Before a topic changes: its value goes to the scans that have not passed it. */
void retained_preserve(struct state *state, struct bytes topic);
/* The topic's new value, or none if the payload is empty. Takes over a reference; gives up the one to the old value. */
void retained_store(struct state *state, uint64_t message_id, const struct message *message);
/* TICK: this message is not to be retained any longer. */
void retained_expire(struct state *state, uint64_t message_id);

bool scans_load(struct state *state);
void scan_free(struct scan *scan);                   /* memory only */

#endif
