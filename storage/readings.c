#include "readings.h"

#include "base/memory.h"
#include "memberships.h"

#include <stdlib.h>

#define FEW 4               /* memberships that are looked at one by one */
#define PIECE_LOOKS 5000    /* some 300 us */

struct reading_entry {
    uint64_t message_id, filter_id;
};

struct reading {
    uint64_t after;              /* the place that was read last */
    uint64_t horizon;            /* of the last filling */
    uint64_t next_horizon;       /* of the filling that is under way; 0: none, and what the heap holds counts */
    uint64_t next_filter;        /* with which it goes on */
    struct reading_entry *heap;
    uint32_t count, capacity;
};

/* ---- the heap: each entry is before its two children ---- */

static bool is_before(const struct reading_entry *one, const struct reading_entry *other)
{
    return one->message_id != other->message_id ? one->message_id < other->message_id : one->filter_id < other->filter_id;
}

static void swap(struct reading_entry *one, struct reading_entry *other)
{
    struct reading_entry kept = *one;
    *one = *other;
    *other = kept;
}

static void heap_add(struct reading *reading, uint64_t message_id, uint64_t filter_id)
{
    if (reading->count == reading->capacity) {
        reading->capacity = reading->capacity == 0 ? 16 : reading->capacity * 2;
        reading->heap = memory_resize(reading->heap, reading->capacity * sizeof *reading->heap);
    }
    uint32_t at = reading->count++;
    reading->heap[at] = (struct reading_entry){message_id, filter_id};
    for (; at > 0 && is_before(&reading->heap[at], &reading->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&reading->heap[at], &reading->heap[(at - 1) / 2]);
}

/* The first entry has become a later one. */
static void heap_sink(struct reading *reading)
{
    uint32_t at = 0, child;
    while ((child = 2 * at + 1) < reading->count) {
        if (child + 1 < reading->count && is_before(&reading->heap[child + 1], &reading->heap[child]))
            child++;
        if (!is_before(&reading->heap[child], &reading->heap[at]))
            return;
        swap(&reading->heap[child], &reading->heap[at]);
        at = child;
    }
}

static void heap_remove_first(struct reading *reading)
{
    reading->heap[0] = reading->heap[--reading->count];
    heap_sink(reading);
}

/* ---- reading ---- */

/* Adds what is pending behind `after` and was published since the last filling, for so many looks and one more membership;
 * false: there is more. */
static bool fill(struct state *state, const struct session *session, struct reading *reading, uint64_t looks)
{
    if (reading->next_horizon == 0) {
        if (reading->horizon == state->next_message_id)
            return true;
        reading->next_horizon = state->next_message_id;
        reading->next_filter = 0;
    }
    uint64_t worked = state_worked(state);
    for (uint32_t i = membership_place(session, reading->next_filter); i < session->membership_count; i++) {
        const struct membership *membership = session->memberships[i];
        if (state_worked(state) - worked >= looks) {
            reading->next_filter = membership->filter->id;
            return false;
        }
        state_look(state, 1);
        if (membership->filter->last_id < reading->horizon)
            continue;
        uint64_t next = membership_next(state, membership, reading->after);
        if (next < reading->next_horizon)
            heap_add(reading, next, membership->filter->id);
    }
    reading->horizon = reading->next_horizon;
    reading->next_horizon = 0;
    return true;
}

/* The first entry, asked again, and what is left once those that have nothing more are gone; NULL: none. */
static const struct reading_entry *first_of(struct state *state, const struct session *session, struct reading *reading)
{
    while (reading->count > 0) {
        struct reading_entry *first = &reading->heap[0];
        const struct membership *membership = membership_find(session, first->filter_id);
        uint64_t next = membership != NULL ? membership_next(state, membership, reading->after) : UINT64_MAX;
        if (next == first->message_id)
            return first;
        if (next < reading->horizon) {
            first->message_id = next;
            heap_sink(reading);
        } else {
            heap_remove_first(reading);
        }
    }
    return NULL;
}

/* All filters in which the first message is pending. They stay in the heap, since nobody has taken it yet. */
static void find_filters(struct state *state, const struct session *session, struct reading *reading, uint64_t message_id)
{
    const struct reading_entry *first;
    while ((first = first_of(state, session, reading)) != NULL && first->message_id == message_id) {
        number_list_add(&state->read_filters, first->filter_id);
        heap_remove_first(reading);
    }
    for (uint32_t i = 0; i < state->read_filters.count; i++)
        heap_add(reading, message_id, state->read_filters.items[i]);
}

/* Who goes back begins anew. */
static void go_to(struct reading *reading, uint64_t after)
{
    if (after < reading->after)
        reading->horizon = reading->next_horizon = reading->count = 0;
    reading->after = after;
}

static uint64_t next_by_heap(struct state *state, const struct session *session, struct reading *reading, uint64_t after,
                             uint64_t limit)
{
    go_to(reading, after);
    const struct reading_entry *first = reading->next_horizon == 0 ? first_of(state, session, reading) : NULL;
    while (first == NULL && (reading->next_horizon != 0 || reading->horizon != state->next_message_id)) {
        fill(state, session, reading, UINT64_MAX);
        first = first_of(state, session, reading);
    }
    if (first == NULL || first->message_id > limit)
        return UINT64_MAX;
    uint64_t message_id = first->message_id;
    find_filters(state, session, reading, message_id);
    return message_id;
}

static uint64_t next_by_looking(struct state *state, const struct session *session, uint64_t after, uint64_t limit)
{
    uint64_t found = UINT64_MAX;
    state_look(state, session->membership_count);
    for (uint32_t i = 0; i < session->membership_count; i++) {
        uint64_t next = membership_next(state, session->memberships[i], after);
        if (next == UINT64_MAX || next > limit)
            continue;
        if (next < limit || found == UINT64_MAX)
            state->read_filters.count = 0;
        found = limit = next;
        number_list_add(&state->read_filters, session->memberships[i]->filter->id);
    }
    return found;
}

/* NULL: none, since its memberships are few. */
static struct reading *reading_of(struct session *session, enum reader_kind kind)
{
    if (session->membership_count <= FEW || kind == READER_CHECKS)
        return NULL;
    if (session->readings == NULL)
        session->readings = memory_zeroed(READERS, sizeof *session->readings);
    return &session->readings[kind];
}

uint64_t readings_next(struct state *state, struct session *session, enum reader_kind kind, uint64_t after, uint64_t limit)
{
    struct reading *reading = reading_of(session, kind);
    state->read_filters.count = 0;
    return reading != NULL ? next_by_heap(state, session, reading, after, limit)
                           : next_by_looking(state, session, after, limit);
}

bool readings_prepare(struct state *state, struct session *session, enum reader_kind kind, uint64_t after)
{
    struct reading *reading = reading_of(session, kind);
    if (reading == NULL)
        return true;
    go_to(reading, after);
    bool filled = reading->next_horizon == 0 && reading->count > 0;
    return filled || fill(state, session, reading, PIECE_LOOKS);
}

bool readings_preparing(const struct session *session, enum reader_kind kind)
{
    return session->readings != NULL && session->readings[kind].next_horizon != 0;
}

void readings_release(struct session *session)
{
    for (uint32_t i = 0; session->readings != NULL && i < READERS; i++)
        free(session->readings[i].heap);
    free(session->readings);
    session->readings = NULL;
}
