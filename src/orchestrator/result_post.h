/*
 * One result on its way to the control plane, tried for as long as the lease may live.
 *
 * Waits 1 s doubling to 30 s, jittered, between tries (tools.md section 2).
 */
#ifndef HOLT_ORCHESTRATOR_RESULT_POST_H
#define HOLT_ORCHESTRATOR_RESULT_POST_H

#include "cma/api.h"

struct result_post;

/* `event` is borrowed during the call. `done` is called once: error NULL when it was accepted. */
struct result_post *result_post_start(struct api *api, const char *session_id,
                                      struct json_object *event, int64_t give_up_after_ms,
                                      void (*done)(void *context, const struct error *error),
                                      void *context);
/* NULL is fine. */
void result_post_cancel(struct result_post *take_post);

#endif
