/* Decoding what clients send. Numbers in brackets are rows of the list of corner cases that broke other brokers; rows
 * that are not decided here (sessions, limits on numbers, timeouts) are tested where they are. */
#include "node/mqtt/decode.h"
#include "node/mqtt/property.h"
#include "node/mqtt/reason.h"

#include "mqtt_notation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define ALIAS_MAX 10

/* ---- the smallest world that works ---- */

struct result {
    enum status status;
    struct mqtt_packet packet;
    struct mqtt_fault fault;
    size_t size;
    uint8_t *copy; /* what `packet` borrows from */
};

static struct result decode_limited(uint8_t level, struct bytes in, uint32_t packet_size_max)
{
    struct mqtt_decode_options options = {level, ALIAS_MAX, packet_size_max};
    struct result result = {0};
    /* A block of exactly this size: the sanitizer sees the first byte read behind it. */
    result.copy = malloc(in.size > 0 ? in.size : 1);
    if (in.size > 0)
        memcpy(result.copy, in.data, in.size);
    result.status = mqtt_decode(bytes_of(result.copy, in.size), &options, &result.packet, &result.size, &result.fault);
    assert_non_null(result.fault.text);
    return result;
}

static struct result decode_bytes(uint8_t level, struct bytes in)
{
    return decode_limited(level, in, MQTT_PACKET_SIZE_MAX);
}

static struct result decode(uint8_t level, const char *text)
{
    struct buffer in = packet(text);
    struct result result = decode_bytes(level, buffer_bytes(&in));
    if (result.status == STATUS_OK)
        assert_int_equal(result.size, in.size);
    buffer_release(&in);
    return result;
}

/* A packet that must decode; free(result.copy). */
static struct result decode_good(uint8_t level, const char *text)
{
    struct result result = decode(level, text);
    if (result.status != STATUS_OK)
        fail_msg("%s: %s", text, result.fault.text);
    return result;
}

static void then_text(struct bytes found, const char *expected)
{
    if (!bytes_equal(found, bytes_text(expected)))
        fail_msg("found \"%.*s\", not \"%s\"", (int)found.size, (const char *)found.data, expected);
}

struct refusal {
    uint8_t level;
    const char *text;
    enum status status;
    uint8_t reason;
    uint8_t answer_level;
};

static void then_refused(const struct refusal *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct refusal *c = &cases[i];
        struct result result = decode(c->level, c->text);
        if (result.status != c->status || result.fault.reason != c->reason
            || result.fault.answer_level != c->answer_level)
            fail_msg("level %d, %s: status %d, reason %02x, answer %d: %s", c->level, c->text, result.status,
                     result.fault.reason, result.fault.answer_level, result.fault.text);
        assert_true(result.fault.text[0] != 0);
        free(result.copy);
    }
}

#define MALFORMED_5 STATUS_MALFORMED, 0x81, 5
#define MALFORMED_3 STATUS_MALFORMED, 0x81, 0
#define PROTOCOL_5 STATUS_PROTOCOL_ERROR, 0x82, 5
#define PROTOCOL_3 STATUS_PROTOCOL_ERROR, 0x82, 0

/* One good packet of every kind. `exact`: no prefix of its body is a good body. */
static const struct {
    uint8_t level;
    enum mqtt_type type;
    bool exact;
    const char *text;
} good[] = {
    {0, MQTT_CONNECT, false, "10 'MQIsdp' 03 c2 003c 'id' 'user' 'pass'"},
    {0, MQTT_CONNECT, true, "10 'MQTT' 04 02 003c 'id'"},
    {0, MQTT_CONNECT, true, "10 'MQTT' 04 ee 003c 'id' 'will/topic' 'will payload' 'user' 'pass'"},
    {0, MQTT_CONNECT, true, "10 'MQTT' 05 02 003c () 'id'"},
    {0, MQTT_CONNECT, true,
        "10 'MQTT' 05 f6 003c (11 00000e10 21 0014 22 000a 27 00010000 19 01 17 00 26 'k' 'v' 15 'SCRAM' 16 'x')"
                            " 'id' (18 0000003c 01 01 02 0000000a 03 'type' 08 'reply' 09 'corr' 26 'a' 'b') 'w' 'payload' 'user' 'pass'"},
    {4, MQTT_PUBLISH, false, "30 'a/b' <payload>"},
    {4, MQTT_PUBLISH, false, "3b 'a/b' 0001 <payload>"},
    {5, MQTT_PUBLISH, false, "30 'a/b' () <payload>"},
    {5, MQTT_PUBLISH, false,
        "35 'a/b' ffff (01 01 02 0000000a 23 0001 03 'type' 08 'reply' 09 'corr' 26 'a' 'b') <payload>"},
    {5, MQTT_PUBLISH, false, "30 '' (23 000a) <payload>"},
    {4, MQTT_PUBACK, true, "40 1234"},
    {5, MQTT_PUBACK, false, "40 1234"},
    {5, MQTT_PUBACK, false, "40 1234 87"},
    {5, MQTT_PUBACK, false, "40 1234 87 (1f 'why' 26 'k' 'v')"},
    {4, MQTT_PUBREC, true, "50 1234"},
    {5, MQTT_PUBREC, false, "50 1234 00 ()"},
    {4, MQTT_PUBREL, true, "62 1234"},
    {5, MQTT_PUBREL, false, "62 1234 92 (1f 'why')"},
    {4, MQTT_PUBCOMP, true, "70 1234"},
    {5, MQTT_PUBCOMP, false, "70 1234 92"},
    {4, MQTT_SUBSCRIBE, true, "82 0001 'a/+' 01"},
    {4, MQTT_SUBSCRIBE, false, "82 0001 'a/+' 01 'b/#' 02"},
    {5, MQTT_SUBSCRIBE, true, "82 0001 (0b 01 26 'k' 'v') 'a/+' 2e"},
    {5, MQTT_SUBSCRIBE, false, "82 0001 () 'a/+' 01 '$share/g/x' 02"},
    {4, MQTT_UNSUBSCRIBE, true, "a2 0001 'a/+'"},
    {5, MQTT_UNSUBSCRIBE, true, "a2 0001 (26 'k' 'v') 'a/+'"},
    {4, MQTT_PINGREQ, true, "c0"},
    {5, MQTT_PINGREQ, true, "c0"},
    {4, MQTT_DISCONNECT, true, "e0"},
    {5, MQTT_DISCONNECT, false, "e0"},
    {5, MQTT_DISCONNECT, false, "e0 04"},
    {5, MQTT_DISCONNECT, false, "e0 00 (11 00000000 1f 'bye')"},
    {5, MQTT_AUTH, true, "f0 18 (15 'SCRAM' 16 'data')"},
};

/* ---- framing ---- */

