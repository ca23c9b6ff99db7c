/* apply_node.c — lives of nodes, and settings.
 *
 * A life begins with NODE_UP, whose position is its epoch, and ends with NODE_DOWN or the next NODE_UP. The end takes
 * effect at once for batches; the connections of that epoch are ended in steps (work.h), each as if it had broken. */
#include "apply.h"

#include "base/bug.h"

#include "sessions.h"
#include "wills.h"
#include "work.h"

static void add_node_effect(struct state *state, uint32_t node, uint64_t epoch, bool up)
{
    struct effect *effect = effects_add(state->effects, EFFECT_NODE);
    effect->command = state->command_number;
    effect->node.node = node;
    effect->node.node_epoch = epoch;
    effect->node.up = up;
}

void node_end(struct state *state, uint32_t node)
{
    struct node_record *record = &state->nodes[node];
    record->up = false;
    record->dirty = true;
    if (node == state->self)
        state->self_epoch = 0;
    add_node_effect(state, node, record->epoch, false);
    work_add(state, WORK_NODE, node, record->epoch);
}

enum status node_end_step(struct state *state, uint32_t node, uint64_t node_epoch)
{
    struct key prefix = key_pair(node, node_epoch);
    struct row row;
    bool found = store_first_at(state->store, TABLE_OWNERS, key_bytes(&prefix), &row);
    if (!row_in(key_bytes(&prefix), found, &row))
        return STATUS_NOT_FOUND;
    struct owner owner = {.node = node, .node_epoch = node_epoch, .client_epoch = key_number(row.key, 2)};
    uint64_t session_id = key_number(row.value, 0);
    struct session *session = session_by_id(state, session_id);
    if (session != NULL && session->owner.client_epoch == owner.client_epoch) {
        session_disconnect(state, session, !bug(BUG_V23_WILL_DIES_WITH_NODE));
    } else {
        will_decide(state, session_id, owner.client_epoch, !bug(BUG_V23_WILL_DIES_WITH_NODE));
        owner_row_delete(state, &owner);
    }
    return STATUS_OK;
}

bool apply_node_up(struct state *state, const struct command_node_up *node_up)
{
    if (state->entry.begun)
        return work_step(state);
    state->entry.begun = true;
    if (state->batch.origin_epoch != 0) {
        state->counts.undecodable++; /* it comes in a batch of its own only */
        return true;
    }
    struct node_record *record = &state->nodes[node_up->node];
    if (record->up)
        node_end(state, node_up->node);
    record->known = record->up = record->dirty = true;
    uint64_t drawn = 1 + node_up->boot_nonce[0] % 4;
    if (!bug(BUG_V08_RANDOM_NODE_EPOCH) || record->epoch != drawn)
        record->last_batch = 0;
    record->epoch = bug(BUG_V08_RANDOM_NODE_EPOCH) ? drawn : state->position;
    memcpy(record->boot_nonce, node_up->boot_nonce, sizeof record->boot_nonce);
    buffer_clear(&record->client_address);
    buffer_put_bytes(&record->client_address, node_up->client_address);
    buffer_clear(&record->version);
    buffer_put_bytes(&record->version, node_up->version);
    if (node_up->node == state->self)
        state->self_epoch = record->epoch;
    add_node_effect(state, node_up->node, record->epoch, true);
    return false;
}

bool apply_node_down(struct state *state, const struct command_node_down *node_down)
{
    if (state->entry.begun)
        return work_step(state);
    state->entry.begun = true;
    if (node_down->node == 0 || node_down->node >= NODES_MAX)
        return true;
    const struct node_record *record = &state->nodes[node_down->node];
    if (!record->up || record->epoch != node_down->node_epoch)
        return true;
    node_end(state, node_down->node);
    return false;
}

void apply_settings(struct state *state, const struct command_settings *settings)
{
    state->settings = *settings;
    state->settings_dirty = true;
    struct effect *effect = effects_add(state->effects, EFFECT_SETTINGS);
    effect->command = state->command_number;
}
