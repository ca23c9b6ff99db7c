/* Who a client is: kept passwords, password files, tokens, and the order of methods. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/memory.h"
#include "node/client/acl_file.h"
#include "node/client/auth.h"
#include "node/client/credential.h"
#include "node/client/failures.h"
#include "node/client/login.h"
#include "node/client/password_file.h"
#include "node/client/token.h"
#include "security.h"
#include "state.h"
#include "store.h"

#include <cjose/cjose.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- hashes are counted ---- */

bool __real_credential_verify(struct bytes credential, struct bytes password);
bool __wrap_credential_verify(struct bytes credential, struct bytes password);

static uint32_t hashes[CREDENTIAL_SCRAM + 1]; /* by kind */

bool __wrap_credential_verify(struct bytes credential, struct bytes password)
{
    hashes[credential_kind(credential)]++;
    return __real_credential_verify(credential, password);
}

/* ---- kept passwords ---- */

/* As mosquitto_passwd made it of "pencil". */
#define OF_MOSQUITTO \
    "$7$101$JMTGt49+raNvIlmv$u29UPzfp6/3zxTht2MJApci8gyjMHlKh6ldEq/wtLdnKIv+53Gd4JdsnDUAOXZL3WZ40lgPWiSX+0xp+ARF16w=="
#define CHEAP_ARGON "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$9LPPVFFJIQaLLCzdYgxNJB7BNcnWBTFtRYxdtIaJOpg"

static const uint8_t salt[CREDENTIAL_SALT_BYTES] = "0123456789abcdef";

static void what_is_made_of_a_password_fits_it_alone(void **state)
{
    (void)state;
    const enum credential_kind kinds[] = {CREDENTIAL_ARGON2ID, CREDENTIAL_SCRAM};
    for (size_t i = 0; i < 2; i++) {
        struct buffer line = {0};
        assert_true(credential_make(kinds[i], bytes_text("pencil"), salt, &line));
        assert_int_equal(credential_kind(buffer_bytes(&line)), kinds[i]);
        assert_true(credential_verify(buffer_bytes(&line), bytes_text("pencil")));
        assert_false(credential_verify(buffer_bytes(&line), bytes_text("pencils")));
        assert_false(credential_verify(buffer_bytes(&line), bytes_text("")));
        buffer_release(&line);
    }
}

static void lines_of_mosquitto_are_understood(void **state)
{
    (void)state;
    assert_int_equal(credential_kind(bytes_text(OF_MOSQUITTO)), CREDENTIAL_PBKDF2);
    assert_true(credential_verify(bytes_text(OF_MOSQUITTO), bytes_text("pencil")));
    assert_false(credential_verify(bytes_text(OF_MOSQUITTO), bytes_text("Pencil")));
}

static void what_would_cost_too_much_or_is_no_such_line_fits_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "", "pencil", "$7$", "$7$101$c2FsdA==$", "$7$0$c2FsdA==$AAAA", "$6$c2FsdA==$AAAA", "$argon2id$v=19$",
        "$argon2id$v=19$m=999999999,t=1,p=1$c29tZXNhbHQ$9LPPVFFJIQaLLCzdYgxNJB7BNcnWBTFtRYxdtIaJOpg",
        "$argon2id$v=19$m=64,t=9999,p=1$c29tZXNhbHQ$9LPPVFFJIQaLLCzdYgxNJB7BNcnWBTFtRYxdtIaJOpg",
        "$argon2id$v=19$m=64,t=1,p=0$c29tZXNhbHQ$9LPPVFFJIQaLLCzdYgxNJB7BNcnWBTFtRYxdtIaJOpg",
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$9LPP", "$argon2i$v=19$m=64,t=1,p=1$c29tZXNhbHQ$9LPP",
        "SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA"};
    assert_int_equal(credential_kind(bytes_text(CHEAP_ARGON)), CREDENTIAL_ARGON2ID);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(credential_kind(bytes_text(bad[i])), CREDENTIAL_INVALID);
        assert_false(credential_verify(bytes_text(bad[i]), bytes_text("pencil")));
    }
    assert_int_equal(credential_kind(credential_of_nobody()), CREDENTIAL_ARGON2ID);
}

