/* A session while it is served: events in, calls out, results back, the turn's end. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "hand/operations.h"
#include "orchestrator/cut_result.h"
#include "orchestrator/session_runner_internal.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum {
    CALL_DEADLINE_MS = 120000, /* as the official runner (tools.md section 2) */
    LEASE_UNKNOWN_MS = 300000, /* how long a result is tried when the lease cannot say */
    STATE_RETRY_MS = 1000,
    SAVED_RESULT_MODE = 0644,
    TURN_GRACE_MS = 1000, /* draining: for the event that ends the turn */
};

bool serving_owns_tool(void *context, const char *name, bool is_custom) {
    static const char *const names[] = {"bash", "read", "write", "edit", "glob", "grep"};
    const struct session_runner *runner = context;
    if (is_custom) {
        return custom_calls_owns(runner->custom, name);
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void note_ids(struct session_runner *runner, struct json_object *ids) {
    size_t count = json_object_array_length(ids);
    for (size_t i = 0; i < count; i++) {
        struct json_object *id = json_object_array_get_idx(ids, i);
        if (json_object_is_type(id, json_type_string)) {
            json_set_bool(runner->known_calls, json_object_get_string(id), true);
        }
    }
}

void serving_note_known_calls(struct session_runner *runner, struct json_object *running,
                              struct json_object *finished) {
    json_object_put(runner->known_calls);
    runner->known_calls = json_object_new_object();
    note_ids(runner, running);
    note_ids(runner, finished);
}

/*
 * What hand holds and nobody waits for any more. A call that the history does not have yet stays:
 * the list may be older than the call, and what hand forgets would run a second time.
 */
static void drop_unwanted_calls(struct session_runner *runner) {
    json_object_object_foreach(runner->known_calls, id, unused) {
        (void)unused;
        const struct session_call *call = session_calls_find(runner->calls, id);
        if (call != NULL && call->state == CALL_CLOSED) {
            hand_client_cancel(runner->hand, id);
            hand_client_acknowledge(runner->hand, id);
        }
    }
}

/* Results. */

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

static void note_posted(struct session_runner *runner, const struct session_call *call) {
    CLEANUP_ERROR struct error *error = NULL;
    if (runner->options.state != NULL &&
        !state_call_posted(runner->options.state, runner->item->session_id, call->id,
                           clock_wall_ms(), &error)) {
        runner_complain(runner, error); /* the history says so too */
    }
}

static void free_posting(struct posting *take_posting) {
    result_post_cancel(take_posting->post);
    hand_request_cancel(take_posting->save);
    json_object_put(take_posting->content);
    free(take_posting->saved_path);
    free(take_posting);
}

static void begin_post(struct posting *posting);

/* The whole is in the sandbox, or could not be put there: what fits is posted. */
static void on_saved(void *context, const struct hand_file_status *status,
                     const struct error *error) {
    struct posting *posting = context;
    (void)status;
    posting->save = NULL;
    CLEANUP_BUFFER struct buffer whole = BUFFER_EMPTY;
    cut_result_whole(posting->content, &whole);
    struct json_object *cut = cut_result(&whole, error == NULL ? posting->saved_path : NULL);
    json_object_put(posting->content);
    posting->content = cut;
    begin_post(posting);
}

static void cut_and_post(struct posting *posting) {
    struct session_runner *runner = posting->runner;
    const char *workdir = runner->options.hands->configuration.workdir;
    const char *id = posting->call->id;
    CLEANUP_BUFFER struct buffer whole = BUFFER_EMPTY;
    CLEANUP_FREE char *path =
        memory_format(".holt/results/%s.txt", work_id_is_valid(id) ? id : "result");
    posting->call->was_cut = true;
    posting->saved_path = memory_format("%s/%s", workdir, path);
    cut_result_whole(posting->content, &whole);
    if (runner->hand == NULL || runner->is_hand_lost) {
        CLEANUP_ERROR struct error *error = NULL;
        (void)error_set(&error, ERROR_UNAVAILABLE, "the sandbox is gone");
        on_saved(posting, NULL, error);
        return;
    }
    posting->save = hand_put(runner->hand, workdir, path, SAVED_RESULT_MODE, buffer_string(&whole),
                             whole.length, on_saved, posting);
}

static void acknowledge(struct session_runner *runner, const struct session_call *call) {
    custom_calls_acknowledge(runner->custom, call->id);
    if (runner->hand != NULL) {
        hand_client_acknowledge(runner->hand, call->id);
    }
}

static void conclude_call(struct session_runner *runner, struct session_call *call) {
    note_posted(runner, call);
    (void)FAULT_FAILS("runner.posted.after");
    session_call_set_state(call, CALL_CLOSED);
    acknowledge(runner, call);
    (void)FAULT_FAILS("runner.hand_ack.after");
}

static void on_posted(void *context, const struct error *error) {
    struct posting *posting = context;
    struct session_runner *runner = posting->runner;
    struct session_call *call = posting->call;
    posting->post = NULL;
    (void)FAULT_FAILS("runner.posted.before");
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: the result of %s was not accepted: %s", runner->item->session_id,
                 call->id, text);
    }
    if (error != NULL && error->code == ERROR_LIMIT && !call->was_cut) {
        cut_and_post(posting);
        return;
    }
    LIST_REMOVE(posting, link);
    free_posting(posting);
    if (error != NULL && !call->was_refused) {
        call->was_refused = true;
        session_call_set_state(call, CALL_REFUSED);
    } else {
        conclude_call(runner, call);
    }
    serving_go_on(runner);
}

