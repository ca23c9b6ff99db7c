/* network.c — what carries bytes between nodes, and between clients and nodes.
 *
 * A link is one TCP connection of a pair of nodes: in order, without loss, but late, held, broken, and half-open: one end
 * may learn of a break long after the other, and bytes of a broken connection may still arrive while the next one is up.
 * A packet lost below TCP delays itself and all that follows. What is held up in a direction (cut, isolated, clogged)
 * waits, in order, until the way is free again or the connection breaks.
 *
 * And, so that the check for it meets something: frames that come twice or out of order, as they might after a mistake in
 * our own link. Who gets such a frame must end the connection. */

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "sim.h"

#define KINDS 2

struct held {
    struct held *next;
    size_t size;
    uint8_t frame[];
};

struct direction {
    uint64_t last_us;            /* arrival of the frame before: nothing overtakes it */
    struct held *held, **held_end;
};

struct link {
    bool up;
    uint64_t generation[2];      /* of the lower and the higher node's frames */
    struct direction direction[2];   /* from the lower node, from the higher */
};

struct connection {
    uint32_t client, node;
    uint64_t node_generation;
    uint64_t to_node_us, to_client_us;
    bool open;
    bool stalled;
    struct held *held, **held_end;   /* for the client, while it does not read; size 0: closed */
};

struct sim_network {
    struct link link[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1][KINDS];   /* [lower][higher] */
    bool cut[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1], clogged[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];
    bool isolated[SIM_NODES_MAX + 1];
    bool held_up[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];   /* what follows from these */
    uint64_t generations;
    struct connection *connections;
    size_t connection_count, connection_capacity;
    uint64_t *open;              /* numbers of connections that may be open */
    size_t open_count, open_capacity;
};

struct delivery {
    uint32_t from, to;
    int kind;
    size_t size;
    uint8_t frame[];
};

struct link_change {
    uint32_t at, peer;
    int kind;
    bool up;
    uint64_t in, out, node_generation;
    struct node_life peer_life;
};

static struct link *link_of(struct sim *sim, uint32_t a, uint32_t b, int kind)
{
    return &sim->network->link[a < b ? a : b][a < b ? b : a][kind];
}

static uint64_t latency(struct sim *sim)
{
    struct random *random = &sim->network_random;
    uint64_t delay = sim->config.latency_us + random_below(random, sim->config.jitter_us + 1);
    if (sim->calm)
        return delay;
    if (sim->config.spike_permille > 0 && random_chance(random, sim->config.spike_permille))
        delay += random_below(random, 1 + (1000u << random_below(random, 9)));
    if (sim->config.loss_permille > 0 && random_chance(random, sim->config.loss_permille))
        delay += (200 * SIM_MS) << random_below(random, 3);   /* TCP's timer, and perhaps again */
    return delay;
}

/* ---- links ---- */

static void on_frame(void *world, uint64_t key, void *data)
{
    (void)key;
    struct sim *sim = world;
    struct delivery *delivery = data;
    node_frame(sim->node[delivery->to], delivery->from, delivery->kind, delivery->frame, delivery->size);
}

static void on_link(void *world, uint64_t key, void *data)
{
    (void)key;
    struct sim *sim = world;
    struct link_change *change = data;
    struct sim_node *node = sim->node[change->at];
    const struct link *link = link_of(sim, change->at, change->peer, change->kind);
    if (change->up && (!link->up || link->generation[change->at < change->peer ? 1 : 0] != change->in))
        return; /* it has ended before its greeting came */
    if (node_running(node) && node_generation(node) == change->node_generation)
        node_link(node, change->peer, change->kind, change->up, change->in, change->out,
                  change->peer_life);
}

