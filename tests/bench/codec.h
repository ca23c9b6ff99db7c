/* codec.h — as much of MQTT 3.1.1 and 5.0 as a load generator speaks, from the client's side.
 *
 * Encoders write at `out`, which must have CODEC_SMALL_MAX bytes of room, and return the number of bytes written.
 * The decoder borrows: a packet points into the bytes it was read from. Nothing here allocates. */
#ifndef BENCH_CODEC_H
#define BENCH_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CODEC_SMALL_MAX = 1024, CODEC_TEXT_MAX = 255 };

enum packet_type {
    PACKET_CONNECT = 1,
    PACKET_CONNACK = 2,
    PACKET_PUBLISH = 3,
    PACKET_PUBACK = 4,
    PACKET_PUBREC = 5,
    PACKET_PUBREL = 6,
    PACKET_PUBCOMP = 7,
    PACKET_SUBSCRIBE = 8,
    PACKET_SUBACK = 9,
    PACKET_PINGREQ = 12,
    PACKET_PINGRESP = 13,
    PACKET_DISCONNECT = 14,
};

enum protocol { PROTOCOL_3_1_1 = 4, PROTOCOL_5 = 5 };

/* Texts are NUL-terminated, at most CODEC_TEXT_MAX long; username and password may be NULL. */
struct connect {
    enum protocol protocol;
    const char *client_id;
    const char *username;
    const char *password;
    bool clean;
    uint32_t expiry_s;        /* MQTT 5: session expiry, 0 ends it with the connection */
    uint16_t receive_maximum; /* MQTT 5: 0 leaves it out */
    uint16_t keepalive_s;
};

size_t encode_connect(uint8_t *out, const struct connect *connect);
size_t encode_subscribe(uint8_t *out, enum protocol protocol, uint16_t packet_id, const char *filter, unsigned qos);
size_t encode_disconnect(uint8_t *out);
size_t encode_ack(uint8_t *out, enum packet_type type, uint16_t packet_id); /* PUBACK to PUBCOMP; reason: success */

/* A whole PUBLISH whose topic, packet id and payload are filled in later, at the given offsets. */
struct publish_template {
    uint8_t *bytes; /* free() it */
    size_t size;
    size_t topic_at;
    size_t packet_id_at; /* 0 at QoS 0 */
    size_t payload_at;
};

struct publish_template publish_template_new(enum protocol protocol, unsigned qos, size_t topic_size,
                                             size_t payload_size);
enum { PUBLISH_DUP = 0x08 }; /* in the first byte */

struct packet {
    enum packet_type type;
    uint8_t flags;
    const uint8_t *body;
    size_t size;
};

enum { CODEC_MALFORMED = -1, CODEC_NEED_MORE = 0 };

/* Takes one packet off the front; returns its size in bytes, CODEC_NEED_MORE or CODEC_MALFORMED. */
long packet_next(const uint8_t *data, size_t size, struct packet *packet);

struct connack {
    bool session_present;
    uint8_t reason;           /* 0: accepted */
    uint16_t receive_maximum; /* 65,535 if the broker names none */
};

struct ack {
    uint16_t packet_id;
    uint8_t reason; /* MQTT 5: 0x80 and above is a refusal; SUBACK: the first of its codes, both protocols */
};

struct publish {
    unsigned qos;
    bool dup;
    uint16_t packet_id;
    const uint8_t *payload;
    size_t payload_size;
};

/* These return false if the body is malformed. */
bool connack_parse(const struct packet *packet, enum protocol protocol, struct connack *connack);
bool ack_parse(const struct packet *packet, enum protocol protocol, struct ack *ack);
bool publish_parse(const struct packet *packet, enum protocol protocol, struct publish *publish);

#endif
