/*
 * Plays a session's script: a phase, the index of a step, and a map of the tool calls made so far.
 * Everything is driven from one timer, so that no request is answered from inside a step.
 */
#include "emulator/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"

#define LOG_ROOM "emulator"
#include "base/log.h"

enum { FAILURES_LIMIT = 1000 };

static void run(void *context);

void runner_init(struct session *session) {
    const char *name = json_get_string(json_get_object(session->json, "metadata"), "script");
    session->script_name = memory_string(name == NULL ? "default" : name);
    session->script = script_set_find(session->emulator->scripts, session->script_name);
    session->phase = RUNNER_WAITS_FOR_MESSAGE;
    session->calls = json_object_new_object();
    session->failures = json_object_new_array();
    session->injected = json_object_new_object();
    session->timer = loop_timer_new(session->emulator->loop, run, session);
}

static void add_failure(struct session *session, struct json_object *call, const char *text) {
    if (json_object_array_length(session->failures) < FAILURES_LIMIT) {
        CLEANUP_FREE char *line =
            memory_format("step %lld call %lld: %s", (long long)json_get_int(call, "step", -1),
                          (long long)json_get_int(call, "call", -1), text);
        (void)json_object_array_add(session->failures, json_object_new_string(line));
    }
}

/* ---- turns ---- */

static void emit_idle(struct session *session, struct json_object *take_reason) {
    struct json_object *event = session_event_new("session.status_idle");
    json_set(event, "stop_reason", take_reason);
    json_set(event, "stop_details", NULL);
    session_set_status(session, "idle");
    (void)session_emit(session, event, 0);
    webhooks_send(session->emulator->webhooks, "session.status_idled", session->id);
}

static void emit_running(struct session *session) {
    session_set_status(session, "running");
    (void)session_emit(session, session_event_new("session.status_running"), 0);
}

static void begin_turn(struct session *session) {
    session->has_new_message = false;
    work_enqueue(session);
    emit_running(session);
    webhooks_send(session->emulator->webhooks, "session.status_run_started", session->id);
    session->phase = RUNNER_RUNS;
    loop_timer_arm(session->timer, 0);
}

static bool is_at_end(const struct session *session) {
    return session->script == NULL || session->step >= script_step_count(session->script);
}

static void end_turn(struct session *session, const char *reason) {
    struct json_object *stop_reason = json_object_new_object();
    json_set_string(stop_reason, "type", reason);
    emit_idle(session, stop_reason);
    session->phase = is_at_end(session) ? RUNNER_FINISHED : RUNNER_WAITS_FOR_MESSAGE;
    if (session->has_new_message) {
        begin_turn(session);
    }
}

/* ---- calls ---- */

static bool is_waited_for(struct json_object *call) {
    const char *permission = json_get_string(call, "permission");
    struct json_object *answered = json_get(call, "answered");
    bool is_answered = answered == NULL || (json_object_is_type(answered, json_type_boolean) &&
                                            json_object_get_boolean(answered));
    return is_answered && (permission == NULL || strcmp(permission, "deny") != 0);
}

static const char *emit_call(struct session *session, struct json_object *call, size_t index,
                             unsigned flags) {
    bool is_custom = json_get_bool(call, "custom", false);
    const char *name = json_get_string(call, "name");
    const char *permission = json_get_string(call, "permission");
    const char *thread = json_get_string(call, "thread");
    struct json_object *input = json_get_object(call, "input");
    struct json_object *event =
        session_event_new(is_custom ? "agent.custom_tool_use" : "agent.tool_use");
    json_set_string(event, "name", name);
    json_set(event, "input", input == NULL ? json_object_new_object() : json_object_get(input));
    if (permission != NULL) {
        json_set_string(event, "evaluated_permission", permission);
    }
    if (thread != NULL) {
        json_set_string(event, "session_thread_id", thread);
    }
    const char *id = session_emit(session, event, flags);
    struct json_object *record = json_object_new_object();
    json_set_int(record, "step", (int64_t)session->step);
    json_set_int(record, "call", (int64_t)index);
    json_set_string(record, "name", name);
    json_set_bool(record, "is_custom", is_custom);
    json_set_string(record, "permission", permission == NULL ? "allow" : permission);
    json_set_bool(record, "is_answered", false);
    json_set_bool(record, "is_waited", is_waited_for(call));
    json_set(session->calls, id, record);
    return id;
}

