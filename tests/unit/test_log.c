/* test_log.c — the log keeps what it said is durable, and never hands out something else: group commit, segments, term
 * and vote. See log_world.h. */
#include <stdlib.h>
#include <string.h>

#include "log_world.h"
#include "storage/base/memory.h"
#include "storage/log_format.h"

/* ---- group commit ---- */

static void an_appended_entry_is_durable_only_after_its_flush_has_ended(void **state)
{
    struct world *w = *state;
    append(w, 1, 3);
    assert_int_equal(log_last(w->log), 3);
    assert_int_equal(log_durable(w->log), 0);
    log_flush(w->log);
    assert_int_equal(log_durable(w->log), 0);
    disk_sim_run_all(w->sim);
    assert_int_equal(log_durable(w->log), 3);
    assert_int_equal(w->flushed, 3);
}

static void what_comes_while_a_flush_is_out_goes_together_with_the_next_one(void **state)
{
    struct world *w = *state;
    append(w, 1, 1);
    log_flush(w->log);
    for (int i = 0; i < 5; i++) {
        append(w, 1, 1);
        log_flush(w->log);
    }
    disk_sim_run_all(w->sim);
    struct log_counts counts;
    log_counts(w->log, &counts);
    assert_int_equal(counts.flushes, 2);
    assert_int_equal(log_durable(w->log), 6);
}

static void entries_survive_a_restart(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 10);
    append_and_flush(w, 3, 5);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_first(w->log), 1);
    assert_int_equal(log_last(w->log), 15);
    assert_int_equal(log_durable(w->log), 15);
    assert_entries(w, 1, 10, 1);
    assert_entries(w, 11, 15, 3);
    assert_int_equal(log_term_of(w->log, 16), 0);
    append_and_flush(w, 3, 5);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 11, 20, 3);
}

static void entries_fill_segment_after_segment(void **state)
{
    struct world *w = *state;
    for (int i = 0; i < 40; i++)
        append_and_flush(w, 1, 5);
    assert_true(segment_files(w) > 8);
    assert_entries(w, 1, 200, 1);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 200, 1);
}

static void more_than_a_segment_in_one_flush_becomes_several_flushes(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 200);
    assert_int_equal(log_durable(w->log), 200);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 200, 1);
}

static void an_entry_larger_than_a_segment_gets_one_of_its_own(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 2);
    append_sized(w, 1, 100000);
    append_sized(w, 1, 0);
    flush(w);
    append_and_flush(w, 1, 1);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 2, 1);
    assert_entry(w, 3, 1, 100000);
    assert_entry(w, 4, 1, 0);
    assert_entry(w, 5, 1, usual_size(5));
}

static void old_entries_are_read_from_disk_when_the_cache_is_small(void **state)
{
    struct world *w = *state;
    w->options.cache_bytes = 2000;
    assert_int_equal(reopen(w), STATUS_OK);
    append_and_flush(w, 1, 100);
    struct log_counts counts;
    log_counts(w->log, &counts);
    assert_true(counts.cached_bytes <= 2000);
    assert_entries(w, 1, 100, 1);

    struct log_entry *entries[64];
    size_t count;
    assert_int_equal(log_get_many(w->log, 50, 64, 1000, entries, &count), STATUS_OK);
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += entries[i]->size;
        log_entry_release(entries[i]);
    }
    assert_in_range(bytes, 700, 1000);
    assert_int_equal(log_get_many(w->log, 90, 64, SIZE_MAX, entries, &count), STATUS_OK);
    assert_int_equal(count, 11);
    while (count > 0)
        log_entry_release(entries[--count]);
    assert_int_equal(log_get(w->log, 101, &entries[0]), STATUS_NOT_FOUND);
}

static void an_entry_outlives_the_log_that_handed_it_out(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 1);
    struct log_entry *entry;
    assert_int_equal(log_get(w->log, 1, &entry), STATUS_OK);
    log_truncate(w->log, 1);
    log_close(w->log);
    w->log = NULL;
    assert_int_equal(entry->size, usual_size(1));
    log_entry_release(entry);
}

/* ---- truncating, trimming, resetting ---- */

static void a_truncated_suffix_is_replaced_by_what_follows(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 60);
    assert_int_equal(log_truncate(w->log, 21), STATUS_OK);
    assert_int_equal(log_last(w->log), 20);
    assert_int_equal(log_durable(w->log), 20);
    append_and_flush(w, 2, 10);
    assert_entries(w, 1, 20, 1);
    assert_entries(w, 21, 30, 2);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 30);
    assert_entries(w, 1, 20, 1);
    assert_entries(w, 21, 30, 2);
    append_and_flush(w, 2, 100);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 21, 130, 2);
}

