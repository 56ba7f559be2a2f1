/* An item is in exactly one list: queued, leased, or none (stopped); every change of state goes
 * through move(). */
#include "emulator/queue.h"

#include <string.h>

#include "base/base64.h"
#include "base/memory.h"
#include "base/random.h"

static const char *const state_names[] = {
    [WORK_STATE_QUEUED] = "queued",   [WORK_STATE_STARTING] = "starting",
    [WORK_STATE_ACTIVE] = "active",   [WORK_STATE_STOPPING] = "stopping",
    [WORK_STATE_STOPPED] = "stopped",
};

const char *work_state_name(enum work_state state) {
    return state_names[state];
}

static struct work_list *list_of(struct work_queue *queue, enum work_state state) {
    switch (state) {
    case WORK_STATE_QUEUED:
        return &queue->queued;
    case WORK_STATE_STARTING:
    case WORK_STATE_ACTIVE:
    case WORK_STATE_STOPPING:
        return &queue->leased;
    case WORK_STATE_STOPPED:
        return NULL;
    }
    return NULL;
}

static void move(struct work_queue *queue, struct work_item *item, enum work_state state) {
    struct work_list *from = list_of(queue, item->state);
    struct work_list *to = list_of(queue, state);
    item->state = state;
    if (from == to) {
        return;
    }
    if (from != NULL) {
        TAILQ_REMOVE(from, item, link);
    }
    if (to != NULL) {
        TAILQ_INSERT_TAIL(to, item, link);
    }
}

void queue_init(struct work_queue *queue, int64_t ttl_ms) {
    TAILQ_INIT(&queue->queued);
    TAILQ_INIT(&queue->leased);
    queue->ttl_ms = ttl_ms;
}

static char *make_secret(const char *token) {
    CLEANUP_JSON struct json_object *payload = json_object_new_object();
    json_set_string(payload, "sessions_token", token);
    size_t length = 0;
    const char *text = json_text(payload, &length);
    struct buffer encoded = BUFFER_EMPTY;
    base64_encode(&encoded, text, length);
    while (encoded.length > 0 && encoded.data[encoded.length - 1] == '=') {
        buffer_truncate(&encoded, encoded.length - 1);
    }
    for (size_t i = 0; i < encoded.length; i++) {
        char *at = &encoded.data[i];
        *at = (char)(*at == '+' ? '-' : *at == '/' ? '_' : *at);
    }
    return buffer_take_string(&encoded);
}

struct work_item *queue_item_new(struct work_queue *queue, const char *session_id, int64_t now_ms) {
    struct work_item *item = memory_new(struct work_item);
    item->id = random_id("work_");
    item->session_id = memory_string(session_id);
    item->sessions_token = random_id("sk-ant-sst01-");
    item->secret = make_secret(item->sessions_token);
    item->state = WORK_STATE_QUEUED;
    item->created_ms = now_ms;
    item->metadata = json_object_new_object();
    TAILQ_INSERT_TAIL(&queue->queued, item, link);
    return item;
}

void queue_item_free(struct work_queue *queue, struct work_item *take_item) {
    if (take_item == NULL) {
        return;
    }
    struct work_list *list = list_of(queue, take_item->state);
    if (list != NULL) {
        TAILQ_REMOVE(list, take_item, link);
    }
    free(take_item->id);
    free(take_item->session_id);
    free(take_item->secret);
    free(take_item->sessions_token);
    json_object_put(take_item->metadata);
    free(take_item);
}

struct work_item *queue_poll(struct work_queue *queue, int64_t reclaim_ms, int64_t now_ms) {
    struct work_item *item = NULL;
    TAILQ_FOREACH(item, &queue->queued, link) {
        if (item->delivered_ms == 0 || now_ms - item->delivered_ms >= reclaim_ms) {
            item->delivered_ms = now_ms;
            /* To the end, so that the next poll does not walk over those that wait for an ack. */
            TAILQ_REMOVE(&queue->queued, item, link);
            TAILQ_INSERT_TAIL(&queue->queued, item, link);
            return item;
        }
    }
    return NULL;
}

