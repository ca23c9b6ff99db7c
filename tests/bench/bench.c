/* bench.c — coterie-bench: load for an MQTT broker or cluster, every message accounted for. `--help` is the manual.
 *
 *   plan (what to do) -> this file (when) -> workers (threads) -> clients -> packets
 *                                          <- counters, histograms, ledgers -> report
 *
 * This file is the conductor. It runs in the main thread, gives the workers their orders phase by phase, takes samples
 * of counters and CPU time at the edges of the measured time, and at the end, when all threads are joined, compares
 * what was acknowledged with what arrived. To add a workload: a row in plan.c, and a run_...() here if the phases are
 * new. */
#include "buffer.h"
#include "disk.h"
#include "plan.h"
#include "process.h"
#include "report.h"
#include "worker.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 2, NO_PROGRESS_S = 30, SETTLE_S = 2 };

enum { EXIT_WELL = 0, EXIT_BROKEN_PROMISE = 1, EXIT_NOT_MEASURED = 3 };

struct run {
    const struct plan *plan;
    struct worker *workers;
    _Atomic uint64_t *delivered_of;
    struct report *report;
};

/* Everything that grows, at one moment. */
struct sample {
    uint64_t at_ns;
    uint64_t counters[COUNTER_COUNT];
    struct process_usage processes[PIDS_MAX];
    double own_cpu_s;
    uint64_t resident;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number)
{
    (void)number;
    interrupted = 1;
    signal(SIGINT, SIG_DFL); /* the second one ends us at once */
    signal(SIGTERM, SIG_DFL);
}

static void pause_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void pause_seconds(double seconds)
{
    uint64_t end = uv_hrtime() + (uint64_t)(seconds * 1e9);
    for (uint64_t now = uv_hrtime(); now < end && !interrupted; now = uv_hrtime())
        pause_ms((end - now) / 1000000 > 20 ? 20 : 1);
}

static uint64_t total(const struct run *run, enum counter counter)
{
    uint64_t sum = 0;
    for (uint64_t i = 0; i < run->plan->threads; i++)
        sum += counter_get(&run->workers[i], counter);
    return sum;
}

static uint64_t latest(const struct run *run, enum counter counter)
{
    uint64_t max = 0;
    for (uint64_t i = 0; i < run->plan->threads; i++) {
        uint64_t value = counter_get(&run->workers[i], counter);
        max = value > max ? value : max;
    }
    return max;
}

static void take_sample(const struct run *run, struct sample *sample)
{
    const struct pids *pids = &run->plan->pids;
    *sample = (struct sample){.at_ns = uv_hrtime(), .own_cpu_s = process_own_cpu_s()};
    for (int c = 0; c < COUNTER_COUNT; c++)
        sample->counters[c] = total(run, (enum counter)c);
    for (unsigned i = 0; i < pids->count; i++) {
        if (process_read(pids->list[i], &sample->processes[i]))
            sample->resident += sample->processes[i].resident;
    }
}

static void order(struct run *run, enum order what)
{
    for (uint64_t i = 0; i < run->plan->threads; i++)
        worker_order(&run->workers[i], what);
}

static void order_start(struct run *run)
{
    uint64_t now = uv_hrtime();
    for (uint64_t i = 0; i < run->plan->threads; i++)
        run->workers[i].started_ns = now;
    order(run, ORDER_START);
}

static void record(struct run *run, bool on)
{
    for (uint64_t i = 0; i < run->plan->threads; i++)
        atomic_store_explicit(&run->workers[i].recording, on, memory_order_relaxed);
}

static bool busy(const struct run *run)
{
    for (uint64_t i = 0; i < run->plan->threads; i++) {
        if (worker_busy(&run->workers[i]))
            return true;
    }
    return false;
}

/* What changes as long as anything still happens. */
static uint64_t progress(const struct run *run)
{
    return total(run, COUNTER_CONNECTED) + total(run, COUNTER_FINISHED) + total(run, COUNTER_DELIVERED) +
           total(run, COUNTER_DUPLICATED);
}

