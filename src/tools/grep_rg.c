/* ripgrep as the official worker runs it: found on PATH, scrubbed environment, output passed on. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "tools/grep.h"
#include "tools/utf8.h"

enum {
    READ_BYTES = 64 * 1024,
    /* Enough bytes for the limit in units whatever they are, and a bound on what is kept. */
    OUTPUT_BYTES_LIMIT = TOOLS_OUTPUT_LIMIT_UNITS * 4,
    ERROR_BYTES_LIMIT = 64 * 1024,
    TIME_LIMIT_MS = 110 * 1000, /* inside the runner's deadline of 120 s */
    EXIT_CANNOT_RUN = 127,
};

static bool lies_in(const char *path, const char *root) {
    CLEANUP_FREE char *real = realpath(root, NULL);
    const char *folder = real != NULL ? real : root;
    size_t length = strlen(folder);
    /* Folded, as on a file system that ignores case the agent's own rg could hide. */
    return strncasecmp(path, folder, length) == 0 &&
           (path[length] == '/' || path[length] == '\0' || strcmp(folder, "/") == 0);
}

static bool is_agents_own(const struct tool_context *context, const char *path) {
    if (lies_in(path, context->workdir)) {
        return true;
    }
    for (const char *const *root = context->allowed_roots; root != NULL && *root != NULL; root++) {
        if (lies_in(path, *root)) {
            return true;
        }
    }
    return false;
}

char *grep_rg_find(const struct tool_context *context) {
    const char *entry = getenv("PATH");
    while (entry != NULL && *entry != '\0') {
        size_t length = strcspn(entry, ":");
        CLEANUP_FREE char *candidate = memory_format("%.*s/rg", (int)length, entry);
        struct stat status;
        CLEANUP_FREE char *real = *entry == '/' && access(candidate, X_OK) == 0 &&
                                          stat(candidate, &status) == 0 && S_ISREG(status.st_mode)
                                      ? realpath(candidate, NULL)
                                      : NULL;
        if (real != NULL && !is_agents_own(context, real)) {
            return STEAL_PTR(real);
        }
        entry += length + (entry[length] == ':');
    }
    return NULL;
}

/* The environment without ANTHROPIC_*, in any case: keys are not for the agent's programs. */
static char **scrubbed_environment(void) {
    static const char prefix[] = "ANTHROPIC_";
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **kept = memory_zeroed(count + 1, sizeof kept[0]);
    size_t next = 0;
    for (size_t i = 0; i < count; i++) {
        if (strncasecmp(environ[i], prefix, sizeof prefix - 1) != 0) {
            kept[next++] = environ[i];
        }
    }
    return kept;
}

struct run {
    pid_t pid;
    int out_fd;
    int error_fd;
    struct buffer out;
    struct buffer errors;
    bool is_truncated;
    bool timed_out;
};

static _Noreturn void become_rg(const char *program, char *const *arguments, char *const *kept,
                                int out_fd, int error_fd, pid_t parent) {
    int null_fd = open("/dev/null", O_RDONLY);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
        dup2(out_fd, STDOUT_FILENO) < 0 || dup2(error_fd, STDERR_FILENO) < 0) {
        _exit(EXIT_CANNOT_RUN);
    }
    (void)execve(program, arguments, kept);
    _exit(EXIT_CANNOT_RUN);
}

static bool start(struct run *run, const char *program, const char *pattern, const char *path) {
    int out[2];
    int errors[2];
    if (pipe2(out, O_CLOEXEC) != 0) {
        return false;
    }
    if (pipe2(errors, O_CLOEXEC) != 0) {
        int saved = errno;
        (void)close(out[0]);
        (void)close(out[1]);
        errno = saved;
        return false;
    }
    char *arguments[] = {(char[]){"rg"},           (char[]){"--no-config"}, (char[]){"-n"},
                         (char[]){"--no-heading"}, (char[]){"-e"},          memory_string(pattern),
                         (char[]){"--"},           memory_string(path),     NULL};
    char **kept = scrubbed_environment();
    pid_t parent = getpid();
    run->pid = fork();
    if (run->pid == 0) {
        become_rg(program, arguments, kept, out[1], errors[1], parent);
    }
    int saved = errno;
    free(arguments[5]);
    free(arguments[7]);
    free(kept);
    (void)close(out[1]);
    (void)close(errors[1]);
    run->out_fd = out[0];
    run->error_fd = errors[0];
    errno = saved;
    return run->pid > 0;
}

