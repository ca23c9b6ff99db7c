#include "publish.h"

#include "base/memory.h"
#include "groups.h"
#include "memberships.h"
#include "queues.h"
#include "scans.h"
#include "sessions.h"
#include "subscriptions.h"
#include "window.h"
#include "work.h"

#include <assert.h>
#include <stdlib.h>

#define TARGETS_AT_ONCE 1000 /* of one EFFECT_MESSAGE */

/* Each stage is a function that goes on where it was; when it is done, the next one begins. */
enum publish_stage {
    STAGE_NONE,
    STAGE_MATCH,      /* index -> filters, lists of groups */
    STAGE_PRESERVE,   /* what the topic retains until now goes to the scans that have not passed it */
    STAGE_NUMBER,     /* the message gets its id: its place in the order */
    STAGE_HITS,       /* sessions that get a row of their own */
    STAGE_BEHIND,
    STAGE_COUNT,      /* references */
    STAGE_ROWS,       /* of the hits */
    STAGE_QUEUES,     /* of filters */
    STAGE_RETAIN,
    STAGE_TARGETS,    /* sessions held here */
    STAGE_GROUPS,
    STAGE_ADMIT,      /* QoS 2, where it could not be at once */
    STAGE_COUNT_NODES, /* QoS 0 outside the log: which other nodes get a copy */
    STAGE_COUNT_OF_STAGES,
};

/* ---- matching ---- */

/* true: done. */
static bool match_in(struct state *state, struct index *index)
{
    uint64_t worked = state_worked(state), left = state->worked_max > worked ? state->worked_max - worked : 1;
    uint32_t budget = left < UINT32_MAX ? (uint32_t)left : UINT32_MAX, before = budget;
    bool more = index_match_more(index, &budget);
    state_look(state, before - budget);
    return !more;
}

static bool stage_match(struct state *state, struct publication *publication)
{
    bool groups = state->counts.groups > 0;
    void **values;
    if (publication->at == 0) {
        index_match_begin(state->index, publication->message.topic);
        if (groups)
            index_match_begin(state->shared, publication->message.topic);
        publication->at = 1;
    }
    if (!match_in(state, state->index) || (groups && !match_in(state, state->shared)))
        return false;
    publication->filter_count = index_matches(state->index, &values);
    publication->filters = (struct filter **)values;
    publication->list_count = groups ? index_matches(state->shared, &values) : 0;
    publication->lists = (struct group_list **)values;
    return true;
}

/* The filters are marked on the way, for resolve(). */
static bool stage_preserve(struct state *state, struct publication *publication)
{
    bool kept = publication->retained && state->scan_count > 0 &&
                retained_get(&state->retained, publication->message.topic, &publication->old);
    for (; publication->at < publication->filter_count; publication->at++, publication->within = 0) {
        struct filter *filter = publication->filters[publication->at];
        if (publication->within == 0) {
            filter->match_mark = publication->serial;
            publication->scan = kept ? filter->first_scan : NULL;
            publication->within = 1;
        }
        for (; publication->scan != NULL && !state_spent(state); publication->scan = publication->scan->next_of_filter) {
            retained_preserve(state, publication->scan, publication->message.topic, &publication->old);
            state_look(state, 1);
        }
        state_look(state, 1);
        if (publication->scan != NULL || state_spent(state))
            return false;
    }
    return true;
}

static bool stage_number(struct state *state, struct publication *publication)
{
    publication->message_id = state->next_message_id++;
    if (publication->register_only)
        publication->filter_count = publication->list_count = 0;
    return true;
}

/* ---- one session ---- */

#define RESOLVED_AT_ONCE 256
#define SEARCH_LOOKS 16 /* to find one subscription among many */

static void resolve_one(struct state *state, struct publication *publication, const struct subscription *subscription)
{
    struct resolution *resolution = &publication->resolution;
    struct delivery *delivery = &resolution->delivery;
    const struct message *message = &publication->message;
    uint8_t qos = SUBSCRIPTION_QOS(subscription->options);
    if (!subscription_wants(subscription, message))
        return;
    resolution->wanted = true;
    delivery->qos = qos > delivery->qos ? qos : delivery->qos;
    delivery->retain |= message->retain && (subscription->options & SUBSCRIPTION_RETAIN_AS_PUBLISHED) != 0;
    if (subscription->subscription_id != 0)
        u32_list_add(&state->ids, subscription->subscription_id);
    if (resolution->broadcasts && subscription->filter->broadcast && qos > 0)
        number_list_add(&state->broadcasts, subscription->filter->id);
}

