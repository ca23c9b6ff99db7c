/* snapshot.c — writing a snapshot from a view, and reading it back. The format is in snapshot_format.h.
 *
 *   view → rows frames → snapshot.writing → fsync → walk: every checksum, every row, the hash → rename
 *
 * One function, walk(), reads all of a file; verifying, loading and restoring differ only in what they do with a row. */
#include "snapshot_files.h"
#include "snapshot_format.h"

#include "base/bug.h"
#include "base/logger.h"
#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WRITE_BEHIND_BYTES (4u << 20) /* the kernel starts to write so early that the last flush has little left */
#define LOAD_COMMIT_ROWS 10000

static bool stopped(const atomic_bool *stop)
{
    return stop != NULL && atomic_load(stop);
}

/* ---- writing ---- */

struct writer {
    int fd;
    char path[SNAPSHOT_PATH_SIZE];
    uint64_t offset, behind;     /* written; handed to the disk */
    uint64_t chain;
    struct buffer frame;
    uint64_t rows;
};

static enum status write_frame(struct writer *writer)
{
    frame_finish(&writer->frame, &writer->chain);
    for (size_t done = 0; done < writer->frame.size;) {
        ssize_t size = pwrite(writer->fd, writer->frame.data + done, writer->frame.size - done,
                              (off_t)(writer->offset + done));
        if (size < 0 && errno == EINTR)
            continue;
        if (size < 0)
            return snapshot_report(writer->path, "writing a snapshot");
        done += (size_t)size;
    }
    writer->offset += writer->frame.size;
    if (writer->offset - writer->behind >= WRITE_BEHIND_BYTES) {
        sync_file_range(writer->fd, (off_t)writer->behind, (off_t)(writer->offset - writer->behind),
                        SYNC_FILE_RANGE_WRITE);
        writer->behind = writer->offset;
    }
    return STATUS_OK;
}

static enum status write_table(struct writer *writer, struct store_view *view, enum table table,
                               const atomic_bool *stop)
{
    struct row row = {0};
    enum status status = STATUS_OK;
    bool open = false;

    while (status == STATUS_OK && store_view_next(view, table, row.key, &row)) {
        if (!open) {
            frame_begin(&writer->frame, FRAME_ROWS);
            buffer_put_u8(&writer->frame, (uint8_t)table);
            open = true;
        }
        buffer_put_block(&writer->frame, row.key);
        buffer_put_block(&writer->frame, row.value);
        writer->rows++;
        if (writer->frame.size < ROWS_FRAME_BYTES)
            continue;
        status = stopped(stop) ? STATUS_CLOSED : write_frame(writer);
        open = false;
    }
    if (status == STATUS_OK && open)
        status = write_frame(writer);
    return status;
}

static enum status write_all(struct writer *writer, const struct snapshot_facts *facts, struct store_view *view,
                             const atomic_bool *stop)
{
    enum status status;

    frame_begin(&writer->frame, FRAME_HEADER);
    snapshot_header_encode(facts, &writer->frame);
    status = write_frame(writer);
    for (unsigned table = 0; status == STATUS_OK && table < TABLE_COUNT; table++)
        status = stopped(stop) ? STATUS_CLOSED : write_table(writer, view, (enum table)table, stop);
    if (status != STATUS_OK)
        return status;
    frame_begin(&writer->frame, FRAME_END);
    buffer_put_u64(&writer->frame, writer->rows);
    status = write_frame(writer);
    return status == STATUS_OK ? snapshot_flush(writer->fd, writer->path) : status;
}

static enum status verify_path(const char *path, const atomic_bool *stop)
{
    struct snapshot *snapshot;
    enum status status = snapshot_open_path(path, &snapshot);

    if (status != STATUS_OK)
        return status;
    status = snapshot_verify(snapshot, stop);
    snapshot_close(snapshot);
    return status;
}

