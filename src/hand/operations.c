/* A request and a check for each operation: front's end of tools/operations.h. */
#include "hand/operations.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

#include "base/base64.h"
#include "base/memory.h"

enum {
    DEADLINE_MS = 60000,
    EXEC_GRACE_MS = 10000, /* beyond a program's own timeout */
    PERMISSION_BITS = 07777,
};

/* What waits for an answer; one callback of these is set. */
struct pending {
    void (*take)(struct pending *pending, struct json_object *answer, const struct error *error);
    hand_put_done put_done;
    hand_get_done get_done;
    hand_gather_done gather_done;
    size_t gather_count;
    hand_change_done change_done;
    hand_list_done list_done;
    hand_exec_done exec_done;
    const char *changed_key;
    void *context;
};

/* Checks of foreign answers. */

static const struct {
    const char *name;
    int errno_value;
    enum error_code code;
} failures[] = {
    {"", 0, ERROR_INPUT},
    {"ENOENT", ENOENT, ERROR_NOT_FOUND},
    {"EACCES", EACCES, ERROR_DENIED},
    {"EPERM", EPERM, ERROR_DENIED},
    {"EROFS", EROFS, ERROR_DENIED},
    {"EFBIG", EFBIG, ERROR_LIMIT},
};

static bool set_failure(struct json_object *answer, struct error **error) {
    enum { SHOWN = 300 };
    const char *text = json_get_string(answer, "error");
    const char *name = json_get_string(answer, "errno");
    if (text == NULL || name == NULL) {
        return error_set(error, ERROR_PROTOCOL, "hand sent an answer that makes no sense");
    }
    enum error_code code = ERROR_SYSTEM;
    for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
        code = strcmp(name, failures[i].name) == 0 ? failures[i].code : code;
    }
    return error_set(error, code, "%.*s", SHOWN, text);
}

/* The object in the one text block; false with *error set, also when it says a failure. */
static bool take_answer(bool is_error, struct json_object *content, struct json_object **answer,
                        struct error **error) {
    struct json_object *block = json_object_array_get_idx(content, 0);
    struct json_object *text = json_get(block, "text");
    CLEANUP_JSON struct json_object *object = NULL;
    bool is_parsed = json_object_is_type(text, json_type_string) &&
                     json_parse(json_object_get_string(text),
                                (size_t)json_object_get_string_len(text), &object, NULL) &&
                     json_object_is_type(object, json_type_object);
    if (!is_parsed && is_error && json_get_string(block, "text") != NULL) {
        /* hand itself says so: the job died, was cancelled, or exceeded a bound. */
        return error_set(error, ERROR_UNAVAILABLE, "%.300s", json_get_string(block, "text"));
    }
    if (!is_parsed || is_error) {
        return set_failure(object, error);
    }
    *answer = STEAL_PTR(object);
    return true;
}

static bool nonsense(struct error **error) {
    return error_set(error, ERROR_PROTOCOL, "hand sent an answer that makes no sense");
}

static bool is_integer(struct json_object *answer, const char *key) {
    return json_object_is_type(json_get(answer, key), json_type_int);
}

static bool take_status(struct json_object *answer, struct hand_file_status *status,
                        struct error **error) {
    if (!is_integer(answer, "size") || !is_integer(answer, "mode") ||
        !is_integer(answer, "mtime_ns") || !is_integer(answer, "ctime_ns") ||
        !is_integer(answer, "inode") || json_get_int(answer, "size", -1) < 0) {
        return nonsense(error);
    }
    *status = (struct hand_file_status){
        .size = json_get_int(answer, "size", 0),
        .mode = (unsigned)json_get_int(answer, "mode", 0) & PERMISSION_BITS,
        .mtime_ns = json_get_int(answer, "mtime_ns", 0),
        .ctime_ns = json_get_int(answer, "ctime_ns", 0),
        .inode = json_object_get_uint64(json_get(answer, "inode")),
    };
    return true;
}

static bool is_plain_path(struct json_object *value) {
    const char *path = json_object_get_string(value);
    if (!json_object_is_type(value, json_type_string) ||
        strlen(path) != (size_t)json_object_get_string_len(value)) {
        return false;
    }
    for (const char *at = path;; at++) {
        size_t length = strcspn(at, "/");
        if (length == 0 || (length == 1 && at[0] == '.') ||
            (length == 2 && strncmp(at, "..", 2) == 0)) {
            return false;
        }
        at += length;
        if (*at == '\0') {
            return at - path < PATH_MAX;
        }
    }
}

