/* The store: every test runs against both backends; what only LMDB has (files, boots, views beside a writer) follows. */
#include "base/memory.h"
#include "store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- world ---- */

struct world {
    bool verify; /* processes that open the store say that it is in order */
    bool lmdb;
    char directory[64];
    struct store_options options;
    struct store *store;
};

static void given_store(struct world *w)
{
    assert_int_equal(store_open(&w->options, &w->store), STATUS_OK);
}

static int setup(void **state, bool lmdb)
{
    struct world *w = memory_zeroed(1, sizeof *w);

    w->lmdb = lmdb;
    strcpy(w->directory, "/tmp/test_store.XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    w->options = (struct store_options){.path = lmdb ? w->directory : NULL, .map_bytes_max = 64 << 20};
    given_store(w);
    *state = w;
    return 0;
}

static int setup_lmdb(void **state)
{
    return setup(state, true);
}

static int setup_memory(void **state)
{
    return setup(state, false);
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *place)
{
    (void)stat, (void)type, (void)place;
    return remove(path);
}

static int teardown(void **state)
{
    struct world *w = *state;

    if (w->store != NULL)
        store_close(w->store);
    nftw(w->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(w);
    return 0;
}

static struct bytes text(const char *t)
{
    return bytes_text(t);
}

static void then_row(struct world *w, const char *key, const char *value)
{
    struct bytes found;

    if (value == NULL) {
        assert_false(store_get(w->store, TABLE_CLIENTS, text(key), &found));
        return;
    }
    assert_true(store_get(w->store, TABLE_CLIENTS, text(key), &found));
    assert_true(bytes_equal(found, text(value)));
}

/* ---- both backends ---- */

static void a_row_is_read_as_written(void **state)
{
    struct world *w = *state;

    store_insert(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_put(w->store, TABLE_CLIENTS, text("b"), text(""));
    store_put(w->store, TABLE_CLIENTS, text("a"), text("22"));

    then_row(w, "a", "22");
    then_row(w, "b", "");
    then_row(w, "c", NULL);
    assert_false(store_has(w->store, TABLE_SESSIONS, text("a")));
    assert_true(store_delete(w->store, TABLE_CLIENTS, text("a")));
    assert_false(store_delete(w->store, TABLE_CLIENTS, text("a")));
    then_row(w, "a", NULL);
}

static void seeking_finds_the_next_row(void **state)
{
    struct world *w = *state;
    struct row row;

    assert_false(store_first_at(w->store, TABLE_CLIENTS, text(""), &row));
    store_insert(w->store, TABLE_CLIENTS, text("b"), text("1"));
    store_insert(w->store, TABLE_CLIENTS, text("d"), text("2"));

    assert_true(store_first_at(w->store, TABLE_CLIENTS, text(""), &row));
    assert_true(bytes_equal(row.key, text("b")));
    assert_true(store_first_at(w->store, TABLE_CLIENTS, text("b"), &row));
    assert_true(bytes_equal(row.key, text("b")));
    assert_true(store_first_after(w->store, TABLE_CLIENTS, text(""), &row));
    assert_true(bytes_equal(row.key, text("b")));
    assert_true(store_first_after(w->store, TABLE_CLIENTS, text("b"), &row));
    assert_true(bytes_equal(row.key, text("d")));
    assert_true(bytes_equal(row.value, text("2")));
    assert_true(store_first_at(w->store, TABLE_CLIENTS, text("c"), &row));
    assert_true(bytes_equal(row.key, text("d")));
    assert_false(store_first_after(w->store, TABLE_CLIENTS, text("d"), &row));
}

static void the_hash_does_not_depend_on_the_order_of_writes(void **state)
{
    struct world *w = *state;
    uint64_t empty[2], first[2], second[2];

    store_hash(w->store, empty);
    store_insert(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_insert(w->store, TABLE_CLIENTS, text("b"), text("2"));
    store_hash(w->store, first);
    store_delete(w->store, TABLE_CLIENTS, text("a"));
    store_put(w->store, TABLE_CLIENTS, text("b"), text("other"));
    store_commit(w->store);
    store_put(w->store, TABLE_CLIENTS, text("b"), text("2"));
    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_hash(w->store, second);

    assert_memory_equal(first, second, sizeof first);
    assert_memory_not_equal(empty, first, sizeof first);
    store_delete(w->store, TABLE_CLIENTS, text("a"));
    store_delete(w->store, TABLE_CLIENTS, text("b"));
    store_hash(w->store, second);
    assert_memory_equal(empty, second, sizeof empty);
}

static void the_hash_tells_tables_and_the_border_of_key_and_value_apart(void **state)
{
    struct world *w = *state;
    uint64_t hashes[3][2];
    static const struct {
        enum table table;
        const char *key, *value;
    } rows[3] = {{TABLE_CLIENTS, "ab", "c"}, {TABLE_CLIENTS, "a", "bc"}, {TABLE_SESSIONS, "ab", "c"}};

    for (int i = 0; i < 3; i++) {
        store_insert(w->store, rows[i].table, text(rows[i].key), text(rows[i].value));
        store_hash(w->store, hashes[i]);
        store_delete(w->store, rows[i].table, text(rows[i].key));
    }
    assert_memory_not_equal(hashes[0], hashes[1], 16);
    assert_memory_not_equal(hashes[0], hashes[2], 16);
}

static void the_hash_is_what_released_versions_computed(void **state)
{
    struct world *w = *state;
    uint64_t hash[2];

    store_insert(w->store, TABLE_CLIENTS, text("client"), text("session"));
    store_insert(w->store, TABLE_META, text("k"), text(""));
    store_hash(w->store, hash);

    assert_int_equal(hash[0], 0xa65a0d82aa69236bull);
    assert_int_equal(hash[1], 0xed8c14b0647f2203ull);
}

static void a_value_may_be_borrowed_from_another_row(void **state)
{
    struct world *w = *state;
    struct bytes value;

    store_insert(w->store, TABLE_CLIENTS, text("a"), text("a value"));
    assert_true(store_get(w->store, TABLE_CLIENTS, text("a"), &value));
    store_put(w->store, TABLE_CLIENTS, text("b"), value);
    assert_true(store_get(w->store, TABLE_CLIENTS, text("b"), &value));
    store_put(w->store, TABLE_CLIENTS, text("b"), bytes_of(value.data, 1));
    then_row(w, "a", "a value");
    then_row(w, "b", "a");
}

static void messages_may_come_in_any_order(void **state)
{
    struct world *w = *state;
    static const char *const keys[] = {"05", "06", "02", "09", "07", "10", "01", "11"};
    struct row row = {0};
    unsigned count = 0;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        store_insert(w->store, TABLE_MESSAGES, text(keys[i]), text("x"));
        if (i == 3)
            store_delete(w->store, TABLE_MESSAGES, text("09"));
        if (i == 5)
            store_commit(w->store);
    }
    while (store_first_after(w->store, TABLE_MESSAGES, row.key, &row))
        count++;
    assert_int_equal(count, 7);
}

static void a_view_shows_the_last_commit(void **state)
{
    struct world *w = *state;
    struct store_view *view;
    struct row row = {0};
    uint64_t committed[2], seen[2];

    store_insert(w->store, TABLE_CLIENTS, text("deleted later"), text("1"));
    store_insert(w->store, TABLE_CLIENTS, text("replaced later"), text("2"));
    assert_int_equal(store_commit(w->store), STATUS_OK);
    store_hash(w->store, committed);
    store_delete(w->store, TABLE_CLIENTS, text("deleted later"));
    store_put(w->store, TABLE_CLIENTS, text("replaced later"), text("3"));
    store_put(w->store, TABLE_CLIENTS, text("replaced later"), text("4"));
    store_insert(w->store, TABLE_CLIENTS, text("inserted later"), text("5"));
    assert_int_equal(store_view_open(w->store, &view), STATUS_OK);
    store_insert(w->store, TABLE_CLIENTS, text("inserted even later"), text("6"));
    assert_int_equal(store_commit(w->store), STATUS_OK);

    store_view_hash(view, seen);
    assert_memory_equal(committed, seen, sizeof seen);
    assert_true(store_view_next(view, TABLE_CLIENTS, row.key, &row));
    assert_true(bytes_equal(row.key, text("deleted later")));
    assert_true(store_view_next(view, TABLE_CLIENTS, row.key, &row));
    assert_true(bytes_equal(row.key, text("replaced later")));
    assert_true(bytes_equal(row.value, text("2")));
    assert_false(store_view_next(view, TABLE_CLIENTS, row.key, &row));
    assert_int_equal(store_view_verify(view, NULL), STATUS_OK);
    store_view_close(view);
}

struct reading {
    struct store_view *view;
    enum status status;
};

static void *verify_many_times(void *argument)
{
    struct reading *reading = argument;

    for (int i = 0; i < 20 && reading->status == STATUS_OK; i++)
        reading->status = store_view_verify(reading->view, NULL);
    return NULL;
}

static void a_worker_reads_a_view_while_the_owner_writes(void **state)
{
    struct world *w = *state;
    struct reading reading = {0};
    pthread_t worker;
    static uint8_t value[300];

    for (uint32_t i = 0; i < 2000; i++)
        store_put(w->store, TABLE_SESSIONS, bytes_of(&i, sizeof i), bytes_of(value, i % 300));
    store_commit(w->store);
    assert_int_equal(store_view_open(w->store, &reading.view), STATUS_OK);
    assert_int_equal(pthread_create(&worker, NULL, verify_many_times, &reading), 0);
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t key = i * 2654435761u % 3000;
        if (i % 3 == 0)
            store_delete(w->store, TABLE_SESSIONS, bytes_of(&key, sizeof key));
        else
            store_put(w->store, TABLE_SESSIONS, bytes_of(&key, sizeof key), bytes_of(value, i % 250));
        if (i % 500 == 0)
            assert_int_equal(store_commit(w->store), STATUS_OK);
    }
    assert_int_equal(pthread_join(worker, NULL), 0);
    assert_int_equal(reading.status, STATUS_OK);
    store_view_close(reading.view);
}

static void a_full_store_poisons_itself_and_then_does_nothing(void **state)
{
    struct world *w = *state;
    static uint8_t value[1000];
    uint64_t hash[2], after[2];
    struct bytes found;

    store_close(w->store);
    w->options.map_bytes_max = 1 << 20;
    given_store(w);
    for (uint32_t i = 0; i < 2000 && store_status(w->store) == STATUS_OK; i++)
        store_insert(w->store, TABLE_SESSIONS, bytes_of(&i, sizeof i), bytes_of(value, sizeof value));

    assert_int_equal(store_status(w->store), STATUS_NO_SPACE);
    assert_non_null(strstr(store_trouble(w->store), "no space"));
    store_hash(w->store, hash);
    store_put(w->store, TABLE_CLIENTS, text("a"), text("b"));
    store_insert(w->store, TABLE_CLIENTS, text("c"), text("d"));
    assert_false(store_delete(w->store, TABLE_CLIENTS, text("a")));
    assert_false(store_get(w->store, TABLE_CLIENTS, text("a"), &found));
    assert_int_equal(store_commit(w->store), STATUS_NO_SPACE);
    store_hash(w->store, after);
    assert_memory_equal(hash, after, sizeof hash);
}

static void the_first_trouble_is_the_one_that_is_told(void **state)
{
    struct world *w = *state;
    struct row row;

    store_insert(w->store, TABLE_CLIENTS, text("a"), text("b"));
    assert_string_equal(store_trouble(w->store), "");
    store_poison(w->store, STATUS_CORRUPT, "a row of ours cannot be read");
    store_poison(w->store, STATUS_IO_ERROR, "later");

    assert_int_equal(store_status(w->store), STATUS_CORRUPT);
    assert_string_equal(store_trouble(w->store), "store: corrupt: a row of ours cannot be read");
    assert_false(store_first_at(w->store, TABLE_CLIENTS, text("a"), &row));
}

/* ---- against a naive model: an array of rows ---- */

#define MODEL_ROWS 400

struct model_row {
    uint8_t key[STORE_KEY_MAX];
    size_t key_size;
    uint8_t value[1500];
    size_t value_size;
    bool used;
};

struct model {
    struct model_row rows[TABLE_COUNT][MODEL_ROWS];
};

static uint64_t random_next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static struct bytes model_key(const struct model_row *row)
{
    return bytes_of(row->key, row->key_size);
}

static struct model_row *model_find(struct model *model, enum table table, struct bytes key)
{
    for (int i = 0; i < MODEL_ROWS; i++) {
        struct model_row *row = &model->rows[table][i];
        if (row->used && bytes_equal(model_key(row), key))
            return row;
    }
    return NULL;
}

static void model_put(struct model *model, enum table table, struct bytes key, struct bytes value)
{
    struct model_row *row = model_find(model, table, key);

    for (int i = 0; row == NULL && i < MODEL_ROWS; i++) {
        if (!model->rows[table][i].used)
            row = &model->rows[table][i];
    }
    assert_non_null(row);
    row->used = true;
    memcpy(row->key, key.data, key.size);
    row->key_size = key.size;
    memcpy(row->value, value.data, value.size);
    row->value_size = value.size;
}

static struct model_row *model_after(struct model *model, enum table table, struct bytes key)
{
    struct model_row *best = NULL;

    for (int i = 0; i < MODEL_ROWS; i++) {
        struct model_row *row = &model->rows[table][i];
        if (row->used && bytes_compare(model_key(row), key) > 0 &&
            (best == NULL || bytes_compare(model_key(row), model_key(best)) < 0))
            best = row;
    }
    return best;
}

/* Few different keys, so that they are met again; some long, some one the prefix of another. */
static struct bytes random_key(uint64_t *seed, uint8_t key[STORE_KEY_MAX])
{
    size_t size = random_next(seed) % 10 == 0 ? STORE_KEY_MAX - random_next(seed) % 3 : 1 + random_next(seed) % 3;

    memset(key, 'k', STORE_KEY_MAX);
    key[size - 1] = (uint8_t)(random_next(seed) % 6 * 50);
    if (size > 1)
        key[size - 2] = (uint8_t)(random_next(seed) % 6 * 50);
    return bytes_of(key, size);
}

static void then_row_is(bool found, const struct row *row, const struct model_row *expected)
{
    assert_int_equal(found, expected != NULL);
    if (!found)
        return;
    assert_true(bytes_equal(row->key, model_key(expected)));
    assert_true(bytes_equal(row->value, bytes_of(expected->value, expected->value_size)));
}

static void random_write(struct store *store, struct model *model, uint64_t *seed)
{
    enum table table = (enum table)(random_next(seed) % 3);
    uint8_t key_bytes[STORE_KEY_MAX], value_bytes[1500];
    struct bytes key = random_key(seed, key_bytes);
    size_t value_size = random_next(seed) % 20 == 0 ? 1500 : random_next(seed) % 40;
    struct model_row *there = model_find(model, table, key);

    memset(value_bytes, (int)random_next(seed), sizeof value_bytes);
    if (random_next(seed) % 5 < 2) {
        assert_int_equal(store_delete(store, table, key), there != NULL);
        if (there != NULL)
            there->used = false;
        return;
    }
    if (there == NULL && random_next(seed) % 2 == 0)
        store_insert(store, table, key, bytes_of(value_bytes, value_size));
    else
        store_put(store, table, key, bytes_of(value_bytes, value_size));
    model_put(model, table, key, bytes_of(value_bytes, value_size));
}

static void random_read(struct store *store, struct model *model, uint64_t *seed)
{
    enum table table = (enum table)(random_next(seed) % 3);
    uint8_t key_bytes[STORE_KEY_MAX];
    struct bytes key = random_key(seed, key_bytes);
    struct model_row *here = model_find(model, table, key);
    struct row row = {.key = key};
    bool found;

    found = store_get(store, table, key, &row.value);
    then_row_is(found, &row, here);
    found = store_first_at(store, table, key, &row);
    then_row_is(found, &row, here != NULL ? here : model_after(model, table, key));
    found = store_first_after(store, table, key, &row);
    then_row_is(found, &row, model_after(model, table, key));
}

static void then_hash_is_that_of_the_rows(struct store *store)
{
    struct store_view *view;

    assert_int_equal(store_view_open(store, &view), STATUS_OK);
    assert_int_equal(store_view_verify(view, NULL), STATUS_OK);
    store_view_close(view);
}

static void random_operations_agree_with_a_naive_model(void **state)
{
    struct world *w = *state;
    struct model *model = memory_zeroed(1, sizeof *model), *committed = memory_zeroed(1, sizeof *model);

    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint64_t random = seed;
        for (int i = 0; i < 1500; i++) {
            random_write(w->store, model, &random);
            random_read(w->store, model, &random);
            if (random_next(&random) % 100 == 0) {
                assert_int_equal(store_commit(w->store), STATUS_OK);
                memcpy(committed, model, sizeof *model);
                then_hash_is_that_of_the_rows(w->store);
            }
            if (random_next(&random) % 150 == 0) { /* kill */
                if (w->lmdb) {
                    store_close(w->store);
                    given_store(w);
                } else {
                    store_crash(w->store);
                }
                memcpy(model, committed, sizeof *model);
                then_hash_is_that_of_the_rows(w->store);
            }
        }
    }
    free(model);
    free(committed);
}

static void both_backends_have_the_same_hash(void **state)
{
    struct world *w = *state;
    struct store *other;
    struct model *model = memory_zeroed(1, sizeof *model);
    uint64_t seed = 7, hash[2], other_hash[2];

    assert_int_equal(store_open(&(struct store_options){0}, &other), STATUS_OK);
    for (int i = 0; i < 500; i++)
        random_write(w->store, model, &seed);
    memset(model, 0, sizeof *model);
    seed = 7;
    for (int i = 0; i < 500; i++)
        random_write(other, model, &seed);
    store_hash(w->store, hash);
    store_hash(other, other_hash);
    assert_memory_equal(hash, other_hash, sizeof hash);
    store_close(other);
    free(model);
}

/* ---- memory only ---- */

static void a_crash_forgets_what_was_not_committed(void **state)
{
    struct world *w = *state;
    uint64_t before[2], after[2];

    store_insert(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_insert(w->store, TABLE_CLIENTS, text("b"), text("2"));
    store_commit(w->store);
    store_hash(w->store, before);
    store_put(w->store, TABLE_CLIENTS, text("a"), text("changed"));
    store_delete(w->store, TABLE_CLIENTS, text("a"));
    store_insert(w->store, TABLE_CLIENTS, text("a"), text("anew"));
    store_delete(w->store, TABLE_CLIENTS, text("b"));
    store_insert(w->store, TABLE_CLIENTS, text("c"), text("3"));
    store_crash(w->store);

    then_row(w, "a", "1");
    then_row(w, "b", "2");
    then_row(w, "c", NULL);
    store_hash(w->store, after);
    assert_memory_equal(before, after, sizeof before);
}

/* ---- LMDB only ---- */

/* Another process opens the store, commits a row "a", writes a row "b", and dies without closing. */
static void given_process_that_dies(struct world *w, enum status poison)
{
    int exit_code;
    pid_t child;

    if (w->store != NULL)
        store_close(w->store);
    w->store = NULL;
    child = fork();
    if (child == 0) {
        struct store *store;
        if (store_open(&w->options, &store) != STATUS_OK)
            _exit(1);
        if (w->verify)
            store_verified(store);
        store_put(store, TABLE_CLIENTS, text("a"), text("committed"));
        if (store_commit(store) != STATUS_OK)
            _exit(2);
        store_put(store, TABLE_CLIENTS, text("b"), text("not committed"));
        if (poison != STATUS_OK)
            store_poison(store, poison, "a test");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &exit_code, 0), child);
    assert_int_equal(exit_code, 0);
}

static void what_was_committed_survives_the_process(void **state)
{
    struct world *w = *state;

    given_process_that_dies(w, STATUS_OK);
    given_store(w);

    then_row(w, "a", "committed");
    then_row(w, "b", NULL);
    assert_true(store_unclean(w->store));
    then_hash_is_that_of_the_rows(w->store);
}

static void a_clean_close_needs_no_check(void **state)
{
    struct world *w = *state;

    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_commit(w->store);
    store_close(w->store);
    given_store(w);

    assert_false(store_unclean(w->store));
    then_row(w, "a", "1");
}

static void a_clean_close_is_trusted_after_a_boot(void **state)
{
    struct world *w = *state;

    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_commit(w->store);
    store_close(w->store);
    w->options.boot_id = "another boot";
    given_store(w);

    then_row(w, "a", "1");
}

static void a_store_left_open_by_an_earlier_boot_is_thrown_away(void **state)
{
    struct world *w = *state;

    given_process_that_dies(w, STATUS_OK);
    w->options.boot_id = "another boot";

    assert_int_equal(store_open(&w->options, &w->store), STATUS_DAMAGED);
    given_store(w);
    then_row(w, "a", NULL);
    then_hash_is_that_of_the_rows(w->store);
}

static void a_store_that_met_an_io_error_is_thrown_away(void **state)
{
    struct world *w = *state;

    given_process_that_dies(w, STATUS_IO_ERROR);

    assert_int_equal(store_open(&w->options, &w->store), STATUS_DAMAGED);
    given_store(w);
    then_row(w, "a", NULL);
}

static void a_store_that_was_full_is_kept(void **state)
{
    struct world *w = *state;

    given_process_that_dies(w, STATUS_NO_SPACE);
    given_store(w);

    then_row(w, "a", "committed");
    assert_true(store_unclean(w->store));
}

static void a_store_whose_process_dies_again_before_it_was_checked_is_thrown_away(void **state)
{
    struct world *w = *state;

    given_process_that_dies(w, STATUS_OK);
    given_process_that_dies(w, STATUS_OK);

    assert_int_equal(store_open(&w->options, &w->store), STATUS_DAMAGED);
    given_store(w);
    then_row(w, "a", NULL);
}

static void a_store_that_was_checked_may_see_its_process_die_again(void **state)
{
    struct world *w = *state;

    w->verify = true;
    given_process_that_dies(w, STATUS_OK);
    given_process_that_dies(w, STATUS_OK);
    given_store(w);

    then_row(w, "a", "committed");
    assert_true(store_unclean(w->store));
}

static void a_store_closed_before_it_was_checked_is_checked_next_time(void **state)
{
    struct world *w = *state;

    given_process_that_dies(w, STATUS_OK);
    given_store(w);
    store_close(w->store);
    given_store(w);

    then_row(w, "a", "committed");
    assert_true(store_unclean(w->store));
}

static void verification_ends_early_when_told_to(void **state)
{
    struct world *w = *state;
    struct store_view *view;
    atomic_bool stop = true;

    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_commit(w->store);
    assert_int_equal(store_commits(w->store), 1);
    assert_int_equal(store_view_open(w->store, &view), STATUS_OK);
    assert_int_equal(store_view_verify(view, &stop), STATUS_CLOSED);
    store_view_close(view);
}

static void overwrite_marker(struct world *w, const char *with)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/marker", w->directory);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(with, file);
    fclose(file);
}

