/*
 * Session events for a person: one line each, with the time since the start, in colour on a
 * terminal.
 *
 * Event text is foreign: control characters are shown escaped, so that neither an agent nor a tool
 * can drive the user's terminal. Long texts are cut and the cut is said.
 */
#ifndef HOLT_CMD_PRESENT_H
#define HOLT_CMD_PRESENT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/json.h"

struct presenter {
    FILE *out;
    bool has_colour;
    int64_t start_us; /* monotonic */
    size_t calls;     /* tool calls seen */
    size_t results;   /* tool results seen */
};

/* Colour when `out` is a terminal and NO_COLOR is not set (no-color.org). */
void presenter_init(struct presenter *presenter, FILE *out);
/* Prints what a person wants to know of an event; says nothing about the rest. */
void presenter_event(struct presenter *presenter, struct json_object *event);
/* A line of our own, in the same shape: a mark ("✓"), and a text. */
void presenter_note(struct presenter *presenter, const char *mark, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void presenter_failure(struct presenter *presenter, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
