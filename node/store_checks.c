/* store_checks.c — see store_checks.h. One job at a time; it belongs to the worker from submit to done. */
#include "store_checks.h"

#include "base/bug.h"
#include "base/logger.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>

#define FLUSH_INTERVAL_MS 5000

struct store_checks {
    struct disk_job job; /* first: a job is cast back to its checks */
    struct disk_queue queue;
    struct store_checks_calls calls;
    struct store *store;
    struct store_view *view; /* being verified */
    atomic_bool stop;
    bool busy;
    enum status status;      /* of the job */
    uint64_t commits_seen;   /* flushed, or about to be */
    uint64_t flush_ms;       /* no flush before */
};

struct store_checks *store_checks_new(struct disk_queue queue, const struct store_checks_calls *calls)
{
    struct store_checks *checks = memory_zeroed(1, sizeof(*checks));
    checks->queue = queue;
    checks->calls = *calls;
    return checks;
}

void store_checks_stop(struct store_checks *checks)
{
    atomic_store(&checks->stop, true);
}

bool store_checks_busy(const struct store_checks *checks)
{
    return checks->busy;
}

void store_checks_free(struct store_checks *checks)
{
    assert(!checks->busy);
    free(checks);
}

static void submit(struct store_checks *checks, void (*run)(struct disk_job *), void (*done)(struct disk_job *))
{
    checks->busy = true;
    checks->job = (struct disk_job){.run = run, .done = done};
    checks->queue.submit(checks->queue.context, &checks->job);
}

static void report(struct store_checks *checks, const char *why)
{
    store_poison(checks->store, checks->status, why);
    checks->calls.found(checks->calls.context, checks->status, why);
}

/* ---- rule 3: were the rows left as they were committed? ---- */

static void verify_run(struct disk_job *job)
{
    struct store_checks *checks = (struct store_checks *)job;
    checks->status = store_view_verify(checks->view, &checks->stop);
}

static void verify_done(struct disk_job *job)
{
    struct store_checks *checks = (struct store_checks *)job;
    store_view_close(checks->view);
    checks->busy = false;
    if (checks->status == STATUS_OK) {
        store_verified(checks->store);
        log_event(LOG_INFO, "store-verified");
    } else if (checks->status != STATUS_CLOSED) {
        report(checks, "the rows do not have the hash that was committed with them, after a stop without closing");
    }
}

void store_checks_begin(struct store_checks *checks, struct store *store, uint64_t now_ms)
{
    assert(!checks->busy);
    checks->store = store;
    checks->commits_seen = store_commits(store);
    checks->flush_ms = now_ms + FLUSH_INTERVAL_MS;
    if (!store_unclean(store) || bug(BUG_V17_STORE_IS_TRUSTED))
        return;
    checks->status = store_view_open(store, &checks->view);
    if (checks->status == STATUS_OK)
        submit(checks, verify_run, verify_done);
    else
        log_event(LOG_WARNING, "store-not-verified", log_result(checks->status));
}

/* ---- rule 2: has the kernel met an error writing pages back? ---- */

static void flush_run(struct disk_job *job)
{
    struct store_checks *checks = (struct store_checks *)job;
    checks->status = store_sync(checks->store);
}

static void flush_done(struct disk_job *job)
{
    struct store_checks *checks = (struct store_checks *)job;
    checks->busy = false;
    if (checks->status != STATUS_OK)
        report(checks, "what was written before cannot be flushed to the disk");
}

uint64_t store_checks_deadline(const struct store_checks *checks)
{
    bool wanted = !checks->busy && store_commits(checks->store) != checks->commits_seen;
    return wanted ? checks->flush_ms : UINT64_MAX;
}

void store_checks_turn(struct store_checks *checks, uint64_t now_ms)
{
    if (store_checks_deadline(checks) > now_ms)
        return;
    checks->commits_seen = store_commits(checks->store);
    checks->flush_ms = now_ms + FLUSH_INTERVAL_MS;
    submit(checks, flush_run, flush_done);
}
