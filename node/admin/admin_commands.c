/* admin_commands.c — what the admin HTTP answers. To add a path: a row in `commands` and its handler.
 *
 * Handlers read; they run between two turns of the node's loop, so what they read fits together. A node that has failed
 * or is closing still answers, with what is left to say. */
#include "admin.h"

#include "node/broker.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const role_names[] = {"starting", "follower", "candidate", "leader"};

static void put(struct buffer *body, const char *text)
{
    buffer_put(body, text, strlen(text));
}

/* ---- /livez, /readyz ---- */

static unsigned handle_livez(struct broker *broker, struct buffer *body)
{
    bool failed = broker_phase(broker) == BROKER_FAILED;
    put(body, failed ? "failed: " : "alive");
    if (failed)
        put(body, broker_trouble(broker));
    put(body, "\n");
    return failed ? 503 : 200;
}

static unsigned handle_readyz(struct broker *broker, struct buffer *body)
{
    const char *why = NULL;
    bool ready = broker_ready(broker, &why);
    put(body, ready ? "ready" : "not ready: ");
    if (!ready)
        put(body, why);
    put(body, "\n");
    return ready ? 200 : 503;
}

/* ---- /status ---- */

static json_t *members_json(struct broker *broker, const struct consensus_status *status)
{
    const struct config *config = broker_config(broker);
    json_t *members = json_array();
    for (uint32_t i = 0; i < config->cluster.member_count; i++) {
        const struct config_member *member = &config->cluster.members[i];
        struct core *core = broker_core(broker);
        bool self = member->id == config->node.id, up = false;
        struct bytes client = {NULL, 0};
        if (core != NULL) {
            state_node_epoch(core_state(core), member->id, &up);
            client = state_node_address(core_state(core), member->id);
        }
        json_array_append_new(members, json_pack("{s:i, s:s, s:s, s:b, s:b, s:b, s:s%}", "id", (int)member->id, "link",
                                                 member->link, "admin", member->admin, "linked",
                                                 self || ((status->linked >> member->id) & 1), "up", up, "removed",
                                                 (int)(status->removed >> member->id & 1), "client",
                                                 client.size > 0 ? (const char *)client.data : "", client.size));
    }
    return members;
}

/* Of the state as of applied_index. Amid an entry, which long ones are for some turns, there is none: "". */
static void put_state_hash(json_t *root, struct state *state)
{
    uint64_t hash[2];
    char text[33] = "";
    if (!state_applying(state)) {
        state_hash(state, hash);
        snprintf(text, sizeof(text), "%016llx%016llx", (unsigned long long)hash[1], (unsigned long long)hash[0]);
    }
    json_object_set_new(root, "state_hash", json_string(text));
}

static void put_state(json_t *root, struct core *core)
{
    struct state_counts counts;
    struct core_stats stats;
    state_counts(core_state(core), &counts);
    core_stats(core, &stats);
    put_state_hash(root, core_state(core));
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"sessions", counts.sessions},
        {"sessions_connected", counts.connected},
        {"subscriptions", counts.subscriptions},
        {"filters", counts.filters},
        {"groups", counts.groups},
        {"retained", counts.retained},
        {"retained_bytes", counts.retained_bytes},
        {"queued", counts.queued},
        {"queued_bytes", counts.queued_bytes},
        {"messages", counts.messages},
        {"in_flight", counts.in_flight},
        {"wills_pending", counts.wills_pending},
        {"connections", stats.connections},
        {"clients", stats.clients},
        {"commands_pending", stats.commands_pending},
        {"output_bytes", stats.output_bytes},
        {"input_bytes", stats.input_bytes},
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        json_object_set_new(root, numbers[i].name, json_integer((json_int_t)numbers[i].value));
}

static void put_sizes(json_t *root, struct broker *broker)
{
    const struct data *data = broker_data(broker);
    struct log_counts counts;
    log_counts(data->log, &counts);
    json_object_set_new(root, "log_bytes", json_integer((json_int_t)counts.disk_bytes));
    json_object_set_new(root, "log_first", json_integer((json_int_t)log_first(data->log)));
    json_object_set_new(root, "log_last", json_integer((json_int_t)log_last(data->log)));
    json_object_set_new(root, "store_bytes", json_integer((json_int_t)store_bytes(data->store)));
}