/* Waits for a condition; false if nothing has happened for `patience` seconds. */
static bool wait_for(struct run *run, bool (*holds)(const struct run *), double patience)
{
    uint64_t seen = progress(run), since = uv_hrtime();
    while (!holds(run)) {
        pause_ms(POLL_MS);
        uint64_t now_seen = progress(run), now = uv_hrtime();
        if (now_seen != seen) {
            seen = now_seen;
            since = now;
        } else if ((double)(now - since) / 1e9 > patience) {
            return false;
        }
    }
    return true;
}

static bool idle(const struct run *run)
{
    return !busy(run);
}

static bool all_sent(const struct run *run)
{
    return total(run, COUNTER_FINISHED) == run->plan->publishers * run->plan->messages || interrupted;
}

static bool all_delivered(const struct run *run)
{
    return total(run, COUNTER_FINISHED) == total(run, COUNTER_SENT) &&
           total(run, COUNTER_DELIVERED) >= total(run, COUNTER_EXPECTED);
}

static bool all_sent_and_delivered(const struct run *run)
{
    return interrupted || (all_sent(run) && all_delivered(run));
}

static bool all_back(const struct run *run)
{
    return !busy(run) && all_delivered(run);
}

static bool wave(struct run *run, enum role role, enum goal goal)
{
    for (uint64_t i = 0; i < run->plan->threads; i++)
        worker_order_wave(&run->workers[i], role, goal);
    return wait_for(run, idle, NO_PROGRESS_S);
}

static double seconds_between(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) / 1e9 : 0;
}

/* --- what the figures are ------------------------------------------------------------------------------------- */

static struct client *publisher_of(const struct run *run, uint64_t number)
{
    struct worker *worker = &run->workers[number % run->plan->threads];
    return &worker->clients[worker->role_begin[ROLE_PUBLISHER] + number / run->plan->threads];
}

static uint64_t lost_by(const struct run *run, const struct client *subscriber, bool *told)
{
    const struct plan *plan = run->plan;
    const struct subscriber *s = subscriber->subscriber;
    uint64_t lost = 0;
    for (uint64_t track = 0; track < plan_publishers_of(plan, s->topic); track++) {
        uint64_t number = plan_track_publisher(plan, s->topic, track), first = 0;
        uint64_t offset = plan->stride > 1 ? s->topic / plan->publishers : 0;
        uint64_t here = ledger_lost(&publisher_of(run, number)->publisher->acknowledged, plan->stride, offset,
                                    &s->tracks[track], &first);
        lost += here;
        if (here > 0 && !*told && plan->qos > 0) {
            fprintf(stderr, "coterie-bench: subscriber %llu misses %llu of publisher %llu, the first is number %llu\n",
                    (unsigned long long)subscriber->number, (unsigned long long)here, (unsigned long long)number,
                    (unsigned long long)first);
            *told = true;
        }
    }
    return lost;
}

static uint64_t count_lost(const struct run *run)
{
    uint64_t lost = 0;
    bool told = false;
    for (uint64_t w = 0; w < run->plan->threads; w++) {
        const struct worker *worker = &run->workers[w];
        for (uint64_t i = worker->role_begin[ROLE_SUBSCRIBER]; i < worker->role_begin[ROLE_SUBSCRIBER + 1]; i++)
            lost += lost_by(run, &worker->clients[i], &told);
    }
    return lost;
}

/* The longest time without an acknowledgement to anyone, in ms; *at_ms is when it began. */
static uint64_t longest_silence(const struct run *run, uint64_t *at_ms)
{
    uint64_t end = (run->workers[0].stopped_ns - run->workers[0].started_ns) / 1000000, longest = 0, from = 0;
    for (uint64_t ms = 0; ms <= end && ms < GAP_SLOTS_MAX; ms++) {
        bool heard = ms == end;
        for (uint64_t w = 0; w < run->plan->threads && !heard; w++)
            heard = run->workers[w].ack_slots[ms] != 0;
        if (!heard)
            continue;
        if (ms - from > longest) {
            longest = ms - from;
            *at_ms = from;
        }
        from = ms;
    }
    return longest;
}

