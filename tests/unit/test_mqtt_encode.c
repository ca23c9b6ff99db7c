/* Encoding what a server sends: the bytes, the exact sizes, and what is left out for a peer with limits. */
#include "node/mqtt/encode.h"
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
#define FIRST_BYTE_DUP_AND_RETAIN 0x09

static const struct mqtt_peer peer_3_1 = {3, true, MQTT_PACKET_SIZE_MAX};
static const struct mqtt_peer peer_3 = {4, true, MQTT_PACKET_SIZE_MAX};
static const struct mqtt_peer peer_5 = {5, true, MQTT_PACKET_SIZE_MAX};

static struct mqtt_peer peer_limited(uint32_t packet_size_max)
{
    return (struct mqtt_peer){5, true, packet_size_max};
}

/* `out` holds exactly this packet; empties it. */
static void then_packet(struct buffer *out, const char *text)
{
    struct buffer expected = packet(text);
    if (!bytes_equal(buffer_bytes(out), buffer_bytes(&expected))) {
        for (size_t i = 0; i < out->size; i++)
            print_message("%02x ", out->data[i]);
        fail_msg("is not %s", text);
    }
    buffer_release(&expected);
    buffer_release(out);
}

static struct mqtt_properties with_reason_string(const char *text)
{
    struct mqtt_properties properties = MQTT_PROPERTIES_NONE;
    properties.reason_string = bytes_text(text);
    properties.present = MQTT_HAS(PROPERTY_REASON_STRING);
    return properties;
}

/* ---- CONNACK ---- */

static void a_connack_carries_all_properties_of_the_server(void **state)
{
    (void)state;
    struct mqtt_connack connack = {true, REASON_SUCCESS, MQTT_PROPERTIES_NONE};
    struct mqtt_properties *p = &connack.properties;
    p->session_expiry_s = 3600;
    p->assigned_client_id = bytes_text("id");
    p->server_keep_alive_s = 60;
    p->receive_maximum = 20;
    p->topic_alias_max = 10;
    p->maximum_qos = 1;
    p->packet_size_max = 65536;
    p->shared_available = 0;
    p->server_reference = bytes_text("other");
    p->present = MQTT_HAS(PROPERTY_SESSION_EXPIRY) | MQTT_HAS(PROPERTY_ASSIGNED_CLIENT_ID)
                 | MQTT_HAS(PROPERTY_SERVER_KEEP_ALIVE) | MQTT_HAS(PROPERTY_RECEIVE_MAXIMUM)
                 | MQTT_HAS(PROPERTY_TOPIC_ALIAS_MAXIMUM) | MQTT_HAS(PROPERTY_MAXIMUM_QOS)
                 | MQTT_HAS(PROPERTY_PACKET_SIZE_MAX) | MQTT_HAS(PROPERTY_SHARED_AVAILABLE)
                 | MQTT_HAS(PROPERTY_SERVER_REFERENCE);
    struct buffer out = {0};
    assert_true(mqtt_encode_connack(&peer_5, &connack, &out));
    then_packet(&out, "20 01 00 (11 00000e10 12 'id' 13 003c 1c 'other' 21 0014 22 000a 24 01 27 00010000 2a 00)");

    assert_true(mqtt_encode_connack(&peer_3, &connack, &out)); /* 3.1.1 has no place for them */
    then_packet(&out, "20 01 00");
    assert_true(mqtt_encode_connack(&peer_3_1, &connack, &out)); /* 3.1 not even for Session Present */
    then_packet(&out, "20 00 00");
}

static void a_failing_connack_never_claims_a_session(void **state)
{
    (void)state;
    struct mqtt_connack connack = {true, REASON_NOT_AUTHORIZED, MQTT_PROPERTIES_NONE};
    struct buffer out = {0};
    assert_true(mqtt_encode_connack(&peer_5, &connack, &out));
    then_packet(&out, "20 00 87 ()");
    assert_true(mqtt_encode_connack(&peer_3, &connack, &out));
    then_packet(&out, "20 00 05");
}

