/* Encodings of commands and batches. Those in tests/golden/command-*.hex are kept for ever: a log may hold them.
 *
 * To add one for a new command: a row in examples[], run with GOLDEN_WRITE=1, and look at what was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "command.h"
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER {.session_id = 0x70000, .client_epoch = 0x80001}
#define ACTOR .actor = TEXT("operator")
#define TEXT(text) {.data = (const uint8_t *)(text), .size = sizeof(text) - 1}

static const struct {
    const char *name;
    struct command command;
} examples[] = {
    {"node-up",
     {.type = COMMAND_NODE_UP,
      .node_up = {.node = 3, .boot_nonce = {1, 2, 3, 255}, .client_address = TEXT("host:1883"), .version = TEXT("0.1.0")}}},
    {"node-down", {.type = COMMAND_NODE_DOWN, .node_down = {.node = 3, .node_epoch = 0x10000}}},
    {"continue", {.type = COMMAND_CONTINUE}},
    {"tick", {.type = COMMAND_TICK}},
    {"checkpoint", {.type = COMMAND_CHECKPOINT}},
    {"settings",
     {.type = COMMAND_SETTINGS,
      .settings = {.queue_messages_max = 1000, .queue_bytes_max = 1 << 20, .subscriptions_max = 100,
                   .sessions_max = 10000, .retained_messages_max = 5, .retained_bytes_max = 6,
                   .store_bytes_max = UINT64_MAX, .session_expiry_max_s = UINT32_MAX, .in_flight_max = 100}}},
    {"connect",
     {.type = COMMAND_CONNECT,
      .connect = {.connection = 77, .client_id = TEXT("alice"), .user_name = TEXT("user"), .protocol_level = 5,
                  .clean_start = true, .receive_maximum = 65535, .session_expiry_s = 3600}}},
    {"connect-will",
     {.type = COMMAND_CONNECT,
      .connect = {.connection = 78, .client_id = TEXT("bob"), .protocol_level = 4, .has_will = true,
                  .receive_maximum = 10, .session_expiry_s = UINT32_MAX,
                  .will = {.message = {.topic = TEXT("will/bob"), .payload = TEXT("gone"),
                                       .properties = TEXT("\x01\x01"), .qos = 1, .retain = true},
                           .delay_s = 30, .message_expiry_s = UINT32_MAX}}}},
    {"connect-will-allowed",
     {.type = COMMAND_CONNECT,
      .connect = {.connection = 78, .client_id = TEXT("bob"), .protocol_level = 4, .has_will = true,
                  .will_allowed = true, .receive_maximum = 10, .session_expiry_s = 0,
                  .will = {.message = {.topic = TEXT("w")}, .message_expiry_s = UINT32_MAX}}}},
    {"connect-by-user",
     {.type = COMMAND_CONNECT,
      .connect = {.connection = 79, .client_id = TEXT("carol"), .user_name = TEXT("carol"), .protocol_level = 5,
                  .credential_epoch = 0x70001, .adopts = true, .receive_maximum = 1, .session_expiry_s = 9}}},
    {"end", {.type = COMMAND_END, .end = {.owner = OWNER, .cause = END_WITH_WILL}}},
    {"end-expiry",
     {.type = COMMAND_END,
      .end = {.owner = OWNER, .cause = END_CLEAN, .has_session_expiry = true, .session_expiry_s = 5}}},
    {"subscribe",
     {.type = COMMAND_SUBSCRIBE,
      .subscribe = {.owner = OWNER, .subscription_id = 268435455, .count = 2, .filters = TEXT("\x2d\x03" "a/#" "\x00\x01" "+")}}},
    {"unsubscribe",
     {.type = COMMAND_UNSUBSCRIBE,
      .unsubscribe = {.owner = OWNER, .count = 1, .filters = TEXT("\x00\x03" "a/#")}}},
    {"publish",
     {.type = COMMAND_PUBLISH,
      .publish = {.owner = OWNER, .packet_id = 65535, .message_expiry_s = 60,
                  .message = {.topic = TEXT("home/attic"), .payload = TEXT("21"), .properties = TEXT("\x03\x00\x01t"),
                              .qos = 2}}}},
    {"publish-register",
     {.type = COMMAND_PUBLISH,
      .publish = {.owner = OWNER, .register_only = true, .message_expiry_s = UINT32_MAX,
                  .message = {.topic = TEXT("t"), .retain = true}}}},
    {"pubrel", {.type = COMMAND_PUBREL, .pubrel = {.owner = OWNER, .packet_id = 1}}},
    {"ack",
     {.type = COMMAND_ACK,
      .ack = {.owner = OWNER, .own_count = 2, .own = TEXT("\x05\x01"), .broadcast_count = 1,
              .broadcast = TEXT("\x07\x64\x02\x0a\x05")}}},
    {"pubrec", {.type = COMMAND_PUBREC, .delivery = {.owner = OWNER, .order = 1234567}}},
    {"pubcomp", {.type = COMMAND_PUBCOMP, .delivery = {.owner = OWNER, .order = 1234567}}},
    {"retained-more",
     {.type = COMMAND_RETAINED_MORE, .retained_more = {.owner = OWNER, .subscribe_position = 0x90000, .count = 1000}}},
    {"decline", {.type = COMMAND_DECLINE, .decline = {.owner = OWNER, .count = 2, .orders = TEXT("\x05\x01")}}},
    {"user-add",
     {.type = COMMAND_USER_ADD, .user = {ACTOR, .name = TEXT("ann"), .credential = TEXT("$argon2id$v=19$")}}},
    {"user-password",
     {.type = COMMAND_USER_PASSWORD, .user = {ACTOR, .name = TEXT("ann"), .credential = TEXT("$argon2id$v=19$")}}},
    {"user-enable", {.type = COMMAND_USER_ENABLE, .user = {ACTOR, .name = TEXT("ann"), .enabled = true}}},
    {"user-remove", {.type = COMMAND_USER_REMOVE, .user = {ACTOR, .name = TEXT("ann")}}},
    {"user-quota",
     {.type = COMMAND_USER_QUOTA, .user = {ACTOR, .name = TEXT("ann"), .quota = {1, 200, 3000, 40, UINT64_MAX}}}},
    {"role-add", {.type = COMMAND_ROLE_ADD, .role = {ACTOR, .name = TEXT("reader")}}},
    {"role-remove", {.type = COMMAND_ROLE_REMOVE, .role = {ACTOR, .name = TEXT("reader")}}},
    {"role-rule",
     {.type = COMMAND_ROLE_RULE,
      .role = {ACTOR, .name = TEXT("reader"), .change = RULE_DENY, .rights = 6, .priority = -2,
               .filter = TEXT("a/%u/#")}}},
    {"role-grant",
     {.type = COMMAND_ROLE_GRANT, .role = {ACTOR, .name = TEXT("reader"), .user = TEXT("ann"), .granted = true}}},
    {"ban",
     {.type = COMMAND_BAN,
      .ban = {ACTOR, .kind = BAN_ADDRESS, .seconds = 600, .subject = TEXT("192.0.2.0/24"), .reason = TEXT("guessing")}}},
};
#define EXAMPLES (sizeof examples / sizeof examples[0])

static void every_command_has_the_encoding_it_always_had(void **state)
{
    (void)state;
    for (size_t i = 0; i < EXAMPLES; i++) {
        struct buffer encoded = {0};
        command_encode(&examples[i].command, &encoded);
        assert_true(golden_is("command", examples[i].name, buffer_bytes(&encoded)));
        buffer_release(&encoded);
    }
}

static void what_is_decoded_encodes_to_the_same_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < EXAMPLES; i++) {
        struct buffer golden = {0}, again = {0};
        struct command command;
        golden_read("command", examples[i].name, &golden);
        struct reader in = reader_of(buffer_bytes(&golden));
        assert_int_equal(command_decode(&in, &command), STATUS_OK);
        assert_true(reader_done(&in));
        assert_int_equal(command.type, examples[i].command.type);
        command_encode(&command, &again);
        assert_true(bytes_equal(buffer_bytes(&golden), buffer_bytes(&again)));
        buffer_release(&golden);
        buffer_release(&again);
    }
}

static void a_command_that_was_cut_short_is_malformed(void **state)
{
    (void)state;
    for (size_t i = 0; i < EXAMPLES; i++) {
        struct buffer encoded = {0};
        struct command command;
        command_encode(&examples[i].command, &encoded);
        for (size_t size = 0; size < encoded.size; size++) {
            uint8_t *exact = malloc(size > 0 ? size : 1); /* so that a read beyond it is noticed */
            memcpy(exact, encoded.data, size);
            struct reader in = reader_of(bytes_of(exact, size));
            assert_int_equal(command_decode(&in, &command), STATUS_MALFORMED);
            free(exact);
        }
        buffer_release(&encoded);
    }
}

