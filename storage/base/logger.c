/* logger.c — events become lines.
 *
 *   log_write: level? --> log_line (pure) --> poll + one write()
 *
 * log_line appends to a `struct line` that refuses what does not fit: a value is cut inside its quotes, a field that has
 * no room is left out and `truncated=true` closes the line. TAIL_BYTES are kept free for that, so every line is
 * well-formed in its format whatever went in. */
#include "logger.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TAIL_BYTES 64 /* `,"truncated":true}` and the newline */

static const char *const level_names[] = {"error", "warning", "info", "debug"};
static const char *const format_names[] = {"text", "json"};

static struct {
    enum log_level level;
    enum log_format format;
    uint32_t node;
    atomic_uint_fast64_t dropped; /* lines that nobody took, since the last that was written */
} logger = {.level = LOG_INFO};

struct line {
    char *data;
    size_t size;
    size_t limit;
    enum log_format format;
    bool first;
};

/* ---- fields ---- */

struct log_field log_text(const char *key, const char *text)
{
    return log_bytes(key, bytes_text(text != NULL ? text : ""));
}

struct log_field log_bytes(const char *key, struct bytes text)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_TEXT, .text = text};
}

struct log_field log_u64(const char *key, uint64_t value)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_U64, .u64 = value};
}

struct log_field log_i64(const char *key, int64_t value)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_I64, .i64 = value};
}

struct log_field log_bool(const char *key, bool value)
{
    return (struct log_field){.key = key, .type = LOG_FIELD_BOOL, .u64 = value};
}

struct log_field log_result(enum status status)
{
    return log_text("status", status_text(status));
}

struct log_field log_errno(int number)
{
    return log_text("error", strerror(number));
}

/* ---- a line ---- */

static bool line_put(struct line *line, const char *data, size_t size)
{
    if (line->limit - line->size < size)
        return false;
    memcpy(line->data + line->size, data, size);
    line->size += size;
    return true;
}

static bool line_text(struct line *line, const char *text)
{
    return line_put(line, text, strlen(text));
}

/* Length of the valid UTF-8 character at the front, and its code point; 0 if there is none. */
static size_t utf8_next(const uint8_t *data, size_t size, uint32_t *code)
{
    uint8_t first = data[0];
    size_t length = first < 0x80                    ? 1
                    : first >= 0xc2 && first < 0xe0 ? 2
                    : (first & 0xf0) == 0xe0        ? 3
                    : first >= 0xf0 && first < 0xf5 ? 4
                                                    : 0;
    if (length == 0 || length > size)
        return 0;
    uint32_t value = length == 1 ? first : first & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((data[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (data[i] & 0x3f);
    }
    bool overlong = (length == 3 && value < 0x800) || (length == 4 && value < 0x10000);
    bool surrogate = value >= 0xd800 && value < 0xe000;
    if (overlong || surrogate || value > 0x10ffff)
        return 0;
    *code = value;
    return length;
}

/* Control characters of both sets, line separators, and what reorders or hides text on a terminal. */
static bool code_is_unsafe(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 ||
           (code >= 0x200b && code <= 0x200f) || (code >= 0x202a && code <= 0x202e) ||
           (code >= 0x2060 && code <= 0x206f) || code == 0xfeff;
}

/* Writes the next character of `text` as it may appear between quotes; returns how many bytes of input it took. */
static size_t escape_next(struct bytes text, enum log_format format, char out[16])
{
    uint32_t code;
    size_t length = utf8_next(text.data, text.size, &code);
    if (length == 0)
        snprintf(out, 16, format == LOG_JSON ? "\\ufffd" : "\\x%02x", text.data[0]);
    else if (code == '"' || code == '\\')
        snprintf(out, 16, "\\%c", (char)code);
    else if (code == '\n' || code == '\t' || code == '\r')
        snprintf(out, 16, "\\%c", code == '\n' ? 'n' : code == '\t' ? 't' : 'r');
    else if (code_is_unsafe(code))
        snprintf(out, 16, format == LOG_JSON || code > 0xff ? "\\u%04x" : "\\x%02x", code);
    else {
        memcpy(out, text.data, length);
        out[length] = '\0';
    }
    return length == 0 ? 1 : length;
}

static bool needs_quotes(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c != '\0' && strchr("_-./:@+", c) != NULL);
        if (!plain)
            return true;
    }
    return text.size == 0;
}

static bool line_value_text(struct line *line, struct bytes text)
{
    bool quotes = line->format == LOG_JSON || needs_quotes(text);
    size_t start = line->size;
    if (quotes && !line_put(line, "\"", 1))
        return false;
    while (text.size > 0) {
        char piece[16];
        size_t taken = escape_next(text, line->format, piece);
        size_t size = strlen(piece);
        if (line->size - start + size > LOG_VALUE_MAX - 8 || line->limit - line->size < size + 8) {
            if (!line_text(line, "..."))
                return false;
            break;
        }
        line_put(line, piece, size);
        text = bytes_of(text.data + taken, text.size - taken);
    }
    return !quotes || line_put(line, "\"", 1);
}

