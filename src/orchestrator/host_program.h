/*
 * A program that runs beside the daemon, as its own unprivileged user: a custom tool whose
 * place is the host.
 *
 * It gets the given environment and nothing of ours: no descriptor, no variable, no key. It runs in
 * a process group of its own, which is killed when it ends, at its timeout, and when it is
 * cancelled. Its output is bounded to its last bytes.
 */
#ifndef HOLT_ORCHESTRATOR_HOST_PROGRAM_H
#define HOLT_ORCHESTRATOR_HOST_PROGRAM_H

#include "base/loop.h"
#include "hand/operations.h"

struct host_program;

struct host_program_options {
    const char *const *argv;        /* NULL-terminated; the program is searched on PATH */
    const char *const *environment; /* "NAME=value", NULL-terminated */
    const char *input;              /* for its standard input; copied */
    int64_t timeout_ms;
};

/* As the end of a program in the sandbox; `result` is NULL when it could not be started. */
typedef hand_exec_done host_program_done;

/* `done` is called once, later, from the loop. */
struct host_program *host_program_start(struct loop *loop,
                                        const struct host_program_options *options,
                                        host_program_done done, void *context);
/* Kills it; no `done`. Only before `done`. NULL is fine. */
void host_program_cancel(struct host_program *take_program);

#endif
