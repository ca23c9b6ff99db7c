/* capabilities.h — what this server offers its clients, as configured: told in CONNACK where it differs from what a
 * client takes for granted, and refused where a client asks for more. */
#ifndef COTERIE_CAPABILITIES_H
#define COTERIE_CAPABILITIES_H

#include <stdbool.h>
#include <stdint.h>

/* The values of CORE_CAPABILITIES_DEFAULT are in brackets. */
struct core_capabilities {
    uint32_t topic_alias_max;            /* aliases that a client may set; 0 = none [32] */
    uint32_t maximum_qos;                /* of a PUBLISH or a will; subscriptions are granted no more [2] */
    bool retain_available;               /* [true] */
    bool wildcards_available;            /* [true] */
    bool subscription_ids_available;     /* [true] */
    bool payload_format_checked;         /* a payload that is said to be UTF-8 has to be [false] */
    uint32_t user_properties_max;        /* of one packet [1,000] */
    uint32_t topic_levels_max;           /* of a topic or filter; at most TOPIC_LEVELS_MAX [128] */
    uint32_t filters_max;                /* of one SUBSCRIBE or UNSUBSCRIBE [5,000] */
    uint32_t connect_rate_max;           /* CONNECTs per second, of all clients; 0 = no limit [0] */
    uint32_t connect_rate_address_max;   /* and from one address [0] */
    uint32_t sys_interval_s;             /* how often $SYS is told; 0 = there is none [10] */
    char *response_information;          /* for clients that ask for it; "" or NULL = none; outlives the core [NULL] */
};

extern const struct core_capabilities CORE_CAPABILITIES_DEFAULT;

struct client;
struct mqtt_connect;
struct mqtt_properties;
struct mqtt_publish;
struct mqtt_subscribe;
struct mqtt_subscription;

/* Adds what a CONNACK of 5.0 has to say about them. */
void capabilities_announce(const struct client *client, struct mqtt_properties *properties);

/* What is not offered: a reason code (5.0, 3.2.2.3), or REASON_SUCCESS. */
uint8_t capabilities_check_connect(const struct client *client, const struct mqtt_connect *connect);
uint8_t capabilities_check_publish(const struct client *client, const struct mqtt_publish *publish);
uint8_t capabilities_check_subscribe(const struct client *client, const struct mqtt_subscribe *subscribe);
uint8_t capabilities_check_filter(const struct client *client, const struct mqtt_subscription *subscription);

#endif
