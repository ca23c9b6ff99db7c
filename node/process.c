/* process.c — umask, core dumps, pages that cannot be read, user and capabilities. The filter of system calls is in process_filter.c.
 *
 * Always true after process_drop(): nothing that this process executes gains rights (PR_SET_NO_NEW_PRIVS), and its capabilities
 * are at most CAP_NET_BIND_SERVICE, in all five sets: a restart by execv() has what the first start had. */
#include "process.h"

#include "base/logger.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PORT_UNPRIVILEGED 1024

static void warn_of_readers(const char *path, mode_t others, const char *advice)
{
    struct stat facts;
    if (stat(path, &facts) == 0 && (facts.st_mode & others) != 0)
        log_event(LOG_WARNING, "readable-by-others", log_text("path", path), log_text("advice", advice));
}

void process_begin(const struct config *config, const char *file)
{
    const struct rlimit none = {0, 0};
    umask(0077);
    if (file != NULL && config->file_holds_secrets)
        warn_of_readers(file, S_IRWXO, "there are passwords or the admin token in it: mode 0600 or 0640");
    warn_of_readers(config->node.data_dir, S_IRWXG | S_IRWXO, "what is in it has mode 0600, but the directory should be 0700");
    if (config->node.core_dumps)
        return;
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* also where a program takes the dumps: keys and passwords are in them */
}

/* ---- pages that cannot be read ---- */

/* It came from an instruction that reads a map, in LMDB or in a copy of what LMDB returned: nothing that the log needs is half
 * done. Anything else that has this number goes on to be what it would have been. */
static void page_unreadable(int number, siginfo_t *what, void *where)
{
    (void)where;
    if (what->si_code != BUS_ADRERR) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    log_event(LOG_ERROR, "node-failed", log_result(STATUS_IO_ERROR),
              log_text("why", "the disk cannot read a page of the store, or its file was cut short"),
              log_text("consequence", "it stops"));
    _exit(1);
}

void process_watch_pages(void)
{
    const struct sigaction action = {.sa_sigaction = page_unreadable, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    sigaction(SIGBUS, &action, NULL);
}

/* ---- capabilities ---- */

/* The set of those that are kept, as bits. */
static uint64_t capabilities_kept(const struct config *config)
{
    for (uint32_t i = 0; i < config->listener_count; i++)
        if (config->listeners[i].port > 0 && config->listeners[i].port < PORT_UNPRIVILEGED)
            return 1ull << CAP_NET_BIND_SERVICE;
    return 0;
}

static uint64_t capabilities_permitted(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {{0}};
    if (syscall(SYS_capget, &header, sets) != 0)
        return 0;
    return sets[0].permitted | (uint64_t)sets[1].permitted << 32;
}

static bool capabilities_set(uint64_t permitted, uint64_t effective)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];
    for (int i = 0; i < 2; i++)
        sets[i] = (struct __user_cap_data_struct){.effective = (uint32_t)(effective >> 32 * i),
                                                  .permitted = (uint32_t)(permitted >> 32 * i),
                                                  .inheritable = (uint32_t)(permitted >> 32 * i)};
    return syscall(SYS_capset, &header, sets) == 0;
}

/* Fails without CAP_SETPCAP; then there is nothing in the bounding set that this process could ever use. */
static void bounding_set_limit(uint64_t kept)
{
    for (unsigned long number = 0; prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++)
        if ((kept >> number & 1) == 0)
            prctl(PR_CAPBSET_DROP, number, 0, 0, 0);
}

/* The ambient set carries what is kept through execv(); it is empty after a change of user. */
static enum status capabilities_drop(uint64_t kept, char *error)
{
    if (capabilities_permitted() == 0) /* nothing to give up, nor perhaps a right to call what does */
        return STATUS_OK;
    kept &= capabilities_permitted();
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    if (!capabilities_set(kept, kept) ||
        (kept != 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) != 0) ||
        capabilities_permitted() != kept) {
        snprintf(error, PROCESS_ERROR_MAX, "cannot give up capabilities: %s", strerror(errno));
        return STATUS_INVALID;
    }
    return STATUS_OK;
}

/* ---- the user ---- */

/* A directory that root makes for the user it is about to become. One that exists is taken as it is. */
static void give_data_directory(const char *path, const struct passwd *user)
{
    if (mkdir(path, 0700) == 0 && chown(path, user->pw_uid, user->pw_gid) != 0)
        log_event(LOG_WARNING, "data-directory-owner", log_text("directory", path), log_errno(errno));
}

static enum status become(const struct config *config, char *error)
{
    const char *name = config->node.user;
    const struct passwd *user = getpwnam(name);
    if (user == NULL || user->pw_uid == 0) {
        snprintf(error, PROCESS_ERROR_MAX, "node.user: expected a user of this machine other than root, got '%.100s'", name);
        return STATUS_INVALID;
    }
    if (getuid() == user->pw_uid && geteuid() == user->pw_uid)
        return STATUS_OK;
    if (geteuid() != 0) {
        snprintf(error, PROCESS_ERROR_MAX, "node.user: only root can become '%.100s'", name);
        return STATUS_INVALID;
    }
    give_data_directory(config->node.data_dir, user);
    prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
    if (initgroups(name, user->pw_gid) != 0 || setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0) {
        snprintf(error, PROCESS_ERROR_MAX, "node.user: cannot become '%.100s': %s", name, strerror(errno));
        return STATUS_INVALID;
    }
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    return STATUS_OK;
}

enum status process_drop(const struct config *config, char error[PROCESS_ERROR_MAX])
{
    uint64_t kept = capabilities_kept(config);
    enum status status = STATUS_OK;
    bounding_set_limit(kept);
    if (config->node.user[0] != '\0')
        status = become(config, error);
    else if (geteuid() == 0)
        log_event(LOG_WARNING, "runs-as-root",
                  log_text("advice", "start as a user of its own, or set node.user; its capabilities are dropped"));
    if (status == STATUS_OK)
        status = capabilities_drop(kept, error);
    if (status == STATUS_OK && config->node.user[0] != '\0' && setuid(0) == 0) {
        snprintf(error, PROCESS_ERROR_MAX, "node.user: it could become root again");
        return STATUS_INVALID;
    }
    if (status == STATUS_OK && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        snprintf(error, PROCESS_ERROR_MAX, "PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
        return STATUS_INVALID;
    }
    if (status == STATUS_OK && !config->node.core_dumps)
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* a change of user has set it to what the machine's default is */
    return status;
}
