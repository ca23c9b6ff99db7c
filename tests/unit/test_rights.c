/* Rules: single cases, and any rules against a reference that tries every topic of a small world. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/topic.h"
#include "rights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct names ann = {.user = {(const uint8_t *)"ann", 3}, .client_id = {(const uint8_t *)"c1", 2}};

static struct rule rule_of(const char *filter)
{
    return (struct rule){.rights = RIGHTS_ALL, .substitutes = true, .filter = bytes_text(filter)};
}

static bool covers(const char *rule_filter, const char *filter)
{
    struct rule rule = rule_of(rule_filter);
    return rule_covers(&rule, &ann, bytes_text(filter));
}

static bool meets(const char *rule_filter, const char *filter)
{
    struct rule rule = rule_of(rule_filter);
    bool met = rule_meets(&rule, &ann, bytes_text(filter));
    struct rule other = rule_of(filter); /* it is the same the other way round */
    assert_int_equal(rule_meets(&other, &ann, bytes_text(rule_filter)), met);
    return met;
}

/* ---- single cases ---- */

static void a_rule_covers_what_it_matches_whole(void **state)
{
    (void)state;
    assert_true(covers("a/b", "a/b"));
    assert_true(covers("a/+", "a/b"));
    assert_true(covers("a/+", "a/+"));
    assert_true(covers("a/#", "a"));
    assert_true(covers("a/#", "a/#"));
    assert_true(covers("a/#", "a/+/c"));
    assert_true(covers("#", "+/b"));
    assert_true(covers("+/+", "/"));
    assert_false(covers("a/b", "a/+"));
    assert_false(covers("a/+", "a/#"));
    assert_false(covers("a/+", "a"));
    assert_false(covers("a", "a/#"));
    assert_false(covers("+", "#"));
    assert_false(covers("a/b", "a/bb"));
    assert_false(covers("a/bb", "a/b"));
}

static void filters_meet_where_they_share_a_topic(void **state)
{
    (void)state;
    assert_true(meets("a/+", "+/b"));
    assert_true(meets("a/#", "a"));
    assert_true(meets("a/#", "+/b/#"));
    assert_true(meets("a/+/c", "a/b/#"));
    assert_false(meets("a/+", "a"));
    assert_false(meets("a/b", "a/c"));
    assert_false(meets("a/+", "+/b/c"));
}

static void wildcards_do_not_reach_what_begins_with_a_dollar(void **state)
{
    (void)state;
    assert_false(covers("#", "$SYS/x"));
    assert_false(covers("+/x", "$SYS/x"));
    assert_true(covers("$SYS/#", "$SYS/+"));
    assert_true(covers("a/+", "a/$b"));
    assert_false(meets("#", "$SYS/#"));
    assert_false(meets("+/x", "$SYS/x"));
    assert_true(meets("$SYS/#", "$SYS/x"));
}

static void names_are_put_in_level_by_level(void **state)
{
    (void)state;
    assert_true(covers("home/%u/#", "home/ann/x"));
    assert_true(covers("home/%u-%c/x", "home/ann-c1/x"));
    assert_true(covers("%c", "c1"));
    assert_true(covers("%%u", "%ann"));
    assert_false(covers("home/%u/#", "home/anna/x"));
    assert_false(covers("home/%u/#", "home/an/x"));
    assert_false(covers("home/%u", "home/+"));
    struct rule literal = rule_of("home/%u");
    literal.substitutes = false;
    assert_true(rule_covers(&literal, &ann, bytes_text("home/%u")));
    assert_false(rule_covers(&literal, &ann, bytes_text("home/ann")));
}

/* What gave other servers away: names that are wildcards, or hold a slash. */
static void names_that_could_widen_a_rule_fit_none_that_allows(void **state)
{
    (void)state;
    static const char *const names[] = {"#", "+", "a/b", "a+", "", "+/#", "$SYS"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const struct names evil = {.user = bytes_text(names[i]), .client_id = bytes_text("c1")};
        struct rule allow = rule_of("%u/x"), deny = rule_of("%u/x");
        char topic[32];
        deny.deny = true;
        snprintf(topic, sizeof topic, "%s/x", names[i]);
        assert_false(rule_covers(&allow, &evil, bytes_text(topic)));
        assert_false(rule_covers(&allow, &evil, bytes_text("other/x")));
        assert_true(rule_meets(&deny, &evil, bytes_text("other/x")));
    }
    const struct names with_nul = {.user = bytes_of("a\0b", 3), .client_id = bytes_text("c1")};
    struct rule allow = rule_of("%u");
    assert_false(rule_covers(&allow, &with_nul, bytes_of("a\0b", 3)));
}

