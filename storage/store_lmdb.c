/* store_lmdb.c — the tables in LMDB: one directory with data.mdb, lock.mdb and a marker.
 *
 *   write → pages of the open transaction → commit: pwrite, no flush → the kernel writes back when it likes
 *                                           store_sync, on a worker: written back piece by piece, then fdatasync,
 *                                           only to hear of write errors
 *
 * Why MDB_NOSYNC. What is in here can be rebuilt from a snapshot and the log, so it need not survive a power loss; it
 * must only never be believed when it did not. MDB_NOMETASYNC would survive, but costs an fdatasync per commit on the
 * thread that commits: measured 0.1 to 3.5 ms every 5 to 10 ms on the core thread, and each one competes with the
 * flushes of the log, which clients do wait for. Without flushing, a power loss leaves half of the databases wrong with
 * no error from LMDB, and so does a spell of write errors; hence three rules:
 *
 *   1. The marker says which boot has the database open, and is flushed before the first write. A database that was
 *      open in another boot, or whose marker cannot be read, is deleted: STATUS_DAMAGED. A clean close flushes the
 *      data and then says so.
 *   2. Write errors are looked for (store_sync) and, once found by anyone, noted in the marker: deleted at next opening.
 *   3. After a process died without closing, in the same boot, store_unclean() asks for the rows to be hashed again and
 *      compared with the hash that was committed with them (store_view_verify). If the process dies once more before
 *      that is done (pages that lead LMDB astray can do it), the database is deleted at its next opening.
 *
 * A fourth bounds how long a commit takes on the core thread, some 2 us for each page that was written to:
 *
 *   4. What is amid something that can be large without bound is spilled: committed with a mark beside the format version, which
 *      the next commit takes away. A database that has the mark when it is opened is deleted.
 *
 * Nor should it wait for the disk. Who writes a page back holds its lock until the disk's queue has room, and a commit that
 * writes to that page waits as long. A bare fdatasync fills the queue with pages that lie scattered. So store_sync writes a
 * little back, waits for it with no lock held, and goes on; fewer pages are left to the fdatasync. Measured on a busy disk,
 * with 1,000,000 retained messages loaded: turns of the core that take more than 20 ms, waiting for a processor not counted,
 * are a third to a fifth as many. The fdatasync stays for file systems that tell of errors only there.
 *
 * Pages are counted as rows come to them (note_page). LMDB does not tell; but a page that is changed is a copy on the heap, so
 * the place of a row after it was written names its page.
 *
 * Never MDB_WRITEMAP: a full disk would be a SIGBUS, and a stray pointer of ours could write into the database. The map
 * is sized once, at opening, and never while a view reads it; address space is free. Pages are read through the map: a
 * disk that cannot read one is a SIGBUS, which ends the process (node/process.h), and the peers go on.
 *
 * Each table has one cursor, opened when first needed in a transaction and gone with it. Rows of TABLE_MESSAGES mostly
 * come in ascending order and are then appended, which fills pages to the brim. The hash of all rows, and the format
 * version, are a row of the database "about", written in the same transaction as the rows. */
#include "store_backend.h"
#include "store_marker.h"

#include "base/bug.h"
#include "base/logger.h"
#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PATH_SIZE 4096
#define ABOUT_KEY "about"
#define ABOUT_SIZE 20 /* u32 format, u64 hash[2] */
#define SPILLED    (1u << 31) /* in the format: rule 4 */

#define PAGE_BITS      12
#define DISK_FULL_BYTES (1u << 20)
#define WRITE_BACK_BYTES (256 << 10) /* at once, by store_sync: 64 pages */
#define SEEN_BITS      16
#define LARGE_ROW_SIZE 2000 /* has pages of its own */

/* No key of its table is larger. */
struct append_bound {
    uint8_t key[STORE_KEY_MAX];
    size_t size;
};

