/* subscriptions.h — filters, and who subscribes to them.
 *
 *   TABLE_FILTERS         filter → flags, totals of its queue, whom a group gave to last, text    written back
 *   TABLE_SUBSCRIPTIONS   session, filter → options, subscription id
 *
 * A filter with up to OWN_MEMBERS_MAX members (subscriptions of QoS 1 and 2) names them, and messages go to their own
 * queues. With one more it gets a broadcast queue, and keeps it until nobody is a member or owed anything. A filter
 * exists while somebody subscribes to it or is owed something from its queue. A shared subscription ($share/name/filter)
 * is a filter with a group instead, whose affair messages and members then are (groups.h). */
#ifndef COTERIE_SUBSCRIPTIONS_H
#define COTERIE_SUBSCRIPTIONS_H

#include "state_private.h"

void filters_init(struct state *state);
struct filter *filter_by_id(const struct state *state, uint64_t id);             /* NULL: none */
struct filter *filter_by_text(const struct state *state, struct bytes text);     /* NULL: none */
void filter_touch(struct state *state, struct filter *filter);
/* Frees the filter, or its queue, if nobody needs it any more. */
void filter_settle(struct state *state, struct filter *filter);

struct subscription *subscription_find(const struct session *session, uint64_t filter_id); /* NULL: none */
/* Makes or replaces; from the next message on these options hold. */
struct subscription *subscription_set(struct state *state, struct session *session, struct bytes filter,
                                      uint8_t options, uint32_t subscription_id);
void subscription_remove(struct state *state, struct subscription *subscription);

/* The session is now, or is no longer, connected at its owner's node: its subscriptions follow in the next steps, before
 * anything else is done. A call of subscriptions_relink() is a step. */
void subscriptions_connect(struct state *state, struct session *session);
void subscriptions_disconnect(struct state *state, struct session *session);
void subscriptions_relink(struct state *state);

/* No Local: the subscription does not want what its own session publishes. */
static inline bool subscription_wants(const struct subscription *subscription, const struct message *message)
{
    return (subscription->options & SUBSCRIPTION_NO_LOCAL) == 0 ||
           message->origin_session != subscription->session->id;
}

bool filters_load(struct state *state);              /* false: a row is not one of ours */
bool subscriptions_load(struct state *state);
void filters_write_back(struct state *state);
void filter_free(struct filter *filter);             /* memory only */

#endif
