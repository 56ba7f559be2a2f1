/*
 * A synchronous tool in a forked child with the agent's credentials; its result comes over a pipe.
 *
 * Private to hand. A crash or a runaway pattern in the child ends one call, never hand. The pipe is
 * foreign input once the child acts for the agent: bounded and parsed as such.
 */
#ifndef HOLT_HAND_JOB_H
#define HOLT_HAND_JOB_H

#include "base/buffer.h"
#include "tools/agent.h"
#include "tools/tools.h"

struct job {
    pid_t pid; /* 0: not running */
    int fd;    /* not blocking; -1 when closed */
    struct buffer bytes;
    bool is_over_limit;
};

enum { JOB_RESULT_LIMIT = 40 * 1024 * 1024 };

/* Starts `function`; the job must be zeroed with fd -1. False with *error set. */
bool job_start(struct job *job, tool_function function, const struct tool_context *context,
               const struct agent_identity *identity, struct json_object *input,
               struct error **error);
/* Reads what is there; true at the end of the pipe (the child said all it will). */
bool job_step(struct job *job);
/* SIGKILL to the child and its process group. */
void job_kill(const struct job *job);
/* The child's answer. `name` is the tool's, for the text when the child died without one. */
void job_take_result(struct job *job, const char *name, struct tool_result *result);
void job_free(struct job *job);

#endif
