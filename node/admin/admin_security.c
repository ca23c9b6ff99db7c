/* admin_security.c — users, roles, bans and members over HTTP. To add a change: a row in `changes`.
 *
 *   POST {"do": "add", "name": ...} --read--> command (--password: hashed on the thread pool--)
 *        --core_administer--> the log --applied here--> answer
 *
 * Lists hold at most LIST_MAX names; "more": true says that there are others behind the last, ?after=NAME. No answer
 * holds a password or a hash. */
#include "admin.h"

#include "base/logger.h"
#include "base/memory.h"
#include "node/broker.h"
#include "node/client/credential.h"
#include "security.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define LIST_MAX           1000
#define PASSWORD_BYTES_MAX 1024

/* ---- answers ---- */

static void put_json(struct buffer *body, json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(json);
    if (text != NULL)
        buffer_put(body, text, strlen(text));
    buffer_put_u8(body, '\n');
    free(text);
}

static void answer(struct admin_request *request, unsigned status, const char *key, const char *text)
{
    struct buffer body = {0};
    put_json(&body, json_pack("{s:s}", key, text));
    admin_answer(request, status, &body);
}

static void answer_outcome(struct admin_request *request, enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_DONE: answer(request, 200, "result", "done"); return;
    case OUTCOME_NOT_FOUND: answer(request, 404, "error", "there is none of that name"); return;
    case OUTCOME_EXISTS: answer(request, 409, "error", "it exists already, or is still in use"); return;
    case OUTCOME_QUOTA: answer(request, 409, "error", "a limit is reached, or the name is reserved"); return;
    default: answer(request, 503, "error", "it is not known whether this was done: ask again"); return;
    }
}

/* ---- a change on its way ---- */

struct change {
    struct disk_job job; /* first: a job leads back to its change */
    struct broker *broker;
    struct admin_request *request;
    struct command command; /* borrows from `json` and `credential` */
    json_t *json;
    enum credential_kind kind; /* of a password that is to be hashed; CREDENTIAL_INVALID: there is none */
    char *password;
    uint8_t salt[CREDENTIAL_SALT_BYTES];
    struct buffer credential;
    bool failed;
};

static void change_free(struct change *change)
{
    if (change->password != NULL)
        explicit_bzero(change->password, strlen(change->password));
    free(change->password);
    buffer_release(&change->credential);
    json_decref(change->json);
    free(change);
}

static void change_applied(void *context, enum outcome outcome)
{
    answer_outcome(context, outcome);
}

static void propose(struct change *change)
{
    struct core *core = broker_core(change->broker);
    struct admin_request *request = change->request;
    enum status status =
        core == NULL ? STATUS_CLOSED : core_administer(core, &change->command, change_applied, request);
    change_free(change);
    if (status != STATUS_OK)
        answer(request, 503, "error", "this node cannot commit anything now");
}

static void hash(struct disk_job *job)
{
    struct change *change = (struct change *)job;
    change->failed = !credential_make(change->kind, bytes_text(change->password), change->salt, &change->credential);
}

static void hashed(struct disk_job *job)
{
    struct change *change = (struct change *)job;
    struct admin_request *request = change->request;
    if (change->failed) {
        change_free(change);
        answer(request, 503, "error", "there is no memory to hash the password");
        return;
    }
    change->command.user.credential = buffer_bytes(&change->credential);
    propose(change);
}

static void start(struct change *change)
{
    if (change->kind == CREDENTIAL_INVALID) {
        propose(change);
        return;
    }
    if (getrandom(change->salt, sizeof(change->salt), 0) != sizeof(change->salt))
        abort(); /* a salt that is not random is none */
    change->job.run = hash;
    change->job.done = hashed;
    broker_submit(change->broker, &change->job);
}

/* ---- reading a change ---- */

static struct bytes text_of(const json_t *json, const char *key)
{
    const json_t *value = json_object_get(json, key);
    return bytes_of(json_string_value(value), json_string_length(value));
}

/* What may stand in keys and logs: printable, as far as control characters go. */
static bool is_name(struct bytes text, size_t min, size_t max)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < 0x20 || text.data[i] == 0x7f)
            return false;
    return text.size >= min && text.size <= max;
}