struct lmdb_store {
    struct store base;
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi tables[TABLE_COUNT];
    MDB_dbi about;
    MDB_cursor *cursors[TABLE_COUNT]; /* of txn; NULL until needed */
    uint64_t seen[(1 << SEEN_BITS) / 64];      /* bits: a hash of each page that txn has written rows to */
    struct append_bound append[TABLE_COUNT];   /* of the tables whose keys mostly ascend */
    struct store_marker marker;       /* locked as long as the store is open */
    int data;                         /* of data.mdb; belongs to env */
    atomic_bool write_failed;         /* a worker's store_sync met an error; the kernel tells it only once */
    char path[PATH_SIZE];
};

struct lmdb_view {
    struct store_view base;
    const struct lmdb_store *store;
    MDB_txn *txn;
    MDB_cursor *cursor;
    enum table table;                 /* of cursor */
};

/* ---- small translations ---- */

static struct lmdb_store *lmdb_of(struct store *store)
{
    return (struct lmdb_store *)store;
}

static MDB_val val_of(struct bytes bytes)
{
    return (MDB_val){bytes.size, (void *)(uintptr_t)bytes.data};
}

static struct bytes bytes_of_val(MDB_val val)
{
    return bytes_of(val.mv_data, val.mv_size);
}

static enum status status_of(int code)
{
    switch (code) {
    case MDB_SUCCESS: return STATUS_OK;
    case MDB_NOTFOUND: return STATUS_NOT_FOUND;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT: return STATUS_NO_SPACE;
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_PANIC: return STATUS_CORRUPT;
    case MDB_VERSION_MISMATCH: return STATUS_UNSUPPORTED;
    default: return STATUS_IO_ERROR;
    }
}

/* A disk that has room for a part of what is written takes that part, and LMDB calls it EIO. */
static bool disk_is_full(const struct lmdb_store *self)
{
    struct statvfs disk;

    return fstatvfs(self->data, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < DISK_FULL_BYTES;
}

/* The status of a call on rows; poisons the store unless it is one of the two that are no trouble. */
static enum status settle(struct lmdb_store *self, int code)
{
    enum status status;

    if (code == EIO && disk_is_full(self))
        code = ENOSPC;
    status = status_of(code);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND)
        store_poison(&self->base, status, mdb_strerror(code));
    return status;
}

static enum status report(const char *path, const char *what, enum status status, int error)
{
    log_event(LOG_ERROR, "store-failed", log_text("path", path), log_text("what", what), log_result(status),
              log_text("error", mdb_strerror(error)));
    return status;
}

static enum status report_errno(const char *path, const char *what)
{
    int error = errno;
    return report(path, what, status_of(error), error);
}

static void path_join(char out[PATH_SIZE], const char *directory, const char *name)
{
    int size = snprintf(out, PATH_SIZE, "%s/%s", directory, name);
    assert(size > 0 && size < PATH_SIZE);
}

static bool sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return done;
}

static bool remove_file(const char *directory, const char *name)
{
    char path[PATH_SIZE];

    path_join(path, directory, name);
    return unlink(path) == 0 || errno == ENOENT;
}

/* The data go first: a marker alone is a new store. */
static bool remove_files(const char *directory)
{
    return remove_file(directory, "data.mdb") && remove_file(directory, "lock.mdb");
}

enum status store_remove(const char *path)
{
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return STATUS_OK;
    if (!remove_files(path) || !remove_file(path, "marker") || rmdir(path) != 0)
        return report_errno(path, "deleting a store");
    return STATUS_OK;
}

enum status store_rename(const char *from, const char *path)
{
    char parent[PATH_SIZE];

    if (rename(from, path) != 0)
        return report_errno(path, "renaming a store");
    path_join(parent, path, "..");
    return sync_directory(parent) ? STATUS_OK : report_errno(parent, "flushing the directory of a store");
}

/* ---- rows ---- */

