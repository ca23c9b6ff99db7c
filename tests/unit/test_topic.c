/* Topic names, topic filters, matching, keys; and the UTF-8 check beneath them. */
#include "base/topic.h"
#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

static bool valid(const char *text)
{
    return utf8_valid(bytes_text(text));
}

static enum topic_filter_kind kind(const char *text)
{
    struct topic_filter parts;
    return topic_filter_parse(bytes_text(text), &parts);
}

static bool matches(const char *filter, const char *topic)
{
    return topic_matches(bytes_text(filter), bytes_text(topic));
}

/* Encodes any number as UTF-8 would, also those that it must not. */
static size_t put_code_point(uint32_t point, uint8_t *out)
{
    if (point < 0x80) {
        out[0] = (uint8_t)point;
        return 1;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = size - 1; i > 0; i--, point >>= 6)
        out[i] = 0x80 | (point & 0x3f);
    out[0] = (uint8_t)(lead[size] | point);
    return size;
}

static void every_code_point_but_nul_and_surrogates_is_valid(void **state)
{
    (void)state;
    for (uint32_t point = 0; point < 0x110800; point++) {
        uint8_t text[4];
        size_t size = put_code_point(point, text);
        bool expected = point != 0 && (point < 0xd800 || point > 0xdfff) && point <= 0x10ffff;
        if (utf8_valid(bytes_of(text, size)) != expected)
            fail_msg("U+%04X", point);
        for (size_t prefix = 1; prefix < size; prefix++)
            assert_false(utf8_valid(bytes_of(text, prefix)));
    }
}

static void bytes_that_are_not_utf8_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\xff", "\xfe", "\x80", "\xbf", "a\x80", "\xc3", "\xc3(", "\xe2\x82", "\xe2(\xa1", "\xe2\x82(",
        "\xf0\x9f\x98", "\xf0\x9f\x98(", "\xf0(\x9f\x98",
        "\xc0\xaf", "\xc1\xbf", "\xc0\x80", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x80\x80\xaf",
            "\xf0\x8f\xbf\xbf", /* overlong */
        "\xed\xa0\x80", "\xed\xbf\xbf", "\xed\xa0\xbd\xed\xb8\x80",                      /* surrogates, CESU-8 */
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80",
        "eightabc\xff", "eightab\xff", "sixteen bytes ok\xc0\x80 more behind it",
    };
    for (size_t i = 0; i < LENGTH(bad); i++)
        if (valid(bad[i]))
            fail_msg("case %zu", i);
}

static void nul_is_refused_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t size = 1; size < 40; size++) {
        for (size_t at = 0; at < size; at++) {
            char text[40];
            memset(text, 'x', size);
            assert_true(utf8_valid(bytes_of(text, size)));
            text[at] = 0;
            assert_false(utf8_valid(bytes_of(text, size)));
        }
    }
}

static void controls_noncharacters_and_byte_order_marks_are_accepted(void **state)
{
    (void)state;
    assert_true(valid("\x01\x1f\x7f\xc2\x80\xc2\x9f"));
    assert_true(valid("\xef\xbf\xbe\xef\xbf\xbf\xef\xb7\x90"));
    assert_true(valid("\xef\xbb\xbf" "a"));
    assert_true(valid(""));
}

static void topic_names_without_wildcards_are_good(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "/", "//", "a/b", "a//b", "/a", "a/", "$SYS/x", "$share/g/t", " ",
        "\xef\xbb\xbf"};
    for (size_t i = 0; i < LENGTH(good); i++)
        assert_int_equal(topic_name_check(bytes_text(good[i])), STATUS_OK);
}

static void topic_names_are_refused_for_a_reason(void **state)
{
    (void)state;
    assert_int_equal(topic_name_check(bytes_text("")), STATUS_MALFORMED);
    assert_int_equal(topic_name_check(bytes_of("a\0b", 3)), STATUS_MALFORMED);
    assert_int_equal(topic_name_check(bytes_text("a/\xff")), STATUS_MALFORMED);
    assert_int_equal(topic_name_check(bytes_text("a/#")), STATUS_INVALID);
    assert_int_equal(topic_name_check(bytes_text("a+b")), STATUS_INVALID);
    assert_int_equal(topic_name_check(bytes_text("+")), STATUS_INVALID);
}

static void depth_ends_at_the_documented_limit(void **state)
{
    (void)state;
    char slashes[TOPIC_LEVELS_MAX + 1];
    memset(slashes, '/', sizeof slashes);
    assert_int_equal(topic_name_check(bytes_of(slashes, TOPIC_LEVELS_MAX - 1)), STATUS_OK);
    assert_int_equal(topic_name_check(bytes_of(slashes, TOPIC_LEVELS_MAX)), STATUS_TOO_LARGE);
    struct topic_filter parts;
    assert_int_equal(topic_filter_parse(bytes_of(slashes, TOPIC_LEVELS_MAX - 1), &parts), TOPIC_FILTER_PLAIN);
    assert_int_equal(topic_filter_parse(bytes_of(slashes, TOPIC_LEVELS_MAX), &parts), TOPIC_FILTER_INVALID);
}

