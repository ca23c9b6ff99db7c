/* test_consensus.c — three nodes agree: committing, failing, time, links, and all of it at once. See
 * consensus_world.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/wire_raft.h"
#include "command.h"
#include "consensus_world.h"

/* ---- committing ---- */

static void a_batch_given_to_the_leader_is_committed_on_all_nodes(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world);
    assert_int_not_equal(leader, 0);
    uint64_t before = last_applied(world);
    submit(world, leader);
    run_ms(world, 20);
    then_all_agree_up_to(world, before + 1);
}

static void a_batch_given_to_a_follower_goes_through_the_leader(void **state)
{
    struct world *world = *state;
    uint64_t before = last_applied(world);
    for (int i = 0; i < 100; i++)
        submit(world, follower_of(world));
    run_ms(world, 50);
    then_all_agree_up_to(world, before + 100);
}

/* S9. */
static void followers_hear_of_a_commit_within_two_milliseconds(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world);
    submit(world, leader);
    run_ms(world, 30);
    uint64_t index = last_applied(world);
    for (uint32_t id = 1; id < NODES; id++)
        assert_true(world->nodes[id].committed_us[index] < world->nodes[leader].committed_us[index] + 2000);
}

static void large_entries_and_many_of_them_go_out_in_pieces(void **state)
{
    struct world *world = *state;
    uint64_t before = last_applied(world);
    uint32_t follower = follower_of(world), leader = leader_of(world);
    set_link(world, leader, follower, false);
    for (int i = 0; i < 12; i++)
        submit_size(world, leader, 900 * 1024);
    run_ms(world, 200);
    assert_int_equal(world->nodes[leader].applied, before + 12);
    set_link(world, leader, follower, true);
    run_ms(world, 1000);
    then_all_agree_up_to(world, before + 12);
}

static void qos0_messages_reach_the_peer(void **state)
{
    struct world *world = *state;
    struct buffer out = {0};
    struct message message = {.topic = bytes_text("x/y"), .payload = bytes_text("1")};
    wire_message_put(&out, &message, bytes_of(NULL, 0));
    assert_true(consensus_messages(world->nodes[1].consensus, 2, buffer_bytes(&out)));
    run_ms(world, 2);
    assert_true(bytes_equal(buffer_bytes(&world->nodes[2].messages), buffer_bytes(&out)));
    buffer_release(&out);
}

/* ---- failing ---- */

static void another_node_leads_within_a_second_after_the_leader_died(void **state)
{
    struct world *world = *state;
    uint32_t dead = leader_of(world);
    stop_node(world, dead, false);
    run_ms(world, 1000);
    uint32_t leader = leader_of(world);
    assert_int_not_equal(leader, 0);
    uint64_t before = world->nodes[leader].applied;
    submit(world, leader);
    run_ms(world, 50);
    assert_int_equal(world->nodes[leader].applied, before + 1);

    start_node(world, dead, false);
    connect_all(world);
    run_ms(world, 500);
    then_all_agree_up_to(world, before + 1);
}

static void a_power_loss_of_all_nodes_loses_nothing_that_was_committed(void **state)
{
    struct world *world = *state;
    for (int round = 0; round < 5; round++) {
        uint32_t leader = leader_of(world);
        assert_int_not_equal(leader, 0);
        for (int i = 0; i < 20; i++) {
            submit(world, leader);
            run_ms(world, 1);
        }
        uint64_t committed = last_applied(world);
        for (uint32_t id = 1; id < NODES; id++)
            stop_node(world, id, true);
        for (uint32_t id = 1; id < NODES; id++)
            start_node(world, id, false);
        connect_all(world);
        run_ms(world, 2000);
        assert_true(last_applied(world) >= committed);
        then_all_agree_up_to(world, last_applied(world));
    }
}

