/* packets.h — MQTT packets as the model clients write and read them. On purpose not the broker's codec: a fault in that one
 * must not cancel itself out here. */
#ifndef COTERIE_SIM_PACKETS_H
#define COTERIE_SIM_PACKETS_H

#include "sim.h"

enum {
    PACKET_CONNECT = 0x10, PACKET_CONNACK = 0x20, PACKET_PUBLISH = 0x30, PACKET_PUBACK = 0x40, PACKET_PUBREC = 0x50,
    PACKET_PUBREL = 0x62, PACKET_PUBCOMP = 0x70, PACKET_SUBSCRIBE = 0x82, PACKET_SUBACK = 0x90, PACKET_UNSUBSCRIBE = 0xA2,
    PACKET_UNSUBACK = 0xB0, PACKET_PINGREQ = 0xC0, PACKET_PINGRESP = 0xD0, PACKET_DISCONNECT = 0xE0,
};

struct packet_connect {
    const char *client_id;
    uint8_t level;
    bool clean;
    uint32_t expiry_s;           /* 5.0; UINT32_MAX: never */
    uint16_t receive_maximum;    /* 5.0 */
    const char *will_topic;      /* NULL: none */
    uint8_t will_qos;
    uint32_t will_delay_s;       /* 5.0 */
    struct bytes will_payload;
};

struct packet_publish {
    const char *topic;
    uint8_t level, qos;
    bool dup, retain;
    uint16_t packet_id;
    uint32_t expiry_s;           /* 5.0; 0: none */
    uint32_t publisher, number;  /* the payload begins with them */
    uint32_t payload_bytes;
};

/* Each appends one packet to `out`. */
void packet_put_connect(struct buffer *out, const struct packet_connect *connect);
void packet_put_publish(struct buffer *out, const struct packet_publish *publish);
void packet_put_ack(struct buffer *out, uint8_t first, uint16_t packet_id);
void packet_put_subscribe(struct buffer *out, uint8_t level, uint16_t packet_id, const char *filter, uint8_t options);
void packet_put_unsubscribe(struct buffer *out, uint8_t level, uint16_t packet_id, const char *filter);
void packet_put_empty(struct buffer *out, uint8_t first);

/* The packet at the front of `input`; *size is that of all of it. false: it is not whole yet. */
bool packet_next(const struct buffer *input, uint8_t *first, struct bytes *content, size_t *size);

/* What a PUBLISH that was received says. false: it cannot be read. `publish->topic` is not set. */
bool packet_read_publish(uint8_t first, struct bytes content, uint8_t level, struct packet_publish *publish,
                         struct bytes *topic);

#endif
