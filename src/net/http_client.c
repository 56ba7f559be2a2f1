/* HTTP client: libcurl's multi interface driven by the loop's watches and one timer. */
#include "net/http_client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include "base/buffer.h"
#include "base/memory.h"

enum {
    HEADERS_LIMIT_BYTES = 64 * 1024, /* of one response */
    CONNECT_TIMEOUT_MS = 10000,
    CONNECTIONS_KEPT = 64,
    ERROR_BODY_LIMIT = 64 * 1024, /* of a non-2xx answer to a streamed request */
};

struct header {
    char *name;
    char *value;
    STAILQ_ENTRY(header) link;
};

STAILQ_HEAD(header_list, header);

/*
 * One of libcurl's multi handles with its connections. Streams have one of their own: libcurl looks
 * at every open connection to find one for a request, and keeps none for the next once there are
 * more than CONNECTIONS_KEPT. A thousand held streams would cost each short call both.
 */
struct engine {
    struct http_client *client;
    CURLM *multi;
    struct loop_timer *timer; /* libcurl's one timeout */
};

enum { ENGINE_CALLS, ENGINE_STREAMS, ENGINE_COUNT };

struct http_client {
    struct loop *loop;
    struct engine engines[ENGINE_COUNT];
    struct loop_timer *start_timer;  /* hands waiting requests to libcurl */
    struct loop_timer *cancel_timer; /* frees what was cancelled from a callback */
    bool is_in_callback;             /* libcurl is calling us: it must not be called back */
    TAILQ_HEAD(, http_request) requests;
    TAILQ_HEAD(, http_request) waiting; /* those that libcurl does not have yet */
};

/* A socket that libcurl asked us to watch. */
struct watched_socket {
    struct engine *engine;
    curl_socket_t fd;
    struct loop_watch *watch;
};

struct http_request {
    struct http_client *client;
    struct engine *engine;
    CURL *easy;
    struct curl_slist *header_lines;
    char *request_body;
    struct buffer body;
    struct header_list headers;
    size_t header_bytes;
    size_t response_limit;
    struct error *error; /* what we found wrong ourselves; goes before libcurl's opinion */
    char curl_message[CURL_ERROR_SIZE];
    bool is_open;      /* on_open was called */
    bool is_waiting;   /* not yet handed to libcurl: in the list of these */
    bool is_cancelled; /* freed as soon as libcurl lets go of it */
    int64_t idle_timeout_ms;
    struct loop_timer *idle_timer;
    bool (*on_data)(void *context, const char *bytes, size_t length);
    void (*on_open)(void *context);
    void (*on_done)(void *context, const struct http_response *response);
    void *context;
    TAILQ_ENTRY(http_request) link;
    TAILQ_ENTRY(http_request) waiting_link;
};

static void collect_finished(struct engine *engine);

static void stop_waiting(struct http_request *request) {
    if (request->is_waiting) {
        request->is_waiting = false;
        TAILQ_REMOVE(&request->client->waiting, request, waiting_link);
    }
}

static void request_free(struct http_request *request) {
    stop_waiting(request);
    TAILQ_REMOVE(&request->client->requests, request, link);
    if (request->easy != NULL) {
        (void)curl_multi_remove_handle(request->engine->multi, request->easy);
        curl_easy_cleanup(request->easy);
    }
    for (struct curl_slist *line = request->header_lines; line != NULL; line = line->next) {
        memory_wipe(line->data, strlen(line->data)); /* one of them carries the credential */
    }
    curl_slist_free_all(request->header_lines);
    while (!STAILQ_EMPTY(&request->headers)) {
        struct header *header = STAILQ_FIRST(&request->headers);
        STAILQ_REMOVE_HEAD(&request->headers, link);
        free(header->name);
        free(header->value);
        free(header);
    }
    loop_timer_free(request->idle_timer);
    buffer_free(&request->body);
    free(request->request_body);
    error_free(request->error);
    free(request);
}

/* Sockets and time: libcurl tells what it waits for, the loop tells when it came. */

static void on_socket_ready(void *context, unsigned events) {
    struct watched_socket *watched = context;
    struct engine *engine = watched->engine;
    int flags = ((events & LOOP_READ) != 0 ? CURL_CSELECT_IN : 0) |
                ((events & LOOP_WRITE) != 0 ? CURL_CSELECT_OUT : 0);
    int running = 0;
    (void)curl_multi_socket_action(engine->multi, watched->fd, flags, &running);
    collect_finished(engine);
}

