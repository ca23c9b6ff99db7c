/* hashes.c — see hashes.h. */
#include "hashes.h"

#include <assert.h>
#include <string.h>

#include "members.h"

/* The row of `index`, or the oldest one, emptied for it; NULL: `index` is older than all that are kept. */
static struct hashes_row *row_of(struct hashes *hashes, uint64_t index)
{
    struct hashes_row *oldest = &hashes->rows[0];
    for (int i = 0; i < HASHES_KEPT; i++) {
        struct hashes_row *row = &hashes->rows[i];
        if (row->index == index)
            return row;
        if (row->index < oldest->index)
            oldest = row;
    }
    if (oldest->index > index)
        return NULL;
    memset(oldest, 0, sizeof *oldest);
    oldest->index = index;
    return oldest;
}

static bool same(const struct hashes_row *row, uint32_t a, uint32_t b)
{
    return row->hash[a][0] == row->hash[b][0] && row->hash[a][1] == row->hash[b][1];
}

/* Who reported the same as `node`. */
static uint64_t agreeing(const struct hashes_row *row, uint32_t node)
{
    uint64_t nodes = 0;
    for (uint32_t other = 0; other < HASHES_NODES; other++)
        if ((row->reported & NODE_BIT(other)) && same(row, node, other))
            nodes |= NODE_BIT(other);
    return nodes;
}

enum hashes_verdict hashes_add(struct hashes *hashes, uint64_t index, uint32_t node, const uint64_t hash[2],
                               uint32_t self, uint64_t voters, uint64_t *differing)
{
    assert(index > 0 && node < HASHES_NODES && self < HASHES_NODES);
    struct hashes_row *row = row_of(hashes, index);
    *differing = 0;
    if (row == NULL)
        return HASHES_OPEN;
    row->reported |= NODE_BIT(node);
    row->hash[node][0] = hash[0];
    row->hash[node][1] = hash[1];

    for (uint32_t one = 0; one < HASHES_NODES; one++) {
        if (!(row->reported & NODE_BIT(one)))
            continue;
        uint64_t group = agreeing(row, one);
        if (2 * __builtin_popcountll(group & voters) <= __builtin_popcountll(voters))
            continue;
        *differing = row->reported & ~group;
        if (*differing & NODE_BIT(self))
            return HASHES_SELF;
        return *differing != 0 ? HASHES_OTHER : HASHES_OPEN;
    }
    return HASHES_OPEN;
}
