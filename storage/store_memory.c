/* store_memory.c — the tables as ordered maps in memory, for tests and the simulator.
 *
 * One red-black tree per table. Every write notes in the undo log how to take it back:
 *
 *   insert → "remove this row"     replace → "put this value back"     delete → "put this row back"
 *
 * Commit forgets the notes; store_crash() carries them out, newest first, and so does a view on its copy. A row that
 * was deleted lives on in its note, so notes may point at rows.
 *
 * A view is a copy of everything as of the last commit: dear, but simple, and only taken for snapshots. */
#include "store_backend.h"

#include "base/memory.h"

#include <assert.h>
#include <bsd/sys/tree.h>
#include <stdlib.h>
#include <string.h>

#define ROW_OVERHEAD 64 /* what a row costs beside its key and value, roughly; counts against map_bytes_max */

struct memory_row {
    RB_ENTRY(memory_row) entry;
    uint8_t *value; /* own block, so that a note can take it over */
    size_t value_size;
    size_t key_size;
    uint8_t key[];
};

RB_HEAD(rows, memory_row);

struct tables {
    struct rows rows[TABLE_COUNT];
    uint64_t bytes;
};

enum note_kind { NOTE_INSERTED, NOTE_REPLACED, NOTE_DELETED };

struct note {
    enum note_kind kind;
    enum table table;
    struct memory_row *row;
    uint8_t *value;      /* NOTE_REPLACED: the one before */
    size_t value_size;
};

struct memory_store {
    struct store base;
    struct tables tables;
    uint64_t bytes_max;
    uint64_t committed_hash[2];
    struct memory_row *found; /* by the last find */
    struct note *notes;
    size_t note_count, note_capacity;
};

struct memory_view {
    struct store_view base;
    struct tables tables;
};

/* ---- rows ---- */

static struct bytes row_key(const struct memory_row *row)
{
    return bytes_of(row->key, row->key_size);
}

static struct bytes row_value(const struct memory_row *row)
{
    return bytes_of(row->value, row->value_size);
}

static int row_order(const struct memory_row *a, const struct memory_row *b)
{
    return bytes_compare(row_key(a), row_key(b));
}

/* RB_GENERATE_STATIC of libbsd wants a macro `__unused` that glibc does not have. */
RB_GENERATE_INTERNAL(rows, memory_row, entry, row_order, static __attribute__((unused)))

static struct memory_row *row_new(struct bytes key, struct bytes value)
{
    struct memory_row *row = memory_allocate(sizeof *row + key.size);

    memset(&row->entry, 0, sizeof row->entry);
    row->key_size = key.size;
    memcpy(row->key, key.data, key.size);
    row->value = memory_copy(value.data, value.size);
    row->value_size = value.size;
    return row;
}

static void row_free(struct memory_row *row)
{
    free(row->value);
    free(row);
}

/* ---- tables ---- */

static uint64_t row_cost(const struct memory_row *row)
{
    return ROW_OVERHEAD + row->key_size + row->value_size;
}

/* The first row with key >= `key`, or NULL. */
static struct memory_row *tables_at(struct tables *tables, enum table table, struct bytes key)
{
    struct memory_row *row = RB_ROOT(&tables->rows[table]), *best = NULL;

    while (row != NULL) {
        int order = bytes_compare(key, row_key(row));
        if (order == 0)
            return row;
        if (order < 0)
            best = row;
        row = order < 0 ? RB_LEFT(row, entry) : RB_RIGHT(row, entry);
    }
    return best;
}

static struct memory_row *tables_find(struct tables *tables, enum table table, struct bytes key)
{
    struct memory_row *row = tables_at(tables, table, key);
    return row != NULL && bytes_equal(row_key(row), key) ? row : NULL;
}

static struct memory_row *tables_seek(struct tables *tables, enum table table, enum seek how, struct bytes key)
{
    struct memory_row *row = tables_at(tables, table, key);

    switch (how) {
    case SEEK_AT: return row;
    case SEEK_AFTER:
        return row != NULL && bytes_equal(row_key(row), key) ? RB_NEXT(rows, &tables->rows[table], row) : row;
    }
    return NULL;
}

static void tables_insert(struct tables *tables, enum table table, struct memory_row *row)
{
    struct memory_row *there = RB_INSERT(rows, &tables->rows[table], row);
    assert(there == NULL); /* store_insert: the key is new */
    tables->bytes += row_cost(row);
}

