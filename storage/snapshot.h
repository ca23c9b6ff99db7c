/* snapshot.h — the whole state as of one log index, in one verified file.
 *
 *   store_view --snapshot_write--> file --snapshot_read--> bytes --peer--> snapshot_incoming --> file --load--> store
 *
 * A snapshot is what allows the log to be trimmed, so nothing here is believed before it was checked: a file is written
 * under a temporary name, flushed, read back, its hash recomputed from the rows that were read, and only then gets its
 * name. The same is done with a file that a peer sent. It is restored into an empty store, never on top of one.
 *
 * In `directory` the newest two are kept: snapshot-<index>-<term>, both as 20 digits. The format is in snapshot.c.
 *
 * All functions block and belong on a worker thread, but for those marked "quick". Those that take long look at `stop`
 * (may be NULL) and return STATUS_CLOSED soon after it became true. */
#ifndef COTERIE_SNAPSHOT_H
#define COTERIE_SNAPSHOT_H

#include "base/bytes.h"
#include "base/status.h"
#include "store.h"

#include <stdatomic.h>

#define SNAPSHOT_CLUSTER_ID_SIZE 16
#define SNAPSHOT_CONFIGURATION_MAX 65536

struct snapshot_facts {
    uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE];
    uint64_t index, term;              /* of the last entry in it */
    uint64_t configuration_index;      /* log index of the raft configuration */
    struct bytes configuration;        /* as raft encodes it; opaque here, at most SNAPSHOT_CONFIGURATION_MAX */
    uint64_t hash[2];                  /* of the state */
};

/* Writes all rows of `view`. The caller fills in *facts, but for the hash, which is the view's. When it returns
 * STATUS_OK, the file is on disk, verified, and has its name; all but the newest two have been deleted.
 * STATUS_CORRUPT: the rows do not have the hash that the store says: the store is broken, or this machine's memory.
 * STATUS_CLOSED: stopped. STATUS_NO_SPACE, STATUS_IO_ERROR. Whatever fails leaves no file behind. */
enum status snapshot_write(const char *directory, const struct snapshot_facts *facts, struct store_view *view,
                           const atomic_bool *stop);

/* ---- reading ---- */

struct snapshot;

/* Opens the newest (index 0) or the one at `index`, and checks its header. STATUS_NOT_FOUND; STATUS_CORRUPT;
 * STATUS_UNSUPPORTED: a format that this version does not know; STATUS_IO_ERROR. Quick. */
enum status snapshot_open(const char *directory, uint64_t index, struct snapshot **snapshot);
/* The newest that verifies; STATUS_NOT_FOUND if none does. *refused counts the newer ones that did not. */
enum status snapshot_open_verified(const char *directory, const atomic_bool *stop, struct snapshot **snapshot,
                                   unsigned *refused);
void snapshot_close(struct snapshot *snapshot);

const struct snapshot_facts *snapshot_facts(const struct snapshot *snapshot);   /* lives as long as the snapshot */
uint64_t snapshot_size(const struct snapshot *snapshot);                        /* of the file */

/* Reads all of it: every checksum, the number of rows, their order, and the hash recomputed from them. STATUS_CORRUPT. */
enum status snapshot_verify(struct snapshot *snapshot, const atomic_bool *stop);

/* Reads bytes of the file, for a peer: *got is less than `size` only at its end. Quick, for one chunk. The file
 * stays readable while it is open here, also after newer snapshots took its place. */
enum status snapshot_read(struct snapshot *snapshot, uint64_t offset, void *data, size_t size, size_t *got);

/* Inserts all rows into `store`, which is empty, and commits. STATUS_CORRUPT: the hash differs; throw the store away. */
enum status snapshot_load(struct snapshot *snapshot, struct store *store, const atomic_bool *stop);

/* Makes a store of it in the directory options->path in place of the one there, which nobody has open. It is built and
 * checked beside it and then renamed; a crash in between leaves the old one, or none, or the new one. */
enum status snapshot_restore(struct snapshot *snapshot, const struct store_options *options, const atomic_bool *stop);

/* ---- receiving from a peer ---- */

struct snapshot_incoming;

/* Begins a file; the remains of an earlier transfer are deleted. */
enum status snapshot_incoming_open(const char *directory, struct snapshot_incoming **incoming);
/* Appends the next chunk. STATUS_INVALID: `offset` is not where the last one ended (nothing written). Quick. */
enum status snapshot_incoming_write(struct snapshot_incoming *incoming, uint64_t offset, struct bytes chunk);
uint64_t snapshot_incoming_size(const struct snapshot_incoming *incoming);      /* so far. Quick */
/* Flushes, verifies, and gives it its name. STATUS_CORRUPT, or STATUS_INVALID for another cluster's: the file is deleted.
 * Either way close it afterwards; *snapshot (may be NULL) is opened. */
enum status snapshot_incoming_finish(struct snapshot_incoming *incoming,
                                     const uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE], const atomic_bool *stop,
                                     struct snapshot **snapshot);
/* Closes; an unfinished file is deleted. */
void snapshot_incoming_close(struct snapshot_incoming *incoming);

#endif
