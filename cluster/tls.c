/* tls.c — one TLS connection; tls.h says what goes in and out.
 *
 * OpenSSL reads and writes through a BIO of ours, which holds nothing: during a call it lends OpenSSL the bytes that the
 * caller handed in, and appends to the caller's buffer. Whatever OpenSSL could not use yet (a part of a record) it
 * keeps itself; with SSL_MODE_RELEASE_BUFFERS it gives such memory back when the record is whole. */
#include "tls_private.h"

#include "base/memory.h"

#include <assert.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES  (16 * 1024)        /* the plain text of one record */
#define WRITE_BYTES (1024 * 1024 * 16) /* one SSL_write: its length is an int */

struct tls_session {
    SSL *ssl;
    struct tls_context *context;
    struct bytes in;     /* of the call under way */
    struct buffer *wire; /* likewise */
    const struct tls_psk *psk;
    char *fault;
    bool failed; /* OpenSSL must not be called any more */
};

/* ---- the BIO ---- */

static int bio_read(BIO *bio, char *out, int size)
{
    struct tls_session *session = BIO_get_data(bio);
    size_t count = session->in.size < (size_t)size ? session->in.size : (size_t)size;
    BIO_clear_retry_flags(bio);
    if (count == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(out, session->in.data, count);
    session->in.data += count;
    session->in.size -= count;
    return (int)count;
}

static int bio_write(BIO *bio, const char *data, int size)
{
    struct tls_session *session = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    buffer_put(session->wire, data, (size_t)size);
    return size;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *bio_method(void)
{
    static _Atomic(BIO_METHOD *) shared;
    BIO_METHOD *method = shared, *none = NULL;
    if (method != NULL)
        return method;
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lent bytes");
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    if (!atomic_compare_exchange_strong(&shared, &none, method)) {
        BIO_meth_free(method); /* another thread was first */
        method = none;
    }
    return method;
}

/* ---- sessions ---- */

struct tls_session *tls_session_new(struct tls_context *context, bool server)
{
    struct tls_session *session = memory_zeroed(1, sizeof(*session));
    BIO *bio = BIO_new(bio_method());
    session->context = tls_context_retain(context);
    session->ssl = SSL_new(context->ssl);
    if (session->ssl == NULL || bio == NULL)
        abort(); /* no memory: memory.h says why we do not go on */
    BIO_set_data(bio, session);
    BIO_set_init(bio, 1);
    SSL_set_bio(session->ssl, bio, bio);
    SSL_set_app_data(session->ssl, session);
    if (server)
        SSL_set_accept_state(session->ssl);
    else
        SSL_set_connect_state(session->ssl);
    return session;
}

void tls_session_free(struct tls_session *session)
{
    if (session == NULL)
        return;
    SSL_free(session->ssl);
    tls_context_release(session->context);
    free(session->fault);
    free(session);
}

static void say_fault(struct tls_session *session, const char *text)
{
    free(session->fault);
    session->fault = memory_text(text);
    for (char *c = session->fault; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
}

static enum tls_result fail(struct tls_session *session)
{
    char text[320];
    unsigned long error = ERR_peek_last_error();
    long verified = SSL_get_verify_result(session->ssl);
    const char *reason = error != 0 ? ERR_reason_error_string(error) : NULL;
    if (verified != X509_V_OK)
        snprintf(text, sizeof(text), "its certificate is refused: %s", X509_verify_cert_error_string(verified));
    else
        snprintf(text, sizeof(text), "%s", reason != NULL ? reason : "broken off");
    say_fault(session, text);
    session->failed = true;
    ERR_clear_error();
    return TLS_FAULT;
}

/* A ticket brings a certificate back without looking at it again. */
static bool resumed_certificate_is_current(const struct tls_session *session)
{
    X509 *certificate = SSL_session_reused(session->ssl) ? SSL_get0_peer_certificate(session->ssl) : NULL;
    return certificate == NULL || X509_cmp_current_time(X509_get0_notAfter(certificate)) > 0;
}

/* Of a server that has said Finished: it waits for the client's, and before that perhaps for a certificate. */
bool tls_session_is_nearly_done(const struct tls_session *session)
{
    uint8_t said[EVP_MAX_MD_SIZE];
    bool no_certificate = SSL_get_verify_mode(session->ssl) == SSL_VERIFY_NONE || SSL_session_reused(session->ssl);
    return SSL_is_server(session->ssl) && no_certificate && SSL_get_finished(session->ssl, said, sizeof(said)) > 0;
}

enum tls_result tls_session_handshake(struct tls_session *session, struct bytes in, struct buffer *wire)
{
    if (session->failed)
        return TLS_FAULT;
    session->in = in;
    session->wire = wire;
    ERR_clear_error();
    int result = SSL_do_handshake(session->ssl);
    if (result == 1) {
        if (resumed_certificate_is_current(session))
            return TLS_DONE;
        say_fault(session, "its certificate has expired since the session that it resumes");
        session->failed = true;
        return TLS_FAULT;
    }
    if (SSL_get_error(session->ssl, result) == SSL_ERROR_WANT_READ)
        return TLS_OK;
    return fail(session);
}

enum tls_result tls_session_receive(struct tls_session *session, struct bytes in, struct buffer *plain,
                                    struct buffer *wire)
{
    if (session->failed)
        return TLS_FAULT;
    if (in.size > 0) /* else: the rest of what the handshake was given, which its caller kept */
        session->in = in;
    session->wire = wire;
    ERR_clear_error();
    for (;;) {
        buffer_reserve(plain, READ_BYTES);
        int result = SSL_read(session->ssl, plain->data + plain->size, READ_BYTES);
        if (result > 0) {
            plain->size += (size_t)result;
            continue;
        }
        switch (SSL_get_error(session->ssl, result)) {
        case SSL_ERROR_WANT_READ: return TLS_OK;
        case SSL_ERROR_ZERO_RETURN: return TLS_END;
        default: return fail(session);
        }
    }
}

enum tls_result tls_session_send(struct tls_session *session, struct bytes plain, struct buffer *wire)
{
    session->in = bytes_of(NULL, 0);
    session->wire = wire;
    while (plain.size > 0 && !session->failed) {
        size_t size = plain.size < WRITE_BYTES ? plain.size : WRITE_BYTES;
        ERR_clear_error();
        int result = SSL_write(session->ssl, plain.data, (int)size);
        if (result <= 0)
            return fail(session);
        plain.data += result;
        plain.size -= (size_t)result;
    }
    return session->failed ? TLS_FAULT : TLS_OK;
}

void tls_session_finish(struct tls_session *session, struct buffer *wire)
{
    if (session->failed || SSL_in_init(session->ssl))
        return;
    session->in = bytes_of(NULL, 0);
    session->wire = wire;
    SSL_shutdown(session->ssl);
    session->failed = true;
    ERR_clear_error();
}

const char *tls_session_fault(const struct tls_session *session)
{
    return session->fault != NULL ? session->fault : "";
}

/* ---- keys known beforehand ---- */

unsigned tls_psk_of(SSL *ssl, const char *identity, unsigned char *key, unsigned key_max)
{
    struct tls_session *session = SSL_get_app_data(ssl);
    const struct tls_psk *psk = tls_context_psk(session->context, identity);
    if (psk == NULL || psk->key_size > key_max)
        return 0;
    session->psk = psk;
    memcpy(key, psk->key, psk->key_size);
    return psk->key_size;
}

/* Whether this connection stands on such a key, and not on a certificate though one was offered. */
static bool used_psk(const struct tls_session *session)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(session->ssl);
    if (session->psk == NULL || cipher == NULL)
        return false;
    if (SSL_version(session->ssl) >= TLS1_3_VERSION)
        return SSL_session_reused(session->ssl); /* there are no tickets where there are keys */
    return SSL_CIPHER_get_auth_nid(cipher) == NID_auth_psk || SSL_CIPHER_get_kx_nid(cipher) == NID_kx_ecdhe_psk;
}

/* ---- certificates ---- */

static bool printable(const unsigned char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (text[i] < 0x20 || text[i] == 0x7f)
            return false;
    return true;
}

static void copy_name(const unsigned char *text, int size, char *out, size_t room)
{
    if (size <= 0 || (size_t)size >= room || !printable(text, (size_t)size))
        return;
    memcpy(out, text, (size_t)size);
    out[size] = '\0';
}

/* The last common name is the most specific one; several are none. */
static void read_common_name(X509_NAME *subject, char *out, size_t room)
{
    unsigned char *text = NULL;
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return;
    int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    if (size >= 0)
        copy_name(text, size, out, room);
    OPENSSL_free(text);
}

static void read_distinguished_name(X509_NAME *subject, char *out, size_t room)
{
    BIO *memory = BIO_new(BIO_s_mem());
    char *text;
    if (memory == NULL)
        return;
    if (X509_NAME_print_ex(memory, subject, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
        int size = (int)BIO_get_mem_data(memory, &text);
        copy_name((const unsigned char *)text, size, out, room);
    }
    BIO_free(memory);
}

static const ASN1_STRING *alternative_of(const GENERAL_NAME *name)
{
    int type;
    ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    return type == GEN_URI || type == GEN_DNS || type == GEN_EMAIL ? value : NULL;
}

static void read_alternative_name(X509 *certificate, char *out, size_t room)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const ASN1_STRING *value = alternative_of(sk_GENERAL_NAME_value(names, i));
        if (value == NULL)
            continue;
        copy_name(ASN1_STRING_get0_data(value), ASN1_STRING_length(value), out, room);
        break;
    }
    GENERAL_NAMES_free(names);
}

void tls_session_peer(const struct tls_session *session, struct tls_peer *peer)
{
    memset(peer, 0, sizeof(*peer));
    snprintf(peer->version, sizeof(peer->version), "%s", SSL_get_version(session->ssl));
    snprintf(peer->cipher, sizeof(peer->cipher), "%s", SSL_get_cipher_name(session->ssl));
    peer->resumed = SSL_session_reused(session->ssl);
    if (used_psk(session)) {
        peer->resumed = false;
        snprintf(peer->psk_identity, sizeof(peer->psk_identity), "%s", session->psk->identity);
    }
    X509 *certificate = SSL_get0_peer_certificate(session->ssl);
    if (certificate == NULL || SSL_get_verify_result(session->ssl) != X509_V_OK)
        return;
    X509_NAME *subject = X509_get_subject_name(certificate);
    read_common_name(subject, peer->common_name, sizeof(peer->common_name));
    read_distinguished_name(subject, peer->distinguished_name, sizeof(peer->distinguished_name));
    read_alternative_name(certificate, peer->alternative_name, sizeof(peer->alternative_name));
}

bool tls_session_peer_has_uri(const struct tls_session *session, const char *uri)
{
    X509 *certificate = SSL_get0_peer_certificate(session->ssl);
    bool found = false;
    if (certificate == NULL || SSL_get_verify_result(session->ssl) != X509_V_OK)
        return false;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        int type;
        const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, i), &type);
        found = type == GEN_URI && (size_t)ASN1_STRING_length(value) == strlen(uri) &&
                memcmp(ASN1_STRING_get0_data(value), uri, strlen(uri)) == 0;
    }
    GENERAL_NAMES_free(names);
    return found;
}
