#include "bytes.h"

#include "memory.h"

#include <stdlib.h>
#include <string.h>

struct bytes bytes_text(const char *text)
{
    return bytes_of(text, strlen(text));
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0)
        return order;
    return a.size < b.size ? -1 : a.size > b.size;
}

bool bytes_starts_with(struct bytes text, struct bytes prefix)
{
    return text.size >= prefix.size && (prefix.size == 0 || memcmp(text.data, prefix.data, prefix.size) == 0);
}

void buffer_release(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

void buffer_clear(struct buffer *buffer)
{
    buffer->size = 0;
}

void buffer_reserve(struct buffer *buffer, size_t more)
{
    if (buffer->capacity - buffer->size >= more)
        return;
    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity * 2;
    if (capacity < buffer->size + more)
        capacity = buffer->size + more;
    buffer->data = memory_resize(buffer->data, capacity);
    buffer->capacity = capacity;
}

void buffer_consume(struct buffer *buffer, size_t count)
{
    if (count >= buffer->size) {
        buffer->size = 0;
        return;
    }
    memmove(buffer->data, buffer->data + count, buffer->size - count);
    buffer->size -= count;
}

void buffer_put(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0)
        return;
    buffer_reserve(buffer, size);
    memcpy(buffer->data + buffer->size, data, size);
    buffer->size += size;
}

void buffer_put_bytes(struct buffer *buffer, struct bytes bytes)
{
    buffer_put(buffer, bytes.data, bytes.size);
}

static void put_little_endian(struct buffer *buffer, uint64_t value, size_t width)
{
    buffer_reserve(buffer, width);
    for (size_t i = 0; i < width; i++)
        buffer->data[buffer->size++] = (uint8_t)(value >> (8 * i));
}

void buffer_put_u8(struct buffer *buffer, uint8_t value)
{
    put_little_endian(buffer, value, 1);
}

void buffer_put_u16(struct buffer *buffer, uint16_t value)
{
    put_little_endian(buffer, value, 2);
}

void buffer_put_u32(struct buffer *buffer, uint32_t value)
{
    put_little_endian(buffer, value, 4);
}

void buffer_put_u64(struct buffer *buffer, uint64_t value)
{
    put_little_endian(buffer, value, 8);
}

void buffer_put_varint(struct buffer *buffer, uint64_t value)
{
    while (value >= 0x80) {
        buffer_put_u8(buffer, (uint8_t)(value | 0x80));
        value >>= 7;
    }
    buffer_put_u8(buffer, (uint8_t)value);
}

void buffer_put_block(struct buffer *buffer, struct bytes bytes)
{
    buffer_put_varint(buffer, bytes.size);
    buffer_put_bytes(buffer, bytes);
}

struct bytes reader_bytes(struct reader *reader, size_t size)
{
    if (reader->failed || reader->rest.size < size) {
        reader->failed = true;
        return (struct bytes){0};
    }
    struct bytes taken = {reader->rest.data, size};
    reader->rest.data = size > 0 ? reader->rest.data + size : reader->rest.data;
    reader->rest.size -= size;
    return taken;
}

static uint64_t read_little_endian(struct reader *reader, size_t width)
{
    struct bytes taken = reader_bytes(reader, width);
    uint64_t value = 0;
    for (size_t i = 0; i < taken.size; i++)
        value |= (uint64_t)taken.data[i] << (8 * i);
    return value;
}

uint8_t reader_u8(struct reader *reader)
{
    return (uint8_t)read_little_endian(reader, 1);
}

uint16_t reader_u16(struct reader *reader)
{
    return (uint16_t)read_little_endian(reader, 2);
}

uint32_t reader_u32(struct reader *reader)
{
    return (uint32_t)read_little_endian(reader, 4);
}

uint64_t reader_u64(struct reader *reader)
{
    return read_little_endian(reader, 8);
}

uint64_t reader_varint(struct reader *reader)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = reader_u8(reader);
        if (reader->failed)
            return 0;
        bool too_long = shift == 63 && byte > 1;
        bool not_shortest = shift > 0 && byte == 0;
        if (too_long || not_shortest)
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
    reader->failed = true;
    return 0;
}

struct bytes reader_block(struct reader *reader)
{
    uint64_t size = reader_varint(reader);
    if (size > reader->rest.size) {
        reader->failed = true;
        return (struct bytes){0};
    }
    return reader_bytes(reader, (size_t)size);
}

bool reader_done(const struct reader *reader)
{
    return !reader->failed && reader->rest.size == 0;
}
