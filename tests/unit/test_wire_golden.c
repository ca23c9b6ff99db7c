/* test_wire_golden.c — the frames between nodes as every released version writes and reads them: nodes of two versions
 * speak to each other while a cluster is upgraded. One file tests/golden/wire-<name>.hex per type of frame.
 *
 * To add one for a new type: a row in types[], its cases in put_body() and put_again(); see golden.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/wire_raft.h"
#include "golden.h"

#define GENERATION 0x1122334455667788
#define SEQUENCE   42

static const struct {
    enum wire_type type;
    const char *name;
} types[] = {
    {WIRE_HELLO, "hello"},
    {WIRE_APPEND, "append"},
    {WIRE_APPEND_RESULT, "append-result"},
    {WIRE_VOTE, "vote"},
    {WIRE_VOTE_RESULT, "vote-result"},
    {WIRE_SNAPSHOT_READY, "snapshot-ready"},
    {WIRE_TIMEOUT_NOW, "timeout-now"},
    {WIRE_COMMIT, "commit"},
    {WIRE_REFUSAL, "refusal"},
    {WIRE_FORWARD, "forward"},
    {WIRE_APPLIED, "applied"},
    {WIRE_MESSAGES, "messages"},
    {WIRE_HASH, "hash"},
    {WIRE_SNAPSHOT_OFFER, "snapshot-offer"},
    {WIRE_SNAPSHOT_CHUNK, "snapshot-chunk"},
    {WIRE_SNAPSHOT_ACK, "snapshot-ack"},
};
#define TYPES (sizeof types / sizeof types[0])

static const struct wire_hello hello = {
    .version = WIRE_VERSION,
    .cluster_id = {0x80, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    .node = 3,
    .receiver = 1,
    .incarnation = 0x0102030405060708,
    .kind = LINK_BULK,
    .generation = GENERATION,
};

/* ---- what the files were made of ---- */

static void put_append(struct buffer *out, uint32_t count)
{
    const struct raft_append_entries append = {
        .version = 0, .term = 9, .prev_log_index = 300, .prev_log_term = 2, .leader_commit = 299};
    struct log_entry *entries[] = {
        log_entry_new(2, LOG_COMMAND, "a batch", 7),
        log_entry_new(9, LOG_BARRIER, "", 0),
        log_entry_new(9, LOG_CHANGE, "members", 7),
    };
    wire_append_put(out, &append, entries, count);
    for (size_t i = 0; i < 3; i++)
        log_entry_release(entries[i]);
}

static void put_raft(struct buffer *out, const struct raft_message *message)
{
    wire_raft_put(out, message, bytes_text("members"));
}

static void put_messages(struct buffer *out)
{
    const struct message retained = {.topic = bytes_text("a/b"),
                                     .payload = bytes_text("1"),
                                     .properties = bytes_text("p"),
                                     .origin_session = 0x70001,
                                     .created_ms = 1000,
                                     .expires_ms = 99000,
                                     .retain = true};
    const struct message plain = {.topic = bytes_text("c")};
    wire_message_put(out, &retained, bytes_of(NULL, 0));
    wire_message_put(out, &plain, bytes_of(NULL, 0));
}

