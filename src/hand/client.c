/* The daemon's side of a connection to one `hand`: what hand says is foreign input. */
#include "hand/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/io.h"
#include "base/memory.h"
#include "base/random.h"
#include "hand/frames.h"
#include "tools/operations.h"

enum {
    READ_CHUNK = 65536,
    OUTPUT_LIMIT = 64 * 1024 * 1024, /* unread by hand: it is stuck or hostile */
    BLOCKS_LIMIT = 64,
    INCARNATION_LIMIT = 64,
    /* What of our own operations is with hand at a time, so that hand never refuses one. */
    REQUESTS_LIMIT = 8,
    REQUEST_BYTES_LIMIT = 44 * 1024 * 1024,
    /* Beyond its deadline: hand has to write the answer, and we to read it. */
    REQUEST_GRACE_MS = 60000,
};

/* No call of the control plane has such an id: its ids are its own, and these random. */
#define REQUEST_ID_PREFIX "holt-operation-"

struct hand_request {
    struct hand_client *client;
    struct hand_request_options options; /* `name` and `input` are not used any more */
    char *id;
    struct json_object *message; /* the call frame until it is sent */
    size_t bytes;                /* of the message, about */
    struct loop_timer *timer;    /* armed when it is sent */
    bool is_sent;
    TAILQ_ENTRY(hand_request) link;
};
TAILQ_HEAD(request_list, hand_request);

struct hand_client {
    int fd;
    struct loop *loop;
    struct loop_watch *watch;
    struct loop_timer *fail_timer; /* reports a failure from the loop, never from inside a call */
    struct hand_events events;
    void *context;
    struct buffer in;
    struct buffer out;
    struct json_object *in_flight; /* object: id -> true */
    struct request_list requests;  /* in order of their start */
    size_t sent_requests, sent_bytes;
    struct error *failure;
    bool is_closed_told;
    bool is_freed; /* by a callback of ours, which is still on the stack */
    unsigned depth;
};

static void free_request(struct hand_request *request) {
    struct hand_client *client = request->client;
    TAILQ_REMOVE(&client->requests, request, link);
    if (request->is_sent) {
        client->sent_requests--;
        client->sent_bytes -= request->bytes;
    }
    if (request->options.release != NULL) {
        request->options.release(request->options.context);
    }
    loop_timer_free(request->timer);
    json_object_put(request->message);
    free(request->id);
    free(request);
}

static void free_requests(struct hand_client *client) {
    while (!TAILQ_EMPTY(&client->requests)) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): TAILQ_REMOVE confuses it */
        free_request(TAILQ_FIRST(&client->requests));
    }
}

static void release(struct hand_client *client) {
    loop_watch_free(client->watch);
    loop_timer_free(client->fail_timer);
    (void)close(client->fd);
    buffer_free(&client->in);
    buffer_free(&client->out);
    json_object_put(client->in_flight);
    error_free(client->failure);
    free(client);
}

/* The end of a callback that may have freed the client. */
static void leave(struct hand_client *client) {
    client->depth--;
    if (client->is_freed && client->depth == 0) {
        release(client);
    }
}

/* Stops the traffic and lets the loop report why; `error` is taken. */
static void fail(struct hand_client *client, struct error *take_error) {
    if (client->failure != NULL) {
        error_free(take_error);
        return;
    }
    client->failure = take_error;
    loop_watch_set_events(client->watch, 0);
    loop_timer_arm(client->fail_timer, 0);
}

/* Tells the owner of a request how it ended. The client may be freed by it. */
static void conclude(struct hand_request *request, bool is_error, struct json_object *content,
                     const struct error *error) {
    struct hand_request_options options = request->options;
    request->options.release = NULL; /* not before `done` */
    free_request(request);
    options.done(options.context, is_error, content, error);
    if (options.release != NULL) {
        options.release(options.context);
    }
}

/* Requests first: whoever frees the client on `closed` has heard of all of them. */
static void on_fail_timer(void *context) {
    struct hand_client *client = context;
    struct hand_request *request = NULL;
    size_t count = 0;
    TAILQ_FOREACH(request, &client->requests, link) {
        count++; /* one that is started by a callback waits for the next turn */
    }
    client->depth++;
    for (; count > 0 && !client->is_freed && !TAILQ_EMPTY(&client->requests); count--) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): TAILQ_REMOVE confuses it */
        conclude(TAILQ_FIRST(&client->requests), true, NULL, client->failure);
    }
    if (!client->is_freed && !client->is_closed_told) {
        client->is_closed_told = true;
        client->events.closed(client->context, client->failure);
    }
    leave(client);
}

