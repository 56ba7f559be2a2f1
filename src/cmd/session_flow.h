/*
 * One turn of one session, as an application drives it: create what is missing, attach to the
 * stream, send the prompt, present the events, end with the turn.
 */
#ifndef HOLT_CMD_SESSION_FLOW_H
#define HOLT_CMD_SESSION_FLOW_H

#include <stdbool.h>

#include "base/error.h"
#include "base/loop.h"
#include "cma/application.h"
#include "cmd/present.h"

struct session_flow;

struct session_flow_options {
    struct application *application;
    struct presenter *presenter; /* NULL: events are printed to stdout as lines of JSON */
    const char *prompt;
    const char *environment_id;
    const char *agent_id; /* NULL: a new agent is created */
    const char *model;    /* of a new agent */
    int64_t timeout_ms;
    /* Called once. The error is NULL when the turn ended with end_turn. `session_id` is NULL when
     * none was created. */
    void (*ended)(void *context, const char *session_id, const struct error *error);
    void *context;
};

/* Copies the strings. */
struct session_flow *session_flow_start(struct loop *loop,
                                        const struct session_flow_options *options);
/* No callback any more. NULL is fine. */
void session_flow_free(struct session_flow *take_flow);

#endif
