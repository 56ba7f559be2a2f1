/* The runner of one session: an explicit state machine from claim to stop. */
#include "orchestrator/session_runner.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "base/random.h"
#include "cma/event_feed.h"
#include "cma/lease.h"
#include "orchestrator/result_post.h"
#include "orchestrator/session_calls.h"
#include "orchestrator/session_setup.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum runner_state {
    RUNNER_ACKNOWLEDGING, /* telling the queue that the item arrived */
    RUNNER_LEASING,       /* the first heartbeat is under way */
    RUNNER_LOADING,       /* looking at the session: is there anything to do? */
    RUNNER_ACQUIRING,     /* a sandbox is being made */
    RUNNER_CONNECTING,    /* hand was configured and has not answered */
    RUNNER_PREPARING,     /* skills, memory stores and inputs are put into the sandbox */
    RUNNER_ATTACHING,     /* the history is being replayed; nothing runs before it is complete */
    RUNNER_SERVING,       /* events in, calls out, results back */
    RUNNER_SAVING,        /* the session is over; memory stores are synchronised a last time */
    RUNNER_STOPPING,      /* the queue is told that the item is over */
    RUNNER_RELEASING,     /* the sandbox is being destroyed */
    RUNNER_DONE,
};

enum {
    CALL_DEADLINE_MS = 120000, /* as the official runner (tools.md section 2) */
    LEASE_UNKNOWN_MS = 300000, /* how long a result is tried when the lease cannot say */
    HAND_READY_TIMEOUT_MS = 30000,
    LOST_HAND_PATIENCE_MS = 30000, /* for the answers of a lost sandbox */
    SAVE_PATIENCE_MS = 30000,      /* protocol.md section 7 */
};

/* One result on its way. */
struct posting {
    struct session_runner *runner;
    struct session_call *call;
    struct result_post *post;
    LIST_ENTRY(posting) link;
};

struct session_runner {
    enum runner_state state;
    struct session_runner_options options;
    struct work_item *item;
    struct api *session_api; /* with the item's own token when it has one */
    char *place_name;
    bool has_place;    /* acquire was called: release must be */
    bool is_item_ours; /* stopping it is our duty */
    struct api_call *request;
    struct lease *lease;
    struct hand_client *hand;
    struct json_object *session; /* as it was when it was loaded */
    struct session_setup *setup;
    struct event_feed *feed;
    struct session_calls *calls;
    LIST_HEAD(, posting) postings;
    struct loop_timer *idle_timer;
    struct loop_timer *patience_timer;
    struct loop_timer *hand_timer;
    struct loop_timer *step_timer; /* runs step from the loop, never from inside a room below */
    struct error *failure;         /* why the session ends badly; NULL: regularly */
    const char *reason;            /* for the journal: "idle", "terminated", ... */
    bool is_ending;
    bool is_draining;
    bool is_hurried; /* draining without patience */
    bool should_stop_item;
    bool was_turn_noted;
};

static void runner_step(void *context);

/* Ownership and identity. */

