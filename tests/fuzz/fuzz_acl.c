/* fuzz_acl.c — any text as an ACL file, and what its rules then say.
 *
 *   input = file NUL user NUL client id NUL filter NUL topic
 *
 * What must hold: a filter that may be had allows each topic that it matches; without %u and %c the rules say of a topic
 * what a plain walk over them says; and nobody gets more by another name if no rule names anybody. */
#include "base/topic.h"
#include "node/client/acl_file.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes next_part(struct bytes *rest)
{
    const uint8_t *end = rest->size > 0 ? memchr(rest->data, 0, rest->size) : NULL;
    struct bytes part = bytes_of(rest->data, end != NULL ? (size_t)(end - rest->data) : rest->size);
    size_t taken = part.size + (end != NULL);
    *rest = bytes_of(rest->data + taken, rest->size - taken);
    return part;
}

static bool substitutes(const struct rule_list *list)
{
    for (uint32_t i = 0; i < list->count; i++)
        if (list->rules[i]->substitutes && memchr(list->rules[i]->filter.data, '%', list->rules[i]->filter.size) != NULL)
            return true;
    return false;
}

/* The first rule of the list that matches the topic decides. */
static enum verdict reference(const struct rule_list *list, enum right right, struct bytes topic)
{
    for (uint32_t i = 0; i < list->count; i++) {
        const struct rule *rule = list->rules[i];
        if ((rule->rights & right) != 0 && topic_matches(rule->filter, topic))
            return rule->deny ? VERDICT_DENY : VERDICT_ALLOW;
    }
    return VERDICT_NONE;
}

static enum verdict judge(const struct rule_list *list, const struct names *names, enum right right, struct bytes filter)
{
    return rules_judge((const struct rule *const *)list->rules, list->count, names, right, filter);
}

static void check_rules(const struct rule_list *list, const struct names *names, struct bytes filter, struct bytes topic)
{
    static const enum right rights[] = {RIGHT_PUBLISH, RIGHT_SUBSCRIBE, RIGHT_RECEIVE};
    for (uint32_t i = 1; i < list->count; i++)
        assert(rule_compare(list->rules[i - 1], list->rules[i]) <= 0);
    bool plain = !substitutes(list), matches = topic_matches(filter, topic);
    for (int i = 0; i < 3; i++) {
        enum verdict of_topic = judge(list, names, rights[i], topic), of_filter = judge(list, names, rights[i], filter);
        assert(!plain || of_topic == reference(list, rights[i], topic));
        assert(!matches || of_filter != VERDICT_ALLOW || of_topic == VERDICT_ALLOW);
        assert(!matches || of_topic != VERDICT_DENY || of_filter != VERDICT_ALLOW);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes rest = bytes_of(data, size);
    struct bytes text = next_part(&rest);
    struct names names = {.user = next_part(&rest)};
    struct rule_list list = {0};
    struct acl_file *file;
    char error[200] = "";
    names.client_id = next_part(&rest);
    struct bytes filter = next_part(&rest), topic = next_part(&rest);
    enum status status = acl_file_parse(text, &file, error, sizeof error);
    assert((status == STATUS_OK) == (error[0] == '\0'));
    if (status != STATUS_OK)
        return 0;
    acl_file_rules(file, names.user, &list);
    struct topic_filter parts;
    if (topic_filter_parse(filter, &parts) == TOPIC_FILTER_PLAIN && topic_name_check(topic) == STATUS_OK)
        check_rules(&list, &names, filter, topic);
    rule_list_release(&list);
    acl_file_free(file);
    return 0;
}
