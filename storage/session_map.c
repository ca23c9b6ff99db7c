#include "session_map.h"

#include "base/hash.h"
#include "state_private.h"

#include <assert.h>

static uint64_t hash_of_id(const void *thing)
{
    const struct session *session = thing;
    return hash_number(session->id);
}

static uint64_t hash_of_client_id(const void *thing)
{
    return hash_bytes(session_client_id(thing));
}

static bool has_id(const void *thing, const void *key)
{
    const struct session *session = thing;
    return session->id == *(const uint64_t *)key;
}

static bool has_client_id(const void *thing, const void *key)
{
    return bytes_equal(session_client_id(thing), *(const struct bytes *)key);
}

void session_map_init(struct session_map *map, enum session_key key)
{
    hash_table_init(&map->table, key == SESSION_BY_ID ? hash_of_id : hash_of_client_id);
}

void session_map_release(struct session_map *map)
{
    hash_table_release(&map->table);
}

struct session *session_map_by_id(const struct session_map *map, uint64_t id)
{
    assert(map->table.hash == hash_of_id);
    return hash_table_find(&map->table, hash_number(id), has_id, &id);
}

struct session *session_map_by_client_id(const struct session_map *map, struct bytes client_id)
{
    assert(map->table.hash == hash_of_client_id);
    return hash_table_find(&map->table, hash_bytes(client_id), has_client_id, &client_id);
}

void session_map_add(struct session_map *map, struct session *session)
{
    hash_table_add(&map->table, session);
}

void session_map_remove(struct session_map *map, const struct session *session)
{
    hash_table_remove(&map->table, session);
}

struct session *session_map_next(const struct session_map *map, uint64_t *slot)
{
    return hash_table_next(&map->table, slot);
}
