#include "sessions.h"

#include "base/memory.h"
#include "due.h"
#include "groups.h"
#include "memberships.h"
#include "queues.h"
#include "readings.h"
#include "scans.h"
#include "subscriptions.h"
#include "wills.h"
#include "window.h"
#include "work.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct session *session_by_id(const struct state *state, uint64_t id)
{
    return session_map_by_id(&state->sessions, id);
}

struct session *session_by_client_id(const struct state *state, struct bytes client_id)
{
    return session_map_by_client_id(&state->clients, client_id);
}

void session_touch(struct state *state, struct session *session)
{
    dirty_list_add(&state->dirty_sessions, session, &session->dirty_slot);
}

void session_follow_behind(struct state *state, struct session *session)
{
    struct dirty_list *behind = &state->behind;
    if (session->own_qos0 > 0) {
        dirty_list_add(behind, session, &session->behind_slot);
    } else if (session->behind_slot != NOT_LISTED) {
        struct session *last = behind->things[--behind->count];
        behind->things[session->behind_slot] = last;
        last->behind_slot = session->behind_slot;
        session->behind_slot = NOT_LISTED;
    }
}

static struct session *session_new(struct state *state, uint64_t id, struct bytes client_id, bool ended)
{
    struct session *session = memory_zeroed(1, offsetof(struct session, client_id) + client_id.size);
    assert(client_id.size <= UINT16_MAX);
    session->id = id;
    session->ended = ended;
    session->client_id_size = (uint16_t)client_id.size;
    memcpy(session->client_id, client_id.data, client_id.size);
    session->dirty_slot = session->behind_slot = NOT_LISTED;
    session_map_add(&state->sessions, session);
    if (!ended) {
        session_map_add(&state->clients, session);
        state->counts.sessions++;
    }
    return session;
}

struct session *session_make(struct state *state, uint64_t id, struct bytes client_id)
{
    struct session *session = session_new(state, id, client_id, false);
    session_touch(state, session);
    return session;
}

void session_set_user_name(struct session *session, struct bytes user_name)
{
    free(session->user_name);
    session->user_name = NULL;
    if (user_name.size == 0)
        return;
    session->user_name = memory_allocate(sizeof *session->user_name + user_name.size);
    session->user_name->size = (uint32_t)user_name.size;
    memcpy(session->user_name->text, user_name.data, user_name.size);
}

struct sharing *session_sharing(struct session *session)
{
    if (session->sharing == NULL)
        session->sharing = memory_zeroed(1, sizeof *session->sharing);
    return session->sharing;
}

void session_free(struct session *session)
{
    for (struct scan *scan = session->first_scan, *next; scan != NULL; scan = next) {
        next = scan->next;
        scan_free(scan);
    }
    for (uint32_t i = 0; i < session->subscription_count; i++)
        free(session->subscriptions[i]);
    for (uint32_t i = 0; i < session->membership_count; i++)
        membership_free(session->memberships[i]);
    free(session->subscriptions);
    free(session->memberships);
    readings_release(session);
    if (session->sharing != NULL)
        free(session->sharing->subscriptions);
    free(session->sharing);
    free(session->user_name);
    free(session);
}

/* ---- connecting and disconnecting ---- */

void owner_row_put(struct state *state, const struct owner *owner, uint64_t session_id)
{
    struct key key = key_triple(owner->node, owner->node_epoch, owner->client_epoch);
    struct key value = key_of(session_id);
    store_put(state->store, TABLE_OWNERS, key_bytes(&key), key_bytes(&value));
}

void owner_row_delete(struct state *state, const struct owner *owner)
{
    struct key key = key_triple(owner->node, owner->node_epoch, owner->client_epoch);
    store_delete(state->store, TABLE_OWNERS, key_bytes(&key));
}

static void set_expires(struct state *state, struct session *session, uint64_t expires_ms)
{
    if (session->expires_ms != 0)
        due_remove(state, session->expires_ms, DUE_SESSION, session->id);
    session->expires_ms = expires_ms;
    if (expires_ms != 0)
        due_add(state, expires_ms, DUE_SESSION, session->id);
    session_touch(state, session);
}

void session_connect(struct state *state, struct session *session, struct owner owner)
{
    assert(session->owner.client_epoch == 0 && !session->ended);
    set_expires(state, session, 0);
    session->owner = owner;
    owner_row_put(state, &owner, session->id);
    subscriptions_connect(state, session);
    state->counts.connected++;
    session_touch(state, session);
}

void session_detach(struct state *state, struct session *session)
{
    assert(session->owner.client_epoch != 0);
    subscriptions_disconnect(state, session);
    session->owner = (struct owner){0};
    session->sent_upto = state->next_message_id - 1;
    state->counts.connected--;
    session_touch(state, session);
}

