#include "memberships.h"

#include "base/memory.h"
#include "base/search.h"
#include "queues.h"
#include "sessions.h"
#include "subscriptions.h"

#include <assert.h>
#include <stdlib.h>

#define TAKEN_MAX 1000 /* of one membership; so many are few enough to pass over in one step */
#define MOVED_AT_ONCE 4 /* from before the cursor to behind it, whenever one more is taken */

/* ---- finding ---- */

static uint64_t filter_id_at(const void *memberships, uint32_t place)
{
    return ((struct membership *const *)memberships)[place]->filter->id;
}

uint32_t membership_place(const struct session *session, uint64_t filter_id)
{
    return search_first(session->memberships, session->membership_count, filter_id, filter_id_at);
}

struct membership *membership_find(const struct session *session, uint64_t filter_id)
{
    uint32_t at = membership_place(session, filter_id);
    bool found = at < session->membership_count && session->memberships[at]->filter->id == filter_id;
    return found ? session->memberships[at] : NULL;
}

const struct interval *membership_interval(const struct membership *membership, uint64_t message_id)
{
    for (uint32_t i = membership->interval_count; i-- > 0;) {
        const struct interval *interval = &membership->intervals[i];
        if (message_id >= interval->since)
            return message_id < interval->until ? interval : NULL;
    }
    return NULL;
}

/* The first pending message behind `after` and the cursor. */
static uint64_t next_behind_cursor(struct state *state, const struct membership *membership, uint64_t after)
{
    uint64_t id = after > membership->cursor ? after : membership->cursor;
    for (uint32_t i = 0; i < membership->interval_count; i++) {
        const struct interval *interval = &membership->intervals[i];
        if (interval->until <= id + 1)
            continue; /* all of it is passed */
        if (id + 1 < interval->since)
            id = interval->since - 1;
        while ((id = broadcast_next(state, membership->filter, id)) < interval->until) {
            if (!id_list_has(&membership->taken, id))
                return id;
        }
        if (id == UINT64_MAX)
            return UINT64_MAX;
        id--; /* beyond this interval: the next one may hold it */
    }
    return UINT64_MAX;
}

/* The first exception behind `after`. Those before the oldest message of the queue were dropped at its limit. */
static uint64_t next_exception(struct state *state, const struct membership *membership, uint64_t after)
{
    if (id_list_after(&membership->exceptions, after) == UINT64_MAX)
        return UINT64_MAX;
    uint64_t oldest = broadcast_next(state, membership->filter, after);
    return oldest != UINT64_MAX ? id_list_after(&membership->exceptions, oldest - 1) : UINT64_MAX;
}

uint64_t membership_next(struct state *state, const struct membership *membership, uint64_t after)
{
    uint64_t exception = next_exception(state, membership, after);
    return exception != UINT64_MAX ? exception : next_behind_cursor(state, membership, after);
}

/* ---- opening and closing ---- */

static void touch(struct state *state, struct membership *membership)
{
    dirty_list_add(&state->dirty_memberships, membership, &membership->dirty_slot);
}

/* Counts what lies behind `at` in the session's list, which is about to be moved by one. */
static void look_behind(struct state *state, const struct session *session, uint32_t at)
{
    state_look(state, (session->membership_count - at) / MOVED_PER_LOOK);
}

static struct membership *membership_make(struct state *state, struct session *session, struct filter *filter)
{
    struct membership *membership = memory_zeroed(1, sizeof *membership);
    membership->session = session;
    membership->filter = filter;
    membership->dirty_slot = NOT_LISTED;
    session->memberships = list_room(session->memberships, session->membership_count);
    uint32_t at = membership_place(session, filter->id);
    look_behind(state, session, at);
    memmove(session->memberships + at + 1, session->memberships + at,
            (session->membership_count - at) * sizeof *session->memberships);
    session->memberships[at] = membership;
    session->membership_count++;
    filter->membership_count++;
    return membership;
}

void membership_free(struct membership *membership)
{
    id_list_release(&membership->exceptions);
    id_list_release(&membership->taken);
    free(membership->intervals);
    free(membership);
}

static void membership_remove(struct state *state, struct membership *membership)
{
    struct session *session = membership->session;
    struct filter *filter = membership->filter;
    struct key cursor = key_pair(session->id, filter->id), member = key_pair(filter->id, session->id);
    store_delete(state->store, TABLE_CURSORS, key_bytes(&cursor));
    store_delete(state->store, TABLE_MEMBERS, key_bytes(&member));
    dirty_list_remove(&state->dirty_memberships, &membership->dirty_slot);
    uint32_t at = membership_place(session, filter->id);
    look_behind(state, session, at);
    session->membership_count--;
    memmove(session->memberships + at, session->memberships + at + 1,
            (session->membership_count - at) * sizeof *session->memberships);
    membership_free(membership);
    filter->membership_count--;
    filter_settle(state, filter);
}

