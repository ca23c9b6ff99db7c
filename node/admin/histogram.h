/* histogram.h — how often values of which size were seen: buckets that double, as Prometheus wants them. */
#ifndef COTERIE_HISTOGRAM_H
#define COTERIE_HISTOGRAM_H

#include "base/bytes.h"

#define HISTOGRAM_BUCKETS 26   /* up to 2^25: 33 s in microseconds */

struct histogram {
    uint64_t buckets[HISTOGRAM_BUCKETS];   /* buckets[i]: values in (2^(i-1), 2^i]; the last one takes the rest */
    uint64_t count, sum;
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* Appends it as Prometheus text; values are divided by `unit` (1e6: microseconds become seconds). */
void histogram_write(const struct histogram *histogram, const char *name, const char *help, double unit,
                     struct buffer *out);

#endif
