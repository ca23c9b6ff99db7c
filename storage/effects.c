/* effects.c — a list of effects, and an arena for everything they borrow.
 *
 * The arena is a chain of chunks. Allocation moves a mark through the current chunk and goes on to the next, so that a
 * publish costs no malloc once the list has been used. effects_clear() goes back to the first chunk; chunks that one
 * large message or fan-out needed are given back there. */
#include "effects.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_SIZE (64 * 1024)
#define CHUNKS_KEPT 16            /* by effects_clear: 1 MiB */
#define ALIGNMENT sizeof(uint64_t)

struct chunk {
    struct chunk *next;
    size_t size, used;
    uint64_t room[];
};

struct effects {
    struct effect *list;
    uint32_t count, capacity;
    struct chunk *first, *current;
};

static struct chunk *chunk_new(size_t size)
{
    struct chunk *chunk = memory_allocate(sizeof *chunk + size);
    *chunk = (struct chunk){.size = size};
    return chunk;
}

struct effects *effects_new(void)
{
    struct effects *effects = memory_zeroed(1, sizeof *effects);
    effects->capacity = 64;
    effects->list = memory_allocate(effects->capacity * sizeof *effects->list);
    effects->first = effects->current = chunk_new(CHUNK_SIZE);
    return effects;
}

static void chunks_free(struct chunk *chunk)
{
    while (chunk != NULL) {
        struct chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void effects_free(struct effects *effects)
{
    if (effects == NULL)
        return;
    chunks_free(effects->first);
    free(effects->list);
    free(effects);
}

void effects_clear(struct effects *effects)
{
    effects->count = 0;
    uint32_t kept = 0;
    for (struct chunk **link = &effects->first; *link != NULL;) {
        struct chunk *chunk = *link;
        chunk->used = 0;
        if (chunk->size == CHUNK_SIZE && kept < CHUNKS_KEPT) {
            kept++;
            link = &chunk->next;
        } else {
            *link = chunk->next;
            free(chunk);
        }
    }
    effects->current = effects->first;
}

uint32_t effects_count(const struct effects *effects)
{
    return effects->count;
}

const struct effect *effects_at(const struct effects *effects, uint32_t number)
{
    assert(number < effects->count);
    return &effects->list[number];
}

void *effects_allocate(struct effects *effects, size_t size)
{
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct chunk *chunk = effects->current;
    while (chunk->size - chunk->used < size) {
        if (chunk->next == NULL)
            chunk->next = chunk_new(size > CHUNK_SIZE ? size : CHUNK_SIZE);
        chunk = chunk->next;
    }
    /* A chunk that is too small for this one is passed over until the next clear. */
    effects->current = chunk;
    void *room = (uint8_t *)chunk->room + chunk->used;
    chunk->used += size;
    return room;
}

struct effect *effects_add(struct effects *effects, enum effect_type type)
{
    if (effects->count == effects->capacity) {
        effects->capacity *= 2;
        effects->list = memory_resize(effects->list, effects->capacity * sizeof *effects->list);
    }
    struct effect *effect = &effects->list[effects->count++];
    *effect = (struct effect){.type = type};
    return effect;
}