void session_disconnect(struct state *state, struct session *session, bool with_will)
{
    owner_row_delete(state, &session->owner);
    session_detach(state, session);
    readings_release(session);
    if (with_will)
        will_schedule(state, session);
    else
        will_forget(state, session);
    if (session->expiry_s == 0) {
        session_end(state, session);
        return;
    }
    groups_offer(state, session);
    if (session->expiry_s != UINT32_MAX)
        set_expires(state, session, seconds_from(state->clock_ms, session->expiry_s));
}

/* ---- deliveries ---- */

void session_tell_queued(struct state *state, const struct session *session)
{
    if (!session_held(state, session))
        return;
    struct effect *effect = effects_add(state->effects, EFFECT_QUEUED);
    effect->session_id = session->id;
    effect->connection = session->owner.connection;
}

void session_advance(struct state *state, struct session *session)
{
    bool given = false;
    window_admit(state, session);
    while (groups_refill(state, session, &given))
        window_admit(state, session); /* what expired on the way may have left room */
    if (given)
        session_tell_queued(state, session);
}

/* ---- ending ---- */

void session_end(struct state *state, struct session *session)
{
    assert(!session->ended && session->owner.client_epoch == 0);
    set_expires(state, session, 0);
    readings_release(session);
    session->ended = true;
    session_map_remove(&state->clients, session);
    state->counts.sessions--;
    session_touch(state, session);
    work_add(state, WORK_SESSION, session->id, 0);
    if (session->will_epoch != 0)
        will_publish_now(state, session);
    assert(state->entry.clearing == NULL);
    state->entry.clearing = session;
}

void session_expire(struct state *state, uint64_t id)
{
    struct session *session = session_by_id(state, id);
    if (session == NULL || session->ended || session->owner.client_epoch != 0)
        return;
    session->expires_ms = 0; /* the TICK has taken its row */
    session_end(state, session);
}

/* The next row of the session in a table keyed by (session, ...). */
static bool first_row(struct state *state, const struct session *session, enum table table, struct row *row)
{
    struct key key = key_of(session->id);
    return row_in(key_bytes(&key), store_first_at(state->store, table, key_bytes(&key), row), row);
}

/* Each clear_ function removes one thing; false: none is left. */
static bool clear_queue(struct state *state, struct session *session)
{
    struct row row;
    struct delivery delivery;
    if (session->own_count == 0 || !first_row(state, session, TABLE_OWN_QUEUES, &row) ||
        !delivery_read(row.value, key_number(row.key, 1), &state->read_ids, &delivery))
        return false;
    own_take(state, session, &delivery);
    if (group_take_back(state, &delivery))
        return true;
    messages_release(&state->messages, delivery.message_id, 1);
    state->counts.dropped_session_ended += delivery.qos > 0;
    return true;
}

static bool clear_window(struct state *state, struct session *session)
{
    struct delivery delivery;
    if (!window_next(state, session, 0, &delivery))
        return false;
    state->counts.dropped_session_ended += !delivery.released;
    return window_remove(state, session, delivery.order);
}

static bool clear_inbound(struct state *state, struct session *session)
{
    struct row row;
    return session->inbound > 0 && first_row(state, session, TABLE_INBOUND, &row) &&
           inbound_close(state, session, (uint16_t)key_number(row.key, 1));
}

static bool clear_subscription(struct state *state, struct session *session)
{
    if (session->subscription_count == 0)
        return false;
    subscription_remove(state, session->subscriptions[session->subscription_count - 1]);
    return true;
}

static bool clear_membership(struct state *state, struct session *session)
{
    if (session->membership_count == 0)
        return false;
    membership_clear(state, session->memberships[session->membership_count - 1]);
    return true;
}

bool session_clear(struct state *state, struct session *session)
{
    assert(session->ended && state->budget > 0);
    state->budget--;
    if (scan_close_one(state, session) || clear_subscription(state, session) || clear_membership(state, session) ||
        clear_queue(state, session) || clear_window(state, session) || clear_inbound(state, session))
        return true;
    struct key key = key_of(session->id);
    store_delete(state->store, TABLE_SESSIONS, key_bytes(&key));
    work_remove(state, WORK_SESSION, session->id, 0);
    work_remove(state, WORK_ADMIT_SESSION, session->id, 0);
    work_remove(state, WORK_GROUP_OFFER, session->id, 0);
    dirty_list_remove(&state->dirty_sessions, &session->dirty_slot);
    session_map_remove(&state->sessions, session);
    session_free(session);
    return false;
}

/* ---- QoS 2 from the client ---- */

bool inbound_is_open(struct state *state, const struct session *session, uint16_t packet_id)
{
    struct key key = key_pair(session->id, packet_id);
    return session->inbound > 0 && store_has(state->store, TABLE_INBOUND, key_bytes(&key));
}

