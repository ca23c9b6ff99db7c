/* auth.c — the table of methods, the users, and the primitives that methods share. See auth.h. */
#include "auth_private.h"

#include "base/memory.h"
#include "security.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct auth_method *const methods[] = {
    &AUTH_SCRAM_SHA_256,
};

struct auth {
    uint8_t secret[AUTH_HASH_BYTES];
    uint64_t fresh; /* how many were drawn */
    struct auth_user *users;
    size_t count;
    const struct security *const *security; /* NULL: no replicated users */
};

struct auth_exchange {
    const struct auth_method *method;
    void *state;
};

/* ---- primitives ---- */

void auth_hmac(struct bytes key, struct bytes text, uint8_t out[AUTH_HASH_BYTES])
{
    HMAC(EVP_sha256(), key.data, (int)key.size, text.data, text.size, out, NULL);
}

void auth_put_base64(struct buffer *out, struct bytes bytes)
{
    uint8_t text[4 * ((AUTH_SALT_BYTES_MAX + 2) / 3) + 1];
    int size;

    if (bytes.size > AUTH_SALT_BYTES_MAX)
        return;
    size = EVP_EncodeBlock(text, bytes.data, (int)bytes.size);
    buffer_put(out, text, (size_t)size);
}

bool auth_take_base64(struct bytes text, uint8_t *bytes, size_t size, size_t *count)
{
    uint8_t decoded[AUTH_SALT_BYTES_MAX + 3];
    size_t padding = 0;

    if (text.size == 0 || text.size % 4 != 0 || text.size / 4 * 3 > sizeof(decoded))
        return false;
    for (size_t i = 0; i < text.size; i++) { /* OpenSSL passes over blanks, and takes '=' anywhere */
        bool last = i + 2 >= text.size;

        if (text.data[i] <= ' ' || (text.data[i] == '=' && !last))
            return false;
        padding += text.data[i] == '=';
    }
    if (EVP_DecodeBlock(decoded, text.data, (int)text.size) < 0)
        return false;
    *count = text.size / 4 * 3 - padding;
    if (*count > size)
        return false;
    memcpy(bytes, decoded, *count);
    OPENSSL_cleanse(decoded, sizeof(decoded));
    return true;
}

void auth_fresh(struct auth *auth, uint8_t bytes[AUTH_HASH_BYTES])
{
    uint64_t number = ++auth->fresh;

    auth_hmac(bytes_of(auth->secret, sizeof(auth->secret)), bytes_of(&number, sizeof(number)), bytes);
}

/* ---- users ---- */

/* A salt of its own for each name, the same until this node restarts. */
static void make_salt(const struct auth *auth, struct auth_user *user)
{
    uint8_t hash[AUTH_HASH_BYTES];

    auth_hmac(bytes_of(auth->secret, sizeof(auth->secret)), user->name, hash);
    user->salt_size = 16;
    memcpy(user->salt, hash, user->salt_size);
    user->iterations = AUTH_ITERATIONS;
}

void auth_derive_keys(struct auth_user *user, struct bytes password)
{
    uint8_t salted[AUTH_HASH_BYTES], client_key[AUTH_HASH_BYTES];

    PKCS5_PBKDF2_HMAC((const char *)password.data, (int)password.size, user->salt, (int)user->salt_size,
                      (int)user->iterations, EVP_sha256(), sizeof(salted), salted);
    auth_hmac(bytes_of(salted, sizeof(salted)), bytes_text("Client Key"), client_key);
    auth_hmac(bytes_of(salted, sizeof(salted)), bytes_text("Server Key"), user->server_key);
    SHA256(client_key, sizeof(client_key), user->stored_key);
    OPENSSL_cleanse(salted, sizeof(salted));
    OPENSSL_cleanse(client_key, sizeof(client_key));
}

/* Takes what is before `stop` (or all) off the front of *text. */
static struct bytes take_until(struct bytes *text, char stop)
{
    const uint8_t *end = text->size == 0 ? NULL : memchr(text->data, stop, text->size);
    struct bytes found = *text;

