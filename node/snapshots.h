/* snapshots.h — the snapshots of this node, as consensus wants them: taken, read for peers, received, installed.
 *
 *   consensus_wants_snapshot --snapshots_take--> worker: write, flush, verify --> consensus_snapshot_taken
 *   incoming chunks --> file --worker: verify--> consensus_received --> install --worker: restore--> swap
 *
 * What takes long runs as a disk job; one job at a time of each kind. Completions come on the owner's thread. */
#ifndef COTERIE_SNAPSHOTS_H
#define COTERIE_SNAPSHOTS_H

#include "cluster/consensus.h"
#include "disk.h"
#include "snapshot.h"
#include "store.h"

struct snapshots;

struct snapshots_calls {
    void *context;
    /* The snapshot asked for by snapshots_take: STATUS_OK, it is there; else it was not made (the reason was logged). */
    void (*taken)(void *context, enum status status, const struct consensus_snapshot *snapshot);
    void (*received)(void *context, enum status status);
    /* The store at the path given to snapshots_restore is ready. */
    void (*restored)(void *context, enum status status, uint64_t index);
};

struct snapshots *snapshots_new(const char *directory, const uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE],
                                struct disk_queue queue, const struct snapshots_calls *calls);
/* Tells jobs to hurry; free when snapshots_busy() is false. */
void snapshots_stop(struct snapshots *snapshots);
bool snapshots_busy(const struct snapshots *snapshots);
void snapshots_free(struct snapshots *snapshots);

/* Writes a snapshot of the last commit of `store`, which is the state as of facts->index. `configuration` is copied. */
void snapshots_take(struct snapshots *snapshots, struct store *store, const struct snapshot_facts *facts);
bool snapshots_taking(const struct snapshots *snapshots);

/* For peers; quick. */
enum status snapshots_open(struct snapshots *snapshots, uint64_t index, uint64_t *size);
enum status snapshots_read(struct snapshots *snapshots, uint64_t index, uint64_t offset, void *data, size_t size);
void snapshots_close(struct snapshots *snapshots, uint64_t index);

enum status snapshots_incoming_open(struct snapshots *snapshots);
enum status snapshots_incoming_write(struct snapshots *snapshots, uint64_t offset, struct bytes chunk);
void snapshots_incoming_finish(struct snapshots *snapshots);

/* Restores the snapshot at `index` into a fresh store at options->path (copied). */
void snapshots_restore(struct snapshots *snapshots, uint64_t index, const struct store_options *options);

#endif
