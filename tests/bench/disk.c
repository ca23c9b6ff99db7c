/* disk.c — see disk.h. */
#include "disk.h"

#include "buffer.h"
#include "histogram.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

enum { FILE_SIZE = 16 * 1024 * 1024 };

/* Written through once, so that no later write changes the file's size or extents: as in a preallocated log. */
static int open_preallocated(const char *directory)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/coterie-bench-XXXXXX", directory);
    int file = mkstemp(path);
    if (file < 0)
        return -1;
    unlink(path);
    uint8_t *zeros = memory_array(FILE_SIZE, 1);
    ssize_t written = pwrite(file, zeros, FILE_SIZE, 0);
    free(zeros);
    if (written != FILE_SIZE || fsync(file) != 0) {
        close(file);
        return -1;
    }
    return file;
}

int disk_run(const struct plan *plan, struct report *report)
{
    struct histogram *flushes = memory_array(1, sizeof(*flushes));
    uint8_t *block = memory_array(plan->block, 1);
    int file = open_preallocated(plan->directory);
    int failed = file < 0;
    uint64_t begin = uv_hrtime(), end = begin + (uint64_t)(plan->seconds * 1e9);
    off_t at = 0;
    for (uint64_t n = 0; !failed && (plan->messages > 0 ? n < plan->messages : uv_hrtime() < end); n++) {
        memset(block, (int)('a' + n % 26), plan->block);
        uint64_t before = uv_hrtime();
        failed = pwrite(file, block, plan->block, at) != (ssize_t)plan->block || fdatasync(file) != 0;
        histogram_record(flushes, uv_hrtime() - before);
        at += (off_t)plan->block;
        if (at + (off_t)plan->block > FILE_SIZE)
            at = 0;
    }
    if (failed) {
        fprintf(stderr, "coterie-bench: cannot write in %s: %s\n", plan->directory, strerror(errno));
    } else {
        report_number(report, "writes", "writes", (double)flushes->count, 0, "");
        report_number(report, "writes_per_s", "writes per second",
                      (double)flushes->count / ((double)(uv_hrtime() - begin) / 1e9), 0, "/s");
        report_latency(report, "flush", "pwrite + fdatasync", flushes);
    }
    if (file >= 0)
        close(file);
    free(block);
    free(flushes);
    return failed ? 3 : 0;
}
