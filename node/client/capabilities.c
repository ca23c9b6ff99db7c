/* capabilities.c — see capabilities.h. */
#include "capabilities.h"

const struct core_capabilities CORE_CAPABILITIES_DEFAULT = {
    .topic_alias_max = 32,
};
