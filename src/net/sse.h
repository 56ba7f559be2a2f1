/*
 * Server-sent events, the reading side (WHATWG HTML, section 9.2 "Server-sent events").
 *
 * Bytes in, events out, whatever way the bytes are cut. Foreign input: a line or an event over its
 * limit fails the stream.
 */
#ifndef HOLT_NET_SSE_H
#define HOLT_NET_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/error.h"

struct sse_parser {
    size_t event_limit; /* bytes of data in one event */
    struct buffer line;
    struct buffer event;
    struct buffer data;
    bool has_data;
    bool last_was_cr;
    bool is_past_start;
};

/* A complete event. `event` is "message" when the stream names none. Return false to stop. */
typedef bool (*sse_handler)(void *context, const char *event, const char *data, size_t length);

void sse_parser_init(struct sse_parser *parser, size_t event_limit);
/* Feeds bytes; false with *error when a bound is broken or with no error when the handler stopped.
 */
bool sse_parser_feed(struct sse_parser *parser, const char *bytes, size_t length,
                     sse_handler handler, void *context, struct error **error);
void sse_parser_free(struct sse_parser *parser);

#endif
