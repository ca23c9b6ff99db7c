/* broker.c — the turns of a node's loop.
 *
 *   poll: bytes, frames, finished jobs --> begin, once: clock, consensus_advance; after a pause health first
 *                                      --> the parts take in what came
 *   prepare, before the next poll: committed entries -> core; core_turn -> frames out, batches -> consensus_flush
 *                                      -> links_flush
 *
 * Always true: the first thing after a poll is the clock (begin), so that a node that stood still knows it before it
 * looks at any socket; and what one part asks of another waits in a queue until the turn (`committed`, the
 * proposals in core, the frames in links), so no part is ever called from inside itself.
 *
 * Entries are applied for APPLY_NS at most per turn: a node that catches up goes on hearing heartbeats.
 *
 * Endings: stop (signal) -> leadership handed over, clients told, END committed -> close. Trouble -> one line,
 * everything closed but the admin HTTP, and a restart of the process where that can help (restart_if_it_helps). */
#include "broker.h"

#include "admin/admin.h"
#include "base/memory.h"
#include "net/listener.h"
#include "snapshots.h"
#include "store_checks.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>

#define APPLY_NS          (4 * 1000 * 1000)
#define PAUSE_MS          500  /* between two turns: the process stood still */
#define STOP_MS           3000 /* patience with clients and the log when asked to stop */
#define ALONE_MS          700  /* of it, when no leader is there to commit anything */
#define SNAPSHOT_RETRY_MS 30000
#define MINUTE_MS         60000
#define SPACE_BYTES       (32ull * 1024 * 1024) /* two segments: free again, before a node that ran out of it restarts */
#define SPACE_CHECK_MS    2000
#define SUBMISSIONS       64 /* more than the proposer has in flight */
#define HEALTHY_MS        (10 * MINUTE_MS)
#define RESTARTS_VARIABLE "_COTERIE_RESTARTS"
#define DESCRIPTORS_USED  48 /* log, store, links, epoll ... of a running node, roughly */

struct committed {
    uint64_t index;
    struct log_entry *entry;
};

/* When a batch of this node was last handed to consensus. */
struct submission {
    uint64_t number;
    uint64_t at_ns;
};

struct door {
    struct broker *broker;
    struct listener *listener;
    char name[96]; /* outlives the listener: core borrows it */
    struct log_limit paused_limit;
};

struct broker {
    uv_loop_t *loop;
    const struct config *config;
    enum broker_phase phase;
    enum broker_end end;
    char trouble[256];

    struct data data;
    bool data_open;
    struct core *core;
    struct consensus *consensus;
    struct links *links;
    struct snapshots *snapshots;
    uint64_t restored; /* index of the snapshot whose store waits to take the place of ours; 0 = none */
    struct store_checks *checks;
    struct conns *conns;
    struct admin *admin;
    struct door doors[CONFIG_LISTENERS_MAX];
    uint32_t door_count;

    uv_prepare_t prepare;
    uv_timer_t wake;     /* the next deadline of core or consensus */
    uv_timer_t patience; /* stopping, closing, restarting */
    uv_signal_t signals[2];

    struct committed *committed; /* a ring: committed[first .. first + waiting) */
    size_t committed_first, committed_waiting, committed_capacity;

    uint64_t now_ms;
    uint64_t turn_ns;     /* when this turn began; 0: it has not */
    uint64_t stop_ms;     /* patience ends */
    uint64_t snapshot_ms; /* no snapshot before */
    uint64_t minute_ms, minute_longest_us;
    uint64_t jobs; /* on the thread pool */
    struct submission submissions[SUBMISSIONS];
    struct consensus_status told; /* what the log has been told about role and leader */
    struct broker_numbers numbers;
};

static void broker_fail(struct broker *broker, enum status status, const char *why);
static void broker_close(struct broker *broker);

/* ---- clocks ---- */

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool broker_alive(const struct broker *broker)
{
    return broker->phase == BROKER_RUNNING || broker->phase == BROKER_STOPPING;
}

static void give_health(struct broker *broker)
{
    struct consensus_status status;
    consensus_status(broker->consensus, &status);
    core_health(broker->core, &status, broker->now_ms);
}

/* The first thing after a poll. */
static void broker_begin(struct broker *broker)
{
    if (broker->turn_ns != 0 || !broker_alive(broker))
        return;
    broker->turn_ns = uv_hrtime();
    uint64_t now = clock_ms(CLOCK_BOOTTIME), gap = now - broker->now_ms;
    broker->now_ms = now;
    consensus_advance(broker->consensus, now, clock_ms(CLOCK_REALTIME));
    if (gap < PAUSE_MS || !broker_alive(broker))
        return;
    broker->numbers.pauses++;
    log_event(LOG_WARNING, "paused", log_u64("ms", gap));
    give_health(broker);
}

/* ---- jobs on the thread pool ---- */

struct work {
    uv_work_t request;
    struct broker *broker;
    struct disk_job *job;
    bool of_log;
    uint64_t took_us;
};

static void work_run(uv_work_t *request)
{
    struct work *work = request->data;
    uint64_t started = uv_hrtime();
    disk_job_run(work->job);
    work->took_us = (uv_hrtime() - started) / 1000;
}

