/* rates.h — how many CONNECTs a second are taken: of all clients, and from one address.
 *
 * A bucket of tokens each, which holds what one second brings. Addresses share a table of fixed size; one that has been
 * quiet longest makes room for a new one. */
#ifndef COTERIE_RATES_H
#define COTERIE_RATES_H

#include "base/bytes.h"

struct rates;

/* Per second; 0 = no limit. NULL if there is neither. `seed` keeps others from choosing addresses that collide. */
struct rates *rates_new(uint32_t total_max, uint32_t address_max, uint64_t seed, uint64_t now_ms);
void rates_free(struct rates *rates);
/* Whether `address` (without a port; empty: not known) may connect now; if so, it has. `rates` NULL: yes. */
bool rates_take(struct rates *rates, struct bytes address, uint64_t now_ms);

#endif
