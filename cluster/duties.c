/* duties.c — see duties.h. */
#include "duties.h"

#include <assert.h>
#include <string.h>

#define CHECKPOINT_MS 1000
#define CHECKPOINT_ENTRIES 1000
#define BIT(number) ((uint64_t)1 << (number))

void duties_init(struct duties *duties, uint32_t self, const struct command_settings *settings)
{
    *duties = (struct duties){.self = self};
    if (settings != NULL) {
        duties->has_settings = true;
        duties->settings = *settings;
    }
}

void duties_reset(struct duties *duties)
{
    duties->pending = 0;
    duties->down_pending = 0;
}

/* Cookies name the kind, and the node of a NODE_DOWN. */
static uint64_t cookie_of(enum command_type type, uint32_t node)
{
    return DUTY_COOKIE_MASK | (uint64_t)type << 32 | node;
}

void duties_done(struct duties *duties, uint64_t cookie)
{
    enum command_type type = (enum command_type)(cookie >> 32 & 0xFFFF);
    uint32_t node = (uint32_t)cookie;
    assert(COOKIE_IS_DUTY(cookie) && type < 64 && node < NODES_MAX);
    if (type == COMMAND_NODE_DOWN)
        duties->down_pending &= ~BIT(node);
    else
        duties->pending &= ~BIT(type);
}

static void propose(struct duties *duties, struct proposer *proposer, const struct command *command)
{
    duties->pending |= BIT(command->type);
    proposer_add(proposer, command, cookie_of(command->type, 0));
}

static bool is_pending(const struct duties *duties, enum command_type type)
{
    return (duties->pending & BIT(type)) != 0;
}

static void propose_downs(struct duties *duties, const struct consensus_status *status, const struct state *state,
                          struct proposer *proposer)
{
    for (uint32_t node = 1; node < NODES_MAX; node++) {
        bool up = false;
        if (!(status->silent & BIT(node)) || (duties->down_pending & BIT(node)) || node == duties->self)
            continue;
        uint64_t epoch = state_node_epoch(state, node, &up);
        if (!up)
            continue;
        struct command command = {.type = COMMAND_NODE_DOWN, .node_down = {.node = node, .node_epoch = epoch}};
        duties->down_pending |= BIT(node);
        proposer_add(proposer, &command, cookie_of(COMMAND_NODE_DOWN, node));
    }
}

static bool settings_equal(const struct command_settings *a, const struct command_settings *b)
{
    return a->queue_messages_max == b->queue_messages_max && a->queue_bytes_max == b->queue_bytes_max &&
           a->subscriptions_max == b->subscriptions_max && a->sessions_max == b->sessions_max &&
           a->retained_messages_max == b->retained_messages_max && a->retained_bytes_max == b->retained_bytes_max &&
           a->store_bytes_max == b->store_bytes_max && a->session_expiry_max_s == b->session_expiry_max_s &&
           a->in_flight_max == b->in_flight_max;
}

/* At rest only its own checkpoints would be in the log: then one a second is all there is. */
static bool checkpoint_is_due(const struct duties *duties, const struct consensus_status *status, uint64_t now_ms)
{
    return now_ms - duties->checkpoint_ms >= CHECKPOINT_MS ||
           status->applied >= duties->checkpoint_index + CHECKPOINT_ENTRIES;
}

/* Only who leads, and has said that it is up: what it proposes before that has no effect. */
static bool can_propose(const struct consensus_status *status, const struct proposer *proposer)
{
    return status->role == CONSENSUS_LEADER && status->majority && proposer_epoch(proposer) != 0;
}

void duties_propose(struct duties *duties, const struct consensus_status *status, const struct state *state,
                    struct proposer *proposer, uint64_t now_ms)
{
    if (!can_propose(status, proposer))
        return;
    propose_downs(duties, status, state, proposer);
    if (!is_pending(duties, COMMAND_TICK) && state_due_ms(state) <= status->cluster_ms)
        propose(duties, proposer, &(struct command){.type = COMMAND_TICK});
    if (!is_pending(duties, COMMAND_CONTINUE) && state_work_pending(state))
        propose(duties, proposer, &(struct command){.type = COMMAND_CONTINUE});
    if (!is_pending(duties, COMMAND_SETTINGS) && duties->has_settings &&
        !settings_equal(&duties->settings, state_settings(state)))
        propose(duties, proposer, &(struct command){.type = COMMAND_SETTINGS, .settings = duties->settings});
    if (!is_pending(duties, COMMAND_CHECKPOINT) && checkpoint_is_due(duties, status, now_ms)) {
        duties->checkpoint_ms = now_ms;
        duties->checkpoint_index = status->applied;
        propose(duties, proposer, &(struct command){.type = COMMAND_CHECKPOINT});
    }
}

uint64_t duties_deadline(const struct duties *duties, const struct consensus_status *status, const struct state *state,
                         const struct proposer *proposer, uint64_t now_ms)
{
    if (!can_propose(status, proposer))
        return UINT64_MAX; /* consensus tells of a change, and entries are applied in a turn */
    uint64_t deadline = is_pending(duties, COMMAND_CHECKPOINT) ? UINT64_MAX : duties->checkpoint_ms + CHECKPOINT_MS;
    uint64_t due = state_due_ms(state);
    if (due != UINT64_MAX && !is_pending(duties, COMMAND_TICK)) {
        uint64_t at = due > status->cluster_ms ? now_ms + (due - status->cluster_ms) : now_ms;
        deadline = at < deadline ? at : deadline;
    }
    return deadline > now_ms ? deadline : now_ms;
}
