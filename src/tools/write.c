/* write: the whole content, atomically, at the resolved path. */
#include "tools/file.h"
#include "tools/js.h"

#include "base/memory.h"

void tool_write(const struct tool_context *context, struct json_object *input,
                struct tool_result *result) {
    CLEANUP_TOOL_PATH struct tool_path path;
    if (!file_resolve("write", context, input, &path, result)) {
        return;
    }
    const char *given = file_given_path(input);
    if (!file_check_writable("write", context, given, &path, result)) {
        return;
    }
    struct json_object *content = json_get(input, "content");
    if (content != NULL && !json_object_is_type(content, json_type_string)) {
        tool_result_error(result, "write: %s: i/o error (ERR_INVALID_ARG_TYPE)", given);
        return;
    }
    const char *bytes = content == NULL ? "" : json_object_get_string(content);
    size_t length = content == NULL ? 0 : (size_t)json_object_get_string_len(content);
    int errno_value = file_replace(&path, bytes, length);
    if (errno_value != 0) {
        tool_result_error(result, "write: %s: %s", given, tool_errno_reason(errno_value));
        return;
    }
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    buffer_append_format(&text, "wrote %zu bytes to %s", length, given);
    tool_result_text(result, false, text.data, text.length);
}
