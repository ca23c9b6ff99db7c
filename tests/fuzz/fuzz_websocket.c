/* fuzz_websocket.c — any bytes to a WebSocket listener: what comes out does not depend on how they were cut into pieces,
 * and behind a good request it is what a plain reading of the frames gives. The first byte of the input chooses how it is cut,
 * and whether a good request is put in front. */
#include "node/net/chain.h"
#include "node/net/websocket_upgrade.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGE_MAX 1000

static const char request[] = "GET /mqtt HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n"
                              "Sec-WebSocket-Protocol: mqtt\r\n\r\n";

struct outcome {
    enum filter_result result;
    bool open;
    struct buffer plain, wire;
};

static void check(bool fact)
{
    if (!fact)
        abort();
}

static void release(struct outcome *outcome)
{
    buffer_release(&outcome->plain);
    buffer_release(&outcome->wire);
}

/* Hands the bytes over in pieces of 1 to `step`, or all at once if that is 0. */
static struct outcome received(struct bytes bytes, unsigned step)
{
    static const struct websocket_settings settings = {.path = "", .origins = "", .message_bytes_max = MESSAGE_MAX};
    struct chain_scratch scratch = {0};
    struct chain chain = {0};
    struct outcome outcome = {.result = FILTER_OK};
    chain_add(&chain, filter_websocket_new(&settings));
    for (unsigned turn = 0; bytes.size > 0 && outcome.result == FILTER_OK; turn++) {
        size_t size = step == 0 ? bytes.size : 1 + turn * 7 % step;
        size = size < bytes.size ? size : bytes.size;
        uint8_t *piece = malloc(size); /* exactly so long: a byte too far is found */
        memcpy(piece, bytes.data, size);
        outcome.result = chain_receive(&chain, &scratch, bytes_of(piece, size), &outcome.plain, &outcome.wire);
        free(piece);
        bytes.data += size;
        bytes.size -= size;
    }
    outcome.open = chain_open(&chain);
    chain_release(&chain);
    chain_scratch_release(&scratch);
    return outcome;
}

/* ---- the plain reading ---- */

struct reading {
    struct buffer plain, pongs;
    bool ended; /* by a close frame */
    bool fault;
    bool undecided; /* nothing is there behind the last header: a fault in it may be seen already, or not yet */
};

static bool read_frame(struct reading *reading, struct bytes *rest, bool *in_message, uint64_t *message)
{
    const uint8_t *at = rest->data;
    if (rest->size < 2)
        return false;
    unsigned code = at[1] & 0x7f, extra = code == 126 ? 2 : code == 127 ? 8 : 0;
    uint64_t length = extra == 0 ? code : 0;
    bool masked = (at[1] & 0x80) != 0, final = (at[0] & 0x80) != 0;
    size_t head = 2 + extra + (masked ? 4 : 0);
    uint8_t opcode = at[0] & 15;
    reading->undecided = rest->size < head + 1;
    if (rest->size < head)
        return false;
    for (unsigned i = 0; i < extra; i++)
        length = length << 8 | at[2 + i];
    reading->fault = !masked || (at[0] & 0x70) != 0 || (extra == 2 && length < 126) ||
                     (extra == 8 && (length < 65536 || length >> 63 != 0)) ||
                     (opcode > 2 && (opcode < 8 || opcode > 10)) || opcode == 1 ||
                     (opcode >= 8 && (!final || length > 125)) || (opcode == 0 && !*in_message) ||
                     (opcode == 2 && *in_message);
    if (opcode < 8 && !reading->fault) {
        *message = (*in_message ? *message : 0) + length;
        reading->fault = length > MESSAGE_MAX || *message > MESSAGE_MAX;
        *in_message = !final;
    }
    if (reading->fault)
        return false;
    size_t there = rest->size - head < length ? rest->size - head : (size_t)length;
    uint8_t payload[MESSAGE_MAX];
    for (size_t i = 0; i < there; i++)
        payload[i] = at[head + i] ^ at[head - 4 + i % 4];
    if (opcode < 8)
        buffer_put(&reading->plain, payload, there);
    rest->data += head + there;
    rest->size -= head + there;
    if (there < length)
        return false;
    if (opcode == 9) {
        buffer_put_u8(&reading->pongs, 0x8a);
        buffer_put_u8(&reading->pongs, (uint8_t)length);
        buffer_put(&reading->pongs, payload, there);
    }
    reading->ended = opcode == 8;
    return opcode != 8;
}

static struct reading read_plainly(struct bytes frames)
{
    struct reading reading = {0};
    bool in_message = false;
    uint64_t message = 0;
    while (frames.size > 0 && read_frame(&reading, &frames, &in_message, &message))
        continue;
    return reading;
}

static void compare(const struct outcome *outcome, struct bytes frames)
{
    struct reading reading = read_plainly(frames);
    check(bytes_equal(buffer_bytes(&outcome->plain), buffer_bytes(&reading.plain)));
    if (!reading.fault && !reading.ended && !reading.undecided)
        check(outcome->result == FILTER_OK);
    if (reading.fault && !reading.undecided)
        check(outcome->result == FILTER_FAULT);
    if (reading.ended) /* in order, or with a code that does not exist */
        check(outcome->result != FILTER_OK);
    const uint8_t *behind = memmem(outcome->wire.data, outcome->wire.size, "\r\n\r\n", 4);
    check(behind != NULL);
    size_t size = outcome->wire.size - (size_t)(behind + 4 - outcome->wire.data);
    check(size >= reading.pongs.size && (reading.pongs.size == 0 || memcmp(behind + 4, reading.pongs.data, reading.pongs.size) == 0));
    check((size > reading.pongs.size) == (outcome->result != FILTER_OK)); /* a close frame, and nothing else */
    buffer_release(&reading.plain);
    buffer_release(&reading.pongs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer stream = {0};
    if (size == 0)
        return 0;
    bool good = (data[0] & 1) != 0;
    unsigned step = 1 + (data[0] >> 1) % 40;
    if (good)
        buffer_put(&stream, request, strlen(request));
    buffer_put(&stream, data + 1, size - 1);
    struct outcome whole = received(buffer_bytes(&stream), 0), pieces = received(buffer_bytes(&stream), step);
    check(whole.result == pieces.result && whole.open == pieces.open);
    check(bytes_equal(buffer_bytes(&whole.plain), buffer_bytes(&pieces.plain)));
    check(bytes_equal(buffer_bytes(&whole.wire), buffer_bytes(&pieces.wire)));
    check(!good || whole.open);
    if (good)
        compare(&whole, bytes_of(data + 1, size - 1));
    release(&whole);
    release(&pieces);
    buffer_release(&stream);
    return 0;
}
