/* proxy_header.h — the header by which a proxy says whose connection it passes on (PROXY protocol, versions 1 and 2).
 * A pure decoder; whom to believe is the listener's business. */
#ifndef COTERIE_PROXY_HEADER_H
#define COTERIE_PROXY_HEADER_H

#include "base/bytes.h"
#include "base/status.h"

#include <netinet/in.h>

#define PROXY_HEADER_BYTES_MAX 4096 /* version 2 with its extensions; version 1 has at most 107 */

struct proxy_address {
    sa_family_t family; /* AF_INET, AF_INET6 */
    uint16_t port;
    uint8_t address[16]; /* of IPv4 the first four */
};

struct proxy_header {
    bool known; /* false: the proxy's own connection (LOCAL, UNKNOWN), or of a family that is neither of both */
    struct proxy_address source, destination;
};

/* Takes one header off the front of `in`. STATUS_NEED_MORE: call again with more, of at most PROXY_HEADER_BYTES_MAX bytes.
 * STATUS_MALFORMED: this is none. STATUS_TOO_LARGE: nor will it be. */
enum status proxy_header_decode(struct bytes in, struct proxy_header *header, size_t *used);

/* A range of addresses, as the configuration writes it: "192.0.2.0/24", "2001:db8::1". */
struct proxy_range {
    sa_family_t family;
    uint8_t bits;
    uint8_t address[16];
};

/* Ranges with commas between them; false: `text` is none. At most `room` are stored. */
bool proxy_ranges_parse(const char *text, struct proxy_range *ranges, size_t room, size_t *count);
/* IPv4 in IPv6 (::ffff:192.0.2.1) counts as IPv4. */
bool proxy_ranges_contain(const struct proxy_range *ranges, size_t count, const struct sockaddr *address);

#endif
