/* config.c — the options, and how they are read.
 *
 *   file --libcyaml, schema from `options`--> raw values --> option_set (range) --> struct config --> config_check
 *   environment -----------------------------------------------^
 *
 * To add an option: its field in config.h and a row in `options`; of a listener: config_listeners.c. Everything else
 * follows from the row; what must fit together is in config_check.c. libcyaml reads whole numbers and texts into `struct
 * raw`, one pointer per option (NULL: not in the file), so that a default is never mistaken for a value. Where libcyaml's
 * message names no usable line (unknown keys) or we find the fault ourselves (ranges), the file is walked again with
 * libyaml, on which libcyaml stands, to find the line of a key. */
#include "config_private.h"

#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#define USERS_BYTES_MAX   (4 * 1024 * 1024)
#define LIST_ENTRIES_MAX  256

#define AT(member) offsetof(struct config, member)
#define KIB        1024ll
#define MIB        (1024 * KIB)
#define GIB        (1024 * MIB)
#define ANY_U32    UINT32_MAX
#define ANY_U64    INT64_MAX

/* clang-format off */
static const struct option options[] = {
    /* section, key, type, field, min, max, default, meaning */
    {"node",     "id",                    OPTION_U32,  AT(node.id),                          1,       63,        "1",        "number of this node in its cluster"},
    {"node",     "data_dir",              OPTION_TEXT, AT(node.data_dir),                    1,       3072,      "./coterie-data", "directory of everything this node remembers"},
    {"node",     "client_address",        OPTION_TEXT, AT(node.client_address),              0,       255,       "",         "host:port told to clients in a Server Reference"},
    {"node",     "io_threads",            OPTION_U32,  AT(node.io_threads),                  0,       0,         "0",        "threads for sockets; 0: they share the core's"},
    {"node",     "user",                  OPTION_TEXT, AT(node.user),                        0,       255,       "",         "started as root, become this user"},
    {"node",     "core_dumps",            OPTION_BOOL, AT(node.core_dumps),                  0,       1,         "false",    "true: core dumps and debuggers see keys and passwords"},
    {"node",     "confine_writes",        OPTION_BOOL, AT(node.confine_writes),              0,       1,         "true",     "where the kernel has Landlock, nothing outside of data_dir can be written"},
    {"node",     "system_call_filter",    OPTION_CHOICE, AT(node.system_call_filter),        0,       0,         "auto",     "off|log|on|auto: the kernel refuses, or logs, what a node has no need to call; auto: on where it can be"},
    {"cluster",  "name",                  OPTION_TEXT, AT(cluster.name),                     1,       64,        "coterie",  "nodes of another name are refused"},
    {"cluster",  "bootstrap",             OPTION_BOOL, AT(cluster.bootstrap),                0,       1,         "false",    "create the cluster if this node has no data yet"},
    {"cluster",  "replace",               OPTION_U64,  AT(cluster.replace),                  0,       ANY_U64,   "0",        "number of the replacement to make if this node lost its data; greater each time"},
    {"cluster",  "listen",                OPTION_TEXT, AT(cluster.listen),                   0,       255,       "",         "host:port to bind for the other nodes; default: the own member's link"},
    {"cluster",  "certificate",           OPTION_TEXT, AT(cluster.certificate),              0,       3072,      "",         "PEM file: this node's certificate for links (deploy/certificates)"},
    {"cluster",  "key",                   OPTION_TEXT, AT(cluster.key),                      0,       3072,      "",         "PEM file: key of that certificate"},
    {"cluster",  "ca",                    OPTION_TEXT, AT(cluster.ca),                       0,       3072,      "",         "PEM file: the cluster's own CA, which nobody else may use"},
    {"cluster",  "crl",                   OPTION_TEXT, AT(cluster.crl),                      0,       3072,      "",         "PEM file: revoked certificates of nodes"},
    {"cluster",  "plain_links",           OPTION_BOOL, AT(cluster.plain_links),              0,       1,         "false",    "links without TLS beyond this machine: whoever reaches them is a node"},
    {"admin",    "address",               OPTION_TEXT, AT(admin.address),                    1,       255,       "127.0.0.1", "literal address of the admin HTTP"},
    {"admin",    "token",                 OPTION_SECRET, AT(admin.token),                    0,       1024,      "",         "bearer token of the role write, 16 bytes at least"},
    {"admin",    "token_file",            OPTION_TEXT, AT(admin.token_file),                 0,       3072,      "",         "file of more: lines of `read NAME TOKEN` or `write NAME TOKEN` (deploy/certificates token)"},
    {"admin",    "certificate",           OPTION_TEXT, AT(admin.certificate),                0,       3072,      "",         "PEM file: TLS; every request then needs a token, or a certificate with a role"},
    {"admin",    "key",                   OPTION_TEXT, AT(admin.key),                        0,       3072,      "",         "PEM file: key of that certificate"},
    {"admin",    "client_ca",             OPTION_TEXT, AT(admin.client_ca),                  0,       3072,      "",         "PEM file: issuers of operators' certificates"},
    {"admin",    "crl",                   OPTION_TEXT, AT(admin.crl),                        0,       3072,      "",         "PEM file: revoked ones of them, of each issuer"},
    {"admin",    "user_from",             OPTION_CHOICE, AT(admin.user_from),                0,       0,         "cn",       "cn|san: what of an operator's certificate is its name"},
    {"admin",    "readers",               OPTION_LIST, AT(admin.readers),                    0,       8192,      "",         "names of certificates that may read; '*': all of client_ca"},
    {"admin",    "writers",               OPTION_LIST, AT(admin.writers),                    0,       8192,      "",         "names of certificates that may change things; '*': all of client_ca"},
    {"admin",    "port",                  OPTION_U32,  AT(admin.port),                       0,       65535,     "9883",     "0: no admin HTTP"},
    {"limits",   "packet_bytes_max",      OPTION_U32,  AT(limits.packet_bytes_max),          1024,    268435455, "1048576",  "largest MQTT packet a client may send"},
    {"limits",   "connect_bytes_max",     OPTION_U32,  AT(limits.connect_bytes_max),         1024,    MIB,       "66048",    "largest CONNECT, and AUTH before CONNACK: what a stranger may make this node keep"},
    {"limits",   "connections_max",       OPTION_U32,  AT(limits.connections_max),           1,       10000000,  "1000000",  "clients connected to this node"},
    {"limits",   "pending_max",           OPTION_U32,  AT(limits.pending_max),               1,       10000000,  "20000",    "connections whose CONNECT has not been granted yet"},
    {"limits",   "pending_address_max",   OPTION_U32,  AT(limits.pending_address_max),       1,       10000000,  "10000",    "of them, from one address"},
    {"limits",   "packet_rate_min",       OPTION_U32,  AT(limits.packet_rate_min),           1,       1000000000, "1024",    "bytes per second of a packet that has begun; it may be connect_ms behind"},
    {"limits",   "receive_maximum",       OPTION_U32,  AT(limits.receive_maximum),           1,       65535,     "100",      "QoS 1 and 2 publishes one client may have open"},
    {"limits",   "output_bytes_max",      OPTION_U64,  AT(limits.output_bytes_max),          4 * KIB, ANY_U64,   "1048576",  "unsent bytes per client; beyond, QoS 0 is dropped"},
    {"limits",   "hold_bytes_max",        OPTION_U64,  AT(limits.hold_bytes_max),            MIB,     ANY_U64,   "67108864", "publishes held while there is no leader"},
    {"limits",   "memory_bytes_max",      OPTION_U64,  AT(limits.memory_bytes_max),          16 * MIB, ANY_U64,  "1073741824", "buffers of all clients together"},
    {"limits",   "log_bytes_max",         OPTION_U64,  AT(limits.log_bytes_max),             16 * MIB, ANY_U64,  "1073741824", "the log on disk, but for what comes while snapshots are written"},
    {"limits",   "store_map_bytes",       OPTION_U64,  AT(limits.store_map_bytes),           16 * MIB, ANY_U64,  "68719476736", "address space of the database"},
    {"limits",   "queue_messages_max",    OPTION_U64,  AT(limits.state.queue_messages_max),  1,       ANY_U64,   "100000",   "messages per queue; a full one drops its oldest"},
    {"limits",   "queue_bytes_max",       OPTION_U64,  AT(limits.state.queue_bytes_max),     KIB,     ANY_U64,   "1073741824", "bytes of payload and properties per queue"},
    {"limits",   "subscriptions_max",     OPTION_U64,  AT(limits.state.subscriptions_max),   1,       ANY_U64,   "10000",    "per session"},
    {"limits",   "sessions_max",          OPTION_U64,  AT(limits.state.sessions_max),        1,       ANY_U64,   "10000000", "in the cluster"},
    {"limits",   "retained_messages_max", OPTION_U64,  AT(limits.state.retained_messages_max), 0,     ANY_U64,   "10000000", "in the cluster"},
    {"limits",   "retained_bytes_max",    OPTION_U64,  AT(limits.state.retained_bytes_max),  0,       ANY_U64,   "4294967296", "in the cluster"},
    {"limits",   "store_bytes_max",       OPTION_U64,  AT(limits.state.store_bytes_max),     MIB,     ANY_U64,   "34359738368", "in the cluster; a full store refuses publishes"},
    {"limits",   "session_expiry_max_s",  OPTION_U32,  AT(limits.state.session_expiry_max_s), 0,      ANY_U32,   "4294967295", "longest session expiry; 4294967295: no limit"},
    {"limits",   "in_flight_max",         OPTION_U32,  AT(limits.state.in_flight_max),       1,       1000,      "100",      "messages in flight to one session"},
    {"limits",   "topic_alias_max",       OPTION_U32,  AT(limits.offered.topic_alias_max),   0,       1000,      "32",       "topic aliases a client may set; 0: none"},
    {"limits",   "maximum_qos",           OPTION_U32,  AT(limits.offered.maximum_qos),       0,       2,         "2",        "of what clients publish, and are granted"},
    {"limits",   "retain_available",      OPTION_BOOL, AT(limits.offered.retain_available),  0,       1,         "true",     "false: retained messages are refused"},
    {"limits",   "wildcards_available",   OPTION_BOOL, AT(limits.offered.wildcards_available), 0,     1,         "true",     "false: filters with + or # are refused"},
    {"limits",   "subscription_ids_available", OPTION_BOOL, AT(limits.offered.subscription_ids_available), 0, 1, "true",     "false: subscription identifiers are refused"},
    {"limits",   "payload_format_checked", OPTION_BOOL, AT(limits.offered.payload_format_checked), 0, 1,         "false",    "a payload that is said to be UTF-8 has to be"},
    {"limits",   "user_properties_max",   OPTION_U32,  AT(limits.offered.user_properties_max), 0,    ANY_U32,   "1000",     "of one packet"},
    {"limits",   "topic_levels_max",      OPTION_U32,  AT(limits.offered.topic_levels_max),  1,       128,       "128",      "levels of a topic or a filter"},
    {"limits",   "filters_max",           OPTION_U32,  AT(limits.offered.filters_max),       1,       ANY_U32,   "5000",     "of one SUBSCRIBE or UNSUBSCRIBE"},
    {"limits",   "connect_rate_max",      OPTION_U32,  AT(limits.offered.connect_rate_max),  0,       1000000,   "0",        "CONNECTs per second to this node; 0: no limit"},
    {"limits",   "connect_rate_address_max", OPTION_U32, AT(limits.offered.connect_rate_address_max), 0, 1000000, "0",      "CONNECTs per second from one address; 0: no limit"},
    {"limits",   "sys_interval_s",        OPTION_U32,  AT(limits.offered.sys_interval_s),    0,       86400,     "10",       "how often $SYS is published; 0: not at all"},
    {"limits",   "response_information",  OPTION_TEXT, AT(limits.offered.response_information), 0,   1024,      "",         "told to clients that ask for Response Information"},
    {"timeouts", "election_ms",           OPTION_U32,  AT(timeouts.election_ms),             50,      60000,     "300",      "silence of the leader that starts an election"},
    {"timeouts", "heartbeat_ms",          OPTION_U32,  AT(timeouts.heartbeat_ms),            5,       10000,     "50",       "how often a leader is heard at rest"},
    {"timeouts", "node_timeout_ms",       OPTION_U32,  AT(timeouts.node_timeout_ms),         500,     3600000,   "2000",     "silence after which a node's clients are given up"},
    {"timeouts", "connect_ms",            OPTION_U32,  AT(timeouts.connect_ms),              100,     600000,    "10000",    "time for a new connection to send CONNECT"},
    {"timeouts", "handshake_ms",          OPTION_U32,  AT(timeouts.handshake_ms),            100,     600000,    "10000",    "time for a new connection to finish TLS and WebSocket handshakes"},
    {"timeouts", "close_ms",              OPTION_U32,  AT(timeouts.close_ms),                10,      600000,    "5000",     "time to flush a connection that is being closed"},
    {"timeouts", "hold_ms",               OPTION_U32,  AT(timeouts.hold_ms),                 0,       600000,    "10000",    "how long clients wait for a leader"},
    {"timeouts", "take_over_ms",          OPTION_U32,  AT(timeouts.take_over_ms),            1,       60000,     "1000",      "take-overs of one client id that follow each other faster are slowed down"},
    {"timeouts", "keep_alive_max_s",      OPTION_U32,  AT(timeouts.keep_alive_max_s),        0,       65535,     "0",        "longer keep-alives are lowered (MQTT 5.0); 0: no limit"},
    {"authentication", "users",           OPTION_SECRET, AT(authentication.users),           0,       MIB,       "",         "name:password,... of this node; also for SCRAM-SHA-256"},
    {"authentication", "users_file",      OPTION_TEXT, AT(authentication.users_file),        0,       3072,      "",         "a file of more users, one on each line"},
    {"authentication", "methods",         OPTION_LIST, AT(authentication.methods),           0,       255,       "",         "order in which listeners ask, if they do not say; default: certificate, psk, scram, users, password_file, token"},
    {"authentication", "fall_through",    OPTION_BOOL, AT(authentication.fall_through),      0,       1,         "false",    "also a wrong password goes on to the next method, not only an unknown name"},
    {"authentication", "adopt_anonymous", OPTION_BOOL, AT(authentication.adopt_anonymous),   0,       1,         "false",    "sessions made without a name go to the first user with their client id: while names are introduced"},
    {"authentication", "remembered_max",  OPTION_U32,  AT(authentication.remembered_max),    0,       1000000,   "10000",    "right passwords remembered in memory, as keyed hashes; 0: none"},
    {"authentication", "waiting_max",     OPTION_U32,  AT(authentication.waiting_max),       1,       100000,    "1000",     "passwords waiting to be checked; beyond, clients are told that the server is busy"},
    {"authentication", "password_file",   OPTION_TEXT, AT(authentication.password_file),     0,       3072,      "",         "users as mosquitto_passwd writes them ($7$ or $argon2id$)"},
    {"authentication", "token_keys",      OPTION_TEXT, AT(authentication.token_keys),        0,       3072,      "",         "JWK, JWKS or PEM public keys: passwords may be JSON Web Tokens"},
    {"authentication", "token_issuer",    OPTION_TEXT, AT(authentication.token_issuer),      0,       1024,      "",         "what `iss` has to be; default: anything"},
    {"authentication", "token_audience",  OPTION_TEXT, AT(authentication.token_audience),    0,       1024,      "",         "what has to be in `aud`; default: anything"},
    {"authentication", "token_user_claim", OPTION_TEXT, AT(authentication.token_user_claim), 1,       255,       "sub",      "the claim that is the user's name"},
    {"authentication", "token_leeway_s",  OPTION_U32,  AT(authentication.token_leeway_s),    0,       3600,      "30",       "how far clocks may be apart"},
    {"authorization", "acl_file",         OPTION_TEXT, AT(authorization.acl_file),           0,       3072,      "",         "rules in mosquitto's format; what neither they nor roles allow is denied"},
    {"authorization", "sys_readable",     OPTION_BOOL, AT(authorization.sys_readable),       0,       1,         "true",     "$SYS may be read while there are no rules at all"},
    {"authorization", "close_on_denied",  OPTION_BOOL, AT(authorization.close_on_denied),    0,       1,         "false",    "a PUBLISH that is not allowed ends the connection; else 5.0 is told no, 3.1.1 yes"},
    {"log",      "level",                 OPTION_LEVEL, AT(log.level),                       0,       0,         "info",     "error, warning, info or debug"},
    {"log",      "format",                OPTION_FORMAT, AT(log.format),                     0,       0,         "text",     "text (key=value) or json"},
};
/* clang-format on */

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))
static const char *const sections[] = {"node", "cluster", "admin", "limits", "timeouts", "authentication", "authorization", "log"};
#define SECTION_COUNT (sizeof(sections) / sizeof(sections[0]))

