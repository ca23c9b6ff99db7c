/* timers.c — see timers.h.
 *
 * Slot `step % TIMERS_SLOTS` holds the timers of that step and of steps a whole turn, or several, later. A step is
 * looked at once it has passed entirely, so a timer in it is never early. */
#include "timers.h"

#include <stddef.h>
#include <string.h>

static uint32_t slot_of(uint64_t step)
{
    return (uint32_t)(step % TIMERS_SLOTS);
}

void timers_init(struct timers *timers, uint64_t now_ms)
{
    memset(timers, 0, sizeof(*timers));
    timers->step = now_ms / TIMERS_STEP_MS;
}

void timers_clear(struct timers *timers, struct timer *timer)
{
    if (timer->link == NULL)
        return;
    if (timers->resume == &timer->next)
        timers->resume = timer->link;
    *timer->link = timer->next;
    if (timer->next != NULL)
        timer->next->link = timer->link;
    timer->link = NULL;
}

void timers_set(struct timers *timers, struct timer *timer, uint64_t at_ms)
{
    uint64_t step = at_ms / TIMERS_STEP_MS;
    uint32_t slot;

    timers_clear(timers, timer);
    if (step <= timers->step)
        step = timers->step + (timers->resume != NULL ? 1 : 0); /* not into the list that is being walked */
    slot = slot_of(step);
    timer->at_ms = at_ms;
    timer->next = timers->slots[slot];
    timer->link = &timers->slots[slot];
    if (timer->next != NULL)
        timer->next->link = &timer->next;
    timers->slots[slot] = timer;
    timers->filled[slot / 64] |= UINT64_C(1) << (slot % 64);
}

/* Takes the next due timer out of the present step; NULL: no more there. */
static struct timer *expire_in_step(struct timers *timers, uint64_t now_ms)
{
    if (timers->resume == NULL)
        timers->resume = &timers->slots[slot_of(timers->step)];
    while (*timers->resume != NULL) {
        struct timer *timer = *timers->resume;

        if (timer->at_ms <= now_ms) {
            timers_clear(timers, timer);
            return timer;
        }
        timers->resume = &timer->next;
    }
    timers->resume = NULL;
    return NULL;
}

struct timer *timers_expire(struct timers *timers, uint64_t now_ms)
{
    uint64_t passed = now_ms / TIMERS_STEP_MS; /* all steps before this one are over */

    if (timers->resume == NULL && passed > timers->step + TIMERS_SLOTS)
        timers->step = passed - TIMERS_SLOTS; /* after a long pause once round the wheel is enough */
    while (timers->step < passed) {
        uint32_t slot = slot_of(timers->step);
        struct timer *timer = NULL;

        if ((timers->filled[slot / 64] & (UINT64_C(1) << (slot % 64))) != 0)
            timer = expire_in_step(timers, now_ms);
        if (timer != NULL)
            return timer;
        if (timers->slots[slot] == NULL)
            timers->filled[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
        timers->step++;
    }
    return NULL;
}

uint64_t timers_next_ms(const struct timers *timers)
{
    uint64_t distance = 0;

    while (distance < TIMERS_SLOTS) {
        uint32_t slot = slot_of(timers->step + distance);
        uint64_t word = timers->filled[slot / 64] >> (slot % 64);

        if (word != 0) {
            distance += (uint64_t)__builtin_ctzll(word);
            return (timers->step + distance + 1) * TIMERS_STEP_MS;
        }
        distance += 64 - slot % 64;
    }
    return UINT64_MAX;
}
