/* core.c — the core as an object: events in, turns, callbacks out. See core.h for the picture, core_private.h for which
 * file does what.
 *
 * Life of a connection's struct client: core_open() makes it. It is freed when its socket is closed and no CONNECT of
 * its is on the way, since the outcome of that one has to be undone. Whatever else is on the way finds no client when
 * it comes back, and is dropped. */
#include "core_private.h"

#include "acl_file.h"
#include "auth.h"
#include "doorstep.h"
#include "failures.h"
#include "login.h"
#include "takeovers.h"
#include "usages.h"

#include "base/bug.h"
#include "base/buggify.h"
#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND_LOOKS 500 /* a store transaction holds about so much work for each of commit_commands */
#define COMMIT_PAGES  1000 /* and so many pages to be written out, some 2 us each; */
#define SPILL_PAGES   1500 /* amid an entry more, since a store that was spilled does not survive its process */
#define WORK_ROUNDS   4   /* what one client's packets cause for others is done in the same turn, but not for ever */

/* ---- making and freeing ---- */

static void default_u32(uint32_t *value, uint32_t otherwise)
{
    if (*value == 0)
        *value = otherwise;
}

static void fill_limits(struct core_limits *limits)
{
    default_u32(&limits->clients_max, 100000);
    if (limits->clients_max > REGISTRY_SLOTS_MAX / 2) /* room for those that are being refused or have just gone */
        limits->clients_max = REGISTRY_SLOTS_MAX / 2;
    default_u32(&limits->packet_bytes_max, 1024 * 1024 + 1024);
    default_u32(&limits->connect_bytes_max, 64 * 1024 + 512);
    if (limits->receive_maximum == 0)
        limits->receive_maximum = 1000;
    if (limits->in_flight_max == 0)
        limits->in_flight_max = 100;
    default_u32(&limits->connect_timeout_ms, 10000);
    default_u32(&limits->pending_max, 20000);
    default_u32(&limits->pending_address_max, 10000);
    default_u32(&limits->packet_rate_min, 1024);
    default_u32(&limits->output_bytes_max, 1024 * 1024);
    default_u32(&limits->client_commands_max, 2000);
    if (limits->commands_bytes_max == 0)
        limits->commands_bytes_max = 32 * 1024 * 1024;
    if (limits->memory_bytes_max == 0)
        limits->memory_bytes_max = 256 * 1024 * 1024;
    default_u32(&limits->hold_ms, 5000);
    default_u32(&limits->node_timeout_ms, 2000);
    default_u32(&limits->node_margin_ms, limits->node_timeout_ms / 4);
    default_u32(&limits->acknowledge_ms, 20);
    default_u32(&limits->subscribe_wait_ms, 20);
    default_u32(&limits->logins_max, 1000);
    default_u32(&limits->collision_ms, 30000);
    default_u32(&limits->take_over_ms, 1000);
    default_u32(&limits->commit_ms, 10);
    default_u32(&limits->commit_commands, 1000);
}

/* What decides who may connect, and what they may do. */
static void init_security(struct client_node *node, const struct core_options *options, struct state *state)
{
    uint8_t bytes[sizeof(options->seed) + sizeof(options->boot_nonce)] = {0};
    struct bytes entropy = bytes_of(bytes, sizeof(bytes));
    const struct logins_settings settings = {.methods = options->security.methods,
                                             .fall_through = options->security.fall_through,
                                             .remembered_max = options->security.remembered_max};

    memcpy(bytes, &options->seed, sizeof(options->seed));
    memcpy(bytes + sizeof(options->seed), options->boot_nonce, sizeof(options->boot_nonce));
    node->auth = auth_new(entropy, options->users);
    node->logins = logins_new(entropy, &settings, node->auth);
    node->failures = failures_new(options->seed);
    node->takeovers = takeovers_new(node->limits.take_over_ms, options->seed);
    node->usages = usages_new();
    node->sys_readable = !options->security.sys_hidden;
    node->close_on_denied = options->security.close_on_denied;
    node->adopt_anonymous = options->security.adopt_anonymous;
    node->state = state;
    node->security = state_security(state);
    auth_set_security(node->auth, &node->security);
    access_changed(node);
}

