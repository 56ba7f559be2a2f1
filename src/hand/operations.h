/*
 * The daemon's operations in a sandbox, typed: files below a root, and programs.
 *
 * Each starts an operation of tools/operations.h on a connected hand and answers once, from the
 * loop. What hand says is foreign input: it is checked here, and an answer that makes no sense is
 * ERROR_PROTOCOL. The other errors: ERROR_NOT_FOUND, ERROR_DENIED, ERROR_LIMIT (too large),
 * ERROR_INPUT, ERROR_SYSTEM with an errno, and those of the connection. Arguments are copied before
 * a function returns; what a callback gets is borrowed. A handle is for hand_request_cancel, until
 * the callback.
 */
#ifndef HOLT_HAND_OPERATIONS_H
#define HOLT_HAND_OPERATIONS_H

#include "hand/client.h"
#include "tools/operations.h"

struct hand_file_status {
    int64_t size;
    unsigned mode; /* permission bits */
    int64_t mtime_ns;
    int64_t ctime_ns;
    uint64_t inode;
};

/* Of put, and of get with its bytes. `error` NULL: it worked. */
typedef void (*hand_put_done)(void *context, const struct hand_file_status *status,
                              const struct error *error);
typedef void (*hand_get_done)(void *context, const struct hand_file_status *status,
                              const char *bytes, size_t length, const struct error *error);
/* Of remove and make. `changed`: false when there was nothing to remove, or the directory stood. */
typedef void (*hand_change_done)(void *context, bool changed, const struct error *error);

/* Writes a file atomically with its parents (0700); at most OPERATION_FILE_LIMIT bytes. */
struct hand_request *hand_put(struct hand_client *hand, const char *root, const char *path,
                              unsigned mode, const void *bytes, size_t length, hand_put_done done,
                              void *context);
/* Reads a regular file of at most `limit` bytes (at most OPERATION_FILE_LIMIT). */
struct hand_request *hand_get(struct hand_client *hand, const char *root, const char *path,
                              size_t limit, hand_get_done done, void *context);

/* A file of a gathering: `error`, or its status and bytes, which end with a NUL besides. */
struct hand_gathered_file {
    struct hand_file_status status;
    const char *bytes;
    size_t length;
    const struct error *error;
};
/* The first `count` of the paths, in their order: all, or fewer (not none) when they are large. */
typedef void (*hand_gather_done)(void *context, const struct hand_gathered_file *files,
                                 size_t count, const struct error *error);
/* As hand_get for several small files at once (1 to OPERATION_LIST_LIMIT): far fewer processes. */
struct hand_request *hand_gather(struct hand_client *hand, const char *root,
                                 const char *const *paths, size_t count, size_t limit,
                                 hand_gather_done done, void *context);
/* A file, link or directory; a directory that is not empty only when `recursive`. */
struct hand_request *hand_remove(struct hand_client *hand, const char *root, const char *path,
                                 bool recursive, hand_change_done done, void *context);
/* A directory with its parents (0700); `path` NULL: the root itself. */
struct hand_request *hand_make(struct hand_client *hand, const char *root, const char *path,
                               unsigned mode, hand_change_done done, void *context);

/* A regular file of a listing; the path is relative to the root, plain, and valid UTF-8. */
struct hand_listed_file {
    const char *path;
    struct hand_file_status status;
};
/* In no order. `dropped`: how many entries were left out, for whatever reason. */
typedef void (*hand_list_done)(void *context, const struct hand_listed_file *files, size_t count,
                               size_t dropped, const struct error *error);
struct hand_request *hand_list(struct hand_client *hand, const char *root, size_t limit,
                               hand_list_done done, void *context);

struct hand_exec_options {
    const char *const *argv;         /* NULL-terminated; the program is searched on PATH */
    const char *stdin_text;          /* UTF-8, or NULL: empty */
    struct json_object *environment; /* object of strings to add, or NULL; borrowed */
    const char *workdir;             /* or NULL: the session's */
    int64_t timeout_ms;
};

struct hand_exec_result {
    int exit_code; /* -1 when a signal ended it */
    int signal;    /* 0 when it exited */
    bool timed_out;
    const char *stdout_text; /* UTF-8; the last OPERATION_OUTPUT_LIMIT bytes */
    size_t stdout_length;
    bool is_stdout_cut; /* the beginning is missing */
    const char *stderr_text;
    size_t stderr_length;
    bool is_stderr_cut;
};

typedef void (*hand_exec_done)(void *context, const struct hand_exec_result *result,
                               const struct error *error);
struct hand_request *hand_exec(struct hand_client *hand, const struct hand_exec_options *options,
                               hand_exec_done done, void *context);

/* For hand_client_run: its input (owned by the caller), and the meaning of its answer, which
 * borrows from *keep (to be released by the caller). False with *error set. */
struct json_object *hand_run_input(const struct hand_exec_options *options);
bool hand_run_parse(bool is_error, struct json_object *content, struct hand_exec_result *result,
                    struct json_object **keep, struct error **error);

#endif
