/* data.h — the data directory: what this node remembers, opened, recovered, or made.
 *
 *   lock        held while a process uses the directory
 *   identity    who this node is; a second copy lies in log/ (identity.h)
 *   peers       the incarnation of each other node, as first met or replaced last
 *   log/        the raft log: the truth
 *   store/      the applied state: rebuilt from a snapshot and the log whenever it is in doubt
 *   snapshots/  verified copies of the state, from before the log begins
 *   rebuild     if it is there, the store is thrown away at the next start
 *
 * Nothing is made because it is missing: a directory without identity starts a node only at the bootstrap of its
 * cluster, or as a replacement if the operator has given a number for it (cluster.replace). The number may stay in the
 * configuration: these directories remember it, and should they be lost again the peers do, and refuse to see it twice.
 *
 * Everything here blocks; it belongs to start-up. */
#ifndef COTERIE_DATA_H
#define COTERIE_DATA_H

#include "config.h"
#include "identity.h"
#include "log.h"
#include "snapshot.h"
#include "state.h"
#include "store.h"

#define DATA_ERROR_MAX 1024

struct data {
    struct disk *disk;
    char directory[DISK_PATH_MAX], log_path[DISK_PATH_MAX], store_path[DISK_PATH_MAX], snapshots_path[DISK_PATH_MAX];
    int lock;
    struct identity identity;
    uint64_t incarnations[NODES_MAX];      /* of the peers; 0 = not met yet */
    uint64_t replacements[NODES_MAX];      /* their numbers; 0 = the first life */
    struct log *log;
    struct store *store;
    struct state *state;
    struct snapshot *newest;               /* the newest snapshot, open; NULL = none */
    bool created;                          /* this start made the identity */
    bool replaced;                         /* as one of a replacement */
};

struct data_log {
    struct disk_queue queue;
    void (*flushed)(void *context, enum status status, uint64_t durable);
    void *context;
};

/* With all that lead to it, for nobody else. STATUS_INVALID: `error` is a sentence. */
enum status data_make_directory(const char *path, char error[DATA_ERROR_MAX]);

/* Any status but STATUS_OK: `error` is a sentence for the operator; nothing is left open. */
enum status data_open(const struct config *config, const struct data_log *log, struct data *data,
                      char error[DATA_ERROR_MAX]);
/* Commits the state and closes everything. The log must not be busy. */
void data_close(struct data *data);

/* Takes the store that was restored beside the present one (data_restore_path) into its place. `data->state` and
 * `data->store` are closed and opened anew. */
enum status data_swap_store(struct data *data, const struct config *config, char error[DATA_ERROR_MAX]);
void data_restore_path(const struct data *data, char path[DISK_PATH_MAX]);
struct store_options data_store_options(const struct config *config, const char *path);

/* The store is in doubt: the next start shall rebuild it. */
void data_mark_rebuild(const char *directory);

/* NULL: `node` may have this incarnation. The first that is met is remembered, durably; from then on only a replacement
 * with a greater number, which is remembered in its place. Otherwise the reason, a sentence about "it". */
const char *data_admit(struct data *data, uint32_t node, uint64_t incarnation, uint64_t replacement);

#endif
