/* link.c — see link.h for the flow.
 *
 * A `line` is one TCP connection, a `slot` the place for one of a peer and kind:
 *
 *   dialled   LOOKING_UP -> CONNECTING -> SHAKING -> GREETING --HELLO fits--> UP -> CLOSING
 *   accepted                              SHAKING -> GREETING --HELLO fits--> UP -> CLOSING      (in no slot before)
 *
 * SHAKING is TLS (link_tls.c), and over at once without it.
 *
 * The dialling side sends its HELLO when it is connected, the accepting side when it has read one. slot->line is
 * the only line of that peer and kind that counts; an accepted one replaces it. `down` is told when a line that was
 * UP is closed by the loop, so nobody hears of it from inside a call of theirs. */
#include "link_private.h"

#include "base/memory.h"

#include <assert.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEERS_MAX         63
#define TICK_MS           25
#define BACKOFF_FIRST_MS  25
#define BACKOFF_MAX_MS    500
#define CONNECT_MS        1000 /* a SYN into a partition is not waited for */
#define GREETING_MS       2000
#define UNREACHABLE_DIALS 10
#define STRANGERS_MAX     64 /* accepted connections that have not said HELLO */
#define ACCEPTS_PER_TICK  8  /* a handshake of TLS is 0.3 ms of the loop: a flood of strangers gets a tenth of it */
#define KEEP_INPUT_BYTES  (1024 * 1024)

static void links_free(struct links *links);

static struct slot *slot_of(const struct links *links, uint32_t peer, enum link_kind kind)
{
    for (uint32_t i = 0; i < links->slot_count; i++)
        if (links->slots[i].peer == peer && links->slots[i].kind == kind)
            return (struct slot *)&links->slots[i];
    return NULL;
}

static const char *kind_name(enum link_kind kind)
{
    return kind == LINK_RAFT ? "raft" : "bulk";
}

static void line_address(const struct line *line, char address[64])
{
    struct sockaddr_storage peer;
    int size = sizeof(peer);
    char host[INET6_ADDRSTRLEN] = "";
    address[0] = '\0';
    if (uv_tcp_getpeername(&line->socket, (struct sockaddr *)&peer, &size) != 0)
        return;
    uv_ip_name((struct sockaddr *)&peer, host, sizeof(host));
    snprintf(address, 64, "%s:%u", host, ntohs(((struct sockaddr_in *)&peer)->sin_port));
}

void line_complain(struct line *line, const char *event, const char *why)
{
    struct links *links = line->links;
    struct log_limit *limit = line->slot != NULL ? &line->slot->limit : &links->stranger_limit;
    uint64_t suppressed;
    char address[64];
    if (!log_allowed(limit, uv_now(links->loop), &suppressed))
        return;
    line_address(line, address);
    log_event(LOG_WARNING, event, log_u64("peer", line->peer), log_text("address", address), log_text("why", why),
              log_u64("suppressed", suppressed));
}

/* ---- writing ---- */

void line_drop(struct line *line, size_t size)
{
    line->bytes -= size;
    while (size > 0) {
        struct piece *piece = &line->queue[line->first];
        size_t left = piece->size - line->offset;
        if (size < left) {
            line->offset += size;
            return;
        }
        size -= left;
        line->offset = 0;
        line->first++;
        free(piece->data);
    }
}

unsigned line_buffers(const struct line *line, uv_buf_t buffers[LINK_WRITE_FRAMES], size_t *bytes)
{
    unsigned count = 0;
    *bytes = 0;
    for (size_t i = line->first; i < line->count && count < LINK_WRITE_FRAMES; i++) {
        size_t skip = i == line->first ? line->offset : 0;
        buffers[count++] = uv_buf_init((char *)line->queue[i].data + skip, (unsigned)(line->queue[i].size - skip));
        *bytes += line->queue[i].size - skip;
    }
    return count;
}