static void begin_post(struct posting *posting) {
    struct session_runner *runner = posting->runner;
    int64_t patience_ms = lease_remaining_ms(runner->lease);
    CLEANUP_JSON struct json_object *answer =
        session_call_answer(posting->call, posting->is_error, posting->content);
    (void)FAULT_FAILS("runner.post.before");
    posting->post = result_post_start(runner->session_api, runner->item->session_id, answer,
                                      patience_ms > 0 ? patience_ms : (int64_t)LEASE_UNKNOWN_MS,
                                      on_posted, posting);
}

static void post_result(struct session_runner *runner, struct session_call *call, bool is_error,
                        struct json_object *content) {
    struct posting *posting = memory_new(struct posting);
    session_call_set_state(call, CALL_POSTING);
    posting->runner = runner;
    posting->call = call;
    posting->is_error = is_error;
    posting->content = json_object_get(content);
    LIST_INSERT_HEAD(&runner->postings, posting, link);
    begin_post(posting);
}

static void note_ended(struct session_runner *runner, const struct session_call *call,
                       bool is_error, struct json_object *content, int64_t duration_us) {
    CLEANUP_ERROR struct error *error = NULL;
    size_t length = 0;
    const char *text = json_text(content, &length);
    if (runner->options.state != NULL &&
        !state_call_ended(runner->options.state, runner->item->session_id, call->id, is_error, text,
                          length, duration_us, &error)) {
        runner_complain(runner, error); /* hand keeps the result until it is posted */
    }
}

/* A call has ended, wherever it ran. */
static void take_result(struct session_runner *runner, struct session_call *call, bool is_error,
                        struct json_object *content, int64_t duration_us) {
    (void)FAULT_FAILS("runner.result.before");
    note_ended(runner, call, is_error, content, duration_us);
    (void)FAULT_FAILS("runner.result.after");
    struct json_object *record = runner_record(runner, "call_ended");
    json_set_string(record, "tool_use_id", call->id);
    json_set_string(record, "name", call->name);
    json_set_bool(record, "is_error", is_error);
    json_set_int(record, "duration_us", duration_us);
    journal_write(runner->options.journal, record);
    if (call->is_orphaned) {
        session_call_set_state(call, CALL_CLOSED);
        acknowledge(runner, call);
        serving_go_on(runner);
        return;
    }
    post_result(runner, call, is_error, content);
}

/* The call of that id if its result is waited for, or NULL. */
static struct session_call *find_running(const struct session_runner *runner, const char *id) {
    struct session_call *call = session_calls_find(runner->calls, id);
    bool is_awaited = call != NULL && call->state == CALL_RUNNING && !runner->is_ending;
    return is_awaited ? call : NULL;
}

void serving_on_result(void *context, const char *id, bool is_error, struct json_object *content,
                       int64_t duration_us) {
    struct session_runner *runner = context;
    struct session_call *call = find_running(runner, id);
    if (call != NULL && call->is_custom) {
        CLEANUP_JSON struct json_object *answer =
            custom_calls_answer(runner->custom, call->name, &is_error, content);
        take_result(runner, call, is_error, answer, duration_us);
    } else if (call != NULL) {
        take_result(runner, call, is_error, content, duration_us);
    }
}

void serving_on_custom_ended(void *context, const char *id, bool is_error,
                             struct json_object *content) {
    struct session_runner *runner = context;
    struct session_call *call = find_running(runner, id);
    if (call != NULL) {
        take_result(runner, call, is_error, content, 0);
    }
}

