/* wire.c — encodes and decodes the frames between two nodes. See wire.h for the format.
 *
 * Every decoder reads with a struct reader, which stops at the first read beyond the end, and then demands that all
 * was read: what decodes is what an encoder wrote, byte for byte. */
#include "wire.h"

#include <assert.h>
#include <string.h>

#define HELLO_REPLACEMENT 0x80

static bool type_is_known(uint8_t type)
{
    return (type >= WIRE_HELLO && type <= WIRE_REFUSAL) || (type >= WIRE_FORWARD && type <= WIRE_SNAPSHOT_ACK);
}

static enum status finished(const struct reader *reader, bool valid)
{
    return reader_done(reader) && valid ? STATUS_OK : STATUS_MALFORMED;
}

enum status wire_frame_size(struct bytes in, size_t limit, size_t *size)
{
    struct reader reader = reader_of(in);
    if (in.size < WIRE_LENGTH_SIZE)
        return STATUS_NEED_MORE;
    uint64_t whole = (uint64_t)reader_u32(&reader) + WIRE_LENGTH_SIZE;
    if (whole < WIRE_HEADER_SIZE)
        return STATUS_MALFORMED;
    if (whole > limit)
        return STATUS_TOO_LARGE;
    *size = (size_t)whole;
    return STATUS_OK;
}

enum status wire_frame_decode(struct bytes in, struct wire_frame *frame)
{
    struct reader reader = reader_of(in);
    uint32_t length = reader_u32(&reader);
    uint8_t type = reader_u8(&reader);
    uint8_t reserved8 = reader_u8(&reader);
    uint16_t reserved16 = reader_u16(&reader);
    uint64_t generation = reader_u64(&reader);
    uint64_t sequence = reader_u64(&reader);
    if (reader.failed || (uint64_t)length + WIRE_LENGTH_SIZE != in.size || in.size > WIRE_FRAME_BYTES_MAX)
        return STATUS_MALFORMED;
    if (reserved8 != 0 || reserved16 != 0 || generation == 0)
        return STATUS_MALFORMED;
    *frame = (struct wire_frame){(enum wire_type)type, generation, sequence, reader.rest};
    return type_is_known(type) ? STATUS_OK : STATUS_UNSUPPORTED;
}

size_t wire_frame_begin(struct buffer *out, enum wire_type type, uint64_t generation, uint64_t sequence)
{
    size_t begin = out->size;
    assert(generation != 0);
    buffer_put_u32(out, 0); /* wire_frame_end fills it in */
    buffer_put_u8(out, (uint8_t)type);
    buffer_put_u8(out, 0);
    buffer_put_u16(out, 0);
    buffer_put_u64(out, generation);
    buffer_put_u64(out, sequence);
    assert(out->size - begin == WIRE_HEADER_SIZE);
    return begin;
}

void wire_frame_end(struct buffer *out, size_t begin)
{
    size_t size = out->size - begin;
    assert(size >= WIRE_HEADER_SIZE && size <= WIRE_FRAME_BYTES_MAX);
    uint32_t length = (uint32_t)(size - WIRE_LENGTH_SIZE);
    for (int i = 0; i < WIRE_LENGTH_SIZE; i++)
        out->data[begin + (size_t)i] = (uint8_t)(length >> (8 * i));
}

/* ---- HELLO ---- */

void wire_hello_encode(const struct wire_hello *hello, struct buffer *out)
{
    size_t begin = wire_frame_begin(out, WIRE_HELLO, hello->generation, 0);
    buffer_put_u16(out, hello->version);
    buffer_put(out, hello->cluster_id, sizeof hello->cluster_id);
    buffer_put_u32(out, hello->node);
    buffer_put_u32(out, hello->receiver);
    buffer_put_u64(out, hello->incarnation);
    buffer_put_u8(out, hello->replacement != 0 ? hello->kind | HELLO_REPLACEMENT : hello->kind);
    if (hello->replacement != 0)
        buffer_put_u64(out, hello->replacement);
    wire_frame_end(out, begin);
}