static void a_marker_that_cannot_be_read_is_not_believed(void **state)
{
    struct world *w = *state;

    store_close(w->store);
    w->store = NULL;
    overwrite_marker(w, "coterie sto");

    assert_int_equal(store_open(&w->options, &w->store), STATUS_DAMAGED);
    given_store(w);
}

static void a_store_of_another_format_is_left_alone(void **state)
{
    struct world *w = *state;
    char line[129];

    store_close(w->store);
    w->store = NULL;
    memset(line, ' ', sizeof line - 1);
    line[128] = '\0';
    memcpy(line, "coterie store 2 closed x", 24);
    overwrite_marker(w, line);
    assert_int_equal(store_open(&w->options, &w->store), STATUS_UNSUPPORTED);
    assert_int_equal(store_open(&w->options, &w->store), STATUS_UNSUPPORTED);
    w->store = NULL;
}

static void two_processes_cannot_have_it_open(void **state)
{
    struct world *w = *state;
    struct store *second;

    assert_int_equal(store_open(&w->options, &second), STATUS_BUSY);
}

static void sync_finds_no_trouble_on_a_good_disk(void **state)
{
    struct world *w = *state;

    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_commit(w->store);
    assert_int_equal(store_sync(w->store), STATUS_OK);
    assert_true(store_bytes(w->store) > 0);
}

