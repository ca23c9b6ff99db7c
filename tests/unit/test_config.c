/* test_config.c — what an operator writes is taken as meant, or refused with the place and what was expected. */
#include "node/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

struct world {
    char directory[64];
    char path[128];
    char error[CONFIG_ERROR_MAX];
    struct config *config;
};

static int given_a_directory(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    strcpy(w->directory, "/tmp/coterie-config-XXXXXX");
    assert_non_null(mkdtemp(w->directory));
    snprintf(w->path, sizeof(w->path), "%s/c.yaml", w->directory);
    *state = w;
    return 0;
}

static int remove_directory(void **state)
{
    struct world *w = *state;
    config_free(w->config);
    unlink(w->path);
    rmdir(w->directory);
    free(w);
    return 0;
}

static enum status when_loaded(struct world *w, const char *text, const char *const *environment)
{
    FILE *file = fopen(w->path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
    config_free(w->config);
    return config_load(w->path, environment, &w->config, w->error);
}

/* `where` is what stands behind the file's name. */
static void then_refused(struct world *w, const char *text, const char *where, const char *sentence)
{
    assert_int_equal(when_loaded(w, text, NULL), STATUS_INVALID);
    assert_null(w->config);
    size_t length = strlen(w->path);
    if (strncmp(w->error, w->path, length) != 0 || strncmp(w->error + length, where, strlen(where)) != 0 ||
        strstr(w->error, sentence) == NULL)
        fail_msg("expected %s ... %s, got: %s", where, sentence, w->error);
}

static void without_a_file_there_is_one_node_on_localhost(void **state)
{
    struct world *w = *state;
    assert_int_equal(config_load(NULL, NULL, &w->config, w->error), STATUS_OK);
    assert_int_equal(w->config->node.id, 1);
    assert_string_equal(w->config->node.data_dir, "./coterie-data");
    assert_int_equal(w->config->listener_count, 1);
    assert_string_equal(w->config->listeners[0].address, "127.0.0.1");
    assert_int_equal(w->config->listeners[0].port, 1883);
    assert_int_equal(w->config->cluster.member_count, 0);
    assert_false(w->config->cluster.bootstrap);
    assert_int_equal(w->config->timeouts.election_ms, 300);
    assert_int_equal(w->config->log.level, LOG_INFO);
}

static void what_is_offered_to_clients_is_an_option_each(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_loaded(w, "", NULL), STATUS_OK);
    assert_int_equal(w->config->limits.offered.maximum_qos, 2);
    assert_true(w->config->limits.offered.retain_available);
    assert_int_equal(when_loaded(w, "limits: {maximum_qos: 1, retain_available: false, topic_alias_max: 0}", NULL),
                     STATUS_OK);
    assert_int_equal(w->config->limits.offered.maximum_qos, 1);
    assert_int_equal(w->config->limits.offered.topic_alias_max, 0);
    assert_false(w->config->limits.offered.retain_available);
    then_refused(w, "limits: {maximum_qos: 3}", ":1: limits.maximum_qos", "from 0 to 2");
}

static void users_are_checked_and_never_shown(void **state)
{
    struct world *w = *state;
    const char *environment[] = {"COTERIE_AUTHENTICATION_USERS=alice:secret,bob", NULL};
    assert_int_equal(when_loaded(w, "authentication: {users: 'alice:secret,bob:word'}", NULL), STATUS_OK);
    assert_string_equal(w->config->authentication.users, "alice:secret,bob:word");
    then_refused(w, "authentication: {users: 'alice:secret,bob'}", ":1: authentication.users", "entry 2");
    assert_null(strstr(w->error, "secret"));
    assert_int_equal(when_loaded(w, "", environment), STATUS_INVALID);
    assert_null(strstr(w->error, "secret"));
    then_refused(w, "authentication: {users_file: /nowhere/users}", ":1: authentication.users_file", "No such file");
}

