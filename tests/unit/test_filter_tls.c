/* test_filter_tls.c — TLS without sockets: a client of cluster/tls.h against the filter of a listener, in one thread.
 *
 * Certificates are made here, by one CA, into a directory of the test. */
#include "node/net/chain.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* After cmocka: our own view of the client's OpenSSL, where the test wants what tls.h does not offer. */
#include "cluster/tls_private.h"

#define DAY 86400

struct world {
    char directory[64];
    EVP_PKEY *ca_key;
    X509 *ca;
    struct tls_context *server, *client;
    struct chain chain;
    struct chain_scratch scratch;
    struct tls_session *session; /* the client's */
    struct buffer to_server, to_client, server_plain, client_plain;
    enum filter_result result; /* of the server */
    enum tls_result shaken;    /* of the client */
    unsigned works;            /* steps of the handshake that wanted another thread */
    char error[TLS_ERROR_MAX];
};

/* ---- files ---- */

static const char *path(const struct world *w, const char *name)
{
    static char paths[64][128];
    static unsigned next;
    char *out = paths[next++ % 64];
    snprintf(out, sizeof(paths[0]), "%s/%s", w->directory, name);
    return out;
}

static FILE *create(const struct world *w, const char *name, mode_t mode)
{
    FILE *file = fopen(path(w, name), "w");
    assert_non_null(file);
    assert_int_equal(fchmod(fileno(file), mode), 0);
    return file;
}

static void write_text(const struct world *w, const char *name, mode_t mode, const char *text)
{
    FILE *file = create(w, name, mode);
    fputs(text, file);
    fclose(file);
}

static X509 *certificate(EVP_PKEY *key, const char *common_name, long from_s, long until_s)
{
    static long serial;
    X509 *made = X509_new();
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(made), from_s);
    X509_gmtime_adj(X509_getm_notAfter(made), until_s);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0);
    X509_set_pubkey(made, key);
    return made;
}

static void extend(X509 *made, int what, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, what, value);
    assert_non_null(extension);
    X509_add_ext(made, extension, -1);
    X509_EXTENSION_free(extension);
}

static void write_pair(const struct world *w, const char *name, X509 *made, EVP_PKEY *key)
{
    char file_name[64];
    snprintf(file_name, sizeof(file_name), "%s.pem", name);
    FILE *file = create(w, file_name, 0644);
    PEM_write_X509(file, made);
    fclose(file);
    snprintf(file_name, sizeof(file_name), "%s.key", name);
    file = create(w, file_name, 0600);
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

static void given_ca(struct world *w)
{
    w->ca_key = EVP_EC_gen("P-256");
    w->ca = certificate(w->ca_key, "ca", -DAY, 365 * DAY);
    X509_set_issuer_name(w->ca, X509_get_subject_name(w->ca));
    extend(w->ca, NID_basic_constraints, "critical,CA:TRUE");
    X509_sign(w->ca, w->ca_key, EVP_sha256());
    write_pair(w, "ca", w->ca, w->ca_key);
}

/* NAME.pem and NAME.key, by our CA; returns the serial number. */
static long given_certificate_from(struct world *w, const char *name, const char *common_name, const char *alternative, long from_s,
                                   long until_s)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *made = certificate(key, common_name, from_s, until_s);
    X509_set_issuer_name(made, X509_get_subject_name(w->ca));
    if (alternative != NULL)
        extend(made, NID_subject_alt_name, alternative);
    X509_sign(made, w->ca_key, EVP_sha256());
    long serial = ASN1_INTEGER_get(X509_get_serialNumber(made));
    write_pair(w, name, made, key);
    X509_free(made);
    EVP_PKEY_free(key);
    return serial;
}

static long given_certificate(struct world *w, const char *name, const char *common_name, const char *alternative, long until_s)
{
    return given_certificate_from(w, name, common_name, alternative, -2 * DAY, until_s);
}