/* The cursor of a table in the open transaction, or NULL after poisoning. */
static MDB_cursor *cursor_of(struct lmdb_store *self, enum table table)
{
    assert(table < TABLE_COUNT);
    if (self->cursors[table] == NULL &&
        settle(self, mdb_cursor_open(self->txn, self->tables[table], &self->cursors[table])) != STATUS_OK)
        return NULL;
    return self->cursors[table];
}

static enum status lmdb_find(struct store *store, enum table table, struct bytes key, struct bytes *value)
{
    struct lmdb_store *self = lmdb_of(store);
    MDB_cursor *cursor = cursor_of(self, table);
    MDB_val k = val_of(key), v;
    enum status status;

    if (cursor == NULL)
        return store->status;
    status = settle(self, mdb_cursor_get(cursor, &k, &v, MDB_SET));
    if (status == STATUS_OK)
        *value = bytes_of_val(v);
    return status;
}

/* Moves `cursor` as `how` says; the code of LMDB. */
static int cursor_seek(MDB_cursor *cursor, enum seek how, struct bytes key, MDB_val *k, MDB_val *v)
{
    int code;

    *k = val_of(key);
    code = key.size == 0 ? mdb_cursor_get(cursor, k, v, MDB_FIRST) : mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    switch (how) {
    case SEEK_AT: return code;
    case SEEK_AFTER:
        if (code == MDB_SUCCESS && bytes_equal(bytes_of_val(*k), key))
            return mdb_cursor_get(cursor, k, v, MDB_NEXT);
        return code;
    }
    return MDB_NOTFOUND;
}

static enum status lmdb_seek(struct store *store, enum table table, enum seek how, struct bytes key, struct row *row)
{
    struct lmdb_store *self = lmdb_of(store);
    MDB_cursor *cursor = cursor_of(self, table);
    MDB_val k, v;
    enum status status;

    if (cursor == NULL)
        return store->status;
    status = settle(self, cursor_seek(cursor, how, key, &k, &v));
    if (status == STATUS_OK)
        *row = (struct row){bytes_of_val(k), bytes_of_val(v)};
    return status;
}

/* A row was written, or is to be deleted, where `cursor` stands. Pages of the heap are not aligned, so one of them may count
 * twice. */
static void note_page(struct lmdb_store *self, MDB_cursor *cursor)
{
    MDB_val k, v = {0, NULL};
    uint64_t place, bit;

    if (mdb_cursor_get(cursor, &k, &v, MDB_GET_CURRENT) != MDB_SUCCESS)
        return;
    place = (uintptr_t)v.mv_data >> PAGE_BITS;
    bit = place * UINT64_C(0x9E3779B97F4A7C15) >> (64 - SEEN_BITS);
    if ((self->seen[bit / 64] >> bit % 64 & 1) == 0)
        self->base.pages++;
    self->seen[bit / 64] |= UINT64_C(1) << bit % 64;
    if (v.mv_size > LARGE_ROW_SIZE)
        self->base.pages += v.mv_size >> PAGE_BITS;
}

/* Appending fills pages where inserting splits them in halves, and is quicker. These tables are keyed by numbers that
 * grow. */
static const bool ascending[TABLE_COUNT] = {[TABLE_MESSAGES] = true, [TABLE_SESSIONS] = true};

static void raise_append_bound(struct lmdb_store *self, enum table table, struct bytes key)
{
    struct append_bound *bound = &self->append[table];

    bound->size = key.size;
    memcpy(bound->key, key.data, key.size);
}

static bool is_appended(const struct lmdb_store *self, enum table table, struct bytes key)
{
    const struct append_bound *bound = &self->append[table];

    return ascending[table] && bytes_compare(key, bytes_of(bound->key, bound->size)) > 0;
}

static enum status lmdb_insert(struct store *store, enum table table, struct bytes key, struct bytes value)
{
    struct lmdb_store *self = lmdb_of(store);
    MDB_cursor *cursor = cursor_of(self, table);
    MDB_val k = val_of(key), v = val_of(value);
    unsigned flags = MDB_NOOVERWRITE;
    int code;

