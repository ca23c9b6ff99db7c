/* messages.h — the rows of stored messages: payload once, however many queues refer to it.
 *
 * A message is written under its message id with a number of references (queue rows, in-flight rows, the retained
 * register, ...). Whoever removes such a row releases its reference; the last one deletes the message. One reference is
 * the usual case and costs no row of its own.
 *
 *   TABLE_MESSAGES            id                 → sizes, facts, topic, properties, payload: its first 2,000 bytes
 *                             id, part (1 ...)   → the next 2,000 bytes, and so on
 *   TABLE_MESSAGE_REFERENCES  id                 → how many references, if 2 or more
 *   TABLE_META                "messages"         → the totals below
 *
 * Ids and parts are big-endian, so rows lie in message order and new ones are appended at the end. No value is larger
 * than what LMDB keeps inside a page; it never has to look for contiguous free pages. */
#ifndef COTERIE_MESSAGES_H
#define COTERIE_MESSAGES_H

#include "base/message.h"
#include "store.h"

#define MESSAGE_ROW_BYTES_MAX 2000

/* Embedded in its owner, who calls messages_write_back() before each commit and each hash of the store. */
struct messages {
    struct store *store;         /* borrowed */
    uint64_t count;              /* messages stored */
    uint64_t payload_bytes;      /* their payloads and properties, each counted once */
    uint64_t stored_count;       /* as last written to TABLE_META */
    uint64_t stored_payload_bytes;
    struct buffer scratch;       /* row under construction */
};

/* Reads the totals. STATUS_CORRUPT: their row is not one of ours. */
enum status messages_init(struct messages *messages, struct store *store);
void messages_release_memory(struct messages *messages);
void messages_write_back(struct messages *messages);

/* Writes a message with `references` (1 or more) to it. `id` is larger than that of every message added before. */
void messages_add(struct messages *messages, uint64_t id, const struct message *message, uint64_t references);

/* Reads a message. What *message points at is borrowed from the store (until its next write) if the message is in one
 * row, else from `assembled`, whose content is replaced. false: there is none. */
bool messages_get(struct messages *messages, uint64_t id, struct buffer *assembled, struct message *message);

/* What can be said of a message without reading its payload. false: there is none. */
struct message_facts {
    uint64_t topic_bytes, properties_bytes, payload_bytes;
    uint64_t origin_session, created_ms, expires_ms;
    uint8_t qos;
    bool retain;
};

/* As message_bytes(). */
static inline uint64_t message_facts_bytes(const struct message_facts *facts)
{
    return facts->payload_bytes + facts->properties_bytes;
}
bool messages_facts(struct messages *messages, uint64_t id, struct message_facts *facts);

uint64_t messages_references(struct messages *messages, uint64_t id);                 /* 0: no such message */
void messages_reference(struct messages *messages, uint64_t id, uint64_t more);       /* it exists */
/* Gives up `count` references, no more than there are. true: those were the last, the message is deleted. */
bool messages_release(struct messages *messages, uint64_t id, uint64_t count);

#endif
