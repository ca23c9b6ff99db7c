/* test_replica_members.c — members come and go: S13 of replica.h, and lives: R1 to R3 of members.h. See
 * replica_world.h. */
#include "replica_world.h"

/* ---- S13 ---- */

/* A follower that lags gets two membership changes at once, the first of them committed; the second is taken back. */
static void s13_a_change_that_is_taken_back_leaves_the_one_before_it(void **state)
{
    struct world *w = *state;
    struct buffer four = {0}, two = {0};
    configuration_of(4, &four);
    configuration_of(2, &two);

    struct bare bare;
    struct raft_entry change = {.term = 1, .type = RAFT_CHANGE, .buf = {four.data, four.size}};
    struct raft_entry second = {.term = 1, .type = RAFT_CHANGE, .buf = {two.data, two.size}};
    struct raft_entry other = {.term = 2, .type = RAFT_COMMAND};
    bare_start(&bare, 0, 0);
    bare_receive_entries(&bare, append_of(1, 1, 1, 0), &change, 1);
    bare_receive_entries(&bare, append_of(1, 2, 1, 2), &second, 1);
    bare_receive_entries(&bare, append_of(2, 2, 1, 2), &other, 1);
    assert_int_equal(bare.raft.configuration.n, 3); /* it has forgotten the four */
    bare_stop(&bare);

    given_replica(w, 0, 0);
    struct log_entry *entries[2] = {log_entry_new(1, LOG_CHANGE, four.data, four.size),
                                    log_entry_new(1, LOG_CHANGE, two.data, two.size)};
    receive_entries(w, append_of(1, 1, 1, 2), entries, 2);
    assert_int_equal(replica_members(w->replica), 0x06);
    entries[0] = log_entry_new(2, LOG_COMMAND, "y", 1);
    receive_entries(w, append_of(2, 2, 1, 2), entries, 1);
    assert_int_equal(replica_members(w->replica), 0x1E);
    buffer_release(&four);
    buffer_release(&two);
}

/* A peer that lies sends a second change before the first is committed, and then another says that there was none. The
 * library, told that the first is final, aborts when it leads with a log that ends before it. */
static void s13_a_settled_change_is_not_taken_back_by_who_lied(void **state)
{
    struct world *w = *state;
    struct buffer four = {0}, two = {0};
    configuration_of(4, &four);
    configuration_of(2, &two);
    given_replica(w, 0, 0);
    struct log_entry *entries[2] = {log_entry_new(1, LOG_CHANGE, four.data, four.size),
                                    log_entry_new(1, LOG_CHANGE, two.data, two.size)};
    receive_entries(w, append_of(1, 1, 1, 1), entries, 2);
    assert_int_equal(log_last(w->log), 3);
    entries[0] = log_entry_new(2, LOG_COMMAND, "y", 1);
    receive_entries(w, append_of(2, 1, 1, 1), entries, 1);
    assert_int_equal(w->fatals, 1);
    assert_int_equal(w->fatal, STATUS_CORRUPT);
    assert_int_equal(log_last(w->log), 3);
    buffer_release(&four);
    buffer_release(&two);
}

static void a_change_taken_back_by_who_had_nothing_before(void)
{
    struct raft raft;
    struct raft_update update;
    struct buffer members = {0};
    struct raft_event event = {.type = RAFT_START, .time = 1000, .start = {.start_index = 1}};
    struct bare bare = {.now = 1000};
    configuration_of(3, &members);
    raft_init(&raft, NULL, NULL, SELF, "1");
    raft_step(&raft, &event, &update);
    bare.raft = raft;
    struct raft_entry first = {.term = 1, .type = RAFT_CHANGE, .buf = {members.data, members.size}}, second = first;
    struct raft_entry other = {.term = 2, .type = RAFT_COMMAND};
    bare_receive_entries(&bare, append_of(1, 0, 0, 0), &first, 1);
    bare_receive_entries(&bare, append_of(1, 1, 1, 1), &second, 1);
    bare_receive_entries(&bare, append_of(2, 1, 1, 1), &other, 1);
}

/* A replacement gets the whole log, whose last change (it learns from now on) is taken back by the next leader. */
static void s13_a_new_node_survives_that_its_admission_is_taken_back(void **state)
{
    struct world *w = *state;
    struct buffer three = {0}, four = {0};
    assert_true(it_aborts(a_change_taken_back_by_who_had_nothing_before));

    configuration_of(3, &three);
    configuration_of(4, &four);
    given_replacement(w);
    struct log_entry *entries[2] = {log_entry_new(1, LOG_CHANGE, three.data, three.size),
                                    log_entry_new(1, LOG_CHANGE, four.data, four.size)};
    receive_entries(w, append_of(1, 0, 0, 0), entries, 2);
    assert_int_equal(replica_members(w->replica), 0x1E);
    entries[0] = log_entry_new(2, LOG_COMMAND, "y", 1);
    receive_entries(w, append_of(2, 1, 1, 1), entries, 1);
    assert_int_equal(replica_members(w->replica), 0x0E);
    buffer_release(&three);
    buffer_release(&four);
}

/* ---- lives: R1 to R3 of members.h ---- */

