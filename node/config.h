/* config.h — what an operator can set: a YAML file, overridden by the environment.
 *
 *   defaults -> FILE (checked against a schema) -> environment -> ranges -> do the values fit together?
 *
 * The options are one table in config.c: key, type, range, default, what it means. From it come the YAML schema, the
 * environment names and `--check-config`. The key `limits.packet_bytes_max` is COTERIE_LIMITS_PACKET_BYTES_MAX; the two
 * lists have a short form there:
 *
 *   COTERIE_CLUSTER_MEMBERS=1=host:port,2=host:port,3=host:port/admin-host:admin-port
 *   COTERIE_LISTENERS=tcp:0.0.0.0:1883 anonymous=true,tls:[::]:8883 certificate=/etc/x.pem key=/etc/x.key
 *
 * The options of a listener are a second table, in config_listeners.c.
 *
 * A fault is one sentence: file and line (or the variable), the key, what was expected, what was there. */
#ifndef COTERIE_CONFIG_H
#define COTERIE_CONFIG_H

#include "base/logger.h"
#include "base/status.h"
#include "command.h"
#include "node/client/capabilities.h"

#define CONFIG_MEMBERS_MAX 7       /* voters; more only make every commit slower */
#define CONFIG_LISTENERS_MAX 16

struct config_member {
    uint32_t id;
    char *link;                    /* host:port where the others reach this node */
    char *admin;                   /* host:port of its admin HTTP; "" = not known */
};

enum config_client_certificate { CLIENT_CERTIFICATE_NONE, CLIENT_CERTIFICATE_OPTIONAL, CLIENT_CERTIFICATE_REQUIRED };
enum config_user_from { USER_FROM_CN, USER_FROM_DN, USER_FROM_SAN };
enum config_admin_user_from { ADMIN_USER_FROM_CN, ADMIN_USER_FROM_SAN };    /* a DN has commas, as lists of names do */
enum config_tls_min { TLS_MIN_1_2, TLS_MIN_1_3 };
enum config_system_call_filter { SYSTEM_CALL_FILTER_OFF, SYSTEM_CALL_FILTER_LOG, SYSTEM_CALL_FILTER_ON, SYSTEM_CALL_FILTER_AUTO };

/* Lists are texts with commas. What a kind of listener has no use for is at its default. */
struct config_listener {
    char *kind;                    /* a name in the table of node/net/listener.c */
    char *address;                 /* literal IPv4 or IPv6 address; of `unix` a path */
    uint32_t port;                 /* 0 = the kernel's choice, for tests */
    char *name;                    /* in logs and metrics; "" = kind:address:port */
    bool anonymous;                /* clients that do not say who they are may connect */
    char *authentication;          /* list of methods, in order; "" = the node's */
    uint32_t connections_max;      /* 0 = the node's limit */
    uint32_t connect_rate_max;     /* connections taken per second; 0 = no limit */
    uint32_t packet_bytes_max;     /* 0 = the node's limit */
    uint64_t publish_rate_max, publish_bytes_max;   /* of all its clients together, per second; 0 = no limit */
    char *proxy_from;              /* list of ADDRESS[/BITS]: only these connect, and with a PROXY header; "" = none does */
    char *mode;                    /* unix: permissions of the socket, octal */
    char *ws_path;                 /* ws, wss: the only path; "" = any */
    char *ws_origins;              /* ws, wss: list of allowed Origins; "" = any, and none */
    char *certificate, *key;       /* tls, wss: PEM files; "" = none (then psk_file) */
    char *client_ca, *crl;         /* tls, wss: PEM files */
    uint32_t client_certificate;   /* enum config_client_certificate */
    uint32_t user_from;            /* enum config_user_from */
    uint32_t tls_min;              /* enum config_tls_min */
    char *psk_file, *psk_hint;     /* tls, wss: lines of identity:key, the key in hexadecimal */
};