/* ---- password files ---- */

static void then_refused(const char *text, const char *error)
{
    struct password_file *file = NULL;
    char said[128];
    assert_int_equal(password_file_parse(bytes_text(text), &file, said, sizeof said), STATUS_INVALID);
    assert_string_equal(said, error);
}

static void a_password_file_is_taken_whole_or_not_at_all(void **state)
{
    (void)state;
    struct password_file *file = NULL;
    char said[128];
    struct bytes credential;
    const char *good = "# users\n\nann:" OF_MOSQUITTO "\r\nbob:" CHEAP_ARGON;
    assert_int_equal(password_file_parse(bytes_text(good), &file, said, sizeof said), STATUS_OK);
    assert_true(password_file_find(file, bytes_text("ann"), &credential));
    assert_true(bytes_equal(credential, bytes_text(OF_MOSQUITTO)));
    assert_true(password_file_find(file, bytes_text("bob"), &credential));
    assert_true(bytes_equal(credential, bytes_text(CHEAP_ARGON)));
    assert_false(password_file_find(file, bytes_text("# users"), &credential));
    assert_int_equal(credential_kind(password_file_dummy(file)), CREDENTIAL_PBKDF2);
    assert_false(credential_verify(password_file_dummy(file), bytes_text("pencil")));
    password_file_free(file);

    then_refused("ann:" OF_MOSQUITTO "\nbob\n", "line 2: expected name:hash");
    then_refused("ann:pencil\n", "line 1: expected a hash as mosquitto_passwd makes it: $7$... or $argon2id$...");
    then_refused(":" OF_MOSQUITTO "\n", "line 1: expected a name before the colon");
    then_refused("a:" CHEAP_ARGON "\nb:" CHEAP_ARGON "\na:" CHEAP_ARGON "\n", "line 3: this user is named before");
}

/* ---- tokens ---- */

#define SECRET "{\"kty\":\"oct\",\"kid\":\"s\",\"k\":\"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8\"}"
#define NOW    1000000u

struct keys {
    cjose_jwk_t *secret, *rsa, *ec;
    struct token_keys *ours; /* their public halves, and the secret */
};

static void put_public(struct buffer *set, cjose_jwk_t *key, const char *kid)
{
    cjose_err error;
    assert_true(cjose_jwk_set_kid(key, kid, strlen(kid), &error));
    char *json = cjose_jwk_to_json(key, false, &error);
    if (set->size > 0)
        buffer_put_u8(set, ',');
    buffer_put(set, json, strlen(json));
    free(json);
}

static int make_keys(void **state)
{
    struct keys *keys = calloc(1, sizeof *keys);
    struct buffer set = {0}, file = {0};
    char error_text[128];
    cjose_err error;
    keys->secret = cjose_jwk_import(SECRET, strlen(SECRET), &error);
    keys->rsa = cjose_jwk_create_RSA_random(2048, (const uint8_t *)"\x01\x00\x01", 3, &error);
    keys->ec = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &error);
    put_public(&set, keys->rsa, "r");
    put_public(&set, keys->ec, "e");
    buffer_put_bytes(&file, bytes_text("{\"keys\":[" SECRET ","));
    buffer_put_bytes(&file, buffer_bytes(&set));
    buffer_put_bytes(&file, bytes_text("]}"));
    const struct token_settings settings = {.issuer = "us", .audience = "broker", .leeway_s = 10};
    assert_int_equal(token_keys_parse(buffer_bytes(&file), &settings, &keys->ours, error_text, sizeof error_text),
                     STATUS_OK);
    buffer_release(&set);
    buffer_release(&file);
    *state = keys;
    return 0;
}