static void a_truncation_before_anything_follows_may_be_forgotten_by_a_restart(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 30);
    log_truncate(w->log, 11);
    assert_int_equal(log_set_term(w->log, 5, 2), STATUS_OK); /* metadata must not take the old entries for damage */
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 30);
}

static void entries_truncated_before_they_were_written_leave_no_trace(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 5);
    append(w, 1, 5);
    log_truncate(w->log, 8);
    append_and_flush(w, 2, 2);
    assert_int_equal(segment_files(w), 1);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 7, 1);
    assert_entries(w, 8, 9, 2);
}

static void entries_truncated_while_their_flush_is_out_do_not_count_as_durable(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 5);
    append(w, 1, 5);
    log_flush(w->log);
    log_truncate(w->log, 7);
    append(w, 2, 3);
    log_flush(w->log);
    disk_sim_run(w->sim, 0);
    assert_int_equal(log_durable(w->log), 9);
    assert_entries(w, 1, 6, 1);
    assert_entries(w, 7, 9, 2);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_entries(w, 1, 6, 1);
    assert_entries(w, 7, 9, 2);
}

static void all_of_a_log_can_be_truncated_and_written_anew(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 40);
    log_truncate(w->log, 1);
    assert_int_equal(log_last(w->log), 0);
    append_and_flush(w, 2, 3);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 3);
    assert_entries(w, 1, 3, 2);
}

static void trimming_removes_whole_segments_below_the_index(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 200);
    unsigned before = segment_files(w);
    log_trim(w->log, 100);
    disk_sim_run_all(w->sim);
    uint64_t first = log_first(w->log);
    assert_in_range(first, 70, 101);
    assert_true(segment_files(w) < before);
    assert_int_equal(log_term_of(w->log, first - 1), 1);
    assert_int_equal(log_term_of(w->log, first - 2), 0);
    w->options.covered = 100;
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_first(w->log), first);
    assert_int_equal(log_term_of(w->log, first - 1), 1);
    assert_entries(w, first, 200, 1);
    log_trim(w->log, 200);
    assert_true(log_first(w->log) <= 200); /* the last segment stays */
}

static void the_log_says_what_its_entries_take_and_how_much_of_it_fits(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 200);
    struct log_counts counts;
    log_counts(w->log, &counts);
    uint64_t all = log_bytes_between(w->log, 0, 200), front = log_bytes_between(w->log, 0, 77);
    assert_in_range(all, counts.disk_bytes / 2, counts.disk_bytes);
    assert_int_equal(log_bytes_between(w->log, 76, 77), log_record_size(usual_size(77)));
    assert_int_equal(front + log_bytes_between(w->log, 77, 1000), all); /* of what is not there there is nothing */
    assert_int_equal(log_bytes_between(w->log, 200, 77), 0);

    assert_int_equal(log_first_within(w->log, counts.disk_bytes), 1);
    assert_int_equal(log_first_within(w->log, SEGMENT_BYTES - 1), 201);
    uint64_t first = log_first_within(w->log, 3 * SEGMENT_BYTES);
    assert_in_range(first, 2, 200);
    log_trim(w->log, first - 1);
    assert_int_equal(log_first(w->log), first);
    log_counts(w->log, &counts);
    assert_in_range(counts.disk_bytes, 2 * SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES);
    assert_int_equal(log_bytes_between(w->log, 0, 200), log_bytes_between(w->log, first - 1, 200));
    disk_sim_run_all(w->sim);
    w->options.covered = first - 1;
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_first_within(w->log, UINT64_MAX), first);
}

static void a_trimmed_log_without_the_snapshot_that_covers_it_is_damaged(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 200);
    log_trim(w->log, 100);
    disk_sim_run_all(w->sim);
    uint64_t first = log_first(w->log);
    w->options.covered = first - 2;
    assert_int_equal(reopen(w), STATUS_DAMAGED);
    assert_non_null(strstr(w->fault.text, "the log begins at entry"));
    w->options.covered = first - 1;
    assert_int_equal(reopen(w), STATUS_OK);
}

