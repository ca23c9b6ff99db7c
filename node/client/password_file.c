/* password_file.c — see password_file.h: a sorted table over a copy of the text. */
#include "password_file.h"

#include "credential.h"

#include "base/memory.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_BYTES_MAX 1024

struct entry {
    struct bytes name, credential; /* in `text` */
    unsigned line;
};

struct password_file {
    struct bytes text;
    struct entry *entries; /* by name */
    uint32_t count, capacity;
    struct buffer dummy; /* costs what the first entry does, and fits no password */
};

/* What stands in the way of this line being a user; NULL: it is one. */
static const char *parse_line(struct bytes line, struct entry *entry)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);

    if (colon == NULL)
        return "expected name:hash";
    entry->name = bytes_of(line.data, (size_t)(colon - line.data));
    entry->credential = bytes_of(colon + 1, line.size - entry->name.size - 1);
    if (entry->name.size == 0 || entry->name.size > NAME_BYTES_MAX || memchr(entry->name.data, 0, entry->name.size))
        return "expected a name before the colon";
    switch (credential_kind(entry->credential)) {
    case CREDENTIAL_ARGON2ID:
    case CREDENTIAL_PBKDF2: return NULL;
    case CREDENTIAL_SCRAM:
    case CREDENTIAL_INVALID: break;
    }
    return "expected a hash as mosquitto_passwd makes it: $7$... or $argon2id$...";
}

static void add_entry(struct password_file *file, const struct entry *entry)
{
    if (file->count == file->capacity) {
        file->capacity = file->capacity == 0 ? 64 : file->capacity * 2;
        file->entries = memory_resize(file->entries, file->capacity * sizeof(*file->entries));
    }
    file->entries[file->count++] = *entry;
}

static bool next_line(struct bytes *rest, struct bytes *line)
{
    const uint8_t *end = rest->size > 0 ? memchr(rest->data, '\n', rest->size) : NULL;

    if (rest->size == 0)
        return false;
    *line = end != NULL ? bytes_of(rest->data, (size_t)(end - rest->data)) : *rest;
    *rest = end != NULL ? bytes_of(end + 1, rest->size - line->size - 1) : bytes_of(NULL, 0);
    if (line->size > 0 && line->data[line->size - 1] == '\r')
        line->size--;
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct entry *one = a, *other = b;

    return bytes_compare(one->name, other->name);
}

/* The number of a line that names a user again; 0: there is none. */
static unsigned find_double(const struct password_file *file)
{
    for (uint32_t i = 1; i < file->count; i++) {
        const struct entry *one = &file->entries[i - 1], *other = &file->entries[i];

        if (bytes_equal(one->name, other->name))
            return one->line > other->line ? one->line : other->line;
    }
    return 0;
}

/* The last bytes of a hash, written over: whoever finds a password for that may keep it. */
static void make_dummy(struct password_file *file)
{
    struct bytes like = file->count > 0 ? file->entries[0].credential : credential_of_nobody();

    buffer_put_bytes(&file->dummy, like);
    for (size_t i = like.size - 24; i < like.size - 4; i++)
        file->dummy.data[i] = 'A';
}

enum status password_file_parse(struct bytes text, struct password_file **out, char *error, size_t error_size)
{
    struct password_file *file = memory_zeroed(1, sizeof(*file));
    struct bytes rest, line;
    const char *trouble = NULL;
    unsigned number = 0;

    file->text = bytes_of(memory_copy(text.data, text.size), text.size);
    for (rest = file->text; trouble == NULL && next_line(&rest, &line);) {
        struct entry entry;

        number++;
        if (line.size == 0 || line.data[0] == '#')
            continue;
        entry.line = number;
        trouble = parse_line(line, &entry);
        if (trouble == NULL)
            add_entry(file, &entry);
    }
    if (file->count > 0)
        qsort(file->entries, file->count, sizeof(*file->entries), compare);
    if (trouble == NULL && (number = find_double(file)) > 0)
        trouble = "this user is named before";
    if (trouble == NULL) {
        make_dummy(file);
        *out = file;
        return STATUS_OK;
    }
    snprintf(error, error_size, "line %u: %s", number, trouble);
    password_file_free(file);
    return STATUS_INVALID;
}

void password_file_free(struct password_file *file)
{
    if (file == NULL)
        return;
    OPENSSL_cleanse((void *)file->text.data, file->text.size);
    free((void *)file->text.data);
    free(file->entries);
    buffer_release(&file->dummy);
    free(file);
}

bool password_file_find(const struct password_file *file, struct bytes name, struct bytes *credential)
{
    const struct entry wanted = {.name = name};
    const struct entry *found = file != NULL && file->count > 0
                                    ? bsearch(&wanted, file->entries, file->count, sizeof(*file->entries), compare)
                                    : NULL;

    if (found != NULL)
        *credential = found->credential;
    return found != NULL;
}

struct bytes password_file_dummy(const struct password_file *file)
{
    return file != NULL ? buffer_bytes(&file->dummy) : credential_of_nobody();
}
