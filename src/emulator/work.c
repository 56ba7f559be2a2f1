/* The work endpoints: what queue.c decides, said over HTTP, and polls that wait. */
#include "emulator/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

#define LOG_ROOM "emulator"
#include "base/log.h"

enum {
    TICK_MS = 50,
    BLOCK_LIMIT_MS = 999,
    POLLERS_LIMIT = 1000,
    POLLER_WINDOW_MS = 30 * 1000,
    TTL_LIMIT_S = 3600,
    /* When a worker beats again: half of the lease, within these (what the SDK's worker does). */
    INTERVAL_LEAST_MS = 1000,
    INTERVAL_MOST_MS = 30000,
};

void work_register(struct environment *environment, struct work_item *item) {
    (void)lh_table_insert(environment->items, item->id, item);
    (void)lh_table_insert(environment->emulator->tokens, item->sessions_token, item);
}

void work_save(struct environment *environment, struct work_item *item) {
    if (environment->emulator->store == NULL) {
        return;
    }
    CLEANUP_JSON struct json_object *saved = queue_item_save(item);
    json_set_string(saved, "environment_id", environment->id);
    store_put(environment->emulator->store, "work", item->id, saved);
}

void work_enqueue(struct session *session) {
    struct emulator *emulator = session->emulator;
    struct environment *environment =
        environment_find(emulator, json_get_string(session->json, "environment_id"));
    if (environment == NULL ||
        (session->item != NULL && session->item->state != WORK_STATE_STOPPED)) {
        return;
    }
    session->item = queue_item_new(&environment->queue, session->id, clock_wall_ms());
    work_register(environment, session->item);
    work_save(environment, session->item);
    work_deliver(environment);
    loop_timer_arm(emulator->tick, TICK_MS);
}

/* Whole number in a query; false after a 400 was answered. Absent: `fallback`. */
static bool query_number(struct request *request, const char *name, int64_t lowest, int64_t highest,
                         int64_t fallback, int64_t *value) {
    const char *text = http_exchange_query(request->exchange, name);
    *value = fallback;
    if (text == NULL || *text == '\0') {
        return true;
    }
    char *end = NULL;
    errno = 0;
    *value = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || *value < lowest || *value > highest) {
        reply_error(request, 400, "%s: must be between %lld and %lld", name, (long long)lowest,
                    (long long)highest);
        return false;
    }
    return true;
}

/* ---- poll ---- */

void waiter_free(struct waiter *take_waiter) {
    TAILQ_REMOVE(&take_waiter->environment->waiters, take_waiter, link);
    loop_timer_free(take_waiter->timer);
    free(take_waiter);
}

static void on_waiter_closed(void *context) {
    waiter_free(context);
}

static void on_waiter_timeout(void *context) {
    struct waiter *waiter = context;
    struct http_exchange *exchange = waiter->exchange;
    waiter_free(waiter);
    http_reply_bytes(exchange, 200, "application/json", "null", 4);
}

/* Answers a poll with the item; an item whose session is gone is used up with a 404. */
static void reply_item(struct request *request, struct environment *environment,
                       struct work_item *item) {
    int64_t now_ms = clock_wall_ms();
    if (session_find(environment->emulator, item->session_id) == NULL) {
        (void)work_stop(&environment->queue, item, true, now_ms);
        work_save(environment, item);
        reply_error(request, 404, "session %s not found", item->session_id);
        return;
    }
    work_save(environment, item);
    struct json_object *json = queue_item_json(item, environment->id);
    json_set_string(json, "secret", item->secret);
    reply(request, json);
}

void work_deliver(struct environment *environment) {
    struct waiter *waiter = NULL;
    while ((waiter = TAILQ_FIRST(&environment->waiters)) != NULL) {
        struct work_item *item =
            queue_poll(&environment->queue, waiter->reclaim_ms, clock_wall_ms());
        if (item == NULL) {
            return;
        }
        struct request request = {.emulator = environment->emulator, .exchange = waiter->exchange};
        waiter_free(waiter);
        reply_item(&request, environment, item);
    }
}

static void note_poller(struct environment *environment, const char *worker_id) {
    if (worker_id == NULL || strlen(worker_id) > 256) {
        return;
    }
    if (json_object_object_length(environment->pollers) >= POLLERS_LIMIT) {
        json_object_put(environment->pollers);
        environment->pollers = json_object_new_object();
    }
    json_set_int(environment->pollers, worker_id, clock_monotonic_ms());
}

/* A scripted failure of a poll belongs to a session; any of this environment's will do. */
static bool reply_injected_poll(struct request *request) {
    struct lh_entry *entry = NULL;
    lh_foreach(request->emulator->sessions, entry) {
        struct session *session = lh_entry_v(entry);
        const char *id = json_get_string(session->json, "environment_id");
        if (json_object_object_length(session->injected) > 0 && id != NULL &&
            strcmp(id, request->environment->id) == 0 && reply_injected(request, session, "poll")) {
            return true;
        }
    }
    return false;
}

