/* core.h — everything one node decides about its clients: their protocol state, the state machine, and delivery.
 *
 *                    core_received, core_written, core_closed        core_take_entry, core_health ...
 *   io (sockets) ──────────────────────────────────────────▶ core ◀────────────────────────────── consensus, links
 *                ◀──────────────────────────────────────────      ──────────────────────────────▶
 *                    write, close, reading                            submit, applied, messages ...
 *
 * Pure: no sockets, no clock, no random source. Single-threaded.
 *
 * The seams are queues. An event only takes something in: it decodes, decides, applies, and collects what is to go out.
 * Callbacks are made in core_turn() and nowhere else, gathered: one write per connection, one batch of commands, one
 * batch of QoS 0 messages per peer. A callback must not call into this core. So a driver does, per turn of its loop:
 * hand in all events that are there, then core_turn(), then sleep until core_deadline().
 *
 * Times are milliseconds of a monotonic clock that also counts while the machine sleeps (CLOCK_BOOTTIME). */
#ifndef COTERIE_CORE_H
#define COTERIE_CORE_H

#include "capabilities.h"
#include "cluster/consensus.h"
#include "frame.h"
#include "state.h"

struct acl_file;
struct core;
struct login;
struct password_file;
struct token_keys;

/* Limits of this node. Zero means the default in brackets; those of the state machine are in `settings`. */
struct core_limits {
    uint32_t clients_max;            /* connections [100,000]; beyond it new ones are refused with 0x97 / close */
    uint32_t packet_bytes_max;       /* largest packet accepted, told to clients [1 MiB + 1 KiB] */
    uint32_t connect_bytes_max;      /* largest CONNECT [64 KiB + 512] */
    uint16_t receive_maximum;        /* QoS 1 and 2 of one client unanswered at once, told to clients [1,000] */
    uint16_t in_flight_max;          /* QoS 1 and 2 to one client unanswered at once, if its own is larger [100] */
    uint16_t keep_alive_max_s;       /* clients asking for more, or none, get this (Server Keep Alive) [0: no limit] */
    uint32_t connect_timeout_ms;     /* from the connection to a whole CONNECT [10,000] */
    uint32_t pending_max;            /* connections whose CONNECT has not been granted [20,000] */
    uint32_t pending_address_max;    /* of them, from one address [10,000] */
    uint32_t packet_rate_min;        /* bytes per second of a packet that has begun, after the time of a CONNECT [1,024] */
    uint32_t output_bytes_max;       /* waiting for one socket: QoS 0 beyond it is dropped, QoS 1 and 2 wait [1 MiB] */
    uint32_t client_commands_max;    /* commands of one client on their way; then it is not read [2,000] */
    uint64_t commands_bytes_max;     /* commands of all clients on their way; then none is read [32 MiB] */
    uint64_t memory_bytes_max;       /* input and output buffers of all clients; then QoS 0 is dropped, none is read
                                      * [256 MiB] */
    uint32_t hold_ms;                /* how long clients are held while nothing can be committed [5,000] */
    uint32_t node_timeout_ms;        /* silence after which the leader declares a node down [2,000] */
    uint32_t node_margin_ms;         /* clients are dropped that much earlier [500] */
    uint32_t acknowledge_ms;         /* PUBACKs of subscribers are collected at most so long [20] */
    uint32_t subscribe_wait_ms;      /* SUBACK waits at most so long for the other nodes [20] */
    uint32_t logins_max;             /* passwords that wait to be checked; then 0x89 [1,000] */
    uint32_t collision_ms;           /* a packet id that is not free for so long closes the connection [30,000] */
    uint32_t take_over_ms;           /* take-overs of one client id that follow each other faster are slowed down [1,000] */
    uint32_t commit_ms;              /* the store's transaction is committed after so long [10] */
    uint32_t commit_commands;        /* or after so many commands [1,000] */
};

/* How clients are known, and what they may do; see login.h, access.h. All copied. */
struct core_security {
    const char *methods;               /* of listeners that do not say; "", NULL: those of login.h */
    bool adopt_anonymous;              /* sessions that were made without a name become the user's who comes with their id */
    bool fall_through;                 /* a wrong password goes on to the next method */
    uint32_t remembered_max;           /* right passwords that need no hash again */
    bool sys_hidden;                   /* $SYS is not to be read while there are no rules */
    bool close_on_denied;              /* a PUBLISH that is not allowed ends the connection; else it is answered no (3.x: yes) */
};

