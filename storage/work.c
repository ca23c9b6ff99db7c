#include "work.h"

#include "apply.h"
#include "groups.h"
#include "sessions.h"
#include "subscriptions.h"

void work_load(struct state *state)
{
    struct key key = key_of(0);
    struct row row;
    state->work_count = 0;
    for (bool found = store_first_at(state->store, TABLE_GARBAGE, key_bytes(&key), &row); found;
         found = store_first_after(state->store, TABLE_GARBAGE, row.key, &row))
        state->work_count++;
}

void work_add(struct state *state, enum work_kind kind, uint64_t a, uint64_t b)
{
    struct key key = key_triple(kind, a, b);
    if (store_has(state->store, TABLE_GARBAGE, key_bytes(&key)))
        return;
    store_insert(state->store, TABLE_GARBAGE, key_bytes(&key), bytes_of(NULL, 0));
    state->work_count++;
}

void work_remove(struct state *state, enum work_kind kind, uint64_t a, uint64_t b)
{
    struct key key = key_triple(kind, a, b);
    if (store_delete(state->store, TABLE_GARBAGE, key_bytes(&key)))
        state->work_count--;
}

/* ---- admission to the members of a filter ---- */

struct admit_progress {
    uint64_t last_session;
    bool again;
};

static struct admit_progress progress_get(struct state *state, struct key key)
{
    struct admit_progress progress = {0};
    struct bytes value;
    if (store_get(state->store, TABLE_GARBAGE, key_bytes(&key), &value) && value.size > 0) {
        struct reader in = reader_of(value);
        progress.last_session = reader_u64(&in);
        progress.again = reader_u8(&in) != 0;
    }
    return progress;
}

static void progress_put(struct state *state, struct key key, struct admit_progress progress)
{
    buffer_clear(&state->row);
    buffer_put_u64(&state->row, progress.last_session);
    buffer_put_u8(&state->row, progress.again);
    store_put(state->store, TABLE_GARBAGE, key_bytes(&key), buffer_bytes(&state->row));
}

void work_admit_filter(struct state *state, uint64_t filter_id)
{
    struct key key = key_triple(WORK_ADMIT_FILTER, filter_id, 0);
    work_add(state, WORK_ADMIT_FILTER, filter_id, 0);
    struct admit_progress progress = progress_get(state, key);
    if (progress.last_session > 0) {
        progress.again = true;
        progress_put(state, key, progress);
    }
}

/* false: all members have been visited. */
static bool admit_filter_step(struct state *state, uint64_t filter_id)
{
    struct key key = key_triple(WORK_ADMIT_FILTER, filter_id, 0);
    struct admit_progress progress = progress_get(state, key);
    struct key prefix = key_of(filter_id);
    do {
        struct key last = key_pair(filter_id, progress.last_session);
        struct row row;
        bool found = store_first_after(state->store, TABLE_MEMBERS, key_bytes(&last), &row);
        if (!row_in(key_bytes(&prefix), found, &row)) {
            if (!progress.again)
                return false;
            progress = (struct admit_progress){0};
            continue; /* the budget has not changed, so it goes on unless the step is over */
        }
        progress.last_session = key_number(row.key, 1);
        state->budget--;
        struct session *session = session_by_id(state, progress.last_session);
        if (session != NULL)
            session_advance(state, session);
    } while (state->budget > 0 && !state_spent(state));
    progress_put(state, key, progress);
    return true;
}

/* ---- steps ---- */

/* One piece of work; false: it is finished. Else it has taken at least one row off the budget. What comes next is chosen
 * anew after each piece: so pieces must not depend on how much a node does in one step, only on rows and budget. */
static bool do_work(struct state *state, enum work_kind kind, uint64_t a, uint64_t b)
{
    switch (kind) {
    case WORK_NODE:
        state->budget--;
        return node_end_step(state, (uint32_t)a, b) == STATUS_OK;
    case WORK_ADMIT_FILTER:
        return admit_filter_step(state, a);
    case WORK_ADMIT_SESSION: {
        state->budget--;
        struct session *session = session_by_id(state, a);
        work_remove(state, WORK_ADMIT_SESSION, a, 0);
        if (session != NULL)
            session_advance(state, session); /* notes itself again if there is more */
        return true;
    }
    case WORK_SESSION: {
        struct session *session = session_by_id(state, a);
        if (session == NULL)
            return false;
        session_clear(state, session); /* removes the note when it is done, and */
        return true;                   /* does not leave that to us */
    }
    case WORK_GROUP:
        return group_hand_on(state, a);
    case WORK_GROUP_CLEAR:
        return group_clear(state, a);
    case WORK_GROUP_OFFER:
        return group_offer_step(state, a);
    }
    return false;
}

static void do_row(struct state *state, const struct row *row)
{
    enum work_kind kind = (enum work_kind)key_number(row->key, 0);
    uint64_t a = key_number(row->key, 1), b = key_number(row->key, 2);
    if (!do_work(state, kind, a, b))
        work_remove(state, kind, a, b);
}

bool work_at_once(struct state *state)
{
    static const enum work_kind kinds[] = {WORK_ADMIT_FILTER, WORK_GROUP_OFFER, WORK_GROUP};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0] && state->work_count > 0 && state->budget > 0; i++) {
        struct key prefix = key_of(kinds[i]);
        struct row row;
        if (!row_in(key_bytes(&prefix), store_first_at(state->store, TABLE_GARBAGE, key_bytes(&prefix), &row), &row))
            continue;
        do_row(state, &row);
        return false;
    }
    return true;
}

bool work_step(struct state *state)
{
    struct key zero = key_of(0);
    struct row row;
    if (state->budget == 0 || !store_first_at(state->store, TABLE_GARBAGE, key_bytes(&zero), &row))
        return true;
    do_row(state, &row);
    return false;
}
