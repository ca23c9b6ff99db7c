#include "conn_ready.h"

#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define FOUND_MAX 64 /* taken out of the set at once */

struct ready_set {
    struct ready_calls calls;
    uint32_t events;
    uint32_t size; /* items in the set */
    int epoll;
    uv_poll_t *poll;
    void *found[FOUND_MAX]; /* ready, to be taken from `first` on; NULL: removed since */
    unsigned first, count;
};

static unsigned find(struct ready_set *set)
{
    struct epoll_event events[FOUND_MAX];
    int count = epoll_pwait(set->epoll, events, FOUND_MAX, 0, NULL);
    set->first = set->count = 0;
    for (int i = 0; i < count; i++)
        set->found[set->count++] = events[i].data.ptr;
    return set->count;
}

/* Each that is ready is taken once, so that who is so again and again does not hold up the turn. What is found and not taken
 * comes first in the next turn: it stays ready, and so does the set. */
static void some_are_ready(uv_poll_t *poll, int status, int events)
{
    struct ready_set *set = poll->data;
    (void)status;
    (void)events;
    unsigned found = FOUND_MAX;
    for (uint32_t left = set->size; left > 0 && set->calls.takes(set->calls.context); left--) {
        if (set->first == set->count && (found < FOUND_MAX || (found = find(set)) == 0))
            return; /* those were all */
        void *item = set->found[set->first++];
        if (item != NULL)
            set->calls.ready(set->calls.context, item);
    }
}

struct ready_set *ready_new(uv_loop_t *loop, uint32_t events, const struct ready_calls *calls)
{
    struct ready_set *set = memory_zeroed(1, sizeof(*set));
    set->calls = *calls;
    set->events = events;
    set->epoll = epoll_create1(EPOLL_CLOEXEC);
    set->poll = memory_zeroed(1, sizeof(*set->poll));
    if (set->epoll < 0 || uv_poll_init(loop, set->poll, set->epoll) != 0)
        abort();
    set->poll->data = set;
    uv_unref((uv_handle_t *)set->poll);
    uv_poll_start(set->poll, UV_READABLE, some_are_ready);
    return set;
}

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

void ready_free(struct ready_set *set)
{
    assert(set->size == 0);
    uv_close((uv_handle_t *)set->poll, free_handle);
    close(set->epoll);
    free(set);
}

bool ready_add(struct ready_set *set, int fd, void *item)
{
    struct epoll_event event = {.events = set->events, .data.ptr = item};
    bool added = epoll_ctl(set->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
    set->size += added;
    return added;
}

void ready_remove(struct ready_set *set, int fd, void *item)
{
    epoll_ctl(set->epoll, EPOLL_CTL_DEL, fd, NULL);
    set->size--;
    for (unsigned i = set->first; i < set->count; i++) {
        if (set->found[i] == item)
            set->found[i] = NULL;
    }
}
