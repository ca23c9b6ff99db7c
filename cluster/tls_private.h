/* tls_private.h — what tls.c (sessions) and tls_context.c (files) share. */
#ifndef COTERIE_TLS_PRIVATE_H
#define COTERIE_TLS_PRIVATE_H

#include "tls.h"

#include <openssl/ssl.h>
#include <stdatomic.h>

#define TLS_PSK_BYTES_MAX 64

struct tls_psk {
    char identity[129];
    uint8_t key[TLS_PSK_BYTES_MAX];
    uint32_t key_size; /* 0 = no such identity */
};

struct tls_context {
    atomic_uint references;
    SSL_CTX *ssl;
    int64_t expiry;
    char *protocol;
    struct tls_psk *keys; /* in the order of their identities */
    size_t key_count;
};

/* Called by OpenSSL during a handshake (any thread): finds a key, and notes in the session whose it is. */
unsigned tls_psk_of(SSL *ssl, const char *identity, unsigned char *key, unsigned key_max);
/* The key of this identity; NULL: there is none. */
const struct tls_psk *tls_context_psk(const struct tls_context *context, const char *identity);

#endif
