#define XXH_INLINE_ALL
#include <xxhash.h>

#include "snapshot_format.h"
#include "store_hash.h"

#include <assert.h>
#include <string.h>

static const char magic[8] = {'C', 'o', 't', 'e', 'r', 'i', 'e', 'S'};

/* ---- frames ---- */

void frame_begin(struct buffer *out, enum frame_kind kind)
{
    buffer_clear(out);
    buffer_put_u32(out, kind);
    buffer_put_u32(out, 0); /* the size, when it is known */
}

void frame_finish(struct buffer *out, uint64_t *chain)
{
    size_t payload = out->size - FRAME_HEAD_SIZE;

    assert(payload <= FRAME_PAYLOAD_MAX);
    for (unsigned i = 0; i < 4; i++)
        out->data[4 + i] = (uint8_t)(payload >> (8 * i));
    *chain = XXH3_64bits_withSeed(out->data, out->size, *chain);
    buffer_put_u64(out, *chain);
}

bool frame_head(struct bytes head, enum frame_kind *kind, size_t *payload_size)
{
    struct reader reader = reader_of(head);
    uint32_t number = reader_u32(&reader);

    *payload_size = reader_u32(&reader);
    *kind = (enum frame_kind)number;
    return reader_done(&reader) && number >= FRAME_HEADER && number <= FRAME_END && *payload_size <= FRAME_PAYLOAD_MAX;
}

bool frame_check(struct bytes frame, uint64_t *chain, struct bytes *payload)
{
    struct reader tail;

    if (frame.size < FRAME_HEAD_SIZE + FRAME_CHECKSUM_SIZE)
        return false;
    *payload = bytes_of(frame.data + FRAME_HEAD_SIZE, frame.size - FRAME_HEAD_SIZE - FRAME_CHECKSUM_SIZE);
    tail = reader_of(bytes_of(payload->data + payload->size, FRAME_CHECKSUM_SIZE));
    *chain = XXH3_64bits_withSeed(frame.data, frame.size - FRAME_CHECKSUM_SIZE, *chain);
    return reader_u64(&tail) == *chain;
}

/* ---- header ---- */

void snapshot_header_encode(const struct snapshot_facts *facts, struct buffer *out)
{
    assert(facts->configuration.size <= SNAPSHOT_CONFIGURATION_MAX);
    buffer_put(out, magic, sizeof magic);
    buffer_put_u32(out, SNAPSHOT_FORMAT);
    buffer_put(out, facts->cluster_id, sizeof facts->cluster_id);
    buffer_put_u64(out, facts->index);
    buffer_put_u64(out, facts->term);
    buffer_put_u64(out, facts->configuration_index);
    buffer_put_u64(out, facts->hash[0]);
    buffer_put_u64(out, facts->hash[1]);
    buffer_put_block(out, facts->configuration);
}

enum status snapshot_header_decode(struct bytes payload, struct snapshot_facts *facts)
{
    struct reader reader = reader_of(payload);
    struct bytes cluster_id;

    if (!bytes_equal(reader_bytes(&reader, sizeof magic), bytes_of(magic, sizeof magic)))
        return STATUS_CORRUPT;
    if (reader_u32(&reader) != SNAPSHOT_FORMAT)
        return reader.failed ? STATUS_CORRUPT : STATUS_UNSUPPORTED;
    cluster_id = reader_bytes(&reader, sizeof facts->cluster_id);
    if (reader.failed)
        return STATUS_CORRUPT;
    memcpy(facts->cluster_id, cluster_id.data, sizeof facts->cluster_id);
    facts->index = reader_u64(&reader);
    facts->term = reader_u64(&reader);
    facts->configuration_index = reader_u64(&reader);
    facts->hash[0] = reader_u64(&reader);
    facts->hash[1] = reader_u64(&reader);
    facts->configuration = reader_block(&reader);
    return reader_done(&reader) && facts->configuration.size <= SNAPSHOT_CONFIGURATION_MAX ? STATUS_OK : STATUS_CORRUPT;
}

/* ---- rows ---- */

void snapshot_rows_release(struct snapshot_rows *rows)
{
    buffer_release(&rows->last_key);
    buffer_release(&rows->image);
}

bool snapshot_chunk_begin(struct bytes payload, struct snapshot_chunk *chunk)
{
    uint8_t table;

    chunk->reader = reader_of(payload);
    table = reader_u8(&chunk->reader);
    chunk->table = (enum table)table;
    return !chunk->reader.failed && table < TABLE_COUNT;
}

/* Rows ascend strictly, so none is there twice, and loading appends. */
static bool lies_behind(const struct snapshot_rows *rows, enum table table, struct bytes key)
{
    if (rows->count == 0 || (unsigned)table > rows->table)
        return true;
    return (unsigned)table == rows->table && bytes_compare(key, buffer_bytes(&rows->last_key)) > 0;
}

bool snapshot_chunk_next(struct snapshot_chunk *chunk, struct snapshot_rows *rows, struct row *row)
{
    if (chunk->reader.failed || chunk->reader.rest.size == 0)
        return false;
    row->key = reader_block(&chunk->reader);
    row->value = reader_block(&chunk->reader);
    if (row->key.size < 1 || row->key.size > STORE_KEY_MAX || !lies_behind(rows, chunk->table, row->key))
        chunk->reader.failed = true;
    if (chunk->reader.failed)
        return false;
    rows->count++;
    rows->table = chunk->table;
    buffer_clear(&rows->last_key);
    buffer_put_bytes(&rows->last_key, row->key);
    row_image(&rows->image, chunk->table, row->key, row->value);
    hash_add(rows->hash, buffer_bytes(&rows->image));
    return true;
}
