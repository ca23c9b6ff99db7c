#include "due.h"

#include "scans.h"
#include "sessions.h"
#include "wills.h"

void due_load(struct state *state)
{
    struct key zero = key_of(0);
    struct row row;
    bool found = store_first_at(state->store, TABLE_DUE, key_bytes(&zero), &row);
    state->due_ms = found ? key_number(row.key, 0) : UINT64_MAX;
}

void due_add(struct state *state, uint64_t time_ms, enum due_kind kind, uint64_t id)
{
    struct key key = key_triple(time_ms, kind, id);
    store_put(state->store, TABLE_DUE, key_bytes(&key), bytes_of(NULL, 0));
    if (time_ms < state->due_ms)
        state->due_ms = time_ms;
}

void due_remove(struct state *state, uint64_t time_ms, enum due_kind kind, uint64_t id)
{
    struct key key = key_triple(time_ms, kind, id);
    store_delete(state->store, TABLE_DUE, key_bytes(&key));
    if (time_ms == state->due_ms)
        due_load(state);
}

bool apply_tick(struct state *state)
{
    struct key zero = key_of(0);
    struct row row;
    if (state->budget == 0 || !store_first_at(state->store, TABLE_DUE, key_bytes(&zero), &row) ||
        key_number(row.key, 0) > state->clock_ms)
        return true;
    uint64_t time_ms = key_number(row.key, 0);
    enum due_kind kind = (enum due_kind)key_number(row.key, 1);
    uint64_t id = key_number(row.key, 2);
    state->budget--;
    due_remove(state, time_ms, kind, id);
    switch (kind) {
    case DUE_WILL:
        will_fall_due(state, id);
        break;
    case DUE_SESSION:
        session_expire(state, id);
        break;
    case DUE_RETAINED:
        retained_expire(state, id);
        break;
    }
    return false;
}
