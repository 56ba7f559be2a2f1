/*
 * The tools room: bash, read, write, edit, glob, grep, as the official worker answers them.
 *
 * Pure execution: no network, no knowledge of sessions. Linked into `hand`. The texts are those of
 * the official TypeScript worker 1.11.0; where holt differs on purpose, docs/tools.md says why.
 *
 * read, write, edit, glob and grep are synchronous functions that `hand` runs in a child process of
 * its own, with the agent's credentials: a crash or a runaway pattern ends one call, never hand.
 * bash keeps a shell for the session and is driven by hand's poll loop (bash.h, private to the
 * rooms tools/ and hand/).
 */
#ifndef HOLT_TOOLS_TOOLS_H
#define HOLT_TOOLS_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"

enum {
    TOOLS_DEFAULT_MAX_FILE_BYTES = 262144,
    TOOLS_OUTPUT_LIMIT_UNITS = 102400,
    /* No text file over this is loaded whatever max_file_bytes says: its JSON must fit a frame. */
    TOOLS_FILE_BYTES_CEILING = 16 * 1024 * 1024,
};

/* What a session's tools may touch. Borrowed by every call; strings are absolute paths. */
struct tool_context {
    const char *workdir;
    const char *const *allowed_roots; /* NULL-terminated; may be NULL */
    const char *const *read_only_roots;
    int64_t max_file_bytes; /* negative: no limit */
    /* Of bash, as an object of strings; NULL: that of the process, less ANTHROPIC_*. */
    struct json_object *environment;
    bool read_media; /* images and PDFs as blocks instead of mangled text */
};

/* The answer of a call: what goes into user.tool_result. */
struct tool_result {
    bool is_error;
    struct json_object *content; /* array of content blocks; owned */
};

typedef void (*tool_function)(const struct tool_context *context, struct json_object *input,
                              struct tool_result *result);

/* Sets a result of one text block. Invalid UTF-8 becomes U+FFFD (WHATWG), "" "(no output)". */
void tool_result_text(struct tool_result *result, bool is_error, const char *text, size_t length);
/* As tool_result_text with is_error true, formatted. */
void tool_result_error(struct tool_result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void tool_result_free(struct tool_result *result);

/* `input` is foreign: any JSON value or NULL. Each function fills *result and never fails. */
void tool_read(const struct tool_context *context, struct json_object *input,
               struct tool_result *result);
void tool_write(const struct tool_context *context, struct json_object *input,
                struct tool_result *result);
void tool_edit(const struct tool_context *context, struct json_object *input,
               struct tool_result *result);
void tool_glob(const struct tool_context *context, struct json_object *input,
               struct tool_result *result);
void tool_grep(const struct tool_context *context, struct json_object *input,
               struct tool_result *result);

#endif
