/* frame.c — see frame.h. */
#include "frame.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct frame *frame_new(uint32_t capacity)
{
    struct frame *frame = memory_allocate(sizeof(*frame) + capacity);

    frame->references = 1;
    frame->size = 0;
    frame->capacity = capacity;
    return frame;
}

struct frame *frame_of(struct bytes bytes)
{
    struct frame *frame;

    assert(bytes.size <= UINT32_MAX);
    frame = frame_new((uint32_t)bytes.size);
    if (bytes.size > 0)
        memcpy(frame->data, bytes.data, bytes.size);
    frame->size = (uint32_t)bytes.size;
    return frame;
}

struct frame *frame_retain(struct frame *frame)
{
    assert(frame->references > 0);
    frame->references++;
    return frame;
}

void frame_release(struct frame *frame)
{
    if (frame == NULL)
        return;
    assert(frame->references > 0);
    if (--frame->references == 0)
        free(frame);
}

bool frame_append(struct frame *frame, struct bytes bytes)
{
    if (frame->references != 1 || frame->capacity - frame->size < bytes.size)
        return false;
    if (bytes.size > 0)
        memcpy(frame->data + frame->size, bytes.data, bytes.size);
    frame->size += (uint32_t)bytes.size;
    return true;
}
