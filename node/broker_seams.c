/* broker_seams.c — what the parts ask of each other: every callback that one of them was given, and the tables of them.
 *
 *   uv threads --done--> log, snapshots, store_checks
 *   conns, listeners --> core --> conns, consensus, links
 *   links --> consensus --> links, snapshots, `committed`, core
 *
 * A callback takes what came and hands it on; it decides nothing. Those that the loop calls begin the turn first; all
 * of them do nothing once the node has failed. */
#include "broker_private.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>

#define SNAPSHOT_RETRY_MS 30000

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

static void client_opened(void *context, struct conn *conn, const struct filter_facts *facts)
{
    struct broker *broker = context;
    broker_begin(broker);
    if (!broker_alive(broker)) {
        conn_close(conn, false);
        return;
    }
    const struct core_origin origin = door_origin(&broker->doors[conn_door(conn)], facts);
    conn_set_number(conn, core_open(broker->core, conn, &origin, broker->now_ms));
}

/* Before MQTT has begun, or by a fault below it. */
static void client_refused(void *context, struct conn *conn, const char *why)
{
    struct broker *broker = context;
    struct door *door = &broker->doors[conn_door(conn)];
    char address[CONN_ADDRESS_MAX];
    uint64_t suppressed;
    if (!log_allowed(&door->refused_limit, uv_now(broker->loop), &suppressed))
        return;
    conn_peer(conn, address);
    log_event(LOG_INFO, "connection-refused", log_text("listener", door->name), log_text("address", address),
              log_text("why", why), log_u64("suppressed", suppressed));
}

static void client_turned_away(void *context, struct conn *conn, const char *why)
{
    client_refused(((struct door *)context)->broker, conn, why);
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

static bool client_takes(void *context)
{
    struct broker *broker = context;
    broker_begin(broker);
    return !broker_alive(broker) || core_takes_input(broker->core);
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
    if (broker->doors[conn_door(conn)].listener != NULL)
        listener_left(broker->doors[conn_door(conn)].listener);
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

static void for_core_login(void *context, struct login *login)
{
    security_login(context, login);
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
    for (uint32_t node = 1; node < NODES_MAX; node++)
        if ((status->removed & ~broker->told.removed) >> node & 1)
            log_event(LOG_INFO, "member-removed", log_u64("node", node));
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

/* ---- what snapshots and checks of the store tell ---- */

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

static void link_up(void *context, uint32_t peer, enum link_kind kind, uint64_t in, uint64_t out,
                    struct node_life life)
{
    struct broker *broker = context;
    broker_begin(broker);
    if (!broker_alive(broker))
        return;
    consensus_peer_life(broker->consensus, peer, life);
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

static const char *link_admit(void *context, uint32_t peer, uint64_t incarnation, uint64_t replacement)
{
    struct broker *broker = context;
    const char *why = data_admit(&broker->data, peer, incarnation, replacement);
    struct node_life life = wire_hello_life(&(struct wire_hello){.incarnation = incarnation, .replacement = replacement});
    if (why == NULL && broker_alive(broker) && consensus_has_removed(broker->consensus, peer, life))
        why = "it was taken out of the cluster for good; without its data it can join again as a replacement "
              "(coterie --replace NUMBER)";
    return why;
}

/* ---- the tables ---- */

struct conn_calls for_conns(struct broker *broker)
{
    return (struct conn_calls){
        .context = broker,
        .opened = client_opened,
        .takes = client_takes,
        .received = client_received,
        .written = client_written,
        .refused = client_refused,
        .closed = client_closed,
    };
}

struct listener_calls for_listener(struct door *door)
{
    return (struct listener_calls){.context = door, .paused = clients_paused, .turned_away = client_turned_away};
}

struct core_callbacks for_core(struct broker *broker)
{
    return (struct core_callbacks){
        .context = broker,
        .write = for_core_write,
        .close = for_core_close,
        .reading = for_core_reading,
        .address = for_core_address,
        .login = for_core_login,
        .submit = for_core_submit,
        .applied = for_core_applied,
        .checkpoint = for_core_checkpoint,
        .messages = for_core_messages,
        .fatal = part_fatal,
        .note = for_core_note,
    };
}

const struct consensus_calls for_consensus = {
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

struct links_calls for_links(struct broker *broker)
{
    return (struct links_calls){
        .context = broker, .up = link_up, .down = link_down, .frame = link_frame, .admit = link_admit};
}

struct snapshots_calls for_snapshots(struct broker *broker)
{
    return (struct snapshots_calls){
        .context = broker, .taken = snapshot_taken, .received = snapshot_received, .restored = snapshot_restored};
}

struct store_checks_calls for_store_checks(struct broker *broker)
{
    return (struct store_checks_calls){.context = broker, .found = store_found_bad};
}

struct data_log for_log(struct broker *broker)
{
    return (struct data_log){
        .queue = {.submit = submit_log_job, .context = broker}, .flushed = log_flushed, .context = broker};
}

struct disk_queue for_jobs(struct broker *broker)
{
    return (struct disk_queue){.submit = submit_job, .context = broker};
}
