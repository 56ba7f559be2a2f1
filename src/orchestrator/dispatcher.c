/* The dispatcher: polls the queue while there is room and starts a runner for each session. */
#include "orchestrator/dispatcher.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/memory.h"
#include "base/random.h"
#include "cma/work_queue.h"
#include "orchestrator/script_pool.h"
#include "orchestrator/session_runner.h"

#define LOG_ROOM "orchestrator"
#include "base/log.h"

enum {
    POLL_BLOCK_MS = 999, /* the most that the control plane takes */
    EMPTY_WAIT_LEAST_MS = 1000,
    EMPTY_WAIT_SPREAD_MS = 2000,
    BACKOFF_FIRST_MS = 1000,
    BACKOFF_LIMIT_MS = 60000,
    /* An empty answer that took this long was a long poll: the wait is behind us. */
    POLL_WAS_LONG_MS = POLL_BLOCK_MS * 9 / 10,
    /* An entry whose session is gone answers 404 once; an environment that is gone always does. */
    NOT_FOUND_LIMIT = 3,
    /* A delivery can be ahead of the queue: a wake that found nothing is tried once more. */
    SECOND_LOOK_MS = 1000,
    LOOKS_OF_A_WAKE = 2,
    /* For the other scripts when one cannot be run. */
    SCRIPT_PATIENCE_MS = 30000,
};

enum dispatcher_state {
    DISPATCHER_POLLING,  /* a poll is under way */
    DISPATCHER_WAITING,  /* a timer runs: an empty queue */
    DISPATCHER_BACKOFF,  /* a timer runs: the control plane failed */
    DISPATCHER_RESTING,  /* the queue was drained: a wake or the recovery poll goes on */
    DISPATCHER_FULL,     /* no slot: it stands in line, and a grant polls again */
    DISPATCHER_STOPPING, /* no claims; sessions are ending */
    DISPATCHER_ENDED,
};

struct dispatched {
    struct session_runner *runner;
    bool is_starting;       /* its sandbox is not ready yet */
    struct work_item *next; /* the session's next item: starts when this one has ended */
};

struct dispatcher {
    enum dispatcher_state state;
    struct dispatcher_options options;
    char *environment_id;
    char *worker_id;
    struct slots *own_slots; /* when the options give none */
    struct slots_member *slot;
    struct dispatched *runners;
    size_t runner_count;
    struct script_pool *scripts; /* NULL: sessions are served here */
    struct api_call *poll;
    struct api_call *health_stop;
    struct loop_timer *timer;
    int64_t backoff_ms;
    int64_t poll_start_ms; /* monotonic */
    int64_t backoff_start_ms;
    unsigned looks_owed;   /* empty answers to see before a wake is done with */
    bool is_debouncing;    /* the timer that runs is a wake's: another wake does not move it */
    bool is_woken_in_poll; /* a wake came while a poll was under way, which may have missed it */
    unsigned not_found_count;
    struct error *failure;
};

static void dispatcher_step(struct dispatcher *dispatcher);

static void wait_then_poll(struct dispatcher *dispatcher, enum dispatcher_state state,
                           int64_t wait_ms) {
    dispatcher->state = state;
    loop_timer_arm(dispatcher->timer, wait_ms);
}

static void begin_stop(struct dispatcher *dispatcher, int64_t patience_ms) {
    api_call_cancel(STEAL_PTR(dispatcher->poll));
    loop_timer_disarm(dispatcher->timer);
    dispatcher->state = DISPATCHER_STOPPING;
    slots_cancel(dispatcher->slot);
    for (size_t i = 0; i < dispatcher->runner_count; i++) {
        work_item_free(STEAL_PTR(dispatcher->runners[i].next));
        session_runner_stop(dispatcher->runners[i].runner, patience_ms);
    }
    script_pool_stop(dispatcher->scripts, patience_ms);
    loop_timer_arm(dispatcher->timer, 0); /* step judges whether anything is left */
}

