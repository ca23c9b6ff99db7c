/* log.h — the raft log on disk: entries numbered 1, 2, 3 …, the current term and vote, and recovery that trusts nothing.
 *
 *   log_append() ── in memory ── log_flush() ──job──> one write + one sync ──> flushed(status, durable index)
 *
 * Appending costs memory only. log_flush() starts one job with all that is buffered, unless one is out already: what
 * comes meanwhile goes with the next one. That is the group commit. Entries up to log_durable() survive a power loss.
 *
 * Trouble is sticky. After the first write or sync that fails the log refuses everything that would write, for ever,
 * with that status: log_status() and log_trouble() say what and where. Nothing is retried; nobody knows what a failed
 * sync left on the disk. The node hands over leadership, stops, and starts anew.
 *
 * Single owner, single thread (but for the jobs, which touch only their own). Entries are reference counted with atomic
 * counters and immutable: they may be handed to other threads.
 *
 * The file format and the rules of recovery are at the top of log_format.h. */
#ifndef COTERIE_LOG_H
#define COTERIE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/bytes.h"
#include "base/status.h"
#include "disk.h"

struct log;

/* ---- entries ---- */

/* Numbers are part of the file format: never reuse one. 0 is taken by the log itself. */
enum log_entry_type {
    LOG_COMMAND = 1,   /* a batch of commands */
    LOG_BARRIER = 2,   /* a leader's first entry of its term; no content */
    LOG_CHANGE = 3,    /* a raft configuration */
};

#define LOG_ENTRY_BYTES_MAX (320u * 1024 * 1024)   /* the largest MQTT packet, and room for what we put around it */

struct log_entry {
    uint64_t term;
    enum log_entry_type type;
    atomic_uint references;
    uint32_t size;
    uint8_t data[];
};

/* An entry with one reference, the caller's. With `data` NULL its content is for the caller to fill in before anyone
 * else sees it. */
struct log_entry *log_entry_new(uint64_t term, enum log_entry_type type, const void *data, size_t size);
struct log_entry *log_entry_keep(struct log_entry *entry);   /* one more reference; returns it */
void log_entry_release(struct log_entry *entry);             /* NULL is fine */

static inline struct bytes log_entry_bytes(const struct log_entry *entry)
{
    return (struct bytes){entry->data, entry->size};
}

/* ---- opening ---- */

struct log_options {
    struct disk *disk;
    const char *directory;       /* exists; holds nothing but this log */
    struct disk_queue queue;     /* where jobs go */
    /* After each flush, on the owner's thread, from log's `done`: what is durable now, or why the log has failed. May
     * append and flush. NULL is fine: poll log_durable(). */
    void (*flushed)(void *context, enum status status, uint64_t durable);
    void *context;

    bool create;                 /* make an empty log if there is none: only at bootstrap or join */
    bool repair;                 /* go on after STATUS_CORRUPT or STATUS_DAMAGED, as a damaged node: see log_owed(). Is
                                  * refused with the same status if it cannot be known what is owed, or voted: then a
                                  * new node must take this one's place */
    uint64_t covered;            /* a verified snapshot covers entries up to here; 0 = none */

    uint64_t segment_bytes;      /* 0 = 16 MiB */
    uint64_t salt;               /* random: what clients cannot guess; see log_format.h. 0 is fine in tests */
    uint64_t cache_bytes;        /* memory for recent entries; 0 = 64 MiB. Entries not yet durable come on top */
};

/* What went wrong at log_open(), for one clear line to the operator. */
struct log_fault {
    char text[512];              /* a sentence with file, offset and index; "" if all is well */
    uint64_t index;              /* the first entry that is missing or wrong, if known */
};

/* Reads and checks everything that is stored.
 *   STATUS_NOT_FOUND  there is no log here, and `create` is not set
 *   STATUS_CORRUPT    an entry that had been made durable does not read back as written
 *   STATUS_DAMAGED    the log is whole, but ends below what this node had made durable (and so may have acknowledged),
 *                     or begins after `covered` + 1
 *   STATUS_UNSUPPORTED a format of a newer version;  STATUS_IO_ERROR, STATUS_NO_SPACE
 * A write that a crash interrupted before its sync returned is no fault: its remains are cut off. */
enum status log_open(const struct log_options *options, struct log **log, struct log_fault *fault);

/* Frees everything, writes nothing. Jobs that are out must not be run or finished afterwards: a runtime lets
 * its queue end first, a simulated crash forgets them. */
void log_close(struct log *log);

/* 0, or the index up to which this node had acknowledged entries that a repair had to give up. Until log_durable() has
 * come up to it again, as a follower, the node must neither vote nor lead. It survives restarts, and becomes 0 by
 * itself. */
