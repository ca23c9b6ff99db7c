/* Message rows: what was put in comes out, references decide when it goes, totals stay right. */
#include "base/memory.h"
#include "messages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct world {
    struct store *store;
    struct messages messages;
    struct buffer assembled;
};

static int setup(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);

    assert_int_equal(store_open(&(struct store_options){0}, &w->store), STATUS_OK);
    assert_int_equal(messages_init(&w->messages, w->store), STATUS_OK);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    messages_release_memory(&w->messages);
    buffer_release(&w->assembled);
    store_close(w->store);
    free(w);
    return 0;
}

/* A message whose payload has `size` bytes that are nowhere the same as in their neighbourhood. */
static struct message given_message(size_t size)
{
    static uint8_t payload[200000];

    assert_true(size <= sizeof payload);
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7 + i / 256);
    return (struct message){.topic = bytes_text("home/attic"), .properties = bytes_text("properties"),
                            .payload = bytes_of(payload, size), .origin_session = 77, .created_ms = 1000,
                            .expires_ms = 5000, .qos = 2, .retain = true};
}

static void then_message(struct world *w, uint64_t id, const struct message *expected)
{
    struct message found;
    struct message_facts facts;

    assert_true(messages_get(&w->messages, id, &w->assembled, &found));
    assert_true(bytes_equal(found.topic, expected->topic));
    assert_true(bytes_equal(found.payload, expected->payload));
    assert_true(bytes_equal(found.properties, expected->properties));
    assert_int_equal(found.origin_session, expected->origin_session);
    assert_int_equal(found.created_ms, expected->created_ms);
    assert_int_equal(found.expires_ms, expected->expires_ms);
    assert_int_equal(found.qos, expected->qos);
    assert_int_equal(found.retain, expected->retain);
    assert_true(messages_facts(&w->messages, id, &facts));
    assert_int_equal(facts.payload_bytes, expected->payload.size);
    assert_int_equal(facts.topic_bytes, expected->topic.size);
    assert_int_equal(facts.properties_bytes, expected->properties.size);
    assert_int_equal(facts.expires_ms, expected->expires_ms);
}

static unsigned row_count(struct world *w, enum table table)
{
    struct row row = {0};
    unsigned count = 0;

    while (store_first_after(w->store, table, row.key, &row)) {
        assert_true(row.value.size <= MESSAGE_ROW_BYTES_MAX);
        count++;
    }
    return count;
}

static void a_message_of_any_size_comes_back(void **state)
{
    struct world *w = *state;
    static const size_t sizes[] = {0, 1, 100, 1900, 1950, 1960, 1970, 1980, 2000, 2001, 3999, 4000, 60000, 200000};
    size_t count = sizeof sizes / sizeof sizes[0];

    for (size_t i = 0; i < count; i++) {
        struct message message = given_message(sizes[i]);
        messages_add(&w->messages, i + 1, &message, 1);
        then_message(w, i + 1, &message);
    }
    for (size_t i = 0; i < count; i++) {
        struct message message = given_message(sizes[i]);
        then_message(w, i + 1, &message);
        assert_true(messages_release(&w->messages, i + 1, 1));
        assert_false(messages_get(&w->messages, i + 1, &w->assembled, &message));
    }
    assert_int_equal(row_count(w, TABLE_MESSAGES), 0);
    assert_int_equal(w->messages.count, 0);
    assert_int_equal(w->messages.payload_bytes, 0);
}

/* Every payload size around the border of the first and the second row. */
static void rows_are_full_before_the_next_begins(void **state)
{
    struct world *w = *state;
    uint64_t id = 1;
    unsigned rows_before = 1;

    for (size_t size = 1900; size < 4100; size++, id++) {
        struct message message = given_message(size);
        messages_add(&w->messages, id, &message, 1);
        then_message(w, id, &message);
        unsigned rows = row_count(w, TABLE_MESSAGES);
        assert_true(rows == rows_before || rows == rows_before + 1);
        rows_before = rows;
        assert_true(messages_release(&w->messages, id, 1));
    }
    assert_int_equal(rows_before, 3);
}

static void a_small_message_is_one_row_and_is_borrowed(void **state)
{
    struct world *w = *state;
    struct message message = given_message(500), found;

    messages_add(&w->messages, 1, &message, 1);
    assert_int_equal(row_count(w, TABLE_MESSAGES), 1);
    assert_int_equal(row_count(w, TABLE_MESSAGE_REFERENCES), 0);
    assert_true(messages_get(&w->messages, 1, &w->assembled, &found));
    assert_null(w->assembled.data);
}

static void a_long_topic_and_long_properties_span_rows(void **state)
{
    struct world *w = *state;
    struct message message = given_message(65535);

    message.topic = message.payload;
    message.properties = message.payload;
    messages_add(&w->messages, UINT64_MAX, &message, 1);
    then_message(w, UINT64_MAX, &message);
    assert_int_equal(row_count(w, TABLE_MESSAGES), (3 * 65535 + 100 + 1999) / 2000);
    assert_true(messages_release(&w->messages, UINT64_MAX, 1));
    assert_int_equal(row_count(w, TABLE_MESSAGES), 0);
}

