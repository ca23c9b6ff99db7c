/* aliases.c — see aliases.h.
 *
 * Which topic gets an alias: each topic has one place, by its hash. A place that is taken by another topic is given up
 * only when that one has been asked for less often than the new ones in between. */
#include "aliases.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CREDIT_MAX 8 /* misses that a topic survives which was often used */

struct alias {
    uint8_t *topic; /* NULL: not set */
    uint16_t size;
    uint8_t credit;
};

struct aliases {
    size_t bytes;
    uint16_t max;
    struct alias entries[];
};

struct aliases *aliases_new(uint16_t max)
{
    size_t bytes = sizeof(struct aliases) + max * sizeof(struct alias);
    struct aliases *aliases = memory_zeroed(1, bytes);

    aliases->bytes = bytes;
    aliases->max = max;
    return aliases;
}

void aliases_free(struct aliases *aliases)
{
    if (aliases == NULL)
        return;
    for (uint16_t i = 0; i < aliases->max; i++)
        free(aliases->entries[i].topic);
    free(aliases);
}

size_t aliases_bytes(const struct aliases *aliases)
{
    return aliases == NULL ? 0 : aliases->bytes;
}

void aliases_set(struct aliases *aliases, uint16_t alias, struct bytes topic)
{
    struct alias *entry;

    assert(alias >= 1 && alias <= aliases->max);
    assert(topic.size > 0 && topic.size <= UINT16_MAX);
    entry = &aliases->entries[alias - 1];
    if (entry->size == topic.size && memcmp(entry->topic, topic.data, topic.size) == 0)
        return;
    aliases->bytes += topic.size;
    aliases->bytes -= entry->size;
    free(entry->topic);
    entry->topic = memory_copy(topic.data, topic.size);
    entry->size = (uint16_t)topic.size;
    entry->credit = 1;
}

struct bytes aliases_topic(const struct aliases *aliases, uint16_t alias)
{
    if (aliases == NULL || alias == 0 || alias > aliases->max)
        return bytes_of(NULL, 0);
    return bytes_of(aliases->entries[alias - 1].topic, aliases->entries[alias - 1].size);
}

static uint32_t hash_of(struct bytes topic) /* FNV-1a: a bad choice costs an alias, no more */
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < topic.size; i++)
        hash = (hash ^ topic.data[i]) * 16777619u;
    return hash ^ hash >> 16;
}

uint16_t aliases_choose(struct aliases *aliases, struct bytes topic, bool *known)
{
    uint16_t place = (uint16_t)(hash_of(topic) % aliases->max);
    struct alias *entry = &aliases->entries[place];

    *known = entry->size == topic.size && entry->topic != NULL && memcmp(entry->topic, topic.data, topic.size) == 0;
    if (*known) {
        entry->credit += entry->credit < CREDIT_MAX;
    } else if (entry->credit > 0) {
        entry->credit--;
        return 0;
    }
    return (uint16_t)(place + 1);
}
