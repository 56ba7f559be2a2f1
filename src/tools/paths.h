/*
 * Confinement of the file tools: a path the model gave becomes a target beneath a permitted root.
 *
 * Private to src/tools. The algorithm is the official worker's (workdir, lexical normalisation,
 * canonicalisation of the longest existing prefix), the opening is holt's: openat2(2) with
 * RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS from a descriptor of the root, so that a component
 * swapped for a symlink between check and use cannot lead out.
 */
#ifndef HOLT_TOOLS_PATHS_H
#define HOLT_TOOLS_PATHS_H

#include <stdbool.h>

#include "tools/tools.h"

struct tool_path {
    char *target;       /* canonical absolute path; may not exist yet */
    char *root;         /* the canonical permitted root it lies under */
    const char *inside; /* target relative to root, "." for the root itself; points into target */
    int root_fd;        /* O_PATH descriptor of root; -1 when the root cannot be opened */
};

/*
 * Resolves `given` (a JSON value: what the model passed as file_path or path). On refusal fills
 * *result with the official text and returns false. `given` must have been checked for presence.
 */
bool tool_path_resolve(const struct tool_context *context, struct json_object *given,
                       struct tool_path *path, struct tool_result *result);
/*
 * Opens the target beneath its root with openat2; `flags` and `mode` as for open(2), O_CLOEXEC is
 * added. Returns -1 with errno set.
 */
int tool_path_open(const struct tool_path *path, int flags, unsigned mode);
/* As tool_path_open, for a path relative to any descriptor of a directory. */
int tool_open_beneath(int root_fd, const char *inside, int flags, unsigned mode);
/*
 * The official canonical form: the real path of the longest existing prefix with the missing rest
 * behind it; a dangling link continues at its target. NULL with errno set when a component cannot
 * be looked at. The caller frees it. tools.md 3.1.
 */
char *tool_path_canonicalize(const char *path);
/* Whether canonical `target` is `root` or lies under it, on whole components. */
bool tool_path_is_beneath(const char *target, const char *root);
/* The reason text for an errno: "no such file or directory", ..., "i/o error (EEXIST)". */
const char *tool_errno_reason(int errno_value);
void tool_path_free(struct tool_path *path);
#define CLEANUP_TOOL_PATH CLEANUP(tool_path_free)

#endif
