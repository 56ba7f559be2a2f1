/*
 * Fuzzes the book-keeping of a session's calls with events in any order, and a runner that acts in
 * between: no event starts a call twice, opens a closed one, or lets one run that nobody allowed.
 *
 * The input is a program: a letter an action, a digit after it its operand; see `act`.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "orchestrator/session_calls.h"

enum { CALLS_LIMIT = 64, ACTIONS_LIMIT = 2000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool owns(void *context, const char *name, bool is_custom) {
    (void)context;
    return !is_custom && strcmp(name, "bash") == 0;
}

/* What the calls were before an event. */
struct snapshot {
    size_t count;
    const struct session_call *calls[CALLS_LIMIT];
    enum call_state states[CALLS_LIMIT];
};

static void take(const struct session_calls *calls, struct snapshot *snapshot) {
    snapshot->count = 0;
    for (const struct session_call *call = session_calls_first(calls);
         call != NULL && snapshot->count < CALLS_LIMIT; call = call->next) {
        snapshot->calls[snapshot->count] = call;
        snapshot->states[snapshot->count++] = call->state;
    }
}

static void require(bool is_true) {
    if (!is_true) {
        abort();
    }
}

static bool says(struct json_object *event, const char *key, const char *word) {
    const char *text = json_get_string(event, key);
    return text != NULL && strcmp(text, word) == 0;
}

static void check_new(const struct session_call *call, struct json_object *event) {
    bool is_allowed = json_get(event, "evaluated_permission") == NULL ||
                      says(event, "evaluated_permission", "allow");
    require(call->state == CALL_CLOSED || call->state == CALL_HELD || call->state == CALL_READY);
    require(call->state == CALL_CLOSED ||
            (says(event, "type", "agent.tool_use") && says(event, "id", call->id) &&
             owns(NULL, call->name, call->is_custom)));
    require(call->state != CALL_READY || is_allowed);
    require(call->state != CALL_HELD || !says(event, "evaluated_permission", "deny"));
}

static void check_known(const struct session_call *call, enum call_state before,
                        struct json_object *event) {
    if (call->state == before) {
        return;
    }
    bool was_waiting = before == CALL_HELD || before == CALL_READY || before == CALL_REFUSED;
    require(was_waiting &&
            (call->state == CALL_CLOSED ||
             (before == CALL_HELD && call->state == CALL_READY &&
              says(event, "type", "user.tool_confirmation") && says(event, "result", "allow") &&
              says(event, "tool_use_id", call->id))));
}

static void check_all(const struct session_calls *calls) {
    size_t open = 0;
    for (const struct session_call *call = session_calls_first(calls); call != NULL;
         call = call->next) {
        open += call->state != CALL_CLOSED && call->state != CALL_REFUSED;
        require(session_calls_find(calls, call->id) == call);
        require(call->state != CALL_CLOSED || call->input == NULL);
    }
    require(open == session_calls_open(calls));
    require(!session_calls_is_idle(calls) || open == 0);
}

static void feed(struct session_calls *calls, struct json_object *event) {
    struct snapshot before;
    struct snapshot after;
    take(calls, &before);
    enum calls_outcome outcome = session_calls_event(calls, event);
    take(calls, &after);
    require(after.count >= before.count && after.count <= before.count + 1);
    for (size_t i = 0; i < after.count; i++) {
        require(i == before.count || after.calls[i] == before.calls[i]);
        require(outcome != CALLS_UNTOUCHED ||
                (i < before.count && after.states[i] == before.states[i]));
        if (i < before.count) {
            check_known(after.calls[i], before.states[i], event);
        } else {
            check_new(after.calls[i], event);
        }
    }
    if (says(event, "type", "session.thread_status_terminated")) {
        for (size_t i = 0; i < after.count; i++) {
            const struct session_call *call = after.calls[i];
            bool is_its_own =
                call->thread_id != NULL && says(event, "session_thread_id", call->thread_id);
            require(!is_its_own || (call->state != CALL_READY && call->state != CALL_HELD));
        }
    }
    check_all(calls);
}

/* What the runner does with every call of a state. */
static void move(struct session_calls *calls, enum call_state from, enum call_state to) {
    for (struct session_call *call = session_calls_first(calls); call != NULL; call = call->next) {
        if (call->state == from) {
            session_call_set_state(call, to);
        }
    }
    check_all(calls);
}

static struct json_object *event_of(const char *type) {
    struct json_object *event = json_object_new_object();
    json_set_string(event, "type", type);
    return event;
}

static void set_name(struct json_object *event, const char *key, const char *prefix, unsigned n) {
    CLEANUP_FREE char *name = memory_format("%s%u", prefix, n);
    json_set_string(event, key, name);
}

