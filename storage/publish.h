/* publish.h — a message meets the subscriptions.
 *
 *   message -> index -> filters with few members:  a row in each member's own queue (or its QoS 2 window)
 *                       filters with many members: one row in the filter's queue
 *                       groups:                    one member each, or the group's queue (groups.h)
 *                       sessions held here:        targets of one EFFECT_MESSAGE
 *
 * A session whose filters overlap gets one delivery with the highest QoS and all subscription ids. What a group gives it
 * is a delivery apart. */
#ifndef COTERIE_PUBLISH_H
#define COTERIE_PUBLISH_H

#include "state_private.h"

/* Begins to publish: gives the message its times, then in steps its id, keeps it where it is needed, and sets the register
 * if it is retained. What it points at lies outside the store and lives until it is over. `register_only`: nothing is
 * delivered. Only one is under way at a time, and it goes on before anything else is done; when it is over,
 * state->publication.matched says whether there were subscriptions. */
void publish_begin(struct state *state, const struct message *message, uint32_t message_expiry_s, bool register_only);
void publish_begin_copy(struct state *state, const struct message *message, uint32_t message_expiry_s);
bool publish_is_open(const struct state *state);
void publish_more(struct state *state);

/* For QoS 0 outside the log; see state_match_begin in state.h. `given`: the groups of a copy; NULL: it was published here. */
void publish_live_begin(struct state *state, const struct message *message, uint64_t reachable, const uint64_t *given,
                        uint32_t given_count);
bool publish_live_more(struct state *state, struct effects *effects, struct match *match);

#endif