static uint64_t longest_gap_of_one(const struct run *run)
{
    uint64_t longest = 0;
    for (uint64_t p = 0; p < run->plan->publishers; p++) {
        uint64_t gap = publisher_of(run, p)->publisher->longest_gap_ns;
        longest = gap > longest ? gap : longest;
    }
    return longest;
}

static void report_plan(const struct run *run)
{
    const struct plan *plan = run->plan;
    char text[160];
    int used = 0;
    report_text(run->report, "workload", NULL, plan->workload->name);
    for (unsigned i = 0; i < plan->hosts.count && used < (int)sizeof(text); i++)
        used += snprintf(text + used, sizeof(text) - (size_t)used, "%s%s", i > 0 ? "," : "", plan->hosts.list[i].text);
    report_text(run->report, "hosts", NULL, text);
    report_text(run->report, "protocol", NULL, plan->protocol == PROTOCOL_5 ? "5" : "3.1.1");
    report_number(run->report, "threads", NULL, (double)plan->threads, 0, "");
    if (plan->workload->kind == WORKLOAD_CONNECT || plan->workload->kind == WORKLOAD_IDLE) {
        report_number(run->report, "clients", NULL, (double)plan->clients, 0, "");
        snprintf(text, sizeof(text), "%llu clients", (unsigned long long)plan->clients);
    } else {
        report_number(run->report, "qos", NULL, (double)plan->qos, 0, "");
        report_number(run->report, "payload", NULL, (double)plan->payload_size, 0, "B");
        report_number(run->report, "publishers", NULL, (double)plan->publishers, 0, "");
        report_number(run->report, "subscribers", NULL, (double)plan->subscribers, 0, "");
        report_number(run->report, "in_flight", NULL, (double)plan->in_flight, 0, "");
        snprintf(text, sizeof(text), "QoS %llu, %llu B, %llu publishers (%llu in flight), %llu subscribers",
                 (unsigned long long)plan->qos, (unsigned long long)plan->payload_size,
                 (unsigned long long)plan->publishers, (unsigned long long)plan->in_flight,
                 (unsigned long long)plan->subscribers);
    }
    if (!plan->json)
        printf("%s: MQTT %s, %s, %u address%s\n", plan->workload->name, plan->protocol == PROTOCOL_5 ? "5" : "3.1.1",
               text, plan->hosts.count, plan->hosts.count == 1 ? "" : "es");
}

/* Of the processes that are still there at the end. */
static double broker_cpu_between(const struct run *run, const struct sample *from, const struct sample *to)
{
    double sum = 0;
    for (unsigned i = 0; i < run->plan->pids.count; i++) {
        if (to->processes[i].cpu_s >= from->processes[i].cpu_s)
            sum += to->processes[i].cpu_s - from->processes[i].cpu_s;
    }
    return sum;
}

/* CPU time between two samples, per `things` of the broker and per `messages` (both ways) of this program. */
static void report_cpu(const struct run *run, const struct sample *from, const struct sample *to, double things,
                       const char *label, double messages)
{
    double broker = broker_cpu_between(run, from, to), own = to->own_cpu_s - from->own_cpu_s;
    double seconds = seconds_between(from->at_ns, to->at_ns);
    if (run->plan->pids.count > 0) {
        report_number(run->report, "broker_cpu_s", NULL, broker, 2, "s");
        report_number(run->report, "broker_cpu_percent", "CPU of the broker", broker / seconds * 100, 0, "%");
        report_number(run->report, "broker_cpu_us_each", label, broker * 1e6 / things, 2, "us");
        for (unsigned i = 0; i < run->plan->pids.count; i++) {
            char key[48];
            snprintf(key, sizeof(key), "cpu_s_of_%d", run->plan->pids.list[i]);
            report_number(run->report, key, NULL, to->processes[i].cpu_s - from->processes[i].cpu_s, 2, "s");
        }
        report_number(run->report, "broker_resident_bytes", NULL, (double)to->resident, 0, "B");
    }
    report_number(run->report, "tool_cpu_percent", "CPU of this tool", own / seconds * 100, 0, "%");
    report_number(run->report, "tool_cpu_us_per_message", "  per message, in or out", own * 1e6 / messages, 2, "us");
}

