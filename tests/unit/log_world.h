/* log_world.h — a simulated disk, and a log on it. Entry i of term t has a content that only it can have, so that each read
 * is checked. Segments are small: 4 KiB. */
#ifndef COTERIE_LOG_WORLD_H
#define COTERIE_LOG_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "storage/log.h"
#include "tests/sim/world/disk_sim.h"

#define SEGMENT_BYTES 4096
#define FIRST_SEGMENT_NAME "0000000000000001.segment"
#define FIRST_SEGMENT "/log/" FIRST_SEGMENT_NAME

struct world {
    struct disk_sim *sim;
    struct log_options options;
    struct log *log;
    struct log_fault fault;
    uint64_t flushed;            /* what the callback said last */
    enum status flushed_status;
    unsigned callbacks;
};

/* An empty log; for tests that make their disk themselves, world_init() and world_release(). */
int setup(void **state);
int teardown(void **state);
void world_init(struct world *w, struct disk_sim *sim);   /* no log yet: reopen() makes one */
void world_release(struct world *w);                      /* the disk too */
enum status reopen(struct world *w);                      /* a restart, of an open log or of none */

/* ---- entries ---- */
size_t usual_size(uint64_t index);
void append(struct world *w, uint64_t term, unsigned count);                   /* of the usual sizes, not flushed */
void append_sized(struct world *w, uint64_t term, size_t size);                /* one */
void append_and_flush(struct world *w, uint64_t term, unsigned count);
void flush(struct world *w);
void assert_entry(struct world *w, uint64_t index, uint64_t term, size_t size);
void assert_entries(struct world *w, uint64_t from, uint64_t to, uint64_t term);   /* of the usual sizes */

/* ---- files ---- */
size_t file_size(struct world *w, const char *path);
unsigned segment_files(struct world *w);

#endif