static void a_file_of_users_comes_behind_the_option(void **state)
{
    struct world *w = *state;
    char path[100], text[200];
    FILE *file;
    snprintf(path, sizeof(path), "%s/users", w->directory);
    file = fopen(path, "w");
    fputs("# people\nbob:word\n", file);
    fclose(file);
    chmod(path, 0600);
    snprintf(text, sizeof(text), "authentication: {users: 'alice:secret', users_file: %s}", path);
    assert_int_equal(when_loaded(w, text, NULL), STATUS_OK);
    assert_string_equal(w->config->authentication.users, "alice:secret\n# people\nbob:word\n");
    unlink(path);
}

static void a_file_of_users_that_everybody_may_read_is_refused(void **state)
{
    struct world *w = *state;
    char path[100], text[200];
    snprintf(path, sizeof(path), "%s/users", w->directory);
    FILE *file = fopen(path, "w");
    fputs("bob:word\n", file);
    fclose(file);
    chmod(path, 0604);
    snprintf(text, sizeof(text), "authentication: {users_file: %s}", path);
    then_refused(w, text, ":1: authentication.users_file", "everybody on this machine may read it");
    unlink(path);
}

static void an_empty_file_means_the_defaults(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_loaded(w, "", NULL), STATUS_OK);
    assert_int_equal(w->config->admin.port, 9883);
}

static const char full[] = "node:\n"
                           "  id: 2\n"
                           "  data_dir: /var/lib/coterie\n"
                           "cluster:\n"
                           "  name: plant\n"
                           "  bootstrap: true\n"
                           "  plain_links: true\n"
                           "  members:\n"
                           "    - {id: 1, link: 'n1:1890'}\n"
                           "    - {id: 2, link: 'n2:1890', admin: 'n2:8883'}\n"
                           "listeners:\n"
                           "  - {kind: tcp, address: 0.0.0.0, port: 1883}\n"
                           "  - kind: tcp\n"
                           "    address: '::1'\n"
                           "    port: 1884\n"
                           "limits:\n"
                           "  queue_messages_max: 7\n"
                           "log: {level: debug, format: json}\n";

static void a_full_file_is_taken_as_written(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_loaded(w, full, NULL), STATUS_OK);
    assert_int_equal(w->config->node.id, 2);
    assert_true(w->config->cluster.bootstrap);
    assert_int_equal(w->config->cluster.member_count, 2);
    assert_string_equal(w->config->cluster.members[0].admin, "");
    assert_string_equal(config_self(w->config)->admin, "n2:8883");
    assert_int_equal(w->config->listener_count, 2);
    assert_string_equal(w->config->listeners[1].address, "::1");
    assert_int_equal(w->config->limits.state.queue_messages_max, 7);
    assert_int_equal(w->config->log.format, LOG_JSON);
}

static void the_environment_wins_over_the_file(void **state)
{
    struct world *w = *state;
    const char *environment[] = {"PATH=/bin", "COTERIE_NODE_ID=1", "COTERIE_LIMITS_QUEUE_MESSAGES_MAX=9", "COTERIE_BIN=x",
                           "COTERIE_CLUSTER_MEMBERS=1=a:1,2=b:2/b:3", "COTERIE_LISTENERS=tcp:[::]:5,tcp:1.2.3.4:6",
                           "COTERIE_CLUSTER_BOOTSTRAP=no", NULL};
    assert_int_equal(when_loaded(w, full, environment), STATUS_OK);
    assert_int_equal(w->config->node.id, 1);
    assert_int_equal(w->config->limits.state.queue_messages_max, 9);
    assert_string_equal(w->config->cluster.members[1].link, "b:2");
    assert_string_equal(w->config->cluster.members[1].admin, "b:3");
    assert_string_equal(w->config->listeners[0].address, "::");
    assert_int_equal(w->config->listeners[1].port, 6);
    assert_false(w->config->cluster.bootstrap);
}

