/*
 * From a fresh clone to hand, in the order the kernel sees it. Read local_inside_run first.
 *
 * This runs as the first process of new user, pid, mount, ipc and uts namespaces. Until the last
 * step it has every capability over those, and none over the host.
 */
#include "sandbox/local.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"
#include "sandbox/landlock.h"
#include "sandbox/mounts.h"
#include "sandbox/privileges.h"

enum {
    LISTEN_FD = 3, /* what hand finds its socket at */
    HAND_FD = 4,
    SYNC_FD = 5,
    FIRST_CLOSED_FD = 6,
    OPEN_FILES_LIMIT = 65536,
};

#define FILE_ATTRIBUTES (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define DATA_ATTRIBUTES (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)

/* Docker's default set: enough for package managers and servers, all of it valid only inside. */
static const unsigned capabilities[] = {
    CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FSETID,           CAP_FOWNER,
    CAP_MKNOD,   CAP_NET_RAW,      CAP_SETGID,           CAP_SETUID,
    CAP_SETFCAP, CAP_SETPCAP,      CAP_NET_BIND_SERVICE, CAP_SYS_CHROOT,
    CAP_KILL,    CAP_AUDIT_WRITE,
};

/* What of /proc says or sets something about the host. Absent ones are left out. */
static const struct {
    const char *path;
    bool is_hidden; /* else read-only */
} proc_rules[] = {
    {"proc/kcore", true},       {"proc/keys", true},          {"proc/key-users", true},
    {"proc/timer_list", true},  {"proc/timer_stats", true},   {"proc/latency_stats", true},
    {"proc/sched_debug", true}, {"proc/kmsg", true},          {"proc/kpagecount", true},
    {"proc/interrupts", true},  {"proc/acpi", true},          {"proc/scsi", true},
    {"proc/asound", true},      {"proc/sysrq-trigger", true}, {"proc/sys", false},
    {"proc/bus", false},        {"proc/fs", false},           {"proc/irq", false},
};

/* Step 1: group, network, names. Keeper writes the id maps meanwhile. */

static bool raise_loopback(struct error **error) {
    CLEANUP_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0) {
        return error_set_errno(error, errno, "cannot raise the loopback interface");
    }
    return true;
}

static bool enter_remaining_namespaces(const struct local_inside *inside, struct error **error) {
    /* The group first: the cgroup namespace is rooted at where the process is when it is made. */
    if (!cgroup_entry_join(inside->groups, error)) {
        return false;
    }
    if (unshare(CLONE_NEWCGROUP | CLONE_NEWNET) != 0) {
        return error_set_errno(error, errno, "cannot make cgroup and network namespaces");
    }
    if (sethostname("sandbox", strlen("sandbox")) != 0) {
        return error_set_errno(error, errno, "cannot set the host name");
    }
    return raise_loopback(error);
}

/* Step 2: root of the namespace. */

static bool become_root(struct error **error) {
    if (setgroups(0, NULL) != 0 || setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0) {
        return error_set_errno(error, errno, "cannot become root of the user namespace");
    }
    (void)umask(022);
    return true;
}

/* Step 3: the file systems. The overlays are mounted by root of the namespace, not by keeper: what
 * they do on disk they do with the sandbox's ids and no more. */

static bool mount_overlay(const char *lower, const char *upper, const char *work,
                          const char *target, struct error **error) {
    const struct mount_option options[] = {
        {"source", "holt"}, {"lowerdir", lower}, {"upperdir", upper},
        {"workdir", work},  {"userxattr", NULL}, {NULL, NULL},
    };
    return mounts_attach_new("overlay", options, FILE_ATTRIBUTES, target, error);
}

static bool mount_root(const struct local_inside *inside, const int *mounts, struct error **error) {
    if (!mounts_attach(mounts[LOCAL_MOUNT_LAYER], LOCAL_PLACE_LAYER, error) ||
        !mounts_attach(mounts[LOCAL_MOUNT_BASE], LOCAL_PLACE_BASE, error)) {
        return false;
    }
    if (inside->host->has_own_usr) {
        return mounts_attach(mounts[LOCAL_MOUNT_EXTRA], LOCAL_PLACE_USR, error) &&
               mount_overlay(LOCAL_PLACE_BASE, LOCAL_PLACE_LAYER "/root",
                             LOCAL_PLACE_LAYER "/root-work", LOCAL_PLACE_ROOT, error) &&
               mount_overlay(LOCAL_PLACE_USR, LOCAL_PLACE_LAYER "/usr",
                             LOCAL_PLACE_LAYER "/usr-work", LOCAL_PLACE_ROOT "/usr", error);
    }
    return mounts_attach(mounts[LOCAL_MOUNT_EXTRA], LOCAL_PLACE_HOLDER, error) &&
           mount_overlay(LOCAL_PLACE_HOLDER ":" LOCAL_PLACE_BASE, LOCAL_PLACE_LAYER "/root",
                         LOCAL_PLACE_LAYER "/root-work", LOCAL_PLACE_ROOT, error);
}

