/* secure.h — the client's end of TLS 1.3 for the load generator: bytes in, bytes out, no sockets.
 *
 *   wire bytes -> secure_receive() -> plain bytes        plain bytes -> secure_send() -> wire bytes
 *
 * Every broker is to do the same work: there is one key exchange (X25519) and one cipher (AES-256-GCM), and nothing is
 * resumed, so a connection costs a full handshake. Whose certificate it is does not matter here: only the signature of
 * the handshake is verified. The structs are OpenSSL's SSL_CTX and SSL, which nobody else needs to know. */
#ifndef BENCH_SECURE_H
#define BENCH_SECURE_H

#include "buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ssl_ctx_st;
struct ssl_st;

enum secure_state { SECURE_SHAKING, SECURE_OPEN, SECURE_BROKEN };

struct ssl_ctx_st *secure_context_new(void); /* one per thread: nothing is locked then */
void secure_context_free(struct ssl_ctx_st *context);

struct ssl_st *secure_new(struct ssl_ctx_st *context);
void secure_free(struct ssl_st *tls); /* NULL is fine */

/* Takes all of the wire bytes and appends the plain ones to `plain`. Without any bytes it begins the handshake. What
 * TLS itself has to say then waits for the next secure_send(). */
enum secure_state secure_receive(struct ssl_st *tls, const uint8_t *data, size_t size, struct buffer *plain);

/* Appends to `wire` what is to be sent, for `size` plain bytes or none; false: the connection is no good. */
bool secure_send(struct ssl_st *tls, const uint8_t *data, size_t size, struct buffer *wire);

/* Why the last call in this thread failed. */
const char *secure_fault(void);

#endif
