#include "groups.h"

#include "base/bug.h"
#include "base/memory.h"
#include "base/search.h"
#include "base/topic.h"
#include "queues.h"
#include "sessions.h"
#include "subscriptions.h"
#include "window.h"
#include "work.h"

#include <assert.h>
#include <stdlib.h>

#define CHOICES_MAX 64       /* members with room that one choice compares */
#define LOOKS_MAX 10000      /* groups that one refill may look at; the rest is work */
#define OLDEST_MAX 64        /* of them, those that messages are taken from before all are looked at again */

/* ---- groups by what they match ---- */

bool group_text(struct bytes text, struct topic_filter *parts)
{
    return bytes_starts_with(text, bytes_text("$share/")) && topic_filter_parse(text, parts) == TOPIC_FILTER_SHARED;
}

static uint64_t hash_of_text(const void *thing)
{
    const struct filter *filter = thing;
    return hash_bytes(filter->text);
}

static bool has_text(const void *thing, const void *key)
{
    const struct filter *filter = thing;
    return bytes_equal(filter->text, *(const struct bytes *)key);
}

void groups_init(struct state *state)
{
    hash_table_init(&state->groups, hash_of_text);
}

struct filter *group_find(const struct state *state, struct bytes text)
{
    return hash_table_find(&state->groups, hash_bytes(text), has_text, &text);
}

static uint64_t filter_id_at(const void *groups, uint32_t place)
{
    return ((struct group *const *)groups)[place]->filter->id;
}

/* Where the group is, or would be, in the list: by filter id. */
static uint32_t place_in(const struct group_list *list, uint64_t filter_id)
{
    return search_first(list->groups, list->count, filter_id, filter_id_at);
}

void group_make(struct state *state, struct filter *filter, struct bytes matched)
{
    struct group *group = memory_zeroed(1, sizeof *group);
    group->filter = filter;
    group->matched = matched;
    group->first = UINT64_MAX;
    filter->group = group;
    struct group_list *list = index_get(state->shared, matched);
    if (list == NULL) {
        list = memory_zeroed(1, sizeof *list);
        index_insert(state->shared, matched, list);
    }
    list->groups = list_room(list->groups, list->count);
    uint32_t at = place_in(list, filter->id);
    memmove(list->groups + at + 1, list->groups + at, (list->count - at) * sizeof *list->groups);
    list->groups[at] = group;
    list->count++;
    hash_table_add(&state->groups, filter);
    state->counts.groups++;
}

void group_unlist(struct state *state, struct filter *filter)
{
    struct group *group = filter->group;
    struct group_list *list = index_get(state->shared, group->matched);
    uint32_t at = place_in(list, filter->id);
    assert(at < list->count && list->groups[at] == group);
    hash_table_remove(&state->groups, filter);
    list->count--;
    memmove(list->groups + at, list->groups + at + 1, (list->count - at) * sizeof *list->groups);
    if (list->count == 0) {
        index_remove(state->shared, group->matched);
        free(list->groups);
        free(list);
    }
}

void group_end(struct state *state, struct filter *filter)
{
    group_unlist(state, filter);
    state->counts.groups--;
    if (filter->queue_count > 0)
        work_add(state, WORK_GROUP_CLEAR, filter->id, 0);
}

void group_free(struct group *group)
{
    if (group == NULL)
        return;
    free(group->members);
    free(group);
}

/* ---- connected members, by session id ---- */

static uint64_t session_id_at(const void *members, uint32_t place)
{
    return ((struct subscription *const *)members)[place]->session->id;
}

/* The place of the first member whose session id is >= `session_id`. */
static uint32_t member_place(const struct group *group, uint64_t session_id)
{
    return search_first(group->members, group->member_count, session_id, session_id_at);
}

void group_connect(struct subscription *member)
{
    struct group *group = member->filter->group;
    if (group->member_count == group->member_capacity) {
        group->member_capacity = group->member_capacity == 0 ? 4 : group->member_capacity * 2;
        group->members = memory_resize(group->members, group->member_capacity * sizeof(struct subscription *));
    }
    uint32_t at = member_place(group, member->session->id);
    memmove(group->members + at + 1, group->members + at, (group->member_count - at) * sizeof(struct subscription *));
    group->members[at] = member;
    group->member_count++;
}

