/* buffer.c — see buffer.h. */
#include "buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory)
{
    if (memory == NULL) {
        fputs("coterie-bench: out of memory\n", stderr);
        exit(3);
    }
    return memory;
}

void *memory_array(size_t count, size_t size)
{
    return checked(calloc(count > 0 ? count : 1, size));
}

void *memory_grow(void *old, size_t count, size_t more, size_t size)
{
    uint8_t *grown = checked(reallocarray(old, more, size));
    memset(grown + count * size, 0, (more - count) * size);
    return grown;
}

void buffer_release(struct buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct buffer){0};
}

uint8_t *buffer_room(struct buffer *buffer, size_t more)
{
    if (buffer->capacity - buffer->size < more) {
        size_t capacity = buffer->capacity * 2 > 256 ? buffer->capacity * 2 : 256;
        while (capacity - buffer->size < more)
            capacity *= 2;
        buffer->data = checked(realloc(buffer->data, capacity));
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

void buffer_put(struct buffer *buffer, const void *data, size_t size)
{
    if (size == 0)
        return;
    memcpy(buffer_room(buffer, size), data, size);
    buffer->size += size;
}
