/* disk.h — file access as a small interface: the real file system (disk_posix.c), or a simulated disk that tears,
 * loses, reorders and flips sectors (tests/sim/world/disk_sim.c).
 *
 *   log, identity, snapshot --disk_*()--> struct disk_calls --> files
 *
 * Two ways to use it. Calls block until they are done: fine for start-up and for the few bytes of term and vote. What
 * can take long is put into a job: a piece of work that the owner hands to `submit`; some other thread runs it, and the
 * owner hears of it on its own thread. No thread, loop or lock shows here; the runtime has its thread pool, the
 * simulator its event queue.
 *
 * Errors: STATUS_NOT_FOUND, STATUS_EXISTS, STATUS_NO_SPACE, STATUS_IO_ERROR (anything else; the text is in
 * disk_trouble). What was written is durable only after disk_sync returned STATUS_OK, and a name only after
 * disk_sync_directory did. After a sync that failed nobody knows what is on the disk: do not try again, stop. */
#ifndef COTERIE_DISK_H
#define COTERIE_DISK_H

#include "base/bytes.h"
#include "base/status.h"

#define DISK_PATH_MAX 1024
#define DISK_SECTOR 512    /* what a disk writes whole or not at all; a power loss can separate any two of these */

struct disk;

/* An open file, for reading and writing. Calls on one file from two threads at once are fine if their ranges differ. */
struct disk_file {
    struct disk *disk;
};

/* Called with each name in a directory, in no particular order; `name` lives until the call returns. */
typedef void disk_name_callback(void *context, const char *name);

/* What an implementation provides; see the functions of the same name for the contract of each. */
struct disk_calls {
    enum status (*make_directory)(struct disk *disk, const char *path);
    enum status (*list)(struct disk *disk, const char *directory, disk_name_callback *callback, void *context);
    enum status (*open)(struct disk *disk, const char *path, struct disk_file **file);
    enum status (*create)(struct disk *disk, const char *path, uint64_t size, struct disk_file **file);
    enum status (*rename)(struct disk *disk, const char *from, const char *to);
    enum status (*unlink)(struct disk *disk, const char *path);
    enum status (*sync_directory)(struct disk *disk, const char *path);
    uint64_t (*size)(struct disk_file *file);
    enum status (*read)(struct disk_file *file, uint64_t offset, void *data, size_t size);
    enum status (*write)(struct disk_file *file, uint64_t offset, const void *data, size_t size);
    enum status (*resize)(struct disk_file *file, uint64_t size);
    enum status (*sync)(struct disk_file *file);
    void (*close)(struct disk_file *file);
};

/* The first member of each implementation's own struct. */
struct disk {
    const struct disk_calls *calls;
};

/* Makes a directory, mode 0700; fine if there is one already. Its parent must exist. */
enum status disk_make_directory(struct disk *disk, const char *path);
enum status disk_list(struct disk *disk, const char *directory, disk_name_callback *callback, void *context);

/* STATUS_NOT_FOUND: there is no such file. Close it. */
enum status disk_open(struct disk *disk, const char *path, struct disk_file **file);
/* A new file of `size` zeros that occupy their place on the disk, synced: later writes inside it need no new space and
 * no change of metadata, so their sync is cheap. STATUS_EXISTS; STATUS_NO_SPACE leaves nothing behind. Its name is
 * durable after disk_sync_directory. Takes long: use a job. */
enum status disk_create(struct disk *disk, const char *path, uint64_t size, struct disk_file **file);
/* Replaces `to` if it exists, in one step. */
enum status disk_rename(struct disk *disk, const char *from, const char *to);
enum status disk_unlink(struct disk *disk, const char *path);
enum status disk_sync_directory(struct disk *disk, const char *path);

uint64_t disk_size(struct disk_file *file);
/* All of `size` bytes, or STATUS_IO_ERROR (a read beyond the end too). */
enum status disk_read(struct disk_file *file, uint64_t offset, void *data, size_t size);
/* All of it, or an error after which any part of the range may have changed. */
enum status disk_write(struct disk_file *file, uint64_t offset, const void *data, size_t size);
enum status disk_resize(struct disk_file *file, uint64_t size);
enum status disk_sync(struct disk_file *file);
void disk_close(struct disk_file *file);                   /* NULL is fine */

/* ---- made of the above ---- */

/* Reads a whole file of at most `size_max` bytes behind what `out` holds. STATUS_NOT_FOUND, STATUS_TOO_LARGE. */
enum status disk_read_file(struct disk *disk, const char *path, size_t size_max, struct buffer *out);
/* Replaces the file `name` in `directory` by these bytes in one durable step (new file, sync, rename, sync). */
enum status disk_replace_file(struct disk *disk, const char *directory, const char *name, struct bytes content);
/* "directory/name" into `path`. A longer one is our bug: paths are checked when the configuration is read. */
void disk_path(char path[DISK_PATH_MAX], const char *directory, const char *name);

/* What the last failed call on this thread failed at: "write /data/log/000…1.segment: Input/output error". */
const char *disk_trouble(void);
/* For implementations: keeps that sentence. `error` is an errno. Returns the status that stands for it. */
enum status disk_failed(const char *what, const char *path, int error);

/* ---- jobs ---- */

/* Work that may block. Embedded in a struct of its owner, who keeps it alive and leaves it alone until `done`.
 *   run    any thread, once. It touches nothing of the owner but what belongs to the job.
 *   done   afterwards, on the owner's thread, from the top of its loop (never from inside `submit`). */
struct disk_job {
    void (*run)(struct disk_job *job);
    void (*done)(struct disk_job *job);
    struct disk_job *next;   /* for whoever has the job between submit and done; not the owner's */
};

static inline void disk_job_run(struct disk_job *job)
{
    job->run(job);
}

static inline void disk_job_done(struct disk_job *job)
{
    job->done(job);
}

/* How an owner hands out jobs. Supplied by the runtime (thread pool) or the simulator (disk_sim_queue). Two jobs that
 * are out at the same time may run at the same time, and in any order. */
struct disk_queue {
    void (*submit)(void *context, struct disk_job *job);
    void *context;
};

/* The real file system. One object for the process, nothing to close. */
struct disk *disk_posix(void);

#endif