static void confirm_call(struct session *session, struct json_object *record, const char *result) {
    json_set_string(record, "permission", result);
    if (strcmp(result, "deny") == 0 && json_get_bool(record, "is_waited", false)) {
        json_set_bool(record, "is_waited", false);
        session->waits--;
    }
}

static void emit_confirmations(struct session *session, struct json_object *confirm,
                               struct json_object *ids) {
    size_t count = confirm == NULL ? 0 : json_object_array_length(confirm);
    for (size_t i = 0; i < count; i++) {
        struct json_object *entry = json_object_array_get_idx(confirm, i);
        const char *id = json_object_get_string(
            json_object_array_get_idx(ids, (size_t)json_get_int(entry, "call", 0)));
        const char *result = json_get_string(entry, "result");
        struct json_object *event = session_event_new("user.tool_confirmation");
        json_set_string(event, "tool_use_id", id);
        json_set_string(event, "result", result);
        (void)session_emit(session, event, 0);
        confirm_call(session, json_get_object(session->calls, id), result);
    }
}

/* Goes on when no call is waited for any more. */
static void finish_calls(struct session *session) {
    if (session->phase == RUNNER_WAITS_FOR_RESULTS && session->waits == 0) {
        session->step++;
        session->phase = RUNNER_RUNS;
        emit_running(session);
        loop_timer_arm(session->timer, 0);
    }
}

