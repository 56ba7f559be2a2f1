/* list: one walk over descriptors, deepest directory last opened, every bound counted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "tools/operation_parts.h"
#include "tools/utf8.h"

enum {
    VISITED_LIMIT = 2 * OPERATION_LIST_LIMIT, /* a tree of a million links ends too */
    PATH_BYTES_LIMIT = 8 * 1024 * 1024,       /* of all paths together: they must fit a frame */
};

struct walk {
    DIR *levels[OPERATION_DEPTH_LIMIT];
    size_t ends[OPERATION_DEPTH_LIMIT]; /* length of `path` at each level */
    size_t depth;
    struct buffer path; /* of the directory being read, with a slash behind it unless empty */
    struct json_object *files;
    size_t limit;
    size_t visited;
    size_t path_bytes;
    size_t dropped;
};

static bool enter(struct walk *walk, int parent_fd, const char *name) {
    int fd = operation_open(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        cleanup_close_fd(&fd);
        return false;
    }
    walk->ends[walk->depth] = walk->path.length;
    walk->levels[walk->depth++] = directory;
    return true;
}

static void take_file(struct walk *walk, const char *name, const struct stat *status) {
    size_t length = walk->path.length + strlen(name);
    if (json_object_array_length(walk->files) >= walk->limit ||
        length > PATH_BYTES_LIMIT - walk->path_bytes) {
        walk->dropped++;
        return;
    }
    walk->path_bytes += length;
    CLEANUP_BUFFER struct buffer path = BUFFER_EMPTY;
    buffer_append(&path, buffer_string(&walk->path), walk->path.length);
    buffer_append_string(&path, name);
    struct json_object *file = operation_status(status);
    json_set_string_n(file, "path", path.data, path.length);
    (void)json_object_array_add(walk->files, file);
}

static void take_entry(struct walk *walk, const char *name) {
    int directory_fd = dirfd(walk->levels[walk->depth - 1]);
    struct stat status;
    if (fstatat(directory_fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        walk->dropped += errno == ENOENT ? 0 : 1;
        return;
    }
    if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
        return;
    }
    if (!utf8_is_valid(name, strlen(name))) {
        walk->dropped++;
        return;
    }
    if (S_ISREG(status.st_mode)) {
        take_file(walk, name, &status);
        return;
    }
    size_t before = walk->path.length;
    buffer_append_string(&walk->path, name);
    buffer_append_char(&walk->path, '/');
    if (walk->depth >= OPERATION_DEPTH_LIMIT || !enter(walk, directory_fd, name)) {
        walk->dropped++;
        buffer_truncate(&walk->path, before);
        return;
    }
    walk->ends[walk->depth - 1] = before;
}

void operation_list(const struct tool_context *context, struct json_object *input,
                    struct tool_result *result) {
    (void)context;
    const char *root = json_get_string(input, "root");
    if (root == NULL || root[0] != '/') {
        operation_refuse(result, 0, "root must be an absolute path");
        return;
    }
    int64_t limit = json_get_int(input, "limit", OPERATION_LIST_LIMIT);
    struct walk walk = {.limit = limit < 0 || limit > OPERATION_LIST_LIMIT
                                     ? (size_t)OPERATION_LIST_LIMIT
                                     : (size_t)limit};
    CLEANUP_CLOSE int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root_fd < 0 || !enter(&walk, root_fd, ".")) {
        operation_refuse(result, errno, "%s: %s", root, strerror(errno));
        return;
    }
    walk.files = json_object_new_array();
    while (walk.depth > 0) {
        struct dirent *entry = readdir(walk.levels[walk.depth - 1]);
        if (entry == NULL || walk.visited >= VISITED_LIMIT) {
            walk.dropped += entry == NULL ? 0 : 1;
            walk.depth--;
            (void)closedir(walk.levels[walk.depth]);
            buffer_truncate(&walk.path, walk.ends[walk.depth]);
        } else if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            walk.visited++;
            take_entry(&walk, entry->d_name);
        }
    }
    buffer_free(&walk.path);
    struct json_object *answer = json_object_new_object();
    json_set(answer, "files", walk.files);
    json_set_int(answer, "dropped", (int64_t)walk.dropped);
    operation_answer(result, answer);
}