struct core_options {
    uint32_t node;                     /* this node's id */
    uint64_t seed;                     /* for assigned client ids */
    uint8_t boot_nonce[16];            /* random per start */
    const char *client_address;        /* host:port that Server References name; may be "" */
    struct core_limits limits;
    const struct core_capabilities *capabilities;   /* NULL: CORE_CAPABILITIES_DEFAULT */
    const char *users;                 /* of the configuration, as auth.h says; NULL: none */
    struct core_security security;
    const struct command_settings *settings;   /* what this node's configuration wants; the leader proposes it if it
                                                * differs. NULL: leave the limits as they are */
};

#define CORE_ADDRESS_MAX 64

/* What the outside has to do. `conn` is the driver's own pointer, as given to core_open(). */
struct core_callbacks {
    void *context;

    /* ---- sockets ---- */
    /* Send these frames, in this order. The driver owns one reference to each; the array is the core's. Once per
     * connection and turn. The driver reports progress with core_written(). */
    void (*write)(void *context, void *conn, struct frame *const *frames, size_t count);
    /* Close this connection: `flush` = once all frames have been written (the driver limits how long), else at once.
     * At most once per connection, after its last write. Answered by core_closed(). */
    void (*close)(void *context, void *conn, bool flush);
    /* Stop or resume reading from this connection. Bytes that arrive after a stop are taken in all the same. */
    void (*reading)(void *context, void *conn, bool on);
    /* The address of its client, host:port: asked for only when somebody wants to see it. May be NULL. */
    void (*address)(void *context, void *conn, char text[CORE_ADDRESS_MAX]);

    /* Have login_run() done with this on another thread, by the wall clock, then call core_login_done(). NULL: it is done
     * within the turn. */
    void (*login)(void *context, struct login *login);

    /* ---- consensus ---- */
    /* Get this encoded batch (command.h) committed: consensus_submit(). It comes back through core_take_entry(), or is
     * sent again. */
    void (*submit)(void *context, struct bytes batch);
    /* This node has applied up to `index`: consensus_applied(). `awaited`: among it a SUBSCRIBE of another node, whose
     * SUBACK waits until it hears of it. At most once per turn. */
    void (*applied)(void *context, uint64_t index, uint64_t clock_ms, bool awaited);
    /* The hash of the whole state as of `index`, to be compared with the other nodes': consensus_hash(). */
    void (*checkpoint)(void *context, uint64_t index, const uint64_t hash[2]);

    /* QoS 0 messages for clients of `node`: consensus_messages(). At most once per turn and node. */
    void (*messages)(void *context, uint32_t node, struct bytes messages);

    /* This node cannot go on: say `why` and stop. */
    void (*fatal)(void *context, enum status status, const char *why);
    /* For the log: one line per event worth one. `level`: 0 debug, 1 info, 2 warning. May be NULL. */
    void (*note)(void *context, int level, const char *text);
};

/* Borrows `state` until core_free(). All three structs are copied; texts in `options` are copied too. */
struct core *core_new(const struct core_options *options, const struct core_callbacks *callbacks, struct state *state,
                      uint64_t now_ms);
void core_free(struct core *core);

/* ---- events from sockets ---- */

/* What the configuration says of a listener, as far as it concerns who may connect and how much. Outlives the core. */
struct core_listener {
    const char *name;                /* for logs, metrics and operators: "tls:0.0.0.0:8883" */
    const char *authentication;      /* methods in the order in which they are asked, with commas; "", NULL: the node's */
    bool anonymous;                  /* clients that do not say who they are may connect */
    uint32_t packet_bytes_max;       /* 0: the node's limit */
    uint64_t publish_rate_max;       /* messages, and */
    uint64_t publish_bytes_max;      /* bytes of payload that all its clients together publish per second; 0: no limit */
};

/* What the transport found out about a client before its first byte of MQTT. Texts are borrowed for the call, hold no
 * control characters, and are NULL where there is nothing. The address, behind whatever proxy, is asked for with the
 * callback `address` when somebody needs it. */
