/* frame.h — encoded bytes for a socket, shared by reference count.
 *
 * A message that goes to a thousand subscribers is encoded once per form and the frame is shared. Once a frame has
 * been handed to a second holder it is never written to again. Frames are not thread-safe: all holders share a loop. */
#ifndef COTERIE_FRAME_H
#define COTERIE_FRAME_H

#include "base/bytes.h"

struct frame {
    uint32_t references;
    uint32_t size;       /* bytes in use */
    uint32_t capacity;
    uint8_t data[];
};

struct frame *frame_new(uint32_t capacity);             /* size 0, one reference */
struct frame *frame_of(struct bytes bytes);             /* a copy, one reference */
struct frame *frame_retain(struct frame *frame);        /* one more reference; returns `frame` */
void frame_release(struct frame *frame);                /* one less; the last one frees. NULL is allowed */

/* Appends to a frame that nobody else holds; false: shared, or no room. */
bool frame_append(struct frame *frame, struct bytes bytes);

#endif
