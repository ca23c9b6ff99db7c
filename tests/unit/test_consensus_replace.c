/* test_consensus_replace.c — nodes that come back without what they had: they get a snapshot, then entries; or they
 * are replaced, in another life. See consensus_world.h. */
#include "consensus_world.h"

/* ---- snapshots ---- */

static void given_a_trimmed_log(struct world *world)
{
    uint32_t leader = leader_of(world);
    for (int i = 0; i < 180; i++) {
        for (int k = 0; k < 60; k++)
            submit(world, leader);
        run_ms(world, 3);
        if (i % 60 == 59)
            for (uint32_t id = 1; id < NODES; id++)
                if (world->nodes[id].running)
                    take_snapshot(world, id);
    }
    submit(world, leader);
    run_ms(world, 100);
    assert_int_equal(leader_of(world), leader);
    assert_true(log_first(world->nodes[leader].log) > 1000);
}

/* Stopped, and without all that it had. */
static uint32_t given_a_node_that_needs_a_snapshot(struct world *world)
{
    uint32_t lost = follower_of(world);
    stop_node(world, lost, false);
    given_a_trimmed_log(world);
    given_an_empty_disk(world, lost);
    return lost;
}

static void an_empty_node_gets_a_snapshot_and_then_entries(void **state)
{
    struct world *world = *state;
    uint32_t lost = given_a_node_that_needs_a_snapshot(world);

    start_node(world, lost, false);
    connect_all(world);
    run_ms(world, 3000); /* its old leader remembers more than it has, and hands over first */
    submit(world, leader_of(world));
    run_ms(world, 200);

    struct node *node = &world->nodes[lost];
    assert_int_equal(node->installs, 1);
    assert_int_equal(world->offers, 1); /* S6: although raft asks at every heartbeat */
    assert_int_equal(node->snapshot_file.size, SNAPSHOT_BYTES);
    assert_int_equal(node->snapshot_file.data[300001], (uint8_t)300001);
    then_all_agree_up_to(world, last_applied(world));

    stop_node(world, lost, true); /* and comes back by itself */
    start_node(world, lost, false);
    connect_all(world);
    run_ms(world, 500);
    assert_int_equal(node->installs, 1);
    then_all_agree_up_to(world, last_applied(world));
}

/* Of all that it has applied, so that another is not due. */
static void rot_snapshot(struct world *world, uint32_t id)
{
    take_snapshot(world, id);
    assert_false(consensus_wants_snapshot(world->nodes[id].consensus));
    world->nodes[id].snapshot_file.data[300001] ^= 1;
}

/* Nothing else reads a snapshot again, once it has been verified. */
static void a_leader_whose_snapshot_has_rotted_takes_another(void **state)
{
    struct world *world = *state;
    uint32_t lost = given_a_node_that_needs_a_snapshot(world);
    for (uint32_t id = 1; id < NODES; id++)
        if (world->nodes[id].running)
            rot_snapshot(world, id);

    start_node(world, lost, false);
    connect_all(world);
    run_ms(world, 3000);
    assert_int_equal(world->nodes[lost].installs, 0);
    uint32_t leader = leader_of(world);
    assert_true(consensus_wants_snapshot(world->nodes[leader].consensus));
    buffer_clear(&world->nodes[leader].snapshot_file);
    take_snapshot(world, leader);
    assert_false(consensus_wants_snapshot(world->nodes[leader].consensus));
    run_ms(world, 500);
    assert_int_equal(world->nodes[lost].installs, 1);
    run_ms(world, 200);
    then_all_agree_up_to(world, last_applied(world));
}

/* Raft takes the one that it asked for to be under way, and would wait for it. */
static void a_peer_that_waits_for_a_snapshot_in_vain_gets_the_next_one(void **state)
{
    struct world *world = *state;
    uint32_t lost = given_a_node_that_needs_a_snapshot(world);
    for (uint32_t id = 1; id < NODES; id++)
        world->nodes[id].snapshot_unreadable = true;

    start_node(world, lost, false);
    connect_all(world);
    run_ms(world, 3000);
    take_snapshot(world, leader_of(world));
    for (uint32_t id = 1; id < NODES; id++)
        world->nodes[id].snapshot_unreadable = false;
    run_ms(world, 2000);
    assert_int_equal(world->nodes[lost].installs, 1);
    then_all_agree_up_to(world, last_applied(world));
}

