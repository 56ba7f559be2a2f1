/*
 * HTTP client over libcurl's multi interface, on the loop.
 *
 * Knows nothing of CMA. One client shares connections (HTTP/2 where TLS offers it) among all its
 * requests. Certificates are always verified. Redirects are not followed: an API that redirects a
 * request with a credential is a fault.
 */
#ifndef HOLT_NET_HTTP_CLIENT_H
#define HOLT_NET_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

struct http_client;
struct http_request;

struct http_response {
    long status;      /* 0 when the request failed before a status came; see error */
    const char *body; /* NUL-terminated; "" when streamed */
    size_t body_length;
    const struct error *error; /* NULL on any HTTP answer, whatever its status */
    const struct http_request *request;
};

struct http_request_options {
    const char *method; /* "GET", "POST", "DELETE" */
    const char *url;
    const char *const *headers; /* "Name: value" lines, NULL-terminated; copied */
    const char *body;           /* may be NULL; copied */
    size_t body_length;
    int64_t timeout_ms;      /* whole request; 0: none (streams) */
    int64_t idle_timeout_ms; /* no byte for this long fails it; 0: none */
    size_t response_limit;   /* bytes of body kept; more fails with ERROR_LIMIT */
    /* Set for a streamed response: called for each piece of a 2xx body instead of keeping it. Other
     * statuses keep their body. Return false to end the request with ERROR_CANCELLED. */
    bool (*on_data)(void *context, const char *bytes, size_t length);
    /* Called once when a streamed response's 2xx header has arrived; may be NULL. */
    void (*on_open)(void *context);
    /* Called exactly once at the end, unless cancelled. */
    void (*on_done)(void *context, const struct http_response *response);
    void *context;
};

struct http_client *http_client_new(struct loop *loop, struct error **error);
/* Cancels all requests. */
void http_client_free(struct http_client *take_client);
/* Starts a request. It is freed by itself after on_done. Failures to start arrive through on_done,
 * never from inside this call. */
struct http_request *http_request_start(struct http_client *client,
                                        const struct http_request_options *options);
/* Ends it without on_done; may be called from any callback. */
void http_request_cancel(struct http_request *take_request);
/* A response header's value, or NULL; valid during on_done. Names compare without case. */
const char *http_response_header(const struct http_response *response, const char *name);

#endif
