/* client.c — a model MQTT client: publishes numbered messages, subscribes, acknowledges, loses its connection and goes
 * on at another node with the state that the standard tells a client to keep. It never gives up and never forgets.
 *
 * Its own small codec is on purpose not the broker's: a fault in that one must not cancel itself out here. */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "sim.h"

enum phase { OFFLINE, DIALING, CONNECTING, ONLINE };

enum stage { SENT, RELEASED };

struct outgoing {            /* one of our publishes, unacknowledged */
    uint32_t number, topic;
    uint16_t packet_id;
    uint8_t qos;
    enum stage stage;
};

struct subscription {
    uint32_t topic;          /* UINT32_MAX: the wildcard over all topics */
    uint8_t qos;
    bool wanted, active;     /* active: the SUBACK has been received */
    bool sent;               /* SUBSCRIBE or UNSUBSCRIBE is on its way on this connection */
    uint64_t sent_us;        /* when the first SUBSCRIBE or UNSUBSCRIBE of this change was sent */
    uint16_t packet_id;
};

struct sim_client {
    struct sim *sim;
    uint32_t id;
    char name[16];
    uint8_t level;
    enum phase phase;
    uint32_t node;
    uint64_t connection;
    uint64_t timer;          /* number of the timer that counts */
    bool established;        /* a CONNACK has told us that the session exists */
    bool attempted;          /* a CONNECT has been sent, whose outcome may be unknown */
    bool expecting_ping;
    struct buffer input;
    struct outgoing window[256];
    uint32_t window_count;
    uint16_t next_packet_id;
    uint8_t receiving[65536 / 8];    /* QoS 2 packet ids received and not completed */
    struct subscription subscriptions[4];
    uint32_t subscription_count;
    uint32_t session;        /* in the history: its id, or that of the group of which it is a member */
};

static void reconnect_later(struct sim_client *client);

/* ---- codec ---- */

static void put_u16(struct buffer *out, uint32_t value)
{
    buffer_put_u8(out, (uint8_t)(value >> 8));
    buffer_put_u8(out, (uint8_t)value);
}

static void put_text(struct buffer *out, const char *text)
{
    put_u16(out, (uint32_t)strlen(text));
    buffer_put(out, text, strlen(text));
}

static void send_packet(struct sim_client *client, uint8_t first, const struct buffer *body)
{
    struct buffer out = {0};
    buffer_put_u8(&out, first);
    buffer_put_varint(&out, body->size);   /* the same form as MQTT's variable byte integer */
    buffer_put(&out, body->data, body->size);
    network_client_send(client->sim, client->connection, client->node, out.data, out.size);
    buffer_release(&out);
}

static void send_ack(struct sim_client *client, uint8_t first, uint16_t packet_id)
{
    struct buffer body = {0};
    put_u16(&body, packet_id);
    send_packet(client, first, &body);
    buffer_release(&body);
}

static void send_connect(struct sim_client *client)
{
    struct buffer body = {0};
    put_text(&body, "MQTT");
    buffer_put_u8(&body, client->level);
    buffer_put_u8(&body, 0);               /* clean start 0 */
    put_u16(&body, 0);                     /* keep alive: tested elsewhere */
    if (client->level == 5) {
        buffer_put_u8(&body, 8);
        buffer_put_u8(&body, 0x11);        /* session expiry: never */
        buffer_put(&body, "\xff\xff\xff\xff", 4);
        buffer_put_u8(&body, 0x21);
        put_u16(&body, client->sim->config.receive_maximum);
    }
    put_text(&body, client->name);
    send_packet(client, 0x10, &body);
    buffer_release(&body);
}

static void topic_name(char *text, size_t size, uint32_t topic)
{
    snprintf(text, size, "sim/%u", topic);
}