static void given_revoked(struct world *w, long serial)
{
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0), *later = X509_gmtime_adj(NULL, DAY);
    X509_CRL_set_version(list, 1);
    X509_CRL_set_issuer_name(list, X509_get_subject_name(w->ca));
    X509_CRL_set1_lastUpdate(list, now);
    X509_CRL_set1_nextUpdate(list, later);
    if (serial != 0) {
        X509_REVOKED *entry = X509_REVOKED_new();
        ASN1_INTEGER *number = ASN1_INTEGER_new();
        ASN1_INTEGER_set(number, serial);
        X509_REVOKED_set_serialNumber(entry, number);
        X509_REVOKED_set_revocationDate(entry, now);
        X509_CRL_add0_revoked(list, entry);
        ASN1_INTEGER_free(number);
    }
    X509_CRL_sign(list, w->ca_key, EVP_sha256());
    FILE *file = create(w, "crl.pem", 0644);
    PEM_write_X509_CRL(file, list);
    fclose(file);
    X509_CRL_free(list);
    ASN1_TIME_free(now);
    ASN1_TIME_free(later);
}

static int given_files(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    strcpy(w->directory, "/tmp/coterie-tls-XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    given_ca(w);
    given_certificate(w, "server", "localhost", "DNS:localhost", 30 * DAY);
    *state = w;
    return 0;
}

static void hang_up(struct world *w)
{
    chain_release(&w->chain);
    tls_session_free(w->session);
    w->session = NULL;
    struct buffer *const buffers[] = {&w->to_server, &w->to_client, &w->server_plain, &w->client_plain};
    for (size_t i = 0; i < 4; i++)
        buffer_release(buffers[i]);
}

static int remove_files(void **state)
{
    struct world *w = *state;
    char command[128];
    hang_up(w);
    chain_scratch_release(&w->scratch);
    tls_context_release(w->server);
    tls_context_release(w->client);
    X509_free(w->ca);
    EVP_PKEY_free(w->ca_key);
    snprintf(command, sizeof(command), "rm -r '%s'", w->directory);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

/* ---- the two ends ---- */

static struct tls_settings of_server(const struct world *w)
{
    return (struct tls_settings){.certificate = path(w, "server.pem"), .key = path(w, "server.key"), .protocol = "mqtt"};
}

static void given_server(struct world *w, const struct tls_settings *settings)
{
    tls_context_release(w->server);
    if (tls_context_open(settings, &w->server, w->error) != STATUS_OK)
        fail_msg("%s", w->error);
}

/* `certificate`: "alice" or NULL. */
static void given_client(struct world *w, const char *certificate)
{
    char pem[64], key[64];
    snprintf(pem, sizeof(pem), "%s.pem", certificate != NULL ? certificate : "");
    snprintf(key, sizeof(key), "%s.key", certificate != NULL ? certificate : "");
    const struct tls_settings settings = {.certificate = certificate != NULL ? path(w, pem) : NULL,
                                          .key = certificate != NULL ? path(w, key) : NULL,
                                          .ca = path(w, "ca.pem"),
                                          .verify = TLS_VERIFY_REQUIRED};
    tls_context_release(w->client);
    if (tls_context_open(&settings, &w->client, w->error) != STATUS_OK)
        fail_msg("%s", w->error);
}

static void to_server(struct world *w, size_t step)
{
    struct bytes rest = buffer_bytes(&w->to_server);
    while (rest.size > 0 && (w->result == FILTER_OK || w->result == FILTER_WORK)) {
        size_t size = step == 0 || step > rest.size ? rest.size : step;
        w->result = chain_receive(&w->chain, &w->scratch, bytes_of(rest.data, size), &w->server_plain, &w->to_client);
        while (w->result == FILTER_WORK) {
            chain_work(&w->chain);
            w->works++;
            w->result = chain_receive(&w->chain, &w->scratch, bytes_of(NULL, 0), &w->server_plain, &w->to_client);
        }
        rest.data += size;
        rest.size -= size;
    }
    buffer_clear(&w->to_server);
}

/* One flight after the other until neither has anything to say; `step`: bytes at a time to the server, 0 = all. */
static void when_they_shake_hands(struct world *w, size_t step)
{
    w->shaken = TLS_OK;
    w->result = FILTER_OK;
    w->works = 0;
    if (w->session == NULL)
        w->session = tls_session_new(w->client, false);
    chain_add(&w->chain, filter_tls_new(w->server));
    for (int flights = 0; flights < 6; flights++) {
        struct buffer in = w->to_client;
        w->to_client = (struct buffer){0};
        if (w->shaken == TLS_OK)
            w->shaken = tls_session_handshake(w->session, buffer_bytes(&in), &w->to_server);
        else if (w->shaken == TLS_DONE && tls_session_receive(w->session, buffer_bytes(&in), &w->client_plain, &w->to_server) != TLS_OK)
            w->shaken = TLS_FAULT;
        if (w->shaken == TLS_DONE && flights < 4)
            tls_session_receive(w->session, bytes_of(NULL, 0), &w->client_plain, &w->to_server);
        buffer_release(&in);
        to_server(w, step);
    }
}

static void then_they_talk(struct world *w)
{
    if (w->shaken != TLS_DONE || !chain_open(&w->chain))
        fail_msg("client: %s", tls_session_fault(w->session));
    assert_int_equal(tls_session_send(w->session, bytes_text("hello"), &w->to_server), TLS_OK);
    to_server(w, 0);
    assert_int_equal(w->server_plain.size, 5);
    assert_memory_equal(w->server_plain.data, "hello", 5);
    assert_int_equal(chain_send(&w->chain, &w->scratch, bytes_text("answer"), &w->to_client), FILTER_OK);
    assert_int_equal(tls_session_receive(w->session, buffer_bytes(&w->to_client), &w->client_plain, &w->to_server), TLS_OK);
    assert_memory_equal(w->client_plain.data, "answer", 6);
}

static void then_server_refuses(struct world *w, const char *sentence)
{
    char why[400];
    assert_int_equal(w->result, FILTER_FAULT);
    assert_false(chain_open(&w->chain));
    chain_fault(&w->chain, why, sizeof(why));
    if (strstr(why, sentence) == NULL)
        fail_msg("expected '%s', got: %s", sentence, why);
}

static struct tls_peer peer_of(const struct world *w)
{
    struct filter_facts facts;
    chain_facts(&w->chain, &facts);
    assert_true(facts.encrypted);
    return facts.tls;
}

/* ---- the tests ---- */

static void a_client_and_a_listener_talk(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    given_client(w, NULL);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_string_equal(peer_of(w).version, "TLSv1.3");
    assert_string_equal(peer_of(w).common_name, "");
}

static void bytes_may_come_one_by_one(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    given_client(w, NULL);
    when_they_shake_hands(w, 1);
    then_they_talk(w);
}

static void a_certificate_names_its_user_in_three_ways(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.ca = path(w, "ca.pem");
    settings.verify = TLS_VERIFY_REQUIRED;
    given_certificate(w, "alice", "alice", "IP:192.0.2.1,URI:urn:device:7,DNS:other", DAY);
    given_server(w, &settings);
    given_client(w, "alice");
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    struct tls_peer peer = peer_of(w);
    assert_string_equal(peer.common_name, "alice");
    assert_string_equal(peer.distinguished_name, "CN=alice");
    assert_string_equal(peer.alternative_name, "urn:device:7");
}

static void a_name_with_a_control_character_is_none(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.ca = path(w, "ca.pem");
    settings.verify = TLS_VERIFY_OPTIONAL;
    given_certificate(w, "bad", "admin\nx", NULL, DAY);
    given_server(w, &settings);
    given_client(w, "bad");
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_string_equal(peer_of(w).common_name, "");
}

static void without_a_certificate_where_one_is_required_nobody_passes(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.ca = path(w, "ca.pem");
    settings.verify = TLS_VERIFY_REQUIRED;
    given_server(w, &settings);
    given_client(w, NULL);
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "did not return a certificate");
}

static void an_optional_certificate_may_be_left_out_but_not_be_wrong(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.ca = path(w, "ca.pem");
    settings.verify = TLS_VERIFY_OPTIONAL;
    given_server(w, &settings);
    given_client(w, NULL);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    hang_up(w);
    given_certificate(w, "old", "old", NULL, -DAY);
    given_client(w, "old");
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "expired");
}

