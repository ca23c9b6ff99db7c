/* core_effects.c — a committed entry: apply it, and carry out what it asks of this node.
 *
 *   entry ──state_apply──▶ effects ─┬─ outcomes of our own batch ──▶ client_outcome ──▶ actions
 *                                   ├─ messages, queues ───────────▶ deliver
 *                                   └─ take-overs, nodes, hashes ──▶ here
 *
 * Effects are carried out in log order, after the whole entry has been applied: so what is read from the state may be
 * ahead of the effect at hand, never behind it. */
#include "core_private.h"

#include "takeovers.h"

#include "base/memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- outcomes ---- */

static bool is_outcome(enum effect_type type)
{
    return type >= EFFECT_CONNECTED && type <= EFFECT_ADMINISTERED;
}

static struct client *client_of_cookie(const struct core *core, uint64_t cookie)
{
    return registry_find(&core->registry, cookie >> TAG_BITS);
}

static void carry_out_outcome(struct core *core, const struct effect *effect, uint64_t cookie)
{
    struct client *client = client_of_cookie(core, cookie);

    if (effect->type == EFFECT_ADMINISTERED)
        core_administration_done(core, (uint32_t)cookie, effect->outcome);
    if (effect->type == EFFECT_DELIVERY_DONE)
        core->node.stats.drops[DROP_NOT_PERMITTED] += effect->delivery.dropped;
    if (client == NULL)
        return;
    assert(client->commands_pending > 0);
    client->commands_pending--;
    actions_clear(&core->actions);
    client_outcome(client, effect, (uint32_t)(cookie & ((1u << TAG_BITS) - 1)), core->now_ms, &core->actions);
    if (client->input.size > 0)
        core_want_work(core, client);
    core_carry_out(core, client);
}

/* Our batch has been applied: what was not for a client. */
static void note_done(struct core *core, const uint64_t *cookies, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (COOKIE_IS_DUTY(cookies[i])) {
            duties_done(&core->duties, cookies[i]);
        } else if ((cookies[i] & ((1u << TAG_BITS) - 1)) == TAG_RETAINED_MORE) {
            struct client *client = client_of_cookie(core, cookies[i]);

            if (client == NULL)
                continue;
            client->scan_asked = false;
            client->behind = true;
            core_want_work(core, client);
        }
    }
}

/* ---- the rest ---- */

static struct client *held_client(const struct core *core, const struct effect *effect)
{
    struct client *client = registry_find(&core->registry, effect->connection);

    return client != NULL && client->phase == CLIENT_CONNECTED && client->session_id == effect->session_id ? client
                                                                                                           : NULL;
}

static void read_queue(struct core *core, const struct effect *effect)
{
    struct client *client = held_client(core, effect);

    if (client == NULL)
        return;
    client->behind = true;
    client->blocked = false;
    core_want_work(core, client);
}

static void taken_over(struct core *core, const struct effect *effect)
{
    struct client *client = registry_find(&core->registry, effect->connection);

    if (client == NULL)
        return;
    core->node.stats.taken_over++;
    if (client->phase == CLIENT_ENDING) { /* it is leaving already: its END decides about the will */
        actions_clear(&core->actions);
        client_close(client, CLOSE_FLUSH, &core->actions);
        core_carry_out(core, client);
    } else {
        core_end(core, client, CLIENT_END_TAKEN_OVER);
    }
}

static void note_node(struct core *core, const struct effect *effect)
{
    if (effect->node.node == core->node.node && !effect->node.up &&
        effect->node.node_epoch == proposer_epoch(core->proposer))
        core->life_over = true;
    buffer_clear(&core->node.server_reference); /* to be written anew */
}

static void note_checkpoint(struct core *core, const struct effect *effect)
{
    struct checkpoint *checkpoint;

    core->checkpoints = memory_resize(core->checkpoints, (core->checkpoint_count + 1) * sizeof(*core->checkpoints));
    checkpoint = &core->checkpoints[core->checkpoint_count++];
    checkpoint->index = effect->checkpoint.index;
    memcpy(checkpoint->hash, effect->checkpoint.hash, sizeof(checkpoint->hash));
}

static void carry_out(struct core *core, const struct effect *effect)
{
    switch (effect->type) {
    case EFFECT_MESSAGE:
        deliver_message(core, effect->message.message_id, effect->message.message, effect->message.targets,
                        effect->message.count);
        core->apply_looks += TARGET_LOOKS * effect->message.count;
        return;
    case EFFECT_QUEUED:
    case EFFECT_ADMITTED: read_queue(core, effect); return;
    case EFFECT_TAKEN_OVER: taken_over(core, effect); return;
    case EFFECT_CONTESTED: takeovers_note(core->node.takeovers, effect->contested.client_id, core->now_ms); return;
    case EFFECT_NODE: note_node(core, effect); return;
    case EFFECT_CHECKPOINT: note_checkpoint(core, effect); return;
    case EFFECT_SECURITY: core_security_changed(core, effect); return;
    case EFFECT_BATCH:
    case EFFECT_CONNECTED:
    case EFFECT_ENDED:
    case EFFECT_SUBSCRIBED:
    case EFFECT_UNSUBSCRIBED:
    case EFFECT_PUBLISHED:
    case EFFECT_RELEASED:
    case EFFECT_DELIVERY_RELEASED:
    case EFFECT_DELIVERY_DONE:
    case EFFECT_ADMINISTERED:
    case EFFECT_SETTINGS: return; /* outcomes: see above; settings are asked for when needed */
    }
}

