/* rights.c — see rights.h. Filters are walked level by level, side by side; nothing allocates. */
#include "rights.h"

#include "base/topic.h"

#include <string.h>

bool rule_filter_valid(struct bytes filter)
{
    struct topic_filter parts;

    return filter.size <= RULE_FILTER_BYTES_MAX && topic_filter_parse(filter, &parts) == TOPIC_FILTER_PLAIN;
}

bool rule_name_usable(struct bytes name)
{
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '+' || name.data[i] == '#' || name.data[i] == '/' || name.data[i] == '\0')
            return false;
    }
    return name.size > 0;
}

int rule_compare(const struct rule *a, const struct rule *b)
{
    if (a->priority != b->priority)
        return a->priority > b->priority ? -1 : 1;
    return (int)b->deny - (int)a->deny;
}

/* ---- levels ---- */

enum level_kind { LEVEL_END, LEVEL_TEXT, LEVEL_ANY, LEVEL_REST, LEVEL_IMPOSSIBLE };

/* One of two walks, side by side. */
struct walk {
    struct topic_levels levels;
    struct bytes level;
    enum level_kind kind;
    bool first;
};

static struct walk walk_of(struct bytes filter)
{
    return (struct walk){.levels = topic_levels_of(filter), .first = true};
}

static void walk_on(struct walk *walk)
{
    if (!topic_next_level(&walk->levels, &walk->level))
        walk->kind = LEVEL_END;
    else if (walk->level.size == 1 && walk->level.data[0] == '#')
        walk->kind = LEVEL_REST;
    else
        walk->kind = walk->level.size == 1 && walk->level.data[0] == '+' ? LEVEL_ANY : LEVEL_TEXT;
}

/* The name that "%u" or "%c" at the front of `text` stands for; NULL: something else is there. */
static const struct bytes *name_at(struct bytes text, const struct names *names)
{
    if (text.size < 2 || text.data[0] != '%')
        return NULL;
    return text.data[1] == 'u' ? &names->user : text.data[1] == 'c' ? &names->client_id : NULL;
}

static bool has_name(struct bytes level, const struct names *names)
{
    for (; level.size > 1; level.data++, level.size--) {
        if (name_at(level, names) != NULL)
            return true;
    }
    return false;
}

/* A level of a rule with a name in it that may not stand there. */
static bool names_unusable(struct bytes level, const struct names *names, bool first)
{
    bool front = true;

    for (; level.size > 0; front = false) {
        const struct bytes *name = name_at(level, names);
        size_t step = name != NULL ? 2 : 1;

        if (name != NULL && (!rule_name_usable(*name) || (first && front && name->data[0] == '$')))
            return true;
        level = bytes_of(level.data + step, level.size - step);
    }
    return false;
}

/* Whether a level of a rule, its names put in, is `text`. */
static bool level_is(struct bytes level, const struct names *names, struct bytes text)
{
    while (level.size > 0) {
        const struct bytes *name = name_at(level, names);
        struct bytes part = name != NULL ? *name : bytes_of(level.data, 1);
        size_t step = name != NULL ? 2 : 1;

        if (!bytes_starts_with(text, part))
            return false;
        text = bytes_of(text.data + part.size, text.size - part.size);
        level = bytes_of(level.data + step, level.size - step);
    }
    return text.size == 0;
}

/* The next level of a rule. */
static void walk_rule(struct walk *walk, const struct rule *rule, const struct names *names)
{
    walk_on(walk);
    if (walk->kind == LEVEL_TEXT && rule->substitutes && names_unusable(walk->level, names, walk->first))
        walk->kind = rule->deny ? LEVEL_ANY : LEVEL_IMPOSSIBLE;
}

static bool same_text(const struct rule *rule, const struct names *names, struct bytes level, struct bytes text)
{
    if (rule->substitutes && has_name(level, names))
        return level_is(level, names, text);
    return bytes_equal(level, text);
}

/* A wildcard at the first level does not match what begins with $. */
static bool hides(bool first, struct bytes text)
{
    return first && text.size > 0 && text.data[0] == '$';
}

/* ---- rules ---- */

bool rule_covers(const struct rule *rule, const struct names *names, struct bytes filter)
{
    struct walk ours = walk_of(rule->filter), theirs = walk_of(filter);

    for (;; ours.first = false) {
        walk_rule(&ours, rule, names);
        walk_on(&theirs);
        switch (ours.kind) {
        case LEVEL_IMPOSSIBLE: return false;
        case LEVEL_END: return theirs.kind == LEVEL_END;
        case LEVEL_REST: return theirs.kind != LEVEL_TEXT || !hides(ours.first, theirs.level);
        case LEVEL_ANY:
            if (theirs.kind != LEVEL_ANY && (theirs.kind != LEVEL_TEXT || hides(ours.first, theirs.level)))
                return false;
            break;
        case LEVEL_TEXT:
            if (theirs.kind != LEVEL_TEXT || !same_text(rule, names, ours.level, theirs.level))
                return false;
            break;
        }
    }
}

bool rule_meets(const struct rule *rule, const struct names *names, struct bytes filter)
{
    struct walk ours = walk_of(rule->filter), theirs = walk_of(filter);

    for (;; ours.first = false) {
        walk_rule(&ours, rule, names);
        walk_on(&theirs);
        if (ours.kind == LEVEL_IMPOSSIBLE)
            return false;
        if (ours.kind == LEVEL_REST)
            return theirs.kind != LEVEL_TEXT || !hides(ours.first, theirs.level);
        if (theirs.kind == LEVEL_REST)
            return ours.kind != LEVEL_TEXT || !hides(ours.first, ours.level);
        if (ours.kind == LEVEL_END || theirs.kind == LEVEL_END)
            return ours.kind == theirs.kind;
        if (ours.kind == LEVEL_ANY     ? theirs.kind == LEVEL_TEXT && hides(ours.first, theirs.level)
            : theirs.kind == LEVEL_ANY ? hides(ours.first, ours.level)
                                       : !same_text(rule, names, ours.level, theirs.level))
            return false;
    }
}

enum verdict rules_judge(const struct rule *const *rules, uint32_t count, const struct names *names, enum right right,
                         struct bytes filter)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct rule *rule = rules[i];

        if ((rule->rights & right) == 0)
            continue;
        if (rule->deny ? rule_meets(rule, names, filter) : rule_covers(rule, names, filter))
            return rule->deny ? VERDICT_DENY : VERDICT_ALLOW;
    }
    return VERDICT_NONE;
}
