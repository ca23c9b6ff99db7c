/* acl_file.c — see acl_file.h: rules by user, over a copy of the text. */
#include "acl_file.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What decides first. */
enum { OF_USER = 1, OF_PATTERN = 0 };

/* A rule and for whom it is. */
struct line_rule {
    struct bytes user; /* empty: anonymous */
    struct rule rule;
};

struct acl_file {
    struct bytes text;
    struct line_rule *rules;
    uint32_t count, capacity;
    uint32_t patterns; /* they come first */
};

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t';
}

static struct bytes trim(struct bytes text)
{
    while (text.size > 0 && (is_blank(text.data[text.size - 1]) || text.data[text.size - 1] == '\r'))
        text.size--;
    while (text.size > 0 && is_blank(text.data[0]))
        text = bytes_of(text.data + 1, text.size - 1);
    return text;
}

/* Takes the first word off. */
static struct bytes take_word(struct bytes *text)
{
    struct bytes word = *text;

    word.size = 0;
    while (word.size < text->size && !is_blank(text->data[word.size]))
        word.size++;
    *text = trim(bytes_of(text->data + word.size, text->size - word.size));
    return word;
}

static bool word_is(struct bytes word, const char *text)
{
    return bytes_equal(word, bytes_text(text));
}

static void add_rule(struct acl_file *file, struct bytes user, const struct rule *rule)
{
    if (file->count == file->capacity) {
        file->capacity = file->capacity == 0 ? 64 : file->capacity * 2;
        file->rules = memory_resize(file->rules, file->capacity * sizeof(*file->rules));
    }
    file->rules[file->count++] = (struct line_rule){user, *rule};
}

/* "[read|write|readwrite|deny] FILTER"; a filter may hold blanks, and be one of these words. */
static bool parse_rule(struct bytes text, struct rule *rule)
{
    static const struct {
        const char *word;
        uint8_t rights;
        bool deny;
    } words[] = {{"read", RIGHT_SUBSCRIBE | RIGHT_RECEIVE, false},
                 {"write", RIGHT_PUBLISH, false},
                 {"readwrite", RIGHTS_ALL, false},
                 {"deny", RIGHTS_ALL, true}};
    struct bytes rest = text, word = take_word(&rest);

    rule->rights = RIGHTS_ALL;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]) && rest.size > 0; i++) {
        if (!word_is(word, words[i].word))
            continue;
        rule->rights = words[i].rights;
        rule->deny = words[i].deny;
        text = rest;
        break;
    }
    rule->filter = text;
    return rule_filter_valid(text);
}

/* What stands in the way of this line; NULL: nothing. */
static const char *parse_line(struct acl_file *file, struct bytes line, struct bytes *user)
{
    struct bytes word = take_word(&line);
    bool pattern = word_is(word, "pattern");
    struct rule rule = {.priority = pattern ? OF_PATTERN : OF_USER, .substitutes = pattern};

    if (word_is(word, "user")) {
        *user = line;
        return line.size > 0 ? NULL : "expected a name behind `user`";
    }
    if (!pattern && !word_is(word, "topic"))
        return "expected `topic`, `user` or `pattern`";
    if (!parse_rule(line, &rule))
        return "expected [read|write|readwrite|deny] and a topic filter";
    add_rule(file, pattern ? bytes_of(NULL, 0) : *user, &rule);
    return NULL;
}

static int compare_rules(const struct line_rule *one, const struct line_rule *other)
{
    int order = one->rule.priority - other->rule.priority; /* patterns first */

    if (order == 0)
        order = bytes_compare(one->user, other->user);
    return order != 0 ? order : rule_compare(&one->rule, &other->rule);
}

static int compare(const void *a, const void *b)
{
    return compare_rules(a, b);
}

static bool next_line(struct bytes *rest, struct bytes *line)
{
    const uint8_t *end = rest->size > 0 ? memchr(rest->data, '\n', rest->size) : NULL;

    if (rest->size == 0)
        return false;
    *line = trim(end != NULL ? bytes_of(rest->data, (size_t)(end - rest->data)) : *rest);
    *rest = end != NULL ? bytes_of(end + 1, rest->size - (size_t)(end + 1 - rest->data)) : bytes_of(NULL, 0);
    return true;
}

enum status acl_file_parse(struct bytes text, struct acl_file **out, char *error, size_t error_size)
{
    struct acl_file *file = memory_zeroed(1, sizeof(*file));
    struct bytes rest, line, user = {NULL, 0};
    const char *trouble = NULL;
    unsigned number = 0;

    file->text = bytes_of(memory_copy(text.data, text.size), text.size);
    for (rest = file->text; trouble == NULL && next_line(&rest, &line);) {
        number++;
        if (line.size > 0 && line.data[0] != '#')
            trouble = parse_line(file, line, &user);
    }
    if (trouble != NULL) {
        snprintf(error, error_size, "line %u: %s", number, trouble);
        acl_file_free(file);
        return STATUS_INVALID;
    }
    if (file->count > 0)
        qsort(file->rules, file->count, sizeof(*file->rules), compare);
    while (file->patterns < file->count && file->rules[file->patterns].rule.priority == OF_PATTERN)
        file->patterns++;
    *out = file;
    return STATUS_OK;
}

void acl_file_free(struct acl_file *file)
{
    if (file == NULL)
        return;
    free((void *)file->text.data);
    free(file->rules);
    free(file);
}

/* The first rule of this user, or where it would be. */
static uint32_t find_user(const struct acl_file *file, struct bytes user)
{
    uint32_t low = file->patterns, high = file->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (bytes_compare(file->rules[middle].user, user) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void acl_file_rules(const struct acl_file *file, struct bytes user, struct rule_list *list)
{
    for (uint32_t i = find_user(file, user); i < file->count && bytes_equal(file->rules[i].user, user); i++)
        rule_list_add(list, &file->rules[i].rule);
    for (uint32_t i = 0; i < file->patterns; i++)
        rule_list_add(list, &file->rules[i].rule);
}
