/*
 * The runner of one session: from a claimed work item to the item stopped and the sandbox kept.
 *
 * Heartbeats before anything slow; the session is looked at, its sandbox acquired, the events
 * attached to; every unanswered call of ours is handed over once and its result posted once; when
 * the turn is over and nothing happens for max_idle, or the session or the lease ends, everything
 * is released. One runner never waits for another.
 *
 * With a state every step is a row before it is an action, and a runner can be started again from
 * the rows of one that was killed: it finds the lease, the sandbox and the calls as they were left.
 */
#ifndef HOLT_ORCHESTRATOR_SESSION_RUNNER_H
#define HOLT_ORCHESTRATOR_SESSION_RUNNER_H

#include "cma/work_queue.h"
#include "orchestrator/custom_tools.h"
#include "orchestrator/hands.h"
#include "orchestrator/journal.h"
#include "state/state.h"

struct session_runner;

struct session_runner_options {
    struct loop *loop;
    struct api *api;                         /* with the environment key; borrowed */
    struct hands *hands;                     /* borrowed */
    struct journal *journal;                 /* borrowed; may be NULL */
    struct state *state;                     /* borrowed; NULL: nothing outlives the runner */
    const struct custom_tools *custom_tools; /* borrowed; NULL: none */
    int64_t max_idle_ms;                     /* after the end of a turn; 0: never */
    bool is_acknowledged; /* somebody else acknowledged the item: `holt worker run` */
    bool keeps_sandbox;   /* for the session's next item */
    /* When it is stopped before the turn is over, the item is not stopped but left: its lease
     * lapses, or is found by whoever is started from the same state. */
    bool hands_back;
    /* The sandbox is there and the session is being served; again when it was replaced. May be
     * NULL. */
    void (*started)(void *context, struct session_runner *runner);
    /* Called once, when nothing of the session is left here. The runner frees itself after it. The
     * error is NULL when the session was served to a regular end. */
    void (*ended)(void *context, struct session_runner *runner, const struct error *error);
    void *context;
};

/* Takes the item, whose row has been written. `resumed` is that row when it is of a daemon before
 * this one; NULL: the item was just claimed. */
struct session_runner *session_runner_start(const struct session_runner_options *options,
                                            struct work_item *take_item,
                                            const struct state_item *resumed);
/* Lets calls under way finish and be posted for up to `patience_ms`, cancels the rest, then stops
 * the item or hands it back. A second call with a shorter patience shortens it; with 0 calls go on
 * in a sandbox that is kept, for the next daemon to find. */
void session_runner_stop(struct session_runner *runner, int64_t patience_ms);
/* Somebody (it may be us) was given the session anew: ends at once and leaves the rest to that. */
void session_runner_supersede(struct session_runner *runner);
/* Whether it serves that work item under a lease that cannot have lapsed. */
bool session_runner_holds(const struct session_runner *runner, const char *work_id);
/* Drops it where it is, without a word to anybody: the process ends. */
void session_runner_free(struct session_runner *take_runner);
const char *session_runner_session_id(const struct session_runner *runner);

#endif
