/*
 * The front half of grep_regex: JavaScript's syntax checked and rewritten for PCRE2.
 *
 * Private to src/tools.
 */
#ifndef HOLT_TOOLS_GREP_JS_H
#define HOLT_TOOLS_GREP_JS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/*
 * Called with the text of each lookbehind, "(?<=...)" or "(?<!...)", as it closes. May replace the
 * text from `start` on in `out` (when PCRE2 cannot take it); false refuses the pattern.
 */
typedef bool (*grep_js_lookbehind)(void *context, struct buffer *out, size_t start);

/*
 * Translates `count` code units. `out` is ASCII. Returns NULL, or V8's reason for the refusal.
 */
const char *grep_js_translate(const uint16_t *units, size_t count, grep_js_lookbehind lookbehind,
                              void *context, struct buffer *out);

#endif