static void resolve_begin(struct state *state, struct publication *publication, const struct session *session,
                          bool broadcasts)
{
    publication->resolution = (struct resolution){
        .session = session,
        .broadcasts = broadcasts,
        .delivery = {.order = publication->message_id,
                     .message_id = publication->message_id,
                     .bytes = message_bytes(&publication->message)},
    };
    state->ids.count = state->broadcasts.count = state->matching.count = 0;
}

/* Counts one more that was looked at; true: the step is over. */
static bool resolve_look(struct state *state, struct resolution *resolution, uint32_t looks)
{
    state_look(state, looks);
    return ++resolution->at % RESOLVED_AT_ONCE == 0 && state_spent(state);
}

/* By the session's subscriptions, which are few, or fewer than the filters that match; true: done. */
static bool resolve_by_subscriptions(struct state *state, struct publication *publication, const struct session *session)
{
    struct resolution *resolution = &publication->resolution;
    while (resolution->at < session->subscription_count) {
        const struct subscription *subscription = session->subscriptions[resolution->at];
        if (subscription->filter->match_mark == publication->serial)
            resolve_one(state, publication, subscription);
        if (resolve_look(state, resolution, 1))
            return false;
    }
    return true;
}

static int by_filter_id(const void *a, const void *b)
{
    const struct subscription *one = *(const struct subscription *const *)a, *other = *(const struct subscription *const *)b;
    return (one->filter->id > other->filter->id) - (one->filter->id < other->filter->id);
}

static void matching_add(struct state *state, const struct subscription *subscription)
{
    struct subscription_list *matching = &state->matching;
    if (matching->count == matching->capacity) {
        matching->capacity = matching->capacity == 0 ? 16 : matching->capacity * 2;
        matching->items = memory_resize(matching->items, matching->capacity * sizeof *matching->items);
    }
    matching->items[matching->count++] = subscription;
}

/* By the filters that match; true: done. They come in any order, but what is found is resolved in that of filter ids. */
static bool resolve_by_filters(struct state *state, struct publication *publication, const struct session *session)
{
    struct resolution *resolution = &publication->resolution;
    struct subscription_list *matching = &state->matching;
    while (resolution->at < publication->filter_count) {
        const struct subscription *found = subscription_find(session, publication->filters[resolution->at]->id);
        if (found != NULL)
            matching_add(state, found);
        if (resolve_look(state, resolution, SEARCH_LOOKS))
            return false;
    }
    if (matching->count > 1)
        qsort(matching->items, matching->count, sizeof matching->items[0], by_filter_id);
    for (uint32_t i = 0; i < matching->count; i++)
        resolve_one(state, publication, matching->items[i]);
    return true;
}

/* What all matching subscriptions of a session make of the message: *delivery, and whether it is *wanted. `known` is the
 * subscription that led here, the only one if a single filter matched. Ids are in state->ids, in the order of filters, and
 * the queues of filters in state->broadcasts. false: it goes on with the next call. */
static bool resolve(struct state *state, struct publication *publication, const struct session *session,
                    const struct subscription *known, bool broadcasts, struct delivery *delivery, bool *wanted)
{
    struct resolution *resolution = &publication->resolution;
    bool few_filters = publication->filter_count < session->subscription_count / SEARCH_LOOKS;
    if (resolution->session == NULL)
        resolve_begin(state, publication, session, broadcasts);
    assert(resolution->session == session);
    if (publication->filter_count == 1) {
        if (known != NULL)
            resolve_one(state, publication, known);
    } else if (!(few_filters ? resolve_by_filters(state, publication, session)
                             : resolve_by_subscriptions(state, publication, session))) {
        return false;
    }
    *delivery = resolution->delivery;
    *wanted = resolution->wanted;
    if (delivery->qos > publication->message.qos)
        delivery->qos = publication->message.qos;
    delivery->subscription_ids = state->ids.items;
    delivery->subscription_id_count = state->ids.count;
    resolution->session = NULL;
    return true;
}