static void a_bad_variable_is_named(void **state)
{
    struct world *w = *state;
    const char *bad[] = {"COTERIE_NODE_ID=many", NULL}, *unknown[] = {"COTERIE_NODE_COLOUR=red", NULL};
    const char *members[] = {"COTERIE_CLUSTER_MEMBERS=a:1", NULL};
    assert_int_equal(config_load(NULL, bad, &w->config, w->error), STATUS_INVALID);
    assert_string_equal(w->error, "COTERIE_NODE_ID: expected a whole number from 1 to 63, got 'many'");
    assert_int_equal(config_load(NULL, unknown, &w->config, w->error), STATUS_INVALID);
    assert_non_null(strstr(w->error, "COTERIE_NODE_COLOUR: no such option"));
    assert_int_equal(config_load(NULL, members, &w->config, w->error), STATUS_INVALID);
    assert_non_null(strstr(w->error, "expected ID=HOST:PORT"));
}

static void what_is_quoted_says_nothing_to_a_terminal(void **state)
{
    struct world *w = *state;
    const char *environment[] = {"COTERIE_LIMITS_X\n\033[2J=1", NULL};
    assert_int_equal(config_load(NULL, environment, &w->config, w->error), STATUS_INVALID);
    assert_memory_equal(w->error, "COTERIE_LIMITS_X??[2J: ", 23);
    then_refused(w, "limits:\n  \"a\\eb\": 1\n", ":2: ", "limits.a?b:");
}

static void an_unknown_key_is_refused_with_its_line(void **state)
{
    then_refused(*state, "node:\n  id: 1\n  colour: red\n", ":3: node.colour: ", "unknown key");
    then_refused(*state, "nodes:\n  id: 1\n", ":2: nodes: ", "unknown key");
}

static void a_wrong_type_is_refused_with_what_was_expected(void **state)
{
    then_refused(*state, "node:\n  id: four\n", ":2: node.id: ", "expected a whole number from 1 to 63");
    then_refused(*state, "node:\n  id: [1]\n", ":2: node.id: ", "expected a whole number from 1 to 63");
    then_refused(*state, "cluster:\n  name: x\n  bootstrap: maybe\n", ":3: cluster.bootstrap: ", "expected true or false");
    then_refused(*state, "listeners: 1883\n", ":1: listeners: ", "Expecting SEQUENCE");
}

static void a_value_out_of_range_is_refused_with_its_line(void **state)
{
    then_refused(*state, "node:\n  data_dir: x\n  id: 64\n", ":3: node.id: ", "from 1 to 63, got '64'");
    then_refused(*state, "node:\n  id: -4\n", ":2: node.id: ", "got '-4'");
    then_refused(*state, "log:\n  level: loud\n", ":2: log.level: ", "expected error, warning, info or debug, got 'loud'");
}

static void a_missing_key_of_a_list_is_named(void **state)
{
    then_refused(*state, "listeners:\n  - address: 0.0.0.0\n    port: 1\n", ":", "kind");
}

static void broken_yaml_is_refused_with_its_line(void **state)
{
    then_refused(*state, "node: {id: 1\nxx", ":1: ", "did not find expected");
    then_refused(*state, "node:\n  id: 1\n  id: 2\n", ":", "already seen");
}

static void a_file_that_is_not_there_says_so(void **state)
{
    struct world *w = *state;
    assert_int_equal(config_load("/nonexistent/c.yaml", NULL, &w->config, w->error), STATUS_INVALID);
    assert_string_equal(w->error, "/nonexistent/c.yaml: No such file or directory");
}

