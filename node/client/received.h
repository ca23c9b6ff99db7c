/* received.h — the QoS 1 and 2 packets of one client that we have not fully answered on this connection.
 *
 * They count towards our Receive Maximum: QoS 1 until PUBACK, QoS 2 until PUBCOMP. That a QoS 2 packet id is open
 * across connections and nodes is the state machine's to know; this set only limits what one connection can have open. */
#ifndef COTERIE_RECEIVED_H
#define COTERIE_RECEIVED_H

#include <stdbool.h>
#include <stdint.h>

struct received {
    uint16_t *open;          /* QoS 2 packet ids, in no order; NULL while there are none */
    uint16_t open_count;
    uint16_t open_capacity;
    uint32_t unanswered;     /* QoS 1 */
};

void received_release(struct received *received);
uint32_t received_count(const struct received *received);
/* Opens a QoS 2 packet id; false: it is open already. */
bool received_open(struct received *received, uint16_t packet_id);
bool received_is_open(const struct received *received, uint16_t packet_id);
void received_close(struct received *received, uint16_t packet_id);   /* also if it is not open */

#endif