static void work_done(uv_work_t *request, int status)
{
    struct work *work = request->data;
    struct broker *broker = work->broker;
    (void)status; /* never cancelled */
    broker->jobs--;
    if (work->of_log)
        histogram_add(&broker->numbers.flush_us, work->took_us);
    broker_begin(broker);
    disk_job_done(work->job);
    free(work);
}

static void submit(struct broker *broker, struct disk_job *job, bool of_log)
{
    struct work *work = memory_zeroed(1, sizeof(*work));
    work->broker = broker;
    work->job = job;
    work->of_log = of_log;
    work->request.data = work;
    broker->jobs++;
    int error = uv_queue_work(broker->loop, &work->request, work_run, work_done);
    assert(error == 0);
    (void)error;
}

static void submit_log_job(void *context, struct disk_job *job)
{
    submit(context, job, true);
}

static void submit_job(void *context, struct disk_job *job)
{
    submit(context, job, false);
}

static void log_flushed(void *context, enum status status, uint64_t durable)
{
    struct broker *broker = context;
    if (broker->consensus != NULL && broker_alive(broker))
        consensus_flushed(broker->consensus, status, durable);
}

/* ---- sockets of clients ---- */

static void client_accepted(void *context, struct conn *conn, const char *name)
{
    struct door *door = context;
    struct broker *broker = door->broker;
    (void)name;
    broker_begin(broker);
    if (!broker_alive(broker)) {
        conn_close(conn, false);
        return;
    }
    const struct core_origin origin = {.listener = door->name};
    conn_set_number(conn, core_open(broker->core, conn, &origin, broker->now_ms));
}

static void clients_paused(void *context, const char *name, bool paused)
{
    struct door *door = context;
    uint64_t suppressed;
    if (paused && log_allowed(&door->paused_limit, uv_now(door->broker->loop), &suppressed))
        log_event(LOG_WARNING, "accepting-paused", log_text("listener", name),
                  log_text("why", "file descriptors are short (raise ulimit -n); clients wait until others leave"),
                  log_u64("suppressed", suppressed));
}

static void client_received(void *context, struct conn *conn, struct bytes bytes)
{
    struct broker *broker = context;
    broker_begin(broker);
    if (broker_alive(broker))
        core_received(broker->core, conn_number(conn), bytes, broker->now_ms);
}

static void client_written(void *context, struct conn *conn, size_t bytes)
{
    struct broker *broker = context;
    if (broker_alive(broker))
        core_written(broker->core, conn_number(conn), bytes, broker->now_ms);
}

static void client_closed(void *context, struct conn *conn)
{
    struct broker *broker = context;
    broker_begin(broker);
    if (broker_alive(broker) && conn_number(conn) != 0)
        core_closed(broker->core, conn_number(conn), broker->now_ms);
    for (uint32_t i = 0; i < broker->door_count; i++)
        if (broker->doors[i].listener != NULL)
            listener_resume(broker->doors[i].listener);
}

/* ---- what core asks for ---- */

static void for_core_write(void *context, void *conn, struct frame *const *frames, size_t count)
{
    (void)context;
    conn_write(conn, frames, count);
}

static void for_core_close(void *context, void *conn, bool flush)
{
    (void)context;
    conn_close(conn, flush);
}

static void for_core_reading(void *context, void *conn, bool on)
{
    (void)context;
    conn_read(conn, on);
}

static void for_core_address(void *context, void *conn, char text[CORE_ADDRESS_MAX])
{
    (void)context;
    conn_peer(conn, text);
}

static void for_core_submit(void *context, struct bytes batch)
{
    struct broker *broker = context;
    struct batch_header header;
    struct bytes commands;
    if (batch_decode(batch, &header, &commands) == STATUS_OK)
        broker->submissions[header.number % SUBMISSIONS] = (struct submission){header.number, uv_hrtime()};
    consensus_submit(broker->consensus, batch);
}

static void for_core_applied(void *context, uint64_t index, uint64_t clock, bool awaited)
{
    consensus_applied(((struct broker *)context)->consensus, index, clock, awaited);
}

static void for_core_checkpoint(void *context, uint64_t index, const uint64_t hash[2])
{
    consensus_hash(((struct broker *)context)->consensus, index, hash);
}

static void for_core_messages(void *context, uint32_t node, struct bytes messages)
{
    struct broker *broker = context;
    if (links_backlog(broker->links, node, LINK_BULK) > LINK_BACKLOG_BYTES ||
        !consensus_messages(broker->consensus, node, messages))
        broker->numbers.qos0_dropped_backlog++;
}

static void part_fatal(void *context, enum status status, const char *why)
{
    broker_fail(context, status, why);
}

static void for_core_note(void *context, int level, const char *text)
{
    (void)context;
    log_event(level >= 2 ? LOG_WARNING : level == 1 ? LOG_INFO : LOG_DEBUG, "client", log_text("what", text));
}

/* ---- what consensus asks for ---- */

static void for_consensus_send(void *context, uint32_t peer, enum link_kind kind, uint8_t *frame, size_t size)
{
    links_send(((struct broker *)context)->links, peer, kind, frame, size);
}

