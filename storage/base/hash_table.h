/* hash_table.h — finds things by hash: open addressing over an array of pointers.
 *
 * The things are borrowed, carry their keys, and know their hashes. A table that is full gets a larger array, to which
 * things move a few with each change: no single call does more than a few dozen of them, however many there are. */
#ifndef COTERIE_HASH_TABLE_H
#define COTERIE_HASH_TABLE_H

#include <stdbool.h>
#include <stdint.h>

struct hash_table {
    void **slots;                    /* NULL: free */
    uint32_t capacity;               /* a power of two, or 0 */
    uint32_t count;                  /* in both arrays */
    void **old;                      /* what is still to move; NULL: nothing */
    uint32_t old_capacity, moved;    /* slots of `old` before this one are empty */
    uint64_t (*hash)(const void *thing);
};

/* `hash` gives the hash that a thing knows: the same for as long as it is in the table. */
void hash_table_init(struct hash_table *table, uint64_t (*hash)(const void *thing));
void hash_table_release(struct hash_table *table);       /* not the things */

/* The thing with this hash that `is` the one that `key` names; NULL: there is none. */
void *hash_table_find(const struct hash_table *table, uint64_t hash, bool (*is)(const void *thing, const void *key),
                 const void *key);

void hash_table_add(struct hash_table *table, void *thing);            /* its key is not there yet */
void hash_table_remove(struct hash_table *table, const void *thing);   /* it is there */

/* Walks over all, in no order that means anything, while nothing changes: start with *slot = 0; NULL at the end. */
void *hash_table_next(const struct hash_table *table, uint64_t *slot);

#endif
