/* session_map.c — see session_map.h.
 *
 * Linear probing, at most three quarters full. Removal moves later ones of the same run back, so that no marks of removed
 * entries pile up and a search ends at the first free slot. */
#include "session_map.h"

#include "base/memory.h"
#include "state_private.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_MIN 64

static uint32_t hash_of(const struct session_map *map, const struct session *session)
{
    struct bytes client_id = session_client_id(session);
    return map->key == SESSION_BY_ID ? (uint32_t)XXH3_64bits(&session->id, sizeof session->id)
                                     : (uint32_t)XXH3_64bits(client_id.data, client_id.size);
}

void session_map_init(struct session_map *map, enum session_key key)
{
    *map = (struct session_map){.key = key};
}

void session_map_release(struct session_map *map)
{
    free(map->slots);
    session_map_init(map, map->key);
}

struct session *session_map_by_id(const struct session_map *map, uint64_t id)
{
    assert(map->key == SESSION_BY_ID);
    uint32_t mask = map->capacity - 1;
    if (map->count == 0)
        return NULL;
    for (uint32_t slot = (uint32_t)XXH3_64bits(&id, sizeof id) & mask;; slot = (slot + 1) & mask)
        if (map->slots[slot] == NULL || map->slots[slot]->id == id)
            return map->slots[slot];
}

struct session *session_map_by_client_id(const struct session_map *map, struct bytes client_id)
{
    assert(map->key == SESSION_BY_CLIENT_ID);
    uint32_t mask = map->capacity - 1;
    if (map->count == 0)
        return NULL;
    for (uint32_t slot = (uint32_t)XXH3_64bits(client_id.data, client_id.size) & mask;; slot = (slot + 1) & mask)
        if (map->slots[slot] == NULL || bytes_equal(session_client_id(map->slots[slot]), client_id))
            return map->slots[slot];
}

static void put(struct session_map *map, struct session *session)
{
    uint32_t mask = map->capacity - 1, slot = hash_of(map, session) & mask;
    while (map->slots[slot] != NULL)
        slot = (slot + 1) & mask;
    map->slots[slot] = session;
}

static void grow(struct session_map *map)
{
    struct session **old = map->slots;
    uint32_t old_capacity = map->capacity;
    map->capacity = old_capacity == 0 ? CAPACITY_MIN : 2 * old_capacity;
    map->slots = memory_zeroed(map->capacity, sizeof *map->slots);
    for (uint32_t slot = 0; slot < old_capacity; slot++)
        if (old[slot] != NULL)
            put(map, old[slot]);
    free(old);
}

void session_map_add(struct session_map *map, struct session *session)
{
    if (map->count >= map->capacity / 4 * 3)
        grow(map);
    put(map, session);
    map->count++;
}

void session_map_remove(struct session_map *map, const struct session *session)
{
    uint32_t mask = map->capacity - 1, hole = hash_of(map, session) & mask;
    while (map->slots[hole] != session) {
        assert(map->slots[hole] != NULL);
        hole = (hole + 1) & mask;
    }
    for (uint32_t slot = (hole + 1) & mask; map->slots[slot] != NULL; slot = (slot + 1) & mask) {
        uint32_t home = hash_of(map, map->slots[slot]) & mask;
        if (((slot - home) & mask) < ((slot - hole) & mask))
            continue; /* it would be before its home there */
        map->slots[hole] = map->slots[slot];
        hole = slot;
    }
    map->slots[hole] = NULL;
    map->count--;
}

struct session *session_map_next(const struct session_map *map, uint32_t *slot)
{
    while (*slot < map->capacity) {
        struct session *session = map->slots[(*slot)++];
        if (session != NULL)
            return session;
    }
    return NULL;
}
