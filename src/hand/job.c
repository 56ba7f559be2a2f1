/* fork without exec: the child has the tool's code already, and nothing of hand but a pipe. */
#include "hand/job.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"

enum { READ_SIZE = 64 * 1024, RESULT_FD = 3, PIPE_SIZE = 256 * 1024 };

static _Noreturn void run_child(int result_fd, tool_function function,
                                const struct tool_context *context,
                                const struct agent_identity *identity, struct json_object *input) {
    (void)setpgid(0, 0);
    /* hand's sockets and other jobs' pipes are not for the agent's side. */
    if (result_fd != RESULT_FD && dup3(result_fd, RESULT_FD, O_CLOEXEC) < 0) {
        _exit(EXIT_FAILURE);
    }
    (void)close_range(RESULT_FD + 1, ~0U, 0);
    struct tool_result result = {0};
    if (agent_become(identity)) {
        function(context, input, &result);
    } else {
        tool_result_error(&result, "cannot become the agent's user");
    }
    CLEANUP_JSON struct json_object *answer = json_object_new_object();
    json_set_bool(answer, "is_error", result.is_error);
    json_set(answer, "content", result.content);
    size_t length = 0;
    const char *text = json_text(answer, &length);
    bool is_told = io_write_all(RESULT_FD, text, length, NULL);
    /* Whatever the tool has started and left behind ends with it. */
    if (getpgrp() == getpid()) {
        (void)kill(0, SIGKILL);
    }
    _exit(is_told ? EXIT_SUCCESS : EXIT_FAILURE);
}

bool job_start(struct job *job, tool_function function, const struct tool_context *context,
               const struct agent_identity *identity, struct json_object *input,
               struct error **error) {
    int ends[2] = {-1, -1};
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set_errno(error, errno, "cannot make a pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        run_child(ends[1], function, context, identity, input);
    }
    int saved = errno;
    (void)close(ends[1]);
    if (pid < 0) {
        (void)close(ends[0]);
        return error_set_errno(error, saved, "cannot start a process");
    }
    (void)setpgid(pid, pid);
    (void)fcntl(ends[0], F_SETPIPE_SZ, PIPE_SIZE);
    (void)io_set_nonblocking(ends[0], true, NULL);
    job->pid = pid;
    job->fd = ends[0];
    return true;
}

bool job_step(struct job *job) {
    for (;;) {
        char *space = buffer_reserve(&job->bytes, READ_SIZE);
        ssize_t length = read(job->fd, space, READ_SIZE);
        if (length < 0 && errno == EINTR) {
            continue;
        }
        if (length < 0 && errno == EAGAIN) {
            return false;
        }
        if (length <= 0) {
            return true;
        }
        job->bytes.length += (size_t)length;
        job->bytes.data[job->bytes.length] = 0;
        if (job->bytes.length > JOB_RESULT_LIMIT) {
            job->is_over_limit = true;
            job_kill(job);
            return true;
        }
    }
}

void job_kill(const struct job *job) {
    if (job->pid > 0) {
        (void)kill(-job->pid, SIGKILL);
        (void)kill(job->pid, SIGKILL);
    }
}

void job_take_result(struct job *job, const char *name, struct tool_result *result) {
    CLEANUP_JSON struct json_object *answer = NULL;
    struct json_object *content = NULL;
    if (job->is_over_limit) {
        tool_result_error(result, "%s: the result exceeds %d bytes", name, JOB_RESULT_LIMIT);
        return;
    }
    if (job->bytes.length > 0 && json_parse(job->bytes.data, job->bytes.length, &answer, NULL)) {
        content = json_get_array(answer, "content");
    }
    if (content == NULL) {
        tool_result_error(result, "%s: the tool's process died", name);
        return;
    }
    result->is_error = json_get_bool(answer, "is_error", true);
    result->content = json_object_get(content);
}

void job_free(struct job *job) {
    cleanup_close_fd(&job->fd);
    buffer_free(&job->bytes);
    *job = (struct job){.fd = -1};
}
