/* disk.h — what the disk itself takes: the floor under every acknowledgement that promises durability. */
#ifndef BENCH_DISK_H
#define BENCH_DISK_H

#include "plan.h"
#include "report.h"

/* Writes blocks one after the other into a preallocated file in plan->directory, each with pwrite + fdatasync, for
 * plan->seconds or plan->messages times. The file is removed. Returns the exit status of the program. */
int disk_run(const struct plan *plan, struct report *report);

#endif
