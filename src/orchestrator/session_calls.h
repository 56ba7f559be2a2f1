/*
 * The tool calls of a session and the state of its turn: events in, decisions out.
 *
 * Pure bookkeeping (protocol.md section 3): no network, no clock. The session runner feeds it every
 * event once, in order, asks it what to hand over, and tells it what became of each call.
 */
#ifndef HOLT_ORCHESTRATOR_SESSION_CALLS_H
#define HOLT_ORCHESTRATOR_SESSION_CALLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/json.h"

enum call_state {
    CALL_HELD,    /* waits for user.tool_confirmation */
    CALL_READY,   /* may run, was not handed over */
    CALL_RUNNING, /* handed over */
    CALL_POSTING, /* it ended; its result is on the way */
    CALL_REFUSED, /* its result was refused: tried once more at the next reconcile */
    CALL_CLOSED,  /* answered, denied, of a dead thread, or somebody else's: ours no more */
};

struct session_call {
    enum call_state state;
    char *id;
    char *name;
    char *thread_id;           /* or NULL */
    struct json_object *input; /* NULL once closed, or when the event had none */
    bool is_custom;            /* answered by user.custom_tool_result */
    bool is_interrupted;       /* to be cancelled, or not to be started */
    bool was_refused;          /* once already */
    bool was_cut;              /* the result was too large, and a shorter one stands for it */
    bool was_handed;           /* to the hand that is connected */
    bool is_orphaned;          /* its thread is gone: nobody takes an answer any more */
    struct session_call *next; /* in order of arrival */
};

struct session_calls;

/* `owns` says whether a tool of that name is run here. */
struct session_calls *
session_calls_new(bool (*owns)(void *context, const char *name, bool is_custom), void *context);
void session_calls_free(struct session_calls *take_calls); /* NULL is fine */

enum calls_outcome {
    CALLS_CHANGED,   /* look at the calls and the turn again */
    CALLS_ENDED,     /* the session is over: terminated or deleted */
    CALLS_UNTOUCHED, /* nothing here depends on this event */
};

/* Takes in an event. Malformed ones are untouched. */
enum calls_outcome session_calls_event(struct session_calls *calls, struct json_object *event);

struct session_call *session_calls_first(const struct session_calls *calls);
/* The call of that id, or NULL. */
struct session_call *session_calls_find(const struct session_calls *calls, const char *id);
void session_call_set_state(struct session_call *call, enum call_state state);
/* Calls of ours that something is still to happen to: held, ready, running or posting. */
size_t session_calls_open(const struct session_calls *calls);
/* Whether the turn has ended and nothing of it is open: the idle countdown may run. */
bool session_calls_is_idle(const struct session_calls *calls);

/*
 * The event that answers a call: user.tool_result or user.custom_tool_result with the given
 * content blocks (borrowed; an additional reference is taken).
 */
struct json_object *session_call_answer(const struct session_call *call, bool is_error,
                                        struct json_object *content);

#endif
