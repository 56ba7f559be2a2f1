/*
 * The calls hand knows: queued, running, or finished and not yet acknowledged.
 *
 * Private to hand. Calls start in order of arrival; read, glob and grep run side by side, while
 * bash, write and edit wait for all before them and hold up all after them. The daemon's operations
 * (tools/operations.h) wait for none of these. Bounds: CALLS_LIMIT
 * calls; when the kept results reach CALLS_KEPT_BYTES_LIMIT nothing new starts until some are
 * acknowledged. Nothing that ran is ever dropped unacknowledged.
 */
#ifndef HOLT_HAND_CALLS_H
#define HOLT_HAND_CALLS_H

#include <poll.h>

#include "tools/agent.h"
#include "tools/tools.h"

enum {
    CALLS_LIMIT = 1024,
    CALLS_INPUT_BYTES_LIMIT = 96 * 1024 * 1024,
    CALLS_KEPT_BYTES_LIMIT = 64 * 1024 * 1024,
    CALLS_PARALLEL_LIMIT = 8,
    /* As many of the agent's, as many of the daemon's, and what bash has. */
    CALLS_POLL_LIMIT = 2 * CALLS_PARALLEL_LIMIT + 4,
    CALLS_ID_LIMIT = 256,
};

struct calls;

struct calls *calls_new(const struct agent_identity *identity);
void calls_free(struct calls *take_calls);
/* The daemon's configure frame. False when it makes no sense. */
bool calls_configure(struct calls *calls, struct json_object *frame, struct error **error);
/* A call frame. A known id is not run again: a kept result will be sent again. */
bool calls_add(struct calls *calls, struct json_object *frame, size_t frame_bytes,
               struct error **error);
void calls_cancel(struct calls *calls, const char *id);
void calls_acknowledge(struct calls *calls, const char *id);
/* A new connection knows nothing: kept results are announced, and sent when asked for. */
void calls_forget_sent(struct calls *calls);
/* Arrays of ids, owned by the caller. */
struct json_object *calls_running(const struct calls *calls);
struct json_object *calls_finished(const struct calls *calls);
/* The next result frame to send on this connection, owned by the caller; NULL: none. */
struct json_object *calls_next_result(struct calls *calls);

size_t calls_poll(const struct calls *calls, struct pollfd fds[CALLS_POLL_LIMIT]);
int64_t calls_wake_at_ms(const struct calls *calls);
/* Moves everything that can move. */
void calls_step(struct calls *calls);
void calls_reaped(struct calls *calls, pid_t pid);

#endif
