/* core_sys.c — $SYS: what this node tells about itself and its cluster, as messages.
 *
 *   each sys_interval_s   the values that have changed, as live QoS 0 messages, to the subscribers that this node holds
 *   SUBSCRIBE             every value whose topic matches, as if it were retained
 *
 * Nothing of it goes through the log or to other nodes: a subscriber learns about the node that it is connected to.
 * $SYS/broker/... are the names of mosquitto. What they count is of this node, but for sessions, subscriptions, stored
 * and retained messages, which a cluster has in common. To add a value: its row in `rows`, its number in gather(). */
#include "core_private.h"

#include "base/memory.h"

#include <stdio.h>
#include <string.h>

#define PREFIX      "$SYS/"
#define VALUE_BYTES 48
#define ANSWERED_MAX 100  /* filters of one SUBSCRIBE; those behind them wait for the values to change */

enum form { FORM_NUMBER, FORM_SECONDS, FORM_TEXT, FORM_RATE };

enum value {
    VERSION,
    UPTIME,
    CLIENTS_TOTAL,
    CLIENTS_MAXIMUM,
    CLIENTS_CONNECTED,
    CLIENTS_DISCONNECTED,
    CLIENTS_ACTIVE,
    CLIENTS_INACTIVE,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
    PUBLISHES_RECEIVED,
    PUBLISHES_SENT,
    PUBLISHES_DROPPED,
    PUBLISH_BYTES_RECEIVED,
    PUBLISH_BYTES_SENT,
    BYTES_RECEIVED,
    BYTES_SENT,
    RETAINED,
    SUBSCRIPTIONS,
    SHARED_SUBSCRIPTIONS,
    STORED,
    STORED_BYTES,
    STORED_LONG_AGO,
    NODE,
    LEADER,
    TERM,
    NODES,
    APPLIED,
    COMMITTED,
    READY,
    LOADS,
};

/* Numbers that grow, of which the growth per minute is averaged over 1, 5 and 15 minutes: most are values, too. */
enum { LOAD_CONNECTS = SYS_VALUES, LOAD_SOCKETS };
static const int loads[SYS_LOADS] = {MESSAGES_RECEIVED, MESSAGES_SENT, PUBLISHES_RECEIVED, PUBLISHES_SENT, BYTES_RECEIVED,
                                     BYTES_SENT, PUBLISHES_DROPPED, LOAD_CONNECTS, LOAD_SOCKETS};
static const uint32_t windows_s[SYS_WINDOWS] = {60, 300, 900};

#define LOAD_ROWS(name)                                                                                                \
    {PREFIX "broker/load/" name "/1min", FORM_RATE}, {PREFIX "broker/load/" name "/5min", FORM_RATE},                  \
    {                                                                                                                  \
        PREFIX "broker/load/" name "/15min", FORM_RATE                                                                 \
    }

static const struct {
    const char *topic;
    enum form form;
} rows[SYS_VALUES] = {
    [VERSION] = {PREFIX "broker/version", FORM_TEXT},
    [UPTIME] = {PREFIX "broker/uptime", FORM_SECONDS},
    [CLIENTS_TOTAL] = {PREFIX "broker/clients/total", FORM_NUMBER},
    [CLIENTS_MAXIMUM] = {PREFIX "broker/clients/maximum", FORM_NUMBER},
    [CLIENTS_CONNECTED] = {PREFIX "broker/clients/connected", FORM_NUMBER},
    [CLIENTS_DISCONNECTED] = {PREFIX "broker/clients/disconnected", FORM_NUMBER},
    [CLIENTS_ACTIVE] = {PREFIX "broker/clients/active", FORM_NUMBER}, /* as these two were called before */
    [CLIENTS_INACTIVE] = {PREFIX "broker/clients/inactive", FORM_NUMBER},
    [MESSAGES_RECEIVED] = {PREFIX "broker/messages/received", FORM_NUMBER},
    [MESSAGES_SENT] = {PREFIX "broker/messages/sent", FORM_NUMBER},
    [PUBLISHES_RECEIVED] = {PREFIX "broker/publish/messages/received", FORM_NUMBER},
    [PUBLISHES_SENT] = {PREFIX "broker/publish/messages/sent", FORM_NUMBER},
    [PUBLISHES_DROPPED] = {PREFIX "broker/publish/messages/dropped", FORM_NUMBER},
    [PUBLISH_BYTES_RECEIVED] = {PREFIX "broker/publish/bytes/received", FORM_NUMBER},
    [PUBLISH_BYTES_SENT] = {PREFIX "broker/publish/bytes/sent", FORM_NUMBER},
    [BYTES_RECEIVED] = {PREFIX "broker/bytes/received", FORM_NUMBER},
    [BYTES_SENT] = {PREFIX "broker/bytes/sent", FORM_NUMBER},
    [RETAINED] = {PREFIX "broker/retained messages/count", FORM_NUMBER},
    [SUBSCRIPTIONS] = {PREFIX "broker/subscriptions/count", FORM_NUMBER},
    [SHARED_SUBSCRIPTIONS] = {PREFIX "broker/shared_subscriptions/count", FORM_NUMBER},
    [STORED] = {PREFIX "broker/store/messages/count", FORM_NUMBER},
    [STORED_BYTES] = {PREFIX "broker/store/messages/bytes", FORM_NUMBER},
    [STORED_LONG_AGO] = {PREFIX "broker/messages/stored", FORM_NUMBER}, /* its name before */
    [NODE] = {PREFIX "cluster/node", FORM_NUMBER},
    [LEADER] = {PREFIX "cluster/leader", FORM_NUMBER},
    [TERM] = {PREFIX "cluster/term", FORM_NUMBER},
    [NODES] = {PREFIX "cluster/nodes", FORM_NUMBER},
    [APPLIED] = {PREFIX "cluster/applied", FORM_NUMBER},
    [COMMITTED] = {PREFIX "cluster/committed", FORM_NUMBER},
    [READY] = {PREFIX "cluster/ready", FORM_NUMBER},
    LOAD_ROWS("messages/received"),
    LOAD_ROWS("messages/sent"),
    LOAD_ROWS("publish/received"),
    LOAD_ROWS("publish/sent"),
    LOAD_ROWS("bytes/received"),
    LOAD_ROWS("bytes/sent"),
    LOAD_ROWS("publish/dropped"),
    LOAD_ROWS("connections"),
    LOAD_ROWS("sockets"),
};

