/* The work item of a session: review, acknowledge, lease, stop. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "orchestrator/session_runner_internal.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

/*
 * What a restarted daemon finds: an item is still ours when nobody acknowledged it after us. When
 * it is not known whether our own acknowledgement arrived, the first beat, which is a
 * compare-and-set, decides.
 */
static void on_reviewed(void *context, const struct api_answer *answer) {
    struct session_runner *runner = context;
    runner->request = NULL;
    const char *state = json_get_string(answer->body, "state");
    const char *acknowledged_at = json_get_string(answer->body, "acknowledged_at");
    if (answer->error != NULL || state == NULL) {
        bool is_gone = answer->status == 404;
        runner_end(runner, is_gone ? "item gone" : "item unreadable",
                   is_gone ? NULL : answer->error, is_gone ? ITEM_FORGET : ITEM_LEAVE);
        return;
    }
    bool is_held = strcmp(state, "active") == 0 || strcmp(state, "starting") == 0;
    bool is_ours = runner->acknowledged_at != NULL && acknowledged_at != NULL &&
                   strcmp(acknowledged_at, runner->acknowledged_at) == 0;
    if (strcmp(state, "queued") == 0) {
        /* The lease lapsed: a new one begins. */
        runner->item->is_resumed = false;
        free(STEAL_PTR(runner->item->last_heartbeat));
        runner_go_to(runner, RUNNER_ACKNOWLEDGING);
    } else if (is_held && (is_ours || runner->item_state == STATE_ITEM_CLAIMED)) {
        runner->item->is_disputed = !is_ours;
        runner->is_item_ours = true;
        runner_go_to(runner, RUNNER_LEASING);
    } else if (strcmp(state, "stopping") == 0 && is_ours) {
        runner->is_item_ours = true;
        runner_end(runner, "stopped by the control plane", NULL, ITEM_STOP);
    } else {
        runner_end(runner, "another worker has it", NULL, ITEM_FORGET);
    }
}

void item_review(struct session_runner *runner) {
    if (runner->item_state == STATE_ITEM_STOPPING) {
        runner->is_item_ours = true;
        runner_go_to(runner, RUNNER_LOADING); /* what becomes of its sandbox? */
        return;
    }
    runner->request = work_queue_get(runner->session_api, runner->item, on_reviewed, runner);
}

static void note_acknowledged(struct session_runner *runner, struct json_object *body) {
    CLEANUP_ERROR struct error *error = NULL;
    (void)FAULT_FAILS("runner.ack_row.before");
    if (runner->options.state != NULL &&
        !state_item_acknowledge(runner->options.state, runner->item->id,
                                json_get_string(body, "acknowledged_at"), &error)) {
        runner_complain(runner, error);
    }
    (void)FAULT_FAILS("runner.ack_row.after");
}

static void on_acknowledged(void *context, const struct api_answer *answer) {
    struct session_runner *runner = context;
    runner->request = NULL;
    /* After a try whose fate is unknown the 409 may be due to our own: the first beat, which is a
     * compare-and-set, decides whose item it is. */
    runner->item->is_disputed = answer->status == 409 && answer->is_repeat;
    if (answer->error != NULL && !runner->item->is_disputed) {
        bool is_anothers = answer->status == 409 || answer->status == 404;
        runner_end(runner, is_anothers ? "another worker has it" : "not acknowledged",
                   is_anothers ? NULL : answer->error, ITEM_FORGET);
        return;
    }
    if (answer->error == NULL) {
        note_acknowledged(runner, answer->body);
    }
    runner->is_item_ours = true;
    runner_go_to(runner, RUNNER_LEASING);
}

static void on_lease_held(void *context) {
    struct session_runner *runner = context;
    if (runner->state == RUNNER_LEASING) {
        runner_go_to(runner, RUNNER_LOADING);
    }
}

static void on_lease_beat(void *context, const char *last_heartbeat) {
    struct session_runner *runner = context;
    CLEANUP_ERROR struct error *error = NULL;
    (void)FAULT_FAILS("runner.beat_row.before");
    if (runner->options.state != NULL &&
        !state_item_beat(runner->options.state, runner->item->id, last_heartbeat, &error)) {
        runner_complain(runner, error); /* a restart finds out by itself */
    }
}

static void on_lease_ended(void *context, enum lease_end end, const struct error *error) {
    struct session_runner *runner = context;
    switch (end) {
    case LEASE_STOPPING:
        runner_end(runner, "stopped by the control plane", NULL, ITEM_STOP);
        break;
    case LEASE_LOST:
        runner_end(runner, "lease lost", error, ITEM_FORGET);
        break;
    case LEASE_REFUSED:
        runner_end(runner, "lease refused", error, ITEM_FORGET);
        break;
    }
}

void item_forget(struct session_runner *runner) {
    CLEANUP_ERROR struct error *error = NULL;
    if (runner->options.state != NULL &&
        !state_item_forget(runner->options.state, runner->item->id, &error)) {
        runner_complain(runner, error);
    }
}

static void on_item_stopped(void *context, const struct api_answer *answer) {
    struct session_runner *runner = context;
    runner->request = NULL;
    (void)FAULT_FAILS("runner.stop.after");
    if (answer->error != NULL && answer->status != 409 && answer->status != 404) {
        CLEANUP_FREE char *text = error_text(answer->error);
        log_warn("work %s could not be stopped: %s", runner->item->id, text);
    } else {
        item_forget(runner);
    }
    runner_go_to(runner, RUNNER_RELEASING);
}

void item_stop(struct session_runner *runner) {
    CLEANUP_ERROR struct error *error = NULL;
    if (runner->request != NULL) {
        return;
    }
    (void)FAULT_FAILS("runner.stop.before");
    if (runner->options.state != NULL &&
        !state_item_stopping(runner->options.state, runner->item->id, &error)) {
        runner_complain(runner, error); /* stopping twice is harmless */
    }
    runner->request = work_queue_stop(runner->session_api, runner->item, on_item_stopped, runner);
}

void item_acknowledge(struct session_runner *runner) {
    (void)FAULT_FAILS("runner.ack.before");
    runner->request =
        work_queue_acknowledge(runner->options.api, runner->item, on_acknowledged, runner);
}

void item_lease(struct session_runner *runner) {
    static const struct lease_events events = {
        .held = on_lease_held, .beat = on_lease_beat, .ended = on_lease_ended};
    runner->lease = lease_start(runner->session_api, runner->item, &events, runner);
}