/* Reads once; closes the descriptor at the end of file. More than `limit` bytes are dropped. */
static void drain(int *fd, struct buffer *out, size_t limit) {
    char bytes[READ_BYTES];
    ssize_t got = read(*fd, bytes, sizeof bytes);
    if (got < 0 && errno == EINTR) {
        return;
    }
    if (got <= 0) {
        (void)close(*fd);
        *fd = -1;
        return;
    }
    size_t room = limit - out->length;
    buffer_append(out, bytes, (size_t)got < room ? (size_t)got : room);
}

static int64_t now_ms(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void collect(struct run *run) {
    const int64_t end = now_ms() + TIME_LIMIT_MS;
    while (run->out_fd >= 0 || run->error_fd >= 0) {
        struct pollfd waits[2] = {{.fd = run->out_fd, .events = POLLIN},
                                  {.fd = run->error_fd, .events = POLLIN}};
        int64_t left = end - now_ms();
        if (left <= 0) {
            run->timed_out = true;
            return;
        }
        if (poll(waits, 2, (int)left) < 0 && errno != EINTR) {
            return;
        }
        if (waits[0].revents != 0) {
            drain(&run->out_fd, &run->out, OUTPUT_BYTES_LIMIT);
            if (run->out.length > TOOLS_OUTPUT_LIMIT_UNITS &&
                utf8_units(run->out.data, run->out.length) > TOOLS_OUTPUT_LIMIT_UNITS) {
                run->is_truncated = true;
                return;
            }
        }
        if (waits[1].revents != 0) {
            drain(&run->error_fd, &run->errors, ERROR_BYTES_LIMIT);
        }
    }
}

static int finish_process(struct run *run) {
    int status = 0;
    if (run->is_truncated || run->timed_out) {
        (void)kill(run->pid, SIGKILL);
    }
    while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (run->out_fd >= 0) {
        (void)close(run->out_fd);
    }
    if (run->error_fd >= 0) {
        (void)close(run->error_fd);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void append_line(struct buffer *out, const char *text, size_t length) {
    if (out->length > 0 && out->data[out->length - 1] != '\n') {
        buffer_append_char(out, '\n');
    }
    buffer_append(out, text, length);
}

static void answer(struct run *run, int status, struct tool_result *result) {
    if (run->is_truncated) {
        size_t kept = utf8_prefix(run->out.data, run->out.length, TOOLS_OUTPUT_LIMIT_UNITS, NULL);
        buffer_truncate(&run->out, kept);
        buffer_append_string(&run->out, "\n[output truncated at 102400 bytes]");
    } else if (run->timed_out && run->out.length == 0) {
        tool_result_error(result, "grep: timed out after %ds", TIME_LIMIT_MS / 1000);
        return;
    } else if (run->timed_out) {
        CLEANUP_FREE char *note =
            memory_format("[the search was cut short after %d ms]", TIME_LIMIT_MS);
        append_line(&run->out, note, strlen(note));
    } else if (status == 1) {
        buffer_append_string(&run->out, "no matches");
    } else if (status != 0 && run->out.length > 0) {
        /* Part of the tree could not be read: the hits are worth more than the complaint. */
        append_line(&run->out, "[rg: ", strlen("[rg: "));
        while (run->errors.length > 0 && run->errors.data[run->errors.length - 1] == '\n') {
            buffer_truncate(&run->errors, run->errors.length - 1);
        }
        buffer_append(&run->out, buffer_string(&run->errors), run->errors.length);
        buffer_append_char(&run->out, ']');
    } else if (status != 0) {
        CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
        buffer_append_string(&text, "grep: rg failed: ");
        if (run->errors.length > 0) {
            buffer_append(&text, run->errors.data, run->errors.length);
        } else {
            buffer_append_format(&text, "exit %d", status);
        }
        tool_result_text(result, true, text.data, text.length);
        return;
    }
    tool_result_text(result, false, buffer_string(&run->out), run->out.length);
}

void grep_rg_run(const char *program, const char *pattern, const struct grep_target *target,
                 struct tool_result *result) {
    struct run run = {.out_fd = -1, .error_fd = -1};
    if (!start(&run, program, pattern, target->path)) {
        tool_result_error(result, "grep: rg failed: %s", strerror(errno));
        if (run.out_fd >= 0) {
            (void)close(run.out_fd);
            (void)close(run.error_fd);
        }
        return;
    }
    collect(&run);
    answer(&run, finish_process(&run), result);
    buffer_free(&run.out);
    buffer_free(&run.errors);
}
