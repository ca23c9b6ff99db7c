/* Sessions, ownership, exactly-once batches, lives of nodes. */
#include "state_world.h"

#include <string.h>

static void the_first_connect_finds_no_session_and_the_next_does(void **state)
{
    struct world *w = *state;
    assert_int_equal(world_connect(w, "alice", (struct connect_options){.expiry_s = 60}), OUTCOME_DONE);
    assert_false(world_client(w, "alice")->session_present);
    world_end(w, "alice", END_CLEAN);
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60, .node = 2});
    assert_true(world_client(w, "alice")->session_present);
}

static void a_session_with_expiry_0_ends_with_its_connection(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 0});
    world_subscribe(w, "alice", "a", 1);
    world_end(w, "alice", END_WITH_WILL);
    assert_int_equal(world_counts(w).sessions, 0);
    assert_int_equal(world_counts(w).subscriptions, 0);
    assert_int_equal(world_counts(w).filters, 0);
    world_connect(w, "alice", (struct connect_options){0});
    assert_false(world_client(w, "alice")->session_present);
}

static void a_session_expires_by_cluster_time(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 10});
    world_end(w, "alice", END_CLEAN);
    world_tick(w, 9999);
    assert_int_equal(world_counts(w).sessions, 1);
    world_tick(w, 1);
    assert_int_equal(world_counts(w).sessions, 0);
    assert_int_equal(state_due_ms(w->states[0]), UINT64_MAX);
}

static void a_session_that_has_expired_before_the_tick_came_is_gone(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 10});
    world_end(w, "alice", END_CLEAN);
    w->clock_ms += 10000;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 10});
    assert_false(world_client(w, "alice")->session_present);
}

static void a_session_that_never_expires_waits(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER});
    world_end(w, "alice", END_CLEAN);
    assert_int_equal(state_due_ms(w->states[0]), UINT64_MAX);
    world_tick(w, UINT64_C(1) << 40);
    assert_int_equal(world_counts(w).sessions, 1);
}

static void resuming_stops_the_expiry(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 10});
    world_end(w, "alice", END_CLEAN);
    world_connect(w, "alice", (struct connect_options){.expiry_s = 10});
    world_tick(w, 60000);
    assert_int_equal(world_counts(w).sessions, 1);
}

static void disconnect_may_change_the_expiry(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 100});
    struct command end = {.type = COMMAND_END,
                          .end = {.owner = world_client(w, "alice")->owner, .has_session_expiry = true}};
    world_apply_one(w, 1, &end);
    assert_int_equal(world_counts(w).sessions, 0);
}

static void clean_start_ends_the_old_session_and_makes_a_new_one(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60});
    world_subscribe(w, "alice", "a", 1);
    uint64_t old = world_client(w, "alice")->owner.session_id;
    world_end(w, "alice", END_CLEAN);
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60, .clean_start = true});
    assert_false(world_client(w, "alice")->session_present);
    assert_true(world_client(w, "alice")->owner.session_id != old);
    assert_int_equal(world_counts(w).subscriptions, 0);
}

static void a_take_over_fences_the_old_connection_at_its_node(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60, .node = 1});
    struct world_client old = *world_client(w, "alice");
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60, .node = 2});
    assert_true(world_client(w, "alice")->session_present);
    const struct effect *taken = world_effect(w, 1, EFFECT_TAKEN_OVER, 0);
    assert_non_null(taken);
    assert_int_equal(taken->connection, old.connection);
    assert_null(world_effect(w, 2, EFFECT_TAKEN_OVER, 0));

    struct command publish = {.type = COMMAND_PUBLISH,
                              .publish = {.owner = old.owner,
                                          .message_expiry_s = UINT32_MAX,
                                          .message = {.topic = bytes_text("t"), .qos = 1}}};
    world_apply_one(w, 1, &publish);
    assert_int_equal(world_effect(w, 1, EFFECT_PUBLISHED, 0)->outcome, OUTCOME_FENCED);
    struct command end = {.type = COMMAND_END, .end = {.owner = old.owner, .cause = END_WITH_WILL}};
    world_apply_one(w, 1, &end);
    assert_int_equal(world_effect(w, 1, EFFECT_ENDED, 0)->outcome, OUTCOME_FENCED);
    assert_int_equal(world_counts(w).connected, 1);
}

