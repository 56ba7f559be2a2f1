/* edit: literal replacement of bytes, so that what is not UTF-8 in a file survives. */
#include <errno.h>
#include <string.h>

#include "base/io.h"
#include "tools/file.h"
#include "tools/js.h"

static void read_strings(struct json_object *input, struct buffer *old_text,
                         struct buffer *new_text) {
    js_append_string(old_text, json_get(input, "old_string"));
    /* Absent: nothing, where the official worker inserts the word "undefined". */
    if (json_object_object_get_ex(input, "new_string", NULL)) {
        js_append_string(new_text, json_get(input, "new_string"));
    }
    buffer_append_string(new_text, "");
}

/* The file's bytes; false with *result set. */
static bool load(const struct tool_context *context, const char *given,
                 const struct tool_path *path, struct buffer *content, struct tool_result *result) {
    off_t size = 0;
    CLEANUP_CLOSE int fd = file_open_regular("edit", given, path, &size, result);
    if (fd < 0) {
        return false;
    }
    if (context->max_file_bytes >= 0 && size > context->max_file_bytes) {
        tool_result_error(result,
                          "edit: %s is %lld bytes, exceeds %lld-byte limit. The edit tool loads "
                          "the whole file and cannot modify a file this large.",
                          given, (long long)size, (long long)context->max_file_bytes);
        return false;
    }
    CLEANUP_ERROR struct error *error = NULL;
    if (!io_read_to_end(fd, content, TOOLS_FILE_BYTES_CEILING, &error)) {
        tool_result_error(result, "edit: %s: %s", given,
                          tool_errno_reason(error->errno_value == 0 ? EFBIG : error->errno_value));
        return false;
    }
    return true;
}

/* Replaces the first match, or all of them; returns how many there are, not overlapping. */
static size_t replace(const struct buffer *content, const struct buffer *old_text,
                      const struct buffer *new_text, bool all, struct buffer *out) {
    size_t count = 0;
    const char *at = buffer_string(content);
    const char *end = at + content->length;
    for (;;) {
        const char *match = memmem(at, (size_t)(end - at), old_text->data, old_text->length);
        if (match == NULL) {
            break;
        }
        count++;
        buffer_append(out, at, (size_t)(match - at));
        const struct buffer *with = all || count == 1 ? new_text : old_text;
        buffer_append(out, with->data, with->length);
        at = match + old_text->length;
    }
    buffer_append(out, at, (size_t)(end - at));
    return count;
}

void tool_edit(const struct tool_context *context, struct json_object *input,
               struct tool_result *result) {
    if (js_is_truthy(json_get(input, "file_path")) &&
        !js_is_truthy(json_get(input, "old_string"))) {
        tool_result_error(result, "edit: old_string is required");
        return;
    }
    CLEANUP_TOOL_PATH struct tool_path path;
    CLEANUP_BUFFER struct buffer content = BUFFER_EMPTY;
    const char *given = file_given_path(input);
    if (!file_resolve("edit", context, input, &path, result) ||
        !file_check_writable("edit", context, given, &path, result) ||
        !load(context, given, &path, &content, result)) {
        return;
    }
    CLEANUP_BUFFER struct buffer old_text = BUFFER_EMPTY;
    CLEANUP_BUFFER struct buffer new_text = BUFFER_EMPTY;
    read_strings(input, &old_text, &new_text);
    bool all = js_is_truthy(json_get(input, "replace_all"));
    CLEANUP_BUFFER struct buffer changed = BUFFER_EMPTY;
    size_t count =
        old_text.length == 0 ? 0 : replace(&content, &old_text, &new_text, all, &changed);
    if (count == 0) {
        tool_result_error(result, "edit: old_string not found in %s", given);
        return;
    }
    if (count > 1 && !all) {
        tool_result_error(result, "edit: old_string appears %zu times in %s (must be unique)",
                          count, given);
        return;
    }
    int errno_value = file_replace(&path, buffer_string(&changed), changed.length);
    if (errno_value != 0) {
        tool_result_error(result, "edit: write: %s: %s", given, tool_errno_reason(errno_value));
        return;
    }
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    buffer_append_format(&text, "edited %s (%zu replacement(s))", given, count);
    tool_result_text(result, false, text.data, text.length);
}
