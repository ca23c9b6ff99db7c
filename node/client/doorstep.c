#include "doorstep.h"

#include "base/hash.h"
#include "base/hash_table.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* All connections from one address. */
struct doorstep_place {
    uint32_t count;
    uint32_t size;
    uint8_t address[];
};

struct doorstep {
    uint32_t total_max, address_max;
    uint32_t count;
    struct hash_table places;
};

static struct bytes address_of(const struct doorstep_place *place)
{
    return bytes_of(place->address, place->size);
}

static uint64_t place_hash(const void *thing)
{
    return hash_bytes(address_of(thing));
}

static bool place_is(const void *thing, const void *address)
{
    return bytes_equal(address_of(thing), *(const struct bytes *)address);
}

struct doorstep *doorstep_new(uint32_t total_max, uint32_t address_max)
{
    struct doorstep *doorstep = memory_zeroed(1, sizeof(*doorstep));

    doorstep->total_max = total_max;
    doorstep->address_max = address_max;
    hash_table_init(&doorstep->places, place_hash);
    return doorstep;
}

void doorstep_free(struct doorstep *doorstep)
{
    if (doorstep == NULL)
        return;
    assert(doorstep->count == 0);
    hash_table_release(&doorstep->places);
    free(doorstep);
}

static struct doorstep_place *make_place(struct doorstep *doorstep, struct bytes address)
{
    struct doorstep_place *place = memory_allocate(sizeof(*place) + address.size);

    place->count = 0;
    place->size = (uint32_t)address.size;
    if (address.size > 0)
        memcpy(place->address, address.data, address.size);
    hash_table_add(&doorstep->places, place);
    return place;
}

struct doorstep_place *doorstep_enter(struct doorstep *doorstep, struct bytes address)
{
    struct doorstep_place *place;

    if (doorstep->total_max != 0 && doorstep->count >= doorstep->total_max)
        return NULL;
    place = hash_table_find(&doorstep->places, hash_bytes(address), place_is, &address);
    if (place == NULL)
        place = make_place(doorstep, address);
    else if (doorstep->address_max != 0 && address.size > 0 && place->count >= doorstep->address_max)
        return NULL;
    place->count++;
    doorstep->count++;
    return place;
}

void doorstep_leave(struct doorstep *doorstep, struct doorstep_place *place)
{
    doorstep->count--;
    if (--place->count > 0)
        return;
    hash_table_remove(&doorstep->places, place);
    free(place);
}
