/* topic.c — see topic.h. All is a single walk from left to right; only matching looks at two texts at once, and since
 * '#' can only stand at the end and '+' takes exactly one level, it never has to go back. */
#include "topic.h"

#include "utf8.h"

#include <openssl/sha.h>
#include <string.h>

_Static_assert(TOPIC_KEY_PREFIX + SHA256_DIGEST_LENGTH == TOPIC_KEY_MAX, "a hashed key is as long as a key can be");
_Static_assert(TOPIC_KEY_PLAIN_MAX < TOPIC_KEY_MAX, "a plain key is never as long as a hashed one");

bool topic_next_level(struct topic_levels *levels, struct bytes *level)
{
    if (levels->done)
        return false;
    struct bytes rest = levels->rest;
    const uint8_t *slash = rest.size == 0 ? NULL : memchr(rest.data, '/', rest.size);
    if (slash == NULL) {
        *level = rest;
        levels->done = true;
        return true;
    }
    size_t size = (size_t)(slash - rest.data);
    *level = bytes_of(rest.data, size);
    levels->rest = bytes_of(slash + 1, rest.size - size - 1);
    return true;
}

size_t topic_level_count(struct bytes text)
{
    size_t count = 1;
    for (size_t i = 0; i < text.size; i++)
        count += text.data[i] == '/';
    return count;
}

static bool is_wildcard(uint8_t byte)
{
    return byte == '+' || byte == '#';
}

static bool has_wildcard(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (is_wildcard(text.data[i]))
            return true;
    return false;
}

enum status topic_name_check(struct bytes name)
{
    if (name.size == 0 || name.size > TOPIC_BYTES_MAX || !utf8_valid(name))
        return STATUS_MALFORMED;
    if (has_wildcard(name))
        return STATUS_INVALID;
    if (topic_level_count(name) > TOPIC_LEVELS_MAX)
        return STATUS_TOO_LARGE;
    return STATUS_OK;
}

/* A wildcard has its level for itself, and '#' is the last. */
static bool wildcards_well_placed(struct bytes filter)
{
    struct topic_levels levels = topic_levels_of(filter);
    struct bytes level;
    while (topic_next_level(&levels, &level)) {
        if (!has_wildcard(level))
            continue;
        if (level.size > 1)
            return false;
        if (level.data[0] == '#' && !levels.done)
            return false;
    }
    return true;
}

static bool filter_acceptable(struct bytes filter)
{
    return filter.size > 0 && topic_level_count(filter) <= TOPIC_LEVELS_MAX && wildcards_well_placed(filter);
}

enum topic_filter_kind topic_filter_parse(struct bytes text, struct topic_filter *parts)
{
    static const char share[] = "$share";
    if (text.size == 0 || text.size > TOPIC_BYTES_MAX || !utf8_valid(text))
        return TOPIC_FILTER_INVALID;

    struct topic_levels levels = topic_levels_of(text);
    struct bytes first, group;
    topic_next_level(&levels, &first);
    if (!bytes_equal(first, bytes_of(share, sizeof share - 1))) {
        if (!filter_acceptable(text))
            return TOPIC_FILTER_INVALID;
        *parts = (struct topic_filter){.filter = text};
        return TOPIC_FILTER_PLAIN;
    }
    if (!topic_next_level(&levels, &group) || group.size == 0 || has_wildcard(group))
        return TOPIC_FILTER_INVALID;
    if (levels.done || !filter_acceptable(levels.rest))
        return TOPIC_FILTER_INVALID;
    *parts = (struct topic_filter){.filter = levels.rest, .group = group};
    return TOPIC_FILTER_SHARED;
}

bool topic_filter_has_wildcard(struct bytes filter)
{
    return has_wildcard(filter);
}

bool topic_matches(struct bytes filter, struct bytes topic)
{
    if (topic.size > 0 && topic.data[0] == '$' && filter.size > 0 && is_wildcard(filter.data[0]))
        return false;

    size_t f = 0, t = 0;
    while (f < filter.size) {
        if (filter.data[f] == '#')
            return true;
        if (filter.data[f] == '+') {
            while (t < topic.size && topic.data[t] != '/')
                t++;
            f++;
            continue;
        }
        if (t == topic.size) /* only "/#" may be left: it matches the parent too */
            return filter.size - f == 2 && filter.data[f] == '/' && filter.data[f + 1] == '#';
        if (filter.data[f] != topic.data[t])
            return false;
        f++;
        t++;
    }
    return t == topic.size;
}

size_t topic_key(struct bytes text, uint8_t key[TOPIC_KEY_MAX])
{
    bool plain = text.size <= TOPIC_KEY_PLAIN_MAX;
    size_t copied = plain ? text.size : TOPIC_KEY_PREFIX;
    for (size_t i = 0; i < copied; i++)
        key[i] = text.data[i] == '/' ? 0x00 : text.data[i];
    if (plain)
        return copied;
    SHA256(text.data, text.size, key + TOPIC_KEY_PREFIX);
    return TOPIC_KEY_MAX;
}