static bool cover(const char *path, bool is_hidden, struct error **error) {
    struct stat status;
    if (lstat(path, &status) != 0) {
        return true;
    }
    if (is_hidden && S_ISDIR(status.st_mode)) {
        const struct mount_option options[] = {{"mode", "0555"}, {"nr_inodes", "1"}, {NULL, NULL}};
        return mounts_attach_new("tmpfs", options, DATA_ATTRIBUTES | MOUNT_ATTR_RDONLY, path,
                                 error);
    }
    const char *source = is_hidden ? "dev/null" : path;
    CLEANUP_CLOSE int mount_fd = mounts_clone(
        AT_FDCWD, source, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, -1, error);
    return mount_fd >= 0 && mounts_attach(mount_fd, path, error);
}

static bool mount_kernel_files(const int *mounts, struct error **error) {
    const struct mount_option terminal_options[] = {
        {"newinstance", NULL}, {"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}, {NULL, NULL}};
    if (!mounts_attach_new("proc", NULL, DATA_ATTRIBUTES, "proc", error) ||
        !mounts_attach(mounts[LOCAL_MOUNT_DEVICES], "dev", error) ||
        !mounts_attach_new("devpts", terminal_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                           "dev/pts", error)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(proc_rules) / sizeof(proc_rules[0]); i++) {
        if (!cover(proc_rules[i].path, proc_rules[i].is_hidden, error)) {
            return false;
        }
    }
    return true;
}

/* The memory cgroup, where there is a limit, counts these too; the sizes bound them without. */
static bool mount_temporary(const struct local_inside *inside, struct error **error) {
    int64_t limit = inside->host->options.memory_limit_bytes;
    int64_t size = limit > 0 ? limit / 2 : (int64_t)2 << 30;
    char tmp_size[32];
    char shm_size[32];
    (void)snprintf(tmp_size, sizeof(tmp_size), "%lld", (long long)size);
    (void)snprintf(shm_size, sizeof(shm_size), "%lld", (long long)(size / 8));
    const struct mount_option tmp_options[] = {
        {"mode", "1777"}, {"size", tmp_size}, {"nr_inodes", "1000000"}, {NULL, NULL}};
    const struct mount_option shm_options[] = {
        {"mode", "1777"}, {"size", shm_size}, {"nr_inodes", "100000"}, {NULL, NULL}};
    return mounts_attach_new("tmpfs", tmp_options, FILE_ATTRIBUTES, "tmp", error) &&
           mounts_attach_new("tmpfs", shm_options, DATA_ATTRIBUTES, "dev/shm", error);
}

static bool mount_everything(const struct local_inside *inside, const int *mounts,
                             struct error **error) {
    if (!mount_root(inside, mounts, error)) {
        return false;
    }
    if (chdir(LOCAL_PLACE_ROOT) != 0) {
        return error_set_errno(error, errno, "cannot enter the sandbox's root");
    }
    return mount_kernel_files(mounts, error) && mount_temporary(inside, error) &&
           mounts_pivot(".", error);
}

/* Step 4: descriptors, limits. */

static bool arrange_descriptors(const struct local_inside *inside, struct error **error) {
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    /* Out of the way first, so that no dup2 below hits a source that is still needed. */
    int listen_fd = fcntl(inside->listen_fd, F_DUPFD_CLOEXEC, FIRST_CLOSED_FD);
    int hand_fd = fcntl(inside->host->hand_fd, F_DUPFD_CLOEXEC, FIRST_CLOSED_FD);
    int sync_fd = fcntl(inside->sync_fd, F_DUPFD_CLOEXEC, FIRST_CLOSED_FD);
    if (null_fd < 0 || listen_fd < 0 || hand_fd < 0 || sync_fd < 0 ||
        dup2(null_fd, STDIN_FILENO) < 0 || dup2(null_fd, STDOUT_FILENO) < 0 ||
        dup2(null_fd, STDERR_FILENO) < 0 || dup3(sync_fd, SYNC_FD, O_CLOEXEC) < 0 ||
        dup3(hand_fd, HAND_FD, O_CLOEXEC) < 0 || dup2(listen_fd, LISTEN_FD) < 0) {
        return error_set_errno(error, errno, "cannot arrange the descriptors of hand");
    }
    /* The first null_fd is below FIRST_CLOSED_FD and replaced, or closed here. */
    if (close_range(FIRST_CLOSED_FD, ~0U, 0) != 0) {
        return error_set_errno(error, errno, "cannot close the descriptors of keeper");
    }
    return true;
}

static bool limit_resources(struct error **error) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return error_set_errno(error, errno, "cannot read the limit of open files");
    }
    if (files.rlim_max > OPEN_FILES_LIMIT) {
        files.rlim_max = OPEN_FILES_LIMIT;
    }
    files.rlim_cur = files.rlim_max;
    const struct rlimit no_core = {0, 0};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0 || setrlimit(RLIMIT_CORE, &no_core) != 0) {
        return error_set_errno(error, errno, "cannot set resource limits");
    }
    return true;
}

