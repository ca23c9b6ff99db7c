/* config_check.c — do the values fit together? What each of them may be is checked where it is set (option_set). */
#include "config_private.h"

#include "cluster/wire.h"
#include "node/admin/admin_access.h"
#include "node/client/auth.h"
#include "node/client/login.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#define LINK_BYTES_PER_MS (100 * 1024) /* what a link between nodes surely moves */
#define PACKET_OVERHEAD_MAX (128 * 1024) /* a command is larger than its packet by a topic of 64 KB (alias), some fields */

/* ---- users ---- */

/* The number of an entry is all that is said about it: it holds a password. */
static enum status check_users(const struct config *config, const struct fault *fault)
{
    unsigned number = auth_check_users(config->authentication.users);
    char sentence[128];
    if (number == 0)
        return STATUS_OK;
    snprintf(sentence, sizeof(sentence), "entry %u is neither name:password nor name:SCRAM-SHA-256$...", number);
    return fault_at(fault, "authentication", "users", sentence);
}

/* A method that could never know anybody was meant to protect something. */
static enum status check_method(const struct config *config, unsigned methods, const char *where, const char *key,
                                const struct fault *fault)
{
    if ((methods & 1u << LOGIN_PASSWORD_FILE) != 0 && config->authentication.password_file[0] == '\0')
        return fault_at(fault, where, key, "password_file: there is no authentication.password_file");
    if ((methods & 1u << LOGIN_TOKEN) != 0 && config->authentication.token_keys[0] == '\0')
        return fault_at(fault, where, key, "token: there are no authentication.token_keys");
    return STATUS_OK;
}

static enum status check_methods(const struct config *config, const char *list, const char *where, const char *key,
                                 const struct fault *fault)
{
    struct bytes unknown;
    unsigned methods;
    char sentence[160];
    if (list[0] == '\0')
        return STATUS_OK;
    if (login_methods(list, &methods, &unknown))
        return check_method(config, methods, where, key, fault);
    snprintf(sentence, sizeof(sentence), "there is no method '%.*s'; expected %s", (int)(unknown.size < 32 ? unknown.size : 32),
             (const char *)unknown.data, LOGIN_METHODS_DEFAULT);
    return fault_at(fault, where, key, sentence);
}

static enum status check_authentication(const struct config *config, const struct fault *fault)
{
    enum status status = check_methods(config, config->authentication.methods, "authentication", "methods", fault);
    for (uint32_t i = 0; i < config->listener_count && status == STATUS_OK; i++) {
        char key[CONFIG_PATH_MAX];
        snprintf(key, sizeof(key), "%u.authentication", i);
        status = check_methods(config, config->listeners[i].authentication, "listeners", key, fault);
    }
    return status;
}

/* ---- members and links ---- */

static bool is_loopback(const char *literal)
{
    uint8_t v4[4], v6[16];
    return (inet_pton(AF_INET, literal, v4) == 1 && v4[0] == 127) ||
           (inet_pton(AF_INET6, literal, v6) == 1 && IN6_IS_ADDR_LOOPBACK((struct in6_addr *)v6));
}

static bool is_this_machine(const char *address)
{
    char host[256];
    uint32_t port;
    if (!config_split_address(address, host, sizeof(host), &port))
        return false;
    return strcmp(host, "localhost") == 0 || is_loopback(host);
}

bool config_admin_is_local(const struct config *config)
{
    return config->admin.port == 0 || is_loopback(config->admin.address);
}

bool config_links_are_local(const struct config *config)
{
    for (uint32_t i = 0; i < config->cluster.member_count; i++)
        if (!is_this_machine(config->cluster.members[i].link))
            return false;
    return config->cluster.listen[0] == '\0' || is_this_machine(config->cluster.listen);
}

/* Links are encrypted, or stay on this machine, or somebody has said that they need not. */
static enum status check_links(const struct config *config, const struct fault *fault)
{
    bool certificate = config->cluster.certificate[0] != '\0', key = config->cluster.key[0] != '\0';
    bool ca = config->cluster.ca[0] != '\0';
    if (certificate != key || key != ca)
        return fault_at(fault, "cluster", certificate ? key ? "ca" : "key" : "certificate",
                        "cluster.certificate, cluster.key and cluster.ca come together");
    if (!certificate && config->cluster.crl[0] != '\0')
        return fault_at(fault, "cluster", "crl", "of no use without cluster.certificate");
    if (certificate && config->cluster.plain_links)
        return fault_at(fault, "cluster", "plain_links", "there is a cluster.certificate: links are encrypted");
    if (certificate || config->cluster.plain_links || config->cluster.member_count < 2 || config_links_are_local(config))
        return STATUS_OK;
    return fault_at(fault, "cluster", "certificate",
                    "links that leave this machine need TLS: certificate, key and ca (deploy/certificates makes them), "
                    "or plain_links: true where nobody else reaches them");
}

static enum status check_members(const struct config *config, const struct fault *fault)
{
    char where[CONFIG_PATH_MAX], host[256];
    uint32_t port;
    for (uint32_t i = 0; i < config->cluster.member_count; i++) {
        const struct config_member *member = &config->cluster.members[i];
        snprintf(where, sizeof(where), "members.%u", i);
        if (member->id < 1 || member->id >= 64)
            return fault_at(fault, "cluster", where, "expected an id from 1 to 63");
        if (!config_split_address(member->link, host, sizeof(host), &port) || port == 0)
            return fault_at(fault, "cluster", where, "link: expected host:port");
        if (member->admin[0] != '\0' && !config_split_address(member->admin, host, sizeof(host), &port))
            return fault_at(fault, "cluster", where, "admin: expected host:port");
        for (uint32_t k = 0; k < i; k++) {
            if (config->cluster.members[k].id == member->id)
                return fault_at(fault, "cluster", where, "this id is another member's");
            if (strcmp(config->cluster.members[k].link, member->link) == 0)
                return fault_at(fault, "cluster", where, "this link is another member's");
        }
    }
    enum status status = check_links(config, fault);
    if (status != STATUS_OK)
        return status;
    if (config->cluster.member_count > 0 && config_self(config) == NULL)
        return fault_at(fault, "cluster", "members", "this node's id (node.id) is not among the members");
    return STATUS_OK;
}