struct core_origin {
    const struct core_listener *listener;
    const char *transport;           /* "tcp", "tls", "ws", "wss", "unix" */
    bool encrypted;                  /* TLS, by certificate or by a key known beforehand */
    /* Of the client's certificate, once it is verified against the listener's CA and CRL: */
    const char *certificate_user;    /* the name that the listener's `user_from` chooses; never "" */
    const char *certificate_cn, *certificate_dn;   /* common name; whole subject as RFC 2253 writes it */
    const char *certificate_san;     /* first subject alternative name: URI, DNS name or e-mail address */
    const char *psk_identity;        /* TLS-PSK: whose key the client has proved to know */
};

/* A connection is ready for MQTT: accepted, and done with TLS and the like. Returns its number (never 0), unique for
 * the life of the core. */
uint64_t core_open(struct core *core, void *conn, const struct core_origin *origin, uint64_t now_ms);
/* Whether bytes are welcome in this turn. What arrives all the same is kept, and looked at later. */
bool core_takes_input(const struct core *core);
/* Bytes have arrived; borrowed for the call. Ignored for a connection that the core is closing. */
void core_received(struct core *core, uint64_t connection, struct bytes bytes, uint64_t now_ms);
/* So many bytes of what write() was given have left for the kernel. */
void core_written(struct core *core, uint64_t connection, size_t bytes, uint64_t now_ms);
/* The connection is closed, whoever began; `conn` will not be used again. Exactly once per core_open(). */
void core_closed(struct core *core, uint64_t connection, uint64_t now_ms);

/* A login has been run. */
void core_login_done(struct core *core, struct login *login, uint64_t now_ms);

/* ---- who may connect, and what they may do ---- */

/* Replace what there is; taken over, NULL: none. Before the first connection, and when files are read again. */
void core_set_password_file(struct core *core, struct password_file *file);
void core_set_token_keys(struct core *core, struct token_keys *keys);
void core_set_acl_file(struct core *core, struct acl_file *file);

/* Gets a command of an operator (COMMAND_USER_ADD to COMMAND_BAN) committed; `done` is called when it has been applied here,
 * from inside an event of the core: it must not call into it. OUTCOME_FENCED: not known whether. */
typedef void (*core_administered)(void *context, enum outcome outcome);
/* STATUS_BUSY: nothing can be committed now, or too many are on their way. */
enum status core_administer(struct core *core, const struct command *command, core_administered done, void *context);


/* ---- events from consensus ---- */

/* The committed entry at `index`, in order; `entry` is empty for entries without a command. It is applied in steps: what
 * is left goes on with each core_turn(). `entry` is borrowed until core_takes_entries() is true again, which is to be
 * asked before the first, too. */
void core_take_entry(struct core *core, uint64_t index, uint64_t term, struct bytes entry, uint64_t now_ms);
bool core_takes_entries(const struct core *core);
/* Amid an entry: state_commit() is not to be called. */
bool core_applying(const struct core *core);

/* What consensus knows: who leads, which nodes are linked or silent, whether anything can be committed (G8). Hand in a
 * fresh one (consensus_status) in each turn, before core_turn(); after a pause of the process, first of all. */
void core_health(struct core *core, const struct consensus_status *status, uint64_t now_ms);

/* A snapshot was installed: `state` replaces the former one (already closed by the caller). All clients are closed,
 * and the node starts a new life. */
void core_state_replaced(struct core *core, struct state *state, uint64_t now_ms);

/* ---- events from other nodes ---- */

void core_peer_applied(struct core *core, uint32_t node, uint64_t index);
void core_peer_messages(struct core *core, uint32_t node, struct bytes messages, uint64_t now_ms);

/* ---- turns ---- */

/* Does what is due and makes the callbacks. */
void core_turn(struct core *core, uint64_t now_ms);
/* When core_turn() wants to be called next though no event comes; UINT64_MAX = never. */
uint64_t core_deadline(const struct core *core);

/* The node is about to stop: refuses new connections and closes all clients (0x8B). Go on calling core_turn() until
 * core_idle(), or until patience ends. */
void core_stop(struct core *core, uint64_t now_ms);
bool core_idle(const struct core *core);       /* no client, and no command of this node on its way */

/* May this node take new clients now? The readiness endpoint asks; *why is a text when not. */
bool core_ready(const struct core *core, const char **why);

struct state *core_state(struct core *core);

/* ---- numbers ---- */