    if (cursor == NULL)
        return store->status;
    if (is_appended(self, table, key)) {
        flags = MDB_APPEND;
        raise_append_bound(self, table, key);
    }
    code = mdb_cursor_put(cursor, &k, &v, flags);
    assert(code != MDB_KEYEXIST); /* store_insert: the key is new */
    if (code == MDB_SUCCESS)
        note_page(self, cursor);
    return settle(self, code);
}

static enum status lmdb_replace_found(struct store *store, enum table table, struct bytes key, struct bytes value)
{
    struct lmdb_store *self = lmdb_of(store);
    MDB_val k = val_of(key), v = val_of(value);
    int code = mdb_cursor_put(self->cursors[table], &k, &v, MDB_CURRENT);

    if (code == MDB_SUCCESS)
        note_page(self, self->cursors[table]);
    return settle(self, code);
}

static enum status lmdb_delete_found(struct store *store, enum table table)
{
    struct lmdb_store *self = lmdb_of(store);

    note_page(self, self->cursors[table]);
    return settle(self, mdb_cursor_del(self->cursors[table], 0));
}

/* ---- transactions ---- */

static int begin(struct lmdb_store *self)
{
    memset(self->cursors, 0, sizeof self->cursors); /* LMDB closed them with their transaction */
    memset(self->seen, 0, sizeof self->seen);
    return mdb_txn_begin(self->env, NULL, 0, &self->txn);
}

static int put_about(struct lmdb_store *self, uint32_t format)
{
    struct buffer about = {0};
    MDB_val key = {strlen(ABOUT_KEY), (void *)(uintptr_t)ABOUT_KEY}, value;
    int code;

    buffer_put_u32(&about, format);
    buffer_put_u64(&about, self->base.hash[0]);
    buffer_put_u64(&about, self->base.hash[1]);
    value = val_of(buffer_bytes(&about));
    code = mdb_put(self->txn, self->about, &key, &value, 0);
    buffer_release(&about);
    return code;
}

static int get_about(MDB_txn *txn, MDB_dbi dbi, uint32_t *format, uint64_t hash[2])
{
    MDB_val key = {strlen(ABOUT_KEY), (void *)(uintptr_t)ABOUT_KEY}, value;
    struct reader reader;
    int code = mdb_get(txn, dbi, &key, &value);

    if (code != MDB_SUCCESS)
        return code;
    reader = reader_of(bytes_of_val(value));
    *format = reader_u32(&reader);
    hash[0] = reader_u64(&reader);
    hash[1] = reader_u64(&reader);
    return reader_done(&reader) ? MDB_SUCCESS : MDB_CORRUPTED;
}

static enum status commit(struct lmdb_store *self, uint32_t format)
{
    MDB_txn *txn = self->txn;
    int code = put_about(self, format);

    if (code == MDB_SUCCESS) {
        self->txn = NULL; /* freed by the commit, whether it succeeds or not */
        code = mdb_txn_commit(txn);
    }
    if (code == MDB_SUCCESS)
        code = begin(self);
    return settle(self, code);
}

static enum status lmdb_commit(struct store *store)
{
    return commit(lmdb_of(store), STORE_FORMAT);
}

static enum status lmdb_spill(struct store *store)
{
    return commit(lmdb_of(store), STORE_FORMAT | SPILLED);
}

/* Whether all went well that the kernel knows of. It tells an error once, so that each answer counts. */
static bool write_back(int data)
{
    struct stat file;

    if (fstat(data, &file) != 0)
        return false;
    for (off_t at = 0; at < file.st_size; at += WRITE_BACK_BYTES) {
        if (sync_file_range(data, at, WRITE_BACK_BYTES, SYNC_FILE_RANGE_WRITE) != 0 ||
            sync_file_range(data, at, WRITE_BACK_BYTES, SYNC_FILE_RANGE_WAIT_AFTER) != 0)
            return errno == ENOSYS || errno == EPERM; /* a sandbox that has no such call: fdatasync does it all */
    }
    return true;
}