enum status snapshot_write(const char *directory, const struct snapshot_facts *facts, struct store_view *view,
                           const atomic_bool *stop)
{
    struct writer *writer = memory_zeroed(1, sizeof *writer);
    struct snapshot_facts complete = *facts;
    enum status status = snapshot_create(directory, SNAPSHOT_WRITING, &writer->fd);

    if (status != STATUS_OK)
        goto free_writer;
    snapshot_path(writer->path, directory, SNAPSHOT_WRITING);
    store_view_hash(view, complete.hash);
    status = write_all(writer, &complete, view, stop);
    close(writer->fd);
    if (status == STATUS_OK)
        status = verify_path(writer->path, stop);
    if (status == STATUS_OK)
        status = snapshot_publish(directory, SNAPSHOT_WRITING, (struct snapshot_name){facts->index, facts->term});
    if (status != STATUS_OK)
        unlink(writer->path);
    buffer_release(&writer->frame);
free_writer:
    free(writer);
    return status;
}

/* ---- reading ---- */

struct snapshot {
    int fd;
    uint64_t size;
    struct snapshot_facts facts; /* borrows from header */
    struct buffer header;        /* the first frame */
    char path[SNAPSHOT_PATH_SIZE];
};

/* Reads frames one after the other. */
struct source {
    struct snapshot *snapshot;
    uint64_t offset;
    uint64_t chain;
    struct buffer frame;
};

static enum status read_exactly(struct snapshot *snapshot, uint64_t offset, uint8_t *out, size_t size)
{
    size_t got;
    enum status status = snapshot_read(snapshot, offset, out, size, &got);

    return status != STATUS_OK ? status : got == size ? STATUS_OK : STATUS_CORRUPT;
}

/* Reads the next frame; *payload lives until the next call. */
static enum status read_frame(struct source *source, enum frame_kind *kind, struct bytes *payload)
{
    struct buffer *frame = &source->frame;
    size_t payload_size, rest;
    enum status status;

    buffer_clear(frame);
    buffer_reserve(frame, FRAME_HEAD_SIZE);
    status = read_exactly(source->snapshot, source->offset, frame->data, FRAME_HEAD_SIZE);
    if (status != STATUS_OK)
        return status;
    frame->size = FRAME_HEAD_SIZE;
    if (!frame_head(buffer_bytes(frame), kind, &payload_size))
        return STATUS_CORRUPT;
    rest = payload_size + FRAME_CHECKSUM_SIZE;
    if (rest > source->snapshot->size - source->offset - FRAME_HEAD_SIZE)
        return STATUS_CORRUPT; /* before memory is taken for it */
    buffer_reserve(frame, rest);
    status = read_exactly(source->snapshot, source->offset + FRAME_HEAD_SIZE, frame->data + FRAME_HEAD_SIZE, rest);
    if (status != STATUS_OK)
        return status;
    frame->size += rest;
    source->offset += frame->size;
    return frame_check(buffer_bytes(frame), &source->chain, payload) ? STATUS_OK : STATUS_CORRUPT;
}

/* Each row of one rows frame: counted, hashed, and inserted into `store` unless that is NULL. */
static enum status walk_rows(struct bytes payload, struct snapshot_rows *rows, struct store *store)
{
    struct snapshot_chunk chunk;
    struct row row;

    if (!snapshot_chunk_begin(payload, &chunk))
        return STATUS_CORRUPT;
    while (snapshot_chunk_next(&chunk, rows, &row)) {
        if (store == NULL)
            continue;
        store_insert(store, chunk.table, row.key, row.value);
        if (rows->count % LOAD_COMMIT_ROWS == 0)
            store_commit(store);
    }
    if (chunk.reader.failed)
        return STATUS_CORRUPT;
    return store == NULL ? STATUS_OK : store_status(store);
}

static bool ends_well(struct source *source, struct bytes payload, const struct snapshot_rows *rows)
{
    struct reader reader = reader_of(payload);

    return reader_u64(&reader) == rows->count && reader_done(&reader) && source->offset == source->snapshot->size &&
           memcmp(rows->hash, source->snapshot->facts.hash, sizeof rows->hash) == 0;
}