static void values_that_do_not_fit_together_are_refused(void **state)
{
    then_refused(*state, "timeouts:\n  heartbeat_ms: 200\n", ":2: timeouts.heartbeat_ms: ", "a third");
    then_refused(*state, "limits:\n  packet_bytes_max: 200000000\n", ":2: limits.packet_bytes_max: ", "hold a link");
    then_refused(*state,
                 "limits:\n  packet_bytes_max: 35600000\ntimeouts:\n  election_ms: 1000\n  node_timeout_ms: 3000\n",
                 ":2: limits.packet_bytes_max: expected at most 35520512", "one entry of the log");
    then_refused(*state, "cluster:\n  members:\n    - {id: 1, link: 'a:1'}\n    - {id: 1, link: 'b:1'}\n",
                 ":4: cluster.members.1: ", "another member's");
    then_refused(*state, "node:\n  id: 3\ncluster:\n  members:\n    - {id: 1, link: 'a:1'}\n", ":5: cluster.members: ",
                 "not among the members");
    then_refused(*state, "listeners:\n  - {kind: quic, address: 0.0.0.0, port: 1}\n", ":2: listeners.0.kind: ", "quic");
}

static void a_listener_has_options_of_its_own(void **state)
{
    struct world *w = *state;
    assert_int_equal(when_loaded(w,
                                 "listeners:\n"
                                 "  - kind: tls\n"
                                 "    certificate: /c.pem\n"
                                 "    key: /c.key\n"
                                 "    client_certificate: required\n"
                                 "    client_ca: /ca.pem\n"
                                 "    user_from: san\n"
                                 "    proxy_from: [10.0.0.0/8, '::1']\n"
                                 "  - {kind: ws, ws_origins: [], anonymous: yes}\n"
                                 "  - {kind: unix, address: /run/c.sock, mode: '0600'}\n",
                                 NULL),
                     STATUS_OK);
    const struct config_listener *tls = &w->config->listeners[0], *ws = tls + 1;
    assert_int_equal(tls->port, 8883);
    assert_string_equal(tls->address, "0.0.0.0");
    assert_false(tls->anonymous);
    assert_int_equal(tls->client_certificate, CLIENT_CERTIFICATE_REQUIRED);
    assert_int_equal(tls->user_from, USER_FROM_SAN);
    assert_string_equal(tls->proxy_from, "10.0.0.0/8,::1");
    assert_int_equal(ws->port, 8083);
    assert_true(ws->anonymous);
    assert_string_equal(ws->ws_origins, "");
    assert_string_equal(w->config->listeners[2].mode, "0600");
}

static void the_environment_gives_a_listener_options_too(void **state)
{
    struct world *w = *state;
    const char *environment[] = {"COTERIE_LISTENERS=tcp:1.2.3.4:5 anonymous=true proxy_from=10.0.0.0/8+::1, unix:/a/b mode=600,"
                                 "ws:[::1]:7  ws_path=/mqtt ",
                                 NULL};
    assert_int_equal(when_loaded(w, "", environment), STATUS_OK);
    assert_int_equal(w->config->listener_count, 3);
    assert_true(w->config->listeners[0].anonymous);
    assert_string_equal(w->config->listeners[0].proxy_from, "10.0.0.0/8,::1");
    assert_string_equal(w->config->listeners[1].address, "/a/b");
    assert_string_equal(w->config->listeners[2].ws_path, "/mqtt");
}

static void anonymous_clients_need_an_explicit_word(void **state)
{
    struct world *w = *state;
    static const char *const kinds[] = {"{kind: tcp}", "{kind: ws}", "{kind: unix, address: /x}",
                                        "{kind: tls, certificate: /c, key: /k}", "{kind: wss, certificate: /c, key: /k}"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char text[128];
        snprintf(text, sizeof(text), "listeners: [%s]\n", kinds[i]);
        assert_int_equal(when_loaded(w, text, NULL), STATUS_OK);
        assert_false(w->config->listeners[0].anonymous);
    }
    assert_int_equal(when_loaded(w, "", NULL), STATUS_OK); /* nothing said: this machine alone */
    assert_true(w->config->listeners[0].anonymous);
    assert_string_equal(w->config->listeners[0].address, "127.0.0.1");
}