static void reasons_become_return_codes_of_3_1_1_or_silence(void **state)
{
    (void)state;
    static const struct {
        uint8_t reason, code;
    } cases[] = {{0x00, 0}, {0x84, 1}, {0x85, 2}, {0x88, 3}, {0x89, 3}, {0x86, 4}, {0x87, 5}, {0x8a, 5}, {0x8c, 5},
                 {0x97, 3}, {0x9c, 3}, {0x9d, 3}, {0x9f, 3}};
    for (size_t i = 0; i < LENGTH(cases); i++)
        assert_int_equal(mqtt_reason_connack_3(cases[i].reason), cases[i].code);

    struct buffer out = {0};
    for (unsigned reason = 0; reason < 256; reason++) {
        if (!mqtt_reason_from_server(MQTT_CONNACK, (uint8_t)reason))
            continue;
        struct mqtt_connack connack = {false, (uint8_t)reason, MQTT_PROPERTIES_NONE};
        uint8_t code = mqtt_reason_connack_3((uint8_t)reason);
        assert_int_equal(mqtt_encode_connack(&peer_3, &connack, &out), code != MQTT_CONNACK_SILENT);
        assert_int_equal(out.size, code != MQTT_CONNACK_SILENT ? 4 : 0);
        if (out.size > 0)
            assert_in_range(out.data[3], 0, 5);
        buffer_clear(&out);
    }
    buffer_release(&out);
}

static void what_a_server_may_say_in_each_packet_is_as_the_standard_says(void **state)
{
    (void)state;
    static const struct {
        enum mqtt_type type;
        const char *codes;
    } packets[] = {
        {MQTT_CONNACK, "00 80 81 82 83 84 85 86 87 88 89 8a 8c 90 95 97 99 9a 9b 9c 9d 9f"},
        {MQTT_PUBACK, "00 10 80 83 87 90 91 97 99"},
        {MQTT_PUBREC, "00 10 80 83 87 90 91 97 99"},
        {MQTT_PUBREL, "00 92"},
        {MQTT_PUBCOMP, "00 92"},
        {MQTT_SUBACK, "00 01 02 80 83 87 8f 91 97 9e a1 a2"},
        {MQTT_UNSUBACK, "00 11 80 83 87 8f 91"},
        {MQTT_DISCONNECT, "00 80 81 82 83 87 89 8b 8c 8d 8e 8f 90 93 94 95 96 97 98 99 9a 9b 9c 9d 9e 9f a0 a1 a2"},
        {MQTT_AUTH, "00 18"},
    };
    for (size_t i = 0; i < LENGTH(packets); i++) {
        for (unsigned code = 0; code < 256; code++) {
            char digits[4];
            snprintf(digits, sizeof digits, "%02x", code);
            bool allowed = strstr(packets[i].codes, digits) != NULL;
            if (mqtt_reason_from_server(packets[i].type, (uint8_t)code) != allowed)
                fail_msg("type %d, code %02x", packets[i].type, code);
        }
    }
}

/* ---- acknowledgements ---- */

static void acknowledgements_are_as_short_as_they_can_be(void **state)
{
    (void)state;
    struct buffer out = {0};
    mqtt_encode_ack(&peer_5, MQTT_PUBACK, 0x1234, REASON_SUCCESS, &out);
    then_packet(&out, "40 1234");
    mqtt_encode_ack(&peer_5, MQTT_PUBREC, 0x1234, REASON_QUOTA_EXCEEDED, &out);
    then_packet(&out, "50 1234 97");
    mqtt_encode_ack(&peer_5, MQTT_PUBREL, 0x1234, REASON_PACKET_ID_NOT_FOUND, &out);
    then_packet(&out, "62 1234 92");
    mqtt_encode_ack(&peer_5, MQTT_PUBCOMP, 0xffff, REASON_SUCCESS, &out);
    then_packet(&out, "70 ffff");
    mqtt_encode_ack(&peer_3, MQTT_PUBREL, 1, REASON_SUCCESS, &out);
    then_packet(&out, "62 0001");
    mqtt_encode_ack(&peer_3, MQTT_PUBCOMP, 1, REASON_PACKET_ID_NOT_FOUND, &out);
    then_packet(&out, "70 0001");

    mqtt_encode_ack(&peer_3, MQTT_PUBACK, 7, REASON_NOT_AUTHORIZED, &out);
    then_packet(&out, "40 0007");
    mqtt_encode_ack(&peer_5, MQTT_PUBACK, 7, REASON_NOT_AUTHORIZED, &out);
    then_packet(&out, "40 0007 87");
}

