/* fuzz_admin_access.c — who asks the admin HTTP: a file of tokens, and the headers of a request, as anybody might write them.
 *
 *   input = what is tried, two texts split at NUL
 *
 * What must hold: nobody gets a role but by a whole token of a line, or by a name of a list; a file is taken or refused with a
 * line that exists; names are printable. */
#include "node/admin/admin_access.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether `text` has `part`, for which the caller knows that it is not empty. */
static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

static void check_name(const struct admin_asker *asker, const char *prefix)
{
    if (asker->name[0] == '\0')
        return;
    assert(strncmp(asker->name, prefix, strlen(prefix)) == 0);
    assert(!admin_actor_allowed(bytes_text(asker->name)));
}

static void try_tokens(const char *file, const char *header)
{
    struct admin_tokens *tokens = admin_tokens_new();
    char error[128];
    unsigned line = 0;
    if (admin_tokens_parse(tokens, bytes_text(file), error, sizeof(error)) != STATUS_OK) {
        assert(sscanf(error, "line %u: ", &line) == 1 && line >= 1 && line <= strlen(file) + 1);
    } else {
        struct admin_asker asker = admin_token_asker(tokens, header);
        check_name(&asker, "token:");
        assert(asker.role == ADMIN_NOBODY || strlen(header) >= 7 + ADMIN_TOKEN_BYTES_MIN);
        assert(asker.role == ADMIN_NOBODY || (has(file, header + 7) && has(file, asker.name + strlen("token:"))));
        assert(asker.role != ADMIN_WRITE || has(file, "write"));
    }
    admin_tokens_free(tokens);
}

static void try_certificate(const char *list, const char *name)
{
    struct admin_asker reader = admin_certificate_asker(name, list, ""), writer = admin_certificate_asker(name, "", list);
    check_name(&reader, "certificate:");
    check_name(&writer, "certificate:");
    assert((reader.role == ADMIN_READ) == (writer.role == ADMIN_WRITE));
    assert(reader.role == ADMIN_NOBODY || (name[0] != '\0' && (has(list, name) || has(list, "*"))));
    assert(reader.role == ADMIN_NOBODY || reader.role == ADMIN_READ);
}

static void try_host(const char *host)
{
    static const char address[] = "0123456789abcdefABCDEF.:[]";
    bool is_address = host[strspn(host, address)] == '\0';
    bool is_localhost = strncasecmp(host, "localhost", 9) == 0 && (host[9] == '\0' || host[9] == ':') &&
                        strspn(host + 9, ":0123456789") == strlen(host + 9);
    assert(!admin_host_is_local(host) || (host[0] != '\0' && (is_address || is_localhost)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    char *texts = malloc(size + 1);
    memcpy(texts, data + 1, size - 1);
    texts[size - 1] = texts[size] = '\0';
    const char *second = texts + strlen(texts) + 1;
    switch (data[0] % 3) {
    case 0: try_tokens(texts, second <= texts + size ? second : ""); break;
    case 1: try_certificate(texts, second <= texts + size ? second : ""); break;
    default:
        try_host(texts);
        assert(!admin_type_is_json(texts) || strncasecmp(texts, "application/json", 16) == 0);
        break;
    }
    free(texts);
    return 0;
}
