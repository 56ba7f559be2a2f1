/*
 * A sandbox from nothing to a running hand. Keeper and the new process work side by side: the
 * child makes its network while keeper maps ids and copies mounts.
 */
#include "sandbox/local.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/memory.h"
#include "sandbox/mounts.h"
#include "sandbox/remove_tree.h"

#define RECORD_FORMAT "ids %u\nhand %d\nskeleton %s\n"

enum { LISTEN_BACKLOG = 16, MESSAGE_SIZE = 1024, PATH_SIZE = 128, SETUP_TIMEOUT_S = 30 };

/* The parts of a sandbox in the making; what was not handed on is undone at the end. */
struct making {
    struct local_host *host;
    struct local_sandbox *sandbox;
    int directory_fd;
    int listen_fd;
    int sync_fds[2]; /* keeper's end, the child's end */
    struct cgroup_entry groups;
};

/* What an unprivileged agent could not make itself: /workspace is there, memory stores follow. */
static bool make_agents_own(const struct making *making, struct error **error) {
    static const char *const owned[] = {"layer/root/workspace", "layer/root/mnt/memory"};
    bool is_made = mkdirat(making->directory_fd, "layer/root/mnt", 0755) == 0 &&
                   mkdirat(making->directory_fd, owned[1], 0755) == 0;
    for (size_t i = 0; is_made && i < sizeof(owned) / sizeof(owned[0]); i++) {
        is_made = fchownat(making->directory_fd, owned[i], LOCAL_AGENT_ID, LOCAL_AGENT_ID,
                           AT_SYMLINK_NOFOLLOW) == 0;
    }
    return is_made ||
           error_set_errno(error, errno, "cannot give the agent its workspace and /mnt/memory");
}

static bool make_directories(struct making *making, struct error **error) {
    static const char *const names[] = {"layer",     "layer/root",     "layer/root-work",
                                        "layer/usr", "layer/usr-work", "layer/root/workspace"};
    const char *id = making->sandbox->id;
    if (mkdirat(making->host->sandboxes_fd, id, 0700) != 0) {
        return error_set_errno(error, errno, "cannot make the directory of the sandbox");
    }
    making->directory_fd =
        openat(making->host->sandboxes_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (making->directory_fd < 0 || mkdirat(making->directory_fd, names[i], 0755) != 0) {
            return error_set_errno(error, errno, "cannot make the directories of the sandbox");
        }
    }
    return !making->host->options.agent_is_unprivileged || make_agents_own(making, error);
}

/* The address of hand.sock below /proc/self/fd: short, however long the state directory's name. */
static struct sockaddr_un socket_address(int directory_fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/hand.sock",
                   directory_fd);
    return address;
}

static bool make_sockets(struct making *making, struct error **error) {
    making->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = socket_address(making->directory_fd);
    if (making->listen_fd < 0 ||
        bind(making->listen_fd, (const struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(making->listen_fd, LISTEN_BACKLOG) != 0) {
        return error_set_errno(error, errno, "cannot listen for the sandbox's hand");
    }
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, making->sync_fds) != 0) {
        return error_set_errno(error, errno, "cannot make a socket pair");
    }
    /* A set-up that hangs must not hang keeper. */
    const struct timeval patience = {.tv_sec = SETUP_TIMEOUT_S};
    if (setsockopt(making->sync_fds[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) !=
        0) {
        return error_set_errno(error, errno, "cannot bound the time of the set-up");
    }
    return true;
}

static bool start_process(struct making *making, struct error **error) {
    struct clone_args arguments = {
        .flags =
            CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_PIDFD,
        .pidfd = (__u64)(uintptr_t)&making->sandbox->pidfd,
        .exit_signal = SIGCHLD,
    };
    if (making->groups.v2_fd >= 0) {
        arguments.flags |= CLONE_INTO_CGROUP; /* Linux 5.7 */
        arguments.cgroup = (__u64)making->groups.v2_fd;
    }
    long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid == 0) {
        const struct local_inside inside = {.host = making->host,
                                            .groups = &making->groups,
                                            .listen_fd = making->listen_fd,
                                            .sync_fd = making->sync_fds[1]};
        (void)close(making->sync_fds[0]);
        local_inside_run(&inside);
    }
    if (pid < 0) {
        return error_set_errno(error, errno, "cannot make the namespaces of the sandbox");
    }
    making->sandbox->hand_pid = (pid_t)pid;
    (void)close(making->sync_fds[1]);
    making->sync_fds[1] = -1;
    return true;
}