/* ---- spilling, and counting what there is to be written ---- */

static void what_was_spilled_lives_on_in_the_process_and_is_committed_with_the_rest(void **state)
{
    struct world *w = *state;

    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    assert_int_equal(store_spill(w->store), STATUS_OK);
    then_row(w, "a", "1");
    store_put(w->store, TABLE_CLIENTS, text("b"), text("2"));
    store_commit(w->store);
    store_close(w->store);
    given_store(w);

    then_row(w, "a", "1");
    then_row(w, "b", "2");
    then_hash_is_that_of_the_rows(w->store);
}

static void a_store_whose_process_ends_after_a_spill_is_thrown_away(void **state)
{
    struct world *w = *state;

    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_commit(w->store);
    store_put(w->store, TABLE_CLIENTS, text("b"), text("half of it"));
    store_spill(w->store);
    store_close(w->store);

    assert_int_equal(store_open(&w->options, &w->store), STATUS_DAMAGED);
    given_store(w);
    then_row(w, "a", NULL);
    then_hash_is_that_of_the_rows(w->store);
}

static uint64_t bytes_written_by_this_thread(void)
{
    char line[64];
    unsigned long long count = 0;
    FILE *file = fopen("/proc/thread-self/io", "r");

    if (file == NULL)
        skip(); /* a kernel that does not count */
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, "wchar: %llu", &count) != 1)
        ;
    fclose(file);
    return count;
}

