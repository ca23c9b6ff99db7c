/* test_filter_websocket.c — the request that begins a WebSocket connection, and the frames that follow. */
#include "node/net/chain.h"
#include "node/net/websocket_upgrade.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The example of RFC 6455, 1.3. */
#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define HEAD   "GET /mqtt HTTP/1.1\r\nHost: broker\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
#define REST   "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY "\r\n"
#define MQTT   "Sec-WebSocket-Protocol: mqtt\r\n"

#define MESSAGE_MAX 1000

struct world {
    struct websocket_settings settings;
    struct chain chain;
    struct chain_scratch scratch;
    struct buffer plain, wire;
    enum filter_result result;
};

/* ---- the request ---- */

static void then_answer_is(const char *request, const struct upgrade_rules *rules, const char *status)
{
    struct buffer answer = {0};
    size_t used;
    enum status result = upgrade_answer(bytes_text(request), rules, &answer, &used);
    buffer_put(&answer, "", 1);
    if (strncmp((char *)answer.data, "HTTP/1.1 ", 9) != 0 || strncmp((char *)answer.data + 9, status, strlen(status)) != 0)
        fail_msg("expected %s, got: %s for: %s", status, answer.data, request);
    assert_int_equal(result == STATUS_OK, strcmp(status, "101") == 0);
    buffer_release(&answer);
}

static const struct upgrade_rules anything = {.path = "", .origins = ""};

static void the_key_is_answered_as_the_standard_says(void **state)
{
    struct buffer answer = {0};
    size_t used;
    (void)state;
    assert_int_equal(upgrade_answer(bytes_text(HEAD REST MQTT "\r\nframes"), &anything, &answer, &used), STATUS_OK);
    assert_int_equal(used, strlen(HEAD REST MQTT "\r\n"));
    buffer_put(&answer, "", 1);
    assert_non_null(strstr((char *)answer.data, "\r\nSec-WebSocket-Accept: " ACCEPT "\r\n"));
    assert_non_null(strstr((char *)answer.data, "\r\nSec-WebSocket-Protocol: mqtt\r\n"));
    assert_null(strstr((char *)answer.data, "Extensions"));
    buffer_release(&answer);
}

static void the_sub_protocol_of_mqtt_is_found_in_a_list(void **state)
{
    struct buffer answer = {0};
    size_t used;
    (void)state;
    then_answer_is(HEAD REST "Sec-WebSocket-Protocol: other ,  mqtt\r\n\r\n", &anything, "101");
    then_answer_is(HEAD REST "Sec-WebSocket-Protocol: other\r\n" MQTT "\r\n", &anything, "101");
    then_answer_is(HEAD REST "Sec-WebSocket-Protocol: mqttx, xmqtt\r\n\r\n", &anything, "400");
    then_answer_is(HEAD REST "\r\n", &anything, "400");
    assert_int_equal(upgrade_answer(bytes_text(HEAD REST "Sec-WebSocket-Protocol: mqttv3.1\r\n\r\n"), &anything, &answer, &used),
                     STATUS_OK);
    buffer_put(&answer, "", 1);
    assert_non_null(strstr((char *)answer.data, "\r\nSec-WebSocket-Protocol: mqttv3.1\r\n"));
    buffer_release(&answer);
}

