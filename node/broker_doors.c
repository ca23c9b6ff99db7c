/* broker_doors.c — the listeners of a node, from their configuration to what the core is told of a client; and the
 * certificates of them and of the links.
 *
 *   config_listener --files--> tls_context --> listener --> conn --filters--> facts --door_origin--> core
 *   SIGHUP, admin   --> doors_reload --thread pool: files--> new contexts, for connections from now on
 *
 * Nobody is dropped by a reload: a connection keeps the context it began with. A file that cannot be used leaves the old one
 * in its place, and says so. Certificates that end soon are told of daily. */
#include "broker_private.h"

#include "base/memory.h"
#include "client/login.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS_USED 48 /* log, store, links, epoll ... of a running node, roughly */
#define DESCRIPTORS_MAX  (1 << 20) /* that are made ready for */
#define DAY_S            86400
#define WARN_DAYS        30
#define MESSAGE_BYTES    (16 * 1024 * 1024) /* of WebSocket: several packets may come in one */

/* While a process has threads, the kernel doubles the table of its descriptors only after a grace period of some 20 ms, during
 * which whoever wants the 64th, 128th ... waits: the loop, in accept(). So the table is made as large as it may get, before
 * there are clients; it costs 8 bytes for each. */
static void enlarge_descriptor_table(rlim_t count)
{
    int last = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, (int)(count < DESCRIPTORS_MAX ? count : DESCRIPTORS_MAX) - 1);
    if (last >= 0)
        close(last);
}

/* As many descriptors as the machine allows, and so many clients that RESERVED are left for everything else. */
static uint32_t raise_descriptor_limit(const struct config *config)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return 1024;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    enlarge_descriptor_table(limit.rlim_cur);
    uint64_t kept = LISTENER_DESCRIPTORS_RESERVED + DESCRIPTORS_USED;
    if (config->admin.certificate[0] != '\0')
        kept += ADMIN_DOOR_DESCRIPTORS;
    uint64_t clients = limit.rlim_cur > kept + 16 ? limit.rlim_cur - kept : 16;
    return clients < UINT32_MAX ? (uint32_t)clients : UINT32_MAX;
}

/* ---- TLS ---- */

static enum status open_context(const struct config_listener *config, struct tls_context **context,
                                char error[TLS_ERROR_MAX])
{
    const struct tls_settings settings = {
        .certificate = config->certificate,
        .key = config->key,
        .ca = config->client_ca,
        .crl = config->crl,
        .psk = config->psk_file,
        .psk_hint = config->psk_hint,
        .protocol = listener_kind(config->kind)->protocol,
        .verify = config->client_certificate == CLIENT_CERTIFICATE_REQUIRED   ? TLS_VERIFY_REQUIRED
                  : config->client_certificate == CLIENT_CERTIFICATE_OPTIONAL ? TLS_VERIFY_OPTIONAL
                                                                              : TLS_VERIFY_NONE,
        .tls_1_3 = config->tls_min == TLS_MIN_1_3,
    };
    return tls_context_open(&settings, context, error);
}

static bool uses_tls(const struct config_listener *config)
{
    return (listener_kind(config->kind)->uses & LISTENER_TLS) != 0;
}

static enum status open_links_context(const struct config *config, struct tls_context **context,
                                      char error[TLS_ERROR_MAX])
{
    const struct tls_settings settings = {
        .certificate = config->cluster.certificate,
        .key = config->cluster.key,
        .ca = config->cluster.ca,
        .crl = config->cluster.crl,
        .verify = TLS_VERIFY_REQUIRED,
        .tls_1_3 = true,
        .clocks_may_be_behind = true, /* a cluster does not depend on what its nodes believe the time to be */
    };
    return tls_context_open(&settings, context, error);
}

static enum status open_admin_context(const struct config *config, struct tls_context **context, char error[TLS_ERROR_MAX])
{
    const struct tls_settings settings = {
        .certificate = config->admin.certificate,
        .key = config->admin.key,
        .ca = config->admin.client_ca,
        .crl = config->admin.crl,
        .protocol = "http/1.1",
        .verify = config->admin.client_ca[0] != '\0' ? TLS_VERIFY_OPTIONAL : TLS_VERIFY_NONE,
    };
    return tls_context_open(&settings, context, error);
}

static int64_t seconds_left(const struct tls_context *context)
{
    int64_t expiry = tls_context_expiry(context);
    return expiry == INT64_MAX ? INT64_MAX : expiry - (int64_t)time(NULL);
}

int64_t broker_link_certificate_seconds(const struct broker *broker)
{
    return broker->links_tls != NULL ? seconds_left(broker->links_tls) : INT64_MAX;
}

int64_t broker_admin_certificate_seconds(const struct broker *broker)
{
    return broker->admin_tls != NULL ? seconds_left(broker->admin_tls) : INT64_MAX;
}