static bool owns_tool(void *context, const char *name, bool is_custom) {
    static const char *const names[] = {"bash", "read", "write", "edit", "glob", "grep"};
    (void)context;
    for (size_t i = 0; !is_custom && i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *session_runner_session_id(const struct session_runner *runner) {
    return runner->item->session_id;
}

static struct json_object *record_of(const struct session_runner *runner, const char *event) {
    struct json_object *record = journal_record(event);
    json_set_string(record, "session_id", runner->item->session_id);
    return record;
}

/* Ending: every reason comes through here; step then walks through stop and release. */

/* The first failure is the one that is reported. */
static void set_failure(struct session_runner *runner, const struct error *failure) {
    if (failure != NULL && runner->failure == NULL) {
        CLEANUP_FREE char *text = error_text(failure);
        (void)error_set(&runner->failure, failure->code, "session %s: %s", runner->item->session_id,
                        text);
    }
}

static void runner_end(struct session_runner *runner, const char *reason,
                       const struct error *failure, bool should_stop_item) {
    if (runner->is_ending) {
        return;
    }
    runner->is_ending = true;
    runner->reason = reason;
    runner->should_stop_item = should_stop_item && runner->is_item_ours;
    if (failure != NULL) {
        CLEANUP_FREE char *text = error_text(failure);
        (void)error_set(&runner->failure, failure->code, "session %s: %s", runner->item->session_id,
                        text);
    }
    loop_timer_arm(runner->step_timer, 0);
}

static void close_session(struct session_runner *runner) {
    api_call_cancel(STEAL_PTR(runner->request));
    event_feed_close(STEAL_PTR(runner->feed));
    while (!LIST_EMPTY(&runner->postings)) {
        struct posting *posting = LIST_FIRST(&runner->postings);
        LIST_REMOVE(posting, link);
        result_post_cancel(posting->post);
        free(posting);
    }
    session_setup_free(STEAL_PTR(runner->setup));
    hand_client_free(STEAL_PTR(runner->hand));
    lease_free(STEAL_PTR(runner->lease));
    loop_timer_disarm(runner->idle_timer);
    loop_timer_disarm(runner->patience_timer);
    loop_timer_disarm(runner->hand_timer);
}

static void runner_free(struct session_runner *runner) {
    close_session(runner);
    session_calls_free(runner->calls);
    loop_timer_free(runner->idle_timer);
    loop_timer_free(runner->patience_timer);
    loop_timer_free(runner->hand_timer);
    loop_timer_free(runner->step_timer);
    if (runner->session_api != runner->options.api) {
        api_free(runner->session_api);
    }
    work_item_free(runner->item);
    json_object_put(runner->session);
    error_free(runner->failure);
    free(runner->place_name);
    free(runner);
}

/* The work item: acknowledge, lease, stop. */

static void on_acknowledged(void *context, const struct api_answer *answer) {
    struct session_runner *runner = context;
    runner->request = NULL;
    /* After a try whose fate is unknown the 409 may be due to our own: the first beat, which is a
     * compare-and-set, decides whose item it is. */
    runner->item->is_disputed = answer->status == 409 && answer->is_repeat;
    if (answer->error != NULL && !runner->item->is_disputed) {
        bool is_anothers = answer->status == 409 || answer->status == 404;
        runner_end(runner, is_anothers ? "another worker has it" : "not acknowledged",
                   is_anothers ? NULL : answer->error, false);
        return;
    }
    runner->is_item_ours = true;
    runner->state = RUNNER_LEASING;
    runner_step(runner);
}

static void on_lease_held(void *context) {
    struct session_runner *runner = context;
    if (runner->state == RUNNER_LEASING) {
        runner->state = RUNNER_LOADING;
        runner_step(runner);
    }
}

static void on_lease_ended(void *context, enum lease_end end, const struct error *error) {
    struct session_runner *runner = context;
    switch (end) {
    case LEASE_STOPPING:
        runner_end(runner, "stopped by the control plane", NULL, true);
        break;
    case LEASE_LOST:
        runner_end(runner, "lease lost", error, false);
        break;
    case LEASE_REFUSED:
        runner_end(runner, "lease refused", error, false);
        break;
    }
}

static void on_item_stopped(void *context, const struct api_answer *answer) {
    struct session_runner *runner = context;
    runner->request = NULL;
    if (answer->error != NULL && answer->status != 409) {
        CLEANUP_FREE char *text = error_text(answer->error);
        log_warn("work %s could not be stopped: %s", runner->item->id, text);
    }
    runner->state = RUNNER_RELEASING;
    runner_step(runner);
}

/* The session and its sandbox. */

static void on_session(void *context, const struct api_answer *answer) {
    struct session_runner *runner = context;
    runner->request = NULL;
    if (answer->error != NULL) {
        bool is_gone = answer->status == 404;
        runner_end(runner, is_gone ? "session gone" : "session unreadable",
                   is_gone ? NULL : answer->error, true);
        return;
    }
    const char *status = json_get_string(answer->body, "status");
    if (status != NULL && strcmp(status, "terminated") == 0) {
        runner_end(runner, "terminated", NULL, true);
        return;
    }
    runner->session = json_object_get(answer->body);
    runner->state = RUNNER_ACQUIRING;
    runner_step(runner);
}

static void on_prepared(void *owner, const struct error *error) {
    struct session_runner *runner = owner;
    if (error != NULL) {
        runner_end(runner, "not prepared", error, true);
        return;
    }
    runner->state = RUNNER_ATTACHING;
    runner_step(runner);
}

static void leave_session(struct session_runner *runner) {
    close_session(runner);
    runner->state = runner->should_stop_item ? RUNNER_STOPPING : RUNNER_RELEASING;
    loop_timer_arm(runner->step_timer, 0);
}

static void on_saved(void *owner, const struct error *error) {
    (void)error;
    leave_session(owner);
}

static void answer_ourselves(struct session_runner *runner, struct session_call *call,
                             const char *text);
static void dispatch_calls(struct session_runner *runner);
static void consider_turn(struct session_runner *runner);

static void on_hand_ready(void *context, const char *incarnation, struct json_object *running,
                          struct json_object *finished) {
    (void)incarnation;
    (void)running;
    (void)finished;
    struct session_runner *runner = context;
    if (runner->state == RUNNER_CONNECTING && !runner->is_ending) {
        loop_timer_disarm(runner->hand_timer);
        runner->state = RUNNER_PREPARING;
        if (runner->options.started != NULL) {
            runner->options.started(runner->options.context, runner);
        }
        runner_step(runner);
    }
}

static void on_hand_closed(void *context, const struct error *error);

static void on_hand_timeout(void *context) {
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set(&error, ERROR_TIMEOUT, "hand did not answer within %d s",
                    HAND_READY_TIMEOUT_MS / 1000);
    runner_end(context, "hand lost", error, true);
}

static void on_call_result(void *context, const char *id, bool is_error,
                           struct json_object *content, int64_t duration_us);

static void on_acquired(void *context, const struct hands_place *place, int take_fd,
                        const struct error *error) {
    static const struct hand_events events = {
        .ready = on_hand_ready, .result = on_call_result, .closed = on_hand_closed};
    struct session_runner *runner = context;
    CLEANUP_CLOSE int fd = take_fd;
    if (runner->state != RUNNER_ACQUIRING) {
        return; /* the session ended meanwhile; its release is queued behind this answer */
    }
    if (error != NULL) {
        runner->state = RUNNER_CONNECTING;
        runner_end(runner, "no sandbox", error, true);
        return;
    }
    log_info("session %s: sandbox %s (%s) ready in %.1f ms", runner->item->session_id,
             place->sandbox_id, place->provider, (double)place->created_us / 1000);
    struct json_object *record = record_of(runner, "sandbox_created");
    json_set_string(record, "sandbox_id", place->sandbox_id);
    json_set_string(record, "provider", place->provider);
    json_set_int(record, "created_us", place->created_us);
    journal_write(runner->options.journal, record);
    runner->state = RUNNER_CONNECTING;
    if (runner->is_ending) {
        return;
    }
    loop_timer_arm(runner->hand_timer, HAND_READY_TIMEOUT_MS);
    runner->hand = hand_client_new(runner->options.loop, STEAL_FD(fd),
                                   &runner->options.hands->configuration, &events, runner);
}

static void on_released(void *context, const struct error *error) {
    struct session_runner *runner = context;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_error("session %s: its sandbox could not be destroyed: %s", runner->item->session_id,
                  text);
    }
    runner->state = RUNNER_DONE;
    loop_timer_arm(runner->step_timer, 0);
}

/*
 * The sandbox is lost. What it was asked is answered with an error, so that the session does not
 * wait for ever; then the item ends.
 */
static void on_hand_closed(void *context, const struct error *error) {
    struct session_runner *runner = context;
    if (runner->state != RUNNER_SERVING || runner->is_ending) {
        runner_end(runner, "hand lost", error, true);
        return;
    }
    set_failure(runner, error);
    for (struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        if (call->state == CALL_RUNNING || call->state == CALL_READY) {
            answer_ourselves(runner, call, "the sandbox was lost while this call ran");
        }
    }
    session_runner_stop(runner, LOST_HAND_PATIENCE_MS);
}

/* Events in. */

static void on_event(void *context, struct json_object *event) {
    struct session_runner *runner = context;
    if (session_calls_event(runner->calls, event) == CALLS_ENDED) {
        runner_end(runner, "terminated", NULL, true);
        return;
    }
    if (runner->state == RUNNER_SERVING && event_feed_is_reconciled(runner->feed)) {
        dispatch_calls(runner);
        consider_turn(runner);
    }
}

static void on_reconciled(void *context) {
    struct session_runner *runner = context;
    runner->state = RUNNER_SERVING;
    for (struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        if (call->state == CALL_REFUSED) {
            session_call_set_state(call, CALL_READY); /* hand still has its result */
        }
    }
    dispatch_calls(runner);
    consider_turn(runner);
}

static void on_feed_failed(void *context, const struct error *error) {
    runner_end(context, "events refused", error, true);
}

/* Calls out, results back. */

static void post_result(struct session_runner *runner, struct session_call *call, bool is_error,
                        struct json_object *content);

/* Answers a call that no hand will answer. */
static void answer_ourselves(struct session_runner *runner, struct session_call *call,
                             const char *text) {
    CLEANUP_JSON struct json_object *content = json_object_new_array();
    struct json_object *block = json_object_new_object();
    json_set_string(block, "type", "text");
    json_set_string(block, "text", text);
    (void)json_object_array_add(content, block);
    post_result(runner, call, true, content);
}

static void dispatch_calls(struct session_runner *runner) {
    if (runner->is_ending) {
        return;
    }
    for (struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        if (call->state == CALL_RUNNING && call->is_interrupted) {
            call->is_interrupted = false; /* once is enough */
            hand_client_cancel(runner->hand, call->id);
        } else if (call->state == CALL_READY && call->is_interrupted) {
            answer_ourselves(runner, call, "interrupted by the user before it ran");
        } else if (call->state == CALL_READY && !runner->is_draining &&
                   !FAULT_FAILS("runner.call")) {
            session_call_set_state(call, CALL_RUNNING);
            hand_client_call(runner->hand, call->id, call->name, call->input, CALL_DEADLINE_MS);
        }
    }
}

static void on_posted(void *context, const struct error *error) {
    struct posting *posting = context;
    struct session_runner *runner = posting->runner;
    struct session_call *call = posting->call;
    LIST_REMOVE(posting, link);
    free(posting);
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: the result of %s was not accepted: %s", runner->item->session_id,
                 call->id, text);
    }
    if (error != NULL && !call->was_refused) {
        call->was_refused = true;
        session_call_set_state(call, CALL_REFUSED);
    } else {
        session_call_set_state(call, CALL_CLOSED);
        hand_client_acknowledge(runner->hand, call->id);
    }
    consider_turn(runner);
}