/* As many as a leader takes without a majority: not a round trip for each of them. */
static void where_two_logs_parted_thousands_of_entries_ago_is_found_in_a_few_steps(void **state)
{
    struct world *world = *state;
    uint32_t former = leader_of(world), other = former % 3 + 1, third = other % 3 + 1;
    struct consensus_counts before, after;
    set_link(world, former, other, false);
    set_link(world, former, third, false);
    for (int i = 0; i < 2000; i++)
        submit(world, former);
    run_ms(world, 2000);
    for (int i = 0; i < 2500; i++) {
        submit(world, leader_of(world));
        run_ms(world, 1);
    }
    assert_true(log_last(world->nodes[former].log) > world->nodes[former].applied + 1900);
    consensus_transfer(world->nodes[leader_of(world)].consensus, leader_of(world) == other ? third : other);
    run_ms(world, 500); /* who leads now has not asked it for anything yet */
    consensus_counts(world->nodes[former].consensus, &before);
    set_link(world, third, former, true);
    set_link(world, other, former, true);
    run_ms(world, 500);
    consensus_counts(world->nodes[former].consensus, &after);
    then_all_agree_up_to(world, last_applied(world));
    assert_true(after.frames_in - before.frames_in < 300);
}

static void without_a_majority_nothing_is_committed(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world);
    uint64_t before = world->nodes[leader].applied;
    for (uint32_t id = 1; id < NODES; id++)
        if (id != leader)
            stop_node(world, id, false);
    submit(world, leader);
    run_ms(world, 3000);
    struct consensus_status status;
    consensus_status(world->nodes[leader].consensus, &status);
    assert_int_equal(world->nodes[leader].applied, before);
    assert_false(status.majority);
    assert_true(status.leader_heard_ms + 2500 < now_ms(world));
}

static void a_silent_node_is_reported_after_two_seconds_and_not_before(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    stop_node(world, follower, false);
    run_ms(world, 1900);
    assert_int_equal(world->nodes[leader].silent, 0);
    run_ms(world, 300);
    assert_int_equal(world->nodes[leader].silent, 1u << follower);
}

/* V24. */
static void a_leader_that_was_paused_itself_counts_silence_anew(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    stop_node(world, follower, false);
    run_ms(world, 1000);
    world->nodes[leader].paused = true;
    world->now_us += 280 * 1000;
    world->nodes[leader].paused = false;
    run_ms(world, 1000);
    assert_int_equal(leader_of(world), leader); /* too short to lose leadership */
    assert_int_equal(world->nodes[leader].silent, 0);
}

static void a_leader_whose_disk_hangs_hands_over_and_then_gives_up(void **state)
{
    struct world *world = *state;
    uint32_t slow = leader_of(world);
    submit(world, slow);
    disk_sim_hang(world->nodes[slow].disk, true);
    submit(world, slow);
    run_ms(world, 1500);
    assert_int_equal(leader_of(world), slow);
    run_ms(world, 2500);
    assert_int_not_equal(leader_of(world), slow);
    assert_int_not_equal(leader_of(world), 0);
    run_ms(world, 9000);
    assert_int_equal(world->nodes[slow].fatal, STATUS_IO_ERROR);
}

static void set_capacity(struct world *world, uint64_t bytes)
{
    for (uint32_t id = 1; id < NODES; id++)
        disk_sim_set_capacity(world->nodes[id].disk, bytes);
}

static bool is_full(struct world *world, uint32_t id)
{
    struct consensus_status status;
    consensus_status(world->nodes[id].consensus, &status);
    return status.full;
}

static void nodes_whose_disks_are_all_full_go_on_when_there_is_space(void **state)
{
    struct world *world = *state;
    set_capacity(world, 3 * SEGMENT_BYTES - 1); /* the open segment and the next */
    uint64_t stuck;
    do {
        stuck = last_applied(world);
        submit_size(world, leader_of(world), SEGMENT_BYTES / 4);
        run_ms(world, 500);
    } while (last_applied(world) > stuck);
    run_ms(world, 20000);
    assert_int_equal(last_applied(world), stuck);
    assert_true(is_full(world, 1) && is_full(world, 2) && is_full(world, 3));
    set_capacity(world, 0);
    run_ms(world, 2000);
    assert_false(is_full(world, 1) || is_full(world, 2) || is_full(world, 3));
    submit(world, leader_of(world));
    run_ms(world, 1000);
    then_all_agree_up_to(world, stuck + 1);
}

static void leadership_is_handed_over_on_request(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), next = follower_of(world);
    assert_int_equal(consensus_transfer(world->nodes[next].consensus, 0), STATUS_NOT_LEADER);
    assert_int_equal(consensus_transfer(world->nodes[leader].consensus, 9), STATUS_NOT_FOUND);
    assert_int_equal(consensus_transfer(world->nodes[leader].consensus, next), STATUS_OK);
    run_ms(world, 100);
    assert_int_equal(leader_of(world), next);
}

