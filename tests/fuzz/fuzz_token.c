/* fuzz_token.c — any bytes as a file of keys, and as a token; and any claims in a token that is signed as it should be.
 *
 * What must hold: without the key no token is good; and a good one names a user, is not over, and was signed by the key. */
#include "input.h"
#include "node/client/token.h"

#include <assert.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define WALL_S 1700000000
#define SECRET "0123456789abcdef0123456789abcdef"
#define KEYS "{\"kty\":\"oct\",\"k\":\"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY\"}" /* SECRET, base64url */
#define PART_MAX 600

static struct token_keys *known_keys(void)
{
    static struct token_keys *keys;
    char error[200];
    if (keys == NULL && token_keys_parse(bytes_text(KEYS), &(struct token_settings){.leeway_s = 5}, &keys, error,
                                         sizeof error) != STATUS_OK)
        abort();
    return keys;
}

static void put_base64url(struct buffer *out, struct bytes bytes)
{
    uint8_t text[PART_MAX * 2];
    int size = EVP_EncodeBlock(text, bytes.data, (int)bytes.size);
    for (int i = 0; i < size && text[i] != '='; i++)
        buffer_put_u8(out, text[i] == '+' ? '-' : text[i] == '/' ? '_' : text[i]);
}

static void put_signature(struct buffer *token)
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    if (HMAC(EVP_sha256(), SECRET, sizeof SECRET - 1, token->data, token->size, mac, &size) == NULL)
        abort();
    buffer_put_u8(token, '.');
    put_base64url(token, bytes_of(mac, size));
}

static bool try_token(struct bytes token)
{
    struct buffer user = {0};
    uint64_t until_s = 0;
    bool good = token_verify(known_keys(), token, WALL_S, &user, &until_s);
    assert(!good || (user.size > 0 && user.size <= TOKEN_USER_BYTES_MAX && until_s + 5 >= WALL_S));
    assert(!good || token_is_one(token));
    buffer_release(&user);
    return good;
}

/* Claims, and now and then a header, of the fuzzer's. */
static void try_signed(struct input *in)
{
    struct buffer token = {0};
    uint8_t how = input_u8(in);
    struct bytes header = bytes_text("{\"alg\":\"HS256\",\"typ\":\"JWT\"}");
    if (how > 200)
        header = input_bytes(in, 100);
    struct bytes claims = bytes_of(in->data, in->size < PART_MAX ? in->size : PART_MAX);
    put_base64url(&token, header);
    buffer_put_u8(&token, '.');
    put_base64url(&token, claims);
    put_signature(&token);
    try_token(buffer_bytes(&token));
    if (how % 4 == 0) { /* one bit of it differs */
        token.data[how % token.size] ^= 4;
        assert(!try_token(buffer_bytes(&token)));
    }
    buffer_release(&token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct token_keys *keys = NULL;
    char error[200] = "";
    uint8_t kind = input_u8(&in) % 4;
    struct bytes rest = bytes_of(in.data, in.size);
    if (kind < 2) {
        try_signed(&in);
    } else if (kind == 2) {
        assert(!try_token(rest));
    } else {
        enum status status = token_keys_parse(rest, &(struct token_settings){0}, &keys, error, sizeof error);
        assert((status == STATUS_OK) == (error[0] == '\0'));
        if (status == STATUS_OK)
            token_keys_release(keys);
    }
    return 0;
}
