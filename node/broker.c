/* broker.c — the turns of a node's loop.
 *
 *   poll: bytes, frames, finished jobs --> begin, once: clock, consensus_advance; after a pause health first
 *                                      --> the parts take in what came (broker_seams.c)
 *   prepare, before the next poll: committed entries -> core; core_turn -> frames out, batches -> consensus_flush
 *                                      -> links_flush
 *
 * Always true: the first thing after a poll is the clock (begin), so that a node that stood still knows it before it
 * looks at any socket; and what one part asks of another waits in a queue until the turn (`committed`, the
 * proposals in core, the frames in links), so no part is ever called from inside itself.
 *
 * Entries are applied for APPLY_NS at most per turn, and one that is long over several: a node that catches up goes on
 * hearing heartbeats. What the core does in a turn is counted (core_private.h) and goes on in the next. */
#include "broker_private.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define APPLY_NS  (4 * 1000 * 1000)
#define PAUSE_MS  500 /* between two turns: the process stood still */
#define ALONE_MS  700 /* of STOP_MS, when no leader is there to commit anything */
#define MINUTE_MS 60000

/* ---- clocks ---- */

uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void give_health(struct broker *broker)
{
    struct consensus_status status;
    consensus_status(broker->consensus, &status);
    core_health(broker->core, &status, broker->now_ms);
}

/* The first thing after a poll. */
void broker_begin(struct broker *broker)
{
    if (broker->turn_ns != 0 || !broker_alive(broker))
        return;
    broker->turn_ns = broker->phase_ns = uv_hrtime();
    uint64_t now = clock_ms(CLOCK_BOOTTIME), gap = now - broker->now_ms;
    broker->now_ms = now;
    consensus_advance(broker->consensus, now, clock_ms(CLOCK_REALTIME));
    if (gap < PAUSE_MS || !broker_alive(broker))
        return;
    broker->numbers.pauses++;
    log_event(LOG_WARNING, "paused", log_u64("ms", gap));
    give_health(broker);
}

/* ---- the store, and copies of it ---- */

static void forget_applied(struct broker *broker)
{
    if (broker->applying != NULL)
        log_entry_release(broker->applying);
    broker->applying = NULL;
}

void forget_committed(struct broker *broker)
{
    forget_applied(broker);
    for (size_t i = 0; i < broker->committed_waiting; i++)
        log_entry_release(broker->committed[(broker->committed_first + i) % broker->committed_capacity].entry);
    broker->committed_waiting = 0;
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
    if (core_applying(broker->core) || broker->now_ms < broker->snapshot_ms || snapshots_busy(broker->snapshots) || broker->restored != 0 ||
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
    while (broker->committed_waiting > 0 && broker_alive(broker) && core_takes_entries(broker->core)) {
        struct committed next = broker->committed[broker->committed_first];
        broker->committed_first = (broker->committed_first + 1) % broker->committed_capacity;
        broker->committed_waiting--;
        forget_applied(broker);
        broker->applying = next.entry; /* the core may need it for several turns */
        core_take_entry(broker->core, next.index, next.entry->term, consensus_entry_batch(next.entry), broker->now_ms);
        if (broker_alive(broker))
            measure_batch(broker, consensus_entry_batch(next.entry));
        if (uv_hrtime() - started > APPLY_NS)
            break;
    }
}

static void wake_up(uv_timer_t *timer)
{
    (void)timer; /* the turn follows by itself */
}

static void phase_over(struct broker *broker, enum turn_phase phase)
{
    uint64_t now = uv_hrtime();
    broker->phase_us[phase] = (now - broker->phase_ns) / 1000;
    broker->phase_ns = now;
}

static void measure_processor(struct broker *broker)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    uint64_t us = (uint64_t)used.tv_sec * 1000000 + (uint64_t)used.tv_nsec / 1000;
    if (broker->cpu_us != 0 && us - broker->cpu_us > broker->numbers.turn_cpu_us)
        broker->numbers.turn_cpu_us = us - broker->cpu_us;
    broker->cpu_us = us;
}

static void measure_turn(struct broker *broker)
{
    phase_over(broker, TURN_REST);
    measure_processor(broker);
    uint64_t us = (broker->phase_ns - broker->turn_ns) / 1000;
    broker->turn_ns = 0;
    broker->numbers.turns++;
    histogram_add(&broker->numbers.turn_us, us);
    if (us > broker->numbers.turn_longest_us) {
        broker->numbers.turn_longest_us = us;
        memcpy(broker->numbers.turn_longest_phase_us, broker->phase_us, sizeof(broker->phase_us));
    }
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

void broker_turn(uv_prepare_t *prepare)
{
    struct broker *broker = prepare->data;
    broker_begin(broker);
    phase_over(broker, TURN_SOCKETS);
    doors_turn(broker);
    if (broker_alive(broker)) {
        consensus_heard(broker->consensus, clock_ms(CLOCK_BOOTTIME));
        consensus_deliver(broker->consensus);
    }
    if (broker_alive(broker))
        apply_committed(broker);
    phase_over(broker, TURN_ENTRIES);
    if (broker_alive(broker)) {
        give_health(broker);
        core_turn(broker->core, broker->now_ms);
    }
    if (broker_alive(broker))
        conns_report(broker->conns);
    phase_over(broker, TURN_CORE);
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

const struct admin *broker_admin(const struct broker *broker)
{
    return broker->admin;
}

struct core *broker_core(const struct broker *broker)
{
    return broker_alive(broker) ? broker->core : NULL;
}

struct consensus *broker_consensus(const struct broker *broker)
{
    return broker_alive(broker) ? broker->consensus : NULL;
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

enum status broker_remove_member(struct broker *broker, uint32_t node)
{
    if (broker->phase != BROKER_RUNNING)
        return STATUS_CLOSED;
    broker_begin(broker);
    return broker_alive(broker) ? consensus_remove(broker->consensus, node) : STATUS_CLOSED;
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
           : status.full       ? "the disk has no space for more of the log"
           : status.damaged    ? "damaged: being rebuilt from the other nodes"
           : status.outside    ? "a replacement: not a voting member yet"
                               : NULL;
    return *why == NULL && core_ready(broker->core, why);
}
