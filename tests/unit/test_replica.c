/* test_replica.c — what we owe to the raft library: S1 to S11 of replica.h. (S12: test_replica_peers.c; S13:
 * test_replica_members.c.) See replica_world.h.
 *
 * S7 is kept by the frames' sequence (test_consensus.c: frames_of_an_older_connection_are_dropped); what happens
 * without it is S4's abort. S10 is kept by asking nobody who leads: without_a_majority_nothing_is_committed. */
#include "replica_world.h"

/* ---- S1 ---- */

static void old_entries_reach_a_trimmed_library(void)
{
    struct bare bare;
    struct raft_entry entries[3] = {{.term = 1, .type = RAFT_BARRIER}, {.term = 1, .type = RAFT_COMMAND},
                                    {.term = 1, .type = RAFT_COMMAND}};
    bare_start(&bare, 0, 10);
    bare_receive_entries(&bare, append_of(1, 0, 0, 3), entries, 3);
}

static void s1_entries_at_or_below_what_is_applied_are_skipped(void **state)
{
    struct world *w = *state;
    assert_true(it_aborts(old_entries_reach_a_trimmed_library));

    given_replica(w, 0, 10);
    struct log_entry *entries[3];
    for (int i = 0; i < 3; i++)
        entries[i] = log_entry_new(1, LOG_COMMAND, "x", 1);
    receive_entries(w, append_of(1, 0, 0, 3), entries, 3);
    assert_int_equal(log_last(w->log), 10);
    assert_int_equal(w->sent_count, 1);
    assert_int_equal(w->sent[0].append_entries_result.rejected, 0);
    assert_int_equal(w->sent[0].append_entries_result.last_log_index, 10);

    for (int i = 0; i < 3; i++) /* 9, 10 and, new, 11 */
        entries[i] = log_entry_new(1, LOG_COMMAND, "x", 1);
    receive_entries(w, append_of(1, 8, 1, 11), entries, 3);
    assert_int_equal(log_last(w->log), 11);
}

static void s1_a_leader_that_contradicts_what_is_committed_stops_the_node(void **state)
{
    struct world *w = *state;
    given_replica(w, 3, 0);
    receive(w, 2, append_of(2, 4, 1, 4));
    struct log_entry *entries[3];
    for (int i = 0; i < 3; i++) /* 3, 4 and 5, of which 4 is committed with term 1 */
        entries[i] = log_entry_new(i == 0 ? 1 : 2, LOG_COMMAND, "x", 1);
    receive_entries(w, append_of(2, 2, 1, 5), entries, 3);
    assert_int_equal(w->fatals, 1);
    assert_int_equal(w->fatal, STATUS_CORRUPT);
    assert_int_equal(log_last(w->log), 4);
}

/* ---- S2 ---- */

static void s2_a_configuration_goes_alone(void **state)
{
    struct world *w = *state;
    struct buffer four = {0};
    configuration_of(4, &four);

    /* The library takes the first entry for the configuration: it forgets to roll back when only the second goes. */
    struct bare bare;
    struct raft_entry both[2] = {{.term = 1, .type = RAFT_COMMAND},
                                 {.term = 1, .type = RAFT_CHANGE, .buf = {four.data, four.size}}};
    struct raft_entry other = {.term = 2, .type = RAFT_COMMAND};
    bare_start(&bare, 0, 0);
    assert_int_equal(bare_receive_entries(&bare, append_of(1, 1, 1, 1), both, 2), 0);
    assert_int_equal(bare.raft.configuration.n, 4);
    assert_int_equal(bare.raft.configuration_uncommitted_index, 2); /* it is at 3 */
    assert_int_equal(bare_receive_entries(&bare, append_of(2, 2, 1, 1), &other, 1), 0);
    assert_int_equal(bare.raft.configuration.n, 4);
    bare_stop(&bare);

    given_replica(w, 0, 0);
    struct log_entry *entries[2] = {log_entry_new(1, LOG_COMMAND, "x", 1),
                                    log_entry_new(1, LOG_CHANGE, four.data, four.size)};
    receive_entries(w, append_of(1, 1, 1, 1), entries, 2);
    assert_int_equal(replica_members(w->replica), 0x1E);
    entries[0] = log_entry_new(2, LOG_COMMAND, "y", 1);
    receive_entries(w, append_of(2, 2, 1, 1), entries, 1);
    assert_int_equal(replica_members(w->replica), 0x0E);
    buffer_release(&four);
}

