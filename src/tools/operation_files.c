/* put, get, make and remove: everything relative to a descriptor of the directory concerned. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/random.h"
#include "tools/operation_parts.h"

enum { DEFAULT_FILE_MODE = 0644, DEFAULT_DIRECTORY_MODE = 0700, MODE_BITS = 0777 };

static mode_t mode_of(struct json_object *input, mode_t fallback) {
    return (mode_t)json_get_int(input, "mode", fallback) & MODE_BITS;
}

static void refuse_path(struct tool_result *result, const struct operation_target *target,
                        int errno_value) {
    operation_refuse(result, errno_value, "%s: %s", target->path, strerror(errno_value));
}

/* put. */

static bool fill(int fd, mode_t mode, const struct buffer *bytes, struct stat *status) {
    CLEANUP_ERROR struct error *error = NULL;
    if (!io_write_all(fd, buffer_string(bytes), bytes->length, &error)) {
        errno = error->errno_value == 0 ? EIO : error->errno_value;
        return false;
    }
    /* Not by open(2): the umask of whoever started hand has no say here. */
    return fchmod(fd, mode) == 0 && fsync(fd) == 0 && fstat(fd, status) == 0;
}

/* Returns 0 or an errno. */
static int replace(int directory_fd, const char *leaf, mode_t mode, const struct buffer *bytes,
                   struct stat *status) {
    CLEANUP_FREE char *temporary = random_id(".holt-");
    CLEANUP_CLOSE int fd =
        openat(directory_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return errno;
    }
    if (!fill(fd, mode, bytes, status) ||
        renameat(directory_fd, temporary, directory_fd, leaf) != 0 || fstat(fd, status) != 0) {
        int saved = errno;
        (void)unlinkat(directory_fd, temporary, 0);
        return saved;
    }
    return 0;
}

void operation_put(const struct tool_context *context, struct json_object *input,
                   struct tool_result *result) {
    (void)context;
    CLEANUP_OPERATION_TARGET struct operation_target target;
    if (!operation_target_open(input, &target, result)) {
        return;
    }
    struct json_object *data = json_get(input, "data");
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    if (!json_object_is_type(data, json_type_string) ||
        !base64_decode(&bytes, json_object_get_string(data),
                       (size_t)json_object_get_string_len(data))) {
        operation_refuse(result, 0, "data must be base64");
        return;
    }
    if (bytes.length > OPERATION_FILE_LIMIT) {
        operation_refuse(result, EFBIG, "over %d bytes", OPERATION_FILE_LIMIT);
        return;
    }
    const char *leaf = NULL;
    struct stat status;
    CLEANUP_CLOSE int directory_fd = operation_open_parent(&target, true, &leaf);
    int failure = directory_fd < 0 ? errno
                                   : replace(directory_fd, leaf, mode_of(input, DEFAULT_FILE_MODE),
                                             &bytes, &status);
    if (failure != 0) {
        refuse_path(result, &target, failure);
        return;
    }
    operation_answer(result, operation_status(&status));
}

/* get. */

static int64_t limit_of(struct json_object *input) {
    int64_t limit = json_get_int(input, "limit", OPERATION_FILE_LIMIT);
    return limit < 0 || limit > OPERATION_FILE_LIMIT ? OPERATION_FILE_LIMIT : limit;
}

/* Reads a regular file; returns 0 or an errno. */
static int read_file(const struct operation_target *target, int64_t limit, struct buffer *bytes,
                     struct stat *status) {
    /* O_NONBLOCK: opening a FIFO that was put there must not wait for a writer. */
    CLEANUP_CLOSE int fd =
        operation_open(target->root_fd, target->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0 || fstat(fd, status) != 0) {
        return errno;
    }
    if (!S_ISREG(status->st_mode)) {
        return S_ISDIR(status->st_mode) ? EISDIR : EINVAL;
    }
    CLEANUP_ERROR struct error *error = NULL;
    if (status->st_size > limit || !io_read_to_end(fd, bytes, (size_t)limit, &error)) {
        bool is_large = status->st_size > limit || error->code == ERROR_LIMIT;
        return is_large ? EFBIG : error->errno_value;
    }
    /* As it is after the reading: a file that is written meanwhile shows it by its size. */
    (void)fstat(fd, status);
    return 0;
}

