/* doorstep.h — connections that have not been let in yet: how many there are, in all and from each address.
 *
 * Until its CONNECT has been granted a connection has shown nothing but that it can be opened, so such must not be able to
 * take the places of others. */
#ifndef COTERIE_DOORSTEP_H
#define COTERIE_DOORSTEP_H

#include "base/bytes.h"

struct doorstep;
struct doorstep_place;

/* 0 = no limit. */
struct doorstep *doorstep_new(uint32_t total_max, uint32_t address_max);
void doorstep_free(struct doorstep *doorstep);     /* all have left */

/* NULL: there are too many. An empty address is not known, and counts only for the total. */
struct doorstep_place *doorstep_enter(struct doorstep *doorstep, struct bytes address);
void doorstep_leave(struct doorstep *doorstep, struct doorstep_place *place);

#endif