static void fail(struct dispatcher *dispatcher, const struct error *error, const char *advice) {
    CLEANUP_FREE char *text = error_text(error);
    (void)error_set(&dispatcher->failure, error->code, "%s (%s)", text, advice);
    begin_stop(dispatcher, 0);
}

static bool claim(struct dispatcher *dispatcher, struct work_item *take_item, struct error **error);

static void on_runner_ended(void *context, struct session_runner *runner,
                            const struct error *error) {
    struct dispatcher *dispatcher = context;
    struct work_item *next = NULL;
    if (error != NULL) {
        CLEANUP_FREE char *text = error_text(error);
        log_error("%s", text);
    }
    for (size_t i = 0; i < dispatcher->runner_count; i++) {
        if (dispatcher->runners[i].runner == runner) {
            bool was_starting = dispatcher->runners[i].is_starting;
            next = dispatcher->runners[i].next;
            dispatcher->runners[i] = dispatcher->runners[--dispatcher->runner_count];
            slots_end(dispatcher->slot, was_starting);
            break;
        }
    }
    if (dispatcher->state == DISPATCHER_STOPPING) {
        work_item_free(next); /* not acknowledged: it is handed out again */
        loop_timer_arm(dispatcher->timer, 0);
    } else if (next != NULL) {
        CLEANUP_ERROR struct error *failure = NULL;
        slots_adopt(dispatcher->slot);
        if (!claim(dispatcher, next, &failure)) {
            CLEANUP_FREE char *text = error_text(failure);
            log_error("%s", text);
        }
    }
}

static void on_runner_started(void *context, struct session_runner *runner) {
    struct dispatcher *dispatcher = context;
    for (size_t i = 0; i < dispatcher->runner_count; i++) {
        if (dispatcher->runners[i].runner == runner && dispatcher->runners[i].is_starting) {
            dispatcher->runners[i].is_starting = false;
            slots_start(dispatcher->slot);
        }
    }
}

/* It stood in line, and may poll now. */
static void on_slot_granted(void *context) {
    struct dispatcher *dispatcher = context;
    loop_timer_arm(dispatcher->timer, 0);
}

static void on_script_returned(void *context) {
    struct dispatcher *dispatcher = context;
    slots_end(dispatcher->slot, false);
}

static void on_scripts_changed(void *context) {
    struct dispatcher *dispatcher = context;
    bool may_poll = dispatcher->state == DISPATCHER_FULL ||
                    dispatcher->state == DISPATCHER_RESTING ||
                    (dispatcher->state == DISPATCHER_WAITING && !dispatcher->is_debouncing);
    if (dispatcher->state == DISPATCHER_STOPPING ||
        (may_poll && script_pool_wants_poll(dispatcher->scripts))) {
        loop_timer_arm(dispatcher->timer, 0);
    }
}

static void on_script_failed(void *context, const struct error *error) {
    struct dispatcher *dispatcher = context;
    if (dispatcher->failure == NULL) {
        CLEANUP_FREE char *text = error_text(error);
        (void)error_set(&dispatcher->failure, error->code, "%s", text);
        begin_stop(dispatcher, SCRIPT_PATIENCE_MS);
    }
}

static void take_scripted(struct dispatcher *dispatcher, struct work_item *item) {
    if (script_pool_offer(dispatcher->scripts, item)) {
        return;
    }
    if (!slots_reserve(dispatcher->slot)) {
        /* Polled without a slot, for an item that lapsed. The queue soon hands out again what was
         * not acknowledged. */
        log_debug("work %s is left to the queue: there is no slot", item->id);
        work_item_free(item);
        return;
    }
    slots_claim(dispatcher->slot);
    slots_start(dispatcher->slot);
    script_pool_start(dispatcher->scripts, item);
}

static void on_health_stopped(void *context, const struct api_answer *answer) {
    (void)answer;
    struct dispatcher *dispatcher = context;
    dispatcher->health_stop = NULL;
}

