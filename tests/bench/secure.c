/* secure.c — see secure.h. */
#include "secure.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <stdio.h>
#include <stdlib.h>

enum { RECORD_PLAIN_MAX = 16 * 1024 };

/* For what depends on nothing but memory and our own words. */
static void require(bool holds)
{
    if (holds)
        return;
    fprintf(stderr, "coterie-bench: TLS: %s\n", secure_fault());
    exit(3);
}

struct ssl_ctx_st *secure_context_new(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    require(context != NULL);
    require(SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1);
    require(SSL_CTX_set1_groups_list(context, "X25519") == 1);
    require(SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") == 1);
    SSL_CTX_set_verify(context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return context;
}

void secure_context_free(struct ssl_ctx_st *context)
{
    SSL_CTX_free(context);
}

struct ssl_st *secure_new(struct ssl_ctx_st *context)
{
    SSL *tls = SSL_new(context);
    BIO *input = BIO_new(BIO_s_mem()), *output = BIO_new(BIO_s_mem());
    require(tls != NULL && input != NULL && output != NULL);
    SSL_set_bio(tls, input, output); /* which it frees */
    SSL_set_connect_state(tls);
    return tls;
}

void secure_free(struct ssl_st *tls)
{
    SSL_free(tls);
}

/* Whether the result of a call only means that there is no more to read: for now, or for ever. */
static bool has_run_dry(const SSL *tls, int result)
{
    int error = SSL_get_error(tls, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_ZERO_RETURN;
}

enum secure_state secure_receive(struct ssl_st *tls, const uint8_t *data, size_t size, struct buffer *plain)
{
    size_t taken = 0, got = 0;
    ERR_clear_error();
    require(size == 0 || (BIO_write_ex(SSL_get_rbio(tls), data, size, &taken) == 1 && taken == size));
    int result = SSL_do_handshake(tls); /* 1 at once if it is over */
    if (result != 1)
        return has_run_dry(tls, result) ? SECURE_SHAKING : SECURE_BROKEN;
    while ((result = SSL_read_ex(tls, buffer_room(plain, RECORD_PLAIN_MAX), RECORD_PLAIN_MAX, &got)) == 1)
        plain->size += got;
    return has_run_dry(tls, result) ? SECURE_OPEN : SECURE_BROKEN;
}

bool secure_send(struct ssl_st *tls, const uint8_t *data, size_t size, struct buffer *wire)
{
    BIO *output = SSL_get_wbio(tls);
    size_t done = 0;
    ERR_clear_error();
    if (size > 0 && SSL_write_ex(tls, data, size, &done) != 1)
        return false;
    size_t pending = BIO_ctrl_pending(output);
    if (pending > 0) {
        require(BIO_read_ex(output, buffer_room(wire, pending), pending, &done) == 1 && done == pending);
        wire->size += done;
    }
    return true;
}

const char *secure_fault(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != NULL ? reason : "unknown reason";
}
