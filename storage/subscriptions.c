#include "subscriptions.h"

#include "base/memory.h"
#include "base/search.h"
#include "base/topic.h"
#include "groups.h"
#include "memberships.h"
#include "sessions.h"

#include <assert.h>
#include <stdlib.h>

/* ---- filters ---- */

enum filter_flag {
    FILTER_BROADCAST = 0x01,
    FILTER_SHARED = 0x02,
};

static uint64_t filter_hash(const void *thing)
{
    const struct filter *filter = thing;
    return hash_number(filter->id);
}

static bool filter_is(const void *thing, const void *id)
{
    const struct filter *filter = thing;
    return filter->id == *(const uint64_t *)id;
}

void filters_init(struct state *state)
{
    hash_table_init(&state->filters, filter_hash);
    groups_init(state);
}

struct filter *filter_by_id(const struct state *state, uint64_t id)
{
    return hash_table_find(&state->filters, hash_number(id), filter_is, &id);
}

struct filter *filter_by_text(const struct state *state, struct bytes text)
{
    struct topic_filter parts;
    return group_text(text, &parts) ? group_find(state, text) : index_get(state->index, text);
}

void filter_touch(struct state *state, struct filter *filter)
{
    dirty_list_add(&state->dirty_filters, filter, &filter->dirty_slot);
}

static struct filter *filter_make(struct state *state, uint64_t id, struct bytes text)
{
    struct filter *filter = memory_zeroed(1, sizeof *filter);
    filter->id = id;
    filter->text = bytes_of(memory_copy(text.data, text.size), text.size);
    filter->dirty_slot = NOT_LISTED;
    hash_table_add(&state->filters, filter);
    struct topic_filter parts;
    if (group_text(filter->text, &parts))
        group_make(state, filter, parts.filter);
    else
        index_insert(state->index, filter->text, filter);
    state->counts.filters++;
    return filter;
}

void filter_free(struct filter *filter)
{
    group_free(filter->group);
    free((void *)filter->text.data);
    free(filter->local);
    free(filter->nodes);
    free(filter);
}

void filter_settle(struct state *state, struct filter *filter)
{
    if (filter->broadcast && filter->member_count == 0 && filter->membership_count == 0) {
        assert(filter->queue_count == 0);
        filter->broadcast = false;
        filter->last_id = filter->last_qos2_id = 0;
        filter_touch(state, filter);
    }
    if (filter->subscribers > 0 || filter->membership_count > 0)
        return;
    struct key key = key_of(filter->id);
    store_delete(state->store, TABLE_FILTERS, key_bytes(&key));
    dirty_list_remove(&state->dirty_filters, &filter->dirty_slot);
    if (filter->group != NULL)
        group_end(state, filter);
    else
        index_remove(state->index, filter->text);
    hash_table_remove(&state->filters, filter);
    state->counts.filters--;
    filter_free(filter);
}

/* ---- who is connected where ----
 *
 * Lists in memory only, which follow the owners of sessions. Those of a session with many subscriptions take several steps
 * (entry.relinking); until then they may name a session that its owner has left. */

#define LINK_LOOKS 2 /* the subscription, and the filter with its lists */

static void count_connected(struct filter *filter, uint32_t node, int by)
{
    for (uint32_t i = 0; i < filter->node_count; i++) {
        if (filter->nodes[i].node == node) {
            filter->nodes[i].count += (uint32_t)by;
            if (filter->nodes[i].count == 0)
                filter->nodes[i] = filter->nodes[--filter->node_count];
            return;
        }
    }
    assert(by > 0);
    filter->nodes = memory_resize(filter->nodes, (filter->node_count + 1) * sizeof *filter->nodes);
    filter->nodes[filter->node_count++] = (struct node_subscribers){node, 1};
}

static void connect_subscription(struct state *state, struct subscription *subscription)
{
    struct filter *filter = subscription->filter;
    state_look(state, LINK_LOOKS);
    count_connected(filter, subscription->session->owner.node, 1);
    if (filter->group != NULL)
        group_connect(subscription);
    if (!session_held(state, subscription->session))
        return;
    if (filter->local_count == filter->local_capacity) {
        filter->local_capacity = filter->local_capacity == 0 ? 2 : filter->local_capacity * 2;
        filter->local = memory_resize(filter->local, filter->local_capacity * sizeof(struct subscription *));
    }
    subscription->local_slot = filter->local_count;
    filter->local[filter->local_count++] = subscription;
}

