/* received.c — see received.h. At most Receive Maximum ids: a linear search is quick, and costs an idle client nothing.
 */
#include "received.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

void received_release(struct received *received)
{
    free(received->open);
    memset(received, 0, sizeof(*received));
}

uint32_t received_count(const struct received *received)
{
    return received->unanswered + received->open_count;
}

bool received_is_open(const struct received *received, uint16_t packet_id)
{
    for (uint16_t i = 0; i < received->open_count; i++) {
        if (received->open[i] == packet_id)
            return true;
    }
    return false;
}

bool received_open(struct received *received, uint16_t packet_id)
{
    if (received_is_open(received, packet_id))
        return false;
    if (received->open_count == received->open_capacity) {
        uint32_t capacity = received->open_capacity == 0 ? 8 : received->open_capacity * 2u;

        received->open_capacity = (uint16_t)(capacity > UINT16_MAX ? UINT16_MAX : capacity);
        received->open = memory_resize(received->open, received->open_capacity * sizeof(received->open[0]));
    }
    received->open[received->open_count++] = packet_id;
    return true;
}

void received_close(struct received *received, uint16_t packet_id)
{
    for (uint16_t i = 0; i < received->open_count; i++) {
        if (received->open[i] != packet_id)
            continue;
        received->open[i] = received->open[--received->open_count];
        if (received->open_count == 0) {
            free(received->open);
            received->open = NULL;
            received->open_capacity = 0;
        }
        return;
    }
}