static void then_asked(struct world *w, uint32_t peer, bool expected)
{
    w->sent_count = 0;
    for (int i = 0; i < 2; i++)
        replica_advance(w->replica, w->now += 50);
    bool asked = false;
    for (unsigned i = 0; i < w->sent_count; i++)
        asked = asked || w->sent[i].server_id == peer;
    assert_int_equal(asked, expected);
}

static void r1_another_life_of_a_member_is_neither_asked_nor_counted(void **state)
{
    struct world *w = *state;
    given_replica(w, 5, 0);
    given_leader(w);
    uint64_t before = replica_commit(w->replica);
    replica_peer_life(w->replica, 2, (struct node_life){1, 99});
    receive(w, 2, append_result(2, 0, 7)); /* the barrier: with this one it would be on a majority */
    assert_int_equal(replica_commit(w->replica), before);
    w->sent_count = 0;
    for (int i = 0; i < 4; i++)
        replica_advance(w->replica, w->now += 50);
    for (unsigned i = 0; i < w->sent_count; i++)
        assert_int_equal(w->sent[i].server_id, 3);
    receive(w, 3, append_result(2, 0, 7));
    assert_int_equal(replica_commit(w->replica), 7);
}

static void r1_a_vote_of_another_life_is_not_counted(void **state)
{
    struct world *w = *state;
    given_replica(w, 5, 0);
    replica_peer_life(w->replica, 2, (struct node_life){1, 99});
    for (; replica_role(w->replica) != RAFT_CANDIDATE; w->now += 10)
        replica_advance(w->replica, w->now);
    receive(w, 2, vote_result(2, true));
    receive(w, 2, vote_result(2, false));
    assert_int_equal(replica_role(w->replica), RAFT_CANDIDATE);
    assert_int_equal(replica_term(w->replica), 1);
}

static void receive_change(struct world *w, const struct buffer *configuration, uint64_t previous)
{
    struct log_entry *entry = log_entry_new(1, LOG_CHANGE, configuration->data, configuration->size);
    receive_entries(w, append_of(1, previous, 1, previous), &entry, 1);
}

static void r2_a_life_that_is_no_voter_neither_votes_nor_stands(void **state)
{
    struct world *w = *state;
    struct raft_configuration members;
    struct buffer next[3] = {{0}};
    w->life = (struct node_life){7, 0x99};
    given_replica(w, 2, 0); /* its log says that the first life of node 1 is the member */
    for (int step = 0; step < 3; step++) {
        bool committed;
        uint64_t last = log_last(w->log);
        assert_int_not_equal(replica_member(w->replica, &committed), MEMBER_VOTING);
        for (int i = 0; i < 100; i++)
            replica_advance(w->replica, w->now += 50);
        assert_int_equal(replica_role(w->replica), RAFT_FOLLOWER);
        receive(w, 2, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                            .request_vote = {.version = 2, .term = 7, .candidate_id = 2,
                                                             .last_log_index = 50, .last_log_term = 1}});
        assert_int_equal(w->sent_count, 0);
        assert_int_equal(log_vote(w->log), 0);
        assert_int_equal(replica_term(w->replica), 1);

        raft_configuration_init(&members);
        for (unsigned node = 1; node <= 3; node++) {
            char name[MEMBERS_NAME_SIZE];
            members_name(node, node == SELF ? w->life : (struct node_life){0}, name);
            if (node != SELF || step > 0)
                raft_configuration_add(&members, node, name, node == SELF && step == 1 ? RAFT_STANDBY : RAFT_VOTER);
        }
        struct raft_buffer encoded;
        assert_int_equal(raft_configuration_encode(&members, &encoded), 0);
        buffer_put(&next[step], encoded.base, encoded.len);
        raft_free(encoded.base);
        raft_configuration_close(&members);
        receive_change(w, &next[step], last);
        receive(w, 2, append_of(1, last + 1, 1, last + 1)); /* and it is committed */
        when_flushed(w);
        buffer_release(&next[step]);
    }
    receive(w, 2, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                        .request_vote = {.version = 2, .term = 7, .candidate_id = 2,
                                                         .disrupt_leader = true, .last_log_index = 50,
                                                         .last_log_term = 1}});
    assert_int_equal(log_vote(w->log), 2);
}

static void r3_a_replacement_that_has_heard_nothing_is_nobody(void **state)
{
    struct world *w = *state;
    given_replacement(w);
    for (int i = 0; i < 100; i++)
        replica_advance(w->replica, w->now += 50);
    receive(w, 2, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                        .request_vote = {.version = 2, .term = 7, .candidate_id = 2}});
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(log_term(w->log), 0);
    assert_int_equal(log_vote(w->log), 0);
}

/* With 7 entries, all of them committed. */
static void given_a_leader_of_three(struct world *w)
{
    given_replica(w, 5, 0);
    given_leader(w);
    receive(w, 3, append_result(2, 0, 7));
}