/* Starting. */

static void on_done(void *context, bool is_error, struct json_object *content,
                    const struct error *error) {
    struct pending *pending = context;
    CLEANUP_ERROR struct error *failure = NULL;
    CLEANUP_JSON struct json_object *answer = NULL;
    if (error == NULL) {
        (void)take_answer(is_error, content, &answer, &failure);
        error = failure;
    }
    pending->take(pending, answer, error);
}

static struct hand_request *start(struct hand_client *hand, const char *name,
                                  struct json_object *take_input, int64_t deadline_ms,
                                  struct pending pending) {
    CLEANUP_JSON struct json_object *input = take_input;
    struct pending *kept = memory_new(struct pending);
    *kept = pending;
    return hand_client_request(hand, &(struct hand_request_options){.name = name,
                                                                    .input = input,
                                                                    .deadline_ms = deadline_ms,
                                                                    .done = on_done,
                                                                    .release = free,
                                                                    .context = kept});
}

static struct json_object *new_input(const char *root, const char *path) {
    struct json_object *input = json_object_new_object();
    json_set_string(input, "root", root);
    if (path != NULL) {
        json_set_string(input, "path", path);
    }
    return input;
}

/* put. */

static void take_put(struct pending *pending, struct json_object *answer,
                     const struct error *error) {
    CLEANUP_ERROR struct error *bad = NULL;
    struct hand_file_status status = {0};
    if (error == NULL && !take_status(answer, &status, &bad)) {
        error = bad;
    }
    pending->put_done(pending->context, error == NULL ? &status : NULL, error);
}

struct hand_request *hand_put(struct hand_client *hand, const char *root, const char *path,
                              unsigned mode, const void *bytes, size_t length, hand_put_done done,
                              void *context) {
    struct json_object *input = new_input(root, path);
    CLEANUP_BUFFER struct buffer data = BUFFER_EMPTY;
    /* More is refused by hand: then the size need not travel. */
    base64_encode(&data, bytes,
                  length > OPERATION_FILE_LIMIT ? (size_t)OPERATION_FILE_LIMIT + 1 : length);
    json_set_string_n(input, "data", buffer_string(&data), data.length);
    json_set_int(input, "mode", (int64_t)mode);
    return start(hand, OPERATION_PREFIX "put", input, DEADLINE_MS,
                 (struct pending){.take = take_put, .put_done = done, .context = context});
}

/* get. */

static bool take_file(struct json_object *answer, struct hand_file_status *status,
                      struct buffer *bytes, struct error **error) {
    struct json_object *data = json_get(answer, "data");
    return take_status(answer, status, error) &&
           ((json_object_is_type(data, json_type_string) &&
             base64_decode(bytes, json_object_get_string(data),
                           (size_t)json_object_get_string_len(data))) ||
            nonsense(error));
}

static void take_get(struct pending *pending, struct json_object *answer,
                     const struct error *error) {
    CLEANUP_ERROR struct error *bad = NULL;
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    struct hand_file_status status = {0};
    if (error == NULL && !take_file(answer, &status, &bytes, &bad)) {
        error = bad;
    }
    pending->get_done(pending->context, error == NULL ? &status : NULL,
                      error == NULL ? buffer_string(&bytes) : NULL, bytes.length, error);
}

struct hand_request *hand_get(struct hand_client *hand, const char *root, const char *path,
                              size_t limit, hand_get_done done, void *context) {
    struct json_object *input = new_input(root, path);
    json_set_int(input, "limit", limit > OPERATION_FILE_LIMIT ? OPERATION_FILE_LIMIT : (int)limit);
    return start(hand, OPERATION_PREFIX "get", input, DEADLINE_MS,
                 (struct pending){.take = take_get, .get_done = done, .context = context});
}

/* gather. */

struct gathering {
    struct hand_gathered_file *files;
    struct buffer *contents;
    struct error **errors;
    size_t count;
};