static void after_a_reset_the_log_begins_behind_the_snapshot(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 50);
    assert_int_equal(log_set_term(w->log, 7, 1), STATUS_OK);
    assert_int_equal(log_reset(w->log, 1000, 7), STATUS_OK);
    assert_int_equal(log_first(w->log), 1001);
    assert_int_equal(log_last(w->log), 1000);
    assert_int_equal(log_durable(w->log), 1000);
    assert_int_equal(log_term_of(w->log, 1000), 7);
    append_and_flush(w, 7, 5);
    assert_int_equal(log_durable(w->log), 1005);
    w->options.covered = 1000;
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(segment_files(w), 1);
    assert_int_equal(log_first(w->log), 1001);
    assert_int_equal(log_term_of(w->log, 1000), 7);
    assert_entries(w, 1001, 1005, 7);
}

static void a_reset_survives_a_restart_without_any_entry(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 50);
    log_set_term(w->log, 7, 1);
    log_reset(w->log, 1000, 7);
    disk_sim_run_all(w->sim);
    w->options.covered = 1000;
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 1000);
    assert_int_equal(log_term_of(w->log, 1000), 7);
}

static void a_crash_before_a_reset_is_durable_brings_back_the_old_log(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 50);
    log_set_term(w->log, 7, 1);
    log_reset(w->log, 1000, 7);
    log_set_term(w->log, 8, 1);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 50);
}

/* ---- term and vote ---- */

static void term_and_vote_are_durable_when_the_call_returns(void **state)
{
    struct world *w = *state;
    for (uint64_t term = 1; term < 20; term++) {
        assert_int_equal(log_set_term(w->log, term, term % 3), STATUS_OK);
        disk_sim_crash(w->sim);
        assert_int_equal(reopen(w), STATUS_OK);
        assert_int_equal(log_term(w->log), term);
        assert_int_equal(log_vote(w->log), term % 3);
    }
}

static void a_change_of_term_that_power_loss_interrupts_counts_whole_or_not_at_all(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct world w;
        world_init(&w, disk_sim_new(&(struct disk_sim_options){.seed = seed, .cut_inside_sectors = true}));
        assert_int_equal(reopen(&w), STATUS_OK);
        assert_int_equal(log_set_term(w.log, 1, 2), STATUS_OK);
        disk_sim_fail(w.sim, seed % 2 == 0 ? DISK_SIM_WRITE : DISK_SIM_SYNC, seed / 2 % 2, STATUS_IO_ERROR, true);
        assert_int_equal(log_set_term(w.log, 2, 3), STATUS_IO_ERROR);
        disk_sim_crash(w.sim);
        disk_sim_heal(w.sim);
        assert_int_equal(reopen(&w), STATUS_OK);
        assert_true((log_term(w.log) == 1 && log_vote(w.log) == 2) || (log_term(w.log) == 2 && log_vote(w.log) == 3));
        world_release(&w);
    }
}

static void rot_in_one_of_the_metadata_files_changes_nothing(void **state)
{
    struct world *w = *state;
    log_set_term(w->log, 4, 1);
    log_set_term(w->log, 5, 3);
    for (size_t i = 0; i < 2 * LOG_METADATA_SIZE; i++) {
        disk_sim_flip(w->sim, i % 2 == 0 ? "/log/metadata-1" : "/log/metadata-2", i / 2, 0x10);
        assert_int_equal(reopen(w), STATUS_OK);
        assert_int_equal(log_term(w->log), 5);
        assert_int_equal(log_vote(w->log), 3);
    }
    disk_unlink(disk_sim_disk(w->sim), "/log/metadata-2");
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_term(w->log), 5);
}

/* Each start finds one copy that a failed write has torn, and its own first write fails too. */
static void the_copy_of_the_metadata_that_holds_is_written_last(void **state)
{
    struct world *w = *state;
    assert_int_equal(log_set_term(w->log, 7, 2), STATUS_OK);
    for (unsigned round = 0; round < 20; round++) {
        disk_sim_fail(w->sim, DISK_SIM_WRITE, round % 2, STATUS_IO_ERROR, false);
        assert_int_equal(reopen(w), STATUS_IO_ERROR);
    }
    disk_sim_heal(w->sim);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_term(w->log), 7);
    assert_int_equal(log_vote(w->log), 2);
}

static void without_any_metadata_the_node_must_not_come_back(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 1);
    w->options.repair = w->options.create = true;
    disk_sim_flip(w->sim, "/log/metadata-1", 20, 1);
    disk_sim_flip(w->sim, "/log/metadata-2", 9, 1);
    assert_int_equal(reopen(w), STATUS_CORRUPT);
    assert_non_null(strstr(w->fault.text, "must not come back"));
    disk_unlink(disk_sim_disk(w->sim), "/log/metadata-1");
    disk_unlink(disk_sim_disk(w->sim), "/log/metadata-2");
    assert_int_equal(reopen(w), STATUS_CORRUPT);
}

