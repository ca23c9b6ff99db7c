/* index.h — which filters match a topic: a trie of levels.
 *
 * Holds any values under filters; never iterates a hash table, so that matches come in an order that depends only on
 * which filters are present. Matching allocates nothing once its arrays have grown to what the filters need, does not
 * recurse, and visits each node of the trie at most once: filters that mix '+' and names over many levels cost no more
 * than the nodes they consist of. */
#ifndef COTERIE_INDEX_H
#define COTERIE_INDEX_H

#include "base/bytes.h"

struct index;

struct index *index_new(void);
void index_free(struct index *index);                       /* not the values */

/* Filters are plain and valid (topic.h). Values are not NULL. */
void index_insert(struct index *index, struct bytes filter, void *value);   /* the filter is not there yet */
void *index_get(const struct index *index, struct bytes filter);            /* NULL: not there */
void *index_remove(struct index *index, struct bytes filter);               /* NULL: was not there */

/* Finds all values whose filter matches `topic`, in steps: `topic` is borrowed until the last one, and the index does not
 * change meanwhile. Each node of the trie that is visited takes one off *budget; true: it is used up, and there is more. A
 * topic that begins with '$' is not matched by a filter that begins with a wildcard. */
void index_match_begin(struct index *index, struct bytes topic);
bool index_match_more(struct index *index, uint32_t *budget);
/* What was found, and how many; *values lives until the next match begins. */
uint32_t index_matches(const struct index *index, void ***values);

#endif