static void a_snapshot_goes_on_after_the_connection_broke(void **state)
{
    struct world *world = *state;
    uint32_t lost = given_a_node_that_needs_a_snapshot(world);

    start_node(world, lost, false);
    struct node *node = &world->nodes[lost];
    connect_all(world);
    for (int i = 0; i < 4000 && node->incoming.size == 0; i++)
        run_ms(world, 1);
    assert_in_range(node->incoming.size, 1, SNAPSHOT_BYTES - 1);
    set_link(world, leader_of(world), lost, false);
    run_ms(world, 20);
    connect_all(world);
    run_ms(world, 2000);
    assert_int_equal(node->installs, 1);
    then_all_agree_up_to(world, last_applied(world));
}

/* ---- replacements (members.h) ---- */

static bool outside(struct world *world, uint32_t id)
{
    struct consensus_status status;
    consensus_status(world->nodes[id].consensus, &status);
    return status.outside;
}

/* All that the node had is gone; a replacement starts from nothing, with its links. */
static void replace_node(struct world *world, uint32_t id)
{
    struct node *node = &world->nodes[id];
    if (node->running)
        stop_node(world, id, true);
    given_an_empty_disk(world, id);
    node->life = (struct node_life){node->life.number + 1, 1000 * id + node->life.number};
    start_node(world, id, false);
    connect_all(world);
}

static void submit_some(struct world *world, uint32_t id, int count)
{
    for (int i = 0; i < count; i++) {
        submit_size(world, id, 100);
        run_ms(world, 5);
    }
}

static void a_wiped_node_is_replaced_while_the_others_serve(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    submit_some(world, leader, 50);
    replace_node(world, follower);
    assert_true(outside(world, follower));
    submit_some(world, leader, 50);
    run_ms(world, 1000);
    assert_int_equal(leader_of(world), leader); /* nobody had to be elected for it */
    assert_false(outside(world, follower));
    then_all_agree_up_to(world, last_applied(world));

    stop_node(world, 6 - leader - follower, false); /* now its vote and its acknowledgements count like any other's */
    uint64_t before = last_applied(world);
    submit_some(world, leader, 5);
    assert_true(world->nodes[follower].applied > before);
    stop_node(world, leader, false);
    start_node(world, 6 - leader - follower, false);
    connect_all(world);
    run_ms(world, 2000);
    assert_int_not_equal(leader_of(world), 0);
}

/* Whoever loses another node then, since this one is ready, relies on its vote, also if it dies meanwhile. */
static void a_replacement_is_a_member_once_its_own_disk_knows_it(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), wiped = follower_of(world);
    struct node *node = &world->nodes[wiped];
    submit_some(world, leader, 50);
    replace_node(world, wiped);
    for (int i = 0; i < 3000 && log_durable(node->log) == 0; i++)
        run_ms(world, 1);
    disk_sim_hang(node->disk, true);
    run_ms(world, 1000);
    assert_true(node->applied > log_durable(node->log));
    assert_true(outside(world, wiped));
    disk_sim_hang(node->disk, false);
    run_ms(world, 500);
    assert_false(outside(world, wiped));
}

static void each_node_can_be_replaced_one_after_the_other_the_leader_too(void **state)
{
    struct world *world = *state;
    for (int round = 0; round < 6; round++) {
        uint32_t wiped = 1 + (uint32_t)round % 3;
        submit_some(world, leader_of(world), 20);
        replace_node(world, wiped);
        run_ms(world, 3000);
        assert_false(outside(world, wiped));
        assert_int_not_equal(leader_of(world), 0);
    }
    submit_some(world, leader_of(world), 20);
    run_ms(world, 500);
    then_all_agree_up_to(world, last_applied(world));
}

static void a_replacement_gets_a_snapshot_if_the_log_does_not_begin_at_the_beginning(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    for (int round = 0; round < 40; round++) {
        submit_size(world, leader, 20000);
        run_ms(world, 20);
        if (round % 10 == 9)
            take_snapshot(world, leader);
    }
    replace_node(world, follower);
    submit_some(world, leader, 20);
    run_ms(world, 5000);
    assert_false(outside(world, follower));
    then_all_agree_up_to(world, last_applied(world));
}

static void then_all_go_on(struct world *world)
{
    submit_some(world, leader_of(world), 10);
    run_ms(world, 500);
    then_all_agree_up_to(world, last_applied(world));
}