static int on_curl_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *assigned) {
    (void)easy;
    struct engine *engine = context;
    struct watched_socket *watched = assigned;
    if (what == CURL_POLL_REMOVE) {
        if (watched != NULL) {
            loop_watch_free(watched->watch);
            free(watched);
        }
        return 0;
    }
    unsigned events = ((what & CURL_POLL_IN) != 0 ? (unsigned)LOOP_READ : 0U) |
                      ((what & CURL_POLL_OUT) != 0 ? (unsigned)LOOP_WRITE : 0U);
    if (watched != NULL) {
        loop_watch_set_events(watched->watch, events);
        return 0;
    }
    watched = memory_new(struct watched_socket);
    watched->engine = engine;
    watched->fd = fd;
    watched->watch = loop_watch_new(engine->client->loop, fd, events, on_socket_ready, watched);
    (void)curl_multi_assign(engine->multi, fd, watched);
    return 0;
}

static int on_curl_timer(CURLM *multi, long timeout_ms, void *context) {
    (void)multi;
    struct engine *engine = context;
    if (timeout_ms < 0) {
        loop_timer_disarm(engine->timer);
    } else {
        loop_timer_arm(engine->timer, timeout_ms);
    }
    return 0;
}

static void on_timer(void *context) {
    struct engine *engine = context;
    int running = 0;
    (void)curl_multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    collect_finished(engine);
}

static void request_finish(struct http_request *request, CURLcode code);

/* Starts the waiting requests; from the loop, since libcurl cannot be entered from its callbacks.
 */
static void on_start_timer(void *context) {
    struct http_client *client = context;
    struct http_request *request = NULL;
    while ((request = TAILQ_FIRST(&client->waiting)) != NULL) {
        stop_waiting(request);
        if (request->is_cancelled) {
            continue;
        }
        CURLMcode added = request->error == NULL
                              ? curl_multi_add_handle(request->engine->multi, request->easy)
                              : CURLM_INTERNAL_ERROR;
        if (added == CURLM_OK) {
            continue;
        }
        if (request->error == NULL) {
            (void)error_set(&request->error, ERROR_UNAVAILABLE, "%s", curl_multi_strerror(added));
        }
        request_finish(request, CURLE_FAILED_INIT);
        /* on_done may have changed the list in any way: begin again, later. */
        loop_timer_arm(client->start_timer, 0);
        return;
    }
}

static void on_cancel_timer(void *context) {
    struct http_client *client = context;
    struct http_request *next = NULL;
    for (struct http_request *request = TAILQ_FIRST(&client->requests); request != NULL;
         request = next) {
        next = TAILQ_NEXT(request, link);
        if (request->is_cancelled) {
            request_free(request);
        }
    }
}

/* The answer. */

static long request_status(const struct http_request *request) {
    long status = 0;
    if (request->easy != NULL) {
        (void)curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    }
    return status;
}

static enum error_code code_of(CURLcode code) {
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return ERROR_TIMEOUT;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return ERROR_INPUT;
    case CURLE_PEER_FAILED_VERIFICATION:
        return ERROR_DENIED;
    default:
        return ERROR_UNAVAILABLE;
    }
}

static void request_finish(struct http_request *request, CURLcode code) {
    if (request->is_cancelled) {
        request_free(request);
        return;
    }
    if (request->error == NULL && code != CURLE_OK) {
        (void)error_set(&request->error, code_of(code), "%s",
                        request->curl_message[0] != '\0' ? request->curl_message
                                                         : curl_easy_strerror(code));
    }
    struct http_response response = {
        .status = request_status(request),
        .body = buffer_string(&request->body),
        .body_length = request->body.length,
        .error = request->error,
        .request = request,
    };
    /* Out of libcurl's hands before the callback, which may start or cancel other requests. */
    if (request->easy != NULL) {
        (void)curl_multi_remove_handle(request->engine->multi, request->easy);
    }
    loop_timer_disarm(request->idle_timer);
    request->on_done(request->context, &response);
    request_free(request);
}

static void collect_finished(struct engine *engine) {
    int queued = 0;
    for (CURLMsg *message = curl_multi_info_read(engine->multi, &queued); message != NULL;
         message = curl_multi_info_read(engine->multi, &queued)) {
        struct http_request *request = NULL;
        CURLcode result = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&request);
        request_finish(request, result);
    }
}