static void tables_remove(struct tables *tables, enum table table, struct memory_row *row)
{
    RB_REMOVE(rows, &tables->rows[table], row);
    tables->bytes -= row_cost(row);
}

/* The caller owns what *value and *size are afterwards: the old value. */
static void tables_swap_value(struct tables *tables, struct memory_row *row, uint8_t **value, size_t *size)
{
    uint8_t *old = row->value;
    size_t old_size = row->value_size;

    tables->bytes += *size;
    tables->bytes -= old_size;
    row->value = *value;
    row->value_size = *size;
    *value = old;
    *size = old_size;
}

static void tables_release(struct tables *tables)
{
    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        struct memory_row *row;
        while ((row = RB_ROOT(&tables->rows[table])) != NULL) {
            RB_REMOVE(rows, &tables->rows[table], row);
            row_free(row);
        }
    }
}

/* ---- notes ---- */

static void note_add(struct memory_store *store, struct note note)
{
    if (store->note_count == store->note_capacity) {
        store->note_capacity = store->note_capacity == 0 ? 64 : store->note_capacity * 2;
        store->notes = memory_resize(store->notes, store->note_capacity * sizeof note);
    }
    store->notes[store->note_count++] = note;
}

static void notes_forget(struct memory_store *store)
{
    for (size_t i = 0; i < store->note_count; i++) {
        struct note *note = &store->notes[i];
        if (note->kind == NOTE_DELETED)
            row_free(note->row);
        free(note->value);
    }
    store->note_count = 0;
}

static void notes_undo(struct memory_store *store)
{
    while (store->note_count > 0) {
        struct note *note = &store->notes[--store->note_count];
        switch (note->kind) {
        case NOTE_INSERTED:
            tables_remove(&store->tables, note->table, note->row);
            row_free(note->row);
            break;
        case NOTE_REPLACED:
            tables_swap_value(&store->tables, note->row, &note->value, &note->value_size);
            free(note->value);
            break;
        case NOTE_DELETED: tables_insert(&store->tables, note->table, note->row); break;
        }
    }
}

/* Takes the uncommitted writes of `store` back in `copy`, where the rows are others with the same keys. */
static void notes_undo_in_copy(const struct memory_store *store, struct tables *copy)
{
    for (size_t i = store->note_count; i-- > 0;) {
        const struct note *note = &store->notes[i];
        struct memory_row *row = tables_find(copy, note->table, row_key(note->row));
        switch (note->kind) {
        case NOTE_INSERTED:
            tables_remove(copy, note->table, row);
            row_free(row);
            break;
        case NOTE_REPLACED:
            free(row->value);
            row->value = memory_copy(note->value, note->value_size);
            row->value_size = note->value_size;
            break;
        case NOTE_DELETED: tables_insert(copy, note->table, row_new(row_key(note->row), row_value(note->row))); break;
        }
    }
}

/* ---- the backend ---- */

static struct memory_store *memory_of(struct store *store)
{
    return (struct memory_store *)store;
}

static enum status memory_find(struct store *store, enum table table, struct bytes key, struct bytes *value)
{
    struct memory_store *self = memory_of(store);

    self->found = tables_find(&self->tables, table, key);
    if (self->found == NULL)
        return STATUS_NOT_FOUND;
    *value = row_value(self->found);
    return STATUS_OK;
}

static bool give_row(const struct memory_row *found, struct row *row)
{
    if (found == NULL)
        return false;
    *row = (struct row){row_key(found), row_value(found)};
    return true;
}

static enum status memory_seek(struct store *store, enum table table, enum seek how, struct bytes key, struct row *row)
{
    return give_row(tables_seek(&memory_of(store)->tables, table, how, key), row) ? STATUS_OK : STATUS_NOT_FOUND;
}

static enum status check_room(struct memory_store *self, size_t more)
{
    if (self->bytes_max == 0 || self->tables.bytes + more <= self->bytes_max)
        return STATUS_OK;
    store_poison(&self->base, STATUS_NO_SPACE, "map_bytes_max reached");
    return STATUS_NO_SPACE;
}

static enum status memory_insert(struct store *store, enum table table, struct bytes key, struct bytes value)
{
    struct memory_store *self = memory_of(store);
    struct memory_row *row;

