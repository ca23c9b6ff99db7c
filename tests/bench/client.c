/* client.c — connections: dialling, CONNECT and SUBSCRIBE, leaving, and starting again elsewhere.
 *
 *   CLOSED -> CONNECTING -> [SECURING] -> GREETING -> [SUBSCRIBING] -> READY -> LEAVING -> CLOSING -> CLOSED
 *
 * Any state goes to CLOSING when the connection breaks. client_advance() is called whenever a client comes to rest
 * (CLOSED or READY) or gets another goal, and takes the next step towards the goal; nothing else decides where to go.
 */
#include "client.h"

#include "worker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HANDSHAKE_MS = 5000, /* dialling, TLS, CONNACK and SUBACK together, unless there is an --ack-timeout */
    LEAVE_MS = 1000,     /* a broker closes after DISCONNECT; if it does not, we do */
    RETRY_MS = 50,       /* after all addresses have been tried once */
    SESSION_EXPIRY_S = 3600,
};

static void client_advance(struct client *client);

void topic_text(uint32_t run, uint64_t topic, char out[TOPIC_SIZE_MAX])
{
    snprintf(out, TOPIC_SIZE_MAX, "bench/%08x/%0*u", run, TOPIC_DIGITS, (unsigned)topic);
}

static const struct hosts *hosts_of(const struct client *client)
{
    const struct plan *plan = client->worker->plan;
    return client->role == ROLE_SUBSCRIBER ? &plan->subscriber_hosts : &plan->hosts;
}

/* Whether the session is to outlive the connection. */
static bool is_persistent(const struct client *client)
{
    const struct plan *plan = client->worker->plan;
    if (client->role == ROLE_PUBLISHER)
        return plan->failover;
    if (client->role == ROLE_OTHER)
        return plan->persistent && plan->workload->kind == WORKLOAD_CONNECT;
    return plan->persistent;
}

static void on_closed(uv_handle_t *handle)
{
    struct client *client = handle->data;
    client->state = CLIENT_CLOSED;
    client->sending.size = client->waiting.size = client->partial.size = 0;
    client->writing = false;
    secure_free(client->tls);
    client->tls = NULL;
    if (!client->worker->exiting)
        client_advance(client);
}

static void client_close(struct client *client)
{
    if (client->state == CLIENT_CLOSED || client->state == CLIENT_CLOSING)
        return;
    client->state = CLIENT_CLOSING;
    uv_timer_stop(&client->timer);
    uv_close((uv_handle_t *)&client->tcp, on_closed);
}

void client_break(struct client *client)
{
    if (client->state == CLIENT_CLOSED || client->state == CLIENT_CLOSING)
        return;
    if (client->state == CLIENT_READY) {
        counter_add(client->worker, COUNTER_BROKEN, 1);
        client->attempts = 0;
    } else {
        client->attempts++;
    }
    client->host = (client->host + 1) % hosts_of(client)->count;
    client_close(client);
}

static void on_too_late(uv_timer_t *timer)
{
    struct client *client = timer->data;
    if (client->state == CLIENT_LEAVING) {
        client_close(client);
    } else {
        worker_trouble(client->worker, "no answer to %s from %s",
                       client->state == CLIENT_SUBSCRIBING ? "SUBSCRIBE"
                       : client->state == CLIENT_SECURING  ? "ClientHello"
                                                           : "CONNECT",
                       hosts_of(client)->list[client->host].text);
        client_break(client);
    }
}

static void on_written(uv_write_t *write, int status)
{
    struct client *client = write->data;
    client->writing = false;
    client->sending.size = 0;
    if (client->state == CLIENT_CLOSING)
        return;
    if (status < 0) {
        client_break(client);
        return;
    }
    if (client->waiting.size > 0) {
        struct buffer swap = client->sending;
        client->sending = client->waiting;
        client->waiting = swap;
        uv_buf_t bytes = uv_buf_init((char *)client->sending.data, (unsigned)client->sending.size);
        client->writing = uv_write(&client->write, (uv_stream_t *)&client->tcp, &bytes, 1, on_written) == 0;
        if (!client->writing)
            client_break(client);
    }
}

