/*
 * One group a sandbox in every hierarchy that can limit or measure it.
 *
 * A process enters v2 at birth (CLONE_INTO_CGROUP) and v1 by writing "0" to `tasks` itself: both
 * spare the migration of a thread group, which waits for an RCU grace period.
 */
#include "sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"

enum {
    CPU_PERIOD_US = 100000,
    REMOVE_ATTEMPTS = 2000, /* of 1 ms: how long dying processes may stay */
    FILE_LIMIT = 65536,
    PROCESS_LIST_LIMIT = 1048576,
    PATH_SIZE = 320,
};

static const struct {
    const char *name;
    const char *v1_limit;
    const char *v2_limit;
} controllers[CGROUP_CONTROLLER_COUNT] = {
    [CGROUP_MEMORY] = {"memory", "memory.limit_in_bytes", "memory.max"},
    [CGROUP_PIDS] = {"pids", "pids.max", "pids.max"},
    [CGROUP_CPU] = {"cpu", "cpu.cfs_quota_us", "cpu.max"},
};

static bool write_file(int dir_fd, const char *path, const char *text, struct error **error) {
    CLEANUP_CLOSE int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        return error_set_errno(error, errno, "cannot write the cgroup file %s", path);
    }
    return true;
}

static int64_t read_number(int dir_fd, const char *path, const char *key) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (!io_read_file(dir_fd, path, &text, FILE_LIMIT, NULL)) {
        return -1;
    }
    const char *at = key == NULL ? buffer_string(&text) : strstr(buffer_string(&text), key);
    if (at == NULL) {
        return -1;
    }
    at += key == NULL ? 0 : strlen(key);
    char *end = NULL;
    long long value = strtoll(at, &end, 10);
    return end == at ? -1 : value;
}

static struct cgroup_hierarchy *find_directory(struct cgroups *out, const char *path) {
    struct stat wanted;
    for (size_t i = 0; stat(path, &wanted) == 0 && i < out->count; i++) {
        struct stat present;
        if (fstat(out->hierarchies[i].parent_fd, &present) == 0 &&
            present.st_dev == wanted.st_dev && present.st_ino == wanted.st_ino) {
            return &out->hierarchies[i];
        }
    }
    return NULL;
}

/* Opens a hierarchy and makes keeper's group in it; co-mounted controllers share one. */
static struct cgroup_hierarchy *add_hierarchy(struct cgroups *out, const char *path, bool is_v2,
                                              struct error **error) {
    struct cgroup_hierarchy *known = find_directory(out, path);
    if (known != NULL) {
        return known;
    }
    CLEANUP_CLOSE int parent_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent_fd < 0 || (mkdirat(parent_fd, out->name, 0755) != 0 && errno != EEXIST)) {
        (void)error_set_errno(error, errno, "cannot make the cgroup %s/%s", path, out->name);
        return NULL;
    }
    CLEANUP_CLOSE int fd = openat(parent_fd, out->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        (void)error_set_errno(error, errno, "cannot open the cgroup %s/%s", path, out->name);
        return NULL;
    }
    struct cgroup_hierarchy *hierarchy = &out->hierarchies[out->count++];
    *hierarchy = (struct cgroup_hierarchy){
        .parent_fd = STEAL_FD(parent_fd), .fd = STEAL_FD(fd), .is_v2 = is_v2};
    return hierarchy;
}

/* Switches a v2 controller on for keeper's group and for the sandboxes in it. */
static bool enable_controller(const struct cgroup_hierarchy *v2, const char *name) {
    char word[32];
    (void)snprintf(word, sizeof(word), "+%s", name);
    (void)write_file(v2->parent_fd, "cgroup.subtree_control", word, NULL);
    return write_file(v2->fd, "cgroup.subtree_control", word, NULL);
}

