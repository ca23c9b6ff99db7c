/* The decoders of a snapshot file behind its checksums, which no fuzzer would get past: header and rows. */
#include "snapshot_format.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = bytes_of(data, size), payload;
    struct snapshot_facts facts;
    struct snapshot_rows rows = {0};
    struct snapshot_chunk chunk;
    struct buffer again = {0};
    enum frame_kind kind;
    uint64_t chain = 0;
    struct row row;
    size_t payload_size;

    frame_head(input, &kind, &payload_size);
    frame_check(input, &chain, &payload);
    if (snapshot_header_decode(input, &facts) == STATUS_OK) {
        snapshot_header_encode(&facts, &again);
        assert(bytes_equal(buffer_bytes(&again), input)); /* there is one way to write a header */
    }
    if (snapshot_chunk_begin(input, &chunk)) {
        while (snapshot_chunk_next(&chunk, &rows, &row))
            assert(row.key.size >= 1 && row.key.size <= STORE_KEY_MAX);
    }
    snapshot_rows_release(&rows);
    buffer_release(&again);
    return 0;
}
