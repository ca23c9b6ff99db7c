/* snapshots.c — see snapshots.h. A job's struct belongs to the worker from submit to done, and to nobody else. */
#include "snapshots.h"

#include "base/logger.h"
#include "base/memory.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_MAX 16 /* snapshots being read for peers at once */

struct take {
    struct disk_job job;
    struct snapshots *owner;
    struct store_view *view;
    struct snapshot_facts facts;
    struct buffer configuration;
    enum status status;
    bool busy;
};

struct finish {
    struct disk_job job;
    struct snapshots *owner;
    enum status status;
    bool busy;
};

struct restore {
    struct disk_job job;
    struct snapshots *owner;
    uint64_t index;
    char path[DISK_PATH_MAX];
    struct store_options options;
    enum status status;
    bool busy;
};

struct reading {
    uint64_t index;
    unsigned openings;
    struct snapshot *snapshot;
};

struct snapshots {
    char directory[DISK_PATH_MAX];
    uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE];
    struct disk_queue queue;
    struct snapshots_calls calls;
    atomic_bool stop;
    struct take take;
    struct finish finish;
    struct restore restore;
    struct snapshot_incoming *incoming;
    struct reading readings[OPEN_MAX];
};

struct snapshots *snapshots_new(const char *directory, const uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE],
                                struct disk_queue queue, const struct snapshots_calls *calls)
{
    struct snapshots *snapshots = memory_zeroed(1, sizeof(*snapshots));
    assert(strlen(directory) < sizeof(snapshots->directory));
    strcpy(snapshots->directory, directory);
    memcpy(snapshots->cluster_id, cluster_id, SNAPSHOT_CLUSTER_ID_SIZE);
    snapshots->queue = queue;
    snapshots->calls = *calls;
    snapshots->take.owner = snapshots->finish.owner = snapshots->restore.owner = snapshots;
    return snapshots;
}

void snapshots_stop(struct snapshots *snapshots)
{
    atomic_store(&snapshots->stop, true);
}

bool snapshots_busy(const struct snapshots *snapshots)
{
    return snapshots->take.busy || snapshots->finish.busy || snapshots->restore.busy;
}

void snapshots_free(struct snapshots *snapshots)
{
    assert(!snapshots_busy(snapshots));
    for (size_t i = 0; i < OPEN_MAX; i++)
        if (snapshots->readings[i].snapshot != NULL)
            snapshot_close(snapshots->readings[i].snapshot);
    if (snapshots->incoming != NULL)
        snapshot_incoming_close(snapshots->incoming);
    buffer_release(&snapshots->take.configuration);
    free(snapshots);
}

/* ---- taking ---- */

static void take_run(struct disk_job *job)
{
    struct take *take = (struct take *)job;
    take->status = snapshot_write(take->owner->directory, &take->facts, take->view, &take->owner->stop);
}

static void take_done(struct disk_job *job)
{
    struct take *take = (struct take *)job;
    const struct consensus_snapshot taken = {.index = take->facts.index,
                                             .term = take->facts.term,
                                             .configuration_index = take->facts.configuration_index,
                                             .configuration = take->facts.configuration};
    store_view_close(take->view);
    take->busy = false;
    if (take->status == STATUS_OK)
        log_event(LOG_INFO, "snapshot-taken", log_u64("index", taken.index));
    else if (take->status != STATUS_CLOSED)
        log_event(LOG_ERROR, "snapshot-failed", log_u64("index", taken.index), log_result(take->status));
    take->owner->calls.taken(take->owner->calls.context, take->status, &taken);
}

void snapshots_take(struct snapshots *snapshots, struct store *store, const struct snapshot_facts *facts)
{
    struct take *take = &snapshots->take;
    assert(!take->busy);
    enum status status = store_view_open(store, &take->view);
    if (status != STATUS_OK) {
        log_event(LOG_ERROR, "snapshot-failed", log_u64("index", facts->index), log_result(status));
        snapshots->calls.taken(snapshots->calls.context, status, &(struct consensus_snapshot){.index = facts->index});
        return;
    }
    take->facts = *facts;
    buffer_clear(&take->configuration);
    buffer_put_bytes(&take->configuration, facts->configuration);
    take->facts.configuration = buffer_bytes(&take->configuration);
    memcpy(take->facts.cluster_id, snapshots->cluster_id, SNAPSHOT_CLUSTER_ID_SIZE);
    take->busy = true;
    take->job = (struct disk_job){.run = take_run, .done = take_done};
    snapshots->queue.submit(snapshots->queue.context, &take->job);
}

bool snapshots_taking(const struct snapshots *snapshots)
{
    return snapshots->take.busy;
}

/* ---- reading, for peers ---- */

static struct reading *reading_of(struct snapshots *snapshots, uint64_t index)
{
    for (size_t i = 0; i < OPEN_MAX; i++)
        if (snapshots->readings[i].openings > 0 && snapshots->readings[i].index == index)
            return &snapshots->readings[i];
    return NULL;
}

