/* client_private.h — the struct behind client.h, for the files that handle packets and for the core that owns clients.
 *
 * handle_*.c touch the protocol state; the core touches what is marked as its own. An idle client is this struct and
 * its client id: everything else is allocated when needed and freed when empty. */
#ifndef COTERIE_CLIENT_PRIVATE_H
#define COTERIE_CLIENT_PRIVATE_H

#include "access.h"
#include "aliases.h"
#include "client.h"
#include "core.h"
#include "inflight.h"
#include "node/mqtt/decode.h"
#include "node/mqtt/encode.h"
#include "node/mqtt/reason.h"
#include "outbox.h"
#include "received.h"
#include "timers.h"

/* What all clients of a node share. */
struct client_node {
    struct core_limits limits;      /* no zero among them */
    uint32_t node;
    bool available;                 /* what is proposed now can be expected to commit (G8) */
    bool stopping;
    uint64_t random;                /* state of the generator of client ids */
    struct buffer server_reference; /* where clients are sent that cannot be served here; may be empty */
    struct core_stats stats;
    struct core_capabilities capabilities;
    struct state *state;            /* the core's; replaced by snapshots */
    struct auth *auth;
    const struct security *security;   /* of `state`, for auth */
    struct logins *logins;
    struct failures *failures;
    struct takeovers *takeovers;
    struct usages *usages;
    struct acl_file *acl;           /* NULL: none */
    bool rules_on;                  /* see access.h */
    bool sys_readable;
    bool adopt_anonymous;
    bool close_on_denied;           /* a PUBLISH that is not allowed ends the connection */
    uint64_t rules_revision;
    bool limit_reached;             /* since limits were told about */
    uint64_t alias_bytes;           /* of all clients' aliases */
    uint64_t extras_bytes;          /* of CONNECTs that are being authenticated */
};

/* Whether there are any rules about what clients may do. */
static inline bool access_on(const struct client_node *node)
{
    return node->rules_on;
}

/* The next number of the generator that the driver seeded. */
uint64_t client_node_random(struct client_node *node);

#define ALIASES_MEMORY_PART 8    /* of memory_bytes_max, for aliases in both directions; */
#define ALIASES_BYTES_FREE  1024 /* of those a client gives may take so much even when others have used that up */

/* A SUBSCRIBE or UNSUBSCRIBE that is not answered yet: codes for the filters that were not worth a command, until the
 * others are known. */
struct pending_codes {
    struct pending_codes *next;
    uint16_t packet_id;
    uint32_t count;
    uint32_t subscription_id;
    struct buffer sys;              /* filters that begin with $SYS, each behind its number */
    uint8_t codes[];                /* CODE_FROM_STATE where the state machine decides; behind them, for each, 1 if the
                                     * subscription existed */
};
#define CODE_FROM_STATE 0xff

struct authentication;
struct login;
struct usage;

/* A CONNECT whose client id rests; see takeovers.h. */
struct client_rest {
    uint64_t since_ms, until_ms;    /* until 0: it does not */
    uint64_t valid_s;               /* as of `since`, who it comes from; UINT64_MAX: for ever */
};

struct client_extras {
    struct aliases *aliases_received, *aliases_sent;
    struct authentication *authentication;
    uint64_t proof_ms;              /* AUTHENTICATING: what it sends is not looked at before */
    struct buffer connect;          /* the command, until it is known who it comes from */
    char *certificate_user, *psk_identity;   /* that the transport has found; until then */
    struct login *login;            /* CHECKING */
    bool login_running;             /* another thread has it: it outlives the client */
    struct client_rest rest;        /* CHECKING */
    struct client_rights *rights;   /* NULL: there are no rules, or nothing was asked yet */
    struct usage *usage;            /* what its user uses of its quota; NULL: anonymous */
};

struct client {
    struct timer timer;             /* core's; first, so that a timer leads back to its client */
    uint64_t number;                /* of the connection */
    void *conn;                     /* the driver's; core's */
    struct client_node *node;
    const struct core_listener *listener;

