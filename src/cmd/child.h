/*
 * A holt subcommand run as a child process by another one (`holt demo`).
 *
 * The child's stdout and stderr go to a log file of the caller's; its readiness is a file that it
 * writes (--ready-file); its end is seen by a pidfd. Everything is on the loop.
 */
#ifndef HOLT_CMD_CHILD_H
#define HOLT_CMD_CHILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

struct child;

struct child_options {
    const char *const *arguments;   /* after "holt"; NULL-terminated */
    const char *const *environment; /* whole environment, "NAME=value"; NULL-terminated */
    const char *log_path;           /* appended to */
    const char *ready_path;         /* read when it appears; NULL: ready at once */
    int64_t ready_timeout_ms;
    /* Called once when the ready file is there, with its first line. */
    void (*ready)(void *context, const char *line);
    /* Called once when the child ended, or was not ready in time, or its ready file is bad. The
     * error says how; NULL after exit code 0. */
    void (*ended)(void *context, const struct error *error);
    void *context;
};

/* Starts /proc/self/exe with the arguments. */
struct child *child_start(struct loop *loop, const struct child_options *options,
                          struct error **error);
bool child_is_running(const struct child *child);
/* Asks the child to end (SIGTERM), and after `grace_ms` makes it (SIGKILL); `ended` follows unless
 * the child had ended before. */
void child_terminate(struct child *child, int64_t grace_ms);
/* Kills the child if it still runs, reaps it, frees. No callback. NULL is fine. */
void child_free(struct child *take_child);

#endif
