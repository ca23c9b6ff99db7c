/* fuzz_proxy.c — any bytes as the header of a proxy: what is said of the whole is not contradicted by what was said of its
 * beginnings, and a header written from what was understood is understood alike. */
#include "node/net/proxy_header.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool fact)
{
    if (!fact)
        abort();
}

static bool same(const struct proxy_address *a, const struct proxy_address *b)
{
    return a->family == b->family && a->port == b->port && memcmp(a->address, b->address, sizeof(a->address)) == 0;
}

static enum status decode(const uint8_t *data, size_t size, struct proxy_header *header, size_t *used)
{
    uint8_t *copy = malloc(size); /* exactly so long: a byte too far is found */
    memcpy(copy, data, size);
    enum status status = proxy_header_decode(bytes_of(copy, size), header, used);
    free(copy);
    return status;
}

static void written_again(const struct proxy_header *header)
{
    char line[128], source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
    struct proxy_header again;
    size_t used;
    inet_ntop(header->source.family, header->source.address, source, sizeof(source));
    inet_ntop(header->source.family, header->destination.address, destination, sizeof(destination));
    snprintf(line, sizeof(line), "PROXY %s %s %s %u %u\r\n", header->source.family == AF_INET ? "TCP4" : "TCP6", source,
             destination, header->source.port, header->destination.port);
    check(decode((const uint8_t *)line, strlen(line), &again, &used) == STATUS_OK && used == strlen(line));
    check(again.known && same(&header->source, &again.source) && same(&header->destination, &again.destination));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header, part;
    size_t used, part_used;
    enum status status = decode(data, size, &header, &used);
    check(status == STATUS_OK || status == STATUS_NEED_MORE || status == STATUS_MALFORMED || status == STATUS_TOO_LARGE);
    check(status != STATUS_OK || (used > 0 && used <= size && used <= PROXY_HEADER_BYTES_MAX));
    check(status != STATUS_NEED_MORE || size < PROXY_HEADER_BYTES_MAX);
    for (size_t i = 0; i < size && i < 300; i++) {
        enum status early = decode(data, i, &part, &part_used);
        if (early == STATUS_OK) {
            check(status == STATUS_OK && part_used == used && i >= used);
            break;
        }
        check(early == STATUS_NEED_MORE || early == status || status == STATUS_MALFORMED || status == STATUS_TOO_LARGE);
        check(status != STATUS_OK || i >= used || early == STATUS_NEED_MORE);
    }
    if (status == STATUS_OK && header.known)
        written_again(&header);

    struct proxy_range ranges[8];
    char text[256];
    size_t count, length = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
    memcpy(text, data, length);
    text[length] = '\0';
    check(!proxy_ranges_parse(text, ranges, 8, &count) || count <= 8);
    return 0;
}