/* The account when all is over; returns whether every promise was kept. */
static bool report_account(const struct run *run)
{
    static const struct {
        enum counter counter;
        const char *key, *label;
    } rows[] = {
        {COUNTER_DUPLICATED, "duplicated", "duplicated"},
        {COUNTER_OUT_OF_ORDER, "out_of_order", "out of order"},
        {COUNTER_DAMAGED, "damaged", "damaged"},
        {COUNTER_FOREIGN, "foreign", "delivered to the wrong one"},
        {COUNTER_REFUSED, "refused", "refused"},
        {COUNTER_RESENT, "resent", "sent again"},
        {COUNTER_STRAY, "stray_acks", "acknowledged unasked"},
        {COUNTER_BROKEN, "broken_connections", "broken connections"},
        {COUNTER_TURNED_AWAY, "turned_away", "turned away"},
        {COUNTER_SESSION_LOST, "sessions_lost", "sessions lost"},
        {COUNTER_SESSION_ODD, "sessions_odd", "sessions from nowhere"},
    };
    uint64_t lost = count_lost(run);
    uint64_t unanswered = total(run, COUNTER_SENT) - total(run, COUNTER_FINISHED);
    report_number(run->report, "sent", NULL, (double)total(run, COUNTER_SENT), 0, "");
    bool tell = run->plan->publishers > 0; /* without messages there is little to tell */
    report_number(run->report, "total_acknowledged", tell ? "acknowledged in all" : NULL,
                  (double)total(run, COUNTER_ACKNOWLEDGED), 0, "");
    report_number(run->report, "total_delivered", tell ? "delivered in all" : NULL,
                  (double)total(run, COUNTER_DELIVERED), 0, "");
    report_number(run->report, "unanswered", unanswered > 0 ? "never answered" : NULL, (double)unanswered, 0, "");
    report_number(run->report, "lost", tell ? "lost" : NULL, (double)lost, 0, "");
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t value = total(run, rows[i].counter);
        report_number(run->report, rows[i].key, (i < 2 && tell) || value > 0 ? rows[i].label : NULL, (double)value, 0,
                      "");
    }
    bool twice = run->plan->qos == 2 && total(run, COUNTER_DUPLICATED) > 0 &&
                 (run->plan->failover || total(run, COUNTER_RESENT) == 0);
    bool wrong = lost + unanswered + total(run, COUNTER_OUT_OF_ORDER) > 0;
    return !(wrong && run->plan->qos > 0) && !twice && total(run, COUNTER_DAMAGED) == 0 &&
           total(run, COUNTER_FOREIGN) == 0 && total(run, COUNTER_SESSION_LOST) == 0 &&
           total(run, COUNTER_SESSION_ODD) == 0;
}

static void report_latencies(const struct run *run)
{
    struct histogram *all = memory_array(3, sizeof(*all));
    for (uint64_t i = 0; i < run->plan->threads; i++) {
        histogram_add(&all[0], &run->workers[i].acknowledged);
        histogram_add(&all[1], &run->workers[i].delivered);
        histogram_add(&all[2], &run->workers[i].connected);
    }
    report_latency(run->report, "ack", run->plan->qos == 2 ? "to PUBREC" : "to PUBACK", &all[0]);
    report_latency(run->report, "delivery", "to the delivery", &all[1]);
    report_latency(run->report, "connack", "dialling to CONNACK", &all[2]);
    free(all);
}

/* --- the end of every run --------------------------------------------------------------------------------------- */

static void end_workers(struct run *run)
{
    order(run, ORDER_EXIT);
    for (uint64_t i = 0; i < run->plan->threads; i++)
        worker_join(&run->workers[i]);
}

