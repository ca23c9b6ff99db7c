/* tls_context.c — from files to what all connections of a listener, or all links, share.
 *
 *   certificate + key, CA, CRL, keys known beforehand --read and checked--> SSL_CTX, and when the first of them expires
 *
 * A context never changes. To take new files in, open another one: sessions that exist keep the old one alive, and a
 * file that cannot be used changes nothing. Secrets must not be readable by others (mode bits o+rwx), or are refused. */
#include "tls_private.h"

#include "base/memory.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
#define CIPHERS_PSK ":ECDHE-PSK-CHACHA20-POLY1305" /* the one that is both ephemeral and AEAD */
#define CIPHERS_1_3 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define SESSION_S   3600
#define CHAIN_BYTES (32 * 1024) /* of the other side's certificates */
#define PSK_MAX     1000000

static bool given(const char *path)
{
    return path != NULL && path[0] != '\0';
}

/* "FILE: why", from errno or from OpenSSL. Always returns STATUS_INVALID. */
static enum status refuse(const char *file, const char *why, char *error)
{
    unsigned long code = ERR_peek_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    snprintf(error, TLS_ERROR_MAX, "%.180s: %s%s%s", file, why, reason != NULL ? ": " : "",
             reason != NULL ? reason : "");
    ERR_clear_error();
    return STATUS_INVALID;
}

/* A file can be opened, and a secret one by its owner and group alone. */
static enum status check_file(const char *path, bool secret, char *error)
{
    struct stat facts;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return refuse(path, strerror(errno), error);
    int result = fstat(fileno(file), &facts);
    fclose(file);
    if (result != 0 || !S_ISREG(facts.st_mode))
        return refuse(path, "not a file", error);
    if (secret && (facts.st_mode & 007) != 0)
        return refuse(path, "everybody may read or write this secret; expected mode 0600 or 0640", error);
    return STATUS_OK;
}

static void note_expiry(struct tls_context *context, const ASN1_TIME *end)
{
    struct tm broken_down;
    if (end == NULL || ASN1_TIME_to_tm(end, &broken_down) != 1)
        return;
    int64_t expiry = (int64_t)timegm(&broken_down);
    if (expiry < context->expiry)
        context->expiry = expiry;
}

/* ---- own certificate ---- */

static int no_password(char *out, int size, int writing, void *context)
{
    (void)out, (void)size, (void)writing, (void)context;
    return -1; /* a key with a password: do not ask the terminal */
}

static enum status load_certificate(struct tls_context *context, const struct tls_settings *settings, char *error)
{
    STACK_OF(X509) *issuers = NULL;
    enum status status = check_file(settings->certificate, false, error);
    if (status == STATUS_OK)
        status = check_file(settings->key, true, error);
    if (status != STATUS_OK)
        return status;
    SSL_CTX_set_default_passwd_cb(context->ssl, no_password);
    if (SSL_CTX_use_certificate_chain_file(context->ssl, settings->certificate) != 1)
        return refuse(settings->certificate, "no certificate can be read", error);
    if (SSL_CTX_use_PrivateKey_file(context->ssl, settings->key, SSL_FILETYPE_PEM) != 1)
        return refuse(settings->key, "no private key that fits the certificate can be read", error);
    if (SSL_CTX_check_private_key(context->ssl) != 1)
        return refuse(settings->key, "does not fit the certificate", error);
    note_expiry(context, X509_get0_notAfter(SSL_CTX_get0_certificate(context->ssl)));
    SSL_CTX_get0_chain_certs(context->ssl, &issuers);
    for (int i = 0; i < sk_X509_num(issuers); i++)
        note_expiry(context, X509_get0_notAfter(sk_X509_value(issuers, i)));
    return STATUS_OK;
}

/* ---- the other side's certificates ---- */

