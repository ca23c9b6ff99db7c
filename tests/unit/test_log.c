/* test_log.c — the log keeps what it said is durable, and never hands out something else.
 *
 * A world is a simulated disk and a log on it. Entry i of term t has a content that only it can have, so that every
 * read can be checked. Segments are small: 4 KiB. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "storage/base/memory.h"
#include "storage/log.h"
#include "storage/log_format.h"
#include "tests/sim/world/disk_sim.h"

#define SEGMENT_BYTES 4096
#define FIRST_SEGMENT_NAME "0000000000000001.segment"
#define FIRST_SEGMENT "/log/" FIRST_SEGMENT_NAME

struct world {
    struct disk_sim *sim;
    struct log_options options;
    struct log *log;
    struct log_fault fault;
    uint64_t flushed;            /* what the callback said last */
    enum status flushed_status;
    unsigned callbacks;
};

static void note_flushed(void *context, enum status status, uint64_t durable)
{
    struct world *w = context;
    w->flushed = durable;
    w->flushed_status = status;
    w->callbacks++;
}

static void world_init(struct world *w, struct disk_sim *sim)
{
    memset(w, 0, sizeof *w);
    w->sim = sim;
    w->options = (struct log_options){
        .disk = disk_sim_disk(sim),
        .directory = "/log",
        .queue = disk_sim_queue(sim),
        .flushed = note_flushed,
        .context = w,
        .create = true,
        .segment_bytes = SEGMENT_BYTES,
    };
}

static enum status reopen(struct world *w)
{
    if (w->log != NULL)
        log_close(w->log);
    w->log = NULL;
    return log_open(&w->options, &w->log, &w->fault);
}

static void world_release(struct world *w)
{
    if (w->log != NULL)
        log_close(w->log);
    disk_sim_free(w->sim);
}

static int setup(void **state)
{
    struct world *w = memory_allocate(sizeof *w);
    world_init(w, disk_sim_new(&(struct disk_sim_options){.seed = 1}));
    assert_int_equal(reopen(w), STATUS_OK);
    w->options.create = false;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    world_release(*state);
    free(*state);
    return 0;
}

/* ---- given, when, then ---- */

static size_t content_of(uint64_t index, uint64_t term, size_t size, uint8_t *out)
{
    for (size_t i = 0; i < size; i++)
        out[i] = (uint8_t)(1 + (index * 31 + term * 17 + i * 7) % 255);
    return size;
}

static void append_sized(struct world *w, uint64_t term, size_t size)
{
    uint8_t *content = memory_allocate(size);
    content_of(log_last(w->log) + 1, term, size, content);
    if (log_term(w->log) < term)
        assert_int_equal(log_set_term(w->log, term, 0), STATUS_OK);
    struct log_entry *entry = log_entry_new(term, LOG_COMMAND, content, size);
    log_append(w->log, &entry, 1);
    log_entry_release(entry);
    free(content);
}

static size_t usual_size(uint64_t index)
{
    return 40 + index * 13 % 200;
}

static void append(struct world *w, uint64_t term, unsigned count)
{
    while (count-- > 0)
        append_sized(w, term, usual_size(log_last(w->log) + 1));
}

static void flush(struct world *w)
{
    assert_int_equal(log_flush(w->log), STATUS_OK);
    disk_sim_run_all(w->sim);
}

static void append_and_flush(struct world *w, uint64_t term, unsigned count)
{
    append(w, term, count);
    flush(w);
}

static void assert_entry(struct world *w, uint64_t index, uint64_t term, size_t size)
{
    struct log_entry *entry;
    assert_int_equal(log_get(w->log, index, &entry), STATUS_OK);
    assert_int_equal(entry->term, term);
    assert_int_equal(entry->type, LOG_COMMAND);
    assert_int_equal(entry->size, size);
    uint8_t *content = memory_allocate(size);
    content_of(index, term, size, content);
    assert_memory_equal(entry->data, content, size);
    free(content);
    log_entry_release(entry);
    assert_int_equal(log_term_of(w->log, index), term);
}

static void assert_entries(struct world *w, uint64_t from, uint64_t to, uint64_t term)
{
    for (uint64_t i = from; i <= to; i++)
        assert_entry(w, i, term, usual_size(i));
}

static size_t file_size(struct world *w, const char *path)
{
    return disk_sim_content(w->sim, path).size;
}

static void count_name(void *context, const char *name)
{
    (void)name;
    ++*(unsigned *)context;
}

static unsigned segment_files(struct world *w)
{
    unsigned count = 0;
    disk_sim_list(w->sim, "/log/0", count_name, &count);
    return count;
}

