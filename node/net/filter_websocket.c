/* filter_websocket.c — MQTT in binary frames of WebSocket (RFC 6455; MQTT 5.0, section 6).
 *
 *   upgrade: the HTTP request (websocket_upgrade.h) is gathered, and answered -> open
 *   frames:  binary ones, whole or in parts -> their payload, as it arrives; MQTT packets need not match frames
 *            ping -> pong      close -> close, and the end      text -> close 1003, and the end
 *   back:    what is to be sent becomes one binary frame
 *
 * wslay reads the frames: headers, lengths in shortest form, unmasking. What a frame may be, here and now, is checked in
 * frame_begins(). No payload is kept but that of control frames (125 bytes). wslay's own memory, 4 KiB, is given
 * back whenever no frame is half read: an idle connection has none. No extension is ever agreed, so nothing is
 * compressed. */
#include "filter.h"

#include "base/memory.h"
#include "websocket_upgrade.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <wslay/wslay.h>

#define CONTROL_BYTES_MAX 125

enum close_code {
    CLOSE_NORMAL = 1000,
    CLOSE_PROTOCOL_ERROR = 1002,
    CLOSE_UNSUPPORTED = 1003,
    CLOSE_TOO_LARGE = 1009,
};

struct filter_websocket {
    struct filter filter;
    const struct websocket_settings *settings;
    struct buffer request;             /* until it is open */
    wslay_frame_context_ptr reader;    /* NULL: between two frames */
    struct bytes in;                   /* of the call under way */
    uint64_t lent, counted;            /* bytes that the reader was given; of them, those of frames seen so far */
    uint64_t frame_left;               /* payload of the frame at hand that is still to come */
    uint64_t message_bytes;            /* of the message at hand, all its frames so far */
    bool in_frame;                     /* its header has been read */
    bool in_message;                   /* the last frame of data was not the final one */
    bool closed;                       /* a close frame has been sent */
    uint8_t opcode;                    /* of the frame at hand */
    uint8_t control[CONTROL_BYTES_MAX]; /* its payload, if it is a control frame */
    uint8_t control_size;
    const char *fault;
};

/* ---- what goes back ---- */

static void put_header(struct buffer *wire, enum wslay_opcode opcode, uint64_t size)
{
    uint8_t header[10] = {(uint8_t)(0x80 | opcode)};
    size_t length = size < 126 ? 2 : size < 65536 ? 4 : 10;
    header[1] = size < 126 ? (uint8_t)size : size < 65536 ? 126 : 127;
    for (size_t i = 2; i < length; i++)
        header[i] = (uint8_t)(size >> (8 * (length - 1 - i)));
    buffer_put(wire, header, length);
}

