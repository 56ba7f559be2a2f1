/* A holt subcommand as a child process: started, awaited by its ready file, seen off by a pidfd. */
#include "cmd/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/memory.h"

enum { READY_CHECK_MS = 2, READY_LINE_LIMIT = 1024, CHILD_ARGUMENTS_LIMIT = 64 };

struct child {
    pid_t pid;
    int pid_fd;
    struct loop_watch *exit_watch;
    struct loop_timer *ready_timer;
    struct loop_timer *kill_timer;
    char *ready_path;
    int64_t ready_deadline_ms;
    void (*ready)(void *context, const char *line);
    void (*ended)(void *context, const struct error *error);
    void *context;
};

static void cleanup_actions(posix_spawn_file_actions_t *actions) {
    (void)posix_spawn_file_actions_destroy(actions);
}

static bool spawn(struct child *child, const struct child_options *options, struct error **error) {
    char program_name[] = "holt";
    char *argv[CHILD_ARGUMENTS_LIMIT + 2] = {program_name};
    for (size_t i = 0; options->arguments[i] != NULL; i++) {
        if (i == CHILD_ARGUMENTS_LIMIT) {
            return error_set(error, ERROR_INTERNAL, "too many arguments");
        }
        argv[i + 1] = (char *)(uintptr_t)options->arguments[i];
    }
    CLEANUP(cleanup_actions)
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, options->log_path,
                                           O_WRONLY | O_CREAT | O_APPEND, 0600);
    (void)posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    int failure = posix_spawn(&child->pid, "/proc/self/exe", &actions, NULL, argv,
                              (char *const *)(uintptr_t)options->environment);
    if (failure != 0) {
        return error_set_errno(error, failure, "cannot start holt %s", options->arguments[0]);
    }
    return true;
}

/* The ending as an error, NULL for exit code 0. */
static struct error *describe_end(int status) {
    struct error *error = NULL;
    if (WIFSIGNALED(status)) {
        (void)error_set(&error, ERROR_UNAVAILABLE, "killed by signal %d", WTERMSIG(status));
    } else if (WEXITSTATUS(status) != 0) {
        (void)error_set(&error, ERROR_UNAVAILABLE, "exited with code %d", WEXITSTATUS(status));
    }
    return error;
}

static void on_exit_ready(void *context, unsigned events) {
    (void)events;
    struct child *child = context;
    int status = 0;
    pid_t reaped = waitpid(child->pid, &status, WNOHANG);
    if (reaped == 0) {
        return;
    }
    loop_watch_free(STEAL_PTR(child->exit_watch));
    loop_timer_disarm(child->ready_timer);
    loop_timer_disarm(child->kill_timer);
    child->pid = -1;
    CLEANUP_ERROR struct error *error = describe_end(status);
    child->ended(child->context, error);
}

static void on_ready_timer(void *context) {
    struct child *child = context;
    CLEANUP_BUFFER struct buffer line = BUFFER_EMPTY;
    CLEANUP_ERROR struct error *error = NULL;
    if (io_read_file(AT_FDCWD, child->ready_path, &line, READY_LINE_LIMIT, &error)) {
        char *end = strchr(line.data == NULL ? buffer_reserve(&line, 0) : line.data, '\n');
        if (end != NULL) {
            *end = '\0';
        }
        child->ready(child->context, buffer_string(&line));
        return;
    }
    if (error->errno_value != ENOENT) {
        child->ended(child->context, error);
        return;
    }
    if (clock_monotonic_ms() > child->ready_deadline_ms) {
        CLEANUP_ERROR struct error *late = NULL;
        (void)error_set(&late, ERROR_TIMEOUT, "was not ready in time");
        child->ended(child->context, late);
        return;
    }
    loop_timer_arm(child->ready_timer, READY_CHECK_MS);
}

static void on_kill_timer(void *context) {
    struct child *child = context;
    if (child->pid > 0) {
        (void)kill(child->pid, SIGKILL);
    }
}

struct child *child_start(struct loop *loop, const struct child_options *options,
                          struct error **error) {
    struct child *child = memory_new(struct child);
    child->pid = -1;
    child->pid_fd = -1;
    child->ready = options->ready;
    child->ended = options->ended;
    child->context = options->context;
    child->ready_timer = loop_timer_new(loop, on_ready_timer, child);
    child->kill_timer = loop_timer_new(loop, on_kill_timer, child);
    if (!spawn(child, options, error)) {
        child_free(child);
        return NULL;
    }
    child->pid_fd = (int)syscall(SYS_pidfd_open, child->pid, 0);
    if (child->pid_fd < 0) {
        (void)error_set_errno(error, errno, "pidfd_open");
        child_free(child);
        return NULL;
    }
    child->exit_watch = loop_watch_new(loop, child->pid_fd, LOOP_READ, on_exit_ready, child);
    if (options->ready_path != NULL) {
        child->ready_path = memory_string(options->ready_path);
        child->ready_deadline_ms = clock_monotonic_ms() + options->ready_timeout_ms;
        loop_timer_arm(child->ready_timer, 0);
    }
    return child;
}

bool child_is_running(const struct child *child) {
    return child->pid > 0;
}

void child_terminate(struct child *child, int64_t grace_ms) {
    if (child->pid > 0) {
        (void)kill(child->pid, SIGTERM);
        loop_timer_arm(child->kill_timer, grace_ms);
    }
}

void child_free(struct child *take_child) {
    if (take_child == NULL) {
        return;
    }
    loop_watch_free(take_child->exit_watch);
    loop_timer_free(take_child->ready_timer);
    loop_timer_free(take_child->kill_timer);
    if (take_child->pid > 0) {
        (void)kill(take_child->pid, SIGKILL);
        while (waitpid(take_child->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (take_child->pid_fd >= 0) {
        (void)close(take_child->pid_fd);
    }
    free(take_child->ready_path);
    free(take_child);
}