static void for_consensus_disconnect(void *context, uint32_t peer, enum link_kind kind, uint64_t generation,
                                     const char *reason)
{
    links_disconnect(((struct broker *)context)->links, peer, kind, generation, reason);
}

static void for_consensus_commit(void *context, uint64_t index, struct log_entry *entry)
{
    struct broker *broker = context;
    if (broker->committed_waiting == broker->committed_capacity) {
        size_t capacity = broker->committed_capacity == 0 ? 256 : broker->committed_capacity * 2;
        struct committed *ring = memory_allocate(capacity * sizeof(*ring));
        for (size_t i = 0; i < broker->committed_waiting; i++)
            ring[i] = broker->committed[(broker->committed_first + i) % broker->committed_capacity];
        free(broker->committed);
        broker->committed = ring;
        broker->committed_capacity = capacity;
        broker->committed_first = 0;
    }
    size_t place = (broker->committed_first + broker->committed_waiting) % broker->committed_capacity;
    broker->committed[place] = (struct committed){index, entry};
    broker->committed_waiting++;
}

static const char *role_name(enum consensus_role role)
{
    static const char *const names[] = {"starting", "follower", "candidate", "leader"};
    return names[role];
}

static void for_consensus_changed(void *context, const struct consensus_status *status)
{
    struct broker *broker = context;
    if (status->role != broker->told.role || status->leader != broker->told.leader || status->term != broker->told.term)
        log_event(status->role == CONSENSUS_CANDIDATE ? LOG_DEBUG : LOG_INFO, "role",
                  log_text("role", role_name(status->role)), log_u64("leader", status->leader),
                  log_u64("term", status->term), log_u64("commit", status->commit));
    if (status->flush_slow && !broker->told.flush_slow)
        log_event(LOG_ERROR, "disk-slow", log_text("why", "a flush has taken more than 2 s: handing over leadership"));
    broker->told = *status;
}

static enum status for_consensus_snapshot_open(void *context, uint64_t index, uint64_t *size)
{
    return snapshots_open(((struct broker *)context)->snapshots, index, size);
}

static enum status for_consensus_snapshot_read(void *context, uint64_t index, uint64_t offset, void *data, size_t size)
{
    return snapshots_read(((struct broker *)context)->snapshots, index, offset, data, size);
}

static void for_consensus_snapshot_close(void *context, uint64_t index)
{
    snapshots_close(((struct broker *)context)->snapshots, index);
}

static enum status for_consensus_incoming_open(void *context)
{
    return snapshots_incoming_open(((struct broker *)context)->snapshots);
}

static enum status for_consensus_incoming_write(void *context, uint64_t offset, struct bytes chunk)
{
    return snapshots_incoming_write(((struct broker *)context)->snapshots, offset, chunk);
}

static void for_consensus_incoming_finish(void *context)
{
    snapshots_incoming_finish(((struct broker *)context)->snapshots);
}

/* The restored store is built beside the present one, on a worker; see snapshot_restored. */
static void for_consensus_install(void *context, uint64_t index, uint64_t term)
{
    struct broker *broker = context;
    char path[DISK_PATH_MAX];
    data_restore_path(&broker->data, path);
    const struct store_options options = data_store_options(broker->config, path);
    log_event(LOG_INFO, "snapshot-installing", log_u64("index", index), log_u64("term", term));
    snapshots_restore(broker->snapshots, index, &options);
}

static void for_consensus_peer_messages(void *context, uint32_t peer, struct bytes messages)
{
    struct broker *broker = context;
    core_peer_messages(broker->core, peer, messages, broker->now_ms);
}

static void for_consensus_peer_applied(void *context, uint32_t peer, uint64_t index)
{
    core_peer_applied(((struct broker *)context)->core, peer, index);
}

static void for_consensus_note(void *context, const char *text)
{
    (void)context;
    log_event(LOG_INFO, "consensus", log_text("what", text));
}

/* ---- snapshots ---- */

static void snapshot_taken(void *context, enum status status, const struct consensus_snapshot *snapshot)
{
    struct broker *broker = context;
    broker->snapshot_ms = broker->now_ms + (status == STATUS_OK ? 0 : SNAPSHOT_RETRY_MS);
    if (status == STATUS_OK && broker_alive(broker))
        consensus_snapshot_taken(broker->consensus, snapshot);
    else if (status == STATUS_CORRUPT && broker_alive(broker))
        broker_fail(broker, status, "the rows of the store do not have the hash that it keeps");
}

static void snapshot_received(void *context, enum status status)
{
    struct broker *broker = context;
    if (broker_alive(broker))
        consensus_received(broker->consensus, status);
}

static void forget_committed(struct broker *broker)
{
    for (size_t i = 0; i < broker->committed_waiting; i++)
        log_entry_release(broker->committed[(broker->committed_first + i) % broker->committed_capacity].entry);
    broker->committed_waiting = 0;
}

static void snapshot_restored(void *context, enum status status, uint64_t index)
{
    struct broker *broker = context;
    if (!broker_alive(broker))
        return;
    if (status == STATUS_OK)
        broker->restored = index;
    else
        broker_fail(broker, status, "a received snapshot cannot be restored");
}