static void free_gathering(struct gathering *gathering) {
    for (size_t i = 0; i < gathering->count; i++) {
        buffer_free(&gathering->contents[i]);
        error_free(gathering->errors[i]);
    }
    free(gathering->files);
    free(gathering->contents);
    free(gathering->errors);
}

/* An entry is a file or the failure of one. */
static void gather_file(struct gathering *gathering, size_t index, struct json_object *entry) {
    struct hand_gathered_file *file = &gathering->files[index];
    struct error **error = &gathering->errors[index];
    if (json_get(entry, "error") != NULL) {
        (void)set_failure(entry, error);
    } else if (take_file(entry, &file->status, &gathering->contents[index], error)) {
        file->bytes = buffer_string(&gathering->contents[index]);
        file->length = gathering->contents[index].length;
    }
    file->error = *error;
}

static void take_gather(struct pending *pending, struct json_object *answer,
                        const struct error *error) {
    CLEANUP_ERROR struct error *bad = NULL;
    struct json_object *array = json_get_array(answer, "files");
    size_t count = array == NULL ? 0 : json_object_array_length(array);
    if (error == NULL && (count == 0 || count > pending->gather_count)) {
        (void)nonsense(&bad);
        error = bad;
    }
    if (error != NULL) {
        pending->gather_done(pending->context, NULL, 0, error);
        return;
    }
    CLEANUP(free_gathering)
    struct gathering gathering = {.files = memory_zeroed(count, sizeof(struct hand_gathered_file)),
                                  .contents = memory_zeroed(count, sizeof(struct buffer)),
                                  .errors = memory_zeroed(count, sizeof(struct error *)),
                                  .count = count};
    for (size_t i = 0; i < count; i++) {
        gather_file(&gathering, i, json_object_array_get_idx(array, i));
    }
    pending->gather_done(pending->context, gathering.files, count, NULL);
}

struct hand_request *hand_gather(struct hand_client *hand, const char *root,
                                 const char *const *paths, size_t count, size_t limit,
                                 hand_gather_done done, void *context) {
    struct json_object *input = new_input(root, NULL);
    struct json_object *array = json_object_new_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_object_array_add(array, json_object_new_string(paths[i]));
    }
    json_set(input, "paths", array);
    json_set_int(input, "limit", limit > OPERATION_FILE_LIMIT ? OPERATION_FILE_LIMIT : (int)limit);
    return start(
        hand, OPERATION_PREFIX "gather", input, DEADLINE_MS,
        (struct pending){
            .take = take_gather, .gather_done = done, .gather_count = count, .context = context});
}

/* remove and make. */

static void take_change(struct pending *pending, struct json_object *answer,
                        const struct error *error) {
    CLEANUP_ERROR struct error *bad = NULL;
    if (error == NULL &&
        !json_object_is_type(json_get(answer, pending->changed_key), json_type_boolean)) {
        (void)nonsense(&bad);
        error = bad;
    }
    bool changed = error == NULL && json_get_bool(answer, pending->changed_key, false);
    pending->change_done(pending->context, changed, error);
}

struct hand_request *hand_remove(struct hand_client *hand, const char *root, const char *path,
                                 bool recursive, hand_change_done done, void *context) {
    struct json_object *input = new_input(root, path);
    json_set_bool(input, "recursive", recursive);
    return start(hand, OPERATION_PREFIX "remove", input, DEADLINE_MS,
                 (struct pending){.take = take_change,
                                  .change_done = done,
                                  .changed_key = "removed",
                                  .context = context});
}

struct hand_request *hand_make(struct hand_client *hand, const char *root, const char *path,
                               unsigned mode, hand_change_done done, void *context) {
    struct json_object *input = new_input(root, path);
    json_set_int(input, "mode", (int64_t)mode);
    return start(
        hand, OPERATION_PREFIX "make", input, DEADLINE_MS,
        (struct pending){
            .take = take_change, .change_done = done, .changed_key = "made", .context = context});
}

/* list. */

