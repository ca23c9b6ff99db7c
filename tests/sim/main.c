/* main.c — runs seeds and says for each "ok seed N" or "not ok seed N", with the way to see it again.
 *
 *   coterie-sim --seed N [--set NAME=VALUE]... [--verbose]   one seed; the same always happens
 *   coterie-sim --from N --count M [options]                 many, each in a process of its own
 *
 *     --jobs J      so many at once                --seconds S   no new seed after so long
 *     --twice       each must give the same trace two times
 *     --stop        no new seed after the first that fails
 *     --coverage    at the end: how often each kind of fault met each phase of the protocol
 *     --quiet       only what fails, and the end
 *     --config      prints the configuration that a seed draws, and runs nothing
 *
 * After a signal (Ctrl-C) no new seed is begun. The last line of --from is for programs:
 * "# result seeds=12 failed=1 first=1007 caught-after=8 hours=0.42 cpu-minutes=0.02" (first: the first seed that failed, as
 * they ended; caught-after: how many had ended by then, with it). Exit status: 0 if all are well, 1 if one failed, 2 for a
 * wrong command line. */

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

#define JOBS_MAX 64
#define SETTINGS_MAX 64
#define LINE_BYTES 1000

struct options {
    uint64_t from, count, seconds;
    unsigned jobs;
    bool many, verbose, twice, stop, coverage, quiet, config;
    const char *settings[SETTINGS_MAX];
    unsigned setting_count;
};

/* ---- one seed ---- */

static void draw(uint64_t seed, const struct options *options, struct sim_config *config)
{
    config_draw(config, seed);
    for (unsigned i = 0; i < options->setting_count; i++)
        config_set(config, options->settings[i]);
}

static void describe(const struct sim *sim, uint64_t trace, char line[LINE_BYTES])
{
    const struct sim_counts *counts = &sim->counts;
    struct history_counts seen;
    history_counts(sim->history, &seen);
    if (sim->violation != NULL)
        snprintf(line, LINE_BYTES, "not ok seed %" PRIu64 ": %s", sim->seed, sim->violation);
    else
        snprintf(line, LINE_BYTES,
                 "ok seed %" PRIu64 ": %u nodes, %u clients, %.0f s, %" PRIu64 " events; %" PRIu64 " published, %" PRIu64
                 " delivered; %" PRIu64 " faults: %" PRIu64 " kills, %" PRIu64 " power losses, %" PRIu64 " wipes, %" PRIu64
                 " partitions, %" PRIu64 " pauses, %" PRIu64 " of disks; %" PRIu64 " elections, %" PRIu64
                 " snapshots installed; trace %016" PRIx64,
                 sim->seed, (unsigned)sim->config.nodes, (unsigned)sim->config.clients, (double)sim_now_us(sim) / 1e6,
                 schedule_count(sim->schedule), seen.published, seen.delivered, counts->faults, counts->kills,
                 counts->power_losses, counts->wipes, counts->partitions, counts->pauses, counts->disk_faults,
                 counts->elections, counts->installs, trace);
}

static void add_to(uint64_t *total, uint64_t more)
{
    __atomic_fetch_add(total, more, __ATOMIC_RELAXED);
}

static void add_totals(const struct sim *sim)
{
    struct coverage *coverage = sim->coverage;
    struct history_counts seen;
    history_counts(sim->history, &seen);
    add_to(&coverage->runs, 1);
    add_to(&coverage->events, schedule_count(sim->schedule));
    add_to(&coverage->simulated_us, sim_now_us(sim));
    add_to(&coverage->published, seen.published);
    add_to(&coverage->delivered, seen.delivered);
    add_to(&coverage->repeated, seen.repeated);
    add_to(&coverage->faults, sim->counts.faults);
    add_to(&coverage->elections, sim->counts.elections);
    add_to(&coverage->installs, sim->counts.installs);
}

/* Returns the trace, 0 after a violation. */
static uint64_t run_once(uint64_t seed, const struct options *options, struct coverage *coverage, char line[LINE_BYTES])
{
    struct sim_config config;
    draw(seed, options, &config);
    struct sim *sim = sim_new(seed, &config, coverage, options->verbose);
    sim_run(sim);
    uint64_t trace = sim->violation != NULL ? 0 : sim->trace | 1;
    describe(sim, trace, line);
    add_totals(sim);
    sim_free(sim);
    return trace;
}

static int run_seed(uint64_t seed, const struct options *options, struct coverage *coverage)
{
    char line[LINE_BYTES], again[LINE_BYTES];
    uint64_t trace = run_once(seed, options, coverage, line);
    if (trace != 0 && options->twice && run_once(seed, options, coverage, again) != trace) {
        snprintf(line, sizeof line, "not ok seed %" PRIu64 ": the same seed gave another trace", seed);
        trace = 0;
    }
    if (trace == 0 || !options->quiet)
        puts(line);
    fflush(stdout);
    return trace != 0 ? 0 : 1;
}

static void print_field(void *context, const char *name, uint64_t value)
{
    (void)context;
    printf("%s=%" PRIu64 "\n", name, value);
}

/* ---- many ---- */

struct fleet {
    const struct options *options;
    struct coverage *coverage;
    struct { pid_t pid; uint64_t seed; } running[JOBS_MAX];
    uint64_t next, ended, failed, first, caught_after;
    unsigned active;
};

