/* mqtt_notation.h — MQTT packets in tests, written so that they can be read.
 *
 *   10 'MQTT' 05 02 003c (21 0014) 'id'
 *
 * Hexadecimal digits are bytes, 'text' is a string with its two bytes of length, <text> is just the characters, and
 * (...) is preceded by its length as a variable byte integer, as properties are. packet() adds the remaining length. */
#ifndef COTERIE_TEST_MQTT_NOTATION_H
#define COTERIE_TEST_MQTT_NOTATION_H

#include "base/bytes.h"
#include "node/mqtt/fields.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static inline uint8_t notation_digit(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : tolower(c) - 'a' + 10);
}

/* Appends the bytes of *text up to its end or a closing bracket, and leaves *text there. */
static inline void notation_put(struct buffer *out, const char **text)
{
    while (**text != 0 && **text != ')') {
        char c = *(*text)++;
        if (c == ' ')
            continue;
        if (c == '\'' || c == '<') {
            const char *end = strchr(*text, c == '<' ? '>' : '\'');
            struct bytes inside = bytes_of(*text, (size_t)(end - *text));
            if (c == '<')
                buffer_put_bytes(out, inside);
            else
                field_put_block(out, inside);
            *text = end + 1;
        } else if (c == '(') {
            struct buffer inside = {0};
            notation_put(&inside, text);
            assert(**text == ')');
            ++*text;
            field_put_varint(out, (uint32_t)inside.size);
            buffer_put_bytes(out, buffer_bytes(&inside));
            buffer_release(&inside);
        } else {
            assert(isxdigit((unsigned char)c) && isxdigit((unsigned char)**text));
            buffer_put_u8(out, (uint8_t)(notation_digit(c) << 4 | notation_digit(*(*text)++)));
        }
    }
}

/* The bytes of `text`; buffer_release them. */
static inline struct buffer raw(const char *text)
{
    struct buffer out = {0};
    notation_put(&out, &text);
    assert(*text == 0);
    return out;
}

static inline void put_user_property(struct buffer *block, struct bytes name, struct bytes value)
{
    buffer_put_u8(block, 0x26);
    field_put_block(block, name);
    field_put_block(block, value);
}

/* A packet of which `body` comes behind the remaining length. */
static inline struct buffer packet_of(uint8_t first, struct bytes body)
{
    struct buffer out = {0};
    buffer_put_u8(&out, first);
    field_put_varint(&out, (uint32_t)body.size);
    buffer_put_bytes(&out, body);
    return out;
}

/* The same from notation: the first byte, then the body. */
static inline struct buffer packet(const char *text)
{
    struct buffer all = raw(text);
    struct buffer out = packet_of(all.data[0], bytes_of(all.data + 1, all.size - 1));
    buffer_release(&all);
    return out;
}

#endif
