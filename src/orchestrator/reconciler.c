/* The reconciler: list what keeper has, compare it with the rows, end what is due. */
#include "orchestrator/reconciler.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum { INTERVAL_MS = 60000, INTERVAL_LEAST_MS = 100, INTERVAL_KEEP_PART = 2 };

enum pass_state {
    PASS_WAITING,    /* for the next one */
    PASS_LISTING,    /* keeper says what there is, one by one */
    PASS_DESTROYING, /* what is due goes, one by one */
};

struct reconciler {
    enum pass_state state;
    struct reconciler_options options;
    struct json_object *things; /* object: ids that keeper has */
    struct json_object *due;    /* array: ids to destroy and forget */
    size_t due_at;
    struct loop_timer *timer;
    unsigned destroyed_count;
    bool is_in_transit; /* an answer of keeper is to come */
    bool is_freed;
};

static void release(struct reconciler *reconciler) {
    loop_timer_free(reconciler->timer);
    json_object_put(reconciler->things);
    json_object_put(reconciler->due);
    free(reconciler);
}

/* False: freed meanwhile. */
static bool arrive(struct reconciler *reconciler) {
    reconciler->is_in_transit = false;
    if (reconciler->is_freed) {
        release(reconciler);
        return false;
    }
    return true;
}

static void wait_for_next(struct reconciler *reconciler, int64_t wait_ms) {
    /* What is in use now may be kept, and due, before the next pass: a short keep time looks often.
     */
    int64_t most_ms = reconciler->options.keep_ms / INTERVAL_KEEP_PART + 1000;
    reconciler->state = PASS_WAITING;
    most_ms = most_ms > INTERVAL_MS ? (int64_t)INTERVAL_MS : most_ms;
    wait_ms = wait_ms > most_ms ? most_ms : wait_ms;
    loop_timer_arm(reconciler->timer, wait_ms < INTERVAL_LEAST_MS ? INTERVAL_LEAST_MS : wait_ms);
}

static void give_up_pass(struct reconciler *reconciler, const struct error *error) {
    CLEANUP_FREE char *text = error_text(error);
    log_warn("sandboxes could not be reconciled: %s", text);
    wait_for_next(reconciler, INTERVAL_MS);
}

/* Judging. */

static void make_due(struct reconciler *reconciler, const char *id, const char *why) {
    log_debug("sandbox %s: %s", id, why);
    (void)json_object_array_add(reconciler->due, json_object_new_string(id));
}

static const char *why_due(const struct reconciler *reconciler, const struct state_sandbox *row,
                           int64_t now_ms, bool is_one_too_many) {
    if (row->is_in_use) {
        return NULL;
    }
    if (!json_object_object_get_ex(reconciler->things, row->id, NULL)) {
        return "its row is without a sandbox";
    }
    if (row->state != STATE_SANDBOX_LIVE) {
        return "it was left half made or half destroyed";
    }
    if (now_ms - row->used_ms >= reconciler->options.keep_ms) {
        return "it was kept long enough";
    }
    return is_one_too_many ? "there are too many kept" : NULL;
}

/* Rows come least recently used first. */
static void judge_rows(struct reconciler *reconciler, const struct state_sandbox *rows,
                       size_t count) {
    int64_t now_ms = clock_wall_ms();
    size_t kept_count = 0;
    for (size_t i = 0; i < count; i++) {
        kept_count += !rows[i].is_in_use && rows[i].state == STATE_SANDBOX_LIVE;
    }
    for (size_t i = 0; i < count; i++) {
        const char *why =
            why_due(reconciler, &rows[i], now_ms, kept_count > reconciler->options.keep_most);
        if (why != NULL) {
            kept_count -= kept_count > 0 && rows[i].state == STATE_SANDBOX_LIVE ? 1 : 0;
            make_due(reconciler, rows[i].id, why);
        }
        json_object_object_del(reconciler->things, rows[i].id);
    }
}

static void destroy_next(struct reconciler *reconciler);

static void judge(struct reconciler *reconciler) {
    CLEANUP_ERROR struct error *error = NULL;
    CLEANUP_FREE struct state_sandbox *rows = NULL;
    size_t count = 0;
    if (!state_sandboxes(reconciler->options.state, &rows, &count, &error) ||
        !state_prune(reconciler->options.state, clock_wall_ms(), &error)) {
        give_up_pass(reconciler, error);
        return;
    }
    json_object_put(reconciler->due);
    reconciler->due = json_object_new_array();
    reconciler->due_at = 0;
    judge_rows(reconciler, rows, count);
    json_object_object_foreach(reconciler->things, id, unused) {
        (void)unused;
        make_due(reconciler, id, "it has no row");
    }
    reconciler->state = PASS_DESTROYING;
    reconciler->destroyed_count = 0;
    destroy_next(reconciler);
}

