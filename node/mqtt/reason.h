/* reason.h — the reason codes of MQTT 5.0: who may send them in which packet, and what they become for a client of
 * 3.1 or 3.1.1. The table is in reason.c. */
#ifndef COTERIE_MQTT_REASON_H
#define COTERIE_MQTT_REASON_H

#include "packet.h"

enum mqtt_reason {
    REASON_SUCCESS = 0x00, /* also: normal disconnection, granted QoS 0 */
    REASON_GRANTED_QOS_1 = 0x01,
    REASON_GRANTED_QOS_2 = 0x02,
    REASON_DISCONNECT_WITH_WILL = 0x04,
    REASON_NO_MATCHING_SUBSCRIBERS = 0x10,
    REASON_NO_SUBSCRIPTION_EXISTED = 0x11,
    REASON_CONTINUE_AUTHENTICATION = 0x18,
    REASON_REAUTHENTICATE = 0x19,
    REASON_UNSPECIFIED_ERROR = 0x80,
    REASON_MALFORMED_PACKET = 0x81,
    REASON_PROTOCOL_ERROR = 0x82,
    REASON_IMPLEMENTATION_ERROR = 0x83,
    REASON_UNSUPPORTED_VERSION = 0x84,
    REASON_CLIENT_ID_INVALID = 0x85,
    REASON_BAD_USER_OR_PASSWORD = 0x86,
    REASON_NOT_AUTHORIZED = 0x87,
    REASON_SERVER_UNAVAILABLE = 0x88,
    REASON_SERVER_BUSY = 0x89,
    REASON_BANNED = 0x8a,
    REASON_SERVER_SHUTTING_DOWN = 0x8b,
    REASON_BAD_AUTHENTICATION_METHOD = 0x8c,
    REASON_KEEP_ALIVE_TIMEOUT = 0x8d,
    REASON_SESSION_TAKEN_OVER = 0x8e,
    REASON_FILTER_INVALID = 0x8f,
    REASON_TOPIC_INVALID = 0x90,
    REASON_PACKET_ID_IN_USE = 0x91,
    REASON_PACKET_ID_NOT_FOUND = 0x92,
    REASON_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
    REASON_TOPIC_ALIAS_INVALID = 0x94,
    REASON_PACKET_TOO_LARGE = 0x95,
    REASON_MESSAGE_RATE_TOO_HIGH = 0x96,
    REASON_QUOTA_EXCEEDED = 0x97,
    REASON_ADMINISTRATIVE_ACTION = 0x98,
    REASON_PAYLOAD_FORMAT_INVALID = 0x99,
    REASON_RETAIN_NOT_SUPPORTED = 0x9a,
    REASON_QOS_NOT_SUPPORTED = 0x9b,
    REASON_USE_ANOTHER_SERVER = 0x9c,
    REASON_SERVER_MOVED = 0x9d,
    REASON_SHARED_NOT_SUPPORTED = 0x9e,
    REASON_CONNECTION_RATE_EXCEEDED = 0x9f,
    REASON_MAXIMUM_CONNECT_TIME = 0xa0,
    REASON_SUBSCRIPTION_IDS_NOT_SUPPORTED = 0xa1,
    REASON_WILDCARDS_NOT_SUPPORTED = 0xa2,
};

/* From here on a code says that something was refused or has failed. */
#define REASON_FAILURE 0x80

/* Whether the standard lets a client (server) send `reason` in a packet of `type`. */
bool mqtt_reason_from_client(enum mqtt_type type, uint8_t reason);
bool mqtt_reason_from_server(enum mqtt_type type, uint8_t reason);

/* The CONNACK return code of 3.1 and 3.1.1 that says the same, 0 to 5; MQTT_CONNACK_SILENT if none does: then the
 * connection is closed without a CONNACK (3.1.1, 3.2.2-6). */
#define MQTT_CONNACK_SILENT 0xff
uint8_t mqtt_reason_connack_3(uint8_t reason);

#endif
