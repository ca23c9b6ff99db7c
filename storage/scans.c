#include "scans.h"

#include "base/memory.h"
#include "base/topic.h"
#include "due.h"
#include "queues.h"
#include "sessions.h"
#include "subscriptions.h"

#include <stdlib.h>

/* ---- the list of open scans, by session, position, number ---- */

static bool comes_before(const struct scan *a, const struct scan *b)
{
    if (a->session->id != b->session->id)
        return a->session->id < b->session->id;
    if (a->position != b->position)
        return a->position < b->position;
    return a->number < b->number;
}

static void list_add(struct state *state, struct scan *scan)
{
    if (state->scan_count == state->scan_capacity) {
        state->scan_capacity = state->scan_capacity == 0 ? 8 : state->scan_capacity * 2;
        state->scans = memory_resize(state->scans, state->scan_capacity * sizeof(struct scan *));
    }
    uint32_t at = state->scan_count;
    while (at > 0 && comes_before(scan, state->scans[at - 1])) {
        state->scans[at] = state->scans[at - 1];
        at--;
    }
    state->scans[at] = scan;
    state->scan_count++;
    scan->session->scan_count++;
}

void scan_free(struct scan *scan)
{
    buffer_release(&scan->cursor);
    free(scan);
}

static void close_at(struct state *state, uint32_t at)
{
    struct scan *scan = state->scans[at];
    struct key key = key_triple(scan->session->id, scan->position, scan->number);
    store_delete(state->store, TABLE_SCANS, key_bytes(&key));
    scan->session->scan_count--;
    state->scan_count--;
    memmove(state->scans + at, state->scans + at + 1, (state->scan_count - at) * sizeof(struct scan *));
    scan_free(scan);
}

/* Index of the session's first scan with position >= `position`; scan_count if none. */
static uint32_t find(const struct state *state, const struct session *session, uint64_t position)
{
    uint32_t low = 0, high = session->scan_count > 0 ? state->scan_count : 0;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct scan *scan = state->scans[middle];
        bool before = scan->session->id < session->id || (scan->session == session && scan->position < position);
        if (before)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = session->scan_count > 0 && low < state->scan_count && state->scans[low]->session == session;
    return found ? low : state->scan_count;
}

const struct scan *scan_first(const struct state *state, const struct session *session)
{
    uint32_t at = find(state, session, 0);
    return at < state->scan_count ? state->scans[at] : NULL;
}

bool scan_close_one(struct state *state, struct session *session)
{
    uint32_t at = find(state, session, 0);
    if (at == state->scan_count)
        return false;
    close_at(state, at);
    return true;
}

void scans_close(struct state *state, struct session *session, const struct filter *filter)
{
    if (session->scan_count == 0)
        return;
    for (uint32_t i = state->scan_count; i-- > 0;) {
        if (state->scans[i]->session == session && state->scans[i]->filter == filter)
            close_at(state, i);
    }
}

/* ---- rows ---- */

static void write_row(struct state *state, const struct scan *scan)
{
    struct key key = key_triple(scan->session->id, scan->position, scan->number);
    buffer_clear(&state->row);
    buffer_put_varint(&state->row, scan->filter->id);
    buffer_put_u8(&state->row, scan->options);
    buffer_put_varint(&state->row, scan->subscription_id);
    buffer_put_varint(&state->row, scan->before);
    buffer_put_block(&state->row, buffer_bytes(&scan->cursor));
    store_put(state->store, TABLE_SCANS, key_bytes(&key), buffer_bytes(&state->row));
}

bool scans_load(struct state *state)
{
    struct key key = key_of(0);
    struct row row;
    for (bool found = store_first_at(state->store, TABLE_SCANS, key_bytes(&key), &row); found;
         found = store_first_after(state->store, TABLE_SCANS, row.key, &row)) {
        if (row.key.size != 3 * sizeof(uint64_t))
            return false;
        struct reader in = reader_of(row.value);
        struct session *session = session_by_id(state, key_number(row.key, 0));
        struct filter *filter = filter_by_id(state, reader_varint(&in));
        if (session == NULL || filter == NULL)
            return false;
        struct scan *scan = memory_zeroed(1, sizeof *scan);
        scan->session = session;
        scan->filter = filter;
        scan->position = key_number(row.key, 1);
        scan->number = (uint32_t)key_number(row.key, 2);
        scan->options = reader_u8(&in);
        scan->subscription_id = (uint32_t)reader_varint(&in);
        scan->before = reader_varint(&in);
        buffer_put_bytes(&scan->cursor, reader_block(&in));
        list_add(state, scan);
        if (!reader_done(&in))
            return false;
    }
    return true;
}

/* ---- scanning ---- */

/* Puts a retained message into the own queue of the scan's session, with a fresh place in its order. */
static void queue_retained(struct state *state, const struct scan *scan, uint64_t message_id,
                           const struct message_facts *facts)
{
    uint8_t qos = SUBSCRIPTION_QOS(scan->options);
    struct delivery delivery = {
        .order = state->next_message_id++,
        .message_id = message_id,
        .bytes = facts->payload_bytes,
        .qos = facts->qos < qos ? facts->qos : qos,
        .retain = true,
        .subscription_ids = &scan->subscription_id,
        .subscription_id_count = scan->subscription_id != 0,
    };
    messages_reference(&state->messages, message_id, 1);
    own_append(state, scan->session, &delivery);
}

