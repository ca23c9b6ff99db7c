/* fuzz_retained.c — a program of retained messages set and cleared, and of scans in pieces, against a plain list that is
 * asked topic by topic with topic_matches(). Also any bytes as a cursor: a scan then starts anywhere, and ends. */
#include "base/topic.h"
#include "input.h"
#include "retained.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TOPICS 40
#define TEXT_MAX 1300

struct entry {
    uint64_t message_id; /* 0: none */
    size_t size;
    uint8_t text[TEXT_MAX];
};

static struct entry entries[TOPICS];
static uint64_t next_id;

static struct bytes entry_text(const struct entry *entry)
{
    return bytes_of(entry->text, entry->size);
}

/* Levels that meet, at times a very long one: the keys of long topics end in a digest. */
static struct bytes draw_text(struct input *in, uint8_t text[TEXT_MAX])
{
    static const char *const levels[] = {"a", "b", "+", "#", "", "$c", "a b", "ab", "\x01", "\xf4\x8f\xbf\xbf"};
    size_t size = 0;
    for (uint32_t left = 1 + input_below(in, 5); left > 0; left--) {
        uint32_t number = input_below(in, sizeof levels / sizeof levels[0] + 1);
        if (number == sizeof levels / sizeof levels[0]) {
            size_t length = 235 + input_below(in, 20);
            memset(text + size, 'a' + (int)input_below(in, 2), length);
            size += length;
        } else {
            memcpy(text + size, levels[number], strlen(levels[number]));
            size += strlen(levels[number]);
        }
        if (left > 1)
            text[size++] = '/';
    }
    return bytes_of(text, size);
}

static struct entry *find(struct bytes topic)
{
    for (size_t i = 0; i < TOPICS; i++) {
        if (entries[i].message_id != 0 && bytes_equal(entry_text(&entries[i]), topic))
            return &entries[i];
    }
    return NULL;
}

static void set_or_clear(struct retained *retained, struct input *in)
{
    uint8_t text[TEXT_MAX];
    struct bytes topic = draw_text(in, text);
    if (topic_name_check(topic) != STATUS_OK)
        return;
    struct entry *there = find(topic);
    uint64_t before = there != NULL ? there->message_id : 0;
    if (input_below(in, 4) == 3) {
        assert(retained_clear(retained, topic).message_id == before);
        if (there != NULL)
            there->message_id = 0;
        return;
    }
    for (size_t i = 0; i < TOPICS && there == NULL; i++) {
        if (entries[i].message_id == 0)
            there = &entries[i];
    }
    if (there == NULL)
        return;
    there->message_id = ++next_id;
    there->size = topic.size;
    memcpy(there->text, topic.data, topic.size);
    struct retained_entry entry = {there->message_id, 3};
    assert(retained_set(retained, topic, entry).message_id == before);
    assert(retained_get(retained, topic, &entry) && entry.message_id == there->message_id);
}

static void mark(bool *found, uint64_t message_id)
{
    for (size_t i = 0; i < TOPICS; i++) {
        if (entries[i].message_id == message_id) {
            assert(!found[i]);
            found[i] = true;
            return;
        }
    }
    assert(false && "a message that no topic retains");
}

static void scan(struct retained *retained, struct input *in)
{
    uint8_t text[TEXT_MAX];
    struct bytes filter = draw_text(in, text);
    uint32_t pieces = 1 + input_below(in, 4);
    struct topic_filter parts;
    if (topic_filter_parse(filter, &parts) != TOPIC_FILTER_PLAIN)
        return;
    struct buffer cursor = {0};
    bool found[TOPICS] = {false};
    enum status status = STATUS_OK;
    for (uint32_t steps = 0; status != STATUS_NOT_FOUND; steps++) {
        uint32_t budget = pieces;
        struct retained_entry entry;
        status = retained_next(retained, filter, &cursor, &budget, &entry);
        assert(cursor.size <= RETAINED_CURSOR_MAX && budget <= pieces);
        assert(steps < 20 * TOPICS && "a scan that does not end");
        if (status == STATUS_OK)
            mark(found, entry.message_id);
    }
    for (size_t i = 0; i < TOPICS; i++)
        assert(found[i] == (entries[i].message_id != 0 && topic_matches(filter, entry_text(&entries[i]))));
    buffer_release(&cursor);
}

static void scan_from_anywhere(struct retained *retained, struct input *in)
{
    struct buffer cursor = {0};
    struct retained_entry entry;
    uint32_t budget = 10000;
    buffer_put_bytes(&cursor, input_bytes(in, 255));
    for (size_t i = 0; i < TOPICS; i++)
        retained_passed(buffer_bytes(&cursor), entry_text(&entries[i]));
    while (retained_next(retained, bytes_text("+/#"), &cursor, &budget, &entry) == STATUS_OK)
        assert(entry.message_id != 0);
    assert(budget > 0);
    buffer_release(&cursor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct store_options memory = {.path = NULL};
    struct store *store;
    struct retained retained;
    uint64_t present = 0;
    memset(entries, 0, sizeof entries);
    next_id = 0;
    if (store_open(&memory, &store) != STATUS_OK || retained_init(&retained, store) != STATUS_OK)
        abort();
    while (!input_done(&in)) {
        uint32_t kind = input_below(&in, 8);
        if (kind < 5)
            set_or_clear(&retained, &in);
        else if (kind < 7)
            scan(&retained, &in);
        else
            scan_from_anywhere(&retained, &in);
    }
    for (size_t i = 0; i < TOPICS; i++)
        present += entries[i].message_id != 0;
    assert(retained.count == present && retained.payload_bytes == 3 * present);
    retained_release_memory(&retained);
    store_close(store);
    return 0;
}
