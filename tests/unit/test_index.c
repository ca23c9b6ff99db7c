/* The subscription index against topic_matches(), and its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/topic.h"
#include "index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t match(struct index *index, struct bytes topic, void ***values)
{
    uint32_t budget = UINT32_MAX;
    index_match_begin(index, topic);
    assert_false(index_match_more(index, &budget));
    return index_matches(index, values);
}

static bool matches(struct index *index, const char *topic, const void *value)
{
    void **values;
    uint32_t count = match(index, bytes_text(topic), &values);
    for (uint32_t i = 0; i < count; i++) {
        if (values[i] == value)
            return true;
    }
    return false;
}

static void a_filter_is_found_until_it_is_removed(void **state)
{
    (void)state;
    struct index *index = index_new();
    int a, b;
    index_insert(index, bytes_text("a/b"), &a);
    index_insert(index, bytes_text("a/#"), &b);
    assert_ptr_equal(index_get(index, bytes_text("a/b")), &a);
    assert_null(index_get(index, bytes_text("a")));
    assert_ptr_equal(index_remove(index, bytes_text("a/b")), &a);
    assert_null(index_remove(index, bytes_text("a/b")));
    assert_false(matches(index, "a/b", &a));
    assert_true(matches(index, "a/b", &b));
    assert_ptr_equal(index_remove(index, bytes_text("a/#")), &b);
    assert_false(matches(index, "a/b", &b));
    index_free(index);
}

static void wildcards_follow_the_standard(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *topic;
        bool matches;
    } cases[] = {
        {"sport/#", "sport", true},    {"sport/#", "sport/a/b", true}, {"#", "a", true},         {"#", "$SYS/a", false},
        {"+/a", "$SYS/a", false},      {"$SYS/#", "$SYS/a", true},     {"$SYS/+", "$SYS/a", true}, {"+", "/a", false},
        {"+/+", "/a", true},           {"/+", "/a", true},             {"a/+", "a/", true},      {"a/+", "a", false},
        {"a//b", "a//b", true},        {"a/+/b", "a//b", true},        {"a/+/#", "a", false},    {"a/+/#", "a/b", true},
        {"A", "a", false},             {"a/$x/+", "a/$x/y", true},     {"a/+", "a/$x", true},    {"#", "", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct index *index = index_new();
        index_insert(index, bytes_text(cases[i].filter), &index);
        if (matches(index, cases[i].topic, &index) != cases[i].matches)
            fail_msg("%s and %s", cases[i].filter, cases[i].topic);
        index_free(index);
    }
}

/* ---- against naive matching ---- */

static uint64_t random_state = 88172645463325252u;

static uint32_t draw(uint32_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state % below);
}

static void draw_text(char *text, bool filter)
{
    static const char *const names[] = {"a", "b", "", "$c", "dd"};
    uint32_t levels = 1 + draw(4);
    text[0] = 0;
    for (uint32_t i = 0; i < levels; i++) {
        if (i > 0)
            strcat(text, "/");
        if (filter && i + 1 == levels && draw(4) == 0)
            strcat(text, "#");
        else
            strcat(text, filter && draw(3) == 0 ? "+" : names[draw(5)]);
    }
    if (text[0] == 0)
        strcpy(text, "a");
}

#define FILTERS 300

static void any_topic_matches_what_naive_matching_says(void **state)
{
    (void)state;
    static char filters[FILTERS][32];
    struct index *index = index_new();
    char topic[32];
    for (uint32_t round = 0; round < 3000; round++) {
        char *filter = filters[draw(FILTERS)];
        if (filter[0] != 0) {
            assert_ptr_equal(index_remove(index, bytes_text(filter)), filter);
            filter[0] = 0;
        } else {
            draw_text(filter, true);
            if (index_get(index, bytes_text(filter)) != NULL)
                filter[0] = 0;
            else
                index_insert(index, bytes_text(filter), filter);
        }
        draw_text(topic, false);
        void **values;
        uint32_t count = match(index, bytes_text(topic), &values), expected = 0;
        for (uint32_t i = 0; i < FILTERS; i++) {
            if (filters[i][0] == 0 || !topic_matches(bytes_text(filters[i]), bytes_text(topic)))
                continue;
            expected++;
            assert_true(matches(index, topic, filters[i]));
        }
        assert_int_equal(count, expected);
    }
    index_free(index);
}