static int free_keys(void **state)
{
    struct keys *keys = *state;
    cjose_jwk_release(keys->secret);
    cjose_jwk_release(keys->rsa);
    cjose_jwk_release(keys->ec);
    token_keys_release(keys->ours);
    free(keys);
    return 0;
}

/* A token of these claims; `kid` may be NULL. */
static char *sign(cjose_jwk_t *key, const char *algorithm, const char *kid, const char *claims)
{
    cjose_err error;
    cjose_header_t *header = cjose_header_new(&error);
    const char *text;
    cjose_header_set(header, CJOSE_HDR_ALG, algorithm, &error);
    if (kid != NULL)
        cjose_header_set(header, CJOSE_HDR_KID, kid, &error);
    cjose_jws_t *jws = cjose_jws_sign(key, header, (const uint8_t *)claims, strlen(claims), &error);
    assert_non_null(jws);
    assert_true(cjose_jws_export(jws, &text, &error));
    char *token = memory_text(text);
    cjose_jws_release(jws);
    cjose_header_release(header);
    return token;
}

static bool accepted(const struct keys *keys, const char *token, const char *user)
{
    struct buffer found = {0};
    uint64_t until_s;
    bool good = token_verify(keys->ours, bytes_text(token), NOW, &found, &until_s);
    if (good) {
        assert_true(bytes_equal(buffer_bytes(&found), bytes_text(user)));
        assert_int_equal(until_s, NOW + 60 + 10);
    }
    buffer_release(&found);
    return good;
}

#define CLAIMS "\"iss\":\"us\",\"aud\":[\"x\",\"broker\"],\"exp\":1000060,\"sub\":\"ann\""

static bool claims_accepted(const struct keys *keys, const char *claims)
{
    char *token = sign(keys->secret, "HS256", "s", claims);
    bool good = accepted(keys, token, "ann");
    free(token);
    return good;
}

static void a_token_of_each_kind_of_key_says_who_it_is(void **state)
{
    struct keys *keys = *state;
    const struct {
        cjose_jwk_t *key;
        const char *algorithm, *kid;
    } kinds[] = {{keys->secret, "HS256", "s"}, {keys->secret, "HS512", NULL}, {keys->rsa, "RS256", "r"},
                 {keys->rsa, "PS256", "r"},    {keys->ec, "ES256", "e"},      {keys->ec, "ES256", NULL}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char *token = sign(kinds[i].key, kinds[i].algorithm, kinds[i].kid, "{" CLAIMS "}");
        assert_true(accepted(keys, token, "ann"));
        free(token);
    }
}

static void claims_have_to_be_there_and_right(void **state)
{
    struct keys *keys = *state;
    static const char *const bad[] = {
        "{\"iss\":\"us\",\"aud\":\"broker\",\"sub\":\"ann\"}",                               /* no exp */
        "{\"iss\":\"us\",\"aud\":\"broker\",\"exp\":\"1000060\",\"sub\":\"ann\"}",           /* exp is no number */
        "{\"iss\":\"us\",\"aud\":\"broker\",\"exp\":999990,\"sub\":\"ann\"}",                /* over */
        "{" CLAIMS ",\"nbf\":1000011}",                                                     /* not yet */
        "{" CLAIMS ",\"nbf\":null}",
        "{\"iss\":\"them\",\"aud\":\"broker\",\"exp\":1000060,\"sub\":\"ann\"}",
        "{\"aud\":\"broker\",\"exp\":1000060,\"sub\":\"ann\"}",
        "{\"iss\":\"us\",\"aud\":[\"other\"],\"exp\":1000060,\"sub\":\"ann\"}",
        "{\"iss\":\"us\",\"exp\":1000060,\"sub\":\"ann\"}",
        "{\"iss\":\"us\",\"aud\":\"broker\",\"exp\":1000060}",                               /* nobody */
        "{\"iss\":\"us\",\"aud\":\"broker\",\"exp\":1000060,\"sub\":\"\"}",
        "{\"iss\":\"us\",\"aud\":\"broker\",\"exp\":1000060,\"sub\":7}",
        "{\"sub\":\"bob\"," CLAIMS "}",                                                      /* twice */
        "[]", "nonsense"};
    assert_true(claims_accepted(keys, "{" CLAIMS "}"));
    assert_true(claims_accepted(keys, "{" CLAIMS ",\"nbf\":1000009,\"iat\":1000009}"));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(claims_accepted(keys, bad[i]));
}