static void length_ends_at_65535_bytes(void **state)
{
    (void)state;
    char *text = malloc(TOPIC_BYTES_MAX + 1);
    memset(text, 'x', TOPIC_BYTES_MAX + 1);
    struct topic_filter parts;
    assert_int_equal(topic_name_check(bytes_of(text, TOPIC_BYTES_MAX)), STATUS_OK);
    assert_int_equal(topic_name_check(bytes_of(text, TOPIC_BYTES_MAX + 1)), STATUS_MALFORMED);
    assert_int_equal(topic_filter_parse(bytes_of(text, TOPIC_BYTES_MAX), &parts), TOPIC_FILTER_PLAIN);
    assert_int_equal(topic_filter_parse(bytes_of(text, TOPIC_BYTES_MAX + 1), &parts), TOPIC_FILTER_INVALID);
    free(text);
}

static void wildcards_stand_alone_in_their_level_and_hash_at_the_end(void **state)
{
    (void)state;
    static const char *const good[] = {"#", "+", "/", "a", "a/#", "/#", "+/#", "+/+", "a/+/b", "/+", "+/",
        "$SYS/#", "$sharex/+", "$"};
    static const char *const bad[] = {"", "a#", "#/a", "a/#/b", "a+", "+a/b", "++", "##", "#/", "a/+b", "a/b#",
        "+#", "#+", "a/##"};
    for (size_t i = 0; i < LENGTH(good); i++)
        assert_int_equal(kind(good[i]), TOPIC_FILTER_PLAIN);
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_int_equal(kind(bad[i]), TOPIC_FILTER_INVALID);
}

static void shared_filters_have_a_group_and_a_filter(void **state)
{
    (void)state;
    struct topic_filter parts;
    assert_int_equal(topic_filter_parse(bytes_text("$share/group/a/+/#"), &parts), TOPIC_FILTER_SHARED);
    assert_true(bytes_equal(parts.group, bytes_text("group")));
    assert_true(bytes_equal(parts.filter, bytes_text("a/+/#")));
    assert_int_equal(kind("$share/g//"), TOPIC_FILTER_SHARED); /* the filter "/" */

    static const char *const bad[] = {"$share", "$share/", "$share//t", "$share/g", "$share/g/", "$share/+/t",
        "$share/#",
                                      "$share/g#/t", "$share/g+/t", "$share/g/a#", "$share/g/#/b"};
    for (size_t i = 0; i < LENGTH(bad); i++)
        assert_int_equal(kind(bad[i]), TOPIC_FILTER_INVALID);
}

static void filters_match_as_the_standard_says(void **state)
{
    (void)state;
    static const struct {
        const char *filter, *topic;
        bool match;
    } cases[] = {
        {"a", "a", true}, {"a", "b", false}, {"a", "ab", false}, {"ab", "a", false}, {"a", "A", false},
        {"a", "/a", false},
        {"a/b", "a/b", true}, {"a/b", "a//b", false}, {"a/b", "a/b/", false}, {"a/b/", "a/b", false},
        {"#", "a", true}, {"#", "/", true}, {"#", "a/b/c", true},
        {"a/#", "a", true}, {"a/#", "a/", true}, {"a/#", "a/b/c", true}, {"a/#", "ab", false}, {"a/#", "b", false},
        {"/#", "/", true}, {"/#", "/a", true}, {"/#", "a", false},
        {"+", "a", true}, {"+", "/", false}, {"+", "/a", false}, {"+", "a/b", false},
        {"+/+", "/a", true}, {"/+", "/a", true}, {"+/+", "a", false}, {"+/", "a/", true}, {"+/", "a", false},
        {"a/+", "a/", true}, {"a/+", "a", false}, {"a/+/c", "a/b/c", true}, {"a/+/c", "a//c", true},
        {"a/+/c", "a/b/d", false},
        {"a/+/#", "a/b", true}, {"a/+/#", "a/", true}, {"a/+/#", "a", false}, {"+/#", "a", true}, {"+/+/#", "a", false},
        {"+/b/#", "a/b", true}, {"+/b/#", "a/b/c/d", true}, {"+/b/#", "a/bc", false},
        {"#", "$SYS", false}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"+", "$x", false},
        {"/#", "$SYS", false},
        {"$SYS/#", "$SYS", true}, {"$SYS/#", "$SYS/x", true}, {"$SYS/+", "$SYS/x", true}, {"a/#", "a/$x", true},
        {"a/+", "a/$x", true},
        {"\xc3\xa9", "e\xcc\x81", false}, {"\xef\xbb\xbf" "a", "a", false},
    };
    for (size_t i = 0; i < LENGTH(cases); i++)
        if (matches(cases[i].filter, cases[i].topic) != cases[i].match)
            fail_msg("\"%s\" and \"%s\"", cases[i].filter, cases[i].topic);
}