static void the_next_leader_goes_on_with_a_replacement(void **state)
{
    for (uint64_t after_ms = 0; after_ms < 400; after_ms += 23) {
        struct world *world = *state;
        uint32_t leader = leader_of(world), follower = follower_of(world);
        submit_some(world, leader, 10);
        replace_node(world, follower);
        run_ms(world, after_ms);
        stop_node(world, leader, true);
        run_ms(world, 1000);
        start_node(world, leader, false);
        connect_all(world);
        run_ms(world, 4000);
        assert_false(outside(world, follower));
        then_all_go_on(world);
    }
}

static void with_another_node_down_a_replacement_is_no_majority(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world), other = 6 - leader - follower;
    submit_some(world, leader, 10);
    stop_node(world, other, false);
    uint64_t before = last_applied(world);
    replace_node(world, follower);
    submit_some(world, leader, 10);
    run_ms(world, 3000);
    assert_int_equal(last_applied(world), before);
    assert_true(outside(world, follower));
    start_node(world, other, false);
    connect_all(world);
    run_ms(world, 3000);
    assert_false(outside(world, follower));
    then_all_go_on(world);
}

static void of_three_nodes_two_are_not_replaced_at_once(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world);
    submit_some(world, leader, 10);
    uint64_t before = last_applied(world);
    for (uint32_t id = 1; id < NODES; id++)
        if (id != leader)
            replace_node(world, id);
    submit_some(world, leader, 10);
    run_ms(world, 5000);
    assert_int_equal(last_applied(world), before);
    assert_int_equal(leader_of(world), 0);
}

/* ---- removal (members.h) ---- */

static bool is_removed(struct world *world, uint32_t asked, uint32_t id)
{
    struct consensus_status status;
    consensus_status(world->nodes[asked].consensus, &status);
    return (status.removed >> id & 1) != 0;
}

static enum status remove_node(struct world *world, uint32_t id)
{
    return consensus_remove(world->nodes[leader_of(world)].consensus, id);
}

static uint32_t given_a_node_that_was_removed(struct world *world)
{
    uint32_t removed = follower_of(world);
    submit_some(world, leader_of(world), 10);
    stop_node(world, removed, false);
    run_ms(world, 3000);
    assert_int_equal(remove_node(world, removed), STATUS_OK);
    run_ms(world, 100);
    return removed;
}

static void only_a_silent_node_is_removed_by_the_leader(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    submit_some(world, leader, 10);
    assert_int_equal(consensus_remove(world->nodes[follower].consensus, leader), STATUS_NOT_LEADER);
    assert_int_equal(remove_node(world, follower), STATUS_BUSY);
    assert_int_equal(remove_node(world, leader), STATUS_BUSY);
    assert_int_equal(remove_node(world, 9), STATUS_NOT_FOUND);
    assert_int_equal(remove_node(world, 0), STATUS_NOT_FOUND);
    assert_int_equal(remove_node(world, 64), STATUS_NOT_FOUND);
    run_ms(world, 100);
    assert_false(is_removed(world, leader, follower));
}

static void then_two_go_on(struct world *world, uint32_t one, uint32_t other)
{
    uint64_t before = last_applied(world);
    submit_some(world, leader_of(world), 10);
    run_ms(world, 500);
    assert_in_range(last_applied(world), before + 10, before + 20);
    assert_int_equal(world->nodes[one].applied, last_applied(world));
    assert_int_equal(world->nodes[other].applied, last_applied(world));
}

static void the_others_go_on_without_a_node_that_was_removed(void **state)
{
    struct world *world = *state;
    uint32_t removed = given_a_node_that_was_removed(world), leader = leader_of(world), other = 6 - leader - removed;
    assert_true(is_removed(world, leader, removed) && is_removed(world, other, removed));
    assert_int_equal(remove_node(world, removed), STATUS_OK); /* once more: it is */
    then_two_go_on(world, leader, other);
    assert_int_equal(world->nodes[leader].silent, 1u << removed); /* whatever it held is still given up */

    stop_node(world, other, false);
    run_ms(world, 3000);
    assert_int_equal(leader_of(world), 0); /* of two, both are needed */
    start_node(world, other, false);
    connect_all(world);
    run_ms(world, 2000);
    assert_true(is_removed(world, other, removed));
    then_two_go_on(world, leader, other);
}

