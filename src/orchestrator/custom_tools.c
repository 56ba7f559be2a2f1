/* A table of programs; a list of those that run on the host; one way to word what they said. */
#include "orchestrator/custom_tools.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "hand/operations.h"
#include "orchestrator/host_program.h"

enum {
    HAND_GRACE_MS = 10000, /* beyond the tool's own timeout, which hand's program keeps */
    VARIABLES = 3,
};

/* On the host: nothing of the daemon's own environment. */
static const char *const host_environment[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/",
    "LANG=C.UTF-8",
};
enum { HOST_VARIABLES = sizeof(host_environment) / sizeof(host_environment[0]) };

/* A call that is answered here, not by hand; kept until acknowledged. */
struct custom_call {
    struct custom_calls *calls;
    const struct custom_tool *tool;
    char *id;
    struct host_program *program; /* NULL: it has ended */
    struct loop_timer *timer;     /* tells an answer that is there already */
    struct json_object *content;  /* NULL: it has not ended */
    bool is_error;
    LIST_ENTRY(custom_call) link;
};

struct custom_calls {
    struct loop *loop;
    const struct custom_tools *tools;
    char *session_id;
    custom_call_ended ended;
    void *context;
    LIST_HEAD(, custom_call) list;
};

const struct custom_tool *custom_tools_find(const struct custom_tools *tools, const char *name) {
    for (size_t i = 0; tools != NULL && i < tools->count; i++) {
        if (strcmp(tools->tools[i].name, name) == 0) {
            return &tools->tools[i];
        }
    }
    return NULL;
}

/* The input. */

static bool is_of_type(struct json_object *value, const char *type) {
    static const struct {
        const char *type;
        enum json_type json;
    } names[] = {
        {"string", json_type_string},   {"integer", json_type_int},   {"number", json_type_int},
        {"number", json_type_double},   {"object", json_type_object}, {"array", json_type_array},
        {"boolean", json_type_boolean}, {"null", json_type_null},
    };
    bool is_known = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(names[i].type, type) == 0) {
            is_known = true;
            if (json_object_is_type(value, names[i].json)) {
                return true;
            }
        }
    }
    return !is_known; /* a type that is not known here is the tool's to check */
}

bool custom_tool_check_input(const struct custom_tool *tool, struct json_object *input,
                             struct error **error) {
    struct json_object *required = json_get_array(tool->schema, "required");
    size_t count = required == NULL ? 0 : json_object_array_length(required);
    for (size_t i = 0; i < count; i++) {
        const char *name = json_object_get_string(json_object_array_get_idx(required, i));
        if (name != NULL && !json_object_object_get_ex(input, name, NULL)) {
            return error_set(error, ERROR_INPUT, "%s: %s is required", tool->name, name);
        }
    }
    struct json_object *properties = json_get_object(tool->schema, "properties");
    if (properties == NULL || !json_object_is_type(input, json_type_object)) {
        return true;
    }
    json_object_object_foreach(input, key, value) {
        const char *type = json_get_string(json_get_object(properties, key), "type");
        if (type != NULL && !is_of_type(value, type)) {
            return error_set(error, ERROR_INPUT, "%s: %s must be of type %s", tool->name, key,
                             type);
        }
    }
    return true;
}

/* The answer. */

static struct json_object *text_block(const char *text, size_t length) {
    struct json_object *content = json_object_new_array();
    struct json_object *block = json_object_new_object();
    json_set_string(block, "type", "text");
    if (length == 0) {
        json_set_string(block, "text", "(no output)"); /* an empty text is refused */
    } else {
        json_set_string_n(block, "text", text, length);
    }
    (void)json_object_array_add(content, block);
    return content;
}

static size_t without_final_newlines(const char *text, size_t length) {
    while (length > 0 && text[length - 1] == '\n') {
        length--;
    }
    return length;
}

static void append_part(struct buffer *text, const char *part, size_t length, bool is_cut) {
    length = without_final_newlines(part, length);
    if (length > 0) {
        buffer_append_string(text, text->length == 0 ? "" : "\n");
        buffer_append_string(text, is_cut ? "[output truncated]\n" : "");
        buffer_append(text, part, length);
    }
}

