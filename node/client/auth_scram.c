/* auth_scram.c — SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side, without channel binding.
 *
 *   client first   n,,n=user,r=nonce                      ──▶
 *                                                         ◀──  server first   r=nonce+ours,s=salt,i=iterations
 *   client final   c=biws,r=nonce+ours,p=proof            ──▶
 *                                                         ◀──  server final   v=signature
 *
 * The proof is checked against the stored key alone: what we keep is not enough to log in elsewhere. An unknown user
 * gets a salt all the same, and learns at the end what a wrong password does. Names are compared as bytes: who wants
 * SASLprep applies it on both ends. */
#include "auth_private.h"

#include "base/memory.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES_MAX 1024
#define NONCE_BYTES       18 /* ours, before base64 */

enum phase { EXPECT_FIRST, EXPECT_FINAL, OVER };

struct scram {
    struct auth *auth;
    enum phase phase;
    bool known;
    struct auth_user user;
    struct buffer name;
    struct buffer header;   /* of GS2: "n,," or "y,," */
    struct buffer nonce;    /* the client's and ours */
    struct buffer messages; /* client-first-bare "," server-first: what is signed, but for the client-final */
};

static void *scram_begin(struct auth *auth)
{
    struct scram *scram = memory_zeroed(1, sizeof(*scram));

    scram->auth = auth;
    return scram;
}

static void scram_end(void *state)
{
    struct scram *scram = state;

    buffer_release(&scram->name);
    buffer_release(&scram->header);
    buffer_release(&scram->nonce);
    buffer_release(&scram->messages);
    OPENSSL_cleanse(scram, sizeof(*scram));
    free(scram);
}

static struct bytes scram_user(const void *state)
{
    return buffer_bytes(&((const struct scram *)state)->name);
}

static uint64_t scram_credential_epoch(const void *state)
{
    return ((const struct scram *)state)->user.credential_epoch;
}

/* Takes "k=value" up to the next comma off the front; false: something else stands there. */
static bool take_attribute(struct bytes *in, char key, struct bytes *value)
{
    const uint8_t *end;

    if (in->size < 2 || in->data[0] != (uint8_t)key || in->data[1] != '=')
        return false;
    end = memchr(in->data, ',', in->size);
    *value = bytes_of(in->data + 2, (end == NULL ? in->size : (size_t)(end - in->data)) - 2);
    *in = end == NULL ? bytes_of(NULL, 0) : bytes_of(end + 1, in->size - (size_t)(end - in->data) - 1);
    return true;
}

/* A name with "=2C" for ',' and "=3D" for '='. */
static bool put_name(struct buffer *out, struct bytes name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] != '=') {
            buffer_put_u8(out, name.data[i]);
            continue;
        }
        if (name.size - i < 3)
            return false;
        if (memcmp(name.data + i, "=2C", 3) == 0)
            buffer_put_u8(out, ',');
        else if (memcmp(name.data + i, "=3D", 3) == 0)
            buffer_put_u8(out, '=');
        else
            return false;
        i += 2;
    }
    return out->size > 0;
}

static bool is_printable(struct bytes nonce)
{
    for (size_t i = 0; i < nonce.size; i++) {
        if (nonce.data[i] < 0x21 || nonce.data[i] > 0x7e)
            return false;
    }
    return nonce.size > 0;
}

static bool parse_first(struct scram *scram, struct bytes in)
{
    struct bytes name, nonce;

    if (in.size < 3 || (in.data[0] != 'n' && in.data[0] != 'y') || in.data[1] != ',' || in.data[2] != ',')
        return false; /* channel binding, or acting for somebody else: not offered */
    buffer_put(&scram->header, in.data, 3);
    in = bytes_of(in.data + 3, in.size - 3);
    buffer_put_bytes(&scram->messages, in);
    if (!take_attribute(&in, 'n', &name) || !take_attribute(&in, 'r', &nonce) || !is_printable(nonce))
        return false;
    buffer_put_bytes(&scram->nonce, nonce);
    return put_name(&scram->name, name); /* what follows are extensions, none of which is known: passed over */
}

static enum auth_step take_first(struct scram *scram, struct bytes in, struct buffer *out)
{
    uint8_t fresh[AUTH_HASH_BYTES];
    char iterations[16];
    size_t start = out->size;

