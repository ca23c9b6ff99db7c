/* credential.c — see credential.h. Lines are taken apart here, also those of Argon2, whose library believes them. */
#include "credential.h"

#include "auth_private.h"

#include <argon2.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <stdio.h>
#include <string.h>

#define ARGON2_MEMORY_KIB     19456 /* of what we make: 19 MiB, two passes, one lane, some 30 ms */
#define ARGON2_PASSES         2
#define ARGON2_MEMORY_KIB_MAX (256 * 1024) /* of what others made */
#define ARGON2_PASSES_MAX     32
#define ARGON2_LANES_MAX      8
#define SCRAM_ITERATIONS      15000 /* the client has to do them too, at each login */
#define ITERATIONS_MAX        10000000
#define HASH_BYTES_MIN        16
#define HASH_BYTES_MAX        64
#define SALT_BYTES_MIN        8

struct parsed {
    uint32_t memory_kib, passes, lanes, iterations;
    uint8_t salt[AUTH_SALT_BYTES_MAX], hash[HASH_BYTES_MAX];
    size_t salt_size, hash_size;
};

static bool take_prefix(struct bytes *text, const char *prefix)
{
    if (!bytes_starts_with(*text, bytes_text(prefix)))
        return false;
    *text = bytes_of(text->data + strlen(prefix), text->size - strlen(prefix));
    return true;
}

/* Digits, and the byte behind them. */
static bool take_number(struct bytes *text, char stop, uint32_t max, uint32_t *number)
{
    size_t digits = 0;
    uint64_t value = 0;

    for (; digits < text->size && digits < 10 && text->data[digits] >= '0' && text->data[digits] <= '9'; digits++)
        value = value * 10 + (text->data[digits] - '0');
    if (digits == 0 || digits == text->size || text->data[digits] != (uint8_t)stop || value == 0 || value > max)
        return false;
    *number = (uint32_t)value;
    *text = bytes_of(text->data + digits + 1, text->size - digits - 1);
    return true;
}

/* Base64 up to `stop` or the end; that of Argon2 has no padding. */
static bool take_base64(struct bytes *text, char stop, bool padded, uint8_t *bytes, size_t size, size_t *count)
{
    const uint8_t *end = stop != '\0' && text->size > 0 ? memchr(text->data, stop, text->size) : NULL;
    struct bytes part = end != NULL ? bytes_of(text->data, (size_t)(end - text->data)) : *text;
    uint8_t whole[2 * HASH_BYTES_MAX + 4];

    if ((stop != '\0' && end == NULL) || part.size + 3 > sizeof(whole) || part.size == 0)
        return false;
    *text = end != NULL ? bytes_of(end + 1, text->size - part.size - 1) : bytes_of(NULL, 0);
    memcpy(whole, part.data, part.size);
    while (!padded && part.size % 4 != 0)
        whole[part.size++] = '=';
    return auth_take_base64(bytes_of(whole, part.size), bytes, size, count);
}

static bool parse_argon2id(struct bytes text, struct parsed *parsed)
{
    return take_prefix(&text, "$argon2id$v=19$m=") &&
           take_number(&text, ',', ARGON2_MEMORY_KIB_MAX, &parsed->memory_kib) && take_prefix(&text, "t=") &&
           take_number(&text, ',', ARGON2_PASSES_MAX, &parsed->passes) && take_prefix(&text, "p=") &&
           take_number(&text, '$', ARGON2_LANES_MAX, &parsed->lanes) && parsed->memory_kib >= 8 * parsed->lanes &&
           take_base64(&text, '$', false, parsed->salt, sizeof(parsed->salt), &parsed->salt_size) &&
           take_base64(&text, '\0', false, parsed->hash, sizeof(parsed->hash), &parsed->hash_size) &&
           parsed->salt_size >= SALT_BYTES_MIN && parsed->hash_size >= HASH_BYTES_MIN;
}