/* A public key is known to everybody: it must never count as the secret of an HMAC; and "none" is no algorithm. */
static void algorithms_go_with_their_keys_only(void **state)
{
    struct keys *keys = *state;
    cjose_err error;
    char *as_json = cjose_jwk_to_json(keys->rsa, false, &error);
    cjose_jwk_t *as_secret = cjose_jwk_create_oct_spec((const uint8_t *)as_json, strlen(as_json), &error);
    char *confused = sign(as_secret, "HS256", "r", "{" CLAIMS "}");
    assert_false(accepted(keys, confused, "ann"));
    assert_false(accepted(keys, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJleHAiOjEwMDAwNjB9.", "ann"));
    char *good = sign(keys->secret, "HS256", "s", "{" CLAIMS "}");
    good[strlen(good) - 2] ^= 1;
    assert_false(accepted(keys, good, "ann"));
    char *named_wrong = sign(keys->secret, "HS256", "e", "{" CLAIMS "}");
    assert_false(accepted(keys, named_wrong, "ann"));
    cjose_jwk_t *stranger = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &error);
    char *forged = sign(stranger, "ES256", "e", "{" CLAIMS "}");
    assert_false(accepted(keys, forged, "ann"));
    free(as_json);
    free(confused);
    free(good);
    free(named_wrong);
    free(forged);
    cjose_jwk_release(as_secret);
    cjose_jwk_release(stranger);
}

static void keys_that_are_weak_or_none_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{}", "{\"keys\":[]}", "{\"keys\":7}", "nonsense",
                                      "{\"kty\":\"oct\",\"k\":\"c2hvcnQ\"}", "{\"keys\":[{\"kty\":\"oct\"}]}",
                                      "{\"kty\":\"oct\",\"k\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlh=mNkZWY\"}",
                                      "{\"kty\":\"oct\",\"k\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWYAA\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct token_keys *keys = NULL;
        char error[128];
        assert_int_equal(token_keys_parse(bytes_text(bad[i]), &(struct token_settings){0}, &keys, error, sizeof error),
                         STATUS_INVALID);
    }
}

static void public_keys_in_pem_are_taken(void **state)
{
    struct keys *keys = *state;
    EVP_PKEY *pair = EVP_EC_gen("P-256");
    BIO *out = BIO_new(BIO_s_mem());
    struct token_keys *ours = NULL;
    char *text, error[128];
    PEM_write_bio_PUBKEY(out, pair);
    long size = BIO_get_mem_data(out, &text);
    assert_int_equal(token_keys_parse(bytes_of(text, (size_t)size), &(struct token_settings){0}, &ours, error,
                                      sizeof error),
                     STATUS_OK);
    char *other = sign(keys->ec, "ES256", NULL, "{" CLAIMS "}");
    struct buffer user = {0};
    uint64_t until_s;
    assert_false(token_verify(ours, bytes_text(other), NOW, &user, &until_s));
    buffer_release(&user);
    free(other);
    token_keys_release(ours);
    BIO_free(out);
    EVP_PKEY_free(pair);
}

/* ---- the order of methods ---- */

struct world {
    struct store *store;
    struct state *state;
    struct auth *auth;
    struct logins *logins;
};