static void tell_link(struct sim *sim, uint64_t at_us, uint32_t at, uint32_t peer, int kind, bool up,
                      const struct link *link)
{
    struct link_change *change = memory_allocate(sizeof *change);
    int own = at < peer ? 0 : 1;
    *change = (struct link_change){at, peer, kind, up, link->generation[1 - own], link->generation[own],
                                   node_generation(sim->node[at]), node_life(sim->node[peer])};
    schedule_add(sim->schedule, at_us, on_link, at, change);
}

static void drop_held(struct held **held, struct held ***end)
{
    while (*held != NULL) {
        struct held *first = *held;
        *held = first->next;
        free(first);
    }
    *end = held;
}

static void hold(struct held ***end, const void *data, size_t size)
{
    struct held *held = memory_allocate(sizeof *held + size);
    held->next = NULL;
    held->size = size;
    if (size > 0)
        memcpy(held->frame, data, size);
    **end = held;
    *end = &held->next;
}

static void schedule_frame(struct sim *sim, uint64_t at_us, uint32_t from, uint32_t to, int kind, const uint8_t *frame,
                           size_t size)
{
    struct delivery *delivery = memory_allocate(sizeof *delivery + size);
    *delivery = (struct delivery){from, to, kind, size};
    memcpy(delivery->frame, frame, size);
    schedule_add(sim->schedule, at_us, on_frame, to, delivery);
}

static void transmit(struct sim *sim, struct direction *direction, uint32_t from, uint32_t to, int kind,
                     const uint8_t *frame, size_t size)
{
    uint64_t at_us = sim_now_us(sim) + latency(sim) + size / 200;    /* about 1.6 Gbit/s */
    if (at_us <= direction->last_us)
        at_us = direction->last_us + 1;
    if (!sim->calm && sim->config.misorder_permille > 0 &&
        random_chance(&sim->network_random, sim->config.misorder_permille)) {
        schedule_frame(sim, at_us + random_below(&sim->network_random, 5 * SIM_MS), from, to, kind, frame, size);
        if (random_chance(&sim->network_random, 500))
            return; /* late: others overtake it */
    }
    direction->last_us = at_us;
    schedule_frame(sim, at_us, from, to, kind, frame, size);
}

void network_send(struct sim *sim, uint32_t from, uint32_t to, int kind, uint8_t *frame, size_t size)
{
    struct link *link = link_of(sim, from, to, kind);
    struct direction *direction = &link->direction[from < to ? 0 : 1];
    if (link->up && !sim->network->held_up[from][to])
        transmit(sim, direction, from, to, kind, frame, size);
    else if (link->up)
        hold(&direction->held_end, frame, size);
    free(frame);
}

static void dial(void *world, uint64_t key, void *data);

static void dial_later(struct sim *sim, uint32_t low, uint32_t high, int kind)
{
    schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->network_random, 10 * SIM_MS, 60 * SIM_MS), dial,
                 low | (high << 8) | ((uint64_t)kind << 16), NULL);
}

static void break_link(struct sim *sim, uint32_t a, uint32_t b, int kind)
{
    struct link *link = link_of(sim, a, b, kind);
    if (!link->up)
        return;
    link->up = false;
    uint32_t ends[2] = {a < b ? a : b, a < b ? b : a};
    for (int i = 0; i < 2; i++) {
        drop_held(&link->direction[i].held, &link->direction[i].held_end);
        uint64_t notice = random_chance(&sim->network_random, 800) ? 2 * SIM_MS : 1500 * SIM_MS;
        tell_link(sim, sim_now_us(sim) + random_below(&sim->network_random, notice), ends[i], ends[1 - i], kind, false,
                  link);
    }
    dial_later(sim, ends[0], ends[1], kind);
}

void network_disconnect(struct sim *sim, uint32_t a, uint32_t b, int kind)
{
    break_link(sim, a, b, kind);
}

static bool can_dial(struct sim *sim, uint32_t low, uint32_t high)
{
    uint64_t later;
    return node_running(sim->node[low]) && node_running(sim->node[high]) && !sim->network->held_up[low][high] &&
           !sim->network->held_up[high][low] && node_awake(sim->node[low], &later) && node_awake(sim->node[high], &later);
}