void group_disconnect(struct subscription *member)
{
    struct group *group = member->filter->group;
    uint32_t at = member_place(group, member->session->id);
    assert(at < group->member_count && group->members[at] == member);
    group->member_count--;
    memmove(group->members + at, group->members + at + 1, (group->member_count - at) * sizeof(struct subscription *));
}

/* ---- the queue ---- */

struct waiting {
    uint64_t bytes;
    uint64_t holder, order;          /* offered: the session that still has it too, and its row there; else 0 */
};

static bool waiting_get(struct state *state, uint64_t filter_id, uint64_t message_id, struct waiting *waiting)
{
    struct key key = key_pair(filter_id, message_id);
    struct bytes value;
    if (!store_get(state->store, TABLE_GROUPS, key_bytes(&key), &value))
        return false;
    struct reader in = reader_of(value);
    waiting->bytes = reader_varint(&in);
    waiting->holder = reader_varint(&in);
    waiting->order = reader_varint(&in);
    return reader_done(&in);
}

/* The first message > `after` in the queue; UINT64_MAX: none. */
static uint64_t waiting_next(struct state *state, uint64_t filter_id, uint64_t after)
{
    struct key key = key_pair(filter_id, after), prefix = key_of(filter_id);
    struct row row;
    bool found = store_first_after(state->store, TABLE_GROUPS, key_bytes(&key), &row);
    return row_in(key_bytes(&prefix), found, &row) ? key_number(row.key, 1) : UINT64_MAX;
}

/* Leaves the row's reference to the caller. */
static void waiting_remove(struct state *state, struct group *group, uint64_t message_id, uint64_t bytes)
{
    struct filter *filter = group->filter;
    struct key key = key_pair(filter->id, message_id);
    store_delete(state->store, TABLE_GROUPS, key_bytes(&key));
    filter->queue_count--;
    filter->queue_bytes -= bytes;
    state->counts.queued--;
    state->counts.queued_bytes -= bytes;
    if (message_id == group->first)
        group->first = filter->queue_count > 0 ? waiting_next(state, filter->id, message_id) : UINT64_MAX;
    filter_touch(state, filter);
}

/* Whether the holder still has its row. */
static bool holder_has(struct state *state, const struct waiting *waiting, uint64_t message_id,
                       struct session **holder, struct delivery *delivery)
{
    *holder = waiting->holder != 0 ? session_by_id(state, waiting->holder) : NULL;
    return *holder != NULL && own_get(state, *holder, waiting->order, delivery) && delivery->message_id == message_id;
}

static void drop_oldest(struct state *state, struct group *group)
{
    struct waiting oldest;
    struct session *holder;
    struct delivery delivery;
    uint64_t message_id = group->first;
    if (!waiting_get(state, group->filter->id, message_id, &oldest))
        return;
    if (!holder_has(state, &oldest, message_id, &holder, &delivery))
        state->counts.dropped_queue_full++;
    waiting_remove(state, group, message_id, oldest.bytes);
    messages_release(&state->messages, message_id, 1);
}

/* Takes over one reference. */
static void waiting_add(struct state *state, struct group *group, uint64_t message_id, const struct waiting *waiting)
{
    struct filter *filter = group->filter;
    const struct command_settings *limits = &state->settings;
    struct key key = key_pair(filter->id, message_id);
    buffer_clear(&state->row);
    buffer_put_varint(&state->row, waiting->bytes);
    buffer_put_varint(&state->row, waiting->holder);
    buffer_put_varint(&state->row, waiting->order);
    store_insert(state->store, TABLE_GROUPS, key_bytes(&key), buffer_bytes(&state->row));
    filter->queue_count++;
    filter->queue_bytes += waiting->bytes;
    state->counts.queued++;
    state->counts.queued_bytes += waiting->bytes;
    if (message_id < group->first)
        group->first = message_id;
    filter_touch(state, filter);
    while (filter->queue_count > 1 &&
           (filter->queue_count > limits->queue_messages_max || filter->queue_bytes > limits->queue_bytes_max))
        drop_oldest(state, group);
}

/* ---- giving ---- */

static uint64_t load_of(const struct session *session)
{
    return session->own_count + session->in_flight;
}

static bool has_room(const struct state *state, const struct session *session)
{
    uint64_t load = load_of(session);
    return session->owner.client_epoch != 0 && load < session->receive_maximum &&
           load < state->settings.in_flight_max && load < state->settings.queue_messages_max;
}

