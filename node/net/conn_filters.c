/* conn_filters.c — the bytes of a conn on their way through its filters.
 *
 *   socket -> wrapping_receive -> chain -> opened(), received()
 *                                   └ answers of the filters -> kernel
 *   frames -> wrapping_write, gathered -> chain -> one range of bytes -> kernel */
#include "conn_private.h"

#include <assert.h>

#define GATHER_BYTES (16 * 1024)   /* small frames go through the filters together: one record of TLS */
#define ANSWERS_MAX      (64 * 1024)   /* bytes of filters' own to one who does not read */
#define KEEP_BYTES       (1024 * 1024) /* of the shared buffers */

static void trim(struct buffer *buffer)
{
    if (buffer->capacity > KEEP_BYTES)
        buffer_release(buffer);
}

size_t wrapping_written(struct wrapping *wrapping, size_t size)
{
    assert(size <= wrapping->wire);
    size_t plain = size == wrapping->wire ? wrapping->plain
                                          : (size_t)((double)wrapping->plain * (double)size / (double)wrapping->wire);
    wrapping->wire -= size;
    wrapping->plain -= plain;
    if (wrapping->wire == 0)
        wrapping->answers = 0;
    return plain;
}

/* Sends what the filters have made in conns->wire. */
static void send_wire(struct conn *conn)
{
    struct conns *conns = conn->conns;
    if (conns->wire.size > 0)
        conn_write_bytes(conn, buffer_bytes(&conns->wire));
    trim(&conns->wire);
}

static void refuse(struct conn *conn)
{
    char why[400];
    struct conns *conns = conn->conns;
    chain_fault(&conn->wrapping->chain, why, sizeof(why));
    conns->counts.refused++;
    conns->calls.refused(conns->calls.context, conn, why);
}

static void send_answers(struct conn *conn)
{
    struct wrapping *wrapping = conn->wrapping;
    struct buffer *wire = &conn->conns->wire;
    wrapping->wire += wire->size;
    wrapping->answers += wire->size;
    send_wire(conn);
    if (conn->phase == CONN_OPEN && wrapping->answers > ANSWERS_MAX)
        conn_close_now(conn); /* it asks and asks, and never listens */
}

static void open_if_ready(struct conn *conn)
{
    struct conns *conns = conn->conns;
    struct wrapping *wrapping = conn->wrapping;
    struct filter_facts facts;
    if (wrapping->opening == NULL || !chain_open(&wrapping->chain))
        return;
    opening_over(conn);
    chain_facts(&wrapping->chain, &facts);
    wrapping->proxy = facts.proxy;
    conns->counts.opened++;
    conns->calls.opened(conns->calls.context, conn, &facts);
}

void wrapping_receive(struct conn *conn, struct bytes bytes)
{
    struct conns *conns = conn->conns;
    struct wrapping *wrapping = conn->wrapping;
    buffer_clear(&conns->plain);
    buffer_clear(&conns->wire);
    enum filter_result result =
        chain_receive(&wrapping->chain, &conns->scratch, bytes, &conns->plain, &conns->wire);
    send_answers(conn);
    if (conn->phase == CONN_OPEN && result != FILTER_FAULT)
        open_if_ready(conn);
    if (conn->phase == CONN_OPEN && wrapping->opening == NULL && conns->plain.size > 0)
        conns->calls.received(conns->calls.context, conn, buffer_bytes(&conns->plain));
    trim(&conns->plain);
    if (conn->phase != CONN_OPEN || result == FILTER_OK)
        return;
    if (result == FILTER_WORK) {
        opening_work(conn);
        return;
    }
    if (result == FILTER_FAULT)
        refuse(conn);
    if (conn->phase == CONN_OPEN)
        conn_end(conn);
}

/* One range of plain bytes through the filters. */
static bool convert(struct conn *conn, struct bytes plain)
{
    struct conns *conns = conn->conns;
    conn->wrapping->plain += plain.size;
    return chain_send(&conn->wrapping->chain, &conns->scratch, plain, &conns->wire) == FILTER_OK;
}

void wrapping_write(struct conn *conn, struct frame *const *frames, size_t count)
{
    struct conns *conns = conn->conns;
    struct buffer *gathered = &conns->gathered;
    bool fine = true;
    buffer_clear(&conns->wire);
    buffer_clear(gathered);
    for (size_t i = 0; i < count && fine; i++) {
        struct bytes frame = bytes_of(frames[i]->data, frames[i]->size);
        if (gathered->size > 0 && gathered->size + frame.size > GATHER_BYTES) {
            fine = convert(conn, buffer_bytes(gathered));
            buffer_clear(gathered);
        }
        if (frame.size > GATHER_BYTES)
            fine = fine && convert(conn, frame);
        else
            buffer_put_bytes(gathered, frame);
    }
    if (fine && gathered->size > 0)
        fine = convert(conn, buffer_bytes(gathered));
    for (size_t i = 0; i < count; i++)
        frame_release(frames[i]);
    conn->wrapping->wire += conns->wire.size;
    if (fine)
        send_wire(conn);
    else
        conn_close_now(conn);
}

void wrapping_finish(struct conn *conn)
{
    struct conns *conns = conn->conns;
    buffer_clear(&conns->wire);
    chain_finish(&conn->wrapping->chain, &conns->scratch, &conns->wire);
    conn->wrapping->wire += conns->wire.size;
    send_wire(conn);
}
