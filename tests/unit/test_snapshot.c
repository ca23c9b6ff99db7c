/* Snapshots: what was written is what is restored, and nothing that was damaged is believed. */
#include "base/memory.h"
#include "snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct world {
    char directory[64];
    struct store *store;
    struct snapshot_facts facts;
};

static int setup(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);

    strcpy(w->directory, "/tmp/test_snapshot.XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    assert_int_equal(store_open(&(struct store_options){0}, &w->store), STATUS_OK);
    memset(w->facts.cluster_id, 0xc1, sizeof w->facts.cluster_id);
    w->facts.index = 1000;
    w->facts.term = 3;
    w->facts.configuration_index = 17;
    w->facts.configuration = bytes_text("who the members are");
    *state = w;
    return 0;
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *place)
{
    (void)stat, (void)type, (void)place;
    return remove(path);
}

static int teardown(void **state)
{
    struct world *w = *state;

    store_close(w->store);
    nftw(w->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

/* `count` rows in each of four tables, some with long keys, empty values and values of 2,000 bytes. */
static void given_rows(struct world *w, unsigned count)
{
    static const enum table tables[] = {TABLE_META, TABLE_MESSAGES, TABLE_RETAINED, TABLE_USERS};
    static uint8_t value[2000];
    uint8_t key[STORE_KEY_MAX];

    for (unsigned i = 0; i < count * 4; i++) {
        size_t size = i % 10 == 0 ? STORE_KEY_MAX : 4;
        memset(key, 'k', sizeof key);
        key[0] = (uint8_t)(i >> 16);
        key[1] = (uint8_t)(i >> 8);
        key[2] = (uint8_t)i;
        memset(value, (int)i, sizeof value);
        store_put(w->store, tables[i % 4], bytes_of(key, size), bytes_of(value, i % 7 == 0 ? 2000 : i % 50));
    }
    assert_int_equal(store_commit(w->store), STATUS_OK);
}

static enum status try_write(struct world *w, const atomic_bool *stop)
{
    struct store_view *view;
    enum status status;

    assert_int_equal(store_view_open(w->store, &view), STATUS_OK);
    status = snapshot_write(w->directory, &w->facts, view, stop);
    store_view_close(view);
    return status;
}

static struct snapshot *given_snapshot(struct world *w)
{
    struct snapshot *snapshot;

    assert_int_equal(try_write(w, NULL), STATUS_OK);
    assert_int_equal(snapshot_open(w->directory, w->facts.index, &snapshot), STATUS_OK);
    return snapshot;
}

static unsigned file_count(struct world *w)
{
    DIR *dir = opendir(w->directory);
    struct dirent *entry;
    unsigned count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

static void snapshot_file(struct world *w, uint64_t index, char path[256])
{
    snprintf(path, 256, "%s/snapshot-%020llu-%020llu", w->directory, (unsigned long long)index,
             (unsigned long long)w->facts.term);
}

static void then_same_rows(struct store *a, struct store *b)
{
    uint64_t hash_a[2], hash_b[2];

    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        struct row row_a = {0}, row_b = {0};
        bool more_a, more_b;
        do {
            more_a = store_first_after(a, (enum table)table, row_a.key, &row_a);
            more_b = store_first_after(b, (enum table)table, row_b.key, &row_b);
            assert_int_equal(more_a, more_b);
            if (more_a)
                assert_true(bytes_equal(row_a.key, row_b.key) && bytes_equal(row_a.value, row_b.value));
        } while (more_a);
    }
    store_hash(a, hash_a);
    store_hash(b, hash_b);
    assert_memory_equal(hash_a, hash_b, sizeof hash_a);
}

/* ---- writing and restoring ---- */

static void it_says_what_it_holds(void **state)
{
    struct world *w = *state;
    struct snapshot *snapshot;
    const struct snapshot_facts *facts;
    uint64_t hash[2];

    given_rows(w, 10);
    snapshot = given_snapshot(w);
    facts = snapshot_facts(snapshot);
    store_hash(w->store, hash);
    assert_int_equal(facts->index, 1000);
    assert_int_equal(facts->term, 3);
    assert_int_equal(facts->configuration_index, 17);
    assert_true(bytes_equal(facts->configuration, w->facts.configuration));
    assert_memory_equal(facts->cluster_id, w->facts.cluster_id, sizeof facts->cluster_id);
    assert_memory_equal(facts->hash, hash, sizeof hash);
    assert_int_equal(snapshot_verify(snapshot, NULL), STATUS_OK);
    snapshot_close(snapshot);
}

static void loading_gives_the_same_rows(void **state)
{
    struct world *w = *state;
    static const unsigned counts[] = {0, 1, 400};

    for (size_t i = 0; i < 3; i++) {
        struct store *loaded;
        struct snapshot *snapshot;
        given_rows(w, counts[i]);
        snapshot = given_snapshot(w);
        assert_int_equal(store_open(&(struct store_options){0}, &loaded), STATUS_OK);
        assert_int_equal(snapshot_load(snapshot, loaded, NULL), STATUS_OK);
        then_same_rows(w->store, loaded);
        store_crash(loaded); /* it was committed */
        then_same_rows(w->store, loaded);
        store_close(loaded);
        snapshot_close(snapshot);
    }
}

static void restoring_replaces_the_store_that_was_there(void **state)
{
    struct world *w = *state;
    char path[128], beside[160];
    struct store_options options = {.path = path, .map_bytes_max = 64 << 20};
    struct store *store;
    struct snapshot *snapshot;

    snprintf(path, sizeof path, "%s/state", w->directory);
    snprintf(beside, sizeof beside, "%s.restoring", path);
    assert_int_equal(store_open(&options, &store), STATUS_OK);
    store_put(store, TABLE_CLIENTS, bytes_text("old"), bytes_text("row"));
    store_commit(store);
    store_close(store);
    given_rows(w, 300);
    snapshot = given_snapshot(w);
    options.path = beside; /* a restore that was killed */
    assert_int_equal(store_open(&options, &store), STATUS_OK);
    store_put(store, TABLE_CLIENTS, bytes_text("half"), bytes_text("done"));
    store_commit(store);
    store_close(store);
    options.path = path;

    assert_int_equal(snapshot_restore(snapshot, &options, NULL), STATUS_OK);
    assert_int_equal(snapshot_restore(snapshot, &options, NULL), STATUS_OK);
    assert_int_equal(store_open(&options, &store), STATUS_OK);
    assert_false(store_unclean(store));
    then_same_rows(w->store, store);
    assert_int_not_equal(access(beside, F_OK), 0);
    store_close(store);
    snapshot_close(snapshot);
}

static void a_restore_that_fails_leaves_the_old_store(void **state)
{
    struct world *w = *state;
    char path[128];
    struct store_options options = {.path = path, .map_bytes_max = 64 << 20}, small;
    struct store *store;
    struct snapshot *snapshot;
    struct bytes value;
    atomic_bool stop = true;

    snprintf(path, sizeof path, "%s/state", w->directory);
    assert_int_equal(store_open(&options, &store), STATUS_OK);
    store_put(store, TABLE_CLIENTS, bytes_text("old"), bytes_text("row"));
    store_commit(store);
    store_close(store);
    given_rows(w, 1000);
    snapshot = given_snapshot(w);
    small = options;
    small.map_bytes_max = 1 << 20;

    assert_int_equal(snapshot_restore(snapshot, &small, NULL), STATUS_NO_SPACE);
    assert_int_equal(snapshot_restore(snapshot, &options, &stop), STATUS_CLOSED);
    assert_int_equal(store_open(&options, &store), STATUS_OK);
    assert_true(store_get(store, TABLE_CLIENTS, bytes_text("old"), &value));
    store_close(store);
    snapshot_close(snapshot);
}

static void stopping_leaves_nothing_behind(void **state)
{
    struct world *w = *state;
    atomic_bool stop = true;

    given_rows(w, 100);
    assert_int_equal(try_write(w, &stop), STATUS_CLOSED);
    assert_int_equal(file_count(w), 0);
}

static void the_newest_two_are_kept(void **state)
{
    struct world *w = *state;
    static const uint64_t indexes[] = {99, 1000, 100000};
    struct snapshot *snapshot;

    given_rows(w, 5);
    assert_int_equal(snapshot_open(w->directory, 0, &snapshot), STATUS_NOT_FOUND);
    for (size_t i = 0; i < 3; i++) {
        w->facts.index = indexes[i];
        snapshot_close(given_snapshot(w));
    }
    assert_int_equal(file_count(w), 2);
    assert_int_equal(snapshot_open(w->directory, 99, &snapshot), STATUS_NOT_FOUND);
    assert_int_equal(snapshot_open(w->directory, 0, &snapshot), STATUS_OK);
    assert_int_equal(snapshot_facts(snapshot)->index, 100000);
    snapshot_close(snapshot);
    assert_int_equal(snapshot_open(w->directory, 1000, &snapshot), STATUS_OK);
    snapshot_close(snapshot);
}

/* A leader may send one that is older than those which the leader before it sent, and which were never installed. */
static void one_that_has_just_come_is_kept_though_there_are_two_newer_ones(void **state)
{
    struct world *w = *state;
    static const uint64_t indexes[] = {1000, 100000, 99};
    struct snapshot *snapshot;

    given_rows(w, 5);
    for (size_t i = 0; i < 3; i++) {
        w->facts.index = indexes[i];
        snapshot_close(given_snapshot(w));
    }
    assert_int_equal(snapshot_open(w->directory, 99, &snapshot), STATUS_OK);
    snapshot_close(snapshot);
}

static void an_open_snapshot_can_be_read_after_it_was_deleted(void **state)
{
    struct world *w = *state;
    struct snapshot *snapshot;

    given_rows(w, 50);
    snapshot = given_snapshot(w);
    for (int i = 0; i < 2; i++) {
        w->facts.index++;
        snapshot_close(given_snapshot(w));
    }
    assert_int_equal(snapshot_verify(snapshot, NULL), STATUS_OK);
    snapshot_close(snapshot);
}

static void a_view_with_a_wrong_hash_makes_no_snapshot(void **state)
{
    struct world *w = *state;
    struct store_options options = {.path = w->directory, .map_bytes_max = 64 << 20};
    char path[128], data[4096];
    struct store *store;
    struct store_view *view;
    size_t size;
    long at = 0;
    FILE *file;

    /* a store whose row changed on disk, behind its back */
    assert_int_equal(store_open(&options, &store), STATUS_OK);
    store_put(store, TABLE_CLIENTS, bytes_text("a"), bytes_text("easy to find"));
    store_commit(store);
    store_close(store);
    snprintf(path, sizeof path, "%s/data.mdb", w->directory);
    file = fopen(path, "r+");
    assert_non_null(file);
    while ((size = fread(data, 1, sizeof data, file)) > 0 && memmem(data, size, "easy to find", 12) == NULL)
        at += (long)size;
    assert_true(size > 0);
    fseek(file, at + ((char *)memmem(data, size, "easy to find", 12) - data), SEEK_SET);
    fputc('E', file);
    fclose(file);
    assert_int_equal(store_open(&options, &store), STATUS_OK);

    assert_int_equal(store_view_open(store, &view), STATUS_OK);
    assert_int_equal(snapshot_write(w->directory, &w->facts, view, NULL), STATUS_CORRUPT);
    store_view_close(view);
    store_close(store);
    assert_int_equal(file_count(w), 3); /* data, lock, marker */
}

/* ---- damage ---- */

static struct buffer read_file(const char *path)
{
    struct buffer content = {0};
    uint8_t chunk[4096];
    FILE *file = fopen(path, "r");
    size_t size;

    assert_non_null(file);
    while ((size = fread(chunk, 1, sizeof chunk, file)) > 0)
        buffer_put(&content, chunk, size);
    fclose(file);
    return content;
}

static void write_file(const char *path, struct bytes content)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(content.data, 1, content.size, file), content.size);
    fclose(file);
}

