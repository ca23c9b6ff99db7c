/* test_replica.c — what we owe to the raft library: S1 to S13, see replica.h.
 *
 * Each test shows first what the bare library does (in a child process where it aborts), then that the same events do no
 * harm behind replica.h. If a test fails in its first half, the library has changed: look whether we still need ours.
 *
 * S7 is kept by the frames' sequence (test_consensus.c: frames_of_an_older_connection_are_dropped); what happens
 * without it is S4's abort. S10 is kept by asking nobody who leads: without_a_majority_nothing_is_committed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cluster/replica.h"
#include "log.h"
#include "tests/sim/world/disk_sim.h"

#define SELF 1
#define MESSAGES 64

static void configuration_of(uint32_t count, struct buffer *out)
{
    static const uint32_t nodes[] = {1, 2, 3, 4};
    buffer_clear(out);
    replica_bootstrap_configuration(nodes, count, out);
}

/* ---- the bare library ---- */

struct bare {
    struct raft raft;
    struct raft_update update;
    raft_time now;
};

static int bare_step(struct bare *bare, struct raft_event *event)
{
    event->time = bare->now;
    event->capacity = 0;
    int error = raft_step(&bare->raft, event, &bare->update);
    if (error == 0 && (bare->update.flags & RAFT_UPDATE_ENTRIES))
        raft_free(bare->update.entries.batch[0].batch);
    return error;
}

/* Three members; entry 1 and `commands` more, all of term 1; behind a snapshot up to `snapshot_index` if that is not 0. */
static void bare_start(struct bare *bare, unsigned commands, uint64_t snapshot_index)
{
    struct buffer members = {0};
    struct raft_entry entries[32] = {{.term = 1, .type = RAFT_CHANGE}};
    struct raft_snapshot_metadata metadata = {.index = snapshot_index, .term = 1, .configuration_index = 1};
    struct raft_event event = {.type = RAFT_START, .start = {.term = 1, .start_index = snapshot_index + 1}};
    memset(bare, 0, sizeof *bare);
    bare->now = 1000;
    configuration_of(3, &members);
    raft_init(&bare->raft, NULL, NULL, SELF, "1");
    raft_set_election_timeout(&bare->raft, 300);
    raft_set_heartbeat_timeout(&bare->raft, 50);
    raft_set_pre_vote(&bare->raft, true);
    struct raft_buffer buffer = {members.data, members.size};
    entries[0].buf = buffer;
    for (unsigned i = 1; i <= commands; i++)
        entries[i] = (struct raft_entry){.term = 1, .type = RAFT_COMMAND};
    if (snapshot_index != 0) {
        assert_int_equal(raft_configuration_decode(&buffer, &metadata.configuration), 0);
        event.start.metadata = &metadata;
    } else {
        event.start.entries = entries;
        event.start.n_entries = commands + 1;
    }
    assert_int_equal(bare_step(bare, &event), 0);
    buffer_release(&members);
}

static int bare_receive(struct bare *bare, uint32_t from, struct raft_message message)
{
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = &message}};
    message.server_id = from;
    message.server_address = from == 2 ? "2" : "3";
    return bare_step(bare, &event);
}

static struct raft_message append_of(uint64_t term, uint64_t previous, uint64_t previous_term, uint64_t commit)
{
    return (struct raft_message){.type = RAFT_APPEND_ENTRIES,
                                 .append_entries = {.term = term, .prev_log_index = previous,
                                                    .prev_log_term = previous_term, .leader_commit = commit}};
}

static int bare_receive_entries(struct bare *bare, struct raft_message message, struct raft_entry *entries, unsigned n)
{
    void *batch = raft_malloc(1);
    for (unsigned i = 0; i < n; i++)
        entries[i].batch = batch;
    message.append_entries.entries = entries;
    message.append_entries.n_entries = n;
    return bare_receive(bare, 2, message);
}

static struct raft_message vote_result(uint64_t term, bool pre_vote)
{
    return (struct raft_message){
        .type = RAFT_REQUEST_VOTE_RESULT,
        .request_vote_result = {.version = 2, .term = term, .vote_granted = true, .pre_vote = pre_vote}};
}

