/* A session's events, each once and in order: attach, list, replay, follow. */
#include "cma/event_feed.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/random.h"

#define LOG_ROOM "cma"
#include "base/log.h"

enum feed_state {
    FEED_ATTACHING, /* the stream's header has not come */
    FEED_LISTING,   /* attached; the history comes page by page */
    FEED_FOLLOWING, /* reconciled; the stream is all there is */
    FEED_WAITING,   /* disconnected; a timer runs */
};

enum {
    BACKOFF_FIRST_MS = 500,
    BACKOFF_LIMIT_MS = 10000,
    PAGE_SIZE = 1000,
    PAGE_SIZE_SMALL = 20, /* after a page that was too large to take */
    EVENTS_LIMIT = 1000000,
    PENDING_LIMIT = 10000,
};

struct event_feed {
    enum feed_state state;
    struct api *api;
    char *session_id;
    struct event_feed_events events;
    void *context;
    struct api_stream *stream;
    struct api_call *listing;
    struct json_object *seen;    /* object: id -> true */
    struct json_object *pending; /* array: streamed while the history was listed */
    struct loop_timer *retry_timer;
    int64_t backoff_ms;
    int page_size;
    unsigned depth; /* callbacks on the stack: free later */
    bool is_closed;
};

static void feed_free(struct event_feed *feed) {
    loop_timer_free(feed->retry_timer);
    json_object_put(feed->seen);
    json_object_put(feed->pending);
    free(feed->session_id);
    free(feed);
}

static void feed_enter(struct event_feed *feed) {
    feed->depth++;
}

/* Frees a feed that was closed meanwhile; false: do not touch it any more. */
static bool feed_leave(struct event_feed *feed) {
    feed->depth--;
    if (!feed->is_closed) {
        return true;
    }
    if (feed->depth == 0) {
        feed_free(feed);
    }
    return false;
}

static void feed_disconnect(struct event_feed *feed) {
    api_call_cancel(STEAL_PTR(feed->listing));
    api_stream_close(STEAL_PTR(feed->stream));
}

static void feed_fail(struct event_feed *feed, const struct error *error) {
    feed_disconnect(feed);
    feed->state = FEED_WAITING;
    feed->events.failed(feed->context, error);
}

/* Waits, then attaches again. */
static void feed_retry(struct event_feed *feed, const struct error *error, int64_t least_ms) {
    int64_t wait_ms = feed->backoff_ms - random_below((uint32_t)(feed->backoff_ms / 4 + 1));
    wait_ms = wait_ms < least_ms ? least_ms : wait_ms;
    CLEANUP_FREE char *text = error_text(error);
    log_info("session %s: %s; attaching again in %lld ms", feed->session_id, text,
             (long long)wait_ms);
    feed_disconnect(feed);
    feed->state = FEED_WAITING;
    feed->backoff_ms =
        feed->backoff_ms * 2 > BACKOFF_LIMIT_MS ? (int64_t)BACKOFF_LIMIT_MS : feed->backoff_ms * 2;
    loop_timer_arm(feed->retry_timer, wait_ms);
}

/* Delivers an event unless its id was delivered before. */
static bool deliver(struct event_feed *feed, struct json_object *event) {
    const char *id = json_get_string(event, "id");
    if (id != NULL) {
        if (json_object_object_get_ex(feed->seen, id, NULL)) {
            return true;
        }
        if (json_object_object_length(feed->seen) >= EVENTS_LIMIT) {
            CLEANUP_ERROR struct error *error = NULL;
            (void)error_set(&error, ERROR_LIMIT, "session %s has over %d events", feed->session_id,
                            EVENTS_LIMIT);
            feed_fail(feed, error);
            return false;
        }
        json_set_bool(feed->seen, id, true);
    }
    feed->events.event(feed->context, event);
    return !feed->is_closed;
}

static bool deliver_all(struct event_feed *feed, struct json_object *events) {
    size_t count = json_object_array_length(events);
    for (size_t i = 0; i < count; i++) {
        struct json_object *event = json_object_array_get_idx(events, i);
        if (json_object_is_type(event, json_type_object) && !deliver(feed, event)) {
            return false;
        }
    }
    return true;
}

static void list_page(struct event_feed *feed, const char *page);

