/* One ruleset, scaled down to what the running kernel knows. */
#include "sandbox/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Constants newer than Debian 12's headers, from include/uapi/linux/landlock.h of Linux 6.12. */
enum {
    ACCESS_REFER = 1 << 13,       /* version 2 */
    ACCESS_IOCTL_DEV = 1 << 15,   /* version 5 */
    SCOPE_ABSTRACT_UNIX = 1 << 0, /* version 6 */
    SCOPE_SIGNAL = 1 << 1,
    VERSION_REFER = 2,
    VERSION_IOCTL_DEV = 5,
    VERSION_SCOPE = 6,
};

struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};

int landlock_version(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return version < 0 ? 0 : (int)version;
}

static bool allow_beneath(int ruleset_fd, const char *path, uint64_t access, struct error **error) {
    CLEANUP_CLOSE int fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    if (fd < 0 ||
        syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
        return error_set_errno(error, errno, "cannot add the Landlock rule for %s", path);
    }
    return true;
}

bool landlock_enter(struct error **error) {
    int version = landlock_version();
    if (version == 0) {
        return true;
    }
    struct ruleset ruleset = {.handled_access_fs =
                                  LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK};
    size_t size = sizeof(ruleset.handled_access_fs);
    if (version >= VERSION_REFER) {
        ruleset.handled_access_fs |= ACCESS_REFER;
    }
    if (version >= VERSION_IOCTL_DEV) {
        ruleset.handled_access_fs |= ACCESS_IOCTL_DEV;
    }
    if (version >= VERSION_SCOPE) {
        ruleset.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
        size = sizeof(ruleset);
    }
    CLEANUP_CLOSE int ruleset_fd = (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0);
    if (ruleset_fd < 0) {
        return error_set_errno(error, errno, "cannot make a Landlock ruleset");
    }
    /* Moving files between directories is denied by every domain that does not grant it. */
    if (version >= VERSION_REFER && !allow_beneath(ruleset_fd, "/", ACCESS_REFER, error)) {
        return false;
    }
    if (version >= VERSION_IOCTL_DEV &&
        !allow_beneath(ruleset_fd, "/dev", ACCESS_IOCTL_DEV, error)) {
        return false;
    }
    if (syscall(SYS_landlock_restrict_self, ruleset_fd, 0) != 0) {
        return error_set_errno(error, errno, "cannot enter a Landlock domain");
    }
    return true;
}
