/* link_tls.c — the bytes of a link on their way through TLS.
 *
 *   wire -> line_tls_receive -> (SHAKING: handshake -> line_shaken) -> plain bytes behind line->input
 *   queue of frames -> line_tls_flush: gathered into whole records -> line->sealed --one write--> kernel
 *                                                      what it does not take: line->writing, until libuv has written it */
#include "link_private.h"

#include <stdio.h>

#define RECORD_BYTES (16 * 1024)  /* frames that are smaller go into one record together */
#define SEAL_BYTES   (256 * 1024) /* at once */

void line_tls_start(struct line *line)
{
    line->tls = tls_session_new(line->links->tls, !line->dialled);
    if (line->dialled)
        line_tls_receive(line, bytes_of(NULL, 0)); /* it speaks first */
}

void line_tls_release(struct line *line)
{
    tls_session_free(line->tls);
    buffer_release(&line->sealed);
    buffer_release(&line->writing);
}

/* ---- out ---- */

/* Gives line->sealed to the kernel; the rest of it as a write under way. */
static void push(struct line *line)
{
    if (line->under_way > 0 || line->sealed.size == 0 || line->phase == LINE_CLOSING)
        return;
    uv_buf_t buffer = uv_buf_init((char *)line->sealed.data, (unsigned)line->sealed.size);
    int result = uv_try_write((uv_stream_t *)&line->socket, &buffer, 1);
    if (result < 0 && result != UV_EAGAIN) {
        line_close(line);
        return;
    }
    buffer_consume(&line->sealed, result > 0 ? (size_t)result : 0);
    if (line->sealed.size == 0)
        return;
    buffer_release(&line->writing);
    line->writing = line->sealed;
    line->sealed = (struct buffer){0};
    buffer = uv_buf_init((char *)line->writing.data, (unsigned)line->writing.size);
    line->under_way = line->writing.size;
    if (uv_write(&line->write, (uv_stream_t *)&line->socket, &buffer, 1, line_written) != 0) {
        line->under_way = 0;
        line_close(line);
    }
}

static bool seal(struct line *line, struct bytes plain)
{
    if (plain.size == 0 || tls_session_send(line->tls, plain, &line->sealed) == TLS_OK)
        return true;
    line_complain(line, "link-broken", tls_session_fault(line->tls));
    line_close(line);
    return false;
}

/* Seals some of the queue: small frames gathered, large ones as they are. */
static bool seal_queue(struct line *line)
{
    uv_buf_t buffers[LINK_WRITE_FRAMES];
    struct buffer *gathered = &line->links->gathered;
    size_t bytes, done = 0;
    unsigned count = line_buffers(line, buffers, &bytes);
    buffer_clear(gathered);
    for (unsigned i = 0; i < count && line->sealed.size < SEAL_BYTES; i++) {
        struct bytes frame = bytes_of(buffers[i].base, buffers[i].len);
        if (gathered->size + frame.size > RECORD_BYTES) {
            if (!seal(line, buffer_bytes(gathered)))
                return false;
            buffer_clear(gathered);
        }
        if (frame.size > RECORD_BYTES) {
            if (!seal(line, frame))
                return false;
        } else {
            buffer_put_bytes(gathered, frame);
        }
        done += frame.size;
    }
    if (!seal(line, buffer_bytes(gathered)))
        return false;
    line_drop(line, done);
    return true;
}

void line_tls_flush(struct line *line)
{
    while (line->phase == LINE_UP && line->under_way == 0 && (line->first < line->count || line->sealed.size > 0)) {
        if (!seal_queue(line))
            return;
        push(line);
    }
    if (line->first == line->count)
        line->first = line->count = 0;
    if (line->under_way == 0)
        buffer_release(&line->writing);
}

void line_tls_send(struct line *line, struct bytes frame)
{
    if (seal(line, frame))
        push(line);
}

/* ---- in ---- */

static void shake(struct line *line, struct bytes wire)
{
    enum tls_result result = tls_session_handshake(line->tls, wire, &line->sealed);
    push(line);
    if (result == TLS_FAULT && line->phase != LINE_CLOSING) {
        line_complain(line, "link-refused", tls_session_fault(line->tls));
        line_close(line);
    }
    if (result != TLS_DONE || line->phase == LINE_CLOSING)
        return;
    result = tls_session_receive(line->tls, bytes_of(NULL, 0), &line->input, &line->sealed);
    if (result == TLS_OK)
        line_shaken(line);
    else
        line_close(line);
}

void line_tls_receive(struct line *line, struct bytes wire)
{
    if (line->phase == LINE_SHAKING) {
        shake(line, wire);
        return;
    }
    enum tls_result result = tls_session_receive(line->tls, wire, &line->input, &line->sealed);
    push(line);
    if (result == TLS_OK || line->phase == LINE_CLOSING)
        return;
    if (result == TLS_FAULT)
        line_complain(line, "link-refused", tls_session_fault(line->tls));
    line_close(line);
}

bool line_tls_is_node(const struct line *line, uint32_t node)
{
    char uri[128];
    snprintf(uri, sizeof(uri), "coterie://%s/%u", line->links->settings.cluster_name, node);
    return tls_session_peer_has_uri(line->tls, uri);
}