/* Whatever is accepted has one form: no two encodings mean the same. */
static void any_changed_byte_is_refused_or_encodes_as_it_was_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < EXAMPLES; i++) {
        struct buffer encoded = {0}, again = {0};
        command_encode(&examples[i].command, &encoded);
        for (size_t at = 0; at < encoded.size; at++) {
            for (unsigned value = 0; value < 256; value++) {
                uint8_t kept = encoded.data[at];
                struct command command;
                encoded.data[at] = (uint8_t)value;
                struct reader in = reader_of(buffer_bytes(&encoded));
                if (command_decode(&in, &command) == STATUS_OK) {
                    buffer_clear(&again);
                    command_encode(&command, &again);
                    size_t used = encoded.size - in.rest.size;
                    assert_true(bytes_equal(buffer_bytes(&again), bytes_of(encoded.data, used)));
                }
                encoded.data[at] = kept;
            }
        }
        buffer_release(&encoded);
        buffer_release(&again);
    }
}

static void an_unknown_type_is_unsupported_and_passed_over(void **state)
{
    (void)state;
    const uint8_t bytes[] = {99, 2, 'x', 'y', COMMAND_TICK, 0};
    struct command command;
    struct reader in = reader_of(bytes_of(bytes, sizeof bytes));
    assert_int_equal(command_decode(&in, &command), STATUS_UNSUPPORTED);
    assert_int_equal(command_decode(&in, &command), STATUS_OK);
    assert_int_equal(command.type, COMMAND_TICK);
}

