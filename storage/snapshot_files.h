/* snapshot_files.h — the files of a snapshot directory: names, the newest, how a finished one gets its place.
 *
 * Only for snapshot.c and snapshot_incoming.c. */
#ifndef COTERIE_SNAPSHOT_FILES_H
#define COTERIE_SNAPSHOT_FILES_H

#include "snapshot.h"

#define SNAPSHOT_PATH_SIZE 4096
#define SNAPSHOT_WRITING "snapshot.writing"     /* temporary names; at most one of each */
#define SNAPSHOT_INCOMING "snapshot.incoming"

struct snapshot_name {
    uint64_t index, term;
};

/* Joins a path; asserts that it fits. */
void snapshot_path(char out[SNAPSHOT_PATH_SIZE], const char *directory, const char *name);
void snapshot_path_of(char out[SNAPSHOT_PATH_SIZE], const char *directory, struct snapshot_name name);

/* All snapshots in `directory`, the newest first. free() *names. STATUS_IO_ERROR. */
enum status snapshot_list(const char *directory, struct snapshot_name **names, size_t *count);

/* Makes the directory if it is missing, and an empty file in it, readable and writable. */
enum status snapshot_create(const char *directory, const char *name, int *fd);

/* Flushes a finished file, and forgets its pages, so that what is read next comes from the disk. */
enum status snapshot_flush(int fd, const char *path);

/* Renames a verified file to its place, flushes the directory, and deletes all snapshots but the newest two. */
enum status snapshot_publish(const char *directory, const char *temporary, struct snapshot_name name);

/* Opens a file that may still have its temporary name, and checks its header. */
enum status snapshot_open_path(const char *path, struct snapshot **snapshot);

/* Logs errno; the status for it. */
enum status snapshot_report(const char *path, const char *what);

#endif