static void the_first_rule_of_a_sorted_list_decides(void **state)
{
    (void)state;
    struct rule all = rule_of("#"), secret = rule_of("a/secret"), exception = rule_of("a/secret");
    secret.deny = true;
    exception.priority = 1;
    exception.rights = RIGHT_PUBLISH;
    const struct rule *list[] = {&exception, &secret, &all};
    for (int i = 0; i < 2; i++)
        assert_true(rule_compare(list[i], list[i + 1]) < 0);
    assert_int_equal(rules_judge(list, 3, &ann, RIGHT_PUBLISH, bytes_text("a/secret")), VERDICT_ALLOW);
    assert_int_equal(rules_judge(list, 3, &ann, RIGHT_RECEIVE, bytes_text("a/secret")), VERDICT_DENY);
    assert_int_equal(rules_judge(list, 3, &ann, RIGHT_SUBSCRIBE, bytes_text("a/#")), VERDICT_DENY);
    assert_int_equal(rules_judge(list, 3, &ann, RIGHT_SUBSCRIBE, bytes_text("b/#")), VERDICT_ALLOW);
    assert_int_equal(rules_judge(list, 3, &ann, RIGHT_RECEIVE, bytes_text("$SYS/x")), VERDICT_NONE);
}

/* ---- any rules ---- */

#define ROUNDS 40000
#define RULES  4

static uint64_t seed = 1;

static uint32_t below(uint32_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(seed >> 33) % n;
}

static const char *const levels[] = {"a", "b", "", "$a"};
#define LEVELS 4
static const char *const wild_levels[] = {"a", "b", "", "$a", "+", "%u"};
#define WILD_LEVELS 6

/* A filter of one to three levels; the last may be '#'. */
static void draw_filter(char out[32])
{
    uint32_t count = 1 + below(3);
    out[0] = '\0';
    do {
        out[0] = '\0';
        for (uint32_t i = 0; i < count; i++) {
            bool rest = i + 1 == count && below(4) == 0;
            strcat(out, i > 0 ? "/" : "");
            strcat(out, rest ? "#" : wild_levels[below(WILD_LEVELS)]);
        }
    } while (out[0] == '\0');
}

/* Topic `number` of all that have up to four levels; false: there are no more. */
static bool topic_at(uint32_t number, char out[32])
{
    uint32_t count = 1, size = LEVELS;
    while (number >= size) {
        number -= size;
        size *= LEVELS;
        if (++count > 4)
            return false;
    }
    out[0] = '\0';
    for (uint32_t i = 0; i < count; i++, number /= LEVELS) {
        strcat(out, i > 0 ? "/" : "");
        strcat(out, levels[number % LEVELS]);
    }
    return true;
}

/* The rule's filter as text with the name in it; the matcher of subscriptions does the rest. */
static bool reference_matches(const struct rule *rule, struct bytes user, struct bytes topic)
{
    char text[64] = "";
    for (size_t i = 0; i < rule->filter.size; i++) {
        bool name = rule->filter.data[i] == '%';
        strncat(text, name ? (const char *)user.data : (const char *)rule->filter.data + i, name ? user.size : 1);
        i += name ? 1 : 0;
    }
    return topic_matches(bytes_text(text), topic);
}

static enum verdict reference_judge(const struct rule *const *rules, struct bytes user, enum right right,
                                    struct bytes topic)
{
    for (uint32_t i = 0; i < RULES; i++) {
        if ((rules[i]->rights & right) != 0 && reference_matches(rules[i], user, topic))
            return rules[i]->deny ? VERDICT_DENY : VERDICT_ALLOW;
    }
    return VERDICT_NONE;
}

static int compare(const void *a, const void *b)
{
    return rule_compare(*(const struct rule *const *)a, *(const struct rule *const *)b);
}