static void a_disk_error_of_the_log_ends_the_node(void **state)
{
    struct world *world = *state;
    uint32_t follower = follower_of(world);
    disk_sim_fail(world->nodes[follower].disk, DISK_SIM_SYNC, 0, STATUS_IO_ERROR, true);
    submit(world, leader_of(world));
    run_ms(world, 100);
    assert_int_equal(world->nodes[follower].fatals, 1);
    assert_int_equal(world->nodes[follower].fatal, STATUS_IO_ERROR);
    assert_int_equal(world->nodes[leader_of(world)].applied, last_applied(world));
}

/* ---- state hashes ---- */

static void a_node_whose_state_differs_from_the_majority_stops(void **state)
{
    struct world *world = *state;
    const uint64_t right[2] = {1, 2}, wrong[2] = {1, 3};
    uint32_t leader = leader_of(world);
    for (uint32_t id = 1; id < NODES; id++)
        consensus_hash(world->nodes[id].consensus, 1, id == leader ? wrong : right);
    run_ms(world, 5);
    for (uint32_t id = 1; id < NODES; id++)
        assert_int_equal(world->nodes[id].fatals, id == leader);
    assert_int_equal(world->nodes[leader].fatal, STATUS_CORRUPT);
}

/* ---- time ---- */

static void stamps_advance_at_rate_one_whatever_the_wall_clock_does(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world);
    submit(world, leader);
    run_ms(world, 20);
    uint64_t before = world->nodes[leader].clock;
    assert_in_range(before, WALL_START, WALL_START + 60000); /* a new cluster begins at the wall clock */
    world->wall_offset_ms = 86400 * 1000;
    run_ms(world, 980);
    submit(world, leader);
    run_ms(world, 20);
    assert_in_range(world->nodes[leader].clock, before + 980, before + 1020);

    stop_node(world, leader, false); /* the next leader goes on from what it has applied */
    run_ms(world, 1000);
    leader = leader_of(world);
    submit(world, leader);
    run_ms(world, 20);
    assert_in_range(world->nodes[leader].clock, before + 1900, before + 2100);
}

static uint64_t cluster_time_of(struct world *world, uint32_t id)
{
    struct consensus_status status;
    consensus_status(world->nodes[id].consensus, &status);
    return status.cluster_ms;
}

static void a_node_whose_turn_stood_still_is_not_ahead_by_what_it_read_then(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    submit(world, leader);
    run_ms(world, 200);
    world->nodes[follower].turn_began_ms = now_ms(world);
    for (int i = 0; i < 20; i++) {
        submit(world, leader);
        run_ms(world, 10);
    }
    world->nodes[follower].turn_began_ms = 0;
    run_ms(world, 20);
    uint64_t right = cluster_time_of(world, leader);
    assert_in_range(cluster_time_of(world, follower), right - 100, right + 5);
}

/* What it applies first was stamped while it was away; what is stamped now tells it better. */
static void a_node_that_was_away_knows_the_time_again_as_soon_as_it_has_caught_up(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    submit(world, leader);
    run_ms(world, 20);
    stop_node(world, follower, false);
    for (int i = 0; i < 20; i++) {
        submit(world, leader);
        run_ms(world, 100);
    }
    start_node(world, follower, false);
    connect_all(world);
    run_ms(world, 500);
    submit(world, leader);
    run_ms(world, 1000);
    uint64_t right = cluster_time_of(world, leader);
    assert_in_range(cluster_time_of(world, follower), right - 100, right + 5);
}

static void the_wall_clock_bridges_a_gap_in_which_no_node_ran(void **state)
{
    struct world *world = *state;
    submit(world, leader_of(world));
    run_ms(world, 20);
    uint64_t before = world->nodes[1].clock;
    for (uint32_t id = 1; id < NODES; id++)
        stop_node(world, id, false);
    world->wall_offset_ms = 3600 * 1000;
    for (uint32_t id = 1; id < NODES; id++)
        start_node(world, id, false);
    connect_all(world);
    run_ms(world, 2000);
    submit(world, leader_of(world));
    run_ms(world, 20);
    assert_in_range(world->nodes[1].clock, before + 3600 * 1000, before + 3603 * 1000);
}