static const struct subscription *only_subscription(const struct publication *publication,
                                                    const struct session *session)
{
    return publication->filter_count == 1 ? subscription_find(session, publication->filters[0]->id) : NULL;
}

/* ---- rows ---- */

static void hit_add(struct state *state, struct session *session)
{
    struct session_list *hits = &state->hits;
    if (hits->count == hits->capacity) {
        hits->capacity = hits->capacity == 0 ? 16 : hits->capacity * 2;
        hits->items = memory_resize(hits->items, hits->capacity * sizeof *hits->items);
    }
    hits->items[hits->count++] = session;
}

/* Sessions that are to get a row of their own, each once. */
static bool stage_hits(struct state *state, struct publication *publication)
{
    if (publication->at == 0)
        state->hits.count = 0;
    while (publication->message.qos > 0 && publication->at < publication->filter_count) {
        const struct filter *filter = publication->filters[publication->at++];
        state_look(state, 1);
        for (uint32_t m = 0; !filter->broadcast && m < filter->member_count; m++) {
            const struct subscription *member = filter->members[m];
            struct session *session = member->session;
            state_look(state, 1);
            if (session->ended || session->own_mark == publication->serial ||
                !subscription_wants(member, &publication->message))
                continue;
            session->own_mark = publication->serial;
            hit_add(state, session);
        }
        if (state_spent(state))
            return false;
    }
    return true;
}

/* A new value must not overtake the old one that still waits in a queue. For QoS 1 and 2 the queue sees to that; a QoS 0
 * subscription gets its new value through the queue, too, while there is a retained message in it. */
static bool stage_behind(struct state *state, struct publication *publication)
{
    struct retained_entry old;
    if (!publication->retained || publication->message.qos == 0 || state->behind.count == 0 ||
        !retained_get(&state->retained, publication->message.topic, &old) ||
        messages_references(&state->messages, old.message_id) < 2)
        return true;
    for (; publication->at < state->behind.count; publication->at++) {
        struct session *session = state->behind.things[publication->at];
        struct delivery delivery;
        bool wanted = false;
        if (state_spent(state))
            return false;
        state_look(state, 1);
        if (session->owner.client_epoch == 0 || session->own_mark == publication->serial)
            continue;
        if (!resolve(state, publication, session, only_subscription(publication, session), false, &delivery, &wanted))
            return false;
        if (wanted && delivery.qos == 0) {
            session->own_mark = publication->serial;
            hit_add(state, session);
        }
    }
    return true;
}

/* The publisher's subscription to this filter, if No Local keeps its own messages from it. */
static const struct subscription *local_publisher(const struct state *state, const struct filter *filter,
                                                  const struct message *message)
{
    const struct session *session =
        message->origin_session != 0 ? session_by_id(state, message->origin_session) : NULL;
    const struct subscription *subscription = session != NULL ? subscription_find(session, filter->id) : NULL;
    if (subscription == NULL || SUBSCRIPTION_QOS(subscription->options) == 0)
        return NULL;
    return subscription_wants(subscription, message) ? NULL : subscription;
}

/* For how many the message is pending in the filter's queue. */
static uint64_t broadcast_need(const struct state *state, const struct filter *filter, const struct message *message)
{
    if (!filter->broadcast || message->qos == 0)
        return 0;
    return filter->member_count - (local_publisher(state, filter, message) != NULL ? 1 : 0);
}

static bool stage_count(struct state *state, struct publication *publication)
{
    const struct message *message = &publication->message;
    if (publication->at == 0)
        publication->references = state->hits.count + (publication->retained && message->payload.size > 0);
    while (publication->at < publication->filter_count) {
        const struct filter *filter = publication->filters[publication->at++];
        bool needed = broadcast_need(state, filter, message) > 0;
        publication->references += needed;
        publication->matched |= needed || filter->subscribers > filter->member_count;
        state_look(state, 1);
        if (state_spent(state))
            return false;
    }
    for (uint32_t i = 0; i < publication->list_count; i++) {
        publication->references += message->qos > 0 ? publication->lists[i]->count : 0;
        publication->matched = true;
        state_look(state, 1);
    }
    publication->matched |= state->hits.count > 0;
    if (publication->references > 0)
        messages_add(&state->messages, publication->message_id, message, publication->references);
    return true;
}

