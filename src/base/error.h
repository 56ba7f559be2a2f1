/*
 * Errors as values.
 *
 * A fallible function takes a trailing `struct error **error` and returns false or NULL when it
 * fails, having set *error once. A caller that can say more wraps it; the outermost caller reports
 * it, once. `error` may be NULL when the caller does not care. Setting an error over an existing
 * one is a programming mistake and asserts.
 */
#ifndef HOLT_BASE_ERROR_H
#define HOLT_BASE_ERROR_H

#include <stdbool.h>

#include "base/cleanup.h"

enum error_code {
    ERROR_SYSTEM,      /* a system call failed; errno_value says why */
    ERROR_INPUT,       /* foreign or user input is wrong; exit code 2 when it came from argv */
    ERROR_LIMIT,       /* a bound of ours was reached */
    ERROR_NOT_FOUND,   /* the named thing does not exist */
    ERROR_DENIED,      /* credentials or permissions refuse */
    ERROR_CONFLICT,    /* somebody else holds it, or it has changed */
    ERROR_UNAVAILABLE, /* the peer or the host cannot do it now; a retry may succeed */
    ERROR_PROTOCOL,    /* the peer broke the protocol */
    ERROR_CANCELLED,   /* we gave it up */
    ERROR_TIMEOUT,     /* it took too long */
    ERROR_UNSUPPORTED, /* this host or build lacks it */
    ERROR_INTERNAL,    /* a defect of ours */
};

struct error {
    enum error_code code;
    int errno_value; /* 0 when no system call was involved */
    char *message;   /* one line, for a person */
    struct error *cause;
};

/* Sets *error to a new error. Always returns false, so that `return error_set(...)` reads well. */
bool error_set(struct error **error, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* As error_set with ERROR_SYSTEM and the given errno; its text is appended by error_text(). */
bool error_set_errno(struct error **error, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Puts a new message in front of *error, keeping its code and errno. Always returns false. */
bool error_wrap(struct error **error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The whole chain as one line, "outer: inner: No such file or directory"; the caller frees it. */
char *error_text(const struct error *error);
/* Frees the chain; NULL is fine. */
void error_free(struct error *take_error);

static inline void cleanup_error(struct error **error) {
    error_free(*error);
}
/* Declare as `CLEANUP_ERROR struct error *error = NULL`. */
#define CLEANUP_ERROR CLEANUP(cleanup_error)

#endif
