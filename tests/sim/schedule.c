#include "schedule.h"

#include <stdlib.h>

#include "base/memory.h"

struct event {
    uint64_t at_us, number;
    schedule_action *action;
    uint64_t key;
    void *data;
};

struct schedule {
    struct event *heap;
    size_t count, capacity;
    uint64_t now_us, added, run;
};

struct schedule *schedule_new(void)
{
    return memory_zeroed(1, sizeof(struct schedule));
}

void schedule_free(struct schedule *schedule)
{
    for (size_t i = 0; i < schedule->count; i++)
        free(schedule->heap[i].data);
    free(schedule->heap);
    free(schedule);
}

uint64_t schedule_now_us(const struct schedule *schedule)
{
    return schedule->now_us;
}

uint64_t schedule_count(const struct schedule *schedule)
{
    return schedule->run;
}

static int before(const struct event *a, const struct event *b)
{
    return a->at_us != b->at_us ? a->at_us < b->at_us : a->number < b->number;
}

void schedule_add(struct schedule *schedule, uint64_t at_us, schedule_action *action, uint64_t key, void *data)
{
    if (schedule->count == schedule->capacity) {
        schedule->capacity = schedule->capacity > 0 ? 2 * schedule->capacity : 256;
        schedule->heap = memory_resize(schedule->heap, schedule->capacity * sizeof *schedule->heap);
    }
    if (at_us < schedule->now_us)
        at_us = schedule->now_us;
    struct event event = {at_us, schedule->added++, action, key, data};
    size_t i = schedule->count++;
    while (i > 0 && before(&event, &schedule->heap[(i - 1) / 2])) {
        schedule->heap[i] = schedule->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    schedule->heap[i] = event;
}

static struct event take_first(struct schedule *schedule)
{
    struct event first = schedule->heap[0], last = schedule->heap[--schedule->count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= schedule->count)
            break;
        if (child + 1 < schedule->count && before(&schedule->heap[child + 1], &schedule->heap[child]))
            child++;
        if (!before(&schedule->heap[child], &last))
            break;
        schedule->heap[i] = schedule->heap[child];
        i = child;
    }
    schedule->heap[i] = last;
    return first;
}

int schedule_run_next(struct schedule *schedule, void *world, uint64_t until_us)
{
    if (schedule->count == 0 || schedule->heap[0].at_us > until_us) {
        schedule->now_us = until_us;
        return 0;
    }
    struct event event = take_first(schedule);
    schedule->now_us = event.at_us;
    schedule->run++;
    event.action(world, event.key, event.data);
    free(event.data);
    return 1;
}