/* ---- group commit ---- */

static void an_appended_entry_is_durable_only_after_its_flush_has_ended(void **state)
{
    struct world *w = *state;
    append(w, 1, 3);
    assert_int_equal(log_last(w->log), 3);
    assert_int_equal(log_durable(w->log), 0);
    log_flush(w->log);
    assert_true(log_flushing(w->log));
    assert_int_equal(log_durable(w->log), 0);
    disk_sim_run_all(w->sim);
    assert_int_equal(log_durable(w->log), 3);
    assert_int_equal(w->flushed, 3);
    assert_false(log_flushing(w->log));
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

/* ---- power loss ---- */

static void every_torn_prefix_of_the_last_flush_is_cut_off_cleanly(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, disk_sim_new(&(struct disk_sim_options){.seed = 1}));
    assert_int_equal(reopen(&w), STATUS_OK);
    append_and_flush(&w, 1, 4);
    struct bytes before = disk_sim_content(w.sim, FIRST_SEGMENT);
    uint8_t *old = memory_copy(before.data, before.size);
    append_and_flush(&w, 1, 5);
    struct bytes after = disk_sim_content(w.sim, FIRST_SEGMENT);
    for (size_t cut = 0; cut <= after.size; cut++) {
        if (cut > 0 && old[cut - 1] == after.data[cut - 1])
            continue;
        struct world torn;
        world_init(&torn, disk_sim_copy(w.sim, 2));
        uint8_t *mixed = memory_copy(old, after.size);
        memcpy(mixed, after.data, cut);
        disk_sim_put(torn.sim, FIRST_SEGMENT, bytes_of(mixed, after.size));
        free(mixed);
        assert_int_equal(reopen(&torn), STATUS_OK);
        uint64_t last = log_last(torn.log);
        assert_in_range(last, 4, 9);
        assert_entries(&torn, 1, last, 1);
        append_and_flush(&torn, 2, 3); /* and it goes on from there */
        assert_int_equal(reopen(&torn), STATUS_OK);
        assert_entries(&torn, 1, last, 1);
        assert_entries(&torn, last + 1, last + 3, 2);
        world_release(&torn);
    }
    free(old);
    world_release(&w);
}

static void every_subset_of_sectors_of_the_last_flush_is_a_torn_tail(void **state)
{
    (void)state;
    struct world w;
    world_init(&w, disk_sim_new(&(struct disk_sim_options){.seed = 1}));
    assert_int_equal(reopen(&w), STATUS_OK);
    append_and_flush(&w, 1, 2);
    uint8_t *old = memory_copy(disk_sim_content(w.sim, FIRST_SEGMENT).data, SEGMENT_BYTES);
    append_and_flush(&w, 1, 14);
    assert_int_equal(segment_files(&w), 1);
    const uint8_t *new = disk_sim_content(w.sim, FIRST_SEGMENT).data;
    for (unsigned subset = 0; subset < 1u << (SEGMENT_BYTES / DISK_SECTOR); subset++) {
        struct world torn;
        world_init(&torn, disk_sim_copy(w.sim, 2));
        uint8_t mixed[SEGMENT_BYTES];
        for (size_t s = 0; s < SEGMENT_BYTES / DISK_SECTOR; s++)
            memcpy(mixed + s * DISK_SECTOR, ((subset >> s & 1) != 0 ? new : old) + s * DISK_SECTOR, DISK_SECTOR);
        disk_sim_put(torn.sim, FIRST_SEGMENT, bytes_of(mixed, sizeof mixed));
        assert_int_equal(reopen(&torn), STATUS_OK);
        assert_in_range(log_last(torn.log), 2, 16);
        assert_entries(&torn, 1, log_last(torn.log), 1);
        world_release(&torn);
    }
    free(old);
    world_release(&w);
}

static uint64_t draw(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 33;
}

/* One life of a log: random appends, flushes, truncations, trims, changes of term; then a power loss in the middle.
 * `terms` is what a reader must find: the term of each entry that is durable, by index. */
