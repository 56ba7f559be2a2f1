/* read: a file's text verbatim, or a range of its lines in one pass, or an image or PDF block. */
#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/io.h"
#include "tools/file.h"
#include "tools/js.h"
#include "tools/utf8.h"

enum {
    CHUNK_SIZE = 64 * 1024,
    IMAGE_LIMIT = 5 * 1024 * 1024,
    DOCUMENT_LIMIT = 20 * 1024 * 1024,
};

/* Lines [begin, end) by index; end may be SIZE_MAX. `shown` is the range as the model wrote it. */
struct line_range {
    bool is_given;
    size_t begin, end;
    struct buffer first_shown, last_shown;
};

static void free_range(struct line_range *range) {
    buffer_free(&range->first_shown);
    buffer_free(&range->last_shown);
}

/* Array.prototype.slice's idea of an index: towards zero, NaN is 0. */
static size_t to_index(double number) {
    if (isnan(number) || number < 1) {
        return 0;
    }
    return number >= (double)INT64_MAX ? SIZE_MAX : (size_t)number;
}

/* The elements of view_range; a string counts as its characters, as JavaScript has it. */
static struct json_object *elements_of(struct json_object *value) {
    if (json_object_is_type(value, json_type_array)) {
        return json_object_get(value);
    }
    struct json_object *elements = json_object_new_array();
    if (json_object_is_type(value, json_type_string)) {
        const char *text = json_object_get_string(value);
        size_t length = (size_t)json_object_get_string_len(value);
        for (size_t at = 0; at < length;) {
            int32_t code = 0;
            size_t size = utf8_decode(text + at, length - at, &code);
            (void)json_object_array_add(elements, json_object_new_string_len(text + at, (int)size));
            at += size;
        }
    }
    return elements;
}

/* False when there is a range of any other length than two. */
static bool take_range(struct json_object *value, struct line_range *range) {
    *range = (struct line_range){.end = SIZE_MAX};
    CLEANUP_JSON struct json_object *elements = elements_of(value);
    size_t count = json_object_array_length(elements);
    if (count == 0) {
        return true;
    }
    if (count != 2) {
        return false;
    }
    struct json_object *first = json_object_array_get_idx(elements, 0);
    struct json_object *last = json_object_array_get_idx(elements, 1);
    range->is_given = true;
    range->begin = to_index(js_number(first) - 1);
    double end = js_number(last);
    if (end > 0) {
        range->end = to_index(end);
    }
    js_append_string(&range->first_shown, first);
    js_append_string(&range->last_shown, last);
    return true;
}

/*
 * Picks the lines of a range out of chunks as they come. The newline after a selected line is kept
 * only when another selected line follows, which is known when that line's place is reached.
 */
struct line_picker {
    const struct line_range *range;
    size_t line;
    struct buffer picked;
    size_t limit;
    bool is_over;
};

static void pick(struct line_picker *picker, const char *bytes, size_t length) {
    size_t at = 0;
    while (at < length && !picker->is_over && picker->line < picker->range->end) {
        const char *newline = memchr(bytes + at, '\n', length - at);
        size_t stop = newline == NULL ? length : (size_t)(newline - bytes);
        if (picker->line >= picker->range->begin) {
            buffer_append(&picker->picked, bytes + at, stop - at);
            if (newline != NULL && picker->line + 1 < picker->range->end) {
                buffer_append_char(&picker->picked, '\n');
            }
            picker->is_over = picker->picked.length > picker->limit;
        }
        if (newline != NULL) {
            picker->line++;
            stop++;
        }
        at = stop;
    }
}

static void refuse_range(const char *given, const struct line_range *range, int64_t limit,
                         struct tool_result *result) {
    if (range->end != SIZE_MAX && range->end == range->begin + 1) {
        tool_result_error(result,
                          "read: line %zu of %s alone exceeds %lld-byte limit. The read tool "
                          "cannot return part of a line, so view_range cannot narrow this further.",
                          range->begin + 1, given, (long long)limit);
        return;
    }
    tool_result_error(result,
                      "read: view_range [%s, %s] of %s exceeds %lld-byte limit. Narrow the "
                      "view_range to read a smaller portion.",
                      buffer_string(&range->first_shown), buffer_string(&range->last_shown), given,
                      (long long)limit);
}

static void read_lines(int fd, const char *given, const struct line_range *range, int64_t limit,
                       struct tool_result *result) {
    struct line_picker picker = {.range = range, .limit = (size_t)limit};
    CLEANUP_BUFFER struct buffer chunk = BUFFER_EMPTY;
    char *bytes = buffer_reserve(&chunk, CHUNK_SIZE);
    while (!picker.is_over && picker.line < range->end) {
        ssize_t length = read(fd, bytes, CHUNK_SIZE);
        if (length < 0 && errno == EINTR) {
            continue;
        }
        if (length < 0) {
            tool_result_error(result, "read: %s: %s", given, tool_errno_reason(errno));
            buffer_free(&picker.picked);
            return;
        }
        if (length == 0) {
            break;
        }
        pick(&picker, bytes, (size_t)length);
    }
    if (picker.is_over) {
        refuse_range(given, range, limit, result);
    } else {
        tool_result_text(result, false, buffer_string(&picker.picked), picker.picked.length);
    }
    buffer_free(&picker.picked);
}

