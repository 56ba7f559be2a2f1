/* Session events for a person: one line each, in colour on a terminal. */
#include "cmd/present.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"

enum { PRESENT_TEXT_LIMIT = 600, PRESENT_LINES_LIMIT = 8 };

#define COLOUR_DIM    "\x1b[2m"
#define COLOUR_RED    "\x1b[31m"
#define COLOUR_GREEN  "\x1b[32m"
#define COLOUR_YELLOW "\x1b[33m"
#define COLOUR_BLUE   "\x1b[36m"
#define COLOUR_BOLD   "\x1b[1m"
#define COLOUR_RESET  "\x1b[0m"

void presenter_init(struct presenter *presenter, FILE *out) {
    const char *no_colour = getenv("NO_COLOR");
    *presenter = (struct presenter){
        .out = out,
        .has_colour = isatty(fileno(out)) != 0 && (no_colour == NULL || *no_colour == '\0'),
        .start_us = clock_monotonic_us(),
    };
}

static const char *colour(const struct presenter *presenter, const char *code) {
    return presenter->has_colour ? code : "";
}

/* A C1 control is C2 80..9F in UTF-8; some terminals obey it as they obey ESC. */
static bool is_c1_control(const unsigned char *at) {
    return at[0] == 0xc2 && at[1] >= 0x80 && at[1] <= 0x9f;
}

/*
 * Appends foreign text: control characters escaped, later lines indented by `indent`, cut at
 * PRESENT_TEXT_LIMIT bytes or PRESENT_LINES_LIMIT lines.
 */
static void append_foreign(struct buffer *line, const char *text, const char *indent) {
    size_t lines = 1;
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n') {
        length--;
    }
    for (size_t i = 0; i < length; i++) {
        const unsigned char *at = (const unsigned char *)text + i;
        bool is_character_start = (*at & 0xc0) != 0x80;
        if (is_character_start && i >= PRESENT_TEXT_LIMIT) {
            buffer_append_format(line, " … (%zu bytes more)", length - i);
            return;
        }
        if (*at == '\n') {
            if (++lines > PRESENT_LINES_LIMIT) {
                buffer_append_format(line, " … (%zu bytes more)", length - i);
                return;
            }
            buffer_append_char(line, '\n');
            buffer_append_string(line, indent);
        } else if (is_c1_control(at)) {
            buffer_append_format(line, "\\x%02x", (unsigned)at[1]);
            i++;
        } else if ((*at < 0x20 && *at != '\t') || *at == 0x7f) {
            buffer_append_format(line, "\\x%02x", (unsigned)*at);
        } else {
            buffer_append_char(line, (char)*at);
        }
    }
}

static void print_line(struct presenter *presenter, const char *colour_code, const char *mark,
                       const char *head, const char *foreign) {
    static const char indent[] = "             ";
    double seconds = (double)(clock_monotonic_us() - presenter->start_us) / 1e6;
    CLEANUP_BUFFER struct buffer line = BUFFER_EMPTY;
    buffer_append_format(&line, "%s%8.3fs%s %s%s %s%s", colour(presenter, COLOUR_DIM), seconds,
                         colour(presenter, COLOUR_RESET), colour(presenter, colour_code), mark,
                         head, colour(presenter, COLOUR_RESET));
    if (foreign != NULL && *foreign != '\0') {
        buffer_append_string(&line, *head == '\0' ? "" : " ");
        append_foreign(&line, foreign, indent);
    }
    buffer_append_char(&line, '\n');
    (void)fwrite(line.data, 1, line.length, presenter->out);
    (void)fflush(presenter->out);
}

void presenter_note(struct presenter *presenter, const char *mark, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    CLEANUP_FREE char *text = memory_format_v(format, arguments);
    va_end(arguments);
    print_line(presenter, COLOUR_BOLD, mark, "", text);
}

void presenter_failure(struct presenter *presenter, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    CLEANUP_FREE char *text = memory_format_v(format, arguments);
    va_end(arguments);
    print_line(presenter, COLOUR_RED, "✗", "failed:", text);
}

