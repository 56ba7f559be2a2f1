/* The tool calls of a session and the state of its turn: events in, decisions out. */
#include "orchestrator/session_calls.h"

#include <json-c/linkhash.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { CALLS_TABLE_SIZE = 64 };

struct session_calls {
    bool (*owns)(void *context, const char *name, bool is_custom);
    void *context;
    struct lh_table *by_id; /* borrows the calls and their ids */
    struct session_call *first;
    struct session_call **last_link;
    struct json_object *ended_threads; /* object: thread id -> true */
    bool is_turn_over;
};

struct session_calls *
session_calls_new(bool (*owns)(void *context, const char *name, bool is_custom), void *context) {
    struct session_calls *calls = memory_new(struct session_calls);
    calls->owns = owns;
    calls->context = context;
    calls->by_id = lh_kchar_table_new(CALLS_TABLE_SIZE, NULL);
    calls->last_link = &calls->first;
    calls->ended_threads = json_object_new_object();
    if (calls->by_id == NULL) {
        abort();
    }
    return calls;
}

void session_calls_free(struct session_calls *take_calls) {
    if (take_calls == NULL) {
        return;
    }
    lh_table_free(take_calls->by_id);
    json_object_put(take_calls->ended_threads);
    for (struct session_call *call = take_calls->first; call != NULL;) {
        struct session_call *next = call->next;
        json_object_put(call->input);
        free(call->id);
        free(call->name);
        free(call->thread_id);
        free(call);
        call = next;
    }
    free(take_calls);
}

struct session_call *session_calls_first(const struct session_calls *calls) {
    return calls->first;
}

struct session_call *session_calls_find(const struct session_calls *calls, const char *id) {
    void *found = NULL;
    return id != NULL && lh_table_lookup_ex(calls->by_id, id, &found) ? found : NULL;
}

void session_call_set_state(struct session_call *call, enum call_state state) {
    call->state = state;
    if (state == CALL_CLOSED) {
        json_object_put(STEAL_PTR(call->input));
    }
}

size_t session_calls_open(const struct session_calls *calls) {
    size_t open = 0;
    for (const struct session_call *call = calls->first; call != NULL; call = call->next) {
        open += call->state != CALL_CLOSED && call->state != CALL_REFUSED;
    }
    return open;
}

bool session_calls_is_idle(const struct session_calls *calls) {
    return calls->is_turn_over && session_calls_open(calls) == 0;
}

/* Adds a call unless its id is known: an answer may have come before it in a reordered stream. */
static struct session_call *add_call(struct session_calls *calls, const char *id) {
    struct session_call *call = session_calls_find(calls, id);
    if (call != NULL) {
        return NULL;
    }
    call = memory_new(struct session_call);
    call->id = memory_string(id);
    *calls->last_link = call;
    calls->last_link = &call->next;
    if (lh_table_insert(calls->by_id, call->id, call) != 0) {
        abort();
    }
    return call;
}

/* Only these words let a call run at once; an unknown word holds it (fail closed). */
static bool is_allowed(struct json_object *event) {
    struct json_object *permission = json_get(event, "evaluated_permission");
    const char *word = json_get_string(event, "evaluated_permission");
    return permission == NULL || (word != NULL && strcmp(word, "allow") == 0);
}

static bool is_denied(struct json_object *event) {
    const char *word = json_get_string(event, "evaluated_permission");
    return word != NULL && strcmp(word, "deny") == 0;
}

static enum calls_outcome on_tool_use(struct session_calls *calls, struct json_object *event) {
    const char *type = json_get_string(event, "type");
    const char *id = json_get_string(event, "id");
    const char *name = json_get_string(event, "name");
    const char *thread_id = json_get_string(event, "session_thread_id");
    if (id == NULL || name == NULL) {
        return CALLS_UNTOUCHED;
    }
    calls->is_turn_over = false;
    struct session_call *call = add_call(calls, id);
    if (call == NULL) {
        return CALLS_UNTOUCHED;
    }
    call->is_custom = strcmp(type, "agent.custom_tool_use") == 0;
    call->name = memory_string(name);
    call->thread_id = thread_id == NULL ? NULL : memory_string(thread_id);
    call->input = json_object_get(json_get(event, "input"));
    bool is_orphan =
        thread_id != NULL && json_object_object_get_ex(calls->ended_threads, thread_id, NULL);
    if (!calls->owns(calls->context, name, call->is_custom) || is_denied(event) || is_orphan) {
        session_call_set_state(call, CALL_CLOSED);
    } else {
        session_call_set_state(call, is_allowed(event) ? CALL_READY : CALL_HELD);
    }
    return CALLS_CHANGED;
}