static struct json_object *describe_file(const struct stat *status, const struct buffer *bytes) {
    struct json_object *answer = operation_status(status);
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    base64_encode(&text, bytes->data, bytes->length);
    json_set_string_n(answer, "data", buffer_string(&text), text.length);
    return answer;
}

void operation_get(const struct tool_context *context, struct json_object *input,
                   struct tool_result *result) {
    (void)context;
    CLEANUP_OPERATION_TARGET struct operation_target target;
    if (!operation_target_open(input, &target, result)) {
        return;
    }
    struct stat status;
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    int failure = read_file(&target, limit_of(input), &bytes, &status);
    if (failure != 0) {
        refuse_path(result, &target, failure);
        return;
    }
    operation_answer(result, describe_file(&status, &bytes));
}

/* gather. */

static struct json_object *gather_one(const struct operation_target *target, int64_t limit,
                                      size_t *gathered) {
    struct stat status;
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    int failure =
        operation_path_is_plain(target->path) ? read_file(target, limit, &bytes, &status) : EINVAL;
    *gathered += bytes.length;
    return failure == 0 ? describe_file(&status, &bytes)
                        : operation_failure(failure, "%s: %s", target->path, strerror(failure));
}

void operation_gather(const struct tool_context *context, struct json_object *input,
                      struct tool_result *result) {
    (void)context;
    struct json_object *paths = json_get_array(input, "paths");
    const char *root = json_get_string(input, "root");
    if (paths == NULL || root == NULL || root[0] != '/') {
        operation_refuse(result, 0, "root must be an absolute path, and paths an array");
        return;
    }
    CLEANUP_CLOSE int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0) {
        operation_refuse(result, errno, "%s: %s", root, strerror(errno));
        return;
    }
    size_t gathered = 0;
    size_t count = json_object_array_length(paths);
    struct json_object *files = json_object_new_array();
    for (size_t i = 0; i < count && gathered < OPERATION_GATHER_LIMIT; i++) {
        struct json_object *path = json_object_array_get_idx(paths, i);
        const struct operation_target target = {
            .root = root,
            .path = json_object_is_type(path, json_type_string) ? json_object_get_string(path) : "",
            .root_fd = root_fd};
        (void)json_object_array_add(files, gather_one(&target, limit_of(input), &gathered));
    }
    struct json_object *answer = json_object_new_object();
    json_set(answer, "files", files);
    operation_answer(result, answer);
}

/* make. */