static struct dispatched *find_session(struct dispatcher *dispatcher, const char *session_id) {
    for (size_t i = 0; i < dispatcher->runner_count; i++) {
        if (strcmp(session_runner_session_id(dispatcher->runners[i].runner), session_id) == 0) {
            return &dispatcher->runners[i];
        }
    }
    return NULL;
}

static void start(struct dispatcher *dispatcher, struct work_item *take_item,
                  const struct state_item *resumed) {
    dispatcher->runners =
        memory_resize(dispatcher->runners, dispatcher->runner_count + 1, sizeof(struct dispatched));
    struct dispatched *place = &dispatcher->runners[dispatcher->runner_count++];
    *place = (struct dispatched){.is_starting = true};
    place->runner = session_runner_start(
        &(struct session_runner_options){
            .loop = dispatcher->options.loop,
            .api = dispatcher->options.api,
            .hands = dispatcher->options.hands,
            .journal = dispatcher->options.journal,
            .state = dispatcher->options.state,
            .custom_tools = dispatcher->options.custom_tools,
            .max_idle_ms = dispatcher->options.max_idle_ms,
            .keeps_sandbox = dispatcher->options.keeps_sandboxes,
            .hands_back = true,
            .started = on_runner_started,
            .ended = on_runner_ended,
            .context = dispatcher,
        },
        take_item, resumed);
}

/* Writes the row, then starts in the slot that was taken. An item that cannot be written is not
 * acknowledged, and so is handed out again. */
static bool claim(struct dispatcher *dispatcher, struct work_item *take_item,
                  struct error **error) {
    (void)FAULT_FAILS("dispatcher.claim.before");
    const struct state_item row = {.id = take_item->id,
                                   .environment_id = take_item->environment_id,
                                   .session_id = take_item->session_id,
                                   .bearer = take_item->bearer,
                                   .api_base_url = take_item->api_base_url};
    if (dispatcher->options.state != NULL &&
        !state_item_claim(dispatcher->options.state, &row, dispatcher->options.seal_key, error)) {
        work_item_free(take_item);
        slots_end(dispatcher->slot, true);
        return false;
    }
    (void)FAULT_FAILS("dispatcher.claim.after");
    start(dispatcher, take_item, NULL);
    return true;
}

/* False: nothing can be claimed now. */
static bool take_item(struct dispatcher *dispatcher, struct work_item *item, struct error **error) {
    if (item->session_id == NULL) {
        slots_cancel(dispatcher->slot);
        log_debug("work %s is a health check: stopped", item->id);
        if (dispatcher->health_stop == NULL) {
            dispatcher->health_stop =
                work_queue_stop(dispatcher->options.api, item, on_health_stopped, dispatcher);
        }
        work_item_free(item);
        return true;
    }
    if (dispatcher->scripts != NULL) {
        take_scripted(dispatcher, item);
        return true;
    }
    struct dispatched *same = find_session(dispatcher, item->session_id);
    if (same != NULL && session_runner_holds(same->runner, item->id)) {
        slots_cancel(dispatcher->slot);
        log_debug("work %s was handed out again although it is held: ignored", item->id);
        work_item_free(item);
        return true;
    }
    if (same != NULL) {
        slots_cancel(dispatcher->slot);
        log_info("session %s: given anew as work %s", item->session_id, item->id);
        work_item_free(same->next);
        same->next = item;
        session_runner_supersede(same->runner);
        return true;
    }
    slots_claim(dispatcher->slot);
    return claim(dispatcher, item, error);
}