static struct raft_message append_result(uint64_t term, uint64_t rejected, uint64_t last)
{
    return (struct raft_message){
        .type = RAFT_APPEND_ENTRIES_RESULT,
        .append_entries_result = {.version = 2, .term = term, .rejected = rejected, .last_log_index = last}};
}

static void bare_timeout(struct bare *bare)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    bare->now = raft_timeout(&bare->raft);
    assert_int_equal(bare_step(bare, &event), 0);
}

static void bare_elect(struct bare *bare)
{
    bare_timeout(bare);
    bare_receive(bare, 2, vote_result(2, true));
    bare_receive(bare, 2, vote_result(2, false));
    assert_int_equal(raft_state(&bare->raft), RAFT_LEADER);
}

static int bare_submit(struct bare *bare, int type, struct bytes data)
{
    struct raft_entry entry = {.term = 2, .type = type, .buf = {(void *)data.data, data.size}, .batch = raft_malloc(1)};
    struct raft_event event = {.type = RAFT_SUBMIT, .submit = {.entries = &entry, .n = 1}};
    return bare_step(bare, &event);
}

static void bare_stop(struct bare *bare)
{
    raft_close(&bare->raft, NULL);
}

/* Whether `scene` ends in an assertion of the library. In a child, with its last words muted. */
static bool it_aborts(void (*scene)(void))
{
    int status = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(2);
        scene();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

/* ---- behind replica.h ---- */

struct world {
    struct disk_sim *disk;
    struct log *log;
    struct replica *replica;
    struct node_life life;
    uint64_t now;
    struct raft_message sent[MESSAGES];
    uint32_t sent_entries[MESSAGES];
    unsigned sent_count;
    unsigned snapshots_needed, installs, fatals;
    enum status fatal;
};

static void on_send(void *context, const struct raft_message *message, struct log_entry *const *entries, uint32_t count)
{
    struct world *w = context;
    (void)entries;
    assert_true(w->sent_count < MESSAGES);
    w->sent_entries[w->sent_count] = count;
    w->sent[w->sent_count++] = *message;
}

static void on_push(void *context, const struct raft_message *message)
{
    on_send(context, message, NULL, 0);
}

static void on_snapshot_needed(void *context, uint32_t peer)
{
    (void)peer;
    ((struct world *)context)->snapshots_needed++;
}

static void on_install(void *context, const struct replica_snapshot *snapshot)
{
    (void)snapshot;
    ((struct world *)context)->installs++;
}

static void on_fatal(void *context, enum status status, const char *reason)
{
    struct world *w = context;
    (void)reason;
    w->fatals++;
    w->fatal = status;
}

static void on_flushed(void *context, enum status status, uint64_t durable)
{
    struct world *w = context;
    assert_int_equal(status, STATUS_OK);
    if (w->replica != NULL)
        replica_flushed(w->replica, durable);
}

static int setup(void **state)
{
    struct world *w = memory_zeroed(1, sizeof *w);
    struct log_fault fault;
    w->disk = disk_sim_new(&(struct disk_sim_options){.seed = 1, .job_us_min = 100, .job_us_max = 100});
    disk_make_directory(disk_sim_disk(w->disk), "log");
    struct log_options options = {.disk = disk_sim_disk(w->disk), .directory = "log", .create = true,
                                  .queue = disk_sim_queue(w->disk), .flushed = on_flushed, .context = w};
    assert_int_equal(log_open(&options, &w->log, &fault), STATUS_OK);
    w->now = 1000;
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    replica_free(w->replica);
    disk_sim_hang(w->disk, false);
    w->replica = NULL;
    disk_sim_run_all(w->disk);
    log_close(w->log);
    disk_sim_free(w->disk);
    free(w);
    return 0;
}

static void log_add(struct world *w, uint64_t term, enum log_entry_type type, struct bytes data)
{
    struct log_entry *entry = log_entry_new(term, type, data.data, data.size);
    assert_int_equal(log_append(w->log, &entry, 1), STATUS_OK);
    log_entry_release(entry);
}

static void given_replica(struct world *w, unsigned commands, uint64_t snapshot_index)
{
    static const struct replica_calls calls = {on_send, on_snapshot_needed, on_install, on_fatal, on_push};
    struct replica_settings settings = {.self = SELF, .life = w->life, .election_ms = 300, .heartbeat_ms = 50, .in_flight_max = 1024,
                                        .seed = 5};
    struct buffer members = {0};
    configuration_of(3, &members);
    struct replica_snapshot snapshot = {.index = snapshot_index, .term = 1, .configuration_index = 1,
                                        .configuration = buffer_bytes(&members)};
    assert_int_equal(log_set_term(w->log, 1, 0), STATUS_OK);
    if (snapshot_index == 0) {
        log_add(w, 1, LOG_CHANGE, buffer_bytes(&members));
        for (unsigned i = 0; i < commands; i++)
            log_add(w, 1, LOG_COMMAND, bytes_text("x"));
        log_flush(w->log);
        disk_sim_run_all(w->disk);
    }
    w->replica = replica_new(&settings, &calls, w, w->log);
    assert_int_equal(replica_start(w->replica, w->now, &snapshot, snapshot_index, snapshot_index ? 1 : 0), STATUS_OK);
    disk_sim_run_all(w->disk);
    buffer_release(&members);
}

static void receive(struct world *w, uint32_t from, struct raft_message message)
{
    w->sent_count = 0;
    replica_receive(w->replica, from, &message, NULL, 0, bytes_of(NULL, 0));
}

static void receive_entries(struct world *w, struct raft_message message, struct log_entry **entries, uint32_t count)
{
    w->sent_count = 0;
    replica_receive(w->replica, 2, &message, entries, count, bytes_of(NULL, 0));
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
}

static void when_flushed(struct world *w)
{
    replica_flush(w->replica);
    disk_sim_run_all(w->disk);
}

static void given_leader(struct world *w)
{
    for (w->now = 1000; replica_role(w->replica) != RAFT_CANDIDATE; w->now += 10)
        replica_advance(w->replica, w->now);
    receive(w, 2, vote_result(2, true));
    receive(w, 2, vote_result(2, false));
    assert_int_equal(replica_role(w->replica), RAFT_LEADER);
    when_flushed(w);
}

static const struct raft_message *sent_of(const struct world *w, enum raft_message_type type)
{
    for (unsigned i = 0; i < w->sent_count; i++)
        if (w->sent[i].type == type)
            return &w->sent[i];
    return NULL;
}

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
    struct log_entry *entry = log_entry_new(2, LOG_COMMAND, "x", 1);
    assert_int_equal(replica_submit(w->replica, &entry, 1), STATUS_OK);
    log_entry_release(entry);
    when_flushed(w);
    receive(w, 2, append_result(2, 0, 2));
    assert_int_equal(replica_commit(w->replica), 2);
    assert_int_equal(replica_change(w->replica, buffer_bytes(&two)), STATUS_OK);
    assert_int_equal(replica_change(w->replica, buffer_bytes(&two)), STATUS_BUSY); /* one at a time */
    buffer_release(&two);
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
    assert_true(w->snapshots_needed > 0); /* its owner sends one: test_consensus.c */
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
    struct log_entry *entry = log_entry_new(2, LOG_COMMAND, "x", 1);
    assert_int_equal(replica_submit(w->replica, &entry, 1), STATUS_OK);
    log_entry_release(entry);
    when_flushed(w);
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
    static const struct replica_calls calls = {on_send, on_snapshot_needed, on_install, on_fatal, on_push};
    struct world *w = *state;
    struct replica_settings settings = {.self = SELF, .life = {7, 7}, .election_ms = 300, .heartbeat_ms = 50,
                                        .in_flight_max = 1024, .seed = 5};
    struct replica_snapshot none = {0};
    struct buffer three = {0}, four = {0};
    assert_true(it_aborts(a_change_taken_back_by_who_had_nothing_before));

    configuration_of(3, &three);
    configuration_of(4, &four);
    w->replica = replica_new(&settings, &calls, w, w->log);
    assert_int_equal(replica_start(w->replica, w->now, &none, 0, 0), STATUS_OK);
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
    static const struct replica_calls calls = {on_send, on_snapshot_needed, on_install, on_fatal, on_push};
    struct replica_settings settings = {.self = SELF, .life = {7, 0x99}, .election_ms = 300, .heartbeat_ms = 50,
                                        .in_flight_max = 1024, .seed = 5};
    w->replica = replica_new(&settings, &calls, w, w->log);
    assert_int_equal(replica_start(w->replica, w->now, &(struct replica_snapshot){0}, 0, 0), STATUS_OK);
    for (int i = 0; i < 100; i++)
        replica_advance(w->replica, w->now += 50);
    receive(w, 2, (struct raft_message){.type = RAFT_REQUEST_VOTE,
                                        .request_vote = {.version = 2, .term = 7, .candidate_id = 2}});
    assert_int_equal(w->sent_count, 0);
    assert_int_equal(log_term(w->log), 0);
    assert_int_equal(log_vote(w->log), 0);
}

