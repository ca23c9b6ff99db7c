/* input.h — the bytes of a fuzzer as a source of decisions: each takes some off the front, and the end gives zeros.
 *
 * So an input is a program of small steps; the fuzzer changes, cuts and joins such programs. Zero should be the dullest
 * choice everywhere, and a program that has ended (input_done) is over. */
#ifndef COTERIE_FUZZ_INPUT_H
#define COTERIE_FUZZ_INPUT_H

#include "base/bytes.h"

struct input {
    const uint8_t *data;
    size_t size;
};

static inline bool input_done(const struct input *in)
{
    return in->size == 0;
}

static inline uint8_t input_u8(struct input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

static inline uint16_t input_u16(struct input *in)
{
    uint16_t low = input_u8(in);
    return (uint16_t)(low | input_u8(in) << 8);
}

static inline uint64_t input_u64(struct input *in)
{
    uint64_t value = 0;
    for (int i = 0; i < 8; i++)
        value |= (uint64_t)input_u8(in) << 8 * i;
    return value;
}

/* 0 to limit - 1; limit is at most 65,536. */
static inline uint32_t input_below(struct input *in, uint32_t limit)
{
    return (limit <= 256 ? input_u8(in) : input_u16(in)) % limit;
}

/* True once in `times`. */
static inline bool input_rarely(struct input *in, uint32_t times)
{
    return input_below(in, times) == times - 1;
}

/* 0 to max bytes (max is at most 255), borrowed. */
static inline struct bytes input_bytes(struct input *in, uint32_t max)
{
    size_t size = input_below(in, max + 1);
    if (size > in->size)
        size = in->size;
    struct bytes bytes = bytes_of(in->data, size);
    in->data += size;
    in->size -= size;
    return bytes;
}

#endif