static void put_close(struct filter_websocket *socket, enum close_code code, struct buffer *wire)
{
    const uint8_t bytes[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    if (socket->closed)
        return;
    socket->closed = true;
    put_header(wire, WSLAY_CONNECTION_CLOSE, sizeof(bytes));
    buffer_put(wire, bytes, sizeof(bytes));
}

static enum filter_result refuse(struct filter_websocket *socket, enum close_code code, const char *why,
                                 struct buffer *wire)
{
    socket->fault = why;
    put_close(socket, code, wire);
    return FILTER_FAULT;
}

/* ---- frames ---- */

static bool is_control(uint8_t opcode)
{
    return (opcode & 8) != 0;
}

/* Whether this frame may come now. */
static enum filter_result frame_begins(struct filter_websocket *socket, const struct wslay_frame_iocb *frame,
                                       struct buffer *wire)
{
    if (frame->rsv != 0 || !frame->mask)
        return refuse(socket, CLOSE_PROTOCOL_ERROR, "a frame that no client may send", wire);
    switch (frame->opcode) {
    case WSLAY_CONNECTION_CLOSE:
    case WSLAY_PING:
    case WSLAY_PONG:
        if (!frame->fin || frame->payload_length > CONTROL_BYTES_MAX)
            return refuse(socket, CLOSE_PROTOCOL_ERROR, "a control frame in parts, or too large", wire);
        socket->control_size = 0;
        break;
    case WSLAY_CONTINUATION_FRAME:
    case WSLAY_BINARY_FRAME:
        if ((frame->opcode == WSLAY_CONTINUATION_FRAME) != socket->in_message)
            return refuse(socket, CLOSE_PROTOCOL_ERROR, "the parts of a message are mixed up", wire);
        socket->message_bytes = (socket->in_message ? socket->message_bytes : 0) + frame->payload_length;
        if (frame->payload_length > socket->settings->message_bytes_max ||
            socket->message_bytes > socket->settings->message_bytes_max)
            return refuse(socket, CLOSE_TOO_LARGE, "a message beyond the limit", wire);
        socket->in_message = !frame->fin;
        break;
    case WSLAY_TEXT_FRAME: return refuse(socket, CLOSE_UNSUPPORTED, "a text frame: MQTT is binary", wire);
    default: return refuse(socket, CLOSE_PROTOCOL_ERROR, "a frame of an unknown kind", wire);
    }
    uint64_t length = frame->payload_length;
    socket->counted += 6 + (length < 126 ? 0 : length < 65536 ? 2 : 8) + length;
    socket->opcode = frame->opcode;
    socket->frame_left = length;
    socket->in_frame = true;
    return FILTER_OK;
}

static enum filter_result close_arrives(struct filter_websocket *socket, struct buffer *wire)
{
    unsigned code = socket->control_size >= 2 ? (unsigned)(socket->control[0] << 8 | socket->control[1]) : 0;
    bool valid = socket->control_size == 0 || (code >= 1000 && code <= 1011 && code != 1004 && code != 1005 && code != 1006) ||
                 (code >= 3000 && code <= 4999);
    if (socket->control_size == 1 || !valid)
        return refuse(socket, CLOSE_PROTOCOL_ERROR, "a close frame with a code that does not exist", wire);
    put_close(socket, CLOSE_NORMAL, wire);
    return FILTER_END;
}

static enum filter_result frame_ends(struct filter_websocket *socket, struct buffer *wire)
{
    socket->in_frame = false;
    if (socket->opcode == WSLAY_CONNECTION_CLOSE)
        return close_arrives(socket, wire);
    if (socket->opcode == WSLAY_PING) {
        put_header(wire, WSLAY_PONG, socket->control_size);
        buffer_put(wire, socket->control, socket->control_size);
    }
    return FILTER_OK;
}

static void take_payload(struct filter_websocket *socket, const struct wslay_frame_iocb *frame, struct buffer *plain)
{
    assert(frame->data_length <= socket->frame_left);
    socket->frame_left -= frame->data_length;
    if (!is_control(socket->opcode)) {
        buffer_put(plain, frame->data, frame->data_length);
        return;
    }
    assert(socket->control_size + frame->data_length <= CONTROL_BYTES_MAX);
    if (frame->data_length > 0)
        memcpy(socket->control + socket->control_size, frame->data, frame->data_length);
    socket->control_size = (uint8_t)(socket->control_size + frame->data_length);
}

static ssize_t lend(uint8_t *out, size_t size, int flags, void *context)
{
    struct filter_websocket *socket = context;
    (void)flags;
    size_t count = socket->in.size < size ? socket->in.size : size;
    if (count == 0)
        return -1; /* wslay: WANT_READ */
    memcpy(out, socket->in.data, count);
    socket->in.data += count;
    socket->in.size -= count;
    socket->lent += count;
    return (ssize_t)count;
}

static enum filter_result read_frames(struct filter_websocket *socket, struct buffer *plain, struct buffer *wire)
{
    for (;;) {
        struct wslay_frame_iocb frame = {0};
        enum filter_result result = FILTER_OK;
        ssize_t count = wslay_frame_recv(socket->reader, &frame);
        if (count == WSLAY_ERR_WANT_READ)
            return FILTER_OK;
        if (count < 0)
            return refuse(socket, CLOSE_PROTOCOL_ERROR, "not a frame", wire);
        if (!socket->in_frame)
            result = frame_begins(socket, &frame, wire);
        if (result == FILTER_OK) {
            take_payload(socket, &frame, plain);
            if (socket->frame_left == 0)
                result = frame_ends(socket, wire);
        }
        if (result != FILTER_OK)
            return result;
    }
}

static enum filter_result receive_frames(struct filter_websocket *socket, struct bytes in, struct buffer *plain,
                                         struct buffer *wire)
{
    static const struct wslay_frame_callbacks calls = {.recv_callback = lend};
    if (socket->closed || in.size == 0)
        return FILTER_OK;
    if (socket->reader == NULL && wslay_frame_context_init(&socket->reader, &calls, socket) != 0)
        abort(); /* no memory: memory.h says why we do not go on */
    socket->in = in;
    enum filter_result result = read_frames(socket, plain, wire);
    socket->in = bytes_of(NULL, 0);
    if (!socket->in_frame && socket->lent == socket->counted) {
        wslay_frame_context_free(socket->reader);
        socket->reader = NULL;
    }
    return result;
}

/* ---- the class ---- */

static enum filter_result receive_request(struct filter_websocket *socket, struct bytes in, struct buffer *plain,
                                          struct buffer *wire)
{
    const struct upgrade_rules rules = {.path = socket->settings->path, .origins = socket->settings->origins};
    size_t used;
    buffer_put_bytes(&socket->request, in);
    enum status status = upgrade_answer(buffer_bytes(&socket->request), &rules, wire, &used);
    if (status == STATUS_NEED_MORE)
        return FILTER_OK;
    if (status != STATUS_OK) {
        socket->fault = "its request is refused: not a WebSocket client of MQTT, or from another web site";
        socket->closed = true;
        return FILTER_FAULT;
    }
    socket->filter.open = true;
    struct buffer request = socket->request;
    socket->request = (struct buffer){0};
    enum filter_result result =
        receive_frames(socket, bytes_of(request.data + used, request.size - used), plain, wire);
    buffer_release(&request);
    return result;
}

static enum filter_result websocket_receive(struct filter *filter, struct bytes in, struct buffer *plain,
                                            struct buffer *wire)
{
    struct filter_websocket *socket = (struct filter_websocket *)filter;
    return filter->open ? receive_frames(socket, in, plain, wire) : receive_request(socket, in, plain, wire);
}

static enum filter_result websocket_send(struct filter *filter, struct bytes plain, struct buffer *wire)
{
    if (((struct filter_websocket *)filter)->closed || plain.size == 0)
        return FILTER_OK;
    put_header(wire, WSLAY_BINARY_FRAME, plain.size);
    buffer_put_bytes(wire, plain);
    return FILTER_OK;
}

static void websocket_finish(struct filter *filter, struct buffer *wire)
{
    if (filter->open)
        put_close((struct filter_websocket *)filter, CLOSE_NORMAL, wire);
}

static const char *websocket_fault(const struct filter *filter)
{
    return ((const struct filter_websocket *)filter)->fault;
}

static void websocket_free(struct filter *filter)
{
    struct filter_websocket *socket = (struct filter_websocket *)filter;
    if (socket->reader != NULL)
        wslay_frame_context_free(socket->reader);
    buffer_release(&socket->request);
    free(socket);
}

static const struct filter_class websocket_class = {
    .name = "websocket",
    .receive = websocket_receive,
    .send = websocket_send,
    .finish = websocket_finish,
    .fault = websocket_fault,
    .free = websocket_free,
};

struct filter *filter_websocket_new(const struct websocket_settings *settings)
{
    struct filter_websocket *socket = memory_zeroed(1, sizeof(*socket));
    socket->filter.class = &websocket_class;
    socket->settings = settings;
    return &socket->filter;
}