static void dial(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    uint32_t low = (uint32_t)(key & 0xff), high = (uint32_t)((key >> 8) & 0xff);
    int kind = (int)(key >> 16);
    struct link *link = link_of(sim, low, high, kind);
    if (link->up)
        return;
    if (!can_dial(sim, low, high)) {
        dial_later(sim, low, high, kind);
        return;
    }
    link->up = true;
    link->generation[0] = ++sim->network->generations;
    link->generation[1] = ++sim->network->generations;
    uint64_t accepted = sim_now_us(sim) + latency(sim), dialed = accepted + latency(sim) + 1;
    tell_link(sim, accepted, high, low, kind, true, link);
    tell_link(sim, dialed, low, high, kind, true, link);
    for (int i = 0; i < 2; i++) {
        drop_held(&link->direction[i].held, &link->direction[i].held_end);
        if (link->direction[i].last_us < dialed)
            link->direction[i].last_us = dialed;
    }
}

/* ---- what holds up ---- */

static void give_up(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    uint32_t from = (uint32_t)(key & 0xff), to = (uint32_t)(key >> 8);
    if (sim->network->cut[from][to] || sim->network->isolated[from] || sim->network->isolated[to])
        for (int kind = 0; kind < KINDS; kind++)
            break_link(sim, from, to, kind);
}

static void release(struct sim *sim, uint32_t from, uint32_t to)
{
    for (int kind = 0; kind < KINDS; kind++) {
        struct direction *direction = &link_of(sim, from, to, kind)->direction[from < to ? 0 : 1];
        for (struct held *held = direction->held; held != NULL; held = held->next)
            transmit(sim, direction, from, to, kind, held->frame, held->size);
        drop_held(&direction->held, &direction->held_end);
    }
}

static void update(struct sim *sim, uint32_t from, uint32_t to)
{
    struct sim_network *network = sim->network;
    bool broken = network->cut[from][to] || network->isolated[from] || network->isolated[to];
    bool held_up = broken || network->clogged[from][to];
    if (from == to || network->held_up[from][to] == held_up)
        return;
    network->held_up[from][to] = held_up;
    if (!held_up)
        release(sim, from, to);
    else if (broken)
        schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->network_random, 100 * SIM_MS, 4 * SIM_S),
                     give_up, from | ((uint64_t)to << 8), NULL);
}

void network_cut(struct sim *sim, uint32_t from, uint32_t to, bool cut)
{
    sim->network->cut[from][to] = cut;
    update(sim, from, to);
}

void network_clog(struct sim *sim, uint32_t from, uint32_t to, bool clogged)
{
    sim->network->clogged[from][to] = clogged;
    update(sim, from, to);
}

void network_isolate(struct sim *sim, uint32_t node, bool isolated)
{
    sim->network->isolated[node] = isolated;
    for (uint32_t peer = 1; peer <= sim->config.nodes; peer++) {
        update(sim, node, peer);
        update(sim, peer, node);
    }
}

void network_heal(struct sim *sim, uint64_t nodes)
{
    for (uint32_t a = 1; a <= sim->config.nodes; a++) {
        for (uint32_t b = 1; b <= sim->config.nodes; b++) {
            if (((nodes >> a) & (nodes >> b) & 1) == 0)
                continue;
            sim->network->isolated[a] = sim->network->isolated[b] = false;
            network_cut(sim, a, b, false);
            network_clog(sim, a, b, false);
        }
    }
    for (uint32_t a = 1; a <= sim->config.nodes; a++)
        network_isolate(sim, a, sim->network->isolated[a]);
}

/* ---- clients ---- */

struct client_bytes {
    size_t size;                 /* 0: closed */
    uint8_t data[];
};

static uint64_t client_latency(struct sim *sim)
{
    return random_between(&sim->network_random, 20, 2000);
}

