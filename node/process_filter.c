/* process_filter.c — the system calls of a running node; the kernel refuses all others (seccomp, by libseccomp).
 *
 * What is not in the table ends with ENOSYS, as on a kernel that does not know it: libraries try newer calls and fall back. It is
 * not killed: a call that we forgot (a newer libc, a rare path) costs that call, and not a node of the cluster; whoever attacks
 * gains nothing from going on without it.
 * Whoever has taken over the process finds no fork without threads' flags, no other program to execute, no ptrace, mounts,
 * modules, keys, namespaces, raw or packet sockets, and no memory both writable and executable.
 *
 * A new library or libc may want more: `system_call_filter: log` lets everything pass and has the kernel log what `on` would
 * refuse (`journalctl -k`, or `dmesg`: type=1326 and the number of the call). Names that this libseccomp does not know are passed over. */
#include "process.h"

#include "base/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true /* they stop, trace and clone threads in ways of their own */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED true
#endif
#endif
#ifndef SANITIZED
#define SANITIZED false
#endif

/* execve() is allowed for the path at this address only, where each life of this process has it: a filter can compare
 * addresses, not texts, and the filter of the first life stays. */
#define RESTART_ADDRESS ((void *)0x10000000)
#define RESTART_BYTES   4096
static const char self_path[] = "/proc/self/exe";

static const char *const allowed[] = {
    /* files and descriptors */
    "read", "readv", "pread64", "preadv", "preadv2", "write", "writev", "pwrite64", "pwritev", "pwritev2", "lseek", "_llseek",
    "open", "openat", "openat2", "creat", "close", "close_range", "stat", "stat64", "fstat", "fstat64", "lstat", "lstat64",
    "fstatat64", "newfstatat", "statx", "statfs", "statfs64", "fstatfs", "fstatfs64", "access", "faccessat", "faccessat2", "fsync", "fdatasync",
    "sync_file_range", "truncate", "ftruncate", "ftruncate64", "fallocate", "fadvise64", "rename", "renameat", "renameat2", "link", "linkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "fchmodat2", "umask", "getdents", "getdents64", "getcwd", "readlink",
    "readlinkat", "flock", "fcntl", "fcntl64", "dup", "dup2", "dup3", "pipe", "pipe2", "ioctl", "sendfile", "sendfile64", "splice",
    "copy_file_range", "utimensat", "ioprio_get",
    /* memory */
    "brk", "munmap", "mremap", "madvise", "mincore", "msync", "membarrier", "mlock", "munlock",
    /* threads, signals, this process */
    "futex", "futex_time64", "futex_waitv", "set_robust_list", "get_robust_list", "set_tid_address", "rseq", "arch_prctl", "prctl", "seccomp", "landlock_create_ruleset",
    "landlock_add_rule", "landlock_restrict_self",
    "sched_yield", "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler", "sched_get_priority_min",
    "sched_get_priority_max", "getpriority", "gettid", "getpid", "getppid", "getpgrp", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid",
    "getgroups", "tgkill", "rt_sigaction", "rt_sigprocmask", "rt_sigpending", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "sigaltstack", "sigreturn",
    "restart_syscall", "exit", "exit_group", "getrlimit", "ugetrlimit", "setrlimit", "prlimit64", "getrusage", "sysinfo", "uname", "getrandom", "capget",
    "capset", "getcpu",
    /* time */
    "clock_gettime", "clock_gettime64", "clock_getres", "clock_nanosleep", "clock_nanosleep_time64", "nanosleep", "gettimeofday", "time", "times",
    "timerfd_create", "timerfd_settime", "timerfd_gettime",
    /* sockets */
    "socketpair", "bind", "listen", "accept", "accept4", "connect", "shutdown", "getsockname", "getpeername", "getsockopt", "setsockopt", "send", "sendto",
    "sendmsg", "sendmmsg", "recv", "recvfrom", "recvmsg", "recvmmsg",
    /* waiting */
    "poll", "ppoll", "select", "_newselect", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2",
    "eventfd", "eventfd2",
};

static const int socket_families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK /* addresses of interfaces */};

/* ---- the rules ---- */

static int allow(scmp_filter_ctx filter, const char *name, unsigned count, const struct scmp_arg_cmp *conditions)
{
    int number = seccomp_syscall_resolve_name(name);
    if (number == __NR_SCMP_ERROR)
        return 0;
    int result = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, count, conditions);
    return result == -EDOM ? 0 : result; /* no such call on this architecture */
}

