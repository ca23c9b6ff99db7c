/* sessions.h — sessions: one per client id, from the CONNECT that made it until it ends.
 *
 *   TABLE_SESSIONS   session → client id, owner, expiry, counts        written back
 *   TABLE_OWNERS     node, its epoch, client epoch → session: connections that are up, or whose will is undecided
 *   TABLE_INBOUND    session, packet id → nothing: QoS 2 packet ids that the client has open
 *
 *   (none) --connect--> connected --disconnect--> waiting --expire--> ended --clear--> (none)
 *                         ^------------connect-------'
 *
 * The session id is the position of the CONNECT that made it, so no id is ever used twice. An ended session is found by
 * its id only, until all of its rows are cleared (work.h). */
#ifndef COTERIE_SESSIONS_H
#define COTERIE_SESSIONS_H

#include "state_private.h"

struct session *session_by_id(const struct state *state, uint64_t id);                     /* NULL: none */
struct session *session_by_client_id(const struct state *state, struct bytes client_id);   /* NULL: none living */
void session_touch(struct state *state, struct session *session);

/* Keeps state->behind, after own_qos0 has changed. */
void session_follow_behind(struct state *state, struct session *session);

struct session *session_make(struct state *state, uint64_t id, struct bytes client_id);

/* Whether this node, in its present life, owns it. */
static inline bool session_held(const struct state *state, const struct session *session)
{
    return session->owner.client_epoch != 0 && session->owner.node_epoch == state->self_epoch;
}

struct sharing *session_sharing(struct session *session);   /* made when first asked for */

/* There is, or may be, room: admits QoS 2 messages that wait, takes what its groups have for it. */
void session_advance(struct state *state, struct session *session);
/* EFFECT_QUEUED, if it is held here. */
void session_tell_queued(struct state *state, const struct session *session);

void session_connect(struct state *state, struct session *session, struct owner owner);
/* Takes the connection away; what that means for will and expiry is the caller's. */
void session_detach(struct state *state, struct session *session);
/* The connection has ended: the will is forgotten or scheduled, and the expiry runs. */
void session_disconnect(struct state *state, struct session *session, bool with_will);
/* Ends it; its delayed will is published. Rows are cleared before the next command, as far as the budget reaches. */
void session_end(struct state *state, struct session *session);
/* TICK. Nothing if it is connected, or not there. */
void session_expire(struct state *state, uint64_t id);
/* Clears one thing of an ended session, which takes one off the budget. false: nothing was left, and it is freed. */
bool session_clear(struct state *state, struct session *session);

/* Which session a connection belongs to. */
void owner_row_put(struct state *state, const struct owner *owner, uint64_t session_id);
void owner_row_delete(struct state *state, const struct owner *owner);

/* QoS 2 from the client. false: the packet id is open already; it was not open. */
bool inbound_open(struct state *state, struct session *session, uint16_t packet_id);
bool inbound_close(struct state *state, struct session *session, uint16_t packet_id);
bool inbound_is_open(struct state *state, const struct session *session, uint16_t packet_id);

bool sessions_load(struct state *state);             /* false: a row is not one of ours */
void sessions_write_back(struct state *state);
void session_set_user_name(struct session *session, struct bytes user_name);
void session_free(struct session *session);          /* memory only */

#endif
