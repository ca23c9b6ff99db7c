/* apply_publish.c — what clients publish. */
#include "apply.h"

#include "base/bug.h"

#include "publish.h"
#include "scans.h"
#include "sessions.h"

#define MESSAGE_OVERHEAD_BYTES 256 /* of rows, in the count against store_bytes_max */

/* Clearing a retained topic frees room, so an empty message that does it is always welcome. */
static bool has_room(struct state *state, const struct message *message)
{
    uint64_t used = state->messages.payload_bytes + state->messages.count * MESSAGE_OVERHEAD_BYTES;
    if (message_bytes(message) == 0 && message->retain)
        return true;
    if (used + message_bytes(message) > state->settings.store_bytes_max)
        return false;
    return !message->retain || retained_fits(state, message);
}

static struct effect *add_outcome(struct state *state, const struct command_publish *publish, enum outcome outcome)
{
    struct effect *effect = outcome_add(state, EFFECT_PUBLISHED, outcome);
    effect->session_id = publish->owner.session_id;
    return effect;
}

/* Whether it is to be published; if not, its outcome has been added. */
static bool begin(struct state *state, const struct command_publish *publish)
{
    struct session *session = state_owner(state, &publish->owner);
    enum outcome outcome = OUTCOME_DONE;
    state->entry.session = session;
    if (session == NULL) {
        outcome = OUTCOME_FENCED;
    } else if (publish->message.qos == 2 && !bug(BUG_V09_INBOUND_FORGOTTEN) && inbound_is_open(state, session, publish->packet_id)) {
        outcome = OUTCOME_DUPLICATE;
    } else if (!has_room(state, &publish->message)) {
        state->counts.refused_quota++;
        outcome = OUTCOME_QUOTA;
    }
    if (outcome == OUTCOME_DONE)
        return true;
    add_outcome(state, publish, outcome)->connection = session != NULL ? session->owner.connection : 0;
    return false;
}

bool apply_publish(struct state *state, const struct command_publish *publish)
{
    struct session *session;
    if (!state->entry.begun) {
        struct message message = publish->message;
        state->entry.begun = true;
        if (!begin(state, publish))
            return true;
        session = state->entry.session;
        if (message.qos == 2)
            inbound_open(state, session, publish->packet_id);
        message.origin_session = session->id;
        publish_begin(state, &message, publish->message_expiry_s, publish->register_only);
        return false;
    }
    bool done = state->publication.matched || publish->register_only;
    session = state->entry.session;
    add_outcome(state, publish, done ? OUTCOME_DONE : OUTCOME_NO_SUBSCRIBERS)->connection = session->owner.connection;
    return true;
}

void apply_pubrel(struct state *state, const struct command_pubrel *pubrel)
{
    struct session *session = state_owner(state, &pubrel->owner);
    enum outcome outcome = OUTCOME_FENCED;
    if (session != NULL)
        outcome = inbound_close(state, session, pubrel->packet_id) ? OUTCOME_DONE : OUTCOME_DUPLICATE;
    struct effect *effect = outcome_add(state, EFFECT_RELEASED, outcome);
    effect->session_id = pubrel->owner.session_id;
    effect->connection = session != NULL ? session->owner.connection : 0;
    effect->delivery.packet_id = pubrel->packet_id;
}
