/*
 * Slots: how many sessions may run and start at once, shared fairly between dispatchers.
 *
 * A dispatcher polls only with a slot reserved, so that nothing is claimed that cannot be served:
 * back-pressure is not polling. When there is none it stands in line; who has waited longest is
 * next, whatever it served before. Bounds: sessions of the daemon, sessions of one dispatcher
 * (member), and sessions that are starting (claimed, sandbox not ready yet), since many starts at
 * once make each of them slow. A reservation counts against all three.
 *
 * Pure bookkeeping: no clocks, no loop, no I/O.
 */
#ifndef HOLT_ORCHESTRATOR_SLOTS_H
#define HOLT_ORCHESTRATOR_SLOTS_H

#include <stdbool.h>
#include <stddef.h>

struct slots;
struct slots_member;

struct slots_limits {
    size_t sessions;
    size_t starting;
};

struct slots *slots_new(const struct slots_limits *limits);
/* After its members have left. NULL is fine. */
void slots_free(struct slots *take_slots);
/* A lower bound ends nothing: it is reached as sessions end. A higher one may grant at once. */
void slots_set_limits(struct slots *slots, const struct slots_limits *limits);
size_t slots_session_count(const struct slots *slots);
/* Whether somebody stands in line: then a reservation should not be held for long. */
bool slots_is_contended(const struct slots *slots);

/*
 * `granted` is called when a member that stood in line got its reservation; it may come from inside
 * any function here that another member calls, so it only notes it.
 */
struct slots_member *slots_join(struct slots *slots, size_t session_limit,
                                void (*granted)(void *context), void *context);
/* Gives back its place, its reservation and its sessions. NULL is fine. */
void slots_leave(struct slots_member *take_member);
void slots_set_member_limit(struct slots_member *member, size_t session_limit);

/* True: a slot is reserved (it may have been before). False: it stands in line (as it may have). */
bool slots_reserve(struct slots_member *member);
/* Gives back the reservation, or the place in line; neither is fine. */
void slots_cancel(struct slots_member *member);
/* The reservation became a session that is starting. */
void slots_claim(struct slots_member *member);
/* A session that was there before, without a reservation and whatever the bounds say: the daemon
 * was restarted. It counts as starting. */
void slots_adopt(struct slots_member *member);
/* One session of the member has started. */
void slots_start(struct slots_member *member);
/* One session of the member has ended; it may have been starting. */
void slots_end(struct slots_member *member, bool was_starting);

#endif
