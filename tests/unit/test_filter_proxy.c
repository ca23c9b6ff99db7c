/* test_filter_proxy.c — headers of proxies: what is understood, what is refused, and who may send them. */
#include "node/net/chain.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static struct bytes text(const char *line)
{
    return bytes_of(line, strlen(line));
}

static enum status decode(struct bytes bytes, struct proxy_header *header)
{
    size_t used;
    return proxy_header_decode(bytes, header, &used);
}

static void then_source_is(const struct proxy_header *header, const char *address, unsigned port)
{
    char host[INET6_ADDRSTRLEN];
    assert_true(header->known);
    inet_ntop(header->source.family, header->source.address, host, sizeof(host));
    assert_string_equal(host, address);
    assert_int_equal(header->source.port, port);
}

static void a_line_names_both_ends(void **state)
{
    struct proxy_header header;
    (void)state;
    assert_int_equal(decode(text("PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n"), &header), STATUS_OK);
    then_source_is(&header, "192.0.2.7", 56324);
    assert_int_equal(header.destination.port, 1883);
    assert_int_equal(decode(text("PROXY TCP6 2001:db8::7 ::1 1 65535\r\nrest"), &header), STATUS_OK);
    then_source_is(&header, "2001:db8::7", 1);
}

static void a_proxy_may_speak_for_itself(void **state)
{
    struct proxy_header header;
    (void)state;
    assert_int_equal(decode(text("PROXY UNKNOWN\r\n"), &header), STATUS_OK);
    assert_false(header.known);
    assert_int_equal(decode(text("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), &header), STATUS_OK);
    assert_false(header.known);
    assert_int_equal(decode(bytes_of(SIGNATURE "\x20\x00\x00\x00", 16), &header), STATUS_OK);
    assert_false(header.known);
}

static void lines_that_are_none_are_refused(void **state)
{
    static const char *const lines[] = {
        "GET / HTTP/1.1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883 5\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 056324 1883\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 -1 1883\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.1 1 1883\r\n",
        "PROXY TCP4 ::1 ::1 1 1883\r\n",
        "PROXY TCP5 192.0.2.7 198.51.100.1 56324 1883\r\n",
        "PROXY  TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\n",
        "PROXY \r\n",
        "proxy TCP4 192.0.2.7 198.51.100.1 56324 1883\r\n",
    };
    struct proxy_header header;
    (void)state;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (decode(text(lines[i]), &header) != STATUS_MALFORMED)
            fail_msg("taken: %s", lines[i]);
}

static void a_header_has_a_limit(void **state)
{
    char line[200] = "PROXY UNKNOWN ";
    struct proxy_header header;
    (void)state;
    memset(line + 14, 'x', sizeof(line) - 14);
    assert_int_equal(decode(bytes_of(line, 106), &header), STATUS_NEED_MORE);
    assert_int_equal(decode(bytes_of(line, 107), &header), STATUS_TOO_LARGE);
    memcpy(line + 105, "\r\n", 2);
    assert_int_equal(decode(bytes_of(line, 107), &header), STATUS_OK);
    assert_int_equal(decode(bytes_of(SIGNATURE "\x21\x11\x0f\xf0", 16), &header), STATUS_NEED_MORE);
    assert_int_equal(decode(bytes_of(SIGNATURE "\x21\x11\x0f\xf1", 16), &header), STATUS_TOO_LARGE);
}

static void the_binary_header_is_understood(void **state)
{
    static const char v4[] = SIGNATURE "\x21\x11\x00\x0f\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x07\x5b\x04\x00\x00";
    struct proxy_header header;
    size_t used;
    (void)state;
    assert_int_equal(proxy_header_decode(bytes_of(v4, sizeof(v4) - 1), &header, &used), STATUS_OK);
    assert_int_equal(used, 31); /* with its extension */
    then_source_is(&header, "192.0.2.7", 56324);
    assert_int_equal(proxy_header_decode(bytes_of(v4, 30), &header, &used), STATUS_NEED_MORE);
    assert_int_equal(decode(bytes_of(SIGNATURE "\x11\x11\x00\x00", 16), &header), STATUS_MALFORMED); /* version 1 */
    assert_int_equal(decode(bytes_of(SIGNATURE "\x22\x11\x00\x00", 16), &header), STATUS_MALFORMED); /* command 2 */
    assert_int_equal(decode(bytes_of(SIGNATURE "\x21\x11\x00\x00", 16), &header), STATUS_MALFORMED); /* no addresses */
    assert_int_equal(decode(bytes_of(SIGNATURE "\x21\x31\x00\x00", 16), &header), STATUS_OK);        /* a unix socket */
    assert_false(header.known);
}

static void ranges_hold_what_they_say(void **state)
{
    static const struct {
        const char *address;
        bool inside;
    } cases[] = {
        {"10.1.2.3", true}, {"11.1.2.3", false}, {"192.0.2.129", true}, {"192.0.2.127", false}, {"127.0.0.1", true},
        {"127.0.0.2", false}, {"2001:db8::5", true}, {"2001:db9::5", false}, {"::ffff:10.9.9.9", true},
        {"::ffff:11.9.9.9", false},
    };
    struct proxy_range ranges[8];
    size_t count;
    (void)state;
    assert_true(proxy_ranges_parse("10.0.0.0/8,192.0.2.128/25,127.0.0.1,2001:db8::/32", ranges, 8, &count));
    assert_int_equal(count, 4);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        bool six = strchr(cases[i].address, ':') != NULL;
        assert_int_equal(inet_pton(six ? AF_INET6 : AF_INET, cases[i].address, six ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr), 1);
        const struct sockaddr *address = six ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4;
        if (proxy_ranges_contain(ranges, count, address) != cases[i].inside)
            fail_msg("%s", cases[i].address);
    }
}

static void ranges_that_are_none_are_refused(void **state)
{
    static const char *const texts[] = {"10.0.0.0/33", "10.0.0.0/", "10.0.0.0/8x", "10.0.0", "::/129", "localhost", ",", "10.0.0.0/-1"};
    struct proxy_range ranges[2];
    size_t count;
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (proxy_ranges_parse(texts[i], ranges, 2, &count))
            fail_msg("taken: %s", texts[i]);
    assert_false(proxy_ranges_parse("1.1.1.1,1.1.1.2,1.1.1.3", ranges, 2, &count));
}

static void what_comes_behind_the_header_passes(void **state)
{
    struct chain chain = {0};
    struct chain_scratch scratch = {0};
    struct buffer plain = {0}, wire = {0};
    static const char stream[] = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 1883\r\nMQTT";
    (void)state;
    chain_add(&chain, filter_proxy_new());
    for (size_t i = 0; i < sizeof(stream) - 1; i++)
        assert_int_equal(chain_receive(&chain, &scratch, bytes_of(stream + i, 1), &plain, &wire), FILTER_OK);
    assert_true(chain_open(&chain));
    assert_int_equal(plain.size, 4);
    assert_memory_equal(plain.data, "MQTT", 4);
    struct filter_facts facts;
    chain_facts(&chain, &facts);
    then_source_is(facts.proxy, "192.0.2.7", 56324);
    assert_int_equal(chain_send(&chain, &scratch, text("answer"), &wire), FILTER_OK);
    assert_memory_equal(wire.data, "answer", 6);
    chain_release(&chain);
    chain_scratch_release(&scratch);
    buffer_release(&plain);
    buffer_release(&wire);
}

static void without_a_header_nothing_passes(void **state)
{
    struct chain chain = {0};
    struct chain_scratch scratch = {0};
    struct buffer plain = {0}, wire = {0};
    char why[100];
    (void)state;
    chain_add(&chain, filter_proxy_new());
    assert_int_equal(chain_receive(&chain, &scratch, bytes_of("\x10\x0e\0\4MQTT", 8), &plain, &wire), FILTER_FAULT);
    assert_int_equal(plain.size, 0);
    chain_fault(&chain, why, sizeof(why));
    assert_non_null(strstr(why, "PROXY"));
    chain_release(&chain);
    chain_scratch_release(&scratch);
    buffer_release(&plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_names_both_ends),
        cmocka_unit_test(a_proxy_may_speak_for_itself),
        cmocka_unit_test(lines_that_are_none_are_refused),
        cmocka_unit_test(a_header_has_a_limit),
        cmocka_unit_test(the_binary_header_is_understood),
        cmocka_unit_test(ranges_hold_what_they_say),
        cmocka_unit_test(ranges_that_are_none_are_refused),
        cmocka_unit_test(what_comes_behind_the_header_passes),
        cmocka_unit_test(without_a_header_nothing_passes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