static void on_idle_timer(void *context) {
    struct http_request *request = context;
    stop_waiting(request);
    if (request->error == NULL) {
        (void)error_set(&request->error, ERROR_TIMEOUT, "no data for %lld ms",
                        (long long)request->idle_timeout_ms);
    }
    request_finish(request, CURLE_OPERATION_TIMEDOUT);
}

static void request_alive(struct http_request *request) {
    if (request->idle_timeout_ms > 0) {
        loop_timer_arm(request->idle_timer, request->idle_timeout_ms);
    }
}

static bool is_streaming(const struct http_request *request) {
    long status = request_status(request);
    return request->on_data != NULL && status >= 200 && status < 300;
}

static void add_header(struct http_request *request, const char *line, size_t length) {
    const char *colon = memchr(line, ':', length);
    if (colon == NULL) {
        return; /* the status line, or the empty one */
    }
    const char *value = colon + 1;
    const char *end = line + length;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
        end--;
    }
    struct header *header = memory_new(struct header);
    header->name = memory_string_n(line, (size_t)(colon - line));
    header->value = memory_string_n(value, (size_t)(end - value));
    STAILQ_INSERT_TAIL(&request->headers, header, link);
}

static size_t on_curl_header(char *bytes, size_t size, size_t count, void *context) {
    struct http_request *request = context;
    size_t length = size * count;
    if (request->is_cancelled) {
        return 0; /* its owner may be gone */
    }
    request_alive(request);
    request->header_bytes += length;
    if (request->header_bytes > HEADERS_LIMIT_BYTES) {
        (void)error_set(&request->error, ERROR_LIMIT, "response headers over %d bytes",
                        HEADERS_LIMIT_BYTES);
        return 0;
    }
    add_header(request, bytes, length);
    bool is_last = length == 2 && bytes[0] == '\r' && bytes[1] == '\n';
    if (is_last && is_streaming(request) && !request->is_open) {
        request->is_open = true;
        if (request->on_open != NULL) {
            request->client->is_in_callback = true;
            request->on_open(request->context);
            request->client->is_in_callback = false;
        }
    }
    return request->is_cancelled ? 0 : length;
}

static size_t on_curl_data(char *bytes, size_t size, size_t count, void *context) {
    struct http_request *request = context;
    size_t length = size * count;
    if (request->is_cancelled) {
        return 0; /* its owner may be gone */
    }
    request_alive(request);
    if (is_streaming(request)) {
        request->client->is_in_callback = true;
        bool goes_on = request->on_data(request->context, bytes, length);
        request->client->is_in_callback = false;
        if (!goes_on || request->is_cancelled) {
            if (request->error == NULL) {
                (void)error_set(&request->error, ERROR_CANCELLED, "stream given up");
            }
            return 0;
        }
        return length;
    }
    size_t limit = request->on_data != NULL ? (size_t)ERROR_BODY_LIMIT : request->response_limit;
    if (length > limit - request->body.length) {
        (void)error_set(&request->error, ERROR_LIMIT, "response over %zu bytes", limit);
        return 0;
    }
    buffer_append(&request->body, bytes, length);
    return length;
}

/* The request. */

static void set_method(struct http_request *request, const struct http_request_options *options) {
    CURL *easy = request->easy;
    bool has_body = options->body != NULL || strcmp(options->method, "POST") == 0;
    if (strcmp(options->method, "GET") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
        return;
    }
    if (has_body) {
        request->request_body =
            memory_string_n(options->body == NULL ? "" : options->body, options->body_length);
        (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->request_body);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)options->body_length);
    }
    (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, options->method);
}

static void set_headers(struct http_request *request, const char *const *headers) {
    /* "Expect: 100-continue" costs a round trip on every large body. */
    request->header_lines = curl_slist_append(NULL, "Expect:");
    for (; headers != NULL && *headers != NULL; headers++) {
        request->header_lines = curl_slist_append(request->header_lines, *headers);
    }
    (void)curl_easy_setopt(request->easy, CURLOPT_HTTPHEADER, request->header_lines);
}