static int give_up(struct run *run, const char *what)
{
    end_workers(run);
    fprintf(stderr, "coterie-bench: %s: nothing happened for %d s\n", what, NO_PROGRESS_S);
    for (uint64_t i = 0; i < run->plan->threads; i++) {
        if (run->workers[i].trouble[0] != '\0')
            fprintf(stderr, "coterie-bench: first trouble: %s\n", run->workers[i].trouble);
    }
    return EXIT_NOT_MEASURED;
}

static void tell_trouble(const struct run *run)
{
    for (uint64_t i = 0; i < run->plan->threads; i++) {
        if (run->workers[i].trouble[0] != '\0') {
            report_text(run->report, "first_trouble", "first trouble", run->workers[i].trouble);
            return;
        }
    }
}

/* Removes what the run left at the broker; for each role that has clients. */
static void erase(struct run *run)
{
    for (int role = 0; role < ROLE_COUNT; role++) {
        if (!wave(run, (enum role)role, GOAL_ERASED)) {
            fputs("coterie-bench: some sessions of this run could not be removed\n", stderr);
            return;
        }
    }
}

static int finish(struct run *run)
{
    report_latencies(run);
    bool well = report_account(run);
    tell_trouble(run);
    report_text(run->report, "verdict", "verdict", well ? "every promise kept" : "PROMISES BROKEN");
    return well ? EXIT_WELL : EXIT_BROKEN_PROMISE;
}

/* The measured time, after one to warm up, of workers that are at it. */
static void measure(struct run *run, struct sample *from, struct sample *to)
{
    pause_seconds(run->plan->warmup);
    record(run, true);
    take_sample(run, from);
    pause_seconds(run->plan->seconds);
    take_sample(run, to);
    record(run, false);
}

/* --- workloads ---------------------------------------------------------------------------------------------------- */

static void report_rates(const struct run *run, const struct sample *from, const struct sample *to)
{
    bool counted = run->plan->messages > 0; /* a number of messages: until the last, else: in the measured time */
    uint64_t acked = to->counters[COUNTER_ACKNOWLEDGED] - from->counters[COUNTER_ACKNOWLEDGED];
    uint64_t delivered = to->counters[COUNTER_DELIVERED] - from->counters[COUNTER_DELIVERED];
    double ack_s = seconds_between(from->at_ns, counted ? latest(run, COUNTER_LAST_ACK_NS) : to->at_ns);
    double delivery_s = seconds_between(from->at_ns, counted ? latest(run, COUNTER_LAST_DELIVERY_NS) : to->at_ns);
    report_number(run->report, "seconds", "measured", seconds_between(from->at_ns, to->at_ns), 2, "s");
    report_number(run->report, "acknowledged_per_s", run->plan->qos > 0 ? "acknowledged" : "sent",
                  (double)acked / ack_s, 0, "/s");
    if (run->plan->subscribers > 0)
        report_number(run->report, "delivered_per_s", "delivered", (double)delivered / delivery_s, 0, "/s");
    double megabytes = (double)(to->counters[COUNTER_BYTES_IN] + to->counters[COUNTER_BYTES_OUT] -
                                from->counters[COUNTER_BYTES_IN] - from->counters[COUNTER_BYTES_OUT]) /
                       1e6;
    report_number(run->report, "megabytes_per_s", "on the wire, both ways",
                  megabytes / seconds_between(from->at_ns, to->at_ns), 1, "MB/s");
    double sent = (double)(to->counters[COUNTER_SENT] - from->counters[COUNTER_SENT]);
    report_cpu(run, from, to, delivered > 0 ? (double)delivered : sent,
               delivered > 0 ? "  per delivered message" : "  per message", (double)delivered + sent);
}

static void report_gaps(const struct run *run)
{
    uint64_t at_ms = 0, gap_ms = longest_silence(run, &at_ms);
    const char *label = run->plan->failover ? "longest gap of all PUBACKs" : NULL;
    report_number(run->report, "longest_gap_ms", label, (double)gap_ms, 0, "ms");
    report_number(run->report, "longest_gap_at_s", run->plan->failover ? "  it began at" : NULL, (double)at_ms / 1e3, 2,
                  "s");
    report_number(run->report, "longest_gap_of_one_ms", run->plan->failover ? "longest gap of a publisher" : NULL,
                  (double)longest_gap_of_one(run) / 1e6, 0, "ms");
}

