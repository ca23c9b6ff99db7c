/* auth_private.h — what the methods of authentication share: the table of users, and how a method looks to auth.c. */
#ifndef COTERIE_AUTH_PRIVATE_H
#define COTERIE_AUTH_PRIVATE_H

#include "auth.h"

#define AUTH_HASH_BYTES     32
#define AUTH_SALT_BYTES_MAX 64
#define AUTH_ITERATIONS     4096 /* RFC 7677; of passwords that are kept in clear anyway */

/* What SCRAM-SHA-256 keeps of a password (RFC 5802, 3). */
struct auth_user {
    struct bytes name;
    uint64_t credential_epoch;   /* of the replicated state; 0: of the configuration */
    uint8_t salt[AUTH_SALT_BYTES_MAX];
    uint32_t salt_size;
    uint32_t iterations;
    uint8_t stored_key[AUTH_HASH_BYTES];
    uint8_t server_key[AUTH_HASH_BYTES];
};

/* A user by name. Unknown ones get made-up facts, always the same, that no proof fits: false. */
bool auth_find_user(const struct auth *auth, struct bytes name, struct auth_user *user);
uint32_t auth_user_count(const struct auth *auth);
/* Appends what is kept of this user's password, as credential.h has it. False: there is none in the configuration. */
bool auth_put_user(const struct auth *auth, struct bytes name, struct buffer *credential);
/* "SCRAM-SHA-256$iterations:salt$stored-key:server-key" <-> the facts but for the name. */
bool auth_parse_credential(struct bytes text, struct auth_user *user);
void auth_put_credential(const struct auth_user *user, struct buffer *out);
/* The keys that follow from a password, and the salt and iterations of `user`. */
void auth_derive_keys(struct auth_user *user, struct bytes password);
/* Bytes that nobody can guess, of AUTH_HASH_BYTES. */
void auth_fresh(struct auth *auth, uint8_t bytes[AUTH_HASH_BYTES]);

struct auth_method {
    const char *name;
    void *(*begin)(struct auth *auth);
    enum auth_step (*step)(void *exchange, struct bytes in, struct buffer *out);
    struct bytes (*user)(const void *exchange);
    uint64_t (*credential_epoch)(const void *exchange);
    void (*end)(void *exchange);
};

extern const struct auth_method AUTH_SCRAM_SHA_256;

/* ---- hashes and base64, in OpenSSL's terms ---- */

void auth_hmac(struct bytes key, struct bytes text, uint8_t out[AUTH_HASH_BYTES]);
void auth_put_base64(struct buffer *out, struct bytes bytes);
/* False: no base64, or not of at most `size` bytes. */
bool auth_take_base64(struct bytes text, uint8_t *bytes, size_t size, size_t *count);

#endif