static void consider(struct choosing *choosing, struct subscription *member)
{
    uint64_t load = load_of(member->session);
    bool better = bug(BUG_V15_ORDER_OF_POINTERS) ? choosing->best == NULL || member < choosing->best
                                                 : load < choosing->best_load;
    choosing->compared++;
    if (better) {
        choosing->best = member;
        choosing->best_load = load;
    }
}

/* The member to give the next message to; NULL: none has room. All of them may have to be asked, so it is done in steps.
 * false: it goes on with the same call, the first of the next step. */
static bool choose(struct state *state, const struct group *group, struct subscription **member)
{
    struct choosing *choosing = &state->entry.choosing;
    uint32_t first = member_place(group, group->last_given + 1);
    if (choosing->group == NULL)
        *choosing = (struct choosing){.group = group, .best_load = UINT64_MAX};
    assert(choosing->group == group);
    while (choosing->at < group->member_count && choosing->compared < CHOICES_MAX && choosing->best_load > 0) {
        struct subscription *next = group->members[(first + choosing->at) % group->member_count];
        if (state_spent(state))
            return false;
        state_look(state, 1);
        choosing->at++;
        if (has_room(state, next->session))
            consider(choosing, next);
    }
    *member = choosing->best;
    choosing->group = NULL;
    return true;
}

/* `delivery` is the message on entry, and what the member gets of it on return. Takes over one reference. */
static void give(struct state *state, struct group *group, const struct subscription *member,
                 struct delivery *delivery)
{
    struct session *session = member->session;
    uint8_t granted = SUBSCRIPTION_QOS(member->options);
    delivery->order = state->next_message_id++;
    delivery->qos = granted < delivery->qos ? granted : delivery->qos;
    delivery->retain = delivery->retain && (member->options & SUBSCRIPTION_RETAIN_AS_PUBLISHED) != 0;
    delivery->subscription_ids = &member->subscription_id;
    delivery->subscription_id_count = member->subscription_id != 0 ? 1 : 0;
    delivery->group = group->filter->id;
    group->last_given = session->id;
    filter_touch(state, group->filter);
    if (delivery->qos == 2 && window_is_free(state, session))
        window_add(state, session, delivery);
    else
        own_append(state, session, delivery);
}

bool group_publish(struct state *state, struct group *group, struct delivery *delivery, struct subscription **member)
{
    *member = NULL;
    if (group->filter->queue_count == 0 && !choose(state, group, member))
        return false;
    if (*member == NULL)
        waiting_add(state, group, delivery->message_id, &(struct waiting){.bytes = delivery->bytes});
    else
        give(state, group, *member, delivery);
    return true;
}

struct subscription *group_turn(struct state *state, struct group *group)
{
    if (group->member_count == 0)
        return NULL;
    struct subscription *member = group->members[member_place(group, group->last_given + 1) % group->member_count];
    group->last_given = member->session->id;
    filter_touch(state, group->filter);
    return member;
}

/* Takes the first message out of the queue and gives it to `member`; false: it had expired, or its holder is back and
 * keeps it. */
static bool give_first(struct state *state, struct group *group, const struct subscription *member)
{
    uint64_t message_id = group->first;
    struct waiting waiting = {0};
    struct session *holder;
    struct delivery held;
    struct message_facts facts = {0};
    bool known = waiting_get(state, group->filter->id, message_id, &waiting) &&
                 messages_facts(&state->messages, message_id, &facts);
    assert(known);
    waiting_remove(state, group, message_id, waiting.bytes);
    if (holder_has(state, &waiting, message_id, &holder, &held)) {
        /* Two rows, two references: one of them goes. */
        messages_release(&state->messages, message_id, 1);
        if (holder->owner.client_epoch != 0)
            return false;
        own_take(state, holder, &held);
    }
    if (facts.expires_ms != 0 && facts.expires_ms <= state->clock_ms) {
        messages_release(&state->messages, message_id, 1);
        state->counts.dropped_expired++;
        return false;
    }
    struct delivery delivery = {
        .message_id = message_id, .bytes = message_facts_bytes(&facts), .qos = facts.qos, .retain = facts.retain};
    give(state, group, member, &delivery);
    return true;
}

/* Of the session's groups those whose first messages are oldest, in that order. As many messages can be taken from them,
 * whichever of the groups they turn out to be in, until the others have to be looked at again. */
