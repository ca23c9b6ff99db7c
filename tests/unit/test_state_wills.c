/* Wills: exactly once if a connection dies, never after a clean DISCONNECT or a resumption in time. */
#include "state_world.h"

#define WILL(...) ((struct connect_options){.expiry_s = NEVER, .will_topic = "w", .will_qos = 1, __VA_ARGS__})

static void given_a_watcher(struct world *w)
{
    world_connect(w, "watcher", (struct connect_options){.expiry_s = NEVER});
    world_subscribe(w, "watcher", "w", 1);
}

static void then_wills_seen(struct world *w, const char *queue)
{
    assert_string_equal(world_queue(w, "watcher"), queue);
}

static void a_will_is_published_when_the_connection_breaks(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(0));
    assert_int_equal(world_counts(w).wills_pending, 1);
    world_end(w, "alice", END_WITH_WILL);
    then_wills_seen(w, "will@1");
    assert_int_equal(world_counts(w).wills_pending, 0);
}

static void a_clean_disconnect_forgets_it(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(0));
    world_end(w, "alice", END_CLEAN);
    then_wills_seen(w, "");
    assert_int_equal(world_counts(w).wills_pending, 0);
    assert_int_equal(world_counts(w).messages, 0);
}

static void a_delayed_will_waits_for_its_time(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.will_delay_s = 10));
    world_end(w, "alice", END_WITH_WILL);
    world_tick(w, 9999);
    then_wills_seen(w, "");
    world_tick(w, 1);
    then_wills_seen(w, "will@1");
    world_tick(w, 100000);
    then_wills_seen(w, "will@1");
}

static void a_resumption_in_time_forgets_a_delayed_will(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.will_delay_s = 10));
    world_end(w, "alice", END_WITH_WILL);
    world_tick(w, 5000);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER});
    world_tick(w, 100000);
    then_wills_seen(w, "");
    assert_int_equal(world_counts(w).wills_pending, 0);
}

static void a_resumption_too_late_for_the_tick_finds_the_will_published(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.will_delay_s = 10));
    world_end(w, "alice", END_WITH_WILL);
    w->clock_ms += 10000;
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER});
    then_wills_seen(w, "will@1");
}

static void the_end_of_the_session_publishes_it_before_its_delay(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", (struct connect_options){.expiry_s = 5, .will_topic = "w", .will_qos = 1,
                                                       .will_delay_s = 100});
    world_end(w, "alice", END_WITH_WILL);
    world_tick(w, 5000);
    then_wills_seen(w, "will@1");
}

static void a_clean_start_publishes_a_delayed_will_at_once(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.will_delay_s = 100));
    world_end(w, "alice", END_WITH_WILL);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .clean_start = true});
    then_wills_seen(w, "will@1");
}

static void end_old(struct world *w, struct world_client old, enum end_cause cause)
{
    struct command end = {.type = COMMAND_END, .end = {.owner = old.owner, .cause = cause}};
    world_apply_one(w, old.node, &end);
}

static void a_take_over_leaves_the_will_to_the_end_of_the_old_connection(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(0));
    struct world_client old = *world_client(w, "alice");
    world_connect(w, "alice", WILL(.node = 2));
    then_wills_seen(w, "");
    assert_int_equal(world_counts(w).wills_pending, 2);
    end_old(w, old, END_WITH_WILL);
    then_wills_seen(w, "will@1");
    end_old(w, old, END_WITH_WILL);
    then_wills_seen(w, "will@1");
}

static void a_client_that_said_goodbye_before_it_moved_has_no_will(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(0));
    struct world_client old = *world_client(w, "alice");
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2, .clean_start = true});
    end_old(w, old, END_CLEAN);
    then_wills_seen(w, "");
    assert_int_equal(world_counts(w).wills_pending, 0);
}

static void a_take_over_within_the_delay_is_a_resumption(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.will_delay_s = 10));
    struct world_client old = *world_client(w, "alice");
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2});
    end_old(w, old, END_WITH_WILL);
    world_tick(w, 100000);
    then_wills_seen(w, "");
}

static void a_take_over_with_clean_start_publishes_it_although_it_has_a_delay(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.will_delay_s = 10));
    struct world_client old = *world_client(w, "alice");
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .node = 2, .clean_start = true});
    end_old(w, old, END_WITH_WILL);
    then_wills_seen(w, "will@1");
}

static void the_end_of_a_node_publishes_the_wills_of_its_connections_once(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.node = 2));
    world_connect(w, "moved", WILL(.node = 2));
    world_connect(w, "moved", (struct connect_options){.expiry_s = NEVER, .node = 1});
    world_node_down(w, 2);
    then_wills_seen(w, "will@1 will@1");
    world_node_up(w, 2);
    then_wills_seen(w, "will@1 will@1");
    assert_int_equal(world_counts(w).wills_pending, 0);
}

static void a_node_that_starts_again_has_lost_its_connections(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", WILL(.node = 2));
    world_node_up(w, 2);
    then_wills_seen(w, "will@1");
    assert_int_equal(world_counts(w).connected, 1);
}

static void a_retained_will_sets_the_register(void **state)
{
    struct world *w = *state;
    world_connect(w, "alice", WILL(.will_retain = true));
    world_end(w, "alice", END_WITH_WILL);
    given_a_watcher(w);
    then_wills_seen(w, "will@1!");
}

static void a_will_with_qos_0_goes_to_those_who_are_there(void **state)
{
    struct world *w = *state;
    given_a_watcher(w);
    world_connect(w, "alice", (struct connect_options){.expiry_s = NEVER, .will_topic = "w"});
    world_end(w, "alice", END_WITH_WILL);
    assert_string_equal(world_targets(w, 1), "watcher:will@0?");
    then_wills_seen(w, "");
}

#define SPEC(name) cmocka_unit_test_setup_teardown(name, world_setup, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SPEC(a_will_is_published_when_the_connection_breaks),
        SPEC(a_clean_disconnect_forgets_it),
        SPEC(a_delayed_will_waits_for_its_time),
        SPEC(a_resumption_in_time_forgets_a_delayed_will),
        SPEC(a_resumption_too_late_for_the_tick_finds_the_will_published),
        SPEC(the_end_of_the_session_publishes_it_before_its_delay),
        SPEC(a_clean_start_publishes_a_delayed_will_at_once),
        SPEC(a_take_over_leaves_the_will_to_the_end_of_the_old_connection),
        SPEC(a_client_that_said_goodbye_before_it_moved_has_no_will),
        SPEC(a_take_over_within_the_delay_is_a_resumption),
        SPEC(a_take_over_with_clean_start_publishes_it_although_it_has_a_delay),
        SPEC(the_end_of_a_node_publishes_the_wills_of_its_connections_once),
        SPEC(a_node_that_starts_again_has_lost_its_connections),
        SPEC(a_retained_will_sets_the_register),
        SPEC(a_will_with_qos_0_goes_to_those_who_are_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
