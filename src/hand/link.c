/* A table of frame types, a bounded queue, and no blocking call. */
#include "hand/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/memory.h"
#include "base/random.h"
#include "hand/frames.h"

enum { READ_SIZE = 64 * 1024, READS_PER_STEP = 64 };

struct turn {
    struct link *link;
    struct calls *calls;
    size_t frame_bytes;
    bool *shutdown;
};

void link_init(struct link *link) {
    *link = (struct link){.fd = -1, .incarnation = random_id("")};
}

void link_close(struct link *link) {
    cleanup_close_fd(&link->fd);
    link->fd = -1;
    link->is_configured = false;
    link->is_closing = false;
    buffer_free(&link->in);
    buffer_free(&link->out);
    link->sent = 0;
}

void link_attach(struct link *link, int take_fd, struct calls *calls) {
    link_close(link);
    (void)io_set_nonblocking(take_fd, true, NULL);
    link->fd = take_fd;
    calls_forget_sent(calls);
}

static void send_frame(struct link *link, struct json_object *take_frame) {
    frame_append(&link->out, take_frame);
    json_object_put(take_frame);
}

/* "ready" or "state": what hand holds. */
static struct json_object *describe(const struct calls *calls, const char *type) {
    struct json_object *frame = json_object_new_object();
    json_set_string(frame, "type", type);
    json_set(frame, "running", calls_running(calls));
    json_set(frame, "finished", calls_finished(calls));
    return frame;
}

static bool handle_configure(struct turn *turn, struct json_object *frame, struct error **error) {
    if (!calls_configure(turn->calls, frame, error)) {
        return false;
    }
    turn->link->is_configured = true;
    struct json_object *ready = describe(turn->calls, "ready");
    json_set_string(ready, "version", HOLT_VERSION);
    json_set_string(ready, "incarnation", turn->link->incarnation);
    send_frame(turn->link, ready);
    return true;
}

static bool handle_call(struct turn *turn, struct json_object *frame, struct error **error) {
    return calls_add(turn->calls, frame, turn->frame_bytes, error);
}

static bool handle_cancel(struct turn *turn, struct json_object *frame, struct error **error) {
    (void)error;
    const char *id = json_get_string(frame, "id");
    calls_cancel(turn->calls, id == NULL ? "" : id);
    return true;
}

static bool handle_ack(struct turn *turn, struct json_object *frame, struct error **error) {
    (void)error;
    const char *id = json_get_string(frame, "id");
    calls_acknowledge(turn->calls, id == NULL ? "" : id);
    return true;
}

static bool handle_list(struct turn *turn, struct json_object *frame, struct error **error) {
    (void)frame;
    (void)error;
    send_frame(turn->link, describe(turn->calls, "state"));
    return true;
}

static bool handle_shutdown(struct turn *turn, struct json_object *frame, struct error **error) {
    (void)frame;
    (void)error;
    *turn->shutdown = true;
    return true;
}

static const struct handler {
    const char *type;
    bool (*handle)(struct turn *turn, struct json_object *frame, struct error **error);
    bool needs_configure;
} handlers[] = {
    {"configure", handle_configure, false},
    {"call", handle_call, true},
    {"cancel", handle_cancel, true},
    {"ack", handle_ack, true},
    {"list", handle_list, true},
    {"shutdown", handle_shutdown, false},
};

static bool dispatch(struct turn *turn, struct json_object *frame, struct error **error) {
    const char *type = json_get_string(frame, "type");
    for (size_t i = 0; i < sizeof(handlers) / sizeof(handlers[0]); i++) {
        if (strcmp(handlers[i].type, type) == 0) {
            return !handlers[i].needs_configure || turn->link->is_configured
                       ? handlers[i].handle(turn, frame, error)
                       : error_set(error, ERROR_PROTOCOL, "%s before configure", type);
        }
    }
    return error_set(error, ERROR_PROTOCOL, "unknown frame type");
}

/* Says why, and ends the connection when that is written. */
static void refuse(struct link *link, const struct error *error) {
    CLEANUP_FREE char *text = error_text(error);
    struct json_object *frame = json_object_new_object();
    json_set_string(frame, "type", "error");
    json_set_string(frame, "message", text);
    send_frame(link, frame);
    buffer_free(&link->in);
    link->is_closing = true;
}

static void take_frames(struct turn *turn) {
    struct link *link = turn->link;
    while (!link->is_closing && !*turn->shutdown) {
        CLEANUP_ERROR struct error *error = NULL;
        CLEANUP_JSON struct json_object *frame = NULL;
        size_t before = link->in.length;
        enum frame_status status = frame_take(&link->in, &frame, &error);
        if (status == FRAME_INCOMPLETE) {
            return;
        }
        turn->frame_bytes = before - link->in.length;
        if (status == FRAME_INVALID || !dispatch(turn, frame, &error)) {
            refuse(link, error);
        }
    }
}

/* False when the peer is gone. */
static bool read_socket(struct turn *turn) {
    struct link *link = turn->link;
    for (int i = 0; i < READS_PER_STEP && !link->is_closing && link->out.length < LINK_QUEUE_LIMIT;
         i++) {
        char *space = buffer_reserve(&link->in, READ_SIZE);
        ssize_t length = recv(link->fd, space, READ_SIZE, 0);
        if (length < 0 && (errno == EAGAIN || errno == EINTR)) {
            return true;
        }
        if (length <= 0) {
            return false;
        }
        link->in.length += (size_t)length;
        link->in.data[link->in.length] = 0;
        take_frames(turn);
    }
    return true;
}

static bool write_socket(struct link *link) {
    while (link->sent < link->out.length) {
        ssize_t length = send(link->fd, link->out.data + link->sent, link->out.length - link->sent,
                              MSG_NOSIGNAL);
        if (length < 0 && errno == EINTR) {
            continue;
        }
        if (length < 0 && errno == EAGAIN) {
            return true;
        }
        if (length < 0) {
            return false;
        }
        link->sent += (size_t)length;
    }
    buffer_free(&link->out);
    link->sent = 0;
    return !link->is_closing;
}

short link_poll_events(const struct link *link) {
    int events = link->out.length > 0 ? POLLOUT : 0;
    if (!link->is_closing && link->out.length < LINK_QUEUE_LIMIT) {
        events |= POLLIN;
    }
    return (short)events;
}

void link_step(struct link *link, struct calls *calls, bool *shutdown) {
    if (link->fd < 0) {
        return;
    }
    struct turn turn = {.link = link, .calls = calls, .shutdown = shutdown};
    if (!read_socket(&turn)) {
        link_close(link);
        return;
    }
    calls_step(calls);
    while (link->is_configured && !link->is_closing && link->out.length < LINK_QUEUE_LIMIT) {
        struct json_object *frame = calls_next_result(calls);
        if (frame == NULL) {
            break;
        }
        send_frame(link, frame);
    }
    if (!write_socket(link)) {
        link_close(link);
    }
}
