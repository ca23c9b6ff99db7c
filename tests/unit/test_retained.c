/* The retained register, and scans compared with a naive matcher over a list of topics. */
#include "base/memory.h"
#include "base/topic.h"
#include "retained.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct world {
    struct store *store;
    struct retained retained;
};

static int setup(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);

    assert_int_equal(store_open(&(struct store_options){0}, &w->store), STATUS_OK);
    assert_int_equal(retained_init(&w->retained, w->store), STATUS_OK);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    retained_release_memory(&w->retained);
    store_close(w->store);
    free(w);
    return 0;
}

static struct retained_entry entry_of(uint64_t id, uint64_t bytes)
{
    return (struct retained_entry){.message_id = id, .payload_bytes = bytes};
}

static void given_topic(struct world *w, const char *topic, uint64_t id)
{
    retained_set(&w->retained, bytes_text(topic), entry_of(id, 1));
}

/* Scans with `filter` and expects exactly these ids, in this order; returns how many rows were looked at. */
static unsigned then_scan_finds(struct world *w, const char *filter, const uint64_t *ids, size_t count)
{
    struct buffer cursor = {0};
    struct retained_entry entry;
    uint32_t budget = 100000;

    for (size_t i = 0; i < count; i++) {
        assert_int_equal(retained_next(&w->retained, bytes_text(filter), &cursor, &budget, &entry), STATUS_OK);
        assert_int_equal(entry.message_id, ids[i]);
    }
    assert_int_equal(retained_next(&w->retained, bytes_text(filter), &cursor, &budget, &entry), STATUS_NOT_FOUND);
    buffer_release(&cursor);
    return 100000 - budget;
}

#define IDS(...) (const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t)

/* ---- register ---- */

static void a_topic_holds_what_was_set_last(void **state)
{
    struct world *w = *state;
    struct retained_entry entry;

    assert_false(retained_get(&w->retained, bytes_text("a"), &entry));
    assert_int_equal(retained_set(&w->retained, bytes_text("a"), entry_of(1, 100)).message_id, 0);
    assert_int_equal(retained_set(&w->retained, bytes_text("a"), entry_of(2, 30)).message_id, 1);
    assert_int_equal(retained_set(&w->retained, bytes_text("b"), entry_of(3, 5)).message_id, 0);
    assert_true(retained_get(&w->retained, bytes_text("a"), &entry));
    assert_int_equal(entry.message_id, 2);
    assert_int_equal(w->retained.count, 2);
    assert_int_equal(w->retained.payload_bytes, 35);
    assert_int_equal(retained_clear(&w->retained, bytes_text("a")).message_id, 2);
    assert_int_equal(retained_clear(&w->retained, bytes_text("a")).message_id, 0);
    assert_int_equal(w->retained.count, 1);
    assert_int_equal(w->retained.payload_bytes, 5);
}

static void totals_survive_in_their_row(void **state)
{
    struct world *w = *state;
    struct retained again;

    retained_set(&w->retained, bytes_text("a"), entry_of(1, 100));
    retained_write_back(&w->retained);
    assert_int_equal(retained_init(&again, w->store), STATUS_OK);
    assert_int_equal(again.count, 1);
    assert_int_equal(again.payload_bytes, 100);
}

static void long_topics_with_one_prefix_are_kept_apart(void **state)
{
    struct world *w = *state;
    char a[2000], b[2000];
    struct retained_entry entry;

    memset(a, 'x', sizeof a);
    a[sizeof a - 1] = '\0';
    memcpy(b, a, sizeof b);
    b[sizeof b - 2] = 'y';
    given_topic(w, a, 1);
    given_topic(w, b, 2);
    assert_true(retained_get(&w->retained, bytes_text(a), &entry));
    assert_int_equal(entry.message_id, 1);
    then_scan_finds(w, b, IDS(2));
    assert_int_equal(retained_clear(&w->retained, bytes_text(b)).message_id, 2);
    then_scan_finds(w, a, IDS(1));
}

/* The key of one is its text, that of the other begins alike and ends with a hash: so the one that comes first says
 * nothing of where the other's levels would be. */
static void a_long_topic_is_found_behind_a_shorter_one_of_its_prefix(void **state)
{
    struct world *w = *state;
    char prefix[TOPIC_KEY_PREFIX + 1], whole[600], cut[600], filter[600];

    memset(prefix, 'a', TOPIC_KEY_PREFIX);
    memcpy(prefix, "x/", 2);
    prefix[TOPIC_KEY_PREFIX] = '\0';
    snprintf(whole, sizeof whole, "%s/zz", prefix);
    snprintf(cut, sizeof cut, "%s/b%040d", prefix, 0);
    snprintf(filter, sizeof filter, "+/%s", cut + 2);
    given_topic(w, whole, 1);
    given_topic(w, cut, 2);
    then_scan_finds(w, filter, IDS(2));
}

