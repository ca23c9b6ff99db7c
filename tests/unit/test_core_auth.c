/* test_core_auth.c — enhanced authentication: AUTH before CONNACK and afterwards, with SCRAM-SHA-256; and the users. */
#include "core_world.h"

#include "node/client/auth_private.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

/* The password "pencil", as RFC 7677 has it: salt W22ZaJ0SNY7soEsUEjb6gQ==, 4096 iterations. */
#define USERS                                                                                                          \
    "user:pencil,other:word\n# nobody, never\r\n"                                                                      \
    "kept:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"                   \
    "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static int one_node(void **state)
{
    struct core_options options = {.users = USERS};

    *state = cores_new_with(1, &options);
    return 0;
}

/* ---- the client's side of SCRAM ---- */

static void hmac(const uint8_t key[32], const char *text, uint8_t out[32])
{
    auth_hmac(bytes_of(key, 32), bytes_text(text), out);
}

/* The answer to the challenge `server`, and what the server has to prove then. */
static void answer(const char *bare, const char *server, const char *password, char final[300], char expected[80])
{
    const char *salt_at = strstr(server, ",s=") + 3, *iterations_at = strstr(server, ",i=");
    uint8_t salt[64], salted[32], key[32], stored[32], signature[32], text[64];
    char nonce[120], without[200], message[600];
    size_t salt_size = 0;

    snprintf(nonce, sizeof(nonce), "%.*s", (int)(salt_at - 3 - (server + 2)), server + 2);
    assert_true(auth_take_base64(bytes_of(salt_at, (size_t)(iterations_at - salt_at)), salt, sizeof(salt), &salt_size));
    PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)salt_size, atoi(iterations_at + 3), EVP_sha256(), 32,
                      salted);
    snprintf(without, sizeof(without), "c=biws,r=%s", nonce);
    snprintf(message, sizeof(message), "%s,%s,%s", bare, server, without);
    hmac(salted, "Client Key", key);
    SHA256(key, 32, stored);
    hmac(stored, message, signature);
    for (int i = 0; i < 32; i++)
        key[i] ^= signature[i];
    EVP_EncodeBlock(text, key, 32);
    snprintf(final, 300, "%s,p=%s", without, (char *)text);
    hmac(salted, "Server Key", key);
    hmac(key, message, signature);
    EVP_EncodeBlock(text, signature, 32);
    snprintf(expected, 80, "v=%s", (char *)text);
}

/* ---- given, when, then ---- */

/* CONNECT with the first message of `user`. */
static struct device when_begins(struct cores *cores, const char *user)
{
    struct device device = when_dials(cores, 1);
    char notation[300];

    snprintf(notation, sizeof(notation), "10 'MQTT' 05 02 0000 (15 'SCRAM-SHA-256' 16 'n,,n=%s,r=abc') '%s-id'", user,
             user);
    when_sends(device, notation);
    return device;
}

/* Takes AUTH 0x18; `server` gets what it says. */
static void then_challenged(struct device device, char server[200])
{
    size_t at, size = first_packet(device, &at);
    const uint8_t *in = line_received(device.line).data;

    assert_int_equal(in[0], 0xf0);
    assert_int_equal(in[at], 0x18);
    at += 2; /* and the length of the properties */
    assert_memory_equal(in + at, "\x15\0\x0dSCRAM-SHA-256\x16\0", 18);
    snprintf(server, 200, "%.*s", in[at + 18], (const char *)in + at + 19);
    assert_memory_equal(server, "r=abc", 5);
    line_take(device.line, size);
}

static void when_proves(struct device device, const char *user, const char *password, char expected[80])
{
    char server[200], bare[100], final[300], notation[500];

    then_challenged(device, server);
    snprintf(bare, sizeof(bare), "n=%s,r=abc", user);
    answer(bare, server, password, final, expected);
    snprintf(notation, sizeof(notation), "f0 18 (15 'SCRAM-SHA-256' 16 '%s')", final);
    when_sends(device, notation);
}

static struct device given_authenticated(struct cores *cores, const char *user, const char *password)
{
    struct device device = when_begins(cores, user);
    char expected[80], notation[300];

