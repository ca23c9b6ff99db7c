/* timers.h — one timer per client, on a wheel.
 *
 * A wheel because there are as many timers as connections and nearly all of them (keep alive) are put off again and
 * again: setting one costs a few writes, and a timer never fires early but up to TIMERS_STEP_MS late. */
#ifndef COTERIE_TIMERS_H
#define COTERIE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#define TIMERS_STEP_MS 32
#define TIMERS_SLOTS 2048   /* a turn of the wheel takes 65 s; what lies beyond stays for another turn */

struct timer {
    struct timer *next;
    struct timer **link;    /* what points to this timer; NULL = not set */
    uint64_t at_ms;
};

struct timers {
    struct timer *slots[TIMERS_SLOTS];
    uint64_t filled[TIMERS_SLOTS / 64];   /* a bit per slot that is not empty */
    uint64_t step;                        /* the next to look at: [step * TIMERS_STEP_MS, + TIMERS_STEP_MS) */
    struct timer **resume;                /* where timers_expire() goes on inside that step */
};

void timers_init(struct timers *timers, uint64_t now_ms);
void timers_set(struct timers *timers, struct timer *timer, uint64_t at_ms);   /* also moves a set one */
void timers_clear(struct timers *timers, struct timer *timer);                 /* also if it is not set */

/* Takes out one timer that is due; NULL: none is. */
struct timer *timers_expire(struct timers *timers, uint64_t now_ms);
/* A time at which timers_expire() should be called: not after the earliest timer may fire; UINT64_MAX = no timer. */
uint64_t timers_next_ms(const struct timers *timers);

#endif