static void a_certificate_that_is_not_valid_yet_counts_where_clocks_may_be_behind(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.ca = path(w, "ca.pem");
    settings.verify = TLS_VERIFY_REQUIRED;
    given_certificate_from(w, "tomorrow", "tomorrow", NULL, DAY, 5 * DAY);
    given_server(w, &settings);
    given_client(w, "tomorrow");
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "not yet valid");
    hang_up(w);
    settings.clocks_may_be_behind = true;
    given_server(w, &settings);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    hang_up(w);
    given_certificate(w, "yesterday", "yesterday", NULL, -DAY);
    given_client(w, "yesterday");
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "expired");
}

static void a_revoked_certificate_is_refused(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.ca = path(w, "ca.pem");
    settings.verify = TLS_VERIFY_REQUIRED;
    settings.crl = path(w, "crl.pem");
    long serial = given_certificate(w, "alice", "alice", NULL, DAY);
    given_revoked(w, 0);
    given_server(w, &settings);
    given_client(w, "alice");
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    hang_up(w);
    given_revoked(w, serial);
    given_server(w, &settings);
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "revoked");
}

static void a_client_that_trusts_another_ca_leaves(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    X509_free(w->ca);
    EVP_PKEY_free(w->ca_key);
    given_ca(w);
    given_client(w, NULL);
    when_they_shake_hands(w, 0);
    assert_int_equal(w->shaken, TLS_FAULT);
    assert_false(chain_open(&w->chain));
}