static void disconnect_subscription(struct state *state, struct subscription *subscription, uint32_t node)
{
    struct filter *filter = subscription->filter;
    state_look(state, LINK_LOOKS);
    count_connected(filter, node, -1);
    if (filter->group != NULL)
        group_disconnect(subscription);
    if (subscription->local_slot == NOT_LISTED)
        return;
    struct subscription *last = filter->local[--filter->local_count];
    filter->local[subscription->local_slot] = last;
    last->local_slot = subscription->local_slot;
    subscription->local_slot = NOT_LISTED;
}

void subscriptions_connect(struct state *state, struct session *session)
{
    struct relinking *relinking = &state->entry.relinking;
    if (session->subscription_count == 0)
        return;
    assert(relinking->session == NULL || (relinking->session == session && relinking->at == 0 && relinking->to == 0));
    relinking->session = session;
    relinking->to = session->owner.node;
}

void subscriptions_disconnect(struct state *state, struct session *session)
{
    struct relinking *relinking = &state->entry.relinking;
    if (session->subscription_count == 0)
        return;
    assert(relinking->session == NULL);
    relinking->session = session;
    relinking->from = session->owner.node;
}

void subscriptions_relink(struct state *state)
{
    struct relinking *relinking = &state->entry.relinking;
    struct session *session = relinking->session;
    while (relinking->at < session->subscription_count) {
        struct subscription *subscription = session->subscriptions[relinking->at++];
        if (relinking->from != 0)
            disconnect_subscription(state, subscription, relinking->from);
        if (relinking->to != 0)
            connect_subscription(state, subscription);
        if (state_spent(state))
            return;
    }
    *relinking = (struct relinking){0};
}

/* ---- members: subscriptions of QoS 1 and 2 ----
 *
 * Shared ones are their group's affair. */

static bool is_member(const struct subscription *subscription)
{
    return SUBSCRIPTION_QOS(subscription->options) > 0 && subscription->filter->group == NULL;
}

static void list_member(struct filter *filter, struct subscription *subscription)
{
    assert(filter->member_count < OWN_MEMBERS_MAX);
    uint32_t at = filter->member_count;
    while (at > 0 && filter->members[at - 1]->session->id > subscription->session->id) {
        filter->members[at] = filter->members[at - 1];
        at--;
    }
    filter->members[at] = subscription;
}

static void unlist_member(struct filter *filter, const struct subscription *subscription)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < filter->member_count; i++) {
        if (filter->members[i] != subscription)
            filter->members[kept++] = filter->members[i];
    }
    assert(kept == filter->member_count - 1);
}

/* The queue begins with the next message: every member reads from there. */
static void make_broadcast(struct state *state, struct filter *filter)
{
    filter->broadcast = true;
    for (uint32_t i = 0; i < filter->member_count; i++) {
        struct subscription *member = filter->members[i];
        membership_open(state, member->session, filter, member->options, member->subscription_id);
    }
    filter_touch(state, filter);
}

static void member_join(struct state *state, struct subscription *subscription)
{
    struct filter *filter = subscription->filter;
    if (!filter->broadcast && filter->member_count == OWN_MEMBERS_MAX)
        make_broadcast(state, filter);
    if (filter->broadcast)
        membership_open(state, subscription->session, filter, subscription->options, subscription->subscription_id);
    else
        list_member(filter, subscription);
    filter->member_count++;
    if (SUBSCRIPTION_QOS(subscription->options) == 2)
        filter->qos2_count++;
}

/* May leave the filter for filter_settle to free; so the caller still holds it as a subscriber. */
static void member_leave(struct state *state, struct subscription *subscription)
{
    struct filter *filter = subscription->filter;
    if (SUBSCRIPTION_QOS(subscription->options) == 2)
        filter->qos2_count--;
    if (filter->broadcast) {
        filter->member_count--;
        membership_close(state, membership_find(subscription->session, filter->id));
    } else {
        unlist_member(filter, subscription);
        filter->member_count--;
    }
}

/* ---- subscriptions ---- */

static uint64_t filter_id_at(const void *subscriptions, uint32_t place)
{
    return ((struct subscription *const *)subscriptions)[place]->filter->id;
}

/* Where the filter is, or would be, in a list by filter id. */
static uint32_t place_of(struct subscription *const *list, uint32_t count, uint64_t filter_id)
{
    return search_first(list, count, filter_id, filter_id_at);
}

