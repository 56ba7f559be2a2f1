/* Base64 (RFC 4648): standard alphabet with padding, and the URL alphabet without. */
#ifndef HOLT_BASE_BASE64_H
#define HOLT_BASE_BASE64_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"

/* Appends the standard encoding, padded, of `length` bytes. */
void base64_encode(struct buffer *out, const void *bytes, size_t length);
/*
 * Appends the decoding of `text`. Accepts both alphabets, padded or not; white space, a stray
 * character, leftover bits that are not zero, or a length that cannot be base64 returns false and
 * leaves `out` as it was.
 */
bool base64_decode(struct buffer *out, const char *text, size_t length);

#endif