static void old_versions_and_weak_ciphers_find_nothing_in_common(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    given_client(w, NULL);
    SSL_CTX_set_min_proto_version(w->client->ssl, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(w->client->ssl, TLS1_1_VERSION);
    SSL_CTX_set_cipher_list(w->client->ssl, "ALL:@SECLEVEL=0");
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "protocol");
    hang_up(w);
    given_client(w, NULL);
    SSL_CTX_set_max_proto_version(w->client->ssl, TLS1_2_VERSION);
    SSL_CTX_set_cipher_list(w->client->ssl, "ECDHE-ECDSA-AES128-SHA:AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384");
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "no shared cipher");
    hang_up(w);
    given_client(w, NULL);
    SSL_CTX_set_max_proto_version(w->client->ssl, TLS1_2_VERSION);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_string_equal(peer_of(w).version, "TLSv1.2");
}

static void a_listener_may_want_tls_1_3(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.tls_1_3 = true;
    given_server(w, &settings);
    given_client(w, NULL);
    SSL_CTX_set_max_proto_version(w->client->ssl, TLS1_2_VERSION);
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "protocol");
}

static void a_client_that_names_protocols_names_mqtt(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    given_client(w, NULL);
    SSL_CTX_set_alpn_protos(w->client->ssl, (const unsigned char *)"\x02h2\x04mqtt", 8);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    hang_up(w);
    SSL_CTX_set_alpn_protos(w->client->ssl, (const unsigned char *)"\x02h2\x0fx-amzn-mqtt-ca", 19);
    when_they_shake_hands(w, 0);
    then_server_refuses(w, "application protocol");
}