static void the_last_reference_deletes(void **state)
{
    struct world *w = *state;
    struct message message = given_message(10);

    messages_add(&w->messages, 5, &message, 3);
    assert_int_equal(messages_references(&w->messages, 5), 3);
    assert_false(messages_release(&w->messages, 5, 1));
    assert_int_equal(messages_references(&w->messages, 5), 2);
    messages_reference(&w->messages, 5, 2);
    assert_int_equal(messages_references(&w->messages, 5), 4);
    assert_false(messages_release(&w->messages, 5, 3));
    assert_int_equal(messages_references(&w->messages, 5), 1);
    assert_int_equal(row_count(w, TABLE_MESSAGE_REFERENCES), 0);
    messages_reference(&w->messages, 5, 1);
    assert_true(messages_release(&w->messages, 5, 2));
    assert_int_equal(messages_references(&w->messages, 5), 0);
    assert_int_equal(row_count(w, TABLE_MESSAGES) + row_count(w, TABLE_MESSAGE_REFERENCES), 0);
    assert_int_equal(store_status(w->store), STATUS_OK);
}

static void more_releases_than_references_are_a_broken_store(void **state)
{
    struct world *w = *state;
    struct message message = given_message(10);

    messages_add(&w->messages, 5, &message, 2);
    assert_false(messages_release(&w->messages, 5, 3));
    assert_int_equal(store_status(w->store), STATUS_CORRUPT);
}

static void releasing_what_is_not_there_is_a_broken_store(void **state)
{
    struct world *w = *state;

    messages_release(&w->messages, 5, 1);
    assert_int_equal(store_status(w->store), STATUS_CORRUPT);
}

static void totals_survive_in_their_row(void **state)
{
    struct world *w = *state;
    struct message message = given_message(1000);
    struct messages again;
    uint64_t empty[2], hash[2];

    store_hash(w->store, empty);
    messages_add(&w->messages, 1, &message, 1);
    messages_add(&w->messages, 2, &message, 9);
    messages_write_back(&w->messages);
    assert_int_equal(messages_init(&again, w->store), STATUS_OK);
    assert_int_equal(again.count, 2);
    assert_int_equal(again.payload_bytes, 2 * message_bytes(&message));
    assert_true(message_bytes(&message) > 1000); /* its properties count as well */
    store_hash(w->store, hash);
    assert_memory_not_equal(empty, hash, sizeof hash);
}

static void a_row_that_is_not_ours_poisons(void **state)
{
    struct world *w = *state;
    static const uint8_t id[8] = {0, 0, 0, 0, 0, 0, 0, 9};
    static const uint8_t rows[][10] = {
        {0},                                            /* ends early */
        {5, 1, 0, 0, 0, 0, 0, 'a', 'p'},                /* payload is missing */
        {0, 1, 0, 3, 0, 0, 0, 'a'},                     /* QoS 3 */
        {0, 1, 0, 0, 0, 0, 0, 'a', 'b', 'c'},           /* too long */
    };
    static const size_t sizes[] = {1, 9, 8, 10};

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct message message;
        store_put(w->store, TABLE_MESSAGES, bytes_of(id, 8), bytes_of(rows[i], sizes[i]));
        store_commit(w->store);
        assert_false(messages_get(&w->messages, 9, &w->assembled, &message));
        assert_int_equal(store_status(w->store), STATUS_CORRUPT);
        store_crash(w->store);
    }
}

static void the_encoding_is_that_of_released_versions(void **state)
{
    struct world *w = *state;
    static const uint8_t id[8] = {0, 0, 0, 0, 0, 0, 1, 2};
    static const uint8_t expected[] = {3, 3, 2, 0x05, 0xac, 0x02, 7, 9, 'a', '/', 'b', 'P', 'R', 'x', 'y', 'z'};
    struct message message = {.topic = bytes_text("a/b"), .payload = bytes_text("xyz"), .properties = bytes_text("PR"),
                              .origin_session = 300, .created_ms = 7, .expires_ms = 9, .qos = 1, .retain = true};
    struct bytes row;

    messages_add(&w->messages, 0x102, &message, 1);
    assert_true(store_get(w->store, TABLE_MESSAGES, bytes_of(id, 8), &row));
    assert_int_equal(row.size, sizeof expected);
    assert_memory_equal(row.data, expected, sizeof expected);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_message_of_any_size_comes_back),
        TEST(rows_are_full_before_the_next_begins),
        TEST(a_small_message_is_one_row_and_is_borrowed),
        TEST(a_long_topic_and_long_properties_span_rows),
        TEST(the_last_reference_deletes),
        TEST(more_releases_than_references_are_a_broken_store),
        TEST(releasing_what_is_not_there_is_a_broken_store),
        TEST(totals_survive_in_their_row),
        TEST(a_row_that_is_not_ours_poisons),
        TEST(the_encoding_is_that_of_released_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
