/* pacer.c — see pacer.h. */
#include "pacer.h"

#include <assert.h>
#include <string.h>

void pacer_reset(struct pacer *pacer)
{
    memset(pacer, 0, sizeof *pacer);
    pacer->next = 1;
}

static void forget_pieces(struct pacer *pacer)
{
    pacer->first = pacer->count = 0;
    pacer->bytes = 0;
}

bool pacer_request(struct pacer *pacer, uint64_t previous, uint32_t count, uint64_t now_ms)
{
    if (previous == pacer->want && pacer->want != 0) {
        pacer->want += count;
        return true;
    }
    if (pacer->probing && previous == pacer->base && now_ms - pacer->base_ms < PACER_RETRY_MS)
        return false;
    forget_pieces(pacer);
    pacer->next = previous + 1;
    pacer->want = previous + count;
    pacer->base = previous;
    pacer->base_ms = now_ms;
    pacer->probing = true;
    return true;
}

bool pacer_waits(const struct pacer *pacer)
{
    return pacer->next <= pacer->want;
}

bool pacer_may_send(const struct pacer *pacer)
{
    return pacer_waits(pacer) && pacer->bytes < PACER_BYTES_MAX && pacer->count < PACER_PIECES_MAX;
}

void pacer_sent(struct pacer *pacer, uint32_t count, size_t bytes)
{
    assert(count > 0 && pacer->next + count - 1 <= pacer->want);
    assert(pacer->count < PACER_PIECES_MAX);
    pacer->next += count;
    pacer->pieces[(pacer->first + pacer->count) % PACER_PIECES_MAX] = (struct pacer_piece){pacer->next - 1, bytes};
    pacer->count++;
    pacer->bytes += bytes;
}

void pacer_acknowledged(struct pacer *pacer, uint64_t index)
{
    if (index > pacer->base)
        pacer->probing = false;
    while (pacer->count > 0 && pacer->pieces[pacer->first].last <= index) {
        pacer->bytes -= pacer->pieces[pacer->first].bytes;
        pacer->first = (pacer->first + 1) % PACER_PIECES_MAX;
        pacer->count--;
    }
}

void pacer_rejected(struct pacer *pacer)
{
    forget_pieces(pacer);
    pacer->want = 0; /* whatever waited: raft asks for it again */
    pacer->next = 1;
    pacer->probing = false;
    pacer->told = 0;
}
