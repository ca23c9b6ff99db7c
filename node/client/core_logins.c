/* core_logins.c — logins that need a hash or a signature checked: a queue with a bound, few of them at a time.
 *
 *   CONNECT ──core_login──▶ waiting (in order; those who guess wait longer) ──callback login──▶ another thread
 *                                                                                  core_login_done ──▶ CONNECT goes on
 *
 * A hash costs tens of milliseconds on purpose; so no more than LOGINS_AT_ONCE run together, which leaves the thread
 * pool to the log. An exchange of AUTH, which costs none, waits here too if somebody guesses at its user's password: between
 * challenge and proof. Who leaves while waiting costs nothing; who leaves while its hash is made is found gone when it is
 * done. */
#include "core_private.h"

#include "failures.h"
#include "login.h"

#include "base/memory.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOGINS_AT_ONCE 2
#define TELL_MS        60000 /* a line about guesses at most so often, */
#define TOLD_WAIT_MS   2000  /* and only when they have gone on for a while */

struct bytes core_address(const struct core *core, const struct client *client, char text[CORE_ADDRESS_MAX])
{
    char *port;

    text[0] = '\0';
    if (core->out.address != NULL && client->conn != NULL)
        core->out.address(core->out.context, client->conn, text);
    port = strrchr(text, ':');
    return bytes_of(text, port == NULL ? strlen(text) : (size_t)(port - text));
}

/* For the log: somebody guesses. */
static void tell_guessing(struct core *core, struct bytes address, uint32_t wait_ms)
{
    char text[160];

    if (wait_ms < TOLD_WAIT_MS || core->now_ms < core->logins.told_ms)
        return;
    core->logins.told_ms = core->now_ms + TELL_MS;
    snprintf(text, sizeof(text), "wrong passwords again and again: a login from %.*s waits %u ms; %llu have so far",
             (int)address.size, (const char *)address.data, wait_ms, (unsigned long long)core->node.stats.logins_slowed);
    core_note(core, 2, text);
}

/* How long it has to wait. Who proves something by AUTH has been turned away if it guesses itself (core_guesses_too_soon);
 * as the user at whom others guess it cannot be, which would lock out that user. */
static uint32_t wait_of(struct core *core, const struct client *client, struct bytes address)
{
    if (client->phase == CLIENT_AUTHENTICATING)
        return failures_wait_ms(core->node.failures, bytes_of(NULL, 0), authentication_user(client), core->now_ms);
    return failures_wait_ms(core->node.failures, address, login_user_name(client->extras->login), core->now_ms);
}

void core_login(struct core *core, struct client *client)
{
    struct login_queue *queue = &core->logins;
    bool proof = client->phase == CLIENT_AUTHENTICATING;
    char text[CORE_ADDRESS_MAX];
    struct bytes address = core_address(core, client, text);
    uint32_t wait_ms = wait_of(core, client, address);

    if (proof && wait_ms == 0)
        return;
    if (queue->count >= core->node.limits.logins_max) {
        actions_clear(&core->actions);
        client_count_limit(&core->node, LIMIT_LOGINS);
        connect_refuse(client, REASON_SERVER_BUSY, &core->actions);
        core_carry_out(core, client);
        return;
    }
    if (queue->count == queue->capacity) {
        queue->capacity = queue->capacity == 0 ? 64 : queue->capacity * 2;
        queue->waiting = memory_resize(queue->waiting, queue->capacity * sizeof(*queue->waiting));
    }
    queue->waiting[queue->count++] = (struct waiting_login){client->number, core->now_ms + wait_ms, proof};
    client->extras->proof_ms = proof ? core->now_ms + wait_ms : 0;
    core->node.stats.logins_slowed += wait_ms > 0;
    tell_guessing(core, address, wait_ms);
}

void core_note_proof(struct core *core, const struct client *client, bool right)
{
    char text[CORE_ADDRESS_MAX];

    failures_note(core->node.failures, core_address(core, client, text), authentication_user(client), right,
                  core->now_ms);
}