static const cyaml_strval_t bool_names[] = {{"false", 0}, {"true", 1}, {"no", 0}, {"yes", 1}};

/* ---- the line of a key, for messages ---- */

static int node_below(yaml_document_t *document, int number, const char *step)
{
    yaml_node_t *node = yaml_document_get_node(document, number);
    if (node == NULL)
        return 0;
    if (node->type == YAML_SEQUENCE_NODE) {
        long index = strtol(step, NULL, 10);
        long count = node->data.sequence.items.top - node->data.sequence.items.start;
        return index >= 0 && index < count ? node->data.sequence.items.start[index] : 0;
    }
    if (node->type != YAML_MAPPING_NODE)
        return 0;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = yaml_document_get_node(document, pair->key);
        if (key->type == YAML_SCALAR_NODE && strcmp((const char *)key->data.scalar.value, step) == 0)
            return pair->value;
    }
    return 0;
}

/* Line of the value at `path` ("cluster.members.0.id"), 1 for the first; of the deepest part that exists otherwise. */
static unsigned line_of(const char *file, const char *path)
{
    unsigned line = 1;
    FILE *stream = fopen(file, "r");
    yaml_parser_t parser;
    yaml_document_t document;
    if (stream == NULL)
        return line;
    yaml_parser_initialize(&parser);
    yaml_parser_set_input_file(&parser, stream);
    if (yaml_parser_load(&parser, &document)) {
        char steps[CONFIG_PATH_MAX], *rest = steps, *step;
        snprintf(steps, sizeof(steps), "%s", path);
        int number = 1;
        while (number != 0 && (step = strsep(&rest, ".")) != NULL) {
            number = node_below(&document, number, step);
            if (number != 0)
                line = (unsigned)yaml_document_get_node(&document, number)->start_mark.line + 1;
        }
        yaml_document_delete(&document);
    }
    yaml_parser_delete(&parser);
    fclose(stream);
    return line;
}

