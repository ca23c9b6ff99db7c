/* client.h — the protocol state of one connected client: MQTT 3.1, 3.1.1 and 5.0.
 *
 *   NEW ──CONNECT──▶ (AUTHENTICATING, CHECKING) ──▶ CONNECTING ──applied──▶ CONNECTED ──DISCONNECT──▶ ENDING ──applied──▶ CLOSED
 *    └────────────────────┴───── refused, error, taken over, timeout ─────┴────────────────────▶ CLOSED
 *
 * Pure: packets, outcomes and times go in, actions come out (actions.h). It never blocks and never fails; what the
 * client does wrong ends in actions.close. Each connection that reached CONNECTED proposes exactly one END.
 *
 * One file per packet type: handle_connect.c, handle_publish.c ... To add a packet: its case in client_receive(). */
#ifndef COTERIE_CLIENT_H
#define COTERIE_CLIENT_H

#include "actions.h"
#include "effects.h"

struct client;
struct mqtt_fault;
struct mqtt_packet;

enum client_phase {
    CLIENT_NEW,          /* waits for CONNECT */
    CLIENT_AUTHENTICATING, /* CONNECT named a method: AUTH goes to and fro before it is proposed */
    CLIENT_CHECKING,     /* a password or token is being checked, or its client id rests (takeovers.h); what the client
                          * sends meanwhile is not looked at yet */
    CLIENT_CONNECTING,   /* CONNECT was proposed; what the client sends meanwhile is not looked at yet */
    CLIENT_CONNECTED,
    CLIENT_ENDING,       /* the client said DISCONNECT; the socket is closed when END is applied */
    CLIENT_CLOSED,       /* nothing is taken in or sent any more */
};

/* Why this node, not the client, ends a connection. */
enum client_end {
    CLIENT_END_TAKEN_OVER,       /* 0x8E */
    CLIENT_END_KEEP_ALIVE,       /* 0x8D */
    CLIENT_END_SHUTTING_DOWN,    /* 0x8B */
    CLIENT_END_UNAVAILABLE,      /* nothing can be committed: 0x9C with a Server Reference, or 0x89 */
    CLIENT_END_QUOTA,            /* 0x97 */
    CLIENT_END_NOT_AUTHORIZED,   /* the user was disabled, removed or banned: 0x87 */
    CLIENT_END_EXPIRED,          /* its token has expired: 0xA0 */
    CLIENT_END_NO_PACKET_ID,     /* a packet id stayed in use too long: 0x80 */
    CLIENT_END_GONE,             /* the socket is closed */
};

/* One packet. The client is NEW, AUTHENTICATING or CONNECTED. */
void client_receive(struct client *client, const struct mqtt_packet *packet, uint64_t now_ms, struct actions *out);
/* Bytes that are no packet; `fault` as mqtt_decode said. */
void client_receive_bad(struct client *client, const struct mqtt_fault *fault, struct actions *out);
/* A CONNECT that cannot be taken, because nothing can be committed (0x9C with a Server Reference, or 0x88). */
void client_refuse(struct client *client, const struct mqtt_packet *packet, struct actions *out);
/* A CONNECT beyond the rate at which they are taken (0x9F). */
void client_refuse_rate(struct client *client, const struct mqtt_packet *packet, struct actions *out);
/* A CONNECT from an address that is banned (0x8A). */
void client_refuse_banned(struct client *client, const struct mqtt_packet *packet, struct actions *out);
/* The login that actions.login asked for has been run. */
void client_logged_in(struct client *client, uint64_t now_ms, struct actions *out);
/* Whether its user may still be connected, as far as the replicated state knows. */
bool client_admitted(const struct client *client);
/* The outcome of a command that this client proposed with `tag`. */
void client_outcome(struct client *client, const struct effect *effect, uint32_t tag, uint64_t now_ms,
                    struct actions *out);
/* Ends the connection for a reason of ours. */
void client_end(struct client *client, enum client_end why, struct actions *out);
/* When client_timeout() is to be called; UINT64_MAX = never. */
uint64_t client_deadline(const struct client *client);
void client_timeout(struct client *client, uint64_t now_ms, struct actions *out);

#endif
