/* What session_runner.c (the life of a runner) shares with session_serving.c (calls and results).
 */
#ifndef HOLT_ORCHESTRATOR_SESSION_RUNNER_INTERNAL_H
#define HOLT_ORCHESTRATOR_SESSION_RUNNER_INTERNAL_H

#include <sys/queue.h>

#include "cma/event_feed.h"
#include "cma/lease.h"
#include "orchestrator/result_post.h"
#include "orchestrator/session_calls.h"
#include "orchestrator/session_runner.h"
#include "orchestrator/session_sandbox.h"
#include "orchestrator/session_setup.h"
#include "orchestrator/setup_memory.h"

enum runner_state {
    RUNNER_REVIEWING,     /* resumed: what has become of the item meanwhile? */
    RUNNER_ACKNOWLEDGING, /* telling the queue that the item arrived */
    RUNNER_LEASING,       /* the first heartbeat is under way */
    RUNNER_LOADING,       /* looking at the session: is there anything to do? */
    RUNNER_ACQUIRING,     /* a sandbox is being found or made */
    RUNNER_CONNECTING,    /* hand was configured and has not answered */
    RUNNER_PREPARING,     /* skills, memory stores and inputs are put into the sandbox */
    RUNNER_ATTACHING,     /* the history is being replayed; nothing runs before it is complete */
    RUNNER_SERVING,       /* events in, calls out, results back */
    RUNNER_REPLACING,     /* the sandbox was lost; its remains go before another is acquired */
    RUNNER_SAVING,        /* the session is over; memory stores are synchronised a last time */
    RUNNER_STOPPING,      /* the queue is told that the item is over */
    RUNNER_RELEASING,     /* the sandbox is being kept or destroyed */
    RUNNER_DONE,
};

/* What becomes of the work item when the runner ends. */
enum runner_item_end {
    ITEM_STOP,   /* it is over: the queue is told */
    ITEM_FORGET, /* it is not ours, or no more */
    ITEM_LEAVE,  /* it goes on: its row stays, its lease runs on until it lapses */
};

/* One result on its way. */
struct posting {
    struct session_runner *runner;
    struct session_call *call;
    struct json_object *content;
    bool is_error;
    struct result_post *post;
    struct hand_request *save; /* instead: the whole of a large result goes into the sandbox */
    char *saved_path;
    LIST_ENTRY(posting) link;
};

struct session_runner {
    enum runner_state state;
    struct session_runner_options options;
    struct work_item *item;
    enum state_item_state item_state; /* of the row */
    char *acknowledged_at;            /* of the row, or NULL */
    struct api *session_api;          /* with the item's own token when it has one */
    struct session_sandbox *sandbox;
    enum session_sandbox_origin origin;
    bool is_item_ours; /* stopping it is our duty */
    struct api_call *request;
    struct lease *lease;
    struct hand_client *hand;
    char *incarnation;               /* of the hand that is connected */
    struct json_object *known_calls; /* object: ids that hand said it has, when it was ready */
    struct json_object *session;     /* as it was when it was loaded */
    struct session_setup *setup;
    struct setup_memory_roots *roots; /* hand's configuration, with the memory stores */
    struct event_feed *feed;
    struct session_calls *calls;
    struct custom_calls *custom; /* the custom ones among them */
    LIST_HEAD(, posting) postings;
    struct loop_timer *idle_timer;
    struct loop_timer *patience_timer;
    struct loop_timer *hand_timer;
    struct loop_timer *rows_timer; /* a row could not be written: the step again */
    struct loop_timer *step_timer; /* runs step from the loop, never from inside a room below */
    struct error *failure;         /* why the session ends badly; NULL: regularly */
    const char *reason;            /* for the journal: "idle", "terminated", ... */
    enum runner_item_end item_end;
    unsigned replacement_count;
    bool is_ending;
    bool is_draining;
    bool is_cut;          /* draining, and the calls that ran on were cancelled */
    bool is_hurried;      /* draining without patience */
    bool is_session_over; /* nobody will come back to its sandbox */
    bool is_hand_lost;
    bool is_first_history; /* nothing was dispatched yet */
    bool was_turn_noted;
    bool is_measuring;   /* an answer of hands is to come */
    bool was_complained; /* about rows that cannot be written, once */
};

/* session_runner.c */

/* The next state; its step runs from the loop. */
void runner_go_to(struct session_runner *runner, enum runner_state state);
/* Ends the runner from wherever it is; the first reason counts. */
void runner_end(struct session_runner *runner, const char *reason, const struct error *failure,
                enum runner_item_end item_end);
/* Notes the first failure, which is the one that is reported. */
void runner_set_failure(struct session_runner *runner, const struct error *failure);
/* A journal record about the session. */
struct json_object *runner_record(const struct session_runner *runner, const char *event);
/* Says once that a row cannot be written. */
void runner_complain(struct session_runner *runner, const struct error *error);

/* session_item.c */

void item_review(struct session_runner *runner);
void item_acknowledge(struct session_runner *runner);
void item_lease(struct session_runner *runner);
void item_stop(struct session_runner *runner);
/* Deletes its row. */
void item_forget(struct session_runner *runner);

/* session_serving.c */

/* Which tools are run here (session_calls.h). */
bool serving_owns_tool(void *context, const char *name, bool is_custom);
/* Attaches to the events. */
void serving_attach(struct session_runner *runner);
/* hand said what it holds; the arrays are borrowed. */
void serving_note_known_calls(struct session_runner *runner, struct json_object *running,
                              struct json_object *finished);
/* For hand_events. */
void serving_on_result(void *context, const char *id, bool is_error, struct json_object *content,
                       int64_t duration_us);
/* For custom_calls. */
void serving_on_custom_ended(void *context, const char *id, bool is_error,
                             struct json_object *content);
/* The connection to hand is over while calls were out: each is answered, then the runner ends. */
void serving_lose_hand(struct session_runner *runner);
/* Hands over what may run, and looks whether turn or drain are over. */
void serving_go_on(struct session_runner *runner);
/* Cancels whatever runs: the drain took too long. */
void serving_cut(struct session_runner *runner);
/* Drops the postings. */
void serving_close(struct session_runner *runner);

#endif
