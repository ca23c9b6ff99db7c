/* test_wire.c — frames between nodes: what is encoded decodes to the same, and nothing else decodes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/wire_raft.h"

static struct buffer out;

static int clear(void **state)
{
    (void)state;
    buffer_release(&out);
    return 0;
}

/* ---- frames ---- */

static void a_frame_says_how_long_it_is(void **state)
{
    (void)state;
    size_t size = 0;
    size_t begin = wire_frame_begin(&out, WIRE_FORWARD, 7, 42);
    buffer_put(&out, "body", 4);
    wire_frame_end(&out, begin);
    for (size_t i = 0; i < WIRE_LENGTH_SIZE; i++)
        assert_int_equal(wire_frame_size(bytes_of(out.data, i), 100, &size), STATUS_NEED_MORE);
    assert_int_equal(wire_frame_size(bytes_of(out.data, 4), 100, &size), STATUS_OK);
    assert_int_equal(size, WIRE_HEADER_SIZE + 4);
    assert_int_equal(wire_frame_size(bytes_of(out.data, 4), size - 1, &size), STATUS_TOO_LARGE);

    struct wire_frame frame;
    assert_int_equal(wire_frame_decode(buffer_bytes(&out), &frame), STATUS_OK);
    assert_int_equal(frame.type, WIRE_FORWARD);
    assert_int_equal(frame.generation, 7);
    assert_int_equal(frame.sequence, 42);
    assert_true(bytes_equal(frame.body, bytes_text("body")));
}

static void a_frame_that_is_not_whole_or_not_ours_is_refused(void **state)
{
    (void)state;
    struct wire_frame frame;
    size_t size;
    wire_frame_end(&out, wire_frame_begin(&out, WIRE_APPLIED, 1, 1));
    for (size_t i = 0; i < out.size; i++)
        assert_int_equal(wire_frame_decode(bytes_of(out.data, i), &frame), STATUS_MALFORMED);
    out.data[5] = 1; /* reserved */
    assert_int_equal(wire_frame_decode(buffer_bytes(&out), &frame), STATUS_MALFORMED);
    out.data[5] = 0;
    out.data[4] = 200;
    assert_int_equal(wire_frame_decode(buffer_bytes(&out), &frame), STATUS_UNSUPPORTED);
    assert_int_equal(frame.sequence, 1);
    memset(out.data + 8, 0, 8); /* generation 0 */
    assert_int_equal(wire_frame_decode(buffer_bytes(&out), &frame), STATUS_MALFORMED);
    out.data[0] = WIRE_HEADER_SIZE - WIRE_LENGTH_SIZE - 1;
    assert_int_equal(wire_frame_size(buffer_bytes(&out), 100, &size), STATUS_MALFORMED);
    memset(out.data, 0xFF, 4);
    assert_int_equal(wire_frame_size(buffer_bytes(&out), WIRE_FRAME_BYTES_MAX, &size), STATUS_TOO_LARGE);
}

static void hello_tells_who_speaks_to_whom(void **state)
{
    (void)state;
    struct wire_hello hello = {.version = WIRE_VERSION, .cluster_id = {1, 2}, .node = 3, .receiver = 1,
                               .incarnation = 99, .kind = LINK_BULK, .generation = 1234};
    struct wire_hello back;
    wire_hello_encode(&hello, &out);
    assert_true(out.size <= WIRE_HELLO_BYTES_MAX);
    assert_int_equal(wire_hello_decode(buffer_bytes(&out), &back), STATUS_OK);
    assert_int_equal(back.node, 3);
    assert_int_equal(back.receiver, 1);
    assert_int_equal(back.incarnation, 99);
    assert_int_equal(back.kind, LINK_BULK);
    assert_int_equal(back.generation, 1234);
    assert_memory_equal(back.cluster_id, hello.cluster_id, sizeof hello.cluster_id);
    out.data[WIRE_HEADER_SIZE] = WIRE_VERSION + 1;
    assert_int_equal(wire_hello_decode(buffer_bytes(&out), &back), STATUS_UNSUPPORTED);
}