bool inbound_open(struct state *state, struct session *session, uint16_t packet_id)
{
    if (inbound_is_open(state, session, packet_id))
        return false;
    struct key key = key_pair(session->id, packet_id);
    store_insert(state->store, TABLE_INBOUND, key_bytes(&key), bytes_of(NULL, 0));
    session->inbound++;
    session_touch(state, session);
    return true;
}

bool inbound_close(struct state *state, struct session *session, uint16_t packet_id)
{
    struct key key = key_pair(session->id, packet_id);
    if (session->inbound == 0 || !store_delete(state->store, TABLE_INBOUND, key_bytes(&key)))
        return false;
    session->inbound--;
    session_touch(state, session);
    return true;
}

/* ---- rows ---- */

enum session_flag {
    SESSION_ENDED = 0x01,
};

static void write_back(struct state *state, const struct session *session)
{
    struct key key = key_of(session->id);
    struct buffer *row = &state->row;
    buffer_clear(row);
    buffer_put_u8(row, session->ended ? SESSION_ENDED : 0);
    buffer_put_block(row, session_client_id(session));
    buffer_put_block(row, session_user_name(session));
    buffer_put_u8(row, session->protocol_level);
    buffer_put_varint(row, session->receive_maximum);
    buffer_put_varint(row, session->expiry_s);
    buffer_put_varint(row, session->expires_ms);
    buffer_put_varint(row, session->owner.node);
    buffer_put_varint(row, session->owner.node_epoch);
    buffer_put_varint(row, session->owner.client_epoch);
    buffer_put_varint(row, session->owner.connection);
    buffer_put_varint(row, session->will_epoch);
    buffer_put_varint(row, session->will_due_ms);
    buffer_put_varint(row, session->own_count);
    buffer_put_varint(row, session->own_bytes);
    buffer_put_varint(row, session->own_qos2);
    buffer_put_varint(row, session->own_qos0);
    buffer_put_varint(row, session->sharing != NULL ? session->sharing->own_count : 0);
    buffer_put_varint(row, session->sharing != NULL ? session->sharing->own_upto : 0);
    buffer_put_varint(row, session->in_flight);
    buffer_put_varint(row, session->inbound);
    buffer_put_varint(row, session->admitted_upto);
    buffer_put_varint(row, session->sent_upto);
    store_put(state->store, TABLE_SESSIONS, key_bytes(&key), buffer_bytes(row));
}

void sessions_write_back(struct state *state)
{
    struct dirty_list *dirty = &state->dirty_sessions;
    for (uint32_t i = 0; i < dirty->count; i++) {
        struct session *session = dirty->things[i];
        if (session == NULL)
            continue;
        write_back(state, session);
        session->dirty_slot = NOT_LISTED;
    }
    dirty->count = 0;
}

static bool load(struct state *state, const struct row *row)
{
    struct reader in = reader_of(row->value);
    uint8_t flags = reader_u8(&in);
    struct bytes client_id = reader_block(&in);
    struct bytes user_name = reader_block(&in);
    if (in.failed || client_id.size == 0 || row->key.size != sizeof(uint64_t))
        return false;
    struct session *session = session_new(state, key_number(row->key, 0), client_id, (flags & SESSION_ENDED) != 0);
    session_set_user_name(session, user_name);
    session->protocol_level = reader_u8(&in);
    session->receive_maximum = (uint16_t)reader_varint(&in);
    session->expiry_s = (uint32_t)reader_varint(&in);
    session->expires_ms = reader_varint(&in);
    session->owner.node = (uint32_t)reader_varint(&in);
    session->owner.node_epoch = reader_varint(&in);
    session->owner.client_epoch = reader_varint(&in);
    session->owner.connection = reader_varint(&in);
    session->will_epoch = reader_varint(&in);
    session->will_due_ms = reader_varint(&in);
    session->own_count = (uint32_t)reader_varint(&in);
    session->own_bytes = reader_varint(&in);
    session->own_qos2 = (uint32_t)reader_varint(&in);
    session->own_qos0 = (uint32_t)reader_varint(&in);
    uint64_t own_shared = reader_varint(&in), own_upto = reader_varint(&in);
    if (own_upto > 0)
        *session_sharing(session) = (struct sharing){.own_count = (uint32_t)own_shared, .own_upto = own_upto};
    session->in_flight = (uint16_t)reader_varint(&in);
    session->inbound = (uint32_t)reader_varint(&in);
    session->admitted_upto = reader_varint(&in);
    session->sent_upto = reader_varint(&in);
    if (session->owner.client_epoch != 0)
        state->counts.connected++;
    session_follow_behind(state, session);
    return reader_done(&in);
}

bool sessions_load(struct state *state)
{
    struct key key = key_of(0);
    struct row row;
    for (bool found = store_first_at(state->store, TABLE_SESSIONS, key_bytes(&key), &row); found;
         found = store_first_after(state->store, TABLE_SESSIONS, row.key, &row)) {
        if (!load(state, &row))
            return false;
    }
    return true;
}