static uint32_t lower_bound(const struct session *session, uint64_t filter_id)
{
    return place_of(session->subscriptions, session->subscription_count, filter_id);
}

/* Counts what lies behind `at` in the session's list, which is about to be moved by one. */
static void look_behind(struct state *state, const struct session *session, uint32_t at)
{
    state_look(state, (session->subscription_count - at) / MOVED_PER_LOOK);
}

struct subscription *subscription_find(const struct session *session, uint64_t filter_id)
{
    uint32_t at = lower_bound(session, filter_id);
    bool found = at < session->subscription_count && session->subscriptions[at]->filter->id == filter_id;
    return found ? session->subscriptions[at] : NULL;
}

static void list_shared(struct session *session, struct subscription *subscription)
{
    struct sharing *sharing = session_sharing(session);
    sharing->subscriptions = list_room(sharing->subscriptions, sharing->count);
    uint32_t at = place_of(sharing->subscriptions, sharing->count, subscription->filter->id);
    memmove(sharing->subscriptions + at + 1, sharing->subscriptions + at,
            (sharing->count - at) * sizeof *sharing->subscriptions);
    sharing->subscriptions[at] = subscription;
    sharing->count++;
}

static void unlist_shared(struct session *session, const struct subscription *subscription)
{
    struct sharing *sharing = session->sharing;
    uint32_t at = place_of(sharing->subscriptions, sharing->count, subscription->filter->id);
    assert(at < sharing->count && sharing->subscriptions[at] == subscription);
    sharing->count--;
    memmove(sharing->subscriptions + at, sharing->subscriptions + at + 1,
            (sharing->count - at) * sizeof *sharing->subscriptions);
}

static struct subscription *subscription_make(struct state *state, struct session *session, struct filter *filter)
{
    session->subscriptions = list_room(session->subscriptions, session->subscription_count);
    struct subscription *subscription = memory_zeroed(1, sizeof *subscription);
    *subscription = (struct subscription){.session = session, .filter = filter, .local_slot = NOT_LISTED};
    uint32_t at = lower_bound(session, filter->id);
    look_behind(state, session, at);
    memmove(session->subscriptions + at + 1, session->subscriptions + at,
            (session->subscription_count - at) * sizeof *session->subscriptions);
    session->subscriptions[at] = subscription;
    session->subscription_count++;
    if (filter->group != NULL)
        list_shared(session, subscription);
    filter->subscribers++;
    state->counts.subscriptions++;
    return subscription;
}

static void put_row(struct state *state, const struct subscription *subscription)
{
    struct key key = key_pair(subscription->session->id, subscription->filter->id);
    buffer_clear(&state->row);
    buffer_put_u8(&state->row, subscription->options);
    buffer_put_varint(&state->row, subscription->subscription_id);
    store_put(state->store, TABLE_SUBSCRIPTIONS, key_bytes(&key), buffer_bytes(&state->row));
}

struct subscription *subscription_set(struct state *state, struct session *session, struct bytes text,
                                      uint8_t options, uint32_t subscription_id)
{
    struct filter *filter = filter_by_text(state, text);
    if (filter == NULL) {
        filter = filter_make(state, state->next_filter_id++, text);
        filter_touch(state, filter);
    }
    struct subscription *subscription = subscription_find(session, filter->id);
    if (subscription == NULL) {
        subscription = subscription_make(state, session, filter);
        if (session->owner.client_epoch != 0)
            connect_subscription(state, subscription);
    } else if (subscription->options == options && subscription->subscription_id == subscription_id) {
        return subscription;
    } else if (is_member(subscription)) {
        member_leave(state, subscription);
    }
    subscription->options = options;
    subscription->subscription_id = subscription_id;
    if (is_member(subscription))
        member_join(state, subscription);
    put_row(state, subscription);
    filter_settle(state, filter); /* its last member may have become a subscriber with QoS 0 */
    return subscription;
}

