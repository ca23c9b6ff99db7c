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

/* One message on its way: what matched, and where the copies of what targets borrow are made. */
struct publication {
    const struct message *message;
    uint64_t message_id;             /* 0: QoS 0 outside the log */
    struct filter **filters;         /* that matched */
    uint32_t filter_count;
    struct group_list **lists;       /* of groups that matched */
    uint32_t list_count;
    struct effects *effects;
    const uint64_t *only_filter;     /* if there is one filter and it is broadcast: its id, shared by all targets */
};

static void match(struct state *state, const struct message *message, struct publication *publication)
{
    void **values;
    publication->message = message;
    publication->filter_count = index_match(state->index, message->topic, &values);
    publication->filters = (struct filter **)values;
    publication->list_count = groups_match(state, message->topic, &publication->lists);
}

/* ---- one session ---- */

/* What all matching subscriptions of a session make of the message; false: it does not want it. `known` is the
 * subscription that led here, the only one if a single filter matched. Ids are in state->ids. */
static bool resolve(struct state *state, const struct publication *publication, const struct session *session,
                    const struct subscription *known, struct delivery *delivery)
{
    const struct message *message = publication->message;
    bool wanted = false;
    *delivery = (struct delivery){.order = publication->message_id,
                                  .message_id = publication->message_id,
                                  .bytes = message->payload.size};
    state->ids.count = 0;
    for (uint32_t i = 0; i < publication->filter_count; i++) {
        const struct subscription *subscription =
            publication->filter_count == 1 ? known : subscription_find(session, publication->filters[i]->id);
        if (subscription == NULL || !subscription_wants(subscription, message))
            continue;
        wanted = true;
        uint8_t qos = SUBSCRIPTION_QOS(subscription->options);
        delivery->qos = qos > delivery->qos ? qos : delivery->qos;
        delivery->retain |= message->retain && (subscription->options & SUBSCRIPTION_RETAIN_AS_PUBLISHED) != 0;
        if (subscription->subscription_id != 0)
            u32_list_add(&state->ids, subscription->subscription_id);
    }
    if (delivery->qos > message->qos)
        delivery->qos = message->qos;
    delivery->subscription_ids = state->ids.items;
    delivery->subscription_id_count = state->ids.count;
    return wanted;
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
static void collect_hits(struct state *state, const struct publication *publication)
{
    state->hits.count = 0;
    if (publication->message->qos == 0)
        return;
    for (uint32_t i = 0; i < publication->filter_count; i++) {
        const struct filter *filter = publication->filters[i];
        for (uint32_t m = 0; !filter->broadcast && m < filter->member_count; m++) {
            const struct subscription *member = filter->members[m];
            struct session *session = member->session;
            if (session->ended || session->own_mark == state->publish_serial ||
                !subscription_wants(member, publication->message))
                continue;
            session->own_mark = state->publish_serial;
            hit_add(state, session);
        }
    }
}

/* A new value must not overtake the old one that still waits in a queue. For QoS 1 and 2 the queue sees to that; a QoS 0
 * subscription gets its new value through the queue, too, while there is a retained message in it. */
static void collect_hits_behind(struct state *state, const struct publication *publication)
{
    struct retained_entry old;
    if (state->behind.count == 0 || !retained_get(&state->retained, publication->message->topic, &old) ||
        messages_references(&state->messages, old.message_id) < 2)
        return;
    for (uint32_t i = 0; i < state->behind.count; i++) {
        struct session *session = state->behind.things[i];
        const struct subscription *known =
            publication->filter_count == 1 ? subscription_find(session, publication->filters[0]->id) : NULL;
        struct delivery delivery;
        if (session->owner.client_epoch == 0 || session->own_mark == state->publish_serial ||
            !resolve(state, publication, session, known, &delivery) || delivery.qos > 0)
            continue;
        session->own_mark = state->publish_serial;
        hit_add(state, session);
    }
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

static void append_to_hits(struct state *state, const struct publication *publication)
{
    for (uint32_t i = 0; i < state->hits.count; i++) {
        struct session *session = state->hits.items[i];
        const struct subscription *known =
            publication->filter_count == 1 ? subscription_find(session, publication->filters[0]->id) : NULL;
        struct delivery delivery;
        resolve(state, publication, session, known, &delivery);
        if (delivery.qos == 2 && window_is_free(state, session))
            window_add(state, session, &delivery);
        else
            own_append(state, session, &delivery);
    }
}

static void append_to_broadcasts(struct state *state, const struct publication *publication)
{
    const struct message *message = publication->message;
    for (uint32_t i = 0; i < publication->filter_count; i++) {
        struct filter *filter = publication->filters[i];
        uint64_t need = broadcast_need(state, filter, message);
        if (need == 0)
            continue;
        const struct subscription *publisher = local_publisher(state, filter, message);
        if (publisher != NULL)
            membership_skip(state, membership_find(publisher->session, filter->id), publication->message_id);
        broadcast_append(state, filter, publication->message_id, message, need);
        if (message->qos == 2 && filter->qos2_count > 0)
            work_admit_filter(state, filter->id);
    }
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

/* The broadcast queues in which the message is pending for this session. */
static void set_broadcasts(struct state *state, struct publication *publication,
                           const struct subscription *known, struct target *target)
{
    state->read_filters.count = 0;
    for (uint32_t i = 0; i < publication->filter_count; i++) {
        const struct filter *filter = publication->filters[i];
        const struct subscription *subscription = !filter->broadcast           ? NULL
                                                  : known->filter == filter ? known
                                                                            : subscription_find(known->session, filter->id);
        if (subscription != NULL && SUBSCRIPTION_QOS(subscription->options) > 0 &&
            subscription_wants(subscription, publication->message))
            number_list_add(&state->read_filters, filter->id);
    }
    target->broadcast_count = state->read_filters.count;
    if (target->broadcast_count == 0)
        return;
    if (publication->filter_count > 1 || publication->only_filter == NULL)
        publication->only_filter = copy_into(publication->effects, state->read_filters.items,
                                             state->read_filters.count * sizeof(uint64_t));
    target->broadcast_filters = publication->only_filter;
}

static void add_target(struct state *state, struct publication *publication, const struct subscription *subscription)
{
    struct session *session = subscription->session;
    struct delivery delivery;
    if (!session_held(state, session) || session->target_mark == state->publish_serial)
        return;
    session->target_mark = state->publish_serial;
    if (!resolve(state, publication, session, subscription, &delivery))
        return;
    struct target *target = target_add(state);
    *target = (struct target){.session_id = session->id,
                              .connection = session->owner.connection,
                              .qos = delivery.qos,
                              .retain = delivery.retain,
                              .subscription_id_count = (uint16_t)delivery.subscription_id_count};
    target->subscription_ids = copy_into(publication->effects, delivery.subscription_ids,
                                         delivery.subscription_id_count * sizeof(uint32_t));
    if (publication->message_id == 0)
        return;
    bool row = session->own_mark == state->publish_serial;
    target->admitted = row && delivery.qos == 2 && session->admitted_upto == publication->message_id;
    target->own = row && !target->admitted;
    if (publication->message->qos > 0)
        set_broadcasts(state, publication, subscription, target);
    if (row || target->broadcast_count > 0)
        target->order = publication->message_id;
}

/* A fan-out is a walk over memory: what it will need is fetched ahead. */
#define PREFETCH_SUBSCRIPTIONS 16
#define PREFETCH_SESSIONS 8

static void collect_targets(struct state *state, struct publication *publication)
{
    state->targets.count = 0;
    for (uint32_t i = 0; i < publication->filter_count; i++) {
        const struct filter *filter = publication->filters[i];
        for (uint32_t l = 0; l < filter->local_count; l++) {
            if (l + PREFETCH_SUBSCRIPTIONS < filter->local_count) {
                __builtin_prefetch(filter->local[l + PREFETCH_SUBSCRIPTIONS]);
                __builtin_prefetch(filter->local[l + PREFETCH_SESSIONS]->session);
            }
            add_target(state, publication, filter->local[l]);
        }
    }
}

/* ---- groups ---- */

/* The member of a group that is to get the message, if it is held here. */
static void add_member(struct state *state, struct publication *publication, const struct subscription *member,
                       const struct delivery *delivery)
{
    const struct session *session = member->session;
    const struct message *message = publication->message;
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
        .subscription_id_count = member->subscription_id != 0 ? 1 : 0,
    };
    target->subscription_ids =
        copy_into(publication->effects, &member->subscription_id, target->subscription_id_count * sizeof(uint32_t));
    target->admitted = target->qos == 2 && session->admitted_upto == delivery->order;
    target->own = delivery->order != 0 && !target->admitted;
}

static void give_to_group(struct state *state, struct publication *publication, struct group *group)
{
    const struct message *message = publication->message;
    struct delivery delivery = {.message_id = publication->message_id,
                                .bytes = message->payload.size,
                                .qos = message->qos,
                                .retain = message->retain};
    struct subscription *member = message->qos > 0 ? group_publish(state, group, &delivery) : group_turn(state, group);
    if (member == NULL)
        return;
    add_member(state, publication, member, &delivery);
    if (delivery.qos == 2)
        hit_add(state, member->session); /* to be admitted, if it was not at once */
}

static void give_to_groups(struct state *state, struct publication *publication)
{
    for (uint32_t i = 0; i < publication->list_count; i++) {
        for (uint32_t g = 0; g < publication->lists[i]->count; g++)
            give_to_group(state, publication, publication->lists[i]->groups[g]);
    }
}

static uint64_t count_groups(const struct publication *publication)
{
    uint64_t groups = 0;
    for (uint32_t i = 0; i < publication->list_count; i++)
        groups += publication->lists[i]->count;
    return groups;
}

/* ---- */

static void deliver_here(struct state *state, struct publication *publication)
{
    collect_targets(state, publication);
    give_to_groups(state, publication); /* their orders come behind that of the message */
    if (state->targets.count == 0)
        return;
    struct message *copy = copy_into(state->effects, publication->message, sizeof *copy);
    copy->topic.data = copy_into(state->effects, copy->topic.data, copy->topic.size);
    copy->payload.data = copy_into(state->effects, copy->payload.data, copy->payload.size);
    copy->properties.data = copy_into(state->effects, copy->properties.data, copy->properties.size);
    struct effect *effect = effects_add(state->effects, EFFECT_MESSAGE);
    effect->message.message_id = publication->message_id;
    effect->message.message = copy;
    effect->message.targets =
        copy_into(state->effects, state->targets.items, state->targets.count * sizeof(struct target));
    effect->message.count = state->targets.count;
}

/* ---- */

/* Where a QoS 2 message could not enter the window at once, it may by its place in the merged order. */
static void admit_hits(struct state *state, const struct publication *publication)
{
    for (uint32_t i = 0; publication->message->qos == 2 && i < state->hits.count; i++)
        session_advance(state, state->hits.items[i]);
}

static bool has_subscribers(const struct state *state, const struct publication *publication)
{
    for (uint32_t i = 0; i < publication->filter_count; i++) {
        const struct filter *filter = publication->filters[i];
        if (broadcast_need(state, filter, publication->message) > 0 || filter->subscribers > filter->member_count)
            return true;
    }
    return state->hits.count > 0 || publication->list_count > 0;
}

bool publish_message(struct state *state, const struct message *original, uint32_t message_expiry_s,
                     bool register_only)
{
    struct message message = *original;
    message.created_ms = state->clock_ms;
    message.expires_ms = message_expiry_s == UINT32_MAX ? 0 : seconds_from(state->clock_ms, message_expiry_s);
    bool retained = message.retain && retained_fits(state, &message);
    if (retained)
        retained_preserve(state, message.topic); /* takes places in the order before the new message does */

    struct publication publication = {.message_id = state->next_message_id++, .effects = state->effects};
    state->publish_serial++;
    match(state, &message, &publication);
    if (register_only)
        publication.filter_count = publication.list_count = 0;
    collect_hits(state, &publication);
    if (retained && message.qos > 0)
        collect_hits_behind(state, &publication);
    uint64_t references = state->hits.count + (retained && message.payload.size > 0);
    if (message.qos > 0)
        references += count_groups(&publication);
    for (uint32_t i = 0; i < publication.filter_count; i++)
        references += broadcast_need(state, publication.filters[i], &message) > 0;
    if (references > 0)
        messages_add(&state->messages, publication.message_id, &message, references);
    append_to_hits(state, &publication);
    append_to_broadcasts(state, &publication);
    if (retained)
        retained_store(state, publication.message_id, &message);
    deliver_here(state, &publication);
    bool matched = has_subscribers(state, &publication);
    admit_hits(state, &publication);
    return matched;
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

static void copy_match(struct state *state, const struct publication *publication, struct match *match)
{
    match->count = state->targets.count;
    match->targets =
        copy_into(publication->effects, state->targets.items, state->targets.count * sizeof(struct target));
    match->choice_count = state->choices.count;
    match->choices =
        copy_into(publication->effects, state->choices.items, state->choices.count * sizeof(struct group_choice));
}

void publish_match(struct state *state, const struct message *message, uint64_t reachable, struct effects *effects,
                   struct match *out)
{
    struct publication publication = {.effects = effects};
    state->publish_serial++;
    state->choices.count = 0;
    match(state, message, &publication);
    collect_targets(state, &publication);
    reachable &= ~(UINT64_C(1) << state->self);
    *out = (struct match){0};
    for (uint32_t i = 0; i < publication.filter_count; i++) {
        const struct filter *filter = publication.filters[i];
        for (uint32_t n = 0; n < filter->node_count; n++)
            out->nodes |= UINT64_C(1) << filter->nodes[n].node;
    }
    for (uint32_t i = 0; i < publication.list_count; i++) {
        for (uint32_t g = 0; g < publication.lists[i]->count; g++)
            out->nodes |= choose_live(state, &publication, publication.lists[i]->groups[g], reachable);
    }
    out->nodes &= ~(UINT64_C(1) << state->self);
    copy_match(state, &publication, out);
}

void publish_match_copy(struct state *state, const struct message *message, const uint64_t *groups, uint32_t group_count,
                        struct effects *effects, struct match *out)
{
    struct publication publication = {.effects = effects};
    state->publish_serial++;
    state->choices.count = 0;
    match(state, message, &publication);
    collect_targets(state, &publication);
    for (uint32_t i = 0; i < group_count; i++) {
        struct filter *filter = filter_by_id(state, groups[i]); /* it may have ended meanwhile */
        if (filter != NULL && filter->group != NULL)
            add_live_member(state, &publication, filter->group, filter->group->turn++);
    }
    *out = (struct match){0};
    copy_match(state, &publication, out);
}