static void post_result(struct session_runner *runner, struct session_call *call, bool is_error,
                        struct json_object *content) {
    int64_t patience_ms = lease_remaining_ms(runner->lease);
    CLEANUP_JSON struct json_object *answer = session_call_answer(call, is_error, content);
    struct posting *posting = memory_new(struct posting);
    session_call_set_state(call, CALL_POSTING);
    posting->runner = runner;
    posting->call = call;
    posting->post = result_post_start(runner->session_api, runner->item->session_id, answer,
                                      patience_ms > 0 ? patience_ms : (int64_t)LEASE_UNKNOWN_MS,
                                      on_posted, posting);
    LIST_INSERT_HEAD(&runner->postings, posting, link);
}

static void on_call_result(void *context, const char *id, bool is_error,
                           struct json_object *content, int64_t duration_us) {
    struct session_runner *runner = context;
    struct session_call *call = session_calls_find(runner->calls, id);
    if (call == NULL || call->state != CALL_RUNNING || runner->is_ending) {
        return;
    }
    struct json_object *record = record_of(runner, "call_ended");
    json_set_string(record, "tool_use_id", call->id);
    json_set_string(record, "name", call->name);
    json_set_bool(record, "is_error", is_error);
    json_set_int(record, "duration_us", duration_us);
    journal_write(runner->options.journal, record);
    if (call->is_orphaned) {
        session_call_set_state(call, CALL_CLOSED);
        hand_client_acknowledge(runner->hand, id);
        consider_turn(runner);
        return;
    }
    post_result(runner, call, is_error, content);
}

