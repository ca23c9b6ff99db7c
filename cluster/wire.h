/* wire.h — the frames between two nodes, as a pure codec.
 *
 * Each pair of nodes has two connections: LINK_RAFT, so that nothing queues in front of a heartbeat, and LINK_BULK for
 * the rest. Both carry frames:
 *
 *   offset  0  u32  length of all that follows this field
 *           4  u8   type
 *           5  u8   reserved, 0
 *           6  u16  reserved, 0
 *           8  u64  generation: chosen by the sender for this connection, told in its HELLO
 *          16  u64  sequence: 0 for the HELLO, then 1, 2, 3 ... in this direction of this connection
 *          24       body
 *
 * Generation and sequence keep what arrives in order, across reconnects too: whoever receives takes only frames of the
 * present connection, and only the next one. Every decoder bounds what it reads and rejects what no encoder wrote, with
 * STATUS_MALFORMED. Decoded structs borrow from the frame. The raft messages are in wire_raft.h. */
#ifndef COTERIE_WIRE_H
#define COTERIE_WIRE_H

#include "base/bytes.h"
#include "base/message.h"
#include "base/status.h"

#define WIRE_VERSION 1
#define WIRE_LENGTH_SIZE 4
#define WIRE_HEADER_SIZE 24
#define WIRE_ENTRY_BYTES_MAX (34u * 1024 * 1024)   /* one log entry: the largest packet of a client, and some room */
#define WIRE_FRAME_BYTES_MAX (36u * 1024 * 1024)   /* one frame with its length field; a longer one ends the connection */
#define WIRE_HELLO_BYTES_MAX 512                   /* what is read from a connection that has not said who it is */
#define WIRE_CHUNK_BYTES_MAX (256u * 1024)         /* of a snapshot */
#define WIRE_CONFIGURATION_BYTES_MAX (64u * 1024)  /* of the cluster's membership, inside a snapshot offer */

enum link_kind {
    LINK_RAFT = 0,
    LINK_BULK = 1,
};
#define LINK_KINDS 2

/* Numbers are never reused. */
enum wire_type {
    WIRE_HELLO = 1,              /* first in each direction */
    /* LINK_RAFT */
    WIRE_APPEND = 2,             /* raft's six messages: wire_raft.h */
    WIRE_APPEND_RESULT = 3,
    WIRE_VOTE = 4,
    WIRE_VOTE_RESULT = 5,
    WIRE_SNAPSHOT_READY = 6,     /* raft's InstallSnapshot: only when the file is on the peer's disk */
    WIRE_TIMEOUT_NOW = 7,
    WIRE_COMMIT = 8,             /* an AppendEntries without entries that wants no answer: a pushed commit */
    WIRE_REFUSAL = 9,            /* on either link: why a HELLO is refused; the connection ends */
    /* LINK_BULK */
    WIRE_FORWARD = 16,           /* a batch (command.h) for the leader to append */
    WIRE_APPLIED = 17,           /* how far the sender has applied */
    WIRE_MESSAGES = 18,          /* QoS 0 messages for clients of the receiver */
    WIRE_HASH = 19,              /* state hash of the sender at an index */
    WIRE_SNAPSHOT_OFFER = 20,
    WIRE_SNAPSHOT_CHUNK = 21,
    WIRE_SNAPSHOT_ACK = 22,
};

struct wire_frame {
    enum wire_type type;
    uint64_t generation;
    uint64_t sequence;
    struct bytes body;           /* borrowed */
};

/* The size of the whole frame that starts at `in`: STATUS_OK and *size (with its length field; perhaps not all of it is
 * in `in` yet), STATUS_NEED_MORE (fewer than WIRE_LENGTH_SIZE bytes), STATUS_MALFORMED (shorter than a header),
 * STATUS_TOO_LARGE (beyond `limit`). */
enum status wire_frame_size(struct bytes in, size_t limit, size_t *size);

/* Reads a whole frame: header and body. STATUS_MALFORMED; STATUS_UNSUPPORTED: well formed, of a type unknown here
 * (*frame is filled in all the same). */
enum status wire_frame_decode(struct bytes in, struct wire_frame *frame);

/* Starts a frame: appends a header to `out` and returns its offset; append the body; then wire_frame_end. */
size_t wire_frame_begin(struct buffer *out, enum wire_type type, uint64_t generation, uint64_t sequence);
void wire_frame_end(struct buffer *out, size_t begin);

/* ---- HELLO ---- */

