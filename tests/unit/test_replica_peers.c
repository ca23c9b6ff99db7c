/* test_replica_peers.c — peers that say what no honest one says (S12, see trust.h), and peers that forget what they
 * had acknowledged. See replica_world.h. */
#include "replica_world.h"

/* ---- S12 ---- */

static struct raft_message install_of(uint64_t term, uint64_t index, uint64_t index_term)
{
    return (struct raft_message){.type = RAFT_INSTALL_SNAPSHOT,
                                 .install_snapshot = {.version = 1, .term = term, .last_index = index,
                                                      .last_term = index_term, .conf_index = 1}};
}

static struct raft_message vote_of(uint32_t candidate, uint64_t term)
{
    return (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                 .request_vote = {.version = 2, .term = term, .candidate_id = candidate,
                                                  .last_log_index = 99, .last_log_term = 1}};
}

static void another_leader_of_our_term(void)
{
    struct bare bare;
    bare_start(&bare, 5, 0);
    bare_elect(&bare);
    bare_receive(&bare, 2, append_of(2, 6, 1, 1));
}

static void a_vote_of_a_term_that_was_not_asked_for(void)
{
    struct bare bare;
    bare_start(&bare, 5, 0);
    bare_timeout(&bare);
    bare_receive(&bare, 2, vote_result(9, true));
}

static void members_of_no_bytes(void)
{
    struct bare bare;
    struct raft_entry change = {.term = 1, .type = RAFT_CHANGE, .buf = {&bare, 0}};
    bare_start(&bare, 0, 0);
    bare_receive_entries(&bare, append_of(1, 1, 1, 1), &change, 1);
}

static void then_refused(struct world *w, struct raft_message message, struct bytes configuration)
{
    uint64_t term = replica_term(w->replica), last = log_last(w->log);
    enum raft_state role = replica_role(w->replica);
    w->sent_count = 0;
    assert_non_null(replica_receive(w->replica, 2, &message, NULL, 0, configuration));
    assert_int_equal(replica_term(w->replica), term);
    assert_int_equal(replica_role(w->replica), role);
    assert_int_equal(log_last(w->log), last);
    assert_int_equal(w->sent_count + w->installs + w->fatals, 0);
}

static void then_change_refused(struct world *w, struct bytes members)
{
    struct raft_message append = append_of(1, 1, 1, 1);
    struct log_entry *entry = log_entry_new(1, LOG_CHANGE, members.data, members.size);
    w->sent_count = 0;
    assert_non_null(replica_receive(w->replica, 2, &append, &entry, 1, bytes_of(NULL, 0)));
    assert_int_equal(log_last(w->log), 1);
    assert_int_equal(replica_members(w->replica), 0x0E);
    log_entry_release(entry);
}

static void s12_nobody_else_leads_in_our_term(void **state)
{
    struct world *w = *state;
    struct buffer members = {0};
    assert_true(it_aborts(another_leader_of_our_term));

    configuration_of(3, &members);
    given_replica(w, 5, 0);
    given_leader(w);
    then_refused(w, append_of(2, 6, 1, 1), bytes_of(NULL, 0));
    then_refused(w, install_of(2, 50, 2), buffer_bytes(&members));
    buffer_release(&members);
}

static void s12_a_vote_counts_only_for_the_term_that_was_asked_for(void **state)
{
    struct world *w = *state;
    assert_true(it_aborts(a_vote_of_a_term_that_was_not_asked_for));

    given_replica(w, 5, 0);
    for (; replica_role(w->replica) != RAFT_CANDIDATE; w->now += 10)
        replica_advance(w->replica, w->now);
    then_refused(w, vote_result(9, true), bytes_of(NULL, 0));
}

static void s12_a_term_that_cannot_have_come_is_not_believed(void **state)
{
    struct world *w = *state;
    given_replica(w, 5, 0);
    then_refused(w, append_of(UINT64_MAX, 6, 1, 1), bytes_of(NULL, 0)); /* no term would be left for an election */
    then_refused(w, vote_of(2, UINT64_MAX), bytes_of(NULL, 0));
    then_refused(w, append_result(1ull << 40, 0, 6), bytes_of(NULL, 0));
}