/* ---- scans ---- */

static void filters_find_their_topics_in_order_of_levels(void **state)
{
    struct world *w = *state;

    given_topic(w, "a", 1);
    given_topic(w, "a/", 2);
    given_topic(w, "a/b", 3);
    given_topic(w, "a/b/c", 4);
    given_topic(w, "a/d/c", 5);
    given_topic(w, "a!", 6);
    given_topic(w, "/b", 7);
    given_topic(w, "$SYS/b", 8);

    then_scan_finds(w, "#", IDS(7, 1, 2, 3, 4, 5, 6));
    then_scan_finds(w, "+", IDS(1, 6));
    then_scan_finds(w, "a/#", IDS(1, 2, 3, 4, 5));
    then_scan_finds(w, "a/+", IDS(2, 3));
    then_scan_finds(w, "a/+/c", IDS(4, 5));
    then_scan_finds(w, "+/b", IDS(7, 3));
    then_scan_finds(w, "+/b/#", IDS(7, 3, 4));
    then_scan_finds(w, "+/+/+", IDS(4, 5));
    then_scan_finds(w, "a/b", IDS(3));
    then_scan_finds(w, "/+", IDS(7));
    then_scan_finds(w, "$SYS/#", IDS(8));
    then_scan_finds(w, "$SYS/+", IDS(8));
    then_scan_finds(w, "nothing/#", NULL, 0);
    then_scan_finds(w, "a/b/c/d", NULL, 0);
}