static enum status flush_failed(struct lmdb_store *self)
{
    atomic_store(&self->write_failed, true);
    report_errno(self->path, "flushing pages that were written before");
    store_marker_write(&self->marker, MARKER_POISONED);
    return STATUS_IO_ERROR;
}

static enum status lmdb_sync(struct store *store)
{
    struct lmdb_store *self = lmdb_of(store);

    if (atomic_load(&self->write_failed))
        return STATUS_IO_ERROR;
    return write_back(self->data) && fdatasync(self->data) == 0 ? STATUS_OK : flush_failed(self);
}

static void lmdb_poisoned(struct store *store, enum status status)
{
    struct lmdb_store *self = lmdb_of(store);

    log_event(LOG_ERROR, "store-poisoned", log_text("path", self->path), log_text("why", store->trouble));
    if (status != STATUS_NO_SPACE)
        store_marker_write(&self->marker, MARKER_POISONED); /* if it fails too, rule 3 or rule 1 catches it */
}

static void lmdb_verified(struct store *store)
{
    struct lmdb_store *self = lmdb_of(store);

    if (!store_marker_write(&self->marker, MARKER_OPEN))
        report_errno(self->path, "writing the marker");
}

static uint64_t lmdb_bytes(const struct store *store)
{
    const struct lmdb_store *self = (const struct lmdb_store *)store;
    MDB_envinfo info;
    MDB_stat stat;

    if (mdb_env_info(self->env, &info) != MDB_SUCCESS || mdb_env_stat(self->env, &stat) != MDB_SUCCESS)
        return 0;
    return ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
}

/* Undoes what store_lmdb_open did, as far as it came. */
static void discard(struct lmdb_store *self)
{
    if (self->txn != NULL)
        mdb_txn_abort(self->txn);
    if (self->env != NULL)
        mdb_env_close(self->env);
    store_marker_close(&self->marker);
    free(self);
}

static void lmdb_close(struct store *store)
{
    struct lmdb_store *self = lmdb_of(store);

    if (self->txn != NULL)
        mdb_txn_abort(self->txn);
    self->txn = NULL;
    if (store->status == STATUS_OK && lmdb_sync(store) == STATUS_OK)
        store_marker_write(&self->marker, store->unclean ? MARKER_OPEN : MARKER_CLOSED);
    discard(self);
}

/* ---- views ---- */

static enum status lmdb_view_open(struct store *store, struct store_view **view)
{
    struct lmdb_store *self = lmdb_of(store);
    struct lmdb_view *opened = memory_zeroed(1, sizeof *opened);
    uint32_t format;
    int code = mdb_txn_begin(self->env, NULL, MDB_RDONLY, &opened->txn);

    if (code == MDB_SUCCESS)
        code = get_about(opened->txn, self->about, &format, opened->base.hash);
    if (code != MDB_SUCCESS) {
        mdb_txn_abort(opened->txn);
        free(opened);
        return report(self->path, "reading the last commit", status_of(code), code);
    }
    opened->base.backend = store->backend;
    opened->store = self;
    *view = &opened->base;
    return STATUS_OK;
}

/* Whether the cursor stands on `key`, so that one step is enough. */
static bool cursor_is_at(MDB_cursor *cursor, struct bytes key)
{
    MDB_val k, v;
    return mdb_cursor_get(cursor, &k, &v, MDB_GET_CURRENT) == MDB_SUCCESS && bytes_equal(bytes_of_val(k), key);
}

