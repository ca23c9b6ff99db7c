/* rights.h — what an identity may do with topics: rules, and what a list of them says.
 *
 *   rule       allow or deny   publish, subscribe, receive   a filter, in which %u and %c stand for the user's name and
 *              the client id   a priority
 *
 *   a topic    the first rule of the list that matches it decides
 *   a filter   the first rule decides that denies anything it matches, or allows everything it matches
 *
 * A list is sorted by rule_compare: by priority, at equal priority deny before allow. If no rule says anything, whoever
 * asked decides; in this broker that means no, as soon as there is any rule at all.
 *
 * What stands for %u and %c is compared level by level, as it is: a client cannot widen a rule by its name. A name that
 * is empty, that holds one of + # / or NUL, or that begins with $ and would be a first level, fits no rule that allows;
 * in a rule that denies it stands for any level.
 *
 * As with subscriptions, a wildcard at the first level does not match what begins with $; "a/#" also matches "a". */
#ifndef COTERIE_RIGHTS_H
#define COTERIE_RIGHTS_H

#include "base/bytes.h"

enum right {
    RIGHT_PUBLISH = 0x01,
    RIGHT_SUBSCRIBE = 0x02,
    RIGHT_RECEIVE = 0x04,
};
#define RIGHTS_ALL 0x07

struct rule {
    int32_t priority;
    uint8_t rights;          /* of enum right, which it is about */
    bool deny;
    bool substitutes;        /* %u and %c are names; else they are text */
    struct bytes filter;     /* borrowed; rule_filter_valid() */
};

/* Who asks. */
struct names {
    struct bytes user;       /* empty: anonymous */
    struct bytes client_id;
};

enum verdict {
    VERDICT_NONE = 0,        /* no rule says anything */
    VERDICT_ALLOW,
    VERDICT_DENY,
};

/* A plain filter, and not longer than rules may be. */
#define RULE_FILTER_BYTES_MAX 256
bool rule_filter_valid(struct bytes filter);

/* Whether names of this kind can stand for %u or %c. */
bool rule_name_usable(struct bytes name);

/* < 0: a comes before b. */
int rule_compare(const struct rule *a, const struct rule *b);

/* The rule matches every topic that `filter` matches; a topic is a filter that matches itself. */
bool rule_covers(const struct rule *rule, const struct names *names, struct bytes filter);
/* There is a topic that both match. */
bool rule_meets(const struct rule *rule, const struct names *names, struct bytes filter);

/* What a sorted list says about `filter` (valid, plain: without $share), or a topic. */
enum verdict rules_judge(const struct rule *const *rules, uint32_t count, const struct names *names, enum right right,
                         struct bytes filter);

#endif
