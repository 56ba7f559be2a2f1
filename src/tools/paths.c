/* The official path rules, and openat2 to hold what they decided against a race. */
#include "tools/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/memory.h"

enum {
    LINK_HOPS_LIMIT = 40,
    /* openat2 answers EAGAIN when a rename elsewhere made "beneath" undecidable for a moment. */
    OPEN_ATTEMPTS = 32,
};

/* Collapses "//", "." and ".." of an absolute path without looking at the file system. */
static char *normalise(const char *path) {
    struct buffer out = BUFFER_EMPTY;
    buffer_append_string(&out, "");
    while (*path != '\0') {
        path += strspn(path, "/");
        size_t length = strcspn(path, "/");
        if (length == 2 && strncmp(path, "..", 2) == 0) {
            const char *slash = out.length == 0 ? NULL : strrchr(out.data, '/');
            buffer_truncate(&out, slash == NULL ? 0 : (size_t)(slash - out.data));
        } else if (length > 0 && !(length == 1 && path[0] == '.')) {
            buffer_append_char(&out, '/');
            buffer_append(&out, path, length);
        }
        path += length;
    }
    if (out.length == 0) {
        buffer_append_char(&out, '/');
    }
    return buffer_take_string(&out);
}

static char *join(const char *directory, const char *rest) {
    return rest[0] == '/' ? memory_string(rest) : memory_format("%s/%s", directory, rest);
}

/* The directory part of a normalised path other than "/". */
static char *parent_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == path ? memory_string("/") : memory_string_n(path, (size_t)(slash - path));
}

/* Where a dangling link leads: its target, seen from the real path of its directory. */
static char *follow_link(const char *link) {
    char target[PATH_MAX];
    ssize_t length = readlink(link, target, sizeof(target) - 1);
    if (length < 0) {
        return NULL;
    }
    target[length] = '\0';
    CLEANUP_FREE char *parent = parent_of(link);
    CLEANUP_FREE char *real_parent = realpath(parent, NULL);
    if (real_parent == NULL) {
        return NULL;
    }
    CLEANUP_FREE char *joined = join(real_parent, target);
    return normalise(joined);
}

static bool is_missing(int errno_value) {
    return errno_value == ENOENT || errno_value == ENOTDIR;
}

char *tool_path_canonicalize(const char *path) {
    CLEANUP_FREE char *absolute = NULL;
    if (path[0] != '/') {
        CLEANUP_FREE char *here = getcwd(NULL, 0);
        if (here == NULL) {
            return NULL;
        }
        absolute = join(here, path);
    }
    CLEANUP_FREE char *prefix = normalise(absolute == NULL ? path : absolute);
    CLEANUP_FREE char *rest = memory_string("");
    for (int hops = 0;;) {
        CLEANUP_FREE char *real = realpath(prefix, NULL);
        if (real != NULL) {
            return rest[0] == '\0'
                       ? STEAL_PTR(real)
                       : memory_format("%s%s", strcmp(real, "/") == 0 ? "" : real, rest);
        }
        if (!is_missing(errno) || strcmp(prefix, "/") == 0) {
            return NULL;
        }
        struct stat status;
        char *next = NULL;
        if (lstat(prefix, &status) == 0) {
            /* Only a link can exist and not resolve; anything else is a race with its removal. */
            if (!S_ISLNK(status.st_mode) || ++hops > LINK_HOPS_LIMIT) {
                errno = S_ISLNK(status.st_mode) ? ELOOP : ENOENT;
                return NULL;
            }
            next = follow_link(prefix);
            if (next == NULL) {
                return NULL;
            }
        } else if (is_missing(errno)) {
            char *longer = memory_format("%s%s", strrchr(prefix, '/'), rest);
            free(rest);
            rest = longer;
            next = parent_of(prefix);
        } else {
            return NULL;
        }
        free(prefix);
        prefix = next;
    }
}

bool tool_path_is_beneath(const char *target, const char *root) {
    size_t length = strcmp(root, "/") == 0 ? 0 : strlen(root);
    return strncmp(target, root, length) == 0 && (target[length] == '\0' || target[length] == '/');
}

