/* memory.h — allocation that does not fail.
 *
 * A node that cannot allocate stops (and its peers go on): a replica that skipped a command for want of memory
 * would diverge, which is worse. So these never return NULL; on exhaustion they print one line and abort.
 * Sizes that come from outside are bounded by their limits before they get here. */
#ifndef COTERIE_MEMORY_H
#define COTERIE_MEMORY_H

#include <stddef.h>

void *memory_allocate(size_t size);                /* uninitialised; free() it */
void *memory_zeroed(size_t count, size_t size);    /* like calloc */
void *memory_resize(void *pointer, size_t size);   /* like realloc; NULL in, new block out */
void *memory_copy(const void *source, size_t size); /* a copy of `size` bytes; never NULL, also for 0 */
char *memory_text(const char *text);               /* like strdup */

#endif
