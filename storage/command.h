/* command.h — what can be asked of the replicated state, and how it is written in the log.
 *
 * A log entry of type COMMAND holds one batch: a header, and the commands that one node (the origin) collected.
 *
 *   offset  0  u8   format version, BATCH_FORMAT
 *           1  u8   reserved, 0
 *           2  u16  reserved, 0
 *           4  u32  number of commands, 1 to BATCH_COMMANDS_MAX
 *           8  u64  stamp: cluster time in ms; the leader fills it in (batch_set_stamp) just before it appends
 *          16  u64  origin epoch: log position of the NODE_UP of this life of the origin; 0 in the batch that holds it
 *          24  u64  batch number, 1, 2, 3 ... within the origin epoch; 0 in the batch that holds NODE_UP
 *          32  u32  origin node id
 *          36  u32  length in bytes of the commands that follow
 *          40       commands: u8 type, varint body length, body
 *
 * A log position is POSITION(entry index, number of the command in its batch). It names a command for ever, and
 * grows with the log: node epochs, client epochs and the order of everything are positions.
 *
 * To add a command: a number below (never one used before), a struct, its codec in command.c, its case in apply.c,
 * a golden file. It is proposed only once every member understands it. */
#ifndef COTERIE_COMMAND_H
#define COTERIE_COMMAND_H

#include "base/message.h"
#include "base/status.h"

#define BATCH_FORMAT 1
#define BATCH_HEADER_SIZE 40
#define BATCH_BYTES_MAX (1024 * 1024)   /* a batch is sealed before it grows beyond; one larger command goes alone */
#define BATCH_COMMANDS_MAX 65536

#define POSITION_COMMAND_BITS 16
#define POSITION(index, command) (((uint64_t)(index) << POSITION_COMMAND_BITS) | (uint64_t)(command))

enum command_type {
    COMMAND_NODE_UP = 1,      /* a node has started */
    COMMAND_NODE_DOWN = 2,    /* the leader has not heard a node for node_timeout */
    COMMAND_CONTINUE = 3,     /* the leader: do the next step of long work */
    COMMAND_TICK = 4,         /* the leader: something is due by cluster time */
    COMMAND_CHECKPOINT = 5,   /* the leader: every node compare its state hash here */
    COMMAND_SETTINGS = 6,     /* the leader: limits that are part of the state machine */
    COMMAND_CONNECT = 16,     /* a client is connecting: open or resume its session, take it over, set its will */
    COMMAND_END = 17,         /* a connection has ended */
    COMMAND_SUBSCRIBE = 18,
    COMMAND_UNSUBSCRIBE = 19,
    COMMAND_PUBLISH = 20,     /* QoS 1, QoS 2, or retained */
    COMMAND_PUBREL = 21,      /* the publisher released a QoS 2 packet id */
    COMMAND_ACK = 22,         /* deliveries that are done: PUBACK, PUBREC >= 0x80, or skipped by the owner */
    COMMAND_PUBREC = 23,      /* a subscriber has received a QoS 2 message: released */
    COMMAND_PUBCOMP = 24,     /* and is done with it */
    COMMAND_RETAINED_MORE = 25, /* the owner has room for more of a subscription's retained messages */
    COMMAND_DECLINE = 26,     /* what groups gave a session that may not receive it, and was not sent: for another member */
    COMMAND_USER_ADD = 32,    /* an operator: who may log in, ... */
    COMMAND_USER_PASSWORD = 33,
    COMMAND_USER_ENABLE = 34, /* or disable */
    COMMAND_USER_REMOVE = 35,
    COMMAND_USER_QUOTA = 36,
    COMMAND_ROLE_ADD = 37,    /* ... and what they may do */
    COMMAND_ROLE_REMOVE = 38,
    COMMAND_ROLE_RULE = 39,   /* allow, deny, or no longer say anything */
    COMMAND_ROLE_GRANT = 40,  /* or revoke */
    COMMAND_BAN = 41,         /* or lift it */
};

struct batch_header {
    uint32_t count;
    uint32_t origin_node;
    uint64_t origin_epoch;
    uint64_t number;
    uint64_t stamp_ms;
};

/* Which session a client's command is for, and which of its owners caused it. `apply` drops the command unless
 * the session exists and `client_epoch` (the position of the CONNECT) is its present owner's. */
struct command_owner {
    uint64_t session_id;
    uint64_t client_epoch;
};

struct command_node_up {
    uint32_t node;
    uint8_t boot_nonce[16];       /* random per start; the same nonce again is ignored */
    struct bytes client_address;  /* host:port as told to clients in a Server Reference; may be empty */
    struct bytes version;         /* software version */
};

struct command_node_down {
    uint32_t node;
    uint64_t node_epoch;          /* which life of it; another is left alone */
};

