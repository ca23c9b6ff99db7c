/* apply_delivery.c — what subscribers acknowledge. Each may make room for QoS 2 messages that wait. */
#include "apply.h"

#include "groups.h"
#include "memberships.h"
#include "queues.h"
#include "sessions.h"
#include "window.h"

static void acknowledge_own(struct state *state, struct session *session, uint64_t order)
{
    struct delivery delivery;
    if (own_get(state, session, order, &delivery)) {
        group_withdraw(state, session, &delivery);
        own_take(state, session, &delivery);
        messages_release(&state->messages, delivery.message_id, 1);
    } else {
        window_remove(state, session, order); /* PUBREC >= 0x80 */
    }
}

/* false: it goes on with the next call. */
static bool acknowledge_broadcast(struct state *state, struct session *session,
                                  const struct command_ack_broadcast *entry)
{
    struct membership *membership = membership_find(session, entry->filter_id);
    if (membership == NULL)
        return true;
    struct id_list except = {0};
    struct reader in = reader_of(entry->except);
    uint64_t id = 0;
    while (command_ack_next_own(&in, &id))
        id_list_add(&except, id);
    bool done = membership_acknowledge(state, membership, entry->upto, &except);
    id_list_release(&except);
    return done;
}

/* All that the ACK says about broadcast queues; false: it goes on with the next call. */
static bool acknowledge_broadcasts(struct state *state, struct session *session, struct reader *in)
{
    struct reader here = *in;
    struct command_ack_broadcast broadcast;
    while (command_ack_next_broadcast(in, &broadcast)) {
        if (!acknowledge_broadcast(state, session, &broadcast)) {
            *in = here;
            return false;
        }
        if (state_spent(state))
            return false;
        here = *in;
    }
    return true;
}

static struct effect *add_outcome(struct state *state, enum effect_type type, const struct command_owner *owner,
                                  const struct session *session, uint64_t order, bool known)
{
    enum outcome outcome = session == NULL ? OUTCOME_FENCED : known ? OUTCOME_DONE : OUTCOME_DUPLICATE;
    struct effect *effect = outcome_add(state, type, outcome);
    effect->session_id = owner->session_id;
    effect->connection = session != NULL ? session->owner.connection : 0;
    effect->delivery.order = order;
    return effect;
}

bool apply_ack(struct state *state, const struct command_ack *ack)
{
    struct entry *entry = &state->entry;
    if (!entry->begun) {
        entry->begun = true;
        entry->session = state_owner(state, &ack->owner);
        entry->rest = reader_of(ack->own);
        entry->rest2 = reader_of(ack->broadcast);
    }
    while (entry->session != NULL && command_ack_next_own(&entry->rest, &entry->order)) {
        acknowledge_own(state, entry->session, entry->order);
        if (state_spent(state))
            return false;
    }
    if (entry->session != NULL && !acknowledge_broadcasts(state, entry->session, &entry->rest2))
        return false;
    add_outcome(state, EFFECT_DELIVERY_DONE, &ack->owner, entry->session, 0, true);
    if (entry->session != NULL)
        session_advance(state, entry->session);
    return true;
}

/* For another member of the group that gave it; true: there is none that could have it, and it is dropped. */
static bool decline(struct state *state, struct session *session, uint64_t order)
{
    struct delivery delivery;
    if (own_get(state, session, order, &delivery)) {
        group_withdraw(state, session, &delivery);
        own_take(state, session, &delivery);
    } else if (!window_take(state, session, order, &delivery)) {
        return false;
    }
    if (delivery.group != 0 && group_pass_on(state, session, &delivery))
        return false;
    messages_release(&state->messages, delivery.message_id, 1);
    return true;
}

bool apply_decline(struct state *state, const struct command_decline *command)
{
    struct entry *entry = &state->entry;
    if (!entry->begun) {
        entry->begun = true;
        entry->session = state_owner(state, &command->owner);
        entry->rest = reader_of(command->orders);
        entry->number = 0;
    }
    while (entry->session != NULL && command_ack_next_own(&entry->rest, &entry->order)) {
        entry->number += decline(state, entry->session, entry->order);
        if (state_spent(state))
            return false;
    }
    add_outcome(state, EFFECT_DELIVERY_DONE, &command->owner, entry->session, 0, true)->delivery.dropped = entry->number;
    if (entry->session != NULL)
        session_advance(state, entry->session);
    return true;
}

void apply_pubrec(struct state *state, const struct command_delivery *delivery)
{
    struct session *session = state_owner(state, &delivery->owner);
    bool known = session != NULL && window_release(state, session, delivery->order);
    add_outcome(state, EFFECT_DELIVERY_RELEASED, &delivery->owner, session, delivery->order, known);
}

void apply_pubcomp(struct state *state, const struct command_delivery *delivery)
{
    struct session *session = state_owner(state, &delivery->owner);
    bool known = session != NULL && window_complete(state, session, delivery->order);
    add_outcome(state, EFFECT_DELIVERY_DONE, &delivery->owner, session, delivery->order, known);
    if (session != NULL)
        session_advance(state, session);
}
