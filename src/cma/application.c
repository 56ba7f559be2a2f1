/* The application's side of the CMA API: requests with the organisation's key, and a session's
 * events. */
#include "cma/application.h"

#include <stdlib.h>

#include "base/memory.h"
#include "cma/api.h"
#include "cma/event_feed.h"

enum { APPLICATION_CALLS_LIMIT = 8 };

struct application_call {
    struct application *application;
    struct api_call *call;
    void (*done)(void *context, struct json_object *answer, const struct error *error);
    void *context;
};

struct application {
    struct api *api;
    struct application_call *calls[APPLICATION_CALLS_LIMIT];
};

struct application_stream {
    struct event_feed *feed;
    struct application_stream_events events;
    void *context;
    bool is_open;
};

struct application *application_new(struct loop *loop, struct http_client *client,
                                    const char *base_url, const char *api_key) {
    struct application *application = memory_new(struct application);
    application->api = api_new(loop, client, base_url, api_key);
    return application;
}

void application_free(struct application *take_application) {
    if (take_application == NULL) {
        return;
    }
    for (size_t i = 0; i < APPLICATION_CALLS_LIMIT; i++) {
        if (take_application->calls[i] != NULL) {
            api_call_cancel(take_application->calls[i]->call);
            free(take_application->calls[i]);
        }
    }
    api_free(take_application->api);
    free(take_application);
}

static void on_answer(void *context, const struct api_answer *answer) {
    CLEANUP_FREE struct application_call *call = context;
    for (size_t i = 0; i < APPLICATION_CALLS_LIMIT; i++) {
        if (call->application->calls[i] == call) {
            call->application->calls[i] = NULL;
        }
    }
    call->done(call->context, answer->error == NULL ? answer->body : NULL, answer->error);
}

void application_request(struct application *application, const char *method, const char *path,
                         struct json_object *body,
                         void (*done)(void *context, struct json_object *answer,
                                      const struct error *error),
                         void *context) {
    size_t free_slot = 0;
    while (application->calls[free_slot] != NULL) {
        if (++free_slot == APPLICATION_CALLS_LIMIT) {
            abort(); /* the callers send one request after the other */
        }
    }
    struct application_call *call = memory_new(struct application_call);
    call->application = application;
    call->done = done;
    call->context = context;
    application->calls[free_slot] = call;
    call->call = api_call_start(application->api, &(struct api_request){.method = method,
                                                                        .path = path,
                                                                        .body = body,
                                                                        .retries = API_RETRIES,
                                                                        .done = on_answer,
                                                                        .context = call});
}

static void on_event(void *context, struct json_object *event) {
    struct application_stream *stream = context;
    stream->events.event(stream->context, event);
}

static void on_reconciled(void *context) {
    struct application_stream *stream = context;
    if (!stream->is_open) {
        stream->is_open = true;
        stream->events.opened(stream->context);
    }
}

static void on_failed(void *context, const struct error *error) {
    struct application_stream *stream = context;
    stream->events.failed(stream->context, error);
}

struct application_stream *application_stream_open(struct application *application,
                                                   const char *session_id,
                                                   const struct application_stream_events *events,
                                                   void *context) {
    static const struct event_feed_events feed_events = {
        .event = on_event, .reconciled = on_reconciled, .failed = on_failed};
    struct application_stream *stream = memory_new(struct application_stream);
    stream->events = *events;
    stream->context = context;
    stream->feed = event_feed_open(application->api, session_id, &feed_events, stream);
    return stream;
}

void application_stream_close(struct application_stream *take_stream) {
    if (take_stream != NULL) {
        event_feed_close(take_stream->feed);
        free(take_stream);
    }
}