/* mkdir -p of an absolute path; returns 0 or an errno. */
static int make_root(const char *root, mode_t mode, bool *made) {
    CLEANUP_FREE char *path = memory_string(root);
    for (char *slash = strchr(path + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        *made = mkdir(path, slash == NULL ? mode : (mode_t)DEFAULT_DIRECTORY_MODE) == 0;
        int failure = *made ? 0 : errno;
        if (slash == NULL) {
            struct stat status;
            bool is_there = stat(path, &status) == 0 && S_ISDIR(status.st_mode);
            return is_there ? 0 : (failure == EEXIST ? ENOTDIR : failure);
        }
        /* A parent that cannot be made may exist all the same (EROFS, EACCES): the last one tells.
         */
        *slash = '/';
    }
}

static int make_beneath(const struct operation_target *target, mode_t mode, bool *made) {
    const char *leaf = NULL;
    CLEANUP_CLOSE int parent_fd = operation_open_parent(target, true, &leaf);
    if (parent_fd < 0) {
        return errno;
    }
    *made = mkdirat(parent_fd, leaf, mode) == 0;
    if (!*made && errno != EEXIST) {
        return errno;
    }
    CLEANUP_CLOSE int fd = operation_open(parent_fd, leaf, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) {
        return errno == ELOOP ? ENOTDIR : errno;
    }
    return *made && fchmod(fd, mode) != 0 ? errno : 0;
}

void operation_make(const struct tool_context *context, struct json_object *input,
                    struct tool_result *result) {
    (void)context;
    mode_t mode = mode_of(input, DEFAULT_DIRECTORY_MODE);
    bool made = false;
    int failure = 0;
    CLEANUP_OPERATION_TARGET struct operation_target target = {.root_fd = -1};
    if (json_get(input, "path") == NULL) {
        target.path = json_get_string(input, "root");
        if (target.path == NULL || target.path[0] != '/') {
            operation_refuse(result, 0, "root must be an absolute path");
            return;
        }
        failure = make_root(target.path, mode, &made);
    } else if (operation_target_open(input, &target, result)) {
        failure = make_beneath(&target, mode, &made);
    } else {
        return;
    }
    if (failure != 0) {
        refuse_path(result, &target, failure);
        return;
    }
    struct json_object *answer = json_object_new_object();
    json_set_bool(answer, "made", made);
    operation_answer(result, answer);
}

/* remove. */

/* One directory on the way down. */
struct level {
    DIR *directory;
    char *name; /* in the directory above it */
};

/* Opens a directory that is to be emptied, which may first have to be made accessible. */
static DIR *open_for_removal(int parent_fd, const char *name) {
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW;
    CLEANUP_CLOSE int look_fd = operation_open(parent_fd, name, O_PATH | O_DIRECTORY, 0);
    struct stat status;
    if (look_fd >= 0 && fstat(look_fd, &status) == 0 && (status.st_mode & 0700) != 0700) {
        /* fchmod(2) takes no O_PATH descriptor, and a name could be swapped for a link. */
        CLEANUP_FREE char *link = memory_format("/proc/self/fd/%d", look_fd);
        (void)chmod(link, 0700);
    }
    int fd = operation_open(parent_fd, name, flags, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (fd >= 0 && directory == NULL) {
        (void)close(fd);
    }
    return directory;
}

/* The next entry but "." and ".."; NULL at the end. */
static const char *next_name(DIR *directory) {
    for (;;) {
        struct dirent *entry = readdir(directory);
        if (entry == NULL ||
            (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)) {
            return entry == NULL ? NULL : entry->d_name;
        }
    }
}

/* Unlinks what is no directory; a directory is entered. Returns 0 or an errno. */
static int remove_entry(struct level *levels, size_t *depth, const char *name) {
    int parent_fd = dirfd(levels[*depth - 1].directory);
    if (unlinkat(parent_fd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    if (errno != EISDIR && errno != EPERM) {
        return errno;
    }
    if (*depth >= OPERATION_DEPTH_LIMIT) {
        return ELOOP;
    }
    DIR *directory = open_for_removal(parent_fd, name);
    if (directory == NULL) {
        return errno == ENOENT ? 0 : errno;
    }
    levels[*depth] = (struct level){.directory = directory, .name = memory_string(name)};
    (*depth)++;
    return 0;
}

/* The tree at `name`, depth first; returns 0 or the first errno. */
static int remove_tree(int parent_fd, const char *name) {
    struct level levels[OPERATION_DEPTH_LIMIT];
    size_t depth = 0;
    int failure = 0;
    DIR *top = open_for_removal(parent_fd, name);
    if (top == NULL) {
        return errno;
    }
    levels[depth++] = (struct level){.directory = top, .name = memory_string(name)};
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        const char *entry = failure == 0 ? next_name(level->directory) : NULL;
        if (entry != NULL) {
            failure = remove_entry(levels, &depth, entry);
            continue;
        }
        depth--;
        int above_fd = depth == 0 ? parent_fd : dirfd(levels[depth - 1].directory);
        if (failure == 0 && unlinkat(above_fd, level->name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
            failure = errno;
        }
        (void)closedir(level->directory);
        free(level->name);
    }
    return failure;
}

void operation_remove(const struct tool_context *context, struct json_object *input,
                      struct tool_result *result) {
    (void)context;
    CLEANUP_OPERATION_TARGET struct operation_target target;
    if (!operation_target_open(input, &target, result)) {
        return;
    }
    const char *leaf = NULL;
    CLEANUP_CLOSE int parent_fd = operation_open_parent(&target, false, &leaf);
    int failure = 0;
    if (parent_fd < 0 || unlinkat(parent_fd, leaf, 0) != 0) {
        failure = errno;
    }
    if (parent_fd >= 0 && (failure == EISDIR || failure == EPERM)) {
        bool is_recursive = json_get_bool(input, "recursive", false);
        failure = is_recursive                                   ? remove_tree(parent_fd, leaf)
                  : unlinkat(parent_fd, leaf, AT_REMOVEDIR) == 0 ? 0
                                                                 : errno;
    }
    if (failure != 0 && failure != ENOENT) {
        refuse_path(result, &target, failure);
        return;
    }
    struct json_object *answer = json_object_new_object();
    json_set_bool(answer, "removed", failure == 0);
    operation_answer(result, answer);
}
