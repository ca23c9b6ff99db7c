/* fuzz_store.c — a store whose files were damaged: it is refused, or its process dies, but it never passes for whole.
 *
 *   a good store ──changes──▶ files ──child process: store_open, store_view_verify, reads──▶ exit code
 *
 * LMDB has no checksums and trusts its pages, so a damaged one may crash whoever reads it: that is why a child does. The
 * hash of the rows is the oracle: if it verifies, the rows must be those of one of the commits. It need not be the last: a
 * root page that was not written leaves the commit before, whole, and whoever opens it finds that out by what is in the rows
 * (node/data.c: how far they were applied). A child that computes for CHILD_SECONDS has been caught in a loop, which is a
 * finding too. The fuzzer sees no branches of the child. */
#include "input.h"
#include "store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sanitizer/common_interface_defs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS 400
#define CHILD_SECONDS 20
#define FILES 2

enum verdict {
    VERDICT_REFUSED = 90,
    VERDICT_SAME = 91,
    VERDICT_OLDER = 92,
    VERDICT_WRONG = 93,
};

static char directory[64];
static const char *const names[FILES] = {"data.mdb", "marker"};
static struct buffer good[FILES];

static void path_of(int file, char path[160])
{
    snprintf(path, 160, "%s/%s", directory, names[file]);
}

static void put_file(int number, struct bytes content)
{
    char path[160];
    path_of(number, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, content.data, content.size) != (ssize_t)content.size)
        abort();
    close(fd);
}

static struct bytes value_of(uint32_t number, uint8_t value[600])
{
    size_t size = number % 7 == 0 ? 600 : number % 50;
    memset(value, (int)number, size);
    return bytes_of(value, size);
}

static struct bytes key_of(uint32_t number, uint8_t key[4])
{
    memcpy(key, (uint8_t[]){0, (uint8_t)(number >> 8), (uint8_t)number, 'k'}, 4);
    return bytes_of(key, 4);
}

static enum table table_of(uint32_t number)
{
    static const enum table tables[] = {TABLE_META, TABLE_MESSAGES, TABLE_RETAINED, TABLE_SESSIONS};
    return tables[number % 4];
}

/* Whether there was a commit when so many rows had been put. */
static bool is_commit(uint32_t rows)
{
    return rows == 0 || rows == ROWS || rows % 100 == 51;
}

/* The last commit is without some rows: pages that are free. */
static bool is_deleted(uint32_t number)
{
    return number % 3 == 1;
}

static void remove_directory(void)
{
    store_remove(directory);
}

static void make_store(void)
{
    uint8_t key[4], value[600];
    struct store_options options = {.path = directory, .boot_id = "a", .map_bytes_max = 1 << 24};
    struct store *store;
    strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz_store.XXXXXX" : "/tmp/fuzz_store.XXXXXX");
    if (mkdtemp(directory) == NULL || store_open(&options, &store) != STATUS_OK)
        abort();
    for (uint32_t i = 0; i < ROWS; i++) {
        store_put(store, table_of(i), key_of(i, key), value_of(i, value));
        if (i + 1 < ROWS && is_commit(i + 1) && store_commit(store) != STATUS_OK)
            abort();
    }
    for (uint32_t i = 0; i < ROWS; i++)
        if (is_deleted(i))
            store_delete(store, table_of(i), key_of(i, key));
    if (store_commit(store) != STATUS_OK)
        abort();
    store_close(store);
    atexit(remove_directory);
}

static void read_good(void)
{
    for (int file = 0; file < FILES; file++) {
        struct stat facts;
        char path[160];
        path_of(file, path);
        int fd = open(path, O_RDONLY);
        if (fd < 0 || fstat(fd, &facts) != 0)
            abort();
        buffer_reserve(&good[file], (size_t)facts.st_size);
        if (read(fd, good[file].data, (size_t)facts.st_size) != facts.st_size)
            abort();
        good[file].size = (size_t)facts.st_size;
        close(fd);
    }
}

/* ---- changes ---- */

