/* websocket_upgrade.c — see websocket_upgrade.h.
 *
 *   GET /mqtt HTTP/1.1                          HTTP/1.1 101 Switching Protocols
 *   Host, Upgrade: websocket, Connection:       Upgrade: websocket, Connection: Upgrade
 *   Upgrade, Sec-WebSocket-Key, -Version: 13 -> Sec-WebSocket-Accept: base64(SHA-1(key + GUID))
 *   Sec-WebSocket-Protocol: mqtt                Sec-WebSocket-Protocol: mqtt
 *
 * Strict, since nothing but WebSocket clients should come here: lines end with CRLF, no header is folded, none that
 * counts comes twice. A request without the sub-protocol of MQTT is refused (MQTT 5.0, 6.0.0-3). */
#include "websocket_upgrade.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define KEY_TEXT    24 /* 16 bytes in base64 */
#define ACCEPT_TEXT 28 /* 20 bytes */

enum header { HOST, UPGRADE, CONNECTION, KEY, VERSION, PROTOCOL, ORIGIN, CONTENT_LENGTH, TRANSFER_ENCODING, HEADERS };

static const struct {
    const char *name;
    bool list; /* may come several times, as one list */
} headers[HEADERS] = {
    [HOST] = {"host", false},
    [UPGRADE] = {"upgrade", true},
    [CONNECTION] = {"connection", true},
    [KEY] = {"sec-websocket-key", false},
    [VERSION] = {"sec-websocket-version", false},
    [PROTOCOL] = {"sec-websocket-protocol", true},
    [ORIGIN] = {"origin", false},
    [CONTENT_LENGTH] = {"content-length", false},
    [TRANSFER_ENCODING] = {"transfer-encoding", true},
};

struct request {
    struct bytes path;
    struct bytes values[HEADERS][4]; /* as often as a list header may come */
    unsigned counts[HEADERS];
};

/* In the order of preference: the first of these that the client offers. */
static const char *const protocols[] = {"mqtt", "mqttv3.1"};

/* ---- reading ---- */

