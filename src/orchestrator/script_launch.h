/*
 * Starting an on-work script for a claimed item, as `ant beta:worker poll --on-work` does.
 *
 * The script gets our environment and, in it, ANTHROPIC_WORK_ID, _ENVIRONMENT_ID, _SESSION_ID,
 * _BASE_URL, _ENVIRONMENT_KEY and (when the item has one) _WORK_SECRET; the item's JSON on standard
 * input; our standard error as its output and error.
 */
#ifndef HOLT_ORCHESTRATOR_SCRIPT_LAUNCH_H
#define HOLT_ORCHESTRATOR_SCRIPT_LAUNCH_H

#include "base/process.h"
#include "cma/work_queue.h"

/* What an operator says of the script of an environment; borrowed. */
struct script_options {
    const char *path;
    const char *environment_key;
    const char *base_url;
    int64_t timeout_ms; /* after the script returned: for its sandbox to take the item over */
};

/*
 * The environment of the script: `base` ("NAME=value", NULL-terminated) with the variables above in
 * the place of any of these names. Free with script_environment_free, which wipes it.
 */
char **script_environment(const char *const *base, const struct script_options *script,
                          const struct work_item *item);
void script_environment_free(char **take_environment);

/* Runs the script; it leads a process group of its own. */
struct process *script_launch(struct loop *loop, const struct script_options *script,
                              const struct work_item *item,
                              void (*ended)(void *context, int wait_status), void *context,
                              struct error **error);

#endif