static void send_publish(struct sim_client *client, uint32_t number, uint32_t topic, uint8_t qos, uint16_t packet_id,
                         bool dup)
{
    char name[32];
    topic_name(name, sizeof name, topic);
    struct buffer body = {0};
    put_text(&body, name);
    if (qos > 0)
        put_u16(&body, packet_id);
    if (client->level == 5)
        buffer_put_u8(&body, 0);
    buffer_put_u32(&body, client->id);
    buffer_put_u32(&body, number);
    for (uint32_t i = 8; i < client->sim->config.payload_bytes; i++)
        buffer_put_u8(&body, (uint8_t)(number + i));
    send_packet(client, (uint8_t)(0x30 | (dup ? 8 : 0) | (qos << 1)), &body);
    buffer_release(&body);
}

/* ---- publishing ---- */

static uint16_t fresh_packet_id(struct sim_client *client)
{
    for (;;) {
        client->next_packet_id = client->next_packet_id == 65535 ? 1 : (uint16_t)(client->next_packet_id + 1);
        bool used = false;
        for (uint32_t i = 0; i < client->window_count; i++)
            used = used || client->window[i].packet_id == client->next_packet_id;
        for (uint32_t i = 0; i < client->subscription_count; i++)
            used = used || (client->subscriptions[i].sent && client->subscriptions[i].packet_id == client->next_packet_id);
        if (!used)
            return client->next_packet_id;
    }
}

static void publish(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (client->phase != ONLINE || client->window_count >= sim->config.window)
        return;
    uint32_t topic = (uint32_t)random_below(&sim->workload_random, sim->config.topics);
    uint64_t draw = random_below(&sim->workload_random, 10);
    uint8_t qos = draw < 1 ? 0 : draw < 6 ? 1 : 2;
    uint32_t number = history_publish(sim->history, client->id, topic, qos, client->connection,
                                      sim_now_us(sim));
    uint16_t packet_id = 0;
    if (qos > 0) {
        packet_id = fresh_packet_id(client);
        client->window[client->window_count++] = (struct outgoing){number, topic, packet_id, qos, SENT};
    }
    send_publish(client, number, topic, qos, packet_id, false);
}

static void resend(struct sim_client *client)
{
    for (uint32_t i = 0; i < client->window_count; i++) {
        struct outgoing *one = &client->window[i];
        if (one->stage == RELEASED) {
            send_ack(client, 0x62, one->packet_id);
        } else {
            history_resent(client->sim->history, client->id, one->number);
            send_publish(client, one->number, one->topic, one->qos, one->packet_id, true);
        }
    }
}

static struct outgoing *outgoing_of(struct sim_client *client, uint16_t packet_id)
{
    for (uint32_t i = 0; i < client->window_count; i++)
        if (client->window[i].packet_id == packet_id)
            return &client->window[i];
    return NULL;
}

static void complete(struct sim_client *client, struct outgoing *one)
{
    uint32_t position = (uint32_t)(one - client->window);
    memmove(one, one + 1, (client->window_count - position - 1) * sizeof *one);
    client->window_count--;
}

/* ---- subscribing ---- */

static bool is_member(const struct sim_client *client)
{
    return client->session != client->id;
}

static uint32_t group_of(const struct sim_client *client)
{
    return client->session - client->sim->config.clients;
}

static bool covers(const struct subscription *one, uint32_t topic)
{
    return one->topic == UINT32_MAX || one->topic == topic;
}

static void tell_history(struct sim_client *client, const struct subscription *one)
{
    struct sim *sim = client->sim;
    for (uint32_t topic = 0; topic < sim->config.topics; topic++) {
        if (!covers(one, topic))
            continue;
        if (one->sent && one->wanted)
            history_subscribing(sim->history, client->session, topic, one->qos, one->sent_us);
        else if (!one->sent && one->active)
            history_subscribed(sim->history, client->session, topic, sim_now_us(sim));
        else if (!one->sent)
            history_unsubscribed(sim->history, client->id, topic, one->sent_us, sim_now_us(sim));
    }
}