void serving_close(struct session_runner *runner) {
    while (!LIST_EMPTY(&runner->postings)) {
        struct posting *posting = LIST_FIRST(&runner->postings);
        LIST_REMOVE(posting, link);
        free_posting(posting);
    }
}

/* Calls. */

/* What is to be done with a call that is ready, by what the rows say of it. */
enum readiness {
    CALL_IS_NEW,    /* no hand ever had it */
    CALL_IS_OUT,    /* this hand has it, or was to have it: it is asked (again) */
    CALL_IS_LOST,   /* a hand that is gone had it: it must not run twice */
    CALL_MUST_WAIT, /* the rows cannot be read */
};

static bool is_on_host(const struct session_runner *runner, const struct session_call *call) {
    return call->is_custom && custom_calls_is_on_host(runner->custom, call->name);
}

static enum readiness judge(struct session_runner *runner, const struct session_call *call) {
    CLEANUP_ERROR struct error *error = NULL;
    struct state_call row;
    bool is_found = false;
    bool is_known = json_object_object_get_ex(runner->known_calls, call->id, NULL);
    if (runner->options.state == NULL) {
        return CALL_IS_NEW;
    }
    if (!state_call_find(runner->options.state, runner->item->session_id, call->id, &row, &is_found,
                         &error)) {
        runner_complain(runner, error);
        return CALL_MUST_WAIT;
    }
    if (!is_found) {
        bool may_have_run = runner->origin == SANDBOX_REBOOTED && runner->is_first_history;
        return may_have_run ? CALL_IS_LOST : CALL_IS_NEW;
    }
    if (is_on_host(runner, call)) {
        /* Nothing of it outlives a daemon, and it may have run: it must not run again. */
        return call->was_handed ? CALL_IS_OUT : CALL_IS_LOST;
    }
    if (strcmp(row.incarnation, runner->incarnation) != 0) {
        return CALL_IS_LOST;
    }
    /* Handed over and unknown to hand: the frame did not arrive. Ended and unknown: it was posted.
     */
    return is_known || call->was_handed || row.state == STATE_CALL_HANDED ? CALL_IS_OUT
                                                                          : CALL_IS_LOST;
}

static void hand_over(struct session_runner *runner, struct session_call *call) {
    session_call_set_state(call, CALL_RUNNING);
    call->was_handed = true;
    log_debug("session %s: call %s (%s) is handed over", runner->item->session_id, call->id,
              call->name);
    if (call->is_custom) {
        custom_calls_start(runner->custom, runner->hand, call->id, call->name, call->input);
    } else {
        hand_client_call(runner->hand, call->id, call->name, call->input, CALL_DEADLINE_MS);
    }
    (void)FAULT_FAILS("runner.call.after");
}

/* Writes the row, then hands over. False: the row could not be written. */
static bool start_call(struct session_runner *runner, struct session_call *call) {
    CLEANUP_ERROR struct error *error = NULL;
    (void)FAULT_FAILS("runner.call_row.before");
    if (runner->options.state != NULL &&
        !state_call_handed(runner->options.state, runner->item->session_id, call->id, call->name,
                           runner->incarnation, clock_wall_ms(), &error)) {
        runner_complain(runner, error);
        return false;
    }
    (void)FAULT_FAILS("runner.call_row.after");
    hand_over(runner, call);
    return true;
}

/* False: it must wait for the rows. */
static bool dispatch_ready(struct session_runner *runner, struct session_call *call) {
    enum readiness readiness = judge(runner, call);
    switch (readiness) {
    case CALL_IS_NEW:
        if (call->is_interrupted) {
            answer_ourselves(runner, call, "interrupted by the user before it ran");
            return true;
        }
        return runner->is_draining || FAULT_FAILS("runner.call") || start_call(runner, call);
    case CALL_IS_OUT:
        hand_over(runner, call);
        return true;
    case CALL_IS_LOST:
        answer_ourselves(runner, call,
                         is_on_host(runner, call) ? "the daemon was restarted while this call ran"
                                                  : "the sandbox was lost while this call ran");
        return true;
    case CALL_MUST_WAIT:
        return false;
    }
    return true;
}

static void dispatch_calls(struct session_runner *runner) {
    if (runner->is_ending || runner->is_hand_lost) {
        return;
    }
    for (struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        if (call->state == CALL_READY && !dispatch_ready(runner, call)) {
            loop_timer_arm(runner->rows_timer, STATE_RETRY_MS);
            break; /* in order of arrival */
        }
        if (call->state == CALL_RUNNING && call->is_interrupted) {
            call->is_interrupted = false; /* once is enough */
            custom_calls_cancel(runner->custom, runner->hand, call->id);
        }
    }
    runner->is_first_history = false;
}

