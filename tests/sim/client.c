/* client.c — a model MQTT client: publishes numbered messages, subscribes, acknowledges, loses its connection and goes
 * on at another node with the state that the standard tells a client to keep. It never gives up.
 *
 *   OFFLINE ──timer──▶ DIALING ──▶ CONNECTING ──CONNACK──▶ ONLINE ──DISCONNECT──▶ LEAVING
 *      ▲                                                      │                      │
 *      └──────────────── the connection has ended ────────────┴──────────────────────┘
 *
 * Most have sessions that never end. Some have clean ones, or such as expire soon; some have a will; some change over to a
 * new connection while the old one is open, and then still say something on the old one, which must have no effect. */

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "client_private.h"

static void reconnect_later(struct sim_client *client);

void client_flush(struct sim_client *client)
{
    if (client->output.size > 0)
        network_client_send(client->sim, client->connection, client->output.data, client->output.size);
    buffer_clear(&client->output);
}

/* An acknowledgement may be old when it comes, and the session another's by then: a node that was slow tells what it hears of
 * the log, and learns only behind that that it was given up. */
void client_hear(struct sim_client *client, uint64_t asked_us)
{
    if (!client->stalled)
        client->owned_us = asked_us;
}

bool client_is_member(const struct sim_client *client)
{
    return client->session != client->id;
}

/* ---- wills ---- */

static void decide_will(struct sim_client *client, enum history_fate fate)
{
    static const char *const fates[] = {"may be", "must not be", "must be"};
    if (client->will_is_set)
        sim_note(client->sim, "will %u of client %u %s published", client->will_number, client->id, fates[fate]);
    if (client->will_is_set)
        history_will_fate(client->sim->history, client->id, client->will_number, fate, sim_now_us(client->sim));
    client->will_is_set = false;
}

/* The connection has ended, but not by our DISCONNECT. A delayed will may yet be called off by a resumption. */
static void leave_will_behind(struct sim_client *client)
{
    bool delayed = client->will_delay_s > 0 && client->kind != SESSION_CLEAN;
    if (client->will_is_set && delayed) {
        client->late_will = !client->stalled;
        client->late_will_number = client->will_number;
        client->late_will_us = client->owned_us;
    }
    decide_will(client, delayed ? FATE_OPEN : FATE_FIRES);
}

/* The wall clocks may be believed after a time in which no node ran. */
static bool time_is_even(const struct sim *sim)
{
    return sim->config.fault[FAULT_CLOCK_STEP] == 0 && sim->config.fault[FAULT_CLOCK_DRIFT] == 0;
}

static void call_off_late_will(struct sim_client *client)
{
    uint64_t away_us = sim_now_us(client->sim) - client->late_will_us;
    bool in_time = away_us < client->will_delay_s * SIM_S / 2 && time_is_even(client->sim);
    if (client->late_will && client->kind == SESSION_FOR_EVER && in_time)
        history_will_fate(client->sim->history, client->id, client->late_will_number, FATE_NONE, sim_now_us(client->sim));
    client->late_will = false;
}

/* ---- connecting ---- */

static void send_connect(struct sim_client *client)
{
    struct sim *sim = client->sim;
    char topic[24];
    snprintf(topic, sizeof topic, "will/%u", client->id);
    struct buffer payload = {0};
    if (client->has_will) {
        client->will_number = history_will(sim->history, client->id, client_will_topic(sim), client->will_qos, sim_now_us(sim));
        buffer_put_u32(&payload, history_will_publisher(sim->history, client->id));
        buffer_put_u32(&payload, client->will_number);
    }
    packet_put_connect(&client->output, &(struct packet_connect){
                                            .client_id = client->name,
                                            .level = client->level,
                                            .clean = client->kind == SESSION_CLEAN || client->begins_anew,
                                            .expiry_s = client->expiry_s,
                                            .receive_maximum = (uint16_t)sim->config.receive_maximum,
                                            .will_topic = client->has_will ? topic : NULL,
                                            .will_qos = client->will_qos,
                                            .will_delay_s = client->will_delay_s,
                                            .will_payload = buffer_bytes(&payload),
                                        });
    buffer_release(&payload);
}

/* The session is gone, and the client forgets its part of it. */
static void forget_session(struct sim_client *client)
{
    if (!client_is_member(client))
        history_session_ended(client->sim->history, client->id, sim_now_us(client->sim));
    client->established = false;
    client->attempts = 0;
    client->window_count = client->incoming_count = 0;
    for (uint32_t i = 0; i < client->subscription_count; i++) {
        struct subscription *one = &client->subscriptions[i];
        one->wanted = true;
        one->active = one->sent = false;
        one->sent_us = 0;
    }
}

