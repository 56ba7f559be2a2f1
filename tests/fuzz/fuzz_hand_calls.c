/*
 * Fuzzes what hand does with frames of the daemon, short of running anything: each line is a frame,
 * dispatched by its type as hand does. No id is known twice, a result is given once, and the bounds
 * hold.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "hand/calls.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t length_take(struct json_object *take_array) {
    size_t length = json_object_array_length(take_array);
    json_object_put(take_array);
    return length;
}

static size_t known(const struct calls *calls) {
    return length_take(calls_running(calls)) + length_take(calls_finished(calls));
}

static void add(struct calls *calls, struct json_object *frame, size_t bytes) {
    CLEANUP_ERROR struct error *error = NULL;
    size_t before = known(calls);
    bool is_good = calls_add(calls, frame, bytes, &error);
    size_t after = known(calls);
    if (is_good != (error == NULL) || after > CALLS_LIMIT || after < before || after > before + 1 ||
        (!is_good && after != before)) {
        abort();
    }
    if (is_good && (!calls_add(calls, frame, bytes, NULL) || known(calls) != after)) {
        abort();
    }
}

static void give_results(struct calls *calls) {
    size_t limit = length_take(calls_finished(calls));
    for (size_t i = 0;; i++) {
        CLEANUP_JSON struct json_object *frame = calls_next_result(calls);
        if (frame == NULL) {
            return;
        }
        if (i >= limit || json_get_string(frame, "id") == NULL ||
            json_get_array(frame, "content") == NULL) {
            abort();
        }
    }
}

static void take_frame(struct calls *calls, struct json_object *frame, size_t bytes) {
    const char *type = json_get_string(frame, "type");
    const char *id = json_get_string(frame, "id");
    size_t before = known(calls);
    if (type == NULL) {
        return;
    }
    if (strcmp(type, "configure") == 0) {
        CLEANUP_ERROR struct error *error = NULL;
        if (calls_configure(calls, frame, &error) != (error == NULL)) {
            abort();
        }
    } else if (strcmp(type, "call") == 0) {
        add(calls, frame, bytes);
    } else if (strcmp(type, "cancel") == 0) {
        calls_cancel(calls, id == NULL ? "" : id);
        if (known(calls) != before) {
            abort();
        }
    } else if (strcmp(type, "ack") == 0) {
        calls_acknowledge(calls, id == NULL ? "" : id);
        if (known(calls) > before || known(calls) + 1 < before) {
            abort();
        }
    } else if (strcmp(type, "again") == 0) {
        calls_forget_sent(calls); /* what a new connection does */
    } else if (strcmp(type, "send") == 0) {
        give_results(calls);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct agent_identity identity = {0};
    const char *text = (const char *)data;
    struct calls *calls = calls_new(&identity);
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t line = end == NULL ? size : (size_t)(end - text);
        CLEANUP_JSON struct json_object *frame = NULL;
        if (json_parse(text, line, &frame, NULL) && json_object_is_type(frame, json_type_object)) {
            take_frame(calls, frame, line);
        }
        size_t eaten = end == NULL ? line : line + 1;
        text += eaten;
        size -= eaten;
    }
    give_results(calls);
    calls_free(calls);
    return 0;
}
