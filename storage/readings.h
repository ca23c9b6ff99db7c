/* readings.h — how a session with many memberships reads their queues in the order of messages, without looking at each
 * queue for each message.
 *
 * A reading is a heap of the memberships in whose queues something is pending, by the first such message behind the place
 * that was read last. It is filled when it is empty: with what was published before its `horizon`. What is published later
 * comes behind all of that, and is found when it is filled again. What it holds is only ever too early, since what is pending
 * in a queue changes at its end, or becomes less: so the first entry is asked again before it counts, and put where it belongs.
 * To fill it means to ask each queue once, which is long where they are very many: readings_prepare() does it in pieces.
 *
 * Memory only, and it changes nothing but how long the answer takes: who reads from an earlier place than before begins
 * anew. With few memberships there is none. */
#ifndef COTERIE_READINGS_H
#define COTERIE_READINGS_H

#include "state_private.h"

/* Who reads a session's queues, each at a place of its own. */
enum reader_kind {
    READER_ADMITS,       /* to the window (window.c) */
    READER_SENDS,        /* the node that holds the session (state_read.c) */
    READERS,
    READER_CHECKS = READERS, /* without a reading: all memberships are looked at */
};

/* The first message behind `after`, and at `limit` or before it, that is pending in broadcast queues; their filters, in order
 * of their ids, are then in state->read_filters. UINT64_MAX: none. */
uint64_t readings_next(struct state *state, struct session *session, enum reader_kind kind, uint64_t after, uint64_t limit);

/* One piece of what readings_next() of this place would have to do first; false: there is more, for the next call. Whoever does
 * not wait for true has all that is left done at once. */
bool readings_prepare(struct state *state, struct session *session, enum reader_kind kind, uint64_t after);
/* Between the first piece and the last. */
bool readings_preparing(const struct session *session, enum reader_kind kind);

void readings_release(struct session *session);

#endif
