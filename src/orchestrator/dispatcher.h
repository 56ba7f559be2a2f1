/*
 * The dispatcher: claims work items of one environment and starts a session runner for each.
 *
 * Polls only while there is room (max_sessions), so that nothing is claimed that cannot be served.
 * A failure that may pass is retried with a backoff of 1 s to 60 s; one that will not (a wrong key,
 * an environment that does not exist) ends the dispatcher with an error.
 */
#ifndef HOLT_ORCHESTRATOR_DISPATCHER_H
#define HOLT_ORCHESTRATOR_DISPATCHER_H

#include "cma/api.h"
#include "orchestrator/hands.h"
#include "orchestrator/journal.h"

struct dispatcher;

struct dispatcher_options {
    struct loop *loop;
    struct api *api;     /* with the environment key; borrowed */
    struct hands *hands; /* borrowed */
    struct journal *journal;
    const char *environment_id;
    const char *worker_id;
    size_t max_sessions;
    int64_t max_idle_ms;
    /* After an empty answer: the wait before the next poll. Negative: none when the control plane
     * held the poll for as long as we let it, else 1 to 3 s, at random. */
    int64_t poll_interval_ms;
    /* The dispatcher is finished: stopped as asked (NULL), or a failure that will not pass. Every
     * session has ended. */
    void (*ended)(void *context, const struct error *error);
    void *context;
};

struct dispatcher *dispatcher_start(const struct dispatcher_options *options);
/* Claims nothing any more; sessions may finish their calls for up to `patience_ms`. `ended`
 * follows. A second call with 0 hurries them. */
void dispatcher_stop(struct dispatcher *dispatcher, int64_t patience_ms);
size_t dispatcher_session_count(const struct dispatcher *dispatcher);
/* After `ended`. NULL is fine. */
void dispatcher_free(struct dispatcher *take_dispatcher);

#endif
