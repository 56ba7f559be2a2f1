/*
 * The runner of one session: from a claimed work item to the item stopped and the sandbox gone.
 *
 * Heartbeats before anything slow; the session is looked at, a hand acquired, the events attached
 * to; every unanswered call of ours is handed over once and its result posted once; when the turn
 * is over and nothing happens for max_idle, or the session or the lease ends, everything is
 * released. One runner never waits for another.
 */
#ifndef HOLT_ORCHESTRATOR_SESSION_RUNNER_H
#define HOLT_ORCHESTRATOR_SESSION_RUNNER_H

#include "cma/work_queue.h"
#include "orchestrator/hands.h"
#include "orchestrator/journal.h"

struct session_runner;

struct session_runner_options {
    struct loop *loop;
    struct api *api;         /* with the environment key; borrowed */
    struct hands *hands;     /* borrowed */
    struct journal *journal; /* borrowed; may be NULL */
    int64_t max_idle_ms;     /* after the end of a turn; 0: never */
    bool is_acknowledged;    /* somebody else acknowledged the item: `holt worker run` */
    /* Its sandbox is ready and its hand answers. May be NULL; not called when it never comes so
     * far.
     */
    void (*started)(void *context, struct session_runner *runner);
    /* Called once, when nothing of the session is left here. The runner frees itself after it. The
     * error is NULL when the session was served to a regular end. */
    void (*ended)(void *context, struct session_runner *runner, const struct error *error);
    void *context;
};

/* Takes the item. */
struct session_runner *session_runner_start(const struct session_runner_options *options,
                                            struct work_item *take_item);
/* Lets calls under way finish and be posted for up to `patience_ms`, then stops the item. A second
 * call with a shorter patience shortens it. */
void session_runner_stop(struct session_runner *runner, int64_t patience_ms);
const char *session_runner_session_id(const struct session_runner *runner);

#endif
