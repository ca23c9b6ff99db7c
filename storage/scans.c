#include "scans.h"

#include "base/bug.h"
#include "base/memory.h"
#include "base/topic.h"
#include "due.h"
#include "queues.h"
#include "sessions.h"
#include "subscriptions.h"

#include <stdlib.h>

/* ---- the lists of open scans: one of each session, by position and number, and one of each filter ----
 *
 * Both are in the order in which the scans were opened, which is that of their positions and numbers. */

static bool comes_before(const struct scan *a, const struct scan *b)
{
    return a->position != b->position ? a->position < b->position : a->number < b->number;
}

static void list_by_session(struct scan *scan)
{
    struct session *session = scan->session;
    scan->previous = session->last_scan;
    if (scan->previous != NULL)
        scan->previous->next = scan;
    else
        session->first_scan = scan;
    session->last_scan = scan;
}

/* Rows are loaded by session; so this one may have its place before the last. */
static void list_by_filter(struct scan *scan)
{
    struct filter *filter = scan->filter;
    struct scan *before = filter->last_scan;
    while (before != NULL && comes_before(scan, before))
        before = before->previous_of_filter;
    scan->previous_of_filter = before;
    scan->next_of_filter = before != NULL ? before->next_of_filter : filter->first_scan;
    if (before != NULL)
        before->next_of_filter = scan;
    else
        filter->first_scan = scan;
    if (scan->next_of_filter != NULL)
        scan->next_of_filter->previous_of_filter = scan;
    else
        filter->last_scan = scan;
}

static void list_add(struct state *state, struct scan *scan)
{
    list_by_session(scan);
    list_by_filter(scan);
    scan->subscription->scan = scan;
    state->scan_count++;
}

static void list_remove(struct state *state, struct scan *scan)
{
    *(scan->previous != NULL ? &scan->previous->next : &scan->session->first_scan) = scan->next;
    *(scan->next != NULL ? &scan->next->previous : &scan->session->last_scan) = scan->previous;
    *(scan->previous_of_filter != NULL ? &scan->previous_of_filter->next_of_filter : &scan->filter->first_scan) =
        scan->next_of_filter;
    *(scan->next_of_filter != NULL ? &scan->next_of_filter->previous_of_filter : &scan->filter->last_scan) =
        scan->previous_of_filter;
    scan->subscription->scan = NULL;
    state->scan_count--;
}

void scan_free(struct scan *scan)
{
    buffer_release(&scan->cursor);
    free(scan);
}

static void scan_close(struct state *state, struct scan *scan)
{
    struct key key = key_triple(scan->session->id, scan->position, scan->number);
    store_delete(state->store, TABLE_SCANS, key_bytes(&key));
    list_remove(state, scan);
    scan_free(scan);
}

const struct scan *scan_first(const struct session *session)
{
    return session->first_scan;
}

bool scan_close_one(struct state *state, struct session *session)
{
    if (session->first_scan == NULL)
        return false;
    scan_close(state, session->first_scan);
    return true;
}

void scan_close_of(struct state *state, struct subscription *subscription)
{
    if (subscription->scan != NULL)
        scan_close(state, subscription->scan);
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
        struct subscription *subscription =
            session != NULL && filter != NULL ? subscription_find(session, filter->id) : NULL;
        if (subscription == NULL || subscription->scan != NULL)
            return false;
        struct scan *scan = memory_zeroed(1, sizeof *scan);
        scan->session = session;
        scan->filter = filter;
        scan->subscription = subscription;
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
        .bytes = message_facts_bytes(facts),
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
    bool went_live = message_id >= scan->before && facts->qos > 0 && !bug(BUG_V28_RETAINED_READ_LATE);
    bool expired = facts->expires_ms != 0 && facts->expires_ms <= state->clock_ms;
    bool own = (scan->options & SUBSCRIPTION_NO_LOCAL) != 0 && facts->origin_session == scan->session->id;
    return !went_live && !expired && !own;
}

/* Goes on until *room matches are queued or *rows rows were looked at; true: there may be more. */
static bool scan_step(struct state *state, struct scan *scan, uint32_t *room, uint32_t *rows)
{
    while (*room > 0) {
        struct retained_entry entry;
        struct message_facts facts;
        enum status status = retained_next(&state->retained, scan->filter->text, &scan->cursor, rows, &entry);
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

void scan_start(struct state *state, struct subscription *subscription, uint32_t number, uint32_t *room,
                uint32_t *rows)
{
    struct scan *scan = memory_zeroed(1, sizeof *scan);
    *scan = (struct scan){.session = subscription->session,
                          .filter = subscription->filter,
                          .subscription = subscription,
                          .position = state->position,
                          .number = number,
                          .options = subscription->options,
                          .subscription_id = subscription->subscription_id,
                          .before = state->next_message_id};
    scan_close_of(state, subscription);
    if (scan_step(state, scan, room, rows)) {
        list_add(state, scan);
        write_row(state, scan);
    } else {
        scan_free(scan);
    }
}

void scan_continue(struct state *state, struct session *session, uint64_t position, uint32_t room)
{
    uint32_t rows = STEP_ROWS_MAX;
    struct scan *scan;
    while (room > 0 && rows > 0 && (scan = session->first_scan) != NULL && scan->position == position) {
        if (scan_step(state, scan, &room, &rows)) {
            write_row(state, scan);
            return;
        }
        scan_close(state, scan);
    }
}

/* ---- the register ---- */

bool retained_fits(struct state *state, const struct message *message)
{
    if (message->payload.size == 0)
        return true;
    struct retained_entry old = {0};
    bool replaces = retained_get(&state->retained, message->topic, &old);
    uint64_t bytes = state->retained.payload_bytes - old.payload_bytes + message_bytes(message);
    uint64_t topics = state->retained.count + (replaces ? 0 : 1);
    return bytes <= state->settings.retained_bytes_max && topics <= state->settings.retained_messages_max;
}

void retained_preserve(struct state *state, const struct scan *scan, struct bytes topic,
                       const struct retained_entry *old)
{
    struct message_facts facts;
    if (scan->session->ended || SUBSCRIPTION_QOS(scan->options) == 0 ||
        retained_passed(buffer_bytes(&scan->cursor), topic) ||
        !messages_facts(&state->messages, old->message_id, &facts) || !is_wanted(state, scan, old->message_id, &facts))
        return;
    queue_retained(state, scan, old->message_id, &facts);
    session_tell_queued(state, scan->session);
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
                           (struct retained_entry){message_id, message_bytes(message)});
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
