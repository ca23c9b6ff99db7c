/* disk_sim.h — a disk in memory with the faults of real ones, driven by virtual time and a seed.
 *
 * Every file has two contents: what the running system sees, and what is on the platter. A sync copies the first over
 * the second; a crash does the opposite, after deciding by the seed, for each 512-byte sector written since the last
 * sync, whether it made it to the platter (all, none, or any subset: torn and reordered writes). Names likewise: what
 * disk_sync_directory did not confirm may or may not be there after a crash.
 *
 * Jobs run when their time has come (disk_sim_run). A job that is out at a crash stops in the middle, at a random call.
 *
 * Same seed and same calls: same result. */
#ifndef COTERIE_DISK_SIM_H
#define COTERIE_DISK_SIM_H

#include "storage/disk.h"

struct disk_sim;

struct disk_sim_options {
    uint64_t seed;
    uint64_t capacity;           /* bytes of all files together; more is STATUS_NO_SPACE. 0 = no limit */
    uint64_t job_us_min;         /* how long a job takes: drawn evenly from min to max */
    uint64_t job_us_max;
    unsigned tail_permille;      /* of jobs take fifty times as long */
    bool cut_inside_sectors;     /* a crash may leave the first part of a sector only. Real disks promise not to */
};

struct disk_sim *disk_sim_new(const struct disk_sim_options *options);
void disk_sim_free(struct disk_sim *sim);           /* all files must be closed or forgotten by a crash */
struct disk *disk_sim_disk(struct disk_sim *sim);

/* ---- jobs and time ---- */

/* A disk_queue whose jobs are run by disk_sim_run. */
struct disk_queue disk_sim_queue(struct disk_sim *sim);
/* The time at which the next job ends; UINT64_MAX: none is out, or all hang. */
uint64_t disk_sim_next_us(const struct disk_sim *sim);
/* Runs and finishes, in order of time, all jobs that end at or before `now_us`, those submitted meanwhile too. */
void disk_sim_run(struct disk_sim *sim, uint64_t now_us);
/* Runs all that is out, whatever the time. For tests without a clock. */
void disk_sim_run_all(struct disk_sim *sim);

/* ---- faults ---- */

/* Power loss: unsynced sectors and names are decided by the seed; jobs that are out stop in the middle and are forgotten
 * (never `done`); open files are gone: their owners must not touch them again, but for disk_close(). */
void disk_sim_crash(struct disk_sim *sim);
/* The process dies, the machine lives: as a crash, but all that was written stays. */
void disk_sim_kill(struct disk_sim *sim);

enum disk_sim_call {
    DISK_SIM_CREATE, DISK_SIM_READ, DISK_SIM_WRITE, DISK_SIM_SYNC, DISK_SIM_SYNC_DIRECTORY, DISK_SIM_RENAME,
    DISK_SIM_UNLINK, DISK_SIM_CALLS
};
/* The call of this kind after `skip` more of them fails with `status` (and so do all later ones if `for_ever`). A write
 * that fails has written a part; a sync that fails has dropped part of the unsynced sectors, as Linux does. */
void disk_sim_fail(struct disk_sim *sim, enum disk_sim_call call, uint64_t skip, enum status status, bool for_ever);
void disk_sim_heal(struct disk_sim *sim);
void disk_sim_set_capacity(struct disk_sim *sim, uint64_t capacity);
/* From now on there is room for `left` more bytes. */
void disk_sim_fill(struct disk_sim *sim, uint64_t left);
void disk_sim_set_speed(struct disk_sim *sim, uint64_t job_us_min, uint64_t job_us_max);
/* While hung no job ends; what is out then ends a while after it is let go. */
void disk_sim_hang(struct disk_sim *sim, bool hung);

/* Rot: flips bits of a byte, on the platter and in what is seen. */
void disk_sim_flip(struct disk_sim *sim, const char *path, uint64_t offset, uint8_t mask);
/* A random bit of a random file whose path begins with `prefix`. false: there is none with content. */
bool disk_sim_flip_random(struct disk_sim *sim, const char *prefix);
/* A write that went to the wrong place: a random sector of such a file now holds what another one of it holds. */
bool disk_sim_misdirect_random(struct disk_sim *sim, const char *prefix);

/* ---- looking at it ---- */

struct bytes disk_sim_content(struct disk_sim *sim, const char *path);    /* as seen; empty if there is no such file */
/* Puts a file there, durable: to build a state for a test. */
void disk_sim_put(struct disk_sim *sim, const char *path, struct bytes content);
/* A copy of all that is on the platter, as a disk of its own. */
struct disk_sim *disk_sim_copy(const struct disk_sim *sim, uint64_t seed);
/* Paths of all files that begin with `prefix`, sorted. */
void disk_sim_list(struct disk_sim *sim, const char *prefix, disk_name_callback *callback, void *context);

struct disk_sim_counts {
    uint64_t calls[DISK_SIM_CALLS];
    uint64_t bytes_written;
    uint64_t sectors_lost, sectors_cut;    /* by crashes */
};
void disk_sim_counts(const struct disk_sim *sim, struct disk_sim_counts *counts);

#endif
