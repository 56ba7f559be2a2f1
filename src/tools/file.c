/* Everything happens relative to a descriptor beneath the root: no path is looked up twice. */
#include "tools/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/random.h"
#include "tools/js.h"

enum { NEW_DIRECTORY_MODE = 0700, NEW_FILE_MODE = 0600, MODE_BITS = 0777 };

const char *file_given_path(struct json_object *input) {
    const char *path = json_get_string(input, "file_path");
    return path == NULL ? "" : path;
}

bool file_resolve(const char *tool, const struct tool_context *context, struct json_object *input,
                  struct tool_path *path, struct tool_result *result) {
    struct json_object *given = json_get(input, "file_path");
    if (!js_is_truthy(given)) {
        *path = (struct tool_path){.root_fd = -1};
        tool_result_error(result, "%s: file_path is required", tool);
        return false;
    }
    return tool_path_resolve(context, given, path, result);
}

bool file_check_writable(const char *tool, const struct tool_context *context, const char *given,
                         const struct tool_path *path, struct tool_result *result) {
    const char *const *root = context->read_only_roots;
    for (; root != NULL && *root != NULL; root++) {
        CLEANUP_FREE char *canonical = tool_path_canonicalize(*root);
        if (canonical != NULL && tool_path_is_beneath(path->target, canonical)) {
            tool_result_error(result, "%s: %s is inside read-only directory %s", tool, given,
                              *root);
            return false;
        }
    }
    return true;
}

int file_open_regular(const char *tool, const char *given, const struct tool_path *path,
                      off_t *size, struct tool_result *result) {
    CLEANUP_CLOSE int look_fd = tool_path_open(path, O_PATH, 0);
    struct stat status;
    if (look_fd < 0 || fstat(look_fd, &status) != 0) {
        tool_result_error(result, "%s: %s: %s", tool, given, tool_errno_reason(errno));
        return -1;
    }
    CLEANUP_CLOSE int fd = -1;
    if (S_ISREG(status.st_mode)) {
        fd = tool_path_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
        /* Looked at again: the name may lead elsewhere by now. */
        if (fd < 0 || fstat(fd, &status) != 0) {
            tool_result_error(result, "%s: %s: %s", tool, given, tool_errno_reason(errno));
            return -1;
        }
    }
    if (!S_ISREG(status.st_mode)) {
        tool_result_error(result, "%s: %s is not a regular file", tool, given);
        return -1;
    }
    *size = status.st_size;
    return STEAL_FD(fd);
}

/* Makes the root itself, which the agent may have removed. */
static int open_root(const struct tool_path *path) {
    int fd = open(path->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 || errno != ENOENT) {
        return fd;
    }
    CLEANUP_FREE char *made = memory_string(path->root);
    for (char *slash = strchr(made + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(made, NEW_DIRECTORY_MODE) != 0 && errno != EEXIST) {
            return -1;
        }
        if (slash == NULL) {
            return open(path->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
        }
        *slash = '/';
    }
}

/* One step down, making the directory when it is missing. */
static int enter(int parent_fd, const char *name, bool is_last) {
    int fd = tool_open_beneath(parent_fd, name, O_PATH | O_DIRECTORY, 0);
    if (fd < 0 && errno == ENOENT && mkdirat(parent_fd, name, NEW_DIRECTORY_MODE) == 0) {
        fd = tool_open_beneath(parent_fd, name, O_PATH | O_DIRECTORY, 0);
    }
    if (fd < 0 && errno == ENOTDIR && is_last) {
        errno = EEXIST; /* what mkdir of the file's parent answers, as the official worker shows */
    }
    return fd;
}

/* The directory that holds the target, beneath the root; *leaf is the name in it. */
static int open_parent(const struct tool_path *path, const char **leaf) {
    int directory_fd = open_root(path);
    const char *rest = path->inside;
    for (const char *slash = strchr(rest, '/'); directory_fd >= 0 && slash != NULL;
         slash = strchr(rest, '/')) {
        CLEANUP_FREE char *name = memory_string_n(rest, (size_t)(slash - rest));
        rest = slash + 1;
        int next_fd = enter(directory_fd, name, strchr(rest, '/') == NULL);
        int saved = errno;
        (void)close(directory_fd);
        errno = saved;
        directory_fd = next_fd;
    }
    *leaf = rest;
    return directory_fd;
}

static bool fill(int fd, int directory_fd, const char *leaf, const char *bytes, size_t length) {
    struct stat old;
    if (fstatat(directory_fd, leaf, &old, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISLNK(old.st_mode) &&
        fchmod(fd, old.st_mode & MODE_BITS) != 0) {
        return false;
    }
    CLEANUP_ERROR struct error *error = NULL;
    if (!io_write_all(fd, bytes, length, &error)) {
        errno = error->errno_value == 0 ? EIO : error->errno_value;
        return false;
    }
    return !FAULT_FAILS("tools.write.fsync") && fsync(fd) == 0;
}

int file_replace(const struct tool_path *path, const char *bytes, size_t length) {
    if (strcmp(path->inside, ".") == 0) {
        return EISDIR;
    }
    const char *leaf = NULL;
    CLEANUP_CLOSE int directory_fd = open_parent(path, &leaf);
    if (directory_fd < 0) {
        return errno;
    }
    CLEANUP_FREE char *id = random_id("");
    CLEANUP_FREE char *temporary = memory_format(".tmp-%d-%s", (int)getpid(), id);
    CLEANUP_CLOSE int fd =
        openat(directory_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
               NEW_FILE_MODE);
    if (fd < 0) {
        return errno;
    }
    if (!fill(fd, directory_fd, leaf, bytes, length) ||
        renameat(directory_fd, temporary, directory_fd, leaf) != 0) {
        int saved = errno;
        (void)unlinkat(directory_fd, temporary, 0);
        return saved;
    }
    return 0;
}