static void line_flush(struct line *line)
{
    uv_buf_t buffers[LINK_WRITE_FRAMES];
    size_t bytes;
    if (line->tls != NULL) {
        line_tls_flush(line);
        return;
    }
    while (line->phase == LINE_UP && line->under_way == 0 && line->first < line->count) {
        unsigned count = line_buffers(line, buffers, &bytes);
        int result = uv_try_write((uv_stream_t *)&line->socket, buffers, count);
        if (result == UV_EAGAIN)
            result = 0;
        if (result < 0) {
            line_close(line);
            return;
        }
        line_drop(line, (size_t)result);
        if ((size_t)result == bytes)
            continue;
        count = line_buffers(line, buffers, &bytes);
        line->under_way = bytes;
        if (uv_write(&line->write, (uv_stream_t *)&line->socket, buffers, count, line_written) != 0) {
            line->under_way = 0;
            line_close(line);
        }
        return;
    }
    if (line->first == line->count)
        line->first = line->count = 0;
}

void line_written(uv_write_t *request, int status)
{
    struct line *line = request->data;
    size_t size = line->under_way;
    line->under_way = 0;
    if (line->phase == LINE_CLOSING)
        return;
    if (status != 0) {
        line_close(line);
        return;
    }
    if (line->tls == NULL)
        line_drop(line, size);
    line_flush(line);
}

static void line_queue(struct line *line, uint8_t *data, size_t size)
{
    if (line->first > 0 && line->count == line->capacity && line->under_way == 0) {
        memmove(line->queue, line->queue + line->first, (line->count - line->first) * sizeof(*line->queue));
        line->count -= line->first;
        line->first = 0;
    }
    if (line->count == line->capacity) {
        line->capacity = line->capacity == 0 ? 16 : line->capacity * 2;
        line->queue = memory_resize(line->queue, line->capacity * sizeof(*line->queue));
    }
    line->queue[line->count++] = (struct piece){data, size};
    line->bytes += size;
}

/* ---- closing ---- */

/* Accepted, and has not said who it is. */
static bool line_is_stranger(const struct line *line)
{
    return !line->dialled && (line->phase == LINE_SHAKING || line->phase == LINE_GREETING);
}

static void line_closed(uv_handle_t *handle)
{
    struct line *line = handle->data;
    struct links *links = line->links;
    if (line->previous != NULL)
        line->previous->next = line->next;
    else
        links->lines = line->next;
    if (line->next != NULL)
        line->next->previous = line->previous;
    if (line->was_up && !links->closing)
        links->calls.down(links->calls.context, line->peer, line->kind, line->in);
    for (size_t i = line->first; i < line->count; i++)
        free(line->queue[i].data);
    free(line->queue);
    buffer_release(&line->input);
    line_tls_release(line);
    free(line);
    if (links->closing)
        links_free(links);
}

void line_close(struct line *line)
{
    struct links *links = line->links;
    if (line->phase == LINE_CLOSING)
        return;
    if (line->slot != NULL && line->slot->line == line) {
        line->slot->line = NULL;
        line->slot->dial_ms = uv_now(links->loop) + line->slot->backoff_ms;
        line->slot->backoff_ms =
            line->slot->backoff_ms * 2 < BACKOFF_MAX_MS ? line->slot->backoff_ms * 2 : BACKOFF_MAX_MS;
    }
    if (line_is_stranger(line))
        links->strangers--;
    line->phase = LINE_CLOSING;
    uv_close((uv_handle_t *)&line->socket, line_closed);
}

/* Nobody answered. Worth a line only if that lasts: nodes of a cluster start one after the other. */
static void line_unreachable(struct line *line, const char *why)
{
    if (++line->slot->failures >= UNREACHABLE_DIALS)
        line_complain(line, "link-unreachable", why);
    line_close(line);
}

static void line_lost(struct line *line, const char *why)
{
    if (line->phase == LINE_CONNECTING) {
        line_unreachable(line, why);
        return;
    }
    if (line->phase == LINE_UP && line->heard)
        log_event(LOG_INFO, "link-down", log_u64("peer", line->peer), log_text("kind", kind_name(line->kind)),
                  log_text("why", why));
    else if (line->phase == LINE_UP)
        line_complain(line, "link-refused", "the peer closed the connection after HELLO; its log says why");
    else if (line->phase == LINE_SHAKING && line->dialled)
        line_complain(line, "link-refused",
                      "the peer closed the connection instead of TLS; its log says why, or it has no cluster.certificate");
    else if (line->phase == LINE_GREETING && line->dialled)
        line_complain(line, "link-refused", "the peer closed the connection instead of saying HELLO; its log says why");
    line_close(line);
}

