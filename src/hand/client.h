/*
 * The daemon's side of a connection to one `hand`: calls in flight, by id.
 *
 * What hand says is foreign input: results are accepted only for calls in flight, and their content
 * is checked to be an array of text, image or document blocks.
 */
#ifndef HOLT_HAND_CLIENT_H
#define HOLT_HAND_CLIENT_H

#include "base/json.h"
#include "base/loop.h"

struct hand_client;

struct hand_configuration {
    const char *workdir;
    const char *const *allowed_roots; /* NULL-terminated, or NULL */
    const char *const *read_only_roots;
    int64_t max_file_bytes; /* negative: none */
    bool read_media;
    struct json_object *environment; /* object of strings, or NULL to keep hand's; borrowed */
};

struct hand_events {
    /* hand answered configure; `finished` and `running` are arrays of call ids it still holds. */
    void (*ready)(void *context, const char *incarnation, struct json_object *running,
                  struct json_object *finished);
    /* A call ended. `content` is borrowed. Acknowledge after the result was posted. */
    void (*result)(void *context, const char *id, bool is_error, struct json_object *content,
                   int64_t duration_us);
    /* The connection is over; calls in flight have no result from it. Free the client from here or
     * later. */
    void (*closed)(void *context, const struct error *error);
};

/* Takes a connected stream socket and sends configure. */
struct hand_client *hand_client_new(struct loop *loop, int take_fd,
                                    const struct hand_configuration *configuration,
                                    const struct hand_events *events, void *context);
/* Hands a call over; its id must not be in flight on this client. `input` is borrowed. */
void hand_client_call(struct hand_client *client, const char *id, const char *name,
                      struct json_object *input, int64_t deadline_ms);
/*
 * As hand_client_call for a program: holt.run of tools/operations.h, in the order of the agent's
 * calls, kept until acknowledged as theirs are. Its content is for hand_run_parse (operations.h).
 */
void hand_client_run(struct hand_client *client, const char *id, struct json_object *input,
                     int64_t deadline_ms);
void hand_client_cancel(struct hand_client *client, const char *id);
void hand_client_acknowledge(struct hand_client *client, const char *id);

/*
 * An operation of ours (tools/operations.h), beside the agent's calls: it waits for none of them,
 * and its result comes to `done`, not to `result`, and needs no acknowledgement. Several may run at
 * once, in no order: who needs one waits for `done` before the next.
 */
struct hand_request;

struct hand_request_options {
    const char *name;          /* "holt." and a word */
    struct json_object *input; /* an additional reference is taken */
    int64_t deadline_ms;       /* in hand, which counts from its start there */
    /*
     * Called once, from the loop, unless cancelled or the client is freed. `error` is set when no
     * answer came: the connection ended, or hand did not answer in time. Else `content` is one text
     * block; it is borrowed. What the operation has done when `error` is set, nobody knows.
     */
    void (*done)(void *context, bool is_error, struct json_object *content,
                 const struct error *error);
    /* Called once after the end, whatever it was: releases the context. May be NULL. */
    void (*release)(void *take_context);
    void *context;
};

struct hand_request *hand_client_request(struct hand_client *client,
                                         const struct hand_request_options *options);
/* `done` is not called any more; hand is told to end the operation. Only before `done`, and before
 * the client is freed, which cancels all. NULL is fine. */
void hand_request_cancel(struct hand_request *take_request);

/* Asks hand to end everything and exit. */
void hand_client_shutdown(struct hand_client *client);
/* Closes the connection; no event fires any more. NULL is fine. */
void hand_client_free(struct hand_client *take_client);

#endif
