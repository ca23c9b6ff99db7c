/* property.h — the properties of MQTT 5.0, driven by one table (property.c, which says how to add one).
 *
 *   block of bytes --mqtt_properties_decode--> struct mqtt_properties --mqtt_properties_encode--> block of bytes */
#ifndef COTERIE_MQTT_PROPERTY_H
#define COTERIE_MQTT_PROPERTY_H

#include "base/status.h"
#include "decode.h"
#include "packet.h"

/* Where properties stand: a packet, or the will in a CONNECT. */
#define MQTT_IN(type) (1u << (type))
#define MQTT_IN_WILL (1u << 0)

/* Reads the properties that a client has sent in `where` (one MQTT_IN bit); `block` comes without its length and is
 * borrowed. On STATUS_MALFORMED or STATUS_PROTOCOL_ERROR, fault->reason, fault->text and fault->property are set. Takes
 * time linear in the size of the block. */
enum status mqtt_properties_decode(struct bytes block, uint32_t where, struct mqtt_properties *properties,
                                   struct mqtt_fault *fault);

/* Bytes that mqtt_properties_encode appends; without the length in front. */
size_t mqtt_properties_size(const struct mqtt_properties *properties);
/* Appends all that is present, then properties->block as it is. */
void mqtt_properties_encode(const struct mqtt_properties *properties, struct buffer *out);

/* Whether a server may send all of these in `where`. The encoder asserts it. */
bool mqtt_properties_from_server(const struct mqtt_properties *properties, uint32_t where);

/* The received properties of a PUBLISH or a will that travel with the message, in the order received: without message
 * expiry, topic alias, subscription ids and will delay (struct message.properties). Borrowed from the packet if nothing
 * was to be left out; else written to `scratch`, which is cleared first and has to live as long as the result. */
struct bytes mqtt_properties_passed_on(const struct mqtt_properties *properties, struct buffer *scratch);

struct mqtt_user_property {
    struct bytes name;
    struct bytes value;
};

/* Takes the next user property off *block, which starts as a copy of mqtt_properties.block (checked), passing over
 * others; false at the end. */
bool mqtt_next_user_property(struct bytes *block, struct mqtt_user_property *property);

#endif
