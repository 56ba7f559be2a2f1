/* An event stream of the API: server-sent events whose data is a JSON object each. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cma/api.h"
#include "cma/api_headers.h"
#include "net/sse.h"

#define LOG_ROOM "cma"
#include "base/log.h"

enum { SILENT_TRIES = 2 }; /* the control plane pings more often than that */

struct api_stream {
    struct http_request *request;
    struct sse_parser parser;
    struct api_stream_events events;
    void *context;
    struct error *error; /* what we found wrong in the stream */
    bool is_retryable;
    bool is_busy; /* one of our callbacks is on the stack: free later */
    bool is_closed;
};

static void stream_free(struct api_stream *stream) {
    sse_parser_free(&stream->parser);
    error_free(stream->error);
    free(stream);
}

/* One event. A broken one is skipped: the history has it, if it matters. */
static bool on_sse(void *context, const char *event, const char *data, size_t length) {
    struct api_stream *stream = context;
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_JSON struct json_object *object = NULL;
    if (strcmp(event, "ping") == 0) {
        return true;
    }
    if (strcmp(event, "error") == 0) {
        (void)error_set(&stream->error, ERROR_UNAVAILABLE,
                        "the control plane ended the stream: %.*s",
                        (int)(length > 200 ? 200 : length), data);
        return false;
    }
    if (!json_parse(data, length, &object, &error)) {
        log_warn("skipped an event of %zu bytes: %s", length, error->message);
        return true;
    }
    if (!json_object_is_type(object, json_type_object)) {
        log_warn("skipped an event of %zu bytes: no JSON object", length);
        return true;
    }
    stream->events.event(stream->context, object);
    return !stream->is_closed;
}

static bool on_data(void *context, const char *bytes, size_t length) {
    struct api_stream *stream = context;
    stream->is_busy = true;
    bool goes_on = sse_parser_feed(&stream->parser, bytes, length, on_sse, stream,
                                   stream->error == NULL ? &stream->error : NULL);
    stream->is_busy = false;
    return goes_on;
}

static void on_open(void *context) {
    struct api_stream *stream = context;
    stream->events.opened(stream->context);
}

static void on_done(void *context, const struct http_response *response) {
    struct api_stream *stream = context;
    CLEANUP_ERROR struct error *error = STEAL_PTR(stream->error);
    bool is_good = response->status >= 200 && response->status < 300;
    bool is_retryable = is_good || api_is_retryable(response);
    stream->request = NULL;
    if (error == NULL && is_good && response->error == NULL) {
        (void)error_set(&error, ERROR_UNAVAILABLE, "the control plane closed the stream");
    } else if (error == NULL) {
        api_set_error(&error, response, "event stream");
    }
    if (!stream->is_closed) {
        stream->is_busy = true; /* the owner may close us from inside `ended` */
        stream->events.ended(stream->context, error, is_retryable, api_retry_after_ms(response));
    }
    stream_free(stream);
}

struct api_stream *api_stream_open(struct api *api, const char *path,
                                   const struct api_stream_events *events, void *context) {
    struct api_stream *stream = memory_new(struct api_stream);
    stream->events = *events;
    stream->context = context;
    sse_parser_init(&stream->parser, API_EVENT_LIMIT);
    CLEANUP_FREE char *url = memory_format("%s%s", api_base_url(api), path);
    char **headers = api_headers_new(api, "text/event-stream", NULL);
    stream->request = http_request_start(api_http_client(api),
                                         &(struct http_request_options){
                                             .method = "GET",
                                             .url = url,
                                             .headers = (const char *const *)headers,
                                             .idle_timeout_ms = SILENT_TRIES * api_timeout_ms(api),
                                             .on_data = on_data,
                                             .on_open = on_open,
                                             .on_done = on_done,
                                             .context = stream,
                                         });
    api_headers_free(headers);
    return stream;
}

void api_stream_close(struct api_stream *take_stream) {
    if (take_stream == NULL) {
        return;
    }
    take_stream->is_closed = true;
    if (take_stream->is_busy) {
        return; /* on_data returns false and on_done frees, or on_done is calling */
    }
    http_request_cancel(take_stream->request);
    stream_free(take_stream);
}