    if (check_room(self, ROW_OVERHEAD + key.size + value.size) != STATUS_OK)
        return STATUS_NO_SPACE;
    row = row_new(key, value);
    tables_insert(&self->tables, table, row);
    note_add(self, (struct note){.kind = NOTE_INSERTED, .table = table, .row = row});
    return STATUS_OK;
}

static enum status memory_replace_found(struct store *store, enum table table, struct bytes key, struct bytes value)
{
    struct memory_store *self = memory_of(store);
    struct note note = {.kind = NOTE_REPLACED, .table = table, .row = self->found};

    assert(bytes_equal(row_key(self->found), key));
    if (check_room(self, value.size) != STATUS_OK)
        return STATUS_NO_SPACE;
    note.value = memory_copy(value.data, value.size);
    note.value_size = value.size;
    tables_swap_value(&self->tables, self->found, &note.value, &note.value_size);
    note_add(self, note);
    return STATUS_OK;
}

static enum status memory_delete_found(struct store *store, enum table table)
{
    struct memory_store *self = memory_of(store);

    tables_remove(&self->tables, table, self->found);
    note_add(self, (struct note){.kind = NOTE_DELETED, .table = table, .row = self->found});
    self->found = NULL;
    return STATUS_OK;
}

static enum status memory_commit(struct store *store)
{
    struct memory_store *self = memory_of(store);

    notes_forget(self);
    memcpy(self->committed_hash, store->hash, sizeof store->hash);
    return STATUS_OK;
}

/* There is nothing to relieve; after store_crash() it is as of the last commit. */
static enum status memory_spill(struct store *store)
{
    (void)store;
    return STATUS_OK;
}

static enum status memory_sync(struct store *store)
{
    (void)store;
    return STATUS_OK;
}

static void memory_poisoned(struct store *store, enum status status)
{
    (void)store;
    (void)status;
}

static void memory_verified(struct store *store)
{
    (void)store;
}

static uint64_t memory_bytes(const struct store *store)
{
    return ((const struct memory_store *)store)->tables.bytes;
}

static void memory_close(struct store *store)
{
    struct memory_store *self = memory_of(store);

    notes_forget(self);
    tables_release(&self->tables);
    free(self->notes);
    free(self);
}

static enum status memory_view_open(struct store *store, struct store_view **view)
{
    struct memory_store *self = memory_of(store);
    struct memory_view *copy = memory_zeroed(1, sizeof *copy);

    copy->base.backend = store->backend;
    memcpy(copy->base.hash, self->committed_hash, sizeof copy->base.hash);
    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        struct memory_row *row;
        RB_FOREACH(row, rows, &self->tables.rows[table])
            tables_insert(&copy->tables, (enum table)table, row_new(row_key(row), row_value(row)));
    }
    notes_undo_in_copy(self, &copy->tables);
    *view = &copy->base;
    return STATUS_OK;
}

static bool memory_view_next(struct store_view *view, enum table table, struct bytes key, struct row *row)
{
    struct tables *tables = &((struct memory_view *)view)->tables;
    return give_row(tables_seek(tables, table, key.size == 0 ? SEEK_AT : SEEK_AFTER, key), row);
}

static void memory_view_close(struct store_view *view)
{
    tables_release(&((struct memory_view *)view)->tables);
    free(view);
}

static const struct store_backend memory_backend = {
    .find = memory_find,
    .seek = memory_seek,
    .insert = memory_insert,
    .replace_found = memory_replace_found,
    .delete_found = memory_delete_found,
    .commit = memory_commit,
    .spill = memory_spill,
    .sync = memory_sync,
    .poisoned = memory_poisoned,
    .verified = memory_verified,
    .bytes = memory_bytes,
    .close = memory_close,
    .view_open = memory_view_open,
    .view_next = memory_view_next,
    .view_close = memory_view_close,
};

enum status store_memory_open(const struct store_options *options, struct store **store)
{
    struct memory_store *self = memory_zeroed(1, sizeof *self);

    self->base.backend = &memory_backend;
    self->bytes_max = options->map_bytes_max;
    *store = &self->base;
    return STATUS_OK;
}

void store_memory_crash(struct store *store)
{
    struct memory_store *self = memory_of(store);

    assert(store->backend == &memory_backend);
    notes_undo(self);
    memcpy(store->hash, self->committed_hash, sizeof store->hash);
    store->status = STATUS_OK; /* a new process knows nothing of the old one's trouble */
    store->trouble[0] = '\0';
}