static bool lmdb_view_next(struct store_view *view, enum table table, struct bytes key, struct row *row)
{
    struct lmdb_view *self = (struct lmdb_view *)view;
    MDB_val k, v;
    int code;

    if (self->cursor == NULL || self->table != table) {
        if (self->cursor != NULL)
            mdb_cursor_close(self->cursor);
        self->cursor = NULL;
        self->table = table;
        if (mdb_cursor_open(self->txn, self->store->tables[table], &self->cursor) != MDB_SUCCESS)
            return false;
    }
    if (key.size > 0 && cursor_is_at(self->cursor, key))
        code = mdb_cursor_get(self->cursor, &k, &v, MDB_NEXT);
    else
        code = cursor_seek(self->cursor, key.size == 0 ? SEEK_AT : SEEK_AFTER, key, &k, &v);
    if (code != MDB_SUCCESS)
        return false; /* an error ends the table early, and the hash over the rows will not agree */
    *row = (struct row){bytes_of_val(k), bytes_of_val(v)};
    return true;
}

/* Rows are come to from leaf to leaf, but looked for by the keys of the branches. */
static bool lmdb_view_finds(struct store_view *view, enum table table, const struct row *row)
{
    struct lmdb_view *self = (struct lmdb_view *)view;
    MDB_val k = val_of(row->key), v;

    return mdb_get(self->txn, self->store->tables[table], &k, &v) == MDB_SUCCESS && v.mv_data == row->value.data;
}

static void lmdb_view_close(struct store_view *view)
{
    struct lmdb_view *self = (struct lmdb_view *)view;

    if (self->cursor != NULL)
        mdb_cursor_close(self->cursor);
    mdb_txn_abort(self->txn);
    free(self);
}

static const struct store_backend lmdb_backend = {
    .find = lmdb_find,
    .seek = lmdb_seek,
    .insert = lmdb_insert,
    .replace_found = lmdb_replace_found,
    .delete_found = lmdb_delete_found,
    .commit = lmdb_commit,
    .spill = lmdb_spill,
    .sync = lmdb_sync,
    .poisoned = lmdb_poisoned,
    .verified = lmdb_verified,
    .bytes = lmdb_bytes,
    .close = lmdb_close,
    .view_open = lmdb_view_open,
    .view_next = lmdb_view_next,
    .view_finds = lmdb_view_finds,
    .view_close = lmdb_view_close,
};

/* ---- opening ---- */

static enum status throw_away(const struct lmdb_store *self, const char *why)
{
    if (!remove_files(self->path) || !sync_directory(self->path))
        return report_errno(self->path, "deleting a store that cannot be trusted");
    log_event(LOG_WARNING, "store-discarded", log_text("path", self->path), log_text("why", why));
    return STATUS_DAMAGED;
}

/* Rule 1: makes sure that nothing is opened that cannot be believed. Leaves the marker saying "open in this boot", or
 * "checking" (rule 3). */
static enum status take_directory(struct lmdb_store *self, const char *boot_id)
{
    char marker[PATH_SIZE], data[PATH_SIZE];
    enum store_trust trust = TRUST_NEW;
    enum status status;

    path_join(marker, self->path, "marker");
    path_join(data, self->path, "data.mdb");
    if (mkdir(self->path, 0700) != 0 && errno != EEXIST)
        return report_errno(self->path, "making the directory");
    status = store_marker_open(&self->marker, marker, boot_id);
    if (status != STATUS_OK)
        return status == STATUS_BUSY ? report(self->path, "another process has this store open", status, errno)
                                     : report_errno(marker, "opening the marker");
    if (access(data, F_OK) == 0)
        trust = store_marker_judge(&self->marker);
    if (trust == TRUST_OTHER_FORMAT)
        return report(self->path, "a format not known to this version", STATUS_UNSUPPORTED, MDB_VERSION_MISMATCH);
    if (trust == TRUST_NONE && !bug(BUG_V17_STORE_IS_TRUSTED))
        return throw_away(self, "poisoned, or not closed before the machine went down, or its process died twice");
    self->base.unclean = trust == TRUST_UNCLEAN;
    if (!store_marker_write(&self->marker, self->base.unclean ? MARKER_CHECKING : MARKER_OPEN) ||
        !sync_directory(self->path))
        return report_errno(marker, "writing the marker");
    return STATUS_OK;
}