struct oldest {
    const struct subscription *members[OLDEST_MAX];
    uint32_t count;
};

static uint64_t first_of(const struct subscription *member)
{
    return member->filter->group->first;
}

/* Puts it in its place; beyond the last place there is none. */
static void oldest_add(struct oldest *oldest, const struct subscription *member)
{
    uint32_t at = oldest->count;
    if (at == OLDEST_MAX && first_of(member) > first_of(oldest->members[at - 1]))
        return;
    at = at < OLDEST_MAX ? oldest->count++ : OLDEST_MAX - 1;
    for (; at > 0 && first_of(oldest->members[at - 1]) > first_of(member); at--)
        oldest->members[at] = oldest->members[at - 1];
    oldest->members[at] = member;
}

static void oldest_find(struct state *state, const struct session *session, struct oldest *oldest)
{
    const struct sharing *sharing = session->sharing;
    oldest->count = 0;
    state_look(state, sharing->count);
    for (uint32_t i = 0; i < sharing->count; i++) {
        if (first_of(sharing->subscriptions[i]) != UINT64_MAX)
            oldest_add(oldest, sharing->subscriptions[i]);
    }
}

/* Gives the session as many of them as there is room for; true: it got something. */
static bool give_oldest(struct state *state, struct session *session, struct oldest *oldest)
{
    bool given = false;
    for (uint32_t i = 0; i < OLDEST_MAX && oldest->count > 0 && has_room(state, session); i++) {
        const struct subscription *member = oldest->members[0];
        given |= give_first(state, member->filter->group, member);
        oldest->count--;
        memmove(oldest->members, oldest->members + 1, oldest->count * sizeof oldest->members[0]);
        if (first_of(member) != UINT64_MAX)
            oldest_add(oldest, member);
    }
    return given;
}

bool groups_refill(struct state *state, struct session *session, bool *given)
{
    struct oldest oldest;
    uint32_t looks = 0;
    bool some = false;
    if (session->sharing == NULL)
        return false;
    while (has_room(state, session)) {
        if (looks > LOOKS_MAX) {
            work_add(state, WORK_ADMIT_SESSION, session->id, 0);
            *given |= some;
            return false;
        }
        looks += session->sharing->count;
        oldest_find(state, session, &oldest);
        if (oldest.count == 0)
            break;
        some |= give_oldest(state, session, &oldest);
    }
    *given |= some;
    return some;
}

bool group_hand_on(struct state *state, uint64_t filter_id)
{
    struct filter *filter = filter_by_id(state, filter_id);
    if (filter == NULL)
        return false; /* it has ended */
    struct subscription *member = NULL;
    if (filter->queue_count > 0 && !choose(state, filter->group, &member))
        return true; /* the same piece goes on */
    if (member == NULL)
        return false;
    state->budget--;
    if (give_first(state, filter->group, member))
        session_tell_queued(state, member->session);
    session_advance(state, member->session);
    return true;
}

bool group_clear(struct state *state, uint64_t filter_id)
{
    uint64_t message_id = waiting_next(state, filter_id, 0);
    struct waiting waiting;
    struct session *holder;
    struct delivery delivery;
    if (message_id == UINT64_MAX || !waiting_get(state, filter_id, message_id, &waiting))
        return false;
    state->budget--;
    if (!holder_has(state, &waiting, message_id, &holder, &delivery))
        state->counts.dropped_session_ended++;
    struct key key = key_pair(filter_id, message_id);
    store_delete(state->store, TABLE_GROUPS, key_bytes(&key));
    state->counts.queued--;
    state->counts.queued_bytes -= waiting.bytes;
    messages_release(&state->messages, message_id, 1);
    return true;
}

/* ---- handing on ---- */

void groups_offer(struct state *state, struct session *session)
{
    if (session->sharing == NULL || session->sharing->own_count == 0)
        return;
    work_remove(state, WORK_GROUP_OFFER, session->id, 0); /* begin anew, if a former end is still being dealt with */
    work_add(state, WORK_GROUP_OFFER, session->id, 0);
}