static void a_removed_node_that_is_started_again_takes_no_part(void **state)
{
    struct world *world = *state;
    uint32_t removed = given_a_node_that_was_removed(world), leader = leader_of(world);
    struct consensus_status before, after;
    consensus_status(world->nodes[leader].consensus, &before);
    start_node(world, removed, false);
    connect_all(world);
    submit_some(world, leader, 10);
    run_ms(world, 5000);
    consensus_status(world->nodes[leader].consensus, &after);
    assert_int_equal(after.role, CONSENSUS_LEADER);
    assert_int_equal(after.term, before.term);
    assert_int_equal(world->nodes[leader].silent, 0);
    assert_true(world->nodes[removed].applied < world->nodes[leader].applied);
    consensus_status(world->nodes[removed].consensus, &after);
    assert_int_equal(after.leader, 0);
}

static void the_connections_of_a_node_that_stood_still_while_it_was_removed_end(void **state)
{
    struct world *world = *state;
    uint32_t removed = follower_of(world), leader = leader_of(world), other = 6 - leader - removed;
    submit_some(world, leader, 10);
    world->nodes[removed].paused = true;
    run_ms(world, 3000);
    assert_int_equal(world->nodes[leader].disconnects + world->nodes[other].disconnects, 0);
    assert_int_equal(remove_node(world, removed), STATUS_OK);
    run_ms(world, 200);
    assert_int_equal(world->nodes[leader].disconnects, LINK_KINDS);
    assert_int_equal(world->nodes[other].disconnects, LINK_KINDS);
    then_two_go_on(world, leader, other);
}

static void a_removed_node_comes_back_as_a_replacement(void **state)
{
    struct world *world = *state;
    uint32_t removed = given_a_node_that_was_removed(world);
    replace_node(world, removed);
    run_ms(world, 3000);
    assert_false(outside(world, removed));
    assert_false(is_removed(world, leader_of(world), removed));
    then_all_go_on(world);

    stop_node(world, removed, false); /* in its second life it is removed as in its first */
    run_ms(world, 3000);
    assert_int_equal(remove_node(world, removed), STATUS_OK);
    run_ms(world, 100);
    start_node(world, removed, false);
    connect_all(world);
    run_ms(world, 5000);
    assert_true(is_removed(world, leader_of(world), removed));
}

static void a_leader_that_dies_has_removed_a_node_or_not(void **state)
{
    struct world *world = *state;
    for (uint64_t after_ms = 0; after_ms < 8; after_ms++) {
        uint32_t removed = follower_of(world);
        submit_some(world, leader_of(world), 10);
        stop_node(world, removed, false);
        run_ms(world, 3000);
        uint32_t leader = leader_of(world);
        assert_int_equal(remove_node(world, removed), STATUS_OK);
        run_ms(world, after_ms);
        stop_node(world, leader, true);
        run_ms(world, 1000);
        start_node(world, leader, false);
        connect_all(world);
        run_ms(world, 2000);
        submit_some(world, leader_of(world), 10);
        if (is_removed(world, leader_of(world), removed)) {
            replace_node(world, removed);
        } else {
            start_node(world, removed, false);
            connect_all(world);
        }
        run_ms(world, 4000);
        assert_false(outside(world, removed));
        then_all_go_on(world);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_SMALL_LOG(name) cmocka_unit_test_setup_teardown(name, setup_small_log, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_wiped_node_is_replaced_while_the_others_serve),
        TEST(a_replacement_is_a_member_once_its_own_disk_knows_it),
        TEST(each_node_can_be_replaced_one_after_the_other_the_leader_too),
        TEST_SMALL_LOG(a_replacement_gets_a_snapshot_if_the_log_does_not_begin_at_the_beginning),
        TEST(the_next_leader_goes_on_with_a_replacement),
        TEST(with_another_node_down_a_replacement_is_no_majority),
        TEST(of_three_nodes_two_are_not_replaced_at_once),
        TEST(only_a_silent_node_is_removed_by_the_leader),
        TEST(the_others_go_on_without_a_node_that_was_removed),
        TEST(a_removed_node_that_is_started_again_takes_no_part),
        TEST(the_connections_of_a_node_that_stood_still_while_it_was_removed_end),
        TEST(a_removed_node_comes_back_as_a_replacement),
        TEST(a_leader_that_dies_has_removed_a_node_or_not),
        TEST_SMALL_LOG(an_empty_node_gets_a_snapshot_and_then_entries),
        TEST_SMALL_LOG(a_leader_whose_snapshot_has_rotted_takes_another),
        TEST_SMALL_LOG(a_peer_that_waits_for_a_snapshot_in_vain_gets_the_next_one),
        TEST_SMALL_LOG(a_snapshot_goes_on_after_the_connection_broke),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
