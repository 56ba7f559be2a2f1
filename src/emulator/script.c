/* A table of step kinds with their checks makes the format; the rest walks it. */
#include "emulator/script.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/memory.h"

enum {
    SCRIPTS_LIMIT = 1000,
    STEPS_LIMIT = 10000,
    CALLS_LIMIT = 256,
    WAIT_LIMIT_MS = 3600 * 1000,
    MATCH_LIMIT = 1000000,
};

struct script {
    char *name;
    struct json_object *steps; /* array */
    enum step_kind *kinds;
};

struct script_set {
    size_t count;
    struct script *scripts;
};

/* Members of steps and calls: which exist, and of which type. */
struct member {
    const char *name;
    json_type type;
};

static bool check_members(struct json_object *object, const struct member *members, size_t count,
                          struct error **error) {
    json_object_object_foreach(object, key, value) {
        const struct member *found = NULL;
        for (size_t i = 0; i < count && found == NULL; i++) {
            found = strcmp(members[i].name, key) == 0 ? &members[i] : NULL;
        }
        if (found == NULL) {
            return error_set(error, ERROR_INPUT, "unknown member \"%s\"", key);
        }
        if (!json_object_is_type(value, found->type) &&
            !(found->type == json_type_object && value == NULL)) {
            return error_set(error, ERROR_INPUT, "\"%s\" must be of type %s", key,
                             json_type_to_name(found->type));
        }
    }
    return true;
}

static pcre2_code *compile_pattern(const char *pattern, struct error **error) {
    int code = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                         PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code, &offset, NULL);
    if (compiled == NULL) {
        char message[160] = "";
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof(message));
        (void)error_set(error, ERROR_INPUT, "regular expression: %s at offset %zu", message,
                        (size_t)offset);
    }
    return compiled;
}

