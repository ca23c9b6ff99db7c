/* fuzz_wire.c — every decoder of link frames; what decodes must encode to the same bytes again. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/wire_raft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct buffer out;

static void then_it_encodes_to(struct bytes body)
{
    assert(bytes_equal(buffer_bytes(&out), body));
}

static void try_append(struct bytes body)
{
    struct raft_append_entries append;
    struct log_entry **entries;
    uint32_t count;
    if (wire_append_get(body, &append, &entries, &count) != STATUS_OK)
        return;
    wire_append_put(&out, &append, entries, count);
    then_it_encodes_to(body);
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
    free(entries);
}

static void try_raft(enum wire_type type, struct bytes body)
{
    struct raft_message message;
    struct bytes configuration = {NULL, 0};
    if (wire_raft_get(type, body, &message, &configuration) != STATUS_OK)
        return;
    wire_raft_put(&out, &message, configuration);
    then_it_encodes_to(body);
}

static void try_messages(struct bytes body)
{
    struct reader reader = reader_of(body);
    struct message message;
    struct bytes groups;
    while (wire_message_next(&reader, &message, &groups))
        wire_message_put(&out, &message, groups);
    if (!reader.failed)
        then_it_encodes_to(body);
}

static void try_bulk(enum wire_type type, struct bytes body)
{
    struct wire_applied applied;
    struct wire_hash hash;
    struct wire_snapshot_offer offer;
    struct wire_snapshot_chunk chunk;
    struct wire_snapshot_ack ack;
    bool decoded = true;
    if (type == WIRE_APPLIED && wire_applied_get(body, &applied) == STATUS_OK)
        wire_applied_put(&out, &applied);
    else if (type == WIRE_HASH && wire_hash_get(body, &hash) == STATUS_OK)
        wire_hash_put(&out, &hash);
    else if (type == WIRE_SNAPSHOT_OFFER && wire_snapshot_offer_get(body, &offer) == STATUS_OK)
        wire_snapshot_offer_put(&out, &offer);
    else if (type == WIRE_SNAPSHOT_CHUNK && wire_snapshot_chunk_get(body, &chunk) == STATUS_OK)
        wire_snapshot_chunk_put(&out, &chunk);
    else if (type == WIRE_SNAPSHOT_ACK && wire_snapshot_ack_get(body, &ack) == STATUS_OK)
        wire_snapshot_ack_put(&out, &ack);
    else
        decoded = false;
    if (decoded)
        then_it_encodes_to(body);
}

/* The first byte is the type, so that the fuzzer need not find lengths. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_frame frame;
    struct wire_hello hello;
    size_t whole;
    struct bytes all = bytes_of(data, size);
    (void)wire_frame_size(all, WIRE_FRAME_BYTES_MAX, &whole);
    (void)wire_frame_decode(all, &frame);
    (void)wire_hello_decode(all, &hello);
    if (size == 0)
        return 0;
    buffer_clear(&out);
    enum wire_type type = (enum wire_type)data[0];
    struct bytes body = bytes_of(data + 1, size - 1);
    if (type == WIRE_APPEND)
        try_append(body);
    else if (type == WIRE_MESSAGES)
        try_messages(body);
    else if (type < WIRE_FORWARD)
        try_raft(type, body);
    else
        try_bulk(type, body);
    return 0;
}
