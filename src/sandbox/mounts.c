/* Thin wrappers: each is one mount, made detached and then put in its place. */
#include "sandbox/mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel says in words why a mount failed; the first line is worth passing on. */
static bool fail_with_reason(int context_fd, const char *type, struct error **error) {
    int errno_value = errno;
    char reason[256];
    ssize_t length = read(context_fd, reason, sizeof(reason) - 1);
    if (length <= 0) {
        return error_set_errno(error, errno_value, "cannot mount %s", type);
    }
    reason[length] = '\0';
    reason[strcspn(reason, "\n")] = '\0';
    return error_set_errno(error, errno_value, "cannot mount %s (%s)", type, reason);
}

int mounts_new(const char *type, const struct mount_option *options, unsigned attributes,
               struct error **error) {
    CLEANUP_CLOSE int context_fd = fsopen(type, FSOPEN_CLOEXEC);
    if (context_fd < 0) {
        (void)error_set_errno(error, errno, "cannot open the file system type %s", type);
        return -1;
    }
    for (; options != NULL && options->key != NULL; options++) {
        unsigned command = options->value == NULL ? FSCONFIG_SET_FLAG : FSCONFIG_SET_STRING;
        if (fsconfig(context_fd, command, options->key, options->value, 0) != 0) {
            (void)fail_with_reason(context_fd, type, error);
            return -1;
        }
    }
    if (fsconfig(context_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) != 0) {
        (void)fail_with_reason(context_fd, type, error);
        return -1;
    }
    int mount_fd = fsmount(context_fd, FSMOUNT_CLOEXEC, attributes);
    if (mount_fd < 0) {
        (void)fail_with_reason(context_fd, type, error);
    }
    return mount_fd;
}

int mounts_clone(int dir_fd, const char *path, uint64_t attributes, int user_ns_fd,
                 struct error **error) {
    CLEANUP_CLOSE int mount_fd =
        open_tree(dir_fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);
    if (mount_fd < 0) {
        (void)error_set_errno(error, errno, "cannot copy the mount %s", path);
        return -1;
    }
    struct mount_attr attr = {.attr_set = attributes};
    if (user_ns_fd >= 0) {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (__u64)user_ns_fd;
    }
    if (attr.attr_set != 0 &&
        mount_setattr(mount_fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) != 0) {
        (void)error_set_errno(error, errno,
                              user_ns_fd >= 0 ? "cannot map the ids of the mount %s (its file "
                                                "system must support id-mapped mounts)"
                                              : "cannot restrict the mount %s",
                              path);
        return -1;
    }
    return STEAL_FD(mount_fd);
}

bool mounts_attach(int mount_fd, const char *target, struct error **error) {
    if (move_mount(mount_fd, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) != 0) {
        return error_set_errno(error, errno, "cannot attach a mount at %s", target);
    }
    return true;
}

bool mounts_attach_new(const char *type, const struct mount_option *options, unsigned attributes,
                       const char *target, struct error **error) {
    CLEANUP_CLOSE int mount_fd = mounts_new(type, options, attributes, error);
    return mount_fd >= 0 && mounts_attach(mount_fd, target, error);
}

bool mounts_pivot(const char *path, struct error **error) {
    if (chdir(path) != 0) {
        return error_set_errno(error, errno, "cannot enter the new root");
    }
    /* pivot_root(2): with "." twice the old root lies on top of the new one and is taken off. */
    if (syscall(SYS_pivot_root, ".", ".") != 0) {
        return error_set_errno(error, errno, "cannot pivot to the new root");
    }
    if (umount2(".", MNT_DETACH) != 0) {
        return error_set_errno(error, errno, "cannot let go of the old root");
    }
    if (chdir("/") != 0) {
        return error_set_errno(error, errno, "cannot enter the new root");
    }
    return true;
}
