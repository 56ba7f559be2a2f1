/*
 * A growable run of bytes.
 *
 * `data` is NULL while nothing was ever appended; otherwise a NUL stands after the last byte, so
 * that text can be read as a C string. Release with buffer_free, or take the bytes out with
 * buffer_take_string.
 */
#ifndef HOLT_BASE_BUFFER_H
#define HOLT_BASE_BUFFER_H

#include <stdarg.h>
#include <stddef.h>

#include "base/cleanup.h"

struct buffer {
    char *data;
    size_t length;
    size_t capacity;
};

#define BUFFER_EMPTY ((struct buffer){NULL, 0, 0})

/* Makes room for `more` bytes after the end and returns where they begin; length is unchanged. */
char *buffer_reserve(struct buffer *buffer, size_t more);
void buffer_append(struct buffer *buffer, const void *bytes, size_t length);
void buffer_append_string(struct buffer *buffer, const char *text);
void buffer_append_char(struct buffer *buffer, char byte);
void buffer_append_format(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends text percent-encoded but for the unreserved characters of RFC 3986: for parts of a URL.
 */
void buffer_append_percent_encoded(struct buffer *buffer, const char *text);
/* Removes the first `length` bytes (at most all of them). */
void buffer_consume(struct buffer *buffer, size_t length);
/* Cuts the contents to `length` bytes; a longer length changes nothing. */
void buffer_truncate(struct buffer *buffer, size_t length);
/* Contents as a C string that the buffer keeps; "" when empty. */
const char *buffer_string(const struct buffer *buffer);
/* Moves the contents out as a heap string, never NULL, and leaves the buffer empty. */
char *buffer_take_string(struct buffer *buffer);
void buffer_free(struct buffer *buffer);

#define CLEANUP_BUFFER CLEANUP(buffer_free)

#endif