static void filters_that_mix_wildcards_over_many_levels_cost_no_more_than_their_nodes(void **state)
{
    (void)state;
    struct index *index = index_new();
    char filter[300], topic[300] = "x";
    for (int level = 1; level < 86; level++)
        strcat(topic, "/x");
    for (uint32_t i = 0; i < 64; i++) {
        filter[0] = 0;
        for (uint32_t level = 0; level < 86; level++)
            strcat(strcat(filter, level > 0 ? "/" : ""), (i >> level % 6) & 1 ? "+" : "x");
        index_insert(index, bytes_text(filter), index);
    }
    void **values;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(match(index, bytes_text(topic), &values), 64);
    index_free(index);
}

static void the_order_of_matches_depends_only_on_the_filters(void **state)
{
    (void)state;
    static const char *const texts[] = {"a/b", "a/+", "#", "+/b", "a/#", "+/+"};
    struct index *one = index_new(), *other = index_new();
    for (int i = 0; i < 6; i++) {
        index_insert(one, bytes_text(texts[i]), (void *)texts[i]);
        index_insert(other, bytes_text(texts[5 - i]), (void *)texts[5 - i]);
    }
    void **values, **others;
    assert_int_equal(match(one, bytes_text("a/b"), &values), 6);
    assert_int_equal(match(other, bytes_text("a/b"), &others), 6);
    assert_memory_equal(values, others, 6 * sizeof(void *));
    index_free(one);
    index_free(other);
}

static void a_topic_of_slashes_only_is_walked_without_recursion(void **state)
{
    (void)state;
    struct index *index = index_new();
    static char topic[65535];
    memset(topic, '/', sizeof topic);
    int value;
    index_insert(index, bytes_of(topic, sizeof topic), &value);
    void **values;
    assert_int_equal(match(index, bytes_of(topic, sizeof topic), &values), 1);
    assert_ptr_equal(index_remove(index, bytes_of(topic, sizeof topic)), &value);
    index_free(index);
}

/* Filters over {a, +} of every combination: one topic reaches all of their nodes. */
static void a_match_can_be_taken_in_steps_of_any_size(void **state)
{
    (void)state;
    enum { DEPTH = 6, COUNT = 1 << DEPTH };
    static char filters[COUNT][2 * DEPTH];
    struct index *index = index_new();
    for (int i = 0; i < COUNT; i++) {
        for (int level = 0; level < DEPTH; level++) {
            filters[i][2 * level] = (i >> level & 1) != 0 ? '+' : 'a';
            filters[i][2 * level + 1] = level + 1 < DEPTH ? '/' : '\0';
        }
        index_insert(index, bytes_text(filters[i]), filters[i]);
    }
    void **values, *at_once[COUNT];
    assert_int_equal(match(index, bytes_text("a/a/a/a/a/a"), &values), COUNT);
    memcpy(at_once, values, sizeof at_once);
    for (uint32_t size = 1; size <= 7; size++) {
        uint32_t steps = 0, budget = size;
        index_match_begin(index, bytes_text("a/a/a/a/a/a"));
        for (; index_match_more(index, &budget); budget = size)
            steps++;
        assert_int_equal(index_matches(index, &values), COUNT);
        assert_memory_equal(values, at_once, sizeof at_once);
        assert_int_equal(steps, (2 * COUNT - 1) / size - ((2 * COUNT - 1) % size == 0));
    }
    index_free(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_match_can_be_taken_in_steps_of_any_size),
        cmocka_unit_test(a_filter_is_found_until_it_is_removed),
        cmocka_unit_test(wildcards_follow_the_standard),
        cmocka_unit_test(any_topic_matches_what_naive_matching_says),
        cmocka_unit_test(filters_that_mix_wildcards_over_many_levels_cost_no_more_than_their_nodes),
        cmocka_unit_test(the_order_of_matches_depends_only_on_the_filters),
        cmocka_unit_test(a_topic_of_slashes_only_is_walked_without_recursion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
