/* logger.h — one line per event on stderr, as key=value or JSON.
 *
 *   log_event(LOG_INFO, "client-connected", log_bytes("client_id", id), log_u64("connection", number));
 *   time=2026-03-01T12:00:00.000Z level=info node=1 event=client-connected client_id="a b" connection=7
 *
 * Event names and keys are literals of ours (lower case, `-` in names, `_` in keys). Values may come from anybody: quotes,
 * control characters, invalid UTF-8 and the characters that reorder text on a terminal are escaped, a long value is cut.
 * There are no format strings. Never log a password or a payload.
 *
 * A line is at most LOG_LINE_MAX bytes and one write(); if nobody reads the pipe behind stderr the line is dropped and
 * counted, the node does not wait. Callable from every thread; log_configure() from one, before the others start. */
#ifndef COTERIE_LOGGER_H
#define COTERIE_LOGGER_H

#include "bytes.h"
#include "status.h"

#define LOG_LINE_MAX 4096        /* PIPE_BUF: a pipe that polls as writable takes it whole, and does not mix it */
#define LOG_VALUE_MAX 1024       /* bytes of one value as written; a longer one ends in "..." */
#define LOG_LIMIT_MS 60000       /* log_allowed: once per minute */

enum log_level {
    LOG_NOTHING = -1, /* for log_configure() only: not a line, for who makes a million errors on purpose */
    LOG_ERROR,      /* this node cannot do its work, or an operator must act */
    LOG_WARNING,    /* it goes on, but somebody should look */
    LOG_INFO,       /* what one wants to read afterwards */
    LOG_DEBUG,
};

enum log_format {
    LOG_KEY_VALUE,
    LOG_JSON,
};

struct log_field {
    const char *key;
    enum { LOG_FIELD_NONE, LOG_FIELD_TEXT, LOG_FIELD_U64, LOG_FIELD_I64, LOG_FIELD_BOOL } type;
    union {
        struct bytes text;
        uint64_t u64;
        int64_t i64;
    };
};

/* Fields. Texts are borrowed until log_event() returns. */
struct log_field log_text(const char *key, const char *text);            /* NULL is written as "" */
struct log_field log_bytes(const char *key, struct bytes text);
struct log_field log_u64(const char *key, uint64_t value);
struct log_field log_i64(const char *key, int64_t value);
struct log_field log_bool(const char *key, bool value);
struct log_field log_result(enum status status);                         /* status="no space" */
struct log_field log_errno(int number);                                  /* error="Permission denied" */

/* Writes one event with any number of fields. The array begins with an empty field, so that there may be none. */
#define log_event(level, event, ...)                                                                                   \
    log_write(level, event, (const struct log_field[]){{0}, ##__VA_ARGS__},                                            \
              sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field))

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t count);

/* Whether a line of this level would be written: ask before costly fields. */
bool log_enabled(enum log_level level);

/* Defaults: LOG_INFO, key=value, stderr, no node. node 0 writes none. */
void log_configure(enum log_level level, enum log_format format, uint32_t node);

/* "error", "warning", "info", "debug"; "text", "json". false: no such name. */
bool log_level_of(const char *name, enum log_level *level);
bool log_format_of(const char *name, enum log_format *format);

/* For what could repeat without end: true at most once per LOG_LIMIT_MS. *suppressed (may be NULL) is how many times it
 * was false since. One struct per place; zero-initialised is valid. Not for use by two threads at once. */
struct log_limit {
    uint64_t next_ms;
    uint64_t suppressed;
};
bool log_allowed(struct log_limit *limit, uint64_t now_ms, uint64_t *suppressed);

/* Writes the line, newline included, into `out` of LOG_LINE_MAX bytes; returns its length. Pure; log_write uses it. */
size_t log_line(char *out, enum log_format format, uint64_t wall_ms, enum log_level level, uint32_t node,
                const char *event, const struct log_field *fields, size_t count);

#endif