static void a_replacement_says_so_in_its_hello(void **state)
{
    (void)state;
    struct wire_hello hello = {.version = WIRE_VERSION, .cluster_id = {1, 2}, .node = 3, .receiver = 1,
                               .incarnation = 99, .kind = LINK_BULK, .generation = 1234, .replacement = 20260131};
    struct wire_hello back;
    wire_hello_encode(&hello, &out);
    assert_int_equal(wire_hello_decode(buffer_bytes(&out), &back), STATUS_OK);
    assert_int_equal(back.kind, LINK_BULK);
    assert_int_equal(back.replacement, 20260131);
    struct node_life life = wire_hello_life(&back);
    assert_true(node_life_equal(life, (struct node_life){20260131, 99}));
    assert_int_equal(wire_hello_decode(bytes_of(out.data, out.size - 1), &back), STATUS_MALFORMED);
}

static void a_refusal_carries_its_reason(void **state)
{
    (void)state;
    char why[WIRE_REFUSAL_BYTES_MAX + 1], long_reason[2 * WIRE_REFUSAL_BYTES_MAX];
    wire_refusal_encode("it belongs to another cluster", &out);
    assert_true(wire_refusal_decode(buffer_bytes(&out), why));
    assert_string_equal(why, "it belongs to another cluster");
    buffer_clear(&out);
    memset(long_reason, 'x', sizeof long_reason - 1);
    long_reason[sizeof long_reason - 1] = '\0';
    wire_refusal_encode(long_reason, &out);
    assert_true(out.size <= WIRE_HELLO_BYTES_MAX);
    assert_true(wire_refusal_decode(buffer_bytes(&out), why));
    assert_int_equal(strlen(why), WIRE_REFUSAL_BYTES_MAX);
}

/* ---- bodies ---- */

/* Every proper prefix, and one byte more, must be refused. `value` is room for what the decoder writes. */
typedef enum status decoder(struct bytes body, void *value);

static enum status get_applied(struct bytes body, void *value)
{
    return wire_applied_get(body, value);
}

static enum status get_hash(struct bytes body, void *value)
{
    return wire_hash_get(body, value);
}

static enum status get_offer(struct bytes body, void *value)
{
    return wire_snapshot_offer_get(body, value);
}

static enum status get_chunk(struct bytes body, void *value)
{
    return wire_snapshot_chunk_get(body, value);
}

static enum status get_ack(struct bytes body, void *value)
{
    return wire_snapshot_ack_get(body, value);
}

static void then_only_all_of_it_decodes(decoder *get, void *value)
{
    for (size_t size = 0; size < out.size; size++)
        assert_int_equal(get(bytes_of(out.data, size), value), STATUS_MALFORMED);
    buffer_put_u8(&out, 0);
    assert_int_equal(get(buffer_bytes(&out), value), STATUS_MALFORMED);
}

static void applied_and_hash_survive_the_trip(void **state)
{
    (void)state;
    struct wire_applied applied;
    struct wire_hash hash;
    wire_applied_put(&out, &(struct wire_applied){5, 6});
    assert_int_equal(wire_applied_get(buffer_bytes(&out), &applied), STATUS_OK);
    assert_int_equal(applied.index, 5);
    assert_int_equal(applied.clock_ms, 6);
    then_only_all_of_it_decodes(get_applied, &applied);
    buffer_clear(&out);
    wire_hash_put(&out, &(struct wire_hash){9, {10, 11}});
    assert_int_equal(wire_hash_get(buffer_bytes(&out), &hash), STATUS_OK);
    assert_int_equal(hash.hash[1], 11);
    then_only_all_of_it_decodes(get_hash, &hash);
}

