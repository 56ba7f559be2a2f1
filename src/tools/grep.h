/*
 * The two engines of tool_grep.
 *
 * Private to src/tools.
 */
#ifndef HOLT_TOOLS_GREP_H
#define HOLT_TOOLS_GREP_H

#include "tools/paths.h"
#include "tools/tools.h"

/* What is to be searched. */
struct grep_target {
    const char *path; /* absolute, as it stands in the output */
    int fd;           /* a regular file or a directory, O_RDONLY; -1 when it cannot be opened */
};

/*
 * The first executable `rg` on PATH: absolute entries only, and no program below the workdir or an
 * allowed root, where the agent could have put it. NULL when there is none; the caller frees.
 */
char *grep_rg_find(const struct tool_context *context);
/* Runs rg on target->path (its descriptor is not used). */
void grep_rg_run(const char *program, const char *pattern, const struct grep_target *target,
                 struct tool_result *result);
/* The built-in search. */
void grep_walk_run(const char *pattern, size_t length, const struct grep_target *target,
                   struct tool_result *result);

#endif
