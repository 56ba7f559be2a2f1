/* The state directory is root's; front gets a directory of its own in it, and a way there. */
#include "cmd/serve_state.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "cmd/front.h"

/* Others may pass through (0711), but see and reach only what is theirs: `sandboxes` is 0700. */
static bool make_directory(const char *state_directory, const struct front_identity *identity,
                           struct error **error) {
    CLEANUP_CLOSE int parent_fd = open(state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent_fd < 0 || fchmod(parent_fd, 0711) != 0 ||
        (mkdirat(parent_fd, "front", 0700) != 0 && errno != EEXIST)) {
        return error_set_errno(error, errno, "cannot make %s/front", state_directory);
    }
    CLEANUP_CLOSE int fd =
        openat(parent_fd, "front", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0700) != 0 ||
        (geteuid() == 0 && fchown(fd, identity->uid, identity->gid) != 0)) {
        return error_set_errno(error, errno, "cannot give %s/front to the daemon's user",
                               state_directory);
    }
    return true;
}

struct state *serve_state_open(const char *state_directory, struct error **error) {
    struct front_identity identity;
    front_identity(&identity);
    if (!make_directory(state_directory, &identity, error)) {
        return NULL;
    }
    CLEANUP_FREE char *path = memory_format("%s/holt.db", state_directory);
    return state_open(path, error);
}
