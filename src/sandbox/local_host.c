/*
 * What all sandboxes share, made once: checks, a sealed copy of hand, the skeleton, the device
 * nodes, the compiled filter; then keeper shuts itself in.
 */
#include "sandbox/local.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "base/io.h"
#include "base/memory.h"
#include "base/random.h"
#include "sandbox/mounts.h"
#include "sandbox/privileges.h"
#include "sandbox/remove_tree.h"

enum { TEXT_LIMIT = 1 << 20, ROOT_MODE = 0755 };

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* Linux 6.3 */
#endif

/*
 * What keeper keeps. SYS_ADMIN: mounts and id maps of mounts. SETUID, SETGID: id maps of user
 * namespaces. CHOWN: workspaces of agents. DAC_OVERRIDE, FOWNER: remove what agents leave, closed
 * and sticky directories among it. Ending hand needs none: keeper owns its user namespace. Each was
 * found needed by running the tests without it.
 */
static const unsigned keeper_capabilities[] = {
    CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER,
};

static const struct {
    const char *name;
    unsigned minor_number;
    unsigned major_number;
} devices[] = {
    {"null", 3, 1},   {"zero", 5, 1},    {"full", 7, 1},
    {"random", 8, 1}, {"urandom", 9, 1}, {"tty", 0, 5},
};

static const struct {
    const char *name;
    const char *target;
} device_links[] = {
    {"ptmx", "pts/ptmx"},          {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
};

/* Checks that need no privilege to fail clearly. */

static bool check_host(struct error **error) {
    if (geteuid() != 0) {
        return error_set(error, ERROR_DENIED,
                         "the local provider needs root (rootless mode is not there yet): start "
                         "holt as root, it drops what it does not need");
    }
    CLEANUP_BUFFER struct buffer limit = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, "/proc/sys/user/max_user_namespaces", &limit, TEXT_LIMIT, NULL) ||
        strtol(buffer_string(&limit), NULL, 10) <= 0) {
        return error_set(error, ERROR_UNSUPPORTED,
                         "this host allows no user namespaces: set the sysctl "
                         "user.max_user_namespaces to 10000 or more");
    }
    CLEANUP_BUFFER struct buffer types = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, "/proc/filesystems", &types, TEXT_LIMIT, error)) {
        return error_wrap(error, "cannot learn the kernel's file systems");
    }
    /* Absent from the list it may still be a module; opening it loads that. */
    if (strstr(buffer_string(&types), "\toverlay\n") == NULL) {
        CLEANUP_CLOSE int overlay_fd = fsopen("overlay", FSOPEN_CLOEXEC);
        if (overlay_fd < 0) {
            return error_set_errno(error, errno,
                                   "this kernel has no overlayfs (try: modprobe overlay)");
        }
    }
    return true;
}

/* overlayfs refuses layers that contain one another, with an error that says nothing. */
static bool check_overlap(const struct keeper_options *options, struct error **error) {
    const char *image = options->root_directory == NULL ? "/usr" : options->root_directory;
    CLEANUP_FREE char *lower = realpath(image, NULL);
    CLEANUP_FREE char *state = realpath(options->state_directory, NULL);
    if (lower == NULL || state == NULL) {
        return error_set_errno(error, errno, "cannot open the root directory %s", image);
    }
    size_t length = strcmp(lower, "/") == 0 ? 0 : strlen(lower);
    if (strncmp(state, lower, length) == 0 && (state[length] == '/' || state[length] == '\0')) {
        return error_set(error, ERROR_INPUT,
                         "the root directory %s must not contain the state "
                         "directory %s",
                         image, options->state_directory);
    }
    return true;
}

/*
 * Takes the lock of a state directory. A daemon that was killed leaves its keeper behind for as
 * long as that takes to destroy its sandboxes: the next daemon waits for it.
 */
static bool wait_for_lock(int fd) {
    enum { PATIENCE_MS = 20000, PAUSE_MS = 20 };
    const struct timespec pause = {.tv_nsec = PAUSE_MS * 1000000L};
    for (int waited_ms = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited_ms += PAUSE_MS) {
        if (waited_ms >= PATIENCE_MS || nanosleep(&pause, NULL) != 0) {
            return false;
        }
    }
    return true;
}