static void every_kind_of_packet_is_decoded(void **state)
{
    (void)state;
    for (size_t i = 0; i < LENGTH(good); i++) {
        struct result result = decode_good(good[i].level, good[i].text);
        assert_int_equal(result.packet.type, good[i].type);
        free(result.copy);
    }
}

static void every_prefix_of_every_packet_needs_more(void **state) /* [6, 13] */
{
    (void)state;
    for (size_t i = 0; i < LENGTH(good); i++) {
        struct buffer whole = packet(good[i].text);
        for (size_t size = 0; size < whole.size; size++) {
            struct result result = decode_bytes(good[i].level, bytes_of(whole.data, size));
            if (result.status != STATUS_NEED_MORE)
                fail_msg("%s, %zu bytes: %s", good[i].text, size, result.fault.text);
            assert_int_equal(result.size, size < 2 ? 0 : whole.size);
            free(result.copy);
        }
        buffer_release(&whole);
    }
}

static void a_body_that_ends_early_is_never_read_past_its_end(void **state) /* [13, 48] */
{
    (void)state;
    for (size_t i = 0; i < LENGTH(good); i++) {
        struct buffer all = raw(good[i].text);
        for (size_t size = 0; size + 1 < all.size; size++) {
            struct buffer shorter = packet_of(all.data[0], bytes_of(all.data + 1, size));
            struct result result = decode_bytes(good[i].level, buffer_bytes(&shorter));
            assert_int_not_equal(result.status, STATUS_NEED_MORE);
            if (good[i].exact && result.status == STATUS_OK)
                fail_msg("%s: accepted with a body of %zu bytes", good[i].text, size);
            free(result.copy);
            buffer_release(&shorter);
        }
        buffer_release(&all);
    }
}

static void bytes_behind_the_last_field_are_malformed(void **state) /* [12, 14] */
{
    (void)state;
    for (size_t i = 0; i < LENGTH(good); i++) {
        bool takes_the_rest = good[i].type == MQTT_PUBLISH || good[i].type == MQTT_SUBSCRIBE
            || good[i].type == MQTT_UNSUBSCRIBE;
        struct buffer all = raw(good[i].text);
        bool may_grow = good[i].level == 5 && all.size < 5; /* short forms of acknowledgements and DISCONNECT */
        buffer_put_u8(&all, 0x20);
        struct buffer longer = packet_of(all.data[0], bytes_of(all.data + 1, all.size - 1));
        struct result result = decode_bytes(good[i].level, buffer_bytes(&longer));
        if (!takes_the_rest && !may_grow && result.status != STATUS_MALFORMED)
            fail_msg("%s", good[i].text);
        free(result.copy);
        buffer_release(&longer);
        buffer_release(&all);
    }
}

static unsigned next_number(unsigned *seed)
{
    *seed = *seed * 1103515245u + 12345u;
    return *seed >> 16;
}

/* What a connection does: bytes arrive in pieces, whole packets are taken off the front. */
static void when_stream_arrives_in_pieces(struct bytes stream, unsigned seed, enum mqtt_type *types, size_t *count)
{
    struct buffer held = {0};
    *count = 0;
    for (size_t at = 0; at < stream.size;) {
        size_t piece = 1 + next_number(&seed) % (seed % 3 == 0 ? 3 : 40);
        if (piece > stream.size - at)
            piece = stream.size - at;
        buffer_put(&held, stream.data + at, piece);
        at += piece;
        for (;;) {
            struct result result = decode_bytes(5, buffer_bytes(&held));
            free(result.copy);
            if (result.status != STATUS_OK) {
                assert_int_equal(result.status, STATUS_NEED_MORE);
                break;
            }
            types[(*count)++] = result.packet.type;
            buffer_consume(&held, result.size);
        }
    }
    assert_int_equal(held.size, 0);
    buffer_release(&held);
}

static void a_stream_gives_the_same_packets_however_it_is_split(void **state) /* [6] */
{
    (void)state;
    struct buffer stream = {0};
    enum mqtt_type expected[LENGTH(good)], found[LENGTH(good)];
    size_t expected_count = 0, found_count;
    for (size_t i = 0; i < LENGTH(good); i++) {
        if (good[i].level != 5)
            continue;
        struct buffer one = packet(good[i].text);
        buffer_put_bytes(&stream, buffer_bytes(&one));
        buffer_release(&one);
        expected[expected_count++] = good[i].type;
    }
    for (unsigned seed = 0; seed < 200; seed++) {
        when_stream_arrives_in_pieces(buffer_bytes(&stream), seed, found, &found_count);
        assert_int_equal(found_count, expected_count);
        assert_memory_equal(found, expected, expected_count * sizeof expected[0]);
    }
    buffer_release(&stream);
}

static void the_first_packet_is_judged_by_its_first_byte(void **state) /* [1, 2, 7] */
{
    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        uint8_t byte = (uint8_t)first;
        struct result result = decode_bytes(0, bytes_of(&byte, 1));
        if (first == 0x10) {
            assert_int_equal(result.status, STATUS_NEED_MORE);
        } else {
            assert_true(result.status == STATUS_PROTOCOL_ERROR || result.status == STATUS_MALFORMED);
            assert_int_equal(result.fault.answer_level, 0); /* nothing may precede a CONNACK */
        }
        free(result.copy);
    }
}

static void headers_of_all_types_and_flags_are_judged_at_once(void **state) /* [9, 10, 11, 35, 59, 60] */
{
    (void)state;
    static const struct {
        uint8_t level, first;
        enum status status;
        uint8_t reason;
    } cases[] = {
        {5, 0x00, STATUS_MALFORMED, 0x81}, {4, 0x00, STATUS_MALFORMED, 0x81}, {4, 0xf0, STATUS_MALFORMED, 0x81},
        {5, 0x10, STATUS_PROTOCOL_ERROR, 0x82}, {4, 0x10, STATUS_PROTOCOL_ERROR, 0x82},
        {5, 0x20, STATUS_PROTOCOL_ERROR, 0x82}, {5, 0x90, STATUS_PROTOCOL_ERROR, 0x82},
        {5, 0xb0, STATUS_PROTOCOL_ERROR, 0x82}, {5, 0xd0, STATUS_PROTOCOL_ERROR, 0x82},
        {4, 0xd0, STATUS_PROTOCOL_ERROR, 0x82},
        {5, 0x36, STATUS_MALFORMED, 0x81}, {4, 0x37, STATUS_MALFORMED, 0x81}, {5, 0x38, STATUS_MALFORMED, 0x81},
        {3, 0x8a, STATUS_NEED_MORE, 0}, {3, 0x6a, STATUS_NEED_MORE, 0},
        {3, 0xaa, STATUS_NEED_MORE, 0}, /* 3.1: DUP is allowed */
        {3, 0x80, STATUS_MALFORMED, 0x81},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct result result = decode_bytes(cases[i].level, bytes_of(&cases[i].first, 1));
        if (result.status != cases[i].status || result.fault.reason != cases[i].reason)
            fail_msg("level %d, %02x", cases[i].level, cases[i].first);
        free(result.copy);
    }
    static const uint8_t right[] = {0x40, 0x50, 0x62, 0x70, 0x82, 0xa2, 0xc0, 0xe0, 0xf0};
    for (size_t i = 0; i < LENGTH(right); i++) {
        for (uint8_t flags = 0; flags < 16; flags++) {
            uint8_t first = (right[i] & 0xf0) | flags;
            struct result result = decode_bytes(5, bytes_of(&first, 1));
            assert_int_equal(result.status, first == right[i] ? STATUS_NEED_MORE : STATUS_MALFORMED);
            free(result.copy);
        }
    }
}

