/* ledger.c — see ledger.h. */
#include "ledger.h"

#include "buffer.h"

#include <stdlib.h>
#include <string.h>

void numbers_release(struct numbers *numbers)
{
    free(numbers->words);
    *numbers = (struct numbers){0};
}

bool numbers_have(const struct numbers *numbers, uint64_t n)
{
    return n / 64 < numbers->word_count && (numbers->words[n / 64] >> (n % 64) & 1) != 0;
}

bool numbers_add(struct numbers *numbers, uint64_t n)
{
    if (n / 64 >= numbers->word_count) {
        size_t count = (size_t)(n / 64) * 2 + 1;
        numbers->words = memory_grow(numbers->words, numbers->word_count, count, sizeof(uint64_t));
        numbers->word_count = count;
    }
    uint64_t bit = (uint64_t)1 << (n % 64);
    bool new = (numbers->words[n / 64] & bit) == 0;
    numbers->words[n / 64] |= bit;
    return new;
}

bool numbers_remove(struct numbers *numbers, uint64_t n)
{
    if (!numbers_have(numbers, n))
        return false;
    numbers->words[n / 64] &= ~((uint64_t)1 << (n % 64));
    return true;
}

void numbers_clear(struct numbers *numbers)
{
    if (numbers->word_count > 0)
        memset(numbers->words, 0, numbers->word_count * sizeof(uint64_t));
}

enum arrival track_deliver(struct track *track, uint64_t place)
{
    if (!numbers_add(&track->delivered, place))
        return ARRIVAL_REPEATED;
    if (place < track->above)
        return ARRIVAL_OUT_OF_ORDER;
    track->above = place + 1;
    return ARRIVAL_IN_ORDER;
}

/* Stride 1, the common case: whole words at once. */
static uint64_t lost_of_all(const struct numbers *acknowledged, const struct numbers *delivered, uint64_t *first)
{
    uint64_t lost = 0;
    for (size_t i = 0; i < acknowledged->word_count; i++) {
        uint64_t missing = acknowledged->words[i];
        if (i < delivered->word_count)
            missing &= ~delivered->words[i];
        if (missing != 0 && lost == 0)
            *first = i * 64 + (uint64_t)__builtin_ctzll(missing);
        lost += (uint64_t)__builtin_popcountll(missing);
    }
    return lost;
}

uint64_t ledger_lost(const struct numbers *acknowledged, uint64_t stride, uint64_t offset, const struct track *track,
                     uint64_t *first)
{
    if (stride == 1)
        return lost_of_all(acknowledged, &track->delivered, first);
    uint64_t lost = 0;
    for (uint64_t n = offset; n / 64 < acknowledged->word_count; n += stride) {
        if (!numbers_have(acknowledged, n) || numbers_have(&track->delivered, n / stride))
            continue;
        if (lost++ == 0)
            *first = n;
    }
    return lost;
}