enum status wire_hello_decode(struct bytes in, struct wire_hello *hello)
{
    struct wire_frame frame;
    enum status status = wire_frame_decode(in, &frame);
    if (status != STATUS_OK)
        return status;
    if (frame.type != WIRE_HELLO || frame.sequence != 0)
        return STATUS_MALFORMED;

    struct reader reader = reader_of(frame.body);
    *hello = (struct wire_hello){.generation = frame.generation};
    hello->version = reader_u16(&reader);
    struct bytes id = reader_bytes(&reader, sizeof hello->cluster_id);
    if (id.size == sizeof hello->cluster_id)
        memcpy(hello->cluster_id, id.data, id.size);
    hello->node = reader_u32(&reader);
    hello->receiver = reader_u32(&reader);
    hello->incarnation = reader_u64(&reader);
    hello->kind = reader_u8(&reader);
    bool replacement = (hello->kind & HELLO_REPLACEMENT) != 0;
    hello->kind &= (uint8_t)~HELLO_REPLACEMENT;
    if (replacement && hello->version == WIRE_VERSION)
        hello->replacement = reader_u64(&reader);
    if (!reader.failed && hello->version != WIRE_VERSION)
        return STATUS_UNSUPPORTED; /* what follows may differ; the sender is told by the closed connection */
    return finished(&reader, hello->node != 0 && hello->kind < LINK_KINDS && replacement == (hello->replacement != 0));
}

struct node_life wire_hello_life(const struct wire_hello *hello)
{
    return hello->replacement == 0 ? (struct node_life){0} : (struct node_life){hello->replacement, hello->incarnation};
}

void wire_refusal_encode(const char *why, struct buffer *out)
{
    size_t size = strlen(why);
    size_t begin = wire_frame_begin(out, WIRE_REFUSAL, 1, 0);
    buffer_put(out, why, size < WIRE_REFUSAL_BYTES_MAX ? size : WIRE_REFUSAL_BYTES_MAX);
    wire_frame_end(out, begin);
}

bool wire_refusal_decode(struct bytes in, char why[WIRE_REFUSAL_BYTES_MAX + 1])
{
    struct wire_frame frame;
    if (wire_frame_decode(in, &frame) != STATUS_OK || frame.type != WIRE_REFUSAL || frame.sequence != 0 ||
        frame.body.size > WIRE_REFUSAL_BYTES_MAX)
        return false;
    memcpy(why, frame.body.data, frame.body.size);
    why[frame.body.size] = '\0';
    return true;
}

/* ---- LINK_BULK ---- */

void wire_applied_put(struct buffer *out, const struct wire_applied *applied)
{
    buffer_put_u64(out, applied->index);
    buffer_put_u64(out, applied->clock_ms);
}

enum status wire_applied_get(struct bytes body, struct wire_applied *applied)
{
    struct reader reader = reader_of(body);
    applied->index = reader_u64(&reader);
    applied->clock_ms = reader_u64(&reader);
    return finished(&reader, true);
}

void wire_hash_put(struct buffer *out, const struct wire_hash *hash)
{
    buffer_put_u64(out, hash->index);
    buffer_put_u64(out, hash->hash[0]);
    buffer_put_u64(out, hash->hash[1]);
}

enum status wire_hash_get(struct bytes body, struct wire_hash *hash)
{
    struct reader reader = reader_of(body);
    hash->index = reader_u64(&reader);
    hash->hash[0] = reader_u64(&reader);
    hash->hash[1] = reader_u64(&reader);
    return finished(&reader, hash->index != 0);
}

#define MESSAGE_RETAIN 0x01
#define MESSAGE_GROUPS 0x02 /* a list of groups follows */