/* A call: who, which thread, and whether it may run. */
static void feed_use(struct session_calls *calls, unsigned operand, bool is_custom) {
    static const char *const permissions[] = {NULL, "allow", "ask", "deny", "perhaps"};
    CLEANUP_JSON struct json_object *event =
        event_of(is_custom ? "agent.custom_tool_use" : "agent.tool_use");
    const char *permission = permissions[operand % 5];
    set_name(event, "id", "call", operand % 7);
    json_set_string(event, "name", operand % 11 == 10 ? "teleport" : "bash");
    json_set(event, "input", json_object_new_object());
    if (operand % 3 != 0) {
        set_name(event, "session_thread_id", "thread", operand % 3);
    }
    if (permission != NULL) {
        json_set_string(event, "evaluated_permission", permission);
    }
    feed(calls, event);
}

static void feed_about(struct session_calls *calls, const char *type, const char *key,
                       unsigned number, const char *result) {
    CLEANUP_JSON struct json_object *event = event_of(type);
    if (key != NULL) {
        set_name(event, key, strcmp(key, "session_thread_id") == 0 ? "thread" : "call", number);
    }
    if (result != NULL) {
        json_set_string(event, "result", result);
    }
    feed(calls, event);
}

static void feed_idle(struct session_calls *calls, const char *reason) {
    CLEANUP_JSON struct json_object *event = event_of("session.status_idle");
    struct json_object *stop_reason = json_object_new_object();
    json_set_string(stop_reason, "type", reason);
    json_set(event, "stop_reason", stop_reason);
    feed(calls, event);
}

static void act(struct session_calls *calls, char letter, unsigned operand) {
    switch (letter) {
    case 'u':
        feed_use(calls, operand, false);
        break;
    case 'c':
        feed_use(calls, operand, true);
        break;
    case 'r':
        feed_about(calls, "user.tool_result", "tool_use_id", operand % 7, NULL);
        break;
    case 's':
        feed_about(calls, "user.custom_tool_result", "custom_tool_use_id", operand % 7, NULL);
        break;
    case 'a':
        feed_about(calls, "user.tool_confirmation", "tool_use_id", operand % 7, "allow");
        break;
    case 'd':
        feed_about(calls, "user.tool_confirmation", "tool_use_id", operand % 7, "no");
        break;
    case 't':
        feed_about(calls, "session.thread_status_terminated", "session_thread_id", operand % 3,
                   NULL);
        break;
    case 'i':
        feed_about(calls, "user.interrupt", NULL, 0, NULL);
        break;
    case 'm':
        feed_about(calls, "user.message", NULL, 0, NULL);
        break;
    case 'x':
        feed_about(calls, "session.status_terminated", NULL, 0, NULL);
        break;
    case 'e':
        feed_idle(calls, "end_turn");
        break;
    case 'q':
        feed_idle(calls, "requires_action");
        break;
    case 'R':
        move(calls, CALL_READY, CALL_RUNNING);
        break;
    case 'P':
        move(calls, CALL_RUNNING, CALL_POSTING);
        break;
    case 'C':
        move(calls, CALL_POSTING, CALL_CLOSED);
        break;
    case 'F':
        move(calls, CALL_POSTING, CALL_REFUSED);
        break;
    case 'A':
        move(calls, CALL_REFUSED, CALL_READY);
        break;
    default:
        break;
    }
}

/* From "{" to the end of its line: an event as it is. Returns where it ends. */
static size_t feed_raw(struct session_calls *calls, const char *text, size_t length) {
    const char *end = memchr(text, '\n', length);
    size_t line = end == NULL ? length : (size_t)(end - text);
    CLEANUP_JSON struct json_object *event = NULL;
    if (json_parse(text, line, &event, NULL) && json_object_is_type(event, json_type_object)) {
        feed(calls, event);
    }
    return line;
}

static size_t count(const struct session_calls *calls) {
    size_t found = 0;
    for (const struct session_call *call = session_calls_first(calls); call != NULL;
         call = call->next) {
        found++;
    }
    return found;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    struct session_calls *calls = session_calls_new(owns, NULL);
    size_t actions = 0;
    for (size_t i = 0; i < size && actions < ACTIONS_LIMIT && count(calls) < CALLS_LIMIT - 1; i++) {
        actions++;
        if (text[i] == '{') {
            i += feed_raw(calls, text + i, size - i);
        } else {
            act(calls, text[i], i + 1 < size ? data[i + 1] : 0);
        }
    }
    session_calls_free(calls);
    return 0;
}
