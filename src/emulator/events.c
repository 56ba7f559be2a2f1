/* A session's history, and the streams that follow it. */
#include "emulator/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"

#define LOG_ROOM "emulator"
#include "base/log.h"

struct json_object *session_event_new(const char *type) {
    struct json_object *event = json_object_new_object();
    json_set_string(event, "type", type);
    return event;
}

static void stream_free(struct stream *take_stream) {
    LIST_REMOVE(take_stream, link);
    free(take_stream);
}

/*
 * A burst of large events may stand above the limit for a moment, whoever reads: a reader is too
 * slow when it stays above, or far above at once.
 */
static bool is_too_slow(struct stream *stream) {
    size_t backlog = http_stream_backlog(stream->exchange);
    int64_t now_ms = clock_monotonic_ms();
    if (backlog <= STREAM_BACKLOG_LIMIT_BYTES) {
        stream->over_since_ms = 0;
        return false;
    }
    if (stream->over_since_ms == 0) {
        stream->over_since_ms = now_ms;
    }
    return backlog > STREAM_BURST_LIMIT_BYTES ||
           now_ms - stream->over_since_ms > STREAM_OVER_LIMIT_MS;
}

void session_write_streams(struct session *session, const char *bytes, size_t length) {
    struct stream *stream = LIST_FIRST(&session->streams);
    while (stream != NULL) {
        struct stream *next = LIST_NEXT(stream, link);
        if (is_too_slow(stream)) {
            log_warn("a reader of session %s is too slow: disconnected", session->id);
            http_exchange_abort(stream->exchange);
            stream_free(stream);
        } else {
            http_stream_write(stream->exchange, bytes, length);
        }
        stream = next;
    }
}

void session_drop_streams(struct session *session) {
    struct stream *next = NULL;
    for (struct stream *stream = LIST_FIRST(&session->streams); stream != NULL; stream = next) {
        next = LIST_NEXT(stream, link);
        http_stream_end(stream->exchange);
        stream_free(stream);
    }
}

static void stream_event(struct session *session, struct json_object *event) {
    if (LIST_EMPTY(&session->streams)) {
        return;
    }
    size_t length = 0;
    const char *text = json_text(event, &length);
    CLEANUP_BUFFER struct buffer frame = BUFFER_EMPTY;
    buffer_append_string(&frame, "event: ");
    /* A type with a line break would forge a frame of its own. */
    const char *type = json_get_string(event, "type");
    buffer_append(&frame, type, strcspn(type, "\r\n"));
    buffer_append_string(&frame, "\ndata: ");
    buffer_append(&frame, text, length);
    buffer_append_string(&frame, "\n\n");
    session_write_streams(session, frame.data, frame.length);
}

const char *session_emit(struct session *session, struct json_object *take_event, unsigned flags) {
    if (json_get_string(take_event, "id") == NULL) {
        CLEANUP_FREE char *id = random_id("sevt_");
        json_set_string(take_event, "id", id);
    }
    if (json_get(take_event, "processed_at") == NULL) {
        CLEANUP_FREE char *now = now_text();
        json_set_string(take_event, "processed_at", now);
    }
    size_t index = json_object_array_length(session->events);
    (void)json_object_array_add(session->events, take_event);
    store_add_event(session->emulator->store, session->id, index, take_event);
    if ((flags & EMIT_HIDDEN) == 0) {
        stream_event(session, take_event);
    }
    if ((flags & EMIT_TWICE) != 0) {
        stream_event(session, take_event);
    }
    return json_get_string(take_event, "id");
}

void session_set_status(struct session *session, const char *status) {
    CLEANUP_FREE char *now = now_text();
    json_set_string(session->json, "status", status);
    json_set_string(session->json, "updated_at", now);
}

/* ---- endpoints ---- */

static bool has_type(struct request *request, const char *type) {
    static const char *const names[] = {"types[]", "types"};
    bool is_filtered = false;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *wanted = NULL;
        for (size_t n = 0;
             (wanted = http_exchange_query_nth(request->exchange, names[i], n)) != NULL; n++) {
            is_filtered = true;
            if (strcmp(wanted, type) == 0) {
                return true;
            }
        }
    }
    return !is_filtered;
}

/* RFC 3339 UTC timestamps of one form compare as text. */
static bool is_in_time(struct request *request, const char *time) {
    const char *after = http_exchange_query(request->exchange, "created_at[gt]");
    const char *from = http_exchange_query(request->exchange, "created_at[gte]");
    const char *before = http_exchange_query(request->exchange, "created_at[lt]");
    const char *until = http_exchange_query(request->exchange, "created_at[lte]");
    return (after == NULL || strcmp(time, after) > 0) &&
           (from == NULL || strcmp(time, from) >= 0) &&
           (before == NULL || strcmp(time, before) < 0) &&
           (until == NULL || strcmp(time, until) <= 0);
}

void session_events(struct request *request) {
    struct session *session = request->session;
    if (reply_injected(request, session, "events")) {
        return;
    }
    struct json_object *all = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(session->events); i++) {
        struct json_object *event = json_object_array_get_idx(session->events, i);
        const char *time = json_get_string(event, "processed_at");
        if (has_type(request, json_get_string(event, "type")) &&
            is_in_time(request, time == NULL ? "" : time)) {
            (void)json_object_array_add(all, json_object_get(event));
        }
    }
    reply_page(request, all, false);
}

static void on_stream_closed(void *context) {
    stream_free(context);
}

void session_stream(struct request *request) {
    static const char ping[] = "event: ping\ndata: {\"type\":\"ping\"}\n\n";
    struct session *session = request->session;
    if (reply_injected(request, session, "stream")) {
        return;
    }
    struct stream *stream = memory_new(struct stream);
    stream->session = session;
    stream->exchange = request->exchange;
    LIST_INSERT_HEAD(&session->streams, stream, link);
    http_exchange_on_close(stream->exchange, on_stream_closed, stream);
    http_stream_begin(stream->exchange, "text/event-stream; charset=utf-8");
    http_stream_write(stream->exchange, ping, sizeof(ping) - 1);
}

void session_send(struct request *request) {
    struct session *session = request->session;
    if (reply_injected(request, session, "events")) {
        return;
    }
    struct json_object *events = json_get_array(request->body, "events");
    size_t count = events == NULL ? 0 : json_object_array_length(events);
    if (count == 0) {
        reply_error(request, 400, "events: must be an array with at least one event");
        return;
    }
    if (json_object_array_length(session->events) + count > EVENTS_LIMIT) {
        reply_error(request, 400, "a session has at most %d events", EVENTS_LIMIT);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const char *reason = runner_check_event(session, json_object_array_get_idx(events, i));
        if (reason != NULL) {
            runner_on_rejected(session, json_object_array_get_idx(events, i));
            session_save(session);
            reply_error(request, 400, "events.%zu: %s", i, reason);
            return;
        }
    }
    struct json_object *data = json_object_new_array();
    for (size_t i = 0; i < count; i++) {
        struct json_object *event = json_object_get(json_object_array_get_idx(events, i));
        json_object_object_del(event, "id");
        json_object_object_del(event, "processed_at");
        (void)session_emit(session, event, 0);
        runner_on_event(session, event);
        (void)json_object_array_add(data, json_object_get(event));
    }
    session_save(session);
    struct json_object *json = json_object_new_object();
    json_set(json, "data", data);
    reply(request, json);
}