void work_poll_handle(struct request *request) {
    struct environment *environment = request->environment;
    int64_t block_ms = 0;
    int64_t reclaim_ms = 0;
    if (!query_number(request, "block_ms", 1, BLOCK_LIMIT_MS, 0, &block_ms) ||
        !query_number(request, "reclaim_older_than_ms", 0, INT32_MAX, WORK_RECLAIM_DEFAULT_MS,
                      &reclaim_ms) ||
        reply_injected_poll(request)) {
        return;
    }
    note_poller(environment, http_exchange_header(request->exchange, "anthropic-worker-id"));
    struct work_item *item = NULL;
    if (TAILQ_EMPTY(&environment->waiters)) {
        item = queue_poll(&environment->queue, reclaim_ms, clock_wall_ms());
    }
    if (item != NULL) {
        reply_item(request, environment, item);
        return;
    }
    if (block_ms == 0) {
        http_reply_bytes(request->exchange, 200, "application/json", "null", 4);
        return;
    }
    struct waiter *waiter = memory_new(struct waiter);
    waiter->environment = environment;
    waiter->exchange = request->exchange;
    waiter->reclaim_ms = reclaim_ms;
    waiter->timer = loop_timer_new(request->emulator->loop, on_waiter_timeout, waiter);
    TAILQ_INSERT_TAIL(&environment->waiters, waiter, link);
    http_exchange_on_close(request->exchange, on_waiter_closed, waiter);
    loop_timer_arm(waiter->timer, block_ms);
    work_deliver(environment);
    loop_timer_arm(request->emulator->tick, TICK_MS);
}

/* ---- the lease ---- */

static struct session *session_of_item(struct request *request) {
    return session_find(request->emulator, request->item->session_id);
}

void work_ack_handle(struct request *request) {
    struct work_item *item = request->item;
    if (work_ack(&request->environment->queue, item, clock_wall_ms()) != WORK_OK) {
        reply_error(request, 409, "work item %s is %s", item->id, work_state_name(item->state));
        return;
    }
    work_save(request->environment, item);
    loop_timer_arm(request->emulator->tick, TICK_MS);
    reply(request, queue_item_json(item, request->environment->id));
}

/* Notes how long after its due time a beat came, as the control plane sees it. */
static void note_beat(struct emulator *emulator, int64_t since_last_ms, int64_t ttl_ms) {
    int64_t interval_ms = ttl_ms / 2;
    interval_ms = interval_ms > INTERVAL_MOST_MS ? (int64_t)INTERVAL_MOST_MS : interval_ms;
    interval_ms = interval_ms < INTERVAL_LEAST_MS ? (int64_t)INTERVAL_LEAST_MS : interval_ms;
    int64_t late_ms = since_last_ms - interval_ms;
    if (emulator->beat_count < BEATS_LIMIT) {
        if ((emulator->beat_count & (emulator->beat_count - 1)) == 0) {
            size_t room = emulator->beat_count == 0 ? 1 : 2 * emulator->beat_count;
            emulator->beats_late_ms =
                memory_resize(emulator->beats_late_ms, room, sizeof(*emulator->beats_late_ms));
        }
        emulator->beats_late_ms[emulator->beat_count++] =
            (int32_t)(late_ms < 0           ? 0
                      : late_ms > INT32_MAX ? INT32_MAX
                                            : late_ms);
    }
}

static int compare_late(const void *left, const void *right) {
    int32_t a = *(const int32_t *)left;
    int32_t b = *(const int32_t *)right;
    return (a > b) - (a < b);
}

struct json_object *work_beats_report(const struct emulator *emulator) {
    size_t count = emulator->beat_count;
    CLEANUP_FREE int32_t *sorted = memory_zeroed(count + 1, sizeof(*sorted));
    if (count > 0) {
        memcpy(sorted, emulator->beats_late_ms, count * sizeof(*sorted));
        qsort(sorted, count, sizeof(*sorted), compare_late);
    }
    struct json_object *json = json_object_new_object();
    json_set_int(json, "count", (int64_t)count);
    json_set_int(json, "late_p50_ms", sorted[count / 2]);
    json_set_int(json, "late_p99_ms", sorted[count * 99 / 100]);
    json_set_int(json, "late_max_ms", sorted[count == 0 ? 0 : count - 1]);
    return json;
}