static void set_bulk_link(struct world *world, uint32_t a, uint32_t b, bool up)
{
    const uint32_t ends[2][2] = {{a, b}, {b, a}};
    for (int i = 0; i < 2; i++) {
        uint32_t id = ends[i][0], peer = ends[i][1];
        struct consensus *consensus = world->nodes[id].consensus;
        uint64_t in = world->generation[peer][id][LINK_BULK], out = world->generation[id][peer][LINK_BULK];
        if (up)
            consensus_link_up(consensus, peer, LINK_BULK, in, out);
        else
            consensus_link_down(consensus, peer, LINK_BULK, in);
    }
}

/* Votes come on another connection than the time: who has just started, and leads, may have to wait for it. */
static void a_leader_that_has_just_started_asks_its_peers_before_the_wall_clock(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), voter = leader % 3 + 1, third = voter % 3 + 1;
    submit(world, leader);
    run_ms(world, 20);
    uint64_t before = world->nodes[voter].clock, since_ms = now_ms(world);
    set_link(world, leader, voter, false);
    set_link(world, leader, third, false);
    submit(world, leader); /* so that it alone has the longest log */
    run_ms(world, 20);
    stop_node(world, leader, false);
    stop_node(world, third, false);
    world->wall_offset_ms = 3600 * 1000;
    start_node(world, leader, false);
    set_link(world, leader, voter, true);
    set_bulk_link(world, leader, voter, false);
    while (leader_of(world) != leader)
        run_ms(world, 10);
    submit(world, leader);
    run_ms(world, 500);
    assert_in_range(world->nodes[voter].clock, before, before + 50); /* nothing new is stamped yet */
    set_bulk_link(world, leader, voter, true);
    run_ms(world, 100);
    submit(world, leader);
    run_ms(world, 20);
    uint64_t passed_ms = now_ms(world) - since_ms;
    assert_in_range(world->nodes[voter].clock, before + passed_ms - 200, before + passed_ms + 20);
}

/* ---- links ---- */

static void frames_of_an_older_connection_are_dropped(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), follower = follower_of(world);
    struct consensus_counts before, after;
    submit(world, leader);
    consensus_flush(world->nodes[leader].consensus);
    assert_true(world->count > 0);
    struct flight old = world->flights[world->count - 1];
    uint8_t *copy = memory_copy(old.data, old.size);
    uint32_t to = old.to;
    (void)follower;
    set_link(world, old.from, to, false);
    set_link(world, old.from, to, true);
    consensus_counts(world->nodes[to].consensus, &before);
    consensus_receive(world->nodes[to].consensus, old.from, old.kind, bytes_of(copy, old.size));
    consensus_counts(world->nodes[to].consensus, &after);
    free(copy);
    assert_int_equal(after.frames_dropped, before.frames_dropped + 1);
    assert_int_equal(after.frames_in, before.frames_in);
    run_ms(world, 500);
    then_all_agree_up_to(world, last_applied(world));
}

static void a_malformed_frame_ends_the_connection(void **state)
{
    struct world *world = *state;
    uint8_t nonsense[64] = {60, 0, 0, 0, 99};
    consensus_receive(world->nodes[1].consensus, 2, LINK_RAFT, bytes_of(nonsense, sizeof nonsense - 1));
    assert_int_equal(world->nodes[1].disconnects, 1);
}

static void a_peer_that_claims_to_lead_as_well_is_disconnected(void **state)
{
    struct world *world = *state;
    uint32_t leader = leader_of(world), liar = follower_of(world);
    struct consensus_status status;
    struct buffer frame = {0};
    consensus_status(world->nodes[leader].consensus, &status);
    set_link(world, leader, liar, false);
    set_link(world, leader, liar, true);
    size_t begin = wire_frame_begin(&frame, WIRE_APPEND, world->generation[liar][leader][LINK_RAFT], 1);
    wire_append_put(&frame, &(struct raft_append_entries){.version = 1, .term = status.term}, NULL, 0);
    wire_frame_end(&frame, begin);
    consensus_receive(world->nodes[leader].consensus, liar, LINK_RAFT, buffer_bytes(&frame));
    assert_int_equal(world->nodes[leader].disconnects, 1);
    assert_int_equal(leader_of(world), leader);
    buffer_release(&frame);
}

/* ---- all at once ---- */

static uint64_t draw(uint64_t *random, uint64_t below)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return *random % below;
}

