/* buffer.h — growing byte arrays for the load generator, and memory that is never NULL.
 *
 * The generator shares no code with the broker: a fault in the broker's own helpers must not hide itself here.
 * Without memory there is nothing to measure, so allocation ends the program with one line instead of failing. */
#ifndef BENCH_BUFFER_H
#define BENCH_BUFFER_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed memory for `count` items, never NULL; free() it. */
void *memory_array(size_t count, size_t size);

/* Grows `old` from `count` to `more` items; the new ones are zero. */
void *memory_grow(void *old, size_t count, size_t more, size_t size);

/* Zero-initialised is empty and valid. */
struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

void buffer_release(struct buffer *buffer);
/* Room for `more` bytes behind `size`: the caller writes them and then adds to `size`. */
uint8_t *buffer_room(struct buffer *buffer, size_t more);
void buffer_put(struct buffer *buffer, const void *data, size_t size);

#endif