static struct result decode_raw(uint8_t level, const char *text, uint32_t packet_size_max)
{
    struct buffer in = raw(text);
    struct result result = decode_limited(level, buffer_bytes(&in), packet_size_max);
    free(result.copy);
    buffer_release(&in);
    return result;
}

static void a_remaining_length_ends_after_four_bytes(void **state) /* [4] */
{
    (void)state;
    assert_int_equal(decode_raw(5, "30 ff ff ff", MQTT_PACKET_SIZE_MAX).status, STATUS_NEED_MORE);
    assert_int_equal(decode_raw(5, "30 ff ff ff 80", MQTT_PACKET_SIZE_MAX).status, STATUS_MALFORMED);
    assert_int_equal(decode_raw(4, "30 80 80 80 80", MQTT_PACKET_SIZE_MAX).status, STATUS_MALFORMED);
    struct result largest = decode_raw(5, "30 ff ff ff 7f", MQTT_PACKET_SIZE_MAX);
    assert_int_equal(largest.status, STATUS_NEED_MORE);
    assert_int_equal(largest.size, MQTT_PACKET_SIZE_MAX);
}

static void a_remaining_length_is_in_shortest_form_in_5_0_only(void **state) /* [5] */
{
    (void)state;
    assert_int_equal(decode_raw(5, "c0 80 00", 1000).status, STATUS_MALFORMED);
    assert_int_equal(decode_raw(4, "c0 80 00", 1000).status, STATUS_OK);
    assert_int_equal(decode_raw(4, "40 82 80 00 0001", 1000).size, 6);
    assert_int_equal(decode_raw(0, "10 8e 00 'MQTT' 04 02 003c 'id'", 1000).status, STATUS_OK);
    assert_int_equal(decode_raw(0, "10 8f 00 'MQTT' 05 02 003c () 'id'", 1000).status, STATUS_MALFORMED);
}

static void a_packet_too_large_is_refused_from_its_header(void **state) /* [2, 3, 68] */
{
    (void)state;
    struct result result = decode_raw(5, "30 ff ff ff 7f", 1000);
    assert_int_equal(result.status, STATUS_TOO_LARGE);
    assert_int_equal(result.fault.reason, 0x95);
    assert_int_equal(result.fault.answer_level, 5);
    assert_int_equal(decode_raw(0, "10 ff ff ff 7f", 1000).status, STATUS_TOO_LARGE);
    assert_int_equal(decode_raw(4, "30 62", 100).status, STATUS_NEED_MORE); /* 98 + 2 = 100 */
    assert_int_equal(decode_raw(4, "30 63", 100).status, STATUS_TOO_LARGE);
    assert_int_equal(decode_raw(4, "c0 00", 2).status, STATUS_OK);
}

/* ---- strings ---- */

static void bad_strings_are_malformed_wherever_they_stand(void **state) /* [16, 17, 18, 22] */
{
    (void)state;
    /* XX stands for a string. */
    static const struct {
        uint8_t level;
        const char *text;
    } places[] = {
        {0, "10 'MQTT' 04 02 003c XX"}, {0, "10 'MQIsdp' 03 02 003c XX"}, {0, "10 'MQTT' 05 02 003c () XX"},
        {0, "10 'MQTT' 04 82 003c 'id' XX"}, {0, "10 'MQTT' 04 06 003c 'id' XX 'payload'"},
        {0, "10 'MQTT' 05 06 003c () 'id' () XX 'payload'"},
        {0, "10 'MQTT' 05 02 003c (26 XX 'v') 'id'"}, {0, "10 'MQTT' 05 02 003c (26 'k' XX) 'id'"},
        {0, "10 'MQTT' 05 02 003c (15 XX) 'id'"}, {0, "10 'MQTT' 05 06 003c () 'id' (03 XX) 'w' 'payload'"},
        {0, "10 'MQTT' 05 06 003c () 'id' (08 XX) 'w' 'payload'"},
        {4, "30 XX"}, {5, "30 XX ()"}, {5, "30 't' (03 XX)"}, {5, "30 't' (08 XX)"}, {5, "30 't' (26 XX 'v')"},
        {5, "30 't' (26 'k' XX)"},
        {5, "40 0001 00 (1f XX)"}, {5, "62 0001 00 (26 'k' XX)"}, {5, "e0 00 (1f XX)"}, {5, "f0 18 (15 XX)"},
        {4, "82 0001 XX 00"}, {5, "82 0001 () XX 00"}, {5, "82 0001 () 'a' 00 XX 00"},
        {5, "82 0001 (26 XX 'v') 'a' 00"},
        {4, "a2 0001 XX"}, {5, "a2 0001 () XX"}, {5, "a2 0001 () 'a' XX"},
    };
    static const char *const strings[] = {
        "0001 ff", "0001 80", "0002 c3 28", "0001 c3", "0002 c0 af", "0002 c0 80", "0003 e0 80 af",
        "0005 f8 88 80 80 80",
        "0004 f4 90 80 80", "0003 ed a0 80", "0006 ed a0 bd ed b8 80", "0001 00", "0003 61 00 62",
        "000a <eightabc> 00 78",
    };
    for (size_t i = 0; i < LENGTH(places); i++) {
        for (size_t k = 0; k < LENGTH(strings); k++) {
            char text[256];
            const char *mark = strstr(places[i].text, "XX");
            snprintf(text, sizeof text, "%.*s%s%s", (int)(mark - places[i].text), places[i].text, strings[k], mark + 2);
            bool version_5 = places[i].level == 5 || strstr(text, "'MQTT' 05") != NULL;
            const struct refusal expected = {places[i].level, text, STATUS_MALFORMED, 0x81, version_5 ? 5 : 0};
            then_refused(&expected, 1);
        }
    }
}

