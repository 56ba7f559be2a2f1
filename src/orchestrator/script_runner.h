/*
 * The runner of one item that a script serves: from the claim until its sandbox has taken it over.
 *
 * The script starts a worker somewhere (`ant beta:worker run`, `holt worker run`, the SDK's), and
 * either stays until that worker has ended or returns at once. The item belongs to that worker,
 * not to the script: its return ends nothing.
 *
 * Who holds the lease. A worker's first heartbeat says NO_HEARTBEAT and is refused when anybody has
 * beaten before, and a refused worker goes away. So nobody beats here. The claim that the
 * acknowledgement gave is watched (GET of the item) and, when it runs out before the worker has
 * come, made again: the queue hands the item out once more, and it is acknowledged once more, which
 * leaves it without a heartbeat for the worker to take. See docs/on-work.md.
 */
#ifndef HOLT_ORCHESTRATOR_SCRIPT_RUNNER_H
#define HOLT_ORCHESTRATOR_SCRIPT_RUNNER_H

#include "orchestrator/journal.h"
#include "orchestrator/script_launch.h"

/* Where the item stands, as the queue tells it. */
enum script_item {
    SCRIPT_ITEM_UNKNOWN,
    SCRIPT_ITEM_CLAIMED,  /* acknowledged, without a heartbeat: the worker may come */
    SCRIPT_ITEM_LAPSED,   /* back in the queue */
    SCRIPT_ITEM_TAKEN,    /* a worker beats */
    SCRIPT_ITEM_OVER,     /* stopped, or being stopped, or gone */
    SCRIPT_ITEM_ANOTHERS, /* it lapsed, and somebody else claimed it */
};

enum script_state { SCRIPT_RUNS, SCRIPT_SUCCEEDED, SCRIPT_FAILED };

enum script_verdict {
    SCRIPT_WAIT,        /* look again */
    SCRIPT_HANDED_OVER, /* a worker has it: nothing is left to do here */
    SCRIPT_SERVED,      /* it is over */
    SCRIPT_GIVE_UP,     /* nobody came: stop the item */
    SCRIPT_LEAVE,       /* nobody came, and it is in the queue: somebody will claim it */
    SCRIPT_FORGET,      /* it is another's */
};

/* Reads the answer to a GET of the item; `acknowledged_at` is that of our claim, or NULL when it is
 * not known. */
enum script_item script_item_of(struct json_object *work, const char *acknowledged_at);
/* What to do; `is_late`: the time for a worker to come is over. */
enum script_verdict script_judge(enum script_state script, enum script_item item, bool is_late);

struct script_runner;

struct script_runner_options {
    struct loop *loop;
    struct api *api; /* with the environment key; borrowed */
    struct journal *journal;
    const struct script_options *script;
    /* Whether it is busy, or its item lapsed, has changed. */
    void (*changed)(void *context, struct script_runner *runner);
    /* Called once; the runner frees itself after it. An error says that no script can be run. */
    void (*ended)(void *context, struct script_runner *runner, const struct error *error);
    void *context;
};

/* Takes the item. */
struct script_runner *script_runner_start(const struct script_runner_options *options,
                                          struct work_item *take_item);
const char *script_runner_work_id(const struct script_runner *runner);
/* Whether it takes a slot: until the script has returned. */
bool script_runner_is_busy(const struct script_runner *runner);
/* Whether its item is back in the queue, and only a poll can bring it again. */
bool script_runner_has_lapsed(const struct script_runner *runner);
/*
 * A poll brought the runner's item once more. False, with the item left to the caller, when the
 * runner is at its end.
 */
bool script_runner_offer(struct script_runner *runner, struct work_item *item);
/*
 * Ends: SIGTERM to a script that runs, SIGKILL 30 s later, or at once when `patience_ms` is 0. The
 * item is left to its worker, or, when none has come, to the queue.
 */
void script_runner_stop(struct script_runner *runner, int64_t patience_ms);

#endif