static bool open_state(struct local_host *out, struct error **error) {
    const char *path = out->options.state_directory;
    if (path[0] != '/') {
        return error_set(error, ERROR_INPUT, "the state directory must be an absolute path: %s",
                         path);
    }
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return error_set_errno(error, errno, "cannot make the state directory %s", path);
    }
    out->state_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (out->state_fd < 0) {
        return error_set_errno(error, errno, "cannot open the state directory %s", path);
    }
    out->lock_fd =
        openat(out->state_fd, "keeper.lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out->lock_fd < 0) {
        return error_set_errno(error, errno, "cannot write to the state directory %s", path);
    }
    if (!wait_for_lock(out->lock_fd)) {
        return error_set(error, ERROR_CONFLICT, "another keeper works in the state directory %s",
                         path);
    }
    /* 0700: what agents write lies there with the ids and modes that it has inside, setuid files
     * among it. Nobody but root may reach it by path. */
    if ((mkdirat(out->state_fd, "sandboxes", 0700) != 0 && errno != EEXIST) ||
        fchmodat(out->state_fd, "sandboxes", 0700, 0) != 0) {
        return error_set_errno(error, errno, "cannot write to the state directory %s", path);
    }
    return true;
}

/* The name of our cgroups: stable for a state directory, different for any other. */
static char *group_name(int state_fd) {
    struct stat status;
    if (fstat(state_fd, &status) != 0) {
        abort();
    }
    return memory_format("holt-%llx-%llx", (unsigned long long)status.st_dev,
                         (unsigned long long)status.st_ino);
}

static bool open_groups(struct local_host *out, struct error **error) {
    CLEANUP_BUFFER struct buffer mountinfo = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer own = BUFFER_EMPTY;
    if (!io_read_file(AT_FDCWD, "/proc/self/mountinfo", &mountinfo, TEXT_LIMIT, error) ||
        !io_read_file(AT_FDCWD, "/proc/self/cgroup", &own, TEXT_LIMIT, error)) {
        return false;
    }
    struct cgroup_layout layout;
    cgroup_layout_detect(&layout, buffer_string(&mountinfo), buffer_string(&own));
    CLEANUP_FREE char *name = group_name(out->state_fd);
    const struct cgroup_limits limits = {.values = {
                                             [CGROUP_MEMORY] = out->options.memory_limit_bytes,
                                             [CGROUP_PIDS] = out->options.pids_limit,
                                             [CGROUP_CPU] = out->options.cpu_limit_percent,
                                         }};
    bool is_open = cgroups_open(&out->cgroups, &layout, name, &limits, error);
    cgroup_layout_free(&layout);
    return is_open;
}

/*
 * A sealed copy in memory: nobody can write to what runs. Its mode lets nobody read it either, and
 * so the kernel starts it not dumpable and with its memory owned by the initial user namespace
 * (would_dump() in fs/exec.c): from its first instruction, no capability that a sandbox can have
 * opens /proc/1/mem and its like.
 */
