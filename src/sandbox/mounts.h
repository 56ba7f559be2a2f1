/*
 * The new mount API (fsopen(2), fsmount(2), move_mount(2), open_tree(2), mount_setattr(2)) in the
 * few shapes that a sandbox needs. Descriptors returned are O_CLOEXEC and the caller's; -1 is an
 * error. Linux 5.2, id-mapped mounts 5.12, and as overlay layers 5.19.
 */
#ifndef HOLT_SANDBOX_MOUNTS_H
#define HOLT_SANDBOX_MOUNTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct mount_option {
    const char *key;
    const char *value; /* NULL: a flag */
};

/* A new file system instance as a detached mount. Options end with a NULL key; NULL: none.
 * `attributes` are MOUNT_ATTR_ bits. */
int mounts_new(const char *type, const struct mount_option *options, unsigned attributes,
               struct error **error);
/* A detached copy of the one mount at `path` (below dir_fd; "" is dir_fd itself), submounts left
 * out, with more MOUNT_ATTR_ bits set, and id-mapped by user_ns_fd unless that is -1. */
int mounts_clone(int dir_fd, const char *path, uint64_t attributes, int user_ns_fd,
                 struct error **error);
/* Attaches a detached mount; takes no ownership of the descriptor. */
bool mounts_attach(int mount_fd, const char *target, struct error **error);
/* mounts_new / mounts_clone and attach in one. */
bool mounts_attach_new(const char *type, const struct mount_option *options, unsigned attributes,
                       const char *target, struct error **error);
/* Makes the directory `path` the root of this mount namespace and lets go of the old one. */
bool mounts_pivot(const char *path, struct error **error);

#endif
