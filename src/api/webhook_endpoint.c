/* A table says what each event means to us; everything before it only judges. */
#include "api/webhook_endpoint.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "cma/work_queue.h"
#include "net/http_server.h"

#define LOG_ROOM "api"
#include "base/log.h"

enum {
    HEADERS_LIMIT = 16 * 1024,
    REQUEST_TIMEOUT_MS = 10 * 1000,
    CONNECTIONS_LIMIT = 256,
    CONNECTIONS_PER_PEER_LIMIT = 128, /* a proxy is one peer */
    REFUSAL_LOG_MS = 1000,
};

struct webhook_endpoint {
    struct webhook_endpoint_options options;
    struct loop *loop;
    struct http_server *server;
    struct loop_timer *refusal_log; /* armed: a line was written less than a second ago */
    size_t unlogged_refusals;
};

enum meaning { MEANING_NONE, MEANING_WORK, MEANING_SESSION_ENDED };

static const struct {
    const char *type;
    enum meaning meaning;
} meanings[] = {
    {"session.status_run_started", MEANING_WORK},
    {"session.status_rescheduled", MEANING_WORK}, /* its item is queued again */
    {"session.status_terminated", MEANING_SESSION_ENDED},
    {"session.archived", MEANING_SESSION_ENDED},
    {"session.deleted", MEANING_SESSION_ENDED},
};

static enum meaning meaning_of(const char *type) {
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (strcmp(meanings[i].type, type) == 0) {
            return meanings[i].meaning;
        }
    }
    return MEANING_NONE;
}

/* Answers with a status and nothing else. Deliveries are rare, and one that is sent on an old
 * connection while the daemon leaves would be lost: each has a connection of its own. */
static void reply(struct http_exchange *take_exchange, int status) {
    http_exchange_add_header(take_exchange, "connection", "close");
    http_reply_bytes(take_exchange, status, NULL, NULL, 0);
}

/* A stranger must not be able to fill the log. */
static void log_refusal(struct webhook_endpoint *endpoint, const char *peer, const char *why) {
    if (loop_timer_is_armed(endpoint->refusal_log)) {
        endpoint->unlogged_refusals++;
        return;
    }
    log_warn("refused a delivery from %s: %s", peer, why);
    loop_timer_arm(endpoint->refusal_log, REFUSAL_LOG_MS);
}

static void on_refusal_log(void *context) {
    struct webhook_endpoint *endpoint = context;
    if (endpoint->unlogged_refusals > 0) {
        log_warn("refused %zu more deliveries", endpoint->unlogged_refusals);
        endpoint->unlogged_refusals = 0;
        loop_timer_arm(endpoint->refusal_log, REFUSAL_LOG_MS);
    }
}

/*
 * What decides must be there once: of two headers a proxy before us may have judged the other one.
 * The same holds for the two ways to say how long the body is.
 */
static bool is_ambiguous(const struct http_exchange *exchange) {
    static const char *const names[] = {"webhook-id", "webhook-timestamp", "webhook-signature",
                                        "content-length", "transfer-encoding"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (http_exchange_header_count(exchange, names[i]) > 1) {
            return true;
        }
    }
    return http_exchange_header(exchange, "content-length") != NULL &&
           http_exchange_header(exchange, "transfer-encoding") != NULL;
}

static bool is_genuine(struct webhook_endpoint *endpoint, const struct http_exchange *exchange,
                       const struct webhook_delivery *delivery) {
    const char *peer = http_exchange_peer(exchange);
    if (is_ambiguous(exchange)) {
        log_refusal(endpoint, peer, "ambiguous headers");
        return false;
    }
    enum webhook_verdict verdict =
        webhook_verify(endpoint->options.secrets, delivery, clock_wall_ms() / 1000);
    if (verdict != WEBHOOK_GENUINE) {
        log_refusal(endpoint, peer, webhook_verdict_name(verdict));
    }
    return verdict == WEBHOOK_GENUINE;
}

static void act(struct webhook_endpoint *endpoint, enum meaning meaning, const char *session_id) {
    switch (meaning) {
    case MEANING_WORK:
        endpoint->options.wake(endpoint->options.context);
        return;
    case MEANING_SESSION_ENDED:
        endpoint->options.session_ended(endpoint->options.context, session_id);
        return;
    case MEANING_NONE:
        return;
    }
}