static bool copy_hand(struct local_host *out, struct error **error) {
    const char *path = out->options.hand_path;
    CLEANUP_CLOSE int source_fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (source_fd < 0 || fstat(source_fd, &status) != 0) {
        return error_set_errno(error, errno, "cannot open hand at %s", path);
    }
    CLEANUP_CLOSE int copy_fd = memfd_create("hand", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (copy_fd < 0 && errno == EINVAL) {
        copy_fd = memfd_create("hand", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    }
    off_t offset = 0;
    while (copy_fd >= 0 && offset < status.st_size) {
        ssize_t sent = sendfile(copy_fd, source_fd, &offset, (size_t)(status.st_size - offset));
        if (sent <= 0) {
            return error_set_errno(error, errno, "cannot copy hand from %s", path);
        }
    }
    if (copy_fd < 0 || fchmod(copy_fd, 0111) != 0 ||
        fcntl(copy_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) !=
            0) {
        return error_set_errno(error, errno, "cannot seal the copy of hand");
    }
    /* execveat(2) wants no descriptor that is open for writing (ETXTBSY). */
    char self[64];
    (void)snprintf(self, sizeof(self), "/proc/self/fd/%d", copy_fd);
    out->hand_fd = open(self, O_PATH | O_CLOEXEC);
    return out->hand_fd >= 0 || error_set_errno(error, errno, "cannot open the copy of hand");
}

/* Keeper's own root. */

static bool make_device_nodes(const char *directory, struct error **error) {
    CLEANUP_CLOSE int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(error, errno, "cannot open the directory of devices");
    }
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
        dev_t number = makedev(devices[i].major_number, devices[i].minor_number);
        if (mknodat(fd, devices[i].name, S_IFCHR | 0666, number) != 0 ||
            fchmodat(fd, devices[i].name, 0666, 0) != 0) {
            return error_set_errno(error, errno, "cannot make the device %s", devices[i].name);
        }
    }
    for (size_t i = 0; i < sizeof(device_links) / sizeof(device_links[0]); i++) {
        if (symlinkat(device_links[i].target, fd, device_links[i].name) != 0) {
            return error_set_errno(error, errno, "cannot make the link %s", device_links[i].name);
        }
    }
    if (mkdirat(fd, "pts", 0755) != 0 || mkdirat(fd, "shm", 0755) != 0) {
        return error_set_errno(error, errno, "cannot make the directories of devices");
    }
    return true;
}

static bool bind_source(const char *root, const char *name, const char *source,
                        struct error **error) {
    CLEANUP_FREE char *target = memory_format("%s%s", root, name);
    CLEANUP_CLOSE int mount_fd = mounts_clone(AT_FDCWD, source, 0, -1, error);
    return mount_fd >= 0 && mounts_attach(mount_fd, target, error);
}

static const char *const root_directories[] = {
    "/proc",         LOCAL_STATE,      LOCAL_BASE,       LOCAL_USR,          LOCAL_HOLDER,
    LOCAL_DEVICES,   "/place",         LOCAL_PLACE_BASE, LOCAL_PLACE_HOLDER, LOCAL_PLACE_LAYER,
    LOCAL_PLACE_USR, LOCAL_PLACE_ROOT,
};

static bool fill_keeper_root(const struct local_host *host, const char *root,
                             struct error **error) {
    for (size_t i = 0; i < sizeof(root_directories) / sizeof(root_directories[0]); i++) {
        CLEANUP_FREE char *path = memory_format("%s%s", root, root_directories[i]);
        if (mkdir(path, ROOT_MODE) != 0) {
            return error_set_errno(error, errno, "cannot make the directory %s", path);
        }
    }
    const char *image = host->options.root_directory;
    CLEANUP_FREE char *skeleton =
        memory_format("%s/%s", host->options.state_directory, host->skeleton);
    CLEANUP_FREE char *device_directory = memory_format("%s%s", root, LOCAL_DEVICES);
    const struct mount_option device_options[] = {{"mode", "0755"}, {"size", "64k"}, {NULL, NULL}};
    return bind_source(root, "/proc", "/proc", error) &&
           bind_source(root, LOCAL_STATE, host->options.state_directory, error) &&
           bind_source(root, LOCAL_BASE, image == NULL ? skeleton : image, error) &&
           (image == NULL ? bind_source(root, LOCAL_USR, "/usr", error)
                          : bind_source(root, LOCAL_HOLDER, skeleton, error)) &&
           mounts_attach_new("tmpfs", device_options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
                             device_directory, error) &&
           make_device_nodes(device_directory, error);
}