    /* From CONNECT. */
    uint8_t *client_id;             /* until it is connected; then the session has it */
    uint16_t client_id_size;
    uint16_t keep_alive_s;          /* as enforced; 0 = none */
    uint16_t receive_maximum;       /* of the client: our window */
    uint16_t requested_keep_alive_s;
    uint16_t aliases_sent_max;      /* as the client allows, and we want; 0 = none */
    uint32_t session_expiry_s;      /* as granted */
    struct mqtt_peer peer;

    uint64_t session_id;
    uint64_t client_epoch;
    uint64_t opened_ms;
    uint64_t packet_ms;             /* when the last whole packet came */
    uint64_t partial_ms;            /* when the packet began of which a part is in `input`; 0 = none is */
    struct doorstep_place *place;   /* core's; NULL once it is let in, or has gone */
    uint64_t waiting_ms;            /* since when we owe the client progress on commands */
    uint64_t collision_ms;          /* since when a packet id is not free; 0 = it is */
    uint64_t until_ms;              /* when its token expires; 0 = it has none */

    uint8_t phase;                  /* enum client_phase */
    bool assigned_id : 1;
    bool clean_start : 1;
    bool wants_response_information : 1;
    bool connect_pending : 1;       /* CONNECT was proposed and has no outcome yet: the struct has to stay */
    bool refused : 1;               /* while connect_pending: the client was not told yes; its will is not to be published */
    bool replicated_user : 1;       /* it is one of the replicated state, and has to be as long as it is here */
    bool no_end : 1;                /* this life of the node is over: do not propose END */
    /* Delivery. */
    bool behind : 1;                /* there may be more in the queue after last_order */
    bool blocked : 1;               /* what comes next there is QoS 2 and not admitted */
    bool scan_asked : 1;            /* RETAINED_MORE is on its way */
    /* Core's. */
    bool socket_open : 1;
    bool close_wanted : 1, close_flush : 1, close_called : 1;
    bool reading_off : 1, reading_changed : 1;
    bool stalled : 1;               /* has input that may not be looked at now */
    bool postponed : 1;             /* or not in this turn */
    bool in_work : 1, in_dirty : 1, in_acks : 1, in_stalled : 1;

    uint32_t commands_pending;
    uint32_t unwritten;             /* bytes that the driver has and the kernel has not */
    uint64_t last_order;            /* every delivery up to here was sent, is waiting in `inflight`, or was skipped */
    uint64_t sent_before;           /* deliveries up to here may have been sent on an earlier connection: DUP */
    struct inflight inflight;
    struct received received;
    struct pending_codes *codes;
    struct client_extras *extras;   /* what most clients never need: NULL until then */

    struct buffer input;            /* bytes of packets that are incomplete or have to wait */
    struct outbox outbox;
};

static inline struct bytes client_id_of(const struct client *client)
{
    return bytes_of(client->client_id, client->client_id_size);
}

static inline struct command_owner client_owner(const struct client *client)
{
    return (struct command_owner){client->session_id, client->client_epoch};
}

struct client *client_new(struct client_node *node, uint64_t number, void *conn, const struct core_origin *origin,
                          uint64_t now_ms);
void client_free(struct client *client, struct outbox_pool *pool);
void pending_codes_free(struct pending_codes *codes);
struct client_extras *client_extras(struct client *client);   /* made now, if there are none */

/* The largest packet that it may send. */
static inline uint32_t client_packet_bytes_max(const struct client *client)
{
    uint32_t node = client->node->limits.packet_bytes_max, listener = client->listener->packet_bytes_max;
    return listener > 0 && listener < node ? listener : node;
}

/* What this client has not taken yet. */
static inline size_t client_output(const struct client *client)
{
    return (size_t)client->unwritten + client->outbox.bytes;
}

/* Answers `out` with a DISCONNECT (5.0) or nothing, proposes END with the will, and closes. `why` goes into its reason
 * string, for who asks for problem information; NULL: the code says it all. */
