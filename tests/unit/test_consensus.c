/* test_consensus.c — three nodes in one process: real consensus, real log, a simulated disk, virtual time.
 *
 * The world is as simple as can be: frames take 200 µs and arrive in order unless the link is cut; core applies whatever
 * is committed at the end of the turn. Everything else is the code under test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "cluster/consensus.h"
#include "cluster/wire_raft.h"
#include "command.h"
#include "log.h"
#include "tests/sim/world/disk_sim.h"

#define SEGMENT_BYTES (64 * 1024)
#define NODES 4 /* 1 to 3 */
#define ENTRIES 16384
#define FRAME_US 200
#define SNAPSHOT_BYTES (3 * 1024 * 1024)
#define WALL_START 1700000000000ull

struct world;

struct node {
    struct world *world;
    uint32_t id;
    struct node_life life;
    bool running;
    bool paused;
    struct disk_sim *disk;
    struct log *log;
    struct consensus *consensus;
    uint64_t batches;                       /* numbers given out */
    uint64_t applied;                       /* what its core has, and believes durable */
    uint64_t clock;
    struct log_entry *committed[ENTRIES];   /* by index */
    uint64_t committed_us[ENTRIES];
    struct consensus_snapshot snapshot;
    struct buffer snapshot_file, snapshot_configuration, incoming;
    uint64_t snapshot_stored;
    bool finish_incoming;
    uint64_t install;
    unsigned fatals, disconnects, installs;
    enum status fatal;
    uint64_t silent;                        /* as last told */
    struct buffer messages;
};

struct flight {
    uint64_t at_us;
    uint32_t from, to;
    enum link_kind kind;
    uint64_t generation;                    /* the sender's, of the connection it left on */
    uint8_t *data;
    size_t size;
};

struct world {
    uint64_t now_us;
    int64_t wall_offset_ms;
    struct node nodes[NODES];
    struct flight *flights;
    size_t count, capacity;
    bool linked[NODES][NODES];
    uint64_t generation[NODES][NODES][LINK_KINDS];
    uint64_t generations;
    size_t log_bytes_max;
    struct log_entry *truth[ENTRIES];       /* what any node was told is committed at an index: never another */
    unsigned offers;                        /* of snapshots */
};

/* ---- what consensus asks for ---- */

static void on_send(void *context, uint32_t peer, enum link_kind kind, uint8_t *frame, size_t size)
{
    struct node *node = context;
    struct world *world = node->world;
    world->offers += frame[WIRE_LENGTH_SIZE] == WIRE_SNAPSHOT_OFFER;
    if (world->count == world->capacity) {
        world->capacity = world->capacity == 0 ? 64 : 2 * world->capacity;
        world->flights = memory_resize(world->flights, world->capacity * sizeof *world->flights);
    }
    world->flights[world->count++] = (struct flight){
        world->now_us + FRAME_US, node->id, peer, kind, world->generation[node->id][peer][kind], frame, size};
}

static void on_disconnect(void *context, uint32_t peer, enum link_kind kind, uint64_t generation, const char *reason)
{
    struct node *node = context;
    (void)peer, (void)kind, (void)generation, (void)reason;
    node->disconnects++;
}

static void on_commit(void *context, uint64_t index, struct log_entry *entry)
{
    struct node *node = context;
    struct batch_header header;
    struct bytes commands;
    assert_int_equal(index, node->applied + 1);
    assert_true(index < ENTRIES);
    struct log_entry **truth = &node->world->truth[index];
    if (*truth == NULL)
        *truth = log_entry_keep(entry);
    assert_true((*truth)->term == entry->term && bytes_equal(log_entry_bytes(*truth), log_entry_bytes(entry)));
    node->applied = index;
    if (node->committed[index] != NULL)
        log_entry_release(node->committed[index]);
    node->committed[index] = entry;
    node->committed_us[index] = node->world->now_us;
    if (entry->type == LOG_COMMAND) {
        assert_int_equal(batch_decode(consensus_entry_batch(entry), &header, &commands), STATUS_OK);
        assert_true(header.stamp_ms >= node->clock);
        node->clock = header.stamp_ms;
    }
}