/* ---- messages ---- */

static void option_variable(const char *section, const char *key, char out[CONFIG_PATH_MAX])
{
    snprintf(out, CONFIG_PATH_MAX, "COTERIE_%s%s%s", section, key[0] != '\0' ? "_" : "", key);
    for (char *c = out; *c != '\0'; c++)
        if (*c >= 'a' && *c <= 'z')
            *c = (char)(*c - 'a' + 'A');
}

enum status fault_at(const struct fault *fault, const char *section, const char *key, const char *sentence)
{
    char path[CONFIG_PATH_MAX], variable[CONFIG_PATH_MAX];
    snprintf(path, sizeof(path), "%s%s%s", section, key[0] != '\0' ? "." : "", key);
    option_variable(section, key, variable);
    if (fault->file == NULL && strncmp(path, "listeners.", 10) == 0)
        snprintf(fault->out, CONFIG_ERROR_MAX, "COTERIE_LISTENERS: %s: %s", path + 10, sentence);
    else if (fault->file != NULL)
        snprintf(fault->out, CONFIG_ERROR_MAX, "%s:%u: %s: %s", fault->file, line_of(fault->file, path), path,
                 sentence);
    else
        snprintf(fault->out, CONFIG_ERROR_MAX, "%s: %s", variable, sentence);
    return STATUS_INVALID;
}