/* Limits that decide in the state machine; equal on all nodes at the same log index. */
struct command_settings {
    uint64_t queue_messages_max;      /* per session and per broadcast queue */
    uint64_t queue_bytes_max;
    uint64_t subscriptions_max;       /* per session */
    uint64_t sessions_max;
    uint64_t retained_messages_max;
    uint64_t retained_bytes_max;
    uint64_t store_bytes_max;         /* payloads and rows; beyond it publishes are refused (0x97) */
    uint32_t session_expiry_max_s;    /* UINT32_MAX = no limit */
    uint32_t in_flight_max;           /* QoS 2 messages in flight to one session */
};

struct command_will {
    struct message message;           /* topic, payload, properties, qos, retain; the rest is 0 */
    uint32_t delay_s;
    uint32_t message_expiry_s;        /* UINT32_MAX = none */
};

struct command_connect {
    uint64_t connection;              /* the origin's number for this connection; names the owner in effects */
    struct bytes client_id;           /* never empty: assigned ids are generated before proposing */
    struct bytes user_name;           /* who it was found to be; empty: anonymous */
    uint8_t protocol_level;           /* 3, 4 or 5 */
    bool clean_start;
    bool has_will;
    uint64_t credential_epoch;        /* of the user of the state whose password was right: another one since then, or
                                       * none, refuses it; 0: known in another way */
    bool adopts;                      /* a session that was made without a name may become this user's */
    bool will_allowed;                /* by rules that only its node has: fires also if no rule of the state says so */
    uint16_t receive_maximum;         /* 1 to 65,535 */
    uint32_t session_expiry_s;        /* UINT32_MAX = never expires; 3.1.1: 0 if clean, else UINT32_MAX */
    struct command_will will;
};

enum end_cause {
    END_CLEAN = 0,        /* DISCONNECT 0x00: the will is forgotten */
    END_WITH_WILL = 1,    /* DISCONNECT 0x04, broken connection, keep-alive, protocol error, taken over */
};

struct command_end {
    struct command_owner owner;       /* not fenced for the will's purpose: see apply_end() */
    uint8_t cause;                    /* enum end_cause */
    bool has_session_expiry;          /* DISCONNECT of 5.0 may change it */
    uint32_t session_expiry_s;
};

/* Subscription options exactly as the octet of a 5.0 SUBSCRIBE: bits 0-1 QoS, 2 No Local, 3 Retain As Published,
 * 4-5 Retain Handling. For 3.1.1 only the QoS is set. */
#define SUBSCRIPTION_QOS(options) ((options) & 0x03)
#define SUBSCRIPTION_NO_LOCAL 0x04
#define SUBSCRIPTION_RETAIN_AS_PUBLISHED 0x08
#define SUBSCRIPTION_RETAIN_HANDLING(options) (((options) >> 4) & 0x03)

struct command_filter {
    struct bytes filter;              /* valid (topic.h) */
    uint8_t options;
};

/* The filters of one SUBSCRIBE or UNSUBSCRIBE are encoded one behind the other; command_next_filter reads them. */
struct command_subscribe {
    struct command_owner owner;
    uint32_t subscription_id;         /* 1 to 268,435,455; 0 = none */
    uint32_t count;
    struct bytes filters;
};

struct command_unsubscribe {
    struct command_owner owner;
    uint32_t count;
    struct bytes filters;             /* options are 0 */
};

struct command_publish {
    struct command_owner owner;
    uint16_t packet_id;               /* the publisher's, for QoS 2; else 0 */
    bool register_only;               /* a retained QoS 0 PUBLISH: it went live on the QoS 0 path; only set the register */
    uint32_t message_expiry_s;        /* UINT32_MAX = none */
    struct message message;           /* origin_session, created_ms and expires_ms are set by apply */
};

struct command_pubrel {
    struct command_owner owner;
    uint16_t packet_id;
};

/* Deliveries done. `orders` of the session's own queue one by one; for broadcast queues, per filter: all up to and
 * including `upto` except those listed. Both lists are encoded (command_ack_put_.. and command_ack_next_.. below). */
struct command_ack {
    struct command_owner owner;
    uint32_t own_count;
    struct bytes own;                 /* ascending orders, delta varints */
    uint32_t broadcast_count;
    struct bytes broadcast;           /* per filter: varint filter id, varint upto, varint n, n ascending delta varints */
};

struct command_decline {
    struct command_owner owner;
    uint32_t count;
    struct bytes orders;              /* as command_ack.own */
};

struct command_delivery {             /* PUBREC and PUBCOMP of a subscriber */
    struct command_owner owner;
    uint64_t order;                   /* of the delivery, see state.h */
};

#define ACK_EXCEPT_MAX 65535   /* a window cannot hold more */
#define RETAINED_MORE_MAX 1000

struct command_ack_broadcast {        /* one element of command_ack.broadcast */
    uint64_t filter_id;
    uint64_t upto;
    uint32_t except_count;
    struct bytes except;              /* read with command_ack_next_own, from 0 */
};