static void options_of_a_listener_that_cannot_be_meant_are_refused(void **state)
{
    then_refused(*state, "listeners:\n  - kind: tcp\n    certificate: /x\n", ":3: listeners.0.certificate: ", "of no use");
    then_refused(*state, "listeners:\n  - kind: tls\n    anonymous: maybe\n", ":3: listeners.0.anonymous: ", "true or false");
    then_refused(*state, "listeners:\n  - {kind: tcp}\n  - kind: tcp\n    port: 70000\n", ":4: listeners.1.port: ", "65535");
    then_refused(*state, "listeners:\n  - {kind: tcp}\n  - {kind: tcp}\n", ":3: listeners.1: ", "another listener's");
    then_refused(*state, "listeners:\n  - {kind: tcp, proxy_from: 10.0.0.0/8}\n", ":2: listeners.0.proxy_from: ", "list of texts");
    then_refused(*state, "listeners:\n  - {kind: tcp, colour: red}\n", ":2: listeners.0.colour: ", "unknown key");
    then_refused(*state, "listeners:\n  - {kind: unix, address: here}\n", ":2: listeners.0.address: ", "absolute path");
}

static void links_are_encrypted_or_local_or_somebody_says_that_they_need_not_be(void **state)
{
    struct world *w = *state;
    static const char members[] = "cluster:\n  members: [{id: 1, link: 'a:1'}, {id: 2, link: 'b:1'}]\n";
    char text[256];
    then_refused(w, members, ":2: cluster.certificate: ", "need TLS");
    snprintf(text, sizeof(text), "%s  plain_links: true\n", members);
    assert_int_equal(when_loaded(w, text, NULL), STATUS_OK);
    snprintf(text, sizeof(text), "%s  certificate: /c\n  key: /k\n  ca: /a\n", members);
    assert_int_equal(when_loaded(w, text, NULL), STATUS_OK);
    snprintf(text, sizeof(text), "%s  certificate: /c\n  key: /k\n", members);
    then_refused(w, text, ":", "come together");
    assert_int_equal(when_loaded(w, "cluster: {members: [{id: 1, link: '127.0.0.1:1'}, {id: 2, link: '[::1]:1'}]}\n", NULL),
                     STATUS_OK);
    then_refused(w, "cluster: {members: [{id: 1, link: '127.0.0.1:1'}, {id: 2, link: '[::1]:1'}], listen: '0.0.0.0:1'}\n",
                 ":1: cluster.certificate: ", "need TLS");
}

static void the_admin_http_beyond_this_machine_needs_tls_and_somebody_who_may_use_it(void **state)
{
    struct world *w = *state;
    static const char tls[] = "  certificate: c\n  key: k\n";
    char text[512];
    then_refused(w, "admin:\n  address: 0.0.0.0\n", ":2: admin.address: ", "needs TLS");
    then_refused(w, "admin:\n  token: sixteen-bytes-16\n  address: 10.0.0.1\n", ":3: admin.address: ", "needs TLS");
    then_refused(w, "admin:\n  address: '::'\n", ":2: admin.address: ", "needs TLS");
    then_refused(w, "admin:\n  address: example.net\n", ":2: admin.address: ", "literal");
    snprintf(text, sizeof(text), "admin:\n  address: 0.0.0.0\n%s", tls);
    then_refused(w, text, ":3: admin.certificate: ", "expected admin.token_file, admin.token or admin.client_ca");
    then_refused(w, "admin:\n  certificate: c\n", ":2: admin.key: ", "come together");
    then_refused(w, "admin:\n  key: k\n", ":2: admin.certificate: ", "come together");
    then_refused(w, "admin:\n  client_ca: c\n  writers: [a]\n", ":2: admin.client_ca: ", "without admin.certificate");
    then_refused(w, "admin:\n  writers: [a]\n", ":2: admin.writers: ", "without admin.client_ca");
    snprintf(text, sizeof(text), "admin:\n  client_ca: ca\n%s", tls);
    then_refused(w, text, ":2: admin.client_ca: ", "admin.readers or admin.writers");
    static const char *const rights[] = {"  token: sixteen-bytes-16\n", "  token_file: f\n", "  client_ca: ca\n  readers: ['*']\n"};
    for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
        snprintf(text, sizeof(text), "admin:\n  address: 0.0.0.0\n%s%s", tls, rights[i]);
        assert_int_equal(when_loaded(w, text, NULL), STATUS_OK);
    }
    assert_string_equal(w->config->admin.readers, "*");
    assert_int_equal(when_loaded(w, "admin:\n  address: '::1'\n  token_file: f\n", NULL), STATUS_OK);
    assert_int_equal(when_loaded(w, "admin:\n  address: 0.0.0.0\n  port: 0\n", NULL), STATUS_OK);
}

