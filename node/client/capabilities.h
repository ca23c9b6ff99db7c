/* capabilities.h — what this server offers its clients, as configured: told in CONNACK where it differs from what a
 * client takes for granted, and refused where a client asks for more. */
#ifndef COTERIE_CAPABILITIES_H
#define COTERIE_CAPABILITIES_H

#include <stdbool.h>
#include <stdint.h>

struct core_capabilities {
    uint16_t topic_alias_max;    /* aliases that a client may set; 0 = none */
};

extern const struct core_capabilities CORE_CAPABILITIES_DEFAULT;

#endif