/* Rows here and there, so many between two commits that each has a page of its own; or next to each other. */
static uint64_t given_rows(struct world *w, uint32_t count, uint32_t step)
{
    static const uint8_t value[60];

    for (uint64_t i = 0; i < count; i++) {
        uint64_t key = __builtin_bswap64(i * step % 60000);
        store_put(w->store, TABLE_CURSORS, bytes_of(&key, sizeof key), bytes_of(value, 30 + store_commits(w->store) % 30));
    }
    return store_pages_unwritten(w->store);
}

static uint64_t when_committed_pages_are_written(struct world *w)
{
    uint64_t before = bytes_written_by_this_thread();

    assert_int_equal(store_commit(w->store), STATUS_OK);
    assert_int_equal(store_pages_unwritten(w->store), 0);
    return (bytes_written_by_this_thread() - before) / 4096;
}

static void pages_that_a_commit_writes_are_known_before(void **state)
{
    struct world *w = *state;
    static const struct {
        uint32_t count, step;
    } rounds[] = {{60000, 1}, {500, 61}, {1000, 61}, {300, 977}, {5000, 7}, {60000, 1}};

    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0]; i++) {
        uint64_t counted = given_rows(w, rounds[i].count, rounds[i].step);
        uint64_t written = when_committed_pages_are_written(w);
        assert_in_range(written, counted / 2 - 20, counted * 5 / 4 + 40); /* + branches, and pages about free pages */
    }
}