static void nobody_renegotiates(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    given_client(w, NULL);
    SSL_CTX_set_max_proto_version(w->client->ssl, TLS1_2_VERSION);
    SSL_CTX_clear_options(w->client->ssl, SSL_OP_NO_RENEGOTIATION);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_true((SSL_CTX_get_options(w->server->ssl) & SSL_OP_NO_RENEGOTIATION) != 0);
    assert_true((SSL_CTX_get_options(w->server->ssl) & SSL_OP_NO_COMPRESSION) != 0);
    assert_int_equal(SSL_CTX_get_max_early_data(w->server->ssl), 0);
}

static void only_public_key_work_wants_another_thread(void **state)
{
    struct world *w = *state;
    static const struct {
        const char *client_groups;
        int version;
        bool certificate;
        unsigned works;
    } cases[] = {
        {"P-256", TLS1_3_VERSION, false, 1},
        {"X25519:P-256", TLS1_3_VERSION, false, 2}, /* asked for another key share first */
        {"P-256", TLS1_3_VERSION, true, 2},
        {"P-256", TLS1_2_VERSION, false, 2},
        {"P-256", TLS1_2_VERSION, true, 2},
    };
    given_certificate(w, "alice", "alice", NULL, DAY);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tls_settings settings = of_server(w);
        settings.ca = cases[i].certificate ? path(w, "ca.pem") : NULL;
        settings.verify = cases[i].certificate ? TLS_VERIFY_REQUIRED : TLS_VERIFY_NONE;
        given_server(w, &settings);
        assert_int_equal(SSL_CTX_set1_groups_list(w->server->ssl, "P-256"), 1);
        given_client(w, cases[i].certificate ? "alice" : NULL);
        SSL_CTX_set_max_proto_version(w->client->ssl, cases[i].version);
        assert_int_equal(SSL_CTX_set1_groups_list(w->client->ssl, cases[i].client_groups), 1);
        when_they_shake_hands(w, 0);
        then_they_talk(w);
        assert_int_equal(w->works, cases[i].works);
        hang_up(w);
    }
}

static SSL_SESSION *remembered;

static int remember(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(remembered);
    remembered = session;
    return 1;
}

struct tls_session_head { /* the first field of struct tls_session */
    SSL *ssl;
};

static void a_session_is_resumed_with_its_user_until_files_change(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.ca = path(w, "ca.pem");
    settings.verify = TLS_VERIFY_REQUIRED;
    given_certificate(w, "alice", "alice", NULL, DAY);
    given_server(w, &settings);
    given_client(w, "alice");
    SSL_CTX_set_session_cache_mode(w->client->ssl, SSL_SESS_CACHE_CLIENT);
    SSL_CTX_sess_set_new_cb(w->client->ssl, remember);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_non_null(remembered);
    assert_false(peer_of(w).resumed);

    tls_session_finish(w->session, &w->to_server); /* or OpenSSL forgets what it knows */
    hang_up(w);
    w->session = tls_session_new(w->client, false);
    SSL_set_session(((struct tls_session_head *)w->session)->ssl, remembered);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_true(peer_of(w).resumed);
    assert_string_equal(peer_of(w).common_name, "alice");
    assert_int_equal(w->works, 1);
    tls_session_finish(w->session, &w->to_server);

    given_server(w, &settings); /* as after a reload: other ticket keys */
    hang_up(w);
    w->session = tls_session_new(w->client, false);
    SSL_set_session(((struct tls_session_head *)w->session)->ssl, remembered);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_false(peer_of(w).resumed);
    SSL_SESSION_free(remembered);
    remembered = NULL;
}

/* ---- keys known beforehand ---- */