/* Of a daemon that ended, in whatever way: its items are taken up where it left them. */
static void resume(void *context, const struct state_item *row) {
    struct dispatcher *dispatcher = context;
    if (find_session(dispatcher, row->session_id) != NULL) {
        log_warn("work %s: its session %s has another item: it is left to its lease", row->id,
                 row->session_id);
        (void)state_item_forget(dispatcher->options.state, row->id, NULL);
        return;
    }
    struct work_item *item = memory_new(struct work_item);
    item->id = memory_string(row->id);
    item->environment_id = memory_string(row->environment_id);
    item->session_id = memory_string(row->session_id);
    item->bearer = row->bearer == NULL ? NULL : memory_string(row->bearer);
    item->api_base_url = row->api_base_url == NULL ? NULL : memory_string(row->api_base_url);
    item->last_heartbeat = row->last_heartbeat == NULL ? NULL : memory_string(row->last_heartbeat);
    item->is_resumed = true;
    slots_adopt(dispatcher->slot);
    start(dispatcher, item, row);
}

static void on_poll_failed(struct dispatcher *dispatcher, const struct error *error,
                           bool is_retryable, int64_t retry_after_ms) {
    if (error->code == ERROR_NOT_FOUND && ++dispatcher->not_found_count < NOT_FOUND_LIMIT) {
        is_retryable = true;
    }
    if (!is_retryable) {
        fail(dispatcher, error,
             error->code == ERROR_DENIED
                 ? "the environment key is wrong, or is not of this environment"
                 : "check the environment id and the base URL");
        return;
    }
    int64_t wait_ms =
        dispatcher->backoff_ms - random_below((uint32_t)(dispatcher->backoff_ms / 4 + 1));
    wait_ms = wait_ms < retry_after_ms ? retry_after_ms : wait_ms;
    CLEANUP_FREE char *text = error_text(error);
    log_warn("cannot poll for work: %s; trying again in %lld ms", text, (long long)wait_ms);
    dispatcher->backoff_ms = dispatcher->backoff_ms * 2 > BACKOFF_LIMIT_MS
                                 ? (int64_t)BACKOFF_LIMIT_MS
                                 : dispatcher->backoff_ms * 2;
    dispatcher->backoff_start_ms = clock_monotonic_ms();
    wait_then_poll(dispatcher, DISPATCHER_BACKOFF, wait_ms);
}

static int64_t empty_wait_ms(const struct dispatcher *dispatcher) {
    if (dispatcher->options.poll_interval_ms >= 0) {
        return dispatcher->options.poll_interval_ms;
    }
    if (clock_monotonic_ms() - dispatcher->poll_start_ms >= POLL_WAS_LONG_MS) {
        return 0;
    }
    return EMPTY_WAIT_LEAST_MS + random_below(EMPTY_WAIT_SPREAD_MS);
}

/* A wake's first poll, `wait_ms` from now; wakes before it are the same wake. */
static void begin_debounce(struct dispatcher *dispatcher, int64_t wait_ms) {
    dispatcher->looks_owed = LOOKS_OF_A_WAKE;
    if (!dispatcher->is_debouncing) {
        dispatcher->is_debouncing = true;
        wait_then_poll(dispatcher, DISPATCHER_WAITING, wait_ms);
    }
}

/* The queue was drained and no wake is open. */
static void rest(struct dispatcher *dispatcher) {
    int64_t interval_ms = dispatcher->options.recovery_interval_ms;
    dispatcher->state = DISPATCHER_RESTING;
    if (interval_ms > 0) { /* a tenth of jitter: a fleet must not poll in step */
        loop_timer_arm(dispatcher->timer,
                       interval_ms - random_below((uint32_t)(interval_ms / 10 + 1)));
    }
}

static void on_empty(struct dispatcher *dispatcher) {
    dispatcher->looks_owed -= dispatcher->looks_owed > 0 ? 1 : 0;
    if (dispatcher->is_woken_in_poll) {
        dispatcher->is_woken_in_poll = false;
        begin_debounce(dispatcher, dispatcher->options.debounce_ms);
    } else if (!dispatcher->options.is_waiting_for_wakes) {
        dispatcher->looks_owed = 0; /* the usual polls are the second look */
        wait_then_poll(dispatcher, DISPATCHER_WAITING, empty_wait_ms(dispatcher));
    } else if (dispatcher->looks_owed > 0) {
        wait_then_poll(dispatcher, DISPATCHER_WAITING, SECOND_LOOK_MS);
    } else {
        rest(dispatcher);
    }
}