static bool is(struct bytes text, const char *wanted)
{
    return text.size == strlen(wanted) && strncasecmp((const char *)text.data, wanted, text.size) == 0;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static struct bytes trim(struct bytes text)
{
    while (text.size > 0 && is_space(text.data[0]))
        text.data++, text.size--;
    while (text.size > 0 && is_space(text.data[text.size - 1]))
        text.size--;
    return text;
}

/* Takes the part before `end` off the front. */
static struct bytes part(struct bytes *rest, char end)
{
    const uint8_t *at = rest->size > 0 ? memchr(rest->data, end, rest->size) : NULL;
    struct bytes taken = {rest->data, at != NULL ? (size_t)(at - rest->data) : rest->size};
    size_t skip = taken.size + (at != NULL ? 1 : 0);
    rest->data += rest->size > 0 ? skip : 0;
    rest->size -= skip;
    return taken;
}

/* Lines without their CRLF; false: a line end that is none, or a control character. */
static bool take_line(struct bytes *rest, struct bytes *line)
{
    *line = part(rest, '\n');
    if (line->size == 0 || line->data[line->size - 1] != '\r')
        return false;
    line->size--;
    for (size_t i = 0; i < line->size; i++)
        if ((line->data[i] < 0x20 && line->data[i] != '\t') || line->data[i] == 0x7f)
            return false;
    return true;
}

static bool is_token(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", text.data[i]) != NULL)
            return false;
    return text.size > 0;
}

static bool take_header(struct request *request, struct bytes line)
{
    struct bytes rest = line, name = part(&rest, ':');
    if (name.size == line.size || !is_token(name))
        return false;
    for (int i = 0; i < HEADERS; i++)
        if (is(name, headers[i].name)) {
            unsigned most = headers[i].list ? 4 : 1;
            if (request->counts[i] == most)
                return false;
            request->values[i][request->counts[i]++] = trim(rest);
        }
    return true;
}

/* Whether the lists of this header hold `token`. */
static bool lists(const struct request *request, enum header header, const char *token)
{
    for (unsigned i = 0; i < request->counts[header]; i++) {
        struct bytes rest = request->values[header][i];
        while (rest.size > 0)
            if (is(trim(part(&rest, ',')), token))
                return true;
    }
    return false;
}

static const char *refusal_of_line(struct request *request, struct bytes line)
{
    struct bytes method = part(&line, ' '), target = part(&line, ' ');
    if (!is(line, "HTTP/1.1"))
        return "505 HTTP Version Not Supported";
    if (method.size != 3 || memcmp(method.data, "GET", 3) != 0)
        return "405 Method Not Allowed";
    if (target.size == 0 || target.data[0] != '/')
        return "400 Bad Request";
    request->path = part(&target, '?');
    return NULL;
}

/* ---- judging ---- */

static bool path_is_served(const struct request *request, const char *path)
{
    return path[0] == '\0' || bytes_equal(request->path, bytes_text(path));
}

static bool origin_is_allowed(const struct request *request, const char *origins)
{
    struct bytes rest = bytes_text(origins);
    if (rest.size == 0 || request->counts[ORIGIN] == 0)
        return true; /* no Origin: not a browser, which cannot leave it out */
    while (rest.size > 0) {
        struct bytes allowed = trim(part(&rest, ','));
        if (allowed.size == request->values[ORIGIN][0].size &&
            strncasecmp((const char *)allowed.data, (const char *)request->values[ORIGIN][0].data, allowed.size) == 0)
            return true;
    }
    return false;
}

static bool key_is_valid(struct bytes key)
{
    uint8_t decoded[KEY_TEXT];
    return key.size == KEY_TEXT && key.data[KEY_TEXT - 1] == '=' && key.data[KEY_TEXT - 2] == '=' &&
           EVP_DecodeBlock(decoded, key.data, KEY_TEXT) == 18;
}

/* A status line if the request is refused. */
static const char *refusal(const struct request *request, const struct upgrade_rules *rules)
{
    if (!path_is_served(request, rules->path))
        return "404 Not Found";
    if (!lists(request, UPGRADE, "websocket") || !lists(request, CONNECTION, "upgrade"))
        return "426 Upgrade Required";
    if (request->counts[VERSION] == 0 || !is(request->values[VERSION][0], "13"))
        return "426 Upgrade Required";
    if (request->counts[HOST] == 0 || request->counts[KEY] == 0 || !key_is_valid(request->values[KEY][0]) ||
        request->counts[TRANSFER_ENCODING] > 0 ||
        (request->counts[CONTENT_LENGTH] > 0 && !is(request->values[CONTENT_LENGTH][0], "0")))
        return "400 Bad Request";
    if (!origin_is_allowed(request, rules->origins))
        return "403 Forbidden";
    return NULL;
}

static const char *chosen_protocol(const struct request *request)
{
    for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
        if (lists(request, PROTOCOL, protocols[i]))
            return protocols[i];
    return NULL;
}

/* ---- answering ---- */

static void put(struct buffer *answer, const char *text)
{
    buffer_put(answer, text, strlen(text));
}

static enum status refuse(struct buffer *answer, const char *status, const char *why)
{
    char text[320];
    snprintf(text, sizeof(text),
             "HTTP/1.1 %s\r\nConnection: close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Content-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s\n",
             status, strlen(why) + 1, why);
    put(answer, text);
    return STATUS_PROTOCOL_ERROR;
}

static enum status accept_key(struct buffer *answer, struct bytes key, const char *protocol)
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t digest[EVP_MAX_MD_SIZE], text[ACCEPT_TEXT + 1];
    char source[KEY_TEXT + sizeof(guid)];
    memcpy(source, key.data, KEY_TEXT);
    memcpy(source + KEY_TEXT, guid, sizeof(guid));
    if (EVP_Digest(source, KEY_TEXT + sizeof(guid) - 1, digest, NULL, EVP_sha1(), NULL) != 1)
        return refuse(answer, "500 Internal Server Error", "SHA-1 is not to be had");
    EVP_EncodeBlock(text, digest, 20);
    put(answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    put(answer, (const char *)text);
    put(answer, "\r\nSec-WebSocket-Protocol: ");
    put(answer, protocol);
    put(answer, "\r\n\r\n");
    return STATUS_OK;
}

enum status upgrade_answer(struct bytes in, const struct upgrade_rules *rules, struct buffer *answer, size_t *used)
{
    static const char no_mqtt[] = "This is an MQTT broker: expected the WebSocket sub-protocol mqtt (or mqttv3.1).";
    struct request request = {0};
    size_t room = in.size < UPGRADE_BYTES_MAX ? in.size : UPGRADE_BYTES_MAX;
    const uint8_t *end = room > 0 ? memmem(in.data, room, "\r\n\r\n", 4) : NULL;
    *used = 0;
    if (end == NULL && in.size < UPGRADE_BYTES_MAX)
        return STATUS_NEED_MORE;
    if (end == NULL)
        return refuse(answer, "431 Request Header Fields Too Large", "The request is too large.");
    *used = (size_t)(end - in.data) + 4;
    struct bytes rest = {in.data, *used - 2}, line;
    if (!take_line(&rest, &line))
        return refuse(answer, "400 Bad Request", "Not a request of HTTP.");
    const char *why = refusal_of_line(&request, line);
    for (unsigned count = 0; why == NULL && rest.size > 0; count++)
        if (count == UPGRADE_HEADERS_MAX || !take_line(&rest, &line) || !take_header(&request, line))
            why = "400 Bad Request";
    if (why == NULL)
        why = refusal(&request, rules);
    if (why != NULL)
        return refuse(answer, why, "This is an MQTT broker, for WebSocket clients (RFC 6455, version 13).");
    const char *protocol = chosen_protocol(&request);
    if (protocol == NULL)
        return refuse(answer, "400 Bad Request", no_mqtt);
    return accept_key(answer, request.values[KEY][0], protocol);
}
