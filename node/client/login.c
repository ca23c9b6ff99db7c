/* login.c — see login.h. */
#include "login.h"

#include "auth_private.h"
#include "credential.h"
#include "password_file.h"
#include "security.h"
#include "token.h"

#include "base/memory.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REMEMBERED_WAYS 4

static const char *const method_names[LOGIN_METHODS] = {
    [LOGIN_CERTIFICATE] = "certificate",
    [LOGIN_PSK] = "psk",
    [LOGIN_SCRAM] = "scram",
    [LOGIN_USERS] = "users",
    [LOGIN_TOKEN] = "token",
    [LOGIN_PASSWORD_FILE] = "password_file",
};

struct remembered {
    uint8_t tag[AUTH_HASH_BYTES];
};

struct logins {
    const struct auth *auth;
    char *methods;
    bool fall_through;
    struct password_file *file;
    struct token_keys *keys;
    uint8_t secret[AUTH_HASH_BYTES];
    struct remembered *remembered; /* sets of REMEMBERED_WAYS */
    uint32_t set_count, next_way;
};

/* One method's turn. */
struct
try {
    enum login_method method;
    bool known;                /* there is such a user; else the credential is nobody's */
    bool right;                /* needs no hash: verified by the transport, or remembered */
    uint64_t credential_epoch; /* of a user of the replicated state */
    struct bytes user;         /* right, if it is not the name that the client gave */
    uint8_t tag[AUTH_HASH_BYTES];
    struct buffer credential;
};

struct login {
    uint64_t number;
    struct try tries[LOGIN_METHODS];
    uint32_t count;
    bool fall_through;
    struct buffer user_name, password;
    struct buffer user; /* that a method found */
    struct token_keys *keys;
    bool settled;
    struct login_result result;
};

/* ---- methods ---- */

static enum login_method method_of(struct bytes name)
{
    for (enum login_method method = 0; method < LOGIN_METHODS; method++) {
        if (bytes_equal(name, bytes_text(method_names[method])))
            return method;
    }
    return LOGIN_METHODS;
}

/* Takes the next name of a list with commas and blanks. */
static bool next_name(const char **list, struct bytes *name)
{
    const char *at = *list;

    at += strspn(at, ", ");
    *name = bytes_of(at, strcspn(at, ", "));
    *list = at + name->size;
    return name->size > 0;
}

bool login_methods(const char *list, unsigned *methods, struct bytes *unknown)
{
    struct bytes name;

    *methods = 0;
    for (const char *rest = list[0] != '\0' ? list : LOGIN_METHODS_DEFAULT; next_name(&rest, &name);) {
        enum login_method method = method_of(name);

        if (method == LOGIN_METHODS) {
            *unknown = name;
            return false;
        }
        *methods |= 1u << method;
    }
    return true;
}

void login_methods_among(const char *list, unsigned methods, char *out, size_t size)
{
    struct bytes name;
    size_t used = 0;

    out[0] = '\0';
    for (const char *rest = list[0] != '\0' ? list : LOGIN_METHODS_DEFAULT; next_name(&rest, &name) && used < size;) {
        enum login_method method = method_of(name);

        if (method != LOGIN_METHODS && (methods & 1u << method) != 0)
            used += (size_t)snprintf(out + used, size - used, "%s%s", used > 0 ? "," : "", method_names[method]);
    }
}

/* ---- of a node ---- */

struct logins *logins_new(struct bytes entropy, const struct logins_settings *settings, const struct auth *auth)
{
    struct logins *logins = memory_zeroed(1, sizeof(*logins));
    const char *methods =
        settings->methods != NULL && settings->methods[0] != '\0' ? settings->methods : LOGIN_METHODS_DEFAULT;

    logins->auth = auth;
    logins->methods = memory_text(methods);
    logins->fall_through = settings->fall_through;
    auth_hmac(entropy, bytes_text("logins"), logins->secret);
    logins->set_count = settings->remembered_max / REMEMBERED_WAYS;
    return logins;
}

void logins_free(struct logins *logins)
{
    if (logins == NULL)
        return;
    logins_set_password_file(logins, NULL);
    logins_set_token_keys(logins, NULL);
    free(logins->methods);
    free(logins->remembered);
    OPENSSL_cleanse(logins, sizeof(*logins));
    free(logins);
}

void logins_set_password_file(struct logins *logins, struct password_file *file)
{
    password_file_free(logins->file);
    logins->file = file;
}

void logins_set_token_keys(struct logins *logins, struct token_keys *keys)
{
    token_keys_release(logins->keys);
    logins->keys = keys;
}

