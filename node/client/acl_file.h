/* acl_file.h — rules in a file, in mosquitto's format: what clients of this node may do.
 *
 *   topic [read|write|readwrite|deny] FILTER       before any `user`: for clients without a name
 *   user NAME                                      from here on `topic` is for this user
 *   pattern [read|write|readwrite|deny] FILTER     for everybody; %u is the user's name, %c the client id
 *
 * Without a word it is readwrite. `read` is both to subscribe and to receive, `write` is to publish. As there, a `deny` of
 * a user comes before what is allowed to the user, and that before patterns; what nothing allows is denied. Empty lines
 * and those that begin with # are passed over; anything else that is no such line refuses the whole file. An empty file
 * allows nothing. */
#ifndef COTERIE_ACL_FILE_H
#define COTERIE_ACL_FILE_H

#include "base/bytes.h"
#include "base/status.h"
#include "security.h"

struct acl_file;

#define ACL_FILE_BYTES_MAX (16 * 1024 * 1024)

/* STATUS_INVALID: `error` is "line N: what was expected". */
enum status acl_file_parse(struct bytes text, struct acl_file **file, char *error, size_t error_size);
void acl_file_free(struct acl_file *file);    /* NULL is allowed */

/* Appends the rules for this user (empty: anonymous), sorted among themselves. */
void acl_file_rules(const struct acl_file *file, struct bytes user, struct rule_list *list);

#endif
