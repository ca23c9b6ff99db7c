/* inflight.h — the deliveries of QoS 1 and 2 to one client, from "may be sent" until their end is committed.
 *
 *   WAITING ─▶ SENT ─PUBACK────────────────────────────────────────────▶ ACKED ─ACK command applied─▶ DONE
 *                └──PUBREC─▶ RELEASING ─applied─▶ RELEASED ─PUBCOMP─▶ COMPLETING ───applied────────▶ DONE
 *
 * A ring in the order of the deliveries, which is also the order of sending: those that WAIT (for room in the client's
 * window or socket) are at its end, and hold their frame. A delivery that is DONE leaves when it is the oldest.
 *
 * packet id = 1 + order mod 65,535. Two deliveries with one id cannot both be in the ring past WAITING: the later waits
 * until the earlier is DONE (inflight_id_taken). The room of a delivery in the client's window is given back when the
 * client has acknowledged it, its packet id only when that has been committed. */
#ifndef COTERIE_INFLIGHT_H
#define COTERIE_INFLIGHT_H

#include "frame.h"

#include "base/bug.h"

#ifdef COTERIE_BUGGIFY
extern uint32_t inflight_packet_ids;   /* few of them, and each is soon used again */
#define PACKET_IDS inflight_packet_ids
#else
#define PACKET_IDS 65535
#endif

enum delivery_phase {
    DELIVERY_WAITING,
    DELIVERY_SENT,
    DELIVERY_RELEASING,
    DELIVERY_RELEASED,
    DELIVERY_COMPLETING,
    DELIVERY_ACKED,
    DELIVERY_DONE,
};

struct delivery {
    uint64_t order;
    struct frame *frame;             /* WAITING: what to send */
    union {
        uint64_t one;                /* filter_count == 1 */
        uint64_t *many;              /* filter_count > 1; owned */
    } filters;                       /* broadcast queues in which it is to be acknowledged */
    uint32_t acknowledgement;        /* ACKED: number of the ACK or DECLINE that holds it; 0 = none yet */
    uint16_t filter_count;
    uint8_t phase;                   /* enum delivery_phase */
    uint8_t qos : 2;                 /* 0: a stored message that is sent with QoS 0; no packet id */
    uint8_t own : 1;                 /* acknowledge it in the session's own queue */
    uint8_t declined : 1;            /* ACKED: it was not sent, and is for another member of the group */
};

struct inflight {
    struct delivery *ring;           /* NULL while nothing is in flight */
    uint32_t capacity;               /* a power of two */
    uint32_t first, count;
    uint32_t waiting;                /* at the end of the ring */
    uint32_t unacknowledged;         /* of the client's window */
    uint32_t acks;                   /* ACKED, and in no command yet; */
    uint32_t declines;               /* of them, those that are declined */
    uint32_t acknowledgements;       /* ACKs and DECLINEs proposed, and */
    uint32_t acknowledgements_done;  /* applied */
    size_t waiting_bytes;            /* of frames */
};

static inline uint16_t packet_id_of(uint64_t order)
{
    return (uint16_t)(1 + order % PACKET_IDS);
}

/* For a bug (V10): the id that node `node` shows for the packet id `id`, and back; the same in a build without it. */
static inline uint16_t packet_id_at(uint32_t node, uint16_t id)
{
    return id != 0 && bug(BUG_V10_NODE_CHOOSES_PACKET_IDS) ? (uint16_t)(1 + (id - 1u + 7 * node) % PACKET_IDS) : id;
}
static inline uint16_t packet_id_from(uint32_t node, uint16_t id)
{
    return id != 0 && bug(BUG_V10_NODE_CHOOSES_PACKET_IDS) ? (uint16_t)(1 + (id - 1u + PACKET_IDS - 7 * node % PACKET_IDS) % PACKET_IDS) : id;
}

void inflight_release(struct inflight *inflight);      /* forgets all; empty and valid again */

/* Delivery `number` (from 0, the oldest). */
struct delivery *inflight_at(const struct inflight *inflight, uint32_t number);

/* Adds a delivery behind all others; `order` is larger than theirs. Its phase is SENT, or WAITING if `frame` is given
 * (takes one reference over), or ACKED if it needs no answer (QoS 0, or skipped). `filters` are copied. */
struct delivery *inflight_add(struct inflight *inflight, uint64_t order, uint8_t qos, enum delivery_phase phase,
                              struct frame *frame, const uint64_t *filters, uint16_t filter_count);
/* The first that is WAITING, or NULL; and its step to SENT (or ACKED for QoS 0): the frame is the caller's then. */
struct delivery *inflight_first_waiting(const struct inflight *inflight);
struct frame *inflight_send_waiting(struct inflight *inflight);

/* Forgets those that are WAITING: they will be read again. Returns the order of the first; 0: there was none. */
uint64_t inflight_forget_waiting(struct inflight *inflight);

/* Whether the packet id of `order` belongs to an older delivery that is not DONE. */
bool inflight_id_taken(const struct inflight *inflight, uint64_t order);

/* The delivery, past WAITING and not DONE, that has this packet id; or this order. NULL: there is none. */
struct delivery *inflight_find_id(const struct inflight *inflight, uint16_t packet_id);
struct delivery *inflight_find_order(const struct inflight *inflight, uint64_t order);

/* The client has acknowledged it for good: to ACKED (its ACK is to be collected), or to COMPLETING. */
void inflight_acked(struct inflight *inflight, struct delivery *delivery);
void inflight_completing(struct inflight *inflight, struct delivery *delivery);
/* It was added as ACKED, since it is not for this client, but for another member of its group. */
void inflight_declined(struct inflight *inflight, struct delivery *delivery);
/* Its end is committed. */
void inflight_done(struct inflight *inflight, struct delivery *delivery);

/* Moves all acknowledgements that are not yet in an ACK command into one; writes its lists (command.h). The counts are
 * how many entries; false: nothing to acknowledge. Answered, in order, by inflight_acks_done(). */
bool inflight_acknowledge(struct inflight *inflight, struct buffer *own, uint32_t *own_count, struct buffer *broadcast,
                          uint32_t *broadcast_count);
/* The same for those that are declined: one DECLINE command, answered in its turn among the ACKs. */
bool inflight_decline(struct inflight *inflight, struct buffer *orders, uint32_t *count);
void inflight_acks_done(struct inflight *inflight);

#endif