static enum status walk_frames(struct source *source, struct snapshot_rows *rows, struct store *store,
                               const atomic_bool *stop)
{
    enum frame_kind kind;
    struct bytes payload;
    enum status status = read_frame(source, &kind, &payload); /* the header, which snapshot_open has read */

    while (status == STATUS_OK) {
        if (stopped(stop))
            return STATUS_CLOSED;
        status = read_frame(source, &kind, &payload);
        if (status != STATUS_OK)
            return status;
        switch (kind) {
        case FRAME_HEADER: return STATUS_CORRUPT; /* only the first is one */
        case FRAME_ROWS: status = walk_rows(payload, rows, store); break;
        case FRAME_END: return ends_well(source, payload, rows) ? STATUS_OK : STATUS_CORRUPT;
        }
    }
    return status;
}

static enum status walk(struct snapshot *snapshot, struct store *store, const atomic_bool *stop)
{
    struct source source = {.snapshot = snapshot};
    struct snapshot_rows rows = {0};
    enum status status = walk_frames(&source, &rows, store, stop);

    if (status == STATUS_CORRUPT)
        log_event(LOG_ERROR, "snapshot-corrupt", log_text("path", snapshot->path), log_u64("offset", source.offset));
    snapshot_rows_release(&rows);
    buffer_release(&source.frame);
    return status;
}

static enum status read_header(struct snapshot *snapshot)
{
    struct source source = {.snapshot = snapshot};
    enum frame_kind kind;
    struct bytes payload;
    enum status status = read_frame(&source, &kind, &payload);

    if (status == STATUS_OK)
        status = kind == FRAME_HEADER ? snapshot_header_decode(payload, &snapshot->facts) : STATUS_CORRUPT;
    snapshot->header = source.frame; /* which facts.configuration points into */
    return status;
}

enum status snapshot_open_path(const char *path, struct snapshot **snapshot)
{
    struct snapshot *opened = memory_zeroed(1, sizeof *opened);
    struct stat stat;
    enum status status;

    snprintf(opened->path, sizeof opened->path, "%s", path);
    opened->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (opened->fd < 0 || fstat(opened->fd, &stat) != 0) {
        status = errno == ENOENT ? STATUS_NOT_FOUND : snapshot_report(path, "opening a snapshot");
        goto close;
    }
    opened->size = (uint64_t)stat.st_size;
    status = read_header(opened);
    if (status != STATUS_OK) {
        log_event(LOG_ERROR, "snapshot-refused", log_text("path", path), log_result(status));
        goto close;
    }
    *snapshot = opened;
    return STATUS_OK;

close:
    snapshot_close(opened);
    return status;
}

void snapshot_close(struct snapshot *snapshot)
{
    if (snapshot->fd >= 0)
        close(snapshot->fd);
    buffer_release(&snapshot->header);
    free(snapshot);
}

/* Opens the snapshot of that name; what the file says about itself must agree with it. */
static enum status open_name(const char *directory, struct snapshot_name name, struct snapshot **snapshot)
{
    char path[SNAPSHOT_PATH_SIZE];
    enum status status;

    snapshot_path_of(path, directory, name);
    status = snapshot_open_path(path, snapshot);
    if (status == STATUS_OK && ((*snapshot)->facts.index != name.index || (*snapshot)->facts.term != name.term)) {
        log_event(LOG_ERROR, "snapshot-refused", log_text("path", path), log_text("why", "renamed by hand"));
        snapshot_close(*snapshot);
        status = STATUS_CORRUPT;
    }
    return status;
}

enum status snapshot_open(const char *directory, uint64_t index, struct snapshot **snapshot)
{
    struct snapshot_name *names;
    size_t count, i = 0;
    enum status status = snapshot_list(directory, &names, &count);

    if (status != STATUS_OK)
        return status;
    while (index != 0 && i < count && names[i].index != index)
        i++;
    status = i < count ? open_name(directory, names[i], snapshot) : STATUS_NOT_FOUND;
    free(names);
    return status;
}

