#include "queues.h"

#include "base/bug.h"

#include "groups.h"
#include "memberships.h"
#include "security_private.h"
#include "sessions.h"
#include "subscriptions.h"

#include <assert.h>

/* ---- the form of a delivery in a row ----
 *
 *   varint order - message id (0 for a live message), u8 flags, varint payload bytes,
 *   if it is shared: varint filter id of its group; if it was declined: varint session id; subscription ids to the end */

enum delivery_flag {
    DELIVERY_QOS = 0x03,
    DELIVERY_RETAIN = 0x04,
    DELIVERY_RELEASED = 0x08,
    DELIVERY_SHARED = 0x10,
    DELIVERY_DECLINED = 0x20,
};

void delivery_put(const struct delivery *delivery, struct buffer *out)
{
    buffer_put_varint(out, delivery->order - delivery->message_id);
    buffer_put_u8(out, (uint8_t)(delivery->qos | (delivery->retain ? DELIVERY_RETAIN : 0) |
                                 (delivery->released ? DELIVERY_RELEASED : 0) |
                                 (delivery->group != 0 ? DELIVERY_SHARED : 0) |
                                 (delivery->declined != 0 ? DELIVERY_DECLINED : 0)));
    buffer_put_varint(out, delivery->bytes);
    if (delivery->group != 0)
        buffer_put_varint(out, delivery->group);
    if (delivery->declined != 0)
        buffer_put_varint(out, delivery->declined);
    for (uint32_t i = 0; i < delivery->subscription_id_count; i++)
        buffer_put_varint(out, delivery->subscription_ids[i]);
}

bool delivery_read(struct bytes value, uint64_t order, struct u32_list *ids, struct delivery *delivery)
{
    struct reader in = reader_of(value);
    uint64_t distance = reader_varint(&in);
    uint8_t flags = reader_u8(&in);
    *delivery = (struct delivery){.order = order,
                                  .message_id = order - distance,
                                  .qos = flags & DELIVERY_QOS,
                                  .retain = (flags & DELIVERY_RETAIN) != 0,
                                  .released = (flags & DELIVERY_RELEASED) != 0};
    delivery->bytes = reader_varint(&in);
    delivery->group = (flags & DELIVERY_SHARED) != 0 ? reader_varint(&in) : 0;
    delivery->declined = (flags & DELIVERY_DECLINED) != 0 ? reader_varint(&in) : 0;
    ids->count = 0;
    while (in.rest.size > 0 && !in.failed)
        u32_list_add(ids, (uint32_t)reader_varint(&in));
    delivery->subscription_ids = ids->items;
    delivery->subscription_id_count = ids->count;
    return !in.failed;
}

/* ---- own queues ---- */

static void count_own(struct state *state, struct session *session, const struct delivery *delivery, int64_t by)
{
    uint64_t bytes = delivery->bytes * (uint64_t)by;
    session->own_count += (uint32_t)by;
    session->own_bytes += bytes;
    session->own_qos2 += delivery->qos == 2 ? (uint32_t)by : 0;
    session->own_qos0 += delivery->qos == 0 ? (uint32_t)by : 0;
    if (delivery->group != 0)
        session_sharing(session)->own_count += (uint32_t)by;
    session_follow_behind(state, session);
    state->counts.queued += (uint64_t)by;
    state->counts.queued_bytes += bytes;
    session_touch(state, session);
}

bool own_next(struct state *state, struct session *session, uint64_t after, struct delivery *delivery)
{
    if (session->own_count == 0)
        return false;
    struct key key = key_pair(session->id, after), prefix = key_of(session->id);
    struct row row;
    bool found = store_first_after(state->store, TABLE_OWN_QUEUES, key_bytes(&key), &row);
    if (!row_in(key_bytes(&prefix), found, &row))
        return false;
    return delivery_read(row.value, key_number(row.key, 1), &state->read_ids, delivery);
}

