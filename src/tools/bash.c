/*
 * A call is a small state machine: idle, checking (bash -n looks for a swallowed end), running.
 */
#include "tools/bash.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "tools/bash_output.h"
#include "tools/bash_shell.h"
#include "tools/js.h"
#include "tools/paths.h"

enum {
    READ_SIZE = 64 * 1024,
    MESSAGES_LIMIT = 64 * 1024, /* of the checker; more is not read */
    STATUS_LIMIT = 4096,        /* a status line is far shorter */
    STEP_READ_LIMIT = 1024 * 1024,
};

enum bash_state { BASH_IDLE, BASH_CHECKING, BASH_RUNNING };

struct bash {
    struct agent_identity identity;
    char *workdir;
    char **environment;
    struct bash_shell shell;

    enum bash_state state;
    struct buffer command;
    struct buffer timeout_shown; /* timeout_ms as the model gave it */
    int64_t deadline_ms;
    char *token;
    struct buffer pending_input;
    struct buffer status;
    struct bash_output output;
    pid_t checker_pid;
    int messages_fd;
    struct buffer messages;

    bool has_result;
    struct tool_result result;
};

struct bash *bash_new(const struct agent_identity *identity) {
    struct bash *bash = memory_new(struct bash);
    bash->identity = *identity;
    bash->shell = (struct bash_shell){0, -1, -1, -1};
    bash->messages_fd = -1;
    bash->workdir = memory_string("/");
    bash->environment = bash_environment(NULL);
    return bash;
}

void bash_configure(struct bash *bash, const char *workdir, struct json_object *environment) {
    free(bash->workdir);
    bash->workdir = memory_string(workdir);
    bash_environment_free(bash->environment);
    bash->environment = bash_environment(environment);
}

/* SIGKILL to the shell and everything in its process group; hand reaps them. */
static void kill_shell(struct bash *bash) {
    if (bash->shell.pid > 0) {
        (void)kill(-bash->shell.pid, SIGKILL);
        (void)kill(bash->shell.pid, SIGKILL);
    }
    bash_shell_close(&bash->shell);
}

/* Forgets the call in flight; the shell is left as it is. */
static void end_call(struct bash *bash) {
    bash->state = BASH_IDLE;
    if (bash->checker_pid > 0) {
        (void)kill(bash->checker_pid, SIGKILL);
        bash->checker_pid = 0;
    }
    cleanup_close_fd(&bash->messages_fd);
    bash->messages_fd = -1;
    buffer_free(&bash->command);
    buffer_free(&bash->timeout_shown);
    buffer_free(&bash->pending_input);
    buffer_free(&bash->status);
    buffer_free(&bash->messages);
    bash_output_clear(&bash->output);
    free(bash->token);
    bash->token = NULL;
}

void bash_free(struct bash *take_bash) {
    if (take_bash == NULL) {
        return;
    }
    kill_shell(take_bash);
    end_call(take_bash);
    tool_result_free(&take_bash->result);
    bash_environment_free(take_bash->environment);
    free(take_bash->workdir);
    free(take_bash);
}

static void finish(struct bash *bash, bool is_error, const char *text, size_t length) {
    tool_result_text(&bash->result, is_error, text, length);
    bash->has_result = true;
    end_call(bash);
}

static void finish_with(struct bash *bash, bool is_error, const char *text) {
    finish(bash, is_error, text, strlen(text));
}

bool bash_take_result(struct bash *bash, struct tool_result *result) {
    if (!bash->has_result) {
        return false;
    }
    *result = bash->result;
    bash->result = (struct tool_result){0};
    bash->has_result = false;
    return true;
}

/* Blank lines and comments only: the official framing would make bash exit over them. */
static bool is_nothing(const struct buffer *command) {
    const char *line = buffer_string(command);
    if (strlen(line) != command->length) {
        return false;
    }
    while (*line != '\0') {
        line += strspn(line, " \t");
        if (*line != '#' && *line != '\n' && *line != '\0') {
            return false;
        }
        line += strcspn(line, "\n");
        line += strspn(line, "\n");
    }
    return true;
}

/* Only these can leave something open that swallows the end of the frame. */
static bool may_swallow(const struct buffer *command) {
    const char *text = buffer_string(command);
    return strlen(text) != command->length || strpbrk(text, "'\"`\\({") != NULL ||
           strstr(text, "<<") != NULL;
}

/* timeout_ms: what JavaScript's setTimeout takes, but nothing that is not above 0. */
static void set_deadline(struct bash *bash, struct json_object *timeout) {
    double limit = timeout == NULL ? NAN : js_number(timeout);
    if (limit > 0 && limit <= INT32_MAX) {
        js_append_string(&bash->timeout_shown, timeout);
    } else {
        limit = BASH_DEFAULT_TIMEOUT_MS;
        buffer_append_format(&bash->timeout_shown, "%d", BASH_DEFAULT_TIMEOUT_MS);
    }
    bash->deadline_ms = clock_monotonic_ms() + (int64_t)ceil(limit);
}