/* For the log: INT64_MAX, of what has no certificate, is no number of days. */
static struct log_field days_field(int64_t left)
{
    return left == INT64_MAX ? log_text("days_left", "none") : log_i64("days_left", left / DAY_S);
}

static void warn_if_soon(const char *listener, int64_t left)
{
    if (left > (int64_t)WARN_DAYS * DAY_S)
        return;
    log_event(left <= 0 ? LOG_ERROR : LOG_WARNING, left <= 0 ? "certificate-expired" : "certificate-expires",
              log_text("listener", listener), log_i64("days_left", left / DAY_S),
              log_text("what", "its certificate, one of its issuers, or its list of revoked certificates; put new "
                               "files in place and send SIGHUP or `coteriectl reload`"));
}

static void warn_of_expiry(struct broker *broker)
{
    warn_if_soon("links", broker_link_certificate_seconds(broker));
    warn_if_soon("admin", broker_admin_certificate_seconds(broker));
    for (uint32_t i = 0; i < broker->door_count; i++)
        if (broker->doors[i].tls != NULL)
            warn_if_soon(broker->doors[i].name, seconds_left(broker->doors[i].tls));
    broker->certificates_ms = clock_ms(CLOCK_BOOTTIME) + DAY_S * 1000ull;
}

/* ---- opening ---- */

/* By which methods somebody can be known here, as far as the configuration says; users may come at any time. */
static unsigned possible_methods(const struct config *config, const struct config_listener *listener)
{
    unsigned methods = 1u << LOGIN_SCRAM | 1u << LOGIN_USERS;
    if (listener->client_certificate != CLIENT_CERTIFICATE_NONE)
        methods |= 1u << LOGIN_CERTIFICATE;
    if (listener->psk_file[0] != '\0')
        methods |= 1u << LOGIN_PSK;
    if (config->authentication.password_file[0] != '\0')
        methods |= 1u << LOGIN_PASSWORD_FILE;
    if (config->authentication.token_keys[0] != '\0')
        methods |= 1u << LOGIN_TOKEN;
    return methods;
}

/* Who may connect here, in a line for the log. */
static void describe_clients(const struct config *config, const struct config_listener *listener, char *out, size_t size)
{
    static const char *const certificates[] = {"", "with or without a certificate, ", "with a certificate, "};
    const char *list = listener->authentication[0] != '\0' ? listener->authentication : config->authentication.methods;
    char methods[128];
    login_methods_among(list, possible_methods(config, listener), methods, sizeof(methods));
    const char *anonymous = methods[0] != '\0' ? "ANYBODY without a name; named ones by " : "ANYBODY, without a name only";
    snprintf(out, size, "%s%s%s%s%s", listener->proxy_from[0] != '\0' ? "behind a proxy, " : "",
             certificates[listener->client_certificate], listener->psk_file[0] != '\0' ? "with a key of psk_file, " : "",
             listener->anonymous  ? anonymous
             : methods[0] != '\0' ? "by "
                                  : "NOBODY: none of its methods can know anyone",
             methods);
}

static void tell(const struct door *door)
{
    const struct config_listener *config = door->config;
    char clients[384];
    describe_clients(door->broker->config, config, clients, sizeof(clients));
    log_event(LOG_INFO, "listening", log_text("listener", door->name), log_text("clients", clients),
              log_text("encrypted", !uses_tls(config)             ? "no"
                                    : config->tls_min == TLS_MIN_1_3 ? "TLS 1.3"
                                                                     : "TLS 1.2 or 1.3"),
              log_text("user_from", config->client_certificate == CLIENT_CERTIFICATE_NONE ? "-"
                                    : config->user_from == USER_FROM_CN                   ? "cn"
                                    : config->user_from == USER_FROM_DN                   ? "dn"
                                                                                          : "san"),
              log_u64("connections_max", config->connections_max));
}

