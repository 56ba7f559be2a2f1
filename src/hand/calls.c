/* A list in order of arrival and one rule for what may start: writers alone, readers together. */
#include "hand/calls.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "hand/job.h"
#include "tools/bash.h"
#include "tools/operations.h"

enum call_state { CALL_QUEUED, CALL_RUNNING, CALL_FINISHED };

/* When a call may start. */
enum turn {
    TURN_ALONE,    /* after all before it, before all after it */
    TURN_TOGETHER, /* as TURN_ALONE, but beside others of this kind */
    TURN_AT_ONCE,  /* it waits for nobody and nobody for it */
};

/* A tool; a NULL function is bash. */
struct tool {
    const char *name;
    tool_function function;
    enum turn turn;
};

static const struct tool tools[] = {
    {"bash", NULL, TURN_ALONE},
    {"read", tool_read, TURN_TOGETHER},
    {"write", tool_write, TURN_ALONE},
    {"edit", tool_edit, TURN_ALONE},
    {"glob", tool_glob, TURN_TOGETHER},
    {"grep", tool_grep, TURN_TOGETHER},
    /* The daemon's own, which no call of the agent can name. */
    {OPERATION_PREFIX "put", operation_put, TURN_AT_ONCE},
    {OPERATION_PREFIX "get", operation_get, TURN_AT_ONCE},
    {OPERATION_PREFIX "gather", operation_gather, TURN_AT_ONCE},
    {OPERATION_PREFIX "list", operation_list, TURN_AT_ONCE},
    {OPERATION_PREFIX "remove", operation_remove, TURN_AT_ONCE},
    {OPERATION_PREFIX "make", operation_make, TURN_AT_ONCE},
    {OPERATION_PREFIX "exec", operation_exec, TURN_AT_ONCE},
    {OPERATION_PREFIX "run", operation_exec, TURN_ALONE},
};

struct call {
    struct call *next;
    char *id;
    const struct tool *tool; /* NULL: a name nobody knows */
    struct json_object *input;
    size_t input_bytes;
    int64_t limit_ms;
    enum call_state state;
    int64_t started_us;
    int64_t deadline_ms;
    struct job job;
    struct tool_result result;
    size_t result_bytes;
    int64_t duration_us;
    bool is_sent;      /* on this connection */
    bool is_announced; /* of an earlier connection: sent only when asked for */
};

struct calls {
    struct agent_identity identity;
    struct bash *bash;
    struct call *first;
    size_t count;
    size_t input_bytes, kept_bytes;
    /* The context and what its pointers point into. */
    struct tool_context context;
    struct json_object *configuration;
    const char **allowed_roots, **read_only_roots;
};

struct calls *calls_new(const struct agent_identity *identity) {
    struct calls *calls = memory_new(struct calls);
    calls->identity = *identity;
    calls->bash = bash_new(identity);
    calls->context =
        (struct tool_context){.workdir = "/", .max_file_bytes = TOOLS_DEFAULT_MAX_FILE_BYTES};
    return calls;
}

static void free_call(struct call *take_call) {
    job_free(&take_call->job);
    tool_result_free(&take_call->result);
    json_object_put(take_call->input);
    free(take_call->id);
    free(take_call);
}

void calls_free(struct calls *take_calls) {
    while (take_calls->first != NULL) {
        struct call *call = take_calls->first;
        take_calls->first = call->next;
        job_kill(&call->job);
        free_call(call);
    }
    bash_free(take_calls->bash);
    json_object_put(take_calls->configuration);
    free(take_calls->allowed_roots);
    free(take_calls->read_only_roots);
    free(take_calls);
}

/* A NULL-terminated array of the strings of a JSON array; entries are borrowed from it. */
static bool take_roots(struct json_object *frame, const char *key, const char ***roots) {
    struct json_object *array = json_get(frame, key);
    size_t count = 0;
    if (array != NULL && !json_object_is_type(array, json_type_array)) {
        return false;
    }
    count = array == NULL ? 0 : json_object_array_length(array);
    *roots = memory_zeroed(count + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++) {
        struct json_object *root = json_object_array_get_idx(array, i);
        if (!json_object_is_type(root, json_type_string)) {
            return false;
        }
        (*roots)[i] = json_object_get_string(root);
    }
    return true;
}

