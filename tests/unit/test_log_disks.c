/* test_log_disks.c — disks that fail, fill up or hang under the log. See log_world.h. */
#include <string.h>

#include "log_world.h"

static void a_failed_flush_is_final(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 3);
    disk_sim_fail(w->sim, DISK_SIM_SYNC, 0, STATUS_IO_ERROR, false);
    append(w, 1, 2);
    log_flush(w->log);
    disk_sim_run_all(w->sim);
    assert_int_equal(w->flushed_status, STATUS_IO_ERROR);
    assert_int_equal(log_durable(w->log), 3);
    assert_non_null(strstr(log_trouble(w->log), "sync /log/0"));

    struct disk_sim_counts before, after; /* the disk is well again, but nobody knows what is on it */
    disk_sim_counts(w->sim, &before);
    assert_int_equal(log_flush(w->log), STATUS_IO_ERROR);
    assert_int_equal(log_set_term(w->log, 9, 1), STATUS_IO_ERROR);
    assert_int_equal(log_truncate(w->log, 2), STATUS_IO_ERROR);
    assert_int_equal(log_reset(w->log, 50, 1), STATUS_IO_ERROR);
    struct log_entry *entry = log_entry_new(1, LOG_BARRIER, NULL, 0);
    assert_int_equal(log_append(w->log, &entry, 1), STATUS_IO_ERROR);
    log_entry_release(entry);
    log_trim(w->log, 3);
    disk_sim_run_all(w->sim);
    disk_sim_counts(w->sim, &after);
    assert_int_equal(before.calls[DISK_SIM_WRITE], after.calls[DISK_SIM_WRITE]);
    assert_int_equal(before.calls[DISK_SIM_SYNC], after.calls[DISK_SIM_SYNC]);
    disk_sim_crash(w->sim);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 3, 1);
}

/* After a failed sync the kernel may take for clean what never reached the disk: a second sync would not write it. */
static void what_a_failed_sync_left_in_the_page_cache_is_written_again_at_the_next_start(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 3);
    disk_sim_fail(w->sim, DISK_SIM_SYNC, 0, STATUS_IO_ERROR, false);
    append(w, 1, 8);
    log_flush(w->log);
    disk_sim_run_all(w->sim);
    assert_int_equal(w->flushed_status, STATUS_IO_ERROR);
    disk_sim_kill(w->sim);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_durable(w->log), 11);
    append_and_flush(w, 1, 2);
    disk_sim_crash(w->sim);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 13, 1);
}

static void a_failed_write_is_final_too(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 3);
    disk_sim_fail(w->sim, DISK_SIM_WRITE, 0, STATUS_IO_ERROR, false);
    append(w, 1, 2);
    log_flush(w->log);
    disk_sim_run_all(w->sim);
    assert_int_equal(log_status(w->log), STATUS_IO_ERROR);
    assert_int_equal(log_durable(w->log), 3);
}

static void a_full_disk_shows_ahead_of_time_and_stops_the_log_when_its_segment_is_full(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 1);
    disk_sim_set_capacity(w->sim, 3 * SEGMENT_BYTES);
    while (!log_space_is_low(w->log) && log_last(w->log) < 100)
        append_and_flush(w, 1, 1);
    assert_int_equal(log_status(w->log), STATUS_OK); /* it still works */
    while (log_status(w->log) == STATUS_OK && log_last(w->log) < 200) {
        append(w, 1, 1);
        log_flush(w->log);
        disk_sim_run_all(w->sim);
    }
    assert_int_equal(w->flushed_status, STATUS_NO_SPACE);
    assert_int_equal(log_durable(w->log), log_last(w->log) - 1);
    disk_sim_set_capacity(w->sim, 0);
    uint64_t durable = log_durable(w->log);
    assert_int_equal(log_flush(w->log), STATUS_NO_SPACE);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, durable, 1);
}

static void space_that_a_trim_frees_is_used(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 30);
    disk_sim_set_capacity(w->sim, 5 * SEGMENT_BYTES);
    while (!log_space_is_low(w->log))
        append_and_flush(w, 1, 1);
    log_trim(w->log, log_last(w->log));
    disk_sim_run_all(w->sim);
    assert_false(log_space_is_low(w->log));
    append_and_flush(w, 1, 30);
    assert_int_equal(log_status(w->log), STATUS_OK);
}

static void space_that_others_freed_is_found_by_asking(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 1);
    disk_sim_set_capacity(w->sim, 2 * SEGMENT_BYTES);
    while (!log_space_is_low(w->log))
        append_and_flush(w, 1, 1);
    log_retry_space(w->log);
    disk_sim_run_all(w->sim);
    assert_true(log_space_is_low(w->log));
    disk_sim_set_capacity(w->sim, 0);
    log_retry_space(w->log);
    assert_true(log_space_is_low(w->log)); /* not before it is known */
    disk_sim_run_all(w->sim);
    assert_false(log_space_is_low(w->log));
    append_and_flush(w, 1, 60);
    assert_int_equal(log_status(w->log), STATUS_OK);
}

static void a_hung_disk_holds_up_the_flush_but_not_the_owner(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 3);
    disk_sim_hang(w->sim, true);
    append(w, 1, 2);
    log_flush(w->log);
    disk_sim_run(w->sim, 1000000);
    assert_int_equal(log_durable(w->log), 3);
    append(w, 1, 2);
    assert_int_equal(log_flush(w->log), STATUS_OK);
    assert_int_equal(log_durable(w->log), 3);
    disk_sim_hang(w->sim, false);
    disk_sim_run_all(w->sim);
    log_flush(w->log);
    disk_sim_run_all(w->sim);
    assert_int_equal(log_durable(w->log), 7);
}

static void the_mark_is_written_once_after_a_rest_and_costs_nothing_afterwards(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 3);
    log_flush_mark(w->log);
    disk_sim_run_all(w->sim);
    struct log_counts one, two;
    log_counts(w->log, &one);
    log_flush_mark(w->log);
    disk_sim_run_all(w->sim);
    log_counts(w->log, &two);
    assert_int_equal(one.flushes, 2);
    assert_int_equal(two.flushes, 2);
    append_and_flush(w, 1, 2);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 5, 1);
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(a_failed_flush_is_final),
        IN_A_WORLD(what_a_failed_sync_left_in_the_page_cache_is_written_again_at_the_next_start),
        IN_A_WORLD(a_failed_write_is_final_too),
        IN_A_WORLD(a_full_disk_shows_ahead_of_time_and_stops_the_log_when_its_segment_is_full),
        IN_A_WORLD(space_that_a_trim_frees_is_used),
        IN_A_WORLD(space_that_others_freed_is_found_by_asking),
        IN_A_WORLD(a_hung_disk_holds_up_the_flush_but_not_the_owner),
        IN_A_WORLD(the_mark_is_written_once_after_a_rest_and_costs_nothing_afterwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