/* Drops what background jobs wrote between calls; bounded, because they may never stop. */
static void discard_output(struct bash *bash) {
    char bytes[READ_SIZE];
    for (size_t total = 0; total < STEP_READ_LIMIT;) {
        ssize_t length = read(bash->shell.output_fd, bytes, sizeof(bytes));
        if (length <= 0) {
            return;
        }
        total += (size_t)length;
    }
}

static void run_command(struct bash *bash) {
    if (bash->shell.pid == 0) {
        int reason =
            bash_shell_start(&bash->shell, &bash->identity, bash->workdir, bash->environment);
        if (reason != 0) {
            CLEANUP_FREE char *text =
                memory_format("bash: %s: %s", bash->workdir, tool_errno_reason(reason));
            finish_with(bash, true, text);
            return;
        }
    }
    discard_output(bash);
    bash->token = random_id("holt_");
    bash_frame_command(&bash->pending_input, bash->command.data, bash->command.length, bash->token);
    buffer_append_char(&bash->status, '\n');
    bash->state = BASH_RUNNING;
}

void bash_begin(struct bash *bash, struct json_object *input) {
    bool restart = js_is_truthy(json_get(input, "restart"));
    struct json_object *command = json_get(input, "command");
    if (restart) {
        kill_shell(bash);
    }
    if (!js_is_truthy(command)) {
        finish_with(bash, !restart,
                    restart ? "bash session restarted" : "bash: command is required");
        return;
    }
    js_append_string(&bash->command, command);
    buffer_append_string(&bash->command, "");
    if (is_nothing(&bash->command)) {
        finish_with(bash, false, "");
        return;
    }
    set_deadline(bash, json_get(input, "timeout_ms"));
    if (may_swallow(&bash->command)) {
        bash->checker_pid = bash_checker_start(&bash->identity, bash->command.data,
                                               bash->command.length, &bash->messages_fd);
        if (bash->checker_pid > 0) {
            bash->state = BASH_CHECKING;
            return;
        }
        bash->checker_pid = 0;
    }
    run_command(bash);
}

/* `first_line`, then what the command printed so far. The shell cannot go on and is dropped. */
static void give_up(struct bash *bash, const char *first_line) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    buffer_append_string(&text, first_line);
    CLEANUP_BUFFER struct buffer printed = BUFFER_EMPTY;
    bash_output_text(&bash->output, 1, &printed);
    if (printed.length > 0) {
        buffer_append_char(&text, '\n');
        buffer_append(&text, printed.data, printed.length);
    }
    /* A command that is only being checked never reached the shell. */
    if (bash->state == BASH_RUNNING) {
        kill_shell(bash);
    }
    finish(bash, true, text.data, text.length);
}

void bash_abort(struct bash *bash) {
    if (bash->state != BASH_IDLE) {
        give_up(bash, "bash: This operation was aborted");
    }
}

static void write_input(struct bash *bash) {
    while (bash->pending_input.length > 0) {
        ssize_t length =
            write(bash->shell.input_fd, bash->pending_input.data, bash->pending_input.length);
        if (length <= 0) {
            return; /* full, or the shell is gone, which bash_reaped will say */
        }
        buffer_consume(&bash->pending_input, (size_t)length);
    }
}

static void read_output(struct bash *bash, size_t limit) {
    char bytes[READ_SIZE];
    while (limit > 0) {
        ssize_t length =
            read(bash->shell.output_fd, bytes, limit < sizeof(bytes) ? limit : sizeof(bytes));
        if (length <= 0) {
            return;
        }
        bash_output_add(&bash->output, bytes, (size_t)length);
        limit -= (size_t)length;
    }
}

/* The status of this call, once its line is there; -1 before. */
static int find_status(struct bash *bash, size_t *digits) {
    char bytes[STATUS_LIMIT];
    ssize_t length = 0;
    while ((length = read(bash->shell.status_fd, bytes, sizeof(bytes))) > 0) {
        if (bash->status.length < STATUS_LIMIT) {
            buffer_append(&bash->status, bytes, (size_t)length);
        }
    }
    const char *line = strstr(buffer_string(&bash->status), bash->token);
    if (line == NULL || strchr(line, '\n') == NULL) {
        return -1;
    }
    line += strlen(bash->token);
    *digits = strspn(line, "0123456789");
    return (int)strtol(line, NULL, 10);
}

