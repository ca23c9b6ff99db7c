/* messages.c — see messages.h for the rows.
 *
 * A message is written as one run of bytes, cut every MESSAGE_ROW_BYTES_MAX:
 *
 *   varint payload size, topic size, properties size
 *   u8 bits 0-1 QoS, bit 2 retain
 *   varint origin session, created_ms, expires_ms
 *   topic, properties, payload
 *
 * What stands before the topic is at most 60 bytes, hence in the first row. That row alone tells how many there are. */
#include "messages.h"

#include <assert.h>
#include <string.h>

#define TOTALS_KEY "messages"
#define KEY_MAX 12 /* u64 id, u32 part */
#define FLAG_QOS 0x03
#define FLAG_RETAIN 0x04

struct key {
    uint8_t data[KEY_MAX];
    size_t size;
};

static void put_big_endian(uint8_t *out, uint64_t value, size_t width)
{
    for (size_t i = 0; i < width; i++)
        out[i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

/* Part 0 is the first row; its key is the id alone. */
static struct key key_of(uint64_t id, uint32_t part)
{
    struct key key = {.size = part == 0 ? 8 : 12};

    put_big_endian(key.data, id, 8);
    put_big_endian(key.data + 8, part, 4);
    return key;
}

static struct bytes key_bytes(const struct key *key)
{
    return bytes_of(key->data, key->size);
}

/* ---- totals ---- */

enum status messages_init(struct messages *messages, struct store *store)
{
    struct bytes row;

    *messages = (struct messages){.store = store};
    if (!store_get(store, TABLE_META, bytes_text(TOTALS_KEY), &row))
        return store_status(store);
    struct reader reader = reader_of(row);
    messages->count = messages->stored_count = reader_u64(&reader);
    messages->payload_bytes = messages->stored_payload_bytes = reader_u64(&reader);
    return reader_done(&reader) ? STATUS_OK : STATUS_CORRUPT;
}

void messages_release_memory(struct messages *messages)
{
    buffer_release(&messages->scratch);
}

void messages_write_back(struct messages *messages)
{
    if (messages->count == messages->stored_count && messages->payload_bytes == messages->stored_payload_bytes)
        return;
    buffer_clear(&messages->scratch);
    buffer_put_u64(&messages->scratch, messages->count);
    buffer_put_u64(&messages->scratch, messages->payload_bytes);
    if (messages->count > 0)
        store_put(messages->store, TABLE_META, bytes_text(TOTALS_KEY), buffer_bytes(&messages->scratch));
    else /* as if there had never been one: the hash may not depend on when we write back */
        store_delete(messages->store, TABLE_META, bytes_text(TOTALS_KEY));
    messages->stored_count = messages->count;
    messages->stored_payload_bytes = messages->payload_bytes;
}

/* ---- encoding ---- */

static void encode(struct buffer *out, const struct message *message)
{
    buffer_clear(out);
    buffer_put_varint(out, message->payload.size);
    buffer_put_varint(out, message->topic.size);
    buffer_put_varint(out, message->properties.size);
    buffer_put_u8(out, (uint8_t)((message->qos & FLAG_QOS) | (message->retain ? FLAG_RETAIN : 0)));
    buffer_put_varint(out, message->origin_session);
    buffer_put_varint(out, message->created_ms);
    buffer_put_varint(out, message->expires_ms);
    buffer_put_bytes(out, message->topic);
    buffer_put_bytes(out, message->properties);
    buffer_put_bytes(out, message->payload);
}

/* Reads up to the topic. false: not what encode() writes. */
static bool decode_facts(struct reader *reader, struct message_facts *facts)
{
    uint8_t flags;

    facts->payload_bytes = reader_varint(reader);
    facts->topic_bytes = reader_varint(reader);
    facts->properties_bytes = reader_varint(reader);
    flags = reader_u8(reader);
    facts->qos = flags & FLAG_QOS;
    facts->retain = (flags & FLAG_RETAIN) != 0;
    facts->origin_session = reader_varint(reader);
    facts->created_ms = reader_varint(reader);
    facts->expires_ms = reader_varint(reader);
    return !reader->failed && facts->qos <= 2;
}

static bool decode(struct bytes run, struct message *message)
{
    struct reader reader = reader_of(run);
    struct message_facts facts;

    if (!decode_facts(&reader, &facts))
        return false;
    message->topic = reader_bytes(&reader, facts.topic_bytes);
    message->properties = reader_bytes(&reader, facts.properties_bytes);
    message->payload = reader_bytes(&reader, facts.payload_bytes);
    message->origin_session = facts.origin_session;
    message->created_ms = facts.created_ms;
    message->expires_ms = facts.expires_ms;
    message->qos = facts.qos;
    message->retain = facts.retain;
    return reader_done(&reader);
}

static size_t row_count(size_t run_size)
{
    return (run_size + MESSAGE_ROW_BYTES_MAX - 1) / MESSAGE_ROW_BYTES_MAX;
}

static void corrupt(struct messages *messages)
{
    store_poison(messages->store, STATUS_CORRUPT, "a message cannot be read");
}

/* The first row of a message, and what it says. */
static bool read_first(struct messages *messages, uint64_t id, struct bytes *row, struct message_facts *facts,
                       size_t *run_size)
{
    struct key key = key_of(id, 0);
    struct reader reader;

    if (!store_get(messages->store, TABLE_MESSAGES, key_bytes(&key), row))
        return false;
    reader = reader_of(*row);
    if (!decode_facts(&reader, facts)) {
        corrupt(messages);
        return false;
    }
    *run_size = row->size - reader.rest.size + facts->topic_bytes + facts->properties_bytes + facts->payload_bytes;
    return true;
}

/* Gathers all rows of a message, the first of which is `first`. */
static bool assemble(struct messages *messages, uint64_t id, struct bytes first, size_t run_size, struct buffer *run)
{
    buffer_clear(run);
    buffer_reserve(run, run_size);
    buffer_put_bytes(run, first);
    for (size_t part = 1; part < row_count(run_size); part++) {
        struct key key = key_of(id, (uint32_t)part);
        struct bytes row;
        if (!store_get(messages->store, TABLE_MESSAGES, key_bytes(&key), &row) || row.size > run_size - run->size)
            return false;
        buffer_put_bytes(run, row);
    }
    return run->size == run_size;
}

/* ---- messages ---- */

static void write_references(struct messages *messages, uint64_t id, uint64_t references)
{
    struct key key = key_of(id, 0);

    buffer_clear(&messages->scratch);
    buffer_put_varint(&messages->scratch, references);
    store_put(messages->store, TABLE_MESSAGE_REFERENCES, key_bytes(&key), buffer_bytes(&messages->scratch));
}

void messages_add(struct messages *messages, uint64_t id, const struct message *message, uint64_t references)
{
    struct bytes run;

    assert(references >= 1);
    encode(&messages->scratch, message);
    run = buffer_bytes(&messages->scratch);
    for (size_t part = 0; part < row_count(run.size); part++) {
        struct key key = key_of(id, (uint32_t)part);
        size_t at = part * MESSAGE_ROW_BYTES_MAX, rest = run.size - at;
        size_t size = rest < MESSAGE_ROW_BYTES_MAX ? rest : MESSAGE_ROW_BYTES_MAX;
        store_insert(messages->store, TABLE_MESSAGES, key_bytes(&key), bytes_of(run.data + at, size));
    }
    if (references > 1)
        write_references(messages, id, references);
    messages->count++;
    messages->payload_bytes += message_bytes(message);
}

bool messages_get(struct messages *messages, uint64_t id, struct buffer *assembled, struct message *message)
{
    struct bytes run;
    struct message_facts facts;
    size_t run_size;

    if (!read_first(messages, id, &run, &facts, &run_size))
        return false;
    if (row_count(run_size) > 1) {
        if (!assemble(messages, id, run, run_size, assembled)) {
            corrupt(messages);
            return false;
        }
        run = buffer_bytes(assembled);
    }
    if (!decode(run, message)) {
        corrupt(messages);
        return false;
    }
    return true;
}

bool messages_facts(struct messages *messages, uint64_t id, struct message_facts *facts)
{
    struct bytes row;
    size_t run_size;

    return read_first(messages, id, &row, facts, &run_size);
}

/* ---- references ---- */

/* What the row of references says; 1 if there is none. 0: it cannot be read. */
static uint64_t read_references(struct messages *messages, uint64_t id)
{
    struct key key = key_of(id, 0);
    struct bytes row;
    struct reader reader;
    uint64_t references;

    if (!store_get(messages->store, TABLE_MESSAGE_REFERENCES, key_bytes(&key), &row))
        return 1;
    reader = reader_of(row);
    references = reader_varint(&reader);
    if (reader_done(&reader) && references >= 2)
        return references;
    corrupt(messages);
    return 0;
}

uint64_t messages_references(struct messages *messages, uint64_t id)
{
    struct key key = key_of(id, 0);

    if (!store_has(messages->store, TABLE_MESSAGES, key_bytes(&key)))
        return 0;
    return read_references(messages, id);
}

void messages_reference(struct messages *messages, uint64_t id, uint64_t more)
{
    uint64_t references = read_references(messages, id);

    if (references > 0 && more > 0)
        write_references(messages, id, references + more);
}

static void delete_message(struct messages *messages, uint64_t id)
{
    struct bytes row;
    struct message_facts facts;
    size_t run_size;

    if (!read_first(messages, id, &row, &facts, &run_size)) {
        if (store_status(messages->store) == STATUS_OK)
            store_poison(messages->store, STATUS_CORRUPT, "a message that is referred to is not there");
        return;
    }
    for (size_t part = 0; part < row_count(run_size); part++) {
        struct key key = key_of(id, (uint32_t)part);
        store_delete(messages->store, TABLE_MESSAGES, key_bytes(&key));
    }
    messages->count--;
    messages->payload_bytes -= message_facts_bytes(&facts);
}

bool messages_release(struct messages *messages, uint64_t id, uint64_t count)
{
    uint64_t references = read_references(messages, id);
    struct key key = key_of(id, 0);

    if (references == 0 || count == 0)
        return false;
    if (count > references) {
        store_poison(messages->store, STATUS_CORRUPT, "more references to a message than it counts");
        return false;
    }
    if (references > count + 1) {
        write_references(messages, id, references - count);
        return false;
    }
    if (references > 1)
        store_delete(messages->store, TABLE_MESSAGE_REFERENCES, key_bytes(&key));
    if (references > count)
        return false;
    delete_message(messages, id);
    return true;
}