bool calls_configure(struct calls *calls, struct json_object *frame, struct error **error) {
    const char *workdir = json_get_string(frame, "workdir");
    const char **allowed = NULL;
    const char **read_only = NULL;
    if (workdir == NULL || workdir[0] != '/' || !take_roots(frame, "allowed_roots", &allowed) ||
        !take_roots(frame, "read_only_roots", &read_only)) {
        free(allowed);
        free(read_only);
        return error_set(error, ERROR_PROTOCOL,
                         "configure needs an absolute workdir and lists of "
                         "roots");
    }
    json_object_put(calls->configuration);
    free(calls->allowed_roots);
    free(calls->read_only_roots);
    calls->configuration = json_object_get(frame);
    calls->allowed_roots = allowed;
    calls->read_only_roots = read_only;
    calls->context = (struct tool_context){
        .workdir = workdir,
        .allowed_roots = allowed,
        .read_only_roots = read_only,
        .max_file_bytes = json_get_int(frame, "max_file_bytes",
                                       json_object_object_get_ex(frame, "max_file_bytes", NULL)
                                           ? -1
                                           : TOOLS_DEFAULT_MAX_FILE_BYTES),
        .environment = json_get_object(frame, "env"),
        .read_media = json_get_bool(frame, "read_media", false),
    };
    bash_configure(calls->bash, workdir, json_get_object(frame, "env"));
    return true;
}

static struct call **find(struct calls *calls, const char *id) {
    struct call **link = &calls->first;
    while (*link != NULL && strcmp((*link)->id, id) != 0) {
        link = &(*link)->next;
    }
    return link;
}

static const struct tool *find_tool(const char *name) {
    for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++) {
        if (strcmp(tools[i].name, name) == 0) {
            return &tools[i];
        }
    }
    return NULL;
}

bool calls_add(struct calls *calls, struct json_object *frame, size_t frame_bytes,
               struct error **error) {
    const char *id = json_get_string(frame, "id");
    const char *name = json_get_string(frame, "name");
    if (id == NULL || id[0] == '\0' || strlen(id) > CALLS_ID_LIMIT || name == NULL) {
        return error_set(error, ERROR_PROTOCOL, "a call needs an id and a name");
    }
    struct call **link = find(calls, id);
    if (*link != NULL) {
        (*link)->is_sent = false;
        (*link)->is_announced = false;
        return true;
    }
    if (calls->count >= CALLS_LIMIT || calls->input_bytes + frame_bytes > CALLS_INPUT_BYTES_LIMIT) {
        return error_set(error, ERROR_LIMIT, "too many calls at once");
    }
    struct call *call = memory_new(struct call);
    call->id = memory_string(id);
    call->tool = find_tool(name);
    call->input = json_object_get(json_get(frame, "input"));
    call->input_bytes = frame_bytes;
    call->limit_ms = json_get_int(frame, "deadline_ms", 0);
    call->job.fd = -1;
    *link = call;
    calls->count++;
    calls->input_bytes += frame_bytes;
    return true;
}

/* A call's result is there: input is no longer needed, the result counts as kept. */
static void finish(struct calls *calls, struct call *call) {
    call->state = CALL_FINISHED;
    call->duration_us = call->started_us == 0 ? 0 : clock_monotonic_us() - call->started_us;
    json_object_put(call->input);
    call->input = NULL;
    calls->input_bytes -= call->input_bytes;
    call->input_bytes = 0;
    (void)json_text(call->result.content, &call->result_bytes);
    calls->kept_bytes += call->result_bytes;
    job_free(&call->job);
}

/* Ends a running call with the official text for it. */
static void stop(struct calls *calls, struct call *call) {
    if (call->tool->function == NULL) {
        bash_abort(calls->bash);
        (void)bash_take_result(calls->bash, &call->result);
    } else {
        job_kill(&call->job);
        tool_result_error(&call->result, "%s: aborted", call->tool->name);
    }
    finish(calls, call);
}

void calls_cancel(struct calls *calls, const char *id) {
    struct call *call = *find(calls, id);
    if (call == NULL || call->state == CALL_FINISHED) {
        return;
    }
    if (call->state == CALL_RUNNING) {
        stop(calls, call);
        return;
    }
    tool_result_error(&call->result, "the call was cancelled before it ran");
    finish(calls, call);
}

void calls_acknowledge(struct calls *calls, const char *id) {
    struct call **link = find(calls, id);
    struct call *call = *link;
    if (call == NULL || call->state != CALL_FINISHED) {
        return;
    }
    *link = call->next;
    calls->count--;
    calls->kept_bytes -= call->result_bytes;
    free_call(call);
}

void calls_forget_sent(struct calls *calls) {
    for (struct call *call = calls->first; call != NULL; call = call->next) {
        call->is_sent = false;
        call->is_announced = call->state == CALL_FINISHED;
    }
}

static struct json_object *ids(const struct calls *calls, bool finished) {
    struct json_object *array = json_object_new_array();
    for (const struct call *call = calls->first; call != NULL; call = call->next) {
        if ((call->state == CALL_FINISHED) == finished) {
            (void)json_object_array_add(array, json_object_new_string(call->id));
        }
    }
    return array;
}

struct json_object *calls_running(const struct calls *calls) {
    return ids(calls, false);
}

struct json_object *calls_finished(const struct calls *calls) {
    return ids(calls, true);
}

