/* fuzz_admin.c — what comes in a POST to the admin HTTP, behind libmicrohttpd: any body, for users, roles and bans.
 *
 *   input = path and who asks, body --post--> handler --core_administer--> a node (tests/sim/world) --applied--> answer
 *
 * What must hold: each request is answered exactly once, with a status of the table and JSON that holds no secret; and
 * then the lists can be read, from any name on. In place of the broker: its functions that the handlers call. */
#include "node/admin/admin.h"
#include "node/broker.h"
#include "node/client/credential.h"
#include "tests/sim/world/cores.h"

#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECRET "aGFzaA==" /* what is kept of each password */

static struct cores *cores;
static bool secret_was_told; /* by the fuzzer, as a name */

struct admin_request {
    unsigned answers;
    const char *name;
};

/* ---- in place of broker.c and admin.c ---- */

struct core *broker_core(const struct broker *broker)
{
    (void)broker;
    return cores_core(cores, 1);
}

void broker_submit(struct broker *broker, struct disk_job *job)
{
    (void)broker;
    job->run(job);
    job->done(job);
}

/* In place of credential_make (the linker sees to that), which is slow on purpose. */
bool __wrap_credential_make(enum credential_kind kind, struct bytes password, const uint8_t *salt, struct buffer *out);
bool __wrap_credential_make(enum credential_kind kind, struct bytes password, const uint8_t *salt, struct buffer *out)
{
    (void)kind, (void)salt;
    assert(password.size > 0);
    buffer_put_bytes(out, bytes_text("$7$101$c2FsdA==$" SECRET));
    return true;
}

void broker_reload(struct broker *broker)
{
    (void)broker;
}

enum status broker_remove_member(struct broker *broker, uint32_t node)
{
    static const enum status answers[] = {STATUS_OK,   STATUS_NOT_LEADER, STATUS_NOT_FOUND,
                                          STATUS_BUSY, STATUS_INVALID,    STATUS_CLOSED};
    (void)broker;
    assert(node >= 1 && node <= 63);
    return answers[node % (sizeof answers / sizeof answers[0])];
}

const char *admin_request_name(const struct admin_request *request)
{
    return request->name;
}

static void check_json(struct bytes body)
{
    json_t *json = json_loadb((const char *)body.data, body.size, 0, NULL);
    assert(json_is_object(json));
    json_decref(json);
    assert(secret_was_told || memmem(body.data, body.size, SECRET, sizeof SECRET - 1) == NULL);
}

void admin_answer(struct admin_request *request, unsigned status, struct buffer *body)
{
    assert(status == 200 || status == 400 || status == 404 || status == 409 || status == 503);
    check_json(buffer_bytes(body));
    buffer_release(body);
    request->answers++;
}

/* ---- requests ---- */

static void try_post(const struct admin_action *action, struct bytes body, bool named)
{
    struct admin_request request = {.name = named ? "token:ann" : ""};
    action->post(&request, NULL, body);
    cores_settle(cores);
    assert(request.answers == 1);
}

static void try_get(const struct admin_action *action, struct bytes after)
{
    struct buffer body = {0}, text = {0};
    buffer_put_bytes(&text, after);
    buffer_put_u8(&text, 0);
    action->get(NULL, (const char *)text.data, &body);
    check_json(buffer_bytes(&body));
    buffer_release(&text);
    buffer_release(&body);
}

/* Bodies are split at NUL, so that one request can build on the one before. */
static struct bytes next_part(struct bytes *rest)
{
    const uint8_t *end = memchr(rest->data, 0, rest->size);
    struct bytes part = bytes_of(rest->data, end != NULL ? (size_t)(end - rest->data) : rest->size);
    size_t taken = part.size + (end != NULL);
    *rest = bytes_of(rest->data + taken, rest->size - taken);
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size);
    secret_was_told = memmem(data, size, SECRET, sizeof SECRET - 1) != NULL;
    cores = cores_new(1, NULL, NULL);
    while (rest.size > 1) {
        unsigned number = rest.data[0] % 8, count = 0;
        bool named = rest.data[0] >= 128; /* by a token */
        rest = bytes_of(rest.data + 1, rest.size - 1);
        struct bytes body = next_part(&rest);
        while (admin_action_number(count) != NULL)
            count++;
        const struct admin_action *action = admin_action_number(number % count);
        if (action->post != NULL)
            try_post(action, body, named);
        if (action->get != NULL)
            try_get(action, body);
    }
    cores_free(cores);
    return 0;
}
