/*
 * A child process on the loop: started, seen off by a pidfd, ended by its process group.
 *
 * The child leads a process group of its own, so that a signal reaches what it started, and a
 * terminal's Ctrl-C does not reach it. It inherits standard input, output and error and no other
 * descriptor, an empty signal mask, and default dispositions.
 */
#ifndef HOLT_BASE_PROCESS_H
#define HOLT_BASE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

struct process;

struct process_options {
    /* NULL-terminated; the first is looked for in PATH when it has no slash. */
    const char *const *arguments;
    const char *const *environment; /* whole environment, "NAME=value"; NULL-terminated */
    const char *directory;          /* to start in; NULL: ours */
    /* Given to the child, kept by the caller; 0 stands for /dev/null. */
    int input_fd;
    int output_fd;
    int error_fd;
    bool ends_group; /* what it leaves behind in its group is killed when it ends */
    /* 0: none. Set right after the start, so that what the child starts has them from its birth:
     * for programs that do not hurry to break them. */
    int64_t file_limit_bytes;   /* RLIMIT_FSIZE: SIGXFSZ beyond it */
    int64_t memory_limit_bytes; /* RLIMIT_AS */
    /* Called once when the child has ended and was reaped. The process may be freed from here. */
    void (*ended)(void *context, int wait_status);
    void *context;
};

/* Fails with ERROR_SYSTEM and the errno of execve(2) when the program cannot be run. */
struct process *process_start(struct loop *loop, const struct process_options *options,
                              struct error **error);
/* Asks the group to end (SIGTERM), and after `grace_ms` makes it (SIGKILL); `ended` follows. A
 * second call with a shorter grace shortens it. Nothing after the end. */
void process_terminate(struct process *process, int64_t grace_ms);
/* Kills the group if the child still runs, reaps it, frees. No callback. NULL is fine. */
void process_free(struct process *take_process);
/* "exited with code 3", "was killed by signal 9"; the caller frees it. */
char *process_describe_end(int wait_status);

#endif