    when_proves(device, user, password, expected);
    snprintf(notation, sizeof(notation), "20 00 00 (15 'SCRAM-SHA-256' 16 '%s' 21 03e8 22 0020 27 00100400)",
             expected);
    then_receives(device, notation);
    return device;
}

/* ---- before CONNACK ---- */

static void who_proves_the_password_is_connected_and_told_our_proof(void **state)
{
    struct device device = given_authenticated(*state, "user", "pencil");

    when_sends(device, "c0");
    then_receives(device, "d0");
    given_authenticated(*state, "kept", "pencil");
    assert_int_equal(node_stats(*state, 1).connects[CONNECT_ACCEPTED], 2);
}

static void a_wrong_password_and_an_unknown_user_are_told_the_same(void **state)
{
    const char *users[] = {"user", "nobody", "kept"};
    char expected[80];

    for (int i = 0; i < 3; i++) {
        struct device device = when_begins(*state, users[i]);

        when_proves(device, users[i], "guess", expected);
        then_turned_away(device, 0x87);
    }
    assert_int_equal(node_stats(*state, 1).connects[CONNECT_REFUSED_AUTHENTICATION], 3);
}

static void an_unknown_user_has_the_same_salt_every_time(void **state)
{
    char first[200], second[200];

    then_challenged(when_begins(*state, "nobody"), first);
    then_challenged(when_begins(*state, "nobody"), second);
    assert_string_equal(strstr(first, ",s="), strstr(second, ",s="));
    assert_string_not_equal(first, second); /* the nonce is fresh */
}

static void a_client_may_want_to_be_asked_first(void **state)
{
    struct device device = when_dials(*state, 1);
    char expected[80];

    when_sends(device, "10 'MQTT' 05 02 0000 (15 'SCRAM-SHA-256') 'id'");
    then_receives(device, "f0 18 (15 'SCRAM-SHA-256')");
    when_sends(device, "f0 18 (15 'SCRAM-SHA-256' 16 'n,,n=user,r=abc')");
    when_proves(device, "user", "pencil", expected);
    then_connack(device, false, 0);
}

static void an_unknown_method_is_refused(void **state)
{
    struct device device = when_dials(*state, 1);

    when_sends(device, "10 'MQTT' 05 02 0000 (15 'SCRAM-SHA-1' 16 'n,,n=user,r=abc') 'id'");
    then_turned_away(device, 0x8c);
}

static void only_auth_may_come_before_connack(void **state)
{
    const char *packets[] = {"c0",
                             "30 'a' () <x>",
                             "82 0001 () 'a' 00",
                             "10 'MQTT' 05 02 0000 () 'id'",
                             "f0 19 (15 'SCRAM-SHA-256')",
                             "f0 00 (15 'SCRAM-SHA-256')",
                             "f0 18 (15 'SCRAM-SHA-1')",
                             "30 '' (23 0063) <x>"};
    char server[200];

    for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
        struct device device = when_begins(*state, "user");

        then_challenged(device, server);
        when_sends(device, packets[i]);
        then_turned_away(device, 0x82);
    }
}

static void messages_that_are_no_scram_are_refused(void **state)
{
    const char *firsts[] = {
        "p=tls-unique,,n=user,r=abc", "n,a=admin,n=user,r=abc", "n,,r=abc", "n,,n=user",          "n,,n=,r=a",
        "n,,n=us=er,r=abc",           "n,,n=user,r=",           "x",        "n,,m=x,n=user,r=abc"};
    char notation[300];

    for (size_t i = 0; i < sizeof(firsts) / sizeof(firsts[0]); i++) {
        struct device device = when_dials(*state, 1);

        snprintf(notation, sizeof(notation), "10 'MQTT' 05 02 0000 (15 'SCRAM-SHA-256' 16 '%s') 'id'", firsts[i]);
        when_sends(device, notation);
        then_turned_away(device, 0x82);
    }
}

