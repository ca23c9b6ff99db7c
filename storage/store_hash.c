#define XXH_INLINE_ALL
#include <xxhash.h>

#include "store_hash.h"

#include <string.h>

void row_image(struct buffer *image, enum table table, struct bytes key, struct bytes value)
{
    size_t size = ROW_IMAGE_HEADER_SIZE + key.size + value.size;

    buffer_clear(image);
    buffer_reserve(image, size);
    image->data[0] = (uint8_t)table;
    image->data[1] = (uint8_t)key.size;
    image->data[2] = (uint8_t)(key.size >> 8);
    if (key.size > 0)
        memcpy(image->data + ROW_IMAGE_HEADER_SIZE, key.data, key.size);
    if (value.size > 0)
        memcpy(image->data + ROW_IMAGE_HEADER_SIZE + key.size, value.data, value.size);
    image->size = size;
}

void hash_add(uint64_t hash[2], struct bytes image)
{
    XXH128_hash_t row = XXH3_128bits(image.data, image.size);
    uint64_t low = hash[0] + row.low64;

    hash[1] += row.high64 + (low < hash[0]);
    hash[0] = low;
}

void hash_subtract(uint64_t hash[2], struct bytes image)
{
    XXH128_hash_t row = XXH3_128bits(image.data, image.size);
    uint64_t low = hash[0] - row.low64;

    hash[1] -= row.high64 + (low > hash[0]);
    hash[0] = low;
}
