/* Fuzzes the emulator's script format: a set that was taken in can be walked and played without a
 * further check, one that was refused says why in one line. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "emulator/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_call(struct json_object *call) {
    const char *name = json_get_string(call, "name");
    if (name == NULL || *name == '\0') {
        abort();
    }
    struct json_object *expect = json_get(call, "expect");
    CLEANUP_FREE char *failure = script_expectation_failure(expect, false, "a text\nof two lines");
    if (expect == NULL && failure != NULL) {
        abort();
    }
}

static void check_step(const struct script *script, size_t index) {
    enum step_kind kind = script_step_kind(script, index);
    struct json_object *step = script_step(script, index);
    if (kind > STEP_END_TURN || !json_object_is_type(step, json_type_object)) {
        abort();
    }
    if (kind != STEP_CALLS) {
        return;
    }
    struct json_object *calls = json_get_array(step, "calls");
    struct json_object *confirm = json_get_array(step, "confirm");
    size_t count = json_object_array_length(calls);
    for (size_t i = 0; i < count; i++) {
        check_call(json_object_array_get_idx(calls, i));
    }
    for (size_t i = 0; confirm != NULL && i < json_object_array_length(confirm); i++) {
        int64_t call = json_get_int(json_object_array_get_idx(confirm, i), "call", -1);
        if (call < 0 || (size_t)call >= count) {
            abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const names[] = {"default", "other"};
    CLEANUP_ERROR struct error *error = NULL;
    struct script_set *set = script_set_parse((const char *)data, size, &error);
    if ((set == NULL) != (error != NULL)) {
        abort();
    }
    for (size_t i = 0; set != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        const struct script *script = script_set_find(set, names[i]);
        for (size_t j = 0; script != NULL && j < script_step_count(script); j++) {
            check_step(script, j);
        }
    }
    script_set_free(set);
    return 0;
}