void serving_cut(struct session_runner *runner) {
    for (struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        if (call->state == CALL_RUNNING) {
            custom_calls_cancel(runner->custom, runner->hand, call->id);
        }
    }
}

void serving_lose_hand(struct session_runner *runner) {
    for (struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        bool is_out = call->state == CALL_RUNNING || call->state == CALL_READY;
        if (is_out && !is_on_host(runner, call)) {
            answer_ourselves(runner, call, "the sandbox was lost while this call ran");
        }
    }
}

/* The turn: idle, draining. */

static void on_measured(void *context, const struct sandbox_usage *usage,
                        const struct error *error) {
    struct session_runner *runner = context;
    runner->is_measuring = false;
    if (runner->state == RUNNER_DONE) {
        loop_timer_arm(runner->step_timer, 0);
    }
    if (error != NULL) {
        return; /* the sandbox is gone: its end is reported elsewhere */
    }
    struct json_object *record = runner_record(runner, "turn_ended");
    json_set_string(record, "sandbox_id",
                    runner->sandbox == NULL ? "" : session_sandbox_name(runner->sandbox));
    json_set_int(record, "memory_bytes", usage->memory_bytes);
    json_set_int(record, "process_count", usage->process_count);
    journal_write(runner->options.journal, record);
}

static void note_turn(struct session_runner *runner) {
    if (runner->was_turn_noted || runner->options.journal == NULL || runner->is_measuring) {
        return;
    }
    runner->was_turn_noted = true;
    runner->is_measuring = true;
    runner->options.hands->operations->measure(
        runner->options.hands, session_sandbox_name(runner->sandbox), on_measured, runner);
}

static bool is_busy(const struct session_runner *runner) {
    for (const struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        if (call->state == CALL_RUNNING) {
            return true;
        }
    }
    return !LIST_EMPTY(&runner->postings);
}

/* Nothing runs any more: over when the turn is, else handed back after a moment for its end. */
static void consider_drain(struct session_runner *runner) {
    if (is_busy(runner)) {
        return;
    }
    const char *reason = runner->failure == NULL ? "shut down" : "hand lost";
    if (!runner->options.hands_back || session_calls_is_idle(runner->calls) ||
        runner->is_hand_lost) {
        runner_end(runner, reason, NULL, ITEM_STOP);
    } else if (!runner->is_cut) {
        runner->is_cut = true;
        loop_timer_arm(runner->patience_timer, TURN_GRACE_MS);
    }
}

static void consider_turn(struct session_runner *runner) {
    if (!session_calls_is_idle(runner->calls)) {
        runner->was_turn_noted = false;
        loop_timer_disarm(runner->idle_timer);
        return;
    }
    note_turn(runner);
    if (runner->options.max_idle_ms > 0 && !loop_timer_is_armed(runner->idle_timer)) {
        loop_timer_arm(runner->idle_timer, runner->options.max_idle_ms);
    }
}

void serving_go_on(struct session_runner *runner) {
    if (runner->is_ending || runner->state != RUNNER_SERVING) {
        return;
    }
    if (event_feed_is_reconciled(runner->feed)) {
        dispatch_calls(runner);
    }
    consider_turn(runner);
    if (runner->is_draining) {
        consider_drain(runner);
    }
}

/* Events. */

static void on_event(void *context, struct json_object *event) {
    struct session_runner *runner = context;
    if (session_calls_event(runner->calls, event) == CALLS_ENDED) {
        runner->is_session_over = true;
        runner_end(runner, "terminated", NULL, ITEM_STOP);
        return;
    }
    serving_go_on(runner);
}

static void on_reconciled(void *context) {
    struct session_runner *runner = context;
    runner->state = RUNNER_SERVING;
    (void)FAULT_FAILS("runner.reconciled.before");
    drop_unwanted_calls(runner);
    for (struct session_call *call = session_calls_first(runner->calls); call != NULL;
         call = call->next) {
        if (call->state == CALL_REFUSED) {
            session_call_set_state(call, CALL_READY); /* hand still has its result */
        }
    }
    serving_go_on(runner);
}

static void on_feed_failed(void *context, const struct error *error) {
    runner_end(context, "events refused", error, ITEM_STOP);
}

void serving_attach(struct session_runner *runner) {
    static const struct event_feed_events events = {
        .event = on_event, .reconciled = on_reconciled, .failed = on_feed_failed};
    runner->feed = event_feed_open(runner->session_api, runner->item->session_id, &events, runner);
}
