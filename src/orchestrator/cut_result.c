/* The beginning of a large result and a line about the rest. */
#include "orchestrator/cut_result.h"

#include <string.h>

void cut_result_whole(struct json_object *content, struct buffer *out) {
    size_t count = json_object_array_length(content);
    for (size_t i = 0; i < count; i++) {
        struct json_object *block = json_object_array_get_idx(content, i);
        struct json_object *text = json_get(block, "text");
        const char *type = json_get_string(block, "type");
        if (i > 0) {
            buffer_append_char(out, '\n');
        }
        if (json_object_is_type(text, json_type_string)) {
            buffer_append(out, json_object_get_string(text),
                          (size_t)json_object_get_string_len(text));
        } else {
            size_t length = 0;
            (void)json_text(block, &length);
            buffer_append_format(out, "[a block of type %.32s, %zu bytes, was left out]",
                                 type == NULL ? "unknown" : type, length);
        }
    }
}

struct json_object *cut_result(const struct buffer *whole, const char *path) {
    size_t length = whole->length < CUT_RESULT_BYTES ? whole->length : (size_t)CUT_RESULT_BYTES;
    /* Back to where a character begins: its other bytes are 10xxxxxx. */
    while (length > 0 && length < whole->length &&
           ((unsigned char)whole->data[length] & 0xC0U) == 0x80) {
        length--;
    }
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    buffer_append(&text, buffer_string(whole), length);
    buffer_append_format(&text,
                         "\n[the first %zu of %zu bytes: the result was too large for the control "
                         "plane; ",
                         length, whole->length);
    if (path == NULL) {
        buffer_append_string(&text, "the rest is lost]");
    } else {
        buffer_append_format(&text, "all of it is in %s]", path);
    }
    struct json_object *block = json_object_new_object();
    json_set_string(block, "type", "text");
    json_set_string_n(block, "text", text.data, text.length);
    struct json_object *content = json_object_new_array();
    (void)json_object_array_add(content, block);
    return content;
}