/* ---- HELLO ---- */

/* Before the line is up: a fresh connection takes some hundred bytes, or it is none. */
static void line_say(struct line *line, struct bytes frame)
{
    if (line->tls != NULL) {
        line_tls_send(line, frame);
        return;
    }
    uv_buf_t buffer = uv_buf_init((char *)frame.data, (unsigned)frame.size);
    if (uv_try_write((uv_stream_t *)&line->socket, &buffer, 1) != (int)frame.size)
        line_close(line);
}

static void line_hello(struct line *line)
{
    struct links *links = line->links;
    struct buffer frame = {0};
    struct wire_hello hello = {.version = WIRE_VERSION,
                               .node = links->settings.self,
                               .receiver = line->peer,
                               .incarnation = links->settings.incarnation,
                               .replacement = links->settings.replacement,
                               .kind = (uint8_t)line->kind};
    memcpy(hello.cluster_id, links->settings.cluster_id, sizeof(hello.cluster_id));
    hello.generation = line->out = ++links->generation;
    wire_hello_encode(&hello, &frame);
    line_say(line, buffer_bytes(&frame));
    buffer_release(&frame);
}

/* Why this HELLO is refused; NULL: it fits. */
static const char *hello_refusal(const struct line *line, const struct wire_hello *hello)
{
    const struct links *links = line->links;
    if (hello->version != WIRE_VERSION)
        return "it speaks another version of this protocol";
    if (memcmp(hello->cluster_id, links->settings.cluster_id, sizeof(hello->cluster_id)) != 0)
        return "it belongs to another cluster (cluster.name differs)";
    if (hello->receiver != links->settings.self)
        return "it takes this node for another one: the members' addresses are mixed up";
    if (hello->kind >= LINK_KINDS || slot_of(links, hello->node, hello->kind) == NULL)
        return "it is not among the members";
    if (line->tls != NULL && !line_tls_is_node(line, hello->node))
        return "its certificate is not that of this node of this cluster (deploy/certificates makes them)";
    if (line->dialled && (hello->node != line->peer || hello->kind != line->kind))
        return "another node answers at this address: the members' addresses are mixed up";
    if (!line->dialled && hello->node < links->settings.self)
        return "it dials although its id is the smaller one";
    return links->calls.admit(links->calls.context, hello->node, hello->incarnation, hello->replacement);
}

/* Tells the other side why, as far as it still listens. */
static void line_refuse(struct line *line, const char *why)
{
    struct buffer frame = {0};
    line_complain(line, "link-refused", why);
    wire_refusal_encode(why, &frame);
    line_say(line, buffer_bytes(&frame));
    buffer_release(&frame);
    line_close(line);
}

/* Whether this frame says that the peer has refused our HELLO: then the line is closed. */
static bool line_refused(struct line *line, struct bytes frame)
{
    char why[WIRE_REFUSAL_BYTES_MAX + 1], text[WIRE_REFUSAL_BYTES_MAX + 64];
    if (line->heard || !wire_refusal_decode(frame, why))
        return false;
    snprintf(text, sizeof text, "the peer refuses this node and says of it: %s", why);
    line_complain(line, "link-refused", text);
    line_close(line);
    return true;
}

/* An accepted line takes its slot; what was there gives way. */
static void line_take_slot(struct line *line, struct slot *slot)
{
    struct line *former = slot->line;
    if (former == line)
        return;
    if (former != NULL) {
        former->slot = NULL;
        line_close(former);
    }
    slot->line = line;
    line->slot = slot;
}

