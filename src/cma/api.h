/*
 * One endpoint of the CMA API with one credential: requests, retries, errors, event streams.
 *
 * Sends what the official SDK 1.11.0 sends (protocol.md section 1). The credential lives in wiped
 * memory and is never logged. Callbacks come from the loop, never from inside a call.
 */
#ifndef HOLT_CMA_API_H
#define HOLT_CMA_API_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/loop.h"
#include "net/http_client.h"

struct api;
struct api_call;
struct api_stream;

/* Borrows the loop and the client; copies the strings. A trailing slash of `base_url` is dropped.
 */
struct api *api_new(struct loop *loop, struct http_client *client, const char *base_url,
                    const char *secret);
/* The same endpoint (or another: `base_url` may be NULL) with another bearer. */
struct api *api_with_bearer(const struct api *api, const char *base_url, const char *secret);
/* Wipes the credential. Calls and streams on it must have ended. NULL is fine. */
void api_free(struct api *take_api);
const char *api_base_url(const struct api *api);
struct loop *api_loop(const struct api *api);

struct api_answer {
    long status;              /* 0: no answer came */
    struct json_object *body; /* NULL when there is none or it is null; borrowed */
    const char *bytes;        /* of a good answer to a raw request; borrowed */
    size_t length;
    const struct error
        *error;             /* NULL exactly when the status is 2xx and the body is JSON or empty */
    bool is_retryable;      /* the failure may pass: what retries are left to the caller */
    int64_t retry_after_ms; /* the peer asks not to come back before; negative: it does not say */
    bool is_repeat;         /* an earlier try failed without saying whether it was carried out */
};

struct api_request {
    const char *method;
    const char *path;           /* "/v1/..." with its query */
    const char *const *headers; /* further "Name: value" lines, or NULL */
    struct json_object *body;   /* or NULL; borrowed during the call */
    int retries;                /* after the first try; see API_RETRIES */
    int64_t timeout_ms;         /* of one try; 0: as api_set_timeout says */
    size_t response_limit;      /* 0: API_RESPONSE_LIMIT */
    bool is_raw;                /* the answer is bytes of any kind, not JSON */
    void (*done)(void *context, const struct api_answer *answer);
    void *context;
};

enum {
    API_RETRIES = 2, /* as the SDK: 0.5 s doubling to 8 s, less up to a quarter, or retry-after */
    API_TIMEOUT_MS = 60000,
    API_RESPONSE_LIMIT = 1 << 20,
    API_EVENT_LIMIT = 16 << 20,
    API_PAGE_LIMIT = 64 << 20,
};

/* How long one try of a request may take from now on, and half of how long an event stream may be
 * silent; 0: API_TIMEOUT_MS. Inherited by api_with_bearer. */
void api_set_timeout(struct api *api, int64_t timeout_ms);
int64_t api_timeout_ms(const struct api *api);

/* `done` is called exactly once unless the call is cancelled; the call frees itself after it. */
struct api_call *api_call_start(struct api *api, const struct api_request *request);
/* NULL is fine. */
void api_call_cancel(struct api_call *take_call);

struct api_stream_events {
    /* The answer's header came: what happens from now on is in the stream. */
    void (*opened)(void *context);
    /* One event; what is no JSON object is logged and skipped. Borrowed. */
    void (*event)(void *context, struct json_object *event);
    /* The stream ended; `is_retryable` says whether to attach again, and not before
     * `retry_after_ms` (negative: no matter). Called exactly once. */
    void (*ended)(void *context, const struct error *error, bool is_retryable,
                  int64_t retry_after_ms);
};

/* Opens GET `path` as a stream of server-sent events; it frees itself after `ended`. */
struct api_stream *api_stream_open(struct api *api, const char *path,
                                   const struct api_stream_events *events, void *context);
/* No callback any more; may be called from any of them. NULL is fine. */
void api_stream_close(struct api_stream *take_stream);

#endif
