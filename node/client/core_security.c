/* core_security.c — operators' commands on their way through the log, and what their changes mean for clients that are
 * connected here.
 *
 *   core_administer ──command──▶ the log ──▶ apply ─┬─ outcome, at the node that was asked ──▶ its caller
 *                                                   └─ EFFECT_SECURITY, at every node ──▶ here
 *
 * After a change, at that place in the log: who is disabled, removed or banned is disconnected (0x87); what was found
 * out about rights is forgotten, and deliveries that wait in memory are judged again. */
#include "core_private.h"

#include "acl_file.h"
#include "login.h"
#include "security.h"

#include "base/memory.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADMINISTRATIONS_MAX 64

/* ---- bans of addresses ---- */

struct address {
    uint8_t bytes[16];
    unsigned bits; /* 32 or 128; 0 = none */
};

static struct address address_of(const char *text)
{
    struct address address = {.bits = 0};

    if (inet_pton(AF_INET, text, address.bytes) == 1)
        address.bits = 32;
    else if (inet_pton(AF_INET6, text, address.bytes) == 1)
        address.bits = 128;
    return address;
}

struct address_search {
    struct address address;
    bool found;
};

static bool same_prefix(const struct address *one, const struct address *other, unsigned bits)
{
    unsigned rest = bits % 8;
    uint8_t mask = (uint8_t)(0xff << (8 - rest));

    if (memcmp(one->bytes, other->bytes, bits / 8) != 0)
        return false;
    return rest == 0 || ((one->bytes[bits / 8] ^ other->bytes[bits / 8]) & mask) == 0;
}

/* "ADDRESS" or "ADDRESS/BITS" */
static bool is_in_ban(void *context, const struct security_ban *ban)
{
    struct address_search *search = context;
    char text[64], *slash;
    struct address banned;
    unsigned long bits;

    if (ban->kind != BAN_ADDRESS || ban->subject.size >= sizeof(text))
        return true;
    memcpy(text, ban->subject.data, ban->subject.size);
    text[ban->subject.size] = '\0';
    slash = strchr(text, '/');
    if (slash != NULL)
        *slash++ = '\0';
    banned = address_of(text);
    bits = slash != NULL ? strtoul(slash, NULL, 10) : banned.bits;
    search->found = banned.bits != 0 && banned.bits == search->address.bits && bits <= banned.bits &&
                    same_prefix(&banned, &search->address, (unsigned)bits);
    return !search->found;
}

bool core_bans_address(const struct core *core, const struct client *client)
{
    struct address_search search = {.found = false};
    char text[CORE_ADDRESS_MAX], plain[CORE_ADDRESS_MAX];
    struct bytes address;

    if (!security_bans_addresses(core->node.security))
        return false;
    address = core_address(core, client, text);
    if (address.size > 1 && address.data[0] == '[')
        address = bytes_of(address.data + 1, address.size - 2);
    snprintf(plain, sizeof(plain), "%.*s", (int)address.size, (const char *)address.data);
    search.address = address_of(strncmp(plain, "::ffff:", 7) == 0 && strchr(plain, '.') != NULL ? plain + 7 : plain);
    if (search.address.bits != 0)
        security_each_ban(core->node.security, core_clock_ms(core), is_in_ban, &search);
    return search.found;
}

/* ---- changes ---- */

/* What waits in memory for this client was judged by rules of before: it is read from its queue again. */
static void judge_again(struct core *core, struct client *client)
{
    size_t before = client->inflight.waiting_bytes;
    uint64_t first = inflight_forget_waiting(&client->inflight);

    if (first == 0)
        return;
    core->waiting_bytes -= before;
    client->last_order = first - 1;
    client->behind = true;
    client->blocked = false;
    core_want_work(core, client);
}

void core_rules_changed(struct core *core)
{
    struct client *client;
    uint32_t slot = 0;

    access_changed(&core->node);
    while ((client = registry_next(&core->registry, &slot)) != NULL) {
        if (client->phase == CLIENT_CONNECTED && client->inflight.waiting > 0)
            judge_again(core, client);
    }
}

/* A line of this node's log too; the state keeps only the last. */
static void tell_change(struct core *core, uint64_t position)
{
    struct security_change change;
    char text[512];

    if (!security_next_change(core->state, position - 1, &change) || change.position != position)
        return; /* it has made room for newer ones */
    snprintf(text, sizeof(text), "changed by %.*s: %.*s", (int)change.actor.size, (const char *)change.actor.data,
             (int)change.what.size, (const char *)change.what.data);
    core_note(core, 1, text);
}

void core_security_changed(struct core *core, const struct effect *effect)
{
    struct client *client;
    uint32_t slot = 0;

    tell_change(core, effect->security.position);
    if (effect->security.rules)
        core_rules_changed(core);
    while (effect->security.admission && (client = registry_next(&core->registry, &slot)) != NULL) {
        if (client->phase == CLIENT_CONNECTED && (!client_admitted(client) || core_bans_address(core, client)))
            core_end(core, client, CLIENT_END_NOT_AUTHORIZED);
    }
}

void core_set_acl_file(struct core *core, struct acl_file *file)
{
    acl_file_free(core->node.acl);
    core->node.acl = file;
    core_rules_changed(core);
}

/* ---- operators' commands ---- */

enum status core_administer(struct core *core, const struct command *command, core_administered done, void *context)
{
    struct administration *one;

    if (!core->node.available || core_pressed(core) || core->administration_count == ADMINISTRATIONS_MAX)
        return STATUS_BUSY;
    core->administrations =
        memory_resize(core->administrations, (core->administration_count + 1) * sizeof(*core->administrations));
    one = &core->administrations[core->administration_count++];
    core->administration_tag = (core->administration_tag + 1) & ((1u << TAG_BITS) - 1);
    *one = (struct administration){.tag = core->administration_tag, .done = done, .context = context};
    proposer_add(core->proposer, command, one->tag); /* connection 0: nobody's */
    return STATUS_OK;
}

void core_administration_done(struct core *core, uint32_t tag, enum outcome outcome)
{
    for (uint32_t i = 0; i < core->administration_count; i++) {
        struct administration one = core->administrations[i];

        if (one.tag != tag)
            continue;
        core->administrations[i] = core->administrations[--core->administration_count];
        one.done(one.context, outcome);
        return;
    }
}

void core_forget_administrations(struct core *core)
{
    while (core->administration_count > 0) {
        struct administration one = core->administrations[--core->administration_count];

        one.done(one.context, OUTCOME_FENCED);
    }
    free(core->administrations);
    core->administrations = NULL;
}
