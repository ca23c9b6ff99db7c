#include "id_list.h"

#include "base/memory.h"
#include "base/search.h"

#include <stdlib.h>
#include <string.h>

void id_list_release(struct id_list *list)
{
    free(list->ids);
    *list = (struct id_list){0};
}

static uint64_t id_at(const void *ids, uint32_t place)
{
    return ((const uint64_t *)ids)[place];
}

/* Where the first id >= `id` is, or would be. */
static uint32_t lower_bound(const struct id_list *list, uint64_t id)
{
    return search_first(list->ids, list->count, id, id_at);
}

bool id_list_has(const struct id_list *list, uint64_t id)
{
    uint32_t at = lower_bound(list, id);
    return at < list->count && list->ids[at] == id;
}

void id_list_add(struct id_list *list, uint64_t id)
{
    uint32_t at = lower_bound(list, id);
    if (at < list->count && list->ids[at] == id)
        return;
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 4 : list->capacity * 2;
        list->ids = memory_resize(list->ids, list->capacity * sizeof *list->ids);
    }
    memmove(list->ids + at + 1, list->ids + at, (list->count - at) * sizeof *list->ids);
    list->ids[at] = id;
    list->count++;
}

static void remove_range(struct id_list *list, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    memmove(list->ids + from, list->ids + to, (list->count - to) * sizeof *list->ids);
    list->count -= to - from;
}

void id_list_remove(struct id_list *list, uint64_t id)
{
    uint32_t at = lower_bound(list, id);
    if (at < list->count && list->ids[at] == id)
        remove_range(list, at, at + 1);
}

void id_list_remove_upto(struct id_list *list, uint64_t id)
{
    remove_range(list, 0, id == UINT64_MAX ? list->count : lower_bound(list, id + 1));
}

uint64_t id_list_after(const struct id_list *list, uint64_t id)
{
    uint32_t at = id == UINT64_MAX ? list->count : lower_bound(list, id + 1);
    return at < list->count ? list->ids[at] : UINT64_MAX;
}

void id_list_put(const struct id_list *list, struct buffer *out)
{
    uint64_t previous = 0;
    buffer_put_varint(out, list->count);
    for (uint32_t i = 0; i < list->count; i++) {
        buffer_put_varint(out, list->ids[i] - previous);
        previous = list->ids[i];
    }
}

void id_list_read(struct id_list *list, struct reader *in)
{
    uint64_t count = reader_varint(in);
    uint64_t id = 0;
    for (uint64_t i = 0; i < count && !in->failed; i++) {
        uint64_t step = reader_varint(in);
        if (step == 0 || step > UINT64_MAX - id)
            in->failed = true;
        id += step;
        id_list_add(list, id);
    }
}
