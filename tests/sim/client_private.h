/* client_private.h — the insides of a model client, shared by client.c and client_messages.c only. */
#ifndef SIM_CLIENT_PRIVATE_H
#define SIM_CLIENT_PRIVATE_H

#include "packets.h"
#include "sim.h"

#define GHOST_PACKET_ID 65535    /* used on a connection that has been taken over, and nowhere else */
#define WINDOW_MAX 256

enum session_kind { SESSION_FOR_EVER, SESSION_BRIEF, SESSION_CLEAN };

enum phase { OFFLINE, DIALING, CONNECTING, ONLINE, LEAVING };

enum stage { SENT, RELEASED };

struct outgoing {            /* one of our publishes, unacknowledged */
    uint32_t number, topic;
    uint16_t packet_id;
    uint8_t qos;
    uint32_t expiry_s;
    enum stage stage;
    uint64_t asked_us;       /* when it, or its PUBREL, was sent last */
};

struct incoming {            /* a QoS 2 delivery that is not completed */
    uint16_t packet_id;
    uint32_t publisher, number;
};

struct late_ack {            /* a delivery that the application has, but that we have not acknowledged yet */
    uint8_t first;
    uint16_t packet_id;
    uint32_t publisher, number;
};

struct subscription {
    uint32_t topic;          /* UINT32_MAX: the wildcard over all topics but those of wills */
    uint8_t qos;
    bool wanted, active;     /* active: the SUBACK has been received */
    bool sent;               /* SUBSCRIBE or UNSUBSCRIBE is on its way on this connection */
    uint64_t sent_us;        /* when the first SUBSCRIBE or UNSUBSCRIBE of this change was sent */
    uint16_t packet_id;
};

struct sim_client {
    struct sim *sim;
    uint32_t id;
    char name[16];
    uint8_t level;
    enum session_kind kind;
    uint32_t expiry_s;       /* of a brief session */
    enum phase phase;
    uint32_t node;
    uint64_t connection, node_generation;
    uint64_t timer;          /* number of the timer that counts */
    bool established;        /* a CONNACK has told us that the session exists */
    uint32_t attempts;       /* CONNECTs sent for the present session: the outcome of each may be unknown */
    bool stalled;            /* does not read */
    bool unanswered;         /* a CONNECT was sent after the last CONNACK: it may have made a new session */
    bool begins_anew;        /* so the next ones ask for one */
    bool haunted;            /* such a one was given up: if it is committed late, it ends the session made since */
    uint32_t goodbyes;       /* in the log, when DISCONNECT was sent */
    uint64_t dialled_us;     /* when CONNECT was sent */
    uint64_t owned_us;       /* what was acknowledged last was sent then: this session was surely ours, then or later */
    struct buffer input, output;
    struct outgoing window[WINDOW_MAX];
    uint32_t window_count;
    uint16_t next_packet_id;
    struct incoming *incoming;
    uint32_t incoming_count, incoming_capacity;
    struct late_ack *late;   /* of the present connection */
    uint32_t late_count, late_capacity;
    struct subscription subscriptions[5];
    uint32_t subscription_count;
    uint32_t session;        /* in the history: its id, or that of the group of which it is a member */

    bool has_will, will_is_set;       /* is set: the present connection's CONNECT was answered */
    uint8_t will_qos;
    uint32_t will_delay_s, will_number;
    bool late_will;                   /* the will before this one may still be delayed */
    uint32_t late_will_number;
    uint64_t late_will_us;            /* since when */

    uint64_t ghost;          /* the connection before this one, if it is still open */
    struct buffer ghost_input;
};

/* ---- client.c ---- */

void client_flush(struct sim_client *client);
/* Something was answered that was asked then: the session was ours. */
void client_hear(struct sim_client *client, uint64_t asked_us);
bool client_is_member(const struct sim_client *client); /* of a group */

/* ---- client_messages.c ---- */

uint32_t client_will_topic(const struct sim *sim);
/* A publish of the client's, told to the history; it is not put on its way, nor in the window. */
struct outgoing client_draw_publish(struct sim_client *client);
void client_put_publish(struct sim_client *client, const struct outgoing *one, bool dup);
void client_publish(struct sim_client *client); /* if the window is not full */
void client_resend(struct sim_client *client);
void client_subscribe_what_is_wanted(struct sim_client *client);
void client_toggle_subscription(struct sim_client *client);

/* PUBACK, PUBREC or PUBCOMP. */
void client_acknowledged(struct sim_client *client, uint8_t type, uint16_t packet_id, uint8_t reason);
/* SUBACK or UNSUBACK. */
void client_subscription_answered(struct sim_client *client, uint16_t packet_id, bool subscribed);
/* PUBLISH, PUBREL. */
void client_deliver(struct sim_client *client, uint8_t first, struct bytes content);
void client_released(struct sim_client *client, uint16_t packet_id);

#endif
