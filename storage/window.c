#include "window.h"

#include "base/bug.h"

#include "queues.h"
#include "sessions.h"
#include "work.h"

#include <assert.h>

#define ADMIT_LOOKS_MAX 1000 /* deliveries that one call may look at; the rest is work */

static bool has_room(const struct state *state, const struct session *session)
{
    return session->owner.client_epoch != 0 && session->in_flight < session->receive_maximum &&
           session->in_flight < state->settings.in_flight_max;
}

bool window_is_free(const struct state *state, const struct session *session)
{
    return has_room(state, session) && session->own_qos2 == 0 && session->membership_count == 0;
}

static void put_row(struct state *state, const struct session *session, const struct delivery *delivery)
{
    struct key key = key_pair(session->id, delivery->order);
    buffer_clear(&state->row);
    delivery_put(delivery, &state->row);
    store_put(state->store, TABLE_IN_FLIGHT, key_bytes(&key), buffer_bytes(&state->row));
}

static void count(struct state *state, struct session *session, int by)
{
    session->in_flight = (uint16_t)(session->in_flight + by);
    state->counts.in_flight += (uint64_t)(int64_t)by;
    session_touch(state, session);
}

void window_add(struct state *state, struct session *session, const struct delivery *delivery)
{
    assert(delivery->order > session->admitted_upto);
    put_row(state, session, delivery);
    count(state, session, 1);
    session->admitted_upto = delivery->order;
}

/* Whether a QoS 2 message may wait behind admitted_upto. Orders only grow, so what was looked at stays looked at. The membership
 * that was found last is looked at first, so that whoever takes all that waits does not pass those before it each time. */
static bool may_wait(struct state *state, struct session *session)
{
    uint32_t *place = &session->admit_place;
    if (session->own_qos2 > 0)
        return true;
    for (uint32_t i = 0; i < session->membership_count; i++, ++*place) {
        if (*place >= session->membership_count)
            *place = 0;
        state_look(state, 1);
        if (session->memberships[*place]->filter->last_qos2_id > session->admitted_upto)
            return true;
    }
    return false;
}

static bool is_expired(struct state *state, uint64_t message_id)
{
    struct message_facts facts;
    return messages_facts(&state->messages, message_id, &facts) && facts.expires_ms != 0 &&
           facts.expires_ms <= state->clock_ms + bug(BUG_V13_LOCAL_EXPIRY) * 1000 * state->self;
}

/* Looks at the next delivery; true: it was admitted. */
static bool admit_next(struct state *state, struct session *session, const struct merged *merged)
{
    struct delivery delivery = merged->delivery;
    if (delivery.qos == 2) {
        /* Taking it moves it; its subscription ids are in state->read_ids, which that does not touch. */
        bool expired = is_expired(state, delivery.message_id);
        queues_take(state, session, merged);
        if (!expired) {
            window_add(state, session, &delivery);
            return true;
        }
        messages_release(&state->messages, delivery.message_id, 1);
        state->counts.dropped_expired++;
    }
    session->admitted_upto = delivery.order;
    session_touch(state, session);
    return false;
}

bool window_prepare(struct state *state, struct session *session)
{
    bool wanted = readings_preparing(session, READER_ADMITS) || may_wait(state, session);
    return !wanted || readings_prepare(state, session, READER_ADMITS, session->admitted_upto);
}

void window_admit(struct state *state, struct session *session)
{
    uint32_t looks = 0;
    bool admitted = false;
    struct merged merged;
    while (!session->ended && has_room(state, session) && may_wait(state, session) &&
           queues_next(state, session, READER_ADMITS, session->admitted_upto, &merged)) {
        if (looks++ == ADMIT_LOOKS_MAX) {
            work_add(state, WORK_ADMIT_SESSION, session->id, 0);
            break;
        }
        admitted |= admit_next(state, session, &merged);
    }
    if (admitted && session_held(state, session)) {
        struct effect *effect = effects_add(state->effects, EFFECT_ADMITTED);
        effect->session_id = session->id;
        effect->connection = session->owner.connection;
    }
}

static bool get(struct state *state, const struct session *session, uint64_t order, struct delivery *delivery)
{
    struct key key = key_pair(session->id, order);
    struct bytes value;
    return session->in_flight > 0 && store_get(state->store, TABLE_IN_FLIGHT, key_bytes(&key), &value) &&
           delivery_read(value, order, &state->read_ids, delivery);
}

bool window_next(struct state *state, struct session *session, uint64_t after, struct delivery *delivery)
{
    if (session->in_flight == 0)
        return false;
    struct key key = key_pair(session->id, after), prefix = key_of(session->id);
    struct row row;
    bool found = store_first_after(state->store, TABLE_IN_FLIGHT, key_bytes(&key), &row);
    return row_in(key_bytes(&prefix), found, &row) &&
           delivery_read(row.value, key_number(row.key, 1), &state->read_ids, delivery);
}

bool window_release(struct state *state, struct session *session, uint64_t order)
{
    struct delivery delivery;
    if (!get(state, session, order, &delivery))
        return false;
    if (delivery.released)
        return true;
    delivery.released = true;
    delivery.subscription_id_count = 0;
    put_row(state, session, &delivery);
    messages_release(&state->messages, delivery.message_id, 1);
    return true;
}

/* Its reference to the message is the caller's. */
static void take_row(struct state *state, struct session *session, const struct delivery *delivery)
{
    struct key key = key_pair(session->id, delivery->order);
    store_delete(state->store, TABLE_IN_FLIGHT, key_bytes(&key));
    count(state, session, -1);
}

static void remove_row(struct state *state, struct session *session, const struct delivery *delivery)
{
    take_row(state, session, delivery);
    if (!delivery->released)
        messages_release(&state->messages, delivery->message_id, 1);
}

bool window_complete(struct state *state, struct session *session, uint64_t order)
{
    struct delivery delivery;
    if (!get(state, session, order, &delivery) || !delivery.released)
        return false;
    remove_row(state, session, &delivery);
    return true;
}

bool window_take(struct state *state, struct session *session, uint64_t order, struct delivery *delivery)
{
    if (!get(state, session, order, delivery) || delivery->released)
        return false;
    take_row(state, session, delivery);
    return true;
}

bool window_remove(struct state *state, struct session *session, uint64_t order)
{
    struct delivery delivery;
    if (!get(state, session, order, &delivery))
        return false;
    remove_row(state, session, &delivery);
    return true;
}
