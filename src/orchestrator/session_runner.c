/* The runner of one session: an explicit state machine from claim to stop. */
#include "orchestrator/session_runner.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "orchestrator/session_runner_internal.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum {
    HAND_READY_TIMEOUT_MS = 30000,
    STATE_RETRY_MS = 1000,
    CUT_PATIENCE_MS = 5000,   /* for the answers of calls that a drain cancelled */
    SAVE_PATIENCE_MS = 30000, /* protocol.md section 7 */
    REPLACEMENTS_LIMIT = 3,   /* sandboxes that died under one item */
};

static void runner_step(void *context);

/* Identity. */

bool session_runner_holds(const struct session_runner *runner, const char *work_id) {
    return strcmp(runner->item->id, work_id) == 0 && runner->lease != NULL &&
           lease_remaining_ms(runner->lease) > 0;
}

const char *session_runner_session_id(const struct session_runner *runner) {
    return runner->item->session_id;
}

struct json_object *runner_record(const struct session_runner *runner, const char *event) {
    struct json_object *record = journal_record(event);
    json_set_string(record, "session_id", runner->item->session_id);
    return record;
}

void runner_complain(struct session_runner *runner, const struct error *error) {
    if (!runner->was_complained) {
        CLEANUP_FREE char *text = error_text(error);
        log_error("session %s: %s", runner->item->session_id, text);
        runner->was_complained = true;
    }
}

/* For a session that still waits: another attempt may come, here or elsewhere. */
static enum runner_item_end end_of_unfinished(const struct session_runner *runner) {
    return runner->options.hands_back ? ITEM_LEAVE : ITEM_STOP;
}

void runner_go_to(struct session_runner *runner, enum runner_state state) {
    runner->state = state;
    loop_timer_arm(runner->step_timer, 0);
}

/* Ending: every reason comes through here; step then walks through stop and release. */

void runner_set_failure(struct session_runner *runner, const struct error *failure) {
    if (failure != NULL && runner->failure == NULL) {
        CLEANUP_FREE char *text = error_text(failure);
        (void)error_set(&runner->failure, failure->code, "session %s: %s", runner->item->session_id,
                        text);
    }
}

void runner_end(struct session_runner *runner, const char *reason, const struct error *failure,
                enum runner_item_end item_end) {
    if (runner->is_ending) {
        return;
    }
    runner->is_ending = true;
    runner->reason = reason;
    runner->item_end = item_end == ITEM_STOP && !runner->is_item_ours ? ITEM_FORGET : item_end;
    runner_set_failure(runner, failure);
    loop_timer_arm(runner->step_timer, 0);
}

static void close_session(struct session_runner *runner) {
    api_call_cancel(STEAL_PTR(runner->request));
    event_feed_close(STEAL_PTR(runner->feed));
    serving_close(runner);
    session_setup_free(STEAL_PTR(runner->setup));
    hand_client_free(STEAL_PTR(runner->hand));
    lease_free(STEAL_PTR(runner->lease));
    loop_timer_disarm(runner->idle_timer);
    loop_timer_disarm(runner->patience_timer);
    loop_timer_disarm(runner->hand_timer);
    loop_timer_disarm(runner->rows_timer);
}

void session_runner_free(struct session_runner *runner) {
    close_session(runner);
    session_calls_free(runner->calls);
    custom_calls_free(runner->custom);
    session_sandbox_free(runner->sandbox);
    loop_timer_free(runner->idle_timer);
    loop_timer_free(runner->patience_timer);
    loop_timer_free(runner->hand_timer);
    loop_timer_free(runner->rows_timer);
    loop_timer_free(runner->step_timer);
    if (runner->session_api != runner->options.api) {
        api_free(runner->session_api);
    }
    work_item_free(runner->item);
    setup_memory_roots_free(runner->roots);
    json_object_put(runner->session);
    json_object_put(runner->known_calls);
    error_free(runner->failure);
    free(runner->incarnation);
    free(runner->acknowledged_at);
    free(runner);
}

/* The session and its sandbox. */