    if (end == NULL) {
        *text = bytes_of(NULL, 0);
        return found;
    }
    found.size = (size_t)(end - text->data);
    *text = bytes_of(end + 1, text->size - found.size - 1);
    return found;
}

static bool parse_number(struct bytes text, uint32_t *number)
{
    *number = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || *number > 10000000)
            return false;
        *number = *number * 10 + (text.data[i] - '0');
    }
    return *number > 0;
}

static bool parse_keys(struct bytes text, struct auth_user *user)
{
    struct bytes head = take_until(&text, '$'), iterations = take_until(&head, ':');
    struct bytes stored = take_until(&text, ':');
    size_t salt_size, stored_size, server_size;

    if (!parse_number(iterations, &user->iterations) ||
        !auth_take_base64(head, user->salt, sizeof(user->salt), &salt_size) ||
        !auth_take_base64(stored, user->stored_key, sizeof(user->stored_key), &stored_size) ||
        !auth_take_base64(text, user->server_key, sizeof(user->server_key), &server_size))
        return false;
    user->salt_size = (uint32_t)salt_size;
    return stored_size == AUTH_HASH_BYTES && server_size == AUTH_HASH_BYTES;
}

bool auth_parse_credential(struct bytes text, struct auth_user *user)
{
    static const char kind[] = "SCRAM-SHA-256$";

    memset(user, 0, sizeof(*user));
    if (!bytes_starts_with(text, bytes_text(kind)))
        return false;
    take_until(&text, '$');
    return parse_keys(text, user);
}

void auth_put_credential(const struct auth_user *user, struct buffer *out)
{
    char head[40];

    snprintf(head, sizeof(head), "SCRAM-SHA-256$%u:", user->iterations);
    buffer_put_bytes(out, bytes_text(head));
    auth_put_base64(out, bytes_of(user->salt, user->salt_size));
    buffer_put_u8(out, '$');
    auth_put_base64(out, bytes_of(user->stored_key, sizeof(user->stored_key)));
    buffer_put_u8(out, ':');
    auth_put_base64(out, bytes_of(user->server_key, sizeof(user->server_key)));
}

/* One entry. `auth` NULL: only whether it is one. */
static bool parse_user(const struct auth *auth, struct bytes entry, struct auth_user *user)
{
    bool named = memchr(entry.data, ':', entry.size) != NULL;

    user->name = take_until(&entry, ':');
    if (!named || user->name.size == 0 || entry.size == 0)
        return false;
    if (bytes_starts_with(entry, bytes_text("SCRAM-SHA-256$"))) {
        struct bytes name = user->name;
        bool kept = auth_parse_credential(entry, user);

        user->name = name;
        return kept;
    }
    if (auth != NULL) {
        make_salt(auth, user);
        auth_derive_keys(user, entry);
    }
    return true;
}

/* The next entry; false at the end. */
static bool next_entry(struct bytes *users, struct bytes *entry)
{
    while (users->size > 0) {
        size_t size = 0;

        if (users->data[0] == '#') {
            take_until(users, '\n');
            continue;
        }
        while (size < users->size && users->data[size] != ',' && users->data[size] != '\n')
            size++;
        *entry = bytes_of(users->data, size);
        size += size < users->size; /* and what separates it from the next */
        *users = bytes_of(users->data + size, users->size - size);
        if (entry->size > 0 && entry->data[entry->size - 1] == '\r')
            entry->size--;
        if (entry->size > 0)
            return true;
    }
    return false;
}

unsigned auth_check_users(const char *users)
{
    struct bytes rest = bytes_text(users), entry;
    struct auth_user user;
    unsigned number = 0;

    while (next_entry(&rest, &entry)) {
        number++;
        if (!parse_user(NULL, entry, &user))
            return number;
    }
    return 0;
}

