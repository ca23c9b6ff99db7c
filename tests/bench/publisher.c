/* publisher.c — numbered messages out, acknowledgements in.
 *
 * Message n has packet id 1 + n % 65535 and its place in a ring; nothing else is kept of it, since topic and payload
 * follow from n and the time it was first sent. At most `window` numbers from the oldest unfinished one are in flight.
 *
 *   payload: run u32, publisher u32, number u64, time u64 (of this machine), then filling that is the same for all */
#include "client.h"

#include "worker.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { STALL_NS = 200 * 1000 * 1000 };

void publisher_init(struct client *client)
{
    const struct plan *plan = client->worker->plan;
    struct publisher *p = memory_array(1, sizeof(*p));
    uint64_t size = 1;
    while (size < plan->in_flight)
        size *= 2;
    p->mask = size - 1;
    p->ring = memory_array(size, sizeof(*p->ring));
    p->window = plan->in_flight;
    client->publisher = p;
}

void publisher_release(struct client *client)
{
    free(client->publisher->ring);
    numbers_release(&client->publisher->acknowledged);
    free(client->publisher);
}

static uint64_t fan_of(const struct client *client, uint64_t number)
{
    const struct plan *plan = client->worker->plan;
    return plan_subscribers_of(plan, plan_topic(plan, client->number, number));
}

static void put_topic_digits(uint8_t *at, uint64_t topic)
{
    for (int i = TOPIC_DIGITS - 1; i >= 0; i--) {
        at[i] = (uint8_t)('0' + topic % 10);
        topic /= 10;
    }
}

/* Puts message `number` into the output, as it was at first but for DUP. */
static void put_message(struct client *client, uint64_t number, bool dup)
{
    struct worker *worker = client->worker;
    const struct publish_template *t = &worker->publish;
    const struct publisher *p = client->publisher;
    uint8_t *at = buffer_room(&worker->output, t->size);
    memcpy(at, t->bytes, t->size);
    if (dup)
        at[0] |= PUBLISH_DUP;
    put_topic_digits(at + t->topic_at + sizeof("bench/12345678/") - 1,
                     plan_topic(worker->plan, client->number, number));
    if (t->packet_id_at != 0) {
        uint16_t packet_id = (uint16_t)(1 + number % 65535);
        at[t->packet_id_at] = (uint8_t)(packet_id >> 8);
        at[t->packet_id_at + 1] = (uint8_t)packet_id;
    }
    uint32_t publisher = (uint32_t)client->number;
    uint8_t *payload = at + t->payload_at;
    memcpy(payload + 4, &publisher, 4);
    memcpy(payload + 8, &number, 8);
    memcpy(payload + 16, &p->ring[number & p->mask].sent_ns, 8);
    worker->output.size += t->size;
}

static void put_release(struct client *client, uint64_t number)
{
    struct buffer *output = &client->worker->output;
    output->size += encode_ack(buffer_room(output, CODEC_SMALL_MAX), PACKET_PUBREL, (uint16_t)(1 + number % 65535));
}

/* The broker has taken message `number` upon itself. */
static void acknowledged(struct client *client, uint64_t number)
{
    struct worker *worker = client->worker;
    numbers_add(&client->publisher->acknowledged, number);
    counter_add(worker, COUNTER_ACKNOWLEDGED, 1);
    counter_add(worker, COUNTER_EXPECTED, fan_of(client, number));
}

static void note_ack_time(struct client *client, uint64_t sent_ns, uint64_t now)
{
    struct worker *worker = client->worker;
    struct publisher *p = client->publisher;
    if (worker_records(worker))
        histogram_record(&worker->acknowledged, now - sent_ns);
    if (now - p->last_ack_ns > p->longest_gap_ns && worker->publishing)
        p->longest_gap_ns = now - p->last_ack_ns;
    p->last_ack_ns = now;
    counter_set(worker, COUNTER_LAST_ACK_NS, now);
    uint64_t slot = (now - worker->started_ns) / 1000000;
    if (slot < GAP_SLOTS_MAX)
        worker->ack_slots[slot] = 1;
}

static void finished(struct client *client, struct slot *slot)
{
    struct publisher *p = client->publisher;
    slot->phase = SLOT_DONE;
    counter_add(client->worker, COUNTER_FINISHED, 1);
    while (p->tail < p->head && p->ring[p->tail & p->mask].phase == SLOT_DONE)
        p->tail++;
}

/* PUBACK or the first PUBREC: the verdict on a message. True if it was taken. */
static bool judge(struct client *client, uint64_t number, struct slot *slot, uint8_t reason, uint64_t now)
{
    if (reason >= 0x80) {
        counter_add(client->worker, COUNTER_REFUSED, 1);
        worker_trouble(client->worker, "a message is refused with reason 0x%02x", reason);
        finished(client, slot);
        return false;
    }
    acknowledged(client, number);
    note_ack_time(client, slot->sent_ns, now);
    return true;
}