static void send_wire(struct client *client, const uint8_t *data, size_t size)
{
    uv_stream_t *stream = (uv_stream_t *)&client->tcp;
    counter_add(client->worker, COUNTER_BYTES_OUT, size);
    if (client->writing) {
        buffer_put(&client->waiting, data, size);
        return;
    }
    uv_buf_t bytes = uv_buf_init((char *)data, (unsigned)size);
    int written = uv_try_write(stream, &bytes, 1);
    if (written == UV_EAGAIN)
        written = 0;
    if (written >= 0 && (size_t)written < size) {
        buffer_put(&client->sending, data + written, size - (size_t)written);
        bytes = uv_buf_init((char *)client->sending.data, (unsigned)client->sending.size);
        written = uv_write(&client->write, stream, &bytes, 1, on_written);
        client->writing = written == 0;
    }
    if (written < 0)
        client_break(client);
}

static void break_tls(struct client *client)
{
    worker_trouble(client->worker, "TLS with %s: %s", hosts_of(client)->list[client->host].text, secure_fault());
    client_break(client);
}

void client_flush(struct client *client)
{
    struct buffer *wire = &client->worker->output;
    size_t size = wire->size;
    wire->size = 0;
    if (client->state == CLIENT_CLOSED || client->state == CLIENT_CLOSING)
        return;
    if (client->tls != NULL) {
        const uint8_t *plain = wire->data;
        wire = &client->worker->sealed_output;
        wire->size = 0;
        if (!secure_send(client->tls, plain, size, wire)) {
            break_tls(client);
            return;
        }
        size = wire->size;
    }
    if (size > 0)
        send_wire(client, wire->data, size);
}

static void send_connect(struct client *client)
{
    static const char letters[ROLE_COUNT] = {'p', 's', 'c'};
    struct worker *worker = client->worker;
    const struct plan *plan = worker->plan;
    char id[24];
    snprintf(id, sizeof(id), "b%08x%c%0*u", plan->run, letters[client->role], TOPIC_DIGITS, (unsigned)client->number);
    bool keep = is_persistent(client) && client->goal != GOAL_ERASED;
    struct connect connect = {
        .protocol = (enum protocol)plan->protocol,
        .client_id = id,
        .username = plan->username,
        .password = plan->password,
        .clean = !keep,
        .expiry_s = keep ? SESSION_EXPIRY_S : 0,
        .receive_maximum = client->role == ROLE_SUBSCRIBER ? (uint16_t)plan->receive_maximum : 0,
    };
    if (keep && client->session == SESSION_NONE)
        client->session = SESSION_MAYBE;
    worker->output.size += encode_connect(buffer_room(&worker->output, CODEC_SMALL_MAX), &connect);
    client->state = CLIENT_GREETING;
    client_flush(client);
}

static void enter_ready(struct client *client)
{
    client->state = CLIENT_READY;
    client->attempts = 0;
    uv_timer_stop(&client->timer);
    client_advance(client);
}

/* Compares Session Present with what it has to be, and draws the consequences. */
static void settle_session(struct client *client, bool present)
{
    bool keep = is_persistent(client) && client->goal != GOAL_ERASED;
    if (present && (!keep || client->session == SESSION_NONE))
        counter_add(client->worker, COUNTER_SESSION_ODD, 1);
    if (!present && keep && client->session == SESSION_KEPT)
        counter_add(client->worker, COUNTER_SESSION_LOST, 1);
    client->session = keep ? SESSION_KEPT : SESSION_NONE;
    if (!present && client->role == ROLE_SUBSCRIBER) {
        client->subscribed = false;
        subscriber_session_ended(client);
    }
}

static bool receive_connack(struct client *client, const struct packet *packet, uint64_t now)
{
    struct worker *worker = client->worker;
    struct connack connack;
    if (client->state != CLIENT_GREETING || !connack_parse(packet, (enum protocol)worker->plan->protocol, &connack))
        return false;
    if (connack.reason != 0) {
        counter_add(worker, COUNTER_TURNED_AWAY, 1);
        worker_trouble(worker, "%s answers CONNECT with reason 0x%02x", hosts_of(client)->list[client->host].text,
                       connack.reason);
        client_break(client);
        return true;
    }
    counter_add(worker, COUNTER_CONNECTED, 1);
    if (worker_records(worker))
        histogram_record(&worker->connected, now - client->dialled_ns);
    settle_session(client, connack.session_present);
    if (client->role == ROLE_SUBSCRIBER && !client->subscribed && client->goal != GOAL_ERASED) {
        char filter[TOPIC_SIZE_MAX];
        topic_text(worker->plan->run, client->subscriber->topic, filter);
        worker->output.size +=
            encode_subscribe(buffer_room(&worker->output, CODEC_SMALL_MAX), (enum protocol)worker->plan->protocol, 1,
                             filter, (unsigned)worker->plan->qos);
        client->state = CLIENT_SUBSCRIBING;
        return true;
    }
    if (client->role == ROLE_PUBLISHER)
        publisher_resume(client, connack.session_present, connack.receive_maximum);
    enter_ready(client);
    return true;
}

