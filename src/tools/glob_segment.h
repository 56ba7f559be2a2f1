/*
 * One segment of a glob (between slashes) as a PCRE2 pattern over UTF-16 units.
 *
 * Private to src/tools: glob_pattern.c only.
 */
#ifndef HOLT_TOOLS_GLOB_SEGMENT_H
#define HOLT_TOOLS_GLOB_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/*
 * Translates `count` units. `source` receives the pattern as raw UTF-16 units (native order),
 * `literal` the plain text that it is when *is_magic comes back false. *is_unicode: must be
 * compiled for code points, because a POSIX class stands in it. False: nests too deep or grows
 * too long.
 */
bool glob_segment_translate(const uint16_t *units, size_t count, struct buffer *source,
                            struct buffer *literal, bool *is_magic, bool *is_unicode);

#endif