static struct world *world_new(bool fall_through)
{
    struct world *w = calloc(1, sizeof *w);
    const struct logins_settings settings = {.fall_through = fall_through, .remembered_max = 64};
    struct password_file *file;
    char error[128];
    assert_int_equal(store_open(&(struct store_options){0}, &w->store), STATUS_OK);
    assert_int_equal(state_open(w->store, 1, &w->state), STATUS_OK);
    w->auth = auth_new(bytes_text("entropy"), "ann:configured,carl:c");
    w->logins = logins_new(bytes_text("entropy"), &settings, w->auth);
    assert_int_equal(password_file_parse(bytes_text("ann:" OF_MOSQUITTO "\nbob:" OF_MOSQUITTO "\n"), &file, error,
                                         sizeof error),
                     STATUS_OK);
    logins_set_password_file(w->logins, file);
    return w;
}

static void world_free(struct world *w)
{
    logins_free(w->logins);
    auth_free(w->auth);
    state_close(w->state);
    store_close(w->store);
    free(w);
}

static int strict(void **state)
{
    *state = world_new(false);
    return 0;
}

static int falling_through(void **state)
{
    *state = world_new(true);
    return 0;
}

static int free_world(void **state)
{
    world_free(*state);
    return 0;
}

#define LISTENER(list) ((struct login_facts){.methods = (list)})
#define NAMED(facts, name, secret)                                                                                     \
    ((struct login_facts){.methods = (facts).methods, .anonymous = (facts).anonymous,                                  \
                          .certificate_user = (facts).certificate_user, .psk_identity = (facts).psk_identity,          \
                          .has_user_name = true, .has_password = true, .user_name = bytes_text(name),                  \
                          .password = bytes_text(secret)})

static const char *const method_names[] = {
    [LOGIN_CERTIFICATE] = "certificate",
    [LOGIN_PSK] = "psk",
    [LOGIN_USERS] = "users",
    [LOGIN_PASSWORD_FILE] = "password_file",
    [LOGIN_TOKEN] = "token",
    [LOGIN_ANONYMOUS] = "anonymous",
};

/* "method:user", "refused" or "nobody"; a '*' in front: it took no hash. */
static const char *outcome(struct world *w, struct login_facts facts)
{
    static char text[64];
    struct login *login = login_new(w->logins, state_security(w->state), &facts, 7);
    bool settled = login_settled(login);
    if (!settled)
        login_run(login, NOW);
    struct login_result result = login_result(login);
    if (result.granted)
        snprintf(text, sizeof text, "%s%s:%.*s", settled ? "*" : "", method_names[result.method],
                 (int)result.user.size, (const char *)result.user.data);
    else
        snprintf(text, sizeof text, "%s", result.secret ? "refused" : "nobody");
    login_learn(w->logins, login);
    login_free(login);
    return text;
}

static void methods_are_asked_in_their_order(void **state)
{
    struct world *w = *state;
    struct login_facts both = LISTENER("certificate,users,password_file"), late = LISTENER("users,certificate");
    both.certificate_user = late.certificate_user = "device";
    assert_string_equal(outcome(w, NAMED(both, "ann", "pencil")), "*certificate:device");
    assert_string_equal(outcome(w, NAMED(late, "carl", "c")), "users:carl");
    assert_string_equal(outcome(w, NAMED(late, "zoe", "c")), "certificate:device");
    assert_string_equal(outcome(w, NAMED(LISTENER("users,password_file"), "bob", "pencil")), "password_file:bob");
    assert_string_equal(outcome(w, NAMED(LISTENER("users"), "bob", "pencil")), "refused");
    assert_string_equal(outcome(w, NAMED(LISTENER("password_file,users"), "ann", "pencil")), "password_file:ann");
    late.psk_identity = "key-1";
    assert_string_equal(outcome(w, LISTENER("psk")), "nobody");
    late.methods = "psk";
    assert_string_equal(outcome(w, late), "*psk:key-1");
}

