/* conn_ready.h — sockets that wait to be readable, or to be writable: an epoll set, which is one thing for the loop to poll.
 *
 * libuv by itself would call back all that are ready, up to 48 times 1,024, before it lets the loop go on. Out of this set no
 * more are taken in a turn than there is time for: the others stay ready, and the kernel hands those out first that have
 * waited longest. */
#ifndef COTERIE_CONN_READY_H
#define COTERIE_CONN_READY_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct ready_set;

struct ready_calls {
    void *context;
    bool (*takes)(void *context);            /* whether there is time for one more */
    void (*ready)(void *context, void *item); /* `item` is; may add and remove any */
};

/* `events`: EPOLLIN or EPOLLOUT. A process that can have no descriptor for it as it begins is aborted. */
struct ready_set *ready_new(uv_loop_t *loop, uint32_t events, const struct ready_calls *calls);
void ready_free(struct ready_set *set); /* empty; while the loop runs */

/* It is told of errors as well, for reading or writing to find out. false: the kernel has no memory for it. */
bool ready_add(struct ready_set *set, int fd, void *item);
/* It was added, and its descriptor is still open. */
void ready_remove(struct ready_set *set, int fd, void *item);

#endif
