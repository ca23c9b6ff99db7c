/* websocket_upgrade.h — the HTTP request that begins a WebSocket connection, and the answer to it (RFC 6455, 4.2).
 * Pure; nothing else of HTTP is known here. */
#ifndef COTERIE_WEBSOCKET_UPGRADE_H
#define COTERIE_WEBSOCKET_UPGRADE_H

#include "base/bytes.h"
#include "base/status.h"

#define UPGRADE_BYTES_MAX   8192
#define UPGRADE_HEADERS_MAX 64

struct upgrade_rules {
    const char *path;    /* the only one that is served, compared without the query; "" = any */
    const char *origins; /* with commas; a request that names another one is refused; "" = any */
};

/* Takes a request off the front of `in` and appends the whole answer to `answer`. STATUS_OK: it is "101"; WebSocket frames
 * follow. STATUS_NEED_MORE: no answer yet. Anything else: a refusal that says why; close. */
enum status upgrade_answer(struct bytes in, const struct upgrade_rules *rules, struct buffer *answer, size_t *used);

#endif