/* ---- S3 ---- */

static struct raft_message pre_vote(uint64_t term, uint64_t last, uint64_t last_term)
{
    return (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                 .request_vote = {.version = 2, .term = term, .candidate_id = 2,
                                                  .last_log_index = last, .last_log_term = last_term,
                                                  .pre_vote = true}};
}

static void s3_a_rejected_candidate_learns_our_term(void **state)
{
    struct world *w = *state;
    struct bare bare;
    bare_start(&bare, 5, 0);
    bare_receive(&bare, 2, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                                 .request_vote = {.version = 2, .term = 7, .candidate_id = 2}});
    assert_int_equal(raft_current_term(&bare.raft), 7);
    bare_receive(&bare, 2, pre_vote(2, 1, 1));
    assert_false(bare.update.messages.batch[0].request_vote_result.vote_granted);
    assert_int_equal(bare.update.messages.batch[0].request_vote_result.term, 2); /* its own, back to it */
    bare_stop(&bare);

    given_replica(w, 5, 0);
    receive(w, 2, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                        .request_vote = {.version = 2, .term = 7, .candidate_id = 2}});
    receive(w, 2, pre_vote(2, 1, 1));
    assert_false(w->sent[0].request_vote_result.vote_granted);
    assert_int_equal(w->sent[0].request_vote_result.term, 7);
}

/* ---- S4 (and S7) ---- */

static void late_rejection_reaches_the_library(void)
{
    struct bare bare;
    bare_start(&bare, 5, 0);
    bare_elect(&bare);                        /* appends a barrier at 7 */
    bare_receive(&bare, 2, append_result(2, 0, 6));
    for (int i = 0; i < 4; i++) {             /* 2 is silent: its progress becomes a probe at match + 1 */
        bare_timeout(&bare);
        bare_receive(&bare, 3, append_result(2, 0, 6));
    }
    bare_receive(&bare, 2, append_result(2, 6, 5));
}

static void s4_a_rejection_at_or_below_match_takes_nothing_back(void **state)
{
    struct world *w = *state;
    assert_true(it_aborts(late_rejection_reaches_the_library));

    given_replica(w, 5, 0);
    given_leader(w);
    receive(w, 2, append_result(2, 0, 6));
    for (int i = 0; i < 4; i++) {
        w->now += 70;
        w->sent_count = 0;
        replica_advance(w->replica, w->now);
        receive(w, 3, append_result(2, 0, 6));
    }
    receive(w, 2, append_result(2, 6, 5));
    assert_int_equal(replica_match(w->replica, 2), 6);
    assert_int_equal(replica_role(w->replica), RAFT_LEADER);
}

/* ---- S5 ---- */

/* As leader, of term 2. */
static void when_an_entry_is_submitted(struct world *w)
{
    struct log_entry *entry = log_entry_new(2, LOG_COMMAND, "x", 1);
    assert_int_equal(replica_submit(w->replica, &entry, 1), STATUS_OK);
    log_entry_release(entry);
    when_flushed(w);
}

static void s5_a_membership_change_waits_for_an_entry_of_our_term(void **state)
{
    struct world *w = *state;
    struct buffer two = {0};
    configuration_of(2, &two);
    struct bare bare;
    bare_start(&bare, 0, 0);
    bare_elect(&bare);
    assert_int_equal(bare_submit(&bare, RAFT_CHANGE, buffer_bytes(&two)), 0); /* nothing of term 2 is committed */
    bare_stop(&bare);

    given_replica(w, 0, 0);
    given_leader(w);
    assert_int_equal(replica_change(w->replica, buffer_bytes(&two)), STATUS_BUSY);
    when_an_entry_is_submitted(w);
    receive(w, 2, append_result(2, 0, 2));
    assert_int_equal(replica_commit(w->replica), 2);
    assert_int_equal(replica_change(w->replica, buffer_bytes(&two)), STATUS_OK);
    assert_int_equal(replica_change(w->replica, buffer_bytes(&two)), STATUS_BUSY); /* one at a time */
    buffer_release(&two);
}