static void release_security(struct client_node *node)
{
    acl_file_free(node->acl);
    usages_free(node->usages);
    failures_free(node->failures);
    takeovers_free(node->takeovers);
    logins_free(node->logins);
    auth_free(node->auth);
}

struct core *core_new(const struct core_options *options, const struct core_callbacks *callbacks, struct state *state,
                      uint64_t now_ms)
{
    struct core *core = memory_zeroed(1, sizeof(*core));
    struct proposer_settings settings = {.node = options->node};

    core->node.limits = options->limits;
    fill_limits(&core->node.limits);
    core->node.capabilities = options->capabilities != NULL ? *options->capabilities : CORE_CAPABILITIES_DEFAULT;
    init_security(&core->node, options, state);
    core->node.node = options->node;
    core->node.random = options->seed;
    core->out = *callbacks;
    core->state = state;
    settings.bytes_max = core->node.limits.commands_bytes_max;
    core->proposer = proposer_new(&settings);
    core->effects = effects_new();
    core->arena = effects_new();
    timers_init(&core->timers, now_ms);
    duties_init(&core->duties, options->node, options->settings);
    core->now_ms = now_ms;
    core->applied_ms = now_ms;
    core->applied_told = state_applied(state);
    core_forget_queues(core);
    core->acks_ms = UINT64_MAX;
    core->uncommitted_ms = UINT64_MAX;
    core->health.leader_heard_ms = now_ms;

    core->client_address = memory_text(options->client_address);
    core->up.node = options->node;
    memcpy(core->up.boot_nonce, options->boot_nonce, sizeof(core->up.boot_nonce));
    core->up.client_address = bytes_text(core->client_address);
    core->up.version = bytes_text(COTERIE_VERSION);
    proposer_start(core->proposer, &core->up);
    core_sys_start(core, now_ms);
    core->doorstep = doorstep_new(core->node.limits.pending_max, core->node.limits.pending_address_max);
    core->rates = rates_new(core->node.capabilities.connect_rate_max, core->node.capabilities.connect_rate_address_max,
                            client_node_random(&core->node), now_ms);
    return core;
}

/* It has been let in, or is over: somebody else may wait in its place. */
static void leave_doorstep(struct core *core, struct client *client)
{
    if (client->place != NULL)
        doorstep_leave(core->doorstep, client->place);
    client->place = NULL;
}

static void free_held(struct core *core)
{
    while (core->held_first != NULL) {
        struct held_answer *held = core->held_first;

        core->held_first = held->next;
        free(held);
    }
}

void core_free(struct core *core)
{
    struct client *client;
    uint32_t slot = 0;

    if (core == NULL)
        return;
    while ((client = registry_next(&core->registry, &slot)) != NULL) {
        leave_doorstep(core, client);
        timers_clear(&core->timers, &client->timer);
        client_free(client, &core->pool);
    }
    registry_release(&core->registry);
    free_held(core);
    outbox_pool_release(&core->pool);
    for (uint32_t node = 0; node < NODES_MAX; node++) {
        buffer_release(&core->peers[node].messages);
        buffer_release(&core->peers[node].arrived);
    }
    buffer_release(&core->live.text);
    buffer_release(&core->live.groups);
    core_forget_entry(core);
    deliver_over(core);
    free(core->forms);
    free(core->work.numbers);
    free(core->stalled.numbers);
    free(core->dirty.numbers);
    free(core->acks.numbers);
    free(core->checkpoints);
    actions_release(&core->actions);
    buffer_release(&core->scratch);
    buffer_release(&core->frames);
    buffer_release(&core->own);
    buffer_release(&core->broadcast);
    buffer_release(&core->node.server_reference);
    effects_free(core->effects);
    effects_free(core->arena);
    release_security(&core->node);
    core_forget_administrations(core);
    free(core->logins.waiting);
    rates_free(core->rates);
    doorstep_free(core->doorstep);
    proposer_free(core->proposer);
    free(core->client_address);
    free(core);
}

/* ---- lists of connections to come back to ---- */

