/* Arbitrary bytes as a client's stream: the first byte picks the level, the second seeds how the rest is split.
 *
 * What must hold: nothing is read beyond the input; split or whole, the stream gives the same packets and ends with the
 * same fault; a NEED_MORE names a size that is more than there is; and what was decoded can be walked and passed on. */
#include "node/mqtt/decode.h"
#include "node/mqtt/encode.h"
#include "node/mqtt/property.h"
#include "node/mqtt/reason.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PACKET_SIZE_MAX 100000
#define ALIAS_MAX 10

static void check(bool fact)
{
    if (!fact)
        abort();
}

static void walk_properties(const struct mqtt_properties *properties)
{
    struct bytes rest = properties->block;
    struct mqtt_user_property property;
    while (mqtt_next_user_property(&rest, &property))
        check(property.name.size <= UINT16_MAX);
    check(rest.size == 0);
}

/* What concerns only the packet is left behind, and all else is as good as it was. */
static void check_passed_on(struct bytes block, const struct mqtt_properties *whole)
{
    const uint64_t left_behind = MQTT_HAS(PROPERTY_MESSAGE_EXPIRY) | MQTT_HAS(PROPERTY_TOPIC_ALIAS) |
                                 MQTT_HAS(PROPERTY_SUBSCRIPTION_ID) | MQTT_HAS(PROPERTY_WILL_DELAY);
    struct mqtt_properties passed;
    struct mqtt_fault fault;
    check(mqtt_properties_decode(block, MQTT_IN(MQTT_PUBLISH), &passed, &fault) == STATUS_OK);
    check(passed.present == (whole->present & ~left_behind));
}

/* What we would send on is something that we would accept from another node, and from the client itself. */
static void pass_on(const struct mqtt_publish *publish)
{
    struct buffer scratch = {0}, out = {0};
    struct message message = {.topic = publish->topic.size > 0 ? publish->topic : bytes_text("by/alias"),
                              .payload = publish->payload,
                              .properties = mqtt_properties_passed_on(&publish->properties, &scratch)};
    check_passed_on(message.properties, &publish->properties);
    struct mqtt_publish_options options = {.qos = publish->qos, .retain = publish->retain,
        .packet_id = publish->packet_id,
                                           .message_expiry_s = publish->properties.message_expiry_s};
    mqtt_encode_publish(5, &message, &options, &out);
    check(out.size == mqtt_publish_size(5, &message, &options));

    struct mqtt_decode_options again = {5, 0, MQTT_PACKET_SIZE_MAX};
    struct mqtt_packet packet;
    struct mqtt_fault fault;
    size_t used;
    check(mqtt_decode(buffer_bytes(&out), &again, &packet, &used, &fault) == STATUS_OK && used == out.size);
    check(bytes_equal(packet.publish.topic, message.topic) && bytes_equal(packet.publish.payload, message.payload));
    check(packet.publish.properties.message_expiry_s == options.message_expiry_s);
    buffer_release(&scratch);
    buffer_release(&out);
}

static void walk_packet(const struct mqtt_packet *packet)
{
    switch (packet->type) {
    case MQTT_CONNECT:
        walk_properties(&packet->connect.properties);
        if (packet->connect.has_will) {
            struct buffer scratch = {0};
            walk_properties(&packet->connect.will.properties);
            check_passed_on(mqtt_properties_passed_on(&packet->connect.will.properties, &scratch),
                            &packet->connect.will.properties);
            buffer_release(&scratch);
        }
        break;
    case MQTT_PUBLISH:
        walk_properties(&packet->publish.properties);
        pass_on(&packet->publish);
        break;
    case MQTT_SUBSCRIBE: {
        struct bytes rest = packet->subscribe.filters;
        struct mqtt_subscription one;
        uint32_t count = 0;
        for (; mqtt_next_subscription(&rest, &one); count++)
            check(one.text.size > 0);
        check(count == packet->subscribe.count);
        break;
    }
    case MQTT_UNSUBSCRIBE: {
        struct bytes rest = packet->unsubscribe.filters, text;
        uint32_t count = 0;
        while (mqtt_next_filter(&rest, &text))
            count++;
        check(count == packet->unsubscribe.count);
        break;
    }
    default: break;
    }
}

/* How a stream went: how many packets and bytes were taken, and what stopped it. */
struct course {
    size_t packets, bytes;
    enum status status;
    uint8_t reason;
    uint8_t level;
};

/* Takes all packets that `in` holds, as a connection does. */
static void take_packets(struct bytes in, struct course *course)
{
    while (course->status == STATUS_OK || course->status == STATUS_NEED_MORE) {
        struct mqtt_decode_options options = {course->level, ALIAS_MAX, PACKET_SIZE_MAX};
        struct mqtt_packet packet;
        struct mqtt_fault fault;
        size_t used;
        struct bytes rest = bytes_of(in.data + course->bytes, in.size - course->bytes);
        course->status = mqtt_decode(rest, &options, &packet, &used, &fault);
        course->reason = fault.reason;
        if (course->status != STATUS_OK) {
            check(course->status != STATUS_NEED_MORE || used == 0 || used > rest.size);
            check(course->status == STATUS_NEED_MORE || fault.reason >= REASON_FAILURE);
            return;
        }
        check(used >= 2 && used <= rest.size);
        walk_packet(&packet);
        if (packet.type == MQTT_CONNECT)
            course->level = packet.connect.level;
        course->packets++;
        course->bytes += used;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t levels[] = {0, 3, 4, 5};
    if (size < 2)
        return 0;
    uint8_t level = levels[data[0] % sizeof levels];
    unsigned step = 1 + data[1] % 7;
    struct bytes stream = bytes_of(data + 2, size - 2);

    struct course whole = {.level = level}, split = {.level = level};
    take_packets(stream, &whole);
    for (size_t arrived = 0; arrived < stream.size; ) {
        arrived = stream.size - arrived > step ? arrived + step : stream.size;
        take_packets(bytes_of(stream.data, arrived), &split);
    }
    check(stream.size == 0 || (whole.packets == split.packets && whole.bytes == split.bytes));
    check(stream.size == 0 || (whole.status == split.status && whole.reason == split.reason
        && whole.level == split.level));
    return 0;
}