/* The body of the example of a type whose frame is begun and ended by us. */
static void put_body(struct buffer *out, enum wire_type type)
{
    switch (type) {
    case WIRE_HELLO:
    case WIRE_REFUSAL: return; /* encoded whole */
    case WIRE_APPEND: put_append(out, 3); return;
    case WIRE_COMMIT: put_append(out, 0); return;
    case WIRE_APPEND_RESULT:
        put_raft(out, &(struct raft_message){.type = RAFT_APPEND_ENTRIES_RESULT,
                                             .append_entries_result = {2, 9, 3, 302, 1, 7}});
        return;
    case WIRE_VOTE:
        put_raft(out, &(struct raft_message){.type = RAFT_REQUEST_VOTE,
                                             .request_vote = {2, 9, 1, 302, 8, true, false}});
        return;
    case WIRE_VOTE_RESULT:
        put_raft(out, &(struct raft_message){.type = RAFT_REQUEST_VOTE_RESULT,
                                             .request_vote_result = {2, 9, true, true, 1, 7}});
        return;
    case WIRE_SNAPSHOT_READY:
        put_raft(out, &(struct raft_message){.type = RAFT_INSTALL_SNAPSHOT,
                                             .install_snapshot = {
                                                 .term = 9, .last_index = 300, .last_term = 8, .conf_index = 1}});
        return;
    case WIRE_TIMEOUT_NOW:
        put_raft(out, &(struct raft_message){.type = RAFT_TIMEOUT_NOW, .timeout_now = {0, 9, 302, 8}});
        return;
    case WIRE_FORWARD: buffer_put(out, "a batch", 7); return;
    case WIRE_APPLIED: wire_applied_put(out, &(struct wire_applied){300, 1700000000000}); return;
    case WIRE_MESSAGES: put_messages(out); return;
    case WIRE_HASH: wire_hash_put(out, &(struct wire_hash){300, {10, UINT64_MAX}}); return;
    case WIRE_SNAPSHOT_OFFER:
        wire_snapshot_offer_put(out, &(struct wire_snapshot_offer){300, 8, 70000, 1, bytes_text("members")});
        return;
    case WIRE_SNAPSHOT_CHUNK:
        wire_snapshot_chunk_put(out, &(struct wire_snapshot_chunk){300, 65536, bytes_text("data")});
        return;
    case WIRE_SNAPSHOT_ACK:
        wire_snapshot_ack_put(out, &(struct wire_snapshot_ack){300, 65540, SNAPSHOT_STORED});
        return;
    }
    fail_msg("type %d has no example", type);
}

static void put_frame(struct buffer *out, enum wire_type type)
{
    if (type == WIRE_HELLO) {
        wire_hello_encode(&hello, out);
    } else if (type == WIRE_REFUSAL) {
        wire_refusal_encode("another cluster", out);
    } else {
        size_t begin = wire_frame_begin(out, type, GENERATION, SEQUENCE);
        put_body(out, type);
        wire_frame_end(out, begin);
    }
}

/* ---- and back ---- */

static void append_again(struct buffer *out, struct bytes body)
{
    struct raft_append_entries append;
    struct log_entry **entries;
    uint32_t count;
    assert_int_equal(wire_append_get(body, &append, &entries, &count), STATUS_OK);
    wire_append_put(out, &append, entries, count);
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
    free(entries);
}

static void raft_again(struct buffer *out, enum wire_type type, struct bytes body)
{
    struct raft_message message;
    struct bytes configuration = {0};
    assert_int_equal(wire_raft_get(type, body, &message, &configuration), STATUS_OK);
    wire_raft_put(out, &message, configuration);
}

static void messages_again(struct buffer *out, struct bytes body)
{
    struct reader reader = reader_of(body);
    struct message message;
    struct bytes groups;
    while (wire_message_next(&reader, &message, &groups))
        wire_message_put(out, &message, groups);
    assert_false(reader.failed);
}

/* Reads a body and writes what was understood. */
static void put_again(struct buffer *out, enum wire_type type, struct bytes body)
{
    union {
        struct wire_applied applied;
        struct wire_hash hash;
        struct wire_snapshot_offer offer;
        struct wire_snapshot_chunk chunk;
        struct wire_snapshot_ack ack;
    } read;
    switch (type) {
    case WIRE_HELLO:
    case WIRE_REFUSAL: return;
    case WIRE_APPEND:
    case WIRE_COMMIT: append_again(out, body); return;
    case WIRE_APPEND_RESULT:
    case WIRE_VOTE:
    case WIRE_VOTE_RESULT:
    case WIRE_SNAPSHOT_READY:
    case WIRE_TIMEOUT_NOW: raft_again(out, type, body); return;
    case WIRE_FORWARD: buffer_put_bytes(out, body); return;
    case WIRE_MESSAGES: messages_again(out, body); return;
    case WIRE_APPLIED:
        assert_int_equal(wire_applied_get(body, &read.applied), STATUS_OK);
        wire_applied_put(out, &read.applied);
        return;
    case WIRE_HASH:
        assert_int_equal(wire_hash_get(body, &read.hash), STATUS_OK);
        wire_hash_put(out, &read.hash);
        return;
    case WIRE_SNAPSHOT_OFFER:
        assert_int_equal(wire_snapshot_offer_get(body, &read.offer), STATUS_OK);
        wire_snapshot_offer_put(out, &read.offer);
        return;
    case WIRE_SNAPSHOT_CHUNK:
        assert_int_equal(wire_snapshot_chunk_get(body, &read.chunk), STATUS_OK);
        wire_snapshot_chunk_put(out, &read.chunk);
        return;
    case WIRE_SNAPSHOT_ACK:
        assert_int_equal(wire_snapshot_ack_get(body, &read.ack), STATUS_OK);
        wire_snapshot_ack_put(out, &read.ack);
        return;
    }
    fail_msg("type %d is not read", type);
}

