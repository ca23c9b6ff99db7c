/* packet.h — the control packets of MQTT 3.1, 3.1.1 and 5.0 as structs: one per packet.
 *
 * decode.h fills those that a client sends, encode.h writes those that a server sends. Everything of type `struct
 * bytes` borrows: from the bytes that were decoded, or from whoever wants a packet encoded. Fields that a version lacks
 * have the value that means the same (no properties, reason 0x00), so most readers need not ask for the version. */
#ifndef COTERIE_MQTT_PACKET_H
#define COTERIE_MQTT_PACKET_H

#include "base/bytes.h"

/* Protocol levels, as in CONNECT. */
#define MQTT_LEVEL_3_1 3
#define MQTT_LEVEL_3_1_1 4
#define MQTT_LEVEL_5 5

/* A whole packet: first byte, four bytes of remaining length, and as much as these can say. */
#define MQTT_REMAINING_MAX 268435455u
#define MQTT_PACKET_SIZE_MAX (MQTT_REMAINING_MAX + 5u)

enum mqtt_type {
    MQTT_CONNECT = 1,
    MQTT_CONNACK = 2,
    MQTT_PUBLISH = 3,
    MQTT_PUBACK = 4,
    MQTT_PUBREC = 5,
    MQTT_PUBREL = 6,
    MQTT_PUBCOMP = 7,
    MQTT_SUBSCRIBE = 8,
    MQTT_SUBACK = 9,
    MQTT_UNSUBSCRIBE = 10,
    MQTT_UNSUBACK = 11,
    MQTT_PINGREQ = 12,
    MQTT_PINGRESP = 13,
    MQTT_DISCONNECT = 14,
    MQTT_AUTH = 15,
};

/* Property identifiers. What each is like is in the table of property.c. */
enum mqtt_property {
    PROPERTY_PAYLOAD_FORMAT = 0x01,
    PROPERTY_MESSAGE_EXPIRY = 0x02,
    PROPERTY_CONTENT_TYPE = 0x03,
    PROPERTY_RESPONSE_TOPIC = 0x08,
    PROPERTY_CORRELATION_DATA = 0x09,
    PROPERTY_SUBSCRIPTION_ID = 0x0b,
    PROPERTY_SESSION_EXPIRY = 0x11,
    PROPERTY_ASSIGNED_CLIENT_ID = 0x12,
    PROPERTY_SERVER_KEEP_ALIVE = 0x13,
    PROPERTY_AUTHENTICATION_METHOD = 0x15,
    PROPERTY_AUTHENTICATION_DATA = 0x16,
    PROPERTY_REQUEST_PROBLEM_INFORMATION = 0x17,
    PROPERTY_WILL_DELAY = 0x18,
    PROPERTY_REQUEST_RESPONSE_INFORMATION = 0x19,
    PROPERTY_RESPONSE_INFORMATION = 0x1a,
    PROPERTY_SERVER_REFERENCE = 0x1c,
    PROPERTY_REASON_STRING = 0x1f,
    PROPERTY_RECEIVE_MAXIMUM = 0x21,
    PROPERTY_TOPIC_ALIAS_MAXIMUM = 0x22,
    PROPERTY_TOPIC_ALIAS = 0x23,
    PROPERTY_MAXIMUM_QOS = 0x24,
    PROPERTY_RETAIN_AVAILABLE = 0x25,
    PROPERTY_USER = 0x26,
    PROPERTY_PACKET_SIZE_MAX = 0x27,
    PROPERTY_WILDCARDS_AVAILABLE = 0x28,
    PROPERTY_SUBSCRIPTION_IDS_AVAILABLE = 0x29,
    PROPERTY_SHARED_AVAILABLE = 0x2a,
};
#define PROPERTIES_END 0x2b

/* The properties of one packet. Start from MQTT_PROPERTIES_NONE: an absent property reads as its default, so `present`
 * only matters where absence is not the same as any value. To send a property, set its field and its bit:
 *     properties.server_keep_alive_s = 60;
 *     properties.present |= MQTT_HAS(PROPERTY_SERVER_KEEP_ALIVE); */
