/* store.h — ordered tables of rows with one open write transaction, and the hash over all of them.
 *
 * The seam between the state machine and LMDB: nothing of LMDB shows. "Applied" is not "durably stored": writes go into
 * the open transaction and are seen by later reads at once; store_commit() makes them survive the process; what makes
 * them survive a power loss is the log and the snapshots.
 *
 * Trouble is sticky: the first write or read that fails (disk full, I/O error, corrupt page) poisons the store. From then
 * on reads find nothing and writes do nothing, and store_status() says what happened. The state machine checks it once
 * per batch; so no code between here and there has a path for half-done writes.
 *
 * Two backends: LMDB (a directory), and memory (path NULL), for tests and the simulator. The memory one forgets what was
 * not committed when store_crash() is called. */
#ifndef COTERIE_STORE_H
#define COTERIE_STORE_H

#include "base/bytes.h"
#include "base/status.h"

#include <stdatomic.h>

/* One letter per table in the comment of state.c. Numbers are part of snapshots and of the hash: never reuse one. */
enum table {
    TABLE_META = 0,
    TABLE_MESSAGES = 1,
    TABLE_MESSAGE_REFERENCES = 2,
    TABLE_CLIENTS = 3,            /* not used: sessions are all in memory, by client id too */
    TABLE_SESSIONS = 4,
    TABLE_SUBSCRIPTIONS = 5,      /* (session, filter) */
    TABLE_FILTERS = 6,
    TABLE_MEMBERS = 7,            /* (filter, session) */
    TABLE_OWN_QUEUES = 8,         /* (session, order) */
    TABLE_BROADCAST_QUEUES = 9,   /* (filter, message) */
    TABLE_CURSORS = 10,           /* (session, filter) */
    TABLE_IN_FLIGHT = 11,         /* (session, order) */
    TABLE_INBOUND = 12,           /* (session, packet id) */
    TABLE_RETAINED = 13,          /* topic -> message */
    TABLE_WILLS = 14,
    TABLE_OWNERS = 15,            /* (node, its epoch, client epoch) -> session */
    TABLE_NODES = 16,
    TABLE_DUE = 17,               /* (cluster time, kind, id) */
    TABLE_GARBAGE = 18,           /* long work */
    TABLE_SCANS = 19,             /* open retained scans */
    TABLE_GROUPS = 20,            /* (filter, message): the queues of shared subscriptions */
    TABLE_USERS = 21,             /* name -> credential, quota */
    TABLE_ROLES = 22,             /* name */
    TABLE_RULES = 23,             /* (role, right, filter) */
    TABLE_GRANTS = 24,            /* (user, role) */
    TABLE_BANS = 25,              /* (kind, subject) */
    TABLE_AUDIT = 26,             /* position -> who changed what */
    TABLE_COUNT = 28,
};

#define STORE_KEY_MAX 511   /* bytes; 1 at least */
#define STORE_VALUE_MAX (320u << 20)   /* no log entry brings more; a larger one that is read is a broken page */

struct store;

struct store_options {
    const char *path;        /* directory, made if missing; NULL = memory */
    uint64_t map_bytes_max;  /* address space for LMDB; a store beyond it is STATUS_NO_SPACE; 0 = STORE_MAP_BYTES */
    const char *boot_id;     /* NULL: the kernel's; a test may pretend that the machine has booted again */
};

#define STORE_MAP_BYTES (256ull << 30)

struct row {
    struct bytes key, value; /* borrowed until the next write, commit or close of this store */
};

/* Opens or makes the store and begins the write transaction. The reason of a failure was logged.
 *   STATUS_DAMAGED      it cannot be trusted (a boot without a clean close in between, poisoned, or spilled) and was deleted.
 *                       Restore the newest snapshot in its place, or open again, which makes an empty one.
 *   STATUS_UNSUPPORTED  a format that this version does not know; left alone
 *   STATUS_BUSY         another process has it open
 *   STATUS_IO_ERROR, STATUS_NO_SPACE, STATUS_CORRUPT */
enum status store_open(const struct store_options *options, struct store **store);
/* Closes without committing what is open. What was committed is flushed to the disk first, and may then be trusted
 * after a boot as well, unless it is still unclean. */