enum status snapshots_open(struct snapshots *snapshots, uint64_t index, uint64_t *size)
{
    struct reading *reading = reading_of(snapshots, index);
    for (size_t i = 0; reading == NULL && i < OPEN_MAX; i++) {
        struct reading *empty = &snapshots->readings[i];
        if (empty->openings > 0)
            continue;
        enum status status = snapshot_open(snapshots->directory, index, &empty->snapshot);
        if (status != STATUS_OK)
            return status;
        empty->index = index;
        reading = empty;
    }
    if (reading == NULL)
        return STATUS_FULL;
    reading->openings++;
    *size = snapshot_size(reading->snapshot);
    return STATUS_OK;
}

enum status snapshots_read(struct snapshots *snapshots, uint64_t index, uint64_t offset, void *data, size_t size)
{
    struct reading *reading = reading_of(snapshots, index);
    size_t got = 0;
    if (reading == NULL)
        return STATUS_NOT_FOUND;
    enum status status = snapshot_read(reading->snapshot, offset, data, size, &got);
    return status == STATUS_OK && got != size ? STATUS_CORRUPT : status;
}

void snapshots_close(struct snapshots *snapshots, uint64_t index)
{
    struct reading *reading = reading_of(snapshots, index);
    if (reading == NULL || --reading->openings > 0)
        return;
    snapshot_close(reading->snapshot);
    *reading = (struct reading){0};
}

/* ---- receiving ---- */

static void incoming_close(struct snapshots *snapshots)
{
    if (snapshots->incoming != NULL)
        snapshot_incoming_close(snapshots->incoming);
    snapshots->incoming = NULL;
}

enum status snapshots_incoming_open(struct snapshots *snapshots)
{
    if (snapshots->finish.busy)
        return STATUS_BUSY;
    incoming_close(snapshots);
    enum status status = snapshot_incoming_open(snapshots->directory, &snapshots->incoming);
    if (status != STATUS_OK)
        log_event(LOG_ERROR, "snapshot-not-received", log_result(status), log_text("why", disk_trouble()));
    return status;
}

enum status snapshots_incoming_write(struct snapshots *snapshots, uint64_t offset, struct bytes chunk)
{
    if (snapshots->incoming == NULL || snapshots->finish.busy)
        return STATUS_NOT_FOUND;
    return snapshot_incoming_write(snapshots->incoming, offset, chunk);
}

static void finish_run(struct disk_job *job)
{
    struct finish *finish = (struct finish *)job;
    struct snapshots *snapshots = finish->owner;
    finish->status = snapshot_incoming_finish(snapshots->incoming, snapshots->cluster_id, &snapshots->stop, NULL);
}

static void finish_done(struct disk_job *job)
{
    struct finish *finish = (struct finish *)job;
    finish->busy = false;
    if (finish->status == STATUS_OK)
        log_event(LOG_INFO, "snapshot-received", log_u64("bytes", snapshot_incoming_size(finish->owner->incoming)));
    else
        log_event(LOG_ERROR, "snapshot-not-received", log_result(finish->status));
    incoming_close(finish->owner);
    finish->owner->calls.received(finish->owner->calls.context, finish->status);
}

void snapshots_incoming_finish(struct snapshots *snapshots)
{
    struct finish *finish = &snapshots->finish;
    assert(snapshots->incoming != NULL && !finish->busy);
    finish->busy = true;
    finish->job = (struct disk_job){.run = finish_run, .done = finish_done};
    snapshots->queue.submit(snapshots->queue.context, &finish->job);
}

/* ---- restoring ---- */

static void restore_run(struct disk_job *job)
{
    struct restore *restore = (struct restore *)job;
    struct snapshot *snapshot;
    restore->status = snapshot_open(restore->owner->directory, restore->index, &snapshot);
    if (restore->status != STATUS_OK)
        return;
    restore->status = snapshot_restore(snapshot, &restore->options, &restore->owner->stop);
    snapshot_close(snapshot);
}

static void restore_done(struct disk_job *job)
{
    struct restore *restore = (struct restore *)job;
    restore->busy = false;
    restore->owner->calls.restored(restore->owner->calls.context, restore->status, restore->index);
}

void snapshots_restore(struct snapshots *snapshots, uint64_t index, const struct store_options *options)
{
    struct restore *restore = &snapshots->restore;
    assert(!restore->busy && strlen(options->path) < sizeof(restore->path));
    strcpy(restore->path, options->path);
    restore->options = *options;
    restore->options.path = restore->path;
    restore->index = index;
    restore->busy = true;
    restore->job = (struct disk_job){.run = restore_run, .done = restore_done};
    snapshots->queue.submit(snapshots->queue.context, &restore->job);
}
