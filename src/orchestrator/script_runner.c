/* The runner of one item that a script serves: an explicit state machine. */
#include "orchestrator/script_runner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/memory.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum runner_state {
    RUNNER_ACKNOWLEDGING, /* claiming the item */
    RUNNER_RUNNING,       /* the script runs */
    RUNNER_WAITING,       /* it returned; its worker has not been seen */
    RUNNER_STOPPING,      /* nobody came: the queue is told that the item is over */
    RUNNER_DONE,
};

enum {
    SCRIPT_GRACE_MS = 30000, /* from SIGTERM to SIGKILL, as ant */
    LOOK_WHILE_RUNNING_MS = 2000,
    LOOK_WHILE_WAITING_MS = 1000,
    LOOK_WHILE_TAKEN_MS = 5000, /* only for a worker that dies beneath its script */
};

struct script_runner {
    enum runner_state state;
    struct script_runner_options options;
    struct work_item *item;
    struct work_item *next; /* the item again, to be served anew when the script has ended */
    char *acknowledged_at;  /* which claim is ours; NULL: unknown */
    struct process *process;
    struct api_call *request; /* acknowledge or stop */
    struct api_call *look;
    struct loop_timer *look_timer;
    struct loop_timer *step_timer; /* runs step from the loop */
    struct loop_timer *late_timer;
    enum script_item seen;
    enum script_state script;
    bool was_taken;
    bool is_unseen; /* the last look failed: a worker may have come and gone since */
    bool is_late;
    bool is_stopping;   /* the daemon ends */
    const char *reason; /* for the journal, once done */
    struct error *failure;
};

/* Judgement, pure. */

enum script_item script_item_of(struct json_object *work, const char *acknowledged_at) {
    static const struct {
        const char *state;
        enum script_item item;
    } states[] = {
        {"queued", SCRIPT_ITEM_LAPSED}, {"starting", SCRIPT_ITEM_CLAIMED},
        {"active", SCRIPT_ITEM_TAKEN},  {"stopping", SCRIPT_ITEM_OVER},
        {"stopped", SCRIPT_ITEM_OVER},
    };
    const char *state = json_get_string(work, "state");
    const char *claim = json_get_string(work, "acknowledged_at");
    enum script_item item = SCRIPT_ITEM_UNKNOWN;
    for (size_t i = 0; state != NULL && i < sizeof(states) / sizeof(states[0]); i++) {
        if (strcmp(state, states[i].state) == 0) {
            item = states[i].item;
        }
    }
    bool is_held = item == SCRIPT_ITEM_CLAIMED || item == SCRIPT_ITEM_TAKEN;
    bool is_ours = claim == NULL || acknowledged_at == NULL || strcmp(claim, acknowledged_at) == 0;
    return is_held && !is_ours ? SCRIPT_ITEM_ANOTHERS : item;
}

enum script_verdict script_judge(enum script_state script, enum script_item item, bool is_late) {
    if (script == SCRIPT_RUNS) {
        return SCRIPT_WAIT;
    }
    switch (item) {
    case SCRIPT_ITEM_TAKEN:
        return SCRIPT_HANDED_OVER;
    case SCRIPT_ITEM_OVER:
        return SCRIPT_SERVED;
    case SCRIPT_ITEM_CLAIMED:
        return script == SCRIPT_FAILED || is_late ? SCRIPT_GIVE_UP : SCRIPT_WAIT;
    case SCRIPT_ITEM_LAPSED:
        return script == SCRIPT_FAILED || is_late ? SCRIPT_LEAVE : SCRIPT_WAIT;
    case SCRIPT_ITEM_UNKNOWN:
        return is_late ? SCRIPT_GIVE_UP : SCRIPT_WAIT;
    case SCRIPT_ITEM_ANOTHERS:
        return SCRIPT_FORGET;
    }
    return SCRIPT_WAIT;
}

/* What others ask. */

const char *script_runner_work_id(const struct script_runner *runner) {
    return runner->item->id;
}

bool script_runner_is_busy(const struct script_runner *runner) {
    return runner->state == RUNNER_ACKNOWLEDGING || runner->state == RUNNER_RUNNING;
}