static void add_interval(struct membership *membership, struct interval interval)
{
    membership->intervals =
        memory_resize(membership->intervals, (membership->interval_count + 1) * sizeof *membership->intervals);
    membership->intervals[membership->interval_count++] = interval;
}

static struct interval *open_interval(struct membership *membership)
{
    if (membership->interval_count == 0)
        return NULL;
    struct interval *last = &membership->intervals[membership->interval_count - 1];
    return last->until == NO_UNTIL ? last : NULL;
}

/* Forgets closed intervals in which nothing is pending any more, so there are never more than pending messages. */
static void prune_intervals(struct state *state, struct membership *membership)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < membership->interval_count; i++) {
        struct interval interval = membership->intervals[i];
        bool needed = interval.until == NO_UNTIL ||
                      membership_next(state, membership, interval.since - 1) < interval.until;
        if (needed)
            membership->intervals[kept++] = interval;
    }
    membership->interval_count = kept;
}

/* Frees it if nothing is owed and nothing will come. */
static void membership_settle(struct state *state, struct membership *membership)
{
    bool only_open = membership->interval_count == 1 && open_interval(membership) != NULL;
    if (only_open)
        return;
    prune_intervals(state, membership);
    if (membership->interval_count == 0)
        membership_remove(state, membership);
}

static void end_interval(struct state *state, struct membership *membership)
{
    struct interval *last = open_interval(membership);
    if (last == NULL)
        return;
    last->until = state->next_message_id;
    prune_intervals(state, membership);
}

bool membership_may_change(const struct membership *membership)
{
    return membership == NULL || membership->interval_count < INTERVALS_MAX;
}

void membership_open(struct state *state, struct session *session, struct filter *filter, uint8_t options,
                     uint32_t subscription_id)
{
    struct membership *membership = membership_find(session, filter->id);
    if (membership == NULL) {
        membership = membership_make(state, session, filter);
        membership->cursor = state->next_message_id - 1;
        struct key member = key_pair(filter->id, session->id);
        store_put(state->store, TABLE_MEMBERS, key_bytes(&member), bytes_of(NULL, 0));
    }
    end_interval(state, membership);
    add_interval(membership, (struct interval){state->next_message_id, NO_UNTIL, subscription_id, options});
    touch(state, membership);
}

void membership_close(struct state *state, struct membership *membership)
{
    end_interval(state, membership);
    touch(state, membership);
    membership_settle(state, membership);
}

/* ---- progress ---- */

/* Those that were dropped at the queue's limit, as its oldest. */
static void drop_exceptions(struct state *state, struct membership *membership)
{
    if (membership->exceptions.count == 0)
        return;
    uint64_t oldest = broadcast_next(state, membership->filter, 0);
    id_list_remove_upto(&membership->exceptions, oldest != UINT64_MAX ? oldest - 1 : membership->cursor);
}

/* Whoever leaves one message alone, and takes, or publishes, any number behind it, would be owed a list of all those: from
 * some length on the cursor passes what is pending, some at a time, and lists that instead. There is never more of it than
 * the queue holds. */
static void bound_taken(struct state *state, struct membership *membership)
{
    drop_exceptions(state, membership);
    for (uint32_t i = 0; i < MOVED_AT_ONCE && membership->taken.count > TAKEN_MAX; i++) {
        uint64_t pending = next_behind_cursor(state, membership, membership->cursor);
        if (pending == UINT64_MAX) {
            membership->cursor = membership->taken.ids[membership->taken.count - 1];
        } else {
            membership->cursor = pending;
            id_list_add(&membership->exceptions, pending);
        }
        id_list_remove_upto(&membership->taken, membership->cursor);
    }
}

void membership_done(struct state *state, struct membership *membership, uint64_t message_id)
{
    if (message_id <= membership->cursor)
        id_list_remove(&membership->exceptions, message_id);
    else
        id_list_add(&membership->taken, message_id);
    broadcast_release(state, membership->filter, message_id);
    if (next_behind_cursor(state, membership, membership->cursor) > message_id) {
        if (message_id > membership->cursor)
            membership->cursor = message_id;
        id_list_remove_upto(&membership->taken, membership->cursor);
    }
    if (membership->taken.count > TAKEN_MAX)
        bound_taken(state, membership);
    touch(state, membership);
    membership_settle(state, membership);
}

void membership_skip(struct state *state, struct membership *membership, uint64_t message_id)
{
    if (next_behind_cursor(state, membership, membership->cursor) == UINT64_MAX) {
        membership->cursor = message_id;
        id_list_remove_upto(&membership->taken, message_id);
    } else {
        id_list_add(&membership->taken, message_id);
        if (membership->taken.count > TAKEN_MAX)
            bound_taken(state, membership);
    }
    touch(state, membership);
}

