/* proxy_header.c — see proxy_header.h. The protocol: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
 *
 *   version 1   PROXY TCP4 192.0.2.1 198.51.100.1 56324 1883\r\n
 *   version 2   12 bytes of signature | version, command | family, transport | length, 16 bits | addresses | extensions
 *
 * A header that is not whole yet is told from one that will never be: the first byte that differs refuses it. */
#include "proxy_header.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES_MAX 107
#define V2_HEAD_BYTES  16

static const uint8_t signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};
static const char line_start[] = "PROXY ";

/* ---- version 1 ---- */

static bool decimal_port(const char *text, uint16_t *port)
{
    char *end;
    if (*text < '0' || *text > '9' || strlen(text) > 5 || (text[0] == '0' && text[1] != '\0'))
        return false;
    unsigned long value = strtoul(text, &end, 10);
    *port = (uint16_t)value;
    return *end == '\0' && value <= 65535;
}

static enum status decode_words(char *line, struct proxy_header *header)
{
    char *words[6], *rest = line;
    size_t count = 0;
    while (count < 6 && (words[count] = strsep(&rest, " ")) != NULL)
        count++;
    if (count >= 2 && strcmp(words[1], "UNKNOWN") == 0)
        return STATUS_OK;
    if (count != 6 || rest != NULL)
        return STATUS_MALFORMED;
    bool v4 = strcmp(words[1], "TCP4") == 0;
    if (!v4 && strcmp(words[1], "TCP6") != 0)
        return STATUS_MALFORMED;
    header->source.family = header->destination.family = v4 ? AF_INET : AF_INET6;
    if (inet_pton(header->source.family, words[2], header->source.address) != 1 ||
        inet_pton(header->source.family, words[3], header->destination.address) != 1 ||
        !decimal_port(words[4], &header->source.port) || !decimal_port(words[5], &header->destination.port))
        return STATUS_MALFORMED;
    header->known = true;
    return STATUS_OK;
}

static enum status decode_line(struct bytes in, struct proxy_header *header, size_t *used)
{
    char line[LINE_BYTES_MAX + 1];
    size_t room = in.size < LINE_BYTES_MAX ? in.size : LINE_BYTES_MAX;
    const uint8_t *end = memchr(in.data, '\n', room);
    if (end == NULL)
        return in.size < LINE_BYTES_MAX ? STATUS_NEED_MORE : STATUS_TOO_LARGE;
    size_t length = (size_t)(end - in.data);
    if (in.data[length - 1] != '\r' || memchr(in.data, '\0', length) != NULL)
        return STATUS_MALFORMED;
    memcpy(line, in.data, length - 1);
    line[length - 1] = '\0';
    *used = length + 1;
    return decode_words(line, header);
}

/* ---- version 2 ---- */

static void read_address(const uint8_t *from, size_t size, const uint8_t *port, sa_family_t family,
                         struct proxy_address *out)
{
    out->family = family;
    memcpy(out->address, from, size);
    out->port = (uint16_t)(port[0] << 8 | port[1]);
}

static enum status decode_binary(struct bytes in, struct proxy_header *header, size_t *used)
{
    if (in.size < V2_HEAD_BYTES)
        return STATUS_NEED_MORE;
    uint8_t command = in.data[12], family = in.data[13];
    size_t length = (size_t)in.data[14] << 8 | in.data[15];
    if (command != 0x20 && command != 0x21)
        return STATUS_MALFORMED;
    if (V2_HEAD_BYTES + length > PROXY_HEADER_BYTES_MAX)
        return STATUS_TOO_LARGE;
    if (in.size < V2_HEAD_BYTES + length)
        return STATUS_NEED_MORE;
    *used = V2_HEAD_BYTES + length;
    if (command == 0x20)
        return STATUS_OK; /* LOCAL: its addresses say nothing */
    size_t size = family == 0x11 ? 4 : family == 0x21 ? 16 : 0;
    if (size == 0)
        return family >> 4 <= 3 && (family & 15) <= 2 ? STATUS_OK : STATUS_MALFORMED;
    if (length < 2 * size + 4)
        return STATUS_MALFORMED;
    const uint8_t *addresses = in.data + V2_HEAD_BYTES, *ports = addresses + 2 * size;
    read_address(addresses, size, ports, size == 4 ? AF_INET : AF_INET6, &header->source);
    read_address(addresses + size, size, ports + 2, size == 4 ? AF_INET : AF_INET6, &header->destination);
    header->known = true;
    return STATUS_OK;
}

enum status proxy_header_decode(struct bytes in, struct proxy_header *header, size_t *used)
{
    memset(header, 0, sizeof(*header));
    *used = 0;
    if (in.size == 0)
        return STATUS_NEED_MORE;
    bool binary = in.data[0] == signature[0];
    const void *start = binary ? (const void *)signature : line_start;
    size_t size = binary ? sizeof(signature) : sizeof(line_start) - 1;
    if (memcmp(in.data, start, in.size < size ? in.size : size) != 0)
        return STATUS_MALFORMED;
    if (in.size < size)
        return STATUS_NEED_MORE;
    return binary ? decode_binary(in, header, used) : decode_line(in, header, used);
}

/* ---- ranges ---- */

static bool range_parse(char *text, struct proxy_range *range)
{
    char *slash = strchr(text, '/'), *end = NULL;
    memset(range, 0, sizeof(*range));
    if (slash != NULL)
        *slash++ = '\0';
    range->family = strchr(text, ':') != NULL ? AF_INET6 : AF_INET;
    unsigned long bits = range->family == AF_INET ? 32 : 128;
    if (inet_pton(range->family, text, range->address) != 1)
        return false;
    if (slash != NULL) {
        unsigned long most = bits;
        bits = strtoul(slash, &end, 10);
        if (*slash < '0' || *slash > '9' || *end != '\0' || bits > most)
            return false;
    }
    range->bits = (uint8_t)bits;
    return true;
}

bool proxy_ranges_parse(const char *text, struct proxy_range *ranges, size_t room, size_t *count)
{
    char one[64];
    *count = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        if (length >= sizeof(one) || *count == room)
            return false;
        memcpy(one, text, length);
        one[length] = '\0';
        if (!range_parse(one, &ranges[(*count)++]))
            return false;
        text += length + (text[length] == ',' ? 1 : 0);
    }
    return true;
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;
    return memcmp(a, b, whole) == 0 && (rest == 0 || (a[whole] ^ b[whole]) >> (8 - rest) == 0);
}

bool proxy_ranges_contain(const struct proxy_range *ranges, size_t count, const struct sockaddr *address)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const uint8_t *bytes;
    sa_family_t family = address->sa_family;
    if (family == AF_INET) {
        bytes = (const uint8_t *)&((const struct sockaddr_in *)(const void *)address)->sin_addr;
    } else if (family == AF_INET6) {
        bytes = (const uint8_t *)&((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
        if (memcmp(bytes, mapped, sizeof(mapped)) == 0) {
            family = AF_INET;
            bytes += sizeof(mapped);
        }
    } else {
        return false;
    }
    for (size_t i = 0; i < count; i++)
        if (ranges[i].family == family && bits_equal(ranges[i].address, bytes, ranges[i].bits))
            return true;
    return false;
}
