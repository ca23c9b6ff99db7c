/* hash_table.c — see hash_table.h.
 *
 * Linear probing, at most three quarters full. Removal from `slots` moves later ones of the same run back, so that a search
 * ends at the first free slot. In `old`, which is on its way out from the front, what was removed leaves GONE behind, so
 * that searches go on there. MOVES slots are looked at with each change, so `old` is empty long before `slots` is full. */
#include "hash_table.h"

#include "memory.h"

#include <assert.h>
#include <stdlib.h>

#define CAPACITY_MIN 64
#define MOVES        16

static char gone_mark;
#define GONE ((void *)&gone_mark)

void hash_table_init(struct hash_table *table, uint64_t (*hash)(const void *thing))
{
    *table = (struct hash_table){.hash = hash};
}

void hash_table_release(struct hash_table *table)
{
    free(table->slots);
    free(table->old);
    hash_table_init(table, table->hash);
}

typedef bool (*is_function)(const void *thing, const void *key);

static bool is_itself(const void *thing, const void *key)
{
    return thing == key;
}

/* Its place in `slots`; NULL: it is not there. */
static void **place_in_slots(const struct hash_table *table, uint64_t hash, is_function is, const void *key)
{
    uint32_t mask = table->capacity - 1;
    if (table->capacity == 0)
        return NULL;
    for (uint32_t slot = (uint32_t)hash & mask; table->slots[slot] != NULL; slot = (slot + 1) & mask)
        if (is(table->slots[slot], key))
            return &table->slots[slot];
    return NULL;
}

/* The same in `old`, of which the front has moved and is passed over. */
static void **place_in_old(const struct hash_table *table, uint64_t hash, is_function is, const void *key)
{
    uint32_t mask = table->old_capacity - 1, slot = (uint32_t)hash & mask;
    if (table->old == NULL)
        return NULL;
    for (uint32_t looks = table->moved; looks < table->old_capacity; looks++, slot = (slot + 1) & mask) {
        slot = slot < table->moved ? table->moved : slot;
        if (table->old[slot] == NULL)
            return NULL;
        if (table->old[slot] != GONE && is(table->old[slot], key))
            return &table->old[slot];
    }
    return NULL;
}

void *hash_table_find(const struct hash_table *table, uint64_t hash, bool (*is)(const void *thing, const void *key),
                      const void *key)
{
    void **place = place_in_slots(table, hash, is, key);
    if (place == NULL)
        place = place_in_old(table, hash, is, key);
    return place != NULL ? *place : NULL;
}

static void put(struct hash_table *table, void *thing)
{
    uint32_t mask = table->capacity - 1, slot = (uint32_t)table->hash(thing) & mask;
    while (table->slots[slot] != NULL)
        slot = (slot + 1) & mask;
    table->slots[slot] = thing;
}

static void move_some(struct hash_table *table)
{
    for (uint32_t i = 0; table->old != NULL && i < MOVES; i++) {
        void *thing = table->old[table->moved];
        if (thing != NULL && thing != GONE)
            put(table, thing);
        table->old[table->moved++] = GONE;
        if (table->moved == table->old_capacity) {
            free(table->old);
            table->old = NULL;
        }
    }
}

static void grow(struct hash_table *table)
{
    assert(table->old == NULL);
    table->old = table->slots;
    table->old_capacity = table->capacity;
    table->moved = 0;
    table->capacity = table->capacity == 0 ? CAPACITY_MIN : 2 * table->capacity;
    table->slots = memory_zeroed(table->capacity, sizeof *table->slots);
}

void hash_table_add(struct hash_table *table, void *thing)
{
    if (table->count >= table->capacity / 4 * 3)
        grow(table);
    move_some(table);
    put(table, thing);
    table->count++;
}

static void close_hole(struct hash_table *table, uint32_t hole)
{
    uint32_t mask = table->capacity - 1;
    for (uint32_t slot = (hole + 1) & mask; table->slots[slot] != NULL; slot = (slot + 1) & mask) {
        uint32_t home = (uint32_t)table->hash(table->slots[slot]) & mask;
        if (((slot - home) & mask) < ((slot - hole) & mask))
            continue; /* it would be before its home there */
        table->slots[hole] = table->slots[slot];
        hole = slot;
    }
    table->slots[hole] = NULL;
}

void hash_table_remove(struct hash_table *table, const void *thing)
{
    uint64_t hash = table->hash(thing);
    void **place = place_in_old(table, hash, is_itself, thing);
    table->count--;
    if (place != NULL) {
        *place = GONE;
    } else {
        place = place_in_slots(table, hash, is_itself, thing);
        assert(place != NULL);
        close_hole(table, (uint32_t)(place - table->slots));
    }
    move_some(table);
}

void *hash_table_next(const struct hash_table *table, uint64_t *slot)
{
    while (*slot < (uint64_t)table->capacity + (table->old != NULL ? table->old_capacity : 0)) {
        uint64_t at = (*slot)++;
        void *thing = at < table->capacity ? table->slots[at] : table->old[at - table->capacity];
        if (thing != NULL && thing != GONE)
            return thing;
    }
    return NULL;
}
