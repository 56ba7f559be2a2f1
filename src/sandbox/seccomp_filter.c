/* Tables of names and a few argument rules, turned into one BPF program by libseccomp. */
#include "sandbox/seccomp_filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"

enum { PROGRAM_LIMIT = 1 << 16 };

struct seccomp_filter {
    struct buffer program;
};

/* Files, memory, processes, time, signals, sockets, polling: what programs live on. */
static const char *const allowed[] = {
    "accept",
    "accept4",
    "access",
    "alarm",
    "arch_prctl",
    "bind",
    "brk",
    "cachestat",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "chroot",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "epoll_wait_old",
    "eventfd",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "futimesat",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getcwd",
    "getdents",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getxattr",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    "ioprio_get",
    "ioprio_set",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listen",
    "listxattr",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "madvise",
    "map_shadow_stack",
    "membarrier",
    "memfd_create",
    "mincore",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mprotect",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "mremap",
    "mseal",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pause",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe",
    "pipe2",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "pselect6",
    "ptrace",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "remap_file_pages",
    "removexattr",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "select",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "setxattr",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "socketpair",
    "splice",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "sysinfo",
    "tee",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "times",
    "tkill",
    "truncate",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "vfork",
    "vmsplice",
    "wait4",
    "waitid",
    "write",
    "writev",
};

/* Known and refused. Everything absent from both tables is ENOSYS. */
static const char *const denied[] = {
    /* mounts and roots */
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "umount2",
    /* namespaces */
    "setns",
    "unshare",
    /* kernel attack surface with no use in a sandbox */
    "bpf",
    "fanotify_init",
    "fanotify_mark",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kcmp",
    "lookup_dcookie",
    "name_to_handle_at",
    "open_by_handle_at",
    "perf_event_open",
    "pidfd_getfd",
    "process_madvise",
    "userfaultfd",
    "vhangup",
    /* keyrings are not namespaced */
    "add_key",
    "keyctl",
    "request_key",
    /* the machine */
    "acct",
    "adjtimex",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "migrate_pages",
    "move_pages",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "set_mempolicy",
    "mbind",
    "get_mempolicy",
    "setdomainname",
    "sethostname",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
};

/* clone(2) flags that make namespaces. CLONE_NEWTIME cannot be given to clone. */
static const uint64_t namespace_flags = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |
                                        CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
/* The personalities of Docker's default: Linux, with and without ADDR_NO_RANDOMIZE's neighbours. */
static const uint64_t personalities[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};
/* Families for programs on this machine and for the loopback. Others (vsock, packet, alg, ...) are
 * doors to the host or to rarely walked kernel code. */
static const int socket_families[] = {AF_UNIX, AF_INET, AF_INET6};

/* libseccomp does not know every name of a newer kernel: those stay ENOSYS. */
static int add_names(scmp_filter_ctx context, uint32_t action, const char *const *names,
                     size_t count) {
    for (size_t i = 0; i < count; i++) {
        int number = seccomp_syscall_resolve_name(names[i]);
        int result = number < 0 ? 0 : seccomp_rule_add(context, action, number, 0);
        if (result != 0) {
            return result;
        }
    }
    return 0;
}

/* libseccomp's own SCMP_A macros leave a member out, which clang rightly notes. */
static struct scmp_arg_cmp argument(unsigned index, enum scmp_compare compare, uint64_t a,
                                    uint64_t b) {
    return (struct scmp_arg_cmp){.arg = index, .op = compare, .datum_a = a, .datum_b = b};
}

static int allow_when(scmp_filter_ctx context, int call, struct scmp_arg_cmp condition) {
    return seccomp_rule_add_array(context, SCMP_ACT_ALLOW, call, 1, &condition);
}

static int add_argument_rules(scmp_filter_ctx context) {
    int result =
        allow_when(context, SCMP_SYS(clone), argument(0, SCMP_CMP_MASKED_EQ, namespace_flags, 0));
    for (size_t i = 0; result == 0 && i < sizeof(personalities) / sizeof(personalities[0]); i++) {
        result = allow_when(context, SCMP_SYS(personality),
                            argument(0, SCMP_CMP_EQ, personalities[i], 0));
    }
    return result;
}

/*
 * socket(2) by family. What is refused is refused as by a kernel without it: libraries such as
 * libaudit take EAFNOSUPPORT and EPROTONOSUPPORT for "there is none here" and go on.
 */
