/* config_listeners.c — the options of a listener, and how they are read.
 *
 *   file:         listeners: [{kind: tls, port: 8883, certificate: FILE, ...}]  --libcyaml--> raw_listener --+
 *   environment:  COTERIE_LISTENERS=tls:0.0.0.0:8883 certificate=FILE ...,...  --------------------------> option_set
 *                                                                           --> listeners_check: do they fit together?
 *
 * To add an option: its field in struct config_listener and a row below. `for` says which kinds have a use for it; one
 * that others are given is a fault, since whoever wrote it believes that it protects something. */
#include "config_private.h"

#include "base/memory.h"
#include "net/listener.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(member) offsetof(struct config_listener, member)
#define PATH_BYTES 3072
#define PORT_UNSAID UINT32_MAX

#define ANY        (LISTENER_IP | LISTENER_LOCAL)
#define TLS        LISTENER_TLS
#define WEBSOCKET  LISTENER_WEBSOCKET

struct listener_option {
    struct option option;
    unsigned for_kinds; /* LISTENER_... of net/listener.h: any of them */
};

/* clang-format off */
static const struct listener_option options[] = {
    /* key, type, field, min, max, default, meaning;  kinds */
    {{NULL, "kind",               OPTION_TEXT,   AT(kind),               1, 32,         "tcp",  "tcp, tls, ws, wss or unix"}, ANY},
    {{NULL, "address",            OPTION_TEXT,   AT(address),            0, PATH_BYTES, "",     "literal address, by default 0.0.0.0; of unix a path"}, ANY},
    {{NULL, "port",               OPTION_U32,    AT(port),               0, 65535,      "0",    "by default the usual one of the kind"}, LISTENER_IP},
    {{NULL, "name",               OPTION_TEXT,   AT(name),               0, 64,         "",     "in logs and metrics; by default kind:address:port"}, ANY},
    {{NULL, "anonymous",          OPTION_BOOL,   AT(anonymous),          0, 1,          "false", "clients that do not say who they are may connect"}, ANY},
    {{NULL, "authentication",     OPTION_LIST,   AT(authentication),     0, 255,        "",     "methods, in the order in which they are asked; default: the node's"}, ANY},
    {{NULL, "connections_max",    OPTION_U32,    AT(connections_max),    0, 10000000,   "0",    "0: the node's limit"}, ANY},
    {{NULL, "connect_rate_max",   OPTION_U32,    AT(connect_rate_max),   0, 1000000,    "0",    "connections taken per second, the others wait; 0: no limit"}, ANY},
    {{NULL, "packet_bytes_max",   OPTION_U32,    AT(packet_bytes_max),   0, 268435455,  "0",    "0: the node's limit; otherwise at most that"}, ANY},
    {{NULL, "publish_rate_max",   OPTION_U64,    AT(publish_rate_max),   0, INT64_MAX,  "0",    "messages that all its clients together publish per second; 0: no limit"}, ANY},
    {{NULL, "publish_bytes_max",  OPTION_U64,    AT(publish_bytes_max),  0, INT64_MAX,  "0",    "bytes of payload likewise"}, ANY},
    {{NULL, "proxy_from",         OPTION_LIST,   AT(proxy_from),         0, 8192,       "",     "ADDRESS/BITS of proxies: only they connect, and send a PROXY header"}, LISTENER_IP},
    {{NULL, "mode",               OPTION_TEXT,   AT(mode),               0, 4,          "",     "permissions of the socket, octal; default 660"}, LISTENER_LOCAL},
    {{NULL, "ws_path",            OPTION_TEXT,   AT(ws_path),            0, 255,        "",     "the only path that is served; default: any"}, WEBSOCKET},
    {{NULL, "ws_origins",         OPTION_LIST,   AT(ws_origins),         0, 8192,       "",     "web sites whose pages may connect; default: any"}, WEBSOCKET},
    {{NULL, "certificate",        OPTION_TEXT,   AT(certificate),        0, PATH_BYTES, "",     "PEM file: own certificate, then its issuers"}, TLS},
    {{NULL, "key",                OPTION_TEXT,   AT(key),                0, PATH_BYTES, "",     "PEM file: key of the certificate"}, TLS},
    {{NULL, "client_certificate", OPTION_CHOICE, AT(client_certificate), 0, 0,          "none", "none|optional|required: whether clients show a certificate of their own"}, TLS},
    {{NULL, "client_ca",          OPTION_TEXT,   AT(client_ca),          0, PATH_BYTES, "",     "PEM file: issuers of client certificates"}, TLS},
    {{NULL, "crl",                OPTION_TEXT,   AT(crl),                0, PATH_BYTES, "",     "PEM file: revoked client certificates, of each issuer"}, TLS},
    {{NULL, "user_from",          OPTION_CHOICE, AT(user_from),          0, 0,          "cn",   "cn|dn|san: what of a client's certificate is its user name"}, TLS},
    {{NULL, "tls_min",            OPTION_CHOICE, AT(tls_min),            0, 0,          "1.2",  "1.2|1.3: lowest version of TLS"}, TLS},
    {{NULL, "psk_file",           OPTION_TEXT,   AT(psk_file),           0, PATH_BYTES, "",     "file of keys known beforehand, lines of identity:hexadecimal"}, TLS},
    {{NULL, "psk_hint",           OPTION_TEXT,   AT(psk_hint),           0, 127,        "",     "told to clients of TLS 1.2 that come with such a key"}, TLS},
};
/* clang-format on */

