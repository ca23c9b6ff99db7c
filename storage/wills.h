/* wills.h — what is published when a connection dies.
 *
 *   TABLE_WILLS   session, client epoch → message id, delay, message expiry, whose it is
 *
 *   armed (session->will_epoch, the connection is up)
 *     --clean END--> forgotten
 *     --END, node down--> published, or delayed (DUE_WILL) --due, or session ends--> published
 *                                                          --CONNECT in time--> forgotten
 *     --taken over--> forgotten, if it has a delay and the session goes on (a resumption in time); else
 *                     detached: only the END of that connection, clean or not, or the end of its node decides
 *
 * The will waits as a message of its own; published, it gets a new id, which is its place in the order.
 *
 * It is published with the rights that its user has at that moment: if no rule of the state says anything, and there are
 * roles, then only if the node of its connection had rules of its own that allowed it. */
#ifndef COTERIE_WILLS_H
#define COTERIE_WILLS_H

#include "state_private.h"

/* Of the connection that has just become the owner. `allowed`: by rules that only its node has. */
void will_store(struct state *state, struct session *session, const struct command_will *will, bool allowed);
/* The session's will, armed or delayed; nothing if there is none. */
void will_forget(struct state *state, struct session *session);
void will_publish_now(struct state *state, struct session *session);
void will_schedule(struct state *state, struct session *session);
/* The connection loses the session. true: its will stays behind, undecided. */
bool will_detach(struct state *state, struct session *session, bool session_goes_on);
/* Decides a detached will; false: there is none. */
bool will_decide(struct state *state, uint64_t session_id, uint64_t client_epoch, bool publish);
/* A client is back: a delayed will whose time has come is published, another one forgotten. */
void will_resume(struct state *state, struct session *session);
/* The topic of the will that this connection has left, also a detached one; borrowed until the next write or read of a
 * message. */
bool will_topic(struct state *state, uint64_t session_id, uint64_t client_epoch, struct bytes *topic, struct names *names);
/* TICK. */
void will_fall_due(struct state *state, uint64_t session_id);

#endif
