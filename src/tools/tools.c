/* Results: every text that leaves a tool passes through here, valid UTF-8 and never empty. */
#include "tools/tools.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tools/utf8.h"

void tool_result_text(struct tool_result *result, bool is_error, const char *text, size_t length) {
    CLEANUP_BUFFER struct buffer clean = BUFFER_EMPTY;
    if (length == 0) {
        buffer_append_string(&clean, "(no output)");
    } else {
        utf8_append_lossy(&clean, text, length);
    }
    struct json_object *block = json_object_new_object();
    json_set_string(block, "type", "text");
    json_set_string_n(block, "text", clean.data, clean.length);
    json_object_put(result->content);
    result->content = json_object_new_array();
    (void)json_object_array_add(result->content, block);
    result->is_error = is_error;
}

void tool_result_error(struct tool_result *result, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = memory_format_v(format, arguments);
    va_end(arguments);
    tool_result_text(result, true, text, strlen(text));
    free(text);
}

void tool_result_free(struct tool_result *result) {
    json_object_put(result->content);
    result->content = NULL;
}