static void snapshot_frames_survive_the_trip_and_are_bounded(void **state)
{
    (void)state;
    struct wire_snapshot_offer offer;
    struct wire_snapshot_chunk chunk;
    struct wire_snapshot_ack ack;
    wire_snapshot_offer_put(&out, &(struct wire_snapshot_offer){10, 3, 5000, 1, bytes_text("members")});
    assert_int_equal(wire_snapshot_offer_get(buffer_bytes(&out), &offer), STATUS_OK);
    assert_int_equal(offer.size, 5000);
    assert_true(bytes_equal(offer.configuration, bytes_text("members")));
    then_only_all_of_it_decodes(get_offer, &offer);

    buffer_clear(&out);
    wire_snapshot_chunk_put(&out, &(struct wire_snapshot_chunk){10, 256, bytes_text("data")});
    assert_int_equal(wire_snapshot_chunk_get(buffer_bytes(&out), &chunk), STATUS_OK);
    assert_int_equal(chunk.offset, 256);
    then_only_all_of_it_decodes(get_chunk, &chunk);
    buffer_clear(&out);
    buffer_put_u64(&out, 10);
    buffer_put_u64(&out, 0);
    buffer_put_varint(&out, WIRE_CHUNK_BYTES_MAX + 1);
    for (size_t i = 0; i < WIRE_CHUNK_BYTES_MAX + 1; i++)
        buffer_put_u8(&out, 0);
    assert_int_equal(wire_snapshot_chunk_get(buffer_bytes(&out), &chunk), STATUS_MALFORMED);

    buffer_clear(&out);
    wire_snapshot_ack_put(&out, &(struct wire_snapshot_ack){10, 512, SNAPSHOT_STORED});
    assert_int_equal(wire_snapshot_ack_get(buffer_bytes(&out), &ack), STATUS_OK);
    assert_int_equal(ack.progress, SNAPSHOT_STORED);
    then_only_all_of_it_decodes(get_ack, &ack);
}

static void messages_come_out_in_the_order_they_went_in(void **state)
{
    (void)state;
    struct message first = {.topic = bytes_text("a/b"), .payload = bytes_text("1"), .properties = bytes_text("p"),
                            .origin_session = 7, .expires_ms = 99, .retain = true};
    struct message second = {.topic = bytes_text("c")};
    struct message back;
    struct bytes groups;
    wire_message_put(&out, &first, bytes_text(""));
    wire_message_put(&out, &second, bytes_text("\x05\x07"));
    struct reader reader = reader_of(buffer_bytes(&out));
    assert_true(wire_message_next(&reader, &back, &groups));
    assert_true(bytes_equal(back.topic, first.topic) && bytes_equal(back.payload, first.payload));
    assert_true(bytes_equal(back.properties, first.properties));
    assert_int_equal(back.origin_session, 7);
    assert_int_equal(back.expires_ms, 99);
    assert_true(back.retain);
    assert_int_equal(groups.size, 0);
    assert_true(wire_message_next(&reader, &back, &groups));
    assert_true(bytes_equal(back.topic, second.topic));
    assert_false(back.retain);
    assert_true(bytes_equal(groups, bytes_text("\x05\x07")));
    assert_false(wire_message_next(&reader, &back, &groups));
    assert_false(reader.failed);

    reader = reader_of(bytes_of(out.data, out.size - 1));
    assert_true(wire_message_next(&reader, &back, &groups));
    assert_false(wire_message_next(&reader, &back, &groups));
    assert_true(reader.failed);
}

/* ---- raft ---- */

static void append_put(uint64_t previous, uint64_t previous_term, const uint64_t *terms, uint32_t count)
{
    struct raft_append_entries append = {.term = 9, .prev_log_index = previous, .prev_log_term = previous_term,
                                         .leader_commit = 4};
    struct log_entry *entries[4];
    buffer_clear(&out);
    for (uint32_t i = 0; i < count; i++)
        entries[i] = log_entry_new(terms[i], i == 1 ? LOG_CHANGE : LOG_COMMAND, "entry", 3 + i);
    wire_append_put(&out, &append, entries, count);
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
}

static enum status append_get(struct bytes body)
{
    struct raft_append_entries append;
    struct log_entry **entries;
    uint32_t count;
    enum status status = wire_append_get(body, &append, &entries, &count);
    if (status == STATUS_OK) {
        for (uint32_t i = 0; i < count; i++)
            log_entry_release(entries[i]);
        free(entries);
    }
    return status;
}

static void entries_survive_the_trip(void **state)
{
    (void)state;
    struct raft_append_entries append;
    struct log_entry **entries;
    uint32_t count;
    append_put(7, 2, (uint64_t[]){2, 2, 9}, 3);
    assert_int_equal(wire_append_get(buffer_bytes(&out), &append, &entries, &count), STATUS_OK);
    assert_int_equal(append.term, 9);
    assert_int_equal(append.prev_log_index, 7);
    assert_int_equal(append.leader_commit, 4);
    assert_int_equal(count, 3);
    assert_int_equal(entries[1]->type, LOG_CHANGE);
    assert_int_equal(entries[2]->term, 9);
    assert_true(bytes_equal(log_entry_bytes(entries[1]), bytes_text("entr")));
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
    free(entries);
    for (size_t size = 0; size < out.size; size++)
        assert_int_equal(append_get(bytes_of(out.data, size)), STATUS_MALFORMED);
}

