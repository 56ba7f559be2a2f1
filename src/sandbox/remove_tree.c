/*
 * Flattens while it removes: a directory that is not empty is renamed to the top of the tree, and
 * the top is emptied until nothing is left. Depth costs neither stack nor descriptors.
 */
#include "sandbox/remove_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_SIZE = 48 };

struct removal {
    int top_fd;
    int64_t budget;
    uint64_t moved_count;
};

static int open_directory(int dir_fd, const char *name) {
    return openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Moves a directory with contents from dir_fd to the top, under a name that is free there. */
static bool move_to_top(struct removal *removal, int dir_fd, const char *name,
                        struct error **error) {
    char moved[NAME_SIZE];
    for (;;) {
        (void)snprintf(moved, sizeof(moved), ".removing-%llu",
                       (unsigned long long)removal->moved_count++);
        if (renameat2(dir_fd, name, removal->top_fd, moved, RENAME_NOREPLACE) == 0) {
            return true;
        }
        if (errno != EEXIST) {
            return error_set_errno(error, errno, "cannot move a directory to remove it");
        }
    }
}

/* Removes one entry; a directory with contents is moved to the top when dir_fd is not the top. */
static bool remove_entry(struct removal *removal, int dir_fd, const char *name, bool is_directory,
                         struct error **error) {
    if (unlinkat(dir_fd, name, is_directory ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT) {
        removal->budget -= removal->budget > 0 ? 1 : 0;
        return true;
    }
    if (!is_directory && (errno == EISDIR || errno == EPERM)) {
        return remove_entry(removal, dir_fd, name, true, error);
    }
    if (is_directory && (errno == ENOTEMPTY || errno == EEXIST)) {
        return dir_fd == removal->top_fd || move_to_top(removal, dir_fd, name, error);
    }
    return error_set_errno(error, errno, "cannot remove an entry");
}

static struct dirent *next_entry(DIR *directory) {
    struct dirent *entry = NULL;
    do {
        errno = 0;
        entry = readdir(directory);
    } while (entry != NULL &&
             (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    return entry;
}

/* Empties one directory that is not the top. */
static bool empty_directory(struct removal *removal, int dir_fd, const char *name,
                            struct error **error) {
    int fd = open_directory(dir_fd, name);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR ||
               error_set_errno(error, errno, "cannot open a directory to remove it");
    }
    CLEANUP_DIR DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        (void)close(fd);
        return error_set_errno(error, ENOMEM, "cannot list a directory to remove it");
    }
    struct dirent *entry = NULL;
    while (removal->budget != 0 && (entry = next_entry(directory)) != NULL) {
        if (!remove_entry(removal, fd, entry->d_name, entry->d_type == DT_DIR, error)) {
            return false;
        }
    }
    return true;
}

/* One pass over the top; *is_empty tells whether it found nothing. */
static bool pass_over_top(struct removal *removal, bool *is_empty, struct error **error) {
    int fd = open_directory(removal->top_fd, ".");
    CLEANUP_DIR DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        int errno_value = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return error_set_errno(error, errno_value, "cannot list a directory to remove it");
    }
    *is_empty = true;
    struct dirent *entry = NULL;
    while (removal->budget != 0 && (entry = next_entry(directory)) != NULL) {
        *is_empty = false;
        bool is_directory = entry->d_type == DT_DIR;
        /* Some file systems do not say the type; opening then does. */
        bool may_be_directory = is_directory || entry->d_type == DT_UNKNOWN;
        if (may_be_directory && !empty_directory(removal, removal->top_fd, entry->d_name, error)) {
            return false;
        }
        if (removal->budget != 0 &&
            !remove_entry(removal, removal->top_fd, entry->d_name, is_directory, error)) {
            return false;
        }
    }
    return true;
}

bool remove_tree(int parent_fd, const char *name, int64_t budget, bool *is_complete,
                 struct error **error) {
    *is_complete = true;
    CLEANUP_CLOSE int top_fd = open_directory(parent_fd, name);
    if (top_fd < 0) {
        return errno == ENOENT ||
               error_set_errno(error, errno, "cannot open %s to remove it", name);
    }
    struct removal removal = {.top_fd = top_fd, .budget = budget};
    bool is_empty = false;
    while (!is_empty && removal.budget != 0) {
        if (!pass_over_top(&removal, &is_empty, error)) {
            return error_wrap(error, "cannot remove %s", name);
        }
    }
    if (!is_empty) {
        *is_complete = false;
        return true;
    }
    if (unlinkat(parent_fd, name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        return error_set_errno(error, errno, "cannot remove the directory %s", name);
    }
    return true;
}
