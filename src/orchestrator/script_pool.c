/* The items of one environment that scripts serve: a list of runners. */
#include "orchestrator/script_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/memory.h"

struct entry {
    struct script_runner *runner;
    bool has_slot;
    LIST_ENTRY(entry) link;
};

struct script_pool {
    struct script_pool_options options;
    LIST_HEAD(, entry) entries;
    bool is_stopping;
};

size_t script_pool_count(const struct script_pool *pool) {
    size_t count = 0;
    const struct entry *entry = NULL;
    if (pool != NULL) {
        LIST_FOREACH(entry, &pool->entries, link) {
            count++;
        }
    }
    return count;
}

bool script_pool_wants_poll(const struct script_pool *pool) {
    const struct entry *entry = NULL;
    if (pool == NULL || pool->is_stopping) {
        return false;
    }
    LIST_FOREACH(entry, &pool->entries, link) {
        if (script_runner_has_lapsed(entry->runner)) {
            return true;
        }
    }
    return false;
}

static void return_slot(struct script_pool *pool, struct entry *entry) {
    if (entry->has_slot) {
        entry->has_slot = false;
        pool->options.returned(pool->options.context);
    }
}

static struct entry *find(struct script_pool *pool, const struct script_runner *runner) {
    struct entry *entry = NULL;
    LIST_FOREACH(entry, &pool->entries, link) {
        if (entry->runner == runner) {
            break;
        }
    }
    return entry;
}

static void on_changed(void *context, struct script_runner *runner) {
    struct script_pool *pool = context;
    if (!script_runner_is_busy(runner)) {
        return_slot(pool, find(pool, runner));
    }
    pool->options.changed(pool->options.context);
}

static void on_ended(void *context, struct script_runner *runner, const struct error *error) {
    struct script_pool *pool = context;
    struct entry *entry = find(pool, runner);
    return_slot(pool, entry);
    LIST_REMOVE(entry, link);
    free(entry);
    if (error != NULL) {
        pool->options.failed(pool->options.context, error);
    }
    pool->options.changed(pool->options.context);
}

void script_pool_start(struct script_pool *pool, struct work_item *take_item) {
    struct entry *entry = memory_new(struct entry);
    LIST_INSERT_HEAD(&pool->entries, entry, link);
    entry->has_slot = true;
    entry->runner = script_runner_start(
        &(struct script_runner_options){
            .loop = pool->options.loop,
            .api = pool->options.api,
            .journal = pool->options.journal,
            .script = pool->options.script,
            .changed = on_changed,
            .ended = on_ended,
            .context = pool,
        },
        take_item);
}

bool script_pool_offer(struct script_pool *pool, struct work_item *item) {
    struct entry *entry = NULL;
    LIST_FOREACH(entry, &pool->entries, link) {
        if (strcmp(script_runner_work_id(entry->runner), item->id) == 0 &&
            script_runner_offer(entry->runner, item)) {
            return true;
        }
    }
    return false;
}

void script_pool_stop(struct script_pool *pool, int64_t patience_ms) {
    struct entry *entry = NULL;
    if (pool == NULL) {
        return;
    }
    pool->is_stopping = true;
    LIST_FOREACH(entry, &pool->entries, link) {
        script_runner_stop(entry->runner, patience_ms);
    }
}

struct script_pool *script_pool_new(const struct script_pool_options *options) {
    struct script_pool *pool = memory_new(struct script_pool);
    pool->options = *options;
    LIST_INIT(&pool->entries);
    return pool;
}

void script_pool_free(struct script_pool *take_pool) {
    free(take_pool);
}
