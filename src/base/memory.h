/*
 * Allocation that cannot fail.
 *
 * Out of memory aborts the process: a daemon that cannot allocate is restarted and recovers from
 * its durable state, which is simpler and safer than unwinding every path. Every function here
 * returns memory that the caller frees with free().
 */
#ifndef HOLT_BASE_MEMORY_H
#define HOLT_BASE_MEMORY_H

#include <stdarg.h>
#include <stddef.h>

/* Zeroed array of `count` elements of `size` bytes; overflow of the product aborts. */
void *memory_zeroed(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
/* One zeroed object of the given type. */
#define memory_new(type) ((type *)memory_zeroed(1, sizeof(type)))
/* realloc() of an array; overflow of the product aborts. */
void *memory_resize(void *take_pointer, size_t count, size_t size);
/* Copies of a string, of a NUL-terminated prefix, and of raw bytes (a NUL is added after them). */
char *memory_string(const char *text) __attribute__((malloc, returns_nonnull));
char *memory_string_n(const char *text, size_t length) __attribute__((malloc, returns_nonnull));
/* Formatted string. */
char *memory_format(const char *format, ...)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));
char *memory_format_v(const char *format, va_list arguments)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 0)));
/* Overwrites `size` bytes in a way the compiler keeps: for keys and tokens before they are freed.
 */
void memory_wipe(void *pointer, size_t size);

#endif