static void other_requests_are_refused(void **state)
{
    (void)state;
    then_answer_is("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &anything, "426");
    then_answer_is("POST / HTTP/1.1\r\nHost: a\r\n\r\n", &anything, "405");
    then_answer_is("GET / HTTP/1.0\r\n\r\n", &anything, "505");
    then_answer_is("GET http://a/ HTTP/1.1\r\n\r\n", &anything, "400");
    then_answer_is("\x10\x0e\x01\x04MQTT\r\n\r\n", &anything, "400");
    then_answer_is(HEAD "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: " KEY "\r\n" MQTT "\r\n", &anything, "426");
    then_answer_is(HEAD "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short==\r\n" MQTT "\r\n", &anything, "400");
    then_answer_is(HEAD REST "Sec-WebSocket-Key: " KEY "\r\n" MQTT "\r\n", &anything, "400");
    then_answer_is(HEAD REST MQTT "Content-Length: 5\r\n\r\nhello", &anything, "400");
    then_answer_is(HEAD REST MQTT "Transfer-Encoding: chunked\r\n\r\n", &anything, "400");
}

static void smuggled_lines_are_refused(void **state)
{
    (void)state;
    then_answer_is(HEAD REST MQTT "X: a\n\r\n\r\n", &anything, "400");       /* a bare line feed */
    then_answer_is(HEAD REST MQTT "X: a\r\n folded\r\n\r\n", &anything, "400");
    then_answer_is(HEAD REST MQTT "X : a\r\n\r\n", &anything, "400");
    then_answer_is(HEAD REST MQTT "X: \x01\r\n\r\n", &anything, "400");
    then_answer_is(HEAD REST MQTT "no colon\r\n\r\n", &anything, "400");
}

static void a_request_has_limits(void **state)
{
    static char large[UPGRADE_BYTES_MAX + 1], many[8000];
    struct buffer answer = {0};
    size_t used;
    (void)state;
    memset(large, 'a', sizeof(large));
    assert_int_equal(upgrade_answer(bytes_of(large, UPGRADE_BYTES_MAX - 1), &anything, &answer, &used), STATUS_NEED_MORE);
    assert_int_equal(answer.size, 0);
    large[sizeof(large) - 1] = '\0';
    then_answer_is(large, &anything, "431");
    strcpy(many, HEAD REST MQTT); /* 6 headers */
    for (int i = 0; i < UPGRADE_HEADERS_MAX - 6; i++)
        strcat(many, "X: a\r\n");
    size_t length = strlen(many);
    strcpy(many + length, "\r\n");
    then_answer_is(many, &anything, "101");
    strcpy(many + length, "X: a\r\n\r\n");
    then_answer_is(many, &anything, "400");
}

static void path_and_origin_are_rules(void **state)
{
    const struct upgrade_rules rules = {.path = "/mqtt", .origins = "https://a.example,https://b.example"};
    (void)state;
    then_answer_is(HEAD REST MQTT "\r\n", &rules, "101"); /* no browser */
    then_answer_is(HEAD REST MQTT "Origin: https://b.example\r\n\r\n", &rules, "101");
    then_answer_is(HEAD REST MQTT "Origin: https://b.example.evil\r\n\r\n", &rules, "403");
    then_answer_is(HEAD REST MQTT "Origin: null\r\n\r\n", &rules, "403");
    then_answer_is("GET /mqtt?x=1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" REST MQTT "\r\n", &rules,
                   "101");
    then_answer_is("GET /other HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" REST MQTT "\r\n", &rules,
                   "404");
}

/* ---- frames ---- */

static int given_an_open_connection(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    w->settings = (struct websocket_settings){.path = "", .origins = "", .message_bytes_max = MESSAGE_MAX};
    chain_add(&w->chain, filter_websocket_new(&w->settings));
    w->result = chain_receive(&w->chain, &w->scratch, bytes_text(HEAD REST MQTT "\r\n"), &w->plain, &w->wire);
    assert_true(chain_open(&w->chain));
    buffer_clear(&w->wire);
    *state = w;
    return 0;
}

static int close_connection(void **state)
{
    struct world *w = *state;
    chain_release(&w->chain);
    chain_scratch_release(&w->scratch);
    buffer_release(&w->plain);
    buffer_release(&w->wire);
    free(w);
    return 0;
}

/* One frame, masked. */
static void when_frame(struct world *w, uint8_t first, const char *payload, size_t size)
{
    struct buffer frame = {0};
    static const uint8_t mask[4] = {1, 2, 3, 4};
    buffer_put_u8(&frame, first);
    buffer_put_u8(&frame, (uint8_t)(0x80 | (size < 126 ? size : 126)));
    if (size >= 126) {
        buffer_put_u8(&frame, (uint8_t)(size >> 8));
        buffer_put_u8(&frame, (uint8_t)size);
    }
    buffer_put(&frame, mask, 4);
    for (size_t i = 0; i < size; i++)
        buffer_put_u8(&frame, (uint8_t)payload[i] ^ mask[i % 4]);
    w->result = chain_receive(&w->chain, &w->scratch, buffer_bytes(&frame), &w->plain, &w->wire);
    buffer_release(&frame);
}

static void when_text(struct world *w, uint8_t first, const char *payload)
{
    when_frame(w, first, payload, strlen(payload));
}

static void then_plain_is(const struct world *w, const char *text)
{
    assert_int_equal(w->plain.size, strlen(text));
    assert_memory_equal(w->plain.data, text, strlen(text));
}

static void then_closed_with(const struct world *w, unsigned code)
{
    assert_int_equal(w->wire.size, 4);
    assert_int_equal(w->wire.data[0], 0x88);
    assert_int_equal(w->wire.data[2] << 8 | w->wire.data[3], code);
}

static void fragments_are_joined_and_pings_come_between(void **state)
{
    struct world *w = *state;
    when_text(w, 0x02, "one ");
    when_text(w, 0x89, "ping");
    when_text(w, 0x00, "two ");
    when_text(w, 0x8a, "a pong that nobody asked for");
    when_text(w, 0x80, "three");
    assert_int_equal(w->result, FILTER_OK);
    then_plain_is(w, "one two three");
    assert_int_equal(w->wire.size, 6);
    assert_memory_equal(w->wire.data, "\x8a\x04ping", 6);
}

static void frames_that_may_not_come_close_the_connection(void **state)
{
    static const struct {
        uint8_t first;
        const char *payload;
        unsigned code;
    } cases[] = {
        {0x81, "text", 1003}, {0x01, "text", 1003}, {0x80, "nothing to continue", 1002}, {0x83, "reserved", 1002},
        {0x8b, "reserved", 1002}, {0xc2, "compressed", 1002}, {0x09, "ping in parts", 1002}, {0x08, "close in parts", 1002},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        given_an_open_connection(state);
        struct world *w = *state;
        when_text(w, cases[i].first, cases[i].payload);
        assert_int_equal(w->result, FILTER_FAULT);
        then_closed_with(w, cases[i].code);
        then_plain_is(w, "");
        close_connection(state);
    }
    given_an_open_connection(state);
}

static void a_second_message_within_a_message_closes(void **state)
{
    struct world *w = *state;
    when_text(w, 0x02, "first");
    when_text(w, 0x82, "second");
    assert_int_equal(w->result, FILTER_FAULT);
    then_closed_with(w, 1002);
}

static void a_frame_without_mask_closes(void **state)
{
    struct world *w = *state;
    w->result = chain_receive(&w->chain, &w->scratch, bytes_of("\x82\x02hi", 4), &w->plain, &w->wire);
    assert_int_equal(w->result, FILTER_FAULT);
    then_closed_with(w, 1002);
}

static void a_message_has_a_limit(void **state)
{
    struct world *w = *state;
    char payload[MESSAGE_MAX + 1] = {0};
    when_frame(w, 0x02, payload, MESSAGE_MAX - 1);
    when_frame(w, 0x80, payload, 1);
    assert_int_equal(w->result, FILTER_OK);
    when_frame(w, 0x02, payload, MESSAGE_MAX);
    when_frame(w, 0x80, payload, 1);
    assert_int_equal(w->result, FILTER_FAULT);
    then_closed_with(w, 1009);
}

static void a_huge_length_is_refused_without_memory(void **state)
{
    struct world *w = *state;
    w->result = chain_receive(&w->chain, &w->scratch, bytes_of("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\1\2\3\4x", 15), &w->plain,
                              &w->wire);
    assert_int_equal(w->result, FILTER_FAULT);
    then_closed_with(w, 1009);
    assert_true(w->plain.capacity < 65536);
}

static void close_is_answered_and_ends(void **state)
{
    struct world *w = *state;
    when_text(w, 0x82, "last words");
    when_frame(w, 0x88, "\x03\xe8 bye", 6);
    assert_int_equal(w->result, FILTER_END);
    then_plain_is(w, "last words");
    then_closed_with(w, 1000);
    assert_int_equal(chain_send(&w->chain, &w->scratch, bytes_text("too late"), &w->wire), FILTER_OK);
    assert_int_equal(w->wire.size, 4);
}

static void a_close_code_that_does_not_exist_is_a_fault(void **state)
{
    struct world *w = *state;
    when_frame(w, 0x88, "\x03\xed", 2); /* 1005 is never sent */
    assert_int_equal(w->result, FILTER_FAULT);
    then_closed_with(w, 1002);
}

static void what_is_sent_is_one_binary_frame(void **state)
{
    struct world *w = *state;
    char large[70000] = {0};
    assert_int_equal(chain_send(&w->chain, &w->scratch, bytes_text("short"), &w->wire), FILTER_OK);
    assert_memory_equal(w->wire.data, "\x82\x05short", 7);
    buffer_clear(&w->wire);
    chain_send(&w->chain, &w->scratch, bytes_of(large, 126), &w->wire);
    assert_memory_equal(w->wire.data, "\x82\x7e\x00\x7e", 4);
    buffer_clear(&w->wire);
    chain_send(&w->chain, &w->scratch, bytes_of(large, sizeof(large)), &w->wire);
    assert_memory_equal(w->wire.data, "\x82\x7f\0\0\0\0\0\1\x11\x70", 10);
    assert_int_equal(w->wire.size, 10 + sizeof(large));
}

static void goodbye_is_a_close_frame(void **state)
{
    struct world *w = *state;
    chain_finish(&w->chain, &w->scratch, &w->wire);
    then_closed_with(w, 1000);
}

#define OPENED(test) cmocka_unit_test_setup_teardown(test, given_an_open_connection, close_connection)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_is_answered_as_the_standard_says),
        cmocka_unit_test(the_sub_protocol_of_mqtt_is_found_in_a_list),
        cmocka_unit_test(other_requests_are_refused),
        cmocka_unit_test(smuggled_lines_are_refused),
        cmocka_unit_test(a_request_has_limits),
        cmocka_unit_test(path_and_origin_are_rules),
        OPENED(fragments_are_joined_and_pings_come_between),
        cmocka_unit_test_teardown(frames_that_may_not_come_close_the_connection, close_connection),
        OPENED(a_second_message_within_a_message_closes),
        OPENED(a_frame_without_mask_closes),
        OPENED(a_message_has_a_limit),
        OPENED(a_huge_length_is_refused_without_memory),
        OPENED(close_is_answered_and_ends),
        OPENED(a_close_code_that_does_not_exist_is_a_fault),
        OPENED(what_is_sent_is_one_binary_frame),
        OPENED(goodbye_is_a_close_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
