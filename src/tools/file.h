/*
 * What read, write and edit share: opening a regular file beneath its root, and replacing one
 * atomically.
 *
 * Private to src/tools.
 */
#ifndef HOLT_TOOLS_FILE_H
#define HOLT_TOOLS_FILE_H

#include <sys/types.h>

#include "tools/paths.h"

/* The path as the model gave it; "" when it is no string. Borrowed from `input`. */
const char *file_given_path(struct json_object *input);
/*
 * The first checks of every file tool: file_path present, then resolved. False with *result set on
 * refusal.
 */
bool file_resolve(const char *tool, const struct tool_context *context, struct json_object *input,
                  struct tool_path *path, struct tool_result *result);
/* Refuses a target inside a read-only root. False with *result set. */
bool file_check_writable(const char *tool, const struct tool_context *context, const char *given,
                         const struct tool_path *path, struct tool_result *result);
/*
 * Opens the target for reading if it is a regular file; a FIFO or device is never opened. Returns
 * the descriptor and its size, or -1 with *result set.
 */
int file_open_regular(const char *tool, const char *given, const struct tool_path *path,
                      off_t *size, struct tool_result *result);
/*
 * Makes `length` bytes the content of the target: missing directories 0700, a temporary file beside
 * it (0600, or the low nine mode bits of what it replaces), fsync, rename. Returns 0 or an errno.
 */
int file_replace(const struct tool_path *path, const char *bytes, size_t length);

#endif
