/* inflight.c — see inflight.h. */
#include "inflight.h"

#include "base/bug.h"
#include "base/memory.h"
#include "base/search.h"
#include "command.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define RING_FIRST_CAPACITY 4

#ifdef COTERIE_BUGGIFY
uint32_t inflight_packet_ids = 65535;
#endif

struct delivery *inflight_at(const struct inflight *inflight, uint32_t number)
{
    assert(number < inflight->count);
    return &inflight->ring[(inflight->first + number) & (inflight->capacity - 1)];
}

static void delivery_release(struct delivery *delivery)
{
    frame_release(delivery->frame);
    delivery->frame = NULL;
    if (delivery->filter_count > 1)
        free(delivery->filters.many);
    delivery->filter_count = 0;
}

void inflight_release(struct inflight *inflight)
{
    for (uint32_t i = 0; i < inflight->count; i++)
        delivery_release(inflight_at(inflight, i));
    free(inflight->ring);
    memset(inflight, 0, sizeof(*inflight));
}

static void ring_grow(struct inflight *inflight)
{
    uint32_t capacity = inflight->capacity == 0 ? RING_FIRST_CAPACITY : inflight->capacity * 2;
    struct delivery *ring = memory_allocate(capacity * sizeof(*ring));

    for (uint32_t i = 0; i < inflight->count; i++)
        ring[i] = *inflight_at(inflight, i);
    free(inflight->ring);
    inflight->ring = ring;
    inflight->capacity = capacity;
    inflight->first = 0;
}

static bool occupies_window(const struct delivery *delivery)
{
    return delivery->qos > 0 && delivery->phase >= DELIVERY_SENT && delivery->phase <= DELIVERY_RELEASED;
}

struct delivery *inflight_add(struct inflight *inflight, uint64_t order, uint8_t qos, enum delivery_phase phase,
                              struct frame *frame, const uint64_t *filters, uint16_t filter_count)
{
    struct delivery *delivery;

    assert(inflight->count == 0 || inflight_at(inflight, inflight->count - 1)->order < order);
    assert(inflight->waiting == 0 || phase == DELIVERY_WAITING);
    if (inflight->count == inflight->capacity)
        ring_grow(inflight);
    inflight->count++;
    delivery = inflight_at(inflight, inflight->count - 1);
    memset(delivery, 0, sizeof(*delivery));
    delivery->order = order;
    delivery->qos = qos;
    delivery->phase = (uint8_t)phase;
    delivery->frame = frame;
    delivery->filter_count = filter_count;
    if (filter_count == 1)
        delivery->filters.one = filters[0];
    else if (filter_count > 1)
        delivery->filters.many = memory_copy(filters, filter_count * sizeof(*filters));
    if (phase == DELIVERY_WAITING) {
        inflight->waiting++;
        inflight->waiting_bytes += frame->size;
    } else if (phase == DELIVERY_ACKED) {
        inflight->acks++;
    } else if (occupies_window(delivery)) {
        inflight->unacknowledged++;
    }
    return delivery;
}

struct delivery *inflight_first_waiting(const struct inflight *inflight)
{
    return inflight->waiting == 0 ? NULL : inflight_at(inflight, inflight->count - inflight->waiting);
}

struct frame *inflight_send_waiting(struct inflight *inflight)
{
    struct delivery *delivery = inflight_first_waiting(inflight);
    struct frame *frame = delivery->frame;

    delivery->frame = NULL;
    inflight->waiting--;
    inflight->waiting_bytes -= frame->size;
    if (delivery->qos == 0) {
        delivery->phase = DELIVERY_ACKED;
        inflight->acks++;
    } else {
        delivery->phase = DELIVERY_SENT;
        inflight->unacknowledged++;
    }
    return frame;
}

uint64_t inflight_forget_waiting(struct inflight *inflight)
{
    const struct delivery *first = inflight_first_waiting(inflight);
    uint64_t order = first != NULL ? first->order : 0;

    for (; inflight->waiting > 0; inflight->waiting--, inflight->count--)
        delivery_release(inflight_at(inflight, inflight->count - 1));
    inflight->waiting_bytes = 0;
    return order;
}

static bool is_done(const struct inflight *inflight, const struct delivery *delivery)
{
    if (delivery->phase == DELIVERY_DONE)
        return true;
    if (delivery->phase == DELIVERY_COMPLETING)
        return bug(BUG_V12_PACKET_ID_FREED_EARLY);
    return delivery->phase == DELIVERY_ACKED && delivery->acknowledgement != 0 &&
           (delivery->acknowledgement <= inflight->acknowledgements_done || bug(BUG_V12_PACKET_ID_FREED_EARLY));
}