int64_t queue_next_reclaim(const struct work_queue *queue, int64_t reclaim_ms) {
    int64_t next_ms = INT64_MAX;
    const struct work_item *item = NULL;
    TAILQ_FOREACH(item, &queue->queued, link) {
        int64_t at_ms = item->delivered_ms == 0 ? 0 : item->delivered_ms + reclaim_ms;
        next_ms = at_ms < next_ms ? at_ms : next_ms;
    }
    return next_ms;
}

enum work_result work_ack(struct work_queue *queue, struct work_item *item, int64_t now_ms) {
    if (item->state != WORK_STATE_QUEUED) {
        return WORK_CONFLICT;
    }
    item->acknowledged_ms = now_ms;
    item->heartbeat_ms = 0;
    item->ttl_ms = queue->ttl_ms;
    item->lease_until_ms = now_ms + item->ttl_ms;
    move(queue, item, WORK_STATE_STARTING);
    return WORK_OK;
}

static bool is_expected(const struct work_item *item, const char *expected) {
    if (expected == NULL) {
        return true;
    }
    if (item->heartbeat_ms == 0) {
        return strcmp(expected, "NO_HEARTBEAT") == 0;
    }
    char last[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(item->heartbeat_ms, last);
    return strcmp(expected, last) == 0;
}

enum work_result work_heartbeat(struct work_queue *queue, struct work_item *item,
                                const char *expected, int64_t desired_ttl_ms, int64_t now_ms) {
    if (item->state == WORK_STATE_QUEUED || !is_expected(item, expected)) {
        return WORK_PRECONDITION;
    }
    if (item->state == WORK_STATE_STOPPED) {
        return WORK_OK;
    }
    /* The timestamp is the lease's version: two beats within a millisecond must differ. */
    item->heartbeat_ms = now_ms > item->heartbeat_ms ? now_ms : item->heartbeat_ms + 1;
    item->ttl_ms = desired_ttl_ms > 0 ? desired_ttl_ms : queue->ttl_ms;
    item->lease_until_ms = now_ms + item->ttl_ms;
    if (item->state == WORK_STATE_STARTING) {
        item->started_ms = now_ms;
        move(queue, item, WORK_STATE_ACTIVE);
    }
    return WORK_OK;
}

enum work_result work_stop(struct work_queue *queue, struct work_item *item, bool force,
                           int64_t now_ms) {
    if (item->state == WORK_STATE_STOPPED) {
        return WORK_CONFLICT;
    }
    if (item->stop_requested_ms == 0) {
        item->stop_requested_ms = now_ms;
    }
    if (force || item->state == WORK_STATE_QUEUED) {
        item->stopped_ms = now_ms;
        move(queue, item, WORK_STATE_STOPPED);
    } else {
        move(queue, item, WORK_STATE_STOPPING);
    }
    return WORK_OK;
}

bool work_lapse(struct work_queue *queue, struct work_item *item, int64_t now_ms) {
    if (list_of(queue, item->state) != &queue->leased) {
        return false;
    }
    if (item->state == WORK_STATE_STOPPING) {
        item->stopped_ms = now_ms;
        move(queue, item, WORK_STATE_STOPPED);
        return true;
    }
    item->delivered_ms = 0;
    item->acknowledged_ms = 0;
    item->started_ms = 0;
    item->heartbeat_ms = 0;
    item->lease_until_ms = 0;
    move(queue, item, WORK_STATE_QUEUED);
    return true;
}

void queue_expire(struct work_queue *queue, int64_t now_ms,
                  void (*changed)(void *context, struct work_item *item), void *context) {
    struct work_item *item = TAILQ_FIRST(&queue->leased);
    while (item != NULL) {
        struct work_item *next = TAILQ_NEXT(item, link);
        if (item->lease_until_ms <= now_ms && work_lapse(queue, item, now_ms)) {
            changed(context, item);
        }
        item = next;
    }
}

static void set_time(struct json_object *object, const char *key, int64_t time_ms) {
    if (time_ms == 0) {
        json_set(object, key, NULL);
        return;
    }
    char text[CLOCK_TIMESTAMP_SIZE];
    clock_format_rfc3339(time_ms, text);
    json_set_string(object, key, text);
}

struct json_object *queue_item_json(const struct work_item *item, const char *environment_id) {
    struct json_object *data = json_object_new_object();
    json_set_string(data, "type", "session");
    json_set_string(data, "id", item->session_id);
    struct json_object *json = json_object_new_object();
    json_set_string(json, "type", "work");
    json_set_string(json, "id", item->id);
    json_set_string(json, "environment_id", environment_id);
    json_set(json, "data", data);
    json_set_string(json, "state", work_state_name(item->state));
    set_time(json, "created_at", item->created_ms);
    set_time(json, "acknowledged_at", item->acknowledged_ms);
    set_time(json, "started_at", item->started_ms);
    set_time(json, "latest_heartbeat_at", item->heartbeat_ms);
    set_time(json, "stop_requested_at", item->stop_requested_ms);
    set_time(json, "stopped_at", item->stopped_ms);
    json_set(json, "metadata", json_object_get(item->metadata));
    json_set(json, "secret", NULL); /* only the answer of a poll carries it */
    return json;
}

struct json_object *work_lease_json(const struct work_item *item, bool is_extended) {
    struct json_object *json = json_object_new_object();
    json_set_string(json, "state", work_state_name(item->state));
    set_time(json, "last_heartbeat", item->heartbeat_ms);
    json_set_bool(json, "lease_extended", is_extended);
    json_set_int(json, "ttl_seconds", (item->ttl_ms + 999) / 1000);
    return json;
}

/* Every number of an item by name, for the store. */
static const struct {
    const char *name;
    size_t offset;
} numbers[] = {
    {"created_ms", offsetof(struct work_item, created_ms)},
    {"delivered_ms", offsetof(struct work_item, delivered_ms)},
    {"acknowledged_ms", offsetof(struct work_item, acknowledged_ms)},
    {"started_ms", offsetof(struct work_item, started_ms)},
    {"heartbeat_ms", offsetof(struct work_item, heartbeat_ms)},
    {"stop_requested_ms", offsetof(struct work_item, stop_requested_ms)},
    {"stopped_ms", offsetof(struct work_item, stopped_ms)},
    {"lease_until_ms", offsetof(struct work_item, lease_until_ms)},
    {"ttl_ms", offsetof(struct work_item, ttl_ms)},
};

struct json_object *queue_item_save(const struct work_item *item) {
    struct json_object *saved = json_object_new_object();
    json_set_string(saved, "id", item->id);
    json_set_string(saved, "session_id", item->session_id);
    json_set_string(saved, "sessions_token", item->sessions_token);
    json_set_int(saved, "state", item->state);
    json_set(saved, "metadata", json_object_get(item->metadata));
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int64_t value = 0;
        memcpy(&value, (const char *)item + numbers[i].offset, sizeof(value));
        json_set_int(saved, numbers[i].name, value);
    }
    return saved;
}

struct work_item *queue_item_load(struct work_queue *queue, struct json_object *saved) {
    const char *id = json_get_string(saved, "id");
    const char *session_id = json_get_string(saved, "session_id");
    const char *token = json_get_string(saved, "sessions_token");
    int64_t state = json_get_int(saved, "state", -1);
    if (id == NULL || session_id == NULL || token == NULL || state < 0 ||
        state > WORK_STATE_STOPPED) {
        return NULL;
    }
    struct work_item *item = memory_new(struct work_item);
    item->id = memory_string(id);
    item->session_id = memory_string(session_id);
    item->sessions_token = memory_string(token);
    item->secret = make_secret(token);
    struct json_object *metadata = json_get_object(saved, "metadata");
    item->metadata = metadata == NULL ? json_object_new_object() : json_object_get(metadata);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int64_t value = json_get_int(saved, numbers[i].name, 0);
        memcpy((char *)item + numbers[i].offset, &value, sizeof(value));
    }
    item->state = (enum work_state)state;
    struct work_list *list = list_of(queue, item->state);
    if (list != NULL) {
        TAILQ_INSERT_TAIL(list, item, link);
    }
    return item;
}
