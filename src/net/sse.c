/* Server-sent events: lines to fields, fields to events, whatever way the bytes are cut. */
#include "net/sse.h"

#include <string.h>

enum { LINE_OVERHEAD = 64 }; /* a line may be this much longer than the data it carries */

void sse_parser_init(struct sse_parser *parser, size_t event_limit) {
    *parser = (struct sse_parser){.event_limit = event_limit};
}

void sse_parser_free(struct sse_parser *parser) {
    buffer_free(&parser->line);
    buffer_free(&parser->event);
    buffer_free(&parser->data);
}

/* An empty line: the event is complete, unless it carries no data (then it is dropped). */
static bool dispatch(struct sse_parser *parser, sse_handler handler, void *context) {
    bool goes_on = true;
    if (parser->has_data) {
        const char *name = parser->event.length > 0 ? parser->event.data : "message";
        goes_on = handler(context, name, buffer_string(&parser->data), parser->data.length);
    }
    buffer_truncate(&parser->event, 0);
    buffer_truncate(&parser->data, 0);
    parser->has_data = false;
    return goes_on;
}

static bool take_field(struct sse_parser *parser, const char *line, size_t length,
                       struct error **error) {
    const char *colon = memchr(line, ':', length);
    size_t name_length = colon == NULL ? length : (size_t)(colon - line);
    const char *value = colon == NULL ? line + length : colon + 1;
    size_t value_length = length - (size_t)(value - line);
    if (value_length > 0 && *value == ' ') {
        value++;
        value_length--;
    }
    if (name_length == 5 && memcmp(line, "event", 5) == 0) {
        buffer_truncate(&parser->event, 0);
        buffer_append(&parser->event, value, value_length);
    } else if (name_length == 4 && memcmp(line, "data", 4) == 0) {
        if (parser->data.length + value_length + 1 > parser->event_limit) {
            return error_set(error, ERROR_LIMIT, "an event is over %zu bytes", parser->event_limit);
        }
        if (parser->has_data) {
            buffer_append_char(&parser->data, '\n');
        }
        buffer_append(&parser->data, value, value_length);
        parser->has_data = true;
    }
    return true; /* comments, id, retry and unknown fields change nothing here */
}

static bool take_line(struct sse_parser *parser, sse_handler handler, void *context,
                      struct error **error) {
    static const char byte_order_mark[] = "\xef\xbb\xbf";
    const char *line = buffer_string(&parser->line);
    size_t length = parser->line.length;
    if (!parser->is_past_start) {
        parser->is_past_start = true;
        if (length >= 3 && memcmp(line, byte_order_mark, 3) == 0) {
            line += 3;
            length -= 3;
        }
    }
    bool goes_on =
        length == 0 ? dispatch(parser, handler, context) : take_field(parser, line, length, error);
    buffer_truncate(&parser->line, 0);
    return goes_on;
}

bool sse_parser_feed(struct sse_parser *parser, const char *bytes, size_t length,
                     sse_handler handler, void *context, struct error **error) {
    for (size_t at = 0; at < length;) {
        if (parser->last_was_cr) {
            parser->last_was_cr = false;
            if (bytes[at] == '\n') {
                at++;
                continue;
            }
        }
        size_t run = 0;
        while (at + run < length && bytes[at + run] != '\n' && bytes[at + run] != '\r') {
            run++;
        }
        if (parser->line.length + run > parser->event_limit + LINE_OVERHEAD) {
            return error_set(error, ERROR_LIMIT, "a line is over %zu bytes", parser->event_limit);
        }
        buffer_append(&parser->line, bytes + at, run);
        at += run;
        if (at == length) {
            return true;
        }
        parser->last_was_cr = bytes[at] == '\r';
        at++;
        if (!take_line(parser, handler, context, error)) {
            return false;
        }
    }
    return true;
}
