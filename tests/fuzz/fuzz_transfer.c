/* fuzz_transfer.c — a snapshot on its way from a peer: cut, flipped, in the wrong order, or put together anew.
 *
 *   a good file ──changes──▶ chunks, some of them at wrong offsets ──▶ snapshot_incoming ──finish──▶ refused, or loaded
 *
 * A change may also mend the checksums and the hash of the rows behind it, as only a hostile peer would. What must hold:
 * what is accepted loads, and has the hash that it says; without mending it is the good file; and whatever came, the
 * snapshot that was there before is still there, byte for byte. */
#include "input.h"
#include "base/logger.h"
#include "snapshot_format.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS 60
#define OLD_INDEX 500
#define GOOD_INDEX 1000
#define FRAMES_MAX 32

static char directory[64], old_path[160], good_path[160];
static struct buffer old_file, good_file;
static const uint8_t cluster_id[SNAPSHOT_CLUSTER_ID_SIZE] = {1, 2, 3};

/* ---- two snapshots ---- */

static void read_file(const char *path, struct buffer *out)
{
    struct stat facts;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &facts) != 0)
        abort();
    buffer_clear(out);
    buffer_reserve(out, (size_t)facts.st_size + 1);
    ssize_t size = read(fd, out->data, (size_t)facts.st_size);
    close(fd);
    assert(size == facts.st_size);
    out->size = (size_t)size;
}

static void write_snapshot(struct store *store, uint64_t index, char path[160], struct buffer *file)
{
    struct snapshot_facts facts = {.index = index, .term = 3, .configuration_index = 1,
                                   .configuration = bytes_text("members")};
    struct store_view *view;
    memcpy(facts.cluster_id, cluster_id, sizeof cluster_id);
    if (store_commit(store) != STATUS_OK || store_view_open(store, &view) != STATUS_OK ||
        snapshot_write(directory, &facts, view, NULL) != STATUS_OK)
        abort();
    store_view_close(view);
    snprintf(path, 160, "%s/snapshot-%020llu-%020llu", directory, (unsigned long long)index, 3ull);
    read_file(path, file);
}

static void remove_directory(void)
{
    unlink(old_path);
    rmdir(directory);
}

/* The older one stays in the directory, the newer one will come from the peer. */
static void make_snapshots(void)
{
    static const enum table tables[] = {TABLE_META, TABLE_MESSAGES, TABLE_RETAINED};
    struct store *store;
    log_configure(LOG_NOTHING, LOG_KEY_VALUE, 0);
    strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz_transfer.XXXXXX" : "/tmp/fuzz_transfer.XXXXXX");
    if (mkdtemp(directory) == NULL || store_open(&(struct store_options){0}, &store) != STATUS_OK)
        abort();
    for (uint8_t i = 0; i < ROWS; i++) {
        uint8_t row[80] = {i};
        store_put(store, tables[i % 3], bytes_of(row, 1 + i % 5), bytes_of(row, i % 80));
        if (i == ROWS / 2)
            write_snapshot(store, OLD_INDEX, old_path, &old_file);
    }
    write_snapshot(store, GOOD_INDEX, good_path, &good_file);
    unlink(good_path);
    store_close(store);
    atexit(remove_directory);
}

/* ---- changes ---- */

struct change {
    struct buffer file;
    bool mended;
};

static void flip(struct change *change, struct input *in)
{
    uint16_t where = input_u16(in);
    uint8_t mask = input_u8(in);
    if (change->file.size > 0)
        change->file.data[where % change->file.size] ^= mask;
}

/* Cuts a range out, and puts it somewhere else if `again`. */
static void move_range(struct change *change, struct input *in, bool again)
{
    uint16_t from = input_u16(in), length = input_u16(in), to = input_u16(in);
    struct buffer *file = &change->file, rest = {0};
    if (file->size == 0)
        return;
    size_t begin = from % file->size, end = begin + length % (file->size - begin + 1);
    size_t target = to % (begin + 1);
    buffer_put(&rest, file->data, target);
    if (again)
        buffer_put(&rest, file->data + begin, end - begin);
    buffer_put(&rest, file->data + target, begin - target);
    buffer_put(&rest, file->data + end, file->size - end);
    buffer_release(file);
    *file = rest;
}

/* The payload of the next frame, as far as there is one. */
static bool next_frame(struct bytes *rest, enum frame_kind *kind, struct bytes *payload)
{
    size_t size;
    if (rest->size < FRAME_HEAD_SIZE || !frame_head(bytes_of(rest->data, FRAME_HEAD_SIZE), kind, &size) ||
        rest->size < FRAME_HEAD_SIZE + size + FRAME_CHECKSUM_SIZE)
        return false;
    *payload = bytes_of(rest->data + FRAME_HEAD_SIZE, size);
    size += FRAME_HEAD_SIZE + FRAME_CHECKSUM_SIZE;
    *rest = bytes_of(rest->data + size, rest->size - size);
    return true;
}