void work_list_add(struct later_list *list, const struct client *client)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        list->numbers = memory_resize(list->numbers, list->capacity * sizeof(*list->numbers));
    }
    list->numbers[list->count++] = client->number;
}

bool later_list_drop(struct later_list *list, uint32_t count)
{
    list->count -= count;
    if (list->count > 0)
        memmove(list->numbers, list->numbers + count, list->count * sizeof(*list->numbers));
    return list->count > 0;
}

void later_list_join(struct later_list *list, struct later_list *more)
{
    if (list->count + more->count > list->capacity) {
        list->capacity = list->count + more->count;
        list->numbers = memory_resize(list->numbers, list->capacity * sizeof(*list->numbers));
    }
    if (more->count > 0)
        memcpy(list->numbers + list->count, more->numbers, more->count * sizeof(*more->numbers));
    list->count += more->count;
    free(more->numbers);
}

void core_want_work(struct core *core, struct client *client)
{
    if (client->in_work)
        return;
    client->in_work = true;
    work_list_add(&core->work, client);
}

void core_want_flush(struct core *core, struct client *client)
{
    if (client->in_dirty)
        return;
    client->in_dirty = true;
    work_list_add(&core->dirty, client);
}

/* ---- small helpers of all files ---- */

void core_trouble(struct core *core, enum status status, const char *text)
{
    if (core->trouble != STATUS_OK)
        return;
    core->trouble = status;
    core->trouble_text = text;
    core->node.available = false;
}

void core_note(struct core *core, int level, const char *text)
{
    if (core->out.note != NULL)
        core->out.note(core->out.context, level, text);
}

uint64_t core_clock_ms(const struct core *core)
{
    uint64_t clock_ms = state_clock_ms(core->state);

    return core->now_ms > core->applied_ms ? clock_ms + (core->now_ms - core->applied_ms) : clock_ms;
}

void core_send(struct core *core, struct client *client, struct frame *frame)
{
    core->node.stats.output_bytes += frame->size;
    outbox_put(&core->pool, &client->outbox, frame);
    core_want_flush(core, client);
}

void core_send_bytes(struct core *core, struct client *client, struct bytes bytes)
{
    if (bytes.size == 0)
        return;
    core->node.stats.output_bytes += bytes.size;
    outbox_put_bytes(&core->pool, &client->outbox, bytes);
    core_want_flush(core, client);
}

/* For bugs (V03, V04): Session Present as of now. A tag of a CONNECT that client_outcome() knows. */
static uint32_t early_read(const struct core *core, const struct command *command)
{
    struct session_facts facts;

    if (command->connect.clean_start || !state_session_by_client_id(core->state, command->connect.client_id, &facts))
        return 2;
    return 1;
}

void core_propose(struct core *core, struct client *client, const struct command *command, uint32_t tag)
{
    if (client->commands_pending == 0)
        client->waiting_ms = core->now_ms;
    client->commands_pending++;
    if (command->type == COMMAND_CONNECT &&
        bug(core->health.role == CONSENSUS_LEADER ? BUG_V03_LEADER_READS : BUG_V04_FOLLOWER_READS))
        tag = early_read(core, command);
    proposer_add(core->proposer, command, client->number << TAG_BITS | tag);
}

void core_arm(struct core *core, struct client *client)
{
    uint64_t deadline_ms = client_deadline(client);

    if (client->timer.link != NULL && client->timer.at_ms <= deadline_ms)
        return;
    if (deadline_ms == UINT64_MAX)
        timers_clear(&core->timers, &client->timer);
    else
        timers_set(&core->timers, &client->timer, deadline_ms);
}

void core_forget_if_over(struct core *core, struct client *client)
{
    if (client->socket_open || client->connect_pending)
        return;
    leave_doorstep(core, client);
    timers_clear(&core->timers, &client->timer);
    core->node.stats.input_bytes -= client->input.size;
    core->node.stats.output_bytes -= client_output(client);
    core->waiting_bytes -= client->inflight.waiting_bytes;
    if (client->reading_off)
        core->node.stats.paused_clients--;
    registry_remove(&core->registry, client->number);
    client_free(client, &core->pool);
}