static bool stage_rows(struct state *state, struct publication *publication)
{
    while (publication->at < state->hits.count) {
        struct session *session = state->hits.items[publication->at];
        struct delivery delivery;
        bool wanted;
        if (!resolve(state, publication, session, only_subscription(publication, session), false, &delivery, &wanted))
            return false;
        publication->at++;
        if (delivery.qos == 2 && window_is_free(state, session))
            window_add(state, session, &delivery);
        else
            own_append(state, session, &delivery);
        if (state_spent(state))
            return false;
    }
    return true;
}

static void append_to_queue(struct state *state, const struct publication *publication, struct filter *filter)
{
    const struct message *message = &publication->message;
    uint64_t need = broadcast_need(state, filter, message);
    if (need == 0)
        return;
    const struct subscription *publisher = local_publisher(state, filter, message);
    if (publisher != NULL)
        membership_skip(state, membership_find(publisher->session, filter->id), publication->message_id);
    broadcast_append(state, filter, publication->message_id, message, need);
    if (message->qos == 2 && filter->qos2_count > 0)
        work_admit_filter(state, filter->id);
}

static bool stage_queues(struct state *state, struct publication *publication)
{
    while (publication->message.qos > 0 && publication->at < publication->filter_count) {
        append_to_queue(state, publication, publication->filters[publication->at++]);
        state_look(state, 1);
        if (state_spent(state))
            return false;
    }
    return true;
}

static bool stage_retain(struct state *state, struct publication *publication)
{
    if (publication->retained)
        retained_store(state, publication->message_id, &publication->message);
    return true;
}

/* ---- targets ---- */

static struct target *target_add(struct state *state)
{
    struct target_list *targets = &state->targets;
    if (targets->count == targets->capacity) {
        targets->capacity = targets->capacity == 0 ? 16 : targets->capacity * 2;
        targets->items = memory_resize(targets->items, targets->capacity * sizeof *targets->items);
    }
    return &targets->items[targets->count++];
}

static void *copy_into(struct effects *effects, const void *data, size_t size)
{
    return size > 0 ? memcpy(effects_allocate(effects, size), data, size) : NULL;
}

/* The broadcast queues in which the message is pending for this session, as resolve() found them. */
static void set_broadcasts(struct state *state, struct publication *publication, struct target *target)
{
    target->broadcast_count = state->broadcasts.count;
    if (target->broadcast_count == 0)
        return;
    if (publication->filter_count > 1 || publication->only_filter == NULL)
        publication->only_filter = copy_into(publication->effects, state->broadcasts.items,
                                             state->broadcasts.count * sizeof(uint64_t));
    target->broadcast_filters = publication->only_filter;
}

static void put_target(struct state *state, struct publication *publication, const struct session *session,
                       const struct delivery *delivery)
{
    struct target *target = target_add(state);
    *target = (struct target){.session_id = session->id,
                              .connection = session->owner.connection,
                              .qos = delivery->qos,
                              .retain = delivery->retain,
                              .subscription_id_count = delivery->subscription_id_count};
    target->subscription_ids = copy_into(publication->effects, delivery->subscription_ids,
                                         delivery->subscription_id_count * sizeof(uint32_t));
    if (publication->message_id == 0)
        return;
    bool row = session->own_mark == publication->serial;
    target->admitted = row && delivery->qos == 2 && session->admitted_upto == publication->message_id;
    target->own = row && !target->admitted;
    if (publication->message.qos > 0)
        set_broadcasts(state, publication, target);
    if (row || target->broadcast_count > 0)
        target->order = publication->message_id;
}

/* false: it goes on with the next call. */
static bool add_target(struct state *state, struct publication *publication, const struct subscription *subscription)
{
    struct session *session = subscription->session;
    struct delivery delivery;
    bool wanted;
    if (!session_held(state, session) || session->target_mark == publication->serial)
        return true;
    if (!resolve(state, publication, session, subscription, true, &delivery, &wanted))
        return false;
    session->target_mark = publication->serial;
    if (wanted)
        put_target(state, publication, session, &delivery);
    return true;
}
/* A fan-out is a walk over memory: what it will need is fetched ahead. */
#define PREFETCH_SUBSCRIPTIONS 16
#define PREFETCH_SESSIONS 8

