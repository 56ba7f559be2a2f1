/* The lease on a work item: heartbeats until somebody ends it. */
#include "cma/lease.h"

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"

#define LOG_ROOM "cma"
#include "base/log.h"

enum {
    INTERVAL_LEAST_MS = 1000,
    INTERVAL_MOST_MS = 30000,
    TTL_ASSUMED_MS = 120000, /* until an answer says */
    TTL_MOST_S = 24 * 3600,
    BEAT_TIMEOUT_MS = 30000,
    RETRY_MS = 1000,
};

struct lease {
    struct api *api;
    struct lease_events events;
    void *context;
    char *work_id;
    char *path; /* without the query */
    char *last_heartbeat;
    int64_t ttl_ms;
    int64_t last_success_ms; /* monotonic: when the last good beat was sent; 0 before it */
    int64_t sent_ms;
    struct api_call *beat;
    struct loop_timer *timer;
    bool is_held;
    bool is_disputed;  /* no beat of ours was taken, and the item may be another's */
    bool is_uncertain; /* a beat may have been taken without our knowing its answer */
};

static int64_t interval_ms(const struct lease *lease) {
    int64_t interval = lease->ttl_ms / 2;
    interval = interval > INTERVAL_MOST_MS ? (int64_t)INTERVAL_MOST_MS : interval;
    return interval < INTERVAL_LEAST_MS ? (int64_t)INTERVAL_LEAST_MS : interval;
}

static void end(struct lease *lease, enum lease_end how, const struct error *error) {
    loop_timer_disarm(lease->timer);
    lease->events.ended(lease->context, how, error);
}

static void end_with(struct lease *lease, enum lease_end how, const char *message) {
    CLEANUP_ERROR struct error *error = NULL;
    (void)error_set(&error, ERROR_CANCELLED, "%s", message);
    end(lease, how, error);
}

/*
 * A beat whose answer was lost may have been taken: then the next one, which still expects the beat
 * before it, is refused although the lease is ours. While it cannot have lapsed nobody else can
 * hold it, so what the refusal says is the state that our own beat left.
 */
static bool adopt_own_beat(struct lease *lease, const struct api_answer *answer) {
    struct json_object *error = json_get_object(answer->body, "error");
    struct json_object *current =
        json_get_object(json_get_object(error, "details"), "current_state");
    const char *state = json_get_string(current, "state");
    const char *last = json_get_string(current, "last_heartbeat");
    if (!lease->is_uncertain || lease->is_disputed || state == NULL || last == NULL ||
        strcmp(state, "active") != 0 ||
        clock_monotonic_ms() - lease->last_success_ms >= lease->ttl_ms) {
        return false;
    }
    lease->is_uncertain = false;
    free(lease->last_heartbeat);
    lease->last_heartbeat = memory_string(last);
    log_info("work %s: a heartbeat was taken although its answer was lost", lease->work_id);
    loop_timer_arm(lease->timer, 0);
    return true;
}

static int64_t wait_ms(const struct lease *lease, const struct api_answer *answer) {
    int64_t left_ms = lease->last_success_ms + lease->ttl_ms - clock_monotonic_ms();
    bool can_wait = answer->retry_after_ms > RETRY_MS && answer->retry_after_ms < left_ms;
    return can_wait ? answer->retry_after_ms : (int64_t)RETRY_MS;
}

static void on_failed_beat(struct lease *lease, const struct api_answer *answer) {
    if (answer->status == 412 && adopt_own_beat(lease, answer)) {
        return;
    }
    if (answer->status == 412) {
        end(lease, LEASE_LOST, answer->error);
        return;
    }
    if (!answer->is_retryable) {
        end(lease, LEASE_REFUSED, answer->error);
        return;
    }
    int64_t age_ms = clock_monotonic_ms() - lease->last_success_ms;
    if (age_ms >= lease->ttl_ms) {
        end(lease, LEASE_LOST, answer->error);
        return;
    }
    log_debug("work %s: a heartbeat failed: %s", lease->work_id, answer->error->message);
    lease->is_uncertain = true;
    loop_timer_arm(lease->timer, wait_ms(lease, answer));
}