static void s12_a_vote_is_asked_for_oneself(void **state)
{
    struct world *w = *state;
    given_replica(w, 5, 0);
    then_refused(w, vote_of(3, 7), bytes_of(NULL, 0));
}

/* The library's decoder reads on behind the end, takes any id, and leaves freed members behind when it fails. */
static void s12_members_are_looked_at_before_the_library_decodes_them(void **state)
{
    struct world *w = *state;
    struct buffer members = {0};
    assert_true(it_aborts(members_of_no_bytes));

    given_replica(w, 0, 0);
    configuration_of(4, &members);
    for (size_t size = 0; size < members.size; size++) {
        then_change_refused(w, bytes_of(members.data, size));
        then_refused(w, install_of(1, 50, 1), bytes_of(members.data, size));
    }
    for (size_t i = 0; i < 9 + 8; i++) { /* format, count, and the first id */
        members.data[i] ^= 0x42;
        then_change_refused(w, buffer_bytes(&members));
        then_refused(w, install_of(1, 50, 1), buffer_bytes(&members));
        members.data[i] ^= 0x42;
    }
    members.data[9] = 2; /* twice the same */
    then_change_refused(w, buffer_bytes(&members));
    then_refused(w, install_of(1, 50, 1), buffer_bytes(&members));
    buffer_release(&members);
}

static void s12_no_snapshot_contradicts_a_committed_entry(void **state)
{
    struct world *w = *state;
    struct buffer members = {0};
    configuration_of(3, &members);
    given_replica(w, 5, 0);
    receive(w, 2, append_of(2, 6, 1, 6));
    assert_int_equal(replica_commit(w->replica), 6);
    then_refused(w, install_of(2, 5, 2), buffer_bytes(&members));
    buffer_release(&members);
}

static void s12_a_log_begins_with_the_members(void **state)
{
    struct world *w = *state;
    struct buffer members = {0};
    struct raft_message append = append_of(2, 0, 0, 0);
    configuration_of(3, &members);
    given_replica(w, 5, 0);
    struct log_entry *entries[] = {log_entry_new(1, LOG_COMMAND, "x", 1),
                                   log_entry_new(2, LOG_CHANGE, members.data, members.size)};
    for (int i = 0; i < 2; i++) {
        assert_non_null(replica_receive(w->replica, 2, &append, &entries[i], 1, bytes_of(NULL, 0)));
        log_entry_release(entries[i]);
    }
    buffer_release(&members);
}

/* ---- peers that forget ---- */

static void a_peer_that_forgot_what_it_acknowledged_makes_us_hand_over(void **state)
{
    struct world *w = *state;
    given_replica(w, 5, 0);
    given_leader(w);
    receive(w, 2, append_result(2, 0, 7));
    receive(w, 3, append_result(2, 0, 7));
    bool handed_over = false;
    for (int i = 0; i < 40; i++) {
        w->now += 50;
        replica_advance(w->replica, w->now);
        receive(w, 2, append_result(2, 0, 7));
        receive(w, 3, append_result(2, 7, 2)); /* its log was repaired */
        const struct raft_message *message = sent_of(w, RAFT_TIMEOUT_NOW);
        if (message != NULL) {
            assert_int_equal(message->server_id, 2);
            handed_over = true;
        }
    }
    assert_true(handed_over);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(s12_nobody_else_leads_in_our_term),
        TEST(s12_a_vote_counts_only_for_the_term_that_was_asked_for),
        TEST(s12_a_term_that_cannot_have_come_is_not_believed),
        TEST(s12_a_vote_is_asked_for_oneself),
        TEST(s12_members_are_looked_at_before_the_library_decodes_them),
        TEST(s12_no_snapshot_contradicts_a_committed_entry),
        TEST(s12_a_log_begins_with_the_members),
        TEST(a_peer_that_forgot_what_it_acknowledged_makes_us_hand_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
