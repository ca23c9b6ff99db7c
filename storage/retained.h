/* retained.h — which message each topic retains, and the topics that a filter matches.
 *
 *   TABLE_RETAINED   topic_key(topic)  → message id, payload bytes, and the topic if its key does not hold all of it
 *   TABLE_META       "retained"        → the totals below
 *
 * Keys sort level by level ('/' is 0x00), so all topics below a level lie together. A scan never walks what cannot
 * match: from each row it computes the smallest key behind it that could match the filter, and seeks there. So `a/+/c`
 * over a million topics below `a/x` costs one seek, and `#` costs one step per match.
 *
 * This module only keeps the register; the reference that it holds to each message is taken and released by the
 * caller (messages.h), who is told what was replaced. */
#ifndef COTERIE_RETAINED_H
#define COTERIE_RETAINED_H

#include "base/bytes.h"
#include "store.h"

/* Embedded in its owner, who calls retained_write_back() before each commit and each hash of the store. */
struct retained {
    struct store *store;         /* borrowed */
    uint64_t count;              /* topics that retain a message */
    uint64_t payload_bytes;      /* of those messages, with their properties */
    uint64_t stored_count;       /* as last written to TABLE_META */
    uint64_t stored_payload_bytes;
    struct buffer scratch;
};

/* Reads the totals. STATUS_CORRUPT: their row is not one of ours. */
enum status retained_init(struct retained *retained, struct store *store);
void retained_release_memory(struct retained *retained);
void retained_write_back(struct retained *retained);

struct retained_entry {
    uint64_t message_id;         /* 0: none */
    uint64_t payload_bytes;
};

bool retained_get(struct retained *retained, struct bytes topic, struct retained_entry *entry);
/* Sets or clears a topic; what it retained before is returned (message id 0: nothing). */
struct retained_entry retained_set(struct retained *retained, struct bytes topic, struct retained_entry entry);
struct retained_entry retained_clear(struct retained *retained, struct bytes topic);

/* ---- scanning ----
 *
 * A scan's whole state is its cursor: bytes that may be kept in a row and used again at any later time, on any node.
 * Everything that sorts up to and including the cursor has been passed. Empty is the beginning. */
#define RETAINED_CURSOR_MAX STORE_KEY_MAX

/* Finds the next topic behind `cursor` that `filter` matches (a topic that begins with '$' is not matched by a filter
 * that begins with a wildcard), and moves the cursor to it. Each row looked at takes one off *budget.
 *   STATUS_OK         *entry is the match
 *   STATUS_BUSY       the budget is used up; the cursor has moved on; call again
 *   STATUS_NOT_FOUND  no match is left */
enum status retained_next(struct retained *retained, struct bytes filter, struct buffer *cursor, uint32_t *budget,
                          struct retained_entry *entry);

/* Whether a scan at `cursor` has already passed `topic`, so that a change there concerns it no more. */
bool retained_passed(struct bytes cursor, struct bytes topic);

#endif
