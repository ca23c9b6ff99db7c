/* schedule.h — virtual time: events in the order of their due times; ties in the order in which they were added. */
#ifndef COTERIE_SIM_SCHEDULE_H
#define COTERIE_SIM_SCHEDULE_H

#include <stddef.h>
#include <stdint.h>

/* What happens at an event. `key` says for whom (so that a crashed node's events can be recognised as stale), `data` is
 * the event's own and freed by the schedule afterwards (NULL is fine). */
typedef void schedule_action(void *world, uint64_t key, void *data);

struct schedule;

struct schedule *schedule_new(void);
void schedule_free(struct schedule *schedule);
uint64_t schedule_now_us(const struct schedule *schedule);
/* `data` comes from malloc. */
void schedule_add(struct schedule *schedule, uint64_t at_us, schedule_action *action, uint64_t key, void *data);
/* Runs the next event if it is due by `until_us`; 0 when there is none (and time is `until_us` then). */
int schedule_run_next(struct schedule *schedule, void *world, uint64_t until_us);
uint64_t schedule_count(const struct schedule *schedule);   /* events run so far */

#endif
