/*
 * Control groups under cgroup v2, under v1, and under the hybrid of both.
 *
 * Keeper owns one group a hierarchy, named after its state directory, with one group a sandbox in
 * it. Sources: cgroups(7), Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
 */
#ifndef HOLT_SANDBOX_CGROUP_H
#define HOLT_SANDBOX_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "sandbox/sandbox.h"

enum cgroup_controller { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU, CGROUP_CONTROLLER_COUNT };

/* Where the hierarchies are. A controller without a v1 directory can only be on the v2 side. */
struct cgroup_layout {
    char *v2_directory;                            /* the root of the v2 mount, or NULL */
    char *v1_directories[CGROUP_CONTROLLER_COUNT]; /* our own group there, or NULL */
};

/* Reads the texts of /proc/self/mountinfo and /proc/self/cgroup (proc_pid_mountinfo(5)). */
void cgroup_layout_detect(struct cgroup_layout *out, const char *mountinfo, const char *own_groups);
void cgroup_layout_free(struct cgroup_layout *layout);

enum { CGROUP_HIERARCHY_LIMIT = CGROUP_CONTROLLER_COUNT + 1 };

struct cgroup_limits {
    int64_t values[CGROUP_CONTROLLER_COUNT]; /* bytes, processes, percent of one CPU; 0: none */
};

struct cgroup_hierarchy {
    int parent_fd; /* where keeper's group is */
    int fd;        /* keeper's group */
    bool is_v2;
    bool has[CGROUP_CONTROLLER_COUNT];
};

struct cgroups {
    struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHY_LIMIT];
    size_t count;
    struct cgroup_limits limits;
    char *name;
};

/* What a new process needs to be in its group: made by cgroups_create, closed by the caller. */
struct cgroup_entry {
    int v2_fd;                            /* for CLONE_INTO_CGROUP; -1: there is no v2 */
    int task_fds[CGROUP_HIERARCHY_LIMIT]; /* v1: the process writes "0" to each, once */
    size_t task_count;
};

/* Opens the layout and makes keeper's groups. A limit that no controller can keep is an error. */
bool cgroups_open(struct cgroups *out, const struct cgroup_layout *layout, const char *name,
                  const struct cgroup_limits *limits, struct error **error);
/* Removes keeper's own groups (they must be empty) and closes. */
void cgroups_close(struct cgroups *cgroups);

bool cgroups_create(const struct cgroups *cgroups, const char *id, struct cgroup_entry *entry,
                    struct error **error);
/* Moves the calling process; the descriptors may have been opened by a more privileged one. */
bool cgroup_entry_join(const struct cgroup_entry *entry, struct error **error);
void cgroup_entry_close(struct cgroup_entry *entry);
/* Whether the process is in the sandbox's group, which it cannot leave or enter by itself. */
bool cgroups_contain(const struct cgroups *cgroups, const char *id, pid_t pid);
/* Sends SIGKILL to everything in the sandbox's groups. */
void cgroups_kill(const struct cgroups *cgroups, const char *id);
/* Removes the sandbox's groups, waiting a bounded time for dying processes to leave. */
bool cgroups_destroy(const struct cgroups *cgroups, const char *id, struct error **error);
void cgroups_measure(const struct cgroups *cgroups, const char *id, struct sandbox_usage *out);
/* Calls `each` for every sandbox that has a group in any hierarchy; it may remove that group. */
void cgroups_each(const struct cgroups *cgroups, void (*each)(void *context, const char *id),
                  void *context);

#endif
