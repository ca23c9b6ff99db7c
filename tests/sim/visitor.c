/* visitor.c — a client that makes a session, finds it again elsewhere, and ends it; then it comes back under another name.
 *
 *   MAKES ──CONNACK: not present──▶ RETURNS ──CONNACK: present──▶ ENDS ──CONNACK──▶ the next visit
 *
 * Each step is a connection of its own, to any node, as soon as the one before is over: what a CONNACK says about the
 * session must hold wherever the client asks, however shortly before it was made (G3). A step whose answer is lost is done
 * again; who only returns is not patient either, so as to ask whoever takes the lead as early as can be. The sessions never
 * expire, so no clock excuses anything. */

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "packets.h"
#include "sim.h"

enum step { MAKES, RETURNS, ENDS };

struct sim_visitor {
    struct sim *sim;
    uint32_t client, node;
    enum step step;
    uint64_t visit;          /* its number is in the client id */
    uint32_t attempts;       /* CONNECTs of this step: all but the last may have had an effect without an answer */
    uint64_t connection;     /* 0: none */
    struct buffer input;
};

static void dial(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_visitor *visitor = sim->visitor;
    (void)key;
    (void)data;
    if (sim->calm)
        return;
    visitor->node = (uint32_t)random_between(&sim->workload_random, 1, sim->config.nodes);
    visitor->connection = network_dial(sim, visitor->client, visitor->node);
}

static void dial_within(struct sim_visitor *visitor, uint64_t longest_us)
{
    uint64_t delay_us = random_between(&visitor->sim->workload_random, 1, longest_us);
    visitor->connection = 0;
    schedule_add(visitor->sim->schedule, sim_now_us(visitor->sim) + delay_us, dial, 0, NULL);
}

static void lose_patience(void *world, uint64_t key, void *data)
{
    struct sim *sim = world;
    struct sim_visitor *visitor = sim->visitor;
    (void)data;
    if (visitor->connection != key || sim->calm)
        return;
    network_client_close(sim, key);
    dial_within(visitor, SIM_MS);
}

static void judge(struct sim_visitor *visitor, bool present)
{
    bool expected = visitor->step == RETURNS;
    bool known = visitor->step != MAKES || visitor->attempts == 1;
    if (known && present != expected)
        sim_violation(visitor->sim, "visitor %llu was told at node %u that its session is %s",
                      (unsigned long long)visitor->visit, visitor->node, present ? "there" : "not there");
}

static void next_step(struct sim_visitor *visitor)
{
    bool over = visitor->step == ENDS;
    network_client_close(visitor->sim, visitor->connection);
    visitor->attempts = 0;
    visitor->step = over ? MAKES : visitor->step + 1;
    visitor->visit += over;
    dial_within(visitor, over ? 2 * visitor->sim->config.visitor_gap_ms * SIM_MS : SIM_MS);
}

void visitor_opened(struct sim_visitor *visitor, uint64_t connection, bool ok)
{
    char name[32];
    struct buffer out = {0};
    if (connection != visitor->connection)
        return;
    if (!ok) {
        visitor_closed(visitor, connection);
        return;
    }
    visitor->attempts++;
    buffer_clear(&visitor->input);
    snprintf(name, sizeof name, "visitor-%llu", (unsigned long long)visitor->visit);
    packet_put_connect(&out, &(struct packet_connect){.client_id = name, .level = 5, .clean = visitor->step == ENDS,
                                                      .expiry_s = visitor->step == ENDS ? 0 : UINT32_MAX,
                                                      .receive_maximum = 10});
    network_client_send(visitor->sim, connection, out.data, out.size);
    buffer_release(&out);
    if (visitor->step == RETURNS)
        schedule_add(visitor->sim->schedule,
                     sim_now_us(visitor->sim) + random_between(&visitor->sim->workload_random, 5 * SIM_MS, 500 * SIM_MS),
                     lose_patience, connection, NULL);
}

void visitor_bytes(struct sim_visitor *visitor, uint64_t connection, const uint8_t *data, size_t size)
{
    uint8_t first;
    struct bytes content;
    size_t used;
    if (connection != visitor->connection)
        return;
    buffer_put(&visitor->input, data, size);
    if (!packet_next(&visitor->input, &first, &content, &used))
        return;
    if (first != PACKET_CONNACK || content.size < 2 || content.data[1] != 0)
        return;   /* refused: the close follows */
    judge(visitor, (content.data[0] & 1) != 0);
    next_step(visitor);
}

void visitor_closed(struct sim_visitor *visitor, uint64_t connection)
{
    if (connection == visitor->connection)
        dial_within(visitor, 200 * SIM_MS);
}

void visitor_start(struct sim_visitor *visitor)
{
    if (visitor->sim->config.visitor_gap_ms > 0)
        dial_within(visitor, SIM_S);
}

struct sim_visitor *visitor_new(struct sim *sim, uint32_t client)
{
    struct sim_visitor *visitor = memory_zeroed(1, sizeof *visitor);
    visitor->sim = sim;
    visitor->client = client;
    return visitor;
}

void visitor_free(struct sim_visitor *visitor)
{
    buffer_release(&visitor->input);
    free(visitor);
}
