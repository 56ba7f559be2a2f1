/* The work queue of a self-hosted environment: poll, acknowledge, stop. */
#include "cma/work_queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/memory.h"

enum { ID_LIMIT = 128, SECRET_LIMIT = 64 * 1024, STOP_RETRIES = 4, LOOK_TIMEOUT_MS = 10000 };

static void free_secret(char *take_text) {
    if (take_text != NULL) {
        memory_wipe(take_text, strlen(take_text));
        free(take_text);
    }
}

void work_item_free(struct work_item *take_item) {
    if (take_item == NULL) {
        return;
    }
    free(take_item->id);
    free(take_item->environment_id);
    free(take_item->session_id);
    free(take_item->api_base_url);
    free(take_item->last_heartbeat);
    free_secret(take_item->bearer);
    free_secret(take_item->secret);
    free_secret(take_item->text);
    free(take_item);
}

bool work_id_is_valid(const char *id) {
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length = strnlen(id, ID_LIMIT + 1);
    return length > 0 && length <= ID_LIMIT && strspn(id, allowed) == length;
}

bool work_secret_decode(const char *secret, char **bearer, char **api_base_url) {
    CLEANUP_BUFFER struct buffer text = BUFFER_EMPTY;
    CLEANUP_JSON struct json_object *object = NULL;
    size_t length = strnlen(secret, SECRET_LIMIT + 1);
    if (length > SECRET_LIMIT || !base64_decode(&text, secret, length)) {
        return false;
    }
    bool is_json = json_parse(buffer_string(&text), text.length, &object, NULL);
    memory_wipe(text.data, text.length);
    const char *token = is_json ? json_get_string(object, "sessions_token") : NULL;
    const char *url = json_get_string(object, "api_base_url");
    if (token == NULL || *token == '\0') {
        return false;
    }
    *bearer = memory_string(token);
    *api_base_url = url == NULL || *url == '\0' ? NULL : memory_string(url);
    return true;
}

/* A member that must be an id; NULL with *error otherwise. */
static char *take_id(struct json_object *object, const char *key, struct error **error) {
    const char *id = json_get_string(object, key);
    if (id == NULL || !work_id_is_valid(id)) {
        (void)error_set(error, ERROR_PROTOCOL, "a work item without a valid %s", key);
        return NULL;
    }
    return memory_string(id);
}

struct work_item *work_item_parse(struct json_object *object, struct error **error) {
    struct work_item *item = memory_new(struct work_item);
    struct json_object *data = json_get_object(object, "data");
    const char *data_type = json_get_string(data, "type");
    const char *secret = json_get_string(object, "secret");
    bool is_session = data_type != NULL && strcmp(data_type, "session") == 0;
    item->id = take_id(object, "id", error);
    if (item->id != NULL) {
        item->environment_id = take_id(object, "environment_id", error);
    }
    if (item->environment_id != NULL && is_session) {
        item->session_id = take_id(data, "id", error);
    }
    if (item->environment_id == NULL || (is_session && item->session_id == NULL)) {
        work_item_free(item);
        return NULL;
    }
    if (secret != NULL) {
        item->secret = memory_string(secret);
        (void)work_secret_decode(secret, &item->bearer, &item->api_base_url);
    }
    item->text = memory_string(json_text(object, NULL));
    return item;
}

struct api_call *work_queue_poll(struct api *api, const char *environment_id, const char *worker_id,
                                 int64_t block_ms,
                                 void (*done)(void *context, const struct api_answer *answer),
                                 void *context) {
    CLEANUP_FREE char *path = memory_format("/v1/environments/%s/work/poll", environment_id);
    if (block_ms > 0) {
        char *blocking = memory_format("%s?block_ms=%lld", path, (long long)block_ms);
        free(path);
        path = blocking;
    }
    CLEANUP_FREE char *worker = memory_format("Anthropic-Worker-ID: %s", worker_id);
    const char *headers[] = {worker, NULL};
    return api_call_start(
        api,
        &(struct api_request){
            .method = "GET", .path = path, .headers = headers, .done = done, .context = context});
}

struct work_item *work_queue_polled(const struct api_answer *answer, struct error **error) {
    return answer->body == NULL ? NULL : work_item_parse(answer->body, error);
}

struct api_call *work_queue_look(struct api *api, const struct work_item *item,
                                 void (*done)(void *context, const struct api_answer *answer),
                                 void *context) {
    CLEANUP_FREE char *path =
        memory_format("/v1/environments/%s/work/%s", item->environment_id, item->id);
    return api_call_start(api, &(struct api_request){.method = "GET",
                                                     .path = path,
                                                     .timeout_ms = LOOK_TIMEOUT_MS,
                                                     .done = done,
                                                     .context = context});
}

struct api_call *work_queue_acknowledge(struct api *api, const struct work_item *item,
                                        void (*done)(void *context,
                                                     const struct api_answer *answer),
                                        void *context) {
    CLEANUP_FREE char *path =
        memory_format("/v1/environments/%s/work/%s/ack", item->environment_id, item->id);
    return api_call_start(api, &(struct api_request){.method = "POST",
                                                     .path = path,
                                                     .done = done,
                                                     .context = context,
                                                     .retries = API_RETRIES});
}

struct api_call *work_queue_get(struct api *api, const struct work_item *item,
                                void (*done)(void *context, const struct api_answer *answer),
                                void *context) {
    CLEANUP_FREE char *path =
        memory_format("/v1/environments/%s/work/%s", item->environment_id, item->id);
    return api_call_start(api, &(struct api_request){.method = "GET",
                                                     .path = path,
                                                     .done = done,
                                                     .context = context,
                                                     .retries = API_RETRIES});
}

struct api_call *work_queue_stop(struct api *api, const struct work_item *item,
                                 void (*done)(void *context, const struct api_answer *answer),
                                 void *context) {
    CLEANUP_JSON struct json_object *body = json_object_new_object();
    json_set_bool(body, "force", true);
    CLEANUP_FREE char *path =
        memory_format("/v1/environments/%s/work/%s/stop", item->environment_id, item->id);
    return api_call_start(api, &(struct api_request){.method = "POST",
                                                     .path = path,
                                                     .body = body,
                                                     .done = done,
                                                     .context = context,
                                                     .retries = STOP_RETRIES});
}