static bool is_believed(struct world *w)
{
    struct snapshot *snapshot;
    enum status status = snapshot_open(w->directory, w->facts.index, &snapshot);

    if (status != STATUS_OK)
        return false;
    status = snapshot_verify(snapshot, NULL);
    snapshot_close(snapshot);
    return status == STATUS_OK;
}

/* One line for each try would be too much. Returns what unmute() wants. */
static int mute(void)
{
    int stderr_kept = dup(STDERR_FILENO), nothing = open("/dev/null", O_WRONLY);
    dup2(nothing, STDERR_FILENO);
    close(nothing);
    return stderr_kept;
}

static void unmute(int stderr_kept)
{
    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
}

static void every_flipped_byte_is_found(void **state)
{
    struct world *w = *state;
    struct buffer content;
    char path[256];

    given_rows(w, 2);
    snapshot_close(given_snapshot(w));
    snapshot_file(w, w->facts.index, path);
    content = read_file(path);
    int muted = mute();
    for (size_t i = 0; i < content.size; i++) {
        content.data[i] ^= (uint8_t)(1u << (i % 8));
        write_file(path, buffer_bytes(&content));
        assert_false(is_believed(w));
        content.data[i] ^= (uint8_t)(1u << (i % 8));
    }
    unmute(muted);
    write_file(path, buffer_bytes(&content));
    assert_true(is_believed(w));
    buffer_release(&content);
}

