/* Signed deliveries (Standard Webhooks) with retries; a delivery keeps its id over all of them. */
#include "emulator/internal.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "net/http_client.h"

#define LOG_ROOM "emulator"
#include "base/log.h"

enum {
    DELIVERIES_LIMIT = 1000,
    ATTEMPTS_LIMIT = 8,
    FIRST_RETRY_MS = 500,
    DELIVERY_TIMEOUT_MS = 10 * 1000,
    ANSWER_LIMIT_BYTES = 64 * 1024,
};

struct delivery {
    LIST_ENTRY(delivery) link;
    struct webhooks *webhooks;
    char *id;
    char *body;
    int attempts;
    struct loop_timer *timer;
};

struct webhooks {
    struct loop *loop;
    struct http_client *client;
    char *url;
    struct buffer key;
    size_t count;
    LIST_HEAD(, delivery) deliveries;
};

struct webhooks *webhooks_new(struct loop *loop, const char *url, const char *secret,
                              struct error **error) {
    static const char prefix[] = "whsec_";
    struct buffer key = BUFFER_EMPTY;
    if (secret == NULL || strncmp(secret, prefix, sizeof(prefix) - 1) != 0 ||
        !base64_decode(&key, secret + sizeof(prefix) - 1, strlen(secret) - sizeof(prefix) + 1)) {
        buffer_free(&key);
        (void)error_set(error, ERROR_INPUT, "the webhook secret must be whsec_ and base64");
        return NULL;
    }
    struct http_client *client = http_client_new(loop, error);
    if (client == NULL) {
        buffer_free(&key);
        return NULL;
    }
    struct webhooks *webhooks = memory_new(struct webhooks);
    webhooks->loop = loop;
    webhooks->client = client;
    webhooks->url = memory_string(url);
    webhooks->key = key;
    LIST_INIT(&webhooks->deliveries);
    return webhooks;
}

static void delivery_free(struct delivery *take_delivery) {
    take_delivery->webhooks->count--;
    LIST_REMOVE(take_delivery, link);
    loop_timer_free(take_delivery->timer);
    free(take_delivery->id);
    free(take_delivery->body);
    free(take_delivery);
}

void webhooks_free(struct webhooks *take_webhooks) {
    if (take_webhooks == NULL) {
        return;
    }
    http_client_free(take_webhooks->client);
    struct delivery *next = NULL;
    for (struct delivery *delivery = LIST_FIRST(&take_webhooks->deliveries); delivery != NULL;
         delivery = next) {
        next = LIST_NEXT(delivery, link);
        delivery_free(delivery);
    }
    memory_wipe(take_webhooks->key.data, take_webhooks->key.length);
    buffer_free(&take_webhooks->key);
    free(take_webhooks->url);
    free(take_webhooks);
}

static void on_done(void *context, const struct http_response *response) {
    struct delivery *delivery = context;
    if (response->status >= 200 && response->status < 300) {
        delivery_free(delivery);
        return;
    }
    if (delivery->attempts >= ATTEMPTS_LIMIT) {
        log_warn("webhook %s given up after %d attempts", delivery->id, delivery->attempts);
        delivery_free(delivery);
        return;
    }
    loop_timer_arm(delivery->timer, (int64_t)FIRST_RETRY_MS << (delivery->attempts - 1));
}

/* HMAC-SHA256 over id.timestamp.body. */
static char *sign(const struct webhooks *webhooks, const struct delivery *delivery,
                  const char *timestamp) {
    CLEANUP_FREE char *content = memory_format("%s.%s.%s", delivery->id, timestamp, delivery->body);
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    if (HMAC(EVP_sha256(), webhooks->key.data, (int)webhooks->key.length,
             (const unsigned char *)content, strlen(content), digest, &length) == NULL) {
        abort();
    }
    struct buffer signature = BUFFER_EMPTY;
    buffer_append_string(&signature, "webhook-signature: v1,");
    base64_encode(&signature, digest, length);
    return buffer_take_string(&signature);
}

static void attempt(void *context) {
    struct delivery *delivery = context;
    struct webhooks *webhooks = delivery->webhooks;
    CLEANUP_FREE char *timestamp = memory_format("%lld", (long long)(clock_wall_ms() / 1000));
    CLEANUP_FREE char *signature = sign(webhooks, delivery, timestamp);
    CLEANUP_FREE char *id_header = memory_format("webhook-id: %s", delivery->id);
    CLEANUP_FREE char *time_header = memory_format("webhook-timestamp: %s", timestamp);
    const char *const headers[] = {"content-type: application/json", id_header, time_header,
                                   signature, NULL};
    struct http_request_options options = {
        .method = "POST",
        .url = webhooks->url,
        .headers = headers,
        .body = delivery->body,
        .body_length = strlen(delivery->body),
        .timeout_ms = DELIVERY_TIMEOUT_MS,
        .response_limit = ANSWER_LIMIT_BYTES,
        .on_done = on_done,
        .context = delivery,
    };
    delivery->attempts++;
    (void)http_request_start(webhooks->client, &options);
}

void webhooks_send(struct webhooks *webhooks, const char *type, const char *session_id) {
    if (webhooks == NULL) {
        return;
    }
    if (webhooks->count >= DELIVERIES_LIMIT) {
        log_warn("a webhook was dropped: %d are waiting", DELIVERIES_LIMIT);
        return;
    }
    CLEANUP_FREE char *event_id = random_id("event_");
    CLEANUP_FREE char *now = now_text();
    struct json_object *data = json_object_new_object();
    json_set_string(data, "type", type);
    json_set_string(data, "id", session_id);
    json_set_string(data, "organization_id", "org_emulator");
    json_set_string(data, "workspace_id", "wrkspc_emulator");
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    json_set_string(body, "type", "event");
    json_set_string(body, "id", event_id);
    json_set_string(body, "created_at", now);
    json_set(body, "data", data);
    struct delivery *delivery = memory_new(struct delivery);
    delivery->webhooks = webhooks;
    delivery->id = random_id("msg_");
    delivery->body = memory_string(json_text(body, NULL));
    delivery->timer = loop_timer_new(webhooks->loop, attempt, delivery);
    LIST_INSERT_HEAD(&webhooks->deliveries, delivery, link);
    webhooks->count++;
    loop_timer_arm(delivery->timer, 0);
}