static enum calls_outcome on_answer(struct session_calls *calls, struct json_object *event) {
    const char *id = json_get_string(event, "tool_use_id");
    if (id == NULL) {
        id = json_get_string(event, "custom_tool_use_id");
    }
    struct session_call *call = session_calls_find(calls, id);
    if (call == NULL) {
        if (id == NULL) {
            return CALLS_UNTOUCHED;
        }
        /* The answer before its call: remember that this id needs nothing. */
        session_call_set_state(add_call(calls, id), CALL_CLOSED);
        return CALLS_CHANGED;
    }
    /* One that runs or is being posted ends by itself; the control plane knows it is answered. */
    if (call->state == CALL_READY || call->state == CALL_HELD || call->state == CALL_REFUSED) {
        session_call_set_state(call, CALL_CLOSED);
    }
    return CALLS_CHANGED;
}

static enum calls_outcome on_confirmation(struct session_calls *calls, struct json_object *event) {
    struct session_call *call = session_calls_find(calls, json_get_string(event, "tool_use_id"));
    const char *result = json_get_string(event, "result");
    if (call == NULL || call->state != CALL_HELD) {
        return CALLS_UNTOUCHED;
    }
    bool is_allow = result != NULL && strcmp(result, "allow") == 0;
    session_call_set_state(call, is_allow ? CALL_READY : CALL_CLOSED);
    return CALLS_CHANGED;
}

static enum calls_outcome on_thread_end(struct session_calls *calls, struct json_object *event) {
    const char *thread_id = json_get_string(event, "session_thread_id");
    if (thread_id == NULL) {
        return CALLS_UNTOUCHED;
    }
    json_set_bool(calls->ended_threads, thread_id, true);
    for (struct session_call *call = calls->first; call != NULL; call = call->next) {
        if (call->thread_id == NULL || strcmp(call->thread_id, thread_id) != 0) {
            continue;
        }
        if (call->state == CALL_READY || call->state == CALL_HELD) {
            session_call_set_state(call, CALL_CLOSED);
        } else if (call->state == CALL_RUNNING) {
            call->is_interrupted = true;
            call->is_orphaned = true;
        }
    }
    return CALLS_CHANGED;
}

static enum calls_outcome on_interrupt(struct session_calls *calls, struct json_object *event) {
    (void)event;
    calls->is_turn_over = false;
    for (struct session_call *call = calls->first; call != NULL; call = call->next) {
        if (call->state == CALL_HELD) {
            session_call_set_state(call, CALL_CLOSED);
        } else {
            call->is_interrupted |= call->state == CALL_READY || call->state == CALL_RUNNING;
        }
    }
    return CALLS_CHANGED;
}

static enum calls_outcome on_idle(struct session_calls *calls, struct json_object *event) {
    const char *reason = json_get_string(json_get_object(event, "stop_reason"), "type");
    calls->is_turn_over = reason == NULL || strcmp(reason, "requires_action") != 0;
    return CALLS_CHANGED;
}

static enum calls_outcome on_end(struct session_calls *calls, struct json_object *event) {
    (void)calls;
    (void)event;
    return CALLS_ENDED;
}

enum calls_outcome session_calls_event(struct session_calls *calls, struct json_object *event) {
    static const struct {
        const char *type;
        enum calls_outcome (*handle)(struct session_calls *calls, struct json_object *event);
    } table[] = {
        {"agent.tool_use", on_tool_use},
        {"agent.custom_tool_use", on_tool_use},
        {"user.tool_result", on_answer},
        {"user.custom_tool_result", on_answer},
        {"user.tool_confirmation", on_confirmation},
        {"user.interrupt", on_interrupt},
        {"session.thread_status_terminated", on_thread_end},
        {"session.status_idle", on_idle},
        {"session.status_terminated", on_end},
        {"session.deleted", on_end},
    };
    const char *type = json_get_string(event, "type");
    for (size_t i = 0; type != NULL && i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(type, table[i].type) == 0) {
            return table[i].handle(calls, event);
        }
    }
    /* Any other event means that the session goes on. */
    calls->is_turn_over = false;
    return CALLS_CHANGED;
}

struct json_object *session_call_answer(const struct session_call *call, bool is_error,
                                        struct json_object *content) {
    struct json_object *answer = json_object_new_object();
    json_set_string(answer, "type",
                    call->is_custom ? "user.custom_tool_result" : "user.tool_result");
    json_set_string(answer, call->is_custom ? "custom_tool_use_id" : "tool_use_id", call->id);
    if (call->thread_id != NULL) {
        json_set_string(answer, "session_thread_id", call->thread_id);
    }
    json_set_bool(answer, "is_error", is_error);
    json_set(answer, "content", json_object_get(content));
    return answer;
}