static enum status open_door(struct broker *broker, struct door *door, char *error)
{
    const struct config_listener *config = door->config;
    const struct listener_calls calls = for_listener(door);
    char tls_error[TLS_ERROR_MAX];
    if (uses_tls(config) && open_context(config, &door->tls, tls_error) != STATUS_OK) {
        snprintf(error, BROKER_ERROR_MAX, "listener %s %s port %u: %s", config->kind, config->address, config->port,
                 tls_error);
        return STATUS_INVALID;
    }
    uint64_t packet = config->packet_bytes_max > 0 ? config->packet_bytes_max : broker->config->limits.packet_bytes_max;
    const struct listener_settings settings = {
        .kind = config->kind,
        .address = config->address,
        .port = config->port,
        .mode = (uint32_t)strtoul(config->mode, NULL, 8),
        .door = (uint8_t)(door - broker->doors),
        .connections_max = config->connections_max,
        .connect_rate_max = config->connect_rate_max,
        .proxies = config->proxy_from,
        .websocket = {.path = config->ws_path,
                      .origins = config->ws_origins,
                      .message_bytes_max = packet > MESSAGE_BYTES ? packet : MESSAGE_BYTES},
        .tls = door->tls,
    };
    int result = listener_open(broker->loop, broker->conns, &settings, &calls, &door->listener);
    if (result != 0) {
        snprintf(error, BROKER_ERROR_MAX, "cannot listen for clients at %s %s port %u: %s", config->kind,
                 config->address, config->port, uv_strerror(result));
        return STATUS_INVALID;
    }
    snprintf(door->name, sizeof(door->name), "%s",
             config->name[0] != '\0' ? config->name : listener_name(door->listener));
    for (char *c = door->name; *c != '\0'; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f || *c == '"' || *c == '\\')
            *c = '?'; /* it goes into logs, and into labels of metrics */
    door->facts = (struct core_listener){.name = door->name,
                                         .authentication = config->authentication,
                                         .anonymous = config->anonymous,
                                         .packet_bytes_max = config->packet_bytes_max,
                                         .publish_rate_max = config->publish_rate_max,
                                         .publish_bytes_max = config->publish_bytes_max};
    return STATUS_OK;
}

/* Whether links are encrypted, and a warning if that is left out where it matters. */
static enum status open_links_tls(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    char tls_error[TLS_ERROR_MAX];
    if (config->cluster.certificate[0] != '\0') {
        if (open_links_context(config, &broker->links_tls, tls_error) == STATUS_OK)
            return STATUS_OK;
        snprintf(error, BROKER_ERROR_MAX, "links to other nodes: %s", tls_error);
        return STATUS_INVALID;
    }
    if (config->cluster.member_count > 1 && !config_links_are_local(config))
        log_event(LOG_WARNING, "links-not-encrypted",
                  log_text("what", "cluster.plain_links: whoever reaches the links' port can read and change everything"));
    return STATUS_OK;
}

/* For operators: loopback, or TLS. */
static enum status open_admin(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    char tls_error[TLS_ERROR_MAX];
    if (config->admin.port == 0)
        return STATUS_OK;
    if (config->admin.certificate[0] != '\0' && open_admin_context(config, &broker->admin_tls, tls_error) != STATUS_OK) {
        snprintf(error, BROKER_ERROR_MAX, "admin HTTP: %s", tls_error);
        return STATUS_INVALID;
    }
    const struct admin_settings settings = {
        .address = config->admin.address,
        .port = config->admin.port,
        .patience_ms = config->timeouts.handshake_ms,
        .tls = broker->admin_tls,
    };
    return admin_open(broker->loop, broker, &settings, &broker->admin, error, BROKER_ERROR_MAX);
}

enum status doors_open(struct broker *broker, char *error)
{
    const struct config *config = broker->config;
    uint32_t clients = raise_descriptor_limit(config);
    if (open_links_tls(broker, error) != STATUS_OK)
        return STATUS_INVALID;
    if (clients < config->limits.connections_max)
        log_event(LOG_DEBUG, "connections-limited", log_u64("by_descriptors", clients));
    for (uint32_t i = 0; i < config->listener_count; i++) {
        struct door *door = &broker->doors[broker->door_count++];
        door->broker = broker;
        door->config = &config->listeners[i];
        enum status status = open_door(broker, door, error);
        if (status != STATUS_OK)
            return status;
        listener_limit(door->listener, clients);
        tell(door);
    }
    enum status status = open_admin(broker, error);
    if (status == STATUS_OK)
        warn_of_expiry(broker);
    return status;
}

void doors_close(struct broker *broker)
{
    for (uint32_t i = 0; i < broker->door_count; i++) {
        if (broker->doors[i].listener != NULL)
            listener_close(broker->doors[i].listener);
        broker->doors[i].listener = NULL;
    }
}

void doors_free(struct broker *broker)
{
    for (uint32_t i = 0; i < broker->door_count; i++)
        tls_context_release(broker->doors[i].tls);
    tls_context_release(broker->links_tls);
    tls_context_release(broker->admin_tls);
}

void doors_turn(struct broker *broker)
{
    for (uint32_t i = 0; i < broker->door_count; i++)
        if (broker->doors[i].listener != NULL)
            listener_turn(broker->doors[i].listener);
    if (broker->now_ms >= broker->certificates_ms)
        warn_of_expiry(broker);
}

/* ---- reloading ---- */

struct reload {
    uv_work_t request;
    struct broker *broker;
    struct reloaded {
        struct tls_context *context; /* NULL: the old one stays */
        char error[TLS_ERROR_MAX];
    } doors[CONFIG_LISTENERS_MAX], links, admin;
};

