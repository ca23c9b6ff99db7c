/* network.c — what carries bytes between nodes, and between clients and nodes.
 *
 * A link is one TCP connection of a pair of nodes: in order, without loss, but late, cut, broken, and half-open: one end
 * may learn of a break long after the other, and bytes of a broken connection may still arrive while the next one is up.
 * Packets lost below TCP show as delays. A cut direction holds what is sent until it heals or the connection breaks. */

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
};

struct sim_network {
    struct link link[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1][KINDS];   /* [lower][higher] */
    bool cut[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1];
    uint64_t generations;
    struct connection *connections;
    size_t connection_count, connection_capacity;
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
    uint64_t delay = sim->config.latency_us + random_below(&sim->network_random, sim->config.jitter_us + 1);
    if (!sim->calm && random_chance(&sim->network_random, sim->config.spike_permille))
        delay += random_below(&sim->network_random, 200 * SIM_MS);
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

static void drop_held(struct direction *direction)
{
    while (direction->held != NULL) {
        struct held *held = direction->held;
        direction->held = held->next;
        free(held);
    }
    direction->held_end = &direction->held;
}

static void transmit(struct sim *sim, struct direction *direction, uint32_t from, uint32_t to, int kind,
                     const uint8_t *frame, size_t size)
{
    struct delivery *delivery = memory_allocate(sizeof *delivery + size);
    *delivery = (struct delivery){from, to, kind, size};
    memcpy(delivery->frame, frame, size);
    uint64_t at_us = sim_now_us(sim) + latency(sim) + size / 200;    /* about 1.6 Gbit/s */
    if (at_us <= direction->last_us)
        at_us = direction->last_us + 1;
    direction->last_us = at_us;
    schedule_add(sim->schedule, at_us, on_frame, to, delivery);
}

void network_send(struct sim *sim, uint32_t from, uint32_t to, int kind, uint8_t *frame, size_t size)
{
    struct link *link = link_of(sim, from, to, kind);
    struct direction *direction = &link->direction[from < to ? 0 : 1];
    if (link->up && !sim->network->cut[from][to]) {
        transmit(sim, direction, from, to, kind, frame, size);
    } else if (link->up) {
        struct held *held = memory_allocate(sizeof *held + size);
        held->next = NULL;
        held->size = size;
        memcpy(held->frame, frame, size);
        *direction->held_end = held;
        direction->held_end = &held->next;
    }
    free(frame);
}

static void break_link(struct sim *sim, uint32_t a, uint32_t b, int kind)
{
    struct link *link = link_of(sim, a, b, kind);
    if (!link->up)
        return;
    link->up = false;
    uint32_t ends[2] = {a < b ? a : b, a < b ? b : a};
    for (int i = 0; i < 2; i++) {
        drop_held(&link->direction[i]);
        uint64_t notice = random_chance(&sim->network_random, 800) ? 2 * SIM_MS : 1500 * SIM_MS;
        tell_link(sim, sim_now_us(sim) + random_below(&sim->network_random, notice), ends[i], ends[1 - i], kind, false,
                  link);
    }
}

void network_disconnect(struct sim *sim, uint32_t a, uint32_t b, int kind)
{
    break_link(sim, a, b, kind);
}

static void dial(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    uint32_t low = (uint32_t)(key & 0xff), high = (uint32_t)((key >> 8) & 0xff);
    int kind = (int)(key >> 16);
    struct link *link = link_of(sim, low, high, kind);
    uint64_t later;
    bool possible = node_running(sim->node[low]) && node_running(sim->node[high]) &&
                    !sim->network->cut[low][high] && !sim->network->cut[high][low] &&
                    node_awake(sim->node[low], &later) && node_awake(sim->node[high], &later);
    if (!link->up && possible) {
        link->up = true;
        link->generation[0] = ++sim->network->generations;
        link->generation[1] = ++sim->network->generations;
        uint64_t accepted = sim_now_us(sim) + latency(sim), dialed = accepted + latency(sim) + 1;
        tell_link(sim, accepted, high, low, kind, true, link);
        tell_link(sim, dialed, low, high, kind, true, link);
        for (int i = 0; i < 2; i++) {
            drop_held(&link->direction[i]);
            if (link->direction[i].last_us < dialed)
                link->direction[i].last_us = dialed;
        }
    }
    schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->network_random, 10 * SIM_MS, 60 * SIM_MS), dial,
                 key, NULL);
}

static void give_up(void *world, uint64_t key, void *data)
{
    (void)data;
    struct sim *sim = world;
    uint32_t from = (uint32_t)(key & 0xff), to = (uint32_t)(key >> 8);
    if (sim->network->cut[from][to])
        for (int kind = 0; kind < KINDS; kind++)
            break_link(sim, from, to, kind);
}

