/* ledger.h — who was promised what, and what arrived: loss, repetition and order, exact to the message.
 *
 * Every publisher numbers its messages 0, 1, 2, ... and spreads them over `stride` topics in turn: number n goes to its
 * topic n % stride, as the (n / stride)-th message there. The publisher keeps a set of the numbers that the broker
 * acknowledged. Each subscriber keeps one track per publisher of its topic: which of those have arrived, and the
 * highest.
 *
 *   lost         acknowledged, and not delivered when all is drained
 *   repeated     delivered before
 *   out of order a first delivery below a number that had already arrived from this publisher */
#ifndef BENCH_LEDGER_H
#define BENCH_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A set of small integers, one bit each. Zero-initialised is empty and valid. */
struct numbers {
    uint64_t *words;
    size_t word_count;
};

void numbers_release(struct numbers *numbers);
bool numbers_add(struct numbers *numbers, uint64_t n);    /* true if it was not there */
bool numbers_remove(struct numbers *numbers, uint64_t n); /* true if it was there */
bool numbers_have(const struct numbers *numbers, uint64_t n);
void numbers_clear(struct numbers *numbers);

/* What one subscriber got of one publisher. Zero-initialised is "nothing yet". */
struct track {
    struct numbers delivered;
    uint64_t above; /* one more than the highest that arrived */
};

enum arrival { ARRIVAL_IN_ORDER, ARRIVAL_OUT_OF_ORDER, ARRIVAL_REPEATED };

enum arrival track_deliver(struct track *track, uint64_t place);

/* How many of the acknowledged numbers n with n % stride == offset are missing at place n / stride of the track;
 * *first is the first such number, untouched if there is none. */
uint64_t ledger_lost(const struct numbers *acknowledged, uint64_t stride, uint64_t offset, const struct track *track,
                     uint64_t *first);

#endif