bool own_get(struct state *state, struct session *session, uint64_t order, struct delivery *delivery)
{
    struct key key = key_pair(session->id, order);
    struct bytes value;
    return session->own_count > 0 && store_get(state->store, TABLE_OWN_QUEUES, key_bytes(&key), &value) &&
           delivery_read(value, order, &state->read_ids, delivery);
}

void own_take(struct state *state, struct session *session, const struct delivery *delivery)
{
    struct key key = key_pair(session->id, delivery->order);
    store_delete(state->store, TABLE_OWN_QUEUES, key_bytes(&key));
    count_own(state, session, delivery, -1);
}

void own_append(struct state *state, struct session *session, const struct delivery *delivery)
{
    struct key key = key_pair(session->id, delivery->order);
    buffer_clear(&state->row);
    delivery_put(delivery, &state->row);
    store_insert(state->store, TABLE_OWN_QUEUES, key_bytes(&key), buffer_bytes(&state->row));
    count_own(state, session, delivery, 1);
    if (delivery->group != 0)
        session->sharing->own_upto = delivery->order;

    struct delivery oldest;
    while (session->own_count > 1 &&
           (session->own_count > state->settings.queue_messages_max - bug(BUG_V27_LOCAL_QUEUE_LIMIT) * (state->self - 1) ||
            session->own_bytes > queue_bytes_max_of(state, session)) &&
           own_next(state, session, 0, &oldest)) {
        own_take(state, session, &oldest);
        messages_release(&state->messages, oldest.message_id, 1);
        state->counts.dropped_queue_full++;
    }
}

/* ---- broadcast queues ---- */

struct broadcast_row {
    uint64_t needed, bytes;
    uint8_t qos;
    bool retain;
};

static bool broadcast_read(struct bytes value, struct broadcast_row *row)
{
    struct reader in = reader_of(value);
    row->needed = reader_varint(&in);
    row->bytes = reader_varint(&in);
    uint8_t flags = reader_u8(&in);
    row->qos = flags & DELIVERY_QOS;
    row->retain = (flags & DELIVERY_RETAIN) != 0;
    return reader_done(&in);
}

static bool broadcast_get(struct state *state, const struct filter *filter, uint64_t message_id,
                          struct broadcast_row *row)
{
    struct key key = key_pair(filter->id, message_id);
    struct bytes value;
    return filter->queue_count > 0 &&
           store_get(state->store, TABLE_BROADCAST_QUEUES, key_bytes(&key), &value) && broadcast_read(value, row);
}

static void broadcast_put(struct state *state, const struct filter *filter, uint64_t message_id,
                          const struct broadcast_row *row)
{
    struct key key = key_pair(filter->id, message_id);
    buffer_clear(&state->row);
    buffer_put_varint(&state->row, row->needed);
    buffer_put_varint(&state->row, row->bytes);
    buffer_put_u8(&state->row, (uint8_t)(row->qos | (row->retain ? DELIVERY_RETAIN : 0)));
    store_put(state->store, TABLE_BROADCAST_QUEUES, key_bytes(&key), buffer_bytes(&state->row));
}

static void broadcast_delete(struct state *state, struct filter *filter, uint64_t message_id, uint64_t bytes)
{
    struct key key = key_pair(filter->id, message_id);
    store_delete(state->store, TABLE_BROADCAST_QUEUES, key_bytes(&key));
    filter->queue_count--;
    filter->queue_bytes -= bytes;
    state->counts.queued--;
    state->counts.queued_bytes -= bytes;
    filter_touch(state, filter);
    messages_release(&state->messages, message_id, 1);
}

uint64_t broadcast_next(struct state *state, const struct filter *filter, uint64_t after)
{
    if (filter->queue_count == 0 || after >= filter->last_id)
        return UINT64_MAX;
    struct key key = key_pair(filter->id, after), prefix = key_of(filter->id);
    struct row row;
    bool found = store_first_after(state->store, TABLE_BROADCAST_QUEUES, key_bytes(&key), &row);
    return row_in(key_bytes(&prefix), found, &row) ? key_number(row.key, 1) : UINT64_MAX;
}