static void break_something(struct world *world, uint64_t *random)
{
    uint32_t a = 1 + (uint32_t)draw(random, 3), b = 1 + (uint32_t)draw(random, 3);
    switch (draw(random, 10)) {
    case 0:
    case 1:
        if (world->nodes[a].running)
            stop_node(world, a, draw(random, 2) == 0);
        return;
    case 2:
    case 3:
        if (!world->nodes[a].running)
            start_node(world, a, false);
        return;
    case 4:
    case 5:
        if (a != b && world->linked[a][b])
            set_link(world, a, b, false);
        return;
    case 6:
        world->nodes[a].paused = draw(random, 2) == 0;
        return;
    case 7:
        if (world->nodes[a].running && world->nodes[a].applied > world->nodes[a].snapshot.index)
            take_snapshot(world, a);
        return;
    case 8:
        disk_sim_set_speed(world->nodes[a].disk, 100, 100 + draw(random, 50000));
        return;
    default:
        connect_all(world);
    }
}

static void whatever_breaks_there_is_one_history_and_it_goes_on_afterwards(void **state)
{
    struct world *world = *state;
    const char *wanted = getenv("SEEDS");
    uint64_t seeds = wanted != NULL ? strtoull(wanted, NULL, 10) : 12;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        uint64_t random = seed * 0x9E3779B97F4A7C15ull;
        for (int step = 0; step < 150; step++) {
            break_something(world, &random);
            for (uint32_t id = 1; id < NODES; id++)
                if (world->nodes[id].running && !world->nodes[id].paused && draw(&random, 2) == 0)
                    submit_size(world, id, draw(&random, 3) * 500);
            run_ms(world, 1 + draw(&random, 300));
        }
        for (uint32_t id = 1; id < NODES; id++) {
            world->nodes[id].paused = false;
            disk_sim_set_speed(world->nodes[id].disk, 100, 300);
            if (!world->nodes[id].running)
                start_node(world, id, false);
        }
        connect_all(world);
        run_ms(world, 5000);
        uint32_t leader = leader_of(world);
        assert_int_not_equal(leader, 0);
        uint64_t before = last_applied(world);
        submit(world, leader);
        run_ms(world, 500);
        assert_true(last_applied(world) > before);
        then_all_agree_up_to(world, last_applied(world));
        teardown(state);
        setup_small_log(state);
        world = *state;
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_SMALL_LOG(name) cmocka_unit_test_setup_teardown(name, setup_small_log, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_batch_given_to_the_leader_is_committed_on_all_nodes),
        TEST(a_batch_given_to_a_follower_goes_through_the_leader),
        TEST(followers_hear_of_a_commit_within_two_milliseconds),
        TEST(large_entries_and_many_of_them_go_out_in_pieces),
        TEST(qos0_messages_reach_the_peer),
        TEST(another_node_leads_within_a_second_after_the_leader_died),
        TEST(a_power_loss_of_all_nodes_loses_nothing_that_was_committed),
        TEST(where_two_logs_parted_thousands_of_entries_ago_is_found_in_a_few_steps),
        TEST(without_a_majority_nothing_is_committed),
        TEST(a_silent_node_is_reported_after_two_seconds_and_not_before),
        TEST(a_leader_that_was_paused_itself_counts_silence_anew),
        TEST(a_leader_whose_disk_hangs_hands_over_and_then_gives_up),
        TEST(nodes_whose_disks_are_all_full_go_on_when_there_is_space),
        TEST(leadership_is_handed_over_on_request),
        TEST(a_disk_error_of_the_log_ends_the_node),
        TEST(a_node_whose_state_differs_from_the_majority_stops),
        TEST(stamps_advance_at_rate_one_whatever_the_wall_clock_does),
        TEST(a_node_whose_turn_stood_still_is_not_ahead_by_what_it_read_then),
        TEST(a_node_that_was_away_knows_the_time_again_as_soon_as_it_has_caught_up),
        TEST(the_wall_clock_bridges_a_gap_in_which_no_node_ran),
        TEST(a_leader_that_has_just_started_asks_its_peers_before_the_wall_clock),
        TEST(frames_of_an_older_connection_are_dropped),
        TEST(a_malformed_frame_ends_the_connection),
        TEST(a_peer_that_claims_to_lead_as_well_is_disconnected),
        TEST_SMALL_LOG(whatever_breaks_there_is_one_history_and_it_goes_on_afterwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
