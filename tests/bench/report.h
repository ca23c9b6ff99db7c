/* report.h — the figures of a run, in order, printed as text or as one flat JSON object. */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "histogram.h"

#include <stdbool.h>

enum { FIGURES_MAX = 96 };

struct figure {
    char key[48];
    const char *label; /* NULL: in JSON only */
    const char *unit;
    double value;
    int decimals;
    char text[160]; /* instead of the value, if not empty */
};

struct report {
    struct figure figures[FIGURES_MAX];
    unsigned count;
};

/* Label and unit are literals; label NULL leaves the figure out of the text. */
void report_number(struct report *report, const char *key, const char *label, double value, int decimals,
                   const char *unit);
void report_text(struct report *report, const char *key, const char *label, const char *text);

/* Percentiles in microseconds, as <key>_p50_us and so on; nothing if the histogram is empty. */
void report_latency(struct report *report, const char *key, const char *label, const struct histogram *histogram);

void report_print(const struct report *report, bool json);

#endif