static void on_session(void *context, const struct api_answer *answer) {
    struct session_runner *runner = context;
    runner->request = NULL;
    (void)FAULT_FAILS("runner.session.after");
    if (answer->error != NULL && answer->is_retryable &&
        runner->item_state != STATE_ITEM_STOPPING) {
        /* Stopping the item would leave the session waiting for ever: as long as the lease lives,
         * again. */
        int64_t wait_ms = answer->retry_after_ms;
        runner_complain(runner, answer->error);
        loop_timer_arm(runner->step_timer,
                       wait_ms < STATE_RETRY_MS ? (int64_t)STATE_RETRY_MS : wait_ms);
        return;
    }
    if (answer->error != NULL) {
        bool is_gone = answer->status == 404;
        runner->is_session_over = is_gone;
        runner_end(runner, is_gone ? "session gone" : "session unreadable",
                   is_gone ? NULL : answer->error, ITEM_STOP);
        return;
    }
    const char *status = json_get_string(answer->body, "status");
    if (status != NULL && strcmp(status, "terminated") == 0) {
        runner->is_session_over = true;
        runner_end(runner, "terminated", NULL, ITEM_STOP);
        return;
    }
    if (runner->item_state == STATE_ITEM_STOPPING) {
        runner_end(runner, "stopped before", NULL, ITEM_STOP);
        return;
    }
    runner->session = json_object_get(answer->body);
    runner->state = RUNNER_ACQUIRING;
    runner_step(runner);
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

static void on_prepared(void *owner, const struct error *error) {
    struct session_runner *runner = owner;
    if (error != NULL) {
        runner_end(runner, "not prepared", error, ITEM_STOP);
        return;
    }
    (void)FAULT_FAILS("runner.prepared.after");
    runner_go_to(runner, runner->feed == NULL ? RUNNER_ATTACHING : RUNNER_SERVING);
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
            .stage = runner->options.hands->stage,
            .memory_sync_ms = runner->options.hands->memory_sync_ms,
            .is_place_shared = runner->options.hands->is_shared,
        },
        on_prepared, runner);
}

/* Hand answered: a call may be handed over when the rows say which hand it is. */
static void confirm_hand(struct session_runner *runner) {
    CLEANUP_ERROR struct error *error = NULL;
    if (!session_sandbox_confirm(runner->sandbox, runner->incarnation, &error)) {
        runner_complain(runner, error);
        loop_timer_arm(runner->rows_timer, STATE_RETRY_MS);
        return;
    }
    (void)FAULT_FAILS("runner.hand_row.after");
    runner_go_to(runner, RUNNER_PREPARING);
}

static void on_hand_ready(void *context, const char *incarnation, struct json_object *running,
                          struct json_object *finished) {
    struct session_runner *runner = context;
    if (runner->state != RUNNER_CONNECTING || runner->is_ending) {
        return;
    }
    loop_timer_disarm(runner->hand_timer);
    free(runner->incarnation);
    runner->incarnation = memory_string(incarnation);
    serving_note_known_calls(runner, running, finished);
    confirm_hand(runner);
}

static void on_hand_timeout(void *context) {
    CLEANUP_ERROR struct error *error = NULL;
    struct session_runner *runner = context;
    (void)error_set(&error, ERROR_TIMEOUT, "hand did not answer within %d s",
                    HAND_READY_TIMEOUT_MS / 1000);
    runner->is_hand_lost = true;
    runner_end(runner, "hand lost", error, end_of_unfinished(runner));
}

/*
 * The sandbox is lost. What it was asked is answered with an error, so that the session does not
 * wait for ever; the session goes on in another one, where that is possible.
 */
static void on_hand_closed(void *context, const struct error *error) {
    struct session_runner *runner = context;
    runner->is_hand_lost = true;
    bool is_replaceable = runner->options.state != NULL && !runner->is_draining &&
                          runner->replacement_count < REPLACEMENTS_LIMIT;
    if (runner->state != RUNNER_SERVING || runner->is_ending) {
        /* Nothing of it was lost that a later attempt would not find: the item is not stopped. */
        runner_end(runner, "hand lost", error, end_of_unfinished(runner));
        return;
    }
    serving_lose_hand(runner);
    if (is_replaceable) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("session %s: its sandbox was lost and is replaced: %s", runner->item->session_id,
                 text);
        runner->replacement_count++;
        runner_go_to(runner, RUNNER_REPLACING);
        return;
    }
    runner_set_failure(runner, error);
    session_runner_stop(runner, HAND_READY_TIMEOUT_MS);
}