static int run_traffic(struct run *run)
{
    const struct plan *plan = run->plan;
    struct sample from, to;
    if (!wave(run, ROLE_SUBSCRIBER, GOAL_ONLINE) || !wave(run, ROLE_PUBLISHER, GOAL_ONLINE))
        return give_up(run, "connecting");
    record(run, plan->messages > 0);
    take_sample(run, &from);
    order_start(run);
    if (plan->messages > 0) {
        wait_for(run, all_sent_and_delivered, plan->drain);
        take_sample(run, &to);
    } else {
        measure(run, &from, &to);
    }
    wait_for(run, idle, NO_PROGRESS_S);
    order(run, ORDER_STOP);
    wait_for(run, idle, NO_PROGRESS_S);
    wait_for(run, all_delivered, plan->qos > 0 || plan->drain < 1 ? plan->drain : 1);
    pause_ms(50); /* whatever comes that should not */
    erase(run);
    end_workers(run);
    report_rates(run, &from, &to);
    report_gaps(run);
    return finish(run);
}

/* How long all the sessions take to connect when nothing waits for them, in seconds; negative if they cannot. */
static double time_bare_return(struct run *run)
{
    uint64_t begin = uv_hrtime();
    if (!wave(run, ROLE_SUBSCRIBER, GOAL_ONLINE))
        return -1;
    double bare = seconds_between(begin, uv_hrtime());
    return wave(run, ROLE_SUBSCRIBER, GOAL_OFFLINE) ? bare : -1;
}

static int run_offline(struct run *run)
{
    const struct plan *plan = run->plan;
    struct sample before, queued, after;
    if (!wave(run, ROLE_SUBSCRIBER, GOAL_ONLINE) || !wave(run, ROLE_SUBSCRIBER, GOAL_OFFLINE))
        return give_up(run, "subscribing");
    double bare_s = time_bare_return(run);
    if (bare_s < 0 || !wave(run, ROLE_PUBLISHER, GOAL_ONLINE))
        return give_up(run, "connecting");
    record(run, true);
    take_sample(run, &before);
    order_start(run);
    wait_for(run, idle, NO_PROGRESS_S);
    if (!wait_for(run, all_sent, NO_PROGRESS_S))
        return give_up(run, "publishing");
    order(run, ORDER_STOP);
    wait_for(run, idle, NO_PROGRESS_S);
    take_sample(run, &queued);
    for (uint64_t i = 0; i < plan->threads; i++)
        worker_order_wave(&run->workers[i], ROLE_SUBSCRIBER, GOAL_ONLINE);
    wait_for(run, all_back, plan->drain);
    take_sample(run, &after);
    record(run, false);
    if (busy(run))
        return give_up(run, "connecting again");
    erase(run);
    end_workers(run);

    double delivered = (double)(after.counters[COUNTER_DELIVERED] - queued.counters[COUNTER_DELIVERED]);
    double publish_s = seconds_between(before.at_ns, latest(run, COUNTER_LAST_ACK_NS));
    double drain_s = seconds_between(queued.at_ns, latest(run, COUNTER_LAST_DELIVERY_NS));
    double net_s = drain_s > bare_s ? drain_s - bare_s : 0;
    report_number(run->report, "publish_s", "publishing", publish_s, 3, "s");
    report_number(run->report, "acknowledged_per_s", "  acknowledged",
                  (double)total(run, COUNTER_ACKNOWLEDGED) / publish_s, 0, "/s");
    report_number(run->report, "queued_per_s", "  copies queued", (double)total(run, COUNTER_EXPECTED) / publish_s, 0,
                  "/s");
    report_number(run->report, "bare_connect_s", "connecting, nothing waiting", bare_s, 3, "s");
    report_number(run->report, "drain_s", "connecting and draining", drain_s, 3, "s");
    report_number(run->report, "delivered_per_s", "  delivered", delivered / drain_s, 0, "/s");
    if (net_s > 0)
        report_number(run->report, "net_delivered_per_s", "  net of connecting", delivered / net_s, 0, "/s");
    else
        report_text(run->report, "net", "  net of connecting", "draining took no longer than connecting alone");
    report_number(run->report, "net_drain_s", NULL, net_s, 4, "s");
    report_cpu(run, &queued, &after, delivered, "  per delivered message", delivered);
    return finish(run);
}

