/* test_consensus_trimming.c — how much of the log stays on the disk: no more than log_bytes_max, nearly, and enough for
 * who is a little behind. See consensus_world.h. */
#include "consensus_world.h"

#define LOG_BYTES_MAX (1024 * 1024)
#define SLACK_BYTES (2 * SEGMENT_BYTES)   /* the segment at the front, of which a part is needed, and the unused rest of the last */
#define LARGE 20000

static uint64_t log_size(const struct node *node)
{
    struct log_counts counts;
    log_counts(node->log, &counts);
    return counts.disk_bytes;
}

static void take_the_snapshots_that_are_wanted(struct world *world)
{
    for (uint32_t id = 1; id < NODES; id++)
        if (world->nodes[id].running && consensus_wants_snapshot(world->nodes[id].consensus))
            take_snapshot(world, id);
}

static void publish(struct world *world, unsigned count, size_t size)
{
    for (unsigned i = 0; i < count; i++) {
        submit_size(world, leader_of(world), size);
        run_ms(world, 20);
    }
}

static void the_log_keeps_its_limit_however_large_the_messages_are(void **state)
{
    struct world *world = *state;
    set_log_bytes_max(world, LOG_BYTES_MAX);
    for (int i = 0; i < 300; i++) {
        publish(world, 1, LARGE);
        take_the_snapshots_that_are_wanted(world);
        for (uint32_t id = 1; id < NODES; id++)
            assert_true(log_size(&world->nodes[id]) <= LOG_BYTES_MAX + SLACK_BYTES);
    }
    for (uint32_t id = 1; id < NODES; id++)
        assert_true(log_size(&world->nodes[id]) >= LOG_BYTES_MAX / 2); /* for those who are behind */
    then_all_agree_up_to(world, last_applied(world));
}

static void what_came_while_a_snapshot_was_written_goes_with_one_more(void **state)
{
    struct world *world = *state;
    set_log_bytes_max(world, LOG_BYTES_MAX);
    struct node *node = &world->nodes[1];
    publish(world, 150, LARGE);
    take_the_snapshots_that_are_wanted(world);
    assert_true(log_size(node) > 2 * LOG_BYTES_MAX); /* should this snapshot be lost, there is nothing else */
    publish(world, 1, 100);
    take_the_snapshots_that_are_wanted(world);
    assert_true(log_size(node) < LOG_BYTES_MAX);
    publish(world, 1, 100);
    assert_false(consensus_wants_snapshot(node->consensus)); /* and that is all */
}

static void entries_from_before_a_restart_count(void **state)
{
    struct world *world = *state;
    set_log_bytes_max(world, LOG_BYTES_MAX);
    publish(world, 10, LARGE);
    assert_false(consensus_wants_snapshot(world->nodes[1].consensus));
    set_log_bytes_max(world, LOG_BYTES_MAX);
    publish(world, 10, LARGE);
    assert_true(consensus_wants_snapshot(world->nodes[1].consensus));
}

static void a_node_that_is_a_little_behind_gets_entries_and_no_snapshot(void **state)
{
    struct world *world = *state;
    set_log_bytes_max(world, LOG_BYTES_MAX);
    publish(world, 100, LARGE);
    uint32_t late = follower_of(world);
    stop_node(world, late, false);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 300; i++)
            submit_size(world, leader_of(world), 100);
        run_ms(world, 100);
        for (uint32_t id = 1; id < NODES; id++)
            if (id != late)
                take_snapshot(world, id);
    }
    assert_true(log_first(world->nodes[leader_of(world)].log) > 1);
    start_node(world, late, false);
    connect_all(world);
    run_ms(world, 2000);
    assert_int_equal(world->offers, 0);
    then_all_agree_up_to(world, last_applied(world));
}

static void publish_and_trim(struct world *world, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        publish(world, 1, LARGE);
        take_the_snapshots_that_are_wanted(world);
    }
}

/* It has just come back, with nothing; the log that the others still have begins later. */
static struct node *given_a_node_that_needs_a_snapshot(struct world *world)
{
    struct node *node = &world->nodes[follower_of(world)];
    stop_node(world, node->id, false);
    publish_and_trim(world, 150);
    given_an_empty_disk(world, node->id);
    start_node(world, node->id, false);
    connect_all(world);
    return node;
}

/* It begins to get a snapshot, and then is away for longer than the log would otherwise remember. */
static struct node *given_a_node_that_gets_a_snapshot_slowly(struct world *world)
{
    struct node *node = given_a_node_that_needs_a_snapshot(world);
    for (int i = 0; i < 4000 && node->incoming.size == 0; i++)
        run_ms(world, 1);
    node->paused = true; /* for less than an election takes */
    for (int i = 0; i < 150; i++) {
        submit_size(world, leader_of(world), 3 * LARGE);
        run_ms(world, 1);
        take_the_snapshots_that_are_wanted(world);
    }
    assert_true(log_size(&world->nodes[leader_of(world)]) > 4 * LOG_BYTES_MAX);
    node->paused = false;
    disk_sim_set_speed(node->disk, 5000, 5000);
    return node;
}

static void who_has_got_a_snapshot_gets_what_came_meanwhile_as_entries(void **state)
{
    struct world *world = *state;
    set_log_bytes_max(world, LOG_BYTES_MAX);
    struct node *node = given_a_node_that_gets_a_snapshot_slowly(world);
    for (int i = 0; i < 4000 && node->installs == 0; i++)
        run_ms(world, 1);
    for (int i = 0; i < 3; i++) {
        submit(world, leader_of(world));
        run_ms(world, 2);
        take_snapshot(world, leader_of(world));
    }
    assert_true(node->applied + 20 < last_applied(world));
    run_ms(world, 5000);
    assert_int_equal(world->offers, 1);
    assert_int_equal(node->installs, 1);
    then_all_agree_up_to(world, last_applied(world));
    publish_and_trim(world, 30);
    assert_true(log_size(&world->nodes[leader_of(world)]) <= LOG_BYTES_MAX + SLACK_BYTES); /* and no longer */
}

static void over_a_connection_that_was_just_ended_no_snapshot_is_sent(void **state)
{
    struct world *world = *state;
    set_log_bytes_max(world, LOG_BYTES_MAX);
    struct node *node = given_a_node_that_needs_a_snapshot(world);
    uint32_t leader = leader_of(world);
    uint8_t nonsense[64] = {60, 0, 0, 0, 99};
    consensus_receive(world->nodes[leader].consensus, node->id, LINK_BULK, bytes_of(nonsense, sizeof nonsense - 1));
    assert_int_equal(world->nodes[leader].disconnects, 1);
    run_ms(world, 300); /* raft asks for one */
    assert_int_equal(world->offers, 0);
    set_link(world, leader, node->id, false);
    set_link(world, leader, node->id, true);
    run_ms(world, 5000);
    assert_int_equal(world->offers, 1);
    then_all_agree_up_to(world, last_applied(world));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_log_keeps_its_limit_however_large_the_messages_are, setup, teardown),
        cmocka_unit_test_setup_teardown(what_came_while_a_snapshot_was_written_goes_with_one_more, setup, teardown),
        cmocka_unit_test_setup_teardown(entries_from_before_a_restart_count, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_that_is_a_little_behind_gets_entries_and_no_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(who_has_got_a_snapshot_gets_what_came_meanwhile_as_entries, setup, teardown),
        cmocka_unit_test_setup_teardown(over_a_connection_that_was_just_ended_no_snapshot_is_sent, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
