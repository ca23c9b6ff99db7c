/* admin_access.c — see admin_access.h.
 *
 * A token is looked for by hashing what came and comparing the hash with that of every token there is: neither the length of a
 * token nor how much of it was right, nor which one it is, shows in the time that takes. */
#include "admin_access.h"

#include "base/memory.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define WORDS        3
#define TOKEN_PREFIX "token:"
#define CERTIFICATE_PREFIX "certificate:"

struct token {
    enum admin_role role;
    char name[ADMIN_NAME_BYTES_MAX + 1];
    uint8_t hash[SHA256_DIGEST_LENGTH];
};

struct admin_tokens {
    struct token *rows;
    size_t count;
};

/* ---- tokens ---- */

struct admin_tokens *admin_tokens_new(void)
{
    return memory_zeroed(1, sizeof(struct admin_tokens));
}

void admin_tokens_free(struct admin_tokens *tokens)
{
    if (tokens == NULL)
        return;
    free(tokens->rows);
    free(tokens);
}

void admin_tokens_add(struct admin_tokens *tokens, enum admin_role role, const char *name, struct bytes text)
{
    tokens->rows = memory_resize(tokens->rows, (tokens->count + 1) * sizeof(*tokens->rows));
    struct token *token = &tokens->rows[tokens->count++];
    *token = (struct token){.role = role};
    snprintf(token->name, sizeof(token->name), "%s", name);
    SHA256(text.data, text.size, token->hash);
}

/* The token with this hash; NULL: there is none. Looks at each to its end. */
static const struct token *find(const struct admin_tokens *tokens, const uint8_t hash[SHA256_DIGEST_LENGTH])
{
    const struct token *found = NULL;
    for (size_t i = 0; i < tokens->count; i++)
        if (CRYPTO_memcmp(tokens->rows[i].hash, hash, SHA256_DIGEST_LENGTH) == 0)
            found = &tokens->rows[i];
    return found;
}

/* ---- a file of them ---- */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r';
}

/* The words of a line; returns how many there are, of which `words` gets the first ones. */
static size_t split(struct bytes line, struct bytes words[WORDS])
{
    size_t count = 0, at = 0;
    for (;;) {
        while (at < line.size && is_space(line.data[at]))
            at++;
        if (at == line.size)
            return count;
        size_t start = at;
        while (at < line.size && !is_space(line.data[at]))
            at++;
        if (count < WORDS)
            words[count] = bytes_of(line.data + start, at - start);
        count++;
    }
}

static bool is_printable(struct bytes word)
{
    for (size_t i = 0; i < word.size; i++)
        if (word.data[i] <= 0x20 || word.data[i] >= 0x7f)
            return false;
    return true;
}

static enum admin_role role_of(struct bytes word)
{
    return bytes_equal(word, bytes_text("read"))    ? ADMIN_READ
           : bytes_equal(word, bytes_text("write")) ? ADMIN_WRITE
                                                    : ADMIN_NOBODY;
}

/* NULL: taken in; else what is wrong with the line. */
static const char *take_line(struct admin_tokens *tokens, struct bytes line)
{
    struct bytes words[WORDS];
    char name[ADMIN_NAME_BYTES_MAX + 1];
    uint8_t hash[SHA256_DIGEST_LENGTH];
    size_t count = split(line, words);
    if (count == 0 || words[0].data[0] == '#')
        return NULL;
    if (count != WORDS || role_of(words[0]) == ADMIN_NOBODY)
        return "expected `read NAME TOKEN` or `write NAME TOKEN`";
    if (words[1].size > ADMIN_NAME_BYTES_MAX || !is_printable(words[1]))
        return "expected a name of at most 100 printable bytes";
    if (words[2].size < ADMIN_TOKEN_BYTES_MIN || !is_printable(words[2]))
        return "expected a token of 16 printable bytes at least";
    SHA256(words[2].data, words[2].size, hash);
    if (find(tokens, hash) != NULL)
        return "this token is there already";
    snprintf(name, sizeof(name), "%.*s", (int)words[1].size, (const char *)words[1].data);
    admin_tokens_add(tokens, role_of(words[0]), name, words[2]);
    return NULL;
}