static void change_subscription(struct sim_client *client, struct subscription *one)
{
    char name[48];
    if (is_member(client))
        snprintf(name, sizeof name, "$share/group-%u/sim/+", group_of(client));
    else if (one->topic == UINT32_MAX)
        snprintf(name, sizeof name, "sim/+");
    else
        topic_name(name, sizeof name, one->topic);
    one->packet_id = fresh_packet_id(client);
    one->sent = true;
    if (one->sent_us == 0) {
        one->sent_us = sim_now_us(client->sim);
        tell_history(client, one);
    }
    struct buffer body = {0};
    put_u16(&body, one->packet_id);
    if (client->level == 5)
        buffer_put_u8(&body, 0);
    put_text(&body, name);
    if (one->wanted)
        buffer_put_u8(&body, one->qos);
    send_packet(client, one->wanted ? 0x82 : 0xA2, &body);
    buffer_release(&body);
}

static void subscribe_what_is_wanted(struct sim_client *client)
{
    for (uint32_t i = 0; i < client->subscription_count; i++)
        if (client->subscriptions[i].wanted != client->subscriptions[i].active && !client->subscriptions[i].sent)
            change_subscription(client, &client->subscriptions[i]);
}

static void subscription_answered(struct sim_client *client, uint16_t packet_id, bool subscribed)
{
    for (uint32_t i = 0; i < client->subscription_count; i++) {
        struct subscription *one = &client->subscriptions[i];
        if (!one->sent || one->packet_id != packet_id)
            continue;
        one->sent = false;
        one->active = subscribed;
        tell_history(client, one);
        one->sent_us = 0;
    }
}

static void toggle_subscription(struct sim_client *client)
{
    struct subscription *one =
        &client->subscriptions[random_below(&client->sim->workload_random, client->subscription_count)];
    if (client->phase != ONLINE || is_member(client) || one->sent || one->wanted != one->active)
        return;
    one->wanted = !one->wanted;
    change_subscription(client, one);
}

/* ---- receiving ---- */

static void deliver(struct sim_client *client, uint8_t first, struct reader *body)
{
    struct sim *sim = client->sim;
    uint8_t qos = (first >> 1) & 3;
    uint16_t topic_size = (uint16_t)(reader_u8(body) << 8);
    topic_size = (uint16_t)(topic_size | reader_u8(body));
    reader_bytes(body, topic_size);
    uint16_t packet_id = 0;
    if (qos > 0) {
        packet_id = (uint16_t)(reader_u8(body) << 8);
        packet_id = (uint16_t)(packet_id | reader_u8(body));
    }
    if (client->level == 5)
        reader_bytes(body, (size_t)reader_varint(body));
    uint32_t publisher = reader_u32(body), number = reader_u32(body);
    if (body->failed) {
        sim_violation(sim, "client %u got a PUBLISH that it cannot read", client->id);
        return;
    }
    bool repeated = false;
    if (qos == 2) {
        uint8_t bit = (uint8_t)(1u << (packet_id % 8));
        repeated = (client->receiving[packet_id / 8] & bit) != 0;
        client->receiving[packet_id / 8] |= bit;
    }
    if (!repeated) {
        sim_trace(sim, 'd', ((uint64_t)publisher << 32) | number);
        const char *wrong = history_delivered(sim->history, client->session, publisher, number, qos, (first & 8) != 0,
                                              client->connection, sim_now_us(sim));
        if (wrong != NULL)
            sim_violation(sim, "%s (at node %u)", wrong, client->node);
    }
    if (qos > 0)
        send_ack(client, qos == 1 ? 0x40 : 0x50, packet_id);
}

static void acknowledged(struct sim_client *client, uint8_t type, uint16_t packet_id, uint8_t reason)
{
    struct outgoing *one = outgoing_of(client, packet_id);
    if (one == NULL)
        return;
    uint64_t now = sim_now_us(client->sim);
    if (type == 4 && one->qos == 1) {
        history_acknowledged(client->sim->history, client->id, one->number, reason >= 0x80, now);
        complete(client, one);
    } else if (type == 5 && one->qos == 2) {
        history_acknowledged(client->sim->history, client->id, one->number, reason >= 0x80, now);
        if (reason >= 0x80) {
            complete(client, one);
        } else {
            one->stage = RELEASED;
            send_ack(client, 0x62, packet_id);
        }
    } else if (type == 7 && one->qos == 2 && one->stage == RELEASED) {
        complete(client, one);
    }
}