static void every_truncation_and_any_tail_is_found(void **state)
{
    struct world *w = *state;
    struct buffer content;
    char path[256];

    given_rows(w, 2);
    snapshot_close(given_snapshot(w));
    snapshot_file(w, w->facts.index, path);
    content = read_file(path);
    int muted = mute();
    for (size_t size = 0; size < content.size; size += 1 + size / 100) {
        write_file(path, bytes_of(content.data, size));
        assert_false(is_believed(w));
    }
    buffer_put_u8(&content, 0);
    write_file(path, buffer_bytes(&content));
    assert_false(is_believed(w));
    unmute(muted);
    buffer_release(&content);
}

/* The first `size` bytes of a file that has frames: takes out the frame at `at`. */
static size_t frame_size(const struct buffer *content, size_t at)
{
    struct reader reader = reader_of(bytes_of(content->data + at, 8));
    reader_u32(&reader);
    return 16 + reader_u32(&reader);
}

static void a_missing_or_exchanged_frame_is_found(void **state)
{
    struct world *w = *state;
    struct buffer content, without = {0};
    char path[256];
    size_t first, second;

    given_rows(w, 2);
    snapshot_close(given_snapshot(w));
    snapshot_file(w, w->facts.index, path);
    content = read_file(path);
    first = frame_size(&content, 0);
    second = frame_size(&content, first);
    buffer_put(&without, content.data, first);
    buffer_put(&without, content.data + first + second, content.size - first - second);
    write_file(path, buffer_bytes(&without));
    assert_false(is_believed(w));
    buffer_clear(&without);
    size_t third = frame_size(&content, first + second), rest = first + second + third;
    buffer_put(&without, content.data, first);
    buffer_put(&without, content.data + first + second, third);
    buffer_put(&without, content.data + first, second);
    buffer_put(&without, content.data + rest, content.size - rest);
    write_file(path, buffer_bytes(&without));
    assert_false(is_believed(w));
    buffer_release(&content);
    buffer_release(&without);
}

