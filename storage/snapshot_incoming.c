/* snapshot_incoming.c — a snapshot file that arrives in chunks from a peer.
 *
 *   chunks, in order → snapshot.incoming → fsync → verified like our own → rename
 *
 * Until it has its name it is nothing: a crash leaves a temporary file that the next transfer overwrites. */
#include "snapshot_files.h"

#include "base/logger.h"
#include "base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct snapshot_incoming {
    int fd;
    uint64_t size;
    bool finished;               /* it has its name */
    char directory[SNAPSHOT_PATH_SIZE];
    char path[SNAPSHOT_PATH_SIZE];
};

enum status snapshot_incoming_open(const char *directory, struct snapshot_incoming **incoming)
{
    struct snapshot_incoming *opened = memory_zeroed(1, sizeof *opened);
    enum status status = snapshot_create(directory, SNAPSHOT_INCOMING, &opened->fd);

    if (status != STATUS_OK) {
        free(opened);
        return status;
    }
    snprintf(opened->directory, sizeof opened->directory, "%s", directory);
    snapshot_path(opened->path, directory, SNAPSHOT_INCOMING);
    *incoming = opened;
    return STATUS_OK;
}

enum status snapshot_incoming_write(struct snapshot_incoming *incoming, uint64_t offset, struct bytes chunk)
{
    if (offset != incoming->size)
        return STATUS_INVALID;
    for (size_t done = 0; done < chunk.size;) {
        ssize_t size = pwrite(incoming->fd, chunk.data + done, chunk.size - done, (off_t)(offset + done));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return snapshot_report(incoming->path, "writing a snapshot from a peer");
        done += (size_t)size;
    }
    incoming->size += chunk.size;
    return STATUS_OK;
}

uint64_t snapshot_incoming_size(const struct snapshot_incoming *incoming)
{
    return incoming->size;
}

static enum status check(struct snapshot *snapshot, const uint8_t *cluster_id, const atomic_bool *stop)
{
    if (memcmp(snapshot_facts(snapshot)->cluster_id, cluster_id, SNAPSHOT_CLUSTER_ID_SIZE) != 0)
        return STATUS_INVALID;
    return snapshot_verify(snapshot, stop);
}

enum status snapshot_incoming_finish(struct snapshot_incoming *incoming,
                                     const uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE], const atomic_bool *stop,
                                     struct snapshot **snapshot)
{
    struct snapshot *opened;
    const struct snapshot_facts *facts;
    enum status status = snapshot_flush(incoming->fd, incoming->path);

    if (status == STATUS_OK)
        status = snapshot_open_path(incoming->path, &opened);
    if (status != STATUS_OK)
        return status;
    facts = snapshot_facts(opened);
    status = check(opened, cluster_id, stop);
    if (status == STATUS_OK)
        status = snapshot_publish(incoming->directory, SNAPSHOT_INCOMING,
                                  (struct snapshot_name){facts->index, facts->term});
    incoming->finished = status == STATUS_OK;
    if (status == STATUS_OK && snapshot != NULL)
        *snapshot = opened;
    else
        snapshot_close(opened);
    return status;
}

void snapshot_incoming_close(struct snapshot_incoming *incoming)
{
    close(incoming->fd);
    if (!incoming->finished)
        unlink(incoming->path);
    free(incoming);
}
