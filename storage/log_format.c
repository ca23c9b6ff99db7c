/* log_format.c — see the header. Pure: bytes in, values out, and back. */
#include "log_format.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SEGMENT_MAGIC  0x47534c43u   /* "CLSG" */
#define RECORD_MAGIC   0x43524c43u   /* "CLRC" */
#define METADATA_MAGIC 0x444d4c43u   /* "CLMD" */

static void put_u32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static void put_u64(uint8_t *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++)
        value |= (uint32_t)from[i] << (8 * i);
    return value;
}

static uint64_t get_u64(const uint8_t *from)
{
    return get_u32(from) | (uint64_t)get_u32(from + 4) << 32;
}

void log_segment_header_encode(struct log_segment_header *header, uint8_t out[LOG_SEGMENT_HEADER_SIZE])
{
    put_u32(out, SEGMENT_MAGIC);
    put_u32(out + 4, LOG_FORMAT);
    put_u64(out + 8, header->sequence);
    put_u64(out + 16, header->first);
    put_u64(out + 24, header->previous_term);
    put_u64(out + 32, header->previous_hash);
    put_u64(out + 40, header->continues);
    put_u64(out + 48, header->salt);
    header->hash = XXH3_64bits(out, 56);
    put_u64(out + 56, header->hash);
}

enum status log_segment_header_decode(const uint8_t in[LOG_SEGMENT_HEADER_SIZE], struct log_segment_header *header)
{
    if (get_u32(in) != SEGMENT_MAGIC || get_u64(in + 56) != XXH3_64bits(in, 56))
        return STATUS_CORRUPT;
    if (get_u32(in + 4) != LOG_FORMAT)
        return STATUS_UNSUPPORTED;
    *header = (struct log_segment_header){
        .sequence = get_u64(in + 8),
        .first = get_u64(in + 16),
        .previous_term = get_u64(in + 24),
        .previous_hash = get_u64(in + 32),
        .continues = get_u64(in + 40),
        .salt = get_u64(in + 48),
        .hash = get_u64(in + 56),
    };
    bool sane = header->sequence > 0 && header->first > 0 && header->continues < header->sequence;
    return sane ? STATUS_OK : STATUS_CORRUPT;
}

void log_segment_seeds(const uint8_t in[LOG_SEGMENT_HEADER_SIZE], uint64_t seeds[2])
{
    seeds[0] = get_u64(in + 56);
    seeds[1] = XXH3_64bits(in, 56);
}

void log_record_encode(struct log_record *record, uint64_t seed, struct buffer *out)
{
    assert(out->size % 8 == 0);
    size_t content_size = record->content.size;
    size_t size = log_record_size(content_size);
    buffer_reserve(out, size);
    uint8_t *to = out->data + out->size;

    put_u32(to, RECORD_MAGIC);
    put_u32(to + 4, (uint32_t)content_size);
    put_u64(to + 8, record->index);
    put_u64(to + 16, record->term);
    put_u64(to + 24, record->type);
    put_u64(to + 32, record->mark);
    put_u64(to + 40, record->previous);
    put_u64(to + 48, XXH3_64bits_withSeed(to, 48, seed));
    if (content_size > 0)
        memcpy(to + LOG_RECORD_HEADER_SIZE, record->content.data, content_size);
    memset(to + LOG_RECORD_HEADER_SIZE + content_size, 0, size - LOG_RECORD_OVERHEAD - content_size);
    record->hash = XXH3_64bits_withSeed(to, size - 8, seed);
    put_u64(to + size - 8, record->hash);
    out->size += size;
}

static bool all_zero(const uint8_t *data, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        if (data[i] != 0)
            return false;
    }
    return true;
}

enum status log_record_decode(struct bytes file, uint64_t offset, uint64_t seed, struct log_record *record,
                              uint64_t *size)
{
    assert(offset % 8 == 0 && offset <= file.size);
    const uint8_t *in = file.data + offset;
    uint64_t room = file.size - offset;
    *size = room < LOG_RECORD_HEADER_SIZE ? room : LOG_RECORD_HEADER_SIZE;
    if (all_zero(in, *size))
        return STATUS_NOT_FOUND;
    if (room < LOG_RECORD_OVERHEAD || get_u32(in) != RECORD_MAGIC ||
        get_u64(in + 48) != XXH3_64bits_withSeed(in, 48, seed))
        return STATUS_CORRUPT;

    uint64_t whole = log_record_size(get_u32(in + 4));
    if (whole > room)
        return STATUS_CORRUPT;
    *size = whole;
    *record = (struct log_record){
        .index = get_u64(in + 8),
        .term = get_u64(in + 16),
        .type = in[24],
        .mark = get_u64(in + 32),
        .previous = get_u64(in + 40),
        .content = bytes_of(in + LOG_RECORD_HEADER_SIZE, get_u32(in + 4)),
        .hash = get_u64(in + whole - 8),
    };
    return record->hash == XXH3_64bits_withSeed(in, whole - 8, seed) ? STATUS_OK : STATUS_CORRUPT;
}

bool log_looks_torn(struct bytes file, uint64_t offset, uint64_t size)
{
    uint64_t end = offset + size;
    assert(size > 0 && end <= file.size);
    if (file.data[end - 1] == 0)
        return true;
    while (offset < end) {
        uint64_t sector_end = (offset / DISK_SECTOR + 1) * DISK_SECTOR;
        uint64_t piece_end = sector_end < end ? sector_end : end;
        if (all_zero(file.data + offset, piece_end - offset))
            return true;
        offset = piece_end;
    }
    return false;
}

void log_metadata_encode(const struct log_metadata *metadata, uint8_t out[LOG_METADATA_SIZE])
{
    put_u32(out, METADATA_MAGIC);
    put_u32(out + 4, LOG_FORMAT);
    put_u64(out + 8, metadata->version);
    put_u64(out + 16, metadata->term);
    put_u64(out + 24, metadata->vote);
    put_u64(out + 32, metadata->mark_sequence);
    put_u64(out + 40, metadata->mark);
    put_u64(out + 48, metadata->owed);
    put_u64(out + 56, XXH3_64bits(out, 56));
}

enum status log_metadata_decode(const uint8_t in[LOG_METADATA_SIZE], struct log_metadata *metadata)
{
    if (get_u32(in) != METADATA_MAGIC || get_u64(in + 56) != XXH3_64bits(in, 56))
        return STATUS_CORRUPT;
    if (get_u32(in + 4) != LOG_FORMAT)
        return STATUS_UNSUPPORTED;
    *metadata = (struct log_metadata){
        .version = get_u64(in + 8),
        .term = get_u64(in + 16),
        .vote = get_u64(in + 24),
        .mark_sequence = get_u64(in + 32),
        .mark = get_u64(in + 40),
        .owed = get_u64(in + 48),
    };
    return STATUS_OK;
}

void log_segment_name(uint64_t sequence, char name[LOG_SEGMENT_NAME_SIZE])
{
    snprintf(name, LOG_SEGMENT_NAME_SIZE, "%016llx.segment", (unsigned long long)sequence);
}

bool log_segment_name_parse(const char *name, uint64_t *sequence)
{
    unsigned long long value;
    int length = 0;
    if (strlen(name) != 24 || sscanf(name, "%16llx.segment%n", &value, &length) != 1 || length != 24)
        return false;
    char again[LOG_SEGMENT_NAME_SIZE];
    log_segment_name(value, again);
    *sequence = value;
    return strcmp(name, again) == 0;
}
