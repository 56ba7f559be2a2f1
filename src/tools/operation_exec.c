/* exec: a program with the agent's identity in the process group of this job, its output bounded.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"
#include "tools/bash_shell.h"
#include "tools/operation_parts.h"
#include "tools/utf8.h"

enum {
    READ_SIZE = 64 * 1024,
    ARGUMENTS_LIMIT = 1024,
    DEFAULT_TIMEOUT_MS = 120000,
    EXIT_CANNOT_START = 127,
};

/* The last OPERATION_OUTPUT_LIMIT bytes of a stream. */
struct stream {
    int fd; /* -1: closed */
    struct buffer kept;
    bool is_cut;
};

struct execution {
    struct json_object *input;
    const char **argv;
    char **environment;
    const char *workdir;
    const char *stdin_text;
    size_t stdin_left;
    int64_t deadline_ms;
    pid_t pid;
    int pid_fd;
    int stdin_fd;
    struct stream out, err;
    bool timed_out;
};

static void trim(struct stream *stream) {
    if (stream->kept.length > OPERATION_OUTPUT_LIMIT) {
        buffer_consume(&stream->kept, stream->kept.length - OPERATION_OUTPUT_LIMIT);
        stream->is_cut = true;
    }
}

/* Reads what is there; false at the end of the stream. */
static bool drain(struct stream *stream) {
    for (;;) {
        char *space = buffer_reserve(&stream->kept, READ_SIZE);
        ssize_t length = read(stream->fd, space, READ_SIZE);
        if (length < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        if (length == 0) {
            return false;
        }
        stream->kept.length += (size_t)length;
        stream->kept.data[stream->kept.length] = '\0';
        /* Trimmed seldom, because each trim moves what stays. */
        if (stream->kept.length > 4 * (size_t)OPERATION_OUTPUT_LIMIT) {
            trim(stream);
            return true;
        }
    }
}

static void step_stream(struct stream *stream) {
    if (stream->fd >= 0 && !drain(stream)) {
        (void)close(stream->fd);
        stream->fd = -1;
    }
}

static void feed(struct execution *execution) {
    ssize_t length = write(execution->stdin_fd, execution->stdin_text, execution->stdin_left);
    if (length > 0) {
        execution->stdin_text += length;
        execution->stdin_left -= (size_t)length;
    }
    bool has_failed = length < 0 && errno != EAGAIN && errno != EINTR;
    if (execution->stdin_left == 0 || has_failed) {
        (void)close(execution->stdin_fd);
        execution->stdin_fd = -1;
    }
}

static _Noreturn void become_program(const struct execution *execution, const int ends[3],
                                     int failure_fd) {
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (chdir(execution->workdir) == 0 && dup2(ends[0], STDIN_FILENO) >= 0 &&
        dup2(ends[1], STDOUT_FILENO) >= 0 && dup2(ends[2], STDERR_FILENO) >= 0) {
        environ = execution->environment; /* whose PATH finds the program */
        (void)execvp(execution->argv[0], (char *const *)(uintptr_t)execution->argv);
    }
    int reason = errno;
    (void)!write(failure_fd, &reason, sizeof(reason));
    _exit(EXIT_CANNOT_START);
}

/* Returns 0 or an errno. */
static int spawn(struct execution *execution) {
    int pipes[4][2] = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    for (int i = 0; i < 4; i++) {
        if (pipe2(pipes[i], O_CLOEXEC) != 0) {
            return errno; /* this process ends soon, and its descriptors with it */
        }
    }
    execution->pid = fork();
    if (execution->pid == 0) {
        const int ends[3] = {pipes[0][0], pipes[1][1], pipes[2][1]};
        become_program(execution, ends, pipes[3][1]);
    }
    if (execution->pid < 0) {
        return errno;
    }
    (void)close(pipes[0][0]);
    for (int i = 1; i < 4; i++) {
        (void)close(pipes[i][1]);
    }
    execution->stdin_fd = pipes[0][1];
    execution->out.fd = pipes[1][0];
    execution->err.fd = pipes[2][0];
    int reason = 0;
    ssize_t length = read(pipes[3][0], &reason, sizeof(reason));
    (void)close(pipes[3][0]);
    if (length == (ssize_t)sizeof(reason)) {
        return reason;
    }
    (void)io_set_nonblocking(execution->stdin_fd, true, NULL);
    (void)io_set_nonblocking(execution->out.fd, true, NULL);
    (void)io_set_nonblocking(execution->err.fd, true, NULL);
    execution->pid_fd = (int)syscall(SYS_pidfd_open, execution->pid, 0);
    return execution->pid_fd < 0 ? errno : 0;
}

/* Until the program ends or its time is over; what it left behind may hold the pipes for ever. */
static void attend(struct execution *execution) {
    for (;;) {
        int64_t left_ms = execution->deadline_ms - clock_monotonic_ms();
        if (left_ms <= 0) {
            execution->timed_out = true;
            return;
        }
        struct pollfd fds[] = {
            {.fd = execution->pid_fd, .events = POLLIN},
            {.fd = execution->out.fd, .events = POLLIN},
            {.fd = execution->err.fd, .events = POLLIN},
            {.fd = execution->stdin_fd, .events = POLLOUT},
        };
        if (poll(fds, sizeof(fds) / sizeof(fds[0]), (int)left_ms) < 0 && errno != EINTR) {
            return;
        }
        if (fds[3].revents != 0) {
            feed(execution);
        }
        step_stream(&execution->out);
        step_stream(&execution->err);
        if ((fds[0].revents & POLLIN) != 0) {
            return;
        }
    }
}

/* Text from the first whole character on. */
static void set_text(struct json_object *answer, const char *key, struct stream *stream) {
    trim(stream);
    const char *text = buffer_string(&stream->kept);
    size_t skip = 0;
    while (stream->is_cut && skip < 4 && skip < stream->kept.length &&
           ((unsigned char)text[skip] & 0xc0) == 0x80) {
        skip++;
    }
    CLEANUP_BUFFER struct buffer clean = BUFFER_EMPTY;
    utf8_append_lossy(&clean, text + skip, stream->kept.length - skip);
    json_set_string_n(answer, key, buffer_string(&clean), clean.length);
    CLEANUP_FREE char *cut_key = memory_format("%s_cut", key);
    json_set_bool(answer, cut_key, stream->is_cut);
}

static void finish(struct execution *execution, struct tool_result *result) {
    int status = 0;
    struct json_object *answer = json_object_new_object();
    if (waitpid(execution->pid, &status, execution->timed_out ? WNOHANG : 0) == execution->pid) {
        json_set_int(answer, WIFSIGNALED(status) ? "signal" : "exit_code",
                     WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    } else {
        json_set_int(answer, "signal", SIGKILL); /* what the end of this job does to its group */
    }
    step_stream(&execution->out);
    step_stream(&execution->err);
    json_set_bool(answer, "timed_out", execution->timed_out);
    set_text(answer, "stdout", &execution->out);
    set_text(answer, "stderr", &execution->err);
    operation_answer(result, answer);
}

static bool take_argv(struct execution *execution, struct tool_result *result) {
    struct json_object *argv = json_get_array(execution->input, "argv");
    size_t count = argv == NULL ? 0 : json_object_array_length(argv);
    if (count == 0 || count > ARGUMENTS_LIMIT) {
        operation_refuse(result, 0, "argv must be an array of 1 to %d strings", ARGUMENTS_LIMIT);
        return false;
    }
    execution->argv = memory_zeroed(count + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        struct json_object *argument = json_object_array_get_idx(argv, i);
        if (!json_object_is_type(argument, json_type_string)) {
            operation_refuse(result, 0, "argv must be an array of strings");
            return false;
        }
        execution->argv[i] = json_object_get_string(argument);
    }
    return true;
}

static void take_environment(struct execution *execution, const struct tool_context *context) {
    execution->environment = bash_environment(context->environment);
    size_t count = 0;
    while (execution->environment[count] != NULL) {
        count++;
    }
    struct json_object *more = json_get_object(execution->input, "env");
    size_t room = count + (more == NULL ? 0 : (size_t)json_object_object_length(more)) + 1;
    execution->environment = memory_resize(execution->environment, room, sizeof(char *));
    if (more == NULL) {
        return;
    }
    json_object_object_foreach(more, name, value) {
        size_t length = strlen(name);
        size_t at = 0;
        while (at < count && (strncmp(execution->environment[at], name, length) != 0 ||
                              execution->environment[at][length] != '=')) {
            at++;
        }
        const char *text = json_object_get_string(value);
        char *entry = memory_format("%s=%s", name, text == NULL ? "" : text);
        if (at < count) {
            free(execution->environment[at]);
        } else {
            execution->environment[++count] = NULL;
        }
        execution->environment[at] = entry;
    }
}

void operation_exec(const struct tool_context *context, struct json_object *input,
                    struct tool_result *result) {
    const char *workdir = json_get_string(input, "workdir");
    struct json_object *stdin_text = json_get(input, "stdin");
    int64_t timeout_ms = json_get_int(input, "timeout_ms", DEFAULT_TIMEOUT_MS);
    struct execution execution = {
        .input = input,
        .workdir = workdir == NULL ? context->workdir : workdir,
        .stdin_text = json_object_get_string(stdin_text),
        .stdin_left = stdin_text == NULL ? 0 : (size_t)json_object_get_string_len(stdin_text),
        .deadline_ms =
            clock_monotonic_ms() +
            (timeout_ms > 0 && timeout_ms < INT32_MAX ? timeout_ms : (int64_t)DEFAULT_TIMEOUT_MS),
    };
    /* A script that ends with `kill 0` means its group, which this process is part of. */
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    if (!take_argv(&execution, result)) {
        return;
    }
    take_environment(&execution, context);
    int failure = spawn(&execution);
    if (failure != 0) {
        operation_refuse(result, failure, "%s: %s", execution.argv[0], strerror(failure));
        return;
    }
    attend(&execution);
    finish(&execution, result);
}
