#include "consensus_world.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cluster/wire.h"
#include "command.h"

#define FRAME_US 200

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
    if (node->snapshot_unreadable || node->snapshot.index != index)
        return STATUS_NOT_FOUND;
    *size = node->snapshot_file.size;
    return STATUS_OK;
}

static enum status on_snapshot_read(void *context, uint64_t index, uint64_t offset, void *data, size_t size)
{
    struct node *node = context;
    assert_true(index <= node->snapshot.index); /* all have the same file; who has begun with one goes on with it */
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

uint64_t now_ms(const struct world *world)
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

void set_link(struct world *world, uint32_t a, uint32_t b, bool up)
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

void connect_all(struct world *world)
{
    for (uint32_t a = 1; a < NODES; a++)
        for (uint32_t b = a + 1; b < NODES; b++)
            if (!world->linked[a][b])
                set_link(world, a, b, true);
}

void start_node(struct world *world, uint32_t id, bool bootstrap)
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

void stop_node(struct world *world, uint32_t id, bool power_loss)
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

/* Every snapshot has the same content here. */
static enum status verify_snapshot(struct bytes file)
{
    for (size_t i = 0; i < file.size; i++)
        if (file.data[i] != (uint8_t)i)
            return STATUS_CORRUPT;
    return STATUS_OK;
}

static void finish_turn(struct node *node)
{
    if (node->finish_incoming) {
        node->finish_incoming = false;
        consensus_received(node->consensus, verify_snapshot(buffer_bytes(&node->incoming)));
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
        if (node->turn_began_ms == 0 && deadline < UINT64_MAX / 1000 && deadline * 1000 < next)
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
        if (world->nodes[id].running && !world->nodes[id].paused && world->nodes[id].turn_began_ms == 0)
            consensus_advance(world->nodes[id].consensus, now_ms(world), wall_ms(world));
    deliver_frames(world);
    for (uint32_t id = 1; id < NODES; id++) {
        struct node *node = &world->nodes[id];
        if (!node->running || node->paused)
            continue;
        disk_sim_run(node->disk, world->now_us);
        if (node->turn_began_ms != 0)
            consensus_heard(node->consensus, now_ms(world));
        finish_turn(node);
    }
}

void run_ms(struct world *world, uint64_t ms)
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

uint32_t leader_of(struct world *world)
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

void submit_size(struct world *world, uint32_t id, size_t size)
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

void submit(struct world *world, uint32_t id)
{
    submit_size(world, id, 0);
}

uint64_t last_applied(struct world *world)
{
    uint64_t most = 0;
    for (uint32_t id = 1; id < NODES; id++)
        most = world->nodes[id].applied > most ? world->nodes[id].applied : most;
    return most;
}

void then_all_agree_up_to(struct world *world, uint64_t index)
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

int setup(void **state)
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

int teardown(void **state)
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

uint32_t follower_of(struct world *world)
{
    return leader_of(world) == 1 ? 2 : 1;
}

void take_snapshot(struct world *world, uint32_t id)
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
    for (size_t i = node->snapshot_file.size; i < SNAPSHOT_BYTES; i++)
        buffer_put_u8(&node->snapshot_file, (uint8_t)i);
    consensus_snapshot_taken(node->consensus, &node->snapshot);
}

void set_log_bytes_max(struct world *world, size_t bytes)
{
    world->log_bytes_max = bytes;
    for (uint32_t id = 1; id < NODES; id++) {
        stop_node(world, id, false);
        start_node(world, id, false);
    }
    connect_all(world);
    run_ms(world, 2000);
}

int setup_small_log(void **state)
{
    int result = setup(state);
    set_log_bytes_max(*state, 1);
    return result;
}

void given_an_empty_disk(struct world *world, uint32_t id)
{
    struct node *node = &world->nodes[id];
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
}