static void packets_are_appended_behind_what_is_there(void **state)
{
    (void)state;
    struct buffer out = {0};
    mqtt_encode_ack(&peer_3, MQTT_PUBACK, 1, REASON_SUCCESS, &out);
    mqtt_encode_pingresp(&peer_3, &out);
    struct buffer expected = raw("40 02 0001 d0 00");
    assert_true(bytes_equal(buffer_bytes(&out), buffer_bytes(&expected)));
    buffer_release(&expected);
    buffer_release(&out);
}

/* ---- SUBACK, UNSUBACK, PINGRESP, DISCONNECT, AUTH ---- */

static void subacks_hold_one_code_per_filter_in_order(void **state)
{
    (void)state;
    static const uint8_t codes[] = {0, 1, 2, 0x8f, 0x9e, 0x97};
    struct mqtt_suback suback = {0x0102, codes, LENGTH(codes), MQTT_PROPERTIES_NONE};
    struct buffer out = {0};
    assert_true(mqtt_encode_suback(&peer_5, MQTT_SUBACK, &suback, &out));
    then_packet(&out, "90 0102 () 00 01 02 8f 9e 97");
    assert_true(mqtt_encode_suback(&peer_3, MQTT_SUBACK, &suback, &out));
    then_packet(&out, "90 0102 00 01 02 80 80 80");

    static const uint8_t removed[] = {0, 0x11, 0x8f};
    struct mqtt_suback unsuback = {0x0102, removed, LENGTH(removed), with_reason_string("x")};
    assert_true(mqtt_encode_suback(&peer_5, MQTT_UNSUBACK, &unsuback, &out));
    then_packet(&out, "b0 0102 (1f 'x') 00 11 8f");
    assert_true(mqtt_encode_suback(&peer_3, MQTT_UNSUBACK, &unsuback, &out));
    then_packet(&out, "b0 0102");
}

static void the_small_packets_have_their_bytes(void **state)
{
    (void)state;
    struct buffer out = {0};
    assert_true(mqtt_encode_pingresp(&peer_5, &out));
    then_packet(&out, "d0");

    struct mqtt_disconnect disconnect = {REASON_SESSION_TAKEN_OVER, MQTT_PROPERTIES_NONE};
    assert_true(mqtt_encode_disconnect(&peer_5, &disconnect, &out));
    then_packet(&out, "e0 8e");
    assert_false(mqtt_encode_disconnect(&peer_3, &disconnect, &out));
    assert_int_equal(out.size, 0);
    disconnect.reason = REASON_USE_ANOTHER_SERVER;
    disconnect.properties.server_reference = bytes_text("b:1883");
    disconnect.properties.present = MQTT_HAS(PROPERTY_SERVER_REFERENCE);
    assert_true(mqtt_encode_disconnect(&peer_5, &disconnect, &out));
    then_packet(&out, "e0 9c (1c 'b:1883')");

    struct mqtt_auth auth = {REASON_CONTINUE_AUTHENTICATION, MQTT_PROPERTIES_NONE};
    auth.properties.authentication_method = bytes_text("SCRAM");
    auth.properties.authentication_data = bytes_text("data");
    auth.properties.present = MQTT_HAS(PROPERTY_AUTHENTICATION_METHOD) | MQTT_HAS(PROPERTY_AUTHENTICATION_DATA);
    assert_true(mqtt_encode_auth(&peer_5, &auth, &out));
    then_packet(&out, "f0 18 (15 'SCRAM' 16 'data')");
}

/* ---- what a peer has limited ---- */