    if (!parse_first(scram, in))
        return AUTH_MALFORMED;
    scram->known = auth_find_user(scram->auth, buffer_bytes(&scram->name), &scram->user);
    auth_fresh(scram->auth, fresh);
    auth_put_base64(&scram->nonce, bytes_of(fresh, NONCE_BYTES));
    snprintf(iterations, sizeof(iterations), ",i=%u", scram->user.iterations);
    buffer_put_bytes(out, bytes_text("r="));
    buffer_put_bytes(out, buffer_bytes(&scram->nonce));
    buffer_put_bytes(out, bytes_text(",s="));
    auth_put_base64(out, bytes_of(scram->user.salt, scram->user.salt_size));
    buffer_put_bytes(out, bytes_text(iterations));
    buffer_put_u8(&scram->messages, ',');
    buffer_put(&scram->messages, out->data + start, out->size - start);
    buffer_put_u8(&scram->messages, ',');
    scram->phase = EXPECT_FINAL;
    return AUTH_CHALLENGE;
}

/* c=, r= and p=, whatever stands between the last two. *signed_size: how much of it the proof is about. */
static bool parse_final(const struct scram *scram, struct bytes in, uint8_t proof[AUTH_HASH_BYTES], size_t *signed_size)
{
    struct bytes rest = in, binding, nonce, value;
    uint8_t header[AUTH_HASH_BYTES];
    size_t header_size, proof_size;

    if (!take_attribute(&rest, 'c', &binding) || !take_attribute(&rest, 'r', &nonce))
        return false;
    if (!auth_take_base64(binding, header, sizeof(header), &header_size) ||
        !bytes_equal(bytes_of(header, header_size), buffer_bytes(&scram->header)))
        return false;
    if (nonce.size != scram->nonce.size || CRYPTO_memcmp(nonce.data, scram->nonce.data, nonce.size) != 0)
        return false;
    while (rest.size > 0 && rest.data[0] != 'p') {
        if (!take_attribute(&rest, (char)rest.data[0], &value))
            return false;
    }
    *signed_size = in.size - rest.size - 1;
    return take_attribute(&rest, 'p', &value) && rest.size == 0 &&
           auth_take_base64(value, proof, AUTH_HASH_BYTES, &proof_size) && proof_size == AUTH_HASH_BYTES;
}

/* H(proof XOR HMAC(stored key, messages)) is the stored key. */
static bool proof_fits(const struct scram *scram, const uint8_t proof[AUTH_HASH_BYTES])
{
    uint8_t key[AUTH_HASH_BYTES], hash[AUTH_HASH_BYTES];
    bool fits;

    auth_hmac(bytes_of(scram->user.stored_key, AUTH_HASH_BYTES), buffer_bytes(&scram->messages), key);
    for (size_t i = 0; i < AUTH_HASH_BYTES; i++)
        key[i] ^= proof[i];
    SHA256(key, sizeof(key), hash);
    fits = CRYPTO_memcmp(hash, scram->user.stored_key, sizeof(hash)) == 0;
    OPENSSL_cleanse(key, sizeof(key));
    return fits && scram->known;
}

static enum auth_step take_final(struct scram *scram, struct bytes in, struct buffer *out)
{
    uint8_t proof[AUTH_HASH_BYTES], signature[AUTH_HASH_BYTES];
    size_t signed_size;

    scram->phase = OVER;
    if (!parse_final(scram, in, proof, &signed_size))
        return AUTH_REFUSED;
    buffer_put(&scram->messages, in.data, signed_size);
    if (!proof_fits(scram, proof))
        return AUTH_REFUSED;
    auth_hmac(bytes_of(scram->user.server_key, AUTH_HASH_BYTES), buffer_bytes(&scram->messages), signature);
    buffer_put_bytes(out, bytes_text("v="));
    auth_put_base64(out, bytes_of(signature, sizeof(signature)));
    return AUTH_DONE;
}

static enum auth_step scram_step(void *state, struct bytes in, struct buffer *out)
{
    struct scram *scram = state;

    if (in.size > MESSAGE_BYTES_MAX || scram->phase == OVER)
        return AUTH_MALFORMED;
    if (scram->phase == EXPECT_FINAL)
        return take_final(scram, in, out);
    if (in.size == 0)
        return AUTH_CHALLENGE; /* the client waits to be asked */
    return take_first(scram, in, out);
}

const struct auth_method AUTH_SCRAM_SHA_256 = {
    .name = "SCRAM-SHA-256",
    .begin = scram_begin,
    .step = scram_step,
    .user = scram_user,
    .credential_epoch = scram_credential_epoch,
    .end = scram_end,
};