/* Of the voters 1 to 5 two have followed, one is far behind, and one has never been heard. */
static void s5_a_majority_that_is_near_is_enough_to_go_without_a_voter(void **state)
{
    struct world *w = *state;
    w->five = true;
    given_replica(w, 1500, 0);
    given_leader(w);
    when_an_entry_is_submitted(w);
    receive(w, 2, append_result(2, 0, log_last(w->log)));
    assert_int_equal(replica_remove(w->replica, 5), STATUS_BUSY); /* of 1 to 4, two are near */
    receive(w, 4, append_result(2, 0, 300));
    receive(w, 3, append_result(2, 0, log_last(w->log)));
    assert_int_equal(replica_remove(w->replica, 5), STATUS_OK);
    when_flushed(w);
    receive(w, 2, append_result(2, 0, log_last(w->log)));
    receive(w, 3, append_result(2, 0, log_last(w->log)));
    assert_int_equal(replica_commit(w->replica), log_last(w->log));
    assert_int_equal(replica_remove(w->replica, 4), STATUS_OK); /* and the other one */
}

static void s5_who_is_made_a_voter_has_caught_up(void **state)
{
    struct world *w = *state;
    struct buffer four = {0};
    given_replica(w, 1500, 0);
    given_leader(w);
    when_an_entry_is_submitted(w);
    receive(w, 2, append_result(2, 0, log_last(w->log)));
    receive(w, 3, append_result(2, 0, log_last(w->log)));
    assert_int_equal(replica_commit(w->replica), log_last(w->log));
    configuration_of(4, &four);
    assert_int_equal(replica_change(w->replica, buffer_bytes(&four)), STATUS_BUSY);
    buffer_release(&four);
}

/* ---- S6 ---- */

static unsigned count_installs(const struct bare *bare)
{
    unsigned count = 0;
    for (unsigned i = 0; i < bare->update.messages.n; i++)
        count += bare->update.messages.batch[i].type == RAFT_INSTALL_SNAPSHOT;
    return count;
}

static void s6_no_snapshot_leaves_before_its_file_has(void **state)
{
    struct world *w = *state;
    struct bare bare;
    unsigned count = 0;
    bare_start(&bare, 0, 10);
    bare_elect(&bare);
    for (int i = 0; i < 3; i++) { /* one per answered heartbeat */
        bare_receive(&bare, 2, append_result(2, 10, 0));
        count += count_installs(&bare);
    }
    assert_true(count > 1);
    bare_stop(&bare);

    given_replica(w, 0, 10);
    given_leader(w);
    for (int i = 0; i < 3; i++) {
        receive(w, 2, append_result(2, 10, 0));
        assert_null(sent_of(w, RAFT_INSTALL_SNAPSHOT));
    }
    assert_true(w->snapshots_needed > 0); /* its owner sends one: test_consensus_replace.c */
}

/* ---- S8 ---- */

static void time_runs_backwards(void)
{
    struct bare bare;
    bare_start(&bare, 0, 0);
    bare_elect(&bare);
    bare_receive(&bare, 2, append_result(2, 0, 1));
    bare.now -= 100;
    bare_step(&bare, &(struct raft_event){.type = RAFT_TIMEOUT});
}