void wire_message_put(struct buffer *out, const struct message *message, struct bytes groups)
{
    buffer_put_u8(out, (uint8_t)((message->retain ? MESSAGE_RETAIN : 0) | (groups.size > 0 ? MESSAGE_GROUPS : 0)));
    buffer_put_varint(out, message->origin_session);
    buffer_put_varint(out, message->created_ms);
    buffer_put_varint(out, message->expires_ms);
    buffer_put_block(out, message->topic);
    buffer_put_block(out, message->properties);
    buffer_put_block(out, message->payload);
    if (groups.size > 0)
        buffer_put_block(out, groups);
}

bool wire_message_next(struct reader *body, struct message *message, struct bytes *groups)
{
    if (body->failed || body->rest.size == 0)
        return false;
    uint8_t flags = reader_u8(body);
    *message = (struct message){.retain = (flags & MESSAGE_RETAIN) != 0};
    message->origin_session = reader_varint(body);
    message->created_ms = reader_varint(body);
    message->expires_ms = reader_varint(body);
    message->topic = reader_block(body);
    message->properties = reader_block(body);
    message->payload = reader_block(body);
    *groups = (flags & MESSAGE_GROUPS) != 0 ? reader_block(body) : bytes_of(NULL, 0);
    if ((flags & ~(MESSAGE_RETAIN | MESSAGE_GROUPS)) != 0 || message->topic.size == 0 ||
        message->topic.size > UINT16_MAX || ((flags & MESSAGE_GROUPS) != 0 && groups->size == 0))
        body->failed = true;
    return !body->failed;
}

void wire_snapshot_offer_put(struct buffer *out, const struct wire_snapshot_offer *offer)
{
    assert(offer->configuration.size <= WIRE_CONFIGURATION_BYTES_MAX);
    buffer_put_u64(out, offer->index);
    buffer_put_u64(out, offer->term);
    buffer_put_u64(out, offer->size);
    buffer_put_u64(out, offer->configuration_index);
    buffer_put_block(out, offer->configuration);
}

enum status wire_snapshot_offer_get(struct bytes body, struct wire_snapshot_offer *offer)
{
    struct reader reader = reader_of(body);
    offer->index = reader_u64(&reader);
    offer->term = reader_u64(&reader);
    offer->size = reader_u64(&reader);
    offer->configuration_index = reader_u64(&reader);
    offer->configuration = reader_block(&reader);
    return finished(&reader, offer->index != 0 && offer->term != 0 && offer->size != 0 &&
                                 offer->configuration_index != 0 && offer->configuration_index <= offer->index &&
                                 offer->configuration.size <= WIRE_CONFIGURATION_BYTES_MAX);
}

void wire_snapshot_chunk_put(struct buffer *out, const struct wire_snapshot_chunk *chunk)
{
    assert(chunk->data.size > 0 && chunk->data.size <= WIRE_CHUNK_BYTES_MAX);
    buffer_put_u64(out, chunk->index);
    buffer_put_u64(out, chunk->offset);
    buffer_put_block(out, chunk->data);
}

enum status wire_snapshot_chunk_get(struct bytes body, struct wire_snapshot_chunk *chunk)
{
    struct reader reader = reader_of(body);
    chunk->index = reader_u64(&reader);
    chunk->offset = reader_u64(&reader);
    chunk->data = reader_block(&reader);
    return finished(&reader, chunk->index != 0 && chunk->data.size > 0 && chunk->data.size <= WIRE_CHUNK_BYTES_MAX &&
                                 chunk->offset <= UINT64_MAX - WIRE_CHUNK_BYTES_MAX);
}

void wire_snapshot_ack_put(struct buffer *out, const struct wire_snapshot_ack *ack)
{
    buffer_put_u64(out, ack->index);
    buffer_put_u64(out, ack->offset);
    buffer_put_u8(out, ack->progress);
}

enum status wire_snapshot_ack_get(struct bytes body, struct wire_snapshot_ack *ack)
{
    struct reader reader = reader_of(body);
    ack->index = reader_u64(&reader);
    ack->offset = reader_u64(&reader);
    ack->progress = reader_u8(&reader);
    return finished(&reader, ack->index != 0 && ack->progress <= SNAPSHOT_REFUSED);
}