/* ---- the admin HTTP ---- */

static bool is_literal_address(const char *text)
{
    uint8_t address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

/* Certificates of the admin HTTP, its own and those of operators. */
static enum status check_admin_certificates(const struct config *config, const struct fault *fault)
{
    bool certificate = config->admin.certificate[0] != '\0', ca = config->admin.client_ca[0] != '\0';
    const struct {
        const char *key, *value;
    } needs_ca[] = {{"crl", config->admin.crl}, {"readers", config->admin.readers}, {"writers", config->admin.writers}};
    if (certificate != (config->admin.key[0] != '\0'))
        return fault_at(fault, "admin", certificate ? "key" : "certificate", "a certificate and its key come together");
    if (ca && !certificate)
        return fault_at(fault, "admin", "client_ca", "of no use without admin.certificate");
    for (size_t i = 0; i < sizeof(needs_ca) / sizeof(needs_ca[0]); i++)
        if (needs_ca[i].value[0] != '\0' && !ca)
            return fault_at(fault, "admin", needs_ca[i].key, "of no use without admin.client_ca");
    if (ca && config->admin.readers[0] == '\0' && config->admin.writers[0] == '\0')
        return fault_at(fault, "admin", "client_ca",
                        "expected admin.readers or admin.writers too: whose certificates have which role");
    return STATUS_OK;
}

/* Beyond this machine only with TLS, and with TLS only for those who are known. */
static enum status check_admin(const struct config *config, const struct fault *fault)
{
    bool certificate = config->admin.certificate[0] != '\0';
    bool known = config->admin.token[0] != '\0' || config->admin.token_file[0] != '\0' || config->admin.client_ca[0] != '\0';
    if (!is_literal_address(config->admin.address))
        return fault_at(fault, "admin", "address", "expected a literal IPv4 or IPv6 address");
    if (config->admin.token[0] != '\0' && strlen(config->admin.token) < ADMIN_TOKEN_BYTES_MIN)
        return fault_at(fault, "admin", "token", "expected 16 bytes at least");
    enum status status = check_admin_certificates(config, fault);
    if (status != STATUS_OK)
        return status;
    if (!certificate && !config_admin_is_local(config))
        return fault_at(fault, "admin", "address",
                        "beyond this machine the admin HTTP needs TLS (admin.certificate, admin.key) and somebody who may use "
                        "it (admin.token_file, admin.token or admin.client_ca)");
    if (certificate && !known)
        return fault_at(fault, "admin", "certificate",
                        "with TLS nobody is answered without a token or a certificate: expected admin.token_file, admin.token "
                        "or admin.client_ca too");
    return STATUS_OK;
}

/* ---- all of it ---- */

enum status config_check(const struct config *config, const struct fault *fault)
{
    char host[256], sentence[256];
    uint32_t port;
    enum status status = check_members(config, fault);
    if (status == STATUS_OK)
        status = listeners_check(config, fault);
    if (status == STATUS_OK)
        status = check_users(config, fault);
    if (status == STATUS_OK)
        status = check_authentication(config, fault);
    if (status == STATUS_OK)
        status = check_admin(config, fault);
    if (status != STATUS_OK)
        return status;
    if (config->cluster.listen[0] != '\0' && !config_split_address(config->cluster.listen, host, sizeof(host), &port))
        return fault_at(fault, "cluster", "listen", "expected host:port");
    if (config->node.client_address[0] != '\0' &&
        !config_split_address(config->node.client_address, host, sizeof(host), &port))
        return fault_at(fault, "node", "client_address", "expected host:port");
    if (config->timeouts.heartbeat_ms * 3 > config->timeouts.election_ms)
        return fault_at(fault, "timeouts", "heartbeat_ms", "expected at most a third of timeouts.election_ms");
    if (config->timeouts.node_timeout_ms < config->timeouts.election_ms * 3)
        return fault_at(fault, "timeouts", "node_timeout_ms", "expected at least three times timeouts.election_ms");
    if (config->limits.packet_bytes_max > (uint64_t)config->timeouts.election_ms * LINK_BYTES_PER_MS) {
        snprintf(sentence, sizeof(sentence),
                 "expected at most %llu: a larger packet would hold a link for an election timeout of %u ms",
                 (unsigned long long)config->timeouts.election_ms * LINK_BYTES_PER_MS, config->timeouts.election_ms);
        return fault_at(fault, "limits", "packet_bytes_max", sentence);
    }
    if (config->limits.packet_bytes_max > WIRE_ENTRY_BYTES_MAX - PACKET_OVERHEAD_MAX) {
        snprintf(sentence, sizeof(sentence), "expected at most %u: a packet has to fit into one entry of the log",
                 WIRE_ENTRY_BYTES_MAX - PACKET_OVERHEAD_MAX);
        return fault_at(fault, "limits", "packet_bytes_max", sentence);
    }
    if (config->limits.hold_bytes_max > config->limits.memory_bytes_max)
        return fault_at(fault, "limits", "hold_bytes_max", "expected at most limits.memory_bytes_max");
    return STATUS_OK;
}