static void flush(struct hand_client *client) {
    while (client->out.length > 0 && client->failure == NULL) {
        ssize_t sent =
            send(client->fd, client->out.data, client->out.length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent < 0 && errno != EAGAIN) {
            struct error *error = NULL;
            (void)error_set_errno(&error, errno, "cannot write to hand");
            fail(client, error);
            return;
        }
        if (sent < 0) {
            break;
        }
        buffer_consume(&client->out, (size_t)sent);
    }
    if (client->out.length == 0) {
        buffer_free(&client->out);
    }
    if (client->failure == NULL) {
        loop_watch_set_events(client->watch, client->out.length > 0
                                                 ? (unsigned)(LOOP_READ | LOOP_WRITE)
                                                 : (unsigned)LOOP_READ);
    }
}

static void send_message(struct hand_client *client, struct json_object *take_message) {
    CLEANUP_JSON struct json_object *message = take_message;
    if (client->failure != NULL) {
        return;
    }
    frame_append(&client->out, message);
    if (client->out.length > OUTPUT_LIMIT) {
        struct error *error = NULL;
        (void)error_set(&error, ERROR_LIMIT, "hand does not read");
        fail(client, error);
        return;
    }
    flush(client);
}

static struct json_object *new_message(const char *type) {
    struct json_object *message = json_object_new_object();
    json_set_string(message, "type", type);
    return message;
}

/* Sends what fits: hand has few of ours at a time, and never too many bytes. */
static void send_requests(struct hand_client *client) {
    struct hand_request *request = NULL;
    TAILQ_FOREACH(request, &client->requests, link) {
        if (client->failure != NULL || client->sent_requests >= REQUESTS_LIMIT ||
            (client->sent_requests > 0 &&
             client->sent_bytes + request->bytes > REQUEST_BYTES_LIMIT)) {
            return;
        }
        if (!request->is_sent) {
            request->is_sent = true;
            client->sent_requests++;
            client->sent_bytes += request->bytes;
            loop_timer_arm(request->timer, request->options.deadline_ms + REQUEST_GRACE_MS);
            send_message(client, STEAL_PTR(request->message));
        }
    }
}

static void send_with_id(struct hand_client *client, const char *type, const char *id) {
    struct json_object *message = new_message(type);
    json_set_string(message, "id", id);
    send_message(client, message);
}

/* Content that may go on to the control plane: text, image and document blocks only. */
static bool is_content(struct json_object *content) {
    static const char *const types[] = {"text", "image", "document"};
    size_t count = content == NULL ? 0 : json_object_array_length(content);
    if (count == 0 || count > BLOCKS_LIMIT) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        struct json_object *block = json_object_array_get_idx(content, i);
        const char *type = json_get_string(block, "type");
        bool is_known = false;
        for (size_t j = 0; type != NULL && j < sizeof(types) / sizeof(types[0]); j++) {
            is_known |= strcmp(type, types[j]) == 0;
        }
        if (!is_known || (strcmp(type, "text") == 0 ? json_get_string(block, "text") == NULL
                                                    : json_get_object(block, "source") == NULL)) {
            return false;
        }
    }
    return true;
}

static bool is_operation_id(const char *id) {
    return strncmp(id, REQUEST_ID_PREFIX, sizeof(REQUEST_ID_PREFIX) - 1) == 0;
}

/* Operations of a client before this one: nobody waits for them, and nobody is to hear of them. */
static void drop_operations(struct hand_client *client, struct json_object *ids, const char *type) {
    for (size_t i = json_object_array_length(ids); i-- > 0;) {
        struct json_object *id = json_object_array_get_idx(ids, i);
        if (json_object_is_type(id, json_type_string) &&
            is_operation_id(json_object_get_string(id))) {
            send_with_id(client, type, json_object_get_string(id));
            (void)json_object_array_del_idx(ids, i, 1);
        }
    }
}

