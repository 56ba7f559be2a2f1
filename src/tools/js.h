/*
 * JavaScript's conversions of JSON values, as far as the official worker's tools show them.
 *
 * Private to src/tools. The official tools take their input unvalidated, so a number for a string
 * is its text and not an error.
 */
#ifndef HOLT_TOOLS_JS_H
#define HOLT_TOOLS_JS_H

#include "base/buffer.h"
#include "base/json.h"

/* False for null, false, 0, NaN and "". */
bool js_is_truthy(struct json_object *value);
/* String(value): "null", "1.5", "a,b", "[object Object]". */
void js_append_string(struct buffer *out, struct json_object *value);
/* Number(value); NaN for what is no number. */
double js_number(struct json_object *value);

#endif
