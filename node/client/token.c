/* token.c — see token.h. The signature is cjose's to check; which key and algorithm go together, and the claims, are
 * ours. */
#include "token.h"

#include "base/memory.h"

#include <cjose/cjose.h>
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOKEN_BYTES_MAX  (16 * 1024)
#define SECRET_BITS_MIN  256 /* of HS256 (RFC 7518, 3.2) */
#define RSA_BITS_MIN     2048
#define NUMBER_BYTES_MAX 1024

struct token_keys {
    atomic_uint references;
    cjose_jwk_t *keys[TOKEN_KEYS_MAX];
    uint32_t count;
    char *issuer, *audience, *user_claim;
    uint32_t leeway_s;
};

/* ---- keys ---- */

static size_t key_bits(const cjose_jwk_t *key)
{
    cjose_err error;

    return cjose_jwk_get_keysize(key, &error);
}

static const char *key_trouble(const cjose_jwk_t *key)
{
    cjose_err error;

    switch (cjose_jwk_get_kty(key, &error)) {
    case CJOSE_JWK_KTY_OCT: return key_bits(key) >= SECRET_BITS_MIN ? NULL : "a secret is shorter than 256 bits";
    case CJOSE_JWK_KTY_RSA: return key_bits(key) >= RSA_BITS_MIN ? NULL : "an RSA key is shorter than 2048 bits";
    case CJOSE_JWK_KTY_EC: return NULL;
    }
    return "a key is of a kind that is not known";
}

/* Takes the key over. */
static const char *add_key(struct token_keys *keys, cjose_jwk_t *key)
{
    const char *trouble = key == NULL                     ? "a key cannot be read"
                          : keys->count == TOKEN_KEYS_MAX ? "there are too many keys"
                                                          : key_trouble(key);

    if (trouble == NULL)
        keys->keys[keys->count++] = key;
    else if (key != NULL)
        cjose_jwk_release(key);
    return trouble;
}

static bool is_base64url_digit(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* The numbers of a key are base64url without padding (RFC 7518, 2 and 6). cjose ends the process at a '=' among them. */
static bool numbers_are_base64url(const json_t *key)
{
    static const char *const numbers[] = {"k", "n", "e", "d", "p", "q", "dp", "dq", "qi", "x", "y"};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        const json_t *number = json_object_get(key, numbers[i]);
        const char *digits = json_string_value(number);
        size_t size = json_string_length(number);

        if (size % 4 == 1)
            return false;
        for (size_t at = 0; at < size; at++)
            if (!is_base64url_digit(digits[at]))
                return false;
    }
    return true;
}

static const char *add_json(struct token_keys *keys, const json_t *json)
{
    char *text;
    const char *trouble;
    cjose_err error;

    if (!numbers_are_base64url(json))
        return "a key has a number that is not base64url without padding";
    text = json_dumps(json, JSON_COMPACT);
    trouble = add_key(keys, text != NULL ? cjose_jwk_import(text, strlen(text), &error) : NULL);
    free(text);
    return trouble;
}

static const char *add_set(struct token_keys *keys, const json_t *json)
{
    const json_t *set = json_object_get(json, "keys"), *one;
    const char *trouble = NULL;
    size_t i;

    if (set == NULL)
        return add_json(keys, json);
    if (!json_is_array(set))
        return "\"keys\" is no list";
    json_array_foreach((json_t *)set, i, one)
    {
        const char *use = json_string_value(json_object_get(one, "use"));

        if (trouble == NULL && (use == NULL || strcmp(use, "sig") == 0)) /* a set may hold keys for encryption too */
            trouble = add_json(keys, one);
    }
    return trouble;
}

static size_t number_of(const EVP_PKEY *key, const char *name, uint8_t bytes[NUMBER_BYTES_MAX])
{
    BIGNUM *number = NULL;
    size_t size = 0;

    if (EVP_PKEY_get_bn_param(key, name, &number) == 1 && BN_num_bytes(number) <= NUMBER_BYTES_MAX)
        size = (size_t)BN_bn2bin(number, bytes);
    BN_free(number);
    return size;
}

static cjose_jwk_t *rsa_key(const EVP_PKEY *key)
{
    uint8_t n[NUMBER_BYTES_MAX], e[NUMBER_BYTES_MAX];
    cjose_jwk_rsa_keyspec spec = {.n = n, .e = e};
    cjose_err error;

    spec.nlen = number_of(key, OSSL_PKEY_PARAM_RSA_N, n);
    spec.elen = number_of(key, OSSL_PKEY_PARAM_RSA_E, e);
    return spec.nlen > 0 && spec.elen > 0 ? cjose_jwk_create_RSA_spec(&spec, &error) : NULL;
}

/* Numbers of a curve have its width, with zeros in front. */
static bool put_coordinate(const EVP_PKEY *key, const char *name, size_t width, uint8_t *bytes)
{
    BIGNUM *number = NULL;
    bool good = EVP_PKEY_get_bn_param(key, name, &number) == 1 && BN_bn2binpad(number, bytes, (int)width) == (int)width;

    BN_free(number);
    return good;
}