/* "one|another|third: meaning" -> "one, another or third" */
static void choices_describe(const char *choices, char *out, size_t size)
{
    size_t length = strcspn(choices, ":"), used = 0;
    const char *last = memrchr(choices, '|', length);
    for (const char *c = choices; c < choices + length && used + 5 < size; c++) {
        const char *separator = c == last ? " or " : ", ";
        if (*c == '|')
            used += (size_t)snprintf(out + used, size - used, "%s", separator);
        else
            out[used++] = *c;
    }
    out[used] = '\0';
}

void option_expectation(const struct option *option, char *out, size_t size)
{
    switch (option->type) {
    case OPTION_U32:
    case OPTION_U64:
        if (option->max == ANY_U64)
            snprintf(out, size, "a whole number, at least %lld", (long long)option->min);
        else
            snprintf(out, size, "a whole number from %lld to %lld", (long long)option->min, (long long)option->max);
        return;
    case OPTION_BOOL: snprintf(out, size, "true or false"); return;
    case OPTION_TEXT:
    case OPTION_SECRET:
        snprintf(out, size, "a text of %lld to %lld bytes", (long long)option->min, (long long)option->max);
        return;
    case OPTION_LIST: snprintf(out, size, "a list of texts, together at most %lld bytes", (long long)option->max); return;
    case OPTION_CHOICE: choices_describe(option->meaning, out, size); return;
    case OPTION_LEVEL: snprintf(out, size, "error, warning, info or debug"); return;
    case OPTION_FORMAT: snprintf(out, size, "text or json"); return;
    }
}

