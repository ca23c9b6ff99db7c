#include "histogram.h"

#include <stdio.h>
#include <string.h>

void histogram_add(struct histogram *histogram, uint64_t value)
{
    unsigned bucket = value <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(value - 1);
    histogram->buckets[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
    histogram->count++;
    histogram->sum += value;
}

static void put_line(struct buffer *out, const char *line)
{
    buffer_put(out, line, strlen(line));
}

void histogram_write(const struct histogram *histogram, const char *name, const char *help, double unit,
                     struct buffer *out)
{
    char line[256];
    uint64_t below = 0;
    snprintf(line, sizeof(line), "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
    put_line(out, line);
    for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        below += histogram->buckets[i];
        snprintf(line, sizeof(line), "%s_bucket{le=\"%.9g\"} %llu\n", name, (double)(1ull << i) / unit,
                 (unsigned long long)below);
        put_line(out, line);
    }
    snprintf(line, sizeof(line), "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9g\n%s_count %llu\n", name,
             (unsigned long long)histogram->count, name, (double)histogram->sum / unit, name,
             (unsigned long long)histogram->count);
    put_line(out, line);
}