/* The canonical permitted root that holds `target`, or NULL; an unusable root permits nothing. */
static char *find_root(const struct tool_context *context, const char *workdir,
                       const char *target) {
    if (tool_path_is_beneath(target, workdir)) {
        return memory_string(workdir);
    }
    for (const char *const *root = context->allowed_roots; root != NULL && *root != NULL; root++) {
        char *canonical = tool_path_canonicalize(*root);
        if (canonical != NULL && tool_path_is_beneath(target, canonical)) {
            return canonical;
        }
        free(canonical);
    }
    return NULL;
}

static bool refuse(struct tool_result *result, struct json_object *given, const char *reason) {
    tool_result_error(result, "path %s: %s", json_text(given, NULL), reason);
    return false;
}

bool tool_path_resolve(const struct tool_context *context, struct json_object *given,
                       struct tool_path *path, struct tool_result *result) {
    *path = (struct tool_path){.root_fd = -1};
    if (!json_object_is_type(given, json_type_string)) {
        return refuse(result, given, "i/o error (ERR_INVALID_ARG_TYPE)");
    }
    const char *text = json_object_get_string(given);
    if (strlen(text) != (size_t)json_object_get_string_len(given)) {
        return refuse(result, given, "i/o error (ERR_INVALID_ARG_VALUE)");
    }
    CLEANUP_FREE char *workdir = tool_path_canonicalize(context->workdir);
    if (workdir == NULL) {
        return refuse(result, given, tool_errno_reason(errno));
    }
    CLEANUP_FREE char *joined = join(workdir, text);
    CLEANUP_FREE char *target = tool_path_canonicalize(joined);
    if (target == NULL) {
        return refuse(result, given, tool_errno_reason(errno));
    }
    path->root = find_root(context, workdir, target);
    if (path->root == NULL) {
        bool has_others = context->allowed_roots != NULL && context->allowed_roots[0] != NULL;
        tool_result_error(result, "path %s is outside the session's working directory%s",
                          json_text(given, NULL),
                          has_others ? " and its other permitted directories" : "");
        return false;
    }
    path->root_fd = open(path->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    path->target = STEAL_PTR(target);
    size_t skip = strcmp(path->root, "/") == 0 ? 0 : strlen(path->root);
    path->inside = path->target + skip;
    path->inside += strspn(path->inside, "/");
    if (path->inside[0] == '\0') {
        path->inside = ".";
    }
    return true;
}

int tool_open_beneath(int root_fd, const char *inside, int flags, unsigned mode) {
    struct open_how how = {.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
                           .mode = (flags & O_CREAT) != 0 ? mode : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    long fd = -1;
    for (int attempt = 0; attempt < OPEN_ATTEMPTS && fd < 0; attempt++) {
        fd = syscall(SYS_openat2, root_fd, inside, &how, sizeof(how));
        if (fd < 0 && errno != EAGAIN && errno != EINTR) {
            break;
        }
    }
    return (int)fd;
}

int tool_path_open(const struct tool_path *path, int flags, unsigned mode) {
    if (path->root_fd >= 0) {
        return tool_open_beneath(path->root_fd, path->inside, flags, mode);
    }
    CLEANUP_CLOSE int root_fd = open(path->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return root_fd < 0 ? -1 : tool_open_beneath(root_fd, path->inside, flags, mode);
}

static const struct {
    int errno_value;
    const char *reason;
} reasons[] = {
    {ENOENT, "no such file or directory"},
    {EACCES, "permission denied"},
    {EPERM, "permission denied"},
    {ENOTDIR, "not a directory"},
    {EISDIR, "is a directory"},
    {ELOOP, "too many levels of symbolic links"},
    {ENAMETOOLONG, "file name too long"},
    {ENOSPC, "no space left on device"},
    {EMFILE, "too many open files"},
    {ENFILE, "too many open files"},
};

const char *tool_errno_reason(int errno_value) {
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].errno_value == errno_value) {
            return reasons[i].reason;
        }
    }
    static char text[64];
    const char *name = strerrorname_np(errno_value);
    (void)snprintf(text, sizeof(text), "i/o error%s%s%s", name == NULL ? "" : " (",
                   name == NULL ? "" : name, name == NULL ? "" : ")");
    return text;
}

void tool_path_free(struct tool_path *path) {
    free(path->target);
    free(path->root);
    cleanup_close_fd(&path->root_fd);
    *path = (struct tool_path){.root_fd = -1};
}
