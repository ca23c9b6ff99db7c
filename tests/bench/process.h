/* process.h — what /proc says about the broker's processes, and getrusage() about this one. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct process_usage {
    double cpu_s;      /* user and system time since it started, in steps of 10 ms */
    uint64_t resident; /* bytes */
};

bool process_read(int pid, struct process_usage *usage); /* false: no such process */
double process_own_cpu_s(void);
void process_raise_file_limit(void); /* as many open files as we are allowed */

#endif
