/* test_disk_posix.c — the real file system keeps the promises of disk.h, and the log runs on it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "storage/base/memory.h"
#include "storage/disk.h"
#include "storage/log.h"

struct world {
    char directory[64];
    struct disk *disk;
    char path[DISK_PATH_MAX];    /* of one file inside */
    struct disk_job *job;        /* waiting */
};

static int setup(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);
    snprintf(w->directory, sizeof w->directory, "/tmp/coterie-disk-XXXXXX");
    if (mkdtemp(w->directory) == NULL)
        return -1;
    w->disk = disk_posix();
    disk_path(w->path, w->directory, "file");
    *state = w;
    return 0;
}

static void remove_one(void *context, const char *name)
{
    struct world *w = context;
    char path[DISK_PATH_MAX];
    disk_path(path, w->directory, name);
    remove(path);
}

static int teardown(void **state)
{
    struct world *w = *state;
    disk_list(w->disk, w->directory, remove_one, w);
    remove(w->directory);
    free(w);
    return 0;
}

static void a_created_file_is_all_zeros_and_occupies_its_place(void **state)
{
    struct world *w = *state;
    struct disk_file *file;
    assert_int_equal(disk_create(w->disk, w->path, 700000, &file), STATUS_OK);
    assert_int_equal(disk_size(file), 700000);
    uint8_t byte = 1;
    assert_int_equal(disk_read(file, 699999, &byte, 1), STATUS_OK);
    assert_int_equal(byte, 0);
    disk_close(file);
    struct stat facts;
    assert_int_equal(stat(w->path, &facts), 0);
    assert_true((uint64_t)facts.st_blocks * 512 >= 700000);
    assert_int_equal(facts.st_mode & 0777, 0600);
    assert_int_equal(disk_create(w->disk, w->path, 10, &file), STATUS_EXISTS);
    assert_non_null(strstr(disk_trouble(), w->path));
}

static void what_was_written_is_read_back(void **state)
{
    struct world *w = *state;
    struct disk_file *file;
    assert_int_equal(disk_create(w->disk, w->path, 100, &file), STATUS_OK);
    assert_int_equal(disk_write(file, 90, "0123456789abcdef", 16), STATUS_OK);
    assert_int_equal(disk_sync(file), STATUS_OK);
    assert_int_equal(disk_size(file), 106);
    char text[16];
    assert_int_equal(disk_read(file, 90, text, 16), STATUS_OK);
    assert_memory_equal(text, "0123456789abcdef", 16);
    assert_int_equal(disk_read(file, 91, text, 16), STATUS_IO_ERROR);
    assert_non_null(strstr(disk_trouble(), "beyond the end"));
    assert_int_equal(disk_resize(file, 95), STATUS_OK);
    assert_int_equal(disk_size(file), 95);
    disk_close(file);
}

static void a_missing_file_is_not_found(void **state)
{
    struct world *w = *state;
    struct disk_file *file;
    struct buffer content = {0};
    assert_int_equal(disk_open(w->disk, w->path, &file), STATUS_NOT_FOUND);
    assert_int_equal(disk_unlink(w->disk, w->path), STATUS_NOT_FOUND);
    assert_int_equal(disk_read_file(w->disk, w->path, 10, &content), STATUS_NOT_FOUND);
}

static void a_full_disk_is_told_apart_from_other_errors(void **state)
{
    struct world *w = *state;
    struct disk_file *file;
    assert_int_equal(disk_open(w->disk, "/dev/full", &file), STATUS_OK);
    assert_int_equal(disk_write(file, 0, "x", 1), STATUS_NO_SPACE);
    disk_close(file);
    assert_int_equal(disk_list(w->disk, w->path, remove_one, w), STATUS_NOT_FOUND);
}

static void a_file_is_replaced_in_one_step(void **state)
{
    struct world *w = *state;
    struct buffer content = {0};
    assert_int_equal(disk_replace_file(w->disk, w->directory, "file", bytes_text("first")), STATUS_OK);
    assert_int_equal(disk_replace_file(w->disk, w->directory, "file", bytes_text("second one")), STATUS_OK);
    assert_int_equal(disk_read_file(w->disk, w->path, 10, &content), STATUS_OK);
    assert_true(bytes_equal(buffer_bytes(&content), bytes_text("second one")));
    assert_int_equal(disk_read_file(w->disk, w->path, 9, &content), STATUS_TOO_LARGE);
    buffer_release(&content);
}

static void making_a_directory_that_exists_is_fine(void **state)
{
    struct world *w = *state;
    assert_int_equal(disk_make_directory(w->disk, w->directory), STATUS_OK);
    assert_int_equal(disk_sync_directory(w->disk, w->directory), STATUS_OK);
    disk_path(w->path, w->directory, "missing/directory");
    assert_int_equal(disk_make_directory(w->disk, w->path), STATUS_NOT_FOUND);
}

/* ---- the log on it ---- */

static void keep_job(void *context, struct disk_job *job)
{
    struct world *w = context;
    job->next = w->job;
    w->job = job;
}

static void run_jobs(struct world *w)
{
    while (w->job != NULL) {
        struct disk_job *job = w->job;
        w->job = job->next;
        disk_job_run(job);
        disk_job_done(job);
    }
}

static void the_log_writes_trims_and_comes_back_on_a_real_disk(void **state)
{
    struct world *w = *state;
    struct log_options options = {
        .disk = w->disk,
        .directory = w->directory,
        .queue = {keep_job, w},
        .create = true,
        .segment_bytes = 65536,
        .covered = 150,
    };
    struct log *log;
    struct log_fault fault;
    assert_int_equal(log_open(&options, &log, &fault), STATUS_OK);
    assert_int_equal(log_set_term(log, 3, 2), STATUS_OK);
    char text[1000];
    memset(text, 'x', sizeof text);
    for (int i = 0; i < 300; i++) {
        struct log_entry *entry = log_entry_new(3, LOG_COMMAND, text, sizeof text);
        assert_int_equal(log_append(log, &entry, 1), STATUS_OK);
        log_entry_release(entry);
        assert_int_equal(log_flush(log), STATUS_OK);
        run_jobs(w);
    }
    log_trim(log, 150);
    run_jobs(w);
    assert_int_equal(log_durable(log), 300);
    log_close(log);

    options.create = false;
    assert_int_equal(log_open(&options, &log, &fault), STATUS_OK);
    assert_int_equal(log_term(log), 3);
    assert_int_equal(log_vote(log), 2);
    assert_in_range(log_first(log), 60, 151);
    assert_int_equal(log_last(log), 300);
    struct log_entry *entry;
    assert_int_equal(log_get(log, 200, &entry), STATUS_OK);
    assert_memory_equal(entry->data, text, sizeof text);
    log_entry_release(entry);
    log_close(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_created_file_is_all_zeros_and_occupies_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_written_is_read_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_file_is_not_found, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_disk_is_told_apart_from_other_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_is_replaced_in_one_step, setup, teardown),
        cmocka_unit_test_setup_teardown(making_a_directory_that_exists_is_fine, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_writes_trims_and_comes_back_on_a_real_disk, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