/* The restored store takes its place as soon as no worker reads the old one. */
static void swap_store(struct broker *broker)
{
    char error[DATA_ERROR_MAX];
    uint64_t index = broker->restored;
    if (index == 0 || snapshots_taking(broker->snapshots) || store_checks_busy(broker->checks))
        return;
    broker->restored = 0;
    forget_committed(broker);
    enum status status = data_swap_store(&broker->data, broker->config, error);
    if (status != STATUS_OK) {
        broker_fail(broker, status, error);
        return;
    }
    store_checks_begin(broker->checks, broker->data.store, broker->now_ms);
    core_state_replaced(broker->core, broker->data.state, broker->now_ms);
    consensus_installed(broker->consensus, STATUS_OK, index, state_clock_ms(broker->data.state));
    log_event(LOG_INFO, "snapshot-installed", log_u64("index", index));
}

static void take_snapshot(struct broker *broker)
{
    struct state *state = broker->data.state;
    if (broker->now_ms < broker->snapshot_ms || snapshots_busy(broker->snapshots) || broker->restored != 0 ||
        !consensus_wants_snapshot(broker->consensus))
        return;
    if (state_commit(state) != STATUS_OK) {
        broker_fail(broker, store_status(broker->data.store), store_trouble(broker->data.store));
        return;
    }
    struct snapshot_facts facts = {.index = state_applied(state), .term = state_applied_term(state)};
    facts.configuration = consensus_configuration(broker->consensus, facts.index, &facts.configuration_index);
    snapshots_take(broker->snapshots, broker->data.store, &facts);
}

/* The store is in doubt: this node resigns, so that the others need not find out, and stops. */
static void store_found_bad(void *context, enum status status, const char *why)
{
    struct broker *broker = context;
    if (!broker_alive(broker))
        return;
    consensus_transfer(broker->consensus, 0);
    consensus_flush(broker->consensus);
    if (broker_alive(broker))
        links_flush(broker->links);
    broker_fail(broker, status, why);
}

/* ---- links ---- */

static void link_up(void *context, uint32_t peer, enum link_kind kind, uint64_t in, uint64_t out)
{
    struct broker *broker = context;
    broker_begin(broker);
    if (broker_alive(broker))
        consensus_link_up(broker->consensus, peer, kind, in, out);
}

static void link_down(void *context, uint32_t peer, enum link_kind kind, uint64_t in)
{
    struct broker *broker = context;
    broker_begin(broker);
    if (broker_alive(broker))
        consensus_link_down(broker->consensus, peer, kind, in);
}

static void link_frame(void *context, uint32_t peer, enum link_kind kind, struct bytes frame)
{
    struct broker *broker = context;
    broker_begin(broker);
    if (broker_alive(broker))
        consensus_receive(broker->consensus, peer, kind, frame);
}

static bool link_admit(void *context, uint32_t peer, uint64_t incarnation)
{
    return data_admit(&((struct broker *)context)->data, peer, incarnation);
}

/* ---- the turn ---- */

static void measure_batch(struct broker *broker, struct bytes batch)
{
    struct batch_header header;
    struct bytes commands;
    if (batch.size == 0 || batch_decode(batch, &header, &commands) != STATUS_OK)
        return;
    histogram_add(&broker->numbers.batch_commands, header.count);
    struct submission *submission = &broker->submissions[header.number % SUBMISSIONS];
    if (header.origin_node == broker->config->node.id && submission->at_ns != 0 &&
        submission->number == header.number) {
        histogram_add(&broker->numbers.commit_us, (uv_hrtime() - submission->at_ns) / 1000);
        submission->at_ns = 0;
    }
}

static void apply_committed(struct broker *broker)
{
    uint64_t started = uv_hrtime();
    while (broker->committed_waiting > 0 && broker_alive(broker)) {
        struct committed next = broker->committed[broker->committed_first];
        broker->committed_first = (broker->committed_first + 1) % broker->committed_capacity;
        broker->committed_waiting--;
        core_committed(broker->core, next.index, next.entry->term, consensus_entry_batch(next.entry), broker->now_ms);
        measure_batch(broker, consensus_entry_batch(next.entry));
        log_entry_release(next.entry);
        if (uv_hrtime() - started > APPLY_NS)
            break;
    }
}

static void wake_up(uv_timer_t *timer)
{
    (void)timer; /* the turn follows by itself */
}

static void measure_turn(struct broker *broker)
{
    uint64_t us = (uv_hrtime() - broker->turn_ns) / 1000;
    broker->turn_ns = 0;
    broker->numbers.turns++;
    if (us > broker->numbers.turn_longest_us)
        broker->numbers.turn_longest_us = us;
    if (us > broker->minute_longest_us)
        broker->minute_longest_us = us;
    if (broker->now_ms - broker->minute_ms >= MINUTE_MS) {
        broker->numbers.turn_recent_us = broker->minute_longest_us;
        broker->minute_longest_us = 0;
        broker->minute_ms = broker->now_ms;
    }
}

