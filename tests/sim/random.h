/* random.h — the simulator's chance: named streams split from one seed, so that a draw more in one does not shift the
 * others (xorshift64*; quality enough for schedules, and the same everywhere). */
#ifndef COTERIE_SIM_RANDOM_H
#define COTERIE_SIM_RANDOM_H

#include <stdbool.h>
#include <stdint.h>

struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    uint64_t x = random->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    random->state = x;
    return x * 0x2545F4914F6CDD1Dull;
}

static inline struct random random_stream(uint64_t seed, uint64_t name)
{
    uint64_t z = seed + (name + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    struct random random = {(z ^ (z >> 31)) | 1};
    random_next(&random);
    return random;
}

/* 0 to limit - 1; limit > 0. */
static inline uint64_t random_below(struct random *random, uint64_t limit)
{
    return (random_next(random) >> 11) % limit;
}

/* low to high, both included. */
static inline uint64_t random_between(struct random *random, uint64_t low, uint64_t high)
{
    return low + random_below(random, high - low + 1);
}

/* True in `permille` of 1,000 cases. */
static inline bool random_chance(struct random *random, uint64_t permille)
{
    return random_below(random, 1000) < permille;
}

#endif