static unsigned handle_status(struct broker *broker, struct buffer *body)
{
    const struct config *config = broker_config(broker);
    struct consensus_status status = {0};
    struct broker_numbers numbers;
    const char *why = NULL;
    bool ready = broker_ready(broker, &why);
    struct core *core = broker_core(broker);
    if (core != NULL)
        consensus_status(broker_consensus(broker), &status);
    broker_numbers(broker, &numbers);
    json_t *root = json_pack(
        "{s:i, s:i, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:I, s:b, s:s, s:s, s:i, s:I, s:I, s:I, s:b, s:b}", "id",
        (int)config->node.id, "pid", (int)getpid(), "version", COTERIE_VERSION, "cluster", config->cluster.name,
        "data_dir", config->node.data_dir, "client_address", config->node.client_address, "client_port",
        (int)broker_client_port(broker), "admin_port", (int)config->admin.port, "admin_address", config->admin.address,
        "uptime_ms", (json_int_t)(numbers.now_ms - numbers.started_ms), "ready", ready, "reason", ready ? "" : why,
        "role", core != NULL ? role_names[status.role] : "failed", "leader", (int)status.leader, "term",
        (json_int_t)status.term, "commit_index", (json_int_t)status.commit, "applied_index",
        (json_int_t)(core != NULL ? state_applied(core_state(core)) : 0), "caught_up", status.caught_up, "damaged",
        status.damaged);
    json_object_set_new(root, "reloads", json_integer((json_int_t)numbers.reloads));
    json_object_set_new(root, "state_hash", json_string(""));
    if (core != NULL) {
        put_state(root, core);
        put_sizes(root, broker);
    }
    json_object_set_new(root, "members", members_json(broker, &status));
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    put(body, text != NULL ? text : "{}");
    put(body, "\n");
    free(text);
    return 200;
}

/* ---- /metrics ---- */

enum metric_kind { COUNTER, GAUGE };

static void metric(struct buffer *body, enum metric_kind kind, const char *name, const char *help, double value)
{
    char line[512];
    snprintf(line, sizeof(line), "# HELP %s %s\n# TYPE %s %s\n%s %.17g\n", name, help, name,
             kind == COUNTER ? "counter" : "gauge", name, value);
    put(body, line);
}

/* One metric with a label; `first` writes its head. */
static void labelled(struct buffer *body, bool first, enum metric_kind kind, const char *name, const char *help,
                     const char *label, const char *label_value, double value)
{
    char line[512];
    if (first) {
        snprintf(line, sizeof(line), "# HELP %s %s\n# TYPE %s %s\n", name, help, name,
                 kind == COUNTER ? "counter" : "gauge");
        put(body, line);
    }
    snprintf(line, sizeof(line), "%s{%s=\"%s\"} %.17g\n", name, label, label_value, value);
    put(body, line);
}

static void put_consensus_metrics(struct buffer *body, struct broker *broker)
{
    struct consensus_status status;
    struct consensus_counts counts;
    consensus_status(broker_consensus(broker), &status);
    consensus_counts(broker_consensus(broker), &counts);
    for (int role = 0; role < 4; role++)
        labelled(body, role == 0, GAUGE, "coterie_role", "1 for the role this node believes it has", "role",
                 role_names[role], role == (int)status.role);
    metric(body, GAUGE, "coterie_leader", "Node id of the leader; 0: none known", status.leader);
    metric(body, GAUGE, "coterie_term", "Current term", (double)status.term);
    metric(body, GAUGE, "coterie_commit_index", "Last committed log index", (double)status.commit);
    metric(body, GAUGE, "coterie_applied_index", "Last applied log index", (double)status.applied);
    metric(body, GAUGE, "coterie_last_index", "Last log index", (double)status.last);
    metric(body, COUNTER, "coterie_elections_total", "Elections this node took part in as a candidate",
           (double)counts.elections);
    metric(body, COUNTER, "coterie_batches_appended_total", "Batches appended as leader",
           (double)counts.batches_appended);
    metric(body, COUNTER, "coterie_batches_forwarded_total", "Batches forwarded to the leader",
           (double)counts.batches_forwarded);
    metric(body, COUNTER, "coterie_batches_dropped_total", "Batches that found no leader; they are sent again",
           (double)counts.batches_dropped);
    metric(body, COUNTER, "coterie_link_bytes_in_total", "Bytes from other nodes", (double)counts.bytes_in);
    metric(body, COUNTER, "coterie_link_bytes_out_total", "Bytes to other nodes", (double)counts.bytes_out);
    metric(body, COUNTER, "coterie_snapshots_sent_total", "Snapshots sent to other nodes",
           (double)counts.snapshots_sent);
    metric(body, COUNTER, "coterie_snapshots_received_total", "Snapshots received", (double)counts.snapshots_received);
}