/* If the session may have expired, a CONNECT without answer may have made another, of which the client would not know. And
 * if that one asked for a new session, and so does the next, it may yet take the connection over, and what it makes then
 * looks like the session of the next. */
static void begin_anew_if_in_doubt(struct sim_client *client)
{
    uint64_t away_us = sim_now_us(client->sim) - client->owned_us;
    bool expired = client->unanswered && away_us > client->expiry_s * SIM_S / 2;
    if (client->kind == SESSION_BRIEF && (expired || client->haunted)) {
        forget_session(client);
        client->haunted = client->haunted || client->begins_anew;
        client->begins_anew = true;
    }
    client->unanswered = true;
}

/* What the CONNACK says about the session, against what may be. */
static void judge_session(struct sim_client *client, bool present)
{
    struct sim *sim = client->sim;
    if (present && (client->attempts == 1 || client->kind == SESSION_CLEAN || client->begins_anew))
        sim_violation(sim, "client %u was told of a session that it never made", client->id);
    if (present || !client->established)
        return;
    uint64_t away_us = sim_now_us(sim) - client->owned_us;
    bool early = away_us + 3 * SIM_S < client->expiry_s * SIM_S * 8 / 10 && time_is_even(sim) && !client->stalled;
    if (client->kind == SESSION_FOR_EVER || early)
        sim_violation(sim, "client %u was told at node %u that its session does not exist (expiry %u s, its own %.3f s ago)",
                      client->id, client->node, client->expiry_s, (double)away_us / 1e6);
    forget_session(client);
    client->attempts = 1;
}

/* Says something on a connection that has been taken over: it must neither be answered nor have any effect. */
static void haunt(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint32_t topic = (uint32_t)random_below(&sim->workload_random, sim->config.topics);
    uint32_t number = history_publish(sim->history, client->id, topic, 1, client->ghost, sim_now_us(sim));
    char name[32];
    snprintf(name, sizeof name, "sim/%u", topic);
    history_fenced(sim->history, client->id, number);
    struct buffer out = {0};
    packet_put_publish(&out, &(struct packet_publish){.topic = name,
                                                      .level = client->level,
                                                      .qos = 1,
                                                      .packet_id = GHOST_PACKET_ID,
                                                      .publisher = client->id,
                                                      .number = number,
                                                      .payload_bytes = (uint32_t)sim->config.payload_bytes});
    network_client_send(sim, client->ghost, out.data, out.size);
    buffer_release(&out);
}

static void connected(struct sim_client *client, uint8_t flags, uint8_t reason)
{
    struct sim *sim = client->sim;
    sim_trace(sim, 'c', ((uint64_t)client->id << 16) | ((uint64_t)flags << 8) | reason);
    sim_note(sim, "client %u at node %u: CONNACK %02x %02x", client->id, client->node, flags, reason);
    if (reason != 0) {
        network_client_close(sim, client->connection);
        client->phase = OFFLINE;
        reconnect_later(client);
        return;
    }
    judge_session(client, (flags & 1) != 0);
    call_off_late_will(client);
    client->unanswered = client->begins_anew = false;
    client->established = true;
    client_hear(client, client->dialled_us);
    client->will_is_set = client->has_will;
    client->phase = ONLINE;
    if (client->ghost != 0)
        haunt(client);
    client_resend(client);
    client_subscribe_what_is_wanted(client);
}

/* ---- packets ---- */

static void handle(struct sim_client *client, uint8_t first, struct bytes content)
{
    struct reader body = reader_of(content);
    uint8_t type = first & 0xF0;
    if (client->phase == CONNECTING && type != PACKET_CONNACK) {
        sim_violation(client->sim, "client %u got packet type %u before its CONNACK", client->id, type >> 4);
        return;
    }
    if (type == PACKET_PUBLISH) {
        client_deliver(client, first, content);
        return;
    }
    uint8_t high = reader_u8(&body), low = body.rest.size > 0 ? reader_u8(&body) : 0;
    uint16_t packet_id = (uint16_t)((high << 8) | low);
    uint8_t reason = client->level == 5 && body.rest.size > 0 ? reader_u8(&body) : 0;
    switch (type) {
    case PACKET_CONNACK: connected(client, high, low); break;
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBCOMP: client_acknowledged(client, type, packet_id, reason); break;
    case PACKET_PUBREL & 0xF0: client_released(client, packet_id); break;
    case PACKET_SUBACK: client_subscription_answered(client, packet_id, true); break;
    case PACKET_UNSUBACK: client_subscription_answered(client, packet_id, false); break;
    case PACKET_DISCONNECT: break;   /* the close follows */
    default: sim_violation(client->sim, "client %u got packet type %u", client->id, type >> 4);
    }
}