/* For a later keeper: which ids and which process this sandbox has, and what its root lies on. It
 * is there only when the sandbox is complete. */
static bool write_record(const struct making *making, struct error **error) {
    char text[PATH_SIZE];
    int length = snprintf(text, sizeof(text), RECORD_FORMAT, making->sandbox->ids_base,
                          (int)making->sandbox->hand_pid, making->sandbox->skeleton);
    CLEANUP_CLOSE int fd = openat(making->directory_fd, "record",
                                  O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return error_set_errno(error, errno, "cannot write the record of the sandbox");
    }
    return io_write_all(fd, text, (size_t)length, error);
}

static bool write_map(const struct making *making, const char *file, struct error **error) {
    char path[PATH_SIZE];
    char text[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)making->sandbox->hand_pid, file);
    int length =
        snprintf(text, sizeof(text), "0 %u %d\n", making->sandbox->ids_base, (int)IDS_PER_SANDBOX);
    CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, (size_t)length) != length) {
        return error_set_errno(error, errno, "cannot map the ids of the sandbox");
    }
    return true;
}

static int open_user_namespace(const struct making *making, struct error **error) {
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof(path), "/proc/%d/ns/user", (int)making->sandbox->hand_pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)error_set_errno(error, errno, "cannot open the user namespace of the sandbox");
    }
    return fd;
}

static void close_all(int (*fds)[LOCAL_MOUNTS]) {
    for (size_t i = 0; i < LOCAL_MOUNTS; i++) {
        if ((*fds)[i] >= 0) {
            (void)close((*fds)[i]);
        }
    }
}

/*
 * The layers as the sandbox may see them: each a copy of a mount in which host id 0 is the
 * sandbox's id 0, and so on. On disk the writable layer keeps the ids of inside, which lets a
 * snapshot be used by a sandbox with another range.
 */
static bool send_mounts(const struct making *making, struct error **error) {
    CLEANUP_CLOSE int user_fd = open_user_namespace(making, error);
    if (user_fd < 0) {
        return false;
    }
    CLEANUP(close_all)
    int fds[LOCAL_MOUNTS] = {-1, -1, -1, -1};
    const uint64_t plain = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    const uint64_t lower = plain | MOUNT_ATTR_RDONLY;
    const char *extra = making->host->has_own_usr ? LOCAL_USR : LOCAL_HOLDER;
    fds[LOCAL_MOUNT_LAYER] = mounts_clone(making->directory_fd, "layer", plain, user_fd, error);
    if (fds[LOCAL_MOUNT_LAYER] < 0) {
        return false;
    }
    fds[LOCAL_MOUNT_BASE] = mounts_clone(AT_FDCWD, LOCAL_BASE, lower, user_fd, error);
    if (fds[LOCAL_MOUNT_BASE] < 0) {
        return false;
    }
    fds[LOCAL_MOUNT_EXTRA] = mounts_clone(AT_FDCWD, extra, lower, user_fd, error);
    if (fds[LOCAL_MOUNT_EXTRA] < 0) {
        return false;
    }
    const uint64_t device = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_RDONLY;
    /* tmpfs can be id-mapped since Linux 6.3; before, the nodes look owned by nobody. */
    fds[LOCAL_MOUNT_DEVICES] = mounts_clone(AT_FDCWD, LOCAL_DEVICES, device, user_fd, NULL);
    if (fds[LOCAL_MOUNT_DEVICES] < 0) {
        fds[LOCAL_MOUNT_DEVICES] = mounts_clone(AT_FDCWD, LOCAL_DEVICES, device, -1, error);
    }
    return fds[LOCAL_MOUNT_DEVICES] >= 0 &&
           io_send_with_fds(making->sync_fds[0], "m", 1, fds, LOCAL_MOUNTS, error);
}

