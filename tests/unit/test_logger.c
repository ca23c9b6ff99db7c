/* test_logger.c — whatever a client sends, a log line stays one well-formed line. */
#include "base/logger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define NOON 1772366400123ull   /* 2026-03-01T12:00:00.123Z */

static const char *line_of(enum log_format format, const struct log_field *fields, size_t count)
{
    static char line[LOG_LINE_MAX + 1];
    size_t size = log_line(line, format, NOON, LOG_INFO, 2, "some-event", fields, count);
    assert_true(size > 0 && size <= LOG_LINE_MAX);
    assert_int_equal(line[size - 1], '\n');
    assert_null(memchr(line, '\n', size - 1));
    line[size] = '\0';
    return line;
}

static const char *line_of_text(enum log_format format, const char *data, size_t size)
{
    struct log_field field = log_bytes("v", bytes_of(data, size));
    return line_of(format, &field, 1);
}

static void an_event_is_one_line_of_key_and_value(void **state)
{
    (void)state;
    const struct log_field fields[] = {log_text("client_id", "meter-7"), log_u64("n", 18446744073709551615ull),
                                       log_i64("delta", -3), log_bool("clean", true), log_text("why", "no reason")};
    assert_string_equal(line_of(LOG_KEY_VALUE, fields, 5),
                        "time=2026-03-01T12:00:00.123Z level=info node=2 event=some-event client_id=meter-7 "
                        "n=18446744073709551615 delta=-3 clean=true why=\"no reason\"\n");
}

static void the_same_event_as_json(void **state)
{
    (void)state;
    const struct log_field fields[] = {log_text("client_id", "meter-7"), log_u64("n", 5), log_bool("clean", false)};
    assert_string_equal(line_of(LOG_JSON, fields, 3),
                        "{\"time\":\"2026-03-01T12:00:00.123Z\",\"level\":\"info\",\"node\":2,\"event\":\"some-event\","
                        "\"client_id\":\"meter-7\",\"n\":5,\"clean\":false}\n");
}

static void quotes_and_backslashes_are_escaped(void **state)
{
    (void)state;
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "a\" level=error", 14), " v=\"a\\\" level=error\"\n"));
    assert_non_null(strstr(line_of_text(LOG_JSON, "a\\", 2), "\"v\":\"a\\\\\"}\n"));
}

static void an_equals_sign_or_nothing_at_all_is_quoted(void **state)
{
    (void)state;
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "a=b", 3), " v=\"a=b\"\n"));
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "", 0), " v=\"\"\n"));
}

static void escape_sequences_and_line_ends_do_not_reach_the_terminal(void **state)
{
    (void)state;
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "\x1b[2J\n\0x", 7), " v=\"\\x1b[2J\\n\\x00x\"\n"));
    assert_non_null(strstr(line_of_text(LOG_JSON, "\x1b\x7f", 2), "\"v\":\"\\u001b\\u007f\"}\n"));
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "\xc2\x9b" "31m", 5), " v=\"\\x9b31m\"\n"));
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "\xe2\x80\xae" "x", 4), " v=\"\\u202ex\"\n"));
}

static void valid_utf8_is_kept_and_invalid_is_escaped(void **state)
{
    (void)state;
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "caf\xc3\xa9", 5), " v=\"caf\xc3\xa9\"\n"));
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "\xc0\xaf\xed\xa0\x80", 5), " v=\"\\xc0\\xaf\\xed\\xa0\\x80\"\n"));
    assert_non_null(strstr(line_of_text(LOG_JSON, "\xff", 1), "\"v\":\"\\ufffd\"}\n"));
    assert_non_null(strstr(line_of_text(LOG_KEY_VALUE, "\xe2\x82", 2), " v=\"\\xe2\\x82\"\n"));
}

static void a_long_value_is_cut_and_says_so(void **state)
{
    (void)state;
    static char text[10000];
    memset(text, 'a', sizeof(text));
    const char *line = line_of_text(LOG_JSON, text, sizeof(text));
    assert_true(strlen(line) < LOG_VALUE_MAX + 200);
    assert_non_null(strstr(line, "aaa...\"}\n"));
}

static void a_line_that_would_be_too_long_is_closed_properly(void **state)
{
    (void)state;
    static char text[10000];
    memset(text, '\x01', sizeof(text));
    struct log_field fields[8];
    for (size_t i = 0; i < 8; i++)
        fields[i] = log_bytes("v", bytes_of(text, sizeof(text)));
    assert_non_null(strstr(line_of(LOG_JSON, fields, 8), ",\"truncated\":true}\n"));
    assert_non_null(strstr(line_of(LOG_KEY_VALUE, fields, 8), " truncated=true\n"));
}

static void what_repeats_is_logged_once_per_minute_with_a_count(void **state)
{
    (void)state;
    struct log_limit limit = {0};
    uint64_t suppressed = 99;
    assert_true(log_allowed(&limit, 1000, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_false(log_allowed(&limit, 1001, &suppressed));
    assert_false(log_allowed(&limit, 1000 + LOG_LIMIT_MS - 1, NULL));
    assert_true(log_allowed(&limit, 1000 + LOG_LIMIT_MS, &suppressed));
    assert_int_equal(suppressed, 2);
}

static void levels_and_formats_have_names(void **state)
{
    (void)state;
    enum log_level level;
    enum log_format format;
    assert_true(log_level_of("warning", &level));
    assert_int_equal(level, LOG_WARNING);
    assert_false(log_level_of("loud", &level));
    assert_true(log_format_of("json", &format));
    assert_int_equal(format, LOG_JSON);
    assert_false(log_format_of("", &format));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_one_line_of_key_and_value),
        cmocka_unit_test(the_same_event_as_json),
        cmocka_unit_test(quotes_and_backslashes_are_escaped),
        cmocka_unit_test(an_equals_sign_or_nothing_at_all_is_quoted),
        cmocka_unit_test(escape_sequences_and_line_ends_do_not_reach_the_terminal),
        cmocka_unit_test(valid_utf8_is_kept_and_invalid_is_escaped),
        cmocka_unit_test(a_long_value_is_cut_and_says_so),
        cmocka_unit_test(a_line_that_would_be_too_long_is_closed_properly),
        cmocka_unit_test(what_repeats_is_logged_once_per_minute_with_a_count),
        cmocka_unit_test(levels_and_formats_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