static void live_and_crash(struct world *w, uint64_t *random, uint64_t *terms, uint64_t *durable)
{
    for (unsigned step = 0; step < 30; step++) {
        switch (draw(random) % 8) {
        case 0:
            log_set_term(w->log, log_term(w->log) + 1, draw(random) % 4);
            break;
        case 1:
            if (log_last(w->log) > w->options.covered + 3 && draw(random) % 3 == 0)
                log_truncate(w->log, log_last(w->log) - draw(random) % 3);
            break;
        case 2:
            if (log_durable(w->log) / 2 > w->options.covered)
                w->options.covered = log_durable(w->log) / 2;
            log_trim(w->log, w->options.covered);
            break;
        case 3:
            log_flush_mark(w->log);
            break;
        case 4:
            disk_sim_run(w->sim, disk_sim_next_us(w->sim) == UINT64_MAX ? 0 : disk_sim_next_us(w->sim));
            break;
        default:
            append(w, log_term(w->log) + (log_term(w->log) == 0), 1 + draw(random) % 4);
            for (uint64_t i = log_first(w->log); i <= log_last(w->log); i++)
                terms[i] = log_term_of(w->log, i);
            log_flush(w->log);
        }
        assert_int_equal(log_status(w->log), STATUS_OK);
    }
    *durable = log_durable(w->log);
    for (uint64_t i = log_first(w->log); i <= log_last(w->log); i++)
        terms[i] = log_term_of(w->log, i);
}

static void after_any_power_loss_all_that_was_durable_is_there(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct world w;
        uint64_t random = seed, *terms = memory_zeroed(10000, sizeof *terms);
        world_init(&w, disk_sim_new(&(struct disk_sim_options){.seed = seed, .job_us_max = 100}));
        assert_int_equal(reopen(&w), STATUS_OK);
        w.options.create = false;
        for (unsigned life = 0; life < 8; life++) {
            uint64_t durable;
            live_and_crash(&w, &random, terms, &durable);
            uint64_t term = log_term(w.log), vote = log_vote(w.log);
            if (draw(&random) % 4 == 0)
                disk_sim_kill(w.sim);
            else
                disk_sim_crash(w.sim);
            enum status status = reopen(&w);
            if (status != STATUS_OK)
                fail_msg("seed %llu life %u: %s", (unsigned long long)seed, life, w.fault.text);
            assert_int_equal(log_term(w.log), term);
            assert_int_equal(log_vote(w.log), vote);
            assert_true(log_last(w.log) >= durable);
            for (uint64_t i = log_first(w.log); i <= durable; i++)
                assert_entry(&w, i, terms[i], usual_size(i));
            for (uint64_t i = durable + 1; i <= log_last(w.log); i++) /* not promised, but never something else */
                assert_entry(&w, i, log_term_of(w.log, i), usual_size(i));
        }
        free(terms);
        world_release(&w);
    }
}

/* ---- rot ---- */

static void no_flipped_byte_is_ever_accepted_as_something_else(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 6);
    append_and_flush(w, 2, 6);
    log_flush_mark(w->log);
    disk_sim_run_all(w->sim);
    struct log_counts counts;
    log_counts(w->log, &counts);
    size_t written = LOG_SEGMENT_HEADER_SIZE;
    for (uint64_t i = 1; i <= 12; i++)
        written += log_record_size(usual_size(i));
    size_t size = file_size(w, FIRST_SEGMENT);
    for (size_t i = 0; i < size; i++) {
        struct world rotten;
        world_init(&rotten, disk_sim_copy(w->sim, 1));
        rotten.options.create = false;
        disk_sim_flip(rotten.sim, FIRST_SEGMENT, i, (uint8_t)(1 + i % 255));
        enum status status = reopen(&rotten);
        if (i < written) { /* in an entry: known to have been durable, thanks to the mark behind the last one */
            assert_int_equal(status, STATUS_CORRUPT);
            assert_non_null(strstr(rotten.fault.text, FIRST_SEGMENT_NAME));
            assert_non_null(strstr(rotten.fault.text, "at offset"));
        } else { /* in the mark, or in what was never written */
            assert_true(status == STATUS_OK || status == STATUS_CORRUPT);
        }
        if (status == STATUS_OK) {
            assert_int_equal(log_last(rotten.log), 12);
            assert_entries(&rotten, 1, 6, 1);
            assert_entries(&rotten, 7, 12, 2);
        }
        world_release(&rotten);
    }
}

static void a_flip_in_the_very_last_record_is_not_taken_for_a_torn_write(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 3);
    size_t end = LOG_SEGMENT_HEADER_SIZE;
    for (uint64_t i = 1; i <= 3; i++)
        end += log_record_size(usual_size(i));
    for (size_t i = end - log_record_size(usual_size(3)); i < end; i++) {
        struct world rotten;
        world_init(&rotten, disk_sim_copy(w->sim, 1));
        disk_sim_flip(rotten.sim, FIRST_SEGMENT, i, 0x01);
        assert_int_equal(reopen(&rotten), STATUS_CORRUPT);
        world_release(&rotten);
    }
}