/* A header's text is gone once the exchange has ended: `webhook_id` is the caller's copy. */
static void take_event(struct webhook_endpoint *endpoint, struct http_exchange *take_exchange,
                       const char *webhook_id, const struct webhook_event *event) {
    CLEANUP_ERROR struct error *error = NULL;
    enum meaning meaning = meaning_of(event->type);
    if (meaning == MEANING_SESSION_ENDED && !work_id_is_valid(event->object_id)) {
        log_warn("delivery %s: %s without a valid session id: ignored", webhook_id, event->type);
        meaning = MEANING_NONE;
    }
    if (meaning == MEANING_NONE) {
        log_debug("delivery %s: %s: not of use", webhook_id, event->type);
        reply(take_exchange, 200);
        return;
    }
    bool is_new = true;
    (void)FAULT_FAILS("webhook.note.before");
    if (!endpoint->options.note(endpoint->options.context, webhook_id, clock_wall_ms(), &is_new,
                                &error)) {
        CLEANUP_FREE char *text = error_text(error);
        log_error("delivery %s cannot be noted, and is asked for again: %s", webhook_id, text);
        is_new = true;
        reply(take_exchange, 503);
    } else {
        (void)FAULT_FAILS("webhook.note.after");
        reply(take_exchange, 200);
    }
    log_debug("delivery %s: %s %s%s", webhook_id, event->type, event->object_id,
              is_new ? "" : ": seen before");
    /* One that was noted but not acted upon, because we died in between, comes again. That a
     * session is over may be said twice; to look for work we did when we started. */
    if (is_new || meaning == MEANING_SESSION_ENDED) {
        act(endpoint, meaning, event->object_id);
    }
}

static void take_delivery(struct webhook_endpoint *endpoint, struct http_exchange *take_exchange) {
    struct webhook_delivery delivery = {
        .id = http_exchange_header(take_exchange, "webhook-id"),
        .timestamp = http_exchange_header(take_exchange, "webhook-timestamp"),
        .signature = http_exchange_header(take_exchange, "webhook-signature"),
    };
    delivery.body = http_exchange_body(take_exchange, &delivery.body_length);
    if (!is_genuine(endpoint, take_exchange, &delivery)) {
        reply(take_exchange, 401);
        return;
    }
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_FREE char *webhook_id = memory_string(delivery.id);
    struct webhook_event event = {NULL, NULL};
    if (!webhook_event_parse(delivery.body, delivery.body_length, &event, &error)) {
        /* The control plane's own words: sending them again would not make them clearer. */
        CLEANUP_FREE char *text = error_text(error);
        log_warn("delivery %s is no event and was ignored: %s", webhook_id, text);
        reply(take_exchange, 200);
        return;
    }
    take_event(endpoint, take_exchange, webhook_id, &event);
    webhook_event_free(&event);
}

static void on_request(void *context, struct http_exchange *exchange) {
    struct webhook_endpoint *endpoint = context;
    if (strcmp(http_exchange_path(exchange), "/webhook") != 0) {
        reply(exchange, 404);
    } else if (strcmp(http_exchange_method(exchange), "POST") != 0) {
        http_exchange_add_header(exchange, "allow", "POST");
        reply(exchange, 405);
    } else {
        take_delivery(endpoint, exchange);
    }
}

struct webhook_endpoint *webhook_endpoint_new(struct loop *loop,
                                              const struct webhook_endpoint_options *options,
                                              struct error **error) {
    struct webhook_endpoint *endpoint = memory_new(struct webhook_endpoint);
    endpoint->options = *options;
    endpoint->loop = loop;
    endpoint->refusal_log = loop_timer_new(loop, on_refusal_log, endpoint);
    endpoint->server = http_server_new(loop,
                                       &(struct http_server_options){
                                           .address = options->address,
                                           .port = options->port,
                                           .is_handed_over = options->is_handed_over,
                                           .listen_fd = options->listen_fd,
                                           .tls = options->tls,
                                           .headers_limit = HEADERS_LIMIT,
                                           .body_limit = WEBHOOK_BODY_LIMIT,
                                           .idle_timeout_ms = REQUEST_TIMEOUT_MS,
                                           .request_timeout_ms = REQUEST_TIMEOUT_MS,
                                           .connections_limit = CONNECTIONS_LIMIT,
                                           .connections_per_peer_limit = CONNECTIONS_PER_PEER_LIMIT,
                                           .handle = on_request,
                                           .context = endpoint,
                                       },
                                       error);
    if (endpoint->server == NULL) {
        webhook_endpoint_free(endpoint);
        return NULL;
    }
    return endpoint;
}

char *webhook_endpoint_address(const struct webhook_endpoint *endpoint) {
    return http_server_address(endpoint->server);
}

void webhook_endpoint_set_secrets(struct webhook_endpoint *endpoint,
                                  const struct webhook_secrets *secrets) {
    endpoint->options.secrets = secrets;
}

void webhook_endpoint_set_accepting(struct webhook_endpoint *endpoint, bool is_accepting) {
    http_server_set_accepting(endpoint->server, is_accepting);
}

size_t webhook_endpoint_connection_count(struct webhook_endpoint *endpoint) {
    return http_server_connection_count(endpoint->server);
}

void webhook_endpoint_free(struct webhook_endpoint *take_endpoint) {
    if (take_endpoint == NULL) {
        return;
    }
    http_server_free(take_endpoint->server);
    loop_timer_free(take_endpoint->refusal_log);
    free(take_endpoint);
}