/* Whether it owns its packet id. */
static bool holds_id(const struct inflight *inflight, const struct delivery *delivery)
{
    return delivery->qos > 0 && delivery->phase != DELIVERY_WAITING && !is_done(inflight, delivery);
}

static uint64_t order_at(const void *inflight, uint32_t number)
{
    return inflight_at(inflight, number)->order;
}

/* The number of the first delivery with an order >= `order`; count if there is none. */
static uint32_t number_of(const struct inflight *inflight, uint64_t order)
{
    return search_first(inflight, inflight->count, order, order_at);
}

struct delivery *inflight_find_order(const struct inflight *inflight, uint64_t order)
{
    uint32_t number = number_of(inflight, order);
    struct delivery *delivery;

    if (number == inflight->count)
        return NULL;
    delivery = inflight_at(inflight, number);
    if (delivery->order != order || delivery->phase == DELIVERY_WAITING || is_done(inflight, delivery))
        return NULL;
    return delivery;
}

struct delivery *inflight_find_id(const struct inflight *inflight, uint16_t packet_id)
{
    uint64_t first, last;

    if (inflight->count == 0 || packet_id == 0)
        return NULL;
    first = inflight_at(inflight, 0)->order;
    last = inflight_at(inflight, inflight->count - 1)->order;
    if (last - first < PACKET_IDS) { /* the usual case: one order in this range has the id */
        uint64_t distance = (packet_id - 1 + PACKET_IDS - first % PACKET_IDS) % PACKET_IDS;
        struct delivery *delivery = inflight_find_order(inflight, first + distance);

        return delivery != NULL && holds_id(inflight, delivery) ? delivery : NULL;
    }
    for (uint32_t i = 0; i < inflight->count; i++) {
        struct delivery *delivery = inflight_at(inflight, i);

        if (packet_id_of(delivery->order) == packet_id && holds_id(inflight, delivery))
            return delivery;
    }
    return NULL;
}

bool inflight_id_taken(const struct inflight *inflight, uint64_t order)
{
    if (inflight->count == 0 || order - inflight_at(inflight, 0)->order < PACKET_IDS)
        return false;
    return inflight_find_id(inflight, packet_id_of(order)) != NULL;
}

static void leave_window(struct inflight *inflight, const struct delivery *delivery)
{
    if (occupies_window(delivery)) {
        assert(inflight->unacknowledged > 0);
        inflight->unacknowledged--;
    }
}

void inflight_acked(struct inflight *inflight, struct delivery *delivery)
{
    leave_window(inflight, delivery);
    delivery->phase = DELIVERY_ACKED;
    inflight->acks++;
}

void inflight_declined(struct inflight *inflight, struct delivery *delivery)
{
    assert(delivery->phase == DELIVERY_ACKED && delivery->acknowledgement == 0 && !delivery->declined);
    delivery->declined = true;
    inflight->declines++;
}

void inflight_completing(struct inflight *inflight, struct delivery *delivery)
{
    leave_window(inflight, delivery);
    delivery->phase = DELIVERY_COMPLETING;
}

static void drop_done(struct inflight *inflight)
{
    while (inflight->count > 0 && is_done(inflight, inflight_at(inflight, 0))) {
        delivery_release(inflight_at(inflight, 0));
        inflight->first = (inflight->first + 1) & (inflight->capacity - 1);
        inflight->count--;
    }
    if (inflight->count == 0 && inflight->acks == 0) {
        free(inflight->ring); /* an idle client holds no ring */
        inflight->ring = NULL;
        inflight->capacity = 0;
        inflight->first = 0;
    }
}

void inflight_done(struct inflight *inflight, struct delivery *delivery)
{
    leave_window(inflight, delivery);
    delivery->phase = DELIVERY_DONE;
    drop_done(inflight);
}

void inflight_acks_done(struct inflight *inflight)
{
    assert(inflight->acknowledgements_done < inflight->acknowledgements);
    inflight->acknowledgements_done++;
    drop_done(inflight);
}

/* ---- ACK commands ---- */

static bool wants_acknowledgement(const struct delivery *delivery)
{
    return delivery->phase == DELIVERY_ACKED && delivery->acknowledgement == 0 && !delivery->declined;
}