/* ---- actions ---- */

/* Whose connection this command ends, if this node holds it: the sender of END, or the one whom a CONNECT takes over. */
static struct client *ended_by(struct core *core, struct client *client, const struct command *command)
{
    struct session_facts facts;

    if (command->type == COMMAND_END)
        return client;
    if (command->type != COMMAND_CONNECT ||
        !state_session_by_client_id(core->state, command->connect.client_id, &facts) || !facts.connected ||
        facts.node != core->node.node)
        return NULL;
    client = registry_find(&core->registry, facts.connection);
    return client != NULL && client->phase == CLIENT_CONNECTED && client->session_id == facts.session_id ? client : NULL;
}

static void carry_out_commands(struct core *core, struct client *client)
{
    const struct actions *actions = &core->actions;

    for (uint32_t i = 0; i < actions->command_count; i++) {
        struct client *ended = ended_by(core, client, &actions->commands[i]);

        if (ended != NULL && ended->inflight.acks > 0)
            deliver_acknowledge(core, ended); /* what it has acknowledged is not sent again, also if it leaves at once */
        core_propose(core, client, &actions->commands[i], actions->tags[i]);
    }
}

void core_carry_out(struct core *core, struct client *client)
{
    struct actions *actions = &core->actions;

    if (client->phase >= CLIENT_CONNECTED)
        leave_doorstep(core, client);
    carry_out_commands(core, client);
    core->node.stats.packets_out += actions->packets_out;
    if (actions->subscribed_index != 0 && actions->close == CLOSE_NO)
        core_hold(core, client, actions->subscribed_index);
    else
        core_send_bytes(core, client, buffer_bytes(&actions->out));
    if (actions->proof == PROOF_RIGHT || actions->proof == PROOF_WRONG)
        core_note_proof(core, client, actions->proof == PROOF_RIGHT);
    if (actions->rest_ms != 0)
        core_tell_contested(core, client, actions->rest_ms);
    if (actions->delivered) {
        deliver_note_acks(core, client);
        core->acks_urgent |= actions->refused && client->in_acks;
        core_want_work(core, client);
    }
    if (actions->close != CLOSE_NO && !client->close_wanted) {
        client->close_wanted = true;
        client->close_flush = actions->close == CLOSE_FLUSH;
        core_want_flush(core, client);
    }
    if (actions->sys_filters.size > 0)
        core_sys_answer(core, client, buffer_bytes(&actions->sys_filters), actions->sys_subscription_id);
    if (actions->publish)
        core_route_qos0(core, &actions->message, actions->message_expiry_s);
    core_arm(core, client);
    if (actions->login || actions->proof == PROOF_ASKED)
        core_login(core, client);
    else
        core_forget_if_over(core, client);
}

void core_end(struct core *core, struct client *client, enum client_end why)
{
    actions_clear(&core->actions);
    client_end(client, why, &core->actions);
    core_carry_out(core, client);
}

/* ---- events from sockets ---- */

uint64_t core_open(struct core *core, void *conn, const struct core_origin *origin, uint64_t now_ms)
{
    uint64_t number = registry_take(&core->registry);
    char address[CORE_ADDRESS_MAX];
    struct client *client;

    core->now_ms = now_ms;
    core->node.stats.connections++;
    assert(number != 0); /* the driver has fewer file descriptors than we have slots */
    client = client_new(&core->node, number, conn, origin, now_ms);
    registry_set(&core->registry, number, client);
    client->place = doorstep_enter(core->doorstep, core_address(core, client, address));
    if (client->place == NULL) {
        client_count_limit(&core->node, LIMIT_PENDING);
        core->node.stats.connects[CONNECT_REFUSED_QUOTA]++;
        core_end(core, client, CLIENT_END_GONE);
    } else if (core->registry.count > core->node.limits.clients_max || core->node.stopping) {
        core->node.stats.connects[CONNECT_REFUSED_QUOTA]++;
        core_end(core, client, CLIENT_END_QUOTA);
    } else {
        core_arm(core, client);
    }
    return number;
}

