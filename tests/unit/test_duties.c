/* test_duties.c — the leader's own commands, with a real proposer and a real state machine and nothing between them:
 * what the proposer hands out is applied at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cluster/duties.h"
#include "store.h"

#define SELF 1
#define START_MS 1000000

struct world {
    struct store *store;
    struct state *state;
    struct effects *effects;
    struct proposer *proposer;
    struct duties duties;
    struct consensus_status status;
    uint64_t now;
    unsigned proposed[64];     /* by command type */
    uint8_t nonces;            /* drawn so far */
};

/* Applies a batch as if the leader had stamped and all had committed it. */
static void apply(struct world *w, struct bytes batch)
{
    uint8_t *copy = memory_copy(batch.data, batch.size);
    uint64_t index = state_applied(w->state) + 1;
    const uint64_t *cookies;
    uint32_t count;
    batch_set_stamp(copy, w->status.cluster_ms);
    effects_clear(w->effects);
    assert_int_equal(state_apply(w->state, index, 1, bytes_of(copy, batch.size), w->effects), STATUS_OK);
    const struct effect *effect = effects_at(w->effects, 0);
    assert_int_equal(effect->type, EFFECT_BATCH);
    proposer_applied(w->proposer, index, bytes_of(copy, batch.size), effect, &cookies, &count);
    for (uint32_t i = 0; i < count; i++)
        duties_done(&w->duties, cookies[i]);
    w->status.applied = index;
    free(copy);
}

static void count_commands(struct world *w, struct bytes batch)
{
    struct batch_header header;
    struct bytes commands;
    struct command command;
    assert_int_equal(batch_decode(batch, &header, &commands), STATUS_OK);
    struct reader reader = reader_of(commands);
    while (command_decode(&reader, &command) == STATUS_OK)
        w->proposed[command.type]++;
}

/* What a turn of core does; `through`: what is proposed gets applied in it. */
static void turn(struct world *w, uint64_t ms, bool through)
{
    struct bytes batch;
    w->now += ms;
    w->status.cluster_ms += ms;
    duties_propose(&w->duties, &w->status, w->state, w->proposer, w->now);
    while (proposer_next(w->proposer, w->now, &batch)) {
        uint8_t *copy = memory_copy(batch.data, batch.size);
        size_t size = batch.size;
        count_commands(w, bytes_of(copy, size));
        if (through)
            apply(w, bytes_of(copy, size));
        free(copy);
    }
}

static void given_node_up(struct world *w, uint32_t node)
{
    struct buffer batch = {0};
    struct command up = {.type = COMMAND_NODE_UP, .node_up = {.node = node, .boot_nonce = {++w->nonces}}};
    batch_begin(&batch, node, 0, 0);
    command_encode(&up, &batch);
    batch_finish(&batch, 0, 1);
    apply(w, buffer_bytes(&batch));
    buffer_release(&batch);
}

static int setup(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);
    assert_int_equal(store_open(&(struct store_options){0}, &w->store), STATUS_OK);
    assert_int_equal(state_open(w->store, SELF, &w->state), STATUS_OK);
    w->effects = effects_new();
    w->proposer = proposer_new(&(struct proposer_settings){.node = SELF});
    w->now = 5000;
    w->status = (struct consensus_status){.role = CONSENSUS_LEADER, .leader = SELF, .majority = true, .term = 1,
                                          .cluster_ms = START_MS};
    duties_init(&w->duties, SELF, NULL);
    proposer_start(w->proposer, &(struct command_node_up){.node = SELF, .boot_nonce = {99}});
    proposer_route(w->proposer, SELF, 1, 1);
    turn(w, 0, true); /* NODE_UP */
    turn(w, 0, true); /* the first CHECKPOINT */
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    proposer_free(w->proposer);
    effects_free(w->effects);
    state_close(w->state);
    store_close(w->store);
    free(w);
    return 0;
}

static void a_checkpoint_is_proposed_every_second(void **state)
{
    struct world *w = *state;
    unsigned before = w->proposed[COMMAND_CHECKPOINT];
    for (int i = 0; i < 50; i++)
        turn(w, 100, true);
    assert_int_equal(w->proposed[COMMAND_CHECKPOINT] - before, 5);
    assert_int_equal(duties_deadline(&w->duties, &w->status, w->state, w->proposer, w->now), w->now + 1000);
}

static void a_node_that_is_silent_is_declared_down_once(void **state)
{
    struct world *w = *state;
    bool up = false;
    given_node_up(w, 2);
    assert_true(state_node_epoch(w->state, 2, &up) != 0 && up);
    w->status.silent = 1u << 2 | 1u << 3; /* 3 has never been up */
    turn(w, 10, false);
    turn(w, 10, false); /* still on its way */
    assert_int_equal(w->proposed[COMMAND_NODE_DOWN], 1);

    proposer_route(w->proposer, SELF, 2, 2);
    turn(w, 10, true);
    state_node_epoch(w->state, 2, &up);
    assert_false(up);
    unsigned sent = w->proposed[COMMAND_NODE_DOWN];
    turn(w, 10, true);
    assert_int_equal(w->proposed[COMMAND_NODE_DOWN], sent);

    given_node_up(w, 2); /* another life, another silence */
    turn(w, 10, true);
    assert_int_equal(w->proposed[COMMAND_NODE_DOWN], sent + 1);
}

static void who_does_not_lead_or_hears_no_majority_proposes_nothing(void **state)
{
    struct world *w = *state;
    unsigned before = w->proposed[COMMAND_CHECKPOINT];
    given_node_up(w, 2);
    w->status.silent = 1u << 2;
    w->status.role = CONSENSUS_FOLLOWER;
    turn(w, 5000, true);
    w->status.role = CONSENSUS_LEADER;
    w->status.majority = false;
    turn(w, 5000, true);
    assert_int_equal(w->proposed[COMMAND_NODE_DOWN], 0);
    assert_int_equal(w->proposed[COMMAND_CHECKPOINT], before);
    assert_true(duties_deadline(&w->duties, &w->status, w->state, w->proposer, w->now) == UINT64_MAX);
}

/* A core that asked for a turn at once would get one after the other, all for nothing. */
static void who_is_not_known_to_be_up_asks_for_no_turn(void **state)
{
    struct world *w = *state;
    turn(w, 5000, false); /* a checkpoint is due, and on its way */
    proposer_reset(w->proposer);
    duties_reset(&w->duties);
    w->now += 5000;
    assert_int_equal(proposer_epoch(w->proposer), 0);
    assert_true(duties_deadline(&w->duties, &w->status, w->state, w->proposer, w->now) == UINT64_MAX);
}

static void limits_that_differ_from_the_configuration_are_proposed_until_they_agree(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->state);
    settings.subscriptions_max = 77;
    duties_init(&w->duties, SELF, &settings);
    turn(w, 10, true);
    assert_int_equal(w->proposed[COMMAND_SETTINGS], 1);
    assert_int_equal(state_settings(w->state)->subscriptions_max, 77);
    turn(w, 10, true);
    assert_int_equal(w->proposed[COMMAND_SETTINGS], 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_checkpoint_is_proposed_every_second),
        TEST(a_node_that_is_silent_is_declared_down_once),
        TEST(who_is_not_known_to_be_up_asks_for_no_turn),
        TEST(who_does_not_lead_or_hears_no_majority_proposes_nothing),
        TEST(limits_that_differ_from_the_configuration_are_proposed_until_they_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
