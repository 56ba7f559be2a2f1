/* One endpoint of the CMA API with one credential: requests and retries. */
#include "cma/api.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "cma/api_headers.h"

enum {
    RETRY_FIRST_MS = 500,
    RETRY_LIMIT_MS = 8000,
    RETRY_AFTER_LIMIT_MS = 60000, /* a server that asks for more is asked again sooner */
    ERROR_TEXT_LIMIT = 300,
};

struct api {
    struct loop *loop;
    struct http_client *client;
    char *base_url;
    char *credential_header;
    int64_t timeout_ms;
};

struct api_call {
    struct api *api;
    char *method;
    char *url;
    char **headers;
    char *body;
    size_t body_length;
    int retries_left;
    int tries;
    bool is_repeat;
    int64_t timeout_ms;
    size_t response_limit;
    bool is_raw;
    struct http_request *request;
    struct loop_timer *retry_timer;
    void (*done)(void *context, const struct api_answer *answer);
    void *context;
};

struct api *api_new(struct loop *loop, struct http_client *client, const char *base_url,
                    const char *secret) {
    struct api *api = memory_new(struct api);
    size_t length = strlen(base_url);
    while (length > 0 && base_url[length - 1] == '/') {
        length--;
    }
    api->loop = loop;
    api->client = client;
    api->base_url = memory_string_n(base_url, length);
    api->credential_header = memory_format("Authorization: Bearer %s", secret);
    api->timeout_ms = API_TIMEOUT_MS;
    return api;
}

struct api *api_with_bearer(const struct api *api, const char *base_url, const char *secret) {
    struct api *own =
        api_new(api->loop, api->client, base_url == NULL ? api->base_url : base_url, secret);
    own->timeout_ms = api->timeout_ms;
    return own;
}

void api_set_timeout(struct api *api, int64_t timeout_ms) {
    api->timeout_ms = timeout_ms == 0 ? (int64_t)API_TIMEOUT_MS : timeout_ms;
}

int64_t api_timeout_ms(const struct api *api) {
    return api->timeout_ms;
}

void api_free(struct api *take_api) {
    if (take_api == NULL) {
        return;
    }
    memory_wipe(take_api->credential_header, strlen(take_api->credential_header));
    free(take_api->credential_header);
    free(take_api->base_url);
    free(take_api);
}

const char *api_base_url(const struct api *api) {
    return api->base_url;
}

struct loop *api_loop(const struct api *api) {
    return api->loop;
}

struct http_client *api_http_client(const struct api *api) {
    return api->client;
}

char **api_headers_new(const struct api *api, const char *accept, const char *const *more) {
    size_t extra = 0;
    while (more != NULL && more[extra] != NULL) {
        extra++;
    }
    char **headers = memory_zeroed(API_FIXED_HEADERS + extra + 1, sizeof(char *));
    size_t at = 0;
    headers[at++] = memory_string(api->credential_header);
    headers[at++] = memory_string("anthropic-version: 2026-10-21");
    size_t beta = at;
    headers[at++] = memory_string("anthropic-beta: managed-agents-2026-04-01");
    headers[at++] = memory_format("accept: %s", accept);
    headers[at++] = memory_string("content-type: application/json");
    for (size_t i = 0; i < extra; i++) {
        /* A request's own beta header takes the place of the general one. */
        size_t place = strncmp(more[i], "anthropic-beta:", 15) == 0 ? beta : at++;
        free(headers[place]);
        headers[place] = memory_string(more[i]);
    }
    return headers;
}

void api_headers_free(char **take_headers) {
    for (size_t i = 0; take_headers != NULL && take_headers[i] != NULL; i++) {
        memory_wipe(take_headers[i], strlen(take_headers[i]));
        free(take_headers[i]);
    }
    free(take_headers);
}

/* What an HTTP status means for us (protocol.md section 1). */
static enum error_code code_of_status(long status) {
    switch (status) {
    case 401:
    case 403:
        return ERROR_DENIED;
    case 404:
        return ERROR_NOT_FOUND;
    case 409:
    case 412:
        return ERROR_CONFLICT;
    case 413:
        return ERROR_LIMIT;
    case 408:
    case 429:
        return ERROR_UNAVAILABLE;
    default:
        return status >= 500 ? ERROR_UNAVAILABLE : ERROR_PROTOCOL;
    }
}

bool api_is_retryable(const struct http_response *response) {
    /* A connection that broke in the middle of an answer has a status all the same. */
    if (response->error != NULL) {
        return response->error->code != ERROR_INPUT && response->error->code != ERROR_LIMIT;
    }
    const char *advice = http_response_header(response, "x-should-retry");
    if (advice != NULL && strcasecmp(advice, "true") == 0) {
        return true;
    }
    if (advice != NULL && strcasecmp(advice, "false") == 0) {
        return false;
    }
    return response->status == 0 || response->status == 408 || response->status == 409 ||
           response->status == 429 || response->status >= 500;
}

void api_set_error(struct error **error, const struct http_response *response, const char *what) {
    if (response->error != NULL) {
        CLEANUP_FREE char *text = error_text(response->error);
        (void)error_set(error, response->error->code, "%s: %s", what, text);
        return;
    }
    CLEANUP_JSON struct json_object *body = NULL;
    (void)json_parse(response->body, response->body_length, &body, NULL);
    const char *message = json_get_string(json_get_object(body, "error"), "message");
    const char *request_id = http_response_header(response, "request-id");
    (void)error_set(error, code_of_status(response->status), "%s: HTTP %ld%s%.*s%s%s", what,
                    response->status, message == NULL ? "" : ": ", ERROR_TEXT_LIMIT,
                    message == NULL ? "" : message, request_id == NULL ? "" : " request-id ",
                    request_id == NULL ? "" : request_id);
}