/* On a connection that has been taken over nothing may be acknowledged any more that was sent afterwards. */
static void ghost_bytes(struct sim_client *client, const uint8_t *data, size_t size)
{
    uint8_t first;
    struct bytes content;
    size_t used;
    buffer_put(&client->ghost_input, data, size);
    while (packet_next(&client->ghost_input, &first, &content, &used)) {
        if (first == PACKET_PUBACK && content.size >= 2 && (content.data[0] << 8 | content.data[1]) == GHOST_PACKET_ID &&
            (client->level < 5 || content.size == 2 || content.data[2] < 0x80))
            sim_violation(client->sim, "client %u got an acknowledgement on a connection that it has left", client->id);
        buffer_consume(&client->ghost_input, used);
    }
}

void client_model_bytes(struct sim_client *client, uint64_t connection, const uint8_t *data, size_t size)
{
    if (connection == client->ghost)
        ghost_bytes(client, data, size);
    if (connection != client->connection || (client->phase != CONNECTING && client->phase != ONLINE))
        return;
    uint8_t first;
    struct bytes content;
    size_t used;
    buffer_put(&client->input, data, size);
    while (client->connection == connection && (client->phase == CONNECTING || client->phase == ONLINE) &&
           packet_next(&client->input, &first, &content, &used)) {
        handle(client, first, content);
        buffer_consume(&client->input, used);
    }
    client_flush(client);
}

/* ---- coming and going ---- */

static uint32_t any_node_of_the_core(struct sim *sim)
{
    uint32_t node;
    do {
        node = (uint32_t)random_between(&sim->workload_random, 1, sim->config.nodes);
    } while (((sim->core >> node) & 1) == 0);
    return node;
}

static void dial(struct sim_client *client)
{
    client->node = any_node_of_the_core(client->sim);
    client->phase = DIALING;
    client->connection = network_dial(client->sim, client->id, client->node);
}

static void timer(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_client *client = sim->client[key];
    if (*(uint64_t *)data == client->timer && client->phase == OFFLINE)
        dial(client);
}

static void reconnect_later(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint64_t *number = memory_allocate(sizeof *number);
    *number = ++client->timer;
    uint64_t most = !sim->calm && random_chance(&sim->workload_random, 50) ? 8 * SIM_S : 200 * SIM_MS;
    schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->workload_random, SIM_MS, most), timer, client->id,
                 number);
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
    begin_anew_if_in_doubt(client);
    client->attempts++;
    client->stalled = false;
    client->node_generation = node_generation(client->sim->node[client->node]);
    buffer_clear(&client->input);
    buffer_clear(&client->output);
    client->late_count = 0;
    for (uint32_t i = 0; i < client->subscription_count; i++)
        client->subscriptions[i].sent = false;
    client->dialled_us = sim_now_us(client->sim);
    send_connect(client);
    client_flush(client);
}

/* The connection is no more: by us, by the node, or with the node. */
static void go_offline(struct sim_client *client)
{
    sim_note(client->sim, "client %u leaves node %u", client->id, client->node);
    leave_will_behind(client);
    client->phase = OFFLINE;
    buffer_clear(&client->output);
    if (client->kind == SESSION_CLEAN)
        forget_session(client);
    reconnect_later(client);
}

void client_model_closed(struct sim_client *client, uint64_t connection)
{
    if (connection == client->ghost) {
        client->ghost = 0;
        buffer_clear(&client->ghost_input);
    }
    if (connection != client->connection || client->phase == OFFLINE)
        return;
    const struct sim_node *node = client->sim->node[client->node];
    bool answered = client->phase == LEAVING && node_generation(node) == client->node_generation &&
                    ledger_goodbyes(client->sim->ledger, client->id) > client->goodbyes;
    if (client->phase == LEAVING)
        decide_will(client, answered ? FATE_NONE : FATE_OPEN);
    go_offline(client);
}