static void a_wrong_password_is_the_end(void **state)
{
    struct world *w = *state;
    assert_string_equal(outcome(w, NAMED(LISTENER("users,password_file"), "ann", "pencil")), "refused");
    assert_string_equal(outcome(w, NAMED(LISTENER("users,password_file"), "ann", "configured")), "users:ann");
}

static void unless_it_falls_through(void **state)
{
    struct world *w = *state;
    assert_string_equal(outcome(w, NAMED(LISTENER("users,password_file"), "ann", "pencil")), "password_file:ann");
    assert_string_equal(outcome(w, NAMED(LISTENER("users,password_file"), "ann", "neither")), "refused");
}

static void anonymous_needs_the_word_of_its_listener(void **state)
{
    struct world *w = *state;
    struct login_facts open = {.methods = "users", .anonymous = true};
    assert_string_equal(outcome(w, LISTENER("users")), "nobody");
    assert_string_equal(outcome(w, open), "*anonymous:");
    assert_string_equal(outcome(w, NAMED(open, "zoe", "x")), "refused"); /* a wrong name does not become no name */
    open.methods = "certificate";
    assert_string_equal(outcome(w, NAMED(open, "zoe", "x")), "*anonymous:"); /* nobody could know it */
    open.methods = "users";
    open.has_user_name = true;
    open.user_name = bytes_text("ann");
    assert_string_equal(outcome(w, open), "refused");
}

static void what_was_right_is_remembered_and_nothing_else(void **state)
{
    struct world *w = *state;
    struct login_facts listener = LISTENER("users,password_file");
    assert_string_equal(outcome(w, NAMED(listener, "bob", "wrong")), "refused");
    assert_string_equal(outcome(w, NAMED(listener, "bob", "wrong")), "refused");
    assert_string_equal(outcome(w, NAMED(listener, "carl", "c")), "users:carl");
    assert_string_equal(outcome(w, NAMED(listener, "carl", "c")), "*users:carl");
    assert_string_equal(outcome(w, NAMED(listener, "carl", "d")), "refused");
    assert_string_equal(outcome(w, NAMED(LISTENER("password_file"), "bob", "pencil")), "password_file:bob");
    assert_string_equal(outcome(w, NAMED(LISTENER("password_file"), "bob", "pencil")), "*password_file:bob");
    struct password_file *changed;
    char error[128];
    password_file_parse(bytes_text("bob:" CHEAP_ARGON "\n"), &changed, error, sizeof error);
    logins_set_password_file(w->logins, changed);
    assert_string_equal(outcome(w, NAMED(LISTENER("password_file"), "bob", "pencil")), "refused");
}

/* Neither the answer nor the time tells whether there is such a user: the same hashes are made. */
static void unknown_names_cost_what_known_ones_do(void **state)
{
    struct world *w = *state;
    static const char *const lists[] = {"users,password_file", "password_file,users", "password_file", "users"};
    for (size_t i = 0; i < 4; i++) {
        uint32_t of_known[CREDENTIAL_SCRAM + 1];
        memset(hashes, 0, sizeof hashes);
        assert_string_equal(outcome(w, NAMED(LISTENER(lists[i]), "bob", "wrong")), "refused");
        memcpy(of_known, hashes, sizeof hashes);
        memset(hashes, 0, sizeof hashes);
        assert_string_equal(outcome(w, NAMED(LISTENER(lists[i]), "zoe", "wrong")), "refused");
        assert_memory_equal(hashes, of_known, sizeof hashes);
        assert_int_equal(hashes[CREDENTIAL_PBKDF2] + hashes[CREDENTIAL_ARGON2ID], i < 2 ? 2 : 1);
    }
}

