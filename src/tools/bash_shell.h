/*
 * Starting bash: the session's shell and the checker of commands. Private to bash.c.
 */
#ifndef HOLT_TOOLS_BASH_SHELL_H
#define HOLT_TOOLS_BASH_SHELL_H

#include "base/buffer.h"
#include "base/json.h"
#include "tools/agent.h"

/* Descriptors that the shell has beside 0-2: where a command's output and its status go. High, so
 * that they are in nobody's way (scripts like 3-9 and 200). */
enum { BASH_OUTPUT_FD = 250, BASH_STATUS_FD = 251 };

/* A running shell; descriptors are ours, not blocking, -1 when closed. */
struct bash_shell {
    pid_t pid; /* 0: none; also its process group and session */
    int input_fd;
    int output_fd;
    int status_fd;
};

/* "NAME=value" strings, NULL-terminated: `given` verbatim, or this process's own less ANTHROPIC_*;
 * PS1, PS2 and TERM on top. The caller frees it with bash_environment_free. */
char **bash_environment(struct json_object *given);
void bash_environment_free(char **take_environment);

/* Starts a shell in `workdir`. On failure returns the errno, and shell->pid is 0. */
int bash_shell_start(struct bash_shell *shell, const struct agent_identity *identity,
                     const char *workdir, char **environment);
void bash_shell_close(struct bash_shell *shell);

/*
 * Starts `bash -n` over the framed command; *messages_fd is its stderr, not blocking. Returns its
 * pid, or -1.
 */
pid_t bash_checker_start(const struct agent_identity *identity, const char *command, size_t length,
                         int *messages_fd);
/* Appends the framed command, ending in the line that reports `token` and the status. */
void bash_frame_command(struct buffer *out, const char *command, size_t length, const char *token);

#endif