/* A row changed behind the store's back: what a lost page looks like. */
static void verification_finds_a_row_that_changed_on_disk(void **state)
{
    struct world *w = *state;
    char path[128], data[8192];
    struct store_view *view;
    FILE *file;
    size_t size;
    long at = 0;

    store_put(w->store, TABLE_CLIENTS, text("a"), text("a value that is easy to find"));
    store_commit(w->store);
    store_close(w->store);
    snprintf(path, sizeof path, "%s/data.mdb", w->directory);
    file = fopen(path, "r+");
    assert_non_null(file);
    while ((size = fread(data, 1, 4096, file)) > 0) {
        char *found = memmem(data, size, "easy to find", 12);
        if (found != NULL) {
            assert_int_equal(fseek(file, at + (found - data), SEEK_SET), 0);
            fputc('E', file);
            break;
        }
        at += (long)size;
    }
    fclose(file);
    assert_true(size > 0);
    given_store(w);

    assert_int_equal(store_view_open(w->store, &view), STATUS_OK);
    assert_int_equal(store_view_verify(view, NULL), STATUS_CORRUPT);
    store_view_close(view);
}

/* Keys of branches are those that no value follows. */
static void given_changed_branches(struct world *w)
{
    char path[128], data[4096];
    unsigned changed = 0;
    FILE *file;

    snprintf(path, sizeof path, "%s/data.mdb", w->directory);
    file = fopen(path, "r+");
    assert_non_null(file);
    while (fread(data, 1, sizeof data, file) == sizeof data) {
        for (size_t i = 0; i + 13 < sizeof data; i++) {
            if (memcmp(data + i, "key-", 4) != 0 || memcmp(data + i + 8, "value", 5) == 0)
                continue;
            data[i + 7]++;
            changed++;
        }
        assert_int_equal(fseek(file, -(long)sizeof data, SEEK_CUR), 0);
        assert_int_equal(fwrite(data, 1, sizeof data, file), sizeof data);
        assert_int_equal(fflush(file), 0);
    }
    fclose(file);
    assert_true(changed > 0);
}

