/* groups.h — shared subscriptions: all sessions that subscribe to $share/name/filter are the members of one group, and
 * each message goes to one of them.
 *
 *   TABLE_GROUPS   filter, message → payload bytes, holder, its order        what waits in the group's queue
 *
 *   message --publish--> a member with room ──PUBACK, PUBCOMP, refusal──> gone
 *              │ none has              │ its session ends, or disconnects
 *              └──> the group's queue <┘ (not what QoS 2 has begun to send)
 *
 * A group is a filter (subscriptions.h) whose text is the whole $share/name/filter: rows of subscriptions, ids and limits
 * are those of any other. What it is matched by is in an index of its own, since one filter may have many groups.
 *
 * Giving. A message is given to the connected member with the fewest deliveries that are not done (rows of its own queue
 * and window); among equals it goes round. Nobody is given more than min(Receive Maximum, in_flight_max); what no member
 * has room for waits, in the order published, until one has. What is given is a delivery of that session like any other,
 * in its own queue or window, with a fresh number as its order; the row names the group.
 *
 * Handing on. When a member's session ends, what it was given and has not acknowledged goes back to its place in the
 * queue: QoS 1, and QoS 2 that is not admitted. What is admitted may have been sent: no other member ever gets it; it
 * waits for its session and ends with it. When a member only disconnects, the same messages are *offered*: they stay with
 * it, and are in the group's queue too, with its session as their holder. Who comes first has them: another member with
 * room, or the holder when it is back (then with its old packet id and DUP, as 4.4.0-1 wants). So nothing is lost,
 * nothing waits for a client that stays away, and QoS 1 may repeat, as it may. What another member had in between, and a
 * former holder is given again, is a new delivery to it, under a new packet id and without DUP: that speaks of the packet,
 * not of the message (3.3.1.1), and the packet with the old id is never sent again. UNSUBSCRIBE leaves what was given where
 * it is, as that delivery may have begun (3.10.4-3); it follows the rules above when the connection ends.
 *
 * Declining. The owner of a session knows what the session may receive; the state machine knows only half of it (there are
 * files of rules). So what was given to a member that may not have it, and was not sent, comes back, and goes on to the next
 * of the connected members, by session id, until it has been round all of them; whether there is room does not matter then.
 * None may have it: it is dropped, and counted. It is not offered meanwhile: that would begin the round anew.
 *
 * A group lives while it has members, connected or not. With the last one its queue is given up, and counted. */
#ifndef COTERIE_GROUPS_H
#define COTERIE_GROUPS_H

#include "state_private.h"

/* ---- the group as an object; for subscriptions.c ---- */

/* If `text` is that of a shared subscription: what it matches, in parts->filter. */
struct topic_filter;
bool group_text(struct bytes text, struct topic_filter *parts);
void groups_init(struct state *state);
struct filter *group_find(const struct state *state, struct bytes text);   /* by all of it; NULL: none */
void group_make(struct state *state, struct filter *filter, struct bytes matched);
/* Its last member is gone: it is matched no more, and its queue is cleared in steps. The filter is the caller's. */
void group_end(struct state *state, struct filter *filter);
void group_unlist(struct state *state, struct filter *filter);   /* memory only */
void group_free(struct group *group);

void group_connect(struct subscription *member);     /* the session is now, or no longer, connected */
void group_disconnect(struct subscription *member);

bool groups_load(struct state *state);               /* false: a row is not one of ours */

/* ---- messages ---- */

/* A message that is being published, as *delivery says it (message id, bytes, and its QoS and RETAIN). *member is whom it is
 * given to; *delivery then is what that one gets. NULL: it waits. Takes over one reference.
 * false: nothing has been done yet; the same call comes first in the next step. */
bool group_publish(struct state *state, struct group *group, struct delivery *delivery, struct subscription **member);
/* Whose turn it is, for a QoS 0 message in the log (a will), which is not stored; NULL: none is connected. */
struct subscription *group_turn(struct state *state, struct group *group);

/* Gives the session what waits in its groups, as far as it has room; *given: it got something. true: there may be more, if
 * that leaves room. */
bool groups_refill(struct state *state, struct session *session, bool *given);

/* The session's connection has ended, it goes on: what it was given is offered to others, in steps. */
void groups_offer(struct state *state, struct session *session);
/* A delivery given by a group leaves the session's queue for good (acknowledged, admitted): nobody else gets it. */
void group_withdraw(struct state *state, const struct session *session, const struct delivery *delivery);
/* The session declines what the group gave it; its row is taken. Takes over the reference. false: nobody else is there; the
 * reference is still the caller's. */
bool group_pass_on(struct state *state, const struct session *session, const struct delivery *delivery);
/* The session ends, and has not acknowledged this delivery; its row is taken. Takes over the reference.
 * false: its group has ended; the reference is still the caller's. */
bool group_take_back(struct state *state, const struct delivery *delivery);

/* ---- long work (work.h): one row, which takes one off the budget; false: none was left, it is done ---- */

bool group_hand_on(struct state *state, uint64_t filter_id);
bool group_clear(struct state *state, uint64_t filter_id);
bool group_offer_step(struct state *state, uint64_t session_id);

#endif