static void on_changed(void *context, const struct consensus_status *status)
{
    ((struct node *)context)->silent = status->silent;
}

static enum status on_snapshot_open(void *context, uint64_t index, uint64_t *size)
{
    struct node *node = context;
    if (node->snapshot.index != index)
        return STATUS_NOT_FOUND;
    *size = node->snapshot_file.size;
    return STATUS_OK;
}

static enum status on_snapshot_read(void *context, uint64_t index, uint64_t offset, void *data, size_t size)
{
    struct node *node = context;
    assert_int_equal(index, node->snapshot.index);
    assert_true(offset + size <= node->snapshot_file.size);
    memcpy(data, node->snapshot_file.data + offset, size);
    return STATUS_OK;
}

static void on_snapshot_close(void *context, uint64_t index)
{
    (void)context, (void)index;
}

static enum status on_incoming_open(void *context)
{
    buffer_clear(&((struct node *)context)->incoming);
    return STATUS_OK;
}

static enum status on_incoming_write(void *context, uint64_t offset, struct bytes chunk)
{
    struct node *node = context;
    assert_int_equal(offset, node->incoming.size);
    buffer_put_bytes(&node->incoming, chunk);
    return STATUS_OK;
}

static void on_incoming_finish(void *context)
{
    ((struct node *)context)->finish_incoming = true;
}

static void on_install(void *context, uint64_t index, uint64_t term)
{
    struct node *node = context;
    node->install = index;
    node->snapshot.index = index;
    node->snapshot.term = term;
    node->installs++;
}

static void on_messages(void *context, uint32_t peer, struct bytes messages)
{
    struct node *node = context;
    (void)peer;
    buffer_put_bytes(&node->messages, messages);
}

static void on_peer_applied(void *context, uint32_t peer, uint64_t index)
{
    (void)context, (void)peer, (void)index;
}

static void on_fatal(void *context, enum status status, const char *reason)
{
    struct node *node = context;
    node->fatals++;
    node->fatal = status;
    print_message("node %u: %s\n", node->id, reason);
}

static void on_note(void *context, const char *text)
{
    (void)context, (void)text;
}

static const struct consensus_calls calls = {
    .send = on_send,
    .disconnect = on_disconnect,
    .commit = on_commit,
    .changed = on_changed,
    .snapshot_open = on_snapshot_open,
    .snapshot_read = on_snapshot_read,
    .snapshot_close = on_snapshot_close,
    .incoming_open = on_incoming_open,
    .incoming_write = on_incoming_write,
    .incoming_finish = on_incoming_finish,
    .install = on_install,
    .messages = on_messages,
    .peer_applied = on_peer_applied,
    .fatal = on_fatal,
    .note = on_note,
};

static void on_flushed(void *context, enum status status, uint64_t durable)
{
    struct node *node = context;
    if (node->consensus != NULL)
        consensus_flushed(node->consensus, status, durable);
}

/* ---- the world ---- */

static uint64_t now_ms(const struct world *world)
{
    return world->now_us / 1000;
}

static uint64_t wall_ms(const struct world *world)
{
    return (uint64_t)((int64_t)(WALL_START + now_ms(world)) + world->wall_offset_ms);
}

/* One node's end of the two connections to `peer`. */
static void set_end(struct world *world, uint32_t id, uint32_t peer, bool up)
{
    struct node *node = &world->nodes[id];
    for (int kind = 0; kind < LINK_KINDS && node->running; kind++) {
        uint64_t in = world->generation[peer][id][kind];
        if (up)
            consensus_peer_life(node->consensus, peer, world->nodes[peer].life);
        if (up)
            consensus_link_up(node->consensus, peer, kind, in, world->generation[id][peer][kind]);
        else if (world->linked[id][peer])
            consensus_link_down(node->consensus, peer, kind, in);
    }
}