static void entries_are_persisted_that_were_truncated(void)
{
    struct bare bare;
    struct raft_entry old[3] = {{.term = 1, .type = RAFT_COMMAND}, {.term = 1, .type = RAFT_COMMAND},
                                {.term = 1, .type = RAFT_COMMAND}};
    struct raft_entry new = {.term = 2, .type = RAFT_COMMAND};
    bare_start(&bare, 0, 0);
    bare_receive_entries(&bare, append_of(1, 1, 1, 1), old, 3);
    bare_receive_entries(&bare, append_of(2, 1, 1, 1), &new, 1);
    bare_step(&bare, &(struct raft_event){.type = RAFT_PERSISTED_ENTRIES, .persisted_entries = {.index = 4}});
}

static void s8_a_flush_of_truncated_entries_is_not_believed(void **state)
{
    struct world *w = *state;
    assert_true(it_aborts(time_runs_backwards)); /* so consensus_advance asserts that it does not */
    assert_true(it_aborts(entries_are_persisted_that_were_truncated));

    given_replica(w, 0, 0);
    struct log_entry *entries[3];
    for (int i = 0; i < 3; i++)
        entries[i] = log_entry_new(1, LOG_COMMAND, "x", 1);
    receive_entries(w, append_of(1, 1, 1, 1), entries, 3);
    replica_flush(w->replica); /* on its way to the disk ... */
    entries[0] = log_entry_new(2, LOG_COMMAND, "y", 1);
    receive_entries(w, append_of(2, 1, 1, 1), entries, 1);
    replica_flushed(w->replica, 4); /* ... and there, too late */
    assert_int_equal(w->fatals, 0);
    when_flushed(w);
    const struct raft_message *answer = sent_of(w, RAFT_APPEND_ENTRIES_RESULT);
    assert_non_null(answer);
    assert_int_equal(answer->append_entries_result.last_log_index, 2);
}

/* Its disk hangs, the others commit, and it applies and takes a snapshot: the library trims its trail behind that. */
static void s8_terms_of_what_the_disk_has_yet_to_store_are_kept(void **state)
{
    struct world *w = *state;
    struct buffer members = {0};
    given_replica(w, 2, 0);
    disk_sim_hang(w->disk, true);
    for (uint64_t last = 3; last < 3003; last += 300) {
        struct log_entry *entries[300];
        for (int i = 0; i < 300; i++)
            entries[i] = log_entry_new(1, LOG_COMMAND, "x", 1);
        receive_entries(w, append_of(1, last, 1, last + 300), entries, 300);
    }
    assert_int_equal(replica_commit(w->replica), 3003);
    configuration_of(3, &members);
    struct replica_snapshot snapshot = {.index = 3003, .term = 1, .configuration_index = 1,
                                        .configuration = buffer_bytes(&members)};
    replica_snapshot_taken(w->replica, &snapshot, 3004);
    disk_sim_hang(w->disk, false);
    when_flushed(w);
    assert_int_equal(log_durable(w->log), 3003);
    assert_int_equal(w->fatals, 0);
    buffer_release(&members);
}

static void s8_nothing_is_committed_while_a_snapshot_is_being_installed(void **state)
{
    struct world *w = *state;
    struct buffer members = {0};
    configuration_of(3, &members);
    struct raft_message install = {.type = RAFT_INSTALL_SNAPSHOT,
                                   .install_snapshot = {.term = 2, .last_index = 20, .last_term = 2, .conf_index = 1}};
    struct bare bare;
    bare_start(&bare, 3, 0);
    struct raft_message copy = install;
    struct raft_buffer buffer = {members.data, members.size};
    raft_configuration_decode(&buffer, &copy.install_snapshot.conf);
    assert_int_equal(bare_receive(&bare, 2, copy), 0);
    assert_int_equal(bare_receive(&bare, 2, append_of(2, 20, 2, 20)), 0);
    assert_int_equal(raft_commit_index(&bare.raft), 20); /* which is not there */
    raft_configuration_close(&copy.install_snapshot.conf);
    bare_stop(&bare);

    given_replica(w, 3, 0);
    replica_receive(w->replica, 2, &install, NULL, 0, buffer_bytes(&members));
    assert_int_equal(w->installs, 1);
    receive(w, 2, append_of(2, 20, 2, 20));
    assert_int_equal(replica_commit(w->replica), 1);
    replica_installed(w->replica);
    assert_int_equal(replica_commit(w->replica), 20);
    assert_int_equal(log_first(w->log), 21);
    disk_sim_run_all(w->disk);
    buffer_release(&members);
}

