/* fuzz_auth.c — any bytes as the users of the configuration, and as the messages of a SCRAM exchange. Nobody who does not
 * know the password gets in: the oracle. A client's second message may repeat the server's nonce, to get that far. */
#include "input.h"
#include "node/client/auth.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define USERS_MAX 120 /* bytes: each password costs thousands of hashes */

static struct auth *known_users(void)
{
    static struct auth *auth;
    if (auth == NULL)
        auth = auth_new(bytes_text("entropy"), "alice:a password that no fuzzer finds");
    return auth;
}

/* "c=biws,r=<nonce of the challenge>,p=<any>", as RFC 5802 has it. */
static void put_final(struct input *in, struct bytes challenge, struct buffer *message)
{
    static const char proof[] = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const uint8_t *end = challenge.size > 0 ? memchr(challenge.data, ',', challenge.size) : NULL;
    uint8_t how = input_u8(in);
    buffer_put_bytes(message, how < 200 ? bytes_text("c=biws,") : input_bytes(in, 20));
    if (end != NULL)
        buffer_put_bytes(message, bytes_of(challenge.data, (size_t)(end - challenge.data)));
    buffer_put_bytes(message, how % 2 == 0 ? bytes_text(",p=") : input_bytes(in, 20));
    buffer_put_bytes(message, how % 8 < 4 ? bytes_text(proof) : input_bytes(in, 60));
}

static void try_exchange(struct input *in)
{
    struct auth_exchange *exchange = auth_begin(known_users(), bytes_text("SCRAM-SHA-256"));
    struct buffer out = {0}, message = {0};
    enum auth_step step = AUTH_CHALLENGE;
    for (int steps = 0; steps < 4 && step == AUTH_CHALLENGE; steps++) {
        uint8_t kind = input_below(in, 4);
        buffer_clear(&message);
        if (kind == 0)
            buffer_put_bytes(&message, bytes_text("n,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL"));
        else if (kind == 1)
            put_final(in, buffer_bytes(&out), &message);
        else
            buffer_put_bytes(&message, input_bytes(in, 250));
        buffer_clear(&out);
        step = auth_continue(exchange, buffer_bytes(&message), &out);
        assert(step != AUTH_DONE && out.size < 1000);
    }
    auth_end(exchange);
    buffer_release(&out);
    buffer_release(&message);
}

static void try_users(struct input *in)
{
    char users[USERS_MAX + 1];
    struct bytes text = input_bytes(in, USERS_MAX);
    if (text.size > 0)
        memcpy(users, text.data, text.size);
    users[text.size] = '\0';
    struct auth *auth = auth_new(bytes_text("entropy"), users);
    unsigned bad = auth_check_users(users);
    assert(bad <= text.size + 1);
    auth_free(auth);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    if (input_u8(&in) < 16)
        try_users(&in);
    else
        try_exchange(&in);
    return 0;
}
