/* entry.h — one entry of the log in memory, shared by reference count between consensus, log and core.
 *
 * Immutable once it has been appended. Counted atomically, because consensus and core may run in different threads. */
#ifndef COTERIE_ENTRY_H
#define COTERIE_ENTRY_H

#include <stdatomic.h>

#include "base/bytes.h"

enum entry_type {
    ENTRY_COMMAND = 1,         /* a batch of commands (command.h) */
    ENTRY_BARRIER = 2,         /* nothing: a new leader's first */
    ENTRY_CONFIGURATION = 3,   /* members of the cluster, in raft's encoding */
};

struct entry {
    uint64_t index;
    uint64_t term;
    enum entry_type type;
    atomic_uint references;
    size_t size;
    uint8_t data[];
};

/* With one reference and a copy of `data`. */
struct entry *entry_new(uint64_t index, uint64_t term, enum entry_type type, struct bytes data);
struct entry *entry_reference(struct entry *entry);
void entry_release(struct entry *entry);

/* What state_apply wants: the batch, or nothing for an entry that holds no command. */
static inline struct bytes entry_batch(const struct entry *entry)
{
    return entry->type == ENTRY_COMMAND ? bytes_of(entry->data, entry->size) : bytes_of(NULL, 0);
}

#endif