bool script_runner_has_lapsed(const struct script_runner *runner) {
    return (runner->state == RUNNER_RUNNING || runner->state == RUNNER_WAITING) &&
           runner->seen == SCRIPT_ITEM_LAPSED && !runner->is_stopping;
}

static bool may_have_been_taken(const struct script_runner *runner) {
    return runner->was_taken || runner->is_unseen;
}

/* Steps. */

static void finish(struct script_runner *runner, const char *reason) {
    runner->state = RUNNER_DONE;
    runner->reason = reason;
    loop_timer_disarm(runner->look_timer);
    loop_timer_disarm(runner->late_timer);
    api_call_cancel(STEAL_PTR(runner->look));
    api_call_cancel(STEAL_PTR(runner->request));
    loop_timer_arm(runner->step_timer, 0);
}

static void look_in(struct script_runner *runner, int64_t delay_ms) {
    loop_timer_arm(runner->look_timer, delay_ms);
}

static void tell_changed(struct script_runner *runner) {
    runner->options.changed(runner->options.context, runner);
}

static void on_stopped(void *context, const struct api_answer *answer) {
    struct script_runner *runner = context;
    runner->request = NULL;
    if (answer->error != NULL && answer->status != 409) {
        CLEANUP_FREE char *text = error_text(answer->error);
        log_warn("work %s could not be stopped: %s", runner->item->id, text);
    }
    finish(runner, runner->script == SCRIPT_FAILED ? "script failed" : "nobody took it over");
}

static void give_up(struct script_runner *runner) {
    if (runner->script != SCRIPT_FAILED) {
        log_warn("session %s: nobody took work %s over within %lld s after the script returned: "
                 "stopping it",
                 runner->item->session_id, runner->item->id,
                 (long long)(runner->options.script->timeout_ms / 1000));
    }
    runner->state = RUNNER_STOPPING;
    api_call_cancel(STEAL_PTR(runner->look));
    api_call_cancel(STEAL_PTR(runner->request));
    runner->request = work_queue_stop(runner->options.api, runner->item, on_stopped, runner);
}

/* Acts on what is known of the script and the item. */
static void judge(struct script_runner *runner) {
    if (runner->state != RUNNER_RUNNING && runner->state != RUNNER_WAITING) {
        return;
    }
    /* A worker that had it and lost it does not come back. */
    bool is_late =
        runner->is_late || (runner->seen == SCRIPT_ITEM_LAPSED && may_have_been_taken(runner));
    switch (script_judge(runner->script, runner->seen, is_late)) {
    case SCRIPT_WAIT:
        look_in(runner, runner->state == RUNNER_WAITING ? LOOK_WHILE_WAITING_MS
                        : runner->was_taken             ? LOOK_WHILE_TAKEN_MS
                                                        : LOOK_WHILE_RUNNING_MS);
        break;
    case SCRIPT_HANDED_OVER:
        finish(runner, "handed over");
        break;
    case SCRIPT_SERVED:
        finish(runner, "served");
        break;
    case SCRIPT_GIVE_UP:
        give_up(runner);
        break;
    case SCRIPT_LEAVE:
        finish(runner, "left to the queue");
        break;
    case SCRIPT_FORGET:
        finish(runner, "another worker has it");
        break;
    }
}

/* The item, as others may have changed it. */

static void on_looked(void *context, const struct api_answer *answer) {
    struct script_runner *runner = context;
    runner->look = NULL;
    if (answer->error == NULL) {
        runner->seen = script_item_of(answer->body, runner->acknowledged_at);
        runner->is_unseen = runner->is_unseen && runner->seen == SCRIPT_ITEM_LAPSED;
    } else if (answer->status == 404) {
        runner->seen = SCRIPT_ITEM_OVER;
    } else {
        runner->seen = SCRIPT_ITEM_UNKNOWN;
        runner->is_unseen = true;
        log_debug("work %s could not be looked at: %s", runner->item->id, answer->error->message);
    }
    if (runner->seen == SCRIPT_ITEM_TAKEN && !runner->was_taken) {
        runner->was_taken = true;
        log_info("session %s: a worker has taken over work %s", runner->item->session_id,
                 runner->item->id);
    }
    if (script_runner_has_lapsed(runner)) {
        tell_changed(runner);
    }
    judge(runner);
}