bool cgroups_open(struct cgroups *out, const struct cgroup_layout *layout, const char *name,
                  const struct cgroup_limits *limits, struct error **error) {
    *out = (struct cgroups){.limits = *limits, .name = memory_string(name)};
    struct cgroup_hierarchy *v2 = NULL;
    if (layout->v2_directory != NULL) {
        v2 = add_hierarchy(out, layout->v2_directory, true, error);
        if (v2 == NULL) {
            return false;
        }
    }
    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
        if (layout->v1_directories[i] != NULL) {
            struct cgroup_hierarchy *v1 =
                add_hierarchy(out, layout->v1_directories[i], false, error);
            if (v1 == NULL) {
                return false;
            }
            v1->has[i] = true;
        } else if (v2 != NULL && enable_controller(v2, controllers[i].name)) {
            v2->has[i] = true;
        } else if (limits->values[i] > 0) {
            return error_set(error, ERROR_UNSUPPORTED,
                             "a %s limit is asked for, but this host offers no %s cgroup "
                             "controller here; mount or delegate it, or set the limit to 0",
                             controllers[i].name, controllers[i].name);
        }
    }
    return true;
}

void cgroups_close(struct cgroups *cgroups) {
    for (size_t i = 0; i < cgroups->count; i++) {
        (void)unlinkat(cgroups->hierarchies[i].parent_fd, cgroups->name, AT_REMOVEDIR);
        (void)close(cgroups->hierarchies[i].fd);
        (void)close(cgroups->hierarchies[i].parent_fd);
    }
    free(cgroups->name);
    *cgroups = (struct cgroups){0};
}

static bool set_limit(const struct cgroup_hierarchy *hierarchy, int group_fd,
                      enum cgroup_controller controller, int64_t value, struct error **error) {
    char text[64];
    (void)snprintf(text, sizeof(text), "%" PRId64, value);
    if (controller == CGROUP_CPU) {
        int64_t quota = value > 1000000 ? CPU_PERIOD_US * 10000LL : value * CPU_PERIOD_US / 100;
        (void)snprintf(text, sizeof(text), hierarchy->is_v2 ? "%" PRId64 " 100000" : "%" PRId64,
                       quota);
    }
    if (hierarchy->is_v2 && controller == CGROUP_MEMORY) {
        /* Else the limit only moves the sandbox into the host's swap; absent without swap. */
        (void)write_file(group_fd, "memory.swap.max", "0", NULL);
    }
    return write_file(group_fd,
                      hierarchy->is_v2 ? controllers[controller].v2_limit
                                       : controllers[controller].v1_limit,
                      text, error);
}

static bool create_in(const struct cgroups *cgroups, const struct cgroup_hierarchy *hierarchy,
                      const char *id, struct cgroup_entry *entry, struct error **error) {
    if (mkdirat(hierarchy->fd, id, 0755) != 0) {
        return error_set_errno(error, errno, "cannot make a cgroup for the sandbox");
    }
    CLEANUP_CLOSE int group_fd = openat(hierarchy->fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (group_fd < 0) {
        return error_set_errno(error, errno, "cannot open the sandbox's cgroup");
    }
    for (size_t i = 0; i < CGROUP_CONTROLLER_COUNT; i++) {
        if (hierarchy->has[i] && cgroups->limits.values[i] > 0 &&
            !set_limit(hierarchy, group_fd, (enum cgroup_controller)i, cgroups->limits.values[i],
                       error)) {
            return false;
        }
    }
    if (hierarchy->is_v2) {
        entry->v2_fd = STEAL_FD(group_fd);
        return true;
    }
    int task_fd = openat(group_fd, "tasks", O_WRONLY | O_CLOEXEC);
    if (task_fd < 0) {
        return error_set_errno(error, errno, "cannot open the sandbox's cgroup");
    }
    entry->task_fds[entry->task_count++] = task_fd;
    return true;
}

bool cgroups_create(const struct cgroups *cgroups, const char *id, struct cgroup_entry *entry,
                    struct error **error) {
    *entry = (struct cgroup_entry){.v2_fd = -1};
    for (size_t i = 0; i < cgroups->count; i++) {
        if (!create_in(cgroups, &cgroups->hierarchies[i], id, entry, error)) {
            return false;
        }
    }
    return true;
}

bool cgroup_entry_join(const struct cgroup_entry *entry, struct error **error) {
    for (size_t i = 0; i < entry->task_count; i++) {
        if (write(entry->task_fds[i], "0", 1) != 1) {
            return error_set_errno(error, errno, "cannot enter the sandbox's cgroup");
        }
    }
    return true;
}

void cgroup_entry_close(struct cgroup_entry *entry) {
    if (entry->v2_fd >= 0) {
        (void)close(entry->v2_fd);
    }
    for (size_t i = 0; i < entry->task_count; i++) {
        (void)close(entry->task_fds[i]);
    }
    *entry = (struct cgroup_entry){.v2_fd = -1};
}

static int group_file(const struct cgroup_hierarchy *hierarchy, const char *id, const char *file,
                      char path[PATH_SIZE]) {
    (void)snprintf(path, PATH_SIZE, "%s/%s", id, file);
    return hierarchy->fd;
}

bool cgroups_contain(const struct cgroups *cgroups, const char *id, pid_t pid) {
    for (size_t i = 0; i < cgroups->count; i++) {
        char path[PATH_SIZE];
        CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
        int dir_fd = group_file(&cgroups->hierarchies[i], id, "cgroup.procs", path);
        if (!io_read_file(dir_fd, path, &text, PROCESS_LIST_LIMIT, NULL)) {
            return false;
        }
        bool is_listed = false;
        char *rest = text.data;
        for (char *line = strsep(&rest, "\n"); line != NULL && !is_listed;
             line = strsep(&rest, "\n")) {
            is_listed = *line != '\0' && strtol(line, NULL, 10) == (long)pid;
        }
        if (!is_listed) {
            return false;
        }
    }
    return cgroups->count > 0;
}

static void kill_listed(const struct cgroup_hierarchy *hierarchy, const char *id) {
    char path[PATH_SIZE];
    int dir_fd = group_file(hierarchy, id, "cgroup.procs", path);
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    if (!io_read_file(dir_fd, path, &text, PROCESS_LIST_LIMIT, NULL)) {
        return;
    }
    char *rest = text.data;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        long pid = strtol(line, NULL, 10);
        if (pid > 1) {
            (void)kill((pid_t)pid, SIGKILL);
        }
    }
}