/* Under `set -v` bash echoes what it reads: the frame around the command is not the agent's. */
static void hide_frame(struct bash *bash) {
    CLEANUP_BUFFER struct buffer frame = BUFFER_EMPTY;
    bash_frame_command(&frame, bash->command.data, bash->command.length, bash->token);
    struct buffer *bytes = &bash->output.bytes;
    const char *echo =
        bytes->length == 0 ? NULL : memmem(bytes->data, bytes->length, frame.data, frame.length);
    if (echo == NULL) {
        return;
    }
    struct buffer shown = BUFFER_EMPTY;
    buffer_append(&shown, bytes->data, (size_t)(echo - bytes->data));
    buffer_append(&shown, bash->command.data, bash->command.length);
    buffer_append_char(&shown, '\n');
    const char *rest = echo + frame.length;
    buffer_append(&shown, rest, bytes->length - (size_t)(rest - bytes->data));
    buffer_free(bytes);
    *bytes = shown;
}

static void finish_command(struct bash *bash, int status, size_t digits) {
    /* All that was written before the status is in the pipe by now; no more than that is waited
     * for, as a background job may write on and on. */
    int waiting = 0;
    if (ioctl(bash->shell.output_fd, FIONREAD, &waiting) == 0 && waiting > 0) {
        read_output(bash, (size_t)waiting);
    }
    hide_frame(bash);
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    bash_output_text(&bash->output, digits, &text);
    if (status != 0 && text.length == 0) {
        buffer_append_format(&text, "exit %d", status);
    }
    finish(bash, status != 0, buffer_string(&text), text.length);
}

static void step_running(struct bash *bash) {
    write_input(bash);
    size_t digits = 0;
    int status = find_status(bash, &digits);
    if (status >= 0) {
        finish_command(bash, status, digits);
        return;
    }
    read_output(bash, STEP_READ_LIMIT);
}

/* What bash says when its input ends while something is open. */
static const char *find_incomplete(const char *messages) {
    static const char *const signs[] = {"unexpected EOF while looking for matching",
                                        "delimited by end-of-file", "unexpected end of file"};
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        const char *sign = strstr(messages, signs[i]);
        if (sign != NULL) {
            while (sign > messages && sign[-1] != '\n') {
                sign--;
            }
            return sign;
        }
    }
    return NULL;
}

static void finish_check(struct bash *bash) {
    const char *message = find_incomplete(buffer_string(&bash->messages));
    if (message == NULL) {
        cleanup_close_fd(&bash->messages_fd);
        bash->messages_fd = -1;
        bash->checker_pid = 0;
        run_command(bash);
        return;
    }
    CLEANUP_FREE char *text = memory_format("bash: the command is incomplete and was not run: %.*s",
                                            (int)strcspn(message, "\n"), message);
    finish_with(bash, true, text);
}

static void step_checking(struct bash *bash) {
    char bytes[STATUS_LIMIT];
    for (;;) {
        ssize_t length = read(bash->messages_fd, bytes, sizeof(bytes));
        if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (length <= 0 || bash->messages.length > MESSAGES_LIMIT) {
            finish_check(bash);
            return;
        }
        buffer_append(&bash->messages, bytes, (size_t)length);
    }
}

void bash_step(struct bash *bash) {
    if (bash->state == BASH_CHECKING) {
        step_checking(bash);
    }
    if (bash->state == BASH_RUNNING) {
        step_running(bash);
    } else if (bash->state == BASH_IDLE && bash->shell.pid > 0) {
        discard_output(bash);
    }
    if (bash->state != BASH_IDLE && clock_monotonic_ms() >= bash->deadline_ms) {
        CLEANUP_FREE char *line = memory_format("bash: bash command timed out after %sms",
                                                buffer_string(&bash->timeout_shown));
        give_up(bash, line);
    }
}

bool bash_reaped(struct bash *bash, pid_t pid) {
    if (pid <= 0 || pid != bash->shell.pid) {
        return false;
    }
    if (bash->state == BASH_RUNNING) {
        size_t digits = 0;
        int status = find_status(bash, &digits);
        if (status >= 0) {
            finish_command(bash, status, digits);
        } else {
            finish_with(bash, true, "bash: bash session terminated");
        }
    }
    bash_shell_close(&bash->shell);
    return true;
}

size_t bash_poll(const struct bash *bash, struct pollfd fds[BASH_POLL_LIMIT]) {
    size_t count = 0;
    if (bash->state == BASH_CHECKING) {
        fds[count++] = (struct pollfd){.fd = bash->messages_fd, .events = POLLIN};
    }
    if (bash->shell.pid > 0) {
        fds[count++] = (struct pollfd){.fd = bash->shell.output_fd, .events = POLLIN};
    }
    if (bash->state == BASH_RUNNING) {
        fds[count++] = (struct pollfd){.fd = bash->shell.status_fd, .events = POLLIN};
        if (bash->pending_input.length > 0) {
            fds[count++] = (struct pollfd){.fd = bash->shell.input_fd, .events = POLLOUT};
        }
    }
    return count;
}

int64_t bash_wake_at_ms(const struct bash *bash) {
    return bash->state == BASH_IDLE ? -1 : bash->deadline_ms;
}