static void strings_that_are_only_unwise_are_taken_byte_for_byte(void **state) /* [19, 20] */
{
    (void)state;
    struct result result = decode_good(4, "30 0004 ef bb bf 61 <x>");
    then_text(result.packet.publish.topic, "\xef\xbb\xbf" "a");
    free(result.copy);
    result = decode_good(4, "30 0006 01 1f 7f ef bf bf");
    then_text(result.packet.publish.topic, "\x01\x1f\x7f\xef\xbf\xbf");
    free(result.copy);
}

static void binary_fields_take_any_bytes(void **state) /* [23] */
{
    (void)state;
    struct result result = decode_good(0, "10 'MQTT' 05 46 003c () 'id' (09 0003 00 ff c0) 'w' 0002 ff 00 0002 80 00");
    assert_int_equal(result.packet.connect.will.properties.correlation_data.size, 3);
    assert_memory_equal(result.packet.connect.will.payload.data, "\xff\x00", 2);
    assert_memory_equal(result.packet.connect.password.data, "\x80\x00", 2);
    free(result.copy);
}

/* ---- CONNECT ---- */

static void a_connect_of_5_0_is_read_whole(void **state)
{
    (void)state;
    struct result result = decode_good(0, good[4].text);
    const struct mqtt_connect *connect = &result.packet.connect;
    assert_int_equal(connect->level, 5);
    assert_true(connect->clean_start);
    assert_int_equal(connect->keep_alive_s, 60);
    then_text(connect->client_id, "id");
    assert_true(connect->has_user_name);
    then_text(connect->user_name, "user");
    assert_true(connect->has_password);
    then_text(connect->password, "pass");
    assert_int_equal(connect->properties.session_expiry_s, 3600);
    assert_int_equal(connect->properties.receive_maximum, 20);
    assert_int_equal(connect->properties.topic_alias_max, 10);
    assert_int_equal(connect->properties.packet_size_max, 65536);
    assert_int_equal(connect->properties.request_response_information, 1);
    assert_int_equal(connect->properties.request_problem_information, 0);
    then_text(connect->properties.authentication_method, "SCRAM");
    then_text(connect->properties.authentication_data, "x");
    assert_true(connect->has_will);
    assert_int_equal(connect->will.qos, 2);
    assert_true(connect->will.retain);
    then_text(connect->will.topic, "w");
    then_text(connect->will.payload, "payload");
    assert_int_equal(connect->will.properties.will_delay_s, 60);
    assert_int_equal(connect->will.properties.message_expiry_s, 10);
    then_text(connect->will.properties.response_topic, "reply");
    free(result.copy);
}

static void what_a_connect_leaves_out_has_its_default(void **state)
{
    (void)state;
    struct result result = decode_good(0, "10 'MQTT' 05 00 0000 () ''");
    const struct mqtt_properties *properties = &result.packet.connect.properties;
    assert_int_equal(properties->present, 0);
    assert_int_equal(properties->session_expiry_s, 0);
    assert_int_equal(properties->receive_maximum, 65535);
    assert_int_equal(properties->packet_size_max, MQTT_PACKET_SIZE_MAX);
    assert_int_equal(properties->topic_alias_max, 0);
    assert_int_equal(properties->request_problem_information, 1);
    assert_false(result.packet.connect.has_will || result.packet.connect.has_user_name
        || result.packet.connect.has_password);
    free(result.copy);

    result = decode_good(0, "10 'MQTT' 04 02 0000 'id'");
    assert_int_equal(result.packet.connect.properties.session_expiry_s, 0);
    assert_int_equal(result.packet.connect.properties.receive_maximum, 65535);
    free(result.copy);
    result = decode_good(0, "10 'MQTT' 04 00 0000 'id'");
    assert_int_equal(result.packet.connect.properties.session_expiry_s, UINT32_MAX);
    free(result.copy);
    result = decode_good(0, "10 'MQTT' 05 00 0000 (27 ffffffff) 'id'");
    assert_int_equal(result.packet.connect.properties.packet_size_max, MQTT_PACKET_SIZE_MAX);
    free(result.copy);
}

