/*
 * The items of one environment that scripts serve: what the dispatcher needs to know of them.
 *
 * A started item takes one of the dispatcher's slots until its script has returned. An item whose
 * claim ran out before a worker came is polled for even without a slot.
 */
#ifndef HOLT_ORCHESTRATOR_SCRIPT_POOL_H
#define HOLT_ORCHESTRATOR_SCRIPT_POOL_H

#include "orchestrator/script_runner.h"

struct script_pool;

struct script_pool_options {
    struct loop *loop;
    struct api *api; /* with the environment key; borrowed */
    struct journal *journal;
    const struct script_options *script; /* borrowed */
    /* An item needs its slot no more. Called once for each that was started. */
    void (*returned)(void *context);
    /* A poll may be needed, or the last item gone. */
    void (*changed)(void *context);
    /* The script cannot be run: the environment cannot be served. */
    void (*failed)(void *context, const struct error *error);
    void *context;
};

struct script_pool *script_pool_new(const struct script_pool_options *options);
/* The items must have ended. NULL is fine. */
void script_pool_free(struct script_pool *take_pool);
/* A poll brought an item: true, and it is taken, when it is one of the pool's once more. */
bool script_pool_offer(struct script_pool *pool, struct work_item *item);
/* Runs the script for a new item, which has a slot. */
void script_pool_start(struct script_pool *pool, struct work_item *take_item);
/* How many items are here at all. NULL: none. */
size_t script_pool_count(const struct script_pool *pool);
/* Whether to poll even without a slot. NULL: no. */
bool script_pool_wants_poll(const struct script_pool *pool);
/* As script_runner_stop, for every item. NULL is fine. */
void script_pool_stop(struct script_pool *pool, int64_t patience_ms);

#endif
