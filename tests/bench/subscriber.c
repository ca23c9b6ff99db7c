/* subscriber.c — messages in, acknowledgements out, and the entries in the ledger.
 *
 * A QoS 2 message whose packet id is still open is the same message again, and no second delivery. */
#include "client.h"

#include "worker.h"

#include <stdlib.h>
#include <string.h>

void subscriber_init(struct client *client)
{
    const struct plan *plan = client->worker->plan;
    struct subscriber *s = memory_array(1, sizeof(*s));
    s->topic = client->number % plan->topics;
    s->tracks = memory_array(plan_publishers_of(plan, s->topic), sizeof(*s->tracks));
    client->subscriber = s;
}

void subscriber_release(struct client *client)
{
    struct subscriber *s = client->subscriber;
    for (uint64_t i = 0; i < plan_publishers_of(client->worker->plan, s->topic); i++)
        numbers_release(&s->tracks[i].delivered);
    numbers_release(&s->open);
    free(s->tracks);
    free(s);
}

void subscriber_session_ended(struct client *client)
{
    numbers_clear(&client->subscriber->open);
}

/* QoS 0: tells the publisher that there is room in its window. */
static void credit(struct worker *worker, uint64_t publisher)
{
    atomic_fetch_add_explicit(&worker->delivered_of[publisher], 1, memory_order_relaxed);
    worker->wake_others |= (uint64_t)1 << (publisher % worker->plan->threads);
}

static void deliver(struct client *client, const struct publish *publish, uint64_t now)
{
    struct worker *worker = client->worker;
    const struct plan *plan = worker->plan;
    struct subscriber *s = client->subscriber;
    uint32_t run, publisher;
    uint64_t number, sent_ns, track;
    const uint8_t *filling = worker->publish.bytes + worker->publish.payload_at + PAYLOAD_HEADER_SIZE;
    if (publish->payload_size != plan->payload_size ||
        memcmp(publish->payload + PAYLOAD_HEADER_SIZE, filling, plan->payload_size - PAYLOAD_HEADER_SIZE) != 0) {
        counter_add(worker, COUNTER_DAMAGED, 1);
        return;
    }
    memcpy(&run, publish->payload, 4);
    memcpy(&publisher, publish->payload + 4, 4);
    memcpy(&number, publish->payload + 8, 8);
    memcpy(&sent_ns, publish->payload + 16, 8);
    if (run != plan->run || !plan_track(plan, s->topic, publisher, &track) ||
        plan_topic(plan, publisher, number) != s->topic || number >> 40 != 0) {
        counter_add(worker, COUNTER_FOREIGN, 1);
        return;
    }
    enum arrival arrival = track_deliver(&s->tracks[track], number / plan->stride);
    if (arrival == ARRIVAL_REPEATED) {
        counter_add(worker, COUNTER_DUPLICATED, 1);
        return;
    }
    if (arrival == ARRIVAL_OUT_OF_ORDER)
        counter_add(worker, COUNTER_OUT_OF_ORDER, 1);
    counter_add(worker, COUNTER_DELIVERED, 1);
    counter_set(worker, COUNTER_LAST_DELIVERY_NS, now);
    if (worker_records(worker))
        histogram_record(&worker->delivered, now - sent_ns);
    if (plan->qos == 0)
        credit(worker, publisher);
}

static void put_ack(struct client *client, enum packet_type type, uint16_t packet_id)
{
    struct buffer *output = &client->worker->output;
    output->size += encode_ack(buffer_room(output, CODEC_SMALL_MAX), type, packet_id);
}

bool subscriber_receive(struct client *client, const struct packet *packet, uint64_t now)
{
    enum protocol protocol = (enum protocol)client->worker->plan->protocol;
    struct publish publish;
    struct ack ack;
    if (packet->type == PACKET_PUBREL) {
        if (!ack_parse(packet, protocol, &ack))
            return false;
        numbers_remove(&client->subscriber->open, ack.packet_id);
        put_ack(client, PACKET_PUBCOMP, ack.packet_id);
        return true;
    }
    if (!publish_parse(packet, protocol, &publish))
        return false;
    if (publish.qos == 2) {
        if (numbers_add(&client->subscriber->open, publish.packet_id))
            deliver(client, &publish, now);
        put_ack(client, PACKET_PUBREC, publish.packet_id);
    } else {
        deliver(client, &publish, now);
        if (publish.qos == 1)
            put_ack(client, PACKET_PUBACK, publish.packet_id);
    }
    return true;
}
