/* process_files.c — the files that a node may write: below its data directory, and the sockets of its listeners (Landlock, by
 * system calls alone). It reads whatever its user may read: certificates, keys and lists are read again, from anywhere.
 *
 *   data_dir, and where links in it lead --rules--> a set of rules --restrict--> this thread, and all that come from it
 *
 * From Linux 5.19 on: the first version of Landlock cannot allow what moves a file from one directory to another, and so would
 * forbid it. A program that is executed keeps the rules; a restart adds the same ones again, until the kernel has enough. */
#include "process.h"

#include "base/logger.h"
#include "data.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VERSION_MIN      2         /* of Landlock */
#define VERSION_TRUNCATE 3
#define ACCESS_TRUNCATE  (1u << 14) /* not in the headers of Debian 12 */
#define PATH_BYTES       4096

#define ACCESS_SOCKET (LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE)
#define ACCESS_DATA                                                                                                               \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                            \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REFER)
#define ACCESS_ALL                                                                                                                \
    (ACCESS_DATA | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                  \
     LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

static const char *const inside_data[] = {"", "/log", "/store", "/snapshots"}; /* any of them may be a link to another disk */

/* Allows it at and below `path`; false: there is no such place. */
static bool allow(int rules, const char *path, uint64_t access)
{
    struct landlock_path_beneath_attr place = {.allowed_access = access, .parent_fd = open(path, O_PATH | O_CLOEXEC)};
    if (place.parent_fd < 0)
        return false;
    bool added = syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &place, 0) == 0;
    close(place.parent_fd);
    return added;
}

/* False: the directory of the data is not there and cannot be made; the start will say so. */
static bool allow_data(int rules, const char *directory, uint64_t access)
{
    char path[PATH_BYTES], error[DATA_ERROR_MAX];
    data_make_directory(directory, error);
    for (size_t i = 0; i < sizeof(inside_data) / sizeof(inside_data[0]); i++) {
        snprintf(path, sizeof(path), "%s%s", directory, inside_data[i]);
        if (!allow(rules, path, access) && i == 0)
            return false;
    }
    return true;
}

static void allow_sockets(int rules, const struct config *config)
{
    char path[PATH_BYTES];
    for (uint32_t i = 0; i < config->listener_count; i++) {
        if (strcmp(config->listeners[i].kind, "unix") != 0)
            continue;
        snprintf(path, sizeof(path), "%s", config->listeners[i].address);
        allow(rules, dirname(path), ACCESS_SOCKET);
    }
}

/* 0, or the number of an error. */
static int confine(const struct config *config, int version)
{
    const uint64_t truncate = version >= VERSION_TRUNCATE ? ACCESS_TRUNCATE : 0;
    const struct landlock_ruleset_attr all = {.handled_access_fs = ACCESS_ALL | truncate};
    int rules = (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0), result = 0;
    if (rules < 0)
        return errno;
    if (!allow_data(rules, config->node.data_dir, ACCESS_DATA | truncate)) {
        close(rules);
        return ENOENT;
    }
    allow_sockets(rules, config);
    allow(rules, "/dev/null", LANDLOCK_ACCESS_FS_WRITE_FILE | truncate);
    if (syscall(SYS_landlock_restrict_self, rules, 0) != 0 && errno != E2BIG) /* in force often enough, after restarts */
        result = errno;
    close(rules);
    return result;
}

void process_confine(const struct config *config)
{
    if (!config->node.confine_writes)
        return;
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    int result = version >= VERSION_MIN ? confine(config, (int)version) : EOPNOTSUPP;
    if (result != 0)
        log_event(LOG_INFO, "writes-not-confined", log_errno(result));
    else
        log_event(LOG_INFO, "writes-confined", log_text("directory", config->node.data_dir));
}