uint32_t auth_user_count(const struct auth *auth)
{
    return (uint32_t)auth->count;
}

static const struct auth_user *configured_user(const struct auth *auth, struct bytes name)
{
    for (size_t i = 0; i < auth->count; i++) {
        if (bytes_equal(auth->users[i].name, name))
            return &auth->users[i];
    }
    return NULL;
}

bool auth_put_user(const struct auth *auth, struct bytes name, struct buffer *credential)
{
    const struct auth_user *user = configured_user(auth, name);

    if (user != NULL)
        auth_put_credential(user, credential);
    return user != NULL;
}

/* Of the replicated state, if what is kept there serves SCRAM. */
static bool find_replicated(const struct auth *auth, struct bytes name, struct auth_user *user)
{
    struct security_user replicated;
    bool found = auth->security != NULL && security_user(*auth->security, name, &replicated) &&
                 auth_parse_credential(replicated.credential, user);

    if (found) {
        user->name = name;
        user->credential_epoch = replicated.credential_epoch;
    }
    return found;
}

bool auth_find_user(const struct auth *auth, struct bytes name, struct auth_user *user)
{
    const struct auth_user *configured = configured_user(auth, name);

    if (find_replicated(auth, name, user))
        return true;
    if (configured != NULL) {
        *user = *configured;
        return true;
    }
    memset(user, 0, sizeof(*user));
    user->name = name;
    make_salt(auth, user);
    memcpy(user->stored_key, auth->secret, sizeof(user->stored_key)); /* the hash of nothing that anybody knows */
    return false;
}

struct auth *auth_new(struct bytes entropy, const char *users)
{
    struct auth *auth = memory_zeroed(1, sizeof(*auth));
    struct bytes rest = bytes_text(users != NULL ? users : ""), entry;
    struct auth_user user = {0};

    SHA256(entropy.data, entropy.size, auth->secret);
    while (next_entry(&rest, &entry)) {
        if (!parse_user(auth, entry, &user))
            continue;
        user.name.data = memory_copy(user.name.data, user.name.size);
        auth->users = memory_resize(auth->users, (auth->count + 1) * sizeof(user));
        auth->users[auth->count++] = user;
    }
    OPENSSL_cleanse(&user, sizeof(user));
    return auth;
}

void auth_set_security(struct auth *auth, const struct security *const *security)
{
    auth->security = security;
}

void auth_free(struct auth *auth)
{
    if (auth == NULL)
        return;
    for (size_t i = 0; i < auth->count; i++)
        free((void *)auth->users[i].name.data);
    if (auth->count > 0)
        OPENSSL_cleanse(auth->users, auth->count * sizeof(auth->users[0]));
    free(auth->users);
    OPENSSL_cleanse(auth, sizeof(*auth));
    free(auth);
}

/* ---- exchanges ---- */

struct auth_exchange *auth_begin(struct auth *auth, struct bytes method)
{
    struct auth_exchange *exchange;

    bool anybody = auth->count > 0 || (auth->security != NULL && security_user_count(*auth->security) > 0);

    for (size_t i = 0; anybody && i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (!bytes_equal(method, bytes_text(methods[i]->name)))
            continue;
        exchange = memory_allocate(sizeof(*exchange));
        exchange->method = methods[i];
        exchange->state = methods[i]->begin(auth);
        return exchange;
    }
    return NULL;
}

enum auth_step auth_continue(struct auth_exchange *exchange, struct bytes in, struct buffer *out)
{
    return exchange->method->step(exchange->state, in, out);
}

struct bytes auth_user(const struct auth_exchange *exchange)
{
    return exchange->method->user(exchange->state);
}

uint64_t auth_credential_epoch(const struct auth_exchange *exchange)
{
    return exchange->method->credential_epoch(exchange->state);
}

void auth_end(struct auth_exchange *exchange)
{
    if (exchange == NULL)
        return;
    exchange->method->end(exchange->state);
    free(exchange);
}
