/* decode.h — bytes from a client -> packets.
 *
 * Pure and without memory of its own: the caller keeps the bytes, calls mqtt_decode on what has arrived, and drops the
 * bytes of each packet when it is done with it. Nothing is allocated, whatever a header announces. */
#ifndef COTERIE_MQTT_DECODE_H
#define COTERIE_MQTT_DECODE_H

#include "base/status.h"
#include "base/topic.h"
#include "packet.h"

/* What has been agreed on this connection. */
struct mqtt_decode_options {
    uint8_t level;            /* of its CONNECT; 0 until that has been decoded: then only a CONNECT is taken */
    uint16_t topic_alias_max; /* as we announced */
    uint32_t packet_size_max; /* whole packets, header included; make it small while level is 0 */
};

/* Why a packet was refused. The connection is to be closed; first, if `answer_level` is not 0, the client may be told
 * `reason`: in a CONNACK of that level before we have accepted a CONNECT, in a DISCONNECT afterwards. (After CONNECT it
 * is 5 or 0: 3.x has no DISCONNECT from the server.) */
struct mqtt_fault {
    uint8_t reason;           /* enum mqtt_reason */
    uint8_t answer_level;     /* 0 = close without a word */
    const char *text;         /* for the client: what was wrong, in a few words; never NULL */
    const char *property;     /* about which property that is said: its name, or NULL */
};

/* Takes one packet off the front of `in`; *packet borrows from it.
 *
 * STATUS_OK: *packet is valid, *size is how many bytes it took.
 * STATUS_NEED_MORE: no fault; call again when more has arrived. *size is how many bytes the whole packet takes, or 0 as
 *   long as that is unknown.
 * STATUS_MALFORMED, STATUS_PROTOCOL_ERROR, STATUS_TOO_LARGE (beyond packet_size_max, judged from the header alone),
 *   STATUS_UNSUPPORTED (protocol name or level), STATUS_INVALID (client id): *fault says why. What can be judged from
 *   the first byte is judged when only that has arrived. Nothing behind the packet may be looked at. */
enum status mqtt_decode(struct bytes in, const struct mqtt_decode_options *options, struct mqtt_packet *packet,
                        size_t *size, struct mqtt_fault *fault);

/* One filter of a SUBSCRIBE. Its text is valid UTF-8 and not empty, its options are valid. */
struct mqtt_subscription {
    struct bytes text;           /* as sent, $share/group/ included */
    struct topic_filter parts;   /* unless `kind` is TOPIC_FILTER_INVALID */
    enum topic_filter_kind kind; /* invalid: answer 0x8F for this filter and go on with the next */
    uint8_t options;             /* the octet of 5.0 (see storage/command.h); 3.x: QoS only */
};

/* Takes the next filter off *filters, which starts as a copy of mqtt_subscribe.filters; false at the end. */
bool mqtt_next_subscription(struct bytes *filters, struct mqtt_subscription *subscription);

/* The same for mqtt_unsubscribe.filters. *text is valid UTF-8 and not empty, but possibly no valid filter. */
bool mqtt_next_filter(struct bytes *filters, struct bytes *text);

#endif
