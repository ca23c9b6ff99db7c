/* usages.h — what users use at this node of the quotas that the replicated state gives them: connections, and what they
 * publish each second (messages, bytes of payload), over all their connections here. Anonymous clients have none.
 *
 * What the configuration of a listener allows all its clients together is counted here too.
 *
 * An entry lives as long as a connection of its user is open. Rates are buckets that hold what one second brings. */
#ifndef COTERIE_USAGES_H
#define COTERIE_USAGES_H

#include "base/bytes.h"

struct client;
struct usage;
struct usages;

struct usages *usages_new(void);
void usages_free(struct usages *usages);        /* no usage is left */

/* Counts one more connection of `user`, for client->extras->usage. False: it has too many here, and this one is not counted; but
 * one that takes its own session over may come before the former has gone. */
bool usage_begin(struct client *client, struct bytes user);
void usage_end(struct client *client); /* it is being closed, however long that takes, or never began */

/* Whether this client may publish so many bytes now, as its user and over its listener; if so, it has. Else the limit that
 * it ran into has been counted. */
bool usage_publish(struct client *client, size_t bytes, uint64_t now_ms);

#endif
