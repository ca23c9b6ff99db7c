/* registry.h — the connections that this node holds, by number.
 *
 * A number is 46 bits: a slot and how often the slot has been used. So looking one up is an array access, a number of a
 * connection that has gone finds nothing, and none comes again within 2^26 uses of its slot. */
#ifndef COTERIE_REGISTRY_H
#define COTERIE_REGISTRY_H

#include <stdbool.h>
#include <stdint.h>

#define REGISTRY_SLOT_BITS 20
#define REGISTRY_SLOTS_MAX (1u << REGISTRY_SLOT_BITS)
#define REGISTRY_NUMBER_BITS 46

struct client;

struct registry {
    struct registry_slot *slots;
    uint32_t used, capacity;            /* slots that were ever used; allocated */
    uint32_t count;                     /* clients */
    uint32_t first_free, last_free;     /* slot + 1; 0 = none. First in, first out: numbers come again late */
};

void registry_release(struct registry *registry);       /* the clients are the caller's */
/* Takes a number; registry_set() gives it its client. 0: there is no slot left. */
uint64_t registry_take(struct registry *registry);
void registry_set(struct registry *registry, uint64_t number, struct client *client);
void registry_remove(struct registry *registry, uint64_t number);
struct client *registry_find(const struct registry *registry, uint64_t number);   /* NULL: it has gone */

/* Walks over all clients: start with *slot = 0; NULL at the end. Clients may be removed on the way. */
struct client *registry_next(const struct registry *registry, uint32_t *slot);

#endif
