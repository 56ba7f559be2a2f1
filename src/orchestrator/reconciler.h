/*
 * The reconciler: rows of sandboxes and sandboxes, compared at the start, every minute, and when a
 * kept sandbox is due.
 *
 * A sandbox without a row is destroyed, a row without a sandbox forgotten, what was left half made
 * or half destroyed is finished: orphans cannot exist. Kept sandboxes end here: those that were not
 * used for the keep time, and beyond a number of them the least recently used. One whose session
 * has a work item is never touched: it is its runner's.
 */
#ifndef HOLT_ORCHESTRATOR_RECONCILER_H
#define HOLT_ORCHESTRATOR_RECONCILER_H

#include "base/loop.h"
#include "sandbox/sandbox.h"
#include "state/state.h"

struct reconciler;

struct reconciler_options {
    struct loop *loop;
    struct keeper *keeper; /* borrowed */
    struct state *state;   /* borrowed */
    int64_t keep_ms;       /* after the last use; 0: nothing is kept */
    size_t keep_most;      /* kept at once */
};

/* Begins with a pass. */
struct reconciler *reconciler_start(const struct reconciler_options *options);
void reconciler_set_keeping(struct reconciler *reconciler, int64_t keep_ms, size_t keep_most);
/* A session is over for good: its kept sandbox ends now. An unknown one is fine. */
void reconciler_end_session(struct reconciler *reconciler, const char *session_id);
/* Before keeper is stopped. NULL is fine. */
void reconciler_free(struct reconciler *take_reconciler);

#endif
