/* fields.h — how MQTT writes numbers, strings and lengths (MQTT 5.0, 1.5): big-endian, lengths of two bytes, variable
 * byte integers of at most four. For decode.c, encode.c and property.c; reads fail as those of bytes.h do. */
#ifndef COTERIE_MQTT_FIELDS_H
#define COTERIE_MQTT_FIELDS_H

#include "base/bytes.h"

uint16_t field_u16(struct reader *in);
uint32_t field_u32(struct reader *in);
uint32_t field_varint(struct reader *in);        /* fails also if longer than four bytes or not in shortest form */
struct bytes field_block(struct reader *in);     /* two bytes of length, and that many bytes; borrowed */

void field_put_u16(struct buffer *out, uint16_t value);
void field_put_u32(struct buffer *out, uint32_t value);
void field_put_varint(struct buffer *out, uint32_t value); /* at most 268,435,455 */
void field_put_block(struct buffer *out, struct bytes bytes); /* at most 65,535 bytes */

/* How many bytes field_put_varint writes. */
static inline size_t field_varint_size(uint32_t value)
{
    return value < (1u << 7) ? 1 : value < (1u << 14) ? 2 : value < (1u << 21) ? 3 : 4;
}

#endif