#define COUNT (sizeof(options) / sizeof(options[0]))
static_assert(COUNT <= LISTENER_OPTIONS_MAX, "raw_listener has room for each");

const struct option *listener_option(const char *key)
{
    for (size_t i = 0; i < COUNT; i++)
        if (strcmp(options[i].option.key, key) == 0)
            return &options[i].option;
    return NULL;
}

const cyaml_schema_value_t *listener_schema(void)
{
    static cyaml_schema_field_t fields[COUNT + 1];
    static const cyaml_schema_value_t schema = {
        CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct raw_listener, fields),
    };
    for (size_t i = 0; i < COUNT; i++)
        fields[i] = option_schema(&options[i].option, offsetof(struct raw_listener, values) + i * sizeof(void *),
                                  offsetof(struct raw_listener, counts) + i * sizeof(unsigned));
    fields[0].value.flags = CYAML_FLAG_POINTER; /* the kind is not optional */
    return &schema;
}

/* ---- one listener ---- */

static struct config_listener *listener_add(struct config *config)
{
    config->listeners = memory_resize(config->listeners, (config->listener_count + 1) * sizeof(*config->listeners));
    struct config_listener *listener = &config->listeners[config->listener_count++];
    memset(listener, 0, sizeof(*listener));
    for (size_t i = 0; i < COUNT; i++) {
        enum status status = option_set(listener, &options[i].option, "listeners", options[i].option.fallback, NULL);
        assert(status == STATUS_OK);
        (void)status;
    }
    listener->port = PORT_UNSAID;
    return listener;
}

void listeners_clear(struct config *config)
{
    for (uint32_t i = 0; i < config->listener_count; i++)
        for (size_t k = 0; k < COUNT; k++)
            option_release(&config->listeners[i], &options[k].option);
    config->listener_count = 0;
}

/* What follows from the kind, as far as nothing was said: `given` has a bit per option. Refuses what is of no use. */
static enum status listener_complete(struct config_listener *listener, uint64_t given, const char *section,
                                     const struct fault *fault)
{
    char sentence[128];
    const struct listener_kind *kind = listener_kind(listener->kind);
    if (kind == NULL) {
        snprintf(sentence, sizeof(sentence), "there is no kind of listener called '%.32s'; expected %s", listener->kind,
                 listener_kind_names());
        return fault_at(fault, section, "kind", sentence);
    }
    for (size_t i = 0; i < COUNT; i++)
        if ((given >> i & 1) != 0 && (options[i].for_kinds & kind->uses) == 0) {
            snprintf(sentence, sizeof(sentence), "of no use to a listener of kind %s", kind->name);
            return fault_at(fault, section, options[i].option.key, sentence);
        }
    if (listener->port == PORT_UNSAID)
        listener->port = kind->default_port;
    if (listener->address[0] == '\0' && (kind->uses & LISTENER_IP) != 0)
        return option_set(listener, listener_option("address"), section, "0.0.0.0", fault);
    return STATUS_OK;
}