static void count_rows(struct bytes file, struct snapshot_rows *rows)
{
    enum frame_kind kind;
    struct bytes payload;
    struct snapshot_chunk chunk;
    struct row row;
    while (next_frame(&file, &kind, &payload))
        if (kind == FRAME_ROWS && snapshot_chunk_begin(payload, &chunk))
            while (snapshot_chunk_next(&chunk, rows, &row))
                ;
}

/* Writes all frames anew, with right checksums, and with the hash and number of the rows that are there. */
static void mend(struct change *change, bool hash)
{
    struct bytes rest = buffer_bytes(&change->file), payload;
    struct snapshot_rows rows = {0};
    struct buffer again = {0}, frame = {0};
    struct snapshot_facts facts;
    enum frame_kind kind;
    uint64_t chain = 0;
    count_rows(rest, &rows);
    while (next_frame(&rest, &kind, &payload)) {
        frame_begin(&frame, kind);
        if (hash && kind == FRAME_HEADER && snapshot_header_decode(payload, &facts) == STATUS_OK) {
            memcpy(facts.hash, rows.hash, sizeof facts.hash);
            snapshot_header_encode(&facts, &frame);
        } else if (hash && kind == FRAME_END) {
            buffer_put_u64(&frame, rows.count);
        } else {
            buffer_put_bytes(&frame, payload);
        }
        frame_finish(&frame, &chain);
        buffer_put_bytes(&again, buffer_bytes(&frame));
    }
    buffer_put_bytes(&again, rest);
    snapshot_rows_release(&rows);
    buffer_release(&frame);
    buffer_release(&change->file);
    change->file = again;
    change->mended = true;
}

static void change_something(struct change *change, struct input *in)
{
    uint8_t kind = input_u8(in) % 16;
    if (kind < 8)
        flip(change, in);
    else if (kind < 10)
        move_range(change, in, false);
    else if (kind < 12)
        move_range(change, in, true);
    else
        mend(change, kind > 12);
}

/* ---- the transfer ---- */

static enum status transfer(const struct buffer *file, struct input *in, struct snapshot **snapshot)
{
    struct snapshot_incoming *incoming;
    if (snapshot_incoming_open(directory, &incoming) != STATUS_OK)
        abort();
    for (uint64_t sent = 0; sent < file->size;) {
        size_t size = 1 + input_u16(in), rest = (size_t)(file->size - sent);
        uint64_t wrong = input_rarely(in, 64) ? input_u16(in) : sent;
        if (size == 1 || size > rest)
            size = rest;
        if (wrong != sent)
            assert(snapshot_incoming_write(incoming, wrong, bytes_of(file->data, size)) == STATUS_INVALID);
        if (snapshot_incoming_write(incoming, sent, bytes_of(file->data + sent, size)) != STATUS_OK)
            abort();
        sent += size;
        assert(snapshot_incoming_size(incoming) == sent);
    }
    enum status status = snapshot_incoming_finish(incoming, cluster_id, NULL, snapshot);
    snapshot_incoming_close(incoming);
    return status;
}

static void check_accepted(struct snapshot *snapshot, const struct change *change)
{
    const struct snapshot_facts *facts = snapshot_facts(snapshot);
    struct store *store;
    uint64_t hash[2];
    char path[160];
    assert(change->mended || bytes_equal(buffer_bytes(&change->file), buffer_bytes(&good_file)));
    assert(memcmp(facts->cluster_id, cluster_id, sizeof cluster_id) == 0);
    if (store_open(&(struct store_options){0}, &store) != STATUS_OK || snapshot_load(snapshot, store, NULL) != STATUS_OK)
        abort();
    store_hash(store, hash);
    assert(memcmp(hash, facts->hash, sizeof hash) == 0);
    store_close(store);
    snprintf(path, sizeof path, "%s/snapshot-%020llu-%020llu", directory, (unsigned long long)facts->index,
             (unsigned long long)facts->term);
    snapshot_close(snapshot);
    assert(unlink(path) == 0);
}

static void check_old(void)
{
    static struct buffer now;
    struct snapshot *snapshot;
    read_file(old_path, &now);
    assert(bytes_equal(buffer_bytes(&now), buffer_bytes(&old_file)));
    if (snapshot_open(directory, 0, &snapshot) != STATUS_OK)
        abort();
    assert(snapshot_facts(snapshot)->index == OLD_INDEX);
    snapshot_close(snapshot);
}

/* What is accepted under the very name of the old one replaces it, rightly. */
static void put_old_back(void)
{
    FILE *file = access(old_path, F_OK) == 0 ? NULL : fopen(old_path, "wb");
    if (file != NULL) {
        fwrite(old_file.data, 1, old_file.size, file);
        fclose(file);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct change change = {0};
    struct snapshot *snapshot = NULL;
    if (good_file.size == 0)
        make_snapshots();
    buffer_put_bytes(&change.file, buffer_bytes(&good_file));
    for (uint8_t changes = input_u8(&in) % 16; changes > 0; changes--)
        change_something(&change, &in);
    if (transfer(&change.file, &in, &snapshot) == STATUS_OK) {
        check_accepted(snapshot, &change);
        put_old_back();
    }
    check_old();
    buffer_release(&change.file);
    return 0;
}
