/* A growable run of bytes that always ends in a NUL. */
#include "base/buffer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { BUFFER_SMALLEST = 64 };

char *buffer_reserve(struct buffer *buffer, size_t more) {
    size_t needed = 0;
    if (__builtin_add_overflow(buffer->length, more, &needed) ||
        __builtin_add_overflow(needed, (size_t)1, &needed)) {
        abort();
    }
    if (needed > buffer->capacity) {
        size_t capacity = buffer->capacity < BUFFER_SMALLEST ? BUFFER_SMALLEST : buffer->capacity;
        while (capacity < needed) {
            if (__builtin_mul_overflow(capacity, (size_t)2, &capacity)) {
                abort();
            }
        }
        buffer->data = memory_resize(buffer->data, capacity, 1);
        buffer->capacity = capacity;
        buffer->data[buffer->length] = '\0';
    }
    return buffer->data + buffer->length;
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t length) {
    char *end = buffer_reserve(buffer, length);
    if (length > 0) {
        memcpy(end, bytes, length);
    }
    end[length] = '\0';
    buffer->length += length;
}

void buffer_append_string(struct buffer *buffer, const char *text) {
    buffer_append(buffer, text, strlen(text));
}

void buffer_append_char(struct buffer *buffer, char byte) {
    buffer_append(buffer, &byte, 1);
}

void buffer_append_format(struct buffer *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    CLEANUP_FREE char *text = memory_format_v(format, arguments);
    va_end(arguments);
    buffer_append_string(buffer, text);
}

void buffer_append_percent_encoded(struct buffer *buffer, const char *text) {
    for (const char *p = text; *p != '\0'; p++) {
        bool is_plain = (*p >= '0' && *p <= '9') || (*p >= 'a' && *p <= 'z') ||
                        (*p >= 'A' && *p <= 'Z') || strchr("-._~", *p) != NULL;
        if (is_plain) {
            buffer_append_char(buffer, *p);
        } else {
            buffer_append_format(buffer, "%%%02X", (unsigned)(unsigned char)*p);
        }
    }
}

void buffer_consume(struct buffer *buffer, size_t length) {
    if (length >= buffer->length) {
        buffer_truncate(buffer, 0);
        return;
    }
    memmove(buffer->data, buffer->data + length, buffer->length - length + 1);
    buffer->length -= length;
}

void buffer_truncate(struct buffer *buffer, size_t length) {
    if (length < buffer->length) {
        buffer->length = length;
        buffer->data[length] = '\0';
    }
}

const char *buffer_string(const struct buffer *buffer) {
    return buffer->data == NULL ? "" : buffer->data;
}

char *buffer_take_string(struct buffer *buffer) {
    char *text = buffer->data == NULL ? memory_string("") : buffer->data;
    *buffer = BUFFER_EMPTY;
    return text;
}

void buffer_free(struct buffer *buffer) {
    free(buffer->data);
    *buffer = BUFFER_EMPTY;
}
