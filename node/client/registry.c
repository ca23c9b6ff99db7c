/* registry.c — see registry.h. */
#include "registry.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define USES_MAX ((1u << (REGISTRY_NUMBER_BITS - REGISTRY_SLOT_BITS)) - 1)

struct registry_slot {
    struct client *client;
    uint32_t uses;
    uint32_t next_free;
};

void registry_release(struct registry *registry)
{
    free(registry->slots);
    memset(registry, 0, sizeof(*registry));
}

static uint32_t slot_of(uint64_t number)
{
    return (uint32_t)(number & (REGISTRY_SLOTS_MAX - 1));
}

static bool slot_grow(struct registry *registry)
{
    uint32_t capacity = registry->capacity == 0 ? 64 : registry->capacity * 2;

    if (registry->capacity == REGISTRY_SLOTS_MAX)
        return false;
    registry->slots = memory_resize(registry->slots, capacity * sizeof(*registry->slots));
    memset(registry->slots + registry->capacity, 0, (capacity - registry->capacity) * sizeof(*registry->slots));
    registry->capacity = capacity;
    return true;
}

uint64_t registry_take(struct registry *registry)
{
    uint32_t slot;

    if (registry->first_free != 0) {
        slot = registry->first_free - 1;
        registry->first_free = registry->slots[slot].next_free;
        if (registry->first_free == 0)
            registry->last_free = 0;
    } else {
        if (registry->used == registry->capacity && !slot_grow(registry))
            return 0;
        slot = registry->used++;
    }
    registry->slots[slot].uses = registry->slots[slot].uses % USES_MAX + 1;
    return (uint64_t)registry->slots[slot].uses << REGISTRY_SLOT_BITS | slot;
}

void registry_set(struct registry *registry, uint64_t number, struct client *client)
{
    struct registry_slot *slot = &registry->slots[slot_of(number)];

    assert(slot->client == NULL);
    slot->client = client;
    registry->count++;
}

struct client *registry_find(const struct registry *registry, uint64_t number)
{
    uint32_t slot = slot_of(number);

    if (slot >= registry->used || registry->slots[slot].uses != number >> REGISTRY_SLOT_BITS)
        return NULL;
    return registry->slots[slot].client;
}

void registry_remove(struct registry *registry, uint64_t number)
{
    uint32_t slot = slot_of(number);

    assert(registry_find(registry, number) != NULL);
    registry->slots[slot].client = NULL;
    registry->slots[slot].next_free = 0;
    registry->count--;
    if (registry->last_free != 0)
        registry->slots[registry->last_free - 1].next_free = slot + 1;
    else
        registry->first_free = slot + 1;
    registry->last_free = slot + 1;
}

struct client *registry_next(const struct registry *registry, uint32_t *slot)
{
    while (*slot < registry->used) {
        struct client *client = registry->slots[(*slot)++].client;

        if (client != NULL)
            return client;
    }
    return NULL;
}