void cgroups_kill(const struct cgroups *cgroups, const char *id) {
    for (size_t i = 0; i < cgroups->count; i++) {
        char path[PATH_SIZE];
        const struct cgroup_hierarchy *hierarchy = &cgroups->hierarchies[i];
        int dir_fd = group_file(hierarchy, id, "cgroup.kill", path);
        /* cgroup.kill: v2 since Linux 5.14. */
        if (!hierarchy->is_v2 || !write_file(dir_fd, path, "1", NULL)) {
            kill_listed(hierarchy, id);
        }
    }
}

bool cgroups_destroy(const struct cgroups *cgroups, const char *id, struct error **error) {
    for (size_t i = 0; i < cgroups->count; i++) {
        int attempts = 0;
        while (unlinkat(cgroups->hierarchies[i].fd, id, AT_REMOVEDIR) != 0 && errno != ENOENT) {
            if (errno != EBUSY || ++attempts > REMOVE_ATTEMPTS) {
                return error_set_errno(error, errno, "cannot remove the sandbox's cgroup");
            }
            (void)usleep(1000);
        }
    }
    return true;
}

void cgroups_measure(const struct cgroups *cgroups, const char *id, struct sandbox_usage *out) {
    *out = (struct sandbox_usage){-1, -1, -1};
    char path[PATH_SIZE];
    for (size_t i = 0; i < cgroups->count; i++) {
        const struct cgroup_hierarchy *at = &cgroups->hierarchies[i];
        if (at->has[CGROUP_MEMORY]) {
            const char *file = at->is_v2 ? "memory.current" : "memory.usage_in_bytes";
            out->memory_bytes = read_number(group_file(at, id, file, path), path, NULL);
        }
        if (at->has[CGROUP_PIDS]) {
            out->process_count = read_number(group_file(at, id, "pids.current", path), path, NULL);
        }
        if (at->is_v2) { /* cpu.stat is there with or without the cpu controller */
            out->cpu_us = read_number(group_file(at, id, "cpu.stat", path), path, "usage_usec ");
        }
    }
}

void cgroups_each(const struct cgroups *cgroups, void (*each)(void *context, const char *id),
                  void *context) {
    for (size_t i = 0; i < cgroups->count; i++) {
        int fd = openat(cgroups->hierarchies[i].fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CLEANUP_DIR DIR *directory = fd < 0 ? NULL : fdopendir(fd);
        struct dirent *entry = NULL;
        while (directory != NULL && (entry = readdir(directory)) != NULL) {
            if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
                each(context, entry->d_name);
            }
        }
    }
}