static void the_older_one_is_taken_if_the_newest_is_damaged(void **state)
{
    struct world *w = *state;
    struct snapshot *snapshot;
    struct buffer content;
    char path[256];
    unsigned refused;

    given_rows(w, 20);
    snapshot_close(given_snapshot(w));
    w->facts.index = 2000;
    snapshot_close(given_snapshot(w));
    snapshot_file(w, 2000, path);
    content = read_file(path);
    content.data[content.size / 2] ^= 1;
    write_file(path, buffer_bytes(&content));

    assert_int_equal(snapshot_open_verified(w->directory, NULL, &snapshot, &refused), STATUS_OK);
    assert_int_equal(snapshot_facts(snapshot)->index, 1000);
    assert_int_equal(refused, 1);
    snapshot_close(snapshot);
    buffer_release(&content);
}

/* ---- transfer ---- */

static enum status transfer(struct world *w, const char *to, const uint8_t *cluster_id, size_t flip,
                            struct snapshot **received)
{
    struct snapshot *snapshot;
    struct snapshot_incoming *incoming;
    uint8_t chunk[700];
    uint64_t offset = 0;
    size_t got;
    enum status status;

    assert_int_equal(snapshot_open(w->directory, 0, &snapshot), STATUS_OK);
    assert_int_equal(snapshot_incoming_open(to, &incoming), STATUS_OK);
    do {
        assert_int_equal(snapshot_read(snapshot, offset, chunk, sizeof chunk, &got), STATUS_OK);
        if (flip >= offset && flip < offset + got)
            chunk[flip - offset] ^= 1;
        assert_int_equal(snapshot_incoming_write(incoming, offset + 1, bytes_of(chunk, got)), STATUS_INVALID);
        assert_int_equal(snapshot_incoming_write(incoming, offset, bytes_of(chunk, got)), STATUS_OK);
        offset += got;
    } while (got == sizeof chunk);
    assert_int_equal(snapshot_incoming_size(incoming), snapshot_size(snapshot));
    status = snapshot_incoming_finish(incoming, cluster_id, NULL, received);
    snapshot_incoming_close(incoming);
    snapshot_close(snapshot);
    return status;
}