void core_received(struct core *core, uint64_t connection, struct bytes bytes, uint64_t now_ms)
{
    struct client *client;
    bool paused = now_ms > core->now_ms + core->node.limits.node_margin_ms;

    core->now_ms = now_ms;
    if (paused)
        core_check_health(core); /* this process stood still: others may have given its clients away */
    client = registry_find(&core->registry, connection);
    core->node.stats.bytes_in += bytes.size;
    if (client == NULL || client->phase == CLIENT_CLOSED || client->phase == CLIENT_ENDING)
        return;
    core_take_input(core, client, bytes);
}

void core_written(struct core *core, uint64_t connection, size_t bytes, uint64_t now_ms)
{
    struct client *client = registry_find(&core->registry, connection);

    core->now_ms = now_ms;
    core->node.stats.bytes_out += bytes;
    if (client == NULL)
        return;
    assert(bytes <= client->unwritten);
    client->unwritten -= bytes;
    core->node.stats.output_bytes -= bytes;
    if (client->behind || client->inflight.waiting > 0 || client->stalled)
        core_want_work(core, client);
}

void core_closed(struct core *core, uint64_t connection, uint64_t now_ms)
{
    struct client *client = registry_find(&core->registry, connection);

    core->now_ms = now_ms;
    if (client == NULL)
        return;
    client->socket_open = false;
    core->node.stats.connections--;
    client->conn = NULL;
    client->close_called = true;
    core_end(core, client, CLIENT_END_GONE);
    client = registry_find(&core->registry, connection);
    if (client != NULL)
        core_forget_if_over(core, client);
}

/* ---- turns ---- */

static uint64_t turn_looks(const struct core *core)
{
    return core->input_looks + core->apply_looks + core->copies_looks + core->queues_looks + core->other_looks;
}

static void expire_timers(struct core *core)
{
    struct timer *timer;

    for (uint32_t i = 0; i < TIMERS_MAX && (timer = timers_expire(&core->timers, core->now_ms)) != NULL; i++) {
        struct client *client = (struct client *)timer; /* its first member */

        core->other_looks += PACKET_LOOKS;
        if (client->phase == CLIENT_NEW && client->stalled && client_deadline(client) <= core->now_ms) {
            core_refuse_stalled(core, client);
            continue;
        }
        actions_clear(&core->actions);
        client_timeout(client, core->now_ms, &core->actions);
        core_carry_out(core, client);
    }
}

/* Of the list of those who had to wait; the list is done with it. NULL: it is gone, or waits no longer. */
static struct client *stalled_client(struct core *core, uint32_t place)
{
    struct client *client = registry_find(&core->registry, core->stalled.numbers[place]);

    if (client == NULL)
        return NULL;
    client->in_stalled = false;
    return client->stalled ? client : NULL;
}

/* Those who had to wait are looked at again, once there is room for all of them. */
static void resume_stalled(struct core *core)
{
    uint32_t count = core->stalled.count < WAKES_MAX ? core->stalled.count : WAKES_MAX;

    if (count == 0 || core_pressed(core) || !core->node.available)
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct client *client = stalled_client(core, i);

        if (client != NULL)
            core_want_work(core, client);
    }
    core->other_looks += count;
    later_list_drop(&core->stalled, count);
}

/* CONNECTs that are held, when it is clear that nothing can be committed. */
static void refuse_stalled(struct core *core)
{
    uint32_t count = core->stalled.count < WAKES_MAX ? core->stalled.count : WAKES_MAX;

    if (count == 0 || !core_turns_away(core))
        return;
    for (uint32_t i = 0; i < count; i++) {
        struct client *client = stalled_client(core, i);

        if (client != NULL && client->phase == CLIENT_NEW)
            core_refuse_stalled(core, client);
    }
    core->other_looks += (uint64_t)count * PACKET_LOOKS;
    later_list_drop(&core->stalled, count);
}

static void work_for(struct core *core, struct client *client)
{
    uint64_t number = client->number;

    client->in_work = false;
    if (client->input.size > 0 && client->phase <= CLIENT_CONNECTED && client->phase != CLIENT_CONNECTING)
        core_take_input(core, client, bytes_of(NULL, 0));
    client = registry_find(&core->registry, number);
    if (client != NULL && client->phase == CLIENT_CONNECTED)
        deliver_more(core, client);
}

