/* index.c — the trie: a node per level of a filter.
 *
 *   a/+/c   root -a-> node -plus-> node -c-> node.here = value
 *   a/#     root -a-> node.below = value               ('#' stands for everything below, and for "a" itself)
 *
 * Children by name are in one hash table for the whole trie, keyed by (parent, level). Matching goes level by level with
 * the set of nodes that the topic has reached so far. Two branches never meet again in a tree, so the set never holds a
 * node twice and is never larger than the trie is at that depth. */
#include "index.h"

#include "base/memory.h"
#include "base/topic.h"

#include <assert.h>
#include <stdlib.h>
#include <xxhash.h>

struct node;

/* The key of a child. In the table it borrows its text from the node that it belongs to. */
struct child_key {
    const struct node *parent;
    struct bytes level;
};

static inline unsigned child_hash(const void *key);
static inline int child_differs(const void *a, const void *b);
#define HASH_FUNCTION(key, length, hash) ((hash) = child_hash(key))
#define HASH_KEYCMP(a, b, length) child_differs(a, b)
#include <uthash.h>

struct node {
    struct node *parent;
    struct child_key key;        /* how it hangs below the parent; level "+" for a plus child */
    uint8_t *text;               /* of the level; ours */
    struct node *plus;
    uint32_t named_children;
    void *here;                  /* value of the filter that ends here */
    void *below;                 /* value of the filter that goes on with "#" */
    UT_hash_handle hh;
};

struct node_set {
    struct node **nodes;
    uint32_t count, capacity;
};

struct index {
    struct node root;
    struct node *children;       /* hash table over (parent, level) */
    uint64_t count;
    void **matches;
    uint32_t match_count, match_capacity;

    /* The match under way: those before reached.nodes[at] have been asked for `level`, and what they lead to is in next. */
    struct topic_levels levels;
    struct bytes level;
    bool has_level;              /* false: the topic ends at the reached nodes, or nothing was reached */
    bool wildcards;              /* they match this level */
    struct node_set reached, next;
    uint32_t at;
};

/* Seeded with where the parent lies in memory, so that topics cannot be chosen to collide; nothing depends on it. */
static inline unsigned child_hash(const void *key)
{
    const struct child_key *child = key;
    return (unsigned)XXH3_64bits_withSeed(child->level.data, child->level.size, (uintptr_t)child->parent);
}

static inline int child_differs(const void *a, const void *b)
{
    const struct child_key *one = a, *other = b;
    return one->parent != other->parent || !bytes_equal(one->level, other->level);
}

struct index *index_new(void)
{
    return memory_zeroed(1, sizeof(struct index));
}

static void node_free(struct node *node)
{
    free(node->text);
    free(node);
}

void index_free(struct index *index)
{
    if (index == NULL)
        return;
    struct node *node, *next;
    HASH_ITER(hh, index->children, node, next) {
        HASH_DEL(index->children, node);
        node_free(node);
    }
    free(index->reached.nodes);
    free(index->next.nodes);
    free(index->matches);
    free(index);
}

static bool level_is(struct bytes level, char wildcard)
{
    return level.size == 1 && level.data[0] == (uint8_t)wildcard;
}

static struct node *find_named(const struct index *index, const struct node *parent, struct bytes level)
{
    if (parent->named_children == 0)
        return NULL;
    struct child_key key = {parent, level};
    struct node *child;
    HASH_FIND(hh, index->children, &key, sizeof key, child);
    return child;
}

static struct node *find_child(const struct index *index, const struct node *parent, struct bytes level)
{
    return level_is(level, '+') ? parent->plus : find_named(index, parent, level);
}

static struct node *make_child(struct index *index, struct node *parent, struct bytes level)
{
    struct node *child = memory_zeroed(1, sizeof *child);
    child->parent = parent;
    child->text = memory_copy(level.data, level.size);
    child->key = (struct child_key){parent, bytes_of(child->text, level.size)};
    if (level_is(level, '+')) {
        parent->plus = child;
    } else {
        parent->named_children++;
    }
    /* Plus children are in the table as well, for index_free; find_named is never asked for them. */
    HASH_ADD_KEYPTR(hh, index->children, &child->key, sizeof child->key, child);
    return child;
}

/* Removes `node` and its ancestors as long as they lead to nothing. */
static void prune(struct index *index, struct node *node)
{
    while (node->parent != NULL && node->here == NULL && node->below == NULL && node->plus == NULL &&
           node->named_children == 0) {
        struct node *parent = node->parent;
        if (parent->plus == node)
            parent->plus = NULL;
        else
            parent->named_children--;
        HASH_DEL(index->children, node);
        node_free(node);
        node = parent;
    }
}