uint64_t log_owed(const struct log *log);

/* ---- term and vote ---- */

/* The present term, and for whom this node has voted in it: both durable. */
uint64_t log_term(const struct log *log);
uint64_t log_vote(const struct log *log);                    /* raft id; 0 = none */
/* Durable in two places when it returns. Blocks for two small syncs. */
enum status log_set_term(struct log *log, uint64_t term, uint64_t vote);

/* ---- reading ---- */

uint64_t log_first(const struct log *log);     /* index of the first entry held; log_last() + 1 if there is none */
uint64_t log_last(const struct log *log);      /* index of the last one appended */
uint64_t log_durable(const struct log *log);   /* index up to which all is on disk; log_first() - 1 if nothing */
/* Index up to which the disk itself says so: above it, damage may pass for an interrupted write (log_format.h). Asked by
 * the simulation, which knows by it what may be lost to rot. */
uint64_t log_marked(const struct log *log);
/* Term of the entry at `index`, from log_first() - 1 to log_last(); 0 outside, and for index 0. Reads no file. */
uint64_t log_term_of(const struct log *log, uint64_t index);

/* The entry at `index`, with a reference for the caller. Recent ones come from memory; an older one is read from its
 * segment (a blocking read, usually of the page cache) and checked again.
 * STATUS_NOT_FOUND: not between log_first() and log_last(). STATUS_CORRUPT, STATUS_IO_ERROR: see log_trouble(); the
 * log has failed. */
enum status log_get(struct log *log, uint64_t index, struct log_entry **entry);

/* The entries from `first` on, each with a reference for the caller: at most `count_max`, and no more once `bytes_max`
 * would be exceeded, but at least one. *count may be less than wished for. */
enum status log_get_many(struct log *log, uint64_t first, size_t count_max, size_t bytes_max,
                         struct log_entry **entries, size_t *count);

/* ---- writing ---- */

/* Adds entries behind the last one. The log takes references of its own. Terms never fall, and never exceed log_term():
 * set it first. Fails only if the log has failed. */
enum status log_append(struct log *log, struct log_entry *const entries[], size_t count);

/* Starts the write of what is buffered. Nothing to do, or a flush is out already: STATUS_OK. Call it once per turn of
 * the loop; the log starts the next flush itself when one ends and more has been appended. */
enum status log_flush(struct log *log);

/* Makes the durable mark itself durable: call it after a second in which nothing was appended. The mark of what was
 * flushed travels in the next record, and this writes one if none is under way. Then damage to the last entry cannot be
 * mistaken for an interrupted write. */
enum status log_flush_mark(struct log *log);

/* Removes the entries from `from` on (a conflict with the leader). from >= log_first(). On disk it takes effect
 * together with the next entry appended; until then a restart finds the old ones again, which raft allows. */
enum status log_truncate(struct log *log, uint64_t from);

/* Entries up to `index` are not needed any more (a verified snapshot covers them). Removes whole segments only, in the
 * background; log_first() says what is left. */
void log_trim(struct log *log, uint64_t index);

/* Nobody is expected to ask for entries up to `index` any more: memory that holds durable ones of them is freed. A
 * reader that comes all the same gets them from their segment. */
void log_forget(struct log *log, uint64_t index);

/* Forgets all entries: a snapshot of everything up to `index` (whose term is `term`) was installed. The next entry is
 * index + 1. Takes effect on disk with the next flush, which it starts. Until then a restart finds the old entries, and
 * the caller resets again because the snapshot is ahead. */
enum status log_reset(struct log *log, uint64_t index, uint64_t term);

/* ---- how it is ---- */

enum status log_status(const struct log *log);         /* STATUS_OK, or what made it fail */
const char *log_trouble(const struct log *log);        /* the same as a sentence; "" if none */
/* The file for what comes next could not be prepared for want of space: the log works until the present one is full. */
bool log_space_is_low(const struct log *log);
/* Tries again to prepare it: for the owner to call now and then while space is low. */
void log_retry_space(struct log *log);

/* Bytes on disk of the entries above `after`, up to `last`: of those that are held and have their place there. */
uint64_t log_bytes_between(const struct log *log, uint64_t after, uint64_t last);
/* Where the longest end of the log begins whose files have no more than `bytes` together; log_last() + 1 if even the
 * newest has more. Trimmed up to before it, the log takes no more than that. */
uint64_t log_first_within(const struct log *log, uint64_t bytes);

struct log_counts {
    uint64_t flushes;             /* completed */
    uint64_t flushed_bytes, flushed_entries;
    uint64_t segments, disk_bytes;
    uint64_t cached_bytes, cached_entries;
    uint64_t reads_from_disk;
};
void log_counts(const struct log *log, struct log_counts *counts);

#endif