/* The child's end closes when it executes hand; before that it says what went wrong. */
static bool wait_until_executed(const struct making *making, struct error **error) {
    char message[MESSAGE_SIZE];
    ssize_t length = -1;
    do {
        length = recv(making->sync_fds[0], message, sizeof(message) - 1, 0);
    } while (length < 0 && errno == EINTR);
    if (length < 0) {
        return error_set_errno(error, errno, "cannot hear from the new sandbox");
    }
    if (length > 0) {
        message[length] = '\0';
        return error_set(error, ERROR_UNAVAILABLE, "%s", message);
    }
    return true;
}

static int connect_hand(int directory_fd, struct error **error) {
    CLEANUP_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = socket_address(directory_fd);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
        (void)error_set_errno(error, errno, "cannot connect to the sandbox's hand");
        return -1;
    }
    return STEAL_FD(fd);
}

/* A moment in the middle of a creation at which a test may end or fail it. */
static bool passes(const char *point, struct error **error) {
    (void)point; /* compiled out without fault points */
    return !FAULT_FAILS(point) || error_set(error, ERROR_UNAVAILABLE, "fault %s", point);
}

static bool make(struct making *making, int *connection, struct error **error) {
    struct local_sandbox *sandbox = making->sandbox;
    struct local_host *host = making->host;
    CLEANUP_FREE char *holder =
        memory_format("%s/sandboxes/%s", host->options.state_directory, sandbox->id);
    if (!make_directories(making, error) || !passes("keeper.create.directory", error) ||
        !ids_take(&host->ids, holder, &sandbox->ids_base, error) ||
        !cgroups_create(&host->cgroups, sandbox->id, &making->groups, error) ||
        !make_sockets(making, error) || !start_process(making, error) ||
        !passes("keeper.create.process", error) || !write_map(making, "uid_map", error) ||
        !write_map(making, "gid_map", error) || !send_mounts(making, error) ||
        !wait_until_executed(making, error) || !passes("keeper.create.record", error) ||
        !write_record(making, error)) {
        return false;
    }
    *connection = connect_hand(making->directory_fd, error);
    return *connection >= 0;
}

static void cleanup_making(struct making *making) {
    const int fds[] = {making->directory_fd, making->listen_fd, making->sync_fds[0],
                       making->sync_fds[1]};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0) {
            (void)close(fds[i]);
        }
    }
    cgroup_entry_close(&making->groups);
}

struct local_sandbox *local_create(struct local_host *host, const char *id, int *connection,
                                   struct error **error) {
    int64_t begun_us = clock_monotonic_us();
    if (local_find(host, id) != NULL) {
        (void)error_set(error, ERROR_CONFLICT, "there is a sandbox %s already", id);
        return NULL;
    }
    struct local_sandbox *sandbox = memory_new(struct local_sandbox);
    (void)snprintf(sandbox->id, sizeof(sandbox->id), "%s", id);
    (void)snprintf(sandbox->skeleton, sizeof(sandbox->skeleton), "%s", host->skeleton);
    sandbox->pidfd = -1;
    LIST_INSERT_HEAD(&host->sandboxes, sandbox, link);
    CLEANUP(cleanup_making)
    struct making making = {.host = host,
                            .sandbox = sandbox,
                            .directory_fd = -1,
                            .listen_fd = -1,
                            .sync_fds = {-1, -1},
                            .groups = {.v2_fd = -1}};
    if (!make(&making, connection, error)) {
        /* The child first, should it wait for us. */
        cleanup_making(&making);
        making = (struct making){
            .directory_fd = -1, .listen_fd = -1, .sync_fds = {-1, -1}, .groups = {.v2_fd = -1}};
        (void)local_destroy(host, sandbox, NULL);
        (void)error_wrap(error, "cannot create the sandbox %s", id);
        return NULL;
    }
    sandbox->created_us = clock_monotonic_us() - begun_us;
    return sandbox;
}