static void reload_run(uv_work_t *request)
{
    struct reload *reload = request->data;
    if (reload->broker->links_tls != NULL)
        open_links_context(reload->broker->config, &reload->links.context, reload->links.error);
    if (reload->broker->admin_tls != NULL)
        open_admin_context(reload->broker->config, &reload->admin.context, reload->admin.error);
    for (uint32_t i = 0; i < reload->broker->door_count; i++)
        if (uses_tls(reload->broker->doors[i].config))
            open_context(reload->broker->doors[i].config, &reload->doors[i].context, reload->doors[i].error);
}

/* Whether there is a new context; it takes the place of *old. */
static bool take_context(const char *listener, struct tls_context **old, const struct reloaded *reloaded)
{
    if (reloaded->context == NULL) {
        log_event(LOG_ERROR, "certificate-not-reloaded", log_text("listener", listener),
                  log_text("why", reloaded->error),
                  log_text("consequence", "what was loaded before stays in use"));
        return false;
    }
    tls_context_release(*old);
    *old = reloaded->context;
    log_event(LOG_INFO, "certificate-reloaded", log_text("listener", listener),
              days_field(seconds_left(reloaded->context)));
    return true;
}

static void take_reloaded(struct broker *broker, const struct reload *reload)
{
    if (broker->links_tls != NULL && take_context("links", &broker->links_tls, &reload->links) && broker->links != NULL)
        links_set_tls(broker->links, broker->links_tls);
    if (broker->admin_tls != NULL && take_context("admin", &broker->admin_tls, &reload->admin) && broker->admin != NULL)
        admin_set_tls(broker->admin, broker->admin_tls);
    for (uint32_t i = 0; i < broker->door_count; i++) {
        struct door *door = &broker->doors[i];
        if (uses_tls(door->config) && take_context(door->name, &door->tls, &reload->doors[i]) && door->listener != NULL)
            listener_set_tls(door->listener, door->tls);
    }
}

static void reload_done(uv_work_t *request, int status)
{
    struct reload *reload = request->data;
    struct broker *broker = reload->broker;
    (void)status; /* never cancelled */
    broker->jobs--;
    broker->reloading = false;
    take_reloaded(broker, reload);
    free(reload);
    warn_of_expiry(broker);
    if (broker->reload_again)
        doors_reload(broker);
}

void doors_reload(struct broker *broker)
{
    broker->reload_again = broker->reloading;
    if (broker->reloading || !broker_alive(broker))
        return;
    struct reload *reload = memory_zeroed(1, sizeof(*reload));
    reload->broker = broker;
    reload->request.data = reload;
    broker->reloading = true;
    broker->jobs++;
    log_event(LOG_INFO, "reloading");
    int error = uv_queue_work(broker->loop, &reload->request, reload_run, reload_done);
    assert(error == 0);
    (void)error;
}

void broker_reload(struct broker *broker)
{
    doors_reload(broker);
    security_reload(broker);
}

/* ---- for the admin interface ---- */

bool broker_listener(const struct broker *broker, uint32_t number, struct broker_listener *facts)
{
    if (number >= broker->door_count)
        return false;
    const struct door *door = &broker->doors[number];
    *facts = (struct broker_listener){
        .name = door->name,
        .kind = door->config->kind,
        .connections = door->listener != NULL ? listener_connections(door->listener) : 0,
        .certificate_seconds = door->tls != NULL ? seconds_left(door->tls) : INT64_MAX,
    };
    return true;
}

void broker_openings(const struct broker *broker, struct broker_openings *openings)
{
    struct conns_counts counts;
    conns_counts(broker->conns, &counts);
    *openings = (struct broker_openings){.opened = counts.opened,
                                         .refused = counts.refused,
                                         .timed_out = counts.timed_out,
                                         .handshakes = counts.handshakes,
                                         .looks_max = counts.looks_max,
                                         .opening = counts.opening,
                                         .waiting = counts.waiting};
}

/* ---- clients ---- */

static const char *text_or_null(const char *text)
{
    return text[0] != '\0' ? text : NULL;
}

struct core_origin door_origin(const struct door *door, const struct filter_facts *facts)
{
    struct core_origin origin = {
        .listener = &door->facts, .transport = listener_kind(door->config->kind)->name, .encrypted = facts->encrypted};
    if (!facts->encrypted)
        return origin;
    origin.certificate_cn = text_or_null(facts->tls.common_name);
    origin.certificate_dn = text_or_null(facts->tls.distinguished_name);
    origin.certificate_san = text_or_null(facts->tls.alternative_name);
    origin.psk_identity = text_or_null(facts->tls.psk_identity);
    origin.certificate_user = door->config->user_from == USER_FROM_CN   ? origin.certificate_cn
                              : door->config->user_from == USER_FROM_DN ? origin.certificate_dn
                                                                        : origin.certificate_san;
    return origin;
}