void client_model_cut(struct sim_client *client)
{
    if (client->phase == OFFLINE)
        return;
    if (client->phase == LEAVING)
        decide_will(client, FATE_OPEN);
    if (client->phase == ONLINE && random_chance(&client->sim->workload_random, 300)) {
        struct outgoing one = client_draw_publish(client);
        one.packet_id = GHOST_PACKET_ID;
        client_put_publish(client, &one, false);
        history_fenced(client->sim->history, client->id, one.number);   /* nobody has seen all of it */
        client->output.size -= random_between(&client->sim->workload_random, 1, 4);
        client_flush(client);
    }
    network_client_close(client->sim, client->connection);
    go_offline(client);
}

/* Says goodbye, and waits for the node to close the connection. */
static void leave(struct sim_client *client)
{
    if (client->phase != ONLINE)
        return;
    packet_put_empty(&client->output, PACKET_DISCONNECT);
    client_flush(client);
    client->phase = LEAVING;
    client->goodbyes = ledger_goodbyes(client->sim->ledger, client->id);
}

/* Connects anew while the present connection is open: the node has to find out which of them counts. */
static void roam(struct sim_client *client)
{
    if (client->phase != ONLINE || client->ghost != 0 || client->stalled || client->kind == SESSION_CLEAN)
        return;
    client_flush(client);
    client->ghost = client->connection;
    buffer_clear(&client->ghost_input);
    buffer_put(&client->ghost_input, client->input.data, client->input.size);
    leave_will_behind(client);
    dial(client);
}

void client_model_stall(struct sim_client *client, bool stalled)
{
    if (client->phase < CONNECTING || client->stalled == stalled)
        return;
    uint64_t connection = client->connection;
    client->stalled = true;   /* what it reads now is old */
    network_client_stall(client->sim, connection, stalled);
    if (client->connection == connection)
        client->stalled = stalled;
}

/* ---- what it is in the middle of ---- */

bool client_model_idle(const struct sim_client *client)
{
    if (client->phase != ONLINE || client->window_count > 0 || client->ghost != 0)
        return false;
    for (uint32_t i = 0; i < client->subscription_count; i++)
        if (client->subscriptions[i].wanted != client->subscriptions[i].active)
            return false;
    return true;
}

void client_model_rest(struct sim_client *client)
{
    decide_will(client, FATE_NONE);
}

uint32_t client_model_node(const struct sim_client *client)
{
    return client->phase >= CONNECTING ? client->node : 0;
}

unsigned client_model_phases(const struct sim_client *client)
{
    unsigned phases = (client->phase == CONNECTING) << PHASE_CONNECTING | client->will_is_set << PHASE_WILL |
                      (client->incoming_count > 0) << PHASE_RECEIVED_2;
    for (uint32_t i = 0; i < client->window_count; i++) {
        const struct outgoing *one = &client->window[i];
        phases |= 1u << (one->stage == RELEASED ? PHASE_RELEASE : one->qos == 1 ? PHASE_PUBLISH_1 : PHASE_PUBLISH_2);
    }
    for (uint32_t i = 0; i < client->subscription_count; i++)
        phases |= (unsigned)client->subscriptions[i].sent << PHASE_SUBSCRIBING;
    return phases;
}

void client_model_describe(const struct sim_client *client, char *text, size_t size)
{
    static const char *const phases[] = {"offline", "dialing", "connecting", "online", "leaving"};
    const struct outgoing *first = &client->window[0];
    int used = snprintf(text, size, "client %u (level %u) is %s at node %u, connection %llu%s", client->id, client->level,
                        phases[client->phase], client->node, (unsigned long long)client->connection,
                        client->ghost != 0 ? ", and the one before it is still open" : "");
    if (client->window_count > 0 && used > 0 && (size_t)used < size)
        used += snprintf(text + used, size - (size_t)used, ", %u unacknowledged, first %u (QoS %u, id %u, %s)",
                         client->window_count, first->number, first->qos, first->packet_id,
                         first->stage == SENT ? "sent" : "released");
    for (uint32_t i = 0; i < client->subscription_count && used > 0 && (size_t)used < size; i++)
        if (client->subscriptions[i].wanted != client->subscriptions[i].active)
            used += snprintf(text + used, size - (size_t)used, ", subscription %u pending%s", i,
                             client->subscriptions[i].sent ? " (sent)" : "");
}

/* ---- what it does ---- */