static enum status option_refused(const struct fault *fault, const struct option *option, const char *section,
                                  const char *got)
{
    char expected[128], sentence[320];
    option_expectation(option, expected, sizeof(expected));
    if (option->type == OPTION_SECRET)
        snprintf(sentence, sizeof(sentence), "expected %s", expected);
    else
        snprintf(sentence, sizeof(sentence), "expected %s, got '%.100s'", expected, got);
    return fault_at(fault, section, option->key, sentence);
}

/* ---- one option ---- */

bool number_of(const char *text, int64_t *number)
{
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static bool bool_of(const char *text, bool *value)
{
    for (size_t i = 0; i < sizeof(bool_names) / sizeof(bool_names[0]); i++)
        if (strcmp(text, bool_names[i].str) == 0) {
            *value = bool_names[i].val != 0;
            return true;
        }
    return false;
}

/* "one|another|third: meaning" */
static bool choice_of(const char *choices, const char *text, uint32_t *number)
{
    size_t length = strlen(text), all = strcspn(choices, ":");
    *number = 0;
    for (const char *c = choices; c < choices + all; c += strcspn(c, "|:") + 1, ++*number)
        if (strcspn(c, "|:") == length && memcmp(c, text, length) == 0)
            return true;
    return false;
}

enum status option_set(void *base, const struct option *option, const char *section, const char *text,
                       const struct fault *fault)
{
    void *field = (char *)base + option->offset;
    int64_t number = 0;
    bool valid = false;
    switch (option->type) {
    case OPTION_U32:
    case OPTION_U64:
        valid = number_of(text, &number) && number >= option->min && number <= option->max;
        if (valid && option->type == OPTION_U32)
            *(uint32_t *)field = (uint32_t)number;
        else if (valid)
            *(uint64_t *)field = (uint64_t)number;
        break;
    case OPTION_BOOL: valid = bool_of(text, field); break;
    case OPTION_TEXT:
    case OPTION_SECRET:
    case OPTION_LIST:
        valid = strlen(text) >= (size_t)option->min && strlen(text) <= (size_t)option->max;
        if (valid) {
            free(*(char **)field);
            *(char **)field = memory_text(text);
        }
        break;
    case OPTION_CHOICE: valid = choice_of(option->meaning, text, field); break;
    case OPTION_LEVEL: valid = log_level_of(text, field); break;
    case OPTION_FORMAT: valid = log_format_of(text, field); break;
    }
    return valid ? STATUS_OK : option_refused(fault, option, section, text);
}

void option_release(void *base, const struct option *option)
{
    if (option->type == OPTION_TEXT || option->type == OPTION_SECRET || option->type == OPTION_LIST)
        free(*(char **)((char *)base + option->offset));
}

static void options_set_defaults(struct config *config)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        enum status status = option_set(config, &options[i], options[i].section, options[i].fallback, NULL);
        assert(status == STATUS_OK);
        (void)status;
    }
}

/* ---- the file ---- */

/* What libcyaml fills: a pointer per option, and the two lists. */
struct raw {
    void *values[OPTION_COUNT];
    unsigned counts[OPTION_COUNT];
    struct config_member *members;
    unsigned members_count;
    struct raw_listener *listeners;
    unsigned listeners_count;
};

static const cyaml_schema_field_t member_fields[] = {
    CYAML_FIELD_UINT("id", CYAML_FLAG_DEFAULT, struct config_member, id),
    CYAML_FIELD_STRING_PTR("link", CYAML_FLAG_POINTER, struct config_member, link, 1, 255),
    CYAML_FIELD_STRING_PTR("admin", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct config_member, admin, 0, 255),
    CYAML_FIELD_END,
};
static const cyaml_schema_value_t member_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct config_member, member_fields),
};
struct schema {
    cyaml_schema_field_t fields[SECTION_COUNT][OPTION_COUNT + 2];
    cyaml_schema_field_t top[SECTION_COUNT + 2];
    cyaml_schema_value_t root;
};

cyaml_schema_field_t option_schema(const struct option *option, size_t offset, size_t count_offset)
{
    static const cyaml_schema_value_t list_entry = {CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, 1024)};
    cyaml_schema_field_t field = {
        .key = option->key,
        .data_offset = offset,
        .value = {.flags = CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL},
    };
    if (option->type == OPTION_U32 || option->type == OPTION_U64) {
        field.value.type = CYAML_INT; /* signed: libcyaml lets a negative number wrap in an unsigned one */
        field.value.data_size = sizeof(int64_t);
    } else if (option->type == OPTION_BOOL) {
        field.value.type = CYAML_ENUM; /* not CYAML_BOOL, which takes any text for true */
        field.value.flags |= CYAML_FLAG_STRICT;
        field.value.data_size = sizeof(int64_t);
        field.value.enumeration.strings = bool_names;
        field.value.enumeration.count = sizeof(bool_names) / sizeof(bool_names[0]);
    } else if (option->type == OPTION_LIST) {
        field.value.type = CYAML_SEQUENCE;
        field.value.data_size = sizeof(char *);
        field.value.sequence.entry = &list_entry;
        field.value.sequence.max = LIST_ENTRIES_MAX;
        field.count_offset = count_offset;
        field.count_size = sizeof(unsigned);
    } else {
        field.value.type = CYAML_STRING;
        field.value.data_size = 1;
        field.value.string.max = CYAML_UNLIMITED;
    }
    return field;
}

