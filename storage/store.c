/* store.c — what both backends share: arguments checked, the hash kept, trouble made sticky.
 *
 *   state machine --store_put--> [ poisoned? | find old row | hash - old + new ] --> backend: rows
 *
 * Always true: `hash` is the sum over the rows that a read would find now. A row is written from `image`, the copy that
 * was hashed; so its key and value may be borrowed from the very pages that the write is about to move. */
#include "store_backend.h"
#include "store_hash.h"

#include "base/logger.h"
#include "base/memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const table_names[TABLE_COUNT] = {
    [TABLE_META] = "meta",
    [TABLE_MESSAGES] = "messages",
    [TABLE_MESSAGE_REFERENCES] = "message-references",
    [TABLE_CLIENTS] = "clients",
    [TABLE_SESSIONS] = "sessions",
    [TABLE_SUBSCRIPTIONS] = "subscriptions",
    [TABLE_FILTERS] = "filters",
    [TABLE_MEMBERS] = "members",
    [TABLE_OWN_QUEUES] = "own-queues",
    [TABLE_BROADCAST_QUEUES] = "broadcast-queues",
    [TABLE_CURSORS] = "cursors",
    [TABLE_IN_FLIGHT] = "in-flight",
    [TABLE_INBOUND] = "inbound",
    [TABLE_RETAINED] = "retained",
    [TABLE_WILLS] = "wills",
    [TABLE_OWNERS] = "owners",
    [TABLE_NODES] = "nodes",
    [TABLE_DUE] = "due",
    [TABLE_GARBAGE] = "garbage",
    [TABLE_SCANS] = "scans",
    [TABLE_GROUPS] = "groups",
    [TABLE_USERS] = "users",
    [TABLE_ROLES] = "roles",
    [TABLE_RULES] = "rules",
    [TABLE_GRANTS] = "grants",
    [TABLE_BANS] = "bans",
    [TABLE_AUDIT] = "audit",
    [27] = "reserved-27",
};

const char *store_table_name(enum table table)
{
    assert(table < TABLE_COUNT);
    return table_names[table];
}

enum status store_open(const struct store_options *options, struct store **store)
{
    return options->path == NULL ? store_memory_open(options, store) : store_lmdb_open(options, store);
}

void store_close(struct store *store)
{
    buffer_release(&store->image);
    store->backend->close(store);
}

bool store_unclean(const struct store *store)
{
    return store->unclean;
}

void store_verified(struct store *store)
{
    if (store->unclean && store->status == STATUS_OK)
        store->backend->verified(store);
    store->unclean = false;
}

void store_crash(struct store *store)
{
    store_memory_crash(store);
}

/* ---- trouble ---- */

enum status store_status(const struct store *store)
{
    return store->status;
}

const char *store_trouble(const struct store *store)
{
    return store->trouble;
}

void store_poison(struct store *store, enum status status, const char *why)
{
    assert(status != STATUS_OK);
    if (store->status != STATUS_OK)
        return; /* the first trouble is the cause of the others */
    store->status = status;
    snprintf(store->trouble, sizeof store->trouble, "store: %s: %s", status_text(status), why);
    store->backend->poisoned(store, status);
}

/* ---- reading ---- */

static bool key_is_valid(struct bytes key)
{
    return key.size >= 1 && key.size <= STORE_KEY_MAX;
}

bool store_get(struct store *store, enum table table, struct bytes key, struct bytes *value)
{
    assert(key_is_valid(key));
    store->operations++;
    return store->status == STATUS_OK && store->backend->find(store, table, key, value) == STATUS_OK;
}

bool store_has(struct store *store, enum table table, struct bytes key)
{
    struct bytes value;
    return store_get(store, table, key, &value);
}

static bool seek(struct store *store, enum table table, enum seek how, struct bytes key, struct row *row)
{
    assert(key.size <= STORE_KEY_MAX);
    store->operations++;
    return store->status == STATUS_OK && store->backend->seek(store, table, how, key, row) == STATUS_OK;
}

bool store_first_at(struct store *store, enum table table, struct bytes from, struct row *row)
{
    return seek(store, table, SEEK_AT, from, row);
}

bool store_first_after(struct store *store, enum table table, struct bytes key, struct row *row)
{
    /* No key is empty, so the first after the empty one is the first of all. */
    return seek(store, table, key.size == 0 ? SEEK_AT : SEEK_AFTER, key, row);
}

/* ---- writing ---- */

static struct bytes image_key(const struct store *store, size_t key_size)
{
    return bytes_of(store->image.data + ROW_IMAGE_HEADER_SIZE, key_size);
}

static struct bytes image_value(const struct store *store, size_t key_size)
{
    size_t skip = ROW_IMAGE_HEADER_SIZE + key_size;
    return bytes_of(store->image.data + skip, store->image.size - skip);
}

/* Writes the row in `image`, which is not there yet. */
static void insert_image(struct store *store, enum table table, size_t key_size)
{
    enum status status =
        store->backend->insert(store, table, image_key(store, key_size), image_value(store, key_size));
    if (status == STATUS_OK)
        hash_add(store->hash, buffer_bytes(&store->image));
}