static void collect_levels(const char *text, char *out)
{
    struct topic_levels levels = topic_levels_of(bytes_text(text));
    struct bytes level;
    *out = 0;
    while (topic_next_level(&levels, &level)) {
        strcat(out, "[");
        strncat(out, (const char *)level.data, level.size);
        strcat(out, "]");
    }
}

static void levels_are_what_stands_between_slashes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *levels;
    } cases[] = {{"", "[]"}, {"a", "[a]"}, {"/", "[][]"}, {"a/b", "[a][b]"}, {"a//b/", "[a][][b][]"},
        {"/ab", "[][ab]"}};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char found[64];
        collect_levels(cases[i].text, found);
        assert_string_equal(found, cases[i].levels);
        size_t brackets = 0;
        for (const char *c = cases[i].levels; *c; c++)
            brackets += *c == '[';
        assert_int_equal(topic_level_count(bytes_text(cases[i].text)), brackets);
    }
}

static int compare_keys(const char *a, const char *b)
{
    uint8_t key_a[TOPIC_KEY_MAX], key_b[TOPIC_KEY_MAX];
    size_t size_a = topic_key(bytes_text(a), key_a), size_b = topic_key(bytes_text(b), key_b);
    return bytes_compare(bytes_of(key_a, size_a), bytes_of(key_b, size_b));
}

static void keys_sort_level_by_level(void **state)
{
    (void)state;
    assert_true(compare_keys("a", "a/b") < 0);
    assert_true(compare_keys("a/b", "a b") < 0); /* ' ' sorts before '/' as text, but not inside a level */
    assert_true(compare_keys("a/z", "a!") < 0);
    assert_true(compare_keys("a/b/c", "a/bb") < 0);
    assert_int_equal(compare_keys("a/b", "a/b"), 0);
}

static void long_texts_become_a_prefix_and_a_hash(void **state)
{
    (void)state;
    uint8_t text[TOPIC_KEY_PLAIN_MAX + 2], key[TOPIC_KEY_MAX], other[TOPIC_KEY_MAX];
    memset(text, 'x', sizeof text);
    text[1] = '/';
    assert_int_equal(topic_key(bytes_of(text, TOPIC_KEY_PLAIN_MAX), key), TOPIC_KEY_PLAIN_MAX);
    assert_int_equal(key[1], 0);

    assert_int_equal(topic_key(bytes_of(text, TOPIC_KEY_PLAIN_MAX + 1), key), TOPIC_KEY_MAX);
    assert_int_equal(key[1], 0);
    assert_int_equal(key[TOPIC_KEY_PREFIX - 1], 'x');
    assert_memory_not_equal(key + TOPIC_KEY_PREFIX, text + TOPIC_KEY_PREFIX, TOPIC_KEY_MAX - TOPIC_KEY_PREFIX);
    assert_int_equal(topic_key(bytes_of(text, TOPIC_KEY_PLAIN_MAX + 2), other), TOPIC_KEY_MAX);
    assert_memory_equal(key, other, TOPIC_KEY_PREFIX);
    assert_memory_not_equal(key + TOPIC_KEY_PREFIX, other + TOPIC_KEY_PREFIX, TOPIC_KEY_MAX - TOPIC_KEY_PREFIX);

    text[TOPIC_KEY_PLAIN_MAX] = 'y'; /* the last byte counts too */
    topic_key(bytes_of(text, TOPIC_KEY_PLAIN_MAX + 1), other);
    assert_memory_not_equal(key, other, TOPIC_KEY_MAX);
}

static void hash_of_a_long_text_never_changes(void **state)
{
    (void)state;
    /* SHA-256 of 600 times 'a': keys are stored and hashed on every node, so they are part of the format. */
    static const uint8_t expected[4] = {0xba, 0x35, 0xc1, 0x70};
    uint8_t text[600], key[TOPIC_KEY_MAX];
    memset(text, 'a', sizeof text);
    topic_key(bytes_of(text, sizeof text), key);
    assert_memory_equal(key + TOPIC_KEY_PREFIX, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_but_nul_and_surrogates_is_valid),
        cmocka_unit_test(bytes_that_are_not_utf8_are_refused),
        cmocka_unit_test(nul_is_refused_wherever_it_stands),
        cmocka_unit_test(controls_noncharacters_and_byte_order_marks_are_accepted),
        cmocka_unit_test(topic_names_without_wildcards_are_good),
        cmocka_unit_test(topic_names_are_refused_for_a_reason),
        cmocka_unit_test(depth_ends_at_the_documented_limit),
        cmocka_unit_test(length_ends_at_65535_bytes),
        cmocka_unit_test(wildcards_stand_alone_in_their_level_and_hash_at_the_end),
        cmocka_unit_test(shared_filters_have_a_group_and_a_filter),
        cmocka_unit_test(filters_match_as_the_standard_says),
        cmocka_unit_test(levels_are_what_stands_between_slashes),
        cmocka_unit_test(keys_sort_level_by_level),
        cmocka_unit_test(long_texts_become_a_prefix_and_a_hash),
        cmocka_unit_test(hash_of_a_long_text_never_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