/* The turn: idle, draining. */

/* The runner is still there: its release is answered after its measurement. */
static void on_measured(void *context, const struct sandbox_usage *usage,
                        const struct error *error) {
    struct session_runner *runner = context;
    if (error != NULL) {
        return; /* the sandbox is gone: its end is reported elsewhere */
    }
    struct json_object *record = record_of(runner, "turn_ended");
    json_set_string(record, "sandbox_id", runner->place_name);
    json_set_int(record, "memory_bytes", usage->memory_bytes);
    json_set_int(record, "process_count", usage->process_count);
    journal_write(runner->options.journal, record);
}

static void note_turn(struct session_runner *runner) {
    if (runner->was_turn_noted || runner->options.journal == NULL) {
        return;
    }
    runner->was_turn_noted = true;
    runner->options.hands->operations->measure(runner->options.hands, runner->place_name,
                                               on_measured, runner);
}

static void consider_turn(struct session_runner *runner) {
    if (runner->is_ending || runner->state != RUNNER_SERVING) {
        return;
    }
    bool is_idle = session_calls_is_idle(runner->calls);
    if (!is_idle) {
        runner->was_turn_noted = false;
        loop_timer_disarm(runner->idle_timer);
    } else {
        note_turn(runner);
        if (runner->options.max_idle_ms > 0 && !loop_timer_is_armed(runner->idle_timer)) {
            loop_timer_arm(runner->idle_timer, runner->options.max_idle_ms);
        }
    }
    if (runner->is_draining) {
        bool is_busy = !LIST_EMPTY(&runner->postings);
        for (const struct session_call *call = session_calls_first(runner->calls);
             call != NULL && !is_busy; call = call->next) {
            is_busy = call->state == CALL_RUNNING;
        }
        if (!is_busy) {
            runner_end(runner, runner->failure == NULL ? "shut down" : "hand lost", NULL, true);
        }
    }
}