static void a_connect_that_is_not_ours_is_refused(void **state) /* [24, 25, 26, 27, 28, 29, 31, 32] */
{
    (void)state;
    static const struct refusal cases[] = {
        /* names and levels */
        {0, "10 'MQTX' 04 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 0},
        {0, "10 'mqtt' 04 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 0},
        {0, "10 '' 04 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 0},
        {0, "10 'MQIsdp' 04 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 0},
        {0, "10 'MQTT' 00 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 4},
        {0, "10 'MQTT' 02 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 4},
        {0, "10 'MQTT' 03 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 4},
        {0, "10 'MQTT' 06 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 4},
        {0, "10 'MQTT' 7f 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 4},
        {0, "10 'MQTT' 84 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 4},
        {0, "10 'MQTT' ff 02 003c 'id'", STATUS_UNSUPPORTED, 0x84, 4},
        {0, "10", MALFORMED_3},
        /* flags */
        {0, "10 'MQTT' 04 03 003c 'id'", MALFORMED_3},
        {0, "10 'MQTT' 05 03 003c () 'id'", MALFORMED_5},
        {0, "10 'MQTT' 04 0a 003c 'id'", MALFORMED_3},
        {0, "10 'MQTT' 05 12 003c () 'id'", MALFORMED_5},
        {0, "10 'MQTT' 05 22 003c () 'id'", MALFORMED_5},
        {0, "10 'MQTT' 05 1e 003c () 'id' () 'w' 'x'", MALFORMED_5},
        {0, "10 'MQTT' 04 1e 003c 'id' 'w' 'x'", MALFORMED_3},
        {0, "10 'MQTT' 04 42 003c 'id' 'pass'", MALFORMED_3},
        /* fields that the flags announce are missing, or not announced */
        {0, "10 'MQTT' 04 06 003c 'id'", MALFORMED_3},
        {0, "10 'MQTT' 04 06 003c 'id' 'w'", MALFORMED_3},
        {0, "10 'MQTT' 05 06 003c () 'id' 'w' 'x'", MALFORMED_5},
        {0, "10 'MQTT' 04 82 003c 'id'", MALFORMED_3},
        {0, "10 'MQTT' 04 c2 003c 'id' 'user'", MALFORMED_3},
        {0, "10 'MQTT' 04 02 003c 'id' 'user'", MALFORMED_3},
        {0, "10 'MQTT' 04 82 003c 'id' 'user' 'pass'", MALFORMED_3},
        {0, "10 'MQTT' 04 02 003c", MALFORMED_3},
        {0, "10 'MQTT' 05 02 003c 'id'", MALFORMED_5},
        /* the topic of the will */
        {0, "10 'MQTT' 05 06 003c () 'id' () '' 'x'", STATUS_PROTOCOL_ERROR, 0x90, 5},
        {0, "10 'MQTT' 05 06 003c () 'id' () 'w/#' 'x'", STATUS_MALFORMED, 0x90, 5},
        {0, "10 'MQTT' 04 06 003c 'id' 'w/+' 'x'", STATUS_MALFORMED, 0x90, 0},
        /* client ids */
        {0, "10 'MQTT' 04 00 003c ''", STATUS_INVALID, 0x85, 4},
        {0, "10 'MQIsdp' 03 02 003c ''", STATUS_INVALID, 0x85, 3},
    };
    then_refused(cases, LENGTH(cases));
}

static void an_empty_client_id_is_left_to_be_assigned(void **state) /* [32] */
{
    (void)state;
    static const char *const cases[] = {"10 'MQTT' 04 02 003c ''", "10 'MQTT' 05 02 003c () ''",
        "10 'MQTT' 05 00 003c () ''"};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct result result = decode_good(0, cases[i]);
        assert_int_equal(result.packet.connect.client_id.size, 0);
        free(result.copy);
    }
}

static void a_client_id_may_be_as_long_as_a_string_can(void **state) /* [34] */
{
    (void)state;
    struct buffer body = raw("'MQTT' 04 02 003c ffff");
    for (size_t i = 0; i < 65535; i++)
        buffer_put_u8(&body, 'x');
    struct buffer whole = packet_of(0x10, buffer_bytes(&body));
    struct result result = decode_bytes(0, buffer_bytes(&whole));
    assert_int_equal(result.status, STATUS_OK);
    assert_int_equal(result.packet.connect.client_id.size, 65535);
    free(result.copy);
    buffer_release(&whole);
    buffer_release(&body);
}

static void the_remaining_length_wins_over_the_flags_in_3_1(void **state) /* [30] */
{
    (void)state;
    struct result result = decode_good(0, "10 'MQIsdp' 03 c2 003c 'id'");
    assert_false(result.packet.connect.has_user_name || result.packet.connect.has_password);
    free(result.copy);
    result = decode_good(0, "10 'MQIsdp' 03 c2 003c 'id' 'user'");
    assert_true(result.packet.connect.has_user_name);
    assert_false(result.packet.connect.has_password);
    free(result.copy);
    result = decode(0, "10 'MQIsdp' 03 82 003c 'id' 00");
    assert_int_equal(result.status, STATUS_MALFORMED);
    free(result.copy);
}

static void a_password_needs_no_user_name_in_5_0(void **state) /* [29] */
{
    (void)state;
    struct result result = decode_good(0, "10 'MQTT' 05 42 003c () 'id' 'pass'");
    assert_false(result.packet.connect.has_user_name);
    then_text(result.packet.connect.password, "pass");
    free(result.copy);
}

static void ten_thousand_user_properties_are_read_in_order(void **state) /* [38] */
{
    (void)state;
    struct buffer block = {0}, body = raw("'MQTT' 05 02 003c");
    for (unsigned i = 0; i < 10000; i++) {
        char value[16];
        snprintf(value, sizeof value, "%u", i);
        put_user_property(&block, bytes_text("k"), bytes_text(value));
    }
    field_put_varint(&body, (uint32_t)block.size);
    buffer_put_bytes(&body, buffer_bytes(&block));
    field_put_block(&body, bytes_text("id"));
    struct buffer whole = packet_of(0x10, buffer_bytes(&body));
    struct result result = decode_bytes(0, buffer_bytes(&whole));
    assert_int_equal(result.status, STATUS_OK);

    struct bytes rest = result.packet.connect.properties.block;
    struct mqtt_user_property property;
    unsigned count = 0;
    for (; mqtt_next_user_property(&rest, &property); count++) {
        char value[16];
        snprintf(value, sizeof value, "%u", count);
        then_text(property.value, value);
    }
    assert_int_equal(count, 10000);
    free(result.copy);
    buffer_release(&whole);
    buffer_release(&body);
    buffer_release(&block);
}

/* ---- properties ---- */

static void properties_that_break_a_rule_are_refused(void **state) /* [5, 44, 45, 46, 47, 48, 49, 51, 54, 100, 108] */
{
    (void)state;
    static const struct refusal cases[] = {
        /* twice */
        {0, "10 'MQTT' 05 02 003c (21 0001 21 0001) 'id'", PROTOCOL_5},
        {0, "10 'MQTT' 05 02 003c (11 00000001 11 00000001) 'id'", PROTOCOL_5},
        {0, "10 'MQTT' 05 06 003c () 'id' (18 00000001 18 00000001) 'w' 'x'", PROTOCOL_5},
        {5, "30 't' (01 00 01 00)", PROTOCOL_5},
        {5, "30 't' (03 'a' 03 'a')", PROTOCOL_5},
        {5, "30 't' (23 0001 23 0001)", PROTOCOL_5},
        {5, "82 0001 (0b 01 0b 02) 'a' 00", PROTOCOL_5},
        {5, "40 0001 00 (1f 'a' 1f 'a')", PROTOCOL_5},
        /* values */
        {0, "10 'MQTT' 05 02 003c (21 0000) 'id'", PROTOCOL_5},
        {0, "10 'MQTT' 05 02 003c (27 00000000) 'id'", PROTOCOL_5},
        {0, "10 'MQTT' 05 02 003c (17 02) 'id'", PROTOCOL_5},
        {0, "10 'MQTT' 05 02 003c (19 02) 'id'", PROTOCOL_5},
        {0, "10 'MQTT' 05 02 003c (16 'data') 'id'", PROTOCOL_5},
        {5, "82 0001 (0b 00) 'a' 00", PROTOCOL_5},
        {5, "82 0001 (0b ff ff ff ff 7f) 'a' 00", MALFORMED_5},
        {5, "82 0001 (0b 81 00) 'a' 00", MALFORMED_5},
        {5, "30 't' (01 02)", PROTOCOL_5},
        {5, "30 't' (08 '')", PROTOCOL_5},
        /* unknown, or in the wrong place */
        {5, "30 't' (00)", MALFORMED_5},
        {5, "30 't' (7f 00)", MALFORMED_5},
        {5, "30 't' (a6 00 'k' 'v')", MALFORMED_5},
        {5, "30 't' (ff ff ff 7f)", MALFORMED_5},
        {5, "30 't' (11 00000001)", MALFORMED_5},
        {0, "10 'MQTT' 05 02 003c (01 00) 'id'", MALFORMED_5},
        {0, "10 'MQTT' 05 02 003c (18 00000001) 'id'", MALFORMED_5},
        {0, "10 'MQTT' 05 06 003c () 'id' (21 0001) 'w' 'x'", MALFORMED_5},
        {5, "e0 00 (21 0001)", MALFORMED_5},
        {5, "e0 00 (1c 'other:1883')", PROTOCOL_5}, /* only a server may */
        {5, "a2 0001 (0b 01) 'a'", MALFORMED_5},
        /* lengths */
        {5, "30 't'", MALFORMED_5},
        {5, "30 't' 05 01 00", MALFORMED_5},
        {5, "30 't' 01 01 00", MALFORMED_5},
        {5, "30 't' 82 00 01 00", MALFORMED_5},
        {5, "30 't' ff ff ff ff 7f", MALFORMED_5},
        {5, "30 't' 80", MALFORMED_5},
        {5, "40 0001 00 01", MALFORMED_5},
        {5, "e0 00 05", MALFORMED_5},
        {5, "82 0001 'a' 00", MALFORMED_5},
        {5, "30 't' (03 0005 61)", MALFORMED_5},
        {5, "30 't' (26 'k')", MALFORMED_5},
        {5, "30 't' (02 0000)", MALFORMED_5},
        /* AUTH */
        {5, "f0", PROTOCOL_5},
        {5, "f0 18", PROTOCOL_5},
        {5, "f0 18 ()", PROTOCOL_5},
        {5, "f0 18 (16 'x')", PROTOCOL_5},
        {5, "f0 00 (15 'm')", PROTOCOL_5},
    };
    then_refused(cases, LENGTH(cases));
}

static void a_fault_of_a_property_says_which(void **state)
{
    (void)state;
    static const struct {
        const char *text, *property;
    } cases[] = {
        {"30 't' (03 'x' 03 'x')", "content-type"}, {"30 't' (02 0000)", "message-expiry-interval"},
        {"30 't' (0b 01)", "subscription-identifier"}, {"30 't' (7f 00)", NULL}, {"f0 18 (16 'x')", NULL},
        {"30 't' (03 'x') 01 <after one that is good>", NULL}, {"36 't' 0001 (03 'x')", NULL},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct result result = decode(5, cases[i].text);
        if (cases[i].property == NULL)
            assert_null(result.fault.property);
        else
            assert_string_equal(result.fault.property, cases[i].property);
        free(result.copy);
    }
}

static void every_property_is_allowed_only_where_the_standard_says(void **state) /* [47] */
{
    (void)state;
    static const struct {
        const char *value;
        const char *places; /* Connect, Will, Publish, Acknowledgements, Subscribe, Unsubscribe, Disconnect, X AUTH */
    } properties[] = {
        {"01 01", "WP"}, {"02 00000001", "WP"}, {"03 'x'", "WP"}, {"08 'x'", "WP"}, {"09 'x'", "WP"}, {"0b 01", "S"},
        {"11 00000001", "CD"}, {"12 'x'", ""}, {"13 0001", ""}, {"17 01", "C"}, {"18 00000001", "W"}, {"19 01", "C"},
        {"1a 'x'", ""}, {"1c 'x'", ""}, {"1f 'x'", "ADX"}, {"21 0001", "C"}, {"22 0001", "C"}, {"23 0001", "P"},
        {"24 01", ""},
        {"25 01", ""}, {"26 'k' 'v'", "CWPASUDX"}, {"27 00000001", "C"}, {"28 01", ""}, {"29 01", ""}, {"2a 01", ""},
        {"15 'x'", "C"}, /* AUTH: always there, so a second one is refused */
    };
    static const struct {
        char place;
        uint8_t level;
        const char *text;
    } places[] = {
        {'C', 0, "10 'MQTT' 05 02 003c (%s) 'id'"}, {'W', 0, "10 'MQTT' 05 06 003c () 'id' (%s) 'w' 'x'"},
        {'P', 5, "30 't' (%s)"},
        {'A', 5, "40 0001 00 (%s)"}, {'A', 5, "50 0001 00 (%s)"}, {'A', 5, "62 0001 00 (%s)"},
        {'A', 5, "70 0001 00 (%s)"},
        {'S', 5, "82 0001 (%s) 'a' 00"}, {'U', 5, "a2 0001 (%s) 'a'"}, {'D', 5, "e0 00 (%s)"},
        {'X', 5, "f0 18 (15 'm' %s)"},
    };
    for (size_t i = 0; i < LENGTH(properties); i++) {
        for (size_t k = 0; k < LENGTH(places); k++) {
            char text[128];
            snprintf(text, sizeof text, places[k].text, properties[i].value);
            struct result result = decode(places[k].level, text);
            bool allowed = strchr(properties[i].places, places[k].place) != NULL;
            if ((result.status == STATUS_OK) != allowed)
                fail_msg("%s: %s", text, result.fault.text);
            free(result.copy);
        }
    }
}

static void every_reason_code_is_allowed_only_where_the_standard_says(void **state) /* [108] */
{
    (void)state;
    static const struct {
        const char *text, *codes;
    } packets[] = {
        {"40 0001 %02x", "00 10 80 83 87 90 91 97 99"}, {"50 0001 %02x", "00 10 80 83 87 90 91 97 99"},
        {"62 0001 %02x", "00 92"}, {"70 0001 %02x", "00 92"},
        {"e0 %02x", "00 04 80 81 82 83 90 93 94 95 96 97 98 99"}, {"f0 %02x (15 'm')", "18 19"},
    };
    for (size_t i = 0; i < LENGTH(packets); i++) {
        for (unsigned code = 0; code < 256; code++) {
            char text[64], digits[4];
            snprintf(text, sizeof text, packets[i].text, code);
            snprintf(digits, sizeof digits, "%02x", code);
            bool allowed = strstr(packets[i].codes, digits) != NULL;
            struct result result = decode(5, text);
            assert_int_equal(result.status, allowed ? STATUS_OK : STATUS_PROTOCOL_ERROR);
            free(result.copy);
        }
    }
}

static void what_travels_with_a_message_is_kept_in_order(void **state)
{
    (void)state;
    static const struct {
        const char *properties, *passed_on;
        bool borrowed;
    } cases[] = {
        {"", "", true},
        {"26 'b' '1' 01 01 26 'a' '2'", "26 'b' '1' 01 01 26 'a' '2'", true},
        {"02 00000001", "", true},
        {"02 00000001 23 0001", "", true},
        {"02 00000001 03 'x' 26 'k' 'v' 23 0001", "03 'x' 26 'k' 'v'", true},
        {"03 'x' 02 00000001 26 'k' 'v'", "03 'x' 26 'k' 'v'", false},
        {"26 'a' '1' 23 0001 26 'a' '1' 02 00000001 09 'x'", "26 'a' '1' 26 'a' '1' 09 'x'", false},
    };
    struct buffer scratch = {0};
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char text[128];
        snprintf(text, sizeof text, "30 't' (%s) <x>", cases[i].properties);
        struct result result = decode_good(5, text);
        struct bytes found = mqtt_properties_passed_on(&result.packet.publish.properties, &scratch);
        struct buffer expected = raw(cases[i].passed_on);
        assert_true(bytes_equal(found, buffer_bytes(&expected)));
        if (found.size > 0)
            assert_int_equal(found.data != scratch.data, cases[i].borrowed);
        buffer_release(&expected);
        free(result.copy);
    }
    buffer_release(&scratch);
}

static void a_message_expiry_is_never_mistaken_for_none(void **state) /* [55] */
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t seconds;
    } cases[] = {
        {"30 't' ()", UINT32_MAX}, {"30 't' (02 00000000)", 0}, {"30 't' (02 00000001)", 1},
        {"30 't' (02 fffffffe)", UINT32_MAX - 1}, {"30 't' (02 ffffffff)", UINT32_MAX - 1},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct result result = decode_good(5, cases[i].text);
        assert_int_equal(result.packet.publish.properties.message_expiry_s, cases[i].seconds);
        free(result.copy);
    }
}

/* ---- PUBLISH ---- */

static void a_publish_is_read_whole(void **state)
{
    (void)state;
    struct result result = decode_good(5, good[8].text);
    const struct mqtt_publish *publish = &result.packet.publish;
    then_text(publish->topic, "a/b");
    then_text(publish->payload, "payload");
    assert_int_equal(publish->packet_id, 0xffff);
    assert_int_equal(publish->qos, 2);
    assert_true(publish->retain);
    assert_false(publish->duplicate);
    assert_int_equal(publish->properties.topic_alias, 1);
    assert_int_equal(publish->properties.message_expiry_s, 10);
    assert_int_equal(publish->properties.payload_format, 1);
    then_text(publish->properties.content_type, "type");
    free(result.copy);

    result = decode_good(4, "3b 'a/b' 0001 <payload>");
    assert_true(result.packet.publish.duplicate);
    assert_int_equal(result.packet.publish.qos, 1);
    assert_int_equal(result.packet.publish.properties.message_expiry_s, UINT32_MAX);
    free(result.copy);

    result = decode_good(4, "30 't'");
    assert_int_equal(result.packet.publish.payload.size, 0);
    free(result.copy);
}

static void a_publish_that_breaks_a_rule_is_refused(void **state) /* [57, 58, 61, 62, 65, 66] */
{
    (void)state;
    static const struct refusal cases[] = {
        {5, "30 'a/#' ()", STATUS_MALFORMED, 0x90, 5},
        {5, "33 'a/+' 0001 ()", STATUS_MALFORMED, 0x90, 5},
        {4, "32 'a+b' 0001", STATUS_MALFORMED, 0x90, 0},
        {3, "30 '#'", STATUS_MALFORMED, 0x90, 0},
        {5, "30 '' ()", PROTOCOL_5},
        {5, "30 '' (01 00) <x>", PROTOCOL_5},
        {4, "30 '' <x>", PROTOCOL_3},
        {5, "32 't' 0000 ()", PROTOCOL_5},
        {4, "34 't' 0000", PROTOCOL_3},
        {4, "32 't'", MALFORMED_3},
        {5, "32 't' 00", MALFORMED_5},
        {5, "30 't' (23 0000)", STATUS_PROTOCOL_ERROR, 0x94, 5},
        {5, "30 't' (23 000b)", STATUS_PROTOCOL_ERROR, 0x94, 5}, /* ALIAS_MAX + 1 */
        {5, "30 '' (23 0000)", STATUS_PROTOCOL_ERROR, 0x94, 5},
        {5, "30 't' (08 'a/#')", PROTOCOL_5},
        {5, "30 't' (08 '+')", PROTOCOL_5},
        {5, "30 't' (0b 01)", PROTOCOL_5},
    };
    then_refused(cases, LENGTH(cases));
}

static void a_topic_deeper_than_the_limit_is_refused(void **state) /* [74] */
{
    (void)state;
    struct buffer body = raw("ffff");
    for (size_t i = 0; i < 65535; i++)
        buffer_put_u8(&body, '/');
    struct buffer whole = packet_of(0x30, buffer_bytes(&body));
    struct result result = decode_bytes(4, buffer_bytes(&whole));
    assert_int_equal(result.status, STATUS_TOO_LARGE);
    assert_int_equal(result.fault.reason, 0x90);
    free(result.copy);
    buffer_release(&whole);
    buffer_release(&body);
}

/* ---- acknowledgements ---- */

static void acknowledgements_are_read_in_all_their_lengths(void **state)
{
    (void)state;
    struct result result = decode_good(5, "40 1234");
    assert_int_equal(result.packet.ack.packet_id, 0x1234);
    assert_int_equal(result.packet.ack.reason, 0);
    free(result.copy);
    result = decode_good(5, "50 1234 97");
    assert_int_equal(result.packet.ack.reason, 0x97);
    free(result.copy);
    result = decode_good(5, "62 1234 92 (1f 'why')");
    assert_int_equal(result.packet.ack.reason, 0x92);
    then_text(result.packet.ack.properties.reason_string, "why");
    free(result.copy);

    static const struct refusal cases[] = {
        {4, "40 0000", PROTOCOL_3}, {5, "40 0000", PROTOCOL_5}, {4, "40 12", MALFORMED_3}, {5, "62", MALFORMED_5},
        {4, "40 1234 00", MALFORMED_3}, {5, "70 1234 00 () 00", MALFORMED_5},
    };
    then_refused(cases, LENGTH(cases));
}

static void a_disconnect_says_why_and_how_long_the_session_lives(void **state)
{
    (void)state;
    struct result result = decode_good(5, "e0");
    assert_int_equal(result.packet.disconnect.reason, 0);
    free(result.copy);
    result = decode_good(5, "e0 04 (11 0000000a)");
    assert_int_equal(result.packet.disconnect.reason, 4);
    assert_true((result.packet.disconnect.properties.present & MQTT_HAS(PROPERTY_SESSION_EXPIRY)) != 0);
    assert_int_equal(result.packet.disconnect.properties.session_expiry_s, 10);
    free(result.copy);
}

/* ---- SUBSCRIBE, UNSUBSCRIBE ---- */

static void subscriptions_come_in_order_with_their_options(void **state) /* [83, 85] */
{
    (void)state;
    struct result result = decode_good(5, "82 0102 (0b ff ff ff 7f) 'a/+' 2d 'b#' 01 '$share/g/c/#' 02 '$share//x' 00");
    const struct mqtt_subscribe *subscribe = &result.packet.subscribe;
    assert_int_equal(subscribe->packet_id, 0x0102);
    assert_int_equal(subscribe->count, 4);
    assert_int_equal(subscribe->properties.subscription_id, 268435455);
    struct bytes rest = subscribe->filters;
    struct mqtt_subscription one;

    assert_true(mqtt_next_subscription(&rest, &one));
    then_text(one.text, "a/+");
    then_text(one.parts.filter, "a/+");
    assert_int_equal(one.kind, TOPIC_FILTER_PLAIN);
    assert_int_equal(one.options, 0x2d);
    assert_true(mqtt_next_subscription(&rest, &one));
    assert_int_equal(one.kind, TOPIC_FILTER_INVALID);
    assert_true(mqtt_next_subscription(&rest, &one));
    assert_int_equal(one.kind, TOPIC_FILTER_SHARED);
    then_text(one.parts.group, "g");
    then_text(one.parts.filter, "c/#");
    assert_true(mqtt_next_subscription(&rest, &one));
    assert_int_equal(one.kind, TOPIC_FILTER_INVALID);
    assert_false(mqtt_next_subscription(&rest, &one));
    free(result.copy);
}

static void unsubscribed_filters_come_in_order(void **state)
{
    (void)state;
    struct result result = decode_good(4, "a2 0001 'a/+' 'b'");
    assert_int_equal(result.packet.unsubscribe.count, 2);
    struct bytes rest = result.packet.unsubscribe.filters, text;
    assert_true(mqtt_next_filter(&rest, &text));
    then_text(text, "a/+");
    assert_true(mqtt_next_filter(&rest, &text));
    then_text(text, "b");
    assert_false(mqtt_next_filter(&rest, &text));
    free(result.copy);
}

static void a_subscribe_that_breaks_a_rule_is_refused(void **state) /* [82, 84, 86] */
{
    (void)state;
    static const struct refusal cases[] = {
        {4, "82 0001", PROTOCOL_3}, {5, "82 0001 ()", PROTOCOL_5}, {4, "a2 0001", PROTOCOL_3},
        {5, "a2 0001 ()", PROTOCOL_5},
        {4, "82 0000 'a' 00", PROTOCOL_3}, {5, "82 0000 () 'a' 00", PROTOCOL_5}, {5, "a2 0000 () 'a'", PROTOCOL_5},
        {4, "82 0001 'a'", MALFORMED_3}, {5, "82 0001 () 'a'", MALFORMED_5}, {4, "82 0001 'a' 00 'b'", MALFORMED_3},
        {4, "82 0001 'a' 03", MALFORMED_3}, {4, "82 0001 'a' 04", MALFORMED_3}, {4, "82 0001 'a' 80", MALFORMED_3},
        {5, "82 0001 () 'a' 03", PROTOCOL_5}, {5, "82 0001 () 'a' 30", PROTOCOL_5},
        {5, "82 0001 () 'a' 40", MALFORMED_5}, {5, "82 0001 () 'a' 80", MALFORMED_5},
        {5, "82 0001 () '$share/g/a' 04", PROTOCOL_5}, {5, "82 0001 () 'b' 00 '$share/g/a' 05", PROTOCOL_5},
        {5, "82 0001 () '' 00", STATUS_PROTOCOL_ERROR, 0x8f, 5}, {4, "82 0001 '' 00", STATUS_PROTOCOL_ERROR, 0x8f, 0},
        {5, "a2 0001 () ''", STATUS_PROTOCOL_ERROR, 0x8f, 5}, {4, "a2 0001 0005 61", MALFORMED_3},
    };
    then_refused(cases, LENGTH(cases));
}

static void every_combination_of_valid_options_is_accepted(void **state)
{
    (void)state;
    for (unsigned options = 0; options < 256; options++) {
        char text[64];
        snprintf(text, sizeof text, "82 0001 () 'a' %02x", options);
        struct result result = decode(5, text);
        bool valid = (options & 0xc0) == 0 && (options & 3) != 3 && ((options >> 4) & 3) != 3;
        assert_int_equal(result.status == STATUS_OK, valid);
        free(result.copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_packet_is_decoded),
        cmocka_unit_test(every_prefix_of_every_packet_needs_more),
        cmocka_unit_test(a_body_that_ends_early_is_never_read_past_its_end),
        cmocka_unit_test(bytes_behind_the_last_field_are_malformed),
        cmocka_unit_test(a_stream_gives_the_same_packets_however_it_is_split),
        cmocka_unit_test(the_first_packet_is_judged_by_its_first_byte),
        cmocka_unit_test(headers_of_all_types_and_flags_are_judged_at_once),
        cmocka_unit_test(a_remaining_length_ends_after_four_bytes),
        cmocka_unit_test(a_remaining_length_is_in_shortest_form_in_5_0_only),
        cmocka_unit_test(a_packet_too_large_is_refused_from_its_header),
        cmocka_unit_test(bad_strings_are_malformed_wherever_they_stand),
        cmocka_unit_test(strings_that_are_only_unwise_are_taken_byte_for_byte),
        cmocka_unit_test(binary_fields_take_any_bytes),
        cmocka_unit_test(a_connect_of_5_0_is_read_whole),
        cmocka_unit_test(what_a_connect_leaves_out_has_its_default),
        cmocka_unit_test(a_connect_that_is_not_ours_is_refused),
        cmocka_unit_test(an_empty_client_id_is_left_to_be_assigned),
        cmocka_unit_test(a_client_id_may_be_as_long_as_a_string_can),
        cmocka_unit_test(the_remaining_length_wins_over_the_flags_in_3_1),
        cmocka_unit_test(a_password_needs_no_user_name_in_5_0),
        cmocka_unit_test(ten_thousand_user_properties_are_read_in_order),
        cmocka_unit_test(properties_that_break_a_rule_are_refused),
        cmocka_unit_test(a_fault_of_a_property_says_which),
        cmocka_unit_test(every_property_is_allowed_only_where_the_standard_says),
        cmocka_unit_test(every_reason_code_is_allowed_only_where_the_standard_says),
        cmocka_unit_test(what_travels_with_a_message_is_kept_in_order),
        cmocka_unit_test(a_message_expiry_is_never_mistaken_for_none),
        cmocka_unit_test(a_publish_is_read_whole),
        cmocka_unit_test(a_publish_that_breaks_a_rule_is_refused),
        cmocka_unit_test(a_topic_deeper_than_the_limit_is_refused),
        cmocka_unit_test(acknowledgements_are_read_in_all_their_lengths),
        cmocka_unit_test(a_disconnect_says_why_and_how_long_the_session_lives),
        cmocka_unit_test(subscriptions_come_in_order_with_their_options),
        cmocka_unit_test(unsubscribed_filters_come_in_order),
        cmocka_unit_test(a_subscribe_that_breaks_a_rule_is_refused),
        cmocka_unit_test(every_combination_of_valid_options_is_accepted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