_Static_assert(LOADS + SYS_LOADS * SYS_WINDOWS == SYS_VALUES, "a row for each value");

/* ---- values ---- */

static void count_clients(struct core *core)
{
    struct core_sys *sys = &core->sys;

    sys->clients = core->node.stats.clients;
    if (sys->clients > sys->clients_max)
        sys->clients_max = sys->clients;
}

static uint64_t sum(const uint64_t *numbers, size_t count)
{
    uint64_t total = 0;

    for (size_t i = 0; i < count; i++)
        total += numbers[i];
    return total;
}

static uint64_t nodes_linked(const struct core *core)
{
    return 1 + (uint64_t)__builtin_popcountll(core->health.linked);
}

static void gather_cluster(const struct core *core, uint64_t values[SYS_VALUES])
{
    const char *why;

    values[NODE] = core->node.node;
    values[LEADER] = core->health.leader;
    values[TERM] = core->health.term;
    values[NODES] = nodes_linked(core);
    values[APPLIED] = state_applied(core->state);
    values[COMMITTED] = core->health.commit;
    values[READY] = core_ready(core, &why);
}

static void gather(struct core *core, uint64_t values[SYS_VALUES])
{
    const struct core_stats *stats = &core->node.stats;
    struct state_counts counts;

    state_counts(core->state, &counts);
    count_clients(core);
    values[VERSION] = 0;
    values[UPTIME] = (core->now_ms - core->sys.started_ms) / 1000;
    values[CLIENTS_CONNECTED] = core->sys.clients;
    values[CLIENTS_MAXIMUM] = core->sys.clients_max;
    values[CLIENTS_DISCONNECTED] = counts.sessions > counts.connected ? counts.sessions - counts.connected : 0;
    values[CLIENTS_ACTIVE] = values[CLIENTS_CONNECTED];
    values[CLIENTS_INACTIVE] = values[CLIENTS_DISCONNECTED];
    values[CLIENTS_TOTAL] = values[CLIENTS_CONNECTED] + values[CLIENTS_DISCONNECTED];
    values[MESSAGES_RECEIVED] = stats->packets_in;
    values[MESSAGES_SENT] = stats->packets_out;
    values[PUBLISHES_RECEIVED] = sum(stats->messages_in, 3);
    values[PUBLISHES_SENT] = sum(stats->messages_out, 3);
    values[PUBLISHES_DROPPED] = sum(stats->drops, DROP_COUNT) + counts.dropped_queue_full + counts.dropped_expired;
    values[PUBLISH_BYTES_RECEIVED] = stats->publish_bytes_in;
    values[PUBLISH_BYTES_SENT] = stats->publish_bytes_out;
    values[BYTES_RECEIVED] = stats->bytes_in;
    values[BYTES_SENT] = stats->bytes_out;
    values[RETAINED] = counts.retained;
    values[SUBSCRIPTIONS] = counts.subscriptions;
    values[SHARED_SUBSCRIPTIONS] = counts.groups;
    values[STORED] = values[STORED_LONG_AGO] = counts.messages;
    values[STORED_BYTES] = counts.queued_bytes + counts.retained_bytes;
    gather_cluster(core, values);
    memcpy(values + LOADS, core->sys.loads, sizeof(core->sys.loads));
}

