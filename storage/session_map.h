/* session_map.h — finds sessions by id, or by client id.
 *
 * There are as many sessions as a cluster has clients, on every node, so what each costs counts, and the keys are in the
 * sessions already. Sessions are borrowed, and their keys do not change while they are in a map. */
#ifndef COTERIE_SESSION_MAP_H
#define COTERIE_SESSION_MAP_H

#include "base/bytes.h"
#include "base/hash_table.h"

struct session;

enum session_key {
    SESSION_BY_ID,
    SESSION_BY_CLIENT_ID,
};

struct session_map {
    struct hash_table table;
};

void session_map_init(struct session_map *map, enum session_key key);
void session_map_release(struct session_map *map);

/* NULL: there is none. */
struct session *session_map_by_id(const struct session_map *map, uint64_t id);
struct session *session_map_by_client_id(const struct session_map *map, struct bytes client_id);

/* Its key is not in the map yet; and it is in the map. */
void session_map_add(struct session_map *map, struct session *session);
void session_map_remove(struct session_map *map, const struct session *session);

/* Walks over all, in no order that means anything: start with *slot = 0; NULL at the end. */
struct session *session_map_next(const struct session_map *map, uint64_t *slot);

#endif