static void a_peer_receives_what_was_written(void **state)
{
    struct world *w = *state;
    struct snapshot *received;
    struct store *loaded;
    char to[128];

    snprintf(to, sizeof to, "%s/peer", w->directory);
    given_rows(w, 200);
    snapshot_close(given_snapshot(w));
    assert_int_equal(transfer(w, to, w->facts.cluster_id, SIZE_MAX, &received), STATUS_OK);
    assert_int_equal(store_open(&(struct store_options){0}, &loaded), STATUS_OK);
    assert_int_equal(snapshot_load(received, loaded, NULL), STATUS_OK);
    then_same_rows(w->store, loaded);
    store_close(loaded);
    snapshot_close(received);
    assert_int_equal(snapshot_open(to, w->facts.index, &received), STATUS_OK);
    snapshot_close(received);
}

static void a_damaged_or_foreign_transfer_leaves_nothing(void **state)
{
    struct world *w = *state;
    struct snapshot *received;
    char to[128];
    uint8_t other[SNAPSHOT_CLUSTER_ID_SIZE] = {0};

    snprintf(to, sizeof to, "%s/peer", w->directory);
    given_rows(w, 20);
    snapshot_close(given_snapshot(w));
    assert_int_equal(transfer(w, to, w->facts.cluster_id, 3000, &received), STATUS_CORRUPT);
    assert_int_equal(transfer(w, to, other, SIZE_MAX, &received), STATUS_INVALID);
    assert_int_equal(snapshot_open(to, 0, &received), STATUS_NOT_FOUND);
    assert_int_equal(rmdir(to), 0); /* nothing in it */
}

/* ---- golden ---- */

static void given_golden_rows(struct world *w)
{
    store_put(w->store, TABLE_META, bytes_text("applied"), bytes_text("1"));
    store_put(w->store, TABLE_CLIENTS, bytes_text("alice"), bytes_text("session 1"));
    store_put(w->store, TABLE_CLIENTS, bytes_text("bob"), bytes_text(""));
    store_put(w->store, TABLE_USERS, bytes_text("u"), bytes_text("v"));
    assert_int_equal(store_commit(w->store), STATUS_OK);
}

/* If this fails, the format has changed: give it a new number, keep reading the old one, add a new golden file. */
static void the_file_is_that_of_released_versions(void **state)
{
    struct world *w = *state;
    struct buffer golden, written;
    struct snapshot *snapshot;
    struct store *loaded;
    char path[256];

    given_golden_rows(w);
    snapshot_close(given_snapshot(w));
    snapshot_file(w, w->facts.index, path);
    if (getenv("COTERIE_WRITE_GOLDEN") != NULL) {
        written = read_file(path);
        write_file(COTERIE_SOURCE_DIR "/tests/golden/snapshot-format-1", buffer_bytes(&written));
        buffer_release(&written);
    }
    golden = read_file(COTERIE_SOURCE_DIR "/tests/golden/snapshot-format-1");
    written = read_file(path);
    assert_int_equal(golden.size, written.size);
    assert_memory_equal(golden.data, written.data, golden.size);

    write_file(path, buffer_bytes(&golden));
    assert_int_equal(snapshot_open(w->directory, w->facts.index, &snapshot), STATUS_OK);
    assert_int_equal(store_open(&(struct store_options){0}, &loaded), STATUS_OK);
    assert_int_equal(snapshot_load(snapshot, loaded, NULL), STATUS_OK);
    then_same_rows(w->store, loaded);
    store_close(loaded);
    snapshot_close(snapshot);
    buffer_release(&golden);
    buffer_release(&written);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_says_what_it_holds),
        TEST(loading_gives_the_same_rows),
        TEST(restoring_replaces_the_store_that_was_there),
        TEST(a_restore_that_fails_leaves_the_old_store),
        TEST(stopping_leaves_nothing_behind),
        TEST(the_newest_two_are_kept),
        TEST(one_that_has_just_come_is_kept_though_there_are_two_newer_ones),
        TEST(an_open_snapshot_can_be_read_after_it_was_deleted),
        TEST(a_view_with_a_wrong_hash_makes_no_snapshot),
        TEST(every_flipped_byte_is_found),
        TEST(every_truncation_and_any_tail_is_found),
        TEST(a_missing_or_exchanged_frame_is_found),
        TEST(the_older_one_is_taken_if_the_newest_is_damaged),
        TEST(a_peer_receives_what_was_written),
        TEST(a_damaged_or_foreign_transfer_leaves_nothing),
        TEST(the_file_is_that_of_released_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
