/* hashes.h — compares the state hashes that nodes report for the same log index (G10). */
#ifndef COTERIE_HASHES_H
#define COTERIE_HASHES_H

#include <stdbool.h>
#include <stdint.h>

#define HASHES_KEPT 64      /* checkpoints; older ones are forgotten */
#define HASHES_NODES 64

struct hashes_row {
    uint64_t index;                       /* 0 = free */
    uint64_t reported;                    /* bit per node */
    uint64_t hash[HASHES_NODES][2];
};

struct hashes {
    struct hashes_row rows[HASHES_KEPT];  /* in no order: a new index replaces the oldest */
};

enum hashes_verdict {
    HASHES_OPEN,        /* no majority agrees yet, or all who reported do */
    HASHES_OTHER,       /* a majority agrees with us; *differing says who does not */
    HASHES_SELF,        /* a majority agrees, and not with us: our state is wrong */
};

/* A report. `voters`: bit per node; the majority is counted among them. */
enum hashes_verdict hashes_add(struct hashes *hashes, uint64_t index, uint32_t node, const uint64_t hash[2],
                               uint32_t self, uint64_t voters, uint64_t *differing);

#endif