static bool line_value(struct line *line, const struct log_field *field)
{
    char number[32];
    switch (field->type) {
    case LOG_FIELD_NONE: return true;
    case LOG_FIELD_TEXT: return line_value_text(line, field->text);
    case LOG_FIELD_BOOL: return line_text(line, field->u64 != 0 ? "true" : "false");
    case LOG_FIELD_U64: snprintf(number, sizeof(number), "%llu", (unsigned long long)field->u64); break;
    case LOG_FIELD_I64: snprintf(number, sizeof(number), "%lld", (long long)field->i64); break;
    }
    return line_text(line, number);
}

/* Adds a field whole, or not at all. */
static bool line_field(struct line *line, const struct log_field *field)
{
    size_t before = line->size;
    bool json = line->format == LOG_JSON;
    bool fits = line_text(line, line->first ? ""
                                : json      ? ","
                                            : " ") &&
                line_text(line, json ? "\"" : "") && line_text(line, field->key) &&
                line_text(line, json ? "\":" : "=") && line_value(line, field);
    if (!fits)
        line->size = before;
    line->first = false;
    return fits;
}

static void time_text(uint64_t wall_ms, char out[32])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t length = strftime(out, 24, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(out + length, 32 - length, ".%03uZ", (unsigned)(wall_ms % 1000));
}

size_t log_line(char *out, enum log_format format, uint64_t wall_ms, enum log_level level, uint32_t node,
                const char *event, const struct log_field *fields, size_t count)
{
    struct line line = {.data = out, .limit = LOG_LINE_MAX - TAIL_BYTES, .format = format, .first = true};
    char when[32];
    time_text(wall_ms, when);
    line_text(&line, format == LOG_JSON ? "{" : "");
    line_field(&line, &(struct log_field){.key = "time", .type = LOG_FIELD_TEXT, .text = bytes_text(when)});
    line_field(&line,
               &(struct log_field){.key = "level", .type = LOG_FIELD_TEXT, .text = bytes_text(level_names[level])});
    if (node != 0)
        line_field(&line, &(struct log_field){.key = "node", .type = LOG_FIELD_U64, .u64 = node});
    line_field(&line, &(struct log_field){.key = "event", .type = LOG_FIELD_TEXT, .text = bytes_text(event)});

    bool whole = true;
    for (size_t i = 0; i < count && whole; i++)
        if (fields[i].type != LOG_FIELD_NONE)
            whole = line_field(&line, &fields[i]);

    line.limit = LOG_LINE_MAX;
    if (!whole)
        line_field(&line, &(struct log_field){.key = "truncated", .type = LOG_FIELD_BOOL, .u64 = true});
    line_text(&line, format == LOG_JSON ? "}\n" : "\n");
    return line.size;
}

/* ---- the process's log ---- */

/* Never waits: a log that nobody reads must not stop a broker. */
static bool stderr_takes(const char *data, size_t size)
{
    struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
    if (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0)
        return false;
    ssize_t written;
    do
        written = write(STDERR_FILENO, data, size);
    while (written < 0 && errno == EINTR);
    return written >= 0;
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count)
{
    if (!log_enabled(level))
        return;
    int saved = errno;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t wall_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;

    char line[LOG_LINE_MAX];
    uint64_t dropped = atomic_exchange(&logger.dropped, 0);
    if (dropped > 0) {
        struct log_field lines = log_u64("lines", dropped);
        size_t size = log_line(line, logger.format, wall_ms, LOG_WARNING, logger.node, "log-lines-dropped", &lines, 1);
        if (!stderr_takes(line, size))
            atomic_fetch_add(&logger.dropped, dropped);
    }
    size_t size = log_line(line, logger.format, wall_ms, level, logger.node, event, fields, count);
    if (!stderr_takes(line, size))
        atomic_fetch_add(&logger.dropped, 1);
    errno = saved;
}

bool log_enabled(enum log_level level)
{
    return level <= logger.level;
}

void log_configure(enum log_level level, enum log_format format, uint32_t node)
{
    logger.level = level;
    logger.format = format;
    logger.node = node;
}

bool log_level_of(const char *name, enum log_level *level)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++)
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    return false;
}

bool log_format_of(const char *name, enum log_format *format)
{
    for (size_t i = 0; i < sizeof(format_names) / sizeof(format_names[0]); i++)
        if (strcmp(name, format_names[i]) == 0) {
            *format = (enum log_format)i;
            return true;
        }
    return false;
}

bool log_allowed(struct log_limit *limit, uint64_t now_ms, uint64_t *suppressed)
{
    if (now_ms < limit->next_ms) {
        limit->suppressed++;
        return false;
    }
    if (suppressed != NULL)
        *suppressed = limit->suppressed;
    limit->next_ms = now_ms + LOG_LIMIT_MS;
    limit->suppressed = 0;
    return true;
}