bool publisher_receive(struct client *client, const struct packet *packet, uint64_t now)
{
    struct publisher *p = client->publisher;
    struct ack ack;
    if (!ack_parse(packet, (enum protocol)client->worker->plan->protocol, &ack))
        return false;
    uint64_t number = p->tail + (ack.packet_id - 1u + 65535u - p->tail % 65535) % 65535;
    struct slot *slot = &p->ring[number & p->mask];
    bool at_qos1 = client->worker->plan->qos == 1;
    if (number >= p->head || slot->phase == SLOT_DONE || (packet->type == PACKET_PUBACK) != at_qos1) {
        counter_add(client->worker, COUNTER_STRAY, 1);
    } else if (packet->type == PACKET_PUBACK) {
        if (judge(client, number, slot, ack.reason, now))
            finished(client, slot);
    } else if (packet->type == PACKET_PUBREC) {
        if (slot->phase == SLOT_SENT && judge(client, number, slot, ack.reason, now))
            slot->phase = SLOT_RELEASED;
        if (slot->phase == SLOT_RELEASED)
            put_release(client, number);
    } else if (slot->phase == SLOT_RELEASED) { /* PUBCOMP */
        finished(client, slot);
    } else {
        counter_add(client->worker, COUNTER_STRAY, 1);
    }
    return true;
}

/* What was in flight when the last connection broke, in the order it was first sent. A session that is gone has
 * forgotten PUBRECs too, but it did take those messages: they are done. */
void publisher_resume(struct client *client, bool session_present, uint16_t receive_maximum)
{
    struct publisher *p = client->publisher;
    uint64_t in_flight = client->worker->plan->in_flight;
    p->window = in_flight < receive_maximum ? in_flight : receive_maximum;
    if (client->worker->plan->qos == 0)
        return;
    uint64_t head = p->head;
    for (uint64_t number = p->tail; number < head; number++) {
        struct slot *slot = &p->ring[number & p->mask];
        if (slot->phase == SLOT_SENT) {
            put_message(client, number, session_present);
            counter_add(client->worker, COUNTER_RESENT, 1);
        } else if (slot->phase == SLOT_RELEASED && session_present) {
            put_release(client, number);
        } else if (slot->phase == SLOT_RELEASED) {
            finished(client, slot);
        }
    }
}

/* QoS 0: what has been delivered, or will not be, is out of the window. */
static void advance_tail(struct client *client)
{
    struct publisher *p = client->publisher;
    uint64_t fan = fan_of(client, 0);
    uint64_t delivered = atomic_load_explicit(&client->worker->delivered_of[client->number], memory_order_relaxed);
    p->tail = fan > 0 ? (delivered + p->given_up) / fan : p->head;
    if (p->tail > p->head)
        p->tail = p->head;
}

/* The number that must not be reached yet. */
static uint64_t sending_bound(const struct client *client, uint64_t now)
{
    const struct plan *plan = client->worker->plan;
    const struct publisher *p = client->publisher;
    uint64_t bound = p->tail + p->window;
    if (plan->messages > 0 && bound > plan->messages)
        bound = plan->messages;
    if (plan->rate > 0) {
        double due = (double)(now - client->worker->started_ns) / 1e9 * (double)plan->rate / (double)plan->publishers;
        if ((double)bound > due)
            bound = (uint64_t)due;
    }
    return bound;
}

void publisher_pump(struct client *client, uint64_t now)
{
    struct worker *worker = client->worker;
    struct publisher *p = client->publisher;
    bool at_qos0 = worker->plan->qos == 0;
    if (client->state != CLIENT_READY || !worker->publishing || (at_qos0 && client->writing))
        return;
    if (at_qos0)
        advance_tail(client);
    uint64_t bound = sending_bound(client, now), first = p->head;
    while (p->head < bound) {
        uint64_t number = p->head++;
        p->ring[number & p->mask] = (struct slot){.sent_ns = now, .phase = SLOT_SENT};
        put_message(client, number, false);
        if (at_qos0) {
            acknowledged(client, number);
            counter_add(worker, COUNTER_FINISHED, 1);
        }
    }
    if (p->head > first) {
        counter_add(worker, COUNTER_SENT, p->head - first);
        if (at_qos0)
            counter_set(worker, COUNTER_LAST_ACK_NS, now);
    }
}

/* QoS 0: after a while without any delivery, what is missing is not waited for. */
static void give_up_stalled(struct client *client, uint64_t now)
{
    struct publisher *p = client->publisher;
    uint64_t delivered = atomic_load_explicit(&client->worker->delivered_of[client->number], memory_order_relaxed);
    uint64_t promised = p->head * fan_of(client, 0);
    if (delivered != p->progress_seen || delivered + p->given_up >= promised) {
        p->progress_seen = delivered;
        p->progress_ns = now;
    } else if (now - p->progress_ns > STALL_NS) {
        p->given_up = promised - delivered;
        p->progress_ns = now;
    }
}

void publisher_tick(struct client *client, uint64_t now)
{
    struct publisher *p = client->publisher;
    const struct plan *plan = client->worker->plan;
    if (client->state != CLIENT_READY)
        return;
    if (plan->qos == 0) {
        give_up_stalled(client, now);
    } else if (plan->ack_timeout > 0 && p->tail < p->head) {
        uint64_t since = p->ring[p->tail & p->mask].sent_ns;
        since = since > client->dialled_ns ? since : client->dialled_ns;
        if (now > since && (double)(now - since) / 1e9 > plan->ack_timeout) {
            client_break(client);
            return;
        }
    }
    assert(client->worker->output.size == 0);
    publisher_pump(client, now);
    client_flush(client);
}

void publisher_started(struct client *client, uint64_t now)
{
    client->publisher->last_ack_ns = client->publisher->progress_ns = now;
    publisher_tick(client, now);
}

void publisher_stopped(struct client *client, uint64_t now)
{
    struct publisher *p = client->publisher;
    if (p->tail < p->head && now - p->last_ack_ns > p->longest_gap_ns)
        p->longest_gap_ns = now - p->last_ack_ns;
}
