/* encode.h — packets to a client -> bytes.
 *
 * Each mqtt_encode_... appends one whole packet to `out`. What the peer has limited is respected here: a reason string
 * or user properties that would make the packet larger than its maximum are left out (5.0, 3.1.2-24 ff.), and where
 * the peer did not ask for problem information they only go into CONNACK and DISCONNECT (3.1.2-29). If the packet
 * is too large even so, nothing is appended and the result is false. */
#ifndef COTERIE_MQTT_ENCODE_H
#define COTERIE_MQTT_ENCODE_H

#include "base/message.h"
#include "packet.h"

/* What the encoder has to know about a client: from its CONNECT. */
struct mqtt_peer {
    uint8_t level;             /* MQTT_LEVEL_... */
    bool problem_information;  /* properties.request_problem_information */
    uint32_t packet_size_max;  /* properties.packet_size_max; MQTT_PACKET_SIZE_MAX if it set none */
};

/* What is meant by `connect`, for later packets on its connection. */
struct mqtt_peer mqtt_peer_of(const struct mqtt_connect *connect);

/* 3.x: false also if there is no return code for `reason`; then close without a CONNACK. */
bool mqtt_encode_connack(const struct mqtt_peer *peer, const struct mqtt_connack *connack, struct buffer *out);

/* `type` is MQTT_PUBACK, _PUBREC, _PUBREL or _PUBCOMP. 3.x: the reason is not sent. (PUBACK and PUBREC cannot say no to
 * a 3.x client: that is for the caller to know.) We have nothing to add by properties. */
bool mqtt_encode_ack(const struct mqtt_peer *peer, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                     struct buffer *out);

/* `type` is MQTT_SUBACK or _UNSUBACK. 3.x: a failure becomes 0x80 in SUBACK; UNSUBACK has no codes. */
bool mqtt_encode_suback(const struct mqtt_peer *peer, enum mqtt_type type, const struct mqtt_suback *suback,
                        struct buffer *out);

bool mqtt_encode_pingresp(const struct mqtt_peer *peer, struct buffer *out);

/* 3.x: false; a server of 3.x just closes. */
bool mqtt_encode_disconnect(const struct mqtt_peer *peer, const struct mqtt_disconnect *disconnect, struct buffer *out);

/* 5.0 only. */
bool mqtt_encode_auth(const struct mqtt_peer *peer, const struct mqtt_auth *auth, struct buffer *out);

/* ---- PUBLISH ----
 *
 * A frame is  first byte | length, topic, packet id, expiry, alias, subscription ids | properties | payload.
 *                          `------------- head, first byte included --------------'   `--- of the message ---'
 *
 * A fan-out shares frames. For one message, level and QoS (and packet id: equal for all receivers of a message) two
 * receivers without subscription ids get the same bytes but for DUP and RETAIN in the first byte. So: encode once per
 * {level is 5, QoS, RETAIN, no ids}, or send mqtt_publish_first_byte() from a place of its own and share the rest. For
 * a receiver with subscription ids encode only the head, and share properties and payload. */
struct mqtt_publish_options {
    uint8_t qos;                       /* 0 to 2 */
    bool duplicate;                    /* never with QoS 0 */
    bool retain;
    uint16_t packet_id;                /* 0 for QoS 0, and only then */
    /* The rest is left out for 3.x. */
    uint32_t message_expiry_s;         /* what remains of it; UINT32_MAX = none */
    uint16_t topic_alias;              /* 0 = none */
    bool topic_by_alias;               /* the peer knows the alias: send an empty topic */
    uint32_t subscription_id_count;
    const uint32_t *subscription_ids;  /* each 1 to 268,435,455 */
};

/* The exact size of the packet, to compare with the peer's packet_size_max: a message that does not fit must not be
 * sent (3.1.2-24). Beyond MQTT_PACKET_SIZE_MAX it cannot be encoded at all. */
size_t mqtt_publish_size(uint8_t level, const struct message *message, const struct mqtt_publish_options *options);

/* Appends the whole packet. Its size is at most MQTT_PACKET_SIZE_MAX. */
void mqtt_encode_publish(uint8_t level, const struct message *message, const struct mqtt_publish_options *options,
                         struct buffer *out);

/* Appends the packet without message->properties and message->payload. What is to be sent behind it: for 5.0 the
 * properties and the payload, for 3.x only the payload. */
void mqtt_encode_publish_head(uint8_t level, const struct message *message, const struct mqtt_publish_options *options,
                              struct buffer *out);

uint8_t mqtt_publish_first_byte(const struct mqtt_publish_options *options);

#endif