static void answers_that_do_not_fit_the_challenge_are_refused(void **state)
{
    const char *finals[] = {"c=biws,r=abc,p=AAAA", "c=eSws,r=%s,p=AAAA", "c=biws,r=%s", "c=biws,r=%s,p=", "r=%s", "%s"};
    char server[200], final[300], notation[500];

    for (size_t i = 0; i < sizeof(finals) / sizeof(finals[0]); i++) {
        struct device device = when_begins(*state, "user");

        then_challenged(device, server);
        strstr(server, ",s=")[0] = 0;
        snprintf(final, sizeof(final), finals[i], server + 2);
        snprintf(notation, sizeof(notation), "f0 18 (15 'SCRAM-SHA-256' 16 '%s')", final);
        when_sends(device, notation);
        cores_pass(*state, 1000); /* the last of so many are looked at later */
        then_turned_away(device, 0x87);
    }
}

static void an_exchange_that_is_not_finished_in_time_is_closed(void **state)
{
    char server[200];
    struct device device = when_begins(*state, "user");

    then_challenged(device, server);
    cores_pass(*state, 10100);
    then_closed(device);
}

static void the_will_of_a_connect_that_had_to_wait_is_kept(void **state)
{
    struct device bob = given_client(*state, 1, 4, "bob"), device = when_dials(*state, 1);
    char expected[80];

    when_subscribes(*state, bob, "#", 0);
    when_sends(device, "10 'MQTT' 05 06 0000 (15 'SCRAM-SHA-256' 16 'n,,n=user,r=abc') 'id' () 'will' 'gone'");
    when_proves(device, "user", "pencil", expected);
    then_connack(device, false, 0);
    line_drop(device.line);
    then_message(bob, "will", "gone", 0, 0);
}

static void who_is_refused_leaves_no_will(void **state)
{
    struct device bob = given_client(*state, 1, 4, "bob"), device = when_dials(*state, 1);
    char expected[80];

    when_subscribes(*state, bob, "#", 0);
    when_sends(device, "10 'MQTT' 05 06 0000 (15 'SCRAM-SHA-256' 16 'n,,n=user,r=abc') 'id' () 'will' 'gone'");
    when_proves(device, "user", "guess", expected);
    then_turned_away(device, 0x87);
    then_receives_nothing(bob);
}

/* ---- guesses ---- */

/* Its proof is looked at after so many milliseconds, not sooner. */
static void then_waits(struct cores *cores, struct device device, uint64_t wait_ms)
{
    then_receives_nothing(device);
    cores_pass(cores, wait_ms - 50);
    then_receives_nothing(device);
    cores_pass(cores, 100);
}

static void guessing_at_a_user_is_slow_and_locks_nobody_out(void **state)
{
    const char *users[] = {"user", "nobody"}; /* the same whether there is such a user */
    char expected[80];

    for (int i = 0; i < 2; i++) {
        struct device device;

        for (int guess = 0; guess < 4; guess++) {
            device = when_begins(*state, users[i]);
            when_proves(device, users[i], "guess", expected);
            then_turned_away(device, 0x87);
        }
        device = when_begins(*state, users[i]);
        when_proves(device, users[i], "guess", expected);
        then_waits(*state, device, 250);
        then_turned_away(device, 0x87);
        device = when_begins(*state, users[i]);
        when_proves(device, users[i], "pencil", expected);
        then_waits(*state, device, 500);
        if (i == 0)
            then_connack(device, false, 0);
        else
            then_turned_away(device, 0x87);
    }
    given_authenticated(*state, "user", "pencil"); /* the right one has cleared it */
    given_authenticated(*state, "kept", "pencil"); /* whom nobody guessed at */
    assert_int_equal(node_stats(*state, 1).logins_slowed, 4);
}

static void who_leaves_while_its_proof_waits_leaves_nothing(void **state)
{
    struct device device;
    char expected[80];

    for (int guess = 0; guess < 4; guess++) {
        device = when_begins(*state, "user");
        when_proves(device, "user", "guess", expected);
        then_turned_away(device, 0x87);
    }
    device = when_begins(*state, "user");
    when_proves(device, "user", "pencil", expected);
    line_drop(device.line);
    cores_pass(*state, 1000);
    assert_int_equal(node_stats(*state, 1).connections, 0);
}

/* ---- afterwards ---- */

#define AGAIN "f0 19 (15 'SCRAM-SHA-256' 16 'n,,n=user,r=abc')"

