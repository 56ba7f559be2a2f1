/*
 * UTF-8 text as UTF-16 code units, the alphabet of JavaScript's regular expressions.
 *
 * Private to src/tools.
 */
#ifndef HOLT_TOOLS_UTF16_H
#define HOLT_TOOLS_UTF16_H

#include <stddef.h>
#include <stdint.h>

/*
 * Decodes `length` bytes into `units`, which must have room for `length` units (no byte makes more
 * than one); returns how many were written. Invalid sequences become U+FFFD as utf8_decode says.
 */
size_t utf16_decode(const char *bytes, size_t length, uint16_t *units);

#endif
