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

/* Gives the message its id and times, keeps it where it is needed, and sets the register if it is retained. What it
 * points at lies outside the store. `register_only`: nothing is delivered. false: no subscription matched. */
bool publish_message(struct state *state, const struct message *message, uint32_t message_expiry_s,
                     bool register_only);

/* For QoS 0 outside the log; see state_match in state.h. */
void publish_match(struct state *state, const struct message *message, uint64_t reachable, struct effects *effects,
                   struct match *match);
void publish_match_copy(struct state *state, const struct message *message, const uint64_t *groups, uint32_t group_count,
                        struct effects *effects, struct match *match);

#endif
