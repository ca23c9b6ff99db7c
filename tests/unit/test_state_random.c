/* Any sequence of commands keeps every promise: two replicas stay equal, however often one is rebuilt from its rows, and
 * state_check() finds nothing. After each sequence everything is acknowledged and ended, and nothing may be left.
 *
 * STATE_SEED runs one seed, STATE_STEPS so many commands. */
#include "state_world.h"

#include <stdio.h>

#define CLIENTS 24
#define SEEDS 12

static const char *const topics[] = {"a", "a/b", "a/b/c", "b", "b/c", "a/c", "all", "all/x"};
static const char *const filters[] = {"a",   "a/#", "a/+",   "+/b",          "#",           "r/#",          "all/#",
                                     "b/c", "+",   "a/b/c", "$share/g/all/#", "$share/g/a/#", "$share/h/all/#", "$share/g/#"};
#define MANY_TOPICS 130 /* more than a SUBSCRIBE brings at once */

/* Half of the time the one filter that so gets more members than can be named in it. */
static const char *draw_filter(void)
{
    return draw(2) == 0 ? "all/#" : filters[draw(14)];
}

/* At times one of many topics that are retained from the start. */
static const char *draw_topic(void)
{
    static char name[16];
    if (draw(4) > 0)
        return topics[draw(8)];
    snprintf(name, sizeof name, "r/%u", (unsigned)draw(MANY_TOPICS));
    return name;
}

static const char *draw_client(void)
{
    static char name[8];
    snprintf(name, sizeof name, "c%u", (unsigned)draw(CLIENTS));
    return name;
}

static bool is_up(struct world *w, uint32_t node)
{
    bool up;
    return state_node_epoch(w->states[0], node, &up) != 0;
}

static struct connect_options draw_connect(struct world *w)
{
    static const uint32_t expiries[] = {0, 20, NEVER, NEVER};
    struct connect_options options = {
        .node = is_up(w, 2) ? 1 + (uint32_t)draw(2) : 1,
        .clean_start = draw(8) == 0,
        .expiry_s = expiries[draw(4)],
        .receive_maximum = (uint16_t)(1 + draw(3)),
    };
    if (draw(3) == 0) {
        options.will_topic = topics[draw(8)];
        options.will_delay_s = (uint32_t)(draw(3) * 4);
        options.will_qos = (uint8_t)draw(3);
        options.will_retain = draw(2) == 0;
    }
    return options;
}

static uint8_t draw_options(void)
{
    return (uint8_t)(draw(3) | (draw(4) == 0 ? SUBSCRIPTION_NO_LOCAL : 0) |
                     (draw(2) == 0 ? SUBSCRIPTION_RETAIN_AS_PUBLISHED : 0) | draw(3) << 4);
}

static void publish_something(struct world *w, const char *name)
{
    char payload[16];
    snprintf(payload, sizeof payload, "%u", (unsigned)w->index);
    bool retain = draw(4) == 0;
    struct publish_options options = {
        .qos = (uint8_t)(1 + draw(2)),
        .retain = retain,
        .packet_id = (uint16_t)(1 + draw(5)),
        .expiry_s = (uint32_t)(draw(4) == 0 ? 1 + draw(20) : 0),
    };
    if (retain && draw(3) == 0) {
        options.qos = 0;
        options.register_only = true;
    }
    world_publish(w, name, draw_topic(), retain && draw(4) == 0 ? "" : payload, options);
}

/* Acknowledges one of the first few deliveries the way its kind asks for. */
static void complete_something(struct world *w, const char *name)
{
    uint64_t session = world_client(w, name)->owner.session_id, after = 0;
    struct queued queued;
    uint64_t skip = draw(4);
    if (state_next_queued(w->states[0], session, after, w->effects[0], &queued) != STATUS_OK)
        return;
    while (skip-- > 0) {
        struct queued next;
        after = queued.target.order;
        if (state_next_queued(w->states[0], session, after, w->effects[0], &next) == STATUS_OK)
            queued = next;
    }
    struct target target = queued.target;
    uint64_t filter = target.broadcast_count > 0 ? target.broadcast_filters[draw(target.broadcast_count)] : 0;
    if (target.admitted && draw(5) > 0) {
        if (queued.released)
            world_pubcomp(w, name, target.order);
        else
            world_pubrec(w, name, target.order);
    } else if (filter != 0 && (!target.own || draw(2) == 0)) {
        uint64_t except[] = {target.order > 3 ? target.order - draw(3) : target.order};
        world_ack_broadcast(w, name, filter, target.order, except, draw(3) == 0 ? 1 : 0);
    } else {
        world_ack_own(w, name, target.order);
    }
}