static void explanations_are_left_out_where_they_do_not_fit(void **state)
{
    (void)state;
    struct buffer out = {0}, user = raw("26 'k' 'v'");
    struct mqtt_disconnect disconnect = {REASON_NOT_AUTHORIZED, with_reason_string("why")};
    disconnect.properties.block = buffer_bytes(&user);

    /* 2 header, 1 fixed, 1 length, 6 reason string, 7 user property */
    static const struct {
        uint32_t size_max;
        const char *text;
    } cases[] = {
        {17, "e0 87 (1f 'why' 26 'k' 'v')"}, {16, "e0 87 (1f 'why')"}, {10, "e0 87 (1f 'why')"},
        {9, "e0 87 ()"}, {4, "e0 87 ()"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct mqtt_peer peer = peer_limited(cases[i].size_max);
        assert_true(mqtt_encode_disconnect(&peer, &disconnect, &out));
        then_packet(&out, cases[i].text);
    }
    struct mqtt_peer tiny = peer_limited(4), none = peer_limited(3);
    assert_false(mqtt_encode_disconnect(&none, &disconnect, &out));
    assert_false(mqtt_encode_ack(&tiny, MQTT_PUBACK, 1, REASON_NOT_AUTHORIZED, &out));
    assert_int_equal(out.size, 0);
    assert_true(mqtt_encode_ack(&tiny, MQTT_PUBACK, 1, REASON_SUCCESS, &out));
    buffer_release(&out);
    buffer_release(&user);
}

static void packets_that_cannot_shrink_are_not_sent(void **state)
{
    (void)state;
    static const uint8_t codes[100] = {0};
    struct mqtt_suback suback = {1, codes, 100, with_reason_string("why")};
    struct buffer out = {0};
    struct mqtt_peer peer = peer_limited(104), room = peer_limited(105);
    assert_false(mqtt_encode_suback(&peer, MQTT_SUBACK, &suback, &out));
    assert_int_equal(out.size, 0);
    assert_true(mqtt_encode_suback(&room, MQTT_SUBACK, &suback, &out));
    assert_int_equal(out.size, 105);
    buffer_release(&out);
}

static void problem_information_is_only_for_those_who_want_it(void **state) /* corner case 56 */
{
    (void)state;
    struct mqtt_peer peer = {5, false, MQTT_PACKET_SIZE_MAX};
    struct buffer out = {0}, user = raw("26 'k' 'v'");
    struct mqtt_properties properties = with_reason_string("why");
    properties.block = buffer_bytes(&user);

    static const uint8_t code = 0x80;
    struct mqtt_suback suback = {1, &code, 1, properties};
    mqtt_encode_suback(&peer, MQTT_SUBACK, &suback, &out);
    then_packet(&out, "90 0001 () 80");
    struct mqtt_connack connack = {false, REASON_NOT_AUTHORIZED, properties};
    mqtt_encode_connack(&peer, &connack, &out);
    then_packet(&out, "20 00 87 (1f 'why' 26 'k' 'v')");
    struct mqtt_disconnect disconnect = {REASON_NOT_AUTHORIZED, properties};
    mqtt_encode_disconnect(&peer, &disconnect, &out);
    then_packet(&out, "e0 87 (1f 'why' 26 'k' 'v')");
    buffer_release(&user);
}

static void a_peer_is_what_its_connect_said(void **state)
{
    (void)state;
    struct mqtt_connect connect = {.level = 5, .properties = MQTT_PROPERTIES_NONE};
    struct mqtt_peer peer = mqtt_peer_of(&connect);
    assert_int_equal(peer.packet_size_max, MQTT_PACKET_SIZE_MAX);
    assert_true(peer.problem_information);
    connect.properties.packet_size_max = 60;
    connect.properties.request_problem_information = 0;
    peer = mqtt_peer_of(&connect);
    assert_int_equal(peer.packet_size_max, 60);
    assert_false(peer.problem_information);
}

/* ---- PUBLISH ---- */

static const struct mqtt_publish_options qos_0 = {.message_expiry_s = UINT32_MAX};
static const struct mqtt_publish_options qos_1 = {.qos = 1, .packet_id = 0x1234, .message_expiry_s = UINT32_MAX};

static struct message given_message(struct buffer *properties, const char *text)
{
    *properties = raw(text);
    return (struct message){
        .topic = bytes_text("a/b"),
        .payload = bytes_text("payload"),
        .properties = buffer_bytes(properties),
    };
}

static void when_published(uint8_t level, const struct message *message, const struct mqtt_publish_options *options,
                           struct buffer *out)
{
    mqtt_encode_publish(level, message, options, out);
    assert_int_equal(out->size, mqtt_publish_size(level, message, options));
}

static void a_publish_of_3_1_1_is_topic_id_and_payload(void **state)
{
    (void)state;
    struct buffer properties, out = {0};
    struct message message = given_message(&properties, "03 'type'");
    static const uint32_t ids[] = {1};
    struct mqtt_publish_options options = qos_1;
    options.subscription_ids = ids; /* all that 3.1.1 does not have is left out */
    options.subscription_id_count = 1;
    options.message_expiry_s = 10;
    options.topic_alias = 1;
    when_published(4, &message, &options, &out);
    then_packet(&out, "32 'a/b' 1234 <payload>");
    when_published(3, &message, &qos_0, &out);
    then_packet(&out, "30 'a/b' <payload>");
    options = qos_1;
    options.qos = 2;
    options.duplicate = true;
    options.retain = true;
    when_published(4, &message, &options, &out);
    then_packet(&out, "3d 'a/b' 1234 <payload>");
    buffer_release(&properties);
}

static void a_publish_of_5_0_has_its_own_properties_then_those_of_the_message(void **state)
{
    (void)state;
    struct buffer properties, out = {0};
    struct message message = given_message(&properties, "03 'type' 26 'k' 'v'");
    when_published(5, &message, &qos_0, &out);
    then_packet(&out, "30 'a/b' (03 'type' 26 'k' 'v') <payload>");

    static const uint32_t ids[] = {1, 128, 268435455};
    struct mqtt_publish_options options = qos_1;
    options.subscription_ids = ids;
    options.subscription_id_count = LENGTH(ids);
    options.message_expiry_s = 10;
    options.topic_alias = 5;
    when_published(5, &message, &options, &out);
    then_packet(&out, "32 'a/b' 1234 (02 0000000a 23 0005 0b 01 0b 80 01 0b ff ff ff 7f 03 'type' 26 'k' 'v') <payload>");
    options.topic_by_alias = true;
    options.subscription_id_count = 0;
    when_published(5, &message, &options, &out);
    then_packet(&out, "32 '' 1234 (02 0000000a 23 0005 03 'type' 26 'k' 'v') <payload>");

    message.properties = message.payload = (struct bytes){0};
    when_published(5, &message, &qos_0, &out);
    then_packet(&out, "30 'a/b' ()");
    buffer_release(&properties);
}

static void a_fan_out_differs_in_dup_and_retain_only(void **state)
{
    (void)state;
    struct buffer properties, plain = {0}, other = {0};
    struct message message = given_message(&properties, "03 'type'");
    struct mqtt_publish_options again = qos_1;
    again.duplicate = true;
    again.retain = true;
    when_published(5, &message, &qos_1, &plain);
    when_published(5, &message, &again, &other);
    assert_int_equal(plain.size, other.size);
    assert_memory_equal(plain.data + 1, other.data + 1, plain.size - 1);
    assert_int_equal(plain.data[0] ^ other.data[0], FIRST_BYTE_DUP_AND_RETAIN);
    assert_int_equal(other.data[0], mqtt_publish_first_byte(&again));
    buffer_release(&properties);
    buffer_release(&plain);
    buffer_release(&other);
}

static void a_head_and_the_shared_rest_make_the_whole_packet(void **state)
{
    (void)state;
    struct buffer properties, whole = {0}, parts = {0};
    struct message message = given_message(&properties, "03 'type'");
    static const uint32_t ids[] = {7};
    struct mqtt_publish_options options = qos_1;
    options.subscription_ids = ids;
    options.subscription_id_count = 1;
    for (uint8_t level = 3; level <= 5; level++) {
        when_published(level, &message, &options, &whole);
        mqtt_encode_publish_head(level, &message, &options, &parts);
        if (level == 5)
            buffer_put_bytes(&parts, message.properties);
        buffer_put_bytes(&parts, message.payload);
        assert_true(bytes_equal(buffer_bytes(&whole), buffer_bytes(&parts)));
        buffer_clear(&whole);
        buffer_clear(&parts);
    }
    buffer_release(&properties);
    buffer_release(&whole);
    buffer_release(&parts);
}

static void sizes_are_exact_where_a_length_grows_by_a_byte(void **state) /* corner case 111 */
{
    (void)state;
    static const size_t edges[] = {0x7f, 0x3fff, 0x1fffff};
    uint8_t *payload = calloc(1, 0x1fffff + 16);
    struct buffer out = {0};
    for (size_t i = 0; i < LENGTH(edges); i++) {
        for (size_t around = 0; around < 12; around++) {
            struct message message = {.topic = bytes_text("t"), .payload = bytes_of(payload, edges[i] - 8 + around)};
            for (uint8_t level = 4; level <= 5; level++) {
                when_published(level, &message, &qos_1, &out);
                buffer_clear(&out);
            }
        }
    }
    buffer_release(&out);
    free(payload);
}

static void sizes_are_exact_where_the_properties_grow_by_a_byte(void **state)
{
    (void)state;
    struct buffer out = {0};
    for (size_t length = 110; length < 140; length++) {
        struct buffer block = {0};
        char value[160];
        memset(value, 'v', sizeof value);
        put_user_property(&block, bytes_text("k"), bytes_of(value, length));
        struct message message = {.topic = bytes_text("t"), .payload = bytes_text("x"),
            .properties = buffer_bytes(&block)};
        when_published(5, &message, &qos_1, &out);
        buffer_clear(&out);
        buffer_release(&block);
    }
    buffer_release(&out);
}

static void a_message_that_cannot_be_encoded_is_known_by_its_size(void **state)
{
    (void)state;
    static const uint8_t none = 0;
    struct bytes payload = bytes_of(&none, MQTT_REMAINING_MAX - 3); /* nobody reads it */
    struct message message = {.topic = bytes_text("t"), .payload = payload};
    assert_int_equal(mqtt_publish_size(4, &message, &qos_0), MQTT_PACKET_SIZE_MAX);
    message.payload.size++;
    assert_true(mqtt_publish_size(4, &message, &qos_0) > MQTT_PACKET_SIZE_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_connack_carries_all_properties_of_the_server),
        cmocka_unit_test(a_failing_connack_never_claims_a_session),
        cmocka_unit_test(reasons_become_return_codes_of_3_1_1_or_silence),
        cmocka_unit_test(what_a_server_may_say_in_each_packet_is_as_the_standard_says),
        cmocka_unit_test(acknowledgements_are_as_short_as_they_can_be),
        cmocka_unit_test(packets_are_appended_behind_what_is_there),
        cmocka_unit_test(subacks_hold_one_code_per_filter_in_order),
        cmocka_unit_test(the_small_packets_have_their_bytes),
        cmocka_unit_test(explanations_are_left_out_where_they_do_not_fit),
        cmocka_unit_test(packets_that_cannot_shrink_are_not_sent),
        cmocka_unit_test(problem_information_is_only_for_those_who_want_it),
        cmocka_unit_test(a_peer_is_what_its_connect_said),
        cmocka_unit_test(a_publish_of_3_1_1_is_topic_id_and_payload),
        cmocka_unit_test(a_publish_of_5_0_has_its_own_properties_then_those_of_the_message),
        cmocka_unit_test(a_fan_out_differs_in_dup_and_retain_only),
        cmocka_unit_test(a_head_and_the_shared_rest_make_the_whole_packet),
        cmocka_unit_test(sizes_are_exact_where_a_length_grows_by_a_byte),
        cmocka_unit_test(sizes_are_exact_where_the_properties_grow_by_a_byte),
        cmocka_unit_test(a_message_that_cannot_be_encoded_is_known_by_its_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