static int run_connect(struct run *run)
{
    const struct plan *plan = run->plan;
    struct sample from, to;
    order(run, ORDER_CHURN);
    measure(run, &from, &to);
    order(run, ORDER_STOP);
    double connects = (double)(to.counters[COUNTER_CONNECTED] - from.counters[COUNTER_CONNECTED]);
    if (!wait_for(run, idle, NO_PROGRESS_S) || connects == 0)
        return give_up(run, "connecting");
    erase(run);
    end_workers(run);
    report_text(run->report, "session", "sessions", plan->persistent ? "persistent" : "clean");
    report_number(run->report, "connects_per_s", "CONNACKs", connects / seconds_between(from.at_ns, to.at_ns), 0, "/s");
    report_cpu(run, &from, &to, connects, "  per CONNECT", connects);
    return finish(run);
}

static int run_idle(struct run *run)
{
    struct sample before, there, after;
    take_sample(run, &before);
    if (!wave(run, ROLE_OTHER, GOAL_ONLINE))
        return give_up(run, "connecting");
    pause_seconds(SETTLE_S);
    take_sample(run, &there);
    pause_seconds(run->plan->seconds);
    take_sample(run, &after);
    erase(run);
    end_workers(run);
    double clients = (double)run->plan->clients, seconds = seconds_between(there.at_ns, after.at_ns);
    report_number(run->report, "connections", "connections", clients, 0, "");
    if (run->plan->pids.count > 0) {
        report_number(run->report, "resident_before_bytes", "resident before", (double)before.resident, 0, "B");
        report_number(run->report, "resident_bytes", "resident with them", (double)there.resident, 0, "B");
        report_number(run->report, "resident_per_connection_bytes", "  per connection",
                      ((double)there.resident - (double)before.resident) / clients, 0, "B");
        report_number(run->report, "idle_cpu_percent", "CPU of the broker",
                      broker_cpu_between(run, &there, &after) / seconds * 100, 1, "%");
    }
    return finish(run);
}

static int run_with_workers(struct run *run)
{
    const struct plan *plan = run->plan;
    run->workers = memory_array(plan->threads, sizeof(*run->workers));
    run->delivered_of = memory_array(plan->publishers, sizeof(*run->delivered_of));
    for (uint64_t i = 0; i < plan->threads; i++)
        worker_start(&run->workers[i], plan, run->workers, (unsigned)i, run->delivered_of);
    report_plan(run);
    int status = EXIT_NOT_MEASURED;
    switch (plan->workload->kind) {
    case WORKLOAD_TRAFFIC: status = run_traffic(run); break;
    case WORKLOAD_OFFLINE: status = run_offline(run); break;
    case WORKLOAD_CONNECT: status = run_connect(run); break;
    case WORKLOAD_IDLE: status = run_idle(run); break;
    case WORKLOAD_DISK: break;
    }
    for (uint64_t i = 0; i < plan->threads; i++)
        worker_release(&run->workers[i]);
    free(run->workers);
    free((void *)run->delivered_of);
    return status;
}

int main(int argc, char **argv)
{
    static struct plan plan;
    static struct report report;
    plan_parse(&plan, argc, argv);
    process_raise_file_limit();
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, on_interrupt);
    signal(SIGTERM, on_interrupt);
    struct run run = {.plan = &plan, .report = &report};
    int status = plan.workload->kind == WORKLOAD_DISK ? disk_run(&plan, &report) : run_with_workers(&run);
    if (status != EXIT_NOT_MEASURED)
        report_print(&report, plan.json);
    return status;
}
