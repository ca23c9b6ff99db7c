/* outbox.c — see outbox.h. */
#include "outbox.h"

#include "base/memory.h"

#include <stdlib.h>

#define SMALL_FRAME_BYTES 256 /* room for some 60 acknowledgements */

struct outbox_chunk {
    struct outbox_chunk *next;
    size_t count;
    struct frame *frames[OUTBOX_CHUNK_FRAMES];
};

static struct outbox_chunk *chunk_get(struct outbox_pool *pool)
{
    struct outbox_chunk *chunk = pool->free;

    if (chunk != NULL)
        pool->free = chunk->next;
    else
        chunk = memory_allocate(sizeof(*chunk));
    chunk->next = NULL;
    chunk->count = 0;
    return chunk;
}

static void chunk_put(struct outbox_pool *pool, struct outbox_chunk *chunk)
{
    chunk->next = pool->free;
    pool->free = chunk;
}

void outbox_pool_release(struct outbox_pool *pool)
{
    while (pool->free != NULL) {
        struct outbox_chunk *chunk = pool->free;

        pool->free = chunk->next;
        free(chunk);
    }
}

void outbox_put(struct outbox_pool *pool, struct outbox *outbox, struct frame *frame)
{
    if (outbox->last == NULL || outbox->last->count == OUTBOX_CHUNK_FRAMES) {
        struct outbox_chunk *chunk = chunk_get(pool);

        if (outbox->last == NULL)
            outbox->first = chunk;
        else
            outbox->last->next = chunk;
        outbox->last = chunk;
    }
    outbox->last->frames[outbox->last->count++] = frame;
    outbox->bytes += frame->size;
}

void outbox_put_bytes(struct outbox_pool *pool, struct outbox *outbox, struct bytes bytes)
{
    struct frame *frame;

    if (outbox->last != NULL && frame_append(outbox->last->frames[outbox->last->count - 1], bytes)) {
        outbox->bytes += bytes.size;
        return;
    }
    frame = frame_new((uint32_t)(bytes.size > SMALL_FRAME_BYTES ? bytes.size : SMALL_FRAME_BYTES));
    frame_append(frame, bytes);
    outbox_put(pool, outbox, frame);
}

bool outbox_empty(const struct outbox *outbox)
{
    return outbox->first == NULL;
}

void outbox_take(struct outbox_pool *pool, struct outbox *outbox, struct buffer *frames)
{
    while (outbox->first != NULL) {
        struct outbox_chunk *chunk = outbox->first;

        buffer_put(frames, chunk->frames, chunk->count * sizeof(chunk->frames[0]));
        outbox->first = chunk->next;
        chunk_put(pool, chunk);
    }
    outbox->last = NULL;
    outbox->bytes = 0;
}

void outbox_release(struct outbox_pool *pool, struct outbox *outbox)
{
    while (outbox->first != NULL) {
        struct outbox_chunk *chunk = outbox->first;

        for (size_t i = 0; i < chunk->count; i++)
            frame_release(chunk->frames[i]);
        outbox->first = chunk->next;
        chunk_put(pool, chunk);
    }
    outbox->last = NULL;
    outbox->bytes = 0;
}