static bool enter_keeper_root(struct local_host *host, struct error **error) {
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) {
        return error_set_errno(error, errno, "cannot make a mount namespace for keeper");
    }
    /* On top of the state directory, in this namespace only; everything is bound from below it. */
    CLEANUP_FREE char *root = memory_format("%s/sandboxes", host->options.state_directory);
    const struct mount_option options[] = {{"mode", "0755"}, {"size", "64k"}, {NULL, NULL}};
    if (!mounts_attach_new("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, root, error) ||
        !fill_keeper_root(host, root, error) || !mounts_pivot(root, error)) {
        return error_wrap(error, "cannot prepare keeper's own root");
    }
    (void)close(host->state_fd);
    host->state_fd = open(LOCAL_STATE, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    host->sandboxes_fd = open(LOCAL_STATE "/sandboxes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (host->state_fd < 0 || host->sandboxes_fd < 0) {
        return error_set_errno(error, errno, "cannot open the directory of sandboxes");
    }
    return true;
}

static bool drop_privileges(struct error **error) {
    return privileges_keep(keeper_capabilities,
                           sizeof(keeper_capabilities) / sizeof(keeper_capabilities[0]), error) ||
           error_wrap(error, "cannot drop keeper's privileges");
}

/* Makes and destroys one sandbox, so that what this host cannot do is said at start. */
static bool try_out(struct local_host *host, struct error **error) {
    int connection = -1;
    struct local_sandbox *sandbox = local_create(host, LOCAL_PROBE_ID, &connection, error);
    if (connection >= 0) {
        (void)close(connection);
    }
    return (sandbox != NULL && local_destroy(host, sandbox, error)) ||
           error_wrap(error, "this host cannot run a sandbox");
}

bool local_host_open(struct local_host *out, const struct keeper_options *options,
                     struct error **error) {
    *out = (struct local_host){.options = *options,
                               .has_own_usr = options->root_directory == NULL,
                               .state_fd = -1,
                               .sandboxes_fd = -1,
                               .lock_fd = -1,
                               .hand_fd = -1};
    LIST_INIT(&out->sandboxes);
    out->ids.directory_fd = -1;
    if (!check_host(error) || !open_state(out, error) || !check_overlap(options, error) ||
        !ids_open(&out->ids, "/run", error) || !open_groups(out, error)) {
        return false;
    }
    out->sandboxes_fd = openat(out->state_fd, "sandboxes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!local_sweep(out, error)) {
        return false;
    }
    (void)close(out->sandboxes_fd);
    out->filter = seccomp_filter_new(error);
    CLEANUP_FREE char *skeleton = random_id("skeleton-");
    (void)snprintf(out->skeleton, sizeof(out->skeleton), "%s", skeleton);
    return out->filter != NULL && copy_hand(out, error) &&
           local_root_build(out->state_fd, out->skeleton, out->has_own_usr, error) &&
           enter_keeper_root(out, error) && drop_privileges(error) && try_out(out, error);
}

void local_host_close(struct local_host *host) {
    struct local_sandbox *sandbox = LIST_FIRST(&host->sandboxes);
    while (sandbox != NULL) {
        (void)local_destroy(host, sandbox, NULL);
        sandbox = LIST_FIRST(&host->sandboxes);
    }
    bool is_complete = false;
    if (host->state_fd >= 0 && host->skeleton[0] != '\0') {
        (void)remove_tree(host->state_fd, host->skeleton, -1, &is_complete, NULL);
    }
    cgroups_close(&host->cgroups);
    ids_close(&host->ids);
    seccomp_filter_free(host->filter);
}

void local_host_leave(struct local_host *host) {
    bool is_unused = !local_skeleton_is_used(host, host->skeleton);
    while (!LIST_EMPTY(&host->sandboxes)) {
        struct local_sandbox *sandbox = LIST_FIRST(&host->sandboxes);
        LIST_REMOVE(sandbox, link);
        (void)close(sandbox->pidfd);
        free(sandbox);
    }
    bool is_complete = false;
    if (is_unused && host->state_fd >= 0 && host->skeleton[0] != '\0') {
        (void)remove_tree(host->state_fd, host->skeleton, -1, &is_complete, NULL);
    }
    cgroups_close(&host->cgroups);
    ids_close(&host->ids);
    seccomp_filter_free(host->filter);
}