void listeners_default(struct config *config)
{
    struct config_listener *listener = listener_add(config);
    enum status status = option_set(listener, listener_option("address"), "", "127.0.0.1", NULL);
    assert(status == STATUS_OK);
    (void)status;
    listener->port = listener_kind(listener->kind)->default_port;
    listener->anonymous = true; /* on this machine only, and main.c says so */
}

/* ---- the file ---- */

enum status listeners_take(struct config *config, const struct raw_listener *raw, unsigned count,
                           const struct fault *fault)
{
    enum status status = STATUS_OK;
    for (unsigned i = 0; i < count && status == STATUS_OK; i++) {
        struct config_listener *listener = listener_add(config);
        uint64_t given = 0;
        char section[32];
        snprintf(section, sizeof(section), "listeners.%u", i);
        for (size_t k = 0; k < COUNT && status == STATUS_OK; k++) {
            if (raw[i].values[k] == NULL)
                continue;
            given |= UINT64_C(1) << k;
            status = option_take(listener, &options[k].option, section, raw[i].values[k], raw[i].counts[k], fault);
        }
        if (status == STATUS_OK)
            status = listener_complete(listener, given, section, fault);
    }
    return status;
}

/* ---- the environment ---- */

static enum status place_set(struct config_listener *listener, char *place, const struct fault *fault)
{
    char *kind = strsep(&place, ":"), host[PATH_BYTES];
    const struct listener_kind *known = listener_kind(kind);
    if (known != NULL && (known->uses & LISTENER_LOCAL) != 0 && place != NULL)
        snprintf(host, sizeof(host), "%.*s", PATH_BYTES - 1, place);
    else if (place == NULL || !config_split_address(place, host, sizeof(host), &listener->port))
        return fault_at(fault, "listeners", "", "expected KIND:ADDRESS:PORT [KEY=VALUE ...], several with commas");
    enum status status = option_set(listener, listener_option("kind"), "listeners", kind, fault);
    return status == STATUS_OK ? option_set(listener, listener_option("address"), "listeners", host, fault) : status;
}

/* "key=value"; in a list '+' stands for the comma, which ends a listener here. */
static enum status pair_set(struct config_listener *listener, char *pair, uint64_t *given, const struct fault *fault)
{
    char *value = strchr(pair, '='), sentence[96];
    const struct option *option = NULL;
    if (value != NULL) {
        *value++ = '\0';
        option = listener_option(pair);
    }
    if (option == NULL) {
        snprintf(sentence, sizeof(sentence), "'%.32s': expected KEY=VALUE; `coterie --help-config` lists the keys", pair);
        return fault_at(fault, "listeners", "", sentence);
    }
    for (char *c = value; option->type == OPTION_LIST && *c != '\0'; c++)
        if (*c == '+')
            *c = ',';
    for (size_t i = 0; i < COUNT; i++)
        if (option == &options[i].option)
            *given |= UINT64_C(1) << i;
    return option_set(listener, option, "listeners", value, fault);
}

enum status listeners_set(struct config *config, const char *text, const struct fault *fault)
{
    char *copy = memory_text(text), *rest = copy, *item;
    enum status status = STATUS_OK;
    listeners_clear(config);
    while (status == STATUS_OK && (item = strsep(&rest, ",")) != NULL) {
        if (config->listener_count == CONFIG_LISTENERS_MAX) {
            status = fault_at(fault, "listeners", "", "too many");
            break;
        }
        item += strspn(item, " ");
        struct config_listener *listener = listener_add(config);
        uint64_t given = 0;
        char *place = strsep(&item, " "), *pair;
        status = place_set(listener, place, fault);
        while (status == STATUS_OK && (pair = strsep(&item, " ")) != NULL)
            if (*pair != '\0')
                status = pair_set(listener, pair, &given, fault);
        if (status == STATUS_OK)
            status = listener_complete(listener, given, "listeners", fault);
    }
    free(copy);
    return status;
}