/* Which life of a node id: a node that lost its data comes back as another one. */
struct node_life {
    uint64_t number;             /* of the replacement, given by the operator, growing; 0: the first life */
    uint64_t incarnation;        /* of the data directory of a replacement; 0 in the first life */
};

static inline bool node_life_is_first(struct node_life life)
{
    return life.number == 0;
}

static inline bool node_life_equal(struct node_life a, struct node_life b)
{
    return a.number == b.number && a.incarnation == b.incarnation;
}

struct wire_hello {
    uint16_t version;            /* WIRE_VERSION of the sender */
    uint8_t cluster_id[16];
    uint32_t node;               /* the sender */
    uint32_t receiver;           /* whom it believes it speaks to; another one closes the connection */
    uint64_t incarnation;        /* of the sender's data directory */
    uint8_t kind;                /* enum link_kind; on the wire 0x80 more if `replacement` follows */
    uint64_t generation;         /* of all frames from the sender on this connection; never 0 */
    uint64_t replacement;        /* number of the replacement that made the directory; 0: the node's first one */
};

void wire_hello_encode(const struct wire_hello *hello, struct buffer *out);       /* a whole frame */
enum status wire_hello_decode(struct bytes frame, struct wire_hello *hello);
struct node_life wire_hello_life(const struct wire_hello *hello);

/* Instead of HELLO, or after it: why the connection is refused, for the other side's log. A whole frame. */
#define WIRE_REFUSAL_BYTES_MAX 400
void wire_refusal_encode(const char *why, struct buffer *out);                    /* cut off at so many bytes */
/* false: it is something else. The text is whatever the other side wrote: not to be logged without escaping. */
bool wire_refusal_decode(struct bytes frame, char why[WIRE_REFUSAL_BYTES_MAX + 1]);

/* ---- LINK_BULK ---- */
/* Encoders append a body; decoders read one, whole: STATUS_OK or STATUS_MALFORMED. What they give borrows from the body.
 * FORWARD's body is the batch. */

struct wire_applied {
    uint64_t index;
    uint64_t clock_ms;           /* cluster time by the sender's reckoning; 0 = it has applied nothing since it started */
};
void wire_applied_put(struct buffer *out, const struct wire_applied *applied);
enum status wire_applied_get(struct bytes body, struct wire_applied *applied);

struct wire_hash {
    uint64_t index;
    uint64_t hash[2];
};
void wire_hash_put(struct buffer *out, const struct wire_hash *hash);
enum status wire_hash_get(struct bytes body, struct wire_hash *hash);

/* QoS 0 messages, one behind the other. `groups` names the groups (shared subscriptions) of which a member of the receiver
 * was chosen: their numbers, each a varint. wire_message_next: false at the end, or on malformed input (then
 * reader->failed). *message and *groups borrow; the message's qos is 0. */
void wire_message_put(struct buffer *out, const struct message *message, struct bytes groups);
bool wire_message_next(struct reader *body, struct message *message, struct bytes *groups);

struct wire_snapshot_offer {
    uint64_t index, term;        /* of the last entry that it contains */
    uint64_t size;               /* of the file */
    uint64_t configuration_index;
    struct bytes configuration;  /* raft's encoding */
};
void wire_snapshot_offer_put(struct buffer *out, const struct wire_snapshot_offer *offer);
enum status wire_snapshot_offer_get(struct bytes body, struct wire_snapshot_offer *offer);

struct wire_snapshot_chunk {
    uint64_t index;              /* of which snapshot */
    uint64_t offset;
    struct bytes data;           /* 1 to WIRE_CHUNK_BYTES_MAX bytes */
};
void wire_snapshot_chunk_put(struct buffer *out, const struct wire_snapshot_chunk *chunk);
enum status wire_snapshot_chunk_get(struct bytes body, struct wire_snapshot_chunk *chunk);

enum snapshot_progress {
    SNAPSHOT_WANTED = 0,         /* send from `offset` on */
    SNAPSHOT_STORED = 1,         /* all of it is on the receiver's disk */
    SNAPSHOT_REFUSED = 2,        /* not now, or not needed */
};
struct wire_snapshot_ack {
    uint64_t index;
    uint64_t offset;             /* all before it has been written */
    uint8_t progress;            /* enum snapshot_progress */
};
void wire_snapshot_ack_put(struct buffer *out, const struct wire_snapshot_ack *ack);
enum status wire_snapshot_ack_get(struct bytes body, struct wire_snapshot_ack *ack);

#endif
