/* client_messages.c — what a model client publishes, subscribes and gets, on a connection that is open: packet ids, the
 * window, QoS 1 and 2 on both sides, and what the history is told of them. */

#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "client_private.h"

uint32_t client_will_topic(const struct sim *sim)
{
    return (uint32_t)sim->config.topics;
}

/* ---- publishing ---- */

static uint16_t fresh_packet_id(struct sim_client *client)
{
    for (;;) {
        client->next_packet_id =
            client->next_packet_id >= GHOST_PACKET_ID - 1 ? 1 : (uint16_t)(client->next_packet_id + 1);
        bool used = false;
        for (uint32_t i = 0; i < client->window_count; i++)
            used = used || client->window[i].packet_id == client->next_packet_id;
        for (uint32_t i = 0; i < client->subscription_count; i++)
            used = used || (client->subscriptions[i].sent && client->subscriptions[i].packet_id == client->next_packet_id);
        if (!used)
            return client->next_packet_id;
    }
}

void client_put_publish(struct sim_client *client, const struct outgoing *one, bool dup)
{
    char name[32];
    snprintf(name, sizeof name, "sim/%u", one->topic);
    packet_put_publish(&client->output, &(struct packet_publish){
                                            .topic = name,
                                            .level = client->level,
                                            .qos = one->qos,
                                            .dup = dup,
                                            .packet_id = one->packet_id,
                                            .expiry_s = one->expiry_s,
                                            .publisher = client->id,
                                            .number = one->number,
                                            .payload_bytes = (uint32_t)client->sim->config.payload_bytes,
                                        });
}

struct outgoing client_draw_publish(struct sim_client *client)
{
    struct sim *sim = client->sim;
    uint64_t draw = random_below(&sim->workload_random, 10);
    struct outgoing one = {.topic = (uint32_t)random_below(&sim->workload_random, sim->config.topics),
                           .qos = draw < 1 ? 0 : draw < 6 ? 1 : 2};
    one.number = history_publish(sim->history, client->id, one.topic, one.qos, client->connection, sim_now_us(sim));
    if (client->level == 5 && random_chance(&sim->workload_random, sim->config.expiry_permille)) {
        one.expiry_s = (uint32_t)random_between(&sim->workload_random, 1, 5);
        history_expires(sim->history, client->id, one.number);
    }
    return one;
}

void client_publish(struct sim_client *client)
{
    struct sim *sim = client->sim;
    if (client->phase != ONLINE || client->window_count >= sim->config.window || client->window_count >= WINDOW_MAX)
        return;
    struct outgoing one = client_draw_publish(client);
    if (one.qos > 0) {
        one.packet_id = fresh_packet_id(client);
        one.asked_us = sim_now_us(sim);
        client->window[client->window_count++] = one;
    }
    client_put_publish(client, &one, false);
}