static uint64_t number_of(const json_t *json, const char *key, uint64_t otherwise)
{
    const json_t *value = json_object_get(json, key);
    return json_is_integer(value) && json_integer_value(value) >= 0 ? (uint64_t)json_integer_value(value) : otherwise;
}

static const char *read_password(struct change *change)
{
    struct bytes password = text_of(change->json, "password");
    if (password.size == 0 || password.size > PASSWORD_BYTES_MAX || memchr(password.data, '\0', password.size) != NULL)
        return "expected a password of 1 to 1024 bytes";
    change->kind = json_is_true(json_object_get(change->json, "scram")) ? CREDENTIAL_SCRAM : CREDENTIAL_ARGON2ID;
    change->password = memory_text((const char *)password.data);
    return NULL;
}

static const char *read_user(struct change *change)
{
    struct command_user *user = &change->command.user;
    const json_t *json = change->json;
    user->actor = text_of(json, "actor");
    user->name = text_of(json, "name");
    user->enabled = strcmp(json_string_value(json_object_get(json, "do")), "enable") == 0;
    user->quota = (struct quota){
        .connections = number_of(json, "connections", 0),
        .messages_per_s = number_of(json, "messages_per_s", 0),
        .bytes_per_s = number_of(json, "bytes_per_s", 0),
        .subscriptions = number_of(json, "subscriptions", 0),
        .queued_bytes = number_of(json, "queued_bytes", 0),
    };
    if (change->command.type == COMMAND_USER_ADD || change->command.type == COMMAND_USER_PASSWORD)
        return read_password(change);
    return NULL;
}

static uint8_t rights_of(const json_t *names)
{
    static const char *const known[] = {"publish", "subscribe", "receive"};
    uint8_t rights = 0;
    size_t i;
    const json_t *name;
    json_array_foreach((json_t *)names, i, name)
    {
        for (int k = 0; k < 3; k++)
            if (json_is_string(name) && strcmp(json_string_value(name), known[k]) == 0)
                rights |= (uint8_t)(1u << k);
    }
    return rights;
}

static const char *read_rule(struct command_role *role, const json_t *json, const char *what)
{
    json_int_t priority = json_integer_value(json_object_get(json, "priority"));
    role->change = strcmp(what, "allow") == 0 ? RULE_ALLOW : strcmp(what, "deny") == 0 ? RULE_DENY : RULE_CLEAR;
    role->rights = rights_of(json_object_get(json, "rights"));
    role->filter = text_of(json, "filter");
    role->priority = (int32_t)priority;
    if (role->rights == 0)
        return "expected rights: publish, subscribe, receive";
    if (priority != role->priority)
        return "expected a priority of 32 bits";
    return rule_filter_valid(role->filter) ? NULL : "expected a topic filter of at most 256 bytes, without $share";
}

static const char *read_role(struct change *change)
{
    struct command_role *role = &change->command.role;
    const json_t *json = change->json;
    const char *what = json_string_value(json_object_get(json, "do"));
    role->actor = text_of(json, "actor");
    role->name = text_of(json, "name");
    role->user = text_of(json, "user");
    role->granted = strcmp(what, "grant") == 0;
    if (change->command.type == COMMAND_ROLE_RULE)
        return read_rule(role, json, what);
    if (change->command.type == COMMAND_ROLE_GRANT && !is_name(role->user, 1, SECURITY_NAME_BYTES_MAX))
        return "expected a user of 1 to 128 bytes";
    return NULL;
}

static const char *read_ban(struct change *change)
{
    struct command_ban *ban = &change->command.ban;
    const json_t *json = change->json;
    struct bytes kind = text_of(json, "kind");
    ban->actor = text_of(json, "actor");
    ban->subject = text_of(json, "name");
    ban->reason = text_of(json, "reason");
    ban->lifted = strcmp(json_string_value(json_object_get(json, "do")), "remove") == 0;
    ban->seconds = (uint32_t)number_of(json, "seconds", UINT32_MAX);
    ban->kind = bytes_equal(kind, bytes_text("address"))  ? BAN_ADDRESS
                : bytes_equal(kind, bytes_text("client")) ? BAN_CLIENT_ID
                                                          : BAN_USER;
    if (ban->kind == BAN_USER && !bytes_equal(kind, bytes_text("user")))
        return "expected a kind: user, client or address";
    return is_name(ban->reason, 0, SECURITY_REASON_BYTES_MAX) ? NULL : "expected a reason of at most 256 bytes";
}