/* Goes on until all are there, there are as many as go together, or the step is over; true: all. */
static bool collect_targets(struct state *state, struct publication *publication)
{
    for (; publication->at < publication->filter_count; publication->at++, publication->within = 0) {
        const struct filter *filter = publication->filters[publication->at];
        while (publication->within < filter->local_count) {
            uint32_t l = publication->within;
            if (l + PREFETCH_SUBSCRIPTIONS < filter->local_count) {
                __builtin_prefetch(filter->local[l + PREFETCH_SUBSCRIPTIONS]);
                __builtin_prefetch(filter->local[l + PREFETCH_SESSIONS]->session);
            }
            if (!add_target(state, publication, filter->local[l]))
                return false;
            publication->within++;
            state_look(state, 1);
            if (state->targets.count == TARGETS_AT_ONCE || state_spent(state))
                return false;
        }
        state_look(state, 1);
    }
    return true;
}

/* ---- groups ---- */

/* The member of a group that is to get the message, if it is held here. */
static void add_member(struct state *state, struct publication *publication, const struct subscription *member,
                       const struct delivery *delivery)
{
    const struct session *session = member->session;
    const struct message *message = &publication->message;
    uint8_t granted = SUBSCRIPTION_QOS(member->options);
    if (!session_held(state, session))
        return;
    struct target *target = target_add(state);
    *target = (struct target){
        .session_id = session->id,
        .connection = session->owner.connection,
        .order = delivery->order,
        .qos = granted < message->qos ? granted : message->qos,
        .retain = message->retain && (member->options & SUBSCRIPTION_RETAIN_AS_PUBLISHED) != 0,
        .shared = true,
        .subscription_id_count = member->subscription_id != 0 ? 1 : 0,
    };
    target->subscription_ids =
        copy_into(publication->effects, &member->subscription_id, target->subscription_id_count * sizeof(uint32_t));
    target->admitted = target->qos == 2 && session->admitted_upto == delivery->order;
    target->own = delivery->order != 0 && !target->admitted;
}

/* false: it is not decided yet who gets it. */
static bool give_to_group(struct state *state, struct publication *publication, struct group *group)
{
    const struct message *message = &publication->message;
    struct delivery delivery = {.message_id = publication->message_id,
                                .bytes = message_bytes(message),
                                .qos = message->qos,
                                .retain = message->retain};
    struct subscription *member;
    if (message->qos == 0)
        member = group_turn(state, group);
    else if (!group_publish(state, group, &delivery, &member))
        return false;
    if (member == NULL)
        return true;
    add_member(state, publication, member, &delivery);
    if (delivery.qos == 2)
        hit_add(state, member->session); /* to be admitted, if it was not at once */
    return true;
}

/* The group at `at`, `within`; NULL: there are no more. */
static struct group *next_group(struct publication *publication)
{
    while (publication->at < publication->list_count) {
        const struct group_list *list = publication->lists[publication->at];
        if (publication->within < list->count)
            return list->groups[publication->within++];
        publication->at++;
        publication->within = 0;
    }
    return NULL;
}

/* ---- what goes out ---- */

/* The targets so far, and a copy of the message, which is short-lived. */
static void tell_targets(struct state *state, const struct publication *publication)
{
    if (state->targets.count == 0)
        return;
    struct message *copy = copy_into(state->effects, &publication->message, sizeof *copy);
    copy->topic.data = copy_into(state->effects, copy->topic.data, copy->topic.size);
    copy->payload.data = copy_into(state->effects, copy->payload.data, copy->payload.size);
    copy->properties.data = copy_into(state->effects, copy->properties.data, copy->properties.size);
    struct effect *effect = effects_add(state->effects, EFFECT_MESSAGE);
    effect->message.message_id = publication->message_id;
    effect->message.message = copy;
    effect->message.targets =
        copy_into(state->effects, state->targets.items, state->targets.count * sizeof(struct target));
    effect->message.count = state->targets.count;
    state->targets.count = 0;
}

static void begin_page(struct state *state, struct publication *publication)
{
    state->targets.count = 0;
    publication->effects = state->effects;
    publication->only_filter = NULL;
}

static bool stage_targets(struct state *state, struct publication *publication)
{
    begin_page(state, publication);
    bool done = collect_targets(state, publication);
    tell_targets(state, publication);
    return done;
}