static bool check_expect(struct json_object *expect, struct error **error) {
    static const struct member members[] = {{"is_error", json_type_boolean},
                                            {"text", json_type_string}};
    if (expect == NULL) {
        return true;
    }
    if (!check_members(expect, members, sizeof(members) / sizeof(members[0]), error)) {
        return error_wrap(error, "expect");
    }
    const char *pattern = json_get_string(expect, "text");
    if (pattern == NULL) {
        return true;
    }
    pcre2_code *compiled = compile_pattern(pattern, error);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

static bool is_one_of(const char *value, const char *const *choices) {
    while (*choices != NULL && strcmp(*choices, value) != 0) {
        choices++;
    }
    return *choices != NULL;
}

/* "answered" is a boolean or "never", so that the table cannot say its type. */
static bool check_answered(struct json_object *call, struct error **error) {
    struct json_object *answered = json_get(call, "answered");
    const char *text = json_get_string(call, "answered");
    if (answered == NULL || json_object_is_type(answered, json_type_boolean) ||
        (text != NULL && strcmp(text, "never") == 0)) {
        return true;
    }
    return error_set(error, ERROR_INPUT, "\"answered\" must be true, false or \"never\"");
}

static bool check_call(struct json_object *call, struct error **error) {
    static const char *const permissions[] = {"allow", "ask", "deny", NULL};
    static const struct member members[] = {
        {"name", json_type_string},       {"input", json_type_object},
        {"permission", json_type_string}, {"custom", json_type_boolean},
        {"thread", json_type_string},     {"expect", json_type_object},
    };
    if (!json_object_is_type(call, json_type_object)) {
        return error_set(error, ERROR_INPUT, "must be an object");
    }
    if (!check_answered(call, error)) {
        return false;
    }
    CLEANUP_JSON struct json_object *rest = NULL;
    if (json_object_deep_copy(call, &rest, NULL) != 0) {
        return error_set(error, ERROR_INTERNAL, "cannot copy");
    }
    json_object_object_del(rest, "answered");
    if (!check_members(rest, members, sizeof(members) / sizeof(members[0]), error)) {
        return false;
    }
    const char *name = json_get_string(call, "name");
    if (name == NULL || *name == '\0') {
        return error_set(error, ERROR_INPUT, "\"name\" is missing");
    }
    const char *permission = json_get_string(call, "permission");
    if (permission != NULL && !is_one_of(permission, permissions)) {
        return error_set(error, ERROR_INPUT, "\"permission\" must be allow, ask or deny");
    }
    return check_expect(json_get(call, "expect"), error);
}

static bool check_confirm(struct json_object *confirm, size_t call_count, struct error **error) {
    static const char *const results[] = {"allow", "deny", NULL};
    static const struct member members[] = {{"call", json_type_int}, {"result", json_type_string}};
    size_t count = confirm == NULL ? 0 : json_object_array_length(confirm);
    for (size_t i = 0; i < count; i++) {
        struct json_object *entry = json_object_array_get_idx(confirm, i);
        if (!json_object_is_type(entry, json_type_object)) {
            return error_set(error, ERROR_INPUT, "confirm %zu: must be an object", i);
        }
        if (!check_members(entry, members, sizeof(members) / sizeof(members[0]), error)) {
            return error_wrap(error, "confirm %zu", i);
        }
        int64_t call = json_get_int(entry, "call", -1);
        const char *result = json_get_string(entry, "result");
        if (call < 0 || (size_t)call >= call_count) {
            return error_set(error, ERROR_INPUT, "confirm %zu: \"call\" is no index of a call", i);
        }
        if (result == NULL || !is_one_of(result, results)) {
            return error_set(error, ERROR_INPUT, "confirm %zu: \"result\" must be allow or deny",
                             i);
        }
    }
    return true;
}

static bool check_calls(struct json_object *step, struct error **error) {
    struct json_object *calls = json_get_array(step, "calls");
    size_t count = json_object_array_length(calls);
    if (count == 0 || count > CALLS_LIMIT) {
        return error_set(error, ERROR_INPUT, "\"calls\" must have 1 to %d entries", CALLS_LIMIT);
    }
    for (size_t i = 0; i < count; i++) {
        if (!check_call(json_object_array_get_idx(calls, i), error)) {
            return error_wrap(error, "call %zu", i);
        }
    }
    return check_confirm(json_get_array(step, "confirm"), count, error);
}

static bool check_wait(struct json_object *step, struct error **error) {
    int64_t wait_ms = json_get_int(step, "wait_ms", -1);
    return (wait_ms >= 0 && wait_ms <= WAIT_LIMIT_MS) ||
           error_set(error, ERROR_INPUT, "\"wait_ms\" must be between 0 and %d", WAIT_LIMIT_MS);
}

static bool check_emit(struct json_object *step, struct error **error) {
    struct json_object *event = json_get_object(step, "emit");
    return json_get_string(event, "type") != NULL ||
           error_set(error, ERROR_INPUT, "\"emit\" must be an event with a \"type\"");
}

static bool check_fail_requests(struct json_object *step, struct error **error) {
    static const char *const paths[] = {"events",  "heartbeat", "memory", "poll",
                                        "session", "stream",    NULL};
    static const struct member members[] = {{"path", json_type_string},
                                            {"status", json_type_int},
                                            {"count", json_type_int},
                                            {"retry_after", json_type_int}};
    struct json_object *failure = json_get_object(step, "fail_requests");
    if (failure == NULL) {
        return error_set(error, ERROR_INPUT, "\"fail_requests\" must be an object");
    }
    if (!check_members(failure, members, sizeof(members) / sizeof(members[0]), error)) {
        return error_wrap(error, "fail_requests");
    }
    const char *path = json_get_string(failure, "path");
    if (path == NULL || !is_one_of(path, paths)) {
        return error_set(error, ERROR_INPUT,
                         "fail_requests: \"path\" must be events, heartbeat, poll, session or "
                         "stream");
    }
    int64_t status = json_get_int(failure, "status", 0);
    if (status < 400 || status > 599) {
        return error_set(error, ERROR_INPUT, "fail_requests: \"status\" must be 400 to 599");
    }
    return json_get_int(failure, "count", 1) >= 1 ||
           error_set(error, ERROR_INPUT, "fail_requests: \"count\" must be at least 1");
}

enum { STEP_MEMBERS_LIMIT = 5 };

static const struct step_type {
    const char *name;
    enum step_kind kind;
    json_type type;
    struct member others[STEP_MEMBERS_LIMIT];
    bool (*check)(struct json_object *step, struct error **error);
} step_types[] = {
    {"message", STEP_MESSAGE, json_type_string, {{0}}, NULL},
    {"thinking", STEP_THINKING, json_type_boolean, {{0}}, NULL},
    {"wait_ms", STEP_WAIT, json_type_int, {{0}}, check_wait},
    {"calls",
     STEP_CALLS,
     json_type_array,
     {{"confirm", json_type_array},
      {"hide_from_streams", json_type_boolean},
      {"duplicate", json_type_boolean},
      {"drop_streams", json_type_boolean}},
     check_calls},
    {"drop_streams", STEP_DROP_STREAMS, json_type_boolean, {{0}}, NULL},
    {"emit", STEP_EMIT, json_type_object, {{0}}, check_emit},
    {"raw_sse", STEP_RAW_SSE, json_type_string, {{0}}, NULL},
    {"lapse_lease", STEP_LAPSE_LEASE, json_type_boolean, {{0}}, NULL},
    {"stopping", STEP_STOPPING, json_type_boolean, {{0}}, NULL},
    {"interrupt", STEP_INTERRUPT, json_type_boolean, {{0}}, NULL},
    {"fail_requests", STEP_FAIL_REQUESTS, json_type_object, {{0}}, check_fail_requests},
    {"terminate", STEP_TERMINATE, json_type_boolean, {{0}}, NULL},
    {"end_turn", STEP_END_TURN, json_type_boolean, {{"stop_reason", json_type_string}}, NULL},
};

/* The kind whose member the step has; "calls" before the members that it may carry. */
static const struct step_type *find_type(struct json_object *step) {
    const struct step_type *found = NULL;
    for (size_t i = 0; i < sizeof(step_types) / sizeof(step_types[0]); i++) {
        if (json_object_object_get_ex(step, step_types[i].name, NULL)) {
            if (step_types[i].kind == STEP_CALLS) {
                return &step_types[i];
            }
            found = found == NULL ? &step_types[i] : found;
        }
    }
    return found;
}

static bool check_step(struct json_object *step, enum step_kind *kind, struct error **error) {
    if (!json_object_is_type(step, json_type_object)) {
        return error_set(error, ERROR_INPUT, "must be an object");
    }
    const struct step_type *type = find_type(step);
    if (type == NULL) {
        json_object_object_foreach(step, key, value) {
            (void)value;
            return error_set(error, ERROR_INPUT, "unknown kind \"%s\"", key);
        }
        return error_set(error, ERROR_INPUT, "is empty");
    }
    struct member members[STEP_MEMBERS_LIMIT + 1] = {{type->name, type->type}};
    size_t count = 1;
    while (count <= STEP_MEMBERS_LIMIT && type->others[count - 1].name != NULL) {
        members[count] = type->others[count - 1];
        count++;
    }
    if (!check_members(step, members, count, error)) {
        return false;
    }
    *kind = type->kind;
    return type->check == NULL || type->check(step, error);
}

static bool fill_script(struct script *script, const char *name, struct json_object *body,
                        struct error **error) {
    static const struct member members[] = {{"steps", json_type_array}};
    script->name = memory_string(name);
    struct json_object *steps = json_get_array(body, "steps");
    if (steps == NULL) {
        return error_set(error, ERROR_INPUT, "script \"%s\": \"steps\" must be an array", name);
    }
    if (!check_members(body, members, 1, error)) {
        return error_wrap(error, "script \"%s\"", name);
    }
    size_t count = json_object_array_length(steps);
    if (count > STEPS_LIMIT) {
        return error_set(error, ERROR_LIMIT, "script \"%s\": more than %d steps", name,
                         STEPS_LIMIT);
    }
    script->steps = json_object_get(steps);
    script->kinds = memory_zeroed(count + 1, sizeof(*script->kinds));
    for (size_t i = 0; i < count; i++) {
        if (!check_step(json_object_array_get_idx(steps, i), &script->kinds[i], error)) {
            return error_wrap(error, "script \"%s\", step %zu", name, i);
        }
    }
    return true;
}

static bool fill_set(struct script_set *set, struct json_object *root, struct error **error) {
    if (json_get(root, "steps") != NULL) {
        set->scripts = memory_new(struct script);
        set->count = 1;
        return fill_script(&set->scripts[0], "default", root, error);
    }
    static const struct member members[] = {{"scripts", json_type_object}};
    struct json_object *scripts = json_get_object(root, "scripts");
    if (scripts == NULL) {
        return error_set(error, ERROR_INPUT, "a script needs \"scripts\" or \"steps\"");
    }
    if (!check_members(root, members, 1, error)) {
        return false;
    }
    size_t count = (size_t)json_object_object_length(scripts);
    if (count > SCRIPTS_LIMIT) {
        return error_set(error, ERROR_LIMIT, "more than %d scripts", SCRIPTS_LIMIT);
    }
    set->scripts = memory_zeroed(count + 1, sizeof(struct script));
    json_object_object_foreach(scripts, name, body) {
        if (!fill_script(&set->scripts[set->count++], name, body, error)) {
            return false;
        }
    }
    return true;
}

struct script_set *script_set_parse(const char *text, size_t length, struct error **error) {
    CLEANUP_JSON struct json_object *root = NULL;
    struct error *parse_error = NULL;
    if (!json_parse(text, length, &root, &parse_error)) {
        CLEANUP_FREE char *reason = error_text(parse_error);
        error_free(parse_error);
        (void)error_set(error, ERROR_INPUT, "%s", reason);
        return NULL;
    }
    struct script_set *set = memory_new(struct script_set);
    if (!fill_set(set, root, error)) {
        script_set_free(set);
        return NULL;
    }
    return set;
}

void script_set_free(struct script_set *take_set) {
    if (take_set == NULL) {
        return;
    }
    for (size_t i = 0; i < take_set->count; i++) {
        free(take_set->scripts[i].name);
        free(take_set->scripts[i].kinds);
        json_object_put(take_set->scripts[i].steps);
    }
    free(take_set->scripts);
    free(take_set);
}

const struct script *script_set_find(const struct script_set *set, const char *name) {
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(set->scripts[i].name, name) == 0) {
            return &set->scripts[i];
        }
    }
    return NULL;
}