static void filters_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct buffer filters = {0};
    struct command_filter filter;
    command_put_filter(&filters, bytes_text("a/b"), 0x2d);
    command_put_filter(&filters, bytes_text("#"), 0);
    struct reader in = reader_of(buffer_bytes(&filters));
    assert_true(command_next_filter(&in, &filter));
    assert_true(bytes_equal(filter.filter, bytes_text("a/b")));
    assert_int_equal(filter.options, 0x2d);
    assert_true(command_next_filter(&in, &filter));
    assert_false(command_next_filter(&in, &filter));
    assert_true(reader_done(&in));
    buffer_release(&filters);
}

static void acknowledgements_come_out_as_they_went_in(void **state)
{
    (void)state;
    struct buffer own = {0}, broadcast = {0};
    uint64_t previous = 0, order = 0;
    command_ack_put_own(&own, &previous, 3);
    command_ack_put_own(&own, &previous, 300);
    command_ack_put_broadcast(&broadcast, 7, 10, 2);
    previous = 0;
    command_ack_put_own(&broadcast, &previous, 5);
    command_ack_put_own(&broadcast, &previous, 9);
    command_ack_put_broadcast(&broadcast, 8, 11, 0);

    struct reader in = reader_of(buffer_bytes(&own));
    assert_true(command_ack_next_own(&in, &order) && order == 3);
    assert_true(command_ack_next_own(&in, &order) && order == 300);
    assert_false(command_ack_next_own(&in, &order));

    struct command_ack_broadcast entry;
    in = reader_of(buffer_bytes(&broadcast));
    assert_true(command_ack_next_broadcast(&in, &entry));
    assert_int_equal(entry.filter_id, 7);
    assert_int_equal(entry.upto, 10);
    assert_int_equal(entry.except_count, 2);
    struct reader exceptions = reader_of(entry.except);
    order = 0;
    assert_true(command_ack_next_own(&exceptions, &order) && order == 5);
    assert_true(command_ack_next_own(&exceptions, &order) && order == 9);
    assert_true(command_ack_next_broadcast(&in, &entry));
    assert_int_equal(entry.except_count, 0);
    assert_false(command_ack_next_broadcast(&in, &entry));
    assert_true(reader_done(&in));
    buffer_release(&own);
    buffer_release(&broadcast);
}

static void a_batch_header_comes_out_as_it_went_in(void **state)
{
    (void)state;
    struct buffer batch = {0};
    buffer_put_u8(&batch, 0xee); /* it need not begin at the front of a buffer */
    size_t first = batch.size;
    batch_begin(&batch, 3, 0x10000, 42);
    command_encode(&(struct command){.type = COMMAND_TICK}, &batch);
    command_encode(&(struct command){.type = COMMAND_CONTINUE}, &batch);
    batch_finish(&batch, first, 2);
    batch_set_stamp(batch.data + first, 123456789);

    struct batch_header header;
    struct bytes commands, whole = bytes_of(batch.data + first, batch.size - first);
    assert_int_equal(batch_decode(whole, &header, &commands), STATUS_OK);
    assert_int_equal(header.origin_node, 3);
    assert_int_equal(header.origin_epoch, 0x10000);
    assert_int_equal(header.number, 42);
    assert_int_equal(header.stamp_ms, 123456789);
    assert_int_equal(header.count, 2);
    assert_int_equal(commands.size, 4);
    whole.size--;
    assert_int_equal(batch_decode(whole, &header, &commands), STATUS_MALFORMED);
    batch.data[first]++;
    assert_int_equal(batch_decode(whole, &header, &commands), STATUS_UNSUPPORTED);
    buffer_release(&batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_command_has_the_encoding_it_always_had),
        cmocka_unit_test(what_is_decoded_encodes_to_the_same_bytes),
        cmocka_unit_test(a_command_that_was_cut_short_is_malformed),
        cmocka_unit_test(any_changed_byte_is_refused_or_encodes_as_it_was_read),
        cmocka_unit_test(an_unknown_type_is_unsupported_and_passed_over),
        cmocka_unit_test(filters_come_out_as_they_went_in),
        cmocka_unit_test(acknowledgements_come_out_as_they_went_in),
        cmocka_unit_test(a_batch_header_comes_out_as_it_went_in),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
