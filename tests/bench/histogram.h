/* histogram.h — counts of durations in log-linear buckets (as HdrHistogram does): 128 per power of two, so that a
 * percentile is at most 0.8 % above the truth, from 1 ns to centuries, in 58 KiB and a few ns per value. */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB_BITS = 7, HISTOGRAM_BUCKETS = (64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS };

/* Zero-initialised is empty and valid. */
struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_record(struct histogram *histogram, uint64_t value);
void histogram_add(struct histogram *to, const struct histogram *from);

/* The value that `percent` of all values do not exceed (the upper end of its bucket); 0 if there are none. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
