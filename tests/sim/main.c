/* main.c — runs seeds and says for each "ok seed N" or "not ok seed N", with the way to see it again.
 *
 *   coterie-sim --seed N [--verbose]          one seed; the same always happens
 *   coterie-sim --from N --count M [--jobs J] [--twice]   many, each in a process of its own; --twice: each must give
 *                                             the same trace two times */

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim.h"

struct options {
    uint64_t from, count;
    unsigned jobs;
    bool verbose, twice;
};

static uint64_t run_once(uint64_t seed, bool verbose, char line[900])
{
    struct sim *sim = sim_new(seed, verbose);
    sim_run(sim);
    struct history_counts counts;
    history_counts(sim->history, &counts);
    uint64_t trace = sim->violation != NULL ? 0 : sim->trace | 1;
    if (sim->violation != NULL)
        snprintf(line, 900, "not ok seed %" PRIu64 ": %s", seed, sim->violation);
    else
        snprintf(line, 900,
                 "ok seed %" PRIu64 ": %u nodes, %u clients, %.0f s, %" PRIu64 " events; %" PRIu64 " published, %" PRIu64
                 " delivered; %" PRIu64 " killed, %" PRIu64 " power losses, %" PRIu64 " wiped, %" PRIu64
                 " partitions, %" PRIu64 " pauses, %" PRIu64 " elections, %" PRIu64 " snapshots installed; trace %016" PRIx64,
                 seed, sim->config.nodes, sim->config.clients, (double)sim_now_us(sim) / 1e6,
                 schedule_count(sim->schedule), counts.published, counts.delivered, sim->crashes, sim->power_losses,
                 sim->wipes, sim->partitions, sim->pauses, sim->elections, sim->installs, trace);
    sim_free(sim);
    return trace;
}

static int run_seed(uint64_t seed, const struct options *options)
{
    char line[900], again[900];
    uint64_t trace = run_once(seed, options->verbose, line);
    if (trace != 0 && options->twice && run_once(seed, false, again) != trace) {
        snprintf(line, sizeof line, "not ok seed %" PRIu64 ": the same seed gave another trace", seed);
        trace = 0;
    }
    puts(line);
    fflush(stdout);
    return trace != 0 ? 0 : 1;
}

static pid_t start_seed(uint64_t seed, const struct options *options)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        exit(run_seed(seed, options));
    return child;
}

static int run_many(const struct options *options)
{
    struct { pid_t pid; uint64_t seed; } running[64] = {0};
    uint64_t next = options->from, end = options->from + options->count;
    unsigned active = 0, failed = 0;
    while (active > 0 || next < end) {
        while (active < options->jobs && next < end) {
            for (unsigned i = 0; i < options->jobs; i++) {
                if (running[i].pid == 0) {
                    running[i].seed = next;
                    running[i].pid = start_seed(next++, options);
                    active++;
                    break;
                }
            }
        }
        int status;
        pid_t pid = wait(&status);
        for (unsigned i = 0; i < options->jobs; i++) {
            if (running[i].pid != pid)
                continue;
            if (WIFSIGNALED(status) || WEXITSTATUS(status) > 1)
                printf("not ok seed %" PRIu64 ": the process ended with %s %d\n", running[i].seed,
                       WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
            if (status != 0) {
                printf("#   again: tests/sim/run --seed %" PRIu64 " --verbose\n", running[i].seed);
                failed++;
            }
            fflush(stdout);
            running[i].pid = 0;
            active--;
        }
    }
    return failed > 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    struct options options = {.from = 1, .count = 1, .jobs = 1};
    bool many = false;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--seed") == 0) {
            options.from = strtoull(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--from") == 0) {
            options.from = strtoull(value, NULL, 10);
            many = true;
            i++;
        } else if (strcmp(argv[i], "--count") == 0) {
            options.count = strtoull(value, NULL, 10);
            many = true;
            i++;
        } else if (strcmp(argv[i], "--jobs") == 0) {
            options.jobs = (unsigned)strtoul(value, NULL, 10);
            i++;
        } else if (strcmp(argv[i], "--verbose") == 0) {
            options.verbose = true;
        } else if (strcmp(argv[i], "--twice") == 0) {
            options.twice = true;
        } else {
            fprintf(stderr, "usage: coterie-sim --seed N [--verbose] | --from N --count M [--jobs J] [--twice]\n");
            return 2;
        }
    }
    if (options.jobs < 1 || options.jobs > 64)
        options.jobs = 1;
    return many ? run_many(&options) : run_seed(options.from, &options);
}