static void set_link(struct world *world, uint32_t a, uint32_t b, bool up)
{
    up = up && world->nodes[a].running && world->nodes[b].running;
    for (int kind = 0; kind < LINK_KINDS && up; kind++) {
        world->generation[a][b][kind] = ++world->generations;
        world->generation[b][a][kind] = ++world->generations;
    }
    set_end(world, a, b, up);
    set_end(world, b, a, up);
    world->linked[a][b] = world->linked[b][a] = up;
}

static void connect_all(struct world *world)
{
    for (uint32_t a = 1; a < NODES; a++)
        for (uint32_t b = a + 1; b < NODES; b++)
            if (!world->linked[a][b])
                set_link(world, a, b, true);
}

static void start_node(struct world *world, uint32_t id, bool bootstrap)
{
    static const uint32_t members[] = {1, 2, 3};
    struct node *node = &world->nodes[id];
    struct log_fault fault;
    struct log_options options = {
        .disk = disk_sim_disk(node->disk),
        .directory = "log",
        .queue = disk_sim_queue(node->disk),
        .flushed = on_flushed,
        .context = node,
        .create = true,
        .covered = node->snapshot.index,
        .segment_bytes = SEGMENT_BYTES,
    };
    enum status status = log_open(&options, &node->log, &fault);
    if (status != STATUS_OK)
        print_message("log: %s\n", fault.text);
    assert_int_equal(status, STATUS_OK);
    struct consensus_settings settings = {
        .self = id,
        .life = node->life,
        .bootstrap = bootstrap ? members : NULL,
        .bootstrap_count = 3,
        .seed = 77 * id,
        .log_bytes_max = world->log_bytes_max,
    };
    uint64_t term = node->applied == 0 ? 0 : node->committed[node->applied] ? node->committed[node->applied]->term
                                                                            : node->snapshot.term;
    node->consensus = consensus_new(&settings, &calls, node, node->log, &node->snapshot, node->applied, term,
                                    node->clock);
    node->running = true;
    assert_int_equal(consensus_start(node->consensus, now_ms(world), wall_ms(world)), STATUS_OK);
}

static void stop_node(struct world *world, uint32_t id, bool power_loss)
{
    struct node *node = &world->nodes[id];
    for (uint32_t other = 1; other < NODES; other++)
        if (other != id && world->linked[id][other])
            set_link(world, id, other, false);
    consensus_free(node->consensus);
    node->consensus = NULL;
    node->running = false;
    if (power_loss)
        disk_sim_crash(node->disk);
    else
        disk_sim_kill(node->disk);
    log_close(node->log);
    node->log = NULL;
}

static void finish_turn(struct node *node)
{
    if (node->finish_incoming) {
        node->finish_incoming = false;
        consensus_received(node->consensus, STATUS_OK);
    }
    if (node->install != 0) {
        uint64_t index = node->install;
        node->install = 0;
        node->applied = index;
        buffer_clear(&node->snapshot_file);
        buffer_put_bytes(&node->snapshot_file, buffer_bytes(&node->incoming));
        consensus_installed(node->consensus, STATUS_OK, index, node->clock);
        struct bytes configuration =
            consensus_configuration(node->consensus, index, &node->snapshot.configuration_index);
        buffer_clear(&node->snapshot_configuration);
        buffer_put_bytes(&node->snapshot_configuration, configuration);
        node->snapshot.configuration = buffer_bytes(&node->snapshot_configuration);
    }
    consensus_flush(node->consensus);
    consensus_applied(node->consensus, node->applied, node->clock, false);
}