void network_cut(struct sim *sim, uint32_t from, uint32_t to, bool cut)
{
    if (sim->network->cut[from][to] == cut)
        return;
    sim->network->cut[from][to] = cut;
    if (cut) {
        schedule_add(sim->schedule, sim_now_us(sim) + random_between(&sim->network_random, 100 * SIM_MS, 4 * SIM_S),
                     give_up, from | ((uint64_t)to << 8), NULL);
        return;
    }
    for (int kind = 0; kind < KINDS; kind++) {
        struct link *link = link_of(sim, from, to, kind);
        struct direction *direction = &link->direction[from < to ? 0 : 1];
        for (struct held *held = direction->held; held != NULL; held = held->next)
            transmit(sim, direction, from, to, kind, held->frame, held->size);
        drop_held(direction);
    }
}

void network_heal(struct sim *sim)
{
    for (uint32_t a = 1; a <= sim->config.nodes; a++)
        for (uint32_t b = 1; b <= sim->config.nodes; b++)
            network_cut(sim, a, b, false);
}

/* ---- clients ---- */

struct client_bytes {
    uint64_t connection;
    uint32_t at;                 /* node, or client */
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
        node_client_bytes(sim->node[bytes->at], key, bytes->data, bytes->size);
    else
        node_client_closed(sim->node[bytes->at], key);
}

static void on_bytes_for_client(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct client_bytes *bytes = data;
    if (bytes->size > 0)
        client_model_bytes(sim->client[bytes->at], key, bytes->data, bytes->size);
    else
        client_model_closed(sim->client[bytes->at], key);
}

static void carry(struct sim *sim, uint64_t number, uint32_t at, uint64_t *last_us, schedule_action *action,
                  const void *data, size_t size)
{
    struct client_bytes *bytes = memory_allocate(sizeof *bytes + size);
    *bytes = (struct client_bytes){number, at, size};
    if (size > 0)
        memcpy(bytes->data, data, size);
    uint64_t at_us = sim_now_us(sim) + client_latency(sim);
    if (at_us <= *last_us)
        at_us = *last_us + 1;
    *last_us = at_us;
    schedule_add(sim->schedule, at_us, action, number, bytes);
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
    connection->open = node_running(node);
    connection->node_generation = node_generation(node);
    if (connection->open)
        node_client_open(node, key, connection->client);
    client_model_opened(sim->client[connection->client], key, connection->open);
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

void network_client_send(struct sim *sim, uint64_t number, uint32_t node, const void *data, size_t size)
{
    struct connection *connection = connection_of(sim, number);
    if (connection->open)
        carry(sim, number, node, &connection->to_node_us, on_bytes_for_node, data, size);
}

void network_client_close(struct sim *sim, uint64_t number, uint32_t node)
{
    struct connection *connection = connection_of(sim, number);
    if (!connection->open)
        return;
    connection->open = false;
    carry(sim, number, node, &connection->to_node_us, on_bytes_for_node, NULL, 0);
}

void network_node_write(struct sim *sim, uint64_t number, uint32_t client, const void *data, size_t size)
{
    struct connection *connection = connection_of(sim, number);
    if (connection->open && size > 0)
        carry(sim, number, client, &connection->to_client_us, on_bytes_for_client, data, size);
}

void network_node_close(struct sim *sim, uint64_t number, uint32_t client)
{
    struct connection *connection = connection_of(sim, number);
    if (!connection->open)
        return;
    connection->open = false;
    carry(sim, number, client, &connection->to_client_us, on_bytes_for_client, NULL, 0);
}

void network_node_gone(struct sim *sim, uint32_t node)
{
    for (uint32_t peer = 1; peer <= sim->config.nodes; peer++)
        for (int kind = 0; kind < KINDS && peer != node; kind++)
            break_link(sim, node, peer, kind);
    for (size_t i = 0; i < sim->network->connection_count; i++)
        if (sim->network->connections[i].node == node)
            network_node_close(sim, i + 1, sim->network->connections[i].client);
}

struct sim_network *network_new(struct sim *sim)
{
    struct sim_network *network = memory_zeroed(1, sizeof *network);
    for (uint32_t low = 1; low < sim->config.nodes; low++) {
        for (uint32_t high = low + 1; high <= sim->config.nodes; high++) {
            for (int kind = 0; kind < KINDS; kind++) {
                struct link *link = &network->link[low][high][kind];
                for (int i = 0; i < 2; i++)
                    link->direction[i].held_end = &link->direction[i].held;
                schedule_add(sim->schedule, low * SIM_MS + high, dial, low | (high << 8) | ((uint64_t)kind << 16), NULL);
            }
        }
    }
    return network;
}

void network_free(struct sim_network *network)
{
    for (uint32_t low = 1; low <= SIM_NODES_MAX; low++)
        for (uint32_t high = low + 1; high <= SIM_NODES_MAX; high++)
            for (int kind = 0; kind < KINDS; kind++)
                for (int i = 0; i < 2; i++)
                    if (network->link[low][high][kind].direction[i].held_end != NULL)
                        drop_held(&network->link[low][high][kind].direction[i]);
    free(network->connections);
    free(network);
}