static void any_rules_say_of_a_topic_what_the_reference_says(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        char filters[RULES][32], topic[32];
        struct rule rules[RULES];
        const struct rule *sorted[RULES];
        const struct names names = {.user = bytes_text(below(2) == 0 ? "a" : "b"), .client_id = bytes_text("c")};
        for (int i = 0; i < RULES; i++) {
            draw_filter(filters[i]);
            rules[i] = rule_of(filters[i]);
            rules[i].deny = below(2) == 0;
            rules[i].priority = (int32_t)below(3) - 1;
            rules[i].rights = (uint8_t)(1 + below(7));
            sorted[i] = &rules[i];
        }
        qsort(sorted, RULES, sizeof sorted[0], compare);
        assert_true(topic_at(below(340), topic));
        if (topic[0] == '\0')
            continue;
        enum right right = (enum right)(1u << below(3));
        enum verdict verdict = rules_judge(sorted, RULES, &names, right, bytes_text(topic));
        enum verdict wanted = reference_judge(sorted, names.user, right, bytes_text(topic));
        if (verdict != wanted)
            fail_msg("%s: %d, not %d", topic, (int)verdict, (int)wanted);
    }
}

/* Exact for one rule; for lists, what is allowed is allowed for each topic that the filter matches. */
static void any_filter_is_covered_and_met_as_its_topics_are(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < ROUNDS / 20; round++) {
        char rule_text[32], filter[32], topic[32];
        struct rule rule;
        bool all = true, some = false;
        draw_filter(rule_text);
        do {
            draw_filter(filter);
        } while (strchr(filter, '%') != NULL);
        rule = rule_of(rule_text);
        const struct names names = {.user = bytes_text("a"), .client_id = bytes_text("c")};
        for (uint32_t number = 0; topic_at(number, topic); number++) {
            if (!topic_matches(bytes_text(filter), bytes_text(topic))) /* the empty topic counts as one here */
                continue;
            bool matches = reference_matches(&rule, names.user, bytes_text(topic));
            all = all && matches;
            some = some || matches;
        }
        bool covered = rule_covers(&rule, &names, bytes_text(filter));
        bool met = rule_meets(&rule, &names, bytes_text(filter));
        if (met != some || (covered && !all))
            fail_msg("%s of %s: covers %d (%d), meets %d (%d)", rule_text, filter, covered, all, met, some);
    }
}

static void a_list_that_allows_a_filter_allows_all_its_topics(void **state)
{
    (void)state;
    uint32_t allowed = 0;
    for (uint32_t round = 0; round < ROUNDS / 20; round++) {
        char filters[RULES][32], filter[32], topic[32];
        struct rule rules[RULES];
        const struct rule *sorted[RULES];
        const struct names names = {.user = bytes_text("a"), .client_id = bytes_text("c")};
        for (int i = 0; i < RULES; i++) {
            draw_filter(filters[i]);
            rules[i] = rule_of(filters[i]);
            rules[i].deny = below(3) == 0;
            rules[i].priority = (int32_t)below(3);
            sorted[i] = &rules[i];
        }
        qsort(sorted, RULES, sizeof sorted[0], compare);
        do {
            draw_filter(filter);
        } while (strchr(filter, '%') != NULL);
        if (rules_judge(sorted, RULES, &names, RIGHT_SUBSCRIBE, bytes_text(filter)) != VERDICT_ALLOW)
            continue;
        allowed++;
        for (uint32_t number = 0; topic_at(number, topic); number++) {
            if (topic[0] == '\0' || !topic_matches(bytes_text(filter), bytes_text(topic)))
                continue;
            if (rules_judge(sorted, RULES, &names, RIGHT_RECEIVE, bytes_text(topic)) != VERDICT_ALLOW)
                fail_msg("%s is allowed, %s is not", filter, topic);
        }
    }
    assert_true(allowed > ROUNDS / 400);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rule_covers_what_it_matches_whole),
        cmocka_unit_test(filters_meet_where_they_share_a_topic),
        cmocka_unit_test(wildcards_do_not_reach_what_begins_with_a_dollar),
        cmocka_unit_test(names_are_put_in_level_by_level),
        cmocka_unit_test(names_that_could_widen_a_rule_fit_none_that_allows),
        cmocka_unit_test(the_first_rule_of_a_sorted_list_decides),
        cmocka_unit_test(any_rules_say_of_a_topic_what_the_reference_says),
        cmocka_unit_test(any_filter_is_covered_and_met_as_its_topics_are),
        cmocka_unit_test(a_list_that_allows_a_filter_allows_all_its_topics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
