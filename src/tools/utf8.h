/*
 * UTF-8 (base/utf8.h) as the official worker's strings see it: lossy decoding and lengths in UTF-16
 * code units.
 *
 * Private to src/tools. Output limits of the tools count UTF-16 units (an astral character is two),
 * because the official worker is JavaScript.
 */
#ifndef HOLT_TOOLS_UTF8_H
#define HOLT_TOOLS_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/utf8.h"

/* Appends the bytes, each invalid maximal subpart as U+FFFD. */
void utf8_append_lossy(struct buffer *out, const char *bytes, size_t length);
/* UTF-16 code units of the text; an invalid subpart counts 1, as its U+FFFD would. */
size_t utf8_units(const char *text, size_t length);
/*
 * Bytes of the longest prefix / the offset of the longest suffix with at most `units` UTF-16 units.
 * *splits (may be NULL) says that a pair would have been cut: one unit less is covered, and the
 * official text has half a pair there, which is posted as U+FFFD.
 */
size_t utf8_prefix(const char *text, size_t length, size_t units, bool *splits);
size_t utf8_suffix(const char *text, size_t length, size_t units, bool *splits);

#define UTF8_REPLACEMENT "\xef\xbf\xbd"

#endif
