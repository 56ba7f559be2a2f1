/* Allocation that aborts instead of failing. */
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void __attribute__((noreturn)) out_of_memory(void) {
    (void)fputs("holt: out of memory\n", stderr);
    abort();
}

void *memory_zeroed(size_t count, size_t size) {
    void *pointer = calloc(count == 0 ? 1 : count, size == 0 ? 1 : size);
    if (pointer == NULL) {
        out_of_memory();
    }
    return pointer;
}

void *memory_resize(void *take_pointer, size_t count, size_t size) {
    size_t total = 0;
    if (__builtin_mul_overflow(count, size, &total)) {
        out_of_memory();
    }
    void *pointer = realloc(take_pointer, total == 0 ? 1 : total);
    if (pointer == NULL) {
        out_of_memory();
    }
    return pointer;
}

char *memory_string(const char *text) {
    return memory_string_n(text, strlen(text));
}

char *memory_string_n(const char *text, size_t length) {
    char *copy = memory_zeroed(length + 1, 1);
    if (length > 0) {
        memcpy(copy, text, length);
    }
    return copy;
}

char *memory_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = memory_format_v(format, arguments);
    va_end(arguments);
    return text;
}

char *memory_format_v(const char *format, va_list arguments) {
    char *text = NULL;
    if (vasprintf(&text, format, arguments) < 0 || text == NULL) {
        out_of_memory();
    }
    return text;
}

void memory_wipe(void *pointer, size_t size) {
    if (pointer != NULL) {
        explicit_bzero(pointer, size);
    }
}