static void line_greeted(struct line *line, struct bytes frame)
{
    struct links *links = line->links;
    struct wire_hello hello;
    if (line->dialled && line_refused(line, frame))
        return;
    if (wire_hello_decode(frame, &hello) != STATUS_OK) {
        line_complain(line, "link-refused", "nonsense instead of HELLO");
        line_close(line);
        return;
    }
    if (!line->dialled) {
        line->peer = hello.node;
        line->kind = hello.kind < LINK_KINDS ? (enum link_kind)hello.kind : LINK_RAFT;
    }
    const char *refusal = hello_refusal(line, &hello);
    /* Another cluster's node shall read in our HELLO why it is refused; to others silence says it. */
    bool stranger = memcmp(hello.cluster_id, links->settings.cluster_id, sizeof(hello.cluster_id)) != 0;
    if (!line->dialled && (refusal == NULL || stranger))
        line_hello(line);
    if (line->phase == LINE_CLOSING)
        return;
    if (refusal != NULL) {
        line_refuse(line, refusal);
        return;
    }
    if (!line->dialled)
        links->strangers--;
    line_take_slot(line, slot_of(links, line->peer, line->kind));
    line->phase = LINE_UP;
    line->was_up = true;
    line->in = hello.generation;
    links->calls.up(links->calls.context, line->peer, line->kind, line->in, line->out, wire_hello_life(&hello));
}

/* ---- reading ---- */

static void line_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct line *line = handle->data;
    struct buffer *wire = &line->links->wire;
    (void)suggested;
    if (line->tls != NULL) {
        buffer_clear(wire);
        buffer_reserve(wire, LINK_READ_BYTES);
        *buffer = uv_buf_init((char *)wire->data, LINK_READ_BYTES);
        return;
    }
    buffer_reserve(&line->input, LINK_READ_BYTES);
    *buffer =
        uv_buf_init((char *)line->input.data + line->input.size, (unsigned)(line->input.capacity - line->input.size));
}

/* Only now it is sure that the peer has taken our HELLO: it might have refused it. */
static void line_heard(struct line *line)
{
    line->heard = true;
    line->slot->backoff_ms = BACKOFF_FIRST_MS;
    line->slot->limit.next_ms = 0;
    log_event(LOG_INFO, "link-up", log_u64("peer", line->peer), log_text("kind", kind_name(line->kind)));
}

static void line_frames(struct line *line)
{
    size_t used = 0;
    while (line->phase != LINE_CLOSING) {
        struct bytes rest = {line->input.data + used, line->input.size - used};
        size_t size, limit = line->phase == LINE_UP ? WIRE_FRAME_BYTES_MAX : WIRE_HELLO_BYTES_MAX;
        enum status status = wire_frame_size(rest, limit, &size);
        if (status == STATUS_OK && size > rest.size) {
            buffer_reserve(&line->input, size - rest.size);
            break;
        }
        if (status == STATUS_NEED_MORE)
            break;
        if (status != STATUS_OK) {
            line_complain(line, "link-nonsense", "a frame of an impossible length");
            line_close(line);
        } else if (line->phase == LINE_UP) {
            if (line_refused(line, bytes_of(rest.data, size)))
                break;
            if (!line->heard)
                line_heard(line);
            line->links->calls.frame(line->links->calls.context, line->peer, line->kind, bytes_of(rest.data, size));
        } else {
            line_greeted(line, bytes_of(rest.data, size));
        }
        used += size;
    }
    buffer_consume(&line->input, used);
    if (line->input.size == 0 && line->input.capacity > KEEP_INPUT_BYTES)
        buffer_release(&line->input);
}

static void line_readable(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct line *line = stream->data;
    if (size < 0) {
        line_lost(line, uv_strerror((int)size));
    } else if (size > 0 && line->phase != LINE_CLOSING) {
        if (line->tls != NULL)
            line_tls_receive(line, bytes_of(buffer->base, (size_t)size));
        else
            line->input.size += (size_t)size;
        if (line->phase == LINE_GREETING || line->phase == LINE_UP)
            line_frames(line);
    }
}

/* ---- connecting ---- */

static struct line *line_new(struct links *links)
{
    struct line *line = memory_zeroed(1, sizeof(*line));
    uv_tcp_init(links->loop, &line->socket);
    line->socket.data = line;
    line->write.data = line;
    line->connect.data = line;
    line->links = links;
    line->next = links->lines;
    if (links->lines != NULL)
        links->lines->previous = line;
    links->lines = line;
    return line;
}