static enum status load_revoked(struct tls_context *context, const char *path, char *error)
{
    X509_STORE *store = SSL_CTX_get_cert_store(context->ssl);
    unsigned count = 0;
    X509_CRL *list;
    enum status status = check_file(path, false, error);
    if (status != STATUS_OK)
        return status;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return refuse(path, strerror(errno), error);
    while ((list = PEM_read_X509_CRL(file, NULL, no_password, NULL)) != NULL) {
        note_expiry(context, X509_CRL_get0_nextUpdate(list));
        count += X509_STORE_add_crl(store, list) == 1;
        X509_CRL_free(list);
    }
    unsigned long last = ERR_peek_last_error();
    fclose(file);
    if (count == 0 || ERR_GET_REASON(last) != PEM_R_NO_START_LINE)
        return refuse(path, "not a list of revoked certificates (PEM)", error);
    ERR_clear_error();
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return STATUS_OK;
}

static enum status load_issuers(struct tls_context *context, const struct tls_settings *settings, char *error)
{
    enum status status = check_file(settings->ca, false, error);
    if (status != STATUS_OK)
        return status;
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(settings->ca);
    if (names == NULL || SSL_CTX_load_verify_file(context->ssl, settings->ca) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return refuse(settings->ca, "no certificate can be read", error);
    }
    SSL_CTX_set_client_CA_list(context->ssl, names);
    return given(settings->crl) ? load_revoked(context, settings->crl, error) : STATUS_OK;
}

/* ---- keys known beforehand ---- */

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct tls_psk *)a)->identity, ((const struct tls_psk *)b)->identity);
}

const struct tls_psk *tls_context_psk(const struct tls_context *context, const char *identity)
{
    struct tls_psk wanted = {.key_size = 0};
    if (identity == NULL || strlen(identity) >= sizeof(wanted.identity))
        return NULL;
    strcpy(wanted.identity, identity);
    return bsearch(&wanted, context->keys, context->key_count, sizeof(wanted), compare_keys);
}

static bool hexadecimal(const char *text, struct tls_psk *psk)
{
    size_t length = strlen(text);
    if (length < 32 || length % 2 != 0 || length / 2 > sizeof(psk->key))
        return false;
    for (size_t i = 0; i < length; i += 2) {
        unsigned byte;
        if (strspn(text + i, "0123456789abcdefABCDEF") < 2 || sscanf(text + i, "%2x", &byte) != 1)
            return false;
        psk->key[i / 2] = (uint8_t)byte;
    }
    psk->key_size = (uint32_t)(length / 2);
    return true;
}