static void on_idle(void *context) {
    runner_end(context, "idle", NULL, true);
}

static void on_patience_over(void *context) {
    runner_end(context, "shut down", NULL, true);
}

void session_runner_stop(struct session_runner *runner, int64_t patience_ms) {
    runner->is_draining = true;
    runner->is_hurried = runner->is_hurried || patience_ms <= 0;
    if (runner->state == RUNNER_SAVING && runner->is_hurried) {
        leave_session(runner);
    }
    if (runner->is_ending) {
        return;
    }
    if (runner->state != RUNNER_SERVING || patience_ms <= 0) {
        runner_end(runner, "shut down", NULL, true);
        return;
    }
    loop_timer_arm(runner->patience_timer, patience_ms);
    consider_turn(runner);
}

/* The states. */

static void begin_end(struct session_runner *runner) {
    log_debug("session %s: ending: %s", runner->item->session_id, runner->reason);
    bool is_regular = runner->failure == NULL && runner->should_stop_item;
    if (runner->state == RUNNER_SERVING && is_regular && !runner->is_hurried) {
        runner->state = RUNNER_SAVING; /* under the lease, and with hand */
        event_feed_close(STEAL_PTR(runner->feed));
        session_setup_finish(runner->setup, SAVE_PATIENCE_MS, on_saved, runner);
        return;
    }
    leave_session(runner);
}

static void finish(struct session_runner *runner) {
    struct json_object *record = record_of(runner, "session_ended");
    json_set_string(record, "work_id", runner->item->id);
    json_set_string(record, "reason", runner->reason);
    journal_write(runner->options.journal, record);
    log_info("session %s: ended: %s", runner->item->session_id, runner->reason);
    runner->options.ended(runner->options.context, runner, runner->failure);
    runner_free(runner);
}