/* Members get their orders behind that of the message. */
static bool stage_groups(struct state *state, struct publication *publication)
{
    struct group *group = NULL;
    begin_page(state, publication);
    while (state->targets.count < TARGETS_AT_ONCE && !state_spent(state) && (group = next_group(publication)) != NULL) {
        if (give_to_group(state, publication, group))
            continue;
        publication->within--; /* the same one again */
        break;
    }
    tell_targets(state, publication);
    return publication->at == publication->list_count;
}

/* Where a QoS 2 message could not enter the window at once, it may by its place in the merged order. */
static bool stage_admit(struct state *state, struct publication *publication)
{
    while (publication->message.qos == 2 && publication->at < state->hits.count) {
        session_advance(state, state->hits.items[publication->at++]);
        if (state_spent(state))
            return false;
    }
    return true;
}

/* ---- */

typedef bool (*stage_function)(struct state *state, struct publication *publication);

static const struct {
    stage_function go_on;            /* true: done */
    enum publish_stage next;
} stages[STAGE_COUNT_OF_STAGES] = {
    [STAGE_MATCH] = {stage_match, STAGE_PRESERVE},
    [STAGE_PRESERVE] = {stage_preserve, STAGE_NUMBER},
    [STAGE_NUMBER] = {stage_number, STAGE_HITS},
    [STAGE_HITS] = {stage_hits, STAGE_BEHIND},
    [STAGE_BEHIND] = {stage_behind, STAGE_COUNT},
    [STAGE_COUNT] = {stage_count, STAGE_ROWS},
    [STAGE_ROWS] = {stage_rows, STAGE_QUEUES},
    [STAGE_QUEUES] = {stage_queues, STAGE_RETAIN},
    [STAGE_RETAIN] = {stage_retain, STAGE_TARGETS},
    [STAGE_TARGETS] = {stage_targets, STAGE_GROUPS},
    [STAGE_GROUPS] = {stage_groups, STAGE_ADMIT},
    [STAGE_ADMIT] = {stage_admit, STAGE_NONE},
};

static void begin_stage(struct publication *publication, enum publish_stage stage)
{
    publication->stage = (uint8_t)stage;
    publication->at = publication->within = 0;
}

void publish_begin(struct state *state, const struct message *message, uint32_t message_expiry_s, bool register_only)
{
    struct publication *publication = &state->publication;
    assert(!publish_is_open(state));
    *publication = (struct publication){
        .message = *message, .register_only = register_only, .text = publication->text, .serial = ++state->publish_serial};
    publication->message.created_ms = state->clock_ms;
    publication->message.expires_ms =
        message_expiry_s == UINT32_MAX ? 0 : seconds_from(state->clock_ms, message_expiry_s);
    publication->retained = message->retain && retained_fits(state, message);
    begin_stage(publication, STAGE_MATCH);
}

void publish_begin_copy(struct state *state, const struct message *message, uint32_t message_expiry_s)
{
    struct message copy = *message;
    struct buffer *text = &state->publication.text;
    assert(!publish_is_open(state));
    buffer_clear(text);
    buffer_put_bytes(text, message->topic);
    buffer_put_bytes(text, message->payload);
    buffer_put_bytes(text, message->properties);
    copy.topic.data = text->data;
    copy.payload.data = copy.topic.data + copy.topic.size;
    copy.properties.data = copy.payload.data + copy.payload.size;
    publish_begin(state, &copy, message_expiry_s, false);
}

bool publish_is_open(const struct state *state)
{
    return state->publication.stage != STAGE_NONE;
}

void publish_more(struct state *state)
{
    struct publication *publication = &state->publication;
    do {
        if (!stages[publication->stage].go_on(state, publication))
            return;
        begin_stage(publication, stages[publication->stage].next);
    } while (publication->stage != STAGE_NONE && !state_spent(state));
}

/* ---- QoS 0 outside the log ---- */

static void choice_add(struct state *state, uint64_t group, uint32_t node)
{
    struct choice_list *choices = &state->choices;
    if (choices->count == choices->capacity) {
        choices->capacity = choices->capacity == 0 ? 4 : choices->capacity * 2;
        choices->items = memory_resize(choices->items, choices->capacity * sizeof *choices->items);
    }
    choices->items[choices->count++] = (struct group_choice){group, node};
}

static void add_live_member(struct state *state, struct publication *publication, struct group *group, uint64_t turn)
{
    const struct filter *filter = group->filter;
    if (filter->local_count > 0)
        add_member(state, publication, filter->local[turn % filter->local_count], &(struct delivery){0});
}