static void on_look_timer(void *context) {
    struct script_runner *runner = context;
    if (runner->look == NULL) {
        runner->look = work_queue_look(runner->options.api, runner->item, on_looked, runner);
    }
}

static void on_late(void *context) {
    struct script_runner *runner = context;
    runner->is_late = true;
    on_look_timer(runner); /* its answer decides */
}

/* The script. */

static void on_script_ended(void *context, int wait_status) {
    struct script_runner *runner = context;
    CLEANUP_FREE char *how = process_describe_end(wait_status);
    process_free(STEAL_PTR(runner->process));
    runner->script =
        WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0 ? SCRIPT_SUCCEEDED : SCRIPT_FAILED;
    if (runner->script == SCRIPT_FAILED && !runner->is_stopping) {
        log_warn("session %s: the on-work script for work %s %s", runner->item->session_id,
                 runner->item->id, how);
    } else {
        log_debug("session %s: the on-work script %s", runner->item->session_id, how);
    }
    if (runner->is_stopping) {
        finish(runner, "shut down");
        return;
    }
    if (runner->next != NULL) {
        work_item_free(runner->item);
        runner->item = STEAL_PTR(runner->next);
        runner->state = RUNNER_ACKNOWLEDGING;
        loop_timer_arm(runner->step_timer, 0);
        return;
    }
    runner->state = RUNNER_WAITING;
    loop_timer_arm(runner->late_timer, runner->options.script->timeout_ms);
    api_call_cancel(STEAL_PTR(runner->look)); /* what it answers may be from before the end */
    look_in(runner, 0);
    tell_changed(runner);
}

/* Whether trying the next item can only fail the same way. */
static bool is_misconfigured(const struct error *error) {
    static const int errnos[] = {ENOENT, EACCES, EPERM,        ENOEXEC, ENOTDIR,
                                 EISDIR, ELOOP,  ENAMETOOLONG, EINVAL,  ELIBBAD};
    for (size_t i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++) {
        if (error->errno_value == errnos[i]) {
            return true;
        }
    }
    return false;
}

static void on_launch_failed(struct script_runner *runner, const struct error *error) {
    CLEANUP_FREE char *text = error_text(error);
    if (is_misconfigured(error)) {
        (void)error_set(&runner->failure, error->code, "the on-work script is not runnable: %s",
                        text);
    } else {
        log_warn("session %s: the on-work script was not started, work %s is left to the queue: %s",
                 runner->item->session_id, runner->item->id, text);
    }
    finish(runner, "script not started");
}

static void run_script(struct script_runner *runner) {
    CLEANUP_ERROR struct error *error = NULL;
    runner->state = RUNNER_RUNNING;
    runner->script = SCRIPT_RUNS;
    runner->seen = SCRIPT_ITEM_CLAIMED;
    runner->was_taken = false;
    runner->is_unseen = false;
    log_info("session %s: running %s for work %s", runner->item->session_id,
             runner->options.script->path, runner->item->id);
    runner->process = script_launch(runner->options.loop, runner->options.script, runner->item,
                                    on_script_ended, runner, &error);
    if (runner->process == NULL) {
        on_launch_failed(runner, error);
        return;
    }
    look_in(runner, LOOK_WHILE_RUNNING_MS);
}

static void note_claim(struct script_runner *runner, struct json_object *work) {
    const char *claim = json_get_string(work, "acknowledged_at");
    free(runner->acknowledged_at);
    runner->acknowledged_at = claim == NULL ? NULL : memory_string(claim);
}

static void on_acknowledged(void *context, const struct api_answer *answer) {
    struct script_runner *runner = context;
    runner->request = NULL;
    if (answer->error == NULL) {
        note_claim(runner, answer->body);
        run_script(runner);
        return;
    }
    bool is_anothers = answer->status == 409 || answer->status == 404;
    if (!is_anothers) {
        CLEANUP_FREE char *text = error_text(answer->error);
        log_warn("work %s could not be acknowledged: %s", runner->item->id, text);
    }
    finish(runner, is_anothers ? "another worker has it" : "not acknowledged");
}