static void prepare(struct session_runner *runner) {
    runner->setup = session_setup_start(
        &(struct session_setup_context){
            .loop = runner->options.loop,
            .api = runner->session_api,
            .has_token = runner->session_api != runner->options.api,
            .session_id = runner->item->session_id,
            .session = runner->session,
            .hand = runner->hand,
            .workdir = runner->options.hands->configuration.workdir,
        },
        on_prepared, runner);
}

static void load_session(struct session_runner *runner) {
    CLEANUP_FREE char *path = memory_format("/v1/sessions/%s", runner->item->session_id);
    runner->request =
        api_call_start(runner->session_api, &(struct api_request){.method = "GET",
                                                                  .path = path,
                                                                  .retries = API_RETRIES,
                                                                  .done = on_session,
                                                                  .context = runner});
}

static void runner_step(void *context) {
    static const struct lease_events lease_events = {.held = on_lease_held,
                                                     .ended = on_lease_ended};
    static const struct event_feed_events feed_events = {
        .event = on_event, .reconciled = on_reconciled, .failed = on_feed_failed};
    struct session_runner *runner = context;
    struct hands *hands = runner->options.hands;
    if (runner->is_ending && runner->state < RUNNER_SAVING) {
        begin_end(runner);
        return;
    }
    switch (runner->state) {
    case RUNNER_ACKNOWLEDGING:
        runner->request =
            work_queue_acknowledge(runner->options.api, runner->item, on_acknowledged, runner);
        break;
    case RUNNER_LEASING:
        runner->lease = lease_start(runner->session_api, runner->item, &lease_events, runner);
        break;
    case RUNNER_LOADING:
        load_session(runner);
        break;
    case RUNNER_ACQUIRING:
        runner->has_place = true;
        hands->operations->acquire(hands, runner->place_name, on_acquired, runner);
        break;
    case RUNNER_PREPARING:
        prepare(runner);
        break;
    case RUNNER_ATTACHING:
        runner->feed =
            event_feed_open(runner->session_api, runner->item->session_id, &feed_events, runner);
        break;
    case RUNNER_STOPPING:
        if (runner->request == NULL) {
            runner->request =
                work_queue_stop(runner->session_api, runner->item, on_item_stopped, runner);
        }
        break;
    case RUNNER_RELEASING:
        if (runner->has_place) {
            runner->has_place = false;
            hands->operations->release(hands, runner->place_name, on_released, runner);
        } else {
            runner->state = RUNNER_DONE;
            loop_timer_arm(runner->step_timer, 0);
        }
        break;
    case RUNNER_DONE:
        finish(runner);
        break;
    case RUNNER_CONNECTING:
    case RUNNER_SERVING:
    case RUNNER_SAVING:
        break; /* events carry on from here */
    }
}

struct session_runner *session_runner_start(const struct session_runner_options *options,
                                            struct work_item *take_item) {
    struct session_runner *runner = memory_new(struct session_runner);
    runner->options = *options;
    runner->item = take_item;
    runner->session_api =
        take_item->bearer == NULL
            ? options->api
            : api_with_bearer(options->api, take_item->api_base_url, take_item->bearer);
    runner->place_name = random_id("sb-");
    runner->calls = session_calls_new(owns_tool, NULL);
    LIST_INIT(&runner->postings);
    runner->idle_timer = loop_timer_new(options->loop, on_idle, runner);
    runner->patience_timer = loop_timer_new(options->loop, on_patience_over, runner);
    runner->hand_timer = loop_timer_new(options->loop, on_hand_timeout, runner);
    runner->step_timer = loop_timer_new(options->loop, runner_step, runner);
    runner->reason = "served";
    runner->is_item_ours = options->is_acknowledged;
    runner->state = options->is_acknowledged ? RUNNER_LEASING : RUNNER_ACKNOWLEDGING;
    struct json_object *record = record_of(runner, "session_claimed");
    json_set_string(record, "work_id", take_item->id);
    journal_write(options->journal, record);
    log_info("session %s: claimed as work %s", take_item->session_id, take_item->id);
    loop_timer_arm(runner->step_timer, 0);
    return runner;
}
