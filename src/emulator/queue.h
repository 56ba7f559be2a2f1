/*
 * The work queue of one environment: states, leases and re-queueing, as a pure state machine.
 *
 * No clock, no I/O: every function is told the time (milliseconds since 1970), so that a test can
 * move it. The caller owns delivery to waiting polls and persistence.
 */
#ifndef HOLT_EMULATOR_QUEUE_H
#define HOLT_EMULATOR_QUEUE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/clock.h"
#include "base/json.h"

enum work_state {
    WORK_STATE_QUEUED,
    WORK_STATE_STARTING,
    WORK_STATE_ACTIVE,
    WORK_STATE_STOPPING,
    WORK_STATE_STOPPED,
};

enum work_result {
    WORK_OK,
    WORK_CONFLICT,     /* 409 */
    WORK_PRECONDITION, /* 412: the lease is not the caller's */
};

/* How long a delivered item waits for its ack before it is handed out again, when a poll does not
 * say. Source: the SDK's documentation of reclaim_older_than_ms. */
enum { WORK_RECLAIM_DEFAULT_MS = 5000 };

struct work_item {
    TAILQ_ENTRY(work_item) link; /* in the queued or the leased list; none once stopped */
    char *id;
    char *session_id;
    char *secret;         /* as the API shows it */
    char *sessions_token; /* what the secret carries */
    enum work_state state;
    int64_t created_ms;
    int64_t delivered_ms; /* 0: not delivered since it was queued */
    int64_t acknowledged_ms;
    int64_t started_ms;
    int64_t heartbeat_ms; /* 0: no beat under this lease; also the lease's version */
    int64_t stop_requested_ms;
    int64_t stopped_ms;
    int64_t lease_until_ms;
    int64_t ttl_ms;
    struct json_object *metadata;
};

TAILQ_HEAD(work_list, work_item);

struct work_queue {
    struct work_list queued;
    struct work_list leased; /* starting, active, stopping */
    int64_t ttl_ms;
};

void queue_init(struct work_queue *queue, int64_t ttl_ms);

/* A new queued item with a fresh id and secret; owned by the caller, listed in the queue. */
struct work_item *queue_item_new(struct work_queue *queue, const char *session_id, int64_t now_ms);
/* Takes it out of the queue's lists and frees it. */
void queue_item_free(struct work_queue *queue, struct work_item *take_item);

/* The oldest item that may be handed out now, marked delivered; NULL when there is none. */
struct work_item *queue_poll(struct work_queue *queue, int64_t reclaim_ms, int64_t now_ms);
/* When the next delivered, never acknowledged item becomes free again; INT64_MAX when none will. */
int64_t queue_next_reclaim(const struct work_queue *queue, int64_t reclaim_ms);

enum work_result work_ack(struct work_queue *queue, struct work_item *item, int64_t now_ms);
/*
 * One beat. `expected` is the caller's precondition: NULL none, "NO_HEARTBEAT", or the timestamp of
 * the beat before. `desired_ttl_ms` 0: the queue's own.
 */
enum work_result work_heartbeat(struct work_queue *queue, struct work_item *item,
                                const char *expected, int64_t desired_ttl_ms, int64_t now_ms);
/* Stops it: at once when forced or when nobody holds it, otherwise by asking the holder. */
enum work_result work_stop(struct work_queue *queue, struct work_item *item, bool force,
                           int64_t now_ms);
/* Takes the lease away, as if it had lapsed. True when there was one. */
bool work_lapse(struct work_queue *queue, struct work_item *item, int64_t now_ms);
/*
 * Re-queues (or, when stopping, stops) each item whose lease has lapsed; calls `changed` for each.
 */
void queue_expire(struct work_queue *queue, int64_t now_ms,
                  void (*changed)(void *context, struct work_item *item), void *context);

const char *work_state_name(enum work_state state);
/* The item as the API shows it; the caller owns it. */
struct json_object *queue_item_json(const struct work_item *item, const char *environment_id);
/* Answer of a beat, or the current_state of a refused one (then last_heartbeat may be null). */
struct json_object *work_lease_json(const struct work_item *item, bool is_extended);

/* Round trip for the store: everything that the item is. NULL when `saved` is not such an object.
 */
struct json_object *queue_item_save(const struct work_item *item);
struct work_item *queue_item_load(struct work_queue *queue, struct json_object *saved);

#endif