struct local_sandbox *local_find(const struct local_host *host, const char *id) {
    struct local_sandbox *sandbox = NULL;
    LIST_FOREACH(sandbox, &host->sandboxes, link) {
        if (strcmp(sandbox->id, id) == 0) {
            return sandbox;
        }
    }
    return NULL;
}

struct local_sandbox *local_next(const struct local_host *host, const char *after) {
    struct local_sandbox *next = NULL;
    struct local_sandbox *sandbox = NULL;
    LIST_FOREACH(sandbox, &host->sandboxes, link) {
        if (strcmp(sandbox->id, after) > 0 && (next == NULL || strcmp(sandbox->id, next->id) < 0)) {
            next = sandbox;
        }
    }
    return next;
}

static bool has_ended(int pidfd) {
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    return poll(&end, 1, 0) != 0;
}

int local_connect(const struct local_host *host, const struct local_sandbox *sandbox,
                  struct error **error) {
    CLEANUP_CLOSE int directory_fd =
        openat(host->sandboxes_fd, sandbox->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory_fd < 0 || has_ended(sandbox->pidfd)) {
        (void)error_set(error, ERROR_NOT_FOUND, "the processes of the sandbox %s have ended",
                        sandbox->id);
        return -1;
    }
    return connect_hand(directory_fd, error);
}

/* The value of a line "name value"; NULL when the record has no such line. */
static char *record_value(const char *text, const char *name) {
    size_t length = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        size_t line_length = strcspn(line, "\n");
        if (line_length > length && strncmp(line, name, length) == 0 && line[length] == ' ') {
            return memory_string_n(line + length + 1, line_length - length - 1);
        }
        line += line_length + (line[line_length] == '\n' ? 1 : 0);
    }
    return NULL;
}

static bool record_number(const char *text, const char *name, unsigned long most,
                          unsigned long *out) {
    CLEANUP_FREE char *value = record_value(text, name);
    char *end = NULL;
    errno = 0;
    *out = value == NULL ? 0 : strtoul(value, &end, 10);
    return *out > 0 && *out <= most && errno == 0 && *end == '\0';
}

static bool read_record(const struct local_host *host, const char *id, struct local_sandbox *out) {
    CLEANUP_FREE char *path = memory_format("%s/record", id);
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    unsigned long ids_base = 0;
    unsigned long pid = 0;
    if (!io_read_file(host->sandboxes_fd, path, &text, PATH_SIZE, NULL) ||
        !record_number(buffer_string(&text), "ids", UINT32_MAX, &ids_base) ||
        !record_number(buffer_string(&text), "hand", INT32_MAX, &pid) || pid == 1) {
        return false;
    }
    CLEANUP_FREE char *skeleton = record_value(buffer_string(&text), "skeleton");
    if (skeleton == NULL || strlen(skeleton) >= sizeof(out->skeleton)) {
        return false;
    }
    *out =
        (struct local_sandbox){.ids_base = (uint32_t)ids_base, .hand_pid = (pid_t)pid, .pidfd = -1};
    (void)snprintf(out->id, sizeof(out->id), "%s", id);
    (void)snprintf(out->skeleton, sizeof(out->skeleton), "%s", skeleton);
    return true;
}

/*
 * The recorded number may be another process by now. It is hand if it is in the sandbox's group:
 * what is there either is hand or descends from it, and does not outlive it.
 */
struct local_sandbox *local_adopt(struct local_host *host, const char *id) {
    struct local_sandbox found;
    if (!read_record(host, id, &found)) {
        return NULL;
    }
    CLEANUP_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, found.hand_pid, 0);
    if (pidfd < 0 || !cgroups_contain(&host->cgroups, id, found.hand_pid) || has_ended(pidfd)) {
        return NULL;
    }
    struct local_sandbox *sandbox = memory_new(struct local_sandbox);
    *sandbox = found;
    sandbox->pidfd = STEAL_FD(pidfd);
    LIST_INSERT_HEAD(&host->sandboxes, sandbox, link);
    return sandbox;
}