static const uint8_t bobs_key[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static unsigned clients_key(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key, unsigned key_max)
{
    (void)ssl, (void)hint, (void)identity_max, (void)key_max;
    strcpy(identity, "bob");
    memcpy(key, bobs_key, sizeof(bobs_key));
    return sizeof(bobs_key);
}

static unsigned wrong_key(SSL *ssl, const char *hint, char *identity, unsigned identity_max, unsigned char *key, unsigned key_max)
{
    unsigned size = clients_key(ssl, hint, identity, identity_max, key, key_max);
    key[0] ^= 1;
    return size;
}

static void given_key_file(struct world *w, const char *text, mode_t mode)
{
    write_text(w, "keys", mode, text);
}

static void a_key_known_beforehand_opens_without_certificates(void **state)
{
    struct world *w = *state;
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    given_key_file(w, "# people\nalice:ffffffffffffffffffffffffffffffff\nbob:000102030405060708090a0B0c0d0e0f\n", 0600);
    struct tls_settings settings = {.psk = path(w, "keys"), .protocol = "mqtt"};
    given_server(w, &settings);
    for (size_t i = 0; i < 2; i++) {
        given_client(w, NULL);
        SSL_CTX_set_psk_client_callback(w->client->ssl, clients_key);
        SSL_CTX_set_session_id_context(w->client->ssl, (const unsigned char *)"", 0); /* as other clients are */
        SSL_CTX_set_cipher_list(w->client->ssl, "ECDHE-PSK-CHACHA20-POLY1305");
        SSL_CTX_set_max_proto_version(w->client->ssl, versions[i]);
        when_they_shake_hands(w, 0);
        then_they_talk(w);
        assert_string_equal(peer_of(w).psk_identity, "bob");
        hang_up(w);
    }
    given_key_file(w, "bob:ffffffffffffffffffffffffffffffff\n", 0600);
    given_server(w, &settings);
    for (size_t i = 0; i < 2; i++) {
        SSL_CTX_set_max_proto_version(w->client->ssl, versions[i]);
        when_they_shake_hands(w, 0);
        assert_int_equal(w->result, FILTER_FAULT);
        assert_false(chain_open(&w->chain));
        hang_up(w);
    }
}

static void a_certificate_does_not_borrow_an_identity(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_key_file(w, "bob:000102030405060708090a0b0c0d0e0f\n", 0600);
    settings.psk = path(w, "keys");
    given_server(w, &settings);
    given_client(w, NULL);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_string_equal(peer_of(w).psk_identity, "");

    hang_up(w); /* it names bob, whose key does not fit the cipher, so that nobody asks for the key */
    SSL_CTX_set_ciphersuites(w->client->ssl, "TLS_AES_256_GCM_SHA384");
    SSL_CTX_set_psk_client_callback(w->client->ssl, wrong_key);
    SSL_CTX_set_session_id_context(w->client->ssl, (const unsigned char *)"", 0);
    when_they_shake_hands(w, 0);
    then_they_talk(w);
    assert_string_equal(peer_of(w).psk_identity, "");
}

/* ---- files that cannot be used ---- */

static void then_refused(struct world *w, const struct tls_settings *settings, const char *sentence)
{
    struct tls_context *context;
    assert_int_equal(tls_context_open(settings, &context, w->error), STATUS_INVALID);
    assert_null(context);
    if (strstr(w->error, sentence) == NULL)
        fail_msg("expected '%s', got: %s", sentence, w->error);
}

static void files_that_cannot_be_used_are_named(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    settings.certificate = path(w, "nowhere.pem");
    then_refused(w, &settings, "nowhere.pem: No such file");
    settings = of_server(w);
    settings.key = path(w, "ca.key");
    then_refused(w, &settings, "ca.key: no private key that fits");
    write_text(w, "empty", 0600, "");
    settings.key = path(w, "empty");
    then_refused(w, &settings, "empty: no private key");
    settings = of_server(w);
    settings.ca = path(w, "empty");
    then_refused(w, &settings, "empty: no certificate");
    settings.ca = path(w, "ca.pem");
    settings.crl = path(w, "ca.pem");
    then_refused(w, &settings, "not a list of revoked");
    settings = of_server(w);
    settings.certificate = w->directory;
    then_refused(w, &settings, "not a file");
}

static void secrets_that_everybody_can_read_are_refused(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    assert_int_equal(chmod(path(w, "server.key"), 0644), 0);
    then_refused(w, &settings, "0600");
    assert_int_equal(chmod(path(w, "server.key"), 0640), 0);
    given_server(w, &settings);
    given_key_file(w, "bob:000102030405060708090a0b0c0d0e0f\n", 0604);
    settings.psk = path(w, "keys");
    then_refused(w, &settings, "0600");
}

static void lines_of_keys_that_are_none_are_refused_without_being_shown(void **state)
{
    struct world *w = *state;
    static const char *const lines[] = {"bob\n", ":000102030405060708090a0b0c0d0e0f\n", "bob:0001020304\n", "bob:\n",
                                        "bob:000102030405060708090a0b0c0d0e0g\n", "bob:000102030405060708090a0b0c0d0e0f0\n"};
    struct tls_settings settings = {.psk = path(w, "keys")};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        given_key_file(w, lines[i], 0600);
        then_refused(w, &settings, "line 1: expected identity:key");
        assert_null(strstr(w->error, "0001"));
    }
    given_key_file(w, "# nobody\n", 0600);
    then_refused(w, &settings, "no key");
}