/* Exceptions up to `upto` are done, except those listed; false: they are many, and it goes on with the next call. */
static bool acknowledge_exceptions(struct state *state, struct membership *membership, uint64_t upto,
                                   const struct id_list *except)
{
    struct id_list *exceptions = &membership->exceptions;
    uint32_t at = 0, kept = 0;
    bool spent = false;
    if (exceptions->count == 0)
        return true;
    for (; at < exceptions->count && exceptions->ids[at] <= upto && !spent; at++) {
        if (id_list_has(except, exceptions->ids[at])) {
            exceptions->ids[kept++] = exceptions->ids[at];
            continue;
        }
        broadcast_release(state, membership->filter, exceptions->ids[at]);
        spent = state_spent(state);
    }
    memmove(exceptions->ids + kept, exceptions->ids + at, (exceptions->count - at) * sizeof *exceptions->ids);
    exceptions->count -= at - kept;
    return !spent;
}

bool membership_acknowledge(struct state *state, struct membership *membership, uint64_t upto,
                            const struct id_list *except)
{
    if (upto >= state->next_message_id)
        upto = state->next_message_id - 1;
    touch(state, membership);
    drop_exceptions(state, membership);
    if (!acknowledge_exceptions(state, membership, upto, except))
        return false;
    uint64_t id = membership->cursor, done = upto;
    while ((id = next_behind_cursor(state, membership, id)) <= upto) {
        if (id_list_has(except, id))
            id_list_add(&membership->exceptions, id);
        else
            broadcast_release(state, membership->filter, id);
        if (state_spent(state)) {
            done = id;
            break;
        }
    }
    if (done > membership->cursor)
        membership->cursor = done;
    id_list_remove_upto(&membership->taken, membership->cursor);
    if (done < upto)
        return false;
    membership_settle(state, membership);
    return true;
}

void membership_clear(struct state *state, struct membership *membership)
{
    uint64_t id = membership_next(state, membership, 0);
    if (id == UINT64_MAX) {
        membership_remove(state, membership);
        return;
    }
    state->counts.dropped_session_ended++;
    broadcast_release(state, membership->filter, id);
    if (id <= membership->cursor)
        id_list_remove(&membership->exceptions, id);
    else
        membership->cursor = id;
    touch(state, membership);
}

/* ---- rows ---- */

static void write_back(struct state *state, struct membership *membership)
{
    struct key key = key_pair(membership->session->id, membership->filter->id);
    struct buffer *row = &state->row;
    buffer_clear(row);
    buffer_put_varint(row, membership->cursor);
    id_list_put(&membership->exceptions, row);
    id_list_put(&membership->taken, row);
    buffer_put_varint(row, membership->interval_count);
    for (uint32_t i = 0; i < membership->interval_count; i++) {
        const struct interval *interval = &membership->intervals[i];
        buffer_put_varint(row, interval->since);
        buffer_put_varint(row, interval->until == NO_UNTIL ? 0 : interval->until);
        buffer_put_varint(row, interval->subscription_id);
        buffer_put_u8(row, interval->options);
    }
    store_put(state->store, TABLE_CURSORS, key_bytes(&key), buffer_bytes(row));
}

void memberships_write_back(struct state *state)
{
    struct dirty_list *dirty = &state->dirty_memberships;
    for (uint32_t i = 0; i < dirty->count; i++) {
        struct membership *membership = dirty->things[i];
        if (membership == NULL)
            continue;
        write_back(state, membership);
        membership->dirty_slot = NOT_LISTED;
    }
    dirty->count = 0;
}

static bool load(struct state *state, const struct row *row)
{
    struct session *session = session_by_id(state, key_number(row->key, 0));
    struct filter *filter = filter_by_id(state, key_number(row->key, 1));
    if (session == NULL || filter == NULL)
        return false;
    struct membership *membership = membership_make(state, session, filter);
    struct reader in = reader_of(row->value);
    membership->cursor = reader_varint(&in);
    id_list_read(&membership->exceptions, &in);
    id_list_read(&membership->taken, &in);
    uint64_t count = reader_varint(&in);
    for (uint64_t i = 0; i < count && !in.failed; i++) {
        struct interval interval;
        interval.since = reader_varint(&in);
        interval.until = reader_varint(&in);
        interval.subscription_id = (uint32_t)reader_varint(&in);
        interval.options = reader_u8(&in);
        if (interval.until == 0)
            interval.until = NO_UNTIL;
        add_interval(membership, interval);
    }
    return reader_done(&in);
}

bool memberships_load(struct state *state)
{
    struct key key = key_of(0);
    struct row row;
    for (bool found = store_first_at(state->store, TABLE_CURSORS, key_bytes(&key), &row); found;
         found = store_first_after(state->store, TABLE_CURSORS, row.key, &row)) {
        if (row.key.size != 2 * sizeof(uint64_t) || !load(state, &row))
            return false;
    }
    return true;
}