/* mmap and mprotect: writable or executable, not both. */
static int allow_memory(scmp_filter_ctx filter)
{
    static const char *const names[] = {"mmap", "mmap2", "mprotect"};
    const struct scmp_arg_cmp not_writable = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_WRITE, 0);
    const struct scmp_arg_cmp not_executable = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    int result = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && result == 0; i++) {
        result = allow(filter, names[i], 1, &not_writable);
        if (result == 0)
            result = allow(filter, names[i], 1, &not_executable);
    }
    return result;
}

/* Threads by clone(), whose flags a filter can see. Those of clone3() it cannot; the libc falls back at ENOSYS. */
static int allow_threads(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM);
    return allow(filter, "clone", 1, &thread);
}

static int allow_sockets(scmp_filter_ctx filter)
{
    int result = 0;
    for (size_t i = 0; i < sizeof(socket_families) / sizeof(socket_families[0]) && result == 0; i++) {
        const struct scmp_arg_cmp family = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)socket_families[i], 0);
        result = allow(filter, "socket", 1, &family);
    }
    return result;
}

static int allow_restart(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp path = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)(uintptr_t)RESTART_ADDRESS, 0);
    return allow(filter, "execve", 1, &path);
}

static int add_rules(scmp_filter_ctx filter)
{
    int result = 0;
    for (size_t i = 0; i < sizeof(allowed) / sizeof(allowed[0]) && result == 0; i++)
        result = allow(filter, allowed[i], 0, NULL);
    if (result == 0)
        result = allow_memory(filter);
    if (result == 0)
        result = allow_threads(filter);
    if (result == 0)
        result = allow_sockets(filter);
    return result == 0 ? allow_restart(filter) : result;
}

/* ---- in force ---- */

/* Puts the path of this program at its place. */
static bool place_path(void)
{
    void *page = mmap(RESTART_ADDRESS, RESTART_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (page != RESTART_ADDRESS)
        return false;
    memcpy(page, self_path, sizeof(self_path));
    return mprotect(page, RESTART_BYTES, PROT_READ) == 0;
}

static bool path_placed;

static int load(scmp_filter_ctx filter)
{
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1); /* all threads: the pool has begun */
    if (result == 0)
        result = add_rules(filter);
    return result == 0 ? seccomp_load(filter) : result;
}

/* What is asked of an io_uring passes every filter. libuv (from 1.45 on) makes itself one if it can, and dies if it cannot use it
 * later; where it cannot have one it does without. */
void process_filter_begin(const struct config *config)
{
    if (SANITIZED || config->node.system_call_filter == SYSTEM_CALL_FILTER_OFF ||
        config->node.system_call_filter == SYSTEM_CALL_FILTER_LOG)
        return;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL || seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup), 0) != 0 ||
        seccomp_load(filter) != 0)
        log_event(LOG_WARNING, "io-uring-not-refused");
    seccomp_release(filter);
}

enum status process_filter(const struct config *config)
{
    bool only_log = config->node.system_call_filter == SYSTEM_CALL_FILTER_LOG;
    bool only_if_possible = config->node.system_call_filter == SYSTEM_CALL_FILTER_AUTO;
    if (config->node.system_call_filter == SYSTEM_CALL_FILTER_OFF)
        return STATUS_OK;
    if (SANITIZED) {
        log_event(only_if_possible ? LOG_INFO : LOG_WARNING, "system-calls-not-filtered",
                  log_text("why", "this program was built with sanitizers"));
        return STATUS_OK;
    }
    path_placed = place_path();
    scmp_filter_ctx filter = seccomp_init(only_log ? SCMP_ACT_LOG : SCMP_ACT_ERRNO(ENOSYS));
    int result = filter == NULL ? -ENOMEM : load(filter);
    seccomp_release(filter);
    if (result != 0) {
        log_event(only_if_possible ? LOG_WARNING : LOG_ERROR, "system-calls-not-filtered", log_errno(-result),
                  log_text("advice", "node.system_call_filter: off starts without"));
        return only_if_possible ? STATUS_OK : STATUS_INVALID;
    }
    log_event(LOG_INFO, "system-calls-filtered", log_bool("only-logged", only_log));
    return STATUS_OK;
}

void process_restart(char **arguments)
{
    execv(path_placed ? RESTART_ADDRESS : self_path, arguments);
    log_event(LOG_ERROR, "not-restarted", log_errno(errno));
}
