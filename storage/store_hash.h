/* store_hash.h — the hash of one row, and the sum over many.
 *
 * A row is hashed as XXH3-128 over its image: u8 table, u16 key size, key, value. The hash of a state is the sum of its
 * rows' hashes modulo 2^128, so it can be kept up to date by a subtraction and an addition per write, and does not
 * depend on the order of anything. It finds divergence by accident, not by an attacker who chooses rows: nodes trust
 * each other. */
#ifndef COTERIE_STORE_HASH_H
#define COTERIE_STORE_HASH_H

#include "store.h"

#define ROW_IMAGE_HEADER_SIZE 3

/* Makes `image` the image of a row. Key and value may be borrowed from anywhere but `image`. */
void row_image(struct buffer *image, enum table table, struct bytes key, struct bytes value);

void hash_add(uint64_t hash[2], struct bytes image);
void hash_subtract(uint64_t hash[2], struct bytes image);

#endif