static cjose_jwk_t *ec_key(const EVP_PKEY *key)
{
    static const struct {
        const char *name;
        cjose_jwk_ec_curve curve;
        size_t width;
    } curves[] = {{"prime256v1", CJOSE_JWK_EC_P_256, 32},
                  {"secp384r1", CJOSE_JWK_EC_P_384, 48},
                  {"secp521r1", CJOSE_JWK_EC_P_521, 66}};
    uint8_t x[66], y[66];
    char group[32];
    cjose_err error;

    if (EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1)
        return NULL;
    for (size_t i = 0; i < sizeof(curves) / sizeof(curves[0]); i++) {
        size_t width = curves[i].width;
        cjose_jwk_ec_keyspec spec = {.crv = curves[i].curve, .x = x, .xlen = width, .y = y, .ylen = width};

        if (strcmp(group, curves[i].name) == 0 && put_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, width, x) &&
            put_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, width, y))
            return cjose_jwk_create_EC_spec(&spec, &error);
    }
    return NULL;
}

static const char *add_pem(struct token_keys *keys, struct bytes file)
{
    BIO *in = BIO_new_mem_buf(file.data, (int)file.size);
    const char *trouble = NULL;
    EVP_PKEY *key;

    while (trouble == NULL && (key = PEM_read_bio_PUBKEY(in, NULL, NULL, NULL)) != NULL) {
        trouble = add_key(keys, EVP_PKEY_is_a(key, "RSA")  ? rsa_key(key)
                                : EVP_PKEY_is_a(key, "EC") ? ec_key(key)
                                                           : NULL);
        EVP_PKEY_free(key);
    }
    BIO_free(in);
    return trouble;
}

enum status token_keys_parse(struct bytes file, const struct token_settings *settings, struct token_keys **out,
                             char *error, size_t error_size)
{
    struct token_keys *keys = memory_zeroed(1, sizeof(*keys));
    json_t *json = json_loadb((const char *)file.data, file.size, JSON_REJECT_DUPLICATES, NULL);
    const char *trouble = json != NULL ? add_set(keys, json) : add_pem(keys, file);

    json_decref(json);
    atomic_init(&keys->references, 1);
    keys->issuer = memory_text(settings->issuer != NULL ? settings->issuer : "");
    keys->audience = memory_text(settings->audience != NULL ? settings->audience : "");
    keys->user_claim =
        memory_text(settings->user_claim != NULL && settings->user_claim[0] != '\0' ? settings->user_claim : "sub");
    keys->leeway_s = settings->leeway_s;
    if (trouble == NULL && keys->count == 0)
        trouble = "expected a JWK, a JWKS or PEM public keys, and found no key";
    if (trouble == NULL) {
        *out = keys;
        return STATUS_OK;
    }
    snprintf(error, error_size, "%s", trouble);
    token_keys_release(keys);
    return STATUS_INVALID;
}

struct token_keys *token_keys_retain(struct token_keys *keys)
{
    if (keys != NULL)
        atomic_fetch_add(&keys->references, 1);
    return keys;
}

void token_keys_release(struct token_keys *keys)
{
    if (keys == NULL || atomic_fetch_sub(&keys->references, 1) > 1)
        return;
    for (uint32_t i = 0; i < keys->count; i++)
        cjose_jwk_release(keys->keys[i]);
    free(keys->issuer);
    free(keys->audience);
    free(keys->user_claim);
    free(keys);
}

/* ---- tokens ---- */

bool token_is_one(struct bytes password)
{
    uint32_t dots = 0;

    for (size_t i = 0; i < password.size; i++) {
        char byte = (char)password.data[i];

        dots += byte == '.';
        if (!is_base64url_digit(byte) && byte != '.')
            return false;
    }
    return dots == 2 && password.size > 20 && password.size <= TOKEN_BYTES_MAX;
}

bool token_keys_secret(const struct token_keys *keys)
{
    cjose_err error;
    for (uint32_t i = 0; i < keys->count; i++)
        if (cjose_jwk_get_kty(keys->keys[i], &error) == CJOSE_JWK_KTY_OCT)
            return true;
    return false;
}

/* Which keys an algorithm may be used with: a public key must never serve as a secret. */
static bool key_fits(const cjose_jwk_t *key, const char *algorithm)
{
    cjose_err error;
    cjose_jwk_kty_t kind = cjose_jwk_get_kty(key, &error);

    if (strcmp(algorithm, "HS256") == 0 || strcmp(algorithm, "HS384") == 0 || strcmp(algorithm, "HS512") == 0)
        return kind == CJOSE_JWK_KTY_OCT;
    if (strcmp(algorithm, "RS256") == 0 || strcmp(algorithm, "RS384") == 0 || strcmp(algorithm, "RS512") == 0 ||
        strcmp(algorithm, "PS256") == 0 || strcmp(algorithm, "PS384") == 0 || strcmp(algorithm, "PS512") == 0)
        return kind == CJOSE_JWK_KTY_RSA;
    if (kind != CJOSE_JWK_KTY_EC)
        return false;
    return (strcmp(algorithm, "ES256") == 0 && key_bits(key) == 256) ||
           (strcmp(algorithm, "ES384") == 0 && key_bits(key) == 384) ||
           (strcmp(algorithm, "ES512") == 0 && key_bits(key) == 521);
}

