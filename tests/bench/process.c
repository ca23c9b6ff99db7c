/* process.c — see process.h. */
#include "process.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static bool read_file(int pid, const char *name, char *text, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    size_t got = fread(text, 1, size - 1, file);
    text[got] = '\0';
    fclose(file);
    return got > 0;
}

bool process_read(int pid, struct process_usage *usage)
{
    char text[1024];
    unsigned long user, system, resident;
    if (!read_file(pid, "stat", text, sizeof(text)))
        return false;
    const char *after_name = strrchr(text, ')'); /* the name may contain anything */
    if (after_name == NULL ||
        sscanf(after_name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return false;
    if (!read_file(pid, "statm", text, sizeof(text)) || sscanf(text, "%*u %lu", &resident) != 1)
        return false;
    usage->cpu_s = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    usage->resident = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
    return true;
}

double process_own_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void process_raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}
