/* Sessions with a place in many broadcast queues: what is read with a reading (readings.h) is what one gets who looks at all
 * queues for each message. The world's second replica is opened anew, and so begins to read anew, now and then; the states of
 * both have to be equal, with what was admitted to windows in them. */
#include "state_world.h"

#include <stdio.h>
#include <stdlib.h>

#define MEMBERS 10          /* of each filter, more than have queues of their own */
#define READERS 2           /* of them are connected and acknowledge; the others keep what is published in the queues */
#define FILTERS 12
#define SEEDS   4

static const char *const others[] = {"many/+", "many/#", "#"};

struct reading_test {
    struct world *w;
    uint64_t after[READERS]; /* the place that each has read last */
};

static const char *filter(uint64_t number)
{
    static char text[16];
    if (number >= FILTERS)
        return others[number - FILTERS];
    snprintf(text, sizeof text, "many/%u", (unsigned)number);
    return text;
}

static uint64_t any_filter(void)
{
    return draw(FILTERS + sizeof others / sizeof others[0]);
}

static void given_members(struct world *w)
{
    struct command_settings settings = *state_settings(w->states[0]);
    settings.queue_messages_max = 3 + draw(20);
    settings.in_flight_max = 1 + (uint32_t)draw(4);
    world_settings(w, &settings);
    for (unsigned i = 0; i < MEMBERS; i++) {
        world_connect(w, world_member(i), (struct connect_options){.expiry_s = NEVER});
        for (uint64_t f = 0; f < FILTERS; f++)
            world_subscribe(w, world_member(i), filter(f), (uint8_t)(1 + draw(2)));
        if (i >= READERS)
            world_end(w, world_member(i), END_CLEAN);
    }
    world_connect(w, "bob", (struct connect_options){.expiry_s = NEVER});
}

/* Both replicas find the same next delivery behind this place. */
static bool same_next(struct world *w, const char *name, uint64_t after, struct queued *queued)
{
    uint64_t session = world_client(w, name)->owner.session_id;
    struct queued other;
    enum status status = state_next_queued(w->states[0], session, after, w->effects[0], queued);
    assert_int_equal(state_next_queued(w->states[1], session, after, w->effects[1], &other), status);
    if (status != STATUS_OK)
        return false;
    assert_true(queued->target.order == other.target.order);
    assert_int_equal(queued->target.qos, other.target.qos);
    assert_int_equal(queued->target.subscription_id_count, other.target.subscription_id_count);
    assert_int_equal(queued->target.broadcast_count, other.target.broadcast_count);
    for (uint32_t i = 0; i < other.target.broadcast_count; i++)
        assert_true(queued->target.broadcast_filters[i] == other.target.broadcast_filters[i]);
    return true;
}

static void read_some(struct reading_test *test)
{
    uint64_t reader = draw(READERS), *after = &test->after[reader];
    struct queued queued;
    for (uint64_t count = draw(10); count > 0 && same_next(test->w, world_member((unsigned)reader), *after, &queued); count--)
        *after = queued.target.order;
    if (draw(10) == 0)
        *after = 0;
}

static void acknowledge_something(struct reading_test *test)
{
    unsigned reader = (unsigned)draw(READERS);
    struct queued queued;
    if (same_next(test->w, world_member(reader), draw(2) == 0 ? 0 : test->after[reader], &queued) &&
        queued.target.broadcast_count <= 8)
        world_complete(test->w, world_member(reader), &queued);
}

static void come_back(struct reading_test *test)
{
    unsigned number = (unsigned)draw(MEMBERS);
    world_connect(test->w, world_member(number), (struct connect_options){.expiry_s = NEVER, .receive_maximum = (uint16_t)draw(5)});
    if (number >= READERS)
        world_end(test->w, world_member(number), END_CLEAN);
    else
        test->after[number] = 0;
}

static void do_something(struct reading_test *test)
{
    struct world *w = test->w;
    unsigned reader = (unsigned)draw(READERS);
    switch (draw(10)) {
    case 0: come_back(test); return;
    case 1:
        world_subscribe_id(w, world_member(reader), filter(any_filter()), (uint8_t)(draw(3) | (draw(3) == 0 ? SUBSCRIPTION_NO_LOCAL : 0)),
                           1 + (uint32_t)draw(5));
        return;
    case 2: world_unsubscribe(w, world_member(reader), filter(any_filter())); return;
    case 3: acknowledge_something(test); return;
    case 4:
    case 5:
    case 6: read_some(test); return;
    default: {
        uint8_t qos = (uint8_t)(1 + draw(2));
        const char *publisher = draw(4) == 0 ? world_member(reader) : "bob";
        world_publish(w, publisher, filter(draw(FILTERS)), "x", (struct publish_options){.qos = qos, .packet_id = 7});
        if (qos == 2)
            world_pubrel(w, publisher, 7);
    }
    }
}

static void run(unsigned steps)
{
    void *state;
    world_setup(&state);
    struct reading_test test = {.w = state};
    given_members(test.w);
    for (unsigned step = 0; step < steps; step++) {
        test.w->reopen = draw(4) == 0;
        do_something(&test);
    }
    for (unsigned i = 0; i < MEMBERS; i++)
        world_connect(test.w, world_member(i), (struct connect_options){.clean_start = true});
    world_finish_work(test.w);
    assert_int_equal(world_counts(test.w).messages, 0);
    world_teardown(&state);
}

static void who_reads_on_gets_what_one_gets_who_begins_anew(void **state)
{
    (void)state;
    world_run_seeds(run, SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_reads_on_gets_what_one_gets_who_begins_anew),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