static void verification_finds_that_a_row_is_not_found_by_its_key(void **state)
{
    struct world *w = *state;
    struct store_view *view;
    char key[16];

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%04u", i);
        store_put(w->store, TABLE_CLIENTS, text(key), text("value"));
    }
    store_commit(w->store);
    then_hash_is_that_of_the_rows(w->store);
    store_close(w->store);
    given_changed_branches(w);
    given_store(w);

    assert_int_equal(store_view_open(w->store, &view), STATUS_OK);
    assert_int_equal(store_view_verify(view, NULL), STATUS_CORRUPT);
    store_view_close(view);
}

/* The pages that say which commit is the last. */
static void root_pages(struct world *w, bool write, uint8_t pages[2 * 4096])
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/data.mdb", w->directory);
    file = fopen(path, write ? "r+" : "r");
    assert_non_null(file);
    assert_int_equal((write ? fwrite(pages, 4096, 2, file) : fread(pages, 4096, 2, file)), 2);
    assert_int_equal(fclose(file), 0);
}

static void a_store_whose_last_commit_was_lost_is_whole_as_of_the_one_before(void **state)
{
    struct world *w = *state;
    uint8_t pages[2 * 4096];

    store_put(w->store, TABLE_CLIENTS, text("a"), text("1"));
    store_put(w->store, TABLE_CLIENTS, text("b"), text("1"));
    store_commit(w->store);
    root_pages(w, false, pages);
    store_put(w->store, TABLE_CLIENTS, text("a"), text("2"));
    store_delete(w->store, TABLE_CLIENTS, text("b"));
    store_commit(w->store);
    store_close(w->store);
    root_pages(w, true, pages);
    given_store(w);

    then_row(w, "a", "1");
    then_row(w, "b", "1");
    then_hash_is_that_of_the_rows(w->store);
}

