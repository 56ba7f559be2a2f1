/* What the emulator saw of a session: each call, its result, and results that came again. */
#include "emulator/internal.h"

#include <string.h>

/* The result of a call that was taken: the first in the history, or NULL. */
static struct json_object *taken_result(struct session *session, struct json_object *event,
                                        bool is_custom) {
    const char *key = is_custom ? "custom_tool_use_id" : "tool_use_id";
    const char *id = json_get_string(event, key);
    for (size_t i = 0; id != NULL && i < json_object_array_length(session->events); i++) {
        struct json_object *taken = json_object_array_get_idx(session->events, i);
        const char *taken_id = json_get_string(taken, key);
        const char *type = json_get_string(taken, "type");
        if (taken_id != NULL && strcmp(taken_id, id) == 0 &&
            strcmp(type, json_get_string(event, "type")) == 0) {
            return taken;
        }
    }
    return NULL;
}

static void count(struct json_object *record, const char *key) {
    json_set_int(record, key, json_get_int(record, key, 0) + 1);
}

void runner_on_rejected(struct session *session, struct json_object *event) {
    const char *type = json_get_string(event, "type");
    bool is_custom = false;
    session->posts_rejected++;
    if (type == NULL || !runner_is_result(type, &is_custom)) {
        return;
    }
    struct json_object *record = runner_find_call(session, event, is_custom);
    struct json_object *taken = taken_result(session, event, is_custom);
    if (record == NULL || taken == NULL) {
        return;
    }
    count(record, "repeats");
    if (!json_object_equal(json_get(taken, "content"), json_get(event, "content")) ||
        json_get_bool(taken, "is_error", false) != json_get_bool(event, "is_error", false)) {
        count(record, "contradictions");
    }
}

static struct json_object *results_of(const struct session *session) {
    struct json_object *results = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(session->events); i++) {
        struct json_object *event = json_object_array_get_idx(session->events, i);
        bool is_custom = false;
        if (!runner_is_result(json_get_string(event, "type"), &is_custom)) {
            continue;
        }
        const char *id = json_get_string(event, is_custom ? "custom_tool_use_id" : "tool_use_id");
        const char *name =
            id == NULL ? NULL : json_get_string(json_get_object(session->calls, id), "name");
        struct json_object *result = json_object_new_object();
        json_set_string(result, "tool_use_id", id == NULL ? "" : id);
        json_set_string(result, "name", name == NULL ? "" : name);
        json_set_bool(result, "is_error", json_get_bool(event, "is_error", false));
        json_set(result, "content", array_or_empty(event, "content"));
        (void)json_object_array_add(results, result);
    }
    return results;
}

/* Every call, answered or not: how often its result was taken, and how often it came again. */
static struct json_object *calls_of(const struct session *session) {
    struct json_object *calls = json_object_new_array();
    json_object_object_foreach(session->calls, id, record) {
        struct json_object *call = json_object_new_object();
        json_set_string(call, "tool_use_id", id);
        json_set_int(call, "step", json_get_int(record, "step", 0));
        json_set_int(call, "call", json_get_int(record, "call", 0));
        json_set_string(call, "name", json_get_string(record, "name"));
        json_set_int(call, "results", json_get_int(record, "results", 0));
        json_set_int(call, "repeats", json_get_int(record, "repeats", 0));
        json_set_int(call, "contradictions", json_get_int(record, "contradictions", 0));
        (void)json_object_array_add(calls, call);
    }
    return calls;
}

struct json_object *runner_report(const struct session *session) {
    struct json_object *report = json_object_new_object();
    json_set_string(report, "script", session->script_name);
    json_set_int(report, "step", (int64_t)session->step);
    json_set_bool(report, "is_finished",
                  session->phase == RUNNER_FINISHED || session->phase == RUNNER_TERMINATED);
    json_set(report, "failures", json_object_get(session->failures));
    json_set(report, "results", results_of(session));
    json_set(report, "calls", calls_of(session));
    json_set_int(report, "posts_rejected", session->posts_rejected);
    return report;
}
