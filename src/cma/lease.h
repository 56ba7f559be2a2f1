/*
 * The lease on a work item: heartbeats until somebody ends it (protocol.md section 2).
 *
 * The first beat says NO_HEARTBEAT, each later one the previous answer's last_heartbeat, verbatim.
 * The interval is min(ttl/2, 30 s), at least 1 s; a beat that fails in a way that may pass is tried
 * again sooner, until a whole ttl has passed without a success.
 */
#ifndef HOLT_CMA_LEASE_H
#define HOLT_CMA_LEASE_H

#include "cma/work_queue.h"

struct lease;

enum lease_end {
    LEASE_STOPPING, /* the control plane wants the item to end: finish, then stop it */
    LEASE_LOST,    /* another's, re-queued, or not renewed for a whole ttl: abort, do not stop it */
    LEASE_REFUSED, /* a 4xx that will not pass: abort */
};

struct lease_events {
    /* The first beat succeeded: the item is ours. */
    void (*held)(void *context);
    /* After each beat that succeeded, before `held`: to be remembered for a restart. May be NULL.
     */
    void (*beat)(void *context, const char *last_heartbeat);
    /* No more beats are sent. Called at most once. */
    void (*ended)(void *context, enum lease_end end, const struct error *error);
};

/* Beats at once. For a resumed item the first beat continues what the item remembers. */
struct lease *lease_start(struct api *api, const struct work_item *item,
                          const struct lease_events *events, void *context);
/* How long the lease certainly lives yet; 0 when it may be gone, or was never held. */
int64_t lease_remaining_ms(const struct lease *lease);
/* Ends the beats without an event. NULL is fine. */
void lease_free(struct lease *take_lease);

#endif
