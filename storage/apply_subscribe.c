/* apply_subscribe.c — subscriptions, and the retained messages that they find. */
#include "apply.h"

#include "memberships.h"
#include "scans.h"
#include "security_private.h"
#include "sessions.h"
#include "subscriptions.h"

#include <string.h>

enum reason {
    REASON_UNSUBSCRIBED = 0x00,
    REASON_NO_SUBSCRIPTION_EXISTED = 0x11,
    REASON_QUOTA_EXCEEDED = 0x97,
};

enum retain_handling {
    RETAIN_SEND = 0,
    RETAIN_SEND_IF_NEW = 1,
    RETAIN_DO_NOT_SEND = 2,
};

static const uint8_t *copy_for(struct effects *effects, const struct buffer *bytes)
{
    return bytes->size > 0 ? memcpy(effects_allocate(effects, bytes->size), bytes->data, bytes->size) : NULL;
}

/* Codes are gathered over the steps; the effect has a copy. */
static void add_codes(struct state *state, enum effect_type type, const struct session *session)
{
    struct effect *effect = outcome_add(state, type, OUTCOME_DONE);
    effect->session_id = session->id;
    effect->connection = session->owner.connection;
    effect->codes.codes = copy_for(state->effects, &state->codes);
    effect->codes.existed = copy_for(state->effects, &state->existed);
    effect->codes.count = (uint32_t)state->codes.size;
    effect->codes.index = state->index_now;
}

/* The first step of a SUBSCRIBE or UNSUBSCRIBE; false: it is not the owner's. */
static bool begin(struct state *state, enum effect_type type, const struct command_owner *owner, struct bytes filters)
{
    struct entry *entry = &state->entry;
    entry->begun = true;
    entry->session = state_owner(state, owner);
    entry->rest = reader_of(filters);
    entry->room = RETAINED_AT_ONCE_MAX;
    entry->rows = STEP_ROWS_MAX;
    buffer_clear(&state->codes);
    buffer_clear(&state->existed);
    if (entry->session == NULL)
        outcome_add(state, type, OUTCOME_FENCED)->session_id = owner->session_id;
    return entry->session != NULL;
}

/* The next filter of it; false: that was the last. */
static bool next_filter(struct state *state, uint32_t count, struct command_filter *filter)
{
    return state->entry.number < count && command_next_filter(&state->entry.rest, filter);
}

/* One filter of a SUBSCRIBE; its reason code. */
static uint8_t subscribe_one(struct state *state, struct session *session, const struct command_filter *wanted,
                             uint32_t number, uint32_t subscription_id)
{
    struct entry *entry = &state->entry;
    struct filter *filter = filter_by_text(state, wanted->filter);
    bool exists = filter != NULL && subscription_find(session, filter->id) != NULL;
    buffer_put_u8(&state->existed, exists);
    if ((!exists && session->subscription_count >= subscriptions_max_of(state, session)) ||
        (filter != NULL && !membership_may_change(membership_find(session, filter->id)))) {
        state->counts.refused_quota++;
        return REASON_QUOTA_EXCEEDED;
    }
    struct subscription *subscription =
        subscription_set(state, session, wanted->filter, wanted->options, subscription_id);
    uint8_t handling = subscription->filter->group != NULL ? RETAIN_DO_NOT_SEND
                                                           : SUBSCRIPTION_RETAIN_HANDLING(wanted->options);
    if (handling == RETAIN_SEND || (handling == RETAIN_SEND_IF_NEW && !exists))
        scan_start(state, subscription, number, &entry->room, &entry->rows);
    return SUBSCRIPTION_QOS(wanted->options);
}

bool apply_subscribe(struct state *state, const struct command_subscribe *subscribe)
{
    struct entry *entry = &state->entry;
    struct command_filter wanted;
    if (!entry->begun && !begin(state, EFFECT_SUBSCRIBED, &subscribe->owner, subscribe->filters))
        return true;
    while (next_filter(state, subscribe->count, &wanted)) {
        buffer_put_u8(&state->codes, subscribe_one(state, entry->session, &wanted, entry->number,
                                                   subscribe->subscription_id));
        entry->number++;
        if (state_spent(state))
            return false;
    }
    add_codes(state, EFFECT_SUBSCRIBED, entry->session);
    if (entry->room < RETAINED_AT_ONCE_MAX || scan_first(entry->session) != NULL)
        session_tell_queued(state, entry->session);
    session_advance(state, entry->session);
    return true;
}

bool apply_unsubscribe(struct state *state, const struct command_unsubscribe *unsubscribe)
{
    struct entry *entry = &state->entry;
    struct command_filter unwanted;
    if (!entry->begun && !begin(state, EFFECT_UNSUBSCRIBED, &unsubscribe->owner, unsubscribe->filters))
        return true;
    while (next_filter(state, unsubscribe->count, &unwanted)) {
        struct filter *filter = filter_by_text(state, unwanted.filter);
        struct subscription *subscription = filter != NULL ? subscription_find(entry->session, filter->id) : NULL;
        buffer_put_u8(&state->codes, subscription != NULL ? REASON_UNSUBSCRIBED : REASON_NO_SUBSCRIPTION_EXISTED);
        entry->number++;
        if (subscription != NULL) {
            scan_close_of(state, subscription);
            subscription_remove(state, subscription);
        }
        if (state_spent(state))
            return false;
    }
    add_codes(state, EFFECT_UNSUBSCRIBED, entry->session);
    return true;
}

void apply_retained_more(struct state *state, const struct command_retained_more *more)
{
    struct session *session = state_owner(state, &more->owner);
    if (session == NULL)
        return;
    scan_continue(state, session, more->subscribe_position, more->count);
    session_tell_queued(state, session);
    session_advance(state, session);
}
