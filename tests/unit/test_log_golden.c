/* test_log_golden.c — logs written by every released format can be read for ever.
 *
 * tests/golden/log-format-<n>/ holds the files of a small log. It was written by write_golden() below, once, when that
 * format was new: COTERIE_GOLDEN_WRITE=<directory> test_log_golden. A new format gets a new directory and a new row;
 * none is ever written again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "storage/log.h"
#include "tests/sim/world/disk_sim.h"

static const char *const names[] = {"0000000000000001.segment", "0000000000000002.segment", "metadata-1", "metadata-2"};
#define NAME_COUNT (sizeof names / sizeof names[0])

static const struct golden_entry {
    uint64_t term;
    enum log_entry_type type;
    const char *content;
} golden[] = {
    {1, LOG_CHANGE, "the members"},
    {1, LOG_BARRIER, ""},
    {1, LOG_COMMAND, "a batch of commands"},
    {4, LOG_BARRIER, ""},
    {4, LOG_COMMAND, "what a later leader wrote instead"},
    {4, LOG_COMMAND, "12345678"},
};
#define GOLDEN_COUNT (sizeof golden / sizeof golden[0])

static struct log *open_log(struct disk_sim *sim, bool create)
{
    struct log_options options = {
        .disk = disk_sim_disk(sim),
        .directory = "/log",
        .queue = disk_sim_queue(sim),
        .create = create,
        .segment_bytes = 1024,
        .salt = 0x1122334455667788,
    };
    struct log *log;
    struct log_fault fault;
    enum status status = log_open(&options, &log, &fault);
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_text(status), fault.text);
    return log;
}

static void append(struct disk_sim *sim, struct log *log, const struct golden_entry *g)
{
    struct log_entry *entry = log_entry_new(g->term, g->type, g->content, strlen(g->content));
    log_append(log, &entry, 1);
    log_entry_release(entry);
    log_flush(log);
    disk_sim_run_all(sim);
}

/* Term 1 writes three entries and one that a leader of term 4 takes back; a mark at the end. */
static void write_golden(const char *directory)
{
    struct disk_sim *sim = disk_sim_new(&(struct disk_sim_options){.seed = 1});
    struct log *log = open_log(sim, true);
    log_set_term(log, 1, 1);
    for (size_t i = 0; i < 3; i++)
        append(sim, log, &golden[i]);
    append(sim, log, &(struct golden_entry){1, LOG_COMMAND, "never committed"});
    log_set_term(log, 4, 3);
    log_truncate(log, 4);
    for (size_t i = 3; i < GOLDEN_COUNT; i++)
        append(sim, log, &golden[i]);
    log_flush_mark(log);
    disk_sim_run_all(sim);
    log_close(log);
    for (size_t i = 0; i < NAME_COUNT; i++) {
        char from[DISK_PATH_MAX], to[DISK_PATH_MAX];
        disk_path(from, "/log", names[i]);
        disk_path(to, directory, names[i]);
        struct bytes content = disk_sim_content(sim, from);
        FILE *file = fopen(to, "wb");
        if (file == NULL || fwrite(content.data, 1, content.size, file) != content.size)
            abort();
        fclose(file);
    }
    disk_sim_free(sim);
}

static void the_log_of_format_1_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct disk_sim *sim = disk_sim_new(&(struct disk_sim_options){.seed = 1});
    for (size_t i = 0; i < NAME_COUNT; i++) {
        char from[DISK_PATH_MAX], to[DISK_PATH_MAX];
        struct buffer content = {0};
        disk_path(from, COTERIE_SOURCE_DIR "/tests/golden/log-format-1", names[i]);
        disk_path(to, "/log", names[i]);
        assert_int_equal(disk_read_file(disk_posix(), from, 4096, &content), STATUS_OK);
        disk_sim_put(sim, to, buffer_bytes(&content));
        buffer_release(&content);
    }
    struct log *log = open_log(sim, false);
    assert_int_equal(log_term(log), 4);
    assert_int_equal(log_vote(log), 3);
    assert_int_equal(log_owed(log), 0);
    assert_int_equal(log_first(log), 1);
    assert_int_equal(log_last(log), GOLDEN_COUNT);
    for (size_t i = 0; i < GOLDEN_COUNT; i++) {
        struct log_entry *entry;
        assert_int_equal(log_get(log, i + 1, &entry), STATUS_OK);
        assert_int_equal(entry->term, golden[i].term);
        assert_int_equal(entry->type, golden[i].type);
        assert_true(bytes_equal(log_entry_bytes(entry), bytes_text(golden[i].content)));
        log_entry_release(entry);
    }
    log_close(log);
    disk_sim_free(sim);
}

int main(void)
{
    const char *directory = getenv("COTERIE_GOLDEN_WRITE");
    if (directory != NULL) {
        write_golden(directory);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_log_of_format_1_is_read_as_it_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
