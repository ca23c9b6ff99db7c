/* failures.h — who guesses passwords waits: refused logins are counted by address and by user name, and the next login
 * from there, or as that user, waits before it is looked at.
 *
 *   so many failures   1-3   4      5      6      7     8 and more
 *   wait               0     250 ms 500 ms 1 s    2 s   4 s
 *
 * Where waiting is not possible (an exchange of AUTH), who would have to wait longer than since its last failure is
 * turned away instead. As a user at whom others guess nobody is turned away: what it proves is looked at later.
 *
 * A count halves with each minute that passes; a login that was granted forgets its user's. Waiting answers nothing: the
 * right password waits like a wrong one. Of this node alone; tables of fixed size, where the quietest makes room. */
#ifndef COTERIE_FAILURES_H
#define COTERIE_FAILURES_H

#include "base/bytes.h"

struct failures;

/* `seed` keeps others from choosing names that collide. */
struct failures *failures_new(uint64_t seed);
void failures_free(struct failures *failures);

/* How long a login from this address (empty: not known), as this user (may be empty), has to wait. */
uint32_t failures_wait_ms(struct failures *failures, struct bytes address, struct bytes user, uint64_t now_ms);
/* Whether that long has not passed since the last failure from this address. */
bool failures_too_soon(struct failures *failures, struct bytes address, uint64_t now_ms);
void failures_note(struct failures *failures, struct bytes address, struct bytes user, bool granted, uint64_t now_ms);

#endif