static int add_socket_rules(scmp_filter_ctx context) {
    int result = 0;
    for (int family = 0; result == 0 && family < AF_MAX; family++) {
        bool is_allowed = false;
        for (size_t i = 0; i < sizeof(socket_families) / sizeof(int); i++) {
            is_allowed |= family == socket_families[i];
        }
        struct scmp_arg_cmp condition = argument(0, SCMP_CMP_EQ, (uint32_t)family, 0);
        if (family != AF_NETLINK) {
            result = seccomp_rule_add_array(
                context, is_allowed ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(EAFNOSUPPORT),
                SCMP_SYS(socket), 1, &condition);
        }
    }
    /* getaddrinfo(3) and getifaddrs(3) ask the routing netlink; protocol 0 is NETLINK_ROUTE. */
    struct scmp_arg_cmp routing[] = {argument(0, SCMP_CMP_EQ, AF_NETLINK, 0),
                                     argument(2, SCMP_CMP_EQ, 0, 0)};
    struct scmp_arg_cmp other[] = {argument(0, SCMP_CMP_EQ, AF_NETLINK, 0),
                                   argument(2, SCMP_CMP_NE, 0, 0)};
    if (result == 0) {
        result = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2, routing);
    }
    if (result == 0) {
        result = seccomp_rule_add_array(context, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket),
                                        2, other);
    }
    return result;
}

/*
 * ioctl(2) is allowed but for typing into a terminal (TIOCSTI, TIOCLINUX). The kernel looks at the
 * low 32 bits of the request alone, so each rule compares those under a mask: a plain comparison
 * could be passed by with a high bit set. The rules are the complement of the two: every request
 * that differs above the low four bits, and the other fourteen of their sixteen.
 */
static int add_ioctl_rules(scmp_filter_ctx context) {
    enum { LOW_BITS = 4, REQUEST_BITS = 32 };
    const uint64_t all = 0xffffffff;
    _Static_assert(TIOCSTI >> LOW_BITS == TIOCLINUX >> LOW_BITS,
                   "they differ in the low bits only");
    int result = 0;
    for (unsigned bit = LOW_BITS; result == 0 && bit < REQUEST_BITS; bit++) {
        uint64_t mask = all & ~((UINT64_C(1) << bit) - 1);
        uint64_t value = (TIOCSTI ^ (UINT64_C(1) << bit)) & mask;
        result = allow_when(context, SCMP_SYS(ioctl), argument(1, SCMP_CMP_MASKED_EQ, mask, value));
    }
    for (uint64_t low = 0; result == 0 && low < 1U << LOW_BITS; low++) {
        uint64_t request = ((uint64_t)TIOCSTI & ~UINT64_C(15)) | low;
        if (request != TIOCSTI && request != TIOCLINUX) {
            result =
                allow_when(context, SCMP_SYS(ioctl), argument(1, SCMP_CMP_MASKED_EQ, all, request));
        }
    }
    return result;
}

static int build(scmp_filter_ctx context) {
    int result = seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    if (result == 0) {
        /* A binary tree instead of a list of 300 comparisons before each system call. */
        result = seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    }
    if (result == 0) {
        result = add_names(context, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(allowed[0]));
    }
    if (result == 0) {
        result =
            add_names(context, SCMP_ACT_ERRNO(EPERM), denied, sizeof(denied) / sizeof(denied[0]));
    }
    if (result == 0) {
        result = add_argument_rules(context);
    }
    if (result == 0) {
        result = add_socket_rules(context);
    }
    return result == 0 ? add_ioctl_rules(context) : result;
}

static bool export_program(scmp_filter_ctx context, struct buffer *out, struct error **error) {
    CLEANUP_CLOSE int fd = memfd_create("seccomp", MFD_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, errno, "cannot make a file in memory");
    }
    int result = build(context);
    if (result == 0) {
        result = seccomp_export_bpf(context, fd);
    }
    if (result != 0) {
        return error_set_errno(error, -result, "cannot compile the seccomp filter");
    }
    if (lseek(fd, 0, SEEK_SET) != 0) {
        return error_set_errno(error, errno, "cannot read the seccomp filter");
    }
    return io_read_to_end(fd, out, PROGRAM_LIMIT * sizeof(struct sock_filter), error);
}

struct seccomp_filter *seccomp_filter_new(struct error **error) {
    scmp_filter_ctx context = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (context == NULL) {
        (void)error_set(error, ERROR_UNSUPPORTED, "cannot begin a seccomp filter");
        return NULL;
    }
    struct seccomp_filter *filter = memory_new(struct seccomp_filter);
    bool is_built = export_program(context, &filter->program, error);
    seccomp_release(context);
    if (!is_built) {
        seccomp_filter_free(filter);
        return NULL;
    }
    return filter;
}

bool seccomp_filter_load(const struct seccomp_filter *filter, struct error **error) {
    struct sock_fprog program = {
        .len = (unsigned short)(filter->program.length / sizeof(struct sock_filter)),
        .filter = (struct sock_filter *)(void *)filter->program.data,
    };
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) {
        return error_set_errno(error, errno, "cannot load the seccomp filter");
    }
    return true;
}

void seccomp_filter_free(struct seccomp_filter *take_filter) {
    if (take_filter != NULL) {
        buffer_free(&take_filter->program);
        free(take_filter);
    }
}