/* One row of the session's own queue. */
static void offer(struct state *state, const struct session *session, const struct delivery *delivery)
{
    struct filter *filter = filter_by_id(state, delivery->group);
    struct waiting waiting;
    if (filter == NULL || waiting_get(state, filter->id, delivery->message_id, &waiting))
        return; /* the group has ended; it is offered already */
    messages_reference(&state->messages, delivery->message_id, 1);
    waiting = (struct waiting){.bytes = delivery->bytes, .holder = session->id, .order = delivery->order};
    waiting_add(state, filter->group, delivery->message_id, &waiting);
    work_add(state, WORK_GROUP, filter->id, 0);
}

/* Progress: the order of the last row looked at. Behind the last that a group gave lies only what is its own. */
bool group_offer_step(struct state *state, uint64_t session_id)
{
    struct key key = key_triple(WORK_GROUP_OFFER, session_id, 0);
    struct session *session = session_by_id(state, session_id);
    struct delivery delivery;
    struct bytes value;
    uint64_t last = 0;
    if (session == NULL || session->ended || session->owner.client_epoch != 0 ||
        session->sharing == NULL)
        return false;
    if (store_get(state->store, TABLE_GARBAGE, key_bytes(&key), &value) && value.size > 0) {
        struct reader in = reader_of(value);
        last = reader_varint(&in);
    }
    if (last >= session->sharing->own_upto || !own_next(state, session, last, &delivery))
        return false;
    state->budget--;
    if (delivery.group != 0 && delivery.declined == 0)
        offer(state, session, &delivery);
    buffer_clear(&state->row);
    buffer_put_varint(&state->row, delivery.order);
    store_put(state->store, TABLE_GARBAGE, key_bytes(&key), buffer_bytes(&state->row));
    return true;
}

void group_withdraw(struct state *state, const struct session *session, const struct delivery *delivery)
{
    struct filter *filter = delivery->group != 0 ? filter_by_id(state, delivery->group) : NULL;
    struct waiting waiting;
    if (filter == NULL || filter->queue_count == 0 ||
        !waiting_get(state, filter->id, delivery->message_id, &waiting) || waiting.holder != session->id)
        return;
    waiting_remove(state, filter->group, delivery->message_id, waiting.bytes);
    messages_release(&state->messages, delivery->message_id, 1);
}

bool group_take_back(struct state *state, const struct delivery *delivery)
{
    struct filter *filter = delivery->group != 0 ? filter_by_id(state, delivery->group) : NULL;
    struct waiting waiting;
    if (filter == NULL)
        return false;
    if (waiting_get(state, filter->id, delivery->message_id, &waiting)) {
        messages_release(&state->messages, delivery->message_id, 1); /* it was offered, and is there already */
    } else {
        waiting_add(state, filter->group, delivery->message_id, &(struct waiting){.bytes = delivery->bytes});
        work_add(state, WORK_GROUP, filter->id, 0);
    }
    return true;
}

/* ---- declining ---- */

/* The connected member behind `session_id`, unless that is, or lies behind, `first`, where the round began. */
static const struct subscription *next_in_round(const struct group *group, uint64_t session_id, uint64_t first)
{
    if (group->member_count == 0)
        return NULL;
    const struct subscription *next = group->members[member_place(group, session_id + 1) % group->member_count];
    return next->session->id - first > session_id - first ? next : NULL;
}

bool group_pass_on(struct state *state, const struct session *session, const struct delivery *delivery)
{
    struct filter *filter = filter_by_id(state, delivery->group);
    uint64_t first = delivery->declined != 0 ? delivery->declined : session->id;
    struct message_facts facts;
    if (filter == NULL || !messages_facts(&state->messages, delivery->message_id, &facts))
        return false;
    const struct subscription *member = next_in_round(filter->group, session->id, first);
    if (member == NULL)
        return false;
    struct delivery passed = {.message_id = delivery->message_id,
                              .bytes = delivery->bytes,
                              .qos = facts.qos,
                              .retain = facts.retain,
                              .declined = first};
    give(state, filter->group, member, &passed);
    session_tell_queued(state, member->session);
    session_advance(state, member->session);
    return true;
}

/* ---- rows ---- */

bool groups_load(struct state *state)
{
    struct filter *filter;
    uint64_t slot = 0;
    while ((filter = hash_table_next(&state->filters, &slot)) != NULL) {
        if (filter->group == NULL || filter->queue_count == 0)
            continue;
        filter->group->first = waiting_next(state, filter->id, 0);
        if (filter->group->first == UINT64_MAX)
            return false;
    }
    return true;
}
