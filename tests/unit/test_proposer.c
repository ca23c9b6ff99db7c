/* test_proposer.c — commands become numbered batches, are sent again when they may be lost, and come back as cookies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cluster/proposer.h"

#define NODE 2
#define UP_INDEX 10

struct world {
    struct proposer *proposer;
    const uint64_t *cookies;
    uint32_t count;
};

static const struct command_node_up up = {.node = NODE, .boot_nonce = {1, 2, 3}};

static void add(struct world *w, uint64_t cookie)
{
    proposer_add(w->proposer, &(struct command){.type = COMMAND_CHECKPOINT}, cookie);
}

static void add_payload(struct world *w, uint64_t cookie, size_t size)
{
    static uint8_t payload[4096];
    struct command command = {.type = COMMAND_PUBLISH,
                              .publish = {.message = {.topic = bytes_text("t"), .payload = {payload, size}}}};
    proposer_add(w->proposer, &command, cookie);
}

/* Number of the next batch handed out; -1: none. */
static int next(struct world *w, uint64_t now_ms)
{
    struct bytes batch, commands;
    struct batch_header header;
    if (!proposer_next(w->proposer, now_ms, &batch))
        return -1;
    assert_int_equal(batch_decode(batch, &header, &commands), STATUS_OK);
    assert_int_equal(header.origin_node, NODE);
    assert_int_equal(header.origin_epoch, header.number == 0 ? 0 : POSITION(UP_INDEX, 0));
    return (int)header.number;
}

static enum proposer_event applied(struct world *w, uint64_t number, enum batch_verdict verdict, uint64_t expected)
{
    struct effect effect = {.type = EFFECT_BATCH,
                            .batch = {.origin_node = NODE,
                                      .origin_epoch = POSITION(UP_INDEX, 0),
                                      .number = number,
                                      .expected = expected,
                                      .verdict = verdict}};
    return proposer_applied(w->proposer, 20 + number, bytes_of(NULL, 0), &effect, &w->cookies, &w->count);
}

static enum proposer_event applied_up(struct world *w, const struct command_node_up *whose)
{
    struct buffer batch = {0};
    struct command command = {.type = COMMAND_NODE_UP, .node_up = *whose};
    struct effect effect = {.type = EFFECT_BATCH, .batch = {.origin_node = NODE, .verdict = BATCH_APPLIED}};
    batch_begin(&batch, NODE, 0, 0);
    command_encode(&command, &batch);
    batch_finish(&batch, 0, 1);
    batch_set_stamp(batch.data, 12345); /* the leader's */
    enum proposer_event event =
        proposer_applied(w->proposer, UP_INDEX, buffer_bytes(&batch), &effect, &w->cookies, &w->count);
    buffer_release(&batch);
    return event;
}

static int setup(void **state)
{
    static struct world world;
    struct proposer_settings settings = {
        .node = NODE, .in_flight_max = 2, .bytes_max = 4000, .commands_max = 50, .batch_bytes_max = 1000};
    world = (struct world){.proposer = proposer_new(&settings)};
    *state = &world;
    return 0;
}

static int setup_started(void **state)
{
    setup(state);
    struct world *w = *state;
    proposer_start(w->proposer, &up);
    proposer_route(w->proposer, 1, 5, 1);
    assert_int_equal(next(w, 0), 0);
    assert_int_equal(applied_up(w, &up), PROPOSER_STARTED);
    return 0;
}

static int teardown(void **state)
{
    proposer_free(((struct world *)*state)->proposer);
    return 0;
}

static void nothing_goes_out_before_node_up_but_node_up_itself(void **state)
{
    struct world *w = *state;
    add(w, 1);
    assert_int_equal(next(w, 0), -1); /* not started */
    proposer_start(w->proposer, &up);
    assert_int_equal(next(w, 0), -1); /* no leader known */
    proposer_route(w->proposer, 1, 5, 1);
    assert_int_equal(next(w, 0), 0);
    assert_int_equal(next(w, 0), -1);
    assert_int_equal(proposer_epoch(w->proposer), 0);
    assert_int_equal(applied_up(w, &up), PROPOSER_STARTED);
    assert_int_equal(proposer_epoch(w->proposer), POSITION(UP_INDEX, 0));
    assert_int_equal(next(w, 0), 1);
}