static bool parse_pbkdf2(struct bytes text, struct parsed *parsed)
{
    return take_prefix(&text, "$7$") && take_number(&text, '$', ITERATIONS_MAX, &parsed->iterations) &&
           take_base64(&text, '$', true, parsed->salt, sizeof(parsed->salt), &parsed->salt_size) &&
           take_base64(&text, '\0', true, parsed->hash, sizeof(parsed->hash), &parsed->hash_size) &&
           parsed->hash_size == HASH_BYTES_MAX;
}

enum credential_kind credential_kind(struct bytes credential)
{
    struct parsed parsed;
    struct auth_user user;
    enum credential_kind kind = CREDENTIAL_INVALID;

    if (credential.size > CREDENTIAL_BYTES_MAX)
        return CREDENTIAL_INVALID;
    if (parse_argon2id(credential, &parsed))
        kind = CREDENTIAL_ARGON2ID;
    else if (parse_pbkdf2(credential, &parsed))
        kind = CREDENTIAL_PBKDF2;
    else if (auth_parse_credential(credential, &user))
        kind = CREDENTIAL_SCRAM;
    OPENSSL_cleanse(&parsed, sizeof(parsed));
    return kind;
}

static bool same_hash(const struct parsed *parsed, const uint8_t *hash, bool made)
{
    return made && CRYPTO_memcmp(parsed->hash, hash, parsed->hash_size) == 0;
}

static bool verify_scram(struct bytes credential, struct bytes password)
{
    struct auth_user user, again;
    bool same;

    if (!auth_parse_credential(credential, &user))
        return false;
    again = user;
    auth_derive_keys(&again, password);
    same = CRYPTO_memcmp(user.stored_key, again.stored_key, sizeof(user.stored_key)) == 0;
    OPENSSL_cleanse(&again, sizeof(again));
    return same;
}

bool credential_verify(struct bytes credential, struct bytes password)
{
    uint8_t hash[HASH_BYTES_MAX];
    struct parsed parsed;
    bool made, same;

    if (credential.size > CREDENTIAL_BYTES_MAX)
        return false;
    if (parse_argon2id(credential, &parsed)) {
        made = argon2id_hash_raw(parsed.passes, parsed.memory_kib, parsed.lanes, password.data, password.size,
                                 parsed.salt, parsed.salt_size, hash, parsed.hash_size) == ARGON2_OK;
    } else if (parse_pbkdf2(credential, &parsed)) {
        made = PKCS5_PBKDF2_HMAC((const char *)password.data, (int)password.size, parsed.salt, (int)parsed.salt_size,
                                 (int)parsed.iterations, EVP_sha512(), (int)parsed.hash_size, hash) == 1;
    } else {
        return verify_scram(credential, password);
    }
    same = same_hash(&parsed, hash, made);
    OPENSSL_cleanse(hash, sizeof(hash));
    OPENSSL_cleanse(&parsed, sizeof(parsed));
    return same;
}

/* ---- making ---- */

static bool make_argon2id(struct bytes password, const uint8_t *salt, struct buffer *out)
{
    char line[CREDENTIAL_BYTES_MAX];

    if (argon2id_hash_encoded(ARGON2_PASSES, ARGON2_MEMORY_KIB, 1, password.data, password.size, salt,
                              CREDENTIAL_SALT_BYTES, 32, line, sizeof(line)) != ARGON2_OK)
        return false;
    buffer_put(out, line, strlen(line));
    return true;
}

static void make_scram(struct bytes password, const uint8_t *salt, struct buffer *out)
{
    struct auth_user user = {.salt_size = CREDENTIAL_SALT_BYTES, .iterations = SCRAM_ITERATIONS};

    memcpy(user.salt, salt, CREDENTIAL_SALT_BYTES);
    auth_derive_keys(&user, password);
    auth_put_credential(&user, out);
    OPENSSL_cleanse(&user, sizeof(user));
}

bool credential_make(enum credential_kind kind, struct bytes password, const uint8_t salt[CREDENTIAL_SALT_BYTES],
                     struct buffer *out)
{
    if (kind != CREDENTIAL_SCRAM)
        return make_argon2id(password, salt, out);
    make_scram(password, salt, out);
    return true;
}

struct bytes credential_of_nobody(void)
{
    return bytes_text("$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGlzIGhlcmU$"
                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
}
