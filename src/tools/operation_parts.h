/* What the operations share: their answers, and paths beneath a root. Private to src/tools. */
#ifndef HOLT_TOOLS_OPERATION_PARTS_H
#define HOLT_TOOLS_OPERATION_PARTS_H

#include <sys/stat.h>

#include "tools/operations.h"

/* Fills the result with a JSON object; `take_answer` is freed. */
void operation_answer(struct tool_result *result, struct json_object *take_answer);
/* The answer of a failure; `errno_value` 0: the input makes no sense. */
void operation_refuse(struct tool_result *result, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same answer, as a value. */
struct json_object *operation_failure(int errno_value, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The members of a status. */
struct json_object *operation_status(const struct stat *status);
/* Opens `inside`, relative to a directory, without following any link. -1 with errno set. */
int operation_open(int root_fd, const char *inside, int flags, unsigned mode);

/* A root and a path below it, as an input names them. */
struct operation_target {
    const char *root; /* borrowed from the input */
    const char *path;
    int root_fd;
};
/* Checks and opens; false with *result set. Release with operation_target_free in either case. */
bool operation_target_open(struct json_object *input, struct operation_target *target,
                           struct tool_result *result);
void operation_target_free(struct operation_target *target);
#define CLEANUP_OPERATION_TARGET CLEANUP(operation_target_free)
/* Whether it is a relative path of plain components: no "", "." or "..", none over NAME_MAX. */
bool operation_path_is_plain(const char *path);
/*
 * Opens the directory that holds the target and points *leaf at the name in it. Missing directories
 * are made when `makes` is true. -1 with errno set.
 */
int operation_open_parent(const struct operation_target *target, bool makes, const char **leaf);

#endif
