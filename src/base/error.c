/* Errors as values: a chain of messages with a code and an errno. */
#include "base/error.h"

#include <assert.h>
#include <stdarg.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"

static struct error *error_new(enum error_code code, int errno_value, char *take_message) {
    struct error *error = memory_new(struct error);
    error->code = code;
    error->errno_value = errno_value;
    error->message = take_message;
    return error;
}

bool error_set(struct error **error, enum error_code code, const char *format, ...) {
    if (error == NULL) {
        return false;
    }
    assert(*error == NULL);
    va_list arguments;
    va_start(arguments, format);
    *error = error_new(code, 0, memory_format_v(format, arguments));
    va_end(arguments);
    return false;
}

bool error_set_errno(struct error **error, int errno_value, const char *format, ...) {
    if (error == NULL) {
        return false;
    }
    assert(*error == NULL);
    va_list arguments;
    va_start(arguments, format);
    *error = error_new(ERROR_SYSTEM, errno_value, memory_format_v(format, arguments));
    va_end(arguments);
    return false;
}

bool error_wrap(struct error **error, const char *format, ...) {
    if (error == NULL || *error == NULL) {
        return false;
    }
    va_list arguments;
    va_start(arguments, format);
    struct error *outer =
        error_new((*error)->code, (*error)->errno_value, memory_format_v(format, arguments));
    va_end(arguments);
    outer->cause = *error;
    *error = outer;
    return false;
}

char *error_text(const struct error *error) {
    struct buffer text = BUFFER_EMPTY;
    const struct error *last = NULL;
    for (; error != NULL; error = error->cause) {
        buffer_append_format(&text, "%s%s", last == NULL ? "" : ": ", error->message);
        last = error;
    }
    if (last != NULL && last->errno_value != 0) {
        buffer_append_format(&text, ": %s", strerror(last->errno_value));
    }
    return buffer_take_string(&text);
}

void error_free(struct error *take_error) {
    while (take_error != NULL) {
        struct error *cause = take_error->cause;
        free(take_error->message);
        free(take_error);
        take_error = cause;
    }
}