static void the_leader_takes_a_replacement_in_step_by_step(void **state)
{
    struct world *w = *state;
    enum member_role role;
    given_a_leader_of_three(w);
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_NOT_FOUND); /* the first life is a member already */

    replica_peer_life(w->replica, 2, (struct node_life){7, 0x99});
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_OK);
    assert_int_equal(role, MEMBER_OTHER);
    assert_int_equal(replica_members(w->replica), 0x0A);
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_BUSY);
    then_asked(w, 2, false);
    when_flushed(w);
    receive(w, 3, append_result(2, 0, 8)); /* committed without it */

    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_OK);
    assert_int_equal(role, MEMBER_NONE);
    assert_int_equal(replica_voters(w->replica), 0x0A);
    when_flushed(w);
    receive(w, 3, append_result(2, 0, 9));
    replica_advance(w->replica, w->now += 50);
    receive(w, 2, append_result(2, 0, 5)); /* what its former life had is forgotten: it may have less */
    assert_int_equal(replica_match(w->replica, 2), 5);

    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_OK);
    assert_int_equal(role, MEMBER_LEARNING);
    when_flushed(w);
    receive(w, 3, append_result(2, 0, 10));
    assert_int_equal(replica_voters(w->replica), 0x0E);
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_NOT_FOUND);

    replica_peer_life(w->replica, 2, (struct node_life){6, 0x77}); /* an older one has no chance */
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_NOT_FOUND);
    then_asked(w, 2, false);
}

static void two_voters_are_left_in_any_case(void **state)
{
    struct world *w = *state;
    enum member_role role;
    given_a_leader_of_three(w);
    replica_peer_life(w->replica, 2, (struct node_life){7, 0x99});
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_OK);
    when_flushed(w);
    receive(w, 3, append_result(2, 0, 8));
    replica_peer_life(w->replica, 3, (struct node_life){7, 0x98});
    assert_int_equal(replica_adopt(w->replica, 3, &role), STATUS_NOT_FOUND);
    assert_int_equal(role, MEMBER_OTHER);
}

static void a_removed_node_is_asked_nothing_and_counts_no_more(void **state)
{
    struct world *w = *state;
    given_a_leader_of_three(w);
    assert_int_equal(replica_remove(w->replica, 2), STATUS_OK);
    assert_int_equal(replica_members(w->replica), 0x0A);
    assert_int_equal(replica_removed(w->replica), 0x04);
    then_asked(w, 2, false);
    when_flushed(w);
    uint64_t commit = replica_commit(w->replica);
    receive(w, 2, append_result(2, 0, 8));
    assert_int_equal(replica_commit(w->replica), commit);
    receive(w, 3, append_result(2, 0, 8));
    assert_int_equal(replica_commit(w->replica), 8);
    assert_int_equal(replica_remove(w->replica, 2), STATUS_NOT_FOUND);
    assert_int_equal(replica_remove(w->replica, 9), STATUS_NOT_FOUND);
    assert_int_equal(replica_remove(w->replica, 3), STATUS_INVALID); /* one disk would be left */
}

static void a_removed_node_comes_back_only_with_a_greater_number(void **state)
{
    struct world *w = *state;
    enum member_role role;
    given_a_leader_of_three(w);
    assert_int_equal(replica_remove(w->replica, 2), STATUS_OK);
    when_flushed(w);
    receive(w, 3, append_result(2, 0, 8));
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_NOT_FOUND);
    assert_int_equal(role, MEMBER_REMOVED);

    replica_peer_life(w->replica, 2, (struct node_life){7, 0x99});
    static const enum member_role steps[] = {MEMBER_OTHER, MEMBER_NONE, MEMBER_LEARNING};
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_OK);
        assert_int_equal(role, steps[i]);
        when_flushed(w);
        receive(w, 3, append_result(2, 0, 9 + i));
        replica_advance(w->replica, w->now += 50);
    }
    assert_int_equal(replica_voters(w->replica), 0x0E);
    assert_int_equal(replica_removed(w->replica), 0);
    assert_int_equal(replica_match(w->replica, 2), 0); /* what its former life had is forgotten */

    receive(w, 2, append_result(2, 0, 11));
    assert_int_equal(replica_remove(w->replica, 2), STATUS_OK);
    when_flushed(w);
    receive(w, 3, append_result(2, 0, 12));
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_NOT_FOUND); /* neither with the same number */
    replica_peer_life(w->replica, 2, (struct node_life){7, 0x98});
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_NOT_FOUND);
    assert_int_equal(role, MEMBER_OTHER);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(s13_a_change_that_is_taken_back_leaves_the_one_before_it),
        TEST(s13_a_settled_change_is_not_taken_back_by_who_lied),
        TEST(s13_a_new_node_survives_that_its_admission_is_taken_back),
        TEST(r1_another_life_of_a_member_is_neither_asked_nor_counted),
        TEST(r1_a_vote_of_another_life_is_not_counted),
        TEST(r2_a_life_that_is_no_voter_neither_votes_nor_stands),
        TEST(r3_a_replacement_that_has_heard_nothing_is_nobody),
        TEST(the_leader_takes_a_replacement_in_step_by_step),
        TEST(two_voters_are_left_in_any_case),
        TEST(a_removed_node_is_asked_nothing_and_counts_no_more),
        TEST(a_removed_node_comes_back_only_with_a_greater_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