static void connected(struct sim_client *client, uint8_t flags, uint8_t reason)
{
    struct sim *sim = client->sim;
    sim_trace(sim, 'c', ((uint64_t)client->id << 16) | ((uint64_t)flags << 8) | reason);
    if (reason != 0) {
        network_client_close(sim, client->connection, client->node);
        client->phase = OFFLINE;
        reconnect_later(client);
        return;
    }
    bool present = (flags & 1) != 0;
    if (client->established && !present)
        sim_violation(sim, "client %u was told at node %u that its session does not exist", client->id, client->node);
    if (present && !client->attempted)
        sim_violation(sim, "client %u was told of a session that it never made", client->id);
    client->established = true;
    client->attempted = true;
    client->phase = ONLINE;
    resend(client);
    subscribe_what_is_wanted(client);
}

static void handle(struct sim_client *client, uint8_t first, struct bytes content)
{
    struct reader body = reader_of(content);
    uint8_t type = first >> 4;
    if (client->phase == CONNECTING && type != 2) {
        sim_violation(client->sim, "client %u got packet type %u before its CONNACK", client->id, type);
        return;
    }
    if (type == 3) {
        deliver(client, first, &body);
        return;
    }
    uint8_t high = reader_u8(&body), low = body.rest.size > 0 ? reader_u8(&body) : 0;
    uint16_t packet_id = (uint16_t)((high << 8) | low);
    uint8_t reason = client->level == 5 && body.rest.size > 0 ? reader_u8(&body) : 0;
    switch (type) {
    case 2: connected(client, high, low); break;
    case 4:
    case 5:
    case 7: acknowledged(client, type, packet_id, reason); break;
    case 6:
        client->receiving[packet_id / 8] &= (uint8_t)~(1u << (packet_id % 8));
        send_ack(client, 0x70, packet_id);
        break;
    case 9: subscription_answered(client, packet_id, true); break;
    case 11: subscription_answered(client, packet_id, false); break;
    case 14: break;   /* DISCONNECT: the close follows */
    default: sim_violation(client->sim, "client %u got packet type %u", client->id, type);
    }
}

void client_model_bytes(struct sim_client *client, uint64_t connection, const uint8_t *data, size_t size)
{
    if (connection != client->connection || client->phase < CONNECTING)
        return;
    buffer_put(&client->input, data, size);
    while (client->connection == connection && client->phase >= CONNECTING && client->input.size >= 2) {
        size_t length = 0, header = 1;
        for (unsigned shift = 0; header < client->input.size && header < 5; shift += 7) {
            uint8_t byte = client->input.data[header++];
            length |= (size_t)(byte & 0x7f) << shift;
            if (byte < 0x80)
                goto whole_header;
        }
        return;
    whole_header:
        if (client->input.size < header + length)
            return;
        handle(client, client->input.data[0], bytes_of(client->input.data + header, length));
        buffer_consume(&client->input, header + length);
    }
}

/* ---- coming and going ---- */

static void timer(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_client *client = sim->client[key];
    if (*(uint64_t *)data != client->timer || client->phase != OFFLINE)
        return;
    client->node = (uint32_t)random_between(&sim->workload_random, 1, sim->config.nodes);
    client->phase = DIALING;
    client->connection = network_dial(sim, client->id, client->node);
}

static void reconnect_later(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint64_t *number = memory_allocate(sizeof *number);
    *number = ++client->timer;
    schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->workload_random, 1 * SIM_MS, 200 * SIM_MS), timer,
                 client->id, number);
}

void client_model_opened(struct sim_client *client, uint64_t connection, bool ok)
{
    if (connection != client->connection || client->phase != DIALING)
        return;
    if (!ok) {
        client->phase = OFFLINE;
        reconnect_later(client);
        return;
    }
    client->phase = CONNECTING;
    client->attempted = true;
    buffer_clear(&client->input);
    for (uint32_t i = 0; i < client->subscription_count; i++)
        client->subscriptions[i].sent = false;
    send_connect(client);
}

void client_model_closed(struct sim_client *client, uint64_t connection)
{
    if (connection != client->connection || client->phase == OFFLINE)
        return;
    client->phase = OFFLINE;
    reconnect_later(client);
}

