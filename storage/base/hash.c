#include "hash.h"

#include <xxhash.h>

static uint64_t process_secret;

void hash_set_secret(uint64_t secret)
{
    process_secret = secret;
}

uint64_t hash_bytes(struct bytes bytes)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, process_secret);
}

uint64_t hash_number(uint64_t number)
{
    return XXH3_64bits_withSeed(&number, sizeof number, process_secret);
}

uint64_t hash_both(uint64_t number, struct bytes bytes)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size, process_secret ^ hash_number(number));
}