enum status snapshot_open_verified(const char *directory, const atomic_bool *stop, struct snapshot **snapshot,
                                   unsigned *refused)
{
    struct snapshot_name *names;
    size_t count;
    enum status status = snapshot_list(directory, &names, &count);

    *refused = 0;
    if (status != STATUS_OK)
        return status;
    status = STATUS_NOT_FOUND;
    for (size_t i = 0; i < count && status != STATUS_OK && status != STATUS_CLOSED; i++) {
        status = open_name(directory, names[i], snapshot);
        if (status == STATUS_OK) {
            status = snapshot_verify(*snapshot, stop);
            if (status != STATUS_OK)
                snapshot_close(*snapshot);
        }
        *refused += status != STATUS_OK && status != STATUS_CLOSED;
    }
    free(names);
    return status == STATUS_OK || status == STATUS_CLOSED ? status : STATUS_NOT_FOUND;
}

const struct snapshot_facts *snapshot_facts(const struct snapshot *snapshot)
{
    return &snapshot->facts;
}

uint64_t snapshot_size(const struct snapshot *snapshot)
{
    return snapshot->size;
}

enum status snapshot_read(struct snapshot *snapshot, uint64_t offset, void *data, size_t size, size_t *got)
{
    *got = 0;
    while (*got < size) {
        ssize_t read = pread(snapshot->fd, (uint8_t *)data + *got, size - *got, (off_t)(offset + *got));
        if (read < 0 && errno == EINTR)
            continue;
        if (read < 0)
            return snapshot_report(snapshot->path, "reading a snapshot");
        if (read == 0)
            break;
        *got += (size_t)read;
    }
    return STATUS_OK;
}

enum status snapshot_verify(struct snapshot *snapshot, const atomic_bool *stop)
{
    return walk(snapshot, NULL, stop);
}

/* ---- restoring ---- */

enum status snapshot_load(struct snapshot *snapshot, struct store *store, const atomic_bool *stop)
{
    uint64_t hash[2];
    enum status status;

    store_hash(store, hash);
    assert((hash[0] == 0 && hash[1] == 0) || bug(BUG_V19_RESTORED_ON_TOP)); /* the store is empty */
    status = walk(snapshot, store, stop);
    if (status != STATUS_OK)
        return status;
    store_hash(store, hash);
    if (!bug(BUG_V19_RESTORED_ON_TOP) && memcmp(hash, snapshot->facts.hash, sizeof hash) != 0)
        return STATUS_CORRUPT;
    return store_commit(store);
}

/* Builds the store in options->path, then reads it back from its own pages. */
static enum status build_store(struct snapshot *snapshot, const struct store_options *options, const atomic_bool *stop)
{
    struct store *store;
    struct store_view *view;
    enum status status = store_open(options, &store);

    if (status != STATUS_OK)
        return status;
    status = snapshot_load(snapshot, store, stop);
    if (status == STATUS_OK)
        status = store_sync(store);
    if (status == STATUS_OK)
        status = store_view_open(store, &view);
    if (status == STATUS_OK) {
        status = store_view_verify(view, stop);
        store_view_close(view);
    }
    store_close(store);
    return status;
}

enum status snapshot_restore(struct snapshot *snapshot, const struct store_options *options, const atomic_bool *stop)
{
    char beside[SNAPSHOT_PATH_SIZE];
    struct store_options building = *options;
    int size = snprintf(beside, sizeof beside, "%s.restoring", options->path);
    enum status status;

    assert(size > 0 && (size_t)size < sizeof beside);
    if (bug(BUG_V19_RESTORED_ON_TOP))
        return build_store(snapshot, options, stop);
    building.path = beside;
    status = store_remove(beside); /* what a crash left */
    if (status == STATUS_OK)
        status = build_store(snapshot, &building, stop);
    if (status == STATUS_OK)
        status = store_remove(options->path);
    if (status != STATUS_OK) {
        store_remove(beside);
        return status;
    }
    return store_rename(beside, options->path);
}