size_t script_step_count(const struct script *script) {
    return json_object_array_length(script->steps);
}

enum step_kind script_step_kind(const struct script *script, size_t index) {
    return script->kinds[index];
}

struct json_object *script_step(const struct script *script, size_t index) {
    return json_object_array_get_idx(script->steps, index);
}

static bool text_matches(const char *pattern, const char *text) {
    pcre2_code *compiled = compile_pattern(pattern, NULL);
    if (compiled == NULL) {
        return false;
    }
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    pcre2_match_context *context = pcre2_match_context_create(NULL);
    (void)pcre2_set_match_limit(context, MATCH_LIMIT);
    int result = pcre2_match(compiled, (PCRE2_SPTR)text, strlen(text), 0, 0, data, context);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    return result >= 0;
}

char *script_expectation_failure(struct json_object *expect, bool is_error, const char *text) {
    enum { SHOWN_LIMIT = 300 };
    struct json_object *expected_error = json_get(expect, "is_error");
    const char *pattern = json_get_string(expect, "text");
    if (expected_error != NULL && json_object_get_boolean(expected_error) != is_error) {
        return memory_format("expected is_error %s, got %.*s",
                             json_object_get_boolean(expected_error) ? "true" : "false",
                             SHOWN_LIMIT, text);
    }
    if (pattern != NULL && !text_matches(pattern, text)) {
        return memory_format("expected /%s/, got %.*s", pattern, SHOWN_LIMIT, text);
    }
    return NULL;
}