static void schedule(struct broker *broker)
{
    uint64_t core = core_deadline(broker->core), consensus = consensus_deadline(broker->consensus);
    uint64_t next = core < consensus ? core : consensus, now = clock_ms(CLOCK_BOOTTIME);
    uint64_t checks = store_checks_deadline(broker->checks);
    next = next < checks ? next : checks;
    bool at_once = broker->committed_waiting > 0 || next <= now;
    uv_update_time(broker->loop);
    uv_timer_start(&broker->wake, wake_up, at_once ? 0 : next - now < MINUTE_MS ? next - now : MINUTE_MS, 0);
}

/* Clients are gone and their ENDs committed, or that is not to be had: the other nodes stop as well. */
static bool goodbye_is_said(const struct broker *broker)
{
    struct consensus_status status;
    uint64_t since_ms = broker->now_ms + STOP_MS - broker->stop_ms;
    consensus_status(broker->consensus, &status);
    bool alone = since_ms >= ALONE_MS && (status.leader == 0 || !status.majority);
    return alone || since_ms >= STOP_MS || core_idle(broker->core);
}

static void broker_turn(uv_prepare_t *prepare)
{
    struct broker *broker = prepare->data;
    broker_begin(broker);
    for (uint32_t i = 0; i < broker->door_count; i++)
        if (broker->doors[i].listener != NULL)
            listener_turn(broker->doors[i].listener);
    if (broker_alive(broker))
        consensus_deliver(broker->consensus);
    if (broker_alive(broker))
        apply_committed(broker);
    if (broker_alive(broker)) {
        give_health(broker);
        core_turn(broker->core, broker->now_ms);
    }
    if (broker_alive(broker))
        conns_report(broker->conns);
    if (broker_alive(broker))
        take_snapshot(broker);
    if (broker_alive(broker))
        swap_store(broker);
    if (broker_alive(broker))
        store_checks_turn(broker->checks, broker->now_ms);
    if (broker_alive(broker))
        consensus_flush(broker->consensus);
    if (!broker_alive(broker))
        return;
    links_flush(broker->links);
    if (broker->phase == BROKER_STOPPING && goodbye_is_said(broker)) {
        broker_close(broker);
        return;
    }
    schedule(broker);
    measure_turn(broker);
}

/* ---- endings ---- */

static void close_doors(struct broker *broker)
{
    for (uint32_t i = 0; i < broker->door_count; i++) {
        if (broker->doors[i].listener != NULL)
            listener_close(broker->doors[i].listener);
        broker->doors[i].listener = NULL;
    }
}

void broker_stop(struct broker *broker)
{
    if (broker->phase == BROKER_FAILED) {
        broker->end = BROKER_END_STOPPED;
        broker_close(broker);
        return;
    }
    if (broker->phase != BROKER_RUNNING)
        return;
    log_event(LOG_INFO, "stopping");
    broker_begin(broker);
    if (!broker_alive(broker))
        return;
    broker->phase = BROKER_STOPPING;
    broker->stop_ms = broker->now_ms + STOP_MS;
    close_doors(broker);
    consensus_transfer(broker->consensus, 0);
    core_stop(broker->core, broker->now_ms);
}