static void change_something(struct buffer *file, struct input *in)
{
    uint8_t kind = input_u8(in) % 16;
    size_t page = input_u8(in), offset = input_u16(in) % 4096, pages = file->size / 4096;
    if (file->size == 0)
        return;
    page = pages > 0 ? page % pages * 4096 : 0;
    uint8_t *at = file->data + (page + offset) % file->size;
    if (kind < 8)
        *at ^= input_u8(in);
    else if (kind < 10)
        *at = input_u8(in);
    else if (kind < 12 && pages > 0) /* a page was written to the wrong place, or not at all */
        memcpy(file->data + page, file->data + input_u8(in) % pages * 4096, 4096);
    else if (kind == 12 && pages > 0)
        memset(file->data + page, 0, 4096);
    else if (kind == 13)
        file->size = file->size * input_u8(in) / 255;
    else if (pages > 0) /* half of a page */
        memset(file->data + page + offset / 512 * 512, 0, 512);
}

/* ---- the child ---- */

static bool rows_are_those_of(struct store *store, uint32_t rows)
{
    uint8_t key[4], value[600];
    for (uint32_t i = 0; i < ROWS; i++) {
        struct bytes found;
        bool there = i < rows && !(rows == ROWS && is_deleted(i));
        if (store_get(store, table_of(i), key_of(i, key), &found) != there ||
            (there && !bytes_equal(found, value_of(i, value))))
            return false;
    }
    return true;
}

/* Of a store that is poisoned meanwhile, which finds nothing any more, this says nothing. */
static enum verdict compare(struct store *store)
{
    for (uint32_t rows = 0; rows < ROWS; rows++)
        if (is_commit(rows) && rows_are_those_of(store, rows))
            return VERDICT_OLDER;
    return rows_are_those_of(store, ROWS) ? VERDICT_SAME : VERDICT_WRONG;
}

static enum verdict look(bool other_boot)
{
    struct store_options options = {.path = directory, .boot_id = other_boot ? "b" : "a", .map_bytes_max = 1 << 24};
    struct store *store;
    struct store_view *view;
    if (store_open(&options, &store) != STATUS_OK || store_view_open(store, &view) != STATUS_OK)
        return VERDICT_REFUSED;
    if (store_view_verify(view, NULL) != STATUS_OK)
        return VERDICT_REFUSED;
    enum verdict verdict = compare(store);
    return store_status(store) == STATUS_OK ? verdict : VERDICT_REFUSED;
}

/* The fuzzer catches signals, and would take the death of the child for its own. */
static void die_quietly(void)
{
    static const int signals[] = {SIGALRM, SIGXCPU, SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    const struct rlimit limit = {CHILD_SECONDS, RLIM_INFINITY};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        signal(signals[i], SIG_DFL);
    __sanitizer_set_death_callback(NULL);
    setrlimit(RLIMIT_CPU, &limit);
}

static void check(bool other_boot, bool changed)
{
    int status = 0;
    pid_t child = fork(), ended;
    if (child == 0) {
        die_quietly();
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(VERDICT_WRONG);
        _exit(look(other_boot));
    }
    do
        ended = waitpid(child, &status, 0);
    while (ended < 0 && errno == EINTR);
    assert(ended == child);
    assert(!WIFEXITED(status) || WEXITSTATUS(status) != VERDICT_WRONG);
    assert(changed || (WIFEXITED(status) && WEXITSTATUS(status) == VERDICT_SAME));
    assert(!WIFSIGNALED(status) || WTERMSIG(status) != SIGXCPU);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct buffer changed[FILES] = {{0}};
    if (good[0].size == 0) {
        make_store();
        read_good();
    }
    for (int file = 0; file < FILES; file++)
        buffer_put_bytes(&changed[file], buffer_bytes(&good[file]));
    bool other_boot = input_u8(&in) & 1;
    for (int changes = 0; !input_done(&in) && changes < 40; changes++)
        change_something(&changed[input_rarely(&in, 16)], &in);
    for (int file = 0; file < FILES; file++) {
        put_file(file, buffer_bytes(&changed[file]));
        buffer_release(&changed[file]);
    }
    check(other_boot, size > 1);
    return 0;
}
