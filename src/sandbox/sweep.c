/*
 * After another keeper: the state directory and the groups say what there was. What lives is
 * adopted where sandboxes are kept; all else goes.
 *
 * Processes are found by their group, which they cannot leave, and never by a recorded number
 * alone, which may be another process by now. Mounts need no sweep: they were in the sandboxes' own
 * mount namespaces and in keeper's.
 */
#include "sandbox/local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "sandbox/keeper_protocol.h"
#include "sandbox/remove_tree.h"

#define LOG_ROOM "keeper"
#include "base/log.h"

struct sweep {
    struct local_host *host;
    struct error **error;
    unsigned adopted_count;
    unsigned removed_count;
    bool has_failed;
};

static void adopt_or_remove(void *context, const char *id) {
    struct sweep *sweep = context;
    if (!keeper_id_is_valid(id) || sweep->has_failed || local_find(sweep->host, id) != NULL) {
        return;
    }
    bool is_probe = strcmp(id, LOCAL_PROBE_ID) == 0;
    if (sweep->host->options.keeps_sandboxes && !is_probe && local_adopt(sweep->host, id) != NULL) {
        sweep->adopted_count++;
        return;
    }
    if (!local_destroy_remains(sweep->host, id, sweep->error)) {
        (void)error_wrap(sweep->error, "cannot remove what is left of the sandbox %s", id);
        sweep->has_failed = true;
        return;
    }
    sweep->removed_count++;
}

/* Each keeper made its own skeleton; those that no living sandbox lies on go. */
static void remove_skeleton(void *context, const char *name) {
    struct sweep *sweep = context;
    bool is_complete = false;
    if (strncmp(name, "skeleton", strlen("skeleton")) == 0 &&
        !local_skeleton_is_used(sweep->host, name) && !sweep->has_failed &&
        !remove_tree(sweep->host->state_fd, name, -1, &is_complete, sweep->error)) {
        sweep->has_failed = true;
    }
}

static bool each_entry(struct sweep *sweep, int directory_fd,
                       void (*each)(void *context, const char *name)) {
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_DIR DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        return error_set_errno(sweep->error, errno, "cannot list the state directory");
    }
    struct dirent *entry = NULL;
    while ((entry = readdir(directory)) != NULL) {
        each(sweep, entry->d_name);
    }
    return !sweep->has_failed;
}

bool local_skeleton_is_used(const struct local_host *host, const char *name) {
    const struct local_sandbox *sandbox = NULL;
    LIST_FOREACH(sandbox, &host->sandboxes, link) {
        if (strcmp(sandbox->skeleton, name) == 0) {
            return true;
        }
    }
    return false;
}

bool local_sweep(struct local_host *host, struct error **error) {
    struct sweep sweep = {.host = host, .error = error};
    /* Directories first: a group without one is of nothing that could be adopted. */
    if (!each_entry(&sweep, host->sandboxes_fd, adopt_or_remove)) {
        return false;
    }
    cgroups_each(&host->cgroups, adopt_or_remove, &sweep);
    if (sweep.has_failed || !each_entry(&sweep, host->state_fd, remove_skeleton)) {
        return false;
    }
    ids_sweep(&host->ids);
    if (sweep.adopted_count > 0) {
        log_info("adopted %u sandboxes of an earlier keeper", sweep.adopted_count);
    }
    if (sweep.removed_count > 0) {
        log_info("removed what an earlier keeper left: %u sandboxes or parts of them",
                 sweep.removed_count);
    }
    return true;
}
