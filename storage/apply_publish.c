/* apply_publish.c — what clients publish. */
#include "apply.h"

#include "publish.h"
#include "scans.h"
#include "sessions.h"

#define MESSAGE_OVERHEAD_BYTES 256 /* of rows, in the count against store_bytes_max */

/* Clearing a retained topic frees room, so an empty message is always welcome. */
static bool has_room(struct state *state, const struct message *message)
{
    uint64_t used = state->messages.payload_bytes + state->messages.count * MESSAGE_OVERHEAD_BYTES;
    if (message->payload.size == 0)
        return true;
    if (used + message->payload.size > state->settings.store_bytes_max)
        return false;
    return !message->retain || retained_fits(state, message);
}

static struct effect *add_outcome(struct state *state, const struct command_publish *publish, enum outcome outcome)
{
    struct effect *effect = outcome_add(state, EFFECT_PUBLISHED, outcome);
    effect->session_id = publish->owner.session_id;
    return effect;
}

void apply_publish(struct state *state, const struct command_publish *publish)
{
    struct session *session = state_owner(state, &publish->owner);
    if (session == NULL) {
        add_outcome(state, publish, OUTCOME_FENCED);
        return;
    }
    uint64_t connection = session->owner.connection;
    struct message message = publish->message;
    enum outcome outcome = OUTCOME_DONE;
    if (message.qos == 2 && inbound_is_open(state, session, publish->packet_id)) {
        outcome = OUTCOME_DUPLICATE;
    } else if (!has_room(state, &message)) {
        state->counts.refused_quota++;
        outcome = OUTCOME_QUOTA;
    } else {
        if (message.qos == 2)
            inbound_open(state, session, publish->packet_id);
        message.origin_session = session->id;
        bool matched = publish_message(state, &message, publish->message_expiry_s, publish->register_only);
        outcome = matched || publish->register_only ? OUTCOME_DONE : OUTCOME_NO_SUBSCRIBERS;
    }
    add_outcome(state, publish, outcome)->connection = connection;
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