void subscription_remove(struct state *state, struct subscription *subscription)
{
    struct session *session = subscription->session;
    struct filter *filter = subscription->filter;
    assert(subscription->scan == NULL);
    struct key key = key_pair(session->id, filter->id);
    store_delete(state->store, TABLE_SUBSCRIPTIONS, key_bytes(&key));
    if (is_member(subscription))
        member_leave(state, subscription);
    if (session->owner.client_epoch != 0)
        disconnect_subscription(state, subscription, session->owner.node);
    uint32_t at = lower_bound(session, filter->id);
    look_behind(state, session, at);
    session->subscription_count--;
    memmove(session->subscriptions + at, session->subscriptions + at + 1,
            (session->subscription_count - at) * sizeof *session->subscriptions);
    if (filter->group != NULL)
        unlist_shared(session, subscription);
    free(subscription);
    state->counts.subscriptions--;
    filter->subscribers--;
    filter_settle(state, filter);
}

/* ---- rows ---- */

static void write_back(struct state *state, const struct filter *filter)
{
    struct key key = key_of(filter->id);
    struct buffer *row = &state->row;
    buffer_clear(row);
    buffer_put_u8(row, (uint8_t)((filter->broadcast ? FILTER_BROADCAST : 0) |
                                 (filter->group != NULL ? FILTER_SHARED : 0)));
    buffer_put_varint(row, filter->queue_count);
    buffer_put_varint(row, filter->queue_bytes);
    buffer_put_varint(row, filter->last_id);
    buffer_put_varint(row, filter->last_qos2_id);
    if (filter->group != NULL)
        buffer_put_varint(row, filter->group->last_given);
    buffer_put_block(row, filter->text);
    store_put(state->store, TABLE_FILTERS, key_bytes(&key), buffer_bytes(row));
}

void filters_write_back(struct state *state)
{
    struct dirty_list *dirty = &state->dirty_filters;
    for (uint32_t i = 0; i < dirty->count; i++) {
        struct filter *filter = dirty->things[i];
        if (filter == NULL)
            continue;
        write_back(state, filter);
        filter->dirty_slot = NOT_LISTED;
    }
    dirty->count = 0;
}

bool filters_load(struct state *state)
{
    struct key key = key_of(0);
    struct row row;
    for (bool found = store_first_at(state->store, TABLE_FILTERS, key_bytes(&key), &row); found;
         found = store_first_after(state->store, TABLE_FILTERS, row.key, &row)) {
        struct reader in = reader_of(row.value);
        uint8_t flags = reader_u8(&in);
        uint64_t queue_count = reader_varint(&in), queue_bytes = reader_varint(&in);
        uint64_t last_id = reader_varint(&in), last_qos2_id = reader_varint(&in);
        bool shared = (flags & FILTER_SHARED) != 0;
        uint64_t last_given = shared ? reader_varint(&in) : 0;
        struct bytes text = reader_block(&in);
        if (!reader_done(&in) || text.size == 0 || row.key.size != sizeof(uint64_t))
            return false;
        struct filter *filter = filter_make(state, key_number(row.key, 0), text);
        if (shared != (filter->group != NULL))
            return false;
        if (shared)
            filter->group->last_given = last_given;
        filter->broadcast = (flags & FILTER_BROADCAST) != 0;
        filter->queue_count = queue_count;
        filter->queue_bytes = queue_bytes;
        filter->last_id = last_id;
        filter->last_qos2_id = last_qos2_id;
    }
    return true;
}

static bool load_subscription(struct state *state, const struct row *row)
{
    struct session *session = session_by_id(state, key_number(row->key, 0));
    struct filter *filter = filter_by_id(state, key_number(row->key, 1));
    if (session == NULL || filter == NULL)
        return false;
    struct reader in = reader_of(row->value);
    struct subscription *subscription = subscription_make(state, session, filter);
    subscription->options = reader_u8(&in);
    subscription->subscription_id = (uint32_t)reader_varint(&in);
    if (session->owner.client_epoch != 0)
        connect_subscription(state, subscription);
    if (is_member(subscription)) {
        if (!filter->broadcast && filter->member_count == OWN_MEMBERS_MAX)
            return false;
        if (!filter->broadcast)
            list_member(filter, subscription);
        filter->member_count++;
        if (SUBSCRIPTION_QOS(subscription->options) == 2)
            filter->qos2_count++;
    }
    return reader_done(&in);
}

bool subscriptions_load(struct state *state)
{
    struct key key = key_of(0);
    struct row row;
    for (bool found = store_first_at(state->store, TABLE_SUBSCRIPTIONS, key_bytes(&key), &row); found;
         found = store_first_after(state->store, TABLE_SUBSCRIPTIONS, row.key, &row)) {
        if (row.key.size != 2 * sizeof(uint64_t) || !load_subscription(state, &row))
            return false;
    }
    return true;
}