static void put_client_metrics(struct buffer *body, struct core *core)
{
    static const char *const qos[] = {"0", "1", "2"};
    static const char *const drops[DROP_COUNT] = {
        [DROP_SLOW_CONSUMER] = "slow-consumer",
        [DROP_MEMORY] = "memory",
        [DROP_TOO_LARGE] = "too-large",
        [DROP_EXPIRED] = "expired",
        [DROP_NO_LINK] = "no-link",
        [DROP_NOT_PERMITTED] = "not-permitted",
        [DROP_BEHIND] = "behind",
    };
    static const char *const results[CONNECT_RESULTS] = {
        [CONNECT_ACCEPTED] = "accepted",
        [CONNECT_MALFORMED] = "malformed",
        [CONNECT_REFUSED_VERSION] = "version",
        [CONNECT_REFUSED_IDENTIFIER] = "identifier",
        [CONNECT_REFUSED_AUTHENTICATION] = "authentication",
        [CONNECT_REFUSED_QUOTA] = "quota",
        [CONNECT_REFUSED_UNAVAILABLE] = "unavailable",
    };
    struct core_stats stats;
    core_stats(core, &stats);
    metric(body, GAUGE, "coterie_connections", "Open client sockets", (double)stats.connections);
    metric(body, GAUGE, "coterie_clients", "Connected clients", (double)stats.clients);
    for (int i = 0; i < CONNECT_RESULTS; i++)
        labelled(body, i == 0, COUNTER, "coterie_connects_total", "CONNECTs by result", "result",
                 results[i] != NULL ? results[i] : "other", (double)stats.connects[i]);
    for (int i = 0; i < 3; i++)
        labelled(body, i == 0, COUNTER, "coterie_messages_in_total", "PUBLISH packets from clients", "qos", qos[i],
                 (double)stats.messages_in[i]);
    for (int i = 0; i < 3; i++)
        labelled(body, i == 0, COUNTER, "coterie_messages_out_total", "PUBLISH packets to clients", "qos", qos[i],
                 (double)stats.messages_out[i]);
    for (int i = 0; i < DROP_COUNT; i++)
        labelled(body, i == 0, COUNTER, "coterie_dropped_total", "Messages that did not reach a client of this node",
                 "reason", drops[i] != NULL ? drops[i] : "other", (double)stats.drops[i]);
    for (int i = 0; i < LIMIT_COUNT; i++)
        labelled(body, i == 0, COUNTER, "coterie_limits_total", "Times that a client reached a limit", "limit",
                 core_limit_name((enum core_limit)i), (double)stats.limits[i]);
    metric(body, COUNTER, "coterie_bytes_in_total", "Bytes from clients", (double)stats.bytes_in);
    metric(body, COUNTER, "coterie_bytes_out_total", "Bytes to clients", (double)stats.bytes_out);
    metric(body, COUNTER, "coterie_packets_in_total", "Packets from clients", (double)stats.packets_in);
    metric(body, COUNTER, "coterie_packets_out_total", "Packets to clients", (double)stats.packets_out);
    metric(body, COUNTER, "coterie_redelivered_total", "PUBLISH packets sent again with DUP",
           (double)stats.redelivered);
    metric(body, COUNTER, "coterie_taken_over_total", "Connections that lost their session to a newer one",
           (double)stats.taken_over);
    metric(body, COUNTER, "coterie_keep_alive_timeouts_total", "Connections closed for silence",
           (double)stats.keep_alive_timeouts);
    metric(body, COUNTER, "coterie_protocol_errors_total", "Connections closed for a malformed or forbidden packet",
           (double)stats.protocol_errors);
    metric(body, GAUGE, "coterie_commands_pending", "Commands proposed here and not applied yet",
           (double)stats.commands_pending);
    metric(body, GAUGE, "coterie_output_bytes", "Bytes waiting for client sockets", (double)stats.output_bytes);
    metric(body, GAUGE, "coterie_input_bytes", "Bytes of incomplete packets", (double)stats.input_bytes);
    metric(body, COUNTER, "coterie_publishes_denied_total", "PUBLISH packets that the client had no right to",
           (double)stats.publishes_denied);
    metric(body, COUNTER, "coterie_subscribes_denied_total", "Filters that the client had no right to",
           (double)stats.subscribes_denied);
    metric(body, COUNTER, "coterie_logins_total", "Logins that cost a hash or a signature", (double)stats.logins);
    metric(body, COUNTER, "coterie_logins_refused_total", "Of them, refused", (double)stats.logins_refused);
    metric(body, COUNTER, "coterie_logins_slowed_total", "Logins made to wait after failures", (double)stats.logins_slowed);
    metric(body, GAUGE, "coterie_paused_clients", "Clients not read, by back-pressure", (double)stats.paused_clients);
    metric(body, GAUGE, "coterie_turn_looks_max", "Most work of a turn, counted: things looked at, and what costs as much",
           (double)stats.turn_looks_max);
    metric(body, GAUGE, "coterie_commit_pages_max", "Most pages of the store that were to be written out in one turn",
           (double)stats.commit_pages_max);
    metric(body, COUNTER, "coterie_spills_total", "Of such writes, those amid a long entry", (double)stats.spills);
}