void store_insert(struct store *store, enum table table, struct bytes key, struct bytes value)
{
    assert(key_is_valid(key));
    store->operations++;
    if (store->status != STATUS_OK)
        return;
    row_image(&store->image, table, key, value);
    insert_image(store, table, key.size);
}

void store_put(struct store *store, enum table table, struct bytes key, struct bytes value)
{
    struct bytes old;
    uint64_t hash[2];
    enum status status;

    assert(key_is_valid(key));
    store->operations++;
    if (store->status != STATUS_OK)
        return;
    status = store->backend->find(store, table, key, &old);
    if (status != STATUS_OK) {
        row_image(&store->image, table, key, value);
        if (status == STATUS_NOT_FOUND)
            insert_image(store, table, key.size);
        return;
    }
    if (bytes_equal(old, value))
        return; /* leaves the page clean */

    memcpy(hash, store->hash, sizeof hash);
    row_image(&store->image, table, key, old);
    hash_subtract(hash, buffer_bytes(&store->image));
    row_image(&store->image, table, key, value);
    hash_add(hash, buffer_bytes(&store->image));
    status = store->backend->replace_found(store, table, image_key(store, key.size), image_value(store, key.size));
    if (status == STATUS_OK)
        memcpy(store->hash, hash, sizeof hash);
}

bool store_delete(struct store *store, enum table table, struct bytes key)
{
    struct bytes old;

    assert(key_is_valid(key));
    store->operations++;
    if (store->status != STATUS_OK || store->backend->find(store, table, key, &old) != STATUS_OK)
        return false;
    row_image(&store->image, table, key, old);
    if (store->backend->delete_found(store, table) != STATUS_OK)
        return false;
    hash_subtract(store->hash, buffer_bytes(&store->image));
    return true;
}

void store_hash(const struct store *store, uint64_t hash[2])
{
    memcpy(hash, store->hash, sizeof store->hash);
}

enum status store_commit(struct store *store)
{
    enum status status = store->status == STATUS_OK ? store->backend->commit(store) : store->status;

    if (status == STATUS_OK) {
        store->commits++;
        store->pages_written = store->pages;
    }
    return status;
}

enum status store_spill(struct store *store)
{
    enum status status = store->status == STATUS_OK ? store->backend->spill(store) : store->status;

    if (status == STATUS_OK)
        store->pages_written = store->pages;
    return status;
}

uint64_t store_pages(const struct store *store)
{
    return store->pages;
}

uint64_t store_pages_unwritten(const struct store *store)
{
    return store->pages - store->pages_written;
}

uint64_t store_commits(const struct store *store)
{
    return store->commits;
}

uint64_t store_operations(const struct store *store)
{
    return store->operations;
}

enum status store_sync(struct store *store)
{
    return store->backend->sync(store);
}

uint64_t store_bytes(const struct store *store)
{
    return store->backend->bytes(store);
}

/* ---- views ---- */

enum status store_view_open(struct store *store, struct store_view **view)
{
    return store->status == STATUS_OK ? store->backend->view_open(store, view) : store->status;
}

bool store_view_next(struct store_view *view, enum table table, struct bytes key, struct row *row)
{
    assert(key.size <= STORE_KEY_MAX);
    return view->backend->view_next(view, table, key, row);
}

void store_view_hash(const struct store_view *view, uint64_t hash[2])
{
    memcpy(hash, view->hash, sizeof view->hash);
}

void store_view_close(struct store_view *view)
{
    view->backend->view_close(view);
}

static bool told_to_stop(const atomic_bool *stop)
{
    return stop != NULL && atomic_load_explicit(stop, memory_order_relaxed);
}

static bool finds(struct store_view *view, enum table table, const struct row *row)
{
    return view->backend->view_finds == NULL || view->backend->view_finds(view, table, row);
}

/* Adds up the rows of one table. false: they do not ascend, or are larger than any can be, so pages are broken, and there
 * may be no end to them; or who looks for one does not find it. */
static bool hash_rows(struct store_view *view, enum table table, const atomic_bool *stop, uint64_t hash[2])
{
    struct buffer image = {0};
    struct row row = {0}, next;
    bool ascends = true;

    while (ascends && !told_to_stop(stop) && store_view_next(view, table, row.key, &next)) {
        ascends = next.key.size > 0 && next.key.size <= STORE_KEY_MAX && next.value.size <= STORE_VALUE_MAX &&
                  bytes_compare(next.key, row.key) > 0 && finds(view, table, &next);
        if (ascends) {
            row_image(&image, table, next.key, next.value);
            hash_add(hash, buffer_bytes(&image));
        }
        row = next;
    }
    buffer_release(&image);
    return ascends;
}

enum status store_view_verify(struct store_view *view, const atomic_bool *stop)
{
    uint64_t hash[2] = {0, 0};
    bool ascend = true;

    for (unsigned table = 0; ascend && table < TABLE_COUNT; table++)
        ascend = hash_rows(view, (enum table)table, stop, hash);
    if (ascend && told_to_stop(stop))
        return STATUS_CLOSED;
    return ascend && memcmp(hash, view->hash, sizeof hash) == 0 ? STATUS_OK : STATUS_CORRUPT;
}