static struct connection *connection_of(struct sim *sim, uint64_t number)
{
    return &sim->network->connections[number - 1];
}

static bool node_still_there(struct sim *sim, const struct connection *connection)
{
    return node_running(sim->node[connection->node]) &&
           node_generation(sim->node[connection->node]) == connection->node_generation;
}

static void on_bytes_for_node(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct client_bytes *bytes = data;
    struct connection *connection = connection_of(sim, key);
    if (!node_still_there(sim, connection))
        return;
    if (bytes->size > 0)
        node_client_bytes(sim->node[connection->node], key, bytes->data, bytes->size);
    else
        node_client_closed(sim->node[connection->node], key);
}

static void hand_to_client(struct sim *sim, uint64_t number, const uint8_t *data, size_t size)
{
    struct connection *connection = connection_of(sim, number);
    uint32_t client = connection->client;
    bool closed = size == 0;
    if (client < sim->config.clients)
        closed ? client_model_closed(sim->client[client], number) : client_model_bytes(sim->client[client], number, data, size);
    else if (client < sim->config.clients + SIM_REGISTER_CLIENTS)
        closed ? register_closed(sim->registers, number) : register_bytes(sim->registers, number, data, size);
    else
        closed ? visitor_closed(sim->visitor, number) : visitor_bytes(sim->visitor, number, data, size);
    if (size > 0 && node_still_there(sim, connection))
        node_client_written(sim->node[connection->node], number, size);
}

static void on_bytes_for_client(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct client_bytes *bytes = data;
    struct connection *connection = connection_of(sim, key);
    if (!connection->stalled) {
        hand_to_client(sim, key, bytes->data, bytes->size);
        return;
    }
    if (connection->held == NULL)
        connection->held_end = &connection->held;   /* connections move when there are more of them */
    hold(&connection->held_end, bytes->data, bytes->size);
}

static void carry(struct sim *sim, uint64_t number, uint64_t *last_us, schedule_action *action, const void *data,
                  size_t size)
{
    struct client_bytes *bytes = memory_allocate(sizeof *bytes + size);
    bytes->size = size;
    if (size > 0)
        memcpy(bytes->data, data, size);
    uint64_t at_us = sim_now_us(sim) + client_latency(sim);
    if (at_us <= *last_us)
        at_us = *last_us + 1;
    *last_us = at_us;
    schedule_add(sim->schedule, at_us, action, number, bytes);
}

static void remember_open(struct sim_network *network, uint64_t number)
{
    if (network->open_count == network->open_capacity) {
        network->open_capacity = network->open_capacity > 0 ? 2 * network->open_capacity : 64;
        network->open = memory_resize(network->open, network->open_capacity * sizeof *network->open);
    }
    network->open[network->open_count++] = number;
}

static void on_dial(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    struct connection *connection = connection_of(sim, key);
    struct sim_node *node = sim->node[connection->node];
    uint64_t later;
    if (node_running(node) && !node_awake(node, &later)) {
        schedule_add(sim->schedule, later, on_dial, key, NULL);
        return;
    }
    bool open = connection->open = node_running(node);
    uint32_t client = connection->client;
    connection->node_generation = node_generation(node);
    if (open) {
        remember_open(sim->network, key);
        node_client_open(node, key);
    }
    if (client < sim->config.clients)
        client_model_opened(sim->client[client], key, open);
    else if (client < sim->config.clients + SIM_REGISTER_CLIENTS)
        register_opened(sim->registers, key, open);
    else
        visitor_opened(sim->visitor, key, open);
}

uint64_t network_dial(struct sim *sim, uint32_t client, uint32_t node)
{
    struct sim_network *network = sim->network;
    if (network->connection_count == network->connection_capacity) {
        network->connection_capacity = network->connection_capacity > 0 ? 2 * network->connection_capacity : 256;
        network->connections =
            memory_resize(network->connections, network->connection_capacity * sizeof *network->connections);
    }
    network->connections[network->connection_count++] = (struct connection){.client = client, .node = node};
    schedule_add(sim->schedule, sim_now_us(sim) + client_latency(sim), on_dial, network->connection_count, NULL);
    return network->connection_count;
}