static bool receive_suback(struct client *client, const struct packet *packet)
{
    struct ack ack;
    if (client->state != CLIENT_SUBSCRIBING || !ack_parse(packet, (enum protocol)client->worker->plan->protocol, &ack))
        return false;
    if (ack.reason >= 0x80) {
        counter_add(client->worker, COUNTER_REFUSED, 1);
        worker_trouble(client->worker, "SUBSCRIBE is refused with reason 0x%02x", ack.reason);
        client_break(client);
        return true;
    }
    client->subscribed = true;
    enter_ready(client);
    return true;
}

static bool receive_packet(struct client *client, const struct packet *packet, uint64_t now)
{
    if (client->state == CLIENT_GREETING && packet->type != PACKET_CONNACK)
        return false;
    switch (packet->type) {
    case PACKET_CONNACK: return receive_connack(client, packet, now);
    case PACKET_SUBACK: return receive_suback(client, packet);
    case PACKET_PUBLISH:
    case PACKET_PUBREL: return client->role == ROLE_SUBSCRIBER && subscriber_receive(client, packet, now);
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBCOMP: return client->role == ROLE_PUBLISHER && publisher_receive(client, packet, now);
    case PACKET_DISCONNECT:
        worker_trouble(client->worker, "the broker sent DISCONNECT, reason 0x%02x",
                       packet->size > 0 ? packet->body[0] : 0);
        client_break(client);
        return true;
    default: return packet->type == PACKET_PINGRESP;
    }
}

/* Handles the whole packets in the read buffer; what remains of the last goes to `partial`. */
static void receive_bytes(struct client *client, const uint8_t *data, size_t size)
{
    uint64_t now = uv_hrtime();
    struct packet packet;
    while (client->state >= CLIENT_GREETING && client->state <= CLIENT_READY) {
        long used = packet_next(data, size, &packet);
        if (used == CODEC_NEED_MORE) {
            buffer_put(&client->partial, data, size);
            break;
        }
        if (used == CODEC_MALFORMED || !receive_packet(client, &packet, now)) {
            worker_trouble(client->worker, "malformed or unexpected packet, type %d",
                           used == CODEC_MALFORMED ? 0 : (int)packet.type);
            client_break(client);
            break;
        }
        data += used;
        size -= (size_t)used;
    }
    if (client->role == ROLE_PUBLISHER)
        publisher_pump(client, now);
    client_flush(client);
}

/* All clients share one read buffer: it is used up before the next read. What a client has left over goes in front. */
static void begin_input(struct client *client)
{
    struct buffer *input = &client->worker->input;
    input->size = 0;
    buffer_put(input, client->partial.data, client->partial.size);
}

/* The same from inside TLS. When the handshake ends, CONNECT goes out with its last message. */
static void receive_sealed(struct client *client, const uint8_t *data, size_t size)
{
    struct buffer *input = &client->worker->input;
    begin_input(client);
    client->partial.size = 0;
    enum secure_state state = secure_receive(client->tls, data, size, input);
    if (state == SECURE_BROKEN) {
        break_tls(client);
        return;
    }
    if (client->state == CLIENT_SECURING && state == SECURE_OPEN)
        send_connect(client);
    receive_bytes(client, input->data, input->size);
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct client *client = handle->data;
    struct worker *worker = client->worker;
    struct buffer *input = client->tls != NULL ? &worker->sealed_input : &worker->input;
    (void)suggested;
    if (client->tls == NULL)
        begin_input(client);
    uint8_t *at = buffer_room(input, 65536);
    *room = uv_buf_init((char *)at, (unsigned)(input->capacity - input->size));
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *room)
{
    struct client *client = stream->data;
    struct buffer *input = &client->worker->input;
    if (count == 0 || client->state == CLIENT_CLOSING)
        return;
    if (client->state == CLIENT_LEAVING) {
        if (count < 0)
            client_close(client);
        return;
    }
    if (count < 0) {
        if (client->state != CLIENT_READY)
            worker_trouble(client->worker, "%s closes before the answer to CONNECT or SUBSCRIBE",
                           hosts_of(client)->list[client->host].text);
        client_break(client);
        return;
    }
    counter_add(client->worker, COUNTER_BYTES_IN, (uint64_t)count);
    if (client->tls != NULL) {
        receive_sealed(client, (const uint8_t *)room->base, (size_t)count);
        return;
    }
    client->partial.size = 0;
    receive_bytes(client, input->data, input->size + (size_t)count);
}