enum { OF_USERS, OF_ROLES, OF_BANS };

static const struct {
    int family;
    const char *what;
    enum command_type type;
    const char *(*read)(struct change *change);
} changes[] = {
    {OF_USERS, "add", COMMAND_USER_ADD, read_user},       {OF_USERS, "passwd", COMMAND_USER_PASSWORD, read_user},
    {OF_USERS, "enable", COMMAND_USER_ENABLE, read_user}, {OF_USERS, "disable", COMMAND_USER_ENABLE, read_user},
    {OF_USERS, "remove", COMMAND_USER_REMOVE, read_user}, {OF_USERS, "quota", COMMAND_USER_QUOTA, read_user},
    {OF_ROLES, "add", COMMAND_ROLE_ADD, read_role},       {OF_ROLES, "remove", COMMAND_ROLE_REMOVE, read_role},
    {OF_ROLES, "allow", COMMAND_ROLE_RULE, read_role},    {OF_ROLES, "deny", COMMAND_ROLE_RULE, read_role},
    {OF_ROLES, "clear", COMMAND_ROLE_RULE, read_role},    {OF_ROLES, "grant", COMMAND_ROLE_GRANT, read_role},
    {OF_ROLES, "revoke", COMMAND_ROLE_GRANT, read_role},  {OF_BANS, "add", COMMAND_BAN, read_ban},
    {OF_BANS, "remove", COMMAND_BAN, read_ban},
};

/* What is wrong with it; NULL: nothing. */
static const char *read_change(struct change *change, int family)
{
    const char *what = json_string_value(json_object_get(change->json, "do"));
    size_t name_max = family == OF_BANS ? SECURITY_SUBJECT_BYTES_MAX : SECURITY_NAME_BYTES_MAX;
    if (what == NULL)
        return "expected an object with \"do\"";
    if (!is_name(text_of(change->json, "name"), 1, name_max))
        return "expected a name, not too long, without control characters";
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        if (changes[i].family != family || strcmp(changes[i].what, what) != 0)
            continue;
        change->command.type = changes[i].type;
        return changes[i].read(change);
    }
    return "there is nothing like that to do";
}

/* Who asks with a token or a certificate is named after it, whatever it says. NULL: all is well. */
static const char *name_actor(struct admin_request *request, json_t *json)
{
    const char *name = admin_request_name(request);
    struct bytes said = text_of(json, "actor");
    if (name[0] != '\0')
        json_object_set_new(json, "actor", json_string(name));
    else if (!is_name(said, 0, SECURITY_NAME_BYTES_MAX) || !admin_actor_allowed(said))
        return "expected an actor of at most 128 bytes, without control characters, not named like a token or a certificate";
    return NULL;
}

static void post(struct admin_request *request, struct broker *broker, struct bytes body, int family)
{
    struct change *change = memory_zeroed(1, sizeof(*change));
    change->broker = broker;
    change->request = request;
    change->json = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
    const char *trouble = name_actor(request, change->json);
    if (trouble == NULL)
        trouble = read_change(change, family);
    if (trouble == NULL) {
        start(change);
        return;
    }
    change_free(change);
    answer(request, 400, "error", trouble);
}

static void post_users(struct admin_request *request, struct broker *broker, struct bytes body)
{
    post(request, broker, body, OF_USERS);
}

static void post_roles(struct admin_request *request, struct broker *broker, struct bytes body)
{
    post(request, broker, body, OF_ROLES);
}

static void post_bans(struct admin_request *request, struct broker *broker, struct bytes body)
{
    post(request, broker, body, OF_BANS);
}

/* ---- lists ---- */

