/*
 * Where a session's hand comes from: a sandbox of its own, or this container.
 *
 * The session runner knows only this interface. `acquire` gives a connected socket to a hand;
 * `release` ends everything that came with it.
 */
#ifndef HOLT_ORCHESTRATOR_HANDS_H
#define HOLT_ORCHESTRATOR_HANDS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "hand/client.h"
#include "sandbox/sandbox.h"

struct hands;

struct hands_place {
    const char *provider;   /* "local", or "none" for this container */
    const char *sandbox_id; /* "" for this container */
    int64_t created_us;
};

typedef void (*hands_acquired)(void *context, const struct hands_place *place, int take_fd,
                               const struct error *error);
typedef void (*hands_measured)(void *context, const struct sandbox_usage *usage,
                               const struct error *error);
typedef void (*hands_released)(void *context, const struct error *error);

struct hands_operations {
    /* Makes a place under a name that the runner chose ([0-9a-z-]) and connects to its hand. */
    void (*acquire)(struct hands *hands, const char *name, hands_acquired acquired, void *context);
    /* Connects to the hand of a place that exists; ERROR_NOT_FOUND: it does not any more. NULL:
     * this kind of place does not outlive its connection. */
    void (*attach)(struct hands *hands, const char *name, hands_acquired acquired, void *context);
    void (*measure)(struct hands *hands, const char *name, hands_measured measured, void *context);
    /* Ends the place; an unknown name succeeds. */
    void (*release)(struct hands *hands, const char *name, hands_released released, void *context);
    void (*destroy)(struct hands *take_hands);
};

struct hands {
    const struct hands_operations *operations;
    struct hand_configuration configuration; /* what each hand is told first */
    int64_t memory_sync_ms; /* from pass to pass of the memory stores; 0: they are not served */
    bool is_shared;         /* a place is this container: what a session leaves, others find */
    const struct stage_options *stage; /* what may be staged there; borrowed. NULL: nothing */
};

/* A sandbox of the keeper for each session; borrows the keeper. */
struct hands *hands_from_keeper(struct keeper *keeper,
                                const struct hand_configuration *configuration);
/*
 * hand as a child process in this container, for `holt worker run`. The environment of the tools is
 * this process's own, less ANTHROPIC_* (hand sees to it).
 */
struct hands *hands_in_place(const char *hand_path, const struct hand_configuration *configuration);
void hands_free(struct hands *take_hands); /* NULL is fine */

#endif
