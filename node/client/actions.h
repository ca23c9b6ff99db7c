/* actions.h — what one packet, outcome or timeout leads to, as data.
 *
 *   client_receive, client_outcome, ... ──actions──▶ core: encoded bytes to the connection, commands to the proposer,
 *                                                    a QoS 0 message to routing, close
 *
 * One struct is reused for every call (actions_clear). What commands and the message borrow is the packet's, or lives
 * in `text`; so whoever called carries the actions out before the packet's bytes go. */
#ifndef COTERIE_ACTIONS_H
#define COTERIE_ACTIONS_H

#include "command.h"

#define ACTIONS_COMMANDS_MAX 2

/* What a client wants to know when the outcome of its command comes: the packet id, and whether it was of QoS 2. */
#define TAG_PACKET_ID(tag) ((uint16_t)(tag))
#define TAG_QOS_2 0x10000u
#define TAG_RETAINED_MORE TAG_QOS_2   /* no packet id: the core's own RETAINED_MORE for this client */
#define TAG_BITS 17

enum close_how {
    CLOSE_NO = 0,
    CLOSE_FLUSH,         /* once what was sent before has left */
    CLOSE_NOW,
};

enum actions_proof {
    PROOF_NONE = 0,
    PROOF_ASKED,         /* the client, which is not connected yet, has said who it is and has to prove it */
    PROOF_WRONG,
    PROOF_RIGHT,
};

struct actions {
    struct buffer out;                               /* encoded packets for this client, in order */
    uint32_t packets_out;                            /* how many */
    struct command commands[ACTIONS_COMMANDS_MAX];   /* to propose, in order */
    uint32_t tags[ACTIONS_COMMANDS_MAX];             /* come back with the outcome */
    uint32_t command_count;
    bool publish;                                    /* route `message` (QoS 0) at once */
    struct message message;
    uint32_t message_expiry_s;                       /* of `message`; UINT32_MAX = none */
    enum actions_proof proof;                        /* of an exchange of AUTH */
    uint32_t rest_ms;                                /* CONNECT waits so long: its id is contested; or 0 */
    bool login;                                      /* run the client's login, then client_logged_in() */
    bool delivered;                                  /* deliveries were acknowledged, or room was made for more */
    bool refused;                                    /* one of them for good: that is not to wait for others */
    uint64_t subscribed_index;                       /* hold `out`, a SUBACK, until others have applied this; or 0 */
    struct buffer sys_filters;                       /* subscribed just now, of those that begin with $SYS */
    uint32_t sys_subscription_id;
    enum close_how close;
    struct buffer text;                              /* what the commands borrow, if it is not the packet's */
};

void actions_clear(struct actions *actions);         /* nothing to do; keeps the memory */
void actions_release(struct actions *actions);
/* Adds a command; the caller fills it in. */
struct command *actions_propose(struct actions *actions, enum command_type type, uint32_t tag);

#endif
