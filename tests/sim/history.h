/* history.h — what the simulated clients did and saw, and whether the guarantees held.
 *
 * Every payload is unique: a publish is named by its publisher and a number that grows with each. A delivery is what a
 * client's application gets, after the client's own QoS 2 state.
 *
 *   must(session)  published with a positive acknowledgement, sent after the SUBACK was received, acknowledged before
 *                  the UNSUBSCRIBE was sent
 *   may(session)   every publish whose span overlaps the subscription's span
 *
 * A group of a shared subscription counts as one session, whose number follows those of the clients: it is subscribed from
 * the first SUBACK that a member got, and a message is delivered to it when some member gets it. No order is asked of it, and
 * QoS 1 may come to two members. */
#ifndef COTERIE_SIM_HISTORY_H
#define COTERIE_SIM_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTORY_NEVER UINT64_MAX
#define HISTORY_PAYLOAD 8   /* bytes: publisher and number, little-endian, begin each payload */

struct history;

struct history *history_new(uint32_t clients, uint32_t groups);
void history_free(struct history *history);

/* Queues have limits in this run: the first copy of a message that was sent twice may be dropped. */
void history_queues_are_limited(struct history *history);

/* A publish is sent for the first time; returns its number, to be put in the payload. */
uint32_t history_publish(struct history *history, uint32_t publisher, uint32_t topic, uint8_t qos, uint64_t connection,
                         uint64_t now_us);
/* It was sent again after a reconnect: a QoS 1 message may then have entered the log twice. */
void history_resent(struct history *history, uint32_t publisher, uint32_t number);
/* Its PUBACK or PUBREC (positive) has arrived. `refused`: a negative one. NULL, or what is wrong with that. */
const char *history_acknowledged(struct history *history, uint32_t publisher, uint32_t number, bool refused,
                                 uint64_t now_us);
/* Some node has committed it (or something that any payload may say: unknown numbers are ignored). */
void history_committed(struct history *history, uint32_t publisher, uint32_t number);
/* It may expire before it is delivered. */
void history_expires(struct history *history, uint32_t publisher, uint32_t number);
/* It was sent on a connection after another had taken its place: it must have no effect. */
void history_fenced(struct history *history, uint32_t publisher, uint32_t number);

/* A SUBSCRIBE of `session` for `topic` (a filter that matches several is one call per topic) is sent for the first time. */
void history_subscribing(struct history *history, uint32_t session, uint32_t topic, uint8_t qos, uint64_t now_us);
/* Its SUBACK has arrived. */
void history_subscribed(struct history *history, uint32_t session, uint32_t topic, uint64_t now_us);
/* An UNSUBSCRIBE was sent (first at `sent_us`) and its UNSUBACK has arrived. */
void history_unsubscribed(struct history *history, uint32_t session, uint32_t topic, uint64_t sent_us, uint64_t now_us);

/* The session has ended, and with it all its subscriptions and what was queued. */
void history_session_ended(struct history *history, uint32_t session, uint64_t now_us);

/* Wills. Each CONNECT with one makes a publish of its own, of a publisher whose number follows those of the clients. */
enum history_fate {
    FATE_OPEN,     /* at most once */
    FATE_NONE,     /* never */
    FATE_FIRES,    /* exactly once */
};
uint32_t history_will_publisher(const struct history *history, uint32_t client);
uint32_t history_will(struct history *history, uint32_t client, uint32_t topic, uint8_t qos, uint64_t now_us);
void history_will_fate(struct history *history, uint32_t client, uint32_t number, enum history_fate fate, uint64_t now_us);

/* The application of `session` got the message, on `connection`, with `dup` on the packet. Returns NULL, or what is wrong with it (phantom, repeated QoS 2, order, DUP rules). */
const char *history_delivered(struct history *history, uint32_t session, uint32_t publisher, uint32_t number,
                              uint8_t qos, bool dup, uint64_t connection, uint64_t now_us);

/* After everything has been drained: NULL, or what was lost. So many deliveries may be missing because limits dropped
 * them, which the nodes have counted, or because a member of a group ended with them in its hands. */
const char *history_check(struct history *history, uint64_t dropped, uint64_t ended_in_groups);

struct history_counts {
    uint64_t published, acknowledged, delivered, repeated;
};
void history_counts(const struct history *history, struct history_counts *counts);

#endif