/* Whose batch it is. */
static void note_batch(struct core *core, const struct effect *effect)
{
    const uint64_t *cookies = NULL;
    uint32_t count = 0;
    enum proposer_event event =
        proposer_applied(core->proposer, core->entry_index, core->entry, effect, &cookies, &count);

    if (event == PROPOSER_FENCED)
        core->life_over = true;
    if (event != PROPOSER_DONE)
        return;
    core->cookies = memory_copy(cookies, count * sizeof(*cookies)); /* outcomes propose, which ends the borrowing */
    core->cookie_count = count;
}

static void carry_out_all(struct core *core)
{
    for (uint32_t i = 0; i < effects_count(core->effects); i++) {
        const struct effect *effect = effects_at(core->effects, i);

        core->apply_looks++;
        if (effect->type == EFFECT_BATCH)
            note_batch(core, effect);
        else if (!is_outcome(effect->type))
            carry_out(core, effect);
        else if (effect->command < core->cookie_count)
            carry_out_outcome(core, effect, core->cookies[effect->command]);
        else if (effect->type == EFFECT_SUBSCRIBED)
            core->applied_awaited = true;
    }
}

static void entry_is_over(struct core *core)
{
    struct batch_header header;
    struct bytes commands;

    if (core->uncommitted_ms == UINT64_MAX)
        core->uncommitted_ms = core->now_ms;
    if (batch_decode(core->entry, &header, &commands) == STATUS_OK)
        core->uncommitted_commands += header.count;
    core->applied_ms = core->now_ms;
    note_done(core, core->cookies, core->cookie_count);
    core_forget_entry(core);
    if (core->life_over)
        core_new_life(core);
}

void core_forget_entry(struct core *core)
{
    free(core->cookies);
    core->cookies = NULL;
    core->cookie_count = 0;
    core->entry = bytes_of(NULL, 0);
}

/* One step of the entry, and what it asks of this node. */
void core_apply_more(struct core *core, uint64_t looks)
{
    uint64_t before = state_worked(core->state);
    enum status status;

    if (core->trouble != STATUS_OK || !state_applying(core->state))
        return;
    effects_clear(core->effects);
    status = state_apply_more(core->state, core->effects, looks);
    core->apply_looks += state_worked(core->state) - before;
    if (status != STATUS_OK) {
        core_trouble(core, status, "a committed entry cannot be applied");
        return;
    }
    carry_out_all(core);
    if (!state_applying(core->state))
        entry_is_over(core);
}

void core_take_entry(struct core *core, uint64_t index, uint64_t term, struct bytes entry, uint64_t now_ms)
{
    core->now_ms = now_ms;
    if (core->trouble != STATUS_OK)
        return;
    assert(!core_busy(core));
    core->entry = entry;
    core->entry_index = index;
    state_apply_begin(core->state, index, term, entry);
    core_apply_more(core, core->apply_looks < APPLY_LOOKS ? APPLY_LOOKS - core->apply_looks : 0);
}

bool core_applying(const struct core *core)
{
    return state_applying(core->state);
}

bool core_takes_entries(const struct core *core)
{
    return !core_busy(core) && core->apply_looks < APPLY_LOOKS;
}

/* ---- SUBACKs that wait for the other nodes ---- */

static bool all_applied(const struct core *core, uint64_t index)
{
    for (uint32_t node = 1; core->health.linked >> node != 0; node++) {
        if ((core->health.linked & (UINT64_C(1) << node)) != 0 && core->peers[node].applied < index)
            return false;
    }
    return true;
}

void core_hold(struct core *core, struct client *client, uint64_t index)
{
    struct bytes bytes = buffer_bytes(&core->actions.out);
    struct held_answer *held;

    if (core->held_first == NULL && all_applied(core, index)) {
        core_send_bytes(core, client, bytes);
        return;
    }
    held = memory_allocate(sizeof(*held) + bytes.size);
    held->next = NULL;
    held->number = client->number;
    held->index = index;
    held->until_ms = core->now_ms + core->node.limits.subscribe_wait_ms;
    held->size = (uint32_t)bytes.size;
    memcpy(held->bytes, bytes.data, bytes.size);
    if (core->held_last == NULL)
        core->held_first = held;
    else
        core->held_last->next = held;
    core->held_last = held;
}

void core_release_held(struct core *core)
{
    for (uint32_t wakes = 0; core->held_first != NULL && wakes < WAKES_MAX; wakes++) {
        struct held_answer *held = core->held_first;
        struct client *client = registry_find(&core->registry, held->number);

        if (held->until_ms > core->now_ms && !all_applied(core, held->index))
            return;
        if (client != NULL && client->phase == CLIENT_CONNECTED)
            core_send_bytes(core, client, bytes_of(held->bytes, held->size));
        core->held_first = held->next;
        if (core->held_first == NULL)
            core->held_last = NULL;
        free(held);
    }
}

void core_peer_applied(struct core *core, uint32_t node, uint64_t index)
{
    if (node < NODES_MAX && index > core->peers[node].applied)
        core->peers[node].applied = index;
}