void network_client_send(struct sim *sim, uint64_t number, const void *data, size_t size)
{
    struct connection *connection = connection_of(sim, number);
    if (connection->open)
        carry(sim, number, &connection->to_node_us, on_bytes_for_node, data, size);
}

void network_client_close(struct sim *sim, uint64_t number)
{
    struct connection *connection = connection_of(sim, number);
    if (!connection->open)
        return;
    connection->open = false;
    carry(sim, number, &connection->to_node_us, on_bytes_for_node, NULL, 0);
}

/* What comes for the client while it is handed what was held goes to the end of the same line. */
void network_client_stall(struct sim *sim, uint64_t number, bool stalled)
{
    connection_of(sim, number)->stalled = stalled;
    while (!stalled && connection_of(sim, number)->held != NULL) {
        struct held *held = connection_of(sim, number)->held;
        connection_of(sim, number)->held = held->next;
        hand_to_client(sim, number, held->frame, held->size);
        free(held);
    }
}

void network_node_write(struct sim *sim, uint64_t number, const void *data, size_t size)
{
    struct connection *connection = connection_of(sim, number);
    if (size == 0)
        return;
    if (connection->open)
        carry(sim, number, &connection->to_client_us, on_bytes_for_client, data, size);
    else if (node_still_there(sim, connection))
        node_client_written(sim->node[connection->node], number, size);   /* into the void */
}

void network_node_close(struct sim *sim, uint64_t number)
{
    struct connection *connection = connection_of(sim, number);
    if (!connection->open)
        return;
    connection->open = false;
    carry(sim, number, &connection->to_client_us, on_bytes_for_client, NULL, 0);
}

void network_node_gone(struct sim *sim, uint32_t node)
{
    for (uint32_t peer = 1; peer <= sim->config.nodes; peer++)
        for (int kind = 0; kind < KINDS && peer != node; kind++)
            break_link(sim, node, peer, kind);
    size_t kept = 0;
    for (size_t i = 0; i < sim->network->open_count; i++) {
        uint64_t number = sim->network->open[i];
        if (connection_of(sim, number)->node == node)
            network_node_close(sim, number);
        else if (connection_of(sim, number)->open)
            sim->network->open[kept++] = number;
    }
    sim->network->open_count = kept;
}

/* ---- life ---- */

struct sim_network *network_new(struct sim *sim)
{
    struct sim_network *network = memory_zeroed(1, sizeof *network);
    for (uint32_t low = 1; low < sim->config.nodes; low++) {
        for (uint32_t high = low + 1; high <= sim->config.nodes; high++) {
            for (int kind = 0; kind < KINDS; kind++) {
                struct link *link = &network->link[low][high][kind];
                for (int i = 0; i < 2; i++)
                    link->direction[i].held_end = &link->direction[i].held;
                dial_later(sim, low, high, kind);
            }
        }
    }
    return network;
}

void network_free(struct sim_network *network)
{
    for (uint32_t low = 1; low <= SIM_NODES_MAX; low++) {
        for (uint32_t high = low + 1; high <= SIM_NODES_MAX; high++) {
            for (int i = 0; i < KINDS * 2; i++) {
                struct direction *direction = &network->link[low][high][i / 2].direction[i % 2];
                if (direction->held_end != NULL)
                    drop_held(&direction->held, &direction->held_end);
            }
        }
    }
    for (size_t i = 0; i < network->connection_count; i++)
        if (network->connections[i].held != NULL)
            drop_held(&network->connections[i].held, &network->connections[i].held_end);
    free(network->connections);
    free(network->open);
    free(network);
}