static void a_client_may_authenticate_again_and_is_served_meanwhile(void **state)
{
    struct device device = given_authenticated(*state, "user", "pencil");
    char expected[80], notation[300];

    for (int i = 0; i < 2; i++) {
        when_sends(device, AGAIN);
        when_proves(device, "user", "pencil", expected);
        snprintf(notation, sizeof(notation), "f0 00 (15 'SCRAM-SHA-256' 16 '%s')", expected);
        then_receives(device, notation);
        when_sends(device, "c0");
        then_receives(device, "d0");
    }
}

static void authenticating_again_with_a_wrong_password_or_as_another_ends_the_connection(void **state)
{
    struct device device = given_authenticated(*state, "user", "pencil");
    char expected[80];

    when_sends(device, AGAIN);
    when_proves(device, "user", "guess", expected);
    then_disconnected(device, 0x87);
    device = given_authenticated(*state, "user", "pencil");
    when_sends(device, "f0 19 (15 'SCRAM-SHA-256' 16 'n,,n=other,r=abc')");
    when_proves(device, "other", "word", expected);
    then_disconnected(device, 0x87);
}

static void auth_that_does_not_belong_there_ends_the_connection(void **state)
{
    const char *packets[] = {"f0 18 (15 'SCRAM-SHA-256' 16 'x')", "f0 19 (15 'SCRAM-SHA-1' 16 'x')"};
    char server[200];

    for (size_t i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
        struct device device = given_authenticated(*state, "user", "pencil");

        when_sends(device, packets[i]);
        then_disconnected(device, 0x82);
    }
    {
        struct device device = given_authenticated(*state, "user", "pencil");

        when_sends(device, AGAIN);
        then_challenged(device, server);
        when_sends(device, AGAIN); /* while one goes on */
        then_disconnected(device, 0x82);
    }
}

/* ---- users ---- */

static void entries_that_are_no_user_are_named_by_their_number(void **state)
{
    (void)state;
    assert_int_equal(auth_check_users(USERS), 0);
    assert_int_equal(auth_check_users(""), 0);
    assert_int_equal(auth_check_users("a:b,c"), 2);
    assert_int_equal(auth_check_users("a:b\n#c\n:d"), 2);
    assert_int_equal(auth_check_users("a:"), 1);
    assert_int_equal(auth_check_users("a:SCRAM-SHA-256$4096:c2FsdA==$c2hvcnQ=:c2hvcnQ="), 1);
    assert_int_equal(auth_check_users("a:SCRAM-SHA-256$0:c2FsdA==$x:y"), 1);
}

#define ON_ONE_NODE(test) cmocka_unit_test_setup_teardown(test, one_node, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_ONE_NODE(who_proves_the_password_is_connected_and_told_our_proof),
        ON_ONE_NODE(a_wrong_password_and_an_unknown_user_are_told_the_same),
        ON_ONE_NODE(an_unknown_user_has_the_same_salt_every_time),
        ON_ONE_NODE(a_client_may_want_to_be_asked_first),
        ON_ONE_NODE(an_unknown_method_is_refused),
        ON_ONE_NODE(only_auth_may_come_before_connack),
        ON_ONE_NODE(messages_that_are_no_scram_are_refused),
        ON_ONE_NODE(answers_that_do_not_fit_the_challenge_are_refused),
        ON_ONE_NODE(an_exchange_that_is_not_finished_in_time_is_closed),
        ON_ONE_NODE(the_will_of_a_connect_that_had_to_wait_is_kept),
        ON_ONE_NODE(who_is_refused_leaves_no_will),
        ON_ONE_NODE(guessing_at_a_user_is_slow_and_locks_nobody_out),
        ON_ONE_NODE(who_leaves_while_its_proof_waits_leaves_nothing),
        ON_ONE_NODE(a_client_may_authenticate_again_and_is_served_meanwhile),
        ON_ONE_NODE(authenticating_again_with_a_wrong_password_or_as_another_ends_the_connection),
        ON_ONE_NODE(auth_that_does_not_belong_there_ends_the_connection),
        cmocka_unit_test(entries_that_are_no_user_are_named_by_their_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
