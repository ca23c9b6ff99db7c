#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *pointer, size_t size)
{
    if (pointer == NULL) {
        fprintf(stderr, "coterie: out of memory (%zu bytes)\n", size);
        abort();
    }
    return pointer;
}

void *memory_allocate(size_t size)
{
    return checked(malloc(size > 0 ? size : 1), size);
}

void *memory_zeroed(size_t count, size_t size)
{
    if (count == 0 || size == 0)
        return checked(calloc(1, 1), 0);
    return checked(calloc(count, size), size);
}

void *memory_resize(void *pointer, size_t size)
{
    return checked(realloc(pointer, size > 0 ? size : 1), size);
}

void *memory_copy(const void *source, size_t size)
{
    void *copy = memory_allocate(size);
    if (size > 0)
        memcpy(copy, source, size);
    return copy;
}

char *memory_text(const char *text)
{
    return memory_copy(text, strlen(text) + 1);
}