/* Step 5: privileges, the narrowest last. */

static bool drop_privileges(const struct local_inside *inside, struct error **error) {
    /* landlock_restrict_self(2) wants no_new_privs or CAP_SYS_ADMIN; the latter is there still. */
    return landlock_enter(error) &&
           privileges_keep(capabilities, sizeof(capabilities) / sizeof(capabilities[0]), error) &&
           seccomp_filter_load(inside->host->filter, error);
}

/* Step 6: hand. Nothing of keeper's environment goes with it. */

static bool execute_hand(const struct local_inside *inside, struct error **error) {
    bool is_agent = inside->host->options.agent_is_unprivileged;
    const char *const arguments[] = {
        "hand", "--listen-fd", "3",    "--peer-uid", "65534", is_agent ? "--uid" : NULL,
        "1000", "--gid",       "1000", NULL};
    const char *const environment[] = {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        is_agent ? "HOME=/home/agent" : "HOME=/root",
        is_agent ? "USER=agent" : "USER=root",
        is_agent ? "LOGNAME=agent" : "LOGNAME=root",
        "LANG=C.UTF-8",
        "SHELL=/bin/bash",
        NULL,
    };
    (void)syscall(SYS_execveat, HAND_FD, "", arguments, environment, AT_EMPTY_PATH);
    return error_set_errno(error, errno, "cannot execute hand");
}

/* What keeper ignores would stay ignored in every program that hand starts. */
static void reset_signals(void) {
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        (void)signal(ignored[i], SIG_DFL);
    }
}

static bool receive_mounts(const struct local_inside *inside, int mounts[IO_FDS_LIMIT],
                           struct error **error) {
    char byte = 0;
    size_t count = 0;
    ssize_t length =
        io_receive_with_fds(inside->sync_fd, &byte, sizeof(byte), mounts, &count, error);
    if (length < 0) {
        return false;
    }
    return (length == 1 && count == LOCAL_MOUNTS) ||
           error_set(error, ERROR_CANCELLED, "keeper gave this sandbox up");
}

static bool run(const struct local_inside *inside, int *sync_fd, struct error **error) {
    int mounts[IO_FDS_LIMIT];
    reset_signals();
    if (!enter_remaining_namespaces(inside, error) || !receive_mounts(inside, mounts, error) ||
        !become_root(error) || !mount_everything(inside, mounts, error) ||
        !limit_resources(error) || !arrange_descriptors(inside, error)) {
        return false;
    }
    *sync_fd = SYNC_FD;
    return chdir("/workspace") == 0 ? drop_privileges(inside, error) && execute_hand(inside, error)
                                    : error_set_errno(error, errno, "cannot enter the workspace");
}

void local_inside_run(const struct local_inside *inside) {
    CLEANUP_ERROR struct error *error = NULL;
    int sync_fd = inside->sync_fd;
    (void)run(inside, &sync_fd, &error);
    CLEANUP_FREE char *text = error_text(error);
    (void)send(sync_fd, text, strlen(text), MSG_NOSIGNAL);
    _exit(1);
}