/* Destroying. */

static const char *due_id(const struct reconciler *reconciler) {
    return json_object_get_string(json_object_array_get_idx(reconciler->due, reconciler->due_at));
}

static void on_destroyed(void *context, const struct error *error) {
    struct reconciler *reconciler = context;
    if (!arrive(reconciler)) {
        return;
    }
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_warn("%s", text);
    } else {
        reconciler->destroyed_count++;
        (void)state_sandbox_forget(reconciler->options.state, due_id(reconciler), NULL);
    }
    reconciler->due_at++;
    destroy_next(reconciler);
}

static int64_t next_due_ms(struct reconciler *reconciler) {
    CLEANUP_FREE struct state_sandbox *rows = NULL;
    size_t count = 0;
    int64_t next_ms = INTERVAL_MS;
    if (state_sandboxes(reconciler->options.state, &rows, &count, NULL)) {
        for (size_t i = 0; i < count; i++) {
            /* One that is past due could not be destroyed just now: not before the interval. */
            int64_t left_ms = rows[i].used_ms + reconciler->options.keep_ms - clock_wall_ms();
            bool is_kept = !rows[i].is_in_use && left_ms > 0;
            next_ms = is_kept && left_ms < next_ms ? left_ms : next_ms;
        }
    }
    return next_ms;
}

/* The next that is due and that no session was given since it was judged; NULL: none. */
static const char *retire_next(struct reconciler *reconciler, struct error **error) {
    for (; reconciler->due_at < json_object_array_length(reconciler->due); reconciler->due_at++) {
        bool is_retired = false;
        const char *id = due_id(reconciler);
        if (!state_sandbox_retire(reconciler->options.state, id, &is_retired, error)) {
            return NULL;
        }
        if (is_retired) {
            return id;
        }
    }
    return NULL;
}

static void destroy_next(struct reconciler *reconciler) {
    CLEANUP_ERROR struct error *error = NULL;
    const char *id = retire_next(reconciler, &error);
    if (error != NULL) {
        give_up_pass(reconciler, error);
        return;
    }
    if (id == NULL) {
        if (reconciler->destroyed_count > 0) {
            log_info("reconciled: %u sandboxes or rows of them ended", reconciler->destroyed_count);
        }
        wait_for_next(reconciler, next_due_ms(reconciler));
        return;
    }
    reconciler->is_in_transit = true;
    sandbox_destroy(reconciler->options.keeper, id, on_destroyed, reconciler);
}

/* Listing. */

static void on_found(void *context, const char *id, const struct error *error) {
    struct reconciler *reconciler = context;
    if (!arrive(reconciler)) {
        return;
    }
    if (error != NULL) {
        give_up_pass(reconciler, error);
        return;
    }
    if (id == NULL) {
        judge(reconciler);
        return;
    }
    json_set_bool(reconciler->things, id, true);
    reconciler->is_in_transit = true;
    sandbox_next(reconciler->options.keeper, id, on_found, reconciler);
}

static void begin_pass(void *context) {
    struct reconciler *reconciler = context;
    reconciler->state = PASS_LISTING;
    json_object_put(reconciler->things);
    reconciler->things = json_object_new_object();
    reconciler->is_in_transit = true;
    sandbox_next(reconciler->options.keeper, NULL, on_found, reconciler);
}

struct reconciler *reconciler_start(const struct reconciler_options *options) {
    struct reconciler *reconciler = memory_new(struct reconciler);
    reconciler->options = *options;
    reconciler->timer = loop_timer_new(options->loop, begin_pass, reconciler);
    wait_for_next(reconciler, 0);
    return reconciler;
}

void reconciler_set_keeping(struct reconciler *reconciler, int64_t keep_ms, size_t keep_most) {
    reconciler->options.keep_ms = keep_ms;
    reconciler->options.keep_most = keep_most;
    if (reconciler->state == PASS_WAITING) {
        wait_for_next(reconciler, 0);
    }
}

void reconciler_end_session(struct reconciler *reconciler, const char *session_id) {
    struct state_sandbox row;
    bool is_found = false;
    if (!state_sandbox_find(reconciler->options.state, session_id, &row, &is_found, NULL) ||
        !is_found || !state_sandbox_touch(reconciler->options.state, row.id, 0, NULL)) {
        return;
    }
    /* Used last in 1970: due as soon as no work item of the session is here. */
    if (reconciler->state == PASS_WAITING) {
        wait_for_next(reconciler, 0);
    }
}

void reconciler_free(struct reconciler *take_reconciler) {
    if (take_reconciler == NULL) {
        return;
    }
    take_reconciler->is_freed = true;
    if (!take_reconciler->is_in_transit) {
        release(take_reconciler);
    }
}