static void put_state_metrics(struct buffer *body, struct core *core)
{
    static const char drops[] = "coterie_queue_dropped_total",
                      help[] = "Queued messages dropped, in the replicated state";
    struct state_counts counts;
    state_counts(core_state(core), &counts);
    metric(body, GAUGE, "coterie_sessions", "Sessions in the cluster", (double)counts.sessions);
    metric(body, GAUGE, "coterie_sessions_connected", "Of them, connected", (double)counts.connected);
    metric(body, GAUGE, "coterie_subscriptions", "Subscriptions in the cluster", (double)counts.subscriptions);
    metric(body, GAUGE, "coterie_retained", "Retained messages", (double)counts.retained);
    metric(body, GAUGE, "coterie_retained_bytes", "Their bytes", (double)counts.retained_bytes);
    metric(body, GAUGE, "coterie_queued", "Messages queued for sessions", (double)counts.queued);
    metric(body, GAUGE, "coterie_queued_bytes", "Their payload bytes", (double)counts.queued_bytes);
    metric(body, GAUGE, "coterie_messages_stored", "Messages stored", (double)counts.messages);
    labelled(body, true, COUNTER, drops, help, "reason", "queue-full", (double)counts.dropped_queue_full);
    labelled(body, false, COUNTER, drops, help, "reason", "expired", (double)counts.dropped_expired);
    labelled(body, false, COUNTER, drops, help, "reason", "session-ended", (double)counts.dropped_session_ended);
    metric(body, COUNTER, "coterie_refused_quota_total", "Commands refused by a limit", (double)counts.refused_quota);
    metric(body, COUNTER, "coterie_fenced_total", "Commands of former owners that had no effect",
           (double)counts.fenced);
    metric(body, COUNTER, "coterie_commands_total", "Commands applied", (double)counts.commands);
}

static void put_disk_metrics(struct buffer *body, struct broker *broker)
{
    const struct data *data = broker_data(broker);
    struct log_counts counts;
    log_counts(data->log, &counts);
    metric(body, GAUGE, "coterie_log_bytes", "Log on disk", (double)counts.disk_bytes);
    metric(body, GAUGE, "coterie_log_entries", "Entries in the log",
           (double)(log_last(data->log) + 1 - log_first(data->log)));
    metric(body, COUNTER, "coterie_flushes_total", "Flushes of the log", (double)counts.flushes);
    metric(body, COUNTER, "coterie_flushed_bytes_total", "Bytes flushed", (double)counts.flushed_bytes);
    metric(body, GAUGE, "coterie_store_bytes", "Applied state on disk", (double)store_bytes(data->store));
}

static void put_certificate(struct buffer *body, bool *first, const char *listener, int64_t seconds)
{
    if (seconds == INT64_MAX)
        return;
    labelled(body, *first, GAUGE, "coterie_certificate_expires_seconds",
             "Until the first certificate or list of revoked ones expires, of a listener, the links or the admin HTTP", "listener",
             listener, (double)seconds);
    *first = false;
}

static void put_listener_metrics(struct buffer *body, struct broker *broker)
{
    struct broker_listener facts;
    struct broker_openings openings;
    bool first = true;
    for (uint32_t i = 0; broker_listener(broker, i, &facts); i++)
        labelled(body, i == 0, GAUGE, "coterie_listener_connections", "Open client sockets by listener", "listener",
                 facts.name, facts.connections);
    put_certificate(body, &first, "links", broker_link_certificate_seconds(broker));
    put_certificate(body, &first, "admin", broker_admin_certificate_seconds(broker));
    for (uint32_t i = 0; broker_listener(broker, i, &facts); i++)
        put_certificate(body, &first, facts.name, facts.certificate_seconds);
    broker_openings(broker, &openings);
    metric(body, COUNTER, "coterie_openings_total", "Connections that finished TLS, WebSocket and PROXY handshakes",
           (double)openings.opened);
    metric(body, COUNTER, "coterie_openings_refused_total", "Connections that broke the rules of TLS, WebSocket or PROXY",
           (double)openings.refused);
    metric(body, COUNTER, "coterie_openings_timed_out_total", "Connections that did not finish them in time",
           (double)openings.timed_out);
    metric(body, COUNTER, "coterie_handshakes_total", "Steps of TLS handshakes done on the thread pool",
           (double)openings.handshakes);
    metric(body, GAUGE, "coterie_sockets_looks_max", "Most work of a turn on reading, writing and closing sockets of clients, counted",
           (double)openings.looks_max);
    metric(body, GAUGE, "coterie_openings", "Connections in such handshakes", openings.opening);
    metric(body, GAUGE, "coterie_openings_waiting", "Of them, waiting for the thread pool", openings.waiting);
    metric(body, COUNTER, "coterie_admin_refused_total", "Requests to the admin HTTP without the right to what they asked",
           (double)admin_refused(broker_admin(broker)));
}

