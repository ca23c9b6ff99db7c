/* test_replica_damage.c — a node whose log has lost what it had acknowledged: it is nobody until its peers have given it
 * back, because a leader elected by its vote, or itself as leader, could overwrite what was committed with its help. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cluster/replica.h"
#include "log.h"
#include "tests/sim/world/disk_sim.h"

#define SELF    1
#define ENTRIES 100 /* the members, and 99 commands: some segments of 1 KB */

struct world {
    struct disk_sim *disk;
    struct log *log;
    struct replica *replica;
    uint64_t now;
    unsigned votes, acknowledgements, others; /* sent */
    uint64_t acknowledged;
    bool granted;
};

static void on_send(void *context, const struct raft_message *message, struct log_entry *const *entries, uint32_t count)
{
    struct world *w = context;
    (void)entries;
    (void)count;
    if (message->type == RAFT_REQUEST_VOTE_RESULT) {
        w->votes++;
        w->granted = message->request_vote_result.vote_granted;
    } else if (message->type == RAFT_APPEND_ENTRIES_RESULT) {
        w->acknowledgements++;
        w->acknowledged = message->append_entries_result.last_log_index;
    } else {
        w->others++;
    }
}

static void on_push(void *context, const struct raft_message *message)
{
    on_send(context, message, NULL, 0);
}

static void on_snapshot_needed(void *context, uint32_t peer)
{
    (void)context;
    (void)peer;
}

static void on_install(void *context, const struct replica_snapshot *snapshot)
{
    (void)context;
    (void)snapshot;
}

static void on_fatal(void *context, enum status status, const char *reason)
{
    (void)context;
    fail_msg("%s: %s", reason, status_text(status));
}

static void on_flushed(void *context, enum status status, uint64_t durable)
{
    struct world *w = context;
    assert_int_equal(status, STATUS_OK);
    if (w->replica != NULL)
        replica_flushed(w->replica, durable);
}

static void open_log(struct world *w, bool create, bool repair)
{
    struct log_fault fault;
    struct log_options options = {.disk = disk_sim_disk(w->disk), .directory = "/log", .create = create,
                                  .repair = repair, .queue = disk_sim_queue(w->disk), .flushed = on_flushed,
                                  .context = w, .segment_bytes = 1024};
    enum status status = log_open(&options, &w->log, &fault);
    if (status != STATUS_OK)
        fail_msg("%s: %s", status_text(status), fault.text);
}

static void close_log(struct world *w)
{
    disk_sim_run_all(w->disk);
    log_close(w->log);
    w->log = NULL;
}

static void given_entries(struct world *w)
{
    static const uint32_t nodes[] = {1, 2, 3};
    struct buffer members = {0};
    replica_bootstrap_configuration(nodes, 3, &members);
    assert_int_equal(log_set_term(w->log, 1, 0), STATUS_OK);
    for (unsigned i = 0; i < ENTRIES; i++) {
        struct log_entry *entry = i == 0 ? log_entry_new(1, LOG_CHANGE, members.data, members.size)
                                         : log_entry_new(1, LOG_COMMAND, "a command of some bytes", 23);
        assert_int_equal(log_append(w->log, &entry, 1), STATUS_OK);
        log_entry_release(entry);
        log_flush(w->log);
        disk_sim_run_all(w->disk);
    }
    buffer_release(&members);
}

static void start_replica(struct world *w)
{
    static const struct replica_calls calls = {on_send, on_snapshot_needed, on_install, on_fatal, on_push};
    const struct replica_settings settings = {
        .self = SELF, .election_ms = 300, .heartbeat_ms = 50, .in_flight_max = 1024, .seed = 5};
    w->replica = replica_new(&settings, &calls, w, w->log);
    assert_int_equal(replica_start(w->replica, w->now, &(struct replica_snapshot){0}, 0, 0), STATUS_OK);
    disk_sim_run_all(w->disk);
}

/* A node that starts with a rotten second segment, as node/data.c opens it. */
static int given_a_damaged_node(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);
    w->now = 1000;
    w->disk = disk_sim_new(&(struct disk_sim_options){.seed = 1, .job_us_min = 100, .job_us_max = 100});
    disk_make_directory(disk_sim_disk(w->disk), "/log");
    open_log(w, true, false);
    given_entries(w);
    close_log(w);
    disk_sim_flip(w->disk, "/log/0000000000000002.segment", 500, 4);
    open_log(w, false, true);
    assert_int_equal(log_owed(w->log), ENTRIES);
    assert_in_range(log_last(w->log), 2, ENTRIES - 1);
    start_replica(w);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    replica_free(w->replica);
    w->replica = NULL;
    close_log(w);
    disk_sim_free(w->disk);
    free(w);
    return 0;
}

