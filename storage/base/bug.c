#include "bug.h"

#ifdef COTERIE_BUGS
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "V07" -> 7; BUG_COUNT: no such name. */
static enum bug bug_of(const char *name)
{
    char *end;
    unsigned long number = name[0] == 'V' ? strtoul(name + 1, &end, 10) : 0;

    return number > 0 && number < BUG_COUNT && strlen(name) == 3 && *end == '\0' ? (enum bug)number : BUG_COUNT;
}

enum bug bug_chosen(void)
{
    static enum bug chosen = BUG_COUNT;

    if (chosen == BUG_COUNT) {
        const char *name = getenv("COTERIE_BUG");

        chosen = name == NULL || name[0] == '\0' ? BUG_NONE : bug_of(name);
        if (chosen == BUG_COUNT) {
            fprintf(stderr, "COTERIE_BUG=%s: there is no such bug\n", name);
            exit(2);
        }
    }
    return chosen;
}
#else
typedef int no_bugs_are_built_in; /* ISO C wants something in every file */
#endif
