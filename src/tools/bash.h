/*
 * bash: one shell for a session, driven by a poll loop.
 *
 * Private to the rooms tools/ and hand/. The caller waits on bash_poll's descriptors, calls
 * bash_step after each wait, bash_reaped for every child of the process that ended, and takes the
 * result when there is one. Nothing here blocks. At most one call is in flight.
 *
 * A command goes to the shell's stdin as the official worker sends it, so that bash's own messages
 * carry the same line numbers; its status comes back over a descriptor of its own that the command
 * does not have, so that neither `exec >file` nor `set -x` can hide or forge it.
 */
#ifndef HOLT_TOOLS_BASH_H
#define HOLT_TOOLS_BASH_H

#include <poll.h>

#include "tools/agent.h"
#include "tools/tools.h"

enum { BASH_POLL_LIMIT = 4, BASH_DEFAULT_TIMEOUT_MS = 120000 };

struct bash;

/* `identity` is copied. The shell itself starts with the first command. */
struct bash *bash_new(const struct agent_identity *identity);
/* Ends the shell and its process group; NULL is fine. */
void bash_free(struct bash *take_bash);
/*
 * What the next shell starts with: its directory, and its environment as an object of strings, or
 * NULL for this process's own less ANTHROPIC_* (any case). Both are copied.
 */
void bash_configure(struct bash *bash, const char *workdir, struct json_object *environment);

/* Begins a call; its result may be there at once. The caller checks that none is in flight. */
void bash_begin(struct bash *bash, struct json_object *input);
/* Ends the call in flight, if any, with the official text for an abort and the output so far. */
void bash_abort(struct bash *bash);
/* The descriptors to wait on; returns how many. */
size_t bash_poll(const struct bash *bash, struct pollfd fds[BASH_POLL_LIMIT]);
/* When bash_step wants to be called at the latest (clock_monotonic_ms), or -1. */
int64_t bash_wake_at_ms(const struct bash *bash);
/* Moves bytes, notices what ended and what took too long. */
void bash_step(struct bash *bash);
/* A child of this process ended; true when it was bash's. */
bool bash_reaped(struct bash *bash, pid_t pid);
/* Hands the finished call's result over, once. False while there is none. */
bool bash_take_result(struct bash *bash, struct tool_result *result);

#endif