static void line_options(struct line *line)
{
    const struct {
        int level, option, value;
    } settings[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 1},
        {IPPROTO_TCP, TCP_KEEPINTVL, 1},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, (int)line->links->settings.silence_ms},
    };
    uv_os_fd_t fd;
    if (uv_fileno((uv_handle_t *)&line->socket, &fd) != 0)
        return;
    for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
        setsockopt(fd, settings[i].level, settings[i].option, &settings[i].value, sizeof(settings[i].value));
}

void line_shaken(struct line *line)
{
    line->phase = LINE_GREETING;
    if (!line->dialled)
        return;
    if (line->tls != NULL && !line_tls_is_node(line, line->peer)) {
        line_complain(line, "link-refused",
                      "the certificate at this address is not that of this node of this cluster");
        line_close(line);
        return;
    }
    line_hello(line);
}

static void line_start(struct line *line)
{
    line->phase = LINE_SHAKING;
    line->deadline_ms = uv_now(line->links->loop) + GREETING_MS;
    line_options(line);
    if (line->links->tls != NULL)
        line_tls_start(line);
    if (uv_read_start((uv_stream_t *)&line->socket, line_buffer, line_readable) != 0)
        line_close(line);
    else if (line->tls == NULL)
        line_shaken(line);
}

static void line_connected(uv_connect_t *request, int status)
{
    struct line *line = request->data;
    if (line->phase == LINE_CLOSING)
        return;
    if (status != 0) {
        line_unreachable(line, uv_strerror(status));
        return;
    }
    line->slot->failures = 0;
    line_start(line);
}

static void slot_connect(struct slot *slot, const struct sockaddr *address)
{
    struct line *line = line_new(slot->links);
    line->dialled = true;
    line->slot = slot;
    line->peer = slot->peer;
    line->kind = slot->kind;
    line->phase = LINE_CONNECTING;
    line->deadline_ms = uv_now(slot->links->loop) + CONNECT_MS;
    slot->line = line;
    if (uv_tcp_connect(&line->connect, &line->socket, address, line_connected) != 0)
        line_close(line);
}

static void links_release(struct links *links)
{
    tls_context_release(links->tls);
    buffer_release(&links->wire);
    buffer_release(&links->gathered);
    free(links);
}

/* Whoever leaves last turns off the light. */
static void links_free(struct links *links)
{
    if (links->look_ups == 0 && links->lines == NULL && links->server == NULL && links->timer == NULL)
        links_release(links);
}

static void slot_looked_up(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct slot *slot = request->data;
    struct links *links = slot->links;
    slot->looking_up = NULL;
    links->look_ups--;
    free(request);
    if (links->closing) {
        uv_freeaddrinfo(list);
        links_free(links);
        return;
    }
    unsigned count = 0;
    for (struct addrinfo *each = list; each != NULL; each = each->ai_next)
        count++;
    if (status != 0 || count == 0) {
        uint64_t suppressed;
        if (log_allowed(&slot->limit, uv_now(links->loop), &suppressed))
            log_event(LOG_WARNING, "link-name-unknown", log_u64("peer", slot->peer), log_text("host", slot->host),
                      log_text("why", status != 0 ? uv_strerror(status) : "no address"),
                      log_u64("suppressed", suppressed));
        slot->dial_ms = uv_now(links->loop) + slot->backoff_ms;
        slot->backoff_ms = slot->backoff_ms * 2 < BACKOFF_MAX_MS ? slot->backoff_ms * 2 : BACKOFF_MAX_MS;
    } else if (slot->line == NULL) {
        struct addrinfo *chosen = list;
        for (unsigned skip = slot->attempt++ % count; skip > 0; skip--)
            chosen = chosen->ai_next;
        slot_connect(slot, chosen->ai_addr);
    }
    uv_freeaddrinfo(list);
}