static void on_connected(uv_connect_t *connecting, int status)
{
    struct client *client = connecting->data;
    if (client->state != CLIENT_CONNECTING)
        return;
    if (status == 0)
        status = uv_read_start((uv_stream_t *)&client->tcp, on_room, on_read);
    if (status < 0) {
        worker_trouble(client->worker, "cannot connect to %s: %s", hosts_of(client)->list[client->host].text,
                       uv_strerror(status));
        client_break(client);
        return;
    }
    if (client->worker->tls == NULL) {
        send_connect(client);
        return;
    }
    client->tls = secure_new(client->worker->tls);
    client->state = CLIENT_SECURING;
    receive_sealed(client, NULL, 0);
}

static void dial(struct client *client)
{
    struct worker *worker = client->worker;
    const struct address *address = &hosts_of(client)->list[client->host];
    client->dialled_ns = uv_hrtime();
    client->state = CLIENT_CONNECTING;
    uv_tcp_init(&worker->loop, &client->tcp);
    double patience_ms = worker->plan->ack_timeout > 0 ? worker->plan->ack_timeout * 1000 : HANDSHAKE_MS;
    uv_timer_start(&client->timer, on_too_late, (uint64_t)patience_ms, 0);
    int status =
        uv_tcp_connect(&client->connecting, &client->tcp, (const struct sockaddr *)&address->socket, on_connected);
    if (status < 0) {
        worker_trouble(worker, "cannot connect to %s: %s", address->text, uv_strerror(status));
        client_break(client);
        return;
    }
    uv_tcp_nodelay(&client->tcp, 1);
}

static void on_retry(uv_timer_t *timer)
{
    dial(timer->data);
}

static void leave(struct client *client)
{
    struct buffer *output = &client->worker->output;
    output->size += encode_disconnect(buffer_room(output, CODEC_SMALL_MAX));
    client->state = CLIENT_LEAVING;
    uv_timer_start(&client->timer, on_too_late, LEAVE_MS, 0);
    client_flush(client);
}

static void client_advance(struct client *client)
{
    bool at_goal = false;
    if (client->state == CLIENT_CLOSED) {
        bool dial_again =
            client->goal == GOAL_ONLINE || (client->goal == GOAL_ERASED && client->session != SESSION_NONE);
        if (dial_again && client->attempts < hosts_of(client)->count)
            dial(client);
        else if (dial_again)
            uv_timer_start(&client->timer, on_retry, RETRY_MS, 0);
        else
            at_goal = client->goal != GOAL_NONE;
    } else if (client->state == CLIENT_READY) {
        if (client->goal == GOAL_ONLINE)
            at_goal = true;
        else
            leave(client);
    }
    if (at_goal && !client->arrived) {
        client->arrived = true;
        worker_client_arrived(client->worker, client);
    }
}

void client_set_goal(struct client *client, enum goal goal)
{
    client->goal = goal;
    client->arrived = false;
    if (client->state == CLIENT_CLOSED)
        uv_timer_stop(&client->timer);
    client_advance(client);
}

void client_init(struct client *client, struct worker *worker, enum role role, uint64_t number)
{
    const struct plan *plan = worker->plan;
    client->worker = worker;
    client->role = role;
    client->number = number;
    client->host =
        (unsigned)((number + (role == ROLE_SUBSCRIBER ? plan->subscriber_shift : 0)) % hosts_of(client)->count);
    client->tcp.data = client->connecting.data = client->write.data = client;
    uv_timer_init(&worker->loop, &client->timer);
    client->timer.data = client;
    if (role == ROLE_PUBLISHER)
        publisher_init(client);
    if (role == ROLE_SUBSCRIBER)
        subscriber_init(client);
}

void client_shut(struct client *client)
{
    client_close(client);
    uv_close((uv_handle_t *)&client->timer, NULL);
}

void client_release(struct client *client)
{
    buffer_release(&client->sending);
    buffer_release(&client->waiting);
    buffer_release(&client->partial);
    if (client->publisher != NULL)
        publisher_release(client);
    if (client->subscriber != NULL)
        subscriber_release(client);
}