void client_model_cut(struct sim_client *client)
{
    if (client->phase == OFFLINE)
        return;
    network_client_close(client->sim, client->connection, client->node);
    client->phase = OFFLINE;
    reconnect_later(client);
}

bool client_model_idle(const struct sim_client *client)
{
    if (client->phase != ONLINE || client->window_count > 0)
        return false;
    for (uint32_t i = 0; i < client->subscription_count; i++)
        if (client->subscriptions[i].wanted != client->subscriptions[i].active)
            return false;
    return true;
}

void client_model_describe(const struct sim_client *client, char *text, size_t size)
{
    static const char *const phases[] = {"offline", "dialing", "connecting", "online"};
    const struct outgoing *first = &client->window[0];
    int used = snprintf(text, size, "client %u (level %u) is %s at node %u, connection %llu", client->id, client->level,
                        phases[client->phase], client->node, (unsigned long long)client->connection);
    if (client->window_count > 0 && used > 0 && (size_t)used < size)
        used += snprintf(text + used, size - (size_t)used, ", %u unacknowledged, first %u (QoS %u, id %u, %s)",
                         client->window_count, first->number, first->qos, first->packet_id,
                         first->stage == SENT ? "sent" : "released");
    for (uint32_t i = 0; i < client->subscription_count && used > 0 && (size_t)used < size; i++)
        if (client->subscriptions[i].wanted != client->subscriptions[i].active)
            used += snprintf(text + used, size - (size_t)used, ", subscription %u pending%s", i,
                             client->subscriptions[i].sent ? " (sent)" : "");
}

static void work(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    struct sim_client *client = sim->client[key];
    if (sim->calm)
        return;
    publish(client);
    if (sim->config.resubscribe && random_chance(&sim->workload_random, 10))
        toggle_subscription(client);
    if (sim->config.client_cuts && random_chance(&sim->workload_random, 5))
        client_model_cut(client);
    uint64_t gap = random_between(&sim->workload_random, 1, 2 * sim->config.publish_gap_us);
    schedule_add(sim->schedule, sim_now_us(sim) + gap, work, key, NULL);
}

void client_model_start(struct sim_client *client)
{
    reconnect_later(client);
    schedule_add(client->sim->schedule, random_below(&client->sim->workload_random, SIM_S), work, client->id, NULL);
}

/* The one group grants QoS 2, so that exactly once can be asked of it; the other less. */
static void join_group(struct sim_client *client, uint32_t group)
{
    client->session = client->sim->config.clients + group;
    client->subscription_count = 1;
    client->subscriptions[0].topic = UINT32_MAX;
    client->subscriptions[0].qos = group == 0 ? 2 : 1;
}

struct sim_client *client_model_new(struct sim *sim, uint32_t id)
{
    struct sim_client *client = memory_zeroed(1, sizeof *client);
    client->sim = sim;
    client->id = id;
    client->level = random_chance(&sim->workload_random, 700) ? 5 : 4;
    snprintf(client->name, sizeof client->name, "sim-%u", id);
    client->subscription_count = (uint32_t)random_between(&sim->workload_random, 1, 3);
    for (uint32_t i = 0; i < client->subscription_count; i++) {
        struct subscription *one = &client->subscriptions[i];
        bool wildcard = i == 0 && random_chance(&sim->workload_random, sim->config.broadcast ? 700 : 200);
        /* Distinct topics: what one subscription ends, no other keeps alive (the history knows topics, not filters). */
        one->topic = wildcard ? UINT32_MAX : (id + i) % sim->config.topics;
        one->qos = (uint8_t)random_below(&sim->workload_random, 3);
        one->wanted = true;
        if (wildcard)
            client->subscription_count = 1;
        else if (i >= sim->config.topics)
            client->subscription_count = i;
    }
    client->session = id;
    if (sim->config.shared && random_chance(&sim->workload_random, 500))
        join_group(client, (uint32_t)random_below(&sim->workload_random, SIM_GROUPS));
    return client;
}

void client_model_free(struct sim_client *client)
{
    buffer_release(&client->input);
    free(client);
}
