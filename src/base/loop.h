/*
 * The event loop of a process: timers, descriptors and signals over libevent.
 *
 * One loop per process, one thread. A callback records what happened and calls the owner's step
 * function; it may free the timer or watch that called it. `hand` does not use this (it is static
 * and has its own small poll loop).
 */
#ifndef HOLT_BASE_LOOP_H
#define HOLT_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct event_base;
struct loop;
struct loop_timer;
struct loop_watch;

enum { LOOP_READ = 1, LOOP_WRITE = 2 };

struct loop *loop_new(struct error **error);
void loop_free(struct loop *take_loop);
/* Runs until loop_stop, or until nothing is left to wait for. */
void loop_run(struct loop *loop);
/* Makes loop_run return after the callback that is running now. */
void loop_stop(struct loop *loop);
/* Runs what is ready; waits for at most one round when `wait` is true. For tests and tools. */
void loop_run_once(struct loop *loop, bool wait);
/* The libevent base, for src/net only. */
struct event_base *loop_event_base(struct loop *loop);

/* A one-shot timer, not armed at first. Arming an armed timer moves it. */
struct loop_timer *loop_timer_new(struct loop *loop, void (*fire)(void *context), void *context);
void loop_timer_arm(struct loop_timer *timer, int64_t delay_ms);
void loop_timer_disarm(struct loop_timer *timer);
bool loop_timer_is_armed(const struct loop_timer *timer);
void loop_timer_free(struct loop_timer *take_timer); /* NULL is fine */

/*
 * Watches a descriptor, level-triggered, until freed. `events` is LOOP_READ and/or LOOP_WRITE; the
 * callback gets those that are ready. The descriptor stays the caller's and must outlive the watch.
 */
struct loop_watch *loop_watch_new(struct loop *loop, int fd, unsigned events,
                                  void (*ready)(void *context, unsigned events), void *context);
void loop_watch_set_events(struct loop_watch *watch, unsigned events);
void loop_watch_free(struct loop_watch *take_watch); /* NULL is fine */

/* Calls `fire` in the loop (not in signal context) each time the signal arrives; freed with the
 * loop. */
bool loop_on_signal(struct loop *loop, int signal_number,
                    void (*fire)(void *context, int signal_number), void *context,
                    struct error **error);

#endif
