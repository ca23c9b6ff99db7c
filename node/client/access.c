/* access.c — see access.h. */
#include "access.h"

#include "acl_file.h"
#include "client_private.h"
#include "security.h"

#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#define ANSWERS          8
#define ANSWER_BYTES_MAX 54

/* An answer that was given, and to what. */
struct answer {
    uint8_t right; /* 0 = free */
    bool allowed;
    uint8_t size;
    uint8_t topic[ANSWER_BYTES_MAX];
};

struct client_rights {
    uint64_t revision;
    struct names names; /* ours */
    struct rule_list rules;
    uint32_t role_count; /* of the rules, those of roles; then those of the file */
    uint32_t next;
    struct answer answers[ANSWERS];
};

void access_changed(struct client_node *node)
{
    node->rules_on = node->acl != NULL || security_has_roles(state_security(node->state));
    node->rules_revision++;
}

/* ---- all the rules for somebody ---- */

static uint32_t collect(const struct client_node *node, struct bytes user, struct rule_list *rules)
{
    uint32_t role_count;

    security_rules(state_security(node->state), user, rules);
    role_count = rules->count;
    if (node->acl != NULL)
        acl_file_rules(node->acl, user, rules);
    return role_count;
}

static bool judge(const struct rule_list *rules, uint32_t role_count, const struct names *names, enum right right,
                  struct bytes topic)
{
    enum verdict verdict = rules_judge(rules->rules, role_count, names, right, topic);

    if (verdict == VERDICT_NONE)
        verdict = rules_judge(rules->rules + role_count, rules->count - role_count, names, right, topic);
    return verdict == VERDICT_ALLOW;
}

/* ---- clients ---- */

void client_rights_free(struct client_rights *rights)
{
    if (rights == NULL)
        return;
    free((void *)rights->names.user.data);
    free((void *)rights->names.client_id.data);
    rule_list_release(&rights->rules);
    free(rights);
}

static struct bytes own_copy(struct bytes text)
{
    return bytes_of(memory_copy(text.data, text.size), text.size);
}

/* The client's rights as of now; NULL: its session is gone, and it will be too. */
static struct client_rights *rights_of(struct client *client)
{
    struct client_node *node = client->node;
    struct client_extras *extras = client_extras(client);
    struct session_facts facts;

    if (extras->rights == NULL) {
        if (!state_session(node->state, client->session_id, &facts))
            return NULL;
        extras->rights = memory_zeroed(1, sizeof(*extras->rights));
        extras->rights->names = (struct names){own_copy(facts.user_name), own_copy(facts.client_id)};
    }
    if (extras->rights->revision != node->rules_revision) {
        extras->rights->revision = node->rules_revision;
        extras->rights->rules.count = 0;
        extras->rights->role_count = collect(node, extras->rights->names.user, &extras->rights->rules);
        memset(extras->rights->answers, 0, sizeof(extras->rights->answers));
    }
    return extras->rights;
}

static const struct answer *find_answer(const struct client_rights *rights, enum right right, struct bytes topic)
{
    for (int i = 0; i < ANSWERS; i++) {
        const struct answer *answer = &rights->answers[i];

        if (answer->right == right && answer->size == topic.size && memcmp(answer->topic, topic.data, topic.size) == 0)
            return answer;
    }
    return NULL;
}

static void keep_answer(struct client_rights *rights, enum right right, struct bytes topic, bool allowed)
{
    struct answer *answer = &rights->answers[rights->next++ % ANSWERS];

    if (topic.size == 0 || topic.size > ANSWER_BYTES_MAX)
        return;
    *answer = (struct answer){.right = (uint8_t)right, .allowed = allowed, .size = (uint8_t)topic.size};
    memcpy(answer->topic, topic.data, topic.size);
}

bool client_may(struct client *client, enum right right, struct bytes topic)
{
    struct client_rights *rights;
    const struct answer *known;
    bool allowed;

    if (!access_on(client->node)) {
        bool reads_sys = right != RIGHT_PUBLISH && bytes_starts_with(topic, bytes_text("$SYS"));

        return !reads_sys || client->node->sys_readable;
    }
    rights = rights_of(client);
    if (rights == NULL)
        return false;
    known = find_answer(rights, right, topic);
    if (known != NULL)
        return known->allowed;
    allowed = judge(&rights->rules, rights->role_count, &rights->names, right, topic);
    keep_answer(rights, right, topic, allowed);
    return allowed;
}

/* ---- before there is a session ---- */

bool access_allows_will(const struct client_node *node, const struct names *names, struct bytes topic, bool *by_file)
{
    struct rule_list rules = {0};
    uint32_t role_count;
    bool allowed;

    *by_file = false;
    if (!access_on(node))
        return true;
    role_count = collect(node, names->user, &rules);
    allowed = judge(&rules, role_count, names, RIGHT_PUBLISH, topic);
    if (node->acl != NULL)
        *by_file = rules_judge(rules.rules + role_count, rules.count - role_count, names, RIGHT_PUBLISH, topic) ==
                   VERDICT_ALLOW;
    rule_list_release(&rules);
    return allowed;
}

bool access_will_by_file(const struct client_node *node, const struct names *names, struct bytes topic)
{
    struct rule_list rules = {0};
    uint32_t role_count;
    bool allowed;

    if (node->acl == NULL)
        return true;
    role_count = collect(node, names->user, &rules);
    allowed = judge(&rules, role_count, names, RIGHT_PUBLISH, topic);
    rule_list_release(&rules);
    return allowed;
}

static bool holds(struct bytes text, char name)
{
    for (size_t i = 0; i + 1 < text.size; i++) {
        if (text.data[i] == '%' && text.data[i + 1] == (uint8_t)name)
            return true;
    }
    return false;
}

uint8_t access_check_names(const struct client_node *node, const struct names *names)
{
    bool bad_user = names->user.size > 0 && !rule_name_usable(names->user),
         bad_id = !rule_name_usable(names->client_id);
    struct rule_list rules = {0};
    uint8_t reason = REASON_SUCCESS;

    if (!access_on(node) || (!bad_user && !bad_id))
        return REASON_SUCCESS;
    collect(node, names->user, &rules);
    for (uint32_t i = 0; i < rules.count && reason == REASON_SUCCESS; i++) {
        const struct rule *rule = rules.rules[i];

        if (rule->substitutes && bad_user && holds(rule->filter, 'u'))
            reason = REASON_NOT_AUTHORIZED;
        else if (rule->substitutes && bad_id && holds(rule->filter, 'c'))
            reason = REASON_CLIENT_ID_INVALID;
    }
    rule_list_release(&rules);
    return reason;
}
