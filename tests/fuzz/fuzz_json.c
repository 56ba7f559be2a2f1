/* Fuzzes the JSON parser: what is accepted is valid UTF-8, within the depth, and says the same when
 * it is written and parsed again; what is refused comes with a reason. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct json_object *value) {
    size_t length = 0;
    CLEANUP_JSON struct json_object *again = NULL;
    CLEANUP_FREE char *first = memory_string(json_text(value, &length));
    if (!utf8_is_valid(first, length) || strlen(first) != length ||
        !json_parse(first, length, &again, NULL)) {
        abort();
    }
    size_t again_length = 0;
    const char *second = json_text(again, &again_length);
    if (length != again_length || memcmp(first, second, length) != 0) {
        abort();
    }
}

/* Typed access answers for any value and any key. */
static void look(struct json_object *value) {
    static const char *const keys[] = {"type", "id", "", "a"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *text = json_get_string(value, keys[i]);
        if ((json_get_object(value, keys[i]) != NULL) + (json_get_array(value, keys[i]) != NULL) +
                (text != NULL) >
            1) {
            abort();
        }
        (void)json_get_bool(value, keys[i], true);
        (void)json_get_int(value, keys[i], -1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* Exactly as long as the text: a read past its end is one past the heap block. */
    CLEANUP_FREE char *text = malloc(size == 0 ? 1 : size);
    CLEANUP_JSON struct json_object *value = NULL;
    CLEANUP_ERROR struct error *error = NULL;
    if (text == NULL) {
        return 0;
    }
    memcpy(text, data, size);
    if (json_parse(text, size, &value, &error) != (error == NULL) ||
        (error != NULL && value != NULL)) {
        abort();
    }
    if (error == NULL) {
        check(value);
        look(value);
    }
    return 0;
}