/* Of a failure the error output counts, and what was printed before only without one. */
static struct json_object *word_result(const struct custom_tool *tool,
                                       const struct hand_exec_result *result, bool *is_error) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    *is_error = result->timed_out || result->signal != 0 || result->exit_code != 0;
    if (result->timed_out) {
        buffer_append_format(&text, "%s: timed out after %lld ms", tool->name,
                             (long long)tool->timeout_ms);
    } else if (result->signal != 0) {
        buffer_append_format(&text, "%s: ended by signal %d", tool->name, result->signal);
    }
    bool has_words = without_final_newlines(result->stderr_text, result->stderr_length) > 0;
    if (*is_error && has_words) {
        append_part(&text, result->stderr_text, result->stderr_length, result->is_stderr_cut);
    } else {
        append_part(&text, result->stdout_text, result->stdout_length, result->is_stdout_cut);
    }
    if (*is_error && text.length == 0) {
        buffer_append_format(&text, "%s: exit %d", tool->name, result->exit_code);
    }
    return text_block(buffer_string(&text), text.length);
}

struct json_object *custom_calls_answer(const struct custom_calls *calls, const char *name,
                                        bool *is_error, struct json_object *content) {
    const struct custom_tool *tool = custom_tools_find(calls->tools, name);
    CLEANUP_JSON struct json_object *keep = NULL;
    CLEANUP_ERROR struct error *error = NULL;
    struct hand_exec_result result;
    if (tool != NULL && hand_run_parse(*is_error, content, &result, &keep, &error)) {
        return word_result(tool, &result, is_error);
    }
    *is_error = true;
    CLEANUP_FREE char *why = error == NULL ? memory_string("no such tool") : error_text(error);
    CLEANUP_FREE char *text = memory_format("%s: %s", name, why);
    return text_block(text, strlen(text));
}

/* Calls. */

struct custom_calls *custom_calls_new(struct loop *loop, const struct custom_tools *tools,
                                      const char *session_id, custom_call_ended ended,
                                      void *context) {
    struct custom_calls *calls = memory_new(struct custom_calls);
    calls->loop = loop;
    calls->tools = tools;
    calls->session_id = memory_string(session_id);
    calls->ended = ended;
    calls->context = context;
    LIST_INIT(&calls->list);
    return calls;
}

/* The call is in no list any more. */
static void call_free(struct custom_call *call) {
    host_program_cancel(call->program);
    loop_timer_free(call->timer);
    free(call->id);
    json_object_put(call->content);
    free(call);
}

void custom_calls_free(struct custom_calls *take_calls) {
    if (take_calls == NULL) {
        return;
    }
    while (!LIST_EMPTY(&take_calls->list)) {
        struct custom_call *call = LIST_FIRST(&take_calls->list);
        LIST_REMOVE(call, link);
        call_free(call);
    }
    free(take_calls->session_id);
    free(take_calls);
}

bool custom_calls_owns(const struct custom_calls *calls, const char *name) {
    return custom_tools_find(calls->tools, name) != NULL;
}

bool custom_calls_is_on_host(const struct custom_calls *calls, const char *name) {
    const struct custom_tool *tool = custom_tools_find(calls->tools, name);
    return tool != NULL && tool->is_on_host;
}

/* Whoever hears it may acknowledge the call, or free everything: it is not touched after it. */
static void tell(struct custom_call *call) {
    struct custom_calls *calls = call->calls;
    CLEANUP_FREE char *id = memory_string(call->id);
    CLEANUP_JSON struct json_object *content = json_object_get(call->content);
    calls->ended(calls->context, id, call->is_error, content);
}

static void on_answer_timer(void *context) {
    tell(context);
}

static void answer(struct custom_call *call, bool is_error, struct json_object *take_content) {
    call->is_error = is_error;
    json_object_put(call->content);
    call->content = take_content;
}

static void answer_error(struct custom_call *call, const char *text) {
    answer(call, true, text_block(text, strlen(text)));
}

static void on_program_ended(void *context, const struct hand_exec_result *result,
                             const struct error *error) {
    struct custom_call *call = context;
    call->program = NULL;
    if (result != NULL) {
        bool is_error = false;
        struct json_object *content = word_result(call->tool, result, &is_error);
        answer(call, is_error, content);
    } else {
        CLEANUP_FREE char *why = error_text(error);
        CLEANUP_FREE char *text = memory_format("%s: %s", call->tool->name, why);
        answer_error(call, text);
    }
    tell(call);
}

