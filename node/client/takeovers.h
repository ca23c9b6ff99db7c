/* takeovers.h — two clients with one client id take it from each other for ever, as each connects again when it is thrown
 * out: a mistake in a fleet, or malice (3.1.4-3 leaves no other way). They are slowed down.
 *
 * A CONNECT is *hasty* if it would take over an id that was taken over less than `interval` ago. The first hasty ones are
 * free; then the id rests, from the last take-over, before this node takes it over again:
 *
 *   hasty so far   1-3   4          5   6   7   8 and more
 *   rest           0     interval   2   4   8   16 intervals
 *
 * The count halves with each minute. So who comes back once, or again and again but not at once, never waits: also not
 * those whose former connection is still there because nobody has noticed its end.
 *
 * Of this node alone, and in memory: the log tells every node of each take-over, wherever it happens, so a pair at two
 * nodes is slowed down at both, each by its own count. It decides when a CONNECT is proposed, nothing about its outcome; so
 * it need not be the same everywhere, survive a restart, or cost a row. A table of fixed size: the quietest makes room. */
#ifndef COTERIE_TAKEOVERS_H
#define COTERIE_TAKEOVERS_H

#include "base/bytes.h"

struct takeovers;

/* `seed` keeps others from choosing ids that collide. */
struct takeovers *takeovers_new(uint32_t interval_ms, uint64_t seed);
void takeovers_free(struct takeovers *takeovers);

/* The id was taken over, somewhere in the cluster. */
void takeovers_note(struct takeovers *takeovers, struct bytes client_id, uint64_t now_ms);
/* A CONNECT is here that would take it over: how long it has to wait. */
uint32_t takeovers_wait_ms(struct takeovers *takeovers, struct bytes client_id, uint64_t now_ms);
/* Whether it was taken over later than that. */
bool takeovers_since(const struct takeovers *takeovers, struct bytes client_id, uint64_t since_ms);
/* Whether a line about this id is due; if so, it has been written: one in a minute. */
bool takeovers_tell(struct takeovers *takeovers, struct bytes client_id, uint64_t now_ms);

#endif
