/*
 * What a session needs in its sandbox besides the tools: skills, memory stores, staged inputs.
 *
 * Each is a part with a row in the table of session_setup.c. Parts start one after another when
 * hand is ready and before the first call runs, and finish in reverse order when the session ends
 * regularly. They reach the sandbox only through hand. A part may be started again for a session
 * that it had prepared already (a restarted daemon, a kept sandbox): it makes no difference then.
 */
#ifndef HOLT_ORCHESTRATOR_SESSION_SETUP_H
#define HOLT_ORCHESTRATOR_SESSION_SETUP_H

#include "base/json.h"
#include "base/loop.h"
#include "cma/api.h"
#include "hand/client.h"
#include "orchestrator/stage_plan.h"

/* What a part works with; everything is borrowed and outlives the part. */
struct session_setup_context {
    struct loop *loop;
    struct api *api; /* with the item's own token when it has one */
    bool has_token;  /* it has: memory stores refuse the environment key */
    const char *session_id;
    struct json_object *session; /* the answer to GET /v1/sessions/{id} */
    struct hand_client *hand;
    const char *workdir;
    int64_t memory_sync_ms; /* from pass to pass of the memory stores; 0: they are not served */
    bool is_place_shared;   /* others use the place after the session: leave nothing there */
    const struct stage_options *stage; /* what may be staged; NULL: nothing */
};

typedef void (*session_setup_done)(void *owner, const struct error *error);

struct session_setup_part {
    const char *name;
    /* The part's state, or NULL when the session needs nothing of it; `done` is called once, later,
     * with an error only when the session cannot be served without. */
    void *(*start)(const struct session_setup_context *context, session_setup_done done,
                   void *owner);
    /* The session is over: `done` is called once, later. NULL: nothing to do. */
    void (*finish)(void *part, session_setup_done done, void *owner);
    /* Cancels what is under way; no callback any more. */
    void (*free)(void *take_part);
};

struct session_setup;

struct session_setup *session_setup_start(const struct session_setup_context *context,
                                          session_setup_done done, void *owner);
/* Finishes what was started, for at most `patience_ms`; `done` is called once, later. */
void session_setup_finish(struct session_setup *setup, int64_t patience_ms, session_setup_done done,
                          void *owner);
void session_setup_free(struct session_setup *take_setup); /* NULL is fine */

#endif
