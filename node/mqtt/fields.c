#include "fields.h"

#include <assert.h>

#define VARINT_BYTES_MAX 4
#define VARINT_MAX 268435455u

uint16_t field_u16(struct reader *in)
{
    struct bytes taken = reader_bytes(in, 2);
    return in->failed ? 0 : (uint16_t)(taken.data[0] << 8 | taken.data[1]);
}

uint32_t field_u32(struct reader *in)
{
    uint32_t high = field_u16(in);
    return high << 16 | field_u16(in);
}

uint32_t field_varint(struct reader *in)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        struct bytes taken = reader_bytes(in, 1);
        if (in->failed)
            return 0;
        uint8_t byte = taken.data[0];
        value |= (uint32_t)(byte & 0x7f) << (7 * i);
        bool shortest = i == 0 || byte != 0;
        if (byte < 0x80 && shortest)
            return value;
        if (byte < 0x80)
            break;
    }
    in->failed = true;
    return 0;
}

struct bytes field_block(struct reader *in)
{
    uint16_t size = field_u16(in);
    return reader_bytes(in, size);
}

void field_put_u16(struct buffer *out, uint16_t value)
{
    const uint8_t bytes[] = {(uint8_t)(value >> 8), (uint8_t)value};
    buffer_put(out, bytes, sizeof bytes);
}

void field_put_u32(struct buffer *out, uint32_t value)
{
    field_put_u16(out, (uint16_t)(value >> 16));
    field_put_u16(out, (uint16_t)value);
}

void field_put_varint(struct buffer *out, uint32_t value)
{
    assert(value <= VARINT_MAX);
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        bytes[size++] = (uint8_t)(value | 0x80);
    bytes[size++] = (uint8_t)value;
    buffer_put(out, bytes, size);
}

void field_put_block(struct buffer *out, struct bytes bytes)
{
    assert(bytes.size <= UINT16_MAX);
    field_put_u16(out, (uint16_t)bytes.size);
    buffer_put_bytes(out, bytes);
}
