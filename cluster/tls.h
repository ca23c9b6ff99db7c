/* tls.h — TLS as a machine without sockets: wire bytes in, plain bytes out, and back. For clients and for links.
 *
 *   files --tls_context_open--> context (certificate, key, CA, CRL, keys known beforehand; never changes)
 *   context --tls_session_new--> session: one connection; it keeps its context alive
 *
 * TLS 1.2 and 1.3, ECDHE with an AEAD cipher only, no compression, no renegotiation, no early data. Sessions are resumed
 * by tickets whose keys live as long as the context: after a restart or a reload clients do a whole handshake once, and
 * a certificate that was revoked meanwhile cannot come back by a ticket. With keys known beforehand (PSK) there are no
 * tickets: such a handshake is cheap.
 *
 * A handshake costs some 0.2 to 1 ms of public-key work. tls_session_handshake() may run on another thread, as
 * long as nobody else touches the session; everything else takes microseconds. Contexts are shared between threads.
 *
 * A session that is idle holds no buffers. */
#ifndef COTERIE_TLS_H
#define COTERIE_TLS_H

#include "base/bytes.h"
#include "base/status.h"

#define TLS_ERROR_MAX 320

struct tls_context;
struct tls_session;

enum tls_verify { TLS_VERIFY_NONE, TLS_VERIFY_OPTIONAL, TLS_VERIFY_REQUIRED };

/* Paths of PEM files; NULL or "": none. */
struct tls_settings {
    const char *certificate, *key; /* own certificate and then its issuers; both or none */
    const char *ca, *crl;          /* for certificates of the other side; a CRL of each of their issuers */
    const char *psk;               /* lines of identity:key in hexadecimal */
    const char *psk_hint;
    const char *protocol; /* ALPN: chosen if the client offers any, else it is refused; NULL: none is asked for */
    enum tls_verify verify; /* of the other side's certificate; a client always verifies */
    bool tls_1_3;           /* not below */
    bool clocks_may_be_behind; /* the other side's certificate, and a CRL, count before they begin to be valid */
};

/* STATUS_INVALID: a file cannot be used; `error` says which and why. Blocks on files. */
enum status tls_context_open(const struct tls_settings *settings, struct tls_context **context,
                             char error[TLS_ERROR_MAX]);
struct tls_context *tls_context_retain(struct tls_context *context);
void tls_context_release(struct tls_context *context); /* NULL is allowed */
/* Seconds since 1970 at which the first of: own certificates, CRL, becomes invalid; INT64_MAX: none does. */
int64_t tls_context_expiry(const struct tls_context *context);

/* One end of a connection. Retains the context. */
struct tls_session *tls_session_new(struct tls_context *context, bool server);
void tls_session_free(struct tls_session *session);

enum tls_result {
    TLS_OK,      /* what was there has been taken in; go on when more bytes arrive */
    TLS_DONE,    /* of a handshake: it has ended well */
    TLS_END,     /* the other side has said that nothing follows */
    TLS_FAULT,   /* send what is in `wire`, an alert, and close; tls_session_fault() says why */
};

/* What is left of the handshake is no public-key work: microseconds. */
bool tls_session_is_nearly_done(const struct tls_session *session);
/* Goes on with the handshake, given all of `in`. */
enum tls_result tls_session_handshake(struct tls_session *session, struct bytes in, struct buffer *wire);
/* After TLS_DONE. Appends what `in` contains to `plain`; `wire` is for answers of TLS itself. Once after TLS_DONE with
 * an empty `in`, while the last `in` of the handshake still exists: what came behind it. */
enum tls_result tls_session_receive(struct tls_session *session, struct bytes in, struct buffer *plain,
                                    struct buffer *wire);
/* After TLS_DONE. Appends `plain`, sealed, to `wire`. TLS_OK or TLS_FAULT. */
enum tls_result tls_session_send(struct tls_session *session, struct bytes plain, struct buffer *wire);
/* Says that nothing follows. */
void tls_session_finish(struct tls_session *session, struct buffer *wire);

/* One sentence without control characters; "" = none. */
const char *tls_session_fault(const struct tls_session *session);

/* ---- what the handshake has shown ---- */

/* Texts without control characters; "" where there is nothing. */
struct tls_peer {
    char version[16], cipher[48];
    bool resumed;
    char common_name[256];
    char distinguished_name[512]; /* RFC 2253 */
    char alternative_name[256];   /* the first: URI, DNS name or e-mail address */
    char psk_identity[129];
};
/* A certificate of which a name holds a NUL byte, or is longer than there is room for, has no name. */
void tls_session_peer(const struct tls_session *session, struct tls_peer *peer);
/* Whether the other side's certificate has this URI among its alternative names. */
bool tls_session_peer_has_uri(const struct tls_session *session, const char *uri);

#endif
