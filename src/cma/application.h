/*
 * The application's side of the CMA API: what `holt session` and `holt demo` need of it.
 *
 * Authenticates with the organisation's key, never with an environment key. Requests follow the
 * retry rules of api.h.
 */
#ifndef HOLT_CMA_APPLICATION_H
#define HOLT_CMA_APPLICATION_H

#include "base/error.h"
#include "base/json.h"
#include "base/loop.h"
#include "net/http_client.h"

struct application;
struct application_stream;

/* Borrows the loop and the client; copies the strings. `base_url` has no trailing slash. */
struct application *application_new(struct loop *loop, struct http_client *client,
                                    const char *base_url, const char *api_key);
/* Cancels what is under way and wipes the key. NULL is fine. */
void application_free(struct application *take_application);

/*
 * Sends one request ("GET"/"POST" on "/v1/..."); `body` is borrowed and may be NULL. `done` is
 * called once, later: with the answer (borrowed), or with NULL and an error that names the HTTP
 * status, the API's own message and the request id.
 */
void application_request(struct application *application, const char *method, const char *path,
                         struct json_object *body,
                         void (*done)(void *context, struct json_object *answer,
                                      const struct error *error),
                         void *context);

struct application_stream_events {
    /* Attached, and what happened before was delivered: what happens from now on will be seen. */
    void (*opened)(void *context);
    /* One event, each id once; borrowed. */
    void (*event)(void *context, struct json_object *event);
    /* The stream failed for good (a refusal, or no connection after its retries). */
    void (*failed)(void *context, const struct error *error);
};

/*
 * Attaches to a session's event stream and keeps it attached: after a disconnect it reconnects and
 * lists what was missed. `opened` is called once.
 */
struct application_stream *application_stream_open(struct application *application,
                                                   const char *session_id,
                                                   const struct application_stream_events *events,
                                                   void *context);
/* May be called from inside an event. NULL is fine. */
void application_stream_close(struct application_stream *take_stream);

#endif