static void on_acquired(void *context, enum session_sandbox_origin origin,
                        const struct hands_place *place, int take_fd, const struct error *error) {
    static const struct hand_events events = {
        .ready = on_hand_ready, .result = serving_on_result, .closed = on_hand_closed};
    struct session_runner *runner = context;
    CLEANUP_CLOSE int fd = take_fd;
    if (runner->is_ending) {
        return;
    }
    if (error != NULL && runner->options.state != NULL &&
        runner->replacement_count < REPLACEMENTS_LIMIT) {
        runner_complain(runner, error);
        runner->replacement_count++;
        runner->state = RUNNER_REPLACING;
        loop_timer_arm(runner->step_timer, STATE_RETRY_MS);
        return;
    }
    if (error != NULL) {
        runner_end(runner, "no sandbox", error, end_of_unfinished(runner));
        return;
    }
    bool is_resumed = origin == SANDBOX_RESUMED;
    runner->origin = origin;
    runner->is_hand_lost = false;
    log_info("session %s: sandbox %s (%s) ready in %.1f ms%s", runner->item->session_id,
             place->sandbox_id, place->provider, (double)place->created_us / 1000,
             is_resumed ? ", as it was left" : "");
    struct json_object *record =
        runner_record(runner, is_resumed ? "sandbox_resumed" : "sandbox_created");
    json_set_string(record, "sandbox_id", place->sandbox_id);
    json_set_string(record, "provider", place->provider);
    if (!is_resumed) {
        json_set_int(record, "created_us", place->created_us);
    }
    journal_write(runner->options.journal, record);
    runner->state = RUNNER_CONNECTING;
    if (runner->options.started != NULL) {
        runner->options.started(runner->options.context, runner);
    }
    loop_timer_arm(runner->hand_timer, HAND_READY_TIMEOUT_MS);
    setup_memory_roots_free(runner->roots);
    runner->roots = setup_memory_roots_new(runner->session, &runner->options.hands->configuration);
    runner->hand =
        hand_client_new(runner->options.loop, STEAL_FD(fd),
                        setup_memory_roots_configuration(runner->roots), &events, runner);
}

static void on_released(void *context, const struct error *error) {
    struct session_runner *runner = context;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_error("session %s: its sandbox could not be destroyed: %s", runner->item->session_id,
                  text);
    }
    session_sandbox_free(STEAL_PTR(runner->sandbox));
    if (runner->state == RUNNER_RELEASING) {
        runner_go_to(runner, RUNNER_DONE);
    } else if (runner->state == RUNNER_REPLACING && !runner->is_ending) {
        runner_go_to(runner, RUNNER_ACQUIRING);
    }
}

static const struct session_sandbox_events sandbox_events = {.acquired = on_acquired,
                                                             .released = on_released};

static void acquire(struct session_runner *runner) {
    runner->sandbox =
        session_sandbox_acquire(runner->options.loop, runner->options.hands, runner->options.state,
                                runner->item->session_id, &sandbox_events, runner);
}

/* The dead one goes first: while its row lives the session would be given it again. */
static void replace(struct session_runner *runner) {
    session_setup_free(STEAL_PTR(runner->setup));
    hand_client_free(STEAL_PTR(runner->hand));
    session_sandbox_release(runner->sandbox, false);
}

static void on_rows_timer(void *context) {
    struct session_runner *runner = context;
    if (runner->state == RUNNER_CONNECTING && !runner->is_ending) {
        confirm_hand(runner);
    } else {
        serving_go_on(runner);
    }
}

/* Stopping. */

static void on_idle(void *context) {
    runner_end(context, "idle", NULL, ITEM_STOP);
}

static void on_patience_over(void *context) {
    struct session_runner *runner = context;
    if (runner->is_cut) {
        runner_end(runner, "shut down", NULL, end_of_unfinished(runner));
        return;
    }
    runner->is_cut = true;
    serving_cut(runner);
    loop_timer_arm(runner->patience_timer, CUT_PATIENCE_MS);
}

static void leave_session(struct session_runner *runner) {
    close_session(runner);
    if (runner->item_end == ITEM_FORGET) {
        item_forget(runner);
    }
    runner_go_to(runner, runner->item_end == ITEM_STOP ? RUNNER_STOPPING : RUNNER_RELEASING);
}

static void on_saved(void *owner, const struct error *error) {
    (void)error;
    leave_session(owner);
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
    if (runner->state != RUNNER_SERVING || runner->is_hurried) {
        runner_end(runner, "shut down", NULL, end_of_unfinished(runner));
        return;
    }
    loop_timer_arm(runner->patience_timer, patience_ms);
    serving_go_on(runner);
}

void session_runner_supersede(struct session_runner *runner) {
    runner->is_hurried = true;
    runner_end(runner, "superseded", NULL, ITEM_FORGET);
    if (runner->state == RUNNER_SAVING) {
        leave_session(runner);
    }
}

/* The states. */

static void begin_end(struct session_runner *runner) {
    log_debug("session %s: ending: %s", runner->item->session_id, runner->reason);
    bool is_regular = runner->failure == NULL && runner->item_end == ITEM_STOP;
    if (runner->state == RUNNER_SERVING && is_regular && !runner->is_hurried) {
        runner->state = RUNNER_SAVING; /* under the lease, and with hand */
        event_feed_close(STEAL_PTR(runner->feed));
        session_setup_finish(runner->setup, SAVE_PATIENCE_MS, on_saved, runner);
        return;
    }
    leave_session(runner);
}

