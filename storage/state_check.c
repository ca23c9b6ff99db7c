#include "state_check.h"

#include "base/memory.h"
#include "groups.h"
#include "memberships.h"
#include "queues.h"
#include "sessions.h"
#include "subscriptions.h"
#include "window.h"

#include <stdlib.h>

typedef const char *(*row_check)(struct state *state, const struct row *row, struct number_list *references);

static const char *for_each(struct state *state, enum table table, struct number_list *references, row_check check)
{
    static const uint8_t smallest[] = {0};
    uint8_t at[STORE_KEY_MAX];
    struct row row;
    const char *broken = NULL;
    for (bool found = store_first_at(state->store, table, bytes_of(smallest, 1), &row); found && broken == NULL;) {
        size_t size = row.key.size;
        memcpy(at, row.key.data, size);
        broken = check(state, &row, references);
        found = store_first_after(state->store, table, bytes_of(at, size), &row);
    }
    return broken;
}

/* ---- every reference to a message is counted, and every count has its references ---- */

static const char *refer_queue(struct state *state, const struct row *row, struct number_list *references)
{
    struct delivery delivery;
    if (!delivery_read(row->value, key_number(row->key, 1), &state->read_ids, &delivery))
        return "a queue row cannot be read";
    if (!delivery.released)
        number_list_add(references, delivery.message_id);
    return session_by_id(state, key_number(row->key, 0)) != NULL ? NULL : "a queue row belongs to no session";
}

static const char *refer_broadcast(struct state *state, const struct row *row, struct number_list *references)
{
    number_list_add(references, key_number(row->key, 1));
    return filter_by_id(state, key_number(row->key, 0)) != NULL ? NULL : "a broadcast row belongs to no filter";
}

static const char *refer_group(struct state *state, const struct row *row, struct number_list *references)
{
    number_list_add(references, key_number(row->key, 1));
    bool cleared = filter_by_id(state, key_number(row->key, 0)) == NULL;
    return cleared && state->work_count == 0 ? "a row belongs to a group that has ended" : NULL;
}

static const char *refer_will(struct state *state, const struct row *row, struct number_list *references)
{
    (void)state;
    struct reader in = reader_of(row->value);
    number_list_add(references, reader_varint(&in));
    return NULL;
}

static const char *refer_retained(struct state *state, const struct row *row, struct number_list *references)
{
    (void)state;
    struct reader in = reader_of(row->value);
    number_list_add(references, reader_varint(&in));
    return NULL;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
    return one < other ? -1 : one > other;
}

static const char *check_counts_of_messages(struct state *state, struct number_list *references)
{
    if (references->count > 0)
        qsort(references->items, references->count, sizeof *references->items, compare_numbers);
    uint64_t distinct = 0;
    for (uint32_t i = 0, next; i < references->count; i = next) {
        for (next = i + 1; next < references->count && references->items[next] == references->items[i];)
            next++;
        if (messages_references(&state->messages, references->items[i]) != next - i)
            return "the references of a message are not the rows that point to it";
        distinct++;
    }
    return distinct == state->messages.count ? NULL : "a message is referred to by no row";
}

static const char *check_messages(struct state *state)
{
    struct number_list references = {0};
    const char *broken = for_each(state, TABLE_OWN_QUEUES, &references, refer_queue);
    if (broken == NULL)
        broken = for_each(state, TABLE_IN_FLIGHT, &references, refer_queue);
    if (broken == NULL)
        broken = for_each(state, TABLE_BROADCAST_QUEUES, &references, refer_broadcast);
    if (broken == NULL)
        broken = for_each(state, TABLE_GROUPS, &references, refer_group);
    if (broken == NULL)
        broken = for_each(state, TABLE_WILLS, &references, refer_will);
    if (broken == NULL)
        broken = for_each(state, TABLE_RETAINED, &references, refer_retained);
    if (broken == NULL)
        broken = check_counts_of_messages(state, &references);
    free(references.items);
    return broken;
}

