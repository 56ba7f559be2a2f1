/* A child process on the loop, with posix_spawn and a pidfd. */
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

struct process {
    pid_t pid; /* -1 once reaped */
    bool ends_group;
    int pid_fd;
    struct loop_watch *exit_watch;
    struct loop_timer *kill_timer;
    void (*ended)(void *context, int wait_status);
    void *context;
};

static void cleanup_actions(posix_spawn_file_actions_t *actions) {
    (void)posix_spawn_file_actions_destroy(actions);
}

static void cleanup_attributes(posix_spawnattr_t *attributes) {
    (void)posix_spawnattr_destroy(attributes);
}

static void give(posix_spawn_file_actions_t *actions, int fd, int as, int flags) {
    if (fd > 0) {
        (void)posix_spawn_file_actions_adddup2(actions, fd, as);
    } else {
        (void)posix_spawn_file_actions_addopen(actions, as, "/dev/null", flags, 0);
    }
}

/* Returns 0 or an errno. */
static int spawn(pid_t *pid, const struct process_options *options) {
    CLEANUP(cleanup_actions)
    posix_spawn_file_actions_t actions;
    (void)posix_spawn_file_actions_init(&actions);
    /* Output first: error may be given the same descriptor, which output must not cover. */
    give(&actions, options->input_fd, STDIN_FILENO, O_RDONLY);
    give(&actions, options->output_fd, STDOUT_FILENO, O_WRONLY);
    give(&actions, options->error_fd, STDERR_FILENO, O_WRONLY);
    /* Libraries of ours open descriptors without O_CLOEXEC: libcurl its connections. */
    (void)posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    if (options->directory != NULL) {
        (void)posix_spawn_file_actions_addchdir_np(&actions, options->directory);
    }
    CLEANUP(cleanup_attributes)
    posix_spawnattr_t attributes;
    (void)posix_spawnattr_init(&attributes);
    sigset_t none;
    sigset_t all;
    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                    POSIX_SPAWN_SETSIGDEF);
    return posix_spawnp(pid, options->arguments[0], &actions, &attributes,
                        (char *const *)(uintptr_t)options->arguments,
                        (char *const *)(uintptr_t)options->environment);
}

static void limit(pid_t pid, __rlimit_resource_t resource, int64_t bytes) {
    if (bytes > 0) {
        const struct rlimit value = {(rlim_t)bytes, (rlim_t)bytes};
        (void)prlimit(pid, resource, &value, NULL); /* it may have ended already */
    }
}

static void on_exit_ready(void *context, unsigned events) {
    (void)events;
    struct process *process = context;
    int status = 0;
    if (process->ends_group) {
        (void)kill(-process->pid, SIGKILL); /* not reaped yet: the number is still its own */
    }
    pid_t reaped = waitpid(process->pid, &status, WNOHANG);
    if (reaped == 0 || (reaped < 0 && errno == EINTR)) {
        return;
    }
    loop_watch_free(STEAL_PTR(process->exit_watch));
    loop_timer_disarm(process->kill_timer);
    process->pid = -1; /* from here on the number may be another's */
    process->ended(process->context, status);
}

static void on_kill_timer(void *context) {
    struct process *process = context;
    if (process->pid > 0) {
        (void)kill(-process->pid, SIGKILL);
    }
}

struct process *process_start(struct loop *loop, const struct process_options *options,
                              struct error **error) {
    pid_t pid = -1;
    int failure = spawn(&pid, options);
    if (failure != 0) {
        (void)error_set_errno(error, failure, "cannot run %s", options->arguments[0]);
        return NULL;
    }
    limit(pid, RLIMIT_FSIZE, options->file_limit_bytes);
    limit(pid, RLIMIT_AS, options->memory_limit_bytes);
    struct process *process = memory_new(struct process);
    process->pid = pid;
    process->ends_group = options->ends_group;
    process->ended = options->ended;
    process->context = options->context;
    process->kill_timer = loop_timer_new(loop, on_kill_timer, process);
    process->pid_fd = (int)syscall(SYS_pidfd_open, pid, 0); /* O_CLOEXEC by itself */
    if (process->pid_fd < 0) {
        (void)error_set_errno(error, errno, "pidfd_open");
        process_free(process);
        return NULL;
    }
    process->exit_watch = loop_watch_new(loop, process->pid_fd, LOOP_READ, on_exit_ready, process);
    return process;
}

void process_terminate(struct process *process, int64_t grace_ms) {
    if (process->pid > 0) {
        (void)kill(-process->pid, SIGTERM);
        loop_timer_arm(process->kill_timer, grace_ms);
    }
}

void process_free(struct process *take_process) {
    if (take_process == NULL) {
        return;
    }
    loop_watch_free(take_process->exit_watch);
    loop_timer_free(take_process->kill_timer);
    if (take_process->pid > 0) {
        (void)kill(-take_process->pid, SIGKILL);
        while (waitpid(take_process->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    if (take_process->pid_fd >= 0) {
        (void)close(take_process->pid_fd);
    }
    free(take_process);
}

char *process_describe_end(int wait_status) {
    return WIFSIGNALED(wait_status)
               ? memory_format("was killed by signal %d", WTERMSIG(wait_status))
               : memory_format("exited with code %d", WEXITSTATUS(wait_status));
}
