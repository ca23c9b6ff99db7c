/* id_list.h — short ascending lists of message ids. Zero-initialised is empty and valid. */
#ifndef COTERIE_ID_LIST_H
#define COTERIE_ID_LIST_H

#include "base/bytes.h"

struct id_list {
    uint64_t *ids;
    uint32_t count, capacity;
};

void id_list_release(struct id_list *list);
bool id_list_has(const struct id_list *list, uint64_t id);
void id_list_add(struct id_list *list, uint64_t id);            /* kept sorted; adding what is there changes nothing */
void id_list_remove(struct id_list *list, uint64_t id);         /* nothing if it is not there */
void id_list_remove_upto(struct id_list *list, uint64_t id);    /* all <= id */
uint64_t id_list_after(const struct id_list *list, uint64_t id); /* the first > id; UINT64_MAX = none */

/* Encoded as a count and the differences, all varints. Reading fails (reader->failed) unless they ascend. */
void id_list_put(const struct id_list *list, struct buffer *out);
void id_list_read(struct id_list *list, struct reader *in);

#endif