static void terms_that_no_leader_can_send_are_refused(void **state)
{
    (void)state;
    append_put(7, 3, (uint64_t[]){2}, 1); /* falling */
    assert_int_equal(append_get(buffer_bytes(&out)), STATUS_MALFORMED);
    append_put(7, 3, (uint64_t[]){10}, 1); /* beyond the leader's */
    assert_int_equal(append_get(buffer_bytes(&out)), STATUS_MALFORMED);
    append_put(7, 0, (uint64_t[]){3}, 1); /* an entry before, of no term */
    assert_int_equal(append_get(buffer_bytes(&out)), STATUS_MALFORMED);
    append_put(0, 0, (uint64_t[]){3}, 1);
    assert_int_equal(append_get(buffer_bytes(&out)), STATUS_OK);
}

static void a_count_of_entries_that_are_not_there_allocates_nothing(void **state)
{
    (void)state;
    append_put(7, 2, NULL, 0);
    memset(out.data + out.size - 4, 0xFF, 4);
    assert_int_equal(append_get(buffer_bytes(&out)), STATUS_MALFORMED);
}

static void the_other_raft_messages_survive_the_trip(void **state)
{
    (void)state;
    struct raft_message messages[] = {
        {.type = RAFT_APPEND_ENTRIES_RESULT, .append_entries_result = {2, 9, 3, 2, 1, 0}},
        {.type = RAFT_REQUEST_VOTE, .request_vote = {2, 9, 1, 30, 8, true, true}},
        {.type = RAFT_REQUEST_VOTE_RESULT, .request_vote_result = {2, 9, true, true, 1, 0}},
        {.type = RAFT_INSTALL_SNAPSHOT,
         .install_snapshot = {.term = 9, .last_index = 100, .last_term = 8, .conf_index = 1}},
        {.type = RAFT_TIMEOUT_NOW, .timeout_now = {0, 9, 100, 8}},
    };
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++) {
        struct raft_message back;
        struct bytes configuration;
        struct buffer again = {0};
        enum wire_type type = wire_raft_type(&messages[i]);
        buffer_clear(&out);
        wire_raft_put(&out, &messages[i], bytes_text("members"));
        assert_int_equal(wire_kind(type), LINK_RAFT);
        assert_int_equal(wire_raft_get(type, buffer_bytes(&out), &back, &configuration), STATUS_OK);
        assert_int_equal(back.type, messages[i].type);
        wire_raft_put(&again, &back, bytes_text("members"));
        assert_true(bytes_equal(buffer_bytes(&again), buffer_bytes(&out)));
        for (size_t size = 0; size < out.size; size++)
            assert_int_equal(wire_raft_get(type, bytes_of(out.data, size), &back, &configuration), STATUS_MALFORMED);
        buffer_release(&again);
    }
    struct raft_message back;
    struct bytes configuration;
    assert_int_equal(wire_raft_get(WIRE_FORWARD, buffer_bytes(&out), &back, &configuration), STATUS_UNSUPPORTED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, clear, clear)
    const struct CMUnitTest tests[] = {
        TEST(a_frame_says_how_long_it_is),
        TEST(a_frame_that_is_not_whole_or_not_ours_is_refused),
        TEST(hello_tells_who_speaks_to_whom),
        TEST(a_replacement_says_so_in_its_hello),
        TEST(a_refusal_carries_its_reason),
        TEST(applied_and_hash_survive_the_trip),
        TEST(snapshot_frames_survive_the_trip_and_are_bounded),
        TEST(messages_come_out_in_the_order_they_went_in),
        TEST(entries_survive_the_trip),
        TEST(terms_that_no_leader_can_send_are_refused),
        TEST(a_count_of_entries_that_are_not_there_allocates_nothing),
        TEST(the_other_raft_messages_survive_the_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
