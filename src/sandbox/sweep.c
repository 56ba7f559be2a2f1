/*
 * After a crash: the state directory and the groups say what there was; all of it goes.
 *
 * Processes are found by their group, which they cannot leave, and never by a recorded number,
 * which may be another process by now. Mounts need no sweep: they were in the sandboxes' own mount
 * namespaces and in keeper's.
 */
#include "sandbox/local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "sandbox/keeper_protocol.h"

#define LOG_ROOM "keeper"
#include "base/log.h"

struct sweep {
    struct local_host *host;
    struct error **error;
    unsigned removed_count;
    bool has_failed;
};

static void sweep_one(void *context, const char *id) {
    struct sweep *sweep = context;
    if (!keeper_id_is_valid(id) || sweep->has_failed) {
        return;
    }
    if (!local_destroy_remains(sweep->host, id, sweep->error)) {
        (void)error_wrap(sweep->error, "cannot remove what is left of the sandbox %s", id);
        sweep->has_failed = true;
        return;
    }
    sweep->removed_count++;
}

bool local_sweep(struct local_host *host, struct error **error) {
    struct sweep sweep = {.host = host, .error = error};
    cgroups_each(&host->cgroups, sweep_one, &sweep);
    int fd = openat(host->sandboxes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP_DIR DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        return error_set_errno(error, errno, "cannot list the directory of sandboxes");
    }
    struct dirent *entry = NULL;
    while ((entry = readdir(directory)) != NULL) {
        sweep_one(&sweep, entry->d_name);
    }
    ids_sweep(&host->ids);
    if (sweep.removed_count > 0) {
        log_info("removed what an earlier keeper left: %u sandboxes or parts of them",
                 sweep.removed_count);
    }
    return !sweep.has_failed;
}