static uint64_t next_event(struct world *world)
{
    uint64_t next = UINT64_MAX;
    for (size_t i = 0; i < world->count; i++)
        if (world->flights[i].at_us < next && !world->nodes[world->flights[i].to].paused)
            next = world->flights[i].at_us;
    for (uint32_t id = 1; id < NODES; id++) {
        struct node *node = &world->nodes[id];
        if (!node->running || node->paused)
            continue;
        uint64_t deadline = consensus_deadline(node->consensus);
        if (deadline < UINT64_MAX / 1000 && deadline * 1000 < next)
            next = deadline * 1000;
        if (disk_sim_next_us(node->disk) < next)
            next = disk_sim_next_us(node->disk);
    }
    return next;
}

/* Takes the frames that have arrived off the list, in the order sent; then hands them over. */
static void deliver_frames(struct world *world)
{
    struct flight *due = memory_allocate((world->count + 1) * sizeof *due);
    size_t due_count = 0, kept = 0;
    for (size_t i = 0; i < world->count; i++) {
        struct flight *flight = &world->flights[i];
        if (flight->at_us > world->now_us || world->nodes[flight->to].paused)
            world->flights[kept++] = *flight;
        else
            due[due_count++] = *flight;
    }
    world->count = kept;
    for (size_t i = 0; i < due_count; i++) {
        struct flight *flight = &due[i];
        struct node *to = &world->nodes[flight->to];
        if (world->linked[flight->from][flight->to] && to->running &&
            flight->generation == world->generation[flight->from][flight->to][flight->kind])
            consensus_receive(to->consensus, flight->from, flight->kind, bytes_of(flight->data, flight->size));
        free(flight->data);
    }
    free(due);
}

static void run_turn(struct world *world)
{
    for (uint32_t id = 1; id < NODES; id++)
        if (world->nodes[id].running && !world->nodes[id].paused)
            consensus_advance(world->nodes[id].consensus, now_ms(world), wall_ms(world));
    deliver_frames(world);
    for (uint32_t id = 1; id < NODES; id++) {
        struct node *node = &world->nodes[id];
        if (!node->running || node->paused)
            continue;
        disk_sim_run(node->disk, world->now_us);
        finish_turn(node);
    }
}

static void run_ms(struct world *world, uint64_t ms)
{
    uint64_t end = world->now_us + ms * 1000;
    for (;;) {
        uint64_t next = next_event(world);
        if (next > end)
            break;
        world->now_us = next > world->now_us ? next : world->now_us + 20;
        run_turn(world);
    }
    world->now_us = end;
    run_turn(world);
}

static uint32_t leader_of(struct world *world)
{
    struct consensus_status status;
    for (uint32_t id = 1; id < NODES; id++) {
        if (!world->nodes[id].running)
            continue;
        consensus_status(world->nodes[id].consensus, &status);
        if (status.role == CONSENSUS_LEADER && status.majority)
            return id;
    }
    return 0;
}

static void submit_size(struct world *world, uint32_t id, size_t size)
{
    struct node *node = &world->nodes[id];
    struct buffer batch = {0};
    uint8_t *payload = memory_zeroed(1, size + 1);
    struct command publish = {.type = COMMAND_PUBLISH,
                              .publish = {.message = {.topic = bytes_text("a"), .payload = {payload, size}}}};
    struct command checkpoint = {.type = COMMAND_CHECKPOINT};
    batch_begin(&batch, id, 1, ++node->batches);
    command_encode(size == 0 ? &checkpoint : &publish, &batch);
    batch_finish(&batch, 0, 1);
    consensus_submit(node->consensus, buffer_bytes(&batch));
    buffer_release(&batch);
    free(payload);
}

static void submit(struct world *world, uint32_t id)
{
    submit_size(world, id, 0);
}

static uint64_t last_applied(struct world *world)
{
    uint64_t most = 0;
    for (uint32_t id = 1; id < NODES; id++)
        most = world->nodes[id].applied > most ? world->nodes[id].applied : most;
    return most;
}

