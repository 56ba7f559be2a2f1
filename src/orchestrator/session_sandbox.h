/*
 * The sandbox of a session: the one it already has, or a new one; a row before each step.
 *
 * Which sandbox a session has is said by the state alone. One that is gone is replaced under a new
 * id, so that nothing said by or about the old one is ever taken for the new one's. While a row
 * cannot be written (a full disk) nothing happens, and it is tried again.
 */
#ifndef HOLT_ORCHESTRATOR_SESSION_SANDBOX_H
#define HOLT_ORCHESTRATOR_SESSION_SANDBOX_H

#include "orchestrator/hands.h"
#include "state/state.h"

struct session_sandbox;

enum session_sandbox_origin {
    SANDBOX_NEW,      /* the session had none */
    SANDBOX_RESUMED,  /* the session's own, as it was left */
    SANDBOX_REPLACED, /* a new one: the session's own is gone */
    SANDBOX_REBOOTED, /* so, because the machine went down: rows of calls may be missing too */
};

struct session_sandbox_events {
    /* `take_fd` is connected to its hand, or -1 with an error: there is no sandbox. */
    void (*acquired)(void *context, enum session_sandbox_origin origin,
                     const struct hands_place *place, int take_fd, const struct error *error);
    void (*released)(void *context, const struct error *error);
};

/* Begins at once; `acquired` is called once. `state` may be NULL: nothing outlives the session. */
struct session_sandbox *session_sandbox_acquire(struct loop *loop, struct hands *hands,
                                                struct state *state, const char *session_id,
                                                const struct session_sandbox_events *events,
                                                void *context);
/* Destroys the sandbox that the session may have, of an earlier item; only `released` is called. */
struct session_sandbox *session_sandbox_discard(struct loop *loop, struct hands *hands,
                                                struct state *state, const char *session_id,
                                                const struct session_sandbox_events *events,
                                                void *context);
/* The name that hands and keeper know it by. */
const char *session_sandbox_name(const struct session_sandbox *sandbox);
/* Hand said who it is. False: the row could not be written; say it again later. */
bool session_sandbox_confirm(struct session_sandbox *sandbox, const char *incarnation,
                             struct error **error);
/* Keeps it for the session's next item, or destroys it; `released` is called once, later. */
void session_sandbox_release(struct session_sandbox *sandbox, bool is_kept);
/* After `released`. NULL is fine. */
void session_sandbox_free(struct session_sandbox *take_sandbox);

#endif