static void take_list(struct pending *pending, struct json_object *answer,
                      const struct error *error) {
    CLEANUP_ERROR struct error *bad = NULL;
    CLEANUP_FREE struct hand_listed_file *files = NULL;
    struct json_object *array = json_get_array(answer, "files");
    size_t count = array == NULL ? 0 : json_object_array_length(array);
    int64_t dropped = json_get_int(answer, "dropped", -1);
    if (error == NULL && (array == NULL || count > OPERATION_LIST_LIMIT || dropped < 0)) {
        (void)nonsense(&bad);
    }
    files = memory_zeroed(count + 1, sizeof(*files));
    for (size_t i = 0; error == NULL && bad == NULL && i < count; i++) {
        struct json_object *file = json_object_array_get_idx(array, i);
        if (!is_plain_path(json_get(file, "path"))) {
            (void)nonsense(&bad);
        } else if (take_status(file, &files[i].status, &bad)) {
            files[i].path = json_get_string(file, "path");
        }
    }
    error = error == NULL ? bad : error;
    pending->list_done(pending->context, error == NULL ? files : NULL, error == NULL ? count : 0,
                       error == NULL ? (size_t)dropped : 0, error);
}

struct hand_request *hand_list(struct hand_client *hand, const char *root, size_t limit,
                               hand_list_done done, void *context) {
    struct json_object *input = new_input(root, NULL);
    json_set_int(input, "limit", limit > OPERATION_LIST_LIMIT ? OPERATION_LIST_LIMIT : (int)limit);
    return start(hand, OPERATION_PREFIX "list", input, DEADLINE_MS,
                 (struct pending){.take = take_list, .list_done = done, .context = context});
}

/* exec. */

static const char *text_of(struct json_object *answer, const char *key, size_t *length) {
    struct json_object *text = json_get(answer, key);
    if (!json_object_is_type(text, json_type_string)) {
        return NULL;
    }
    *length = (size_t)json_object_get_string_len(text);
    return json_object_get_string(text);
}

static bool parse_exec(struct json_object *answer, struct hand_exec_result *result,
                       struct error **error) {
    int64_t exit_code = json_get_int(answer, "exit_code", -1);
    int64_t signal = json_get_int(answer, "signal", 0);
    *result = (struct hand_exec_result){
        .exit_code = (int)exit_code,
        .signal = (int)signal,
        .timed_out = json_get_bool(answer, "timed_out", false),
        .is_stdout_cut = json_get_bool(answer, "stdout_cut", false),
        .is_stderr_cut = json_get_bool(answer, "stderr_cut", false),
    };
    result->stdout_text = text_of(answer, "stdout", &result->stdout_length);
    result->stderr_text = text_of(answer, "stderr", &result->stderr_length);
    bool is_exit = exit_code >= 0 && exit_code <= UINT8_MAX && signal == 0;
    bool is_signal = exit_code == -1 && signal > 0 && signal < NSIG;
    return (is_exit || is_signal) && result->stdout_text != NULL && result->stderr_text != NULL
               ? true
               : nonsense(error);
}

static void take_exec(struct pending *pending, struct json_object *answer,
                      const struct error *error) {
    CLEANUP_ERROR struct error *bad = NULL;
    struct hand_exec_result result = {0};
    if (error == NULL && !parse_exec(answer, &result, &bad)) {
        error = bad;
    }
    pending->exec_done(pending->context, error == NULL ? &result : NULL, error);
}

struct json_object *hand_run_input(const struct hand_exec_options *options) {
    struct json_object *input = json_object_new_object();
    struct json_object *argv = json_object_new_array();
    for (const char *const *argument = options->argv; *argument != NULL; argument++) {
        (void)json_object_array_add(argv, json_object_new_string(*argument));
    }
    json_set(input, "argv", argv);
    if (options->stdin_text != NULL) {
        json_set_string(input, "stdin", options->stdin_text);
    }
    if (options->workdir != NULL) {
        json_set_string(input, "workdir", options->workdir);
    }
    json_set(input, "env", json_object_get(options->environment));
    json_set_int(input, "timeout_ms", options->timeout_ms);
    return input;
}

bool hand_run_parse(bool is_error, struct json_object *content, struct hand_exec_result *result,
                    struct json_object **keep, struct error **error) {
    return take_answer(is_error, content, keep, error) && parse_exec(*keep, result, error);
}

struct hand_request *hand_exec(struct hand_client *hand, const struct hand_exec_options *options,
                               hand_exec_done done, void *context) {
    return start(hand, OPERATION_PREFIX "exec", hand_run_input(options),
                 options->timeout_ms + EXEC_GRACE_MS,
                 (struct pending){.take = take_exec, .exec_done = done, .context = context});
}