static struct custom_call *find(struct custom_calls *calls, const char *id) {
    struct custom_call *call = NULL;
    LIST_FOREACH(call, &calls->list, link) {
        if (strcmp(call->id, id) == 0) {
            return call;
        }
    }
    return NULL;
}

void custom_calls_acknowledge(struct custom_calls *calls, const char *id) {
    struct custom_call *call = find(calls, id);
    if (call != NULL) {
        LIST_REMOVE(call, link);
        call_free(call);
    }
}

static struct custom_call *call_new(struct custom_calls *calls, const struct custom_tool *tool,
                                    const char *id) {
    struct custom_call *call = memory_new(struct custom_call);
    call->calls = calls;
    call->tool = tool;
    call->id = memory_string(id);
    call->timer = loop_timer_new(calls->loop, on_answer_timer, call);
    LIST_INSERT_HEAD(&calls->list, call, link);
    return call;
}

static const char *const variable_names[VARIABLES] = {"HOLT_TOOL_NAME", "HOLT_TOOL_USE_ID",
                                                      "HOLT_SESSION_ID"};

static void start_on_host(struct custom_calls *calls, const struct custom_tool *tool,
                          const char *id, const char *input) {
    const char *const values[VARIABLES] = {tool->name, id, calls->session_id};
    const char *environment[HOST_VARIABLES + VARIABLES + 1] = {NULL};
    char *own[VARIABLES];
    memcpy(environment, host_environment, sizeof(host_environment));
    for (size_t i = 0; i < VARIABLES; i++) {
        own[i] = memory_format("%s=%s", variable_names[i], values[i]);
        environment[HOST_VARIABLES + i] = own[i];
    }
    struct custom_call *call = call_new(calls, tool, id);
    call->program = host_program_start(calls->loop,
                                       &(struct host_program_options){
                                           .argv = tool->command,
                                           .environment = environment,
                                           .input = input,
                                           .timeout_ms = tool->timeout_ms,
                                       },
                                       on_program_ended, call);
    for (size_t i = 0; i < VARIABLES; i++) {
        free(own[i]);
    }
}

static void start_in_sandbox(struct custom_calls *calls, struct hand_client *hand,
                             const struct custom_tool *tool, const char *id, const char *input) {
    const char *const values[VARIABLES] = {tool->name, id, calls->session_id};
    CLEANUP_JSON struct json_object *environment = json_object_new_object();
    for (size_t i = 0; i < VARIABLES; i++) {
        json_set_string(environment, variable_names[i], values[i]);
    }
    CLEANUP_JSON struct json_object *run = hand_run_input(&(struct hand_exec_options){
        .argv = tool->command,
        .stdin_text = input,
        .environment = environment,
        .timeout_ms = tool->timeout_ms,
    });
    hand_client_run(hand, id, run, tool->timeout_ms + HAND_GRACE_MS);
}

void custom_calls_start(struct custom_calls *calls, struct hand_client *hand, const char *id,
                        const char *name, struct json_object *input) {
    const struct custom_tool *tool = custom_tools_find(calls->tools, name);
    struct custom_call *known = find(calls, id);
    if (known != NULL) {
        if (known->content != NULL) {
            loop_timer_arm(known->timer, 0);
        }
        return;
    }
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_JSON struct json_object *object =
        input == NULL ? json_object_new_object() : json_object_get(input);
    if (!custom_tool_check_input(tool, object, &error)) {
        struct custom_call *call = call_new(calls, tool, id);
        answer_error(call, error->message);
        loop_timer_arm(call->timer, 0);
    } else if (tool->is_on_host) {
        start_on_host(calls, tool, id, json_text(object, NULL));
    } else {
        start_in_sandbox(calls, hand, tool, id, json_text(object, NULL));
    }
}

void custom_calls_cancel(struct custom_calls *calls, struct hand_client *hand, const char *id) {
    struct custom_call *call = find(calls, id);
    if (call == NULL) {
        hand_client_cancel(hand, id);
    } else if (call->content == NULL) {
        host_program_cancel(STEAL_PTR(call->program));
        CLEANUP_FREE char *text = memory_format("%s: interrupted", call->tool->name);
        answer_error(call, text);
        loop_timer_arm(call->timer, 0);
    }
}
