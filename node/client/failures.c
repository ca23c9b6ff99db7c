/* failures.c — see failures.h. */
#include "failures.h"

#include "base/memory.h"

#include <stdlib.h>
#include <xxhash.h>

#define SETS      2048
#define WAYS      4
#define FREE      3 /* failures that cost nothing: typing errors */
#define FIRST_MS  250
#define STEPS_MAX 4
#define HALF_MS   60000
#define COUNT_MAX 64

struct culprit {
    uint64_t key; /* 0 = free */
    uint64_t at_ms;
    uint64_t last_ms; /* failure */
    uint32_t count;
};

struct failures {
    uint64_t seed;
    struct culprit culprits[SETS * WAYS];
};

enum kind { BY_ADDRESS = 1, BY_USER = 2 };

struct failures *failures_new(uint64_t seed)
{
    struct failures *failures = memory_zeroed(1, sizeof(*failures));

    failures->seed = seed;
    return failures;
}

void failures_free(struct failures *failures)
{
    free(failures);
}

static uint64_t key_of(const struct failures *failures, enum kind kind, struct bytes name)
{
    uint64_t key = XXH3_64bits_withSeed(name.data, name.size, failures->seed + (uint64_t)kind);

    return key == 0 ? 1 : key;
}

/* The entry of this name, with its count as of now; NULL: it has none. */
static struct culprit *find(struct failures *failures, enum kind kind, struct bytes name, uint64_t now_ms)
{
    uint64_t key = key_of(failures, kind, name);
    struct culprit *set = &failures->culprits[key % SETS * WAYS];

    for (int way = 0; way < WAYS; way++) {
        uint64_t halves = now_ms > set[way].at_ms ? (now_ms - set[way].at_ms) / HALF_MS : 0;

        if (set[way].key != key)
            continue;
        set[way].count = halves < 32 ? set[way].count >> halves : 0;
        set[way].at_ms += halves * HALF_MS;
        return &set[way];
    }
    return NULL;
}

static struct culprit *make(struct failures *failures, enum kind kind, struct bytes name, uint64_t now_ms)
{
    uint64_t key = key_of(failures, kind, name);
    struct culprit *set = &failures->culprits[key % SETS * WAYS], *quietest = set;

    for (int way = 1; way < WAYS; way++) {
        if (set[way].at_ms < quietest->at_ms)
            quietest = &set[way];
    }
    *quietest = (struct culprit){.key = key, .at_ms = now_ms};
    return quietest;
}

static uint32_t wait_of(const struct culprit *culprit)
{
    uint32_t beyond = culprit != NULL && culprit->count > FREE ? culprit->count - FREE : 0;

    if (beyond == 0)
        return 0;
    return FIRST_MS << (beyond - 1 < STEPS_MAX ? beyond - 1 : STEPS_MAX);
}

uint32_t failures_wait_ms(struct failures *failures, struct bytes address, struct bytes user, uint64_t now_ms)
{
    uint32_t by_address = address.size > 0 ? wait_of(find(failures, BY_ADDRESS, address, now_ms)) : 0;
    uint32_t by_user = user.size > 0 ? wait_of(find(failures, BY_USER, user, now_ms)) : 0;

    return by_address > by_user ? by_address : by_user;
}

bool failures_too_soon(struct failures *failures, struct bytes address, uint64_t now_ms)
{
    const struct culprit *culprit = address.size > 0 ? find(failures, BY_ADDRESS, address, now_ms) : NULL;

    return culprit != NULL && culprit->last_ms + wait_of(culprit) > now_ms;
}

static void count(struct failures *failures, enum kind kind, struct bytes name, uint64_t now_ms)
{
    struct culprit *culprit = find(failures, kind, name, now_ms);

    if (name.size == 0)
        return;
    if (culprit == NULL)
        culprit = make(failures, kind, name, now_ms);
    culprit->last_ms = now_ms;
    if (culprit->count < COUNT_MAX)
        culprit->count++;
}

void failures_note(struct failures *failures, struct bytes address, struct bytes user, bool granted, uint64_t now_ms)
{
    struct culprit *culprit;

    if (!granted) {
        count(failures, BY_ADDRESS, address, now_ms);
        count(failures, BY_USER, user, now_ms);
        return;
    }
    culprit = user.size > 0 ? find(failures, BY_USER, user, now_ms) : NULL;
    if (culprit != NULL)
        culprit->count = 0;
}