static void then_all_agree_up_to(struct world *world, uint64_t index)
{
    for (uint32_t id = 1; id < NODES; id++) {
        struct node *node = &world->nodes[id];
        assert_int_equal(node->fatals, 0);
        assert_int_equal(node->applied, index);
        for (uint64_t i = 1; i <= index; i++) {
            struct log_entry *mine = node->committed[i], *first = world->nodes[1].committed[i];
            if (mine == NULL || first == NULL)
                continue; /* below a snapshot */
            assert_true(mine->term == first->term && bytes_equal(log_entry_bytes(mine), log_entry_bytes(first)));
        }
    }
}

static int setup(void **state)
{
    struct world *world = memory_zeroed(1, sizeof *world);
    world->now_us = 1000000;
    for (uint32_t id = 1; id < NODES; id++) {
        struct node *node = &world->nodes[id];
        struct disk_sim_options options = {.seed = id, .job_us_min = 100, .job_us_max = 300};
        node->world = world;
        node->id = id;
        node->disk = disk_sim_new(&options);
        assert_int_equal(disk_make_directory(disk_sim_disk(node->disk), "log"), STATUS_OK);
        start_node(world, id, true);
    }
    connect_all(world);
    run_ms(world, 2000);
    *state = world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    for (uint32_t id = 1; id < NODES; id++) {
        struct node *node = &world->nodes[id];
        if (node->running)
            stop_node(world, id, false);
        for (int i = 0; i < ENTRIES; i++)
            log_entry_release(node->committed[i]);
        buffer_release(&node->snapshot_file);
        buffer_release(&node->snapshot_configuration);
        buffer_release(&node->incoming);
        buffer_release(&node->messages);
        disk_sim_free(node->disk);
    }
    for (int i = 0; i < ENTRIES; i++)
        log_entry_release(world->truth[i]);
    for (size_t i = 0; i < world->count; i++)
        free(world->flights[i].data);
    free(world->flights);
    free(world);
    return 0;
}

static uint32_t follower_of(struct world *world)
{
    return leader_of(world) == 1 ? 2 : 1;
}

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
    set_capacity(world, 0);
    run_ms(world, 2000);
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

/* ---- snapshots ---- */

static void take_snapshot(struct world *world, uint32_t id)
{
    struct node *node = &world->nodes[id];
    uint64_t index = node->applied;
    buffer_clear(&node->snapshot_configuration);
    struct bytes configuration =
        consensus_configuration(node->consensus, index, &node->snapshot.configuration_index);
    buffer_put_bytes(&node->snapshot_configuration, configuration);
    node->snapshot.index = index;
    node->snapshot.term = node->committed[index]->term;
    node->snapshot.configuration = buffer_bytes(&node->snapshot_configuration);
    buffer_clear(&node->snapshot_file);
    for (int i = 0; i < SNAPSHOT_BYTES; i++)
        buffer_put_u8(&node->snapshot_file, (uint8_t)i);
    consensus_snapshot_taken(node->consensus, &node->snapshot);
}

/* As if a log of one byte were too long: trimmed at every snapshot, but for what raft wants to keep in front of it. */
static int setup_small_log(void **state)
{
    int result = setup(state);
    struct world *world = *state;
    world->log_bytes_max = 1;
    for (uint32_t id = 1; id < NODES; id++) {
        stop_node(world, id, false);
        start_node(world, id, false);
    }
    connect_all(world);
    run_ms(world, 2000);
    return result;
}

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

static void given_an_empty_disk(struct world *world, uint32_t id)
{
    struct node *node = &world->nodes[id];
    disk_sim_free(node->disk);
    node->disk = disk_sim_new(&(struct disk_sim_options){.seed = 99, .job_us_min = 100, .job_us_max = 300});
    assert_int_equal(disk_make_directory(disk_sim_disk(node->disk), "log"), STATUS_OK);
    for (uint64_t i = 0; i < ENTRIES; i++) {
        log_entry_release(node->committed[i]);
        node->committed[i] = NULL;
    }
    node->applied = node->clock = 0;
    node->snapshot = (struct consensus_snapshot){0};
}

