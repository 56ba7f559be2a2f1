/*
 * The end of a sandbox: hand is pid 1 of its namespace, so killing it ends every process in it, and
 * the mounts go with the last of them. What is left is a group, a directory and a range of ids.
 */
#include "sandbox/local.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "sandbox/remove_tree.h"

enum { KILL_TIMEOUT_MS = 10000 };

/* glibc 2.36 lacks it under this name without _GNU_SOURCE order games; Linux 5.4. */
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

static bool end_process(struct local_sandbox *sandbox, struct error **error) {
    if (sandbox->pidfd < 0) {
        return true;
    }
    (void)pidfd_send_signal(sandbox->pidfd, SIGKILL, NULL, 0);
    struct pollfd end = {.fd = sandbox->pidfd, .events = POLLIN};
    int ready = 0;
    do {
        ready = poll(&end, 1, KILL_TIMEOUT_MS);
    } while (ready < 0 && errno == EINTR);
    if (ready == 0) {
        return error_set(error, ERROR_TIMEOUT, "the processes of the sandbox do not end");
    }
    siginfo_t status;
    (void)waitid((idtype_t)P_PIDFD, (id_t)sandbox->pidfd, &status, WEXITED);
    (void)close(sandbox->pidfd);
    sandbox->pidfd = -1;
    return true;
}

static bool remove_traces(struct local_host *host, const char *id, struct error **error) {
    bool is_complete = false;
    if (FAULT_FAILS("keeper.destroy.killed")) {
        return error_set(error, ERROR_UNAVAILABLE, "fault keeper.destroy.killed");
    }
    return cgroups_destroy(&host->cgroups, id, error) &&
           remove_tree(host->sandboxes_fd, id, -1, &is_complete, error);
}

bool local_destroy(struct local_host *host, struct local_sandbox *take_sandbox,
                   struct error **error) {
    bool is_gone = end_process(take_sandbox, error) && remove_traces(host, take_sandbox->id, error);
    if (!is_gone) {
        (void)error_wrap(error, "cannot destroy the sandbox %s", take_sandbox->id);
    }
    /* Its ids are free only when nothing of it can be left; a sweep collects them otherwise. */
    if (is_gone && take_sandbox->ids_base != 0) {
        ids_give_back(&host->ids, take_sandbox->ids_base);
    }
    if (take_sandbox->pidfd >= 0) {
        (void)close(take_sandbox->pidfd);
    }
    LIST_REMOVE(take_sandbox, link);
    /* Of an earlier keeper: it goes with the last sandbox that lies on it. */
    bool is_complete = false;
    if (is_gone && strcmp(take_sandbox->skeleton, host->skeleton) != 0 &&
        !local_skeleton_is_used(host, take_sandbox->skeleton)) {
        (void)remove_tree(host->state_fd, take_sandbox->skeleton, -1, &is_complete, NULL);
    }
    free(take_sandbox);
    return is_gone;
}

bool local_destroy_remains(struct local_host *host, const char *id, struct error **error) {
    cgroups_kill(&host->cgroups, id);
    return remove_traces(host, id, error);
}
