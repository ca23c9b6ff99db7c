/* apply_connect.c — who owns a session.
 *
 * A CONNECT makes its connection the owner, at this place in the log, whatever happened to the one before: that one is
 * fenced from here on. Its node hears of it (EFFECT_TAKEN_OVER) and ends it; that END is fenced like everything else,
 * except that it still decides about a will that the take-over has detached.
 *
 * A session belongs to the user that made it, as long as it is there, "anonymous" being one of them: the CONNECT of
 * another one changes nothing (but a session that was made without a name may be adopted, if so configured). Nor does that of a user who is disabled or banned as of this place in the log, or whose
 * password is another one here than the node knew that checked it. */
#include "apply.h"

#include "base/bug.h"

#include "security.h"
#include "sessions.h"
#include "wills.h"

#include <string.h>

static void tell_old_owner(struct state *state, const struct session *session)
{
    if (!session_held(state, session))
        return;
    struct effect *effect = effects_add(state->effects, EFFECT_TAKEN_OVER);
    effect->session_id = session->id;
    effect->connection = session->owner.connection;
}

static void tell_all(struct state *state, const struct session *session)
{
    struct bytes client_id = session_client_id(session);
    uint8_t *copy = effects_allocate(state->effects, client_id.size);
    memcpy(copy, client_id.data, client_id.size);
    effects_add(state->effects, EFFECT_CONTESTED)->contested.client_id = bytes_of(copy, client_id.size);
}

/* The owner loses the session; true: the session goes on. */
static bool take_over(struct state *state, struct session *session, bool clean_start)
{
    tell_old_owner(state, session);
    tell_all(state, session);
    bool goes_on = !clean_start && session->expiry_s != 0;
    struct owner owner = session->owner;
    if (!will_detach(state, session, goes_on))
        owner_row_delete(state, &owner); /* else it stays, so that the end of its node finds the will */
    session_detach(state, session);
    return goes_on;
}

static bool has_expired(const struct state *state, const struct session *session)
{
    return session->owner.client_epoch == 0 && session->expires_ms != 0 && session->expires_ms <= state->clock_ms + bug(BUG_V13_LOCAL_EXPIRY) * 1000 * state->self;
}

static bool is_its_user(const struct session *session, const struct command_connect *connect)
{
    return bytes_equal(session_user_name(session), connect->user_name) || (connect->adopts && session->user_name == NULL);
}

static enum outcome admit(const struct state *state, const struct command_connect *connect,
                          const struct session *session)
{
    const struct names names = {.user = connect->user_name, .client_id = connect->client_id};
    if (session != NULL && !has_expired(state, session) && !is_its_user(session, connect))
        return OUTCOME_NOT_AUTHORIZED;
    if (connect->credential_epoch != 0 &&
        !security_credential_is(state->security, connect->user_name, connect->credential_epoch))
        return OUTCOME_NOT_AUTHORIZED;
    return security_admits(state->security, &names, state->clock_ms);
}

/* The session that the CONNECT resumes; NULL: it starts with none. */
static struct session *resume(struct state *state, const struct command_connect *connect, struct session *session)
{
    if (session == NULL)
        return NULL;
    bool goes_on;
    if (session->owner.client_epoch != 0) {
        goes_on = take_over(state, session, connect->clean_start);
    } else {
        goes_on = !connect->clean_start && !has_expired(state, session);
        if (goes_on)
            will_resume(state, session);
    }
    if (goes_on)
        return session;
    session_end(state, session);
    return NULL;
}

static uint32_t granted_expiry(const struct state *state, uint32_t asked_s)
{
    return asked_s < state->settings.session_expiry_max_s ? asked_s : state->settings.session_expiry_max_s;
}

static void refuse(struct state *state, const struct command_connect *connect, enum outcome why)
{
    if (why == OUTCOME_QUOTA)
        state->counts.refused_quota++;
    outcome_add(state, EFFECT_CONNECTED, why)->connection = connect->connection;
}

void apply_connect(struct state *state, const struct command_connect *connect)
{
    struct session *session = session_by_client_id(state, connect->client_id);
    enum outcome admitted = admit(state, connect, session);
    if (admitted != OUTCOME_DONE) {
        refuse(state, connect, admitted);
        return;
    }
    session = resume(state, connect, session);
    bool present = session != NULL;
    if (!present && state->counts.sessions >= state->settings.sessions_max) {
        refuse(state, connect, OUTCOME_QUOTA);
        return;
    }
    if (!present)
        session = session_make(state, state->position, connect->client_id);
    session_set_user_name(session, connect->user_name);
    session->receive_maximum = connect->receive_maximum;
    session->protocol_level = connect->protocol_level;
    session->expiry_s = granted_expiry(state, connect->session_expiry_s);
    session_connect(state, session,
                    (struct owner){.node = state->batch.origin_node,
                                   .node_epoch = state->batch.origin_epoch,
                                   .client_epoch = state->position,
                                   .connection = connect->connection});
    if (connect->has_will)
        will_store(state, session, &connect->will, connect->will_allowed);

    struct effect *effect = outcome_add(state, EFFECT_CONNECTED, OUTCOME_DONE);
    effect->session_id = session->id;
    effect->connection = connect->connection;
    effect->connected.client_epoch = state->position;
    effect->connected.session_present = present;
    effect->connected.session_expiry_s = session->expiry_s;
    effect->connected.sent_upto = session->sent_upto;
    session_advance(state, session);
}

void apply_end(struct state *state, const struct command_end *end)
{
    struct session *session = session_by_id(state, end->owner.session_id);
    bool with_will = end->cause == END_WITH_WILL;
    bool current = session != NULL && !session->ended && session->owner.client_epoch == end->owner.client_epoch &&
                   end->owner.client_epoch != 0;
    struct effect *effect = outcome_add(state, EFFECT_ENDED, current ? OUTCOME_DONE : OUTCOME_FENCED);
    effect->session_id = end->owner.session_id;
    if (current) {
        effect->connection = session->owner.connection;
        if (end->has_session_expiry && session->expiry_s != 0)
            session->expiry_s = granted_expiry(state, end->session_expiry_s);
        session_disconnect(state, session, with_will);
        return;
    }
    struct owner owner = {.node = state->batch.origin_node,
                          .node_epoch = state->batch.origin_epoch,
                          .client_epoch = end->owner.client_epoch};
    if (will_decide(state, end->owner.session_id, end->owner.client_epoch, with_will))
        owner_row_delete(state, &owner);
}