/* ---- tests ---- */

static void every_frame_has_the_encoding_it_always_had(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        struct buffer frame = {0};
        put_frame(&frame, types[i].type);
        if (!golden_is("wire", types[i].name, buffer_bytes(&frame)))
            fail_msg("the encoding of %s has changed", types[i].name);
        buffer_release(&frame);
    }
}

static void every_type_has_its_file(void **state)
{
    struct wire_frame frame;
    (void)state;
    for (unsigned type = 0; type <= UINT8_MAX; type++) {
        struct buffer bytes = {0};
        bool listed = false;
        wire_frame_end(&bytes, wire_frame_begin(&bytes, (enum wire_type)type, 1, 1));
        bool known = wire_frame_decode(buffer_bytes(&bytes), &frame) == STATUS_OK;
        for (size_t i = 0; i < TYPES; i++)
            listed = listed || types[i].type == type;
        if (known != listed)
            fail_msg("type %u: the codec %s it", type, known ? "knows" : "does not know");
        buffer_release(&bytes);
    }
}

static void what_is_read_encodes_to_the_same_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        struct buffer golden = {0}, again = {0};
        struct wire_frame frame;
        golden_read("wire", types[i].name, &golden);
        assert_int_equal(wire_frame_decode(buffer_bytes(&golden), &frame), STATUS_OK);
        assert_int_equal(frame.type, types[i].type);
        put_again(&again, frame.type, frame.body);
        assert_true(again.size == 0 || bytes_equal(buffer_bytes(&again), frame.body));
        buffer_release(&golden);
        buffer_release(&again);
    }
}

static void the_two_whole_frames_are_read_as_they_were_meant(void **state)
{
    struct buffer golden = {0};
    struct wire_hello read;
    char why[WIRE_REFUSAL_BYTES_MAX + 1];
    (void)state;
    golden_read("wire", "hello", &golden);
    assert_int_equal(wire_hello_decode(buffer_bytes(&golden), &read), STATUS_OK);
    assert_memory_equal(read.cluster_id, hello.cluster_id, sizeof hello.cluster_id);
    assert_int_equal(read.node, hello.node);
    assert_int_equal(read.receiver, hello.receiver);
    assert_int_equal(read.incarnation, hello.incarnation);
    assert_int_equal(read.kind, hello.kind);
    assert_int_equal(read.generation, hello.generation);
    assert_int_equal(read.replacement, 0);
    buffer_clear(&golden);
    golden_read("wire", "refusal", &golden);
    assert_true(wire_refusal_decode(buffer_bytes(&golden), why));
    assert_string_equal(why, "another cluster");
    buffer_release(&golden);
}

static void the_hello_of_a_replacement_says_which_it_is(void **state)
{
    struct wire_hello replacement = hello, read;
    struct buffer frame = {0};
    (void)state;
    replacement.replacement = 7;
    wire_hello_encode(&replacement, &frame);
    assert_true(golden_is("wire", "hello-of-a-replacement", buffer_bytes(&frame)));
    assert_int_equal(wire_hello_decode(buffer_bytes(&frame), &read), STATUS_OK);
    assert_int_equal(read.replacement, 7);
    assert_int_equal(read.kind, LINK_BULK);
    buffer_release(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_has_the_encoding_it_always_had),
        cmocka_unit_test(every_type_has_its_file),
        cmocka_unit_test(what_is_read_encodes_to_the_same_bytes),
        cmocka_unit_test(the_two_whole_frames_are_read_as_they_were_meant),
        cmocka_unit_test(the_hello_of_a_replacement_says_which_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