struct mqtt_properties {
    uint64_t present;                   /* MQTT_HAS of each property that is there */
    struct bytes block;                 /* received: all properties in their encoding, checked; mqtt_next_user_property
                                         * reads from it. To send: user properties in their encoding, or empty */
    uint32_t message_expiry_s;          /* UINT32_MAX = absent; a received UINT32_MAX is given as UINT32_MAX - 1 */
    uint32_t session_expiry_s;          /* default 0; UINT32_MAX = never. 3.x: 0 if clean session, else UINT32_MAX */
    uint32_t will_delay_s;              /* default 0 */
    uint32_t subscription_id;           /* 1 to 268,435,455; default 0 = none */
    uint32_t packet_size_max;           /* 1 or more; default MQTT_PACKET_SIZE_MAX, and never above it when received */
    uint16_t receive_maximum;           /* 1 or more; default 65,535 */
    uint16_t topic_alias_max;           /* default 0 */
    uint16_t topic_alias;               /* 1 or more; default 0 = none */
    uint16_t server_keep_alive_s;
    uint8_t payload_format;             /* 0 bytes, 1 UTF-8; default 0 */
    uint8_t request_problem_information;  /* 0 or 1; default 1 */
    uint8_t request_response_information; /* 0 or 1; default 0 */
    uint8_t maximum_qos;                /* 0 or 1; to promise QoS 2 it must be absent */
    uint8_t retain_available;           /* this and the next three: default 1 */
    uint8_t wildcards_available;
    uint8_t subscription_ids_available;
    uint8_t shared_available;
    struct bytes content_type;
    struct bytes response_topic;        /* received: not empty, no wildcard */
    struct bytes correlation_data;
    struct bytes assigned_client_id;
    struct bytes authentication_method;
    struct bytes authentication_data;   /* received: only together with a method */
    struct bytes response_information;
    struct bytes server_reference;
    struct bytes reason_string;
};

#define MQTT_HAS(property) (UINT64_C(1) << (property))

extern const struct mqtt_properties MQTT_PROPERTIES_NONE;

struct mqtt_will {
    struct bytes topic;                 /* a valid topic name */
    struct bytes payload;
    uint8_t qos;
    bool retain;
    struct mqtt_properties properties;  /* will_delay_s, message_expiry_s, and what is passed on */
};

struct mqtt_connect {
    uint8_t level;                      /* MQTT_LEVEL_... */
    bool clean_start;                   /* 3.x: clean session */
    bool has_will;
    bool has_user_name;
    bool has_password;
    uint16_t keep_alive_s;              /* 0 = none */
    struct bytes client_id;             /* empty: one is to be assigned (never with 3.1, nor with 3.1.1 if not clean) */
    struct bytes user_name;
    struct bytes password;
    struct mqtt_will will;              /* only if has_will */
    struct mqtt_properties properties;
};

struct mqtt_connack {
    bool session_present;               /* sent as 0 if `reason` is not 0x00 */
    uint8_t reason;                     /* a code of 5.0; translated for 3.x */
    struct mqtt_properties properties;
};

struct mqtt_publish {
    struct bytes topic;                 /* a valid topic name; empty if only properties.topic_alias names it */
    struct bytes payload;
    uint16_t packet_id;                 /* 0 for QoS 0 */
    uint8_t qos;
    bool duplicate;
    bool retain;
    struct mqtt_properties properties;  /* mqtt_properties_passed_on() gives what travels with the message */
};

/* PUBACK, PUBREC, PUBREL, PUBCOMP. */
struct mqtt_ack {
    uint16_t packet_id;
    uint8_t reason;
    struct mqtt_properties properties;
};

struct mqtt_subscribe {
    uint16_t packet_id;
    uint32_t count;                     /* of filters; at least 1 */
    struct bytes filters;               /* mqtt_next_subscription() reads them */
    struct mqtt_properties properties;  /* subscription_id */
};

struct mqtt_unsubscribe {
    uint16_t packet_id;
    uint32_t count;
    struct bytes filters;               /* mqtt_next_filter() reads them */
    struct mqtt_properties properties;
};

/* SUBACK and UNSUBACK. */
struct mqtt_suback {
    uint16_t packet_id;
    const uint8_t *reasons;             /* one per filter, codes of 5.0; translated for 3.x */
    uint32_t count;
    struct mqtt_properties properties;
};

struct mqtt_disconnect {
    uint8_t reason;
    struct mqtt_properties properties;
};

struct mqtt_auth {
    uint8_t reason;
    struct mqtt_properties properties;  /* received: always with an authentication method */
};

/* A packet that a client has sent. PINGREQ has no content. */
struct mqtt_packet {
    enum mqtt_type type;
    union {
        struct mqtt_connect connect;
        struct mqtt_publish publish;
        struct mqtt_ack ack;            /* MQTT_PUBACK, _PUBREC, _PUBREL, _PUBCOMP */
        struct mqtt_subscribe subscribe;
        struct mqtt_unsubscribe unsubscribe;
        struct mqtt_disconnect disconnect;
        struct mqtt_auth auth;
    };
};

#endif