void work_heartbeat_handle(struct request *request) {
    struct work_item *item = request->item;
    struct session *session = session_of_item(request);
    int64_t ttl_s = 0;
    if (!query_number(request, "desired_ttl_seconds", 1, TTL_LIMIT_S, 0, &ttl_s) ||
        (session != NULL && reply_injected(request, session, "heartbeat"))) {
        return;
    }
    const char *expected = http_exchange_query(request->exchange, "expected_last_heartbeat");
    int64_t last_ms = item->heartbeat_ms;
    int64_t last_ttl_ms = item->ttl_ms;
    int64_t now_ms = clock_wall_ms();
    enum work_result result =
        work_heartbeat(&request->environment->queue, item, expected, ttl_s * 1000, now_ms);
    if (result == WORK_PRECONDITION) {
        struct json_object *details = json_object_new_object();
        json_set_string(details, "error_code", "heartbeat_precondition_failed");
        json_set(details, "current_state", work_lease_json(item, false));
        reply_error_details(request, 412, "the lease is not held by this heartbeat's sender",
                            details);
        return;
    }
    if (last_ms != 0) {
        note_beat(request->emulator, now_ms - last_ms, last_ttl_ms);
    }
    work_save(request->environment, item);
    struct json_object *json = work_lease_json(item, item->state != WORK_STATE_STOPPED);
    json_set_string(json, "type", "work_heartbeat");
    if (json_get(json, "last_heartbeat") == NULL) {
        CLEANUP_FREE char *now = now_text();
        json_set_string(json, "last_heartbeat", now); /* stopped before its first beat */
    }
    reply(request, json);
}

void work_stop_handle(struct request *request) {
    struct work_item *item = request->item;
    bool force = json_get_bool(request->body, "force", false);
    if (work_stop(&request->environment->queue, item, force, clock_wall_ms()) != WORK_OK) {
        reply_error(request, 409, "work item %s is already stopped", item->id);
        return;
    }
    work_save(request->environment, item);
    reply(request, queue_item_json(item, request->environment->id));
}

/* ---- the rest ---- */

void work_get_handle(struct request *request) {
    reply(request, queue_item_json(request->item, request->environment->id));
}

void work_list_handle(struct request *request) {
    struct json_object *all = json_object_new_array();
    struct lh_entry *entry = NULL;
    lh_foreach(request->environment->items, entry) {
        (void)json_object_array_add(all,
                                    queue_item_json(lh_entry_v(entry), request->environment->id));
    }
    reply_page(request, all, false);
}

void work_stats_handle(struct request *request) {
    struct environment *environment = request->environment;
    int64_t depth = 0;
    int64_t pending = 0;
    int64_t oldest_ms = INT64_MAX;
    struct work_item *item = NULL;
    TAILQ_FOREACH(item, &environment->queue.queued, link) {
        pending += item->delivered_ms != 0;
        depth += item->delivered_ms == 0;
        oldest_ms = item->created_ms < oldest_ms ? item->created_ms : oldest_ms;
    }
    int64_t workers = 0;
    int64_t now_ms = clock_monotonic_ms();
    json_object_object_foreach(environment->pollers, worker_id, last) {
        (void)worker_id;
        workers += now_ms - json_object_get_int64(last) <= POLLER_WINDOW_MS;
    }
    struct json_object *json = json_object_new_object();
    json_set_string(json, "type", "work_queue_stats");
    json_set_int(json, "depth", depth);
    json_set_int(json, "pending", pending);
    json_set(json, "oldest_queued_at", NULL);
    if (oldest_ms != INT64_MAX) {
        char text[CLOCK_TIMESTAMP_SIZE];
        clock_format_rfc3339(oldest_ms, text);
        json_set_string(json, "oldest_queued_at", text);
    }
    json_set_int(json, "workers_polling", workers);
    reply(request, json);
}

void work_update_handle(struct request *request) {
    if (!merge_metadata(request->item->metadata, json_get(request->body, "metadata"))) {
        reply_error(request, 400, "metadata: must be an object of strings");
        return;
    }
    work_save(request->environment, request->item);
    reply(request, queue_item_json(request->item, request->environment->id));
}

/* ---- time ---- */

static void on_lapsed(void *context, struct work_item *item) {
    struct environment *environment = context;
    log_info("the lease of %s lapsed: now %s", item->id, work_state_name(item->state));
    work_save(environment, item);
}

void work_tick(void *context) {
    struct emulator *emulator = context;
    bool has_work = false;
    struct lh_entry *entry = NULL;
    lh_foreach(emulator->environments, entry) {
        struct environment *environment = lh_entry_v(entry);
        queue_expire(&environment->queue, clock_wall_ms(), on_lapsed, environment);
        work_deliver(environment);
        has_work =
            has_work || !TAILQ_EMPTY(&environment->queue.leased) ||
            (!TAILQ_EMPTY(&environment->queue.queued) && !TAILQ_EMPTY(&environment->waiters));
    }
    emulator_commit(emulator);
    if (has_work) {
        loop_timer_arm(emulator->tick, TICK_MS);
    }
}
