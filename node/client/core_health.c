/* core_health.c — whether this node can serve clients: G8, the lives of the node, stopping.
 *
 *   available   a leader is heard, this node is caught up, and its NODE_UP is applied: what is proposed will commit
 *   not         new CONNECTs are held for `hold`, then refused; commands on the way are waited for as long, then their
 *               clients are told to go elsewhere. Nothing is ever denied whose outcome is unknown
 *   cut off     no leader was heard for node_timeout less a margin: all clients are dropped before the other nodes may
 *               declare this one down and give their sessions to others. Another margin later (a process that stood still
 *               needs only a moment to hear its leader again) no CONNECT is held any more: it is refused at once
 *   life over   the others did declare it down, or a snapshot came between: whatever this node had proposed is fenced.
 *               All clients are closed, and a new NODE_UP is proposed.
 *
 * All clients: so many in one turn, the first at once. Until the last is ended nothing else is taken or delivered (core_busy),
 * so it looks to clients as if it had been done in one go. */
#include "core_private.h"

#include "base/bug.h"

#include "security.h"

#include <string.h>

static bool is_cut_off(const struct core *core)
{
    const struct core_limits *limits = &core->node.limits;
    uint64_t patience_ms = limits->node_timeout_ms - limits->node_margin_ms;

    return !bug(BUG_V26_CUT_OFF_KEEPS_CLIENTS) && core->now_ms > core->health.leader_heard_ms &&
            core->now_ms - core->health.leader_heard_ms >= patience_ms;
}

bool core_turns_away(const struct core *core)
{
    return core->cut_off && core->now_ms >= core->cut_off_ms + core->node.limits.node_margin_ms;
}

/* The addresses of the other nodes that are up, separated by spaces (5.0, 4.11). */
static void write_server_reference(struct core *core)
{
    struct buffer *text = &core->node.server_reference;

    buffer_clear(text);
    for (uint32_t node = 1; node < NODES_MAX; node++) {
        struct bytes address;
        bool up = false;

        if (node == core->node.node || state_node_epoch(core->state, node, &up) == 0 || !up)
            continue;
        address = state_node_address(core->state, node);
        if (address.size == 0)
            continue;
        if (text->size > 0)
            buffer_put_u8(text, ' ');
        buffer_put_bytes(text, address);
    }
}

void core_end_more(struct core *core)
{
    struct core_ending *ending = &core->ending;
    struct client *client = NULL;

    for (uint32_t i = 0; i < ENDS_MAX && (client = registry_next(&core->registry, &ending->slot)) != NULL; i++) {
        core->other_looks += END_LOOKS;
        if (client->phase == CLIENT_CLOSED)
            core_forget_if_over(core, client);
        else if (client->phase != CLIENT_NEW || core->node.stopping)
            core_end(core, client, ending->why);
    }
    ending->open = client != NULL;
}

static void end_all(struct core *core, enum client_end why)
{
    core->ending = (struct core_ending){.open = true, .why = why};
    core_end_more(core);
}

void core_check_health(struct core *core)
{
    bool cut_off = is_cut_off(core);
    bool available = !cut_off && core->health.leader != 0 && core->health.caught_up && !core->health.damaged &&
                     proposer_epoch(core->proposer) != 0 && core->trouble == STATUS_OK;

    if (available != core->node.available) {
        core->node.available = available;
        core_note(core, available ? 1 : 2, available ? "clients can be served" : "nothing can be committed for now");
    }
    if (!available && core->node.server_reference.size == 0)
        write_server_reference(core);
    else if (available)
        buffer_clear(&core->node.server_reference);
    if (cut_off && !core->cut_off && core->registry.count > 0) {
        core_note(core, 2, "no leader heard: clients are sent elsewhere");
        end_all(core, CLIENT_END_UNAVAILABLE);
    }
    if (cut_off && !core->cut_off)
        core->cut_off_ms = core->now_ms;
    core->cut_off = cut_off;
}

void core_health(struct core *core, const struct consensus_status *status, uint64_t now_ms)
{
    uint64_t changed = core->health.linked ^ status->linked;

    core->now_ms = now_ms;
    for (uint32_t node = 1; changed >> node != 0; node++) {
        if ((changed & (UINT64_C(1) << node)) != 0)
            core->peers[node].applied = 0; /* it may come back as less than it was */
    }
    core->health = *status;
    proposer_route(core->proposer, status->leader, status->term, status->route);
    core_check_health(core);
}

bool core_ready(const struct core *core, const char **why)
{
    const char *reason = NULL;

    if (core->trouble != STATUS_OK)
        reason = core->trouble_text;
    else if (core->node.stopping)
        reason = "stopping";
    else if (core->health.leader == 0)
        reason = "no leader is known";
    else if (core->cut_off)
        reason = "no leader was heard for too long";
    else if (!core->health.caught_up)
        reason = "still catching up";
    else if (!core->node.available)
        reason = "this node has not joined yet";
    *why = reason;
    return reason == NULL;
}

/* ---- lives ---- */

/* A nonce that no life had: from the generator, which the driver seeded at random. */
static void fresh_nonce(struct core *core)
{
    for (size_t i = 0; i < sizeof(core->up.boot_nonce); i += sizeof(uint64_t)) {
        uint64_t bits = client_node_random(&core->node);

        memcpy(core->up.boot_nonce + i, &bits, sizeof(bits));
    }
}

/* What was proposed for clients will not be told to us; of those who have proposed nothing so far, all will be of the new
 * life. */
static void forget_proposed(struct core *core)
{
    struct client *client;
    uint32_t slot = 0;

    while ((client = registry_next(&core->registry, &slot)) != NULL) {
        if (client->phase < CLIENT_CONNECTING)
            continue;
        client->no_end = true;
        client->connect_pending = false;
    }
}

void core_new_life(struct core *core)
{
    core->life_over = false;
    core->node.available = false;
    write_server_reference(core);
    forget_proposed(core);
    core_forget_administrations(core);
    proposer_reset(core->proposer);
    duties_reset(&core->duties);
    fresh_nonce(core);
    proposer_start(core->proposer, &core->up);
    core_note(core, 2, "this node begins a new life: its clients are closed");
    end_all(core, CLIENT_END_UNAVAILABLE);
}

void core_state_replaced(struct core *core, struct state *state, uint64_t now_ms)
{
    core->now_ms = now_ms;
    core->applied_ms = now_ms;
    core->state = state;
    core->node.state = state;
    core->node.security = state_security(state);
    core->live.open = false;
    core_forget_entry(core);
    deliver_over(core);
    core->committed_work = state_worked(state);
    core->applied_told = state_applied(state);
    core_forget_queues(core);
    core->uncommitted_ms = UINT64_MAX;
    core->uncommitted_commands = 0;
    access_changed(&core->node);
    core_new_life(core);
}

/* ---- stopping ---- */

void core_stop(struct core *core, uint64_t now_ms)
{
    core->now_ms = now_ms;
    core->node.stopping = true;
    end_all(core, CLIENT_END_SHUTTING_DOWN);
}

bool core_idle(const struct core *core)
{
    return core->registry.count == 0 && proposer_pending_commands(core->proposer) == 0;
}
