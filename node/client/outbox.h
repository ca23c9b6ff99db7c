/* outbox.h — the frames that one connection is to send at the end of this turn.
 *
 * Chunks come from a pool that all connections share, and go back after the write: an idle connection holds none. */
#ifndef COTERIE_OUTBOX_H
#define COTERIE_OUTBOX_H

#include "frame.h"

#define OUTBOX_CHUNK_FRAMES 30

struct outbox_chunk;

struct outbox_pool {
    struct outbox_chunk *free;
};

struct outbox {
    struct outbox_chunk *first, *last;
    size_t bytes;
};

void outbox_pool_release(struct outbox_pool *pool);

void outbox_put(struct outbox_pool *pool, struct outbox *outbox, struct frame *frame);   /* takes one reference over */
/* Small packets in a row share a frame. */
void outbox_put_bytes(struct outbox_pool *pool, struct outbox *outbox, struct bytes bytes);
bool outbox_empty(const struct outbox *outbox);
/* Moves all frames, with their references, to the end of `frames` (an array of struct frame *); empties the outbox. */
void outbox_take(struct outbox_pool *pool, struct outbox *outbox, struct buffer *frames);
void outbox_release(struct outbox_pool *pool, struct outbox *outbox);                    /* drops all */

#endif