/* The turn in one group; returns the bit of the node to which it goes, 0: this one, or none. */
static uint64_t choose_live(struct state *state, struct publication *publication, struct group *group,
                            uint64_t reachable)
{
    const struct filter *filter = group->filter;
    uint64_t members = filter->local_count;
    for (uint32_t n = 0; n < filter->node_count; n++)
        members += (reachable >> filter->nodes[n].node & 1) != 0 ? filter->nodes[n].count : 0;
    if (members == 0)
        return 0;
    uint64_t turn = group->turn++ % members;
    if (turn < filter->local_count) {
        add_live_member(state, publication, group, turn);
        return 0;
    }
    turn -= filter->local_count;
    for (uint32_t n = 0; n < filter->node_count; n++) {
        uint32_t node = filter->nodes[n].node;
        if ((reachable >> node & 1) == 0)
            continue;
        if (turn < filter->nodes[n].count) {
            choice_add(state, filter->id, node);
            return UINT64_C(1) << node;
        }
        turn -= filter->nodes[n].count;
    }
    return 0;
}

static bool stage_live_nodes(struct state *state, struct publication *publication)
{
    while (publication->at < publication->filter_count) {
        struct filter *filter = publication->filters[publication->at++];
        filter->match_mark = publication->serial;
        for (uint32_t n = 0; n < filter->node_count; n++)
            publication->nodes |= UINT64_C(1) << filter->nodes[n].node;
        state_look(state, 1 + filter->node_count);
        if (state_spent(state))
            return false;
    }
    return true;
}

/* A turn in each group that matches; or, in a copy, a member here of each group that it is for. */
static bool stage_live_groups(struct state *state, struct publication *publication)
{
    struct group *group = NULL;
    while (publication->given == NULL && state->targets.count < TARGETS_AT_ONCE && !state_spent(state) &&
           (group = next_group(publication)) != NULL) {
        publication->nodes |= choose_live(state, publication, group, publication->reachable);
        state_look(state, 1);
    }
    if (publication->given == NULL)
        return publication->at == publication->list_count;
    while (publication->at < publication->given_count && state->targets.count < TARGETS_AT_ONCE) {
        struct filter *filter = filter_by_id(state, publication->given[publication->at++]);
        if (filter != NULL && filter->group != NULL) /* it may have ended meanwhile */
            add_live_member(state, publication, filter->group, filter->group->turn++);
    }
    return publication->at == publication->given_count;
}

static const struct {
    stage_function go_on;
    enum publish_stage next;
} live_stages[STAGE_COUNT_OF_STAGES] = {
    [STAGE_MATCH] = {stage_match, STAGE_COUNT_NODES},
    [STAGE_COUNT_NODES] = {stage_live_nodes, STAGE_TARGETS},
    [STAGE_TARGETS] = {collect_targets, STAGE_GROUPS},
    [STAGE_GROUPS] = {stage_live_groups, STAGE_NONE},
};

void publish_live_begin(struct state *state, const struct message *message, uint64_t reachable, const uint64_t *given,
                        uint32_t given_count)
{
    state->choices.count = 0;
    state->live = (struct publication){.message = *message,
                                       .reachable = reachable & ~(UINT64_C(1) << state->self),
                                       .given = given,
                                       .given_count = given_count,
                                       .serial = ++state->publish_serial};
    begin_stage(&state->live, STAGE_MATCH);
}

bool publish_live_more(struct state *state, struct effects *effects, struct match *match)
{
    struct publication *live = &state->live;
    state->targets.count = 0;
    live->effects = effects;
    while (live->stage != STAGE_NONE && live_stages[live->stage].go_on(state, live))
        begin_stage(live, live_stages[live->stage].next);
    bool over = live->stage == STAGE_NONE;
    *match = (struct match){.count = state->targets.count};
    match->targets = copy_into(effects, state->targets.items, state->targets.count * sizeof(struct target));
    if (!over)
        return true;
    match->nodes = live->given == NULL ? live->nodes & ~(UINT64_C(1) << state->self) : 0;
    match->choice_count = state->choices.count;
    match->choices = copy_into(effects, state->choices.items, state->choices.count * sizeof(struct group_choice));
    return false;
}