/* ---- sessions ---- */

static uint64_t count_rows(struct state *state, enum table table, uint64_t first)
{
    struct key key = key_of(first);
    struct row row;
    uint64_t count = 0;
    for (bool found = store_first_at(state->store, table, key_bytes(&key), &row); row_in(key_bytes(&key), found, &row);
         found = store_first_after(state->store, table, row.key, &row))
        count++;
    return count;
}

static const char *check_own_queue(struct state *state, const struct session *session)
{
    struct key key = key_of(session->id);
    struct row row;
    struct delivery delivery;
    const struct sharing *sharing = session->sharing;
    uint64_t count = 0, bytes = 0, qos2 = 0, qos0 = 0, shared = 0, shared_upto = 0;
    for (bool found = store_first_at(state->store, TABLE_OWN_QUEUES, key_bytes(&key), &row);
         row_in(key_bytes(&key), found, &row);
         found = store_first_after(state->store, TABLE_OWN_QUEUES, row.key, &row)) {
        delivery_read(row.value, key_number(row.key, 1), &state->read_ids, &delivery);
        count++;
        bytes += delivery.bytes;
        qos2 += delivery.qos == 2;
        qos0 += delivery.qos == 0;
        shared += delivery.group != 0;
        shared_upto = delivery.group != 0 ? delivery.order : shared_upto;
    }
    if (shared != (sharing != NULL ? sharing->own_count : 0) || (shared > 0 && shared_upto > sharing->own_upto))
        return "the totals of what groups gave are not those of the rows";
    bool equal = count == session->own_count && bytes == session->own_bytes && qos2 == session->own_qos2 &&
                 qos0 == session->own_qos0;
    return equal ? NULL : "the totals of an own queue are not those of its rows";
}

static const char *check_admission(struct state *state, struct session *session)
{
    bool has_room = session->owner.client_epoch != 0 && session->in_flight < session->receive_maximum &&
                    session->in_flight < state->settings.in_flight_max;
    struct merged merged;
    if (!has_room || state->work_count > 0)
        return NULL;
    for (uint64_t after = 0; queues_next(state, session, READER_CHECKS, after, &merged); after = merged.delivery.order) {
        if (merged.delivery.qos == 2)
            return "a QoS 2 message waits although the window has room";
    }
    return NULL;
}

static const char *check_memberships(const struct session *session)
{
    for (uint32_t i = 0; i < session->membership_count; i++) {
        const struct membership *membership = session->memberships[i];
        if (id_list_after(&membership->exceptions, membership->cursor) != UINT64_MAX)
            return "an exception lies behind its cursor";
        if (membership->taken.count > 0 && membership->taken.ids[0] <= membership->cursor)
            return "what the cursor has passed is still listed as taken";
    }
    return NULL;
}

static const char *check_session(struct state *state, struct session *session)
{
    if (check_memberships(session) != NULL)
        return check_memberships(session);
    if (count_rows(state, TABLE_IN_FLIGHT, session->id) != session->in_flight)
        return "the window's total is not the number of its rows";
    if (count_rows(state, TABLE_INBOUND, session->id) != session->inbound)
        return "the number of open packet ids is not the number of their rows";
    if (count_rows(state, TABLE_SUBSCRIPTIONS, session->id) != session->subscription_count)
        return "a session's subscriptions are not its rows";
    struct key owner = key_triple(session->owner.node, session->owner.node_epoch, session->owner.client_epoch);
    if (session->owner.client_epoch != 0 && !store_has(state->store, TABLE_OWNERS, key_bytes(&owner)))
        return "the end of its node would not find a connected session";
    const char *broken = check_own_queue(state, session);
    return broken != NULL ? broken : check_admission(state, session);
}

/* ---- groups ---- */

static bool has_room(const struct state *state, const struct session *session)
{
    uint64_t load = (uint64_t)session->own_count + session->in_flight;
    return load < session->receive_maximum && load < state->settings.in_flight_max &&
           load < state->settings.queue_messages_max;
}