static bool on_ready(struct hand_client *client, struct json_object *message) {
    const char *incarnation = json_get_string(message, "incarnation");
    struct json_object *running = json_get_array(message, "running");
    struct json_object *finished = json_get_array(message, "finished");
    if (incarnation == NULL || strnlen(incarnation, INCARNATION_LIMIT + 1) > INCARNATION_LIMIT ||
        running == NULL || finished == NULL) {
        return false;
    }
    drop_operations(client, running, "cancel");
    drop_operations(client, finished, "ack");
    client->events.ready(client->context, incarnation, running, finished);
    return true;
}

static void take_operation_result(struct hand_client *client, const char *id, bool is_error,
                                  struct json_object *content) {
    send_with_id(client, "ack", id); /* also of one that was cancelled */
    struct hand_request *request = NULL;
    TAILQ_FOREACH(request, &client->requests, link) {
        if (request->is_sent && strcmp(request->id, id) == 0) {
            conclude(request, is_error, content, NULL);
            break;
        }
    }
    if (!client->is_freed) {
        send_requests(client);
    }
}

static bool on_result(struct hand_client *client, struct json_object *message) {
    const char *id = json_get_string(message, "id");
    struct json_object *content = json_get_array(message, "content");
    struct json_object *is_error = json_get(message, "is_error");
    if (id == NULL || !is_content(content) || is_error == NULL ||
        !json_object_is_type(is_error, json_type_boolean)) {
        return false;
    }
    if (is_operation_id(id)) {
        take_operation_result(client, id, json_object_get_boolean(is_error), content);
        return true;
    }
    if (!json_object_object_get_ex(client->in_flight, id, NULL)) {
        return true; /* not a call of this connection, or answered before: of no interest */
    }
    CLEANUP_FREE char *known_id = memory_string(id);
    json_object_object_del(client->in_flight, known_id);
    client->events.result(client->context, known_id, json_object_get_boolean(is_error), content,
                          json_get_int(message, "duration_us", 0));
    return true;
}

static bool on_state(struct hand_client *client, struct json_object *message) {
    (void)client;
    return json_get_array(message, "running") != NULL;
}

static void take_message(struct hand_client *client, struct json_object *message) {
    static const struct {
        const char *type;
        bool (*handle)(struct hand_client *client, struct json_object *message);
    } table[] = {{"ready", on_ready}, {"result", on_result}, {"state", on_state}};
    const char *type = json_get_string(message, "type");
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(type, table[i].type) == 0 && table[i].handle(client, message)) {
            return;
        }
    }
    struct error *error = NULL;
    const char *said = strcmp(type, "error") == 0 ? json_get_string(message, "message") : NULL;
    (void)error_set(&error, ERROR_PROTOCOL, "hand sent a bad %.32s frame%s%.200s", type,
                    said == NULL ? "" : ": ", said == NULL ? "" : said);
    if (!client->is_freed) {
        fail(client, error);
    } else {
        error_free(error);
    }
}

static void take_frames(struct hand_client *client) {
    while (client->failure == NULL && !client->is_freed) {
        CLEANUP_JSON struct json_object *message = NULL;
        CLEANUP_ERROR struct error *error = NULL;
        enum frame_status status = frame_take(&client->in, &message, &error);
        if (status == FRAME_INCOMPLETE) {
            break;
        }
        if (status == FRAME_INVALID) {
            fail(client, STEAL_PTR(error));
            break;
        }
        take_message(client, message);
    }
}

static void on_socket(void *context, unsigned events) {
    struct hand_client *client = context;
    if ((events & LOOP_WRITE) != 0) {
        flush(client);
    }
    if ((events & LOOP_READ) == 0 || client->failure != NULL) {
        return;
    }
    char bytes[READ_CHUNK];
    ssize_t got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0) {
        struct error *error = NULL;
        if (got < 0) {
            (void)error_set_errno(&error, errno, "cannot read from hand");
        } else {
            (void)error_set(&error, ERROR_UNAVAILABLE, "hand closed the connection");
        }
        fail(client, error);
        return;
    }
    buffer_append(&client->in, bytes, (size_t)got);
    client->depth++;
    take_frames(client);
    if (client->in.length == 0) {
        buffer_free(&client->in); /* most sessions are idle most of the time, and there are many */
    }
    leave(client);
}

static struct json_object *strings(const char *const *texts) {
    struct json_object *array = json_object_new_array();
    for (; texts != NULL && *texts != NULL; texts++) {
        (void)json_object_array_add(array, json_object_new_string(*texts));
    }
    return array;
}

