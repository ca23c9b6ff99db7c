/* limits.c — the limits that one packet or one connection meets: checked here or where they belong, counted and told
 * about here. Reaching one costs nobody but the client that did. */
#include "core_private.h"

#include "takeovers.h"

#include "node/mqtt/property.h"

#include <stdio.h>

#define TELL_MS     60000 /* a line per limit at most so often */
#define ID_TOLD_MAX 128   /* of a client id, in a line */

static const char *const names[LIMIT_COUNT] = {
    [LIMIT_CONNECTIONS] = "connections",
    [LIMIT_PENDING] = "pending-connections",
    [LIMIT_CONNECT_RATE] = "connect-rate",
    [LIMIT_TAKE_OVERS] = "take-overs",
    [LIMIT_SESSIONS] = "sessions",
    [LIMIT_PACKET_BYTES] = "packet-bytes",
    [LIMIT_USER_PROPERTIES] = "user-properties",
    [LIMIT_TOPIC_LEVELS] = "topic-levels",
    [LIMIT_FILTERS] = "filters",
    [LIMIT_SUBSCRIPTIONS] = "subscriptions",
    [LIMIT_RECEIVE_MAXIMUM] = "receive-maximum",
    [LIMIT_PUBLISH_QUOTA] = "publish-quota",
    [LIMIT_MEMORY] = "memory",
    [LIMIT_LOGINS] = "logins",
    [LIMIT_USER_CONNECTIONS] = "user-connections",
    [LIMIT_USER_RATE] = "user-rate",
    [LIMIT_LISTENER_RATE] = "listener-rate",
    [LIMIT_QUEUES] = "queues",
};

const char *core_limit_name(enum core_limit limit)
{
    return names[limit];
}

void client_count_limit(struct client_node *node, enum core_limit limit)
{
    node->stats.limits[limit]++;
    node->limit_reached = true;
}

/* ---- one packet ---- */

static const struct mqtt_properties *properties_of(const struct mqtt_packet *packet)
{
    switch (packet->type) {
    case MQTT_CONNECT: return &packet->connect.properties;
    case MQTT_PUBLISH: return &packet->publish.properties;
    case MQTT_PUBACK:
    case MQTT_PUBREC:
    case MQTT_PUBREL:
    case MQTT_PUBCOMP: return &packet->ack.properties;
    case MQTT_SUBSCRIBE: return &packet->subscribe.properties;
    case MQTT_UNSUBSCRIBE: return &packet->unsubscribe.properties;
    case MQTT_DISCONNECT: return &packet->disconnect.properties;
    case MQTT_AUTH: return &packet->auth.properties;
    case MQTT_CONNACK:
    case MQTT_SUBACK:
    case MQTT_UNSUBACK:
    case MQTT_PINGREQ:
    case MQTT_PINGRESP: break;
    }
    return &MQTT_PROPERTIES_NONE;
}

static uint32_t user_properties(const struct mqtt_properties *properties)
{
    struct bytes block = properties->block;
    struct mqtt_user_property property;
    uint32_t count = 0;

    if ((properties->present & MQTT_HAS(PROPERTY_USER)) == 0)
        return 0;
    while (mqtt_next_user_property(&block, &property))
        count++;
    return count;
}

bool limits_allow_packet(const struct client_node *node, const struct mqtt_packet *packet)
{
    uint32_t count = user_properties(properties_of(packet));

    if (packet->type == MQTT_CONNECT && packet->connect.has_will)
        count += user_properties(&packet->connect.will.properties);
    return count <= node->capabilities.user_properties_max;
}

/* ---- telling ---- */

/* Queues are the state machine's: every node counts what it has applied. */
static void count_queues(struct core *core)
{
    struct state_counts counts;

    state_counts(core->state, &counts);
    if (counts.dropped_queue_full > core->queues_dropped) {
        core->node.stats.limits[LIMIT_QUEUES] += counts.dropped_queue_full - core->queues_dropped;
        core->node.limit_reached = true;
    }
    core->queues_dropped = counts.dropped_queue_full;
}

void core_forget_queues(struct core *core)
{
    struct state_counts counts;

    state_counts(core->state, &counts);
    core->queues_dropped = counts.dropped_queue_full;
}

void core_tell_contested(struct core *core, const struct client *client, uint32_t rest_ms)
{
    struct bytes id = client_id_of(client);
    char text[256];

    if (!takeovers_tell(core->node.takeovers, id, core->now_ms))
        return;
    snprintf(text, sizeof(text), "several clients contend for the client id %.*s: it rests for %u ms before the next has it",
             (int)(id.size < ID_TOLD_MAX ? id.size : ID_TOLD_MAX), (const char *)id.data, rest_ms);
    core_note(core, 2, text);
}

void core_tell_limits(struct core *core)
{
    char text[96];

    count_queues(core);
    if (!core->node.limit_reached || core->now_ms < core->limits_told_ms)
        return;
    core->node.limit_reached = false;
    core->limits_told_ms = core->now_ms + TELL_MS;
    for (enum core_limit limit = 0; limit < LIMIT_COUNT; limit++) {
        uint64_t times = core->node.stats.limits[limit] - core->limits_told[limit];

        if (times == 0)
            continue;
        core->limits_told[limit] = core->node.stats.limits[limit];
        snprintf(text, sizeof(text), "limit reached: %s, %llu times since it was last told", names[limit],
                 (unsigned long long)times);
        core_note(core, 2, text);
    }
}