static void signal_received(uv_signal_t *signal, int number)
{
    struct broker *broker = signal->data;
    if (broker->phase == BROKER_RUNNING || broker->phase == BROKER_FAILED) {
        broker_stop(broker);
    } else {
        log_event(LOG_WARNING, "stopping-at-once", log_i64("signal", number));
        _Exit(1); /* the same as a kill: nothing is lost by it */
    }
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Everything that could still call back has ended: take the parts down, those above first. */
static void broker_finish(struct broker *broker)
{
    forget_committed(broker);
    if (broker->core != NULL)
        core_free(broker->core);
    if (broker->consensus != NULL)
        consensus_free(broker->consensus);
    if (broker->snapshots != NULL)
        snapshots_free(broker->snapshots);
    if (broker->checks != NULL)
        store_checks_free(broker->checks);
    broker->core = NULL;
    broker->consensus = NULL;
    broker->snapshots = NULL;
    broker->checks = NULL;
    if (broker->data_open)
        data_close(&broker->data);
    broker->data_open = false;
    if (broker->admin != NULL)
        admin_close(broker->admin);
    broker->admin = NULL;
    conns_free(broker->conns);
    close_handle((uv_handle_t *)&broker->prepare);
    close_handle((uv_handle_t *)&broker->wake);
    close_handle((uv_handle_t *)&broker->patience);
    close_handle((uv_handle_t *)&broker->signals[0]);
    close_handle((uv_handle_t *)&broker->signals[1]);
}

static void finish_when_quiet(uv_timer_t *timer)
{
    struct broker *broker = timer->data;
    if (conns_count(broker->conns) == 0 && broker->jobs == 0)
        broker_finish(broker);
}

static void broker_close(struct broker *broker)
{
    if (broker->phase == BROKER_CLOSING)
        return;
    broker->phase = BROKER_CLOSING;
    close_doors(broker);
    conns_close_all(broker->conns);
    if (broker->links != NULL)
        links_close(broker->links);
    broker->links = NULL;
    if (broker->snapshots != NULL)
        snapshots_stop(broker->snapshots);
    if (broker->checks != NULL)
        store_checks_stop(broker->checks);
    uv_prepare_stop(&broker->prepare);
    uv_timer_stop(&broker->wake);
    uv_timer_start(&broker->patience, finish_when_quiet, 1, 2);
}

/* Restarts of this process by itself, one soon after the other. */
static unsigned restarts_so_far(const struct broker *broker)
{
    const char *text = getenv(RESTARTS_VARIABLE);
    bool lasted = clock_ms(CLOCK_BOOTTIME) - broker->numbers.started_ms > HEALTHY_MS;
    return text != NULL && !lasted ? (unsigned)atoi(text) : 0;
}

static void restart_now(uv_timer_t *timer)
{
    struct broker *broker = timer->data;
    struct statvfs space;
    char count[16];
    bool want_space = broker->end == BROKER_END_FAILED; /* set below: waiting for space */
    if (want_space && (statvfs(broker->config->node.data_dir, &space) != 0 ||
                       (uint64_t)space.f_bavail * space.f_frsize < SPACE_BYTES))
        return;
    snprintf(count, sizeof(count), "%u", restarts_so_far(broker) + 1);
    setenv(RESTARTS_VARIABLE, count, 1);
    broker->end = BROKER_END_RESTART;
    broker_close(broker);
}

/* A full disk: wait until there is room, then start anew. A store in doubt: rebuild it, at growing intervals. Anything
 * else: end; a supervisor may try again. */
static void restart_if_it_helps(struct broker *broker, enum status status)
{
    unsigned restarts = restarts_so_far(broker);
    broker->end = BROKER_END_FAILED;
    if (status == STATUS_NO_SPACE) {
        uv_timer_start(&broker->patience, restart_now, SPACE_CHECK_MS, SPACE_CHECK_MS);
    } else if (status == STATUS_CORRUPT) {
        data_mark_rebuild(broker->config->node.data_dir);
        broker->end = BROKER_END_RESTART;
        uv_timer_start(&broker->patience, restart_now, 1000ull << (restarts < 6 ? restarts : 6), 0);
    } else {
        broker_close(broker);
    }
}

/* The one line, and the end of all service. May be called from inside core or consensus: nothing of theirs is called
 * from here on, and they are freed by the loop. */
static void broker_fail(struct broker *broker, enum status status, const char *why)
{
    if (!broker_alive(broker))
        return;
    log_event(LOG_ERROR, "node-failed", log_result(status), log_text("why", why),
              log_text("consequence", status == STATUS_NO_SPACE ? "it serves nobody until there is space, then restarts"
                                      : status == STATUS_CORRUPT ? "it restarts and rebuilds its state"
                                                                 : "it stops"));
    snprintf(broker->trouble, sizeof(broker->trouble), "%.200s: %s", why, status_text(status));
    broker->phase = BROKER_FAILED;
    broker->turn_ns = 0;
    close_doors(broker);
    conns_close_all(broker->conns);
    uv_timer_stop(&broker->wake);
    if (broker->links != NULL)
        links_close(broker->links);
    broker->links = NULL;
    restart_if_it_helps(broker, status);
}

enum broker_end broker_free(struct broker *broker)
{
    enum broker_end end = broker->end;
    free(broker->committed);
    free(broker);
    return end;
}

/* ---- start ---- */

/* As many descriptors as the machine allows, and so many clients that RESERVED are left for everything else. */
static uint32_t raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    uint64_t kept = LISTENER_DESCRIPTORS_RESERVED + DESCRIPTORS_USED;
    uint64_t clients = limit.rlim_cur > kept + 16 ? limit.rlim_cur - kept : 16;
    return clients < UINT32_MAX ? (uint32_t)clients : UINT32_MAX;
}

static enum status open_doors(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    uint32_t clients = raise_descriptor_limit();
    if (clients < config->limits.connections_max)
        log_event(LOG_DEBUG, "connections-limited", log_u64("by_descriptors", clients));
    for (uint32_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *wanted = &config->listeners[i];
        struct door *door = &broker->doors[broker->door_count];
        const struct listener_calls calls = {.context = door, .accepted = client_accepted, .paused = clients_paused};
        door->broker = broker;
        int result = listener_open(broker->loop, broker->conns, wanted->kind, wanted->address, wanted->port, &calls,
                                   &door->listener);
        if (result != 0) {
            snprintf(error, BROKER_ERROR_MAX, "cannot listen for clients at %s %s port %u: %s", wanted->kind,
                     wanted->address, wanted->port, uv_strerror(result));
            return STATUS_INVALID;
        }
        broker->door_count++;
        listener_limit(door->listener, clients);
        snprintf(door->name, sizeof(door->name), "%s", listener_name(door->listener));
    }
    return STATUS_OK;
}

