/* apply.h — one function per command; each changes the state and appends its effects. None can fail: what a command may
 * not do is an outcome. Those that return bool work in steps: false = call again, state->entry says how far it is. */
#ifndef COTERIE_APPLY_H
#define COTERIE_APPLY_H

#include "state_private.h"

/* apply_node.c */
bool apply_node_up(struct state *state, const struct command_node_up *node_up);
bool apply_node_down(struct state *state, const struct command_node_down *node_down);
void apply_settings(struct state *state, const struct command_settings *settings);
/* The life of `node` that is up ends: no batch of it is applied any more, its sessions follow in steps. */
void node_end(struct state *state, uint32_t node);
/* One step of that: the next connection of the epoch, STATUS_NOT_FOUND if none is left. */
enum status node_end_step(struct state *state, uint32_t node, uint64_t node_epoch);

/* apply_connect.c */
void apply_connect(struct state *state, const struct command_connect *connect);
void apply_end(struct state *state, const struct command_end *end);

/* apply_subscribe.c */
bool apply_subscribe(struct state *state, const struct command_subscribe *subscribe);
bool apply_unsubscribe(struct state *state, const struct command_unsubscribe *unsubscribe);
void apply_retained_more(struct state *state, const struct command_retained_more *more);

/* apply_publish.c */
bool apply_publish(struct state *state, const struct command_publish *publish);
void apply_pubrel(struct state *state, const struct command_pubrel *pubrel);

/* apply_delivery.c */
bool apply_ack(struct state *state, const struct command_ack *ack);
bool apply_decline(struct state *state, const struct command_decline *decline);
void apply_pubrec(struct state *state, const struct command_delivery *delivery);
void apply_pubcomp(struct state *state, const struct command_delivery *delivery);

/* apply_security.c */
void apply_user(struct state *state, enum command_type type, const struct command_user *command);
void apply_role(struct state *state, enum command_type type, const struct command_role *command);
void apply_ban(struct state *state, const struct command_ban *command);

#endif