/* What the standard asks for after a reconnect: unacknowledged PUBLISH and PUBREL again, in the original order. */
void client_resend(struct sim_client *client)
{
    for (uint32_t i = 0; i < client->window_count; i++) {
        struct outgoing *one = &client->window[i];
        one->asked_us = sim_now_us(client->sim);
        if (one->stage == RELEASED) {
            packet_put_ack(&client->output, PACKET_PUBREL, one->packet_id);
        } else {
            history_resent(client->sim->history, client->id, one->number);
            client_put_publish(client, one, true);
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

void client_acknowledged(struct sim_client *client, uint8_t type, uint16_t packet_id, uint8_t reason)
{
    struct outgoing *one = outgoing_of(client, packet_id);
    if (one == NULL)
        return;
    struct history *history = client->sim->history;
    uint64_t now = sim_now_us(client->sim);
    const char *wrong = NULL;
    client_hear(client, one->asked_us);
    if ((type == PACKET_PUBACK && one->qos == 1) || (type == PACKET_PUBREC && one->qos == 2))
        wrong = history_acknowledged(history, client->id, one->number, reason >= 0x80, now);
    if (wrong != NULL)
        sim_violation(client->sim, "%s (by node %u)", wrong, client->node);
    if (type == PACKET_PUBREC && one->qos == 2 && reason < 0x80) {
        one->stage = RELEASED;
        one->asked_us = now;
        packet_put_ack(&client->output, PACKET_PUBREL, packet_id);
    } else if ((type == PACKET_PUBACK && one->qos == 1) || (type == PACKET_PUBREC && one->qos == 2) ||
               (type == PACKET_PUBCOMP && one->qos == 2 && one->stage == RELEASED)) {
        complete(client, one);
    }
}

/* ---- subscribing ---- */

static bool covers(const struct sim_client *client, const struct subscription *one, uint32_t topic)
{
    return one->topic == topic || (one->topic == UINT32_MAX && topic != client_will_topic(client->sim));
}

/* A group is subscribed once a member is whose session stays: with a clean one it may end again. */
static void tell_history(struct sim_client *client, const struct subscription *one)
{
    struct sim *sim = client->sim;
    bool lasts = !client_is_member(client) || client->kind == SESSION_FOR_EVER;
    for (uint32_t topic = 0; topic <= client_will_topic(sim); topic++) {
        if (!covers(client, one, topic))
            continue;
        if (one->sent && one->wanted)
            history_subscribing(sim->history, client->session, topic, one->qos, one->sent_us);
        else if (!one->sent && one->active && lasts)
            history_subscribed(sim->history, client->session, topic, sim_now_us(sim));
        else if (!one->sent && !one->active)
            history_unsubscribed(sim->history, client->id, topic, one->sent_us, sim_now_us(sim));
    }
}

static void filter_name(const struct sim_client *client, const struct subscription *one, char *name, size_t size)
{
    if (one->topic == client_will_topic(client->sim))
        snprintf(name, size, "will/+");
    else if (client_is_member(client))
        snprintf(name, size, "$share/group-%u/sim/+", client->session - (uint32_t)client->sim->config.clients);
    else if (one->topic == UINT32_MAX)
        snprintf(name, size, "sim/+");
    else
        snprintf(name, size, "sim/%u", one->topic);
}

static void change_subscription(struct sim_client *client, struct subscription *one)
{
    char name[48];
    filter_name(client, one, name, sizeof name);
    one->packet_id = fresh_packet_id(client);
    one->sent = true;
    if (one->sent_us == 0) {
        one->sent_us = sim_now_us(client->sim);
        tell_history(client, one);
    }
    if (one->wanted)
        packet_put_subscribe(&client->output, client->level, one->packet_id, name, one->qos);
    else
        packet_put_unsubscribe(&client->output, client->level, one->packet_id, name);
}

void client_subscribe_what_is_wanted(struct sim_client *client)
{
    for (uint32_t i = 0; i < client->subscription_count; i++)
        if (client->subscriptions[i].wanted != client->subscriptions[i].active && !client->subscriptions[i].sent)
            change_subscription(client, &client->subscriptions[i]);
}

void client_subscription_answered(struct sim_client *client, uint16_t packet_id, bool subscribed)
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

void client_toggle_subscription(struct sim_client *client)
{
    struct subscription *one =
        &client->subscriptions[random_below(&client->sim->workload_random, client->subscription_count)];
    bool fixed = client_is_member(client) || one->topic == client_will_topic(client->sim);
    if (client->phase != ONLINE || fixed || one->sent || one->wanted != one->active)
        return;
    one->wanted = !one->wanted;
    change_subscription(client, one);
}

/* ---- receiving ---- */

static struct incoming *incoming_of(struct sim_client *client, uint16_t packet_id)
{
    for (uint32_t i = 0; i < client->incoming_count; i++)
        if (client->incoming[i].packet_id == packet_id)
            return &client->incoming[i];
    return NULL;
}

/* Whether this QoS 2 PUBLISH is one that the application has been given already. */
static bool is_repeated(struct sim_client *client, const struct packet_publish *publish)
{
    struct incoming *known = publish->qos == 2 ? incoming_of(client, publish->packet_id) : NULL;
    if (known != NULL && (known->publisher != publish->publisher || known->number != publish->number))
        sim_violation(client->sim, "client %u got %u-%u with the packet id %u of %u-%u, which is not completed", client->id,
                      publish->publisher, publish->number, publish->packet_id, known->publisher, known->number);
    if (known != NULL || publish->qos < 2)
        return known != NULL;
    if (client->incoming_count == client->incoming_capacity) {
        client->incoming_capacity = client->incoming_capacity > 0 ? 2 * client->incoming_capacity : 16;
        client->incoming = memory_resize(client->incoming, client->incoming_capacity * sizeof *client->incoming);
    }
    client->incoming[client->incoming_count++] =
        (struct incoming){publish->packet_id, publish->publisher, publish->number};
    return false;
}

/* One of those that wait, not the one that has waited longest. */
static void release_late_ack(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_client *client = sim->client[key];
    if (*(uint64_t *)data != client->connection || client->phase != ONLINE || client->late_count == 0)
        return;
    struct late_ack *one = &client->late[random_below(&sim->workload_random, client->late_count)];
    packet_put_ack(&client->output, one->first, one->packet_id);
    *one = client->late[--client->late_count];
    client_flush(client);
}

static void acknowledge(struct sim_client *client, const struct packet_publish *publish)
{
    struct sim *sim = client->sim;
    uint8_t first = publish->qos == 1 ? PACKET_PUBACK : PACKET_PUBREC;
    bool late = sim->config.late_ack_permille > 0 && random_chance(&sim->workload_random, sim->config.late_ack_permille);
    if (!late || sim->calm) {
        packet_put_ack(&client->output, first, publish->packet_id);
        return;
    }
    if (client->late_count == client->late_capacity) {
        client->late_capacity = client->late_capacity > 0 ? 2 * client->late_capacity : 16;
        client->late = memory_resize(client->late, client->late_capacity * sizeof *client->late);
    }
    client->late[client->late_count++] = (struct late_ack){first, publish->packet_id, publish->publisher, publish->number};
    uint64_t *connection = memory_allocate(sizeof *connection);
    *connection = client->connection;
    schedule_add(sim->schedule, sim_now_us(sim) + random_below(&sim->workload_random, 500 * SIM_MS), release_late_ack,
                 client->id, connection);
}

/* A packet id that we have not acknowledged names no other message. */
static void check_packet_id(struct sim_client *client, const struct packet_publish *publish)
{
    for (uint32_t i = 0; i < client->late_count; i++) {
        const struct late_ack *one = &client->late[i];
        if (one->packet_id == publish->packet_id && (one->publisher != publish->publisher || one->number != publish->number))
            sim_violation(client->sim, "client %u got %u-%u with the packet id %u of %u-%u, which it has not acknowledged",
                          client->id, publish->publisher, publish->number, publish->packet_id, one->publisher, one->number);
    }
}

void client_deliver(struct sim_client *client, uint8_t first, struct bytes content)
{
    struct sim *sim = client->sim;
    struct packet_publish publish;
    struct bytes topic;
    if (!packet_read_publish(first, content, client->level, &publish, &topic)) {
        sim_violation(sim, "client %u got a PUBLISH that it cannot read", client->id);
        return;
    }
    if (publish.qos > 0)
        check_packet_id(client, &publish);
    if (!is_repeated(client, &publish)) {
        sim_trace(sim, 'd', ((uint64_t)publish.publisher << 32) | publish.number);
        sim_note(sim, "client %u got %u-%u%s", client->id, publish.publisher, publish.number, publish.dup ? ", DUP" : "");
        const char *wrong = history_delivered(sim->history, client->session, publish.publisher, publish.number,
                                              publish.qos, publish.dup, client->connection, sim_now_us(sim));
        if (wrong != NULL)
            sim_violation(sim, "%s (at node %u)", wrong, client->node);
    }
    if (publish.qos > 0)
        acknowledge(client, &publish);
}

void client_released(struct sim_client *client, uint16_t packet_id)
{
    struct incoming *known = incoming_of(client, packet_id);
    if (known != NULL)
        *known = client->incoming[--client->incoming_count];
    packet_put_ack(&client->output, PACKET_PUBCOMP, packet_id);
}