struct command_retained_more {
    struct command_owner owner;
    uint64_t subscribe_position;      /* which scan */
    uint16_t count;                   /* how many more rows the owner has room for, 1 to 1,000 */
};

/* ---- what operators change; see security.h ---- */

#define SECURITY_NAME_BYTES_MAX 128         /* of a user, a role, an operator */
#define SECURITY_SUBJECT_BYTES_MAX 400      /* of a ban: a client id may be longer than a name */
#define SECURITY_CREDENTIAL_BYTES_MAX 512
#define SECURITY_REASON_BYTES_MAX 256

struct quota {                        /* of one user at one node, but for subscriptions; 0 = no limit */
    uint64_t connections;
    uint64_t messages_per_s;          /* published */
    uint64_t bytes_per_s;             /* of payload, published */
    uint64_t subscriptions;           /* of one session */
    uint64_t queued_bytes;            /* of one session, stored for it alone; what it shares with others in a broadcast
                                       * queue is stored once, and bounded by queue_bytes_max of the filter */
};

struct command_user {
    struct bytes actor;               /* who asked for it, for the audit log */
    struct bytes name;
    struct bytes credential;          /* ADD, PASSWORD: a hash as credential.h writes it, never a password */
    bool enabled;                     /* ENABLE */
    struct quota quota;               /* QUOTA */
};

enum rule_change { RULE_ALLOW = 0, RULE_DENY = 1, RULE_CLEAR = 2 };

struct command_role {
    struct bytes actor;
    struct bytes name;
    struct bytes user;                /* GRANT: a user's name, or one of SECURITY_EVERYONE, SECURITY_ANONYMOUS */
    bool granted;                     /* GRANT */
    uint8_t change;                   /* RULE: enum rule_change */
    uint8_t rights;                   /* RULE: bits of enum right, at least one */
    int32_t priority;                 /* RULE */
    struct bytes filter;              /* RULE */
};

enum ban_kind { BAN_USER = 0, BAN_CLIENT_ID = 1, BAN_ADDRESS = 2 };

struct command_ban {
    struct bytes actor;
    uint8_t kind;                     /* enum ban_kind */
    bool lifted;
    uint32_t seconds;                 /* UINT32_MAX: until it is lifted */
    struct bytes subject;
    struct bytes reason;
};

struct command {
    enum command_type type;
    union {
        struct command_node_up node_up;
        struct command_node_down node_down;
        struct command_settings settings;
        struct command_connect connect;
        struct command_end end;
        struct command_subscribe subscribe;
        struct command_unsubscribe unsubscribe;
        struct command_publish publish;
        struct command_pubrel pubrel;
        struct command_ack ack;
        struct command_decline decline;
        struct command_delivery delivery;
        struct command_retained_more retained_more;
        struct command_user user;
        struct command_role role;
        struct command_ban ban;
    };
};

/* Appends `command` in its encoding to `out`. */
void command_encode(const struct command *command, struct buffer *out);

/* Takes one command off the front of `in`; *command borrows from it.
 * STATUS_MALFORMED: not something that command_encode wrote; STATUS_UNSUPPORTED: a type unknown to this version. */
enum status command_decode(struct reader *in, struct command *command);

/* Appends one filter to the `filters` of a SUBSCRIBE or UNSUBSCRIBE under construction. */
void command_put_filter(struct buffer *filters, struct bytes filter, uint8_t options);
/* Takes the next one; false at the end or on malformed input (then reader->failed). */
bool command_next_filter(struct reader *filters, struct command_filter *filter);

/* Append to the lists of an ACK or DECLINE under construction. Orders ascend; *previous starts at 0 and belongs to the
 * callee. An element of the broadcast list is followed by its exceptions: `except_count` orders, put behind it in the same
 * way, from a *previous of their own, none above `upto`. */
void command_ack_put_own(struct buffer *own, uint64_t *previous, uint64_t order);
void command_ack_put_broadcast(struct buffer *broadcast, uint64_t filter_id, uint64_t upto, uint32_t except_count);
/* Take the next element; false at the end or on malformed input (then reader->failed). *order starts at 0. */
bool command_ack_next_own(struct reader *own, uint64_t *order);
bool command_ack_next_broadcast(struct reader *broadcast, struct command_ack_broadcast *entry);

/* Starts a batch: appends a header with count and length 0. `first` is its offset in `out`. */
void batch_begin(struct buffer *out, uint32_t origin_node, uint64_t origin_epoch, uint64_t number);
/* Completes the batch that starts at offset `first` of `out`, once `count` commands have been appended behind it. */
void batch_finish(struct buffer *out, size_t first, uint32_t count);
/* Writes the leader's stamp into an encoded batch. */
void batch_set_stamp(uint8_t *batch, uint64_t stamp_ms);

/* Checks and reads the header; *commands is what follows it. STATUS_MALFORMED, or STATUS_UNSUPPORTED for a format
 * that this version does not know. */
enum status batch_decode(struct bytes batch, struct batch_header *header, struct bytes *commands);

#endif