static void sectors_that_were_durable_and_are_zeros_now_are_rot(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 10);
    append_and_flush(w, 1, 1); /* carries the mark 10 */
    uint8_t *content = memory_copy(disk_sim_content(w->sim, FIRST_SEGMENT).data, SEGMENT_BYTES);
    memset(content + DISK_SECTOR, 0, DISK_SECTOR);
    disk_sim_put(w->sim, FIRST_SEGMENT, bytes_of(content, SEGMENT_BYTES));
    free(content);
    assert_int_equal(reopen(w), STATUS_CORRUPT);
    assert_non_null(strstr(w->fault.text, "had been durable"));
}

static void a_log_that_ends_below_what_was_durable_is_damaged(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 4);
    uint8_t *old = memory_copy(disk_sim_content(w->sim, FIRST_SEGMENT).data, SEGMENT_BYTES);
    append_and_flush(w, 1, 4);
    log_set_term(w->log, 2, 1); /* metadata knows of entry 8 */
    disk_sim_put(w->sim, FIRST_SEGMENT, bytes_of(old, SEGMENT_BYTES));
    free(old);
    assert_int_equal(reopen(w), STATUS_DAMAGED);
    assert_int_equal(w->fault.index, 5);
    w->options.repair = true; /* more than 8 may have been durable: nobody knows */
    assert_int_equal(reopen(w), STATUS_DAMAGED);
}

static void a_missing_last_segment_is_damage(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 30);
    log_set_term(w->log, 2, 1);
    char name[LOG_SEGMENT_NAME_SIZE], path[DISK_PATH_MAX];
    log_segment_name(segment_files(w), name);
    disk_path(path, "/log", name);
    disk_unlink(disk_sim_disk(w->sim), path);
    assert_int_equal(reopen(w), STATUS_DAMAGED);
    w->options.repair = true;
    assert_int_equal(reopen(w), STATUS_DAMAGED);
}

static void a_missing_segment_in_the_middle_is_damage(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 100);
    disk_unlink(disk_sim_disk(w->sim), "/log/0000000000000002.segment");
    assert_int_equal(reopen(w), STATUS_DAMAGED);
    disk_unlink(disk_sim_disk(w->sim), FIRST_SEGMENT);
    assert_int_equal(reopen(w), STATUS_DAMAGED);
    w->options.repair = true; /* what is left is of no use without what was before, but says what is owed */
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 0);
    assert_int_equal(log_owed(w->log), 100);
    log_flush(w->log);
    disk_sim_run_all(w->sim);
    w->options.repair = false;
    assert_int_equal(reopen(w), STATUS_OK);
    append_and_flush(w, 1, 100);
    assert_int_equal(log_owed(w->log), 0);
}

static void rot_in_a_segment_that_another_one_continues_is_found(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 100);
    disk_sim_flip(w->sim, "/log/0000000000000002.segment", 3000, 4);
    assert_int_equal(reopen(w), STATUS_CORRUPT);
    assert_non_null(strstr(w->fault.text, "0000000000000002.segment"));
    assert_non_null(strstr(w->fault.text, "a later segment continues it"));
}

static void rot_met_while_reading_stops_the_log(void **state)
{
    struct world *w = *state;
    w->options.cache_bytes = 1;
    assert_int_equal(reopen(w), STATUS_OK);
    append_and_flush(w, 1, 10);
    disk_sim_flip(w->sim, FIRST_SEGMENT, LOG_SEGMENT_HEADER_SIZE + LOG_RECORD_HEADER_SIZE + 5, 4);
    struct log_entry *entry;
    assert_int_equal(log_get(w->log, 1, &entry), STATUS_CORRUPT);
    assert_non_null(strstr(log_trouble(w->log), "entry 1 at offset 64"));
    append(w, 1, 1);
    assert_int_equal(log_flush(w->log), STATUS_CORRUPT);
}

static void a_record_inside_of_a_message_does_not_pass_for_one(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 2);
    /* A client publishes what would be a record with a high mark, if the seed were 0. */
    struct buffer fake = {0};
    struct log_record record = {.index = 90, .term = 1, .mark = 89, .type = LOG_COMMAND};
    log_record_encode(&record, 0, &fake);
    log_record_encode(&record, 0, &fake);
    struct log_entry *entry = log_entry_new(1, LOG_COMMAND, fake.data, fake.size);
    buffer_release(&fake);
    log_append(w->log, &entry, 1);
    log_entry_release(entry);
    flush(w);
    uint8_t *content = memory_copy(disk_sim_content(w->sim, FIRST_SEGMENT).data, SEGMENT_BYTES);
    size_t start = LOG_SEGMENT_HEADER_SIZE + log_record_size(usual_size(1)) + log_record_size(usual_size(2));
    memset(content + start, 0, LOG_RECORD_HEADER_SIZE); /* and its own header did not arrive */
    disk_sim_put(w->sim, FIRST_SEGMENT, bytes_of(content, SEGMENT_BYTES));
    free(content);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 2);
}