struct json_object *calls_next_result(struct calls *calls) {
    for (struct call *call = calls->first; call != NULL; call = call->next) {
        if (call->state != CALL_FINISHED || call->is_sent || call->is_announced) {
            continue;
        }
        call->is_sent = true;
        struct json_object *frame = json_object_new_object();
        json_set_string(frame, "type", "result");
        json_set_string(frame, "id", call->id);
        json_set_bool(frame, "is_error", call->result.is_error);
        json_set(frame, "content", json_object_get(call->result.content));
        json_set_int(frame, "duration_us", call->duration_us);
        return frame;
    }
    return NULL;
}

static void start(struct calls *calls, struct call *call) {
    call->state = CALL_RUNNING;
    call->started_us = clock_monotonic_us();
    call->deadline_ms = call->limit_ms > 0 ? clock_monotonic_ms() + call->limit_ms : INT64_MAX;
    if (call->tool == NULL) {
        tool_result_error(&call->result, "no such tool");
        finish(calls, call);
        return;
    }
    if (call->tool->function == NULL) {
        bash_begin(calls->bash, call->input);
        if (bash_take_result(calls->bash, &call->result)) {
            finish(calls, call);
        }
        return;
    }
    CLEANUP_ERROR struct error *error = NULL;
    if (!job_start(&call->job, call->tool->function, &calls->context, &calls->identity, call->input,
                   &error)) {
        CLEANUP_FREE char *text = error_text(error);
        tool_result_error(&call->result, "%s: %s", call->tool->name, text);
        finish(calls, call);
    }
}

static enum turn turn_of(const struct call *call) {
    return call->tool == NULL ? TURN_ALONE : call->tool->turn;
}

/*
 * Starts what may start: a reader when no writer is before it, a writer when nothing is, the
 * daemon's operations in any case.
 */
static void start_calls(struct calls *calls) {
    size_t before = 0;
    size_t operations = 0;
    bool is_held_up = false;
    for (struct call *call = calls->first; call != NULL; call = call->next) {
        enum turn turn = turn_of(call);
        size_t *busy = turn == TURN_AT_ONCE ? &operations : &before;
        bool is_next =
            turn == TURN_AT_ONCE || (!is_held_up && (turn == TURN_TOGETHER || before == 0));
        if (call->state == CALL_QUEUED && calls->kept_bytes < CALLS_KEPT_BYTES_LIMIT &&
            *busy < CALLS_PARALLEL_LIMIT && is_next) {
            start(calls, call);
        }
        if (call->state != CALL_FINISHED) {
            (*busy)++;
            is_held_up = is_held_up || turn == TURN_ALONE;
        }
    }
}

static void step_call(struct calls *calls, struct call *call) {
    if (call->tool->function == NULL) {
        bash_step(calls->bash);
        if (bash_take_result(calls->bash, &call->result)) {
            finish(calls, call);
            return;
        }
    } else if (job_step(&call->job)) {
        job_take_result(&call->job, call->tool->name, &call->result);
        finish(calls, call);
        return;
    }
    if (clock_monotonic_ms() >= call->deadline_ms) {
        stop(calls, call);
    }
}

void calls_step(struct calls *calls) {
    bool is_bash_stepped = false;
    for (struct call *call = calls->first; call != NULL; call = call->next) {
        if (call->state == CALL_RUNNING) {
            is_bash_stepped = is_bash_stepped || call->tool->function == NULL;
            step_call(calls, call);
        }
    }
    if (!is_bash_stepped) {
        bash_step(calls->bash);
    }
    start_calls(calls);
}

void calls_reaped(struct calls *calls, pid_t pid) {
    if (bash_reaped(calls->bash, pid)) {
        return;
    }
    for (struct call *call = calls->first; call != NULL; call = call->next) {
        if (call->job.pid == pid) {
            call->job.pid = 0; /* its number may be another's soon; the pipe says the rest */
        }
    }
}

size_t calls_poll(const struct calls *calls, struct pollfd fds[CALLS_POLL_LIMIT]) {
    size_t count = bash_poll(calls->bash, fds);
    for (const struct call *call = calls->first; call != NULL && count < CALLS_POLL_LIMIT;
         call = call->next) {
        if (call->state == CALL_RUNNING && call->job.fd >= 0) {
            fds[count++] = (struct pollfd){.fd = call->job.fd, .events = POLLIN};
        }
    }
    return count;
}

int64_t calls_wake_at_ms(const struct calls *calls) {
    int64_t wake_at_ms = bash_wake_at_ms(calls->bash);
    for (const struct call *call = calls->first; call != NULL; call = call->next) {
        if (call->state == CALL_RUNNING && call->deadline_ms != INT64_MAX &&
            (wake_at_ms < 0 || call->deadline_ms < wake_at_ms)) {
            wake_at_ms = call->deadline_ms;
        }
    }
    return wake_at_ms;
}
