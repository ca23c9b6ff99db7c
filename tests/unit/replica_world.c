#include "replica_world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

void configuration_of(uint32_t count, struct buffer *out)
{
    static const uint32_t nodes[] = {1, 2, 3, 4, 5};
    buffer_clear(out);
    replica_bootstrap_configuration(nodes, count, out);
}

/* ---- the bare library ---- */

int bare_step(struct bare *bare, struct raft_event *event)
{
    event->time = bare->now;
    event->capacity = 0;
    int error = raft_step(&bare->raft, event, &bare->update);
    if (error == 0 && (bare->update.flags & RAFT_UPDATE_ENTRIES))
        raft_free(bare->update.entries.batch[0].batch);
    return error;
}

void bare_start(struct bare *bare, unsigned commands, uint64_t snapshot_index)
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

int bare_receive(struct bare *bare, uint32_t from, struct raft_message message)
{
    struct raft_event event = {.type = RAFT_RECEIVE, .receive = {.message = &message}};
    message.server_id = from;
    message.server_address = from == 2 ? "2" : "3";
    return bare_step(bare, &event);
}

struct raft_message append_of(uint64_t term, uint64_t previous, uint64_t previous_term, uint64_t commit)
{
    return (struct raft_message){.type = RAFT_APPEND_ENTRIES,
                                 .append_entries = {.term = term, .prev_log_index = previous,
                                                    .prev_log_term = previous_term, .leader_commit = commit}};
}

int bare_receive_entries(struct bare *bare, struct raft_message message, struct raft_entry *entries, unsigned n)
{
    void *batch = raft_malloc(1);
    for (unsigned i = 0; i < n; i++)
        entries[i].batch = batch;
    message.append_entries.entries = entries;
    message.append_entries.n_entries = n;
    return bare_receive(bare, 2, message);
}

struct raft_message vote_result(uint64_t term, bool pre_vote)
{
    return (struct raft_message){
        .type = RAFT_REQUEST_VOTE_RESULT,
        .request_vote_result = {.version = 2, .term = term, .vote_granted = true, .pre_vote = pre_vote}};
}

struct raft_message append_result(uint64_t term, uint64_t rejected, uint64_t last)
{
    return (struct raft_message){
        .type = RAFT_APPEND_ENTRIES_RESULT,
        .append_entries_result = {.version = 2, .term = term, .rejected = rejected, .last_log_index = last}};
}

void bare_timeout(struct bare *bare)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    bare->now = raft_timeout(&bare->raft);
    assert_int_equal(bare_step(bare, &event), 0);
}

void bare_elect(struct bare *bare)
{
    bare_timeout(bare);
    bare_receive(bare, 2, vote_result(2, true));
    bare_receive(bare, 2, vote_result(2, false));
    assert_int_equal(raft_state(&bare->raft), RAFT_LEADER);
}

int bare_submit(struct bare *bare, int type, struct bytes data)
{
    struct raft_entry entry = {.term = 2, .type = type, .buf = {(void *)data.data, data.size}, .batch = raft_malloc(1)};
    struct raft_event event = {.type = RAFT_SUBMIT, .submit = {.entries = &entry, .n = 1}};
    return bare_step(bare, &event);
}

void bare_stop(struct bare *bare)
{
    raft_close(&bare->raft, NULL);
}

bool it_aborts(void (*scene)(void))
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

int setup(void **state)
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

int teardown(void **state)
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

static void make_replica(struct world *w)
{
    static const struct replica_calls calls = {on_send, on_snapshot_needed, on_install, on_fatal, on_push};
    struct replica_settings settings = {.self = SELF, .life = w->life, .election_ms = 300, .heartbeat_ms = 50,
                                        .in_flight_max = 1024, .seed = 5};
    w->replica = replica_new(&settings, &calls, w, w->log);
}

void given_replica(struct world *w, unsigned commands, uint64_t snapshot_index)
{
    struct buffer members = {0};
    configuration_of(w->five ? 5 : 3, &members);
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
    make_replica(w);
    assert_int_equal(replica_start(w->replica, w->now, &snapshot, snapshot_index, snapshot_index ? 1 : 0), STATUS_OK);
    disk_sim_run_all(w->disk);
    buffer_release(&members);
}

void given_replacement(struct world *w)
{
    w->life = (struct node_life){7, 0x99};
    make_replica(w);
    assert_int_equal(replica_start(w->replica, w->now, &(struct replica_snapshot){0}, 0, 0), STATUS_OK);
}

void receive(struct world *w, uint32_t from, struct raft_message message)
{
    w->sent_count = 0;
    replica_receive(w->replica, from, &message, NULL, 0, bytes_of(NULL, 0));
}

void receive_entries(struct world *w, struct raft_message message, struct log_entry **entries, uint32_t count)
{
    w->sent_count = 0;
    replica_receive(w->replica, 2, &message, entries, count, bytes_of(NULL, 0));
    for (uint32_t i = 0; i < count; i++)
        log_entry_release(entries[i]);
}

void when_flushed(struct world *w)
{
    replica_flush(w->replica);
    disk_sim_run_all(w->disk);
}

void given_leader(struct world *w)
{
    for (w->now = 1000; replica_role(w->replica) != RAFT_CANDIDATE; w->now += 10)
        replica_advance(w->replica, w->now);
    for (uint32_t node = 2; node <= (w->five ? 3 : 2); node++)
        receive(w, node, vote_result(2, true));
    for (uint32_t node = 2; node <= (w->five ? 3 : 2); node++)
        receive(w, node, vote_result(2, false));
    assert_int_equal(replica_role(w->replica), RAFT_LEADER);
    when_flushed(w);
}

const struct raft_message *sent_of(const struct world *w, enum raft_message_type type)
{
    for (unsigned i = 0; i < w->sent_count; i++)
        if (w->sent[i].type == type)
            return &w->sent[i];
    return NULL;
}
