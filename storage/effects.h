/* effects.h — what an applied batch asks of nodes, in log order.
 *
 * state_apply() appends effects; each node carries out those that concern the clients it holds. Everything that an
 * effect borrows (messages, texts, targets) lives until effects_clear(), or the next state_apply() on this list.
 *
 * Outcomes answer one command of the batch: only the origin of the batch looks at them. The others concern whoever
 * holds the client named. Refusals (fenced, quota) are outcomes like any other. */
#ifndef COTERIE_EFFECTS_H
#define COTERIE_EFFECTS_H

#include "base/message.h"

enum outcome {
    OUTCOME_DONE = 0,
    OUTCOME_FENCED,          /* not, or no longer, the owner: the connection is to be closed, nothing acknowledged */
    OUTCOME_DUPLICATE,       /* PUBLISH QoS 2: this packet id is open already: PUBREC again. PUBREL, PUBREC, PUBCOMP:
                              * unknown id (0x92) */
    OUTCOME_QUOTA,           /* a limit of the state machine: 0x97, nothing changed */
    OUTCOME_NO_SUBSCRIBERS,  /* PUBLISH: done, but nobody matched (0x10) */
    OUTCOME_NOT_AUTHORIZED,  /* CONNECT: the session is another user's, or the user is disabled (0x87) */
    OUTCOME_BANNED,          /* CONNECT: 0x8A */
    OUTCOME_NOT_FOUND,       /* an operator's command: there is no such user, role, rule, ban */
    OUTCOME_EXISTS,          /* there is already */
};

/* One delivery to one session that this node holds. Also how a node matches QoS 0 messages (state_match_begin). */
struct target {
    uint64_t session_id;
    uint64_t connection;         /* the owner's, as given in COMMAND_CONNECT; always one of this node's */
    uint64_t order;              /* place in the session's order, and the source of its packet id; 0: QoS 0, not stored */
    const uint32_t *subscription_ids;
    uint32_t subscription_id_count;
    uint8_t qos;                 /* to be sent with; 0 to 2 */
    bool retain;                 /* the RETAIN flag to send */
    bool admitted;               /* QoS 2 only: the state machine has given it a place in the window */
    bool own;                    /* there is a row in the session's own queue: acknowledge `order` */
    bool shared;                 /* a group gave it: who may not have it declines */
    uint32_t broadcast_count;    /* broadcast queues that hold it for this session: acknowledge it in each */
    const uint64_t *broadcast_filters;
};

enum effect_type {
    EFFECT_BATCH,        /* first effect of every entry that held a batch: who sent it, and whether it was applied */
    EFFECT_CONNECTED,    /* outcome of CONNECT */
    EFFECT_ENDED,        /* outcome of END: the socket may be closed */
    EFFECT_SUBSCRIBED,   /* outcome of SUBSCRIBE */
    EFFECT_UNSUBSCRIBED, /* outcome of UNSUBSCRIBE */
    EFFECT_PUBLISHED,    /* outcome of PUBLISH */
    EFFECT_RELEASED,     /* outcome of PUBREL: send PUBCOMP */
    EFFECT_DELIVERY_RELEASED,  /* outcome of PUBREC: send PUBREL */
    EFFECT_DELIVERY_DONE,      /* outcome of PUBCOMP, ACK or DECLINE: the packet ids may be used again */
    EFFECT_ADMINISTERED, /* outcome of what an operator asked for: USER_..., ROLE_..., BAN */
    EFFECT_TAKEN_OVER,   /* a connection that this node holds is no longer the owner of its session: close it (0x8E) */
    EFFECT_CONTESTED,    /* a client id was taken over, wherever that is */
    EFFECT_MESSAGE,      /* a message, and the sessions here that are to get it */
    EFFECT_QUEUED,       /* rows were added to the own queue of a session held here, not through EFFECT_MESSAGE
                          * (retained at SUBSCRIBE, values overwritten before a scan passed): read the queue. Also
                          * the answer to every RETAINED_MORE: whether the scan goes on says state_retained_scan */
    EFFECT_ADMITTED,     /* QoS 2 deliveries of a session held here got a place in its window */
    EFFECT_NODE,         /* a node came up or went down */
    EFFECT_CHECKPOINT,   /* compare hashes */
    EFFECT_SETTINGS,     /* limits have changed */
    EFFECT_SECURITY,     /* users, roles or bans have changed: who is connected may be no longer, or may do other things */
};

enum batch_verdict {
    BATCH_APPLIED,
    BATCH_SEEN,          /* applied before: it was sent twice; the origin has had its answers */
    BATCH_GAP,           /* not the next number: the origin sends again from `expected` */
    BATCH_STALE,         /* of a life of the origin that has ended */
};

struct effect {
    enum effect_type type;
    uint32_t command;            /* outcomes: number of the command in its batch */
    enum outcome outcome;        /* outcomes */
    uint64_t session_id;         /* whom it is about, where it is about a session */
    uint64_t connection;
    union {
        struct {
            uint32_t origin_node;
            uint64_t origin_epoch;
            uint64_t number;
            uint64_t expected;       /* BATCH_GAP */
            enum batch_verdict verdict;
        } batch;
        struct {
            uint64_t client_epoch;
            bool session_present;
            uint32_t session_expiry_s;   /* as granted (session_expiry_max_s) */
            uint64_t sent_upto;          /* deliveries up to this order may have been sent before: DUP */
        } connected;
        struct {
            const uint8_t *codes;    /* SUBSCRIBE: granted QoS or reason code >= 0x80; UNSUBSCRIBE: 0x00 or 0x11 */
            const uint8_t *existed;  /* SUBSCRIBE: 1 where the session had subscribed to the filter before; else NULL */
            uint32_t count;
            uint64_t index;          /* log index, so that the answer can wait for the other nodes */
        } codes;
        struct {
            uint16_t packet_id;      /* PUBREL */
            uint64_t order;          /* PUBREC, PUBCOMP; 0 for ACK, DECLINE */
            uint32_t dropped;        /* DECLINE: no member may have so many of them */
        } delivery;
        struct {
            uint64_t message_id;
            const struct message *message;
            const struct target *targets;
            uint32_t count;
        } message;
        struct {
            uint32_t node;
            uint64_t node_epoch;
            bool up;
        } node;
        struct {
            struct bytes client_id;
        } contested;
        struct {
            uint64_t position;       /* of the change in the audit log */
            bool rules;              /* somebody may do other things than before */
            bool admission;          /* somebody may perhaps not be connected any more */
        } security;
        struct {
            uint64_t index;          /* log index */
            uint64_t hash[2];        /* of the whole state as of `index` */
        } checkpoint;
    };
};

struct effects;

struct effects *effects_new(void);                           /* empty */
void effects_free(struct effects *effects);                  /* with all that effects_allocate gave */
void effects_clear(struct effects *effects);                 /* forgets all, keeps the memory */
uint32_t effects_count(const struct effects *effects);
const struct effect *effects_at(const struct effects *effects, uint32_t number);   /* from 0, in order */

/* For the state machine: room that lives as long as the effects do (aligned for a uint64_t), and a new effect (zeroed
 * but for its type; borrowed until the next effects_add). */
void *effects_allocate(struct effects *effects, size_t size);
struct effect *effects_add(struct effects *effects, enum effect_type type);

#endif