static enum status start_consensus(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    const struct data *data = &broker->data;
    const struct consensus_calls calls = {
        .send = for_consensus_send,
        .disconnect = for_consensus_disconnect,
        .commit = for_consensus_commit,
        .changed = for_consensus_changed,
        .snapshot_open = for_consensus_snapshot_open,
        .snapshot_read = for_consensus_snapshot_read,
        .snapshot_close = for_consensus_snapshot_close,
        .incoming_open = for_consensus_incoming_open,
        .incoming_write = for_consensus_incoming_write,
        .incoming_finish = for_consensus_incoming_finish,
        .install = for_consensus_install,
        .messages = for_consensus_peer_messages,
        .peer_applied = for_consensus_peer_applied,
        .fatal = part_fatal,
        .note = for_consensus_note,
    };
    uint32_t ids[CONFIG_MEMBERS_MAX] = {config->node.id}, count = config->cluster.member_count;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = config->cluster.members[i].id;
    bool bootstrap = config->cluster.bootstrap && log_last(data->log) == 0 && data->newest == NULL;
    struct consensus_settings settings = {
        .self = config->node.id,
        .bootstrap = bootstrap ? ids : NULL,
        .bootstrap_count = count > 0 ? count : 1,
        .election_ms = config->timeouts.election_ms,
        .heartbeat_ms = config->timeouts.heartbeat_ms,
        .node_timeout_ms = config->timeouts.node_timeout_ms,
        .log_bytes_max = config->limits.log_bytes_max,
    };
    struct consensus_snapshot newest = {0};
    if (data->newest != NULL) {
        const struct snapshot_facts *facts = snapshot_facts(data->newest);
        newest = (struct consensus_snapshot){.index = facts->index,
                                             .term = facts->term,
                                             .configuration_index = facts->configuration_index,
                                             .configuration = facts->configuration};
    }
    if (getrandom(&settings.seed, sizeof(settings.seed), 0) < 0)
        settings.seed = uv_hrtime();
    broker->consensus = consensus_new(&settings, &calls, broker, data->log, &newest, state_applied(data->state),
                                      state_applied_term(data->state), state_clock_ms(data->state));
    enum status status = consensus_start(broker->consensus, broker->now_ms, clock_ms(CLOCK_REALTIME));
    if (status != STATUS_OK)
        snprintf(error, BROKER_ERROR_MAX, "log, snapshots and store in %.600s do not fit together: %s", data->directory,
                 status_text(status));
    return status;
}

static void start_core(struct broker *broker)
{
    const struct config *config = broker->config;
    const struct core_callbacks calls = {
        .context = broker,
        .write = for_core_write,
        .close = for_core_close,
        .reading = for_core_reading,
        .address = for_core_address,
        .submit = for_core_submit,
        .applied = for_core_applied,
        .checkpoint = for_core_checkpoint,
        .messages = for_core_messages,
        .fatal = part_fatal,
        .note = for_core_note,
    };
    struct core_options options = {
        .node = config->node.id,
        .client_address = config->node.client_address,
        .limits =
            {
                .clients_max = config->limits.connections_max,
                .packet_bytes_max = config->limits.packet_bytes_max,
                .receive_maximum = (uint16_t)config->limits.receive_maximum,
                .in_flight_max = (uint16_t)config->limits.state.in_flight_max,
                .keep_alive_max_s = (uint16_t)config->timeouts.keep_alive_max_s,
                .connect_timeout_ms = config->timeouts.connect_ms,
                .output_bytes_max = config->limits.output_bytes_max < UINT32_MAX
                                        ? (uint32_t)config->limits.output_bytes_max
                                        : UINT32_MAX,
                .commands_bytes_max = config->limits.hold_bytes_max,
                .memory_bytes_max = config->limits.memory_bytes_max,
                .hold_ms = config->timeouts.hold_ms,
                .node_timeout_ms = config->timeouts.node_timeout_ms,
                .node_margin_ms = config->timeouts.node_timeout_ms / 4,
            },
        .settings = &config->limits.state,
    };
    if (getrandom(&options.seed, sizeof(options.seed), 0) < 0 ||
        getrandom(options.boot_nonce, sizeof(options.boot_nonce), 0) < 0)
        abort(); /* a start without a nonce of its own could be taken for an earlier one */
    broker->core = core_new(&options, &calls, broker->data.state, broker->now_ms);
}

static enum status start_links(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    const struct config_member *self = config_self(config);
    const struct links_calls calls = {
        .context = broker, .up = link_up, .down = link_down, .frame = link_frame, .admit = link_admit};
    struct link_peer peers[CONFIG_MEMBERS_MAX];
    char host[256] = "", link_error[LINK_ERROR_MAX] = "";
    struct links_settings settings = {
        .self = config->node.id,
        .incarnation = broker->data.identity.incarnation,
        .generation = clock_ms(CLOCK_REALTIME) << 20,
        .silence_ms = config->timeouts.node_timeout_ms,
        .listen_host = host,
        .peers = peers,
    };
    memcpy(settings.cluster_id, broker->data.identity.cluster_id, sizeof(settings.cluster_id));
    if (self != NULL)
        config_split_address(config->cluster.listen[0] != '\0' ? config->cluster.listen : self->link, host,
                             sizeof(host), &settings.listen_port);
    for (uint32_t i = 0; i < config->cluster.member_count; i++)
        if (config->cluster.members[i].id != config->node.id)
            peers[settings.peer_count++] =
                (struct link_peer){config->cluster.members[i].id, config->cluster.members[i].link};
    enum status status = links_open(broker->loop, &settings, &calls, &broker->links, link_error);
    if (status != STATUS_OK)
        snprintf(error, BROKER_ERROR_MAX, "%s", link_error);
    return status;
}