/* ---- do the values fit together? ---- */

static enum status check_tls(const struct config_listener *listener, const char *section, const struct fault *fault)
{
    bool certificate = listener->certificate[0] != '\0';
    if (certificate != (listener->key[0] != '\0'))
        return fault_at(fault, section, certificate ? "key" : "certificate", "a certificate and its key come together");
    if (!certificate && listener->psk_file[0] == '\0')
        return fault_at(fault, section, "certificate", "expected a certificate and its key, or psk_file");
    if (listener->client_certificate != CLIENT_CERTIFICATE_NONE && listener->client_ca[0] == '\0')
        return fault_at(fault, section, "client_ca", "expected the issuers of the certificates that clients show");
    if (listener->client_certificate == CLIENT_CERTIFICATE_NONE &&
        (listener->client_ca[0] != '\0' || listener->crl[0] != '\0'))
        return fault_at(fault, section, "client_certificate", "expected optional or required, since client_ca or crl is set");
    return STATUS_OK;
}

static enum status check_address(const struct config_listener *listener, unsigned uses, const char *section,
                                 const struct fault *fault)
{
    uint8_t address[sizeof(struct in6_addr)];
    struct proxy_range ranges[LISTENER_PROXIES_MAX];
    size_t count;
    char *end;
    if (!proxy_ranges_parse(listener->proxy_from, ranges, LISTENER_PROXIES_MAX, &count))
        return fault_at(fault, section, "proxy_from", "expected ADDRESS or ADDRESS/BITS, at most 256 of them");
    if ((uses & LISTENER_LOCAL) != 0) {
        if (listener->address[0] != '/' || strlen(listener->address) >= LISTENER_PATH_MAX)
            return fault_at(fault, section, "address", "expected an absolute path of less than 108 bytes");
        strtoul(listener->mode, &end, 8);
        return *end == '\0' ? STATUS_OK : fault_at(fault, section, "mode", "expected octal permissions, such as 660");
    }
    if (inet_pton(AF_INET, listener->address, address) != 1 && inet_pton(AF_INET6, listener->address, address) != 1)
        return fault_at(fault, section, "address", "expected a literal IPv4 or IPv6 address");
    return STATUS_OK;
}

enum status listeners_check(const struct config *config, const struct fault *fault)
{
    for (uint32_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        const struct listener_kind *kind = listener_kind(listener->kind);
        char section[32];
        snprintf(section, sizeof(section), "listeners.%u", i);
        enum status status = check_address(listener, kind->uses, section, fault);
        if (status == STATUS_OK && (kind->uses & LISTENER_TLS) != 0)
            status = check_tls(listener, section, fault);
        if (status != STATUS_OK)
            return status;
        for (uint32_t k = 0; k < i; k++)
            if ((listener->port != 0 || (kind->uses & LISTENER_LOCAL) != 0) &&
                config->listeners[k].port == listener->port &&
                strcmp(config->listeners[k].address, listener->address) == 0)
                return fault_at(fault, "listeners", section + strlen("listeners."),
                                "this address and port are another listener's");
    }
    return STATUS_OK;
}

void listeners_describe(struct buffer *out)
{
    char line[512];
    snprintf(line, sizeof(line), "\nlisteners: a list; default: one, {kind: tcp, address: 127.0.0.1, anonymous: true}. Of each:\n");
    buffer_put(out, line, strlen(line));
    for (size_t i = 0; i < COUNT; i++) {
        const struct option *option = &options[i].option;
        snprintf(line, sizeof(line), "  %-28s %-16s %s\n", option->key,
                 option->fallback[0] != '\0' ? option->fallback : "\"\"", option->meaning);
        buffer_put(out, line, strlen(line));
    }
}
