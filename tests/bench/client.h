/* client.h — one MQTT client: its connection, and the way to the state that it is wanted in.
 *
 * A client has a goal and does by itself what leads there, over as many connections as it takes: when one breaks it
 * goes to the next address, and goes on with what was unfinished. Publishers and subscribers differ in what they do
 * with packets once they are connected: publisher.c, subscriber.c. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include "buffer.h"
#include "codec.h"
#include "ledger.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct ssl_st;
struct worker;

enum role { ROLE_PUBLISHER, ROLE_SUBSCRIBER, ROLE_OTHER, ROLE_COUNT };

enum goal {
    GOAL_NONE,
    GOAL_ONLINE,  /* connected; a subscriber has its subscription */
    GOAL_OFFLINE, /* left with DISCONNECT; a persistent session stays */
    GOAL_ERASED,  /* offline, and the broker remembers nothing */
};

enum client_state {
    CLIENT_CLOSED,
    CLIENT_CONNECTING,
    CLIENT_SECURING, /* --tls: the handshake */
    CLIENT_GREETING, /* CONNECT is sent, CONNACK is not here */
    CLIENT_SUBSCRIBING,
    CLIENT_READY,
    CLIENT_LEAVING, /* DISCONNECT is sent, the broker has not closed yet */
    CLIENT_CLOSING,
};

/* What the broker remembers of this client id. */
enum session_state { SESSION_NONE, SESSION_MAYBE, SESSION_KEPT };

enum slot_phase { SLOT_SENT, SLOT_RELEASED, SLOT_DONE };

/* A message in flight; its number follows from its place in the ring. */
struct slot {
    uint64_t sent_ns;
    enum slot_phase phase;
};

struct publisher {
    struct slot *ring; /* number n is at n & mask */
    uint64_t mask;
    uint64_t tail, head; /* numbers below `tail` are done, those below `head` have been sent */
    uint64_t window;     /* head - tail at most */
    uint64_t given_up;   /* QoS 0: deliveries that will not come */
    uint64_t progress_seen, progress_ns;
    struct numbers acknowledged;
    uint64_t last_ack_ns, longest_gap_ns;
};

struct subscriber {
    uint64_t topic;
    struct track *tracks; /* one per publisher of the topic */
    struct numbers open;  /* QoS 2: packet ids between PUBREC and PUBREL */
};

struct client {
    uv_tcp_t tcp;
    uv_connect_t connecting;
    uv_write_t write;
    uv_timer_t timer; /* CONNECTING to SUBSCRIBING, LEAVING: give up; CLOSED: try again */
    struct worker *worker;
    enum role role;
    uint64_t number;

    enum client_state state;
    enum goal goal;
    bool arrived;    /* the goal was reached, and reported */
    bool writing;    /* `sending` is with libuv, `waiting` comes next */
    bool subscribed; /* the session has the subscription */
    enum session_state session;
    unsigned host, attempts;
    uint64_t dialled_ns;

    struct ssl_st *tls; /* --tls: from CLIENT_SECURING until it is closed */
    struct buffer sending, waiting;
    struct buffer partial; /* the beginning of a packet whose end has not been read */
    struct publisher *publisher;
    struct subscriber *subscriber;
};

void client_init(struct client *client, struct worker *worker, enum role role, uint64_t number);
void client_release(struct client *client); /* its handles are closed */

void client_set_goal(struct client *client, enum goal goal);
void client_shut(struct client *client);  /* closes its handles; the loop must run to the end */
void client_break(struct client *client); /* the connection is no good: on to the next address */

/* Sends what was put into worker->output, which belongs to whoever has the turn, and empties it. */
void client_flush(struct client *client);

/* publisher.c: `now` in nanoseconds, uv_hrtime(). They leave packets in worker->output for client_flush(). */
void publisher_init(struct client *client);
void publisher_release(struct client *client);
void publisher_resume(struct client *client, bool session_present, uint16_t receive_maximum);
void publisher_pump(struct client *client, uint64_t now);                                 /* sends what it may */
bool publisher_receive(struct client *client, const struct packet *packet, uint64_t now); /* false: malformed */
void publisher_tick(struct client *client, uint64_t now); /* now and then: see to what takes too long */
void publisher_started(struct client *client, uint64_t now);
void publisher_stopped(struct client *client, uint64_t now);

/* subscriber.c, likewise */
void subscriber_init(struct client *client);
void subscriber_release(struct client *client);
bool subscriber_receive(struct client *client, const struct packet *packet, uint64_t now);
void subscriber_session_ended(struct client *client);

/* The topic of that number, TOPIC_SIZE_MAX with the NUL. */
enum { TOPIC_DIGITS = 7, TOPIC_SIZE_MAX = 32 };
void topic_text(uint32_t run, uint64_t topic, char out[TOPIC_SIZE_MAX]);

#endif