static void node_up_of_an_earlier_life_is_not_taken_for_ours(void **state)
{
    struct world *w = *state;
    struct command_node_up old = {.node = NODE, .boot_nonce = {9}};
    proposer_start(w->proposer, &up);
    proposer_route(w->proposer, 1, 5, 1);
    assert_int_equal(next(w, 0), 0);
    assert_int_equal(applied_up(w, &old), PROPOSER_OTHER);
    assert_int_equal(proposer_epoch(w->proposer), 0);
}

static void what_is_added_while_batches_are_on_their_way_goes_with_the_next_one(void **state)
{
    struct world *w = *state;
    add(w, 11);
    assert_int_equal(next(w, 0), 1);
    add(w, 12);
    assert_int_equal(next(w, 0), 2);
    add(w, 13);
    add(w, 14);
    assert_int_equal(next(w, 0), -1); /* two are in flight */
    assert_int_equal(applied(w, 1, BATCH_APPLIED, 0), PROPOSER_DONE);
    assert_int_equal(w->count, 1);
    assert_int_equal(w->cookies[0], 11);
    assert_int_equal(next(w, 0), 3);
    assert_int_equal(applied(w, 2, BATCH_APPLIED, 0), PROPOSER_DONE);
    assert_int_equal(applied(w, 3, BATCH_APPLIED, 0), PROPOSER_DONE);
    assert_int_equal(w->count, 2);
    assert_int_equal(w->cookies[0], 13);
    assert_int_equal(w->cookies[1], 14);
    assert_int_equal(proposer_pending_commands(w->proposer), 0);
    assert_int_equal(proposer_pending_bytes(w->proposer), 0);
}

static void a_batch_is_sealed_before_it_grows_beyond_its_limit(void **state)
{
    struct world *w = *state;
    struct bytes batch;
    for (uint64_t cookie = 1; cookie <= 4; cookie++)
        add_payload(w, cookie, 400);
    assert_true(proposer_next(w->proposer, 0, &batch));
    assert_in_range(batch.size, 800, 1000);
    add_payload(w, 5, 3000); /* larger than a batch: goes alone */
    assert_true(proposer_next(w->proposer, 0, &batch));
    assert_in_range(batch.size, 800, 1000);
    applied(w, 1, BATCH_APPLIED, 0);
    assert_int_equal(w->count, 2);
    applied(w, 2, BATCH_APPLIED, 0);
    assert_true(proposer_next(w->proposer, 0, &batch));
    assert_true(batch.size > 3000);
    applied(w, 3, BATCH_APPLIED, 0);
    assert_int_equal(w->count, 1);
    assert_int_equal(w->cookies[0], 5);
}

static void a_new_leader_gets_everything_in_flight_again_in_order(void **state)
{
    struct world *w = *state;
    add(w, 1);
    assert_int_equal(next(w, 0), 1);
    add(w, 2);
    assert_int_equal(next(w, 0), 2);
    proposer_route(w->proposer, 0, 6, 1); /* nobody leads */
    assert_int_equal(next(w, 0), -1);
    proposer_route(w->proposer, 3, 6, 2);
    assert_int_equal(next(w, 0), 1);
    assert_int_equal(next(w, 0), 2);
    assert_int_equal(next(w, 0), -1);
    proposer_route(w->proposer, 3, 6, 3); /* the connection to it is new */
    assert_int_equal(next(w, 0), 1);
    proposer_route(w->proposer, 3, 6, 3); /* no news */
    assert_int_equal(next(w, 0), 2);
    assert_int_equal(next(w, 0), -1);
}

static void a_gap_is_filled_from_where_it_begins(void **state)
{
    struct world *w = *state;
    add(w, 1);
    assert_int_equal(next(w, 0), 1);
    add(w, 2);
    assert_int_equal(next(w, 0), 2);
    assert_int_equal(applied(w, 2, BATCH_GAP, 1), PROPOSER_OTHER);
    assert_int_equal(next(w, 0), 1);
    assert_int_equal(next(w, 0), 2);
    assert_int_equal(applied(w, 3, BATCH_GAP, 1), PROPOSER_OTHER); /* the same gap, seen by the one behind */
    assert_int_equal(next(w, 0), -1);
}