static void metadata_older_than_the_entries_is_an_old_copy(void **state)
{
    struct world *w = *state;
    log_set_term(w->log, 1, 1);
    struct bytes seen = disk_sim_content(w->sim, "/log/metadata-1");
    uint8_t *copy = memory_copy(seen.data, seen.size);
    append_and_flush(w, 2, 1);
    disk_sim_put(w->sim, "/log/metadata-1", bytes_of(copy, seen.size));
    disk_sim_put(w->sim, "/log/metadata-2", bytes_of(copy, seen.size));
    free(copy);
    assert_int_equal(reopen(w), STATUS_DAMAGED);
    assert_non_null(strstr(w->fault.text, "old copy"));
}

static void a_log_is_made_only_when_asked_for(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, disk_sim_new(&(struct disk_sim_options){.seed = 3}));
    w.options.create = false;
    assert_int_equal(reopen(&w), STATUS_NOT_FOUND);
    w.options.create = true;
    assert_int_equal(reopen(&w), STATUS_OK);
    append_and_flush(&w, 1, 3);
    assert_int_equal(reopen(&w), STATUS_OK); /* and it is kept when there is one */
    assert_int_equal(log_last(w.log), 3);
    world_release(&w);
}

static void an_interrupted_creation_can_be_repeated(void **state)
{
    (void)state;
    for (uint64_t skip = 0; skip < 10; skip++) {
        struct world w;
        world_init(&w, disk_sim_new(&(struct disk_sim_options){.seed = skip}));
        disk_sim_fail(w.sim, DISK_SIM_SYNC, skip, STATUS_IO_ERROR, true);
        disk_sim_fail(w.sim, DISK_SIM_SYNC_DIRECTORY, skip, STATUS_IO_ERROR, true);
        enum status status = reopen(&w);
        assert_true(status == STATUS_OK || status == STATUS_IO_ERROR);
        disk_sim_crash(w.sim);
        disk_sim_heal(w.sim);
        assert_int_equal(reopen(&w), STATUS_OK);
        append_and_flush(&w, 1, 1);
        world_release(&w);
    }
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(an_appended_entry_is_durable_only_after_its_flush_has_ended),
        IN_A_WORLD(what_comes_while_a_flush_is_out_goes_together_with_the_next_one),
        IN_A_WORLD(entries_survive_a_restart),
        IN_A_WORLD(entries_fill_segment_after_segment),
        IN_A_WORLD(more_than_a_segment_in_one_flush_becomes_several_flushes),
        IN_A_WORLD(an_entry_larger_than_a_segment_gets_one_of_its_own),
        IN_A_WORLD(old_entries_are_read_from_disk_when_the_cache_is_small),
        IN_A_WORLD(an_entry_outlives_the_log_that_handed_it_out),
        IN_A_WORLD(a_truncated_suffix_is_replaced_by_what_follows),
        IN_A_WORLD(a_truncation_before_anything_follows_may_be_forgotten_by_a_restart),
        IN_A_WORLD(entries_truncated_before_they_were_written_leave_no_trace),
        IN_A_WORLD(entries_truncated_while_their_flush_is_out_do_not_count_as_durable),
        IN_A_WORLD(all_of_a_log_can_be_truncated_and_written_anew),
        IN_A_WORLD(trimming_removes_whole_segments_below_the_index),
        IN_A_WORLD(the_log_says_what_its_entries_take_and_how_much_of_it_fits),
        IN_A_WORLD(a_trimmed_log_without_the_snapshot_that_covers_it_is_damaged),
        IN_A_WORLD(after_a_reset_the_log_begins_behind_the_snapshot),
        IN_A_WORLD(a_reset_survives_a_restart_without_any_entry),
        IN_A_WORLD(a_crash_before_a_reset_is_durable_brings_back_the_old_log),
        IN_A_WORLD(term_and_vote_are_durable_when_the_call_returns),
        cmocka_unit_test(a_change_of_term_that_power_loss_interrupts_counts_whole_or_not_at_all),
        IN_A_WORLD(rot_in_one_of_the_metadata_files_changes_nothing),
        IN_A_WORLD(the_copy_of_the_metadata_that_holds_is_written_last),
        IN_A_WORLD(without_any_metadata_the_node_must_not_come_back),
        IN_A_WORLD(metadata_older_than_the_entries_is_an_old_copy),
        cmocka_unit_test(a_log_is_made_only_when_asked_for),
        cmocka_unit_test(an_interrupted_creation_can_be_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