static void slot_dial(struct slot *slot)
{
    struct links *links = slot->links;
    struct sockaddr_storage literal;
    int port = atoi(slot->port);
    if (uv_ip4_addr(slot->host, port, (struct sockaddr_in *)&literal) == 0 ||
        uv_ip6_addr(slot->host, port, (struct sockaddr_in6 *)&literal) == 0) {
        slot_connect(slot, (struct sockaddr *)&literal);
        return;
    }
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    slot->looking_up = memory_zeroed(1, sizeof(*slot->looking_up));
    slot->looking_up->data = slot;
    if (uv_getaddrinfo(links->loop, slot->looking_up, slot_looked_up, slot->host, slot->port, &hints) != 0) {
        free(slot->looking_up);
        slot->looking_up = NULL;
        slot->dial_ms = uv_now(links->loop) + BACKOFF_MAX_MS;
        return;
    }
    links->look_ups++;
}

/* Strangers that only connect must not keep the nodes out: the one that has waited longest gives way. */
static void oldest_stranger_leaves(struct links *links)
{
    struct line *oldest = NULL;
    for (struct line *line = links->lines; line != NULL; line = line->next)
        if (line_is_stranger(line))
            oldest = line;
    if (oldest != NULL)
        line_close(oldest);
}

/* One connection is there. libuv polls for no more while it is not taken. */
static void links_take(struct links *links)
{
    if (links->accepted++ >= ACCEPTS_PER_TICK) {
        links->accept_waits = true;
        return;
    }
    if (links->strangers >= STRANGERS_MAX)
        oldest_stranger_leaves(links);
    struct line *line = line_new(links);
    line->phase = LINE_GREETING;
    links->strangers++;
    if (uv_accept((uv_stream_t *)links->server, (uv_stream_t *)&line->socket) != 0)
        line_close(line);
    else
        line_start(line);
}

static void links_accept(uv_stream_t *server, int status)
{
    if (status == 0)
        links_take(server->data);
}

static void links_tick(uv_timer_t *timer)
{
    struct links *links = timer->data;
    uint64_t now = uv_now(links->loop);
    for (struct line *line = links->lines, *next; line != NULL; line = next) {
        next = line->next;
        bool waited_for = line->phase == LINE_CONNECTING || line->phase == LINE_SHAKING || line->phase == LINE_GREETING;
        if (waited_for && now >= line->deadline_ms)
            line_lost(line, "timeout");
    }
    links->accepted = 0;
    if (links->accept_waits) {
        links->accept_waits = false;
        links_take(links);
    }
    for (uint32_t i = 0; i < links->slot_count; i++) {
        struct slot *slot = &links->slots[i];
        bool idle = slot->line == NULL && slot->looking_up == NULL && slot->peer < links->settings.self;
        if (idle && now >= slot->dial_ms)
            slot_dial(slot);
    }
}

/* ---- open and close ---- */

static enum status links_bind(struct links *links, char *error)
{
    const struct links_settings *settings = &links->settings;
    char port[8];
    snprintf(port, sizeof(port), "%u", settings->listen_port);
    uv_getaddrinfo_t request;
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    int result =
        uv_getaddrinfo(links->loop, &request, NULL, settings->listen_host, port, &hints); /* start-up: may block */
    if (result == 0) {
        result = uv_tcp_bind(links->server, request.addrinfo->ai_addr, 0);
        uv_freeaddrinfo(request.addrinfo);
    }
    if (result == 0)
        result = uv_listen((uv_stream_t *)links->server, 64, links_accept);
    if (result == 0)
        return STATUS_OK;
    snprintf(error, LINK_ERROR_MAX, "cannot listen for other nodes at %s:%u: %s", settings->listen_host,
             settings->listen_port, uv_strerror(result));
    return result == UV_EADDRINUSE || result == UV_EADDRNOTAVAIL ? STATUS_INVALID : STATUS_IO_ERROR;
}

static bool slot_address(struct slot *slot, const char *address)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || strlen(colon + 1) >= sizeof(slot->port))
        return false;
    size_t length = (size_t)(colon - address);
    bool brackets = length > 2 && address[0] == '[' && colon[-1] == ']';
    address += brackets ? 1 : 0;
    length -= brackets ? 2 : 0;
    if (length == 0 || length >= sizeof(slot->host))
        return false;
    memcpy(slot->host, address, length);
    slot->host[length] = '\0';
    strcpy(slot->port, colon + 1);
    return true;
}