/* Of what `loads` names. A socket that said something other than CONNECT, or nothing in time, is a bad CONNECT. */
static uint64_t counted(const struct core *core, const uint64_t values[SYS_VALUES], int load)
{
    const uint64_t *connects = core->node.stats.connects;

    if (load < SYS_VALUES)
        return values[load];
    return sum(connects, CONNECT_RESULTS) - (load == LOAD_CONNECTS ? connects[CONNECT_MALFORMED] : 0);
}

/* Moves the averages on by what was counted in the last interval; rates per minute, in hundredths. */
static void average(struct core *core, const uint64_t values[SYS_VALUES], uint64_t interval_ms)
{
    struct core_sys *sys = &core->sys;

    for (size_t i = 0; i < SYS_LOADS; i++) {
        uint64_t now = counted(core, values, loads[i]);
        uint64_t grown = now - sys->counted[i], rate = grown * 100 * 60000 / interval_ms;

        sys->counted[i] = now;
        for (size_t w = 0; w < SYS_WINDOWS; w++) {
            uint64_t *load = &sys->loads[i * SYS_WINDOWS + w], window_ms = windows_s[w] * UINT64_C(1000);

            *load = (*load * window_ms + rate * interval_ms) / (window_ms + interval_ms);
        }
    }
}

static size_t write_value(enum value value, uint64_t number, char text[VALUE_BYTES])
{
    unsigned long long n = number;

    switch (rows[value].form) {
    case FORM_NUMBER: return (size_t)snprintf(text, VALUE_BYTES, "%llu", n);
    case FORM_SECONDS: return (size_t)snprintf(text, VALUE_BYTES, "%llu seconds", n);
    case FORM_TEXT: return (size_t)snprintf(text, VALUE_BYTES, "coterie version " COTERIE_VERSION);
    case FORM_RATE: return (size_t)snprintf(text, VALUE_BYTES, "%llu.%02llu", n / 100, n % 100);
    }
    return 0;
}

/* ---- messages ---- */

static struct message message_of(struct core *core, enum value value, uint64_t number, char text[VALUE_BYTES])
{
    size_t size = write_value(value, number, text);

    return (struct message){
        .topic = bytes_text(rows[value].topic),
        .payload = bytes_of(text, size),
        .created_ms = core_clock_ms(core),
    };
}

void core_sys_start(struct core *core, uint64_t now_ms)
{
    uint64_t interval_ms = core->node.capabilities.sys_interval_s * UINT64_C(1000);

    core->sys.started_ms = now_ms;
    core->sys.last_ms = now_ms;
    core->sys.next_ms = interval_ms == 0 ? UINT64_MAX : now_ms + interval_ms;
}

/* Once per interval, what has changed is to be told. */
static void sys_begin(struct core *core)
{
    struct core_sys *sys = &core->sys;

    gather(core, sys->values);
    average(core, sys->values, core->now_ms - sys->last_ms);
    memcpy(sys->values + LOADS, sys->loads, sizeof(sys->loads));
    sys->last_ms = core->now_ms;
    sys->next_ms = core->now_ms + core->node.capabilities.sys_interval_s * UINT64_C(1000);
    sys->next = 1;
}

void core_sys_turn(struct core *core)
{
    struct core_sys *sys = &core->sys;
    char text[VALUE_BYTES];

    if (sys->next == 0 && core->now_ms >= sys->next_ms)
        sys_begin(core);
    for (; sys->next > 0 && core_takes_input(core); sys->next = (sys->next + 1) % (SYS_VALUES + 1)) {
        enum value value = sys->next - 1;
        struct message message;

        if (sys->values[value] == sys->told[value])
            continue;
        sys->told[value] = sys->values[value];
        message = message_of(core, value, sys->values[value], text);
        core_deliver_here(core, &message);
    }
}

void core_sys_answer(struct core *core, struct client *client, struct bytes filters, uint32_t subscription_id)
{
    struct reader reader = reader_of(filters);
    struct command_filter filter;
    uint64_t values[SYS_VALUES];
    char text[VALUE_BYTES];
    struct target target = {
        .session_id = client->session_id,
        .connection = client->number,
        .retain = true,
        .subscription_ids = &subscription_id,
        .subscription_id_count = subscription_id != 0,
    };

    if (core->sys.next_ms == UINT64_MAX)
        return;
    gather(core, values);
    for (uint32_t i = 0; i < ANSWERED_MAX && command_next_filter(&reader, &filter); i++) {
        core->other_looks += SYS_VALUES * PACKET_LOOKS;
        for (enum value value = 0; value < SYS_VALUES; value++) {
            struct message message = message_of(core, value, values[value], text);

            if (topic_matches(filter.filter, message.topic))
                deliver_message(core, 0, &message, &target, 1);
        }
    }
}
