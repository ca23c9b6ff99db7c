/* test_log_recovery.c — what a restart makes of the files: an unfinished write is cut off, what was durable is there,
 * and what is damaged is noticed, or repaired. See log_world.h. */
#include <stdlib.h>
#include <string.h>

#include "log_world.h"
#include "storage/base/memory.h"
#include "storage/log_format.h"

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

/* What a life of a log must leave behind. */
struct legacy {
    uint64_t term, vote;      /* confirmed */
    uint64_t durable;
    uint64_t terms[10000];    /* of each entry, by index */
};

static void bequeath(const struct world *w, struct legacy *legacy)
{
    legacy->term = log_term(w->log);
    legacy->vote = log_vote(w->log);
    legacy->durable = log_durable(w->log);
    for (uint64_t i = log_first(w->log); i <= log_last(w->log); i++)
        legacy->terms[i] = log_term_of(w->log, i);
}

/* One life of a log: random appends, flushes, truncations, trims, changes of term, until a sync fails or it has been
 * long enough. */
static void live(struct world *w, uint64_t *random, struct legacy *legacy)
{
    unsigned steps = (unsigned)(draw(random) % 40);
    bequeath(w, legacy);
    for (unsigned step = 0; step < steps && log_status(w->log) == STATUS_OK; step++) {
        switch (draw(random) % 10) {
        case 0:
            if (log_set_term(w->log, log_term(w->log) + 1, draw(random) % 4) != STATUS_OK)
                return;
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
        case 5:
            if (draw(random) % 8 == 0 && log_term(w->log) > 0)
                disk_sim_fail(w->sim, DISK_SIM_SYNC, draw(random) % 3, STATUS_IO_ERROR, false);
            break;
        case 6: /* a rest, and only the mark is written */
            disk_sim_run_all(w->sim);
            if (draw(random) % 4 == 0 && log_term(w->log) > 0)
                disk_sim_fail(w->sim, DISK_SIM_SYNC, 0, STATUS_IO_ERROR, false);
            log_flush_mark(w->log);
            disk_sim_run_all(w->sim);
            break;
        default:
            append(w, log_term(w->log) + (log_term(w->log) == 0), 1 + draw(random) % 4);
            log_flush(w->log);
        }
        bequeath(w, legacy);
    }
}

/* The next life. A sync may fail at its start too; then it starts once more. */
static void live_again(struct world *w, const struct legacy *legacy, uint64_t seed, unsigned life)
{
    uint64_t tried_term = log_term(w->log), tried_vote = log_vote(w->log);
    enum status status = STATUS_IO_ERROR;
    for (unsigned start = 0; start < 2 && status == STATUS_IO_ERROR; start++)
        status = reopen(w);
    if (status != STATUS_OK)
        fail_msg("seed %llu life %u: %s", (unsigned long long)seed, life, w->fault.text);
    assert_true((log_term(w->log) == legacy->term && log_vote(w->log) == legacy->vote) ||
                (log_term(w->log) == tried_term && log_vote(w->log) == tried_vote));
    assert_true(log_last(w->log) >= legacy->durable);
    for (uint64_t i = log_first(w->log); i <= legacy->durable; i++)
        assert_entry(w, i, legacy->terms[i], usual_size(i));
    for (uint64_t i = legacy->durable + 1; i <= log_last(w->log); i++) /* not promised, but never something else */
        assert_entry(w, i, log_term_of(w->log, i), usual_size(i));
}

static void after_any_failed_sync_and_power_loss_all_that_was_durable_is_there(void **state)
{
    (void)state;
    struct legacy *legacy = memory_allocate(sizeof *legacy);
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct world w;
        uint64_t random = seed;
        world_init(&w, disk_sim_new(&(struct disk_sim_options){.seed = seed, .job_us_max = 100}));
        assert_int_equal(reopen(&w), STATUS_OK);
        w.options.create = false;
        memset(legacy, 0, sizeof *legacy);
        for (unsigned life = 0; life < 16; life++) {
            live(&w, &random, legacy);
            if (draw(&random) % 2 == 0)
                disk_sim_kill(w.sim);
            else
                disk_sim_crash(w.sim);
            live_again(&w, legacy, seed, life);
        }
        world_release(&w);
    }
    free(legacy);
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

/* A truncation ended segment 1 early, which a power loss has undone: it could take more. */
static void a_log_that_lost_its_newest_segment_owes_no_more_than_it_gets_back(void **state)
{
    struct world *w = *state;
    append_and_flush(w, 1, 6);
    assert_int_equal(log_truncate(w->log, 4), STATUS_OK);
    append_and_flush(w, 1, 4);
    struct disk_file *file;
    assert_int_equal(disk_open(w->options.disk, FIRST_SEGMENT, &file), STATUS_OK);
    assert_int_equal(disk_resize(file, SEGMENT_BYTES), STATUS_OK);
    disk_close(file);
    disk_sim_flip(w->sim, "/log/0000000000000002.segment", 16, 1);
    w->options.repair = true;
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_last(w->log), 3);
    assert_int_equal(log_owed(w->log), 7);
    append_and_flush(w, 1, 4);
    assert_int_equal(log_owed(w->log), 0);
    w->options.repair = false;
    assert_int_equal(reopen(w), STATUS_OK);
    assert_int_equal(log_owed(w->log), 0);
    assert_entries(w, 1, 7, 1);
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

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_torn_prefix_of_the_last_flush_is_cut_off_cleanly),
        cmocka_unit_test(every_subset_of_sectors_of_the_last_flush_is_a_torn_tail),
        cmocka_unit_test(after_any_failed_sync_and_power_loss_all_that_was_durable_is_there),
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
        IN_A_WORLD(a_log_that_lost_its_newest_segment_owes_no_more_than_it_gets_back),
        IN_A_WORLD(every_single_flip_can_be_repaired_or_is_refused),
        IN_A_WORLD(a_newest_segment_of_which_nothing_can_be_read_is_beyond_repair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