enum status links_open(uv_loop_t *loop, const struct links_settings *settings, const struct links_calls *calls,
                       struct links **out, char error[LINK_ERROR_MAX])
{
    assert(settings->peer_count <= PEERS_MAX);
    uint32_t count = settings->peer_count * LINK_KINDS;
    struct links *links = memory_zeroed(1, sizeof(*links) + count * sizeof(struct slot));
    links->loop = loop;
    links->settings = *settings;
    links->calls = *calls;
    links->generation = settings->generation;
    links->slot_count = count;
    links->tls = settings->tls != NULL ? tls_context_retain(settings->tls) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        struct slot *slot = &links->slots[i];
        *slot = (struct slot){.links = links,
                              .peer = settings->peers[i / LINK_KINDS].node,
                              .kind = (enum link_kind)(i % LINK_KINDS),
                              .backoff_ms = BACKOFF_FIRST_MS};
        if (!slot_address(slot, settings->peers[i / LINK_KINDS].address)) {
            snprintf(error, LINK_ERROR_MAX, "not an address: %.200s", settings->peers[i / LINK_KINDS].address);
            links_release(links);
            return STATUS_INVALID;
        }
    }
    links->timer = memory_zeroed(1, sizeof(*links->timer));
    uv_timer_init(loop, links->timer);
    links->timer->data = links;
    links->server = memory_zeroed(1, sizeof(*links->server));
    uv_tcp_init(loop, links->server);
    links->server->data = links;
    enum status status = count > 0 ? links_bind(links, error) : STATUS_OK;
    if (status != STATUS_OK) {
        links_close(links);
        return status;
    }
    if (count > 0)
        uv_timer_start(links->timer, links_tick, 0, TICK_MS);
    *out = links;
    return STATUS_OK;
}

static void server_closed(uv_handle_t *handle)
{
    struct links *links = handle->data;
    links->server = NULL;
    free(handle);
    links_free(links);
}

static void timer_closed(uv_handle_t *handle)
{
    struct links *links = handle->data;
    links->timer = NULL;
    free(handle);
    links_free(links);
}

void links_close(struct links *links)
{
    links->closing = true;
    uv_close((uv_handle_t *)links->server, server_closed);
    uv_close((uv_handle_t *)links->timer, timer_closed);
    for (struct line *line = links->lines; line != NULL; line = line->next)
        line_close(line);
}

void links_set_tls(struct links *links, struct tls_context *tls)
{
    tls_context_retain(tls);
    tls_context_release(links->tls);
    links->tls = tls;
}

/* ---- for consensus ---- */

void links_send(struct links *links, uint32_t peer, enum link_kind kind, uint8_t *frame, size_t size)
{
    struct slot *slot = slot_of(links, peer, kind);
    struct line *line = slot != NULL ? slot->line : NULL;
    if (line == NULL || line->phase != LINE_UP) {
        free(frame);
        return;
    }
    if (line->bytes + line->sealed.size + line->writing.size + size > LINK_QUEUE_BYTES_MAX) {
        free(frame);
        line_complain(line, "link-overrun", "the peer takes nothing: giving up the connection");
        line_close(line);
        return;
    }
    line_queue(line, frame, size);
}

void links_flush(struct links *links)
{
    for (uint32_t i = 0; i < links->slot_count; i++)
        if (links->slots[i].line != NULL && links->slots[i].line->phase == LINE_UP)
            line_flush(links->slots[i].line);
}

size_t links_backlog(const struct links *links, uint32_t peer, enum link_kind kind)
{
    const struct slot *slot = slot_of(links, peer, kind);
    return slot != NULL && slot->line != NULL ? slot->line->bytes + slot->line->sealed.size + slot->line->writing.size
                                             : 0;
}

void links_disconnect(struct links *links, uint32_t peer, enum link_kind kind, uint64_t in, const char *reason)
{
    struct slot *slot = slot_of(links, peer, kind);
    struct line *line = slot != NULL ? slot->line : NULL;
    if (line == NULL || line->phase != LINE_UP || line->in != in)
        return;
    line_complain(line, "link-nonsense", reason);
    line_close(line);
}