static void unknown_methods_are_named(void **state)
{
    (void)state;
    struct bytes unknown;
    unsigned methods;
    assert_true(login_methods("users, psk", &methods, &unknown));
    assert_int_equal(methods, 1u << LOGIN_USERS | 1u << LOGIN_PSK);
    assert_true(login_methods("", &methods, &unknown));
    assert_false(login_methods("users,anonymous", &methods, &unknown));
    assert_true(bytes_equal(unknown, bytes_text("anonymous")));
}

static void a_list_is_told_by_what_of_it_is_possible(void **state)
{
    (void)state;
    char told[64], little[8];
    login_methods_among("token, users,psk", 1u << LOGIN_USERS | 1u << LOGIN_TOKEN | 1u << LOGIN_SCRAM, told, sizeof(told));
    assert_string_equal(told, "token,users");
    login_methods_among("", 1u << LOGIN_USERS | 1u << LOGIN_SCRAM, told, sizeof(told));
    assert_string_equal(told, "scram,users");
    login_methods_among("psk", 1u << LOGIN_USERS, told, sizeof(told));
    assert_string_equal(told, "");
    login_methods_among("", ~0u, little, sizeof(little));
    assert_string_equal(little, "certifi");
}

/* ---- those who guess ---- */

static void who_guesses_waits_by_address_and_by_user(void **state)
{
    (void)state;
    struct failures *failures = failures_new(1);
    struct bytes here = bytes_text("192.0.2.1"), there = bytes_text("192.0.2.2"), ann = bytes_text("ann");
    static const uint32_t waits[] = {0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 4000};
    for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
        assert_int_equal(failures_wait_ms(failures, here, ann, 1000), waits[i]);
        failures_note(failures, here, ann, false, 1000);
    }
    assert_int_equal(failures_wait_ms(failures, there, ann, 1000), 4000);
    assert_true(failures_too_soon(failures, here, 4999));
    assert_false(failures_too_soon(failures, here, 5000));
    assert_false(failures_too_soon(failures, there, 1000));
    assert_int_equal(failures_wait_ms(failures, here, bytes_text("bob"), 1000), 4000);
    assert_int_equal(failures_wait_ms(failures, there, bytes_text("bob"), 1000), 0);
    failures_note(failures, there, ann, true, 1000);
    assert_int_equal(failures_wait_ms(failures, there, ann, 1000), 0);
    assert_int_equal(failures_wait_ms(failures, here, ann, 1000 + 120000), 0);
    failures_free(failures);
}

/* ---- ACL files ---- */

static enum verdict file_says(const struct acl_file *file, const char *user, enum right right, const char *topic)
{
    const struct names names = {.user = bytes_text(user), .client_id = bytes_text("c1")};
    struct rule_list rules = {0};
    acl_file_rules(file, names.user, &rules);
    enum verdict verdict = rules_judge(rules.rules, rules.count, &names, right, bytes_text(topic));
    rule_list_release(&rules);
    return verdict;
}