/* The place for the value of a filter, *end the node it is in; NULL if the filter is not there. */
static void **find_place(const struct index *index, struct bytes filter, struct node **end)
{
    struct topic_levels levels = topic_levels_of(filter);
    struct bytes level;
    struct node *node = (struct node *)&index->root;
    void **place = NULL;
    while (topic_next_level(&levels, &level)) {
        if (level_is(level, '#')) {
            place = &node->below;
            *end = node;
            return place;
        }
        node = find_child(index, node, level);
        if (node == NULL)
            return NULL;
    }
    *end = node;
    return &node->here;
}

void index_insert(struct index *index, struct bytes filter, void *value)
{
    assert(value != NULL);
    struct topic_levels levels = topic_levels_of(filter);
    struct bytes level;
    struct node *node = &index->root;
    bool below = false;
    while (!below && topic_next_level(&levels, &level)) {
        if (level_is(level, '#')) {
            below = true;
        } else {
            struct node *child = find_child(index, node, level);
            node = child != NULL ? child : make_child(index, node, level);
        }
    }
    void **place = below ? &node->below : &node->here;
    assert(*place == NULL);
    *place = value;
    index->count++;
}

void *index_get(const struct index *index, struct bytes filter)
{
    struct node *end;
    void **place = find_place(index, filter, &end);
    return place != NULL ? *place : NULL;
}

void *index_remove(struct index *index, struct bytes filter)
{
    struct node *end;
    void **place = find_place(index, filter, &end);
    if (place == NULL || *place == NULL)
        return NULL;
    void *value = *place;
    *place = NULL;
    index->count--;
    prune(index, end);
    return value;
}

uint64_t index_count(const struct index *index)
{
    return index->count;
}

/* ---- matching ---- */

static void set_add(struct node_set *set, struct node *node)
{
    if (set->count == set->capacity) {
        set->capacity = set->capacity == 0 ? 16 : set->capacity * 2;
        set->nodes = memory_resize(set->nodes, set->capacity * sizeof(struct node *));
    }
    set->nodes[set->count++] = node;
}

static void add_match(struct index *index, void *value)
{
    if (value == NULL)
        return;
    if (index->match_count == index->match_capacity) {
        index->match_capacity = index->match_capacity == 0 ? 16 : index->match_capacity * 2;
        index->matches = memory_resize(index->matches, index->match_capacity * sizeof(void *));
    }
    index->matches[index->match_count++] = value;
}

/* From reached.nodes[at] to the nodes that `level` leads to. */
static void step(struct index *index, const struct node *node, struct bytes level, bool wildcards)
{
    if (wildcards)
        add_match(index, node->below);
    struct node *child = find_named(index, node, level);
    if (child != NULL)
        set_add(&index->next, child);
    if (wildcards && node->plus != NULL)
        set_add(&index->next, node->plus);
}

static void next_level(struct index *index)
{
    struct node_set reached = index->next;
    index->next = index->reached;
    index->next.count = 0;
    index->reached = reached;
    index->at = 0;
    index->wildcards = true;
    index->has_level = index->reached.count > 0 && topic_next_level(&index->levels, &index->level);
}

void index_match_begin(struct index *index, struct bytes topic)
{
    index->levels = topic_levels_of(topic);
    index->match_count = index->reached.count = index->next.count = index->at = 0;
    set_add(&index->reached, &index->root);
    index->has_level = topic_next_level(&index->levels, &index->level);
    index->wildcards = topic.size == 0 || topic.data[0] != '$';
}

bool index_match_more(struct index *index, uint32_t *budget)
{
    while (index->has_level) {
        for (; index->at < index->reached.count; index->at++, --*budget) {
            if (*budget == 0)
                return true;
            step(index, index->reached.nodes[index->at], index->level, index->wildcards);
        }
        next_level(index);
    }
    for (; index->levels.done && index->at < index->reached.count; index->at++, --*budget) {
        if (*budget == 0)
            return true;
        add_match(index, index->reached.nodes[index->at]->here);
        add_match(index, index->reached.nodes[index->at]->below);
    }
    return false;
}

uint32_t index_matches(const struct index *index, void ***values)
{
    *values = index->matches;
    return index->match_count;
}

uint32_t index_match(struct index *index, struct bytes topic, void ***values)
{
    uint32_t budget = UINT32_MAX;
    index_match_begin(index, topic);
    while (index_match_more(index, &budget))
        budget = UINT32_MAX;
    return index_matches(index, values);
}
