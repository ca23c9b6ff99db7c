/* index.c — the trie: a node per level of a filter.
 *
 *   a/+/c   root -a-> node -plus-> node -c-> node.here = value
 *   a/#     root -a-> node.below = value               ('#' stands for everything below, and for "a" itself)
 *
 * Children are in one hash table for the whole trie, by (parent, level). Matching goes level by level with
 * the set of nodes that the topic has reached so far. Two branches never meet again in a tree, so the set never holds a
 * node twice and is never larger than the trie is at that depth. */
#include "index.h"

#include "base/hash.h"
#include "base/memory.h"
#include "base/hash_table.h"
#include "base/topic.h"

#include <assert.h>
#include <stdlib.h>

struct node;

/* The key of a child. In the table it borrows its text from the node that it belongs to. */
struct child_key {
    const struct node *parent;
    struct bytes level;
};

struct node {
    struct node *parent;
    struct child_key key;        /* how it hangs below the parent; level "+" for a plus child */
    uint8_t *text;               /* of the level; ours */
    struct node *plus;
    uint32_t named_children;
    void *here;                  /* value of the filter that ends here */
    void *below;                 /* value of the filter that goes on with "#" */
};

struct node_set {
    struct node **nodes;
    uint32_t count, capacity;
};

struct index {
    struct node root;
    struct hash_table children;       /* nodes by (parent, level) */
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

static uint64_t key_hash(const struct child_key *key)
{
    return hash_both((uintptr_t)key->parent, key->level);
}

static uint64_t node_hash(const void *thing)
{
    const struct node *node = thing;
    return key_hash(&node->key);
}

static bool node_is(const void *thing, const void *wanted)
{
    const struct node *node = thing;
    const struct child_key *key = wanted;
    return node->key.parent == key->parent && bytes_equal(node->key.level, key->level);
}

struct index *index_new(void)
{
    struct index *index = memory_zeroed(1, sizeof *index);
    hash_table_init(&index->children, node_hash);
    return index;
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
    struct node *node;
    uint64_t slot = 0;
    while ((node = hash_table_next(&index->children, &slot)) != NULL)
        node_free(node);
    hash_table_release(&index->children);
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
    return hash_table_find(&index->children, key_hash(&key), node_is, &key);
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
    /* Plus children are in the table as well, for index_free; find_named is not asked for them. */
    hash_table_add(&index->children, child);
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
        hash_table_remove(&index->children, node);
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
    prune(index, end);
    return value;
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
