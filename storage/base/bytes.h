/* bytes.h — borrowed byte ranges, growing buffers, and the readers and writers of all our own encodings.
 *
 * Our encodings (log entries, rows, link frames, snapshots) are little-endian with fixed widths, or varints
 * (unsigned LEB128, at most 10 bytes, shortest form only). MQTT's own encoding lives in node/mqtt. */
#ifndef COTERIE_BYTES_H
#define COTERIE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A range that somebody else owns. `data` may be NULL only if `size` is 0. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){data, size};
}

struct bytes bytes_text(const char *text);                  /* without the terminating NUL */
bool bytes_equal(struct bytes a, struct bytes b);
int bytes_compare(struct bytes a, struct bytes b);          /* like memcmp, the shorter first; LMDB's key order */
bool bytes_starts_with(struct bytes text, struct bytes prefix);

/* A growing array of bytes. Zero-initialised is empty and valid. Growth never fails (memory.h). */
struct buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
};

void buffer_release(struct buffer *buffer);                 /* frees; the buffer is empty and valid again */
void buffer_clear(struct buffer *buffer);                   /* size 0, keeps the memory */
void buffer_reserve(struct buffer *buffer, size_t more);    /* room for `more` bytes behind `size` */
void buffer_consume(struct buffer *buffer, size_t count);   /* drops `count` bytes from the front */
void buffer_put(struct buffer *buffer, const void *data, size_t size);
void buffer_put_bytes(struct buffer *buffer, struct bytes bytes);   /* just the bytes */
void buffer_put_u8(struct buffer *buffer, uint8_t value);
void buffer_put_u16(struct buffer *buffer, uint16_t value);
void buffer_put_u32(struct buffer *buffer, uint32_t value);
void buffer_put_u64(struct buffer *buffer, uint64_t value);
void buffer_put_varint(struct buffer *buffer, uint64_t value);
void buffer_put_block(struct buffer *buffer, struct bytes bytes);   /* varint length, then the bytes */

static inline struct bytes buffer_bytes(const struct buffer *buffer)
{
    return (struct bytes){buffer->data, buffer->size};
}

/* Takes values off the front of `rest`. A read beyond the end, or a varint that is too long or not in shortest
 * form, sets `failed` and returns 0 or empty; from then on every read does. Check once, at the end. */
struct reader {
    struct bytes rest;
    bool failed;
};

static inline struct reader reader_of(struct bytes bytes)
{
    return (struct reader){bytes, false};
}

uint8_t reader_u8(struct reader *reader);
uint16_t reader_u16(struct reader *reader);
uint32_t reader_u32(struct reader *reader);
uint64_t reader_u64(struct reader *reader);
uint64_t reader_varint(struct reader *reader);
struct bytes reader_bytes(struct reader *reader, size_t size);      /* borrowed from the input */
struct bytes reader_block(struct reader *reader);                   /* what buffer_put_block wrote; borrowed */
bool reader_done(const struct reader *reader);                      /* all read, nothing failed */

#endif
