/* store_checks.h — looks on workers for damage to the store that nobody has told us of: rules 2 and 3 of store_lmdb.c.
 *
 *   something was committed  --every few seconds--> worker: flush         --error----------> found(why)
 *   it was not closed before --once--------------> worker: rows, hashed  --another hash---> found(why)
 *
 * What is found poisons the store first, so that nothing more is read from it and its next opening deletes it. */
#ifndef COTERIE_STORE_CHECKS_H
#define COTERIE_STORE_CHECKS_H

#include "disk.h"
#include "store.h"

struct store_checks;

struct store_checks_calls {
    void *context;
    /* The store is poisoned: stop. On the owner's thread, from a job's `done`. */
    void (*found)(void *context, enum status status, const char *why);
};

struct store_checks *store_checks_new(struct disk_queue queue, const struct store_checks_calls *calls);
/* Tells the job to hurry; free when store_checks_busy() is false. */
void store_checks_stop(struct store_checks *checks);
void store_checks_free(struct store_checks *checks);

/* The store to look after from now on, as it was opened: nothing has been committed to it yet. Not while busy. */
void store_checks_begin(struct store_checks *checks, struct store *store, uint64_t now_ms);
/* Starts what is due. */
void store_checks_turn(struct store_checks *checks, uint64_t now_ms);
/* When there is something to do; UINT64_MAX: not before the next commit. */
uint64_t store_checks_deadline(const struct store_checks *checks);
/* A worker uses the store: it must not be closed. */
bool store_checks_busy(const struct store_checks *checks);

#endif