static json_t *json_text(struct bytes text)
{
    json_t *json = json_stringn((const char *)text.data, text.size);
    return json != NULL ? json : json_string("?"); /* no UTF-8 */
}

static const struct state *state_of(const struct broker *broker)
{
    return core_state(broker_core(broker));
}

static json_t *user_json(const struct security_user *user)
{
    bool scram = credential_kind(user->credential) == CREDENTIAL_SCRAM;
    return json_pack("{s:o, s:b, s:s, s:I, s:I, s:I, s:I, s:I}", "name", json_text(user->name), "enabled",
                     user->enabled, "kept", scram ? "scram-sha-256" : "argon2id", "connections",
                     (json_int_t)user->quota.connections, "messages_per_s", (json_int_t)user->quota.messages_per_s,
                     "bytes_per_s", (json_int_t)user->quota.bytes_per_s, "subscriptions",
                     (json_int_t)user->quota.subscriptions, "queued_bytes", (json_int_t)user->quota.queued_bytes);
}

static void get_users(struct broker *broker, const char *after, struct buffer *body)
{
    json_t *users = json_array();
    struct security_user user = {.name = bytes_text(after)};
    bool more;
    while ((more = security_next_user(state_of(broker), user.name, &user)) && json_array_size(users) < LIST_MAX)
        json_array_append_new(users, user_json(&user));
    put_json(body, json_pack("{s:o, s:b}", "users", users, "more", more));
}

struct role_list {
    const struct security *security;
    json_t *roles;
    json_t *rules; /* of the role at hand */
};

static bool add_rule(void *context, const struct rule *rule)
{
    struct role_list *list = context;
    json_array_append_new(list->rules, json_pack("{s:s, s:s, s:o, s:i}", "rule", rule->deny ? "deny" : "allow", "right",
                                                 rule->rights == RIGHT_PUBLISH     ? "publish"
                                                 : rule->rights == RIGHT_SUBSCRIBE ? "subscribe"
                                                                                   : "receive",
                                                 "filter", json_text(rule->filter), "priority", (int)rule->priority));
    return true;
}

static bool add_role(void *context, struct bytes role)
{
    struct role_list *list = context;
    list->rules = json_array();
    security_each_rule(list->security, role, add_rule, list);
    json_array_append_new(list->roles, json_pack("{s:o, s:o}", "name", json_text(role), "rules", list->rules));
    return json_array_size(list->roles) < LIST_MAX;
}

static bool add_grant(void *context, struct bytes user, struct bytes role)
{
    json_t *grants = context;
    json_array_append_new(grants, json_pack("{s:o, s:o}", "user", json_text(user), "role", json_text(role)));
    return json_array_size(grants) < LIST_MAX * 10;
}

static void get_roles(struct broker *broker, const char *after, struct buffer *body)
{
    struct role_list list = {.security = state_security(state_of(broker)), .roles = json_array()};
    json_t *grants = json_array();
    (void)after;
    security_each_role(list.security, add_role, &list);
    security_each_grant(list.security, add_grant, grants);
    put_json(body, json_pack("{s:o, s:o}", "roles", list.roles, "grants", grants));
}

struct ban_list {
    json_t *bans;
    uint64_t clock_ms;
};

static bool add_ban(void *context, const struct security_ban *ban)
{
    static const char *const kinds[] = {"user", "client", "address"};
    struct ban_list *list = context;
    json_t *left =
        ban->until_ms == UINT64_MAX ? json_null() : json_integer((json_int_t)((ban->until_ms - list->clock_ms) / 1000));
    json_array_append_new(list->bans, json_pack("{s:s, s:o, s:o, s:o, s:o}", "kind", kinds[ban->kind], "name",
                                                json_text(ban->subject), "seconds_left", left, "reason",
                                                json_text(ban->reason), "by", json_text(ban->actor)));
    return json_array_size(list->bans) < LIST_MAX * 10;
}

static void get_bans(struct broker *broker, const char *after, struct buffer *body)
{
    struct ban_list list = {.bans = json_array(), .clock_ms = state_clock_ms(state_of(broker))};
    (void)after;
    security_each_ban(state_security(state_of(broker)), list.clock_ms, add_ban, &list);
    put_json(body, json_pack("{s:o}", "bans", list.bans));
}

