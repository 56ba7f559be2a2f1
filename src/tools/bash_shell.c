/* fork and exec of bash with pipes for its descriptors, and the text that frames a command. */
#include "tools/bash_shell.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/memory.h"

enum { EXIT_CANNOT_START = 127 };

static const char bash_path[] = "/bin/bash";

static bool is_overridden(const char *name, size_t length) {
    static const char *const names[] = {"PS1", "PS2", "TERM"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i]) == length && strncmp(name, names[i], length) == 0) {
            return true;
        }
    }
    return false;
}

static void add(char ***environment, size_t *count, char *take_entry) {
    *environment = memory_resize(*environment, *count + 2, sizeof(char *));
    (*environment)[(*count)++] = take_entry;
    (*environment)[*count] = NULL;
}

static void add_own(char ***environment, size_t *count) {
    static const char secret_prefix[] = "ANTHROPIC_";
    for (char **entry = environ; entry != NULL && *entry != NULL; entry++) {
        if (strncasecmp(*entry, secret_prefix, sizeof(secret_prefix) - 1) != 0 &&
            !is_overridden(*entry, strcspn(*entry, "="))) {
            add(environment, count, memory_string(*entry));
        }
    }
}

char **bash_environment(struct json_object *given) {
    char **environment = NULL;
    size_t count = 0;
    if (given == NULL) {
        add_own(&environment, &count);
    } else {
        json_object_object_foreach(given, name, value) {
            const char *text = json_object_get_string(value);
            if (!is_overridden(name, strlen(name))) {
                add(&environment, &count, memory_format("%s=%s", name, text == NULL ? "" : text));
            }
        }
    }
    add(&environment, &count, memory_string("PS1="));
    add(&environment, &count, memory_string("PS2="));
    add(&environment, &count, memory_string("TERM=dumb"));
    return environment;
}

void bash_environment_free(char **take_environment) {
    for (char **entry = take_environment; entry != NULL && *entry != NULL; entry++) {
        free(*entry);
    }
    free(take_environment);
}

/* The ends that the shell gets, and the pipe over which it says why it could not start. */
struct shell_ends {
    int input_fd, output_fd, status_fd, failure_fd;
};

static _Noreturn void fail_start(int failure_fd) {
    int reason = errno;
    (void)!write(failure_fd, &reason, sizeof(reason));
    _exit(EXIT_CANNOT_START);
}

static _Noreturn void become_shell(const struct shell_ends *ends,
                                   const struct agent_identity *identity, const char *workdir,
                                   char **environment) {
    static const char *const arguments[] = {bash_path, "--noprofile", "--norc", NULL};
    (void)setsid();
    /* dup2 clears O_CLOEXEC; the ends themselves are above 251 only if hand is out of order. */
    if (!agent_become(identity) || chdir(workdir) != 0 || dup2(ends->input_fd, STDIN_FILENO) < 0 ||
        dup2(ends->output_fd, STDOUT_FILENO) < 0 || dup2(ends->output_fd, STDERR_FILENO) < 0 ||
        dup2(ends->output_fd, BASH_OUTPUT_FD) < 0 || dup2(ends->status_fd, BASH_STATUS_FD) < 0) {
        fail_start(ends->failure_fd);
    }
    (void)execve(bash_path, (char *const *)arguments, environment);
    fail_start(ends->failure_fd);
}

/* Opening /dev/stdout by name checks the pipe's owner, so it must be the agent's. */
static void give_away(int fd, const struct agent_identity *identity) {
    if (identity->is_set) {
        (void)!fchown(fd, identity->uid, identity->gid);
    }
}

int bash_shell_start(struct bash_shell *shell, const struct agent_identity *identity,
                     const char *workdir, char **environment) {
    *shell = (struct bash_shell){0, -1, -1, -1};
    int pipes[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    int reason = 0;
    for (int i = 0; i < 4 && reason == 0; i++) {
        reason = pipe2(pipes[i], O_CLOEXEC) == 0 ? 0 : errno;
    }
    pid_t pid = -1;
    if (reason == 0) {
        struct shell_ends ends = {pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][1]};
        give_away(ends.input_fd, identity);
        give_away(ends.output_fd, identity);
        pid = fork();
        if (pid == 0) {
            become_shell(&ends, identity, workdir, environment);
        }
        reason = pid < 0 ? errno : 0;
    }
    for (int i = 0; i < 4; i++) {
        cleanup_close_fd(i == 0 ? &pipes[i][0] : &pipes[i][1]);
    }
    if (reason == 0) {
        /* Ends with the exec that closes the other end, so this wait is short. */
        ssize_t length = read(pipes[3][0], &reason, sizeof(reason));
        reason = length == (ssize_t)sizeof(reason) ? reason : 0;
    }
    cleanup_close_fd(&pipes[3][0]);
    *shell = (struct bash_shell){reason == 0 ? pid : 0, pipes[0][1], pipes[1][0], pipes[2][0]};
    if (reason != 0 || !io_set_nonblocking(shell->input_fd, true, NULL) ||
        !io_set_nonblocking(shell->output_fd, true, NULL) ||
        !io_set_nonblocking(shell->status_fd, true, NULL)) {
        bash_shell_close(shell);
    }
    return reason;
}

void bash_shell_close(struct bash_shell *shell) {
    cleanup_close_fd(&shell->input_fd);
    cleanup_close_fd(&shell->output_fd);
    cleanup_close_fd(&shell->status_fd);
    *shell = (struct bash_shell){0, -1, -1, -1};
}

pid_t bash_checker_start(const struct agent_identity *identity, const char *command, size_t length,
                         int *messages_fd) {
    static const char *const arguments[] = {bash_path, "--noprofile", "--norc", "-O",
                                            "extglob", "-n",          NULL};
    static const char *const environment[] = {"LC_ALL=C.UTF-8", NULL};
    CLEANUP_CLOSE int script_fd = memfd_create("command", MFD_CLOEXEC);
    CLEANUP_BUFFER struct buffer script = BUFFER_EMPTY;
    bash_frame_command(&script, command, length, "");
    int ends[2] = {-1, -1};
    if (script_fd < 0 || !io_write_all(script_fd, script.data, script.length, NULL) ||
        lseek(script_fd, 0, SEEK_SET) != 0 || pipe2(ends, O_CLOEXEC) != 0) {
        return -1;
    }
    pid_t pid = fork();
    if (pid == 0) {
        if (agent_become(identity) && dup2(script_fd, STDIN_FILENO) >= 0 &&
            dup2(ends[1], STDOUT_FILENO) >= 0 && dup2(ends[1], STDERR_FILENO) >= 0) {
            (void)execve(bash_path, (char *const *)arguments, (char *const *)environment);
        }
        _exit(EXIT_CANNOT_START);
    }
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return -1;
    }
    (void)io_set_nonblocking(ends[0], true, NULL);
    *messages_fd = ends[0];
    return pid;
}

void bash_frame_command(struct buffer *out, const char *command, size_t length, const char *token) {
    buffer_append_string(out, "{ ");
    buffer_append(out, command, length);
    /* The command loses both descriptors, so nothing in it can answer for it or keep them open;
     * the trace of the report (set -x) goes nowhere. */
    buffer_append_format(
        out,
        "\n} </dev/null >&%d 2>&1 %d>&- %d>&-; { \\builtin printf '%s%%d\\n' \"$?\" >&%d; } 2>/dev/null\n",
        BASH_OUTPUT_FD, BASH_OUTPUT_FD, BASH_STATUS_FD, token, BASH_STATUS_FD);
}
