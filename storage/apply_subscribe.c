/* apply_subscribe.c — subscriptions, and the retained messages that they find. */
#include "apply.h"

#include "scans.h"
#include "security_private.h"
#include "sessions.h"
#include "subscriptions.h"

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

static void add_codes(struct state *state, enum effect_type type, const struct session *session, const uint8_t *codes,
                      uint32_t count)
{
    struct effect *effect = outcome_add(state, type, OUTCOME_DONE);
    effect->session_id = session->id;
    effect->connection = session->owner.connection;
    effect->codes.codes = codes;
    effect->codes.count = count;
    effect->codes.index = state->index_now;
}

static void refuse(struct state *state, enum effect_type type, uint64_t session_id)
{
    outcome_add(state, type, OUTCOME_FENCED)->session_id = session_id;
}

/* One filter of a SUBSCRIBE; its reason code. */
static uint8_t subscribe_one(struct state *state, struct session *session, const struct command_filter *wanted,
                             uint32_t number, uint32_t subscription_id, uint32_t *room)
{
    struct filter *filter = filter_by_text(state, wanted->filter);
    bool exists = filter != NULL && subscription_find(session, filter->id) != NULL;
    if (!exists && session->subscription_count >= subscriptions_max_of(state, session)) {
        state->counts.refused_quota++;
        return REASON_QUOTA_EXCEEDED;
    }
    filter = subscription_set(state, session, wanted->filter, wanted->options, subscription_id);
    uint8_t handling = filter->group != NULL ? RETAIN_DO_NOT_SEND : SUBSCRIPTION_RETAIN_HANDLING(wanted->options);
    if (handling == RETAIN_SEND || (handling == RETAIN_SEND_IF_NEW && !exists)) {
        scans_close(state, session, filter);
        scan_start(state, session, filter, number, wanted->options, subscription_id, room);
    }
    return SUBSCRIPTION_QOS(wanted->options);
}

void apply_subscribe(struct state *state, const struct command_subscribe *subscribe)
{
    struct session *session = state_owner(state, &subscribe->owner);
    if (session == NULL) {
        refuse(state, EFFECT_SUBSCRIBED, subscribe->owner.session_id);
        return;
    }
    struct reader filters = reader_of(subscribe->filters);
    struct command_filter wanted;
    uint8_t *codes = effects_allocate(state->effects, subscribe->count);
    uint32_t room = RETAINED_AT_ONCE_MAX;
    for (uint32_t i = 0; i < subscribe->count && command_next_filter(&filters, &wanted); i++)
        codes[i] = subscribe_one(state, session, &wanted, i, subscribe->subscription_id, &room);
    add_codes(state, EFFECT_SUBSCRIBED, session, codes, subscribe->count);
    if (room < RETAINED_AT_ONCE_MAX || session->scan_count > 0)
        session_tell_queued(state, session);
    session_advance(state, session);
}

void apply_unsubscribe(struct state *state, const struct command_unsubscribe *unsubscribe)
{
    struct session *session = state_owner(state, &unsubscribe->owner);
    if (session == NULL) {
        refuse(state, EFFECT_UNSUBSCRIBED, unsubscribe->owner.session_id);
        return;
    }
    struct reader filters = reader_of(unsubscribe->filters);
    struct command_filter unwanted;
    uint8_t *codes = effects_allocate(state->effects, unsubscribe->count);
    for (uint32_t i = 0; i < unsubscribe->count && command_next_filter(&filters, &unwanted); i++) {
        struct filter *filter = filter_by_text(state, unwanted.filter);
        struct subscription *subscription = filter != NULL ? subscription_find(session, filter->id) : NULL;
        codes[i] = subscription != NULL ? REASON_UNSUBSCRIBED : REASON_NO_SUBSCRIPTION_EXISTED;
        if (subscription == NULL)
            continue;
        scans_close(state, session, filter);
        subscription_remove(state, subscription);
    }
    add_codes(state, EFFECT_UNSUBSCRIBED, session, codes, unsubscribe->count);
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