static void an_acl_file_says_what_mosquitto_would(void **state)
{
    (void)state;
    struct acl_file *file;
    char error[128];
    const char *text = "# anonymous\ntopic read public/#\n\n"
                       "user ann\ntopic home/#\ntopic deny home/cellar\ntopic write  log/with blanks \n"
                       "user bob\r\ntopic read %u\n"
                       "pattern readwrite own/%u/%c\npattern deny own/+/secret\npattern read read\n";
    assert_int_equal(acl_file_parse(bytes_text(text), &file, error, sizeof error), STATUS_OK);
    assert_int_equal(file_says(file, "", RIGHT_RECEIVE, "public/x"), VERDICT_ALLOW);
    assert_int_equal(file_says(file, "", RIGHT_PUBLISH, "public/x"), VERDICT_NONE);
    assert_int_equal(file_says(file, "ann", RIGHT_RECEIVE, "public/x"), VERDICT_NONE);
    assert_int_equal(file_says(file, "ann", RIGHT_PUBLISH, "home/attic"), VERDICT_ALLOW);
    assert_int_equal(file_says(file, "ann", RIGHT_PUBLISH, "home/cellar"), VERDICT_DENY);
    assert_int_equal(file_says(file, "ann", RIGHT_SUBSCRIBE, "home/#"), VERDICT_DENY);
    assert_int_equal(file_says(file, "ann", RIGHT_PUBLISH, "log/with blanks"), VERDICT_ALLOW);
    assert_int_equal(file_says(file, "bob", RIGHT_RECEIVE, "bob"), VERDICT_NONE);
    assert_int_equal(file_says(file, "bob", RIGHT_RECEIVE, "%u"), VERDICT_ALLOW);
    assert_int_equal(file_says(file, "bob", RIGHT_RECEIVE, "own/bob/c1"), VERDICT_ALLOW);
    assert_int_equal(file_says(file, "bob", RIGHT_RECEIVE, "own/ann/c1"), VERDICT_NONE);
    assert_int_equal(file_says(file, "", RIGHT_RECEIVE, "own//c1"), VERDICT_NONE);
    assert_int_equal(file_says(file, "zoe", RIGHT_RECEIVE, "own/x/secret"), VERDICT_DENY);
    assert_int_equal(file_says(file, "zoe", RIGHT_SUBSCRIBE, "read"), VERDICT_ALLOW);
    acl_file_free(file);
}

static void an_acl_file_is_taken_whole_or_not_at_all(void **state)
{
    (void)state;
    static const char *const bad[] = {"nonsense", "topic", "topic read", "topic readwrite a/#/b", "user", "pattern",
                                      "topic read $share/g/a", "Topic a", "topics a"};
    struct acl_file *file;
    char text[64], error[128];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "topic ok\n%s\n", bad[i]);
        if (strcmp(bad[i], "topic read") == 0)
            continue; /* a topic called "read" */
        assert_int_equal(acl_file_parse(bytes_text(text), &file, error, sizeof error), STATUS_INVALID);
        assert_memory_equal(error, "line 2: expected", 16);
    }
    assert_int_equal(acl_file_parse(bytes_text(""), &file, error, sizeof error), STATUS_OK);
    assert_int_equal(file_says(file, "ann", RIGHT_PUBLISH, "a"), VERDICT_NONE);
    acl_file_free(file);
}

#define KEYS(test) cmocka_unit_test_setup_teardown(test, make_keys, free_keys)
#define STRICT(test) cmocka_unit_test_setup_teardown(test, strict, free_world)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_made_of_a_password_fits_it_alone),
        cmocka_unit_test(lines_of_mosquitto_are_understood),
        cmocka_unit_test(what_would_cost_too_much_or_is_no_such_line_fits_nothing),
        cmocka_unit_test(a_password_file_is_taken_whole_or_not_at_all),
        KEYS(a_token_of_each_kind_of_key_says_who_it_is),
        KEYS(claims_have_to_be_there_and_right),
        KEYS(algorithms_go_with_their_keys_only),
        cmocka_unit_test(keys_that_are_weak_or_none_are_refused),
        KEYS(public_keys_in_pem_are_taken),
        STRICT(methods_are_asked_in_their_order),
        STRICT(a_wrong_password_is_the_end),
        cmocka_unit_test_setup_teardown(unless_it_falls_through, falling_through, free_world),
        STRICT(anonymous_needs_the_word_of_its_listener),
        STRICT(what_was_right_is_remembered_and_nothing_else),
        STRICT(unknown_names_cost_what_known_ones_do),
        cmocka_unit_test(unknown_methods_are_named),
        cmocka_unit_test(a_list_is_told_by_what_of_it_is_possible),
        cmocka_unit_test(who_guesses_waits_by_address_and_by_user),
        cmocka_unit_test(an_acl_file_says_what_mosquitto_would),
        cmocka_unit_test(an_acl_file_is_taken_whole_or_not_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
