/* token.h — JSON Web Tokens (RFC 7519) as passwords: signed by somebody whose keys we have.
 *
 *   file of keys ──token_keys_parse──▶ keys ──token_verify(token, wall clock)──▶ a user's name, and how long it may stay
 *
 * The file is a JWK, a JWKS, or PEM public keys. A token is checked with the key that it names (kid), or with each that
 * fits its algorithm: HS256 to HS512 with `oct`, RS and PS with `RSA`, ES with `EC` keys of the right curve and no others.
 * It has to have `exp` and the claim that names the user; `nbf`, `iat`, `iss` and `aud` are checked where they are, and
 * have to be there if the configuration wants them.
 *
 * Keys do not change and may be used by several threads at once; whoever holds them counts. */
#ifndef COTERIE_TOKEN_H
#define COTERIE_TOKEN_H

#include "base/bytes.h"
#include "base/status.h"

#include <stdbool.h>

struct token_keys;

struct token_settings {
    const char *issuer, *audience;    /* "" or NULL: not asked for */
    const char *user_claim;           /* "" or NULL: "sub" */
    uint32_t leeway_s;                /* between clocks */
};

#define TOKEN_KEYS_MAX 64
#define TOKEN_USER_BYTES_MAX 1024

/* STATUS_INVALID: `error` is a sentence that tells no secret. Settings are copied. */
enum status token_keys_parse(struct bytes file, const struct token_settings *settings, struct token_keys **keys,
                             char *error, size_t error_size);
/* Whether one of them is a secret, with which tokens can be made. */
bool token_keys_secret(const struct token_keys *keys);
struct token_keys *token_keys_retain(struct token_keys *keys);
void token_keys_release(struct token_keys *keys);      /* NULL is allowed */

/* Looks like one: three parts of base64url. */
bool token_is_one(struct bytes password);

/* Whether it is good, as of the wall clock. Appends the user's name to `user`; *until_s is its `exp`. */
bool token_verify(const struct token_keys *keys, struct bytes token, uint64_t wall_s, struct buffer *user,
                  uint64_t *until_s);

#endif