static void receive(struct world *w, struct raft_message message)
{
    w->votes = w->acknowledgements = w->others = 0;
    replica_receive(w->replica, 2, &message, NULL, 0, bytes_of(NULL, 0));
}

static void when_asked_for_its_vote(struct world *w)
{
    receive(w, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                     .request_vote = {.version = 2, .term = 7, .candidate_id = 2,
                                                      .disrupt_leader = true, .last_log_index = ENTRIES,
                                                      .last_log_term = 1}});
}

static void when_nobody_is_heard_for_long(struct world *w)
{
    for (int i = 0; i < 200; i++)
        replica_advance(w->replica, w->now += 50);
}

/* The leader sends what is missing, up to and including `last`. */
static void when_given(struct world *w, uint64_t last)
{
    struct log_entry *entries[ENTRIES];
    uint64_t previous = log_last(w->log);
    uint32_t count = 0;
    for (uint64_t index = previous + 1; index <= last; index++)
        entries[count++] = log_entry_new(1, LOG_COMMAND, "a command of some bytes", 23);
    struct raft_message append = {.type = RAFT_APPEND_ENTRIES,
                                  .append_entries = {.term = 1, .prev_log_index = previous, .prev_log_term = 1,
                                                     .leader_commit = previous}};
    replica_receive(w->replica, 2, &append, entries, count, bytes_of(NULL, 0));
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
    replica_flush(w->replica);
    disk_sim_run_all(w->disk);
}

/* ---- tests ---- */

static void it_does_not_vote(void **state)
{
    struct world *w = *state;
    assert_true(replica_damaged(w->replica));
    when_asked_for_its_vote(w);
    assert_int_equal(w->votes, 0);
    assert_int_equal(log_vote(w->log), 0);
    assert_int_equal(log_term(w->log), 1);
}

static void it_does_not_stand_for_election(void **state)
{
    struct world *w = *state;
    when_nobody_is_heard_for_long(w);
    assert_int_equal(replica_role(w->replica), RAFT_FOLLOWER);
    assert_int_equal(w->others, 0);
    receive(w, (struct raft_message){.type = RAFT_TIMEOUT_NOW,
                                     .timeout_now = {.version = 1, .term = 1, .last_log_index = log_last(w->log),
                                                     .last_log_term = 1}});
    assert_int_equal(replica_role(w->replica), RAFT_FOLLOWER);
    assert_int_equal(w->others, 0);
}

static void it_takes_what_its_leader_gives_and_acknowledges_only_that(void **state)
{
    struct world *w = *state;
    uint64_t last = log_last(w->log);
    when_given(w, last + 1);
    assert_true(w->acknowledgements > 0);
    assert_int_equal(w->acknowledged, last + 1);
}

static void one_entry_less_than_it_owes_is_not_enough(void **state)
{
    struct world *w = *state;
    when_given(w, ENTRIES - 1);
    assert_true(replica_damaged(w->replica));
    when_asked_for_its_vote(w);
    assert_int_equal(w->votes, 0);
    when_nobody_is_heard_for_long(w);
    assert_int_equal(replica_role(w->replica), RAFT_FOLLOWER);
}

static void a_restart_does_not_make_it_forget_that_it_owes(void **state)
{
    struct world *w = *state;
    when_given(w, ENTRIES - 1);
    replica_free(w->replica);
    w->replica = NULL;
    close_log(w);
    open_log(w, false, false);
    start_replica(w);
    when_asked_for_its_vote(w);
    assert_int_equal(w->votes, 0);
}

static void with_all_of_it_back_it_votes(void **state)
{
    struct world *w = *state;
    when_given(w, ENTRIES);
    assert_false(replica_damaged(w->replica));
    when_asked_for_its_vote(w);
    assert_int_equal(w->votes, 1);
    assert_true(w->granted);
    assert_int_equal(log_vote(w->log), 2);
}

static void with_all_of_it_back_it_stands_for_election(void **state)
{
    struct world *w = *state;
    when_given(w, ENTRIES);
    when_nobody_is_heard_for_long(w);
    assert_int_equal(replica_role(w->replica), RAFT_CANDIDATE);
}

#define DAMAGED(test) cmocka_unit_test_setup_teardown(test, given_a_damaged_node, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        DAMAGED(it_does_not_vote),
        DAMAGED(it_does_not_stand_for_election),
        DAMAGED(it_takes_what_its_leader_gives_and_acknowledges_only_that),
        DAMAGED(one_entry_less_than_it_owes_is_not_enough),
        DAMAGED(a_restart_does_not_make_it_forget_that_it_owes),
        DAMAGED(with_all_of_it_back_it_votes),
        DAMAGED(with_all_of_it_back_it_stands_for_election),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