static void on_page(void *context, const struct api_answer *answer) {
    struct event_feed *feed = context;
    feed->listing = NULL;
    struct json_object *events = json_get_array(answer->body, "data");
    if (answer->error != NULL || events == NULL) {
        CLEANUP_ERROR struct error *error = NULL;
        if (answer->error == NULL) {
            (void)error_set(&error, ERROR_PROTOCOL, "a page of events without data");
        }
        const struct error *cause = answer->error == NULL ? error : answer->error;
        if (cause->code == ERROR_LIMIT && feed->page_size > PAGE_SIZE_SMALL) {
            feed->page_size = PAGE_SIZE_SMALL;
            feed_retry(feed, cause, answer->retry_after_ms);
        } else if (answer->error == NULL || answer->is_retryable) {
            feed_retry(feed, cause, answer->retry_after_ms);
        } else {
            feed_fail(feed, cause);
        }
        return;
    }
    feed_enter(feed);
    bool goes_on = deliver_all(feed, events);
    if (!feed_leave(feed) || !goes_on) {
        return;
    }
    const char *next = json_get_string(answer->body, "next_page");
    if (next != NULL && *next != '\0') {
        list_page(feed, next);
        return;
    }
    feed->backoff_ms = BACKOFF_FIRST_MS;
    CLEANUP_JSON struct json_object *pending = STEAL_PTR(feed->pending);
    feed_enter(feed);
    if (deliver_all(feed, pending)) {
        feed->state = FEED_FOLLOWING;
        feed->events.reconciled(feed->context);
    }
    (void)feed_leave(feed);
}

static void list_page(struct event_feed *feed, const char *page) {
    CLEANUP_BUFFER struct buffer path = BUFFER_EMPTY;
    buffer_append_format(&path, "/v1/sessions/%s/events?limit=%d", feed->session_id,
                         feed->page_size);
    if (page != NULL) {
        buffer_append_string(&path, "&page=");
        buffer_append_percent_encoded(&path, page);
    }
    feed->listing = api_call_start(feed->api, &(struct api_request){
                                                  .method = "GET",
                                                  .path = buffer_string(&path),
                                                  .retries = API_RETRIES,
                                                  .response_limit = API_PAGE_LIMIT,
                                                  .done = on_page,
                                                  .context = feed,
                                              });
}

static void on_opened(void *context) {
    struct event_feed *feed = context;
    feed->state = FEED_LISTING;
    json_object_put(feed->pending);
    feed->pending = json_object_new_array();
    list_page(feed, NULL);
}

static void on_event(void *context, struct json_object *event) {
    struct event_feed *feed = context;
    if (feed->state == FEED_LISTING && json_object_array_length(feed->pending) >= PENDING_LIMIT) {
        CLEANUP_ERROR struct error *error = NULL;
        (void)error_set(&error, ERROR_LIMIT, "over %d events while the history was listed",
                        PENDING_LIMIT);
        feed_retry(feed, error, -1);
        return;
    }
    if (feed->state == FEED_LISTING) {
        (void)json_object_array_add(feed->pending, json_object_get(event));
        return;
    }
    feed_enter(feed);
    (void)deliver(feed, event);
    (void)feed_leave(feed);
}

static void on_stream_ended(void *context, const struct error *error, bool is_retryable,
                            int64_t retry_after_ms) {
    struct event_feed *feed = context;
    feed->stream = NULL;
    if (is_retryable) {
        feed_retry(feed, error, retry_after_ms);
    } else {
        feed_fail(feed, error);
    }
}

static void attach(void *context) {
    static const struct api_stream_events events = {
        .opened = on_opened, .event = on_event, .ended = on_stream_ended};
    struct event_feed *feed = context;
    CLEANUP_FREE char *path = memory_format("/v1/sessions/%s/events/stream", feed->session_id);
    feed->state = FEED_ATTACHING;
    feed->stream = api_stream_open(feed->api, path, &events, feed);
}

struct event_feed *event_feed_open(struct api *api, const char *session_id,
                                   const struct event_feed_events *events, void *context) {
    struct event_feed *feed = memory_new(struct event_feed);
    feed->api = api;
    feed->session_id = memory_string(session_id);
    feed->events = *events;
    feed->context = context;
    feed->seen = json_object_new_object();
    feed->backoff_ms = BACKOFF_FIRST_MS;
    feed->page_size = PAGE_SIZE;
    feed->retry_timer = loop_timer_new(api_loop(api), attach, feed);
    attach(feed);
    return feed;
}

bool event_feed_is_reconciled(const struct event_feed *feed) {
    return feed->state == FEED_FOLLOWING;
}

void event_feed_close(struct event_feed *take_feed) {
    if (take_feed == NULL) {
        return;
    }
    feed_disconnect(take_feed);
    loop_timer_disarm(take_feed->retry_timer);
    take_feed->is_closed = true;
    if (take_feed->depth == 0) {
        feed_free(take_feed);
    }
}
