#include "packets.h"

#include <string.h>

static void put_u16(struct buffer *out, uint32_t value)
{
    buffer_put_u8(out, (uint8_t)(value >> 8));
    buffer_put_u8(out, (uint8_t)value);
}

static void put_u32(struct buffer *out, uint32_t value)
{
    put_u16(out, value >> 16);
    put_u16(out, value & 0xffff);
}

static void put_text(struct buffer *out, const char *text)
{
    put_u16(out, (uint32_t)strlen(text));
    buffer_put(out, text, strlen(text));
}

static void put_packet(struct buffer *out, uint8_t first, const struct buffer *body)
{
    buffer_put_u8(out, first);
    buffer_put_varint(out, body->size);   /* the same form as MQTT's variable byte integer */
    buffer_put(out, body->data, body->size);
}

static void put_connect_properties(struct buffer *body, const struct packet_connect *connect)
{
    buffer_put_u8(body, 8);
    buffer_put_u8(body, 0x11);
    put_u32(body, connect->expiry_s);
    buffer_put_u8(body, 0x21);
    put_u16(body, connect->receive_maximum);
}

static void put_will(struct buffer *body, const struct packet_connect *connect)
{
    if (connect->level == 5) {
        buffer_put_u8(body, 5);
        buffer_put_u8(body, 0x18);
        put_u32(body, connect->will_delay_s);
    }
    put_text(body, connect->will_topic);
    put_u16(body, (uint32_t)connect->will_payload.size);
    buffer_put_bytes(body, connect->will_payload);
}

void packet_put_connect(struct buffer *out, const struct packet_connect *connect)
{
    bool will = connect->will_topic != NULL;
    struct buffer body = {0};
    put_text(&body, "MQTT");
    buffer_put_u8(&body, connect->level);
    buffer_put_u8(&body, (uint8_t)((connect->clean ? 2 : 0) | (will ? 4 | connect->will_qos << 3 : 0)));
    put_u16(&body, 0);   /* keep alive: tested elsewhere */
    if (connect->level == 5)
        put_connect_properties(&body, connect);
    put_text(&body, connect->client_id);
    if (will)
        put_will(&body, connect);
    put_packet(out, PACKET_CONNECT, &body);
    buffer_release(&body);
}

void packet_put_publish(struct buffer *out, const struct packet_publish *publish)
{
    struct buffer body = {0};
    buffer_reserve(&body, publish->payload_bytes + 64);
    put_text(&body, publish->topic);
    if (publish->qos > 0)
        put_u16(&body, publish->packet_id);
    if (publish->level == 5 && publish->expiry_s > 0) {
        buffer_put_u8(&body, 5);
        buffer_put_u8(&body, 0x02);
        put_u32(&body, publish->expiry_s);
    } else if (publish->level == 5) {
        buffer_put_u8(&body, 0);
    }
    buffer_put_u32(&body, publish->publisher);
    buffer_put_u32(&body, publish->number);
    if (publish->payload_bytes > 8) {
        memset(body.data + body.size, (int)(publish->number & 0xff), publish->payload_bytes - 8);
        body.size += publish->payload_bytes - 8;
    }
    put_packet(out, (uint8_t)(PACKET_PUBLISH | (publish->dup ? 8 : 0) | (publish->qos << 1) | (publish->retain ? 1 : 0)), &body);
    buffer_release(&body);
}

void packet_put_ack(struct buffer *out, uint8_t first, uint16_t packet_id)
{
    buffer_put_u8(out, first);
    buffer_put_u8(out, 2);
    put_u16(out, packet_id);
}

static void put_filter(struct buffer *out, uint8_t first, uint8_t level, uint16_t packet_id, const char *filter, int options)
{
    struct buffer body = {0};
    put_u16(&body, packet_id);
    if (level == 5)
        buffer_put_u8(&body, 0);
    put_text(&body, filter);
    if (options >= 0)
        buffer_put_u8(&body, (uint8_t)options);
    put_packet(out, first, &body);
    buffer_release(&body);
}

void packet_put_subscribe(struct buffer *out, uint8_t level, uint16_t packet_id, const char *filter, uint8_t options)
{
    put_filter(out, PACKET_SUBSCRIBE, level, packet_id, filter, options);
}

void packet_put_unsubscribe(struct buffer *out, uint8_t level, uint16_t packet_id, const char *filter)
{
    put_filter(out, PACKET_UNSUBSCRIBE, level, packet_id, filter, -1);
}

void packet_put_empty(struct buffer *out, uint8_t first)
{
    buffer_put_u8(out, first);
    buffer_put_u8(out, 0);
}

bool packet_next(const struct buffer *input, uint8_t *first, struct bytes *content, size_t *size)
{
    size_t length = 0, header = 1;
    for (unsigned shift = 0;; shift += 7) {
        if (header >= input->size || header > 4)
            return false;
        uint8_t byte = input->data[header++];
        length |= (size_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            break;
    }
    if (input->size < header + length)
        return false;
    *first = input->data[0];
    *content = bytes_of(input->data + header, length);
    *size = header + length;
    return true;
}

static uint16_t read_u16(struct reader *in)
{
    uint16_t high = reader_u8(in);
    return (uint16_t)(high << 8 | reader_u8(in));
}

bool packet_read_publish(uint8_t first, struct bytes content, uint8_t level, struct packet_publish *publish,
                         struct bytes *topic)
{
    struct reader in = reader_of(content);
    *publish = (struct packet_publish){.level = level, .qos = (first >> 1) & 3, .dup = (first & 8) != 0, .retain = first & 1};
    *topic = reader_bytes(&in, read_u16(&in));
    if (publish->qos > 0)
        publish->packet_id = read_u16(&in);
    if (level == 5)
        reader_bytes(&in, (size_t)reader_varint(&in));
    publish->payload_bytes = (uint32_t)in.rest.size;
    publish->publisher = reader_u32(&in);
    publish->number = reader_u32(&in);
    return !in.failed;
}