static void a_scan_seeks_past_what_cannot_match(void **state)
{
    struct world *w = *state;
    char topic[64];

    for (unsigned device = 0; device < 10; device++) {
        for (unsigned i = 0; i < 300; i++) {
            snprintf(topic, sizeof topic, "dev/%u/m/%u", device, i);
            given_topic(w, topic, 1000);
        }
        snprintf(topic, sizeof topic, "dev/%u/state", device);
        given_topic(w, topic, device + 1);
    }
    for (unsigned i = 0; i < 300; i++) {
        snprintf(topic, sizeof topic, "$internal/%u", i);
        given_topic(w, topic, 1000);
    }

    unsigned looked = then_scan_finds(w, "dev/+/state", IDS(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    assert_true(looked <= 30);
    looked = then_scan_finds(w, "+/5/state", IDS(6));
    assert_true(looked <= 5);
    looked = then_scan_finds(w, "dev/+/a", NULL, 0);
    assert_true(looked <= 12);
    looked = then_scan_finds(w, "dev/0/a", NULL, 0);
    assert_true(looked <= 2);
    looked = then_scan_finds(w, "dev/+", NULL, 0);
    assert_true(looked <= 12);
    looked = then_scan_finds(w, "+/+/state/#", IDS(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    assert_true(looked <= 35);
}

static void a_budget_ends_a_call_and_the_cursor_goes_on(void **state)
{
    struct world *w = *state;
    struct buffer cursor = {0};
    struct retained_entry entry = {0};
    unsigned busy = 0, found = 0;
    char topic[32];
    enum status status;

    for (unsigned i = 0; i < 100; i++) {
        snprintf(topic, sizeof topic, "a/%03u/%s", i, i % 10 == 0 ? "x/z" : "y/y");
        given_topic(w, topic, i + 1);
    }
    do {
        uint32_t budget = 1;
        status = retained_next(&w->retained, bytes_text("a/+/+/z"), &cursor, &budget, &entry);
        busy += status == STATUS_BUSY;
        found += status == STATUS_OK;
        assert_int_equal(budget, 0);
    } while (status != STATUS_NOT_FOUND);

    assert_int_equal(found, 10);
    assert_true(busy >= 90);
    buffer_release(&cursor);
}

static void passed_agrees_with_what_a_scan_still_finds(void **state)
{
    struct world *w = *state;
    struct buffer cursor = {0};
    struct retained_entry entry;
    uint32_t budget = 100;

    given_topic(w, "a/1", 1);
    given_topic(w, "a/3", 3);
    assert_false(retained_passed(buffer_bytes(&cursor), bytes_text("a/1")));
    assert_int_equal(retained_next(&w->retained, bytes_text("a/#"), &cursor, &budget, &entry), STATUS_OK);
    assert_true(retained_passed(buffer_bytes(&cursor), bytes_text("a/1")));
    assert_true(retained_passed(buffer_bytes(&cursor), bytes_text("a/0")));
    assert_false(retained_passed(buffer_bytes(&cursor), bytes_text("a/2")));
    given_topic(w, "a/2", 2); /* set while the scan is open: not passed, so found */
    assert_int_equal(retained_next(&w->retained, bytes_text("a/#"), &cursor, &budget, &entry), STATUS_OK);
    assert_int_equal(entry.message_id, 2);
    retained_clear(&w->retained, bytes_text("a/2")); /* the row under the cursor goes */
    assert_int_equal(retained_next(&w->retained, bytes_text("a/#"), &cursor, &budget, &entry), STATUS_OK);
    assert_int_equal(entry.message_id, 3);
    buffer_release(&cursor);
}

/* ---- property: the same set as a naive matcher finds ---- */

#define TOPICS 120

static uint64_t random_next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Few levels and few names; now and then one that makes the key hashed, sometimes with its cut in the middle of it. */
static void random_levels(uint64_t *seed, bool filter, char *out)
{
    static const char *const names[] = {"", "a", "b", "ab", "a!", "\x01", "$a", "~"};
    size_t count = 1 + random_next(seed) % 4, size = 0;

    for (size_t i = 0; i < count; i++) {
        unsigned kind = (unsigned)(random_next(seed) % 24);
        if (i > 0)
            out[size++] = '/';
        if (filter && kind < 6) {
            out[size++] = '+';
        } else if (filter && kind < 9 && i == count - 1) {
            out[size++] = '#';
        } else if (kind == 9 || kind == 10) {
            size_t fill = kind == 9 ? 476 + random_next(seed) % 4 : 520;
            memset(out + size, 'l', fill);
            size += fill;
        } else {
            const char *name = names[random_next(seed) % 8];
            memcpy(out + size, name, strlen(name));
            size += strlen(name);
        }
    }
    out[size] = '\0';
    if (size == 0)
        strcpy(out, filter ? "#" : "a");
}

static void scan_against_naive(struct world *w, char topics[TOPICS][2200], const bool *set, uint64_t *seed)
{
    char filter[2200];
    bool found[TOPICS] = {false};
    struct buffer cursor = {0}, before = {0};
    struct retained_entry entry;
    enum status status;

    random_levels(seed, true, filter);
    do {
        uint32_t budget = 1 + (uint32_t)(random_next(seed) % 3);
        status = retained_next(&w->retained, bytes_text(filter), &cursor, &budget, &entry);
        if (status != STATUS_NOT_FOUND)
            assert_true(bytes_compare(buffer_bytes(&cursor), buffer_bytes(&before)) > 0);
        buffer_clear(&before);
        buffer_put_bytes(&before, buffer_bytes(&cursor));
        if (status == STATUS_OK) {
            assert_true(entry.message_id >= 1 && entry.message_id <= TOPICS);
            assert_false(found[entry.message_id - 1]);
            assert_true(retained_passed(buffer_bytes(&cursor), bytes_text(topics[entry.message_id - 1])));
            found[entry.message_id - 1] = true;
        }
    } while (status != STATUS_NOT_FOUND);
    for (int i = 0; i < TOPICS; i++) {
        bool expected = set[i] && topic_matches(bytes_text(filter), bytes_text(topics[i]));
        if (found[i] != expected)
            print_message("filter %s topic %s expected %d\n", filter, topics[i], expected);
        assert_int_equal(found[i], expected);
    }
    buffer_release(&cursor);
    buffer_release(&before);
}

static void scans_find_what_a_naive_matcher_finds(void **state)
{
    static char topics[TOPICS][2200];

    for (uint64_t round = 1; round <= 25; round++) {
        struct world *w;
        uint64_t seed = round;
        bool set[TOPICS];

        setup(state);
        w = *state;
        for (int i = 0; i < TOPICS; i++) {
            struct retained_entry there;
            random_levels(&seed, false, topics[i]);
            set[i] = !retained_get(&w->retained, bytes_text(topics[i]), &there);
            if (set[i])
                given_topic(w, topics[i], (uint64_t)i + 1);
        }
        for (int i = 0; i < 150; i++)
            scan_against_naive(w, topics, set, &seed);
        teardown(state);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_topic_holds_what_was_set_last),
        TEST(totals_survive_in_their_row),
        TEST(long_topics_with_one_prefix_are_kept_apart),
        TEST(a_long_topic_is_found_behind_a_shorter_one_of_its_prefix),
        TEST(filters_find_their_topics_in_order_of_levels),
        TEST(a_scan_seeks_past_what_cannot_match),
        TEST(a_budget_ends_a_call_and_the_cursor_goes_on),
        TEST(passed_agrees_with_what_a_scan_still_finds),
        cmocka_unit_test(scans_find_what_a_naive_matcher_finds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
