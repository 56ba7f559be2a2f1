/* The checks of the grep tool, and the choice between rg and the built-in search. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "tools/grep.h"
#include "tools/js.h"
#include "tools/path_text.h"

/* Opens without blocking on a FIFO; anything but a file or a directory is not there to search. */
static int open_target(const char *path, const struct tool_path *confined, bool *special) {
    const int flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    CLEANUP_CLOSE int fd =
        confined != NULL ? tool_path_open(confined, flags, 0) : open(path, flags | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) {
        /* A socket cannot be opened at all (ENXIO). */
        *special = fd >= 0 || errno == ENXIO;
        return -1;
    }
    *special = !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
    return *special ? -1 : STEAL_FD(fd);
}

void tool_grep(const struct tool_context *context, struct json_object *input,
               struct tool_result *result) {
    struct json_object *pattern_value = json_get(input, "pattern");
    struct json_object *path_value = json_get(input, "path");
    if (!js_is_truthy(pattern_value)) {
        tool_result_error(result, "grep: pattern is required");
        return;
    }
    CLEANUP_TOOL_PATH struct tool_path confined = {.root_fd = -1};
    bool has_path = js_is_truthy(path_value);
    if (has_path && !tool_path_resolve(context, path_value, &confined, result)) {
        return;
    }
    CLEANUP_FREE char *workdir = path_text_normalize(context->workdir);
    CLEANUP_BUFFER struct buffer pattern = BUFFER_EMPTY;
    js_append_string(&pattern, pattern_value);
    CLEANUP_FREE char *program = grep_rg_find(context);
    struct grep_target target = {.path = has_path ? confined.target : workdir, .fd = -1};
    bool special = false;
    CLEANUP_CLOSE int fd = open_target(target.path, has_path ? &confined : NULL, &special);
    target.fd = fd;
    if (special) {
        tool_result_text(result, false, "no matches", strlen("no matches"));
    } else if (program != NULL) {
        /* An argument cannot hold a NUL; Node refuses to start such a command as well. */
        if (memchr(buffer_string(&pattern), '\0', pattern.length) != NULL) {
            tool_result_error(result, "grep: rg failed: the pattern holds a NUL byte");
        } else {
            grep_rg_run(program, buffer_string(&pattern), &target, result);
        }
    } else {
        grep_walk_run(buffer_string(&pattern), pattern.length, &target, result);
    }
}
