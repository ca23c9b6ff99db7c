/* broker_start.c — from a configuration to a running node.
 *
 *   ports bound -> data opened or recovered -> links -> consensus -> core -> the first turn
 *
 * Ports come before anything on the disk, so that one in use harms nothing. Whatever fails, everything opened before it
 * is closed again by the same code that closes a running node. */
#include "broker_private.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

static enum status start_consensus(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    const struct data *data = &broker->data;
    uint32_t ids[CONFIG_MEMBERS_MAX] = {config->node.id}, count = config->cluster.member_count;
    for (uint32_t i = 0; i < count; i++)
        ids[i] = config->cluster.members[i].id;
    const struct identity *identity = &data->identity;
    bool bootstrap = config->cluster.bootstrap && identity->replacement == 0 && log_last(data->log) == 0 &&
                     data->newest == NULL;
    struct consensus_settings settings = {
        .self = config->node.id,
        .life = identity->replacement == 0 ? (struct node_life){0}
                                           : (struct node_life){identity->replacement, identity->incarnation},
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
    broker->consensus = consensus_new(&settings, &for_consensus, broker, data->log, &newest, state_applied(data->state),
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
    const struct core_callbacks calls = for_core(broker);
    struct core_options options = {
        .node = config->node.id,
        .client_address = config->node.client_address,
        .limits =
            {
                .clients_max = config->limits.connections_max,
                .packet_bytes_max = config->limits.packet_bytes_max,
                .connect_bytes_max = config->limits.connect_bytes_max,
                .receive_maximum = (uint16_t)config->limits.receive_maximum,
                .in_flight_max = (uint16_t)config->limits.state.in_flight_max,
                .keep_alive_max_s = (uint16_t)config->timeouts.keep_alive_max_s,
                .connect_timeout_ms = config->timeouts.connect_ms,
                .pending_max = config->limits.pending_max,
                .pending_address_max = config->limits.pending_address_max,
                .packet_rate_min = config->limits.packet_rate_min,
                .output_bytes_max = config->limits.output_bytes_max < UINT32_MAX
                                        ? (uint32_t)config->limits.output_bytes_max
                                        : UINT32_MAX,
                .commands_bytes_max = config->limits.hold_bytes_max,
                .memory_bytes_max = config->limits.memory_bytes_max,
                .hold_ms = config->timeouts.hold_ms,
                .take_over_ms = config->timeouts.take_over_ms,
                .logins_max = config->authentication.waiting_max,
                .node_timeout_ms = config->timeouts.node_timeout_ms,
                .node_margin_ms = config->timeouts.node_timeout_ms / 4,
            },
        .capabilities = &config->limits.offered,
        .users = config->authentication.users,
        .security =
            {
                .methods = config->authentication.methods,
                .fall_through = config->authentication.fall_through,
                .adopt_anonymous = config->authentication.adopt_anonymous,
                .remembered_max = config->authentication.remembered_max,
                .sys_hidden = !config->authorization.sys_readable,
                .close_on_denied = config->authorization.close_on_denied,
            },
        .settings = &config->limits.state,
    };
    if (getrandom(&options.seed, sizeof(options.seed), 0) < 0 ||
        getrandom(options.boot_nonce, sizeof(options.boot_nonce), 0) < 0)
        abort(); /* a start without a nonce of its own could be taken for an earlier one */
    broker->core = core_new(&options, &calls, broker->data.state, broker->now_ms);
    security_give(broker);
}

static enum status start_links(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    const struct config_member *self = config_self(config);
    const struct links_calls calls = for_links(broker);
    struct link_peer peers[CONFIG_MEMBERS_MAX];
    char host[256] = "", link_error[LINK_ERROR_MAX] = "";
    struct links_settings settings = {
        .cluster_name = config->cluster.name,
        .tls = broker->links_tls,
        .self = config->node.id,
        .incarnation = broker->data.identity.incarnation,
        .replacement = broker->data.identity.replacement,
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
    const struct data_log log = for_log(broker);
    const struct snapshots_calls snapshots = for_snapshots(broker);
    const struct store_checks_calls checks = for_store_checks(broker);
    enum status status = data_open(broker->config, &log, &broker->data, error);
    if (status != STATUS_OK)
        return status;
    broker->data_open = true;
    broker->snapshots =
        snapshots_new(broker->data.snapshots_path, broker->data.identity.cluster_id, for_jobs(broker), &snapshots);
    broker->checks = store_checks_new(for_jobs(broker), &checks);
    return STATUS_OK;
}

static void start_loop(struct broker *broker)
{
    static const int numbers[BROKER_SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    uv_prepare_init(broker->loop, &broker->prepare);
    uv_timer_init(broker->loop, &broker->wake);
    uv_timer_init(broker->loop, &broker->patience);
    broker->prepare.data = broker->wake.data = broker->patience.data = broker;
    for (int i = 0; i < BROKER_SIGNALS; i++) {
        uv_signal_init(broker->loop, &broker->signals[i]);
        broker->signals[i].data = broker;
        uv_signal_start(&broker->signals[i], broker_signal, numbers[i]);
    }
}

enum status broker_open(uv_loop_t *loop, const struct config *config, struct broker **out, char error[BROKER_ERROR_MAX])
{
    struct broker *broker = memory_zeroed(1, sizeof(*broker));
    const struct conn_calls calls = for_conns(broker);
    broker->loop = loop;
    broker->config = config;
    broker->now_ms = broker->minute_ms = clock_ms(CLOCK_BOOTTIME);
    broker->numbers.started_ms = broker->now_ms;
    broker->conns = conns_new(loop, &calls, config->timeouts.handshake_ms, config->timeouts.close_ms);
    start_loop(broker);
    enum status status = doors_open(broker, error);
    if (status == STATUS_OK)
        status = security_open(broker, error);
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
    log_event(LOG_INFO, "started", log_text("version", COTERIE_VERSION), log_u64("members", config->cluster.member_count > 0 ? config->cluster.member_count : 1));
    return STATUS_OK;
}
