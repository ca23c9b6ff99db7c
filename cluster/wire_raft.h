/* wire_raft.h — raft's six messages as bodies of link frames. Pure; part of wire.h, kept apart because of raft.h.
 *
 * A message is encoded as the library filled it in, but for two things that the library leaves to us: the entries of an
 * AppendEntries (from the log) and the configuration of an InstallSnapshot. An entry travels as
 *
 *   varint term, u8 type, varint length, data
 *
 * Terms never fall from one entry to the next, and are never beyond the message's term: the decoder checks what the
 * library would otherwise assert. */
#ifndef COTERIE_WIRE_RAFT_H
#define COTERIE_WIRE_RAFT_H

#include <raft.h>

#include "log.h"
#include "wire.h"

#define WIRE_APPEND_ENTRIES_MAX 4096u   /* entries in one message */

/* Types of frames: of raft's own messages. */
enum wire_type wire_raft_type(const struct raft_message *message);
enum link_kind wire_kind(enum wire_type type);   /* on which link a frame of this type travels */

/* An AppendEntries: `entries` are the `count` that follow message->prev_log_index. */
void wire_append_put(struct buffer *out, const struct raft_append_entries *message, struct log_entry *const *entries,
                     uint32_t count);
/* What an entry adds to such a message. */
size_t wire_append_entry_size(const struct log_entry *entry);

/* Reads one. *entries (malloc'd, the caller frees the array and releases each) are `*count` fresh entries;
 * message->entries is NULL and message->n_entries 0. Nothing is allocated on STATUS_MALFORMED. */
enum status wire_append_get(struct bytes body, struct raft_append_entries *message, struct log_entry ***entries,
                            uint32_t *count);

/* The other five. `configuration` is raft's encoding, for RAFT_INSTALL_SNAPSHOT only. */
void wire_raft_put(struct buffer *out, const struct raft_message *message, struct bytes configuration);
/* `type` is that of the frame. For WIRE_SNAPSHOT_READY message->install_snapshot.conf is left empty and *configuration
 * borrows from the body. */
enum status wire_raft_get(enum wire_type type, struct bytes body, struct raft_message *message,
                          struct bytes *configuration);

#endif