static void a_take_over_of_a_session_with_expiry_0_starts_a_new_one(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 0});
    world_connect(w, "alice", (struct connect_options){.expiry_s = 0, .node = 2});
    assert_false(world_client(w, "alice")->session_present);
    assert_non_null(world_effect(w, 1, EFFECT_TAKEN_OVER, 0));
    assert_int_equal(world_counts(w).sessions, 1);
}

static void the_limit_of_sessions_refuses_only_new_ones(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.sessions_max = 1;
    world_settings(w, &settings);
    assert_int_equal(world_connect(w, "alice", (struct connect_options){.expiry_s = 60}), OUTCOME_DONE);
    assert_int_equal(world_connect(w, "bob", (struct connect_options){.expiry_s = 60}), OUTCOME_QUOTA);
    assert_int_equal(world_connect(w, "alice", (struct connect_options){.expiry_s = 60}), OUTCOME_DONE);
}

static void the_granted_expiry_is_bounded_by_the_setting(void **state)
{
    struct world *w = *state;
    struct command_settings settings = *state_settings(w->states[0]);
    settings.session_expiry_max_s = 30;
    world_settings(w, &settings);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER});
    assert_int_equal(world_effect(w, 1, EFFECT_CONNECTED, 0)->connected.session_expiry_s, 30);
}

/* ---- batches ---- */

static void a_batch_that_comes_twice_is_applied_once(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60});
    world_subscribe(w, "alice", "t", 1);
    world_publish(w, "alice", "t", "one", (struct publish_options){.qos = 1});
    world_apply_entry(w, buffer_bytes(&w->batch));
    const struct effect *batch = world_effect(w, 1, EFFECT_BATCH, 0);
    assert_int_equal(batch->batch.verdict, BATCH_SEEN);
    assert_int_equal(effects_count(w->effects[0]), 1);
    assert_string_equal(world_queue(w, "alice"), "one@1");
}

static void a_gap_is_refused_and_says_what_is_expected(void **state)
{
    struct world *w = *state;
    w->numbers[1] += 2;
    struct command tick = {.type = COMMAND_TICK};
    world_apply_one(w, 1, &tick);
    const struct effect *batch = world_effect(w, 1, EFFECT_BATCH, 0);
    assert_int_equal(batch->batch.verdict, BATCH_GAP);
    assert_int_equal(batch->batch.expected, 1);
}

static void a_batch_of_an_earlier_life_is_stale(void **state)
{
    struct world *w = *state;
    uint64_t old = w->epochs[1];
    world_node_up(w, 1);
    uint64_t now = w->epochs[1];
    assert_true(now > old);
    w->epochs[1] = old;
    struct command tick = {.type = COMMAND_TICK};
    world_apply_one(w, 1, &tick);
    assert_int_equal(world_effect(w, 1, EFFECT_BATCH, 0)->batch.verdict, BATCH_STALE);
}

static void the_same_nonce_again_is_ignored(void **state)
{
    struct world *w = *state;
    uint64_t epoch = w->epochs[2];
    w->nonce--;
    world_node_up(w, 2);
    assert_int_equal(world_effect(w, 1, EFFECT_BATCH, 0)->batch.verdict, BATCH_SEEN);
    assert_int_equal(w->epochs[2], epoch);
}

static void a_node_that_is_down_is_heard_again_after_a_new_node_up(void **state)
{
    struct world *w = *state;
    world_node_down(w, 2);
    struct command tick = {.type = COMMAND_TICK};
    world_apply_one(w, 2, &tick);
    assert_int_equal(world_effect(w, 1, EFFECT_BATCH, 0)->batch.verdict, BATCH_STALE);
    world_node_up(w, 2);
    world_apply_one(w, 2, &tick);
    assert_int_equal(world_effect(w, 1, EFFECT_BATCH, 0)->batch.verdict, BATCH_APPLIED);
}

static void node_down_for_another_life_changes_nothing(void **state)
{
    struct world *w = *state;
    struct command down = {.type = COMMAND_NODE_DOWN, .node_down = {2, w->epochs[2] - 1}};
    world_apply_one(w, 1, &down);
    bool up;
    state_node_epoch(w->states[0], 2, &up);
    assert_true(up);
}