static void step_calls(struct session *session, struct json_object *step) {
    struct json_object *calls = json_get_array(step, "calls");
    unsigned flags =
        (json_get_bool(step, "hide_from_streams", false) ? (unsigned)EMIT_HIDDEN : 0U) |
        (json_get_bool(step, "duplicate", false) ? (unsigned)EMIT_TWICE : 0U);
    if ((flags & EMIT_HIDDEN) != 0) {
        flags = EMIT_HIDDEN;
    }
    CLEANUP_JSON struct json_object *ids = json_object_new_array();
    struct json_object *waited = json_object_new_array();
    session->waits = 0;
    for (size_t i = 0; i < json_object_array_length(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        const char *id = emit_call(session, call, i, flags);
        (void)json_object_array_add(ids, json_object_new_string(id));
        if (is_waited_for(call)) {
            session->waits++;
            (void)json_object_array_add(waited, json_object_new_string(id));
        }
    }
    bool has_waits = session->waits > 0;
    if (has_waits) {
        struct json_object *reason = json_object_new_object();
        json_set_string(reason, "type", "requires_action");
        json_set(reason, "event_ids", json_object_get(waited));
        session->phase = RUNNER_WAITS_FOR_RESULTS;
        emit_idle(session, reason);
    }
    json_object_put(waited);
    emit_confirmations(session, json_get_array(step, "confirm"), ids);
    if (json_get_bool(step, "drop_streams", false)) {
        session_drop_streams(session);
    }
    if (has_waits) {
        finish_calls(session); /* all of them may have been denied */
    } else {
        session->step++;
    }
}

/* ---- the other steps; each has run when it returns ---- */

static void step_message(struct session *session, struct json_object *step) {
    struct json_object *block = session_event_new("text");
    json_set(block, "text", json_object_get(json_get(step, "message")));
    struct json_object *content = json_object_new_array();
    (void)json_object_array_add(content, block);
    struct json_object *event = session_event_new("agent.message");
    json_set(event, "content", content);
    (void)session_emit(session, event, 0);
}

static void step_thinking(struct session *session, struct json_object *step) {
    (void)step;
    (void)session_emit(session, session_event_new("agent.thinking"), 0);
}

static void step_drop_streams(struct session *session, struct json_object *step) {
    (void)step;
    session_drop_streams(session);
}

static void step_emit(struct session *session, struct json_object *step) {
    struct json_object *event = NULL;
    if (json_object_deep_copy(json_get_object(step, "emit"), &event, NULL) == 0) {
        (void)session_emit(session, event, 0);
    }
}

static void step_raw_sse(struct session *session, struct json_object *step) {
    struct json_object *bytes = json_get(step, "raw_sse");
    session_write_streams(session, json_object_get_string(bytes),
                          (size_t)json_object_get_string_len(bytes));
}

static struct environment *environment_of(struct session *session) {
    return environment_find(session->emulator, json_get_string(session->json, "environment_id"));
}

static void step_lapse_lease(struct session *session, struct json_object *step) {
    (void)step;
    struct environment *environment = environment_of(session);
    if (environment != NULL && session->item != NULL &&
        work_lapse(&environment->queue, session->item, clock_wall_ms())) {
        work_save(environment, session->item);
        work_deliver(environment);
        loop_timer_arm(session->emulator->tick, 0);
    }
}

static void step_stopping(struct session *session, struct json_object *step) {
    (void)step;
    struct environment *environment = environment_of(session);
    if (environment != NULL && session->item != NULL &&
        work_stop(&environment->queue, session->item, false, clock_wall_ms()) == WORK_OK) {
        work_save(environment, session->item);
    }
}

static void step_interrupt(struct session *session, struct json_object *step) {
    (void)step;
    (void)session_emit(session, session_event_new("user.interrupt"), 0);
}

static void step_fail_requests(struct session *session, struct json_object *step) {
    struct json_object *failure = NULL;
    struct json_object *wanted = json_get_object(step, "fail_requests");
    if (json_object_deep_copy(wanted, &failure, NULL) == 0) {
        json_set_int(failure, "count", json_get_int(failure, "count", 1));
        json_set(session->injected, json_get_string(wanted, "path"), failure);
    }
}

static void (*const simple_steps[])(struct session *session, struct json_object *step) = {
    [STEP_MESSAGE] = step_message,
    [STEP_THINKING] = step_thinking,
    [STEP_DROP_STREAMS] = step_drop_streams,
    [STEP_EMIT] = step_emit,
    [STEP_RAW_SSE] = step_raw_sse,
    [STEP_LAPSE_LEASE] = step_lapse_lease,
    [STEP_STOPPING] = step_stopping,
    [STEP_INTERRUPT] = step_interrupt,
    [STEP_FAIL_REQUESTS] = step_fail_requests,
    [STEP_END_TURN] = NULL,
};

static void terminate(struct session *session) {
    session->step++;
    session->phase = RUNNER_TERMINATED;
    session_set_status(session, "terminated");
    (void)session_emit(session, session_event_new("session.status_terminated"), 0);
    webhooks_send(session->emulator->webhooks, "session.status_terminated", session->id);
}

/* One step; true when the next may follow at once. */
static bool run_step(struct session *session) {
    if (is_at_end(session)) {
        end_turn(session, "end_turn");
        return false;
    }
    enum step_kind kind = script_step_kind(session->script, session->step);
    struct json_object *step = script_step(session->script, session->step);
    const char *reason = NULL;
    switch (kind) {
    case STEP_WAIT:
        session->step++;
        loop_timer_arm(session->timer, json_get_int(step, "wait_ms", 0));
        return false;
    case STEP_CALLS:
        step_calls(session, step);
        return session->phase == RUNNER_RUNS && !loop_timer_is_armed(session->timer);
    case STEP_TERMINATE:
        terminate(session);
        return false;
    case STEP_END_TURN:
        session->step++;
        reason = json_get_string(step, "stop_reason");
        end_turn(session, reason == NULL ? "end_turn" : reason);
        return false;
    default:
        simple_steps[kind](session, step);
        session->step++;
        return true;
    }
}

static void run(void *context) {
    struct session *session = context;
    while (session->phase == RUNNER_RUNS && run_step(session)) {
    }
    session_save(session);
    emulator_commit(session->emulator);
}

/* ---- events of the user ---- */

bool runner_is_result(const char *type, bool *is_custom) {
    *is_custom = strcmp(type, "user.custom_tool_result") == 0;
    return *is_custom || strcmp(type, "user.tool_result") == 0;
}

struct json_object *runner_find_call(struct session *session, struct json_object *event,
                                     bool is_custom) {
    const char *id = json_get_string(event, is_custom ? "custom_tool_use_id" : "tool_use_id");
    return id == NULL ? NULL : json_get_object(session->calls, id);
}

static const char *check_content(struct json_object *event) {
    struct json_object *content = json_get(event, "content");
    if (content != NULL && !json_object_is_type(content, json_type_array)) {
        return "content: must be an array";
    }
    size_t count = content == NULL ? 0 : json_object_array_length(content);
    for (size_t i = 0; i < count; i++) {
        struct json_object *block = json_object_array_get_idx(content, i);
        const char *type = json_get_string(block, "type");
        const char *text = json_get_string(block, "text");
        if (type == NULL) {
            return "content: a block needs a type";
        }
        if (strcmp(type, "text") == 0 && (text == NULL || *text == '\0')) {
            return "content: text must not be empty";
        }
    }
    return NULL;
}

static const char *check_confirmation(struct session *session, struct json_object *event) {
    struct json_object *call = runner_find_call(session, event, false);
    const char *result = json_get_string(event, "result");
    if (call == NULL) {
        return "tool_use_id: no such tool use";
    }
    if (result == NULL || (strcmp(result, "allow") != 0 && strcmp(result, "deny") != 0)) {
        return "result: must be allow or deny";
    }
    return strcmp(json_get_string(call, "permission"), "ask") == 0
               ? NULL
               : "tool_use_id: that tool use waits for no confirmation";
}

const char *runner_check_event(struct session *session, struct json_object *event) {
    static const char *const others[] = {"user.message", "user.interrupt", "user.define_outcome",
                                         "system.message"};
    const char *type = json_get_string(event, "type");
    bool is_custom = false;
    if (type == NULL) {
        return "type: Field required";
    }
    if (session->phase == RUNNER_TERMINATED) {
        return "the session is terminated";
    }
    if (runner_is_result(type, &is_custom)) {
        struct json_object *call = runner_find_call(session, event, is_custom);
        if (call == NULL || json_get_bool(call, "is_custom", false) != is_custom) {
            return "no such tool use";
        }
        return json_get_bool(call, "is_answered", false) ? "that tool use is already answered"
                                                         : check_content(event);
    }
    if (strcmp(type, "user.tool_confirmation") == 0) {
        return check_confirmation(session, event);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (strcmp(type, others[i]) == 0) {
            return check_content(event);
        }
    }
    return "type: not an event that may be sent";
}

static char *content_text(struct json_object *event) {
    struct json_object *content = json_get_array(event, "content");
    struct buffer text = BUFFER_EMPTY;
    for (size_t i = 0; content != NULL && i < json_object_array_length(content); i++) {
        const char *part = json_get_string(json_object_array_get_idx(content, i), "text");
        if (part != NULL) {
            buffer_append_string(&text, text.length == 0 ? "" : "\n");
            buffer_append_string(&text, part);
        }
    }
    return buffer_take_string(&text);
}

static struct json_object *scripted_call(struct session *session, struct json_object *record) {
    size_t step = (size_t)json_get_int(record, "step", 0);
    if (session->script == NULL || step >= script_step_count(session->script)) {
        return NULL;
    }
    struct json_object *calls = json_get_array(script_step(session->script, step), "calls");
    return calls == NULL
               ? NULL
               : json_object_array_get_idx(calls, (size_t)json_get_int(record, "call", 0));
}

static void take_result(struct session *session, struct json_object *event, bool is_custom) {
    struct json_object *record = runner_find_call(session, event, is_custom);
    if (record == NULL || json_get_bool(record, "is_answered", false)) {
        runner_on_rejected(session, event); /* twice within one request */
        return;
    }
    struct json_object *call = scripted_call(session, record);
    const char *permission = json_get_string(record, "permission");
    json_set_bool(record, "is_answered", true);
    json_set_int(record, "results", json_get_int(record, "results", 0) + 1);
    if (strcmp(permission, "allow") != 0) {
        add_failure(session, record,
                    strcmp(permission, "ask") == 0 ? "answered before it was confirmed"
                                                   : "answered although it was denied");
    } else if (json_get_string(call, "answered") != NULL) {
        add_failure(session, record, "answered although it never should be");
    }
    CLEANUP_FREE char *text = content_text(event);
    CLEANUP_FREE char *failure = script_expectation_failure(
        json_get_object(call, "expect"), json_get_bool(event, "is_error", false), text);
    if (failure != NULL) {
        add_failure(session, record, failure);
    }
    if (json_get_bool(record, "is_waited", false)) {
        json_set_bool(record, "is_waited", false);
        session->waits--;
        finish_calls(session);
    }
}

/* The user wants the turn to end: nothing is waited for any more. */
static void interrupt(struct session *session) {
    if (session->phase == RUNNER_WAITS_FOR_RESULTS) {
        json_object_object_foreach(session->calls, id, record) {
            (void)id;
            json_set_bool(record, "is_waited", false);
        }
        session->waits = 0;
        session->step++;
        end_turn(session, "end_turn");
    }
}

static void take_message(struct session *session) {
    switch (session->phase) {
    case RUNNER_WAITS_FOR_MESSAGE:
    case RUNNER_FINISHED:
        begin_turn(session);
        break;
    case RUNNER_RUNS:
    case RUNNER_WAITS_FOR_RESULTS:
        session->has_new_message = true;
        break;
    case RUNNER_TERMINATED:
        break;
    }
}

void runner_on_event(struct session *session, struct json_object *event) {
    const char *type = json_get_string(event, "type");
    bool is_custom = false;
    if (runner_is_result(type, &is_custom)) {
        take_result(session, event, is_custom);
    } else if (strcmp(type, "user.message") == 0) {
        take_message(session);
    } else if (strcmp(type, "user.interrupt") == 0) {
        interrupt(session);
    } else if (strcmp(type, "user.tool_confirmation") == 0) {
        confirm_call(session, runner_find_call(session, event, false),
                     json_get_string(event, "result"));
        finish_calls(session);
    }
}

/* ---- state ---- */

struct json_object *runner_save(const struct session *session) {
    struct json_object *saved = json_object_new_object();
    json_set_string(saved, "script", session->script_name);
    json_set_int(saved, "step", (int64_t)session->step);
    json_set_int(saved, "phase", session->phase);
    json_set_bool(saved, "has_new_message", session->has_new_message);
    json_set_int(saved, "waits", (int64_t)session->waits);
    json_set(saved, "calls", json_object_get(session->calls));
    json_set(saved, "failures", json_object_get(session->failures));
    json_set(saved, "injected", json_object_get(session->injected));
    json_set_int(saved, "posts_rejected", session->posts_rejected);
    return saved;
}

static void load_member(struct json_object **member, struct json_object *value) {
    if (value != NULL) {
        json_object_put(*member);
        *member = json_object_get(value);
    }
}

void runner_load(struct session *session, struct json_object *saved) {
    int64_t phase = json_get_int(saved, "phase", RUNNER_WAITS_FOR_MESSAGE);
    session->step = (size_t)json_get_int(saved, "step", 0);
    session->phase = phase < 0 || phase > RUNNER_TERMINATED ? RUNNER_WAITS_FOR_MESSAGE
                                                            : (enum runner_phase)phase;
    session->has_new_message = json_get_bool(saved, "has_new_message", false);
    session->waits = (size_t)json_get_int(saved, "waits", 0);
    session->posts_rejected = json_get_int(saved, "posts_rejected", 0);
    load_member(&session->calls, json_get_object(saved, "calls"));
    load_member(&session->failures, json_get_array(saved, "failures"));
    load_member(&session->injected, json_get_object(saved, "injected"));
    const char *script = json_get_string(saved, "script");
    if (script != NULL) {
        free(session->script_name);
        session->script_name = memory_string(script);
        session->script = script_set_find(session->emulator->scripts, script);
    }
    if (session->script == NULL) {
        log_warn("session %s: the script \"%s\" is gone: it ends here", session->id,
                 session->script_name);
    }
}

void runner_resume(struct session *session) {
    if (session->phase == RUNNER_RUNS) {
        loop_timer_arm(session->timer, 0);
    }
}