/* Known by name and by content both: a renamed text file stays text. */
static const struct media {
    const char *suffix;
    const char *magic;
    size_t magic_length;
    const char *media_type;
    const char *block_type;
    off_t limit;
} medias[] = {
    {".png", "\x89PNG\r\n\x1a\n", 8, "image/png", "image", IMAGE_LIMIT},
    {".jpg", "\xff\xd8\xff", 3, "image/jpeg", "image", IMAGE_LIMIT},
    {".jpeg", "\xff\xd8\xff", 3, "image/jpeg", "image", IMAGE_LIMIT},
    {".gif", "GIF8", 4, "image/gif", "image", IMAGE_LIMIT},
    {".webp", "RIFF", 4, "image/webp", "image", IMAGE_LIMIT},
    {".pdf", "%PDF-", 5, "application/pdf", "document", DOCUMENT_LIMIT},
};

static const struct media *find_media(const char *target, int fd) {
    enum { WEBP_AT = 8, HEAD_SIZE = 12 };
    char head[HEAD_SIZE] = "";
    const char *suffix = strrchr(target, '.');
    if (suffix == NULL || pread(fd, head, sizeof(head), 0) < (ssize_t)sizeof(head)) {
        return NULL;
    }
    for (size_t i = 0; i < sizeof(medias) / sizeof(medias[0]); i++) {
        if (strcasecmp(suffix, medias[i].suffix) == 0 &&
            memcmp(head, medias[i].magic, medias[i].magic_length) == 0 &&
            (strcmp(medias[i].suffix, ".webp") != 0 || memcmp(head + WEBP_AT, "WEBP", 4) == 0)) {
            return &medias[i];
        }
    }
    return NULL;
}

static void read_media(int fd, off_t size, const struct media *media, const char *given,
                       const struct line_range *range, struct tool_result *result) {
    if (range->is_given) {
        tool_result_error(result, "read: view_range is not supported for image/PDF files");
        return;
    }
    if (size > media->limit) {
        tool_result_error(result, "read: %s is %lld bytes, exceeds %lld-byte limit for %s files",
                          given, (long long)size, (long long)media->limit, media->media_type);
        return;
    }
    CLEANUP_BUFFER struct buffer bytes = BUFFER_EMPTY;
    CLEANUP_ERROR struct error *error = NULL;
    if (!io_read_to_end(fd, &bytes, (size_t)media->limit, &error)) {
        tool_result_error(result, "read: %s: %s", given, tool_errno_reason(error->errno_value));
        return;
    }
    CLEANUP_BUFFER struct buffer encoded = BUFFER_EMPTY;
    base64_encode(&encoded, bytes.data, bytes.length);
    struct json_object *source = json_object_new_object();
    json_set_string(source, "type", "base64");
    json_set_string(source, "media_type", media->media_type);
    json_set_string_n(source, "data", buffer_string(&encoded), encoded.length);
    struct json_object *block = json_object_new_object();
    json_set_string(block, "type", media->block_type);
    json_set(block, "source", source);
    result->content = json_object_new_array();
    (void)json_object_array_add(result->content, block);
    result->is_error = false;
}

static void read_opened(const struct tool_context *context, const struct tool_path *path,
                        const char *given, const struct line_range *range,
                        struct tool_result *result) {
    off_t size = 0;
    CLEANUP_CLOSE int fd = file_open_regular("read", given, path, &size, result);
    if (fd < 0) {
        return;
    }
    const struct media *media = context->read_media ? find_media(path->target, fd) : NULL;
    if (media != NULL) {
        read_media(fd, size, media, given, range, result);
        return;
    }
    int64_t cap = context->max_file_bytes;
    if (cap < 0 || cap > TOOLS_FILE_BYTES_CEILING) {
        cap = TOOLS_FILE_BYTES_CEILING;
    }
    bool is_large = size > cap;
    if (is_large && !range->is_given) {
        tool_result_error(result,
                          "read: %s is %lld bytes, exceeds %lld-byte limit. Use the view_range "
                          "parameter to read specific line ranges, e.g. view_range: [1, 500].",
                          given, (long long)size, (long long)cap);
        return;
    }
    read_lines(fd, given, range, is_large ? cap : TOOLS_FILE_BYTES_CEILING, result);
}

void tool_read(const struct tool_context *context, struct json_object *input,
               struct tool_result *result) {
    CLEANUP_TOOL_PATH struct tool_path path;
    if (!file_resolve("read", context, input, &path, result)) {
        return;
    }
    CLEANUP(free_range)
    struct line_range range;
    if (!take_range(json_get(input, "view_range"), &range)) {
        tool_result_error(result, "read: view_range must be [start_line, end_line]");
        return;
    }
    read_opened(context, &path, file_given_path(input), &range, result);
}