#define BOTH(test) \
    {#test " (lmdb)", test, setup_lmdb, teardown, NULL}, {#test " (memory)", test, setup_memory, teardown, NULL}
#define LMDB(test) cmocka_unit_test_setup_teardown(test, setup_lmdb, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(a_row_is_read_as_written),
        BOTH(seeking_finds_the_next_row),
        BOTH(the_hash_does_not_depend_on_the_order_of_writes),
        BOTH(the_hash_tells_tables_and_the_border_of_key_and_value_apart),
        BOTH(the_hash_is_what_released_versions_computed),
        BOTH(a_value_may_be_borrowed_from_another_row),
        BOTH(messages_may_come_in_any_order),
        BOTH(a_view_shows_the_last_commit),
        BOTH(a_worker_reads_a_view_while_the_owner_writes),
        BOTH(a_full_store_poisons_itself_and_then_does_nothing),
        BOTH(the_first_trouble_is_the_one_that_is_told),
        BOTH(random_operations_agree_with_a_naive_model),
        BOTH(both_backends_have_the_same_hash),
        cmocka_unit_test_setup_teardown(a_crash_forgets_what_was_not_committed, setup_memory, teardown),
        LMDB(what_was_committed_survives_the_process),
        LMDB(a_clean_close_needs_no_check),
        LMDB(a_clean_close_is_trusted_after_a_boot),
        LMDB(a_store_left_open_by_an_earlier_boot_is_thrown_away),
        LMDB(a_store_that_met_an_io_error_is_thrown_away),
        LMDB(a_store_that_was_full_is_kept),
        LMDB(a_store_whose_process_dies_again_before_it_was_checked_is_thrown_away),
        LMDB(a_store_that_was_checked_may_see_its_process_die_again),
        LMDB(a_store_closed_before_it_was_checked_is_checked_next_time),
        BOTH(verification_ends_early_when_told_to),
        LMDB(a_marker_that_cannot_be_read_is_not_believed),
        LMDB(a_store_of_another_format_is_left_alone),
        LMDB(two_processes_cannot_have_it_open),
        LMDB(sync_finds_no_trouble_on_a_good_disk),
        LMDB(verification_finds_a_row_that_changed_on_disk),
        LMDB(verification_finds_that_a_row_is_not_found_by_its_key),
        LMDB(a_store_whose_last_commit_was_lost_is_whole_as_of_the_one_before),
        LMDB(what_was_spilled_lives_on_in_the_process_and_is_committed_with_the_rest),
        LMDB(a_store_whose_process_ends_after_a_spill_is_thrown_away),
        LMDB(pages_that_a_commit_writes_are_known_before),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