static void put_turn_metrics(struct buffer *body, const struct broker_numbers *numbers)
{
    static const char *const phases[TURN_PHASES] = {"sockets", "entries", "core", "rest"};
    metric(body, COUNTER, "coterie_turns_total", "Turns of the core loop", (double)numbers->turns);
    metric(body, GAUGE, "coterie_turn_longest_seconds", "Longest turn of the core loop since the start",
           (double)numbers->turn_longest_us / 1e6);
    for (unsigned phase = 0; phase < TURN_PHASES; phase++)
        labelled(body, phase == 0, GAUGE, "coterie_turn_longest_phase_seconds", "What that turn was spent on", "phase",
                 phases[phase], (double)numbers->turn_longest_phase_us[phase] / 1e6);
    metric(body, GAUGE, "coterie_turn_cpu_longest_seconds", "Most that a turn took of a processor, since the start",
           (double)numbers->turn_cpu_us / 1e6);
    metric(body, GAUGE, "coterie_turn_recent_longest_seconds", "Longest turn of the last full minute",
           (double)numbers->turn_recent_us / 1e6);
}

static unsigned handle_metrics(struct broker *broker, struct buffer *body)
{
    struct broker_numbers numbers;
    const char *why;
    broker_numbers(broker, &numbers);
    metric(body, GAUGE, "coterie_ready", "1 while this node serves clients", broker_ready(broker, &why));
    metric(body, GAUGE, "coterie_uptime_seconds", "Since the start",
           (double)(numbers.now_ms - numbers.started_ms) / 1000);
    put_turn_metrics(body, &numbers);
    metric(body, COUNTER, "coterie_pauses_total", "Times the process stood still for 0.5 s or more",
           (double)numbers.pauses);
    metric(body, COUNTER, "coterie_peer_backlog_drops_total", "Batches of QoS 0 messages dropped before a slow peer",
           (double)numbers.qos0_dropped_backlog);
    put_listener_metrics(body, broker);
    histogram_write(&numbers.turn_us, "coterie_turn_seconds", "Turns of the core loop", 1e6, body);
    histogram_write(&numbers.batch_commands, "coterie_batch_commands", "Commands per committed batch", 1, body);
    histogram_write(&numbers.flush_us, "coterie_flush_seconds", "Write and flush of the log", 1e6, body);
    histogram_write(&numbers.commit_us, "coterie_commit_seconds", "From proposing a batch here to applying it here",
                    1e6, body);
    if (broker_core(broker) == NULL)
        return 200;
    put_consensus_metrics(body, broker);
    put_client_metrics(body, broker_core(broker));
    put_state_metrics(body, broker_core(broker));
    put_disk_metrics(body, broker);
    return 200;
}

/* ---- the table ---- */

static unsigned handle_index(struct broker *broker, struct buffer *body);

static const struct admin_command commands[] = {
    {"/", "text/plain", "this list", handle_index},
    {"/livez", "text/plain", "200 while the process works", handle_livez},
    {"/readyz", "text/plain", "200 while this node can serve clients", handle_readyz},
    {"/status", "application/json", "what this node knows of itself and the cluster", handle_status},
    {"/metrics", "text/plain; version=0.0.4", "counters and gauges for Prometheus", handle_metrics},
};

static unsigned handle_index(struct broker *broker, struct buffer *body)
{
    (void)broker;
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        char line[128];
        snprintf(line, sizeof(line), "%-10s %s\n", commands[i].path, commands[i].meaning);
        put(body, line);
    }
    for (unsigned i = 0; admin_action_number(i) != NULL; i++) {
        char line[128];
        snprintf(line, sizeof(line), "%-10s %s\n", admin_action_number(i)->path, admin_action_number(i)->meaning);
        put(body, line);
    }
    return 200;
}

const struct admin_command *admin_command_at(const char *path)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(commands[i].path, path) == 0)
            return &commands[i];
    return NULL;
}