static void an_empty_node_gets_a_snapshot_and_then_entries(void **state)
{
    struct world *world = *state;
    uint32_t lost = follower_of(world);
    stop_node(world, lost, false);
    given_a_trimmed_log(world);
    given_an_empty_disk(world, lost);

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

static void a_snapshot_goes_on_after_the_connection_broke(void **state)
{
    struct world *world = *state;
    uint32_t lost = follower_of(world);
    stop_node(world, lost, false);
    given_a_trimmed_log(world);
    given_an_empty_disk(world, lost);

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
    disk_sim_free(node->disk);
    node->disk = disk_sim_new(&(struct disk_sim_options){.seed = id + 77, .job_us_min = 100, .job_us_max = 300});
    assert_int_equal(disk_make_directory(disk_sim_disk(node->disk), "log"), STATUS_OK);
    for (int i = 0; i < ENTRIES; i++) {
        log_entry_release(node->committed[i]);
        node->committed[i] = NULL;
    }
    node->applied = node->clock = 0;
    node->snapshot = (struct consensus_snapshot){0};
    node->finish_incoming = false;
    node->install = 0;
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
        submit_some(world, leader_of(world), 10);
        run_ms(world, 500);
        then_all_agree_up_to(world, last_applied(world));
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
    submit_some(world, leader_of(world), 10);
    run_ms(world, 500);
    then_all_agree_up_to(world, last_applied(world));
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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_batch_given_to_the_leader_is_committed_on_all_nodes),
        TEST(a_batch_given_to_a_follower_goes_through_the_leader),
        TEST(followers_hear_of_a_commit_within_two_milliseconds),
        TEST(large_entries_and_many_of_them_go_out_in_pieces),
        TEST(qos0_messages_reach_the_peer),
        TEST(another_node_leads_within_a_second_after_the_leader_died),
        TEST(a_power_loss_of_all_nodes_loses_nothing_that_was_committed),
        TEST(without_a_majority_nothing_is_committed),
        TEST(a_silent_node_is_reported_after_two_seconds_and_not_before),
        TEST(a_leader_that_was_paused_itself_counts_silence_anew),
        TEST(a_leader_whose_disk_hangs_hands_over_and_then_gives_up),
        TEST(nodes_whose_disks_are_all_full_go_on_when_there_is_space),
        TEST(leadership_is_handed_over_on_request),
        TEST(a_disk_error_of_the_log_ends_the_node),
        TEST(a_node_whose_state_differs_from_the_majority_stops),
        TEST(stamps_advance_at_rate_one_whatever_the_wall_clock_does),
        TEST(the_wall_clock_bridges_a_gap_in_which_no_node_ran),
        TEST(a_leader_that_has_just_started_asks_its_peers_before_the_wall_clock),
        TEST(frames_of_an_older_connection_are_dropped),
        TEST(a_malformed_frame_ends_the_connection),
        TEST(a_peer_that_claims_to_lead_as_well_is_disconnected),
        TEST(a_wiped_node_is_replaced_while_the_others_serve),
        TEST(each_node_can_be_replaced_one_after_the_other_the_leader_too),
        cmocka_unit_test_setup_teardown(a_replacement_gets_a_snapshot_if_the_log_does_not_begin_at_the_beginning,
                                        setup_small_log, teardown),
        TEST(the_next_leader_goes_on_with_a_replacement),
        TEST(with_another_node_down_a_replacement_is_no_majority),
        TEST(of_three_nodes_two_are_not_replaced_at_once),
        cmocka_unit_test_setup_teardown(whatever_breaks_there_is_one_history_and_it_goes_on_afterwards, setup_small_log,
                                        teardown),
        cmocka_unit_test_setup_teardown(an_empty_node_gets_a_snapshot_and_then_entries, setup_small_log, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_goes_on_after_the_connection_broke, setup_small_log, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