bool logins_method_ready(const struct logins *logins, enum login_method method, const struct security *security)
{
    switch (method) {
    case LOGIN_CERTIFICATE:
    case LOGIN_PSK: return true;
    case LOGIN_SCRAM:
    case LOGIN_USERS: return security_user_count(security) > 0 || auth_user_count(logins->auth) > 0;
    case LOGIN_PASSWORD_FILE: return logins->file != NULL;
    case LOGIN_TOKEN: return logins->keys != NULL;
    case LOGIN_METHODS: break;
    }
    return false;
}

static const char *methods_of(const struct logins *logins, const char *methods)
{
    return methods != NULL && methods[0] != '\0' ? methods : logins->methods;
}

bool logins_offer_scram(const struct logins *logins, const char *methods)
{
    struct bytes unknown;
    unsigned bits;

    return login_methods(methods_of(logins, methods), &bits, &unknown) && (bits & 1u << LOGIN_SCRAM) != 0;
}

/* ---- what was right before ---- */

/* A key that only this life of this node has, over credential and password: a new password is a new tag. */
static void make_tag(const struct logins *logins, struct try *try, struct bytes user, struct bytes password)
{
    struct buffer text = {0};

    buffer_put_u8(&text, (uint8_t)try->method);
    buffer_put_block(&text, user);
    buffer_put_block(&text, buffer_bytes(&try->credential));
    buffer_put_bytes(&text, password);
    auth_hmac(bytes_of(logins->secret, sizeof(logins->secret)), buffer_bytes(&text), try->tag);
    OPENSSL_cleanse(text.data, text.size);
    buffer_release(&text);
}

static struct remembered *set_of(const struct logins *logins, const uint8_t tag[AUTH_HASH_BYTES])
{
    uint64_t number;

    memcpy(&number, tag, sizeof(number));
    return &logins->remembered[number % logins->set_count * REMEMBERED_WAYS];
}

static bool is_remembered(const struct logins *logins, const struct try *try)
{
    const struct remembered *set;
    bool found = false;

    if (!try->known || logins->remembered == NULL)
        return false;
    set = set_of(logins, try->tag);
    for (int way = 0; way < REMEMBERED_WAYS; way++)
        found |= CRYPTO_memcmp(set[way].tag, try->tag, sizeof(try->tag)) == 0;
    return found;
}

void login_learn(struct logins *logins, const struct login *login)
{
    const struct try *try = NULL;

    for (uint32_t i = 0; i < login->count; i++) {
        if (login->tries[i].method == login->result.method)
            try = &login->tries[i];
    }
    if (!login->result.granted || try == NULL || try->method == LOGIN_TOKEN || try->right || logins->set_count == 0)
        return;
    if (logins->remembered == NULL)
        logins->remembered = memory_zeroed((size_t)logins->set_count * REMEMBERED_WAYS, sizeof(*logins->remembered));
    memcpy(set_of(logins, try->tag)[logins->next_way++ % REMEMBERED_WAYS].tag, try->tag, sizeof(try->tag));
}

/* ---- one login ---- */

static void settle(struct login *login, const struct login_result *result)
{
    login->result = *result;
    login->settled = true;
}

static void grant(struct login *login, const struct try *try, struct bytes user, uint64_t valid_s)
{
    const struct login_result result = {.granted = true,
                                        .method = try->method,
                                        .user = user,
                                        .credential_epoch = try->credential_epoch,
                                        .valid_s = valid_s};

    settle(login, &result);
}

static struct try *add_try(struct login *login, enum login_method method)
{
    struct try *try = &login->tries[login->count++];

    try->method = method;
    return try;
}

static void add_named(struct login *login, enum login_method method, const char *name)
{
    struct try *try;

    if (name == NULL || name[0] == '\0')
        return;
    try = add_try(login, method);
    try->right = true;
    buffer_put_bytes(&try->credential, bytes_text(name));
    try->user = buffer_bytes(&try->credential);
}

static void add_hashed(struct login *login, const struct logins *logins, const struct security *security,
                       enum login_method method, const struct login_facts *facts)
{
    struct try *try = add_try(login, method);
    struct bytes credential;
    struct security_user user;

    if (method == LOGIN_PASSWORD_FILE) {
        try->known = password_file_find(logins->file, facts->user_name, &credential);
        buffer_put_bytes(&try->credential, try->known ? credential : password_file_dummy(logins->file));
    } else if (security_user(security, facts->user_name, &user)) {
        try->known = true;
        try->credential_epoch = user.credential_epoch;
        buffer_put_bytes(&try->credential, user.credential);
    } else {
        try->known = auth_put_user(logins->auth, facts->user_name, &try->credential);
        if (!try->known)
            buffer_put_bytes(&try->credential, credential_of_nobody());
    }
    make_tag(logins, try, facts->user_name, facts->password);
    try->right = is_remembered(logins, try);
    try->user = buffer_bytes(&login->user_name);
}