enum core_drop {               /* why a message did not reach a client */
    DROP_SLOW_CONSUMER,        /* QoS 0, output_bytes_max */
    DROP_MEMORY,               /* QoS 0, memory_bytes_max */
    DROP_TOO_LARGE,            /* beyond the client's Maximum Packet Size */
    DROP_EXPIRED,
    DROP_NO_LINK,              /* QoS 0 for a node that is not linked */
    DROP_NOT_PERMITTED,        /* the client may not receive it; of a group: nor may any other member */
    DROP_BEHIND,               /* batches of QoS 0 from a node that sends more than this one delivers */
    DROP_COUNT,
};

enum core_connect {            /* how CONNECTs ended */
    CONNECT_ACCEPTED,
    CONNECT_MALFORMED,         /* or not a CONNECT, or none in time */
    CONNECT_REFUSED_VERSION,
    CONNECT_REFUSED_IDENTIFIER,
    CONNECT_REFUSED_AUTHENTICATION,
    CONNECT_REFUSED_QUOTA,
    CONNECT_REFUSED_UNAVAILABLE,   /* nothing can be committed: 0x88, 0x9C */
    CONNECT_RESULTS,
};

enum core_limit {              /* what a client ran into */
    LIMIT_CONNECTIONS,
    LIMIT_PENDING,             /* connections that are not let in yet, in all or from one address: closed */
    LIMIT_CONNECT_RATE,        /* of all, or of one address: 0x9F */
    LIMIT_TAKE_OVERS,          /* of one client id, too many too fast: CONNECT waits, or 0x9F */
    LIMIT_SESSIONS,            /* of the cluster: 0x97 */
    LIMIT_PACKET_BYTES,        /* 0x95 */
    LIMIT_USER_PROPERTIES,     /* of one packet: 0x97 */
    LIMIT_TOPIC_LEVELS,        /* 0x90 for a topic, 0x8F for a filter */
    LIMIT_FILTERS,             /* of one SUBSCRIBE: 0x97 for each */
    LIMIT_SUBSCRIPTIONS,       /* of one session: 0x97 */
    LIMIT_RECEIVE_MAXIMUM,     /* 0x93 */
    LIMIT_PUBLISH_QUOTA,       /* retained or stored messages of the cluster: 0x97 */
    LIMIT_MEMORY,              /* of this node: 0x97 */
    LIMIT_LOGINS,              /* passwords waiting to be checked: 0x89 */
    LIMIT_USER_CONNECTIONS,    /* of one user: 0x97 */
    LIMIT_USER_RATE,           /* publishes of one user: QoS 0 dropped, 0x97 */
    LIMIT_LISTENER_RATE,       /* publishes over one listener: likewise */
    LIMIT_QUEUES,              /* messages or bytes of a queue, anywhere in the cluster: its oldest message is dropped */
    LIMIT_COUNT,
};
const char *core_limit_name(enum core_limit limit);   /* "packet-bytes" */

/* Counters only grow; gauges say so. */
struct core_stats {
    uint64_t connections;                  /* gauge: open sockets */
    uint64_t clients;                      /* gauge: of them, those with a CONNACK */
    uint64_t connects[CONNECT_RESULTS];
    uint64_t taken_over;
    uint64_t keep_alive_timeouts;
    uint64_t protocol_errors;
    uint64_t reserved_topics;              /* publishes below $, where clients do not write; copies that no client can have sent */
    uint64_t publishes_denied, subscribes_denied;
    uint64_t logins, logins_refused, logins_slowed;   /* that needed a hash or a signature */
    uint64_t messages_in[3], messages_out[3];   /* PUBLISH packets by QoS */
    uint64_t publish_bytes_in, publish_bytes_out;
    uint64_t bytes_in, bytes_out;
    uint64_t packets_in, packets_out;
    uint64_t qos0_from_peers, qos0_to_peers;
    uint64_t drops[DROP_COUNT];
    uint64_t limits[LIMIT_COUNT];
    uint64_t redelivered;                  /* PUBLISH with DUP */
    uint64_t commands_pending, commands_pending_bytes;    /* gauge: proposed, not applied */
    uint64_t output_bytes, input_bytes;    /* gauge: held for clients */
    uint64_t paused_clients;               /* gauge: not read, by back-pressure */
    uint64_t turn_looks_max;               /* the most work of a turn: things looked at, and what costs as much */
    uint64_t commit_pages_max;             /* the most pages of the store that were to be written out in one turn */
    uint64_t spills;                       /* how often that was amid an entry */
    uint64_t turn_longest_us;              /* set by the driver, if it measures */
};
void core_stats(const struct core *core, struct core_stats *stats);

#endif