static void addresses_are_split_at_the_port(void **state)
{
    (void)state;
    char host[16];
    uint32_t port = 0;
    assert_true(config_split_address("n1:1890", host, sizeof(host), &port));
    assert_string_equal(host, "n1");
    assert_int_equal(port, 1890);
    assert_true(config_split_address("[::1]:7", host, sizeof(host), &port));
    assert_string_equal(host, "::1");
    assert_false(config_split_address("::1:7", host, sizeof(host), &port));
    assert_false(config_split_address("n1", host, sizeof(host), &port));
    assert_false(config_split_address("n1:70000", host, sizeof(host), &port));
    assert_false(config_split_address(":7", host, sizeof(host), &port));
    assert_false(config_split_address("a-name-too-long-for-it:7", host, sizeof(host), &port));
}

#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, given_a_directory, remove_directory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_DIRECTORY(without_a_file_there_is_one_node_on_localhost),
        WITH_DIRECTORY(an_empty_file_means_the_defaults),
        WITH_DIRECTORY(users_are_checked_and_never_shown),
        WITH_DIRECTORY(a_file_of_users_comes_behind_the_option),
        WITH_DIRECTORY(a_file_of_users_that_everybody_may_read_is_refused),
        WITH_DIRECTORY(what_is_offered_to_clients_is_an_option_each),
        WITH_DIRECTORY(a_full_file_is_taken_as_written),
        WITH_DIRECTORY(the_environment_wins_over_the_file),
        WITH_DIRECTORY(a_bad_variable_is_named),
        WITH_DIRECTORY(what_is_quoted_says_nothing_to_a_terminal),
        WITH_DIRECTORY(an_unknown_key_is_refused_with_its_line),
        WITH_DIRECTORY(a_wrong_type_is_refused_with_what_was_expected),
        WITH_DIRECTORY(a_value_out_of_range_is_refused_with_its_line),
        WITH_DIRECTORY(a_missing_key_of_a_list_is_named),
        WITH_DIRECTORY(broken_yaml_is_refused_with_its_line),
        WITH_DIRECTORY(a_file_that_is_not_there_says_so),
        WITH_DIRECTORY(values_that_do_not_fit_together_are_refused),
        WITH_DIRECTORY(a_listener_has_options_of_its_own),
        WITH_DIRECTORY(the_environment_gives_a_listener_options_too),
        WITH_DIRECTORY(anonymous_clients_need_an_explicit_word),
        WITH_DIRECTORY(options_of_a_listener_that_cannot_be_meant_are_refused),
        WITH_DIRECTORY(links_are_encrypted_or_local_or_somebody_says_that_they_need_not_be),
        cmocka_unit_test_setup_teardown(the_admin_http_beyond_this_machine_needs_tls_and_somebody_who_may_use_it, given_a_directory,
                                        remove_directory),
        cmocka_unit_test(addresses_are_split_at_the_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