void broadcast_append(struct state *state, struct filter *filter, uint64_t message_id, const struct message *message,
                      uint64_t needed)
{
    assert(needed > 0);
    uint64_t bytes = message_bytes(message);
    struct broadcast_row row = {needed, bytes, message->qos, message->retain};
    broadcast_put(state, filter, message_id, &row);
    filter->queue_count++;
    filter->queue_bytes += bytes;
    filter->last_id = message_id;
    if (message->qos == 2)
        filter->last_qos2_id = message_id;
    state->counts.queued++;
    state->counts.queued_bytes += bytes;
    filter_touch(state, filter);

    while (filter->queue_count > 1 && (filter->queue_count > state->settings.queue_messages_max ||
                                       filter->queue_bytes > state->settings.queue_bytes_max)) {
        uint64_t oldest = broadcast_next(state, filter, 0);
        if (!broadcast_get(state, filter, oldest, &row))
            break;
        state->counts.dropped_queue_full += row.needed;
        broadcast_delete(state, filter, oldest, row.bytes);
    }
}

void broadcast_release(struct state *state, struct filter *filter, uint64_t message_id)
{
    struct broadcast_row row;
    if (!broadcast_get(state, filter, message_id, &row))
        return;
    if (--row.needed == 0)
        broadcast_delete(state, filter, message_id, row.bytes);
    else
        broadcast_put(state, filter, message_id, &row);
}

/* ---- a session's view ---- */

static void merge_membership(struct state *state, const struct membership *membership, struct merged *merged)
{
    struct delivery *delivery = &merged->delivery;
    const struct interval *interval = membership_interval(membership, delivery->message_id);
    struct broadcast_row row;
    assert(interval != NULL);
    if (merged->own || !broadcast_get(state, membership->filter, delivery->message_id, &row))
        return; /* an own row was resolved with all subscriptions that matched */
    uint8_t qos = SUBSCRIPTION_QOS(interval->options);
    if (qos > row.qos)
        qos = row.qos;
    if (qos > delivery->qos)
        delivery->qos = qos;
    if (row.retain && (interval->options & SUBSCRIPTION_RETAIN_AS_PUBLISHED))
        delivery->retain = true;
    if (interval->subscription_id != 0)
        u32_list_add(&state->read_ids, interval->subscription_id);
    delivery->bytes = row.bytes;
}

bool queues_next(struct state *state, struct session *session, enum reader_kind reader, uint64_t after,
                 struct merged *merged)
{
    *merged = (struct merged){0};
    merged->own = own_next(state, session, after, &merged->delivery);
    uint64_t own_order = merged->own ? merged->delivery.order : UINT64_MAX;
    uint64_t order = readings_next(state, session, reader, after, own_order);
    if (order == UINT64_MAX && !merged->own)
        return false;
    if (order < own_order) {
        merged->own = false;
        merged->delivery = (struct delivery){.order = order, .message_id = order};
        state->read_ids.count = 0;
    }
    for (uint32_t i = 0; i < state->read_filters.count; i++)
        merge_membership(state, membership_find(session, state->read_filters.items[i]), merged);
    merged->delivery.subscription_ids = state->read_ids.items;
    merged->delivery.subscription_id_count = state->read_ids.count;
    merged->filters = state->read_filters.items;
    merged->filter_count = state->read_filters.count;
    return true;
}

void queues_take(struct state *state, struct session *session, const struct merged *merged)
{
    uint64_t message_id = merged->delivery.message_id;
    if (merged->own) {
        group_withdraw(state, session, &merged->delivery);
        own_take(state, session, &merged->delivery);
    } else {
        messages_reference(&state->messages, message_id, 1);
    }
    for (uint32_t i = 0; i < merged->filter_count; i++) {
        struct membership *membership = membership_find(session, merged->filters[i]);
        if (membership != NULL)
            membership_done(state, membership, message_id);
    }
}