static bool wants_decline(const struct delivery *delivery)
{
    return delivery->phase == DELIVERY_ACKED && delivery->acknowledgement == 0 && delivery->declined;
}

static const uint64_t *filters_of(const struct delivery *delivery)
{
    return delivery->filter_count > 1 ? delivery->filters.many : &delivery->filters.one;
}

static bool has_filter(const struct delivery *delivery, uint64_t filter)
{
    const uint64_t *filters = filters_of(delivery);

    for (uint16_t i = 0; i < delivery->filter_count; i++) {
        if (filters[i] == filter)
            return true;
    }
    return false;
}

/* Counts the deliveries in `filter` up to `upto` that are still with the client, and lists them, unless `out` is NULL. */
static uint32_t put_unacknowledged(const struct inflight *inflight, uint64_t filter, uint64_t upto, struct buffer *out)
{
    uint64_t previous = 0;
    uint32_t count = 0;

    for (uint32_t i = 0; i < inflight->count; i++) {
        const struct delivery *delivery = inflight_at(inflight, i);

        if (delivery->order > upto)
            break;
        if (delivery->phase >= DELIVERY_ACKED || !has_filter(delivery, filter))
            continue;
        count++;
        if (out != NULL)
            command_ack_put_own(out, &previous, delivery->order);
    }
    return count;
}

/* Writes one filter's part: all up to the last new acknowledgement, except what is still with the client. */
static void put_broadcast(const struct inflight *inflight, uint64_t filter, uint64_t upto, struct buffer *out)
{
    command_ack_put_broadcast(out, filter, upto, put_unacknowledged(inflight, filter, upto, NULL));
    put_unacknowledged(inflight, filter, upto, out);
}

/* The last new acknowledgement in `filter`, if `number` is the first delivery to name it; else 0. */
static uint64_t broadcast_upto(const struct inflight *inflight, uint32_t number, uint64_t filter)
{
    uint64_t upto = 0;

    for (uint32_t i = 0; i < inflight->count; i++) {
        const struct delivery *delivery = inflight_at(inflight, i);

        if (!wants_acknowledgement(delivery) || !has_filter(delivery, filter))
            continue;
        if (i < number)
            return 0;
        upto = delivery->order;
    }
    return upto;
}

bool inflight_acknowledge(struct inflight *inflight, struct buffer *own, uint32_t *own_count, struct buffer *broadcast,
                          uint32_t *broadcast_count)
{
    uint64_t previous = 0;
    uint32_t left = inflight->acks - inflight->declines;

    *own_count = 0;
    *broadcast_count = 0;
    if (left == 0)
        return false;
    for (uint32_t i = 0; i < inflight->count && left > 0; i++) {
        const struct delivery *delivery = inflight_at(inflight, i);
        const uint64_t *filters = filters_of(delivery);

        if (!wants_acknowledgement(delivery))
            continue;
        left--;
        if (delivery->own || delivery->qos == 2) { /* QoS 2 is in no queue any more, but in the window */
            command_ack_put_own(own, &previous, delivery->order);
            ++*own_count;
        }
        for (uint16_t f = 0; f < delivery->filter_count; f++) {
            uint64_t upto = broadcast_upto(inflight, i, filters[f]);

            if (upto == 0)
                continue;
            put_broadcast(inflight, filters[f], upto, broadcast);
            ++*broadcast_count;
        }
    }
    inflight->acknowledgements++;
    left = inflight->acks - inflight->declines;
    for (uint32_t i = 0; i < inflight->count && left > 0; i++) {
        struct delivery *delivery = inflight_at(inflight, i);

        if (wants_acknowledgement(delivery)) {
            delivery->acknowledgement = inflight->acknowledgements;
            left--;
        }
    }
    inflight->acks = inflight->declines;
    return true;
}

bool inflight_decline(struct inflight *inflight, struct buffer *orders, uint32_t *count)
{
    uint64_t previous = 0;

    *count = 0;
    if (inflight->declines == 0)
        return false;
    inflight->acknowledgements++;
    for (uint32_t i = 0; i < inflight->count && *count < inflight->declines; i++) {
        struct delivery *delivery = inflight_at(inflight, i);

        if (!wants_decline(delivery))
            continue;
        command_ack_put_own(orders, &previous, delivery->order);
        delivery->acknowledgement = inflight->acknowledgements;
        ++*count;
    }
    inflight->acks -= inflight->declines;
    inflight->declines = 0;
    return true;
}