static void schema_init(struct schema *schema)
{
    memset(schema, 0, sizeof(*schema));
    for (size_t s = 0; s < SECTION_COUNT; s++) {
        size_t count = 0;
        for (size_t i = 0; i < OPTION_COUNT; i++)
            if (strcmp(options[i].section, sections[s]) == 0)
                schema->fields[s][count++] =
                    option_schema(&options[i], offsetof(struct raw, values) + i * sizeof(void *),
                                  offsetof(struct raw, counts) + i * sizeof(unsigned));
        if (strcmp(sections[s], "cluster") == 0)
            schema->fields[s][count++] =
                (cyaml_schema_field_t)CYAML_FIELD_SEQUENCE("members", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL,
                                                           struct raw, members, &member_schema, 0, CONFIG_MEMBERS_MAX);
        schema->top[s] = (cyaml_schema_field_t){
            .key = sections[s],
            .value = {.type = CYAML_MAPPING,
                      .flags = CYAML_FLAG_OPTIONAL,
                      .data_size = sizeof(struct raw),
                      .mapping = {.fields = schema->fields[s]}},
        };
    }
    schema->top[SECTION_COUNT] =
        (cyaml_schema_field_t)CYAML_FIELD_SEQUENCE("listeners", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct raw,
                                                   listeners, listener_schema(), 0, CONFIG_LISTENERS_MAX);
    schema->root = (cyaml_schema_value_t){.type = CYAML_MAPPING,
                                          .flags = CYAML_FLAG_POINTER,
                                          .data_size = sizeof(struct raw),
                                          .mapping = {.fields = schema->top}};
}

/* libcyaml's complaint: the first line says what, the backtrace says where, innermost first. */
struct complaint {
    char what[192];
    char path[CONFIG_PATH_MAX];
    unsigned line;
};

static void complaint_prepend(struct complaint *complaint, const char *step)
{
    char path[CONFIG_PATH_MAX];
    snprintf(path, sizeof(path), "%.60s%s%.60s", step, complaint->path[0] != '\0' ? "." : "", complaint->path);
    memcpy(complaint->path, path, sizeof(path));
}

static void complaint_hear(cyaml_log_t level, void *context, const char *format, va_list arguments)
{
    struct complaint *complaint = context;
    char text[256], step[64];
    unsigned line = 0, number = 0;
    if (level < CYAML_LOG_ERROR)
        return;
    vsnprintf(text, sizeof(text), format, arguments);
    text[strcspn(text, "\n")] = '\0';
    const char *at = strstr(text, "(line: ");
    if (at != NULL && complaint->line == 0 && sscanf(at, "(line: %u", &line) == 1)
        complaint->line = line;
    if (sscanf(text, "  in mapping field '%63[^']'", step) == 1) {
        complaint_prepend(complaint, step);
    } else if (sscanf(text, "  in sequence entry '%u'", &number) == 1) {
        snprintf(step, sizeof(step), "%u", number > 0 ? number - 1 : 0);
        complaint_prepend(complaint, step);
    } else if (strncmp(text, "Load: ", 6) == 0 && complaint->what[0] == '\0') {
        snprintf(complaint->what, sizeof(complaint->what), "%.190s", text + 6);
    }
}

static const struct option *option_at(const char *path)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char own[CONFIG_PATH_MAX];
        snprintf(own, sizeof(own), "%s.%s", options[i].section, options[i].key);
        if (strcmp(own, path) == 0)
            return &options[i];
    }
    const char *last = strrchr(path, '.');
    return strncmp(path, "listeners.", 10) == 0 && last != NULL ? listener_option(last + 1) : NULL;
}

/* Says libcyaml's complaint in our form. */
static void complaint_tell(struct complaint *complaint, cyaml_err_t error, const char *file, char *out)
{
    char unknown[64], expected[128];
    const struct option *option = option_at(complaint->path);
    if (complaint->what[0] == '\0')
        snprintf(complaint->what, sizeof(complaint->what), "%s", cyaml_strerror(error));
    if (sscanf(complaint->what, "Unexpected key: %63s", unknown) == 1) {
        char path[CONFIG_PATH_MAX * 2];
        snprintf(path, sizeof(path), "%s%s%s", complaint->path, complaint->path[0] != '\0' ? "." : "", unknown);
        snprintf(out, CONFIG_ERROR_MAX, "%s:%u: %s: unknown key; `coterie --help-config` lists those that exist", file,
                 line_of(file, path), path);
    } else if (option != NULL && error != CYAML_ERR_LIBYAML_PARSER) {
        option_expectation(option, expected, sizeof(expected));
        snprintf(out, CONFIG_ERROR_MAX, "%s:%u: %s: expected %s (%s)", file, complaint->line, complaint->path, expected,
                 complaint->what);
    } else if (complaint->line != 0) {
        snprintf(out, CONFIG_ERROR_MAX, "%s:%u: %s%s%s", file, complaint->line, complaint->path,
                 complaint->path[0] != '\0' ? ": " : "", complaint->what);
    } else {
        snprintf(out, CONFIG_ERROR_MAX, "%s: %s", file, complaint->what);
    }
}