static void work(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    struct sim_client *client = sim->client[key];
    struct random *draw = &sim->workload_random;
    if (sim->calm)
        return;
    client_publish(client);
    for (unsigned more = random_chance(draw, 3) ? 50 : 0; more > 0; more--)   /* a flood */
        client_publish(client);
    if (sim->config.resubscribe && random_chance(draw, 40))
        client_toggle_subscription(client);
    client_flush(client);
    if (sim->config.fault[FAULT_CLIENT_CUT] && random_chance(draw, 5))
        client_model_cut(client);
    if (random_chance(draw, 4))
        leave(client);
    if (sim->config.roam_permille > 0 && random_chance(draw, 1 + sim->config.roam_permille / 50))
        roam(client);
    uint64_t gap = random_between(draw, 1, 2 * sim->config.publish_gap_ms * SIM_MS);
    schedule_add(sim->schedule, sim_now_us(sim) + gap, work, key, NULL);
}

void client_model_start(struct sim_client *client)
{
    reconnect_later(client);
    schedule_add(client->sim->schedule, random_below(&client->sim->workload_random, SIM_S), work, client->id, NULL);
}

/* ---- life ---- */

/* The one group grants QoS 2, so that exactly once can be asked of it; the other less. The first two are members that
 * stay: a group ends with its last member. */
static void join_group(struct sim_client *client, uint32_t group)
{
    client->session = (uint32_t)client->sim->config.clients + group;
    client->subscription_count = 1;
    client->subscriptions[0].topic = UINT32_MAX;
    client->subscriptions[0].qos = group == 0 ? 2 : 1;
}

static void draw_subscriptions(struct sim_client *client)
{
    struct sim *sim = client->sim;
    client->subscription_count = (uint32_t)random_between(&sim->workload_random, 1, 3);
    for (uint32_t i = 0; i < client->subscription_count; i++) {
        struct subscription *one = &client->subscriptions[i];
        bool wildcard = i == 0 && random_chance(&sim->workload_random, sim->config.broadcast ? 700 : 200);
        /* Distinct topics: what one subscription ends, no other keeps alive (the history knows topics, not filters). */
        one->topic = wildcard ? UINT32_MAX : (client->id + i) % (uint32_t)sim->config.topics;
        one->qos = (uint8_t)random_below(&sim->workload_random, 3);
        if (wildcard)
            client->subscription_count = 1;
        else if (i >= sim->config.topics)
            client->subscription_count = i;
    }
}

static void draw_session(struct sim_client *client)
{
    const struct sim_config *config = &client->sim->config;
    struct random *draw = &client->sim->workload_random;
    client->kind = random_chance(draw, config->clean_permille) ? SESSION_CLEAN : SESSION_FOR_EVER;
    if (client->level == 5 && random_chance(draw, config->brief_permille))
        client->kind = SESSION_BRIEF;
    client->expiry_s = client->kind == SESSION_FOR_EVER ? UINT32_MAX
                       : client->kind == SESSION_BRIEF ? (uint32_t)random_between(draw, 2, 12) : 0;
    client->has_will = random_chance(draw, config->will_permille);
    client->will_qos = (uint8_t)random_between(draw, 1, 2);
    client->will_delay_s = client->level == 5 && random_chance(draw, 500) ? (uint32_t)random_between(draw, 1, 6) : 0;
}

struct sim_client *client_model_new(struct sim *sim, uint32_t id)
{
    struct sim_client *client = memory_zeroed(1, sizeof *client);
    client->sim = sim;
    client->id = client->session = id;
    client->level = random_chance(&sim->workload_random, 700) ? 5 : 4;
    snprintf(client->name, sizeof client->name, "sim-%u", id);
    draw_subscriptions(client);
    draw_session(client);
    uint32_t observer = sim->config.shared ? SIM_GROUPS : 0;   /* sees all wills */
    if (sim->config.shared && id != observer && (id < SIM_GROUPS || random_chance(&sim->workload_random, 500)))
        join_group(client, id < SIM_GROUPS ? id : (uint32_t)random_below(&sim->workload_random, SIM_GROUPS));
    if (id <= observer) {   /* these stay */
        client->kind = SESSION_FOR_EVER;
        client->expiry_s = UINT32_MAX;
    }
    if (id == observer && sim->config.will_permille > 0)
        client->subscriptions[client->subscription_count++] = (struct subscription){.topic = client_will_topic(sim), .qos = 2};
    for (uint32_t i = 0; i < client->subscription_count; i++)
        client->subscriptions[i].wanted = true;
    return client;
}

void client_model_free(struct sim_client *client)
{
    buffer_release(&client->input);
    buffer_release(&client->output);
    buffer_release(&client->ghost_input);
    free(client->incoming);
    free(client->late);
    free(client);
}