static void retained_more(struct world *w, const char *name)
{
    uint64_t position;
    if (state_retained_scan(w->states[0], world_client(w, name)->owner.session_id, &position))
        world_retained_more(w, name, (uint16_t)(1 + draw(100)));
}

static void do_something(struct world *w)
{
    const char *name = draw_client();
    uint64_t kind = draw(100);
    if (!is_up(w, 2) && draw(5) == 0)
        world_node_up(w, 2);
    else if (kind >= 14 && kind < 94 && !is_up(w, world_client(w, name)->node))
        return;
    else if (kind < 14)
        world_connect(w, name, draw_connect(w));
    else if (kind < 16)
        world_end(w, name, draw(2) == 0 ? END_CLEAN : END_WITH_WILL);
    else if (kind < 34)
        world_subscribe_id(w, name, draw_filter(), draw_options(), (uint32_t)draw(4));
    else if (kind < 37)
        world_unsubscribe(w, name, draw_filter());
    else if (kind < 60)
        publish_something(w, name);
    else if (kind < 64)
        world_pubrel(w, name, (uint16_t)(1 + draw(5)));
    else if (kind < 92)
        complete_something(w, name);
    else if (kind < 94)
        retained_more(w, name);
    else if (kind < 97)
        world_tick(w, draw(5000));
    else if (kind < 98 && draw(3) == 0)
        world_node_up(w, 1 + (uint32_t)draw(2));
    else if (kind < 98 && is_up(w, 2) && draw(2) == 0)
        world_node_down(w, 2);
    else if (kind < 99)
        world_apply_entry(w, buffer_bytes(&w->batch)); /* a batch that comes twice */
    else
        world_apply_one(w, 1, &(struct command){.type = COMMAND_CONTINUE});
}

static void retain_many(struct world *w)
{
    char topic[16];
    w->reopen = false;
    world_connect(w, "c0", (struct connect_options){0});
    for (unsigned i = 0; i < MANY_TOPICS; i++) {
        snprintf(topic, sizeof topic, "r/%u", i);
        world_publish(w, "c0", topic, "x", (struct publish_options){.qos = (uint8_t)(i % 3), .retain = true,
                                                                    .register_only = i % 3 == 0,
                                                                    .packet_id = (uint16_t)i});
        if (i % 3 == 2)
            world_pubrel(w, "c0", (uint16_t)i);
    }
}

static void everything_ends(struct world *w)
{
    char name[8];
    world_node_up(w, 2);
    for (unsigned i = 0; i < CLIENTS; i++) {
        snprintf(name, sizeof name, "c%u", i);
        world_connect(w, name, (struct connect_options){.clean_start = true});
        world_end(w, name, END_CLEAN);
    }
    world_node_up(w, 1); /* connections whose END never came */
    world_node_up(w, 2);
    world_connect(w, "c0", (struct connect_options){.clean_start = true});
    for (unsigned i = 0; i < 8 + MANY_TOPICS; i++) {
        snprintf(name, sizeof name, "r/%u", i - 8);
        world_publish(w, "c0", i < 8 ? topics[i] : name, "", (struct publish_options){.qos = 1, .retain = true});
    }
    world_end(w, "c0", END_CLEAN);
    world_finish_work(w);
    struct state_counts counts = world_counts(w);
    assert_int_equal(counts.sessions, 0);
    assert_int_equal(counts.connected, 0);
    assert_int_equal(counts.filters, 0);
    assert_int_equal(counts.groups, 0);
    assert_int_equal(counts.subscriptions, 0);
    assert_int_equal(counts.messages, 0);
    assert_int_equal(counts.queued, 0);
    assert_int_equal(counts.queued_bytes, 0);
    assert_int_equal(counts.in_flight, 0);
    assert_int_equal(counts.retained, 0);
    assert_int_equal(counts.wills_pending, 0);
    assert_int_equal(state_due_ms(w->states[0]), UINT64_MAX);
}

static void run(unsigned steps)
{
    void *state;
    world_setup(&state);
    struct world *w = state;
    if (draw(2) == 0) {
        struct command_settings settings = *state_settings(w->states[0]);
        settings.queue_messages_max = 1 + draw(10);
        settings.in_flight_max = 1 + (uint32_t)draw(3);
        settings.subscriptions_max = 1 + draw(6);
        settings.retained_messages_max = 1 + draw(150);
        world_settings(w, &settings);
    }
    if (draw(2) == 0)
        retain_many(w);
    for (unsigned step = 0; step < steps; step++) {
        w->reopen = draw(8) == 0;
        do_something(w);
    }
    everything_ends(w);
    world_teardown(&state);
}

static void any_sequence_keeps_replicas_equal_and_leaves_nothing_behind(void **state)
{
    (void)state;
    world_run_seeds(run, SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_sequence_keeps_replicas_equal_and_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
