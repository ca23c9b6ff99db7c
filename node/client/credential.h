/* credential.h — what is kept of a password, as one line of text, and whether a password is the one.
 *
 *   $argon2id$v=19$m=19456,t=2,p=1$salt$hash              Argon2id; also of mosquitto's password files
 *   $7$iterations$salt$hash                               PBKDF2 with SHA-512, of mosquitto's password files
 *   SCRAM-SHA-256$iterations:salt$stored-key:server-key   what SCRAM needs (RFC 5803, as PostgreSQL has it)
 *
 * Slow on purpose: what is called "verify" and "make" belongs on another thread, and may run on several at once. Bounds on
 * cost keep a line that somebody else wrote from taking the node's time or memory. Comparisons take the same time
 * whatever differs. */
#ifndef COTERIE_CREDENTIAL_H
#define COTERIE_CREDENTIAL_H

#include "base/bytes.h"

#define CREDENTIAL_BYTES_MAX 512       /* as in commands */
#define CREDENTIAL_SALT_BYTES 16

enum credential_kind {
    CREDENTIAL_INVALID = 0,
    CREDENTIAL_ARGON2ID,
    CREDENTIAL_PBKDF2,
    CREDENTIAL_SCRAM,
};

/* What a line is; invalid too if it would cost more than credential.c allows. */
enum credential_kind credential_kind(struct bytes credential);

bool credential_verify(struct bytes credential, struct bytes password);

/* Appends the line for a new password: Argon2id, or what SCRAM needs. `salt` is random. False: no memory for it. */
bool credential_make(enum credential_kind kind, struct bytes password, const uint8_t salt[CREDENTIAL_SALT_BYTES],
                     struct buffer *out);

/* A line of the usual cost that no password fits: for names that nobody has. */
struct bytes credential_of_nobody(void);

#endif