static void add_method(struct login *login, struct logins *logins, const struct security *security,
                       enum login_method method, const struct login_facts *facts)
{
    switch (method) {
    case LOGIN_CERTIFICATE: add_named(login, method, facts->certificate_user); return;
    case LOGIN_PSK: add_named(login, method, facts->psk_identity); return;
    case LOGIN_SCRAM: return;
    case LOGIN_USERS:
    case LOGIN_PASSWORD_FILE:
        if (facts->has_user_name && facts->has_password && logins_method_ready(logins, method, security))
            add_hashed(login, logins, security, method, facts);
        return;
    case LOGIN_TOKEN:
        if (logins->keys != NULL && facts->has_password && token_is_one(facts->password)) {
            login->keys = token_keys_retain(logins->keys);
            add_try(login, method);
        }
        return;
    case LOGIN_METHODS: return;
    }
}

/* Whether anybody could know names and passwords here. */
static bool could_be_known(const struct logins *logins, const struct security *security, unsigned methods)
{
    static const enum login_method by_password[] = {LOGIN_USERS, LOGIN_PASSWORD_FILE, LOGIN_TOKEN};

    for (size_t i = 0; i < sizeof(by_password) / sizeof(by_password[0]); i++) {
        if ((methods & 1u << by_password[i]) != 0 && logins_method_ready(logins, by_password[i], security))
            return true;
    }
    return false;
}

/* Nothing to try: anonymous, or nobody. */
static void settle_without(struct login *login, const struct login_facts *facts, bool could_be)
{
    bool named = facts->has_user_name || facts->has_password;
    bool granted = facts->anonymous && (!named || !could_be);
    const struct login_result result = {
        .granted = granted, .secret = named, .method = LOGIN_ANONYMOUS, .valid_s = UINT64_MAX};

    settle(login, &result);
}

struct login *login_new(struct logins *logins, const struct security *security, const struct login_facts *facts,
                        uint64_t number)
{
    struct login *login = memory_zeroed(1, sizeof(*login));
    unsigned methods = 0;
    struct bytes name;

    login->number = number;
    login->fall_through = logins->fall_through;
    buffer_put_bytes(&login->user_name, facts->user_name);
    buffer_put_bytes(&login->password, facts->password);
    for (const char *rest = methods_of(logins, facts->methods); next_name(&rest, &name);) {
        enum login_method method = method_of(name);

        if (method == LOGIN_METHODS || (methods & 1u << method) != 0)
            continue;
        methods |= 1u << method;
        add_method(login, logins, security, method, facts);
    }
    if (login->count == 0)
        settle_without(login, facts, could_be_known(logins, security, methods));
    else if (login->tries[0].right)
        grant(login, &login->tries[0], login->tries[0].user, UINT64_MAX);
    return login;
}

void login_free(struct login *login)
{
    if (login == NULL)
        return;
    for (uint32_t i = 0; i < login->count; i++)
        buffer_release(&login->tries[i].credential);
    if (login->password.size > 0)
        OPENSSL_cleanse(login->password.data, login->password.size);
    buffer_release(&login->password);
    buffer_release(&login->user_name);
    buffer_release(&login->user);
    token_keys_release(login->keys);
    free(login);
}

bool login_settled(const struct login *login)
{
    return login->settled;
}

/* One method's answer: true if it is yes. Costs the same whether the user is known. */
static bool attempt(struct login *login, struct try *try, uint64_t wall_s, uint64_t *valid_s)
{
    struct bytes password = buffer_bytes(&login->password);
    uint64_t until_s = 0;

    *valid_s = UINT64_MAX;
    if (try->method == LOGIN_TOKEN) {
        if (!token_verify(login->keys, password, wall_s, &login->user, &until_s))
            return false;
        try->user = buffer_bytes(&login->user);
        *valid_s = until_s > wall_s ? until_s - wall_s : 0;
        return true;
    }
    return try->right || (credential_verify(buffer_bytes(&try->credential), password) && try->known);
}

void login_run(struct login *login, uint64_t wall_s)
{
    bool over = false; /* somebody knew it, and said no: the rest costs time only */

    for (uint32_t i = 0; i < login->count && !login->settled; i++) {
        struct try *try = &login->tries[i];
        uint64_t valid_s;

        if (attempt(login, try, wall_s, &valid_s) && !over)
            grant(login, try, try->user, valid_s);
        over = over || (try->known && !login->fall_through);
    }
    if (!login->settled)
        settle(login, &(struct login_result){.secret = true, .method = LOGIN_ANONYMOUS, .valid_s = UINT64_MAX});
    OPENSSL_cleanse(login->password.data, login->password.size);
}

uint64_t login_number(const struct login *login)
{
    return login->number;
}

struct bytes login_user_name(const struct login *login)
{
    return buffer_bytes(&login->user_name);
}

struct login_result login_result(const struct login *login)
{
    return login->result;
}