void store_close(struct store *store);
/* Whether the process that had it before did not close it. It is probably whole (no boot in between), but have a
 * worker check (store_view_verify) and say so (store_verified): a store whose process dies once more before that is
 * not believed at its next opening, because its rows may be why. */
bool store_unclean(const struct store *store);
void store_verified(struct store *store);

/* Deletes the store in a directory, and the directory; there need not be one. Nobody has it open. STATUS_IO_ERROR. */
enum status store_remove(const char *path);
/* Moves it to `path`, where there is none. Nobody has it open. STATUS_IO_ERROR. */
enum status store_rename(const char *from, const char *path);

const char *store_table_name(enum table table);

enum status store_status(const struct store *store);      /* STATUS_OK, or why it is poisoned */
const char *store_trouble(const struct store *store);     /* the same as a sentence for the log; "" if none */

bool store_get(struct store *store, enum table table, struct bytes key, struct bytes *value);
bool store_has(struct store *store, enum table table, struct bytes key);
/* The first row with key >= `from`; the first with key > `key`. */
bool store_first_at(struct store *store, enum table table, struct bytes from, struct row *row);
bool store_first_after(struct store *store, enum table table, struct bytes key, struct row *row);

/* Keys and values given may themselves be borrowed from the store. A row should be well below 2 KB: larger ones make LMDB
 * look for contiguous free pages. */
void store_insert(struct store *store, enum table table, struct bytes key, struct bytes value); /* key is not there yet */
void store_put(struct store *store, enum table table, struct bytes key, struct bytes value);    /* insert or replace */
bool store_delete(struct store *store, enum table table, struct bytes key);                     /* false: was not there */

/* Sum modulo 2^128 of XXH3-128(table, key, value) over all rows, the open transaction included: kept at every write. */
void store_hash(const struct store *store, uint64_t hash[2]);

/* Commits, and begins the next transaction. The hash is stored in the same transaction. */
enum status store_commit(struct store *store);
uint64_t store_commits(const struct store *store);        /* how often, since it was opened */
/* The same amid something that is to be found whole or not at all, when it has become too much for one commit: writes out what
 * there is so far. Until the next commit, a store whose process dies is deleted at its next opening (STATUS_DAMAGED). One in
 * memory has nothing to write out. */
enum status store_spill(struct store *store);
/* Pages that rows were written to since it was opened: each once between two commits or spills, which write them out. Up to
 * twice as many as there are. In memory there are none. */
uint64_t store_pages(const struct store *store);
uint64_t store_pages_unwritten(const struct store *store);   /* of them, those that the next commit or spill writes out */
/* How often a row was read, sought or written since it was opened: the measure of work (state_private.h). */
uint64_t store_operations(const struct store *store);

/* Learns of write errors that the kernel found after we wrote: writes the data file back, then fdatasync. Safe on
 * another thread while the owner goes on. After an error the store is deleted at its next opening; tell the owner, who
 * calls store_poison. */
enum status store_sync(struct store *store);
/* From now on nothing is read or written. STATUS_CORRUPT and STATUS_IO_ERROR also delete it at its next opening. */
void store_poison(struct store *store, enum status status, const char *why);

uint64_t store_bytes(const struct store *store);          /* size on disk, or in memory */

/* A read transaction of the last commit, for one worker thread; the owner goes on writing meanwhile. Every page that
 * changes while it is open is kept, so be quick and never wait for a network. */
struct store_view;
enum status store_view_open(struct store *store, struct store_view **view);       /* on the owner's thread */
/* The row after `key` in `table` (key.size 0: the first). Any one thread at a time. */
bool store_view_next(struct store_view *view, enum table table, struct bytes key, struct row *row);
void store_view_hash(const struct store_view *view, uint64_t hash[2]);            /* as stored with that commit */
void store_view_close(struct store_view *view);

/* Recomputes the hash from the rows of a view, and looks for each: STATUS_CORRUPT if it is not the stored one, or a row is
 * not found by its key; STATUS_CLOSED if it was told to `stop` (NULL is fine). For a worker thread. */
enum status store_view_verify(struct store_view *view, const atomic_bool *stop);

/* Memory backend only: back to the last commit, as after a kill. */
void store_crash(struct store *store);

#endif