/* The claim was made again, before a worker came. */
static void on_claimed_again(void *context, const struct api_answer *answer) {
    struct script_runner *runner = context;
    runner->request = NULL;
    if (answer->error == NULL) {
        log_info("session %s: claimed work %s again: nobody has taken it over yet",
                 runner->item->session_id, runner->item->id);
        runner->seen = SCRIPT_ITEM_CLAIMED;
        note_claim(runner, answer->body);
    } else {
        log_debug("work %s could not be claimed again: %s", runner->item->id,
                  answer->error->message);
    }
    judge(runner);
}

bool script_runner_offer(struct script_runner *runner, struct work_item *item) {
    if (runner->state == RUNNER_DONE || runner->state == RUNNER_STOPPING) {
        return false;
    }
    if (runner->state == RUNNER_ACKNOWLEDGING || runner->request != NULL || runner->next != NULL) {
        work_item_free(item); /* delivered twice; the acknowledgement is under way */
        return true;
    }
    if (runner->state == RUNNER_WAITING && may_have_been_taken(runner)) {
        finish(runner, "left to the queue");
        return false;
    }
    if (runner->was_taken) {
        log_warn("session %s: the worker that had work %s has lost it: ending its script, to run "
                 "it anew",
                 runner->item->session_id, runner->item->id);
        runner->next = item;
        process_terminate(runner->process, SCRIPT_GRACE_MS);
        return true;
    }
    runner->request = work_queue_acknowledge(runner->options.api, item, on_claimed_again, runner);
    work_item_free(item);
    return true;
}

/* From beginning to end. */

static void runner_free(struct script_runner *runner) {
    process_free(runner->process);
    loop_timer_free(runner->look_timer);
    loop_timer_free(runner->late_timer);
    loop_timer_free(runner->step_timer);
    work_item_free(runner->item);
    work_item_free(runner->next);
    error_free(runner->failure);
    free(runner->acknowledged_at);
    free(runner);
}

static struct json_object *record_of(const struct script_runner *runner, const char *event) {
    struct json_object *record = journal_record(event);
    json_set_string(record, "session_id", runner->item->session_id);
    json_set_string(record, "work_id", runner->item->id);
    return record;
}

static void on_step(void *context) {
    struct script_runner *runner = context;
    if (runner->state == RUNNER_ACKNOWLEDGING) {
        runner->request =
            work_queue_acknowledge(runner->options.api, runner->item, on_acknowledged, runner);
        return;
    }
    struct json_object *record = record_of(runner, "session_ended");
    json_set_string(record, "reason", runner->reason);
    journal_write(runner->options.journal, record);
    log_info("session %s: ended here: %s", runner->item->session_id, runner->reason);
    runner->options.ended(runner->options.context, runner, runner->failure);
    runner_free(runner);
}

void script_runner_stop(struct script_runner *runner, int64_t patience_ms) {
    runner->is_stopping = true;
    switch (runner->state) {
    case RUNNER_RUNNING:
        process_terminate(runner->process, patience_ms > 0 ? SCRIPT_GRACE_MS : 0);
        break;
    case RUNNER_STOPPING:
        if (patience_ms <= 0) {
            finish(runner, "shut down");
        }
        break;
    case RUNNER_ACKNOWLEDGING:
    case RUNNER_WAITING:
        finish(runner, "shut down");
        break;
    case RUNNER_DONE:
        break;
    }
}

struct script_runner *script_runner_start(const struct script_runner_options *options,
                                          struct work_item *take_item) {
    struct script_runner *runner = memory_new(struct script_runner);
    runner->options = *options;
    runner->item = take_item;
    runner->state = RUNNER_ACKNOWLEDGING;
    runner->look_timer = loop_timer_new(options->loop, on_look_timer, runner);
    runner->late_timer = loop_timer_new(options->loop, on_late, runner);
    runner->step_timer = loop_timer_new(options->loop, on_step, runner);
    journal_write(options->journal, record_of(runner, "session_claimed"));
    log_info("session %s: claimed as work %s", take_item->session_id, take_item->id);
    loop_timer_arm(runner->step_timer, 0);
    return runner;
}
