/* takeovers.c — see takeovers.h. */
#include "takeovers.h"

#include "base/memory.h"

#include <stdlib.h>
#include <xxhash.h>

#define SETS      1024
#define WAYS      4
#define FREE      3
#define STEPS_MAX 4
#define HALF_MS   60000
#define TELL_MS   60000
#define COUNT_MAX 16

/* An id that was taken over. */
struct contested {
    uint64_t key;      /* 0 = free */
    uint64_t last_ms;  /* take-over */
    uint64_t count_ms; /* as of when `hasty` counts */
    uint64_t tell_ms;  /* no line before */
    uint32_t hasty;
};

struct takeovers {
    uint32_t interval_ms;
    uint64_t seed;
    struct contested ids[SETS * WAYS];
};

struct takeovers *takeovers_new(uint32_t interval_ms, uint64_t seed)
{
    struct takeovers *takeovers = memory_zeroed(1, sizeof(*takeovers));

    takeovers->interval_ms = interval_ms;
    takeovers->seed = seed;
    return takeovers;
}

void takeovers_free(struct takeovers *takeovers)
{
    free(takeovers);
}

static uint64_t key_of(const struct takeovers *takeovers, struct bytes client_id)
{
    uint64_t key = XXH3_64bits_withSeed(client_id.data, client_id.size, takeovers->seed);

    return key == 0 ? 1 : key;
}

/* Its place in the table; -1: it has none. */
static int place_of(const struct takeovers *takeovers, uint64_t key)
{
    int first = (int)(key % SETS) * WAYS;

    for (int place = first; place < first + WAYS; place++) {
        if (takeovers->ids[place].key == key)
            return place;
    }
    return -1;
}

static struct contested *make(struct takeovers *takeovers, uint64_t key, uint64_t now_ms)
{
    struct contested *set = &takeovers->ids[key % SETS * WAYS], *quietest = set;

    for (int way = 1; way < WAYS; way++) {
        if (set[way].last_ms < quietest->last_ms)
            quietest = &set[way];
    }
    *quietest = (struct contested){.key = key, .count_ms = now_ms};
    return quietest;
}

void takeovers_note(struct takeovers *takeovers, struct bytes client_id, uint64_t now_ms)
{
    uint64_t key = key_of(takeovers, client_id);
    int place = place_of(takeovers, key);
    struct contested *id = place >= 0 ? &takeovers->ids[place] : make(takeovers, key, now_ms);

    id->last_ms = now_ms;
}

static void halve(struct contested *id, uint64_t now_ms)
{
    uint64_t halves = (now_ms - id->count_ms) / HALF_MS;

    id->hasty = halves < 32 ? id->hasty >> halves : 0;
    id->count_ms += halves * HALF_MS;
}

static uint64_t rest_of(const struct takeovers *takeovers, const struct contested *id)
{
    uint32_t beyond = id->hasty > FREE ? id->hasty - FREE : 0;

    if (beyond == 0)
        return 0;
    return (uint64_t)takeovers->interval_ms << (beyond - 1 < STEPS_MAX ? beyond - 1 : STEPS_MAX);
}

uint32_t takeovers_wait_ms(struct takeovers *takeovers, struct bytes client_id, uint64_t now_ms)
{
    int place = place_of(takeovers, key_of(takeovers, client_id));
    struct contested *id = place >= 0 ? &takeovers->ids[place] : NULL;
    uint64_t rests_until_ms;

    if (id == NULL)
        return 0;
    halve(id, now_ms);
    if (now_ms < id->last_ms + takeovers->interval_ms && id->hasty < COUNT_MAX)
        id->hasty++;
    rests_until_ms = id->last_ms + rest_of(takeovers, id);
    return rests_until_ms > now_ms ? (uint32_t)(rests_until_ms - now_ms) : 0;
}

bool takeovers_since(const struct takeovers *takeovers, struct bytes client_id, uint64_t since_ms)
{
    int place = place_of(takeovers, key_of(takeovers, client_id));

    return place >= 0 && takeovers->ids[place].last_ms > since_ms;
}

bool takeovers_tell(struct takeovers *takeovers, struct bytes client_id, uint64_t now_ms)
{
    int place = place_of(takeovers, key_of(takeovers, client_id));

    if (place < 0 || now_ms < takeovers->ids[place].tell_ms)
        return false;
    takeovers->ids[place].tell_ms = now_ms + TELL_MS;
    return true;
}
