/* keys.h — the keys of rows: one to three numbers, big-endian, so that rows sort by the first, then the second, ... */
#ifndef COTERIE_KEYS_H
#define COTERIE_KEYS_H

#include "base/bytes.h"

#include <string.h>

#define KEY_NUMBERS_MAX 3

struct key {
    uint8_t data[KEY_NUMBERS_MAX * sizeof(uint64_t)];
    size_t size;
};

static inline void key_add(struct key *key, uint64_t number)
{
    uint64_t big_endian = __builtin_bswap64(number);
    memcpy(key->data + key->size, &big_endian, sizeof big_endian);
    key->size += sizeof big_endian;
}

static inline struct key key_of(uint64_t a)
{
    struct key key;
    key.size = 0;
    key_add(&key, a);
    return key;
}

static inline struct key key_pair(uint64_t a, uint64_t b)
{
    struct key key = key_of(a);
    key_add(&key, b);
    return key;
}

static inline struct key key_triple(uint64_t a, uint64_t b, uint64_t c)
{
    struct key key = key_pair(a, b);
    key_add(&key, c);
    return key;
}

/* Borrows from `key`. */
static inline struct bytes key_bytes(const struct key *key)
{
    return bytes_of(key->data, key->size);
}

/* The `n`th number (from 0) of a key that holds that many. */
static inline uint64_t key_number(struct bytes key, size_t n)
{
    uint64_t big_endian;
    memcpy(&big_endian, key.data + n * sizeof big_endian, sizeof big_endian);
    return __builtin_bswap64(big_endian);
}

#endif
