/* aliases.h — topic aliases of one connection (MQTT 5.0, 3.3.2.3.4), one table per direction.
 *
 *   received   the client gives a topic a number; afterwards the number alone names it
 *   sent       we do, if the client allows it: for packets that are encoded for this client alone. What many share
 *              carries its topic, and costs nothing here
 *
 * Both die with the connection. A table exists from the first alias on. */
#ifndef COTERIE_ALIASES_H
#define COTERIE_ALIASES_H

#include "base/bytes.h"

struct aliases;

/* A table of aliases 1 to `max`. */
struct aliases *aliases_new(uint16_t max);
void aliases_free(struct aliases *aliases);          /* NULL is allowed */
size_t aliases_bytes(const struct aliases *aliases); /* that it takes, with its topics; NULL: 0 */

/* `alias` (1 to max) means a copy of `topic` from now on. */
void aliases_set(struct aliases *aliases, uint16_t alias, struct bytes topic);
/* What `alias` means, borrowed until it is set again; empty: nothing. Any table (also NULL), any number. */
struct bytes aliases_topic(const struct aliases *aliases, uint16_t alias);

/* ---- sent ---- */

#define ALIASES_SENT_MAX  16  /* we use no more, whatever the client allows */
#define ALIASES_TOPIC_MIN 8   /* shorter topics are not worth the three bytes of an alias */
#define ALIASES_TOPIC_MAX 512 /* longer ones not the memory */

/* The alias to send `topic` with; 0 = none. *known: the client has been told already, so it goes without its topic.
 * Else send both, and call aliases_set() once it is certain that the packet goes out, before any other. */
uint16_t aliases_choose(struct aliases *aliases, struct bytes topic, bool *known);

#endif
