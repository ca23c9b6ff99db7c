#include "utf8.h"

#include <string.h>

/* A range of lead bytes: how many bytes follow, and between what the first of these lies (it alone decides whether
 * the form is the shortest, a surrogate, or beyond U+10FFFF). The others are 0x80 to 0xBF. Unicode, table 3-7. */
struct sequence {
    uint8_t lead_min, lead_max;
    uint8_t following;
    uint8_t second_min, second_max;
};

static const struct sequence sequences[] = {
    {0xc2, 0xdf, 1, 0x80, 0xbf}, /* C0 and C1 would be overlong */
    {0xe0, 0xe0, 2, 0xa0, 0xbf}, /* below: overlong */
    {0xe1, 0xec, 2, 0x80, 0xbf},
    {0xed, 0xed, 2, 0x80, 0x9f}, /* above: surrogates */
    {0xee, 0xef, 2, 0x80, 0xbf},
    {0xf0, 0xf0, 3, 0x90, 0xbf}, /* below: overlong */
    {0xf1, 0xf3, 3, 0x80, 0xbf},
    {0xf4, 0xf4, 3, 0x80, 0x8f}, /* above, and F5 to FF: beyond U+10FFFF */
};

#define ONES UINT64_C(0x0101010101010101)
#define HIGH UINT64_C(0x8080808080808080)

/* Number of bytes at the front, in steps of eight, that are U+0001 to U+007F: most topics are nothing else. */
static size_t plain_prefix(struct bytes text)
{
    size_t at = 0;
    while (text.size - at >= 8) {
        uint64_t eight;
        memcpy(&eight, text.data + at, 8);
        uint64_t zero_or_high = ((eight - ONES) | eight) & HIGH;
        if (zero_or_high != 0)
            break;
        at += 8;
    }
    return at;
}

/* Size of the multi-byte sequence at the front of `text`, which is not empty; 0 = not a valid one. */
static size_t sequence_size(struct bytes text)
{
    uint8_t lead = text.data[0];
    for (size_t i = 0; i < sizeof sequences / sizeof sequences[0]; i++) {
        const struct sequence *s = &sequences[i];
        if (lead < s->lead_min || lead > s->lead_max)
            continue;
        if (text.size <= s->following || text.data[1] < s->second_min || text.data[1] > s->second_max)
            return 0;
        for (size_t k = 2; k <= s->following; k++)
            if ((text.data[k] & 0xc0) != 0x80)
                return 0;
        return 1u + s->following;
    }
    return 0;
}

bool utf8_valid(struct bytes text)
{
    size_t at = plain_prefix(text);
    while (at < text.size) {
        uint8_t byte = text.data[at];
        if (byte == 0)
            return false;
        if (byte < 0x80) {
            at++;
            continue;
        }
        size_t size = sequence_size(bytes_of(text.data + at, text.size - at));
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}
