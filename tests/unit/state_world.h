/* state_world.h — the smallest world in which a state machine lives: a log, two replicas of the state, clients by name.
 *
 * Everything that is applied goes to both. The first is the state of node 1 and never closes; the second is the state of
 * node 2, and is committed and opened anew from its rows after each entry. Their hashes must be equal after every entry,
 * and state_check() must find nothing: so each test here is also one of determinism and of rebuilding.
 *
 * STATE_STORE names a directory that does not exist yet: the second replica is then kept there, not in memory. */
#ifndef COTERIE_STATE_WORLD_H
#define COTERIE_STATE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "state.h"
#include "store.h"

#define WORLD_CLIENTS_MAX 64
#define WORLD_REPLICAS 2
#define NEVER UINT32_MAX

struct world_client {
    char name[24];
    uint32_t node;
    struct command_owner owner;
    uint64_t connection;
    bool session_present;
};

struct world {
    struct store *stores[WORLD_REPLICAS];
    struct state *states[WORLD_REPLICAS];
    struct effects *effects[WORLD_REPLICAS]; /* of the last entry; index is self - 1 */
    uint64_t index, clock_ms;
    uint64_t epochs[NODES_MAX], numbers[NODES_MAX];
    uint8_t nonce;
    uint64_t connections;
    struct buffer batch;             /* under construction */
    uint32_t batch_count, batch_node;
    struct world_client clients[WORLD_CLIENTS_MAX];
    uint32_t client_count;
    bool reopen;                     /* the second replica after each entry; default */
};

int world_setup(void **state);       /* nodes 1 and 2 are up; for cmocka */
int world_teardown(void **state);

/* ---- entries ---- */

void world_begin(struct world *w, uint32_t node);                    /* a batch of this node */
void world_add(struct world *w, const struct command *command);
void world_apply(struct world *w);                                   /* seals and applies it */
void world_apply_entry(struct world *w, struct bytes entry);         /* any bytes */
void world_apply_one(struct world *w, uint32_t node, const struct command *command);
void world_tick(struct world *w, uint64_t later_ms);                 /* time passes; TICKs until nothing is due */
void world_finish_work(struct world *w);                             /* CONTINUEs until none is pending */
void world_node_up(struct world *w, uint32_t node);
void world_node_down(struct world *w, uint32_t node);
void world_settings(struct world *w, const struct command_settings *settings);

/* The effect of the last entry of this type (the first, or the `n`th from 0); NULL = none. */
const struct effect *world_effect(const struct world *w, uint32_t node, enum effect_type type, uint32_t n);
/* Where one replica sends a QoS 0 message outside the log, in one part; a copy of another node's. */
void world_match(struct world *w, uint32_t replica, const struct message *message, uint64_t reachable,
                 struct match *match);
void world_match_copy(struct world *w, uint32_t replica, const struct message *message, const uint64_t *groups,
                      uint32_t count, struct match *match);
uint32_t world_effect_count(const struct world *w, uint32_t node, enum effect_type type);

/* ---- clients ---- */

struct connect_options {
    uint32_t node;                   /* 0: 1 */
    const char *user;                /* NULL: anonymous */
    bool will_allowed, adopts;
    uint64_t credential_epoch;
    bool clean_start;
    uint32_t expiry_s;
    uint16_t receive_maximum;        /* 0: 65,535 */
    const char *will_topic;          /* NULL: no will */
    uint32_t will_delay_s;
    uint8_t will_qos;
    bool will_retain;
};

struct world_client *world_client(struct world *w, const char *name);
/* The name of one of many: "m0", "m1"... The last four stay valid. */
const char *world_member(unsigned number);
enum outcome world_connect(struct world *w, const char *name, struct connect_options options);
void world_end(struct world *w, const char *name, enum end_cause cause);
uint8_t world_subscribe(struct world *w, const char *name, const char *filter, uint8_t options);
uint8_t world_subscribe_id(struct world *w, const char *name, const char *filter, uint8_t options, uint32_t id);
uint8_t world_unsubscribe(struct world *w, const char *name, const char *filter);

struct publish_options {
    uint8_t qos;
    bool retain, register_only;
    uint16_t packet_id;
    uint32_t expiry_s;               /* 0: none */
};
enum outcome world_publish(struct world *w, const char *name, const char *topic, const char *payload,
                           struct publish_options options);
enum outcome world_pubrel(struct world *w, const char *name, uint16_t packet_id);
enum outcome world_ack_own(struct world *w, const char *name, uint64_t order);
enum outcome world_ack_broadcast(struct world *w, const char *name, uint64_t filter_id, uint64_t upto,
                                 const uint64_t *except, uint32_t count);
enum outcome world_pubrec(struct world *w, const char *name, uint64_t order);
enum outcome world_pubcomp(struct world *w, const char *name, uint64_t order);
void world_retained_more(struct world *w, const char *name, uint16_t count);

/* What the session still has to get or to complete, as text: payloads in order, each followed by @QoS, and '!' if it is
 * retained, '*' if admitted, '.' if released, '#' and its subscription ids. "a@1 b@2*" */
const char *world_queue(struct world *w, const char *name);
/* The delivery number `n` (from 0) of that list. */
struct queued world_delivery(struct world *w, const char *name, uint32_t n);
/* Completes a delivery the way its kind asks for; in broadcast queues with all that is before it. */
void world_complete(struct world *w, const char *name, const struct queued *queued);
/* Acknowledges all that is queued, one by one in order. */
void world_drain(struct world *w, const char *name);

/* The targets of the messages of the last entry at `node`, as text: "name:payload@1 ..." */
const char *world_targets(const struct world *w, uint32_t node);

struct state_counts world_counts(const struct world *w);

/* ---- chance ---- */
/* Runs `run` for seeds 1 to `seeds` with 600 steps each, or as STATE_SEED and STATE_STEPS say. */
void world_run_seeds(void (*run)(unsigned steps), unsigned seeds);
uint64_t draw(uint64_t below);     /* of the seed at hand */

#endif
