/* One way down from a root: component by component over descriptors, no link ever followed. */
#include "tools/operation_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"

enum {
    NEW_DIRECTORY_MODE = 0700,
    PERMISSION_BITS = 07777,
    /* openat2 answers EAGAIN when a rename elsewhere made "beneath" undecidable for a moment. */
    OPEN_ATTEMPTS = 32,
    NANOSECONDS = 1000000000,
};

void operation_answer(struct tool_result *result, struct json_object *take_answer) {
    size_t length = 0;
    const char *text = json_text(take_answer, &length);
    tool_result_text(result, false, text, length);
    json_object_put(take_answer);
}

static struct json_object *failure(int errno_value, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
static struct json_object *failure(int errno_value, const char *format, va_list arguments) {
    CLEANUP_FREE char *text = memory_format_v(format, arguments);
    const char *name = errno_value == 0 ? NULL : strerrorname_np(errno_value);
    struct json_object *answer = json_object_new_object();
    json_set_string(answer, "error", text);
    json_set_string(answer, "errno", name == NULL ? "" : name);
    return answer;
}

struct json_object *operation_failure(int errno_value, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    struct json_object *answer = failure(errno_value, format, arguments);
    va_end(arguments);
    return answer;
}

void operation_refuse(struct tool_result *result, int errno_value, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    operation_answer(result, failure(errno_value, format, arguments));
    va_end(arguments);
    result->is_error = true;
}

static int64_t nanoseconds(const struct timespec *time) {
    int64_t value = 0;
    /* A file system may claim any time; one beyond the range is as good as none. */
    if (__builtin_mul_overflow((int64_t)time->tv_sec, (int64_t)NANOSECONDS, &value) ||
        __builtin_add_overflow(value, (int64_t)time->tv_nsec, &value)) {
        return 0;
    }
    return value;
}

struct json_object *operation_status(const struct stat *status) {
    struct json_object *object = json_object_new_object();
    json_set_int(object, "size", status->st_size);
    json_set_int(object, "mode", status->st_mode & PERMISSION_BITS);
    json_set_int(object, "mtime_ns", nanoseconds(&status->st_mtim));
    json_set_int(object, "ctime_ns", nanoseconds(&status->st_ctim));
    json_set(object, "inode", json_object_new_uint64(status->st_ino));
    return object;
}

int operation_open(int root_fd, const char *inside, int flags, unsigned mode) {
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                           .mode = (flags & O_CREAT) != 0 ? mode : 0,
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    long fd = -1;
    for (int attempt = 0; attempt < OPEN_ATTEMPTS && fd < 0; attempt++) {
        fd = syscall(SYS_openat2, root_fd, inside, &how, sizeof(how));
        if (fd < 0 && errno != EAGAIN && errno != EINTR) {
            break;
        }
    }
    return (int)fd;
}

bool operation_path_is_plain(const char *path) {
    size_t components = 0;
    for (const char *at = path;; at++) {
        size_t length = strcspn(at, "/");
        if (length == 0 || length > NAME_MAX || (length == 1 && at[0] == '.') ||
            (length == 2 && strncmp(at, "..", 2) == 0) || ++components > OPERATION_DEPTH_LIMIT) {
            return false;
        }
        at += length;
        if (*at == '\0') {
            return (size_t)(at - path) < PATH_MAX;
        }
    }
}

/* A string member without a NUL inside, or NULL. */
static const char *plain_string(struct json_object *input, const char *key) {
    struct json_object *value = json_get(input, key);
    const char *text = json_get_string(input, key);
    return text != NULL && strlen(text) == (size_t)json_object_get_string_len(value) ? text : NULL;
}

bool operation_target_open(struct json_object *input, struct operation_target *target,
                           struct tool_result *result) {
    *target = (struct operation_target){
        .root = plain_string(input, "root"), .path = plain_string(input, "path"), .root_fd = -1};
    if (target->root == NULL || target->root[0] != '/') {
        operation_refuse(result, 0, "root must be an absolute path");
        return false;
    }
    if (target->path == NULL || !operation_path_is_plain(target->path)) {
        operation_refuse(result, 0, "path must be relative, without . and ..");
        return false;
    }
    target->root_fd = open(target->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (target->root_fd < 0) {
        operation_refuse(result, errno, "%s: %s", target->root, strerror(errno));
        return false;
    }
    return true;
}

void operation_target_free(struct operation_target *target) {
    cleanup_close_fd(&target->root_fd);
    target->root_fd = -1;
}

/* One step down. */
static int enter(int parent_fd, const char *name, bool makes) {
    int fd = operation_open(parent_fd, name, O_PATH | O_DIRECTORY, 0);
    if (fd < 0 && errno == ENOENT && makes &&
        (mkdirat(parent_fd, name, NEW_DIRECTORY_MODE) == 0 || errno == EEXIST)) {
        fd = operation_open(parent_fd, name, O_PATH | O_DIRECTORY, 0);
    }
    return fd;
}

int operation_open_parent(const struct operation_target *target, bool makes, const char **leaf) {
    int directory_fd = fcntl(target->root_fd, F_DUPFD_CLOEXEC, 0);
    const char *rest = target->path;
    for (const char *slash = strchr(rest, '/'); directory_fd >= 0 && slash != NULL;
         slash = strchr(rest, '/')) {
        CLEANUP_FREE char *name = memory_string_n(rest, (size_t)(slash - rest));
        rest = slash + 1;
        int next_fd = enter(directory_fd, name, makes);
        int saved = errno;
        (void)close(directory_fd);
        errno = saved;
        directory_fd = next_fd;
    }
    *leaf = rest;
    return directory_fd;
}