static bool signed_by(struct bytes token, const cjose_jwk_t *key, struct buffer *claims)
{
    cjose_err error;
    cjose_jws_t *jws = cjose_jws_import((const char *)token.data, token.size, &error);
    uint8_t *text;
    size_t size;
    bool good = jws != NULL && cjose_jws_verify(jws, key, &error) && cjose_jws_get_plaintext(jws, &text, &size, &error);

    if (good)
        buffer_put(claims, text, size);
    cjose_jws_release(jws);
    return good;
}

/* The claims, if one of our keys has signed them. */
static bool check_signature(const struct token_keys *keys, struct bytes token, struct buffer *claims)
{
    cjose_err error;
    cjose_jws_t *jws = cjose_jws_import((const char *)token.data, token.size, &error);
    cjose_header_t *header = jws != NULL ? cjose_jws_get_protected(jws) : NULL;
    const char *algorithm = header != NULL ? cjose_header_get(header, CJOSE_HDR_ALG, &error) : NULL;
    const char *named = header != NULL ? cjose_header_get(header, CJOSE_HDR_KID, &error) : NULL;
    bool good = false;

    for (uint32_t i = 0; i < keys->count && !good && algorithm != NULL; i++) {
        const char *name = cjose_jwk_get_kid(keys->keys[i], &error);
        bool other = named != NULL && name != NULL && strcmp(named, name) != 0;

        good = !other && key_fits(keys->keys[i], algorithm) && signed_by(token, keys->keys[i], claims);
    }
    cjose_jws_release(jws);
    return good;
}

/* A NumericDate (RFC 7519, 2); false: there is none, or it is none. */
static bool time_of(const json_t *claims, const char *name, double *seconds)
{
    const json_t *claim = json_object_get(claims, name);

    *seconds = json_number_value(claim);
    return json_is_number(claim) && *seconds >= 0 && *seconds < 1e15;
}

static bool times_are_good(const struct token_keys *keys, const json_t *claims, uint64_t wall_s, uint64_t *until_s)
{
    static const char *const not_before[] = {"nbf", "iat"};
    double seconds, now = (double)wall_s, leeway = keys->leeway_s;

    if (!time_of(claims, "exp", &seconds) || now >= seconds + leeway)
        return false;
    *until_s = (uint64_t)seconds + keys->leeway_s;
    for (int i = 0; i < 2; i++) {
        if (json_object_get(claims, not_before[i]) != NULL &&
            (!time_of(claims, not_before[i], &seconds) || now + leeway < seconds))
            return false;
    }
    return true;
}

static bool text_is(const json_t *claim, const char *text)
{
    const char *value = json_string_value(claim);

    return value != NULL && json_string_length(claim) == strlen(text) && strcmp(value, text) == 0;
}

static bool audience_is_good(const struct token_keys *keys, const json_t *claim)
{
    const json_t *one;
    size_t i;

    if (keys->audience[0] == '\0')
        return true;
    json_array_foreach((json_t *)claim, i, one)
    {
        if (text_is(one, keys->audience))
            return true;
    }
    return text_is(claim, keys->audience);
}

static bool put_user(const struct token_keys *keys, const json_t *claims, struct buffer *user)
{
    const json_t *claim = json_object_get(claims, keys->user_claim);
    struct bytes name = bytes_of(json_string_value(claim), json_string_length(claim));

    if (!json_is_string(claim) || name.size == 0 || name.size > TOKEN_USER_BYTES_MAX ||
        memchr(name.data, '\0', name.size) != NULL)
        return false;
    buffer_put_bytes(user, name);
    return true;
}

bool token_verify(const struct token_keys *keys, struct bytes token, uint64_t wall_s, struct buffer *user,
                  uint64_t *until_s)
{
    struct buffer text = {0};
    json_t *claims = NULL;
    bool good;

    if (keys == NULL || !token_is_one(token))
        return false;
    if (check_signature(keys, token, &text))
        claims = json_loadb((const char *)text.data, text.size, JSON_REJECT_DUPLICATES, NULL);
    good = json_is_object(claims) && times_are_good(keys, claims, wall_s, until_s) &&
           (keys->issuer[0] == '\0' || text_is(json_object_get(claims, "iss"), keys->issuer)) &&
           audience_is_good(keys, json_object_get(claims, "aud")) && put_user(keys, claims, user);
    json_decref(claims);
    buffer_release(&text);
    return good;
}
