/* trust.h — S12: what no peer may say, whoever it is. Pure.
 *
 * A peer with a valid certificate can still be broken, or in other hands. The library takes honest peers for granted:
 * some messages that one never sends make it abort, or read beyond their end. They are refused here, before it sees them,
 * and the connection that brought them is closed.
 *
 * Not refused is what only a comparison with the other members could show: a leader may order any entries and any time,
 * and a majority may elect whom it likes. That is what being a member means. */
#ifndef COTERIE_TRUST_H
#define COTERIE_TRUST_H

#include <raft.h>

#include "base/bytes.h"
#include "log.h"

#define TRUST_TERMS_AHEAD_MAX (1ull << 32)   /* beyond our term: elections cannot have been that many */

/* Whether `raft`, which knows entries up to `commit` of `log` to be committed, can take this message of `peer`: NULL, or
 * why not. Entries are those of an AppendEntries, `configuration` that of an InstallSnapshot. */
const char *trust_refuses(const struct raft *raft, const struct log *log, uint64_t commit, uint32_t peer,
                          const struct raft_message *message, struct log_entry *const *entries, uint32_t count,
                          struct bytes configuration);

#endif