static const char builtin_text[] =
    "{\"steps\":["
    "{\"thinking\":true},"
    "{\"message\":\"I will write a greeting and check it.\"},"
    "{\"calls\":[{\"name\":\"write\",\"input\":{\"file_path\":\"hello.txt\",\"content\":"
    "\"Hello from holt\\n\"},\"expect\":{\"is_error\":false,\"text\":\"hello\\\\.txt\"}}]},"
    "{\"calls\":[{\"name\":\"bash\",\"input\":{\"command\":\"cat hello.txt\"},"
    "\"expect\":{\"is_error\":false,\"text\":\"^Hello from holt\"}}]},"
    "{\"calls\":[{\"name\":\"edit\",\"input\":{\"file_path\":\"hello.txt\",\"old_string\":"
    "\"Hello\",\"new_string\":\"Good morning\"},"
    "\"expect\":{\"is_error\":false,\"text\":\"hello\\\\.txt\"}}]},"
    "{\"calls\":[{\"name\":\"glob\",\"input\":{\"pattern\":\"*.txt\"},"
    "\"expect\":{\"is_error\":false,\"text\":\"hello\\\\.txt\"}},"
    "{\"name\":\"grep\",\"input\":{\"pattern\":\"Good morning\"},"
    "\"expect\":{\"is_error\":false,\"text\":\"Good morning from holt\"}}]},"
    "{\"calls\":[{\"name\":\"read\",\"input\":{\"file_path\":\"hello.txt\"},"
    "\"expect\":{\"is_error\":false,\"text\":\"Good morning from holt\"}}]},"
    "{\"message\":\"done\"},"
    "{\"end_turn\":true}]}";

struct script_set *script_set_builtin(void) {
    return script_set_parse(builtin_text, sizeof(builtin_text) - 1, NULL);
}
