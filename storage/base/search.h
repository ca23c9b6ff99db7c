/* search.h — the place of a number in a row that ascends: where it is, or where it would have to go. Pure.
 *
 * The caller says what the row is and which number stands at each place; inlined, so that this costs no calls. */
#ifndef COTERIE_SEARCH_H
#define COTERIE_SEARCH_H

#include <stdint.h>

/* The first place, of 0 to count - 1, at which the number is >= `wanted`; `count` if there is none. */
static inline uint32_t search_first(const void *row, uint32_t count, uint64_t wanted,
                                    uint64_t (*number_at)(const void *row, uint32_t place))
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (number_at(row, middle) < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

#endif