static void on_good_beat(struct lease *lease, struct json_object *body) {
    const char *state = json_get_string(body, "state");
    const char *last = json_get_string(body, "last_heartbeat");
    int64_t ttl_s = json_get_int(body, "ttl_seconds", TTL_ASSUMED_MS / 1000);
    bool is_stopping =
        state != NULL && (strcmp(state, "stopping") == 0 || strcmp(state, "stopped") == 0);
    if (is_stopping || !json_get_bool(body, "lease_extended", true)) {
        if (!lease->is_held) {
            log_warn("work %s: the first heartbeat already says %s: was the item stopped by "
                     "whoever claimed it, such as a poller whose script returned?",
                     lease->work_id, is_stopping ? state : "that the lease is not extended");
        }
        end_with(lease, LEASE_STOPPING, "the control plane ends the work item");
        return;
    }
    if (last != NULL) {
        free(lease->last_heartbeat);
        lease->last_heartbeat = memory_string(last);
    }
    if (last != NULL && lease->events.beat != NULL) {
        lease->events.beat(lease->context, last);
    }
    if (ttl_s > 0 && ttl_s <= TTL_MOST_S) {
        lease->ttl_ms = ttl_s * 1000;
    }
    lease->last_success_ms = lease->sent_ms;
    lease->is_uncertain = false;
    lease->is_disputed = false;
    loop_timer_arm(lease->timer, interval_ms(lease));
    if (!lease->is_held) {
        lease->is_held = true;
        lease->events.held(lease->context);
    }
}

static void on_beat(void *context, const struct api_answer *answer) {
    struct lease *lease = context;
    lease->beat = NULL;
    if (answer->error != NULL || FAULT_FAILS("lease.beat")) {
        on_failed_beat(lease, answer);
    } else {
        on_good_beat(lease, answer->body);
    }
}

static void send_beat(void *context) {
    struct lease *lease = context;
    CLEANUP_BUFFER struct buffer path = BUFFER_EMPTY;
    buffer_append_format(&path, "%s?expected_last_heartbeat=", lease->path);
    /* Verbatim: a '+' or ':' of the timestamp must not change its meaning in a query. */
    buffer_append_percent_encoded(&path, lease->last_heartbeat == NULL ? "NO_HEARTBEAT"
                                                                       : lease->last_heartbeat);
    lease->sent_ms = clock_monotonic_ms();
    int64_t timeout_ms = interval_ms(lease);
    int64_t patience_ms = api_timeout_ms(lease->api);
    patience_ms = patience_ms > BEAT_TIMEOUT_MS ? (int64_t)BEAT_TIMEOUT_MS : patience_ms;
    lease->beat = api_call_start(
        lease->api, &(struct api_request){
                        .method = "POST",
                        .path = buffer_string(&path),
                        .timeout_ms = timeout_ms > patience_ms ? patience_ms : timeout_ms,
                        .done = on_beat,
                        .context = lease,
                    });
}

struct lease *lease_start(struct api *api, const struct work_item *item,
                          const struct lease_events *events, void *context) {
    struct lease *lease = memory_new(struct lease);
    lease->api = api;
    lease->events = *events;
    lease->context = context;
    lease->work_id = memory_string(item->id);
    lease->path =
        memory_format("/v1/environments/%s/work/%s/heartbeat", item->environment_id, item->id);
    lease->is_disputed = item->is_disputed;
    lease->is_uncertain = item->is_resumed;
    if (item->last_heartbeat != NULL) {
        lease->last_heartbeat = memory_string(item->last_heartbeat);
    }
    lease->ttl_ms = TTL_ASSUMED_MS;
    lease->last_success_ms = clock_monotonic_ms();
    lease->timer = loop_timer_new(api_loop(api), send_beat, lease);
    send_beat(lease);
    return lease;
}

int64_t lease_remaining_ms(const struct lease *lease) {
    if (!lease->is_held) {
        return 0;
    }
    int64_t left_ms = lease->last_success_ms + lease->ttl_ms - clock_monotonic_ms();
    return left_ms > 0 ? left_ms : 0;
}

void lease_free(struct lease *take_lease) {
    if (take_lease == NULL) {
        return;
    }
    api_call_cancel(take_lease->beat);
    loop_timer_free(take_lease->timer);
    free(take_lease->work_id);
    free(take_lease->path);
    free(take_lease->last_heartbeat);
    free(take_lease);
}