/* ---- S9 ---- */

static void s9_commits_are_pushed(void **state)
{
    struct world *w = *state;
    struct bare bare;
    bare_start(&bare, 0, 0);
    bare_elect(&bare);
    bare_receive(&bare, 2, append_result(2, 0, 1));
    assert_int_equal(bare_submit(&bare, RAFT_COMMAND, bytes_text("x")), 0);
    bare_step(&bare, &(struct raft_event){.type = RAFT_PERSISTED_ENTRIES, .persisted_entries = {.index = 2}});
    bare_receive(&bare, 2, append_result(2, 0, 2));
    assert_int_equal(raft_commit_index(&bare.raft), 2);
    assert_int_equal(bare.update.messages.n, 0); /* the follower hears of it with the next heartbeat */
    bare_stop(&bare);

    given_replica(w, 0, 0);
    given_leader(w);
    receive(w, 2, append_result(2, 0, 1));
    when_an_entry_is_submitted(w);
    receive(w, 2, append_result(2, 0, 2));
    replica_flush(w->replica);
    const struct raft_message *push = sent_of(w, RAFT_APPEND_ENTRIES);
    assert_non_null(push);
    assert_int_equal(push->server_id, 2);
    assert_int_equal(push->append_entries.prev_log_index, 2);
    assert_int_equal(push->append_entries.leader_commit, 2);
    assert_int_equal(push->append_entries.n_entries, 0);
    w->sent_count = 0;
    replica_flush(w->replica); /* once */
    assert_int_equal(w->sent_count, 0);
}

static void s9_a_pushed_commit_is_taken_without_an_answer(void **state)
{
    struct world *w = *state;
    given_replica(w, 2, 0);
    receive(w, 2, append_of(1, 3, 1, 0));
    assert_non_null(sent_of(w, RAFT_APPEND_ENTRIES_RESULT));
    w->sent_count = 0;

    struct raft_message push = append_of(1, 3, 1, 3);
    replica_receive_push(w->replica, 2, &push);
    assert_int_equal(replica_commit(w->replica), 3);
    assert_int_equal(w->sent_count, 0);

    push = append_of(1, 9, 1, 9); /* refused: the leader has to hear that */
    replica_receive_push(w->replica, 2, &push);
    assert_non_null(sent_of(w, RAFT_APPEND_ENTRIES_RESULT));
}

/* ---- S10 ---- */

static void s10_a_leader_alone_still_believes_that_it_leads(void **state)
{
    (void)state;
    struct bare bare;
    bare_start(&bare, 0, 0);
    bare_elect(&bare);
    bare.now += 250;
    bare_step(&bare, &(struct raft_event){.type = RAFT_TIMEOUT});
    assert_int_equal(raft_state(&bare.raft), RAFT_LEADER);
    bare_stop(&bare);
}

/* ---- S11 ---- */

static void s11_a_leader_whose_disk_hangs_hands_over_then_stops(void **state)
{
    struct world *w = *state;
    struct bare bare;
    bare_start(&bare, 0, 0);
    bare_elect(&bare);
    assert_int_equal(bare_submit(&bare, RAFT_COMMAND, bytes_text("x")), 0); /* never persisted */
    for (int i = 0; i < 400; i++) {
        bare.now += 50;
        bare_step(&bare, &(struct raft_event){.type = RAFT_TIMEOUT});
        bare_receive(&bare, 2, append_result(2, 0, 2));
    }
    assert_int_equal(raft_state(&bare.raft), RAFT_LEADER); /* after 20 seconds */
    bare_stop(&bare);

    given_replica(w, 0, 0);
    given_leader(w);
    disk_sim_hang(w->disk, true);
    struct log_entry *entry = log_entry_new(2, LOG_COMMAND, "x", 1);
    assert_int_equal(replica_submit(w->replica, &entry, 1), STATUS_OK);
    log_entry_release(entry);
    bool handed_over = false;
    for (uint64_t begin = w->now; w->now < begin + 11000; w->now += 50) {
        w->sent_count = 0;
        replica_advance(w->replica, w->now);
        replica_flush(w->replica);
        if (sent_of(w, RAFT_TIMEOUT_NOW) != NULL) {
            assert_true(w->now - begin > REPLICA_FLUSH_SLOW_MS);
            handed_over = true;
        }
        receive(w, 2, append_result(2, 0, 2));
    }
    assert_true(handed_over);
    assert_int_equal(w->fatals, 1);
    assert_int_equal(w->fatal, STATUS_IO_ERROR);
}