/* Several texts as one, with commas. */
static char *list_join(char *const *texts, unsigned count)
{
    struct buffer list = {0};
    for (unsigned i = 0; i < count; i++) {
        if (i > 0)
            buffer_put(&list, ",", 1);
        buffer_put(&list, texts[i], strlen(texts[i]));
    }
    buffer_put(&list, "", 1);
    return (char *)list.data;
}

enum status option_take(void *base, const struct option *option, const char *section, const void *value, unsigned count,
                        const struct fault *fault)
{
    char text[32], *list = NULL;
    if (option->type == OPTION_U32 || option->type == OPTION_U64 || option->type == OPTION_BOOL) {
        int64_t integer;
        memcpy(&integer, value, sizeof(integer));
        if (option->type == OPTION_BOOL)
            snprintf(text, sizeof(text), "%s", integer != 0 ? "true" : "false");
        else
            snprintf(text, sizeof(text), "%lld", (long long)integer);
        value = text;
    } else if (option->type == OPTION_LIST) {
        value = list = list_join(value, count);
    }
    enum status status = option_set(base, option, section, value, fault);
    free(list);
    return status;
}

static void members_add(struct config *config, uint32_t id, const char *link, const char *admin)
{
    uint32_t count = config->cluster.member_count++;
    config->cluster.members = memory_resize(config->cluster.members, (count + 1) * sizeof(struct config_member));
    config->cluster.members[count] =
        (struct config_member){.id = id, .link = memory_text(link), .admin = memory_text(admin != NULL ? admin : "")};
}

static void members_clear(struct config *config)
{
    for (uint32_t i = 0; i < config->cluster.member_count; i++) {
        free(config->cluster.members[i].link);
        free(config->cluster.members[i].admin);
    }
    config->cluster.member_count = 0;
}

static enum status take_raw(struct config *config, const struct raw *raw, const struct fault *fault)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (raw->values[i] == NULL)
            continue;
        enum status status = option_take(config, &options[i], options[i].section, raw->values[i], raw->counts[i], fault);
        if (status != STATUS_OK)
            return status;
    }
    for (unsigned i = 0; i < raw->members_count; i++)
        members_add(config, raw->members[i].id, raw->members[i].link, raw->members[i].admin);
    return listeners_take(config, raw->listeners, raw->listeners_count, fault);
}

static enum status load_file(struct config *config, const char *file, char *error)
{
    struct schema *schema = memory_allocate(sizeof(*schema));
    struct complaint complaint = {0};
    struct raw *raw = NULL;
    cyaml_config_t settings = {
        .log_fn = complaint_hear, .log_ctx = &complaint, .log_level = CYAML_LOG_ERROR, .mem_fn = cyaml_mem};
    enum status status = STATUS_INVALID;
    schema_init(schema);
    errno = 0;
    cyaml_err_t result = cyaml_load_file(file, &settings, &schema->root, (cyaml_data_t **)&raw, NULL);
    if (result == CYAML_ERR_FILE_OPEN)
        snprintf(error, CONFIG_ERROR_MAX, "%s: %s", file, strerror(errno != 0 ? errno : ENOENT));
    else if (result != CYAML_OK)
        complaint_tell(&complaint, result, file, error);
    else if (raw == NULL)
        status = STATUS_OK; /* an empty file */
    else
        status = take_raw(config, raw, &(struct fault){.file = file, .out = error});
    cyaml_free(&settings, &schema->root, raw, 0);
    free(schema);
    return status;
}

/* ---- the environment ---- */

bool config_split_address(const char *text, char *host, size_t size, uint32_t *port)
{
    const char *colon = strrchr(text, ':');
    int64_t number;
    if (colon == NULL || colon == text || !number_of(colon + 1, &number) || number < 0 || number > 65535)
        return false;
    size_t length = (size_t)(colon - text);
    bool brackets = text[0] == '[' && colon[-1] == ']' && length > 2;
    if (!brackets && memchr(text, ':', length) != NULL)
        return false;
    text += brackets ? 1 : 0;
    length -= brackets ? 2 : 0;
    if (length == 0 || length >= size)
        return false;
    memcpy(host, text, length);
    host[length] = '\0';
    *port = (uint32_t)number;
    return true;
}

/* "1=host:port/admin:port,2=..." */
static enum status set_members(struct config *config, const char *text, const struct fault *fault)
{
    char *copy = memory_text(text), *rest = copy, *item;
    enum status status = STATUS_OK;
    members_clear(config);
    while (status == STATUS_OK && (item = strsep(&rest, ",")) != NULL) {
        char *link = strchr(item, '=');
        int64_t id = 0;
        if (link != NULL)
            *link++ = '\0';
        char *admin = link != NULL ? strchr(link, '/') : NULL;
        if (admin != NULL)
            *admin++ = '\0';
        if (link == NULL || !number_of(item, &id) || id < 1 || id > 63)
            status =
                fault_at(fault, "cluster", "members", "expected ID=HOST:PORT[/ADMIN_HOST:PORT], several with commas");
        else
            members_add(config, (uint32_t)id, link, admin);
    }
    free(copy);
    return status;
}