static void the_leader_takes_a_replacement_in_step_by_step(void **state)
{
    struct world *w = *state;
    enum member_role role;
    given_replica(w, 5, 0);
    given_leader(w);
    receive(w, 3, append_result(2, 0, 7));
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
    given_replica(w, 5, 0);
    given_leader(w);
    receive(w, 3, append_result(2, 0, 7));
    replica_peer_life(w->replica, 2, (struct node_life){7, 0x99});
    assert_int_equal(replica_adopt(w->replica, 2, &role), STATUS_OK);
    when_flushed(w);
    receive(w, 3, append_result(2, 0, 8));
    replica_peer_life(w->replica, 3, (struct node_life){7, 0x98});
    assert_int_equal(replica_adopt(w->replica, 3, &role), STATUS_NOT_FOUND);
    assert_int_equal(role, MEMBER_OTHER);
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
        TEST(s6_no_snapshot_leaves_before_its_file_has),
        TEST(s8_a_flush_of_truncated_entries_is_not_believed),
        TEST(s8_terms_of_what_the_disk_has_yet_to_store_are_kept),
        TEST(s8_nothing_is_committed_while_a_snapshot_is_being_installed),
        TEST(s9_commits_are_pushed),
        TEST(s9_a_pushed_commit_is_taken_without_an_answer),
        TEST(s10_a_leader_alone_still_believes_that_it_leads),
        TEST(s11_a_leader_whose_disk_hangs_hands_over_then_stops),
        TEST(s11_what_a_node_has_slept_is_no_hang_of_its_disk),
        TEST(s12_nobody_else_leads_in_our_term),
        TEST(s12_a_vote_counts_only_for_the_term_that_was_asked_for),
        TEST(s12_a_term_that_cannot_have_come_is_not_believed),
        TEST(s12_a_vote_is_asked_for_oneself),
        TEST(s12_members_are_looked_at_before_the_library_decodes_them),
        TEST(s12_no_snapshot_contradicts_a_committed_entry),
        TEST(s12_a_log_begins_with_the_members),
        TEST(s13_a_change_that_is_taken_back_leaves_the_one_before_it),
        TEST(s13_a_new_node_survives_that_its_admission_is_taken_back),
        TEST(a_peer_that_forgot_what_it_acknowledged_makes_us_hand_over),
        TEST(the_term_is_on_disk_before_a_vote_leaves),
        TEST(r1_another_life_of_a_member_is_neither_asked_nor_counted),
        TEST(r1_a_vote_of_another_life_is_not_counted),
        TEST(r2_a_life_that_is_no_voter_neither_votes_nor_stands),
        TEST(r3_a_replacement_that_has_heard_nothing_is_nobody),
        TEST(the_leader_takes_a_replacement_in_step_by_step),
        TEST(two_voters_are_left_in_any_case),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
