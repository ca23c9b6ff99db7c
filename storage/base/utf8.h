/* utf8.h — strict UTF-8, as MQTT wants it (MQTT 5.0, 1.5.4). */
#ifndef COTERIE_UTF8_H
#define COTERIE_UTF8_H

#include "bytes.h"

/* True if `text` is well-formed UTF-8 (shortest forms only, no surrogates, nothing above U+10FFFF) without U+0000.
 * Control characters and noncharacters are allowed: the standard only advises against them. Empty is valid. */
bool utf8_valid(struct bytes text);

#endif
