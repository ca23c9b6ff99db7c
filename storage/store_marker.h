/* store_marker.h — a small file beside a database that says whether its content may be believed.
 *
 * It holds one line of text, padded with blanks to MARKER_SIZE bytes: "coterie store 1 <state> <boot id>". It is
 * overwritten in place and flushed; half of such a write is a marker that cannot be read, which is not believed either.
 * The file is locked while it is open, so that two processes cannot have one store. */
#ifndef COTERIE_STORE_MARKER_H
#define COTERIE_STORE_MARKER_H

#include "base/status.h"

#include <stdbool.h>

#define STORE_FORMAT 1
#define MARKER_SIZE 128
#define BOOT_ID_SIZE 64

struct store_marker {
    int fd;                        /* -1: not open */
    char boot_id[BOOT_ID_SIZE];    /* of this boot */
};

enum marker_state {
    MARKER_OPEN,                   /* pages may be in the kernel's cache only */
    MARKER_CLOSED,                 /* all is on the disk */
    MARKER_POISONED,               /* a write error or a broken row was met */
    MARKER_CHECKING,               /* was left open once; opened again, and not verified yet */
};

enum store_trust {
    TRUST_NEW,                     /* there is nothing to judge */
    TRUST_WHOLE,                   /* closed cleanly, in whatever boot */
    TRUST_UNCLEAN,                 /* left open in this boot: the kernel still has every page, but check */
    TRUST_NONE,                    /* left open in another boot or while checking, poisoned, or unreadable */
    TRUST_OTHER_FORMAT,
};

/* Opens or makes the file, and locks it. `boot_id` NULL: the kernel's. STATUS_BUSY: another process has it;
 * STATUS_IO_ERROR: errno says why. */
enum status store_marker_open(struct store_marker *marker, const char *path, const char *boot_id);
void store_marker_close(struct store_marker *marker);

/* What the marker says of a database that exists. */
enum store_trust store_marker_judge(const struct store_marker *marker);

/* Overwrites and flushes it; any thread. false: errno says why. */
bool store_marker_write(const struct store_marker *marker, enum marker_state state);

#endif
