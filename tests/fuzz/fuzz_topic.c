/* Arbitrary bytes as a topic and a filter (split at the first newline): our one-pass checks and matching against plain
 * recursive ones that follow the words of the standard. */
#include "base/topic.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool fact)
{
    if (!fact)
        abort();
}

/* Decodes one character the long way round; 0 = bad. */
static size_t reference_character(struct bytes text)
{
    static const uint32_t least[] = {0, 1, 0x80, 0x800, 0x10000};
    uint8_t lead = text.data[0];
    size_t size = 0;
    if (lead < 0x80)
        size = 1;
    for (size_t ones = 2; ones <= 4; ones++)
        if (lead >> (7 - ones) == (0xff >> (7 - ones) & ~1)) /* as many ones, then a zero */
            size = ones;
    if (size == 0 || size > text.size)
        return 0;
    uint32_t point = size == 1 ? lead : lead & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        if ((text.data[i] & 0xc0) != 0x80)
            return 0;
        point = point << 6 | (text.data[i] & 0x3f);
    }
    bool good = point >= least[size] && point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    return good ? size : 0;
}

static bool reference_utf8(struct bytes text)
{
    for (size_t at = 0; at < text.size;) {
        size_t size = reference_character(bytes_of(text.data + at, text.size - at));
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

/* Level by level, with recursion; both texts are split in the same way. */
static bool reference_matches(struct topic_levels filter, struct topic_levels topic)
{
    struct bytes wanted, found;
    bool more_filter = topic_next_level(&filter, &wanted);
    bool more_topic = topic_next_level(&topic, &found);
    if (more_filter && bytes_equal(wanted, bytes_text("#")))
        return true;
    if (!more_filter || !more_topic)
        return more_filter == more_topic;
    bool equal = bytes_equal(wanted, bytes_text("+")) || bytes_equal(wanted, found);
    return equal && reference_matches(filter, topic);
}

static bool reference_filter(struct bytes text)
{
    if (text.size == 0 || text.size > TOPIC_BYTES_MAX || topic_level_count(text) > TOPIC_LEVELS_MAX)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        bool starts = i == 0 || text.data[i - 1] == '/', last = i + 1 == text.size;
        if (byte == '#' && (!starts || !last))
            return false;
        if (byte == '+' && (!starts || !(last || text.data[i + 1] == '/')))
            return false;
    }
    return true;
}

static void check_levels_rebuild(struct bytes text)
{
    struct topic_levels levels = topic_levels_of(text);
    struct bytes level;
    size_t count = 0, bytes = 0;
    while (topic_next_level(&levels, &level)) {
        count++;
        bytes += level.size;
    }
    check(count == topic_level_count(text) && bytes + count - 1 == text.size);
}

static void check_key(struct bytes text)
{
    uint8_t key[TOPIC_KEY_MAX];
    size_t size = topic_key(text, key);
    check(size == (text.size > TOPIC_KEY_PLAIN_MAX ? TOPIC_KEY_MAX : text.size));
    for (size_t i = 0; i < size && text.size <= TOPIC_KEY_PLAIN_MAX; i++)
        check(key[i] == (text.data[i] == '/' ? 0 : text.data[i]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *split = size > 0 ? memchr(data, '\n', size) : NULL;
    if (split == NULL)
        return 0;
    struct bytes topic = bytes_of(data, (size_t)(split - data));
    struct bytes filter = bytes_of(split + 1, size - topic.size - 1);

    bool topic_utf8 = utf8_valid(topic), filter_utf8 = utf8_valid(filter);
    check(topic_utf8 == reference_utf8(topic) && filter_utf8 == reference_utf8(filter));
    enum status status = topic_name_check(topic);
    check((status == STATUS_MALFORMED) == (!topic_utf8 || topic.size == 0 || topic.size > TOPIC_BYTES_MAX));
    check_levels_rebuild(topic);
    check_key(topic);

    struct topic_filter parts;
    enum topic_filter_kind kind = topic_filter_parse(filter, &parts);
    bool shared = bytes_starts_with(filter, bytes_text("$share/")) || bytes_equal(filter, bytes_text("$share"));
    if (!shared)
        check((kind == TOPIC_FILTER_PLAIN) == (filter_utf8 && reference_filter(filter)));
    if (kind == TOPIC_FILTER_INVALID)
        return 0;
    check((kind == TOPIC_FILTER_SHARED) == shared && reference_filter(parts.filter));
    if (status != STATUS_OK)
        return 0;
    bool hidden = topic.data[0] == '$' && (parts.filter.data[0] == '+' || parts.filter.data[0] == '#');
    bool expected = !hidden && reference_matches(topic_levels_of(parts.filter), topic_levels_of(topic));
    check(topic_matches(parts.filter, topic) == expected);
    return 0;
}