static enum status set_variable(struct config *config, const char *name, const char *value, const struct fault *fault)
{
    if (strcmp(name, "COTERIE_CLUSTER_MEMBERS") == 0)
        return set_members(config, value, fault);
    if (strcmp(name, "COTERIE_LISTENERS") == 0)
        return listeners_set(config, value, fault);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char own[CONFIG_PATH_MAX];
        option_variable(options[i].section, options[i].key, own);
        if (strcmp(name, own) == 0)
            return option_set(config, &options[i], options[i].section, value, fault);
    }
    /* Only what looks like one of our sections: COTERIE_BIN and the like belong to others. */
    for (size_t s = 0; s < SECTION_COUNT; s++) {
        char prefix[CONFIG_PATH_MAX];
        option_variable(sections[s], "", prefix);
        size_t length = strlen(prefix);
        if (strncmp(name, prefix, length) == 0 && name[length] == '_') {
            snprintf(fault->out, CONFIG_ERROR_MAX, "%s: no such option; `coterie --help-config` lists those that exist",
                     name);
            return STATUS_INVALID;
        }
    }
    return STATUS_OK;
}

static enum status load_environment(struct config *config, const char *const *environment, char *error)
{
    const struct fault fault = {.file = NULL, .out = error};
    enum status status = STATUS_OK;
    for (; environment != NULL && *environment != NULL && status == STATUS_OK; environment++) {
        const char *equals = strchr(*environment, '=');
        char name[CONFIG_PATH_MAX];
        if (strncmp(*environment, "COTERIE_", 8) != 0 || equals == NULL ||
            (size_t)(equals - *environment) >= sizeof(name))
            continue;
        memcpy(name, *environment, (size_t)(equals - *environment));
        name[equals - *environment] = '\0';
        status = set_variable(config, name, equals + 1, &fault);
    }
    return status;
}

/* ---- users ---- */

/* Puts the file of users behind those that the option names. */
static enum status load_users(struct config *config, const struct fault *fault)
{
    const char *path = config->authentication.users_file;
    char sentence[256], *text;
    size_t before = strlen(config->authentication.users), size;
    struct stat facts;
    FILE *file;
    if (path[0] == '\0')
        return STATUS_OK;
    file = fopen(path, "r");
    if (file == NULL) {
        snprintf(sentence, sizeof(sentence), "%.150s: %s", path, strerror(errno));
        return fault_at(fault, "authentication", "users_file", sentence);
    }
    if (fstat(fileno(file), &facts) != 0 || (facts.st_mode & S_IRWXO) != 0) {
        fclose(file);
        snprintf(sentence, sizeof(sentence), "%.150s: everybody on this machine may read it; expected mode 0600 or 0640", path);
        return fault_at(fault, "authentication", "users_file", sentence);
    }
    text = memory_zeroed(1, before + 1 + USERS_BYTES_MAX + 1);
    memcpy(text, config->authentication.users, before);
    text[before] = '\n';
    size = fread(text + before + 1, 1, USERS_BYTES_MAX, file);
    fclose(file);
    free(config->authentication.users);
    config->authentication.users = text;
    if (size == USERS_BYTES_MAX)
        return fault_at(fault, "authentication", "users_file", "expected less than 4 MiB");
    return STATUS_OK;
}

const struct config_member *config_self(const struct config *config)
{
    for (uint32_t i = 0; i < config->cluster.member_count; i++)
        if (config->cluster.members[i].id == config->node.id)
            return &config->cluster.members[i];
    return NULL;
}

/* What was quoted stays one line, and says nothing to a terminal. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

enum status config_load(const char *path, const char *const *environment, struct config **out,
                        char error[CONFIG_ERROR_MAX])
{
    struct config *config = memory_zeroed(1, sizeof(*config));
    error[0] = '\0';
    options_set_defaults(config);
    enum status status = path != NULL ? load_file(config, path, error) : STATUS_OK;
    config->file_holds_secrets = config->authentication.users[0] != '\0' || config->admin.token[0] != '\0';
    if (status == STATUS_OK)
        status = load_environment(config, environment, error);
    if (status == STATUS_OK && config->listener_count == 0)
        listeners_default(config);
    if (status == STATUS_OK)
        status = load_users(config, &(struct fault){.file = path, .out = error});
    if (status == STATUS_OK)
        status = config_check(config, &(struct fault){.file = path, .out = error});
    if (status != STATUS_OK) {
        make_printable(error);
        config_free(config);
        config = NULL;
    }
    *out = config;
    return status;
}

void config_free(struct config *config)
{
    if (config == NULL)
        return;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        option_release(config, &options[i]);
    members_clear(config);
    listeners_clear(config);
    free(config->cluster.members);
    free(config->listeners);
    free(config);
}

void config_describe(struct buffer *out)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        char path[CONFIG_PATH_MAX], line[512];
        snprintf(path, sizeof(path), "%s.%s", options[i].section, options[i].key);
        snprintf(line, sizeof(line), "%-30s %-16s %s\n", path,
                 options[i].fallback[0] != '\0' ? options[i].fallback : "\"\"", options[i].meaning);
        buffer_put(out, line, strlen(line));
    }
    static const char lists[] =
        "cluster.members                none             list of {id, link: host:port, admin: host:port}\n"
        "\nEach key can be set by environment: limits.packet_bytes_max is COTERIE_LIMITS_PACKET_BYTES_MAX;\n"
        "COTERIE_CLUSTER_MEMBERS=1=host:port[/admin-host:port],...  COTERIE_LISTENERS=tcp:address:port[ key=value ...],...\n";
    buffer_put(out, lists, sizeof(lists) - 1);
    listeners_describe(out);
}