static void the_first_thing_to_expire_is_told(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    int64_t left = tls_context_expiry(w->server) - (int64_t)time(NULL);
    assert_true(left > 29 * DAY && left <= 30 * DAY);
    given_revoked(w, 0);
    settings.ca = path(w, "ca.pem");
    settings.crl = path(w, "crl.pem");
    given_server(w, &settings);
    left = tls_context_expiry(w->server) - (int64_t)time(NULL);
    assert_true(left <= DAY);
}

static void nonsense_is_refused_and_bounded(void **state)
{
    struct world *w = *state;
    struct tls_settings settings = of_server(w);
    given_server(w, &settings);
    chain_add(&w->chain, filter_tls_new(w->server));
    buffer_put(&w->to_server, "\x10\x0e\0\4MQTT\4\2\0\x3c\0\2id", 16);
    to_server(w, 0);
    then_server_refuses(w, "tls: ");
    hang_up(w);
    w->result = FILTER_OK;
    chain_add(&w->chain, filter_tls_new(w->server));
    static uint8_t much[70000];
    assert_int_equal(chain_receive(&w->chain, &w->scratch, bytes_of(much, sizeof(much)), &w->server_plain, &w->to_client),
                     FILTER_FAULT);
}

#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, given_files, remove_files)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILES(a_client_and_a_listener_talk),
        WITH_FILES(bytes_may_come_one_by_one),
        WITH_FILES(a_certificate_names_its_user_in_three_ways),
        WITH_FILES(a_name_with_a_control_character_is_none),
        WITH_FILES(without_a_certificate_where_one_is_required_nobody_passes),
        WITH_FILES(an_optional_certificate_may_be_left_out_but_not_be_wrong),
        WITH_FILES(a_certificate_that_is_not_valid_yet_counts_where_clocks_may_be_behind),
        WITH_FILES(a_revoked_certificate_is_refused),
        WITH_FILES(a_client_that_trusts_another_ca_leaves),
        WITH_FILES(old_versions_and_weak_ciphers_find_nothing_in_common),
        WITH_FILES(a_listener_may_want_tls_1_3),
        WITH_FILES(a_client_that_names_protocols_names_mqtt),
        WITH_FILES(nobody_renegotiates),
        WITH_FILES(only_public_key_work_wants_another_thread),
        WITH_FILES(a_session_is_resumed_with_its_user_until_files_change),
        WITH_FILES(a_key_known_beforehand_opens_without_certificates),
        WITH_FILES(a_certificate_does_not_borrow_an_identity),
        WITH_FILES(files_that_cannot_be_used_are_named),
        WITH_FILES(secrets_that_everybody_can_read_are_refused),
        WITH_FILES(lines_of_keys_that_are_none_are_refused_without_being_shown),
        WITH_FILES(the_first_thing_to_expire_is_told),
        WITH_FILES(nonsense_is_refused_and_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
