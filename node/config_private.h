/* config_private.h — what config.c (the options of a node, file, environment), config_listeners.c (those of a
 * listener) and config_check.c (whether all of them fit together) share: options as rows of a table, and how a fault is
 * told. Nobody else includes it. */
#ifndef COTERIE_CONFIG_PRIVATE_H
#define COTERIE_CONFIG_PRIVATE_H

#include "config.h"

#include <cyaml/cyaml.h>

#define CONFIG_PATH_MAX 128

enum option_type {
    OPTION_U32,
    OPTION_U64,
    OPTION_BOOL,
    OPTION_TEXT,
    OPTION_SECRET, /* a text that is never shown */
    OPTION_LIST,   /* a sequence of texts; kept as one text with commas */
    OPTION_CHOICE, /* one of those with which the meaning begins; kept as its number, a uint32_t */
    OPTION_LEVEL,
    OPTION_FORMAT
};

struct option {
    const char *section, *key;
    enum option_type type;
    size_t offset;        /* of the field in its struct */
    int64_t min, max;     /* of a number, or of the length of a text */
    const char *fallback; /* the default, as one would write it */
    const char *meaning;  /* of a choice: "one|another: what it decides" */
};

/* Where a fault was found, and where the sentence about it goes. */
struct fault {
    const char *file; /* NULL: the environment */
    char *out;        /* CONFIG_ERROR_MAX */
};

/* "FILE:LINE: section.key: " or "COTERIE_SECTION_KEY: ", then the sentence. Always returns STATUS_INVALID. */
enum status fault_at(const struct fault *fault, const char *section, const char *key, const char *sentence);

void option_expectation(const struct option *option, char *out, size_t size);
/* Sets the option's field in the struct at `base` from text: the one place where ranges are checked, whatever the
 * source. `section` for the message. */
enum status option_set(void *base, const struct option *option, const char *section, const char *text,
                       const struct fault *fault);
void option_release(void *base, const struct option *option);

/* How libcyaml reads an option into a struct with one pointer per option at `offset` and one unsigned at
 * `count_offset`, which counts the texts of a list. */
cyaml_schema_field_t option_schema(const struct option *option, size_t offset, size_t count_offset);
/* What libcyaml has read there, as one would write it. */
enum status option_take(void *base, const struct option *option, const char *section, const void *value, unsigned count,
                        const struct fault *fault);

bool number_of(const char *text, int64_t *number);

/* ---- config_listeners.c ---- */

/* A listener as libcyaml reads it. */
#define LISTENER_OPTIONS_MAX 32
struct raw_listener {
    void *values[LISTENER_OPTIONS_MAX];
    unsigned counts[LISTENER_OPTIONS_MAX];
};
/* The schema of one, for CYAML_FIELD_SEQUENCE; made at the first call. */
const cyaml_schema_value_t *listener_schema(void);
const struct option *listener_option(const char *key); /* NULL: there is none */

enum status listeners_take(struct config *config, const struct raw_listener *raw, unsigned count,
                           const struct fault *fault);
/* "tcp:0.0.0.0:1883 anonymous=true,..." instead of those that there are. */
enum status listeners_set(struct config *config, const char *text, const struct fault *fault);
void listeners_default(struct config *config);
void listeners_clear(struct config *config);
enum status listeners_check(const struct config *config, const struct fault *fault);
void listeners_describe(struct buffer *out);

/* ---- config_check.c ---- */

enum status config_check(const struct config *config, const struct fault *fault);

#endif