static int open_environment(struct lmdb_store *self, uint64_t map_bytes)
{
    int code = mdb_env_create(&self->env);

    if (code == MDB_SUCCESS)
        code = mdb_env_set_maxdbs(self->env, TABLE_COUNT + 1);
    if (code == MDB_SUCCESS)
        code = mdb_env_set_mapsize(self->env, map_bytes);
    /* NOTLS: a view is opened by the owner, beside its write transaction, and read by a worker. */
    if (code == MDB_SUCCESS)
        code = mdb_env_open(self->env, self->path, MDB_NOSYNC | MDB_NOTLS, 0600);
    if (code == MDB_SUCCESS)
        code = mdb_env_get_fd(self->env, &self->data);
    return code;
}

/* Opens or makes every table, and reads or writes the row "about". */
static int open_tables(struct lmdb_store *self, uint32_t *format)
{
    int code = begin(self);

    for (unsigned table = 0; code == MDB_SUCCESS && table < TABLE_COUNT; table++)
        code = mdb_dbi_open(self->txn, store_table_name((enum table)table), MDB_CREATE, &self->tables[table]);
    if (code == MDB_SUCCESS)
        code = mdb_dbi_open(self->txn, "about", MDB_CREATE, &self->about);
    if (code == MDB_SUCCESS)
        code = get_about(self->txn, self->about, format, self->base.hash);
    if (code == MDB_NOTFOUND) {
        *format = STORE_FORMAT;
        code = put_about(self, STORE_FORMAT);
    }
    if (code != MDB_SUCCESS)
        return code;
    code = mdb_txn_commit(self->txn);
    self->txn = NULL;
    return code == MDB_SUCCESS ? begin(self) : code;
}

static void find_append_bounds(struct lmdb_store *self)
{
    for (int table = 0; table < TABLE_COUNT; table++) {
        MDB_val k, v;
        MDB_cursor *cursor = ascending[table] ? cursor_of(self, (enum table)table) : NULL;

        if (cursor == NULL || settle(self, mdb_cursor_get(cursor, &k, &v, MDB_LAST)) != STATUS_OK)
            continue;
        raise_append_bound(self, (enum table)table, bytes_of_val(k));
    }
}

enum status store_lmdb_open(const struct store_options *options, struct store **store)
{
    struct lmdb_store *self = memory_zeroed(1, sizeof *self);
    uint64_t map_bytes = options->map_bytes_max == 0 ? STORE_MAP_BYTES : options->map_bytes_max;
    uint32_t format = 0;
    enum status status;
    int code;

    self->base.backend = &lmdb_backend;
    self->marker.fd = -1;
    if (strlen(options->path) > PATH_SIZE - 16) {
        status = STATUS_INVALID;
        goto fail;
    }
    strcpy(self->path, options->path);
    status = take_directory(self, options->boot_id);
    if (status != STATUS_OK)
        goto fail;
    code = open_environment(self, map_bytes);
    if (code == MDB_SUCCESS)
        code = open_tables(self, &format);
    if (code != MDB_SUCCESS) {
        status = report(self->path, "opening the database", status_of(code), code);
        if (status == STATUS_CORRUPT)
            store_marker_write(&self->marker, MARKER_POISONED);
        goto fail;
    }
    if (format == (STORE_FORMAT | SPILLED)) {
        status = throw_away(self, "its process ended amid a long entry");
        goto fail;
    }
    if (format != STORE_FORMAT) {
        status = report(self->path, "a format not known to this version", STATUS_UNSUPPORTED, MDB_VERSION_MISMATCH);
        goto fail;
    }
    find_append_bounds(self);
    status = self->base.status;
    if (status != STATUS_OK)
        goto fail;
    *store = &self->base;
    return STATUS_OK;

fail:
    discard(self);
    return status;
}
