/*
 * The dispatcher: claims work items of one environment and starts a session runner for each.
 *
 * Polls only while there is room (slots.h), so that nothing is claimed that cannot be served.
 * How it learns of work: by polling all the time, by dispatcher_wake (a webhook came), by a slow
 * recovery poll, or by any of these together. Whatever the mode, the queue is drained at the start,
 * and the items that the state remembers are taken up again.
 *
 * A failure that may pass is retried with a backoff of 1 s to 60 s; one that will not (a wrong key,
 * an environment that does not exist) ends the dispatcher with an error.
 */
#ifndef HOLT_ORCHESTRATOR_DISPATCHER_H
#define HOLT_ORCHESTRATOR_DISPATCHER_H

#include "cma/api.h"
#include "orchestrator/hands.h"
#include "orchestrator/journal.h"
#include "orchestrator/script_launch.h"
#include "orchestrator/slots.h"
#include "state/state.h"

struct dispatcher;

struct dispatcher_options {
    struct loop *loop;
    struct api *api;     /* with the environment key; borrowed */
    struct hands *hands; /* borrowed */
    struct journal *journal;
    /* Items are given to this script instead (script_runner.h); borrowed. NULL: sessions are served
     * here, with `hands`. A session takes a slot until its script has returned. */
    const struct script_options *script;
    const struct custom_tools *custom_tools; /* borrowed; NULL: none */
    struct state *state;                     /* borrowed; NULL: nothing outlives the daemon */
    const char *seal_key; /* the environment key: tokens in the state are sealed with it */
    bool keeps_sandboxes; /* for the next items of their sessions */
    const char *environment_id;
    const char *worker_id;
    struct slots
        *slots; /* shared with other dispatchers; borrowed. NULL: its own, no other bound */
    size_t max_sessions; /* of this one */
    int64_t max_idle_ms;
    /* After an empty answer: the wait before the next poll. Negative: none when the control plane
     * held the poll for as long as we let it, else 1 to 3 s, at random. */
    int64_t poll_interval_ms;
    /* Poll only at the start, when woken, and for recovery. */
    bool is_waiting_for_wakes;
    int64_t recovery_interval_ms; /* with is_waiting_for_wakes: the slow poll; 0: none */
    int64_t debounce_ms;          /* from a wake to its first poll: a burst drains once */
    /* The dispatcher is finished: stopped as asked (NULL), or a failure that will not pass. Every
     * session has ended. */
    void (*ended)(void *context, const struct error *error);
    void *context;
};

struct dispatcher *dispatcher_start(const struct dispatcher_options *options);
/*
 * Something may be in the queue: after the debounce polls without waiting until the queue answers
 * empty. Never polls more often because of it than one wake at a time, and during a backoff at most
 * once a second.
 */
void dispatcher_wake(struct dispatcher *dispatcher);
/* Whether it serves no session and owes no poll: nothing is lost by leaving now. */
bool dispatcher_is_idle(const struct dispatcher *dispatcher);
/* What can be changed while it runs; see dispatcher_options. Sessions that run keep their idle
 * time.
 */
struct dispatcher_changes {
    size_t max_sessions;
    int64_t max_idle_ms;
    int64_t poll_interval_ms;
    int64_t recovery_interval_ms; /* counts only where there is a recovery poll */
};
void dispatcher_change(struct dispatcher *dispatcher, const struct dispatcher_changes *changes);
/* Claims nothing any more; sessions may finish their calls for up to `patience_ms`. Those whose
 * turn is over then are stopped, the others left to whoever comes next. `ended` follows. A second
 * call with 0 hurries them. */
void dispatcher_stop(struct dispatcher *dispatcher, int64_t patience_ms);
size_t dispatcher_session_count(const struct dispatcher *dispatcher);
/* After `ended`. NULL is fine. */
void dispatcher_free(struct dispatcher *take_dispatcher);

#endif