void dispatcher_wake(struct dispatcher *dispatcher) {
    int64_t wait_ms = dispatcher->options.debounce_ms;
    switch (dispatcher->state) {
    case DISPATCHER_POLLING:
        dispatcher->is_woken_in_poll = true;
        return;
    case DISPATCHER_BACKOFF: {
        /* A delivery says that the control plane lives: the backoff's first step is enough. */
        int64_t rest_ms = dispatcher->backoff_start_ms + BACKOFF_FIRST_MS - clock_monotonic_ms();
        begin_debounce(dispatcher, rest_ms > wait_ms ? rest_ms : wait_ms);
        return;
    }
    case DISPATCHER_WAITING:
    case DISPATCHER_RESTING:
        begin_debounce(dispatcher, wait_ms);
        return;
    case DISPATCHER_FULL: /* the end of a session polls, and then until empty */
    case DISPATCHER_STOPPING:
    case DISPATCHER_ENDED:
        return;
    }
}

bool dispatcher_is_idle(const struct dispatcher *dispatcher) {
    bool is_at_rest =
        dispatcher->options.is_waiting_for_wakes
            ? dispatcher->state == DISPATCHER_RESTING
            : dispatcher->state == DISPATCHER_POLLING || dispatcher->state == DISPATCHER_WAITING;
    return is_at_rest && dispatcher_session_count(dispatcher) == 0 && dispatcher->looks_owed == 0 &&
           !dispatcher->is_woken_in_poll;
}

static void on_polled(void *context, const struct api_answer *answer) {
    struct dispatcher *dispatcher = context;
    dispatcher->poll = NULL;
    CLEANUP_ERROR struct error *error = NULL;
    if (answer->error != NULL) {
        slots_cancel(dispatcher->slot);
        on_poll_failed(dispatcher, answer->error, answer->is_retryable, answer->retry_after_ms);
        return;
    }
    struct work_item *item = work_queue_polled(answer, &error);
    if (item == NULL) {
        slots_cancel(dispatcher->slot);
    }
    if (error != NULL) {
        on_poll_failed(dispatcher, error, true, -1);
        return;
    }
    dispatcher->backoff_ms = BACKOFF_FIRST_MS;
    dispatcher->not_found_count = 0;
    if (item != NULL) {
        dispatcher->looks_owed = dispatcher->looks_owed > 0 ? 1 : 0; /* the wake was right */
        if (take_item(dispatcher, item, &error)) {
            dispatcher_step(dispatcher); /* the queue may hold more */
        } else {
            on_poll_failed(dispatcher, error, true, -1);
        }
        return;
    }
    on_empty(dispatcher);
}

/* A poll that waits holds its slot: not while somebody else stands in line for one. */
static int64_t block_ms(const struct dispatcher *dispatcher) {
    return dispatcher->looks_owed > 0 || dispatcher->options.is_waiting_for_wakes ||
                   slots_is_contended(dispatcher->options.slots)
               ? 0
               : POLL_BLOCK_MS;
}

static void dispatcher_step(struct dispatcher *dispatcher) {
    switch (dispatcher->state) {
    case DISPATCHER_POLLING:
    case DISPATCHER_WAITING:
    case DISPATCHER_BACKOFF:
    case DISPATCHER_RESTING:
    case DISPATCHER_FULL:
        if (dispatcher->poll != NULL) {
            return; /* a slot was granted during a poll without one */
        }
        if (!slots_reserve(dispatcher->slot) && !script_pool_wants_poll(dispatcher->scripts)) {
            dispatcher->state = DISPATCHER_FULL;
            return;
        }
        dispatcher->state = DISPATCHER_POLLING;
        dispatcher->is_debouncing = false;
        dispatcher->poll_start_ms = clock_monotonic_ms();
        dispatcher->poll =
            work_queue_poll(dispatcher->options.api, dispatcher->environment_id,
                            dispatcher->worker_id, block_ms(dispatcher), on_polled, dispatcher);
        return;
    case DISPATCHER_STOPPING:
        if (dispatcher_session_count(dispatcher) == 0) {
            dispatcher->state = DISPATCHER_ENDED;
            dispatcher->options.ended(dispatcher->options.context, dispatcher->failure);
        }
        return;
    case DISPATCHER_ENDED:
        return;
    }
}