/* A process that is stopped, or a machine that sleeps, in the middle of a flush. */
static void s11_what_a_node_has_slept_is_no_hang_of_its_disk(void **state)
{
    struct world *w = *state;
    given_replica(w, 0, 0);
    given_leader(w);
    struct log_entry *entry = log_entry_new(2, LOG_COMMAND, "x", 1);
    assert_int_equal(replica_submit(w->replica, &entry, 1), STATUS_OK);
    log_entry_release(entry);
    replica_flush(w->replica);                    /* on its way to the disk ... */
    replica_advance(w->replica, w->now += 50);
    replica_advance(w->replica, w->now += 60000);
    assert_int_equal(w->fatals, 0);
    assert_true(replica_flush_lag_ms(w->replica) <= REPLICA_FLUSH_WATCH_MS);
    when_flushed(w);                              /* ... and there, only nobody was awake to hear it */
    replica_advance(w->replica, w->now += 50);
    assert_int_equal(w->fatals, 0);
    assert_int_equal(replica_flush_lag_ms(w->replica), 0);
}

/* ---- and what is not numbered ---- */

static void the_term_is_on_disk_before_a_vote_leaves(void **state)
{
    struct world *w = *state;
    given_replica(w, 0, 0);
    receive(w, 2, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                        .request_vote = {.version = 2, .term = 7, .candidate_id = 2,
                                                         .last_log_index = 1, .last_log_term = 1}});
    assert_true(w->sent[0].request_vote_result.vote_granted);
    assert_int_equal(log_term(w->log), 7);
    assert_int_equal(log_vote(w->log), 2);

    disk_sim_fail(w->disk, DISK_SIM_SYNC, 0, STATUS_IO_ERROR, true);
    receive(w, 3, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                        .request_vote = {.version = 2, .term = 8, .candidate_id = 3,
                                                         .last_log_index = 1, .last_log_term = 1}});
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(w->fatals, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(s1_entries_at_or_below_what_is_applied_are_skipped),
        TEST(s1_a_leader_that_contradicts_what_is_committed_stops_the_node),
        TEST(s2_a_configuration_goes_alone),
        TEST(s3_a_rejected_candidate_learns_our_term),
        TEST(s4_a_rejection_at_or_below_match_takes_nothing_back),
        TEST(s5_a_membership_change_waits_for_an_entry_of_our_term),
        TEST(s5_a_majority_that_is_near_is_enough_to_go_without_a_voter),
        TEST(s5_who_is_made_a_voter_has_caught_up),
        TEST(s6_no_snapshot_leaves_before_its_file_has),
        TEST(s8_a_flush_of_truncated_entries_is_not_believed),
        TEST(s8_terms_of_what_the_disk_has_yet_to_store_are_kept),
        TEST(s8_nothing_is_committed_while_a_snapshot_is_being_installed),
        TEST(s9_commits_are_pushed),
        TEST(s9_a_pushed_commit_is_taken_without_an_answer),
        TEST(s10_a_leader_alone_still_believes_that_it_leads),
        TEST(s11_a_leader_whose_disk_hangs_hands_over_then_stops),
        TEST(s11_what_a_node_has_slept_is_no_hang_of_its_disk),
        TEST(the_term_is_on_disk_before_a_vote_leaves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
