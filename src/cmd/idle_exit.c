/* Looks now and then whether the daemon is idle; two states, so that leaving is a decision that a
 * late delivery can still take back. */
#include "cmd/idle_exit.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"

#define LOG_ROOM "cmd"
#include "base/log.h"

enum {
    LOOKS = 10, /* in the time of idleness: how exactly it is kept */
    LOOK_LEAST_MS = 10,
    LOOK_MOST_MS = 1000,
    GRACE_MS = 2000, /* for connections that were accepted and have not been answered */
};

enum idle_state { IDLE_WATCHING, IDLE_LEAVING, IDLE_LEFT };

struct idle_exit {
    enum idle_state state;
    struct idle_exit_options options;
    struct loop_timer *timer;
    int64_t busy_ms;      /* monotonic: when something last happened */
    int64_t grace_end_ms; /* while leaving */
};

static void set_accepting(struct idle_exit *idle_exit, bool is_accepting) {
    if (idle_exit->options.endpoint != NULL) {
        webhook_endpoint_set_accepting(idle_exit->options.endpoint, is_accepting);
    }
}

static int64_t look_interval_ms(const struct idle_exit *idle_exit) {
    int64_t interval_ms = idle_exit->options.idle_ms / LOOKS;
    if (interval_ms < LOOK_LEAST_MS) {
        return LOOK_LEAST_MS;
    }
    return interval_ms > LOOK_MOST_MS ? (int64_t)LOOK_MOST_MS : interval_ms;
}

static bool has_connections(struct idle_exit *idle_exit) {
    return idle_exit->options.endpoint != NULL &&
           webhook_endpoint_connection_count(idle_exit->options.endpoint) > 0;
}

static void idle_exit_step(struct idle_exit *idle_exit) {
    int64_t now_ms = clock_monotonic_ms();
    if (!idle_exit->options.is_idle(idle_exit->options.context)) {
        idle_exit->busy_ms = now_ms;
    }
    bool is_idle = now_ms - idle_exit->busy_ms >= idle_exit->options.idle_ms;
    switch (idle_exit->state) {
    case IDLE_WATCHING:
        if (!is_idle) {
            loop_timer_arm(idle_exit->timer, look_interval_ms(idle_exit));
            return;
        }
        idle_exit->state = IDLE_LEAVING;
        idle_exit->grace_end_ms = now_ms + GRACE_MS;
        set_accepting(idle_exit, false);
        loop_timer_arm(idle_exit->timer, LOOK_LEAST_MS);
        return;
    case IDLE_LEAVING:
        if (!is_idle) {
            idle_exit->state = IDLE_WATCHING;
            set_accepting(idle_exit, true);
            loop_timer_arm(idle_exit->timer, look_interval_ms(idle_exit));
        } else if (has_connections(idle_exit) && now_ms < idle_exit->grace_end_ms) {
            loop_timer_arm(idle_exit->timer, LOOK_LEAST_MS);
        } else {
            idle_exit->state = IDLE_LEFT;
            log_info("idle for %lld ms: leaving", (long long)(now_ms - idle_exit->busy_ms));
            idle_exit->options.leave(idle_exit->options.context);
        }
        return;
    case IDLE_LEFT:
        return;
    }
}

static void on_timer(void *context) {
    idle_exit_step(context);
}

struct idle_exit *idle_exit_new(struct loop *loop, const struct idle_exit_options *options) {
    struct idle_exit *idle_exit = memory_new(struct idle_exit);
    idle_exit->options = *options;
    idle_exit->busy_ms = clock_monotonic_ms();
    idle_exit->timer = loop_timer_new(loop, on_timer, idle_exit);
    loop_timer_arm(idle_exit->timer, look_interval_ms(idle_exit));
    return idle_exit;
}

void idle_exit_touch(struct idle_exit *idle_exit) {
    if (idle_exit != NULL) {
        idle_exit->busy_ms = clock_monotonic_ms();
    }
}

void idle_exit_free(struct idle_exit *take_idle_exit) {
    if (take_idle_exit != NULL) {
        loop_timer_free(take_idle_exit->timer);
        free(take_idle_exit);
    }
}