enum status admin_tokens_parse(struct admin_tokens *tokens, struct bytes text, char *error, size_t error_size)
{
    for (unsigned number = 1; text.size > 0; number++) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        size_t length = end != NULL ? (size_t)(end - text.data) : text.size;
        const char *trouble = take_line(tokens, bytes_of(text.data, length));
        if (trouble != NULL) {
            snprintf(error, error_size, "line %u: %s", number, trouble);
            return STATUS_INVALID;
        }
        length += end != NULL;
        text = bytes_of(text.data + length, text.size - length);
    }
    return STATUS_OK;
}

/* ---- who asks ---- */

struct admin_asker admin_token_asker(const struct admin_tokens *tokens, const char *authorization)
{
    struct admin_asker asker = {.role = ADMIN_NOBODY};
    uint8_t hash[SHA256_DIGEST_LENGTH];
    if (tokens == NULL || authorization == NULL || strncasecmp(authorization, "Bearer ", 7) != 0)
        return asker;
    const char *token = authorization + 7;
    SHA256((const uint8_t *)token, strlen(token), hash);
    const struct token *found = find(tokens, hash);
    if (found != NULL) {
        asker.role = found->role;
        snprintf(asker.name, sizeof(asker.name), TOKEN_PREFIX "%s", found->name);
    }
    return asker;
}

/* Whether a list with commas has this name, or "*". */
static bool has_name(const char *list, const char *name)
{
    size_t size = strlen(name);
    for (;; list++) {
        size_t length = strcspn(list, ",");
        if ((length == size && memcmp(list, name, size) == 0) || (length == 1 && *list == '*'))
            return true;
        list += length;
        if (*list == '\0')
            return false;
    }
}

struct admin_asker admin_certificate_asker(const char *name, const char *readers, const char *writers)
{
    struct admin_asker asker = {.role = ADMIN_NOBODY};
    if (name[0] == '\0' || strlen(name) > ADMIN_NAME_BYTES_MAX)
        return asker;
    asker.role = has_name(writers, name) ? ADMIN_WRITE : has_name(readers, name) ? ADMIN_READ : ADMIN_NOBODY;
    snprintf(asker.name, sizeof(asker.name), CERTIFICATE_PREFIX "%s", name);
    return asker;
}

bool admin_actor_allowed(struct bytes actor)
{
    return !bytes_starts_with(actor, bytes_text(TOKEN_PREFIX)) && !bytes_starts_with(actor, bytes_text(CERTIFICATE_PREFIX));
}

/* ---- web pages ---- */

/* Of "HOST", "HOST:PORT", "[V6]" or "[V6]:PORT". */
static bool split_host(const char *text, char *host, size_t size)
{
    bool brackets = text[0] == '[';
    const char *start = text + brackets, *end = start + strcspn(start, brackets ? "]" : ":");
    const char *rest = end + (brackets && *end == ']');
    if ((brackets && *end != ']') || (size_t)(end - start) >= size)
        return false;
    if (rest[0] != '\0' && (rest[0] != ':' || rest[1] == '\0' || rest[1 + strspn(rest + 1, "0123456789")] != '\0'))
        return false;
    snprintf(host, size, "%.*s", (int)(end - start), start);
    return true;
}

bool admin_host_is_local(const char *host)
{
    char name[64];
    uint8_t address[sizeof(struct in6_addr)];
    if (host == NULL)
        return true; /* every browser says one */
    if (!split_host(host, name, sizeof(name)))
        return false;
    if (host[0] == '[')
        return inet_pton(AF_INET6, name, address) == 1;
    return strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, address) == 1;
}

bool admin_type_is_json(const char *type)
{
    static const char json[] = "application/json";
    return type != NULL && strncasecmp(type, json, sizeof(json) - 1) == 0 && strchr(" ;", type[sizeof(json) - 1]) != NULL;
}