static void release(struct session_runner *runner) {
    if (runner->sandbox == NULL && runner->is_session_over) {
        /* Its sandbox was kept by an item before this one, or by a daemon before us. */
        runner->sandbox = session_sandbox_discard(runner->options.loop, runner->options.hands,
                                                  runner->options.state, runner->item->session_id,
                                                  &sandbox_events, runner);
        return;
    }
    if (runner->sandbox == NULL) {
        runner_go_to(runner, RUNNER_DONE);
        return;
    }
    session_sandbox_release(runner->sandbox, runner->options.keeps_sandbox &&
                                                 !runner->is_hand_lost && !runner->is_session_over);
}

static void finish(struct session_runner *runner) {
    CLEANUP_ERROR struct error *error = NULL;
    if (runner->is_session_over && runner->options.state != NULL &&
        !state_calls_forget(runner->options.state, runner->item->session_id, &error)) {
        runner_complain(runner, error);
    }
    struct json_object *record = runner_record(runner, "session_ended");
    json_set_string(record, "work_id", runner->item->id);
    json_set_string(record, "reason", runner->reason);
    journal_write(runner->options.journal, record);
    log_info("session %s: ended: %s", runner->item->session_id, runner->reason);
    runner->options.ended(runner->options.context, runner, runner->failure);
    session_runner_free(runner);
}

static void runner_step(void *context) {
    struct session_runner *runner = context;
    if (runner->is_ending && runner->state < RUNNER_SAVING) {
        begin_end(runner);
        return;
    }
    switch (runner->state) {
    case RUNNER_REVIEWING:
        item_review(runner);
        break;
    case RUNNER_ACKNOWLEDGING:
        item_acknowledge(runner);
        break;
    case RUNNER_LEASING:
        item_lease(runner);
        break;
    case RUNNER_LOADING:
        load_session(runner);
        break;
    case RUNNER_ACQUIRING:
        acquire(runner);
        break;
    case RUNNER_PREPARING:
        prepare(runner);
        break;
    case RUNNER_ATTACHING:
        serving_attach(runner);
        break;
    case RUNNER_SERVING: /* again, in another sandbox */
        serving_go_on(runner);
        break;
    case RUNNER_REPLACING:
        replace(runner);
        break;
    case RUNNER_STOPPING:
        item_stop(runner);
        break;
    case RUNNER_RELEASING:
        release(runner);
        break;
    case RUNNER_DONE:
        if (!runner->is_measuring) { /* else its answer comes back here */
            finish(runner);
        }
        break;
    case RUNNER_CONNECTING:
    case RUNNER_SAVING:
        break; /* answers carry on from here */
    }
}

static enum runner_state first_state(const struct session_runner_options *options,
                                     const struct state_item *resumed) {
    if (resumed != NULL) {
        return RUNNER_REVIEWING;
    }
    return options->is_acknowledged ? RUNNER_LEASING : RUNNER_ACKNOWLEDGING;
}

struct session_runner *session_runner_start(const struct session_runner_options *options,
                                            struct work_item *take_item,
                                            const struct state_item *resumed) {
    struct session_runner *runner = memory_new(struct session_runner);
    runner->options = *options;
    runner->item = take_item;
    runner->session_api =
        take_item->bearer == NULL
            ? options->api
            : api_with_bearer(options->api, take_item->api_base_url, take_item->bearer);
    runner->known_calls = json_object_new_object();
    runner->calls = session_calls_new(serving_owns_tool, runner);
    runner->custom = custom_calls_new(options->loop, options->custom_tools, take_item->session_id,
                                      serving_on_custom_ended, runner);
    LIST_INIT(&runner->postings);
    runner->idle_timer = loop_timer_new(options->loop, on_idle, runner);
    runner->patience_timer = loop_timer_new(options->loop, on_patience_over, runner);
    runner->hand_timer = loop_timer_new(options->loop, on_hand_timeout, runner);
    runner->rows_timer = loop_timer_new(options->loop, on_rows_timer, runner);
    runner->step_timer = loop_timer_new(options->loop, runner_step, runner);
    runner->reason = "served";
    runner->is_first_history = true;
    runner->is_item_ours = options->is_acknowledged;
    runner->state = first_state(options, resumed);
    if (resumed != NULL) {
        runner->item_state = resumed->state;
        runner->acknowledged_at =
            resumed->acknowledged_at == NULL ? NULL : memory_string(resumed->acknowledged_at);
    }
    struct json_object *record =
        runner_record(runner, resumed == NULL ? "session_claimed" : "session_resumed");
    json_set_string(record, "work_id", take_item->id);
    journal_write(options->journal, record);
    log_info("session %s: %s as work %s", take_item->session_id,
             resumed == NULL ? "claimed" : "resumed", take_item->id);
    loop_timer_arm(runner->step_timer, 0);
    return runner;
}