/* Whether there is time for more from clients: for what they have sent, and for what is queued for them. */
static bool may_work(const struct core *core)
{
    return !core_busy(core) && core->input_looks < INPUT_LOOKS && core->queues_looks < QUEUES_LOOKS &&
           turn_looks(core) < TURN_LOOKS;
}

static void do_work(struct core *core)
{
    for (int round = 0; round < WORK_ROUNDS && core->work.count > 0 && may_work(core); round++) {
        struct later_list now = core->work;
        uint32_t i = 0;

        core->work = (struct later_list){0};
        for (; i < now.count && may_work(core); i++) {
            struct client *client = registry_find(&core->registry, now.numbers[i]);

            core->other_looks++;
            if (client != NULL)
                work_for(core, client);
        }
        later_list_drop(&now, i);
        later_list_join(&now, &core->work);
        core->work = now;
    }
}

static void propose(struct core *core)
{
    struct bytes batch;

    deliver_acknowledgements(core);
    duties_propose(&core->duties, &core->health, core->state, core->proposer, core->now_ms);
    while (proposer_next(core->proposer, core->now_ms, &batch))
        core->out.submit(core->out.context, batch);
}

static bool much_is_uncommitted(const struct core *core)
{
    uint64_t work = state_worked(core->state) - core->committed_work;
    uint32_t commands = core->node.limits.commit_commands;

    return core->uncommitted_commands >= commands || work >= (uint64_t)commands * COMMAND_LOOKS || core->spilled ||
           state_unwritten(core->state) >= COMMIT_PAGES || buggify(BUGGIFY_STORE_COMMITS);
}

/* The store's transaction is committed by count, by size, by time, and not at all while nothing is in it. Amid an entry it
 * cannot be: what is too much for one commit is spilled. */
static void commit_store(struct core *core)
{
    bool much = much_is_uncommitted(core), amid = state_applying(core->state);
    uint64_t pages = state_unwritten(core->state);
    enum status status;

    if (amid ? pages < SPILL_PAGES
             : core->uncommitted_ms == UINT64_MAX ||
                   (!much && core->uncommitted_ms + core->node.limits.commit_ms > core->now_ms))
        return;
    status = amid ? state_spill(core->state) : state_commit(core->state);
    if (status != STATUS_OK)
        core_trouble(core, status, "the store cannot commit");
    core->other_looks += pages * WRITTEN_LOOKS;
    if (pages > core->node.stats.commit_pages_max)
        core->node.stats.commit_pages_max = pages;
    core->spilled = amid;
    core->node.stats.spills += amid;
    if (amid)
        return;
    core->uncommitted_ms = UINT64_MAX;
    core->uncommitted_commands = 0;
    core->committed_work = state_worked(core->state);
}

static void tell_consensus(struct core *core)
{
    uint64_t applied = state_applied(core->state);

    if (applied > core->applied_told) {
        core->applied_told = applied;
        core->out.applied(core->out.context, applied, state_clock_ms(core->state), core->applied_awaited);
        core->applied_awaited = false;
    }
    for (uint32_t i = 0; i < core->checkpoint_count; i++)
        core->out.checkpoint(core->out.context, core->checkpoints[i].index, core->checkpoints[i].hash);
    core->checkpoint_count = 0;
    if (core->trouble != STATUS_OK && !core->trouble_told) {
        core->trouble_told = true;
        core->out.fatal(core->out.context, core->trouble, core->trouble_text);
    }
}