static void a_second_copy_is_no_second_answer(void **state)
{
    struct world *w = *state;
    add(w, 1);
    assert_int_equal(next(w, 0), 1);
    assert_int_equal(applied(w, 1, BATCH_APPLIED, 0), PROPOSER_DONE);
    assert_int_equal(applied(w, 1, BATCH_SEEN, 0), PROPOSER_OTHER);
    assert_int_equal(w->count, 0);
}

static void an_answer_that_comes_before_a_resend_takes_the_batch_off(void **state)
{
    struct world *w = *state;
    add(w, 1);
    assert_int_equal(next(w, 0), 1);
    add(w, 2);
    assert_int_equal(next(w, 0), 2);
    proposer_route(w->proposer, 3, 6, 2);
    assert_int_equal(applied(w, 1, BATCH_APPLIED, 0), PROPOSER_DONE); /* the old leader had committed it */
    assert_int_equal(next(w, 0), 2);
    assert_int_equal(next(w, 0), -1);
}

static void after_a_long_silence_everything_is_sent_again_ever_less_often(void **state)
{
    struct world *w = *state;
    add(w, 1);
    assert_int_equal(next(w, 1000), 1);
    assert_int_equal(proposer_deadline(w->proposer), 4000);
    assert_int_equal(next(w, 3999), -1);
    assert_int_equal(next(w, 4000), 1);
    assert_int_equal(proposer_deadline(w->proposer), 10000);
    assert_int_equal(next(w, 9999), -1);
    assert_int_equal(next(w, 10000), 1);
}

static void it_is_full_by_bytes_and_by_commands(void **state)
{
    struct world *w = *state;
    for (uint64_t i = 0; i < 49; i++)
        add(w, i);
    assert_false(proposer_full(w->proposer));
    add(w, 49);
    assert_true(proposer_full(w->proposer));
    while (next(w, 0) > 0)
        ;
    applied(w, 1, BATCH_APPLIED, 0);
    assert_false(proposer_full(w->proposer));
    add_payload(w, 1, 4000);
    assert_true(proposer_full(w->proposer));
}

static void a_stale_verdict_ends_this_life_and_a_reset_begins_another(void **state)
{
    struct world *w = *state;
    struct command_node_up again = {.node = NODE, .boot_nonce = {7}};
    add(w, 1);
    assert_int_equal(next(w, 0), 1);
    assert_int_equal(applied(w, 1, BATCH_STALE, 0), PROPOSER_FENCED);
    proposer_reset(w->proposer);
    assert_int_equal(proposer_pending_commands(w->proposer), 0);
    proposer_start(w->proposer, &again);
    assert_int_equal(next(w, 0), 0);
    assert_int_equal(applied_up(w, &up), PROPOSER_OTHER);
    assert_int_equal(applied(w, 1, BATCH_APPLIED, 0), PROPOSER_OTHER); /* of the old life */
    assert_int_equal(applied_up(w, &again), PROPOSER_STARTED);
}

static void batches_of_other_nodes_are_not_ours(void **state)
{
    struct world *w = *state;
    struct effect effect = {.type = EFFECT_BATCH,
                            .batch = {.origin_node = 1, .origin_epoch = POSITION(UP_INDEX, 0), .number = 1}};
    add(w, 1);
    assert_int_equal(next(w, 0), 1);
    assert_int_equal(proposer_applied(w->proposer, 20, bytes_of(NULL, 0), &effect, &w->cookies, &w->count),
                     PROPOSER_OTHER);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_started, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_goes_out_before_node_up_but_node_up_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(node_up_of_an_earlier_life_is_not_taken_for_ours, setup, teardown),
        TEST(what_is_added_while_batches_are_on_their_way_goes_with_the_next_one),
        TEST(a_batch_is_sealed_before_it_grows_beyond_its_limit),
        TEST(a_new_leader_gets_everything_in_flight_again_in_order),
        TEST(a_gap_is_filled_from_where_it_begins),
        TEST(a_second_copy_is_no_second_answer),
        TEST(an_answer_that_comes_before_a_resend_takes_the_batch_off),
        TEST(after_a_long_silence_everything_is_sent_again_ever_less_often),
        TEST(it_is_full_by_bytes_and_by_commands),
        TEST(a_stale_verdict_ends_this_life_and_a_reset_begins_another),
        TEST(batches_of_other_nodes_are_not_ours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
