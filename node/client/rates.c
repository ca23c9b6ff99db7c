/* rates.c — see rates.h. */
#include "rates.h"

#include "base/memory.h"

#include <stdlib.h>

#define SETS  1024 /* of addresses; a set is searched whole */
#define WAYS  4
#define TOKEN 1000 /* tokens are counted in thousandths: a rate of 1 is one per millisecond and thousand */

struct bucket {
    uint64_t key; /* hash of the address; 0 = free */
    uint64_t at_ms;
    uint64_t tokens; /* in thousandths */
};

struct rates {
    uint32_t total_max, address_max;
    uint64_t seed;
    struct bucket total;
    struct bucket addresses[];
};

struct rates *rates_new(uint32_t total_max, uint32_t address_max, uint64_t seed, uint64_t now_ms)
{
    size_t count = address_max > 0 ? SETS * WAYS : 0;
    struct rates *rates;

    if (total_max == 0 && address_max == 0)
        return NULL;
    rates = memory_zeroed(1, sizeof(*rates) + count * sizeof(rates->addresses[0]));
    rates->total_max = total_max;
    rates->address_max = address_max;
    rates->seed = seed;
    rates->total = (struct bucket){.at_ms = now_ms, .tokens = (uint64_t)total_max * TOKEN};
    return rates;
}

void rates_free(struct rates *rates)
{
    free(rates);
}

static void refill(struct bucket *bucket, uint32_t max, uint64_t now_ms)
{
    uint64_t full = (uint64_t)max * TOKEN, passed_ms = now_ms > bucket->at_ms ? now_ms - bucket->at_ms : 0;
    uint64_t tokens = bucket->tokens + (passed_ms < 1000 ? passed_ms : 1000) * max; /* a second fills it */

    bucket->tokens = tokens < full ? tokens : full;
    bucket->at_ms = now_ms;
}

static uint64_t hash_of(struct bytes address, uint64_t seed)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ seed;

    for (size_t i = 0; i < address.size; i++)
        hash = (hash ^ address.data[i]) * UINT64_C(1099511628211);
    hash ^= hash >> 29;
    return hash == 0 ? 1 : hash;
}

/* The bucket of this address, full if it is new. */
static struct bucket *find_bucket(struct rates *rates, struct bytes address, uint64_t now_ms)
{
    uint64_t key = hash_of(address, rates->seed);
    struct bucket *set = &rates->addresses[key % SETS * WAYS], *oldest = set;

    for (size_t way = 0; way < WAYS; way++) {
        if (set[way].key == key)
            return &set[way];
        if (set[way].at_ms < oldest->at_ms)
            oldest = &set[way];
    }
    *oldest = (struct bucket){.key = key, .at_ms = now_ms, .tokens = (uint64_t)rates->address_max * TOKEN};
    return oldest;
}

bool rates_take(struct rates *rates, struct bytes address, uint64_t now_ms)
{
    struct bucket *bucket = NULL;

    if (rates == NULL)
        return true;
    if (rates->address_max > 0 && address.size > 0) {
        bucket = find_bucket(rates, address, now_ms);
        refill(bucket, rates->address_max, now_ms);
        if (bucket->tokens < TOKEN)
            return false;
    }
    if (rates->total_max > 0) {
        refill(&rates->total, rates->total_max, now_ms);
        if (rates->total.tokens < TOKEN)
            return false;
        rates->total.tokens -= TOKEN;
    }
    if (bucket != NULL)
        bucket->tokens -= TOKEN;
    return true;
}