static enum status open_data(struct broker *broker, char *error)
{
    const struct disk_queue queue = {.submit = submit_job, .context = broker};
    const struct data_log log = {
        .queue = {.submit = submit_log_job, .context = broker}, .flushed = log_flushed, .context = broker};
    const struct snapshots_calls calls = {
        .context = broker, .taken = snapshot_taken, .received = snapshot_received, .restored = snapshot_restored};
    const struct store_checks_calls checks = {.context = broker, .found = store_found_bad};
    enum status status = data_open(broker->config, &log, &broker->data, error);
    if (status != STATUS_OK)
        return status;
    broker->data_open = true;
    broker->snapshots = snapshots_new(broker->data.snapshots_path, broker->data.identity.cluster_id, queue, &calls);
    broker->checks = store_checks_new(queue, &checks);
    return STATUS_OK;
}

static void start_loop(struct broker *broker)
{
    static const int numbers[2] = {SIGTERM, SIGINT};
    uv_prepare_init(broker->loop, &broker->prepare);
    uv_timer_init(broker->loop, &broker->wake);
    uv_timer_init(broker->loop, &broker->patience);
    broker->prepare.data = broker->wake.data = broker->patience.data = broker;
    for (int i = 0; i < 2; i++) {
        uv_signal_init(broker->loop, &broker->signals[i]);
        broker->signals[i].data = broker;
        uv_signal_start(&broker->signals[i], signal_received, numbers[i]);
    }
}

enum status broker_open(uv_loop_t *loop, const struct config *config, struct broker **out, char error[BROKER_ERROR_MAX])
{
    struct broker *broker = memory_zeroed(1, sizeof(*broker));
    const struct conn_calls calls = {
        .context = broker, .received = client_received, .written = client_written, .closed = client_closed};
    broker->loop = loop;
    broker->config = config;
    broker->now_ms = broker->minute_ms = clock_ms(CLOCK_BOOTTIME);
    broker->numbers.started_ms = broker->now_ms;
    broker->conns = conns_new(loop, &calls, config->timeouts.close_ms);
    start_loop(broker);
    enum status status = open_doors(broker, error);
    if (status == STATUS_OK)
        status = admin_open(loop, broker, config->admin.address, config->admin.port, &broker->admin, error,
                            BROKER_ERROR_MAX);
    if (status == STATUS_OK)
        status = open_data(broker, error);
    if (status == STATUS_OK)
        status = start_links(broker, error);
    broker->now_ms = clock_ms(CLOCK_BOOTTIME); /* recovery may have taken a while: that was no pause */
    if (status == STATUS_OK)
        status = start_consensus(broker, error);
    if (status != STATUS_OK || broker->phase != BROKER_RUNNING) {
        if (status == STATUS_OK)
            status = STATUS_CORRUPT; /* consensus has said why */
        broker->end = BROKER_END_FAILED;
        broker_close(broker);
        uv_run(loop, UV_RUN_DEFAULT);
        broker_free(broker);
        return status;
    }
    start_core(broker);
    store_checks_begin(broker->checks, broker->data.store, broker->now_ms);
    uv_prepare_start(&broker->prepare, broker_turn);
    *out = broker;
    log_event(LOG_INFO, "started", log_text("version", COTERIE_VERSION), log_text("listener", broker->doors[0].name),
              log_u64("members", config->cluster.member_count > 0 ? config->cluster.member_count : 1));
    return STATUS_OK;
}

/* ---- for the admin interface ---- */

enum broker_phase broker_phase(const struct broker *broker)
{
    return broker->phase;
}

const char *broker_trouble(const struct broker *broker)
{
    return broker->trouble;
}

const struct config *broker_config(const struct broker *broker)
{
    return broker->config;
}

const struct data *broker_data(const struct broker *broker)
{
    return &broker->data;
}

struct core *broker_core(const struct broker *broker)
{
    return broker_alive(broker) ? broker->core : NULL;
}

struct consensus *broker_consensus(const struct broker *broker)
{
    return broker_alive(broker) ? broker->consensus : NULL;
}

const struct links *broker_links(const struct broker *broker)
{
    return broker->links;
}

uint32_t broker_client_port(const struct broker *broker)
{
    return broker->door_count > 0 && broker->doors[0].listener != NULL ? listener_port(broker->doors[0].listener) : 0;
}

void broker_numbers(const struct broker *broker, struct broker_numbers *numbers)
{
    *numbers = broker->numbers;
    numbers->now_ms = clock_ms(CLOCK_BOOTTIME);
    numbers->committed_waiting = broker->committed_waiting;
}

bool broker_ready(const struct broker *broker, const char **why)
{
    struct consensus_status status;
    *why = broker->phase == BROKER_FAILED ? broker->trouble : "stopping";
    if (broker->phase != BROKER_RUNNING)
        return false;
    consensus_status(broker->consensus, &status);
    *why = status.leader == 0  ? "no leader is known"
           : !status.majority  ? "the majority of the nodes is not heard"
           : !status.caught_up ? "catching up"
           : status.flush_slow ? "the disk does not flush"
           : status.damaged    ? "damaged: being rebuilt from the other nodes"
                               : NULL;
    return *why == NULL && core_ready(broker->core, why);
}
