/* UTF-8 by the WHATWG rule: shortest form only, no surrogates, nothing above U+10FFFF. */
#ifndef HOLT_BASE_UTF8_H
#define HOLT_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Decodes one character from `length` > 0 bytes by the WHATWG rule: returns how many bytes it takes
 * and sets *code. An invalid maximal subpart counts as one character, with *code = -1.
 */
size_t utf8_decode(const char *bytes, size_t length, int32_t *code);
/* Bytes before the first that is not valid UTF-8; `length` when all are. */
size_t utf8_valid_prefix(const char *bytes, size_t length);
/* Whether the bytes are valid UTF-8 throughout. */
bool utf8_is_valid(const char *bytes, size_t length);

#endif