/* One line, "identity:key". */
static bool read_key(char *line, struct tls_psk *psk)
{
    char *colon = strrchr(line, ':');
    memset(psk, 0, sizeof(*psk));
    if (colon == NULL || colon == line || (size_t)(colon - line) >= sizeof(psk->identity))
        return false;
    memcpy(psk->identity, line, (size_t)(colon - line));
    for (const char *c = psk->identity; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return false;
    return hexadecimal(colon + 1, psk);
}

static enum status load_keys(struct tls_context *context, const char *path, char *error)
{
    char line[512], why[96];
    unsigned number = 0;
    size_t capacity = 0;
    enum status status = check_file(path, true, error);
    FILE *file = status == STATUS_OK ? fopen(path, "r") : NULL;
    if (file == NULL)
        return status != STATUS_OK ? status : refuse(path, strerror(errno), error);
    while (status == STATUS_OK && fgets(line, sizeof(line), file) != NULL) {
        number++;
        line[strcspn(line, "\r\n")] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        if (context->key_count == capacity) {
            capacity = capacity == 0 ? 64 : capacity * 2;
            context->keys = memory_resize(context->keys, capacity * sizeof(*context->keys));
        }
        if (context->key_count >= PSK_MAX || !read_key(line, &context->keys[context->key_count++])) {
            snprintf(why, sizeof(why), "line %u: expected identity:key, the key 16 to 64 bytes in hexadecimal", number);
            status = refuse(path, why, error);
        }
    }
    fclose(file);
    OPENSSL_cleanse(line, sizeof(line));
    if (status == STATUS_OK && context->key_count == 0)
        status = refuse(path, "no key in it", error);
    if (context->key_count > 0)
        qsort(context->keys, context->key_count, sizeof(*context->keys), compare_keys);
    return status;
}

static enum status use_keys(struct tls_context *context, const struct tls_settings *settings, char *error)
{
    enum status status = load_keys(context, settings->psk, error);
    if (status != STATUS_OK)
        return status;
    SSL_CTX_set_psk_server_callback(context->ssl, tls_psk_of);
    if (given(settings->psk_hint))
        SSL_CTX_use_psk_identity_hint(context->ssl, settings->psk_hint);
    SSL_CTX_set_options(context->ssl, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(context->ssl, 0);
    return STATUS_OK;
}

/* ---- what all have in common ---- */

static int choose_protocol(SSL *ssl, const unsigned char **chosen, unsigned char *size, const unsigned char *offered,
                           unsigned offered_size, void *of)
{
    const struct tls_context *context = of;
    size_t length = strlen(context->protocol);
    (void)ssl;
    for (unsigned at = 0; at < offered_size; at += 1u + offered[at])
        if (offered[at] == length && at + 1 + length <= offered_size &&
            memcmp(offered + at + 1, context->protocol, length) == 0) {
            *chosen = offered + at + 1;
            *size = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* A clock that is behind, ours, is no reason to refuse what our own CA has signed. */
static int forgive_early(int fine, X509_STORE_CTX *verification)
{
    int error = X509_STORE_CTX_get_error(verification);
    if (fine || (error != X509_V_ERR_CERT_NOT_YET_VALID && error != X509_V_ERR_CRL_NOT_YET_VALID))
        return fine;
    X509_STORE_CTX_set_error(verification, X509_V_OK);
    return 1;
}

static void set_rules(struct tls_context *context, const struct tls_settings *settings)
{
    static const int modes[] = {
        [TLS_VERIFY_NONE] = SSL_VERIFY_NONE,
        [TLS_VERIFY_OPTIONAL] = SSL_VERIFY_PEER,
        [TLS_VERIFY_REQUIRED] = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
    };
    SSL_CTX *ssl = context->ssl;
    SSL_CTX_set_min_proto_version(ssl, settings->tls_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_cipher_list(ssl, given(settings->psk) ? CIPHERS_1_2 CIPHERS_PSK : CIPHERS_1_2);
    SSL_CTX_set_ciphersuites(ssl, CIPHERS_1_3);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF); /* tickets: the client keeps it */
    SSL_CTX_set_session_id_context(ssl, (const unsigned char *)"coterie", 7);
    SSL_CTX_set_timeout(ssl, SESSION_S);
    SSL_CTX_set_num_tickets(ssl, 1);
    SSL_CTX_set_max_early_data(ssl, 0);
    SSL_CTX_set_max_cert_list(ssl, CHAIN_BYTES);
    SSL_CTX_set_verify(ssl, modes[settings->verify], settings->clocks_may_be_behind ? forgive_early : NULL);
    if (context->protocol != NULL)
        SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, context);
}

enum status tls_context_open(const struct tls_settings *settings, struct tls_context **out, char error[TLS_ERROR_MAX])
{
    struct tls_context *context = memory_zeroed(1, sizeof(*context));
    enum status status = STATUS_OK;
    error[0] = '\0';
    context->references = 1;
    context->expiry = INT64_MAX;
    context->protocol = given(settings->protocol) ? memory_text(settings->protocol) : NULL;
    context->ssl = SSL_CTX_new(TLS_method());
    if (context->ssl == NULL)
        status = refuse("OpenSSL", "cannot be used", error);
    else
        set_rules(context, settings);
    ERR_clear_error();
    if (status == STATUS_OK && given(settings->certificate))
        status = load_certificate(context, settings, error);
    if (status == STATUS_OK && given(settings->ca))
        status = load_issuers(context, settings, error);
    if (status == STATUS_OK && given(settings->psk))
        status = use_keys(context, settings, error);
    if (status != STATUS_OK) {
        tls_context_release(context);
        context = NULL;
    }
    *out = context;
    return status;
}

struct tls_context *tls_context_retain(struct tls_context *context)
{
    atomic_fetch_add(&context->references, 1);
    return context;
}

void tls_context_release(struct tls_context *context)
{
    if (context == NULL || atomic_fetch_sub(&context->references, 1) != 1)
        return;
    SSL_CTX_free(context->ssl);
    if (context->keys != NULL)
        OPENSSL_cleanse(context->keys, context->key_count * sizeof(*context->keys));
    free(context->keys);
    free(context->protocol);
    free(context);
}

int64_t tls_context_expiry(const struct tls_context *context)
{
    return context->expiry;
}
