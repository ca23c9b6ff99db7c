/* log_metadata.c — term, vote, and the mark beside the log, durable in two files.
 *
 * Always: one of the two holds, whatever a write that fails leaves of the other. So the copy that does not hold, or is
 * older, is written first, and the second only when that has succeeded. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "log_private.h"

static const char *const names[2] = {"metadata-1", "metadata-2"};

/* One copy: STATUS_OK with *metadata, or why not. The file is left open for later writes whenever there is one. */
static enum status load_copy(struct log *log, int i, struct log_metadata *metadata)
{
    char path[DISK_PATH_MAX];
    disk_path(path, log->directory, names[i]);
    enum status status = disk_open(log->options.disk, path, &log->metadata_files[i]);
    if (status != STATUS_OK)
        return status;
    if (disk_size(log->metadata_files[i]) < LOG_METADATA_SIZE)
        return STATUS_CORRUPT;
    uint8_t bytes[LOG_METADATA_SIZE];
    status = disk_read(log->metadata_files[i], 0, bytes, sizeof bytes);
    return status == STATUS_OK ? log_metadata_decode(bytes, metadata) : status;
}

enum status log_metadata_load(struct log *log, struct log_fault *fault)
{
    struct log_metadata copies[2];
    enum status status[2];
    for (int i = 0; i < 2; i++)
        status[i] = load_copy(log, i, &copies[i]);

    for (int i = 0; i < 2; i++) {
        if (status[i] == STATUS_UNSUPPORTED || status[i] == STATUS_IO_ERROR) {
            snprintf(fault->text, sizeof fault->text, "%s/%s: %s", log->directory, names[i],
                     status[i] == STATUS_IO_ERROR ? disk_trouble() : "was written by a newer version");
            return status[i];
        }
    }
    if (status[0] == STATUS_NOT_FOUND && status[1] == STATUS_NOT_FOUND)
        return STATUS_NOT_FOUND;
    if (status[0] != STATUS_OK && status[1] != STATUS_OK) {
        snprintf(fault->text, sizeof fault->text,
                 "%s: neither metadata-1 nor metadata-2 holds; without its term and vote this node must not come back: "
                 "move its log away and replace the node (coterie --replace NUMBER)", log->directory);
        return STATUS_CORRUPT;
    }
    bool second = status[0] != STATUS_OK || (status[1] == STATUS_OK && copies[1].version >= copies[0].version);
    log->metadata = copies[second];
    log->metadata_weaker = !second;
    return STATUS_OK;
}

/* Makes whichever of the two files is missing or too short. */
enum status log_metadata_create(struct log *log)
{
    uint8_t bytes[DISK_SECTOR] = {0};
    log_metadata_encode(&log->metadata, bytes);
    for (int i = 0; i < 2; i++) {
        if (log->metadata_files[i] != NULL && disk_size(log->metadata_files[i]) >= LOG_METADATA_SIZE)
            continue;
        disk_close(log->metadata_files[i]);
        log->metadata_files[i] = NULL;
        enum status status =
            disk_replace_file(log->options.disk, log->directory, names[i], bytes_of(bytes, sizeof bytes));
        if (status != STATUS_OK)
            return status;
        char path[DISK_PATH_MAX];
        disk_path(path, log->directory, names[i]);
        status = disk_open(log->options.disk, path, &log->metadata_files[i]);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

enum status log_metadata_write(struct log *log)
{
    log->metadata.version++;
    log->metadata.mark_sequence = log->mark_sequence;
    log->metadata.mark = log->mark;
    uint8_t bytes[LOG_METADATA_SIZE];
    log_metadata_encode(&log->metadata, bytes);
    for (int n = 0; n < 2; n++) {
        struct disk_file *file = log->metadata_files[n == 0 ? log->metadata_weaker : !log->metadata_weaker];
        enum status status = disk_write(file, 0, bytes, sizeof bytes);
        if (status == STATUS_OK)
            status = disk_sync(file);
        if (status != STATUS_OK) {
            log_fail(log, status, disk_trouble());
            return status;
        }
    }
    return STATUS_OK;
}

uint64_t log_term(const struct log *log)
{
    return log->metadata.term;
}

uint64_t log_vote(const struct log *log)
{
    return log->metadata.vote;
}

uint64_t log_owed(const struct log *log)
{
    return log->metadata.owed;
}

enum status log_set_term(struct log *log, uint64_t term, uint64_t vote)
{
    assert(term >= log->metadata.term);
    if (log->status != STATUS_OK)
        return log->status;
    if (term == log->metadata.term && vote == log->metadata.vote)
        return STATUS_OK;
    log->metadata.term = term;
    log->metadata.vote = vote;
    return log_metadata_write(log);
}