static void the_end_of_a_node_disconnects_its_sessions_and_ends_those_with_expiry_0(void **state)
{
    struct world *w = *state;
    world_connect(w, "kept", (struct connect_options){.expiry_s = 60, .node = 2});
    world_connect(w, "gone", (struct connect_options){.expiry_s = 0, .node = 2});
    world_connect(w, "other", (struct connect_options){.expiry_s = 0, .node = 1});
    world_node_down(w, 2);
    assert_false(state_work_pending(w->states[0]));
    assert_int_equal(world_counts(w).sessions, 2);
    assert_int_equal(world_counts(w).connected, 1);
    assert_int_equal(state_due_ms(w->states[0]), w->clock_ms + 60000);
}

static void a_client_that_moved_before_its_node_was_declared_down_stays(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60, .node = 2});
    world_connect(w, "alice", (struct connect_options){.expiry_s = 60, .node = 1});
    world_node_down(w, 2);
    assert_int_equal(world_counts(w).connected, 1);
}

static void what_cannot_be_decoded_advances_the_index_and_is_counted(void **state)
{
    struct world *w = *state;
    world_apply_entry(w, bytes_text("no batch at all"));
    assert_int_equal(world_counts(w).undecodable, 1);
    assert_int_equal(effects_count(w->effects[0]), 0);
    world_begin(w, 1);
    buffer_put_u8(&w->batch, 250); /* a command of a later version */
    buffer_put_block(&w->batch, bytes_text("body"));
    w->batch_count++;
    struct command tick = {.type = COMMAND_TICK};
    world_add(w, &tick);
    world_apply(w);
    assert_int_equal(world_counts(w).undecodable, 2);
    assert_int_equal(world_effect(w, 1, EFFECT_BATCH, 0)->batch.verdict, BATCH_APPLIED);
}

static void time_never_goes_back(void **state)
{
    struct world *w = *state;
    world_tick(w, 5000);
    uint64_t clock_ms = state_clock_ms(w->states[0]);
    w->clock_ms -= 3000;
    world_connect(w, "alice", (struct connect_options){0});
    assert_int_equal(state_clock_ms(w->states[0]), clock_ms);
}

static void a_checkpoint_says_the_hash_as_of_its_entry(void **state)
{
    struct world *w = *state;
    uint64_t hash[2];
    world_begin(w, 1);
    world_add(w, &(struct command){.type = COMMAND_CHECKPOINT});
    world_add(w, &(struct command){.type = COMMAND_TICK});
    world_apply(w);
    const struct effect *checkpoint = world_effect(w, 1, EFFECT_CHECKPOINT, 0);
    assert_non_null(checkpoint);
    assert_int_equal(checkpoint->checkpoint.index, w->index);
    state_hash(w->states[0], hash);
    assert_memory_equal(checkpoint->checkpoint.hash, hash, sizeof hash);
}

#define SPEC(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPEC(the_first_connect_finds_no_session_and_the_next_does),
        SPEC(a_session_with_expiry_0_ends_with_its_connection),
        SPEC(a_session_expires_by_cluster_time),
        SPEC(a_session_that_has_expired_before_the_tick_came_is_gone),
        SPEC(a_session_that_never_expires_waits),
        SPEC(resuming_stops_the_expiry),
        SPEC(disconnect_may_change_the_expiry),
        SPEC(clean_start_ends_the_old_session_and_makes_a_new_one),
        SPEC(a_take_over_fences_the_old_connection_at_its_node),
        SPEC(a_take_over_of_a_session_with_expiry_0_starts_a_new_one),
        SPEC(the_limit_of_sessions_refuses_only_new_ones),
        SPEC(the_granted_expiry_is_bounded_by_the_setting),
        SPEC(a_batch_that_comes_twice_is_applied_once),
        SPEC(a_gap_is_refused_and_says_what_is_expected),
        SPEC(a_batch_of_an_earlier_life_is_stale),
        SPEC(the_same_nonce_again_is_ignored),
        SPEC(a_node_that_is_down_is_heard_again_after_a_new_node_up),
        SPEC(node_down_for_another_life_changes_nothing),
        SPEC(the_end_of_a_node_disconnects_its_sessions_and_ends_those_with_expiry_0),
        SPEC(a_client_that_moved_before_its_node_was_declared_down_stays),
        SPEC(what_cannot_be_decoded_advances_the_index_and_is_counted),
        SPEC(time_never_goes_back),
        SPEC(a_checkpoint_says_the_hash_as_of_its_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