static void get_audit(struct broker *broker, const char *after, struct buffer *body)
{
    json_t *changes_json = json_array();
    struct security_change change = {.position = strtoull(after, NULL, 10)};
    while (security_next_change(state_of(broker), change.position, &change))
        json_array_append_new(changes_json, json_pack("{s:I, s:I, s:o, s:o}", "position", (json_int_t)change.position,
                                                      "cluster_ms", (json_int_t)change.clock_ms, "by",
                                                      json_text(change.actor), "what", json_text(change.what)));
    put_json(body, json_pack("{s:o}", "changes", changes_json));
}

/* ---- reading files again ---- */

static void post_reload(struct admin_request *request, struct broker *broker, struct bytes body)
{
    json_t *json = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
    const char *trouble = json_is_object(json) ? name_actor(request, json) : "expected an object";
    if (trouble == NULL) {
        log_event(LOG_INFO, "reload-asked", log_bytes("by", text_of(json, "actor")));
        broker_reload(broker);
    }
    json_decref(json);
    answer(request, trouble == NULL ? 200 : 400, trouble == NULL ? "result" : "error",
           trouble == NULL ? "reading; the log says what came of it" : trouble);
}

/* ---- members ---- */

static void answer_removal(struct admin_request *request, uint32_t node, enum status status)
{
    char text[256];
    snprintf(text, sizeof(text), status == STATUS_OK          ? "node %u is being taken out; /status says when it is"
                                 : status == STATUS_NOT_FOUND ? "node %u is no member"
                                 : status == STATUS_INVALID   ? "without node %u there would be fewer than two voting members"
                                 : status == STATUS_BUSY
                                     ? "node %u is still heard (stop it, and wait for timeouts.node_timeout_ms), or another "
                                       "change is under way, or too many of the others are far behind"
                                     : "node %u cannot be taken out by this node now: ask the one that leads",
             node);
    answer(request, status == STATUS_OK ? 200 : status == STATUS_NOT_FOUND ? 404 : status == STATUS_CLOSED ? 503 : 409,
           status == STATUS_OK ? "result" : "error", text);
}

static void post_members(struct admin_request *request, struct broker *broker, struct bytes body)
{
    json_t *json = json_loadb((const char *)body.data, body.size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *node = json_object_get(json, "node");
    const char *trouble = json_is_object(json) ? name_actor(request, json) : "expected an object";
    if (trouble == NULL && !bytes_equal(text_of(json, "do"), bytes_text("remove")))
        trouble = "expected do: remove";
    if (trouble == NULL && (!json_is_integer(node) || json_integer_value(node) < 1 || json_integer_value(node) > 63))
        trouble = "expected node: a number from 1 to 63";
    if (trouble == NULL) {
        uint32_t number = (uint32_t)json_integer_value(node);
        enum status status = broker_remove_member(broker, number);
        log_event(LOG_INFO, "member-removal-asked", log_bytes("by", text_of(json, "actor")), log_u64("node", number),
                  log_text("outcome", status_text(status)));
        answer_removal(request, number, status);
    } else {
        answer(request, 400, "error", trouble);
    }
    json_decref(json);
}

/* ---- the table ---- */

static const struct admin_action actions[] = {
    {"/users", "users of the replicated state; POST to change them", get_users, post_users},
    {"/roles", "roles, their rules, and who has them; POST to change them", get_roles, post_roles},
    {"/bans", "who may not connect; POST to change", get_bans, post_bans},
    {"/audit", "the last changes of users, roles and bans", get_audit, NULL},
    {"/members", "POST: take a node that has stopped out of the cluster", NULL, post_members},
    {"/reload", "POST: read certificates, keys, password and ACL files again", NULL, post_reload},
};

const struct admin_action *admin_action_number(unsigned number)
{
    return number < sizeof(actions) / sizeof(actions[0]) ? &actions[number] : NULL;
}

const struct admin_action *admin_action_at(const char *path)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (strcmp(actions[i].path, path) == 0)
            return &actions[i];
    return NULL;
}