/* Returns what that took. */
static uint64_t flush_one(struct core *core, struct client *client)
{
    uint64_t looks = WRITE_LOOKS;

    client->in_dirty = false;
    if (client->close_called)
        return looks;
    if (!outbox_empty(&client->outbox)) {
        looks += client->outbox.bytes / WRITTEN_BYTES_PER_LOOK;
        client->unwritten += client->outbox.bytes;
        buffer_clear(&core->frames);
        outbox_take(&core->pool, &client->outbox, &core->frames);
        core->out.write(core->out.context, client->conn, (struct frame *const *)core->frames.data,
                        core->frames.size / sizeof(struct frame *));
    }
    if (client->close_wanted) {
        client->close_called = true;
        usage_end(client);
        core->out.close(core->out.context, client->conn, client->close_flush);
    } else if (client->reading_changed) {
        core->out.reading(core->out.context, client->conn, !client->reading_off);
    }
    client->reading_changed = false;
    return looks;
}

/* As many connections as there is time for. */
static void flush(struct core *core)
{
    uint64_t looks = turn_looks(core), left = looks < TURN_LOOKS ? TURN_LOOKS - looks : 0, spent = 0;
    uint32_t total = core->dirty.count, count = 0;

    if (left < WRITES_MIN * WRITE_LOOKS)
        left = WRITES_MIN * WRITE_LOOKS;
    for (; count < total && spent < left; count++) {
        struct client *client = registry_find(&core->registry, core->dirty.numbers[count]);

        spent += client != NULL ? flush_one(core, client) : 1;
    }
    core->other_looks += spent;
    later_list_drop(&core->dirty, count);
    core_flush_qos0(core);
}

/* What was under way when the former turn ended; then what came meanwhile. */
static void go_on(struct core *core)
{
    if (core->ending.open)
        core_end_more(core);
    else if (state_applying(core->state))
        core_apply_more(core, core->apply_looks < APPLY_LOOKS ? APPLY_LOOKS - core->apply_looks : 0);
    else if (core->live.open)
        core_live_more(core, core->input_looks < INPUT_LOOKS ? INPUT_LOOKS - core->input_looks : 0);
    core_take_arrived(core);
}

static void end_turn(struct core *core)
{
    uint64_t looks = turn_looks(core);

    if (looks > core->node.stats.turn_looks_max)
        core->node.stats.turn_looks_max = looks;
    core->input_looks = core->apply_looks = core->copies_looks = core->queues_looks = core->other_looks = 0;
    if (!core->live.open)
        core->breather = false;
    if (!core_busy(core))
        deliver_over(core);
}

void core_turn(struct core *core, uint64_t now_ms)
{
    core->now_ms = now_ms;
    core_check_health(core);
    expire_timers(core);
    go_on(core);
    resume_stalled(core);
    refuse_stalled(core);
    core_logins_turn(core);
    do_work(core);
    propose(core);
    core_sys_turn(core);
    core_tell_limits(core);
    core_release_held(core);
    commit_store(core);
    tell_consensus(core);
    flush(core);
    end_turn(core);
}

bool core_takes_input(const struct core *core)
{
    return !core_busy(core) && !core->breather && core->input_looks < INPUT_LOOKS;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t core_deadline(const struct core *core)
{
    uint64_t at = earlier(earlier(timers_next_ms(&core->timers), core->acks_ms), core->sys.next_ms);

    if (core->work.count > 0 || core->acks_urgent || core->dirty.count > 0 || core_busy(core) || core->sys.next > 0)
        return core->now_ms;
    if (core->node.limit_reached)
        at = earlier(at, core->limits_told_ms);
    if (core->held_first != NULL)
        at = earlier(at, core->held_first->until_ms);
    if (core->cut_off && core->stalled.count > 0)
        at = earlier(at, core->cut_off_ms + core->node.limits.node_margin_ms);
    if (core->uncommitted_ms != UINT64_MAX)
        at = earlier(at, core->uncommitted_ms + core->node.limits.commit_ms);
    at = earlier(at, core_logins_deadline(core));
    at = earlier(at, proposer_deadline(core->proposer));
    return earlier(at, duties_deadline(&core->duties, &core->health, core->state, core->proposer, core->now_ms));
}

struct state *core_state(struct core *core)
{
    return core->state;
}

/* ---- numbers ---- */

void core_stats(const struct core *core, struct core_stats *stats)
{
    *stats = core->node.stats;
    stats->commands_pending = proposer_pending_commands(core->proposer);
    stats->commands_pending_bytes = proposer_pending_bytes(core->proposer);
}

