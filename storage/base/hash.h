/* hash.h — hashes for tables in memory, with a secret that each process draws.
 *
 * Whoever chooses client ids, topics and names could otherwise choose such as collide. So nothing that lasts, goes to other
 * nodes or decides an order may depend on these hashes; what does has its own (store_hash.h). */
#ifndef COTERIE_HASH_H
#define COTERIE_HASH_H

#include "bytes.h"

/* Once, before the first table is filled. Without it the secret is 0: tests and simulations do not need one. */
void hash_set_secret(uint64_t secret);

/* Of bytes, a number, or a number and bytes together. */
uint64_t hash_bytes(struct bytes bytes);
uint64_t hash_number(uint64_t number);
uint64_t hash_both(uint64_t number, struct bytes bytes);

#endif