/* ---- repair ---- */

static void a_repaired_log_keeps_what_holds_and_owes_the_rest_until_it_is_back(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 100);
    disk_sim_flip(w->sim, "/log/0000000000000002.segment", 3000, 4);
    w->options.repair = true;
    assert_int_equal(reopen(w), STATUS_OK);
    uint64_t last = log_last(w->log);
    assert_in_range(last, 20, 70);
    assert_entries(w, 1, last, 1);
    assert_int_equal(log_owed(w->log), 100);
    append_and_flush(w, 1, 10);
    w->options.repair = false;
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_owed(w->log), 100);
    append_and_flush(w, 1, (unsigned)(100 - log_last(w->log)));
    assert_int_equal(log_owed(w->log), 0);
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_owed(w->log), 0);
    assert_entries(w, 1, 100, 1);
}

static void every_single_flip_can_be_repaired_or_is_refused(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 40);
    log_flush_mark(w->log);
    disk_sim_run_all(w->sim);
    const char *paths[] = {FIRST_SEGMENT, "/log/0000000000000002.segment", "/log/0000000000000003.segment"};
    assert_true(segment_files(w) >= 2);
    for (size_t p = 0; p < segment_files(w) && p < 3; p++) {
        for (size_t i = 0; i < file_size(w, paths[p]); i += 3) {
            struct world rotten;
            world_init(&rotten, disk_sim_copy(w->sim, 1));
            rotten.options.repair = true;
            disk_sim_flip(rotten.sim, paths[p], i, 0x80);
            assert_int_equal(reopen(&rotten), STATUS_OK);
            uint64_t last = log_last(rotten.log);
            assert_entries(&rotten, 1, last, 1);
            if (last < 40 && log_owed(rotten.log) != 40)
                fail_msg("%s offset %zu: the log ends at %llu and owes only up to %llu (%s)", paths[p], i,
                         (unsigned long long)last, (unsigned long long)log_owed(rotten.log), rotten.fault.text);
            append_and_flush(&rotten, 1, (unsigned)(45 - last));
            rotten.options.repair = false;
            assert_int_equal(reopen(&rotten), STATUS_OK);
            assert_int_equal(log_owed(rotten.log), 0);
            assert_entries(&rotten, 1, 45, 1);
            world_release(&rotten);
        }
    }
}

static void a_newest_segment_of_which_nothing_can_be_read_is_beyond_repair(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 10);
    for (size_t i = 0; i < LOG_SEGMENT_HEADER_SIZE; i++)
        disk_sim_flip(w->sim, FIRST_SEGMENT, i, 0x55);
    w->options.repair = true;
    assert_int_equal(reopen(w), STATUS_CORRUPT);
    assert_true(file_size(w, FIRST_SEGMENT) > 0);
}

/* ---- disks that fail ---- */

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
    assert_true(log_flushing(w->log));
    append(w, 1, 2);
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
        cmocka_unit_test(every_torn_prefix_of_the_last_flush_is_cut_off_cleanly),
        cmocka_unit_test(every_subset_of_sectors_of_the_last_flush_is_a_torn_tail),
        cmocka_unit_test(after_any_power_loss_all_that_was_durable_is_there),
        IN_A_WORLD(no_flipped_byte_is_ever_accepted_as_something_else),
        IN_A_WORLD(a_flip_in_the_very_last_record_is_not_taken_for_a_torn_write),
        IN_A_WORLD(sectors_that_were_durable_and_are_zeros_now_are_rot),
        IN_A_WORLD(a_log_that_ends_below_what_was_durable_is_damaged),
        IN_A_WORLD(a_missing_last_segment_is_damage),
        IN_A_WORLD(a_missing_segment_in_the_middle_is_damage),
        IN_A_WORLD(rot_in_a_segment_that_another_one_continues_is_found),
        IN_A_WORLD(rot_met_while_reading_stops_the_log),
        IN_A_WORLD(a_record_inside_of_a_message_does_not_pass_for_one),
        IN_A_WORLD(a_repaired_log_keeps_what_holds_and_owes_the_rest_until_it_is_back),
        IN_A_WORLD(every_single_flip_can_be_repaired_or_is_refused),
        IN_A_WORLD(a_newest_segment_of_which_nothing_can_be_read_is_beyond_repair),
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