static const char *check_group(struct state *state, const struct filter *filter)
{
    const struct group *group = filter->group;
    struct key key = key_of(filter->id);
    struct row row;
    uint64_t count = 0, bytes = 0, connected = 0;
    for (bool found = store_first_at(state->store, TABLE_GROUPS, key_bytes(&key), &row);
         row_in(key_bytes(&key), found, &row); found = store_first_after(state->store, TABLE_GROUPS, row.key, &row)) {
        struct reader in = reader_of(row.value);
        bytes += reader_varint(&in);
        if (count++ == 0 && key_number(row.key, 1) != group->first)
            return "the first message of a group is not that of its rows";
    }
    if (count != filter->queue_count || bytes != filter->queue_bytes || (count == 0) != (group->first == UINT64_MAX))
        return "the totals of a group's queue are not those of its rows";
    for (uint32_t n = 0; n < filter->node_count; n++)
        connected += filter->nodes[n].count;
    if (connected != group->member_count)
        return "the connected members of a group are not those of its nodes";
    for (uint32_t i = 0; i < group->member_count; i++) {
        const struct session *session = group->members[i]->session;
        if (session->owner.client_epoch == 0 || (i > 0 && group->members[i - 1]->session->id >= session->id))
            return "a member of a group is not connected, or not in its place";
        if (count > 0 && state->work_count == 0 && has_room(state, session))
            return "a message waits in a group although a member has room";
    }
    return NULL;
}

/* ---- filters ---- */

static uint64_t count_pending(struct state *state, const struct filter *filter, uint64_t message_id)
{
    const struct session *session;
    uint64_t pending = 0;
    uint64_t slot = 0;
    while ((session = session_map_next(&state->sessions, &slot)) != NULL) {
        const struct membership *membership = membership_find(session, filter->id);
        pending += membership != NULL && membership_next(state, membership, message_id - 1) == message_id;
    }
    return pending;
}

static const char *check_filter(struct state *state, const struct filter *filter)
{
    if (filter->group != NULL)
        return check_group(state, filter);
    uint64_t count = 0, id = 0;
    for (; (id = broadcast_next(state, filter, id)) != UINT64_MAX; count++) {
        struct key key = key_pair(filter->id, id);
        struct bytes value = {0};
        store_get(state->store, TABLE_BROADCAST_QUEUES, key_bytes(&key), &value);
        struct reader in = reader_of(value);
        if (reader_varint(&in) != count_pending(state, filter, id))
            return "a broadcast row is not pending for as many as it says";
    }
    if (count != filter->queue_count)
        return "the total of a broadcast queue is not the number of its rows";
    if (count_rows(state, TABLE_MEMBERS, filter->id) != filter->membership_count)
        return "the members of a filter are not its rows";
    for (uint32_t i = 0; i < filter->local_count; i++) {
        if (filter->local[i]->filter != filter || filter->local[i]->local_slot != i ||
            filter->local[i]->session->owner.node != state->self)
            return "a local subscription is not of a session held here";
    }
    return NULL;
}

const char *state_check(struct state *state)
{
    uint64_t hash[2];
    struct session *session;
    struct filter *filter;
    uint64_t slot = 0;
    state_hash(state, hash);
    const char *broken = check_messages(state);
    uint64_t connected = 0, living = 0;
    while ((session = session_map_next(&state->sessions, &slot)) != NULL) {
        connected += session->owner.client_epoch != 0;
        living += !session->ended;
        if (broken == NULL)
            broken = check_session(state, session);
    }
    for (slot = 0; (filter = hash_table_next(&state->filters, &slot)) != NULL;) {
        if (broken == NULL)
            broken = check_filter(state, filter);
    }
    if (broken == NULL && (connected != state->counts.connected || living != state->counts.sessions))
        broken = "the counts of sessions are not their number";
    return broken;
}