void client_fail_because(struct client *client, uint8_t reason, const char *why, struct actions *out);
void client_fail(struct client *client, uint8_t reason, struct actions *out);
/* Adds a reason string, if the client asked for problem information. */
void client_explain(const struct client *client, const char *why, struct mqtt_properties *properties);
/* Adds END to the actions, once, if this connection owns a session. */
void client_propose_end(struct client *client, enum end_cause cause, struct actions *out);
void client_close(struct client *client, enum close_how how, struct actions *out);
void client_count_limit(struct client_node *node, enum core_limit limit);
/* False: more user properties than a packet may have. */
bool limits_allow_packet(const struct client_node *node, const struct mqtt_packet *packet);
/* Counts a packet that an encoder appended; `appended` is the encoder's answer. */
void client_sent(struct client *client, bool appended, struct actions *out);
void client_send_ack(struct client *client, enum mqtt_type type, uint16_t packet_id, uint8_t reason,
                     struct actions *out);

/* One per packet type, in the file of that name. */
void handle_connect(struct client *client, const struct mqtt_connect *connect, uint64_t now_ms, struct actions *out);
void handle_connected(struct client *client, const struct effect *effect, uint64_t now_ms, struct actions *out);
/* CONNECT waits, until it is known who it comes from; and then: proposes it, unless this user may not connect. What
 * it has proved to know of the replicated state: `credential_epoch`, or 0. `valid_s`: for how long; UINT64_MAX: for ever. */
void connect_wait(struct client *client, const struct command *connect);
void connect_go_on(struct client *client, struct bytes user, uint64_t credential_epoch, uint64_t valid_s,
                   uint64_t now_ms, struct actions *out);
/* Its client id has rested for long enough. */
void connect_rested(struct client *client, uint64_t now_ms, struct actions *out);
void connect_refuse(struct client *client, uint8_t reason, struct actions *out);
bool topic_is_reserved(struct bytes topic);   /* it begins with $: not for clients to publish to */
void handle_publish(struct client *client, const struct mqtt_publish *publish, struct actions *out);
void handle_published(struct client *client, const struct effect *effect, uint32_t tag, struct actions *out);
void handle_pubrel(struct client *client, const struct mqtt_ack *pubrel, struct actions *out);
void handle_released(struct client *client, const struct effect *effect, uint32_t tag, struct actions *out);
void handle_puback(struct client *client, const struct mqtt_ack *puback, struct actions *out);
void handle_pubrec(struct client *client, const struct mqtt_ack *pubrec, struct actions *out);
void handle_pubcomp(struct client *client, const struct mqtt_ack *pubcomp, struct actions *out);
void handle_delivery_released(struct client *client, const struct effect *effect, struct actions *out);
void handle_delivery_done(struct client *client, const struct effect *effect, struct actions *out);
void handle_subscribe(struct client *client, const struct mqtt_subscribe *subscribe, struct actions *out);
void handle_unsubscribe(struct client *client, const struct mqtt_unsubscribe *unsubscribe, struct actions *out);
void handle_codes(struct client *client, const struct effect *effect, uint32_t tag, struct actions *out);
void handle_disconnect(struct client *client, const struct mqtt_disconnect *disconnect, uint64_t now_ms,
                       struct actions *out);
void handle_auth(struct client *client, const struct mqtt_auth *auth, uint64_t now_ms, struct actions *out);
/* Any packet of a client that is AUTHENTICATING. */
void handle_authenticating(struct client *client, const struct mqtt_packet *packet, uint64_t now_ms,
                           struct actions *out);
/* A CONNECT with an authentication method, which is to become the command `connect`, and waits (connect_wait). */
void authentication_begin(struct client *client, const struct mqtt_properties *properties, uint64_t now_ms,
                          struct actions *out);
void authentication_in_connack(struct client *client, struct mqtt_properties *properties);
struct bytes authentication_user(const struct client *client);   /* as it says, or has proved; empty: not said */
void authentication_free(struct authentication *authentication);

#endif
