/*
 * Operations of the daemon inside a sandbox, beside the agent's six tools.
 *
 * The daemon asks for them by names that no tool of the agent can have ("holt." and a word); hand
 * runs each as it runs a tool: in a child process with the agent's credentials, so that none can do
 * more than the agent itself. Every path is looked up beneath an open root (openat2 with
 * RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS): a component that the agent swaps
 * for a link makes the operation fail, never reach something else. `root` itself is an absolute
 * path that is followed as it is.
 *
 * A result is one text block that holds a JSON object; of a failure (is_error) it is
 * {"error": "<text>", "errno": "<name or empty>"}.
 *
 *   holt.put     {root, path, data (base64), mode}       -> a status
 *       Replaces the file atomically; missing directories below the root are made, 0700.
 *   holt.get     {root, path, limit}                     -> a status with data (base64)
 *   holt.gather  {root, paths, limit}             -> {files: [as get, or as its failure]}
 *       Several files at once, in this order, for many small ones: the first paths only, when the
 *       contents of these are OPERATION_GATHER_LIMIT bytes already.
 *   holt.list    {root, limit}                           -> {files: [status with path], dropped}
 *       Regular files, links not followed; `dropped` counts what was left out: entries over the
 *       limit or too deep, names that are not UTF-8, directories that cannot be read.
 *   holt.remove  {root, path, recursive}                 -> {removed: bool}
 *       What is not there is removed already. Links are removed, never followed.
 *   holt.make    {root, path (optional), mode}           -> {made: bool}
 *       A directory; without a path the root itself, its parents with it.
 *   holt.exec    {argv, stdin, env, workdir, timeout_ms} -> {exit_code | signal, timed_out, stdout,
 *                stdout_cut, stderr, stderr_cut}
 *       `env` adds to the environment of bash. At the end its process group is killed.
 *   holt.run     as holt.exec, in the order of the agent's own calls: for custom tools.
 *
 * A status is {size, mode, mtime_ns, ctime_ns, inode}.
 */
#ifndef HOLT_TOOLS_OPERATIONS_H
#define HOLT_TOOLS_OPERATIONS_H

#include "tools/tools.h"

#define OPERATION_PREFIX "holt."

enum {
    OPERATION_FILE_LIMIT = 30 * 1000 * 1000, /* its base64 must fit a frame and a result */
    OPERATION_LIST_LIMIT = 50000,
    OPERATION_GATHER_LIMIT = 4 * 1000 * 1000, /* what one more file may exceed by its size */
    OPERATION_DEPTH_LIMIT = 100,         /* of directories below the root; one descriptor each */
    OPERATION_OUTPUT_LIMIT = 100 * 1024, /* bytes kept of each of stdout and stderr: the last */
};

void operation_put(const struct tool_context *context, struct json_object *input,
                   struct tool_result *result);
void operation_get(const struct tool_context *context, struct json_object *input,
                   struct tool_result *result);
void operation_gather(const struct tool_context *context, struct json_object *input,
                      struct tool_result *result);
void operation_list(const struct tool_context *context, struct json_object *input,
                    struct tool_result *result);
void operation_remove(const struct tool_context *context, struct json_object *input,
                      struct tool_result *result);
void operation_make(const struct tool_context *context, struct json_object *input,
                    struct tool_result *result);
void operation_exec(const struct tool_context *context, struct json_object *input,
                    struct tool_result *result);

#endif
