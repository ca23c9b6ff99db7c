/* access.h — what a client of this node may do with a topic, by the roles of the replicated state and the node's ACL file.
 *
 *   no role and no file    everything; but what begins with $ is nobody's to publish, and $SYS is read if configured so
 *   else                   the roles say allow or deny; if they say nothing, the file does; if neither, it is denied
 *
 * What applies to a client is collected once and kept with it until something changes (`rules_revision`), along with its
 * last few answers. While there are no rules nothing is asked: callers look at access_on() of client_private.h first. */
#ifndef COTERIE_ACCESS_H
#define COTERIE_ACCESS_H

#include "rights.h"

#include <stdint.h>

struct client;
struct client_node;
struct client_rights;

/* Something has changed: an ACL file, the replicated state as a whole or its roles. */
void access_changed(struct client_node *node);

/* Of a CONNECTED client: a topic for PUBLISH or RECEIVE, a plain filter for SUBSCRIBE. */
bool client_may(struct client *client, enum right right, struct bytes topic);
void client_rights_free(struct client_rights *rights);   /* NULL is allowed */

/* Of somebody who is about to be a client: whether the will may be published; *by_file: as far as the ACL file knows. */
bool access_allows_will(const struct client_node *node, const struct names *names, struct bytes topic, bool *by_file);
/* Whether a rule for this user names the client id (0x85), or the user (0x87), which cannot be put in; else 0. */
uint8_t access_check_names(const struct client_node *node, const struct names *names);

/* Whether the ACL file, as it is now, lets this client publish its will (there may be no file). */
bool access_will_by_file(const struct client_node *node, const struct names *names, struct bytes topic);

#endif
