/* fuzz_index.c — a program of inserts, removals and matches (in steps of several sizes) on the subscription index and on a
 * plain list of filters, which is asked with topic_matches() (itself held against the standard's words by fuzz_topic). */
#include "base/topic.h"
#include "index.h"
#include "input.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FILTERS 48
#define TEXT_MAX 300

struct entry {
    bool used;
    size_t size;
    uint8_t text[TEXT_MAX];
};

static struct bytes entry_text(const struct entry *entry)
{
    return bytes_of(entry->text, entry->size);
}

/* Some levels, mostly of few names so that they meet; or any bytes. */
static struct bytes draw_text(struct input *in, uint8_t text[TEXT_MAX])
{
    static const char *const levels[] = {"a", "b", "+", "#", "", "$c", "ab", "+"};
    size_t size = 0;
    uint8_t count = input_u8(in);
    if (count == 255) {
        struct bytes any = input_bytes(in, 255);
        memcpy(text, any.data, any.size);
        return bytes_of(text, any.size);
    }
    for (uint32_t left = 1 + count % (count > 200 ? 90 : 5); left > 0; left--) {
        const char *level = levels[input_below(in, sizeof levels / sizeof levels[0])];
        memcpy(text + size, level, strlen(level));
        size += strlen(level);
        if (left > 1)
            text[size++] = '/';
    }
    return bytes_of(text, size);
}

static struct entry *find(struct entry *entries, struct bytes filter)
{
    for (size_t i = 0; i < FILTERS; i++) {
        if (entries[i].used && bytes_equal(entry_text(&entries[i]), filter))
            return &entries[i];
    }
    return NULL;
}

static void toggle(struct index *index, struct entry *entries, struct input *in)
{
    struct entry *place = &entries[input_below(in, FILTERS)];
    struct topic_filter parts;
    if (place->used) {
        assert(index_remove(index, entry_text(place)) == place);
        place->used = false;
        return;
    }
    place->size = draw_text(in, place->text).size;
    if (topic_filter_parse(entry_text(place), &parts) != TOPIC_FILTER_PLAIN)
        return;
    struct entry *there = find(entries, entry_text(place));
    assert(index_get(index, entry_text(place)) == there);
    if (there != NULL)
        return;
    index_insert(index, entry_text(place), place);
    place->used = true;
}

static void match(struct index *index, struct entry *entries, struct input *in)
{
    uint8_t text[TEXT_MAX];
    struct bytes topic = draw_text(in, text);
    if (topic_name_check(topic) != STATUS_OK)
        return;
    uint32_t size = 1 + topic.size % 9, budget = size;
    index_match_begin(index, topic);
    while (index_match_more(index, &budget))
        budget = size;
    void **values;
    uint32_t count = index_matches(index, &values);
    bool found[FILTERS] = {false};
    for (uint32_t i = 0; i < count; i++) {
        size_t number = (size_t)((struct entry *)values[i] - entries);
        assert(number < FILTERS && !found[number]);
        found[number] = true;
    }
    for (size_t i = 0; i < FILTERS; i++)
        assert(found[i] == (entries[i].used && topic_matches(entry_text(&entries[i]), topic)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct entry entries[FILTERS];
    struct input in = {data, size};
    struct index *index = index_new();
    memset(entries, 0, sizeof entries);
    while (!input_done(&in)) {
        if (input_below(&in, 3) == 0)
            match(index, entries, &in);
        else
            toggle(index, entries, &in);
    }
    for (size_t i = 0; i < FILTERS; i++)
        assert(!entries[i].used || index_remove(index, entry_text(&entries[i])) == &entries[i]);
    index_free(index);
    return 0;
}