static bool is_wanted(const struct state *state, const struct scan *scan, uint64_t message_id,
                      const struct message_facts *facts)
{
    bool went_live = message_id >= scan->before && facts->qos > 0;
    bool expired = facts->expires_ms != 0 && facts->expires_ms <= state->clock_ms;
    bool own = (scan->options & SUBSCRIPTION_NO_LOCAL) != 0 && facts->origin_session == scan->session->id;
    return !went_live && !expired && !own;
}

/* Goes on until *room matches are queued or STEP_ROWS_MAX rows were looked at; true: there may be more. */
static bool scan_step(struct state *state, struct scan *scan, uint32_t *room)
{
    uint32_t budget = STEP_ROWS_MAX;
    while (*room > 0) {
        struct retained_entry entry;
        struct message_facts facts;
        enum status status = retained_next(&state->retained, scan->filter->text, &scan->cursor, &budget, &entry);
        if (status != STATUS_OK)
            return status == STATUS_BUSY;
        if (messages_facts(&state->messages, entry.message_id, &facts) &&
            is_wanted(state, scan, entry.message_id, &facts)) {
            queue_retained(state, scan, entry.message_id, &facts);
            (*room)--;
        }
    }
    return true;
}

void scan_start(struct state *state, struct session *session, struct filter *filter, uint32_t number, uint8_t options,
                uint32_t subscription_id, uint32_t *room)
{
    struct scan *scan = memory_zeroed(1, sizeof *scan);
    *scan = (struct scan){.session = session,
                          .filter = filter,
                          .position = state->position,
                          .number = number,
                          .options = options,
                          .subscription_id = subscription_id,
                          .before = state->next_message_id};
    if (scan_step(state, scan, room)) {
        list_add(state, scan);
        write_row(state, scan);
    } else {
        scan_free(scan);
    }
}

void scan_continue(struct state *state, struct session *session, uint64_t position, uint32_t room)
{
    uint32_t at;
    while (room > 0 && (at = find(state, session, position)) < state->scan_count &&
           state->scans[at]->position == position) {
        struct scan *scan = state->scans[at];
        if (scan_step(state, scan, &room)) {
            write_row(state, scan);
            return;
        }
        close_at(state, at);
    }
}

/* ---- the register ---- */

bool retained_fits(struct state *state, const struct message *message)
{
    if (message->payload.size == 0)
        return true;
    struct retained_entry old = {0};
    bool replaces = retained_get(&state->retained, message->topic, &old);
    uint64_t bytes = state->retained.payload_bytes - old.payload_bytes + message->payload.size;
    uint64_t topics = state->retained.count + (replaces ? 0 : 1);
    return bytes <= state->settings.retained_bytes_max && topics <= state->settings.retained_messages_max;
}

void retained_preserve(struct state *state, struct bytes topic)
{
    struct retained_entry old;
    struct message_facts facts;
    if (state->scan_count == 0 || !retained_get(&state->retained, topic, &old) ||
        !messages_facts(&state->messages, old.message_id, &facts))
        return;
    for (uint32_t i = 0; i < state->scan_count; i++) {
        struct scan *scan = state->scans[i];
        if (scan->session->ended || SUBSCRIPTION_QOS(scan->options) == 0 ||
            !is_wanted(state, scan, old.message_id, &facts) || !topic_matches(scan->filter->text, topic) ||
            retained_passed(buffer_bytes(&scan->cursor), topic))
            continue;
        queue_retained(state, scan, old.message_id, &facts);
        if (session_held(state, scan->session)) {
            struct effect *effect = effects_add(state->effects, EFFECT_QUEUED);
            effect->session_id = scan->session->id;
            effect->connection = scan->session->owner.connection;
        }
    }
}

/* The register no longer refers to this message. */
static void forget_value(struct state *state, uint64_t message_id)
{
    struct message_facts facts;
    if (message_id == 0)
        return;
    if (messages_facts(&state->messages, message_id, &facts) && facts.expires_ms != 0)
        due_remove(state, facts.expires_ms, DUE_RETAINED, message_id);
    messages_release(&state->messages, message_id, 1);
}

void retained_store(struct state *state, uint64_t message_id, const struct message *message)
{
    struct retained_entry old;
    if (message->payload.size == 0) {
        old = retained_clear(&state->retained, message->topic);
    } else {
        old = retained_set(&state->retained, message->topic,
                           (struct retained_entry){message_id, message->payload.size});
        if (message->expires_ms != 0)
            due_add(state, message->expires_ms, DUE_RETAINED, message_id);
    }
    forget_value(state, old.message_id);
}

void retained_expire(struct state *state, uint64_t message_id)
{
    struct message message;
    if (!messages_get(&state->messages, message_id, &state->assembled, &message))
        return;
    buffer_clear(&state->text);
    buffer_put_bytes(&state->text, message.topic);
    struct bytes topic = buffer_bytes(&state->text);
    struct retained_entry entry;
    if (!retained_get(&state->retained, topic, &entry) || entry.message_id != message_id)
        return;
    retained_clear(&state->retained, topic);
    messages_release(&state->messages, message_id, 1);
    state->counts.dropped_expired++;
}