static void on_timer(void *context) {
    dispatcher_step(context);
}

struct dispatcher *dispatcher_start(const struct dispatcher_options *options) {
    struct dispatcher *dispatcher = memory_new(struct dispatcher);
    dispatcher->options = *options;
    dispatcher->environment_id = memory_string(options->environment_id);
    dispatcher->worker_id = memory_string(options->worker_id);
    if (options->slots == NULL) {
        dispatcher->own_slots = slots_new(&(struct slots_limits){
            .sessions = options->max_sessions, .starting = options->max_sessions});
        dispatcher->options.slots = dispatcher->own_slots;
    }
    dispatcher->slot =
        slots_join(dispatcher->options.slots, options->max_sessions, on_slot_granted, dispatcher);
    dispatcher->timer = loop_timer_new(options->loop, on_timer, dispatcher);
    if (options->script != NULL) {
        dispatcher->scripts =
            script_pool_new(&(struct script_pool_options){.loop = options->loop,
                                                          .api = options->api,
                                                          .journal = options->journal,
                                                          .script = options->script,
                                                          .returned = on_script_returned,
                                                          .changed = on_scripts_changed,
                                                          .failed = on_script_failed,
                                                          .context = dispatcher});
    }
    dispatcher->backoff_ms = BACKOFF_FIRST_MS;
    dispatcher->state = DISPATCHER_WAITING;
    loop_timer_arm(dispatcher->timer, 0);
    CLEANUP_ERROR struct error *error = NULL;
    if (options->state != NULL &&
        !state_items_each(options->state, options->environment_id, options->seal_key, resume,
                          dispatcher, &error)) {
        fail(dispatcher, error, "mend or move away the state database");
    }
    return dispatcher;
}

void dispatcher_change(struct dispatcher *dispatcher, const struct dispatcher_changes *changes) {
    struct dispatcher_options *options = &dispatcher->options;
    options->max_idle_ms = changes->max_idle_ms;
    options->poll_interval_ms = changes->poll_interval_ms;
    if (options->recovery_interval_ms > 0) {
        options->recovery_interval_ms = changes->recovery_interval_ms;
    }
    slots_set_member_limit(dispatcher->slot, changes->max_sessions);
}

void dispatcher_stop(struct dispatcher *dispatcher, int64_t patience_ms) {
    if (dispatcher->state != DISPATCHER_ENDED) {
        begin_stop(dispatcher, patience_ms);
    }
}

size_t dispatcher_session_count(const struct dispatcher *dispatcher) {
    return dispatcher->runner_count + script_pool_count(dispatcher->scripts);
}

void dispatcher_free(struct dispatcher *take_dispatcher) {
    if (take_dispatcher == NULL) {
        return;
    }
    for (size_t i = 0; i < take_dispatcher->runner_count; i++) {
        session_runner_free(take_dispatcher->runners[i].runner);
        work_item_free(take_dispatcher->runners[i].next);
    }
    api_call_cancel(take_dispatcher->poll);
    api_call_cancel(take_dispatcher->health_stop);
    script_pool_free(take_dispatcher->scripts);
    loop_timer_free(take_dispatcher->timer);
    error_free(take_dispatcher->failure);
    free(take_dispatcher->environment_id);
    free(take_dispatcher->worker_id);
    slots_leave(take_dispatcher->slot);
    slots_free(take_dispatcher->own_slots);
    free(take_dispatcher->runners);
    free(take_dispatcher);
}