int64_t api_retry_after_ms(const struct http_response *response) {
    const char *milliseconds = http_response_header(response, "retry-after-ms");
    const char *seconds = http_response_header(response, "retry-after");
    char *end = NULL;
    double wait_ms = -1;
    if (milliseconds != NULL) {
        wait_ms = strtod(milliseconds, &end);
        if (end == milliseconds) {
            wait_ms = -1;
        }
    }
    if (wait_ms < 0 && seconds != NULL) {
        wait_ms = strtod(seconds, &end) * 1000;
        if (end == seconds) {
            time_t date = curl_getdate(seconds, NULL);
            wait_ms = date < 0 ? -1 : (double)date * 1000 - (double)clock_wall_ms();
        }
    }
    return wait_ms >= 0 && wait_ms <= RETRY_AFTER_LIMIT_MS ? (int64_t)wait_ms : -1;
}

int64_t api_retry_wait_ms(const struct http_response *response, int tries) {
    int64_t asked_ms = api_retry_after_ms(response);
    if (asked_ms >= 0) {
        return asked_ms;
    }
    int64_t wait_ms = RETRY_FIRST_MS;
    for (int i = 1; i < tries && wait_ms < RETRY_LIMIT_MS; i++) {
        wait_ms *= 2;
    }
    wait_ms = wait_ms > RETRY_LIMIT_MS ? RETRY_LIMIT_MS : wait_ms;
    return wait_ms - random_below((uint32_t)(wait_ms / 4 + 1));
}

static void call_free(struct api_call *call) {
    if (call->request != NULL) {
        http_request_cancel(call->request);
    }
    loop_timer_free(call->retry_timer);
    api_headers_free(call->headers);
    free(call->method);
    free(call->url);
    free(call->body);
    free(call);
}

static void call_finish(struct api_call *call, const struct api_answer *answer) {
    call->done(call->context, answer);
    call_free(call);
}

static void call_try(struct api_call *call);

/* Whether a try that failed this way may have been carried out all the same. */
static bool is_uncertain(const struct http_response *response) {
    return response->error != NULL || response->status < 400 || response->status >= 500;
}

static void on_response(void *context, const struct http_response *response) {
    struct api_call *call = context;
    call->request = NULL;
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_JSON struct json_object *body = NULL;
    CLEANUP_FREE char *what = memory_format("%s %s", call->method, call->url);
    bool is_good = response->error == NULL && response->status >= 200 && response->status < 300;
    bool is_retryable = !is_good && api_is_retryable(response);
    if (!is_good) {
        api_set_error(&error, response, what);
        (void)json_parse(response->body, response->body_length, &body, NULL);
    } else if (!call->is_raw && response->body_length > 0 &&
               !json_parse(response->body, response->body_length, &body, &error)) {
        (void)error_wrap(&error, "%s", what);
        is_retryable = true; /* cut short or mixed up on the way */
    }
    if (is_retryable && call->retries_left > 0) {
        call->retries_left--;
        call->is_repeat = call->is_repeat || is_uncertain(response);
        loop_timer_arm(call->retry_timer, api_retry_wait_ms(response, call->tries));
        return;
    }
    call_finish(call, &(struct api_answer){.status = response->status,
                                           .body = body,
                                           .bytes = is_good ? response->body : NULL,
                                           .length = is_good ? response->body_length : 0,
                                           .error = error,
                                           .is_retryable = is_retryable,
                                           .retry_after_ms = api_retry_after_ms(response),
                                           .is_repeat = call->is_repeat});
}

static void call_try(struct api_call *call) {
    call->tries++;
    call->request =
        http_request_start(call->api->client, &(struct http_request_options){
                                                  .method = call->method,
                                                  .url = call->url,
                                                  .headers = (const char *const *)call->headers,
                                                  .body = call->body,
                                                  .body_length = call->body_length,
                                                  .timeout_ms = call->timeout_ms,
                                                  .response_limit = call->response_limit,
                                                  .on_done = on_response,
                                                  .context = call,
                                              });
}

static void on_retry(void *context) {
    call_try(context);
}

struct api_call *api_call_start(struct api *api, const struct api_request *request) {
    struct api_call *call = memory_new(struct api_call);
    call->api = api;
    call->method = memory_string(request->method);
    call->url = memory_format("%s%s", api->base_url, request->path);
    call->headers = api_headers_new(
        api, request->is_raw ? "application/binary" : "application/json", request->headers);
    call->is_raw = request->is_raw;
    if (request->body != NULL) {
        const char *text = json_text(request->body, &call->body_length);
        call->body = memory_string_n(text, call->body_length);
    }
    call->retries_left = request->retries;
    call->timeout_ms = request->timeout_ms == 0 ? api->timeout_ms : request->timeout_ms;
    call->response_limit =
        request->response_limit == 0 ? (size_t)API_RESPONSE_LIMIT : request->response_limit;
    call->done = request->done;
    call->context = request->context;
    call->retry_timer = loop_timer_new(api->loop, on_retry, call);
    call_try(call);
    return call;
}

void api_call_cancel(struct api_call *take_call) {
    if (take_call != NULL) {
        call_free(take_call);
    }
}