static void start_seed(struct fleet *fleet)
{
    unsigned slot = 0;
    while (fleet->running[slot].pid != 0)
        slot++;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_DFL);
        exit(run_seed(fleet->next, fleet->options, fleet->coverage));
    }
    fleet->running[slot].pid = child;
    fleet->running[slot].seed = fleet->next++;
    fleet->active++;
}

static void print_again(const struct options *options, uint64_t seed)
{
    printf("#   again: tests/sim/run --seed %" PRIu64, seed);
    for (unsigned i = 0; i < options->setting_count; i++)
        printf(" --set %s", options->settings[i]);
    printf(" --verbose\n#   reduce: tests/sim/reduce %" PRIu64 "\n", seed);
}

static void await_seed(struct fleet *fleet)
{
    int status;
    pid_t pid = wait(&status);
    if (pid < 0)
        return; /* a signal: to be looked at first */
    unsigned slot = 0;
    while (fleet->running[slot].pid != pid)
        slot++;
    uint64_t seed = fleet->running[slot].seed;
    fleet->running[slot].pid = 0;
    fleet->active--;
    fleet->ended++;
    if (status == 0)
        return;
    if (WIFSIGNALED(status) || WEXITSTATUS(status) > 1)
        printf("not ok seed %" PRIu64 ": the process ended with %s %d\n", seed, WIFSIGNALED(status) ? "signal" : "status",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    print_again(fleet->options, seed);
    if (fleet->failed++ == 0) {
        fleet->first = seed;
        fleet->caught_after = fleet->ended;
    }
    fflush(stdout);
}

static void print_result(const struct fleet *fleet)
{
    const struct coverage *total = fleet->coverage;
    struct rusage usage;
    getrusage(RUSAGE_CHILDREN, &usage);
    double hours = (double)total->simulated_us / 3.6e9;
    double minutes = ((double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
                      (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6) / 60;
    printf("# %.2f simulated hours in %.2f minutes of a core, %.1f hours per minute: %" PRIu64 " events, %" PRIu64
           " published, %" PRIu64 " delivered, %" PRIu64 " faults, %" PRIu64 " elections, %" PRIu64 " snapshots installed\n",
           hours, minutes, minutes > 0 ? hours / minutes : 0, total->events, total->published, total->delivered, total->faults,
           total->elections, total->installs);
    if (fleet->options->coverage)
        coverage_print(total, stdout);
    printf("# result seeds=%" PRIu64 " failed=%" PRIu64 " first=%" PRIu64 " caught-after=%" PRIu64
           " hours=%.3f cpu-minutes=%.3f\n",
           fleet->ended, fleet->failed, fleet->first, fleet->caught_after, hours, minutes);
}

static volatile sig_atomic_t stopped;

static void stop(int signal_number)
{
    (void)signal_number;
    stopped = 1;
}

/* SIGINT and SIGTERM: those that run may end, then the result is told. */
static int run_many(const struct options *options)
{
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct fleet fleet = {.options = options, .coverage = coverage_new(), .next = options->from};
    uint64_t end = options->from + options->count;
    time_t until = time(NULL) + (time_t)options->seconds;
    for (;;) {
        bool more = fleet.next < end && !stopped && !(options->stop && fleet.failed > 0) && (options->seconds == 0 || time(NULL) < until);
        if (more && fleet.active < options->jobs)
            start_seed(&fleet);
        else if (fleet.active > 0)
            await_seed(&fleet);
        else
            break;
    }
    print_result(&fleet);
    return fleet.failed > 0 ? 1 : 0;
}

/* ---- command line ---- */

static bool set_flag(struct options *options, const char *name)
{
    const struct {
        const char *name;
        bool *flag;
    } flags[] = {
        {"--verbose", &options->verbose}, {"--twice", &options->twice},   {"--stop", &options->stop},
        {"--coverage", &options->coverage}, {"--quiet", &options->quiet}, {"--config", &options->config},
    };
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(flags[i].name, name) == 0) {
            *flags[i].flag = true;
            return true;
        }
    }
    return false;
}

static bool set_value(struct options *options, const char *name, const char *value)
{
    struct sim_config scratch = {0};
    uint64_t number = strtoull(value, NULL, 10);
    options->many = options->many || strcmp(name, "--from") == 0 || strcmp(name, "--count") == 0;
    if (strcmp(name, "--seed") == 0 || strcmp(name, "--from") == 0)
        options->from = number;
    else if (strcmp(name, "--count") == 0)
        options->count = number;
    else if (strcmp(name, "--seconds") == 0)
        options->seconds = number;
    else if (strcmp(name, "--jobs") == 0)
        options->jobs = number < 1 || number > JOBS_MAX ? 1 : (unsigned)number;
    else if (strcmp(name, "--set") == 0 && options->setting_count < SETTINGS_MAX && config_set(&scratch, value))
        options->settings[options->setting_count++] = value;
    else
        return false;
    return true;
}

int main(int argc, char **argv)
{
    struct options options = {.from = 1, .count = 1, .jobs = 1};
    for (int i = 1; i < argc; i++) {
        if (set_flag(&options, argv[i]))
            continue;
        if (i + 1 == argc || !set_value(&options, argv[i], argv[i + 1])) {
            fprintf(stderr, "usage: coterie-sim --seed N | --from N --count M, and options: see tests/sim/main.c\n");
            return 2;
        }
        i++;
    }
    if (options.config) {
        struct sim_config config;
        draw(options.from, &options, &config);
        config_each(&config, print_field, NULL);
        return 0;
    }
    return options.many ? run_many(&options) : run_seed(options.from, &options, coverage_new());
}
