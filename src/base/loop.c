/* The event loop: libevent's core with our ownership rules. */
#include "base/loop.h"

#include <event2/event.h>
#include <sys/queue.h>

#include "base/memory.h"

struct signal_watch {
    struct event *event;
    void (*fire)(void *context, int signal_number);
    void *context;
    SLIST_ENTRY(signal_watch) link;
};

struct loop {
    struct event_base *base;
    SLIST_HEAD(, signal_watch) signals;
};

struct loop_timer {
    struct event *event;
    void (*fire)(void *context);
    void *context;
};

struct loop_watch {
    struct loop *loop;
    struct event *event;
    int fd;
    void (*ready)(void *context, unsigned events);
    void *context;
};

static void free_config(struct event_config **config) {
    event_config_free(*config);
}

struct loop *loop_new(struct error **error) {
    CLEANUP(free_config)
    struct event_config *config = event_config_new();
    if (config == NULL || event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK) != 0 ||
        event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER) != 0) {
        (void)error_set(error, ERROR_INTERNAL, "cannot configure the event loop");
        return NULL;
    }
    struct event_base *base = event_base_new_with_config(config);
    if (base == NULL) {
        (void)error_set(error, ERROR_UNAVAILABLE, "cannot make an event loop");
        return NULL;
    }
    struct loop *loop = memory_new(struct loop);
    loop->base = base;
    SLIST_INIT(&loop->signals);
    return loop;
}

void loop_free(struct loop *take_loop) {
    if (take_loop == NULL) {
        return;
    }
    while (!SLIST_EMPTY(&take_loop->signals)) {
        struct signal_watch *watch = SLIST_FIRST(&take_loop->signals);
        SLIST_REMOVE_HEAD(&take_loop->signals, link);
        event_free(watch->event);
        free(watch);
    }
    event_base_free(take_loop->base);
    free(take_loop);
}

void loop_run(struct loop *loop) {
    (void)event_base_dispatch(loop->base);
}

void loop_stop(struct loop *loop) {
    (void)event_base_loopbreak(loop->base);
}

void loop_run_once(struct loop *loop, bool wait) {
    (void)event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
}

struct event_base *loop_event_base(struct loop *loop) {
    return loop->base;
}

static void on_timer(evutil_socket_t fd, short what, void *context) {
    (void)fd;
    (void)what;
    struct loop_timer *timer = context;
    timer->fire(timer->context);
}

struct loop_timer *loop_timer_new(struct loop *loop, void (*fire)(void *context), void *context) {
    struct loop_timer *timer = memory_new(struct loop_timer);
    timer->fire = fire;
    timer->context = context;
    timer->event = event_new(loop->base, -1, 0, on_timer, timer);
    if (timer->event == NULL) {
        abort();
    }
    return timer;
}

void loop_timer_arm(struct loop_timer *timer, int64_t delay_ms) {
    if (delay_ms < 0) {
        delay_ms = 0;
    }
    struct timeval delay = {.tv_sec = (time_t)(delay_ms / 1000),
                            .tv_usec = (suseconds_t)(delay_ms % 1000) * 1000};
    (void)event_add(timer->event, &delay);
}

void loop_timer_disarm(struct loop_timer *timer) {
    (void)event_del(timer->event);
}

bool loop_timer_is_armed(const struct loop_timer *timer) {
    return event_pending(timer->event, EV_TIMEOUT, NULL) != 0;
}

void loop_timer_free(struct loop_timer *take_timer) {
    if (take_timer != NULL) {
        event_free(take_timer->event);
        free(take_timer);
    }
}

static void on_ready(evutil_socket_t fd, short what, void *context) {
    (void)fd;
    struct loop_watch *watch = context;
    unsigned events = ((what & EV_READ) != 0 ? (unsigned)LOOP_READ : 0U) |
                      ((what & EV_WRITE) != 0 ? (unsigned)LOOP_WRITE : 0U);
    watch->ready(watch->context, events);
}

static short event_flags(unsigned events) {
    int flags = EV_PERSIST;
    flags |= (events & LOOP_READ) != 0 ? EV_READ : 0;
    flags |= (events & LOOP_WRITE) != 0 ? EV_WRITE : 0;
    return (short)flags;
}

struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned events,
                                  void (*ready)(void *context, unsigned events), void *context) {
    struct loop_watch *watch = memory_new(struct loop_watch);
    watch->loop = loop;
    watch->fd = fd;
    watch->ready = ready;
    watch->context = context;
    watch->event = event_new(loop->base, fd, event_flags(events), on_ready, watch);
    if (watch->event == NULL) {
        abort();
    }
    if (events != 0) {
        (void)event_add(watch->event, NULL);
    }
    return watch;
}

void loop_watch_set_events(struct loop_watch *watch, unsigned events) {
    (void)event_del(watch->event);
    (void)event_assign(watch->event, watch->loop->base, watch->fd, event_flags(events), on_ready,
                       watch);
    if (events != 0) {
        (void)event_add(watch->event, NULL);
    }
}

void loop_watch_free(struct loop_watch *take_watch) {
    if (take_watch != NULL) {
        event_free(take_watch->event);
        free(take_watch);
    }
}

static void on_signal(evutil_socket_t signal_number, short what, void *context) {
    (void)what;
    struct signal_watch *watch = context;
    watch->fire(watch->context, (int)signal_number);
}

bool loop_on_signal(struct loop *loop, int signal_number,
                    void (*fire)(void *context, int signal_number), void *context,
                    struct error **error) {
    struct signal_watch *watch = memory_new(struct signal_watch);
    watch->fire = fire;
    watch->context = context;
    watch->event = evsignal_new(loop->base, signal_number, on_signal, watch);
    if (watch->event == NULL || event_add(watch->event, NULL) != 0) {
        if (watch->event != NULL) {
            event_free(watch->event);
        }
        free(watch);
        return error_set(error, ERROR_UNAVAILABLE, "cannot watch signal %d", signal_number);
    }
    SLIST_INSERT_HEAD(&loop->signals, watch, link);
    return true;
}