struct config {
    struct {
        uint32_t id;
        char *data_dir;
        char *client_address;      /* host:port told to clients in a Server Reference; "" = none */
        uint32_t io_threads;       /* 0: sockets share the thread of the core */
        char *user;                /* whom root becomes; "" = nobody else. node/process.h */
        bool core_dumps;           /* and debuggers: for whoever looks for a fault. Keys and passwords are in them */
        bool confine_writes;       /* to data_dir */
        uint32_t system_call_filter;   /* enum config_system_call_filter */
    } node;
    struct {
        char *name;                /* becomes the cluster id: nodes of another name are refused */
        bool bootstrap;            /* this start may create the cluster if there is nothing in data_dir */
        uint64_t replace;          /* this start may make a replacement of a node that lost its data; 0 = no */
        char *listen;              /* host:port to bind for links; "" = the own member's `link` */
        char *certificate, *key, *ca, *crl;   /* of links; PEM files; "" = plain */
        bool plain_links;          /* not encrypted although they leave this machine */
        struct config_member *members;
        uint32_t member_count;     /* 0 in the file: a cluster of this one node */
    } cluster;
    struct config_listener *listeners;
    uint32_t listener_count;
    struct {
        char *address;
        uint32_t port;             /* 0 = no admin HTTP */
        char *token;               /* of the role write, named "admin"; "" = none. Secret */
        char *token_file;          /* of more tokens, node/admin/admin_access.h; "" = none */
        char *certificate, *key;   /* PEM files; "" = no TLS, and then on this machine only */
        char *client_ca, *crl;     /* PEM files: for certificates of those who ask; "" = they are not asked for any */
        uint32_t user_from;        /* enum config_admin_user_from */
        char *readers, *writers;   /* lists of the names of certificates with these roles; "*" = all of them */
    } admin;
    struct {
        struct command_settings state;   /* replicated: the leader's count */
        uint32_t packet_bytes_max;
        uint32_t connect_bytes_max;
        uint32_t connections_max;
        uint32_t pending_max;            /* connections that are not let in yet */
        uint32_t pending_address_max;    /* of them, from one address */
        uint32_t packet_rate_min;        /* bytes per second */
        uint32_t receive_maximum;        /* QoS 1 and 2 publishes a client may have open towards us */
        uint64_t output_bytes_max;       /* per connection; beyond: QoS 0 is dropped, QoS 1 and 2 wait in the store */
        uint64_t hold_bytes_max;         /* per node: commands that wait for a leader */
        uint64_t memory_bytes_max;       /* per node: all buffers of clients together */
        uint64_t log_bytes_max;          /* of the log on disk: consensus_snapshot_taken() */
        uint64_t store_map_bytes;        /* address space for the database, sized once */
        struct core_capabilities offered;   /* to clients */
    } limits;
    struct {
        uint32_t election_ms;
        uint32_t heartbeat_ms;
        uint32_t node_timeout_ms;
        uint32_t connect_ms;             /* from accept to CONNECT */
        uint32_t handshake_ms;           /* from accept until all filters are open */
        uint32_t close_ms;               /* to flush what is left to a connection that is being closed */
        uint32_t hold_ms;                /* how long clients wait for a leader before they are turned away */
        uint32_t take_over_ms;           /* take-overs of one client id that follow each other faster are slowed down */
        uint32_t keep_alive_max_s;       /* longer ones are lowered (5.0); 0 = no limit */
    } timeouts;
    struct {
        char *users;                     /* node/client/auth.h says how; what is in the file comes behind it. Secret */
        char *users_file;                /* "" = none */
        char *methods;                   /* list, in order; "" = LOGIN_METHODS_DEFAULT of node/client/login.h */
        bool fall_through, adopt_anonymous;
        uint32_t remembered_max, waiting_max;
        char *password_file;             /* "" = none, like those below */
        char *token_keys, *token_issuer, *token_audience, *token_user_claim;
        uint32_t token_leeway_s;
    } authentication;
    struct {
        char *acl_file;
        bool sys_readable;
        bool close_on_denied;
    } authorization;
    struct {
        enum log_level level;
        enum log_format format;
    } log;
    bool file_holds_secrets;       /* the file itself: passwords, or the admin's token */
};

#define CONFIG_ERROR_MAX 512

/* Reads `path` (NULL: no file) and the environment `environ` (as main's; NULL: none). STATUS_INVALID: `error` says
 * what and where; *config is NULL then. */
enum status config_load(const char *path, const char *const *environment, struct config **config,
                        char error[CONFIG_ERROR_MAX]);
void config_free(struct config *config);

/* The member entry of this node; NULL in a cluster of one without members. */
const struct config_member *config_self(const struct config *config);

/* All links begin and end on this machine. */
bool config_links_are_local(const struct config *config);
/* The admin HTTP listens on this machine only. */
bool config_admin_is_local(const struct config *config);

/* Splits "host:port" or "[v6]:port"; false if it is neither. `host` gets at most `size` bytes. */
bool config_split_address(const char *text, char *host, size_t size, uint32_t *port);

/* Writes the table of options for --help-config: key, default, meaning. */
void config_describe(struct buffer *out);

#endif