/* The text blocks of a message or result, joined; other blocks by their type. */
static char *blocks_text(struct json_object *blocks) {
    struct buffer text = BUFFER_EMPTY;
    size_t count = blocks == NULL ? 0 : json_object_array_length(blocks);
    for (size_t i = 0; i < count; i++) {
        struct json_object *block = json_object_array_get_idx(blocks, i);
        const char *type = json_get_string(block, "type");
        const char *block_text = json_get_string(block, "text");
        buffer_append_string(&text, text.length == 0 ? "" : "\n");
        if (block_text != NULL) {
            buffer_append_string(&text, block_text);
        } else {
            buffer_append_format(&text, "[%s]", type == NULL ? "block" : type);
        }
    }
    return buffer_take_string(&text);
}

static void present_status(struct presenter *presenter, struct json_object *event) {
    const char *type = json_get_string(event, "type");
    if (strcmp(type, "session.status_idle") != 0) {
        print_line(presenter, COLOUR_BLUE, "●", strrchr(type, '_') + 1, NULL);
        return;
    }
    const char *reason = json_get_string(json_get_object(event, "stop_reason"), "type");
    if (reason != NULL && strcmp(reason, "requires_action") == 0) {
        return; /* the calls were printed; this says only that they wait */
    }
    print_line(presenter, COLOUR_GREEN, "✓", "idle:", reason == NULL ? "unknown" : reason);
}

static void present_text(struct presenter *presenter, struct json_object *event) {
    const char *type = json_get_string(event, "type");
    CLEANUP_FREE char *text = blocks_text(json_get_array(event, "content"));
    bool is_user = strncmp(type, "user.", 5) == 0;
    print_line(presenter, is_user ? COLOUR_BOLD : COLOUR_GREEN, is_user ? "»" : "◆",
               is_user ? "user:" : "agent:", text);
}

static void present_thinking(struct presenter *presenter, struct json_object *event) {
    (void)event;
    print_line(presenter, COLOUR_DIM, "…", "thinking", NULL);
}

/* The member of a tool's input that tells a person most. */
static const char *telling_input(struct json_object *input) {
    static const char *const keys[] = {"command", "pattern", "file_path", "path"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *value = json_get_string(input, keys[i]);
        if (value != NULL) {
            return value;
        }
    }
    return input == NULL ? "" : json_text(input, NULL);
}

static void present_call(struct presenter *presenter, struct json_object *event) {
    const char *name = json_get_string(event, "name");
    presenter->calls++;
    CLEANUP_BUFFER struct buffer head = BUFFER_EMPTY;
    append_foreign(&head, name == NULL ? "?" : name, "");
    print_line(presenter, COLOUR_YELLOW, "→", buffer_string(&head),
               telling_input(json_get_object(event, "input")));
}

static void present_result(struct presenter *presenter, struct json_object *event) {
    bool is_error = json_get_bool(event, "is_error", false);
    CLEANUP_FREE char *text = blocks_text(json_get_array(event, "content"));
    presenter->results++;
    print_line(presenter, is_error ? COLOUR_RED : COLOUR_DIM, is_error ? "✗" : "←", "", text);
}

static void present_error(struct presenter *presenter, struct json_object *event) {
    const char *message = json_get_string(json_get_object(event, "error"), "message");
    print_line(presenter, COLOUR_RED, "✗", "session error:", message == NULL ? "?" : message);
}

void presenter_event(struct presenter *presenter, struct json_object *event) {
    static const struct {
        const char *type;
        void (*present)(struct presenter *presenter, struct json_object *event);
    } table[] = {
        {"session.status_running", present_status},
        {"session.status_idle", present_status},
        {"session.status_terminated", present_status},
        {"session.status_rescheduled", present_status},
        {"session.error", present_error},
        {"agent.message", present_text},
        {"user.message", present_text},
        {"agent.thinking", present_thinking},
        {"agent.tool_use", present_call},
        {"agent.custom_tool_use", present_call},
        {"agent.mcp_tool_use", present_call},
        {"user.tool_result", present_result},
        {"user.custom_tool_result", present_result},
    };
    const char *type = json_get_string(event, "type");
    for (size_t i = 0; type != NULL && i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].type, type) == 0) {
            table[i].present(presenter, event);
            return;
        }
    }
}