static bool request_prepare(struct http_request *request,
                            const struct http_request_options *options) {
    CURL *easy = curl_easy_init();
    if (easy == NULL) {
        return error_set(&request->error, ERROR_UNAVAILABLE, "libcurl cannot make a request");
    }
    request->easy = easy;
    (void)curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    (void)curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->curl_message);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    /* Waiting for a connection to share beats opening one for each of fifty sessions. Without TLS
     * there is no HTTP/2 to share, and the wait would be for the end of somebody's long poll. */
    (void)curl_easy_setopt(easy, CURLOPT_PIPEWAIT,
                           strncasecmp(options->url, "https:", 6) == 0 ? 1L : 0L);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)options->timeout_ms);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "holt/" HOLT_VERSION);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_curl_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_curl_data);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    set_method(request, options);
    set_headers(request, options->headers);
    CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, options->url);
    if (code != CURLE_OK) {
        return error_set(&request->error, ERROR_INPUT, "bad URL: %s", curl_easy_strerror(code));
    }
    return true;
}

struct http_request *http_request_start(struct http_client *client,
                                        const struct http_request_options *options) {
    struct http_request *request = memory_new(struct http_request);
    request->client = client;
    request->engine = &client->engines[options->on_data != NULL ? ENGINE_STREAMS : ENGINE_CALLS];
    request->response_limit = options->response_limit;
    request->idle_timeout_ms = options->idle_timeout_ms;
    request->on_data = options->on_data;
    request->on_open = options->on_open;
    request->on_done = options->on_done;
    request->context = options->context;
    request->idle_timer = loop_timer_new(client->loop, on_idle_timer, request);
    STAILQ_INIT(&request->headers);
    TAILQ_INSERT_TAIL(&client->requests, request, link);
    TAILQ_INSERT_TAIL(&client->waiting, request, waiting_link);
    request->is_waiting = true;
    if (request_prepare(request, options)) {
        request_alive(request);
    }
    loop_timer_arm(client->start_timer, 0);
    return request;
}

void http_request_cancel(struct http_request *take_request) {
    if (take_request->client->is_in_callback) {
        /* libcurl may be inside this very transfer: it ends when the callback returns. */
        take_request->is_cancelled = true;
        loop_timer_disarm(take_request->idle_timer);
        loop_timer_arm(take_request->client->cancel_timer, 0);
        return;
    }
    request_free(take_request);
}

const char *http_response_header(const struct http_response *response, const char *name) {
    const char *value = NULL;
    struct header *header = NULL;
    /* The last one wins: earlier ones may belong to an interim answer. */
    STAILQ_FOREACH(header, &response->request->headers, link) {
        if (strcasecmp(header->name, name) == 0) {
            value = header->value;
        }
    }
    return value;
}

static bool engine_init(struct engine *engine, struct http_client *client) {
    engine->client = client;
    engine->timer = loop_timer_new(client->loop, on_timer, engine);
    engine->multi = curl_multi_init();
    if (engine->multi == NULL) {
        return false;
    }
    (void)curl_multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
    (void)curl_multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine);
    (void)curl_multi_setopt(engine->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
    (void)curl_multi_setopt(engine->multi, CURLMOPT_TIMERDATA, engine);
    (void)curl_multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS, (long)CONNECTIONS_KEPT);
    return true;
}

struct http_client *http_client_new(struct loop *loop, struct error **error) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        (void)error_set(error, ERROR_UNAVAILABLE, "libcurl cannot start");
        return NULL;
    }
    struct http_client *client = memory_new(struct http_client);
    client->loop = loop;
    TAILQ_INIT(&client->requests);
    TAILQ_INIT(&client->waiting);
    client->start_timer = loop_timer_new(loop, on_start_timer, client);
    client->cancel_timer = loop_timer_new(loop, on_cancel_timer, client);
    for (size_t i = 0; i < ENGINE_COUNT; i++) {
        if (!engine_init(&client->engines[i], client)) {
            (void)error_set(error, ERROR_UNAVAILABLE, "libcurl cannot start");
            http_client_free(client);
            return NULL;
        }
    }
    return client;
}

void http_client_free(struct http_client *take_client) {
    if (take_client == NULL) {
        return;
    }
    struct http_request *next = NULL;
    for (struct http_request *request = TAILQ_FIRST(&take_client->requests); request != NULL;
         request = next) {
        next = TAILQ_NEXT(request, link);
        request_free(request);
    }
    for (size_t i = 0; i < ENGINE_COUNT; i++) {
        if (take_client->engines[i].multi != NULL) {
            (void)curl_multi_cleanup(take_client->engines[i].multi);
        }
        loop_timer_free(take_client->engines[i].timer);
    }
    loop_timer_free(take_client->start_timer);
    loop_timer_free(take_client->cancel_timer);
    free(take_client);
    curl_global_cleanup();
}