struct hand_client *hand_client_new(struct loop *loop, int take_fd,
                                    const struct hand_configuration *configuration,
                                    const struct hand_events *events, void *context) {
    struct hand_client *client = memory_new(struct hand_client);
    client->fd = take_fd;
    client->events = *events;
    client->context = context;
    client->loop = loop;
    TAILQ_INIT(&client->requests);
    client->in_flight = json_object_new_object();
    client->fail_timer = loop_timer_new(loop, on_fail_timer, client);
    client->watch = loop_watch_new(loop, take_fd, LOOP_READ, on_socket, client);
    struct json_object *message = new_message("configure");
    json_set_string(message, "workdir", configuration->workdir);
    json_set(message, "allowed_roots", strings(configuration->allowed_roots));
    json_set(message, "read_only_roots", strings(configuration->read_only_roots));
    json_set(message, "max_file_bytes",
             configuration->max_file_bytes < 0
                 ? NULL
                 : json_object_new_int64(configuration->max_file_bytes));
    json_set_bool(message, "read_media", configuration->read_media);
    json_set(message, "env", json_object_get(configuration->environment));
    send_message(client, message);
    return client;
}

static struct json_object *new_call(const char *id, const char *name, struct json_object *input,
                                    int64_t deadline_ms) {
    struct json_object *message = new_message("call");
    json_set_string(message, "id", id);
    json_set_string(message, "name", name);
    json_set(message, "input", json_object_get(input));
    json_set_int(message, "deadline_ms", deadline_ms);
    return message;
}

void hand_client_call(struct hand_client *client, const char *id, const char *name,
                      struct json_object *input, int64_t deadline_ms) {
    /* The operations are ours alone: by this way hand knows no tool of such a name. */
    bool is_ours = strncmp(name, OPERATION_PREFIX, sizeof(OPERATION_PREFIX) - 1) == 0;
    json_set_bool(client->in_flight, id, true);
    send_message(client, new_call(id, is_ours ? "" : name, input, deadline_ms));
}

void hand_client_run(struct hand_client *client, const char *id, struct json_object *input,
                     int64_t deadline_ms) {
    json_set_bool(client->in_flight, id, true);
    send_message(client, new_call(id, OPERATION_PREFIX "run", input, deadline_ms));
}

/* hand owes an answer for longer than it may take. */
static void on_request_timer(void *context) {
    struct hand_request *request = context;
    struct hand_client *client = request->client;
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set(&error, ERROR_TIMEOUT, "hand did not answer in time");
    client->depth++;
    send_with_id(client, "cancel", request->id);
    conclude(request, true, NULL, error);
    if (!client->is_freed) {
        send_requests(client);
    }
    leave(client);
}

struct hand_request *hand_client_request(struct hand_client *client,
                                         const struct hand_request_options *options) {
    struct hand_request *request = memory_new(struct hand_request);
    request->client = client;
    request->options = *options;
    request->id = random_id(REQUEST_ID_PREFIX);
    request->message = new_call(request->id, options->name, options->input, options->deadline_ms);
    (void)json_text(request->message, &request->bytes);
    request->timer = loop_timer_new(client->loop, on_request_timer, request);
    TAILQ_INSERT_TAIL(&client->requests, request, link);
    if (client->failure != NULL) {
        loop_timer_arm(client->fail_timer, 0);
    } else {
        send_requests(client);
    }
    return request;
}

void hand_request_cancel(struct hand_request *take_request) {
    if (take_request == NULL) {
        return;
    }
    struct hand_client *client = take_request->client;
    if (take_request->is_sent) {
        send_with_id(client, "cancel", take_request->id);
    }
    free_request(take_request);
    send_requests(client);
}

void hand_client_cancel(struct hand_client *client, const char *id) {
    send_with_id(client, "cancel", id);
}

void hand_client_acknowledge(struct hand_client *client, const char *id) {
    send_with_id(client, "ack", id);
}

void hand_client_shutdown(struct hand_client *client) {
    send_message(client, new_message("shutdown"));
}

void hand_client_free(struct hand_client *take_client) {
    if (take_client == NULL) {
        return;
    }
    free_requests(take_client);
    if (take_client->depth > 0) {
        take_client->is_freed = true; /* on_socket releases when it is done with it */
        loop_timer_disarm(take_client->fail_timer);
        loop_watch_set_events(take_client->watch, 0);
        return;
    }
    release(take_client);
}