bool core_holds_proof(const struct core *core, const struct client *client)
{
    return client->extras != NULL && client->extras->proof_ms > core->now_ms;
}

bool core_guesses_too_soon(struct core *core, const struct client *client)
{
    char text[CORE_ADDRESS_MAX];

    return failures_too_soon(core->node.failures, core_address(core, client, text), core->now_ms);
}

/* The client whose CONNECT still waits for this; NULL: it has gone, or gone on. */
static struct client *client_of(const struct core *core, struct waiting_login waiting)
{
    struct client *client = registry_find(&core->registry, waiting.number);
    enum client_phase phase = waiting.proof ? CLIENT_AUTHENTICATING : CLIENT_CHECKING;

    return client != NULL && client->phase == phase ? client : NULL;
}

/* Whether it is its turn. What is proved by AUTH costs no hash. */
static bool may_start(const struct core *core, struct waiting_login waiting)
{
    return waiting.due_ms <= core->now_ms && (waiting.proof || core->logins.running < LOGINS_AT_ONCE);
}

static void start(struct core *core, struct client *client)
{
    struct login *login = client->extras->login;

    if (client->phase == CLIENT_AUTHENTICATING) {
        core_want_work(core, client); /* its proof may have come meanwhile */
        return;
    }
    core->logins.running++;
    client->extras->login_running = true;
    core->node.stats.logins++;
    if (core->out.login != NULL) {
        core->out.login(core->out.context, login);
        return;
    }
    login_run(login, core->now_ms / 1000);
    core_login_done(core, login, core->now_ms);
}

void core_logins_turn(struct core *core)
{
    struct login_queue *queue = &core->logins;
    uint32_t kept = 0, count = queue->count;

    for (uint32_t i = 0; i < count; i++) {
        struct waiting_login waiting = queue->waiting[i];
        struct client *client = client_of(core, waiting);

        if (client == NULL)
            continue;
        if (may_start(core, waiting))
            start(core, client);
        else
            queue->waiting[kept++] = waiting;
    }
    queue->count = kept;
}

uint64_t core_logins_deadline(const struct core *core)
{
    const struct login_queue *queue = &core->logins;
    uint64_t next_ms = UINT64_MAX;

    for (uint32_t i = 0; i < queue->count; i++) {
        const struct waiting_login *waiting = &queue->waiting[i];

        if (waiting->due_ms < next_ms && (waiting->proof || queue->running < LOGINS_AT_ONCE))
            next_ms = waiting->due_ms;
    }
    return next_ms;
}

void core_login_done(struct core *core, struct login *login, uint64_t now_ms)
{
    uint64_t number = login_number(login);
    struct client *client = registry_find(&core->registry, number);
    struct login_result result = login_result(login);
    char text[CORE_ADDRESS_MAX];

    core->now_ms = now_ms;
    assert(core->logins.running > 0);
    core->logins.running--;
    login_learn(core->node.logins, login);
    if (client == NULL || client->extras == NULL || client->extras->login != login) {
        login_free(login); /* it was left behind */
        return;
    }
    client->extras->login_running = false;
    if (client->phase != CLIENT_CHECKING)
        return;
    core->node.stats.logins_refused += !result.granted;
    failures_note(core->node.failures, core_address(core, client, text), login_user_name(login), result.granted,
                  now_ms);
    actions_clear(&core->actions);
    client_logged_in(client, now_ms, &core->actions);
    core_carry_out(core, client);
    client = registry_find(&core->registry, number);
    if (client != NULL && client->input.size > 0)
        core_want_work(core, client);
}

void core_set_password_file(struct core *core, struct password_file *file)
{
    logins_set_password_file(core->node.logins, file);
}

void core_set_token_keys(struct core *core, struct token_keys *keys)
{
    logins_set_token_keys(core->node.logins, keys);
}
